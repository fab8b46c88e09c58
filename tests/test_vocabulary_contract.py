"""A teacher with a vocabulary of its own: each number that the data can hold means the same bytes to both,
and what it says is measured before it answers anything."""

import json
import os
import random
from pathlib import Path

import pytest
import torch

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.models.causal_lm import CausalLM
from kdx.models.decoder import llama
from kdx.models.save_pretrained import write_pretrained
from kdx.models.tokens import TokenAdapter, byte_tokenizer, open_tokenizer, token_bytes

LAST = {"dropout": 0.0, "stochastic_depth": 0.0, "checkpointing": False}


def folder_of(path, tokens, tokenizer=None):
    torch.manual_seed(0)
    shape = {"shape": (8,), "outputs": tokens, "vocabulary": tokens, "width": 8, "depth": 1, "heads": 2}
    made = llama(**shape, kv_heads=1, hidden=None, positions=32, tied=True, **LAST)
    path.mkdir()
    write_pretrained(made, path, tokenizer or byte_tokenizer())
    return path


def wrapped(path, tokenizer="bytes", vocabulary=256):
    network = CausalLM(shape=(8,), outputs=vocabulary, vocabulary=vocabulary, path=str(path), **LAST)
    return TokenAdapter(vocabulary=vocabulary, tokenizer=tokenizer).wrap(network, (8,))


def test_the_same_tokens_need_no_word(tmp_path):
    assert list(wrapped(folder_of(tmp_path / "m", 256)).remarks) == []


def test_further_tokens_are_cut_and_that_is_said(tmp_path):
    made = wrapped(folder_of(tmp_path / "m", 300))
    (said,) = made.remarks
    assert (
        "knows 300 tokens, of which the data set's 256 are the first" in said and "other 44 is left" in said
    )
    assert made(torch.zeros(2, 8, dtype=torch.int32)).shape == (2, 8, 256)


def test_other_tokens_are_refused_with_three_ways_out(tmp_path):
    document = json.loads(byte_tokenizer())
    words = document["model"]["vocab"]
    words["A"], words["B"] = words["B"], words["A"]
    other = json.dumps(document)
    with pytest.raises(UserError) as error:
        wrapped(folder_of(tmp_path / "m", 256), other)
    said = str(error.value)
    assert (
        "2 of the data set's 256 tokens are others there: 65 is 'B' in the data and 'A' to the teacher"
        in said
    )
    assert "dataset.tokenizer" in said and "choose a teacher" in said and "or train one" in said


def test_bytes_are_what_counts_not_letters():
    found = token_bytes(open_tokenizer(byte_tokenizer()))
    assert found == {number: bytes([number]) for number in range(256)}


@pytest.fixture
def place(tmp_path):
    before, draw = Path.cwd(), random.Random(0)
    os.chdir(tmp_path)
    Path("text.txt").write_text(" ".join(draw.choice("the a cat dog sat".split()) for _ in range(900)))
    folder_of(tmp_path / "lm", 300)
    yield tmp_path
    os.chdir(before)


def test_a_teacher_that_knows_nothing_of_the_text_is_found_out_before_it_answers(place, capsys):
    words = ["train", "dataset=corpus", "dataset.root=text.txt", "dataset.length=8", "device=cpu"]
    words += ["teacher=causal_lm", "teacher.path=lm", "student=gpt_tiny", "student.width=8", "store=store"]
    words += ["loss=token_kd", "stages=[teacher_pretrain]", "hydra.run.dir=runs/a"]
    assert main([*words, "pseudo_label.gate=error"]) != 0
    said = capsys.readouterr().err.replace("\n", " ")
    assert "nothing is to be gained from this teacher" in said and "its bits/byte is 8." in said
    assert "the share of each token" in said and "pseudo_label.gate=warn" in said
    assert not list(Path("store").glob("pseudo-label/*"))
    assert main(words) == 0
    said = capsys.readouterr().err.replace("\n", " ")
    assert "warning: teacher-pretrain: before it answers anything: nothing is to be gained" in said
    assert "its answers are cut to these" in said
    (made,) = (one for one in Path("store/teacher-pretrain").iterdir() if not one.name.endswith(".partial"))
    assert 8 < json.loads((made / "summary.json").read_text())["validation_score"] < 9
