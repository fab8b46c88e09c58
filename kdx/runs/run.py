"""One run: a recipe over a store, then the evaluation of what it made. Imports no torch unless a stage has to
run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdx.config.wire import Order, with_sources
from kdx.core import checks
from kdx.core.errors import UserError
from kdx.core.roles import ROLES, control_stage, learned_alone
from kdx.pipeline.pace import ThreadsOfStages
from kdx.pipeline.recipes.checks import taught_splits
from kdx.pipeline.recipes.predicted import predictions, splits_learned
from kdx.pipeline.recipes.recipe import Recipe, Request, build_recipe
from kdx.pipeline.recipes.steps import students
from kdx.pipeline.recipes.teachers import teacher_stages
from kdx.pipeline.scores import averages, digests_of
from kdx.pipeline.stages import AUDIT, EVALUATE, GIVEN, PREPARE, PROXY
from kdx.store.artifact import Artifact
from kdx.store.beside import OtherProcess
from kdx.store.manifest import Unreadable
from kdx.store.places import dotted
from kdx.store.resolve import own_error
from kdx.store.stage import subseed
from kdx.store.store import Asked, Halt, Miss, Store
from kdx.store.work import Listener
from kdx.training.length import STAGES


def perform(
    order: Order, listener: Listener, *, peek: bool = False, asked: Asked | None = None
) -> tuple[Artifact, dict[str, Artifact]]:
    """(the evaluate artifact, all artifacts by stage name). Stages beyond `order.until` are left out. peek,
    asked: see Store.
    """
    order = with_sources(
        order,
        lambda text, level: listener.note(PREPARE.name, text, level),
        ahead=peek or asked is not None,
    )
    at_work = not (peek or asked)
    store = Store(
        order.store,
        order.runtime,
        listener,
        until=order.until,
        peek=peek,
        asked=asked,
        settled=ThreadsOfStages(order.runtime) if at_work else None,
        beside=OtherProcess() if at_work else None,
    )
    recipe = build_recipe(order.recipe)
    try:
        recipe.run(store, order.experiment)
    except Halt:
        pass  # as far as the stages that were asked for
    finally:
        if store.beside:
            store.beside.end()
    models = {
        role: store.done[stage] for role, stage in trained_by(order, recipe).items() if stage in store.done
    }
    members = [store.done.get(stage) for stage in teacher_stages(len(order.experiment.teachers))]
    if len(members) > 1 and all(members):
        models = {"teacher": members, **models}
    if (together := recipe.together(store.done)) and averages(store.done[PREPARE.name]):
        models |= together
    given = {"given": store.done[GIVEN.name]} if order.experiment.given else {}
    several, aggregate = "teacher" in models and len(members) > 1, order.experiment.aggregate
    aggregated = {"aggregate": aggregate} if several and aggregate else {}
    moved = {"moved": models["student"]} if order.experiment.moving and "student" in models else {}
    rounds = [student for number, student in students(store.done).items() if number and recipe.in_rounds]
    lessons = (
        list(taught(store.done)) if recipe.audits and "unlabelled" in taught_splits(order.experiment) else []
    )
    if lessons:
        looked = {"proxy": store.done[PROXY.name]} if PROXY.name in store.done else {}
        seed = subseed(order.experiment.seed, "audit")
        store.run(AUDIT, data=store.done["prepare"], rounds=lessons, seed=seed, **looked)
    data = store.done[PREPARE.name]
    asked_before = predictions(store, order.experiment, data, models, order.shifts) if recipe.predicts else {}
    found = store.run(
        EVALUATE,
        data=data,
        models=models,
        rounds=rounds,
        shifts=order.shifts,
        metrics=order.metrics,
        seed=subseed(order.experiment.seed, "shift"),
        learned={
            role: also
            for role in order.experiment.controls
            if (also := splits_learned(order.experiment, role))
        },
        **({"predicted": asked_before} if asked_before else {}),
        **given,
        **aggregated,
        **moved,
    )
    return found, store.done


def trained_by(order: Order, recipe: Recipe) -> dict[str, str]:
    """role -> the stage that trains it, in the order of the table; kdx's own roles, those of the recipe, then
    further controls."""
    own = {role: about.stage for role, about in (*ROLES.items(), *recipe.roles.items())}
    return own | {role: control_stage(role) for role in order.experiment.controls if role not in own}


def taught(done: Mapping[str, Artifact]) -> Iterator[dict[str, Artifact | None]]:
    """What each round's student learned from the pool: answers, the rows chosen (None: all), the student."""
    if not done["prepare"].json("data.json")["counts"].get("unlabelled"):
        return
    found = students(done)
    for number, student in found.items():
        # taught by labels alone; one of the rounds once more
        if number == 0 or (number is None and len(found) > 1):
            continue
        end = "" if number is None else f"-{number}"
        if answers := done.get(f"pseudo-label{end}", done.get(GIVEN.name)):
            yield {
                "answers": answers,
                "rows": done.get(f"choose{end}"),
                "student": student,
            }


def stored(order: Order) -> Artifact | None:
    """The evaluation of the run, where the store has all of it; None where something would be computed.
    Raises Unreadable where this user may not know.
    """
    try:
        return perform(order, Listener(), peek=True)[0]
    except Unreadable:
        raise
    # a file that is missing or damaged is reported by those who can mend it, as is what own code raises
    except (
        Miss,
        UserError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ):
        return None
    except (Exception, SystemExit) as error:
        if own_error(error) is None:
            raise
        return None


def all_stored(order: Order) -> bool:
    """Whether the run would compute nothing."""
    return stored(order) is not None


def checked_by_keys(order: Order) -> bool:
    """Whether every setting but a few (see `refused`) enters a key, so that what the store has whole has
    passed the checks before work: not those of stages that are left out (`stages=`).
    """
    return order.until is None or order.until >= set(STAGES)


def refused(order: Order, rows: Mapping[str, int]) -> list[str]:
    """What the recipe has against settings that enter no key where it makes no use of them, such as a budget
    that nothing spends. rows: of each split, as far as they are known.
    """
    errors: list[str] = []
    with checks.gather(errors):
        asked = Request(order.experiment, order.config, rows)
        checks.refuse_all(build_recipe(order.recipe).errors(asked))
    return errors


def passes_unread(order: Order) -> bool:
    """Whether the store has the whole run, so that checks that need torch have been passed before."""
    return all_stored(order) and checked_by_keys(order) and not refused(order, {})


_MATCHED = "the distilled student's model, initialisation, optimiser steps, batch size and augmentation"


def matched_baseline(order: Order) -> str:
    """What the control has of the student, and what it learns, in words."""
    own = build_recipe(order.recipe).alone(order.experiment) if order.recipe else None
    if own is None or "baseline" not in order.experiment.controls:
        return str(protocol(order, None)["baseline"] or "none (baseline=false)")
    return f"{_MATCHED}; {own}" if own else "none, as nobody knows the labels of made-up rows"


def protocol(order: Order, data: Artifact | None) -> dict[str, Any]:
    """What a comparison must agree on, word for word: the splits, what selects and what the test split is
    used for. What the stage `predict` opens of it counts as evaluate's, which asks no network again."""
    return {
        "dataset": order.experiment.dataset.target.rpartition(".")[2],
        "sizes": dict(order.experiment.sizes),
        "paths": dotted(order.experiment.dataset.spec),
        "counts": data.json("data.json")["counts"] if data else None,
        "data_key": data.key if data else None,
        "digests": split_digests(data) if data else None,
        "seed": order.experiment.seed,
        "selection": "best weights and early stopping on the validation split only",
        "test": "opened once, at the end, by the evaluate stage",
        "headline": order.headline,
        "baseline": (
            f"{_MATCHED}; {learned_alone(order.config['baseline_loss']['_target_'])}"
            if order.experiment.controls
            else None
        ),
    }


def rules(order: Order, validation: int | None) -> list[str]:
    """The same in sentences: what selects, what the test split is for, the student alone. validation: its
    rows, None where they are not known."""
    followed = protocol(order, None)
    selects = followed["selection"] if validation != 0 else "none, as there are no validation rows"
    return [
        f"selection: {selects}; the table shows the {followed['headline']} weights",
        f"test split: {followed['test']}",
        f"matched baseline: {matched_baseline(order)}",
    ]


def split_digests(data: Artifact) -> dict[str, str]:
    """split -> what its rows and truth hold, as one digest; those of before are known by their files."""
    found: dict[str, str] | None = data.json("data.json").get("digests")
    return digests_of(data.manifest["files"]) if found is None else found


def load_examples(found: Artifact) -> Mapping[str, Any]:
    """See `RunFolder.finish`; rows that are no pictures have no images."""
    import numpy as np

    images = found.file("examples.npy")
    return {**({"images": np.load(images)} if images.exists() else {}), **found.json("examples.json")}
