"""What compares many runs follows their metric: its name, title, digits, unit and direction; on fabricated
runs of another task, where less is better, and of a user's own metric and role.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from fabricate import R2, RMSE, document, folder, regression

from kdx.cli import main
from kdx.commands import _sweep, _sweep_end
from kdx.commands._arms import value
from kdx.commands._claim_tables import _named, _unit, compared_pairs
from kdx.commands._watch import result_line
from kdx.config import grid
from kdx.core.errors import UserError
from kdx.core.metric import Metric, checked_metric
from kdx.report.compare.compare import SORTS, arranged, compare_runs
from kdx.report.compare.curves import read_curves
from kdx.report.compare.documents import as_csv, as_json, as_markdown, records
from kdx.report.compare.entries import entry
from kdx.report.compare.rows import comparison_sentences, group_cells, header
from kdx.report.run import document as run_json
from kdx.runs import claims, diff
from kdx.runs.claims import ClaimFigure
from kdx.runs.reading import read_run
from kdx.tasks.shown import ACCURACY, CLASSIFICATION, shown_metrics

SEEDS = (0, 1, 2)


def runs(words=("loss=kd",), students=(0.7, 0.72, 0.68), alone=1.0, teacher=0.5, **changed):
    """One a seed; changed: dotted keys of the document, with __ for the dots."""
    further = {key.replace("__", "."): value for key, value in changed.items()}
    return [
        entry(f"{'_'.join(words)}_{seed}", regression(words, seed, student, alone, teacher, further))
        for seed, student in zip(SEEDS, students, strict=False)
    ]


def mirrored(words=("loss=kd",), students=(0.7, 0.72, 0.68), alone=1.0, teacher=0.5):
    """The same values as accuracies with the sign flipped: 1.1 less each."""
    flip = [1.1 - value for value in (*students, alone, teacher)]
    return [
        entry(f"{'_'.join(words)}_{seed}", document(words, seed, student, flip[-2], flip[-1]))
        for seed, student in zip(SEEDS, flip, strict=False)
    ]


# Direction


def test_gain_and_gap_closed_where_less_is_better():
    """Teacher .5, alone 1.0, distilled .7: .3 better, of .5 that the teacher is better."""
    found = compare_runs(runs(students=(0.7,)))
    (row,) = found.groups
    assert row.gain.found.mean == pytest.approx(0.3) and row.gain.found.wins == 1
    assert row.gap_closed == pytest.approx(0.6)
    assert header(found)[2:5] == ["test RMSE", "95% interval", "gain"]
    assert group_cells(found, row)[1:] == ["1", "0.700", "-", "+0.300", "-", "1/1", "-", "-", "60%"]


def test_a_teacher_that_is_worse_leaves_no_gap():
    assert compare_runs(runs(teacher=1.2)).groups[0].gap_closed is None


def test_statistics_are_those_of_an_accuracy_with_the_sign_flipped():
    """p, Holm, wins, deviation and order; the mean and its ends but for the unit."""
    rows = ((("loss=kd",), (0.7, 0.72, 0.68)), (("loss=slam",), (0.9, 1.02, 0.93)))
    less = compare_runs([e for words, students in rows for e in runs(words, students)])
    more = compare_runs([e for words, students in rows for e in mirrored(words, students)])
    assert [g.name for g in less.groups] == [g.name for g in more.groups] == ["loss=kd", "loss=slam"]
    for a, b in zip(less.groups, more.groups, strict=True):
        assert a.gain.found.p == pytest.approx(b.gain.found.p) and a.gain.found.p < 1
        assert a.against.holm == pytest.approx(b.against.holm) and a.gap_closed == pytest.approx(b.gap_closed)
        assert (a.gain.found.wins, a.gain.found.losses) == (b.gain.found.wins, b.gain.found.losses)
        assert 100 * a.gain.found.mean == pytest.approx(b.gain.found.mean)
        assert [100 * end for end in a.gain.interval] == pytest.approx(b.gain.interval)
    assert less.groups[1].gain.found.wins == 2 and less.comparisons == 2
    assert [r["verdict"] for r in records(less)] == ["less", "n.s."]
    assert [r["verdict"] for r in records(more)] == ["more", "n.s."]


def test_the_least_comes_first_by_every_order_of_worth():
    found = compare_runs([*runs(("loss=slam",), (0.9, 0.91, 0.92)), *runs(("loss=kd",))])
    assert [g.name for g in found.groups] == ["loss=kd", "loss=slam"]
    for by in ("test", "validation", "gain", "difference", "gap_closed", "p"):
        assert by in SORTS and arranged(found, by).groups[0].name == "loss=kd", by


def test_a_difference_to_another_row_is_above_zero_for_the_better():
    found = compare_runs([*runs(), *runs(("loss=slam",), (0.9, 0.91, 0.92))], reference="loss=slam")
    kd, slam = found.groups
    assert slam.is_reference and kd.against.found.wins == 3
    assert kd.against.found.mean == pytest.approx(0.21) and header(found)[4] == "below reference"
    more = compare_runs([*mirrored(), *mirrored(("loss=slam",), (0.9, 0.91, 0.92))], reference="loss=slam")
    assert more.groups[0].against.found.mean == pytest.approx(21) and header(more)[4] == "less reference"


def test_an_interval_ends_where_the_metric_does_and_else_nowhere():
    """Two seeds, .01 and .21: t = 12.7062 reaches below 0, which an RMSE is never."""
    (row,) = compare_runs(runs(students=(0.01, 0.21))).groups
    assert row.interval == pytest.approx((0, 0.11 + 12.7062 * 0.1), abs=1e-4)
    endless = {**RMSE, "low": None}
    found = compare_runs(
        runs(students=(0.01, 0.21), results__metric=endless, results__metrics=[endless]),
    )
    assert found.groups[0].interval[0] == pytest.approx(0.11 - 12.7062 * 0.1, abs=1e-4)


# Which metric


def test_the_metric_is_one_that_the_runs_show():
    found = compare_runs(runs(), metric="r2")
    assert found.metric.title == "R2" and found.groups[0].gain.found.mean == pytest.approx(0.3)
    assert found.counts.name == "rmse"
    with pytest.raises(UserError, match="metric=accuracy: the runs have no such metric; one of: r2, rmse"):
        compare_runs(runs(), metric="accuracy")
    with pytest.raises(UserError, match=r"did you mean 'rmse'\? \(of rmse, r2\)"):
        compare_runs(runs(), metric="rsme")


def test_a_users_own_metric_is_offered_and_must_mean_one_thing():
    own = {"name": "top5", "title": "top 5", "scale": 100, "unit": "%", "digits": 1, "more": True}

    def made(seed, **other):
        found = document(("loss=kd",), seed)
        found["results"] |= {"metric": ACCURACY.document(), "metrics": [ACCURACY.document(), own | other]}
        found["results"]["student"]["last"]["test"]["top5"] = 0.99
        return entry(f"run-{seed}", found)

    found = compare_runs([made(0), made(1)], metric="top5")
    assert header(found)[2] == "test top 5, %" and group_cells(found, found.groups[0])[2] == "99.0 ± 0.0"
    with pytest.raises(UserError, match=r"not the same in all runs, but top5 \(%, more is better\) and"):
        compare_runs([made(0), made(1, more=False)], metric="top5")
    assert compare_runs([made(0), made(1, more=False)]).metric == ACCURACY, "it is not asked for"


def test_runs_of_other_tasks_are_refused_in_a_sentence():
    other = [entry("digits", document(("loss=kd",), 0))]
    with pytest.raises(UserError) as error:
        compare_runs([*runs(), *other])
    first, *rest = str(error.value).splitlines()
    assert first.startswith("metric: rmse (less is better) in ")
    assert "accuracy (%, more is better) in " in first and "(1 run: digits)" in first
    assert len(rest) == 1 and "not compared" in rest[0]


def test_runs_with_the_metric_written_and_older_ones_are_one_row():
    """results.metric came later: what an older run says nothing of is classification."""
    new = document(("loss=kd",), 1)
    new["results"] |= {
        "metric": ACCURACY.document(),
        "metrics": [metric.document() for metric in CLASSIFICATION.values()],
    }
    (row,) = compare_runs([entry("old", document(("loss=kd",), 0)), entry("new", new)]).groups
    assert row.test.n == 2
    assert shown_metrics(new["results"]) == CLASSIFICATION == shown_metrics({})


def test_digits_and_unit_are_the_metrics():
    metric = {**RMSE, "digits": 1, "scale": 1000, "unit": "mm"}
    found = compare_runs(runs(results__metric=metric, results__metrics=[metric]))
    assert header(found)[2] == "test RMSE, mm"
    assert group_cells(found, found.groups[0])[2:6] == [
        "700.0 ± 20.0",
        "650.3 to 749.7",
        "+300.0 ± 20.0",
        "+250.3 to +349.7",
    ]
    made = json.loads(as_json(found))
    assert (made["unit"], made["more_is_better"], made["metric"]) == ("mm", False, "rmse")
    many = runs(results__student__last__test={"rmse": 0.7, "n": 10_000})
    assert compare_runs(many).metric.digits == 3, "a digit more is for per cent"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"results__metric": 3}, "results.metric must be an object"),
        ({"results__metric": {"title": "RMSE"}}, "results.metric.name is missing"),
        ({"results__metric": {**RMSE, "more": "no"}}, "results.metric.more must be true or false"),
        ({"results__metric": {**RMSE, "digits": 1.5}}, "results.metric.digits must be a whole number"),
        ({"results__metric": {**RMSE, "digits": 99}}, "results.metric.digits must be from 0 to 9"),
        ({"results__metric": {**RMSE, "scale": 0}}, "results.metric.scale must be a number from"),
        ({"results__metric": {**RMSE, "title": "\x1b[31m"}}, "results.metric.title must be printable"),
        ({"results__metric": {**RMSE, "title": "R" * 61}}, "at most 60 characters"),
        ({"results__metrics": {"rmse": RMSE}}, "results.metrics must be a list"),
        ({"results__metrics": [3]}, "each of results.metrics must be an object"),
        ({"results__student__last__test__rmse": -1}, "rmse must be a number from 0 to"),
        ({"results__student__last__test__rmse": None}, "has no student that was measured"),
        ({"results__roles": 3}, "results.roles must be an object"),
    ],
)
def test_a_metric_that_is_wrong_is_an_error_and_no_traceback(changed, says):
    with pytest.raises(UserError) as error:
        runs(**changed)
    assert says in str(error.value)


def test_no_reader_trips_over_a_metric_that_is_wrong(tmp_path):
    made = regression()
    made["results"]["metric"]["digits"] = "many"
    with pytest.raises(UserError, match="results.metric.digits must be a whole number"):
        run_json.checked(made, "run.json")
    assert run_json.checked(regression(), "run.json")


# Roles of a user's own


def test_a_role_that_kdx_does_not_have_stands_after_its_own():
    def made(seed):
        found = regression(("loss=kd",), seed)
        found["results"]["linear"] = {
            "parameters": 10,
            "last": {"test": {"rmse": 1.5 + 0.1 * seed, "n": 500}},
        }
        found["results"]["roles"] = {
            "linear": {"words": "a linear model", "short": "linear", "colour": "#123456"},
            "absent": {"words": "not trained"},
        }
        return entry(f"run-{seed}", found)

    found = compare_runs([made(0), made(1)])
    assert list(found.roles) == ["linear"] and records(found)[0]["linear_mean"] == pytest.approx(1.55)
    head, _, row = [line for line in as_markdown(found).splitlines() if line.startswith("|")]
    assert "| alone | teacher | linear | params |" in head and "| 1.000 | 0.500 | 1.550 | 2.58k |" in row
    (first,) = json.loads(as_json(found))["rows"]
    assert first["runs"][1]["linear"] == pytest.approx(1.6)
    assert "linear_mean" in as_csv(found).splitlines()[0]
    plain = compare_runs(runs())
    assert not plain.roles and "linear" not in as_csv(plain)


# The command and the page


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "outputs"
    for loss, lift in (("kd", 0.0), ("slam", 0.1)):
        for n in (50, 200):
            for seed in SEEDS:
                words = (f"loss={loss}", f"dataset.labelled={n}")
                student = 0.7 + lift - n / 1000 + 0.01 * seed
                folder(place, f"{loss}-{n}-{seed}", regression(words, seed, student))
    return place


def test_the_page_of_another_task(sweep):
    """Nothing is said of classes, and every axis says which way is better."""
    assert main(["compare", "outputs", "--html", "page.html"]) == 0
    text = Path("page.html").read_text()
    assert re.findall(r'aria-label="([^"]+)"', text) == [
        "every seed",
        "rmse against labelled examples",
        "learning curves",
    ]
    assert text.count("test RMSE (less is better)</text>") == 2
    assert "validation RMSE (less is better)</text>" in text
    assert "Validation RMSE of the student while it trains" in text
    assert not re.search("accuracy|eliability|onfusion|classes|picture|test %", text)
    names = re.findall(r'<td class="name" data-v="(loss[^"]*)"', text)
    assert names[0] == "loss=kd dataset.labelled=200", "the least RMSE"


def test_the_command_of_another_task(sweep, capsys):
    assert main(["compare", "outputs"]) == 0
    shown = capsys.readouterr().out
    assert "test RMSE" in shown and "+0.490 ± 0.010" in shown and "test %" not in shown
    assert main(["compare", "outputs", "metric=r2", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("loss=kd dataset.labelled=200,3,0 1 2,r2,0.49")
    assert main(["compare", "outputs", "metric=accuracy"]) == 2
    assert "one of: r2, rmse" in capsys.readouterr().err


def test_curves_are_those_of_the_metric_that_counts(tmp_path):
    lines = [
        {"step": 1, "stage": "student-train", "validation/rmse": 3.5, "validation/accuracy": 0.5},
        {"step": 2, "stage": "student-train", "validation/rmse": -1},
        {"step": 3, "stage": "student-train", "validation/loss": 2},
        {"step": 4, "stage": "student-train", "validation/rmse": 1e300},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_curves(tmp_path, Metric.read(RMSE)) == {"student": [(1, 3.5)]}
    assert read_curves(tmp_path, ACCURACY) == {"student": [(1, 0.5)]}


# Sweeps and searches


def test_the_line_of_a_run_is_in_its_metric():
    made = regression()
    made["results"]["gain"] = 0.3
    made["seconds"] = 61
    line = result_line("1/2", made)
    assert line.startswith("1/2: teacher 0.500, alone 1.000, distilled 0.700, gain +0.300 (")
    plain = document()
    plain["results"]["gain"] = 0.02
    assert result_line("1/2", plain) == "1/2: teacher 95.0%, alone 88.0%, distilled 90.0%, gain +2.0"


def test_a_search_makes_small_what_is_better_smaller():
    """An RMSE itself; what an accuracy lacks of 1; the negative of what has no most."""
    assert _sweep.validation_error(regression()) == pytest.approx(0.71)
    assert _sweep.validation_error(document()) == 1 - (0.9 - 0.01)
    endless = {**R2, "high": None, "name": "rmse"}
    assert _sweep.validation_error(regression(changed={"results.metric": endless})) == pytest.approx(-0.71)


def test_a_search_keeps_its_direction():
    """The error is small where the student is good, whatever the metric."""
    words = ["sweeper=optuna", "hydra.sweeper.direction=maximize"]
    assert any("must stay minimize" in error for error in grid.misplaced(words, multirun=True))
    assert grid.misplaced(["hydra.sweeper.direction=minimize", "sweeper=optuna"], multirun=True) == []


def test_runs_of_several_tasks_are_shown_each_in_its_metric(capsys):
    both = [*runs(students=(0.7,)), entry("a/digits", document(("loss=kd",), 0))]
    _sweep_end.side_by_side(both, ["they differ"], finished=2, whole=2)
    shown = capsys.readouterr().out
    assert re.search(r"loss=kd_0 +\| +RMSE +\| +0.500 +\| +1.000 +\| +0.700", shown), shown
    assert re.search(r"digits +\| +accuracy +\| +95.0% +\| +88.0% +\| +90.0%", shown)
    _sweep_end.side_by_side(both[1:], [], finished=1, whole=1)
    assert "metric" not in capsys.readouterr().out


# kdx reproduce


def figure(**spec) -> ClaimFigure:
    return claims._figure("figures.x", {"arm": "a", **spec}, {"a": ()})


def test_a_figure_says_which_metric_and_direction_and_else_has_the_runs():
    metrics = {m["name"]: Metric.read(m) for m in (RMSE, R2)}
    own = figure(role="student")
    assert own.at == "student.last.test.*" and own.shown_as(metrics).name == "rmse"
    assert own.shown_as(CLASSIFICATION) == ACCURACY
    assert figure(role="student", metric="r2").shown_as(metrics).more
    assert not figure(at="x", more=False).shown_as(metrics).more
    assert figure(at="x").shown_as(metrics) == ACCURACY and figure(at="x", unit="share").shown_as({}).more
    shares = figure(role="student", unit="share").shown_as(metrics)
    assert (shares.scale, shares.digits, shares.more) == (1, 3, False)
    with pytest.raises(UserError, match="the run has no metric 'rsme'; did you mean 'rmse'"):
        figure(role="student", metric="rsme").shown_as(metrics)
    for wrong, says in (
        ({"role": "student", "more": "no"}, "more must be true or false"),
        ({"method": "SLaM", "metric": "rmse"}, "has no metric of a run"),
        ({"role": "student", "unit": "metres"}, "no option 'metres'"),
    ):
        with pytest.raises(UserError, match=says):
            figure(**wrong)


def test_a_figure_is_read_in_the_metric_that_counts(tmp_path):
    from kdx.store.artifact import Artifact

    results = {"student": {"last": {"test": {"rmse": 0.7, "accuracy": 0.9}}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    stages = {"evaluate": Artifact("evaluate", "0" * 64, tmp_path)}
    for metrics, wanted in (({"rmse": Metric.read(RMSE)}, 0.7), (CLASSIFICATION, 0.9)):
        assert value(stages, figure(role="student"), metrics) == wanted


def claim(**figures) -> claims.Claim:
    body = {
        "by": "nobody",
        "measured": "never",
        "arms": {"a": []},
        "figures": figures,
        "claimed": [{"more": "distilled", "less": "alone", "difference": 0.3}],
    }
    return claims.parse_claim("x", "A claim", body)


def test_a_claim_holds_where_the_better_has_less():
    made = claim(distilled={"arm": "a", "role": "student"}, alone={"arm": "a", "role": "baseline"})
    rmse = Metric.read(RMSE)
    values = {"distilled": [0.7, 0.72, 0.68], "alone": [1.0, 1.0, 1.0]}
    metrics = dict.fromkeys(values, rmse)
    (found,) = compared_pairs(made, values, metrics)
    assert found["mean"] == pytest.approx(0.3) and (found["wins"], found["verdict"]) == (3, "holds")
    assert found["unit"] == "RMSE" and _named(metrics, _unit) == "RMSE, or share"
    t = 0.3 / (0.02 / math.sqrt(3))
    assert found["p"] == pytest.approx(1 - t / math.sqrt(2 + t * t))
    (shares,) = compared_pairs(made, values, dict.fromkeys(values, ACCURACY))
    assert (shares["verdict"], shares["unit"]) == ("contradicted", "points")
    assert shares["p"] == pytest.approx(found["p"]) and _named({"a": ACCURACY}, _unit) == "points, or share"
    with pytest.raises(UserError, match="only alike figures can be compared"):
        compared_pairs(made, values, {"distilled": rmse, "alone": ACCURACY})


def test_figures_of_two_metrics_are_no_pair():
    student, alone = {"arm": "a", "role": "student"}, {"arm": "a", "role": "baseline"}
    with pytest.raises(UserError, match="distilled is in rmse and alone in r2"):
        claim(distilled=student | {"metric": "rmse"}, alone=alone | {"metric": "r2"})
    assert claim(distilled=student, alone=alone | {"metric": "rmse"})


# A run again


def test_how_figures_are_shown_is_no_number_that_a_run_has(tmp_path):
    """A run of before results.metric, and the same of today: the same numbers."""
    old, new = document(("loss=kd",), 0), document(("loss=kd",), 0)
    new["results"] |= {
        "metric": ACCURACY.document(),
        "metrics": [metric.document() for metric in CLASSIFICATION.values()],
        "roles": {},
    }
    found = diff.differences(*(read_run(folder(tmp_path, name, of)) for name, of in (("a", old), ("b", new))))
    assert found.same and found.metric == "accuracy"


def test_the_metric_that_counts_is_shown_first(tmp_path):
    one, other = regression(seed=0), regression(seed=0, student=0.8)
    places = [read_run(folder(tmp_path, name, of)) for name, of in (("a", one), ("b", other))]
    found = diff.differences(*places)
    shown = [what for what, _, _ in diff.worth_showing(found.numbers, 3, found.metric)]
    assert shown == [
        "results.student.last.test.rmse",
        "results.student.last.test.r2",
        "results.student.last.validation.rmse",
    ]


def test_a_metric_is_read_with_what_a_later_version_adds():
    assert checked_metric({**RMSE, "wide": True}, "x") == Metric.read(RMSE)
    assert " ".join(comparison_sentences(compare_runs(runs()))).count("paired by seed") == 1


def test_no_metric_task_or_modality_is_named(root):
    """In no name, text or docstring of what compares runs."""
    words = r"(?i)picture|pixel|image|accuracy|token|logit|\.argmax\(|\.softmax\(|num_classes|/ 255"
    files = sorted((root / "kdx/report/compare").glob("*.py"))
    assert len(files) > 15 and not [
        f"{file.name}: {line}"
        for file in files
        for line in file.read_text().splitlines()
        if re.search(words, line)
    ]
