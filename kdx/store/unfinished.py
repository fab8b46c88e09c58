"""The folder in which a stage is made before it is published, what may lie in its place, and a store that an
older kdx has begun. No torch.
"""

from __future__ import annotations

import json
import shutil
import time
from fnmatch import fnmatch
from pathlib import Path

from kdx.core.files import kind_at, own_folder, write_atomically
from kdx.store.disk import WHO, Notify, may_write
from kdx.store.manifest import MANIFEST
from kdx.store.stage import Stage
from kdx.store.verification import verify

_KEYS, _MARK = 1, "keys.json"
"""In the store's folder: that its keys are made as they are today. A store without it was begun by an older
kdx.
"""


def open_partial(root: Path, stage: Stage, key: str, partial: Path, note: Notify) -> bool:
    """Whether the unfinished folder is complete already, but for the last rename. Else it is there
    afterwards, and holds files to go on from alone.
    """
    own_folder(partial.parent, WHO)
    if kind_at(partial) == "a link":
        own_folder(partial, WHO)
    if (found := kind_at(partial)) not in (None, "a folder"):
        put_aside(root, partial, note, f"begins anew: there is {found} in the place of its unfinished folder")
    own_folder(partial, WHO)
    if verify(partial, stage=stage.name, key=key, writes=stage.writes, own=True) is None:
        return True
    for inside in list(partial.iterdir()):
        found, wanted = kind_at(inside), any(fnmatch(inside.name, pattern) for pattern in stage.resumes)
        if wanted and found != "a file":
            note(f"begins anew: there is {found} in the place of {inside}", "warning")
        if found == "a folder":
            shutil.rmtree(inside)
        elif found != "a file" or not wanted:
            inside.unlink()
    return False


def put_aside(root: Path, path: Path, note: Notify, why: str) -> None:
    """Renames what cannot be used, be it a folder, a link or anything else: nothing is lost, and nothing is
    written through it.
    """
    aside = path.with_name(f"{path.name.removesuffix('.partial')}.damaged-{time.time_ns()}")
    with may_write(root):
        path.rename(aside)
    what = "the damaged folder" if kind_at(aside) == "a folder" else f"what was there, {kind_at(aside)},"
    note(f"{why} ({what} is kept as {aside})", "warning")


def greet(root: Path, note: Notify) -> None:
    """Tells once of a store of before, none of whose keys is asked for any more."""
    mark = root / _MARK
    if kind_at(mark) is None:
        if next(root.glob(f"*/*/{MANIFEST}"), None):
            note(
                f"the store '{root}' was begun by an older kdx, which made its keys otherwise: "
                "what is in it can still be evaluated, exported and run again, and is computed anew by "
                "a run; `kdx cache gc` frees what no run needs",
                "info",
            )
        write_atomically(mark, json.dumps({"keys": _KEYS}))
