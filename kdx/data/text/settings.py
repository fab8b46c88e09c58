"""The keys of a data set that say how texts become tokens, checked."""

from __future__ import annotations

from typing import Any

from kdx.core import checks
from kdx.data.loading import check_flag, check_int, check_path
from kdx.data.text.tokens import WORDS_OR_PIECES, Tokens


def token_settings(
    tokens: Any, vocabulary: Any, min_frequency: Any, lower: Any, length: Any, tokenizer: Any
) -> Tokens:
    """Raises UserError where a key is not what it must be."""
    kind = checks.choice("dataset.tokens", tokens, WORDS_OR_PIECES)
    least = 2 + 256 * (kind == "bpe")  # padding, the unknown token, and all bytes
    return Tokens(
        kind,
        check_int("vocabulary", vocabulary, least + 1, 1_000_000),
        check_int("min_frequency", min_frequency, 1, 1_000_000),
        check_flag("lower", lower),
        check_int("length", length, 1, 65_536),
        None if tokenizer is None else check_path("tokenizer", tokenizer),
    )
