"""WAV files read: samples in [-1, 1], or why there are none."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np

from kdx.core.errors import UserError
from kdx.data.pictures.walk import Sought

SOUND_FILES = Sought("sound", ("wav", "wave"), None)
_FULL = {"uint8": 128.0, "int16": 2.0**15, "int32": 2.0**31, "int64": 2.0**63}
"""Half of the range of whole samples; those of 24 bits come as int32."""


class UnreadableSound(UserError):
    """Why a file gives no sound, a clause."""


def read_sound(path: Path, least: float) -> tuple[np.ndarray, int]:
    """((n,) float64 in [-1, 1], channels averaged; samples a second). least: seconds that a sound must last.
    Raises UnreadableSound."""
    rate, samples = _read(path)
    if not len(samples):
        raise UnreadableSound("it holds no samples: its length is zero")
    if len(samples) < least * rate:
        raise UnreadableSound(
            f"it lasts {len(samples) / rate:.4g} s, less than one window of dataset.window={least:g}"
        )
    if samples.dtype.kind == "f":
        if not np.isfinite(samples).all():
            raise UnreadableSound("it has samples that are no numbers (NaN or infinite)")
        values = samples.astype(np.float64)
    else:
        half = _FULL[samples.dtype.name]
        values = (samples.astype(np.float64) - half * (samples.dtype.kind == "u")) / half
    return (values if values.ndim == 1 else values.mean(1)), rate


def _read(path: Path) -> tuple[int, np.ndarray]:
    from scipy.io import wavfile

    try:
        if not path.stat().st_size:
            raise UnreadableSound("it is empty (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            return wavfile.read(path)
    except wavfile.WavFileWarning as error:
        raise UnreadableSound("it is cut off: it holds fewer bytes than its header says") from error
    except OSError as error:
        raise UnreadableSound(error.strerror or str(error)) from error
    except (struct.error, EOFError) as error:
        raise UnreadableSound("it is cut off within its header") from error
    except (ValueError, ZeroDivisionError, MemoryError, OverflowError) as error:
        raise UnreadableSound(_in_words(error)) from error


def _in_words(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "Unknown wave file format" in text:
        kind = text.partition(": ")[2].partition(".")[0]
        return f"its samples are packed as {kind}, and plain ones (PCM or float) are read"
    if "not understood" in text:
        return "it is no WAV file: its first bytes are not RIFF"
    return f"it is no sound WAV file ({text[:100]})"
