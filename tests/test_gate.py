"""The gate: whether a teacher is better than the student alone, by hand, before a student learns from it."""

import json
import types

import numpy as np
import pytest

from kdx.config import compose, restore
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.pipeline.recipes import steps
from kdx.pipeline.stages import gate
from kdx.report.run.folder import RunFolder
from kdx.store.artifact import Artifact
from kdx.store.work import Listener, Work
from kdx.tasks import chance
from kdx.tasks.shown import ACCURACY


def rows(*counts):
    """(teacher, alone): of both right, the teacher alone, the student alone, none: so many rows."""
    both, first, second, none = counts
    pairs = (
        [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * none
    )
    return tuple(np.array(side) for side in zip(*pairs, strict=True))


def test_the_paired_difference_by_hand():
    """Of 8 rows 3 only here, 1 only there: differences 1, 1, 1, -1, 0, 0, 0, 0 with mean 1/4 and variance (4
    - 8/16) / 7 = 1/2.
    """
    d = np.array([1, 1, 1, -1, 0, 0, 0, 0])
    difference, error = chance.mean_and_error(d.tolist())
    assert difference == 0.25 and error == pytest.approx((0.5 / 8) ** 0.5)
    assert error == pytest.approx(d.std(ddof=1) / 8**0.5)


@pytest.mark.parametrize(("counts", "gain"), [
    ((80, 10, 0, 10), True),    # 10 points, standard error 3.0
    ((80, 3, 0, 17), False),    # 3 points, standard error 1.7
    ((80, 4, 0, 16), True),     # 4 points, standard error 1.97
    # 10 points, standard error 5.4: the rows that are wrong in its place count too
    ((60, 20, 10, 10), False),
    ((90, 0, 0, 10), False),    # the same, with no error at all
    ((0, 10, 0, 0), True),
    ((50, 0, 20, 30), False),
])  # fmt: skip
def test_two_standard_errors_decide(counts, gain):
    found = gate.hold_against(*rows(*counts), "the student alone", ACCURACY)
    both, first, second, _ = counts
    assert found["gain"] is gain and found["n"] == sum(counts) and found["against"] == "the student alone"
    assert (found["teacher"], found["alone"]) == pytest.approx(
        ((both + first) / sum(counts), (both + second) / sum(counts))
    )
    assert found["text"].startswith(
        "nothing is to be gained from this teacher: on "
        if not gain
        else "there is something to gain from this teacher: on "
    )


def test_the_sentence_has_both_numbers_and_what_to_do():
    found = gate.hold_against(*rows(50, 3, 20, 27), "the student alone", ACCURACY)
    assert found["text"] == (
        "nothing is to be gained from this teacher: on 100 validation rows its accuracy is 53.0% "
        "and that of the student alone 70.0%, a lead of -17.0 points, where two standard errors of the "
        "paired difference are 9.0; train it longer (teacher_pretrain.steps), give it more labels "
        "(dataset.labelled), or choose another (teacher=)"
    )
    fitted = gate.hold_against(*rows(50, 3, 20, 27), "the student alone", ACCURACY, learns="fitted")
    assert fitted["text"].endswith(
        "are 9.0; give it more labels (dataset.labelled) or other settings (teacher.KEY=), or choose another "
        "(teacher=)"
    ), "no steps are made of it"
    assert (
        "only more validation rows could show so small a lead to be real (dataset.validation)"
        in gate.hold_against(*rows(60, 20, 10, 10), "x", ACCURACY)["text"]
    )


CLASSIFICATION = {
    "_target_": "kdx.tasks.classification.Classification",
    "classes": ["circle", "square", "triangle"],
}


def stage(path, y, answers, right, class_weights="none", best=None, **which):
    """What the stage writes, of made-up artifacts. right, best: by row of the student alone, of its last and
    of its best weights."""
    made = {}
    for name in ("data", "answers", "alone", "gate"):
        (path / name).mkdir(parents=True)
        made[name] = Artifact(name, "0" * 64, path / name)
    (path / "data/data.json").write_text(json.dumps({"task": CLASSIFICATION}))
    if y is not None:
        np.save(path / "data/validation.truth.npy", np.array(y))
        np.save(path / "answers/validation.npy", np.eye(3, dtype=np.float16)[answers][:, None])
    if right is not None:
        np.save(path / "alone/validation.by_row.npy", np.array(right))
    if best is not None:
        np.save(path / "alone/validation.best_by_row.npy", np.array(best))
    gate.run(
        Work(path / "gate", "gate", Listener()),
        None,
        data=made["data"],
        answers=made["answers"],
        alone=made["alone"] if right is not None else None,
        class_weights=class_weights,
        **which,
    )
    return made["gate"].json("gate.json")


def test_without_a_baseline_the_teacher_is_held_against_the_largest_class(tmp_path):
    y = [0, 0, 0, 0, 1, 1, 2, 2]
    found = stage(tmp_path / "a", y, [0, 0, 0, 0, 1, 1, 2, 0], None)
    assert (
        found["against"] == 'always "circle"'
        and found["alone"] == 0.5
        and found["teacher"] == 0.875
        and found["gain"]
    )
    assert not stage(tmp_path / "b", y, [0] * 8, None)["gain"]
    found = stage(tmp_path / "c", y, y, [True] * 7 + [False])
    assert found["against"] == "the student alone" and found["alone"] == 0.875 and not found["gain"]


def test_where_the_run_is_known_by_the_best_weights_these_are_compared(tmp_path):
    """A student alone that forgot all by its last step is no reason to learn from a teacher."""
    y = [0, 1, 2] * 10
    last, best = [True, False] * 15, [True] * 30
    assert stage(tmp_path / "a", y, y, last, best=best)["gain"]
    found = stage(tmp_path / "b", y, y, last, best=best, which="best")
    assert found["alone"] == 1 and not found["gain"]
    assert stage(tmp_path / "c", y, y, last, which="best")["alone"] == 0.5, "none was ever the best one"


def test_a_student_alone_below_who_knows_nothing_praises_no_teacher(tmp_path):
    """Of 10 rows 6 are circles, so who knows nothing has 0.6; the student alone has 0.1 and the teacher 0.4:
    better than it on 3 rows, and worse than who knows nothing on 2, by a difference of -0.2.
    """
    y = [0] * 6 + [1] * 4
    taught = [0] * 4 + [2] * 6
    alone = [True] + [False] * 9
    found = stage(tmp_path / "a", y, taught, alone)
    assert (found["gain"], found["against"]) == (False, 'always "circle"')
    assert [found[key] for key in ("teacher", "alone", "student_alone", "difference")] == pytest.approx(
        [0.4, 0.6, 0.1, -0.2]
    )
    assert found["standard_error"] == pytest.approx(((2 - 10 * 0.04) / 9 / 10) ** 0.5)
    assert (
        'its accuracy is 40.0% and that of always "circle" 60.0% (better than the student alone, 10.0%), a '
        "lead of -20.0 points"
    ) in found["text"]
    as_good = stage(tmp_path / "b", y, taught, [True] * 6 + [False] * 4)
    assert as_good["against"] == "the student alone" and "student_alone" not in as_good
    above = stage(tmp_path / "c", y, y, alone)
    assert above["gain"] and above["alone"] == 0.6, "the teacher has to be better than both"
    lost = stage(tmp_path / "d", y, y, [float("nan")] * 10)
    assert (lost["gain"], lost["alone"]) == (True, 0.6), "of no numbers who knows nothing is the better"


def test_of_a_metric_of_which_less_is_better_the_better_is_the_smaller(tmp_path):
    """Next tokens: 3 of 4 are the token 0, so who knows nothing takes (3 log2(4/3) + 2) / 4 bits a byte; the
    student alone takes 3 and the teacher, who holds all 4 tokens for as likely, 2."""
    task = {"_target_": "kdx.tasks.language.NextToken", "vocabulary": 4, "length": 2}
    found = {}
    for name, bits in (("worse", 3.0), ("better", 0.5)):
        made = {}
        for kind in ("data", "answers", "alone", "gate"):
            (tmp_path / name / kind).mkdir(parents=True)
            made[kind] = Artifact(kind, "0" * 64, tmp_path / name / kind)
        (tmp_path / name / "data/data.json").write_text(json.dumps({"task": task}))
        np.save(tmp_path / name / "data/validation.truth.token.npy", np.array([[0, 0], [0, 1]], np.int32))
        np.save(tmp_path / name / "data/validation.truth.bytes.npy", np.ones((2, 2), np.int32))
        np.save(tmp_path / name / "answers/validation.by_row.npy", np.array([2.0, 2.0]))
        np.save(tmp_path / name / "alone/validation.by_row.npy", np.array([bits, bits]))
        work = Work(tmp_path / name / "gate", "gate", Listener())
        inputs = {kind: made[kind] for kind in ("data", "answers", "alone")}
        gate.run(work, None, **inputs, class_weights="none")
        found[name] = made["gate"].json("gate.json")
    entropy = (3 * np.log2(4 / 3) + 2) / 4
    worse, better = found["worse"], found["better"]
    assert not worse["gain"] and worse["against"].startswith("the share of each token")
    assert [worse[key] for key in ("alone", "student_alone", "difference")] == pytest.approx(
        [entropy, 3.0, entropy - 2]
    )
    assert (better["against"], better["alone"], better["difference"]) == ("the student alone", 0.5, -1.5)


def test_where_classes_weigh_alike_balanced_accuracies_are_compared(tmp_path):
    """80 circles, 10 squares, 10 triangles; the teacher has 60, 9 and 9 right, the student alone calls all
    circles: 78% against 80%, and 85% against 33.3%.

    Weights 100 / (3 n_c): 5/12 and 10/3. Sum of weighted differences 18 * 10/3 - 20 * 5/12 = 51 2/3, of their
    squares 18 * 100/9 + 20 * 25/144.
    """
    y = np.repeat([0, 1, 2], [80, 10, 10])
    answers = np.repeat([0, 1, 1, 0, 2, 0], [60, 20, 9, 1, 9, 1])
    plain = stage(tmp_path / "a", y, answers, y == 0)
    assert (
        plain["metric"] == "accuracy"
        and not plain["gain"]
        and (plain["teacher"], plain["alone"]) == pytest.approx((0.78, 0.80))
    )
    found = stage(tmp_path / "b", y, answers, y == 0, "balanced")
    assert (
        found["metric"] == "balanced_accuracy"
        and found["gain"]
        and (found["teacher"], found["alone"]) == pytest.approx((0.85, 1 / 3))
    )
    assert found["difference"] == pytest.approx(0.85 - 1 / 3)
    assert found["standard_error"] == pytest.approx(
        ((200 + 500 / 144 - 100 * (31 / 60) ** 2) / 99 / 100) ** 0.5
    )
    assert (
        "on 100 validation rows its balanced accuracy is 85.0% and that of the student alone 33.3%, a "
        "lead of +51.7 points"
    ) in found["text"]
    always = stage(tmp_path / "c", y, answers, None, "balanced")
    assert always["alone"] == pytest.approx(1 / 3) and 'that of always "circle" 33.3%' in always["text"]
    even = stage(tmp_path / "d", [0, 0, 1, 1], [0, 0, 1, 0], [True, False, True, True], "balanced")
    same = stage(tmp_path / "e", [0, 0, 1, 1], [0, 0, 1, 0], [True, False, True, True])
    assert [even[k] for k in ("teacher", "alone", "difference", "standard_error")] == pytest.approx(
        [same[k] for k in ("teacher", "alone", "difference", "standard_error")]
    )


@pytest.mark.parametrize("y", [None, [1]])
def test_without_validation_it_says_that_it_cannot_speak(tmp_path, y):
    found = stage(tmp_path, y, [1], None)
    assert (
        found["gain"] is None
        and "nothing tells whether there is anything to gain" in found["text"]
        and "dataset.validation=0.1" in found["text"]
    )


class Heard(Listener):
    def __init__(self):
        self.notes = []

    def note(self, name, text, level):
        self.notes.append((level, text))


def ask(found, **pseudo_label):
    """What the recipe makes of a gate.json."""
    heard = Heard()
    store = types.SimpleNamespace(
        listener=heard, run=lambda stage, **inputs: types.SimpleNamespace(json=lambda name: found)
    )
    plan = types.SimpleNamespace(
        given=None,
        class_weights="none",
        headline="last",
        teachers=(),
        pseudo_label={"gate": "warn", "near_chance": None} | pseudo_label,
    )
    steps.gate(store, plan, None, None, None)
    return heard.notes


def test_warn_and_error():
    nothing, something, unknown = ({"gain": gain, "text": "so it is"} for gain in (False, True, None))
    assert ask(something) == ask(something, gate="error") == []
    assert ask(nothing) == [("warning", "so it is")]
    with pytest.raises(UserError, match="^so it is. To go on all the same: pseudo_label.gate=warn$"):
        ask(nothing, gate="error")
    assert ask(unknown) == [("info", "so it is")] and ask(unknown, gate="error") == [("warning", "so it is")]
    (said,) = ask(something, near_chance="warn")
    assert said == (
        "info",
        "pseudo_label.near_chance is the old name of pseudo_label.gate, and read as that: gate=warn",
    )


def test_the_old_name_of_the_key_is_read():
    def gates(*words):
        order = wire(compose.check_words(["device=cpu", *words]))
        return order.experiment.pseudo_label["gate"], order.config["pseudo_label"]["gate"]

    assert gates() == ("warn", "warn") and gates("pseudo_label.near_chance=warn") == ("warn", "warn")
    assert gates("pseudo_label.near_chance=error") == gates("pseudo_label.gate=error") == ("error", "error")
    for key in ("gate", "near_chance"):
        with pytest.raises(UserError, match=f"pseudo_label.{key} has no option 'eror'; did you mean 'error'"):
            gates(f"pseudo_label.{key}=eror")


def test_an_older_run_is_run_again_with_what_it_was_given(trained):
    """Its run.json has the old name and not the new one."""
    config = json.loads((trained / "outputs/runs/a=b/run.json").read_text())["config"]
    for given in ("warn", "error"):
        old = {key: value for key, value in config["pseudo_label"].items() if key != "gate"} | {
            "near_chance": given
        }
        found, errors, notes = restore.restore({**config, "pseudo_label": old}, [], {})
        assert errors == [] and notes == ["pseudo_label.gate is newer than the run and has its default"]
        assert wire(found).experiment.pseudo_label["gate"] == given


def test_its_warning_is_the_first(tmp_path):
    run = RunFolder(tmp_path, {}, {}, {}, ["kdx", "train"])
    run.note("prepare", "a class is missing", "warning")
    run.note("gate", "nothing is to be gained", "warning")
    run.note("student-train", "odd", "warning")
    assert run.warnings == ["nothing is to be gained", "a class is missing", "odd"]


def test_a_run_keeps_what_the_gate_found(trained):
    """Between the student alone and the distilled one, with the numbers of the table."""
    run = json.loads((trained / "outputs/runs/a=b/run.json").read_text())
    names = [stage["name"] for stage in run["stages"]]
    assert names == [
        "decode",
        "prepare",
        "teacher-pretrain",
        "pseudo-label",
        "baseline-train",
        "gate",
        "student-train",
        "audit",
        "teacher-predict",
        "baseline-predict",
        "evaluate",
    ]
    teacher, alone = (
        run["results"][role]["last"]["validation"]["accuracy"] for role in ("teacher", "baseline")
    )
    assert (
        run["gate"]["alone"] == alone
        and run["gate"]["teacher"] == pytest.approx(teacher, abs=0.005)
        and run["gate"]["n"] == 200
    )
    assert f"The gate: {run['gate']['text'][:40]}" in (trained / "outputs/runs/a=b/report.md").read_text()
    assert run["gate"]["gain"] == (run["gate"]["text"] not in run["warnings"])


@pytest.mark.parametrize(
    ("teachers", "how"),
    [
        ([("training", False, False)], "steps"),
        ([(None, True, False)], "fitted"),
        ([("training", True, False)], "fitted"),
        ([(None, False, False)], "taken"),
        ([(None, True, False), ("training", False, False)], "steps"),
        ([(None, False, False), (None, True, False)], "fitted"),
        ([(None, True, True)], "finished"),
        ([(None, True, True), (None, True, False)], "fitted"),
        ([(None, True, True), (None, False, False)], "taken"),
        ([], "given"),
    ],
)
def test_the_remedy_is_for_how_the_teachers_came_to_be(teachers, how):
    """Of none at all the answers came in a file."""
    names = ("training", "fitted", "finished")
    setups = [types.SimpleNamespace(model=None, **dict(zip(names, found, strict=True))) for found in teachers]
    assert how in gate.REMEDIES
    asked = []
    store = types.SimpleNamespace(
        listener=Heard(),
        run=lambda stage, **inputs: (
            asked.append(inputs) or types.SimpleNamespace(json=lambda name: {"gain": True, "text": ""})
        ),
    )
    plan = types.SimpleNamespace(
        class_weights="none",
        headline="last",
        teachers=setups,
        given=not setups,
        pseudo_label={"gate": "warn", "near_chance": None},
    )
    steps.gate(store, plan, None, None, None)
    assert asked[0].get("learns", "steps") == how
