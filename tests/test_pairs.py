"""Rows with several inputs by name, of which each network reads its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdx import models
from kdx.cli import main
from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.examples import blank
from kdx.core.several import kinds_by_name, kinds_in, word_for
from kdx.core.types import Batch, Parts, Split
from kdx.data.datasets.digits_captions import captions
from kdx.data.datasets.digits_sums import DigitsSums, sums_of
from kdx.data.datasets.pairs import PairFiles
from kdx.data.paired import PairedRows
from kdx.data.pictures.rows import Pictures
from kdx.data.tables.rows import Table, TableColumn
from kdx.data.views.augment import Affine
from kdx.data.views.chain import Chain, Views
from kdx.methods.losses.two_tasks import Standard, TwoTasks
from kdx.models.adapt import Around
from kdx.pipeline.stages.files import build_adapter
from kdx.store.component import Component
from kdx.tasks.classification import Classification

CNN = {"_target_": "kdx.models.cnn.cnn", "widths": [4], "hidden": 8, "batch_norm": False}
CNN |= {"dropout": 0.0, "stochastic_depth": 0.0}
MLP = {"_target_": "kdx.models.mlp.mlp", "hidden": 8, "dropout": 0.0, "stochastic_depth": 0.0}
TASK = Classification(classes=list("0123456789"))


def built(spec, about):
    adapter = build_adapter({"task": about.task, "adapter": about.adapter})
    return models.build_for(
        Component(spec), task=TASK, example=about.example, reads=about.reads, adapter=adapter
    )


@pytest.fixture(scope="module")
def about():
    return DigitsSums(image_size=16).describe()


def rows(count):
    random = torch.Generator().manual_seed(0)
    return {
        "picture": torch.rand(count, 1, 16, 16, generator=random),
        "sums": 8 * torch.rand(count, 16, generator=random),
    }


def test_a_word_for_rows_with_several_inputs_comes_apart_again():
    kinds = {"sums": "table", "picture": "pictures"}
    assert word_for(kinds) == "pictures+table"
    assert kinds_in("pictures+table") == ("pictures", "table")
    assert kinds_by_name("pictures+table", ["sums", "picture"]) == kinds
    assert kinds_by_name("points", ["mask", "points"]) == {}  # one input, of two arrays


def test_the_sums_of_a_picture_are_those_of_its_rows_and_columns():
    levels = np.zeros((1, 8, 8))
    levels[0, 2, 5], levels[0, 2, 6] = 1, 0.5
    sums = sums_of(levels)[0]
    assert sums[2] == 1.5 and sums[8 + 5] == 1 and sums[8 + 6] == 0.5 and sums.sum() == 3


def test_each_network_reads_its_own_input_and_no_other(about):
    x = rows(3)
    other = {**x, "picture": torch.zeros_like(x["picture"])}
    teacher, student = built(CNN, about).eval(), built({**MLP, "reads": "sums"}, about).eval()
    assert isinstance(teacher, Around) and teacher.input_name == "picture"
    assert student.input_name == "sums"
    assert torch.equal(student(x), student(other))
    assert not torch.equal(teacher(x), teacher(other))


def test_a_network_that_could_read_two_inputs_must_say_which(about):
    with pytest.raises(UserError, match=r"reads=picture or reads=sums"):
        built(MLP, about)
    with pytest.raises(UserError, match="rows here have the inputs picture"):
        built({**MLP, "reads": "picutre"}, about)
    with pytest.raises(UserError, match=r"set .*=fusion"):
        built({**MLP, "reads": ["picture", "sums"]}, about)
    with pytest.raises(UserError, match="holds rows of tables: choose"):
        built({**CNN, "reads": "sums"}, about)


def test_a_fusion_reads_both_and_ends_in_one_linear_layer(about):
    network = built({"_target_": "kdx.models.fusion.Fusion", "networks": [CNN, MLP]}, about).eval()
    x = rows(3)
    assert network(x).shape == (3, 10) and network.head.in_features == 16
    for name in x:
        assert not torch.equal(network(x), network({**x, name: torch.zeros_like(x[name])}))
    features = [member(x) for member in network.members]
    assert [tuple(found.shape) for found in features] == [(3, 8), (3, 8)]
    assert torch.allclose(network.head(torch.cat(features, 1)), network(x))


def test_a_fusion_of_the_wrong_networks_is_refused(about):
    fusion = "kdx.models.fusion.Fusion"
    with pytest.raises(UserError, match="made of 3 networks"):
        built({"_target_": fusion, "networks": [CNN, MLP, MLP]}, about)
    with pytest.raises(UserError, match="made of 2 networks, and reads names 3 inputs"):
        built({"_target_": fusion, "networks": [CNN, MLP], "reads": ["picture", "sums", "sums"]}, about)
    for few in ([], [CNN]):
        with pytest.raises(UserError, match=r"joins two or more: name .*\(picture,sums\) in networks"):
            built({"_target_": fusion, "networks": few, "reads": ["picture", "sums"]}, about)
    turned = built({"_target_": fusion, "networks": [MLP, CNN], "reads": ["sums", "picture"]}, about)
    assert [member.input_name for member in turned.members] == ["sums", "picture"]


def test_steps_change_the_input_that_they_read_and_leave_the_others(about):
    stored = {"picture": (255 * rows(4)["picture"]).to(torch.uint8), "sums": rows(4)["sums"]}
    split = Split("labelled", stored, None, {"picture": "pictures", "sums": "table"})
    chain = Chain([("affine", Affine(degrees=20, shift=0.1, scale=0.1))])
    index = torch.arange(4)
    seen, _ = Views(chain, seed=0)(split, index, torch.ones_like(index))
    clean, _ = Views(chain, seed=0)(split, index, torch.zeros_like(index))
    assert torch.equal(seen["sums"], stored["sums"])
    assert not torch.equal(seen["picture"], clean["picture"])


def paired(pictures, sums):
    labels = np.arange(pictures) % 2
    images = np.zeros((pictures, 1, 8, 8), np.uint8)
    table = Table(
        {"train": (np.zeros((sums, 2), np.float32), np.arange(sums) % 2)},
        (TableColumn("a"), TableColumn("b")),
        {"_target_": "kdx.tasks.classification.Classification", "classes": ["x", "y"]},
    )
    pair = {"picture": Pictures(images, labels, ("x", "y")), "sums": table}
    return PairedRows.of(pair, like=table, noun="digit")


def test_inputs_of_different_length_are_refused():
    assert paired(4, 4).reads == "pictures+table"
    with pytest.raises(UserError, match=r"different numbers of rows \(picture 4, sums 5\)"):
        paired(4, 5)


def test_rows_are_left_out_of_all_inputs_together():
    few = paired(4, 4).only({"train": np.array([2, 0])})
    inputs, truth = few.part("train")
    assert len(inputs["picture"]) == len(inputs["sums"]) == 2 and truth.tolist() == [0, 0]
    assert few.part("test") == (None, None)


CPU = ["device=cpu", "device.threads=1", "hydra.run.dir=run"]
KEYS = {
    "file": None,
    "target": "kind",
    "kind": "auto",
    "picture": None,
    "root": None,
    "text": None,
    "second_file": None,
    "key": None,
    "ignore": [],
    "image_size": 16,
    "fit": "crop",
    "background": "white",
    "max_pixels": 10**6,
    "on_error": "stop",
    "tokens": "words",
    "vocabulary": 100,
    "min_frequency": 1,
    "lower": True,
    "length": 6,
    "tokenizer": None,
}


def write(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def shelf(tmp_path):
    """40 rows with a picture (bright: good), a text, two numbers; a second file with other numbers by id."""
    (tmp_path / "pictures").mkdir()
    rows, others = [], []
    for i in range(40):
        kind, level = ("bad", "good")[i % 2], (40, 200)[i % 2]
        Image.fromarray(np.full((12, 12), level + i % 7, np.uint8)).save(tmp_path / f"pictures/{i}.png")
        rows.append(f"{i},pictures/{i}.png,a {kind} thing,{i % 5},{level + i},{'' if i > 35 else kind}")
        others.append(f"{i},{2 * i}")
    write(tmp_path / "rows.csv", "id,photo,caption,a,b,kind", *rows)
    write(tmp_path / "others.csv", "id,c", *others[::-1])
    return tmp_path


def pairs(shelf, **keys):
    return PairFiles(**{**KEYS, "file": str(shelf / "rows.csv"), "ignore": ["id"], **keys})


def test_a_file_of_rows_with_pictures_and_texts_has_three_inputs(shelf):
    found = pairs(shelf, picture="photo", text="caption")
    about, raw = found.describe(), found.load()
    assert about.reads == raw.reads == "pictures+table+texts" and about.train == 36 and about.pool == 4
    assert about.strata == (18, 18) and about.classes == ("bad", "good")
    inputs, truth = raw.part("train")
    assert inputs["picture"].shape == (36, 1, 16, 16) and inputs["table"].shape == (36, 2)
    assert inputs["table"][3].tolist() == [3, 203] and inputs["picture"][3].max() == 203 and truth[3] == 1
    assert raw.part("unlabelled")[0]["table"][0].tolist() == [1, 76] and raw.name("unlabelled", 0) == (
        "row 37 of rows.csv"
    )
    whole = [raw.part(part)[0] for part in ("train", "unlabelled")]
    fitted = raw.fitted(whole)
    assert fitted.part("train")[0]["text"][:].shape == (36, 6)
    assert [name for name, _ in found.files()["pictures"]][:2] == ["pictures/0.png", "pictures/1.png"]


def test_two_files_are_joined_by_a_column_or_by_their_order(shelf):
    by_key = pairs(shelf, second_file=str(shelf / "others.csv"), key="id", ignore=["photo", "caption"]).load()
    assert by_key.part("train")[0]["second"][:, 0].tolist() == [2 * i for i in range(36)]
    in_order = pairs(shelf, second_file=str(shelf / "others.csv"), ignore=["id", "photo", "caption"])
    assert in_order.load().part("train")[0]["second"][0].tolist() == [39, 78]
    assert by_key.reads == in_order.describe().reads == "table+table"


def test_numbers_may_be_predicted(shelf):
    found = pairs(shelf, picture="photo", target="b", ignore=["id", "caption", "kind"])
    assert found.describe().task["names"] == ["b"] and found.load().part("train")[1].shape == (40, 1)


def test_rows_that_do_not_belong_together_are_refused(shelf):
    few = write(shelf / "few.csv", "id,c", "0,1", "1,5")
    with pytest.raises(UserError, match=r"has 40 rows and 'few.csv' 2, .*dataset.key=NAME"):
        pairs(shelf, second_file=str(few)).describe()
    with pytest.raises(
        UserError, match=r"38 of 40 rows of rows.csv are without a row of 'few.csv' \(id=2, 3"
    ):
        pairs(shelf, second_file=str(few), key="id", ignore=[]).describe()
    twice = write(shelf / "twice.csv", "id,c", "0,1", "0,5")
    with pytest.raises(UserError, match="two rows with id=0"):
        pairs(shelf, second_file=str(twice), key="id", ignore=[]).describe()
    with pytest.raises(UserError, match="no such column"):
        pairs(shelf, second_file=str(few), key="number", ignore=[]).describe()


def test_what_is_no_pair_is_refused(shelf):
    with pytest.raises(UserError, match=r"one input alone \(table\)"):
        pairs(shelf, ignore=["id", "photo", "caption"]).describe()
    with pytest.raises(UserError, match="dataset.picture=foto, and .* no such column; did you mean 'photo'"):
        pairs(shelf, picture="foto").describe()
    with pytest.raises(UserError, match="dataset.target must name"):
        pairs(shelf, target=None, picture="photo").describe()
    (shelf / "pictures/3.png").unlink()
    with pytest.raises(UserError, match="names 1 picture that is not in"):
        pairs(shelf, picture="photo").describe()


def test_a_row_whose_picture_does_not_decode_is_named_or_left_out(shelf):
    (shelf / "pictures/3.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="3.png' does not decode"):
        pairs(shelf, picture="photo").describe()
    found = pairs(shelf, picture="photo", on_error="skip", ignore=["id", "caption"])
    raw = found.load()
    assert found.describe().train == 35 == len(raw.part("train")[1])
    assert list(raw.skipped) == ["row 4 of rows.csv"]
    assert (
        raw.part("train")[0]["table"][3].tolist() == [4, 44]
        and raw.part("train")[0]["picture"][3].max() == 44
    )


def test_what_is_black_and_white_in_deep_pictures_is_kept_for_new_ones(shelf):
    for i in range(40):
        Image.fromarray(np.full((12, 12), 1000 + 50 * i, np.uint16)).save(shelf / f"pictures/{i}.png")
    raw = pairs(shelf, picture="photo").load()
    _, about = raw.look({"labelled": raw.part("train")[0]}, lambda split, row: "")
    assert list(about["files"]["range"].values()) == [[1000, 2950]] or about["files"]["range"]


def test_captions_say_where_the_ink_is():
    levels = np.zeros((1, 8, 8))
    levels[0, :3, :3], levels[0, 5:, 5:] = 1, 0.3
    said = captions(levels, omitted=0.0, wrong=0.0, seed=0)[0].split(", ")
    assert len(said) == 9 and {"dark top left", "grey bottom right", "blank middle centre"} <= set(said)
    assert captions(levels, omitted=1.0, wrong=0.0, seed=0) == [""]
    several = np.repeat(levels, 200, 0)
    slips = [p for text in captions(several, 0.0, 0.3, 0) for p in text.split(", ") if "top left" in p]
    assert 0.1 < sum("dark" not in phrase for phrase in slips) / 200 < 0.3  # 0.3 * 2 / 3 are another word


STEPS = ["student_train.steps=12", *CPU]
NETWORK = ["teacher=cnn_tiny", "teacher_pretrain.steps=10"]


def ran(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "run/run.json").read_text())


@pytest.mark.parametrize(
    "words",
    [
        [*NETWORK, "augment=[affine]", "loss.features=cosine"],
        pytest.param(
            [
                "teacher=fusion",
                "teacher.networks=[cnn_tiny,mlp]",
                "teacher_pretrain.steps=10",
                "loss.features=rkd",
            ],
            marks=pytest.mark.slow,
        ),
        pytest.param(["teacher=sklearn", "teacher.reads=sums"], marks=pytest.mark.slow),
    ],
)
def test_a_picture_teaches_its_sums_through_the_command_line(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "dataset=digits_sums", *STEPS, *words]) == 0
    run = ran(tmp_path)
    assert run["status"] == "finished" and "student" in run["results"]
    assert (tmp_path / "run/figures/predictions.png").is_file(), "the picture of a pair is what is shown"


@pytest.mark.slow
def test_a_folder_of_pictures_with_a_file_of_rows_through_the_command_line(shelf, monkeypatch, capsys):
    monkeypatch.chdir(shelf)
    words = ["dataset=pairs", "dataset.file=rows.csv", "dataset.target=kind", "dataset.picture=photo"]
    words += [
        "dataset.text=caption",
        "dataset.ignore=[id]",
        "dataset.image_size=16",
        "dataset.min_frequency=1",
    ]
    assert main(["train", *words, *NETWORK, *STEPS]) == 0
    assert ran(shelf)["results"]["student"]["best"]["test"]["accuracy"] >= 0
    capsys.readouterr()
    assert main(["predict", "run", "data=others.csv", "to=answers.csv"]) == 2
    assert "Traceback" not in (error := capsys.readouterr().err) and "lacks" in error, (
        "its input is the table"
    )
    assert main(["predict", "run", "data=rows.csv", "to=new.csv"]) == 0
    assert len((shelf / "new.csv").read_text().splitlines()) == 41
    assert main(["predict", "run", "role=teacher", "data=pictures", "to=seen.csv"]) == 0
    assert main(["predict", "run", "data=test", "to=answers.csv"]) == 0
    assert main(["plan", *words, *NETWORK, *STEPS[:2], "student_train.lr=0.01"]) == 0


@pytest.mark.slow
def test_text_and_picture_teach_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "dataset=digits_captions",
        "teacher.networks=[cnn_tiny,bag]",
        "student=bag",
        "student_train.steps=12",
    ]
    assert main(["train", *words, "teacher_pretrain.steps=10", *CPU]) == 0
    examples = json.loads(next(tmp_path.glob("outputs/store/evaluate/*/examples.json")).read_text())
    assert any("top left" in text for text in examples["texts"])


@pytest.mark.parametrize(
    "words, said",
    [
        (["student.reads=null"], "student.reads=picture or student.reads=sums"),
        (["student.reads=table"], "rows here have the inputs picture"),
        (["augment=[mixup]"], "mixup mixes pictures"),
        (["teacher=bag"], "reads texts, and this data set holds pictures with rows of tables"),
        (
            ["student=fusion", "teacher=fusion"],
            "student=fusion is made of 2 networks, and student.reads=sums, of the inputs picture,sums, names "
            "1: say what each of the networks reads, in their order, student.reads=[picture,sums]",
        ),
        (
            ["student=fusion", "student.networks=[mlp]"],
            "student=fusion is made of 1 network, and joins two or more: name a network for each input "
            "(picture,sums) in student.networks, or choose that network alone",
        ),
        (["dataset=digits", "student.reads=sums"], "leave it out"),
        (["dataset=digits", "teacher=fusion"], "reads several inputs of a row"),
    ],
)
def test_what_does_not_go_together_is_said_in_a_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *([] if words[0].startswith("dataset=") else ["dataset=digits_sums"]), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


@pytest.mark.parametrize("teacher", ["cnn", "text_cnn", "fusion_text"])
def test_one_word_makes_another_teacher_of_captions(teacher):
    words = ["dataset=digits_captions", f"teacher={teacher}", "device=cpu"]
    assert inspect(wire(check_words(words))) == []


def test_the_numbers_of_a_second_task_are_standardised_by_what_was_seen():
    standard = Standard(2)
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0], [11.0, 5.0]])
    standard(x[:1]), standard(x[1:3])
    found = standard(x[3:])  # mean 5, deviation sqrt((16 + 4 + 0 + 36) / 4)
    assert found[0, 0].item() == pytest.approx(6 / 14**0.5) and found[0, 1] == 0
    standard.eval()
    assert torch.equal(standard(x[3:]), found) and standard.seen == 4


def two_tasks(weight, name="sums"):
    torch.manual_seed(0)
    about = DigitsSums(image_size=16).describe()
    network = built(CNN, about)
    parts = Parts(network, lambda: network, None, (), None, TASK, example=blank(about.example))
    return network, TwoTasks(parts, input=name, weight=weight)


def test_two_tasks_of_weight_0_are_the_first_alone_and_its_head_is_not_kept():
    x, y = rows(6), torch.arange(6)
    batch = Batch("labelled", torch.arange(6), torch.zeros(6, dtype=torch.int64), {"main": x}, y)
    network, both = two_tasks(0.5)
    out = both({"labelled": batch}, 0.0)
    assert set(out.terms) == {"labels", "numbers"} and out.terms["numbers"] > 0
    out.loss.backward()
    assert both.head.weight.grad.abs().sum() > 0 and both.export() is network
    _, alone = two_tasks(0.0)
    assert torch.equal(alone({"labelled": batch}, 0.0).loss, TASK.loss(network(x), y).mean())
    with pytest.raises(UserError, match="inputs of a row are picture and sums"):
        two_tasks(0.5, "ink")
    with pytest.raises(UserError, match="must be numbers, a table"):
        two_tasks(0.5, "picture")


def test_the_second_task_is_measured_on_validation():
    """A head that says b for a standardised number x: by hand, R² = 1 - mean (x - b)^2 / var x."""
    torch.manual_seed(0)
    about = DigitsSums(image_size=16, whole=True).describe()
    network = built(CNN, about)
    x = {"picture": torch.rand(4, 1, 16, 16), "sums": torch.tensor([[1.0], [3.0], [5.0], [11.0]])}
    validation = Split("validation", x, torch.zeros(4, dtype=torch.int64))
    parts = Parts(network, lambda: network, None, (), validation, TASK, example=blank(about.example))
    both = TwoTasks(parts, input="sums", weight=1.0)
    both.standard(x["sums"])  # mean 5, variance 14
    torch.nn.init.zeros_(both.head.weight), torch.nn.init.constant_(both.head.bias, 0.5)
    found = both.beside()["sums"]
    assert found["r2"] == pytest.approx(1 - 1.25) and found["rows"] == 4
    assert found["rmse"] == pytest.approx((1.25 * 14) ** 0.5, rel=1e-5)
    assert TwoTasks(parts, input="sums", weight=0.0).beside() == {}


@pytest.mark.slow
def test_a_teacher_of_two_tasks_teaches_a_student_of_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "dataset=digits_ink", *NETWORK, *STEPS]) == 0
    lines = (tmp_path / "run/metrics.jsonl").read_text()
    assert "numbers_mse" in lines
    results, report = ran(tmp_path)["results"], (tmp_path / "run/report.md").read_text()
    figures = results["teacher"]["beside"]["sums"]
    assert figures["rows"] == 200 and figures["r2"] < 1 and figures["rmse"] > 0
    assert f"second task (sums): R² {figures['r2']:.3f}" in report
    assert all("beside" not in results[role] for role in ("student", "baseline"))
    assert main(["train", "dataset=digits_ink", "teacher_loss.input=ink", *NETWORK, *CPU[:2]]) == 2
    assert "inputs of a row are picture and sums" in capsys.readouterr().err
