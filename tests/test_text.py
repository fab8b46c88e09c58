"""Texts: what lies where, the vocabulary and what it may see, networks and steps of tokens, and a run."""

import json
import pydoc_data.topics
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from kdx.cli import main
from kdx.config import compose
from kdx.config.options import options_of
from kdx.config.validate import inspect
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.types import Split
from kdx.data.datasets.text import Text
from kdx.data.datasets.wordnet import WordNet
from kdx.data.text.rows import Part, Texts
from kdx.data.text.tokens import Tokens, encode, unknown_in
from kdx.data.views.chain import Chain, Views
from kdx.data.views.draws import Draws
from kdx.data.views.text import SpanDeletion, Swap, WordDropout, only_kept
from kdx.models.estimator import check_kept
from kdx.models.text import Bag, TextAdapter, TextCNN, bag, text_cnn
from kdx.models.tfidf import LEAST_PROBABILITY, TfIdf
from kdx.pipeline.stages.decode import decode_into
from kdx.pipeline.stages.prepare import run as prepare
from kdx.store.component import Component
from kdx.store.work import Listener, Work
from kdx.tasks.classification import Classification
from kdx.training.runtime import Runtime

CPU = ["device=cpu", "device.threads=1"]
KEYS = {
    "unlabelled_root": None,
    "layout": "auto",
    "text": None,
    "label": None,
    "encoding": "utf-8",
    "on_error": "stop",
    "tokens": "words",
    "vocabulary": 1000,
    "min_frequency": 1,
    "lower": True,
    "length": 8,
    "tokenizer": None,
}
TOKENS = Tokens("words", 1000, 1, True, 6)


def loader(root, **keys) -> Text:
    return Text(root=str(root), **{**KEYS, **keys})


def write(folder: Path, texts: dict[str, str | bytes]) -> Path:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def told(tokenizer: str, rows: np.ndarray) -> list[str]:
    return TextAdapter(vocabulary=99, tokenizer=tokenizer).displayed(torch.from_numpy(rows))


# the vocabulary


def test_a_vocabulary_is_made_of_what_training_may_see():
    part = Part(["The cat, the dog", "a cat", "only here", ""], np.array([0, 1, 0, 1]), list("wxyz"))
    raw = Texts.of([("train", part)], ("p", "q"), TOKENS)
    assert raw.part("train")[0].tolist() == [0, 1, 2, 3]
    fitted = raw.fitted([np.array([0]), np.array([1])])
    read_later, labels = fitted.part("train")
    assert read_later.dtype == np.int32 and read_later.shape == (4, 6)
    assert np.array_equal(labels, part.labels)
    rows = read_later[:]
    spec, _ = fitted.adapter([])
    known = json.loads(spec["tokenizer"])["model"]["vocab"]
    assert known == {"[PAD]": 0, "[UNK]": 1, "cat": 2, "the": 3, ",": 4, "a": 5, "dog": 6}
    assert spec["vocabulary"] == 7
    assert rows[:3].tolist() == [[3, 2, 4, 3, 6, 0], [5, 2, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert told(spec["tokenizer"], rows) == ["the cat , the dog", "a cat", "[UNK] [UNK]", ""]
    notes, found = fitted.look({"labelled": rows[:2], "test": rows[2:]}, lambda split, row: f"{split} {row}")
    assert found["texts"] == {
        "vocabulary": 7,
        "vocabulary_of": "the labelled texts and those of the pool",
        "unknown": {"labelled": 0.0, "test": 1.0},
        "lengths": [0, 2, 5],
        "cut": 0,
        "empty": 1,
        "none_known": 1,
    }
    text = " ".join(note for note, _ in notes)
    assert "none of validation or test; 100.0% of the test tokens are unknown" in text
    assert "1 of 4 texts is empty (test 1)" in text
    assert "1 of 4 texts is made of unknown tokens alone (test 0)" in text


def test_a_vocabulary_of_private_texts_is_said_to_be_of_the_pool_alone():
    raw = Texts.of([("train", Part(["a b", "a a"], np.array([0, 1]), list("xy")))], ("p", "q"), TOKENS)
    fitted = raw.fitted([np.array([1])], labelled=False)
    notes, found = fitted.look({"test": fitted.part("train")[0][:]}, lambda split, row: f"{split} {row}")
    assert found["texts"]["vocabulary_of"] == "the texts of the pool alone"
    text = " ".join(note for note, _ in notes)
    assert "of the texts of the pool alone, none of validation or test" in text and "labelled" not in text


def test_texts_are_read_as_a_network_reads_them():
    raw = Texts.of([("train", Part(["b b a"], np.array([0]), ["x"]))], ("p", "q"), TOKENS)
    like = {"tokenizer": TOKENS.of(["a c"])}
    assert raw.fitted([np.array([0])], like).part("train")[0][:].tolist() == [[1, 1, 2, 0, 0, 0]]


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_it_is_the_same_each_time_and_holds_no_more_than_asked(kind):
    texts = [line for line in pydoc_data.topics.topics["assignment"].splitlines() if line.strip()]
    settings = Tokens(kind, 280, 2, True, 8)
    tokenizer = settings.of(texts)
    assert tokenizer == settings.of(texts)
    rows, lengths = encode(tokenizer, texts, 8)
    assert rows.max() < 280 and (rows != 0).sum(1).max() == 8 < lengths.max()
    assert np.array_equal((rows != 0).sum(1), np.minimum(lengths, 8))
    if kind == "words":
        words = Counter(re.findall(r"\w+|[^\w\s]+", " ".join(texts).lower()))
        frequent = [word for word, count in words.most_common(278) if count > 1]
        known = json.loads(tokenizer)["model"]["vocab"]
        assert {*known} - {"[PAD]", "[UNK]"} == {*frequent} and (rows == unknown_in(tokenizer)).any()
    else:
        assert unknown_in(tokenizer) is None and 1 not in rows
    assert told(tokenizer, rows[:1])[0].replace(" ", "") in texts[0].lower().replace(" ", "")


def test_a_tokenizer_of_a_file_is_taken_as_it_is(tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_text(Tokens("words", 9, 1, True, 30).of(["red green"]))
    tokenizer = Tokens("bpe", 3, 1, False, 2, file).of_file()
    assert encode(tokenizer, ["Red green blue"], 2)[0].tolist() == [[3, 2]]
    described = json.loads(tokenizer)
    assert described["truncation"]["max_length"] == 2 and described["padding"]["pad_id"] == 0
    for change, says in (
        ({"added_tokens": []}, "the token 0 of"),
        ({"model": {**described["model"], "dropout": 0.1}}, "leaves out merges at random"),
        ({"model": 3}, "is no tokenizer.json"),
        ({"model": {}}, "is no tokenizer.json"),
    ):
        file.write_text(json.dumps({**described, **change}))
        with pytest.raises(UserError, match=re.escape(says)):
            Tokens("words", 9, 1, True, 2, file).check_file()


# what lies where


def test_a_folder_for_each_class(tmp_path):
    write(
        tmp_path,
        {"b/1.txt": " one \n", "b/deep/2.TXT": "two", "a/3.txt": "", "a/x.html": "x", ".h/4.txt": "h"},
    )
    found = loader(tmp_path)
    assert sorted(found.files()["train"]) == [
        ("a/3.txt", tmp_path / "a/3.txt"),
        ("b/1.txt", tmp_path / "b/1.txt"),
        ("b/deep/2.TXT", tmp_path / "b/deep/2.TXT"),
    ]
    assert found.files().notes[0][0] == (
        f"left out: 1 file in the classes of '{tmp_path}' whose names do not end with .txt or .text: 1 .html "
        "(a/x.html)"
    )
    about, raw = found.describe(), found.load()
    assert about.classes == ("a", "b") and (about.train, about.strata, about.test) == (3, (1, 2), None)
    assert raw.labels["train"].tolist() == [0, 1, 1] and raw.texts == ("", "one", "two")
    assert raw.name("train", 2) == "b/deep/2.TXT"


def test_imdbs_layout(tmp_path):
    texts = {
        f"{part}/{kind}/{i}.txt": f"{part} {kind} {i}"
        for part in ("train", "test")
        for kind in "np"
        for i in "01"
    }
    write(tmp_path, texts | {"train/unsup/7.txt": "who knows", "train/urls_pos.txt": "http"})
    raw = loader(tmp_path).load()
    assert raw.classes == ("n", "p") and {name: len(rows) for name, rows in raw.numbers.items()} == {
        "train": 4,
        "test": 4,
        "unlabelled": 1,
    }
    assert raw.texts[raw.numbers["unlabelled"][0]] == "who knows" and raw.part("unlabelled")[1] is None
    about = loader(tmp_path).describe()
    assert (about.test, about.pool, about.test_size_is_a_fallback) == (4, 1, True)
    # where these are the classes
    assert loader(tmp_path, layout="classes").describe().classes == ("test", "train")


ROWS = [("fine", "yes"), ("bad", "no"), ("who", None), ("", "yes")]


def test_texts_of_one_name_in_folder_and_pool_are_told_apart(tmp_path):
    write(tmp_path / "own", {"no/1.txt": "bad", "yes/1.txt": "fine"})
    pool = write(tmp_path / "pool", {"no/1.txt": "who", "2.txt": "knows"})
    raw = loader(tmp_path / "own", unlabelled_root=str(pool)).load()
    assert [raw.name("train", row) for row in (0, 1)] == ["no/1.txt", "yes/1.txt"]
    assert {raw.name("unlabelled", row) for row in (0, 1)} == {"unlabelled/no/1.txt", "unlabelled/2.txt"}
    write(tmp_path / "own", {"rows.csv": "text,label\nbad,no\nfine,yes\n"})
    write(tmp_path / "pool", {"rows.csv": "text\nwho\n"})
    raw = loader(tmp_path / "own/rows.csv", unlabelled_root=str(tmp_path / "pool/rows.csv")).load()
    assert raw.name("train", 0) == "row 1 of rows.csv"
    assert raw.name("unlabelled", 0) == "row 1 of unlabelled/rows.csv"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_file_of_columns(tmp_path, kind):
    file = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        columns = {"id": [1, 2, 3, 4], "review": [t for t, _ in ROWS], "sentiment": [c for _, c in ROWS]}
        parquet.write_table(pyarrow.table(columns), file)
    elif kind == "jsonl":
        file.write_text("".join(json.dumps({"review": t, "sentiment": c}) + "\n" for t, c in ROWS))
    else:
        mark = {"csv": ",", "tsv": "\t"}[kind]
        file.write_text("".join(mark.join((t, c or "")) + "\n" for t, c in [("review", "sentiment"), *ROWS]))
    raw = loader(file).load()
    assert raw.classes == ("no", "yes") and raw.labels["train"].tolist() == [1, 0, 1]
    assert [raw.texts[i] for i in raw.numbers["train"]] == ["fine", "bad", ""]
    assert [raw.texts[i] for i in raw.numbers["unlabelled"]] == ["who"]
    assert raw.name("unlabelled", 0) == f"row 3 of rows.{kind}"
    said = [text for text, _ in raw.notes]
    assert said[0] == "texts are in the column 'review', classes in 'sentiment'"
    assert said[1] == "1 row without a class is the pool"
    assert loader(file).files()["train"] == [(kind, file)]


def test_texts_laid_down_are_those_in_memory(tmp_path):
    """As `decode` takes them: letters go to a file, what comes back is the same, one by one and by slice."""
    from kdx.data.stored import OnDisk
    from kdx.data.words import StoredTexts

    rows = [(f"text {k % 700} \u00e9" if k % 9 else "", [None, "a", "b"][k % 3]) for k in range(2000)]
    columns = {"text": [t for t, _ in rows], "label": [c for _, c in rows]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=300)
    held = loader(tmp_path / "a.parquet").load()

    def write_letters(part, most, shape, dtype):
        return OnDisk(tmp_path / f"{part}.npy", shape, dtype)

    laid = loader(tmp_path / "a.parquet").load(write=write_letters)
    assert isinstance(laid.texts, StoredTexts) and tuple(laid.texts) == held.texts
    assert laid.texts[-3:] == list(held.texts[-3:]) and laid.texts[-1] == held.texts[-1]
    for part in ("train", "unlabelled"):
        assert np.array_equal(laid.numbers[part], held.numbers[part])
        assert list(laid.names[part]) == list(held.names[part])
    assert [held.texts[i] for i in held.numbers["train"]] == [t for t, c in rows if c]
    assert held.name("train", 2) == "row 5 of a.parquet"
    described = loader(tmp_path / "a.parquet").describe()
    assert (described.train, described.pool, described.strata) == (1333, 667, (667, 666))
    seen = [held.numbers["train"][:50]]
    for one, other in zip(
        *(raw.fitted(seen).part("train")[0].blocks(999) for raw in (held, laid)), strict=True
    ):
        assert np.array_equal(one, other)
    rows = held.fitted(seen).part("train")[0]
    assert np.array_equal(rows.take(np.array([5, 1]))[:], rows[[5, 1]])
    assert np.array_equal(rows.and_then(rows.take(np.array([3])))[-1], rows[3])


class Heard(Listener):
    def __init__(self):
        self.notes = []

    def note(self, name, text, level):
        self.notes.append((text, level))


def test_empty_texts_are_one_warning(tmp_path):
    """15 empty ones in several classes and splits are no copies of each other; two equal ones are."""
    lines = [f"{'' if k % 4 == 0 else f'word{max(k, 3)} common'},{'ab'[k % 3 == 0]}\n" for k in range(60)]
    root = write(tmp_path, {"t.csv": "text,label\n" + "".join(lines)}) / "t.csv"
    dataset = Component({"_target_": "kdx.data.datasets.text.Text", "root": str(root), **KEYS})
    runtime = Runtime(
        device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=0
    )
    decoded = decode_into(tmp_path / "decode", dataset, runtime)
    (tmp_path / "prepare").mkdir()
    sizes = {"labelled": 30, "unlabelled": None, "validation": 10, "test": 12}
    work = Work(tmp_path / "prepare", "prepare", heard := Heard())
    prepare(work, runtime, decoded=decoded, dataset=dataset, duplicates="warn", seed=0, **sizes)
    (empty,) = [(text, level) for text, level in heard.notes if "empty" in text]
    assert re.fullmatch(
        r"15 of 60 texts are empty \((row \d+ of t\.csv,? ){3}and 12 more\): there "
        r"is nothing to learn from in them",
        empty[0],
    )
    assert empty[1] == "warning"
    found = json.loads((tmp_path / "prepare/data.json").read_text())
    copies = found["duplicates"]
    assert copies["in_several_classes"] == 1, "word3 common, of rows 2, 3 and 4"
    assert sum(copies["copies"].values()) <= 2 and copies["test_in_validation"] <= 3
    assert found["texts"]["empty"] == 15 and found["texts"]["lengths"] == [0, 2, 2]


def test_a_file_for_each_part_and_a_pool_of_its_own(tmp_path):
    for name in ("train", "test"):
        write(tmp_path, {f"{name}.csv": f"text,label\n{name} a,10\n{name} b,9\n"})
    write(tmp_path, {"unlabelled.csv": "text,other\nc,1\n"})
    more = write(tmp_path.parent / "more", {"x/d.txt": "d", "e.txt": "e"})
    raw = loader(tmp_path, unlabelled_root=str(more)).load()
    assert raw.classes == ("9", "10")  # as numbers
    assert raw.labels["test"].tolist() == [1, 0]
    assert [raw.texts[i] for i in raw.numbers["unlabelled"]] == ["c", "e", "d"]


@pytest.mark.parametrize(
    ("texts", "keys", "says"),
    [
        ({"t.csv": "text,label\n1,a\n2,b\n"}, {}, "the column 'text' of '{}/t.csv' holds numbers (1, say)"),
        ({"t.csv": "words,label\nx,a\ny,b\n"}, {}, "set dataset.text=COLUMN; there are words, label"),
        ({"t.csv": "text,kind\nx,a\ny,b\n"}, {}, "set dataset.label=COLUMN; there are text, kind"),
        (
            {"t.csv": "text,label\nx,a\ny,b\n"},
            {"label": "lable"},
            "has no such column: it has text, label; did you mean 'label'?",
        ),
        ({"t.csv": ""}, {}, "t.csv' is empty: it has no columns"),
        (
            {"t.csv": "text,label\nx,a\ny,b\n"},
            {"encoding": "latin-1"},
            "dataset.encoding=latin-1 is that of .txt files, and '{}/t.csv' is a file of columns",
        ),
        ({"t.csv": "text,label\nx,a\ny,a\n"}, {}, "names 1 class, and two are needed"),
        ({"t.csv": "text,label\nx,a\ny,b\n"}, {"label": "text"}, "both name 'text'"),
        ({"t.csv": b"text,label\nx,a\ncaf\xe9,b\n"}, {}, "is not UTF-8: line 3 has the byte 0xe9"),
        ({"a/1.txt": b"caf\xe9", "b/1.txt": "x"}, {}, "a/1.txt' is not UTF-8: its byte 3 is 0xe9"),
        ({"a/1.txt": "x"}, {}, "holds one folder, a/, and dataset=text needs"),
        (
            {"a/1.png": "x", "b/1.png": "x"},
            {},
            "there are pictures (a/1.png, b/1.png), which dataset=folder reads",
        ),
        (
            {"train/a/1.txt": "x", "train/b/1.txt": "x", "test/c/1.txt": "x"},
            {},
            "a class that the part to train",
        ),
        ({"test/a/1.txt": "x", "test/b/1.txt": "x"}, {}, "holds test/, and no train/"),
        ({"a.csv": "text,label\nx,a\n", "b.csv": "text,label\nx,a\n"}, {}, "none is called train"),
        ({"x.jpg": "x"}, {}, "holds no folders"),
    ],
)
def test_what_cannot_be_read_is_reported_in_a_sentence(tmp_path, texts, keys, says):
    write(tmp_path, texts)
    root = tmp_path / "t.csv" if "t.csv" in texts else tmp_path
    with pytest.raises(UserError) as error:
        loader(root, **keys).load()
    assert says.replace("{}", str(tmp_path)) in str(error.value)


def test_words_of_a_parquet_file_that_are_no_letters_are_reported(tmp_path):
    """It promises UTF-8, and nobody checks what is written into it."""
    letters = pyarrow.py_buffer(b"acaf\xe9"), pyarrow.py_buffer(np.array([0, 1, 5], np.int32).tobytes())
    words = pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, *letters[::-1]])
    good = pyarrow.array(["x", "y"])
    for name, columns in (("text", [words, good]), ("label", [good, words])):
        parquet.write_table(pyarrow.table(columns, names=["text", "label"]), tmp_path / "a.parquet")
        with pytest.raises(UserError, match=f"a.parquet' is not UTF-8: its column '{name}' holds bytes"):
            loader(tmp_path / "a.parquet").load()


def test_rows_without_a_class_are_the_pool_and_of_no_other_part(tmp_path):
    lines = "text,label\na,x\nb,\nc,y\nd,NA\n,x\n"
    write(tmp_path, {"train.csv": lines, "test.csv": "text,label\na,x\nb,\n"})
    raw = loader(tmp_path).load()
    assert {name: len(rows) for name, rows in raw.numbers.items()} == {"train": 3, "test": 1, "unlabelled": 2}
    said = [text for text, _ in raw.notes]
    assert sorted(said)[:2] == [
        "1 row of the test part has no class, and is left out",
        "2 rows without a class are the pool",
    ]
    described = loader(tmp_path).describe()
    assert (described.train, described.test, described.pool) == (3, 1, 2)


def test_texts_of_another_encoding_are_read_or_skipped(tmp_path):
    write(tmp_path, {"a/1.txt": b"caf\xe9", "a/2.txt": "x", "b/1.txt": b"\xef\xbb\xbfmarked"})
    assert loader(tmp_path, encoding="latin-1").load().texts[0] == "café"
    raw = loader(tmp_path, on_error="skip").load()
    assert raw.skipped == {"a/1.txt": "it is not UTF-8: its byte 3 is 0xe9"} and raw.texts == ("x", "marked")
    assert loader(tmp_path, on_error="skip").describe().train == 2
    with pytest.raises(UserError, match="dataset.encoding must be an encoding"):
        loader(tmp_path, encoding="utf-9")


def test_a_text_that_cannot_be_read_is_named_or_skipped(tmp_path):
    write(tmp_path, {"a/1.txt": "one", "a/2.txt": "x", "b/1.txt": "two"})
    (tmp_path / "b/lost.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="b/lost.txt' cannot be read: No such file.*dataset.on_error=skip"):
        loader(tmp_path).load()
    raw = loader(tmp_path, on_error="skip").load()
    assert raw.skipped == {"b/lost.txt": "it cannot be read: No such file or directory"}
    assert raw.texts == ("one", "x", "two")
    assert loader(tmp_path, on_error="skip").describe().train == 3


def test_wordnets_glosses(tmp_path):
    lines = ["  1 licence"]
    for number, (kind, gloss) in enumerate(
        [("05", "a fish"), ("05", 'a bird; "it flew"'), ("05", "a fish"), ("20", "a tree"), ("20", "a moss")]
        + [("13", "a soup"), ("05", "of both"), ("20", "of both")]
    ):
        lines.append(f"0000{number} {kind} n 01 noun{number} 0 000 | {gloss}  ")
    write(tmp_path, {"data.noun": "\n".join(lines) + "\n"})
    keys = {key: KEYS[key] for key in ("tokens", "vocabulary", "min_frequency", "length", "tokenizer")}
    raw = WordNet(root=str(tmp_path), least=2, **keys).load()
    assert raw.classes == ("animal", "plant") and raw.texts == ("a fish", "a bird", "a tree", "a moss")
    assert raw.labels["train"].tolist() == [0, 0, 1, 1] and raw.name("train", 1) == "noun1"
    with pytest.raises(UserError, match="wordnet-base"):
        WordNet(root=str(tmp_path / "none"), least=2, **keys).describe()
    write(tmp_path, {"data.noun": "nothing of the kind\n"})
    with pytest.raises(UserError, match="line 1 is none of WordNet's"):
        WordNet(root=str(tmp_path), least=2, **keys).describe()


# networks


def test_a_bag_is_the_mean_of_its_tokens():
    torch.manual_seed(0)
    net = bag(shape=(5,), outputs=3, vocabulary=9, width=4, dropout=0.5, stochastic_depth=0.0).eval()
    weights = net.embedding.weight
    assert weights[0].eq(0).all() and 0 < weights.abs().max() <= 1 / 4
    tokens = torch.tensor([[2, 5, 5, 0, 0], [0, 0, 0, 0, 0], [5, 2, 5, 0, 0]], dtype=torch.int32)
    by_hand = net.head(net.norm((weights[2] + 2 * weights[5]) / 3))
    found = net(tokens)
    assert torch.allclose(found[0], by_hand, atol=1e-6) and torch.equal(found[0], found[2])
    assert torch.allclose(found[1], net.head(net.norm(torch.zeros(4))), atol=1e-6)
    assert torch.allclose(net(tokens[:, :3]), found, atol=1e-6)  # padding says nothing


def test_a_text_cnn_takes_the_largest_of_each_convolution():
    torch.manual_seed(0)
    net = TextCNN(9, 4, (2,), 3, 2, 0.0).eval()
    x = net.embedding(torch.tensor([[3, 4, 5]]))[0]
    conv = net.stage1[0]
    said = torch.stack([(conv.weight * x[i : i + 2].T).sum((1, 2)) + conv.bias for i in (0, 1)])
    assert torch.allclose(net(torch.tensor([[3, 4, 5]])), net.head(said.relu().amax(0)[None]), atol=1e-6)
    keys = {"shape": (4,), "outputs": 2, "vocabulary": 9, "width": 4, "maps": 3, "dropout": 0.0}
    for kernels, says in (([5], "a kernel of 5 tokens, and rows have 4"), (3, "a list"), ([0], "at least 1")):
        with pytest.raises(UserError, match=says):
            text_cnn(**keys, kernels=kernels, stochastic_depth=0.0)


def test_tfidf_is_that_of_scikit_learn_on_tokens_and_is_kept():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    tokens = torch.randint(1, 9, (30, 6), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    tokens[:, 4:] = 0
    truth = (tokens[:, 0] % 2).long() * 2  # no text of the class 1
    keys = {"shape": (6,), "outputs": 3, "vocabulary": 9, "ngrams": 2, "c": 4.0}
    net = TfIdf(**keys)
    net.fit(tokens, truth, Classification(classes=("a", "b", "c")))
    said = net(tokens)
    words = [" ".join(f"w{t}" for t in row if t) for row in tokens.tolist()]
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(words)
    theirs = LogisticRegression(C=4.0, max_iter=1000).fit(features, truth).predict_proba(features)
    assert np.allclose(said[:, [0, 2]].exp().numpy(), theirs, atol=1e-4)
    assert torch.allclose(said[:, 1].exp(), torch.tensor(LEAST_PROBABILITY)) and said.dtype == torch.float32
    check_kept(net, TfIdf(**keys), tokens[:4])
    with pytest.raises(UserError, match="no labelled text holds a token"):
        TfIdf(**keys).fit(tokens * 0, truth, Classification(classes=("a", "b", "c")))


@pytest.mark.parametrize(
    "make", [lambda: Bag(9, 4, 2, 0.0), lambda: TfIdf(shape=(6,), outputs=2, vocabulary=9, ngrams=1, c=1.0)]
)
def test_weights_of_another_vocabulary_are_refused(make):
    here, there, unknown = (
        TextAdapter(vocabulary=9, tokenizer=text).wrap(make(), (6,)) for text in ("one", "two", None)
    )
    state = here.state_dict()
    with pytest.raises(UserError, match="another vocabulary"):
        there.load_state_dict(state)
    unknown.load_state_dict(state)  # before any work nobody knows it
    again = TextAdapter(vocabulary=9, tokenizer="one").wrap(make(), (6,))
    again.load_state_dict(state)
    assert torch.equal(again.vocabulary_digest, here.vocabulary_digest)


def test_a_few_numbers_tell_of_a_row():
    small = TextAdapter(vocabulary=99, tokenizer=None).small(torch.tensor([[1, 65, 2, 0], [0, 0, 0, 0]]))
    assert small.shape == (2, 64) and small[0, 1] == pytest.approx(2 / 3) and small.sum() == pytest.approx(1)


# augmentation

X = torch.tensor([[4, 5, 6, 7, 8, 0], [9, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.int32)


def draws(rows: int, view: int = 1) -> Draws:
    return Draws(0, "labelled", torch.arange(rows), torch.full((rows,), view))


def test_what_is_left_moves_together():
    keep = torch.tensor([[1, 0, 1, 0, 1, 0]]).bool()
    assert only_kept(X[:1], keep).tolist() == [[4, 6, 8, 0, 0, 0]]


@pytest.mark.parametrize("view", range(1, 9))
def test_steps_leave_out_or_change_places_and_leave_a_token(view):
    for step in (WordDropout(rate=0), Swap(share=0), SpanDeletion(share=0)):
        assert torch.equal(step(X, draws(3, view), "op"), X)
    none = WordDropout(rate=1)(X, draws(3, view), "op")
    assert (none != 0).sum(1).tolist() == [1, 1, 0] and none[0, 0] in X[0]
    some = [t for t in WordDropout(rate=0.5)(X, draws(3, view), "op")[0].tolist() if t]
    assert some == [t for t in X[0].tolist() if t in some]
    turned = Swap(share=0.4)(X, draws(3, view), "op")
    assert turned.sort(1).values.equal(X.sort(1).values) and turned[:, 5].eq(0).all()
    assert (turned != X).sum(1).le(4).all() and torch.equal(turned[1:], X[1:])
    span = [t for t in SpanDeletion(share=0.4)(X, draws(3, view), "op")[0].tolist() if t]
    assert (
        len(span) == 3
        and [4, 5, 6, 7, 8][
            (
                start := next(
                    i
                    for i in range(4)
                    if [*range(4, 9)][:i] == span[:i] and [*range(4, 9)][i + 2 :] == span[i:]
                )
            )
            + 2 :
        ]
        == span[start:]
    )
    assert (SpanDeletion(share=1)(X, draws(3, view), "op") != 0).sum(1).tolist() == [1, 1, 0]


def test_a_view_of_a_text_is_the_same_in_any_batch():
    many = torch.randint(1, 50, (40, 9), dtype=torch.int32)
    many[::3, 5:] = 0
    steps = [
        ("word_dropout", WordDropout(rate=0.3)),
        ("swap", Swap(share=0.3)),
        ("span", SpanDeletion(share=0.2)),
    ]
    views, split = Views(Chain(steps), 3), Split("labelled", many)
    index, view = torch.arange(40), torch.arange(40) % 4
    whole, _ = views(split, index, view)
    one_by_one = torch.cat([views(split, index[i : i + 1], view[i : i + 1])[0] for i in range(40)])
    assert whole.dtype == torch.int32 and torch.equal(whole, one_by_one)
    assert torch.equal(whole[view == 0], many[view == 0]) and not torch.equal(whole, many)


# all of kdx on texts


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Real sentences: Python's help on its statements, and what numpy says of its functions."""
    topics = " ".join(pydoc_data.topics.topics.values())
    numpy_says = " ".join(str(getattr(np, name).__doc__) for name in dir(np) if callable(getattr(np, name)))
    folder = tmp_path_factory.mktemp("texts")
    lines = []
    for label, text in (("python", topics), ("numpy", numpy_says)):
        sentences = list(dict.fromkeys(" ".join(s.split()) for s in re.split(r"(?<=[a-z]\.)\s", text)))
        chosen = [s for s in sentences if 30 < len(s) < 200][:160]
        assert len(chosen) == 160
        lines += [json.dumps({"text": s, "label": label if i < 120 else None}) for i, s in enumerate(chosen)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def words_for(corpus: Path) -> list[str]:
    sizes = ["dataset.length=24", "dataset.labelled=40", "dataset.validation=40", "dataset.test=80"]
    return [*CPU, "dataset=text", f"dataset.root={corpus / 'rows.jsonl'}", *sizes]


RULES = options_of("select")


@pytest.mark.parametrize("loss", options_of("loss"))
def test_every_loss_and_rule_passes_the_checks_on_texts(corpus, loss):
    """They read answers, and not what a row is; what is refused is so for another reason than texts."""
    rule = RULES[options_of("loss").index(loss) % len(RULES)]
    needs = {
        "vid": ["teacher=text_cnn", "student=text_cnn"],
        "ups": ["teacher=bag"],
        "fixmatch": ["student_train.strong_augment=[span_deletion]"],
        "noisy_student": ["teacher=bag"],  # their teacher is what a student is
        "self_training": ["teacher=bag"],
        "adversarial_kd": ["loss.epsilon=0"],  # it moves levels, and tokens have none
        "lwf": ["recipe.sessions=2", "recipe.heads=single"],  # as many sessions as there are classes
    }
    words = [*words_for(corpus), f"loss={loss}", "augment=[word_dropout]", *needs.get(loss, [])]
    if loss in ("soft", "hard", "weighted", "slam"):
        words.append(f"select={rule}")
    errors = inspect(wire(compose.check_words(words)))
    numeric = "reads numbers, and an answer here is one class of several"
    if loss in ("teacher_bounded", "heteroscedastic"):
        assert errors and all(numeric in error for error in errors)
    elif loss == "pseudo_boxes":
        assert ["reads boxes with a class each" in error for error in errors] == [True]
    elif loss == "distillation_token":  # which vision transformers alone have
        assert "choose one that reads texts, such as student=bag (loss=distillation_token takes" in errors[0]
    else:
        assert errors == []


@pytest.mark.parametrize(
    ("words", "whose"),
    [
        (
            "loss=self_training",
            " (loss=self_training makes the student what the teacher is, unless student= names another)",
        ),
        ("student=tfidf", ""),
        ("student=tfidf teacher=bag loss=self_training", ""),
    ],
)
def test_a_student_that_the_loss_brought_is_said_to_be_so(corpus, words, whose):
    errors = inspect(wire(compose.check_words([*words_for(corpus), *words.split()])))
    assert errors == [
        "student=tfidf is fitted at once, and not trained by steps: it can be a teacher, not a student; "
        f"choose one that reads texts, such as student={'encoder_small' if 'bag' in words else 'bag'}{whose}"
    ]


def test_of_data_that_cannot_be_read_no_network_is_named(tmp_path):
    words = ["dataset=text", f"dataset.root={tmp_path / 'nowhere'}", "loss=noisy_student", "augment=none"]
    (said,) = [error for error in inspect(wire(compose.check_words(words))) if "student" in error]
    assert said.endswith(
        "not a student; choose another with student= (loss=noisy_student makes the student what the teacher "
        "is, unless student= names another)"
    )


def test_a_run_on_texts_from_the_command_line(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = [
        "student_train.steps=60",
        "student_train.lr=0.01",
        "augment=[word_dropout]",
        "pseudo_label.views=2",
    ]
    assert main(["train", *words_for(corpus), *short, "hydra.run.dir=run"]) == 0
    run = json.loads(Path("run/run.json").read_text())
    results = run["results"]
    assert results["teacher"]["model"] == "tfidf" and results["student"]["model"] == "bag"
    assert min(results[role]["last"]["test"]["accuracy"] for role in ("teacher", "student")) > 0.7
    assert run["audit"]["rounds"][0]["kept"] == 160
    data = json.loads(next(Path("outputs/store/prepare").glob("*/data.json")).read_text())
    assert data["counts"] == {"labelled": 40, "unlabelled": 160, "validation": 40, "test": 80}
    assert data["example"] == {"": [[24], "int32"]} and data["reads"] == "texts"
    report = Path("run/report.md").read_text()
    shown = report.partition("## Examples")[2].partition("\n## ")[0]
    assert "| test row | text | truth | teacher |" in shown and "| numpy |" in shown
    # measured on other texts by its own vocabulary, and exported with it
    other = tmp_path / "other.csv"
    other.write_text(
        "text,label\n" + "an array of numbers is returned,numpy\nthe assignment statement,python\n" * 10
    )
    capsys.readouterr()
    more = [
        "dataset=text",
        f"dataset.root={other}",
        "dataset.length=24",
        "dataset.test=0.5",
        "dataset.labelled=4",
    ]
    assert main(["evaluate", "run", *more, "dataset.validation=null", "device=cpu", "json=found.json"]) == 0
    found = json.loads(Path("found.json").read_text())
    assert found["results"]["student"]["accuracy"] >= 0.5 and found["results"]["student"]["n"] == 10
    unknown = "of the test tokens are unknown in the vocabulary that the network learned with"
    own = data["texts"]["unknown"]["test"]
    assert not [note for note in found["notes"] if unknown in note]
    other.write_text("text,label\n" + "qqzz wwyy an array,numpy\nqqzz wwyy an array of,python\n" * 10)
    assert main(["evaluate", "run", *more, "dataset.validation=null", "device=cpu", "json=found.json"]) == 0
    (note,) = [note for note in json.loads(Path("found.json").read_text())["notes"] if unknown in note]
    assert 40 <= float(note.partition("%")[0]) <= 50 and f"and of the run's own {own:.1%}" in note
    assert main(["evaluate", "run", *more[:2], "dataset.length=30", "device=cpu"]) == 2
    other = "read rows of 24 tokens and dataset=text has those of 30: set dataset.length=24"
    assert other in " ".join(capsys.readouterr().err.split())
    assert main(["export", "run", "to=exported"]) == 0
    tokenizer = Path("exported/tokenizer.json").read_text()
    assert tokenizer == data["adapter"]["tokenizer"]
    assert main(["export", "run", "to=exported", "format=state_dict"]) == 0  # over an earlier one
    capsys.readouterr()
    assert main(["export", "run", "to=other", "role=teacher"]) == 2
    assert "this teacher was fitted at once" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["teacher=cnn"],
            "teacher=cnn reads pictures, and this data set holds texts: choose one that reads texts, such as "
            "teacher=bag",
        ),
        (["augment=affine"], "affine changes pictures, and this data set holds texts"),
        (["student=tfidf"], "fitted at once, and not trained by steps"),
        (
            ["teacher=tfidf", f"teacher.checkpoint={__file__}"],
            "tfidf is fitted at once, from nothing: leave it out",
        ),
    ],
)
def test_what_is_for_pictures_is_refused_on_texts(corpus, words, says):
    assert any(says in error for error in inspect(wire(compose.check_words([*words_for(corpus), *words]))))


def test_what_is_for_texts_is_refused_on_pictures():
    words = [*CPU, "dataset=digits", "augment=[swap]", "student=bag"]
    errors = " ".join(inspect(wire(compose.check_words(words))))
    assert "swap changes texts, and this data set holds pictures" in errors
    assert (
        "student=bag reads texts, and this data set holds pictures: choose one that reads pictures, such as "
        "student=cnn_small" in errors
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["loss=mean_teacher"],
        ["loss=slam", "validation_labels=true", "select=balanced"],
        ["loss=weighted", "ceiling=true"],
        ["loss=noisy_student", "teacher=text_cnn", "student=text_cnn", "rounds=2"],
        ["loss=fixmatch", "student_train.strong_augment=[span_deletion]"],
        ["loss=vid", "teacher=text_cnn", "student=text_cnn"],
        ["select=rad", "rounds=2", "budget=20", "teacher=bag"],
        ["recipe=chain", "assistants=[text_cnn]", "dataset.tokens=bpe", "dataset.vocabulary=400"],
        ["dataset.duplicates=drop", "dataset.class_weights=balanced", "pseudo_label.mode=live"],
    ],
)
def test_methods_run_on_texts(corpus, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    short = ["student_train.steps=12", "student_train.length=12 steps"]
    short += ["teacher_pretrain.steps=12"] if any(word.startswith("teacher=") for word in words) else []
    assert (
        main(["train", *words_for(corpus), *short, "augment=[word_dropout]", *words, "hydra.run.dir=run"])
        == 0
    )
    results = json.loads(Path("run/run.json").read_text())["results"]
    assert 0 <= results["student"]["last"]["test"]["accuracy"] <= 1 and results["student"]["steps"] == 12


@pytest.mark.slow
def test_the_glosses_of_wordnet_are_as_many_as_the_page_says():
    if not Path("/usr/share/wordnet/data.noun").exists():
        pytest.skip("Debian's package wordnet-base is not installed")
    keys = {key: KEYS[key] for key in ("tokens", "vocabulary", "min_frequency", "length", "tokenizer")}
    about = WordNet(root="/usr/share/wordnet", least=1530, **keys).describe()
    assert len(about.classes) == 15 and about.strata == (1530,) * 15
