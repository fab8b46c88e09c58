"""What recipes check before any work: whether the rule of choice, the budget, the rounds and the assistants
go with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdx.core import checks
from kdx.pipeline import stages as ours
from kdx.pipeline.recipes.experiment import Experiment
from kdx.store.declared import declared
from kdx.store.stage import Stage
from kdx.training.length import by_round, to_buy

if TYPE_CHECKING:
    from kdx.methods.select import Rule

_RIVALS = "select=rad, or one of its rivals"
_STAGE_NAME = re.compile(r"[a-z]+(-[a-z]+)*")


def wrong_stages(stages: Sequence[Stage]) -> Iterator[str]:
    """Names of a recipe's own stages that cannot name a folder, or that stages of kdx have."""
    known = {stage.name for stage in vars(ours).values() if isinstance(stage, Stage)}
    for stage in stages:
        if not _STAGE_NAME.fullmatch(stage.name):
            yield f"a stage's name must be lower-case words with hyphens between; given: '{stage.name}'"
        elif stage.name in known and stage not in vars(ours).values():
            yield f"the stage '{stage.name}' of {stage.module} has the name of a stage of kdx: name it anew"


def wrong_rule(
    buys: bool, experiment: Experiment, config: Mapping[str, Any], rows: Mapping[str, int]
) -> Iterator[str]:
    """Whether the rule that chooses among the pool goes with the recipe and the budget, and whether what it
    is to choose is there. buys: whether the recipe does.
    """
    choices, given = config["choices"], experiment.budget
    if given is None and config["budget"] is not None:
        return  # refused already
    rule: Rule | None = experiment.select.build() if experiment.select else None
    if wrong := _wrong_budget(buys, rule, experiment, choices):
        yield wrong
        return
    asks = experiment.loss is not None and (buys or declared(experiment.loss.target, "reads"))
    if rule and asks and "unlabelled" not in taught_splits(experiment):
        yield (
            f"select={choices.get('select')} chooses rows of the pool for the teacher to answer, and "
            f"loss={choices.get('loss')} learns from no such answers: leave select= out, or choose another "
            "loss"
        )
    elif rule and rows:
        yield from _wrong_choice(experiment, rule, rows)


def _wrong_budget(
    buys: bool, rule: Rule | None, experiment: Experiment, choices: Mapping[str, Any]
) -> str | None:
    given = experiment.budget
    if buys and not (rule and rule.buys):
        return (
            f"recipe=active buys the answers that a rule chooses, and select={choices.get('select')} buys "
            f"none: choose {_RIVALS}, or leave recipe= out"
        )
    if buys and given is None:
        return (
            f"select={choices.get('select')} buys answers of the teacher: say how many with budget=200, or "
            "which share of the pool, budget=0.1"
        )
    if rule and rule.buys and not buys:
        asks = experiment.loss is None or declared(experiment.loss.target, "reads")
        why = (
            "only the recipe active does that: leave recipe= out, select= brings it along"
            if asks
            else f"loss={choices.get('loss')} learns without any: leave select= out, or choose another loss"
        )
        return f"select={choices.get('select')} buys answers, and {why}"
    if given is not None and not buys:
        return (
            f"budget={checks.shown(given)} is for the rules that buy answers: choose {_RIVALS}; given: "
            f"select={choices.get('select')}"
        )
    return None


def _wrong_choice(experiment: Experiment, rule: Rule, rows: Mapping[str, int]) -> Iterator[str]:
    """rows: of each split."""
    pool, validation = rows["unlabelled"], rows["validation"] > 0
    found: list[str] = []
    if not pool:
        yield (
            "select= chooses among the pool, and this run has none: set dataset.labelled=0.1, say, to hide "
            "the labels of the rest, or leave it out"
        )
    elif not rule.buys:
        with checks.gather(found):
            rule.foresee(pool, None, validation)
    elif experiment.budget is not None and isinstance(experiment.rounds, int) and experiment.rounds > 0:
        total = to_buy(experiment.budget, pool)
        if total > pool:
            yield (
                f"budget={total} buys more answers than the pool has rows, {pool}: set budget={pool} at most"
            )
        elif experiment.rounds > total:
            yield (
                f"rounds={experiment.rounds} share out {total} answers (budget={experiment.budget}, of a "
                f"pool of {pool}), and each round buys at least one: set rounds={total}, or a larger budget"
            )
        else:
            with checks.gather(found):
                rule.foresee(pool, max(by_round(total, experiment.rounds)), validation)
    yield from found


def wrong_assistants(
    chain: bool, experiment: Experiment, config: Mapping[str, Any], networks: Sequence[str]
) -> Iterator[str]:
    """Whether assistants and the recipe that has them go together, and with what else there is. chain:
    whether the recipe teaches by way of them. networks: see `Request`.
    """
    if experiment.assistants and not chain:
        yield "assistants= stand between teacher and student in recipe=chain: say that too, or leave them out"
    elif chain and not config["assistants"]:
        named = (
            f"assistants=[{networks[0]}], say" if networks else "assistants=[NAME], one that reads such rows"
        )
        yield f"recipe=chain teaches by way of assistants, and none is named: {named}"
    elif chain and (
        experiment.select
        or experiment.rounds != 1
        or experiment.init is not None
        or not experiment.loss
        or not declared(experiment.loss.target, "reads")
    ):
        yield (
            "recipe=chain has a loss with a teacher, the whole pool and a round for each network: leave "
            "select=, rounds= and init= out, and choose a loss such as kd"
        )


def idle_rounds(teacher: bool, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, why it can never act) of what concerns the rounds after the first. teacher: whether the recipe's
    student may learn from one.
    """
    if not teacher:
        why = f"loss={config['choices']['loss']} learns from no teacher, so there is one round: leave it out"
        if config["rounds"] > 1:
            yield "rounds", why
        asked = (
            f"loss={config['choices']['loss']} learns from no teacher, so nothing is "
            "asked of one: leave it out"
        )
        yield from idle_gate(config, asked)
        yield from ((f"pseudo_label.{key}", asked) for key in config["pseudo_label"] if key not in _GATES)
        if config["select"]:
            chosen = "it chooses rows of the pool by a teacher's answers"
            yield "select", f"{chosen}, and loss={config['choices']['loss']} learns from none: leave it out"
    elif config["rounds"] == 1:
        why = "there is one round: set rounds=3, say, or leave it out"
    else:
        patience = config["round_patience"]
        if patience is not None and patience >= config["rounds"]:
            yield (
                "round_patience",
                f"there are {config['rounds']} rounds, which end no sooner: set it lower, or leave it out",
            )
        return
    if config["init"] and declared(config["init"]["_target_"], "of") == "round":
        yield "init", why
    if config["round_patience"] is not None:
        yield "round_patience", why


_GATES = ("gate", "near_chance")


def idle_gate(config: Mapping[str, Any], why: str) -> Iterator[tuple[str, str]]:
    """By its new and by its old name; warn is the default, and asks for nothing."""
    yield from ((f"pseudo_label.{key}", why) for key in _GATES if config["pseudo_label"][key] == "error")


def taught_splits(experiment: Experiment) -> tuple[str, ...]:
    """The splits about whose rows the student's loss asks the teacher, as far as the data has them."""
    loss = experiment.loss.target
    if "answers" not in declared(loss, "reads", ()):
        return ()
    return (*declared(loss, "uses", ()), *declared(loss, "may_use", ()))


def needs_a_pool(recipe: str, experiment: Experiment, other: str, why: str = "") -> Iterator[str]:
    """Where the loss learns from a pool and the recipe has none. other: a loss to choose; why: more of the
    pool that is not there."""
    loss = experiment.loss
    if loss and "unlabelled" in declared(loss.target, "uses", ()):
        yield (
            f"recipe={recipe} has no pool{why}, and {experiment.loss_called(loss)} needs one: choose another "
            f"loss, such as {other}"
        )


def too_few_to_share(key: str, parts: int, labelled: int | None, part: str) -> Iterator[str]:
    """Where so many parts of the labelled examples would have one each, or none. key: of how many parts;
    part: what one is called. labelled: None where it is not known."""
    if labelled is not None and labelled < 2 * parts:
        yield (
            f"{key}={parts} share out {labelled} labelled examples, and a {part} of one teaches nothing: set "
            f"{key}={max(labelled // 2, 1)} at most, or dataset.labelled higher"
        )
