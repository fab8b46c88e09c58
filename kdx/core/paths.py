"""Where the configuration files lie. Standard library only."""

from __future__ import annotations

from pathlib import Path

from kdx.core.errors import UserError


def conf_dir() -> Path:
    """The folder of YAML files: `kdx/conf` of an installed wheel, else `conf/` beside the package, as in the
    repository.
    """
    package = Path(__file__).resolve().parents[1]
    places = [package / "conf", package.parent / "conf"]
    for place in places:
        if place.is_dir():
            return place
    raise UserError(
        f"kdx needs its conf/ folder; it is neither {places[0]} nor {places[1]}: install kdx again"
    )
