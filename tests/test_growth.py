"""What must not grow with the number of files, runs and classes: how often each is looked at. Nothing is
timed here; scripts/bench_growth.py does that.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from test_folder import SETTINGS, classes

from kdx.cli import main
from kdx.config.wire import known
from kdx.core import snapshot
from kdx.data.pictures import decode
from kdx.store import source
from kdx.store.component import Component
from kdx.store.source import Source

SHORT = (
    "device=cpu",
    "device.threads=1",
    "teacher=mlp_small",
    "student=mlp_small",
    "augment=none",
    "teacher_pretrain.steps=2",
    "student_train.steps=2",
)


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
    for command in (["train", *words], ["plan", *words], ["train", "-m", *words, "seed=0,1,2"]):
        listed.clear()
        opened.clear()
        assert main(command) == 0
        assert [listed[folder] for folder in folders] == [1, 1, 1]
        assert set(opened.values()) <= {1}
    # the third command had two runs to make, and looked at each header once for both
    assert len(opened) == 41


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
    source._write_memo(Source.memo, {str(tmp_path / "a"): [1, 2, 3, 4, "x"]})
    assert source._memo_in(Source.memo) == {str(tmp_path / "a"): [1, 2, 3, 4, "x"]}
    text = Source.memo.read_text()
    Source.memo.write_text(text.replace("1, 2", "2, 1"))
    assert source._memo_in(Source.memo) == {}
    assert Source(*paths).digest() == first
