"""Parts of the user's own that are wrong: each is refused before the run, in one to three lines that name the
file and the line. The parts are those of `kdx new`, each broken in one way.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from kdx.cli import main
from kdx.config import skeletons
from kdx.config.tried_networks import _check_logits
from kdx.core.errors import WrongPart
from kdx.store.resolve import allow

SHORT = "device=cpu device.threads=1 teacher=mlp_small baseline=false store=store hydra.run.dir=run".split()
SHORT += "dataset.validation=40 dataset.test=40".split()
LAYER = "class Odd(nn.Module):\n    def forward(self, x):\n        return {}\n\n\ndef flat_net"
EVERY = {
    "syntax": (("\n", "\ndef (:\n", 1), "SyntaxError: invalid syntax"),
    "package": (("\n", "\nimport nosuchpackage\n", 1), "needs the package 'nosuchpackage'"),
    "kdx": (
        ("\n", "\nfrom kdx.core.tsk import Task\n", 1),
        "kdx has no module kdx.core.tsk; did you mean 'kdx.core.task'?",
    ),
    "import": (("\n", "\nfrom kdx.core.checks import nosuch\n", 1), "cannot import name 'nosuch'"),
    "raises": (("\n", "\n1 / 0\n", 1), "cannot be imported: ZeroDivisionError"),
    "exits": (("\n", "\nraise SystemExit(3)\n", 1), "cannot be imported: SystemExit: 3"),
}
"""What may be wrong with any file: (before, after, how often) and what is said."""


def layer(code: str) -> tuple[str, str]:
    """A layer that ends the network of the page."""
    return "flat_net", code


BROKEN = {
    "loss": {
        "base": (("(Objective)", ""), "must be a class derived from kdx.core.types.Objective"),
        "keys": (("*, weight)", "*, weigth)"), "does not take these keys"),
        "init": (("parts.teacher", "parts.techer"), "AttributeError: 'Parts' object has no attribute"),
        "super": (("super().__init__(parts)", "pass"), "must call super().__init__(parts) first"),
        "signature": (("streams, progress", "streams"), "Both.forward() takes 2 positional arguments"),
        "first batch": (("terms = {}", "terms = {}[1]"), "KeyError: 1"),
        "shape": ((".mean()", ""), "must be scalars"),
        "dtype": (("Outcome(terms)", "Outcome({k: v.long() for k, v in terms.items()})"), "do not depend on"),
        "NaN": (("self.weight * -", "float('nan') * -"), "must be finite: 'teacher_labelled' is nan"),
        "nothing": (("return Outcome(terms)", "pass"), "must return an Outcome"),
        "stream": (('uses = ("labelled",)', 'uses = ("labeled",)'), "did you mean 'labelled'?"),
        "no streams": (('uses = ("labelled",)', "pass"), "uses must name the streams"),
        "task": (("= Categorical", "= 'classes'"), "needs_task must be a class of tasks"),
    },
    "model": {
        "nothing": (("return nn", "nn"), "flat_net gives a NoneType, and must give a torch.nn.Module"),
        "init": (("check_whole(", "1 / 0, check_whole("), "ZeroDivisionError"),
        "first batch": (("math.prod(shape)", "7"), "mat1 and mat2 shapes cannot be multiplied"),
        "answers": (
            ("(units, classes)", "(units, classes + 1)"),
            "gives answers of (11,) a row",
        ),
        "softmax": (
            ("(units, classes),", "(units, classes), nn.Softmax(1),"),
            "the student answers with probabilities, as each row adds up to 1, and logits are read: leave",
        ),
        "log_softmax": (
            ("(units, classes),", "(units, classes), nn.LogSoftmax(1),"),
            "the student answers with log-probabilities, as the exponentials of each row add up to 1, and",
        ),
        "sigmoid": (
            ("(units, classes),", "(units, classes), nn.Sigmoid(),"),
            "the student answers with results of a sigmoid, each from 0 to 1, and logits are read: leave the",
        ),
        "keys": (("*, shape, classes, units", "*, shape, classes, unit"), "takes no units: let it take that"),
        "float64": (("(units, classes)", "(units, classes).double()"), "must have the same dtype"),
        "int64": ("x.long()", "answers with torch.int64 numbers"),
        "tuple": ("(x, x)", "answers with a tuple"),
        "NaN": ("x * float('nan')", "NaN or infinite numbers"),
        "chance": ("x + __import__('torch').rand(1)", "other answers when it is asked again"),
        "training": ("x if not self.training else x.nosuch", "has no attribute 'nosuch'"),
    },
    "dataset": {
        "method": (("def fetch", "def fech"), "has no method fetch"),
        "keys": (("*, rows, side", "*, rows"), "does not take these keys"),
        "init": (("self.rows = ", "1 / 0; self.rows = "), "ZeroDivisionError"),
        "files": (("return []", "return 'a.npz'"), "must give a list of paths"),
        "description": (("return describe(", "describe("), "must return a kdx.data.raw.Description"),
        "counts": (("len(labels), per", "len(labels) + 5, per"), "the train part has 1005"),
        "labels": (("0, len(CLASSES)", "0, 1 + len(CLASSES)"), "counts the rows of 3 classes, and names 2"),
        "chance": (("default_rng(0)", "default_rng()"), "when it is asked again: draw from"),
        "load chance": (("default_rng(1)", "default_rng()"), "load gives other rows of the train part when"),
        "signature": (("self, *, workers", "self"), "unexpected keyword argument 'workers'"),
        "load": (("rng, labels = ", "1 / 0; rng, labels = "), "ZeroDivisionError"),
        "shape": (("[:, None]  #", "  #"), "describe() says rows (1, 16, 16) and load() gives (16, 16)"),
        "dtype": (("np.uint8)[", "float)["), "as float64: give float32"),
        "truth": (("Pictures(images, labels,", "Pictures(images, labels[1:],"), "a truth of 999 rows"),
    },
    "torch_dataset": {
        "base": (("(TorchDataset)", ""), "object.__init__()"),
        "super": (("super().__init__", "dict"), "Dots.__init__ must call super().__init__(image_size="),
        "target_transform": (
            ("1.6, self.targets[row]", "1.6, 1 - self.targets[row]"),
            "the train part, row 0, gives the label 1, and its `targets` or `labels` hold 0",
        ),
        "late label": (
            ("1.6, self.targets[row]", "1.6, 0 if row == 901 else self.targets[row]"),
            "the train part, row 901, gives the label 0, and its `targets` or `labels` hold 1",
        ),
        "no label": (
            ("1.6, self.targets[row]", "1.6"),
            "row 0, gives a Tensor: it must give (picture,",
        ),
        "third": (
            ("1.6, self.targets[row]", "1.6, self.targets[row], row"),
            "row 0, gives 3 things: it",
        ),
        "rows": (("return _Dots(self.rows) if", "return iter([]) if"), "must be a Dataset with __len__"),
        "none": (("return _Dots(self.rows) if", "return None if"), "must give the Dataset to train with"),
        "row": (("noise = torch", "1 / 0; noise = torch"), "ZeroDivisionError"),
        "late row": (("noise = torch", "assert row != 700; noise = torch"), "AssertionError"),
        "shape": (("return noise / 1.6", "return noise[0, 0]"), "a picture of shape (24,)"),
        "dtype": (("return noise / 1.6", "return (noise * 9).long()"), "a picture of int64"),
        "range": (("return noise / 1.6", "return noise * 9"), "leave the normalisation out"),
        "NaN": (("return noise / 1.6", "return noise * float('nan')"), "NaN or infinite"),
        "chance": ((", generator=torch.Generator().manual_seed(row)", ""), "another picture each time"),
        "labels": (("row % 2 for", "row % 3 for"), "has the label 2, and there are 2 classes"),
        "words": (("row % 2 for", "'left' for"), "labels are whole numbers from 0"),
    },
    "augment": {
        "base": (("(Step)", ""), "must be a class derived from kdx.data.views.chain.Step"),
        "keys": (("*, share", "*, shear"), "does not take these keys"),
        "init": (("self.share = ", "1 / 0; self.share = "), "ZeroDivisionError"),
        "signature": (("x, draws, op", "x"), "takes 2 positional arguments"),
        "first batch": (("height = ", "1 / 0; height = "), "ZeroDivisionError"),
        "shape": (("return x.", "return x[:, :, 1:].repeat(1, 1, 2, 1); x."), "must give rows like those"),
        "dtype": (("return x.", "return x.double(); x."), "must give rows like those"),
        "NaN": (("return x.", "return x * float('nan'); x."), "gives NaN or infinite numbers"),
        "chance": (
            ("return x.", "return x * torch.rand(1); x."),
            "gives other numbers when it is asked again",
        ),
        "range": (
            ("return x.", "return x * 3 - 1; x."),
            "gives pixels from -1 to 2, and pictures are in [0, 1]",
        ),
        "rare": (("return x.", "return x + (x.amin((1, 2, 3), True) >= 1); x."), "gives pixels from 2 to 2"),
        "batch": (("return x.", "return x - x.mean(0); x."), "other numbers beside other rows"),
    },
    "transform": {
        "none": (("v2.RandomErasing(p=p)", "None"), "needs a transform that can be called"),
        "super": (
            ("super().__init__(v2.RandomErasing(p=p))", "pass"),
            "Erased.__init__ must call super().__init__(transform)",
        ),
        "normalised": (
            ("v2.RandomErasing(p=p)", "v2.Normalize([0.5], [0.5])"),
            "holds torchvision's Normalize, which leaves [0, 1]: the network normalises itself: leave it out",
        ),
        "normalised inside": (
            (
                "v2.RandomErasing(p=p)",
                "v2.Compose([v2.RandomApply([__import__('torchvision').transforms.Normalize(0.5, 0.5)])])",
            ),
            "holds torchvision's Normalize",
        ),
        "range": (("v2.RandomErasing(p=p)", "lambda x: x * 2 - 1"), "gives pixels from -1 to 1, and"),
        "name": (("v2.RandomErasing", "v2.RandomErazing"), "has no attribute 'RandomErazing'"),
        "given": (("p=p)", "p=p), given='pil'"), "given has no option 'pil'"),
        "size": (("v2.RandomErasing(p=p)", "v2.Resize(8)"), "must give rows like those"),
        "what": (("v2.RandomErasing(p=p)", "lambda x: 'x'"), "it must give one picture"),
        "first batch": (("v2.RandomErasing(p=p)", "lambda x: 1 / 0"), "ZeroDivisionError"),
        "NaN": (("v2.RandomErasing(p=p)", "lambda x: x * float('nan')"), "gives NaN or infinite numbers"),
        "chance": (
            ("v2.RandomErasing(p=p)", "lambda x: x * __import__('numpy').random.default_rng().random()"),
            "gives other numbers when it is asked again",
        ),
    },
    "select": {
        "base": (("(Rule)", ""), "must be a class derived from kdx.methods.select.Rule"),
        "keys": (("*, share", "*, shear"), "does not take these keys"),
        "needs": (('("teacher",)', '("techer",)'), "'techer' is none"),
        "signature": (("pool, count, seed", "pool"), "takes 2 positional arguments"),
        "first batch": (("odds = ", "1 / 0; odds = "), "ZeroDivisionError"),
        "nothing": (("return Chosen", "Chosen"), "must give kdx.methods.select.Chosen; it gives a NoneType"),
        "range": (("Chosen(rows,", "Chosen(rows + 100,"), "of a pool of 64 (0 to 63)"),
        "order": (("Chosen(rows,", "Chosen(rows[::-1],"), "must ascend"),
        "dtype": (("Chosen(rows,", "Chosen(highest > 0,"), "it gives bool (64,)"),
        "about": (("len(rows)}", "rows}"), "must hold plain numbers by name"),
        "chance": (
            ("Chosen(rows,", "Chosen(np.sort(np.random.permutation(rows)[:9]),"),
            "other rows when it is asked again",
        ),
    },
    "metric": {
        "base": (("(OwnMetric)", ""), "is no metric: a class that inherits from"),
        "no metric": (("metric = Metric", "metrics = Metric"), "must be a kdx.core.metric.Metric"),
        "signature": (("self, answers, truth", "self, answers"), "takes 2 positional arguments"),
        "first batch": (("return (", "1 / 0; return ("), "ZeroDivisionError"),
        "rows": ((".mean().item()", ""), "must return a number, such as found.mean().item(); given: (3,)"),
        "tensor": ((".item()", ""), "must return a number"),
        "nothing": (("return (", "("), "must return a number, such as found.mean().item(); given: null"),
        "range": ((".item()", ".item() + 7"), "values are from 0 to 1"),
        "chance": ((".item()", ".item() * __import__('random').random()"), "the same number each time"),
        "in place": (("return (", "answers.zero_(); return ("), "changes the answers"),
    },
}
"""kind -> what is wrong -> ((before, after), what is said); of a model also what a last layer returns."""
QUICK = {"base", "chance", "load chance", "range", "normalised inside", "target_transform", "softmax"}
"""Of every kind these are tried each time, and the others with the slow tests."""
ALIKE = {"transform-chance", "transform-range", "flow list", "deeper", "tab", "nothing", "a list", "no data"}
"""What another case of these looks at too: with the slow tests as well."""
CASES = [
    pytest.param(
        kind,
        *broken,
        id=f"{kind}-{what}",
        marks=[] if what in QUICK and f"{kind}-{what}" not in ALIKE else pytest.mark.slow,
    )
    for kind, ways in BROKEN.items()
    for what, broken in {**ways, **(EVERY if kind == "loss" else {})}.items()
]
CASES += [
    pytest.param(kind, *EVERY[what], id=f"{kind}-{what}", marks=pytest.mark.slow)
    for kind in BROKEN
    if kind != "loss"
    for what in ("syntax", "raises")
]
NAMES = dict.fromkeys(BROKEN, "mine") | {"model": "flat_net", "loss": "both", "torch_dataset": "dots"}
NAMES |= {
    "dataset": "stripes",
    "augment": "band",
    "transform": "erased",
    "select": "surest",
    "metric": "sure",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    allow([])
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_parts"]:
        del sys.modules[name]


def broken(text: str, change: str | tuple) -> str:
    if isinstance(change, str):  # what the last layer returns
        text = text.replace("def flat_net", LAYER.format(change), 1)
        return text.replace("nn.Linear(units, classes),", "nn.Linear(units, classes), Odd(),")
    before, after, *often = change
    assert before in text, before
    return text.replace(before, after, *often)


def ends(*layers: nn.Module, classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, classes), *layers)


class Last(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def tried(network: nn.Module, rows: torch.Tensor) -> None:
    with torch.no_grad():
        answers = network(rows)
    _check_logits("it", network, rows, answers)


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (nn.Softmax(1), "with probabilities, as each row"),
        (nn.LogSoftmax(1), "log_softmax at its end out"),
        (Last(lambda x: x - x.logsumexp(1, keepdim=True)), "log_softmax at its end out"),
        (
            Last(lambda x: torch.stack([x, -x]).softmax(2).mean(0).log()),
            "of a mixture take each row's mean off",
        ),
        (nn.Sigmoid(), "sigmoid at its end out"),
        (nn.Hardsigmoid(), "sigmoid at its end out"),
        (Last(lambda x: torch.cat([x[:, :1].sigmoid(), x[:, 1:].sigmoid()], 1)), "sigmoid at its end out"),
        (Last(lambda x: x.double().sigmoid().float()[:, None].squeeze(1)), "sigmoid at its end out"),
    ],
)
def test_what_is_no_logits_is_known_by_the_answers(end, says):
    torch.manual_seed(0)
    with pytest.raises(WrongPart, match=says):
        tried(ends(end), torch.randn(2, 5))


def test_logits_are_not_suspected():
    """Whatever the first weights are, and where the answers happen to lie between 0 and 1."""
    inside = 0
    for seed in range(60):
        torch.manual_seed(seed)
        for network in (
            ends(),
            ends(nn.ReLU()),
            ends(nn.Tanh()),
            ends(classes=2),
            ends(nn.ReLU6(), classes=2),
        ):
            rows = torch.randn(2, 5)
            inside += bool(((network(rows) >= 0) & (network(rows) <= 1)).all())
            tried(network, rows)
    assert inside > 30
    rows, shares = torch.randn(2, 5), torch.tensor([0.7, 0.2, 0.1]).log()
    gated = ends(Last(lambda x: x * x.sigmoid()))
    scaled = ends(nn.Sigmoid(), Last(lambda x: 4 * x - 2))
    centred = ends(nn.LogSoftmax(1), Last(lambda x: x - x.mean(1, keepdim=True)))
    for last in (0.0, 1e-3):
        begun = ends()
        nn.init.normal_(begun[2].weight, std=last)
        begun[2].bias.data = shares.clone()  # the classes' shares, as where one is rare
        tried(begun, rows)
    frozen = ends(nn.Sigmoid()).requires_grad_(False)  # nobody knows what made its answers
    for network in (gated, scaled, centred, frozen, ends(nn.Sigmoid(), classes=1)):
        tried(network, rows)


@pytest.mark.parametrize(("kind", "change", "says"), CASES)
def test_what_is_wrong_with_a_part_is_said_with_its_place_before_the_run(kind, change, says, here, capsys):
    name = NAMES[kind]
    for file, text in skeletons.part_files(kind, name, "my_parts").items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(broken(text, change) if file.endswith(".py") else text)
    words = shlex.split(skeletons.trying_command(kind, name, "my_parts"))[1:]
    small = SHORT if kind == "model" else [*SHORT, "student=mlp_small"]
    assert main([*words, *small]) == 2
    assert not Path("run").exists()
    said = capsys.readouterr().err.strip()
    assert says in said and "Traceback" not in said and 1 <= len(said.splitlines()) <= 3, said
    assert re.search(rf"\({re.escape(str(here))}/my_parts/{name}\.py, line \d+\)", said), said


def test_what_goes_wrong_later_names_its_place_too(here, capsys):
    """A loss that fails at its third step, which no check can know."""
    for file, text in skeletons.part_files("loss", "both", "my_parts").items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("terms = {}", "terms = {}\n        assert progress < 0.5, 'half-way'")
        Path(file).write_text(text)
    words = [*SHORT, "student=mlp_small", "dataset.unlabelled=60", "student_train.steps=4"]
    words += ["teacher_pretrain.steps=2"]
    assert main(["train", "allow=[my_parts]", "--config-dir", "my_parts/conf", "loss=both", *words]) == 1
    said = capsys.readouterr().err
    assert f"AssertionError: half-way ({here}/my_parts/both.py, line 20)" in said and "Traceback" not in said


def test_a_package_that_is_not_allowed_or_not_here(here, capsys):
    for file, text in skeletons.part_files("loss", "both", "my_parts").items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    assert main(["train", "--config-dir", "my_parts/conf", "loss=both", *SHORT]) == 2
    assert "'my_parts.both.Both' is not allowed" in capsys.readouterr().err
    Path("my_parts/both.py").rename("my_parts/moved.py")
    words = ["train", "allow=[my_parts]", "--config-dir", "my_parts/conf", "loss=both", *SHORT]
    assert main(words) == 2
    assert "_target_ 'my_parts.both.Both' does not exist" in capsys.readouterr().err
    for library in ("timm", "torchvision"):
        assert main(["train", f"teacher._target_={library}.models.resnet18", "device=cpu"]) == 2
        assert f"teacher={library} teacher.name=NAME" in capsys.readouterr().err


ODD_FILES = {
    "flow list": (
        "loss/both",
        "# a\n_target_: my_parts.both.Both\nweight: [2.0\n",
        "line 4: expected ',' or ']'",
    ),
    "indent": (
        "loss/both",
        "# a\n_target_: my_parts.both.Both\n  weight: 2\n",
        "line 3: mapping values are not",
    ),
    "tab": (
        "dataset/stripes",
        "_target_: my_parts.stripes.Stripes\nrows:\n\t- 1\n",
        "line 3: found character",
    ),
    "bytes": ("loss/both", b"# caf\xe9\n_target_: my_parts.both.Both\n", "cannot be read"),
    "deeper": (
        "model/flat_net",
        "_target_: a.b\n units: 24\n",
        "line 2: mapping values are not allowed here",
    ),
    "no target": (
        "loss/both",
        "# a\nweight: 2.0\n",
        "no _target_, the address of its code: _target_: my_parts.both",
    ),
    "no data": (
        "dataset/stripes",
        "# a\nrows: 2\n",
        "no _target_, the address of its code: _target_: my_parts.str",
    ),
    "nothing": (
        "select/surest",
        "",
        "has no _target_, the address of its code: _target_: my_parts.surest.Surest",
    ),
    "a list": ("loss/both", "- 1\n", "has no _target_"),
    "model": (
        "model/flat_net",
        "units: 24\n",
        "no _target_, the address of its code: _target_: my_parts.flat_net.fl",
    ),
    "package": (
        "student/flat_net",
        "defaults:\n  - /model@student: flat_net\n",
        "the line '# @package _global_'",
    ),
    "step": (
        "augment/band",
        "_target_: my_parts.band.Band\nshare: 0.2\n",
        "band: {_target_: my_parts.band.Band, ...}",
    ),
    "sizes": (
        "dataset/stripes",
        "_target_: my_parts.stripes.Stripes\nrows: 9\n",
        "leaves out 'dataset.labelled'",
    ),
}
"""What an option file of one's own may lack: (file, what it holds, what is said)."""
CHOSEN = {"loss": "both", "dataset": "stripes", "select": "surest", "model": "flat_net", "augment": "band"}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.slow if what in ALIKE else []) for what in ODD_FILES]
)
def test_an_option_file_that_is_broken_or_lacks_its_code_is_named(what, here, capsys):
    option, text, says = ODD_FILES[what]
    kind = option.partition("/")[0].replace("student", "model")
    for file, content in skeletons.part_files(kind, CHOSEN[kind], "my_parts").items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(content)
    odd = Path(f"my_parts/conf/{option}.yaml")
    odd.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = shlex.split(skeletons.trying_command(kind, CHOSEN[kind], "my_parts"))[1:]
    assert main([*words, "device=cpu"]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said and str(odd.absolute()) in said and "Traceback" not in said, said
    assert len(said.splitlines()) <= 3 or what == "sizes", said


def test_a_run_with_a_model_that_is_not_allowed_is_named_as_it_was_typed(here, capsys):
    for file, text in skeletons.part_files("model", "flat_net", "my_parts").items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    words = [*SHORT, "student=flat_net", "dataset.unlabelled=40", "student_train.steps=1"]
    words += ["teacher_pretrain.steps=1", "allow=[my_parts]", "--config-dir", "my_parts/conf"]
    assert main(["train", *words]) == 0
    capsys.readouterr()
    for command in (["predict", "run", "data=test", "to=a.csv"], ["evaluate", "run"]):
        assert main([*command, "device=cpu"]) == 2
        said = capsys.readouterr().err
        assert "of 'run' names 'my_parts.flat_net.flat_net', which is no model of kdx" in said
        assert "name it with allow=[my_parts]" in said and "store/" not in said


ODD_TEACHERS = {
    "no target": (
        "model/flat_net",
        "units: 24\n",
        "no _target_, the address of its code: _target_: my_parts.fl",
    ),
    "package": (
        "teacher/flat_net",
        "defaults:\n  - /model@teacher: flat_net\n",
        "the line '# @package _global_'",
    ),
    "flow list": ("teacher/flat_net", "# @package _global_\nteacher: [2.0\n", "line 3: expected ',' or ']'"),
    "bytes": ("teacher/flat_net", b"# caf\xe9\n", "cannot be read"),
    "environment": (
        "model/flat_net",
        "_target_: my_parts.flat_net.flat_net\nunits: ${oc.env:HOME}\n",
        "sets 'teacher.units' to '${oc.env:HOME}', and may refer to other keys only",
    ),
}
"""What an option file of a teacher may lack: (file, what it holds, what is said)."""


@pytest.mark.parametrize("what", ODD_TEACHERS)
def test_an_option_file_of_several_teachers_is_answered_as_that_of_one_is(what, here, capsys):
    for file, content in skeletons.part_files("model", "flat_net", "my_parts").items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(content)
    option, text, says = ODD_TEACHERS[what]
    odd = Path(f"my_parts/conf/{option}.yaml")
    odd.write_bytes(text if isinstance(text, bytes) else text.encode())
    flags, said = ["allow=[my_parts]", "--config-dir", "my_parts/conf", "device=cpu"], []
    for teachers in ("teacher=flat_net", "teachers=[flat_net]", "teachers=[cnn,flat_net,flat_net]"):
        for command in ("train", "plan"):
            assert main([command, teachers, *flags]) == 2
            said.append(capsys.readouterr().err.strip())
    assert len(set(said)) == 1, said
    assert says in said[0] and "Traceback" not in said[0]
    assert what == "environment" or str(odd.absolute()) in said[0]
    assert not Path("outputs").exists() and len(said[0].splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("weights/odd", ["loss=soft", "loss.weights=odd"]),
        ("features/odd", ["loss=soft", "loss.features=odd"]),
        ("model/odd", ["recipe=chain", "assistants=[cnn_small,odd]"]),
    ],
)
def test_an_option_file_of_a_slot_or_an_assistant_that_names_no_code_is_named(option, words, here, capsys):
    file = Path(f"conf/{option}.yaml")
    file.parent.mkdir(parents=True)
    called = "odd" if option.startswith("model") else "Odd"
    for text in ("share: 2\n", "", "_target_: null\n"):
        file.write_text(text)
        assert main(["train", "--config-dir", "conf", *words, "device=cpu"]) == 2
        said = capsys.readouterr().err.strip()
        assert said == (
            f"'{file.absolute()}' has no _target_, the address of its code: _target_: my_parts.odd.{called}"
        )


LARGE = [("dataset", what) for what in ("load", "signature", "shape", "dtype", "truth")]
LARGE += [("torch_dataset", what) for what in ("late row", "late label")]
QUICK_LARGE = {"load", "truth", "late label"}


@pytest.mark.parametrize(
    ("kind", "what"),
    [pytest.param(*one, marks=[] if one[1] in QUICK_LARGE else pytest.mark.slow) for one in LARGE],
)
def test_a_data_set_that_is_too_large_to_be_loaded_before_is_named_as_well(
    kind, what, here, capsys, monkeypatch
):
    """The stage decode says what the checks before work say of a small one, with the same file and line."""
    name = NAMES[kind]
    change, says = BROKEN[kind][what]
    for file, text in skeletons.part_files(kind, name, "my_parts").items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(broken(text, change) if file.endswith(".py") else text)
    words = shlex.split(skeletons.trying_command(kind, name, "my_parts"))[1:]
    words += [*SHORT, "student=mlp_small"]
    assert main(words) == 2
    place = re.search(r"\(\S+, line \d+\)", capsys.readouterr().err)[0]
    assert not Path("store/decode").exists()
    monkeypatch.setattr("kdx.config.tried_data._LOADED", 0)
    raised = what in (
        "load",
        "late row",
    )  # by lines of the user's own; then the traceback is kept with the run
    assert main(words) == (1 if raised else 2)
    said = capsys.readouterr().err.strip().splitlines()
    assert said.pop(0) == "decode: started" and len(said) <= 3
    assert says in said[0] and place in said[0] and "Traceback" not in said[0], (said, place)
    assert Path("run").exists() == raised
    if raised:
        document = json.loads(Path("run/run.json").read_text())
        assert document["status"] == "failed" and document["error"] == said[0]
    assert not any(len(folder.name) == 64 for folder in Path("store/decode").iterdir())
