"""Questions of long texts: several windows a row, the best span over all of them; answers to a new file."""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from test_spans import ZURICH, fitted, loader, made_up, question, said, squad, tensors

from kdx.cli import main
from kdx.config.contract import check_task
from kdx.core.errors import UserError
from kdx.core.positions import LOST, OUTSIDE
from kdx.data.text.span_rows import parts_of_text
from kdx.models.spans import InsideContext, SpanAdapter
from kdx.tasks.spans import Spans

CPU = ["device=cpu", "device.threads=1"]
# in small letters and 13 tokens: ada lives in zürich , near the u . s . embassy .


# from a text to windows


@pytest.mark.parametrize(
    ("tokens", "room", "windows", "stride", "parts"),
    [
        (10, 12, 4, 5, [(0, 10)]),
        (0, 12, 4, 5, [(0, 0)]),
        (13, 6, 4, 4, [(0, 6), (4, 10), (8, 13)]),
        (13, 6, 2, 4, [(0, 6), (4, 10)]),  # what lies behind the second is cut
        (13, 6, 4, 99, [(0, 6), (6, 12), (12, 13)]),  # nothing is passed over
        (7, 6, 4, 1, [(0, 6), (1, 7)]),
    ],
)
def test_which_part_of_a_text_each_window_shows(tokens, room, windows, stride, parts):
    found = parts_of_text(tokens, room, windows, stride)
    assert [(part.start, part.stop) for part in found] == parts


def test_a_row_of_windows(tmp_path):
    """Windows of 10: the question's 2 tokens, the separator, 7 of the text; the next begins 4 later."""
    asked = [
        question("Where?", ("Zürich", 13), id="in the middle of one"),
        question("What?", ("near", 21), id="in two"),
        question("Whose?", ("embassy", 35), id="in the last"),
        question("What?", ("lives in Zürich, near the U.S.", 4), id="in none whole"),
    ]
    path = squad(tmp_path / "a.json", (ZURICH, asked), ("Ada.", [question("Who?", ("Ada", 0), id="short")]))
    raw = fitted(path, length=10, windows=3, stride=4)
    inputs, truth = raw.part("train")
    assert inputs["tokens"].shape == inputs["context"].shape == (5, 3, 10)
    assert truth["left"].shape == (5, 30)
    known = {n: word for word, n in json.loads(raw.adapter([])[0]["tokenizer"])["model"]["vocab"].items()}
    words = [" ".join(known[token] for token in window if token) for window in inputs["tokens"][0].tolist()]
    assert words == [
        "where ? [SEP] ada lives in zürich , near the",
        "where ? [SEP] , near the u . s .",
        "where ? [SEP] . s . embassy .",
    ]
    assert inputs["context"].sum(2).tolist() == [[7, 7, 5]] * 4 + [[2, 0, 0]]
    assert not inputs["tokens"][4, 1:].any()
    # "near" has one token behind it in the first window, and one before it in the second: the first counts
    assert truth["start"].tolist() == truth["end"].tolist()
    assert truth["start"].tolist() == [6, 8, 26, LOST, 3]
    assert raw.task["windows"] == 3 and raw.task["length"] == 10
    task = Spans(length=10, longest=5, windows=3)
    copies = said(30, (6, 6), (14, 14), (26, 26), (15, 16), (3, 3))
    assert task.texts(copies, tensors(truth)) == ["Zürich", "near", "embassy", "the U", "Ada"]
    notes = " ".join(text for text, _ in raw.look({}, lambda split, row: "")[0])
    assert "cut at" not in notes
    assert "1 question lie behind the cut, or in no window whole (in none whole)" in notes
    few = fitted(path, length=10, windows=2, stride=4)
    assert few.part("train")[1]["start"].tolist() == [6, 8, LOST, LOST, 3]
    assert "4 have a text that is cut at dataset.windows=2" in few.look({}, lambda s, r: "")[0][1][0]
    assert loader(path, length=10, windows=3).describe().example == {
        "tokens": ((3, 10), "int32"),
        "context": ((3, 10), "bool"),
    }


def test_one_window_is_what_it_was(tmp_path):
    path = squad(tmp_path / "a.json", (ZURICH, [question("Where?", ("Zürich", 13), id="w")]))
    (one, truth), (other, again) = (fitted(path, **keys).part("train") for keys in ({}, {"windows": 1}))
    assert one["tokens"].shape == (1, 16) and all(np.array_equal(one[name], other[name]) for name in one)
    assert all(np.array_equal(truth[name], again[name]) for name in truth)


def test_there_is_no_answer_once_a_row(tmp_path):
    none = question("Who?", id="none", is_impossible=True)
    path = squad(tmp_path / "a.json", (ZURICH, [none, question("Where?", ("Zürich", 13), id="w")]))
    raw = fitted(path, length=10, windows=3, stride=4)
    inputs, truth = raw.part("train")
    assert inputs["context"][:, :, 2].tolist() == [[True, False, False]] * 2
    assert truth["start"].tolist() == [2, 6]
    task = Spans(length=10, longest=5, no_answer=True, windows=3)
    logits = said(30, (2, 2), (2, 2)).masked_fill(
        ~torch.from_numpy(inputs["context"]).flatten(1)[:, None], OUTSIDE
    )
    assert task.texts(logits, tensors(truth)) == ["", ""]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"windows": 0}, "windows"),
        ({"windows": 2, "stride": 0}, "stride"),
        ({"windows": 2, "stride": 17}, "stride"),
        ({"stride": 4}, "dataset.stride=4 is from one window to the next, and there is one"),
    ],
)
def test_windows_that_are_none_are_refused(tmp_path, keys, says):
    with pytest.raises(UserError, match=says):
        loader(tmp_path, **keys)


# the task


TASK = Spans(length=3, longest=3, windows=2)


def test_it_keeps_what_a_task_promises():
    check_task(TASK)
    check_task(Spans(length=4, longest=2, no_answer=True, windows=3))
    with pytest.raises(UserError, match="windows must be"):
        Spans(length=3, longest=3, windows=0)


def test_no_span_reaches_from_one_window_into_the_next():
    logits = torch.zeros(3, 2, 6)
    logits[0, 0, 2] = logits[0, 1, 3] = 5.0  # the end of one and the beginning of the next
    logits[1, 0, 3] = logits[1, 1, 5] = 4.0  # all of the second
    logits[1, 0, 0] = logits[1, 1, 1] = 3.9  # the sum of the logits counts, whichever window it is in
    logits[2, 0, 4] = logits[2, 1, 5] = 2.0
    start, end, sure = TASK.best(logits)
    assert start.tolist()[1:] == [3, 4] and end.tolist()[1:] == [5, 5]
    assert start[0] // 3 == end[0] // 3
    p = math.exp(2) / (math.exp(2) + 5)
    assert sure[2].item() == pytest.approx(p * p)


def test_what_stands_in_two_windows_is_right_in_both():
    """Probabilities 1/6 each: of a place that stands twice 2/6."""
    edges = torch.tensor([[0, 1, 2, 1, 2, 0]], dtype=torch.int16)
    truth = {"start": torch.tensor([1]), "end": torch.tensor([2]), "left": edges, "right": edges + 1}
    truth["right"][0, 5] = 0  # no part of the text
    flat = torch.zeros(1, 2, 6)
    assert TASK.loss(flat, truth).item() == pytest.approx(2 * math.log(3))
    sure = flat.clone()
    sure[0, 0, 3] = sure[0, 1, 4] = 50.0  # of the other window
    assert TASK.loss(sure, truth).item() == pytest.approx(0, abs=1e-6)
    once = truth | {"start": torch.tensor([0]), "end": torch.tensor([0])}
    assert TASK.loss(flat, once).item() == pytest.approx(2 * math.log(6))
    lost = truth | {"start": torch.tensor([LOST]), "end": torch.tensor([LOST])}
    assert TASK.loss(flat, lost).item() == 0
    none = truth | {"start": torch.tensor([5]), "end": torch.tensor([5])}  # a place that is no part of it
    assert TASK.loss(flat, none).item() == pytest.approx(2 * math.log(6))
    logits = torch.randn(1, 2, 6, requires_grad=True)
    TASK.loss(logits, truth).sum().backward()
    assert logits.grad.isfinite().all() and logits.grad.sum(2).abs().max() < 1e-6


# the network


class Counting(torch.nn.Module):
    """Of each position its token, and how many rows it was shown."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def forward(self, inputs):
        self.rows.append(len(inputs["tokens"]))
        return inputs["tokens"].float()[:, None].repeat(1, 2, 1)


def test_windows_are_rows_to_the_network_and_those_that_hold_nothing_are_not_read():
    inside = Counting()
    tokens = torch.arange(12).view(2, 2, 3)
    context = torch.tensor([[[0, 1, 1], [0, 0, 1]], [[0, 1, 0], [0, 0, 0]]], dtype=torch.bool)
    found = InsideContext(inside)({"tokens": tokens, "context": context})
    assert inside.rows == [3] and found.shape == (2, 2, 6)
    assert found[0, 0].tolist() == [OUTSIDE, 1, 2, OUTSIDE, OUTSIDE, 5]
    assert found[1, 1].tolist() == [OUTSIDE, 7, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE]
    assert SpanAdapter(vocabulary=9, tokenizer=None).shape({"tokens": (2, 3), "context": (2, 3)}) == {
        "tokens": (3,),
        "context": (3,),
    }


# a run, and a new file


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("windows"), Path.cwd()
    os.chdir(folder)
    Path("data").mkdir()
    made_up(Path("data/train-v1.1.json"), 30, 1)
    made_up(Path("data/dev-v1.1.json"), 10, 2)
    words = ["dataset=squad", "dataset.root=data", "dataset.length=14", "dataset.question_length=8"]
    words += ["dataset.windows=3", "dataset.stride=3", "teacher_pretrain.steps=4", "student_train.steps=4"]
    words += ["teacher.width=8", "student.width=8", "baseline=false", "store=store", *CPU]
    assert main(["train", *words, "hydra.run.dir=run"]) == 0
    yield folder
    os.chdir(before)


def new_file(path):
    likes = "Ada likes red, and Ben the blue one."
    asked = [question("What does Ada like?", id="a"), question("What does Ben like, and why so?", id="b")]
    return squad(path, (likes, asked), ("Eva.", [question("Who?", ("Eva", 0), id="c")]))


def test_new_questions_are_answered_in_words(place, capsys):
    new_file(place / "new.json")
    assert main(["predict", "run", "data=new.json", "to=said.json", "batch_size=2", *CPU]) == 0
    out = capsys.readouterr().out
    assert "3 questions answered by" in out
    found = json.loads(Path("said.json").read_text())
    assert list(found) == ["a", "b", "c"]
    likes = "Ada likes red, and Ben the blue one."
    assert found["a"] in likes and found["b"] in likes and found["c"] in "Eva." and all(found.values())
    assert main(["predict", "run", "data=new.json", "to=said.csv", *CPU]) == 0
    rows = list(csv.DictReader(Path("said.csv").open()))
    assert {row["id"]: row["label"] for row in rows} == found  # also where others stand beside in a batch
    assert list(rows[0]) == ["id", "label", "value:start", "value:end", "confidence"]
    assert main(["export", "run", "to=x", "format=torch_export"]) == 0
    assert main(["predict", "x", "data=new.json", "to=again.json", *CPU]) == 0
    assert json.loads(Path("again.json").read_text()) == found
    assert main(["predict", "run", "data=test", "to=test.json", *CPU]) == 0
    assert len(json.loads(Path("test.json").read_text())) == 20


def test_files_of_questions_that_do_not_do(place, capsys):
    squad(place / "twice.json", ("Eva.", [question("Who?", id="c"), question("Why?", id="c")]))
    Path("broken.json").write_text('{"data": 3}')
    for words, says in (
        (["data=twice.json", "to=t.json"], "two rows are called 'c'"),
        (["data=broken.json", "to=t.json"], "has no list `data` at the top"),
        (["data=data", "to=t.json"], "is a folder: name one file of questions in it"),
        (["data=nowhere.json", "to=t.json"], "does not exist"),
        (["data=twice.json", "to=t.txt"], "must end with"),
    ):
        assert main(["predict", "run", *words, *CPU]) == 2, words
        assert says in capsys.readouterr().err.replace("\n", " "), words
        assert not Path("t.json").exists()
