"""What `kdx train` says to bad input: plain lines on stderr, exit code 2, before any work, and nothing left
behind.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import os
import pickle
import shlex
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from kdx import models
from kdx.cli import main
from kdx.commands import train as command
from kdx.commands._tell import Alone
from kdx.config import compose, grid, validate
from kdx.core.errors import UserError
from kdx.data.sizes import count_rows
from kdx.models.pretrained_encoder import FrozenEncoder
from kdx.models.weights import read_weights
from kdx.store.component import Component

FOREIGN = (
    "Traceback",
    "Error executing job",
    "HYDRA_FULL_ERROR",
    "ConfigComposition",
    "OmegaConf",
    "omegaconf",
    "Could not override",
    "ANTLR",
)
"""What no user should ever read: words of the machinery."""
SHORT = ["device.threads=1", "device=cpu", "teacher_pretrain.steps=2", "student_train.steps=2"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def reported(capsys, monkeypatch):
    """Gives a command line that must be refused, and returns what it says, by lines."""
    monkeypatch.setattr(command, "run_order", lambda *anything: pytest.fail("the run began"))

    def tell(line: str | list[str]) -> list[str]:
        before = everything()
        assert main(["train", *(shlex.split(line) if isinstance(line, str) else line)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and everything() == before, "work was begun, or something left behind"
        assert not [word for word in FOREIGN if word in err], err
        assert all(len(line) < 520 for line in err.splitlines()), (
            "a wall of text: the longest lists the options of a group"
        )
        return err.splitlines()

    return tell


@pytest.fixture
def would_run(monkeypatch):
    """The orders that would run: what comes after the checks is left out."""
    orders = []

    def note(order, path, words, *more):
        orders.append(order)
        path.mkdir(parents=True, exist_ok=True)
        (path / "run.json").write_text('{"status": "finished"}')
        return 0

    monkeypatch.setattr(command, "run_order", note)
    return orders


def everything() -> set[str]:
    return {str(p) for p in Path().rglob("*")}


def ask(reported, line: str, *says: str) -> None:
    """As many lines as `says`; each must hold its text."""
    lines = reported(line)
    assert len(lines) == len(says), lines
    for text in says:
        assert [found for found in lines if text in found], (text, lines)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("loss=kb", ["loss has no option 'kb'; one of: "]),
        ("student=mobilnet", ["student has no option 'mobilnet'; did you mean 'mobilenet'?"]),
        ("student=x", ["student has no option 'x'; kdx list student shows all "]),
        (
            "loss.features=[fitnet,fitnet]",
            ["loss.features=[fitnet, fitnet] names fitnet twice, and each is taken once: name it once"],
        ),
        (
            "loss.features=[none,rkd]",
            ["loss.features=[none, rkd] names none and others, and none means that there is no other"],
        ),
        ("augment=[cutout,affine,cutout]", ["augment=[cutout, affine, cutout] names cutout twice"]),
        ("shift=[none,blur]", ["shift=[none, blur] names none and others"]),
        ("los=kd", ["'los' is no key; did you mean 'loss'?"]),
        ("+foo=1", ["'foo' is no key; one of: aggregate, allow, answer_price"]),
        ("++foo=1", ["'foo' is no key; one of: aggregate, allow, answer_price"]),
        ("foo.bar=1", ["'foo' is no key"]),
        ("loss.temprature=2", ["'loss.temprature' is no key of loss=kd; did you mean 'loss.temperature'?"]),
        ("+loss.temprature=2", ["'loss.temprature' is no key of loss=kd; did you mean 'loss.temperature'?"]),
        (
            "loss=supervised loss.temperature=2",
            ["'loss.temperature' is no key of loss=supervised, which has none"],
        ),
        (
            "student_train={lrr:1}",
            ["'student_train.lrr' is no key in 'student_train'; did you mean 'student_train.lr'?"],
        ),
        ("student_train.lr.x=1", ["'student_train.lr.x' is no key: 'student_train.lr' holds one value"]),
        ("student_train=5", ["'student_train' holds several keys (epochs, steps"]),
        ("seed={a:1}", ["'seed' holds one value, not keys of its own: write seed=VALUE"]),
        ("augment=[afine]", ["augment has no option 'afine'; did you mean 'affine'?"]),
        (
            "augment.affine.degres=1",
            ["'augment.affine.degres' is no key in 'augment.affine'; did you mean 'augment.affine.degrees'?"],
        ),
        (
            "student_train.augment.affine.degrees=1",
            ["'student_train.augment' is taken from 'augment': set augment.affine.degrees, or all of"],
        ),
        ("loss=null", ["loss has no option 'null'"]),
        ("loss=", ["loss has no option ''"]),
        ("loss=[kd]", ["loss has no option '[kd]'"]),
        ("model=cnn", ["'model' is no group to choose from: write student=cnn or teacher=cnn"]),
        ("features=vid", ["'features' is the group of a slot"]),
        ("claim=kd", ["'claim' is no group to choose from; one of: recipe, augment, shift, teacher"]),
        (
            "loss@foo=kd",
            ["'loss@foo=kd' places an option elsewhere, and each has its place: write loss=OPTION"],
        ),
        ("~seed", ["'~seed' would take away what every run needs: give it another value with seed=VALUE"]),
        ("seed=[1", ["'seed=[1' cannot be read: a bracket or a quote is left open"]),
        ("loss.temperature", ["'loss.temperature' is no setting: write key=value"]),
        ("=2", ["'=2' has no key that could be read: write key=value"]),
        (
            "loss.alpha=${foo}",
            ["'loss.alpha=${foo}' refers to a key or an environment variable that is not there"],
        ),
        ("seed=1,2", ["'seed=1,2' names several values; add -m to run them all"]),
        (
            "hydra.foo=1",
            [
                (
                    "'hydra.foo' is Hydra's own: of its keys hydra.run.dir, hydra.sweep.dir, "
                    "hydra.launcher.KEY and hydra.sweeper.KEY can be set"
                )
            ],
        ),
        ("-m seed=1,2 hydra.launcher.foo=1", ["'hydra.launcher.foo=1' is unknown to Hydra"]),
        (
            "hydra.sweep.dir=x",
            [
                (
                    "hydra.sweep.dir is the folder of the runs of -m: set hydra.run.dir=PATH "
                    "for a single run, or add -m"
                )
            ],
        ),
        ("--multrun seed=1", ["unknown flag '--multrun'; did you mean '--multirun'?"]),
        ("seed=1 --config-name x", ["unknown flag '--config-name'"]),
        ("--cfg seed=1", ["the flag --cfg needs one of: job, hydra, all"]),
        ("--resolve", ["the flag --resolve goes with --cfg"]),
    ],
)
def test_a_word_that_is_wrong_is_reported_in_one_line(reported, line, says):
    ask(reported, line, *says)


@pytest.mark.parametrize(
    ("key", "wrong", "kind", "words"),
    [
        ("device.threads", ("many", 0), "a whole number", ("auto",)),
        ("device.side_by_side", ("often",), "auto", ("true or false",)),
        ("pseudo_label.temperature", ("hot", 0), "a number", ("auto", "fitted")),
        ("round_patience", ("never", 0), "a whole number", ("null",)),
        ("pool.test", ("some", 0, 1.5), "a number", ("true", "false")),
        ("student.stochastic_depth", ("often", 1.5), "a number", ("auto",)),
        ("teacher.c", ("strong", 0), "a number", ("validation",)),
        ("dataset.encoded", ("perhaps",), "true or false", ("auto",)),
    ],
)
def test_a_number_or_a_word_is_refused_with_every_word(reported, key, wrong, kind, words):
    """Both a word that is none and a number that is too small or too large."""
    beside = {"pool.test": "pool=mnist5k", "dataset.encoded": "dataset=folder"}.get(key, "student=resnet20")
    for value in wrong:
        if key == "teacher.c":  # beside a folder of weights, as one types it
            with pytest.raises(UserError) as error:
                FrozenEncoder(shape=[8], outputs=2, vocabulary=9, path=None, c=value)
            line = str(error.value)
        else:
            (line,) = reported(f"{beside} {key}={value}")
        said, _, given = line.partition("; given: ")
        assert f"{key.rpartition('.')[2]} must be " in said and str(value) in given
        assert all(word in said for word in words) and (kind in said or not isinstance(value, str))


@pytest.mark.parametrize(
    ("line", "first", "more"),
    [
        (
            "shift=[1,2,3,4,5,6,7,8,9]",
            "shift has no option '3'; one of: ",
            "shift: 6 more of its values are wrong",
        ),
        (
            "augment=[1,2,3,4,5]",
            "augment has no option '3'; one of: ",
            "augment: 2 more of its values are wrong",
        ),
        (
            "assistants=[1,2,3,4,5]",
            "assistants has no model '3'",
            "assistants: 2 more of its values are wrong",
        ),
        (
            "allow=[a-,b-,c-,d-,e-]",
            "allow=c-: there is no package 'c-' to import",
            "allow: 2 more of its values are wrong",
        ),
        (
            "student_train={a:1,b:1,c:1,d:1,e:1}",
            "'student_train.c' is no key in 'student_train'",
            "student_train: 2 more of its values are wrong",
        ),
        (
            "student_train.milestones=[2,3,4,5,6]",
            "student_train.milestones must be greater than 0 and less than 1; given: 4",
            "student_train.milestones: 2 more of its values are wrong",
        ),
        (
            "student_train.augment={a:{b:1},c:{d:1},e:{f:1},g:{h:1},i:{j:1}}",
            "augment.e.KEY=VALUE",
            "student_train.augment: 2 more of its values are wrong",
        ),
    ],
)
def test_many_errors_in_one_value_are_reported_in_four_lines(reported, line, first, more):
    lines = reported(line)
    assert len(lines) == 4 and first in lines[2] and lines[3] == more, lines


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "loss.temperature=0 loss.alpha=3 student_train.lr=-1 dataset.labelled=99999 seed=-1",
            [
                "loss.temperature must be greater than 0; given: 0",
                "loss.alpha must be at least 0 and at most 1; given: 3",
                "student_train.lr must be greater than 0; given: -1",
                (
                    "dataset.labelled=99999 asks for 99999 rows; of 1797, less 500 for test and 200 for "
                    "validation, 1097 are available"
                ),
                "seed must be at least 0; given: -1",
            ],
        ),
        (
            (
                "loss.temperature=nan loss.alpha=-0.1 student_train.lr=abc seed=x baseline=3 "
                "dataset.labelled=abc stages=5 headline=lst"
            ),
            [
                "loss.temperature must be finite and greater than 0; given: nan",
                "loss.alpha must be at least 0 and at most 1; given: -0.1",
                "student_train.lr must be a number; given: 'abc'",
                "seed must be a whole number; given: 'x'",
                "baseline must be true or false; given: 3",
                (
                    "dataset.labelled must be an integer (a count), a number strictly between 0 and 1 (a "
                    "share) or null; given 'abc'"
                ),
                (
                    "stages must be [teacher_pretrain, pseudo_label, student_train] or the first one or two "
                    "of them; given: 5"
                ),
                "headline has no option 'lst'; did you mean 'last'?",
            ],
        ),
        (
            "student_train.epochs=0 teacher_pretrain.epochs=1 teacher_pretrain.steps=3 "
            "student_train.batch_size=0 store= allow=3 dataset.test=0 teacher.checkpoint=nope.pt "
            "loss.alpha=[0.9,3] loss._target_=kdx.methods.losses.kd.KD",
            [
                "student_train.epochs must be at least 1; given: 0",
                "teacher_pretrain.epochs=1 and teacher_pretrain.steps=3 are both given; give one of them",
                "student_train.batch_size must be at least 1; given: 0",
                "store must be the path of a folder; given: ''",
                "allow must be a list of package names, such as allow=[my_losses]; given: 3",
                "dataset.test must be 1 or more; given 0",
                "teacher.checkpoint 'nope.pt' does not exist",
                "loss.alpha must be at least 0 and at most 1; given: 3",
            ],
        ),
        (
            "student_train.optimiser=adam student_train.schedule=cosin student_train.warmup=-1 "
            "student_train.milestones=5 student_train.clip=0 student_train.precision=fp16 "
            "student_train.patience=0 student_train.target=2 student_train.labelled_share=2 "
            "student_train.evaluate_every=0 student_train.augment=5 student_train.weight_decay=null "
            "student_train.momentum=true",
            [
                "student_train.optimiser has no option 'adam'; did you mean 'adamw'?",
                "student_train.schedule has no option 'cosin'; did you mean 'cosine'?",
                "student_train.warmup must be at least 0; given: -1",
                (
                    "student_train.milestones must be a list of shares of the training, such "
                    "as [0.5, 0.75]; given: 5"
                ),
                "student_train.clip must be greater than 0; given: 0",
                "student_train.precision has no option 'fp16'; did you mean 'bf16'?",
                "student_train.patience must be at least 1; given: 0",
                "student_train.target must be greater than 0 and at most 1; given: 2",
                "student_train.labelled_share must be greater than 0 and less than 1; given: 2",
                "student_train.evaluate_every must be at least 1; given: 0",
                "student_train.augment must name options, such as student_train.augment=[affine]; given: 5",
                "student_train.weight_decay must be a number; given: null",
                "student_train.momentum must be a number; given: true",
            ],
        ),
        (
            "device.threads=0 device.workers=-1 device.compile=3 device.checkpoint_seconds=-1 "
            "pseudo_label.mode=foo pseudo_label.limit=abc pseudo_label.views=0 "
            "student_train.augment=[foo,affine] teacher_pretrain.length=5 student.dropout=2 "
            "dataset.image_size=0",
            [
                "device.threads must be at least 1, or auto; given: 0",
                "device.workers must be at least 0; given: -1",
                "device.compile must be true or false; given: 3",
                "device.checkpoint_seconds must be at least 0; given: -1",
                "pseudo_label.mode has no option 'foo'; one of: auto, live, stored",
                "pseudo_label.limit must be a whole number; given: 'abc'",
                "pseudo_label.views must be at least 1; given: 0",
                "student_train.augment has no option 'foo'; one of: affine, colour_jitter",
                "teacher_pretrain.length must read like '600 steps' or '200 epochs'; given: 5",
                "dropout must be at least 0 and less than 1; given: 2",
                "dataset.image_size must be an integer from 8 to 256; given 0",
            ],
        ),
        (
            (
                "student=mobilnet loss.temprature=3 dataset.labelled=99999 teacher_pretrain.lr=-1 "
                "student.foo=1 seed=x"
            ),
            [
                "student has no option 'mobilnet'",
                "'loss.temprature' is no key of loss=kd",
                "teacher_pretrain.lr must be greater than 0; given: -1",
                "seed must be a whole number; given: 'x'",
            ],
        ),
        (
            "-m loss=kd,kb seed=0,x loss.alpha=0.5,2",
            [
                "loss has no option 'kb'",
                "seed must be a whole number; given: 'x'",
                "loss.alpha must be at least 0 and at most 1; given: 2",
            ],
        ),
    ],
)
def test_several_errors_are_reported_together(reported, line, says):
    ask(reported, line, *says)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("student_train.epochs=0", "student_train.epochs must be at least 1; given: 0"),
        ("loss.temperature=0", "loss.temperature must be greater than 0; given: 0"),
        ("dataset.labelled=99999", "asks for 99999 rows"),
        (
            "student_train.batch_size=1",
            "student_train.batch_size must be at least 2 to hold labelled and unlabelled examples; given: 1",
        ),
        (
            "stages=[student_train]",
            "stages must be [teacher_pretrain, pseudo_label, student_train] or the first one or two of them",
        ),
        ("stages=[teacher_pretrian]", "there is no 'teacher_pretrian'; did you mean 'teacher_pretrain'?"),
        ("device=cuda", "sees 0 CUDA devices; use device=cpu or device=auto"),
        ("store=file", "store=file cannot be a folder: "),
        ("hydra.run.dir=file/x", "hydra.run.dir=file/x cannot be a folder: "),
        ("hydra.run.dir=", "hydra.run.dir must be the path of a folder; given: ''"),
        (
            "-m seed=1,2 hydra.run.dir=x",
            "hydra.run.dir is one run's folder, and -m makes several: set hydra.sweep.dir=PATH",
        ),
        ("allow=[no_such_package]", "allow=no_such_package: there is no package 'no_such_package' to import"),
        (
            "loss._target_=os.system",
            "loss._target_ 'os.system' is not allowed: no option of conf/loss has it",
        ),
        (
            "loss._target_=kdx.core.types.torch.load",
            "loss._target_ 'kdx.core.types.torch.load' is not allowed",
        ),
        (
            "loss._target_=null",
            (
                "loss._target_ must be the address of its code, such as "
                "kdx.methods.losses.adversarial.Adversarial; given: null"
            ),
        ),
        (
            "loss=mean_teacher dataset.labelled=0.3 augment=[affine,mixup]",
            "student_train.augment holds mixup, and loss=mean_teacher compares two views of a picture, of "
            "which only one could be mixed: leave mixup out",
        ),
        (
            "pseudo_label.view=clean student_train.augment=[mixup]",
            "mixup mixes two: use pseudo_label.view=same, or leave mixup out",
        ),
        (
            "dataset=folder",
            "looked for a folder of pictures in 'data/folder', and there is none: set dataset.root=PATH",
        ),
        (
            "dataset=folder dataset.root=nope",
            "looked for a folder of pictures in 'nope', and there is none: set dataset.root=PATH",
        ),
        ("teacher.checkpoint=.", "teacher.checkpoint '.' is a folder, not a file"),
        ("teacher=timm", "needs the package timm, which is not installed: pip install timm"),
    ],
)
def test_a_value_that_is_wrong_is_reported_in_one_line(reported, here, monkeypatch, line, says):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setitem(sys.modules, "timm", None)
    (here / "file").write_text("")
    ask(reported, line, says)


OWN = """
from kdx.core.types import Objective, Outcome
from kdx.core.math import cross_entropy
{at_import}

class Mine(Objective):
    uses = ("labelled",)
    def __init__(self, parts, *, file):
        super().__init__(parts)
        {at_building}
    def forward(self, streams, progress):
        batch = streams["labelled"]
        per_row = cross_entropy(self.student(batch.views["main"]), batch.y)
        return {answer}
"""
GOOD = {"at_import": "", "at_building": "self.file = file", "answer": 'Outcome({"labels": per_row.mean()})'}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"at_import": "cross_entropi"},
            "'{name}' cannot be imported: NameError: name 'cross_entropi' is not defined ({path}, line 4)",
        ),
        ({"at_import": "def"}, "'{name}' cannot be imported: SyntaxError: "),
        (
            {"at_import": "import no_such_thing"},
            "'{name}.Mine' needs the package 'no_such_thing', which is not installed",
        ),
        (
            {"at_building": "open(file)"},
            (
                "made-up data: FileNotFoundError: [Errno 2] No such file or directory: "
                "'nowhere' ({path}, line 10)"
            ),
        ),
        (
            {"answer": 'Outcome({"labels": per_row.mean() * (1 / 0)})'},
            "made-up data: ZeroDivisionError: division by zero ({path}, line 14)",
        ),
        (
            {"answer": 'Outcome({"labels": cross_entropy(self.student(batch.y), batch.y).mean()})'},
            "({path}, line 14)",
        ),
        (
            {"answer": 'Outcome({"labels": per_row})'},
            "the terms of Mine must be scalars, such as `cross_entropy(logits, y).mean()`; not so: labels",
        ),
        (
            {"answer": "Outcome({})"},
            "Mine.forward must return an Outcome with at least one term; given: Outcome(",
        ),
        (
            {"answer": "per_row.mean()"},
            "Mine.forward must return an Outcome with at least one term; given: tensor(",
        ),
        (
            {"answer": 'Outcome({"labels": per_row.mean().detach()})'},
            "the terms of Mine do not depend on the student, which would learn nothing: labels",
        ),
    ],
)
def test_what_a_loss_of_ones_own_does_wrong_is_reported_with_its_place(
    reported, tmp_path_factory, monkeypatch, change, says
):
    place, name, words = own_loss(tmp_path_factory, monkeypatch, change)
    ask(reported, words, says.format(name=name, path=place / f"{name}.py"))


def own_loss(tmp_path_factory, monkeypatch, change) -> tuple[Path, str, str]:
    """(the folder of a loss of one's own, the name of its module, the words that choose it)"""
    place = tmp_path_factory.mktemp("own")
    name = f"mine_{place.name}"  # a module of its own for each: Python imports a name once
    (place / f"{name}.py").write_text(OWN.format(**GOOD | change))
    (place / "loss").mkdir()
    (place / "loss/mine.yaml").write_text(f"# Mine\n_target_: {name}.Mine\nfile: nowhere\n")
    monkeypatch.syspath_prepend(str(place))
    return place, name, f"allow=[{name}] --config-dir {place} loss=mine"


HARD = 'Outcome({"labels": -per_row.log().gather(0, batch.y).mean()})'


def test_a_loss_that_reads_class_numbers_is_refused_where_pictures_are_mixed(
    reported, tmp_path_factory, monkeypatch
):
    """Each loss is tried on the labels that it will be given, in a sentence that says what to do."""
    place, name, words = own_loss(tmp_path_factory, monkeypatch, {"answer": HARD})
    (place / "experiment").mkdir()
    for role in ("teacher_loss", "baseline_loss"):
        (place / f"experiment/{role}.yaml").write_text(
            f"# @package _global_\n# Mine\n{role}:\n  _target_: {name}.Mine\n  file: nowhere\n"
        )
    says = (
        "{}.augment holds mixup, whose labels are probabilities of the classes, (B, 10), and Mine takes "
        "class numbers only ("
    )
    ends = (
        f"({place / name}.py, line 14)): leave mixup out, or make the loss of kdx.core.math.cross_entropy, "
        "which takes both"
    )
    refused = [
        ("augment=[affine,mixup]", "student_train"),
        ("student_train.augment=[mixup]", "student_train"),
        ("loss=kd experiment=baseline_loss student_train.augment=[mixup]", "student_train"),
        ("loss=kd experiment=teacher_loss augment=[mixup]", "teacher_pretrain"),
    ]
    for line, node in refused:
        lines = reported(words.replace("loss=mine", line if "loss=kd" in line else f"loss=mine {line}"))
        assert len(lines) == 1 and says.format(node) in lines[0] and lines[0].endswith(ends), lines


def test_a_loss_that_reads_class_numbers_runs_where_its_own_pictures_are_whole(
    would_run, tmp_path_factory, monkeypatch
):
    _, _, words = own_loss(tmp_path_factory, monkeypatch, {"answer": HARD})
    whole = ["augment=[affine]", "teacher_pretrain.augment=[mixup] student_train.augment=[affine]"]
    for line in whole:
        assert main(["train", *words.split(), *line.split()]) == 0
    assert len(would_run) == len(whole)


@pytest.mark.parametrize(
    "line", ["-m loss.alpha=7 seed=1", "loss.alpha=7 -m seed=1", "seed=1 loss.alpha=7 --multirun"]
)
def test_flags_may_stand_before_and_after(reported, line):
    ask(reported, line, "loss.alpha must be at least 0 and at most 1; given: 7")


def test_a_plus_means_nothing_more_than_the_key(would_run):
    assert main(["train", "+seed=1", "++loss.alpha=0.5", "+loss=kd"]) == 0
    assert [(o.experiment.seed, o.experiment.loss.spec["alpha"]) for o in would_run] == [(1, 0.5)]


def test_a_sweep_runs_every_combination(would_run):
    assert main(["train", "loss=glob([k*,supervised])", "-m", "seed=1", "hydra.sweep.dir=here"]) == 0
    assert [(o.experiment.loss.target.split(".")[-1], o.experiment.seed) for o in would_run] == [
        ("KD", 1),
        ("Supervised", 1),
    ]


def test_no_space_left_is_reported_before_any_work(reported, monkeypatch):
    monkeypatch.setattr(
        "kdx.config.validate.shutil.disk_usage", lambda path: type("usage", (), {"free": 1_000_000})
    )
    (line,) = reported([])
    assert (
        line.startswith("no space left for this run: it needs about ")
        and "1 MB are free; set store=PATH on another disk" in line
    )


def test_too_little_room_is_no_fault_of_a_plan(tmp_path, monkeypatch, capsys):
    """Which is made elsewhere than the run, perhaps: it is priced, and says that it would stop."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "kdx.config.validate.shutil.disk_usage", lambda path: type("usage", (), {"free": 1000})
    )
    words = ["device=cpu", "teacher=mlp_small", "student=mlp_small", "augment=none"]
    assert main(["plan", *words, "teacher_pretrain.steps=2", "student_train.steps=2"]) == 2
    shown = capsys.readouterr().out
    assert "This run will stop: no space left for this run: it needs about " in shown
    assert "student-train" in shown and "Time: about" in shown


def test_the_room_for_answers_is_that_of_the_rows_that_the_split_will_have(would_run, monkeypatch):
    """Half of 777 rows: the split rounds it down, and Python's `round` has another rule."""
    words = "dataset=synthetic dataset.train_rows=777 dataset.labelled=0.5 dataset.unlabelled=0.5 "
    words += "dataset.validation=null device=cpu"
    assert main(["train", *words.split()]) == 0
    experiment = would_run[0].experiment
    about, seen = experiment.dataset.build().describe(), []
    monkeypatch.setattr(validate, "stored_bytes", lambda counts, *more: seen.append(counts) or 0)
    validate.room(experiment, about)
    (counts,) = seen
    rows = count_rows(about, **experiment.sizes)
    assert counts == {"labelled": rows["labelled"], "unlabelled": rows["unlabelled"]}
    assert rows["labelled"] == 388


def test_a_bug_is_no_user_error(monkeypatch):
    def broken(order, **more):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("kdx.config.validate.inspect", broken)
    with pytest.raises(ZeroDivisionError):
        main(["train", "seed=77"])


def test_what_stops_a_run_on_purpose_is_no_failure_with_a_traceback(here, capsys):
    order = SimpleNamespace(store="outputs/store")
    Alone().failed(UserError("nothing is to be gained from this teacher"), here / "run", order)
    Alone().failed(KeyError("a bug"), here / "run", order)
    assert capsys.readouterr().err.splitlines() == [
        "nothing is to be gained from this teacher",
        "the run stopped; what is finished is in outputs/store",
        "KeyError: 'a bug'",
        "the run failed; its traceback is in run/run.json",
    ]


# Checkpoints


def cnn(classes: int) -> torch.nn.Module:
    from kdx.core.paths import conf_dir

    spec = yaml.safe_load((conf_dir() / "model" / "cnn.yaml").read_text())
    return models.build(Component(spec), shape=(1, 16, 16), classes=classes, mean=[0.5], std=[0.5])


def bad_checkpoint(kind: str) -> str:
    path = Path("weights.safetensors" if "safe" in kind else "weights.pt")
    whole = cnn(7 if "classes" in kind else 10).state_dict()
    torch.save(whole, path) if path.suffix == ".pt" else save_file(whole, path)
    if "cut" in kind:
        path.write_bytes(path.read_bytes()[:5000])
    elif "random" in kind:
        path.write_bytes(np.random.default_rng(0).bytes(4000))
    elif "empty" in kind:
        path.write_bytes(b"")
    elif kind == "pickled network":
        torch.save(cnn(10), path)
    elif kind == "pickled object":
        path.write_bytes(pickle.dumps(Path("x")))
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "another model":
        torch.save({"weight": torch.zeros(3)}, path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            "other classes",
            "does not fit: net.head.4.weight is [7, 128] there and [10, 128] here: it was trained for 7 "
            "classes and the data set has 10: set teacher_pretrain.epochs=5",
        ),
        ("other classes safe", "does not fit: net.head.4.weight is [7, 128] there"),
        ("cut", "is damaged: its end is missing"),
        ("cut safe", "is damaged"),
        ("random", "is damaged"),
        ("random safe", "is damaged"),
        ("empty", "is damaged: it is empty"),
        ("empty safe", "is damaged: it is empty"),
        (
            "pickled network",
            (
                "is a whole pickled network (kdx.models.adapt.Adapted), not its weights, "
                "and kdx unpickles nothing"
            ),
        ),
        ("pickled object", "holds a pickled pathlib."),
        ("list", "holds no state dict: it holds a list"),
        (
            "another model",
            "is of another model: of its names (weight, ...) none is one of this model (stage1.0.weight, ",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_named(reported, kind, says):
    path = bad_checkpoint(kind)
    (line,) = reported([f"teacher.checkpoint={path}"])
    assert line.startswith(f"the checkpoint '{path}' ") and says in line


def test_a_checkpoint_with_the_arguments_of_its_training_names_the_class_and_the_remedy(tmp_path):
    for archived in (True, False):
        path = tmp_path / f"{archived}.pt"
        torch.save(
            {"model": {"w": torch.ones(2)}, "args": argparse.Namespace(lr=0.1)},
            path,
            _use_new_zipfile_serialization=archived,
        )
        with pytest.raises(UserError) as error:
            read_weights(path)
        assert str(error.value).startswith(
            f"the checkpoint '{path}' holds a pickled argparse.Namespace, and kdx unpickles nothing"
        )
        assert "torch.save(model.state_dict(), 'weights.pt')" in str(
            error.value
        ) and "torch.save(c[KEY], 'weights.pt')" in str(error.value)


def test_a_class_that_most_files_hold_is_named_too_and_junk_is_plainly_reported(tmp_path):
    path = tmp_path / "w.pt"
    for held, name in (
        (collections.defaultdict(list), "collections.defaultdict"),
        (collections.deque([1]), "collections.deque"),
        (slice(1), "slice"),
    ):
        torch.save({"model": {"w": torch.ones(2)}, "device": torch.device("cpu"), "more": held}, path)
        with pytest.raises(UserError, match=f"holds a pickled {name}, and kdx unpickles nothing"):
            read_weights(path)
    path.write_bytes(b"junk" * 100)
    with pytest.raises(
        UserError,
        match="is damaged, or no file of weights: its bytes are none that torch.save or safetensors writes$",
    ):
        read_weights(path)


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in names:
            made.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            archive("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"),
            "is TorchScript (torch.jit.save), a program and no state dict: ",
        ),
        (archive("m/archive_format", "m/models/model.json"), "is a program of torch.export"),
        (archive("arr_0.npy"), "is an archive of numpy arrays (.npz)"),
        (archive("config.json", "model.weights.h5"), "is a model of Keras"),
        (
            archive("my/weights.pt", "my/readme.txt"),
            "is a zip archive (my/weights.pt, ...) that torch.save did not write: unpack it first",
        ),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file, as Keras writes"),
        (b"\x93NUMPY\x01", "is an array of numpy"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.0.0", "is an ONNX program"),
        (b"\x1f\x8b\x08\x00", "is compressed (gzip): unpack it first"),
        (b"\n<!DOCTYPE html><title>404</title>", "is a web page, an error page say"),
        (b'{"weight_map": {}}', "is a text file (JSON)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "is a Git LFS pointer and not the file itself: fetch it with `git lfs pull`",
        ),
    ],
)
def test_a_file_of_another_kind_is_named_as_such(tmp_path, content, says):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_weights(tmp_path / "weights.pt")
    assert f"the checkpoint '{tmp_path}/weights.pt' {says}" in str(error.value) and "\n" not in str(
        error.value
    )


def test_what_names_no_checkpoint_is_reported(reported):
    ask(
        reported,
        "student.checkpoint=/dev/null teacher.key=model_ema",
        "student.checkpoint '/dev/null' is no ordinary file",
        "teacher.key=model_ema says where in a checkpoint the weights lie, and there is none",
    )
    ask(
        reported,
        "student.checkpoint=nope.pt teacher.key=3",
        "student.checkpoint 'nope.pt' does not exist",
        "teacher.key must name where in the checkpoint",
    )


def test_a_file_that_cannot_be_read_is_reported(tmp_path, monkeypatch):
    (tmp_path / "w.pt").write_bytes(b"x")
    monkeypatch.setattr(
        Path, "open", lambda *given: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(UserError, match=r"the checkpoint '.*w\.pt' cannot be read: Permission denied"):
        read_weights(tmp_path / "w.pt")


def test_whatever_the_bytes_a_file_that_is_no_checkpoint_is_named(tmp_path):
    """The unpickler fails in several ways: of 2,000 such files 110 met an IndexError."""
    rng = np.random.default_rng(0)
    for number in range(400):
        path = tmp_path / ("weights.safetensors" if number % 8 == 0 else "weights.pt")
        path.write_bytes(rng.bytes(int(rng.integers(1, 400))))
        with pytest.raises(UserError, match="the checkpoint '.*' (is damaged|holds)"):
            read_weights(path)


def test_a_damaged_checkpoint_is_reported_beside_other_errors(reported):
    path = bad_checkpoint("cut")
    ask(
        reported,
        f"teacher.checkpoint={path} loss.alpha=3 los=kd",
        f"the checkpoint '{path}' is damaged",
        "loss.alpha must",
        "'los' is no key",
    )


# Data


def pictures(root: Path, classes: tuple[str, ...] = ("cat", "dog"), rows: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for row in range(rows):
            noise = rng.integers(0, 60, (10, 10, 3)) + 120 * number
            Image.fromarray(noise.astype(np.uint8)).save(root / name / f"{row}.png")
    return root


def test_a_folder_with_one_class_or_a_broken_picture_is_named(reported, here):
    pictures(here / "one", ("cat",))
    ask(reported, "dataset=folder dataset.root=one", "two or more of them; it holds only 'cat'")
    (pictures(here / "two") / "dog" / "3.png").write_bytes(b"no picture")
    ask(reported, "dataset=folder dataset.root=two", "the picture 'two/dog/3.png' does not decode: ")
    (here / "two" / "dog" / "3.png").unlink()
    ask(
        reported,
        "dataset=folder dataset.root=two dataset.labelled=5000",
        "dataset.labelled=5000 asks for 5000 rows",
    )


def idx(path: Path, values: np.ndarray) -> None:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


def test_a_missing_or_damaged_data_file_is_named(reported, here):
    for part, n in (("train", 40), ("t10k", 20)):
        idx(here / f"{part}-images-idx3-ubyte.gz", np.zeros((n, 28, 28)))
        idx(here / f"{part}-labels-idx1-ubyte.gz", np.arange(n) % 10)
    line = (
        "dataset=fashion_mnist dataset.root=. dataset.download=false dataset.labelled=10 "
        "dataset.validation=10"
    )
    file = here / "t10k-images-idx3-ubyte.gz"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    ask(reported, line, "t10k-images-idx3-ubyte.gz' is damaged")
    file.unlink()
    ask(
        reported,
        line,
        "the data file 't10k-images-idx3-ubyte' (or 't10k-images-idx3-ubyte.gz') is "
        "missing; looked for in '.'",
    )


@pytest.mark.parametrize("name", ["cifar10", "stl10", "svhn", "fashion_mnist dataset.system_root=nowhere"])
def test_a_download_without_a_network_is_one_sentence(reported, monkeypatch, name):
    def refuse(*arguments, **more):
        raise OSError("no network here")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    (line,) = reported(f"dataset={name} loss.temperature=2")
    assert (
        "is missing; looked for in 'data/" in line and "dataset.root=" in line and "no network here" in line
    )


# Paths


ODD = """it's a=b, c; "d" [e] {f} (g) ~h #ü \\ 'i'"""
"""A name that holds every character with a meaning to Hydra or a shell."""


@pytest.mark.slow
def test_paths_may_hold_any_character(here, capsys):
    root = pictures(here / f"data {ODD}")
    weights = here / f"weights {ODD}.pt"
    words = [
        "dataset=folder",
        f"dataset.root={root}",
        "student=mlp_small",
        "teacher=mlp_small",
        "dataset.labelled=6",
        "dataset.validation=4",
        f"store=store {ODD}",
        f"hydra.run.dir=run {ODD}",
        *SHORT,
    ]
    assert main(["train", *words]) == 0, capsys.readouterr().err
    assert (here / f"run {ODD}" / "run.json").exists() and (
        here / f"store {ODD}" / "teacher-pretrain"
    ).is_dir()
    (made,) = (here / f"store {ODD}" / "teacher-pretrain").glob("*/last.safetensors")
    from safetensors.torch import load_file

    torch.save(load_file(made), weights)
    words = [w for w in words if not w.startswith("teacher_pretrain")]
    assert main(["train", f"teacher.checkpoint={weights}", *words]) == 0, capsys.readouterr().err
    assert "teacher-pretrain: started" in capsys.readouterr().err
    assert {p.name for p in here.iterdir()} == {
        f"data {ODD}",
        f"weights {ODD}.pt",
        f"store {ODD}",
        f"run {ODD}",
    }


@pytest.mark.parametrize(
    ("given", "store"),
    [
        ("'a, b'", "a, b"),
        ("2024", "2024"),
        ("true", "true"),
        ("~/x", "~/x"),
        ("a b'", "a b'"),
        ("c\\", "c\\"),
    ],
)
def test_a_path_is_text_however_it_looks(given, store):
    assert compose.check_words(compose.quote_paths([f"store={given}"]))["store"] == store


# As a user types it


@pytest.mark.parametrize(
    ("given", "runs"),
    [
        ("a,b", ["a", "b"]),
        ("'a,b', c d", ["a,b", "c d"]),
        ('it\'s,"x, y"', ["it's", "x, y"]),
        ("choice(a=1,b (2))", ["a=1", "b (2)"]),
        ("range(1,3)", ["1", "2"]),
        ("2024,true", ["2024", "true"]),
        ("data", ["data"]),
    ],
)
def test_paths_are_swept_as_other_values_are(given, runs):
    """A comma in quotes is part of a path."""
    for key in ("dataset.root", "teacher.checkpoint"):
        jobs, errors = grid.combinations(
            grid.listed(compose.quote_paths(["dataset=folder", f"{key}={given}"], sweep=True)),
            multirun=True,
        )
        found = [compose.check_words(job) for job in jobs]
        assert errors == [] and [config[key.split(".")[0]][key.split(".")[1]] for config in found] == runs


def test_the_paths_of_a_presets_grid_are_read_as_typed_ones(monkeypatch):
    monkeypatch.setattr(grid, "grid_of", lambda preset: {"dataset.root": "a=1,b"})
    assert grid.gridded(["experiment=which_temperature"]) == [
        "dataset.root='a=1',b",
        "experiment=which_temperature",
    ]


def test_a_sweep_over_nothing_is_reported(reported):
    ask(reported, "-m seed=range(3,3)", "'seed=range(3,3)' stands for no value")


def test_the_command_itself(here):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")])
        ),
    }
    words = ["loss.temperature=0", "seed=-1"]
    done = subprocess.run(
        [sys.executable, "-m", "kdx.cli", "train", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=here,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "seed must be at least 0; given: -1",
        "loss.temperature must be greater than 0; given: 0",
    ]
    assert list(here.iterdir()) == []


def test_a_name_that_is_no_utf8_is_reported_with_its_bytes_before_any_work(reported, here, monkeypatch):
    """TensorBoard and JSON take UTF-8 only. With both folders elsewhere the working directory may be called
    anything.
    """
    odd = os.path.join(os.fsencode(here), b"caf\xe9")
    os.mkdir(odd)
    monkeypatch.chdir(odd)
    says = (
        "lies in the folder 'caf\\xe9', whose name is not UTF-8, and TensorBoard cannot write there: work in "
        "another folder, or set"
    )
    store, run, sweep = (
        f"{key} {says} {key.partition('=')[0]}=PATH"
        for key in ("store=outputs/store", "hydra.run.dir=outputs", "hydra.sweep.dir=outputs")
    )
    assert reported(SHORT) == [run, store]
    assert reported([*SHORT, "-m", "seed=0,1", f"store={here}/s"]) == [sweep]
    assert reported([*SHORT, f"hydra.run.dir={here}/r"]) == [store]
    assert grid.misplaced([f"hydra.run.dir={here}/r"], multirun=False) == []
    (line,) = reported(
        [
            "dataset=folder",
            os.fsdecode(b"dataset.root=r_caf\xe9"),
            f"store={here}/s",
            f"hydra.run.dir={here}/r",
        ]
    )
    assert line == (
        r"dataset.root must be a text of at most 4,096 letters in UTF-8, without a zero "
        r"byte; given: 'r_caf\xe9'"
    )
