"""Files that the user names for a command to write: what stands at the path is theirs, and what is no regular
file stays what it is.
"""

from __future__ import annotations

import json
import os
import select
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fabricate import document, folder

from kdx.cli import main
from kdx.core import path_checks
from kdx.core.errors import UserError
from kdx.core.files import kind_at, write_output


def device(place: Path, minor: int) -> Path:
    """Like /dev/null (3) or /dev/full (7)."""
    try:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        place.open("wb").close()
    except OSError:
        pytest.skip("devices are made by root only")
    return place


def test_a_regular_file_is_replaced_at_once_and_keeps_its_permissions(tmp_path):
    file = tmp_path / "x.json"
    write_output("json", file, "one")
    before = file.stat().st_ino
    file.chmod(0o600)
    write_output("json", file, "±")
    assert (
        file.read_text(encoding="utf-8") == "±"
        and file.stat().st_ino != before
        and stat.S_IMODE(file.stat().st_mode) == 0o600
    )
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "kept").mkdir()
    link, target = tmp_path / "link", tmp_path / "kept/file"
    link.symlink_to("kept/file")
    for text in ("made", "and again"):
        assert path_checks.output("json", str(link)) == link
        write_output("json", link, text)
        assert kind_at(link) == "a link" and target.read_text() == text
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(UserError, match="symbolic links"):
        write_output("json", tmp_path / "round", "x")
    (tmp_path / "lost").symlink_to("nowhere/file")
    with pytest.raises(UserError, match="its folder does not exist"):
        path_checks.output("json", str(tmp_path / "lost"))


def test_a_pipe_is_written_to_and_never_waited_for(tmp_path):
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"json=.*pipe cannot be written: nobody reads this pipe"):
        write_output("json", pipe, "x")
    place = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(place, True)
    reader = threading.Thread(
        target=lambda: select.select([place], [], []) and heard.append(open(place).read())
    )  # noqa: SIM115
    reader.start()
    write_output("json", pipe, long := "x" * 200_000)
    reader.join(20)
    assert heard == [long] and kind_at(pipe) == "a pipe"


def test_a_device_stays_a_device_whatever_command_writes_to_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    null, full = device(tmp_path / "null", 3), device(tmp_path / "full", 7)
    folder(tmp_path, "run", document(seed=1))
    for name in ("csv", "json", "md", "html"):
        assert main(["compare", "run", f"{name}=null"]) == 0
        assert main(["compare", "run", f"{name}=full"]) == 2
        assert f"{name}=full cannot be written: No space left on device" in capsys.readouterr().err
    monkeypatch.setattr("kdx.commands.halfspace.measure_methods", lambda *_: ({}, []))
    monkeypatch.setattr("kdx.commands.halfspace._show", lambda *_: None)
    monkeypatch.setattr("kdx.commands.evaluate.evaluate_run", lambda *_: {})
    monkeypatch.setattr("kdx.commands.evaluate._show", lambda *_: None)
    monkeypatch.setattr("kdx.commands.plan.check_runs", lambda *_, **__: [])
    monkeypatch.setattr("kdx.planning.document.look_ahead", lambda *_: {})
    monkeypatch.setattr("kdx.commands.plan.show_plan", lambda *_: None)
    for words in (["halfspace"], ["evaluate", "run"], ["plan"]):
        assert main([*words, "json=null"]) == 0 and main([*words, "json=full"]) == 2
    assert kind_at(null) == kind_at(full) == "a device" and sorted(os.listdir()) == ["full", "null", "run"]


def test_what_stdout_leads_to_is_written_to_in_its_place(tmp_path):
    with (tmp_path / "out").open("w") as out:
        code = (
            "from pathlib import Path; from kdx.core.files import write_output; print('one'); "
            "write_output('csv', Path('/dev/stdout'), 'two\\n'); print('three')"
        )
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "one\ntwo\nthree\n"


def test_a_run_again_and_an_export_go_to_no_pipe_and_no_device(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "lost").symlink_to("nowhere")
    folder(tmp_path, "run", document(seed=1))
    for name, reported in (("pipe", "is a pipe"), ("lost", "is a link to what is not there")):
        assert main(["rerun", "run", f"to={name}"]) == 2
        assert reported in capsys.readouterr().err
    from kdx.runs.export.export import check_folder

    for name in ("pipe", "lost"):
        with pytest.raises(UserError, match="is no earlier export"):
            check_folder(Path(name))
    assert kind_at(Path("pipe")) == "a pipe" and kind_at(Path("lost")) == "a link"


@pytest.mark.parametrize("key", ["store", "hydra.run.dir"])
def test_what_is_in_the_place_of_a_folder_is_reported_as_what_it_is(key, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "lost").symlink_to("nowhere")
    (tmp_path / "file").touch()
    (tmp_path / "away").symlink_to("file")
    kinds = {
        "pipe": "is a pipe",
        "lost": "is a link to what is not there",
        "file": "is a file",
        "away": "is a link to a file",
    }
    for name, reported in kinds.items():
        assert main(["train", f"{key}={name}"]) == 2
        found = capsys.readouterr().err
        assert reported in found and "Traceback" not in found, found
    assert json.dumps(sorted(os.listdir())) == json.dumps(sorted(kinds))
