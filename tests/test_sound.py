"""Sounds as log-mel pictures: bands of known tones, files of every depth, and what gives no sound."""

from __future__ import annotations

import csv
import json
import math
import struct
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from kdx.cli import main
from kdx.core.errors import UserError
from kdx.data.datasets.tones import Tones
from kdx.data.datasets.wav import Wav
from kdx.data.sound.made_up import SOUNDS, made_up_sound
from kdx.data.sound.mel import FLOOR_DECIBELS, LogMel, hertz, mel, resampled
from kdx.data.sound.wave_files import UnreadableSound, read_sound

MEL = LogMel(rate=8000, seconds=1.0, mels=32, hop=0.03, window=0.064)
TIME = np.arange(8000) / 8000
KEYS = {
    "unlabelled_root": None,
    "layout": "auto",
    "table": None,
    "file_column": "file",
    "class_column": "class",
    "rate": 8000,
    "seconds": 0.25,
    "mels": 16,
    "hop": 0.03,
    "window": 0.064,
    "on_error": "stop",
}


def test_the_mel_of_1000_hertz_is_1000():
    assert mel(1000) == pytest.approx(999.986, abs=1e-3) and mel(0) == 0
    assert hertz(np.array([mel(440.0)]))[0] == pytest.approx(440)


@pytest.mark.parametrize("pitch", [250, 1000, 3000])
def test_a_tone_is_brightest_in_the_band_of_its_pitch(pitch):
    """Band b of M is the triangle around the mel (b + 1) / (M + 1) of the highest; 62.5 and its multiples lie
    in the middle of a bin (15.625 hertz each), so that a full-scale tone is its triangle's height."""
    middles = [hertz(np.array([mel(4000) * (b + 1) / 33]))[0] for b in range(32)]
    edges = [0.0, *middles, 4000.0]
    found = MEL.decibels(np.sin(2 * np.pi * pitch * TIME))
    nearest = int(np.abs(np.array(middles) - pitch).argmin())
    assert found.shape == (32, 32) and 31 - int(found[:, 9].argmax()) == nearest
    low, middle, high = edges[nearest : nearest + 3]

    def height(hertz: float) -> float:
        return max(0.0, min((hertz - low) / (middle - low), (high - hertz) / (high - middle)))

    # a Hann window spreads the tone to its neighbours, each a quarter of the power
    power = height(pitch) + (height(pitch - 15.625) + height(pitch + 15.625)) / 4
    assert found[31 - nearest, 9] == pytest.approx(min(0, 10 * math.log10(power)), abs=1e-3)


def test_half_as_loud_is_six_decibels_less_and_silence_is_the_floor():
    tone = np.sin(2 * np.pi * 500 * TIME)
    found = MEL.decibels(0.1 * tone) - MEL.decibels(0.05 * tone)
    assert found[MEL.decibels(0.05 * tone) > FLOOR_DECIBELS].min() == pytest.approx(20 * math.log10(2))
    assert (MEL.decibels(np.zeros(8000)) == FLOOR_DECIBELS).all()
    picture = MEL.picture(np.zeros(100), 8000)
    assert picture.shape == (1, 32, 32) and picture.dtype == np.uint8 and not picture.any()


def test_a_tone_at_another_rate_makes_the_same_picture():
    other = np.arange(22050) / 22050
    here, there = (MEL.picture(0.5 * np.sin(2 * np.pi * 700 * t), len(t)).astype(int) for t in (TIME, other))
    assert here[0].argmax(0)[5] == there[0].argmax(0)[5] and abs(here.max() - there.max()) <= 1
    assert len(resampled(other, 22050, 8000)) == 8000


def test_a_short_sound_is_followed_by_silence_and_a_long_one_is_cut():
    tone = np.sin(2 * np.pi * 500 * TIME)
    short = MEL.picture(tone[:4000], 8000)
    assert short[..., :15].max() > 200 and short[..., -14:].max() == 0
    assert np.array_equal(MEL.picture(np.concatenate([tone, tone]), 8000), MEL.picture(tone, 8000))


@pytest.mark.parametrize(
    "keys, said",
    [
        ({"window": 2.0}, "longer than dataset.seconds"),
        ({"hop": 1e-6}, "make them longer"),
        ({"mels": 200}, "hold nothing; lower it"),
        ({"rate": 0}, "dataset.rate must be an integer"),
        ({"seconds": 0}, "dataset.seconds"),
    ],
)
def test_settings_without_meaning_are_refused(keys, said):
    with pytest.raises(UserError, match=said):
        LogMel(**{"rate": 8000, "seconds": 1.0, "mels": 32, "hop": 0.03, "window": 0.064, **keys})


def test_every_depth_and_two_channels_hold_the_same_sound(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * TIME)
    whole = {
        "u8": np.rint(tone * 127 + 128).astype(np.uint8),
        "i16": np.rint(tone * 32767).astype(np.int16),
        "i32": np.rint(tone * (2**31 - 1)).astype(np.int32),
        "f32": tone.astype(np.float32),
        "two": np.stack([tone * 2, np.zeros(8000)], 1).astype(np.float32),
    }
    for name, samples in whole.items():
        wavfile.write(tmp_path / f"{name}.wav", 8000, samples)
    with wave.open(str(tmp_path / "i24.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(8000)
        values = np.rint(tone * (2**23 - 1)).astype(int)
        file.writeframes(b"".join(v.to_bytes(3, "little", signed=True) for v in values.tolist()))
    for name, apart in {"u8": 0.01, "i16": 1e-4, "i24": 1e-6, "i32": 1e-8, "f32": 1e-7, "two": 1e-7}.items():
        samples, rate = read_sound(tmp_path / f"{name}.wav", 0.064)
        assert rate == 8000 and np.abs(samples - tone).max() < apart, name


def broken(folder):
    """name -> (a file that gives no sound, a word of the reason)"""
    tone = np.rint(np.sin(2 * np.pi * 440 * TIME) * 32767).astype(np.int16)
    wavfile.write(folder / "whole.wav", 8000, tone)
    good = (folder / "whole.wav").read_bytes()
    (folder / "whole.wav").unlink()
    packed = bytearray(good)
    packed[20:22] = struct.pack("<H", 6)
    wavfile.write(folder / "nothing.wav", 8000, tone[:0])
    wavfile.write(folder / "short.wav", 8000, tone[:100])
    wavfile.write(folder / "nan.wav", 8000, np.full(8000, np.nan, np.float32))
    for name, data in {
        "empty": b"",
        "text": b"this is a text and no sound at all",
        "cut": good[: len(good) // 2],
        "header": good[:20],
        "alaw": bytes(packed),
    }.items():
        (folder / f"{name}.wav").write_bytes(data)
    return {
        "nothing": "its length is zero",
        "short": "lasts 0.0125 s, less than one window",
        "nan": "no numbers",
        "empty": r"it is empty \(0 bytes\)",
        "text": "no WAV file",
        "cut": "cut off",
        "header": "cut off",
        "alaw": "packed as ALAW",
    }


def test_a_file_that_gives_no_sound_says_why(tmp_path):
    for name, why in broken(tmp_path).items():
        with pytest.raises(UnreadableSound, match=why):
            read_sound(tmp_path / f"{name}.wav", 0.064)


@pytest.fixture
def sounds(tmp_path):
    """Two classes of 20 sounds each at two rates."""
    random = np.random.Generator(np.random.PCG64(0))
    for i in range(40):
        kind, rate = ("low", "high")[i % 2], (8000, 11025)[i % 3 == 0]
        folder = tmp_path / "sounds" / kind
        folder.mkdir(parents=True, exist_ok=True)
        samples = made_up_sound(kind, rate, 0.3, 0.05, random)
        wavfile.write(folder / f"{i:02}.wav", rate, (samples * 32767).astype(np.int16))
    return tmp_path / "sounds"


def test_a_folder_of_sounds_is_described_as_it_is_loaded(sounds):
    found = Wav(root=str(sounds), **KEYS)
    about, raw = found.describe(), found.load(workers=2)
    assert about.classes == ("high", "low") and about.train == 40 and about.strata == (20, 20)
    assert raw.images.shape == (40, *about.shape) and raw.noun == "sound"
    assert raw.names["train"][0] == "high/01.wav"
    assert np.array_equal(raw.images, found.load().images)
    # the high ones are brighter above: in the first rows
    upper = raw.images[:, 0, :8].mean((1, 2)) - raw.images[:, 0, 8:].mean((1, 2))
    assert upper[raw.labels == 0].mean() > upper[raw.labels == 1].mean()


def test_sounds_of_one_name_in_two_parts_are_told_apart(sounds):
    pool = sounds.parent / "pool"
    (pool / "high").mkdir(parents=True)
    (pool / "high/01.wav").write_bytes((sounds / "high/01.wav").read_bytes())
    raw = Wav(root=str(sounds), **{**KEYS, "unlabelled_root": str(pool)}).load()
    assert raw.names["train"][0] == "train/high/01.wav"
    assert raw.names["unlabelled"] == ["unlabelled/high/01.wav"]
    (pool / "high/01.wav").rename(pool / "high/101.wav")
    raw = Wav(root=str(sounds), **{**KEYS, "unlabelled_root": str(pool)}).load()
    assert raw.names["train"][0] == "high/01.wav" and raw.names["unlabelled"] == ["high/101.wav"]


def test_what_gives_no_sound_is_named_or_skipped(sounds):
    wavfile.write(sounds / "low/zz.wav", 8000, np.zeros(0, np.int16))
    (sounds / "low/notes.txt").write_text("no sound")
    with pytest.raises(UserError, match=r"low/zz.wav' cannot be read: it holds no samples.*on_error=skip"):
        Wav(root=str(sounds), **KEYS).describe()
    skipping = Wav(root=str(sounds), **{**KEYS, "on_error": "skip"})
    assert skipping.describe().train == 40
    assert skipping.load().skipped == {"low/zz.wav": "it holds no samples: its length is zero"}
    assert any("no sounds" in note for note, _ in skipping.files().notes)
    for file in (sounds / "low").glob("*.wav"):
        wavfile.write(file, 8000, np.zeros(0, np.int16))
    with pytest.raises(UserError, match="no sound of the class 'low'"):
        skipping.describe()


def test_a_table_names_sounds_and_classes(sounds):
    with (sounds / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "class"])
        rows.writerows(
            (f"{k}/{i:02}.wav", "" if i > 35 else k) for i in range(40) for k in [("low", "high")[i % 2]]
        )
    keys = {**KEYS, "table": str(sounds / "list.csv")}
    about = Wav(root=str(sounds), **keys).describe()
    assert about.train == 36 and about.pool == 4 and about.classes == ("high", "low")
    with pytest.raises(UserError, match="has no such column"):
        Wav(root=str(sounds), **{**keys, "class_column": "klass"}).describe()
    (sounds / "low/00.wav").unlink()
    with pytest.raises(UserError, match="names 1 file that is not in"):
        Wav(root=str(sounds), **keys).describe()


def test_made_up_sounds_are_the_same_each_time():
    keys = {"rows": 12, "test_rows": 6, "noise": 0.2, "data_seed": 3, "rate": 8000, "seconds": 0.5}
    keys |= {"mels": 16, "hop": 0.03, "window": 0.064}
    one, again = Tones(**keys), Tones(**keys)
    assert np.array_equal(one.load().images, again.load().images)
    assert one.describe().shape == one.load().images.shape[1:] and len(SOUNDS) == 6
    assert not np.array_equal(one.load().images, Tones(**{**keys, "data_seed": 4}).load().images)


def test_sounds_through_the_command_line(sounds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["dataset=wav", f"dataset.root={sounds}", "dataset.rate=8000", "dataset.seconds=0.3"]
    words += ["dataset.mels=16", "dataset.labelled=20", "teacher=cnn_tiny", "teacher_pretrain.steps=10"]
    words += ["student_train.steps=10", "device=cpu", "device.threads=1", "hydra.run.dir=run"]
    wavfile.write(sounds / "low/zz.wav", 8000, np.zeros(0, np.int16))
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert "its length is zero" in error and "Traceback" not in error
    assert main(["train", *words, "dataset.on_error=skip"]) == 0
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"
    assert "low/zz.wav" in (tmp_path / "run/unread.csv").read_text()
    assert (tmp_path / "run/figures/predictions.png").is_file()
    assert main(["predict", "run", f"data={sounds}", "to=new.csv"]) == 0
    assert len((tmp_path / "new.csv").read_text().splitlines()) == 41
    assert "its length is zero" in (tmp_path / "new.csv.unread.csv").read_text()
    assert main(["export", "run", "to=exported"]) == 0
    assert "resample_poly" in (tmp_path / "exported/card.md").read_text()
    assert main(["predict", "exported", f"data={sounds}/low/00.wav", "to=one.csv"]) == 0
