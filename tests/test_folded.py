"""What a terminal of 80 columns shows: whole words, whole rows of tables, nothing cut that has room."""

import io

import pytest

from kdx.commands.cache import _narrowed
from kdx.core import folded as module
from kdx.core.folded import columns_of, fold_lines, say
from kdx.report.run.sessions import session_cells
from kdx.report.run.table import fitting, table_width


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return 1


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(module.os, "get_terminal_size", lambda _: module.os.terminal_size((80, 24)))
    return Terminal()


def test_a_line_goes_on_at_words_below_itself():
    text = "- " + "word " * 30 + "\n  two blanks " + "x" * 90
    lines = fold_lines(text.strip(), 80).split("\n")
    assert [line[:4] for line in lines] == ["- wo", "  wo", "  tw", "  xx"]
    assert all(len(line) <= 80 for line in lines[:3]) and lines[3] == "  " + "x" * 90, "a path stays whole"
    assert fold_lines("a  b", 80) == "a  b" and fold_lines(text, None) == text and fold_lines("", 80) == ""


def test_a_terminal_gets_folded_lines_and_a_pipe_whole_ones(terminal):
    line = "'student_train.step' is no key in 'student_train'; did you mean 'student_train.steps'?"
    say(line, terminal)
    assert terminal.getvalue() == (
        "'student_train.step' is no key in 'student_train'; did you mean\n'student_train.steps'?\n"
    )
    pipe = io.StringIO()
    say(line, pipe)
    assert pipe.getvalue() == f"{line}\n" and columns_of(pipe) is None and columns_of(terminal) == 80


def test_what_goes_on_hangs_below_what_it_belongs_to(terminal):
    say("would free  33.9 kB  prepare " + "cf397610fdd0 " * 6, terminal, hang=21)
    assert [line[:21].strip() for line in terminal.getvalue().splitlines()] == ["would free  33.9 kB", ""]


PLAN = (
    ["stage", "how many", "stored", "to do, each", "time", "memory", "disk"],
    [
        [f"student-train (loss={name})", "2", "1", "1,600 steps of 64", "14 s", "901 MB", "20.6 kB"]
        for name in "abcdefg"
    ],
)


def test_a_table_that_is_too_wide_is_several_with_the_same_first_column():
    assert table_width(*PLAN) > 80 and fitting(*PLAN, 120) == fitting(*PLAN, None) == [(PLAN[0], PLAN[1])]
    parts = fitting(*PLAN, 80)
    assert [head for head, _ in parts] == [
        ["stage", "how many", "stored", "to do, each"],
        ["stage", "time", "memory", "disk"],
    ]
    assert all(table_width(*part) <= 80 for part in parts)
    assert [row for _, rows in parts for row in rows if row[0] == PLAN[1][0][0]] == [
        PLAN[1][0][:4],
        [PLAN[1][0][0], *PLAN[1][0][4:]],
    ]


def test_a_table_of_few_rows_that_is_too_wide_has_a_column_for_each():
    header, rows = ["", *(f"a long heading {i}" for i in range(1, 7))], [list("t123456"), list("s654321")]
    assert fitting(header, rows, 80) == [
        (["", "t", "s"], [[f"a long heading {i}", str(i), str(7 - i)] for i in range(1, 7)])
    ]


def test_the_store_in_a_narrow_terminal_says_which_run_and_how_many_more():
    header = ["stage and key", "state", "size", "age", "runs", "what"]
    row = ["teacher-pretrain 7a08b68b2a24", "finished", "1.23 MB", "3 min", "outputs/runs/first and 13 more"]
    row += ["W" * 70]
    odd = [*row[:1], "unfinished", *row[2:4], "-", ""]
    assert _narrowed(header, [row, odd], None) == (header, [row, odd])
    head, rows = _narrowed(header, [row, row], 80)
    assert head == ["stage and key", "size", "age", "runs", "what"] and table_width(head, rows) <= 80
    assert rows[0][3].endswith("/first +13") and rows[0][4].startswith("WWWW")
    assert _narrowed(header, [row, odd], 80)[1][1][0].endswith("7a08b68b2a24 unfinished")


def test_sessions_fit_into_a_narrow_terminal_with_every_number():
    arm = {"matrix": [[0.5], [0.4, 0.6]], "average": 0.6, "old": 0.476, "last": 0.858, "forgetting": 0.277}
    results = {"sessions": {"arms": {"student": {"task": arm | {"backward": -0.277}, "single": arm}}}}
    found = session_cells(results, short=True)
    assert table_width(*found) <= 80 < table_width(*session_cells(results))
    assert fitting(*found, 80) == [found] and found[1][0][1:] == ["60.0", "47.6", "85.8", "+27.7", "-27.7"]
