"""What the page of a comparison draws and leaves out, and that it is no wider than a window."""

import html
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fabricate import document, folder, many, regression
from PIL import Image

from kdx.cli import main
from kdx.core.metric import Metric
from kdx.core.roles import ROLES
from kdx.report.compare.axes import upright_axis
from kdx.report.compare.plots import far
from kdx.report.run import figures
from kdx.report.run.canvas import UNCHECKED
from kdx.tasks.shown import ACCURACY

WINDOWS = (1280, 1920)


def page(place: Path) -> str:
    assert main(["compare", str(place), "--html", "page.html"]) == 0
    return Path("page.html").read_text()


def captions(text: str) -> dict[str, str]:
    """title -> caption of every plot"""
    found = re.findall(r"<section><h2>(.*?)</h2>.*?<figcaption>(.*?)</figcaption>", text, re.DOTALL)
    return {title: html.unescape(caption) for title, caption in found}


def test_students_of_one_size_have_no_plot_of_sizes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        for loss in ("kd", "slam"):
            folder(Path("one"), f"{loss}-{seed}", document((f"loss={loss}",), seed, 0.9 + seed / 100))
            folder(Path("two"), f"{loss}-{seed}", document((f"loss={loss}",), seed, 0.9 + seed / 100))
        folder(Path("two"), f"small-{seed}", document(("student=cnn_small",), seed, 0.93))
    assert "Accuracy against size and speed" not in captions(page(Path("one")))
    assert "95% interval" in captions(page(Path("two")))["Accuracy against size and speed"]


def test_one_seed_has_neither_mean_nor_band_nor_interval_in_a_caption(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "o", "a", document(("loss=kd",), 0, 0.9))
    folder(tmp_path / "o", "b", document(("student=cnn_small",), 0, 0.93))
    found = captions(page(tmp_path / "o"))
    assert {"Each row", "Accuracy against size and speed", "Learning curves"} <= set(found)
    for title in ("Each row", "Accuracy against size and speed", "Learning curves"):
        assert not re.search("mean|interval|band|bar|seeds", found[title]), found[title]


def test_the_teacher_is_one_line_or_stands_at_each_row_where_teachers_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for loss in ("kd", "slam"):
        made = document((f"loss={loss}",), 0, 0.9)
        folder(tmp_path / "own", loss, made)
        for stage in made["stages"]:
            if stage["name"] == "teacher-pretrain":
                stage["key"] = "1" * 64
        folder(tmp_path / "same", loss, made)
    assert "The dashed line is the teacher." in captions(page(tmp_path / "same"))["Each row"]
    assert "A star is the teacher of the row." in captions(page(tmp_path / "own"))["Each row"]


def test_an_axis_ends_where_the_metric_does():
    """No tick says 102%; what has no end keeps its own."""
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    for metric, expected in (
        (ACCURACY, (85, 100.4)),
        (Metric("rmse", "RMSE", more=False, low=0.0), (85, 105)),
        (Metric("rmse", "RMSE", more=False, low=0.9, scale=100), (89.6, 105)),
    ):
        axis.set_ylim(85, 105)
        upright_axis(axis, "test", metric)
        assert axis.get_ylim() == pytest.approx(expected)
    assert axis.get_ylabel() == "test (less is better)"


def test_curves_are_shown_where_they_differ(tmp_path, monkeypatch):
    """The fabricated ones climb from a tenth of their end: most of that is not drawn."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "o", "a", document(("loss=kd",), 0, 0.9))
    folder(tmp_path / "o", "b", document(("loss=slam",), 0, 0.92))
    text = page(tmp_path / "o")
    assert "The first steps lie outside." in captions(text)["Learning curves"]
    (figure,) = re.findall(r'<svg [^>]*aria-label="learning curves".*?</svg>', text, re.DOTALL)
    assert figure.count(">20</text>") == 1, "of the steps"


def test_intervals_and_plain_p_stand_below_what_they_belong_to_and_words_below_the_table(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    many(tmp_path / "o", 3, 3)
    text = page(tmp_path / "o")
    found = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text[: text.index("Protocol")]))
    assert list(found) == ["n, test %", "95% interval", "gain", "wins", "p", "p (Holm)", "gap closed"]
    assert found["p (Holm)"].startswith("the same, made larger as 3 rows are tested; n.s. (not significant)")
    assert re.search(r"test %</button><small>95% interval</small></th>", text)
    assert re.search(r"p \(Holm\)</button><small>p</small></th>", text)
    assert re.search(r'<td data-v="[\d.]+">[\d.]+ ± [\d.]+<small>[\d.]+ to [\d.]+</small></td>', text)


def test_a_teacher_far_away_does_not_press_the_students_together():
    assert far(10, 22, [80]) and far(80, 90, [20, 85]) and not far(88, 90.2, [95]) and not far(5, 95, [95])


MEASURE = """<!doctype html><body><iframe style="border:0;width:{width}px;height:1000px"
srcdoc="{page}"></iframe>
<script>addEventListener("load", () => {{
  const of = document.querySelector("iframe").contentDocument;
  of.querySelectorAll("details").forEach(one => one.open = true);
  const wide = [...of.querySelectorAll(".wide")].map(one => one.scrollWidth - one.clientWidth);
  const more = of.documentElement.scrollWidth - of.documentElement.clientWidth;
  const text = JSON.stringify([more, Math.max(0, ...wide)]);
  document.body.replaceChildren(Object.assign(document.createElement("pre"), {{textContent: text}}));
}});</script>"""
"""The page in a frame, whose width and whose tables' hidden parts a script outside of it writes down."""


def widths(text: str, width: int, place: Path) -> tuple[int, int]:
    """By how many pixels the page is wider than such a window, and its widest table than its place."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium (apt-get install chromium)")
    harness = place / "harness.html"
    harness.write_text(MEASURE.format(width=width, page=html.escape(text, quote=True)))
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width + 100},1200"]
    words += ["--virtual-time-budget=5000", f"--user-data-dir={place / 'profile'}", "--dump-dom"]
    done = subprocess.run([browser, *words, harness.as_uri()], capture_output=True, text=True, timeout=120)
    (found,) = re.findall(r"<pre>(.*?)</pre>", done.stdout)
    return tuple(json.loads(found))


@pytest.mark.slow
@pytest.mark.parametrize("width", WINDOWS)
@pytest.mark.parametrize("kind", ["clean", "mixed", "other task"])
def test_no_page_is_wider_than_its_window(tmp_path, monkeypatch, width, kind):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "o"
    if kind == "clean":
        many(place, 8, 3)
    elif kind == "mixed":
        many(place, 24, 2)
        words = ("student_train.steps=600", "teacher_pretrain.steps=300", "teacher_pretrain.augment=[]")
        folder(place, "long", document(("loss=kd", "dataset.labelled=200", *words), 0, 0.91))
    else:
        for loss in ("kd", "slam"):
            for seed in range(3):
                folder(place, f"{loss}-{seed}", regression((f"loss={loss}",), seed, 0.7))
    assert widths(page(place), width, tmp_path) == (0, 0)


def test_bars_without_truth_are_not_green():
    def colours(**more) -> set[str]:
        picture = Image.open(io.BytesIO(figures.bars({"edges": [0, 0.5, 1], "counts": [3, 5], **more}, "t")))
        return {f"#{bytes(colour).hex()}" for _, colour in picture.convert("RGB").getcolors(1 << 20)}

    green = ROLES["student"].colour
    assert green in colours(right=[2, 5]) and UNCHECKED not in colours(right=[2, 5])
    assert UNCHECKED in colours() and green not in colours()
