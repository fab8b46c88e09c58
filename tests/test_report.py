"""The report: what a run's numbers are said to mean, and that the run folder is whole, readable and true."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdx.core.documents import plain
from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.roles import ROLE_WORDS, ROLES
from kdx.report.compare.statistics import plus_minus
from kdx.report.run import (
    canvas,
    closer,
    detail,
    figures,
    gallery,
    markdown,
    markup,
    matrices,
    reliability,
    rounds,
    sections,
)
from kdx.report.run.folder import RunFolder
from kdx.report.run.listeners import Listener, Many
from kdx.report.run.progress import Progress, duration
from kdx.report.run.result_warnings import result_warnings
from kdx.report.run.sentences import result_sentences
from kdx.report.run.table import print_table, role_cells
from kdx.report.run.tensorboard import hyperparameters
from kdx.report.run.units import bytes_in_words, decimals, magnitude, percent, three_figures
from kdx.report.run.verdict import settle, summary, what_gained
from kdx.report.run.written import write_or_error
from kdx.tasks import chance

PNG = b"\x89PNG\r\n\x1a\n"
COLOURS = {name: role.colour for name, role in ROLES.items()}
REPOSITORY = Path(__file__).parents[1]


def numbers(accuracy, n=500, train=0.95, agreement=None):
    test = {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "recall": [accuracy] * 10,
        "ece": 0.0312,
        "nll": 0.3,
        "n": n,
        "confusion": (np.eye(10, dtype=int) * 50).tolist(),
    }
    if agreement is not None:
        test["agreement"] = agreement
    return {
        "train": {"accuracy": train, "n": 100},
        "validation": {"accuracy": accuracy, "ece": 0.04, "nll": 0.3, "n": 200},
        "test": test,
    }


def role(accuracy, best=True, **more):
    sizes = {
        "model": "resnet50",
        "parameters": 23_520_842,
        "bytes": 94_312_345,
        "flops": 1_304_000_000,
        "latency_ms": 1312.34,
        "steps": 300,
    }
    found = {**sizes, "best_step": 250 if best else None, "last": numbers(accuracy, **more)}
    return found | ({"best": numbers(accuracy + 0.01, **more)} if best else {})


def results(teacher=0.95, alone=0.85, student=0.91, n=None, **more):
    given = {"teacher": teacher, "baseline": alone, "student": student}
    more |= {} if n is None else {"n": n}
    found = {
        name: role(value, agreement=None if name == "teacher" else 0.9, **more)
        for name, value in given.items()
        if value is not None
    }
    return {
        **found,
        "classes": [str(i) for i in range(10)],
        "class_counts": {"test": [50 if n is None else n // 10] * 10},
    }


def folder(path):
    config = {
        "loss": {"_target_": "kdx.methods.losses.kd.KD", "temperature": 4},
        "seed": 0,
        "student": {"channels": [4, 8]},
        "store": "outputs/store",
    }
    return RunFolder(path, config, {"split": {"test": 500}}, {"python": "3.11"}, ["kdx", "train", "seed=0"])


def train(listener, cached=False, stages=("teacher-pretrain", "baseline-train", "student-train"), key="k"):
    for name in stages:
        listener.started(name, f"{key}-{name}", cached)
        for step in range(0, 40, 10):
            listener.record(
                name, {"step": step, "train/loss": 1 / (step + 1), "validation/accuracy": step / 100}
            )
        listener.finished(name, f"{key}-{name}", cached, 1.25)


def examples(count=5):
    images = np.random.default_rng(0).integers(0, 255, (count, 1, 8, 8), dtype=np.uint8)
    return {
        "images": images,
        "truth": [1] * count,
        "predictions": {"teacher": [1] * count, "student": [2] * count},
        "confidence": {},
    }


def read_events(path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0, "images": 0}).Reload()


# What the numbers mean


def test_summary_of_a_plain_run():
    reported = summary(results(), "last")
    assert reported["headline"] == "last" and reported["gap_closed_reason"] is None
    assert reported["gain"] == pytest.approx(0.06) and reported["gap_closed"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("given", "gain", "reason"),
    [
        ({"teacher": 0.85}, 0.06, "no better than the student alone"),
        ({"alone": None}, None, "no student alone"),
        ({"student": None}, None, "no distilled student"),
        ({"teacher": None}, 0.06, "no teacher"),
        ({"student": math.nan}, None, "no distilled student"),
    ],
)
def test_gap_closed_is_null_with_a_reason(given, gain, reason):
    reported = summary(results(**given), "last")
    assert reported["gap_closed"] is None and reason in reported["gap_closed_reason"]
    assert reported["gain"] == (None if gain is None else pytest.approx(gain))


def test_a_gap_that_the_test_rows_cannot_tell_has_no_part():
    # of 80 rows a binomial standard error of .85 is .040: a third of it .013
    small = summary(results(teacher=0.86, n=80), "last")
    assert small["gap_closed"] is None and "by less than 80 test rows can tell" in small["gap_closed_reason"]
    assert summary(results(teacher=0.87, n=80), "last")["gap_closed"] == pytest.approx(3)


@pytest.mark.parametrize(
    ("choices", "gained"),
    [
        ({}, None),
        ({"init": "fresh"}, None),
        ({"init": "guide", "recipe": "distil"}, ["init=guide", "distillation"]),
        ({"init": "guide", "recipe": "supervised"}, ["init=guide"]),
    ],
)
def test_a_gain_is_of_all_that_the_student_alone_did_not_have(choices, gained):
    assert what_gained(choices).get("gained_by") == gained
    said = result_sentences(results() | what_gained(choices), "last")[0]
    assert said.startswith(f"Gain of {' and '.join(gained or ['distillation'])}: +6.0 points of test")
    assert ("begins with fresh weights" in said) == bool(gained)


def test_a_number_that_rounds_to_nothing_has_no_minus():
    given = results(alone=0.85, student=0.8498)
    assert summary(given, "last")["gap_closed"] == pytest.approx(-0.002)
    said = " ".join(result_sentences(given, "last"))
    assert "Gain of distillation: +0.0 points" in said and "gap to the teacher closed: 0% of" in said
    error = Metric("error", "error", digits=1)
    assert (error.shown(-0.04), error.difference(-0.04), error.counted(-0.04)) == ("0.0", "+0.0", "0.0")
    assert (error.shown(-0.06), error.difference(-0.06), error.counted(-0.06)) == ("-0.1", "-0.1", "-0.1")
    assert (percent(-0.0004), percent(-0.0006), decimals(-0.004, 2)) == ("0.0%", "-0.1%", "0.00")
    assert (plus_minus(-0.04, 0.04, 1, signed=True), plus_minus(-0.04, None, 1)) == ("+0.0 ± 0.0", "0.0")
    ceiling = given | {"ceiling": role(0.9)}
    assert "the teacher's answers brought 0% of that" in " ".join(result_sentences(ceiling, "last"))


def test_headline_is_best_only_where_every_role_has_it():
    assert settle(results(), "best") == "best"
    mixed = results() | {"student": role(0.9, best=False)}
    assert settle(mixed, "best") == "last" and any(
        "validation split" in line for line in result_warnings(mixed, "best")
    )
    with pytest.raises(UserError, match="'last' or 'best'"):
        settle(results(), "first")


def test_a_sound_run_has_no_warning():
    assert result_warnings(results(), "last") == []


@pytest.mark.parametrize(("accuracy", "warned"), [(0.149, True), (0.151, False)])
def test_a_teacher_that_only_guesses(accuracy, warned):
    said = result_warnings(
        results(teacher=accuracy, alone=None, student=None, n=10_000, train=accuracy), "last"
    )
    assert any("labels from it are noise" in line for line in said) == warned


def skewed(circles, squares, triangles):
    """Three classes of 18, 2 and 1 test rows (90, 8 and 3 pictures a class, a fifth of them), so many of each
    right, in every role.
    """
    recall = [circles / 18, squares / 2, triangles / 1]
    right = {
        "accuracy": (circles + squares + triangles) / 21,
        "balanced_accuracy": sum(recall) / 3,
        "recall": recall,
        "n": 21,
        "ece": 0.1,
        "nll": 0.5,
    }
    about = {"model": "cnn", "last": {"test": right}}
    return {
        "teacher": about,
        "baseline": about,
        "student": about,
        "classes": ["circle", "square", "triangle"],
        "class_counts": {"test": [18, 2, 1]},
    }


def test_always_the_largest_class_is_reported_of_each_role():
    said = result_warnings(skewed(18, 0, 0), "last")
    assert said == [
        f'The {role} is no better than always "circle" (85.7% of the test rows right, and 85.7% are of that '
        "class; balanced accuracy 33.3%, "
        f"where guessing has 33.3%): {so}"
        for role, so in (
            ("teacher", "labels from it are noise"),
            ("student alone", "it has learned next to nothing"),
            ("distilled student", "it has learned next to nothing"),
        )
    ]
    more = result_warnings(skewed(18, 1, 0), "last")
    assert all('is hardly better than always "circle" (90.5%' in w for w in more) and len(more) == 3
    assert result_warnings(skewed(17, 2, 1), "last") == [], "fewer circles right, and it knows all three"
    assert len(result_warnings(skewed(18, 1, 0), "last")) == 3, "one square of two may be luck"


def test_generations_are_called_one_ensemble_whose_verbs_fit():
    found = results() | {"generations": role(0.9)}
    del found["generations"]["last"]["test"]["accuracy"]
    (said,) = result_warnings(found, "last")
    assert said == "The ensemble of generations has no test accuracy: see the log"


def test_the_largest_class_of_many_rows_is_no_measure_of_the_rare_ones():
    assert chance.guesses(0.994, 0.7, [990, 10]) is False, "four of ten rare ones and no false alarm"
    assert chance.guesses(0.990, 0.5, [990, 10]) is True and chance.guesses(0.9, 0.92, [990, 10]) is False
    assert chance.balanced_line([1000] * 10) == pytest.approx(
        chance.chance_level(0.1, 10_000)
    ) and chance.balanced_line([10] * 10) == pytest.approx(0.16)
    assert chance.balanced_line([7, 0, 7]) == pytest.approx(chance.chance_level(0.5, 14)), (
        "a class without rows does not count"
    )
    assert chance.balanced_line([90, 10]) == pytest.approx(0.5 + 2 * (0.25 / 90 + 0.25 / 10) ** 0.5 / 2)


def test_balanced_accuracy_is_reported_where_a_class_has_most_rows():
    (line,) = [line for line in printed(200, skewed(17, 2, 0)).splitlines() if line.startswith("Balanced")]
    assert line == (
        'Balanced test accuracy, the mean recall of the classes, as "circle" has 85.7% of the rows: teacher '
        "64.8%, student alone 64.8%, "
        "distilled student 64.8%."
    )
    assert "Balanced" not in printed(200)


def test_the_report_has_the_recall_of_each_class_and_of_many_the_least():
    reported = "\n".join(detail.class_section({"results": {**skewed(17, 2, 0), "headline": "last"}}))
    assert (
        "| balanced accuracy | 21 | 64.8 | 64.8 | 64.8 |" in reported
        and "| circle | 18 | 94.4 | 94.4 | 94.4 |" in reported
        and "<details open>" in reported
    )
    many = {
        "student": {
            "last": {"test": {"balanced_accuracy": 0.5, "recall": [c / 1000 for c in range(999)] + [None]}}
        },
        "headline": "last",
        "classes": [f"c{c}" for c in range(1000)],
        "class_counts": {"test": [5] * 999 + [0]},
    }
    reported = "\n".join(detail.class_section({"results": many}))
    assert (
        reported.count("\n| c") == 10
        and "| c9 | 5 | 0.9 |" in reported
        and "the 10 classes of 1,000 that the distilled student knows least" in reported
    )
    assert detail.class_section({"results": {"student": {"last": {"test": {"accuracy": 0.5}}}}}) == [], (
        "older runs have none"
    )


@pytest.mark.parametrize(("validation", "warned"), [(0.849, True), (0.851, False)])
def test_teacher_overfits_beyond_fifteen_points(validation, warned):
    said = result_warnings(results(teacher=validation, alone=0.7, student=0.8, train=1.0), "last")
    assert any("overfits" in line for line in said) == warned


def test_a_gap_on_few_validation_rows_is_noise():
    """Two standard errors of 75% on 12 rows are 25 points."""
    for n, warned in ((12, False), (13, True)):
        found = results(teacher=0.75, alone=0.7, student=0.8, train=1.0)
        found["teacher"]["last"]["validation"]["n"] = n
        assert any("overfits" in line for line in result_warnings(found, "last")) is warned


def test_accuracies_of_100_per_cent_have_no_error_of_0():
    said = result_sentences(results(teacher=1.0, alone=1.0, student=1.0, n=100), "last")
    assert (
        "Caution: 100 test rows, all or none of them right, so each accuracy is good to about 3.0 points "
        "(95%, rule of three); one seed: compare several with -m seed=0,1,2."
    ) in said
    said = result_sentences(results(teacher=1.0, alone=0.9, student=1.0, n=100), "last")
    assert any("good to about 3.0 points (one binomial standard error)" in line for line in said)


def test_a_student_that_is_worse_is_reported_and_the_teacher_is_left_to_the_gate():
    assert [
        "worse than the student alone" in line
        for line in result_warnings(results(teacher=0.85, alone=0.85, student=0.84), "last")
    ] == [True]
    assert result_warnings(results(teacher=0.84, alone=0.85, student=0.85), "last") == []


def test_an_accuracy_that_is_not_a_number_is_reported():
    assert any("no test accuracy" in line for line in result_warnings(results(student=math.nan), "last"))


# The table


def printed(width, given=None, warnings=()):
    out = io.StringIO()
    print_table(given or results(), "last", list(warnings), file=out, width=width)
    return out.getvalue()


@pytest.mark.parametrize("width", [200, 120, 100, 80, 60, 40, 20])
def test_no_figure_is_cut_at_any_width(width):
    text = printed(width, warnings=["look out"])
    for figure in ("95.0", "85.0", "91.0", "90.0", "94.3 MB", "1,304", "1,312", "0.031"):
        assert figure in text, figure
    flat = " ".join(text.split())
    assert (
        "Gain of distillation: +6.0 points" in flat
        and "60% of 10.0 points" in flat
        and "-m seed=0,1,2" in flat
    )
    assert "WARNING: look out" in flat and "\N{HORIZONTAL ELLIPSIS}" not in text


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(("width", "header"), [(120, "parameters"), (80, "agree %"), (48, "distilled")])
def test_the_table_fits_its_terminal(width, header, terminal):
    from rich.console import Console

    from kdx.report.run.table import results_table

    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, color_system=None).print(
        results_table(results(), "last", []), crop=False
    )
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width and any(header in line for line in lines)


def test_absent_roles_have_no_row_and_missing_numbers_a_dash():
    _, rows = role_cells(results(alone=None), "last")
    assert [row[0] for row in rows] == ["teacher", "distilled student"]
    assert rows[0][-1] == "-" and rows[1][-1] == "90.0"
    _, rows = role_cells({"teacher": {"last": {}}, "classes": []}, "last")
    assert set(rows[0][1:]) == {"-"}


def test_best_weights_and_large_test_splits():
    assert [row[6] for row in role_cells(results(), "best")[1]] == ["96.0", "86.0", "92.0"]
    assert role_cells(results(n=10_000), "last")[1][0][6] == "95.00"


def test_a_pipe_gets_markdown_without_colour(capsys):
    print_table(results(), "last", ["x"])
    text = capsys.readouterr().out
    assert "| distilled student |" in text and "\x1b" not in text


def test_the_key_of_points_is_a_dot_and_of_a_line_a_line():
    """A line is 20 units wide and 3 high, a dot 10 at its middle; two pixels a unit."""

    def widths(**more):
        data = {"lines": {"here": {"x": [0, 1], "y": [0, 1]}}, **more}
        red = np.abs(decode(figures.draw_lines(data, "t", "#ff0000"))[:92] - [255, 0, 0]).sum(2) < 30
        return red.sum(1).max(), red.any(1).sum()

    wide, tall = widths()
    assert wide == 40 and tall in (5, 6)
    assert widths(points=["here"])[0] == widths(points=["here"])[1] in (19, 20, 21)


def test_units():
    assert [magnitude(n) for n in (7, 1234, 23_520_842)] == ["7", "1.23k", "23.5M"]
    assert [bytes_in_words(n) for n in (999, 11_756, 94_312_345)] == ["999 B", "11.8 kB", "94.3 MB"]
    assert [three_figures(x) for x in (0.04123, 3.14159, 41.23, 1312.3, None)] == [
        "0.0412",
        "3.14",
        "41.2",
        "1,312",
        "-",
    ]
    assert [duration(s) for s in (0.42, 59.7, 75, 5400)] == ["0.4 s", "1 min 0 s", "1 min 15 s", "1 h 30 min"]


# Progress


def test_plain_lines_are_few_and_complete():
    from rich.console import Console

    out, clock = io.StringIO(), iter(range(10**6))
    with Progress(Console(file=out, width=80), clock=lambda: next(clock) * 0.05) as progress:
        progress.started("teacher-pretrain", "k", False)
        for step in range(1, 1001):
            progress.progress("teacher-pretrain", step, 1000, "")
            progress.record("teacher-pretrain", {"step": step, "validation/accuracy": 0.5})
        progress.note("teacher-pretrain", "careful [bold]", "warning")
        progress.finished("teacher-pretrain", "k", False, 50.0)
        progress.started("student-train", "k", True)
        progress.finished("student-train", "k", True, 0.1)
    lines = out.getvalue().splitlines()
    assert (
        lines[0] == "teacher-pretrain: started"
        and lines[-2] == "teacher-pretrain: done in 50 s, validation accuracy 50.0%"
    )
    assert (
        lines[-1] == "student-train: from the store" and "warning: teacher-pretrain: careful [bold]" in lines
    )
    steps = [line for line in lines if "/1000" in line]
    assert 8 <= len(steps) <= 12 and "validation accuracy 50.0%" in steps[0]


def test_progress_tells_loss_rate_and_times():
    from rich.console import Console

    out, now = io.StringIO(), [0.0]
    progress = Progress(Console(file=out, width=80), clock=lambda: now[0])
    for step in range(101):  # twenty steps a second, after a second of preparation
        if step == 0:
            progress.started("student-train", "k", False)
        now[0] = 1.0 + step / 20
        progress.record("student-train", {"step": step, "train/loss": 0.41234, "validation/accuracy": 0.5})
        progress.progress("student-train", step, 200, "")
    line = next(text for text in out.getvalue().splitlines() if "40/200" in text)
    told = "loss 0.412, validation accuracy 50.0%, 20 steps/s, 3.0 s, 8.0 s left"
    assert line == f"student-train: 40/200, {told}"
    for cached in (False, True):
        progress.started("probe", "its", cached)
        progress.finished("probe", "its", cached, 0.1)
    assert out.getvalue().count("probe") == 2, "what is asked for twice is said once"
    progress.started("pseudo-label", "k", False)
    for part in range(3):
        now[0] += 2.0
        progress.progress("pseudo-label", part, 10, "unlabelled")
    assert out.getvalue().splitlines()[-1] == "pseudo-label: 2/10, unlabelled, 6.0 s, 16 s left"


@pytest.mark.parametrize(("width", "told"), [(80, "20%"), (100, "40/200"), (160, "40/200")])
def test_a_bar_tells_all_in_one_line(width, told):
    from rich.console import Console

    out, now = io.StringIO(), [0.0]
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    progress = Progress(console, clock=lambda: now[0])
    progress.started("teacher-pretrain", "k", False)
    for step in range(41):
        now[0] = 1.0 + step / 20
        progress.record("teacher-pretrain", {"step": step, "train/loss": 0.41234, "validation/accuracy": 0.5})
        progress.progress("teacher-pretrain", step, 200, "")
    console.print(progress.view.bars)
    (line,) = (text for text in out.getvalue().splitlines() if "teacher-pretrain" in text)
    assert line.split()[2:] == [told, *"val 50.0% loss 0.412 20/s 3.0 s, 8.0 s left".split()]
    assert len(line) <= width


def test_a_long_stage_is_heard_of_more_and_more_rarely():
    from rich.console import Console

    out, now = io.StringIO(), [0.0]
    progress = Progress(Console(file=out, width=80), clock=lambda: now[0])
    progress.started("student-train", "k", False)
    for step in range(1, 360):  # an hour for less than a tenth
        now[0] = step * 10.0
        progress.progress("student-train", step, 4000, "")
    assert 10 <= len(out.getvalue().splitlines()) <= 20


def test_bars_restore_the_terminal_on_ctrl_c():
    from rich.console import Console

    out = io.StringIO()
    with (
        pytest.raises(KeyboardInterrupt),
        Progress(Console(file=out, force_terminal=True, color_system=None, width=100)) as progress,
    ):
        progress.started("prepare", "k", True)
        progress.finished("prepare", "k", True, 0.1)
        progress.started("teacher-pretrain", "k", False)
        progress.record("teacher-pretrain", {"step": 3, "validation/accuracy": 0.912})
        progress.progress("teacher-pretrain", 3, 10, "")
        progress.note("teacher-pretrain", "careful [red]", "warning")
        raise KeyboardInterrupt
    text = out.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    for words in ("from the store", "3/10", "val 91.2%", "careful [red]"):
        assert words in text, words


def test_many_passes_everything_on():
    heard = []

    class Ear(Listener):
        def record(self, name, record):
            heard.append((name, record["step"]))

    train(Many(Ear(), Listener(), Ear()), stages=("student-train",))
    assert heard[:2] == [("student-train", 0)] * 2 and len(heard) == 8


# The run folder


def test_a_finished_run_explains_itself(tmp_path):
    run = folder(tmp_path / "run = 1, two")
    train(run)
    run.note("teacher-pretrain", "one class is rare", "warning")
    run.note("teacher-pretrain", "nothing to see", "info")
    run.note("prepare", "2 classes (cat, dog); 10 labelled, 5 test", "info")
    (tmp_path / "store").mkdir()
    run.link("student-train", tmp_path / "store")
    reported = run.finish(results(teacher=0.8, student=0.84, train=0.8) | {"odd": math.nan}, examples())
    document = json.loads((run.path / "run.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert set(document) == {
        "status",
        "config",
        "stages",
        "results",
        "protocol",
        "environment",
        "started",
        "ended",
        "seconds",
        "warnings",
        "command",
        "data",
    }
    assert (
        document["data"] == ["2 classes (cat, dog); 10 labelled, 5 test"]
        and "## Data\n\n- 2 classes (cat" in (run.path / "report.md").read_text()
    )
    assert document["status"] == "finished" and document["results"] == reported and reported["odd"] is None
    assert (
        reported["gain"] == pytest.approx(-0.01)
        and reported["gap_closed"] is None
        and reported["headline"] == "last"
    )
    assert document["stages"][0] == {
        "name": "teacher-pretrain",
        "key": "k-teacher-pretrain",
        "cached": False,
        "seconds": 1.25,
    }
    assert (
        document["warnings"][0] == "one class is rare"
        and "worse" in document["warnings"][1]
        and len(document["warnings"]) == 2
    )
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 12 and lines[0] == {
        "step": 0,
        "train/loss": 1.0,
        "validation/accuracy": 0.0,
        "stage": "teacher-pretrain",
    }
    assert os.readlink(run.path / "artifacts" / "student-train") == "../../store"
    text = (run.path / "report.md").read_text()
    for words in (
        "`seed=0`",
        "| student alone |",
        "-1.0 points",
        "one class is rare",
        "`k-student-train`",
        "kdx board",
        "kdx export",
    ):
        assert words in text, words
    pictures = [words.split(")")[0] for words in text.split("](")[1:]]
    assert len(pictures) == 5 and all((run.path / picture).exists() for picture in pictures)
    assert not list(run.path.glob("*.tmp"))


@pytest.mark.parametrize("absent", ["teacher", "baseline", "student"])
def test_a_run_without_a_role_has_its_reports(tmp_path, absent):
    """And says nothing of a gain, or of a gap, that it does not have."""
    run = folder(tmp_path)
    found = results()
    del found[absent]
    run.finish(found, None)
    text = (tmp_path / "report.md").read_text()
    assert ("Gain:" in text) == (absent == "teacher") and "Gap closed:" not in text
    assert "Latency: of one row" in text and "<h1>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("cached", [False, True])
def test_tensorboard_reads_one_run(tmp_path, cached):
    run = folder(tmp_path)
    train(run, cached=cached)
    run.finish(results(), examples())
    networks = {file.parent for file in tmp_path.rglob("events.out.tfevents.*")}
    assert networks == {tmp_path, tmp_path / "curves/teacher", tmp_path / "curves/student-alone"}
    curves = {"1 validation/accuracy", "2 train/loss"}
    assert all(curves <= set(read_events(place).Tags()["scalars"]) for place in networks)
    events = read_events(tmp_path)
    scalars = set(events.Tags()["scalars"])
    assert [(e.step, round(e.value, 3)) for e in events.Scalars("1 validation/accuracy")] == [
        (0, 0),
        (10, 0.1),
        (20, 0.2),
        (30, 0.3),
    ]
    assert events.Scalars("(results)/gain")[0].value == pytest.approx(0.06)
    # TensorBoard lists the first five tags beside the hyperparameters.
    first = ["gain", "gap closed", "student accuracy", "student alone accuracy", "teacher accuracy"]
    assert sorted(scalars)[:5] == [f"(results)/{name}" for name in first]
    single = {f"confusion/{role}" for role in ("teacher", "student alone", "distilled student")}
    assert {"predictions", *single} < set(events.Tags()["images"])
    assert (
        events.Images("predictions")[0].encoded_image_string.startswith(PNG)
        and events.Images("predictions")[0].width > 100
    )
    assert {"card", "custom_scalars__config__"} < set(events.Tags()["tensors"])
    assert b"| student alone |" in events.Tensors("card")[0].tensor_proto.string_val[0]


def test_hyperparameters_stand_in_the_same_directory(tmp_path):
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
    from tensorboard.plugins.hparams import api_pb2, metadata

    run = folder(tmp_path)
    run.finish(results(), None)
    events = read_events(tmp_path)
    content = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    assert found["loss"].string_value == "kd" and found["loss.temperature"].number_value == 4
    assert found["student.channels"].string_value == "4, 8" and "store" not in found
    content = events.summary_metadata[metadata.SESSION_END_INFO_TAG].plugin_data.content
    assert metadata.parse_session_end_info_plugin_data(content).status == api_pb2.STATUS_SUCCESS
    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    (tag,) = layout.category[0].chart[0].multiline.tag
    assert all(re.match(tag, name) for name in ("1 validation/accuracy", "1 validation/accuracy-2"))
    assert not re.match(tag, "1 validation/accuracy_of_others")


def test_curves_are_live(tmp_path):
    run = folder(tmp_path)
    train(run)
    deadline = time.monotonic() + 10
    while any(
        "2 train/loss" not in read_events(place).Tags()["scalars"]
        for place in (tmp_path, tmp_path / "curves/teacher")
    ):
        assert time.monotonic() < deadline, "nothing was flushed in 10 s"
        time.sleep(0.3)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 12
    run.interrupt()


def test_odd_hyperparameters_are_left_out():
    config = {
        "a": None,
        "b": math.nan,
        "c": "/some/path",
        "d": "x" * 200,
        "hydra": {"x": 1},
        "e": {"f": True, "g": []},
        "h": [{"i": 1}],
        "j": 2,
    }
    assert hyperparameters(config) == {"e.f": True, "j": 2.0}


def test_a_second_run_in_the_folder_replaces_the_first_and_nothing_else(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "mine.csv").write_text("mine")
    first = folder(tmp_path)
    assert (tmp_path / "figures" / "mine.png").exists()
    train(first)
    first.interrupt()
    assert (tmp_path / "curves" / "teacher").is_dir()
    second = folder(tmp_path)
    assert not (tmp_path / "report.md").exists()
    assert [spot.name for spot in (tmp_path / "curves").iterdir()] == ["mine.csv"]
    second.finish({}, None)
    assert len(list(tmp_path.glob("events.*"))) == 1 and (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert json.loads((tmp_path / "run.json").read_text())["results"] is None


def test_further_stages_of_a_name_keep_their_own_curves(tmp_path):
    run = folder(tmp_path)
    train(run, stages=("student-train",), key="a")
    train(run, stages=("student-train",), key="b")
    train(run, stages=("student-train",), key="a", cached=True)  # asked for again: already reported
    run.finish({}, None)
    tags = read_events(tmp_path).Tags()["scalars"]
    assert {"2 train/loss", "2 train/loss-2"} < set(tags)
    document = json.loads((tmp_path / "run.json").read_text())
    assert [stage["name"] for stage in document["stages"]] == ["student-train", "student-train-2"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 8


def test_failure_and_interruption_are_recorded(tmp_path):
    run = folder(tmp_path / "a")
    try:
        raise ValueError("bad `thing` <b>")
    except ValueError as error:
        run.fail(error)
    document = json.loads((tmp_path / "a" / "run.json").read_text())
    assert (
        document["status"] == "failed"
        and document["error"] == "ValueError: bad `thing` <b>"
        and "test_report.py" in document["traceback"]
    )
    assert "bad `thing` <b>" in (tmp_path / "a" / "report.md").read_text()
    run = folder(tmp_path / "b")
    run.interrupt()
    assert json.loads((tmp_path / "b" / "run.json").read_text())["status"] == "interrupted"


def test_a_death_between_writes_leaves_the_old_run_json(tmp_path, monkeypatch):
    run = folder(tmp_path)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", die)
        train(run)
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["status"] == "running" and document["stages"] == []
    run.interrupt()
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "interrupted"


def test_a_kill_at_any_moment_leaves_valid_json(tmp_path):
    program = (
        "import sys; from pathlib import Path; from kdx.core.documents import dump\n"
        "from kdx.report.run.written import write_or_error\n"
        "for i in range(10**9): write_or_error(Path(sys.argv[1]), dump({'i': i, 'pad': 'x' * 300_000}))"
    )
    path = tmp_path / "run.json"
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=REPOSITORY)
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(50):
        assert len(json.loads(path.read_text())["pad"]) == 300_000
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert len(json.loads(path.read_text())["pad"]) == 300_000


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write .*hydra\.run\.dir"):
        folder(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="Cannot write"):
        write_or_error(tmp_path / "absent" / "run.json", "")


def test_where_links_fail_a_text_file_stands_in(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("links are not allowed here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    run = folder(tmp_path / "run")
    run.link("student-train", tmp_path / "store" / "abc")
    run.interrupt()
    assert (tmp_path / "run" / "artifacts" / "student-train").read_text() == "../../store/abc\n"


def test_plain_values():
    odd = {
        "a": np.float32(0.5),
        "b": np.int64(3),
        "c": math.inf,
        "d": (1, np.bool_(True)),
        5: Path("x"),
        "e": np.eye(1),
        "f": np.float64("nan"),
    }
    assert plain(odd) == {"a": 0.5, "b": 3, "c": None, "d": [1, True], "5": "x", "e": [[1.0]], "f": None}


# The teacher's reliability


MARGINS = {"edges": [0.0, 0.5, 1.0], "counts": [4, 100], "right": [1, 95]}
FITTED = {
    "margin/isotonic": {"x": [0.0, 0.5, 1.0], "y": [0.2, 0.6, 1.0]},
    "margin/alpha": {"x": [0.0, 0.375, 1.0], "y": [0.5, 0.5, 1.0]},
    "margin/floor": {"x": [0.0, 1.0], "y": [0.5, 0.5]},
}


def audit(**more):
    entry = {
        "kept": 2,
        "pool": 2,
        "copies": 2,
        "asked": 2,
        "accuracy": None,
        "accuracy_all": None,
        "expected_accuracy": 0.9,
        "changed": None,
        "inherited": None,
        "per_class": [2] * 10,
        "confidence": MARGINS,
        "monitors": {},
        "validation_margins": MARGINS,
        "curves": {},
    }
    return {
        "classes": [str(i) for i in range(10)],
        "truth_known": False,
        "teacher": None,
        "domain_gap": None,
        "rounds": [entry | more],
    }


@pytest.mark.parametrize(
    ("more", "drawn"),
    [
        ({"curves": FITTED}, True),
        ({}, False),
        ({"curves": FITTED, "validation_margins": None}, False),
        ({"curves": {"loss/x": {}}}, False),
    ],
)
def test_the_reliability_of_the_teacher_is_shown_where_something_is_fitted_to_it(tmp_path, more, drawn):
    run = folder(tmp_path)
    run.finish(results(), None, audit=audit(**more))
    assert (tmp_path / "figures" / "audit-margins.png").exists() == drawn
    assert ("figures/audit-margins.png" in (tmp_path / "report.md").read_text()) == drawn
    assert ("audit/margins" in read_events(tmp_path).Tags()["images"]) == drawn


def test_reliability_by_hand():
    assert reliability.wilson_interval(5, 10) == pytest.approx((0.5 - 0.5 / 11**0.5, 0.5 + 0.5 / 11**0.5))
    assert reliability.wilson_interval(0, 9) == pytest.approx((0, 0.1)) and reliability.wilson_interval(
        9, 9
    ) == pytest.approx((0.9, 1))


def coloured(pixels, colour, x, y):
    """Whether the colour is within three pixels of a point of the chart, both in [0, 1]."""
    faint = (pixels == 0xE4).all(axis=2)  # the lines of the frame
    rows, columns = (np.nonzero(faint.sum(axis=side) > 100)[0] for side in (1, 0))
    left, top, right, bottom = columns[0], rows[0], columns[-1], rows[-1]
    column, row = round(left + x * (right - left)), round(bottom - y * (bottom - top))
    near = pixels[row - 3 : row + 4, column - 3 : column + 4]
    return bool((np.abs(near - [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).sum(axis=-1) < 60).any())


def test_reliability_puts_points_and_curves_where_they_belong():
    pixels = decode(reliability.draw_reliability(MARGINS, FITTED, "t"))
    teacher = COLOURS["teacher"]
    assert (
        coloured(pixels, teacher, 0.1, 0.25)
        and coloured(pixels, teacher, 0.9, 0.95)
        and not coloured(pixels, teacher, 0.1, 0.95)
    )
    # a standard error up: 0.455
    assert coloured(pixels, teacher, 0.25, 0.4) and not coloured(pixels, teacher, 0.25, 0.6)
    colours = {name: colour for name, (_, colour, _) in reliability.DRAWN.items()}
    assert coloured(pixels, colours["isotonic"], 0.2, 0.36) and not coloured(
        pixels, colours["isotonic"], 0.2, 0.5
    )
    assert coloured(pixels, colours["alpha"], 0.2, 0.5) and coloured(pixels, colours["alpha"], 0.7, 0.76)
    assert coloured(pixels, colours["floor"], 0.9, 0.5)
    plain = decode(reliability.draw_reliability(MARGINS, {}, "t"))
    assert coloured(plain, teacher, 0.1, 0.25) and not coloured(plain, colours["isotonic"], 0.2, 0.36)


# Words and pictures


def test_names_cannot_become_markup():
    run = {
        "status": "finished",
        "started": "now",
        "command": ["kdx", "train", "teacher.checkpoint=a`b|c.pt"],
        "stages": [],
    }
    run |= {
        "warnings": ["<script>alert(1)</script> | *x*"],
        "results": results() | {"headline": "last"},
        "environment": {"cpu|x": "<i>"},
    }
    run["results"]["teacher"]["model"] = "<b>[x](y)_z_"
    text = markdown.report(run, "runs/a b", {}, {})
    assert "<script>" not in text and "<b>" not in text and "<i>" not in text
    assert "&lt;b&gt;\\[x\\](y)\\_z\\_" in text and "``teacher.checkpoint=a`b\\|c.pt``" in text
    assert "kdx board 'runs/a b'" in text
    assert markup.fenced("a\n```\nb") == "````\na\n```\nb\n````"


def decode(png):
    from PIL import Image

    assert png.startswith(PNG)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def reds(pixels):
    return int(((pixels[..., 0] > 150) & (pixels[..., 1] < 80) & (pixels[..., 2] < 80)).sum())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 20), (2, 5, 5), (3, 300, 400)])
def test_the_grid_shows_mistakes_in_red(shape):
    images = np.zeros((10, *shape), dtype=np.uint8)
    truth, classes = [0] * 10, ["cat $x$", "a very long name of a class that goes on"]
    right = decode(gallery.draw_pictures(images, truth, {"student": truth}, classes))
    wrong = decode(gallery.draw_pictures(images, truth, {"student": [1, *truth[1:]]}, classes))
    assert reds(right) == 0 and reds(wrong) > 200 and right.shape == wrong.shape


def test_the_grid_keeps_colours_and_orientation():
    images = np.zeros((1, 3, 2, 2), dtype=np.uint8)
    images[0, 1, 0, 1] = 255  # green, top right
    pixels = decode(gallery.draw_pictures(images, [0], {}, ["a"]))
    rows, columns = np.nonzero((pixels[..., 1] > 200) & (pixels[..., 0] < 50))
    side = canvas.PIXELS * gallery.SIDE
    assert (rows.max() + 1 - rows.min(), columns.max() + 1 - columns.min()) == (side // 2, side // 2)
    red = decode(
        gallery.draw_pictures(np.full((1, 3, 2, 2), [[[[255]], [[0]], [[0]]]], np.uint8), [0], {}, ["a"])
    )
    corner = [spot.min() for spot in np.nonzero((red[..., 0] > 200) & (red[..., 1] < 50))]
    assert (rows.min(), columns.min()) == (corner[0], corner[1] + side // 2)


def test_the_few_are_the_first_and_no_share_costs_a_name_its_letters():
    """A card of TensorBoard has room for six. A confidence is left out where it would cut the class."""
    images = np.zeros((16, 1, 8, 8), dtype=np.uint8)
    truth, wrong = [0] * 16, {"student": [1] * 16}
    whole, few = (
        decode(gallery.draw_pictures(images, truth, wrong, ["a", "b"], few=few)) for few in (False, True)
    )
    assert (whole.shape[1], few.shape[1]) == (2176, 960) and few.shape[0] / few.shape[1] < 0.72
    long = ["a", "class number 27"]
    drawn = [
        gallery.draw_pictures(images[:1], [0], {"student": [1]}, long, beside=beside)
        for beside in (None, {"confidence": {"student": [0.5]}})
    ]
    assert drawn[0] == drawn[1]


def test_the_grid_refuses_what_does_not_match():
    images = np.zeros((2, 1, 8, 8), dtype=np.uint8)
    with pytest.raises(UserError, match="2 images but 1"):
        gallery.draw_pictures(images, [0, 1], {"student": [0]}, ["a", "b"])
    with pytest.raises(UserError, match="uint8"):
        gallery.draw_pictures(images.astype(float), [0, 1], {}, ["a", "b"])


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_confusion_matrix(classes):
    names = [f"class {i}" for i in range(classes)]
    matrix = np.eye(classes, dtype=int) * 9
    right = decode(matrices.draw_confusion(matrix.tolist(), names, "t"))
    matrix[0] = np.roll(matrix[0], 1)
    wrong = decode(matrices.draw_confusion(matrix.tolist(), names, "t"))
    assert (right != wrong).any()
    assert right.shape[1] == 960 and right.shape[0] < 960
    with pytest.raises(UserError, match="3 by 3"):
        matrices.draw_confusion(matrix.tolist(), ["a", "b", "c"], "t")


def test_curves_have_a_line_a_role_in_its_colour():
    pixels = decode(
        figures.draw_curves(
            {"student": [(0, 0.5), (100, 0.9)], "teacher": [(0, 0.9), (300, 0.95)]}, "t", scale=100
        )
    )
    found = {
        name: int((np.abs(pixels - [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).sum(axis=-1) < 12).sum())
        for name, colour in COLOURS.items()
    }
    assert found["student"] > 200 and found["teacher"] > 200 and found["baseline"] == 0


def test_titles_and_keys_stay_within_the_picture():
    """In one row or two lines where they fit, else in more rows, or cut; no letter is smaller for it."""
    title = "Predicted against true: student of the teacher before it was tuned, validation labels too"
    assert [canvas.text_width(line, canvas.TITLE_SIZE) <= 468 for line in canvas.title_lines(title, 468)] == [
        True,
        True,
    ]
    assert canvas.title_lines("short", 468) == ["short"] and canvas.title_lines("", 468) == []
    assert canvas.title_lines("x" * 200, 468)[0].endswith("\N{HORIZONTAL ELLIPSIS}")
    keys = [canvas.Legend(role.short, role.colour) for role in ROLES.values()]
    rows = canvas.key_rows(keys, 480)
    assert [key for row in rows for key in row] == keys and len(rows) > 1
    assert all(sum(map(canvas.key_width, row)) <= 480 for row in rows)
    assert canvas.cut_to("one two", 480) == "one two" and canvas.text_width(canvas.cut_to("w" * 99, 90)) <= 90
    assert canvas.cut_to("a/long/place/of.png", 90, end=True).endswith("of.png")


def test_curves_are_drawn_where_they_differ():
    """The first steps may lie outside, and the line is cut at the frame."""
    curve = [(0, 10.0), (10, 88.0), (20, 90.0), (30, 91.0), (40, 90.0), (50, 92.0)]
    assert closer.closer([curve]) == (88, 92, True)
    assert closer.closer([[(0, 10.0), (10, 40.0), (20, 92.0)]]) == (10, 92, False)
    assert closer.closer([[(0, 3.0), (1, 3.0)]]) == (3, 3, False)
    assert closer.cut_between(curve[:3], 49, 95) == [[(5, 49), (10, 88), (20, 90)]]
    assert closer.cut_between([(0, 1.0), (2, 3.0), (4, 1.0)], 0, 2) == [[(0, 1), (1, 2)], [(3, 2), (4, 1)]]
    assert closer.cut_between([(0, 1.0), (1, 1.0), (2, 5.0)], 2, 3) == [[(1.25, 2), (1.5, 3)]]


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 250, [0, 50, 100, 150, 200, 250]), (0.31, 0.97, [0.2, 0.4, 0.6, 0.8, 1.0])],
)
def test_ticks_are_round_and_cover_the_range(low, high, wanted):
    assert canvas.ticks(low, high) == wanted


@pytest.mark.parametrize(("low", "high"), [(0, 0), (5, 5), (-1e-9, 1e-9), (1e6, 1e6 + 1), (-3, 7), (0, 1e12)])
def test_ticks_of_odd_ranges(low, high):
    found = canvas.ticks(low, high)
    assert found[0] <= low and found[-1] >= high and found[0] < found[-1] and len(found) <= 9


def test_importing_the_report_is_cheap():
    modules = [
        "tensorboard",
        "figures",
        "folder",
        "verdict",
        "listeners",
        "markdown",
        "progress",
        "reliability",
        "table",
        "written",
    ]
    heavy = ["torch", "hydra", "omegaconf", "rich", "matplotlib", "tensorboard", "PIL", "numpy"]
    program = (
        f"import sys; {'; '.join(f'import kdx.report.run.{m}' for m in modules)}; print([m for m in "
        f"{heavy!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]"


def test_the_grid_has_a_name_for_every_role():
    images = np.zeros((1, 1, 8, 8), dtype=np.uint8)
    everyone = decode(gallery.draw_pictures(images, [0], dict.fromkeys(ROLE_WORDS, [0]), ["a"]))
    assert everyone.shape[0] > canvas.PIXELS * gallery.LINE * (1 + len(ROLE_WORDS))


CONFIDENCE = {
    "edges": [0.0, 0.5, 0.75, 1.0],
    "counts": [0, 20, 80],
    "confidence": [None, 0.6, 0.9],
    "right": [0, 6, 60],
}


def test_the_reliability_diagram_puts_dots_and_bars_where_they_belong():
    """Accuracy 30% at confidence .6 (20 rows of 100), 75% at .9 (80 of 100); the empty bin has no dot; grey
    bars are shares of the rows.
    """
    pixels = decode(reliability.diagram(CONFIDENCE, "t", COLOURS["student"]))
    green = COLOURS["student"]
    assert coloured(pixels, green, 0.6, 0.3) and coloured(pixels, green, 0.9, 0.75)
    low, high = reliability.wilson_interval(6, 20)
    assert (
        coloured(pixels, green, 0.6, low + 0.01)
        and coloured(pixels, green, 0.6, high - 0.01)
        and not coloured(pixels, green, 0.6, high + 0.1)
    )
    assert not any(coloured(pixels, green, 0.25, y / 20) for y in range(21))
    assert coloured(pixels, "#9a9a9a", 0.4, 0.4)
    grey = [
        coloured(pixels, "#e9e9e9", x, y)
        for x, y in ((0.55, 0.1), (0.55, 0.3), (0.85, 0.5), (0.95, 0.9), (0.25, 0.1))
    ]
    assert grey == [True, False, True, False, False]


def test_a_run_without_stored_bins_has_no_reliability_figure(tmp_path):
    """Evaluations of before the bins were stored; a role that has them is drawn."""
    found = results()
    found["student"]["last"]["test"]["reliability"] = CONFIDENCE
    run = folder(tmp_path)
    run.finish(found, None)
    assert [path.name for path in (tmp_path / "figures").glob("reliability*")] == ["reliability.png"]
    text = (tmp_path / "report.md").read_text()
    assert "Reliability on the test split: distilled student" in text and "figures/reliability.png" in text


def test_figures_that_are_not_finite_are_dashes_in_the_report(tmp_path):
    found = results()
    for numbers in (
        found[role][kind]["test"] for role in ("teacher", "baseline", "student") for kind in ("last", "best")
    ):
        numbers |= {
            "ece": math.nan,
            "nll": math.inf,
            "reliability": CONFIDENCE | {"confidence": [math.nan] * len(CONFIDENCE["confidence"])},
        }
    run = folder(tmp_path)
    reported = run.finish(found, None)
    assert reported["teacher"]["last"]["test"]["ece"] is None
    assert len(list((tmp_path / "figures").glob("reliability*"))) == 1
    assert (
        "The answers of the teacher are not all finite (NaN or infinite): its figures mean nothing"
        in (tmp_path / "report.md").read_text()
    )
    teacher = {"accuracy": None, "confidence": None, "ece": None, "n": 3}
    lines = sections.audited({"results": {}, "audit": audit() | {"teacher": teacher}})
    assert "clean pictures: - right, - sure on average, expected calibration error - (n = 3)" in "\n".join(
        lines
    )


def three_rounds(asked: int) -> tuple[dict, dict]:
    entries = [
        {"key": str(i), "validation": {"accuracy": i / 8}, "test": {"accuracy": 0.5 + i / 8}}
        for i in range(3)
    ]
    results = {
        "rounds": entries,
        "teacher": {"last": {"test": {"accuracy": 0.79}}},
        "baseline": {"last": {"test": {"accuracy": 0.75}}},
    }
    return results, {"rounds": [{"asked": asked * (i + 1), "pool": 900} for i in range(3)]}


def test_rounds_are_counted_by_the_answers_where_these_are_bought():
    results, audit = three_rounds(100)
    assert rounds.steps(results, audit) == ("answers bought", [100, 200, 300])
    assert rounds.steps(results, None) == ("round", [1, 2, 3])
    assert rounds.steps(results, {"rounds": [{"asked": 900, "pool": 900}] * 3}) == ("round", [1, 2, 3])
    assert rounds.series(results, [100, 200, 300])["test"] == [(100, 0.5), (200, 0.625), (300, 0.75)]
    del results["rounds"][1]["validation"]
    assert list(rounds.series(results, [1, 2, 3])) == ["test"], "a line with a hole in it is left out"


def test_the_picture_of_the_rounds_shows_each_and_the_levels_beside_them():
    results, audit = three_rounds(100)
    picture = np.asarray(Image.open(io.BytesIO(rounds.draw_rounds(results, audit, "title"))).convert("RGB"))
    for colour in (
        COLOURS["student"],
        COLOURS["baseline"],
        rounds.SHOWN["validation"][1],
    ):
        assert (picture == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).any(), colour


@pytest.mark.parametrize("scale", [1, 1000, 1e-5, 1e8])
def test_the_labels_below_a_histogram_do_not_touch(scale):
    labels = [f"{-1.729 * scale + 0.31 * scale * i:.3g}" for i in range(13)]
    kept = canvas.spaced_labels(labels, 420 / 12)
    assert kept[0] == (0, labels[0]) and all(labels[i] == words for i, words in kept)
    for (i, one), (j, other) in pairwise(kept):
        assert (canvas.text_width(one) + canvas.text_width(other)) / 2 < (j - i) * 420 / 12
    assert canvas.spaced_labels(["0", "1"], 300) == [(0, "0"), (1, "1")]
