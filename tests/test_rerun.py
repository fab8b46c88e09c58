"""`kdx rerun`: a run folder run again from itself gives the same numbers, whatever it was; where it does not,
it says which and why.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdx.cli import main
from kdx.config import compose, restore
from kdx.config.options import options_of, use_own
from kdx.runs import diff
from kdx.runs.reading import read_run
from kdx.store.manifest import manifest_digest
from kdx.store.source import sha256
from kdx.training.runtime import Runtime

RUN = Path("outputs/runs/a=b")
SHORT = [
    "device=cpu",
    "device.threads=1",
    "dataset.test=60",
    "dataset.validation=40",
    "dataset.unlabelled=80",
    "teacher=cnn_tiny",
    "teacher_pretrain.steps=6",
    "student_train.steps=6",
]


@pytest.fixture
def place(trained_here) -> Path:
    return trained_here


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(run: Path = RUN) -> dict:
    return json.loads((run / "run.json").read_text())


def change(run: Path = RUN, **parts) -> None:
    (run / "run.json").write_text(json.dumps(document(run) | parts))


def rerun(*words: str, code: int = 0, run: Path = RUN) -> dict:
    """What rerun.json says of a rerun."""
    shutil.rmtree("again", ignore_errors=True)
    assert main(["rerun", str(run), "to=again", *words]) == code
    return json.loads(Path("again/rerun.json").read_text())


def train(*words: str) -> list[Path]:
    """The run folders of a command that succeeds."""
    assert main(["train", *SHORT, *words]) == 0
    return sorted(p.parent for p in Path("outputs").glob("*/**/run.json"))


def reported(words, capsys, code: int = 2) -> str:
    assert main(words) == code
    text = capsys.readouterr().err
    assert "Traceback" not in text and len(text.splitlines()) <= 4, text
    return text


def test_the_same_bit_for_bit_from_a_store_of_its_own(place, capsys):
    shutil.rmtree("outputs/store")  # the folder alone is enough
    found = rerun()
    weights = document()["results"]["student"]["weights"]["last"]
    assert (
        found["same"]
        and found["compared"] > 300
        and found["student"] == weights
        and found["stages"] == []
        and found["from_store"] == []
    )
    said = capsys.readouterr().out
    assert (
        f"the same, bit for bit: {found['compared']} numbers, and the student's weights (SHA-256 {weights})"
        in said
    )
    now = document(Path("again"))
    assert now["store"] == str(Path("again/store").resolve()) and not Path("outputs/store").exists()
    assert (
        now["command"][:2] == ["kdx", "rerun"]
        and "teacher-pretrain is done after" in Path("again/train.log").read_text()
    )
    assert [s["key"] for s in now["stages"]] == [s["key"] for s in document()["stages"]] and not any(
        s["cached"] for s in now["stages"]
    )
    assert [s["code"] for s in now["stages"]] == [s["code"] for s in document()["stages"]]


def test_a_store_that_is_named_is_used_and_that_is_reported(place, capsys):
    found = rerun("store=outputs/store")
    assert found["same"] and found["from_store"] == [s["name"] for s in document()["stages"]]
    assert "nothing was computed again" in capsys.readouterr().out
    assert not Path("again/store").exists()


def test_run_json_tells_what_was_settled_also_from_the_store(place):
    settled = document()["environment"]["settled"]
    assert (
        settled["device"] == "cpu"
        and settled["threads"] == 1
        and settled["hardware"]
        and settled["torch"] == torch.__version__.split("+")[0]
    )
    assert (
        settled["precision"] == {"teacher": "fp32", "baseline": "fp32", "student": "fp32"}
        and "elsewhere" not in document()["environment"]
    )
    file = read_run(RUN).role("teacher").file("manifest.json")
    manifest = json.loads(file.read_text())
    manifest["made"]["threads"] = 5  # how it was made enters no key
    file.write_text(json.dumps(manifest | {"sha256": manifest_digest(manifest)}))
    rerun("store=outputs/store")
    environment = document(Path("again"))["environment"]
    assert environment["settled"]["threads"] == 1 and environment["elsewhere"] == {
        "teacher-pretrain": {"threads": 5}
    }
    rows = {s["name"]: s for s in document()["stages"]}
    path = Path("outputs/store/train") / rows["student-train"]["key"]
    assert document()["results"]["student"]["weights"]["best"] == sha256(path / "best.safetensors")


def asked_for(monkeypatch, *words: str) -> Runtime:
    """What a rerun would compute with; it is stopped before it does."""
    orders = []
    with monkeypatch.context() as patch:
        patch.setattr("kdx.commands.rerun.run_again", lambda order, to, words: orders.append(order) or 2)
        assert main(["rerun", str(RUN), "to=again", *words]) == 2
    return orders[0].runtime


def test_threads_are_those_of_the_run_and_too_few_cores_are_reported(place, capsys, monkeypatch):
    """The run asked for `auto`; what that was settled as counts."""
    config, environment = document()["config"], document()["environment"]
    change(
        config=config | {"device": config["device"] | {"threads": "auto"}},
        environment=environment | {"settled": environment["settled"] | {"threads": 2}},
    )
    monkeypatch.setattr("kdx.commands.rerun.cores", lambda: 1)
    assert asked_for(monkeypatch).threads == 2
    assert "the run used 2 threads, and so does this one, with 1 cores" in capsys.readouterr().err
    assert asked_for(monkeypatch, "device.threads=4").threads == 4
    said = capsys.readouterr().err
    assert "device.threads=4, with 1 cores: slower" in said and "the run used" not in said
    assert (
        asked_for(monkeypatch, "device.threads=1").threads == 1
        and asked_for(monkeypatch, "device=cpu").threads == "auto"
    )
    assert not Path("again").exists()


def test_an_older_run_is_known_by_its_artifacts(place, capsys, monkeypatch):
    """Without what this version adds to run.json: threads and weights are then read in the store, where it is
    there.
    """
    old = document()
    for stage in old["stages"]:
        stage.pop("code"), stage.pop("sources", None)
    for role in ("teacher", "baseline", "student"):
        old["results"][role].pop("weights")
        for which, split in itertools.product(("last", "best"), ("train", "validation", "test")):
            for key in ("balanced_accuracy", "recall"):
                old["results"][role][which][split].pop(key, None)
    old["results"].pop("class_counts")
    old["environment"].pop("settled")
    old["config"]["device"]["threads"] = "auto"
    change(**old)
    assert diff.weights(read_run(RUN))["student, last"] == sha256(
        read_run(RUN).role("student").path / "last.safetensors"
    )
    found = rerun("store=outputs/store")
    assert found["same"] and found["student"] and found["environment"] == [] and found["notes"] == []
    assert asked_for(monkeypatch).threads == 1 and "not recorded" not in capsys.readouterr().err
    shutil.rmtree("outputs/store")
    assert asked_for(monkeypatch).threads == "auto"
    assert "the number of threads was not recorded" in capsys.readouterr().err


def test_other_numbers_are_listed_and_a_folder_that_lies_is_found_out(place, capsys):
    results = document()["results"]
    results["student"]["last"]["test"]["accuracy"] += 0.25
    results["student"]["latency_ms"] += 100  # a time: not compared
    change(results=results)
    found = rerun("store=outputs/store", code=1)
    (number,) = found["numbers"]
    assert number["what"] == "results.student.last.test.accuracy" and number["recorded"] - number[
        "now"
    ] == pytest.approx(0.25)
    said = capsys.readouterr().out
    assert (
        f"1 of {found['compared']} numbers differ" in said
        and "-0.25" in said
        and "the folder's numbers are not those of its run" in said
    )


def test_weights_that_differ_are_reported_though_no_number_does(place, capsys):
    results = document()["results"]
    results["student"]["weights"]["last"] = "0" * 64
    change(results=results)
    found = rerun("store=outputs/store", code=1)
    assert (
        found["numbers"] == []
        and [w["what"] for w in found["weights"]] == ["student, last"]
        and found["student"] is None
    )
    assert "from weights that differ: student, last" in capsys.readouterr().out


def test_why_the_numbers_differ_settings_data_and_what_follows(place, capsys):
    """The folder's configuration says another seed than its artifacts were made with."""
    change(config=document()["config"] | {"seed": 5})
    found = rerun(code=1)
    why = {row["name"]: row["why"] for row in found["stages"]}
    assert (
        why["prepare"].startswith("seed: ")
        and "made from another prepare" in why["teacher-pretrain"]
        and "made from another" in why["evaluate"]
    )
    assert len(found["numbers"]) > 20 and "Stages that were made of something else" in capsys.readouterr().out
    numbers = [(n["what"], n["recorded"], n["now"]) for n in found["numbers"]]
    assert len(diff.worth_showing(numbers, 20, "accuracy")) == 20


def test_why_the_numbers_differ_code_and_versions_from_the_folder_alone(place, capsys):
    shutil.move("outputs/store", "kept")
    stages, results, environment = (document()[key] for key in ("stages", "results", "environment"))
    stages[6] |= {"key": "1" * 64, "code": "2" * 64}
    stages[2] |= {"key": "3" * 64}
    stages[3] |= {"key": "4" * 64, "code": None}
    results["gain"] = 7
    environment["settled"] |= {"torch": "1.0", "threads": 1}
    change(stages=stages, results=results, environment=environment | {"commit": "older"})
    found = rerun("store=kept", code=1)
    assert {"name": stages[6]["name"], "why": "other code"} in found["stages"]
    assert {
        "name": "teacher-pretrain",
        "why": "the same code: its settings, or what it was made from",
    } in found["stages"]
    assert {"name": "pseudo-label", "why": "it cannot be known: its artifact is not here"} in found["stages"]
    assert [row["what"] for row in found["environment"]] == ["commit", "torch"]
    said = capsys.readouterr().out
    assert "1.0" in said and "other code" in said


def test_inputs_are_distinguished_by_name():
    there = {
        "data": {"artifact": "prepare/1"},
        "training": {"component": {"lr": 0.1, "augment": [["a", {"x": 1}]]}, "sources": {}},
        "seed": 1,
        "dataset": {"component": {}, "sources": {"root": "a"}},
        "checkpoint": {"source": "b"},
    }
    here = {
        "data": {"artifact": "prepare/2"},
        "training": {"component": {"lr": 0.2, "augment": [["a", {"x": 2}]]}, "sources": {}},
        "seed": 1,
        "dataset": {"component": {}, "sources": {"root": "c"}},
        "checkpoint": {"source": "d"},
    }
    assert list(diff._inputs(there, here, "")) == [
        "made from another prepare",
        "training.lr: 0.1 there, 0.2 here",
        "training.augment.0.1.x: 1 there, 2 here",
        "other data: dataset.root",
        "other data: checkpoint.source",
    ]


def test_a_run_that_failed_is_run_and_that_nothing_can_be_compared_is_reported(place, capsys):
    change(status="failed", results=None, audit=None, error="it broke")
    assert not rerun("store=outputs/store", code=1)["same"]
    assert "there is nothing to compare with" in capsys.readouterr().out


def test_a_run_that_fails_here_is_reported(place, capsys, monkeypatch):
    from kdx.pipeline.stages import train

    def fail(*arguments, **more):
        raise ValueError("no sums today")

    monkeypatch.setattr(train, "run", fail)
    assert rerun(code=1)["status"] == "failed"
    assert "the run failed here: nothing to compare" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_rerun_goes_on_in_its_folder_and_another_folder_is_left_alone(place, capsys):
    rerun()
    shutil.rmtree("again/store/evaluate")
    assert main(["rerun", str(RUN), "to=again"]) == 0
    assert "from the store: decode, prepare, teacher-pretrain" in capsys.readouterr().out
    shutil.copytree(RUN, "outputs/runs/other", symlinks=True)
    for to in ("again", "outputs", str(RUN)):
        before = sorted(Path(to).rglob("*"))
        assert "is there already, and is no rerun of" in reported(
            ["rerun", "outputs/runs/other", f"to={to}"], capsys
        )
        assert sorted(Path(to).rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=1"], "'seed' is no key of kdx rerun"),
        (["dataset=mnist5k"], "'dataset' is what the run says"),
        (["dataset.labelled=3"], "'dataset.labelled' is what the run says"),
        (["teacher.widths=[3]"], "'teacher.widths' is what the run says"),
        (["dataset.root=here"], "'dataset.root' is no key of dataset=digits"),
        (["device=gpu"], "device has no option 'gpu'"),
        (["device.threads=1,2"], "one value of each key"),
        (["device.threads=0"], "device.threads must be at least 1"),
        (["teacher.checkpoint=nowhere.pt"], "teacher.checkpoint 'nowhere.pt' does not exist"),
        (["allow=[no_such_package]"], "there is no package 'no_such_package'"),
        (["-m"], "kdx rerun has no flag --multirun"),
        (["--config-dir", "nowhere"], "is no folder"),
        (["again", "once"], "kdx rerun needs one run folder"),
    ],
)
def test_bad_words(place, capsys, words, says):
    assert says in reported(["rerun", str(RUN), "to=again", *words], capsys)
    assert not Path("again").exists() and not Path("outputs/reruns").exists()


def test_what_is_no_run_folder(empty, capsys):
    assert "does not exist" in reported(["rerun", "nowhere"], capsys)
    Path("sweep/0_a").mkdir(parents=True)
    assert "it has no run.json" in reported(["rerun", "sweep"], capsys)
    Path("sweep/0_a/run.json").write_text("{}")
    assert "it holds several: name one of them, such as 'sweep/0_a'" in reported(["rerun", "sweep"], capsys)
    assert "given: nothing" in reported(["rerun"], capsys)


# What a configuration may hold


def plain(words: list[str]) -> dict:
    """As run.json has it."""
    return json.loads(json.dumps(compose.check_words(words)))


def unchanged(words: list[str]) -> bool:
    config = plain(words)
    found, errors, notes = restore.restore(config, [], {})
    return (
        json.dumps(found, sort_keys=True) == json.dumps(config, sort_keys=True)
        and list(map(list, (found["augment"], found["shift"])))
        == list(map(list, (config["augment"], config["shift"])))
        and errors == notes == []
    )


OPTIONS = [
    "loss=slam",
    "loss=fixmatch",
    "select=rad",
    "experiment=noisy_student_ablation/no_noise",
    "experiment=shifted_inputs",
    "teacher=timm",
]


@pytest.mark.parametrize("word", OPTIONS)
def test_a_configuration_is_put_together_again(word):
    assert unchanged([word])


def test_every_kind_of_value_is_put_together_again():
    assert unchanged(
        [
            "loss=soft",
            "loss.weights=fidelity",
            "loss.features=vid",
            "loss.features.vid.student=[a,b]",
            "loss.weights.beta=0.5",
            "shift=[noise,blur]",
            "shift.blur.sigma=2",
            "augment=[noise,affine]",
            "augment.affine.degrees=3",
            "student_train.augment=[cutout,affine]",
            "teacher_pretrain.augment=none",
            "student.widths=[3,4]",
            "seed=7",
            "stages=[teacher_pretrain]",
            "dataset.labelled=0.5",
            "budget=null",
            "student_train.milestones=[0.25]",
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "group", ["experiment", "loss", "dataset", "teacher", "student", "select", "augment", "recipe", "device"]
)
def test_every_option_is_put_together_again(group):
    assert all(unchanged([f"{group}={option}"]) for option in options_of(group))


def test_keys_that_are_newer_than_the_run_have_their_default():
    config = plain([])
    config["student_train"].pop("clip")
    found, errors, notes = restore.restore(config, [], {})
    assert (
        errors == []
        and found["student_train"]["clip"] is None
        and notes == ["student_train.clip is newer than the run and has its default"]
    )


def test_a_precision_that_was_settled_is_taken():
    config = plain(["student_train.precision=auto", "teacher_pretrain.precision=auto"])
    found, errors, notes = restore.restore(config, [], {"precision": {"student": "bf16"}})
    assert (
        errors == []
        and found["student_train"]["precision"] == "bf16"
        and found["teacher_pretrain"]["precision"] == "auto"
        and len(notes) == 1
    )


# Every kind of run


@pytest.mark.slow
def test_rounds_in_a_sweep_with_an_experiment(empty):
    """Self-training over rounds, on shifted pictures."""
    words = [
        "-m",
        "experiment=shifted_inputs",
        "shift=[blur,noise]",
        "loss=self_training",
        "select.threshold=0",
        "rounds=2",
        "round_patience=1",
        "student=cnn_tiny",
        "seed=4",
    ]
    (run,) = train(*words)
    assert "sweeps" in run.parts
    found = rerun(run=run)
    names = [s["name"] for s in document(Path("again"))["stages"]]
    assert (
        found["same"]
        and found["from_store"] == []
        and "student-train-2" in names
        and "student-train" in names
    )
    assert document(Path("again"))["config"]["seed"] == 4


@pytest.mark.slow
def test_slots_several_augmentations_and_a_probed_precision(empty, capsys):
    words = [
        "loss=soft",
        "loss.weights=debiased",
        "loss.features=vid",
        "augment=[noise,affine]",
        "shift=[rotation]",
        "student_train.precision=auto",
        "student=cnn_tiny",
        "ceiling=true",
        "select=balanced",
        "select.threshold=0",
        "pseudo_label.view=clean",
    ]
    (run,) = train(*words)
    found = rerun(run=run)
    assert (
        found["same"] and document(Path("again"))["config"]["augment"] == document(run)["config"]["augment"]
    )
    assert "precision=auto was settled as" in capsys.readouterr().err
    assert (
        document(Path("again"))["config"]["loss"]["weights"]["_target_"]
        == "kdx.methods.weights.debiased.Debiased"
    )


def pictures(folder: Path) -> None:
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    for name, base in (("dark", 0), ("light", 128)):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            pixels = torch.randint(base, base + 128, (16, 16), generator=generator).to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number}.png")


@pytest.mark.slow
def test_ones_own_options_data_and_checkpoint_that_have_moved(empty, capsys):
    """dataset=folder, a loss of one's own from --config-dir, and a teacher from a file."""
    pictures(empty / "pictures")
    own = empty / "own/loss/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(
        "# @package loss\n# KD at a temperature of our own\n_target_: kdx.methods.losses.kd.KD\ntemperature: "
        "3.0\nalpha: 0.5\n"
    )
    data = [
        "student=mlp_small",
        "dataset=folder",
        "dataset.root=pictures",
        "dataset.image_size=16",
        "dataset.labelled=20",
        "dataset.validation=10",
        "dataset.test=10",
        "dataset.unlabelled=null",
    ]
    (first,) = train(*data)
    teacher = load_file(read_run(first).role("teacher").path / "last.safetensors")
    save_file(teacher, "teacher, a=b.safetensors")
    train(
        *data,
        "--config-dir",
        "own",
        "loss=mine",
        "teacher.checkpoint=teacher, a=b.safetensors",
        "teacher_pretrain.steps=null",
        "hydra.run.dir=outputs/runs/own",
    )
    run = Path("outputs/runs/own")
    shutil.rmtree("outputs/store")
    shutil.move("pictures", "moved")
    shutil.move("teacher, a=b.safetensors", "elsewhere, a=b.safetensors")
    capsys.readouterr()
    assert "loss has no option 'mine'" in reported(["rerun", str(run), "to=again"], capsys)
    there = ["--config-dir", "own"]
    use_own([])
    assert "teacher.checkpoint 'teacher, a=b.safetensors' does not exist" in reported(
        ["rerun", str(run), "to=again", *there], capsys
    )
    there += ["teacher.checkpoint=elsewhere, a=b.safetensors"]
    assert "looked for a folder of pictures in 'pictures'" in reported(
        ["rerun", str(run), "to=again", *there], capsys
    )
    found = rerun(*there, "dataset.root=moved", run=run)
    assert found["same"] and found["stages"] == []
    sources = document(Path("again"))["stages"][0]["sources"]
    assert "dataset.train" in sources and sources == document(run)["stages"][0]["sources"]
    shutil.rmtree("moved/dark/")
    shutil.copytree("moved/light", "moved/dark")
    found = rerun(*there, "dataset.root=moved", run=run, code=1)
    # from the folder alone: its store is gone
    assert found["stages"][0]["name"] == "decode" and "other data: dataset.train" in found["stages"][0]["why"]
    use_own([])
