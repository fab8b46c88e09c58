"""`import kdx`: what the commands do, called from Python, in a process that is as before afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import kdx
from kdx import cli
from kdx.api import calls, html, process
from kdx.commands import train as train_command
from kdx.core.paths import conf_dir

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import notebook  # noqa: E402

SHORT = ["device=cpu", "device.threads=1", "teacher_pretrain.steps=2", "student_train.steps=2"]
TIMES = ("latency_ms", "seconds")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with one short run, which its tests stand in."""
    folder = tmp_path_factory.mktemp("python")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        kdx.train(*SHORT, "hydra.run.dir=outputs/runs/x")
        yield folder


@pytest.fixture
def run(place) -> kdx.Run:
    return kdx.open("outputs/runs/x")


def numbers(results: object) -> object:
    """Without what is measured in time."""
    if isinstance(results, dict):
        return {key: numbers(value) for key, value in results.items() if key not in TIMES}
    return [numbers(value) for value in results] if isinstance(results, list) else results


def state_of_process() -> dict[str, object]:
    root = logging.getLogger()
    return {
        "argv": list(sys.argv),
        "place": os.getcwd(),
        "environment": dict(os.environ),
        "streams": (sys.stdin, sys.stdout, sys.stderr, sys.stdout.errors),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        "threads": threading.enumerate(),
        "excepthook": threading.excepthook,
        "loggers": (list(root.handlers), root.level, logging.raiseExceptions, root.manager.disable),
        "handlers": [ref() for ref in logging._handlerList],
        "warnings": (list(warnings.filters), warnings.showwarning),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "torch threads": torch.get_num_threads(),
        "torch flags": (
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_grad_enabled(),
            torch.get_default_device(),
        ),
        "hydra": GlobalHydra.instance().hydra,
    }


def test_the_process_is_as_before_and_the_numbers_are_those_of_any_other(run, tmp_path, monkeypatch):
    """Of a process with settings of its own in everything that kdx touches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["notebook", "--flag"])
    file = logging.FileHandler(tmp_path / "own.log", mode="w")  # which, once closed, says nothing any more
    logging.getLogger().addHandler(file)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with (
            initialize_config_dir(str(conf_dir()), version_base="1.3"),
            warnings.catch_warnings(),
            torch.no_grad(),
            torch.random.fork_rng(),
        ):
            warnings.simplefilter("ignore", UserWarning)
            torch.manual_seed(7)
            torch.set_default_dtype(torch.float64)
            torch.set_num_threads(2)
            found = state_of_process()
            again = kdx.train(*SHORT)
            assert state_of_process() == found
        logging.getLogger().warning("still written")
        assert "still written" in (tmp_path / "own.log").read_text()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)
        signal.signal(signal.SIGTERM, before)
        logging.getLogger().removeHandler(file)
        file.close()
    assert numbers(again.results) == numbers(run.results)
    assert not any(stage["cached"] for stage in again.document["stages"])


@pytest.mark.slow
def test_a_process_of_its_own_comes_to_the_same(run, tmp_path):
    subprocess.run([sys.executable, "-m", "kdx", "train", *SHORT], cwd=tmp_path, check=True)
    (folder,) = (tmp_path / "outputs/runs").iterdir()
    assert numbers(kdx.open(folder).results) == numbers(run.results)


def test_importing_it_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'hydra', 'yaml', 'rich', 'kdx.api'} & set(sys.modules)"
    code = f"import sys, kdx; dir(kdx); assert not {heavy}; kdx.train; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(kdx.__all__) <= set(dir(kdx)) and all(getattr(kdx, name) for name in kdx.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        kdx.trian  # noqa: B018


def test_the_stub_has_every_name(root):
    text = (root / "kdx/__init__.pyi").read_text()
    assert all(f" {name} as {name}\n" in text or f"def {name}(" in text for name in kdx.__all__)


def test_a_run_has_what_its_folder_has(run, place):
    written = json.loads((place / "outputs/runs/x/run.json").read_text())
    assert run.folder == place / "outputs/runs/x" and run.status == "finished"
    assert run.results == written["results"] and run.report.startswith("# kdx run: cnn to cnn")
    assert "Gain of distillation" in str(run) and repr(run) == "kdx.open('outputs/runs/x')  # finished"
    assert run.evaluate("device.threads=1")["results"].keys() == {"teacher", "baseline", "student"}


def test_a_run_is_shown_with_its_table_and_pictures(run):
    shown = run._repr_html_()
    assert shown.count("data:image/png;base64,") == 2 and "distilled student</td>" in shown
    assert "Gain of distillation" in shown and "src=" not in shown.replace('src="data:', "")


def test_a_notebook_changes_nothing_of_where_text_goes(root, run, monkeypatch):
    """In a notebook rich shows what it prints as a picture of its own, and writes it nowhere."""
    before = str(run)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(run) == before
    lines = [line for path in (root / "kdx").rglob("*.py") for line in path.read_text().splitlines()]
    assert [line for line in lines if " Console(" in line and "force_jupyter=False" not in line] == []


def test_what_a_folder_says_is_escaped(run, tmp_path):
    text = (run.folder / "run.json").read_text().replace('"cnn_tiny"', '"<script>"')
    (tmp_path / "run.json").write_text(text)
    shown = kdx.open(tmp_path)._repr_html_()
    assert "&lt;script&gt;" in shown and "<script>" not in shown
    failed = {**json.loads(text), "status": "failed", "error": "<b>"}
    (tmp_path / "run.json").write_text(json.dumps({k: v for k, v in failed.items() if k != "results"}))
    assert "failed" in kdx.open(tmp_path)._repr_html_() and "&lt;b&gt;" in kdx.open(tmp_path)._repr_html_()
    assert "<i>" not in html.html_block("<i>", html.html_table(["<i>"], [["<i>"]]), html.html_list(["<i>"]))
    (tmp_path / "link.png").symlink_to(run.folder / "figures/predictions.png")
    (tmp_path / "other.png").write_text("<svg>")
    assert html.picture(tmp_path / "link.png", "") == html.picture(tmp_path / "other.png", "") == ""


def test_networks_and_predictions_agree(run, capfd):
    levels = np.random.default_rng(0).integers(0, 256, (5, 1, 16, 16), dtype=np.uint8)
    rows = torch.from_numpy(levels) / 255
    for network, words in ((run.student(), []), (run.teacher(), ["role=teacher"])):
        assert not network.training
        with torch.no_grad():
            likely = network(rows).softmax(1).max(1)
        answers = run.predict(rows, *words)
        assert answers["label"] == [str(label) for label in likely.indices.tolist()]
        assert answers["confidence"] == pytest.approx(likely.values.tolist(), rel=1e-5)
        assert run.predict(levels, *words)["label"] == answers["label"] and answers["row"] == [1, 2, 3, 4, 5]
    assert not capfd.readouterr().out


def test_rows_that_break_a_network_are_what_is_wrong(run, monkeypatch):
    def broken(*given, **more):
        raise IndexError("index out of range in self")

    monkeypatch.setattr("kdx.runs.predictions.predict", broken)
    with pytest.raises(kdx.UserError, match="cannot answer these rows: IndexError: index out of range"):
        run.predict(np.zeros((2, 1, 16, 16)))
    with pytest.raises(kdx.UserError, match="is not as kdx writes it"):
        run.predict("test")


def test_predictions_are_those_of_the_command(run, tmp_path, monkeypatch):
    assert cli.main(["predict", str(run.folder), "data=test", f"to={tmp_path}/a.jsonl", "top=2"]) == 0
    written = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    answers = run.predict("test", "top=2")
    numbers_of = ("confidence", "margin", "confidence:2")
    for name, values in answers.items():
        expected = [row[name] for row in written]
        assert values == (pytest.approx(expected) if name in numbers_of else expected)
    assert [*answers.rows[0]] == [*written[0]] and answers.document["rows"] == len(written) == 500
    assert set(answers) == set(written[0]) and len(answers) == 7
    shown = answers._repr_html_()
    assert "and 490 more rows" in shown and f"{answers['confidence'][0]:.4g}" in shown
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(kdx.UserError, match="pandas, which is not installed"):
        answers.to_pandas()


WRONG = [
    (lambda run: kdx.train("lr=1"), "did you mean student_train.lr=1"),
    (lambda run: kdx.train(lr=0.1), r"on the command line: kdx.train\('student_train.lr=0.1'\)$"),
    (lambda run: kdx.sweep("loss=kd", seed=[0, 1]), r"kdx.sweep\('seed=\[0, 1\]'\)$"),
    (lambda run: kdx.train("seed=0,1"), r"names several values; kdx.sweep\(...\) runs them all, or quote"),
    (lambda run: kdx.train("-m", "seed=0,1"), "kdx.sweep"),
    (lambda run: kdx.train("--cfg", "job"), "kdx.settings"),
    (lambda run: kdx.train("--json"), "unknown flag '--json'"),
    (lambda run: kdx.train({"loss": "slam"}), "a word is text, as on the command line"),
    (lambda run: kdx.command("trian"), "did you mean 'train'"),
    (lambda run: kdx.command("board"), "in a shell"),
    (lambda run: kdx.command("train", "-m", "seed=x,y"), "seed must be a whole number"),
    (lambda run: kdx.settings("loss=kb"), "loss has no option 'kb'"),
    (lambda run: kdx.open("nowhere"), "does not exist"),
    (lambda run: kdx.compare("nowhere"), "does not exist"),
    (lambda run: run.network("tutor"), "has no role 'tutor'"),
    (lambda run: run.network(which="worst"), "'last' or 'best'"),
    (lambda run: run.predict("nowhere"), "data='nowhere' does not exist"),
    (lambda run: run.predict("test", "to=x.csv"), "to write a file, kdx.command"),
    (lambda run: run.predict(np.zeros((1, 16, 16))), r"\(N, 1, 16, 16\).*for one row, x\[None\]"),
    (lambda run: run.predict(np.full((2, 1, 16, 16), 255.0)), "from 255 to 255; divide by 255"),
    (lambda run: run.predict(np.full((2, 1, 16, 16), np.nan)), "from nan to nan"),
    (lambda run: run.predict(np.zeros((2, 1, 16, 16), int)), "given: int64"),
    (lambda run: run.predict(np.zeros((0, 1, 16, 16))), "no row"),
    (lambda run: run.predict({"pixels": np.zeros((2, 1, 16, 16))}), "one array; given: 'pixels'"),
    (lambda run: run.predict(object()), "the array must be"),
    (lambda run: run.evaluate("split=pool"), "split has no option 'pool'"),
    (lambda run: run.export("format=gguf"), "format has no option 'gguf'"),
]


@pytest.mark.parametrize(("call", "says"), WRONG)
def test_what_is_wrong_is_raised_and_not_printed(run, capfd, call, says):
    with pytest.raises(kdx.UserError, match=says):
        call(run)
    assert capfd.readouterr() == ("", "")


def test_a_run_that_fails_is_raised_with_its_folder(place):
    with pytest.raises(kdx.RunFailed, match="nothing is to be gained") as caught:
        kdx.train(*SHORT, "teacher_pretrain.lr=1e-9", "pseudo_label.gate=error")
    failed = kdx.open(caught.value.folder)
    assert failed.status == "failed" and "failed" in str(failed)
    with pytest.raises(kdx.UserError, match="has no results: it is failed"):
        failed.results  # noqa: B018


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_what_is_stopped_goes_on(place, monkeypatch, number):
    words = [*SHORT, f"hydra.run.dir=outputs/runs/stopped{int(number)}"]
    came: list[int] = []
    perform = train_command.perform

    def stopped(*given, **more):
        signal.raise_signal(number)
        return perform(*given, **more)

    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(train_command, "perform", stopped)
            with pytest.raises(KeyboardInterrupt):
                kdx.train(*words)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == ([number] if number == signal.SIGTERM else [])  # the caller's own handler has its turn
    assert kdx.open(words[-1].partition("=")[2]).status == "interrupted"
    assert kdx.train(*words).status == "finished"


def test_threads_take_turns_and_a_run_cannot_call_it(place, monkeypatch):
    """The second waits until the first, which is in no main thread, is done."""
    done, perform, began, waited = [], train_command.perform, threading.Event(), threading.Event()

    def slow(*given, **more):
        with pytest.raises(kdx.UserError, match="at work in this thread already"):
            kdx.list()
        began.set()
        assert waited.wait(60)
        found = perform(*given, **more)
        done.append("run")
        return found

    def heard(text, **more):
        assert text == "kdx is at work in another thread of this process: waiting for it"
        waited.set()

    monkeypatch.setattr(train_command, "perform", slow)
    first = threading.Thread(target=lambda: done.append(kdx.train(*SHORT).status))
    first.start()
    assert began.wait(60)
    monkeypatch.setattr(process, "print", heard, raising=False)
    assert kdx.list("loss")["group"] == "loss" and done[:1] == ["run"]
    first.join()
    assert done == ["run", "finished"]


def trainings_shortened(patch) -> None:
    ask = calls.ask_command
    patch.setattr(
        calls, "ask_command", lambda name, words: ask(name, [*words, *SHORT] if name == "train" else words)
    )


@pytest.fixture(scope="module")
def page(root, place) -> dict[str, Any]:
    """The names of docs/python.md once its blocks have run as printed, and "printed", what they printed."""
    text = (root / "docs/python.md").read_text()
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        trainings_shortened(patch)
        for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S):
            exec(block, names)
    return {**names, "printed": printed.getvalue()}


def test_the_blocks_of_the_page_run_as_printed(page):
    assert "distilled student" in page["printed"] and "did you mean student_train.lr=0.1" in page["printed"]
    assert len(page["answers"]["label"]) == 8 and "p:0" in page["soft"]
    with torch.no_grad():
        assert torch.equal(page["network"](page["pictures"]), page["logits"])


def test_a_sweep_is_its_runs_and_these_are_compared(run, page, capsys):
    sweep = page["runs"]
    assert [each.status for each in sweep] == ["finished"] * 2 and sweep[0].folder.parent == sweep.folder
    found = sweep.comparison
    assert [row["loss"] for row in found.rows] == ["kd", "soft"] and len(found) == 2
    capsys.readouterr()
    assert cli.main(["compare", str(sweep.folder)]) == 0 and f"{found}\n" == capsys.readouterr().out
    assert "| n | test % |" in str(found) and found._repr_html_() == sweep._repr_html_()
    assert f'<td style="text-align: right">{found.rows[0]["test_mean"]:.1f}</td>' in found._repr_html_()
    assert page["table"].document["reference"] == "loss=kd"
    assert len(kdx.compare(run, sweep, "where=loss=soft")) == 1
    pandas = pytest.importorskip("pandas")
    assert isinstance(found.to_pandas(), pandas.DataFrame) and len(found.to_pandas()) == 2


@pytest.mark.slow
def test_a_sweep_of_which_a_run_fails_is_raised(place):
    words = [*SHORT, "pseudo_label.gate=error", "teacher_pretrain.lr=0.001,1e-9"]
    with pytest.raises(
        kdx.RunFailed, match="of 2 runs are not finished, the first .*nothing is to be gained"
    ):
        kdx.sweep(*words)


def test_settings_are_those_of_the_command(run, capsys):
    assert kdx.settings("loss=slam")["choices"]["loss"] == "slam"
    assert kdx.settings(run, "seed=3")["student_train"]["steps"] == 2
    assert "loss.temperature" in kdx.command("train", "--help")["text"]
    assert "student_train" in kdx.command("train", "--cfg", "job")["text"] and not capsys.readouterr().out
    assert kdx.plan(*SHORT)["stages"] and kdx.command("completion", "bash")["shell"] == "bash"


LOSS = """
from kdx.methods.losses.kd import KD

class Mine(KD):
    def forward(self, streams, progress):
        found = super().forward(streams, progress)
        return type(found)({name: term * FACTOR for name, term in found.terms.items()}, found.monitors)
"""


@pytest.mark.slow
def test_own_code_that_is_edited_is_the_edited_code(place, tmp_path, monkeypatch):
    """As in a process of its own, though this one has imported it already."""
    monkeypatch.syspath_prepend(str(tmp_path))
    words = [*SHORT, "baseline=false", "allow=[my_edited]", "loss._target_=my_edited.Mine"]
    file = tmp_path / "my_edited.py"
    terms = []
    for factor in ("1.0", "20.0"):
        file.write_text(LOSS.replace("FACTOR", factor))
        if not terms:
            mine = __import__("my_edited")
        run = kdx.train(*words)
        lines = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
        terms.append([line["train/loss"] for line in lines if "train/loss" in line][-1])
        assert sys.modules["my_edited"] is mine and not kdx_allows()
    del sys.modules["my_edited"]
    assert terms[1] / terms[0] == pytest.approx(20, rel=0.2)


def kdx_allows() -> list[str]:
    from kdx.store.resolve import own_packages

    return own_packages


def test_an_export_and_a_rerun_are_what_the_commands_make(run, tmp_path):
    made = run.export("format=state_dict", f"to={tmp_path}/export")
    rows = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(kdx.load(Path(made["folder"]))(rows), run.student()(rows))
    again = run.rerun(f"store={run.folder.parents[1] / 'store'}", f"to={tmp_path}/again")
    assert again["same"] and kdx.open(again["folder"]).status == "finished"


def test_the_page_has_every_function(root):
    text = (root / "docs/python.md").read_text()
    assert [name for name in kdx.__all__ if f"kdx.{name}" not in text and f"`{name}`" not in text] == []


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_has(root, place, monkeypatch):
    trainings_shortened(monkeypatch)
    text = (root / "docs/examples/notebook.ipynb").read_text()
    made, written = notebook.run_notebook(json.loads(text)), json.loads(text)
    for one, other in zip(made["cells"], written["cells"], strict=True):
        assert [output_kinds(output) for output in one.get("outputs", [])] == [
            output_kinds(output) for output in other.get("outputs", [])
        ], "run scripts/notebook.py"
    assert "".join(written["cells"][1]["outputs"][0]["data"]["text/html"]).count("data:image/png") == 2


def output_kinds(output: dict) -> tuple[str, list[str]]:
    return output["output_type"], sorted(output.get("data", ()))


@pytest.mark.slow
def test_the_notebook_runs_in_a_process_of_its_own(root, tmp_path):
    command = [sys.executable, root / "scripts/notebook.py", "--to", "made.ipynb", "--words", *SHORT]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert '"output_type": "execute_result"' in (tmp_path / "made.ipynb").read_text()
