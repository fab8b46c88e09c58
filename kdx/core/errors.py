"""Errors that are the user's to mend: reported in one to three plain lines, never as a traceback. Standard
library only.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from kdx.core.several import kinds_in

_MANY = 4
"""Lines that are said of one value, at most."""
LONG_WORD, LONG_LINE = re.compile(r"\S{600,}"), 4000


class UserError(Exception):
    """Something the user asked for cannot be done. The message says what was wanted, what was given and what
    to do.

    It may quote what a file holds: a word or a line that nobody would read is cut.
    """

    def __init__(self, message: object = ""):
        super().__init__(_cut(str(message)))


class UserErrors(UserError):
    """Several errors found together."""

    def __init__(self, messages: Iterable[str]):
        self.messages = list(dict.fromkeys(_cut(str(m)) for m in messages))
        Exception.__init__(self, "\n".join(self.messages))


class WrongPart(UserError):
    """A part of the user's own is not what its kind must be. Who tries it says where it lies."""


class WrongStudent(UserError):
    """A loss, or a term on hidden layers, has no meaning for the network that it was given. It is not said
    where no student could be built, as another stood in for it, nor beside what is wrong with the loss's own
    keys.
    """


class Caution(UserWarning):
    """Something that a method noticed and the user should know; given with `warnings.warn`, it is shown and
    kept with the run.
    """


@contextlib.contextmanager
def within(what: str) -> Iterator[None]:
    """A UserError raised inside says first where: `claim kd: the key ...`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error


def _cut(text: str) -> str:
    words = LONG_WORD.sub(lambda found: f"{found[0][:400]}...{found[0][-100:]}", text)
    return (
        words
        if len(words) <= LONG_LINE
        else "\n".join(
            line if len(line) <= LONG_LINE else f"{line[:LONG_LINE]}..." for line in words.splitlines()
        )
    )


def printable(text: str) -> str:
    """A text with every character that a terminal would obey, that turns the direction of writing or is half
    a character, as its escape: `\\x1b`.

    A byte of the command line or of a path that is no UTF-8, which Python keeps as half a character, is
    reported as that byte: `caf\\xe9`.
    """
    return text if text.isprintable() else "".join(_escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    obeyed = unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t"
    turns = unicodedata.bidirectional(letter) in (
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    )
    return letter.encode("unicode_escape").decode() if obeyed or turns else letter


def type_name(value: object) -> str:
    """ "a list", "an int" """
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def in_short(messages: Sequence[str], what: str) -> list[str]:
    """What is wrong inside one value, a list say: the first three of many, and how many more there are. what:
    the key.
    """
    return (
        list(messages)
        if len(messages) <= _MANY
        else [*messages[: _MANY - 1], f"{what}: {len(messages) - _MANY + 1} more of its values are wrong"]
    )


def rows_called(reads: str) -> str:
    """What rows are, in a sentence, of the word that a data set and a network have for them (`reads`)."""
    return " with ".join("rows of tables" if kind == "table" else kind for kind in kinds_in(reads))


def together(names: Sequence[str], word: str = "and") -> str:
    """`a, b and c`"""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def closest(word: str, options: Iterable[str], least: float) -> str:
    """The option that is spelled most like a word; empty where none is. least: how alike they must be, from 0
    to 1, where they are the same.
    """
    return next(iter(difflib.get_close_matches(word, sorted(options), n=1, cutoff=least)), "")


def nearest(word: str, options: Iterable[str]) -> str:
    """A clause that names the closest option, or all of them when they are few: `; did you mean 'kd'?`"""
    options = sorted(str(o) for o in options)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    small = {option.lower(): option for option in reversed(options)}
    if not close or word.lower() in small:  # capitals are no other word
        close = [small[name] for name in difflib.get_close_matches(word.lower(), small, n=1, cutoff=0.6)]
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; one of: {', '.join(options)}" if options and len(options) <= 50 else ""


def lacks_answer(loss: str, what: str, who: str = "this teacher") -> UserError:
    """The error of a loss, as sentences call it ("loss=heteroscedastic"), that reads `what` of answers (see
    `Objective.needs_answers`), where a teacher does not tell it.
    """
    return UserError(
        f"{loss} weighs the teacher's answers by their {what}, and {who} tells none: choose one that "
        "does, such as teacher=sklearn teacher.estimator=RandomForestRegressor, or loss=kd"
    )
