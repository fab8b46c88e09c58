"""Every loss, rule of choice, weighting and term on features, by each task: it passes the checks before
work, or is refused in the words of tests/matrix.txt. New files of conf/ are picked up by themselves; `python
tests/test_matrix.py > tests/matrix.txt` writes the text anew.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdx.config.compose import check_words
from kdx.config.unused import idle
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.errors import UserError

ROOT = Path(__file__).parents[1]
TASKS = {
    "classes": ("breast_cancer", "RandomForestClassifier"),
    "numbers": ("diabetes", "RandomForestRegressor"),
}
"""task -> a data set of it, and a teacher."""
RULE, LOSS = "all", "kd"
"""Those of a run that chooses neither."""


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def words(loss: str = LOSS, select: str = RULE, slot: str = "", option: str = "") -> tuple[str, ...]:
    return (f"loss={loss}", f"select={select}", *([f"loss.{slot}={option}"] if slot else []))


def few() -> Iterator[tuple[str, ...]]:
    """Each loss, and each rule with the loss of a run that chooses none."""
    yield from (words(loss=loss) for loss in options("loss"))
    yield from (words(select=rule) for rule in options("select") if rule != RULE)


def others() -> Iterator[tuple[str, ...]]:
    """Each other pair of them, and what fills the slots of a loss that reads a pool."""
    pairs = ((loss, rule) for loss in options("loss") for rule in options("select"))
    yield from (words(loss, rule) for loss, rule in pairs if loss != LOSS and rule != RULE)
    for slot in ("weights", "features"):
        yield from (words("soft", slot=slot, option=option) for option in options(slot))


@functools.cache
def dataset_of(task: str) -> dict:
    return check_words([f"dataset={TASKS[task][0]}"])["dataset"]


def line(task: str, asked: tuple[str, ...], found: str) -> str:
    return f"{task} {' '.join(asked)}: {found}"


def outcomes(asked: tuple[str, ...]) -> list[str]:
    """A line for each task. What an option sets elsewhere is composed once: the tasks' data sets have the
    same settings beside their own.
    """
    first, *_ = TASKS
    try:
        composed = check_words([f"dataset={TASKS[first][0]}", *asked, "device=cpu"])
    except UserError as error:
        return [line(task, asked, str(error)) for task in TASKS]
    found = []
    for task, (_, teacher) in TASKS.items():
        config = copy.deepcopy(composed) | {"dataset": dataset_of(task)}
        config["teacher"]["estimator"] = teacher
        order, wrong = examine_config(config)
        wrong = (
            wrong or inspect(order) or list(idle(config, [word.partition("=")[0] for word in asked]).values())
        )
        found.append(line(task, asked, " / ".join(wrong).replace(str(ROOT), "") or "runs"))
    return found


@functools.cache
def written() -> frozenset[str]:
    return frozenset((ROOT / "tests/matrix.txt").read_text(encoding="utf-8").splitlines())


def held(asked: tuple[str, ...]) -> None:
    for found in outcomes(asked):
        assert found in written(), "tests/matrix.txt says otherwise"


@pytest.mark.parametrize("asked", few(), ids=" ".join)
def test_it_runs_or_is_refused_as_written(asked):
    held(asked)


@pytest.mark.slow
@pytest.mark.parametrize("asked", others(), ids=" ".join)
def test_with_all_others_it_runs_or_is_refused_as_written(asked):
    held(asked)


def test_the_text_has_a_line_for_each_and_no_other():
    expected = {f"{task} {' '.join(asked)}" for task in TASKS for asked in (*few(), *others())}
    lines = (ROOT / "tests/matrix.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(text.partition(":")[0] for text in lines) == sorted(expected)
    some = {text.rpartition(": ")[2] for text in lines}
    assert "runs" in some and len(some) > 5, "some run, and some are refused"


if __name__ == "__main__":
    for text in sorted(text for asked in (*few(), *others()) for text in outcomes(asked)):
        print(text)
