"""Sessions one after another: each begins with the student of the one before, which teaches it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kdx.core.checks import choice, flag, integer
from kdx.core.errors import UserError
from kdx.core.roles import Role, control_stage
from kdx.data.sessions import class_groups
from kdx.pipeline.controls.control import altered
from kdx.pipeline.recipes.checks import needs_a_pool, too_few_to_share
from kdx.pipeline.recipes.data import prepare_data
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe, Request
from kdx.pipeline.recipes.steps import student_inputs
from kdx.pipeline.stages import LABEL, SESSION, SESSIONS, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.stage import subseed
from kdx.store.store import Store

_BY, _HEADS = ("class", "domain", "time"), ("task", "single")
_NO_CLASSES = "recipe.by=class cuts classes into sessions, and these data have none: choose another recipe"
_NO_TEACHER = "recipe=continual has no other teacher than the student of the session before: leave it out"


@dataclass(frozen=True)
class Arm:
    """One network that goes through all sessions. weight: of the old network's answers, None: as the loss
    has it. memory: rows of earlier sessions. joint: whether each session has the rows of all so far."""

    weight: float | None = None
    memory: int = 0
    joint: bool = False


class Continual(Recipe):
    """Learning without forgetting over sessions (Li and Hoiem 2016, arXiv 1606.09282): each training begins
    with the weights of the one before, whose network stands and answers the new rows.

    sessions: how many. by: "class", new classes in each (groups: their names, None: in order, evenly),
    "domain", rows that a step of conf/shift changes (domains: one a session, "none": none), or "time", the
    rows in the order in which the data set has them. heads: "task", a softmax for the classes of
    each session, or "single", one for all so far. memory: labelled rows of earlier sessions that stay. The
    student alone is fine-tuning; joint, replay: whether all rows so far, and the memory without the old
    network's answers, stand beside it.

    The network has one last layer for all classes from the start, and classes that have not come are ruled
    out. With a head a task and no memory what belongs to old classes there stays as it was.
    """

    stages = (SESSION, SESSIONS)
    in_rounds = False
    predicts = False
    roles: ClassVar[Mapping[str, Role]] = {
        "replay": Role(control_stage("replay"), "student of the memory alone", "memory", "#b48ead"),
        "joint": Role(control_stage("joint"), "student of all rows so far", "joint", "#5e81ac"),
    }

    reads_pool = False

    def __init__(
        self,
        *,
        sessions: int,
        by: str,
        groups: Sequence[Sequence[str]] | None,
        domains: Sequence[str] | None,
        heads: str,
        memory: int,
        joint: bool,
        replay: bool,
    ):
        self.sessions = integer("recipe.sessions", sessions, low=2)
        self.by = choice("recipe.by", by, _BY)
        self.groups = _groups(groups)
        self.domains = domains
        self.heads = choice("recipe.heads", heads, _HEADS)
        self.memory = integer("recipe.memory", memory, low=0)
        self.joint, self.replay = flag("recipe.joint", joint), flag("recipe.replay", replay)

    @property
    def way(self) -> str:
        """How a row is answered: among the classes of its own session ("task"), or of all ("single")."""
        return self.heads if self.by == "class" else "single"

    def run(self, store: Store, experiment: Experiment) -> None:
        data = prepare_data(store, experiment)
        inputs, sessions = student_inputs(store, data, experiment), self.described(data, experiment)
        arms = {role: self._through(store, experiment, inputs, role) for role in self.arms(experiment)}
        store.run(SESSIONS, data=data, arms=arms, sessions=sessions, way=self.way)

    def arms(self, experiment: Experiment) -> dict[str, Arm]:
        """role -> the network that has it, in the order in which they are trained."""
        found = {"baseline": Arm(weight=0)} if "baseline" in experiment.controls else {}
        found["student"] = Arm(memory=self.memory)
        if self.replay:
            found["replay"] = Arm(weight=0, memory=self.memory)
        return found | ({"joint": Arm(weight=0, joint=True)} if self.joint else {})

    def described(self, data: Artifact, experiment: Experiment) -> dict[str, Any]:
        """Which rows are of which session, for the stages that ask. Raises UserError where the classes do not
        go into so many."""
        found: dict[str, Any] = {"by": self.by, "count": self.sessions}
        if self.by == "domain":
            domains = [[name, step] for name, step in experiment.domains]
            return {**found, "domains": domains, "seed": subseed(experiment.seed, "domains")}
        if self.by == "class":
            classes = data.json("data.json").get("classes")
            if not classes:
                raise UserError(_NO_CLASSES)
            found["groups"] = class_groups(classes, self.sessions, self.groups)
        return found

    def _through(
        self, store: Store, experiment: Experiment, inputs: Mapping[str, Any], role: str
    ) -> list[Artifact]:
        """The network of an arm after each session."""
        arm, sessions = self.arms(experiment)[role], self.described(inputs["data"], experiment)
        rows = "joint-" if arm.joint else "plain-" if self.memory and not arm.memory else ""
        made: list[Artifact] = []
        for number in range(1, self.sessions + 1):
            data = store.run(
                SESSION,
                name=f"{rows}session-{number}",
                data=inputs["data"],
                sessions={**sessions, **self._answered_among(sessions, number)},
                number=number,
                memory=arm.memory if made else 0,
                joint=arm.joint and bool(made),  # the first session is the same for all
                seed=subseed(experiment.seed, "memory"),
            )
            loss = self._loss(experiment.loss, arm, sessions, number)
            begun = {"init": made[-1], "checkpoint": None, "checkpoint_key": None} if made else {}
            asked = {**inputs, "data": data}
            taught = _taught(store, asked, made[-1], number) if made and loss.spec["weight"] else {}
            trained = control_stage(role)
            name = f"{trained}-{number}" if number < self.sessions else trained
            lesson = {**inputs, "data": data, **begun, **taught, "epoch": ["labelled"], "loss": loss}
            made.append(store.run(TRAIN, name=name, **lesson))
        return made

    def _loss(self, loss: Component, arm: Arm, sessions: Mapping[str, Any], number: int) -> Component:
        """In the first session there is nothing to keep, and the same network for all arms."""
        weight = 0 if number == 1 or arm.weight == 0 else loss.spec["weight"]
        groups = sessions.get("groups")
        if groups is None:
            every: dict[str, Any] = {"heads": None}
            return altered(loss, weight=weight, **every)
        new, before = self._so_far(groups, number), self._so_far(groups, number - 1)
        kept: list[int] = [] if self.heads == "single" or arm.memory or arm.joint else sum(before, [])
        return altered(loss, weight=weight, heads=new, old=before, kept=kept)

    def _so_far(self, groups: Sequence[list[int]], number: int) -> list[list[int]]:
        """The heads after so many sessions, each the numbers of its classes."""
        if self.heads == "task":
            return list(groups[:number])
        return [sum(groups[:number], [])] if number else []

    def _answered_among(self, sessions: Mapping[str, Any], number: int) -> dict[str, Any]:
        """What says among which classes the rows of a session are answered; nothing: among all."""
        groups = sessions.get("groups")
        if groups is None or (self.heads == "single" and number == self.sessions):
            return {}
        return {"heads": self._so_far(groups, number)}

    def errors(self, asked: Request) -> Iterator[str]:
        yield from super().errors(asked)
        experiment, choices = asked.experiment, asked.config["choices"]
        if experiment.loss and not declared(experiment.loss.target, "sessions", False):
            yield (
                "recipe=continual learns one session after another with loss=lwf, which brings it along "
                "(fine-tuning is loss.weight=0, and stands beside it anyhow): choose that, or leave recipe= "
                f"out; given: loss={choices['loss']}"
            )
        else:
            yield from needs_a_pool("continual", experiment, "lwf")
        if experiment.rounds != 1 or experiment.select or experiment.init or experiment.moving:
            yield (
                "recipe=continual has sessions, each of which begins with the student before: leave rounds=, "
                "select=, init= and teacher.update= out, and set recipe.sessions"
            )
        if further := sorted(experiment.controls.keys() - {"baseline"}):
            yield (
                f"recipe=continual has bounds of its own, recipe.joint=true and recipe.replay=true: leave "
                f"{' and '.join(further)} out"
            )
        yield from self._errors_of_keys(asked)

    def _errors_of_keys(self, asked: Request) -> Iterator[str]:
        if asked.experiment.headline == "best":
            yield "recipe=continual goes on with the last weights of each session: leave headline=best out"
        if self.by != "class" and (self.heads == "task" or self.groups is not None):
            key = "recipe.groups" if self.groups is not None else "recipe.heads=task"
            yield (
                f"{key} is of sessions by class, and recipe.by={self.by} has all classes in each: set "
                "recipe.heads=single, or recipe.by=class"
            )
        if self.by == "domain" and len(asked.experiment.domains) != self.sessions:
            yield (
                f"recipe.domains names {len(asked.experiment.domains)} domains, and recipe.sessions="
                f"{self.sessions}: name one a session, such as recipe.sessions=3 "
                "recipe.domains=[none,rotation,invert]"
            )
        if self.groups is not None and len(self.groups) != self.sessions:
            yield (
                f"recipe.groups names {len(self.groups)} groups of classes, and recipe.sessions="
                f"{self.sessions}: set recipe.sessions={len(self.groups)}"
            )
        if self.replay and not self.memory:
            yield "recipe.replay=true learns from the memory alone, and there is none: set recipe.memory=100"
        if self.by == "class" and asked.classes is not None and not asked.classes:
            yield _NO_CLASSES
        if self.by == "class" and asked.classes:
            try:
                yield from self._nothing_to_tell(class_groups(asked.classes, self.sessions, self.groups))
            except UserError as wrong:
                yield str(wrong)
        yield from too_few_to_share("recipe.sessions", self.sessions, asked.rows.get("labelled"), "session")

    def _nothing_to_tell(self, groups: Sequence[Sequence[int]]) -> Iterator[str]:
        if self.heads == "task" and all(len(group) == 1 for group in groups):
            yield (
                "each session has one class, and among the classes of its own task every row is right: set "
                "recipe.sessions lower, or recipe.heads=single"
            )

    def idle(self, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().idle(config)
        keys = ("teacher", "teachers", "members", "teacher_pretrain", "pseudo_label")
        yield from ((key, _NO_TEACHER) for key in keys)
        if not self.memory and config["student_train"]["labelled_share"] is not None:
            yield (
                "student_train.labelled_share",
                "a batch is all of the session's rows, as there is no memory: set recipe.memory=100, say, or "
                "leave it out",
            )

    def alone(self, experiment: Experiment) -> str:
        return "the labels only, over the same sessions (fine-tuning)"

    def protocol(self, experiment: Experiment) -> list[str]:
        heads = "a head a task" if self.heads == "task" else "a single head"
        return [
            f"sessions: {self.sessions}, by {self.by}, {heads}, a memory of {self.memory} rows; each begins "
            "with the network of the one before, and the last counts"
        ]


def _taught(store: Store, inputs: Mapping[str, Any], before: Artifact, number: int) -> dict[str, Any]:
    """The inputs of a session's training that say what the network before answers: stored where rows are
    learned from as they are, as that answers each of them once; else it is asked about each view."""
    if inputs["training"].spec["augment"]:
        return {"teachers": [before]}
    answers = store.run(
        LABEL,
        name=f"{LABEL.name}-{number}",
        data=inputs["data"],
        teachers=[before],
        augment=[],
        views={"labelled": 1, "memory": 1},
        clean=True,
        seed=inputs["views_seed"],
        precision=inputs["precision"],
        pool=False,
        rows=None,
        passes=0,
        looked_at={},
    )
    return {"answers": answers, "view": "clean"}


def _groups(groups: Any) -> list[list[str]] | None:
    if groups is None:
        return None
    if not isinstance(groups, list | tuple) or not all(isinstance(group, list | tuple) for group in groups):
        raise UserError(
            "recipe.groups must list the names of each session's classes, such as "
            "recipe.groups=[[cat,dog],[car,ship]], or be null"
        )
    return [[str(name) for name in group] for group in groups]
