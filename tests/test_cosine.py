"""loss.features=cosine: by hand, at its limits, on encoders and on other networks, and in a run."""

import json
from pathlib import Path

import pytest
import torch
from encoders import tiny_encoder
from tasks import classification
from torch import nn

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.core.types import Frozen, Parts, Shown
from kdx.methods.features.cosine import Cosine, as_states, cosine_distance
from kdx.models.encoder import encoder_small
from kdx.models.pairs import last_states
from kdx.models.pretrained_encoder import FrozenEncoder
from kdx.models.text import Bag

WORDS = "red green blue dark light sea sky grass leaf sand"
ROWS = torch.tensor([[4, 5, 6, 0, 0, 0], [9, 0, 0, 0, 0, 0]])
T = torch.tensor


def small(width=8, seed=0):
    torch.manual_seed(seed)
    keys = {"layers": 1, "heads": 2, "inner": 8, "positions": 20, "pooling": "mean"}
    return encoder_small(
        shape=(6,), outputs=2, vocabulary=14, width=width, **keys, dropout=0.0, stochastic_depth=0.0
    )


def between(student, teacher):
    example = torch.zeros(1, 6, dtype=torch.long)
    return Parts(student, lambda: student, None, [Frozen(teacher)], None, classification(2), {}, example)


def term(net, other, **keys):
    made = Cosine(
        between(net, other), **{"weight": 1.0, "of": "states", "student": "auto", "teacher": "auto", **keys}
    )
    net(ROWS)
    return made, made(Shown(ROWS, (), None, 0.0))["cosine"]


def test_the_distance_by_hand():
    """Parallel 0, at a right angle 1, opposite 2; where the teacher has no state nothing counts."""
    student = T([[[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]], [[-1.0, 0.0], [5.0, 5.0], [5.0, 5.0]]])
    teacher = T([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    assert cosine_distance(student, teacher).item() == pytest.approx((0 + 1 + 2) / 3)
    assert cosine_distance(student, 0 * teacher).item() == 0
    assert cosine_distance(7 * student, teacher) == cosine_distance(student, teacher)


def test_features_of_any_form_are_states():
    maps = torch.arange(12.0).view(1, 2, 2, 3)
    assert as_states(maps).shape == (1, 6, 2) and as_states(maps)[0, 4].tolist() == [4.0, 10.0]
    assert as_states(torch.ones(3, 5)).shape == (3, 1, 5) and as_states(torch.ones(3, 4, 5)).shape == (
        3,
        4,
        5,
    )


def test_the_last_hidden_states_are_an_encoders():
    net, example = small(), torch.zeros(1, 6, dtype=torch.long)
    assert last_states(net, example) is net.sentences.encoder
    assert last_states(Bag(14, 4, 2, 0.0), example) is not None  # its embeddings
    assert last_states(nn.Sequential(nn.Linear(3, 2)), torch.zeros(1, 3)) is None


def test_a_student_that_is_its_teacher_has_no_distance_and_another_learns_from_it():
    net, other = small(), small(seed=1)
    assert term(net, small())[1].item() == pytest.approx(0, abs=1e-6)
    made, found = term(other, net)
    assert 0 < found.item() < 2 and isinstance(made.projector, nn.Identity)
    found.backward()
    assert other.sentences.encoder.tokens.weight.grad.any() and other.head[1].weight.grad is None
    assert all(parameter.grad is None for parameter in net.parameters())
    assert term(other, net, weight=3.0)[1].item() == pytest.approx(3 * found.item(), rel=1e-5)


def test_another_width_gets_a_projector_that_is_learned():
    student, teacher = small(4), small(8)
    before = torch.random.get_rng_state()
    made, found = term(student, teacher)
    assert torch.equal(before, torch.random.get_rng_state())  # the student's noise stays what it was
    assert made.projector.weight.shape == (8, 4)
    found.backward()
    assert made.projector.weight.grad.any()
    assert [name for name, _ in made.named_parameters()] == ["projector.weight"]


def test_a_frozen_encoder_has_hidden_states(tmp_path):
    folder = tiny_encoder(tmp_path / "tiny", WORDS)
    teacher = FrozenEncoder(shape=(6,), outputs=2, vocabulary=14, path=str(folder), c=1.0)
    student = small()
    _, found = term(student, teacher)
    own, others = student.sentences.encoder(ROWS), teacher.sentences.encoder(ROWS)
    cosines = [
        torch.cosine_similarity(own[row, place], others[row, place], dim=0)
        for row, tokens in enumerate((3, 1))
        for place in range(tokens + 2)
    ]
    assert found.item() == pytest.approx(1 - torch.stack(cosines).mean().item(), rel=1e-4)


def test_what_cannot_be_compared_is_refused():
    net = small()
    for keys, says in (
        ({"student": "sentences.encodr"}, "the student has no layer 'sentences.encodr'"),
        ({"student": ["a"]}, "must be auto or the name of a layer"),
        ({"student": "sentences"}, "the student's layer has 1 of them, the teacher's 8"),
        ({"weight": -1}, "loss.features.cosine.weight must be"),
    ):
        with pytest.raises(UserError, match=says):
            term(net, small(), **keys)


def test_distilberts_three_terms_in_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tiny_encoder(tmp_path / "tiny", WORDS)
    words, lines = WORDS.split(), ["text,label"]
    for number in range(80):
        one, other = words[number % 10], words[(3 * number + number // 10) % 10]
        lines.append(f"{one} {other},{'colour' if number % 10 < 5 else 'thing'}")
    Path("own.csv").write_text("\n".join(lines) + "\n")
    asked = ["dataset=text", "dataset.root=own.csv", "dataset.length=6", "dataset.labelled=30", "device=cpu"]
    asked += ["teacher=encoder", f"teacher.path={folder}", "student=encoder_small", "student.width=8"]
    asked += ["student.heads=2", "student.inner=8", "loss=soft", "loss.features=cosine", "device.threads=1"]
    assert main(["train", *asked, "student_train.steps=2", "baseline=false", "hydra.run.dir=run"]) == 0
    run = json.loads(Path("run/run.json").read_text())
    assert run["status"] == "finished"
    seen = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    terms = [line["train/term/cosine"] for line in seen if "train/term/cosine" in line]
    assert terms and all(0 < value < 2 for value in terms)
