"""Several teachers that answer as one: `teachers=[...]`, `teacher.members=N`."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tasks import classification
from test_additions import CENTROIDS
from test_task_contract import Number

import kdx
from kdx.cli import main
from kdx.config import compose, options
from kdx.config.restore import restore
from kdx.config.validate import inspect
from kdx.config.wire import wire
from kdx.core.errors import UserError, UserErrors
from kdx.core.types import Split
from kdx.models.ensemble import NetworkEnsemble
from kdx.models.size import bytes as bytes_of
from kdx.models.size import flops, parameters
from kdx.pipeline.recipes.experiment import name_of_several
from kdx.pipeline.stages.aggregating import equal_networks
from kdx.pipeline.stages.arrays import build_task, open_split
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.measuring import Measure
from kdx.pipeline.stages.watch import Watch
from kdx.planning.dry_run import forecast
from kdx.runs.reading import read_run
from kdx.runs.run import perform
from kdx.store.stage import subseed
from kdx.store.work import Listener
from kdx.training.runtime import Runtime

SHORT = [
    "device=cpu",
    "device.threads=1",
    "student=mlp_small",
    "teacher_pretrain.steps=6",
    "student_train.steps=5",
    "dataset.unlabelled=60",
    "dataset.validation=40",
    "dataset.test=80",
]
TWO = "teachers=[mlp,mlp_small]"


def train(*words, to="run"):
    assert main(["train", *SHORT, f"hydra.run.dir={to}", *words]) == 0
    return json.loads(Path(to, "run.json").read_text())


def keys(run):
    return {stage["name"]: stage["key"] for stage in run["stages"]}


def made_of(order):
    return {name: value for name, value in vars(order.experiment).items() if name != "controls"}


def order(*words):
    return wire(compose.check_words(compose.plus_less([*SHORT, *words])))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A folder with the stages of a run of one teacher (their keys are in alone.json), and a run of two, in
    one store.
    """
    place = tmp_path_factory.mktemp("ensemble")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        _, done = perform(order("teacher=mlp"), Listener())
        Path("alone.json").write_text(json.dumps({name: artifact.key for name, artifact in done.items()}))
        train(TWO)
    return place


@pytest.fixture
def here(taught, tmp_path, monkeypatch):
    """A copy of it, which the test may change."""
    shutil.copytree(taught, tmp_path, symlinks=True, dirs_exist_ok=True)
    for file in tmp_path.glob("*/run.json"):
        file.write_text(file.read_text().replace(str(taught), str(tmp_path)))
    monkeypatch.chdir(tmp_path)


class Says(torch.nn.Module):
    def __init__(self, *probs):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.answer = torch.tensor([probs]).log()

    def forward(self, inputs):
        self.layer(inputs)
        return self.answer.expand(len(inputs), -1)


# what an ensemble says and weighs


def test_members_answer_with_the_mean_of_their_probabilities():
    both = NetworkEnsemble([Says(0.9, 0.1), Says(0.5, 0.5)], classification(2).mean)
    answers = both(torch.zeros(3, 3))
    torch.testing.assert_close(answers.softmax(1), torch.tensor([[0.7, 0.3]]).expand(3, -1))
    assert not torch.allclose(
        answers.softmax(1), torch.tensor([0.75, 0.25])
    )  # the mean of the logits says that


def test_members_answer_once_for_themselves_and_together():
    asked = []

    class Counts(Says):
        def forward(self, inputs):
            asked.append(len(inputs))
            return super().forward(inputs)

    both = NetworkEnsemble([Counts(0.9, 0.1), Counts(0.5, 0.5)], classification(2).mean)
    measure = Measure(classification(2), {}, Runtime("cpu", 1, 0, False, False, 60))
    split = Split("test", torch.zeros(300, 3), torch.zeros(300, dtype=torch.int64))
    together, apart = measure.several_answers(both, {"test": split})
    assert asked == [256, 256, 44, 44]
    assert torch.equal(together["test"], measure.answers(both, split))
    assert all(
        torch.equal(apart["test"][k], measure.answers(member, split)) for k, member in enumerate(both.members)
    )
    assert measure.several_answers(both.members[0], {"test": split})[1] == {}


def test_members_that_answer_with_numbers_answer_with_their_mean():
    one, other = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
    rows = torch.randn(4, 3)
    torch.testing.assert_close(
        NetworkEnsemble([one, other], Number().mean)(rows), (one(rows) + other(rows)) / 2
    )


def test_its_size_and_its_cost_are_the_sums():
    one, row = Says(0.9, 0.1), torch.zeros(1, 3)
    both = NetworkEnsemble([one, Says(0.5, 0.5)], classification(2).mean)
    assert (parameters(both), bytes_of(both), flops(both, row)) == (16, 64, 24)
    assert (parameters(one), bytes_of(one), flops(one, row)) == (8, 32, 12)


def test_what_several_are_called():
    assert name_of_several(["cnn"]) == "cnn"
    assert name_of_several(["cnn", "mlp", "cnn"]) == "2 x cnn + mlp"


def test_networks_that_have_learned_the_same_are_known():
    one, other = Says(0.5, 0.5), Says(0.5, 0.5)
    same = Says(0.5, 0.5)
    same.load_state_dict(one.state_dict())
    assert (
        equal_networks([one, other, same]) == [(1, 3)] and equal_networks([one, torch.nn.Linear(3, 2)]) == []
    )


# what the words mean


def test_of_members_that_are_fitted_no_training_is_asked(place):
    words = ("dataset=digits_table", "store=none", "teacher_pretrain.precision=bf16")
    bf16 = order(*words, "teachers=[sklearn,mlp]", "student_train.augment=[]")
    assert [(one.training is None, one.fitted) for one in bf16.experiment.teachers] == [
        (True, True),
        (False, False),
    ]
    steps, _ = forecast(bf16, place / "plan", {})
    asked = {step.name: step.inputs for step in steps}
    assert asked["teacher-pretrain-1"]["precision"] == "fp32"
    probed = [step for step in steps if step.stage.name == "probe"]
    assert [step.inputs["model"].target for step in probed] == ["kdx.models.mlp.mlp"], "what answers in torch"
    settled = probed[0].artifact.json("probe.json")["precision"]
    assert (
        asked["pseudo-label"]["precision"] == settled and asked["teacher-pretrain-2"]["precision"] == "bf16"
    )


def test_each_member_has_the_keys_and_the_training_of_its_option():
    made = order(TWO, "members.2.dropout=0.2", "members.1.teacher_pretrain.lr=0.3").experiment.teachers
    assert [teacher.name for teacher in made] == ["mlp", "mlp_small"]
    assert [teacher.model.spec["dropout"] for teacher in made] == [0.0, 0.2]
    assert [teacher.model.spec["hidden"] for teacher in made] == [32, 16]
    assert [teacher.training.spec["lr"] for teacher in made] == [0.3, 0.001]
    longer = wire(compose.check_words(["teachers=[mlp,resnet20,resnet50,mlp]"]))
    assert [t.training.spec["length"] for t in longer.experiment.teachers] == [
        "150 steps",
        "400 steps",
        "160 steps",
        "150 steps",
    ]
    assert longer.config["pseudo_label"]["views"] == 6, "the fewest that one of them asks for"


def test_members_of_one_option_have_seeds_of_their_own(place):
    made = order("teacher=mlp", "teacher.members=3").experiment.teachers
    assert [teacher.copy for teacher in made] == [0, 1, 2] and len({str(t.model.spec) for t in made}) == 1
    assert [t.copy for t in order("teachers=[mlp,cnn,mlp]").experiment.teachers] == [0, 0, 1]
    steps, _ = forecast(order("teacher=mlp", "teacher.members=3", "store=none"), place / "plan", {})
    inputs = [step.inputs for step in steps if step.name.startswith("teacher-pretrain")]
    assert [one["seed"] for one in inputs] == [subseed(0, "teacher", number) for number in range(3)]
    assert len({one["views_seed"] for one in inputs}) == 3
    assert inputs[0]["views_seed"] == subseed(0, "views", "teacher")


def test_a_list_of_one_is_that_teacher():
    one, alone = order("teachers=[mlp]"), order("teacher=mlp")
    assert made_of(one) == made_of(alone)
    assert one.config["choices"] == alone.config["choices"] and one.config["members"] == {}
    by_number = order("teachers=[mlp]", "members.1.dropout=0.2")
    assert made_of(by_number) == made_of(order("teacher=mlp", "teacher.dropout=0.2"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("teachers=[]", "teachers must name 1 to 64 options of teacher"),
        ("teachers=cnn", "teachers must name 1 to 64 options of teacher"),
        ("teachers=[cnn,[mlp]]", "teacher has no option '['mlp']'"),
        ("teachers=[cnn,mpl]", "teacher has no option 'mpl'; did you mean 'mlp'?"),
        ("teacher=[cnn,mlp]", "teacher= names one: several that answer together are teachers="),
        (f"{TWO} teacher=cnn", "both name teachers, and one of them would be dropped"),
        (f"{TWO} teacher.dropout=0.1", "set members.1.dropout, say, the key of the first"),
        (f"{TWO} teacher.members=2", "leave one of the two out"),
        ("teacher.members=0", "teacher.members must be a whole number from 1 to 64; given: 0"),
        ("teacher.members=true", "teacher.members must be a whole number from 1 to 64"),
        ("members.1.dropout=0.1", "there is one teacher, whose keys are teacher.KEY="),
        (f"{TWO} members.3.dropout=0.1", "members.3 is no member: they have the numbers 1 to 2"),
        (f"{TWO} members.1.dropot=0.1", "did you mean 'members.1.dropout'?"),
        (f"{TWO} members.1.option=cnn", "members.1.option is what teachers= names"),
        (f"{TWO} members.1._target_=os.system", "'members.1._target_' is no key of a network"),
        (f"{TWO} members.1=null", "'members.1' is no key: a member has a number and keys"),
        (f"{TWO} teachers.1=null", "'teachers.1' is no key"),
        (f"{TWO} ~teachers", "would take away what every run needs"),
        (f"{TWO} members.1.checkpoint=none.pt", "members.1.checkpoint 'none.pt' does not exist"),
    ],
)
def test_words_that_drop_a_teacher_or_make_no_sense_are_refused(words, why):
    with pytest.raises(UserErrors) as found:
        order(*words.split())
    assert why in str(found.value) and len(found.value.messages) == 1


def test_a_preset_of_several_keeps_them(place, capsys):
    Path("options/experiment").mkdir(parents=True)
    Path("options/experiment/both.yaml").write_text(
        "# @package _global_\n# Two\nteachers: [mlp, mlp_small]\n"
    )
    words = ["--config-dir", "options", "experiment=both"]
    assert main(["train", *SHORT, *words, "teacher=cnn"]) == 2
    assert "one of them would be dropped" in capsys.readouterr().err
    saved = compose.check_words(["experiment=both", "members.1.dropout=0.1", "teachers=[mlp,mlp]"])
    again, errors, _ = restore(saved, ["members.2.checkpoint=x.pt"], {"precision": {}})
    assert not errors and again["members"]["2"]["checkpoint"] == "x.pt"
    again["members"]["2"]["checkpoint"] = None
    assert {**again, "device": 0} == {**saved, "device": 0} and again["teachers"] == ["mlp", "mlp"]


def test_a_process_that_a_launcher_made_finds_options_of_the_users_own(place):
    """It composes nothing by itself: Hydra knows the folder there, and kdx does not yet."""
    Path("mine/teacher").mkdir(parents=True)
    text = "# @package _global_\n# Mine\ndefaults:\n  - /model@teacher: mlp_small\n"
    Path("mine/teacher/tiny.yaml").write_text(text)
    own = options.own
    own[:] = [place / "mine"]
    config = compose.whole_config(["teachers=[tiny,mlp]", "++members.1.dropout=0.1"])
    own[:] = []
    members = compose.plain_config(config)["members"]
    assert own == [place / "mine"] and [keys["option"] for keys in members.values()] == ["tiny", "mlp"]
    assert (members["1"]["hidden"], members["1"]["dropout"], members["2"]["hidden"]) == (16, 0.1, 32)
    own[:] = []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (f"{TWO} pseudo_label.passes=4", "has none: set members.2.dropout=0.3, say"),
        (
            "teacher=mlp teacher.members=3 teacher.dropout=0.2 pseudo_label.passes=2",
            "set pseudo_label.passes=6, say",
        ),
        (f"{TWO} loss=soft loss.features=fitnet", "reads the hidden features of one teacher's network"),
        (f"{TWO} members.2.dropout=3", "dropout must be"),
        (f"{TWO} members.2.teacher_pretrain.lr=-1", "members.2.teacher_pretrain.lr must be greater than 0"),
    ],
)
def test_what_several_cannot_do_is_said_before_work(words, why):
    assert [error for error in inspect(order(*words.split())) if why in error]


# a run, end to end


def test_a_member_in_the_store_is_not_trained_again(taught):
    alone, both = (json.loads((taught / name).read_text()) for name in ("alone.json", "run/run.json"))
    cached = {stage["name"]: stage["cached"] for stage in both["stages"]}
    assert keys(both)["teacher-pretrain-1"] == alone["teacher-pretrain"] and cached["teacher-pretrain-1"]
    assert keys(both)["teacher-pretrain-2"] != alone["teacher-pretrain"] and cached["baseline-train"]
    assert keys(both)["pseudo-label"] != alone["pseudo-label"]
    assert keys(both)["student-train"] != alone["student-train"]


def test_the_teacher_is_the_ensemble_and_its_members_are_listed(taught, monkeypatch):
    monkeypatch.chdir(taught)
    document = json.loads(Path("run/run.json").read_text())
    run, results = read_run("run"), document["results"]
    networks = [open_network(run.stage(name)) for name in run.members()]
    data = run.stage("prepare")
    test, task = open_split(data, "test", Runtime.settle(order().runtime)), build_task(data.json("data.json"))
    with torch.no_grad():
        answers = [network(test.inputs.float() / 255) for network in networks]
    mean = torch.stack([found.softmax(1) for found in answers]).mean(0)
    whole, members = results["teacher"], results["members"]
    assert "aggregate" not in whole, "the mean"
    assert whole["last"]["test"]["accuracy"] == (mean.argmax(1) == test.known).double().mean().item()
    assert whole["last"]["test"]["nll"] == pytest.approx(
        -mean[range(len(mean)), test.known].log().double().mean().item(), rel=1e-5
    )
    for member, found in zip(members, answers, strict=True):
        assert member["last"]["test"]["accuracy"] == task.metrics(found, test.known)["accuracy"]
        same = (found.argmax(1) == mean.argmax(1)).double().mean().item()
        assert member["last"]["test"]["agreement"] == pytest.approx(same)
    for size in ("parameters", "bytes", "flops", "steps"):
        assert whole[size] == sum(member[size] for member in members) > 0
    assert whole["model"] == "mlp + mlp_small" and [m["model"] for m in members] == ["mlp", "mlp_small"]
    assert "weights" not in whole and set(members[0]["weights"]) == {"last", "best"}
    first = document["gate"]["teacher"]
    assert first == pytest.approx(whole["last"]["validation"]["accuracy"], abs=0.006)  # answers are halves
    teachers = json.loads(Path("run/artifacts/pseudo-label/answers.json").read_text())["teachers"]
    assert teachers == [keys(document)[name] for name in ("teacher-pretrain-1", "teacher-pretrain-2")]
    report = Path("run/report.md").read_text()
    assert "| member 2, mlp\\_small |" in report and "whose answers are averaged" in report
    assert "member 1 of the teacher: `artifacts/teacher-pretrain-1`" in report


def test_it_is_measured_and_exported(here, capsys):
    assert main(["evaluate", "run", "role=teacher", "json=found.json"]) == 0
    found = json.loads(Path("found.json").read_text())["results"]
    results = json.loads(Path("run/run.json").read_text())["results"]
    assert (
        list(found) == ["teacher", "member 1", "member 2"] and found["teacher"]["model"] == "mlp + mlp_small"
    )
    assert [found[name]["accuracy"] for name in found] == [
        of["last"]["test"]["accuracy"] for of in (results["teacher"], *results["members"])
    ]
    assert main(["export", "run", "role=teacher", "format=state_dict", "to=both"]) == 0
    card, rows = json.loads(Path("both/card.json").read_text()), torch.rand(3, 1, 16, 16)
    assert [one["artifact"] for one in card["members"]] == [m["artifact"] for m in card["metrics"]["members"]]
    assert torch.equal(kdx.load("both")(rows), kdx.open("run").teacher()(rows))
    text = Path("both/card.md").read_text()
    assert [text.count(f"\nMember {n}:\n") for n in (1, 2, 3)] == [1, 1, 0] and "Teacher:" not in text
    assert main(["export", "run", "format=state_dict"]) == 0
    card = json.loads(Path("run/export/student/card.json").read_text())
    assert card["teacher_artifact"] is None and len(card["lineage"]["teachers"]) == 2
    assert [m["artifact"] for m in card["metrics"]["members"]] == card["lineage"]["labels"]["teachers"]


def test_one_member_is_asked_by_its_number_or_its_name(here, capsys):
    """Its answers are those that its row of the table was measured by."""
    results = json.loads(Path("run/run.json").read_text())["results"]

    def answered(*words):
        assert main(["predict", "run", "data=test", "to=a.csv", "overwrite=true", *SHORT[:2], *words]) == 0
        rows = list(csv.DictReader(Path("a.csv").open(newline="")))
        return sum(row["truth"] == row["label"] for row in rows) / len(rows), rows

    for words, of in (
        (["member=1"], results["members"][0]),
        (["role=teacher", "member=2"], results["members"][1]),
        (["member=mlp_small"], results["members"][1]),
        (["role=teacher"], results["teacher"]),
    ):
        assert answered(*words)[0] == pytest.approx(of["last"]["test"]["accuracy"]), words
    assert answered("member=1")[1] != answered("member=2")[1]
    capsys.readouterr()
    line = ["predict", "run", "data=test", "to=a.csv", "overwrite=true", *SHORT[:2]]
    assert main([*line, "member=2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["role"], told["member"], told["model"]) == ("teacher", 2, "mlp_small")
    for words, says in (
        (["member=3"], "has no such member; it has 1 mlp, 2 mlp_small"),
        (["member=0"], "has no such member; it has 1 mlp, 2 mlp_small"),
        (["member=resnet20"], "member=resnet20: the teacher of 'run' has no such member; it has 1 mlp"),
        (["member=1", "role=student"], "leave role=student out"),
    ):
        assert main([*line, *words]) == 2
        assert says in capsys.readouterr().err
    document = json.loads(Path("run/run.json").read_text())
    document["config"]["members"]["2"]["option"] = "mlp"
    Path("run/run.json").write_text(json.dumps(document))
    assert main([*line, "member=mlp"]) == 2
    assert "several have that name, so choose by number: 1 mlp, 2 mlp" in capsys.readouterr().err
    rows = torch.rand(2, 1, 16, 16)
    first, second = (kdx.open("run").teacher(member=number)(rows) for number in (1, 2))
    assert torch.equal(kdx.open("run").network(member="1")(rows), first) and not torch.equal(first, second)


def test_a_part_of_an_ensemble_is_not_measured_as_all_of_it(here, capsys):
    document = json.loads(Path("run/run.json").read_text())
    document["stages"] = [stage for stage in document["stages"] if stage["name"] != "teacher-pretrain-2"]
    Path("run/run.json").write_text(json.dumps(document))
    assert main(["evaluate", "run", "role=teacher"]) == 2
    assert "is an ensemble of 2, and 1 of them is trained so far: run it again" in capsys.readouterr().err


def test_rerun_and_plan_know_the_same_run(here, capsys):
    assert main(["rerun", "run", "to=again", "store=outputs/store"]) == 0
    again = json.loads(Path("again/run.json").read_text())
    run = json.loads(Path("run/run.json").read_text())
    assert keys(again) == keys(run) and all(stage["cached"] for stage in again["stages"])
    assert {**again["config"], "store": 0} == {**run["config"], "store": 0}
    assert main(["plan", *SHORT, TWO]) == 0
    text = capsys.readouterr().out
    assert (
        "member 2, mlp_small, in the store: " in text and "mlp + mlp_small, which answer together: " in text
    )


@pytest.mark.slow
def test_a_sweep_over_lists_of_teachers(here, capsys):
    words = ["teachers=[mlp],[mlp,mlp_small]", "members.1.teacher_pretrain.steps=6", "hydra.sweep.dir=sweep"]
    assert main(["train", "-m", *SHORT, *words]) == 0
    runs = {path.parent.name: json.loads(path.read_text()) for path in Path("sweep").glob("*/run.json")}
    assert sorted(runs) == ["0_teachers-mlp", "1_teachers-mlp-mlp-small"]
    assert keys(runs["0_teachers-mlp"]) == json.loads(Path("alone.json").read_text())
    assert keys(runs["1_teachers-mlp-mlp-small"]) == keys(json.loads(Path("run/run.json").read_text()))
    out = capsys.readouterr().out
    assert "teachers=[mlp,mlp_small]" in out and main(["compare", "sweep"]) == 0


@pytest.mark.parametrize(
    ("words", "stage"),
    [
        pytest.param(["pseudo_label.mode=live"], "student-train", id="live"),
        pytest.param(["rounds=2", "loss=soft"], "pseudo-label-1", id="rounds"),
        pytest.param(
            ["recipe=chain", "assistants=[mlp]"], "pseudo-label-1", id="chain", marks=pytest.mark.slow
        ),
        pytest.param(
            ["select=uniform", "loss=soft", "budget=20", "rounds=1"],
            "pseudo-label-1",
            id="active",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_other_recipes_ask_the_ensemble(here, words, stage):
    _, done = perform(order(TWO, *words), Listener())
    asked = done[stage].manifest["inputs"]["teachers"]
    assert asked == [named(done[f"teacher-pretrain-{number}"]) for number in (1, 2)]
    if "rounds=2" in words:  # then the student teaches
        assert done["pseudo-label-2"].manifest["inputs"]["teachers"] == [named(done["student-train-1"])]


def named(artifact):
    return {"artifact": f"{artifact.stage}/{artifact.key}"}


class Heard(Listener):
    def __init__(self):
        self.said = []

    def started(self, name, key, cached):
        self.said.append(f"{name} {'is there' if cached else 'begins'}")

    def note(self, name, text, level):
        self.said.append(text)


def test_the_first_member_in_the_store_is_kept_where_the_second_is_killed(here, monkeypatch):
    asked = order("teacher=mlp", "teacher.members=2", "device.checkpoint_seconds=0")
    after = Watch.after

    def killed(watch, step, *more):
        if watch.work.name == "teacher-pretrain-2" and step == 3:
            raise KeyboardInterrupt
        return after(watch, step, *more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Watch, "after", killed)
        perform(asked, Listener())
    heard = Heard()
    found, done = perform(asked, heard)
    assert "teacher-pretrain-1 is there" in heard.said and "teacher-pretrain-2 begins" in heard.said
    assert "teacher-pretrain-2 goes on from step 3 of 6" in heard.said
    fresh = perform(replace(asked, store=Path("fresh")), Listener())[1]
    for name in ("teacher-pretrain-1", "teacher-pretrain-2", "student-train"):
        assert weights_of(done[name]) == weights_of(fresh[name])
    assert weights_of(done["teacher-pretrain-1"]) != weights_of(done["teacher-pretrain-2"])


def weights_of(artifact):
    return artifact.manifest["files"]["last.safetensors"]["sha256"]


def test_weights_that_no_seed_sets_apart_are_refused(here):
    key = json.loads(Path("alone.json").read_text())["teacher-pretrain"]
    file = f"outputs/store/teacher-pretrain/{key}/last.safetensors"
    words = ["teacher=mlp", "teacher.members=2", "teacher_pretrain.steps=null", f"teacher.checkpoint={file}"]
    with pytest.raises(UserError, match="the members 1 and 2 would be one network"):
        order(*words)
    other = "run/artifacts/teacher-pretrain-2/last.safetensors"
    found, _ = perform(
        order(
            TWO,
            "teacher_pretrain.steps=null",
            f"members.1.checkpoint={file}",
            f"members.2.checkpoint={other}",
        ),
        Listener(),
    )
    results = found.json("results.json")
    before = json.loads(Path("run/run.json").read_text())["results"]
    assert [member["steps"] for member in results["members"]] == [0, 0]
    assert results["teacher"]["last"] == before["teacher"]["last"]


@pytest.mark.slow
def test_an_estimator_is_a_member(here, monkeypatch, capsys):
    monkeypatch.syspath_prepend(".")
    for path, text in (
        ("ours/__init__.py", ""),
        ("ours/centroids.py", CENTROIDS),
        (
            "options/teacher/centroids.yaml",
            "# @package _global_\n# Nearest mean\nteacher:\n  _target_: ours.centroids.Centroids\n"
            "  sharpness: 20.0\n",
        ),
    ):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    words = ["--config-dir", "options", "allow=[ours]", "teachers=[mlp,centroids,centroids]"]
    run = train(*words, "stages=[teacher_pretrain,pseudo_label]", to="fitted")
    assert [member["steps"] for member in run["results"]["members"]] == [6, 0, 0]
    assert "best" in run["results"]["teacher"] and "best" in run["results"]["members"][0]
    fitted = run["results"]["members"][1]
    assert fitted["best"] == fitted["last"], "the only ones it has"
    capsys.readouterr()
    asked = ["allow=[ours]", "role=teacher", "which=best", "device=cpu"]
    assert main(["evaluate", "fitted", *asked]) == 0 and "member 3" in capsys.readouterr().out
    (warning,) = [text for text in run["warnings"] if "one and the same network" in text]
    assert "the members 2 and 3 of the teacher" in warning
    wide = CENTROIDS.replace("range(self.outputs)", "range(self.outputs - 1)").replace(
        "Estimator)", "nn.Module)"
    )
    wide = wide.replace("import torch\n", "import torch\nfrom torch import nn\n").replace(
        "self.outputs, self.sharpness = outputs, sharpness",
        "self.layer = nn.Linear(shape[1] * shape[2], outputs - 1)",
    )
    wide = wide.replace(
        "-self.sharpness * torch.cdist(inputs.flatten(1), self.means).square() / inputs[0].numel()",
        "self.layer(inputs.flatten(1))",
    )
    Path("ours/wide.py").write_text(wide)
    Path("options/teacher/wide.yaml").write_text(
        Path("options/teacher/centroids.yaml").read_text().replace("centroids", "wide")
    )
    capsys.readouterr()
    assert main(["train", *SHORT, *words[:3], "teachers=[mlp,wide]"]) == 2
    assert "member 2 gives answers of (9,) a row, and the task reads (10,)" in capsys.readouterr().err
