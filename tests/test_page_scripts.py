"""The scripts that the pages name are run, shortened: test_page_commands.py only looks at their words."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from page_commands import ROOT, printed_commands

RUN = {
    "scripts/methods.py": "--check",
    "scripts/tables.py": "",
    "scripts/rooms.py": "--arrows",
    "scripts/gallery.py": "--check",
    "scripts/docs": "pages",
    "scripts/bench.py": "--quick --only estimate",
    "scripts/bench_compare.py": "--rows 2 --seeds 2 --repeats 1",
    "scripts/bench_divergence.py": "--windows 1 --length 8 --vocabulary 50 --k 5 --width 8 --repeats 1",
    "scripts/bench_growth.py": "--only reported --runs 5 --repeats 1",
    "scripts/bench_language.py": "--repeats 1 --steps 1",
    "scripts/bench_peers.py": "--model cnn --peers 2 --steps 1 --batch 4",
    "scripts/measure_language.py": "sizes --seeds 1 --words teacher_pretrain.steps=2 student_train.steps=2 "
    "--at 2 --store store",
    "scripts/torture.py": "--kills 0 --damages 1 --folders 0 --lines 1 --seed 1",
    "scripts/text_domains.py": "texts",
}
"""Script -> words that make it short."""
NOT_RUN = {
    "scripts/examples.py": "40 minutes; what it makes is held to the presets by test_presets.py",
    "scripts/bench_default.py": "minutes; default runs of two commits, side by side",
    "scripts/bench_sweep.py": "sixty trainings, which cannot be made shorter and mean something",
    "scripts/bench_growth_data.py": "ten minutes; its measures are run by test_growth_data.py",
    "scripts/bench_students.py": "a part of bench.py, `--only sweep`",
    "scripts/links.py": "no command: test_docs_site.py",
    "scripts/hatch_build.py": "no command: test_wheel.py",
    "scripts/Dockerfile": "test_home_scripts.py",
    "scripts/golden.py": "some minutes; its comparison is run by test_golden.py",
    "scripts/proxies.py": "reads what `kdx reproduce proxies` has left",
    "tests/test_matrix.py": "what it prints is held by its own test",
    "scripts/test": "test_scripts.py",
    "scripts/kdx": "test_scripts.py",
    "scripts/slurm.sh": "test_home_scripts.py",
}


def test_every_script_that_a_page_names_is_run_or_has_its_reason():
    named = {
        found[0].removeprefix("./")
        for one in printed_commands()
        if (found := re.search(r"(?:\./)?\b(?:scripts|tests)/[\w.]+", " ".join(one.words[:2])))
    }
    assert named <= RUN.keys() | NOT_RUN.keys()
    assert RUN.keys() <= named and not RUN.keys() & NOT_RUN.keys()


@pytest.mark.slow
@pytest.mark.parametrize("script", RUN)
def test_a_script_runs(script, tmp_path):
    if script == "scripts/text_domains.py" and not os.path.exists("/usr/share/wordnet"):
        pytest.skip("no WordNet here")
    done = subprocess.run(
        [sys.executable, ROOT / script, *RUN[script].split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
