"""`teacher=onnx`: a finished network in a file answers as its graph says, on pictures as the data set gives
them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kdx import models
from kdx.cli import main
from kdx.core.errors import UserError
from kdx.models import size
from kdx.models.adapt import PictureAdapter
from kdx.models.estimator import check_kept, estimator_in, fit_to
from kdx.pipeline.stages.arrays import read_inputs
from kdx.pipeline.stages.files import open_network
from kdx.runs.reading import read_run
from kdx.store.component import Component
from kdx.store.source import Source
from kdx.tasks.classification import Classification
from kdx.tasks.regression import Regression

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

K, SIDE = 10, 4
WEIGHT = np.random.default_rng(0).normal(size=(3 * SIDE * SIDE, K)).astype(np.float32)
TASK = Classification(classes=[str(k) for k in range(K)])


def graph(file: Path, shape, softmax: bool = False, channels: int = 3, kind=None) -> str:
    """x -> flat(x) @ WEIGHT, and maybe its softmax."""
    helper, proto = onnx.helper, onnx.TensorProto
    weight = WEIGHT[: channels * SIDE * SIDE]
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
        helper.make_node("Softmax", ["y"], ["probs"]),
    ]
    outputs = [helper.make_tensor_value_info(name, proto.FLOAT, ["n", K]) for name in ("y", "probs")]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind or proto.FLOAT, shape)],
        list(reversed(outputs)) if softmax else outputs,
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return str(file)


def network(file: str, shape=(3, SIDE, SIDE), **keys) -> torch.nn.Module:
    """Fitted, as the stage does it; the data set's own normalisation must not count."""
    spec = {"_target_": "kdx.models.onnx_file.OnnxFile", "file": file}
    spec |= {"output": None, "answers": "logits", "mean": None, "std": None} | keys

    def build() -> torch.nn.Module:
        return models.build_for(
            Component(spec),
            task=TASK,
            example={"": (shape, "uint8")},
            reads="pictures",
            adapter=PictureAdapter(mean=[0.3] * shape[0], std=[0.2] * shape[0]),
        )

    made, rows = build(), torch.rand(4, *shape)
    fit_to(made, rows, torch.zeros(4, dtype=torch.int64), TASK)
    fresh = build()
    Path(file).rename(f"{file}.gone")  # what was kept is enough
    check_kept(made, fresh, rows)
    return fresh


def test_it_answers_as_its_graph_says(tmp_path):
    x = torch.rand(5, 3, SIDE, SIDE)
    wanted = x.flatten(1) @ torch.from_numpy(WEIGHT)
    made = network(graph(tmp_path / "a.onnx", ["n", 3, SIDE, SIDE]))
    assert torch.allclose(made(x), wanted, atol=1e-5)
    assert size.parameters(made) is None and size.flops(made, x[:1]) is None
    one = network(graph(tmp_path / "b.onnx", [2, 3, SIDE, SIDE]))  # two at a time, of five
    assert torch.allclose(one(x), wanted, atol=1e-5)
    last = network(graph(tmp_path / "c.onnx", ["n", SIDE, SIDE, 3]))
    assert torch.allclose(last(x), x.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(WEIGHT), atol=1e-5)
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    scaled = network(graph(tmp_path / "d.onnx", ["n", 3, SIDE, SIDE]), mean=mean, std=std)
    shown = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.allclose(scaled(x), shown.flatten(1) @ torch.from_numpy(WEIGHT), atol=1e-5)
    probs = network(graph(tmp_path / "e.onnx", ["n", 3, SIDE, SIDE], softmax=True), answers="probabilities")
    assert torch.allclose(probs(x), wanted.softmax(1).clamp_min(1e-6).log(), atol=1e-4)
    named = network(graph(tmp_path / "f.onnx", ["n", 3, SIDE, SIDE], softmax=True), output="y")
    assert torch.allclose(named(x), wanted, atol=1e-5)


def test_grey_and_larger_pictures_are_made_to_fit(tmp_path):
    x = torch.rand(2, 1, 2 * SIDE, 2 * SIDE)
    made = network(graph(tmp_path / "a.onnx", ["n", 3, SIDE, SIDE]), shape=(1, 2 * SIDE, 2 * SIDE))
    small = torch.nn.functional.interpolate(
        x.expand(-1, 3, -1, -1), size=(SIDE, SIDE), mode="bilinear", antialias=True
    )
    assert torch.allclose(made(x), small.flatten(1) @ torch.from_numpy(WEIGHT), atol=1e-5)


def test_files_that_do_not_fit_are_refused(tmp_path):
    floats = ["n", 3, SIDE, SIDE]
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no graph")
    for file, keys, says in (
        (graph(tmp_path / "a.onnx", floats, softmax=True), {}, "set teacher.answers=probabilities"),
        (
            graph(tmp_path / "b.onnx", ["n", 3 * SIDE * SIDE]),
            {},
            "must read pictures as one input of four sides",
        ),
        (graph(tmp_path / "c.onnx", floats), {"output": "z"}, "teacher.output=z is no output"),
        (graph(tmp_path / "d.onnx", floats), {"answers": "odds"}, "teacher.answers has no option .odds."),
        (graph(tmp_path / "e.onnx", floats), {"mean": [0.5]}, "mean and std want one number a channel"),
        (str(bad), {}, "cannot be opened by onnxruntime"),
        (str(tmp_path / "none.onnx"), {}, "cannot be read"),
    ):
        with pytest.raises(UserError, match=says):
            network(file, **keys)
    spec = {"_target_": "kdx.models.onnx_file.OnnxFile", "file": graph(tmp_path / "f.onnx", floats)}
    spec |= {"output": None, "answers": "logits", "mean": None, "std": None}
    few = Classification(classes=["0", "1"])
    made = models.build_for(
        Component(spec), task=few, example={"": ((3, SIDE, SIDE), "uint8")}, reads="pictures", adapter=None
    )
    with pytest.raises(UserError, match=r"gives \(10,\) numbers a row, and an answer here has 2"):
        fit_to(made, torch.rand(2, 3, SIDE, SIDE), torch.zeros(2), few)


def test_probabilities_are_such(tmp_path):
    """By hand: logits 2, 0, ... would be log(2), log(1e-6), ... if they were taken for probabilities."""
    floats = ["n", 3, SIDE, SIDE]
    with pytest.raises(UserError, match="gives no probabilities.* adding up to .*set teacher.answers=logits"):
        network(graph(tmp_path / "a.onnx", floats), answers="probabilities")
    made = network(graph(tmp_path / "b.onnx", floats, softmax=True), answers="probabilities")
    for row in ([1.5, *[0.0] * 8, -0.5], [0.5, *[0.0] * 9], [float("nan")] * K):
        estimator_in(made)._run = lambda rows, row=row: torch.tensor([[0.1] * K, row])
        with pytest.raises(UserError, match="gives no probabilities"):
            made(torch.rand(2, 3, SIDE, SIDE))
    estimator_in(made)._run = lambda rows: torch.tensor([[0.1] * K, [0.9995, *[0.0] * 9]])
    assert torch.allclose(made(torch.rand(2, 3, SIDE, SIDE))[1, :2].exp(), torch.tensor([0.9995, 1e-6]))
    numbers = Regression(names=[str(k) for k in range(K)])
    spec = {"_target_": "kdx.models.onnx_file.OnnxFile", "file": graph(tmp_path / "c.onnx", floats)}
    spec |= {"output": None, "answers": "probabilities", "mean": None, "std": None}
    example = {"": ((3, SIDE, SIDE), "uint8")}
    asked = models.build_for(Component(spec), task=numbers, example=example, reads="pictures", adapter=None)
    with pytest.raises(UserError, match="teacher.answers=probabilities is of classes"):
        fit_to(asked, torch.rand(2, 3, SIDE, SIDE), torch.zeros(2, K), numbers)


def columns_graph(file: Path, wide, labels: bool = False) -> str:
    """x (N, D) -> x @ w, and before it maybe the number of the class, as converters of other libraries do."""
    helper, proto = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [helper.make_tensor_value_info("y", proto.FLOAT, ["n", 3])]
    if labels:
        outputs.insert(0, helper.make_tensor_value_info("label", proto.INT64, ["n"]))
    weight = onnx.numpy_helper.from_array(WEIGHT[: wide if isinstance(wide, int) else 13, :3].copy(), "w")
    x = helper.make_tensor_value_info("x", proto.FLOAT, ["n", wide])
    made = helper.make_graph(nodes, "g", [x], outputs, [weight])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return str(file)


def test_rows_of_a_table_are_given_as_the_table_holds_them(tmp_path, monkeypatch, capsys):
    """By hand: the columns of wine, none of them standardised, times the weights."""
    monkeypatch.chdir(tmp_path)
    columns_graph(tmp_path / "model.onnx", "d", labels=True)
    words = ["device=cpu", "device.threads=1", "student_train.steps=4", "baseline=false", "dataset=wine"]
    words += ["teacher=onnx", "hydra.run.dir=run"]
    assert main(["train", *words, "teacher.file=model.onnx", "teacher.output=y"]) == 0
    data, rows = read_run("run").stage("prepare"), read_run("run").role("teacher")
    x = read_inputs(data, "test")
    wanted = torch.from_numpy(np.array(x, np.float32) @ WEIGHT[:13, :3])
    assert x.shape[1] == 13 and np.abs(x).max() > 100
    assert torch.allclose(open_network(rows)(torch.from_numpy(np.array(x))), wanted, rtol=1e-4, atol=1e-3)
    truth = np.load(data.file("test.truth.npy"))
    found = json.loads(Path("run/run.json").read_text())["results"]["teacher"]
    assert found["last"]["test"]["accuracy"] == pytest.approx((wanted.argmax(1).numpy() == truth).mean())
    assert main(["predict", "run", "data=test", "role=teacher", "to=o.csv", *words[:2]]) == 0
    columns_graph(tmp_path / "narrow.onnx", 4)
    capsys.readouterr()
    for more, says in (
        (["teacher.file=model.onnx"], "the output 'label' of teacher.file=model.onnx holds no floats"),
        (["teacher.file=narrow.onnx"], "reads rows of 4 numbers, and a row of this table has 13"),
        (["teacher.file=model.onnx", "teacher.output=y", "teacher.mean=[0.5]"], "are of the channels of"),
        (["teacher.file=model.onnx", "teacher.output=y", "dataset=digits"], "four sides (N, C, H, W), of"),
    ):
        assert main(["train", *words, *more]) == 2
        told = capsys.readouterr().err
        assert says in told and len(told.splitlines()) <= 3, told


def test_no_file_beside_it_is_read(tmp_path, monkeypatch):
    """A graph may name any file as its weights, and onnxruntime would look in the working directory."""
    monkeypatch.chdir(tmp_path)
    whole = onnx.load(graph(tmp_path / "a.onnx", ["n", 3, SIDE, SIDE]))
    onnx.save(whole, "b.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (tmp_path / "w.bin").stat().st_size == WEIGHT.nbytes
    with pytest.raises(UserError, match="it must be one .onnx file with its weights inside"):
        network("b.onnx")


@pytest.mark.slow
def test_a_run_with_it(tmp_path, monkeypatch, capsys):
    """It answers augmented views, is measured on every split, and is known by what the file holds."""
    monkeypatch.chdir(tmp_path)
    graph(tmp_path / "model.onnx", ["n", 3, SIDE, SIDE])
    words = ["device=cpu", "device.threads=1", "student_train.steps=4", "baseline=false", "teacher=onnx"]
    assert main(["plan", *words, "teacher.file=model.onnx"]) == 0
    told = capsys.readouterr().out
    assert "onnx, a finished network in the file 'model.onnx', answers only: " in told
    assert "taken as it is" in told and "fitted at once" not in told and "pretrained weights" not in told
    assert "with the teacher's answers" in told
    assert main(["train", *words, "teacher.file=model.onnx", "hydra.run.dir=run"]) == 0
    told = capsys.readouterr()
    assert "choose another file (teacher.file=) or another teacher (teacher=)" in told.out + told.err
    assert main(["export", "run", "to=alone", "format=state_dict"]) == 0
    card = Path("alone/card.md").read_text()
    assert "none: taken as it is" in card and f"file (digest) | `{Source('model.onnx').digest()}`" in card
    found = json.loads(Path("run/run.json").read_text())["results"]["teacher"]
    assert (found["parameters"], found["flops"], found["steps"]) == (None, None, 0)
    assert "fitted" not in found
    assert found["bytes"] > WEIGHT.nbytes and 0 < found["last"]["test"]["accuracy"] < 0.4
    Path("model.onnx").rename("moved.onnx")
    assert main(["plan", *words, "teacher.file=moved.onnx"]) == 0
    assert "Everything is in the store" in capsys.readouterr().out
    for more, says in (
        (["teacher.file=model.onnx"], "teacher.file 'model.onnx' does not exist"),
        ([], "teacher.file must name a file: teacher.file=model.onnx, say"),
        (
            ["teacher.file=moved.onnx", "teacher_pretrain.steps=9"],
            "is a finished network, and taken as it is",
        ),
        (["teacher.file=moved.onnx", "loss=vid"], "and one that only answers has none"),
        (["teacher.file=moved.onnx", "teacher.checkpoint=moved.onnx"], "onnx lies whole in its file"),
        (
            ["teacher.file=moved.onnx", "dataset=wine"],
            "must read rows as one input (N, D), of floats; it reads x tensor(float) ['n', 3, 4, 4]",
        ),
        (
            ["teacher=cnn", "student=onnx", "student.file=moved.onnx"],
            "student=onnx is finished, and not trained",
        ),
    ):
        assert main(["train", *words, *more]) == 2
        assert says in capsys.readouterr().err
