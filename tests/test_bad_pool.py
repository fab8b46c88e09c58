"""Bad input of the methods that learn from a pool: reported before any work where it can be known, in one
plain sentence where it cannot.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_bad_input import FOREIGN, ask, here, idx, reported  # noqa: F401 (here and reported are fixtures)

from kdx.cli import main
from kdx.config import compose
from kdx.config.wire import wire
from kdx.runs.run import perform
from kdx.store.work import Listener

SHORT = [
    "device.threads=1",
    "device=cpu",
    "teacher=mlp",
    "student=mlp_small",
    "baseline=false",
    "augment=[none]",
    "teacher_pretrain.length=40 steps",
    "student_train.epochs=null",
    "student_train.steps=6",
]
FEW = ["dataset.unlabelled=60", "dataset.test=60"]


class Heard(Listener):
    def __init__(self):
        self.warnings: list[str] = []

    def note(self, name, text, level):
        self.warnings += [text] * (level == "warning")


def warned(store: Path, *words: str) -> list[str]:
    """What a run that ends well warns of."""
    heard = Heard()
    perform(wire(compose.check_words([*SHORT, f"store={store}", *words])), heard)
    return heard.warnings


def holds(warnings: list[str], *says: str) -> None:
    for text in says:
        assert [w for w in warnings if text in w], (text, warnings)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("bad_pool") / "store"


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


# Before any work


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "loss=slam dataset.validation=null",
            (
                "loss=slam estimates from a validation split how often the teacher is right, and this run "
                "has none: set dataset.v"
            ),
        ),
        slow(
            "loss=slam dataset.validation=0",
            "and this run has none: set dataset.validation=0.1, a share of the training rows, or how many",
        ),
        ("loss=weighted dataset.validation=null", "loss.weights=debiased estimates from a validation split"),
        slow(
            "loss=soft loss.weights=debiased dataset.validation=null",
            "loss.weights=debiased estimates from a validation split",
        ),
        (
            "select=rad dataset.validation=null",
            (
                "there is no validation split to tell: set dataset.validation=0.1, or select.mislabelled=0.2 "
                "to say it yourself"
            ),
        ),
        (
            "select=rad budget=998",
            "budget=998 buys more answers than the pool has rows, 997: set budget=997 at most",
        ),
        slow(
            "select=rad budget=5 dataset.unlabelled=3 rounds=1",
            "budget=5 buys more answers than the pool has rows, 3",
        ),
        (
            "select=margin budget=3",
            (
                "rounds=5 share out 3 answers (budget=3, of a pool of 997), and each round buys at least "
                "one: set rounds=3, or a larger"
            ),
        ),
        slow("select=rad dataset.unlabelled=1", "rounds=5 share out 1 answers (budget=0.1, of a pool of 1)"),
        (
            "select=rad budget=1.5",
            "budget must be a number of answers, at least 1, or a share of the pool in (0, 1); given: 1.5",
        ),
        slow(
            "select=rad budget=0",
            "budget must be a number of answers, at least 1, or a share of the pool in (0, 1); given: 0",
        ),
        slow(
            "select=rad budget=null",
            "select=rad buys answers of the teacher: say how many with budget=200, or which share of the "
            "pool, budget=0.1",
        ),
        (
            "budget=20",
            (
                "budget=20 is for the rules that buy answers: choose select=rad, or one of its rivals; "
                "given: select=all"
            ),
        ),
        slow(
            "select=threshold budget=0.5",
            "budget=0.5 is for the rules that buy answers: choose select=rad, or one of its rivals; given: "
            "select=threshold",
        ),
        (
            "recipe=active select=threshold",
            "recipe=active buys the answers that a rule chooses, and select=threshold buys none",
        ),
        slow("recipe=active", "recipe=active buys the answers that a rule chooses, and select=all buys none"),
        slow(
            "select=rad recipe=distil",
            "select=rad buys answers, and only the recipe active does that: leave recipe= "
            "out, select= brings it along",
        ),
        (
            "select=rad loss=fixmatch",
            (
                "select=rad buys answers, and loss=fixmatch learns without any: leave select= "
                "out, or choose another loss"
            ),
        ),
        slow(
            "select=rad augment=[mixup]",
            "an answer that is bought is for one clean picture, and mixup mixes two: leave mixup out",
        ),
        slow(
            "select=k_center budget=20 rounds=2 select.sample=5",
            "10 answers are to be bought among select.sample=5 rows: set select.sample to more than 10",
        ),
        (
            "select=threshold dataset.unlabelled=0",
            (
                "select= chooses among the pool, and this run has none: set "
                "dataset.labelled=0.1, say, to hide the labels"
            ),
        ),
        slow("select=rad dataset.labelled=null", "select= chooses among the pool, and this run has none"),
        slow(
            "loss=soft dataset.unlabelled=0",
            "loss=soft needs the stream 'unlabelled'; this dataset has 'labelled' and 'validation' only: set "
            "dataset.labelled=0.1",
        ),
        (
            "student_train.rows=4",
            "student_train.rows=4 are fewer labelled rows than the 10 classes: each needs one",
        ),
        slow(
            "loss=ups teacher.dropout=0",
            "pseudo_label.passes are made with dropout, and the teacher has none: set "
            "teacher.dropout=0.3, say",
        ),
        (
            "loss=ups rounds=2",
            (
                "pseudo_label.passes are made with dropout, and the student has none: set "
                "student.dropout=0.3, say"
            ),
        ),
    ],
)
def test_it_is_reported_before_any_work(reported, line, says):  # noqa: F811
    ask(reported, line, says)


def test_too_many_rows_to_compare_are_reported_before_any_work(reported):  # noqa: F811
    sizes = (
        "dataset=synthetic dataset.image_size=8 dataset.train_rows=1000 dataset.pool_rows=60000 "
        "dataset.test_rows=100"
    )
    ask(
        reported,
        f"{sizes} select=k_center",
        "at most 50,000 of them, and 60,000 are left: set select.sample=25000",
    )


# A validation split that tells little, or nothing


@pytest.mark.parametrize(
    "words",
    [["loss=slam"], slow(["loss=weighted"]), ["select=rad", "rounds=2", "budget=4"], slow(["loss=kd"])],
    ids=str,
)
def test_few_validation_rows_are_reported_with_the_standard_error(store, words):
    found = warned(store, *FEW, "dataset.validation=5", *words)
    holds(found, "the validation split has 5 rows: the teacher's accuracy on it")
    assert not any("standard error of 0 points" in text for text in found)
    assert any(
        "has a standard error of 2" in text or "has a standard error of 1" in text for text in found
    ), found


@pytest.mark.parametrize("words", [["loss=slam"], slow(["loss=weighted"])], ids=str)
def test_a_validation_split_of_one_class_is_reported(store, words):
    holds(warned(store, *FEW, "dataset.validation=1", *words), "all validation rows are of class ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["loss=soft"],
        ["loss=fidelity"],
        ["loss=taylor_ce"],
        ["loss=ups"],
        ["select=margin", "budget=6"],
        ["loss=self_training", "select.threshold=0.1", "rounds=2"],
    ],
    ids=str,
)
def test_the_other_methods_need_no_validation_split(store, words):
    assert not any("validation" in text for text in warned(store, *FEW, "dataset.validation=null", *words))


# A teacher that is always right, or always wrong


def pets(root: Path, **folders: tuple[int, int]) -> Path:
    """A folder of `rows` noisy pictures a class, of this brightness."""
    rng = np.random.default_rng(0)
    for name, (brightness, rows) in folders.items():
        (root / name).mkdir(parents=True)
        for row in range(rows):
            Image.fromarray((rng.integers(0, 60, (8, 8)) + brightness).astype(np.uint8)).save(
                root / name / f"{row}.png"
            )
    return root


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    return pets(tmp_path_factory.mktemp("animals"), cat=(0, 80), dog=(180, 80))


@pytest.fixture(scope="module")
def data(animals):
    return [
        "dataset=folder",
        f"dataset.root={animals}",
        "dataset.image_size=8",
        "dataset.labelled=20",
        "dataset.validation=30",
        "dataset.test=20",
    ]


@pytest.fixture(scope="module")
def inverted(store, data, tmp_path_factory):
    """The weights of a teacher that takes each cat for a dog."""
    words = compose.check_words(
        [*SHORT, f"store={store}", *data, "augment=[none]", "stages=[teacher_pretrain]"]
    )
    _, done = perform(wire(words), Listener())
    weights = load_file(done["teacher-pretrain"].file("last.safetensors"))
    path = tmp_path_factory.mktemp("inverted") / "teacher.pt"
    torch.save({name: w.flip(0) if "head" in name else w for name, w in weights.items()}, path)
    return [f"teacher.checkpoint={path}", "teacher_pretrain.steps=null"]


ALWAYS = [
    (
        ["loss=slam"],
        "alpha is 1 everywhere, which is distillation without a mix",
        "alpha is its floor, 0.5, everywhere",
    ),
    slow(["loss=weighted"], "every weight is 1, as without weights", "every answer counts as wrong"),
    (
        ["select=rad", "rounds=2", "budget=6"],
        "rad expects no wrong answer among the 90 rows left: it just takes the 3 smallest margins",
        (
            "rad expects 90 of the 90 rows left to be answered wrongly, all of them. The 3 "
            "rows are drawn uniformly"
        ),
    ),
]


@pytest.mark.parametrize(("words", "right", "wrong"), ALWAYS, ids=["slam", "weighted", "rad"])
def test_a_teacher_that_is_always_right_or_always_wrong_is_handled_and_reported(
    store, data, inverted, words, right, wrong
):
    words = [*data, *words, "augment=[none]"]
    holds(warned(store, *words), right)
    holds(
        warned(store, *words, *inverted),
        wrong,
        "the teacher is right on 0% of validation only: most of what it teaches may be wrong",
        "nothing is to be gained from this teacher: on ",
    )


# Pools


def test_an_empty_selection_stops_in_one_sentence(store, here, capsys):  # noqa: F811
    words = [
        *SHORT,
        *FEW,
        f"store={store}",
        "hydra.run.dir=run",
        "loss=self_training",
        "select.threshold=0.9999",
    ]
    assert main(["train", *words]) == 1
    err = capsys.readouterr().err
    assert not [word for word in FOREIGN if word in err]
    # above them the stages tell how far they are, more or less of it on a slow machine
    first, second = err.splitlines()[-2:]
    assert first.startswith(
        "no pseudo-label reaches select.threshold=0.9999: the highest confidence of 60 is 0."
    )
    assert "Set select.threshold=0." in first and second == f"the run stopped; what is finished is in {store}"
    assert json.loads(Path("run/run.json").read_text())["error"] == first


@pytest.mark.parametrize(
    "words",
    [
        slow(["loss=kd"]),
        slow(["loss=slam"]),
        ["loss=weighted"],
        slow(["loss=noisy_student", "select.threshold=0", "rounds=1"]),
        ["select=rad", "rounds=1"],
        slow(["select=cluster_margin", "rounds=1"]),
        slow(["select=k_center", "rounds=1"]),
    ],
    ids=str,
)
def test_a_pool_of_one_example_is_a_pool(store, words):
    found = perform(
        wire(
            compose.check_words([*SHORT, f"store={store}", "dataset.unlabelled=1", "dataset.test=60", *words])
        ),
        Listener(),
    )[1]
    (entry,) = found["audit"].json("audit.json")["rounds"]
    assert entry["pool"] == entry["asked"] == entry["kept"] == 1 and "teacher_seconds_saved" not in entry


def test_a_pool_that_the_teacher_has_never_seen_is_reported(store, animals, tmp_path, data):
    """Nobody knows the classes of the pool; that its pictures are others shows."""
    pool = pets(tmp_path / "pool", cow=(95, 60))
    found = warned(
        store,
        *data[:3],
        "dataset.labelled=null",
        "dataset.validation=30",
        "dataset.test=20",
        f"dataset.unlabelled_root={pool}",
        "augment=[none]",
    )
    holds(found, "the teacher is less sure of the pool (", "the pool may hold what it has not learned")
    assert not any("less sure" in text for text in warned(store, *data, "augment=[none]"))


def test_a_class_without_a_labelled_example_is_named(store, here):  # noqa: F811
    """Ten classes, as the data set says, and nine in its training rows."""
    rng = np.random.default_rng(0)
    for part, n, classes in (("train", 90, 9), ("t10k", 20, 10)):
        idx(here / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 255, (n, 28, 28)))
        idx(here / f"{part}-labels-idx1-ubyte.gz", np.arange(n) % classes)
    sizes = ["dataset.labelled=30", "dataset.validation=20", "dataset.unlabelled=null"]
    holds(
        warned(
            here / "store",
            "dataset=fashion_mnist",
            f"dataset.root={here}",
            "dataset.download=false",
            *sizes,
            "stages=[teacher_pretrain]",
        ),
        "no labelled example shows 1 of the 10 classes (Ankle boot): the teacher has never seen it, and "
        "takes pool and test pictures of it for",
    )


def test_a_noisy_student_smaller_than_its_teacher_is_reported_though_the_answers_are_stored(store):
    words = ["loss=noisy_student", "select=all", "rounds=1", "noiseless=false", *FEW]
    holds(warned(store, *words), "parameters and its teacher 8,554: Noisy Student wants it equal or larger")
    assert not any("equal or larger" in text for text in warned(store, *words, "student=mlp"))
