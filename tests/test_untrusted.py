"""A run folder, a store and weights from somebody else, with the known tricks in them: each is reported in a
sentence, nothing runs, nothing is written but where the command writes. What tests/test_commands.py tries
already (keys, stages, paths in manifests) is not repeated."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from kdx.cli import main
from kdx.commands import rerun
from kdx.commands._show import show_table
from kdx.config import restore
from kdx.core.errors import UserError, printable
from kdx.core.files import DEEPEST, LARGEST, read_json
from kdx.pipeline.stages import PREPARE
from kdx.report.compare.mirror import Mirror
from kdx.runs import sweep
from kdx.runs.reading import read_run
from kdx.store.source import sha256

RUN = Path("outputs/runs/a=b")
CPU = ["device=cpu", "device.threads=1"]
CANARY = "touch canary"
READERS = [
    ["rerun", str(RUN), "to=again"],
    ["evaluate", str(RUN), *CPU],
    ["export", str(RUN)],
    ["compare", str(RUN)],
    ["cache", "gc", "yes=true"],
]
"""Every command that reads a run folder of its user's choice."""


class Bomb:
    def __reduce__(self):
        return os.system, (CANARY,)


@pytest.fixture(autouse=True)
def place(trained_here, monkeypatch) -> Path:
    """A copy of a short run, and a home and a neighbour that must stay as they are."""
    for name in ("home", "outside"):
        (trained_here / name).mkdir()
        (trained_here / name / "precious").write_text("mine")
    monkeypatch.setenv("HOME", str(trained_here / "home"))
    # else its cache would go to that home
    monkeypatch.setenv("MPLCONFIGDIR", str(trained_here / "matplotlib"))
    yield trained_here
    assert not Path("canary").exists(), "it ran"
    assert sorted(p.name for name in ("home", "outside") for p in Path(name).rglob("*")) == [
        "precious",
        "precious",
    ]
    assert all((Path(name) / "precious").read_text() == "mine" for name in ("home", "outside"))


def document() -> dict:
    return json.loads((RUN / "run.json").read_text())


def write(value) -> None:
    (RUN / "run.json").write_text(value if isinstance(value, str) else json.dumps(value))


def reported(words, capsys, code: int = 2) -> str:
    """What a command says that must refuse, quickly and in a sentence."""
    before, began = everything(), time.monotonic()
    assert main(words) == code
    said = capsys.readouterr()
    text = said.out + said.err
    assert (
        "Traceback" not in text
        and len(said.err.splitlines()) <= 4
        and not any(c in text for c in "\x1b\x07\x9b")
    ), text
    assert everything() == before and time.monotonic() - began < 20
    return text


def everything() -> list[str]:
    """What lies here, but for locks: some versions of filelock delete theirs after use."""
    return sorted(str(p) for p in Path().rglob("*") if p.suffix != ".lock" or p.is_symlink())


def artifact(role: str) -> Path:
    return read_run(RUN).role(role).path.resolve()


def forge(path: Path, name: str, content: bytes) -> None:
    """Changes a file of an artifact together with its hash, as somebody who knows the format would."""
    (path / name).unlink(missing_ok=True)
    (path / name).write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.pop("sha256", None)  # that of the manifest itself: older ones have none
    manifest["files"][name] = {"sha256": sha256(path / name), "size": len(content)}
    (path / "manifest.json").write_text(json.dumps(manifest))


# Programs in the configuration


HARM = {"_target_": "os.system", "command": CANARY}
PROGRAMS = [
    *(
        ("loss._target_", name)
        for name in (
            "os.system",
            "builtins.eval",
            "subprocess.Popen",
            "kdx.core.types.torch.load",
            "kdx.core.files.write_atomically",
            7,
        )
    ),
    ("loss", HARM),
    ("loss.weights", HARM),
    ("loss.features", HARM),
    ("loss.temperature", HARM),
    ("loss.temperature", [HARM]),
    ("teacher._target_", "kdx.models.pretrained.fetch"),
    ("teacher", HARM),
    ("teacher_loss", HARM),
    ("baseline_loss._target_", "os.system"),
    ("student.widths", [4, HARM]),
    ("student._target_", "kdx.methods.losses.kd.KD"),
    ("dataset._target_", "os.listdir"),
    ("recipe._target_", "os.system"),
    ("augment", {"x": HARM}),
    ("augment.affine", HARM),
    ("augment.affine.degrees", HARM),
    ("student_train.augment", {"affine": HARM}),
    ("student_train.strong_augment", {"x": HARM}),
    ("shift", {"x": HARM}),
    ("select", HARM),
    ("experiment", HARM),
    ("hydra", {"job_logging": {"handlers": {"x": {"()": "os.system", "command": CANARY}}}}),
    ("hydra", {"run": {"dir": "outside"}}),
    ("job_logging", {"formatters": {"x": {"class": "os.system"}}}),
    ("defaults", ["/etc/passwd"]),
    ("student_train.callback", HARM),
]


def put(config: dict, dotted: str, value) -> dict:
    config = copy.deepcopy(config)
    node = config
    *above, last = dotted.split(".")
    for name in above:
        node = node[name]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("where", "what"), PROGRAMS, ids=[f"{where}-{number}" for number, (where, _) in enumerate(PROGRAMS)]
)
def test_a_program_in_the_configuration_is_refused(where, what, capsys):
    write(document() | {"config": put(document()["config"], where, what)})
    text = reported(["rerun", str(RUN), "to=again"], capsys)
    assert where.split(".")[0] in text


WORDS = ["${oc.env:HOME}", "${oc.decode:'{a: 1}'}", "a ${oc.env:HOME} b", "${hydra:runtime.cwd}", "${store}"]


@pytest.mark.parametrize("word", WORDS)
def test_what_would_be_interpolated_is_refused_wherever_it_stands(word, capsys):
    whole = document()
    for where in (
        "seed",
        "store",
        "loss.temperature",
        "dataset.image_size",
        "choices.loss",
        "student_train.schedule",
        "allow",
        f"loss.{word}",
    ):
        value = [word] if where == "allow" else word
        config = (
            whole["config"] | {"loss": {**whole["config"]["loss"], word: 1}}
            if where.endswith(word)
            else put(whole["config"], where, value)
        )
        write(whole | {"config": config})
        assert "refers to something else" in reported(["rerun", str(RUN), "to=again"], capsys), where


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"loss": "../../outside/precious"}, "loss has no option"),
        ({"loss": "/etc/passwd"}, "loss has no option"),
        ({"loss": ["kd", "x"]}, "loss has no"),
        ({"loss": "kd hydra.run.dir=outside"}, "loss has no option"),
        ({"hydra/job_logging": "default"}, "names a group that is not here"),
        ({"claim": "kd"}, "names a group"),
        ({"launcher": "slurm"}, "names a group"),
        ({"sweeper": "optuna"}, "names a group"),
        ({"loss": None}, "loss has no option"),
        ("kd", "does not say which options"),
        ({"x\u001b]0;y\u0007": "a"}, r"x\x1b]0;"),
    ],
)
def test_options_are_names_that_exist(choices, says, capsys):
    config = document()["config"]
    write(
        document()
        | {
            "config": config
            | {"choices": config["choices"] | choices if isinstance(choices, dict) else choices}
        }
    )
    assert says in reported(["rerun", str(RUN), "to=again"], capsys)


def test_where_it_writes_and_what_it_allows_are_not_the_folders_to_say(monkeypatch):
    config = document()["config"] | {"store": "outside/store", "allow": ["os", "kdxtestpkg"]}
    device = {**config["device"], "workers": 4000, "checkpoint_seconds": 0}
    write(document() | {"config": config | {"device": device}, "store": str(Path("outside").resolve())})
    orders = []
    monkeypatch.setattr(rerun, "run_again", lambda order, to, words: orders.append(order) or 2)
    assert main(["rerun", str(RUN), "to=again"]) == 2
    assert (
        orders[0].store == Path("again/store")
        and orders[0].config["allow"] == []
        and orders[0].runtime.workers == 0
    )


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("device.threads", 10**9, "at most 4096"),
        ("device.device", "cuda:99", "device=cuda:99 is not here"),
        ("device.device", ["cpu"], "device.device"),
        ("seed", -1, "seed must be at least 0"),
        ("student_train.steps", "rm -rf", "student_train.steps"),
        ("headline", "worst", "headline has no option"),
        ("student.widths", [10**12, 10**12], "too large for this machine"),
        ("stages", ["shell"], "stages must be"),
        ("augment", ["affine"], ""),
    ],
)
def test_values_go_through_the_checks_of_a_command_line(where, value, says, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config, environment = put(document()["config"], where, value), document()["environment"]
    environment["settled"].pop(where.partition(".")[2], None)
    write(document() | {"config": config, "environment": environment})
    if says:
        assert says in reported(["rerun", str(RUN), "to=again"], capsys)


def test_settled_things_go_through_the_checks_too(capsys):
    for settled, says in (
        ({"threads": {"a": 1}}, "device.threads must be a whole number"),
        ({"device": "os.system"}, "has no option"),
        ({"threads": 1e9}, "whole number"),
        ({"channels_last": "yes"}, "true or false"),
    ):
        write(document() | {"environment": {"settled": settled}})
        assert says in reported(["rerun", str(RUN), "to=again"], capsys)


def test_nothing_is_downloaded_to_where_a_folder_says(capsys, monkeypatch):
    from kdx.config import compose

    config = compose.check_words(["dataset=cifar10", "dataset.root=outside/cifar", *CPU])
    assert config["dataset"]["download"]
    write(document() | {"config": config})
    assert "nothing is downloaded to where a folder says" in reported(["rerun", str(RUN), "to=again"], capsys)
    config = compose.check_words(
        ["dataset=fashion_mnist", "dataset.usual_root=outside/fashion", "dataset.system_root=null", *CPU]
    )
    write(document() | {"config": config})
    assert "nothing is downloaded" in reported(["rerun", str(RUN), "to=again"], capsys)
    restore.check_data(config["dataset"], None, {"dataset.root"})  # where the user says so, the loader may


def test_a_teacher_from_a_pickle_a_pipe_or_a_device(capsys):
    Path("bomb.pt").write_bytes(pickle.dumps({"net.weight": Bomb()}))
    torch.save({"net.weight": Bomb()}, "zipped.pt")
    os.mkfifo("pipe.pt")
    config = document()["config"]
    for name, says in (
        ("bomb.pt", "unpickles nothing"),
        ("zipped.pt", "unpickles nothing"),
        ("pipe.pt", "no ordinary file"),
        ("/dev/zero", "no ordinary file"),
        ("x" * 5000, "teacher.checkpoint"),
        ("a\0b", "teacher.checkpoint"),
    ):
        write(document() | {"config": put(config, "teacher.checkpoint", name)})
        assert says in reported(["rerun", str(RUN), "to=again"], capsys), name[:20]


# JSON


def deep(levels: int) -> str:
    return '{"config": ' + '{"a": [' * levels + "1" + "]}" * levels + ', "stages": []}'


TEXTS = {
    "nan": ('{"config": {"seed": NaN}, "stages": []}', "NaN is no finite number"),
    "infinity": ('{"config": {"seed": -Infinity}, "stages": []}', "no finite number"),
    "1e999": ('{"config": {"seed": 1e999}, "stages": []}', "1e999 is no finite number"),
    "long": ('{"config": {"seed": ' + "9" * 41 + '}, "stages": []}', "41 digits is too long"),
    "longer": ('{"config": {"seed": ' + "9" * 5000 + '}, "stages": []}', "5000 digits is too long"),
    "twice": ('{"config": {"seed": 1, "seed": 2}, "stages": []}', "'seed' stands there twice"),
    "deep": (deep(DEEPEST), "lists inside each other"),
    "deeper": (deep(100_000), "cannot be read"),
    "no text": ("\udcff", "cannot be read"),
}


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
@pytest.mark.parametrize("kind", TEXTS)
def test_json_that_nobody_needs(words, kind, capsys):
    text, says = TEXTS[kind]
    (RUN / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert says in reported(words, capsys)


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
def test_a_gigabyte_of_json_is_refused_unread(words, capsys):
    """It has no blocks on the disk: read, it would be a gigabyte of zeros."""
    os.truncate(RUN / "run.json", 1 << 30)
    began = time.monotonic()
    assert "is too large: kdx reads JSON of up to 128 MiB, and this has 1024" in reported(words, capsys)
    assert time.monotonic() - began < 2


def test_the_limits_leave_room_for_what_kdx_writes(tmp_path):
    file = tmp_path / "x.json"
    for value in (
        {"a": [10**39, -(10**39), 1e308, "x" * 10**6]},
        json.loads(deep(DEEPEST // 2 - 1)),
        {"name": "Grüße 😀 \n\t"},
    ):
        file.write_text(json.dumps(value))
        assert read_json(file) == value
    file.write_text('{"nll": NaN}')
    assert read_json(file, strict=False)["nll"] != 0  # a measurement may be no number
    # confusion matrices of three roles, last and best, on a thousand classes
    assert LARGEST > 6 * 1000 * 1000 * 14


# What is no file


@pytest.mark.parametrize("words", READERS[:-1], ids=lambda words: words[0])
def test_a_pipe_a_device_or_a_circle_in_place_of_a_file(words, capsys):
    (RUN / "run.json").unlink()
    for make in (
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path.name),
        lambda path: path.mkdir(),
    ):
        make(RUN / "run.json")
        assert re.search("has no run.json|holds no run folder", reported(words, capsys))
        (RUN / "run.json").rmdir() if (RUN / "run.json").is_dir() else (RUN / "run.json").unlink()


def test_cache_goes_round_pipes_and_circles(capsys):
    store = Path("outputs/store")
    (store / "train" / ("1" * 64)).mkdir()
    os.mkfifo(store / "train" / ("1" * 64) / "manifest.json")
    (store / "train" / ("2" * 64)).mkdir()
    (store / "train" / ("2" * 64) / "manifest.json").symlink_to("manifest.json")
    (store / "train" / ("3" * 64)).symlink_to(".")
    (RUN / "circle").symlink_to("..")
    assert main(["cache", "ls"]) == 0
    assert capsys.readouterr().out.count("damaged") == 2
    assert main(["cache", "verify"]) in (0, 1)
    assert main(["cache", "gc", "yes=true"]) == 0
    assert "Traceback" not in capsys.readouterr().err and artifact("student").is_dir()


TRICKS = {
    "circle": lambda link: link.symlink_to(link.name),
    "pipe": os.mkfifo,
    "passwd": lambda link: link.symlink_to("/etc/passwd"),
    "long": lambda link: link.write_text("x" * 4000),
    "nul": lambda link: link.write_text("a\0b"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_links_of_artifacts_lead_only_to_what_has_the_key(trick, capsys):
    """And where they lead nowhere the other ways of finding a store are tried."""
    for link in list((RUN / "artifacts").iterdir()):
        link.unlink()
        TRICKS[trick](link)
    assert main(["evaluate", str(RUN), *CPU]) == 0
    capsys.readouterr()
    for store in ("~nobody-is-called-this/x", "x" * 5000, "a\0b", "outside", "/dev/zero"):
        write(document() | {"store": store, "config": document()["config"] | {"store": store}})
        assert "is not in a store" in reported(["evaluate", str(RUN), *CPU], capsys)[-6000:].replace(
            "x" * 300, ""
        )


def test_an_export_with_a_pipe_in_place_of_its_model(capsys):
    Path("export").mkdir()
    os.mkfifo("export/model.json")
    assert "it is no file" in reported(["evaluate", "export", "dataset=digits", *CPU], capsys)


def test_a_comparison_waits_for_no_pipe(capsys):
    """A manifest, the curves and the links of artifacts are pipes: the figures are in run.json."""
    file = read_run(RUN).role("student").file("manifest.json").resolve()
    for path in (file, RUN / "metrics.jsonl", RUN / "artifacts/prepare"):
        path.unlink()
        os.mkfifo(path)
    assert main(["compare", str(RUN), "html=page.html"]) == 0
    assert "Traceback" not in capsys.readouterr().err and Path("page.html").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["pipe", "gigabyte", "deep", "circle"])
def test_the_board_names_a_run_that_cannot_be_read_by_its_folder(kind, tmp_path):
    file = RUN / "run.json"
    shutil.copytree(RUN, RUN.with_name("other"), symlinks=True)
    if kind == "gigabyte":
        os.truncate(file, 1 << 30)
    elif kind == "deep":
        file.write_text(deep(100_000))
    else:
        file.unlink()
        os.mkfifo(file) if kind == "pipe" else file.symlink_to(file.name)
    place = tmp_path / "board"
    place.mkdir()
    began = time.monotonic()
    assert Mirror(Path("outputs/runs"), place).update() == 2
    assert {spot.name for spot in place.iterdir()} == {
        f"{who}{run}" for who in ("", "teacher ", "student alone ") for run in ("a=b", "other")
    }
    assert time.monotonic() - began < 2


def test_a_sweep_that_is_gone_on_with_waits_for_no_pipe():
    folder = Path("outputs/sweeps/x")
    folder.mkdir(parents=True)
    os.mkfifo(folder / "sweep.json")
    assert sweep.read_sweep(folder / "sweep.json") is None


# Artifacts with hashes that fit


def header(length: int) -> bytes:
    return struct.pack("<Q", length) + b"{}"


WEIGHTS = {
    "pickle": pickle.dumps({"w": Bomb()}),
    "header": header(2 << 30),
    "negative": header(2**64 - 1),
    "empty": b"",
    "text": b"x" * 100,
    "offsets": struct.pack("<Q", 64)
    + b'{"net.0.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,9]}}'.ljust(64),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_none(kind, capsys):
    forge(artifact("student"), "last.safetensors", WEIGHTS[kind])
    for words in (["evaluate", str(RUN), "role=student", *CPU], ["export", str(RUN)]):
        says = "holds a pickled posix.system, and kdx unpickles nothing" if kind == "pickle" else "is damaged"
        assert f"last.safetensors' {says}" in reported(words, capsys)
    assert main(["cache", "verify"]) == 0  # its hash fits


def npy(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


OBJECTS = Path("objects.npy")
ARRAYS = {
    "endless": npy("(1000000, 1000000, 1000)"),
    "cut off": npy("(500, 1, 16, 16)"),
    "code": npy("__import__('os').system('touch canary')"),
    "none": b"",
}


@pytest.mark.parametrize("kind", [*ARRAYS, "pickled"])
def test_pictures_that_are_none(kind, capsys):
    if kind == "pickled":
        np.save(OBJECTS, np.array([Bomb()], dtype=object), allow_pickle=True)
    content = OBJECTS.read_bytes() if kind == "pickled" else ARRAYS[kind]
    forge(read_run(RUN).stage("decode").path.resolve(), "train.inputs.npy", content)
    for words in (["evaluate", str(RUN), "role=student", *CPU], ["export", str(RUN)]):
        assert "is not as kdx writes it" in reported(words, capsys)


@pytest.mark.parametrize("kind", [*ARRAYS, "out of range"])
def test_numbers_of_rows_that_are_none(kind, capsys):
    content = npy("(500,)", "<i8") + b"\x7f" * 4000 if kind == "out of range" else ARRAYS[kind]
    for name in ("test.rows.npy", "validation.rows.npy"):
        forge(read_run(RUN).stage("prepare").path.resolve(), name, content)
    for words in (["evaluate", str(RUN), "role=student", *CPU], ["export", str(RUN)]):
        assert "is not as kdx writes it" in reported(words, capsys)


ABOUT = [
    {"counts": 3},
    {"decoded": 3},
    {"decoded": "../../../../elsewhere"},
    {"decoded": f"../../decode/{'0' * 64}"},
    {"counts": {"test": "many"}},
    {"classes": 5},
    {"dataset": None},
    {"dataset": {"_target_": "os.system"}},
    {"files": 5},
    {"files": {"warnings": 3}},
    None,
]


@pytest.mark.parametrize("change", ABOUT, ids=str)
def test_a_data_json_that_kdx_did_not_write(change, capsys):
    path = read_run(RUN).stage("prepare").path.resolve()
    about = json.loads((path / "data.json").read_text())
    forge(path, "data.json", json.dumps([] if change is None else about | change).encode())
    # a name of another kind is shown as it is
    assert main(["evaluate", str(RUN), "role=student", *CPU]) in (
        0,
        2,
    )
    assert "Traceback" not in capsys.readouterr().err


def test_a_model_too_large_for_this_machine(capsys):
    path = artifact("student")
    about = json.loads((path / "model.json").read_text())
    forge(
        path,
        "model.json",
        json.dumps(about | {"component": about["component"] | {"widths": [10**12, 10**12]}}).encode(),
    )
    assert "too large for this machine" in reported(["evaluate", str(RUN), "role=student", *CPU], capsys)


@pytest.mark.parametrize(
    "target",
    [
        "kdx.models.pretrained.fetch",
        "kdx.models.weights.read_weights",
        "kdx.models.cnn.torch.load",
        "kdx.models.nothing.x",
    ],
)
def test_a_model_that_is_another_function_of_the_models(target, capsys):
    path = artifact("student")
    about = json.loads((path / "model.json").read_text())
    forge(
        path,
        "model.json",
        json.dumps(
            about | {"component": {"_target_": target, "url": "http://127.0.0.1:1/x", "path": "x"}}
        ).encode(),
    )
    reported(["evaluate", str(RUN), "role=student", *CPU], capsys)


# Links that would be written through


def test_an_export_does_not_leave_the_run_folder(capsys):
    (RUN / "export").symlink_to("../../../outside")
    assert "is a link" in reported(["export", str(RUN)], capsys)
    (RUN / "export").unlink()
    (RUN / "export").mkdir()
    (RUN / "export/student").symlink_to("../../../../outside")
    assert "is there already and is no earlier export" in reported(["export", str(RUN)], capsys)


def test_data_prepared_in_somebodys_store_stay_in_it(capsys):
    words = ["evaluate", str(RUN), "role=student", "dataset.test=300", *CPU]
    before = set(Path("outputs/store/prepare").iterdir())
    assert main(words) == 0
    (made,) = set(Path("outputs/store/prepare").iterdir()) - before
    # older filelocks delete it after use
    lock = Path("outputs/store/locks", f"{PREPARE.name}-{made.name[:32]}.lock")
    partial = made.with_name(f"{made.name}.partial")
    precious = Path("outside/precious").resolve()
    shutil.rmtree(made)
    lock.unlink(missing_ok=True)
    lock.symlink_to(precious)
    capsys.readouterr()
    assert "is a link, and the store would write" in reported(words, capsys)
    lock.unlink()
    lock.touch()
    partial.symlink_to(precious.parent)
    assert "is a link, and the store would write" in reported(words, capsys)
    partial.unlink()
    partial.mkdir()
    for name in ("data.json", "truth.npy", "rows.json", "metrics.jsonl", "notes.jsonl"):
        (partial / name).symlink_to(precious)
    assert main(words) == 0 and not any(p.is_symlink() for p in made.iterdir())
    shutil.rmtree("outputs/store/locks")
    shutil.rmtree(made)
    Path("outputs/store/locks").symlink_to("../../outside")
    assert "is a link" in reported(words, capsys)


def test_gc_takes_no_lock_through_a_link(capsys):
    entry = Path("outputs/store/train") / ("1" * 64)
    entry.mkdir()
    lock = Path("outputs/store/locks") / f"train-{'1' * 32}.lock"
    lock.symlink_to(Path("outside/precious").resolve())
    assert "is a link" in reported(["cache", "gc", "yes=true"], capsys)


# Names


ODD = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil"


def test_names_do_not_reach_the_terminal_as_orders(capsys):
    config = document()["config"]
    write(document() | {"config": config | {"choices": config["choices"] | {"student": ODD}}})
    path = read_run(RUN).stage("prepare").path.resolve()
    about = json.loads((path / "data.json").read_text())
    forge(
        path,
        "data.json",
        json.dumps(
            about
            | {"dataset": ODD, "classes": [ODD + c for c in about["classes"]], "files": {"warnings": [ODD]}}
        ).encode(),
    )
    folder = RUN.with_name(f"run {ODD}")
    shutil.copytree(RUN, folder, symlinks=True)
    for words in (
        ["evaluate", str(RUN), "role=student", *CPU],
        ["evaluate", str(folder), "role=student", *CPU],
        ["cache", "ls"],
        ["export", str(RUN)],
    ):
        assert main(words) == 0
        said = capsys.readouterr()
        assert not any(c in said.out + said.err for c in ODD[0] + "\x07\x9b\u202e") and (
            "owned" in said.out or words[0] == "cache"
        ), words
    card = (RUN / "export/student/card.md").read_text()
    assert not any(c in card for c in "\x1b\x07\x9b\u202e")
    reported(["rerun", str(folder), "to=again"], capsys)


def test_what_the_recorded_numbers_hold_is_only_shown(capsys):
    """Nulls, texts, huge numbers and odd names in the place of results: the run is made, and they are
    reported as different.
    """
    results = document()["results"]
    results["student"]["last"]["test"] |= {
        "accuracy": 1e308,
        f"<script>{ODD}</script>": 3,
        "nll": "none",
        "ece": 10**30,
    }
    results["teacher"] = [1, {"weights": {"last": 5}}]
    write(
        document()
        | {
            "results": results,
            "audit": 7,
            "environment": {"settled": {"torch": ODD, "threads": 1}, "elsewhere": {ODD: {ODD: ODD}}},
            "protocol": None,
            "command": ODD,
        }
    )
    assert main(["rerun", str(RUN), "to=again", "store=outputs/store"]) == 1
    said = capsys.readouterr()
    assert (
        "numbers differ" in said.out
        and "Traceback" not in said.err
        and not any(c in said.out + said.err for c in "\x1b\x07\x9b\u202e")
    )
    found = json.loads(Path("again/rerun.json").read_text())
    assert not found["same"] and not any(
        c in Path("again/rerun.json").read_text() for c in "\x1b\x07\x9b\u202e"
    )


def test_each_way_out_shows_orders_as_text(tmp_path, capsys):
    """A file that is read, a table, and an error: one of them is enough, and each does it by itself."""
    (tmp_path / "x.json").write_text(json.dumps({ODD: [ODD, {"a": ODD}]}))
    assert read_json(tmp_path / "x.json") == {printable(ODD): [printable(ODD), {"a": printable(ODD)}]}
    (tmp_path / "x.json").write_text(json.dumps({ODD: 1}, ensure_ascii=False))
    assert read_json(tmp_path / "x.json") == {printable(ODD): 1}
    show_table(ODD, [ODD], [[ODD]], [ODD])
    said = capsys.readouterr().out
    assert said.count(r"\x1b]0;owned") == 4 and not any(c in said for c in "\x1b\x07\x9b\u202e")
    assert "no run folder" not in reported(["evaluate", f"nowhere {ODD}", *CPU], capsys)


def test_shows():
    assert printable("plain, Grüße 😀\n\t") == "plain, Grüße 😀\n\t"
    assert (
        printable(ODD) == r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil"
        and printable("\r\x00\ud800") == r"\r\x00\ud800"
    )
    with pytest.raises(UserError, match="it is no file"):
        read_json(Path("nowhere.json"))
