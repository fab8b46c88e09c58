"""kdx train --help, as Hydra tells it: each group with its options, each value with its default. Hydra itself
goes through all option files once for every option, which takes most of a second.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdx.commands._typed import check_shown, read_words
from kdx.config.compose.base import first_line, kept
from kdx.config.options import own
from kdx.core.errors import UserError
from kdx.core.paths import conf_dir

ALONE = ("--help", "--multirun", "--config-dir")
"""Flags beside which it is the help alone that is asked for."""


def main(argv: Sequence[str]) -> int:
    flags, _, words = read_words(argv)
    if not {flag.partition("=")[0] for flag in flags} <= {*ALONE}:
        from kdx.commands import train

        return train.main(argv)
    check_shown(words)
    try:
        whole = kept(tuple(words), tuple(own))
        values = OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"])
        text = string.Template(whole.hydra.help.template).substitute(
            APP_CONFIG_GROUPS="".join(f"{group}: {', '.join(options)}\n" for group, options in _groups()),
            CONFIG=OmegaConf.to_yaml(values, resolve=False),
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(first_line(error)) from error
    print(text)
    return 0


def _groups() -> Iterator[tuple[str, list[str]]]:
    """(group, its options) of every folder of option files, in order of name."""
    found: dict[str, set[str]] = {}
    for place in (conf_dir(), *own):
        for folder, _, files in os.walk(place):
            group = os.path.relpath(folder, place).replace(os.sep, "/")
            options = {name.removesuffix(".yaml") for name in files if name.endswith(".yaml")}
            if options and group != "." and group.partition("/")[0] != "hydra":
                found.setdefault(group, set()).update(options)
    yield from ((group, sorted(found[group])) for group in sorted(found))
