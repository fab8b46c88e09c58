"""The files of conf/experiment: all compose and pass the checks before work on small data in the real format;
each runs to its end.
"""

import copy
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from encoders import tiny_encoder
from PIL import Image
from test_data import write_cifar, write_svhn

from kdx.cli import main
from kdx.config import compose
from kdx.config.options import options_of
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core.checks import shown
from kdx.data.pictures.rows import describe
from kdx.data.sizes import check_sizes
from kdx.data.text.rows import describe_texts
from kdx.data.text.tokens import Tokens

CONF = Path(__file__).parents[1] / "conf"
HERE = sorted(option for option in options_of("experiment") if option not in ("none", "guide"))
"""tests/test_guide_claim.py has `guide`."""
QUICK = ("folder_with_pool", "slam_imdb")
"""Those that are run by the default tests."""
TINY_ENCODER = {"student.width": 8, "student.layers": 1, "student.heads": 2, "student.inner": 12}
TINY_ENCODER |= {"student.positions": 20}
TINY = {
    "dataset.validation": 10,
    "teacher_pretrain.epochs": None,
    "teacher_pretrain.steps": 2,
    "student_train.steps": 2,
    "student_train.batch_size": 16,
    "teacher_pretrain.batch_size": 16,
    "teacher_pretrain.precision": "fp32",
    "student_train.precision": "fp32",
}
REAL = {
    "cifar10": describe((3, 32, 32), tuple("0123456789"), 50_000, (5000,) * 10, 10_000, 0),
    "cifar100": describe((3, 32, 32), tuple(map(str, range(100))), 50_000, (500,) * 100, 10_000, 0),
    "svhn": describe((3, 32, 32), tuple("0123456789"), 73_257, (7325,) * 9 + (7332,), 26_032, 531_131),
    "folder": describe(
        (3, 64, 64), tuple(map(str, range(1000))), 1_281_167, (1281,) * 999 + (1448,), 50_000, 0, True
    ),
    "text": describe_texts(
        Tokens("words", 20_000, 2, True, 256),
        ("neg", "pos"),
        {"train": 25_000, "test": 25_000, "unlabelled": 50_000},
        (12_500, 12_500),
    ),
    "digits": describe((1, 16, 16), tuple("0123456789"), 1797, (179,) * 9 + (186,), None, 0),
    "mnist5k": describe((1, 28, 28), tuple("0123456789"), 5000, (500,) * 10, None, 0),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Small data as they lie on disk: grey pictures in the folders, those of the pool nested."""
    folder = tmp_path_factory.mktemp("experiments")
    write_cifar(folder / "cifar10", 10, "python", per_file=30)
    write_cifar(folder / "cifar100", 100, "python", per_file=400)
    write_svhn(folder / "svhn", 60)
    rng = np.random.default_rng(0)
    parts = [
        f"{part}/{name}" for part in ("folder/train", "folder/test", "labelled") for name in ("no", "yes")
    ]
    for part in [*parts, "unlabelled/a", "unlabelled/b/c"]:
        (folder / part).mkdir(parents=True)
        for i in range(24):
            Image.fromarray(rng.integers(0, 256, (40, 36), np.uint8)).save(folder / part / f"{i}.png")
    write_imdb(folder / "aclImdb")
    tiny_encoder(folder / "tiny_encoder", "a dull bright film")
    return folder


def write_imdb(root):
    """As IMDb's archive is unpacked: reviews are called NUMBER_STARS.txt, those without a class NUMBER_0.txt,
    and other files lie beside them.
    """
    for part in ("train/pos", "train/neg", "train/unsup", "test/pos", "test/neg"):
        (root / part).mkdir(parents=True)
        stars = {"pos": 9, "neg": 2, "unsup": 0}[part.partition("/")[2]]
        for i in range(20):
            kind = ("dull", "bright")[i % 2 if not stars else stars > 5]
            text = f"A {kind} film, <br /><br />number {i % 7} of the {part[:2]}.\n"
            (root / part / f"{i}_{stars}.txt").write_text(text)
    for name in ("imdb.vocab", "imdbEr.txt", "README", "train/labeledBow.feat", "train/urls_pos.txt"):
        (root / name).write_text("the\n")


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def found():
    """Every experiment composed, by name: once, as that takes a third of a second each."""
    return {option: compose.check_words([f"experiment={option}"]) for option in HERE}


def small(option, config):
    """key -> value: what fits an experiment to the small data and to a few steps, and leaves its networks and
    method as they are.
    """
    name, changed = config["choices"]["dataset"], dict(TINY)
    if name in ("cifar10", "cifar100", "svhn"):
        changed |= {"dataset.root": name, "dataset.download": False}
    if name == "folder":
        changed |= {
            "dataset.root": "labelled" if option == "folder_with_pool" else "folder",
            "dataset.image_size": 32,
        }
        changed |= (
            {"dataset.unlabelled_root": "unlabelled"}
            if option == "folder_with_pool" or "noisy_student" in option
            else {}
        )
        changed |= {"loss.k": None} if config["loss"].get("k") else {}  # two classes only
    if name == "text":
        changed |= {"dataset.root": "aclImdb", "dataset.length": 16}
        changed |= {"dataset.unlabelled": 30} if config["dataset"]["unlabelled"] else {}
    if option == "distilbert_imdb":
        changed |= {"teacher.path": "tiny_encoder", "dataset.tokenizer": "tiny_encoder", **TINY_ENCODER}
    if config["dataset"]["labelled"] is not None and not option.startswith("pool_and_labels"):
        changed["dataset.labelled"] = 120 if name == "cifar100" else 20
    if config["budget"] is not None:
        changed["budget"] = 6
    changed |= {"rounds": 2} if config["rounds"] > 2 else {}
    return changed | (
        {"select.per_class": 5, "select.threshold": 0.0}
        if config["select"].get("_target_", "").endswith("Balanced")
        else {}
    )


def fitted(option, config):
    """The configuration with those values."""
    config = copy.deepcopy(config)
    for key, value in small(option, config).items():
        *path, last = key.split(".")
        node = functools.reduce(lambda node, name: node[name], path, config)
        assert last in node, key
        node[last] = value
    return config


def errors_of(option, config, looked=()):
    """looked: what the checks that read the data were made with before; experiments that differ in sizes only
    need them once.
    """
    config = fitted(option, config)
    order, errors = examine_config(config)
    alike = json.dumps(
        [config[key] for key in ("loss", "select", "recipe", "shift", "ceiling", "teacher")]
        + [config["choices"]["dataset"]]
    )
    if errors or alike in looked:
        return errors
    looked and looked.add(alike)
    return inspect(order)


def tiny_of(config):
    """The tiny network in place of both; None: they are made small by their keys."""
    if config["choices"]["init"] == "layers":
        return None
    return "bag" if config["choices"]["dataset"] == "text" else "cnn_tiny"


def test_all_compose_and_pass_the_checks_before_work_on_small_data(found):
    """With tiny networks: building the real ones takes seconds each, and their own test is a slow one."""
    wrong, looked = {}, {""}
    for option, config in found.items():
        if (name := tiny_of(config)) is None:
            if errors := errors_of(option, config):
                wrong[option] = errors
            continue
        tiny = yaml.safe_load((CONF / f"model/{name}.yaml").read_text())
        teacher, student = (
            {**tiny, "dropout": config[role].get("dropout", 0.0)} for role in ("teacher", "student")
        )
        if errors := errors_of(
            option, {**config, "teacher": {**teacher, "checkpoint": None}, "student": student}, looked
        ):
            wrong[option] = errors
    assert wrong == {}


@pytest.mark.slow
@pytest.mark.parametrize("option", HERE)
def test_the_networks_of_each_fit_its_data(option, found):
    assert errors_of(option, found[option]) == []


def test_the_sizes_of_the_protocols_fit_the_real_sets(found):
    for option, config in found.items():
        sizes = {key: config["dataset"][key] for key in ("labelled", "unlabelled", "validation", "test")}
        assert check_sizes(REAL[config["choices"]["dataset"]], **sizes) == [], option


def test_the_labelled_and_validation_sizes_are_those_of_the_papers(found):
    def sizes(folder, key="labelled"):
        return {
            name.split("/")[1]: config["dataset"][key]
            for name, config in found.items()
            if name.startswith(f"{folder}/")
        }

    assert sizes("weighted_cifar10") == {f"labels_{n}": n for n in (7500, 10000, 12500, 15000, 17500, 20000)}
    for name in ("slam_cifar10", "slam_cifar100"):
        assert sizes(name) == {"labels_1_percent": 500, "labels_5_percent": 2500} and set(
            sizes(name, "validation").values()
        ) == {500}
    for name, validation in (
        ("rad_cifar10", 1000),
        ("rad_cifar100", 1000),
        ("rad_svhn", 1000),
        ("rad_imagenet", 10000),
    ):
        assert found[name]["dataset"]["validation"] == validation
    grid = {f"labels_{n:03}_pool_{u}": (n, u) for n in (40, 100, 300) for u in (100, 300, 700)}
    both = {
        name: (n, sizes("pool_and_labels", "unlabelled")[name])
        for name, n in sizes("pool_and_labels").items()
    }
    assert both == grid and all(found[f"pool_and_labels/{name}"]["ceiling"] is True for name in grid)


def test_noisy_student_has_the_released_settings(found):
    for variant, ratio, dropout in (("b0", 1.0, 0.2), ("b1", 3.0, 0.2), ("b2", 3.0, 0.3)):
        config = found[f"noisy_student_imagenet/efficientnet_{variant}"]
        assert config["student"]["variant"] == config["teacher"]["variant"] == f"efficientnet_{variant}"
        assert (config["loss"]["unlabel_ratio"], config["student"]["dropout"]) == (ratio, dropout)
        assert config["student_train"]["labelled_share"] * config["student_train"]["batch_size"] == 512
        assert config["augment"].get("randaugment", {}).get("magnitude") == (6 if variant == "b2" else None)


def test_words_of_the_command_line_win():
    config = compose.check_words(
        ["experiment=rad_svhn", "select=margin", "student=mlp", "dataset.labelled=99"]
    )
    assert (config["choices"]["select"], config["choices"]["student"], config["dataset"]["labelled"]) == (
        "margin",
        "mlp",
        99,
    )
    config = compose.check_words(["experiment=folder_with_pool", "loss=noisy_student", "augment=[flip_crop]"])
    assert (
        config["rounds"] == 3
        and list(config["augment"]) == ["flip_crop"]
        and config["choices"]["teacher"] == "resnet18"
    )


def go(option, config):
    """Runs it with tiny networks; -> run.json"""
    folder = Path("runs") / option.replace("/", "-")
    words = [
        *([f"teacher={tiny}", f"student={tiny}"] if (tiny := tiny_of(config)) else []),
        f"hydra.run.dir={folder}",
        f"store=stores/{folder.name}",
        "device=cpu",
        "device.threads=1",
    ]
    words += [f"teacher.dropout={config['teacher']['dropout']}"] if config["teacher"].get("dropout") else []
    # no residual net here
    words += (
        ["student.stochastic_depth=0"]
        if config["student"].get("stochastic_depth") not in (None, 0, "auto")
        else []
    )
    words += [f"{key}={shown(value, bare=True)}" for key, value in small(option, config).items()]
    assert main(["train", f"experiment={option}", *words]) == 0
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize(
    "option",
    [option if option in QUICK else pytest.param(option, marks=pytest.mark.slow) for option in HERE],
)
def test_each_runs_to_its_end(option, found, capsys):
    run = go(option, found[option])
    assert run["status"] == "finished" and {"teacher", "baseline", "student"} <= run["results"].keys()
    # a fifth of 48 each to test and to choose by, all of the other folder; grey stays grey
    if option == "folder_with_pool":
        assert run["protocol"]["counts"] == {"labelled": 28, "validation": 10, "test": 10, "unlabelled": 48}
        assert json.loads(Path("runs/folder_with_pool/artifacts/prepare/data.json").read_text())["shape"] == [
            1,
            32,
            32,
        ]
        assert run["audit"]["truth_known"] is False
    if option == "slam_imdb":
        assert run["protocol"]["counts"] == {"labelled": 20, "validation": 10, "test": 40, "unlabelled": 30}
    if option == "distilbert_imdb":
        assert run["protocol"]["counts"] == {"labelled": 30, "validation": 10, "test": 40, "unlabelled": 20}
        assert "the student's blocks are the teacher's 1" in capsys.readouterr().err
    if option == "noisy_student_svhn":
        assert run["protocol"]["counts"] == {"labelled": 50, "validation": 10, "test": 60, "unlabelled": 60}
