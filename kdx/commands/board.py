"""Look at runs in TensorBoard, under readable names."""

from __future__ import annotations

import contextlib
import io
import logging
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kdx.commands._words import Option, asks_for_help, help_text, parse_words
from kdx.core import output, signals
from kdx.core.errors import UserError
from kdx.report.run import document

Application = Callable[[Mapping[str, Any], Any], Iterable[bytes]]
_FOLDER = "outputs"
LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""What a browser on this machine, or one at the other end of an ssh tunnel, calls it."""
POLL_SECONDS = 5
"""Between two looks for new runs; TensorBoard looks for new values as often."""
OPTIONS = (
    Option(
        "port",
        None,
        "where it listens, for programs of this machine only; default: 6006, or the next that is free",
    ),
)
HELP = help_text(
    f"""kdx board [FOLDER] [port=N]

FOLDER is one run, a sweep, or any folder with runs below it; default: {_FOLDER}. Ctrl-C ends it.
Whoever has the address that it prints can look, from this machine; nobody else can.""",
    OPTIONS,
)


def main(argv: Sequence[str]) -> int:
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse_words("board", argv, OPTIONS)
    if len(words.names) > 1:
        raise UserError(
            f"kdx board shows one folder; given: {' '.join(words.names)}. Name one above "
            f"them all, such as {_FOLDER}"
        )
    top = Path(words.names[0] if words.names else _FOLDER).expanduser()
    port = _number(words["port"])
    if not top.is_dir():
        raise UserError(f"the folder '{top}' does not exist; name one with runs in it: kdx board FOLDER")
    from kdx.report.compare.mirror import DEPTH, Mirror

    with tempfile.TemporaryDirectory(prefix="kdx-board-", ignore_cleanup_errors=True) as place:
        mirror = Mirror(top, Path(place))
        runs = mirror.update()
        if not runs:
            raise UserError(
                f"'{top}' holds no run, nor does a folder up to {DEPTH} levels below it; `kdx train` makes "
                "one in outputs/runs"
            )
        address = serve(place, port, f"kdx {top}", lambda: first_look(mirror.colours()))
        print(
            f"{runs} run{'s' * (runs > 1)} of {top} in TensorBoard: {address}   (Ctrl-C ends "
            f"it{unfinished(top)})",
            flush=True,
        )
        output.answer({"folder": str(top), "runs": runs, "address": address})
        try:
            while True:
                time.sleep(POLL_SECONDS)
                mirror.update()
        except KeyboardInterrupt as error:
            code = signals.code_of(error)
    return 0 if code == 130 else code


def unfinished(top: Path) -> str:
    """How many runs have not finished, by what they are: ; 1 died, 2 running."""
    from kdx.report.compare.mirror import DEPTH
    from kdx.report.compare.search import run_folders

    states: Counter[str] = Counter()
    for folder in run_folders(top, DEPTH):
        with contextlib.suppress(UserError):
            states[
                document.state(folder, document.read_document(folder / document.RUN_FILE, figures=False))
            ] += 1
    listed = ", ".join(
        f"{count} {state}"
        for state, count in sorted(states.items())
        if state in ("running", document.DIED, document.UNSURE)
    )
    return f"; {listed}" if listed else ""


def _number(port: str | None) -> int | None:
    if port is None:
        return None
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UserError(f"port must be a whole number from 1 to 65535; given: {port!r}")
    return int(port)


def first_look(colours: str) -> str:
    """What an address of TensorBoard asks for: colours by a regular expression over the names of runs, and
    curves as they were measured, not smoothed.
    """
    return urlencode({"runColorGroup": f"regex:{colours}", "smoothing": 0})


def serve(place: str, port: int | None, title: str, look: Callable[[], str]) -> str:
    """TensorBoard over `place`, in a thread of its own. title: of the browser's tab. look: what its address
    asks for where it is opened as it is returned.

    The loopback address is every local user's, so all of it lies below a path that nobody can guess; of its
    own data server, which would listen at a second port without any, it makes no use.
    """
    from tensorboard import program

    server = program.TensorBoard(
        server_class=lambda app, flags: program.create_port_scanning_werkzeug_server(
            guarded(led(app, f"{flags.path_prefix}/", look)), flags
        )
    )
    server.configure(
        argv=[
            None,
            "--logdir",
            place,
            "--host",
            "127.0.0.1",
            "--reload_interval",
            str(POLL_SECONDS),
            "--load_fast",
            "false",
            "--path_prefix",
            f"/{secrets.token_urlsafe(16)}",
            "--window_title",
            title,
        ],
        port=port,
    )
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each run whose name changes
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a note on its way of loading
            return server.launch()
    except program.TensorBoardServerException as error:
        raise UserError(
            f"TensorBoard cannot listen: {error.msg}. Choose another port with port=N, or leave it out"
        ) from error


def led(app: Application, front: str, look: Callable[[], str]) -> Application:
    """The same WSGI application; who opens its front page and asks for nothing is led to that look at it."""

    def answer(environ: Mapping[str, Any], start: Any) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != front or environ.get("QUERY_STRING"):
            return app(environ, start)
        start("302 Found", [("Location", f"?{look()}"), ("Content-Type", "text/plain")])
        return [b""]

    return answer


def guarded(app: Application) -> Application:
    """The same WSGI application for requests that call this machine by a name of its own: a page from
    elsewhere, whose name has been turned to 127.0.0.1 (DNS rebinding), calls it by that name."""

    def answer(environ: Mapping[str, Any], start: Any) -> Iterable[bytes]:
        name = str(environ.get("HTTP_HOST", "")).lower()
        if (name if name.endswith("]") else name.rpartition(":")[0] or name) in LOCAL:
            return app(environ, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"kdx board answers to 127.0.0.1 and localhost only\n"]

    return answer
