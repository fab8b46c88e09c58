"""`kdx cache forget`: all that was made of some data goes, nothing else does, and what it cannot reach is
named.
"""

import json
import shutil
from pathlib import Path

import filelock
import pytest
from test_cache import STORE, inside, paths, plant, run, says, unfinished  # noqa: F401 (inside is a fixture)

from kdx.cli import main
from kdx.store.disk import lock_file
from kdx.store.manifest import begin, key_of
from kdx.store.source import Source


@pytest.fixture
def two(inside):  # noqa: F811
    """What two data sets made: one in a file, whose runs name it, and another."""
    Path("mine.csv").write_text("a,y\n1,0\n")
    digest = Source(named=[("rows.csv", Path("mine.csv"))]).digest()
    component = {"_target_": "kdx.data.datasets.csv.Csv"}
    found = {
        "decode": plant("decode", dataset={"component": component, "sources": {"train": digest}}),
        "other": plant("decode", dataset={"component": component, "sources": {"train": "f" * 64}}),
    }
    found["data"] = plant("prepare", decoded=found["decode"])
    found["data of the other"] = plant("prepare", decoded=found["other"])
    found["student"] = plant("train", data=found["data"])
    found["student of the other"] = plant("train", data=found["data of the other"])
    student = {"artifact": "/".join(found["student"])}
    found["evaluation"] = plant("evaluate", data=found["data"], models={"student": student})
    # one that was made of another file of the same content with other settings
    found["again"] = plant("decode", dataset={"component": component, "sources": {"train": digest}}, size=2)
    run("mine", found["decode"], found["data"], found["student"])
    run("theirs", found["other"], found["data of the other"], found["student of the other"])
    return found


def of(two, *names):
    return {"/".join(two[name]) for name in names}


MINE = ("decode", "data", "student", "again")


@pytest.mark.parametrize("named", ["outputs/runs/mine", "mine.csv"])
def test_a_run_or_its_file_is_forgotten_whole(two, capsys, named):
    before = paths()
    shown = says(capsys, "forget", named)
    assert "would erase" in shown and paths() - {"sources.json"} == before
    shown = says(capsys, "forget", named, "yes=true")
    assert "erased" in shown and "not reached: the run folder" in shown and "runs/mine" in shown
    left = {path for path in paths() if path.count("/") == 1}
    assert left == of(two, "other", "data of the other", "student of the other")
    assert "theirs" not in shown and Path("outputs/runs/mine/run.json").exists()


def test_a_moved_file_is_known_by_the_runs_that_name_it(two, capsys):
    document = json.loads(Path("outputs/runs/mine/run.json").read_text())
    document["config"]["dataset"] = {"file": "mine.csv"}
    Path("outputs/runs/mine/run.json").write_text(json.dumps(document))
    Path("mine.csv").write_text("a,y\n2,1\n")  # a person asked for another content meanwhile
    assert "student" in two and "prepare" in says(capsys, "forget", "mine.csv")


def test_a_key_takes_what_was_made_of_it_and_no_more(two, capsys):
    says(capsys, "forget", two["data"][1][:12], "yes=true")
    gone = of(two, "data", "student", "evaluation")
    assert not gone & paths() and of(two, "decode", "again") <= paths()


def test_what_was_made_of_others_goes_first(two, capsys):
    lines = says(capsys, "forget", "outputs/runs/mine").splitlines()
    order = [line.split()[4] for line in lines if line.startswith("would erase")]
    assert order.index("train") < order.index("prepare") < order.index("decode")


def test_what_is_unfinished_tells_what_it_was_made_of(two, capsys):
    """Of a run that was killed: its folder holds checkpoints that have seen the rows."""
    for data in ("data", "data of the other"):
        inputs = {"data": {"artifact": "/".join(two[data])}, "seed": 3}
        whole = {"stage": "train", "version": 1, "inputs": inputs, "code": "0" * 64}
        begin(unfinished("train", key_of(whole), days=0), whole)
    wrong = unfinished("train", "c" * 64, days=0)
    begin(wrong, whole)  # of another key: not believed
    shown = says(capsys, "forget", "outputs/runs/mine", "yes=true")
    left = {path.name for path in (STORE / "train").iterdir() if path.name.endswith(".partial")}
    assert left == {wrong.name, f"{key_of(whole)}.partial"}
    assert "nothing tells what they are made of: 1 unfinished" in shown


def test_exports_and_unfinished_folders_are_named(two, capsys):
    folder = Path("outputs/runs/mine/export/student")
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{}")
    unfinished("train", "a" * 64, days=1)
    shown = says(capsys, "forget", "outputs/runs/mine")
    assert f"not reached: the export {folder.absolute()}" in shown
    assert "nothing tells what they are made of: 1 unfinished or damaged folder" in shown
    assert (STORE / "train" / f"{'a' * 64}.partial").exists()


def test_while_a_run_is_at_work_nothing_goes(two, capsys):
    before = paths()
    with filelock.FileLock(lock_file(STORE, *two["student"])):
        shown = says(capsys, "forget", "outputs/runs/mine", "yes=true", code=2)
    assert "at work" in shown and "nothing was erased" in shown and before <= paths()


def test_a_run_at_work_on_other_data_is_no_obstacle(two, capsys, monkeypatch):
    """What it has begun does not tell what it is made of; its run folder tells that it has other data."""
    monkeypatch.setattr("kdx.report.run.document._is_held", lambda folder: folder.name == "theirs")
    theirs = Path("outputs/runs/theirs/run.json")
    theirs.write_text(json.dumps({**json.loads(theirs.read_text()), "status": "running"}))
    unfinished("train", "a" * 64, days=0)
    with filelock.FileLock(lock_file(STORE, "train", "a" * 64)):
        unfinished("train", "b" * 64, days=0)
        with filelock.FileLock(lock_file(STORE, "train", "b" * 64)):  # of a run that no folder tells of
            assert "at work" in says(capsys, "forget", "outputs/runs/mine", "yes=true", code=2)
        says(capsys, "forget", "outputs/runs/mine", "yes=true")
        assert "at work" in says(capsys, "forget", "outputs/runs/theirs", "yes=true", code=2)
    assert not of(two, *MINE) & paths() and of(two, "student of the other") <= paths()


def test_stores_of_reruns_are_looked_through(two, capsys):
    again = run("again", two["decode"], two["data"], top="outputs/reruns")
    shutil.copytree(STORE / "decode", again / "store/decode")
    shutil.copytree(STORE / "prepare", again / "store/prepare")
    away = run("away", two["decode"])
    shutil.copytree(STORE / "decode", "away/decode")
    document = json.loads((away / "run.json").read_text())
    (away / "run.json").write_text(json.dumps({**document, "config": {"store": "away"}}))
    shown = says(capsys, "forget", "outputs/runs/mine", "yes=true")
    left = {f"{path.parent.name}/{path.name}" for path in (again / "store").glob("[dp]*/*")}
    assert left == of(two, "other", "data of the other")
    assert f"in {STORE} and {again.absolute() / 'store'}" in shown
    assert "not reached: the store away" in shown and len(list(Path("away/decode").iterdir())) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs what is to be forgotten"),
        (["nowhere"], "does not exist, and is no key"),
        (["0" * 12], "nothing in the store"),
        (["empty.csv"], "nothing in the store"),
    ],
)
def test_what_it_cannot_mean_is_said(two, capsys, words, said):
    Path("empty.csv").touch()
    assert said in says(capsys, "forget", *words, code=2)


def test_the_document_tells_the_same(two, capsys):
    assert main(["cache", "forget", "outputs/runs/mine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["erased"] is False and len(found["entries"]) == 5 and found["exports"] == []
