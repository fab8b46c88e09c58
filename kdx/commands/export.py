"""Write a run's student alone, in formats that others can load, with a card of what made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.commands._show import show_table
from kdx.commands._words import Option, Words, asks_for_help, help_text, only_name, parse_words
from kdx.core import output
from kdx.core.errors import UserError, nearest
from kdx.report.run.table import bytes_in_words
from kdx.report.run.units import percent
from kdx.report.run.verdict import of_table, which_of
from kdx.runs.reading import as_written, read_run

_FORMATS = ("state_dict", "torch_export", "onnx", "save_pretrained")
OPTIONS = (
    Option("to", None, "the folder to write; default: RUN/export/ROLE"),
    Option(
        "role", "student", "whose weights, such as student, baseline or teacher, or another role of its table"
    ),
    Option(
        "which",
        None,
        "the weights at the end, or those best on validation; default: those that the run's table shows",
        ("last", "best"),
    ),
    Option(
        "format", "state_dict,torch_export", f"one or several of {', '.join(_FORMATS)}, with commas between"
    ),
    Option("store", None, "where the run's artifacts are, if they cannot be found through the run"),
    Option("allow", None, "a package of your own that the model comes from", many=True),
)
_WITHOUT = {"device": "an export is made and compared on the CPU, so leave it out"}
HELP = help_text("kdx export RUN [key=value ...]", OPTIONS, "onnx needs an extra: pip install 'kdx[onnx]'")


def main(argv: Sequence[str]) -> int:
    """Exit code 1: an export answered differently from the original, and nothing was written."""
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse_words("export", argv, OPTIONS, without=_WITHOUT)
    formats = chosen_formats(words)
    run = read_run(only_name("export", words, "run folder"), words["store"])
    run.check_role(words["role"])
    to = Path(words["to"]).expanduser() if words["to"] else _inside(run.path) / words["role"]
    from kdx.runs.export.export import export
    from kdx.runs.export.parity import Unlike

    try:
        with as_written(run.path):
            card = export(
                run,
                role=words["role"],
                which=words["which"] or which_of(words["role"], of_table(run.document)),
                formats=formats,
                to=to,
                allow=words.lists["allow"],
            )
    except Unlike as error:
        output.report_error(str(error))
        return 1
    output.answer({"folder": str(to), "card": card})
    if not output.wants_document():
        _show(card, to)
    output.instead(f"it is in {to / 'card.md'}")
    return 0


def _inside(run: Path) -> Path:
    """Where exports go that were not given a place: into the run folder, which may have come from somebody
    else, with links in it.
    """
    folder = run / "export"
    if folder.is_symlink():
        raise UserError(
            f"'{folder}' is a link, and the export would be written to where it leads: "
            "choose a folder with to=FOLDER"
        )
    return folder


def chosen_formats(words: Words) -> list[str]:
    """The formats asked for; the state dict is always among them, as the others are made from it."""
    asked = [name for name in words["format"].strip("[]").split(",") if name]
    for name in asked:
        if name not in _FORMATS:
            raise UserError(f"format has no option '{name}'{nearest(name, _FORMATS)}")
    return [name for name in _FORMATS if name in asked or name == "state_dict"]


def _show(card: Mapping[str, Any], to: Path) -> None:
    rows = []
    for name, entry in card["formats"].items():
        same = entry["parity"]
        rows.append(
            [
                name,
                entry["file"],
                bytes_in_words(entry["bytes"]),
                f"{same['max_abs_difference']:.2g}",
                *([percent(same["argmax_agreement"], 1)] if card.get("classes") else []),
            ]
        )
    parity = next(iter(card["formats"].values()))["parity"]
    noun = "rows" if "inputs" in card["input"] else "pictures"
    below = (
        f"Compared with the original on {parity['rows']} {parity['split']} {noun}. What made it: "
        f"{to / 'card.md'}"
    )
    show_table(
        f"{card['role']} {card['model']}, {card['which']} weights, in {to}",
        ["format", "file", "size", "largest difference", *(["same class"] if card.get("classes") else [])],
        rows,
        [below],
    )
