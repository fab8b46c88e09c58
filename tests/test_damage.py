"""The store trusts nothing: a folder in another's place, a manifest that was changed, what a killed stage
left, and what is no file or folder at all.

tests/test_crash.py kills and damages whole runs, scripts/torture.py does so at random; here are the store and
its stages alone.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fabricate import Still
from stages import Heard, own_package
from unprivileged import obey_modes

from kdx.cli import main
from kdx.core.errors import UserError, UserErrors
from kdx.core.files import own_file, own_folder
from kdx.data.pictures.walk import Walk
from kdx.pipeline.stages.left import answered, open_answers, view_digest
from kdx.report.run.folder import RunFolder
from kdx.runs import sweep
from kdx.runs.artifacts import open_artifact
from kdx.store.manifest import MANIFEST, seal
from kdx.store.source import Source
from kdx.store.stage import Stage
from kdx.store.store import Miss, Store
from kdx.store.verification import verify
from kdx.store.work import Listener, Work

CODE = """
    def run(work, runtime, *, text, **rest):
        work.record({"step": 0, "value": 1.5})
        (work.path / "out.txt").write_text(text + ("+" if (work.path / "half.npy").exists() else ""))
"""
WRITE = Stage("train", "kdxdamagepkg.stage", writes=("out.txt",), resumes=("*.npy",))
OTHER = Stage("gate", "kdxdamagepkg.stage", writes=("out.txt",))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with own_package(tmp_path, monkeypatch, "kdxdamagepkg", CODE):
        yield tmp_path
    assert [p.name for p in Path("outside").iterdir()] == ["precious"] and Path(
        "outside/precious"
    ).read_text() == "mine"


def run(text: str = "a", stage: Stage = WRITE, listener: Listener | None = None, **more):
    return Store(Path("store"), Still(), listener or Listener(), **more).run(stage, text=text)


def made_again(text: str = "a", stage: Stage = WRITE) -> str:
    """Runs the stage, which has to be made again and to come out as ever; returns what is reported."""
    heard = Heard()
    assert run(text, stage, heard).file("out.txt").read_text() == text
    assert heard.notes, "nothing was reported"
    assert verify(run(text, stage).path) is None
    return "\n".join(heard.notes)


# Published folders


def test_a_folder_in_the_place_of_another_is_not_used():
    one, other = run("a"), run("b")
    shutil.rmtree(other.path)
    shutil.copytree(one.path, other.path)
    with pytest.raises(Miss):
        run("b", peek=True)
    with pytest.raises(UserError, match="does not belong to its folder"):
        open_artifact(Path("store"), "train", other.key)
    assert "does not belong to its folder: what it says has another key; it runs again" in made_again("b")
    across = Path("store/gate") / Store(Path("store"), Still(), Listener()).key(OTHER, {"text": "a"})[0]
    shutil.copytree(one.path, across)
    assert "does not belong" in made_again("a", OTHER)


def test_what_the_manifest_says_of_its_making_is_known_too():
    """No key and no file tells of these."""
    path = run().path
    manifest = json.loads((path / MANIFEST).read_text())
    for change in (
        {"seconds": 0.5},
        {"made": {"device": "there"}},
        {"created": 1},
        {"sha256": "0" * 64},
        {"files": {}},
    ):
        (path / MANIFEST).write_text(json.dumps(manifest | change))
        assert "does not have the content that was published" in made_again()


BROKEN = [
    {"files": []},
    {"files": {}},
    {"files": {"out.txt": 5}},
    {"files": {"out.txt": {"sha256": 5, "size": 1}}},
    {"seconds": "x"},
    {"seconds": None},
    {"made": 5},
    {"files": {"../x": {"sha256": "", "size": 1}}},
    {"version": "1"},
    {"inputs": []},
    {"code": None},
    {"stage": 7},
    {"created": True},
    {"seconds": -5},
    {"seconds": 1e300},
    {"created": 1e300},
    {"made": {"device": [1]}},
    {"made": {"threads": {}}},
    {"made": {"torch": 2}},
]


@pytest.mark.parametrize("change", BROKEN, ids=str)
def test_a_manifest_that_lacks_or_mistypes_a_field_is_a_damaged_folder(change):
    """Of an older one too, which has no digest of its own."""
    path = run().path
    manifest = json.loads((path / MANIFEST).read_text()) | change
    del manifest["sha256"]
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(Miss):
        run(peek=True)
    with pytest.raises(UserError):
        open_artifact(Path("store"), "train", path.name)
    assert "(the damaged folder is kept as store/train/" in made_again() and list(
        Path("store/train").glob("*.damaged-*")
    )


def test_a_manifest_without_a_digest_of_its_own_is_an_older_one():
    """What was made with it can be looked at. No run goes on from it: a file that it does not list may be one
    that the stage wrote.
    """
    path = run().path
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["sha256"], manifest["files"]["metrics.jsonl"]
    (path / "metrics.jsonl").unlink()
    (path / MANIFEST).write_text(json.dumps(manifest))
    assert verify(path) is None
    with pytest.raises(Miss):
        run(peek=True)
    assert "manifest.json' does not have a digest of its own; it runs again" in made_again()
    assert (path / "metrics.jsonl").is_file()
    (path / MANIFEST).write_text(json.dumps(manifest))
    path.rename(path.with_name(f"{path.name}.partial"))
    assert "sha256" in run().manifest, "nor is one published that a stopped run left"


def test_a_note_is_reported_once_and_says_its_stage_once(tmp_path):
    """Of six views that were cut alike, say."""
    work = Work(tmp_path, "pseudo-label", Heard())
    for text in ("made again", "made again", "begins anew", "made again"):
        work.note(text, "warning")
    assert (
        work.listener.notes == ["made again", "begins anew"]
        and len((tmp_path / "notes.jsonl").read_text().splitlines()) == 2
    )


def test_a_file_that_was_not_published_is_reported_and_a_hidden_one_is_not():
    path = run().path
    (path / ".DS_Store").touch()
    assert verify(path) is None
    (path / "best.safetensors").touch()
    assert "best.safetensors is none of the files that were published" in made_again()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", "[1]\n"),
        ("metrics.jsonl", '{"value": 1}\n'),
        ("metrics.jsonl", '{"step": 1, "value": "x"}\n'),
        ("metrics.jsonl", '{"step": 1'),
        ("metrics.jsonl", "[" * 100_000),
        ("notes.jsonl", '{"text": 5, "level": "info"}\n'),
        ("notes.jsonl", '{"text": "x", "level": "loud"}\n'),
    ],
)
def test_records_and_notes_of_another_form(name, content):
    """With hashes that fit: they are reported again with every run."""
    path = run().path
    manifest = json.loads((path / MANIFEST).read_text())
    (path / name).write_text(content)
    (path / MANIFEST).unlink()
    seal(path, {k: v for k, v in manifest.items() if k != "files"})
    assert f"{name}, line 1 is not as kdx writes it" in made_again()


def test_a_digest_of_a_source_that_was_changed_is_not_weighted(tmp_path):
    file = tmp_path / "data"
    file.write_text("x")
    os.utime(file, (1, 1))
    Source.memo = tmp_path / "sources.json"
    kept, stamp = {}, file.stat()
    kept[str(file.resolve())] = [stamp.st_size, stamp.st_mtime_ns, stamp.st_ctime_ns, stamp.st_ino, "0" * 64]
    honest = Source(file).digest()
    for content in (kept, {"files": kept, "sha256": "0" * 64}, [], {"files": 5, "sha256": ""}, None):
        Source.memo.write_text(json.dumps(content))
        Source._remembered.clear()
        assert Source(file).digest() == honest


def test_pictures_and_folders_that_may_not_be_read(tmp_path, capfd):
    """As a child for whom modes count. One is reported in a sentence, the other may be skipped and changes
    the key when it can be read.
    """
    (tmp_path / "given/cat").mkdir(parents=True)
    (tmp_path / "given/cat/0.png").write_text("x")
    Source.memo = None
    readable = Source(tmp_path / "given").digest()
    (tmp_path / "given/cat/0.png").chmod(0)
    assert by_modes(lambda: int(Source(tmp_path / "given").digest() == readable)) == 0
    (tmp_path / "given/cat").chmod(0)

    def looked() -> int:
        with pytest.raises(
            UserError,
            match=(
                "the folder '.*/given/cat' cannot be read: Permission denied; give yourself "
                "permission, or move it away"
            ),
        ):
            Walk(None).folders(tmp_path / "given/cat")
        with pytest.raises(UserError, match="cannot be read"):
            Walk(None).pictures(tmp_path / "given")
        return 0

    assert by_modes(looked) == 0, capfd.readouterr().err
    (tmp_path / "given/cat").chmod(0o755)


# What a killed stage left


def partial(stage: Stage = WRITE, text: str = "a") -> Path:
    found = (
        Path("store")
        / stage.name
        / f"{Store(Path('store'), Still(), Listener()).key(stage, {'text': text})[0]}.partial"
    )
    found.mkdir(parents=True)
    return found


def test_only_what_a_stage_goes_on_from_is_left_and_published():
    here = partial()
    for name in ("half.npy", "out.txt", "metrics.jsonl", "notes.jsonl", "stray.bin", "x.tmp"):
        (here / name).write_text("{}\n")
    (here / "folder").mkdir()
    (here / "folder/x").touch()
    (here / "link").symlink_to("../../../outside")
    found = run()
    assert (
        sorted(p.name for p in found.path.iterdir()) == ["half.npy", MANIFEST, "metrics.jsonl", "out.txt"]
        and found.file("out.txt").read_text() == "a+"
    )
    assert found.lines("metrics.jsonl") == [{"step": 0, "value": 1.5}]
    (partial(OTHER) / "half.npy").touch()
    assert run("a", OTHER).file("out.txt").read_text() == "a", "this stage goes on from nothing"


def test_a_complete_folder_that_was_damaged_before_its_last_rename_begins_anew():
    path = run().path
    path.rename(path.with_name(f"{path.name}.partial"))
    (path.with_name(f"{path.name}.partial") / "out.txt").write_text("b")
    assert run().file("out.txt").read_text() == "a"


def checkpoint(place: Path, content: bytes, key: str = "k") -> Work:
    place.mkdir(exist_ok=True)
    work = Work(place, "train", Heard(), key)
    (place / "checkpoint.tmp").write_bytes(content)
    work.keep(place / "checkpoint.tmp")
    return work


def damaged(work: Work) -> bool:
    """Whether the checkpoint is refused; then it is reported, and gone."""
    again = Work(work.path, "train", Heard(), work.key)
    if again.kept():
        return False
    assert not work.checkpoint.exists() and "begins anew: its checkpoint" in again.listener.notes[-1]
    return True


def test_a_checkpoint_is_gone_on_with_only_as_it_was_written(tmp_path):
    assert not Work(tmp_path, "train", Heard(), "k").kept(), "there is none, which is nothing to tell"
    assert not damaged(checkpoint(tmp_path / "a", b"first"))
    assert not damaged(checkpoint(tmp_path / "a", b"second"))
    for number, content in enumerate((b"sexond", b"", b"seco", b"\0" * 50)):
        work = checkpoint(tmp_path / f"b{number}", b"second")
        work.checkpoint.write_bytes(content)
        assert damaged(work)
    for number, text in enumerate(("[]", "{}", "5", "{", "[5, null]", "")):
        work = checkpoint(tmp_path / f"c{number}", b"second")
        (work.path / "checkpoint.json").write_text(text)
        assert damaged(work)
    one, other = checkpoint(tmp_path / "d", b"one", "key1"), checkpoint(tmp_path / "e", b"other", "key2")
    for name in ("checkpoint.pt", "checkpoint.json"):
        shutil.copy(one.path / name, other.path / name)
    assert damaged(other), "it is of another stage"


def test_a_kill_between_a_checkpoint_and_its_digest_costs_nothing(tmp_path, monkeypatch):
    work = checkpoint(tmp_path / "a", b"first")
    (work.path / "checkpoint.tmp").write_bytes(b"second")
    with monkeypatch.context() as patch:
        patch.setattr("kdx.store.work.os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr("kdx.store.work.write_atomically", lambda path, text: path.write_text(text))
        with pytest.raises(KeyboardInterrupt):
            work.keep(work.path / "checkpoint.tmp")
    assert not damaged(work)
    os.replace(work.path / "checkpoint.tmp", work.checkpoint)
    assert not damaged(work)


WANTED = {"labelled": (2, 1), "validation": (1, 0)}
HALF = np.dtype(np.float16)


def left(place: Path) -> Work:
    """A folder in which two views of three rows and three classes were answered."""
    place.mkdir(exist_ok=True)
    work, done = Work(place, "pseudo-label", Heard(), "k"), []
    for name, (count, _) in WANTED.items():
        file = open_answers(place / f"{name}.npy", (3, count, 3), HALF, fresh=True)
        for slot in range(count):
            file[:, slot] = slot + 1
            done.append([name, slot, 0.5, view_digest(work, {"": file}, name, slot, 0.5)])
    work.checkpoint.write_text(json.dumps(done))
    return work


def good(work: Work) -> list[tuple[str, int]]:
    """What would be gone on with."""
    done = answered(work, WANTED)
    found = []
    for name, (count, _) in WANTED.items():
        file = open_answers(
            work.path / f"{name}.npy", (3, count, 3), HALF, fresh=all(name != other for other, _ in done)
        )
        found += [
            (name, slot)
            for slot in range(count)
            if (name, slot) in done
            and done[name, slot][1] == view_digest(work, {"": file}, name, slot, done[name, slot][0])
        ]
    return found


def test_answers_that_were_changed_are_made_again(tmp_path):
    whole = [("labelled", 0), ("labelled", 1), ("validation", 0)]
    assert good(left(tmp_path / "a")) == whole
    work = left(tmp_path / "a")
    (work.path / "stray.npy").touch()
    file = np.load(work.path / "labelled.npy", mmap_mode="r+")
    file[1, 1, 2] = 9
    file.flush()
    assert good(work) == [("labelled", 0), ("validation", 0)] and not (work.path / "stray.npy").exists()
    for content in (
        b"",
        b"no array",
        (tmp_path / "a/validation.npy").read_bytes(),
        (tmp_path / "a/labelled.npy").read_bytes()[:-3],
    ):
        work = left(tmp_path / "a")
        (work.path / "labelled.npy").write_bytes(content)
        assert set(good(work)) <= {("labelled", 0), ("validation", 0)} and ("validation", 0) in good(work)
    work = left(tmp_path / "a")
    made = (work.path / "labelled.npy").read_bytes()
    # what neither array nor digests show would be published too
    for content in (
        made + b"more",
        made.replace(b"}  ", b"} \t", 1),
    ):
        work = left(tmp_path / "a")
        (work.path / "labelled.npy").write_bytes(content)
        assert good(work) == whole[2:] and len((work.path / "labelled.npy").read_bytes()) == len(made)
    work = left(tmp_path / "a")
    (work.path / "labelled.npy").unlink()
    assert good(work) == whole[2:]
    work = left(tmp_path / "a")
    content = json.loads(work.checkpoint.read_text())
    for swapped in (
        [[name, 1 - slot, *rest] for name, slot, *rest in content[:2]],
        [[*content[0][:2], 99.0, content[0][3]]],
    ):
        work.checkpoint.write_text(json.dumps(swapped))
        assert good(work) == [], "another view's digest, and another clock"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "5",
        "[5]",
        "[[1, 2, 3, 4]]",
        '[["labelled", [], 0.5, "x"]]',
        '[["labelled", 0, "x", 5]]',
        '{"a": 1}',
        "",
    ],
)
def test_a_list_of_answers_that_is_none_begins_anew(text, tmp_path):
    work = left(tmp_path / "a")
    work.checkpoint.write_text(text)
    assert good(work) == []


# What is no file, and what is no folder


KINDS = {
    "file": lambda path: path.write_text("x"),
    "pipe": os.mkfifo,
    "link": lambda path: path.symlink_to(Path("outside").absolute()),
    "dead link": lambda path: path.symlink_to("nowhere"),
    "empty folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", KINDS)
def test_something_else_in_the_place_of_a_finished_folder_is_put_aside(kind):
    path = run().path
    shutil.rmtree(path)
    KINDS[kind](path)
    assert "it runs again" in made_again()


@pytest.mark.parametrize("kind", KINDS)
def test_something_else_in_the_place_of_an_unfinished_folder(kind):
    here = partial()
    here.rmdir()
    KINDS[kind](here)
    if "link" in kind:
        with pytest.raises(
            UserError, match="is a link, and the store would write to where it leads: remove it"
        ):
            run()
        here.unlink()
    assert run().file("out.txt").read_text() == "a"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "empty folder"])
@pytest.mark.parametrize("spot", ["store/train", "store/locks", "lock"])
def test_something_else_in_the_place_of_the_stores_own_folders(kind, spot):
    """One sentence, no waiting, and nothing is written through a link."""
    lock = partial()
    name = Path("store/locks") / f"train-{lock.name[:32]}.lock" if spot == "lock" else Path(spot)
    shutil.rmtree("store")
    name.parent.mkdir(parents=True)
    KINDS[kind](name)
    if (kind, spot) == ("file", "lock"):
        run()
        return
    with pytest.raises(
        UserError,
        match="is a link, and the store would write"
        if "link" in kind
        else "is a (file|pipe), where the store needs a f",
    ):
        run()


def test_own_file_and_own_folder_name_what_is_in_the_way(tmp_path):
    own_folder(tmp_path / "a/b", "the run")
    own_file(tmp_path / "a/c", "the run")
    with pytest.raises(
        UserError, match="is a folder, where the run needs a file: remove it, or move it away"
    ):
        own_file(tmp_path / "a", "the run")


# Modes


def test_files_get_the_mode_that_the_user_gives_to_files():
    before = os.umask(0o002)
    try:
        path = run().path
        (path / "out.txt").chmod(0o600)
        manifest = json.loads((path / MANIFEST).read_text())
        (path / MANIFEST).unlink()
        seal(path, manifest)
        assert {stat.S_IMODE(p.stat().st_mode) for p in path.iterdir()} == {0o664} and stat.S_IMODE(
            path.stat().st_mode
        ) == 0o775
        # some versions of filelock delete them
        assert {stat.S_IMODE(p.stat().st_mode) for p in Path("store/locks").iterdir()} <= {0o664}
    finally:
        os.umask(before)


def test_what_a_file_holds_is_cut_where_nobody_would_read_it():
    assert len(str(UserError(f"the file '{'x' * 10**7}' is none"))) < 700 and str(UserError("a b")) == "a b"
    assert len(str(UserErrors(["x " * 10**5, "fine"]))) < 5000 and str(
        UserErrors(["x " * 10**5, "fine"])
    ).endswith("\nfine")


# Run folders


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "metrics.jsonl",
        "train.log",
        "report.md",
        "figures",
        "artifacts",
        "curves",
        "figures/x.png",
        "curves/teacher",
    ],
)
def test_nothing_of_a_run_folder_is_written_through_a_link_or_into_a_pipe(name):
    spot = Path("rd") / name
    spot.parent.mkdir(parents=True, exist_ok=True)
    target = Path(
        "outside" if name in ("figures", "artifacts", "curves", "curves/teacher") else "outside/precious"
    ).absolute()
    for make, says in (
        (
            lambda: spot.symlink_to(target),
            f"'rd/{name}' is a link, and the run would write to where it leads: remove it",
        ),
        (lambda: os.mkfifo(spot), f"'rd/{name}' is a pipe, where the run needs a "),
    ):
        make()
        with pytest.raises(UserError, match=says):
            RunFolder("rd", {}, {}, {}, [])
        spot.unlink()


@pytest.fixture
def here(trained_here) -> list[str]:
    """Words of a run that the store has all of."""
    (trained_here / "outside/precious").write_text("mine")
    return ["train", "device=cpu", "device.threads=1", "teacher_pretrain.steps=12", "student_train.steps=8"]


def test_the_log_is_neither(here, capsys):
    """Hydra opens it before the run begins."""
    for make in (lambda path: path.symlink_to(Path("outside/precious").absolute()), os.mkfifo):
        Path("rd").mkdir()
        make(Path("rd/train.log"))
        assert main([*here, "hydra.run.dir=rd"]) == 2
        assert capsys.readouterr().err.count("/rd/train.log' is a ") == 1
        assert {p.name for p in Path("rd").iterdir()} - {"run.lock"} == {"train.log"}
        shutil.rmtree("rd")


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl"])
def test_a_file_of_a_run_folder_that_may_not_be_written_is_reported(here, capfd, name):
    Path("rd").mkdir()
    (Path("rd") / name).touch(mode=0o000)
    assert by_modes(lambda: main([*here, "hydra.run.dir=rd"])) == 2
    assert f"rd/{name}' may not be read and written" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["sweep.json", "later.json", "sweep.lock", "multirun.yaml"])
def test_nothing_of_a_sweep_is_written_through_a_link(name):
    Path("sweep").mkdir()
    (Path("sweep") / name).symlink_to(Path("outside/precious").absolute())
    with pytest.raises(UserError, match="is a link, and the sweep would write to where it leads: remove it"):
        sweep.begin_sweep(Path("sweep"), ["kdx"], {"0": []}, {}, named=True)


# A store that is read only


def by_modes(work: Callable[[], int]) -> int:
    """The exit code of what a child does for whom, also as root, modes count."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            obey_modes()
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def shared(here, trained_here) -> Iterator[Path]:
    """The folder of a run whose store may only be read."""
    paths = [Path("outputs"), *Path("outputs").rglob("*")]
    modes = {path: path.stat().st_mode for path in paths if not path.is_symlink()}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    yield trained_here
    for path, mode in modes.items():
        path.chmod(mode)


def snapshot(place: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in place.rglob("*"))


def test_a_read_only_store_serves_what_it_has(shared, here, capfd):
    before = snapshot(shared / "outputs")
    words = [*here, "hydra.run.dir=mine", "store=outputs/store"]
    assert by_modes(lambda: main(words)) == 0, capfd.readouterr().err
    assert all(stage["cached"] for stage in json.loads(Path("mine/run.json").read_text())["stages"])
    assert by_modes(lambda: main(["evaluate", "outputs/runs/a=b", "role=student", *here[1:3]])) == 0, (
        capfd.readouterr().err
    )
    assert by_modes(lambda: main(["export", "outputs/runs/a=b", "to=export", "format=state_dict"])) == 0, (
        capfd.readouterr().err
    )
    for action in ("ls", "verify", "gc"):
        assert by_modes(lambda action=action: main(["cache", action, "store=outputs/store"])) == 0, (
            capfd.readouterr().err
        )
    capfd.readouterr()
    assert by_modes(lambda: main([*words, "seed=5"])) == 2
    assert "cannot be written: no permission to write in" in capfd.readouterr().err
    assert snapshot(shared / "outputs") == before


def test_what_may_not_be_read_is_reported_and_stays(shared, here, capfd):
    prepared = next(Path("outputs/store/prepare").iterdir())
    for spot, says in (
        (prepared / "data.json", "data.json' may not be read by you"),
        (prepared, "manifest.json' may not be read by you"),
        (prepared.parent, "/prepare' may not be read by you"),
    ):
        mode = spot.stat().st_mode
        spot.chmod(0)
        before = snapshot(shared / "outputs/store")
        assert by_modes(lambda: main(["cache", "verify", "store=outputs/store"])) == 1
        said = capfd.readouterr().out
        assert says in said and "are whole" in said and "Traceback" not in said
        assert by_modes(lambda: main([*here, "hydra.run.dir=mine"])) == 2, spot
        said = capfd.readouterr().err
        assert "may not be read by you" in said and "cannot be written" not in said and said.count("\n") == 1
        assert "Traceback" not in said and snapshot(shared / "outputs/store") == before
        spot.chmod(mode)
