"""Look at runs in TensorBoard, under readable names."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdx.commands._words import Option, asks_for_help, help_text, parse
from kdx.faults import Fault

FOLDER = "outputs"
SECONDS = 5
"""Between two looks for new runs; TensorBoard looks for new values as often."""
OPTIONS = (Option("port", None, "where it listens, on this machine only; default: 6006, or the next that is free"),)
HELP = help_text(
    f"""kdx board [FOLDER] [port=N]

FOLDER is one run, a sweep, or any folder with runs below it; default: {FOLDER}. Ctrl-C ends it.""",
    OPTIONS,
)


def main(argv: Sequence[str]) -> int:
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse("board", argv, OPTIONS)
    if len(words.names) > 1:
        raise Fault(f"kdx board shows one folder; given: {' '.join(words.names)}. Name one above them all, such as {FOLDER}")
    top = Path(words.names[0] if words.names else FOLDER).expanduser()
    port = number(words["port"])
    if not top.is_dir():
        raise Fault(f"the folder '{top}' does not exist; name one with runs in it: kdx board FOLDER")
    from kdx.report.mirror import DEPTH, Mirror

    with tempfile.TemporaryDirectory(prefix="kdx-board-", ignore_cleanup_errors=True) as place, terminated():
        mirror = Mirror(top, Path(place))
        runs = mirror.update()
        if not runs:
            raise Fault(f"'{top}' holds no run, nor does a folder up to {DEPTH} levels below it; `kdx train` makes one in outputs/runs")
        print(f"{runs} run{'s' * (runs > 1)} of {top} in TensorBoard: {serve(place, port, f'kdx {top}')}   (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(SECONDS)
                mirror.update()
    return 0


def number(port: str | None) -> int | None:
    if port is None:
        return None
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise Fault(f"port must be a whole number from 1 to 65535; given: {port!r}")
    return int(port)


def serve(place: str, port: int | None, title: str) -> str:
    """TensorBoard over `place`, in a thread of its own and on the loopback address only. title: of the browser's tab. Returns its address."""
    from tensorboard import program

    server = program.TensorBoard()
    server.configure(argv=[None, "--logdir", place, "--host", "127.0.0.1", "--reload_interval", str(SECONDS),
                           "--window_title", title], port=port)  # fmt: skip
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a note on its way of loading
            return server.launch()
    except program.TensorBoardServerException as error:
        raise Fault(f"TensorBoard cannot listen: {error.msg}. Choose another port with port=N, or leave it out") from error


@contextlib.contextmanager
def terminated() -> Iterator[None]:
    """SIGTERM ends the program as an exit does, so that its folder is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
