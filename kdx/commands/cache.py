"""Look after the store: list it, verify its files, free what no run needs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kdx.commands._show import show_table
from kdx.commands._words import Option, Words, asks_for_help, help_text, parse_words, switch
from kdx.core import output
from kdx.core.errors import UserError, together
from kdx.core.folded import columns_of, say
from kdx.data.phrases import counted
from kdx.report.run.canvas import shorten
from kdx.report.run.table import bytes_in_words, table_width
from kdx.runs import cleanup, forgetting
from kdx.runs.store_entries import UNREADABLE, StoreEntry, store_contents
from kdx.store.store import SOURCES

OPTIONS = (
    Option("store", "outputs/store", "the store"),
    Option(
        "runs",
        None,
        "a folder of run folders; may be given several times; default: runs, sweeps and reruns beside the "
        "store and in outputs",
        many=True,
    ),
    Option("older_than", "7d", "gc: unfinished stages touched since then stay, such as 7d, 12h or 0"),
    Option(
        "yes", "false", "gc and forget: delete; without it, only what would go is shown", ("true", "false")
    ),
)
HELP = help_text(
    """kdx cache ls        what is in the store, and which runs refer to it
kdx cache verify    compare every file with its hash; exit code 1 where one differs
kdx cache gc        free what no run needs: shows it; deletes with yes=true
kdx cache forget DATA   erase all that was made of some data: shows it; deletes with yes=true. DATA: a run
                        folder, a file or folder of data, or the key of an artifact""",
    OPTIONS,
    "Do not free while a run is starting: it may be about to read what no run referred to before.",
)


def main(argv: Sequence[str]) -> int:
    """Exit code 1: verify found damage."""
    if asks_for_help(argv):
        print(HELP)
        return 0
    words = parse_words("cache", argv, OPTIONS)
    action = words.names[0] if words.names else ""
    if action not in ACTIONS or (len(words.names) != 1 and action != "forget"):
        given = " ".join(words.names)
        raise UserError(f"kdx cache needs one of {', '.join(ACTIONS)}; given: {given or 'nothing'}")
    return ACTIONS[words.names[0]](words, Path(words["store"]).expanduser())


def ls(words: Words, store: Path) -> int:
    contents, folders = store_contents(store), cleanup.every_run_folder(tops(words, store), store)
    found = contents.entries
    used: dict[str, list[str]] = {}
    unread = []
    for folder in folders:
        try:
            for name, runs in cleanup.users([folder]).items():
                used.setdefault(name, []).extend(runs)
        except UserError as error:
            unread.append(str(error))
    unread += contents.strangers
    rows: list[list[str]] = []
    output.answer(
        {
            "store": str(store),
            "entries": [{**_about(entry), "runs": used.get(entry.name, [])} for entry in found],
            "unread": unread,
        }
    )
    for entry in found if not output.wants_document() else ():
        runs = used.get(entry.name, [])
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        rows.append(
            [
                f"{entry.stage} {entry.key[:12]}",
                entry.state,
                bytes_in_words(entry.bytes),
                cleanup.age(time.time() - entry.made),
                f"{runs[0]}{more}" if runs else "-",
                _shorten(entry.what),
            ]
        )
    if output.wants_document():
        return 0
    show_table(
        f"{store}: {len(found)} entries, {bytes_in_words(sum(e.bytes for e in found))}",
        *_narrowed(["stage and key", "state", "size", "age", "runs", "what"], rows, columns_of(sys.stdout)),
        unread,
    )
    return 0


def _narrowed(
    header: list[str], rows: list[list[str]], columns: int | None
) -> tuple[list[str], list[list[str]]]:
    """The table where it fits into so many columns; else with no word of what is finished, and runs and what
    they made cut to what there is room for. columns: None: any."""
    if columns is None or not rows or table_width(header, rows) <= columns:
        return header, rows
    fixed = [[row[0] if row[1] == "finished" else f"{row[0]} {row[1]}", *row[2:4]] for row in rows]
    room = max(columns - table_width([header[0], *header[2:4]], fixed) - 4, 24)
    cut = []
    for first, row in zip(fixed, rows, strict=True):
        run, _, more = row[4].partition(" and ")
        count = f" +{more.split()[0]}" if more else ""
        runs = shorten(run, room // 2 - len(count), end=True) + count
        cut.append([*first, runs, shorten(row[5], room - room // 2)])
    return [header[0], *header[2:]], cut


def _about(entry: StoreEntry) -> dict[str, Any]:
    about = {"stage": entry.stage, "key": entry.key, "state": entry.state, "bytes": entry.bytes}
    return {**about, "age": round(time.time() - entry.made, 1), "what": entry.what}


def _verify(words: Words, store: Path) -> int:
    contents = store_contents(store)
    found = contents.entries
    hidden = [f"'{e.path}' may not be read by you: nothing in it was looked at" for e in found if not e.key]
    finished = [e for e in found if e.path.name == e.key]
    damaged = [why for entry in finished if (why := cleanup.damage(store, entry))]
    output.answer(
        {
            "store": str(store),
            "artifacts": len(finished),
            "whole": len(finished) - len(damaged),
            "damaged": damaged,
            "unread": [*hidden, *contents.strangers],
        }
    )
    for text in (*hidden, *damaged, *contents.strangers):
        print(text)
    print(f"{len(finished) - len(damaged)} of {len(finished)} artifacts in {store} are whole")
    return 1 if damaged or hidden else 0


def gc(words: Words, store: Path) -> int:
    older_than, delete = cleanup.parse_duration(words["older_than"]), switch("yes", words["yes"])
    found, where = store_contents(store).entries, tops(words, store)
    if not where:
        raise UserError(
            f"no folder of runs was found beside '{store}' or in outputs, and without one everything would "
            "go: name it with runs=PATH"
        )
    if hidden := next((e for e in found if e.state == UNREADABLE), None):
        raise UserError(
            f"'{hidden.path}' may not be read by you, and it may need anything else in the "
            "store: nothing was freed"
        )
    keep = cleanup.needed(found, cleanup.users(cleanup.every_run_folder(where, store)))
    try:
        return free(
            store, [*cleanup.removable(found, keep, older_than, time.time())], len(found), where, delete
        )
    except OSError as error:
        raise UserError(
            f"the store '{store}' cannot be written: {error.strerror or error} ('{error.filename}')"
        ) from error


def free(
    store: Path,
    doomed: Sequence[tuple[StoreEntry, str]],
    whole: int,
    where: Sequence[Path],
    delete: bool,
) -> int:
    freed = []
    for entry, why in doomed:
        done = cleanup.remove(store, entry) if delete else not cleanup.busy(store, entry)
        if done:
            freed.append(entry)
        word = ("freed" if delete else "would free") if done else "at work, stays:"
        say(
            (
                f"{word} {bytes_in_words(entry.bytes):>8}  {entry.stage} {entry.path.name[:12]}  {why}  "
                f"{_shorten(entry.what)}"
            ).rstrip(),
            hang=len(word) + 11,
        )
    output.answer(
        {
            "store": str(store),
            "freed": delete,
            "entries": [{**_about(e), "why": why} for e, why in doomed if e in freed],
            "bytes": sum(e.bytes for e in freed),
            "of": whole,
        }
    )
    total = bytes_in_words(sum(e.bytes for e in freed))
    say(
        f"{len(freed)} of {whole} entries, {total}, {'freed' if delete else 'would be freed'} in {store} "
        f"(runs looked at in {', '.join(map(str, where))})"
    )
    if locks := cleanup.free_locks(store, delete):
        print(f"{locks} lock files that nobody holds, {'deleted' if delete else 'would be deleted'}")
    if (freed or locks) and not delete:
        print("kdx cache gc yes=true deletes them")
    return 0


def forget(words: Words, store: Path) -> int:
    if len(words.names) != 2:
        raise UserError(
            "kdx cache forget needs what is to be forgotten: a run folder, a file or a folder of data, or "
            "the key of an artifact"
        )
    delete, folders = switch("yes", words["yes"]), cleanup.every_run_folder(tops(words, store), store)
    stores = [store, *forgetting.own_stores(folders, store)]
    contents = [entry for each in stores for entry in store_contents(each).entries]
    if hidden := next((e for e in contents if e.state == UNREADABLE), None):
        raise UserError(f"'{hidden.path}' may not be read by you, and may be made of it: nothing was erased")
    found = forgetting.made_of(words.names[1], store, contents, folders)
    forgetting.check_idle(found)
    word = "erased" if delete else "would erase"
    for entry in found.entries:
        if delete and not cleanup.remove(entry.store, entry):
            raise UserError(
                f"a run has begun to work on {entry.stage} {entry.key[:12]}: stop it, and forget again"
            )
        size = bytes_in_words(entry.bytes)
        print(f"{word} {size:>8}  {entry.stage} {entry.path.name[:12]}  {_shorten(entry.what)}".rstrip())
    touched = [each for each in stores if each == store or any(e.store == each for e in found.entries)]
    for each in touched if delete else ():
        (each / SOURCES).unlink(missing_ok=True)  # digests of its files, by where they lie
    output.answer(
        {
            "store": str(store),
            "stores": list(map(str, touched)),
            "erased": delete,
            "entries": [_about(entry) for entry in found.entries],
            "bytes": sum(entry.bytes for entry in found.entries),
            "untold": [str(entry.path) for entry in found.untold],
            "runs": list(map(str, found.runs)),
            "exports": list(map(str, found.exports)),
            "elsewhere": list(map(str, found.stores)),
        }
    )
    for line in _left(found, len(contents), touched, delete):
        print(line)
    return 0


def _left(found: forgetting.MadeOf, whole: int, stores: Sequence[Path], delete: bool) -> Iterator[str]:
    """What came of it, and what it does not reach."""
    total = bytes_in_words(sum(entry.bytes for entry in found.entries))
    done = "erased" if delete else "would be erased"
    yield f"{len(found.entries)} of {whole} entries, {total}, {done} in {together(list(map(str, stores)))}"
    if found.untold:
        yield (
            "nothing tells what they are made of: "
            f"{counted(len(found.untold), 'unfinished or damaged folder')}; "
            "kdx cache gc older_than=0 yes=true deletes such"
        )
    for folder in found.runs:
        yield f"not reached: the run folder {folder}, which keeps figures, predictions and its report"
    for folder in found.stores:
        yield f"not reached: the store {folder} of such a run: kdx cache forget DATA store={folder}"
    for folder in found.exports:
        yield f"not reached: the export {folder}"
    yield (
        "Not known here: copies of exports, run folders that lie elsewhere (runs=PATH), backups, the data "
        "themselves, and blocks of the disk that are not written over yet"
    )
    if not delete:
        yield "kdx cache forget DATA yes=true erases the entries; what is not reached is yours to delete"


ACTIONS = {"ls": ls, "verify": _verify, "gc": gc, "forget": forget}


def tops(words: Words, store: Path) -> list[Path]:
    """The folders of runs:
    those named, each of which must exist, or those found where kdx train puts them.
    """
    named = [Path(name).expanduser() for name in words.lists["runs"]]
    for path in named:
        if not path.is_dir():
            raise UserError(f"runs={path} does not exist")
    usual = [
        parent / kind
        for parent in (store.absolute().parent, Path("outputs").absolute())
        for kind in ("runs", "sweeps", "reruns")
    ]
    return named or [path for path in dict.fromkeys(usual) if path.is_dir()]


def _shorten(text: str, wide: int = 70) -> str:
    return text if len(text) <= wide else f"{text[: wide - 1]}…"
