"""TensorBoard events, written with TensorBoard's own writer.

A run of kdx is a run of TensorBoard: the event file in the run folder has the student's curves and all that
is of the whole run. Each other network has a run of its own below it, `curves/teacher`, with the same tags,
so that one chart shows them all, each in a colour of its own.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.core.metric import Metric
from kdx.core.roles import ROLE_WORDS, role_trained_by
from kdx.report.metric import curve_of
from kdx.report.run.names import TARGET, everything
from kdx.report.run.place import NETWORKS, file_name
from kdx.store.places import recorded
from kdx.store.stage import split_number

FLUSH_SECONDS = 2
_LONGEST_TEXT = 100  # of a hyperparameter's value; longer ones are no help in a table
THE_RUN = "student"
"""The role whose curves lie in the run folder itself."""
_PLACES = ("validation", "train")
"""The parts of a network's record in the order in which TensorBoard shows them: each gets its number, as
TensorBoard sorts by name, digits first.
"""
RESULTS, OTHER_RESULTS = "(results)", "(results: others)"
"""What the tags of the numbers of a whole run begin with. HParams shows the first five of all tags, sorted by
the codes of their letters, and "(" comes before digits there; the charts have digits before all else.
"""
CHARTS = {
    "validation loss": "validation/loss",
    "training loss": "train/loss",
    "learning rate": "train/learning_rate",
}
"""Title -> what is drawn, below the chart of the metric that counts."""
_HIDDEN = {"hydra", "store", "workers", "publish", "command"}  # where a run took place, not what it was


class Board:
    """One event file in `folder`, and one for each other network. Their scalars reach the disk within
    seconds, so curves are live.
    """

    def __init__(self, folder: Path):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.folder = folder.resolve()
        self.writer = EventFileWriter(str(folder), max_queue_size=1000, flush_secs=FLUSH_SECONDS)
        self.others: dict[str, Board] = {}

    def curves(self, role: str, number: int | None, record: Mapping[str, Any]) -> None:
        """A record of metrics.jsonl of the training of `role`; number: of its round, or of a further
        teacher."""
        values = {curve_tag(key, number): value for key, value in record.items() if key != "step"}
        self.network(role).scalars("", values, record["step"])

    def network(self, role: str) -> Board:
        """That of a role; its folder is made where the first is asked for."""
        if role == THE_RUN:
            return self
        if role not in self.others:
            self.others[role] = Board(self.folder / NETWORKS / network_folder(role))
        return self.others[role]

    def add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def scalars(self, prefix: str, values: Mapping[str, float | None], step: int) -> None:
        """Each finite value under `<prefix>/<name>`, or its name where there is no prefix."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        finite = {name: value for name, value in values.items() if is_number(value) and math.isfinite(value)}
        if finite:
            self.add(
                Summary(
                    value=[
                        Summary.Value(tag=f"{prefix}/{name}" if prefix else name, simple_value=value)
                        for name, value in finite.items()
                    ]
                ),
                step,
            )

    def image(self, tag: str, png: bytes) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        # A PNG's header holds width and height, four bytes each from byte 16 on.
        width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
        picture = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
        self.add(Summary(value=[Summary.Value(tag=tag, image=picture)]), 0)

    def text(self, tag: str, markdown: str) -> None:
        from tensorboard.plugins.text.metadata import create_summary_metadata

        self._tensor(
            tag,
            create_summary_metadata(display_name=tag, description=""),
            [markdown.encode("utf-8", "replace")],
        )

    def layout(self, counts: Metric) -> None:
        """Charts that show every round of every network together, in the custom scalars tab. counts: the
        metric whose chart stands first.
        """
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata

        category = layout_pb2.Category(title="every round in one chart")
        for title, curve in {f"validation {counts.title}": curve_of(counts), **CHARTS}.items():
            tag = f"^{re.escape(curve_tag(curve))}(-[0-9]+)?$"
            category.chart.add(title=title, multiline=layout_pb2.MultilineChartContent(tag=[tag]))
        layout = layout_pb2.Layout(category=[category])
        self._tensor(
            metadata.CONFIG_SUMMARY_TAG, metadata.create_summary_metadata(), layout.SerializeToString()
        )

    def start_session(self, config: Mapping, name: str, protocol: Any = None) -> None:
        """The hyperparameters, of a run.json. name: shown before them, cut to some 15 letters.

        No experiment summary goes with them: TensorBoard would take one run's list for all runs of a sweep.
        """
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        # TensorBoard averages sessions of one group, so the group is this run: its name, and what tells
        # namesakes apart.
        digest = hashlib.sha256(f"{self.folder} {time.time_ns()}".encode()).hexdigest()[:8]
        self.add(hparams_pb(hyperparameters(config, protocol), trial_id=f"{name} {digest}"), 0)

    def final(self, metrics: Mapping[str, float | None], others: Mapping[str, float | None]) -> None:
        """The few numbers to show beside the hyperparameters, and those that come behind them."""
        self.scalars(RESULTS, metrics, 0)
        self.scalars(OTHER_RESULTS, others, 0)

    def end_session(self, success: bool) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
        info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=info))
        self.add(
            Summary(
                value=[
                    Summary.Value(
                        tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR
                    )
                ]
            ),
            0,
        )

    def close(self) -> None:
        for board in (self, *self.others.values()):
            board.writer.close()

    def _tensor(self, tag: str, about: Any, content: bytes | list[bytes]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.util.tensor_util import make_tensor_proto

        self.add(
            Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=make_tensor_proto(content))]), 0
        )


def curve_tag(key: str, number: int | None = None) -> str:
    """What a number of a record is called on TensorBoard: validation/accuracy of round 2 ->
    "1 validation/accuracy-2".
    """
    part, _, rest = key.partition("/")
    place = f"{_PLACES.index(part) + 1} " if part in _PLACES and rest else ""
    return f"{place}{key}" if number is None else f"{place}{key}-{number}"


def network_of_stage(stage: str) -> tuple[str, int | None]:
    """The role that a stage trains, or its own name, and the number of a round or of a further teacher."""
    stem, number = split_number(stage)
    return role_trained_by(stem) or stem, number


def network_folder(role: str) -> str:
    """What the folder of a network's curves is called: by the words for it where it is one of kdx's own."""
    return file_name(ROLE_WORDS.get(role, role))


def hyperparameters(config: Mapping, protocol: Any = None) -> dict[str, bool | float | str]:
    """A nested config as flat names and scalars: {"loss": "kd", "loss.temperature": 4.0, ...}.

    A node with a `_target_` has a value of its own: the option chosen, or the last word of the address in
    small letters. Nulls, paths, long text and names of `_HIDDEN` are left out.
    """
    found: dict[str, bool | float | str] = {}
    paths = recorded(config, protocol)
    for key, value in everything(config).items():
        if not _HIDDEN.isdisjoint(key.split(".")) or key in paths:
            continue
        if key.endswith(TARGET) and isinstance(value, str):
            found[key.removesuffix(TARGET)] = value.rpartition(".")[2].lower()
        elif isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
            found[key] = ", ".join(str(item) for item in value)
        elif isinstance(value, bool | str):
            found[key] = value
        elif is_number(value):
            found[key] = float(value)
    chosen = config.get("choices")
    options = chosen.items() if isinstance(chosen, Mapping) else ()
    return {name: value for name, value in found.items() if _fits(value)} | {
        str(group): str(option)[:_LONGEST_TEXT] for group, option in options
    }


def _fits(value: bool | float | str) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= _LONGEST_TEXT and "/" not in value and "\\" not in value
    return math.isfinite(value)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
