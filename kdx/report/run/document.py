"""run.json read as data: every command reads it here, gets what has the shape of docs/run-json.md or one
sentence, and asks here whether a run is at work.
"""

from __future__ import annotations

import contextlib
import os
import platform
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.files import own_file, read_json
from kdx.core.metric import WRITTEN, Metric
from kdx.core.roles import ROLES
from kdx.core.shapes import COUNT, LARGEST_NUMBER, MADE, SHARE, Maybe, Number, all_wrong, value_in_words
from kdx.store.moved import current
from kdx.tasks.shown import shown_metrics

RUN_FILE, LOCK = "run.json", "run.lock"
DIED, UNSURE = "died", "running, or died"
_SPLIT = {
    "n": COUNT,
    "of": COUNT,
    "recall": [Maybe(SHARE)],
    "confusion": [[COUNT]],
    "predicted": [COUNT],
    "confused": [{"truth": COUNT, "predicted": COUNT, "rows": COUNT}],
    "mistaken_for": [Maybe(COUNT)],
    "mistaken": [COUNT],
    "arrays": {"*": {"file": str, "shape": [COUNT], "sha256": str}},
    "reliability": {"edges": [Number()], "counts": [COUNT], "confidence": [Maybe(SHARE)], "right": [COUNT]},
    "map_by_class": {"*": SHARE},
    "figures": [{"title": str, "tag": str, "kind": str, "data": {}}],
}
"""Of one split, what is no metric."""
MEASURED = {
    **_SPLIT,
    "accuracy": SHARE,
    "balanced_accuracy": SHARE,
    "ece": SHARE,
    "nll": COUNT,
    "agreement": SHARE,
}
"""Of one split where the document names no metrics."""
_WAY = {"matrix": [[Number()]], **dict.fromkeys(("average", "old", "last"), Number())}
_SESSIONS = {
    "names": [str],
    "way": str,
    "rows": [COUNT],
    "arms": {"*": {"*": {**_WAY, "forgetting": Number(), "backward": Number()}}},
}
"""Of a run over sessions: kdx.pipeline.stages.sessions."""
_PREQUENTIAL = {
    "chunks": [COUNT],
    "rows": [COUNT],
    "arms": {"*": {"by_chunk": [Number()], "mean": Number()}},
}
"""Of a stream: kdx.pipeline.stages.prequential."""
_NETWORK = {
    "model": str,
    "parameters": COUNT,
    "bytes": COUNT,
    "flops": COUNT,
    "latency_ms": COUNT,
    "steps": COUNT,
    "best_step": COUNT,
    "precision": str,
    "stopped": str,
    "weights": {"*": str},
    "beside": {"*": {"*": Number()}},
}


def _of_networks(measured: Any, shifted: Number, roles: Iterable[str]) -> dict[str, Any]:
    """What results.json holds of networks. measured: what one split has. shifted: the metric that counts."""
    splits = {"*": measured}
    network = {**_NETWORK, "last": splits, "best": splits}
    return {
        "rounds": [{"validation": measured, "test": measured}],
        "members": [network],
        "shifts": {"*": {"*": shifted}},
        "attacks": {"*": {"*": shifted}},
        **dict.fromkeys(roles, network),
    }


_PROMISE = {
    **dict.fromkeys(
        ("epsilon", "epsilon_closed_form", "epsilon_of_pool", "queries", "answered", "shards"), COUNT
    ),
    "delta": SHARE,
    "noise": {},
    **dict.fromkeys(("noise_in_words", "accountant", "neighbours", "covers"), str),
    "known_seed": bool,
    "attack": {"*": {"*": {"auc": SHARE, **dict.fromkeys(("standard_error", "members", "others"), COUNT)}}},
}
"""What a release of private rows promises, see kdx.pipeline.stages.release."""
SHAPE = {
    "status": str,
    "error": str,
    "traceback": str,
    "store": str,
    "host": str,
    "started": str,
    "ended": str,
    "seconds": COUNT,
    "command": [str],
    "warnings": [str],
    "data": [str],
    "gate": {},
    "proxy": {},
    "predictions": {"file": str, "rows": {"*": COUNT}, "weights": str, "columns": [str]},
    "unread": {"file": str, "count": COUNT, "first": [str], "reasons": [str]},
    "config": {},
    "environment": {"settled": {**MADE, "precision": {}}, "elsewhere": {"*": MADE}},
    "protocol": {"digests": {"*": str}, "counts": {}, "sizes": {}, "paths": [str]},
    "stages": [
        {
            "name": str,
            "key": str,
            "cached": bool,
            "seconds": COUNT,
            "code": str,
            "sources": {"*": str},
            "threads": COUNT,
            "precision": str,
        }
    ],
    "results": {
        "classes": [str],
        "class_counts": {"*": [COUNT]},
        "headline": str,
        "gain": Number(),
        "gap_closed": Number(),
        "gap_closed_reason": str,
        "gained_by": [str],
        "metric": WRITTEN,
        "metrics": [WRITTEN],
        "floor": {"*": {"value": Number(), "words": str}},
        "roles": {"*": {"words": str, "short": str, "colour": str}},
        "round_chosen": str,
        "sessions": _SESSIONS,
        "prequential": _PREQUENTIAL,
        "bill": {"answers": COUNT, "price": COUNT, "cost": COUNT, "seconds": COUNT, "time": COUNT},
        "by_class": {"*": {"*": {**dict.fromkeys(("precision", "recall", "f1"), SHARE), "n": COUNT}}},
        "worst": {"role": str, "rows": [{}]},
        "privacy": _PROMISE,
        **_of_networks(MEASURED, SHARE, ROLES),
    },
    "audit": {"classes": [str], "teacher": {}, "domain_gap": {}, "rounds": [{}]},
}
"""Of each key what it holds where it is there and not null: a type, a Number, [of each item], or {of each
key; `*`: of all others}. Other keys may hold anything: a newer kdx may have written them."""
BASIS = {key: SHAPE[key] for key in ("status", "config", "stages", "host")}
_OTHER_TASK = {**SHAPE, "results": {**SHAPE["results"], **_of_networks({}, Number(), ROLES)}}
"""Where the document names its metrics, before these say what their values may be."""


def read_document(file: Path, *, figures: bool = True) -> dict[str, Any]:
    """A run.json, whoever wrote it. figures: whether what it says of results and surroundings is trusted,
    else only what it was made of and where that lies. Raises UserError where it cannot be read, or has not
    the shape of one."""
    return checked(read_json(file), file, figures=figures)


def checked(document: Any, file: Path | str, *, figures: bool = True) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise UserError(
            f"'{file}' is not as kdx writes it: it must hold an object, and holds {value_in_words(document)}"
        )
    if found := _wrong(document) if figures else next(all_wrong(document, BASIS, ""), None):
        raise UserError(f"'{file}' is not as kdx writes it: {found}")
    config = document.get("config")
    # written before the code that it names was moved
    if config is not None and (now := current(config)) != config:
        return {**document, "config": now}
    return document


def _wrong(document: Mapping[str, Any]) -> str | None:
    """What is wrong with a document that is trusted, in a sentence; None where nothing is."""
    results = document.get("results")
    names = isinstance(results, dict) and any(results.get(key) for key in ("metric", "metrics", "roles"))
    if found := next(all_wrong(document, _OTHER_TASK if names else SHAPE, ""), None):
        return found
    return _wrong_of_task(results) if names else None


def _wrong_of_task(results: Mapping[str, Any]) -> str | None:
    """What is wrong with results that name their metrics or roles."""
    roles = results.get("roles") or {}
    if taken := sorted(roles.keys() & (SHAPE["results"].keys() - ROLES.keys())):
        return f"results.roles names {taken[0]!r}, which is no role"
    try:
        metrics = shown_metrics(results)
    except UserError as error:
        return str(error)
    bounds = {name: _bounds(metric) for name, metric in metrics.items()}
    measured, counts = {**_SPLIT, **bounds}, next(iter(bounds.values()))
    return next(all_wrong(results, _of_networks(measured, counts, [*ROLES, *roles]), "results"), None)


def _bounds(metric: Metric) -> Number:
    """A mean of ones may round to a little more than 1."""
    high = LARGEST_NUMBER if metric.high is None else metric.high
    return Number(-LARGEST_NUMBER if metric.low is None else metric.low, SHARE.high if high == 1 else high)


def seconds(document: Mapping[str, Any]) -> float | None:
    """How long a run took, by a clock that nobody sets; of older runs by the times that it began and ended,
    where these tell.
    """
    if document.get("seconds") is not None:
        return document["seconds"]
    try:
        return max(
            0.0,
            (
                datetime.fromisoformat(document["ended"]) - datetime.fromisoformat(document["started"])
            ).total_seconds(),
        )
    except (LookupError, TypeError, ValueError):
        return None


# Whether a run is at work


@contextlib.contextmanager
def at_work(folder: Path, timeout: float = -1) -> Iterator[str | None]:
    """Held by whoever works in a run folder, until it ends, however it ends. Yields what this machine is
    called, for run.json; None where a lock cannot be relied on. timeout: seconds to wait for another process,
    -1: until it is done. Raises UserError where it is not, or the folder cannot be made."""
    import filelock

    lock = filelock.FileLock(folder / LOCK, timeout=timeout)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own_file(folder / LOCK, "the run")
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"another process is at work on the run in '{folder}': wait for it, or choose another folder "
            "with hydra.run.dir=PATH"
        ) from None
    except OSError as error:
        raise UserError(
            f"the run folder cannot be written: {error.strerror or error} ('{error.filename or folder}'); "
            "set hydra.run.dir=PATH"
        ) from error
    try:
        yield platform.node() if _is_held(folder) else None
    finally:
        lock.release()


def _is_held(folder: Path) -> bool | None:
    """Whether a process works in a run folder; None where that cannot be known. Writes nothing, and follows
    no link.
    """
    try:
        import fcntl

        place = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except (ImportError, OSError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None
        fcntl.flock(place, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(place)


def state(folder: Path, document: Mapping[str, Any]) -> str:
    """The status of a run as it is now: of one that says `running` whether that is so, or whether it died
    (killed, or the machine went down). The lock that a run holds tells, to the machine that it was begun on
    for certain; of an older run, or another machine's, nobody can know."""
    status = document.get("status") or "of unknown status"
    if status != "running":
        return status
    held = _is_held(folder)
    if held:
        return status
    return (
        DIED if held is not None and document.get("host") and document["host"] == platform.node() else UNSURE
    )
