"""Questions whose answers are pieces of a text: SQuAD's form, rows and positions, F1 and exact match by hand,
and a run.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import test_matrix
import torch
from encoders import tiny_encoder

from kdx.cli import main
from kdx.config.compose import check_words
from kdx.config.contract import check_task
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.answers import AnswerColumns
from kdx.core.errors import UserError
from kdx.core.positions import LOST, NOT_KNOWN, OUTSIDE
from kdx.data.datasets.squad import Squad
from kdx.models.encoder import EncoderSizes
from kdx.models.span_encoder import SpanEncoder, span_encoder
from kdx.models.spans import InsideContext, SpanCNN, span_cnn
from kdx.tasks.answer_score import answer_f1, answer_words, exact_match
from kdx.tasks.spans import Spans

CPU = ["device=cpu", "device.threads=1"]
KEYS = {
    "tokens": "words",
    "vocabulary": 1000,
    "min_frequency": 1,
    "lower": True,
    "length": 16,
    "question_length": 4,
    "answer_length": 5,
    "tokenizer": None,
}
ZURICH = "Ada lives in Zürich, near the U.S. embassy."


def loader(root, **keys) -> Squad:
    return Squad(root=str(root), **{**KEYS, **keys})


def question(text, *answers, **more):
    given = [{"text": words, "answer_start": at} for words, at in answers]
    return {"question": text, "answers": given, **more}


def squad(path: Path, *paragraphs) -> Path:
    found = [{"context": context, "qas": qas} for context, qas in paragraphs]
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": found}]}))
    return path


def fitted(root, **keys):
    raw = loader(root, **keys).load()
    return raw.fitted([raw.part("train")[0]])


def tensors(truth):
    return {name: torch.from_numpy(array) for name, array in truth.items()}


def said(length, *pairs):
    """Logits of who is sure of these positions."""
    logits = torch.zeros(len(pairs), 2, length)
    for row, pair in enumerate(pairs):
        for place, at in enumerate(pair):
            logits[row, place, at] = 10
    return logits


# how alike two answers are


def test_words_of_an_answer():
    assert answer_words("The U.S. Army,  an ally") == ["us", "army", "ally"]
    assert answer_words("A year-old theory") == ["yearold", "theory"]
    assert answer_words("the") == [] == answer_words("...")
    assert answer_words("Zürich – the city") == ["zürich", "–", "city"]


@pytest.mark.parametrize(
    ("text", "right", "f1", "exact"),
    [
        ("the black cat", ["Black cat!"], 1, True),
        ("black cat", ["cat black"], 1, False),
        ("a small black cat", ["black cat"], 2 * (2 / 3) * 1 / (2 / 3 + 1), False),
        ("cat cat dog", ["cat dog dog"], 2 / 3, False),
        ("dog", ["cat"], 0, False),
        ("dog", ["cat", "the big dog"], 2 / 3, False),
        ("dog", ["cat", "dog"], 1, True),
        ("", [], 1, True),
        ("dog", [], 0, False),
        ("", ["dog"], 0, False),
        ("the", ["dog"], 0, False),
        ("", ["the", "dog"], 0, False),
        ("", ["the"], 1, True),
    ],
)
def test_f1_and_exact_match_by_hand(text, right, f1, exact):
    assert answer_f1(text, right) == pytest.approx(f1)
    assert exact_match(text, right) is exact


# the task


TASK = Spans(length=4, longest=3)


def test_it_keeps_what_a_task_promises():
    check_task(TASK)
    check_task(Spans(length=5, longest=5, no_answer=True))
    with pytest.raises(UserError, match=r"longest=9: an answer has from 1 token to the 4"):
        Spans(length=4, longest=9)


def test_the_loss_is_that_of_the_start_and_of_the_end():
    truth = {"start": torch.tensor([1, LOST]), "end": torch.tensor([3, LOST])}
    flat = torch.zeros(2, 2, 4)
    assert TASK.loss(flat, truth).tolist() == pytest.approx([2 * math.log(4), 0])
    flat[0, 0, 1] = math.log(3)
    assert TASK.loss(flat, truth)[0].item() == pytest.approx(math.log(2) + math.log(4))


def test_a_distance_is_that_of_starts_and_of_ends():
    teacher, student = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    teacher[0, 0, 0] = 2 * math.log(3)  # at temperature 2: 3/4 and 1/4, against halves
    one = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    task = Spans(length=2, longest=1)
    assert task.match(student, teacher, 2.0).tolist() == pytest.approx([one])
    teacher[0, 1, 1] = 2 * math.log(3)
    assert task.match(student, teacher, 2.0).tolist() == pytest.approx([2 * one], abs=1e-6)
    assert task.match(teacher, teacher, 2.0).item() == 0
    outside = torch.full((1, 2, 3), OUTSIDE)
    outside[..., :2] = teacher
    wider = torch.cat([student, torch.full((1, 2, 1), OUTSIDE)], 2)
    assert task.match(wider, outside, 2.0).item() == pytest.approx(2 * one), "positions outside weigh nothing"


def test_the_best_span_ends_where_it_begins_or_later_and_is_not_too_long():
    logits = torch.zeros(4, 2, 4)
    logits[0, 0, 2] = logits[0, 1, 1] = 5.0  # an end before the start
    logits[0, 1, 3] = 4
    logits[1, 0, 0] = logits[1, 1, 3] = 5.0  # four positions, of three at most
    logits[2, 0, 1] = logits[2, 1, 2] = 5.0
    start, end, sure = TASK.best(logits)
    assert start.tolist() == [2, 0, 1, 0] and end.tolist() == [3, 0, 2, 0]
    p = math.exp(5) / (math.exp(5) + 3)
    assert sure[2].item() == pytest.approx(p * p) and sure[3].item() == pytest.approx(1 / 16)
    assert TASK.agreement(logits, logits.roll(1, 0)).tolist() == [False] * 4
    assert TASK.agreement(logits, 3 * logits).all()


def test_no_answer_is_a_place_of_its_own():
    task = Spans(length=4, longest=4, no_answer=True)
    logits = torch.zeros(2, 2, 4)
    logits[:, :, 0] = OUTSIDE
    logits[0, 0, 1] = logits[0, 1, 3] = 5.0  # no span begins at the separator
    logits[1, :, 1] = 3
    start, end, _ = task.best(logits)
    assert (start[0].item(), end[0].item()) != (1, 3)
    assert (start[1].item(), end[1].item()) == (1, 1)
    assert Spans(length=4, longest=4).best(logits)[1].tolist()[0] == 3


def test_several_teachers_are_the_mean_of_their_probabilities():
    one, other = torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)
    one[..., 2] = other[..., 2] = OUTSIDE
    one[0, 0, 0] = math.log(3)
    mean = TASK.mean([one, other])
    assert mean.softmax(2)[0, 0].tolist() == pytest.approx([0.625, 0.375, 0])
    assert (mean[..., 2] == OUTSIDE).all()


# from a file to rows


def test_positions_in_letters_become_positions_of_tokens(tmp_path):
    """Ü has two bytes, and answers may be parts of what is between spaces."""
    where = question("Where?", ("Zürich", 13), id="w")
    near = question("Near what, Ada, and why?", ("the U.S. embassy", 26), ("U.S.", 30), id="n")
    raw = fitted(squad(tmp_path / "a.json", (ZURICH, [where, near])))
    inputs, truth = raw.part("train")
    shown = raw.adapter([])[0]
    known = {number: word for word, number in json.loads(shown["tokenizer"])["model"]["vocab"].items()}
    rows = [[known[token] for token in row if token] for row in inputs["tokens"].tolist()]
    text = ["ada", "lives", "in", "zürich", ",", "near", "the", "u", ".", "s", ".", "embassy", "."]
    assert rows[0] == ["where", "?", "[SEP]", *text]
    assert rows[1] == ["near", "what", ",", "ada", "[SEP]", *text[:11]], "cut to 4 tokens, and at 16"
    assert inputs["context"].sum(1).tolist() == [13, 11] and not inputs["context"][0, :3].any()
    assert truth["start"].tolist() == [6, LOST] and truth["end"].tolist() == [6, LOST]
    assert raw.task == {"_target_": "kdx.tasks.spans.Spans", "length": 16, "longest": 5, "no_answer": False}
    notes, found = raw.look({}, lambda split, row: "")
    assert found["questions"] | {"vocabulary": 0} == {
        "vocabulary": 0,
        "vocabulary_of": "the labelled questions and those of the pool",
        "cut_texts": 1,
        "cut_questions": 1,
        "cut_answers": 1,
        "long_answers": 0,
        "unknown_token": 1,
    }
    assert any("the answers to 1 question lie behind the cut (n)" in text for text, _ in notes)
    task = Spans(length=16, longest=5)
    metrics = task.metrics(said(16, (6, 6), (5, 8)), tensors(truth))
    assert metrics == {"f1": 0.5, "exact_match": 0.5}, "what is cut counts as wrong"
    assert task.displayed_beside(said(16, (6, 7), (11, 15)), tensors(truth)) == ["Zürich,", "the U.S."]
    assert task.displayed(tensors(truth)) == ["Zürich", "the U.S. embassy"]


def test_values_are_those_of_the_plain_texts(tmp_path):
    """All spans of a text, by tokens and as they are written in it."""
    gold = ["the U.S. embassy", "an embassy"]
    asked = question("What?", (gold[0], 26), (gold[1], 0))
    for tokens in ("words", "bpe"):
        raw = fitted(squad(tmp_path / "a.json", (ZURICH, [asked])), tokens=tokens, vocabulary=300, length=60)
        inputs, truth = raw.part("train")
        places = np.flatnonzero(inputs["context"][0]).tolist()
        task, seen = Spans(length=60, longest=60), set()
        for start in places:
            for end in (end for end in places if end >= start):
                found = task.metrics(said(60, (start, end)), tensors(truth))
                left, right = truth["left"][0, start], truth["right"][0, end]
                text = ZURICH.encode()[left:right].decode(errors="ignore")
                assert found["f1"] == answer_f1(text, gold), text
                assert found["exact_match"] == exact_match(text, gold)
                seen.add(round(found["f1"], 3))
        assert {0.0, 1.0} < seen, "some are right, some are wrong, some are neither"
        best = said(60, (int(truth["start"][0]), int(truth["end"][0])))
        assert task.metrics(best, tensors(truth)) == {"f1": 1.0, "exact_match": 1.0}


def test_questions_without_an_answer(tmp_path):
    none = question("Who?", id="none", is_impossible=True)
    where = question("Where?", ("Zürich", 13), id="where")
    unknown = question("Why?", id="why")
    lost = question("What?", ("Zurich", 13), id="lost")
    path = squad(tmp_path / "a.json", (ZURICH, [none, where, unknown, lost]))
    raw = fitted(path)
    inputs, truth = raw.part("train")
    assert truth["start"].tolist() == [2, 6, LOST] and raw.task["no_answer"] is True
    assert inputs["context"][:, 2].tolist() == [True, True, True], "the separator says that there is none"
    assert raw.part("unlabelled")[1] is None and len(raw.part("unlabelled")[0]["tokens"]) == 1
    notes = " ".join(text for text, _ in raw.notes)
    assert "1 question of a.json without an answer is the pool" in notes
    assert "no answer to 1 question stands where answer_start says (lost)" in notes
    task = Spans(length=16, longest=5, no_answer=True)
    logits = said(16, (2, 2), (2, 2), (6, 6))
    logits = logits.masked_fill(~torch.from_numpy(inputs["context"])[:, None], OUTSIDE)
    assert task.metrics(logits, tensors(truth)) == {"f1": 1 / 3, "exact_match": 1 / 3}
    assert task.by_row(logits, tensors(truth)).tolist() == [1, 0, 0]
    assert task.displayed_beside(logits, tensors(truth)) == ["no answer", "no answer", "Zürich"]
    assert task.displayed(tensors(truth)) == ["no answer", "Zürich", "Zurich"]
    nothing = task.knowing_nothing(tensors(truth))
    assert nothing.words == "always that there is no answer" and nothing.by_row.tolist() == [1, 0, 0]
    first = Spans(length=16, longest=5).knowing_nothing(tensors({k: v[1:2] for k, v in truth.items()}))
    assert first.words == "always the first 5 tokens of the text"
    assert first.by_row.tolist() == pytest.approx([2 / 5])
    hidden = task.unknown(truth, 2)
    assert task.known(truth).all() and not task.known(hidden).any()
    assert hidden["start"].tolist() == [NOT_KNOWN] * 2 and task.displayed(tensors(hidden)) == ["-", "-"]
    columns = task.truth_columns(tensors(hidden))
    assert columns["truth"] == [None, None] and np.isnan(columns["truth:start"]).all()


def test_answers_as_columns():
    truth = TASK.made_up_truth(2)
    found = TASK.columns_beside(said(4, (0, 2), (1, 1)), truth)
    assert found["label"] == ["abc", "b"] and found["value:end"].tolist() == [2, 1]
    assert list(TASK.columns(said(4, (0, 2)), AnswerColumns())) == ["value:start", "value:end", "confidence"]
    with pytest.raises(UserError, match="top= and soft= are of classes"):
        TASK.columns(said(4, (0, 2)), AnswerColumns(top=2))
    with pytest.raises(UserError, match="are not read from a file"):
        TASK.given({"value:start": np.zeros(1)}, str)
    assert TASK.pack(said(4, (0, 2)))[""].dtype == torch.float16 and TASK.row_bytes() == 16


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ({"train-v1.1": 1, "dev-v1.1": 1}, {"train", "test"}),
        ({"train": 1, "dev": 1, "test": 1}, {"train", "validation", "test"}),
        ({"mine": 1}, {"train"}),
    ],
)
def test_parts_by_the_names_of_files(tmp_path, names, parts):
    for name in names:
        squad(tmp_path / f"{name}.json", (ZURICH, [question("Where?", ("Zürich", 13))]))
    raw = loader(tmp_path).load()
    assert set(raw.numbers) == parts
    assert raw.name("train", 0).startswith("data[0].paragraphs[0].qas[0] of ")
    described = loader(tmp_path).describe()
    assert (described.train, described.test) == (1, 1 if "test" in parts else None)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        (b'{"data": "\xff"}', "is not UTF-8: line 1 has the byte 0xff"),
        ("[]", "has no list `data` at the top: SQuAD's form is"),
        ('{"data": [3]}', "data[0] must be an object"),
        ('{"data": [{"paragraphs": 3}]}', "data[0].paragraphs must be a list"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "paragraphs[0].context must be a text; given: None"),
        ('{"data": [{"paragraphs": [{"context": "a", "qas": []}]}]}', "holds no question"),
        (
            '{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "b"}]}]}]}',
            "has no question with an answer: there is nothing to train with",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "b", "answers": '
            '[{"text": "a", "answer_start": "0"}]}]}]}]}',
            "data[0].paragraphs[0].qas[0].answers[0].answer_start must be a whole number; given: '0'",
        ),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_place(tmp_path, content, says):
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        loader(path).load()
    assert says in str(caught.value) and "a.json" in str(caught.value)


def test_folders_and_keys_that_do_not_do(tmp_path):
    with pytest.raises(UserError, match="there is none: set dataset"):
        loader(tmp_path / "nowhere").describe()
    with pytest.raises(UserError, match=r"holds no \.json file, and none is called train"):
        loader(tmp_path).describe()
    for name in ("train-a", "train-b"):
        squad(tmp_path / f"{name}.json", (ZURICH, [question("Where?", ("Zürich", 13))]))
    with pytest.raises(UserError, match=r"train-a\.json and train-b\.json, both to train with"):
        loader(tmp_path).describe()
    with pytest.raises(UserError, match="leaves no room for a text in rows of dataset.length=16"):
        loader(tmp_path, question_length=15)


def test_an_empty_text_and_an_empty_question_are_told(tmp_path):
    where = question("Where?", ("Zürich", 13))
    path = squad(
        tmp_path / "a.json",
        (ZURICH, [where, question(" ", ("Zürich", 13), id="blank")]),
        ("", [question("Who?", ("Ada", 0), id="none")]),
    )
    raw = fitted(path)
    notes = " ".join(text for text, _ in raw.notes)
    assert "1 row has an empty question (blank)" in notes and "1 row has an empty text (none)" in notes
    inputs, truth = raw.part("train")
    assert truth["start"].tolist()[2] == LOST and not inputs["context"][2].any()
    assert Spans(length=16, longest=5).metrics(said(16, (0, 0), (0, 0), (0, 0)), tensors(truth))["f1"] == 0


def test_a_tokenizer_without_a_separator_is_refused(tmp_path):
    path = squad(tmp_path / "a.json", (ZURICH, [question("Where?", ("Zürich", 13))]))
    file = tmp_path / "tokenizer.json"
    from kdx.data.text.tokens import Tokens

    made = Tokens("words", 1000, 1, True, 8)
    file.write_text(made.of([ZURICH]))
    with pytest.raises(UserError, match=r"a token between a question and its text, .* neither \[SEP\] nor"):
        fitted(path, tokenizer=str(file))
    file.write_text(made.of([ZURICH], special=("</s>",)))
    assert fitted(path, tokenizer=str(file)).part("train")[0]["tokens"][0, 2] == 2


# the network


def test_a_network_answers_in_the_text_alone_and_reads_no_padding():
    torch.manual_seed(0)
    made = SpanCNN(10, 8, 3, 3, 0.0, 2).eval()
    tokens = torch.tensor([[3, 4, 2, 5, 3, 6, 0, 0]])
    context = torch.tensor([[0, 0, 0, 1, 1, 1, 0, 0]], dtype=torch.bool)
    found = InsideContext(made)({"tokens": tokens, "context": context})
    assert found.shape == (1, 2, 8)
    assert (found[..., ~context[0]] == OUTSIDE).all() and (found[..., context[0]].abs() < 100).all()
    short = InsideContext(made)({"tokens": tokens[:, :6], "context": context[:, :6]})
    assert torch.allclose(found[..., :6], short, atol=1e-6)
    with pytest.raises(UserError, match="kernel must be odd"):
        span_cnn(
            shape={}, outputs=2, vocabulary=9, width=8, layers=1, kernel=4, dropout=0.0, stochastic_depth=0.0
        )


# a run


COLOURS = ("red", "green", "blue", "black", "white", "grey")
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana")


def made_up(path: Path, rows: int, seed: int) -> Path:
    """Whose colour it is stands behind the name, of two in each text."""
    random = np.random.default_rng(seed)
    paragraphs = []
    for _ in range(rows):
        names, colours = random.choice(NAMES, 2, False), random.choice(COLOURS, 2, False)
        text = f"{names[0]} likes {colours[0]}, and {names[1]} the {colours[1]} one."
        asked = [
            question(f"What does {who} like?", (colour, text.index(colour)))
            for who, colour in zip(names.tolist(), colours.tolist(), strict=True)
        ]
        paragraphs.append((text, asked))
    return squad(path, *paragraphs)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    root = tmp_path_factory.mktemp("squad")
    made_up(root / "train-v1.1.json", 60, 1)
    made_up(root / "dev-v1.1.json", 20, 2)
    return [f"dataset.root={root}", "dataset.length=24", "dataset.question_length=8"]


def test_a_run_on_questions_from_the_command_line(questions, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["teacher_pretrain.steps=60", "student_train.steps=20", "teacher.width=32", "teacher.layers=2"]
    words = ["train", "dataset=squad", *questions, "teacher=span_cnn", "student=span_cnn", *few, *CPU]
    words += ["student.width=8", "student.layers=1", "dataset.labelled=80", "dataset.validation=10"]
    assert main([*words, "hydra.run.dir=run"]) == 0
    shown = capsys.readouterr().out
    assert "test F1 %" in shown and "exact %" in shown and "accuracy" not in shown
    results = json.loads(Path("run/run.json").read_text())["results"]
    assert results["metric"]["name"] == "f1"
    test = results["teacher"]["last"]["test"]
    assert test["n"] == 40 and test["f1"] > results["floor"]["test"]["value"] > 0
    assert results["floor"]["test"]["words"].startswith("always ")
    report = Path("run/report.md").read_text()
    assert "| what does" in report and "30 of 30 rows kept; the F1 of their answers is" in report
    rows = Path("run/predictions.csv").read_text().splitlines()
    assert rows[0].startswith("file,split,truth,truth:start,truth:end,label,value:start,value:end")
    assert any(f",{colour}," in rows[1] for colour in COLOURS)
    assert main(["evaluate", "run", *CPU, "json=again.json"]) == 0
    again = json.loads(Path("again.json").read_text())["results"]["student"]
    assert again["f1"] == results["student"]["last"]["test"]["f1"]
    assert main(["predict", "run", "data=test", "to=said.csv", *CPU]) == 0
    assert len(Path("said.csv").read_text().splitlines()) == 41


def checked(questions, *words):
    try:
        order, wrong = examine_config(check_words(["dataset=squad", *questions, *words, "device=cpu"]))
    except UserError as error:
        return str(error)
    return " / ".join(wrong or inspect(order)) or "runs"


RUN = {f"loss={loss} select=all" for loss in ("kd", "supervised")}
RUN |= {"loss=mutual select=all"} | {f"loss=kd select={rule}" for rule in ("uniform", "k_center")}
QUICK = RUN - {"loss=mutual select=all"} | {
    "loss=slam select=all",
    "loss=soft select=all",
    "loss=kd select=entropy",
}


def marked():
    for asked in test_matrix.few():
        quick = " ".join(asked) in QUICK
        yield pytest.param(asked, id=" ".join(asked), marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("asked", marked())
def test_every_loss_and_rule_runs_on_spans_or_is_refused(questions, asked):
    """As on any task without classes and without numbers."""
    found = checked(questions, *asked, "dataset.labelled=20")
    if " ".join(asked) in RUN:
        assert found == "runs"
    else:
        assert "an answer here is a piece of a text" in found, found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["student=text_cnn"], "student=text_cnn reads texts, and this data set holds questions"),
        (["augment=word_dropout"], "word_dropout changes texts, and this data set holds questions"),
        (["dataset.answer_length=0"], "dataset.answer_length must be an integer from 1 to 16384"),
        (["dataset.class_weights=balanced"], "an answer here is a piece of a text"),
    ],
)
def test_what_does_not_go_with_spans_is_refused(questions, words, says):
    assert says in checked(questions, *words)


# encoders


def test_an_encoder_reads_question_and_text_as_one_row():
    torch.manual_seed(0)
    made = SpanEncoder(EncoderSizes(10, 8, 2, 2, 16, 20), 2, 0.0, 0.0).eval()
    tokens = torch.tensor([[3, 4, 2, 5, 3, 6, 0, 0]])
    found = made({"tokens": tokens})
    hidden = made.encoder(tokens)
    assert found.shape == (1, 2, 8)
    wanted = made.head[1](hidden[0, 4])  # the fourth token: one end stands in front of the first
    assert torch.allclose(found[0, :, 3], wanted, atol=1e-6)
    assert torch.allclose(made({"tokens": tokens[:, :6]}), found[..., :6], atol=1e-6)
    sizes = {"outputs": 2, "vocabulary": 9, "width": 8, "layers": 1, "inner": 8, "positions": 9}
    shape = {"tokens": (8,), "context": (8,)}
    with pytest.raises(UserError, match="span_encoder has 9 positions, and rows of 8 tokens"):
        span_encoder(shape=shape, heads=2, dropout=0.0, stochastic_depth=0.0, **sizes)
    with pytest.raises(UserError, match="width=8 is shared out among heads=3"):
        span_encoder(shape=shape, heads=3, dropout=0.0, stochastic_depth=0.0, **sizes)


def test_a_pretrained_encoder_teaches_a_smaller_one(questions, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tiny_encoder(tmp_path / "bert", "what does like ? likes , and the one . ada red")
    small = ["width=8", "heads=2", "inner=12", "layers=1", "positions=20"]
    words = ["train", "dataset=squad", *questions[:1], "dataset.length=18", "dataset.question_length=6"]
    words += ["teacher=span_encoder_tuned", f"teacher.path={folder}", "student=span_encoder", "init=layers"]
    words += [f"student.{word}" for word in small] + ["teacher_pretrain.steps=2", "student_train.steps=2"]
    assert main([*words, *CPU, "baseline=false", "hydra.run.dir=run"]) == 0
    captured = capsys.readouterr()
    assert "the student's blocks are the teacher's 1" in captured.err
    run = json.loads(Path("run/run.json").read_text())
    assert run["config"]["dataset"]["tokenizer"] == str(folder)
    assert 0 <= run["results"]["student"]["last"]["test"]["f1"] <= 1
    assert main(["evaluate", "run", *CPU]) == 0
