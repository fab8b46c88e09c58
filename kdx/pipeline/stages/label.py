"""pseudo-label: the teacher's answers to every row and view that the student will see, written once, as the
task packs them, or a part of each (`pseudo_label.format`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.models import size
from kdx.pipeline.stages.acting import acted_on_validation
from kdx.pipeline.stages.answering import SHARD_JSON, fill_answers, put_together
from kdx.pipeline.stages.answers import digest_of_views, places_file, score_of_validation
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.asked import MIXUP, places_of
from kdx.pipeline.stages.packing import digest_of_data, save_head
from kdx.pipeline.stages.settled import LabelInputs, Settled, settle_asking
from kdx.pipeline.stages.spread import Passes, write_spread
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.runtime import Runtime


def run(
    work: Work,
    runtime: Runtime,
    *,
    passes: int = 0,
    shards: Sequence[Artifact] = (),
    **inputs: Any,
) -> None:
    """inputs: see LabelInputs. passes: of Monte-Carlo dropout over the clean ones of its `rows`, whose spread
    is kept as extras. shards: all parts of the answers, where others have made them
    (kdx.pipeline.stages.label_shard); they enter no key, as the files are the same byte for byte.

    Files: <split>.npy (N, V, ...), or <split>.NAME.npy for each of several arrays, head.npy beside hidden
    states; answers.json. Slot v of a row answers exactly the inputs of view `first` + v, which are a pure
    function of (seed, split, row, view): 1 + v where the student is augmented, 0 for the clean row. Always
    answered are the validation split, clean and (slot 1) in one view such as those of the pool, and the whole
    pool, clean (clean.npy where unlabelled.npy holds other views), unless `rows` are given or not all are
    looked at: then places.SPLIT.npy says where each row's answer lies. Where the teacher is asked live about
    augmented views, sample.npy holds its answers to one of them; validation.by_row.npy is what one attains
    there that acts. An interrupted stage goes on at the view it had reached.
    """
    given = LabelInputs(**inputs)
    data, augment, seed = given.data, given.augment, given.seed
    about = data.json("data.json")
    settled = settle_asking(work, runtime, given)
    networks, asked, wanted, bought = settled.networks, settled.asked, settled.wanted, settled.bought
    if shards:
        hold_together(work, runtime, settled, shards)
        put_together(work, data, wanted, asked, shards)
    else:
        fill_answers(work, runtime, data, wanted, asked)
    if settled.hidden:
        save_head(work.path, settled.hidden)
    for name, found in asked.some.items():
        np.save(work.path / places_file(name), places_of(found, about["counts"][name]).numpy())
    split = open_split(data, "unlabelled", runtime) if passes and given.pool else None
    spread = Passes(asked.task, networks, passes, seed, asked.some.get("unlabelled"))
    extras = write_spread(work, runtime, split, spread) if split else []
    acted = acted_on_validation(work, networks, data, asked.task, runtime)
    score = score_of_validation(work.path, data, asked.task) if acted is None else acted
    work.write_json(
        "answers.json",
        {
            "splits": {name: {"views": count, "first": first} for name, (count, first) in wanted.items()},
            "clean": given.clean,
            "views": digest_of_views(augment, seed),
            "extras": extras,
            "pool": about["counts"]["unlabelled"],
            "moved": bool(augment) and not given.clean,
            "mixed": not given.clean and MIXUP in dict(augment),
            "bought": None if bought is None else len(bought),
            "some": sorted(asked.some),
            "teachers": [t.key for t in given.teachers],
            "teacher_size": size.most_parameters(networks),
            "validation_score": score,
            **settled.alike(),
            "data": digest_of_data(about),
            "precision": given.precision,
            "seed": seed,
        },
    )


def hold_together(work: Work, runtime: Runtime, settled: Settled, shards: Sequence[Artifact]) -> None:
    """Says where shards were made with something else, or have settled something otherwise, than is here, as
    on another machine; UserError where that is the form of the answers."""
    here = settled.alike()
    for number, shard in enumerate(shards):
        there = shard.json(SHARD_JSON)["settled"]
        if there["format"] != here["format"]:
            raise UserError(
                f"shard {number} keeps its answers as {there['format']['name']}, and here the teacher's are "
                f"kept as {here['format']['name']}: another machine made it, and the choice was close; name "
                "one, pseudo_label.format=topk or sampled"
            )
        if other := [key for key in here if there.get(key) != here[key]]:
            work.note(
                f"shard {number} found another {' and '.join(other)} than is found here, in the last digits: "
                "it was made on another machine, or by another number of threads, and is taken as it is",
                "warning",
            )
    made: dict[str, list[str]] = {}
    for number, shard in enumerate(shards):
        there = shard.manifest.get("made", {})
        other = [
            f"{key} {there.get(key)} (here {value})"
            for key, value in runtime.where().items()
            if there.get(key) != value
        ]
        made.setdefault(", ".join(other), []).append(str(number))
    for how, numbers in made.items():
        if how:
            which = f"shard{'' if len(numbers) == 1 else 's'} {', '.join(numbers)}"
            work.note(
                f"{which}, made with {how}: the last digits of these answers may be others than those of one "
                "process here"
            )
