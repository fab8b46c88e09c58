"""What the three early warnings said of each pool of the claim `proxies`, beside what came of it.

    kdx reproduce proxies --seeds 5 && python scripts/proxies.py [outputs/runs/reproduce]

For each pool: the test accuracy of the student that learned there, how many classes the teacher named on it,
how sure it was, and MMD² between pool and validation, means over the seeds; below, the rank correlation of
each number with the accuracies over all runs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

from scipy.stats import spearmanr

NUMBERS = {
    "classes named": lambda told: told["classes_used"]["pool"],
    "sure": lambda told: told["confidence"]["pool"],
    "MMD²": lambda told: told["mmd"],
}


def found(place: Path) -> dict[str, list[tuple[float, list[float]]]]:
    """pool -> (accuracy of its student, the three numbers) of each run of the claim below a folder."""
    rows = defaultdict(list)
    for file in sorted(place.rglob("run.json")):
        run = json.loads(file.read_text())
        keys = {stage["name"]: stage["key"] for stage in run.get("stages", ())}
        if "proxy" not in keys or not run.get("results"):
            continue
        words = (run["config"]["choices"]["pool"], run["config"]["pool"].get("kind"))
        name = " ".join(str(word) for word in words if word)
        told = json.loads((Path(run["store"]) / "proxy" / keys["proxy"] / "proxy.json").read_text())
        score = run["results"]["student"]["last"]["test"]["accuracy"]
        rows[name].append((score, [number(told) for number in NUMBERS.values()]))
    return rows


def main() -> int:
    rows = found(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/runs/reproduce"))
    if not rows:
        print("no run of the claim `proxies` lies there: kdx reproduce proxies")
        return 1
    print(f"| pool | n | accuracy | {' | '.join(NUMBERS)} |\n|---|---|---|{'---|' * len(NUMBERS)}")
    for name, runs in sorted(rows.items(), key=lambda item: -mean(score for score, _ in item[1])):
        means = " | ".join(f"{mean(told[i] for _, told in runs):.2f}" for i in range(len(NUMBERS)))
        print(f"| {name} | {len(runs)} | {100 * mean(score for score, _ in runs):.1f} | {means} |")
    every = [run for runs in rows.values() for run in runs]
    for i, name in enumerate(NUMBERS):
        rank = spearmanr([score for score, _ in every], [told[i] for _, told in every])
        print(f"Spearman's rank correlation with {name}: {rank.statistic:+.2f} (n = {len(every)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
