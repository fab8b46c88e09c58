"""Static embeddings of a teacher that is an encoder: each token's vector without any context (as model2vec
and the static models of sentence-transformers are made), weighed by how rare it is (Arora et al. 2017, "A
simple but tough-to-beat baseline for sentence embeddings").
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdx.core.beginning import Beginning, Initialiser
from kdx.core.checks import number
from kdx.core.errors import UserError, type_name
from kdx.core.trees import leaves
from kdx.core.types import Split
from kdx.models.vectors import MakesVectors, token_table, vectors_in

_DIGEST = "vocabulary_digest"
_TOGETHER = 512
"""Tokens that are forwarded together, each as a text of its own."""
_REMEMBERED: dict[str, Tensor] = {}
"""Of one encoder at most: what `token_vectors` gave."""


class Static(Initialiser):
    """The student's table of tokens: each token forwarded once through the teacher, alone; the vectors'
    principal components, centred; times a / (a + frequency), the share of all tokens that it is in the
    labelled rows and the pool.

    a > 0: the larger, the less frequent tokens are held down. Nothing is drawn.
    """

    def __init__(self, *, a: float):
        self.a = number("init.a", a, low=0, open_low=True)

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        table, maker = _table_of(student), _maker_of(teacher)
        own, others = token_table(teacher), _digest_of(teacher)
        rows = None if own is None else own.num_embeddings
        if rows is not None and rows < table.num_embeddings:
            raise UserError(
                f"init=static gives each of the student's {table.num_embeddings:,} tokens the teacher's "
                f"vector, and the teacher knows {rows:,}: give both one vocabulary, dataset.tokenizer="
            )
        mine = _digest_of(student)
        if mine is not None and others is not None and not torch.equal(mine, others):
            raise UserError(
                "init=static needs one vocabulary, and teacher and student read texts by different ones, in "
                "which a number stands for other words: give dataset.tokenizer= the teacher's folder"
            )
        with torch.no_grad():
            width = maker(_alone(torch.ones(1, dtype=torch.long), teacher)).shape[1]
        if table.embedding_dim > width:
            raise UserError(
                f"init=static takes principal components of the teacher's vectors, {width} wide, and the "
                f"student's embeddings have {table.embedding_dim}: set student.width={width} at most"
            )

    def __call__(self, student: nn.Module, beginning: Beginning) -> Sequence[str]:
        table, maker = _table_of(student), _maker_of(beginning.teacher)
        rows, width = table.num_embeddings, table.embedding_dim
        vectors = token_vectors(maker, beginning.teacher, rows)
        components, share = principal_components(vectors[1:], width)
        counts = token_counts(beginning.splits, rows)
        frequency = counts.double() / counts.sum().clamp(min=1)
        found = torch.zeros(rows, width, dtype=torch.float64)
        found[1:] = components
        found *= (self.a / (self.a + frequency))[:, None]
        with torch.no_grad():
            table.weight.copy_(found)
        return [
            f"the student's table holds the teacher's vectors of {rows - 1:,} tokens, each forwarded alone: "
            f"{width} principal components of {vectors.shape[1]}, {share:.1%} of the variance, times "
            f"a / (a + frequency), a = {self.a:g}, over {int(counts.sum()):,} tokens of the "
            f"{' and the '.join(beginning.splits)} rows, {int((counts > 0).sum()):,} of them different"
        ]


def token_vectors(maker: MakesVectors, network: nn.Module, rows: int) -> Tensor:
    """(rows, D) float64 on the CPU: of each token, as a text of its own; that of padding, 0, is an empty
    text's. Those of the last encoder are remembered, as several students of a process begin with them."""
    key = _key_of(maker, rows)
    if key not in _REMEMBERED:
        _REMEMBERED.clear()
        _REMEMBERED[key] = _forwarded(maker, network, rows)
    return _REMEMBERED[key]


def _key_of(maker: MakesVectors, rows: int) -> str:
    """By every number that its answers hang on, and where it is computed."""
    found = hashlib.blake2b(f"{rows} {torch.get_num_threads()} {maker}".encode(), digest_size=20)
    for name, value in maker.state_dict().items():
        found.update(f"{name} {value.shape} {value.device}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def _forwarded(maker: MakesVectors, network: nn.Module, rows: int) -> Tensor:
    found = []
    with torch.no_grad():
        for start in range(0, rows, _TOGETHER):
            tokens = torch.arange(start, min(start + _TOGETHER, rows))
            found.append(maker(_alone(tokens, network)).double().cpu())
    return torch.cat(found)


def principal_components(vectors: Tensor, width: int) -> tuple[Tensor, float]:
    """(N, D) -> ((N, width) centred vectors in the directions of their largest variance, the share of the
    variance that these hold). The largest entry of each direction is positive, so that signs are the same
    each time.
    """
    centred = vectors - vectors.mean(0)
    values, directions = torch.linalg.eigh(centred.T @ centred)
    taken = directions[:, -width:].flip(1)
    largest = taken.gather(0, taken.abs().argmax(0, keepdim=True))
    taken = taken * torch.where(largest < 0, -1.0, 1.0)
    whole = values.clamp(min=0).sum().clamp(min=1e-300)
    return centred @ taken, float(values[-width:].clamp(min=0).sum() / whole)


def token_counts(splits: Mapping[str, Split], rows: int) -> Tensor:
    """(rows,) int64: how often each token stands in some splits, padding never."""
    counts = torch.zeros(rows, dtype=torch.int64)
    for split in splits.values():
        for batch in split.clean(4096):
            for tokens in leaves(batch.views["clean"]).values():
                counts += tokens.cpu().long().flatten().bincount(minlength=rows)[:rows]
    counts[0] = 0
    return counts


def _alone(tokens: Tensor, network: nn.Module) -> Tensor:
    """(n,) tokens -> (n, 1), where a network's weights lie"""
    return tokens[:, None].to(next(network.parameters()).device)


def _table_of(student: nn.Module) -> nn.Embedding:
    table = token_table(student)
    if table is None:
        raise UserError(
            f"init=static fills the one table of tokens of a student that reads texts, and the student "
            f"({_called(student)}) has none such: choose student=static; decoders begin with init=guide or "
            "init=select"
        )
    return table


def _maker_of(teacher: nn.Module) -> MakesVectors:
    maker = vectors_in(teacher)
    if maker is None:
        raise UserError(
            f"init=static reads the vectors that an encoder makes of tokens, and the teacher "
            f"({_called(teacher)}) is none: choose teacher=minilm, or teacher=encoder teacher.path=FOLDER"
        )
    return maker


def _called(network: nn.Module) -> str:
    return type_name(network).partition(" ")[2]


def _digest_of(network: nn.Module) -> Tensor | None:
    """By which vocabulary it reads; None: that is not known."""
    for name, value in network.named_buffers():
        if name.rpartition(".")[2] == _DIGEST and bool(value.any()):
            return value.cpu()
    return None
