"""What must not grow with the number of files, runs and classes: how often each is looked at. Nothing is
timed here; scripts/bench_growth.py does that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter

import fabricate
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import yaml
from tasks import classification
from test_folder import SETTINGS, classes

from kdx.cli import main
from kdx.commands import _check
from kdx.commands._check import check_runs
from kdx.commands._typed import read_words
from kdx.config.compose import base, composed, examine_words, parse_overrides, plain_config
from kdx.config.compose.base import overlaid
from kdx.config.wire import known
from kdx.core import shapes, snapshot
from kdx.core.documents import dump
from kdx.core.paths import conf_dir
from kdx.core.shapes import all_wrong
from kdx.data.pictures import decode
from kdx.pipeline.stages.measuring import keep_arrays
from kdx.planning import dry_run
from kdx.report.run import document as reading
from kdx.report.run import figures
from kdx.store import digest, manifest, memory, source, store, verification
from kdx.store.component import Component
from kdx.store.source import Source, sha256
from kdx.store.work import Listener, Work
from kdx.tasks.classification import WRITTEN_OUT
from kdx.tasks.metrics import confusion, most_confused

SHORT = (
    "device=cpu",
    "device.threads=1",
    "teacher=mlp_small",
    "student=mlp_small",
    "augment=none",
    "teacher_pretrain.steps=2",
    "student_train.steps=2",
)


def slow(*words: str):
    return pytest.param(list(words), marks=pytest.mark.slow)


@pytest.fixture
def looks(monkeypatch):
    """How often each folder is listed, and each header opened."""
    listed, opened = Counter(), Counter()
    scandir, read_header = os.scandir, decode.read_header

    def scan(path="."):
        listed[os.path.abspath(path) if not isinstance(path, int) else path] += 1
        return scandir(path)

    def read(path):
        opened[str(path)] += 1
        return read_header(path)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(decode, "read_header", read)
    return listed, opened


def test_a_command_lists_a_folder_and_opens_a_header_once(tmp_path, monkeypatch, looks):
    classes(tmp_path / "pictures", rows=20)
    (tmp_path / "pictures/cat/notes").write_bytes(b"no picture, and nothing says so")
    folders = [str(tmp_path / "pictures" / name) for name in ("", "cat", "dog")]
    folders = [os.path.abspath(folder) for folder in folders]
    monkeypatch.chdir(tmp_path)
    words = [*SHORT, "dataset=folder", "dataset.root=pictures", "dataset.image_size=8"]
    words += ["dataset.on_error=skip", "dataset.test=10", "dataset.validation=8"]
    listed, opened = looks
    assert main(["train", *words]) == 0
    assert [listed[folder] for folder in folders] == [1, 1, 1]
    assert len(opened) == 41 and set(opened.values()) == {1}  # by the checks, and the run has them
    for command in (["train", *words], ["plan", *words]):
        listed.clear()
        opened.clear()
        assert main(command) == 0
        assert [listed[folder] for folder in folders] == [1, 1, 1]
        assert dict(opened) == {"pictures/cat/notes": 1}


def test_the_next_command_sees_what_has_changed(tmp_path):
    classes(tmp_path / "pictures")
    spec = {
        "_target_": "kdx.data.datasets.folder.Folder",
        "root": str(tmp_path / "pictures"),
        "unlabelled_root": None,
        **SETTINGS,
    }

    def digest(**how) -> str:
        return known(Component(spec), **how).sources["train"].digest()

    file = tmp_path / "pictures/cat/0.png"
    with snapshot.one_command():
        before = digest(ahead=True)
        assert digest() == before
        file.write_bytes(file.read_bytes() + b"0")
        assert digest(ahead=True) == before  # all runs of a command are checked with the same files
        changed = digest()
        assert changed != before  # what works looks at the files anew
        (tmp_path / "pictures/cat/new.png").write_bytes(file.read_bytes())
        assert digest() == changed  # but not for new ones
    with snapshot.one_command():
        assert len({before, changed, digest(), digest(ahead=True)}) == 3
    file.write_bytes(file.read_bytes() + b"0")
    assert digest(ahead=True) not in (before, changed)  # outside a command nothing is remembered


def test_a_header_is_opened_again_where_its_file_has_changed(tmp_path):
    file, seen = tmp_path / "a", []

    def look() -> str:
        return snapshot.while_same("a", str(file), lambda: seen.append(1) or file.read_text(), bool)

    file.write_text("one")
    with snapshot.one_command():
        assert [look(), look()] == ["one", "one"] and len(seen) == 1
        file.write_text("two!")
        assert [look(), look()] == ["two!", "two!"] and len(seen) == 2
        file.write_text("")
        assert [look(), look()] == ["", ""] and len(seen) == 4  # nothing that is worth keeping
        with snapshot.one_command():
            assert snapshot.once("b", lambda: 1) == 1
        assert snapshot.once("b", lambda: 2) == 1
    assert snapshot.once("b", lambda: 3) == 3


def test_the_memory_of_digests_is_written_as_it_can_be_checked(tmp_path, monkeypatch):
    for name in ("a", "caf\u00e9"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / "link").symlink_to("a")
    monkeypatch.setattr(Source, "memo", tmp_path / "sources.json")
    paths = [tmp_path / name for name in ("a", "caf\u00e9", "link")]
    first = Source(*paths).digest()
    memory.keep(Source.memo, {str(tmp_path / "a"): [1, 2, 3, 4, "x"]})
    assert memory.recall(Source.memo) == {str(tmp_path / "a"): [1, 2, 3, 4, "x"]}
    text = Source.memo.read_text()
    Source.memo.write_text(text.replace("1, 2", "2, 1"))
    assert memory.recall(Source.memo) == {}
    assert Source(*paths).digest() == first


def test_a_large_file_of_an_artifact_is_hashed_once_a_command(tmp_path, monkeypatch):
    """And again where it has changed, be it by one byte and with the old time of change; outside a command,
    or where it changed just now, each time."""
    large, hashed = tmp_path / "large.npy", []
    large.write_bytes(bytes(100_000))
    (tmp_path / "small.json").write_text("{}")
    manifest.seal(
        tmp_path, {"stage": "s", "version": 1, "inputs": {}, "code": "c", "created": 1, "seconds": 1}
    )
    monkeypatch.setattr(verification, "sha256", lambda file: hashed.append(file.name) or sha256(file))
    for _ in range(2):
        assert verification.verify(tmp_path) is None
    with snapshot.one_command():
        assert verification.verify(tmp_path) is None and verification.verify(tmp_path) is None
    assert hashed.count("large.npy") == hashed.count("small.json") == 4
    monkeypatch.setattr(source, "_SETTLED", -1.0)
    hashed.clear()
    with snapshot.one_command():
        assert verification.verify(tmp_path) is None and verification.verify(tmp_path) is None
        assert hashed.count("large.npy") == 1 and hashed.count("small.json") == 2
        before = large.stat()
        time.sleep(0.02)  # longer than a tick of the clock that files get their times from
        large.write_bytes(bytes(99_999) + b"1")
        os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert "large.npy does not have the content that was published" in verification.verify(tmp_path)


OPTIONS = {
    "loss": ("kd", "slam", "weighted", "noisy_student", "fixmatch"),
    "student": ("cnn_tiny", "mlp_small"),
    "select": ("all", "rad"),
    "dataset": ("digits", "folder"),
    "augment": ("none", "[affine]", "[flip_crop,cutout]"),
}
VALUES = (
    *("0", "7", "-1", "0.25", "1e-3", "true", "null", "abc", "'a b'", "'7'", "???", "'\\\\${seed}'", "''"),
    *("[]", "[1,2]", "[a,[b,null]]", "{lr:3}", "{}", "[{a:1}]", "${seed}", "'x${student_train.lr}'"),
    *("${student_train.schedule}", "${nowhere}", "${.lr}", "[affine]", "inf", "nan", "123456789012345678901"),
)


@pytest.mark.parametrize("groups", [["loss"], pytest.param(sorted(OPTIONS), marks=pytest.mark.slow)], ids=len)
def test_values_on_a_copy_are_what_hydra_composes(groups):
    """Whatever the keys refer to, and in whichever order they are given."""
    some = 10 if len(groups) == 1 else 200

    @hypothesis.given(st.data())
    @hypothesis.settings(max_examples=some, deadline=None, derandomize=True, database=None)
    def compared(data):
        set_on_a_copy(data, groups)

    compared()


def set_on_a_copy(data, groups):
    groups = data.draw(st.lists(st.sampled_from(groups), max_size=1))
    few = slice(None if len(groups) > 1 else 2)
    chosen = [f"{group}={data.draw(st.sampled_from(OPTIONS[group][few]))}" for group in groups]
    keys = sorted(keys_of(composed(chosen, resolve=False)))
    some = st.one_of(st.sampled_from(KEYS), st.sampled_from(keys))
    drawn = data.draw(st.lists(st.tuples(some, st.sampled_from(VALUES)), min_size=1, max_size=5))
    values = parse_overrides([f"{key}={value}" for key, value in drawn if key in keys], errors := [])
    assert not errors
    fast = overlaid(chosen, values)
    slow = base._laid(tuple(chosen), base._Values(values), ())
    assert text_of(fast) == text_of(slow)
    if fast is not None:  # and none was changed by the other
        assert text_of(overlaid(chosen, values)) == text_of(slow)
        assert text_of(composed(chosen)) == text_of(base._contained(tuple(chosen), (), True))


KEYS = ("seed", "augment", "student_train.augment", "loss.temperature", "teacher_loss", "student_train")
KEYS += ("student_train.lr", "student_train.milestones", "student.batch_norm", "teacher_pretrain.lr")


def keys_of(node, path="") -> set[str]:
    inside = {k: v for k, v in node.items() if k != "choices"} if isinstance(node, dict) else {}
    return set().union(*(keys_of(v, f"{path}.{k}".lstrip(".")) for k, v in inside.items()), {path} - {""})


def text_of(value) -> str:
    return repr(value)


@pytest.mark.parametrize(
    "words",
    [
        ["recipe=chain", "assistants=[cnn_small]", "student_train.lr=${teacher_pretrain.lr}"],
        slow("student_train.lr=0.5", "seed=3", "student_train.milestones=[0.1]", "store=x"),
        slow("loss=slam", "student=mlp_small", "student_train.augment=[affine]"),
        slow("loss=noisy_student", "seed=4", "loss.batch=ratio", "loss.unlabel_ratio=4", "rounds=2"),
        slow("dataset=folder", "dataset.root=a", "dataset.background=[1,2,3]", "shift=[blur,noise]"),
    ],
)
def test_a_composed_run_is_hydras(words):
    """The whole of it, by the way that `kdx train` goes and by Hydra's own."""
    found, errors, _ = examine_words(words)
    assert not errors and text_of(found) == text_of(plain_config(base.whole_config(words)))


def test_hydra_composes_once_for_each_choice_of_options(monkeypatch, tmp_path):
    asked = []
    compose = base.compose
    monkeypatch.setattr(base, "compose", lambda *a, **k: asked.append(a) or compose(*a, **k))
    monkeypatch.setattr(_check, "_inspect", lambda *a, **k: [])  # networks are built there, nothing composed
    for kept in (base.kept, base._base, base._contained, base._laid):
        kept.cache_clear()
    monkeypatch.chdir(tmp_path)
    words = [
        "-m",
        "loss=kd,slam",
        "student_train.lr=0.1,0.2",
        "seed=range(2)",
    ]
    with snapshot.one_command():
        _, _, listed = read_words(words)
        assert len(check_runs(listed, True)) == 8
    assert len(asked) == 2


def test_the_most_confused_pairs_by_hand():
    table = torch.tensor([[5, 1, 0], [2, 9, 2], [0, 0, 1]])
    assert most_confused(table, 2) == [
        {"truth": 1, "predicted": 0, "rows": 2},
        {"truth": 1, "predicted": 2, "rows": 2},
    ]
    assert [pair["rows"] for pair in most_confused(table, 20)] == [2, 2, 1]  # of the rest there is no row
    assert table.diagonal().tolist() == [5, 9, 1]
    assert most_confused(torch.eye(3, dtype=torch.int64), 20) == []


def test_documents_grow_with_the_classes_and_not_with_their_square(tmp_path):
    rows, size = 2000, {}
    for number in (WRITTEN_OUT, WRITTEN_OUT + 1, 1000, 2000):
        generator = torch.Generator().manual_seed(number)
        answers = torch.randn(rows, number, generator=generator)
        truth = torch.arange(rows) % number
        work = Work(tmp_path / str(number), "evaluate", Listener(), "0" * 64)
        work.path.mkdir()
        details = keep_arrays(
            work, classification(number).details(answers, truth, "test"), "student.last.test"
        )
        document = json.loads(dump(details))
        size[number] = len(dump(details))
        kept = document["arrays"]["confusion"]
        table = np.load(work.path / kept["file"])
        assert kept["file"] == "confusion.student.last.test.npy" and list(table.shape) == kept["shape"]
        assert (table == confusion(answers.argmax(1), truth, number).numpy()).all() and table.sum() == rows
        assert table.dtype.itemsize == 1  # no count here is above 255
        assert document["predicted"] == table.sum(0).tolist()
        assert next(all_wrong(document, reading.MEASURED, ""), None) is None
        assert len(document["confused"]) == 20
        # what can be looked at is there to be looked at, else the pairs are
        assert ("confusion" in document) == (number <= WRITTEN_OUT) == ("figures" not in document)
        if "confusion" in document:
            assert document["confusion"] == table.tolist()
        else:
            pair, figure = document["confused"][0], document["figures"][0]
            name = f"{pair['truth']} taken for {pair['predicted']}"
            assert figure["data"]["names"][0] == name and figure["data"]["values"][0] == pair["rows"]
            assert figures.draw_figure(figure, "t", "#112233").startswith(b"\x89PNG")
    assert size[2000] < 2.2 * size[1000] and size[1000] < 150_000


def test_many_classes_are_compared_by_their_most_confused_pairs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pairs = [{"truth": 2, "predicted": 7, "rows": 11}, {"truth": 0, "predicted": 1, "rows": 3}]
    for loss in ("kd", "slam"):
        for seed in (0, 1):
            made = fabricate.document((f"loss={loss}",), seed, 0.8 + 0.01 * seed)
            for role in ("student", "teacher", "baseline"):
                del made["results"][role]["last"]["test"]["confusion"]
            made["results"]["student"]["last"]["test"]["confused"] = pairs
            fabricate.folder(tmp_path / "sweep", f"{loss}-{seed}", made)
    assert main(["compare", "sweep", "--html", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "Classes that the students confuse most" in page and "Confusion of the students" not in page
    assert "2 &gt; 7" in page
    capsys.readouterr()
    for wrong in ([[0, 1, 2]], [{"truth": 0, "predicted": 1}], [{"truth": 10, "predicted": 1, "rows": 1}]):
        made["results"]["student"]["last"]["test"]["confused"] = wrong
        (tmp_path / "sweep/slam-1/run.json").write_text(json.dumps(made))
        main(["compare", "sweep"])
        assert "is not as kdx writes it" in capsys.readouterr().out


def test_code_is_remembered_by_its_text(tmp_path, monkeypatch):
    """Not by its place or its time of change: another text is another digest, whatever the file says."""
    monkeypatch.setattr(digest, "_remembered", {})
    parsed = []
    parse = digest._parsed
    monkeypatch.setattr(digest, "_parsed", lambda *given: parsed.append(given) or parse(*given))

    def found(text: str) -> tuple[str, tuple[str, ...]]:
        (tmp_path / "a.py").write_text(text)
        os.utime(tmp_path / "a.py", (1, 1))
        digest._remembered.clear()
        digest._syntax.cache_clear()
        with digest.remembering(tmp_path / "code.json"):
            return digest._syntax(tmp_path / "a.py", "mine.a")

    first = found("from . import b\nx = 1\n")
    assert first == found("from . import b\nx = 1\n") and len(parsed) == 1
    assert first[1] == ("mine.b",)
    other = found("from . import b\nx = 2\n")
    assert other[0] != first[0] and len(parsed) == 2
    assert found("from . import b\nx = 1\n") == first and len(parsed) == 2
    (tmp_path / "code.json").write_text((tmp_path / "code.json").read_text().replace("mine.b", "mine.c"))
    assert (
        found("from . import b\nx = 1\n") == first and len(parsed) == 3
    )  # a changed file counts for nothing
    digest._syntax.cache_clear()


def test_both_readers_of_yaml_agree_on_every_option_file():
    """kdx composes by libyaml where it is there."""
    files = sorted(conf_dir().rglob("*.yaml"))
    assert len(files) > 100
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text_of(yaml.load(text, yaml.CSafeLoader)) == text_of(yaml.load(text, yaml.SafeLoader)), file


def test_the_help_has_every_key_with_its_value_and_comment(capsys, monkeypatch):
    """Read from the files of conf/, it says what Hydra composes."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["train", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    body = lines[next(i for i, line in enumerate(lines) if line.startswith("== The run")) :]
    typed = dict(line.split("  ")[0].split("=", 1) for line in body if line and not line.startswith("=="))
    whole = {key: value for key, value in composed([], resolve=False).items() if key != "choices"}

    def leaves(node, path=""):
        for name, value in node.items():
            key = f"{path}.{name}".lstrip(".")
            if isinstance(value, dict) and value:
                yield from leaves(value, key)
            elif not name.startswith("_") and value != {}:
                yield key, value

    found = dict(leaves(whole))
    assert found["loss.temperature"] == "${dataset.kd_temperature}"  # which is shown as what stands there
    found["loss.temperature"] = found["dataset.kd_temperature"]
    assert set(found) == {key for key in typed if typed[key] != "{}"} and len(found) > 80
    assert {key: yaml.safe_load(typed[key].replace(",", ", ")) for key in found} == found
    said = "student_train.clip=null                         largest norm of the gradient"
    assert said in body, "a comment stands beside the same key of either training"
    assert (
        "seed=0                                          changes the split, the initialisation,"
        in "\n".join(body)
    )


def test_the_help_of_words_has_what_they_bring(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "mine/loss").mkdir(parents=True)
    (tmp_path / "mine/loss/own.yaml").write_text("defaults: [/loss/kd@_here_]\n")
    assert main(["train", "--help", "loss=own", "dataset=folder", "--config-dir=mine"]) == 0
    out = capsys.readouterr().out
    assert (
        "\nloss.temperature=4\n" in out and "own," in out.split("\nloss: ")[1].split("\nmade_up: ")[0].split()
    )
    assert "dataset.fit=crop                                crop: the short side" in out
    assert "\nstudent_train.length=100 epochs" in out
    assert main(["train", "--help", "loss=nun"]) == 2


def test_what_help_and_a_cached_plan_import(trained_here):
    """Counted in processes of their own. What is not needed is not imported, and nobody waits for it."""
    code = "import sys; from kdx.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    own = json.loads((trained_here / "outputs/runs/a=b/run.json").read_text())["command"][2:]
    imported, printed = {}, {}
    for name, command in {"help": ["train", "--help"], "plan": ["plan", *own]}.items():
        done = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
        )
        imported[name], printed[name] = set(done.stderr.split()), done.stdout
        assert ("hydra" in imported[name]) == (name == "plan")
    rooms = {".".join(module.split(".")[:2]) for module in imported["help"] if module.startswith("kdx.")}
    assert not rooms & {"kdx.pipeline", "kdx.planning", "kdx.report", "kdx.runs", "kdx.methods", "kdx.models"}
    assert (
        "loss: " in printed["help"]
        and "kd*," in printed["help"].split("loss: ")[1].split("\nmade_up: ")[0].split()
    )
    assert "\nseed=0 " in printed["help"] and "Everything is in the store" in printed["plan"]
    needless = {"numpy", "rich", "torch", "filelock", "kdx.config.wire", "kdx.commands.train"}
    assert imported["help"] & needless == set()
    needless = {"torch", "PIL", "matplotlib", "sklearn", "filelock", "subprocess", "importlib.metadata"}
    assert imported["plan"] & {*needless, "numpy"} == set()


def test_a_plan_of_what_is_in_the_store_asks_the_recipe_once(trained_here, monkeypatch, capsys):
    """Once more than the check before any work; only of what is missing a plan looks both ways."""
    own = json.loads((trained_here / "outputs/runs/a=b/run.json").read_text())["command"][2:]
    asked, perform = [], dry_run.perform
    monkeypatch.setattr(dry_run, "perform", lambda *a, **k: asked.append(k) or perform(*a, **k))
    assert main(["plan", *own]) == 0
    assert len(asked) == 1 and "Everything is in the store" in capsys.readouterr().out


NUMBERS = st.sampled_from([0, 1, -1, 0.5, 2.0, 1e19, float("nan"), True, None, "x", [], {}, [1], [None, 2]])
NESTED = st.recursive(
    NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
SHAPES = (
    shapes.SHARE,
    [shapes.COUNT],
    [shapes.Maybe(shapes.SHARE)],
    [[shapes.COUNT]],
    {"a": shapes.COUNT, "*": [shapes.COUNT]},
    {"a": {"b": str, "c": [{"a": shapes.SHARE}]}, "b": bool},
    {},
    int,
)


def plainly_wrong(value, shape, where):
    """The same sentences without anything that makes them quick to find."""
    kind = shape if isinstance(shape, type) else type(shape)
    if isinstance(shape, shapes.Number):
        if why := shape.wrong(value):
            yield f"{where} {why}, and is {shapes.value_in_words(value)}"
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield f"{where} must be {shapes.ASKED[kind]}, and is {shapes.value_in_words(value)}"
    elif isinstance(shape, list):
        maybe = isinstance(shape[0], shapes.Maybe)
        for item in value:
            if item is not None or not maybe:
                yield from plainly_wrong(item, shape[0].inner if maybe else shape[0], f"each of {where}")
    elif isinstance(shape, dict) and shape:
        for key, inner in value.items():
            wanted = shape.get(key, shape.get("*"))
            if wanted is not None and inner is not None:
                yield from plainly_wrong(inner, wanted, f"{where}.{key[:40]}".lstrip("."))


@hypothesis.given(NESTED, st.sampled_from(range(len(SHAPES))))
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_all_that_is_wrong_with_a_value_is_said(value, number):
    assert list(all_wrong(value, SHAPES[number], "it")) == [*plainly_wrong(value, SHAPES[number], "it")]


def test_a_sweep_that_is_done_reads_each_document_twice(trained_here, monkeypatch, capsys):
    """To know that it is done, and to compare; and it looks through each artifact once."""
    own = json.loads((trained_here / "outputs/runs/a=b/run.json").read_text())["command"][2:]
    words = ["train", "-m", *(word for word in own if not word.startswith("hydra")), "seed=0"]
    assert main(words) == 0
    read, looked = Counter(), Counter()
    read_json, verify = reading.read_json, store.verify
    monkeypatch.setattr(
        reading, "read_json", lambda file, **how: read.update([file]) or read_json(file, **how)
    )
    monkeypatch.setattr(store, "verify", lambda path, **how: looked.update([path]) or verify(path, **how))
    capsys.readouterr()
    assert main(words) == 0
    assert "all are done" in capsys.readouterr().out
    assert list(read.values()) == [2] and set(looked.values()) == {1}
