"""Of rows with several inputs a network is exported, and answers new rows, by its own inputs alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import csv

import kdx
from kdx.cli import main
from kdx.data.new_rows.rows import ROW_COLUMN, NewRows, RowBlock
from kdx.data.new_rows.several import NewPairs
from kdx.runs.reading import read_run

CPU = ["device=cpu", "device.threads=1", "hydra.run.dir=run"]


def made(folder: Path) -> Path:
    """24 rows with a picture (bright: good), a text and two numbers."""
    (folder / "pictures").mkdir()
    rows = ["photo,caption,a,b,kind"]
    for i in range(24):
        kind, level = ("bad", "good")[i % 2], (40, 200)[i % 2]
        Image.fromarray(np.full((12, 12), level + i % 7, np.uint8)).save(folder / f"pictures/{i}.png")
        rows.append(f"pictures/{i}.png,a {kind} thing,{i % 5},{level + i},{kind}")
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A fusion of picture and table teaches a student of the table; a text is there too."""
    folder, before = made(tmp_path_factory.mktemp("pairs")), Path.cwd()
    words = ["dataset=pairs", "dataset.file=rows.csv", "dataset.target=kind", "dataset.picture=photo"]
    words += ["dataset.text=caption", "dataset.image_size=16", "dataset.min_frequency=1", "baseline=false"]
    words += ["teacher=fusion", "teacher.networks=[cnn_tiny,mlp]", "teacher.reads=[picture,table]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        steps = ["teacher_pretrain.steps=4", "student_train.steps=4"]
        assert main(["train", *words, *steps, *CPU]) == 0
    assert Path.cwd() == before
    return folder


def columns(path: Path) -> dict:
    return csv.read_csv(path).to_pydict()


def test_a_student_is_exported_with_its_own_input_alone(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    to = tmp_path / "student"
    assert main(["export", "run", f"to={to}", "format=[state_dict,torch_export]"]) == 0
    about, card = (json.loads((to / name).read_text()) for name in ("model.json", "card.json"))
    assert about["reads"] == "table" and about["example"] == {"": [[2], "float32"]}
    assert list(card["input"]["inputs"]) == [""] and "picture" not in json.dumps(card["input"])
    assert "tokenizer.json" not in {path.name for path in to.iterdir()}, "that is of the text"
    assert "| 0 | a |" in (to / "card.md").read_text()
    table = torch.tensor([[3.0, 40.0], [1.0, 200.0]])
    network = kdx.load(to)
    whole = _whole(trained)
    rows = {
        "table": table,
        "picture": torch.rand(2, 1, 16, 16),
        "text": torch.zeros(2, 64, dtype=torch.int32),
    }
    assert torch.equal(network(table), whole(rows))
    graph = torch.export.load(to / "student.pt2").module()
    assert torch.allclose(graph(table), network(table), atol=1e-6)
    assert torch.equal(kdx.Run(trained / "run").network()(table), network(table))


def _whole(trained):
    """The student as it was trained, which takes all inputs."""
    from kdx.runs.stored import of_role

    return of_role(read_run(trained / "run"), "student", "best", [])[0].network()


def test_new_rows_of_the_students_view_get_the_same_answers_by_every_road(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    few = trained / "table.csv"
    few.write_text("a,b\n3,40\n1,200\n")
    to = tmp_path / "student"
    assert main(["export", "run", f"to={to}", "format=state_dict"]) == 0
    for target, file in (("run", "by_run.csv"), (str(to), "by_export.csv")):
        assert main(["predict", target, f"data={few}", f"to={tmp_path / file}", "soft=logits"]) == 0
    found = columns(tmp_path / "by_run.csv")
    assert found == columns(tmp_path / "by_export.csv") and found["row"] == [1, 2]
    answers = kdx.load(to)(torch.tensor([[3.0, 40.0], [1.0, 200.0]]))
    assert np.allclose(found["logit:good"], answers[:, 1].detach(), atol=1e-5)
    own = kdx.Run(trained / "run").predict(np.array([[3, 40], [1, 200]], np.float32))
    assert list(own["label"]) == found["label"]


def test_a_fusion_answers_a_file_of_rows_as_it_answers_the_rows_of_its_run(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    words = ["predict", "run", "role=teacher", "soft=logits"]
    assert main([*words, "data=rows.csv", f"to={tmp_path / 'new.csv'}", "batch_size=5"]) == 0
    assert main([*words, "data=test", f"to={tmp_path / 'test.csv'}"]) == 0
    new, test = columns(tmp_path / "new.csv"), columns(tmp_path / "test.csv")
    assert new["row"] == list(range(1, 25))
    rows = [int(name.split()[1]) for name in test[next(iter(test))]]
    assert np.allclose([new["logit:good"][row - 1] for row in rows], test["logit:good"], atol=1e-5)
    assert main(["export", "run", "role=teacher", f"to={tmp_path / 'fusion'}", "format=torch_export"]) == 0
    about = json.loads((tmp_path / "fusion/model.json").read_text())
    assert about["reads"] == "pictures+table" and set(about["example"]) == {"picture", "table"}
    to = f"to={tmp_path / 'by_export.csv'}"
    assert main(["predict", str(tmp_path / "fusion"), "data=rows.csv", to, "soft=logits"]) == 0
    assert np.allclose(columns(tmp_path / "by_export.csv")["logit:good"], new["logit:good"], atol=1e-5)


def test_rows_that_one_input_lacks_are_listed_and_others_answered(trained, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(trained)
    (trained / "odd.csv").write_text(
        "photo,a,b\npictures/1.png,1,200\nnone.png,1,200\npictures/2.png,x,40\n,1,1\npictures/3.png,2,40\n"
    )
    words = ["predict", "run", "role=teacher", "data=odd.csv", f"to={tmp_path / 'odd.csv'}"]
    assert main(words) == 0
    assert columns(tmp_path / "odd.csv")["row"] == [1, 5]
    unread = columns(tmp_path / "odd.csv.unread.csv")
    assert unread["name"] == ["row 2", "row 3", "row 4"] and "no number" in unread["reason"][1]
    for data, said in (
        ("pictures", "name a file of rows with columns for all of them"),
        ("table.csv", "lacks the column 'photo'"),
    ):
        (trained / "table.csv").write_text("a,b\n3,40\n")
        assert main(["predict", "run", "role=teacher", f"data={data}", f"to={tmp_path / 'x.csv'}"]) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error


class Held(NewRows):
    def __init__(self, numbers, step, columns):
        self.numbers, self.step, self.columns = numbers, step, columns
        self.count, self.unread = 9, []

    def blocks(self, size):
        for k in range(0, len(self.numbers), self.step):
            rows = self.numbers[k : k + self.step]
            yield RowBlock({ROW_COLUMN: rows}, np.array(rows) * 1.0)


@pytest.mark.parametrize("steps", [(2, 3), (9, 1), (3, 3)])
def test_rows_of_two_readers_are_joined_by_number_however_they_come_in_blocks(steps):
    pair = NewPairs(
        {"x": Held([1, 2, 4, 5, 7, 9], steps[0], ["a"]), "y": Held([2, 3, 4, 8, 9], steps[1], ["b"])}
    )
    found = list(pair.blocks(2))
    assert [row for block in found for row in block.known_by[ROW_COLUMN]] == [2, 4, 9]
    assert all((block.inputs["x"] == block.inputs["y"]).all() for block in found)


def test_two_inputs_with_one_column_are_refused():
    with pytest.raises(kdx.UserError, match="have a column 'a'"):
        NewPairs({"x": Held([1], 1, ["a"]), "y": Held([1], 1, ["a"])})


SUMS = ["dataset=digits_sums", "teacher=cnn_tiny"]
CAPTIONS = ["dataset=digits_captions", "teacher.networks=[cnn_tiny,bag]", "student=bag"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, role, shape, reads",
    [
        (SUMS, "student", [16], "table"),
        (SUMS, "teacher", [1, 16, 16], "pictures"),
        (CAPTIONS, "student", [36], "texts"),
        (["dataset=digits_sums", "teacher=sklearn", "teacher.reads=sums"], "teacher", [16], "table"),
    ],
)
def test_every_format_takes_the_own_input_of_each_network(
    tmp_path, monkeypatch, capsys, words, role, shape, reads
):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    fitted = "teacher=sklearn" in words
    steps = ["student_train.steps=4", *([] if fitted else ["teacher_pretrain.steps=4"])]
    assert main(["train", *words, *steps, *CPU]) == 0
    formats = "state_dict" if fitted else "[state_dict,torch_export,onnx]"
    assert main(["export", "run", f"role={role}", "to=alone", f"format={formats}"]) == 0
    about, card = (json.loads((tmp_path / f"alone/{name}.json").read_text()) for name in ("model", "card"))
    assert about["reads"] == reads and about["example"][""][0] == shape
    assert all(entry["parity"]["rows"] == 200 for entry in card["formats"].values())
    assert main(["predict", "run", f"role={role}", "data=test", "to=test.csv", "soft=logits"]) == 0
    if reads == "texts":
        (tmp_path / "new.csv").write_text("text\ndark top left\n")
    elif reads == "table":
        names = [column["name"] for column in about["adapter"]["columns"]]
        (tmp_path / "new.csv").write_text(f"{','.join(names)}\n{','.join(['2'] * 16)}\n")
    else:
        (tmp_path / "new.csv").mkdir()
        Image.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / "new.csv/a.png")
    files = [path for path in ("alone", "alone/student.onnx", "alone/teacher.onnx") if Path(path).exists()]
    answers = []
    for number, target in enumerate(["run", *files]):
        more = [f"role={role}"] if target == "run" else []
        words = ["predict", target, *more, "data=new.csv", f"to={number}.csv", "soft=logits"]
        capsys.readouterr()
        assert main(words) == 0 and "dropped" not in capsys.readouterr().out
        answers.append([columns(tmp_path / f"{number}.csv")[f"logit:{k}"] for k in range(10)])
    assert len(answers) >= 2 and all(np.allclose(one, answers[0], atol=1e-4) for one in answers)
