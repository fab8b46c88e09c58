"""The `train` part of scripts/bench.py: one step of distillation in hand-written loops and in kdx itself,
interleaved in one process.

Every loop trains the same student on the same CIFAR-shaped pictures with crop and flip, by T^2 KL at T = 4
and cross-entropy, with SGD:
  tutorial  as in PyTorch's knowledge distillation tutorial: a DataLoader with torchvision's transforms of PIL
            pictures (in this process, so that their time counts), a live fp32 teacher, torch's default SGD,
            the running loss read in each step
  limit     what one would write for speed and for nothing else: pictures in memory and augmented as a batch,
            answers in memory (or a live bf16 teacher), channels_last, fused SGD, an allocator that keeps big
            blocks
  torchdistill  its DistillationBox, where it is importable (scripts/bench_torchdistill.py)
  kdx       `kdx train` as it is: the recipe over a store, kdx/pipeline/stages/learn.py, its checks in each
            step, run folder, TensorBoard, progress
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch
from bench_torchdistill import step_of
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kdx.config import compose
from kdx.config.wire import Order, wire
from kdx.core.types import Parts
from kdx.models import build
from kdx.pipeline.recipes import steps as recipes
from kdx.pipeline.recipes.recipe import build_recipe
from kdx.pipeline.stages.answers import stored_answers
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import new_network, open_network
from kdx.pipeline.stages.streams import open_streams
from kdx.report.run.folder import RunFolder
from kdx.report.run.listeners import Many
from kdx.report.run.progress import Progress
from kdx.runs.run import perform, protocol
from kdx.runs.traces import environment
from kdx.store.store import Halt, Store
from kdx.store.work import Listener
from kdx.tasks.classification import Classification

T, ALPHA = 4.0, 0.9
SGD = {"lr": 0.001, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
CLASSES, VALIDATION = 100, 100
TASK = Classification(classes=[str(number) for number in range(CLASSES)])
LOGS = 40
"""Log lines of one training (kdx/pipeline/stages/learn.py)."""
LONG = 15640
"""Steps of a training that their cost is spread over: 20 epochs of CIFAR in batches of 64."""


@dataclass(frozen=True)
class Settings:
    """parity: steps that limit and kdx take from the same weights on the same batches. precisions: of "fp32"
    and "bf16".
    """

    teacher: str
    student: str
    precisions: tuple[str, ...]
    batch: int
    rows: int
    threads: int
    repeats: int
    steps: int
    parity: int
    device: str = "cpu"


@dataclass(frozen=True)
class Step:
    """Seconds that one step took, of the process (all threads) and of the wall. logged: kdx wrote a log line
    in it.
    """

    cpu: float
    wall: float
    logged: bool = False


class Clock:
    def __init__(self):
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def lap(self, logged: bool = False) -> Step:
        cpu, wall = self.cpu, self.wall
        self.cpu, self.wall = time.process_time(), time.perf_counter()
        return Step(self.cpu - cpu, self.wall - wall, logged)


class Contender(Protocol):
    keeps_blocks: bool
    """Whether the allocator keeps big blocks, as kdx tells it to, or goes glibc's own ways."""

    def block(self, steps: int) -> list[Step]: ...

    def close(self) -> None: ...


@dataclass
class Loop:
    """A hand-written loop, by what it does in a step."""

    step: Callable[[], Any]
    keeps_blocks: bool

    def block(self, steps: int) -> list[Step]:
        clock, times = Clock(), []
        for _ in range(steps):
            self.step()
            times.append(clock.lap())
        return times

    def close(self) -> None:
        """Nothing to end."""


class Stop(BaseException):
    """Ends a run of kdx that is not needed any more. No Exception, so that nobody takes it for a failure."""


class Kdx(Listener):
    """A run of kdx in a thread of its own, which moves only while `block` waits for it, so many steps of the
    student at a time.
    """

    keeps_blocks = True

    def __init__(self, order: Order, folder: Path):
        self.order, self.folder = order, folder
        self.go, self.came = threading.Semaphore(0), threading.Semaphore(0)
        self.left, self.over, self.logged, self.error = 0, False, False, None
        self.times: list[Step] = []
        self.losses: list[float] = []
        self.clock = Clock()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        self.go.acquire()
        try:
            folder = RunFolder(
                self.folder,
                dict(self.order.config),
                protocol(self.order, None),
                environment(self.order),
                ["kdx", "train"],
            )
            with open(os.devnull, "w") as nowhere, Progress(Console(file=nowhere)) as progress:
                perform(self.order, Many(progress, folder, self))
        except Stop:
            pass
        except BaseException as error:
            self.error = error
        self.over = True
        self.came.release()

    def record(self, name: str, record: dict) -> None:
        if name == "student-train" and "train/loss" in record:
            self.logged = True
            self.losses.append(record["train/loss"])

    def progress(self, name: str, done: int, total: int, text: str) -> None:
        """The last thing that happens in each step."""
        if name != "student-train":
            return
        self.times.append(self.clock.lap(self.logged))
        self.logged = False
        self.left -= 1
        if self.left <= 0:
            self.came.release()
            self.go.acquire()
            if self.over:
                raise Stop
            self.clock = Clock()

    def block(self, steps: int) -> list[Step]:
        self.left, self.times = steps, []
        self.go.release()
        self.came.acquire()
        if self.error:
            raise self.error
        return self.times

    def close(self) -> None:
        if not self.over:
            self.over = True
            self.go.release()
        self.thread.join()


def keep_blocks(keep: bool) -> None:
    """The allocator as kdx sets it, or as glibc brings it: there the thresholds move with use, up to the
    numbers here.
    """
    _mallopt(-3, 1 << 30 if keep else 32 << 20)  # M_MMAP_THRESHOLD
    _mallopt(-1, 2**31 - 1 if keep else 64 << 20)  # M_TRIM_THRESHOLD


def one_heap() -> None:
    """For all threads. Else kdx, which runs in a thread of its own only here, would get memory of another
    kind than it has at home.
    """
    _mallopt(-8, 1)  # M_ARENA_MAX


def _mallopt(parameter: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(parameter, value)


class Pair:
    """The two networks, the pictures and the answers, as kdx's own stages make them in a store under
    `folder`.
    """

    def __init__(self, settings: Settings, folder: Path):
        self.settings, self.folder = settings, folder
        folder.mkdir(parents=True)
        checkpoint = folder / "teacher.safetensors"
        plain = self.order("fp32", "stored", steps=1)
        save_file(random_teacher(plain), checkpoint)
        self.checkpoint = f"teacher.checkpoint={checkpoint}"
        whole = settings.rows // settings.batch + 2  # a whole pass, so that every row is answered
        self.first = self.order("fp32", "stored", self.checkpoint, steps=whole)
        self.runtime = self.first.runtime.settle()
        store = Store(
            self.first.store,
            self.runtime,
            Listener(),
            until=frozenset({"teacher_pretrain", "pseudo_label"}),
        )
        with contextlib.suppress(Halt):
            build_recipe(self.first.recipe).run(store, self.first.experiment)
        self.data, labels = store.done["prepare"], store.done["pseudo-label"]
        self.labels, self.device = labels, torch.device(self.runtime.device)
        self.answers = stored_answers(labels, self.runtime.device, labels.json("answers.json")["views"], TASK)
        self.about = self.data.json("data.json")
        self.split = open_split(self.data, "labelled", self.runtime)
        self.inputs = recipes.student_inputs(store, self.data, self.first.experiment)
        self.teacher_artifact = store.done["teacher-pretrain"]

    def order(self, precision: str, mode: str, *more: str, steps: int) -> Order:
        return wire(compose.check_words(self.words(precision, mode, *more, steps=steps)))

    def words(self, precision: str, mode: str, *more: str, steps: int) -> list[str]:
        s = self.settings
        given = [
            f"teacher={s.teacher}",
            f"student={s.student}",
            "dataset=synthetic",
            f"dataset.classes={CLASSES}",
            "dataset.labelled=null",
            f"dataset.train_rows={s.rows + VALIDATION}",
            f"dataset.test_rows={CLASSES}",
            f"dataset.validation={VALIDATION}",
            "loss=kd",
            f"loss.temperature={T}",
            f"loss.alpha={ALPHA}",
            "augment=flip_crop",
            "baseline=false",
            f"device={s.device.partition(':')[0]}",
            *([f"device.device={s.device}"] if ":" in s.device else []),
            f"device.threads={s.threads}",
            "device.checkpoint_seconds=1000000",
            f"store={self.folder / 'store'}",
            f"pseudo_label.mode={mode}",
            "pseudo_label.views=1",
            f"student_train.precision={precision}",
            f"student_train.steps={steps}",
            f"student_train.batch_size={s.batch}",
            "student_train.evaluate_every=1000000",
            "student_train.schedule=constant",
            "student_train.optimiser=sgd",
            *(f"student_train.{k}={SGD[k]}" for k in ("lr", "momentum", "weight_decay")),
        ]
        named = {word.partition("=")[0] for word in more}
        return [*(word for word in given if word.partition("=")[0] not in named), *more]

    def student(self) -> nn.Module:
        """With the weights that kdx's student begins with."""
        torch.manual_seed(self.inputs["seed"])
        return new_network(self.inputs["model"], self.about).to(self.device)

    def teacher(self) -> nn.Module:
        return open_network(self.teacher_artifact).requires_grad_(False).to(self.device)

    def kdx(self, precision: str, mode: str, steps: int, *more: str) -> Kdx:
        return Kdx(
            self.order(precision, mode, self.checkpoint, *more, steps=steps),
            self.folder / "-".join([mode, precision, str(steps), *more]),
        )


def random_teacher(order: Order) -> dict[str, Tensor]:
    """Weights as they are drawn, with batch statistics of noise, so that the answers have a sane size."""
    net = build(
        order.experiment.teachers[0].model,
        shape=(3, 32, 32),
        classes=CLASSES,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    ).net.train()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        net(torch.randn(64, 3, 32, 32))
    return net.state_dict()


def kd(logits: Tensor, answers: Tensor, y: Tensor) -> Tensor:
    soft = F.kl_div(F.log_softmax(logits.float() / T, 1), F.softmax(answers / T, 1), reduction="batchmean")
    return ALPHA * T**2 * soft + (1 - ALPHA) * F.cross_entropy(logits.float(), y)


class Pictures(Dataset):
    """As torchvision's CIFAR10 gives them: arrays in memory, a PIL picture each time, then the transforms."""

    def __init__(self, pair: Pair):
        self.pictures = pair.split.inputs.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = pair.split.known.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(pair.about["mean"], pair.about["std"]),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pictures[row])), self.labels[row]


def forever(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def tutorial(pair: Pair) -> Loop:
    teacher, student = pair.teacher().net.eval(), pair.student().net.train()
    optimiser = torch.optim.SGD(student.parameters(), **SGD)
    batches = forever(
        DataLoader(Pictures(pair), batch_size=pair.settings.batch, shuffle=True, drop_last=True)
    )
    running = 0.0

    def step() -> None:
        nonlocal running
        x, y = next(batches)
        optimiser.zero_grad()
        with torch.no_grad():
            answers = teacher(x)
        loss = kd(student(x), answers, y)
        loss.backward()
        optimiser.step()
        running += loss.item()

    return Loop(step, keeps_blocks=False)


def torchdistill(pair: Pair) -> dict[str, Contender]:
    """Its loop by its name; {} where it is not installed."""
    teacher, student = pair.teacher().net.eval(), pair.student().net.train()
    step = step_of(
        teacher, student, Pictures(pair), batch=pair.settings.batch, sgd=SGD, temperature=T, alpha=ALPHA
    )
    return {} if step is None else {PEER: Loop(step, keeps_blocks=False)}


def augmented(pair: Pair) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(rows, normalised pictures, classes) of random batches, cropped and mirrored together."""
    n, size, here = len(pair.split), pair.settings.batch, pair.device
    windows = F.pad(pair.split.inputs, (4, 4, 4, 4)).unfold(2, 32, 1).unfold(3, 32, 1)
    mean, std = (torch.tensor(pair.about[k], device=here).view(1, 3, 1, 1) for k in ("mean", "std"))
    known = pair.split.known.to(here)
    while True:
        rows, top, left = (torch.randint(high, (size,), device=here) for high in (n, 9, 9))
        x = windows[rows, :, top, left]
        x = torch.where(torch.rand(size, 1, 1, 1, device=here) < 0.5, x.flip(3), x)
        yield rows, (x.float() / 255 - mean) / std, known[rows]


def limit(pair: Pair, precision: str, *, live: bool) -> Loop:
    teacher, student = (
        n.net.to(memory_format=torch.channels_last) for n in (pair.teacher(), pair.student().train())
    )
    answers = pair.answers.answers["labelled"][""][:, 0].float()
    batches = augmented(pair)
    optimise = optimiser_step(student)

    def step() -> None:
        rows, x, y = next(batches)
        x = x.contiguous(memory_format=torch.channels_last)
        with autocast(precision, pair.device):
            with torch.no_grad():
                target = teacher(x).float() if live else answers[rows]
            logits = student(x)
        optimise(kd(logits, target, y))

    return Loop(step, keeps_blocks=True)


def autocast(precision: str, device: torch.device) -> Any:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def optimiser_step(student: nn.Module) -> Callable[[Tensor], None]:
    optimiser = torch.optim.SGD(student.parameters(), **SGD, fused=True)

    def step(loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def parity(pair: Pair) -> dict[str, list[float]]:
    """The losses of the first steps: of the limit loop on the weights and batches that kdx begins with, and
    of kdx itself.
    """
    steps = pair.settings.parity
    parts = Parts(pair.student(), pair.student, pair.answers, [], None, TASK)
    streams = open_streams(
        pair.first.experiment.loss.build(parts),
        pair.data,
        pair.first.experiment.student_train.build(),
        pair.runtime,
        seed=pair.inputs["views_seed"],
        parts=parts,
        clean=False,
        rows=None,
    )
    mean, std = (torch.tensor(pair.about[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    found = {}
    for precision in pair.settings.precisions:
        student = pair.student().net.to(memory_format=torch.channels_last).train()
        optimise, losses = optimiser_step(student), []
        for number in range(steps):
            batch = streams["labelled"].batch(number)
            x = ((batch.views["main"] - mean) / std).contiguous(memory_format=torch.channels_last)
            with autocast(precision, pair.device):
                logits = student(x)
            loss = kd(logits, pair.answers(batch), batch.y)
            losses.append(loss.item())
            optimise(loss)
        found[f"limit {precision}"] = losses
        run = pair.kdx(precision, "stored", steps)
        run.block(steps)
        run.close()
        found[f"kdx {precision}"] = run.losses
    return found


def interleave(contenders: dict[str, Contender], repeats: int, steps: int) -> dict[str, list[Step]]:
    """The steps of each, in turns of `steps`, the other way round in each second round. The first step of a
    turn is not counted: caches and allocator still hold what the one before left there."""
    found: dict[str, list[Step]] = {name: [] for name in contenders}
    try:
        for number in range(-1, repeats):  # round -1 warms up
            print(f"round {number + 1} of {repeats}", file=sys.stderr)
            for name in list(contenders)[:: 1 if number % 2 else -1]:
                keep_blocks(contenders[name].keeps_blocks)
                times = contenders[name].block(steps + 1)[1:]
                if number >= 0:
                    found[name] += times
    finally:
        for contender in contenders.values():
            contender.close()
    return found


PEER, PAIR_C = "torchdistill, live, fp32", ("resnet56", "resnet20")
OF_TORCHDISTILL = 4.3
GOALS = {
    PAIR_C: {"kdx, live teacher, bf16": 2.1},  # stored: of torchdistill, as the limit itself misses 4
    ("resnet32x4", "resnet8x4"): {
        "kdx, stored answers, fp32": 3.0,
        "kdx, stored answers, bf16": 5.5,
        "kdx, live teacher, bf16": 2.1,
    },
}
OF_LIMIT = 0.97
TOLERANCE = 1e-3


def bench(settings: Settings, folder: Path) -> dict[str, Any]:
    """Prints the table of a pair; returns its numbers."""
    one_heap()
    pair = Pair(settings, folder)
    losses = parity(pair)
    planned = LOGS * max(10, -(-(settings.repeats + 1) * (settings.steps + 1) // LOGS))
    contenders: dict[str, Contender] = {"tutorial, live teacher, fp32": tutorial(pair), **torchdistill(pair)}
    for mode, precision in itertools.product(("stored answers", "live teacher"), settings.precisions):
        contenders[f"limit, {mode}, {precision}"] = limit(pair, precision, live=mode == "live teacher")
        contenders[f"kdx, {mode}, {precision}"] = pair.kdx(precision, mode.split()[0], planned)
    found = interleave(contenders, settings.repeats, settings.steps)
    return tell(settings, found, losses)


def tell(settings: Settings, found: dict[str, list[Step]], losses: dict[str, list[float]]) -> dict[str, Any]:
    goals = GOALS.get((settings.teacher, settings.student), {})
    cpu, wall = (
        {n: median(getattr(t, k) for t in times if not t.logged) for n, times in found.items()}
        for k in ("cpu", "wall")
    )
    reference = "tutorial, live teacher, fp32"
    print(
        f"\ntrain {settings.teacher} -> {settings.student}: batch {settings.batch}, {settings.threads} "
        f"thread(s), medians of {settings.repeats} x {settings.steps} steps; x tutorial and of limit by CPU "
        "time (by the wall)"
    )
    ratios: dict[str, dict[str, float]] = {}
    for name in found:
        ratios[name] = {"tutorial": cpu[reference] / cpu[name], "tutorial_wall": wall[reference] / wall[name]}
        line = (
            f"  {name:29} {1e3 * cpu[name]:8.1f} ms ({1e3 * wall[name]:8.1f})  x tutorial "
            f"{_two(ratios[name], 'tutorial')}"
        )
        if PEER in found and name.startswith("kdx"):
            ratios[name]["torchdistill"] = cpu[PEER] / cpu[name]
            line += f"  x torchdistill {ratios[name]['torchdistill']:5.2f}"
            if (settings.teacher, settings.student, name) == (*PAIR_C, "kdx, stored answers, bf16"):
                line += f"  goal {OF_TORCHDISTILL}"
        line += (
            f"  goal {goals[name]:.1f}" if name in goals else "          " if name.startswith("kdx") else ""
        )
        if name.startswith("kdx"):
            best = name.replace("kdx", "limit")
            fastest = min(t.cpu for t in found[best]) / min(t.cpu for t in found[name])
            ratios[name] |= {
                "limit": cpu[best] / cpu[name],
                "limit_wall": wall[best] / wall[name],
                "limit_fastest": fastest,
            }
            line += f"  of limit {_two(ratios[name], 'limit')}, fastest steps {fastest:.2f}  goal {OF_LIMIT}"
        print(line.rstrip())
    logs = _log_lines(found, cpu)
    for name, extra in logs.items():
        print(
            f"  {name}: a log line (the gradient norm of each term) costs {1e3 * extra:.1f} ms more than a "
            f"step, {LOGS * extra / (LONG * cpu[name]):.2%} of a training of {LONG} steps"
        )
    for precision in settings.precisions:
        ours, theirs = losses[f"kdx {precision}"], losses[f"limit {precision}"]
        apart = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
        reported = f"; goal {TOLERANCE:.0e}" if precision == "fp32" else ""
        print(
            f"  parity {precision}: same weights, same batches, {len(ours)} steps: loss {theirs[-1]:.4f} "
            f"limit, {ours[-1]:.4f} kdx, at most {apart:.1e} apart in any step{reported}"
        )
    steps = {name: [vars(t) for t in times] for name, times in found.items()}
    return {"cpu": cpu, "wall": wall, "ratios": ratios, "log_line": logs, "losses": losses, "steps": steps}


def _two(ratios: dict[str, float], key: str) -> str:
    return f"{ratios[key]:5.2f} ({ratios[f'{key}_wall']:.2f})"


def _log_lines(found: dict[str, list[Step]], cpu: dict[str, float]) -> dict[str, float]:
    """Seconds of CPU that a log line adds to a step of kdx, where a step with one was seen."""
    logged = {name: [t.cpu for t in times if t.logged] for name, times in found.items()}
    return {name: median(times) - cpu[name] for name, times in logged.items() if times}
