"""Private rows teach by noisy votes alone: teachers on disjoint shards of them label public rows (PATE)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdx.core.checks import flag, integer, number
from kdx.core.errors import UserError
from kdx.core.roles import AS_MANY_TRUE
from kdx.methods.private_budget import check_accountant, epsilon_spent
from kdx.methods.private_votes import CONFIDENT, VoteNoise
from kdx.pipeline.controls.control import altered
from kdx.pipeline.recipes.data import prepare_data
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe, Request
from kdx.pipeline.recipes.releasing import (
    made_pool,
    seeds_beside,
    spent_beside,
    too_dear,
    wrong_parts,
    wrong_rows,
)
from kdx.pipeline.recipes.steps import beginning, control, student_inputs
from kdx.pipeline.recipes.teachers import checkpoint_inputs, precise
from kdx.pipeline.stages import (
    ANSWERED,
    ATTACK,
    DIVIDE,
    EXACT_LABELS,
    PLAIN_LABELS,
    PRETRAIN,
    RELEASE,
    RELEASED_LABELS,
    SHARDS,
    TRAIN,
    TRUE_LABELS,
)
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.stage import subseed
from kdx.store.store import Store


class Private(Recipe):
    """PATE (Papernot et al. 2017, arXiv 1610.05755; 2018, arXiv 1802.08908). The labelled rows are private,
    the pool and validation are public. Teachers on disjoint shards of the private rows vote on `queries` rows
    of the pool; the class of most votes, after noise, is released; the student learns from the released
    labels and from nothing else of the private rows.

    shards >= 2; shard_steps >= 1, of each teacher's training. queries >= 1, at most the pool. noise, sigma,
    threshold (votes, or a share of the shards in (0, 1)), threshold_sigma: see
    kdx.methods.private_votes.VoteNoise. epsilon > 0: what the queries may cost at most, None: whatever they
    cost. delta in (0, 1). noise_seed None: the noise comes from the operating system and cannot be drawn
    again; a number: reproducible, and no guarantee towards who knows it. attack: whether membership is
    guessed.
    """

    teacher = False
    reads_pool = True
    predicts = False

    def __init__(
        self,
        *,
        shards: int,
        shard_steps: int,
        queries: int,
        noise: str,
        sigma: float,
        threshold: int | float,
        threshold_sigma: float,
        epsilon: float | None,
        delta: float,
        noise_seed: int | None,
        attack: bool,
    ):
        self.shards = integer("recipe.shards", shards, low=2)
        self.shard_steps = integer("recipe.shard_steps", shard_steps, low=1)
        self.queries = integer("recipe.queries", queries, low=1)
        votes = number("recipe.threshold", threshold, low=0)
        votes = votes * shards if isinstance(threshold, float) and threshold < 1 else votes
        sure = (votes, threshold_sigma) if noise == CONFIDENT else (None, None)
        self.noise = VoteNoise(noise, sigma, *sure)
        self.epsilon = None if epsilon is None else number("recipe.epsilon", epsilon, low=0, open_low=True)
        self.delta = number("recipe.delta", delta, low=0, high=1, open_low=True, open_high=True)
        self.noise_seed = None if noise_seed is None else integer("recipe.noise_seed", noise_seed, low=0)
        self.attack = flag("recipe.attack", attack)

    def run(self, store: Store, experiment: Experiment) -> None:
        data = prepare_data(store, experiment, fitted_on=["unlabelled"])
        public, private = (
            store.run(DIVIDE, name=f"{DIVIDE.name}-{side}", data=data, side=side)
            for side in ("public", "private")
        )
        votes = self._vote(store, experiment, public, private)
        cost = spent_beside(experiment)
        beside: dict[str, Any] = {"beside": list(cost)} if any(cost) else {}
        beside |= {"known_beside": True} if True in seeds_beside(experiment) else {}
        released = store.run(
            RELEASE,
            votes=votes,
            noise=self.noise.document(),
            delta=self.delta,
            seed=self.noise_seed,
            **beside,
        )
        lesson = store.run(ANSWERED, data=public, source=released, labels=RELEASED_LABELS)
        inputs = student_inputs(store, lesson, experiment)
        tells = not made_pool(experiment) and (experiment.pool or data.json("data.json")["hidden"])
        if "baseline" in experiment.controls and tells:
            # where every query is answered its key hangs on no noise, and runs of other noise share it
            rows = released if self.noise.kind == CONFIDENT else votes
            name = f"{ANSWERED.name}-{TRUE_LABELS}"
            true = store.run(ANSWERED, name=name, data=public, source=rows, labels=TRUE_LABELS)
            control(store, experiment, {**inputs, "data": true}, "baseline")
        begins = beginning(experiment, []) if experiment.init else {}
        store.run(TRAIN, name="student-train", **inputs, **begins, loss=experiment.loss)
        self._compare(store, experiment, inputs, (public, private, votes))

    def _vote(self, store: Store, experiment: Experiment, public: Artifact, private: Artifact) -> Artifact:
        """The teachers of all shards, in one stage, and what they name."""
        teacher = experiment.teachers[0]
        training = teacher.training
        if training is not None and not teacher.fitted:
            training = altered(training, length=f"{self.shard_steps} steps", epochs=None, steps=None)
        return store.run(
            SHARDS,
            public=public,
            shards=self.shards,
            queries=self.queries,
            **self._taught(store, experiment, private, training),
            seed=subseed(experiment.seed, "shards"),
        )

    def _taught(
        self, store: Store, experiment: Experiment, data: Artifact, training: Component | None
    ) -> dict[str, Any]:
        """The inputs of a teacher's training that hang on no seed."""
        teacher = experiment.teachers[0]
        return {
            "data": data,
            "model": teacher.model,
            **checkpoint_inputs(teacher.checkpoint),
            "loss": experiment.teacher_loss,
            "training": training,
            "precision": precise(store, data, teacher.model, training),
            "epoch": ["labelled"],
            "class_weights": experiment.class_weights if training else "none",
        }

    def _compare(
        self,
        store: Store,
        experiment: Experiment,
        inputs: Mapping[str, Any],
        made: tuple[Artifact, Artifact, Artifact],
    ) -> None:
        """What no guarantee covers, after the student: a teacher of all private rows, and the students of the
        exact votes and of its answers. made: the public and the private rows, the votes."""
        public, private, votes = made
        teacher = store.run(
            PRETRAIN,
            **self._taught(store, experiment, private, experiment.teachers[0].training),
            seed=subseed(experiment.seed, "teacher", 0),
            views_seed=subseed(experiment.seed, "views", "teacher"),
        )
        others = {}
        for labels, whose in ((EXACT_LABELS, None), (PLAIN_LABELS, teacher)):
            rows = store.run(
                ANSWERED,
                name=f"{ANSWERED.name}-{labels}",
                data=public,
                source=votes,
                labels=labels,
                **({"teacher": whose} if whose else {}),
            )
            others[labels] = store.run(
                TRAIN, name=f"{labels}-train", **{**inputs, "data": rows}, loss=experiment.loss
            )
        for role in experiment.controls:
            if role != "baseline":
                control(store, experiment, inputs, role)
        if self.attack:
            self._attack(store, experiment, inputs, {**others, "public": public, "private": private})

    def _attack(
        self,
        store: Store,
        experiment: Experiment,
        inputs: Mapping[str, Any],
        made: Mapping[str, Artifact],
    ) -> None:
        """made: the public and the private rows, and the student of plain answers."""
        direct = store.run(
            TRAIN,
            name="direct-train",
            **{**inputs, "data": made["private"]},
            loss=experiment.teacher_loss,
        )
        store.run(
            ATTACK,
            rows={
                "public": made["public"],
                "private": made["private"],
                "asked": store.done[SHARDS.name],
                "shadow": store.done[f"{ANSWERED.name}-{TRUE_LABELS}"],
            },
            shadow=store.done["baseline-train"],
            targets={
                "student": store.done["student-train"],
                "direct": direct,
                "plain": made[PLAIN_LABELS],
                "never": store.done["baseline-train"],
            },
            seed=subseed(experiment.seed, "attack"),
        )

    def results(self, done: Mapping[str, Artifact]) -> dict[str, Any]:
        if RELEASE.name not in done:
            return {}
        found = dict(done[RELEASE.name].json("release.json"))
        if ATTACK.name in done:
            found["attack"] = done[ATTACK.name].json("attack.json")
        return {"privacy": found}

    def errors(self, asked: Request) -> Iterator[str]:
        yield from super().errors(asked)
        yield from wrong_parts(asked, self.attack)
        yield from wrong_rows(asked.rows, self.shards, self.queries)
        try:
            check_accountant()
        except UserError as error:
            yield str(error)
            return
        queries = min(self.queries, asked.rows.get("unlabelled") or self.queries)
        if self.epsilon is not None and (why := self._too_dear(asked, queries, self.epsilon)):
            yield why

    def idle(self, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().idle(config)
        if self.noise.kind != CONFIDENT:
            why = f"it is of recipe.noise={CONFIDENT}, and this is {self.noise.kind}: leave one of them out"
            yield from ((f"recipe.{key}", why) for key in ("threshold", "threshold_sigma"))

    def releases(self, experiment: Experiment) -> bool:
        return self.noise_seed is None or False in seeds_beside(experiment)

    def _too_dear(self, asked: Request, queries: int, budget: float) -> str | None:
        return too_dear(self.noise, queries, budget, self.delta, spent_beside(asked.experiment)[0])

    def alone(self, experiment: Experiment) -> str:
        return "" if made_pool(experiment) else AS_MANY_TRUE

    def protocol(self, experiment: Experiment) -> list[str]:
        cost, beside = epsilon_spent(self.noise, self.queries, self.delta), spent_beside(experiment)
        parts = f" (the queries {cost:.2f}, the made-up rows {beside[0]:.2f})" if any(beside) else ""
        return [
            f"privacy: {self.shards} teachers on disjoint shards of the labelled rows, which are private; "
            "the pool and validation, with its labels, are public; "
            f"{self.queries:,} public rows are asked about, with {self.noise.in_words()}: epsilon "
            f"{cost + beside[0]:.2f}{parts} at delta {self.delta + beside[1]:g}"
        ]
