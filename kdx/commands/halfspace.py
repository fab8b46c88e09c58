"""Learn a halfspace with a margin from labels that were flipped: SLaM's algorithm and its bound, beside its rivals."""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdx.commands._show import give, show_table
from kdx.commands._words import Option, Words, asks_for_help, help_text, parse_words
from kdx.core import checks, path_checks
from kdx.core.errors import UserError, UserErrors
from kdx.report.compare.statistics import chance, paired, plus_minus, spread
from kdx.runs.studies.halfspace import METHODS, Problem, bound, compare_methods

OPTIONS = (
    Option("dimension", "10", "of the points, at least 2"),
    Option("margin", "0.1", "no point of norm 1 lies nearer to the plane, in (0, 1)"),
    Option("noise", "0.2", "the chance that a label is flipped, in [0, 0.5)"),
    Option(
        "stretch",
        "6",
        "of the first coordinate before points are scaled to norm 1; 1: alike in all directions, where "
        "adding up y x is enough",
    ),
    Option("rows", "20000", "noisy examples to learn from"),
    Option("steps", None, "updates; default: rows, each with an example of its own"),
    Option("test_rows", "20000", "clean examples that the error is measured on"),
    Option("seeds", "5", "how many repetitions, each with points, noise and order of its own"),
    Option("first_seed", "0", "the seed of the first"),
    Option("json", None, "write the figures to this file as well"),
)
HELP = help_text(
    "kdx halfspace [key=value ...]",
    OPTIONS,
    "Few and noisy examples: kdx halfspace dimension=50 noise=0.4 rows=1000 seeds=10",
)
_WHOLE = ("dimension", "rows", "steps", "test_rows", "seeds", "first_seed")


def main(argv: Sequence[str]) -> int:
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse_words("halfspace", argv, OPTIONS)
    if words.names:
        raise UserError(
            f"kdx halfspace takes settings only, written key=value; given: {' '.join(words.names)}"
        )
    problem, seeds = asked(words)
    file = path_checks.output("json", words["json"]) if words["json"] else None
    errors, guessed = measure_methods(problem, seeds)
    about = {
        "problem": vars(problem),
        "bound": bound(problem),
        "seeds": list(seeds),
        "errors": errors,
        "noise_estimated": guessed,
    }
    give(about, lambda _: _show(problem, errors, guessed), file)
    return 0


def asked(words: Words) -> tuple[Problem, range]:
    """(the problem, its seeds). Raises UserErrors: everything that is wrong with the values."""
    errors: list[str] = []
    values: dict[str, Any] = {}
    for option in OPTIONS:
        if option.name != "json" and words[option.name] is not None:
            with checks.gather(errors):
                values[option.name] = numeral(option.name, words[option.name], whole=option.name in _WHOLE)
    if errors:
        raise UserErrors(errors)
    seeds, first = values.pop("seeds"), values.pop("first_seed")
    problem = None
    with checks.gather(errors):
        checks.integer("seeds", seeds, low=1, high=10_000)
        checks.integer("first_seed", first, low=0)
        problem = Problem(**{"steps": values["rows"]} | values)
    if errors or problem is None:
        raise UserErrors(errors)
    return problem, range(first, first + seeds)


def numeral(name: str, text: str, whole: bool) -> int | float:
    """The number that a word holds."""
    try:
        return int(text.replace("_", "")) if whole else float(text)
    except ValueError:
        raise UserError(f"{name} must be a {'whole ' if whole else ''}number; given: {text!r}") from None


def measure_methods(problem: Problem, seeds: Sequence[int]) -> tuple[dict[str, list[float]], list[float]]:
    """(method -> its error for each seed, the estimated noise for each seed)"""
    found = [compare_methods(problem, seed) for seed in seeds]
    return {name: [errors[name] for errors, _ in found] for name in METHODS}, [guess for _, guess in found]


def _show(problem: Problem, errors: Mapping[str, Sequence[float]], guessed: Sequence[float]) -> None:
    ours = errors[METHODS[0]]
    rows = []
    for name, values in errors.items():
        own = spread(values)
        row = [name, plus_minus(100 * own.mean, _scaled(own.deviation), 2), f"{100 * own.high:.2f}"]
        if name == METHODS[0]:
            rows.append([*row, "", "", ""])
            continue
        less = paired(values, ours)
        rows.append(
            [
                *row,
                plus_minus(100 * less.mean, _scaled(less.deviation), 2, signed=True),
                f"{less.wins}/{less.n}",
                chance(less.p),
            ]
        )
    limit = bound(problem)
    bounded = "above 1, so it says nothing here" if limit > 1 else f"{100 * limit:.1f}%"
    below = [
        f"Bound on SLaM's expected error, 4 / ((1 - 2 noise) margin sqrt(T)): {limit:.3f}, {bounded}.",
        (
            f"The noise was {problem.noise:g}; estimated from held-out examples: "
            f"{plus_minus(spread(guessed).mean, spread(guessed).deviation, 3)}."
        ),
        (
            "more than SLaM: the method's error less SLaM's, seed by seed; wins: seeds where SLaM errs less; "
            "p: two-sided paired t-test, uncorrected."
        ),
    ]
    title = (
        f"Halfspaces: dimension {problem.dimension}, margin {problem.margin:g}, noise "
        f"{problem.noise:g}, stretch {problem.stretch:g}, {problem.rows:,} examples, {problem.steps:,} "
        f"updates, {len(ours)} seeds"
    )
    show_table(title, ["method", "error %", "worst %", "more than SLaM", "wins", "p"], rows, below)


def _scaled(deviation: float | None) -> float | None:
    return None if deviation is None else 100 * deviation
