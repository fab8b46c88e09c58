"""A teacher that moves while the student learns (`teacher.update`): its limits, its terms, when it
teaches, and what is refused.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_losses import CLASSES, batch, network, parts, streams, validation
from torch import nn

from kdx.cli import main
from kdx.config.compose import check_words
from kdx.config.unused import idle
from kdx.config.wire import examine_config
from kdx.core.errors import UserError, UserErrors
from kdx.core.types import Frozen, Parts
from kdx.methods.losses.kd import KD
from kdx.methods.moving import Moving
from kdx.methods.teachers import Live
from kdx.store.component import Component
from kdx.tasks.regression import Regression
from kdx.training.loop import check_groups, wait_for_turns

LOSS = {"_target_": "kdx.methods.losses.kd.KD", "temperature": 4.0, "alpha": 0.9}
SHORT = [
    "device=cpu",
    "device.threads=1",
    "teacher=mlp_small",
    "student=cnn_tiny",
    "augment=none",
    "baseline=false",
    "dataset.validation=60",
    "dataset.test=50",
    "teacher_pretrain.steps=2",
    "student_train.steps=2",
]
KEYS = dict(update="slow", decay=0.9, begin="teacher", rate=0.1, beta=0.0, delay=0.0, ready=0.0)


def alike():
    """A teacher and a student of one architecture."""
    return network(7), network(0)


def moving(teacher=None, student=None, loss=LOSS, **keys):
    teacher, student = teacher or network(7, 8), student or network()
    made = replace(parts(student), live_teachers=[Frozen(teacher)])
    made = replace(made, teacher=Live(made.live_teachers[0], "main"))
    return Moving(made, loss=Component(loss), **KEYS | keys)


def trained(objective, steps=4):
    groups = [
        {"params": list(g.parameters), "lr": 0.01 * g.rate, "every": g.every, "at": g.at}
        for g in check_groups(objective)
    ]
    optimiser = torch.optim.AdamW(groups, 0.01)
    objective.train()
    objective.refresh()
    for step in range(steps):
        optimiser.zero_grad()
        objective(streams(), step / steps).loss.backward()
        wait_for_turns(optimiser, step)
        optimiser.step()
        objective.after_step()
    return [value.clone() for value in objective.student.state_dict().values()]


def kd_alone(teacher, student):
    """As today: a live teacher that stands."""
    made = replace(parts(student), teacher=Live(Frozen(teacher), "main"))
    return trained(KD(made, temperature=4.0, alpha=0.9))


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("update", ["slow", "alternate"])
def test_rate_0_is_a_teacher_that_stands_bit_for_bit(update):
    alone = kd_alone(network(7, 8), network())
    assert equal(trained(moving(update=update, rate=0.0)), alone)
    assert update == "slow" or not equal(trained(moving(update=update, rate=0.1)), alone)


def test_decay_1_is_a_teacher_that_stands_bit_for_bit():
    assert equal(trained(moving(*alike(), update="ema", decay=1.0)), kd_alone(*alike()))
    still = moving(*alike(), update="ema", decay=1.0)
    trained(still)
    assert equal(still.network.parameters(), network(7).parameters())
    assert torch.equal(still.network.stage1[1].running_var, network(7).stage1[1].running_var)


def test_an_average_moves_by_hand():
    """teacher = .9 * teacher + .1 * student after each step."""
    made = moving(*alike(), update="ema", decay=0.9)
    before = made.network.stage1[0].weight.clone()
    with torch.no_grad():
        made.student.stage1[0].weight.fill_(1.0)
    made.after_step()
    assert torch.allclose(made.network.stage1[0].weight, 0.9 * before + 0.1, atol=1e-6)


def test_an_average_that_begins_with_the_student_reads_no_weights_of_the_teacher():
    made = moving(update="ema", begin="student")
    assert equal(made.network.state_dict().values(), network().state_dict().values())


def test_a_slow_teacher_learns_the_labels_alone_and_at_its_rate():
    made = moving(rate=0.2)
    groups = check_groups(made)
    assert [(g.name, g.rate, g.every, g.at) for g in groups] == [("all", 1.0, 1, 0), ("teacher", 0.2, 1, 0)]
    terms, own = made(streams(), 0.0).terms, list(made.network.parameters())
    assert list(terms) == ["distillation", "labels", "teacher/labels"]
    for name, term in terms.items():
        found = torch.autograd.grad(term, own, retain_graph=True, allow_unused=True)
        assert any(g is not None for g in found) == (name == "teacher/labels"), name
        reached = torch.autograd.grad(
            term, list(made.student.parameters()), retain_graph=True, allow_unused=True
        )
        assert any(g is not None for g in reached) == (name != "teacher/labels"), name


def test_turns_alternate():
    made = moving(update="alternate", rate=1.0)
    assert [(g.name, g.every, g.at) for g in check_groups(made)] == [("all", 2, 0), ("teacher", 2, 1)]
    teacher, student = network(7, 8), network()
    trained(made, steps=1)
    assert torch.equal(made.network.stage1[0].weight, teacher.stage1[0].weight), "the student's turn"
    assert not torch.equal(made.student.stage1[0].weight, student.stage1[0].weight)


@pytest.mark.parametrize("beta", [-0.5, 0.5])
def test_beta_by_hand(beta):
    """beta * half the sum of |p_teacher - p_student| over the classes, in eval mode of the student."""
    made = moving(beta=beta)
    made.eval()
    found = made(streams(), 0.0).terms["teacher/student"].item()
    x = batch("labelled").views["main"]
    apart = (made.network(x).softmax(1) - made.student(x).softmax(1)).abs().sum(1) / 2
    assert found == pytest.approx(beta * apart.mean().item(), rel=1e-5)


@pytest.mark.parametrize(("beta", "nearer"), [(0.9, True), (-0.9, False)])
def test_a_teacher_helps_or_challenges(beta, nearer):
    """Moved by the second term alone it comes nearer to the student's answers, or goes away from them."""
    made = moving(beta=beta)
    made.eval()
    optimiser = torch.optim.SGD(made.network.parameters(), 0.5)
    apart = []
    for _ in range(5):
        optimiser.zero_grad()
        term = made(streams(), 0.0).terms["teacher/student"]
        apart.append(term.item() / beta)
        term.backward()
        optimiser.step()
    assert (apart[-1] < apart[0]) == nearer


def test_nothing_is_taught_before_the_delay():
    made = moving(delay=0.5)
    early, late = made(streams(), 0.49), made(streams(), 0.5)
    assert early.terms["distillation"].item() == 0 < late.terms["distillation"].item()
    assert early.terms["labels"].item() > 0
    assert [o.monitors["teacher/taught"].item() for o in (early, late)] == [0, 1]


def test_nothing_is_taught_before_the_teacher_is_ready():
    made = moving(ready=0.9)
    assert made(streams(), 0.5).terms["distillation"].item() == 0, "nobody has looked yet"
    assert made.refresh()["teacher/ready"] == 0
    teacher = made.network
    teacher.forward = lambda x: 9 * nn.functional.one_hot(validation().truth[: len(x)], CLASSES).float()
    found = made.refresh()
    assert found["teacher/ready"] == found["teacher/accuracy"] == 1
    del teacher.forward
    assert made(streams(), 0.5).terms["distillation"].item() > 0


def test_one_that_never_taught_is_told_of_at_the_end():
    made = moving(ready=0.9)
    made(streams(), 0.5)
    assert made.ended(0.9) == (
        "the training ended before the teacher was ready (accuracy on validation, looked at once an epoch: "
        "never, and teacher.ready=0.9), so that it taught the student nothing: set teacher.ready lower, or "
        "train longer"
    )
    wrong = (validation().truth + 1) % CLASSES
    made.network.forward = lambda x: 9 * nn.functional.one_hot(wrong[: len(x)], CLASSES).float()
    assert made.refresh()["teacher/accuracy"] == 0
    assert "looked at once an epoch: 0.0% at best, and" in made.ended(0.9)
    late = moving(delay=0.5)
    late(streams(), 0.4)
    assert "ended before teacher.delay=0.5 of it was done" in late.ended(0.4)
    late(streams(), 0.5)
    assert late.ended(0.5) is None
    again = moving(delay=0.5)
    again.load_state_dict(late.state_dict())
    assert again.ended(0.9) is None, "a resumed one remembers"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["teacher.update=ema"],
            "teacher.update is of one teacher that moves, and teachers=[mlp_small,cnn_tiny] names 2, of "
            "which none can: name one, teacher=mlp_small, or leave it out",
        ),
        (
            ["members.2.rate=0.5"],
            "members.2.rate is no key of one of several teachers, of which none can move: name one, "
            "teacher=cnn_tiny teacher.rate=VALUE, or leave it out",
        ),
    ],
)
def test_none_of_several_teachers_moves_and_the_remedy_is_one(words, says):
    with pytest.raises(UserErrors) as error:
        check_words(["teachers=[mlp_small,cnn_tiny]", *words])
    assert error.value.messages == [says]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run whose teacher is an average of the student that remembers nothing, and is never ready."""
    place = tmp_path_factory.mktemp("moved")
    moves = ["teacher.update=ema", "teacher.begin=student", "teacher.decay=0", "teacher.ready=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", *SHORT, *moves, "hydra.run.dir=run"]) == 0
        yield json.loads(Path("run/run.json").read_text())


def test_the_run_warns_of_it_in_its_report(ran):
    said = "the training ended before the teacher was ready (accuracy on validation"
    assert any(said in text for text in ran["warnings"]) and said in Path("run/report.md").read_text()


def test_the_teacher_is_measured_as_it_moved_too(ran, capsys):
    moved, student = ran["results"]["moved_teacher"], ran["results"]["student"]
    assert moved["last"]["test"]["accuracy"] == student["last"]["test"]["accuracy"]
    assert moved["last"]["test"]["nll"] == pytest.approx(student["last"]["test"]["nll"], abs=1e-6)
    assert (moved["model"], moved["parameters"]) == ("cnn_tiny", student["parameters"])
    assert ran["results"]["teacher"]["model"] == "mlp_small"
    key = next(stage["key"] for stage in ran["stages"] if stage["name"] == "student-train")
    files = [load_file(f"outputs/store/train/{key}/{name}.safetensors") for name in ("teacher", "last")]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    report = Path("run/report.md").read_text()
    assert "| teacher (before it moved) |" in report and "| moved teacher |" in report
    assert main(["evaluate", "run", "role=moved_teacher", "json=again.json", "device=cpu"]) == 0
    again = json.loads(Path("again.json").read_text())["results"]["moved_teacher"]
    assert again["accuracy"] == moved["last"]["test"]["accuracy"]
    assert main(["export", "run", "role=moved_teacher", "to=out", "format=state_dict"]) == 0
    capsys.readouterr()
    assert main(["compare", "run"]) == 0
    assert "the teacher moved while the student learned" in capsys.readouterr().out


def test_a_run_without_generations_says_who_has_them(ran, capsys):
    assert main(["predict", "run", "data=test", "to=x.csv", "role=generations"]) == 2
    assert "has no generations: recipe=born_again makes them" in capsys.readouterr().err


def test_stability_is_the_agreement_with_the_last_look():
    made = moving()
    assert "teacher/stability" not in made.refresh()
    assert made.refresh()["teacher/stability"] == 1
    with torch.no_grad():
        made.network.head[-1].weight.neg_()
        made.network.head[-1].bias.neg_()
    assert made.refresh()["teacher/stability"] < 1
    assert made.before.shape == (24, CLASSES) and "before" in made.state_dict()


def test_the_lag_is_the_teachers_lead_on_the_labelled_rows():
    made = moving(rate=0.0)
    made.eval()
    labelled = streams()["labelled"]
    right = [
        (net(labelled.views["main"]).argmax(1) == labelled.y).float().mean()
        for net in (made.network, made.student)
    ]
    assert made(streams(), 0.0).monitors["teacher/lag"].item() == pytest.approx((right[0] - right[1]).item())


def test_the_student_alone_is_exported_and_the_teacher_is_saved():
    student = network()
    made = moving(student=student)
    assert made.export() is student and not student._forward_hooks
    made(streams(), 0.0)
    assert not student._forward_hooks, "no hook stays"
    assert any(key.startswith("network.") for key in made.state_dict())
    made.train()
    assert not made.network.training, "it answers in eval mode"


def test_any_loss_that_reads_answers_goes_with_it():
    soft = check_words(["loss=vid"])["loss"]
    made = moving(*alike(), loss=soft, update="ema")
    terms = made(streams(), 0.5).terms
    assert list(terms) == ["labels", "pool", "vid"]
    held = moving(*alike(), loss=soft, update="ema", delay=0.6)(streams(), 0.5).terms
    assert held["labels"].item() > 0 == held["pool"].item() == held["vid"].item()


@pytest.mark.parametrize("update", ["ema", "slow", "alternate"])
def test_a_resumed_training_goes_on_bit_for_bit(update):
    def fresh():
        made = moving(*alike(), update=update, beta=0.0 if update == "ema" else 0.3)
        groups = [{"params": list(g.parameters), "lr": 0.01 * g.rate} for g in check_groups(made)]
        return made, torch.optim.AdamW(groups, 0.01)

    def go(made, optimiser, start, stop):
        made.train()
        for step in range(start, stop):
            if step % 2 == 0:
                made.refresh()
            optimiser.zero_grad()
            made(streams(), step / 6).loss.backward()
            optimiser.step()
            made.after_step()
        return made.state_dict()

    whole = go(*fresh(), 0, 6)
    first, optimiser = fresh()
    state = {name: value.clone() for name, value in go(first, optimiser, 0, 4).items()}
    second, other = fresh()
    second.load_state_dict(state)
    other.load_state_dict(optimiser.state_dict())
    assert equal(whole.values(), go(second, other, 4, 6).values())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"update": "ema"}, "networks of two architectures: choose one for both, or teacher.begin=student"),
        ({"rate": -1.0}, "teacher.rate must be at least 0; given: -1"),
        ({"beta": 2.0}, "teacher.beta must be at least -1 and at most 1; given: 2"),
        ({"decay": 1.1}, "teacher.decay must be at least 0 and at most 1"),
        ({"delay": 2}, "teacher.delay must be at least 0 and less than 1"),
        ({"begin": "me"}, "teacher.begin has no option 'me'"),
    ],
)
def test_values_that_are_refused(keys, said):
    with pytest.raises(UserError, match=said):
        moving(**keys)


def test_what_needs_validation_or_classes_is_refused_without():
    made = replace(parts(network()), live_teachers=[Frozen(network(7))])
    with pytest.raises(UserError, match="this run has none: set dataset.validation=0.1"):
        Moving(replace(made, validation=None), loss=Component(LOSS), **KEYS | {"ready": 0.5})
    numbers: Parts = replace(made, task=Regression(names=["a"]))
    with pytest.raises(UserError, match="teacher.beta compares probabilities of classes"):
        Moving(numbers, loss=Component(LOSS), **KEYS | {"beta": 0.5})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("teacher.update=ema pseudo_label.mode=stored", "pseudo_label.mode=stored stores them beforehand"),
        ("teacher.update=slow loss=mutual", "loss=mutual learns from no teacher"),
        ("teacher.update=slow teacher.members=2", "moves one network, and 2 teach here"),
        ("teacher.update=slow teacher=sklearn", "this teacher makes none"),
        ("teacher.update=slow select=threshold", "select= chooses by the answers of a teacher that stands"),
        ("teacher.update=slow select=rad budget=5", "recipe=active stores the answers of a teacher"),
        ("teacher.update=later", "teacher.update has no option 'later'"),
    ],
)
def test_what_does_not_go_together_is_said_before_work(words, said):
    data = "breast_cancer" if "sklearn" in words else "digits"
    _, errors = examine_config(check_words([f"dataset={data}", *words.split()]))
    assert any(said in error for error in errors), errors


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        ("teacher.decay=0.9", "teacher.decay", "the teacher stands (teacher.update=frozen)"),
        ("teacher.update=ema teacher.rate=0.2", "teacher.rate", "it is of teacher.update=slow or alternate"),
        ("teacher.update=slow teacher.decay=0.2", "teacher.decay", "it is of teacher.update=ema"),
    ],
)
def test_keys_that_could_never_act(words, key, said):
    assert said in idle(check_words(words.split()), [key])[key]


def test_a_teacher_that_stands_is_as_it_was():
    order, errors = examine_config(check_words([]))
    assert not errors and order.experiment.moving is None
    assert not set(order.experiment.teachers[0].model.spec) & {"update", "decay", "ready"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["dataset=diabetes", "teacher.update=slow"],
            "this teacher makes none",
        ),
        (["teacher.update=slow", "teacher.ready=1.5"], "teacher.ready must be at most 1"),
        (["teacher.update=slow", "teacher.delay=1"], "teacher.delay must be at least 0 and less than 1"),
        (["aggregate=weighted", "teacher=answers", "teacher.file=no.csv"], "no.csv"),
        (["loss=codistill", "loss.delay=1"], "loss.delay must be at least 0 and less than 1"),
        (
            ["loss.features=crd", "loss.features.crd.momentum=1"],
            "momentum must be at least 0 and less than 1",
        ),
    ],
)
def test_what_could_never_teach_is_refused_in_a_sentence(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "device=cpu", *words]) == 2
    err = capsys.readouterr().err
    assert says in err.replace("\n", " ") and "Traceback" not in err
