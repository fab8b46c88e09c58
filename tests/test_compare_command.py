"""`kdx compare` from the command line: what it reads and writes, its exit codes, the page, and a real small
sweep.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fabricate import document, folder

from kdx.cli import main
from kdx.commands import completion
from kdx.commands._comparison import show_comparison
from kdx.commands._found import collect, sweep_summary
from kdx.commands.compare import OPTIONS, plain_words
from kdx.config.compose import check_words
from kdx.config.wire import wire
from kdx.pipeline.recipes.data import prepare_data
from kdx.report.compare.curves import read_curves
from kdx.runs.run import protocol
from kdx.store.manifest import key_of
from kdx.store.store import Store
from kdx.store.work import Listener
from kdx.tasks.shown import ACCURACY

STEPS = ["device=cpu", "device.threads=1", "teacher_pretrain.steps=6", "student_train.steps=6"]
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Path:
    """outputs/sweeps/one with kd and slam on three seeds, in the working directory."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "outputs/sweeps/one"
    for number, (loss, seed) in enumerate((loss, seed) for loss in ("kd", "slam") for seed in range(3)):
        folder(
            place,
            f"{number}_loss-{loss}_seed-{seed}",
            document((f"loss={loss}",), seed, 0.90 + 0.01 * seed + 0.02 * (loss == "slam")),
        )
    return place


def reported(words, capsys, code: int = 2) -> str:
    """What a command line that must fail says."""
    assert main(["compare", *map(str, words)]) == code
    text = capsys.readouterr().err
    assert "Traceback" not in text and len(text.splitlines()) <= 4, text
    return text


def page_of(words=()) -> str:
    assert main(["compare", "outputs", *words, "--html", "page.html"]) in (0, 1)
    return Path("page.html").read_text()


class Tags(HTMLParser):
    """The elements of a page with their attributes, and the text that can be read."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = [tag]

    def handle_data(self, data):
        if self.inside != ["script"] and self.inside != ["style"]:
            self.words.append(data)


# What is read


def test_a_table_of_a_sweep(sweep, capsys):
    assert main(["compare", "outputs"]) == 0
    shown = capsys.readouterr().out
    assert (
        re.search(r"loss=slam +\| 3 +\| +93.0 ± 1.0 \| 90.5 to 95.5", shown)
        and "Holm: corrected for 2 comparisons" in shown
    )
    assert shown.index("loss=slam") < shown.index("loss=kd ")
    assert main(["compare", str(sweep / "0_loss-kd_seed-0"), str(sweep / "3_loss-slam_seed-0")]) == 0
    assert "more than one seed" in capsys.readouterr().out


def test_a_folder_named_twice_is_read_once(sweep, capsys):
    found = collect([Path("outputs"), sweep, sweep / "0_loss-kd_seed-0"])
    assert len(found.entries) == 6


def test_folders_are_looked_for_three_levels_down(sweep, tmp_path):
    folder(tmp_path / "outputs/a/b/c", "too-deep", document())
    assert len(collect([Path("outputs")]).entries) == 6 and len(collect([Path("outputs/a")]).entries) == 1


def test_unfinished_runs_are_counted_and_named(sweep, capsys):
    folder(sweep, "6_failed", {**document(), "status": "failed", "error": "x"})
    folder(sweep, "7_failed", {**document(), "status": "failed"})
    folder(sweep, "8_running", {**document(), "status": "running", "results": None})
    made = document()
    del made["results"]["student"]
    folder(sweep, "9_teacher", made)
    assert main(["compare", "outputs"]) == 0
    shown = capsys.readouterr().out
    assert "not compared: 2 runs failed: outputs/sweeps/one/6_failed, outputs/sweeps/one/7_failed" in shown
    assert (
        "1 run running, or died: outputs/sweeps/one/8_running" in shown
        and "1 run without a student that was measured" in shown
    )


def test_a_folder_that_cannot_be_read_is_reported_and_the_rest_compared(sweep, capsys):
    broken = folder(sweep, "6_broken", document())
    (broken / "run.json").write_text('{"status": "finished", "config"')
    odd = document(("loss=kd",), 7)
    odd["results"]["student"]["last"]["test"]["accuracy"] = "\x1b[31mhigh"
    folder(sweep, "7_odd", odd)
    assert main(["compare", "outputs"]) == 1
    shown = capsys.readouterr().out
    assert (
        "not read: " in shown
        and "6_broken" in shown
        and "7_odd" in shown
        and "loss=slam" in shown
        and "\x1b" not in shown
    )


def test_digests_of_older_runs_come_from_the_store(sweep):
    """Without digests in run.json the manifest of the prepared data tells them, and that of the student its
    code.
    """
    file = sweep / "0_loss-kd_seed-0" / "run.json"
    made = json.loads(file.read_text())
    made["protocol"]["digests"], made["store"] = None, str(Path("store").absolute())
    for number, (stage, named) in enumerate((("prepare", "prepare"), ("train", "student-train"))):
        whole = {"stage": stage, "version": 1, "inputs": {}, "code": f"code-{number}"}
        next(s for s in made["stages"] if s["name"] == named)["key"] = key_of(whole)
        manifest = Path("store") / stage / key_of(whole) / "manifest.json"
        manifest.parent.mkdir(parents=True)
        files = {
            "test.images.npy": {"sha256": "ab", "size": 1},
            "test.labels.npy": {"sha256": "cd", "size": 1},
        }
        manifest.write_text(json.dumps({**whole, "files": files, "created": 0, "seconds": 0}))
    file.write_text(json.dumps(made))
    (found,) = collect([file.parent]).entries
    assert list(found.digests) == ["test"] and len(found.digests["test"]) == 64 and found.code == "code-1"
    # the second belongs to another key
    for wrong in (
        "[]",
        manifest.read_text().replace("code-1", "code-2"),
    ):
        manifest.write_text(wrong)
        assert collect([file.parent]).entries[0].code is None


# Words


def test_flags_and_where_in_both_forms():
    assert plain_words(["a", "--csv", "x.csv", "where", "loss=kd", "seed=1", "sort=name"]) == [
        "a",
        "csv=x.csv",
        "where=loss=kd",
        "where=seed=1",
        "sort=name",
    ]
    assert plain_words(["--json=x", "--md", "--html", "y.html", "where", "a=b", "--csv"]) == [
        "json=x",
        "md=-",
        "html=y.html",
        "where=a=b",
        "csv=-",
    ]


def test_a_flag_before_a_folder_is_for_the_terminal(sweep, capsys):
    assert main(["compare", "--csv", "outputs", "where", "loss=kd"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("name,n,seeds,") and len(out.splitlines()) == 2


def test_files_are_written(sweep, capsys):
    assert main(["compare", "outputs", "csv=a.csv", "--json", "a.json", "--md=a.md"]) == 0
    assert "loss=kd" in capsys.readouterr().out
    assert Path("a.csv").read_text().startswith("name,") and "loss=slam" in Path("a.md").read_text()
    assert [row["name"] for row in json.loads(Path("a.json").read_text())["rows"]] == ["loss=slam", "loss=kd"]


def test_the_summary_of_a_sweep_never_fails(sweep, capsys):
    """What `kdx train -m` can end with, whatever was swept."""
    found, lines, apart = sweep_summary(sweep)
    show_comparison(found)
    assert "loss=slam" in capsys.readouterr().out and lines == [] and apart == []
    folder(sweep, "6_other", document(("loss=kd", "dataset.test=300"), 0))
    found, lines, apart = sweep_summary(sweep)
    assert found is None and "different test split" in lines[0] and len(apart) == 7
    assert sweep_summary(Path("nowhere"))[0] is None


def test_a_store_is_not_searched(sweep):
    folder(Path("outputs/store/prepare"), "run", document())
    Path("outputs/store/locks").mkdir()
    assert len(collect([Path("outputs")]).entries) == 6


def test_errors(sweep, capsys):
    for words, part in [
        ([], "needs run folders"),
        (["nowhere"], "does not exist"),
        (["outputs", "sort=tets"], "did you mean 'test'"),
        (["outputs", "sorted=test"], "did you mean 'sort'"),
        (["outputs", "where=loss=slm"], "did you mean 'slam'"),
        (["outputs", "where"], "key=value"),
        (["outputs", "metric=acuracy"], "did you mean 'accuracy'"),
        (["outputs", "reference=loss=soft"], "no row"),
        (["outputs", "--force"], "no flag"),
        (["outputs", "--html"], "needs a file"),
        (["outputs", "--csv", "-", "--md", "-"], "only one of"),
        (["outputs", "csv=no/where.csv"], "does not exist"),
        (["outputs", "csv=outputs"], "is a folder"),
        (["outputs", "where=loss=kd", "where=loss=slam"], "no run that is left has loss=slam"),
    ]:
        assert part in reported(words, capsys), words
    Path("empty").mkdir()
    assert "holds no run folder" in reported(["empty"], capsys)
    folder(Path("only"), "failed", {**document(), "status": "failed"})
    assert "nothing to compare" in reported(["only"], capsys)


def test_mixed_protocols_are_refused(sweep, capsys):
    folder(sweep, "6_other", document(("loss=kd", "dataset.test=300"), 0))
    text = reported(["outputs"], capsys)
    assert "different test split (seed 0)" in text and "6_other" in text and "where=dataset.test=" in text
    assert main(["compare", "outputs", "where=dataset.test=500"]) == 0


@pytest.mark.parametrize("columns", [200, 110, 70, 30])
def test_no_figure_is_lost_on_a_terminal(sweep, capsys, monkeypatch, columns):
    import rich.console

    monkeypatch.setattr(rich.console.Console, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["compare", "outputs"]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for figure in (
        "loss=slam",
        "93.0 ± 1.0",
        "90.5 to 95.5",
        "+5.0 ± 1.0",
        "+2.5 to +7.5",
        "3/3",
        "0.013",
        "0.026",
    ):
        assert figure in shown, figure
    table = [line for line in shown.splitlines()[1:] if "±" in line]
    assert max(map(len, table)) <= max(columns, 40)


def test_completion_knows_the_keys(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which has no runs
    assert completion.KEYED["compare"] == [option.name for option in OPTIONS]
    assert completion.complete(root / "conf", ["compare"], "kdx compare so", "=:") == ["sort="]
    assert completion.complete(root / "conf", ["compare"], "kdx compare ", "=:") == []  # folders


def test_the_table_needs_neither_torch_nor_hydra_nor_matplotlib(sweep, root):
    code = (
        "import sys; from kdx.cli import main; assert main(['compare', 'outputs']) == 0; sys.exit(any(name "
        "in sys.modules for name in ('torch', 'hydra', 'omegaconf', 'matplotlib', 'scipy.stats')))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(root)},
            check=False,
            stdout=subprocess.DEVNULL,
        ).returncode
        == 0
    )


# The page


def test_the_page_needs_no_network_and_holds_all_plots(sweep):
    for n in (50, 200):
        for seed in (0, 1):
            folder(
                sweep, f"{n}-{seed}", document(("loss=kd", f"dataset.labelled={n}"), seed, 0.85 + n / 10000)
            )
    folder(sweep, "small", document(("student=cnn_small", "dataset.labelled=50"), 0, 0.86))
    text = page_of()
    tags = Tags(text)
    assert {
        "every seed",
        "accuracy against parameters, FLOPs and latency",
        "accuracy against labelled examples",
        "learning curves",
        "reliability",
        "confusion matrices",
    } == {a["aria-label"] for t, a in tags.tags if t == "svg"}
    for tag, attributes in tags.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "audio", "video")
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (tag, value)
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, addresses
    assert not re.search(r"url\((?!#)", text) and "@import" not in text
    (policy,) = [
        a["content"] for t, a in tags.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert (
        policy.startswith("default-src 'none'")
        and f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        in policy
    )
    assert text.count("<figcaption>") == 6 and "1 to 3 seeds" in text and "prefers-color-scheme: dark" in text
    check_figures(text)


def check_figures(text: str) -> None:
    """Sound XML, and no id of one figure is referred to in another."""
    figures = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    ids = [
        element.get("id")
        for figure in figures
        for element in ElementTree.fromstring(figure).iter()
        if element.get("id")
    ]
    shared = {i for i in ids if ids.count(i) > 1}
    used = {found for figure in figures for found in re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', figure)}
    assert used and not used & shared and "#0102" not in "".join(figures)


def test_names_from_somebody_else_stay_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        for loss in ("kd", "slam"):
            made = document(
                (f"loss={loss}",),
                seed,
                0.9 + 0.01 * seed,
                changed={"results.classes": [f"{SCRIPT}{c}$_x" for c in range(10)]},
            )
            made["config"]["choices"]["loss"] = f'{loss}"{SCRIPT}'
            made["config"]["loss"][f"<img src=x onerror=alert({loss == 'kd'})>"] = loss
            made["environment"]["commit"] = f"{SCRIPT}{seed}\ud800"
            made["protocol"]["dataset"] = f"</title>{SCRIPT}"
            folder(tmp_path / "outputs", f"{loss}-{seed} <b>&", made)
    text = page_of()
    tags = Tags(text)
    assert [t for t, _ in tags.tags].count("script") == 1 and not {"img", "b"} & {t for t, _ in tags.tags}
    assert not any(name.startswith("on") for _, attributes in tags.tags for name in attributes)
    assert any(SCRIPT in words for words in tags.words) and any("<b>&" in words for words in tags.words)
    assert text.count("<svg ") >= 4


def test_plots_with_nothing_to_show_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = document()
    del made["results"]["teacher"]
    for which in ("reliability", "confusion"):
        del made["results"]["student"]["last"]["test"][which]
    (folder(tmp_path / "outputs", "one", made) / "metrics.jsonl").unlink()
    text = page_of()
    assert re.findall(r'aria-label="([^"]+)"', text) == ["every seed"] and "No plot of reliability" in text


def test_curves_pass_over_what_does_not_fit(tmp_path):
    lines = [
        '{"step": 2, "stage": "student-train", "validation/accuracy": 0.5}',
        '{"step": 1, "stage": "student-train", "validation/accuracy": 0.25}',
        '{"step": 3, "stage": "student-train", "validation/accuracy": NaN}',
        '{"step": 4, "stage": "student-train", "validation/accuracy": 7}',
        '{"step": "5", "stage": "student-train", "validation/accuracy": 0.5}',
        '["validation/accuracy"]',
        '{"validation/accuracy": 0.5',
        '{"step": 9, "stage": "baseline-train", "validation/accuracy": 1}',
        '{"step": 6, "stage": "x", "validation/accuracy": 0.5}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_curves(tmp_path, ACCURACY) == {"student": [(1, 0.25), (2, 0.5)], "baseline": [(9, 1.0)]}
    assert read_curves(tmp_path / "nowhere", ACCURACY) == {}


# A real sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """A folder with a sweep of two losses on two seeds, trained for some steps. Not to be changed."""
    place = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert (
            main(["train", "-m", "loss=kd,slam", "seed=0,1", "hydra.sweep.dir=outputs/sweeps/one", *STEPS])
            == 0
        )
    return place


def test_a_real_sweep(swept, monkeypatch, tmp_path):
    monkeypatch.chdir(swept)
    files = [str(tmp_path / name) for name in ("one.json", "one.html")]
    assert main(["compare", "outputs", "--json", files[0], "--html", files[1]]) == 0
    made = json.loads(Path(files[0]).read_text())
    assert sorted(row["name"] for row in made["rows"]) == ["loss=kd", "loss=slam"] and [
        row["n"] for row in made["rows"]
    ] == [2, 2]
    for row in made["rows"]:
        own = [json.loads((Path(r["run"]) / "run.json").read_text())["results"] for r in row["runs"]]
        mean = sum(r["student"]["last"]["test"]["accuracy"] for r in own) / 2
        assert row["test_mean"] == pytest.approx(100 * mean) and row["gain_mean"] == pytest.approx(
            100 * sum(r["gain"] for r in own) / 2
        )
    assert "learning curves" in Path(files[1]).read_text() and not made["warnings"]


def test_the_digests_of_a_run_are_those_of_its_data(swept):
    """And at another number of labels the rows of test and validation are the same, and the key is not."""
    run = json.loads(next((swept / "outputs").rglob("*kd*seed-1*/run.json")).read_text())["protocol"]
    order = wire(
        check_words(["seed=1", "dataset.labelled=50", f"store={swept}/outputs/store", "device.threads=1"])
    )
    store = Store(order.store, order.runtime, Listener())
    fewer = prepare_data(store, order.experiment)
    found = protocol(order, fewer)
    assert found["data_key"] != run["data_key"] and set(found["digests"]) == {
        "labelled",
        "unlabelled",
        "validation",
        "test",
    }
    assert {split for split, digest in found["digests"].items() if digest == run["digests"][split]} == {
        "validation",
        "test",
    }


@pytest.mark.slow
def test_a_real_sweep_and_further_runs(swept, tmp_path, monkeypatch, capsys):
    """One run again from the store, one with other labels and one with another test split."""
    shutil.copytree(swept / "outputs", tmp_path / "outputs", symlinks=True)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "loss=kd", "seed=1", "hydra.run.dir=outputs/runs/again", *STEPS]) == 0
    assert (
        main(
            ["train", "loss=kd", "seed=1", "dataset.labelled=50", "hydra.run.dir=outputs/runs/fewer", *STEPS]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["compare", "outputs", "--json", "all.json"]) == 0
    assert "3 runs are 2 students; not counted again: outputs/runs/again" in capsys.readouterr().out
    rows = {row["name"]: row["n"] for row in json.loads(Path("all.json").read_text())["rows"]}
    assert rows == {
        "loss=kd dataset.labelled=100": 2,
        "loss=slam dataset.labelled=100": 2,
        "loss=kd dataset.labelled=50": 1,
    }

    assert (
        main(["train", "loss=kd", "seed=1", "dataset.test=300", "hydra.run.dir=outputs/runs/other", *STEPS])
        == 0
    )
    capsys.readouterr()
    assert "test rows: 500 in " in reported(["outputs"], capsys)
    shutil.rmtree("outputs/store")  # all that is needed stands in run.json
    assert main(["compare", "outputs", "where=dataset.test=500"]) == 0
