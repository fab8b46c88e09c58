"""report.html: the page of a run."""

import html
import io
import random
import re
from pathlib import Path

import pytest
from PIL import Image
from test_compare_page import WINDOWS, widths
from test_report import examples, folder, results, train
from test_spans import made_up

from kdx.cli import main
from kdx.report.run.canvas import pasted_together

HOSTILE = "<script>alert(1)</script><img src=x onerror=y>## a | b"


def finished(place: Path, found=None, **more) -> str:
    run = folder(place)
    train(run)
    run.finish(found or results(), more.pop("examples", examples()), **more)
    return (place / "report.html").read_text()


def unfolded(text: str) -> str:
    """The words that are seen before a click."""
    body = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    innermost = re.compile(r"<details(?: open)?>(?:(?!<details).)*?</details>", re.DOTALL)
    while (shorter := innermost.sub("", body)) != body:
        body = shorter
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_verdict_stands_first_then_the_table_then_three_figures(tmp_path):
    text = finished(tmp_path)
    seen = unfolded(text)
    places = [seen.index(words) for words in ("Gain of distillation: +6.0 points", "student alone", "ECE:")]
    assert places == sorted(places)
    assert seen.count("Gain of distillation") == 1, "nothing is said twice"
    assert text.count("<img ") == 4 and unfolded_images(text) == 3
    folds = re.findall(r"<summary>(.*?)</summary>", text)
    assert folds[0] == "The run" and "Protocol" in folds and folds[-1] == "More figures"


def test_words_are_explained_below_the_table(tmp_path):
    seen = unfolded(finished(tmp_path))
    for words in (
        "Student alone: the distilled student's network, trained as long without a teacher. Gain: by how",
        "Gap closed: the gain, as a part of what the teacher is ahead of it.",
        "ECE: expected calibration error, how far a model's confidence lies from how often it is right",
    ):
        assert seen.index("latency ms") < seen.index(words) < seen.index("Caution"), words


def test_many_warnings_leave_the_table_in_sight(tmp_path):
    warnings, run = [f"number {i} is odd" for i in range(4)], folder(tmp_path)
    for warning in warnings:
        run.warn(warning)
    run.finish(results(), None)
    seen = unfolded((tmp_path / "report.html").read_text())
    said = (*warnings[:2], "2 more warnings stand below the table.", "latency ms", *warnings[2:])
    places = [seen.index(words) for words in said]
    assert places == sorted(places)


def unfolded_images(text: str) -> int:
    return text[: text.index("<summary>The run")].count("<img ")


def test_it_needs_nothing_beside_it_and_runs_nothing(tmp_path):
    text = finished(tmp_path)
    assert "<script" not in text and "http" not in re.sub(r"<meta http-equiv", "", text)
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)([^"]*)"', text) == [], "not even links"
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_names_stay_names(tmp_path):
    found = results()
    found["classes"][3] = HOSTILE
    found["student"]["model"] = HOSTILE
    shown = examples()
    shown["names"] = [HOSTILE] * 5
    text = finished(tmp_path, found, examples=shown)
    assert "<script" not in text and "onerror=y&gt;" in text and not re.search(r"<img [^>]*onerror", text)
    assert HOSTILE in html.unescape(text)


def test_a_run_that_failed_says_so_at_once(tmp_path):
    run = folder(tmp_path)
    run.fail(ValueError("the disk <b>burns</b>"))
    seen = unfolded((tmp_path / "report.html").read_text())
    assert "Status: failed ." in seen and "the disk <b>burns</b>" in seen and "Gain" not in seen


def test_pictures_side_by_side_keep_every_part():
    colours = ("red", "green", "blue", "black")
    parts = []
    for number, colour in enumerate(colours):
        parts.append(io.BytesIO())
        Image.new("RGB", (10 + number, 20), colour).save(parts[-1], format="png")
    whole = Image.open(io.BytesIO(pasted_together([part.getvalue() for part in parts])))
    assert whole.size == (2 * 13, 40)
    middles = [(6, 10), (19, 10), (6, 30), (19, 30)]
    expected = [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in colours]
    assert [whole.getpixel(spot) for spot in middles] == expected
    assert Image.open(io.BytesIO(pasted_together([parts[0].getvalue()] * 3))).size == (30, 20)
    assert pasted_together([parts[0].getvalue()]) == parts[0].getvalue()


TAUGHT = "teacher_pretrain.steps=20"
FEW = ["dataset.unlabelled=40", "dataset.validation=40", "dataset.test=40"]
TOKENS = ["dataset=corpus", "dataset.root=corpus", "dataset.length=8", "teacher=gpt_tiny", "student=gpt_tiny"]
TOKENS += ["loss=token_kd", "teacher.width=16", "student.width=8", "teacher.depth=1", "student.depth=1"]
QUESTIONS = ["dataset=squad", "dataset.root=questions", "dataset.length=24", "dataset.question_length=8"]
QUESTIONS += ["teacher=span_cnn", "student=span_cnn", "dataset.labelled=80", "dataset.validation=10"]
TASKS = {
    "digits": [TAUGHT],
    "numbers": ["dataset=diabetes"],
    "boxes": ["dataset=shapes_detect", *FEW, TAUGHT],
    "sentences": ["dataset=text", "dataset.root=texts.csv", "augment=none"],
    "sounds": ["dataset=tones", TAUGHT],
    "pairs": ["dataset=digits_captions", TAUGHT],
    "sessions": ["loss=lwf", "recipe.sessions=2"],
    "stream": ["recipe=stream", "dataset=drift_items", "dataset.rows=500", "dataset.test=100"],
    "tokens": [*TOKENS, TAUGHT],
    "own words": [*TOKENS, "recipe=on_policy", "recipe.segments=2", TAUGHT],
    "answers in texts": [*QUESTIONS, TAUGHT],
    "actions": ["dataset=control", "dataset.rows=400", "dataset.labelled=100", "dataset.horizon=20", TAUGHT],
    "domains": ["loss=dann", "pool=shifted", "student=cnn_small", TAUGHT],
    "two heads": ["dataset=digits_ink", TAUGHT],
    "table": ["dataset=digits_table", "teacher=mlp", TAUGHT],
    "rounds": ["select=rad", "budget=20", "rounds=2", TAUGHT],
    "private": ["recipe=private", "dataset.labelled=700", "loss=supervised", "recipe.shards=5", TAUGHT],
    "other roles": ["ceiling=true", "noiseless=true", "validation_labels=true", "shift=[blur,noise]", TAUGHT],
}
"""Of each task, and of each recipe with tables of its own, the words of a short run."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of a run and of a sweep of every task."""
    place, found = tmp_path_factory.mktemp("pages"), {}
    cpu, steps = ["device=cpu", "device.threads=1"], ["student_train.steps=20"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        rows = "".join(f"{'good' if i % 2 else 'bad'} word{i % 7} here,{i % 2}\n" for i in range(200))
        Path("texts.csv").write_text(f"text,label\n{rows}")
        for name in ("corpus", "questions"):
            Path(name).mkdir()
        draw = random.Random(0)
        words = "the a cat dog sat ran on mat log and then it was red big".split()
        for name in "abc":
            Path(f"corpus/{name}.txt").write_text(" ".join(draw.choice(words) for _ in range(250)))
        made_up(Path("questions/train-v1.1.json"), 60, 1)
        made_up(Path("questions/dev-v1.1.json"), 20, 2)
        for task, words in TASKS.items():
            short = cpu if task == "stream" else cpu + steps  # its chunks say how long
            assert main(["train", "-m", "seed=0,1", *short, *words, f"hydra.sweep.dir=o/{task}"]) == 0, task
            run = next(Path(f"o/{task}").glob("*/report.html"))
            assert main(["compare", f"o/{task}", "--html", f"{task}.html"]) == 0
            found[task] = run.read_text(), Path(f"{task}.html").read_text()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("width", WINDOWS)
@pytest.mark.parametrize("task", TASKS)
def test_no_page_of_any_task_is_wider_than_its_window(pages, tmp_path, task, width):
    for number, text in enumerate(pages[task]):
        assert widths(text, width, tmp_path) == (0, 0), ("of the run", "of the comparison")[number]
