"""Files of text opened, packed or not, and what is said of one that cannot be read."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from kdx.core import shortage
from kdx.core.errors import UserError


class said:
    """What pyarrow or the system says of a file, as a UserError that names it."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UnicodeDecodeError):
            raise not_utf8(self.path) from None
        if not isinstance(error, (ValueError, OSError, EOFError)) or isinstance(error, UserError):
            return  # ArrowInvalid is a ValueError, and so is what json raises
        if shortage.kind_of_shortage(error):
            return
        why = " ".join(str(error).split())
        raise UserError(f"'{self.path}' cannot be read: {why[:200]}") from None


def open_file(path: Path) -> Any:
    """Its bytes, unpacked where its name ends with .gz."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def header_line(path: Path) -> str:
    """Without its end; of a long one the first MB."""
    with said(path), open_file(path) as file:
        return file.readline(1 << 20).decode("utf-8-sig").rstrip("\r\n")


def quoted_header(path: Path) -> str:
    """`header_line` of a CSV or TSV file: names in quotes may hold ends of lines."""
    text = ""
    with said(path), open_file(path) as file:
        while len(text) < 1 << 20 and (line := file.readline(1 << 20)):
            text += line.decode("utf-8" if text else "utf-8-sig")
            if text.count('"') % 2 == 0:
                return text
    return text if text.count("\n") < 2 else header_line(path)  # a quote inside of a name, as of 5"


def not_utf8(path: Path) -> UserError:
    """What is said of a file that is not UTF-8: the first line that is not."""
    with open_file(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                part = line[max(0, error.start - 10) : error.end + 10].decode("latin-1")
                return UserError(
                    f"'{path}' is not UTF-8: line {number} has the byte 0x{line[error.start]:02x} near "
                    f"{part!r}: save it as UTF-8"
                )
    return UserError(f"'{path}' is not UTF-8: save it as UTF-8")
