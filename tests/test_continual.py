"""Sessions one after another: the loss lwf, the recipe continual, what is still known of each session."""

import csv
import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.core.math import soft_cross_entropy
from kdx.core.types import Batch, Frozen, Parts
from kdx.data.sessions import class_groups, of_class, of_time, remembered
from kdx.methods.losses.lwf import LwF
from kdx.methods.teachers import live_teacher
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.sessions import summed
from kdx.pipeline.stages.watch import Watch
from kdx.report.run.prequential import chunk_cells, chunk_gain
from kdx.report.run.sessions import session_cells, session_gains, session_sentences
from kdx.store.artifact import Artifact
from kdx.tasks.classification import Classification
from kdx.tasks.several_heads import ONE_OF_ALL, SeveralHeads, with_heads, without_heads
from kdx.training.runtime import Runtime

RUN = ["loss=lwf", "dataset=digits", "dataset.validation=100", "dataset.test=300", "student=cnn_tiny"]
RUN += ["augment=[none]", "device=cpu", "device.threads=1", "student_train.steps=6", "store=store"]
RUN += ["student_train.batch_size=16", "recipe.sessions=3"]
DOMAIN = ["recipe.by=domain", "recipe.heads=single", "recipe.domains=[none,invert,rotation]"]
TASK = Classification(classes=list("abcd"))
CPU = Runtime(
    device="cpu", threads="auto", workers=0, channels_last=False, compile=False, checkpoint_seconds=0
)


# the mathematics


def test_the_softened_cross_entropy_has_its_hand_number_and_no_factor():
    """[1, 0] beside [2, 0] at T = 2: q = .731059, p = .622459; -q ln p - (1 - q) ln(1 - p)."""
    student = torch.tensor([[1.0, 0.0]], requires_grad=True)
    found = soft_cross_entropy(student, torch.tensor([[2.0, 0.0]]), 2)
    assert found.item() == pytest.approx(0.608548, abs=1e-6)
    found.sum().backward()  # (p - q) / T
    assert student.grad[0].tolist() == pytest.approx([-0.0543, 0.0543], abs=1e-5)
    assert soft_cross_entropy(student, torch.tensor([[1.0, 0.0]]), 1).item() == pytest.approx(
        0.582203, abs=1e-6
    )


def test_the_sums_of_a_matrix_are_those_of_their_papers():
    found = summed([[0.9], [0.6, 0.8], [0.7, 0.5, 1.0]])
    assert found["average"] == pytest.approx(2.2 / 3)
    assert found["backward"] == pytest.approx((0.7 - 0.9 + 0.5 - 0.8) / 2)
    assert found["forgetting"] == pytest.approx((0.9 - 0.7 + 0.8 - 0.5) / 2)
    assert (found["old"], found["last"]) == (pytest.approx(0.6), 1.0)
    assert summed([[0.9]])["forgetting"] is None


def parts(teacher=None):
    torch.manual_seed(0)
    student = nn.Linear(3, 4)
    live = [] if teacher is None else [Frozen(teacher)]
    answers = live_teacher(live, "main", None) if live else None
    return Parts(student, lambda: nn.Linear(3, 4), answers, live, None, TASK)


def batch(name="labelled", y=(2, 3)):
    rows = torch.randn(len(y), 3, generator=torch.Generator().manual_seed(len(name)))
    index = torch.arange(len(y))
    return Batch(name, index, index, {"main": rows, "clean": rows}, torch.tensor(y))


def test_labels_count_within_the_head_of_their_class_alone():
    made = LwF(parts(), temperature=2, weight=1, heads=[[0, 1], [2, 3]], old=[[0, 1]])
    streams = {"labelled": batch()}
    outcome = made(streams, 0.0)
    logits = made.student(streams["labelled"].views["main"])[:, 2:]
    want = nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    assert outcome.terms.keys() == {"labels"} and outcome.loss.item() == pytest.approx(want.item(), abs=1e-6)
    outcome.loss.backward()
    assert not made.student.weight.grad[:2].any() and made.student.weight.grad[2:].any()
    single = LwF(parts(), temperature=2, weight=0, heads=[[0, 1, 2, 3]])(streams, 0.0)
    whole = nn.functional.cross_entropy(
        made.student(streams["labelled"].views["main"]), streams["labelled"].y
    )
    assert single.loss.item() == pytest.approx(whole.item(), abs=1e-6)


def test_the_old_network_is_asked_about_new_rows_and_memory_within_its_heads():
    torch.manual_seed(1)
    old = nn.Linear(3, 4)
    made = LwF(parts(old), temperature=2, weight=3, heads=[[0, 1], [2, 3]], old=[[0, 1]])
    streams = {"labelled": batch(), "memory": batch("memory", (0, 1, 0))}
    rows = torch.cat([one.views["main"] for one in streams.values()])
    want = 3 * soft_cross_entropy(made.student(rows)[:, :2], old(rows)[:, :2], 2).mean()
    assert made(streams, 0.0).terms["old"].item() == pytest.approx(want.item(), abs=1e-6)
    assert not old.training and not any(p.requires_grad for p in old.parameters())
    assert (
        "old"
        not in LwF(parts(old), temperature=2, weight=0, heads=[[0, 1], [2, 3]], old=[[0, 1]])(
            streams, 0
        ).terms
    )


def test_old_heads_stay_as_they_were_whatever_the_optimiser_does():
    made = LwF(parts(), temperature=2, weight=0, heads=[[0, 1], [2, 3]], kept=[0, 1])
    before = made.student.weight.detach().clone()
    optimiser = torch.optim.AdamW(made.parameters(), lr=0.1, weight_decay=0.5)
    made({"labelled": batch()}, 0.0).loss.backward()
    optimiser.step()
    made.after_step()
    after = made.student.weight.detach()
    assert torch.equal(after[:2], before[:2]) and not torch.equal(after[2:], before[2:])
    assert not any("kept" in name for name in made.state_dict())


def test_mixed_rows_count_within_the_heads_of_both_their_classes():
    made = LwF(parts(), temperature=2, weight=0, heads=[[0, 1], [2], [3]])
    mixed = torch.tensor([[0.7, 0.0, 0.3, 0.0]])
    narrowed = made.within_head(torch.zeros(1, 4), mixed)
    assert narrowed[0].tolist() == [0, 0, 0, -1e4]


def test_where_the_truth_is_known_the_answer_is_one_of_its_task():
    """Logits 3, 2, 1, 0 of four rows of classes 0 to 3, heads (0, 1) and (2, 3): 0, 0, 2, 2 are named, in all
    rows 0 is the largest."""
    task = SeveralHeads(classes="abcd", groups=[[0, 1], [2, 3]])
    logits, truth = torch.tensor([[3.0, 2, 1, 0]]).repeat(4, 1), torch.arange(4)
    kept = task.condense(logits, truth)
    assert task.displayed(kept) == [0, 0, 2, 2] and task.metrics(kept, truth)["accuracy"] == 0.5
    assert task.metrics(kept, truth)["nll"] == pytest.approx(np.mean([0.313262, 1.313262] * 2), abs=1e-6)
    assert task.condense(logits, torch.tensor([0, -1, 2, 3]))[1].tolist() == [3, 2, 1, 0]
    assert task.floor(torch.tensor([0, 0, 1, 3, 3, 2])) == pytest.approx(4 / 6)
    assert task.head(2) == [2, 3] and task.in_words() == "1 (a, b); 2 (c, d)"
    assert without_heads(with_heads({"_target_": ONE_OF_ALL, "classes": list("ab")}, [[0], [1]])) == {
        "_target_": ONE_OF_ALL,
        "classes": list("ab"),
    }
    for groups in ([[0, 1], [1]], [[0, 9]], "ab", [], [[]], [[True]]):
        with pytest.raises(UserError, match="numbers of classes"):
            SeveralHeads(classes="abcd", groups=groups)


# which rows


def test_classes_go_into_sessions_in_order_or_as_they_are_named():
    assert class_groups("abcde", 2) == [[0, 1, 2], [3, 4]]
    assert class_groups("abcd", 2, [["d", "a"], ["b", "c"]]) == [[3, 0], [1, 2]]
    assert of_class(np.array([0, 3, 1]), [[3, 0], [1, 2]]).tolist() == [0, 0, 1]
    assert of_time(np.array([30, 10, 20, 5, 99]), 2).tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("sessions", "groups", "said"),
    [
        (
            5,
            None,
            "recipe.sessions=5 share out 4 classes, and each session has one at least: set recipe.sessions=4",
        ),
        (2, [["a"], ["b", "c"]], "recipe.groups leaves the class d in no session: add it to one"),
        (2, [["a", "b"], ["c", "b", "d"]], "recipe.groups names the class 'b' twice"),
        (2, [["a", "b"], ["c", "dd"]], "recipe.groups names the class 'dd'"),
        (3, [["a", "b"], ["c", "d"], []], "recipe.groups has no class in group 3"),
    ],
)
def test_groups_that_share_out_no_classes_are_refused(sessions, groups, said):
    with pytest.raises(UserError, match=said.replace("[", r"\[")):
        class_groups("abcd", sessions, groups)


def test_a_memory_has_as_many_of_each_class_and_holds_the_smaller_one():
    strata = np.array([0] * 50 + [1] * 10 + [2] * 3)
    rows = np.arange(len(strata))
    found = remembered(strata, rows, 12, seed=1)
    assert np.bincount(strata[found]).tolist() == [5, 4, 3] or np.bincount(strata[found]).tolist() == [
        4,
        5,
        3,
    ]
    assert set(remembered(strata, rows, 6, seed=1)) <= set(found)
    assert found.tolist() == remembered(strata, rows, 12, seed=1).tolist()
    assert found.tolist() != remembered(strata, rows, 12, seed=2).tolist()
    assert len(remembered(strata, rows, 1000, seed=1)) == 63


# the recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("continual"), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def train(to, *words):
    assert main(["train", *RUN, *words, f"hydra.run.dir=runs/{to}"]) == 0
    return json.loads(Path("runs", to, "run.json").read_text())


def keys(run):
    return {stage["name"]: stage["key"] for stage in run["stages"]}


@pytest.fixture(scope="module")
def whole(place):
    return train("whole", "recipe.joint=true")


def test_every_network_begins_with_the_one_before_and_the_first_is_shared(whole):
    made = keys(whole)
    assert made["student-train-1"] == made["baseline-train-1"] == made["joint-train-1"]
    assert len({made[f"{role}-train-2"] for role in ("student", "baseline", "joint")}) == 3
    found = Artifact("train", made["student-train-2"], Path("store/train", made["student-train-2"])).manifest
    assert found["inputs"]["init"]["artifact"].endswith(made["student-train-1"])
    answers = found["inputs"]["answers"]["artifact"].split("/")[1]
    asked = Artifact("pseudo-label", answers, Path("store/pseudo-label", answers)).manifest["inputs"]
    assert [one["artifact"] for one in asked["teachers"]] == [found["inputs"]["init"]["artifact"]]
    assert asked["data"] == found["inputs"]["data"]
    assert [name for name in made if name.startswith("pseudo-label")] == ["pseudo-label-2", "pseudo-label-3"]


def test_stored_answers_of_the_old_network_are_its_own_to_each_row(whole):
    """To half precision, of which they are: 11 bits."""
    made = keys(whole)
    folder, data = (
        Path("store", stage, made[name])
        for stage, name in (("pseudo-label", "pseudo-label-3"), ("session", "session-3"))
    )
    old = open_network(
        Artifact("train", made["student-train-2"], Path("store/train", made["student-train-2"]))
    )
    split = open_split(Artifact("session", made["session-3"], data), "labelled", CPU)
    with torch.no_grad():
        said = old(split.inputs[:].float() / 255)
    stored = torch.from_numpy(np.load(folder / "labelled.npy"))[:, 0].float()
    assert torch.allclose(stored, said, rtol=2e-3, atol=2e-3) and len(stored) == len(split)


@pytest.mark.slow
def test_rows_that_are_augmented_are_answered_as_they_are_shown(place):
    made = train("moved", "augment=[rotate]")
    assert not any(name.startswith("pseudo-label") for name in keys(made))
    key = keys(made)["student-train-2"]
    inputs = Artifact("train", key, Path("store/train", key)).manifest["inputs"]
    assert [one["artifact"] for one in inputs["teachers"]] == [inputs["init"]["artifact"]]


def test_a_session_has_its_own_classes_and_validates_on_all_so_far(whole):
    folder = Path("store/session", keys(whole)["session-2"])
    labelled, validation = (np.load(folder / f"{name}.truth.npy") for name in ("labelled", "validation"))
    assert set(labelled) == {4, 5, 6} and set(validation) == {0, 1, 2, 3, 4, 5, 6}
    assert json.loads((folder / "data.json").read_text())["counts"]["test"] == 0


def test_the_matrix_is_that_of_the_stored_networks_answers(whole):
    found = whole["results"]["sessions"]
    assert found["names"] == ["0 to 3", "4, 5, 6", "7, 8, 9"] and sum(found["rows"]) == 300
    assert found["arms"].keys() == {"baseline", "student", "joint"}
    assert found["way"] == "task"
    for role in ("baseline", "student", "joint"):
        measured = whole["results"][role]["last"]["test"]
        by_task = found["arms"][role]["task"]
        assert np.dot(by_task["matrix"][-1], found["rows"]) / 300 == pytest.approx(measured["accuracy"])
        assert measured["average"] == by_task["average"] and measured["forgetting"] == by_task["forgetting"]
        assert measured["backward_transfer"] == by_task["backward"]
    scores = [whole["results"][role]["last"]["test"]["accuracy"] for role in ("student", "baseline")]
    assert whole["results"]["gain"] == pytest.approx(scores[0] - scores[1])
    assert [len(row) for row in found["arms"]["joint"]["task"]["matrix"]] == [1, 2, 3]
    report = Path("runs/whole/report.md").read_text()
    assert "## Sessions" in report and "figures/sessions.png" in report and "after 0 to 3" in report


def test_a_head_a_task_is_asked_for_its_task(whole, capsys):
    """New rows, whose task nobody knows, are refused; those of the run's test split are known."""
    Image.new("L", (16, 16)).save("one.png")
    assert main(["predict", "runs/whole", "data=test", "to=test.csv"]) == 0
    with open("test.csv", encoding="utf-8") as file:
        rows = [(int(row["truth"]), int(row["label"])) for row in csv.DictReader(file)]
    groups = [range(4), range(4, 7), range(7, 10)]
    assert all(any(truth in group and label in group for group in groups) for truth, label in rows)
    right = sum(truth == label for truth, label in rows) / len(rows)
    assert right == pytest.approx(whole["results"]["student"]["last"]["test"]["accuracy"])
    with pytest.raises(UserError, match=r"add task=N, one of 1 \(0 to 3\); 2 \(4, 5, 6\)"):
        main_of("predict", "runs/whole", "data=one.png", "to=one.csv")
    wrong = "task=2 says of which task new rows are, and each row of data=validation is answered by its own"
    with pytest.raises(UserError, match=wrong):
        main_of("predict", "runs/whole", "data=validation", "to=own.csv", "task=2")
    assert not Path("own.csv").exists()
    with pytest.raises(UserError, match="task=4: there are 3 tasks"):
        main_of("predict", "runs/whole", "data=one.png", "to=one.csv", "task=4")
    assert main(["predict", "runs/whole", "data=one.png", "to=one.csv", "task=2", "role=joint"]) == 0
    assert Path("one.csv").read_text().splitlines()[1].split(",")[1] in "456"
    assert main(["evaluate", "runs/whole", "role=joint"]) == 0
    assert "by task: each row" in capsys.readouterr().out


def main_of(command, *words):
    return importlib.import_module(f"kdx.commands.{command}").main(list(words))


@pytest.mark.slow
def test_every_role_of_the_table_can_be_exported_and_says_what_its_task_is(whole, capsys):
    assert main(["export", "runs/whole", "role=joint", "format=state_dict"]) == 0
    card = Path("runs/whole/export/joint/card.md").read_text()
    assert "a head a task" in card and "student of all rows so far, by task" in card
    assert main(["evaluate", "runs/whole/export/joint", *RUN[1:4]]) == 0
    shown = whole["results"]["joint"]["last"]["test"]["accuracy"]
    assert f"{100 * shown:.1f}" in capsys.readouterr().out
    with pytest.raises(UserError, match="no role 'jont'; did you mean 'joint'"):
        main_of("export", "runs/whole", "role=jont")


@pytest.mark.slow
def test_a_run_again_is_all_from_the_store_and_the_plan_knows_its_keys(whole, capsys):
    again = train("again", "recipe.joint=true")
    assert all(stage["cached"] for stage in again["stages"]) and again["results"] == whole["results"]
    capsys.readouterr()
    assert main(["plan", *RUN, "store=fresh", "recipe.joint=true", "json=plan.json"]) == 0
    text = capsys.readouterr().out
    assert "sessions: 3, by class, a head a task" in text
    assert (
        "teacher" not in text.replace("network that teaches it", "") and "of the data and the student" in text
    )
    assert "old: about 0 at the first step alone, where the student still equals the network" in text
    assert "the labels only, over the same sessions (fine-tuning)" in text
    planned = json.loads(Path("plan.json").read_text())
    assert set(keys(whole).values()) <= set(map(str, _values(planned)))


def _values(found):
    if isinstance(found, dict):
        return [one for value in found.values() for one in _values(value)]
    return [one for value in found for one in _values(value)] if isinstance(found, list) else [found]


class Killed(BaseException):
    """As a kill: nothing is caught on the way."""


@pytest.mark.slow
def test_a_run_that_is_killed_in_a_session_goes_on_to_the_same_weights(whole, monkeypatch, capsys):
    """One step after a checkpoint, with the old network and old heads that are kept."""
    after = Watch.after

    def killed(self, step):
        stop = after(self, step)
        if self.work.name == "student-train-2" and step == 3:
            self.save(step + 1)
        if self.work.name == "student-train-2" and step == 4:
            raise Killed
        return stop

    monkeypatch.setattr(Watch, "after", killed)
    with pytest.raises(Killed):
        train("killed", "recipe.joint=true", "store=other")
    monkeypatch.undo()
    run = train("goes_on", "recipe.joint=true", "store=other")
    assert "goes on from step 4 of 6" in capsys.readouterr().err and keys(run) == keys(whole)
    for name in ("student-train-2", "student-train"):
        made = [Path(store, "train", keys(run)[name], "last.safetensors") for store in ("store", "other")]
        assert made[0].read_bytes() == made[1].read_bytes()
    assert run["results"]["sessions"] == whole["results"]["sessions"]


@pytest.mark.slow
def test_without_weight_the_student_is_fine_tuning(whole):
    made = keys(train("fine", "loss.weight=0"))
    assert [made[f"student-train{end}"] for end in ("-1", "-2", "")] == [
        keys(whole)[f"baseline-train{end}"] for end in ("-1", "-2", "")
    ]


@pytest.mark.slow
def test_a_single_head_has_a_memory_and_the_control_without_the_old_network(place):
    run = train("memory", "recipe.heads=single", "recipe.memory=20", "recipe.replay=true")
    counts = json.loads(Path("store/session", keys(run)["session-3"], "data.json").read_text())["counts"]
    assert counts["memory"] == 20 and "replay" in run["results"]["roles"]
    assert (
        json.loads(Path("store/session", keys(run)["session-1"], "data.json").read_text())["counts"].get(
            "memory"
        )
        is None
    )
    made = keys(run)
    assert made["replay-train-2"] not in (made["student-train-2"], made["baseline-train-2"])


@pytest.mark.slow
def test_rows_may_come_in_the_order_of_the_data_set(place):
    run = train("time", "recipe.by=time", "recipe.heads=single", "dataset.validation=null")
    found = run["results"]["sessions"]
    assert found["names"] == ["1", "2", "3"] and found["arms"]["student"].keys() == {"single"}
    assert found["rows"] == [100, 100, 100]


@pytest.mark.slow
def test_each_session_may_have_a_domain_and_is_tested_on_all_rows_in_it(place):
    run = train("domain", *DOMAIN, "recipe.memory=30")
    found = run["results"]["sessions"]
    assert found["names"] == ["none", "invert", "rotation"] and found["rows"] == [300, 300, 300]
    folder = Path("store/session", keys(run)["session-2"])
    rows, origin = np.load(folder / "labelled.inputs.npy"), np.load(folder / "labelled.origin.npy")
    decoded = np.load(next(Path("store/decode").glob("*/train.inputs.npy")))
    assert rows.dtype == np.uint8 and np.array_equal(rows, 255 - decoded[origin])
    memory = np.load(folder / "memory.inputs.npy")
    assert np.array_equal(memory, decoded[np.load(folder / "memory.origin.npy")])
    third = Path("store/session", keys(run)["session-3"])
    assert not set(origin) & set(np.load(third / "labelled.origin.npy"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            DOMAIN[:2],
            "recipe.domains names 5 domains, and recipe.sessions=3",
        ),
        (
            [*DOMAIN[:2], "recipe.domains=[none,invertt,none]"],
            "did you mean 'invert'",
        ),
        (["recipe.sessions=11"], "recipe.sessions=11 share out 10 classes"),
        (["recipe.groups=[[0,1],[2,3],[4,5]]"], "leaves classes 6, 7, 8, 9 in no session"),
        (["dataset.labelled=10", "recipe.sessions=6"], "a session of one teaches nothing"),
        pytest.param(
            ["dataset.labelled=10", "recipe.sessions=5", "recipe.groups=[[0],[1],[2],[3],[4,5,6,7,8,9]]"],
            "has 1 labelled example, and nothing is learned from fewer than 2",
            marks=pytest.mark.slow,
        ),
        (["recipe.sessions=10"], "every row is right: set recipe.sessions lower, or recipe.heads=single"),
        (["teacher=cnn_small"], "no other teacher than the student of the session before"),
        (
            [*DOMAIN[:2], "recipe.sessions=2", "recipe.domains=[none,pgd]"],
            "recipe.domains: pgd moves rows against a network",
        ),
        (
            ["dataset=wine", "student=mlp", *DOMAIN],
            "recipe.domains: invert changes pictures, and this data set holds rows of tables",
        ),
        (["recipe.by=time"], "recipe.heads=task is of sessions by class"),
        (["recipe.replay=true"], "set recipe.memory=100"),
        (["ceiling=true"], "bounds of its own"),
        (["headline=best"], "leave headline=best out"),
        (["loss=kd", "recipe=continual"], "with loss=lwf"),
        (["rounds=3"], "set recipe.sessions"),
        (["teacher_pretrain.steps=7"], "no other teacher than the student of the session before"),
        (["loss.temperature=0"], "loss.temperature"),
        (["recipe.sessions=1"], "recipe.sessions"),
        (["dataset=diabetes", "student=mlp", "teacher=mlp"], "reads the probabilities of classes"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(place, capsys, words, said):
    late = "recipe.groups=[[0],[1],[2],[3],[4,5,6,7,8,9]]" in words  # known once the rows are drawn
    assert main(["train", *RUN, *words, "hydra.run.dir=runs/refused"]) == (1 if late else 2)
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told


def test_a_document_of_somebody_else_that_lacks_something_is_shown_all_the_same():
    for student in ({}, {"task": {}}, {"single": {"matrix": [[0.5]]}}):
        results = {"sessions": {"arms": {"student": student}}, "student": {"last": {}}}
        session_cells(results), session_sentences(results), session_gains(results, 0.0)
    for student in ({}, {"mean": 0.5}, {"mean": 1, "by_chunk": [1]}):
        results = {"prequential": {"arms": {"student": student}}, "student": {"last": {}}}
        chunk_cells(results), chunk_gain(results, 0.0)
