"""The keys of a data set that say how texts become tokens, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdx.core import checks
from kdx.core.model_folder import PACKAGE, model_folder
from kdx.data.loading import check_flag, check_int, check_path
from kdx.data.text.tokens import WORDS_OR_PIECES, Tokens

_NAMED = "tokenizer.json"


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
        None if tokenizer is None else _tokenizer_file(tokenizer),
    )


def _tokenizer_file(asked: Any) -> Path:
    """The tokenizer.json that is named, or that lies in the folder that is."""
    if isinstance(asked, str) and asked.startswith(PACKAGE):
        return model_folder("dataset.tokenizer", asked, (_NAMED,)) / _NAMED
    path = check_path("tokenizer", asked)
    if not path.exists() or path.is_dir():
        return model_folder("dataset.tokenizer", asked, (_NAMED,)) / _NAMED
    return path
