"""What the teacher and the controls answer to measured rows is kept for other runs of the store."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from kdx.config import compose
from kdx.config.wire import wire
from kdx.models.size import parameters
from kdx.pipeline.recipes import predicted
from kdx.pipeline.recipes.continual import Continual
from kdx.pipeline.recipes.private import Private
from kdx.pipeline.scores import predicted_bytes, rows_measured
from kdx.pipeline.stages import PREDICT, measuring
from kdx.report.run.progress import Lines
from kdx.runs.run import all_stored, perform
from kdx.store.artifact import Artifact
from kdx.store.store import Store
from kdx.store.work import Listener

SHORT = [
    "device=cpu",
    "device.threads=1",
    "student=mlp_small",
    "teacher_pretrain.steps=20",
    "student_train.steps=8",
    "dataset.unlabelled=60",
    "dataset.test=40",
    "dataset.validation=30",
    "augment=[none]",
    "pseudo_label.view=clean",
]
TIMES = ("latency_ms", "key")


class Heard(Listener):
    def __init__(self):
        self.made: list[str] = []
        self.notes: list[str] = []

    def started(self, name, key, cached):
        self.made += [] if cached else [name]

    def note(self, name, text, level):
        self.notes.append(text)


def order(store: Path, *words: str, teacher: str = "teacher=mlp"):
    return wire(compose.check_words([*SHORT, teacher, f"store={store}", *words]))


def go(store: Path, *words: str, **teacher: str):
    heard = Heard()
    found, done = perform(order(store, *words, **teacher), heard)
    return found, done, heard


def timeless(value):
    if isinstance(value, dict):
        return {name: timeless(inner) for name, inner in value.items() if name not in TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def asked(monkeypatch):
    """Parameters of each network that is asked, once for each split and set of weights."""
    found, predict = [], measuring.predict

    def count(model, *words, **named):
        found.append(parameters(model))
        return predict(model, *words, **named)

    monkeypatch.setattr(measuring, "predict", count)
    return found


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf") / "store"


def test_two_runs_of_one_teacher_ask_it_once(shelf, asked):
    """With last weights and with best ones, each about three splits; of the student alone likewise."""
    _, first, heard = go(shelf)
    large, small = max(asked), min(asked)
    assert large > small and heard.made[-3:] == ["teacher-predict", "baseline-predict", "evaluate"]
    sets = {
        name: 1 + any(key.startswith("best") for key in load_file(first[name].file("answers.safetensors")))
        for name in ("teacher-predict", "baseline-predict")
    }
    assert asked.count(large) == 3 * sets["teacher-predict"]
    asked.clear()
    _, second, heard = go(shelf, "loss.temperature=2")
    assert heard.made == ["student-train", "audit", "evaluate"]
    assert set(asked) == {small} and len(asked) in (3, 6)  # the new student's
    assert {first[name].key for name in sets} == {second[name].key for name in sets}
    whole, _, _ = go(shelf.parent / "other", "loss.temperature=2")
    again, _, _ = go(shelf, "loss.temperature=2")
    assert timeless(whole.json("results.json")) == timeless(again.json("results.json"))


def test_the_bytes_of_kept_answers_are_no_more_than_foretold(shelf):
    _, done, _ = go(shelf)
    arrays = load_file(done["teacher-predict"].file("answers.safetensors"))
    about = done["prepare"].json("data.json")
    kept = sum(array.numel() * array.element_size() for array in arrays.values())
    rows = rows_measured(about["counts"])
    assert sum(rows.values()) == 100 + 30 + 40 and {array.shape[1] for array in arrays.values()} == {10}
    assert 4 * 10 * 170 <= kept <= predicted_bytes(about, done["teacher-pretrain"]) == 2 * 4 * 10 * 170
    assert predicted_bytes(about, [done["teacher-pretrain"]] * 3) == 4 * 2 * 4 * 10 * 170


def test_a_flipped_byte_is_found_and_they_are_made_again(shelf):
    found, done, _ = go(shelf)
    file = done["teacher-predict"].file("answers.safetensors")
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert not all_stored(order(shelf))
    again, _, heard = go(shelf)
    assert heard.made == ["teacher-predict"] and any("answers.safetensors" in text for text in heard.notes)
    assert file.read_bytes() == good and again.key == found.key


def test_what_is_measured_is_the_same_where_nothing_is_kept(tmp_path, monkeypatch):
    """Of an ensemble whose members are weighed, of a control that learned from validation, under shifts and
    an attack; and none is kept of answers that are too large together."""
    both = "teachers=[mlp,mlp_small]"
    words = [
        "aggregate=weighted",
        "validation_labels=true",
        "shift=[noise,fgsm]",
    ]
    found, done, heard = go(tmp_path / "kept", *words, teacher=both)
    stages = ["teacher-predict", "baseline-predict", "validation-labels-predict"]
    assert heard.made[-4:-1] == stages
    assert not any(".validation." in key for key in load_file(done[stages[2]].file("answers.safetensors")))
    monkeypatch.setattr(predicted, "KEPT_BYTES", 0)
    alone, _, heard = go(tmp_path / "asked", *words, teacher=both)
    assert not any(name.endswith("-predict") for name in heard.made)
    one, other = (timeless(each.json("results.json")) for each in (found, alone))
    assert one == other and {*one["shifts"]["noise"]} == {
        "teacher",
        "baseline",
        "validation_labels",
        "student",
    }
    rows = [each.path / "rows.test.last.npy" for each in (found, alone)]
    assert rows[0].read_bytes() == rows[1].read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"data": Artifact("prepare", "2" * 64, Path("d"))},
        {"model": Artifact("teacher-pretrain", "2" * 64, Path("m"))},
        {"model": [Artifact("teacher-pretrain", "1" * 64, Path("m"))] * 2},
        {"rows": {"train": 100, "validation": 30, "test": 39}},
        {"seed": 1, "shifts": []},
    ],
)
def test_its_key_hangs_on_network_data_and_rows(tmp_path, change):
    inputs = {
        "data": Artifact("prepare", "1" * 64, Path("d")),
        "model": Artifact("teacher-pretrain", "1" * 64, Path("m")),
        "rows": {"train": 100, "validation": 30, "test": 40},
    }
    store = Store(tmp_path, None, Listener())
    first = store.key(PREDICT, inputs)[0]
    assert store.key(PREDICT, inputs)[0] == first != store.key(PREDICT, {**inputs, **change})[0]


def test_private_rows_and_tasks_of_sessions_are_not_kept():
    assert not Private.predicts and not Continual.predicts


class Console:
    def __init__(self):
        self.said: list[str] = []

    def print(self, line, **_):
        self.said.append(line)


def test_only_networks_that_take_long_are_told_of():
    console = Console()
    lines = Lines(console, lambda: 0.0)
    for name, seconds, cached in (("a-predict", 0.2, False), ("b-predict", 9, True), ("c-predict", 9, False)):
        lines.started(name, "k", cached)
        lines.finished(name, "k", cached, seconds)
    assert console.said == ["c-predict: done in 9.0 s"]
