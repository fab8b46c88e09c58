"""A run folder and a store of before the rooms are still read:
the addresses in them are brought up to date.
"""

from __future__ import annotations

import json
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from kdx import cli
from kdx.config.wire import wire
from kdx.report.run import document
from kdx.store import moved
from kdx.store.component import Component, targets, terms_of

BEFORE = Path(__file__).parent / "before_rooms"
"""Written by the code of 8af781b31f41, or a little before; see its run.json. Never written anew."""


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    shutil.copytree(BEFORE, tmp_path / "old")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "old" / "run"


def test_every_address_of_before_leads_to_code():
    """Also those of the folder, none of which is a new one but for the models."""
    named = set(targets(json.loads((BEFORE / "run" / "run.json").read_text())["config"]))
    assert {name for name in named if moved.address(name) == name} == {"kdx.models.mlp.mlp"}
    for old in named:
        module, _, name = moved.address(old).rpartition(".")
        if name != "NoFeatures":  # which stands for no term: see test_a_slot_of_one_term
            assert getattr(import_module(module), name).__module__ == module
    for old, new in moved.MOVED.items():
        assert old != new and moved.address(old) == new and moved.address(new) == new
        module, _, name = new.rpartition(".")
        assert (found := getattr(import_module(module), name, None)) is not None or import_module(new), found


def test_what_is_not_moved_stays():
    for name in ("kdx.models.mlp.mlp", "torch.optim.SGD", "mine.losses.Mine", "kdx.lossesandmore.x", "kdx"):
        assert moved.address(name) == name
    value = {"a": [{"_target_": "kdx.losses.kd.KD", "text": "kdx.losses.kd.KD"}], "_target_": 3}
    new = {"a": [{"_target_": "kdx.methods.losses.kd.KD", "text": "kdx.losses.kd.KD"}], "_target_": 3}
    assert moved.current(value) == new


def test_a_slot_of_one_term_becomes_one_of_several():
    vid = {"_target_": "kdx.features.vid.VID", "weight": 2}
    loss = {"_target_": "kdx.losses.soft.Soft", "features": vid}
    new = {"_target_": "kdx.methods.features.vid.VID", "weight": 2}
    assert moved.current(loss)["features"] == {"vid": new} and Component(loss).spec["features"] == {
        "vid": new
    }
    none = {"_target_": "kdx.features.none.NoFeatures"}
    assert moved.current({"features": none}) == {"features": {}} and moved.current(vid) == new
    own = {"_target_": "mine.odd.Odd"}
    assert moved.current({"features": own}) == {"features": own}
    assert terms_of({"features": own}) == {"odd": own} and terms_of({"features": {"a": own}}) == {"a": own}
    assert terms_of({}) == terms_of({"features": {}}) == terms_of({"features": None}) == {}


def test_a_component_knows_its_code_by_the_new_address():
    spec = {"_target_": "kdx.losses.soft.Soft", "weights": {"_target_": "kdx.weights.one.One"}}
    new = {"_target_": "kdx.methods.losses.soft.Soft", "weights": {"_target_": "kdx.methods.weights.one.One"}}
    assert (
        Component(spec) == Component(new)
        and Component(spec).resolve().__module__ == "kdx.methods.losses.soft"
    )


def test_a_run_json_is_read_with_the_new_addresses(run):
    config = document.read_document(run / "run.json")["config"]
    assert all(moved.address(name) == name for name in targets(config))
    assert config["recipe"]["_target_"] == "kdx.pipeline.recipes.distil.Distil"


YOUNGER = {
    "teacher": {"reads": None, "through": None, "classes_map": None, "classes_unmapped": "drop"},
    "pseudo_label": {
        **{"format": "dense", "k": 8, "draws": 50, "prompt": 0.25, "drawn_at": 1},
        **{"temperature": "auto", "precision": "auto", "shards": 1, "shard": None},
    },
    "teacher_pretrain": {"accumulate": 1, "head_first": 0, "layer_decay": 1},
    "student": {"reads": None},
    "student_train": {"accumulate": 1},
    "dataset": {"kd_temperature": 4, "near_copies": False},
}
"""Keys that came after that run, which has their defaults."""


def test_the_configuration_of_before_is_wired(run):
    """As it stands in the file, old addresses and all."""
    order = wire(json.loads((run / "run.json").read_text())["config"])
    assert order.recipe.target == "kdx.pipeline.recipes.distil.Distil"
    assert all(moved.address(name) == name for name in targets(dict(order.config)))


def test_evaluate_measures_what_run_json_says(run, capsys):
    recorded = json.loads((run / "run.json").read_text())["results"]
    assert (
        cli.main(["evaluate", str(run), f"store={run.parent / 'store'}", "device=cpu", "json=found.json"])
        == 0
    )
    found = json.loads(Path("found.json").read_text())
    reported = re.findall(r'"accuracy": ([\d.]+)', json.dumps(found))
    assert reported and set(map(float, reported)) <= {
        recorded[role]["last"]["test"]["accuracy"] for role in ("teacher", "baseline", "student")
    }


def test_export_writes_the_student(run, capsys):
    words = ["export", str(run), f"store={run.parent / 'store'}", "format=state_dict", "to=out"]
    assert cli.main(words) == 0
    assert Path("out/card.md").is_file() and Path("out/model.json").is_file()


def test_rerun_gives_the_same_numbers(run, capsys):
    """Bit for bit on the machine that wrote them; elsewhere at least the same run, from the same options."""
    assert cli.main(["rerun", str(run), "store=new", "device=cpu", "to=again"]) in (0, 1)
    new, old = (json.loads(path.read_text()) for path in (Path("again/run.json"), run / "run.json"))
    assert new["status"] == "finished" and [s["name"] for s in new["stages"]] == [
        "decode",
        *(s["name"] for s in old["stages"][:-1]),
        *("teacher-predict", "baseline-predict", "evaluate"),
    ]
    assert new["results"]["student"]["steps"] == old["results"]["student"]["steps"]
    ours, theirs = (
        {k: moved.current(v) for k, v in reported["config"].items() if k not in ("store", "device")}
        for reported in (new, old)
    )
    # the group is younger than that run
    assert theirs.pop("student_init") == "fresh"  # as init=fresh says now
    chosen = {"made_up": "none", "pool": "own", "init": "fresh", "aggregate": "mean"}
    for node, younger in YOUNGER.items():
        theirs[node] = {**theirs[node], **younger}
    assert ours == {
        **theirs,
        "made_up": {},
        "pool": {},
        "init": {},
        "aggregate": {},
        "answer_price": None,
        "answer_seconds": None,
        "publish": None,
        "probed_student": False,
        "untuned_student": False,
        "choices": {**theirs["choices"], **chosen},
    }


def test_a_store_of_before_is_reported_of_once(run, capsys):
    words = ["rerun", str(run), f"store={run.parent / 'store'}", "device=cpu"]
    for to, times in (("one", 1), ("two", 0)):
        assert cli.main([*words, f"to={to}"]) in (0, 1)
        reported = capsys.readouterr()
        assert (reported.out + reported.err).replace("\n", " ").count("was begun by an older kdx") == times
        shutil.rmtree(run.parent / "store" / "train")  # all of the second run is not in the store
