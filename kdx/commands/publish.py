"""Publish a run or a sweep after the fact: CSV, MLflow, Trackio, Weights & Biases, or a student on Hugging Face's hub."""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdx.commands._show import show_table
from kdx.commands._words import Option, asks_for_help, help_text, only_name, parse_words, switch
from kdx.commands.export import chosen_formats
from kdx.config.destinations import Destination, read_destination
from kdx.core import output
from kdx.core.errors import UserError
from kdx.runs.publish.publish import Published, default_out, publish_path
from kdx.runs.publish.publisher import NotPublished, Publishing
from kdx.runs.publish.shared import Shared

_SWITCH = ("true", "false")
OPTIONS = (
    Option("to", None, "where: csv, mlflow, trackio, wandb or hf:user/name"),
    Option("project", "kdx", "the project there, or the experiment"),
    Option(
        "name", None, "what the run, or the group of a folder of runs, is called there; default: its folder"
    ),
    Option("again", "false", "publish anew what is there already", _SWITCH),
    Option("dry", "false", "send nothing: say what would be sent, or write the folder of hf: alone", _SWITCH),
    Option("weights", "false", "of trackers: with the student's weights", _SWITCH),
    Option("examples", "false", "with pictures and names of single rows of the data", _SWITCH),
    Option("out", None, "of csv and hf: the folder; default: published/ in the run or sweep"),
    Option(
        "private",
        "true",
        "of hf: and a Space of Trackio: where none is there yet, make one that only you see",
        _SWITCH,
    ),
    Option("license", None, "of hf: of the model, by the hub's word, such as mit; else to be filled in"),
    Option("data_license", None, "of hf: of the data, in words; else to be filled in"),
    Option("format", "state_dict", "of weights: as of kdx export, with commas between"),
    Option("store", None, "where the run's artifacts are, if they cannot be found through the run"),
    Option("allow", None, "a package of your own that the model comes from", many=True),
)
HELP = help_text(
    """kdx publish PATH to=PLACE [key=value ...]

PATH is a run folder, a sweep's folder, or a folder that holds some, up to three levels down.""",
    OPTIONS,
    "Each place but csv needs an extra: pip install 'kdx[mlflow]', 'kdx[trackio]', 'kdx[wandb]', 'kdx[hf]'",
)
_FOR = {
    "weights": ("mlflow", "trackio", "wandb"),
    "examples": ("mlflow", "trackio", "wandb"),
    "again": ("mlflow", "trackio", "wandb", "hf"),
    "project": ("mlflow", "trackio", "wandb"),
    "out": ("csv", "hf"),
    "private": ("hf", "trackio"),
    "license": ("hf",),
    "data_license": ("hf",),
}
"""Options that mean something to some places alone."""


def main(argv: Sequence[str]) -> int:
    """Exit code 1: the place could not be reached or refused; what was sent before is there."""
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse_words("publish", argv, OPTIONS)
    path = Path(only_name("publish", words, "run or sweep folder")).expanduser()
    if not words["to"]:
        raise UserError("kdx publish needs a place: to=csv, mlflow, trackio, wandb or hf:user/name")
    place = read_destination("to", words["to"])
    for name in sorted(words.given):
        if place.name not in _FOR.get(name, (place.name,)):
            raise UserError(f"{name}= means nothing to to={place.name}: leave it out")
    flags = {
        name: switch(name, str(words[name])) for name in ("again", "dry", "weights", "examples", "private")
    }
    asked = Publishing(
        destination=place,
        out=Path(words["out"]).expanduser() if words["out"] else default_out(path, place),
        project=str(words["project"]),
        license=words["license"],
        data_license=words["data_license"],
        formats=chosen_formats(words),
        allow=words.lists["allow"],
        **flags,
    )
    try:
        found = publish_path(path, asked, store=words["store"], name=words["name"])
    except NotPublished as error:
        output.report_error(str(error))
        return 1
    output.answer(_document(place, found, asked))
    if not output.wants_document():
        show_published(place, found, asked)
    return 0


def _document(place: Destination, found: Published, asked: Publishing) -> dict[str, Any]:
    receipts = {receipt.run: receipt for receipt in found.receipts}
    runs = [
        {
            "run": run.name,
            "id": run.id,
            "status": run.state,
            "params": len(run.params),
            "scores": dict(run.scores),
            "where": receipts[run.name].where if run.name in receipts else None,
            "fresh": receipts[run.name].fresh if run.name in receipts else None,
        }
        for run in found.runs
    ]
    notes = [*found.lines, *(receipt.note for receipt in found.receipts if receipt.note)]
    return {"to": str(place), "dry": asked.dry, "runs": runs, "notes": notes}


def show_published(place: Destination, found: Published, asked: Publishing) -> None:
    """What went where, in a table."""
    receipts = {receipt.run: receipt for receipt in found.receipts}
    rows = [[run.name, run.state, *_said(run, receipts, place)] for run in found.runs]
    again = any(not receipt.fresh for receipt in found.receipts) and place.name != "hf"
    below = [
        *(["again=true publishes anew what was there already."] if again else []),
        *found.lines,
        *dict.fromkeys(receipt.note for receipt in found.receipts if receipt.note),
        *([f"Look at it: {found.look}"] if found.look else []),
    ]
    title = f"would go to {place}:" if asked.dry else f"published to {place}:"
    show_table(title, ["run", "status", "", "where"], rows, below)


def _said(run: Shared, receipts: dict[str, Any], place: Destination) -> list[str]:
    receipt = receipts.get(run.name)
    if receipt is None:
        return [f"{len(run.params)} settings, {len(run.scores)} scores", "nothing was sent"]
    kept = "the folder of before" if place.name == "hf" else "was there already"
    return ["new" if receipt.fresh else kept, receipt.where]
