#!/usr/bin/env python3
"""Tokens a second of kdx's training of a small language model against a bare hand-written loop with the same
network and settings, interleaved in one process.

scripts/bench_language.py                                   gpt_tiny, rows of 64 bytes, 16 in a batch
scripts/bench_language.py --student gpt_small --repeats 8

  bare   rows and answers in memory, a random batch, forward, loss, backward, fused AdamW; no value is read
  kdx    `kdx train` as it is: the recipe over a store, its checks in each step, run folder, progress
Two kinds of training: on the next tokens of the text alone (labels), and on the teacher's stored answers
(loss=token_kd). By processor time of the process, one thread: on a busy machine the wall says nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_train import Contender, Kdx, Loop, Step, interleave, one_heap  # noqa: E402

from kdx.config import compose  # noqa: E402
from kdx.config.wire import Order, wire, with_sources  # noqa: E402
from kdx.pipeline.recipes import steps as recipes  # noqa: E402
from kdx.pipeline.recipes.recipe import build_recipe  # noqa: E402
from kdx.pipeline.stages.answers import stored_answers  # noqa: E402
from kdx.pipeline.stages.arrays import build_task, open_split  # noqa: E402
from kdx.pipeline.stages.files import new_network  # noqa: E402
from kdx.store.store import Halt, Store  # noqa: E402
from kdx.store.work import Listener  # noqa: E402

KINDS = {"labels": "loss=supervised", "stored answers": "loss=token_kd"}
ALPHA = 0.9
"""Weight of the teacher's term: conf/loss/token_kd.yaml."""
LONG = 1 << 20
"""Steps that no run of kdx comes to here."""
GOAL = 0.95


class Text:
    """The rows of a corpus, and the answers of a teacher of few steps, as kdx's own stages make them."""

    def __init__(self, student: str, batch: int, folder: Path):
        self.student, self.batch, self.folder = student, batch, folder
        self.first = self.order("stored answers", 1000)
        runtime = self.first.runtime.settle()
        until = frozenset({"teacher_pretrain", "pseudo_label"})
        store = Store(self.first.store, runtime, Listener(), until=until)
        with contextlib.suppress(Halt):
            build_recipe(self.first.recipe).run(store, self.first.experiment)
        data, labels = store.done["prepare"], store.done["pseudo-label"]
        self.about = data.json("data.json")
        split = open_split(data, "labelled", runtime)
        self.tokens, self.next = split.inputs, split.known["token"]
        teacher = stored_answers(labels, "cpu", labels.json("answers.json")["views"], build_task(self.about))
        rows = np.arange(len(self.tokens))
        self.answers = torch.as_tensor(np.asarray(teacher.answers["labelled"][""][rows]))[:, 0]
        self.inputs = recipes.student_inputs(store, data, self.first.experiment)

    def order(self, kind: str, steps: int) -> Order:
        words = [
            "dataset=corpus",
            KINDS[kind],
            f"student={self.student}",
            "baseline=false",
            "device=cpu",
            "device.threads=1",
            "device.checkpoint_seconds=1000000",
            f"store={self.folder / 'store'}",
            "teacher_pretrain.steps=20",
            "pseudo_label.mode=stored",
            "student_train.schedule=constant",
            f"student_train.steps={steps}",
            f"student_train.batch_size={self.batch}",
            "student_train.evaluate_every=1000000000",
        ]
        return with_sources(wire(compose.check_words(words)), lambda text, level: None, ahead=False)

    def bare(self, kind: str) -> Loop:
        torch.manual_seed(self.inputs["seed"])
        network = new_network(self.inputs["model"], self.about).train()
        settings = self.first.experiment.student_train.build()
        optimiser = torch.optim.AdamW(
            network.parameters(), settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        loss = self.plain if kind == "labels" else self.taught

        def step() -> None:
            rows = torch.randint(len(self.tokens), (self.batch,))
            optimiser.zero_grad(set_to_none=True)
            loss(network(self.tokens[rows]), rows).backward()
            optimiser.step()

        return Loop(step, keeps_blocks=True)

    def plain(self, logits: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), self.next[rows].flatten().long())

    def taught(self, logits: Tensor, rows: Tensor) -> Tensor:
        log_q = logits.log_softmax(-1).flatten(0, 1)
        log_p = self.answers[rows].float().log_softmax(-1).flatten(0, 1)
        soft = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
        return ALPHA * soft + (1 - ALPHA) * F.nll_loss(log_q, self.next[rows].flatten().long())

    def kdx(self, kind: str) -> Kdx:
        return Kdx(self.order(kind, LONG), self.folder / kind.replace(" ", "-"))


def tell(found: dict[str, list[Step]], tokens: int, turn: int) -> None:
    """The table. tokens: of a batch; turn: steps of one. The ratio is that of two turns side by side, so that
    a machine that grows slower in the meantime counts on both sides."""
    print(
        "\n| training | tokens a second, bare | kdx | kdx of bare, of two turns | middle half of the turns |"
    )
    print("|---|---|---|---|---|")
    for kind in KINDS:
        bare, ours = ([step.cpu for step in found[f"{name}, {kind}"]] for name in ("bare", "kdx"))
        ratios = sorted(
            median(bare[start : start + turn]) / median(ours[start : start + turn])
            for start in range(0, len(bare), turn)
        )
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        print(
            f"| {kind} | {tokens / median(bare):,.0f} | {tokens / median(ours):,.0f} | "
            f"{median(ratios):.3f} | {low:.3f} to {high:.3f} |"
        )
    logged = sum(step.logged for steps in found.values() for step in steps)
    steps = len(next(iter(found.values())))
    print(
        f"\n{steps // turn} turns of {turn} steps each, log lines among them: {logged}. Goal: {GOAL}. "
        f"Load: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors."
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", default="gpt_tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=6, help="turns of each")
    parser.add_argument("--steps", type=int, default=30, help="steps of a turn")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    one_heap()
    compose.register_names()
    with tempfile.TemporaryDirectory() as place:
        text = Text(given.student, given.batch, Path(place))
        makers: dict[str, Callable[[str], Contender]] = {"bare": text.bare, "kdx": text.kdx}
        contenders = {f"{name}, {kind}": makers[name](kind) for kind in KINDS for name in makers}
        found = interleave(contenders, given.repeats, given.steps)
        tell(found, given.batch * text.tokens.shape[1], given.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
