"""Attention transfer (Zagoruyko and Komodakis 2017, arXiv 1612.03928): the student looks where the teacher
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

from kdx.core.checks import number
from kdx.core.errors import UserError
from kdx.core.types import Features, Parts, Shown
from kdx.models.pairs import Pairs


def attention(feature: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H W): the mean square over the channels at each place, as a vector of length 1."""
    return F.normalize(feature.square().mean(1).flatten(1))


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, Cs, H, W), (B, Ct, H, W) -> (), in [0, 2 / (H W)]: the mean over all entries of the squared
    difference of both `attention`s."""
    return (attention(student) - attention(teacher)).square().mean()


class AttentionTransfer(Features):
    """term attention = weight * sum over pairs of layers of `attention_loss`.

    weight >= 0; 1000 in the authors' code, whose mean over the H W places is why it is so large. student,
    teacher: see kdx.models.pairs.Pairs; no projector is needed, as attention has no channels. 0 where the
    student's maps are the teacher's times any number. Deviations: as in the authors' code the mean square
    over channels and the mean over entries, where equation 2 of the paper has sums and no square of the
    distance; of two sizes the larger is averaged down. Cost: the teacher's network forwards each batch.
    """

    def __init__(
        self, parts: Parts, *, weight: float, student: str | Sequence[str], teacher: str | Sequence[str]
    ):
        super().__init__()
        self.weight = number("loss.features.attention_transfer.weight", weight, low=0)
        self.pairs = Pairs(parts, student=student, teacher=teacher, middle=False)
        if all(max(map(min, s[1:], t[1:])) == 1 for s, t in self.pairs.shapes):
            raise UserError(
                "loss.features=attention_transfer compares where maps are large, and the layers "
                f"{' and '.join(f'{s} and {t}' for s, t in self.pairs.shapes)} have one place: name others "
                "with loss.layers.student= and loss.layers.teacher=, or choose loss.features=rkd, say"
            )

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        found = self.pairs.read(shown.inputs)
        return {"attention": self.weight * sum(attention_loss(s.float(), t.float()) for s, t in found)}
