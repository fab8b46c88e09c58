"""Folders of pictures that nobody would want to be given: layouts, names, formats, damage. scripts/torture.py
trains on each.

A generator takes (root, rng), where root does not exist yet, and returns a Folder. To add one, write it and
name it in FOLDERS.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")
Drawn = Callable[[Path, random.Random], "Folder"]


@dataclass(frozen=True)
class Folder:
    """words: further settings of the run. pictures: how many there are to be used or reported as skipped,
    where it is plain; None: it is not.
    """

    words: Sequence[str] = ()
    pictures: int | None = None


def draw(shape: str, rng: random.Random, size: int = 24, mode: str = "RGB") -> Image.Image:
    """A shape somewhere on a plain ground, in colours of its own."""
    ground, ink = (tuple(rng.randrange(low, high) for _ in range(3)) for low, high in ((0, 90), (150, 256)))
    picture = Image.new("RGB", (size, size), ground)
    x, y, r = (
        rng.randint(size // 3, 2 * size // 3),
        rng.randint(size // 3, 2 * size // 3),
        rng.randint(size // 5, size // 3),
    )
    pen = ImageDraw.Draw(picture)
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    elif shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=ink)
    else:
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=ink)
    return picture if mode == "RGB" else picture.convert(mode)


def fill(folder: Path, shape: str, count: int, rng: random.Random, suffix: str = ".png", **more) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        draw(shape, rng, **more).save(folder / f"{number}{suffix}")
    return count


def classes(root: Path, rng: random.Random, count: int = 12, names: Sequence[str] = SHAPES) -> int:
    """One folder a class; returns how many pictures."""
    return sum(fill(root / name, SHAPES[number % 3], count, rng) for number, name in enumerate(names))


# Layouts


def flat(root: Path, rng: random.Random) -> Folder:
    return Folder(pictures=classes(root, rng, rng.randint(8, 16)))


def parts(root: Path, rng: random.Random) -> Folder:
    """train/ and test/ under the names that people give them."""
    names = rng.choice(
        [
            ("train", "test"),
            ("train", "val"),
            ("train", "valid", "test"),
            ("Train", "Test"),
            ("Training", "Testing"),
            ("seg_train", "seg_test"),
            ("TRAIN", "VAL", "TEST"),
            ("training_set", "test_set"),
            ("train", "validation"),
            ("train", "dev"),
        ]
    )
    for name in names:
        classes(root / name, rng, 12 if name.lower().startswith(("train", "seg_train")) else 6)
    return Folder()


def same_folders_in_each_class(root: Path, rng: random.Random) -> Folder:
    for shape in SHAPES:
        for part in ("train", "test"):
            fill(root / shape / part, shape, 6, rng)
    return Folder()


def two_levels(root: Path, rng: random.Random) -> Folder:
    for shape in SHAPES:
        for kind in ("small", "large", f"only of {shape}"):
            fill(root / shape / kind, shape, 5, rng)
    return Folder()


def deep(root: Path, rng: random.Random) -> Folder:
    for shape in SHAPES:
        fill(root / shape / "/".join("abcdefghij" * 3), shape, 10, rng)
    return Folder(pictures=30)


def wrapped(root: Path, rng: random.Random) -> Folder:
    """An archive's own folder around the classes."""
    classes(root / "archive", rng)
    return Folder()


def no_classes(root: Path, rng: random.Random) -> Folder:
    fill(root, "circle", 20, rng)
    return Folder()


def loose_pictures(root: Path, rng: random.Random) -> Folder:
    classes(root, rng)
    fill(root, "circle", 3, rng)
    return Folder()


def test_lacks_a_class(root: Path, rng: random.Random) -> Folder:
    classes(root / "train", rng)
    classes(root / "test", rng, 6, SHAPES[:2])
    if rng.random() < 0.5:
        (root / "test/triangle").mkdir()
    return Folder()


def test_has_another_class(root: Path, rng: random.Random) -> Folder:
    classes(root / "train", rng)
    classes(root / "test", rng, 6, (*SHAPES, "star"))
    return Folder()


def a_pool(root: Path, rng: random.Random) -> Folder:
    """Pictures without classes beside, in a tree, some in the classes' folders too."""
    classes(root / "labelled", rng)
    fill(root / "pool/a/b", "circle", 10, rng)
    fill(root / "pool", "square", 10, rng)
    where = rng.choice(["pool", "labelled", "nothing", "pool/a/b/0.png"])
    return Folder([f"dataset.root={root / 'labelled'}", f"dataset.unlabelled_root={root / where}"])


def nothing_there(root: Path, rng: random.Random) -> Folder:
    kind = rng.randrange(5)
    if kind == 1:
        root.write_text("a file")
    elif kind == 2:
        root.mkdir()
    elif kind == 3:
        os.mkfifo(root)
    elif kind == 4:
        for shape in SHAPES:
            (root / shape).mkdir(parents=True)
    return Folder()


def few(root: Path, rng: random.Random) -> Folder:
    kind = rng.randrange(4)
    if kind == 0:
        classes(root, rng, 12, SHAPES[:1])
    elif kind == 1:
        classes(root, rng, rng.randint(1, 3))
    elif kind == 2:
        for shape, count in zip(SHAPES, (90, 8, 1), strict=True):
            fill(root / shape, shape, count, rng)
    else:
        classes(root, rng, 3, [f"{number}" for number in range(40)])
    return Folder()


def splits_too_large(root: Path, rng: random.Random) -> Folder:
    classes(root, rng)
    return Folder(
        [f"dataset.{rng.choice(['labelled', 'test', 'validation'])}={rng.choice([30, 36, 1000, 0.99, 1, 3])}"]
    )


# Names


def odd_names(root: Path, rng: random.Random) -> Folder:
    names = [
        " leading",
        "trailing ",
        "-rf",
        "--help",
        "a=b",
        "#1",
        "it's",
        'say "x"',
        "$HOME",
        "${seed}",
        "a,b",
        "[x]",
        "{y}",
        "*",
        "%s",
        "\\n",
        "new\nline",
        "tab\t",
        "ünï",
        "日本語",
        "🙂",
        "x" * 200,
        "CON",
        "..x",
        "a;b",
        "@z",
        "~",
        "null",
        "true",
        "1e5",
        "\x1b[31mred",
        "\u202etxt",
    ]
    chosen = rng.sample(names, 3)
    classes(root, rng, 10, chosen)
    for number, name in enumerate(rng.sample(names, 3)):
        draw("circle", rng).save(root / chosen[0] / f"{name}{number}.png")
    return Folder(pictures=seen(root))


def seen(root: Path) -> int:
    """Pictures that are not hidden, as `..x` is."""
    return sum(
        not any(part.startswith(".") for part in path.relative_to(root).parts)
        for path in root.rglob("*")
        if path.is_file()
    )


def odd_root(root: Path, rng: random.Random) -> Folder:
    inner = root / rng.choice(
        ["with space", "a=b", "a,b", "it's", "ünï", "(x)", "[x]", "{x}", "x:y", "#", "a'b\"c", "-x", "tr ue"]
    )
    count = classes(inner, rng, 10)
    return Folder([f"dataset.root={inner}"], count)


def no_unicode(root: Path, rng: random.Random) -> Folder:
    classes(root, rng)
    bad = os.path.join(os.fsencode(root), b"circle" if rng.random() < 0.5 else b"cl\xe9ss")
    os.makedirs(bad, exist_ok=True)
    picture = root / "square/0.png"
    os.rename(picture, os.path.join(bad, b"p\xff.png"))
    return Folder()


def two_unicode_forms(root: Path, rng: random.Random) -> Folder:
    count = classes(root, rng, 10, ("caf\u00e9", "cafe\u0301", "tea"))
    return Folder(pictures=count)


def nearly_the_same_names(root: Path, rng: random.Random) -> Folder:
    return Folder(
        pictures=classes(
            root,
            rng,
            8,
            rng.choice([("Cat", "cat", "CAT"), ("1", "10", "2"), ("a", "a ", "a."), ("x_1", "x-1", "x 1")]),
        )
    )


def what_lies_about(root: Path, rng: random.Random) -> Folder:
    """What desktops, archives and editors leave."""
    count = classes(root, rng)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "README.md", "labels.csv", "._0.png"):
        (root / rng.choice(SHAPES) / name).write_bytes(b"\0\1\2")
    for folder in ("__MACOSX/circle", ".ipynb_checkpoints", ".git/objects", "circle/.cache"):
        fill(root / folder, "circle", 2, rng)
    return Folder(pictures=count)


# Formats and values


def formats(root: Path, rng: random.Random) -> Folder:
    count = classes(root, rng)
    kinds = (
        (".jpg", "RGB"),
        (".JPG", "L"),
        (".JPEG", "CMYK"),
        (".webp", "RGB"),
        (".bmp", "1"),
        (".tif", "RGB"),
        (".gif", "P"),
        (".ppm", "RGB"),
    )
    for number, (suffix, mode) in enumerate(kinds):
        draw("circle", rng, mode=mode).save(root / "circle" / f"f{number}{suffix}")
    (root / "circle/f0.jpg").rename(root / "circle/misnamed.png")
    return Folder(pictures=count + 8)


def modes(root: Path, rng: random.Random) -> Folder:
    """All pictures of one mode that is not plain."""
    mode = rng.choice(["L", "LA", "P", "RGBA", "1", "I;16", "I", "F", "CMYK", "mixed"])
    for shape in SHAPES:
        (root / shape).mkdir(parents=True)
        for number in range(10):
            picture = draw(shape, rng)
            one = rng.choice(["L", "RGB", "RGBA", "P", "1"]) if mode == "mixed" else mode
            if one == "I;16":
                picture = Image.fromarray(
                    (np.asarray(picture.convert("L")).astype(np.uint16) * rng.choice([1, 16, 257])).astype(
                        np.uint16
                    )
                )
            elif one in ("I", "F"):
                values = np.asarray(picture.convert("L"))
                picture = Image.fromarray(
                    values.astype(np.int32)
                    if one == "I"
                    else values.astype(np.float32) / rng.choice([1, 255])
                )
            else:
                picture = picture.convert(one)
            picture.save(root / shape / f"{number}{'.tif' if one in ('I', 'F', 'I;16', 'CMYK') else '.png'}")
    return Folder(pictures=30)


def odd_numbers(root: Path, rng: random.Random) -> Folder:
    """Values that are not finite, negative, constant."""
    classes(root, rng)
    for number, values in enumerate(
        (
            np.full((9, 9), np.nan),
            np.full((9, 9), np.inf),
            np.full((9, 9), -5.0),
            np.zeros((9, 9)),
            np.full((9, 9), 1e30),
        )
    ):
        if rng.random() < 0.6:
            Image.fromarray(values.astype(np.float32)).save(root / "circle" / f"odd{number}.tif")
    return Folder([f"dataset.on_error={rng.choice(['stop', 'skip'])}"])


def constant(root: Path, rng: random.Random) -> Folder:
    for shape in SHAPES:
        (root / shape).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (16, 16), (rng.choice([0, 255, number]),) * 3).save(
                root / shape / f"{number}.png"
            )
    return Folder(pictures=30)


def frames(root: Path, rng: random.Random) -> Folder:
    """Pictures that move or have several pages, and one that a camera turned."""
    count = classes(root, rng)
    several = [draw("circle", rng) for _ in range(3)]
    several[0].save(root / "circle/moving.gif", save_all=True, append_images=several[1:])
    several[0].save(root / "circle/pages.tif", save_all=True, append_images=several[1:])
    turned = Image.Exif()
    turned[0x0112] = 6
    several[1].save(root / "circle/turned.jpg", exif=turned)
    return Folder(pictures=count + 3)


def sizes(root: Path, rng: random.Random) -> Folder:
    """Extreme shapes, and one that is more pixels than anybody means."""
    count = classes(root, rng)
    spots = [(1, 1), (1, 300), (3000, 1), (60000, 1), (2, 2), (4000, 3000), (1, 60000)]
    for number, size in enumerate(rng.sample(spots, 3)):
        Image.new("L", size, 99).save(root / "square" / f"s{number}.png")
        count += 1
    if rng.random() < 0.3:
        Image.new("1", (14000, 14000)).save(root / "square/bomb.png")
        return Folder([f"dataset.on_error={rng.choice(['stop', 'skip'])}"])
    return Folder(pictures=count)


# Damage


def damaged(root: Path, rng: random.Random) -> Folder:
    count = classes(root, rng)
    good = (root / "circle/0.png").read_bytes()
    torn = good[:60] + b"\xff" * 40 + good[100:]
    for number, content in enumerate(
        (b"", good[:20], good[: len(good) // 2], good[:-10], b"text", torn, b"GIF89a" + b"\0" * 9)
    ):
        (root / "circle" / f"bad{number}.png").write_bytes(content)
    return Folder([f"dataset.on_error={rng.choice(['stop', 'skip'])}"], count + 7)


def all_damaged(root: Path, rng: random.Random) -> Folder:
    for shape in SHAPES:
        (root / shape).mkdir(parents=True)
        for number in range(6):
            (root / shape / f"{number}.png").write_bytes(rng.randbytes(50))
    return Folder([f"dataset.on_error={rng.choice(['stop', 'skip'])}"])


def no_files(root: Path, rng: random.Random) -> Folder:
    """Links in a circle, dead ones, pipes, sockets and folders with the name of a picture."""
    classes(root, rng)
    os.mkfifo(root / "circle/pipe.png")
    (root / "circle/dead.png").symlink_to("nowhere.png")
    (root / "circle/circle.png").symlink_to("circle.png")
    (root / "circle/folder.png").mkdir()
    (root / "square/loop").symlink_to("..")
    (root / "triangle/zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(root / "circle")
        one.bind("socket.png")
        os.chdir(here)
    return Folder([f"dataset.on_error={rng.choice(['stop', 'skip'])}"])


def linked(root: Path, rng: random.Random) -> Folder:
    """Classes and pictures that are links, as large collections are often laid out."""
    classes(root.with_name(f"{root.name} kept"), rng)
    root.mkdir()
    for shape in SHAPES[:2]:
        (root / shape).symlink_to(root.with_name(f"{root.name} kept") / shape)
    (root / "triangle").mkdir()
    for number in range(12):
        (root / f"triangle/{number}.png").symlink_to(
            root.with_name(f"{root.name} kept") / f"triangle/{number}.png"
        )
    return Folder(pictures=36)


def forbidden(root: Path, rng: random.Random) -> Folder:
    """Pictures or a class that may not be read."""
    classes(root, rng)
    (root / rng.choice(["circle", "circle/0.png", "square/3.png"])).chmod(0)
    return Folder([f"dataset.on_error={rng.choice(['stop', 'skip'])}"])


def duplicates(root: Path, rng: random.Random) -> Folder:
    classes(root / "train", rng)
    classes(root / "test", rng, 6)
    content = (root / "train/circle/0.png").read_bytes()
    for spot in (
        "train/circle/copy.png",
        "train/square/copy.png",
        "test/circle/copy.png",
        "test/circle/again.png",
    ):
        (root / spot).write_bytes(content)
    return Folder(
        [f"dataset.duplicates={rng.choice(['warn', 'drop', 'error'])}"] if rng.random() < 0.5 else []
    )


FOLDERS: tuple[Drawn, ...] = (
    flat,
    parts,
    same_folders_in_each_class,
    two_levels,
    deep,
    wrapped,
    no_classes,
    loose_pictures,
    test_lacks_a_class,
    test_has_another_class,
    a_pool,
    nothing_there,
    few,
    splits_too_large,
    odd_names,
    odd_root,
    no_unicode,
    two_unicode_forms,
    nearly_the_same_names,
    what_lies_about,
    formats,
    modes,
    odd_numbers,
    constant,
    frames,
    sizes,
    damaged,
    all_damaged,
    no_files,
    linked,
    forbidden,
    duplicates,
)
