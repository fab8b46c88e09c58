"""`kdx cache`: what it lists, what verify finds, and that gc deletes what no run needs and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.runs import cleanup, store_entries
from kdx.runs.artifacts import WRITES
from kdx.store.disk import locked
from kdx.store.manifest import key_of
from kdx.store.source import sha256

STORE = Path("outputs/store")


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


def plant(stage: str, **inputs) -> tuple[str, str]:
    """A published artifact; an input (stage, key) is another one."""
    spelled = {
        name: {"artifact": "/".join(value)} if isinstance(value, tuple) else value
        for name, value in inputs.items()
    }
    whole = {"stage": stage, "version": 1, "inputs": spelled, "code": "0" * 64}
    path = STORE / stage / key_of(whole)
    path.mkdir(parents=True)
    (path / "content.json").write_text(json.dumps(inputs))
    for name in WRITES[stage]:
        (path / name).touch()
    files = {file.name: {"sha256": sha256(file), "size": file.stat().st_size} for file in path.iterdir()}
    (path / "manifest.json").write_text(
        json.dumps({**whole, "seconds": 1.0, "created": time.time() - 7200, "files": files})
    )
    return stage, path.name


def run(name: str, *artifacts: tuple[str, str], top: str = "outputs/runs") -> Path:
    folder = Path(top) / name
    folder.mkdir(parents=True)
    stages = [
        {"name": f"student-train-{i}" if stage == "train" else stage, "key": key}
        for i, (stage, key) in enumerate(artifacts)
    ]
    (folder / "run.json").write_text(
        json.dumps({"status": "finished", "config": {"store": str(STORE)}, "stages": stages})
    )
    return folder


def unfinished(stage: str, key: str, days: float) -> Path:
    path = STORE / stage / f"{key}.partial"
    path.mkdir(parents=True)
    (path / "checkpoint.pt").write_bytes(b"x" * 1000)
    for each in (path / "checkpoint.pt", path):
        os.utime(each, (time.time() - days * 86400,) * 2)
    return path


@pytest.fixture
def chain() -> dict[str, tuple[str, str]]:
    """data -> teacher -> answers -> student, and a student of another run."""
    data = plant(
        "prepare",
        dataset={
            "component": {"_target_": "kdx.data.datasets.digits.Digits", "image_size": 16},
            "sources": {},
        },
        labelled=100,
    )
    teacher = plant("teacher-pretrain", data=data)
    answers = plant(
        "pseudo-label", data=data, teachers=[{"artifact": "/".join(teacher)}], views={"labelled": 3}
    )
    loss = {"component": {"_target_": "kdx.methods.losses.kd.KD", "temperature": 4}, "sources": {}}
    return {
        "data": data,
        "teacher": teacher,
        "answers": answers,
        "student": plant("train", data=data, answers=answers, loss=loss),
        "other": plant(
            "train",
            data=data,
            loss={"component": {"_target_": "kdx.methods.losses.kd.KD", "temperature": 9}, "sources": {}},
        ),
    }


def paths() -> set[str]:
    return {
        p.relative_to(STORE).as_posix() for p in STORE.rglob("*") if p.relative_to(STORE).parts[0] != "locks"
    }


def says(capsys, *words: str, code: int = 0) -> str:
    assert main(["cache", *words]) == code
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return found.out + found.err


def test_ls_tells_what_is_there_and_who_needs_it(chain, capsys):
    run("first", chain["data"], chain["student"])
    run("job-0", chain["data"], top="outputs/sweeps/one")
    unfinished("train", "a" * 64, days=1)
    (STORE / "train" / f"{'b' * 64}.damaged-17").mkdir()
    (STORE / "train" / "notes.txt").write_text("not the store's")
    shown = says(capsys, "ls")
    assert "7 entries" in shown and "notes" not in shown
    row = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:]]
        for line in shown.splitlines()
        if line.count("|") == 7
    }
    student = row[f"train {chain['student'][1][:12]}"]
    assert (
        student[0] == "finished"
        and student[2] == "2 h"
        and student[3] == "first"
        and student[4] == "KD(temperature=4)"
    )
    assert row[f"prepare {chain['data'][1][:12]}"][3:5] == [
        "first and 1 more",
        "Digits(image_size=16) labelled=100",
    ]
    assert row[f"train {chain['other'][1][:12]}"][3] == "-"
    assert row[f"train {'a' * 12}"][:3] == ["unfinished", "1.00 kB", "24 h"]
    assert row[f"train {'b' * 12}"][0] == "damaged"


def test_ls_goes_on_where_a_run_cannot_be_read(chain, capsys):
    (run("broken", chain["data"]) / "run.json").write_text("{")
    assert "broken/run.json' cannot be read" in says(capsys, "ls")


def test_verify_names_what_is_damaged(chain, capsys):
    assert "5 of 5 artifacts" in says(capsys, "verify")
    file = STORE / "teacher-pretrain" / chain["teacher"][1] / "content.json"
    file.write_text(file.read_text().replace("prepare", "prepaer"))
    (STORE / "train" / chain["student"][1] / "content.json").unlink()
    other = STORE / "train" / chain["other"][1] / "manifest.json"
    other.write_text(other.read_text().replace('temperature": 9', 'temperature": 8'))
    (STORE / "pseudo-label" / chain["answers"][1] / "manifest.json").write_text("{")
    shown = says(capsys, "verify", code=1)
    assert f"{file} does not have the content" in shown and "content.json is missing" in shown
    assert (
        "does not belong to its folder" in shown and "cannot be read" in shown and "1 of 5 artifacts" in shown
    )


def test_gc_shows_first_and_deletes_when_asked(chain, capsys):
    run("first", chain["student"])  # names only the student: what it was made from stays too
    before = paths()
    shown = says(capsys, "gc")
    assert (
        "would free" in shown
        and chain["other"][1][:12] in shown
        and "1 of 5 entries" in shown
        and "yes=true" in shown
    )
    assert paths() == before
    shown = says(capsys, "gc", "yes=true")
    assert "1 of 5 entries" in shown and f"train {chain['other'][1][:12]}" in shown
    gone = before - paths()
    assert gone == {
        f"train/{chain['other'][1]}{end}"
        for end in ("", "/content.json", "/manifest.json", *(f"/{name}" for name in WRITES["train"]))
    }
    assert "0 of 4 entries" in says(capsys, "gc", "yes=true")


def test_sweeps_and_named_folders_hold_what_they_need(chain, capsys):
    run("job-0", chain["student"], top="outputs/sweeps/one")
    run("far", chain["other"], top="elsewhere")
    assert "1 of 5 entries" in says(capsys, "gc")
    assert "1 of 5 entries" in says(capsys, "gc", "runs=elsewhere/../outputs/sweeps")
    assert "0 of 5 entries" in says(capsys, "gc", "runs=outputs/sweeps", "runs=elsewhere", "yes=true")


def test_gc_of_a_store_elsewhere_looks_at_the_runs_beside_it(chain, tmp_path, monkeypatch, capsys):
    run("first", chain["student"])
    (tmp_path / "away/outputs/runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "away")
    assert "1 of 5 entries" in says(capsys, "gc", f"store={tmp_path / STORE}")


def test_gc_without_a_folder_of_runs_deletes_nothing(chain, capsys):
    before = paths()
    assert "everything would go" in says(capsys, "gc", "yes=true", code=2)
    assert "runs=nowhere does not exist" in says(capsys, "gc", "yes=true", "runs=nowhere", code=2)
    (run("broken", chain["student"]) / "run.json").write_text("[]")
    assert "run.json' is not as kdx writes it" in says(capsys, "gc", "yes=true", code=2)
    assert paths() == before


def test_gc_of_unfinished_and_damaged_ones(chain, capsys):
    run("first", *chain.values())
    old, young = unfinished("train", "a" * 64, days=8), unfinished("train", "b" * 64, days=6)
    aside = STORE / "train" / f"{chain['student'][1]}.damaged-17"
    aside.mkdir()
    assert "2 of 8 entries" in says(capsys, "gc", "yes=true")
    assert not old.exists() and not aside.exists() and young.exists()
    assert "0 of 6 entries" in says(capsys, "gc", "yes=true", "older_than=1w")
    assert "1 of 6 entries" in says(capsys, "gc", "yes=true", "older_than=12h")
    assert not young.exists() and len(list(STORE.glob("*/*"))) == 5 + len(list(STORE.glob("locks/*")))


def test_a_touched_file_keeps_an_unfinished_stage(chain):
    run("first", *chain.values())
    old = unfinished("train", "a" * 64, days=8)
    (old / "checkpoint.pt").write_bytes(b"a later checkpoint")
    os.utime(old, (0, 0))
    main(["cache", "gc", "yes=true"])
    assert old.exists()


def test_what_a_run_is_at_work_on_stays(chain, capsys):
    """The lock is that of another process, as a run's is."""
    run("first", *chain.values())
    old = unfinished("train", "a" * 64, days=8)
    (STORE / "locks").mkdir(exist_ok=True)
    code = (
        "import filelock, sys; lock = "
        f"filelock.FileLock({str(STORE / 'locks' / ('train-' + 'a' * 32 + '.lock'))!r}); lock.acquire()\n"
    )
    code += "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        for words in (["gc"], ["gc", "yes=true"]):
            shown = says(capsys, *words)
            assert "at work, stays:" in shown and "0 of 6 entries" in shown and old.exists()
        holder.stdin.close()
    assert "1 of 6 entries" in says(capsys, "gc", "yes=true") and not old.exists()


def test_the_lock_is_the_stores(chain, tmp_path):
    """Store and cache must mean the same file, or a lock protects nothing."""
    unfinished("train", "a" * 64, days=1)
    (entry,) = [e for e in store_entries.store_contents(STORE).entries if e.state == "unfinished"]
    with locked(tmp_path / STORE, "train", entry.key, None, print):
        assert cleanup.busy(STORE, entry) and not cleanup.remove(STORE, entry)
    assert not cleanup.busy(STORE, entry)


def test_links_are_neither_followed_nor_deleted(chain, tmp_path, capsys):
    run("first", chain["student"])
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    (STORE / "train" / ("c" * 64)).symlink_to(precious, target_is_directory=True)
    (STORE / "train" / f"{'d' * 64}.damaged-1").symlink_to(precious, target_is_directory=True)
    (STORE / "probe").symlink_to(precious, target_is_directory=True)
    inner = STORE / "train" / chain["other"][1]  # it goes, and has a link in it
    (inner / "link").symlink_to(precious, target_is_directory=True)
    (precious / ("e" * 64)).mkdir()
    shown = says(capsys, "gc", "yes=true")
    assert "1 of 5 entries" in shown and not inner.exists()
    assert (precious / "thesis.txt").read_text() == "years of work" and (precious / ("e" * 64)).is_dir()
    assert (STORE / "train" / ("c" * 64)).is_symlink() and (STORE / "probe").is_symlink()


def test_remove_refuses_what_is_not_in_the_store(chain, tmp_path):
    outside = tmp_path / "train" / ("c" * 64)
    outside.mkdir(parents=True)
    link = STORE / "train" / ("d" * 64)
    link.symlink_to(outside, target_is_directory=True)
    strange = STORE / "train" / "notes"
    strange.mkdir()
    for path in (outside, link, strange, STORE / "train" / ".." / ".." / ".." / "train" / ("c" * 64)):
        with pytest.raises(UserError, match="nothing was deleted"):
            cleanup.remove(
                STORE, store_entries.StoreEntry("train", "c" * 64, "finished", path, 0, 0.0, "", ())
            )
    assert outside.is_dir() and strange.is_dir()


def test_a_store_that_is_a_link_itself_is_a_store(chain, tmp_path, capsys):
    run("first", chain["student"])
    STORE.rename(tmp_path / "disk")
    STORE.symlink_to(tmp_path / "disk", target_is_directory=True)
    assert "1 of 5 entries" in says(capsys, "gc", "yes=true")
    assert not (tmp_path / "disk/train" / chain["other"][1]).exists()


def test_folders_that_are_not_the_stores_are_left_alone(chain, capsys):
    """Another program's store has hash-named folders too,
    but not in folders that are named like our stages.
    """
    run("first", *chain.values())
    for path in (STORE / "sha256" / ("f" * 64), STORE / "train" / "backup", STORE / "train" / ("F" * 64)):
        path.mkdir(parents=True)
    assert "0 of 5 entries" in says(capsys, "gc", "yes=true", "older_than=0")
    assert (STORE / "sha256" / ("f" * 64)).is_dir() and (STORE / "train" / "backup").is_dir()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["prune"], "kdx cache needs one of ls, verify, gc, forget; given: prune"),
        ([], "given: nothing"),
        (["gc", "older_then=7d"], "did you mean 'older_than'?"),
        (["gc", "older_than=soon"], "older_than must be a time such as 7d, 12h or 0; given: 'soon'"),
        (["gc", "yes=yes"], "yes has no option 'yes'"),
        (["ls", "store=nowhere"], "the store 'nowhere' does not exist"),
    ],
)
def test_bad_words(chain, capsys, words, text):
    assert text in says(capsys, *words, code=2)


def test_times():
    assert [cleanup.parse_duration(t) for t in ("0", "90s", "30m", "12h", "7d", "1.5w")] == [
        0,
        90,
        1800,
        43200,
        604800,
        907200,
    ]
    assert [cleanup.age(t) for t in (5, 119, 120, 7200, 172799, 172800)] == [
        "5 s",
        "119 s",
        "2 min",
        "2 h",
        "48 h",
        "2 d",
    ]
