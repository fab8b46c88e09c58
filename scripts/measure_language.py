#!/usr/bin/env python3
"""Measures small language models over seeds: what they begin with, at several sizes and budgets, and what is
stored of their teacher's answers. Each training is that of `kdx train` with the words of its arm; figures are
read of the validation that it makes on its way, so no network is measured a second time.

    scripts/measure_language.py sizes --seeds 3      # 2 depths by 2 widths, 200 steps
    scripts/measure_language.py budgets --seeds 5    # steps 50, 200 and 1,000 of one training, constant rate
    scripts/measure_language.py formats --seeds 3    # stored answers, 700 steps
    scripts/measure_language.py sizes --words teacher_pretrain.steps=20 student_train.steps=10 --at 10

Finished trainings are in --store and are not made again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kdx.commands._arms import by_steps_done  # noqa: E402
from kdx.config import compose  # noqa: E402
from kdx.config.wire import wire, with_sources  # noqa: E402
from kdx.core.errors import UserError  # noqa: E402
from kdx.pipeline.recipes.recipe import build_recipe  # noqa: E402
from kdx.report.compare.statistics import chance, paired, plus_minus, spread  # noqa: E402
from kdx.store.store import Store  # noqa: E402
from kdx.store.work import Listener  # noqa: E402

LANGUAGE = ("dataset=corpus", "device=cpu", "device.threads=1", "baseline=false")
CONSTANT = ("student_train.schedule=constant", "student_train.evaluate_every=50")
BEGINNINGS = {
    "fresh": ("loss=supervised",),
    "guide": ("loss=supervised", "init=guide"),
    "select, the same parts": ("loss=supervised", "init=select", "init.parts=guide"),
    "select, everything": ("loss=supervised", "init=select"),
    "guide, all blocks and the last layer, rescaled": (
        "loss=supervised",
        "init=guide",
        "init.blocks=all",
        "init.head=true",
        "init.rescale=true",
    ),
}
PURE = ("loss=divergence", "loss.alpha=1.0")
FORMATS = {
    "no teacher": ("loss=supervised",),
    "dense": PURE,
    "sampled, 50 draws": (*PURE, "pseudo_label.format=sampled"),
    "top 8 and the rest": (*PURE, "pseudo_label.format=topk"),
    "top 5 and the rest": (*PURE, "pseudo_label.format=topk", "pseudo_label.k=5"),  # bytes as of the draws
    "top 8, renormalised": (*PURE, "pseudo_label.format=topk", "loss.rest=renormalised"),
}


@dataclass(frozen=True)
class Table:
    """arms: name -> words, the first of each group the one that others are held against. metric: of
    validation, less being better. at: steps that are read."""

    arms: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...]
    metric: str
    at: tuple[int, ...]
    reference: str


def sizes() -> Mapping[str, Table]:
    """By what the groups are called: depth of both networks, and the student's width of the teacher's 96."""
    return {
        f"{depth} blocks, width {width} of 96": Table(
            BEGINNINGS,
            (
                *CONSTANT,
                "student_train.steps=200",
                *(() if depth == 2 else (f"teacher.depth={depth}", f"student.depth={depth}")),
                *(() if width == 32 else (f"student.width={width}",)),
            ),
            "loss",
            (50, 200),
            "fresh",
        )
        for depth in (2, 4)
        for width in (32, 64)
    }


def tables(name: str) -> Mapping[str, Table]:
    if name == "sizes":
        return sizes()
    if name == "budgets":
        words = (*CONSTANT, "student_train.steps=1000")
        return {"1,000 steps": Table(BEGINNINGS, words, "loss", (50, 200, 1000), "fresh")}
    return {"700 steps": Table(FORMATS, (), "bits", (700,), "dense")}


def train(words: Sequence[str], store: Path) -> tuple[dict[str, dict[str, float]], float]:
    """(steps done -> what the student's training recorded there, the teacher's last score on validation)"""
    order = with_sources(
        wire(compose.check_words([*words, f"store={store}"])), lambda text, level: None, ahead=False
    )
    made = Store(order.store, order.runtime, Listener(), until=order.until)
    build_recipe(order.recipe).run(made, order.experiment)
    teacher = by_steps_done(made.done["teacher-pretrain"].lines("metrics.jsonl"))
    steps = str(max(map(int, teacher)))
    return by_steps_done(made.done["student-train"].lines("metrics.jsonl")), teacher[steps]


def measure(table: Table, group: str, seeds: range, further: Sequence[str], store: Path) -> str:
    """The table as Markdown. A line for each training is printed as it ends."""
    found: dict[str, dict[int, list[float]]] = {name: {at: [] for at in table.at} for name in table.arms}
    teachers: list[float] = []
    key = f"validation/{table.metric}"
    for seed in seeds:
        for name, words in table.arms.items():
            records, teacher = train([*LANGUAGE, *table.words, *words, *further, f"seed={seed}"], store)
            for at in table.at:
                if key not in records.get(str(at), {}):
                    raise UserError(f"{name} was not validated at step {at}; it was at {', '.join(records)}")
                found[name][at].append(records[str(at)][key])
            now = ", ".join(f"{found[name][at][-1]:.3f}" for at in table.at)
            print(f"{group}, seed {seed}, {name}: {now}", file=sys.stderr, flush=True)
        teachers.append(teacher[key])
    return shown(table, group, found, teachers)


def shown(
    table: Table, group: str, found: Mapping[str, Mapping[int, Sequence[float]]], teachers: Sequence[float]
) -> str:
    mean, deviation = spread(teachers).mean, spread(teachers).deviation
    unit = "bits a byte" if table.metric == "bits" else "nats"
    heads = "".join(f" step {at} | less {table.reference} |" for at in table.at)
    lines = [
        f"{group}; validation, {unit}; n = {len(teachers)}; teacher {plus_minus(mean, deviation, 3)}",
        "",
        f"| |{heads}",
        "|---|" + "---|---|" * len(table.at),
    ]
    for name, values in found.items():
        cells = []
        for at in table.at:
            own, pairs = spread(values[at]), paired(values[at], found[table.reference][at])
            cells.append(plus_minus(own.mean, own.deviation, 3))
            less = plus_minus(pairs.mean, pairs.deviation, 3, signed=True)
            said = f"{less}, {pairs.losses}/{pairs.n} less, p {chance(pairs.p)}"
            cells.append("-" if name == table.reference else said)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=("sizes", "budgets", "formats"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=5000)
    parser.add_argument("--store", type=Path, default=Path("outputs/store"))
    parser.add_argument("--words", nargs="*", default=[], help="further words of kdx train")
    parser.add_argument("--at", nargs="*", type=int, help="read these steps instead")
    parser.add_argument("--only", help="of the groups, those whose name has this text")
    given = parser.parse_args(argv)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    compose.register_names()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    for group, table in tables(given.table).items():
        if given.only and given.only not in group:
            continue
        at = tuple(given.at) if given.at else table.at
        chosen = Table(table.arms, table.words, table.metric, at, table.reference)
        print(measure(chosen, group, seeds, given.words, given.store.absolute()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
