"""`kdx train` killed, interrupted, damaged, starved of disk: the next run goes on, and ends bit for bit as if
nothing had happened.

The runs are child processes of a server that has imported torch already and done nothing else, so that each
costs a second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kdx.pipeline.stages import packing
from kdx.report.run import document

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    "device=cpu",
    "device.threads=1",
    "device.checkpoint_seconds=0",
    "dataset.unlabelled=100",
    "dataset.test=100",
    "dataset.validation=50",
    "teacher=cnn_small",
    "teacher.dropout=0.2",
    "student=mlp_small",
    "student.dropout=0.1",
    "student_train.clip=1",
    "teacher_pretrain.steps=12",
    "teacher_pretrain.evaluate_every=2",
    "teacher_pretrain.patience=3",
    "student_train.steps=16",
    "student_train.evaluate_every=2",
    "student_train.schedule=one_cycle",
    "student_train.patience=6",
]
"""Dropout, augmentation (by default), early stopping and a schedule: all that a resumed stage must remember.
Each step is a checkpoint.
"""
NAMES = [
    "decode",
    "prepare",
    "teacher-pretrain",
    "pseudo-label",
    "baseline-train",
    "gate",
    "student-train",
    "audit",
    "teacher-predict",
    "baseline-predict",
    "evaluate",
]
FOLDERS = {
    "student-train": "train",
    "baseline-train": "train",
    "teacher-predict": "predict",
    "baseline-predict": "predict",
}


@pytest.fixture(scope="session")
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "kdx.config.validate",
            "kdx.pipeline.stages.evaluate",
            "kdx.pipeline.stages.label",
            "kdx.pipeline.stages.pretrain",
            "kdx.pipeline.stages.prepare",
            "kdx.pipeline.stages.train",
            "kdx.commands.train",
            "kdx.report.run.folder",
            "kdx.report.run.figures",
            "kdx.report.run.table",
            "kdx.data.datasets.digits",
            "sklearn.datasets",
            "torch._dynamo",
            "test_crash",
        ]
    )
    return context


@dataclass(frozen=True)
class Crash:
    """What happens in a child: at the `step`-th sign of progress of `stage` (0: as it begins) it gets a
    signal, or (torn) dies in the middle of a checkpoint. stage "report": while the run folder is completed.
    """

    stage: str = ""
    step: int = 0
    signal: int = signal.SIGKILL
    torn: bool = False
    roomy: bool = False  # the check for free space is left out


def child(words: list[str], place: str, crash: Crash) -> None:
    os.chdir(place)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    from kdx import cli
    from kdx.config import validate
    from kdx.pipeline.stages import learn
    from kdx.report.run.folder import RunFolder
    from kdx.store.stage import Stage
    from kdx.store.work import Work

    progress = Work.progress

    def stumble(work: Work, done: int, total: int, text: str = "") -> None:
        progress(work, done, total, text)
        if work.name == crash.stage and done == crash.step and not crash.torn:
            os.kill(os.getpid(), crash.signal)

    def tear(state: dict, file) -> None:
        save(state, file)
        if crash.torn and state["step"] == crash.step and crash.stage in file.name:
            file.truncate(1000)
            os.kill(os.getpid(), signal.SIGKILL)

    def fall(folder: RunFolder, results: dict, examples: dict) -> dict:
        if crash.stage == "report":
            os.kill(os.getpid(), crash.signal)
        return draw(folder, results, examples)

    Work.progress, save, learn.torch.save = stumble, learn.torch.save, tear
    draw, RunFolder.draw = RunFolder.draw, fall
    if crash.step == 0:
        call = Stage.__call__
        Stage.__call__ = lambda stage, work, *more, **inputs: (
            stumble(work, 0, 0),
            call(stage, work, *more, **inputs),
        )
    if crash.roomy:
        validate.check_room = lambda *anything: None
    code = cli.main(["train", *words])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass(frozen=True)
class Ended:
    """code: as a shell shows it, or minus the signal. run: the newest run.json, None where there is none."""

    code: int
    out: str
    err: str
    run: dict | None

    @property
    def cached(self) -> dict[str, bool]:
        return {stage["name"]: stage["cached"] for stage in self.run["stages"]}


def start(server, place: Path, *words: str, crash: Crash = Crash()):
    place.mkdir(exist_ok=True)
    process = server.Process(target=child, args=([*WORDS, *words], str(place), crash))
    process.start()
    return process


def newest(place: Path) -> Path | None:
    return max(place.glob("outputs/runs/*/run.json"), key=lambda path: path.stat().st_mtime_ns, default=None)


def end(process, place: Path) -> Ended:
    process.join()
    run = newest(place)
    return Ended(
        process.exitcode,
        (place / "out").read_text(),
        (place / "err").read_text(),
        json.loads(run.read_text()) if run else None,
    )


def reported(ended: Ended) -> list[str]:
    """What it said on stderr beside the progress and the notes of the stages."""
    assert "Traceback" not in ended.err and "Error executing job" not in ended.err, ended.err
    return [line for line in ended.err.splitlines() if not line.startswith((*NAMES, "warning: ", "info: "))]


def train(server, place: Path, *words: str, crash: Crash = Crash()) -> Ended:
    return end(start(server, place, *words, crash=crash), place)


def artifact(place: Path, run: dict, name: str, store: str = "outputs/store") -> Path:
    key = next(stage["key"] for stage in run["stages"] if stage["name"] == name)
    return place / store / FOLDERS.get(name, name) / key


def contents(place: Path, run: dict, store: str = "outputs/store") -> dict[str, bytes]:
    """Everything that the stages made, but for what tells of the making:
    times, notes of a resume, latencies.
    """
    found = {}
    for name in (stage["name"] for stage in run["stages"]):
        for path in artifact(place, run, name, store).iterdir():
            if path.name not in ("manifest.json", "notes.jsonl"):
                found[f"{name}/{path.name}"] = path.read_bytes()
    results = json.loads(found["evaluate/results.json"])
    for part in results.values():
        if isinstance(part, dict):  # of a role
            part.pop("latency_ms", None)
    return found | {"evaluate/results.json": json.dumps(results).encode()}


def same(left: dict[str, bytes], right: dict[str, bytes]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if left[name] != right[name]] == []


@pytest.fixture(scope="session")
def undisturbed(server, tmp_path_factory) -> tuple[Path, dict, dict[str, bytes]]:
    """(where it ran, its run.json, what its stages made)"""
    place = tmp_path_factory.mktemp("undisturbed")
    ended = train(server, place)
    assert ended.code == 0, ended.err
    assert not any(ended.cached.values()) and list(ended.cached) == NAMES
    return place, ended.run, contents(place, ended.run)


@pytest.fixture
def place(undisturbed, tmp_path) -> Path:
    """A folder in which everything has been run already."""
    shutil.copytree(undisturbed[0], tmp_path / "place", symlinks=True)
    shutil.rmtree(tmp_path / "place" / "outputs" / "runs")
    return tmp_path / "place"


def test_the_settings_of_these_tests_stop_early_and_drop_out(undisturbed):
    """Else the comparisons below would hold nothing of it."""
    place, run, found = undisturbed
    summary = json.loads(found["teacher-pretrain/summary.json"])
    assert summary["best_step"] and run["config"]["augment"] and run["config"]["teacher"]["dropout"] == 0.2
    assert any(
        json.loads(found[f"{name}/summary.json"])["stopped"] == "patience"
        for name in ("teacher-pretrain", "student-train", "baseline-train")
    )
    assert json.loads(found["pseudo-label/answers.json"])["splits"]["unlabelled"]["views"] > 2


@pytest.mark.parametrize(
    ("crash", "says"),
    [
        pytest.param(Crash("teacher-pretrain", 1), None, marks=pytest.mark.slow),
        pytest.param(
            Crash("teacher-pretrain", 5), "teacher-pretrain goes on from step 4 of 12", marks=pytest.mark.slow
        ),
        (Crash("teacher-pretrain", 6, torn=True), "teacher-pretrain goes on from step 5 of 12"),
        pytest.param(Crash("pseudo-label", 4), None, marks=pytest.mark.slow),
        # an interrupt there is a default test
        pytest.param(
            Crash("student-train", 7), "student-train goes on from step 6 of 16", marks=pytest.mark.slow
        ),
        pytest.param(
            Crash("baseline-train", 3), "baseline-train goes on from step 2 of 16", marks=pytest.mark.slow
        ),
        pytest.param(Crash("evaluate", 2), None, marks=pytest.mark.slow),
    ],
    ids=lambda value: f"{value.stage}-{value.step}{'-torn' * value.torn}" if isinstance(value, Crash) else "",
)
def test_a_killed_run_goes_on_bit_for_bit(server, undisturbed, tmp_path, crash, says):
    killed = train(server, tmp_path, crash=crash)
    assert (
        killed.code == -signal.SIGKILL
        and killed.run["status"] == "running"
        and document.state(newest(tmp_path).parent, killed.run) == "died"
    )
    again = train(server, tmp_path)
    assert again.code == 0, again.err
    before = NAMES.index(crash.stage)
    assert again.cached == {name: number < before for number, name in enumerate(NAMES)}, (
        "finished stages are loaded, the others not"
    )
    assert says is None or says in again.err
    assert not list(tmp_path.glob("outputs/store/*/*.partial")) and not list(
        tmp_path.glob("outputs/store/*/*/*.tmp")
    )
    same(contents(tmp_path, again.run), undisturbed[2])


ONLINE = {
    "mutual": ["loss=mutual", "loss.export=ensemble", "loss.rate=[1,0.5]"],
    "codistill": ["loss=codistill"],
    "collaborative": ["loss=collaborative"],
    "adversarial": ["loss=adversarial"],
    "snapshot": ["loss=self_distill", "loss.alpha=0.5"],
    "deepest": ["loss=self_distill", "loss.teacher=deepest", "student=cnn_tiny"],
    "ema": ["teacher.update=ema", "teacher.begin=student"],
    "alternate": ["teacher.update=alternate", "teacher.rate=1", "teacher.beta=-0.5", "teacher.delay=0.2"],
}
"""What trains more than the student, or remembers its past."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["mutual", *(pytest.param(name, marks=pytest.mark.slow) for name in [*ONLINE][1:])]
)
def test_networks_that_train_beside_the_student_go_on_bit_for_bit(server, place, method):
    other = place.with_name("other")
    shutil.copytree(place, other, symlinks=True)
    whole = train(server, other, *ONLINE[method])
    assert whole.code == 0, whole.err
    killed = train(server, place, *ONLINE[method], crash=Crash("student-train", 7))
    assert killed.code == -signal.SIGKILL
    again = train(server, place, *ONLINE[method])
    assert again.code == 0 and "student-train goes on from step 6 of 16" in again.err, again.err
    same(contents(place, again.run), contents(other, whole.run))


@pytest.mark.slow
def test_labels_go_on_at_the_view_they_had_reached(server, tmp_path):
    train(server, tmp_path, crash=Crash("pseudo-label", 4))
    (partial,) = tmp_path.glob("outputs/store/pseudo-label/*.partial")
    assert len(json.loads((partial / "checkpoint.pt").read_text())) == 4
    answered = np.load(partial / "labelled.npy")
    again = train(server, tmp_path, crash=Crash("pseudo-label", 4))
    assert again.code == 0, "its first sign of progress is the fifth view: the first four are not made again"
    assert np.array_equal(
        np.load(artifact(tmp_path, again.run, "pseudo-label") / "labelled.npy")[:, :4], answered[:, :4]
    )


@pytest.mark.parametrize(
    "crash",
    [
        Crash("student-train", 3, signal.SIGTERM),
        *(
            pytest.param(crash, marks=pytest.mark.slow)
            for crash in (  # tests/test_cli.py has every signal without a run
                Crash("teacher-pretrain", 3, signal.SIGINT),
                Crash("pseudo-label", 3, signal.SIGINT),
                Crash("prepare", 0, signal.SIGTERM),
                Crash("pseudo-label", 2, signal.SIGTERM),
                Crash("baseline-train", 12, signal.SIGHUP),
                Crash("audit", 0, signal.SIGTERM),
                Crash("evaluate", 1, signal.SIGTERM),
                Crash("report", 0, signal.SIGTERM),
            )
        ),
    ],
    ids=lambda crash: f"{crash.stage}-{crash.step}-{crash.signal.name}",
)
def test_an_interrupt_saves_tells_how_to_go_on_and_goes_on(server, undisturbed, tmp_path, crash):
    words, stage = ["device.checkpoint_seconds=1000"], crash.stage  # only the interrupt saves
    stopped = train(server, tmp_path, *words, crash=crash)
    assert (
        stopped.code == 128 + crash.signal
        and stopped.run["status"] == "interrupted"
        and (newest(tmp_path).parent / "report.md").exists()
    )
    (line,) = reported(stopped)
    assert line.startswith("interrupted; what is finished is in outputs/store. Go on with: kdx train ")
    again = train(server, tmp_path, *words)
    assert again.code == 0, again.err
    assert not stage.endswith("-train") or f"{stage} goes on from step {crash.step} of " in again.err
    same(contents(tmp_path, again.run), undisturbed[2])


def test_an_interrupt_ends_a_sweep(server, tmp_path):
    stopped = train(server, tmp_path, "-m", "seed=0,1", crash=Crash("teacher-pretrain", 2, signal.SIGTERM))
    assert stopped.code == 143 and len(reported(stopped)) == 1
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/run.json"))) == 1, "the second run must not begin"


@pytest.mark.slow  # tests/test_store.py has two at once on one stage
def test_two_at_once_train_one_teacher(server, undisturbed, tmp_path):
    processes = [start(server, tmp_path, f"hydra.run.dir=run{number}") for number in (0, 1)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    runs = [json.loads((tmp_path / f"run{number}" / "run.json").read_text()) for number in (0, 1)]
    made = [
        name
        for run in runs
        for name, cached in ((s["name"], s["cached"]) for s in run["stages"])
        if not cached
    ]
    assert sorted(made) == sorted(NAMES), "each stage was made once, by one of the two"
    for run in runs:
        same(contents(tmp_path, run), undisturbed[2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("teacher-pretrain", "last.safetensors"),
        pytest.param("evaluate", "results.json", marks=pytest.mark.slow),
        pytest.param("prepare", "data.json", marks=pytest.mark.slow),
    ],
)
def test_a_flipped_byte_is_named_and_that_stage_alone_done_again(server, undisturbed, place, name, file):
    damaged = artifact(place, undisturbed[1], name) / file
    flip(damaged)
    again = train(server, place)
    assert again.code == 0, again.err
    assert (
        f"the store is damaged: {damaged.relative_to(place)} does not have the content that was "
        "published; it runs again"
    ) in again.err
    assert again.cached == {other: other != name for other in NAMES}
    same(contents(place, again.run), undisturbed[2])


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_read_costs_its_steps_only(server, undisturbed, tmp_path):
    train(server, tmp_path, crash=Crash("student-train", 7))
    (checkpoint,) = tmp_path.glob("outputs/store/train/*.partial/checkpoint.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    again = train(server, tmp_path)
    assert again.code == 0 and "student-train: begins anew: its checkpoint" in again.err
    same(contents(tmp_path, again.run), undisturbed[2])


@pytest.mark.slow
def test_another_number_of_threads_does_not_change_a_run_that_goes_on(server, tmp_path):
    whole = train(server, tmp_path / "whole", "device.threads=2")
    train(server, tmp_path / "cut", "device.threads=2", crash=Crash("student-train", 7))
    again = train(server, tmp_path / "cut", "device.threads=1")
    assert "student-train goes on with 2 threads, as it began" in again.err
    names = ("teacher-pretrain", "student-train")
    threads = {
        name: json.loads((artifact(tmp_path / "cut", again.run, name) / "summary.json").read_text())[
            "threads"
        ]
        for name in names
    }
    assert threads == {"teacher-pretrain": 2, "student-train": 2}
    for name in names:
        for file in ("last.safetensors", "best.safetensors", "metrics.jsonl"):
            left, right = (
                artifact(tmp_path / where, run, name) / file
                for where, run in (("whole", whole.run), ("cut", again.run))
            )
            assert left.read_bytes() == right.read_bytes()


# What comes from outside


@pytest.mark.slow
def test_another_checkpoint_under_the_same_name_is_noticed(server, undisturbed, place):
    weights = load_file(artifact(place, undisturbed[1], "teacher-pretrain") / "last.safetensors")
    path = place / "weights.pt"
    untrained = [f"teacher_pretrain.{key}=null" for key in ("steps", "evaluate_every", "patience")]
    words = ["teacher.checkpoint=weights.pt", *untrained]
    torch.save(weights, path)
    first = train(server, place, *words)
    assert first.code == 0, first.err
    assert all(train(server, place, *words).cached.values())
    stat = path.stat()
    torch.save(
        {
            name: -w if name.startswith("net.") and w.is_floating_point() and w.dim() > 1 else w
            for name, w in weights.items()
        },
        path,
    )
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size, "neither size nor time tell"
    again = train(server, place, *words)
    assert again.code == 0 and again.cached == {
        name: name in ("decode", "prepare", "baseline-train", "baseline-predict") for name in NAMES
    }


@pytest.mark.slow
def test_another_picture_under_the_same_name_is_noticed(server, tmp_path):
    rng = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for row in range(20):
            Image.fromarray((rng.integers(0, 60, (8, 8)) + 120 * number).astype(np.uint8)).save(
                tmp_path / "pets" / name / f"{row}.png"
            )
    words = [
        "dataset=folder",
        "dataset.root=pets",
        "dataset.labelled=8",
        "dataset.validation=6",
        "dataset.test=6",
        "dataset.unlabelled=null",
    ]
    first = train(server, tmp_path, *words)
    assert first.code == 0, first.err
    assert all(train(server, tmp_path, *words).cached.values())
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "pets" / "cat" / "3.png")
    assert not any(train(server, tmp_path, *words).cached.values())


def test_a_loss_that_turns_infinite_stops_with_step_term_and_checkpoint(server, place):
    words = [
        "student_train.optimiser=sgd",
        "student_train.lr=1e30",
        "student_train.schedule=constant",
        "student_train.clip=null",
    ]
    ended = train(server, place, *words)
    assert ended.code == 1 and ended.run["status"] == "failed" and "NonFinite" in ended.run["traceback"]
    what, good, where = reported(ended)
    assert what.startswith("the loss is not finite at step ") and ": term '" in what
    assert good.startswith("the last good checkpoint, step ") and good.endswith(
        "; lower student_train.lr, or set student_train.clip=1"
    )
    assert where.startswith("the run stopped; what is finished is in ")
    checkpoint = place / good.split(", is ")[1].split(";")[0]
    state = torch.load(checkpoint, weights_only=True)
    assert (
        all(torch.isfinite(value).all() for value in state["objective"].values())
        and f"step {state['step']}," in good
    )


# A full disk


@pytest.fixture
def small_disk(tmp_path) -> Iterator:
    """grow(kilobytes) -> a folder on a disk of that size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        sys.platform != "linux"
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("cannot mount a small disk here")

    def grow(kilobytes: int) -> Path:
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)
        return disk

    yield grow
    subprocess.run(["umount", disk], check=True)


def starve(server, place: Path, small_disk, before: dict[str, int], *words: str) -> Ended:
    """Runs once for each stage, on a disk of so many kilobytes that it is full in that stage; then with room
    enough.
    """
    for name, kilobytes in before.items():
        disk = small_disk(kilobytes)
        ended = train(server, place, f"store={disk}/store", *words, crash=Crash(roomy=True))
        lines, work_was_done = reported(ended), name != "decode"
        assert lines[0] == (
            f"no space left on the disk of {disk}/store: {name} stopped. Free some, then run the same "
            "command to go on"
        )
        assert (ended.code, len(lines)) == ((1, 2) if work_was_done else (2, 1)) and (
            ended.run is not None
        ) == work_was_done
    ended = train(server, place, f"store={small_disk(4000)}/store", *words, crash=Crash(roomy=True))
    assert ended.code == 0, ended.err
    return ended


def kilobytes(place: Path, run: dict, names: list[str]) -> int:
    return sum(
        path.stat().st_size // 4096 * 4 + 4 for name in names for path in artifact(place, run, name).iterdir()
    )


@pytest.mark.slow
def test_a_full_disk_is_reported_plainly_and_the_run_goes_on_when_there_is_room(
    server, undisturbed, tmp_path, small_disk
):
    before = {"decode": 40, "teacher-pretrain": kilobytes(*undisturbed[:2], NAMES[:2]) + 50}
    ended = starve(server, tmp_path, small_disk, before)
    same(contents(tmp_path, ended.run, str(tmp_path / "disk" / "store")), undisturbed[2])


@pytest.mark.slow
def test_a_disk_full_with_the_student_is_reported_plainly_as_well(server, tmp_path, small_disk):
    # A student larger than its teacher, and no other network of its size: the disk that holds the one is full
    # with the other.
    words = ["teacher=mlp_small", "student=cnn_small", "baseline=false"]
    whole = train(server, tmp_path / "whole", *words)
    before = {"student-train": kilobytes(tmp_path / "whole", whole.run, NAMES[:3]) + 220}
    ended = starve(server, tmp_path, small_disk, before, *words)
    same(
        contents(tmp_path, ended.run, str(tmp_path / "disk" / "store")),
        contents(tmp_path / "whole", whole.run),
    )


def test_answers_reserve_their_space(small_disk):
    """Else a memory map is written to a disk that has none left, and the process dies without a word."""
    path = small_disk(100) / "answers.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(1000, 100))
    with pytest.raises(OSError, match="No space left"):
        packing.reserve(path)


@pytest.mark.parametrize(
    "size", [8, *(pytest.param(size, marks=pytest.mark.slow) for size in (40, 120, 180))]
)
def test_a_full_disk_of_the_run_folder_is_reported_plainly(server, place, small_disk, size):
    ended = train(server, place, f"hydra.run.dir={small_disk(size)}/run")
    lines = reported(ended)
    assert ended.code in (1, 2) and len(lines) == ended.code % 2 + 1
    assert "No space left on device; make room or choose another folder with hydra.run.dir=PATH" in lines[0]


def test_a_reader_who_leaves_before_the_table_costs_the_run_nothing(undisturbed, place):
    """As in `kdx train | head`."""
    words = [sys.executable, "-m", "kdx.cli", "train", *WORDS, "hydra.run.dir=unread"]
    process = subprocess.Popen(
        words,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(60) == 141 and "Traceback" not in said and "failed" not in said, said
    run = json.loads((place / "unread" / "run.json").read_text())
    assert run["status"] == "finished" and run["results"]["gain"] == undisturbed[1]["results"]["gain"]


# What is in the store


def test_again_imports_no_torch(undisturbed, place):
    code = f"""
import sys
from kdx.cli import main
assert main(["train", *{WORDS!r}]) == 0
print([name for name in ("torch", "torchvision", "sklearn", "scipy", "matplotlib", "PIL.Image") if name in sys.modules])
"""  # noqa: E501
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=place, env=environment
    )
    assert done.stdout.splitlines()[-1] in ("[]", "['PIL.Image']"), "a run from the store needs none of it"
    (run,) = (json.loads(path.read_text()) for path in place.glob("outputs/runs/*/run.json"))
    assert (
        all(stage["cached"] for stage in run["stages"])
        and run["results"]["gain"] == undisturbed[1]["results"]["gain"]
    )


@pytest.mark.slow
def test_an_edited_loss_is_run_again_and_no_other(place):
    for name in ("kdx", "conf"):
        shutil.copytree(ROOT / name, place / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))

    def again() -> set[str]:
        environment = {**os.environ, "PYTHONPATH": str(place / "code"), "PYTHONDONTWRITEBYTECODE": "1"}
        shutil.rmtree(place / "outputs" / "runs", ignore_errors=True)
        subprocess.run(
            [sys.executable, "-P", "-m", "kdx.cli", "train", *WORDS],
            capture_output=True,
            check=True,
            cwd=place,
            env=environment,
        )
        (run,) = (json.loads(path.read_text()) for path in place.glob("outputs/runs/*/run.json"))
        return {stage["name"] for stage in run["stages"] if not stage["cached"]}

    loss = place / "code" / "kdx" / "methods" / "losses"
    other, comment = (loss / "label_smoothing.py").read_text(), (loss / "kd.py").read_text()
    (loss / "label_smoothing.py").write_text(f"{other}\nTWO = 2\n")
    (loss / "kd.py").write_text(f"# A comment.\n{comment}")
    assert again() == set(), "another loss, and a comment"
    edited = comment.replace('"distillation": alpha * apart', '"distillation": 1.5 * alpha * apart')
    assert edited != comment
    (loss / "kd.py").write_text(edited)
    assert again() == {"student-train", "audit", "evaluate"}


@pytest.mark.slow
def test_killed_from_outside_at_any_moment(server, undisturbed, tmp_path):
    """Kills at moments that nobody chose, until a run gets through."""
    rng = random.Random(0)
    for patience in [*(rng.uniform(0.3, 3) for _ in range(25)), 1000]:
        process = start(server, tmp_path)
        deadline = time.monotonic() + patience
        while process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not process.is_alive():
            break
        process.kill()
        process.join()
    ended = end(process, tmp_path)
    assert ended.code == 0, ended.err
    same(contents(tmp_path, ended.run), undisturbed[2])
