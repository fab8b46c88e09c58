"""What may be done to a row, whatever it holds: steps in order, and the inputs of any (split, row, view).
View 0 is the clean row. The same row and view give the same bits in any batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.levels import as_float
from kdx.core.several import BOXED, kinds_in
from kdx.core.trees import device_of, leaves, moved, tree
from kdx.core.types import Inputs, Split
from kdx.core.warp import Warp
from kdx.data.reader import OfArray
from kdx.data.views.draws import Draws


class Step(ABC):
    """One augmentation. Subclasses are final."""

    reads: ClassVar[str] = "pictures"
    """What rows it changes: the word that data sets of such rows have. Of pictures x is (B, C, H, W)."""

    moves_only: ClassVar[bool] = False
    """Whether it only copies values, so that it gives the same row on the stored uint8, four times less to
    move.
    """

    in_place: ClassVar[bool] = False
    """Whether what it shows stays where it was, so that answers that lie at places of a row still do."""

    tells_warp: ClassVar[bool] = False
    """Whether `warp` says where what it shows has moved to, so that such answers move with it."""

    reads_stored: ClassVar[bool] = False
    """Whether it knows rows by what is stored of them, so that it must be the first step."""

    @abstractmethod
    def __call__(self, x: Any, draws: Draws, op: str) -> Any:
        """B rows, B draws -> B rows. op: the name under which to draw."""

    def warp(self, draws: Draws, op: str, size: tuple[int, int]) -> Warp | None:
        """Where pictures of this height and width lie in what is made of them; None: where they were."""
        return None

    def meet(self, files: Mapping[str, str], rows: Mapping[str, Inputs]) -> Sequence[str]:
        """Called once before its first row, in each stage that shows views. files: what a network of these
        rows is accompanied by, such as "tokenizer.json" (`Adapter.files`); rows: split -> its inputs. What it
        gives is what there is to say, a sentence each.
        """
        return ()


class Window(Step):
    """A step that shows a part of a row: of rows that hold more than is stored of them, such as pictures in
    files, it is cut out before anything is made smaller, where it is the first step."""

    @abstractmethod
    def numbers(self, draws: Draws, op: str) -> Tensor:
        """B draws -> (B, d) float32 in [0, 1): all that is random in it."""

    @abstractmethod
    def window(self, numbers: Sequence[float], width: int, height: int) -> tuple[int, int, int, int, bool]:
        """(d) numbers, the size of a row -> left, top, width and height of what is seen, whether mirrored."""


class Mixer(ABC):
    """A step that makes a row of two. Subclasses are final."""

    reads: ClassVar[str] = "pictures"
    """As a Step's."""

    @abstractmethod
    def pairs(self, draws: Draws, op: str, rows: int) -> tuple[Tensor, Tensor]:
        """B draws -> partner (B,) int64 in [0, rows), share (B,) float32 of the row itself in [0, 1]"""

    @abstractmethod
    def blend(self, x: Any, other: Any, share: Tensor) -> Any:
        """B rows and their partners -> B rows"""


def changes(step: Step | Mixer, reads: str) -> bool:
    """Whether a step changes rows of that kind: those of pictures that move nothing, or tell what they move,
    change pictures with boxes too."""
    boxes_follow = isinstance(step, Step) and (step.in_place or step.tells_warp)
    kinds = kinds_in(reads)
    return step.reads in kinds or (BOXED in kinds and step.reads == "pictures" and boxes_follow)


class Chain:
    """Steps in order, under the names that they have in the configuration. Mixup, where it is among them,
    comes last, whatever its place.

    Each step draws under its place and name, so one step twice draws twice.
    """

    def __init__(self, steps: Sequence[tuple[str, Step | Mixer]]):
        mixers = [step for _, step in steps if isinstance(step, Mixer)]
        if len(mixers) > 1:
            raise UserError("augment needs mixup at most once; given twice: remove one")
        for name, step in steps:
            if not isinstance(step, (Step, Mixer)):
                raise UserError(
                    f"augment.{name} needs a step, as those of kdx.data.views.augment are; given "
                    f"{type(step).__name__}: see `kdx list augment`"
                )
        late = [name for name, step in steps[1:] if isinstance(step, Step) and step.reads_stored]
        if late:
            raise UserError(
                f"augment: {late[0]} knows rows by what they hold before anything is done to them: name it "
                "first"
            )
        self.mixup = mixers[0] if mixers else None
        self._steps = [
            (f"{place}:{name}", step)
            for place, (name, step) in enumerate(s for s in steps if not isinstance(s[1], Mixer))
        ]

    def __len__(self) -> int:
        """Steps, mixup included. 0: every view is the clean row."""
        return len(self._steps) + (self.mixup is not None)

    @property
    def first_window(self) -> tuple[str, Window] | None:
        """The first step, with the name under which it draws, where it is one."""
        op, step = self._steps[0] if self._steps else ("", None)
        return (op, step) if isinstance(step, Window) else None

    def __call__(
        self, x: Inputs, draws: Draws, skip: int = 0, kinds: Mapping[str, str] | None = None
    ) -> Inputs:
        """Rows as they are stored or as a network sees them -> as a network sees them, all steps but mixup
        and the first `skip`. kinds: as a Split's: of rows with several inputs a step changes those that it
        reads, and leaves the others as they are."""
        for op, step in self._steps[skip:]:
            x = x if step.moves_only else tree(as_float, x)
            if kinds:
                own = {name: step(leaf, draws, op) for name, leaf in x.items() if kinds[name] == step.reads}
                x = {**x, **own}
            else:
                x = step(x, draws, op)
        return tree(as_float, x)

    @property
    def moves(self) -> bool:
        """Whether some step says where what it shows has moved to."""
        return any(step.tells_warp for _, step in self._steps)

    def warp(self, draws: Draws, size: tuple[int, int]) -> Warp | None:
        """Of all steps together; see `Step.warp`."""
        found: Warp | None = None
        for op, step in self._steps:
            if (one := step.warp(draws, op, size)) is not None:
                found = one if found is None else found.then(one)
        return found


Mix = tuple[Tensor, Tensor]
"""partner (B,) int64 rows of the same split, on the CPU, and lam (B,) float32: the share of the row
itself."""


class Views:
    """The inputs of any (split, row, view), whatever a row holds."""

    def __init__(self, chain: Chain, seed: int):
        self.chain, self.seed = chain, seed

    def __call__(
        self, split: Split, index: Tensor, view: Tensor, *, device: torch.device | None = None
    ) -> tuple[Inputs, Mix | None]:
        """Rows `index` of the split, as their views `view` (0: clean), both (B,) int64 on the CPU.

        Returns B rows as a network sees them (pictures (B, C, H, W) float32 in [0, 1]) and, where the chain
        has a mixup and some row is not clean, the partners (else None; a clean row is its own partner).
        device: where they are made; by default where split.inputs lies.
        """
        device = device_of(split.inputs) if device is None else device
        noisy = view != 0
        if not len(self.chain) or not noisy.any():
            return tree(as_float, _rows(split, index, device)), None
        if noisy.all():
            return self._noisy(split, index, view, device)
        out = tree(as_float, _rows(split, index, device))
        places = noisy.nonzero()[:, 0]
        made, mix = self._noisy(split, index[places], view[places], device)
        there = moved(places, device)
        for name, leaf in leaves(out).items():
            leaf[there] = leaves(made)[name]
        if mix is not None:
            partner, lam = index.clone(), torch.ones(len(index), device=device)
            partner[places], lam[there] = mix
            mix = partner, lam
        return out, mix

    def warp(self, split: Split, index: Tensor, view: Tensor, device: torch.device) -> Warp | None:
        """Where what the pictures of these rows show lies in their views; None: where it was."""
        if not self.chain.moves or not (noisy := view != 0).any():
            return None
        draws = Draws(self.seed, split.name, index, view, device)
        high, wide = split.inputs.shape[-2:]
        found = self.chain.warp(draws, (int(high), int(wide)))
        return None if found is None else found.where(moved(noisy, device))

    def _noisy(
        self, split: Split, index: Tensor, view: Tensor, device: torch.device
    ) -> tuple[Inputs, Mix | None]:
        draws = Draws(self.seed, split.name, index, view, device)
        x = self._stepped(split, index, draws)
        if self.chain.mixup is None:
            return x, None
        partner, share = self.chain.mixup.pairs(draws.given, "mixup", len(split))
        other = self._stepped(split, partner, Draws(self.seed, split.name, partner, view, device))
        lam = moved(share, device)
        return self.chain.mixup.blend(x, other, lam), (partner, lam)

    def _stepped(self, split: Split, index: Tensor, draws: Draws) -> Inputs:
        """Rows after all steps but mixup."""
        first, inputs = self.chain.first_window, split.inputs
        if first is None or not (isinstance(inputs, OfArray) and inputs.rows.crops):
            return self.chain(_rows(split, index, draws.device), draws, kinds=split.kinds)
        op, step = first
        seen = inputs.cropped(index, step.numbers(draws.given, op), step.window)
        return self.chain(moved(seen, draws.device), draws, skip=1)


def _rows(split: Split, index: Tensor, device: torch.device) -> Inputs:
    here = moved(index, device_of(split.inputs))
    found: Inputs = moved(tree(lambda leaf: leaf.index_select(0, here), split.inputs), device)
    return found
