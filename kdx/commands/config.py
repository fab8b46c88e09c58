"""Print what kdx train would run as a file of settings, which --config takes: kdx config WORDS > my.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdx.commands._typed import read_words
from kdx.commands._words import asks_for_help
from kdx.config import filed, grid
from kdx.config.flags import apart
from kdx.config.wire import examine_config
from kdx.config.yaml_files import as_yaml
from kdx.core import output
from kdx.core.errors import UserError, UserErrors

HELP = """kdx config WORDS                what these words of kdx train compose, as YAML
kdx config RUN [WORDS]          the same of a run folder, with the words laid over it
kdx train --config my.yaml WORDS   runs such a file; words typed beside it win

A file may hold some of the keys only, and `loss: slam` chooses an option. It is data: what it says of allow,
store and hydra is ignored, and code of your own needs allow=[package] on the command line."""
_TOP = (
    "# A run of kdx: kdx train --config THIS_FILE; words typed beside it win. allow= and store= are typed.\n"
)


def main(argv: Sequence[str]) -> int:
    if asks_for_help(argv):
        print(HELP)
        return 0
    typed, rest = apart(argv)
    named = [word for word in rest if "=" not in word and Path(word).expanduser().exists()]
    if len(named) > 1:
        raise UserError(f"kdx config takes one run folder or file; given: {' '.join(named)}")
    further = [f"{filed.CONFIG_FLAG}={named[0]}"] if named else []
    flags, _, words = read_words([*typed, *further, *(word for word in rest if word not in named)])
    if strange := [flag for flag in flags if not flag.startswith("--config-dir=")]:
        raise UserError(f"kdx config has no flag {strange[0]}, and prints one run: kdx config --help")
    combinations, errors = grid.combinations(words, multirun=False)
    config = None
    for combination in combinations[:1]:
        config, slips, _ = filed.examine(combination)
        errors += slips
    if config is not None and not errors:
        errors += examine_config(config)[1]
    if config is None or errors:
        raise UserErrors(errors)
    found = {key: value for key, value in config.items() if key not in filed.NOT_IN_A_FILE}
    if output.wants_document():
        output.answer({"config": found})
        return 0
    print(_TOP + as_yaml(found), end="")
    return 0
