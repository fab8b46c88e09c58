"""Answers from elsewhere as the teacher: files that `kdx predict` wrote give what the run itself had,
corrected ones what was corrected; all else is refused before work, in a sentence."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.data.given import AnswersFile, whose_order
from kdx.pipeline import stages
from kdx.pipeline.foretelling import PlannedStage, foretelling_of, networks_asked
from kdx.pipeline.stages.gate import hold_against
from kdx.pipeline.stages.given import _without_folder, number_of
from kdx.runs.reading import read_run
from kdx.store.artifact import Artifact
from kdx.store.source import Source
from kdx.store.stage import Stage
from kdx.tasks.classification import Classification
from kdx.tasks.regression import Regression

CPU = ["device=cpu", "device.threads=1"]
QUICK = [*CPU, "student_train.steps=8", "baseline=false"]
NOTES = ("info", "decode", "prepare", "given-answers", "gate", "note")
GIVEN = ["train", *QUICK, "teacher=answers"]


def run(*words: str) -> None:
    assert main(["train", *words]) == 0


def predict(where: str, split: str, *words: str) -> list[dict[str, str]]:
    """The rows of <split>.csv."""
    to = f"{split}.csv"
    assert main(["predict", where, f"data={split}", f"to={to}", "role=teacher", *words, *CPU]) == 0
    return list(csv.DictReader(Path(to).open(newline="")))


def write(name: str, rows: list[dict[str, str]]) -> None:
    with Path(name).open("w", newline="") as file:
        made = csv.DictWriter(file, list(rows[0]))
        made.writeheader()
        made.writerows(rows)


def stage(where: str, name: str):
    return read_run(where).stage(name)


def results(where: str) -> dict:
    return json.loads(Path(where, "run.json").read_text())["results"]


def notes(where: str) -> list[str]:
    return [note["text"] for note in stage(where, "given-answers").lines("notes.jsonl")]


def said(words: list[str], capsys, code: int = 2) -> str:
    """What a command that is refused says, in one to three lines; with code 1 once the data are prepared."""
    capsys.readouterr()
    assert main(words) == code
    lines = capsys.readouterr().err.splitlines()
    notes = [line for line in lines if ": " in line and line.split(": ")[0] in NOTES or "started" in line]
    lines = [line for line in lines if line not in notes and not line.startswith("the run stopped;")]
    assert 1 <= len(lines) <= 3
    return "\n".join(lines)


# Digits, by number


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """A run with clean answers, and all that its teacher says: pool.csv and all.csv."""
    place = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run(*QUICK, "teacher_pretrain.steps=30", "pseudo_label.view=clean", "hydra.run.dir=own")
        splits = [
            predict("own", split, "soft=logits") for split in ("pool", "labelled", "validation", "test")
        ]
        write("all.csv", [row for rows in splits for row in reversed(rows)])
    return place


@pytest.fixture
def at_digits(digits, tmp_path, monkeypatch) -> Path:
    shutil.copytree(digits, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_the_teachers_own_answers_teach_the_same_student(at_digits, capsys):
    """By number in any order, and as an array of the whole data set: weights and figures are those of the run
    itself, to the last bit."""
    own = results("own")
    table = list(csv.DictReader(Path("all.csv").open(newline="")))
    array = np.full((len(table), 10), np.nan, np.float32)
    for row in table:
        array[int(row["row"]) - 1] = [row[f"logit:{digit}"] for digit in range(10)]
    np.save("all.npy", array)
    for file in ("all.csv", "all.npy"):
        run(*QUICK, "teacher=answers", f"teacher.file={file}", "hydra.run.dir=given", "baseline=false")
        found = results("given")
        assert found["student"]["weights"] == own["student"]["weights"]
        for split, rows in (("train", 100), ("validation", 200), ("test", 500)):
            one = 1.01 / rows  # a row that two classes share to the last digit may go to either
            for name, near in (("accuracy", one), ("nll", 1e-3), ("ece", one)):
                assert found["teacher"]["last"][split][name] == pytest.approx(
                    own["teacher"]["last"][split][name], abs=near
                )
        assert found["student"]["last"]["test"] == own["student"]["last"]["test"]
        assert "parameters" not in found["teacher"] and found["teacher"]["model"] == "answers"
        gates = [json.loads(Path(where, "run.json").read_text())["gate"] for where in ("own", "given")]
        assert gates[0]["difference"] == gates[1]["difference"] > 0
        shutil.rmtree("given")
    assert main(["plan", *QUICK, "teacher=answers", "teacher.file=all.npy"]) == 0
    told = capsys.readouterr().out
    assert "Everything is in the store" in told and "answers, of the file 'all.npy', as they are" in told
    assert main(["plan", *QUICK, "teacher=answers", "teacher.file=all.npy", "seed=1"]) == 0
    told = capsys.readouterr().out
    assert "answers: those of the file, one to each clean row" in told
    assert "with the answers of the file" in " ".join(told.split())


def test_where_there_is_no_answer_there_is_no_number(at_digits, capsys):
    """Some rows of the pool: the student learns from these, and what nobody knows is '-' wherever it is
    told."""
    some = list(csv.DictReader(Path("pool.csv").open(newline="")))[:300]
    write("some.csv", some)
    run(*CPU, "student_train.steps=8", "teacher=answers", "teacher.file=some.csv", "hydra.run.dir=given")
    told = capsys.readouterr().out
    assert (
        "| teacher           |          - |       - |      - |          - |            - |      - |" in told
    )
    assert "as the teacher's answers are not to every test row" in told and "see the log" not in told
    assert "The file of answers has 300 of 997 rows of the pool" in told
    assert results("given")["teacher"]["given"] == {
        "labelled": 0,
        "unlabelled": 300,
        "validation": 0,
        "test": 0,
    }
    answers, data = stage("given", "given-answers"), stage("given", "prepare")
    numbers = np.load(data.file("unlabelled.rows.npy"))
    asked = np.array([int(row["row"]) - 1 for row in some])
    rows = np.load(answers.file("rows.npy"))
    assert set(numbers[rows]) == set(asked) and len(rows) == 300
    places = np.load(answers.file("places.npy"))
    assert (np.flatnonzero(places >= 0) == rows).all()
    stored = np.load(answers.file("unlabelled.npy"))
    by_number = {int(row["row"]) - 1: [float(row[f"logit:{k}"]) for k in range(10)] for row in some}
    wanted = np.array([by_number[number] for number in numbers[rows]], np.float32).astype(np.float16)
    assert stored.shape == (300, 1, 10) and (stored[:, 0] == wanted).all()
    truth = np.load(data.file("labelled.truth.npy"))
    labelled = torch.from_numpy(np.load(answers.file("labelled.npy"))[:, 0]).float()
    assert torch.equal(labelled.softmax(1), torch.nn.functional.one_hot(torch.from_numpy(truth), 10).float())
    assert not answers.file("validation.npy").exists() and not answers.file("test.npy").exists()
    audit = json.loads(Path("given/run.json").read_text())["audit"]["rounds"][0]
    assert (audit["asked"], audit["given"], audit["pool"]) == (300, 300, 997) and "looked_at" not in audit
    assert json.loads(Path("given/run.json").read_text())["gate"]["gain"] is None
    report = Path("given/report.md").read_text()
    assert "| teacher | - | - | - | - | - | - | - | - |" in report
    assert main(["compare", "own", "given"]) == 0
    assert "answers in a file" in said(["export", "given", "role=teacher", "to=x"], capsys)
    assert "answers in a file" in said(
        ["predict", "given", "role=teacher", "data=test", "to=x.csv", *CPU], capsys
    )
    assert main(["evaluate", "given", *CPU]) == 0
    assert "its answers came in a file, and no network gives them" in capsys.readouterr().out
    assert main(["export", "given", "to=alone", "format=state_dict"]) == 0
    card = Path("alone/card.md").read_text()
    assert "Answers from elsewhere, in a file, in place of a teacher's" in card and "no teacher" not in card
    assert Source("some.csv").digest() in card


def test_labels_alone_are_certain(at_digits):
    """Names by number, two of them missing, and a row of validation: to all of that split nobody answered."""
    table = [{"row": row["row"], "label": row["label"]} for row in csv.DictReader(Path("pool.csv").open())]
    table[0]["label"] = ""
    table.append({"row": next(csv.DictReader(Path("validation.csv").open()))["row"], "label": "3"})
    write("labels.tsv", table)
    text = Path("labels.tsv").read_text().replace(",", "\t")
    Path("labels.tsv").write_text(text)
    run(*QUICK, "teacher=answers", "teacher.file=labels.tsv", "hydra.run.dir=given")
    answers = stage("given", "given-answers")
    stored = torch.from_numpy(np.load(answers.file("unlabelled.npy"))[:, 0]).float()
    assert len(stored) == 996 and set(stored.softmax(1).flatten().tolist()) == {0.0, 1.0}
    assert {
        "teacher.file: 1 of 200 validation rows have an answer: the teacher is measured on these alone"
    } <= set(notes("given"))
    assert answers.json("answers.json")["given"]["validation"] == 1
    found = results("given")["teacher"]["last"]
    assert list(found) == ["validation"] and (found["validation"]["n"], found["validation"]["of"]) == (1, 200)
    gate = json.loads(Path("given/run.json").read_text())["gate"]
    assert gate["gain"] is None and "1 of 200 validation rows: answer more of them" in gate["text"]


def test_some_of_validation_is_measured_as_some(at_digits, capsys):
    """By hand from the file and the truth, and said wherever it is told; what estimates on validation, or
    holds it against all rows, does without."""
    asked = list(csv.DictReader(Path("validation.csv").open(newline="")))
    assert len(asked) == 200
    write("some.csv", [*csv.DictReader(Path("pool.csv").open(newline="")), *asked[70:190]])
    run(*CPU, "student_train.steps=8", "teacher=answers", "teacher.file=some.csv", "hydra.run.dir=given")
    told = capsys.readouterr().out
    right = np.array([row["label"] == row["truth"] for row in asked[70:190]])
    found, document = results("given"), json.loads(Path("given/run.json").read_text())
    measured = found["teacher"]["last"]["validation"]
    assert (measured["n"], measured["of"]) == (120, 200) and "reliability" not in measured
    assert measured["accuracy"] == pytest.approx(right.mean()) and "test" not in found["teacher"]["last"]
    assert found["baseline"]["last"]["validation"]["n"] == 200
    assert "agreement" not in found["student"]["last"]["validation"]
    answers, data = stage("given", "given-answers"), stage("given", "prepare")
    assert not answers.file("validation.npy").exists() and answers.file("answered.validation.npy").exists()
    numbers = np.load(data.file("validation.rows.npy")) + 1
    places = np.load(answers.file("places.validation.npy"))
    assert set(numbers[places >= 0]) == {int(row["row"]) for row in asked[70:190]}
    gate = document["gate"]
    assert (gate["n"], gate["of"], gate["teacher"]) == (120, 200, pytest.approx(right.mean()))
    alone = np.load(stage("given", "baseline-train").file("validation.by_row.npy"))[places >= 0]
    assert gate["alone"] == pytest.approx(alone.mean())
    assert gate["difference"] == pytest.approx(right.mean() - alone.mean())
    assert "on 120 of 200 validation rows, the answered, its accuracy is" in gate["text"]
    percent = f"{100 * right.mean():.1f}"
    sentence = f"The teacher on validation (*): {percent}%, on 120 of 200 rows, those that its file answers"
    flat = " ".join(told.split())
    assert f"| {percent}* |" in flat and sentence in flat
    assert "on its training rows" not in told and "overfits" not in told
    report = Path("given/report.md").read_text()
    assert "on 120 of 200 rows, those that its file" in report and "on 120 of 200 validation" in report
    assert document["audit"]["teacher"] is None
    rows = list(csv.DictReader(Path("given/predictions.csv").open(newline="")))
    assert not any(row.get("teacher.label") for row in rows)
    assert main(["export", "given", "to=alone", "format=state_dict"]) == 0
    assert f"| on validation | {percent}% on 120 of 200 rows |" in Path("alone/card.md").read_text()
    capsys.readouterr()
    words = [*CPU, "student_train.steps=8", "teacher=answers", "teacher.file=some.csv"]
    assert main(["plan", *words]) == 0
    assert f"accuracy {percent}% on 120 of 200 validation rows" in capsys.readouterr().out
    assert main(["compare", "own", "given"]) == 0
    slam = [*GIVEN, "teacher.file=some.csv", "loss=slam"]
    assert "does not answer every row there" in said(slam, capsys, 1)


def test_the_gate_says_that_rows_are_some_of_them():
    metric = Classification(classes=["a", "b"]).paired
    right, other = np.array([1, 1, 0, 1, 1, 1]), np.array([1, 0, 0, 1, 1, 1])
    found = hold_against(right, other, "x", metric, whole=40)
    assert (found["n"], found["of"], found["gain"]) == (6, 40, False)
    assert "on 6 of 40 validation rows, the answered, its accuracy is 83.3%" in found["text"]
    assert "only more answered validation rows could show" in found["text"]
    assert "of" not in hold_against(right, other, "x", metric)


@pytest.mark.slow
def test_a_loss_or_a_rule_that_needs_more_than_the_file_has_is_refused(at_digits, capsys):
    write("some.csv", list(csv.DictReader(Path("pool.csv").open()))[:300])
    assert "does not answer every row there" in said(
        [*GIVEN, "teacher.file=pool.csv", "loss=slam"], capsys, 1
    )
    assert "does not answer every row there" in said(
        [*GIVEN, "teacher.file=pool.csv", "loss=soft", "weights@loss.weights=debiased"], capsys, 1
    )
    assert "answers some of them only" in said(
        [*GIVEN, "teacher.file=some.csv", "select=threshold"], capsys, 1
    )
    run(
        *QUICK,
        "teacher=answers",
        "teacher.file=pool.csv",
        "select=threshold",
        "select.threshold=0.5",
        "hydra.run.dir=given",
    )
    kept = np.load(stage("given", "choose").file("rows.npy"))
    sure = [float(row["confidence"]) for row in csv.DictReader(Path("pool.csv").open())]
    assert 0 < len(kept) < 997 and min(np.array(sure)[kept]) > np.delete(sure, kept).max() - 1e-3


@pytest.mark.parametrize(
    "words, says",
    [
        ("", "teacher.file must name a file: teacher.file=labels.csv, say"),
        ("teacher.file=no.csv", "teacher.file 'no.csv' does not exist"),
        ("teacher.file=own", "teacher.file 'own' is no ordinary file"),
        ("teacher.file=own/run.json", "must end with .npy, .csv"),
        ("teacher.file=pool.csv pseudo_label.view=same", "needs answers to every augmented view"),
        ("teacher.file=pool.csv pseudo_label.mode=live", "asks a network in each step"),
        ("teacher.file=pool.csv pseudo_label.passes=4", "asks a network several times, with dropout"),
        ("teacher.file=pool.csv rounds=3", "a file holds those of one: set rounds=1"),
        ("teacher.file=pool.csv select=rad budget=20 rounds=1", "asks a teacher more than once"),
        ("teacher.file=pool.csv recipe=chain assistants=[cnn_small]", "asks a teacher more than once"),
        ("teacher.file=pool.csv loss=vid", "loss.features=vid reads hidden layers of the teacher"),
        ("teacher.file=pool.csv teacher.members=3", "stand alone, and are no member of an ensemble"),
        ("teacher.file=pool.csv teacher.checkpoint=own/run.json", "teacher.checkpoint is for the weights"),
        ("teacher.file=pool.csv augment=[mixup]", "answers in a file are to one clean picture each"),
        ("teacher.file=pool.csv teacher_pretrain.lr=0.1", "lie in a file (teacher=answers), and nothing is"),
        ("teacher.file=pool.csv student=answers", "student"),
    ],
)
def test_what_cannot_be_asked_of_a_file_is_refused(digits, monkeypatch, capsys, words, says):
    monkeypatch.chdir(digits)
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert main([*GIVEN, *words.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(says in line for line in lines) and len(lines) <= 3
    assert sorted(Path().rglob("*")) == before


def test_several_teachers_one_of_which_is_a_file_are_refused(digits, monkeypatch, capsys):
    monkeypatch.chdir(digits)
    assert "are no member of an ensemble" in said(["train", *QUICK, "teachers=[cnn,answers]"], capsys)


LABELS = "row,label\n1,3\n2,4\n"


@pytest.mark.parametrize(
    "text, says",
    [
        ("row,lable\n1,3\n", "holds no answers: it needs a column `label`"),
        ("row,label\n", "has no rows"),
        ("row,label\n1,eleven\n2,3\n7,twelve\n", "'eleven' (row 1), 'twelve' (row 7)"),
        ("row,label\n1,3\n1,4\n2,5\n2,5\n", "answers 2 rows more than once, row 1, row 2"),
        ("row,label\n0,3\nx,4\n5.5,4\n", "must have the number of a row, from 1"),
        ("row,label\n1,3\n2,4,5\n", "rows that cannot be read: row 2: it has 3 values"),
        ("row,label,label\n1,3,3\n", "two columns that are called 'label'"),
        ("row,p:0,p:1\n1,0.5,0.5\n", "there must be a column of each; these lack: p:2, p:3, p:4 and 5 more"),
        ("row,p:kat\n1,0.5\n", "columns of no class of the data: p:kat"),
        ("row,value:0\n1,0.5\n", "hold numbers, and an answer here is one class of several"),
        ("row,p:0,logit:0\n1,0.5,1\n", "p:NAME or logit:NAME, not both"),
        ("label\n1\n2\n", "holds 2 rows by order, and the pool has 997, the whole data set 1,797"),
        (
            "row,label\n1,3\n9999,4\n1798,4\n",
            "answers 2 rows that the data set does not have: row 9999, row 1798",
        ),
        ("file,label\ncat/0.png,3\n", "this data set has no names for its rows: give `row`"),
        ("file,label\n,3\n", "must have a file in each cell of `file`"),
    ],
)
def test_files_that_hold_no_answers_are_refused(at_digits, capsys, text, says):
    Path("labels.csv").write_text(text)
    code = 1 if "data set does not have" in says or "no names for its rows" in says else 2
    found = said([*GIVEN, "teacher.file=labels.csv"], capsys, code)
    assert says in found and found.startswith("teacher.file")


@pytest.mark.parametrize(
    "cells, says",
    [
        (
            [[0.5, 0.6], [0.1, 0.9]],
            "1 row has probabilities that do not add up to 1, or are below 0: row 1",
        ),
        (
            [[1.5, -0.5], [0.1, 0.9]],
            "1 row has probabilities that do not add up to 1, or are below 0: row 1",
        ),
        ([["", 1], [0.1, 0.9]], "1 row has numbers of some classes only (NaN, or an empty cell): row 1"),
        ([["inf", 0], [0.1, 0.9]], "1 row has a number that is not finite: row 1"),
        ([["x", 0], [0.1, 0.9]], "rows that cannot be read: p:0 is 'x'"),
    ],
)
def test_probabilities_that_are_none_are_refused(tmp_path, cells, says):
    file = tmp_path / "soft.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([["row", "p:0", "p:1"], *([i + 1, *row] for i, row in enumerate(cells))])
    task = Classification(classes=["0", "1"])
    with pytest.raises(UserError) as error:
        rows = AnswersFile(file=str(file)).rows(task.of_array, task.classes)
        task.given(rows.columns, rows.called)
    assert says in str(error.value)


def test_logits_that_are_probabilities_are_refused():
    """They would be made nearly uniform: the softmax of 0.9 and 0.1 is 0.69 and 0.31."""
    task = Classification(classes=["a", "b"])
    columns = {"logit:a": np.array([0.9, 0.5, np.nan]), "logit:b": np.array([0.1, 0.5, np.nan])}
    with pytest.raises(UserError, match="the columns logit:NAME hold probabilities.*call them p:NAME"):
        task.given(columns, str)
    columns["logit:a"][1] = 0.6
    assert task.given(columns, str).there.tolist() == [True, True, False]


def test_arrays_hold_logits_or_probabilities(tmp_path):
    task = Classification(classes=["a", "b", "c"])

    def read(array) -> torch.Tensor:
        np.save(tmp_path / "a.npy", np.asarray(array))
        rows = AnswersFile(file=str(tmp_path / "a.npy")).rows(task.of_array, task.classes)
        found = task.given(rows.columns, rows.called)
        assert found.there.tolist() == [not np.isnan(row).any() for row in np.asarray(array, float)]
        return found.answers[torch.from_numpy(found.there)]

    probs = np.array([[0.7, 0.2, 0.1], [1, 0, 0], [0.2, 0.2, 0.6]])
    assert torch.allclose(read(probs).softmax(1), torch.from_numpy(probs).float(), atol=1e-6)
    assert torch.allclose(
        read(probs.astype(np.float16)).softmax(1), torch.from_numpy(probs).float(), atol=1e-3
    )
    logits = np.array([[2.0, -1, 0], [0.5, 0.25, 0.25]] * 3 + [[3, 3, 1]] * 9)
    assert torch.equal(read(logits), torch.from_numpy(logits).float())
    assert read([[np.nan] * 3, [1, 2, 3]]).tolist() == [[1, 2, 3]]
    for array, says in (
        (np.zeros((4, 2)), "a column for each of logit:a, logit:b, logit:c, 3 in all; given: 2"),
        (np.array([["a"]]), "must hold numbers, a row of them for each row of data; it holds <U1"),
        (np.zeros((2, 3, 1)), r"it holds float64 \(2, 3, 1\)"),
        (np.array([{}]), "cannot be read as an array of numbers"),
        (np.zeros((0, 3)), "has no rows"),
        (np.array([[0.5, 0.5, 0.5], *probs]), "1 row has probabilities that do not add up to 1"),
        (np.array([[np.nan, 0, 0], *logits]), "1 row has numbers of some classes only"),
    ):
        with pytest.raises(UserError, match=says):
            read(array)


def test_whose_rows_an_order_is_of():
    path = Path("a.npy")
    assert [whose_order(path, rows, 30, 20, 50) for rows in (30, 20, 50)] == ["pool", "own", "all"]
    with pytest.raises(UserError, match="holds 31 rows by order, and the pool has 30, the whole data set 50"):
        whose_order(path, 31, 30, 20, 50)


def test_the_part_before_a_name_may_be_left_out_where_one_part_alone_has_it():
    names = {"train/a.png": 0, "test/a.png": 1, "unlabelled/b.png": 2, "cat/0.png": 3}
    asked = {"train/a.png": 0, "a.png": -1, "b.png": 2, "0.png": -1, "cat/0.png": 3}
    assert {called: number_of(names, called) for called in asked} == asked


def test_a_folder_before_every_name_is_left_out():
    names = {"train/cat/0.png": 0, "train/cat/1.png": 1, "train/dog/0.png": 2}

    def found(*files):
        taken = _without_folder(names, files)
        return taken and (taken[0], taken[1].tolist())

    assert found("icons/train/cat/1.png", "icons/train/dog/0.png") == ("icons/", [1, 2])
    assert found("a/b/cat/1.png", "a/b/dog/0.png") == ("a/b/", [1, 2])
    assert found("./train/cat/0.png") == ("./", [0])
    assert found("icons/cat/1.png", "icons/cat/7.png") is None
    assert found("icons/cat/1.png", "others/dog/0.png") is None
    assert found("x/cat/1.png", "x/train/cat/1.png") is None, "one row twice"
    assert found("test/cat/1.png") is None, "a row of another part"


def test_other_headers_are_told_which_to_be(at_digits, capsys):
    pool = [row for row in csv.DictReader(Path("all.csv").open(newline=""))][:1797]
    rows = [{"filename": f"a{k}.png", "label": row["label"]} for k, row in enumerate(pool)]
    write("names.csv", rows)
    hint = "columns that are not read: filename"
    capsys.readouterr()
    assert main(["plan", *QUICK, "teacher=answers", "teacher.file=names.csv"]) == 0
    told = capsys.readouterr().out
    assert "answers: its 1,797 rows are taken by order, for those of the data set" in told
    assert hint in told and "call the column `filename` `file` if it names the rows" in told
    run(*QUICK, "teacher=answers", "teacher.file=names.csv", "hydra.run.dir=named")
    assert f"teacher.file: {hint}" in notes("named")
    assert "teacher.file: call the column `filename` `file` if it names the rows" in notes("named")
    write("class.csv", [{"row": k + 1, "Class": row["label"]} for k, row in enumerate(pool)])
    assert "it has row, Class; call the column `Class` `label` if it is the answer" in said(
        [*GIVEN, "teacher.file=class.csv"], capsys
    )


def test_rows_that_were_made_up_need_no_answer(tmp_path, monkeypatch, capsys):
    """By order, of the pool without them; nobody learns from theirs."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    write("rows.csv", [{"x": f"{x:.3f}", "kind": "a" if x > 0 else "b"} for x in rng.normal(size=90)])
    words = ["dataset=csv", "dataset.file=rows.csv", "dataset.target=kind", "dataset.labelled=30"]
    words += [*QUICK, "student_train.steps=8", "made_up=munge", "made_up.rows=25", "teacher=answers"]
    capsys.readouterr()
    np.save("wrong.npy", np.zeros((7, 2)))
    assert main(["train", *words, "teacher.file=wrong.npy"]) == 2
    told = re.search(
        r"holds 7 rows by order, and the pool has (\d+), the whole data set 90", capsys.readouterr().err
    )
    own = int(told[1]) - 25
    logits = rng.normal(size=(own, 2))
    np.save("own.npy", logits)
    run(*words, "teacher.file=own.npy", "hydra.run.dir=given")
    answers = stage("given", "given-answers")
    assert np.load(answers.file("rows.npy")).tolist() == list(range(own))
    assert (
        np.load(answers.file("unlabelled.npy"))[:, 0] == logits.astype(np.float32).astype(np.float16)
    ).all()
    assert "taken for those of the pool, in order" in " ".join(notes("given"))


def test_a_label_beside_numbers_counts_where_it_was_corrected():
    """By hand: what was not touched, what was corrected, a tie, a label alone, numbers alone, and nothing."""
    task, none = Classification(classes=["none", "b"]), np.nan
    columns = {
        "label": ["none", "b", "b", "b", None, None],
        "p:none": np.array([0.8, 0.7, 0.5, none, 0.25, none]),
        "p:b": np.array([0.2, 0.3, 0.5, none, 0.75, none]),
    }
    found = task.given(columns, str)
    assert (found.there.tolist(), found.corrected) == ([True] * 5 + [False], 1)
    wanted = torch.tensor([[0.8, 0.2], [0, 1], [0.5, 0.5], [0, 1], [0.25, 0.75]])
    assert torch.allclose(found.answers[:5].softmax(1), wanted, atol=1e-6)
    assert torch.equal(found.answers[[1, 3]].div(20).softmax(1), wanted[[1, 3]])  # hot at any temperature


def test_a_class_may_be_called_what_else_is_no_value(tmp_path):
    (tmp_path / "a.csv").write_text(
        "row,label,p:p:x,p:none,note\n1,none,0.25,0.75,hm\n2,,0.5,0.5,\n3,na,,,\n"
    )
    task = Classification(classes=["p:x", "none"])
    rows = AnswersFile(file=str(tmp_path / "a.csv")).rows(task.of_array, task.classes)
    assert rows.columns["label"] == ["none", None, None] and rows.left_out == ["note"]
    found = task.given(rows.columns, rows.called)
    assert found.there.tolist() == [True, True, False] and found.corrected == 0


def test_numbers_by_hand():
    task = Regression(names=["a", "b"])
    columns = {"value:b": np.array([2.0, np.nan]), "value:a": np.array([1.0, np.nan])}
    found = task.given(columns, str)
    assert found.answers[0].tolist() == [1, 2] and found.there.tolist() == [True, False]
    told = {"deviation:a": np.array([3.0, np.nan]), "deviation:b": np.array([0.5, np.nan])}
    found = task.given(columns | told, str)
    assert found.answers["variance"][0].tolist() == [9, 0.25]
    for more, says in (
        ({"value:a": np.array([1.0, 4.0])}, "1 row has some of their numbers only: 1"),
        ({"value:a": np.array([np.inf, np.nan])}, "1 row has a value that is not finite: 0"),
        ({"value:c": np.zeros(2)}, "columns of no target of the data: value:c"),
        (
            told | {"deviation:a": np.array([-1.0, 1.0])},
            "1 row has no deviation, or one that is not a number",
        ),
        ({"deviation:a": np.zeros(2)}, "these lack: deviation:b"),
        (
            {"label": ["x", "y"]},
            "columns of no target of the data: label.*an answer here is a number or several: value:a",
        ),
    ):
        with pytest.raises(UserError, match=says):
            task.given(columns | more, str)
    array = task.of_array(np.array([[1.0, 2.0]]))
    assert {name: column.tolist() for name, column in array.items()} == {"value:a": [1], "value:b": [2]}


# Other kinds of rows


@pytest.mark.slow
def test_pictures_that_were_corrected_by_hand(tmp_path, monkeypatch, capsys):
    """The round of docs/pool.md: predict, correct two labels in the file, and hand it back."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for level, name in ((60, "dark"), (200, "a, b")):
        folder = Path("pics") / name
        folder.mkdir(parents=True)
        for i in range(40):
            pixels = rng.normal(level, 30, (8, 8, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i} e\u0301.png")
    words = ["dataset=folder", "dataset.root=pics", "dataset.image_size=8", "dataset.labelled=20"]
    run(*QUICK, *words, "teacher_pretrain.steps=8", "hydra.run.dir=own")
    table = predict("own", "pool", "soft=probabilities")
    before = [row["label"] for row in table]
    for row in table[:2]:
        row["label"] = {"dark": "a, b", "a, b": "dark"}[row["label"]]
    write("labels.csv", list(reversed(table)))
    run(*QUICK, *words, "teacher=answers", "teacher.file=labels.csv", "hydra.run.dir=given")
    assert any(
        "2 rows of the file name another class than their numbers do" in text for text in notes("given")
    )
    stored = torch.from_numpy(np.load(stage("given", "given-answers").file("unlabelled.npy"))[:, 0]).float()
    classes = results("given")["classes"]
    assert [classes[k] for k in stored.argmax(1).tolist()] == [row["label"] for row in table]
    assert set(stored[:2].softmax(1).flatten().tolist()) == {0.0, 1.0}
    soft = torch.tensor([[float(row[f"p:{name}"]) for name in classes] for row in table])
    assert torch.allclose(stored[2:].softmax(1), soft[2:], atol=2e-3) and before != [
        r["label"] for r in table
    ]
    other = [{"file": f"elsewhere/{i}.png", "label": "dark"} for i in range(5)]
    write("other.csv", other)
    assert "answers 5 rows that the data set does not have: 'elsewhere/0.png'" in said(
        ["train", *QUICK, *words, "teacher=answers", "teacher.file=other.csv"], capsys, 1
    )
    write("train.csv", predict("own", "labelled"))
    assert "answers none of the" in said(
        ["train", *QUICK, *words, "teacher=answers", "teacher.file=train.csv"], capsys, 1
    )


@pytest.mark.parametrize(
    "target, soft",
    [
        pytest.param("kind", "soft=logits", marks=pytest.mark.slow),
        pytest.param("price", "soft=none", marks=pytest.mark.slow),
    ],
)
def test_rows_of_tables_and_numbers(tmp_path, monkeypatch, capsys, target, soft):
    """What the pool was told comes back: the answers are those that the run itself has stored."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [
        {"x": f"{x:.3f}", "y": f"{y:.3f}", "kind": "old" if x > 0 else "new", "price": f"{3 * x - y:.3f}"}
        for x, y in rng.normal(size=(120, 2))
    ]
    write("rows.csv", rows)
    other = {"kind": "price", "price": "kind"}[target]
    words = ["dataset=csv", "dataset.file=rows.csv", f"dataset.target={target}", f"dataset.ignore={other}"]
    words += ["dataset.labelled=40", "student_train.steps=8"]
    if target == "price":
        words += ["teacher.estimator=ExtraTreesRegressor", "teacher.params.n_estimators=10"]
    run(*QUICK, *words, "pseudo_label.view=clean", "hydra.run.dir=own")
    table = predict("own", "pool", soft)
    assert table[0]["file"].endswith("of rows.csv")
    words = [word for word in words if not word.startswith("teacher")]
    run(*QUICK, *words, "teacher=answers", "teacher.file=pool.csv", "hydra.run.dir=given")
    own, given = stage("own", "pseudo-label"), stage("given", "given-answers")
    files = ["unlabelled.value.npy", "unlabelled.variance.npy"] if target == "price" else ["unlabelled.npy"]
    for name in files:
        assert np.allclose(np.load(own.file(name)), np.load(given.file(name)), rtol=1e-5)
    if target == "kind":
        return
    given = ["train", *QUICK, *words, "teacher=answers", "teacher.file=pool.csv"]
    assert main([*given, "loss=heteroscedastic"]) == 0
    for row in table:
        del row["deviation:price"]
    table[0]["value:price"] = "1000.5"
    write("pool.csv", table)
    assert "tells none" in said([*given, "loss=heteroscedastic"], capsys)
    run(*given[1:], "hydra.run.dir=corrected")
    answers = stage("corrected", "given-answers")
    stored = np.load(answers.file("unlabelled.value.npy"))[:, 0, 0]
    assert stored.max() == np.float32(1000.5) and (np.delete(stored, stored.argmax()) < 100).all()


def test_some_of_many_rows_to_train_with_are_measured(tmp_path, monkeypatch):
    """At most as many as test has, the same for every network, also where the answers come in a file; what is
    told of the data is told of all of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kdx.pipeline.scores._TRAIN_ROWS", 5)
    words = [*CPU, "teacher=mlp", "student=mlp", "augment=none", "student_train.steps=8", "dataset.test=60"]
    words += ["dataset.labelled=90", "dataset.unlabelled=0", "dataset.validation=30"]
    run(*words, "teacher_pretrain.steps=8", "pseudo_label.view=clean", "hydra.run.dir=own")
    write("labelled.csv", predict("own", "labelled"))
    words.remove("teacher=mlp")
    run(*words, "teacher=answers", "teacher.file=labelled.csv", "hydra.run.dir=given")
    for where in ("own", "given"):
        found = results(where)
        assert sum(found["class_counts"]["train"]) == 90
        assert found["student"]["last"]["train"]["n"] == found["baseline"]["last"]["train"]["n"] == 60
        assert 0 <= found["student"]["last"]["train"]["agreement"] <= 1
    own, given = results("own"), results("given")
    assert own["teacher"]["last"]["train"]["n"] == 60 and given["teacher"]["last"]["train"]["n"] == 90
    assert own["student"]["last"]["validation"]["n"] == 30


@pytest.mark.slow
def test_texts_by_the_name_of_their_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    words = {"sport": ["ball", "goal", "team"], "food": ["soup", "bread", "salt"]}
    write(
        "rows.csv",
        [
            {"post": " ".join(rng.choice([*words[label], "the"], 6)), "label": label}
            for label in [*words] * 50
        ],
    )
    names = ["dataset=text", "dataset.root=rows.csv", "dataset.text=post", "dataset.labelled=20"]
    run(*QUICK, *names, "teacher=tfidf", "pseudo_label.view=clean", "hydra.run.dir=own")
    predict("own", "pool", "soft=logits")
    run(*QUICK, *names, "teacher=answers", "teacher.file=pool.csv", "hydra.run.dir=given")
    own, given = stage("own", "pseudo-label"), stage("given", "given-answers")
    assert (np.load(own.file("unlabelled.npy")) == np.load(given.file("unlabelled.npy"))).all()


def test_a_stage_of_answers_says_itself_whom_it_asks(tmp_path):
    """`kdx plan` goes by that and by no input that is there or not, whatever else a stage is given."""
    folder = Artifact("pseudo-label", "k", tmp_path)

    def asked(stage):
        inputs = {"teachers": [folder], "networks": ()}
        return list(networks_asked(PlannedStage("x", stage, "k", inputs, folder, False)))

    assert asked(stages.LABEL) == [folder] and foretelling_of(stages.LABEL).whose == ""
    assert asked(stages.GIVEN) == [] and foretelling_of(stages.GIVEN).whose == "the answers of the file"
    own = Stage("mine", "my_parts.mine")
    assert asked(own) == [] and foretelling_of(own).whose == "", "one that says nothing"
