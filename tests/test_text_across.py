"""Sequence-level distillation from a teacher whose tokens are others than the student's
(`teacher=causal_lm_text pseudo_label.format=text`)."""

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
from kdx.core.errors import UserError
from kdx.core.rollouts import Rolling
from kdx.data.corpora.pieces import END, train_pieces
from kdx.models.causal_lm_text import MOST_TOKENS, CausalLMText
from kdx.models.decoder import llama
from kdx.models.reread import NOT_READ, reread
from kdx.models.save_pretrained import write_pretrained
from kdx.models.tokens import TokenAdapter, byte_tokenizer
from kdx.models.vocabulary import USUAL_ENDS, Vocabulary
from kdx.pipeline.stages.arrays import read_inputs
from kdx.store.artifact import Artifact
from kdx.tasks.language import NextToken

AB, ABC, STOP = 256, 257, 258


def pieces_of_bytes():
    """All bytes by their numbers, "ab", "abc", and a token between documents."""
    document = json.loads(byte_tokenizer())
    document["model"]["vocab"] |= {"ab": AB, "abc": ABC}
    document["model"]["merges"] = [["a", "b"], ["ab", "c"]]
    shared = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document["added_tokens"] = [{"id": STOP, "content": "<|endoftext|>", **shared}]
    return json.dumps(document)


def letters_only(unknown):
    """The letters a, b and c; no bytes."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": [], "unk_token": None}
    if unknown:
        model |= {"vocab": model["vocab"] | {"<unk>": 3}, "unk_token": "<unk>"}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model})


def folder_of(path, tokens, tokenizer, positions=32):
    torch.manual_seed(0)
    shape = {"shape": (4,), "outputs": tokens, "vocabulary": tokens, "width": 8, "depth": 1, "heads": 2}
    more = {"kv_heads": 1, "hidden": None, "positions": positions, "tied": True, "dropout": 0.0}
    made = llama(**shape, **more, stochastic_depth=0.0, checkpointing=False)
    path.mkdir()
    write_pretrained(made, path, tokenizer)
    return path


def writer(path, own, rows, tokens=300, positions=32):
    """A teacher with the vocabulary `own`, of which its table has a few rows too many, for rows of `rows`."""
    theirs = Vocabulary(byte_tokenizer() if rows == "bytes" else rows)
    made = CausalLMText(
        shape=(8,),
        outputs=theirs.size,
        vocabulary=theirs.size,
        path=str(folder_of(path, tokens, own, positions)),
    )
    return TokenAdapter(vocabulary=theirs.size, tokenizer=rows).wrap(made, (8,)).eval()


def writes(network, *words):
    """Lets it write these tokens of its own, and the last of them for ever."""
    said = iter(words)
    last = []

    def logits(read, cache):
        last[:] = [next(said, *last)]
        found = torch.full((len(read), 300), -1e9)
        found[:, last[0]] = 0.0
        return found

    network.last_logits = logits
    return network


def rolled(network, row, kept):
    generator = torch.Generator().manual_seed(0)
    rows, counts = network.write(torch.tensor([row], dtype=torch.int32), Rolling(kept, 1.0), generator)
    assert rows.dtype == torch.int32 and rows.shape == (1, len(row))
    return rows[0].tolist(), counts.tolist()


# the two vocabularies


def test_a_text_in_tokens_and_back():
    made = Vocabulary(pieces_of_bytes())
    assert (made.end, made.begin, made.begins, made.size) == (STOP, STOP, False, 259)
    assert made.tokens(b"abcab") == [ABC, AB] and made.tokens(b"") == []
    assert made.tokens(b"ab\xffab") == [AB, 255, AB]  # a byte that makes no letter
    assert made.tokens(b"\xc3") == [0xC3] and made.tokens("é".encode()) == [0xC3, 0xA9]
    assert made.laid([b"a", b"ab"]) == [97, STOP, AB]
    assert made.documents([AB, STOP, STOP, 0xC3]) == [b"ab", b"", b"\xc3"]
    assert made.sizes([ABC, STOP, 97]) == [3, 1, 1]
    assert made.tokens(b"<|endoftext|>") == list(b"<|endoftext|>")  # text, and the end of none


def test_bytes_stand_for_themselves_and_the_byte_0_ends_a_document():
    made = Vocabulary(byte_tokenizer())
    assert made.end == 0 and made.tokens(bytes(range(1, 256))) == list(range(1, 256))
    assert made.documents([97, 0, 98]) == [b"a", b"b"]


def test_a_vocabulary_without_bytes_holds_what_it_can():
    known, plain = Vocabulary(letters_only(True)), Vocabulary(letters_only(False))
    assert known.end is None and known.begin is None
    assert known.tokens(b"a\xffzb") == [0, 3, 3, 1] and plain.tokens(b"a\xffzb") == [0, 1]
    assert known.documents([0, 3]) == ["a\ufffd".encode()]
    assert known.laid([b"a", b"b"]) == [0, 1]


def test_the_token_that_kdx_lays_between_documents_is_among_the_usual():
    assert USUAL_ENDS[0] == END
    assert Vocabulary(train_pieces(["ab ab ab"], 260, 1)).end == 0


# how likely a row is


def test_what_a_token_takes_is_shared_out_among_its_bytes():
    own, theirs = Vocabulary(pieces_of_bytes()), Vocabulary(byte_tokenizer())
    found = reread(list(b"xabab"), theirs, own)
    assert found.tokens == [STOP, 120, AB, AB] and found.spans == [(0, 0), (0, 1), (1, 3), (3, 5)]
    assert found.by_place(np.array([9.0, 5.0, 2.0, 4.0])).tolist() == [1, 1, 2, 2]
    found = reread(list(b"abab"), theirs, own)  # a token that begins within what is given counts in full
    assert found.by_place(np.array([9.0, 6.0, 2.0])).tolist() == [6, 1, 1]
    found = reread([97, 0, 98], theirs, own)
    assert found.tokens == [STOP, 97, STOP, 98]
    assert found.by_place(np.array([9.0, 9.0, 3.0, 4.0])).tolist() == [3, 4]


def test_tokens_of_several_bytes_take_what_their_bytes_take():
    own, theirs = Vocabulary(byte_tokenizer()), Vocabulary(pieces_of_bytes())
    found = reread([120, AB, STOP, ABC], theirs, own)
    assert found.tokens == [0, 120, 97, 98, 0, 97, 98, 99]
    assert found.by_place(np.array([0.0, 7.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).tolist() == [3, 3, 15]


def test_what_cannot_be_read_takes_eight_bits_a_byte():
    bytes_only = Vocabulary(byte_tokenizer())
    found = reread(list(b"abz"), bytes_only, Vocabulary(letters_only(True)))
    assert found.by_place(np.zeros(0)).tolist() == [NOT_READ, NOT_READ]
    found = reread([97, 0, 98], bytes_only, Vocabulary(letters_only(False)))  # no token ends a document
    assert found.tokens == [0, 1] and found.by_place(np.array([0.0, 2.0])).tolist() == [NOT_READ, 2.0]
    assert NOT_READ == 8 * math.log(2)


def test_the_same_tokens_take_what_the_network_says_of_them(tmp_path):
    made = writer(tmp_path / "m", byte_tokenizer(), "bytes", tokens=300)
    row = torch.tensor([list(b"hello, you")], dtype=torch.int32)
    truth = {"token": torch.tensor([[*b"ello, you!"]], dtype=torch.int32)}
    read = torch.cat([torch.zeros(1, 1, dtype=torch.int32), row], 1)
    logits = torch.nn.functional.linear(made.hidden(read), made.head_weight)
    assert logits.shape == (1, 11, 256)  # of its table of 300 those that its tokenizer has
    wanted = logits.log_softmax(-1)[0, torch.arange(1, 11), truth["token"][0].long()]
    assert torch.allclose(made.score(row, truth)["log_prob"][0], wanted, atol=1e-5)
    truth["token"][0, -1] = -1
    found = made(row)["log_prob"][0]
    assert torch.allclose(found[:-1], wanted[:-1], atol=1e-5) and found[-1] == 0
    assert torch.equal(made.score(row, truth)["log_prob"][0], found)
    task = NextToken(vocabulary=256, length=10)
    kept = task.condense(made.score(row, truth), truth | {"bytes": torch.ones(1, 10, dtype=torch.int32)})
    nats = -wanted[:-1].sum().item()
    known = truth | {"bytes": torch.ones(1, 10, dtype=torch.int32)}
    assert task.metrics(kept, known) == {"bits": pytest.approx(nats / 9 / math.log(2), rel=1e-5)}
    assert task.quick(kept, known)["loss"] == pytest.approx(nats / 9, rel=1e-5)
    assert task.details(kept, known, "test") == {}


def test_a_text_that_is_longer_than_the_positions_is_read_in_parts(tmp_path):
    made = writer(tmp_path / "m", byte_tokenizer(), "bytes", positions=4)
    row = torch.tensor([list(b"hello, you")], dtype=torch.int32)
    read = [0, *b"hello, you!"]
    parts = [
        (0, 1, 4),
        (2, 5, 6),
        (4, 7, 8),
        (6, 9, 10),
        (8, 11, 11),
    ]  # (from, first told, last told)
    wanted = []
    for begin, first, last in parts:
        said = made.hidden(torch.tensor([read[begin:last]])) @ made.head_weight.T
        wanted += [said.log_softmax(-1)[0, at - begin - 1, read[at]].item() for at in range(first, last + 1)]
    found = made.score(row, {"token": torch.tensor([[*b"ello, you!"]], dtype=torch.int32)})["log_prob"]
    assert found[0].tolist() == pytest.approx(wanted[1:], abs=1e-5)


# what it writes


def test_a_teacher_of_longer_tokens_writes_for_bytes(tmp_path):
    made = writes(writer(tmp_path / "m", pieces_of_bytes(), "bytes"), AB, STOP, ABC, 0xC3, 120)
    assert rolled(made, [*b"xy......"], 2) == ([*b"xyab\0abc"], [8])
    writes(made, AB, STOP, STOP, 0xC3, 120)  # an empty document is none; half a letter is a byte
    assert rolled(made, [*b"xy......"], 2) == ([*b"xyab\0\xc3xx"], [8])


def test_a_teacher_of_bytes_writes_for_longer_tokens(tmp_path):
    made = writes(writer(tmp_path / "m", byte_tokenizer(), pieces_of_bytes()), *b"bcab\0abcx")
    # the kept "a" and the "bc" behind it are one token
    assert rolled(made, [97, 120, 120, 120, 120], 1) == ([ABC, AB, STOP, ABC, 120], [5])


def test_a_teacher_that_writes_nothing_leaves_places_that_count_in_no_loss(tmp_path):
    made = writes(writer(tmp_path / "m", pieces_of_bytes(), "bytes"), 120, STOP)
    assert rolled(made, [*b"ab......"], 2) == ([*b"abx", 0, 0, 0, 0, 0], [3])
    task = NextToken(vocabulary=256, length=4)
    like = {"token": np.array([[97, 98, 120, 5]], np.int32), "bytes": np.ones((1, 4), np.int32)}
    rows = np.array([[97, 98, 120, 97], [97, 98, 0, 0], [97, 0, 0, 0]], np.int32)
    found = task.truth_within(rows, like, np.array([4, 2, 1]))
    assert found["token"].tolist() == [[98, 120, 97, -1], [98, -1, -1, -1], [-1] * 4]
    assert found["bytes"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [0] * 4]
    lost = task.loss(torch.zeros(3, 4, 256), {name: torch.from_numpy(leaf) for name, leaf in found.items()})
    assert lost.tolist() == pytest.approx([math.log(256), math.log(256), 0.0])


def test_text_that_the_students_tokens_cannot_hold_is_read_as_any_such_text(tmp_path):
    made = writes(writer(tmp_path / "m", byte_tokenizer(), letters_only(True)), *b"bz\xffc", 97)
    assert rolled(made, [0] * 6, 1) == ([0, 1, 3, 3, 2, 0], [6])
    plain = writes(writer(tmp_path / "n", byte_tokenizer(), letters_only(False)), *b"bz")
    assert rolled(plain, [0] * 4, 1) == ([0, 1, 0, 0], [2])  # z is passed over: it is drawn to the end
    assert MOST_TOKENS * 4 == 64


def test_a_row_longer_than_the_positions_is_written_in_parts(tmp_path):
    made = writer(tmp_path / "m", byte_tokenizer(), "bytes", positions=4)
    rows = torch.tensor([list(b"ab......"), list(b"cd......")], dtype=torch.int32)
    found, counts = made.write(rows, Rolling(2, 1.0), torch.Generator().manual_seed(5))
    assert found[:, :2].tolist() == [[*b"ab"], [*b"cd"]] and 2 <= counts.min() and counts.max() <= 8
    again, _ = made.write(rows, Rolling(2, 1.0), torch.Generator().manual_seed(5))
    other, _ = made.write(rows, Rolling(2, 1.0), torch.Generator().manual_seed(6))
    assert torch.equal(found, again) and not torch.equal(found, other)


# from the command line

RUN = ["dataset=corpus", "dataset.root=text.txt", "dataset.length=16", "device=cpu", "device.threads=1"]
RUN += ["dataset.validation_share=0.1", "dataset.test_share=0.1", "student=gpt_tiny", "student.width=8"]
RUN += ["student.depth=1", "student.heads=2", "loss=token_kd", "student_train.steps=4", "store=store"]
RUN += ["teacher=causal_lm_text", "teacher.path=lm"]
OTHER = [word for word in RUN if not word.startswith(("student=", "student.", "teacher"))]
TEXT = ["loss.alpha=0", "pseudo_label.format=text"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, before, draw = tmp_path_factory.mktemp("across"), Path.cwd(), random.Random(0)
    os.chdir(folder)
    text = " ".join(draw.choice("the a cat dog sat é".split()) for _ in range(900))
    Path("text.txt").write_text(text)
    folder_of(folder / "lm", 300, train_pieces([text], 300, 2))
    yield folder
    os.chdir(before)


def artifact(run, name):
    key = next(stage["key"] for stage in run["stages"] if stage["name"] == name)
    return Artifact(name, key, Path("store", name, key))


def test_a_student_of_bytes_learns_what_a_teacher_of_other_tokens_has_written(place, capsys):
    assert main(["train", *RUN, *TEXT, "hydra.run.dir=runs/a"]) == 0
    said = capsys.readouterr().err.replace("\n", " ")
    assert "reads 271 tokens of its own, and the data set has 256: it is measured in bits a byte" in said
    assert "train it further" not in said
    run = json.loads(Path("runs/a/run.json").read_text())
    assert [stage["name"] for stage in run["stages"]] == [
        *("decode", "prepare", "teacher-pretrain", "baseline-train", "gate", "rollout", "student-train"),
        "teacher-predict",
        "evaluate",
    ]
    data, written = artifact(run, "prepare"), artifact(run, "rollout")
    before, rows = (np.asarray(read_inputs(one, "labelled")[:]) for one in (data, written))
    seen = np.load(written.file("rolled.labelled.npy"))
    assert len(seen) == 64  # 4 steps of 16
    assert (rows[seen, :4] == before[seen, :4]).all() and (rows[seen] != before[seen]).any(1).all()
    token = np.load(written.file("labelled.truth.token.npy"))[seen]
    behind = np.concatenate([rows[seen, 1:], np.full((len(seen), 1), -1)], 1)
    assert ((token == behind) | (token == -1)).all() and (token[:, -1] == -1).all()
    found = run["results"]
    assert {"bits", "n"} == {name for name in found["teacher"]["last"]["test"]}
    assert not {"kl", "agreement", "acceptance"} & set(found["student"]["last"]["test"])
    assert run["gate"]["against"].startswith("the share of each token") and run["gate"]["metric"] == "bits"
    alone = found["baseline"]["last"]["validation"]["bits"]
    assert run["gate"]["student_alone"] == pytest.approx(alone, rel=1e-4)
    assert run["gate"]["teacher"] == pytest.approx(found["teacher"]["last"]["validation"]["bits"], rel=1e-4)
    assert main(["evaluate", "runs/a"]) == 0  # its folder is needed to begin only
    shown = capsys.readouterr().out
    assert f"{found['teacher']['last']['test']['bits']:.3f}" in shown
    assert "nothing is held against the teacher (agreement, KL, acceptance), as it reads other" in shown
    for role, names in (("teacher", ["value:bits"]), ("student", ["value:bits", "value:loss"])):
        assert main(["predict", "runs/a", f"role={role}", "data=test", f"to={role}.csv", "device=cpu"]) == 0
        (first, *rows) = csv.reader(Path(f"{role}.csv").open(newline=""))
        assert [name for name in first if name.startswith("value:")] == names, "nats of a token of whose?"
        bits = [float(row[first.index("value:bits")]) for row in rows]
        assert sum(bits) / len(bits) == pytest.approx(found[role]["last"]["test"]["bits"], rel=0.02)
    (first, *rows) = csv.reader(Path("runs/a/predictions.csv").open(newline=""))
    assert "teacher.value:bits" in first and "teacher.value:loss" not in first and "value:loss" in first
    capsys.readouterr()
    assert main(["export", "runs/a", "role=teacher", "to=x"]) == 2
    assert "reads a vocabulary of its own, and gives no answers" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow
def test_a_student_of_byte_pairs_learns_what_a_teacher_of_bytes_has_written(place):
    folder_of(place / "bytes", 256, byte_tokenizer())
    words = [word for word in RUN if word != "teacher.path=lm"]
    words += ["teacher.path=bytes", "dataset.tokens=bpe", "dataset.vocabulary=270", *TEXT]
    assert main(["train", *words, "hydra.run.dir=runs/b"]) == 0
    run = json.loads(Path("runs/b/run.json").read_text())
    written, made = artifact(run, "rollout"), artifact(run, "prepare").json("data.json")["adapter"]
    vocabulary = Vocabulary(made["tokenizer"])
    rows = np.asarray(read_inputs(written, "labelled")[:])[np.load(written.file("rolled.labelled.npy"))]
    token = np.load(written.file("labelled.truth.token.npy"))[np.load(written.file("rolled.labelled.npy"))]
    for row, known in zip(rows.tolist(), token.tolist(), strict=True):
        row = row[: 1 + sum(one >= 0 for one in known)]
        # as its own tokenizer reads the text, but for the last, which may be cut
        assert vocabulary.laid(vocabulary.documents(row))[: len(row) - 2] == row[:-2]
    assert set(run["results"]["teacher"]["last"]["test"]) == {"bits", "n"}


def test_what_does_not_go_with_it_is_refused(place, capsys):
    for words, said in (
        (RUN, "let it write, with pseudo_label.format=text and loss.alpha=0"),
        ([*RUN, *TEXT, "teacher_pretrain.steps=5"], "is taken as it is: leave teacher_pretrain.steps"),
        ([*RUN, *TEXT, "init=table"], "no weights go to the student: leave init= out"),
        ([*RUN, *TEXT, "pseudo_label.prompt=16"], "keeps all 16 tokens of a row"),
        ([*RUN, *TEXT, "pseudo_label.prompt=0"], "pseudo_label.prompt must be"),
        ([*RUN, *TEXT, "pseudo_label.prompt=1.0"], "pseudo_label.prompt must be"),
        ([*RUN, *TEXT, "teacher.path=nowhere"], "nowhere"),
        ([*OTHER, "student=causal_lm_text", "student.path=lm"], "it can be a teacher, not a student"),
    ):
        assert main(["train", *words]) != 0, words
        assert said in capsys.readouterr().err.replace("\n", " "), words


def test_the_refusal_of_a_teacher_that_answers_names_this_one(place, capsys):
    words = [word.replace("causal_lm_text", "causal_lm") for word in RUN]
    assert main(["train", *words]) != 0
    assert "teacher=causal_lm_text pseudo_label.format=text" in capsys.readouterr().err.replace("\n", " ")


def test_a_folder_whose_tokenizer_does_not_match_is_refused(tmp_path):
    with pytest.raises(UserError, match="tokenizer.json has 259 tokens, and config.json says vocab_size=258"):
        writer(tmp_path / "m", pieces_of_bytes(), "bytes", tokens=258)
