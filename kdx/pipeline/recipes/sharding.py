"""The teacher's answers made in shards (`pseudo_label.shards`), by whatever processes are given the same, and
put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdx.pipeline.stages import LABEL, LABEL_SHARD
from kdx.store.artifact import Artifact
from kdx.store.store import Halt, Store


def label_in_shards(store: Store, asked: Mapping[str, Any], name: str, inputs: Mapping[str, Any]) -> Artifact:
    """The artifact of the labelling stage on these inputs. asked: `pseudo_label`. Where it asks for shards,
    and the whole is not there, they are made first; raises Halt where it asks for one shard alone, once that
    is there.
    """
    number, of = asked["shard"], asked["shards"]
    if of == 1 or store.has_whole(LABEL, **inputs):
        if number is not None and not store.peek:
            store.listener.note(
                name, f"the answers are whole: nothing is left for shard {number} to do", "info"
            )
        return store.run(LABEL, name=name, **inputs)
    beside = {"whole": store.key(LABEL, inputs)[0]}
    # the passes with dropout are drawn in one row, so they are not a shard's
    common = {key: value for key, value in inputs.items() if key != "passes"}
    if number is not None:
        its = {**common, "shard": [number, of]}
        made = store.make(LABEL_SHARD, shard_name(name, number), its, beside)
        _tell(store, shard_name(name, number), made, number, of)
        raise Halt(name)
    several = {shard_name(name, each): {**common, "shard": [each, of]} for each in range(of)}
    shards = store.share(LABEL_SHARD, several, beside)
    return store.make(LABEL, name, inputs, {"shards": shards})


def shard_name(name: str, number: int) -> str:
    """What a run calls a shard of the stage that it calls `name`: "label-shard-0", of a later round
    "label-shard-2-0"."""
    return f"{LABEL_SHARD.name}{name.removeprefix(LABEL.name)}-{number}"


def _tell(store: Store, name: str, made: Artifact, number: int, of: int) -> None:
    if store.peek:
        return
    ranges = made.json("shard.json")["ranges"]
    rows = ", ".join(f"{stop - start:,} of {file}" for file, (start, stop) in ranges.items()) or "none"
    store.listener.note(
        name,
        f"shard {number} of {of} is in the store (rows: {rows}); when all are, the same command without "
        "pseudo_label.shard= puts them together and goes on",
        "info",
    )


def wrong_shard(number: int, of: int) -> Iterator[str]:
    """Why `pseudo_label.shard` is none of its shards."""
    if of == 1:
        yield (
            f"pseudo_label.shard={number} makes one of several shards, and there is one: set "
            "pseudo_label.shards=8, say, or leave it out"
        )
    elif number >= of:
        yield (
            f"pseudo_label.shard={number} is none of the {of} shards, which are counted from 0: name one "
            f"of 0 to {of - 1}; 'pseudo_label.shard=range({of})' with -m makes all"
        )
