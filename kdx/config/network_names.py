"""What the networks of an experiment are called: by their node, by the option that was chosen and in a
sentence.
"""

from __future__ import annotations

from kdx.config.wire import Order
from kdx.pipeline.recipes.experiment import Experiment, TeacherSetup


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


def called_in_words(role: str) -> str:
    """In a sentence."""
    return role.replace("members.", "member ") if role.startswith("members.") else f"the {role}"
