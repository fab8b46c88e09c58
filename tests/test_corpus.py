"""dataset=corpus: documents, parts, tokens and windows, by hand; and what is no corpus."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.data.corpora.cut import cuts, whole_letters
from kdx.data.corpora.documents import read_documents
from kdx.data.corpora.pieces import Tokenized, byte_tokens, end_of, piece_tokens, train_pieces
from kdx.data.corpora.windows import first_bytes, windows_of
from kdx.data.datasets.corpus import CorpusData
from kdx.models.tokens import TokenAdapter

PLAIN = {
    "root": None,
    "endings": [".txt"],
    "length": 4,
    "tokens": "bytes",
    "vocabulary": 300,
    "min_frequency": 2,
    "tokenizer": None,
    "end": None,
    "validation_share": 0.0,
    "test_share": 0.0,
    "on_error": "stop",
}


def corpus(root, **keys):
    return CorpusData(**{**PLAIN, "root": None if root is None else str(root), **keys})


def write(folder: Path, **texts):
    for name, text in texts.items():
        path = folder / f"{name}.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def said(tokens):
    return bytes(np.asarray(tokens).reshape(-1).tolist()).decode()


def test_windows_lie_side_by_side_and_tell_what_follows():
    inputs, truth = windows_of(byte_tokens(b"abcdefghij"), 4)
    assert [said(row) for row in inputs] == ["abcd", "efgh"]
    assert [said(row) for row in truth["token"]] == ["bcde", "fghi"]
    assert truth["bytes"].tolist() == [[1] * 4] * 2
    assert inputs.dtype == np.int32 and truth["token"].dtype == truth["bytes"].dtype == np.int16
    # eight tokens are followed by seven: the last window has no token behind it
    assert len(windows_of(byte_tokens(b"abcdefgh"), 4)[0]) == 1
    assert len(windows_of(byte_tokens(b""), 4)[0]) == 0


def test_documents_are_packed_with_a_byte_between(tmp_path):
    raw = corpus(write(tmp_path, b="defg", a="abc")).load()
    inputs, truth = raw.part("train")
    assert said(inputs) == "abc\0" and said(truth["token"]) == "bc\0d"
    assert raw.notes == () and raw.task["vocabulary"] == 256


def test_parts_lie_side_by_side_and_share_no_window(tmp_path):
    text = bytes(range(1, 101))
    raw = corpus(write(tmp_path, a=text), validation_share=0.2, test_share=0.1).load()
    rows = {part: raw.part(part)[0].reshape(-1).tolist() for part in ("train", "validation", "test")}
    assert rows["train"] == list(range(1, 69))  # of 70 bytes 17 windows, and a byte behind the last
    assert rows["validation"] == list(range(71, 87)) and rows["test"] == list(range(91, 99))
    assert raw.part("unlabelled") == (None, None)
    assert raw.part("train")[1]["token"].max() == 69
    assert raw.counted == {"train": 70, "validation": 20, "test": 10}
    assert raw.name("train", 1) == "a.txt, byte 4"
    assert raw.name("test", 1) == "a.txt, byte 94"
    described = corpus(tmp_path, validation_share=0.2, test_share=0.1).describe()
    assert (described.train, described.validation, described.test) == (17, 4, 2)
    assert described.example == {"": ([4], "int32")} and described.reads == "tokens"


def test_a_cut_is_moved_to_where_a_document_begins_near():
    assert cuts(100, (0, 69, 88), 0.2, 0.1) == (69, 88)  # 88 is nearer than a quarter of 10 bytes to 90
    assert cuts(100, (0, 60, 80), 0.2, 0.1) == (70, 90)
    assert cuts(100, (0,), 0.0, 0.0) == (100, 100)
    with pytest.raises(UserError, match="leave nothing to train with"):
        cuts(100, (0,), 0.5, 0.5)


def test_a_cut_is_in_no_letter():
    text = "aé☃".encode()
    assert [whole_letters(text, cut) for cut in range(7)] == [0, 1, 1, 3, 3, 3, 6]


def test_names_say_the_document_and_the_byte_in_it(tmp_path):
    raw = corpus(write(tmp_path, a="0123456", b="0123456789")).load()
    assert [raw.name("train", row) for row in range(4)] == [
        "a.txt, byte 0",
        "a.txt, byte 4",
        "b.txt, byte 0",
        "b.txt, byte 4",
    ]


def test_every_byte_is_counted_once_whatever_the_tokens():
    texts = ["to be or not to be, that is  the question", "naïve ☃☃ snow 🎿\n", "", "to be"]
    tokenizer = train_pieces(texts, 280, 2)
    end = end_of(tokenizer, None)
    found = piece_tokens(tokenizer, texts, end)
    assert end == 0 and (found.tokens == end).sum() == 3
    assert found.sizes.sum() == len("\0".join(texts).encode())
    assert found.sizes.max() > 1 and len(found.tokens) < found.sizes.sum()
    adapter = TokenAdapter(vocabulary=280, tokenizer=tokenizer)
    assert adapter.displayed(torch.from_numpy(found.tokens)[None]) == ["<|end|>".join(texts)]
    assert train_pieces(texts, 280, 2) == tokenizer


def test_bytes_of_tokens_by_hand():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(models.WordLevel({"</s>": 0, "the": 1, "end": 2, "?": 3}, unk_token="?"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    text = made.to_str()
    found = piece_tokens(text, ["The  END ", "été the"], end_of(text, None))
    assert found.tokens.tolist() == [1, 2, 0, 3, 1]
    # blanks count with the token behind them, those at the end with the last
    assert found.sizes.tolist() == [3, 6, 1, 5, 4]
    assert end_of(text, "?") == 3
    with pytest.raises(UserError, match="dataset.end='x' is no token"):
        end_of(text, "x")


def test_what_stands_in_a_text_is_no_end_of_a_document():
    tokenizer = train_pieces(["ab <|end|> ab"], 300, 2)
    assert 0 not in piece_tokens(tokenizer, ["ab <|end|> ab"], 0).tokens


def test_the_vocabulary_is_made_of_the_part_to_train_with(tmp_path):
    text = "abab " * 40 + "zqzq " * 20
    raw = corpus(write(tmp_path, a=text), tokens="bpe", validation_share=0.2, test_share=0.133).load()
    words = set(__import__("json").loads(raw.tokenizer)["model"]["vocab"])
    assert "abab" in words and not any("zq" in word for word in words)
    assert raw.vocabulary == max(257, len(words))
    assert raw.adapter([])[0]["tokenizer"] == raw.tokenizer


def test_a_tokenizer_of_a_file(tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_text(train_pieces(["to be or not to be"], 270, 2))
    data = corpus(write(tmp_path, a="to be or not to be, to be"), tokens="bpe", tokenizer=str(file), length=3)
    raw = data.load()
    assert raw.tokenizer == file.read_text() and raw.part("train")[1]["bytes"].max() > 1
    assert set(data.files()) == {"train", "tokenizer"}
    assert raw.fitted([], raw.adapter([])[0]) is raw
    with pytest.raises(UserError, match="reads bytes, and these windows are of other tokens"):
        raw.fitted([], {"tokenizer": "bytes"})
    with pytest.raises(UserError, match="of no use where tokens are bytes"):
        corpus(tmp_path, tokenizer=str(file))


def test_by_default_it_reads_what_python_ships():
    found = read_documents(None, [".txt"])
    assert len(found.names) > 50 and len(found.text) > 300_000 and not found.notes
    assert found.names[0] == "assert" and found.text.startswith(b'The "assert" statement')
    assert found.text[found.starts[1] - 1] == 0


def test_empty_documents_are_left_out_and_that_is_said(tmp_path):
    raw = corpus(write(tmp_path, a="abcdefgh", b="", c=" \n")).load()
    assert raw.notes == (("empty documents were left out: 2 (b.txt, c.txt)", "warning"),)
    with pytest.raises(UserError, match="there is no text in the corpus"):
        corpus(write(tmp_path, a="")).load()


def test_bytes_that_are_no_utf_8(tmp_path):
    write(tmp_path, a=b"caf\xe9 and more of it")
    assert corpus(tmp_path).load().part("train")[0].max() == 0xE9
    with pytest.raises(
        UserError, match=r"document 'a.txt' is not UTF-8 \(at its byte 3: 0xe9\).*on_error=replace"
    ):
        corpus(tmp_path, tokens="bpe").load()
    raw = corpus(tmp_path, tokens="bpe", on_error="replace").load()
    assert "replaced by U\\+FFFD in 1 documents".replace("\\", "") in raw.notes[0][0]


@pytest.mark.parametrize(
    ("make", "keys", "words"),
    [
        (lambda p: p / "nowhere", {}, "does not exist: name a file of text or a folder"),
        (lambda p: p, {}, "holds no file that ends with .txt; it is empty"),
        (lambda p: write(p, a=b"a\0b"), {}, "'a.txt' holds a NUL byte"),
        (lambda p: write(p, a="abc"), {}, "the train part of the corpus has 3 tokens, and a window of"),
        (lambda p: write(p, a="a" * 90), {"test_share": 0.01}, "the test part of the corpus has 1 tokens"),
        (lambda p: p, {"endings": "txt"}, "endings must be a list of endings"),
        (lambda p: p, {"length": 0}, "dataset.length must be an integer from 1"),
        (lambda p: p, {"test_share": 1.0}, "dataset.test_share must be at least 0 and less than 1"),
        (lambda p: p, {"tokens": "words"}, "dataset.tokens has no option 'words'"),
    ],
)
def test_what_is_no_corpus(make, keys, words, tmp_path):
    with pytest.raises(UserError, match=words):
        corpus(make(tmp_path), **keys).load()


def test_a_folder_of_other_files_names_them(tmp_path):
    (tmp_path / "a.md").write_text("# A")
    with pytest.raises(UserError, match="it holds a.md: name a file, or other endings"):
        corpus(tmp_path).load()
    assert corpus(tmp_path, endings=[".MD"], length=2).load().part("train")[0].tolist() == [[35, 32]]
    assert corpus(tmp_path / "a.md", length=2).load().name("train", 0) == "a.md, byte 0"


def test_windows_of_tokens_of_several_bytes():
    inputs, truth = windows_of(
        Tokenized(np.arange(5, dtype=np.int32), np.array([3, 1, 4, 1, 5], np.int32)), 2
    )
    assert inputs.tolist() == [[0, 1], [2, 3]]
    assert truth["bytes"].tolist() == [[1, 4], [1, 5]]


def test_the_truth_of_a_window_is_as_narrow_as_its_numbers():
    large = Tokenized(np.array([0, 40_000, 1, 2, 3], np.int32), np.array([3, 1, 4, 1, 5], np.int32))
    truth = windows_of(large, 2)[1]
    assert truth["token"].tolist() == [[40_000, 1], [2, 3]] and truth["token"].dtype == np.int32
    assert truth["bytes"].dtype == np.int16
    assert first_bytes(large, 2, 10).tolist() == [10, 14]


@pytest.mark.parametrize(
    ("words", "temperature"),
    [([], 4), (["dataset=corpus"], 1), (["dataset=corpus", "loss.temperature=3"], 3)],
)
def test_a_corpus_teaches_at_temperature_1_unless_set(words, temperature):
    assert wire(compose.check_words(words)).experiment.loss.spec["temperature"] == temperature
