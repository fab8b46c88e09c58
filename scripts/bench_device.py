"""Parts of scripts/bench.py by the wall and in pictures a second: `device`, a device's labelling and training
against bare loops on it, and `processes`, one training by several processes.

The bare training loop is written as cifar10-airbench is: rows, classes and answers lie on the device, a batch
is augmented at once by numbers drawn there, channels_last, bf16 where the device has it, one fused optimiser
step, no number is read. A device answers before it has computed, so turns of many steps are timed, to the end
of the last.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench_train import Contender, Loop, Pair, Settings, autocast, keep_blocks, limit, one_heap
from torch import Tensor

from kdx.core.errors import UserError
from kdx.training.runtime import Runtime

OF_BARE = 0.97


def name_of(device: str) -> str:
    """What the device calls itself. Ends the program with a sentence where it is not here."""
    try:
        return Runtime(device, "auto", 0, True, False, 20).describe()
    except UserError as error:
        raise SystemExit(str(error)) from None


def settings_of(args: argparse.Namespace, pair: str, device: str, rows: int) -> Settings:
    teacher, _, student = pair.partition(":")
    return Settings(
        teacher=teacher,
        student=student,
        precisions=("bf16",),
        batch=args.batch,
        rows=rows,
        threads=args.threads,
        repeats=args.repeats,
        steps=args.steps,
        parity=0,
        device=device,
    )


def turns(
    contenders: dict[str, Contender], settings: Settings, wait: Any = lambda: None
) -> dict[str, list[float]]:
    """name -> pictures a second in each turn of `steps`; a first turn is not counted."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for number in range(-1, settings.repeats):
            for name in list(contenders)[:: 1 if number % 2 else -1]:
                keep_blocks(True)
                wait()
                begun = time.perf_counter()
                contenders[name].block(settings.steps)
                wait()
                if number >= 0:
                    found[name].append(settings.steps * settings.batch / (time.perf_counter() - begun))
    finally:
        for contender in contenders.values():
            contender.close()
    return found


def planned(settings: Settings) -> int:
    """Steps of a training that is longer than all turns, 40 of them logged."""
    return 40 * max(10, -(-(settings.repeats + 2) * settings.steps // 40))


def labelling(pair: Pair, precision: str) -> Loop:
    """Answers of float16 to a batch of stored rows, clean, kept on the device."""
    teacher = pair.teacher().net.to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(pair.about[k], device=pair.device).view(1, 3, 1, 1) for k in ("mean", "std"))
    size, at = 2 * pair.settings.batch, 0
    kept: list[Tensor] = []

    @torch.inference_mode()
    def step() -> None:
        nonlocal at
        if at >= len(pair.split):
            at = 0
            kept.clear()
        x = (pair.split.inputs[at : at + size].float() / 255 - mean) / std
        with autocast(precision, pair.device):
            kept.append(teacher(x.contiguous(memory_format=torch.channels_last)).half())
        at += size

    return Loop(step, keeps_blocks=True)


def device(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Pictures a second that one device labels and trains with, of kdx and of bare loops."""
    one_heap()
    found: dict[str, Any] = {"device": name_of(args.device)}
    precision = "bf16" if "bf16" in args.precision else "fp32"
    for pair in args.pair or ("resnet56:resnet20",):
        rows = max(2 * args.batch, 100) if args.quick else 50_000 if args.device != "cpu" else 1024
        settings = settings_of(args, pair, args.device, rows)
        made = Pair(settings, folder / pair.replace(":", "-"))
        steps = planned(settings)
        contenders: dict[str, Contender] = {
            "bare, stored answers": limit(made, precision, live=False),
            "kdx, stored answers": made.kdx(precision, "stored", steps),
            "bare, live teacher": limit(made, precision, live=True),
            "kdx, live teacher": made.kdx(precision, "live", steps),
            "bare, labelling": labelling(made, precision),
        }
        rates = turns(contenders, settings, made.runtime.wait)
        rates["bare, labelling"] = [2 * rate for rate in rates["bare, labelling"]]  # batches twice as large
        rates["kdx, labelling"] = [len(made.split) / made.labels.manifest["seconds"]]
        print(
            f"\ndevice {found['device']}: {pair.replace(':', ' -> ')}, batch {settings.batch}, {precision}, "
            f"medians of {settings.repeats} turns of {settings.steps} steps, by the wall"
        )
        middle = {name: median(each) for name, each in rates.items()}
        for name in sorted(middle, key=lambda name: name.partition(", ")[2]):
            line = f"  {name:24} {middle[name]:10.0f} pictures/s"
            if name.startswith("kdx"):
                ratio = middle[name] / middle[name.replace("kdx", "bare")]
                line += f"  of bare {ratio:.2f}" + (
                    "  (the whole stage, with opening the network and writing)"
                    if "labelling" in name
                    else f"  goal {OF_BARE}"
                )
            print(line)
        found[pair] = {"rates": rates, "median": middle}
    return found


def processes(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Pictures a second of one training with stored answers by 1, 2, ... processes; on the CPU one thread
    each, on GPUs one each."""
    one_heap()
    here = name_of(args.device)
    cuda = args.device.startswith("cuda")
    most = torch.cuda.device_count() if cuda else 2
    counts = [1, *(2**k for k in range(1, most.bit_length()) if 2**k <= most)]
    (pair,) = args.pair or ("resnet32x4:resnet8x4",)
    rows = max(2 * args.batch, 100) if args.quick else 50_000 if cuda else 1024
    settings = settings_of(args, pair, args.device, rows)
    made = Pair(settings, folder / "pair")
    precision = "bf16" if "bf16" in args.precision else "fp32"
    steps, rates = planned(settings), {}
    ways = {f"{count} process(es)": (count, count) for count in counts}
    if not cuda:
        ways["1 process, 2 threads"] = (1, 2)
    for name, (count, threads) in ways.items():  # in turn, as several trainings at once would share the cores
        words = [f"device.gpus={count}", f"device.threads={threads}"]
        run = made.kdx(precision, "stored", steps, *words)
        rates[name] = turns({name: run}, settings, made.runtime.wait)[name]
    middle = {name: median(each) for name, each in rates.items()}
    print(
        f"\nprocesses on {here}: {pair.replace(':', ' -> ')}, stored answers, batch {settings.batch} of all, "
        f"{precision}, medians of {settings.repeats} turns of {settings.steps} steps, by the wall"
    )
    first = middle[next(iter(ways))]
    for name, rate in middle.items():
        print(f"  {name:24} {rate:10.0f} pictures/s  {rate / first:.2f} of one")
    return {"device": here, "rates": rates, "median": middle}
