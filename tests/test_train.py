"""`kdx train` from end to end on real data (scikit-learn's digits), with few steps: what a run leaves behind,
and what runs again.
"""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdx.cli import main
from kdx.core.paths import conf_dir
from kdx.pipeline.recipes import steps
from kdx.pipeline.stages.arrays import read_inputs
from kdx.store.artifact import Artifact

SHORT = ["device.threads=1", "device=cpu", "teacher_pretrain.steps=40", "student_train.steps=30"]
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


def train(*words):
    """Runs in the working directory; returns the run.json of the run."""
    before = set(Path("outputs/runs").glob("*"))
    assert main(["train", *SHORT, *words]) == 0
    (made,) = set(Path("outputs/runs").glob("*")) - before
    return read(made)


def read(folder):
    return {**json.loads((folder / "run.json").read_text()), "folder": folder}


def cached(run):
    return {s["name"]: s["cached"] for s in run["stages"]}


def keys(run):
    return {s["name"]: s["key"] for s in run["stages"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("work here, a=b")


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def first(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run = train()
        return {**run, "folder": place / run["folder"]}


def test_run_json_is_complete_and_consistent(first):
    assert first["status"] == "finished" and [s["name"] for s in first["stages"]] == NAMES
    assert not any(cached(first).values()) and all(
        len(s["key"]) == 64 and s["seconds"] >= 0 for s in first["stages"]
    )
    results = first["results"]
    for role in ("teacher", "baseline", "student"):
        for which in ("last", "best"):
            for split, n in (("validation", 200), ("test", 500)):
                found = results[role][which][split]
                assert (
                    0 <= found["accuracy"] <= 1
                    and found["n"] == n
                    and 0 <= found["ece"] <= 1
                    and found["nll"] > 0
                )
        assert np.sum(results[role]["last"]["test"]["confusion"]) == 500
        right = np.trace(np.array(results[role]["last"]["test"]["confusion"]))
        assert right / 500 == pytest.approx(results[role]["last"]["test"]["accuracy"])
    accuracy = {
        role: results[role]["last"]["test"]["accuracy"] for role in ("teacher", "baseline", "student")
    }
    assert results["headline"] == "last"
    assert results["gain"] == pytest.approx(accuracy["student"] - accuracy["baseline"])
    assert first["protocol"]["counts"] == {"labelled": 100, "validation": 200, "test": 500, "unlabelled": 997}
    assert (
        first["config"]["loss"]["temperature"] == 4
        and first["environment"]["torch"] == torch.__version__.split("+")[0]
    )


def test_the_folder_explains_itself(first):
    folder = first["folder"]
    assert (
        len(list(folder.glob("events.out.tfevents.*"))) == 1
        and (folder / "train.log").read_text().count("begins") == 11
    )
    report = (folder / "report.md").read_text()
    assert "student alone" in report and "validation" in report and first["stages"][1]["key"][:8] in report
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"teacher-pretrain", "student-train", "baseline-train"}
    students = [line for line in lines if line["stage"] == "student-train"]
    assert any(
        line.get("gradient/distillation", 0) > 0 and line.get("gradient/labels", 0) > 0 for line in students
    )
    assert any("validation/accuracy" in line for line in students) and students[0]["step"] == 0
    assert (folder / "artifacts" / "student-train" / "last.safetensors").exists()


def test_tensorboard_shows_one_run_with_three_roles(first):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for place in ("curves/teacher", "curves/student-alone", "."):
        events = EventAccumulator(str(first["folder"] / place)).Reload()
        tags = events.Tags()
        assert "1 validation/accuracy" in tags["scalars"]
        steps = [e.step for e in events.Scalars("2 train/loss")]
        assert steps == sorted(set(steps)) and len(steps) > 5
    assert any("confusion" in t for t in tags["images"]) and any("predictions" in t for t in tags["images"])
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_a_second_run_computes_nothing_and_says_the_same(first, capsys):
    again = train()
    assert all(cached(again).values()) and again["results"] == first["results"] and keys(again) == keys(first)
    assert "distilled student" in capsys.readouterr().out
    ours, theirs = ((r["folder"] / "metrics.jsonl").read_text() for r in (again, first))
    assert ours == theirs and len(list(again["folder"].glob("events.out.tfevents.*"))) == 1


def test_too_little_memory_while_the_report_is_made_is_reported_in_a_sentence(first, monkeypatch, capsys):
    def short(*anything):
        raise ImportError("libXau.so: failed to map segment from shared object")

    monkeypatch.setattr(import_module("kdx.commands.train"), "finish", short)
    assert main(["train", *SHORT, "hydra.run.dir=short"]) == 1
    said = (
        "kdx train needs more memory than it may have already for the libraries that it loads (libXau.so: "
        "failed to map segment from shared object)"
    )
    assert said in capsys.readouterr().err
    run = read(Path("short"))
    assert run["status"] == "failed" and run["error"].startswith(said)


def test_another_temperature_trains_the_student_only(first):
    run = train("loss.temperature=2")
    assert cached(run) == {
        **dict.fromkeys(NAMES, True),
        "student-train": False,
        "audit": False,
        "evaluate": False,
    }


def test_another_seed_changes_everything(first):
    run = train("seed=1", "stages=[teacher_pretrain]")
    assert [s["name"] for s in run["stages"]] == [
        "decode",
        "prepare",
        "teacher-pretrain",
        "teacher-predict",
        "evaluate",
    ] and cached(run) == {name: name == "decode" for name in cached(run)}
    assert set(run["results"]).isdisjoint({"student", "baseline"})
    rows = [
        read_inputs(Artifact("prepare", "", r["folder"] / "artifacts" / "prepare"), "labelled")[:]
        for r in (run, first)
    ]
    assert not np.array_equal(*rows)


@pytest.mark.slow
def test_a_prefix_runs_so_far_and_a_later_command_goes_on(first):
    so_far = train("seed=2", "stages=[teacher_pretrain,pseudo_label]")
    assert [s["name"] for s in so_far["stages"]] == NAMES[:4] + ["teacher-predict", "evaluate"]
    whole = train("seed=2")
    assert [n for n, c in cached(whole).items() if c] == NAMES[:4] + ["teacher-predict"]


def test_baseline_and_student_begin_alike_and_take_the_same_steps(first):
    results = first["results"]
    assert results["student"]["steps"] == results["baseline"]["steps"] == 30
    store = first["folder"] / "artifacts"
    manifests = [
        json.loads((store / f"{n}-train" / "manifest.json").read_text())["inputs"]
        for n in ("student", "baseline")
    ]
    for name in ("model", "training", "seed", "views_seed", "data", "epoch", "precision"):
        assert manifests[0][name] == manifests[1][name]
    assert "answers" not in manifests[1]


def test_live_answers_train_a_student_as_the_stored_ones_do(first):
    """The same pixels and the same teacher: only half precision stands between the two."""
    live = train("pseudo_label.mode=live")
    a, b = (
        load_file(r["folder"] / "artifacts" / "student-train" / "last.safetensors") for r in (live, first)
    )
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0.05, atol=0.02)
    answers = json.loads((live["folder"] / "artifacts" / "pseudo-label" / "answers.json").read_text())
    assert set(answers["splits"]) == {"validation", "clean", "sample"}, "the last for the audit alone"


def test_clean_answers_are_stored_once_a_row(first):
    run = train("pseudo_label.view=clean")
    stored = np.load(run["folder"] / "artifacts" / "pseudo-label" / "unlabelled.npy")
    assert stored.shape == (997, 1, 10) and stored.dtype == np.float16


def test_loss_supervised_is_the_baseline_itself(first):
    run = train("loss=supervised")
    assert "pseudo-label" not in keys(run) and keys(run)["student-train"] == keys(run)["baseline-train"]
    assert run["results"]["gain"] == 0 and keys(run)["baseline-train"] == keys(first)["baseline-train"]


def test_without_a_baseline_there_is_no_gain_to_report(first):
    run = train("baseline=false")
    assert "baseline-train" not in keys(run) and run["results"]["gain"] is None


def test_a_checkpoint_is_taken_as_it_is_or_trained_on(first):
    path = first["folder"] / "artifacts" / "teacher-pretrain" / "last.safetensors"
    words = [w for w in SHORT if not w.startswith("teacher_pretrain")]
    before = set(Path("outputs/runs").glob("*"))
    assert main(["train", *words, f"teacher.checkpoint={path}"]) == 0
    (made,) = set(Path("outputs/runs").glob("*")) - before
    run = read(made)
    assert run["results"]["teacher"]["steps"] == 0
    assert run["results"]["teacher"]["last"]["test"] == first["results"]["teacher"]["last"]["test"]
    tuned = train(f"teacher.checkpoint={path}", "teacher_pretrain.steps=null", "teacher_pretrain.epochs=5")
    assert tuned["results"]["teacher"]["steps"] == 8  # 5 passes over 100 labels in batches of 64


@pytest.mark.slow
def test_a_checkpoint_of_other_classes_is_not_asked_in_silence(first, capsys):
    """Weights know positions. The model.json that kdx keeps beside them has the names."""
    teacher = first["folder"] / "artifacts" / "teacher-pretrain"
    about, digits = json.loads((teacher / "model.json").read_text()), list("0123456789")
    Path("given").mkdir(exist_ok=True)
    Path("given/weights.safetensors").write_bytes((teacher / "last.safetensors").read_bytes())
    words = [w for w in SHORT if not w.startswith("teacher_pretrain")] + [
        "teacher.checkpoint=given/weights.safetensors"
    ]

    def reported(classes, *more):
        Path("given/model.json").write_text(json.dumps({**about, "classes": classes}))
        code = main(["train", *words, *more, "stages=[teacher_pretrain]"])
        return code, " ".join("".join(capsys.readouterr()).split())

    what = (
        "teacher.checkpoint='given/weights.safetensors' learned other classes than the data's, by the "
        "model.json beside it"
    )
    code, said = reported([*digits[1:], "0"])
    assert (
        code == 2
        and f"{what}, and would answer with wrong names: 0 as 1, 1 as 2" in said
        and "set teacher_pretrain.epochs=5" in said
    )
    code, said = reported(list("abcdefghij"))
    assert code == 0 and f"{what}; they are matched by position: 0 as a, 1 as b" in said
    code, said = reported([*digits[:8], "9", "8"], "teacher_pretrain.steps=1")
    assert code == 0 and f"{what}, and begins with their last layer: 8 as 9, 9 as 8" in said
    code, said = reported(digits)
    assert code == 0 and "learned other classes" not in said
    Path("given/model.json").write_text("[1")
    assert main(
        ["train", *words, "stages=[teacher_pretrain]"]
    ) == 0 and "learned other classes" not in "".join(capsys.readouterr())


@pytest.mark.slow
def test_the_student_and_its_baseline_begin_with_the_students_checkpoint(first, place):
    trained = load_file(first["folder"] / "artifacts" / "student-train" / "last.safetensors")
    net = {name.removeprefix("net."): value for name, value in trained.items() if name.startswith("net.")}
    torch.save(
        {
            "model": {name: value + 1 for name, value in net.items()},
            "ema": {f"body.{name}": value for name, value in net.items()},
        },
        "student.pt",
    )
    words = ["student.checkpoint=student.pt", "student_train.steps=1", "student_train.lr=1e-12"]
    run = train(*words, "student.key=ema")
    assert cached(run)["teacher-pretrain"] and not cached(run)["baseline-train"]
    for name in ("student-train", "baseline-train"):
        made = run["folder"] / "artifacts" / name
        assert all(
            torch.allclose(value, trained[key], atol=1e-6)
            for key, value in load_file(made / "last.safetensors").items()
        )
        assert (
            "the names of the checkpoint 'student.pt' begin with 'body.', which was dropped"
            in (made / "notes.jsonl").read_text()
        )
        assert json.loads((made / "manifest.json").read_text())["inputs"]["checkpoint_key"] == "ema"
    other = train(*words)
    assert not cached(other)["student-train"], "where in the file the weights lie is part of the key"
    assert any("'model' was taken; student.key=ema takes the other" in text for text in other["warnings"])


@pytest.mark.slow
def test_a_checkpoint_in_the_shape_of_pretrained_weights_needs_no_file_of_these(place, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        torch.hub,
        "download_url_to_file",
        lambda *given, **more: pytest.fail("asked for the pretrained weights"),
    )
    from torchvision.models import resnet18

    torch.save({f"module.{name}": value for name, value in resnet18().state_dict().items()}, "stem.pt")
    words = [
        "teacher=resnet18",
        "teacher.checkpoint=stem.pt",
        "stages=[teacher_pretrain]",
        "teacher_pretrain.steps=1",
        "teacher_pretrain.batch_size=2",
    ]
    assert main(["train", *SHORT, *words]) == 2, "its stem is for larger pictures"
    run = train(
        *words,
        "teacher.weights=DEFAULT",
        "dataset.validation=null",
        "teacher_pretrain.precision=auto",
        "dataset.test=20",
    )
    left = "the last layer of the checkpoint 'stem.pt' was left out (module.fc.weight[1000, 512]"
    assert run["status"] == "finished" and any(left in warning for warning in run["warnings"])


@pytest.mark.slow
def test_a_sweep_shares_the_teacher_and_keeps_its_runs_apart(first):
    assert main(["train", *SHORT, "loss.temperature=1,8", "-m"]) == 0
    runs = sorted(
        (read(p.parent) for p in Path("outputs/sweeps").glob("*/*/run.json")), key=lambda r: r["folder"].name
    )
    assert [r["config"]["loss"]["temperature"] for r in runs] == [1, 8]
    assert all(cached(r)["teacher-pretrain"] and not cached(r)["student-train"] for r in runs)


def test_early_stopping_and_a_target(first):
    patient = train(
        "student_train.patience=1",
        "student_train.evaluate_every=1",
        "baseline=false",
        "student_train.lr=1e-9",
    )
    assert (
        patient["results"]["student"]["stopped"] == "patience" and patient["results"]["student"]["steps"] < 30
    )
    aimed = train("student_train.target=0.01", "student_train.evaluate_every=2", "baseline=false")
    assert aimed["results"]["student"]["stopped"] == "target" and aimed["results"]["student"]["steps"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ["student_train.precision=bf16"],
        ["student_train.optimiser=sgd", "student_train.schedule=one_cycle", "student_train.clip=1"],
        ["teacher=mlp", "student=mlp_small"],
        ["loss=label_smoothing"],
        ["loss.alpha=[0.9,0.5]"],
        ["dataset.labelled=0.2", "dataset.unlabelled=100"],
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                ["device.workers=2", "augment=[flip_crop,noise,cutout]"],
                ["augment=[affine,mixup]"],
                ["student_train.augment=none"],
                ["dataset.unlabelled=0"],
                ["student_train.precision=auto"],
            )
        ),
    ],
    ids=" ".join,
)
def test_one_word_changes_one_thing(first, words):
    assert train(*words, "baseline=false")["status"] == "finished"


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(file.stem, marks=() if file.stem in ("kd", "weighted") else pytest.mark.slow)
        for file in sorted((conf_dir() / "loss").glob("*.yaml"))
    ],
)
def test_every_loss_learns_from_mixed_pictures_or_is_refused_before_any_work(place, loss, capsys):
    words = ["augment=[affine,mixup]", "pseudo_label.view=same", "dataset.labelled=0.3", "teacher=mlp_small"]
    words += ["teacher.dropout=0.3", "student=mlp_small", "select=all"]
    words += ["teacher_pretrain.steps=4", "student_train.steps=4", "baseline=false", "noiseless=false"]
    runs, stages = set(place.glob("outputs/runs/*")), set(place.glob("mixed/*/*"))
    code = main(["train", "device=cpu", "device.threads=1", "store=mixed", f"loss={loss}", *words])
    made = set(place.glob("outputs/runs/*")) - runs
    if code == 2:
        assert not made and set(place.glob("mixed/*/*")) == stages and capsys.readouterr().err
    else:
        assert code == 0 and [read(folder)["status"] for folder in made] == ["finished"]


@pytest.mark.parametrize(("bf16", "settled"), [(0.5, "bf16"), (10.0, "fp32")])
def test_auto_trains_in_what_this_processor_is_faster_in(place, monkeypatch, bf16, settled):
    """As on a processor with bf16 instructions, and as on one without, whichever this is."""
    monkeypatch.setattr(
        import_module("kdx.pipeline.stages.probe").Trial,
        "step",
        lambda *step: bf16 if step[-1] == "bf16" else 1.0,
    )
    words = [
        "teacher=mlp_small",
        "teacher_pretrain.steps=2",
        "teacher_pretrain.precision=auto",
        "stages=[teacher_pretrain]",
        f"store={settled}",
    ]
    assert train(*words)["status"] == "finished"
    (made,) = place.glob(f"{settled}/teacher-pretrain/*/summary.json")
    assert json.loads(made.read_text())["precision"] == settled


LOSS = """
from kdx.core.checks import number
from kdx.core.types import Objective, Outcome
from kdx.core.math import cross_entropy

class Confidence(Objective):
    uses = ("labelled",)
    def __init__(self, parts, *, weight):
        super().__init__(parts)
        self.weight = number("loss.weight", weight, low=0)
    def forward(self, streams, progress):
        batch = streams["labelled"]
        logits = self.student(batch.views["main"])
        sure = logits.softmax(1).amax(1).mean()
        return Outcome(terms={"labels": cross_entropy(logits, batch.y).mean(), "confidence": -self.weight * sure})
"""  # noqa: E501


@pytest.mark.slow
def test_a_loss_of_ones_own_is_one_python_file_and_one_yaml_file(first, place, monkeypatch, capsys):
    (place / "my_losses").mkdir()
    (place / "my_losses" / "confidence.py").write_text(LOSS)
    (place / "my_conf" / "loss").mkdir(parents=True)
    (place / "my_conf" / "loss" / "confidence.yaml").write_text(
        "# Likes to be sure\n_target_: my_losses.confidence.Confidence\nweight: 0.1\n"
    )
    monkeypatch.syspath_prepend(str(place))
    words = ["allow=[my_losses]", "--config-dir", "my_conf", "loss=confidence"]
    run = train(*words)
    assert (
        run["config"]["loss"]["weight"] == 0.1
        and not cached(run)["student-train"]
        and cached(run)["baseline-train"]
    )
    lines = (run["folder"] / "metrics.jsonl").read_text()
    assert "gradient/confidence" in lines
    assert all(cached(train(*words)).values())
    assert (
        main(["train", *SHORT, *words, "loss.weight=-1"]) == 2
        and "loss.weight must be at least 0" in capsys.readouterr().err
    )
    assert main(["train", *SHORT, *words[1:]]) == 2 and "allow=" in capsys.readouterr().err
    assert (
        main(["train", *SHORT, "loss=confidense", *words[:3]]) == 2
        and "'confidence'" in capsys.readouterr().err
    )


READS = """
from kdx.core.types import Objective, Outcome
from kdx.core.math import cross_entropy, kl

class Reads(Objective):
    uses = ("{split}",)
    def __init__(self, parts):
        super().__init__(parts)
        self.teacher = parts.teacher
    def forward(self, streams, progress):
        batch = streams["{split}"]
        logits = self.student(batch.views["main"])
        return Outcome(terms={{"answers": kl(logits, self.teacher(batch), 2.0).mean()}})
"""


def own_that_reads(place, monkeypatch, split):
    """The words that choose a loss of one's own which learns the teacher's answers for one split only."""
    (place / f"reads_{split}.py").write_text(READS.format(split=split))
    (place / "reads" / "loss").mkdir(parents=True, exist_ok=True)
    (place / f"reads/loss/reads_{split}.yaml").write_text(f"# One split\n_target_: reads_{split}.Reads\n")
    monkeypatch.syspath_prepend(str(place))
    return [f"allow=[reads_{split}]", "--config-dir", "reads", f"loss=reads_{split}"]


SMALL = ["dataset.labelled=0.3", "teacher=mlp_small", "student=mlp_small", "store=small", "baseline=false"]


@pytest.mark.parametrize("split", ["labelled", "unlabelled"])
def test_the_teacher_answers_only_for_the_rows_that_the_loss_asks_about(place, monkeypatch, capsys, split):
    """A pool that is not learned from is not answered, nor counted among what was: 30 batches of 64 labelled
    rows show each of the 389 five times."""
    run = train(*SMALL, *own_that_reads(place, monkeypatch, split))
    reported, files = capsys.readouterr(), run["folder"] / "artifacts/pseudo-label"
    splits = json.loads((files / "answers.json").read_text())["splits"]
    if split == "labelled":
        assert splits == {"labelled": {"views": 5, "first": 1}, "validation": {"views": 2, "first": 0}}
        assert {p.name for p in files.glob("*.npy")} == {"labelled.npy", "validation.npy"}
        assert "audit" not in cached(run) and "audit" not in run
        assert "seudo-labels:" not in reported.out
        assert "## Pseudo-label audit" not in (run["folder"] / "report.md").read_text()
    else:
        assert splits == {
            "unlabelled": {"views": 3, "first": 1},
            "validation": {"views": 2, "first": 0},
            "clean": {"views": 1, "first": 0},
        }
        assert run["audit"]["rounds"][0]["asked"] == 708 and "seudo-labels: 708 of 708" in reported.out
        assert "## Pseudo-label audit" in (run["folder"] / "report.md").read_text()


def test_a_recipe_that_asks_for_a_loss_without_a_teacher_has_no_answers_to_learn_from(place):
    run = train(*SMALL, "recipe=distil", "loss=pseudo_label")
    about = json.loads((run["folder"] / "artifacts/pseudo-label/answers.json").read_text())
    assert about["splits"] == {"validation": {"views": 2, "first": 0}} and "audit" not in cached(run)


def test_rows_of_a_pool_are_not_chosen_for_a_loss_that_reads_none(place, monkeypatch, capsys):
    words = own_that_reads(place, monkeypatch, "labelled")
    for select in ("threshold", "rad"):
        assert main(["train", *SHORT, *SMALL, *words, f"select={select}"]) == 2
        assert (
            f"select={select} chooses rows of the pool for the teacher to answer, and loss=reads_labelled "
            "learns from no such answers: leave select= out, or choose another loss"
        ) in capsys.readouterr().err


@pytest.mark.parametrize("error", ["chain", "seed"])
def test_a_student_learns_no_answers_of_other_pixels(place, monkeypatch, capsys, error):
    """A recipe that has other pixels labelled than it shows is refused by the stage itself."""
    words = [*SHORT, *SMALL, "augment=affine", "pseudo_label.mode=stored"]
    run = train(*words[2:])
    files = run["folder"] / "artifacts"
    seen, reported = (
        json.loads((files / name).read_text())["views"]
        for name in ("student-train/summary.json", "pseudo-label/answers.json")
    )
    assert seen == reported and len(reported) == 64
    if error == "chain":
        monkeypatch.setattr("kdx.pipeline.recipes.asking._augmentation", lambda training: [])
    else:
        monkeypatch.setattr(
            steps,
            "student_inputs",
            lambda *given, real=steps.student_inputs: {**real(*given), "views_seed": 1},
        )
    capsys.readouterr()
    assert main(["train", *words]) == 1
    err = capsys.readouterr().err
    assert "are for other views than this training shows" in err and "Traceback" not in err


@pytest.mark.slow  # tests/test_streams.py holds the loader itself to it
def test_workers_do_not_change_a_bit(first):
    inline, threads = (
        train("student_train.steps=12", f"device.workers={n}", f"store=store-{n}", "baseline=false")
        for n in (0, 2)
    )
    a, b = (
        load_file(r["folder"] / "artifacts" / "student-train" / "last.safetensors") for r in (inline, threads)
    )
    assert all(torch.equal(a[k], b[k]) for k in a)
