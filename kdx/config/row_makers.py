"""What makes rows, as an option of the groups `made_up` and `pool` describes it, and its settings that
another one leaves without effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdx.config.described import component
from kdx.config.options import option_file, read_option
from kdx.config.trying import trying
from kdx.store.component import Component


def read_maker(group: str, option: str | None, node: Mapping[str, Any]) -> Component:
    """What a node describes. What lies idle has the value that its option has, so that no key of the store
    hangs on it: the same rows would be made once more, and of private ones released."""
    made = component(group, node)
    idle = idle_keys(made)
    file = option_file(group, option) if option and idle else None
    if file is None:
        return made
    own = {key: value for key, value in dict(read_option(file)).items() if key in idle}
    return component(group, {**node, **own})


def idle_keys(made: Component) -> Mapping[str, str]:
    """key -> why it can never act; {} of what cannot be built: why is said where it is tried."""
    found: Mapping[str, str] = {}
    with trying([]):
        from kdx.data.making import RowMaker  # late: most runs have none, and a plan needs no numpy

        maker = made.build()
        found = maker.idle() if isinstance(maker, RowMaker) else {}
    return found
