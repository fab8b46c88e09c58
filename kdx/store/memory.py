"""What a store remembers of files beside its artifacts, so that it need not be found out again: a file of
JSON that is whole, or counts for nothing. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.core import snapshot
from kdx.core.errors import UserError
from kdx.core.files import LARGEST, read_json, write_atomically

_BEGIN, _BETWEEN = b'{"files": ', b', "sha256": "'
_END = b'"}'


def keep(path: Path | None, known: Mapping[str, list[Any]]) -> None:
    """Only where its folder is there already. In the form that its digest is of, so that its bytes can be
    checked as they are.
    """
    if path is None or not path.parent.is_dir():
        return
    files = json.dumps(known, sort_keys=True).encode()
    with contextlib.suppress(OSError):  # a full disk costs the memory, not the run
        write_atomically(path, _BEGIN + files + _BETWEEN + hashlib.sha256(files).hexdigest().encode() + _END)


def recall(path: Path | None) -> Mapping[str, list[Any]]:
    """What was kept; nothing of a file that is not as it was written: a wrong digest would name another data
    set, or other code.
    """
    if path is None or not os.path.isfile(path):
        return {}
    return snapshot.while_same(("memory", os.path.abspath(path)), str(path), lambda: _read(path), bool)


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        text = path.read_bytes() if path.stat().st_size <= LARGEST else b""
        files, _, digest = text.removeprefix(_BEGIN).removesuffix(_END).rpartition(_BETWEEN)
        if text.startswith(_BEGIN) and hashlib.sha256(files).hexdigest().encode() == digest:
            found = json.loads(files)
        else:  # as an older kdx wrote it
            whole = read_json(path)
            found = whole["files"] if whole and whole["sha256"] == _of(whole["files"]) else {}
    except (UserError, OSError, LookupError, TypeError, ValueError, RecursionError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, list)} if isinstance(found, dict) else {}


def _of(known: Any) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
