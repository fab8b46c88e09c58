"""The word of another tool, or half a word, is answered with what to type in kdx, and never guessed."""

from __future__ import annotations

import pytest

from kdx.cli import main
from kdx.config.compose import composed
from kdx.config.libraries import words_for
from kdx.config.meant import ALIASES, _keys
from kdx.config.options import groups

BOTH = "did you mean student_train.{0} or teacher_pretrain.{0}?"
WORDS = [
    ("lr=0.1", BOTH.format("lr=0.1")),
    ("epochs=5", BOTH.format("epochs=5")),
    ("batch_size=64", BOTH.format("batch_size=64")),
    ("learning_rate=0.1", BOTH.format("lr=0.1")),
    ("optimizer=adam", BOTH.format("optimiser=adamw")),
    ("student.lr=1", "is no key of student=cnn_tiny; " + BOTH.format("lr=1")),
    ("teacher.lr=1", "did you mean teacher_pretrain.lr=1 or student_train.lr=1?"),
    ("trainer.max_epochs=3", BOTH.format("epochs=3")),
    ("temperature=2", "'temperature' is no key; did you mean loss.temperature=2?"),
    (
        "loss=supervised temperature=2",
        "loss.temperature is a key of loss=adversarial, loss=adversarial_kd, "
        "loss=collaborative, loss=dist or loss=distillation_token",
    ),
    ("background=black", "dataset.background is a key of dataset=coco, dataset=folder"),
    ("dropout=0.3", "did you mean student.dropout=0.3 or teacher.dropout=0.3?"),
    ("student.distillation_token=true", "is a key of student=timm, student=vit_small or student=vit_tiny"),
    ("label_smoothing=0.1", "did you mean loss=label_smoothing?"),
    ("workers=4", "did you mean device.workers=4?"),
    ("num_workers=4", "did you mean device.workers=4?"),
    ("gpu=0", "did you mean device=cuda device.device=cuda:0?"),
    ("device=gpu", "device has no option 'gpu': write device=cuda"),
    ("device=1", "write device=cuda device.device=cuda:1"),
    ("device=cuda:1", "write device=cuda device.device=cuda:1"),
    ("output=here", "did you mean hydra.run.dir=here?"),
    ("name=first", "did you mean hydra.run.dir=outputs/runs/first?"),
    ("dataset=/a/path", "write dataset=folder dataset.root=/a/path"),
    ("dataset=rows.csv", "write dataset=csv dataset.file=rows.csv dataset.target=COLUMN, or of texts"),
    ("dataset=texts/", "write dataset=text dataset.root=texts/"),
    ("data=cifar10", "did you mean dataset=cifar10?"),
    ("data=./pictures", "did you mean dataset=folder dataset.root=./pictures?"),
    ("teacher=x.pt", "write teacher.checkpoint=x.pt, with teacher=NAME"),
    ("student=a/x.safetensors", "write student.checkpoint=a/x.safetensors, with student=NAME"),
    ("loss=ce", "loss has no option 'ce': write loss=supervised"),
    ("loss=KLDiv", "write loss=kd"),
    ("loss=mse", "write loss=kd, whose terms are squared errors where numbers are predicted"),
    ("arch=resnet50", "did you mean student=resnet50 or teacher=resnet50?"),
    ("resume=true", "'resume' is no key: the same command again goes on where it was stopped"),
    ("--epochs 5", "unknown flag '--epochs'; settings are written key=value: student_train.epochs=5 or"),
    ("--lr=0.1", "settings are written key=value: student_train.lr=0.1 or teacher_pretrain.lr=0.1"),
    ("--batch-size 64 seed=1", "student_train.batch_size=64 or teacher_pretrain.batch_size=64"),
    ("--amp", "student_train.precision=bf16 or"),
    ("--seed 3", "settings are written key=value: seed=3"),
    ("--teacher=cnn", "settings are written key=value: teacher=cnn"),
    (
        "teacher.pretrained=true",
        "did you mean teacher.weights=DEFAULT, with a network that has such, teacher=res",
    ),
    ("student=resnet18 student.pretrained=1", "did you mean student.weights=DEFAULT"),
    ("weights=x.pt", "did you mean teacher.checkpoint=x.pt or student.checkpoint=x.pt?"),
    ("weights=DEFAULT", "did you mean teacher.weights=DEFAULT, with a network"),
    ("weights=debiased", "'weights' is the group of a slot: write loss.weights=OPTION"),
    ("teacher.weights=x.pt", "did you mean teacher.checkpoint=x.pt?"),
    ("--gpus 1", "settings are written key=value: device=cuda\n"),
    ("--gpus 0", "settings are written key=value: device=cpu\n"),
    ("--gpu 1", "settings are written key=value: device=cuda device.device=cuda:1"),
    ("devices=2", "did you mean device=cuda?"),
    ("student=convnext_tiny", "write student=torchvision student.name=convnext_tiny\n"),
    (
        "teacher=retinanet_resnet50_fpn",
        "write teacher=torchvision_detector teacher.name=retinanet_resnet50_fpn",
    ),
    ("teacher=swin_t", "write teacher=torchvision teacher.name=swin_t\n"),
    (
        "arch=convnext_tiny",
        "student=torchvision student.name=convnext_tiny or teacher=torchvision teacher.name",
    ),
    ("student=resnt18", "did you mean 'resnet18'?"),
    ("teacher_lr=1", "did you mean teacher_pretrain.lr=1?"),
    ("student_epochs=1", "did you mean student_train.epochs=1?"),
    ("dataset=x.svg", ".parquet: 'x.svg' is none"),
    ("data=texts/good/one.txt", "'texts/good/one.txt' is none"),
    ("dataset=rows.ndjson", "write dataset=csv dataset.file=rows.ndjson"),
    ("loss=KD", "loss has no option 'KD'; did you mean 'kd'?"),
    ("dataset=CIFAR10", "did you mean 'cifar10'?"),
    ("temprature=3", "'temprature' is no key; did you mean loss.temperature=3?"),
    ("loss.temprature=3", "did you mean 'loss.temperature'?"),
    ("T=4", "did you mean loss.temperature=4?"),
    ("bacth_size=3", BOTH.format("batch_size=3")),
    ("sed=3", "'sed' is no key; did you mean 'seed'?"),
    ("augment=hflip", "write augment=[flip]"),
    ("augment=[hflip,cutout]", "write augment=[flip]"),
    ("loss=qqqq", "weighted; your own are found by --config-dir FOLDER"),
]


@pytest.mark.parametrize(("line", "says"), WORDS)
def test_a_word_that_was_meant_otherwise_is_answered_in_one_line(line, says, tmp_path, monkeypatch, capsys):
    (tmp_path / "texts" / "good").mkdir(parents=True)
    (tmp_path / "texts" / "good" / "one.txt").write_text("a text")
    monkeypatch.chdir(tmp_path)
    assert main(["train", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1, err
    assert [path.name for path in tmp_path.iterdir()] == ["texts"], "nothing was begun"


def test_what_is_answered_is_there():
    """Every key that another tool's word leads to can be set, in the default run or with an option."""
    decoders = ["dataset=corpus", "teacher=llama_small", "student=llama_tiny"]
    known = [composed(["dataset=folder"]), composed(decoders)]
    gone = [
        key
        for key in set(ALIASES.values())
        if key not in groups() and not any(_keys(one, key) for one in known)
    ]
    assert gone == []


def test_a_name_with_the_weights_of_timm_is_one_of_timm():
    pytest.importorskip("timm")
    assert words_for("student", "resnet18.a1_in1k") == "student=timm student.name=resnet18.a1_in1k"
    assert words_for("student", "convnext_atto") == "student=timm student.name=convnext_atto"
    assert words_for("student", "no_such.net") == words_for("student", "x.pt") == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("infer R", "unknown command 'infer': write kdx predict R"),
        ("predict R source=odd to=a.csv", "'source' is no key of kdx predict; did you mean data=odd?"),
        (
            "predict R input=odd output=a.csv",
            "did you mean data=odd?\n'output' is no key of kdx predict; did you",
        ),
        ("predict R --data odd to=a.csv", "has no flag --data; settings are written key=value: data=odd\n"),
        ("predict R --source=odd to=a.csv", "settings are written key=value: data=odd\n"),
        ("predict R odd to=a.csv", "kdx predict takes what to answer as data=odd"),
        ("evaluate R --split test", "settings are written key=value: split=test\n"),
    ],
)
def test_the_words_of_other_commands(line, says, capsys):
    assert main(line.split()) == 2
    assert says in capsys.readouterr().err
