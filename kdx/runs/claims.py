"""Claims that can be run again: plain files in conf/claim, each read into a Claim and checked. No torch, and
nothing of Hydra's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest, within
from kdx.core.metric import Metric
from kdx.core.paths import conf_dir
from kdx.runs.derived import DerivedFigure, is_derived, parse_derived
from kdx.tasks.shown import ACCURACY

_KEYS = ("by", "measured", "command", "words", "arms", "figures", "claimed", "beside", "remarks", "corrected")
COMMANDS = ("train", "halfspace")
UNITS = {"points": ACCURACY, "share": Metric("share", "share", gains="share")}
"""unit -> how a figure is shown and compared that is no metric of its run, more being better: shares in per
cent, their differences as points; or as they are.
"""
COUNTS = "*"
"""In `at`: the name of the metric that counts in the run."""
OURS = ("seed", "store", "stages", "device", "hydra", "seeds", "first_seed", "json")
"""Keys that `kdx reproduce` sets itself."""


@dataclass(frozen=True)
class ClaimFigure:
    """One number of a run. train: at "student.last.test.*", dotted keys into `file`, a file of the stage's
    artifact, such as "evaluate/results.json" (see COUNTS). halfspace: at names the method, and the figure is
    its accuracy. unit: of UNITS, None: that of its metric. metric: of the run, by which it is shown and
    compared; COUNTS: the one that counts; None: it is none of them. more: whether more is better, None: as of
    its metric, or else yes.
    """

    arm: str
    at: str
    file: str
    unit: str | None
    metric: str | None = None
    more: bool | None = None

    def shown_as(self, metrics: Mapping[str, Metric]) -> Metric:
        """How it is shown and compared, by the metrics of its run, the one that counts first. Raises
        UserError where they lack the one that it names.
        """
        own = None
        if self.metric is not None:
            name = next(iter(metrics)) if self.metric == COUNTS else self.metric
            if name not in metrics:
                raise UserError(f"the run has no metric '{name}'{nearest(name, metrics)}")
            own = metrics[name]
        found = own if self.unit is None and own else UNITS[self.unit or "points"]
        more = own.more if self.more is None and own else self.more is not False
        return found if found.more == more else replace(found, more=more)


@dataclass(frozen=True)
class Pair:
    """That the figure `more` is better than the figure `less`, that is more, or less where less is better, by
    about `difference` in the unit of both (None: no number is claimed).
    """

    more: str
    less: str
    difference: float | None
    what: str


@dataclass(frozen=True)
class Claim:
    """title: the file's first comment. by: who claims it. measured: what was found before, and where.
    command: of kdx, which runs each arm with its words. claimed: pairs that get a verdict; beside: controls
    without which the reading would be wrong. corrected: whether p of the claimed pairs is corrected for their
    number."""

    name: str
    title: str
    by: str
    measured: str
    command: str
    arms: Mapping[str, tuple[str, ...]]
    figures: Mapping[str, ClaimFigure]
    claimed: tuple[Pair, ...]
    beside: tuple[Pair, ...]
    remarks: str
    derived: Mapping[str, DerivedFigure] = field(default_factory=dict)
    corrected: bool = False


def claims_folder() -> Path:
    return conf_dir() / "claim"


def claim_names() -> list[str]:
    return sorted(path.stem for path in claims_folder().glob("*.yaml"))


def title(path: Path) -> str:
    """The file's first line, a comment, as text."""
    with path.open(encoding="utf-8") as file:
        first = file.readline().strip()
    return first.lstrip("# ") if first.startswith("#") else ""


def read_claim(name: str) -> Claim:
    """UserErrors: no claim of that name, or a file that is not as docs/commands.md says."""
    path = claims_folder() / f"{name}.yaml"
    if name not in claim_names():
        raise UserError(f"there is no claim '{name}'{nearest(name, claim_names())}; kdx reproduce lists them")
    return parse_claim(name, title(path), yaml.safe_load(path.read_text(encoding="utf-8")))


def parse_claim(name: str, heading: str, body: Any) -> Claim:
    """A claim from its file's content. Raises a UserError that names the claim and the key."""
    with within(f"claim {name}"):
        body = {"command": "train", "words": [], "beside": [], "remarks": "", "corrected": "none"} | keyed(
            body, _KEYS, ("by", "measured", "arms", "figures", "claimed")
        )
        option("command", body["command"], COMMANDS)
        common = words("words", body["words"])
        arms = {
            arm: (*common, *words(f"arms.{arm}", own)) for arm, own in mapping("arms", body["arms"]).items()
        }
        specs = mapping("figures", body["figures"])
        figures = {
            key: _figure(f"figures.{key}", spec, arms) for key, spec in specs.items() if not is_derived(spec)
        }
        kinds = {key: figure.unit or figure.metric for key, figure in figures.items()}
        derived: dict[str, DerivedFigure] = {}
        for key, spec in specs.items():
            if is_derived(spec):
                derived[key] = parse_derived(f"figures.{key}", spec, kinds)
                kinds[key] = kinds[derived[key].of[0]] if derived[key].way == "plus" else "share"
        unused = arms.keys() - {f.arm for f in figures.values()}
        if unused:
            raise UserError(f"no figure is taken of {', '.join(sorted(unused))}")
        claimed, beside = (
            tuple(pair(key, spec, kinds) for spec in _listed(key, body[key])) for key in ("claimed", "beside")
        )
        if not heading or not claimed:
            raise UserError(
                "the file must begin with a comment that says what is claimed, and `claimed` "
                "must hold a pair of figures"
            )
        return Claim(
            name,
            heading,
            text("by", body["by"]),
            text("measured", body["measured"]),
            body["command"],
            arms,
            figures,
            claimed,
            beside,
            str(body["remarks"]).strip(),
            derived,
            option("corrected", body["corrected"], ("none", "holm")) == "holm",
        )


def keyed(body: Any, allowed: Sequence[str], needed: Sequence[str]) -> dict[str, Any]:
    if not isinstance(body, Mapping):
        raise UserError(f"wanted the keys {', '.join(allowed)}; given: {shown(body)}")
    wrong = [f"'{key}' is no key of it{nearest(str(key), allowed)}" for key in body if key not in allowed]
    wrong += [f"the key '{key}' is missing" for key in needed if key not in body]
    if wrong:
        raise UserError("; ".join(wrong))
    return dict(body)


def mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise UserError(f"{key} must hold a name and a value for each; given: {shown(value)}")
    return {str(k): v for k, v in value.items()}


def _listed(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{key} must be a list; given: {shown(value)}")
    return value


def option(key: str, value: Any, options: Sequence[str] | Mapping[str, Any]) -> str:
    if value not in options:
        raise UserError(f"{key} has no option {shown(value)}{nearest(str(value), options)}")
    return value


def text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key} must be a text; given: {shown(value)}")
    return value.strip()


def words(key: str, value: Any) -> tuple[str, ...]:
    """Settings as one types them, without those that `kdx reproduce` adds."""
    for word in _listed(key, value):
        if not isinstance(word, str) or "=" not in word or word.startswith("-"):
            raise UserError(
                f"{key} must list words such as loss=kd; given: {shown(word)} (in YAML a word with ': ' or "
                "'[' at its start needs quotes)"
            )
        if word.split("=")[0].split(".")[0] in OURS:
            raise UserError(f"{key} must not set {word}: kdx reproduce does")
    return tuple(value)


def _figure(key: str, spec: Any, arms: Mapping[str, Any]) -> ClaimFigure:
    """{arm, role: student} is short for {arm, at: "student.last.test.*", metric: "*"}; {arm, method: SLaM} is
    of `kdx halfspace`.
    """
    spec = {"file": "evaluate/results.json"} | keyed(
        spec, ("arm", "role", "method", "at", "file", "unit", "metric", "more"), ("arm",)
    )
    option(f"{key}.arm", spec["arm"], arms)
    ways = [way for way in ("role", "method", "at") if way in spec]
    if len(ways) != 1:
        raise UserError(f"{key} needs one of role, method and at; given: {shown(spec)}")
    at = text(f"{key}.{ways[0]}", spec[ways[0]])
    metric = text(f"{key}.metric", spec["metric"]) if "metric" in spec else None
    if ways == ["method"] and metric:
        raise UserError(f"{key} is of a method, and has no metric of a run")
    if ways == ["role"]:
        metric = metric or COUNTS
        at = f"{at}.last.test.{metric}"
    if not isinstance(spec.get("more", True), bool):
        raise UserError(f"{key}.more must be true or false; given: {shown(spec['more'])}")
    unit = spec.get("unit", None if metric else "points")
    return ClaimFigure(
        spec["arm"],
        at,
        text(f"{key}.file", spec["file"]),
        unit if unit is None else option(f"{key}.unit", unit, UNITS),
        metric,
        spec.get("more"),
    )


def pair(key: str, spec: Any, figures: Mapping[str, str | None]) -> Pair:
    """figures: name -> what it is counted in, a unit or a metric."""
    spec = {"difference": None, "what": ""} | keyed(
        spec, ("more", "less", "difference", "what"), ("more", "less")
    )
    if spec["difference"] is not None and (
        isinstance(spec["difference"], bool) or not isinstance(spec["difference"], int | float)
    ):
        raise UserError(f"{key}: difference must be a number or null; given: {shown(spec['difference'])}")
    more, less = (option(f"{key}: {side}", spec[side], figures) for side in ("more", "less"))
    kinds = [figures[side] for side in (more, less)]
    known_later = COUNTS in kinds or "points" in kinds
    if kinds[0] != kinds[1] and ("share" in kinds or not known_later):
        words = ["the metric that counts" if kind == COUNTS else kind for kind in kinds]
        raise UserError(
            f"{key}: {more} is in {words[0]} and {less} in {words[1]}: only alike figures can be compared"
        )
    return Pair(more, less, spec["difference"], str(spec["what"]))
