"""Draws are good random numbers, steps match torchvision's, and pixels depend on nothing but (seed, split,
row, view).
"""

import math
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from torchvision.transforms import InterpolationMode, _functional_tensor
from torchvision.transforms import RandAugment as Theirs
from torchvision.transforms import functional as V
from torchvision.transforms.autoaugment import _apply_op

from kdx.core.errors import UserError
from kdx.core.levels import as_float
from kdx.core.types import Split
from kdx.data.views import augment, paraphrase, pixels, text
from kdx.data.views.augment import (
    Affine,
    ColourJitter,
    Cutout,
    FlipCrop,
    Mixup,
    Noise,
    RandomResizedCrop,
    Rotate,
)
from kdx.data.views.chain import Chain, Views
from kdx.data.views.draws import Draws
from kdx.data.views.flip import Flip
from kdx.data.views.randaugment import OPERATIONS, RandAugment

CONF = Path(__file__).parents[1] / "conf"
STEPS = {
    "flip": Flip(flip=0.5),
    "flip_crop": FlipCrop(pad=3, mode="zero", flip=0.5),
    "reflect": FlipCrop(pad=3, mode="reflect", flip=0.5),
    "random_resized_crop": RandomResizedCrop(scale=[0.08, 1.0], ratio=[3 / 4, 4 / 3], flip=0.5),
    "affine": Affine(degrees=11.5, shift=0.12, scale=0.1),
    "rotate": Rotate(degrees=180),
    "colour_jitter": ColourJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "noise": Noise(std=0.1),
    "cutout": Cutout(size=0.4, fill=0.5),
    "randaugment": RandAugment(ops=2, magnitude=17),
    "mixup": Mixup(alpha=0.5),
}
EVERY = {name: [(name, step)] for name, step in STEPS.items()} | {
    "all": [(name, step) for name, step in STEPS.items() if name != "reflect"],
}


def pictures(n=23, c=3, h=13, w=11, seed=0):
    return torch.randint(
        0, 256, (n, c, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def split(**shape):
    return Split("labelled", pictures(**shape))


def draws(n=23, seed=0, view=1):
    return Draws(seed, "labelled", torch.arange(n), torch.full((n,), view))


def smooth(n=4, c=3, h=16, w=20):
    """Pictures without sharp edges on a black border, so that two bilinear samplers may differ by rounding
    only.
    """
    return torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(1))


# Draws


def many(rows=20000, views=1, seed=0, name="labelled"):
    index = torch.arange(rows).repeat(views)
    return Draws(seed, name, index, torch.arange(views).repeat_interleave(rows) + 1)


def test_uniform_has_the_moments_and_the_histogram_of_a_uniform():
    u = many().uniform("x", 5)
    assert u.dtype == torch.float32 and u.shape == (20000, 5) and 0 <= u.min() and u.max() < 1
    for values in (u[:, 0], u[:, 4], u.flatten()):
        assert abs(values.double().mean() - 0.5) < 4 * math.sqrt(1 / 12 / len(values))
        assert abs(values.double().var() - 1 / 12) < 4 * math.sqrt(1 / 180 / len(values))
        counts = torch.histc(values, 100, 0, 1).double()
        expected = len(values) / 100
        assert ((counts - expected) ** 2 / expected).sum() < 99 + 4.5 * math.sqrt(2 * 99)


def test_normal_has_the_moments_of_a_normal():
    z = many().normal("x", 7).double().flatten()
    n = len(z)
    assert abs(z.mean()) < 4 / math.sqrt(n) and abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / n) and abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert abs((z.abs() < 1).double().mean() - 0.682689) < 4 * math.sqrt(0.2166 / n)
    lanes = many().normal("x", 4).double()  # the four numbers of one word
    assert (torch.corrcoef(lanes.T) - torch.eye(4)).abs().max() < 4.5 / math.sqrt(20000)


def test_integers_cover_their_range_evenly():
    k = many().integers("x", 7, 1)[:, 0]
    counts = torch.bincount(k, minlength=7).double()
    assert len(counts) == 7 and ((counts - 20000 / 7) ** 2 / (20000 / 7)).sum() < 6 + 4.5 * math.sqrt(12)


def test_neighbouring_addresses_are_uncorrelated():
    base = many().uniform("x", 2).double()
    others = {
        "row": base[1:, 0],
        "position": base[:, 1],
        "view": many(views=2).uniform("x", 1).double()[20000:, 0],
        "op": many().uniform("y", 1).double()[:, 0],
        "op number": many().uniform(1, 1).double()[:, 0],
        "seed": many(seed=1).uniform("x", 1).double()[:, 0],
        "split": many(name="unlabelled").uniform("x", 1).double()[:, 0],
    }
    for what, other in others.items():
        first = base[: len(other), 0]
        assert abs(torch.corrcoef(torch.stack((first, other)))[0, 1]) < 4 / math.sqrt(20000), what
        assert not (first == other).float().mean() > 0.001, what


def test_one_bit_of_the_row_or_view_moves_half_of_the_bits():
    row = torch.arange(2000)
    one = torch.ones_like(row)
    base = Draws(0, "s", row, one)._words("x", 1)
    for other in (Draws(0, "s", row ^ 1, one), Draws(0, "s", row ^ 1024, one), Draws(0, "s", row, one ^ 2)):
        changed = base ^ other._words("x", 1)
        bits = torch.stack([(changed >> k) & 1 for k in range(64)]).double().mean((1, 2))
        assert (bits - 0.5).abs().max() < 4.5 * math.sqrt(0.25 / 2000)


def test_draws_are_these_numbers_for_ever():
    """Stored answers outlive the process: a changed hash would silently pair them with other pixels. Worked
    with Python integers.
    """

    def scramble(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    from kdx.data.views.draws import word

    golden = 0x9E3779B97F4A7C15
    row = scramble((5 * golden + 2 * 0xBF58476D1CE4E5B9 + word(3, "labelled")) % 2**64)
    third = scramble(((row ^ (word("op") % 2**64)) + 3 * golden) % 2**64)
    got = Draws(3, "labelled", torch.tensor([5]), torch.tensor([2]))
    assert got.uniform("op", 3)[0, 2].item() == (third >> 40) / 2**24
    assert got.integers("op", 1000, 3)[0, 2].item() == (third >> 1) % 1000
    assert word(3, "labelled") == -6200579869902625276


# Pixels against torchvision


def close(ours, theirs, tolerance=2e-5):
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance


def test_conversion_of_all_levels_is_exact():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    # float64 quotient, rounded once more
    exact = torch.tensor([k / 255 for k in range(256)], dtype=torch.float32).view(1, 1, 16, 16)
    assert as_float(levels, torch.float64).flatten().tolist() == [k / 255 for k in range(256)]
    assert torch.equal(pixels.as_float(levels), exact) and torch.equal(pixels.as_levels(exact), levels.long())


@pytest.mark.parametrize("reflect", [False, True])
def test_crop_is_torchvisions(reflect):
    x = pictures(6)
    top, left, flip = (
        torch.tensor([0, 6, 3, 1, 0, 5]),
        torch.tensor([6, 0, 3, 2, 0, 4]),
        torch.tensor([0, 1, 0, 1, 1, 0]),
    )
    ours = pixels.crop(x, top, left, flip, pad=3, reflect=reflect)
    for i in range(6):
        picture = V.hflip(x[i]) if flip[i] else x[i]
        padded = V.pad(picture, 3, padding_mode="reflect" if reflect else "constant")
        assert torch.equal(ours[i], V.crop(padded, int(top[i]), int(left[i]), 13, 11))
    assert torch.equal(
        pixels.as_float(ours), pixels.crop(pixels.as_float(x), top, left, flip, pad=3, reflect=reflect)
    )


def test_turn_is_cosine_and_sine():
    angle = torch.linspace(-math.pi, math.pi, 1001)
    cosine, sine = pixels.turn(angle)
    assert (cosine - angle.double().cos()).abs().max() < 1e-7 and (
        sine - angle.double().sin()
    ).abs().max() < 1e-7


def test_affine_and_rotate_are_torchvisions():
    x = smooth()
    step, u = Affine(degrees=30, shift=0.2, scale=0.3), draws(4).uniform("a", 4) * 2 - 1
    ours = step(x, draws(4), "a")
    for i in range(4):
        angle, right, down, scale = u[i].tolist()
        theirs = _functional_tensor.affine(
            x[i],
            V._get_inverse_affine_matrix(
                [0, 0], 30 * angle, [0.2 * 20 * right, 0.2 * 16 * down], 1 + 0.3 * scale, [0.0, 0.0]
            ),
            interpolation="bilinear",
        )
        close(ours[i], theirs)
    ours, u = Rotate(degrees=90)(x, draws(4), "r"), draws(4).uniform("r", 1)[:, 0] * 180 - 90
    for i in range(4):
        close(ours[i], V.rotate(x[i], u[i].item(), InterpolationMode.BILINEAR))


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize(
    "ours, theirs, amounts",
    [
        (pixels.brightness, V.adjust_brightness, (0, 0.4, 1, 1.7)),
        (pixels.contrast, V.adjust_contrast, (0, 0.4, 1, 1.7)),
        (pixels.saturation, V.adjust_saturation, (0, 0.4, 1, 1.7)),
        (pixels.sharpness, V.adjust_sharpness, (0, 0.4, 1, 1.7)),
        (pixels.hue, V.adjust_hue, (-0.5, -0.1, 0, 0.4)),
    ],
)
def test_factors_are_torchvisions(ours, theirs, amounts, c):
    x = smooth(c=c)
    x[0, :, :4] = 0.3  # grey rows: no hue
    x[1] = 0
    made = ours(x, torch.tensor(amounts, dtype=torch.float32))
    for i, amount in enumerate(amounts):
        close(made[i], theirs(x[i], amount))


def test_level_operations_are_torchvisions():
    x = pictures(8, h=40, w=30)
    x[0], x[1, :, :20], x[2, 1], x[3] = 77, 200, 0, x[3] // 9
    f = pixels.as_float(x)
    for ours, theirs in (
        (pixels.equalize(f), V.equalize(x)),
        (pixels.posterize(f, bits=5), V.posterize(x, 5)),
        (pixels.posterize(f, bits=8), x),
    ):
        assert torch.equal(pixels.as_levels(ours), theirs.long())
    close(pixels.autocontrast(f), V.autocontrast(f))
    close(pixels.solarize(f, threshold=0.4), V.solarize(f, 0.4))


@pytest.mark.parametrize("magnitude", [0, 9, 15, 23, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_randaugment_operations_are_torchvisions(name, magnitude):
    x = pictures(2, h=16, w=20)
    space = Theirs()._augmentation_space(31, (16, 20))
    their_names = dict(zip(OPERATIONS, space, strict=True))
    assert {k: v.lower().replace("color", "colour") for k, v in their_names.items()} == {
        k: k.replace("_", "") for k in OPERATIONS
    }
    amounts, signed = space[their_names[name]]
    amount = float(amounts[magnitude]) if amounts.ndim else 0.0
    sign = torch.tensor([1.0, -1.0])
    ours = RandAugment(ops=1, magnitude=magnitude).apply(
        pixels.as_float(x), torch.full((2,), OPERATIONS.index(name)), sign
    )
    for i in range(2):
        value = amount * sign[i].item() if signed else amount
        on_levels = name in ("posterize", "equalize")
        picture = x[i] if on_levels else pixels.as_float(x[i])
        if name == "solarize":
            value /= 255
        theirs = _apply_op(picture, their_names[name], value, InterpolationMode.BILINEAR, None)
        close(ours[i], pixels.as_float(theirs), 5e-5)


# Steps


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("name", EVERY)
def test_every_step_changes_pictures_within_range(name, c):
    x, views = split(c=c), Views(Chain(EVERY[name]), seed=0)
    index = torch.arange(len(x))
    made = [views(x, index, torch.full_like(index, view))[0] for view in range(3)]
    assert torch.equal(made[0], pixels.as_float(x.inputs))
    for one in made:
        assert (
            one.dtype == torch.float32 and one.shape == x.inputs.shape and one.min() >= 0 and one.max() <= 1
        )
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[1], made[2])
    other_seed = Views(Chain(EVERY[name]), seed=1)(x, index, torch.ones_like(index))[0]
    other_split = views(Split("unlabelled", x.inputs), index, torch.ones_like(index))[0]
    assert not torch.equal(other_seed, made[1]) and not torch.equal(other_split, made[1])


def test_about_half_of_the_pictures_are_mirrored_and_all_corners_are_used():
    x = torch.zeros(4000, 1, 5, 5)
    x[:, :, 2, 1] = 1
    mirrored = FlipCrop(pad=0, mode="zero", flip=0.5)(x, draws(4000), "f")[:, 0, 2, 3].mean()
    assert abs(mirrored - 0.5) < 4 * 0.5 / math.sqrt(4000)
    for flip in (0, 1):
        assert FlipCrop(pad=0, mode="zero", flip=flip)(x, draws(4000), "f")[:, 0, 2, 3].mean() == flip
    moved = FlipCrop(pad=1, mode="zero", flip=0)(x, draws(4000), "f")
    counts = moved.sum(0)[0, 1:4, 0:3]
    assert counts.sum() == 4000 and (counts - 4000 / 9).abs().max() < 4.5 * math.sqrt(4000 / 9)


def test_noise_has_the_given_spread():
    made = Noise(std=0.05)(torch.full((50, 3, 16, 16), 0.5), draws(50), "n") - 0.5
    assert abs(made.std() - 0.05) < 0.001 and abs(made.mean()) < 0.001


def test_cutout_counts_pixels_or_shares():
    x = torch.ones(500, 1, 12, 16)
    for size, side in ((5, 5), (0.5, 6)):
        painted = (Cutout(size=size, fill=0.0)(x, draws(500), "c") == 0).sum((1, 2, 3))
        assert (
            painted.max() == side * side
            and (painted < side * side).any()
            and painted.min() >= (side // 2) ** 2
        )


def test_randaugment_uses_every_operation_about_equally():
    chosen = draws(14000).integers("op/operation", 14, 1)
    assert (torch.bincount(chosen[:, 0], minlength=14) - 1000).abs().max() < 4.5 * math.sqrt(1000)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 4.0, 100.0])
def test_mixup_shares_are_beta_distributed(alpha):
    from scipy.stats import beta

    mixup = Mixup(alpha=alpha)
    exact = torch.tensor(beta.ppf((torch.arange(4096).double() + 0.5).numpy() / 4096, alpha, alpha))
    assert (mixup._lam - exact).abs().max() < 2e-5
    partner, lam = mixup.pairs(draws(20000), "m", 10)
    assert abs(lam.mean() - 0.5) < 0.02 and abs(lam.var() - 1 / (8 * alpha + 4)) < 0.01
    assert torch.equal(partner.unique(), torch.arange(10))


def test_mixup_blends_the_views_that_it_names():
    x, index = split(), torch.tensor([4, 9, 2])
    view = torch.tensor([1, 0, 3])
    plain, mixed = (Views(Chain(EVERY["affine"] + tail), seed=5) for tail in ([], EVERY["mixup"]))
    made, (partner, lam) = mixed(x, index, view)
    assert partner[1] == 9 and lam[1] == 1
    expected = pixels.blend(plain(x, index, view)[0], plain(x, partner, view)[0], lam)
    assert torch.equal(made, expected) and not torch.equal(made, plain(x, index, view)[0])
    first = Views(Chain(EVERY["mixup"] + EVERY["affine"]), seed=5)(x, index, view)[0]
    assert torch.equal(first, made)  # mixup comes last, whatever its place
    assert mixed(x, index, torch.zeros(3, dtype=torch.long))[1] is None


def test_a_step_twice_draws_twice():
    x = split()
    index = torch.arange(len(x))
    made = Views(Chain([("flip", FlipCrop(pad=0, mode="zero", flip=0.5))] * 2), seed=0)(x, index, index + 1)[
        0
    ]
    assert not torch.equal(made, pixels.as_float(x.inputs))  # the same draws twice would undo themselves


# Bit-identity


@pytest.mark.parametrize("shape", [{"c": 3, "h": 13, "w": 11}, {"c": 1, "h": 16, "w": 16}])
@pytest.mark.parametrize("name", EVERY)
def test_pixels_do_not_depend_on_the_batch(name, shape):
    x, views = split(**shape), Views(Chain(EVERY[name]), seed=3)
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(len(x)).repeat(3)
    view = torch.arange(3).repeat_interleave(len(x))  # clean rows among the others

    def run(places):
        made, mix = views(x, index[places], view[places])
        return made, *(mix or (index[places], torch.ones(len(places))))

    whole = run(torch.arange(len(index)))
    for size in range(1, 10):
        places = torch.randperm(len(index), generator=generator)
        parts = [run(part) for part in places.split(size)]
        for all_of_it, pieces in zip(whole, zip(*parts, strict=True), strict=True):
            assert torch.equal(torch.cat(pieces), all_of_it[places]), f"batch size {size}"


@pytest.mark.parametrize("name", EVERY)
def test_pixels_do_not_depend_on_the_threads(name):
    # a batch is large enough for torch to use two threads
    x, views = (
        split(n=16, h=37, w=41),
        Views(Chain(EVERY[name]), seed=3),
    )
    index = torch.arange(len(x))
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made += [
                views(x, index, index % 5)[0],
                torch.cat([views(x, one, one % 5)[0] for one in index.split(1)]),
            ]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, made[0]) for one in made)


def test_the_mean_of_a_large_picture_does_not_depend_on_the_threads():
    """Alone in its batch, a large picture's float sum would be split between threads, and rounded in another
    order.
    """
    x = torch.rand(6, 1, 300, 301, generator=torch.Generator().manual_seed(0))
    factor, before, made = torch.zeros(6), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made += [
                pixels.contrast(x, factor),
                torch.cat([pixels.contrast(one, factor[:1]) for one in x.split(1)]),
            ]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, made[0]) for one in made)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_draws_and_whole_pixel_moves_are_the_same_on_a_gpu():
    x, chain, index = split(), Chain(EVERY["reflect"]), torch.arange(23)
    here, there = (
        Views(chain, seed=0)(x, index, index, device=torch.device(device))[0].cpu()
        for device in ("cpu", "cuda")
    )
    assert torch.equal(here, there)
    on_gpu = Draws(0, "labelled", index.cuda(), torch.ones_like(index).cuda())
    assert torch.equal(on_gpu.uniform("x", 9).cpu(), draws().uniform("x", 9))
    assert torch.equal(on_gpu.normal("x", 9).cpu(), draws().normal("x", 9))


# Errors


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: FlipCrop(pad=-1, mode="zero", flip=0.5), "pad needs an integer of at least 0; given -1"),
        (lambda: FlipCrop(pad=1.5, mode="zero", flip=0.5), "pad needs an integer"),
        (lambda: FlipCrop(pad=1, mode="mirror", flip=0.5), "zero or reflect; given 'mirror'"),
        (lambda: FlipCrop(pad=1, mode="zero", flip=1.5), "flip needs a number of at least 0 and at most 1"),
        (lambda: Affine(degrees=math.nan, shift=0, scale=0), "degrees"),
        (lambda: Affine(degrees=1, shift="a", scale=0), "shift"),
        (lambda: Affine(degrees=1, shift=0, scale=1), "scale"),
        (lambda: Rotate(degrees=181), "degrees"),
        (lambda: ColourJitter(brightness=-1, contrast=0, saturation=0, hue=0), "brightness"),
        (lambda: ColourJitter(brightness=0, contrast=0, saturation=0, hue=0.6), "hue"),
        (lambda: Noise(std=True), "std"),
        (lambda: Noise(std=math.inf), "std"),
        (lambda: Cutout(size=0, fill=0), "size needs a number above 0"),
        (lambda: Cutout(size=2.5, fill=0), "size needs an integer"),
        (lambda: Cutout(size=2, fill=2), "fill"),
        (lambda: Mixup(alpha=0), "alpha"),
        (lambda: RandAugment(ops=0, magnitude=9), "ops"),
        (lambda: RandAugment(ops=2, magnitude=31), "magnitude"),
        (lambda: Chain([("a", Mixup(alpha=1)), ("b", Mixup(alpha=1))]), "mixup at most once"),
        (lambda: Chain([("a", abs)]), "augment.a needs a step"),
        (
            lambda: FlipCrop(pad=9, mode="reflect", flip=0)(pixels.as_float(pictures(2, h=8)), draws(2), "f"),
            "cannot reflect pictures of 8x11",
        ),
        (lambda: STEPS["colour_jitter"](torch.rand(2, 2, 8, 8), draws(2), "j"), "1 or 3 channels; given 2"),
    ],
)
def test_errors_name_the_setting(make, says):
    with pytest.raises(UserError, match=says.replace("(", r"\(")):
        make()


def test_every_option_file_builds_its_step():
    files = sorted((CONF / "augment").glob("*.yaml"))
    of_texts = {"word_dropout", "swap", "span_deletion", "paraphrase"}
    assert {f.stem for f in files} == {"none", "mixup", *of_texts, *STEPS} - {"reflect"}
    for file in files:
        assert file.read_text().startswith("# ")
        options = yaml.safe_load(file.read_text())
        assert list(options) == ([] if file.stem == "none" else [file.stem])
        for settings in options.values():
            module, name = settings.pop("_target_").rsplit(".", 1)
            scope = {
                "kdx.data.views.augment": augment.__dict__,
                "kdx.data.views.flip": {"Flip": Flip},
                "kdx.data.views.randaugment": {"RandAugment": RandAugment},
                "kdx.data.views.text": text.__dict__,
                "kdx.data.views.paraphrase": paraphrase.__dict__,
            }[module]
            settings |= {"file": "own.csv"} if "file" in settings else {}
            scope[name](**settings)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        ([], {"affine": 11.5}),
        (["augment=[cutout,flip_crop]"], {"cutout": None, "flip_crop": None}),
        (["augment=[flip_crop,affine]", "augment.affine.degrees=5"], {"flip_crop": None, "affine": 5}),
        (["augment=flip_crop"], {"flip_crop": None}),
        (["augment=none"], {}),
    ],
)
def test_options_combine_in_the_order_given(tmp_path, overrides, expected):
    header = f"hydra: {{searchpath: ['file://{CONF}']}}\n"
    (tmp_path / "main.yaml").write_text(header + "defaults: [_self_, {augment: [affine]}]\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        options = compose("main", overrides).augment
    assert list(options) == list(expected)
    assert {name: step.get("degrees") for name, step in options.items()} == expected
