"""How alike two answers in words are, as SQuAD counts it (Rajpurkar et al. 2016, arXiv 1606.05250, section 6;
with questions that have no answer 2018, arXiv 1806.03822). Standard library only.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def answer_words(text: str) -> list[str]:
    """The words of an answer in lower case, without ASCII punctuation and without the articles a, an and
    the: "The U.S. Army" -> ["us", "army"]."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def exact_match(said: str, right: Sequence[str]) -> bool:
    """Whether it has the same words in the same order as one of the right answers. right: [] where the right
    answer is that there is none."""
    words = answer_words(said)
    return any(words == wanted for wanted in _wanted(right))


def answer_f1(said: str, right: Sequence[str]) -> float:
    """In [0, 1]: the harmonic mean of the share of its words that are right and of the right words that it
    has, the best over the right answers. Where one of both has no word: 1 if the other has none, else 0.
    """
    words = answer_words(said)
    return max(_f1(words, wanted) for wanted in _wanted(right))


def _wanted(right: Sequence[str]) -> list[list[str]]:
    """Answers without a word count only where all are such."""
    found = [answer_words(text) for text in right]
    return [words for words in found if words] or [[]]


def _f1(said: list[str], right: list[str]) -> float:
    if not said or not right:
        return float(said == right)
    shared = (Counter(said) & Counter(right)).total()
    return 2 * shared / (len(said) + len(right))
