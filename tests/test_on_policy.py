"""The recipe `on_policy`: one training in segments, between which the student goes on with rows itself."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kdx.cli import main
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.rollouts import Rolling
from kdx.models.decoder import DecoderNetwork, gpt
from kdx.models.sampling import continued, drawn_tokens
from kdx.pipeline.foretelling import foretelling_of
from kdx.pipeline.stages.arrays import read_inputs
from kdx.pipeline.stages.onward import STATE, read_onward
from kdx.pipeline.stages.rollout import RollingOut, share_of_rows
from kdx.pipeline.stages.watch import Watch
from kdx.planning.dry_run import forecast
from kdx.store.artifact import Artifact
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=300)
RUN = ["dataset=corpus", "dataset.root=texts", "dataset.length=8", "device=cpu", "device.threads=1"]
RUN += ["dataset.validation_share=0.1", "dataset.test_share=0.1", "teacher=gpt_tiny", "student=gpt_tiny"]
RUN += ["teacher.width=16", "student.width=8", "teacher.depth=1", "student.depth=1", "student.dropout=0.1"]
RUN += ["teacher.heads=2", "student.heads=2", "loss=token_kd", "teacher_pretrain.steps=20"]
RUN += ["student_train.steps=30", "student_train.evaluate_every=7", "baseline=false", "store=store"]
SEGMENTS = ["recipe=on_policy", "recipe.segments=3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("on_policy"), Path.cwd()
    os.chdir(folder)
    draw = random.Random(0)
    Path("texts").mkdir()
    words = "the a cat dog sat ran on mat log and then it was red big".split()
    for name in "abc":
        Path("texts", f"{name}.txt").write_text(" ".join(draw.choice(words) for _ in range(250)))
    yield folder
    os.chdir(before)


def train(to, *words):
    assert main(["train", *RUN, *words, f"hydra.run.dir=runs/{to}"]) == 0
    return json.loads(Path("runs", to, "run.json").read_text())


def artifact(run, name, kind):
    key = next(stage["key"] for stage in run["stages"] if stage["name"] == name)
    return Artifact(kind, key, Path("store", kind, key))


@pytest.fixture(scope="module")
def whole(place):
    return artifact(train("whole"), "student-train", "train")


@pytest.fixture(scope="module")
def half(place):
    return train("half", *SEGMENTS, "recipe.on_policy=0.5")


def same(one, other):
    files = ("last.safetensors", "best.safetensors", "metrics.jsonl", "summary.json", "validation.by_row.npy")
    return [name for name in files if one.file(name).read_bytes() != other.file(name).read_bytes()]


def test_segments_without_rollouts_are_one_run_bit_for_bit(whole):
    run = train("segments", *SEGMENTS, "recipe.on_policy=0")
    assert [stage["name"] for stage in run["stages"]][-5:-2] == [*("train-1", "train-2", "student-train")]
    made = artifact(run, "student-train", "train")
    assert made.key != whole.key and same(made, whole) == []
    assert artifact(run, "train-1", "train").json("summary.json")["steps"] == 10


def test_one_segment_is_the_stage_of_distil(whole):
    run = train("one", "recipe=on_policy", "recipe.segments=1", "recipe.on_policy=0")
    assert artifact(run, "student-train", "train").key == whole.key


@pytest.mark.slow
def test_a_training_that_stops_early_stays_stopped(place):
    """In the first of three segments: the others make no step, and leave what one run leaves."""
    words = ["student_train.patience=1", "student_train.lr=0.5", "student_train.evaluate_every=3"]
    one = artifact(train("patient", *words), "student-train", "train")
    parts = train("patient-parts", *words, *SEGMENTS, "recipe.on_policy=0")
    made = artifact(parts, "student-train", "train")
    assert one.json("summary.json")["stopped"] == "patience" and one.json("summary.json")["steps"] < 10
    assert same(made, one) == []


def test_the_plan_has_each_segment(place, tmp_path):
    order = wire(compose.check_words([*RUN, *SEGMENTS, "store=nothing"]))
    steps, stop = forecast(order, tmp_path, {})
    assert stop is None
    known = {step.key: step for step in steps}
    found = {step.name: foretelling_of(step.stage).amounts(step, known) for step in steps}
    assert [found[name]["steps"] for name in ("train-1", "train-2", "student-train")] == [10, 10, 10]
    looks = [found[name]["validation"] for name in ("train-1", "train-2", "student-train")]
    rows = next(step for step in steps if step.name == "prepare").artifact.json("data.json")["counts"]
    batch = next(step for step in steps if step.name == "student-train").inputs["training"].spec["batch_size"]
    assert sum(looks) == 5 * rows["validation"]  # of 30 steps each 7th, and the last
    assert found["rollout-2"]["rows"] == round(0.5 * min(rows["labelled"], 10 * batch))


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("dies", [4, 14, 26])
def test_a_training_that_is_killed_in_a_segment_goes_on(whole, monkeypatch, capsys, dies):
    """One step after a checkpoint in the first, the second, the last segment."""
    after = Watch.after

    def killed(self, step):
        stop = after(self, step)
        if self.work.name.startswith(("student", "train-")):
            if step == dies - 1:
                self.save(step + 1)
            if step == dies:
                raise Killed
        return stop

    store = f"store-{dies}"
    shutil.copytree("store", store, ignore=shutil.ignore_patterns("train"))
    monkeypatch.setattr(Watch, "after", killed)
    words = [*SEGMENTS, "recipe.on_policy=0", f"store={store}"]
    with pytest.raises(Killed):
        train(f"killed-{dies}", *words)
    monkeypatch.undo()
    assert list(Path(store, "train").glob("*.partial"))
    run = train(f"again-{dies}", *words)
    assert f"goes on from step {dies} of 30" in capsys.readouterr().err
    key = artifact(run, "student-train", "train").key
    made = Artifact("train", key, Path(store, "train", key))
    assert same(made, whole) == []


@pytest.mark.slow
def test_a_run_that_is_killed_between_segments_goes_on(half, monkeypatch):
    """In the middle of the second rollout."""
    rows, calls = RollingOut.rows, []

    def killed(self, *given):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return rows(self, *given)

    monkeypatch.setattr(RollingOut, "rows", killed)
    words = [*SEGMENTS, "recipe.on_policy=0.5", "store=between"]
    with pytest.raises(Killed):
        train("between", *words)
    monkeypatch.undo()
    run = train("between-again", *words)
    cached = {stage["name"]: stage["cached"] for stage in run["stages"]}
    assert cached["rollout-2"] and cached["train-2"] and not cached["rollout-3"]
    key = artifact(half, "student-train", "train").key
    made = Artifact("train", key, Path("between", "train", key))
    assert same(made, artifact(half, "student-train", "train")) == []


@pytest.mark.slow
@pytest.mark.parametrize("more", ["student_train.steps=28", "recipe.on_policy=0.25"])
def test_a_plan_on_a_store_that_has_some_of_it(half, more, capsys):
    """Its data and the answers of a shorter training are there; what is tried leaves the store as it was."""
    before = {path: path.read_bytes() for path in Path("store", "prepare").rglob("*.json")}
    assert main(["plan", *RUN, *SEGMENTS, "recipe.on_policy=0.5", more]) == 0
    shown = capsys.readouterr().out
    assert "rollout-2" in shown and "segments: 3, of one training" in shown
    assert before == {path: path.read_bytes() for path in Path("store", "prepare").rglob("*.json")} != {}


@pytest.mark.slow
def test_each_rollout_is_an_artifact_of_rows_that_the_segment_shows(half):
    data = artifact(half, "prepare", "prepare")
    before = np.asarray(read_inputs(data, "labelled")[:])
    for number in (2, 3):
        rolled = artifact(half, f"rollout-{number}", "rollout")
        rows, seen = (np.load(rolled.file(f"{what}.labelled.npy")) for what in ("rolled", "seen"))
        assert set(rows) <= set(seen) and len(rows) == round(len(seen) / 2) and 0 < len(rows)
        made = np.load(rolled.file("labelled.inputs.npy"))
        others = np.setdiff1d(np.arange(len(before)), rows)
        assert (made[others] == before[others]).all() and made.dtype == before.dtype
        assert (made[rows, :2] == before[rows, :2]).all() and (made[rows] != before[rows]).any()
        assert made.min() >= 0 and made.max() < 256
        truth, old = (np.load(one.file("labelled.truth.token.npy")) for one in (rolled, data))
        assert (truth[rows] == -1).all() and (truth[others] == old[others]).all()
        answers = artifact(half, f"pseudo-label-{number}", "pseudo-label")
        assert (np.load(answers.file("labelled.npy"), mmap_mode="r").shape[0]) == len(seen)
    names = [stage["name"] for stage in half["stages"]]
    assert names.index("rollout-2") < names.index("train-2") < names.index("rollout-3")


@pytest.mark.slow
def test_rollouts_hang_on_the_seed_and_on_the_student(half):
    """Made again in another store they are the same; another share has other rows, and so another student."""
    again = train("half-again", *SEGMENTS, "recipe.on_policy=0.5", "store=elsewhere")
    for name in ("rollout-2", "rollout-3"):
        here = artifact(half, name, "rollout")
        there = Artifact("rollout", here.key, Path("elsewhere", "rollout", here.key))
        for file in ("labelled.inputs.npy", "rolled.labelled.npy"):
            assert here.file(file).read_bytes() == there.file(file).read_bytes()
    assert [s["key"] for s in again["stages"]] == [s["key"] for s in half["stages"]]
    other = train("longer-prompt", *SEGMENTS, "recipe.on_policy=0.5", "recipe.prompt=6")
    one, two = (artifact(run, "rollout-2", "rollout") for run in (half, other))
    assert one.key != two.key
    rows = np.load(two.file("rolled.labelled.npy"))
    assert (rows == np.load(one.file("rolled.labelled.npy"))).all()  # of one seed and one student


@pytest.mark.slow
def test_a_live_teacher_and_a_pool(place):
    words = [*SEGMENTS, "recipe.on_policy=1", "pseudo_label.mode=live", "dataset.labelled=0.3"]
    run = train("live", *words)
    rolled = artifact(run, "rollout-3", "rollout")
    for split in ("labelled", "unlabelled"):
        rows, seen = (np.load(rolled.file(f"{what}.{split}.npy")) for what in ("rolled", "seen"))
        assert (rows == seen).all()
    assert "pseudo-label-2" not in [stage["name"] for stage in run["stages"]]
    assert rolled.json("data.json")["counts"]["test"] == 0


def test_what_cannot_be_is_refused_in_a_sentence(place, capsys):
    for words, said in (
        (["recipe=on_policy"], "student=cnn_tiny does not: choose a student that does, such as"),
        ([*RUN, "recipe=on_policy", "loss=supervised"], "loss=supervised learns from no teacher"),
        ([*RUN, "recipe=on_policy", "rounds=2"], "leave rounds= and select= out"),
        ([*RUN, "recipe=on_policy", "recipe.prompt=8"], "keeps all 8 tokens of a row"),
        ([*RUN, "recipe=on_policy", "recipe.prompt=0"], "recipe.prompt must be at least 1"),
        ([*RUN, "recipe=on_policy", "recipe.temperature=0"], "recipe.temperature must be greater than 0"),
        ([*RUN, "recipe=on_policy", "recipe.on_policy=1.5"], "recipe.on_policy must be"),
        ([*RUN, "recipe=on_policy", "recipe.segments=0"], "recipe.segments must be at least 1"),
        ([*RUN, "recipe=on_policy", "recipe.segments=31"], "a training of 30 steps"),
        ([*RUN, "recipe=on_policy", "recipe.segments=1", "seed=9"], "recipe.segments=1 has no later segment"),
    ):
        assert main(["train", *words]) != 0
        assert said in capsys.readouterr().err.replace("\n", " "), words


def test_a_state_that_cannot_be_read_is_named(tmp_path):
    made = Artifact("train", "k", tmp_path)
    (tmp_path / STATE).write_bytes(b"no state")
    with pytest.raises(UserError, match="with which this training goes on, cannot be read"):
        read_onward(made, CPU)


# what is drawn


class Known(DecoderNetwork):
    """Says behind token t that t + 1 comes next, and nothing else."""

    def last_logits(self, tokens, cache):
        cache.length += tokens.shape[1]
        hot = torch.nn.functional.one_hot((tokens[:, -1].long() + 1) % 7, 7)
        return torch.where(hot > 0, 0.0, -torch.inf)


def network(kind=gpt, **keys):
    torch.manual_seed(0)
    shape = dict(shape=[6], outputs=7, vocabulary=7, width=8, depth=2, heads=2, hidden=None, positions=None)
    rest = dict(bias=True, tied=True, dropout=0.0, stochastic_depth=0.0, checkpointing=False)
    return kind(**shape, **rest, **keys).eval()


def test_a_known_continuation():
    made = network()
    made.__class__ = Known
    rows = torch.tensor([[0, 9, 9, 9, 9, 9], [5, 9, 9, 9, 9, 9]], dtype=torch.int32)
    found = made.roll_out(rows, Rolling(1, 1.0), torch.Generator().manual_seed(3))
    assert found.tolist() == [[0, 1, 2, 3, 4, 5], [5, 6, 0, 1, 2, 3]] and found.dtype == torch.int32


def test_the_cache_says_what_reading_all_anew_says():
    made = network()
    rows = torch.randint(7, (4, 6), dtype=torch.int32)
    with torch.inference_mode():
        found = made.roll_out(rows, Rolling(0.3, 0.7), torch.Generator().manual_seed(1))
        draws = torch.rand((4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        anew = rows[:, :2]
        for place in range(4):
            next_ = drawn_tokens(made(anew)[:, -1], draws[:, place], 0.7)
            anew = torch.cat([anew, next_[:, None].int()], 1)
    assert found.equal(anew) and (found[:, :2] == rows[:, :2]).all()


def test_tokens_are_drawn_by_their_probabilities():
    logits = torch.tensor([[0.5, 0.2, 0.0, 0.3]]).log()
    number = torch.tensor([0.0, 0.49, 0.51, 0.69, 0.71, 0.999999])
    assert drawn_tokens(logits.expand(6, 4), number.double(), 1.0).tolist() == [0, 0, 1, 1, 3, 3]
    many = torch.rand(40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = drawn_tokens(logits.expand(len(many), 4), many, 1.0).bincount(minlength=4) / len(many)
    assert torch.allclose(shares, torch.tensor([0.5, 0.2, 0.0, 0.3]), atol=0.01) and shares[2] == 0
    sharp = torch.tensor([0.25, 0.04, 0.0, 0.09]) / 0.38  # temperature 1/2 squares them
    shares = drawn_tokens(logits.expand(len(many), 4), many, 0.5).bincount(minlength=4) / len(many)
    assert torch.allclose(shares, sharp, atol=0.01)


def test_what_is_kept_of_a_row():
    assert [Rolling(p, 1.0).kept(8) for p in (1, 5, 8, 0.25, 0.01, 0.99)] == [1, 5, 7, 2, 1, 7]
    with pytest.raises(UserError, match=r"recipe\.prompt must be"):
        Rolling(1.5, 1.0)


def test_the_share_of_rows():
    rows = torch.arange(100, 110)
    assert share_of_rows(rows, 1.0, 0).equal(rows) and len(share_of_rows(rows, 0.25, 0)) == 2
    half = share_of_rows(rows, 0.5, 1)
    assert share_of_rows(rows, 0.5, 1).equal(half) and not share_of_rows(rows, 0.5, 2).equal(half)


def test_all_that_is_drawn_is_in_the_vocabulary():
    made = network()
    prompts = torch.zeros(200, 1, dtype=torch.int32)
    found = continued(made.last_logits, prompts, 6, 1.0, torch.Generator().manual_seed(0))
    assert found.shape == (200, 6) and set(found.unique().tolist()) == set(range(7))
