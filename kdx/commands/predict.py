"""Write a network's answers to new pictures, rows or texts, or to a split of its run, to a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.commands._show import show_table
from kdx.commands._stored import chooses, is_graph, is_run, member_of, order_of, weights_file, weights_of
from kdx.commands._words import Option, Words, asks_for_help, help_text, only_name, parse_stored, switch
from kdx.core import output, path_checks, shortage
from kdx.core.errors import UserError
from kdx.core.files import write_output
from kdx.runs.reading import as_written, read_run

OPTIONS = (
    Option(
        "data",
        None,
        "a folder, a file, or of a run one of its splits: pool, labelled, validation or test",
        called="source input inputs images image path file folder dir split dataset_root data_dir x",
    ),
    Option(
        "to",
        None,
        "the file to write: .csv, .tsv, .jsonl or .parquet; .json of pieces of a text, {name: answer}, and "
        "of boxes, COCO's form of results",
        called="output out save dest destination outfile output_file",
    ),
    Option("role", "student", "of a run: whose weights"),
    Option(
        "which",
        None,
        "of a run: the weights at the end, or those best on validation; default: those that its table shows",
        ("last", "best"),
    ),
    Option(
        "member",
        None,
        "of a teacher that is an ensemble: one of its networks, by its number in the table of the run or by "
        "its name; default: all together",
    ),
    Option("task", None, "of a network with a head a task: which the new rows are of, from 1"),
    Option("top", "1", "of classes: how many of the likeliest stand in the file"),
    Option(
        "soft", "none", "of classes: a number of every class as well", ("none", "probabilities", "logits")
    ),
    Option("text", None, "of a file of texts: the column that holds them; default: known by its name"),
    Option("batch_size", "256", "rows that are read, answered and written together"),
    Option("overwrite", "false", "whether a file that is there is replaced", ("true", "false")),
    Option(
        "model",
        None,
        "of a checkpoint: its architecture, where no model.json lies beside it; with dataset=, the data that "
        "it learned from",
    ),
    Option("key", None, "of a checkpoint that holds several sets of weights: which, such as model_ema"),
    Option(
        "trust",
        "false",
        "of a .pt2 file, which can hold code that runs as it is opened: whether it is opened",
        ("true", "false"),
    ),
    Option("json", None, "write what was done to this file too"),
    Option("store", None, "where the artifacts are, if they cannot be found through the run"),
)
_GROUPS = ("dataset", "device", "seed", "allow")
_LABELS = 20
HELP = help_text(
    """kdx predict RUN|EXPORT|CHECKPOINT data=FOLDER|FILE to=labels.csv [key=value ...]

RUN is a run folder, EXPORT one made by kdx export or an .onnx or .pt2 file in it; CHECKPOINT is a .safetensors file or a
state dict saved by torch.
New rows are read as those were that the network learned from: docs/predict.md.""",  # noqa: E501
    OPTIONS,
    "device= and its keys, as in kdx train, say where to compute; allow=[package] lets your own models in.",
)


@dataclass(frozen=True)
class _Opened:
    """weights, data (the prepared rows, None: not known): see kdx.runs. role, which: None of a checkpoint.
    member: None but of one of an ensemble."""

    weights: Any
    data: Any
    runtime: Any
    role: str | None = None
    which: str | None = None
    member: int | None = None


def main(argv: Sequence[str], given: Any = None) -> int:
    """given: of a caller in Python, makes of the weights the NewRows that they answer in place of data=."""
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse_stored("predict", argv, OPTIONS, (*_GROUPS, "model"))
    if len(words.names) == 2 and "data" not in words.given:
        raise UserError(f"kdx predict takes what to answer as data={words.names[1]}")
    target = Path(only_name("predict", words, "run folder, export or checkpoint")).expanduser()
    where, to = _places(words, given is not None)
    file = path_checks.output("json", words["json"]) if words["json"] else None
    asked = _asked(words, to)
    with as_written(target):
        opened = _opener(target)(target, words)
    with as_written(target) if given is None else _as_given():
        found = _answered(asked, given or where, opened)
    chosen = {"role": opened.role, "which": opened.which, "member": opened.member}
    found = {"of": str(target), **chosen, "data": where, **found}
    from kdx.core.documents import dump, plain

    output.answer(plain(found))
    if not output.wants_document():
        _show(found)
    if file:
        write_output("json", file, dump(found))
    output.instead(f"the answers are in {to}")
    return 0


@contextlib.contextmanager
def _as_given() -> Iterator[None]:
    """Whatever breaks on rows that a caller holds is said of these."""
    try:
        yield
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        if shortage.kind_of_shortage(error):
            raise
        why = (str(error).splitlines() or [""])[0][:200]
        raise UserError(f"the network cannot answer these rows: {type(error).__name__}: {why}") from error


def _places(words: Words, given: bool) -> tuple[str, Path]:
    """(what to answer, the file to write), checked before any work. given: whether the rows are at hand."""
    from kdx.data.writing import check_new_file
    from kdx.runs.reading import same_file

    where, to = "" if given else words["data"], words["to"]
    if where is None or to is None:
        lacking = "data=FOLDER|FILE|SPLIT" if where is None else "to=labels.csv"
        raise UserError(f"kdx predict needs {lacking}: kdx predict --help tells more")
    path = path_checks.output("to", to)
    check_new_file("to", path, switch("overwrite", words["overwrite"]))
    if where and same_file(path, Path(where).expanduser()):
        raise UserError(f"to={path} is the file that data= names, and its rows would be lost: name another")
    return where, path


def _asked(words: Words, to: Path) -> Any:
    from kdx.core.answers import AnswerColumns
    from kdx.runs.predictions import Wanted, check_unread

    check_unread(to, words["overwrite"] == "true")
    columns = AnswerColumns(top=_whole(words, "top"), soft=words["soft"])
    task = _whole(words, "task") if "task" in words.given else None
    return Wanted(to, columns, _whole(words, "batch_size"), words["text"], task)


def _whole(words: Words, name: str) -> int:
    text = words[name]
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise UserError(f"{name} must be a whole number of at least 1; given: {text}")
    return int(text)


def _opener(target: Path) -> Callable[[Path, Words], _Opened]:
    if is_run(target):
        return _of_run
    return _of_graph if is_graph(target) and not target.is_dir() else _of_checkpoint


def _of_run(target: Path, words: Words) -> _Opened:
    run = read_run(target, words["store"])
    for name in ("model", "dataset", "key", "seed"):
        if name in words.given or chooses(words, name):
            raise UserError(
                f"{name}= is for a checkpoint, and '{target}' is a run, which knows it: leave it out"
            )
    _refuse_trust(target, words)
    order = order_of("predict", words, 0)
    role = words["role"] if "role" in words.given else None
    asked = words["member"]
    role, which, weights = weights_of(run, role, words["which"], order.config["allow"], asked)
    member = None if asked is None else member_of(run, asked)
    return _Opened(weights, run.stage("prepare"), order.runtime.settle(), role, which, member)


def _refuse_trust(target: Path, words: Words) -> None:
    if "trust" in words.given:
        raise UserError(f"trust= is for a .pt2 file, and '{target}' is none: leave it out")


def _of_graph(target: Path, words: Words) -> _Opened:
    from kdx.runs import graphs

    file = weights_file("predict", target)
    for name in ("role", "which", "member", "model", "dataset", "key", "seed"):
        if name in words.given or chooses(words, name):
            raise UserError(
                f"{name}= chooses what a network is made of, and '{target}' holds one whole: leave it out"
            )
    if target.suffix != ".pt2":
        _refuse_trust(target, words)
    order = order_of("predict", words, 0)
    runtime = order.runtime.settle()
    weights = graphs.of_graph(file, order.config["allow"], switch("trust", words["trust"]))
    if runtime.device != "cpu":
        weights.notes.append(f"a graph answers on the CPU: device={runtime.device} is for the other formats")
    return _Opened(weights, None, runtime)


def _of_checkpoint(target: Path, words: Words) -> _Opened:
    from kdx.runs import other_data, stored
    from kdx.runs.own_inputs import of_own_inputs

    if wrong := sorted({"role", "which", "member"} & words.given):
        raise UserError(
            f"{wrong[0]}= chooses among the weights of a run, and '{target}' is one set: leave it out"
        )
    _refuse_trust(target, words)
    order, file = order_of("predict", words, 0), weights_file("predict", target)
    if chooses(words, "model") != chooses(words, "dataset"):
        raise UserError(
            f"model= and dataset= go together: the architecture of '{file}', where no model.json lies beside "
            "it, and the data that it learned from"
        )
    if chooses(words, "model"):
        data, _ = other_data.other_data(order, Path(words["store"] or order.store).expanduser(), [])
        named = order.config["choices"]["student"]
        weights = stored.for_data(order.experiment.student, named, file, words["key"], data)
    else:
        weights, data = stored.of_checkpoint(file, words["key"], order.config["allow"])
        stored.check_content(weights)
    return _Opened(of_own_inputs(weights), data, order.runtime.settle())


def _answered(asked: Any, where: Any, opened: _Opened) -> dict[str, Any]:
    """where: a split, a path, or what makes the rows."""
    from kdx.report.run.progress import Progress
    from kdx.runs.predictions import answer_rows, check_answer_columns, rows_to_answer

    check_answer_columns(asked, opened.weights)
    rows = (
        rows_to_answer(asked, where, opened.weights, opened.data, opened.runtime)
        if isinstance(where, str)
        else where(opened.weights)
    )
    with Progress() as shown:
        shown.started("predict", "", False)
        tally, beside, seconds = answer_rows(
            asked,
            opened.weights,
            rows,
            opened.runtime,
            lambda done, of: shown.progress("predict", done, of, ""),
        )
        shown.finished("predict", "", False, seconds)
    return {
        "model": opened.weights.model,
        "who": opened.weights.who,
        "to": str(asked.to),
        "noun": rows.noun,
        "rows": tally.rows,
        "columns": tally.columns,
        "labels": dict(tally.labels.most_common()),
        "numbers": tally.numbers(),
        "unread": [{"name": name, "reason": why} for name, why in rows.unread],
        "unread_file": None if beside is None else str(beside),
        "notes": [*opened.weights.notes, *rows.notes()],
    }


def _show(found: dict[str, Any]) -> None:
    which = f", {found['which']} weights" if found["which"] else ""
    noun = found["noun"] if found["rows"] == 1 else f"{found['noun']}s"
    rows = [[label, f"{count:,}"] for label, count in list(found["labels"].items())[:_LABELS]]
    header = ["label", noun if sum(found["labels"].values()) == found["rows"] else "times"]
    if not rows:
        header = ["", "least", "mean", "largest"]
        rows = [
            [name.removeprefix("value:"), *(f"{of[key]:.6g}" for key in header[1:])]
            for name, of in found["numbers"].items()
        ]
    below = []
    if (more := len(found["labels"]) - _LABELS) > 0:
        below.append(f"and {more:,} more labels")
    if sure := found["numbers"].get("confidence"):
        below.append(f"Mean confidence: {sure['mean']:.1%}, the least {sure['least']:.1%}.")
    if unread := found["unread"]:
        first = unread[0]
        below.append(
            f"Not read: {len(unread):,}, all listed in {found['unread_file']}; the first, {first['name']}: "
            f"{first['reason']}"
        )
    title = f"{found['rows']:,} {noun} answered by {found['who']} ({found['model']}){which}, in {found['to']}"
    show_table(title, header, rows, [*below, *found["notes"]])
