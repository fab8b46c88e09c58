"""Whether two runs gave the same numbers, and where they did not, what was different: read from their
run.json and manifests. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kdx.core.errors import UserError
from kdx.core.roles import ROLES
from kdx.pipeline import stages
from kdx.runs.reading import Run
from kdx.store.moved import current
from kdx.tasks.shown import shown_metrics

TIMES = ("latency_ms", "seconds", "teacher_seconds_saved")
_LONG = (
    "confusion",
    "predicted",
    "confused",
    "mistaken_for",
    "mistaken",
    "worst",
    "arrays",
    "recall",
    "class_counts",
    "reliability",
    "confidence",
    "histogram",
    "curves",
    "validation_margins",
    "counts",
    "right",
    "edges",
)
"""Figures of many cells: compared, and counted, but not listed one by one."""
_LATER = (
    "recall",
    "class_counts",
    "learned",
    "believed_accuracy",
    "predicted",
    "confused",
    "arrays",
    "figures",
)
"""Figures that older runs lack, as they do metrics: where the recorded run has none of a kind, they are not
compared.
"""
_WORDS = ("metric", "metrics", "roles", "by_class")
"""What results say of how a figure is called and shown, and what follows from other figures."""
VERSIONS = ("kdx", "commit", "python", "torch", "torchvision", "numpy", "platform")
_SETTLED = ("device", "threads", "hardware", "python", "torch", "torchvision", "numpy", "kdx")
Difference = tuple[str, Any, Any]
"""(what, recorded, now)"""


@dataclass(frozen=True)
class Likeness:
    """compared: how many numbers. numbers, weights, environment: what differs. stages: (the run's name of a
    stage, why its key is another).

    known: whether the recorded run has numbers at all. metric: the name of the one that counts. student: the
    digest of the student's last weights where both have the same.
    """

    known: bool
    metric: str
    compared: int
    numbers: list[Difference]
    weights: list[Difference]
    student: str | None
    stages: list[tuple[str, str]]
    environment: list[Difference]

    @property
    def same(self) -> bool:
        return self.known and not self.numbers and not self.weights


def differences(recorded: Run, now: Run) -> Likeness:
    """recorded: anybody's; now: this machine's."""
    before, after = (dict(_figures(r.document)) for r in (recorded, now))
    counts, *others = shown_metrics(now.document.get("results"))
    unknown = {part for part in (*_LATER, *others) if not any(part in name.split(".") for name in before)}
    after = {name: value for name, value in after.items() if not unknown & set(name.split("."))}
    if not any("confusion" in name.split(".") for name in after):  # of many classes it is an array today
        before = {name: value for name, value in before.items() if "confusion" not in name.split(".")}
    differ = [
        (name, before.get(name), after.get(name))
        for name in {**before, **after}
        if not _equal(before.get(name), after.get(name))
    ]
    old, new = weights(recorded), weights(now)
    changed = [(name, old[name], new.get(name)) for name in old if old[name] != new.get(name)]
    student = new.get("student, last")
    return Likeness(
        known=any(name.startswith("results.") for name in before),
        metric=counts,
        compared=len({**before, **after}),
        numbers=differ,
        weights=changed,
        student=student if student and student == old.get("student, last") else None,
        stages=list(other_keys(recorded, now)),
        environment=list(other_environment(recorded.document, now.document)),
    )


def _figures(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    results = document.get("results")
    if isinstance(results, Mapping):
        results = {key: value for key, value in results.items() if key not in _WORDS}
    return _numbers({"results": results, "audit": document.get("audit")})


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """(dotted name, number) of all that was measured, times apart."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in TIMES:
                yield from _numbers(inner, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _numbers(inner, f"{name}.{place}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def _equal(one: Any, other: Any) -> bool:
    return one is not None and other is not None and one == other


def weights(run: Run) -> dict[str, str]:
    """ "role, last" -> digest of the file of weights: as run.json says, or of older runs the manifest in the
    store.
    """
    found = {}
    results = run.document.get("results")
    results = results if isinstance(results, Mapping) else {}
    own = results.get("roles")
    for role in (*ROLES, *(own if isinstance(own, Mapping) else ())):
        about = results.get(role)
        digests = about.get("weights") if isinstance(about, Mapping) else None
        if role == "teacher" and run.members():
            found |= _of_members(results)
            continue
        if not isinstance(digests, Mapping):
            files = (manifest(run, run.roles().get(role)) or {}).get("files", {})
            digests = {
                which: files[f"{which}.safetensors"]["sha256"]
                for which in ("last", "best")
                if f"{which}.safetensors" in files
            }
        found |= {
            f"{role}, {which}": digests[which]
            for which in ("last", "best")
            if isinstance(digests.get(which), str)
        }
    return found


def _of_members(results: Mapping[str, Any]) -> dict[str, str]:
    """The same of the members of an ensemble: "member 1, last"."""
    members = results.get("members")
    return {
        f"member {number}, {which}": digest
        for number, member in enumerate(members if isinstance(members, list) else [], 1)
        if isinstance(member, Mapping) and isinstance(member.get("weights"), Mapping)
        for which, digest in member["weights"].items()
        if isinstance(digest, str)
    }


def manifest(run: Run, name: str | None) -> dict[str, Any] | None:
    """That of a stage's artifact; None where it is gone or damaged."""
    try:
        return run.stage(name).manifest if name in run.stages else None
    except UserError:
        return None


def other_keys(recorded: Run, now: Run) -> Iterator[tuple[str, str]]:
    """(stage, why) for each stage whose key differs."""
    entries = [{e["name"]: e for e in run.document["stages"]} for run in (recorded, now)]
    for name in {**recorded.stages, **now.stages}:
        if name not in now.stages or name not in recorded.stages:
            yield name, "only there" if name in recorded.stages else "only here"
        elif recorded.stages[name] != now.stages[name]:
            whole = [manifest(run, name) for run in (recorded, now)]
            yield (
                name,
                "; ".join(_why(*(entry[name] for entry in entries), *whole))
                or "it cannot be known: its artifact is not here",
            )


def _why(recorded: Mapping, tells: Mapping, there: Mapping | None, here: Mapping | None) -> Iterator[str]:
    """recorded, tells: the stage's entries in run.json. there, here: its manifests, or None."""
    if (old := (there or recorded).get("code")) is not None and old != (here or tells).get("code"):
        yield "other code"
    if there and here:
        if there["version"] != here["version"]:
            yield f"version {there['version']} of the stage became {here['version']}"
        yield from _inputs(current(there["inputs"]), current(here["inputs"]), "")
        return
    sources = [
        entry.get("sources") if isinstance(entry.get("sources"), Mapping) else {}
        for entry in (recorded, tells)
    ]
    others = [name for name in sources[1] if name in sources[0] and sources[0][name] != sources[1][name]]
    yield from (f"other data: {name}" for name in others)
    if not others and old is not None and old == (here or tells).get("code"):
        yield "the same code: its settings, or what it was made from"


def _inputs(there: Any, here: Any, name: str) -> Iterator[str]:
    """What differs between canonical inputs."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in {**there, **here}:
            yield from _inputs(
                there.get(key), here.get(key), f"{name}.{key}".replace(".component", "").lstrip(".")
            )
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for place, (old, new) in enumerate(zip(there, here, strict=True)):
            yield from _inputs(old, new, f"{name}.{place}")
    elif there != here:
        last = name.rpartition(".")[2]
        if last == "artifact":
            yield f"made from another {str(here if here is not None else there).partition('/')[0]}"
        elif ".sources." in f".{name}" or last == "source":
            yield f"other data: {name.replace('sources.', '')}"
        else:
            yield f"{name}: {brief_value(there)} there, {brief_value(here)} here"


def other_environment(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """Versions, commit and platform of the runs, and what the figures were made with."""
    old, new = (
        d.get("environment") if isinstance(d.get("environment"), Mapping) else {} for d in (recorded, now)
    )
    settled = [e.get("settled") if isinstance(e.get("settled"), Mapping) else {} for e in (old, new)]
    for name in VERSIONS:
        if name not in _SETTLED or name not in settled[0]:
            if old.get(name) != new.get(name):
                yield name, old.get(name), new.get(name)
    for name in _SETTLED:
        if name in settled[0] and settled[0].get(name) != settled[1].get(name):
            yield name, settled[0].get(name), settled[1].get(name)
    elsewhere, there = (
        e.get("elsewhere") if isinstance(e.get("elsewhere"), Mapping) else {} for e in (old, new)
    )
    for stage, own in elsewhere.items():
        if stage == stages.PROBE.name:
            continue  # what it settled is asked for by name the next time
        made = settled[1] | (dict(there[stage]) if isinstance(there.get(stage), Mapping) else {})
        for name, value in own.items() if isinstance(own, Mapping) else ():
            if value != made.get(name):
                yield f"{name} of {stage}", value, made.get(name)


def brief_value(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def worth_showing(differences: list[Difference], most: int, metric: str) -> list[Difference]:
    """Those worth showing first: test, then validation, of every role, by the metric that counts and those
    whose names end like it; cells of matrices and histograms left out.
    """
    single = [d for d in differences if not any(part in _LONG for part in d[0].split("."))]
    return sorted(
        single,
        key=lambda d: (".test." not in d[0], ".validation." not in d[0], not d[0].endswith(metric)),
    )[:most]


def trains(run: Run) -> str | None:
    """The run's name of the stage that trained the student, or the last one that trained anything."""
    roles = run.roles()
    return roles.get("student") or next(
        (
            name
            for name in reversed(run.stages)
            if run.stages[name][0] in (stages.TRAIN.name, stages.PRETRAIN.name)
        ),
        None,
    )
