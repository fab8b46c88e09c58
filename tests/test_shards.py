"""The teacher's answers made in shards: whoever makes them, killed or not, the whole is that of one process,
byte for byte.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import threading
import time
from pathlib import Path

import filelock
import pytest
from stops import stopped_at

from kdx.cli import main
from kdx.commands._check import check_runs
from kdx.core.errors import UserError
from kdx.pipeline.recipes import asking, sharding
from kdx.pipeline.stages import answering, settled
from kdx.pipeline.stages.answering import cut_ranges
from kdx.store.disk import lock_name
from kdx.store.store import Halt, Store
from kdx.store.work import Listener
from kdx.training.runtime import Runtime

SHORT = [
    "device=cpu",
    "device.threads=1",
    "teacher=mlp",
    "student=mlp_small",
    "teacher_pretrain.steps=20",
    "student_train.steps=12",
    "dataset.unlabelled=150",
    "dataset.validation=40",
    "dataset.test=40",
    "pseudo_label.views=2",
    "stages=[teacher_pretrain,pseudo_label]",
]
THREE = "pseudo_label.shards=3"
STORE = Path("outputs/store")


class Said(Listener):
    """What a store said."""

    def __init__(self):
        self.notes, self.order = [], []

    def note(self, name, text, level):
        self.notes.append(text)

    def finished(self, name, key, cached, seconds):
        self.order.append((name, cached))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """(a folder with a trained teacher, whose answers were never asked for; the inputs of that stage; the
    runtime)"""
    place, found = tmp_path_factory.mktemp("shards"), []

    def stop(store, asked, name, inputs):
        found.append((inputs, store.runtime))
        raise Halt(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(asking, "label_in_shards", stop)
        assert main(["train", *SHORT, "hydra.run.dir=first"]) == 0
    return place, *found[0]


@pytest.fixture
def place(asked, tmp_path, monkeypatch):
    """Batches are small here, so that a few rows are several."""
    shutil.copytree(asked[0] / "outputs", tmp_path / "outputs", symlinks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settled, "BATCH", 32)
    return tmp_path


@pytest.fixture
def label(place, asked):
    """Makes the answers, or one shard of them, as a run does; gives what was said."""

    def make(shards=1, shard=None, said=None):
        said = said or Said()
        try:
            store = Store(STORE, asked[2], said)
            sharding.label_in_shards(store, {"shards": shards, "shard": shard}, "pseudo-label", asked[1])
        except Halt:
            assert shard is not None
        return said

    return make


@pytest.fixture
def alone(label):
    """The files of one process; they are no longer there."""
    label()
    found = whole()
    forget("pseudo-label")
    return found


def train(*words, to="run", code=0):
    assert main(["train", *SHORT, f"hydra.run.dir={to}", *words]) == code
    return json.loads(Path(to, "run.json").read_text())


def whole(folder: Path = STORE) -> dict[str, bytes]:
    """The bytes of each file of the only finished labelling, but for its manifest."""
    (found,) = (path for path in (folder / "pseudo-label").iterdir() if len(path.name) == 64)
    return {path.name: path.read_bytes() for path in found.iterdir() if path.name != "manifest.json"}


def forget(*stages: str) -> None:
    for stage in stages:
        shutil.rmtree(STORE / stage, ignore_errors=True)


def shards() -> list[Path]:
    """Those that are finished, in order."""
    found = [path for path in STORE.glob("label-shard/*") if len(path.name) == 64]
    return sorted(found, key=lambda path: json.loads((path / "shard.json").read_text())["shard"])


def check(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []


def refusals(*words: str) -> str:
    """All that is wrong with a command, found without work."""
    try:
        check_runs([*SHORT, *words], multirun=False)
    except UserError as error:
        return " ".join(str(error).split())
    return ""


def test_a_shard_is_asked_what_the_whole_is_asked(asked):
    """What a key of answers is made of, by name: another list would make all answers of before anew."""
    fields = [field.name for field in dataclasses.fields(settled.LabelInputs)]
    given = asked[1].keys()
    assert given <= {*fields, "passes"} and given >= set(fields[:8])
    assert " ".join(fields) == (
        "data teachers augment views clean seed precision pool rows temperature looked_at form only aggregate"
    )


def test_ranges_end_where_batches_do():
    """By hand: 5 + 1 + 1 batches of 2, of which those of "b" are answered twice."""
    files = {"a": (9, 1), "b": (2, 2), "c": (2, 1)}
    assert cut_ranges(files, 2, 1) == [{"a": (0, 9), "b": (0, 2), "c": (0, 2)}]
    assert cut_ranges(files, 2, 3) == [{"a": (0, 4)}, {"a": (4, 9)}, {"b": (0, 2), "c": (0, 2)}], (
        "4, 5 and 6 answers"
    )
    assert cut_ranges(files, 2, 9)[-2:] == [{}, {}], "seven batches are seven shards at most"
    assert cut_ranges({}, 2, 2) == [{}, {}]


def test_ranges_share_out_all_rows_evenly():
    draw = random.Random(0)
    for _ in range(200):
        files = {name: (draw.randint(1, 300), draw.randint(1, 9)) for name in "abcd"[: draw.randint(1, 4)]}
        batch, of = draw.randint(1, 40), draw.randint(1, 12)
        found = cut_ranges(files, batch, of)
        for name, (rows, _) in files.items():
            parts = [ranges[name] for ranges in found if name in ranges]
            assert parts[0][0] == 0 and parts[-1][1] == rows
            assert all(a[1] == b[0] and a[1] % batch == 0 for a, b in zip(parts, parts[1:], strict=False))
        batches = sum(-(-rows // batch) for rows, _ in files.values())
        assert sum(map(bool, found)) == min(of, batches)
        if batches >= of:
            answers = [sum((b - a) * files[name][1] for name, (a, b) in part.items()) for part in found]
            largest = max(batch * views for _, views in files.values())
            assert max(answers) <= sum(answers) / of + of * largest


def test_shards_stopped_and_made_one_by_one_are_the_bytes_of_one_process(label, alone):
    with stopped_at(4, answering, "pack_answers"), pytest.raises(KeyboardInterrupt):
        label(3, 1)
    assert not shards() and any((STORE / "label-shard").glob("*.partial/unlabelled.npy"))
    said = label(3, 1)
    assert (
        "shard 1 of 3 is in the store (rows: 118 of unlabelled); when all are, the same command without "
        "pseudo_label.shard= puts them together and goes on"
    ) in said.notes
    with stopped_at(3, answering, "pack_answers"), pytest.raises(KeyboardInterrupt):
        label(3)
    with stopped_at(2, answering, "open_files"), pytest.raises(KeyboardInterrupt):
        label(3)
    said = label(3)
    names = [f"label-shard-{number}" for number in range(3)]
    assert [name for name, _ in said.order] == [*names, "pseudo-label"]
    assert ("label-shard-1", True) in said.order and len(shards()) == 3
    check(whole(), alone)
    assert "the answers are whole: nothing is left for shard 2 to do" in label(3, 2).notes


def test_more_shards_than_batches(label, monkeypatch):
    monkeypatch.setattr(settled, "BATCH", 128)
    label()
    alone = whole()
    forget("pseudo-label")
    label(8)
    assert sum(not list(path.glob("*.npy")) for path in shards()) == 8 - 6
    check(whole(), alone)


def test_a_damaged_shard_is_made_again_and_one_in_other_hands_is_left_for_the_last(label, alone):
    label(3, 0)
    (made,) = shards()
    file = made / "labelled.npy"
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))
    held, over, found = threading.Event(), threading.Event(), []

    def hold() -> None:
        with filelock.FileLock(STORE / "locks" / lock_name("label-shard", made.name)):
            held.set()
            while len(shards()) < 3 and not over.wait(0.01):
                pass
            found.append(len(shards()))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        said = label(3)
    finally:
        over.set()
        thread.join()
    assert found == [3], "the two others were made while the first was held"
    check(whole(), alone)
    assert any("labelled.npy does not have the content that was published" in text for text in said.notes)
    assert any(path.name.startswith(f"{made.name}.damaged") for path in made.parent.iterdir())


def test_a_shard_that_changes_while_it_is_copied_is_told(label, monkeypatch):
    def late(*given):
        file = shards()[0] / "labelled.npy"
        file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))
        answering.put_together(*given)

    monkeypatch.setattr("kdx.pipeline.stages.label.put_together", late)
    with pytest.raises(
        UserError, match="labelled.npy' has changed since it was looked through: run the same"
    ):
        label(3)


def test_a_shard_of_another_machine(label):
    """What it settled may differ in the last digits, which is said; not the form of its answers."""
    usual = settled.Settled.alike
    where = Runtime.where
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settled.Settled, "alike", lambda self: {**usual(self), "mass": 0.5})
        patch.setattr(Runtime, "where", lambda self: {**where(self), "threads": 9})
        label(3, 0)
    notes = label(3).notes
    assert any(text.startswith("shard 0 found another mass than is found here") for text in notes)
    assert any(text.startswith("shard 0, made with threads 9 (here 1): the last digits") for text in notes)
    forget("pseudo-label", "label-shard")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settled.Settled, "alike", lambda self: {**usual(self), "format": {"name": "topk"}})
        label(3, 0)
    with pytest.raises(UserError, match="shard 0 keeps its answers as topk, and here the teacher's are kept"):
        label(3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("pseudo_label.shards=0", "pseudo_label.shards must be"),
        ("pseudo_label.shards=some", "pseudo_label.shards must be a whole number; given: 'some'"),
        ("pseudo_label.shard=2", "makes one of several shards, and there is one: set pseudo_label.shards=8"),
        ("pseudo_label.shards=2 pseudo_label.shard=2", "none of the 2 shards, which are counted from 0"),
        ("pseudo_label.shards=2 pseudo_label.shard=-1", "pseudo_label.shard must be at least 0"),
        (
            "pseudo_label.shards=2 pseudo_label.shard=1 stages=[teacher_pretrain]",
            "pseudo_label.shard=1 is of the stage pseudo_label, and stages= ends before it",
        ),
        ("loss=supervised pseudo_label.shards=2", "pseudo_label.shards=2 can never act"),
    ],
)
def test_what_is_no_shard(place, words, says):
    assert says in refusals(*words.split())


def test_the_plan_says_what_each_shard_has(place, capsys):
    assert main(["plan", *SHORT, THREE]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for number, rows in enumerate(("100 labelled", "150 unlabelled", "40 validation, 150 clean")):
        assert f"label-shard-{number}" in said and f"answers to rows of {rows}" in said
    assert "3 shards put together" in said
    assert "answers: in 3 shards, each of 100 to 190 rows, 4,000 to 6,000 bytes, about 0" in said
    assert "3 of them to make" in said


KINDS = {
    "dense": [],
    "fitted": ["pseudo_label.temperature=fitted"],
    "live": ["pseudo_label.limit=1000"],
    "clean": ["pseudo_label.view=clean", "pseudo_label.passes=2", "teacher.dropout=0.3"],
    "topk": ["pseudo_label.format=topk", "pseudo_label.k=3", "loss.temperature=1"],
    "draws": ["pseudo_label.format=sampled", "loss.temperature=1"],
    "auto": ["pseudo_label.format=auto", "pseudo_label.k=2", "loss.temperature=1"],
    "weighed": ["teacher.members=2", "aggregate=weighted"],
    "mixup": ["augment=[affine,mixup]"],
    "few": ["student_train.steps=1"],
    "bought": ["select=rad", "budget=70", "rounds=2", "stages=[teacher_pretrain,pseudo_label,student_train]"],
    "hundred": [
        *("dataset=synthetic", "dataset.classes=100", "dataset.image_size=8", "dataset.train_rows=900"),
        *("dataset.test_rows=100", "dataset.labelled=300", "dataset.test=null", "dataset.unlabelled=300"),
        *("pseudo_label.format=topk", "pseudo_label.k=5", "loss.temperature=1"),
    ],
}


TOKENS = [
    *("dataset=corpus", "dataset.root=text.txt", "dataset.length=8", "dataset.unlabelled=null"),
    *(
        "dataset.validation=null",
        "dataset.validation_share=0.1",
        "dataset.test=null",
        "dataset.test_share=0.1",
    ),
    "loss=divergence",
    *("teacher=gpt_tiny", "teacher.width=16", "teacher.depth=1", "teacher.heads=2"),
    *("student=llama_tiny", "student.width=8", "student.depth=1", "student.heads=2", "student.kv_heads=1"),
]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dense", "hidden", "topk", "sampled"])
def test_answers_to_tokens_are_those_of_one_process(place, form):
    draw = random.Random(0)
    Path("text.txt").write_text(" ".join(draw.choice("the a cat dog sat ran".split()) for _ in range(900)))
    train(*TOKENS, f"pseudo_label.format={form}")
    alone = answers_of_all()
    forget("pseudo-label")
    train(*TOKENS, f"pseudo_label.format={form}", "pseudo_label.shards=3")
    found = answers_of_all()
    assert found.keys() == alone.keys() and len(shards()) == 3
    for key in alone:
        check(found[key], alone[key])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_answers_is_that_of_one_process(place, kind):
    words = KINDS[kind]
    train(*words)
    alone = answers_of_all()
    forget("pseudo-label")
    train(*words, "pseudo_label.shards=4")
    found = answers_of_all()
    assert found.keys() == alone.keys()
    for key in alone:
        check(found[key], alone[key])
    assert shards()


def answers_of_all() -> dict[str, dict[str, bytes]]:
    return {
        path.name: {file.name: file.read_bytes() for file in path.iterdir() if file.name != "manifest.json"}
        for path in (STORE / "pseudo-label").iterdir()
    }


def child(place: str, runtime, inputs, shards: int, name: str) -> None:
    """A process that is given the same as others; what it made itself is in a file."""
    os.chdir(place)
    settled.BATCH = 32

    class Kept(Listener):
        def finished(self, name_, key, cached, seconds):
            if not cached:
                with open(name, "a") as file:
                    file.write(f"{name_}\n")

    asked = {"shards": shards, "shard": None}
    sharding.label_in_shards(Store(STORE, runtime, Kept()), asked, "pseudo-label", inputs)


@pytest.fixture
def begin(place, asked):
    """Starts such a process, on answers that take a while."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kdx.pipeline.stages.label", "kdx.models.mlp", "test_shards"])
    inputs = {**asked[1], "views": {"labelled": 300, "unlabelled": 300}}

    def start(shards: int, name: str = "made"):
        process = context.Process(target=child, args=(str(place), asked[2], inputs, shards, name))
        process.start()
        return process

    return start


def finish(process) -> None:
    process.join()
    assert process.exitcode == 0


@pytest.mark.slow
def test_processes_killed_at_random_leave_the_bytes_of_one(begin):
    """Two at once, each killed at any moment: in a shard, between two, as they are put together."""
    finish(begin(1))
    wanted = whole()
    forget("pseudo-label")
    started = time.monotonic()
    finish(begin(5))
    took = time.monotonic() - started
    forget("pseudo-label", "label-shard")
    draw, kills, partial = random.Random(1), 0, set()
    for _ in range(6):
        both = [begin(5), begin(5)]
        both[0].join(draw.uniform(0.2, 0.5) * took)
        for process in both:
            kills += process.exitcode is None
            process.kill()
            process.join()
        partial |= {path.name for path in (STORE / "label-shard").glob("*.partial")}
    finish(begin(5))
    assert kills >= 4 and partial, "some were in the middle of a shard"
    check(whole(), wanted)


@pytest.mark.slow
def test_two_processes_share_the_shards(begin):
    finish(begin(1))
    wanted = whole()
    forget("pseudo-label")
    for process in [begin(8, "one"), begin(8, "other")]:
        process.join()
        assert process.exitcode == 0
    made = [set(Path(name).read_text().split()) for name in ("one", "other")]
    shards = {f"label-shard-{number}" for number in range(8)}
    assert made[0] | made[1] == {*shards, "pseudo-label"} and not made[0] & made[1]
    assert all(each & shards for each in made)
    check(whole(), wanted)


@pytest.mark.slow
def test_by_the_command_line_and_shards_that_were_put_together_can_go(place, capsys):
    run = train(THREE, "pseudo_label.shard=1", to="one")
    names = [stage["name"] for stage in run["stages"]]
    assert names[-2:] == ["label-shard-1", "evaluate"] and run["status"] == "finished"
    assert main(["cache", "gc", "runs=."]) == 0
    assert "label-shard" not in capsys.readouterr().out, "it waits for the others"
    train(THREE)
    assert main(["cache", "gc", "runs=."]) == 0
    assert capsys.readouterr().out.count("label-shard") == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pseudo_label.mode=live"], "pseudo_label.shards=2 can never act: no answer is stored"),
        (["select=rad", "budget=50", "loss=soft"], "these are bought round by round: leave it out"),
    ],
)
def test_a_shard_of_answers_that_are_not_there_is_refused(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "device=cpu", "pseudo_label.shards=2", "pseudo_label.shard=0", *words]) == 2
    assert said in capsys.readouterr().err and not Path("outputs").exists()
