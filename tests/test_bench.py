"""scripts/bench.py at tiny sizes: each part runs, prints its ratios and writes its figures. What they are is
for a quiet machine to say.
"""

import json
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
NUMBER = r"\d+\.\d+"


def bench(root, folder, *words):
    """(what it printed, the figures it wrote)"""
    path = folder / "figures.json"
    command = [sys.executable, str(root / "scripts" / "bench.py"), "--quick", "--json", str(path), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text())


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """All parts but `start`, in one process: importing torch is what takes long."""
    parts = [
        word for part in ("train", "augment", "store", "estimate", "select") for word in ("--only", part)
    ]
    return bench(
        root,
        tmp_path_factory.mktemp("bench"),
        *parts,
        "--pair",
        "cnn_small:cnn_tiny",
        "--batch",
        "8",
        "--precision",
        "fp32",
        "--steps",
        "10",
    )


def test_train_compares_kdx_with_the_tutorial_and_the_limit(whole):
    reported, figures = whole
    (of_limit,) = re.findall(
        rf"kdx, stored answers, fp32 .*x tutorial +{NUMBER} \({NUMBER}\) +of limit +({NUMBER})", reported
    )
    found = figures["train"]["cnn_small:cnn_tiny"]
    assert found["ratios"]["kdx, stored answers, fp32"]["limit"] == pytest.approx(float(of_limit), abs=0.006)
    assert all(seconds > 0 for seconds in [*found["cpu"].values(), *found["wall"].values()])
    assert {n: len(s) for n, s in found["steps"].items()} == dict.fromkeys(found["cpu"], 10)
    # kdx itself was at work: it logged at its own rate, each tenth step here.
    assert (
        sum(s["logged"] for s in found["steps"]["kdx, stored answers, fp32"]) == 1
        and "a log line" in reported
    )


def test_the_loops_that_are_compared_do_the_same(whole):
    reported, figures = whole
    losses = figures["train"]["cnn_small:cnn_tiny"]["losses"]
    assert len(losses["kdx fp32"]) == 3 and losses["kdx fp32"] == pytest.approx(
        losses["limit fp32"], rel=1e-4
    )
    assert re.search(rf"parity fp32.*{losses['kdx fp32'][-1]:.4f} kdx", reported)


@pytest.fixture(scope="module")
def named(root, tmp_path_factory):
    """The parts that are only run by name."""
    parts = [word for part in ("device", "processes", "sweep") for word in ("--only", part)]
    sizes = ["--pair", "cnn_small:cnn_tiny", "--batch", "8", "--precision", "fp32"]
    return bench(root, tmp_path_factory.mktemp("named"), *parts, *sizes)


def test_a_device_is_named_and_held_against_bare_loops(named):
    reported, figures = named
    assert f"device {figures['device']['device']}: cnn_small -> cnn_tiny, batch 8" in reported
    found = figures["device"]["cnn_small:cnn_tiny"]["median"]
    ways = ("labelling", "stored answers", "live teacher")
    assert set(found) == {f"{who}, {way}" for who in ("bare", "kdx") for way in ways}
    assert all(rate > 0 for rate in found.values()) and reported.count("  of bare ") == 3


def test_processes_are_held_against_one(named):
    reported, figures = named
    assert list(figures["processes"]["median"]) == ["1 process(es)", "2 process(es)", "1 process, 2 threads"]
    assert re.search(
        rf"1 process\(es\) +\d+ pictures/s  1.00 of one\n  2 process\(es\).* {NUMBER} of one", reported
    )


def test_the_sweep_and_the_tutorial_are_both_run(named):
    reported, figures = named
    found = figures["sweep"]
    assert found["ratio"] == pytest.approx(found["tutorial"][0] / found["kdx"][0]) and found["steps"] == 2
    assert f"  ratio {found['ratio']:.2f} (" in reported and "goal 4.7" in reported


def test_augment_and_store_print_their_ratios(whole):
    reported, figures = whole
    assert len(re.findall(rf"^  ratio {NUMBER} \({NUMBER}\)", reported, re.MULTILINE)) == 3
    assert {k for k, v in figures["augment"].items() if v["ratio"] > 0} == {"8", "256"}
    assert figures["store"]["2000x1000"]["ratio"] > 0 and figures["about"]["torch"] in reported


def test_estimate_prints_its_seconds_and_the_grids_error(whole):
    reported, figures = whole
    assert len(re.findall(rf"^  (?:slam|weighted).* {NUMBER} s \( *{NUMBER}\)", reported, re.MULTILINE)) == 4
    assert (
        f"{figures['estimate']['grid_error']:.4f} on average" in reported
        and figures["estimate"]["grid_error"] < figures["estimate"]["grid_error_99"] < 1
    )


def test_select_times_each_rule(whole):
    reported, figures = whole
    assert [name.split(",")[0] for name in figures["select"]] == [
        "rad",
        "rad",
        "rad_loss",
        "k_center",
        "cluster_margin",
    ]
    for name, (cpu, wall) in figures["select"].items():
        assert (
            cpu > 0
            and wall > 0
            and re.search(rf"{name} +{NUMBER} s \( *{NUMBER}\)  (goal 2|about \d+ MB)", reported)
        )


def test_start_times_commands_and_the_first_step(root, tmp_path):
    reported, figures = bench(root, tmp_path, "--only", "start")
    for name in ("kdx --help", "kdx list", "kdx train, all in the store"):
        assert re.search(rf"{name} +{NUMBER} s \( *{NUMBER}\)", reported) and figures["start"][name][0] > 0
    assert 0 < figures["start"]["first_step_wall"] < figures["start"]["whole_run_wall"]
