"""Language models through the command line: a teacher trained, its answers stored, a student taught by them,
measured, shown, asked again.
"""

import csv
import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from kdx.cli import main
from kdx.core.trees import joined
from kdx.pipeline.stages.arrays import build_task, open_split
from kdx.pipeline.stages.files import open_network
from kdx.store.artifact import Artifact
from kdx.training.predict import Condensing, predict
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=300)
DATA = ["dataset=corpus", "dataset.root=texts", "dataset.length=8"]
DATA += ["dataset.validation_share=0.1", "dataset.test_share=0.1"]
RUN = [*DATA, "teacher=gpt_tiny", "student=gpt_tiny", "teacher.width=16", "student.width=8"]
RUN += ["teacher.depth=1", "student.depth=1", "teacher.heads=2", "student.heads=2", "loss=token_kd"]
RUN += ["teacher_pretrain.steps=60", "student_train.steps=30", "device=cpu", "device.threads=1"]
RUN += ["teacher_pretrain.evaluate_every=60", "student_train.evaluate_every=30"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    before = Path.cwd()
    os.chdir(folder)
    draw = random.Random(0)
    Path("texts").mkdir()
    words = "the a cat dog sat ran on mat log and then it was red big".split()
    for name in "abc":
        text = " ".join(draw.choice(words) for _ in range(250))
        Path("texts", f"{name}.txt").write_text(text)
    yield folder
    os.chdir(before)


def train(to, *words):
    return main(["train", *RUN, *words, f"hydra.run.dir={to}", "store=store"])


@pytest.fixture(scope="module")
def run(place):
    assert train("runs/a", "student_train.accumulate=2") == 0
    return json.loads((place / "runs/a/run.json").read_text())


def artifact(place, run, name):
    stage = next(one for one in run["stages"] if one["name"] == name)
    kind = "train" if name == "student-train" else name
    return Artifact(kind, stage["key"], place / "store" / kind / stage["key"])


def test_the_table_is_of_bits_per_byte(run):
    results = run["results"]
    assert results["metric"]["name"] == "bits" and not results["metric"]["more"]
    assert [one["name"] for one in results["metrics"]] == [
        *("bits", "loss", "perplexity", "accuracy", "kl", "agreement", "acceptance", "ece")
    ]
    for role in ("teacher", "baseline", "student"):
        found = results[role]["last"]["test"]
        assert found["loss"] == pytest.approx(found["bits"] * math.log(2))  # each token is a byte
        assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
        assert ("kl" in found and "acceptance" in found) == (role != "teacher")
    assert results["gain"] == pytest.approx(
        results["baseline"]["last"]["test"]["bits"] - results["student"]["last"]["test"]["bits"]
    )
    assert results["floor"]["test"]["words"].startswith("the share of each token")
    assert 3 < results["floor"]["test"]["value"] < 5


def test_what_is_reported_is_what_the_answers_in_full_give(run, place):
    data = artifact(place, run, "prepare")
    task, test = build_task(data.json("data.json")), open_split(data, "test", CPU)
    teacher, student = (
        open_network(artifact(place, run, name)) for name in ("teacher-pretrain", "student-train")
    )
    said, taught = predict(student, test, CPU), predict(teacher, test, CPU)
    assert said.shape == (35, 8, 256)
    log_q, log_p = said.double().log_softmax(-1), taught.double().log_softmax(-1)
    token = test.truth["token"].long()
    reported = run["results"]["student"]["last"]["test"]
    nats = -log_q.gather(2, token[..., None]).mean().item()
    assert reported["bits"] == pytest.approx(nats / math.log(2), rel=1e-5)
    assert reported["kl"] == pytest.approx((log_p.exp() * (log_p - log_q)).sum(-1).mean().item(), rel=1e-4)
    assert reported["acceptance"] == pytest.approx(
        torch.minimum(log_p, log_q).exp().sum(-1).mean().item(), rel=1e-5
    )
    agreed = (said.argmax(-1) == taught.argmax(-1)).double().mean().item()
    assert reported["agreement"] == pytest.approx(agreed, abs=1e-7)
    kept = predict(student, test, CPU, batch=10, kept=Condensing(task, teacher.eval()))
    assert task.metrics(kept, test.known)["kl"] == pytest.approx(reported["kl"], rel=1e-5)


def test_answers_are_stored_densely_in_half_precision(run, place):
    answers, data = artifact(place, run, "pseudo-label"), artifact(place, run, "prepare")
    stored = np.load(answers.file("labelled.npy"), mmap_mode="r")
    rows = data.json("data.json")["counts"]["labelled"]
    assert stored.shape == (rows, 1, 8, 256) and stored.dtype == np.float16
    assert data.json("data.json")["counts"]["unlabelled"] == 0
    taught = predict(
        open_network(artifact(place, run, "teacher-pretrain")), open_split(data, "labelled", CPU), CPU
    )
    apart = torch.from_numpy(np.array(stored[:, 0])).float().softmax(-1) - taught.softmax(-1)
    assert apart.abs().max() < 1e-3
    assert run["results"]["teacher"]["last"]["validation"]["bits"] == pytest.approx(
        answers.json("answers.json")["validation_score"], rel=1e-3
    )


def test_each_row_is_a_window_with_its_bits(run, place):
    rows = list(csv.DictReader((place / "runs/a/predictions.csv").open()))
    test = [row for row in rows if row["split"] == "test"]
    assert len(test) == 35 and len(rows) == 70
    assert test[0]["file"].startswith("c.txt, byte ") and test[0]["truth:bytes"] == "8"
    mean = sum(float(row["value:bits"]) for row in test) / len(test)
    assert mean == pytest.approx(run["results"]["student"]["last"]["test"]["bits"], rel=1e-4)
    assert set(test[0]) == {
        *("file", "split", "truth:tokens", "truth:bytes", "value:bits", "value:loss"),
        *(f"{role}.value:{what}" for role in ("teacher", "baseline") for what in ("bits", "loss")),
    }


def test_the_report_shows_text_and_its_worst_part(run, place):
    report = (place / "runs/a/report.md").read_text()
    text = " ".join(Path("texts/c.txt").read_text().split())
    examples = report.partition("## Examples")[2].partition("## Figures")[0].splitlines()[4:]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in examples if line.startswith("|")
    ]
    assert len(cells) == 16
    for name, shown, truth, *roles in cells:
        assert shown.strip() in text and truth == "8 tokens, 8 bytes" and name.startswith("c.txt, byte ")
        for said in roles:
            bits, _, worst = said.partition(" bits/byte; worst: ")
            assert float(bits) > 0 and worst and worst in text
    assert "bits/byte" in report
    assert (place / "runs/a/figures/loss-by-place.png").is_file()
    assert (place / "runs/a/figures/reliability.png").is_file()


def test_a_stopped_run_ends_as_one_that_was_not(run, place, monkeypatch):
    from kdx.pipeline.stages.watch import Watch

    after = Watch.after

    def stopped(self, step):
        if self.work.name == "student-train" and step == 14:
            self.save(step + 1)
            raise KeyboardInterrupt
        return after(self, step)

    monkeypatch.setattr(Watch, "after", stopped)
    words = [*RUN, "student_train.accumulate=2", "store=other"]
    assert main(["train", *words, "hydra.run.dir=runs/stopped"]) == 130
    monkeypatch.setattr(Watch, "after", after)
    assert main(["train", *words, "hydra.run.dir=runs/again"]) == 0
    assert "goes on from step 15 of 30" in (place / "runs/again/train.log").read_text()
    found = json.loads((place / "runs/again/run.json").read_text())
    assert found["results"]["student"]["last"] == run["results"]["student"]["last"]


def test_other_commands_go_by_rows_too(run, place, capsys):
    assert main(["evaluate", "runs/a", "json=a.json"]) == 0
    assert "perplexity" in capsys.readouterr().out
    found = json.loads(Path("a.json").read_text())
    assert not {"kl", "agreement", "acceptance"} & found["results"]["teacher"].keys()
    for role, numbers in found["results"].items():
        known = run["results"][role]["last"]["test"]
        known = {name: value for name, value in known.items() if isinstance(value, float)}
        assert {name: numbers[name] for name in known} == known, "kl, agreement and acceptance among them"
        assert len(known) == (5 if role == "teacher" else 8)
    shown = {metric["name"] for metric in found["metrics"]}
    assert {"kl", "agreement", "acceptance"} < shown
    assert main(["predict", "runs/a", "data=validation", "to=v.csv"]) == 0
    (first, *_), rows = csv.reader(open("v.csv")), list(csv.DictReader(open("v.csv")))
    assert first == ["file", "truth:tokens", "truth:bytes", "value:bits", "value:loss"]
    mean = sum(float(row["value:bits"]) for row in rows) / len(rows)
    assert mean == pytest.approx(run["results"]["student"]["last"]["validation"]["bits"], rel=1e-4)
    capsys.readouterr()
    assert main(["predict", "runs/a", "data=validation", "to=w.csv", "top=3"]) == 2
    assert "top= and soft= are of classes" in capsys.readouterr().err


def test_keys_of_a_data_set_change_that_of_the_run(run, place, capsys):
    Path("more.txt").write_text(Path("texts/a.txt").read_text()[:600])
    named = ["dataset=corpus", "dataset.length=8", "dataset.tokens=bytes"]
    for to, words in (("own", []), ("named", named)):
        shares = ["dataset.validation_share=0.1", "dataset.test_share=0.5"]
        words = [*words, *shares, "dataset.root=more.txt", f"json={to}.json", "device=cpu"]
        assert main(["evaluate", "runs/a", *words]) == 0
    own, named = (json.loads(Path(f"{to}.json").read_text()) for to in ("own", "named"))
    assert own["data_key"] == named["data_key"] and own["results"] == named["results"]
    assert own["dataset"] == "CorpusData" and own["results"]["student"]["n"] == 37
    capsys.readouterr()
    for words in (["dataset.length=16"], ["dataset=corpus", "dataset.root=texts", "dataset.length=9"]):
        assert main(["evaluate", "runs/a", "role=student", *words]) == 2
        other = words[-1].partition("=")[2]
        assert capsys.readouterr().err.strip() == (
            f"the distilled student reads rows of 8 tokens and dataset=corpus has those of {other}: set "
            "dataset.length=8"
        )
    assert main(["evaluate", "runs/a", "dataset.rot=more.txt"]) == 2
    assert "'dataset.rot' is no key of dataset=corpus" in capsys.readouterr().err
    file = artifact(place, run, "student-train").file("last.safetensors")
    assert main(["evaluate", str(file), "dataset.root=more.txt"]) == 2
    assert capsys.readouterr().err.strip() == (
        "dataset.root=more.txt changes a data set, and none is named: add dataset=NAME, as in dataset=folder "
        "dataset.root=more.txt"
    )


def test_new_documents_are_answered_window_by_window(run, place, capsys):
    Path("new").mkdir()
    Path("new/a.txt").write_text("the cat sat on the")
    Path("new/b.txt").write_text("a")
    Path("new/c.py").write_text("print(1)  # no text to read")
    assert main(["predict", "runs/a", "data=new", "to=n.csv"]) == 0
    rows = list(csv.DictReader(open("n.csv")))
    assert [row["file"] for row in rows] == ["a.txt, byte 0", "a.txt, byte 8", "a.txt, byte 16"]
    assert [row["truth:bytes"] for row in rows] == ["8", "8", "1"]  # all 18 but the first
    network = open_network(artifact(place, run, "student-train"))
    text = torch.tensor([list(b"the cat ")])
    log_q = network(text).log_softmax(-1)[0, torch.arange(8), torch.tensor(list(b"he cat s"))]
    assert float(rows[0]["value:bits"]) == pytest.approx(-log_q.mean().item() / math.log(2), rel=1e-4)
    last = network(torch.tensor([list(b"he")])).log_softmax(-1)[0, 0, ord("e")]
    assert float(rows[2]["value:bits"]) == pytest.approx(-last.item() / math.log(2), rel=1e-4)
    assert "no second token" in Path("n.csv.unread.csv").read_text()
    capsys.readouterr()
    assert main(["predict", "runs/a", "data=new/b.txt", "to=m.csv"]) == 2
    assert "not one of 1 documents could be read; the first is 'b.txt': it has no second" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss=soft"], "loss=soft reads the probabilities of classes, and an answer here is the next token"),
        (["student=cnn_tiny"], "student=cnn_tiny reads pictures, and this data set holds tokens"),
        (["augment=[affine]"], "affine changes pictures, and this data set holds tokens: set augment=none"),
        (["dataset.class_weights=balanced"], "dataset.class_weights=balanced reads the probabilities of"),
        (["dataset.length=5000"], "the train part of the corpus has"),
        (["dataset.root=nowhere"], "'nowhere' does not exist"),
    ],
)
def test_what_does_not_go_with_tokens_is_refused_before_work(words, said, place, capsys):
    kept = [word for word in RUN if word.split(".")[0] not in ("student", "dataset")]
    own = {word.partition("=")[0] for word in words}
    kept += [word for word in RUN if word.split(".")[0] == "dataset" and word.partition("=")[0] not in own]
    assert main(["train", *kept, *words, "hydra.run.dir=runs/bad", "store=store"]) == 2
    assert said in capsys.readouterr().err
    assert not (place / "runs/bad").exists()


@pytest.mark.slow
def test_a_pool_without_truth_is_learned_from(place):
    words = ["dataset.labelled=0.5", "loss.alpha=0.5", "teacher_pretrain.steps=4", "student_train.steps=4"]
    assert train("runs/pool", *words) == 0
    run = json.loads((place / "runs/pool/run.json").read_text())
    assert run["protocol"]["counts"]["unlabelled"] > 100
    (told,) = run["audit"]["rounds"]
    assert told["metrics"]["bits"] > 1 and told["student_metrics"]["bits"] > 1


def test_stored_answers_are_put_together_under_autocast():
    """Half-precision ones, where the student computes in bfloat16, and rows come of two streams."""
    parts = [torch.ones(2, 3, dtype=torch.float16), torch.zeros(1, 3, dtype=torch.float16)]
    with torch.autocast("cpu", torch.bfloat16):
        whole = joined(parts)
    assert whole.dtype == torch.float16 and whole.tolist() == [[1.0] * 3, [1.0] * 3, [0.0] * 3]
