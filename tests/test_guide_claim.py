"""experiment=guide and the claim of that name: its figures at a step of a training and those made of
others; and that what was measured already is not measured twice.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from kdx.cli import main
from kdx.commands._arms import by_steps_done, value
from kdx.config import compose, grid
from kdx.config.wire import examine_config
from kdx.core.divergence import Divergence, divergence
from kdx.core.errors import UserError
from kdx.pipeline.stages.files import best_is_last
from kdx.runs import claims
from kdx.runs.claims import ClaimFigure
from kdx.runs.derived import DerivedFigure, add_derived, parse_derived
from kdx.store.artifact import Artifact
from kdx.tasks.shown import CLASSIFICATION

KINDS = {"teacher": "loss", "alone": "loss", "student": "loss", "gap": "share", "other gap": "share"}
SHORT = (
    "teacher_pretrain.steps=6",
    "teacher.width=8",
    "student.width=4",
    "dataset.length=16",
    "student_train.steps=4",
    "student_train.schedule=constant",
    "student_train.evaluate_every=2",
)


def test_the_experiment_is_a_grid_of_beginnings_with_and_without_distillation():
    words = grid.gridded(["experiment=guide", "seed=1"])
    found = grid.grid_of("guide")
    assert found["loss"] == "supervised,token_kd" and {"fresh", "guide", "select", "shuffled"} <= set(
        found["init"].split(",")
    )
    assert [word for word in words if word.startswith("init=")] == [f"init={found['init']}"]
    inits, losses = (found[key].split(",") for key in ("init", "loss"))
    for number, init in enumerate(inits):  # each beginning, with each loss in turn
        loss = losses[number % len(losses)]
        config = compose.check_words(["experiment=guide", f"init={init}", f"loss={loss}", "device=cpu"])
        assert config["choices"]["dataset"] == "corpus" and config["student_train"]["evaluate_every"] == 50
        order, errors = examine_config(config)
        assert errors == [] and (order.experiment.init is None) == (init == "fresh")


def test_a_figure_is_read_at_a_step_of_a_training(tmp_path):
    records = [
        {"step": 0, "train/loss": 3.0},
        {"step": 49, "train/loss": 2.5},
        {"step": 49, "validation/loss": 2.25},
        {"step": 199, "validation/loss": 2.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert by_steps_done(records)["50"] == {"step": 49, "train/loss": 2.5, "validation/loss": 2.25}
    stages = {"student-train": Artifact("train", "0" * 64, tmp_path)}

    def read(at: str) -> float:
        return value(stages, ClaimFigure("arm", at, "student-train/metrics.jsonl", "share"), CLASSIFICATION)

    assert (read("50.validation/loss"), read("200.validation/loss")) == (2.25, 2.0)
    with pytest.raises(UserError, match=r"has no '100': it has 1, 50, 200"):
        read("100.validation/loss")


def test_figures_made_of_others_by_hand():
    """From 3 to 1 a student at 2.5 has gone a quarter of the way, one at 3.5 as much the other way."""
    gap = DerivedFigure("gap", ("student", "alone", "teacher"))
    assert gap.value({"student": 2.5, "alone": 3.0, "teacher": 1.0}) == 0.25
    assert gap.value({"student": 3.5, "alone": 3.0, "teacher": 1.0}) == -0.25
    with pytest.raises(UserError, match="alone and teacher are both 1: no part of nothing is closed"):
        gap.value({"student": 2.5, "alone": 1.0, "teacher": 1.0})
    values = {"student": [2.5, 2.0], "alone": [3.0, 3.0], "teacher": [1.0, 1.0]}
    add_derived({"gap": gap, "twice": DerivedFigure("sum", ("gap", "gap"))}, values)
    assert values["gap"] == [0.25, 0.5] and values["twice"] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"gap": ["student", "alone"]}, r"x.gap must list the figures \[of, from, to\]"),
        (
            {"gap": ["student", "alone", "teecher"]},
            "has no figure 'teecher' above it; did you mean 'teacher'",
        ),
        ({"gap": ["student", "alone", "gap"]}, "only alike figures can be compared"),
        ({"sum": ["gap"]}, "x.sum must list two figures or more"),
        ({"sum": ["student", "alone"]}, "only shares can be added up"),
        ({"sum": ["gap", "other gap"], "unit": "share"}, "x needs gap, sum or plus alone"),
        ({"plus": ["student"]}, "x.plus must list a figure and a number"),
        ({"plus": ["teecher", 0.1]}, "has no figure 'teecher' above it"),
    ],
)
def test_a_wrong_figure_made_of_others_is_reported(spec, wanted):
    with pytest.raises(UserError, match=wanted):
        parse_derived("x", spec, KINDS)


def test_the_claim_says_nothing_of_guide_over_selection():
    claim = claims.read_claim("guide")
    claimed = {(pair.more, pair.less) for pair in claim.claimed}
    assert claimed == {("guide", "fresh"), ("guide", "shuffled")}
    beside = {(pair.more, pair.less) for pair in claim.beside}
    assert {("guide", "select, the same parts"), ("guide", "select, everything")} <= beside


def test_the_best_weights_that_are_the_last_ones_are_known_by_their_bytes(tmp_path):
    def trained(name: str, best: bytes, last: bytes) -> Artifact:
        folder = tmp_path / name
        folder.mkdir()
        files = {"best.safetensors": best, "last.safetensors": last}
        for file, content in files.items():
            (folder / file).write_bytes(content)
        entries = {file: {"sha256": content.hex(), "size": 1} for file, content in files.items()}
        (folder / "manifest.json").write_text(json.dumps({"files": entries}))
        return Artifact("train", "0" * 64, folder)

    same, other = trained("same", b"a", b"a"), trained("other", b"a", b"b")
    assert best_is_last([same]) and not best_is_last([other]) and not best_is_last([same, same])
    (tmp_path / "same/best.safetensors").unlink()
    assert not best_is_last([same])


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd", "tvd"])
def test_one_piece_is_worked_out_as_several_are(kind):
    torch.manual_seed(0)
    how, teacher = Divergence(kind, 0.3, "smooth", 2.0), torch.randn(6, 5)
    found = []
    for rows in (6, 4):
        student = torch.linspace(-1, 1, 30).reshape(6, 5).requires_grad_()
        value = divergence(student, teacher, how, rows)
        (value * torch.arange(6)).sum().backward()
        found.append((value.detach(), student.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.allclose(found[0][1], found[1][1], rtol=1e-6)


@pytest.mark.slow
def test_the_claim_runs_to_its_end_in_a_few_steps(tmp_path, monkeypatch, capsys):
    """Of the real file with tiny networks on a small text; the step that is read is 2 in place of 50."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the cat sat on the mat, and the dog sat on the log. " * 200)
    file = claims.claims_folder() / "guide.yaml"
    body = yaml.safe_load(file.read_text().replace("at: 50.", "at: 2."))
    body["words"] = ["dataset=corpus", "dataset.root=text.txt", "baseline=false", *SHORT]
    Path("claim").mkdir()
    Path("claim/guide.yaml").write_text("# Small\n" + yaml.safe_dump(body, sort_keys=False))
    monkeypatch.setattr(claims, "claims_folder", lambda: tmp_path / "claim")
    assert main(["reproduce", "guide", "seeds=2", "device=cpu", "device.threads=1"]) == 0
    found = json.loads(Path("outputs/runs/reproduce/guide/reproduce.json").read_text())
    figures = found["figures"]
    assert set(figures) == set(claims.read_claim("guide").figures) | set(claims.read_claim("guide").derived)
    for guide, fresh, teacher, gap in zip(
        *(figures[name] for name in ("guide", "fresh", "teacher", "gap closed, guide")), strict=True
    ):
        assert gap == pytest.approx((guide - fresh) / (teacher - fresh))
    assert figures["guide, step 50"] != figures["fresh, step 50"]
    assert "additivity" in capsys.readouterr().out
