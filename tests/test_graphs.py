"""`kdx predict` of an export's single file, .onnx or .pt2: it answers as the folder does."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_onnx_teacher import SIDE, WEIGHT, graph
from test_predict import CPU, predict, said, town_table, train

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.runs.graphs import of_graph

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
NAMES = list("abcdefghij")
MODEL = {
    "component": {"_target_": "somebody.elses.network"},
    "task": {"_target_": "kdx.tasks.classification.Classification", "classes": NAMES},
    "reads": "pictures",
    "example": {"": [[3, SIDE, SIDE], "uint8"]},
    "adapter": None,
    "shape": [3, SIDE, SIDE],
    "classes": NAMES,
    "dataset": "folder",
    "preprocessing": {"fit": "squeeze", "background": "white"},
}


class Linear(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ torch.from_numpy(WEIGHT)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> np.ndarray:
    """An export as a folder of hand-made files, and five pictures beside it: their logits."""
    monkeypatch.chdir(tmp_path)
    Path("ex").mkdir()
    made = onnx.load(graph(Path("ex/net.onnx"), ["n", 3, SIDE, SIDE]))
    del made.graph.output[1]  # its probabilities, which kdx export does not write
    onnx.save(made, "ex/net.onnx")
    shape = ({0: torch.export.Dim("batch", min=1)},)
    rows = torch.rand(2, 3, SIDE, SIDE)
    torch.export.save(torch.export.export(Linear(), (rows,), dynamic_shapes=shape), "ex/net.pt2")
    Path("ex/model.json").write_text(json.dumps(MODEL))
    Path("pics").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(f"pics/{i}.png")
    return pixels.transpose(0, 3, 1, 2).reshape(5, -1).astype(np.float32) / 255 @ WEIGHT


def logits(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(v) for k, v in row.items() if k.startswith("logit:")] for row in rows])


def test_a_file_alone_answers_by_its_model_json(folder):
    """By hand: pixels / 255 @ weights, in blocks that do not divide the rows; no code of its network."""
    for words in (["ex/net.onnx"], ["ex/net.pt2", "trust=true"]):
        rows = predict(*words, "data=pics", "soft=logits", "batch_size=2")
        assert np.allclose(logits(rows), folder, atol=1e-4)
        assert [row["label"] for row in rows] == [NAMES[k] for k in folder.argmax(1)]
        assert [row["file"] for row in rows] == [f"{i}.png" for i in range(5)]


def test_a_pt2_file_is_opened_where_it_is_trusted_only(folder, capsys, monkeypatch):
    """Torch unpickles some of it, and calls whatever functions its graph names."""
    opened = []
    monkeypatch.setattr(torch.export, "load", lambda file: opened.append(file) or 1 / 0)
    words = ["data=pics", "to=o.csv", *CPU]
    assert "set trust=true where you know who made it" in said(["ex/net.pt2", *words], capsys)
    assert "set trust=true" in said(["ex/net.pt2", "trust=false", *words], capsys)
    assert not opened
    assert "cannot be opened by torch.export" in said(["ex/net.pt2", "trust=true", *words], capsys)
    assert opened == [Path("ex/net.pt2")]
    assert "trust= is for a .pt2 file" in said(["ex/net.onnx", "trust=true", *words], capsys)


def test_files_that_tell_too_little_or_something_else_are_refused(folder, capsys, monkeypatch):
    words, card = ["data=pics", "to=o.csv", *CPU], Path("ex/card.json")
    card.write_text(json.dumps({"formats": {"onnx": {"file": "net.onnx", "sha256": "0" * 64}}}))
    assert "does not have the content that was exported" in said(["ex/net.onnx", *words], capsys)
    card.unlink()
    for name in ("role=student", "which=last", "member=1", "key=model", "model=cnn", "dataset=digits"):
        assert "holds one whole: leave it out" in said(["ex/net.onnx", name, *words], capsys)
    assert "comes without its data" in said(["ex/net.onnx", "data=test", *words[1:]], capsys)
    fewer = MODEL | {"classes": NAMES[:4]}
    fewer["task"] = MODEL["task"] | {"classes": NAMES[:4]}
    Path("ex/model.json").write_text(json.dumps(fewer))
    assert "answers a row with (10,), and by its model.json that is (4,)" in said(
        ["ex/net.onnx", *words], capsys
    )
    Path("ex/model.json").write_text(json.dumps(MODEL | {"example": {"": [[1, SIDE, SIDE], "uint8"]}}))
    assert "cannot answer rows as its model.json tells of them" in said(["ex/net.onnx", *words], capsys)
    Path("ex/model.json").write_text(json.dumps(MODEL))
    Path("ex/bad.onnx").write_bytes(b"no graph")
    assert "'ex/bad.onnx' cannot be opened by onnxruntime" in said(["ex/bad.onnx", *words], capsys)
    assert "'ex/no.onnx' does not exist" in said(["ex/no.onnx", *words], capsys)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "an .onnx file needs onnxruntime, which is not installed: pip install 'kdx[onnx]'" in said(
        ["ex/net.onnx", *words], capsys
    )
    Path("ex/model.json").unlink()
    told = said(["ex/net.onnx", *words], capsys)
    assert (
        "has no model.json beside it" in told and "kdx train teacher=onnx 'teacher.file=ex/net.onnx'" in told
    )
    assert not Path("o.csv").exists()


def test_a_task_of_ones_own_is_let_in_by_name(folder):
    """Of code only the network's is not needed."""
    Path("ex/model.json").write_text(json.dumps(MODEL | {"task": {"_target_": "somebody.elses.Task"}}))
    with pytest.raises(
        UserError, match="which is none of kdx; if it is your own package, name it with allow="
    ):
        of_graph(Path("ex/net.onnx"), [], False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "table", "numbers", "texts"])
def test_all_formats_of_an_export_answer_alike(tmp_path, monkeypatch, kind):
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    data, named = MADE[kind]()
    train(tmp_path, *named, "teacher_pretrain.steps=8")
    assert main(["export", "run", "to=ex", "format=state_dict,torch_export,onnx"]) == 0
    shutil.rmtree("outputs", ignore_errors=True)
    own = predict("ex", data, "soft=logits" if kind != "numbers" else "top=1")
    assert len(own) > 5
    for words in (["ex/student.onnx"], ["ex/student.pt2", "trust=true"]):
        rows = predict(*words, data, "soft=logits" if kind != "numbers" else "top=1", "batch_size=7")
        for one, other in zip(rows, own, strict=True):
            for name, value in other.items():
                if name.partition(":")[0] in ("logit", "value"):
                    assert float(one[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-4)
                elif name not in ("confidence", "margin"):
                    assert one[name] == value


def _pictures() -> tuple[str, list[str]]:
    rng = np.random.default_rng(0)
    for part, count in (("train", 14), ("test", 9)):
        for level, name in ((60, "dark"), (180, "light")):
            folder = Path("pics", part, name)
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(level, 40, (10, 12, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return "data=pics/test", ["dataset=folder", "dataset.root=pics", "dataset.image_size=12"]


def _table(target: str = "kind", without: str = "price") -> tuple[str, list[str]]:
    town_table(Path("rows.csv"))
    names = [f"dataset.target={target}", f"dataset.ignore={without}", "teacher=mlp"]
    return "data=rows.csv", ["dataset=csv", "dataset.file=rows.csv", *names]


def _texts() -> tuple[str, list[str]]:
    rng = np.random.default_rng(2)
    words = {"sport": ["ball", "goal", "team", "run"], "food": ["soup", "bread", "salt", "cook"]}
    with open("rows.csv", "w", newline="") as out:
        rows = [(" ".join(rng.choice([*words[label], "the"], 6)), label) for label in [*words] * 50]
        csv.writer(out).writerows([("post", "y"), *rows])
    return "data=rows.csv", [
        "dataset=text",
        "dataset.root=rows.csv",
        "dataset.text=post",
        "dataset.labelled=20",
        "teacher=bag",
    ]


MADE = {
    "pictures": _pictures,
    "table": _table,
    "numbers": lambda: _table("price", "kind"),
    "texts": _texts,
}
