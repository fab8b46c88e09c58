"""Ways to damage what a run leaves, for scripts/torture.py: each takes a path and a random generator, and
returns whether it did anything.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[Path, random.Random], bool]
TYPES = (None, True, 5, -1, 1.5, "x", "", [], {}, [1], {"a": 1}, 10**30, "\x1b[31m", [[[]]])


def flip(path: Path, rng: random.Random) -> bool:
    content = bytearray(path.read_bytes())
    if not content:
        return False
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return True


def truncate(path: Path, rng: random.Random) -> bool:
    size = path.stat().st_size
    if size < 2:
        return False
    os.truncate(path, rng.randrange(1, size))
    return True


def empty(path: Path, rng: random.Random) -> bool:
    path.write_bytes(b"")
    return True


def garbage(path: Path, rng: random.Random) -> bool:
    path.write_bytes(
        rng.choice(
            [
                rng.randbytes(300),
                b"{" * 3000,
                b"\xff" * 40,
                b"null",
                b"[]",
                b"{}",
                b"text\n" * 20,
                b"0" * path.stat().st_size,
            ]
        )
    )
    return True


def append(path: Path, rng: random.Random) -> bool:
    with path.open("ab") as file:
        file.write(
            rng.choice(
                [
                    b"\0" * 100,
                    b"{}\n",
                    b"[1]\n",
                    b'{"step": "x"}\n',
                    b'{"step": 99, "validation/accuracy": 1.0}\n',
                ]
            )
        )
    return True


def other_type(path: Path, rng: random.Random) -> bool:
    """One value of a JSON document becomes something of another type; of JSON lines, one line."""
    return _change(path, rng, lambda inside, key: inside.__setitem__(key, rng.choice(TYPES)))


def lose(path: Path, rng: random.Random) -> bool:
    """One key or element of a JSON document is gone."""
    return _change(path, rng, lambda inside, key: inside.__delitem__(key))


def exchange(path: Path, rng: random.Random) -> bool:
    """Two values of a JSON document change places."""

    def swap(inside: Any, key: Any) -> None:
        other = rng.choice(list(_keys(inside)))
        inside[key], inside[other] = inside[other], inside[key]

    return _change(path, rng, swap)


def _change(path: Path, rng: random.Random, how: Callable[[Any, Any], None]) -> bool:
    try:
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = rng.randrange(len(lines))
        document = json.loads(lines[at])
    except (ValueError, OSError):
        return False
    spots = [(inside, key) for inside in _containers(document) for key in _keys(inside)]
    if not spots:
        return False
    how(*rng.choice(spots))
    lines[at] = json.dumps(document)
    path.write_text("\n".join(lines) + "\n")
    return True


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _containers(inner)


def _keys(inside: Any) -> Any:
    return inside.keys() if isinstance(inside, dict) else range(len(inside))


def delete(path: Path, rng: random.Random) -> bool:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return True


def copied_over(path: Path, rng: random.Random) -> bool:
    """Another file or folder of its kind is copied into its place: of the same name elsewhere, or a
    neighbour.
    """
    others = [
        p
        for p in {
            *path.parent.iterdir(),
            *(q / path.name for q in path.parent.parent.iterdir()),
            *(r / path.name for r in path.parents[2].glob("*/*")),
        }
        if p != path and not p.is_symlink() and p.is_dir() == path.is_dir() and p.exists()
    ]
    if path.is_dir():
        others += [
            p
            for p in path.parent.parent.glob("*/*")
            if p.is_dir() and not p.is_symlink() and p != path and p.parent.name != "locks"
        ]
    if not others:
        return False
    other = rng.choice(sorted(others))
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(other, path, symlinks=True)
    else:
        shutil.copyfile(other, path)
    return True


def pipe(path: Path, rng: random.Random) -> bool:
    delete(path, rng)
    os.mkfifo(path)
    return True


def link(path: Path, rng: random.Random) -> bool:
    """To something precious that must stay as it is, to nothing, or to itself."""
    where = next(p for p in path.parents if (p / "outside").is_dir()) / "outside"
    folder = path.is_dir()
    delete(path, rng)
    path.symlink_to(rng.choice([where if folder else where / "precious", Path("nowhere"), Path(path.name)]))
    return True


def other_kind(path: Path, rng: random.Random) -> bool:
    """A folder where a file was, a file where a folder was."""
    folder = path.is_dir()
    delete(path, rng)
    path.write_text("x") if folder else path.mkdir()
    return True


def forbid(path: Path, rng: random.Random) -> bool:
    path.chmod(rng.choice([0, 0o200]))
    return True


def write_protect(path: Path, rng: random.Random) -> bool:
    path.chmod(0o555 if path.is_dir() else 0o444)
    return True


def stray(path: Path, rng: random.Random) -> bool:
    """A file that nobody wrote lies in a folder, under the name of one that is read where it is there."""
    name = rng.choice(
        [
            "best.safetensors",
            "curves.json",
            "rows.loss.npy",
            "notes.jsonl",
            "clean.npy",
            "places.npy",
            "x.tmp",
            "checkpoint.pt",
            "junk",
        ]
    )
    if (path / name).exists():
        return False
    source = rng.choice([p for p in path.rglob("*") if p.is_file()] or [None])
    (path / name).write_bytes(source.read_bytes() if source else b"x")
    return True


OF_FILES: tuple[Damage, ...] = (
    flip,
    flip,
    truncate,
    empty,
    garbage,
    append,
    other_type,
    other_type,
    lose,
    exchange,
    delete,
    copied_over,
    copied_over,
    pipe,
    link,
    other_kind,
    forbid,
    write_protect,
)
OF_FOLDERS: tuple[Damage, ...] = (
    delete,
    copied_over,
    copied_over,
    pipe,
    link,
    other_kind,
    forbid,
    write_protect,
    stray,
    stray,
)
