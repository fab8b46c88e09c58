"""Measure stored weights, of a run or a checkpoint, on their own or another dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdx.commands._show import give, show_table
from kdx.commands._stored import chooses, class_names, is_run, order_of, weights_file
from kdx.commands._words import Option, Words, asks_for_help, help_text, only_name, parse_stored
from kdx.core import path_checks
from kdx.core.errors import UserError, together
from kdx.core.metric import Metric
from kdx.core.roles import ROLES, known_roles, renamed_roles
from kdx.report.metric import cell, finer
from kdx.report.run.verdict import of_table, which_of
from kdx.runs.reading import Run, as_written, read_run
from kdx.tasks.shown import shown_metrics

OPTIONS = (
    Option(
        "role",
        "all",
        "of a run: whose weights, such as student, baseline or teacher, or another role of its table",
    ),
    Option(
        "which",
        None,
        "of a run: the weights at the end, or those best on validation; default: those of its table",
        ("last", "best"),
    ),
    Option("split", "test", "which rows", ("test", "validation")),
    Option(
        "model",
        None,
        "of a checkpoint: its architecture, where no model.json lies beside it; its "
        "keys too: model.dropout=0",
    ),
    Option("key", None, "of a checkpoint that holds several sets of weights: which, such as model_ema"),
    Option(
        "classes_map",
        None,
        "of another dataset: a file, a line a class, theirs: ours, where its classes have other names; rows "
        "of classes that the network does not know are left out",
    ),
    Option("json", None, "write the figures to this file too"),
    Option(
        "store",
        None,
        "where the artifacts are, and where another dataset is prepared; default: found through "
        "the run, or outputs/store",
    ),
)
_GROUPS = ("dataset", "device", "seed", "allow")
_SHIFTS = (
    "a run that is done is measured so by kdx train --config RUN 'shift=[pgd]', or [fgsm], or [corruptions]: "
    "all but that measurement is in the store"
)
_WITHOUT = dict.fromkeys(("shift", "attack", "attacks", "corruptions", "pgd", "fgsm", "epsilon"), _SHIFTS)
HELP = help_text(
    """kdx evaluate RUN|CHECKPOINT [key=value ...]

RUN is a run folder; CHECKPOINT is a .safetensors file or a state dict saved by torch, or a folder made by kdx export.""",  # noqa: E501
    OPTIONS,
    """The groups and keys of kdx train that say what data and where: dataset=mnist5k dataset.root=PATH device=cpu
seed=N (which rows are the test split; default: the run's seed) allow=[package] (your own models)""",  # noqa: E501
)


def main(argv: Sequence[str]) -> int:
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse_stored("evaluate", argv, OPTIONS, (*_GROUPS, "model"), _WITHOUT)
    target = Path(only_name("evaluate", words, "run folder or checkpoint")).expanduser()
    file = path_checks.output("json", words["json"]) if words["json"] else None
    with as_written(target):
        found = evaluate_run(target, words) if is_run(target) else evaluate_checkpoint(target, words)
    give(found, _show, file)
    return 0


def evaluate_run(target: Path, words: Words) -> dict[str, Any]:
    run = read_run(target, words["store"])
    if chooses(words, "model"):
        raise UserError("model= is for a checkpoint; a run knows its models: choose one with role=")
    if "key" in words.given:
        raise UserError(
            "key= is for a checkpoint that others made; of a run, role= and which= choose the weights"
        )
    seed = run.document["config"].get("seed")
    order = order_of("evaluate", words, seed if isinstance(seed, int) else 0, run.document["config"])
    if words["role"] != "all":
        run.check_role(words["role"])
    together = bool(run.members()) and words["role"] in ("all", "teacher")
    every = [role for role in (*ROLES, *run.roles()) if role in (*run.roles(), *run.moved, *run.joined)]
    roles = list(dict.fromkeys(every)) if words["role"] == "all" else [] if together else [words["role"]]
    if not roles and not together:
        raise UserError(f"the run '{target}' has trained nothing yet")
    from kdx.runs import measure, other_data, stored

    if words["split"] == "validation" and "validation_labels" in roles and not chooses(words, "dataset"):
        roles.remove("validation_labels")  # it learned from these rows
        if not roles and not together:
            raise UserError(
                "the student of role=validation_labels learned from the validation rows, so they tell "
                "nothing of it: use split=test"
            )
    allow, which = order.config["allow"], words["which"] or of_table(run.document)
    opened = stored.of_members(run, which, allow) if together else {}
    opened |= {role: stored.of_role(run, role, which_of(role, which), allow) for role in roles}
    opened = {
        role: (replace(weights, called=f"the {_words(role, run.document.get('results'))}"), artifact)
        for role, (weights, artifact) in opened.items()
    }
    names = class_names(words)
    opened = {role: (replace(weights, names=names), artifact) for role, (weights, artifact) in opened.items()}
    if "teacher" in opened and chooses(words, "dataset"):  # estimates go by how sure it was as it taught
        weights, artifact = opened["teacher"]
        opened["teacher"] = replace(weights, temperature=stored.answered_at(run)), artifact
    store = next(iter(opened.values()))[1].path.parent.parent
    drawn: list[str] = []
    if chooses(words, "dataset"):
        data, drawn = other_data.other_data(order, store, [weights for weights, _ in opened.values()])
    else:
        # not what a role was trained on: the ceiling has data of its own, without a test split
        data = run.stage("prepare")
    metrics, left = measure.own_metrics(run.document["config"], order.config["allow"])
    learned, opened_weights = run.stage("prepare"), {role: weights for role, (weights, _) in opened.items()}
    order = replace(order, metrics=metrics)
    teacher = _last_teacher(run, opened_weights, which, allow)
    found = measured(order, target, words, (data, drawn), opened_weights, which, learned, teacher)
    if run.given and words["role"] == "all":
        found["notes"].append(
            "nothing is held against the teacher: its answers came in a file, and no network gives them again"
        )
    results = run.document.get("results")
    named = renamed_roles(results if isinstance(results, Mapping) else None)
    named = {role: about for role, about in named.items() if role in opened}
    return {**found, "notes": found["notes"] + left, **({"roles": named} if named else {})}


def _last_teacher(run: Run, opened: Mapping[str, Any], which: str, allow: Sequence[str]) -> Any:
    """The weights that others are held against, as in the table of the run: the teacher's at the end; None
    where it is not measured, or alone."""
    if len(opened) < 2 or "teacher" not in opened or which == "last":
        return opened.get("teacher") if len(opened) > 1 else None
    from kdx.runs import stored

    several = stored.of_members(run, "last", allow)
    last, _ = several["teacher"] if several else stored.of_role(run, "teacher", "last", allow)
    return last


def evaluate_checkpoint(target: Path, words: Words) -> dict[str, Any]:
    from kdx.runs import other_data, remarks, stored, unnamed

    said: list[str] = []
    if wrong := sorted({"role", "which"} & words.given):
        raise UserError(
            f"{' and '.join(f'{name}=' for name in wrong)} choose among the weights of a run; '{target}' is "
            "one set of weights"
        )
    order = order_of("evaluate", words, 0)
    file = weights_file("evaluate", target)
    store = Path(words["store"] or order.store).expanduser()
    if chooses(words, "model"):
        if not chooses(words, "dataset"):
            raise UserError(f"to build that model around '{file}', the data must be known: add dataset=NAME")
        (data, drawn), learned = other_data.other_data(order, store, []), None
        model = order.config["choices"]["student"]
        weights = stored.for_data(order.experiment.student, model, file, words["key"], data)
        weights, said = unnamed.as_learned(weights, order, class_names(words))
    else:
        weights, learned = stored.of_checkpoint(file, words["key"], order.config["allow"])
        weights = replace(weights, names=class_names(words))
        data, drawn = learned, []
        if chooses(words, "dataset"):
            data, drawn = other_data.other_data(order, store, [weights])
        elif data is None:
            raise UserError(f"'{file}' does not lie in a store, so its data is not known: add dataset=NAME")
    found = measured(order, target, words, (data, drawn), {file.stem: weights}, None, learned)
    more = [*said, *(remarks.not_estimated(weights, data) if learned is None else [])]
    return {**found, "notes": [*found["notes"], *more]}


def measured(
    order: Any,
    target: Path,
    words: Words,
    of: tuple[Any, list[str]],
    weights: dict[str, Any],
    which: str | None,
    learned: Any,
    teacher: Any = None,
) -> dict[str, Any]:
    """of: the prepared data, and what is said of a test split that was drawn. learned: the prepared data that
    the weights come from, None where they are not known. teacher: the weights that all others are held
    against, if any.
    """
    from kdx.runs import measure, remarks

    data, drawn = of
    about = data.json("data.json")
    runtime = order.runtime.settle()
    beside = measure.teacher_beside(teacher, data, words["split"], runtime) if teacher else None
    results = {
        role: measure.measure(
            w,
            data,
            words["split"],
            runtime,
            order.metrics,
            beside if role != "teacher" or w is teacher else None,
            learned if learned and learned.key != data.key else None,
        )
        for role, w in weights.items()
    }
    notes = [text for w in weights.values() for text in w.notes] + (drawn if words["split"] == "test" else [])
    notes += remarks.by_task(weights)
    if teacher and beside is None:
        notes.append(
            "nothing is held against the teacher (agreement, KL, acceptance), as it reads other tokens: its "
            "answers are none to theirs"
        )
    notes += [*remarks.other_names(about, weights), *remarks.lacking(words["split"], weights, results)]
    notes += (about.get("files") or {}).get("warnings", [])
    if learned is None or learned.key != data.key:
        notes += remarks.unknown_tokens(learned, data, words["split"])
    if learned and learned.key != data.key:
        notes += remarks.strange(learned, data, words["split"])
    notes += [*remarks.without_a_class(about, weights), *remarks.estimated(results)]
    fullest = max(results.values(), key=lambda found: len(found.get("metrics", [])))
    named = {key: fullest[key] for key in ("metric", "metrics") if key in fullest}
    return {
        "of": str(target),
        "which": which,
        "dataset": about["dataset"],
        "data_key": data.key,
        "split": words["split"],
        **named,
        "results": {
            role: {k: v for k, v in found.items() if k not in named} for role, found in results.items()
        },
        "notes": notes,
    }


def _words(role: str, results: Any) -> str:
    """What a role is called; a checkpoint by its name. results: of a run, which name its own controls."""
    found = results if isinstance(results, Mapping) else {}
    inner = found.get("results")  # of what this command has found
    known = known_roles({**found, **inner} if isinstance(inner, Mapping) else found)
    return known[role].words if role in known else role


def _show(found: dict[str, Any]) -> None:
    which = f", {found['which']} weights" if found["which"] else ""
    measured = found["results"].values()
    metrics = [m for m in shown_metrics(found).values() if any(m.name in numbers for numbers in measured)]
    rows = [
        [
            _words(role, found),
            numbers["model"],
            str(numbers["n"]),
            *(cell(finer(m, numbers["n"]), numbers.get(m.name)) for m in metrics),
        ]
        for role, numbers in found["results"].items()
    ]
    fooled: dict[str, list[str]] = {}
    for role, numbers in found["results"].items():
        if numbers.get("guesses") is not None:
            who = (
                f"the {_words(role, found)}"
                if found["which"]
                else f"the network in '{Path(found['of']).name}'"
            )
            fooled.setdefault(numbers["guesses"], []).append(who)
    guessing = [
        f'{together(who)} {"is" if len(who) == 1 else "are"} no better than always "{always}"'
        for always, who in fooled.items()
    ]
    header = ["", "model", "n", *(_head(m, number == 0) for number, m in enumerate(metrics))]
    show_table(
        f"{found['dataset']}, {found['split']} split{which}", header, rows, [*guessing, *found["notes"]]
    )


def _head(metric: Metric, counts: bool) -> str:
    """What heads the column of a metric on whatever split, in full for the one that counts."""
    if counts:
        return f"{metric.title} {metric.unit.strip()}".rstrip()
    return metric.heading.replace("test ", "", 1)
