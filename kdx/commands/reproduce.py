"""Run a published claim again with fresh seeds, beside its controls: it holds, is not significant, or is contradicted."""  # noqa: E501

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdx.commands import halfspace
from kdx.commands._arms import try_halfspace, try_train
from kdx.commands._claim_tables import Metrics, Values, compared_pairs, show_claim
from kdx.commands._words import Option, Words, asks_for_help, help_text, make_folder, parse_words
from kdx.commands.halfspace import numeral
from kdx.commands.list import row
from kdx.config import compose, grid
from kdx.config.wire import examine_config
from kdx.core import checks, output, path_checks
from kdx.core.documents import dump
from kdx.core.errors import UserError, UserErrors, within
from kdx.report.run.written import write_or_error
from kdx.runs import claims
from kdx.runs.claims import UNITS, Claim
from kdx.runs.derived import add_derived
from kdx.runs.run import passes_unread

OPTIONS = (
    Option(
        "seeds", "5", "how many, each with its own split, initialisation and order; --seeds N says the same"
    ),
    Option("first_seed", "5000", "the first of them; no setting was chosen on these"),
    Option(
        "store",
        "outputs/store",
        "finished stages: a second call goes on where the first one stopped; runs go to "
        "runs/reproduce beside it",
    ),
    Option("dataset.root", None, "where the data lie, of a claim on such as kdx does not bring"),
)
_GROUPS = ("device",)
HELP = help_text(
    "kdx reproduce                          the claims\nkdx reproduce NAME ... --seeds N [key=value ...]",
    OPTIONS,
    "Keys of a group as in kdx train: device=cpu device.threads=1",
)

"""figure -> how it is shown and compared."""


def main(argv: Sequence[str]) -> int:
    """Exit code 0 whatever the verdict; 1: a run failed; 2: bad input, and nothing was run."""
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse_words("reproduce", flagless(argv), OPTIONS, _GROUPS)
    seeds = _asked(words)
    if not words.names:
        output.answer({"claims": [_about(claim) for claim in map(claims.read_claim, claims.claim_names())]})
        if not output.wants_document():
            show_claims()
        return 0
    chosen = [claims.read_claim(name) for name in dict.fromkeys(words.names)]
    store = path_checks.folder("store", words["store"])
    compose.register_names()
    given = [f"dataset.root={words['dataset.root']}"] if words["dataset.root"] else []
    further = compose.quote_paths([*words.composed, *given, f"store={words['store']}"])
    _check(chosen, further, seeds)
    code, measured = 0, []
    for claim in chosen:
        place = store.absolute().parent / "runs" / "reproduce" / claim.name
        make_folder(place, "the runs' folder", "store=PATH")
        try:
            values, metrics, runs = _measure(claim, seeds, further, place)
            pairs = compared_pairs(claim, values, metrics)
        except UserError as error:
            print(f"claim {claim.name}: {error}", file=sys.stderr)
            measured.append({"claim": claim.name, "error": str(error)})
            code = 1
            continue
        document = {
            "claim": claim.name,
            "title": claim.title,
            "by": claim.by,
            "measured": claim.measured,
            "seeds": list(seeds),
            "arms": claim.arms,
            "words": list(further),
            "figures": values,
            "comparisons": pairs,
            "remarks": claim.remarks,
            "runs": runs,
        }
        write_or_error(place / "reproduce.json", dump(document))
        measured.append(document)
        if not output.wants_document():
            show_claim(claim, values, metrics, pairs)
        _tell_where(claim, place)
        output.instead(f"it is in {place}/reproduce.json")
    output.answer({"claims": measured})
    return code


def _about(claim: Claim) -> dict[str, str]:
    return {"claim": claim.name, "title": claim.title, "by": claim.by, "measured": claim.measured}


def flagless(argv: Sequence[str]) -> list[str]:
    """`--seeds N` and `--seeds=N` as `seeds=N`."""
    found = [word.removeprefix("--") if word.startswith("--seeds=") else word for word in argv]
    while "--seeds" in found:
        at = found.index("--seeds")
        if at + 1 == len(found):
            raise UserError("--seeds needs a number: kdx reproduce kd --seeds 5")
        found[at : at + 2] = [f"seeds={found[at + 1]}"]
    return found


def _asked(words: Words) -> range:
    """The seeds."""
    values = {name: numeral(name, str(words[name]), whole=True) for name in ("seeds", "first_seed")}
    with checks.whole():
        checks.integer("seeds", values["seeds"], low=1, high=grid.MOST_RUNS)
        checks.integer("first_seed", values["first_seed"], low=0, high=checks.MOST - grid.MOST_RUNS)
    return range(values["first_seed"], values["first_seed"] + values["seeds"])


def show_claims() -> None:
    wide = max(map(len, claims.claim_names()))
    for claim in map(claims.read_claim, claims.claim_names()):
        print(row(f"{claim.name:{wide}}  ", claim.title))
        print(row(f"{'':{wide}}  ", f"  measured before: {claim.measured}"))
    print("\nkdx reproduce NAME --seeds 5 runs one again.")


def _check(chosen: Sequence[Claim], further: Sequence[str], seeds: range) -> None:
    """Every arm of every claim with the first seed, before anything is run. Raises UserErrors with all that
    is wrong.
    """
    errors: list[str] = []
    for claim in chosen:
        for arm, words in claim.arms.items():
            wrong = (
                halfspace_errors(words)
                if claim.command == "halfspace"
                else train_errors([*words, *further, f"seed={seeds[0]}"])
            )
            errors += [f"claim {claim.name}, arm {arm}: {error}" for error in wrong]
    if errors:
        raise UserErrors(errors)


def halfspace_errors(words: Sequence[str]) -> list[str]:
    try:
        halfspace.asked(parse_words("halfspace", words, halfspace.OPTIONS))
    except UserErrors as error:
        return error.messages
    except UserError as error:
        return [str(error)]
    return []


def train_errors(words: Sequence[str]) -> list[str]:
    config, errors, _ = compose.examine_words(words)
    if config is None or errors:
        return errors
    order, errors = examine_config(config)
    if errors or passes_unread(order):
        return errors
    from kdx.config.validate import inspect

    return inspect(order)


def _measure(
    claim: Claim, seeds: Sequence[int], further: Sequence[str], place: Path
) -> tuple[Values, Metrics, list[dict[str, Any]]]:
    """(figure -> its value for each seed, figure -> how it is shown, what is known of each run). All arms of
    a seed come before the next seed.
    """
    values: Values = {name: [] for name in claim.figures}
    metrics: Metrics = {}
    runs: list[dict[str, Any]] = []
    for number, seed in enumerate(seeds, 1):
        for arm, words in claim.arms.items():
            began = time.monotonic()
            with within(f"arm {arm}, seed {seed}"):
                look, about = (try_halfspace if claim.command == "halfspace" else try_train)(
                    arm, words, seed, further, place
                )
                for name, figure in claim.figures.items():
                    if figure.arm == arm:
                        value, metrics[name] = look(figure)
                        values[name].append(value)
            seconds = time.monotonic() - began
            runs.append({"arm": arm, "seed": seed, "seconds": round(seconds, 1), **about})
            now = ", ".join(
                f"{name} {metrics[name].scale * values[name][-1]:.4g}"
                for name, f in claim.figures.items()
                if f.arm == arm
            )
            print(
                f"{claim.name} {number}/{len(seeds)}  seed {seed}, {arm}: {now}  ({seconds:.0f} s)",
                flush=True,
            )
    add_derived(claim.derived, values)
    for name, figure in claim.derived.items():
        metrics[name] = metrics[figure.of[0]] if figure.way == "plus" else UNITS["share"]
    return values, metrics, runs


def _tell_where(claim: Claim, place: Path) -> None:
    print(
        f"{os.path.relpath(place)}/reproduce.json"
        + ("; a run folder for each arm and seed beside it" if claim.command == "train" else "")
    )
