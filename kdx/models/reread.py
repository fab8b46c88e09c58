"""A row of tokens, read by another vocabulary: which of its tokens stand for which bytes of the row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdx.models.vocabulary import Vocabulary

NOT_READ = math.log(256)
"""Nats of a byte that a vocabulary cannot hold: of who guesses bytes."""


@dataclass(frozen=True)
class Reread:
    """tokens: of the other vocabulary. spans: of each of them the bytes of the row that it stands for, from
    and up to. ends: at which byte each token of the row ends, the first one's before all. lost: (bytes,) what
    a byte takes that no token stands for."""

    tokens: list[int]
    spans: list[tuple[int, int]]
    ends: np.ndarray
    lost: np.ndarray

    def by_place(self, nats: np.ndarray) -> np.ndarray:
        """(tokens,) what each takes -> what each token of the row takes behind its first: those that end
        within the first take nothing, as they were given."""
        cost, given = self.lost.copy(), int(self.ends[0])
        for number, (begin, end) in enumerate(self.spans):
            if end <= given or not len(cost):
                continue
            begin = min(max(begin, given), len(cost) - 1)
            if number:
                cost[begin : max(end, begin + 1)] += nats[number] / max(end - begin, 1)
            else:
                cost[begin:end] += NOT_READ  # nothing stands before it
        until = np.concatenate([[0.0], np.cumsum(cost)])
        return np.diff(until[self.ends])


def reread(row: Sequence[int], theirs: Vocabulary, own: Vocabulary) -> Reread:
    """row: tokens of `theirs`, one at least. The other vocabulary reads it from `begin` on where it has that;
    else the row's first token is read by itself, so that something stands before all others."""
    ends = np.cumsum(theirs.sizes(row))
    given, whole = int(ends[0]), int(ends[-1])
    tokens = [] if own.begin is None else [own.begin]
    spans = [(0, 0)] * len(tokens)
    lost, at = np.zeros(whole), 0
    for number, text in enumerate(theirs.documents(row)):
        if number:
            if own.end is None:
                lost[at] = NOT_READ if at >= given else 0.0
            else:
                tokens.append(own.end)
                spans.append((at, at + 1))
            at += 1
        first = given if not number and own.begin is None else 0
        for part in filter(None, (text[:first], text[first:])):
            found = own.tokens(part)
            sizes = own.sizes(found)
            meant = b"".join(own.pieces[one] for one in found)
            if meant == b" " + part and sizes[0]:
                sizes[0] -= 1  # which its tokenizer lays before a text
            elif meant != part:
                return _unreadable(ends)
            until = at + np.cumsum(sizes)
            tokens += found
            spans += [(int(end) - size, int(end)) for size, end in zip(sizes, until, strict=True)]
            at += len(part)
    return Reread(tokens, spans, ends, lost)


def _unreadable(ends: np.ndarray) -> Reread:
    """All of a row that is written otherwise by the other vocabulary, which tells nothing of its bits."""
    lost = np.full(int(ends[-1]), NOT_READ)
    lost[: int(ends[0])] = 0.0
    return Reread([], [], ends, lost)
