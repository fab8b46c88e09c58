"""What `precision: auto` settles on."""

import importlib.util
import json
import platform
import sys
from importlib import import_module

import pytest

from kdx.pipeline.recipes.answer_precision import answer_precision
from kdx.pipeline.recipes.experiment import TeacherSetup
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.work import Listener, Work
from kdx.training import runtime
from kdx.training.runtime import Runtime

probe = import_module("kdx.pipeline.stages.probe")  # the module; in the package its name is the stage's

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=60)
MODEL = Component({"_target_": "kdx.models.mlp.mlp", "hidden": 4, "dropout": 0.0, "stochastic_depth": 0.0})


def settle(tmp_path, monkeypatch, bf16, **more):
    """(probe.json, sizes of the batches tried in bf16), where an fp32 step takes a second and one in bf16
    takes `bf16`
    """
    tried = []

    def step(trial, pictures, y, precision):
        tried.extend([len(pictures)] if precision == "bf16" else [])
        return bf16 if precision == "bf16" else 1.0

    for trial in (probe.Trial, probe.AnswerTrial):
        monkeypatch.setattr(trial, "step", step)
    data = tmp_path / "data"
    data.mkdir()
    (data / "data.json").write_text(
        json.dumps({"shape": [1, 4, 4], "classes": ["a", "b"], "mean": [0.5], "std": [0.5]})
    )
    probe.run(
        Work(tmp_path, "probe", Listener()),
        CPU,
        data=Artifact("prepare", "0" * 64, data),
        model=MODEL,
        batch_size=32,
        machine="this one",
        **more,
    )
    return json.loads((tmp_path / "probe.json").read_text()), tried


@pytest.mark.parametrize(("bf16", "chosen"), [(0.5, "bf16"), (1.5, "fp32")])
def test_the_faster_precision_is_taken(tmp_path, monkeypatch, bf16, chosen):
    found, tried = settle(tmp_path, monkeypatch, bf16)
    assert found == {"precision": chosen, "seconds": {"fp32": 1.0, "bf16": bf16}} and 32 in tried


def test_a_hopeless_precision_is_tried_on_a_few_pictures_only(tmp_path, monkeypatch):
    found, tried = settle(tmp_path, monkeypatch, 10.0)
    assert found == {"precision": "fp32", "seconds": {"fp32": 1.0}} and set(tried) == {8}


def asked(precisions, given="auto", stage="teacher-pretrain", fitted=False):
    """(the precision of the answers, networks that were probed), where bf16 answers faster. precisions: of
    the teachers' training, None: a file of weights."""
    probed = []

    class Probing:
        runtime = CPU

        def run(self, stage, **inputs):
            probed.append((inputs["model"].target, inputs["answers"]))
            return type("Found", (), {"json": lambda *_: {"precision": "bf16"}})()

    def training(precision):
        return precision and Component({"_target_": "a.b", "precision": precision, "batch_size": 8})

    experiment = type("Asked", (), {})()
    experiment.pseudo_label = {"precision": given}
    experiment.student, experiment.student_train = Component({"_target_": "the.student"}), training("auto")
    experiment.teachers = [
        TeacherSetup("x", MODEL, None, training(precision), fitted=fitted) for precision in precisions
    ]
    teachers = [Artifact(stage, "0" * 64, None)] * len(precisions)
    return answer_precision(Probing(), None, teachers, experiment), probed


def test_a_teacher_answers_in_no_fewer_bits_than_it_learned_with():
    assert asked(["fp32"]) == ("fp32", []) and asked([None]) == ("fp32", [])
    assert asked(["bf16"]) == ("bf16", [(MODEL.target, True)]) == asked(["auto"])
    assert asked(["bf16", "fp32"]) == ("fp32", [])
    assert asked(["fp32"], given="bf16") == ("bf16", []) and asked(["bf16"], given="fp32") == ("fp32", [])
    assert asked([None], fitted=True) == ("fp32", [])
    assert asked(["fp32"], stage="train") == ("bf16", [("the.student", True)]), (
        "a student of the round before"
    )


@pytest.mark.parametrize(("bf16", "chosen"), [(0.8, "bf16"), (0.95, "fp32"), (1.5, "fp32")])
def test_fewer_bits_are_worth_a_tenth(tmp_path, monkeypatch, bf16, chosen):
    found, _ = settle(tmp_path, monkeypatch, bf16, answers=True)
    assert found["precision"] == chosen


@pytest.mark.parametrize("more", [{}, {"answers": True}])
def test_a_real_step_takes_time_and_leaves_a_choice(tmp_path, more):
    (tmp_path / "data.json").write_text(
        json.dumps({"shape": [1, 4, 4], "classes": ["a", "b"], "mean": [0.5], "std": [0.5]})
    )
    probe.run(
        Work(tmp_path, "probe", Listener()),
        CPU,
        data=Artifact("prepare", "0" * 64, tmp_path),
        model=MODEL,
        batch_size=8,
        machine="this one",
        **more,
    )
    found = json.loads((tmp_path / "probe.json").read_text())
    assert found["precision"] in found["seconds"] and all(s > 0 for s in found["seconds"].values())


@pytest.mark.parametrize(
    ("more", "nothing"),
    [({}, {"precision": "fp32"}), ({"threads": {"tried": [1, 2], "precision": "fp32"}}, {})],
)
def test_a_network_that_learns_from_no_made_up_rows_is_not_tried(tmp_path, monkeypatch, more, nothing):
    def step(*given):
        raise RuntimeError("no gradient here")

    (tmp_path / "data.json").write_text(
        json.dumps({"shape": [1, 4, 4], "classes": ["a", "b"], "mean": [0.5], "std": [0.5]})
    )
    monkeypatch.setattr(probe.Trial, "step", step)
    data = Artifact("prepare", "0" * 64, tmp_path)
    work = Work(tmp_path, "probe", Listener())
    probe.run(work, CPU, data=data, model=MODEL, batch_size=8, machine="this one", **more)
    assert json.loads((tmp_path / "probe.json").read_text()) == {**nothing, "seconds": {}}
    assert "no gradient here" in (tmp_path / "notes.jsonl").read_text()


@pytest.mark.parametrize(
    ("flags", "has"),
    [("sse2 avx2 avx512_bf16", True), ("fp asimd bf16", True), ("sse2 avx2 avx512f", False), ("", False)],
)
def test_the_benchmark_tells_a_processor_with_bf16_instructions(root, monkeypatch, flags, has):
    spec = importlib.util.spec_from_file_location("bench", root / "scripts" / "bench.py")
    bench = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench", bench)
    spec.loader.exec_module(bench)
    monkeypatch.setattr(bench, "cpuinfo", lambda field: flags if field == "flags" else "")
    assert bench.has_bf16() is has


def test_a_processor_without_a_name_is_reported_by_its_kind(monkeypatch, tmp_path):
    """As on ARM, whose /proc/cpuinfo names none, and on systems that have no such file."""
    for name, content in {
        "none": None,
        "arm": "processor : 0\nFeatures : fp asimd\n",
        "x86": "model name : This One\n",
    }.items():
        if content:
            (tmp_path / name).write_text(content)
        monkeypatch.setattr("builtins.open", lambda *given, name=name: (tmp_path / name).open())
        reported = runtime._processor()
        monkeypatch.undo()
        assert (
            reported == "This One"
            if name == "x86"
            else reported in (platform.processor(), platform.machine()) and reported
        )
