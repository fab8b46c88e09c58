"""publish= of kdx train: what has finished is published when all else is done, and nothing is imported for it
before."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from kdx.config.destinations import read_publish
from kdx.config.wire import Order
from kdx.core.errors import UserError
from kdx.store.resolve import error_in_one_line


def publish_at_end(path: Path, order: Order) -> None:
    """path: of a run that has finished, or of a sweep. Never raises but where it is interrupted: the run is
    done, and what came in the way is a warning that says what to type."""
    place = read_publish(order.config)
    if place is None:
        return
    folder = os.path.relpath(path)
    try:
        from kdx.runs.publish.publish import default_out, publish_path
        from kdx.runs.publish.publisher import Publishing

        found = publish_path(path, Publishing(destination=place, out=default_out(path, place)))
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else error_in_one_line(error)
        again = shlex.join(["kdx", "publish", folder, f"to={place}"])
        print(f"WARNING: this was not published: {said}. Repeat it with: {again}", file=sys.stderr)
        return
    where = ", ".join(dict.fromkeys(receipt.where for receipt in found.receipts))
    print(f"published to {place}: {where if len(found.receipts) < 3 else f'{len(found.receipts)} runs'}")
    for line in (*found.lines, *(receipt.note for receipt in found.receipts if receipt.note)):
        print(line)
    if found.look:
        print(f"look at it: {found.look}")
