"""Shifted test pictures:
what is done to them by hand and against torchvision, and what a run tells of them.
"""

import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as V

from kdx.config import compose
from kdx.core.errors import UserError
from kdx.core.roles import ROLES
from kdx.core.types import Split
from kdx.data.views import pixels
from kdx.data.views.chain import Chain, Views
from kdx.data.views.draws import Draws
from kdx.data.views.shift import (
    Blur,
    Brightness,
    Colour,
    Contrast,
    Grain,
    Invert,
    Occlusion,
    Pixelate,
    Rotation,
    ShotNoise,
    Texture,
)
from kdx.report.run import figures, shifts
from kdx.report.run.table import print_table
from kdx.store.component import Component
from kdx.tasks.shown import ACCURACY
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

CPU = Runtime(device="cpu", threads=1, workers=0, channels_last=False, compile=False, checkpoint_seconds=60)
STEPS = {
    "blur": Blur(sigma=0.8),
    "noise": Grain(std=0.2),
    "contrast": Contrast(factor=0.3),
    "rotation": Rotation(degrees=30),
    "shot_noise": ShotNoise(photons=10),
    "brightness": Brightness(amount=0.3),
    "pixelate": Pixelate(size=3),
    "occlusion": Occlusion(size=0.4, fill=0.5),
    "invert": Invert(amount=1.0),
    "texture": Texture(amount=0.5),
    "colour": Colour(amount=1.0),
}


def pictures(n=9, c=3, h=12, w=10):
    return torch.randint(0, 256, (n, c, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def draws(n=9, seed=0):
    return Draws(seed, "test", torch.arange(n), torch.ones(n, dtype=torch.int64))


@pytest.mark.parametrize("sigma", [0.4, 0.8, 1.5])
def test_blur_is_torchvisions(sigma):
    x = pictures().float() / 255
    theirs = V.gaussian_blur(x, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma] * 2)
    assert torch.allclose(pixels.blur(x, sigma=sigma), theirs, atol=1e-6)


def test_a_blur_wider_than_the_picture_is_flat_and_keeps_a_flat_one():
    x = torch.full((1, 1, 4, 4), 0.25)
    assert torch.allclose(pixels.blur(x, sigma=50), x)
    x = pictures(1, 1, 4, 4).float() / 255
    assert pixels.blur(x, sigma=50).std() < 0.5 * x.std()


def test_contrast_and_noise_by_hand():
    x = torch.tensor([[[[0.0, 1.0]]]])
    assert Contrast(factor=0.3)(x, draws(1), "contrast").flatten().tolist() == pytest.approx([0.35, 0.65])
    grey = torch.full((9, 3, 40, 40), 0.5)
    noisy = Grain(std=0.1)(grey, draws(), "noise")
    assert noisy.std().item() == pytest.approx(0.1, rel=0.03) and noisy.mean().item() == pytest.approx(
        0.5, abs=0.003
    )


def test_brightness_squares_and_negatives_by_hand():
    x = torch.tensor([[[[0.0, 0.2, 0.9], [0.1, 0.5, 0.3], [0.4, 0.6, 1.0]]]])
    brighter = Brightness(amount=0.25)(x, draws(1), "brightness")
    assert brighter[0, 0, 0].tolist() == pytest.approx([0.25, 0.45, 1])
    squares = Pixelate(size=2)(x, draws(1), "pixelate")
    assert squares[0, 0, 0].tolist() == pytest.approx([0.5, 0.5, 0.3])
    assert squares[0, 0, 2].tolist() == pytest.approx([0.6, 0.6, 1.0])
    assert Invert(amount=1.0)(x, draws(1), "invert")[0, 0, 0].tolist() == pytest.approx([1, 0.8, 0.1])
    assert Invert(amount=0.5)(x, draws(1), "invert").unique().tolist() == pytest.approx([0.5])


def test_shot_noise_is_that_of_so_many_photons():
    noisy = ShotNoise(photons=100)(torch.full((9, 3, 40, 40), 0.25), draws(), "shot_noise")
    assert noisy.std().item() == pytest.approx(0.05, rel=0.03)
    assert noisy.mean().item() == pytest.approx(0.25, abs=0.002)
    assert ShotNoise(photons=1)(torch.zeros(9, 3, 4, 4), draws(), "shot_noise").max() == 0


def test_an_occlusion_is_one_square_and_a_texture_lies_behind():
    x = torch.ones(50, 1, 10, 10)
    painted = (Occlusion(size=0.4, fill=0.5)(x, draws(50), "occlusion") == 0.5).flatten(1).sum(1)
    assert painted.max() == 16 and painted.min() >= 4
    assert torch.equal(Texture(amount=0.7)(x, draws(50), "texture"), x), "what is white stays"
    behind = Texture(amount=0.5)(torch.zeros(50, 1, 10, 10), draws(50), "texture")
    assert (
        behind.max() <= 0.5 and behind.mean().item() == pytest.approx(0.25, abs=0.02) and behind.std() > 0.08
    )


def test_colour_has_a_ground_and_an_ink_for_each_row_and_channel():
    x = torch.cat([torch.zeros(40, 3, 1, 1), torch.ones(40, 3, 1, 1)], 3)
    drawn = Colour(amount=1.0)(x, draws(40), "colour")
    assert drawn.flatten().unique().numel() == 240 and drawn.mean().item() == pytest.approx(0.5, abs=0.06)
    assert torch.equal(Colour(amount=0.0)(x, draws(40), "colour"), x)


def test_corruptions_are_eight_kinds_at_three_strengths_each_worse_than_the_last():
    found = compose.check_words(["shift=[corruptions]"])["shift"]
    assert len(found) == 24 and len({name.rpartition("_")[0] for name in found}) == 8
    x, last = pictures(40, 1).float() / 255, {}
    for name, spec in found.items():
        kind = name.rpartition("_")[0]
        moved = (Component(spec).build()(x, draws(40), kind) - x).abs().mean().item()
        assert moved > last.get(kind, 0)
        last[kind] = moved


def test_rotation_has_one_angle_and_two_sides():
    x = torch.zeros(200, 1, 21, 21)
    x[:, :, 2, 10] = 1  # above the centre
    turned = Rotation(degrees=90)(x, draws(200), "rotation")
    left, right = turned[:, 0, 10, 2] > 0.99, turned[:, 0, 10, 18] > 0.99
    assert (left ^ right).all() and 70 < left.sum() < 130


@pytest.mark.parametrize("name", STEPS)
def test_the_same_pictures_in_any_batch_and_others_with_another_seed(name):
    split, views = Split("test", pictures()), Views(Chain([(name, STEPS[name])]), 5)
    ones = torch.ones(9, dtype=torch.int64)
    whole, _ = views(split, torch.arange(9), ones)
    parts = torch.cat([views(split, rows, ones[: len(rows)])[0] for rows in torch.arange(9).split(2)])
    assert (
        torch.equal(whole, parts)
        and 0 <= whole.min()
        and whole.max() <= 1
        and not torch.equal(whole, split.inputs / 255)
    )
    other, _ = Views(Chain([(name, STEPS[name])]), 6)(split, torch.arange(9), ones)
    assert torch.equal(whole, other) == (name in ("blur", "contrast", "brightness", "pixelate", "invert"))


def test_predict_looks_through_the_views():
    class Mean(torch.nn.Module):
        def forward(self, x):
            return torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)

    split = Split("test", pictures())
    clean, flat = (
        predict(Mean(), split, CPU),
        predict(Mean(), split, CPU, views=Views(Chain([("contrast", Contrast(factor=0))]), 0)),
    )
    assert (clean[:, 1] > 0.2).all() and (flat[:, 1] < 1e-5).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Blur(sigma=0),
        lambda: Grain(std=-1),
        lambda: Contrast(factor="x"),
        lambda: Rotation(degrees=181),
        lambda: ShotNoise(photons=0),
        lambda: Brightness(amount=2),
        lambda: Pixelate(size=0),
        lambda: Occlusion(size=0, fill=0),
        lambda: Occlusion(size=0.5, fill=2),
        lambda: Invert(amount=-1),
        lambda: Texture(amount=2),
        lambda: Colour(amount="x"),
    ],
)
def test_a_strength_out_of_range_is_named(build):
    with pytest.raises(UserError, match=r"shift\.\w+\.\w+ must be"):
        build()


def test_bad_shifts_are_reported_before_any_work(capsys, tmp_path, monkeypatch):
    from kdx.cli import main

    monkeypatch.chdir(tmp_path)
    for word, reported in (
        ("shift=[blurr]", "did you mean 'blur'"),
        ("shift=[blur] shift.blur.sigma=0", "shift.blur.sigma must be"),
        ("shift=[noise] shift.noise._target_=kdx.data.views.augment.Mixup", "does not take these keys"),
        ("shift.blur.sigma=1", "no key in 'shift'"),
    ):
        assert main(["train", "device=cpu", *word.split()]) == 2
        assert reported in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_the_experiment_turns_all_four_on():
    config = compose.check_words(["experiment=shifted_inputs"])
    assert (
        list(config["shift"]) == ["blur", "noise", "contrast", "rotation"]
        and compose.check_words([])["shift"] == {}
    )
    assert list(compose.check_words(["experiment=shifted_inputs", "shift=[noise]"])["shift"]) == ["noise"]


# What is reported


def results(**more):
    found = {
        role: {"model": "m", "last": {"test": {"accuracy": value, "n": 500}}}
        for role, value in {"teacher": 0.9, "baseline": 0.7, "student": 0.8}.items()
    }
    shifted = {
        "blur": {"teacher": 0.8, "baseline": 0.5, "student": 0.7},
        "noise": {"teacher": 0.6, "baseline": 0.3, "student": 0.3},
    }
    return {**found, "classes": ["a", "b"], "shifts": shifted} | more


def test_the_table_and_what_it_means():
    header, rows = shifts.shift_cells(results())
    assert header == ["test %", "clean", "blur", "noise"]
    assert rows == [
        ["teacher", "90.0", "80.0", "60.0"],
        ["student alone", "70.0", "50.0", "30.0"],
        ["distilled student", "80.0", "70.0", "30.0"],
    ]
    lost, gain = shifts.shift_sentences(results())
    assert "mean of 2" in lost and "teacher -20.0, student alone -30.0, distilled student -30.0" in lost
    assert "+10.0 points (+10.0 on clean" in gain
    assert (
        shifts.shift_sentences(results(shifts={})) == [] and shifts.shift_cells(results(shifts={}))[1] == []
    )


@pytest.mark.parametrize("width", [120, 50])
def test_the_terminal_shows_every_figure(width):
    many = {f"shift {i}": {"teacher": 0.601 + i / 100, "baseline": 0.5, "student": 0.55} for i in range(9)}
    out = io.StringIO()
    print_table(results(shifts=many), "last", [], file=out, width=width)
    assert all(f"{60.1 + i:.1f}" in out.getvalue() for i in range(9)) and "under shift" in " ".join(
        out.getvalue().split()
    )


def test_the_figure_has_a_bar_of_the_right_length_for_each_role():
    picture = Image.open(
        io.BytesIO(figures.draw_bars(shifts.under_shifts(results()), "a title", ACCURACY))
    ).convert("RGB")
    student = tuple(int(ROLES["student"].colour[i : i + 2], 16) for i in (1, 3, 5))
    drawn = (np.asarray(picture) == student).all(axis=2)
    lengths = sorted({int(count) for count in drawn[100:].sum(axis=1)} - {0})
    assert lengths[-1] / lengths[0] == pytest.approx(0.8 / 0.3, rel=0.03)


def test_a_run_tells_its_shifted_accuracies(tmp_path, monkeypatch, capsys):
    from kdx.cli import main

    monkeypatch.chdir(tmp_path)
    words = [
        "train",
        "device=cpu",
        "device.threads=1",
        "teacher_pretrain.steps=30",
        "student_train.steps=5",
        "loss=supervised",
        "baseline=false",
        "teacher=cnn_small",
    ]
    assert main([*words, "hydra.run.dir=one", "experiment=shifted_inputs", "shift.contrast.factor=1"]) == 0
    run = json.loads((tmp_path / "one/run.json").read_text())["results"]
    assert list(run["shifts"]) == ["blur", "noise", "contrast", "rotation"] and set(
        run["shifts"]["blur"]
    ) == {"teacher", "student"}
    # a factor of 1 changes nothing
    assert run["shifts"]["contrast"]["teacher"] == run["teacher"]["last"]["test"]["accuracy"]
    assert run["shifts"]["rotation"]["teacher"] < run["teacher"]["last"]["test"]["accuracy"]
    text = (tmp_path / "one/report.md").read_text()
    assert "## Shifted inputs" in text and "contrast: factor 1" in text and "figures/shifts.png" in text
    assert "rotation" in capsys.readouterr().out and (tmp_path / "one/figures/shifts.png").is_file()
    assert main([*words, "hydra.run.dir=two"]) == 0  # without them only evaluate runs again
    stages = {s["name"]: s["cached"] for s in json.loads((tmp_path / "two/run.json").read_text())["stages"]}
    assert [name for name, cached in stages.items() if not cached] == ["teacher-predict", "evaluate"]
