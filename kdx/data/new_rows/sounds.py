"""New sounds, as log-mel pictures like those that a network learned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.data.new_rows.rows import FILE_COLUMN, NewRows, RowBlock, check_there, path_in
from kdx.data.pictures.walk import Walk, readable
from kdx.data.sound.mel import LogMel
from kdx.data.sound.wave_files import SOUND_FILES, UnreadableSound, read_sound


class NewSounds(NewRows):
    """A WAV file, or all of a folder, nested as you like. how: the keys of a LogMel, as the data set had
    them. workers: threads that read.
    """

    noun = "sound"

    def __init__(self, place: Path, how: Mapping[str, Any], workers: int):
        check_there(place)
        self._folder, self._walk, self._workers = place, Walk(None, SOUND_FILES), workers
        self._mel = LogMel(**how)
        self._paths = self._walk.pictures(place) if place.is_dir() else [place]
        if not self._paths:
            raise UserError(f"'{readable(place)}' holds no WAV file")
        self.count, self.unread = len(self._paths), []

    def blocks(self, size: int) -> Iterator[RowBlock]:
        with ThreadPoolExecutor(max(self._workers, 1)) as pool:
            for start in range(0, len(self._paths), size):
                paths = self._paths[start : start + size]
                names, pictures = [], []
                for path, found in zip(paths, pool.map(self._one, paths), strict=True):
                    name = path_in(path, self._folder)
                    if isinstance(found, str):
                        self.unread.append((name, found))
                    else:
                        names.append(name)
                        pictures.append(found)
                if names:
                    yield RowBlock({FILE_COLUMN: names}, np.stack(pictures))

    def notes(self) -> list[str]:
        return self._walk.reported()

    def _one(self, path: Path) -> np.ndarray | str:
        """A picture, or why there is none."""
        try:
            return self._mel.picture(*read_sound(path, self._mel.window))
        except UnreadableSound as error:
            return str(error)
