"""One finished run as a comparison needs it: read from the document run.json, every value checked. A document
is data, and nobody's word.

Values are kept as they were measured. Of the settings those that say where and how fast, and what is measured
beside the student, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdx.core.errors import UserError, nearest
from kdx.core.metric import Metric
from kdx.core.shapes import expect_shape
from kdx.report.compare.files import digests_of_files
from kdx.report.compare.measured import (
    MEASURED_SPLITS,
    Network,
    OwnRole,
    called_roles,
    own_roles,
    promised_epsilon,
    read_metrics,
    read_networks,
)
from kdx.report.run import names
from kdx.report.run.names import TARGET, Settings, visible, written
from kdx.store.places import recorded

APART = {
    "seed",
    "store",
    "device",
    "launcher",
    "sweeper",
    "allow",
    "publish",
    "stages",
    "baseline",
    "noiseless",
    "ceiling",
    "validation_labels",
    "untuned_student",
    "probed_student",
    "shift",
    "headline",
    "experiment",
    "choices",
}
APART |= {f"pseudo_label.{key}" for key in ("limit", "gate", "near_chance", "shards", "shard")}
"""Keys that do not make two runs two experiments: the seed; where and how fast; which controls and shifts are
measured as well; the weights that the table shows, which are the protocol's; and `experiment`, which only
sets other keys."""
NEUTRAL = {"dataset.class_weights": "none"}
"""Values of newer keys that are what was before there was the key: left out, as a null is, so that older runs
are the same experiment.
"""
STUDENT = "student-train"


@dataclass(frozen=True)
class Entry:
    """name: how messages call the run, its folder. settings: dotted key -> value, less APART; a null is left
    out, as what is not there. everything: all of them. choices: group -> option. given: the keys on its
    command line. keys: stage -> key. code: digest of the code that trained the student, where it is known.
    student: the key of the student that counts. classes: none of a task that has none. metrics: that the run
    shows, by name, the one that counts first. roles: of its own, that kdx does not have. called: what all
    of them are called. files: dotted key
    of a setting that names a file -> digest of what it held. epsilon: of the student of
    released labels, where something is promised of it."""

    name: str
    seed: int
    settings: Mapping[str, Any]
    everything: Mapping[str, Any]
    choices: Mapping[str, str]
    given: frozenset[str]
    student: str
    keys: Mapping[str, str]
    protocol: Mapping[str, Any]
    digests: Mapping[str, str]
    environment: Mapping[str, str]
    code: str | None
    classes: tuple[str, ...]
    weights: str
    networks: Mapping[str, Network]
    metrics: Mapping[str, Metric]
    roles: Mapping[str, OwnRole]
    called: Mapping[str, OwnRole]
    started: str
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    epsilon: float | None = None

    @property
    def counts(self) -> Metric:
        """The metric that counts."""
        return next(iter(self.metrics.values()))

    def score(self, role: str, metric: str, split: str = "test") -> float | None:
        return self.networks[role].score(split, metric) if role in self.networks else None

    def value(self, key: str) -> str | None:
        """What `key` is, as one would write it on a command line: an option of a group, or a value; None
        where the run has no such key.
        """
        if key in self.choices:
            return self.choices[key]
        found = self.everything.get(key, self.everything.get(f"{key}{TARGET}", MISSING))
        return (
            None if found is MISSING else written(key if key in self.everything else f"{key}{TARGET}", found)
        )

    @property
    def asked(self) -> Settings:
        """What its name is made of."""
        return Settings(
            {key: option for key, option in self.choices.items() if key == "experiment" or not _apart(key)},
            self.settings,
            self.given,
        )


MISSING = object()


def entry(
    name: str, document: Mapping[str, Any], digests: Mapping[str, str] | None = None, code: str | None = None
) -> Entry:
    """Of a finished run with a student. digests: of its splits, where the protocol names none. Raises
    UserError where the document is not as kdx writes it."""
    try:
        return _entry(name, document, digests or {}, code)
    except (RecursionError, OverflowError) as error:
        raise UserError(
            f"'{name}' is not as kdx writes it: its run.json is nested too deeply, or holds numbers too large"
        ) from error


def _entry(name: str, document: Mapping[str, Any], digests: Mapping[str, str], code: str | None) -> Entry:
    config, results = (expect_shape(document.get(key), dict, name, key) for key in ("config", "results"))
    seed = expect_shape(config.get("seed"), int, name, "config.seed")
    if config.get("choices") is not None:
        expect_shape(config["choices"], dict, name, "config.choices")
    everything = names.everything(config)
    # where its files lie; what they hold is known by the digests
    paths = recorded(config, document.get("protocol"))
    settings = {
        key: value
        for key, value in everything.items()
        if value not in (None, NEUTRAL.get(key)) and not _apart(key) and key not in paths
    }
    protocol = _protocol(document.get("protocol"), name)
    keys = {}
    for stage in expect_shape(document.get("stages"), list, name, "stages"):
        named, key = (
            expect_shape(expect_shape(stage, dict, name, "stages").get(k), str, name, f"stages: {k}")
            for k in ("name", "key")
        )
        keys[named] = key
    weights = results.get("headline")
    if weights not in ("last", "best"):
        raise UserError(f"'{name}' is not as kdx writes it: results.headline must be last or best")
    metrics, roles = read_metrics(results, name), own_roles(results, name)
    networks = read_networks(results, weights, metrics, list(roles), name)
    if "student" not in networks or STUDENT not in keys:
        raise UserError(f"'{name}' has no student that was measured")
    if networks["student"].score("test", next(iter(metrics))) is None:
        raise UserError(f"'{name}' has no student that was measured")
    classes = _classes(results, networks["student"], name)
    return Entry(
        name=name,
        seed=seed,
        settings=settings,
        everything=everything,
        choices=names.choices(config),
        given=names.typed_keys(document.get("command")),
        student=keys[STUDENT],
        keys=keys,
        protocol=protocol,
        digests=_texts(protocol.get("digests")) or digests,
        environment=_texts(document.get("environment")),
        code=code,
        classes=classes,
        weights=weights,
        networks=networks,
        metrics=metrics,
        roles=roles,
        called=called_roles(results),
        started=str(document.get("started") or ""),
        files=digests_of_files(document["stages"], settings),
        epsilon=promised_epsilon(results),
    )


def _classes(results: Mapping[str, Any], student: Network, name: str) -> tuple[str, ...]:
    """Older runs have them always; what has a confusion matrix has one for each of its rows."""
    found = results.get("classes")
    if found is None and results.get("metric") is not None and not student.confusion and not student.confused:
        return ()
    classes = tuple(visible(str(c)) for c in expect_shape(found, list, name, "results.classes"))
    if (table := student.confusion) and len(table) != len(classes):
        raise UserError(
            f"'{name}' is not as kdx writes it: results.classes has {len(classes)} names, and the confusion "
            f"matrix {len(table)} rows"
        )
    if any(max(pair[:2]) >= len(classes) for pair in student.confused):
        raise UserError(
            f"'{name}' is not as kdx writes it: results.classes has {len(classes)} names, and confused names "
            "another class"
        )
    return classes


def _protocol(found: Any, name: str) -> Mapping[str, Any]:
    """What every run says since the first: a run that lacks some of it follows no other protocol, but is
    damaged.
    """
    found = expect_shape(found, dict, name, "protocol")
    for key in ("dataset", "selection", "test", "headline"):
        expect_shape(found.get(key), str, name, f"protocol.{key}")
    counts = expect_shape(found.get("counts"), dict, name, "protocol.counts")
    for split in MEASURED_SPLITS:
        expect_shape(counts.get(split), int, name, f"protocol.counts.{split}")
    return found


def _apart(key: str) -> bool:
    return key in APART or key.split(".")[0] in APART


def _texts(found: Any) -> dict[str, str]:
    return (
        {str(key): visible(str(value)) for key, value in found.items() if value is not None}
        if isinstance(found, Mapping)
        else {}
    )


def pick_entries(entries: Sequence[Entry], wanted: Sequence[str]) -> list[Entry]:
    """The runs of which every `key=value` holds; `key=a,b`: either value. Raises UserError for a key or a
    value that none has.
    """
    for word in wanted:
        key, given, value = word.partition("=")
        if not given or not key or not value:
            raise UserError(f"where needs key=value, such as where=loss=slam; given: '{word}'")
        found = {e.value(key) for e in entries}
        if found <= {None}:
            known = {name for e in entries for name in (*e.choices, *e.everything)}
            raise UserError(f"where={word}: no run has a key '{key}'{nearest(key, known)}")
        values = [value] if value in found else value.split(",")
        for one in values:
            if one not in found:
                raise UserError(
                    f"where={word}: no run {'that is left ' if len(wanted) > 1 else ''}has "
                    f"{key}={one}{nearest(one, found - {None})}"
                )
        entries = [e for e in entries if e.value(key) in values]
    return list(entries)
