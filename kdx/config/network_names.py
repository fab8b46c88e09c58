"""What the networks of an experiment are called: by their node, by the option that was chosen and in a
sentence.
"""

from __future__ import annotations

from kdx.config.options import option_file, read_option
from kdx.config.wire import Order
from kdx.pipeline.recipes.experiment import Experiment, TeacherSetup

_STUDENT = "override /student"


def teachers_by_node(experiment: Experiment) -> dict[str, TeacherSetup]:
    """node -> the teacher, or each member of an ensemble."""
    if len(experiment.teachers) == 1:
        return {"teacher": experiment.teachers[0]}
    return {f"members.{number}": teacher for number, teacher in enumerate(experiment.teachers, 1)}


def option_words(order: Order) -> dict[str, str]:
    """Node -> what a sentence calls its network: by the option that was chosen, "student=mlp"."""
    chosen = order.config["assistants"]
    names = [str(name) for name in chosen] if isinstance(chosen, list) else []
    return {
        **{
            node: f"{called_in_words(node)}, {teacher.name}," if "." in node else f"{node}={teacher.name}"
            for node, teacher in teachers_by_node(order.experiment).items()
        },
        **{f"assistant {number}": f"the assistant {name}" for number, name in enumerate(names, 1)},
        "student": f"student={order.config['choices']['student']}",
    }


def who_chose_student(order: Order) -> str:
    """ " (loss=self_training makes ...)", where the loss brought the student that was chosen, so that nobody
    may have typed it; else empty."""
    choices = order.config["choices"]
    loss, student = choices.get("loss"), choices.get("student")
    file = option_file("loss", loss) if isinstance(loss, str) else None
    found = read_option(file) if file else None
    defaults = found.get("defaults") if isinstance(found, dict) else None
    brought = [
        one[_STUDENT]
        for one in (defaults if isinstance(defaults, list) else [])
        if isinstance(one, dict) and _STUDENT in one
    ]
    if brought == ["${teacher}"] and student == choices.get("teacher"):
        return f" (loss={loss} makes the student what the teacher is, unless student= names another)"
    return f" (loss={loss} takes student={student}, unless another is named)" if brought == [student] else ""


def called_in_words(role: str) -> str:
    """In a sentence."""
    return role.replace("members.", "member ") if role.startswith("members.") else f"the {role}"
