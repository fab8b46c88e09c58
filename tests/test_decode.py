"""How picture files become squares of bytes: depth, transparency, shape and size, on small drawn pictures
with the values worked out by hand.
"""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdx.core.errors import UserError
from kdx.data.datasets.folder import Folder
from kdx.data.new_rows.pictures import NewPictures
from kdx.data.pictures import square
from kdx.data.pictures.encoded import EncodedPart, EncodedRows, HowRead
from kdx.store.artifact import Artifact

RAMP = np.array([[0, 1024], [2048, 4095]])
SETTINGS = dict(
    unlabelled_root=None,
    layout="auto",
    image_size=4,
    fit="crop",
    background="white",
    range=None,
    max_pixels=89478485,
    on_error="stop",
    encoded="auto",
    memory=10**9,
)


def folder(root, **more):
    return Folder(root=str(root), **(SETTINGS | more))


def big(values):
    """Each value as a block of 2x2, so that a picture of 2x2 fills image_size=4 without being resized."""
    return np.kron(np.asarray(values), np.ones((2, 2), np.asarray(values).dtype))


def lay(root, **pictures):
    """root/a and root/b with each of these pictures: arrays or pictures of Pillow's, by file name with "_"
    for the dot.
    """
    for where in "ab":
        (root / where).mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            if isinstance(picture, bytes):
                (root / where / name.replace("_", ".")).write_bytes(picture)
            else:
                (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(
                    root / where / name.replace("_", ".")
                )
    return root


def levels(raw, row=0):
    """The value of each block of a picture that `big` made, (C, 2, 2); it has no others."""
    image = raw.images[row]
    assert (image == np.kron(image[:, ::2, ::2], np.ones((2, 2), np.uint8))).all()
    return image[:, ::2, ::2].tolist()


def reported(raw):
    return "\n".join(f"{level}: {text}" for text, level in raw.notes)


def png16(values):
    """A PNG of sixteen bits: (H, W, C), which Pillow reads and does not write."""
    high, wide, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", wide, high, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(values, *, packed=False, apart=False, photometric=None, extra=()):
    """A TIFF of numbers of any type, (H, W) or (H, W, C), as other programs write them and Pillow does not.

    packed: deflated; apart: channel after channel; extra: what each channel beyond the colours is: 0 nothing,
    1 opacity that the colours are multiplied by, 2 opacity.
    """
    values = np.asarray(values)
    order = ">" if values.dtype.byteorder == ">" else "<"
    high, wide, channels = (*values.shape, 1)[:3]
    kind = {"u": 1, "i": 2, "f": 3, "c": 6}[values.dtype.kind]
    parts = [part.tobytes() for part in (np.moveaxis(values, -1, 0) if apart else [values])]
    parts = [zlib.compress(part) for part in parts] if packed else parts
    photometric = (1 if channels == 1 else 2) if photometric is None else photometric
    bits = [values.itemsize * 8] * channels
    tags = {
        256: [wide],
        257: [high],
        258: bits,
        259: [8 if packed else 1],
        262: [photometric],
        273: [0] * len(parts),
        277: [channels],
        278: [high],
        279: [len(part) for part in parts],
        284: [2 if apart else 1],
        338: list(extra),
        339: [kind] * channels,
    }
    tags = {tag: found for tag, found in tags.items() if found}
    start = 8 + 2 + 12 * len(tags) + 4  # of what does not fit into its tag, then of the pixels
    starts = (
        start
        + sum(4 * len(found) for found in tags.values() if len(found) > 1)
        + np.cumsum([0, *map(len, parts)])[:-1]
    )
    tags[273] = starts.tolist()
    entries, behind = b"", b""
    for tag, found in tags.items():
        numbers = struct.pack(f"{order}{len(found)}I", *found)
        lie = len(found) > 1
        entries += struct.pack(f"{order}HHI", tag, 4, len(found)) + (
            struct.pack(f"{order}I", start + len(behind)) if lie else numbers
        )
        behind += numbers if lie else b""
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8) + struct.pack(
        f"{order}H", len(tags)
    )
    return head + entries + bytes(4) + behind + b"".join(parts)


# ---- values


def test_sixteen_bits_take_their_range_from_the_data_set(tmp_path):
    raw = folder(
        lay(tmp_path, x_png=big(RAMP.astype(np.uint16)), y_png=big(RAMP.astype(np.uint16) // 2))
    ).load()
    # 1024 / 4095 * 255 = 63.8, 2048 / 4095 * 255 = 127.5 and a little
    assert levels(raw) == [[[0, 64], [128, 255]]]
    assert levels(raw, 1) == [[[0, 32], [64, 127]]]  # the same scale for every picture: a dark one stays dark
    assert reported(raw) == (
        "info: 4 16-bit pictures with values up to 4095: 0 to 4095 becomes black to white "
        "(dataset.range=[LOW,HIGH] sets other ends)"
    )
    assert raw.files == {"depths": {"16-bit": 4}, "range": {"16-bit": [0.0, 4095.0]}, "warnings": []}


@pytest.mark.parametrize(
    ("values", "want", "range"),
    [
        (np.array([[0, 1], [128, 255]], np.uint16), [0, 1, 128, 255], [0, 255]),
        (np.array([[0, 1], [128, 255]], np.int32), [0, 1, 128, 255], [0, 255]),
        # the largest number of as many bits
        (
            np.array([[0, 1], [128, 250]], np.uint16),
            [0, 1, 128, 250],
            [0, 255],
        ),
        (np.array([[0, 1], [0, 1]], np.uint16), [0, 255, 0, 255], [0, 1]),
        # 127.5 to the even number, 63.75, 191.25
        (
            np.array([[0, 0.5], [0.25, 0.75]], np.float32),
            [0, 128, 64, 191],
            [0, 1],
        ),
        # in [0, 1], so as such: 25.5 -> 26 in float32, 76.5 -> 76
        (
            np.array([[0, 0.1], [0.2, 0.3]], np.float32),
            [0, 26, 51, 76],
            [0, 1],
        ),
        (np.array([[0, 50], [100, 200]], np.float32), [0, 64, 128, 255], [0, 200]),
        (np.array([[-1, 0], [0.5, 1]], np.float32), [0, 128, 191, 255], [-1, 1]),
        (np.array([[-1000, 0], [500, 1000]], np.int32), [0, 128, 191, 255], [-1000, 1000]),
        (np.array([[0, 2**31], [2**32 - 1, 0]], np.uint32), [0, 128, 255, 0], [0, 2**32 - 1]),
    ],
)
def test_the_range_is_found(tmp_path, values, want, range):
    lay(tmp_path, x_tif=big(values.view(np.int32) if values.dtype == np.uint32 else values))
    if values.dtype == np.uint32:  # Pillow writes them as numbers with a sign
        for file in tmp_path.rglob("*.tif"):
            signed, unsigned = (struct.pack("<HHLL", 339, 3, 1, kind) for kind in (2, 1))
            assert signed in file.read_bytes()
            file.write_bytes(file.read_bytes().replace(signed, unsigned))
    raw = folder(tmp_path).load()
    assert np.ravel(levels(raw)).tolist() == want
    assert list(raw.files["range"].values()) == [range] and raw.images.shape[1] == 1


def test_signed_bytes_do_not_wrap_round(tmp_path):
    raw = folder(lay(tmp_path, x_tif=tiff(big(np.array([[-128, 0], [64, 127]], np.int8))))).load()
    assert (
        levels(raw) == [[[0, 128], [192, 255]]]
        and raw.files["depths"] == {"signed 8-bit": 2}
        and raw.files["range"] == {"signed 8-bit": [-128, 127]}
    )


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        (
            "<f8",
            (
                "it holds 64-bit float numbers, which Pillow does not read; save it as 32-bit float, remove "
                "it, or set dataset.on_error=skip"
            ),
        ),
        ("<f2", "it holds 16-bit float numbers, "),
        ("<u8", "it holds 64-bit whole numbers, "),
        (">u4", "it holds big-endian 32-bit whole numbers, "),
        (">i8", "it holds big-endian 64-bit signed whole numbers, "),
        ("<c8", "it holds 64-bit complex float numbers, "),
    ],
)
def test_numbers_that_pillow_does_not_read_are_named(tmp_path, dtype, says):
    with pytest.raises(UserError) as error:
        folder(lay(tmp_path, x_tif=tiff(big(np.arange(4).reshape(2, 2)).astype(dtype)))).load()
    assert str(error.value).startswith(
        f"the picture '{tmp_path}/a/x.tif' (and at least 1 more) does not decode: {says}"
    )


def test_what_is_no_picture_is_reported_without_its_path_twice(tmp_path):
    lay(tmp_path, x_png=big(np.array([[0, 10], [20, 30]], np.uint8)))
    colours = tiff(np.zeros((4, 4, 3), np.float32))
    for content, why in (
        (b"", "it is empty"),
        (b"hello", "it is no picture of a kind that Pillow knows"),
        (colours[:60], "it is no picture of a kind"),
        (
            colours,
            (
                "it holds 32-bit float numbers in 3 channels, which Pillow does not read; save it as whole "
                "numbers of 8 or 16 bits, "
            ),
        ),
    ):
        (tmp_path / os.fsdecode(b"a/caf\xe9.tif")).write_bytes(content)
        with pytest.raises(UserError) as error:
            folder(tmp_path).load()
        assert (
            str(error.value).startswith(f"the picture '{tmp_path}/a/caf\\xe9.tif' does not decode: {why}")
            and str(error.value).count("caf") == 1
        )


def test_what_pillow_does_not_open_is_named_as_what_it_is(tmp_path):
    lay(tmp_path, x_png=big(np.array([[0, 10], [20, 30]], np.uint8)))
    svg = b'<?xml version="1.0"?>\n<!-- drawn --><svg xmlns="http://www.w3.org/2000/svg"/>'
    files = (
        (
            b"\0\0\0\x18ftypheic" + bytes(40),
            (
                "it is a HEIC picture, as telephones take them, and Pillow does not read these; save it as "
                "JPEG or PNG, remove"
            ),
        ),
        (
            bytes(128) + b"DICM",
            (
                "it is a DICOM file, which Pillow does not read; save it as PNG or TIFF, remove it, or set "
                "dataset.on_error=skip"
            ),
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "it is a Git LFS pointer and not the picture itself; fetch it with `git lfs pull`, ",
        ),
        (
            b"\xef\xbb\xbf\n<!DOCTYPE html>",
            "it is a web page, an error page say; download it again, remove it",
        ),
        (svg, "it is a drawing (SVG) and holds no pixels; save it as PNG"),
        (svg[:21], "it is no picture of a kind that Pillow knows; remove it"),
        (b"\0\0\0\x18ftypisom", "it is no picture of a kind that Pillow knows; remove it"),
    )
    for content, why in files:
        (tmp_path / "a/y.jpg").write_bytes(content)
        with pytest.raises(UserError) as error:
            folder(tmp_path).load()
        assert str(error.value).startswith(f"the picture '{tmp_path}/a/y.jpg' does not decode: {why}")


def test_a_link_to_nothing_is_reported_as_that(tmp_path):
    lay(tmp_path, x_png=big(np.array([[0, 10], [20, 30]], np.uint8)))
    (tmp_path / "a/y.png").symlink_to("/nonexistent/annex/objects/key")
    with pytest.raises(
        UserError,
        match=(
            r"does not decode: it is a link to a file that is not there \(of git-annex or DVC, say, and not "
            r"fetched\); remove"
        ),
    ):
        folder(tmp_path).load()
    assert folder(tmp_path, on_error="skip").load().skipped == {
        "a/y.png": "it is a link to a file that is not there (of git-annex or DVC, say, and not fetched)"
    }


def test_a_class_of_pictures_that_pillow_does_not_read_is_no_empty_one(tmp_path):
    lay(tmp_path, x_png=big(np.array([[0, 10], [20, 30]], np.uint8)))
    (tmp_path / "b/x.png").rename(tmp_path / "b/x.heic")
    (tmp_path / "b/x.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    for how in (Folder.describe, Folder.load):
        with pytest.raises(
            UserError,
            match=(
                "^no file of the class 'b' is a picture of a kind that Pillow knows; the first is "
                "'.*b/x.heic': it is a HEIC picture"
            ),
        ):
            how(folder(tmp_path, on_error="skip"))


def test_a_range_that_is_given_holds_and_what_lies_beyond_is_reported(tmp_path):
    lay(tmp_path, x_png=big(RAMP.astype(np.uint16)))
    raw = folder(tmp_path, range=[1024, 3072]).load()
    assert levels(raw) == [[[0, 0], [128, 255]]]  # 127.5 to the even number
    assert "2 16-bit pictures: 1024 to 3072 becomes black to white (as dataset.range has it)" in reported(raw)
    assert "warning: 2 pictures with values beyond that, which become black or white" in reported(
        raw
    ) and "(a/x.png, b/x.png)" in reported(raw)
    assert levels(folder(tmp_path, range=8190).load()) == [[[0, 32], [64, 128]]]
    lay(tmp_path / "bytes", x_png=big(np.array([[0, 10], [20, 30]], np.uint8)))
    raw = folder(tmp_path / "bytes", range=100).load()
    # dark pictures of eight bits stay as they are
    assert levels(raw) == [[[0, 10], [20, 30]]] and "there are none: it has no effect" in reported(raw)


def test_what_is_no_number_becomes_black_and_is_reported(tmp_path):
    raw = folder(lay(tmp_path, x_tif=big(np.array([[np.nan, np.inf], [0.5, 1]], np.float32)))).load()
    assert levels(raw) == [[[0, 0], [128, 255]]] and raw.files["range"] == {"float": [0, 1]}
    assert (
        "warning: 2 pictures with values that are no numbers (NaN or infinite), which become black "
        "(a/x.tif, b/x.tif)"
    ) in reported(raw)
    assert len(raw.files["warnings"]) == 1


def test_channels_of_sixteen_bits_keep_their_lower_bytes(tmp_path):
    colour = np.stack([big(RAMP), big(RAMP.T), big(RAMP) * 0], -1).astype(np.uint16)
    lay(tmp_path, x_png=png16(colour))
    raw = folder(tmp_path).load()
    assert levels(raw) == [[[0, 64], [128, 255]], [[0, 128], [64, 255]], [[0, 0], [0, 0]]]
    assert "2 16-bit pictures with values up to 4095" in reported(raw)
    half = np.full((4, 4, 1), 32768)
    raw = folder(
        lay(tmp_path / "alpha", x_png=png16(np.concatenate([colour, half], -1).astype(np.uint16)))
    ).load()
    # 127.5 of white behind, and half of the above: 127.498, 159.38, 191.26, 255
    assert levels(raw)[0] == [
        [127, 159],
        [191, 255],
    ]
    grey = folder(
        lay(
            tmp_path / "grey", x_png=png16(np.concatenate([big(RAMP)[..., None], half], -1).astype(np.uint16))
        ),
        background=0,
    ).load()
    assert levels(grey) == [[[0, 32], [64, 128]]]


GREYS = {  # (values, white of 16 bits, background) -> grey, by hand: (19595 R + 38470 G + 7471 B) / 65536
    "all 16 bits": ([51400, 25700, 12850], 65535, "white", 124),  # 124.2: 200, 100 and 50 of eight bits
    "12 bits": ([4000, 100, 7], 4095, "white", 78),  # 1255.48 / 4095 * 255 = 78.18
    "lower bytes alone": ([200, 100, 50], 255, "white", 124),  # of eight upper bits nothing were left
    "white": ([4095, 4095, 4095], 4095, "black", 255),
    "cut off in each channel": ([5000, 0, 0], 4095, "white", 76),  # 255 * .29900 = 76.24
    "half on white": ([51400, 25700, 12850, 32768], 65535, "white", 190),  # (124.2 + 255) / 2 = 189.6
    "half on red": ([51400, 25700, 12850, 32768], 65535, "red", 100),  # (124.2 + 76) / 2 = 100.1
    "transparent": ([51400, 25700, 12850, 0], 65535, "red", 76),
}


@pytest.mark.parametrize("called", GREYS)
def test_a_network_of_grey_pictures_sees_the_luminance_of_coloured_ones(tmp_path, called):
    """As `kdx predict` reads them, and as rows that stay in their files are read; in PNG and TIFF."""
    values, white, background, want = GREYS[called]
    picture = np.full((4, 4, len(values)), values, np.uint16)
    Path(tmp_path, "a.png").write_bytes(png16(picture))
    extra = [2] if len(values) == 4 else []
    Path(tmp_path, "b.tif").write_bytes(tiff(picture, extra=extra))
    Path(tmp_path, "c.tif").write_bytes(tiff(picture.astype(">u2"), packed=True, extra=extra))
    Path(tmp_path, "d.tif").write_bytes(tiff(picture, apart=True, extra=extra))
    how = {"fit": "crop", "background": background, "range": {"16-bit": [0, white]}}
    new = NewPictures(tmp_path, (1, 4, 4), how, 0)
    (block,) = new.blocks(10)
    assert block.inputs.shape == (4, 1, 4, 4) and np.unique(block.inputs).tolist() == [want]
    assert not new.unread and "4 of 4 pictures are coloured and read as grey" in " ".join(new.notes())
    asked = {"image_size": 4, "fit": "crop", "background": background}
    read = HowRead(asked, True, {"16-bit": (0, white)}, 10**6, {"root": str(tmp_path)})
    rows = EncodedRows(read, [EncodedPart(["root:a.png", "root:c.tif"], np.array([1, 1], np.uint8))])
    assert np.unique(rows.read(np.arange(2))).tolist() == [want]


def test_grey_of_a_deep_picture_is_that_of_the_same_picture_in_eight_bits(tmp_path):
    eight = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(eight).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png16(eight.astype(np.uint16) * 257))
    how = {"fit": "crop", "background": "white", "range": {"16-bit": [0, 65535]}}
    (block,) = NewPictures(tmp_path, (1, 40, 40), how, 0).blocks(2)
    assert np.array_equal(block.inputs[0], block.inputs[1])


def kinds(folder):
    """A colour in each kind of picture that Pillow writes -> (its grey, its colours)."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = Image.new("RGB", (4, 4), (200, 100, 50))
    half, grey, few = plain.convert("RGBA"), Image.new("L", (4, 4), 128), plain.quantize(4)
    half.putalpha(128)
    clear = few.getpixel((0, 0))
    plain.convert("CMYK").save(folder / "cmyk.tif")
    Image.new("LAB", (4, 4), (128, 128, 128)).save(folder / "lab.tif")
    half.save(folder / "rgba.png")
    Image.merge("LA", [grey, Image.new("L", (4, 4), 128)]).save(folder / "la.png")
    few.save(folder / "palette.png")
    few.save(folder / "clear.png", transparency=clear)
    few.save(folder / "clear.gif", transparency=clear)
    Image.frombytes("I;16B", (4, 4), np.full((4, 4), 1000, ">u2").tobytes()).save(folder / "big.tif")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(folder / "float.tif")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(folder / "long.tif")
    return {
        "cmyk.tif": (124, [200, 100, 50]),
        "lab.tif": (119, [119, 119, 119]),  # L* = 50 is 18.4% of light, 0.466 of sRGB
        "rgba.png": (190, [227, 177, 152]),
        "la.png": (191, [191, 191, 191]),
        "palette.png": (124, [200, 100, 50]),
        "clear.png": (255, [255, 255, 255]),
        "clear.gif": (255, [255, 255, 255]),
        "big.tif": (62, [62, 62, 62]),  # 1000 / 4095 * 255 = 62.3
        "float.tif": (128, [128, 128, 128]),
        "long.tif": (136, [136, 136, 136]),  # 70000 / 131071 * 255 = 136.2
    }


def test_each_kind_of_picture_has_one_grey_and_one_colour(tmp_path):
    want = kinds(tmp_path)
    spans = {"16-bit": [0, 4095], "float": [0, 1], "32-bit": [0, 131071]}
    how = {"fit": "crop", "background": "white", "range": spans}
    for place, channels in enumerate((1, 3)):
        new = NewPictures(tmp_path, (channels, 4, 4), how, 0)
        (block,) = new.blocks(len(want))
        assert not new.unread and sorted(want) == block.known_by["file"]
        for name, seen in zip(sorted(want), block.inputs, strict=True):
            expected = np.atleast_1d(want[name][place])
            assert np.abs(seen[:, 2, 2].astype(int) - expected).max() <= 1, (name, seen[:, 2, 2])
            assert (seen == seen[:, :1, :1]).all()


def tiffs(dtype, channels):
    """Every way in which a TIFF may hold the same pixels: order of bytes, deflated or not, channel after
    channel or not.
    """
    return [
        (np.dtype(dtype).newbyteorder(order), {"packed": packed, "apart": apart})
        for order in "<>"
        for packed, apart in ((False, False), (True, False), (False, True))
        if channels > 1 or not apart
    ]


@pytest.mark.parametrize("dtype", ["u2", "i2", "i4", "f4"])
def test_a_tiff_is_read_alike_however_its_numbers_lie(tmp_path, dtype):
    values = big(RAMP) / 4095 if dtype == "f4" else big(RAMP)
    for i, (kind, way) in enumerate(tiffs(dtype, 1)):
        for turned in (
            (False, True) if dtype in ("f4", "u2") and (kind.str[0] != ">" or dtype == "f4") else (False,)
        ):
            where = tmp_path / f"{i}{turned}"
            raw = folder(
                lay(
                    where,
                    x_tif=tiff(values.astype(kind), photometric=0 if turned else 1, packed=way["packed"]),
                )
            ).load()
            # 63.77 and 127.53 of 255, or what is left of that
            want = [[[255, 191], [127, 0]]] if turned else [[[0, 64], [128, 255]]]
            assert levels(raw) == want, (kind, way, turned)


def test_colours_of_sixteen_bits_in_a_tiff_are_read_alike_however_they_lie(tmp_path):
    colour = np.stack([big(RAMP), big(RAMP.T), big(RAMP) * 0], -1)
    for i, (kind, way) in enumerate(tiffs("u2", 3)):
        raw = folder(lay(tmp_path / str(i), x_tif=tiff(colour.astype(kind), **way))).load()
        assert levels(raw) == [[[0, 64], [128, 255]], [[0, 128], [64, 255]], [[0, 0], [0, 0]]], (kind, way)
        assert raw.files["range"] == {"16-bit": [0, 4095]}


def test_opacity_of_sixteen_bits_in_a_tiff_is_heeded_however_it_lies(tmp_path):
    colour = np.stack([big(RAMP), big(RAMP.T), big(RAMP) * 0], -1)
    for i, (kind, way) in enumerate(tiffs("u2", 4)):
        for extra, given, opacity in (
            (0, colour, 32768),
            (2, colour, 32768),
            (1, colour * 32768 // 65535, 32768),
            (2, colour, 0),
        ):
            where = lay(
                tmp_path / f"{i}{extra}{opacity}",
                x_tif=tiff(np.dstack([given, np.full((4, 4), opacity)]).astype(kind), extra=(extra,), **way),
            )
            red = levels(folder(where, range=[0, 4095]).load())[0]
            want = (
                [[0, 64], [128, 255]]
                if extra == 0
                else [[255, 255], [255, 255]]
                if opacity == 0
                else [[127, 159], [191, 255]]
            )
            # what was divided by two has lost a bit
            assert np.abs(np.array(red) - want).max() <= (extra == 1), (
                kind,
                way,
                extra,
                red,
            )


def test_channels_apart_that_pillow_does_not_read_are_refused(tmp_path):
    for name, values, more in (
        ("LA", np.zeros((4, 4, 2), np.uint8), {"photometric": 1, "extra": (2,)}),
        ("LA", np.zeros((4, 4, 2), np.uint8), {"photometric": 1, "extra": (2,), "packed": True}),
        ("RGB", np.zeros((4, 4, 3), np.uint16), {"packed": True}),
        ("CMYK", np.zeros((4, 4, 4), np.uint16), {"photometric": 5}),
    ):
        with pytest.raises(
            UserError,
            match=(
                f"it holds its {len(name)} channels one after the other \\(planar\\), which Pillow does not "
                "read; save it as one with"
            ),
        ):
            folder(lay(tmp_path, x_tif=tiff(values, apart=True, **more))).load()


def test_depths_may_be_mixed_and_each_has_its_own_range(tmp_path):
    lay(
        tmp_path,
        a_png=big(RAMP.astype(np.uint16)),
        b_png=big(np.array([[0, 10], [20, 30]], np.uint8)),
        c_tif=big(np.array([[0, 1], [0, 0.5]], np.float32)),
    )
    raw = folder(tmp_path).load()
    assert [levels(raw, row) for row in range(3)] == [
        [[[0, 64], [128, 255]]],
        [[[0, 10], [20, 30]]],
        [[[0, 255], [0, 128]]],
    ]
    assert (
        "warning: pictures of several depths (2 16-bit, 2 8-bit, 2 float), each with a "
        "black and a white of its own"
    ) in reported(raw)


def test_the_range_is_looked_for_over_the_whole_list(tmp_path, monkeypatch):
    lay(tmp_path)
    for i in range(8):
        Image.fromarray(np.full((4, 4), 100 + 100 * (i >= 6), np.uint16)).save(tmp_path / "b" / f"{i}.png")
    Image.fromarray(np.full((4, 4), 100, np.uint16)).save(tmp_path / "a" / "0.png")
    monkeypatch.setattr("kdx.data.pictures.decode.LOOKED_AT", 3)
    assert folder(tmp_path).load().files["range"] == {"16-bit": [0, 255]}


PICTURES = {"task": {}, "reads": "pictures"}
"""Of a data.json."""


def test_other_pictures_for_the_same_networks_may_have_another_range(tmp_path):
    from kdx.runs.remarks import strange  # takes torch

    made = {}
    for name, most in (("learned", 4095), ("other", 255)):
        made[name] = Artifact("prepare", name, tmp_path / name)
        (tmp_path / name).mkdir()
        lay(tmp_path / name / "files", x_png=big((RAMP * (most / 4095)).astype(np.uint16)))
        raw = folder(tmp_path / name / "files").load()
        made[name].file("data.json").write_text(json.dumps(PICTURES | {"files": raw.files}))
        for split in ("labelled", "test"):
            np.save(made[name].file(f"{split}.inputs.npy"), raw.images[:1])
    wanted = (
        "black to white was 0 to 4095 in the 16-bit pictures learned from, and is 0 to 255 in these: "
        "dataset.range=[0,4095] reads them alike"
    )
    assert strange(made["learned"], made["other"], "test") == [wanted]
    again = (
        "1 of 1 test pictures is among those that were trained on, so that the figures "
        "are none of new pictures"
    )
    assert strange(made["learned"], made["learned"], "test") == [again]


def test_other_pictures_for_the_same_networks_may_be_cut_otherwise_or_lie_on_another_ground(tmp_path):
    from kdx.runs.remarks import strange  # takes torch

    long = Image.fromarray(np.repeat(big(np.array([[0, 50], [100, 200]], np.uint8)), 2, 1))

    def made(name, picture, **how):
        found = Artifact("prepare", name, tmp_path / name)
        raw = folder(lay(tmp_path / name, x_png=picture), **how).load()
        found.file("data.json").write_text(json.dumps(PICTURES | {"files": raw.files}))
        np.save(found.file("test.inputs.npy"), raw.images[:1])
        return found

    fit = (
        "dataset.fit was {} for the pictures learned from, and is {} for these: "
        "dataset.fit={} reads them alike"
    )
    ground = (
        "dataset.background was {} for the pictures learned from, and is {} for these: dataset.background={} "
        "reads them alike"
    )
    squeezed, padded, cut, dark = (
        made(how, long, fit=how) if how != "dark" else made(how, long, fit="pad", background="black")
        for how in ("squeeze", "pad", "crop", "dark")
    )
    assert strange(squeezed, cut, "test") == [fit.format("squeeze", "crop", "squeeze")]
    assert strange(padded, dark, "test") == [ground.format("[255,255,255]", "[0,0,0]", "[255,255,255]")]
    clear, red = made("clear", icon(), background=[0, 0, 9]), made("red", icon(), background="red")
    assert strange(clear, red, "test") == [ground.format("[0,0,9]", "[255,0,0]", "[0,0,9]")]
    # square and opaque: neither is seen
    plain = made("plain", big(np.array([[0, 50], [100, 200]], np.uint8)), background="red", fit="squeeze")
    assert not any(
        strange(*those, "test")
        for those in ((plain, cut), (cut, plain), (plain, clear), (squeezed, clear), (cut, cut))
    )


# ---- transparency


def icon(mode="RGBA"):
    """Opaque red, opaque blue, transparent black, half transparent red, as blocks."""
    pixels = big(np.arange(4).reshape(2, 2))
    return Image.fromarray(
        np.array([[255, 0, 0, 255], [0, 0, 255, 255], [0, 0, 0, 0], [255, 0, 0, 128]], np.uint8)[pixels]
    ).convert(mode)


def test_transparent_pixels_show_the_background(tmp_path):
    lay(tmp_path, x_png=icon())
    assert levels(folder(tmp_path).load()) == [
        [[255, 0], [255, 255]],
        [[0, 0], [255, 127]],
        [[0, 255], [255, 127]],
    ]
    assert levels(folder(tmp_path, background="#00ff00").load()) == [
        [[255, 0], [0, 128]],
        [[0, 0], [255, 127]],
        [[0, 255], [0, 0]],
    ]
    assert levels(folder(tmp_path, background=100).load())[1] == [[0, 0], [100, 50]]
    assert levels(folder(tmp_path, background=[1, 2, 3]).load())[2] == [[0, 255], [3, 1]]


def cut_out(mode):
    """A picture whose third block is transparent: by a level, a colour or an entry of the palette that stands
    for it, or by an alpha channel.
    """
    grey = big(np.array([[10, 20], [0, 40]], np.uint8))
    if mode in ("LA", "RGBA"):
        alpha = np.where(grey == 0, 0, 255).astype(np.uint8)
        return Image.fromarray(np.stack([grey] * (len(mode) - 1) + [alpha], -1)), {}
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257), {"transparency": 0}
    picture = Image.fromarray(grey).convert("RGB" if mode == "P" else mode)
    return (
        (picture.quantize(8), {})
        if mode == "P"
        else (picture, {"transparency": (0, 0, 0) if mode == "RGB" else 0})
    )


@pytest.mark.parametrize(
    "kind",
    [
        "L.png",
        "RGB.png",
        "P.png",
        "P.gif",
        "LA.png",
        "RGBA.png",
        "RGBA.webp",
        "I;16.png",
        "RGBA.tif",
        "LA.tif",
    ],
)
def test_what_is_transparent_does_not_hang_on_the_format(tmp_path, kind):
    mode, ending = kind.split(".")
    picture, how = cut_out(mode)
    if mode == "P":
        how = {"transparency": picture.getpixel((0, 3))}
    for where in "ab":
        (tmp_path / where).mkdir()
        picture.save(
            tmp_path / where / f"x.{ending}", **how, **({"lossless": True} if ending == "webp" else {})
        )
    found = levels(folder(tmp_path, range=65535).load())
    assert found[0] == [[10, 20], [255, 40]] and len(found) == (1 if mode in ("L", "LA", "I;16") else 3)


def test_grey_pictures_take_the_grey_of_the_background(tmp_path):
    lay(tmp_path, x_png=cut_out("LA")[0])
    assert levels(folder(tmp_path, background="red").load()) == [[[10, 20], [76, 40]]]  # 0.299 of red


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_grey_of_few_bits_is_found(tmp_path, bits):
    """As tools that make files smaller write them."""
    most = 2**bits - 1
    for key in (0, most):
        rows = big(np.array([[0, most], [most, 0]]))
        packed = [
            np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes()
            for row in rows
        ]
        chunks = (
            (b"IHDR", struct.pack(">IIBBBBB", 4, 4, bits, 0, 0, 0, 0)),
            (b"tRNS", struct.pack(">H", key)),
            (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in packed))),
            (b"IEND", b""),
        )
        whole = b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
        found = levels(
            folder(lay(tmp_path / str(key), x_png=b"\x89PNG\r\n\x1a\n" + whole), background=100).load()
        )
        assert found == [[[100, 255], [255, 100]] if key == 0 else [[0, 100], [100, 0]]], (bits, key)


def test_bits_and_palettes_are_read(tmp_path):
    lay(tmp_path, x_png=Image.fromarray(big(np.array([[True, False], [False, True]]))))
    assert levels(folder(tmp_path).load()) == [[[255, 0], [0, 255]]]


# ---- shape and size


def test_fit(tmp_path):
    wide = np.zeros((4, 8), np.uint8)
    wide[:, :2], wide[:, 6:] = 100, 200
    lay(tmp_path, x_png=wide, y_png=wide.T.copy())
    crop, pad, squeeze = (folder(tmp_path, fit=fit).load() for fit in square.FITS)
    assert (crop.images[0] == 0).all() and (crop.images[1] == 0).all()
    assert (pad.images[0, 0, [0, 3]] == 255).all() and (pad.images[0, 0, 1:3, [0, 3]] < 255).all()
    assert (pad.images[1, 0] == pad.images[0, 0].T).all()
    assert pad.images[0, 0, 1, 0] > 80 and pad.images[0, 0, 1, 3] > 160  # both ends are seen
    # 6/7, 1/8
    assert (squeeze.images[0, 0] == squeeze.images[0, 0, 0]).all() and squeeze.images[0, 0, 0].tolist() == [
        86,
        13,
        25,
        171,
    ]
    assert (folder(tmp_path, fit="pad", background=7).load().images[0, 0, 0] == 7).all()
    deep = folder(lay(tmp_path / "deep", x_tif=wide.astype(np.float32) / 255), fit="pad").load()
    # Pillow rounds bytes after each direction
    assert np.abs(deep.images[0].astype(int) - pad.images[0]).max() <= 1


def test_where_cropping_loses_more_than_half_is_reported(tmp_path):
    # exactly half, and more
    lay(tmp_path, x_png=np.zeros((4, 8), np.uint8), y_png=np.zeros((9, 4), np.uint8))
    assert reported(folder(tmp_path).load()) == (
        "warning: cropping throws away more than half of each of 2 of 4 pictures, more than twice as long "
        "as wide (a/y.png, b/y.png): dataset.fit=pad or dataset.fit=squeeze keeps all of them"
    )
    assert reported(folder(tmp_path, fit="pad").load()) == ""


def test_a_long_picture_is_never_resized_whole(tmp_path, monkeypatch):
    line = np.zeros((1, 60000), np.uint8)
    line[:, 29990:30010] = 99
    lay(tmp_path, x_png=line)
    asked, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *more, **rest: asked.append(size) or resize(self, size, *more, **rest),
    )
    assert (folder(tmp_path, image_size=64).load().images == 99).all()  # whole: 3,840,000 x 64
    assert set(asked) == {(64, 64)}


def test_part_of_a_picture_resized_is_the_whole_resized_and_cut(tmp_path, monkeypatch):
    lay(tmp_path, x_png=np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8))
    whole = folder(tmp_path, image_size=16).load().images
    monkeypatch.setattr(square, "WHOLE", 0)
    assert np.abs(folder(tmp_path, image_size=16).load().images.astype(int) - whole).max() <= 1


def test_pictures_above_the_limit_are_named_with_their_size(tmp_path, recwarn):
    lay(tmp_path, x_png=np.zeros((20, 30), np.uint8), y_png=np.zeros((5, 5), np.uint8))
    for limit in (599, 100):  # beyond it Pillow warns, beyond twice of it Pillow refuses
        with pytest.raises(UserError) as caught:
            folder(tmp_path, max_pixels=limit).describe()
        assert str(caught.value) == (
            f"the picture '{tmp_path / 'a' / 'x.png'}' (and at least 1 more) is too large: it has 30 x 20 = "
            f"600 pixels, and dataset.max_pixels allows {limit}; raise that, make it smaller, or set "
            "dataset.on_error=skip"
        )
    before = Image.MAX_IMAGE_PIXELS
    raw = folder(tmp_path, max_pixels=100, on_error="skip").load()
    assert len(raw.images) == 2 and Image.MAX_IMAGE_PIXELS == before
    why = "it has 30 x 20 = 600 pixels, and dataset.max_pixels allows 100"
    assert raw.skipped == {"a/x.png": why, "b/x.png": why}
    assert len(folder(tmp_path, max_pixels=600).load().images) == 4 and not recwarn.list


def test_the_first_of_several_frames_is_read_and_reported(tmp_path):
    frames = [Image.fromarray(big(np.full((2, 2), level, np.uint8))) for level in (50, 100)]
    for where in "ab":
        (tmp_path / where).mkdir()
        frames[0].save(tmp_path / where / "x.gif", save_all=True, append_images=frames[1:])
    raw = folder(tmp_path).load()
    assert (raw.images == 50).all() and reported(
        raw
    ) == "info: 2 pictures of several frames, of which the first is read (a/x.gif, b/x.gif)"


@pytest.mark.parametrize(
    "bad",
    [
        dict(fit="stretch"),
        dict(fit=["crop"]),
        dict(background="whitish"),
        dict(background="rgb(300,0,0)"),
        dict(background=256),
        dict(background=[1, 2]),
        dict(range=0),
        dict(range=[5, 5]),
        dict(range="x"),
        dict(range=[0, float("nan")]),
        dict(max_pixels=0),
        dict(max_pixels=1.5),
        dict(on_error="ignore"),
    ],
)
def test_arguments_are_checked(bad):
    with pytest.raises(UserError, match=f"^dataset.{next(iter(bad))} (must be|has no option)"):
        folder("r", **bad)
