"""The report of a run whose metric is no accuracy: RMSE, of which less is better, without classes. And roles
that kdx itself does not have.
"""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.roles import ROLES, known_roles, roles_of
from kdx.pipeline.stages.watch import shown_as
from kdx.report.compare.curves import read_curves
from kdx.report.run import document, figures, rounds, shifts
from kdx.report.run.audit import audit_sentences, classes, per_round
from kdx.report.run.folder import RunFolder
from kdx.report.run.progress import Progress
from kdx.report.run.result_warnings import overfits, result_warnings
from kdx.report.run.sentences import gained, result_sentences
from kdx.report.run.table import print_table, role_cells
from kdx.report.run.verdict import summary
from kdx.runs.export import card
from kdx.runs.reading import Run
from kdx.store.verification import is_record
from kdx.tasks.shown import ACCURACY, CLASSIFICATION

RMSE = {"name": "rmse", "title": "RMSE", "scale": 1, "unit": "", "digits": 3, "more": False}
R2 = {"name": "r2", "title": "R2", "digits": 2, "high": 1}
FLOOR = {split: {"value": 2.0, "words": "always the mean"} for split in ("validation", "test")}
RESIDUALS = {
    "title": "Residuals on the test split",
    "tag": "residuals",
    "kind": "bars",
    "data": {"edges": [-1.0, 0.0, 1.0], "counts": [3, 7]},
}


MINE = {"bigger": {"words": "bigger student", "short": "bigger", "colour": "#112233"}}


def network(test: float, train: float = 0.45, figures: tuple = (RESIDUALS,)) -> dict[str, Any]:
    measured = {
        "train": {"rmse": train, "r2": 0.9, "n": 50},
        "validation": {"rmse": test + 0.01, "r2": 0.8, "n": 50},
        "test": {"rmse": test, "r2": 1 - test / 2, "n": 100, "figures": list(figures)},
    }
    sizes = {"model": "mlp", "parameters": 1000, "bytes": 4000, "flops": 2000, "latency_ms": 0.1}
    return {**sizes, "steps": 100, "best_step": 40, "last": measured, "best": measured}


def made_up(**more: Any) -> dict[str, Any]:
    return {
        "metric": RMSE,
        "metrics": [RMSE, R2],
        "floor": FLOOR,
        "teacher": network(0.5),
        "baseline": network(1.0),
        "student": network(0.7),
        "rounds": [],
        "shifts": {},
        **more,
    }


def examples() -> dict[str, Any]:
    return {
        "rows": [4, 9],
        "truth": ["1.50", "*2*"],
        "predictions": {"teacher": ["1.40", "2.10"], "student": ["1.20", "x" * 500]},
    }


def audit() -> dict[str, Any]:
    entry = {"pool": 40, "asked": 40, "kept": 30, "copies": 30, "kept_share": 0.75, "monitors": {}}
    return {
        "truth_known": True,
        "teacher": {"rmse": 0.51, "n": 20},
        "domain_gap": {"accuracy": 0.6, "standard_error": 0.05, "a_distance": 0.4},
        "rounds": [entry | {"metrics": {"rmse": 0.55}}],
    }


def train(run: RunFolder) -> None:
    for name in ("teacher-pretrain", "student-train"):
        run.started(name, f"k-{name}", False)
        for step in range(0, 30, 10):
            values = {"train/loss": 1 / (step + 1), "validation/rmse": 2 - step / 20, "validation/loss": 1.0}
            run.record(name, {"step": step, **values})
        run.finished(name, f"k-{name}", False, 1.0)


def folder(path: Path) -> RunFolder:
    return RunFolder(path, {"seed": 0}, {"dataset": "Curves"}, {"python": "3.11"}, ["kdx", "train"])


def read_events(path: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0, "images": 0}).Reload()


# What the numbers mean


def test_a_gain_is_above_zero_where_less_is_better():
    found = summary(made_up(), "last")
    assert found["gain"] == pytest.approx(0.3) and found["gap_closed"] == pytest.approx(0.6)
    said = result_sentences(made_up(), "last")
    assert said[0] == (
        "Gain of distillation: +0.300 of test RMSE. Less RMSE is better, so a gain above 0 is an improvement."
    )
    assert said[1] == "Part of the gap to the teacher closed: 60% of 0.500."
    assert said[2] == "Caution: 100 test rows, and one seed: compare several with -m seed=0,1,2."
    assert said[3] == "Teacher: 0.450 on its training rows, 0.510 on validation (a gap of 0.060)."
    assert result_warnings(made_up(), "last") == []


def test_a_teacher_that_is_no_better_leaves_no_gap():
    found = summary(made_up(teacher=network(1.1)), "last")
    assert found["gap_closed"] is None and found["gap_closed_reason"] == (
        "the teacher (1.100) is no better than the student alone (1.000): there is no gap to close"
    )


def test_controls_beside_the_student():
    found = made_up(ceiling=network(0.6), validation_labels=network(0.9))
    said = "\n".join(result_sentences(found, "last"))
    assert "that learned from the validation labels too" in said and "validates it): +0.200." in said
    assert "pool bring +0.400 over the student alone: the teacher's answers brought 75% of that" in said
    better = "\n".join(result_sentences(made_up(ceiling=network(0.8)), "last"))
    assert "the teacher's answers brought more" in better


def test_a_worse_student_and_one_that_learned_nothing_are_reported():
    said = result_warnings(made_up(student=network(1.2)), "last")
    assert said == ["The distilled student (1.200) is worse than the student alone (1.000)"]
    said = result_warnings(made_up(teacher=network(2.0)), "last")
    assert said[0] == (
        "The teacher is no better than always the mean (a test RMSE of 2.000, where that has 2.000): labels "
        "from it are noise"
    )
    assert result_warnings(made_up(teacher=network(2.0), floor=None), "last") == [], "nobody knows"


def test_a_metric_that_is_not_finite_is_reported():
    broken = made_up()
    broken["student"]["last"]["test"]["rmse"] = None
    said = result_warnings(broken, "last")
    assert said == [
        "The test RMSE of the distilled student is not a number (NaN or infinite): see how it is measured"
    ]
    broken["student"]["not_finite"] = {"best": ["test"], "last": ["validation"]}
    assert result_warnings(broken, "last") == said
    broken["student"]["not_finite"]["last"].append("test")
    said = result_warnings(broken, "last")
    assert said[0] == "The distilled student has no test RMSE: see the log"
    assert said[1].startswith("The answers of the distilled student are not all finite")


@pytest.mark.parametrize(
    ("train", "warned"),
    # on validation .51, and who knows nothing has 2: of what it is better on its rows 15% is the most
    [(0.26, False), (0.24, True), (0.51, False), (2.5, False)],
)
def test_a_teacher_overfits_by_a_share_of_what_it_has_learned(train, warned):
    found = made_up(teacher=network(0.5, train=train))
    assert overfits(found, "last") is warned
    said = [line for line in result_warnings(found, "last") if "overfits" in line]
    assert bool(said) is warned
    if warned:
        assert said[0].startswith("The teacher overfits: 0.270 less on its training rows than on validation")
    assert not overfits({**found, "floor": None}, "last"), "without an end or a floor nobody knows"


@pytest.mark.parametrize(
    ("n", "train", "warned"),
    # two standard errors of .51 are .114 on 40 rows and .294 on 6
    [(40, 0.42, False), (40, 0.38, True), (6, 0.25, False), (6, 0.20, True)],
)
def test_a_gap_on_few_validation_rows_is_noise(n, train, warned):
    floor = {"validation": {"value": 0.6}}
    found = made_up(teacher=network(0.5, train=train), floor=floor)
    found["teacher"]["last"]["validation"]["n"] = n
    assert overfits(found, "last") is warned
    for split in found["teacher"]["last"].values():
        split["mae"] = split.pop("rmse")
    found |= {"metric": RMSE | {"name": "mae"}, "metrics": [RMSE | {"name": "mae"}]}
    for rows in (29, 30):  # of a metric whose error is not known 30 rows are asked for
        found["teacher"]["last"]["validation"]["n"] = rows
        assert overfits(found, "last") is (rows == 30)


def test_advice_is_for_the_kind_of_teacher():
    def advice(**more):
        said = result_warnings(made_up(teacher=network(0.5, train=0.24) | more), "last")
        return next(line for line in said if "overfits" in line).partition("; ")[2]

    assert "teacher_pretrain.augment" in advice(steps=100)
    assert advice(steps=0, fitted=True) == (
        "try settings with which it fits less closely (teacher.KEY=), another (teacher=) or more labels"
    )
    assert "teacher_pretrain" not in advice(steps=0)


def test_a_teacher_alone_that_was_fitted_has_no_best_weights_to_lack():
    alone = made_up() | {"baseline": None, "student": None}
    alone = {key: value for key, value in alone.items() if value is not None}
    alone["teacher"] = {key: value for key, value in network(0.5).items() if key != "best"} | {"steps": 0}
    assert not any("headline" in line for line in result_warnings(alone, "best"))
    alone["teacher"]["steps"] = 10
    assert any("headline=best needs a validation split" in line for line in result_warnings(alone, "best"))


# Tables


def test_the_table_has_the_metrics_of_the_run():
    header, rows = role_cells(made_up(), "last")
    assert header[5:] == ["validation RMSE", "test RMSE", "test R2"]
    assert [row[5:] for row in rows] == [
        ["0.510", "0.500", "0.75"],
        ["1.010", "1.000", "0.50"],
        ["0.710", "0.700", "0.65"],
    ]
    assert role_cells(made_up(), "last", short=True)[0][5:] == ["val RMSE", "test RMSE", "test R2"]


@pytest.mark.parametrize("width", [200, 80, 40])
def test_no_figure_is_cut_at_any_width(width):
    out = io.StringIO()
    print_table(made_up(), "last", [], file=out, width=width, audit=audit())
    text = " ".join(out.getvalue().split())
    assert all(figure in text for figure in ("0.500", "1.000", "0.700", "+0.300", "60% of 0.500"))
    assert "accuracy" not in text and "%" not in text.replace("60%", "")


def test_shifts_are_shown_in_the_metric():
    found = made_up(shifts={"blur": {"teacher": 0.9, "baseline": 1.5, "student": 0.8}})
    header, rows = shifts.shift_cells(found)
    assert header == ["test RMSE", "clean", "blur"] and rows[2] == ["distilled student", "0.700", "0.800"]
    lost, gain = shifts.shift_sentences(found)
    assert "in RMSE: teacher +0.400, student alone +0.500, distilled student +0.100" in lost
    assert gain == "Gain of distillation under shift: +0.700 (+0.300 on clean pictures)."


def test_rounds_are_shown_in_the_metric():
    entries = [
        {"key": str(i), "validation": {"rmse": 0.9 - i / 10}, "test": {"rmse": 0.8 - i / 10}}
        for i in range(3)
    ]
    found = made_up(rounds=entries, round_chosen="2", round_by="validation")
    header, rows = rounds.round_cells(found)
    assert header == ["round", "validation RMSE", "test RMSE"] and rows[2] == ["3 (chosen)", "0.700", "0.600"]
    assert rounds.round_sentence(found) == "The round with the best validation RMSE is the one that counts."
    assert rounds.series(found, [1, 2, 3])["test"] == [(i + 1, 0.8 - i / 10) for i in range(3)]
    assert rounds.draw_rounds(found, None, "RMSE by round").startswith(b"\x89PNG")


def test_the_audit_is_shown_of_the_round_that_counts():
    """Round 1 was chosen, so what round 2 kept is not what the student of the table learned."""
    (one,) = audit()["rounds"]
    two = one | {"kept": 17, "copies": 17, "metrics": {"rmse": 0.9}, "per_class": [9, 8], "monitors": {}}
    one = one | {"per_class": [10, 20]}
    both = audit() | {"rounds": [one, two], "classes": ["a", "b"]}
    entries = [{"key": key, "validation": {"rmse": 0.5}, "test": {"rmse": 0.5}} for key in ("x", "y")]
    found = made_up(rounds=entries, round_chosen="x", round_by="validation")
    assert audit_sentences(both, found) == [
        "Pseudo-labels of round 1, the chosen one: 30 of 40 rows kept; the RMSE of their answers is 0.550."
    ]
    assert classes(both, found)[1] == [["a", "10"], ["b", "20"]]
    (line,) = audit_sentences(both, found | {"round_chosen": "y"})
    assert line == "Pseudo-labels of round 2: 17 of 40 rows kept; the RMSE of their answers is 0.900."
    assert classes(both, found | {"round_chosen": "y"})[1] == [["a", "9"], ["b", "8"]]


def test_an_audit_without_classes():
    assert audit_sentences(audit(), made_up()) == [
        "Pseudo-labels: 30 of 40 rows kept; the RMSE of their answers is 0.550."
    ]
    header, rows = per_round(audit(), made_up())
    assert header == ["round", "asked", "kept", "with copies", "RMSE, clean"]
    assert rows == [["1", "40", "30", "30", "0.550"]]


# The run folder


def test_a_finished_run_explains_itself(tmp_path):
    run = folder(tmp_path)
    train(run)
    reported = run.finish(made_up(), examples(), audit=audit())
    assert reported["gain"] == pytest.approx(0.3) and reported["gap_closed"] == pytest.approx(0.6)
    assert document.read_document(tmp_path / "run.json")["results"]["metric"] == RMSE
    text = (tmp_path / "report.md").read_text()
    for words in (
        "| validation RMSE | test RMSE | test R2 |",
        "Gain of distillation: +0.300 of test RMSE.",
        "| teacher | 0.5000 | 0.5000 | 40 | 100 |",
        "MFLOPs: one forward pass of one row.",
        "`best` those with the lowest validation RMSE",
        "The teacher on validation: RMSE 0.510 (n = 20).",
        "Labelled rows against the pool's",
        "| 4 | 1.50 | 1.40 | 1.20 |",
        "\\*2\\*",
        "Residuals on the test split: teacher, student alone, distilled student",
    ):
        assert words in text, words
    assert not any(word in text for word in ("accuracy", "ECE", "x" * 200, "picture of"))
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {
        "residuals.png",
        "curves-validation-rmse.png",
        "curves-train-loss.png",
    }


def test_tensorboard_has_the_metric(tmp_path):
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    run = folder(tmp_path)
    train(run)
    run.finish(made_up(), examples(), audit=audit())
    events = read_events(tmp_path)
    scalars = set(events.Tags()["scalars"])
    assert {"1 validation/rmse", "(results)/student RMSE", "audit/rmse", "audit/kept_share"} <= scalars
    assert events.Scalars("(results)/gain")[0].value == pytest.approx(0.3)
    assert "residuals/distilled student" in events.Tags()["images"]
    assert b"1.50" in events.Tensors("examples")[0].tensor_proto.string_val[0]
    (content,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(content.tensor_proto.string_val[0])
    assert layout.category[0].chart[0].title == "validation rmse"
    assert re.match(layout.category[0].chart[0].multiline.tag[0], "1 validation/rmse-2")


def test_pictures_with_a_number_each_are_neither_right_nor_wrong(tmp_path):
    shown = examples() | {"images": np.zeros((2, 1, 8, 8), np.uint8)}
    run = folder(tmp_path)
    run.finish(made_up(), shown)
    picture = np.asarray(Image.open(tmp_path / "figures" / "predictions.png").convert("RGB")).astype(int)
    assert not ((picture[..., 0] > 150) & (picture[..., 1] < 80) & (picture[..., 2] < 80)).any()


def test_a_line_says_the_metric_as_it_goes(capsys):
    with Progress() as progress:
        progress.started("student-train", "k", False)
        progress.record("student-train", {"step": 1, "validation/loss": 3.0, "validation/rmse": 0.5})
        progress.finished("student-train", "k", False, 1.0)
    assert "done in 1.0 s, validation rmse 0.500" in capsys.readouterr().err


NATS = Metric("accuracy", "miss", unit=" nats", digits=2, more=False)


def test_a_metric_is_a_tasks_own_though_kdx_has_one_of_that_name(capsys, tmp_path):
    """A record says how its metric is shown: on a line, on TensorBoard, and again from the store."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    assert shown_as(ACCURACY) == {}
    record = {"step": 1, "validation/loss": 3.0, "validation/accuracy": 0.876, **shown_as(NATS)}
    assert is_record(record) and not is_record({**record, "metric": {"name": 3}})
    with Progress() as progress:
        progress.started("student-train", "k", False)
        progress.record("student-train", record)
        progress.finished("student-train", "k", False, 1.0)
    assert "validation miss 0.88 nats" in capsys.readouterr().err
    run = folder(tmp_path)
    run.started("student-train", "k", False)
    run.record("student-train", record)
    run.interrupt()
    events = read_events(tmp_path)
    (content,) = events.Tensors("custom_scalars__config__")
    chart = Layout.FromString(content.tensor_proto.string_val[0]).category[0].chart[0]
    assert chart.title == "validation miss" and "validation/accuracy" in chart.multiline.tag[0]
    assert "1 validation/accuracy" in events.Tags()["scalars"]
    assert read_curves(tmp_path, NATS) == {"student": [(1, 0.876)]}


def test_a_space_before_a_unit_is_shown_with_values_only():
    assert NATS.text(0.5) == "0.50 nats" and NATS.heading == "test miss, nats"
    assert NATS.meaning == "accuracy (nats, less is better)"
    assert gained(NATS, 0.5) == "+0.50 nats"


@pytest.mark.parametrize(
    "figure",
    [
        {"kind": "matrix", "data": {"rows": ["a", "b", "c"], "columns": ["x"], "values": [[1], [2.5], [0]]}},
        {"kind": "matrix", "data": {"rows": ["a"], "columns": ["x", "y"], "values": [[1, 1]], "below": "z"}},
        {"kind": "line", "data": {"lines": {"a": {"x": [0, 1], "y": [2, 1]}, "b": {"x": [0], "y": [3]}}}},
        {"kind": "bars", "data": {"edges": [0, 1, 2], "counts": [0, 5], "below": "residual"}},
    ],
)
def test_figures_are_drawn_by_kind(figure):
    picture = np.asarray(Image.open(io.BytesIO(figures.draw_figure(figure, "title", "#2a7f62"))))
    assert picture.std() > 0 and picture.shape[0] > 100


def test_an_unknown_kind_of_figure_is_named():
    with pytest.raises(UserError, match="matrix, bars or line, and not 'pie'"):
        figures.draw_figure({"kind": "pie", "data": {}}, "title", "#2a7f62")


@pytest.mark.parametrize("headline", ["last", "best"])
def test_accuracy_reads_the_same_where_the_run_names_it(headline):
    from fabricate import document as classified

    old = classified()["results"]
    shown = [metric.document() for metric in CLASSIFICATION.values()]
    new = {**old, "metric": ACCURACY.document(), "metrics": shown}
    assert document.checked({"status": "finished", "results": new}, "run.json")
    assert role_cells(new, headline) == role_cells(old, headline)
    assert result_sentences(new, headline) == result_sentences(old, headline)
    assert result_warnings(new, headline) == result_warnings(old, headline)
    assert summary(new, headline) == summary(old, headline)


# What a reader checks


@pytest.mark.parametrize(
    ("path", "odd", "says"),
    [
        (("metric", "name"), "", "results.metric.name is missing"),
        (("metric", "digits"), 99, "results.metric.digits must be from 0 to 9"),
        (("metrics", 1, "more"), 3, "results.metrics.more must be true or false, and is 3"),
        (("student", "last", "test", "rmse"), "x", "results.student.last.test.rmse must be a number"),
        (("student", "last", "test", "r2"), 1.5, "results.student.last.test.r2 must be a number from"),
        (("student", "last", "test", "figures", 0, "kind"), 5, "kind must be text"),
        (("shifts", "blur"), {"student": "x"}, "results.shifts.blur.student must be a number"),
        (("roles",), {"shifts": {}}, "results.roles names 'shifts', which is no role"),
    ],
)
def test_what_is_wrong_is_said(path, odd, says):
    whole: Any = {"status": "finished", "results": copy.deepcopy(made_up())}
    node = whole["results"]
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = odd
    with pytest.raises(UserError) as error:
        document.checked(whole, "a/run.json")
    assert says in str(error.value)


@pytest.mark.parametrize("odd", [None, 5, -3, 1e300, "x", True, [], [1], {}, {"x": [1]}, float("-inf")])
def test_whatever_is_wrong_is_said_in_a_sentence(odd):
    whole: Any = {"status": "finished", "results": made_up(roles=MINE, bigger=network(0.6))}
    for path in places(whole["results"]):
        changed = copy.deepcopy(whole)
        node = changed["results"]
        for name in path[:-1]:
            node = node[name]
        node[path[-1]] = odd
        try:
            document.checked(changed, "a/run.json")
        except UserError:
            continue
        result_warnings(changed["results"], "last"), role_cells(changed["results"], "last")


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where everything in results is, but what networks hold beside their metrics."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        if key in ("metric", "metrics", "floor", "roles", "shifts") or path:
            yield (*path, key)
            yield from places(value[key], (*path, key))


def test_values_beyond_one_are_no_mistake():
    found = made_up(student=network(37.5), shifts={"blur": {"student": 40.0}})
    whole = {"status": "finished", "results": found}
    assert document.checked(whole, "a/run.json") is whole


# Roles that kdx does not have


def test_a_control_of_ones_own_is_shown_everywhere(tmp_path):
    found = made_up(roles=MINE, bigger=network(0.65))
    assert list(roles_of(found)) == ["teacher", "baseline", "student", "bigger"]
    assert known_roles(found)["bigger"].stage == "bigger-train" and list(known_roles(None)) == list(ROLES)
    assert role_cells(found, "last")[1][-1][0] == "bigger student"
    assert role_cells(found, "last", short=True)[1][-1][0] == "bigger"
    run = folder(tmp_path)
    train(run)
    run.started("bigger-train", "k", False)
    for step in (0, 1):
        run.record("bigger-train", {"step": step, "train/loss": 1.0, "validation/rmse": 1.0})
    run.finished("bigger-train", "k", False, 1.0)
    (tmp_path / "store").mkdir()
    run.link("bigger-train", tmp_path / "store")
    run.finish(found, None)
    text = (tmp_path / "report.md").read_text()
    assert "| bigger student | 1,000 |" in text and "- bigger student: `artifacts/bigger-train`" in text
    assert (tmp_path / "figures" / "residuals.png").exists()
    assert read_events(tmp_path / "curves/bigger").Scalars("1 validation/rmse")[0].value == 1.0
    picture = np.asarray(Image.open(tmp_path / "figures" / "curves-train-loss.png").convert("RGB"))
    assert (picture == [0x11, 0x22, 0x33]).all(axis=2).any()
    assert document.read_document(tmp_path / "run.json")["results"]["roles"] == MINE


def test_a_run_folder_knows_who_was_trained_by_its_stages():
    names = ["prepare", "bigger-train", "student-train-1", "student-train-2", "teacher-pretrain"]
    run = Run(Path("a"), {}, dict.fromkeys(names, ("train", "k")), ())
    assert list(run.roles().items()) == [
        ("teacher", "teacher-pretrain"),
        ("student", "student-train-2"),
        ("bigger", "bigger-train"),
    ]


# The card of an export


def test_the_card_has_the_metrics_of_the_run():
    made = {
        "loss": None,
        "training": None,
        "precision": "fp32",
        "created": 0,
        "code": "c",
        "teachers": [],
        "labels": None,
        "data": {"artifact": "a", "dataset": "Curves", "sizes": {}, "counts": {}, "source_digests": {}}
        | {"range": {}},
    }
    about = {
        "model": "mlp",
        "role": "student",
        "which": "last",
        "artifact": "train/k",
        "parameters": 1000,
        "bytes": 4000,
        "exported": "now",
        "kdx": "0",
        "input": {"shape": [1, 8, 8], "channels": "grey"},
        "formats": {
            "state_dict": {
                "file": "student.safetensors",
                "bytes": 4000,
                "parity": {"max_abs_difference": 0.0, "rows": 20, "split": "validation"},
            }
        },
        "metrics": made_up(),
        "gain": 0.3,
        "lineage": made,
        "seed": 0,
        "run": {"command": "kdx train", "started": "now", "environment": {}},
        "environment": {},
    }
    text = card.markdown(json.loads(json.dumps(about)))
    assert "| parameters | validation RMSE | test RMSE | test R2 | test rows |" in text
    assert "| distilled student | 1,000 | 0.710 | 0.700 | 0.65 | 100 |" in text
    assert "Gain of distillation over the student alone: +0.300 of test RMSE, from one seed." in text
    assert "Classes" not in text and "softmax" not in text
