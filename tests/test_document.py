"""run.json that is not as kdx writes it: every reader gets one sentence or goes on, none breaks. And whether
a run is at work, was, or died.
"""

from __future__ import annotations

import copy
import itertools
import json
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fabricate import document as made_up
from fabricate import folder

from kdx.cli import main
from kdx.commands import _sweep, _sweep_end, _watch, board
from kdx.config import restore
from kdx.core import shapes
from kdx.core.errors import UserError
from kdx.core.roles import ROLE_WORDS, ROLES, SHORT_ROLES
from kdx.report.compare import documents, rows
from kdx.report.compare.compare import compare_runs
from kdx.report.compare.curves import read_curves
from kdx.report.compare.entries import entry
from kdx.report.compare.mirror import Mirror
from kdx.report.run import document
from kdx.runs import diff, sweep
from kdx.runs.reading import Run, as_written, read_run
from kdx.tasks.shown import ACCURACY

LACKING = object()
ODD = [
    LACKING,
    None,
    5,
    -3,
    1e300,
    "x",
    "\u202e",
    True,
    [],
    [1],
    {},
    {"x": [1]},
    [[{"a": None}]],
    float("-inf"),
    10**39,
]
CHANGES, MANY = 20, 600
TURN = itertools.count()


def nodes(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where everything in a document is; of a list the first two."""
    yield path
    for key in (
        value if isinstance(value, dict) else range(min(len(value), 2)) if isinstance(value, list) else ()
    ):
        yield from nodes(value[key], (*path, key))


def changed(whole: dict, path: tuple, odd: Any) -> Any:
    if not path:
        return {} if odd is LACKING else odd
    made = copy.deepcopy(whole)
    node = made
    for key in path[:-1]:
        node = node[key]
    if odd is LACKING:
        del node[path[-1]]
    else:
        node[path[-1]] = odd
    return made


def readers(place: Path, other: Run, thorough: bool) -> Iterator[Any]:
    """What every command does with a run folder, as functions that may raise a UserError and nothing else."""

    def table():
        found = compare_runs(
            [entry(run.path.name, run.document) for run in (read_run(place, figures=True), other)]
        )
        documents.as_markdown(found, []), documents.as_csv(found), documents.as_json(found, [])
        rows.forms(found)
        if thorough and not next(TURN) % 50:  # it draws, a second each
            from kdx.report.compare.page import page

            page(found, [])

    def swept():
        run = sweep.run_in(place)
        (
            sweep.finished(run),
            _sweep_end.why_unfinished(place, run),
            _sweep.validation_error(run),
            sweep.key_in(run),
        )
        if run.get("status") == "finished":
            _watch.result_line("a", run)

    def again():
        with as_written(place):
            restore.restore(read_run(place).document["config"], [], {})

    def board():
        Mirror(place.parent, place.parent).named([place])

    yield from (
        table,
        swept,
        board,
        lambda: diff.differences(read_run(place), other),
        lambda: read_run(place).state,
    )
    if thorough:
        yield again


def broken(
    tmp_path: Path, whole: dict, changes: list[tuple[tuple, Any]], *, thorough: bool = False
) -> list[str]:
    """Every reader over every change; what broke."""
    good = read_run(folder(tmp_path, "good", whole))
    bad = folder(tmp_path, "bad", whole)
    found = []
    for path, odd in changes:
        (bad / "run.json").write_text(json.dumps(changed(whole, path, odd)))
        for reader in readers(bad, good, thorough):
            try:
                reader()
            except UserError:
                pass
            except Exception as error:
                found.append(
                    f"{'.'.join(map(str, path))} = {odd!r}: {type(error).__name__}: {error} in "
                    f"{error.__traceback__.tb_next.tb_frame.f_code.co_name}"
                )
    return found


def real(trained: Path) -> dict:
    return json.loads((trained / "outputs/runs/a=b/run.json").read_text())


def test_what_kdx_writes_has_the_shape(trained):
    for whole in (real(trained), made_up()):
        assert document.checked(whole, "run.json") is whole
    assert real(trained)["seconds"] > 0 and real(trained)["host"], "and tells how long it took, and where"


def test_no_reader_breaks_on_a_document_that_is_broken_somewhere(trained, tmp_path):
    whole, chance = real(trained), random.Random(0)
    every = [(path, odd) for path in nodes(whole) for odd in ODD]
    assert broken(tmp_path, whole, chance.sample(every, CHANGES)) == []


@pytest.mark.slow
def test_no_reader_breaks_on_thousands_of_changes(trained, tmp_path):
    whole, chance = real(trained), random.Random(1)
    every = [(path, odd) for path in nodes(whole) for odd in ODD]
    assert broken(tmp_path, whole, chance.sample(every, MANY), thorough=True) == []


@pytest.mark.parametrize(
    ("path", "odd", "says"),
    [
        (("results",), [1], "results must be an object, and is a list"),
        (
            ("results", "student", "flops"),
            -3,
            "results.student.flops must be a number from 0 to 1e+18, and is -3",
        ),
        (
            ("results", "student", "last", "test", "accuracy"),
            "x",
            "results.student.last.test.accuracy must be a number, and is text",
        ),
        (("command",), 5, "command must be a list, and is 5"),
        (("stages", 0), None, "each of stages must be an object, and is null"),
        ((), [1], "it must hold an object, and holds a list"),
    ],
)
def test_what_is_wrong_is_said(path, odd, says):
    with pytest.raises(UserError) as error:
        document.checked(changed(made_up(), path, odd), "a/run.json")
    assert str(error.value) == f"'a/run.json' is not as kdx writes it: {says}"


@pytest.mark.parametrize(
    ("value", "shape", "says"),
    [
        ({}, int, "config.seed must be a whole number, and is an object"),
        (True, int, "config.seed must be a whole number, and is true or false"),
        (None, int, "config.seed is missing"),
        ([], str, "config.seed must be text, and is a list"),
        (3, int, None),
        ({"threads": {}}, shapes.MADE, "config.seed.threads must be a number, and is an object"),
        (-5, shapes.COUNT, "config.seed must be a number from 0 to 1e+18, and is -5"),
        (float("nan"), shapes.COUNT, "config.seed must be a number from 0 to 1e+18, and is nan"),
    ],
)
def test_what_every_reader_says_of_a_value(value, shape, says):
    assert shapes.wrong(value, shape, "config.seed") == says


def test_every_role_stands_wherever_roles_are_listed():
    """One that lacks in a list is trained and then not checked, not shown, or not to be asked for."""
    listed = {
        "run.json": document.SHAPE["results"],
        "words": ROLE_WORDS,
        "narrow table and figures": SHORT_ROLES,
    }
    assert all(role.stage and role.words and role.short and role.colour for role in ROLES.values())
    lacking = {where: set(ROLES) - set(roles) for where, roles in listed.items()}
    assert not any(lacking.values()), lacking
    made = documents.run_row(compare_runs([entry("a", made_up())]), entry("a", made_up()))
    assert set(ROLES) <= set(made)


def test_one_broken_run_stops_no_comparison(tmp_path, capsys):
    for seed in (0, 1):
        folder(tmp_path, f"good-{seed}", made_up((), seed))
    bad = folder(tmp_path, "bad", {**made_up((), 2), "results": None})
    (bad / "run.json").write_text(json.dumps({**made_up((), 2), "results": [1]}))
    assert main(["compare", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "results must be an object, and is a list" in out and "| 2 |" in out


@pytest.mark.parametrize("much", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_that_lacks_something_stops_no_comparison(much, trained, tmp_path, monkeypatch, capsys):
    """Each key of a real run.json taken out in turn:
    the run is compared all the same, or named and left out.
    """
    monkeypatch.chdir(tmp_path)
    whole = real(trained)
    for name in ("good", "bad"):
        folder(tmp_path, name, whole)
    paths = [
        path
        for path in nodes(whole)
        if path and (much or path[0] in ("protocol", "results") and len(path) < 4)
    ]
    protocol = [p for p in paths if p[0] == "protocol" and p[1:2] not in (("sizes",), ("digests",))]
    for path in paths if much else protocol + random.Random(3).sample(paths, 3):
        (tmp_path / "bad/run.json").write_text(json.dumps(changed(whole, path, LACKING)))
        code = main(["compare", "."])
        out, err = capsys.readouterr()
        if path == ("results", "metric", "unit"):  # a number without a unit is another one
            assert code == 2 and "metric: accuracy (more is better)" in err, (path, code, out, err)
            continue
        lacks = "not read: " in out or "not compared: 1 run" in out
        assert code in (0, 1) and not err and "Digits" in out and (code == 0 or lacks), (path, code, out, err)
        if path[0] == "protocol" and path[1:] in (
            (),
            ("dataset",),
            ("counts",),
            ("counts", "test"),
            ("selection",),
            ("test",),
            ("headline",),
        ):
            assert code == 1 and "not read: 'bad' is not as kdx writes it: protocol" in out, path


def test_an_empty_protocol_is_no_protocol_of_its_own(tmp_path, capsys):
    folder(tmp_path, "good", made_up((), 0))
    folder(tmp_path, "bad", {**made_up((), 1), "protocol": {}})
    assert main(["compare", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "bad' is not as kdx writes it: protocol.dataset is missing" in out and "Digits" in out


@pytest.mark.parametrize(
    "reported",
    [
        '{"command": 5, "jobs": []}',
        '{"command": [[5]], "jobs": 5}',
        "[1]",
        "5",
        '{"jobs": {"folder": 1}}',
        "{",
        "",
    ],
)
def test_a_broken_sweep_json_stops_no_sweep(tmp_path, reported):
    """Another one in a folder that was asked for by name is reported; elsewhere it is passed by."""
    place = tmp_path / "sweeps" / "old"
    place.mkdir(parents=True)
    (place / sweep.SWEEP_FILE).write_text(reported)
    (place / sweep.LATER).write_text('{"runs": 5}')
    assert not sweep.passed_over(place / "a")
    found = sweep.begin_sweep(tmp_path / "sweeps" / "new", ["kdx"], {"a": []}, {}, named=False)
    found.lock.release()
    assert found.path.name == "new"
    try:
        sweep.begin_sweep(place, ["kdx"], {"a": []}, {}, named=True).lock.release()
    except UserError as error:
        assert "holds another sweep" in str(error)


def test_a_broken_run_of_a_sweep_is_to_do_and_says_why(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/run.json").write_text('{"status": "finished", "stages": [5]}')
    run = sweep.run_in(tmp_path / "a")
    assert not sweep.finished(run) and "each of stages must be an object" in _sweep_end.why_unfinished(
        tmp_path / "a", run
    )
    assert (
        sweep.run_in(tmp_path / "b") is None
        and _sweep_end.why_unfinished(tmp_path / "b", None) == "did not begin"
    )


@pytest.mark.parametrize("step", ["1" + 400 * "0", "1e400", "-5", "NaN", "true", '"x"', "[1]", "null"])
def test_a_line_of_metrics_that_kdx_did_not_write_is_passed_over(tmp_path, step):
    line = '{"step": %s, "stage": "student-train", "validation/accuracy": %s}\n'
    (tmp_path / "metrics.jsonl").write_text(
        "".join(line % pair for pair in ((step, 0.5), (1, step), (2, 0.25))) + "[1]\n5\n{"
    )
    assert read_curves(tmp_path, ACCURACY) == {"student": [(2, 0.25)]}


# Whether it is at work


def hold(place: Path, ready, go) -> None:
    with document.at_work(place) as host:
        (place / "run.json").write_text(json.dumps({"status": "running", "host": host}))
        ready.set()
        go.wait(20)


def test_a_run_that_died_shows_as_died(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "a", ready, go))
    process.start()
    assert ready.wait(20)
    run = document.read_document(tmp_path / "a/run.json")
    assert document.state(tmp_path / "a", run) == "running"
    with (
        pytest.raises(UserError, match="another process is at work on the run in"),
        document.at_work(tmp_path / "a", timeout=0),
    ):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (
        document.state(tmp_path / "a", run) == "died"
        and _sweep_end.why_unfinished(tmp_path / "a", run) == "was killed or stopped in the middle"
    )
    for unknown in ({**run, "host": "another machine"}, {"status": "running"}):
        assert document.state(tmp_path / "a", unknown) == "running, or died"
    assert document.state(tmp_path / "a", {"status": "finished"}) == "finished"


def test_the_board_counts_what_is_at_work_and_what_died(tmp_path):
    here = {"status": "running", "host": document.platform.node()}
    for name, run in {
        "a": here,
        "b": {"status": "running"},
        "c": here,
        "d": {"status": "finished"},
        "e": [1],
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(run))
    with document.at_work(tmp_path / "c"):
        assert board.unfinished(tmp_path) == "; 1 died, 1 running, 1 running, or died"
    (tmp_path / "f").mkdir()
    assert board.unfinished(tmp_path / "f") == ""


def test_a_lock_that_is_no_file_is_neither_followed_nor_waited_for(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a" / document.LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="is a link"), document.at_work(tmp_path / "a"):
        pass
    assert (
        document.state(tmp_path / "a", {"status": "running", "host": document.platform.node()})
        == "running, or died"
    )
    (tmp_path / "a" / document.LOCK).unlink()
    os.mkfifo(tmp_path / "a" / document.LOCK)
    assert (
        document.state(tmp_path / "a", {"status": "running", "host": document.platform.node()})
        == "running, or died"
    )
    assert (tmp_path / "precious").read_text() == "mine"


def test_durations_do_not_hang_on_the_time_of_day():
    began, ended = "2026-03-29T01:59:00+00:00", "2026-03-29T01:00:00+00:00"
    assert document.seconds({"started": began, "ended": ended, "seconds": 61.5}) == 61.5
    assert document.seconds({"started": began, "ended": ended}) == 0, (
        "an older run, while which the clock was set back"
    )
    assert document.seconds({"started": "x", "ended": None}) is None
