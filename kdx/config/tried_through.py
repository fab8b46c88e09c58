"""Whether a teacher can learn from other data sets before the labelled part: before any work."""

from __future__ import annotations

import json
import os
from functools import partial

from kdx.config.tried_data import describe_loader
from kdx.config.untuned import check_head
from kdx.core import checks, snapshot
from kdx.core.errors import rows_called
from kdx.data.raw import Description
from kdx.pipeline.recipes.experiment import Experiment


def check_through(experiment: Experiment, about: Description, errors: list[str]) -> None:
    """Whether a teacher can learn from these before: pictures with classes, of 1 or 3 channels."""
    for teacher in experiment.teachers:
        for name, source in teacher.through:
            key = ("described", os.getcwd(), json.dumps(source.spec, sort_keys=True))
            found, wrong = snapshot.once(key, partial(describe_loader, source))
            errors += [text.replace("dataset.", f"teacher.through.{name}.") for text in wrong]
            if found is None:
                continue
            last = source is teacher.through[-1][1]
            if last and len(found.classes or ()) != len(about.classes or ()):
                with checks.gather(errors):
                    check_head(experiment, "teacher.through")
            if found.reads != "pictures" or about.reads != "pictures":
                errors.append(
                    f"teacher.through={name} holds {rows_called(found.reads)}, and this data set "
                    f"{rows_called(about.reads)}: pictures alone are made each other; leave it out"
                )
            elif found.shape[0] != about.shape[0] and {found.shape[0], about.shape[0]} != {1, 3}:
                errors.append(
                    f"teacher.through={name} has pictures of {found.shape[0]} channels, and this data set "
                    f"those of {about.shape[0]}: only grey (1) and colours (3) are made each other"
                )
