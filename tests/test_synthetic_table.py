"""Made-up rows of tables: what they see of labelled rows, what that costs, and by their limits."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.data.raw import Arrays
from kdx.data.tables.munge import Munge
from kdx.data.tables.rows import Table, TableColumn
from kdx.data.tables.synthetic_table import SyntheticTable, noise_multiplier

COLUMNS = (TableColumn("a"), TableColumn("b", missing=3), TableColumn("sort", ("x", "y", "z")))
COLUMNS += (TableColumn("b is missing", flag=True),)
RANGES = {"a": [-4, 4], "b": [-8, 8]}
KEYS = {"rows": 4000, "how": "copula", "ranges": RANGES, "bins": 16, "epsilon": 1e9, "delta": 1e-5}


def rows(n=3000):
    random = np.random.Generator(np.random.PCG64(0))
    a = random.normal(size=n)
    b = 2 * (0.8 * a + 0.6 * random.normal(size=n))
    sort = random.choice(3, p=[0.6, 0.3, 0.1], size=n)
    return np.stack([a, b, sort, np.zeros(n)], 1).astype(np.float32)


SEEN = rows()


def made(seen=SEEN, seed=1, **keys):
    table = Table({"train": (seen, None)}, COLUMNS, {"_target_": "x"})
    return SyntheticTable(**{**KEYS, "noise_seed": 0, **keys}).make(table, seen, seed)


def test_public_rows_hang_on_no_labelled_row():
    one, other = made(how="public"), made(seen=SEEN[:5] + 1, how="public")
    assert np.array_equal(one, other) and one.shape == (4000, 4) and one.dtype == np.float32
    assert one[:, 0].min() >= -4 and one[:, 0].max() <= 4 and abs(one[:, 0].mean()) < 0.15
    assert np.bincount(one[:, 2].astype(int)).tolist() == pytest.approx([1333] * 3, abs=120)
    assert not one[:, 3].any()


def test_with_hardly_any_noise_the_copula_is_that_of_the_rows():
    found = made()
    assert found[:, :2].mean(0) == pytest.approx(SEEN[:, :2].mean(0), abs=0.15)
    assert found[:, :2].std(0) == pytest.approx(SEEN[:, :2].std(0), rel=0.1)
    alike = np.corrcoef(found[:, :2].T)[0, 1]  # long rows are cut short, which takes a little of it
    assert alike == pytest.approx(0.73, abs=0.06)
    assert np.bincount(found[:, 2].astype(int)) / 4000 == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    seen = {tuple(row) for row in SEEN.tolist()}
    assert not any(tuple(row) in seen for row in found.tolist())  # no row is a copy


def test_with_all_noise_nothing_of_the_rows_is_left():
    found = [made(epsilon=1e-4, noise_seed=seed)[:, :2] for seed in range(6)]
    alike = [np.corrcoef(one.T)[0, 1] for one in found]
    assert abs(np.mean(alike)) < 0.6 and min(alike) < 0.5


def test_what_it_costs():
    m = noise_multiplier(2.0, 1e-5)
    assert 1 / m**2 + 2 * np.sqrt(np.log(1e5)) / m == pytest.approx(2.0)
    keys = {**KEYS, "noise_seed": None, "epsilon": 2.0}
    assert SyntheticTable(**keys).released() == (2.0, 1e-5)
    assert SyntheticTable(**{**keys, "how": "public"}).released() == (0.0, 0.0)
    assert Munge(rows=3, swap=0.5, of=None, noise=0.0).released() is None


def test_noise_of_the_system_differs():
    one, other = (made(epsilon=1.0, noise_seed=None) for _ in range(2))
    assert not np.array_equal(one, other)
    assert np.array_equal(made(epsilon=1.0), made(epsilon=1.0))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"ranges": {"a": [0, 1]}}, "pool.ranges has no range for b: give"),
        ({"ranges": None}, "pool.ranges has no range for a, b"),
        ({"ranges": {"a": [1, 0]}}, "the first number is below the second"),
        ({"ranges": {"a": "wide"}}, "has two numbers"),
        ({"how": "gan"}, "pool.how"),
        ({"epsilon": 0}, "pool.epsilon"),
    ],
)
def test_what_it_cannot_use_is_said(keys, said):
    with pytest.raises(UserError, match=said):
        made(**keys)


def test_of_pictures_it_makes_nothing():
    pictures = Arrays({"train": (np.zeros((3, 4), np.float32), None)}, {"_target_": "x"}, reads="points")
    with pytest.raises(UserError, match="makes rows of tables, and this data set holds points"):
        SyntheticTable(**KEYS, noise_seed=None).make(pictures, None, 0)


RUN = ["recipe=private", "loss=supervised", "dataset=csv", "dataset.file=t.csv", "dataset.target=y"]
RUN += ["dataset.labelled=100", "dataset.validation=30", "dataset.test=30", "recipe.shards=5"]
RUN += ["recipe.shard_steps=10", "recipe.queries=50", "recipe.sigma=3", "student_train.steps=20"]
RUN += ["teacher_pretrain.steps=20", "teacher=mlp_small", "student=mlp_small", "device=cpu"]
RUN += ["device.threads=1", "pool=synthetic_table", "pool.rows=80", "pool.ranges=ranges.yaml"]
RUN += ["pool.how=copula", "pool.epsilon=2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.Generator(np.random.PCG64(0))
    Path("ranges.yaml").write_text("a: [-5, 5]\nb: [-5, 5]\n")
    lines = [f"{a:.3f},{b:.3f},{'xy'[int(a + b > 0)]}" for a, b in random.normal(size=(200, 2))]
    Path("t.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")


@pytest.mark.skipif(
    importlib.util.find_spec("dp_accounting") is None, reason="could not import 'dp_accounting'"
)
@pytest.mark.slow
def test_a_private_table_without_public_rows_is_taught_and_charged(here, capsys):
    pytest.importorskip("scipy")
    assert main(["train", *RUN, "hydra.run.dir=run"]) == 0
    found = json.loads(Path("run/run.json").read_text())
    privacy = found["results"]["privacy"]
    assert privacy["epsilon_of_pool"] == 2 and privacy["delta"] == pytest.approx(2e-5)
    assert "baseline" not in found["results"] and "exact" in found["results"]
    assert "of it the made-up public rows | 2.00" in Path("run/report.md").read_text()
    capsys.readouterr()
    assert main(["train", *RUN, "pool.ranges=none.yaml", "hydra.run.dir=other"]) == 2
    assert "pool.ranges 'none.yaml' is no file" in capsys.readouterr().err
    assert main(["train", *RUN, "recipe.epsilon=1", "hydra.run.dir=other"]) == 2
    said = capsys.readouterr().err
    assert "is less than what the made-up rows cost, 2, and 50 queries cost" in said
    whole = f"{privacy['epsilon']:.2f} (the queries {privacy['epsilon'] - 2:.2f}, the made-up rows 2.00)"
    assert main(["train", *RUN, "recipe.epsilon=12", "hydra.run.dir=other"]) == 2
    said = capsys.readouterr().err
    assert "the made-up rows cost 2, and 50 queries cost" in said and "set recipe.queries=" in said
    assert main(["plan", *RUN, "recipe.delta=0.01"]) == 0
    said = capsys.readouterr().out
    assert "at delta 0.01001" in said and "delta 0.01001 is not below 1 / 100 private rows" in said
    assert main(["plan", *RUN, "store=new", "recipe.sigma=0.5"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert whole not in said and "at delta 2e-05" in said and "is no guarantee worth the name" in said
    assert main(["plan", *RUN]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"epsilon {whole} at delta 2e-05" in said and "no guarantee" not in said


def test_noise_of_the_pool_that_is_known_hides_nothing(here):
    from kdx.config import compose
    from kdx.config.wire import wire
    from kdx.pipeline.recipes.recipe import build_recipe
    from kdx.pipeline.recipes.releasing import seeds_beside

    for seed, pool, found, again in (
        (1, 1, [True], False),
        (1, "null", [False], True),
        ("null", 1, [True], True),
    ):
        order = wire(compose.check_words([*RUN, f"recipe.noise_seed={seed}", f"pool.noise_seed={pool}"]))
        assert seeds_beside(order.experiment) == found
        assert build_recipe(order.recipe).releases(order.experiment) is again


@pytest.mark.skipif(
    importlib.util.find_spec("dp_accounting") is None, reason="could not import 'dp_accounting'"
)
def test_what_lies_idle_is_refused_where_it_is_typed_and_enters_no_key(here, capsys):
    from kdx.config import compose
    from kdx.config.wire import wire

    public = [*RUN[:-2], "pool.how=public"]
    for key in ("epsilon=4", "delta=0.001", "bins=4", "noise_seed=3"):
        assert main(["plan", *public, f"pool.{key}"]) == 2
        said = capsys.readouterr().err
        assert f"pool.{key} can never act: it is of pool.how=copula" in said and "Traceback" not in said
    specs = [
        wire(compose.check_words([*RUN[:-2], f"pool.how={how}", *words])).experiment.pool.source.spec
        for how in ("public", "copula")
        for words in ([], ["pool.epsilon=4", "pool.bins=5"])
    ]
    assert specs[0] == specs[1] and specs[0]["epsilon"] == 1
    assert specs[3]["epsilon"] == 4 and specs[3]["bins"] == 5
    assert Munge(rows=3, swap=0.0, of=4, noise=0.1).idle().keys() == {"of"}
    assert not Munge(rows=3, swap=0.1, of=4, noise=0.1).idle()


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("dp_accounting") is None, reason="could not import 'dp_accounting'"
)
def test_its_epsilon_promises_nothing_of_another_students(here, capsys):
    plain = [word for word in RUN if not word.startswith("recipe")]
    plain = ["loss=kd" if word == "loss=supervised" else word for word in plain]
    said = "epsilon 2 is of the made-up rows alone and promises nothing of the student"
    assert main(["plan", *plain]) == 0
    assert f"warning: {said}" in " ".join(capsys.readouterr().out.split())
    assert main(["train", *plain, "hydra.run.dir=run"]) == 0
    assert any(said in text for text in json.loads(Path("run/run.json").read_text())["warnings"])
    capsys.readouterr()
    for words in ([*plain[:-2], "pool.how=public"], RUN):
        assert main(["plan", *words, "store=new"]) == 0
        assert "promises nothing" not in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pool.ranges=null"], "pool.ranges has no range for a, b"),
        (["pool.ranges=some.yaml"], "pool.ranges has no range for b: give"),
    ],
)
@pytest.mark.parametrize("how", ["public", "copula"])
def test_a_column_without_a_range_is_named_before_work(here, capsys, words, said, how):
    Path("some.yaml").write_text("a: [-5, 5]\n")
    for command in ("plan", "train"):
        assert main([command, *RUN[:-2], f"pool.how={how}", *words]) == 2
        assert said in capsys.readouterr().err
    assert not Path("outputs/runs").exists() and not Path("outputs/store").exists()
