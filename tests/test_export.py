"""`kdx export`: the formats answer as the original does, the card tells what made the network, and nothing
half-made is left behind.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import kdx
from kdx import models
from kdx.cli import main
from kdx.core.errors import UserError
from kdx.data.pictures.deep import Span
from kdx.data.pictures.square import Square
from kdx.pipeline.stages.arrays import read_inputs
from kdx.pipeline.stages.files import open_network
from kdx.runs.export import card, formats, parity
from kdx.runs.export.preparing import preparation, preparing
from kdx.runs.lineage import tell
from kdx.runs.reading import read_run
from kdx.store.component import Component
from kdx.store.source import sha256

RUN = Path("outputs/runs/a=b")
OUT = RUN / "export" / "student"


@pytest.fixture
def place(trained_here) -> Path:
    return trained_here


@pytest.fixture
def exported(place) -> Path:
    assert main(["export", str(RUN), "format=state_dict"]) == 0
    return OUT


def document() -> dict:
    return json.loads((RUN / "run.json").read_text())


def read_card(folder: Path = OUT) -> dict:
    return json.loads((folder / "card.json").read_text())


def pictures(run) -> torch.Tensor:
    return torch.from_numpy(read_inputs(run.stage("prepare"), "test")[:9]).float() / 255


def reported(words, capsys, code: int = 2) -> str:
    assert main(words) == code
    text = capsys.readouterr().err
    assert "Traceback" not in text and len(text.splitlines()) <= 3, text
    return text


def test_the_student_alone_answers_as_the_original(place, capsys):
    assert main(["export", str(RUN)]) == 0
    run = read_run(RUN)
    original, pixels = open_network(run.role("student")), pictures(run)
    network = kdx.load(OUT)
    assert not network.training and torch.equal(network(pixels), original(pixels))
    program = torch.export.load(OUT / "student.pt2").module()
    for rows in (1, 2, 9):  # 1 is what a fixed batch size fails on
        assert torch.allclose(program(pixels[:rows]), original(pixels[:rows]), atol=1e-5)
    assert {p.name for p in OUT.iterdir()} == {
        "student.safetensors",
        "model.json",
        "student.pt2",
        "card.json",
        "card.md",
    }
    assert {p.stat().st_mode & 0o777 for p in OUT.iterdir()} == {0o666 & ~umask()}
    shown = capsys.readouterr().out
    assert (
        "torch_export" in shown
        and "student.pt2" in shown
        and "100.0%" in shown
        and "200 validation pictures" in shown
    )
    assert {p.name for p in (RUN / "export").iterdir()} == {"student"}
    without_kdx(OUT / "student.pt2", pixels, original(pixels))


def without_kdx(file: Path, pixels: torch.Tensor, wanted: torch.Tensor) -> None:
    np.save("in.npy", pixels.numpy())
    code = (
        "import sys; sys.modules['kdx'] = None\nimport numpy, torch\nnetwork = "
        "torch.export.load(sys.argv[1]).module()\n"
    )
    code += "numpy.save('out.npy', network(torch.from_numpy(numpy.load('in.npy'))).detach().numpy())"
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)
    assert np.allclose(np.load("out.npy"), wanted.detach().numpy(), atol=1e-5)


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_onnx_answers_as_the_original(place):
    onnxruntime = pytest.importorskip("onnxruntime")
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    assert main(["export", str(RUN), "format=onnx"]) == 0
    run = read_run(RUN)
    original, pixels = open_network(run.role("student")), pictures(run)
    session = onnxruntime.InferenceSession(str(OUT / "student.onnx"))
    for rows in (1, 9):
        (logits,) = session.run(None, {"pixels": pixels[:rows].numpy()})
        assert np.allclose(logits, original(pixels[:rows]).detach().numpy(), atol=1e-4)
    assert (
        read_card()["formats"]["onnx"]["parity"]["argmax_agreement"] == 1
        and "onnxruntime" in (OUT / "card.md").read_text()
    )


def test_without_the_extra_it_is_named_before_any_work(place, capsys, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    text = reported(["export", str(RUN), "format=onnx"], capsys)
    assert "pip install 'kdx[onnx]'" in text and "onnxruntime" in text and not OUT.exists()


def test_the_card_tells_what_made_it(exported):
    reported, run = read_card(), document()
    keys = {stage["name"]: stage["key"] for stage in run["stages"]}
    made = reported["lineage"]
    assert (
        reported["artifact"] == f"train/{keys['student-train']}"
        and reported["teacher_artifact"] == f"teacher-pretrain/{keys['teacher-pretrain']}"
    )
    assert [teacher["artifact"] for teacher in made["teachers"]] == [reported["teacher_artifact"]]
    assert (
        made["teachers"][0]["model"]["_target_"] == "kdx.models.cnn.cnn"
        and made["teachers"][0]["steps"] == 12
    )
    assert (
        made["labels"]["artifact"] == f"pseudo-label/{keys['pseudo-label']}"
        and made["labels"]["mode"] == "stored"
    )
    assert (
        made["labels"]["views"]["labelled"] >= 1
        and made["labels"]["view"] == "same"
        and made["labels"]["augment"] == ["affine"]
    )
    assert (
        made["data"]["artifact"] == f"prepare/{keys['prepare']}"
        and made["data"]["counts"] == run["protocol"]["counts"]
    )
    assert len(made["data"]["source_digests"]["files"]) == 64
    assert (
        made["loss"]["_target_"] == "kdx.methods.losses.kd.KD"
        and made["loss"]["temperature"] == 4
        and reported["seed"] == 0
    )
    assert len(made["code"]) == 64 and set(made["artifacts"]) == {
        f"{s}/{keys[n]}"
        for n, s in (
            ("decode", "decode"),
            ("prepare", "prepare"),
            ("teacher-pretrain", "teacher-pretrain"),
            ("pseudo-label", "pseudo-label"),
            ("student-train", "train"),
        )
    }
    for role in ("teacher", "baseline", "student"):
        assert (
            reported["metrics"][role]["last"]["test"]["accuracy"]
            == run["results"][role]["last"]["test"]["accuracy"]
        )
    assert reported["gain"] == pytest.approx(run["results"]["gain"])
    assert (
        reported["run"]["config"] == run["config"]
        and reported["run"]["environment"]["torch"]
        and reported["environment"]["torch"] == torch.__version__.split("+")[0]
    )
    entry = reported["formats"]["state_dict"]
    assert (
        entry["sha256"] == sha256(exported / "student.safetensors")
        and entry["parity"]["max_abs_difference"] == 0
    )
    text = (exported / "card.md").read_text()
    for part in (
        "student alone",
        "cnn\\_tiny",
        keys["teacher-pretrain"],
        keys["pseudo-label"],
        keys["prepare"],
        "KD(temperature=4",
        "kdx.load",
    ):
        assert part in text, part


COLOURED = {"shape": [3, 8, 8], "classes": ["a", "b"], "mean": [0.5] * 3, "std": [0.5] * 3}
"""Of a model.json."""


def test_the_input_is_written_down(exported):
    about = json.loads((exported / "model.json").read_text())
    assert about["input"] == {
        "name": "pixels",
        "dtype": "float32",
        "range": [0, 1],
        "shape": [1, 16, 16],
        "layout": "NCHW",
        "channels": "grey",
        "normalisation": "built in",
        "batch": "any",
    }
    assert about["classes"] == [str(i) for i in range(10)]
    assert formats.contract(COLOURED)["channels"] == "red, green, blue"
    assert "shape (N, 1, 16, 16)" in (exported / "card.md").read_text()


def test_other_roles_and_weights(place, tmp_path):
    assert (
        main(
            [
                "export",
                str(RUN),
                "role=baseline",
                "which=best",
                f"to={tmp_path / 'a, b=c'}",
                "format=state_dict",
            ]
        )
        == 0
    )
    folder = tmp_path / "a, b=c"
    best = load_file(read_run(RUN).role("baseline").file("best.safetensors"))
    assert all(torch.equal(value, best[name]) for name, value in kdx.load(folder).state_dict().items())
    assert read_card(folder)["lineage"]["labels"] is None and read_card(folder)["lineage"]["teachers"] == []
    assert "no teacher" in (folder / "card.md").read_text()


def test_without_which_the_weights_of_the_runs_table_are_taken(place, capsys):
    run = document()
    run["results"]["headline"] = "best"
    (RUN / "run.json").write_text(json.dumps(run))
    student = read_run(RUN).role("student")
    for words, which, said in (
        ([], "best", "best (on validation), which the table of its run shows"),
        (["which=last"], "last", "last (at the end of training), not those of the table of its run"),
    ):
        assert main(["export", str(RUN), "format=state_dict", *words]) == 0
        assert f"{which} weights, in " in capsys.readouterr().out
        kept, about = load_file(student.file(f"{which}.safetensors")), read_card()
        assert all(torch.equal(value, kept[name]) for name, value in kdx.load(OUT).state_dict().items())
        assert (about["which"], about["of_table"]) == (which, which == "best")
        assert about["metrics"]["student"][which]["test"]["accuracy"] is not None
        assert f"Weights: {said}." in (OUT / "card.md").read_text()


def test_a_model_of_ones_own_package_is_built_where_it_is_allowed(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef flat(*, shape, classes, **rest):\n    return "
        "nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [
        "device=cpu",
        "device.threads=1",
        "teacher_pretrain.steps=12",
        "student_train.steps=2",
        "baseline=false",
        "allow=[mine]",
    ]
    assert main(["train", *words, "student._target_=mine.flat", "hydra.run.dir=outputs/runs/mine"]) == 0
    capsys.readouterr()
    assert "which is no model of kdx" in reported(["export", "outputs/runs/mine"], capsys)
    assert main(["export", "outputs/runs/mine", "allow=mine", "to=out"]) == 0
    with pytest.raises(UserError, match="is no model of kdx"):
        kdx.load("out")
    assert kdx.load("out", allow=["mine"])(torch.rand(3, 1, 16, 16)).shape == (3, 10)
    evaluate = ["evaluate", "outputs/runs/mine", "role=student", "device=cpu", "device.threads=1"]
    assert "which is no model of kdx" in reported(evaluate, capsys)
    assert main([*evaluate, "allow=[mine]"]) == 0


def test_a_live_teacher_stands_on_the_card(place):
    words = [
        "device=cpu",
        "device.threads=1",
        "teacher_pretrain.steps=12",
        "student_train.steps=2",
        "pseudo_label.mode=live",
        "baseline=false",
    ]
    assert main(["train", *words, "hydra.run.dir=outputs/runs/live"]) == 0
    run = read_run("outputs/runs/live")
    made = tell(run.role("student"))
    assert made["labels"]["mode"] == "live" and made["labels"]["views"] is None
    assert [t["artifact"].split("/")[1] for t in made["teachers"]] == [run.role("teacher").key]


def test_an_export_is_measured_like_a_checkpoint(exported, capsys):
    wanted = document()["results"]["student"]["last"]["test"]["accuracy"]
    assert (
        main(["evaluate", str(exported), "dataset=digits", "device=cpu", "device.threads=1", "json=f.json"])
        == 0
    )
    assert json.loads(Path("f.json").read_text())["results"]["student"]["accuracy"] == pytest.approx(wanted)
    capsys.readouterr()
    assert "add dataset=NAME" in reported(
        ["evaluate", str(exported), "device=cpu", "device.threads=1"], capsys
    )


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda logits: logits + 1e-2, "a number differs by 0.01"),
        (lambda logits: logits * float("nan"), "0 of them finite"),
        (lambda logits: logits[:, :-1], "gives answers of (200, 9)"),
    ],
)
def test_an_export_that_answers_differently_leaves_nothing_behind(exported, capsys, monkeypatch, spoil, says):
    def wrong(asked):
        (asked.folder / "student.pt2").write_bytes(b"x")
        return "student.pt2", lambda pixels: spoil(asked.network(pixels))

    before = {p.name: p.read_bytes() for p in exported.iterdir()}
    monkeypatch.setitem(formats.FORMATS, "torch_export", wrong)
    text = reported(["export", str(RUN)], capsys, code=1)
    assert says in text and "nothing was written" in text
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == before  # the earlier export stays
    assert [p.name for p in (RUN / "export").iterdir()] == ["student"]
    assert main(["export", str(RUN), "to=new/there"]) == 1 and not list(Path().glob("new*"))


def test_a_difference_is_judged_by_the_size_of_the_logits():
    def large(pixels):
        return pixels.flatten(1) * 1000

    found = parity.check_parity("x", large, lambda p: large(p) + 1e-2, torch.rand(20, 1, 2, 2))
    assert 1e-3 < found["max_abs_difference"] < found["tolerance"] and found["rows"] == 20
    with pytest.raises(parity.Unlike):
        parity.check_parity("x", large, lambda p: large(p) + 0.2, torch.rand(20, 1, 2, 2))


def test_batches_of_several_sizes_cover_every_row():
    rows = torch.arange(200)
    parts = list(parity.batches(rows))
    assert torch.equal(torch.cat(parts), rows) and [len(p) for p in parts][:4] == [1, 2, 7, 64]
    assert [len(p) for p in parity.batches(rows[:3])] == [1, 2]


def test_an_earlier_export_is_replaced_and_nothing_else(exported, capsys):
    assert main(["export", str(RUN)]) == 0 and (exported / "student.pt2").exists()
    assert main(["export", str(RUN), "format=state_dict"]) == 0 and not (exported / "student.pt2").exists()
    (exported / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in reported(["export", str(RUN)], capsys)
    Path("file").write_text("x")
    assert "no earlier export" in reported(["export", str(RUN), "to=file"], capsys)
    Path("link").symlink_to(exported)
    assert "no earlier export" in reported(["export", str(RUN), "to=link"], capsys)
    assert (exported / "thesis.txt").read_text() == "years of work"


def test_what_is_missing_is_reported(place, capsys):
    assert "did you mean 'torch_export'" in reported(["export", str(RUN), "format=torch_exports"], capsys)
    assert "did you mean 'format'" in reported(["export", str(RUN), "formats=onnx"], capsys)
    assert "given: nothing" in reported(["export"], capsys)
    assert "does not exist" in reported(["export", "nowhere"], capsys)
    run = read_run(RUN)
    data = run.stage("prepare").path
    data.rename(data.with_name("away"))
    assert f"prepare/{data.name} is not in the store" in reported(["export", str(RUN)], capsys)
    Path("outputs/store").rename("outputs/gone")
    assert "is not in a store" in reported(["export", str(RUN)], capsys) and not OUT.exists()


def test_a_damaged_export_is_not_loaded(exported):
    weights = bytearray((exported / "student.safetensors").read_bytes())
    weights[-1] ^= 1
    (exported / "student.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="does not have the content that was exported"):
        kdx.load(exported)
    about = json.loads((exported / "model.json").read_text())
    (exported / "model.json").write_text(
        json.dumps(about | {"component": {"_target_": "kdx.core.files.write_atomically"}})
    )
    with pytest.raises(UserError, match="is no model of kdx"):
        kdx.load(exported)
    with pytest.raises(UserError, match="is no export of kdx"):
        kdx.load(exported.parent)


def test_names_cannot_become_markup_on_the_card(exported):
    nasty = "<script>alert(1)</script> | *a* `b` [c](d)\n# e"
    reported = read_card()
    reported |= {"model": nasty, "classes": [nasty] * 10}
    reported["lineage"]["data"]["dataset"] = nasty
    reported["lineage"]["loss"]["name"] = nasty
    reported["run"]["command"] = "```\n<script>"
    text = card.markdown(reported)
    # without code, in which all is text
    outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(r"\\`", "", text), flags=re.DOTALL)
    assert (
        "alert(1)" in outside
        and "<script>" not in outside
        and "[c](d)" not in outside
        and " *a*" not in outside
        and "\n# e" not in outside
    )
    for start in ("| 3 |", "| loss |", "| dataset |"):
        rows = [line for line in text.splitlines() if line.startswith(start)]
        assert rows and all(line.replace("\\|", "").count("|") == 3 for line in rows), rows


def test_the_evaluation_of_other_networks_is_not_shown_as_theirs(place):
    """A run.json put together from two runs: the figures are those of the keys that were evaluated."""
    other = [
        "train",
        "device=cpu",
        "device.threads=1",
        "teacher_pretrain.steps=12",
        "student_train.steps=2",
        "baseline=false",
        "hydra.run.dir=other",
    ]
    assert main(other) == 0
    stages = {s["name"]: s for s in json.loads(Path("other/run.json").read_text())["stages"]}
    mixed = [stages["student-train"] if s["name"] == "student-train" else s for s in document()["stages"]]
    (RUN / "run.json").write_text(json.dumps(document() | {"stages": mixed}))
    assert main(["export", str(RUN), "format=state_dict"]) == 0
    assert (
        "student" not in read_card()["metrics"]
        and read_card()["gain"] is None
        and "teacher" in read_card()["metrics"]
    )


class Scaled(nn.Module):
    def forward(self, x):
        return x.flatten(1) * 2


def test_a_program_takes_any_number_of_rows():
    program = formats.program(Scaled(), torch.rand(4, 1, 2, 2)).module()
    for rows in (1, 3, 50):
        assert program(torch.ones(rows, 1, 2, 2)).shape == (rows, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet20",
        "wrn_16_2",
        "vgg8",
        "mlp",
        "resnet18",
        "mobilenet",
        "mobilenet_v3_small",
        "shufflenet_v2",
        "efficientnet_b0",
    ],
)
def test_every_kind_of_network_becomes_a_program(root, tmp_path, name):
    spec = yaml.safe_load((root / "conf" / "model" / f"{name}.yaml").read_text())
    torch.manual_seed(0)
    network = models.build(Component(spec), shape=(3, 32, 32), classes=5, mean=[0.5] * 3, std=[0.2] * 3)
    with torch.no_grad():
        for weights in network.parameters():  # none stays at nothing, as a last layer may begin
            weights.add_(torch.randn_like(weights) * 0.02)
        network.train()(torch.rand(64, 3, 32, 32))  # norms see what they will normalise
    kinds = (
        ["torch_export", "onnx"]
        if all(importlib.util.find_spec(p) for p in ("onnx", "onnxscript", "onnxruntime"))
        else ["torch_export"]
    )
    asked = formats.Exported(network.eval(), tmp_path, "student", torch.rand(4, 3, 32, 32), ())
    for kind in kinds:
        _, answer = formats.FORMATS[kind](asked)
        found = parity.check_parity(name, network, answer, torch.rand(12, 3, 32, 32))
        assert found["largest_logit"] > 1e-3 and found["argmax_agreement"] == 1


def card_of(model: dict, how: dict, channels: int = 3) -> str:
    """What card.md says of preparing a row."""
    about = preparation(model, how)
    inputs = {"shape": [channels, 64, 64]} if model["reads"] == "pictures" else {}
    return "\n".join(preparing({"prepare": json.loads(json.dumps(about)), "input": inputs}))


def test_the_card_says_how_a_new_row_is_prepared(exported):
    text = (exported / "card.md").read_text()
    assert "## How a new row is prepared" in text and "it must have 16x16 pixels" in text
    assert read_card(exported)["prepare"] == {"reads": "pictures"}
    asked = {"fit": "pad", "background": "white", "image_size": 64}
    asked |= {"range": {"16-bit": [0, 4095]}}
    text = card_of({"reads": "pictures"}, asked)
    for says in (
        'on `"white"`',
        "mode RGB",
        "64x64 pixels: the long side",
        "of 16-bit pictures `0` is black (0) and `4095` white (255)",
        "`draft(None, (128, 128))`",
    ):
        assert says in text, text
    whole, _, deep = text.partition("A picture of more than eight bits")
    for part, steps in (
        (whole, ["EXIF", "lay it on", "mode RGB", "`round()`", "divide bytes"]),
        (deep, ["EXIF", "float32 from 0 to 255", "lay each", "three times", "`round()`", "bytes)", "divide"]),
    ):
        places = [part.index(step) for step in steps]
        assert places == sorted(places), part
    grey = card_of({"reads": "pictures"}, asked, channels=1).partition("A picture of more than eight")[2]
    steps = [
        "float32 from 0 to 255",
        "(19595 red + 38470 green + 7471 blue) / 65536",
        "lay each",
        "`round()`",
    ]
    assert sorted(steps, key=grey.index) == steps and "three times" not in grey and "19595" not in text
    columns = [
        {"name": "age", "mean": 3.0, "std": 1.0, "missing": 2},
        {"name": "kind", "categories": ["a", "b"], "codes": [1, 0]},
        {"name": "age is missing", "flag": True},
    ]
    text = card_of({"reads": "table", "adapter": {"columns": columns, "clip": 5.0}}, {})
    for says in (
        "| 0 | age |",
        "NaN where it is missing (or 0, then place 2 is 1)",
        "A value that is missing is NaN",
        "its category: a 0, b 1",
        "cut off at 5 deviations",
    ):
        assert says in text, text
    text = card_of({"reads": "texts", "example": {"": [[128], "int32"]}}, {})
    assert "`tokenizer.json`" in text and "128 of them" in text
    assert card_of({"reads": "numbers"}, {}) == "" and preparing({}) == []


def test_a_deep_picture_made_as_the_card_says_is_what_the_network_saw(tmp_path):
    """An odd size, of which the longer side is no whole number once it is resized."""
    values = np.random.default_rng(0).integers(0, 5000, (33, 50)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    made, beyond, odd = Square(image_size=8, fit="crop", background="white").of_values(
        tmp_path / "a.png", True, Span(0, 4095)
    )
    levels = np.clip(values.astype(np.float32) * np.float32(255 / 4095), 0, 255)
    wide = round(50 * (8 / 33))
    resized = Image.fromarray(levels).resize((wide, 8), Image.Resampling.BILINEAR)
    left = (wide - 8) // 2
    by_card = np.rint(np.asarray(resized.crop((left, 0, left + 8, 8)))).astype(np.uint8)
    assert np.array_equal(made[0], by_card) and beyond and not odd


def test_an_export_says_why_it_takes_no_device(place, capsys):
    says = "'device.threads' is no key of kdx export: an export is made and compared on the CPU"
    assert says in reported(["export", str(RUN), "device.threads=1"], capsys)
