"""What a training leaves beside the student's weights: what its loss learned, and a teacher that moved."""

from __future__ import annotations

import itertools

from safetensors.torch import save_file
from torch import Tensor

from kdx.core.types import Objective
from kdx.pipeline.stages.files import MOVED_MODEL, MOVED_WEIGHTS, about_model
from kdx.pipeline.stages.parts import TrainInputs
from kdx.pipeline.stages.watch import plain_state, plain_tensor
from kdx.store.work import Work

OBJECTIVE = "objective.safetensors"


def learned_beside(objective: Objective) -> dict[str, Tensor]:
    """What was trained and is no part of the student, of what is exported or of a teacher that moved:
    regressors of hidden features, critics, peers. Keys are those of the objective's state dict.

    With the parameters of a layer come its buffers, such as the statistics of batch normalisation; memories
    by row and other statistics are left out.
    """
    moved = objective.moved()
    apart = [objective.student, objective.export(), *([moved[0]] if moved else [])]
    known = {id(value) for net in apart for value in itertools.chain(net.parameters(), net.buffers())}
    found: dict[str, Tensor] = {}
    for name, layer in objective.named_modules():
        if not any(p.requires_grad and id(p) not in known for p in layer.parameters(recurse=False)):
            continue
        for key, value in layer.state_dict(keep_vars=True).items():
            if "." not in key and id(value) not in known:  # with a dot: of a layer inside
                found[f"{name}.{key}".lstrip(".")] = plain_tensor(value)
    return found


def bytes_beside(objective: Objective) -> int:
    """Of the weights that `write_beside` writes."""
    found = list(learned_beside(objective).values())
    if moved := objective.moved():
        found += plain_state(moved[0]).values()
    return sum(value.nbytes for value in found)


def write_beside(work: Work, objective: Objective, inputs: TrainInputs) -> None:
    """objective.safetensors where the loss has learned something (see `learned_beside`); teacher.safetensors
    and teacher.json, its model.json, of a teacher that moved.
    """
    if learned := learned_beside(objective):
        save_file(learned, work.path / OBJECTIVE)
    if moved := objective.moved():
        network, like_student = moved
        save_file(plain_state(network), work.path / MOVED_WEIGHTS)
        of_student = about_model(inputs.model, inputs.data.json("data.json"))
        work.write_json(MOVED_MODEL, of_student if like_student else inputs.teachers[0].json("model.json"))
