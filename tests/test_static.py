"""init=static: each token forwarded alone, principal components, frequencies; and what it refuses."""

import copy
import json
from pathlib import Path

import pytest
import torch
from encoders import tiny_encoder
from safetensors.torch import load_file
from torch import nn

from kdx.cli import main
from kdx.config import compose
from kdx.config.validate import inspect
from kdx.config.wire import wire
from kdx.core.beginning import Beginning
from kdx.core.errors import UserError
from kdx.core.types import Split
from kdx.methods.init import static
from kdx.methods.init.static import Static, principal_components, token_counts
from kdx.models.pretrained_encoder import FrozenEncoder
from kdx.models.text import Bag, TextCNN
from kdx.models.tokens import digest_of_vocabulary

WORDS = "red green blue dark light sea sky grass leaf sand"
LABELLED = Split("labelled", torch.tensor([[4, 5, 0, 0, 0, 0], [4, 4, 0, 0, 0, 0]], dtype=torch.int32))
POOL = Split("unlabelled", torch.tensor([[6, 5, 4, 7, 0, 0]], dtype=torch.int32))


@pytest.fixture
def teacher(tmp_path):
    folder = tiny_encoder(tmp_path / "tiny", WORDS)
    return FrozenEncoder(shape=(6,), outputs=2, vocabulary=14, path=str(folder), c=1.0).eval()


def begin(student, teacher, a=0.001):
    made = Static(a=a)
    made.check(student, teacher)
    splits = {"labelled": LABELLED, "unlabelled": POOL}
    return made(student, Beginning(teacher, splits, torch.Generator().manual_seed(0)))


def test_counts_are_of_the_tokens_that_training_may_see():
    counts = token_counts({"labelled": LABELLED, "unlabelled": POOL}, 9)
    assert counts.tolist() == [0, 0, 0, 0, 4, 2, 1, 1, 0]


def test_principal_components_by_hand():
    """Points on a line, and a little beside it."""
    points = torch.tensor([[3.0, 1.0], [-3.0, 1.0], [0.0, 1.5], [0.0, 0.5]], dtype=torch.float64)
    found, share = principal_components(points, 1)
    torch.testing.assert_close(found[:, 0], torch.tensor([3.0, -3.0, 0.0, 0.0], dtype=torch.float64))
    assert share == pytest.approx(18 / 18.5)
    whole, all_of_it = principal_components(points, 2)
    assert all_of_it == pytest.approx(1)
    torch.testing.assert_close(torch.cdist(whole, whole), torch.cdist(points, points))
    torch.testing.assert_close(principal_components(-points, 1)[0], -found)  # directions keep their sign


def test_the_table_is_the_teachers_vectors_of_single_tokens(teacher):
    """At full width and a very large a distances are the teacher's own."""
    student = Bag(14, 8, 2, 0.0)
    (said,) = begin(student, teacher, a=1e9)
    with torch.no_grad():
        vectors = teacher.sentences(torch.arange(1, 14)[:, None])
        table = student.embedding.weight[1:]
    torch.testing.assert_close(torch.cdist(table, table), torch.cdist(vectors, vectors), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(table.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
    assert not student.embedding.weight[0].any()
    assert "vectors of 13 tokens" in said and "8 principal components of 8, 100.0%" in said
    assert "over 8 tokens of the labelled and the unlabelled rows, 4 of them different" in said


def test_frequent_tokens_weigh_less(teacher):
    plain, weighed = Bag(14, 4, 2, 0.0), Bag(14, 4, 2, 0.0)
    begin(plain, teacher, a=1e9)
    begin(weighed, teacher, a=0.25)
    share = (weighed.embedding.weight[1:] / plain.embedding.weight[1:]).mean(1).tolist()
    wanted = [1.0] * 13
    wanted[3], wanted[4], wanted[5], wanted[6] = 1 / 3, 0.5, 2 / 3, 2 / 3  # 4, 2, 1 and 1 of 8 tokens
    assert share == pytest.approx(wanted, rel=1e-4)


def test_nothing_is_drawn_and_nothing_else_changes(teacher):
    torch.manual_seed(0)
    student = TextCNN(14, 4, [2], 3, 2, 0.0)
    before, kept = copy.deepcopy(student.state_dict()), copy.deepcopy(teacher.state_dict())
    begin(student, teacher)
    again = TextCNN(14, 4, [2], 3, 2, 0.0)
    begin(again, teacher)
    assert torch.equal(student.embedding.weight, again.embedding.weight)
    after = student.state_dict()
    assert [name for name in after if not torch.equal(after[name], before[name])] == ["embedding.weight"]
    assert all(torch.equal(value, kept[name]) for name, value in teacher.state_dict().items())


def test_vectors_are_remembered_of_one_encoder_and_no_other(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(static, "_REMEMBERED", {})
    forwarded = []
    own = static._forwarded
    monkeypatch.setattr(static, "_forwarded", lambda *given: (forwarded.append(1), own(*given))[1])
    one = static.token_vectors(teacher.sentences, teacher, 14)
    assert static.token_vectors(teacher.sentences, teacher, 14) is one and len(forwarded) == 1
    with torch.no_grad():
        teacher.sentences.encoder.norm.bias[0] += 1
    other = static.token_vectors(teacher.sentences, teacher, 14)
    assert not torch.equal(one, other) and len(forwarded) == 2 and len(static._REMEMBERED) == 1
    assert len(static.token_vectors(teacher.sentences, teacher, 9)) == 9


def test_what_does_not_go_together_is_refused(teacher):
    made = Static(a=0.001)
    for student, other, says in (
        (Bag(14, 9, 2, 0.0), teacher, "8 wide, and the student's embeddings have 9: set student.width=8"),
        (Bag(15, 4, 2, 0.0), teacher, "each of the student's 15 tokens .* the teacher knows 14"),
        (Bag(14, 4, 2, 0.0), Bag(14, 4, 2, 0.0), r"the teacher \(Bag\) is none: choose teacher=minilm"),
        (nn.Linear(2, 2), teacher, r"the student \(Linear\) has none such: choose student=static"),
    ):
        with pytest.raises(UserError, match=says):
            made.check(student, other)
    for network, tokenizer in ((student := Bag(14, 4, 2, 0.0), "one"), (teacher, "two")):
        network.register_buffer("vocabulary_digest", digest_of_vocabulary(tokenizer))
    with pytest.raises(UserError, match="read texts by different ones"):
        made.check(student, teacher)
    with pytest.raises(UserError, match="init.a must be"):
        Static(a=0)


# runs


@pytest.fixture
def words(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    colours, things = WORDS.split()[:5], WORDS.split()[5:]
    lines = [f"{colours[n % 5]} {things[n // 5 % 5]},{'ab'[n % 2]}" for n in range(80)]
    Path("own.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    asked = ["dataset=text", "dataset.root=own.csv", "dataset.length=6", "dataset.labelled=20", "device=cpu"]
    asked += ["device.threads=1", "student=static", "student.width=4", "student_train.steps=1"]
    return [*asked, "init=static"]


def test_a_run_begins_with_the_table_and_its_baseline_does_not(words, tmp_path):
    folder = tiny_encoder(tmp_path / "tiny", WORDS)
    own = [
        "teacher=encoder",
        f"teacher.path={folder}",
        "student_train.lr=1e-12",
        "student_train.weight_decay=0",
    ]
    assert main(["train", *words, *own, "hydra.run.dir=run"]) == 0
    run = json.loads(Path("run/run.json").read_text())
    keys = {stage["name"]: stage["key"] for stage in run["stages"]}
    tables = {}
    for name in ("student-train", "baseline-train"):
        (file,) = Path("outputs/store").glob(f"*/{keys[name]}/last.safetensors")
        tables[name] = load_file(file)["embedding.weight"]
    found = FrozenEncoder(shape=(6,), outputs=2, vocabulary=14, path=str(folder), c=1.0).eval()
    components, _ = principal_components(
        torch.cat([found.sentences(torch.tensor([[token]])) for token in range(1, 14)]).detach().double(), 4
    )
    ratio = tables["student-train"][1:] / components
    assert ratio.std(1).max() < 1e-3 and ratio.max() <= 1.001  # each row its own a / (a + frequency)
    assert tables["baseline-train"].abs().max() <= 0.2501  # uniform in 1 / width


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["teacher=bag"], "is none: choose teacher=minilm"),
        (["teacher=tfidf"], "teacher=tfidf is fitted at once, no network"),
        (["init.a=0"], "init.a must be"),
    ],
)
def test_a_run_that_cannot_begin_so_is_refused_before_work(words, more, says):
    try:
        found = inspect(wire(compose.check_words([*words, *more])))
    except UserError as error:
        found = [str(error)]
    assert any(says in text for text in found), found
