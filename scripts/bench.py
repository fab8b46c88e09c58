#!/usr/bin/env python3
"""Measures kdx against what it is made to beat, interleaved in one process, and prints ratios of medians.

    scripts/bench.py                                   every part; minutes on a quiet machine
    scripts/bench.py --only train --pair resnet56:resnet20
    scripts/bench.py --device cuda                     a GPU against bare loops on it
    scripts/bench.py --only sweep                      twelve students in a sweep; an hour of one core
    scripts/bench.py --quick                           tiny sizes: shows that it runs, measures nothing

Parts: train (see scripts/bench_train.py), augment, store, estimate, select, start; and if named: device
(what --device measures), processes (both in scripts/bench_device.py) and sweep (scripts/bench_students.py).
docs/benchmarks.md tells what each figure means and what it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]  # the kdx of this clone, whatever is installed

PAIRS = ("resnet56:resnet20", "resnet32x4:resnet8x4")
AUGMENT_GOAL, STORE_GOAL, START_GOAL, ESTIMATE_GOAL, SELECT_GOAL = 12.0, 0.75, 0.15, 2.0, 2.0


def alternate(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """name -> (CPU seconds, wall seconds) of each call, the functions in turn; a first call of each is not
    counted.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for number in range(-1, repeats):
        for name, function in functions.items():
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            if number >= 0:
                found[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return found


def medians(times: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return median(t[0] for t in times), median(t[1] for t in times)


def train(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from bench_train import Settings, bench

    found = {}
    for pair in args.pair or PAIRS:
        teacher, _, student = pair.partition(":")
        rows, parity = (2 * args.batch, 3) if args.quick else (1024, 10)
        settings = Settings(
            teacher=teacher,
            student=student,
            batch=args.batch,
            rows=max(rows, 100),
            threads=args.threads,
            repeats=args.repeats,
            steps=args.steps,
            parity=parity,
            precisions=tuple(args.precision),
        )
        found[pair] = bench(settings, folder / pair.replace(":", "-"))
    return found


def augment(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Crop and mirror image of CIFAR-sized pictures, from uint8 in memory to a batch of floats in [0, 1]."""
    import torch
    from PIL import Image
    from torch.utils.data import default_collate
    from torchvision import transforms

    from kdx.core.types import Split
    from kdx.data.views.augment import FlipCrop
    from kdx.data.views.chain import Chain, Views

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        256, (2000 if args.quick else 50000, 3, 32, 32), dtype=torch.uint8, generator=generator
    )
    split, pictures = Split("labelled", images), images.permute(0, 2, 3, 1).contiguous().numpy()
    views = Views(Chain([("flip_crop", FlipCrop(pad=4, mode="zero", flip=0.5))]), seed=0)
    transform = transforms.Compose(
        [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    found = {}
    for batch in (args.batch, 256):
        per_turn = 1 if args.quick else 10

        def rows(batch: int = batch) -> torch.Tensor:
            return torch.randint(len(images), (batch,), generator=generator)

        def torchvision(turns: int = per_turn) -> None:
            for _ in range(turns):
                default_collate([transform(Image.fromarray(pictures[row])) for row in rows().tolist()])

        def kdx(turns: int = per_turn) -> None:
            for _ in range(turns):
                index = rows()
                views(split, index, torch.ones_like(index))

        times = alternate(
            {"torchvision, one PIL picture at a time": torchvision, "kdx, a batch at a time": kdx},
            3 * args.repeats,
        )
        rates = {name: [batch * per_turn / t for t in medians(ts)] for name, ts in times.items()}
        print(
            f"\naugment: crop and mirror image of 3x32x32 pictures in batches of {batch}, {args.threads} "
            "thread(s); CPU (wall)"
        )
        for name, (cpu, wall) in rates.items():
            print(f"  {name:38} {cpu:9.0f} images/s ({wall:9.0f})")
        (slow, slow_wall), (fast, fast_wall) = rates.values()
        print(f"  ratio {fast / slow:.1f} ({fast_wall / slow_wall:.1f})  goal {AUGMENT_GOAL:.0f}")
        found[str(batch)] = {
            "images_per_second": rates,
            "ratio": fast / slow,
            "ratio_wall": fast_wall / slow_wall,
        }
    return found


def store(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Stored answers of 256 random rows, as kdx reads them (mapped where they are large), against the same
    rows of a tensor in memory.
    """
    import numpy as np
    import torch

    from kdx.core.types import Batch
    from kdx.methods.teachers import Stored
    from kdx.pipeline.stages.answers import stored_answers
    from kdx.store.artifact import Artifact
    from kdx.tasks.classification import Classification

    found = {}
    generator = torch.Generator().manual_seed(0)
    for rows, classes in ((2000, 1000),) if args.quick else ((200_000, 1000), (200_000, 100)):
        path = folder / f"answers-{classes}"
        path.mkdir(parents=True)
        memory = torch.empty(rows, 1, classes, dtype=torch.float16).normal_(generator=generator)
        np.save(path / "labelled.npy", memory.numpy())
        (path / "answers.json").write_text(
            json.dumps(
                {
                    "splits": {"labelled": {"views": 1, "first": 1}},
                    "clean": False,
                    "views": "",
                    "bought": False,
                }
            )
        )
        task = Classification(classes=[str(number) for number in range(classes)])
        stored, memory = (
            stored_answers(Artifact("pseudo-label", "0" * 64, path), "cpu", "", task),
            memory[:, 0],
        )
        stored.answers["labelled"][""].sum()  # touches each page once, as a first pass does

        calls, per_call = (2, 2) if args.quick else (60, 20)
        pool = torch.randint(rows, (calls + 1, per_call, 256), generator=generator)
        batches = [
            [Batch("labelled", index, torch.ones_like(index), {}) for index in indices] for indices in pool
        ]
        # so that neither finds what the other has just read
        turns = {
            "memory": iter(batches),
            "kdx": iter(batches[::-1]),
        }

        def gather(memory: torch.Tensor = memory, turns: dict = turns) -> None:
            for batch in next(turns["memory"]):
                memory.index_select(0, batch.index).float()

        def kdx(stored: Stored = stored, turns: dict = turns) -> None:
            for batch in next(turns["kdx"]):
                stored(batch)

        times = alternate({"gather in memory": gather, "kdx, from its file": kdx}, calls)
        micros = {name: [1e6 * t / per_call for t in medians(ts)] for name, ts in times.items()}
        print(
            f"\nstore: float32 logits of 256 random rows of [{rows} x 1 x {classes}] float16, page cache "
            "warm; CPU (wall)"
        )
        for name, (cpu, wall) in micros.items():
            print(f"  {name:18} {cpu:7.1f} us ({wall:7.1f})")
        (base, base_wall), (ours, ours_wall) = micros.values()
        goal = (
            f"  goal {STORE_GOAL}" if classes == 1000 else "  (short rows: calls are what costs, not bytes)"
        )
        print(f"  ratio {base / ours:.2f} ({base_wall / ours_wall:.2f}){goal}")
        found[f"{rows}x{classes}"] = {
            "microseconds": micros,
            "ratio": base / ours,
            "ratio_wall": base_wall / ours_wall,
        }
    return found


def estimate(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Statistics of SLaM and of weighted distillation, made from validation and given to a whole pool: alpha
    and k, or weights.
    """
    import torch

    from kdx.core.math import margin
    from kdx.methods import estimators, neighbours

    rows, points, classes = (2000, 200, 10) if args.quick else (1_000_000, 10_000, 10)
    generator = torch.Generator().manual_seed(0)
    pool, answers = (3 * torch.randn(n, classes, generator=generator) for n in (rows, points))
    truth = torch.multinomial(answers.softmax(1), 1, generator=generator)[:, 0]
    students = [logits + torch.randn(logits.shape, generator=generator) for logits in (pool, answers)]
    losses = torch.nn.functional.cross_entropy
    k = max(1, round(points**0.5 / 2))

    def slam() -> None:
        probs, pooled = answers.softmax(1), pool.softmax(1)
        curve = estimators.isotonic(margin(probs), (probs.argmax(1) == truth).float())
        estimators.interpolate(margin(pooled), *curve).clamp_min(0.5)
        estimators.smallest_k(pooled, estimators.top_k_cuts(probs, truth, 0.9, "mass"), "mass")

    def statistics() -> tuple[torch.Tensor, ...]:
        guess = answers.argmax(1)
        true, noisy = (losses(students[1], y, reduction="none") for y in (truth, guess))
        return neighbours.margins(answers, students[1]), guess != truth, true, noisy

    def weighted() -> torch.Tensor:
        grid = neighbours.weight_grid(*statistics(), k=k, estimator="mean_of_ratios", cells=256)
        return neighbours.look_up(grid, neighbours.margins(pool, students[0]))

    def exact(search: Callable[..., torch.Tensor], some: int = rows) -> torch.Tensor:
        z, *rest = statistics()
        return neighbours.neighbour_weights(
            search(z, neighbours.margins(pool[:some], students[0][:some]), k), *rest, "mean_of_ratios"
        )

    times = alternate({"slam: alpha and k": slam, "weighted, on a grid of 256 x 256": weighted}, args.repeats)
    times["weighted, exact by a tree"] = alternate({"": lambda: exact(neighbours.nearest_of_many)}, 1)[""]
    times["weighted, exact, one batch of 128"] = alternate(
        {"": lambda: exact(neighbours.nearest_points, 128)}, args.repeats
    )[""]
    error = (weighted() - exact(neighbours.nearest_of_many)).abs()
    print(
        f"\nestimate: statistics from {points} validation rows for {rows} answers of {classes} classes, {k} "
        "neighbours; CPU seconds (wall)"
    )
    found: dict[str, Any] = {name: list(medians(ts)) for name, ts in times.items()}
    for name, (cpu, wall) in found.items():
        goal = "" if "exact" in name else f"  goal {ESTIMATE_GOAL}"
        print(f"  {name:36} {cpu:7.3f} s ({wall:7.3f}){goal}")
    mean, most = error.mean().item(), error.kthvalue(int(0.99 * rows)).values.item()
    print(
        f"  the grid's error against the exact weight: {mean:.4f} on average, below "
        f"{most:.4f} for 99 of 100 answers"
    )
    return {"seconds": found, "grid_error": mean, "grid_error_99": most}


def select(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Rules that buy answers, each for one round: RAD in a large pool, and those that compare rows with each
    other in a smaller one.
    """
    import warnings

    import numpy as np

    from kdx.core.errors import Caution
    from kdx.methods.select import Pool
    from kdx.methods.select.cluster_margin import ClusterMargin
    from kdx.methods.select.k_center import KCenter
    from kdx.methods.select.rad import RAD

    rng = np.random.default_rng(0)
    large, small, count = (10_000, 500, 50) if args.quick else (1_000_000, 10_000, 1000)
    rad, compared = (
        Pool(
            classes=10,
            taken=np.zeros(rows, dtype=bool),
            student=3 * rng.standard_normal((rows, 10), dtype=np.float32),
            wrong=0.2,
            features=rng.standard_normal((rows, 64), dtype=np.float32) if rows == small else None,
            labelled_features=rng.standard_normal((100, 64), dtype=np.float32) if rows == small else None,
        )
        for rows in (large, small)
    )
    work = {
        f"rad, {count:,} of {large:,}": (RAD(form="rad", mislabelled=None), rad, count),
        f"rad, {large // 2:,} of {large:,}": (RAD(form="rad", mislabelled=None), rad, large // 2),
        f"rad_loss, {count:,} of {large:,}": (RAD(form="rad_loss", mislabelled=None), rad, count),
        f"k_center, {count:,} of {small:,}": (KCenter(sample=None), compared, count),
        f"cluster_margin, {count:,} of {small:,}": (
            ClusterMargin(candidates=1.25, clusters=None, sample=None),
            compared,
            count,
        ),
    }
    print(f"\nselect: one round, 10 classes, 64 features, {args.threads} thread(s); CPU seconds (wall)")
    found: dict[str, Any] = {}
    for name, (rule, pool, bought) in work.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Caution)
            chosen = rule.choose(pool, bought, 0)
            repeats = min(args.repeats, 3) if pool is rad else 1
            found[name] = list(
                medians(alternate({name: lambda r=rule, p=pool, b=bought: r.choose(p, b, 0)}, repeats)[name])
            )
        goal = (
            f"  goal {SELECT_GOAL:g}" if pool is rad else "  " + "".join(chosen.warnings).rpartition(": ")[2]
        )
        print(f"  {name:34} {found[name][0]:6.2f} s ({found[name][1]:6.2f}){goal}")
    return found


def timed(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """CPU and wall seconds of a command that succeeds."""
    before = os.times()
    subprocess.run(
        words, cwd=folder, env=here(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system,
        after.elapsed - before.elapsed,
    )


def here() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a user waits for: commands that train nothing, the first step of a run, and a run that is in the
    store already.
    """
    folder.mkdir()
    kdx = [sys.executable, "-m", "kdx.cli"]
    # in the store, a run's length is all the same
    few = ["teacher_pretrain.steps=2", "student_train.steps=2"] if args.quick else []
    run = [*kdx, "train", "device=cpu", f"device.threads={args.threads}", *few]
    begun = time.perf_counter()
    with subprocess.Popen(
        run, cwd=folder, env=here(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        first = None
        while process.poll() is None:
            if first is None and any(
                path.stat().st_size for path in folder.glob("outputs/runs/*/metrics.jsonl")
            ):
                first = time.perf_counter() - begun
            time.sleep(0.005)
        whole = time.perf_counter() - begun
    if process.returncode or first is None:
        raise SystemExit(f"`{' '.join(run[2:])}` failed with {process.returncode}")
    commands = {
        "kdx --help": [*kdx, "--help"],
        "kdx list": [*kdx, "list"],
        "kdx train, all in the store": run,
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(1 if args.quick else 5):
        for name, words in commands.items():
            times[name].append(timed(words, folder))
    print("\nstart: CPU seconds (wall)")
    found: dict[str, Any] = {name: list(medians(ts)) for name, ts in times.items()}
    for name, (cpu, wall) in found.items():
        print(
            f"  {name:28} {cpu:6.2f} s ({wall:6.2f})"
            + (f"  goal {START_GOAL}" if name in ("kdx --help", "kdx list") else "")
        )
    print(f"  {'kdx train, to its first step':28}          ({first:6.2f})")
    print(
        f"  {'kdx train, to its end':28}          ({whole:6.2f})"
        + ("  with 2 steps a stage" if args.quick else "")
    )
    cached = found["kdx train, all in the store"]
    print(f"  ratio of a run in the store to importing torch: {cached[0] / found[list(commands)[-1]][0]:.2f}")
    return found | {"first_step_wall": first, "whole_run_wall": whole}


def device(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """See scripts/bench_device.py."""
    from bench_device import device as run

    return run(args, folder)


def processes(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """See scripts/bench_device.py."""
    from bench_device import processes as run

    return run(args, folder)


def sweep(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """See scripts/bench_students.py."""
    from bench_students import sweep as run

    return run(args, folder)


PARTS = {
    "train": train,
    "augment": augment,
    "store": store,
    "estimate": estimate,
    "select": select,
    "start": start,
}
NAMED_ONLY = {"device": device, "processes": processes, "sweep": sweep}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*PARTS, *NAMED_ONLY],
        metavar="PART",
        help=f"one of {', '.join([*PARTS, *NAMED_ONLY])}; may be given again",
    )
    parser.add_argument(
        "--pair",
        action="append",
        metavar="TEACHER:STUDENT",
        help=f"for train; default: {' and '.join(PAIRS)}",
    )
    parser.add_argument(
        "--precision",
        action="append",
        choices=("fp32", "bf16"),
        metavar="fp32|bf16",
        help="for train; default: fp32, and bf16 where the processor has instructions for it",
    )
    parser.add_argument("--device", default="cpu", help="of device and processes: cpu, cuda, cuda:N (cpu)")
    parser.add_argument("--sweep-steps", type=int, help="steps of each student of the sweep (100)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--repeats", type=int, help="turns of each loop (10; with --quick 1)")
    parser.add_argument("--steps", type=int, help="steps counted in a turn (5; with --quick 1)")
    parser.add_argument("--batch", type=int, help="pictures in a batch (64; on a GPU 512)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    args = parser.parse_args(argv)
    on_gpu = args.device != "cpu"
    args.repeats = args.repeats or (1 if args.quick else 10)
    args.steps = args.steps or (1 if args.quick else 100 if on_gpu else 5)
    args.batch = args.batch or (512 if on_gpu else 64)
    args.precision = args.precision or ["fp32", *(["bf16"] if on_gpu or has_bf16() else [])]
    args.only = args.only or (["device"] if on_gpu else list(PARTS))
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))

    import torch

    torch.set_num_threads(args.threads)
    about = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "bf16 instructions": has_bf16(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "command": sys.argv[1:] if argv is None else list(argv),
    }
    print(", ".join(f"{k} {v}" for k, v in about.items() if k != "command"))
    found: dict[str, Any] = {"about": about}
    with tempfile.TemporaryDirectory(prefix="kdx-bench-") as folder:
        for name in args.only:
            found[name] = {**PARTS, **NAMED_ONLY}[name](args, Path(folder) / name)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def processor() -> str:
    return cpuinfo("model name") or platform.processor() or platform.machine()


def has_bf16() -> bool:
    """Without such instructions a bf16 step takes ten times as long as one in fp32."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(
        (cpuinfo("flags") or cpuinfo("Features")).split()
    )


def cpuinfo(field: str) -> str:
    """What Linux says of the first processor, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next(
        (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), ""
    )


if __name__ == "__main__":
    sys.exit(main())
