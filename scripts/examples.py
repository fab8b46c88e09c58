"""The reports of docs/examples: the preset of each question run, and compared, and docs/gallery.md made anew
of them. What the store has is not run again.

    python scripts/examples.py                                     # all six, seeds 300 to 302, one thread:
                                                                   some 40 minutes of one core
    python scripts/examples.py which_loss assistant 'seed=range(400,405)'

Names of presets choose among them; words of kdx train are handed on to it. Runs and store lie in
outputs/examples. With sweeps=FOLDER the sweeps FOLDER/PRESET are taken as they are, finished or not, and
nothing is run.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TO = ROOT / "docs/examples"
QUESTIONS = {
    "which_temperature": [],
    "which_loss": ["loss=hard"],
    "how_small": [],
    "how_many_labels": [],
    "how_much_noise": ["experiment=how_much_noise/no_noise"],
    "assistant": ["experiment=assistant/direct", "experiment=assistant/direct_longer"],
}
"""The presets, and what their rows are compared with beside the student alone."""
WORDS = ["seed=range(300,303)", "device=cpu", "device.threads=1"]


def train(question: str, sweep: Path, store: Path, words: list[str]) -> None:
    """Runs what is missing."""
    from kdx.cli import main

    if main(["train", "-m", f"experiment={question}", *words, f"hydra.sweep.dir={sweep}", f"store={store}"]):
        sys.exit(f"{question}: not all runs are finished; the same command again goes on")


def report(question: str, sweep: Path) -> None:
    """Writes the question's table and page: both are kdx compare's own, with a line above the table that says
    what they were made by.
    """
    from kdx.cli import main

    command = [
        w
        for w in json.loads((sweep / "sweep.json").read_text())["command"]
        if w.partition("=")[0] not in ("store", "hydra.sweep.dir")
    ]
    command = [
        f"experiment={question}" if w.startswith("experiment=") else w.replace("--multirun", "-m")
        for w in command
    ]
    runs = [json.loads(file.read_text()) for file in sorted(sweep.glob("*/run.json"))]
    commits = sorted({str(run["environment"].get("commit"))[:12] for run in runs})
    tables = [
        (
            f"Made by `{shlex.join(command)}` and `scripts/examples.py {question}`; code of the runs: "
            f"{', '.join(commits)}."
        )
    ]
    for reference in (None, *QUESTIONS[question]):
        more = [f"reference={reference}"] if reference else [f"html={TO / question}.html"]
        part = TO / f"{question}.part"
        if main(["compare", str(sweep), "sort=name", f"md={part}", *more]):
            sys.exit(f"{question}: kdx compare failed")
        tables.append(part.read_text(encoding="utf-8").strip())
        part.unlink()
    (TO / f"{question}.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def run(argv: list[str]) -> None:
    chosen = [word for word in argv if word in QUESTIONS]
    made = [word.partition("=")[2] for word in argv if word.startswith("sweeps=")]
    words = [word for word in argv if word not in QUESTIONS and not word.startswith("sweeps=")]
    given = {word.partition("=")[0] for word in words}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    TO.mkdir(exist_ok=True)
    place = Path(made[-1] if made else "outputs/examples")
    for question in chosen or QUESTIONS:
        if not made:
            train(
                question,
                place / question,
                place / "store",
                [*words, *(w for w in WORDS if w.partition("=")[0] not in given)],
            )
        report(question, place / question)
    subprocess.run([sys.executable, ROOT / "scripts/gallery.py"], check=True)


if __name__ == "__main__":
    run(sys.argv[1:])
