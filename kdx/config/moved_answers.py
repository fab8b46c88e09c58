"""Whether answers that lie at places of a row can follow what an augmentation moves."""

from __future__ import annotations

import torch

from kdx.config.trying import trying
from kdx.config.wire import Order
from kdx.core.task import Boxed, Task
from kdx.core.trees import leaves
from kdx.core.warp import Warp
from kdx.data.raw import Description
from kdx.data.views.chain import Step
from kdx.data.views.draws import Draws
from kdx.store.declared import declared
from kdx.training.settings import Training


def check_moves(order: Order, about: Description, task: Task, errors: list[str]) -> None:
    """Of the student's training, whose steps may move what a teacher has said of the clean row."""
    experiment = order.experiment
    loss, training = experiment.loss, experiment.student_train
    if not task.placed or loss is None or training is None:
        return
    settings: Training | None = None
    with trying([]):  # what is wrong with the settings themselves is reported elsewhere
        settings = training.build()
    if settings is None:
        return
    moving = [(n, s) for n, s in settings.augment if isinstance(s, Step) and s.tells_warp]
    names = " and ".join(name for name, _ in moving)
    if not moving:
        return
    if several := declared(loss.target, "extra_views", ()):
        errors.append(
            f"loss={order.config['choices']['loss']} compares two views of a row ({', '.join(several)}), and "
            f"{names} moves what lies in them to other places in each: leave {names} out"
        )
        return
    asked = experiment.pseudo_label
    clean = asked is not None and (asked["view"] == "clean" or declared(order.recipe.target, "buys", False))
    if not clean or "answers" not in declared(loss.target, "reads", ("answers",)):
        return
    if issubclass(declared(loss.target, "needs_task", Task), Boxed):
        return  # it learns from boxes that are named, which move anywhere
    size = tuple(about.example[""][0][-2:])
    lost = [name for name, step in moving if _loses_places(task, step, size)]
    if lost:
        said = " and ".join(lost)
        errors.append(
            f"the teacher answers clean pictures, and student_train.augment: {said} moves these to where it "
            "has not answered, place by place: set pseudo_label.view=same where no answers are bought, leave "
            f"{said} out, or use loss=pseudo_boxes, whose boxes move with the pictures"
        )


def _loses_places(task: Task, step: Step, size: tuple[int, ...]) -> bool:
    """Whether answers to a row are of another form once they are moved."""
    rows = torch.arange(2)
    warp: Warp | None = step.warp(Draws(0, "labelled", rows, rows + 1), "0", (size[0], size[1]))
    if warp is None:
        return False
    before = task.made_up(2)
    after = task.move(before, warp)
    return {n: v.shape for n, v in leaves(before).items()} != {n: v.shape for n, v in leaves(after).items()}
