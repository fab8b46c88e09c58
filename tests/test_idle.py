"""Settings that could never act where they are typed:
reported before any work, and only where they were typed.
"""

from __future__ import annotations

import pytest

from kdx.cli import main
from kdx.commands import _check
from kdx.commands import train as command
from kdx.config import compose
from kdx.config.unused import VALIDATIONS, Learned, idle
from kdx.core.errors import UserErrors
from kdx.pipeline.stages import watch

SUPERVISED = "kdx.methods.losses.supervised.Supervised"
LINES = [
    (
        "student_train.patience=3 dataset.validation=null",
        "student_train.patience=3 can never act: it goes by the validation split, and this run has none",
    ),
    ("teacher_pretrain.target=0.9 dataset.validation=null", "teacher_pretrain.target=0.9 can never act"),
    (
        "student_train.evaluate_every=5 dataset.validation=null",
        "student_train.evaluate_every=5 can never act",
    ),
    ("headline=best dataset.validation=null", "headline=best can never act"),
    (
        "teacher=sklearn pseudo_label.precision=bf16",
        "pseudo_label.precision=bf16 can never act: the teacher is no network whose bits could be fewer",
    ),
    ("pseudo_label.gate=error dataset.validation=null", "pseudo_label.gate=error can never act"),
    (
        "pseudo_label.near_chance=error dataset.validation=null",
        "pseudo_label.near_chance=error can never act: it goes by the validation split",
    ),
    (
        "pseudo_label.gate=error loss=supervised",
        "pseudo_label.gate=error can never act: loss=supervised learns from no teacher",
    ),
    (
        "rounds=3 round_patience=1 dataset.validation=null",
        "round_patience=1 can never act: it goes by the validation split",
    ),
    ("round_patience=1", "round_patience=1 can never act: there is one round"),
    ("init=previous", "init=previous can never act: there is one round"),
    ("rounds=3 round_patience=3", "round_patience=3 can never act: there are 3 rounds, which end no sooner"),
    ("loss=supervised rounds=3", "rounds=3 can never act: loss=supervised learns from no teacher"),
    ("student_train.momentum=0.5", "student_train.momentum=0.5 can never act: it is for sgd"),
    (
        "teacher_pretrain.milestones=[0.5]",
        "teacher_pretrain.milestones=[0.5] can never act: they are for the schedule step",
    ),
    (
        "student_train.schedule=one_cycle student_train.warmup=5",
        "student_train.warmup=5 can never act: student_train.schedule=one_cycle has",
    ),
    (
        "student_train.warmup=20 student_train.steps=20",
        "student_train.warmup=20 can never act: the training has 20 steps",
    ),
    (
        "student_train.patience=20",
        "student_train.patience=20 can never act: the training looks at validation 20 times in all",
    ),
    (
        "student_train.patience=2 student_train.evaluate_every=800",
        "student_train.patience=2 can never act: the training looks at validation 2 times",
    ),
    ("pseudo_label.limit=5 pseudo_label.mode=live", "pseudo_label.limit=5 can never act"),
    ("teacher_pretrain.labelled_share=0.5", "teacher_pretrain.labelled_share=0.5 can never act"),
    (
        "teacher=sklearn teacher_pretrain.lr=0.1",
        "teacher_pretrain.lr=0.1 can never act: the teacher sklearn is fitted at once, and not trained by "
        "steps: leave it out",
    ),
    (
        "teacher=tfidf teacher_pretrain.precision=auto",
        "teacher_pretrain.precision=auto can never act: the teacher tfidf is fitted at once",
    ),
    (
        "teacher=sklearn teacher_pretrain.patience=3 dataset.validation=null",
        "teacher_pretrain.patience=3 can never act: the teacher sklearn is fitted at once",
    ),
    (
        f"teacher=sklearn teacher_loss._target_={SUPERVISED}",
        f"teacher_loss._target_={SUPERVISED} can never act: the teacher sklearn is fitted at once",
    ),
    (
        "teacher=sklearn teacher.members=2 teacher_pretrain.rows=20",
        "teacher_pretrain.rows=20 can never act: the teacher sklearn is fitted at once",
    ),
    (
        "teachers=[mlp,sklearn] members.2.teacher_pretrain.epochs=5",
        "members.2.teacher_pretrain.epochs=5 can never act: the teacher sklearn is fitted at once",
    ),
    (
        "teachers=[mlp,sklearn] teacher_pretrain.milestones=[0.5]",
        "teacher_pretrain.milestones=[0.5] can never act: they are for the schedule step",
    ),
    (
        "teachers=[mlp,cnn] members.1.teacher_pretrain.momentum=0.5",
        "members.1.teacher_pretrain.momentum=0.5 can never act: it is for sgd, and "
        "members.1.teacher_pretrain.optimiser=adamw: set members.1.teacher_pretrain.optimiser=sgd",
    ),
    (
        "loss=mmd select=threshold",
        "select=threshold can never act: it chooses rows of the pool by a teacher's answers, and loss=mmd",
    ),
    ("loss=fixmatch select=balanced", "select=balanced can never act: it chooses rows of the pool by"),
    ("loss=supervised select=threshold", "select=threshold can never act: loss=supervised reads no pool"),
    ("loss=supervised recipe=distil select=threshold", "select=threshold can never act: loss=supervised"),
    ("dataset=digits_table loss=supervised made_up=munge", "made_up=munge can never act: loss=supervised"),
    (
        "dataset=digits_table recipe=data_free made_up=munge",
        "made_up=munge can never act: recipe=data_free reads no pool: leave it out",
    ),
    (
        "loss=supervised student_train.labelled_share=0.5",
        "student_train.labelled_share=0.5 can never act: a batch is all labelled, as loss=supervised reads "
        "no pool: choose another loss, such as kd",
    ),
    (
        "recipe=stream student_train.labelled_share=0.5",
        "student_train.labelled_share=0.5 can never act: a batch is all labelled, as recipe=stream reads no",
    ),
    (
        "loss=lwf student_train.labelled_share=0.5",
        "student_train.labelled_share=0.5 can never act: a batch is all of the session's rows, as there is "
        "no memory: set recipe.memory=100, say",
    ),
    (
        "dataset=corpus pseudo_label.format=text loss.alpha=0 student_train.labelled_share=0.5",
        "student_train.labelled_share=0.5 can never act: a batch is all labelled, as pseudo_label.format",
    ),
    (
        "student_train.strong_augment=[randaugment]",
        "student_train.strong_augment=[randaugment] can never act: loss=kd compares no two views of a row",
    ),
    (
        "teacher=resnet18 teacher.checkpoint=w.pt teacher_pretrain.lr=0.1",
        "teacher_pretrain.lr=0.1 can never act: the teacher resnet18 has its weights and is taken as it is: "
        "set teacher_pretrain.epochs=5, say, to train it on",
    ),
]


def found(line: str, **learned: dict) -> list[str]:
    words = compose.plus_less(line.split())
    typed = {word.partition("=")[0].lstrip("+") for word in words}
    return list(idle(compose.check_words(words), typed, Learned(**learned)).values())


@pytest.mark.parametrize(("line", "says"), LINES, ids=[line for line, _ in LINES])
def test_what_can_never_act_is_reported(line, says):
    (why,) = found(line)
    assert why.startswith(says)


@pytest.mark.parametrize(
    "line",
    [
        "seed=1",
        "dataset.validation=null",
        "dataset.validation=null loss=self_training",
        "student_train.patience=19",
        "pseudo_label.precision=bf16",
        "teacher=sklearn rounds=2 pseudo_label.precision=bf16",
        "student_train.patience=null",
        "student_train.optimiser=sgd student_train.momentum=0.5",
        "rounds=3 round_patience=2 init=previous",
        "student_train.warmup=0.1",
        "teacher=sklearn student_train.lr=0.1 headline=best",
        "select=threshold student_train.labelled_share=0.5",
        "loss=supervised select=all made_up=none student_train.strong_augment=[]",
        "loss=mmd recipe=distil select=threshold student_train.labelled_share=0.4",
        "loss=mutual recipe=private student_train.labelled_share=0.5",
        "loss=lwf recipe.memory=100 student_train.labelled_share=0.5",
        "loss=fixmatch student_train.strong_augment=[randaugment]",
        "dataset=digits_table made_up=munge",
        "teachers=[sklearn,mlp] teacher_pretrain.lr=0.1",
        "teachers=[cnn,mlp] members.1.teacher_pretrain.optimiser=sgd teacher_pretrain.momentum=0.5",
        "teacher.checkpoint=w.pt teacher_pretrain.epochs=2 teacher_pretrain.lr=0.1",
        "teacher.checkpoint=w.pt teacher_pretrain.steps=null teacher_pretrain.patience=null",
    ],
)
def test_what_acts_and_what_was_not_typed_is_left_alone(line):
    assert found(line) == []


def test_the_rows_that_there_are_count_not_those_asked_for():
    line = "student_train.patience=3 student_train.labelled_share=0.5"
    assert found(f"{line} dataset.validation=null", rows={"validation": 10, "unlabelled": 5}) == []
    assert len(found(line, rows={"validation": 0, "unlabelled": 0})) == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "dataset=friedman1 loss.temperature=2",
            "loss.temperature=2 can never act: it softens probabilities, and an answer here is a number",
        ),
        ("dataset=wine loss.temperature=2", None),
        (
            "dataset=wine loss.temperature=2 loss.alpha=0",
            "loss.temperature=2 can never act: loss.alpha=0 gives the teacher's answers no weight",
        ),
        ("dataset=friedman1 loss=teacher_bounded loss.weight=0 loss.margin=1", "loss.margin=1 can never act"),
        (
            "dataset=breast_cancer loss=slam loss.threshold=0.8",
            "loss.threshold=0.8 can never act: it is what k is estimated by, and of two classes k is 2",
        ),
        ("dataset=wine loss=slam loss.k=3 loss.top_k_by=gap", "loss.top_k_by=gap can never act"),
        ("dataset=wine loss=slam loss.threshold=0.8", None),
        (
            "dataset=digits_table teacher=mlp loss=noisy_student loss.hard=true loss.temperature=2",
            "loss.temperature=2 can never act: it softens probabilities, and with loss.hard=true",
        ),
    ],
)
def test_what_the_task_or_the_loss_itself_leaves_without_effect(tmp_path, monkeypatch, line, says):
    monkeypatch.chdir(tmp_path)
    words = ["device=cpu", "dataset.labelled=40", *line.split()]
    words += ["augment=none"] if "noisy" in line else []
    if says is None:
        assert len(_check.check_runs(words, multirun=False)) == 1
    else:
        with pytest.raises(UserErrors) as error:
            _check.check_runs(words, multirun=False)
        assert str(error.value).startswith(says) and "\n" not in str(error.value)


def test_it_is_reported_before_any_work_and_of_a_sweep_where_no_run_has_a_use_for_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    begun = []
    monkeypatch.setattr(command, "launch", begun.append)
    monkeypatch.setattr(command._sweep, "run_sweep", lambda *anything: begun.append(anything) or 0)
    nothing = ["dataset.validation=null", "student_train.patience=3"]
    for name in ("train", "plan"):
        assert main([name, *nothing]) == 2
        assert capsys.readouterr().err.count("\n") == 1 and not begun and not list(tmp_path.iterdir())
    assert (
        main(["train", "-m", "student_train.patience=3", "dataset.validation=null,200"]) == 0
        and len(begun) == 1
    )
    assert main(["train", "launcher=joblib"]) == 2
    assert (
        "can never act: it says how the runs of a sweep are run, and this is one run: add -m"
        in capsys.readouterr().err
    )


def test_it_knows_how_often_a_training_validates():
    assert VALIDATIONS == watch.VALIDATIONS
