"""Policies: the dynamics, REINFORCE, the task of acting, and whole runs of dataset=control (experimental)."""

import itertools
import json
import math
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_peers import QUICK, run_of
from torch import nn

from kdx.config.compose import check_words
from kdx.config.validate import inspect
from kdx.config.wire import examine_config
from kdx.core import cart_pole
from kdx.core.answers import AnswerColumns
from kdx.core.episodes import Acts
from kdx.core.errors import UserError
from kdx.core.types import Batch, Parts, Split
from kdx.data.datasets.control import CartPole
from kdx.methods.losses.reinforce import Reinforce, advantages, to_come
from kdx.models.control import ControlAdapter
from kdx.models.weights import load_weights
from kdx.tasks.policy import Policy
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

TASK = Policy(actions=["left", "right"])
CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=300)
DATA = dict(rows=30, test_rows=10, spread=0.5, horizon=50, data_seed=0)


class Against(nn.Module):
    """Pushes the cart to the side to which the pole falls: logits (-z, z), z = strength * (angle + turn)."""

    def __init__(self, strength=5.0):
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(strength))

    def forward(self, x):
        z = self.strength * (x[:, 2] + x[:, 3])
        return torch.stack([-z, z], 1)


def acting(net=None, horizon=50):
    return ControlAdapter(horizon=horizon).wrap(net or Against(), (4,))


def states(rows=8, seed=0):
    return (torch.rand(rows, 4, generator=torch.Generator().manual_seed(seed)) - 0.5) * 0.1


def reinforce(net=None, horizon=50, **keys):
    parts = Parts(acting(net, horizon), lambda: None, None, [], None, TASK)
    return Reinforce(parts, **{"discount": 0.99, "entropy": 0.01, **keys})


def batch(rows):
    index = torch.arange(len(rows))
    return {"labelled": Batch("labelled", index, index * 0, {"main": rows}, torch.ones(len(rows), 2))}


def test_the_dynamics_by_hand():
    """Pushed right at rest: 10 / 1.1 m/s^2 less what the pole takes; and the other way round."""
    bend = -(10 / 1.1) / (0.5 * (4 / 3 - 0.1 / 1.1))
    speed_up = 10 / 1.1 - 0.1 * 0.5 * bend / 1.1
    expected = [0, 0.02 * speed_up, 0, 0.02 * bend]
    assert expected == pytest.approx([0, 0.195122, 0, -0.292683], abs=1e-6)
    for of, array in ((np, np.array), (torch, torch.tensor)):
        found = cart_pole.next_states(array([[0.0] * 4] * 2), array([1, 0]), of)
        assert found[0].tolist() == pytest.approx(expected) == [-n for n in found[1].tolist()]
    second = cart_pole.next_states(np.array([[1.0, 2, 0, 3]]), np.array([1]))
    assert second[0, [0, 2]].tolist() == pytest.approx([1.04, 0.06]), "Euler: by the speeds before the step"


def test_a_pole_stands_within_the_track_and_twelve_degrees():
    edge = math.radians(12)
    rows = np.array([[2.3, 9, 0, 9], [2.5, 0, 0, 0], [0, 0, edge - 0.01, 0], [0, 0, -edge - 0.01, 0]])
    assert cart_pole.stands(rows).tolist() == [True, False, True, False]


def test_who_holds_to_one_action_lets_it_fall():
    held = cart_pole.steps_held(np.zeros((1, 4)), 0, 200)
    state, steps = np.zeros((1, 4)), 0
    while cart_pole.stands(state := cart_pole.next_states(state, np.array([0])))[0]:
        steps += 1
    assert held.tolist() == [steps] and 5 < steps < 15
    assert cart_pole.steps_held(np.zeros((1, 4)), 0, 3).tolist() == [3]


def test_episodes_end_where_the_pole_falls_or_at_the_horizon():
    always = acting(nn.Linear(4, 2))
    with torch.no_grad():
        always.net.weight.zero_(), always.net.bias.copy_(torch.tensor([9.0, 0]))
    found = always.episodes(torch.zeros(2, 4), drawn=False)
    held = cart_pole.steps_held(np.zeros((2, 4)), 0, 50)
    assert found.returns.tolist() == held.tolist(), "as in numpy"
    assert len(found.rewards) == held[0] + 1, "it stops where none goes on"
    assert found.going.all() and found.rewards[-1].tolist() == [0, 0] and (found.actions == 0).all()
    good = acting().episodes(states(), drawn=False)
    assert good.returns.tolist() == [50.0] * 8 and good.states.shape == (50, 8, 4)
    assert torch.equal(good.states[0], states())


def test_drawn_actions_are_those_of_its_probabilities_and_of_the_generator():
    torch.manual_seed(3)
    flat = acting(Against(0.0)).episodes(torch.zeros(4000, 4), drawn=True)
    assert flat.actions[0].float().mean().item() == pytest.approx(0.5, abs=0.03)
    torch.manual_seed(3)
    again = acting(Against(0.0)).episodes(torch.zeros(4000, 4), drawn=True)
    assert torch.equal(flat.actions, again.actions)


def test_advantages_by_hand():
    """Two episodes, of 1 and of 3 steps, discount 1/2: 1 and 1.75, 1.5, 1 are to come."""
    rewards = torch.tensor([[1.0, 1], [0, 1], [0, 1]])
    going = torch.tensor([[True, True], [True, True], [False, True]])
    assert to_come(rewards, 0.5).tolist() == [[1, 1.75], [0, 1.5], [0, 1]]
    better = torch.tensor([-0.375, 0.375, -0.75, 0.75, 0.5])
    torch.testing.assert_close(advantages(rewards, going, 0.5), better / better.std(correction=0))
    alike = advantages(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool), 0.9)
    assert alike.tolist() == [0.0] * 6, "who is like all others learns nothing"


def expected_return(net, state, steps):
    """Of all that may happen in so many steps, each with its probability; with its gradient."""
    total = 0.0
    for actions in itertools.product((0, 1), repeat=steps):
        now, chance, stood, going = state[None], 1.0, 0, True
        for action in actions:  # what would be done after a fall adds up to 1
            chance = chance * (net(now).softmax(1)[0, action] if going else 0.5)
            now = cart_pole.next_states(now, torch.tensor([action]), torch)
            going = going and bool(cart_pole.stands(now)[0])
            stood += going
        total = total + chance * stood
    return total


def test_the_gradient_is_that_of_the_return():
    """From a pole that is about to fall, where 1 to 4 steps are left: that of all 16 courses of actions."""
    state, rows, steps = torch.tensor([0.0, 0, 0.195, 0.4]), 20_000, 4
    torch.manual_seed(0)
    made = reinforce(Against(0.3), horizon=steps, entropy=0.0, discount=1.0)
    strength = made.student.net.strength
    torch.manual_seed(1)
    seen = made.student.episodes(state.repeat(rows, 1), drawn=True)
    coming = to_come(seen.rewards, 1.0)
    deviation = (coming - coming.mean(1, keepdim=True))[seen.going].std(correction=0)
    torch.manual_seed(1)
    (slope,) = torch.autograd.grad(made(batch(state.repeat(rows, 1)), 0.0).terms["policy"], [strength])
    found = -slope * deviation * seen.going.sum() / rows
    value = expected_return(made.student, state, steps)
    (exact,) = torch.autograd.grad(value, [strength])
    assert 1 < value.item() < 4 and seen.returns.mean().item() == pytest.approx(value.item(), abs=0.03)
    assert abs(exact.item()) > 0.1 and found.item() == pytest.approx(exact.item(), abs=0.03)


def test_reinforce_learns_and_reads_no_label():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    made = reinforce(net, horizon=100)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.02)
    begun = made.student.acted(states(50))["return"].mean().item()
    for step in range(25):
        optimiser.zero_grad()
        outcome = made(batch(states(32, seed=step)), 0.0)
        outcome.loss.backward()
        optimiser.step()
    assert set(outcome.terms) == {"policy", "entropy"} and outcome.monitors["return"].dim() == 0
    assert made.student.acted(states(50))["return"].mean().item() > begun + 20


def test_what_a_network_is_measured_by_is_its_episodes():
    network, rows = acting(), states(7)
    split = Split("validation", rows, torch.ones(7, 2))
    assert isinstance(network, Acts)
    found = predict(network, split, CPU)
    assert found["return"].tolist() == [50.0] * 7 and torch.equal(found["logits"], network(rows).detach())
    assert TASK.metrics(found, split.truth) == {"return": 50.0}
    pool = predict(network, Split("unlabelled", rows), CPU)
    assert isinstance(pool, torch.Tensor), "in rows of a pool it only answers"


def test_the_task():
    student, teacher = torch.tensor([[2.0, 1], [0, 1]]), torch.tensor([[4.0, 2], [3, 0]])
    both = {"logits": student, "return": torch.tensor([3.0, 5])}
    assert TASK.agreement(both, teacher).tolist() == [True, False]
    q, p = torch.tensor([4.0, 2]).softmax(0), torch.tensor([2.0, 1]).softmax(0)
    assert TASK.match(both, teacher, 1.0)[0].item() == pytest.approx((q * (q / p).log()).sum().item())
    assert TASK.loss(both, torch.ones(2, 2)).tolist() == [0, 0]
    assert TASK.by_row(both, None).tolist() == [3, 5] and math.isnan(TASK.metrics(student, None)["return"])
    nothing = TASK.knowing_nothing(torch.tensor([[1.0, 9], [5, 0]]))
    assert nothing.words == 'always "right"' and nothing.by_row.tolist() == [9, 0]
    columns = TASK.columns(both, AnswerColumns())
    assert columns["label"] == ["left", "right"] and columns["value:return"].tolist() == [3, 5]
    assert list(TASK.truth_columns(torch.ones(2, 2))) == ["truth:left", "truth:right"]
    stored = TASK.pack(both)
    assert stored[""].dtype == torch.float16 and torch.equal(TASK.unpack(stored), student)
    with pytest.raises(UserError, match="several teachers do not act together"):
        TASK.mean([student, teacher])


def test_the_data_set_is_its_own_seeds():
    raw, again, other = (CartPole(**{**DATA, "data_seed": seed}).load() for seed in (0, 0, 1))
    (inputs, truth), described = raw.part("train"), CartPole(**DATA).describe()
    assert inputs.shape == (30, 4) and truth.shape == (30, 2) and raw.part("test")[0].shape == (10, 4)
    assert (described.train, described.test, described.shape) == (30, 10, (4,))
    assert np.array_equal(inputs, again.part("train")[0]) and not np.array_equal(
        inputs, other.part("train")[0]
    )
    assert (abs(inputs) <= [1.2, 1, math.radians(6), 1]).all() and abs(inputs).max(0)[0] > 0.9
    assert truth[:, 1].tolist() == cart_pole.steps_held(inputs, 1, 50).tolist()


@pytest.mark.parametrize(
    "keys", [{"rows": 0}, {"test_rows": -1}, {"spread": 0}, {"spread": 2}, {"horizon": 0}, {"data_seed": -1}]
)
def test_keys_that_are_refused(keys):
    with pytest.raises(UserError, match=f"{next(iter(keys))} must be"):
        CartPole(**{**DATA, **keys})


@pytest.mark.parametrize("keys", [{"discount": 0}, {"discount": 1.5}, {"entropy": -1}])
def test_keys_of_the_loss_that_are_refused(keys):
    with pytest.raises(UserError, match=f"loss.{next(iter(keys))} must be"):
        reinforce(**keys)


@pytest.mark.parametrize(
    "words, said",
    [
        (["dataset=control", "loss=dkd"], "loss=dkd reads the probabilities of classes"),
        (["dataset=control", "loss=supervised"], "loss=supervised learns from labels alone"),
        (["dataset=control", "loss=mutual"], "without labels, so that it would learn nothing of the task"),
        (["dataset=control", "loss.alpha=0"], "loss.alpha=0 leaves the labels alone to learn from"),
        (["dataset=control", "loss.alpha=[0,0]"], "loss.alpha=0 leaves the labels alone to learn from"),
        (["dataset=control", "teacher.update=slow"], "lets the teacher go on with the labels"),
        (["dataset=control", "teacher.update=alternate"], "lets the teacher go on with the labels"),
        (["dataset=control", "loss=token_kd"], "loss=token_kd compares distributions over classes or tokens"),
        (["dataset=control", "student=cnn_tiny"], "student=cnn_tiny reads pictures"),
        (["dataset=control", "dataset.spread=2"], "dataset.spread must be"),
        (["dataset=control", "dataset.horizon=0"], "dataset.horizon must be"),
        (["dataset=control", "dataset.rows=-1"], "dataset.rows must be"),
        (["dataset=control", "teacher_loss.discount=2"], "teacher_loss.discount must be greater than 0"),
        (["dataset=control", "baseline_loss.entropy=-1"], "baseline_loss.entropy must be at least 0"),
        (["dataset=control", "loss.alpha=2"], "loss.alpha must be at least 0"),
        (["dataset=control", "teacher=sklearn"], "choose another teacher"),
        (["dataset=control", "teachers=[mlp,mlp_small]"], "several teachers do not act together"),
    ],
)
def test_what_does_not_go_together_is_said_before_work(words, said):
    order, errors = examine_config(check_words(["device=cpu", *words]))
    (only,) = errors or inspect(order)
    assert said in only


def test_keys_of_a_loss_are_refused_where_no_student_could_be_built():
    words = ["device=cpu", "dataset=control", "student=cnn_tiny", "teacher_loss.discount=2"]
    order, errors = examine_config(check_words(words))
    wrong = errors or inspect(order)
    assert len(wrong) == 2 and wrong[1].startswith("teacher_loss.discount must be greater than 0")


@pytest.mark.parametrize(
    "words", [["loss=collaborative"], ["loss=self_distill", "loss.teacher=deepest"], ["loss.features=[rkd]"]]
)
def test_of_a_student_that_cannot_be_built_no_loss_says_anything(words):
    built = ["device=cpu", "dataset=digits", "student=vit_tiny", "student.patch=3", *words]
    order, errors = examine_config(check_words(built))
    (only,) = errors or inspect(order)
    assert "patch must divide" in only


def test_an_alpha_that_grows_from_0_is_let_through():
    order, errors = examine_config(check_words(["device=cpu", "dataset=control", "loss.alpha=[0,1]"]))
    assert not errors and not inspect(order)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset.rows=3"], "and one labelled row is needed: at most 2"),
        (["dataset.labelled=0.001", "dataset.rows=300"], "makes 0 labelled rows, and one is needed"),
    ],
)
def test_where_there_are_no_classes_none_are_counted(words, said):
    order, errors = examine_config(check_words(["device=cpu", "dataset=control", *words]))
    assert any(said in message for message in errors or inspect(order))


def test_weights_that_kdx_saved_are_loaded_without_a_word(tmp_path):
    whole = {name: value.clone() for name, value in acting(nn.Linear(4, 2)).state_dict().items()}
    save_file(whole, tmp_path / "whole.safetensors")
    made = acting(nn.Linear(4, 2))
    assert load_weights(made, tmp_path / "whole.safetensors") == []
    assert torch.equal(made.net.weight, whole["net.weight"])
    save_file(
        {f"net.{name}": whole[f"net.{name}"] for name in ("weight", "bias")}, tmp_path / "net.safetensors"
    )
    ((text, level),) = load_weights(made, tmp_path / "net.safetensors")
    assert "begin with 'net.', which was dropped" in text and level == "info"


def test_it_needs_a_network_that_acts():
    parts = Parts(nn.Linear(4, 2), lambda: None, None, [], None, TASK)
    with pytest.raises(UserError, match="no states in which one acts: choose dataset=control"):
        Reinforce(parts, discount=1.0, entropy=0.0)


SMALL = ["dataset=control", "dataset.rows=80", "dataset.test_rows=20", "dataset.test=null"]
SMALL += ["dataset.labelled=40", "dataset.validation=10", "dataset.horizon=40", "dataset.unlabelled=null"]
SMALL += ["teacher=mlp", "student=mlp_small", "teacher_pretrain.steps=12", "student_train.steps=6"]


def test_a_run_shows_returns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run, _ = run_of(tmp_path / "run", *SMALL)
    results = run["results"]
    assert results["metric"]["name"] == "return" and "test return" in capsys.readouterr().out
    found = {role: results[role]["last"]["test"]["return"] for role in ("teacher", "baseline", "student")}
    assert found["teacher"] > found["baseline"] > 0 and found["student"] > 0
    assert results["gain"] == pytest.approx(found["student"] - found["baseline"])
    lead = found["teacher"] - found["baseline"]
    assert results["gap_closed"] == pytest.approx(results["gain"] / lead)
    (gate,) = (tmp_path / "outputs/store/gate").glob("*/gate.json")
    report = (tmp_path / "run/report.md").read_text()
    assert "augmentation, with the loss reinforce and no teacher." in report
    assert run["protocol"]["baseline"].endswith("augmentation; the loss reinforce and no teacher")
    assert "the teacher was most wrong" not in report, "the answers of the pool tell no return"
    assert "| test row | teacher | student alone | distilled student |" in report
    held = json.loads(gate.read_text())
    assert held["teacher"] > held["alone"] > 0, "by what it attains on validation, not by its answers"


@pytest.mark.slow
def test_generations_are_trained_and_not_measured_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, _ = run_of(tmp_path / "run", *SMALL, "recipe=born_again", "rounds=2")
    assert len(run["results"]["rounds"]) == 2 and "generations" not in run["results"]


def weights_of(place, *words):
    place.mkdir(exist_ok=True)
    run, folder = run_of(place / "run", *SMALL, f"store={place}/store", *words)
    key = {stage["name"]: stage["key"] for stage in run["stages"]}
    folders = [place / "store/train" / key[name] for name in ("student-train", "baseline-train")]
    folders.append(place / "store/teacher-pretrain" / key["teacher-pretrain"])
    return [(folder / "last.safetensors").read_bytes() for folder in folders]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_another_is_the_same_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    longer = "teacher_pretrain.steps=60"
    whole = weights_of(tmp_path / "whole", longer)
    assert whole == weights_of(tmp_path / "other", longer)
    killed = tmp_path / "killed/store"
    words = ["train", *QUICK, *SMALL, longer, f"store={killed}", "device.checkpoint_seconds=0"]
    begun = subprocess.Popen([sys.executable, "-m", "kdx", *words], stderr=subprocess.DEVNULL)
    while not (left := [*killed.glob("teacher-pretrain/*.partial/checkpoint.pt")]):
        assert begun.poll() is None, "it is at work until it is killed"
    begun.kill()
    assert begun.wait() == -signal.SIGKILL and left[0].exists()
    assert weights_of(tmp_path / "killed", longer) == whole
