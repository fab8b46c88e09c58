"""What the terms share that bring the features of two domains together: the source, whose rows have labels,
and the target, whose rows have none.
"""

from __future__ import annotations

from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.types import Shown

SOURCE = "labelled"
"""The stream that is the source; all others are the target."""


def source_and_target(term: str, feature: Tensor, shown: Shown, least: int) -> tuple[Tensor, Tensor]:
    """(B, D) of the rows that the student has just been shown -> (S, D) of the source, (T, D) of the target.

    term: the name of what asks, least: rows that it needs of each. Raises UserError.
    """
    pieces = feature.split([len(batch) for batch in shown.batches])
    named = list(zip((batch.split for batch in shown.batches), pieces, strict=True))
    own = [piece for name, piece in named if name == SOURCE]
    others = [piece for name, piece in named if name != SOURCE]
    if not own or not others:
        has = "labelled rows" if own else "rows of the pool"
        raise UserError(
            f"loss.features={term} brings labelled rows and those of a pool together, and a pass has "
            f"{has} alone: set pool=NAME or dataset.labelled=0.1, say, and a loss that shows the student "
            "both at once, such as kd"
        )
    source, target = own[0], others[0]
    if (fewest := min(len(source), len(target))) < least:
        raise UserError(
            f"loss.features={term} needs {least} rows of each domain in a batch, and one of them has "
            f"{fewest}: raise student_train.batch_size, or set student_train.labelled_share=0.5"
        )
    return source, target
