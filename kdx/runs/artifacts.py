"""Artifacts of a store opened as data: nothing in them is trusted before it has been checked. No torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.pipeline import stages
from kdx.store.artifact import Artifact
from kdx.store.manifest import KEY, MANIFEST, Unreadable, references, there
from kdx.store.manifest import read_manifest as read_any_manifest
from kdx.store.stage import Stage
from kdx.store.verification import verify

WRITES = {found.name: found.writes for found in vars(stages).values() if isinstance(found, Stage)}
"""stage -> the files that it always writes."""
STAGE_NAMES = tuple(WRITES)
"""Names of kdx's own folders in a store."""
_DATA = tuple(
    found.name
    for found in vars(stages).values()
    if isinstance(found, Stage) and stages.DATA[0] in found.writes
)
"""Stages that lay down prepared data."""
_DECODED = re.compile(r"\.\./\.\./decode/([0-9a-f]{64})")
"""Where the rows of prepared data lie."""
NAME = re.compile(r"[a-z][a-z0-9-]*")
"""What a run calls a stage."""


def open_artifact(store: Path, stage: str, key: str) -> Artifact:
    """store/stage/key, with a manifest that belongs to the key and files that have the content which was
    published; else a UserError.
    """
    artifact = Artifact(stage, key, Path(store) / stage / key)
    file = artifact.file(MANIFEST)
    try:
        if there(file) is None or not os.path.isfile(file):
            raise UserError(
                f"{stage}/{key} is not in the store '{store}': it was removed; run the same `kdx train` again"
            )
        read_run_manifest(file)
        damage = verify(artifact.path, stage=stage, key=key, writes=WRITES.get(stage, ()))
    except Unreadable as error:
        raise UserError(f"{stage}/{key} cannot be used: {error}") from error
    if damage:
        raise UserError(f"the store is damaged: {damage}; run the same `kdx train` again to mend it")
    if stage in _DATA:
        _check_decoded(artifact)
    return artifact


def _check_decoded(data: Artifact) -> None:
    """The rows of prepared data lie in another artifact of the same store, which is checked as well; those of
    before have their own."""
    try:
        about = data.json("data.json")
    except UserError:  # whoever reads it says so
        return
    where = about.get("decoded") if isinstance(about, dict) else None
    if where is None:
        return
    match = _DECODED.fullmatch(where) if isinstance(where, str) else None
    if not match:
        raise UserError(f"'{data.file('data.json')}' is not as kdx writes it: decoded")
    open_artifact(data.path.parent.parent, stages.DECODE.name, match[1])


def read_run_manifest(file: Path) -> dict[str, Any]:
    manifest = read_any_manifest(file)
    for stage, key in references(manifest["inputs"]):
        check_stage(stage, file)
        check_key(key, file)
    return manifest


def upstream(artifact: Artifact) -> dict[str, Artifact]:
    """ "stage/key" -> artifact, for all that it was made from, directly or not, and itself last. Each is
    checked.
    """
    found: dict[str, Artifact] = {}

    def climb(artifact: Artifact) -> None:
        for stage, key in references(artifact.manifest["inputs"]):
            if f"{stage}/{key}" not in found:
                climb(open_artifact(artifact.path.parent.parent, stage, key))
        found[f"{artifact.stage}/{artifact.key}"] = artifact

    climb(artifact)
    return found


def only_input(artifact: Artifact, name: str) -> Artifact:
    """The artifact that is the input `name` of another one."""
    ((stage, key),) = references(artifact.manifest["inputs"][name])
    return open_artifact(artifact.path.parent.parent, stage, key)


def check_key(key: str, file: Path) -> str:
    if not KEY.fullmatch(key):
        raise UserError(f"'{file}' is not as kdx writes it: a key is 64 hexadecimal digits, not {key[:80]!r}")
    return key


def check_stage(stage: str, file: Path) -> str:
    """One of kdx's own, or the name of one that may be the user's own, of which the manifest alone tells."""
    if not NAME.fullmatch(stage):
        raise UserError(f"'{file}' names a stage that kdx does not know: {stage[:80]!r}")
    return stage
