"""MUNGE by its limits, and as a pure function of the seed."""

import numpy as np
import pytest

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.data.raw import Arrays
from kdx.data.tables.munge import Munge
from kdx.data.tables.rows import Table, TableColumn

RANDOM = np.random.default_rng(0)
COLUMNS = (TableColumn("a"), TableColumn("b", missing=3), TableColumn("sort", ("x", "y", "z")))
COLUMNS += (TableColumn("b is missing", flag=True), TableColumn("still"))


def rows(n=30):
    a, b = RANDOM.normal(size=n), 100 * RANDOM.normal(size=n)
    missing = RANDOM.random(n) < 0.3
    sort = RANDOM.integers(3, size=n)
    return np.stack([a, np.where(missing, 0, b), sort, missing, np.full(n, 7.0)], 1).astype(np.float32)


SEEN = rows()


def table(seen=SEEN):
    return Table({"train": (seen, None)}, COLUMNS, {"_target_": "x"})


def made(seed=1, seen=SEEN, **keys):
    keys = {"rows": 500, "swap": 0.3, "of": None, "noise": 0.1} | keys
    return Munge(**keys).make(table(seen), seen, seed)


def is_row(found, seen=SEEN):
    return (found[:, None] == seen[None]).all(2).any(1)


def test_without_swaps_and_noise_rows_are_drawn_again():
    found = made(swap=0.0, noise=0.0)
    assert found.shape == (500, 5) and found.dtype == np.float32 and is_row(found).all()
    assert len(np.unique(found, axis=0)) == 30, "500 draws of 30 rows"


def test_with_every_column_swapped_they_are_the_nearest_others():
    seen = np.zeros((4, 5), np.float32)
    seen[:, 0] = [0, 1, 10, 11.5]
    found = made(seen=seen, swap=1.0, noise=0.0)
    assert is_row(found, seen).all()
    first = made(seen=seen, swap=0.0, noise=0.0)
    nearest = {0.0: 1.0, 1.0: 0.0, 10.0: 11.5, 11.5: 10.0}
    assert [nearest[value] for value in first[:, 0].tolist()] == found[:, 0].tolist()


def test_a_category_is_one_of_the_two_and_a_missing_number_moves_with_its_flag():
    found = made()
    assert set(np.unique(found[:, 2])) <= {0.0, 1.0, 2.0} and set(np.unique(found[:, 3])) == {0.0, 1.0}
    assert (found[found[:, 3] == 1, 1] == 0).all() and (found[found[:, 3] == 0, 1] != 0).all()
    assert (found[:, 4] == 7).all(), "what does not vary gets no noise"
    assert 0 < is_row(made(noise=0.0)).mean() < 0.8, "many rows are new ones"


def test_noise_is_a_share_of_each_columns_deviation():
    calm, noisy = made(swap=0.0, noise=0.0), made(swap=0.0, noise=0.5)
    moved = noisy - calm
    there = calm[:, 3] == 0
    assert moved[:, 0].std() == pytest.approx(0.5 * SEEN[:, 0].std(), rel=0.15)
    assert moved[there, 1].std() == pytest.approx(0.5 * SEEN[:, 1].std(), rel=0.15)
    assert not moved[:, 2:].any()


def test_it_is_a_pure_function_of_rows_and_seed():
    assert np.array_equal(made(seed=3, of=5), made(seed=3, of=5))
    assert not np.array_equal(made(seed=3), made(seed=4))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"rows": 0}, "made_up.rows must be at least 1"),
        ({"swap": 1.5}, "made_up.swap must be"),
        ({"noise": -1}, "made_up.noise must be"),
        ({"of": 0}, "made_up.of must be"),
    ],
)
def test_what_it_does_not_take(keys, says):
    with pytest.raises(UserError, match=says):
        made(**keys)


def test_it_needs_two_rows_of_a_table():
    with pytest.raises(UserError, match="of two others at least, and 1 is labelled"):
        made(seen=SEEN[:1])
    with pytest.raises(
        UserError, match="makes rows of tables, and this data set holds pictures: set made_up"
    ):
        Munge(rows=3, swap=0.3, of=None, noise=0.1).make(Arrays({}, {}, "pictures"), SEEN, 0)


@pytest.mark.parametrize("words", [["loss=soft"], ["loss=kd", "select=threshold"]])
def test_a_table_without_a_pool_is_told_how_it_gets_one(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = "rows for a pool can be made up of the labelled ones: made_up=munge"
    assert main(["plan", "device=cpu", "dataset=wine", "dataset.labelled=null", *words]) == 2
    assert said in " ".join("".join(capsys.readouterr()).split())
    assert main(["plan", "device=cpu", "dataset=digits", "dataset.labelled=null", *words]) == 2
    assert "made_up" not in "".join(capsys.readouterr())
