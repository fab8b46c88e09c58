"""What a recipe asks of its teachers, and how a student learns from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdx.core.errors import UserError
from kdx.pipeline.recipes.answer_precision import answer_precision
from kdx.pipeline.recipes.checks import taught_splits
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.sharding import label_in_shards
from kdx.pipeline.scores import answer_bytes
from kdx.pipeline.stages import PRETRAIN
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.stage import subseed
from kdx.store.store import Store
from kdx.tasks.kept import HIDDEN_STATES
from kdx.training.length import EPOCH, passes, shares, stored_bytes, total_steps, trained_on, used


@dataclass(frozen=True)
class Asking:
    """How a student asks its teachers. views: split -> stored views of each row, empty: none. looked_at: see
    `rows_looked_at`.
    """

    experiment: Experiment
    views: Mapping[str, int]
    looked_at: Mapping[str, int]

    @property
    def live(self) -> bool:
        """Whether the student asks the networks themselves."""
        return not self.views and bool(taught_splits(self.experiment))

    def answers(self, store: Store, data: Artifact, teachers: Sequence[Artifact], name: str) -> Artifact:
        if self.experiment.given:
            check_answers_given(self.experiment, teachers[0])
            return teachers[0]
        asked = ToAnswer(looked_at=self.looked_at)
        return ask_teacher(store, data, teachers, self.experiment, self.views, name=name, which=asked)

    def lesson(self, answers: Artifact, teachers: Sequence[Artifact]) -> dict[str, Any]:
        """The inputs of a training that say what it learns from them, all rows or those that were given."""
        given = self.experiment.given
        return {
            "answers": answers,
            "rows": answers if given else None,
            "teachers": teachers if self.live and not given else [],
            "view": "clean" if given else self.experiment.pseudo_label["view"],
            "networks": [] if self.live or given else teachers,
            "loss": self.experiment.loss,
            **({"moving": self.experiment.moving} if self.experiment.moving else {}),
        }


def how_to_ask(data: Artifact, experiment: Experiment) -> Asking:
    """What the data and the length of the student's training make of `pseudo_label`."""
    return Asking(experiment, views_to_answer(data, experiment), rows_looked_at(data, experiment))


def check_answers_given(experiment: Experiment, answers: Artifact) -> None:
    """Raises UserError where the loss or the rule of choice needs answers that the file does not have."""
    about, parts = answers.json("answers.json"), experiment.loss.spec
    targets = [experiment.loss.target, *([parts["weights"]["_target_"]] if parts.get("weights") else [])]
    if "validation" not in about["splits"] and any(declared(t, "reads_validation", False) for t in targets):
        raise UserError(
            "the loss, or its weights, estimates how right the teacher is on validation, and teacher.file "
            "does not answer every row there: add those (kdx predict RUN data=validation), or choose "
            "another loss, such as kd"
        )
    if experiment.select and about["some"]:
        raise UserError(
            "select= chooses among all rows of the pool by the teacher's answers, and teacher.file answers "
            "some of them only: leave select= out, those without an answer are left out anyhow"
        )


@dataclass(frozen=True)
class ToAnswer:
    """What a teacher is asked about. pool: whether about any row of it. rows: the rows of it, None: all.
    looked_at: see `rows_looked_at`. only: a rollout, whose next part of the training shows these rows alone;
    None: there is none."""

    pool: bool = True
    rows: Artifact | None = None
    looked_at: Mapping[str, int] = field(default_factory=dict)
    only: Artifact | None = None


def ask_teacher(
    store: Store,
    data: Artifact,
    teachers: Sequence[Artifact],
    experiment: Experiment,
    views: Mapping[str, int],
    *,
    name: str,
    which: ToAnswer,
) -> Artifact:
    """The teacher's answers, of several made one, to the rows of the pool that are asked about; to none where
    the loss reads no pool.
    """
    inputs = {
        "data": data,
        "teachers": teachers,
        "augment": _augmentation(experiment.student_train),
        "views": views,
        "clean": experiment.pseudo_label["view"] == "clean" or which.rows is not None,
        "seed": subseed(experiment.seed, "views"),
        "precision": answer_precision(store, data, teachers, experiment),
        "pool": which.pool and "unlabelled" in taught_splits(experiment),
        "rows": which.rows,
        "passes": experiment.pseudo_label["passes"],
        "looked_at": which.looked_at,
        **({"only": which.only} if which.only else {}),
        **({"aggregate": experiment.aggregate} if experiment.aggregate and len(teachers) > 1 else {}),
        **_temperature(experiment, data, teachers),
        **({"form": form} if (form := _form(experiment, data)) and views else {}),
    }
    return label_in_shards(store, experiment.pseudo_label, name, inputs)


def _temperature(experiment: Experiment, data: Artifact, teachers: Sequence[Artifact]) -> dict[str, Any]:
    """The input of the labelling stage that says what temperature the answers get; none where they stay as
    they are. auto: fitted where validation chose the teacher by how often it is right, which leaves it
    unsure, and its answers stay as they are elsewhere, and in later rounds, where the student answers.
    """
    asked = experiment.pseudo_label["temperature"]
    if asked == "auto":
        first = all(teacher.stage == PRETRAIN.name for teacher in teachers)
        chosen = any(declared(of.model.target, "chosen_on_validation", False) for of in experiment.teachers)
        known = data.json("data.json")["counts"]["validation"] > 0
        asked = "fitted" if first and chosen and known else 1
    return {} if asked == 1 else {"temperature": asked}


def answer_form(experiment: Experiment, width: Callable[[Component], int]) -> dict[str, Any] | None:
    """What is kept of each stored answer, at the temperature of the loss; None: all of it. width: of the
    network that is described, how many numbers its last layer reads; asked where these are kept."""
    asked, loss = experiment.pseudo_label, experiment.loss
    if asked["format"] in ("dense", "text"):
        return None
    if asked["format"] == HIDDEN_STATES:
        return {"name": HIDDEN_STATES, "width": width(experiment.teachers[0].model)}
    heat = float(loss.spec.get("temperature", 1)) if loss else 1.0
    kind = loss.spec.get("kind", "forward") if loss else "forward"
    # draws tell no probabilities, which the other kinds need
    name = "topk" if asked["format"] == "auto" and kind != "forward" else asked["format"]
    return {"name": name, "k": asked["k"], "draws": asked["draws"], "temperature": heat}


def _form(experiment: Experiment, data: Artifact) -> dict[str, Any] | None:
    """`answer_form` of a run on prepared data."""

    def width(model: Component) -> int:
        import torch  # late: what lies in the store is found without

        from kdx.core.hidden_answers import head_width
        from kdx.pipeline.stages.files import new_network

        with torch.random.fork_rng(devices=[]), torch.device("meta"):  # it takes no room
            return head_width(new_network(model, data.json("data.json"), read_weights=False))

    return answer_form(experiment, width)


def views_to_answer(data: Artifact, experiment: Experiment) -> dict[str, int]:
    """split -> stored views of each row that the student learns from; empty: it asks the live teacher, or
    none.
    """
    about = data.json("data.json")
    rows = trained_on(about["counts"])
    counts = {name: count for name, count in rows.items() if name in taught_splits(experiment)}
    spec, asked = experiment.student_train.spec, experiment.pseudo_label
    kept = used(rows, spec["rows"])
    steps = total_steps(spec, sum(kept.get(name, 0) for name in EPOCH), "student_train")
    seen_rows = {name: count for name, count in kept.items() if name in counts}
    if not counts or experiment.moving:
        return {}
    if asked["view"] == "clean" or not spec["augment"]:
        views = dict.fromkeys(counts, 1)
    else:
        views = passes(steps, shares(spec["batch_size"], seen_rows, spec["labelled_share"]), seen_rows)
        views = {name: min(seen, asked["views"] or seen) for name, seen in views.items()}
    fits = stored_bytes(counts, views, answer_bytes(about, _form(experiment, data))) <= asked["limit"]
    # A choice among the rows is made after they are answered, so how often a row will be seen is not known
    # yet: augmented, the teacher is live.
    if experiment.select and asked["view"] == "same" and spec["augment"] and asked["views"] is None:
        return {}
    return views if asked["mode"] == "stored" or (asked["mode"] == "auto" and fits) else {}


def rows_looked_at(data: Artifact, experiment: Experiment) -> dict[str, int]:
    """split -> how many of its rows the student's training looks at, where it ends before its first pass
    does: the first ones of the order in which it takes them, so that no other row needs an answer. A rule of
    choice reads the answers to all of them.

    Trainings of different length so have answers of their own, each to the rows that it looks at: what one of
    them asks of the teacher is never more than it learns from, and the shorter one's are few.
    """
    if experiment.select is not None:
        return {}
    found: Mapping[str, int] = data.json("data.json")["counts"]
    counts, spec = trained_on(found), experiment.student_train.spec
    seen, read = used(counts, spec["rows"]), taught_splits(experiment)
    steps = total_steps(spec, sum(seen.get(name, 0) for name in EPOCH), "student_train")
    taught = {name: rows for name, rows in seen.items() if name in read}
    if not taught:
        return {}
    batch = shares(spec["batch_size"], taught, spec["labelled_share"])
    return {
        name: steps * batch[name]
        for name, rows in taught.items()
        if rows == counts[name] > steps * batch[name]
    }


def _augmentation(training: Component) -> list[tuple[str, Component]]:
    return [(name, Component(spec)) for name, spec in training.spec["augment"]]
