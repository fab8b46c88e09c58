"""Saved values laid over composed ones, as data: each goes where such a value can stand, or is an error."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kdx.config.compose.parsing import OWN_PARTS
from kdx.config.described import group_of
from kdx.config.keys import wrong_key
from kdx.config.moving import MOVING_KEYS
from kdx.config.options import contents_of
from kdx.store.component import targets

_STANDARD = ("members", "checkpoint", "key", "through", "classes_map", "classes_unmapped", *MOVING_KEYS)
"""Keys of `teacher` and `student` beside those of the network."""
PIECES = {"augment": "augment", "strong_augment": "augment", "shift": "shift"}
"""Nodes that hold options by name, and the group that these are from."""


class Overlay:
    """Saved values laid over composed ones. Where they do not fit, the composed value stays, and an error is
    reported.
    """

    def __init__(
        self,
        composed: Mapping[str, Any],
        given: set[str],
        errors: list[str],
        notes: list[str],
        *,
        own_code: bool = False,
        without: Collection[str] = (),
    ):
        """own_code: whether a part may be one of the user's own, of a package that the command line
        allows. without: keys of a run that are not offered where one is not there.
        """
        self.composed, self.given, self.errors, self.notes = composed, given, errors, notes
        self.own_code, self.without = own_code, without

    def mapping(self, known: Mapping[str, Any], saved: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
        """In the saved order, which is that of steps of augmentation and of shifts too; keys that are newer
        than the run come last.
        """
        laid = {}
        for name, value in saved.items():
            here = [*path, name]
            if path and path[0] in OWN_PARTS and len(path) == 1 and name not in known:
                laid |= self.own_part(path[0], name, value)
            elif name not in known:
                self.errors += wrong_key(self.composed, here, value, self.without) or [
                    f"'{'.'.join(here)}' is no key"
                ]
            elif ".".join(here) in self.given:
                laid[name] = known[name]
            elif self.own_code and self.is_own(value) and isinstance(known[name], Mapping):
                standard = {key: known[name][key] for key in _STANDARD if key in known[name]}
                laid[name] = {**standard, **value}
            else:
                laid[name] = self.value(known[name], value, here)
        newer = [name for name in known if name not in saved]
        self.notes += [
            f"{'.'.join([*path, name])} is newer than the run and has its default"
            for name in newer
            if known[name] != {}
        ]
        return {**laid, **{name: known[name] for name in newer}}

    def own_part(self, node: str, name: str, value: Any) -> dict[str, Any]:
        """A control or a metric of the user's own, which no option has: taken where its code lies in a
        package that the command line allows.
        """
        target = value.get("_target_") if isinstance(value, Mapping) else None
        if self.is_own(value):
            return {name: dict(value)}
        self.errors.append(
            f"'{node}.{name}' names {str(target)[:80]!r}, which comes with no option: "
            "if it is your own, allow its package with allow=[PACKAGE]"
        )
        return {}

    def is_own(self, value: Any) -> bool:
        """Whether it is a part whose code lies in a package that the command line allows, with plain
        values.
        """
        target = value.get("_target_") if isinstance(value, Mapping) else None
        ours = any(str(target).startswith(f"{package}.") for package in self.composed["allow"])
        return ours and not any(map(_holds_keys, value.values()))

    def value(self, known: Any, value: Any, path: list[str]) -> Any:
        dotted = ".".join(path)
        if path[-1] == "_target_":
            return self.target(known, value, path)
        if path[-1] in PIECES and isinstance(value, Mapping):
            return self.pieces(known, value, path)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            return self.mapping(known, value, path)
        if path[-1] not in PIECES and isinstance(known, Mapping) != isinstance(value, Mapping):
            self.errors += wrong_key(self.composed, path, value)
            return known
        if isinstance(value, list) and any(_holds_keys(inner) for inner in value):
            self.errors.append(f"'{dotted}' holds keys inside a list, which no setting does")
            return known
        return value

    def target(self, known: Any, value: Any, path: list[str]) -> Any:
        node = ".".join(path[:-1])
        group = group_of(node)
        if value != known and value not in {t for _, content in contents_of(group) for t in targets(content)}:
            self.errors.append(
                f"'{node}._target_' is {str(value)[:80]!r}, which neither the chosen options nor others of "
                f"'{group}' have; if it is your own, name its folder with --config-dir PATH"
            )
            return known
        return value

    def pieces(self, known: Any, value: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
        """Steps by name: each must be one that the options have, key by key."""
        laid, group = {}, PIECES[path[-1]]
        templates = [
            *([known] if isinstance(known, Mapping) else []),
            *(content for _, content in contents_of(group)),
        ]
        for name, spec in value.items():
            alike = (content[name] for content in templates if isinstance(content.get(name), Mapping))
            if isinstance(spec, Mapping) and any(_same_kind(template, spec) for template in alike):
                laid[name] = dict(spec)
            else:
                self.errors.append(
                    f"'{'.'.join([*path, name])}' is not as an option of '{group}' has it; "
                    "if it is your own, name its folder with --config-dir PATH"
                )
        return laid


def _same_kind(template: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    """The same `_target_` and the same keys, each with one value or a list of values."""
    return (
        template.keys() == spec.keys()
        and template.get("_target_") == spec.get("_target_")
        and not any(map(_holds_keys, spec.values()))
    )


def _holds_keys(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(map(_holds_keys, value)))
