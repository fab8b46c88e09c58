"""augment=paraphrase: paraphrases of a file in the place of texts, a function of seed, row and view alone."""

import json
from pathlib import Path

import pytest
import torch

from kdx.cli import main
from kdx.config import compose
from kdx.config.validate import inspect
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.types import Split
from kdx.data.text.tokens import Tokens, encode
from kdx.data.views.chain import Chain, Views
from kdx.data.views.paraphrase import Paraphrase
from kdx.data.views.text import Swap

TEXTS = ["red sea", "blue sky", "green grass"]
OTHERS = {"red sea": ["crimson ocean", "sea of red", "ocean"], "blue sky": ["azure heaven"]}
TOKENIZER = Tokens("words", 50, 1, True, 4).of([*TEXTS, "crimson ocean of azure heaven"])
LINES = "text,paraphrase,paraphrase 2,paraphrase 3\n"
LINES += "red sea,crimson ocean,sea of red,ocean\nblue sky,azure heaven,,\n"


def rows(texts) -> torch.Tensor:
    return torch.from_numpy(encode(TOKENIZER, texts, 4)[0])


def step(path: Path, text=LINES, **keys) -> Paraphrase:
    path.write_text(text)
    return Paraphrase(file=str(path), **{"content": None, **keys})


def met(made: Paraphrase, texts=TEXTS) -> Paraphrase:
    made.meet({"tokenizer.json": TOKENIZER}, {"unlabelled": rows(texts)})
    return made


def written(tokens) -> list[str]:
    known = {number: word for word, number in json.loads(TOKENIZER)["model"]["vocab"].items()}
    return [" ".join(known[token] for token in row if token) for row in tokens.tolist()]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own.csv", LINES),
        ("own.tsv", LINES.replace(",", "\t")),
        ("own.csv", "text,paraphrase\n" + "".join(f"{t},{o}\n" for t in OTHERS for o in OTHERS[t])),
        ("own.jsonl", "".join(json.dumps({"text": t, "paraphrases": o}) + "\n" for t, o in OTHERS.items())),
    ],
)
def test_each_view_is_a_paraphrase_and_a_text_without_one_stays(tmp_path, name, text):
    made = step(tmp_path / name, text)
    said = made.meet({"tokenizer.json": TOKENIZER}, {"unlabelled": rows(TEXTS), "labelled": rows([])})
    assert said == [
        f"augment.paraphrase: 2 of 3 unlabelled rows have paraphrases in {name}; the others stay as they are"
    ]
    split, views = Split("unlabelled", rows(TEXTS)), Views(Chain([("paraphrase", made)]), seed=0)
    seen = [set() for _ in TEXTS]
    for view in range(1, 40):
        shown, mix = views(split, torch.arange(3), torch.full((3,), view))
        assert shown.dtype == torch.int32 and mix is None
        for place, text_seen in enumerate(written(shown)):
            seen[place].add(text_seen)
    assert seen == [set(OTHERS["red sea"]), set(OTHERS["blue sky"]), {"green grass"}]
    clean, _ = views(split, torch.arange(3), torch.zeros(3, dtype=torch.long))
    assert written(clean) == TEXTS


def test_it_hangs_on_seed_row_and_view_alone(tmp_path):
    made = met(step(tmp_path / "own.csv"))
    split = Split("unlabelled", rows(["red sea"] * 60))
    index, view = torch.arange(60), torch.ones(60, dtype=torch.long)
    whole, _ = Views(Chain([("paraphrase", made)]), 0)(split, index, view)
    alone = [Views(Chain([("paraphrase", made)]), 0)(split, index[i : i + 1], view[:1])[0] for i in range(60)]
    assert torch.equal(whole, torch.cat(alone))
    for seed, other in ((1, view), (0, 2 * view)):
        assert not torch.equal(Views(Chain([("paraphrase", made)]), seed)(split, index, other)[0], whole)
    counts = [written(whole).count(other) for other in OTHERS["red sea"]]
    assert sum(counts) == 60 and min(counts) > 8  # 20 each, deviation 3.7


def test_a_text_is_known_by_its_tokens(tmp_path):
    """Longer texts are cut: what a network sees as one text has its paraphrases together."""
    text = "text,paraphrase\nRed  SEA,ocean\nred sea of azure heaven,azure\n"
    made = met(step(tmp_path / "own.csv", text), ["red sea", "red sea of azure grass"])
    assert sorted(written(torch.cat(list(made._known.values())))) == ["azure", "ocean"]
    assert made._covered(rows(["red sea", "red sea of azure grass", "grass"])) == 2


def test_a_file_that_is_none_is_refused(tmp_path):
    for name, text, says in (
        (
            "own.csv",
            "a,b\n1,2\n",
            "needs a column text and one or more that begin with paraphrase; it has a, b",
        ),
        ("own.csv", "", "it has none"),
        ("own.csv", "text,paraphrase\n", "holds no row"),
        ("own.jsonl", '{"text": "a", "paraphrases": ["b"]}\n{"text": "a"}\n', "line 2: it must be an object"),
        ("own.jsonl", '{"text": "a", "paraphrases": [1]}\n', "line 1: it must be an object"),
    ):
        with pytest.raises(UserError, match=says):
            met(step(tmp_path / name, text))
    with pytest.raises(UserError, match="must end with .csv"):
        Paraphrase(file="own.txt", content=None)
    with pytest.raises(UserError, match="must name a file of paraphrases, such as own.csv; given: null"):
        Paraphrase(file=None, content=None)
    with pytest.raises(UserError, match="has changed since the run began"):
        met(step(tmp_path / "own.csv", content="0" * 64))
    (tmp_path / "own.csv").write_bytes(b"text,paraphrase\nr\xe9d,a\n")
    with pytest.raises(UserError, match="is no UTF-8: byte 17"):
        met(Paraphrase(file=str(tmp_path / "own.csv"), content=None))
    with pytest.raises(UserError, match="paraphrase knows rows by what they hold .*: name it first"):
        Chain([("swap", Swap(share=0.1)), ("paraphrase", step(tmp_path / "own.csv"))])


# runs


@pytest.fixture
def words(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    colours, things = "red blue green dark".split(), "sea sky grass leaf".split()
    lines = [f"{colours[n % 4]} {things[n // 4 % 4]} {n},{'ab'[n % 2]}" for n in range(80)]
    Path("own.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    pairs = [
        f"{line.partition(',')[0]},{things[n % 4]} {colours[n // 4 % 4]}" for n, line in enumerate(lines)
    ]
    Path("para.csv").write_text("text,paraphrase\n" + "\n".join(pairs[:40]) + "\n")
    asked = ["dataset=text", "dataset.root=own.csv", "dataset.length=6", "dataset.labelled=20", "device=cpu"]
    asked += ["dataset.min_frequency=1", "device.threads=1", "student_train.steps=8", "pseudo_label.views=2"]
    asked += ["baseline=false"]
    return [*asked, "augment=[paraphrase]", "augment.paraphrase.file=para.csv"]


@pytest.mark.slow
def test_a_run_says_how_many_rows_have_one_and_knows_the_file_by_its_content(words, capsys):
    assert main(["train", *words, "hydra.run.dir=run"]) == 0
    notes = [
        " ".join(line.split()) for line in capsys.readouterr().err.splitlines() if "paraphrases in" in line
    ]
    label = [note for note in notes if note.startswith("info: pseudo-label: ")]
    assert len(label) == 2 and "of 20 labelled rows have paraphrases in para.csv" in label[0]
    file = Path("para.csv")
    file.write_text(file.read_text().replace("sea red", "sky red"))
    assert main(["train", *words, "stages=[teacher_pretrain,pseudo_label]", "hydra.run.dir=other"]) == 0
    cached = {s["name"]: s["cached"] for s in json.loads(Path("other/run.json").read_text())["stages"]}
    assert cached["teacher-pretrain"] and not cached["pseudo-label"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["augment.paraphrase.file=null"], "augment.paraphrase.file must name a file of paraphrases"),
        (["augment.paraphrase.file=gone.csv"], "augment.paraphrase.file 'gone.csv' is no file"),
        (["augment=[swap,paraphrase]"], "paraphrase knows rows by what they hold"),
        (["dataset=digits"], "paraphrase changes texts, and this data set holds pictures"),
    ],
)
def test_what_does_not_go_together_is_refused_before_work(words, change, says):
    kept = [w for w in words if "dataset" not in w] if "dataset=digits" in change else words
    try:
        found = inspect(wire(compose.check_words([*kept, *change])))
    except UserError as error:
        found = [str(error)]
    assert any(says in text for text in found), found
