"""scripts/bench.py at tiny sizes: each part runs, prints its ratios and writes its figures. What they are is for a quiet machine to say."""

import json
import re
import subprocess
import sys

import pytest

NUMBER = r"\d+\.\d+"


def bench(root, tmp_path, *words):
    """(what it printed, the figures it wrote)"""
    path = tmp_path / "figures.json"
    command = [sys.executable, str(root / "scripts" / "bench.py"), "--quick", "--json", str(path), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text())


def test_train_compares_kdx_with_the_tutorial_and_the_limit(root, tmp_path):
    told, figures = bench(root, tmp_path, "--only", "train", "--pair", "cnn_small:cnn_tiny", "--batch", "8", "--precision", "fp32", "--steps", "9")
    (of_limit,) = re.findall(rf"kdx, stored answers, fp32 .*x tutorial +{NUMBER} \({NUMBER}\).*of limit +({NUMBER})", told)
    found = figures["train"]["cnn_small:cnn_tiny"]
    assert found["ratios"]["kdx, stored answers, fp32"]["limit"] == pytest.approx(float(of_limit), abs=0.006)
    assert all(seconds > 0 for seconds in [*found["cpu"].values(), *found["wall"].values()])
    assert {n: len(s) for n, s in found["steps"].items()} == dict.fromkeys(found["cpu"], 9)
    # kdx itself was at work: it logged at its own rate, each tenth step here.
    assert sum(s["logged"] for s in found["steps"]["kdx, stored answers, fp32"]) == 1 and "a log line" in told
    # Not timed: the two loops really do the same.
    limit, kdx = found["losses"]["limit fp32"], found["losses"]["kdx fp32"]
    assert len(kdx) == 3 and kdx == pytest.approx(limit, rel=1e-4) and "parity fp32" in told


def test_augment_and_store_print_their_ratios(root, tmp_path):
    told, figures = bench(root, tmp_path, "--only", "augment", "--only", "store", "--batch", "8")
    assert len(re.findall(rf"ratio {NUMBER} \({NUMBER}\)", told)) == 3
    assert {k for k, v in figures["augment"].items() if v["ratio"] > 0} == {"8", "256"}
    assert figures["store"]["2000x1000"]["ratio"] > 0 and figures["about"]["torch"] in told


@pytest.mark.slow
def test_start_times_commands_and_the_first_step(root, tmp_path):
    told, figures = bench(root, tmp_path, "--only", "start")
    for name in ("kdx --help", "kdx list", "kdx train, all in the store"):
        assert re.search(rf"{name} +{NUMBER} s \( *{NUMBER}\)", told) and figures["start"][name][0] > 0
    assert 0 < figures["start"]["first_step_wall"] < figures["start"]["whole_run_wall"]


def test_a_wrong_part_is_refused(root, tmp_path):
    done = subprocess.run([sys.executable, str(root / "scripts" / "bench.py"), "--only", "nothing"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "train, augment, store, start" in done.stderr
