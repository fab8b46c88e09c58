"""The table of docs/loss.md, "What a term is averaged over", held line by line against the code on a batch of
two labelled and three pool rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdx.config.compose import check_words
from kdx.core.types import Batch, Parts, Split
from kdx.methods.logits import value_at
from kdx.methods.losses.mean_teacher import ramp_up
from kdx.methods.losses.pseudo_label import weight_at
from kdx.methods.losses.slam import slam_loss
from kdx.methods.losses.taylor_ce import taylor
from kdx.models.distillation_token import MayHaveDistillationToken, mean_of_two
from kdx.store.component import Component
from kdx.tasks.classification import Classification
from kdx.tasks.regression import Regression

ROOT = Path(__file__).parents[1]
LOSSES = sorted(path.stem for path in (ROOT / "conf/loss").glob("*.yaml"))
C, PROGRESS = 4, 0.4
TASK = Classification(classes=[str(c) for c in range(C)])
LABELLED, POOL = 2, 3
SCALE = [1.0, 2.0, 0.5, 4.0]
CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0])
COLUMNS = "| loss | term | of a row | sum over | divided by | times |"


def lines() -> Iterator[tuple[str, str, str, str, str, str]]:
    """(loss, term, of a row, sum over, divided by, times), a loss each."""
    page = (ROOT / "docs/loss.md").read_text(encoding="utf-8")
    table = page.split(f"{COLUMNS}\n", 1)[1].split("\n\n", 1)[0]
    losses: list[str] = []
    for line in table.splitlines()[1:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        losses = re.findall(r"`(\w+)`", cells[0]) or losses
        for loss in losses:
            yield (loss, cells[1].strip("`"), *cells[2:])


def logits(seed: int) -> torch.Tensor:
    return 1.5 * torch.randn(20, C, generator=torch.Generator().manual_seed(seed))


class FirstPixel(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, 0].round().long()


class Student(nn.Module):
    """Answers a picture by the number in its first pixel."""

    def __init__(self, seed: int = 3) -> None:
        super().__init__()
        self.number = FirstPixel()
        self.table = nn.Embedding.from_pretrained(logits(seed), freeze=False)

    @property
    def logits(self) -> nn.Parameter:
        return self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(self.number(x))


class TwoTokens(MayHaveDistillationToken):
    """The class token answers as `Student` does, the distillation token as another one."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([Student(), Student(PEER)])

    def token_heads(self) -> tuple[nn.Module, nn.Module]:
        return self.heads[0], self.heads[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return mean_of_two(*(head(x) for head in self.heads))


def pictures(first: int, rows: int) -> torch.Tensor:
    return torch.arange(first, first + rows).float()[:, None, None, None]


def batch(name: str, rows: int, first: int, y: torch.Tensor | None = None) -> Batch:
    """Its views show other numbers, so that each has answers of its own."""
    views = {"main": pictures(first, rows), "clean": pictures(first, rows)}
    views |= {"second": pictures(first + 10, rows), "strong": pictures(first + 10, rows)}
    return Batch(name, torch.arange(rows), torch.ones(rows, dtype=torch.int64), views, y)


STREAMS = {
    "labelled": batch("labelled", LABELLED, 0, torch.tensor([1, 3])),
    "unlabelled": batch("unlabelled", POOL, 5),
}
ANSWERS = logits(4)
PEER = 6
"""The seed of what a peer, or a further head, answers."""
NUMBERS = ("teacher_bounded", "heteroscedastic")
"""The losses that read numbers: of four of them a row, here."""
OF_ALPHA = ("divergence", "dkd", "virtual_teacher", "distillation_token", "self_distill")
OF_NUMBERS = STREAMS | {
    "labelled": replace(STREAMS["labelled"], y=F.one_hot(torch.tensor([1, 3]), C).float())
}
SPREAD = {  # rows 0 and 1 are sure, row 2 is not, and knows of two classes that it has neither
    "mean": torch.tensor([[0.9, 0.1, 0, 0], [0, 0, 0.8, 0.2], [0.5, 0.48, 0.01, 0.01]]),
    "std": torch.full((POOL, C), 0.01),
    "cool_mean": torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.6, 0.2], [0.47, 0.47, 0.03, 0.03]]),
    "cool_std": torch.full((POOL, C), 0.001),
}


def build(loss: str) -> nn.Module:
    """As its file has it, with a weight of a quarter for every pseudo-label, no hidden features, and
    thresholds that some of these rows reach.
    """
    config = check_words([f"loss={loss}"])["loss"]
    if "weights" in config:
        config["weights"] = {"_target_": "kdx.methods.weights.constant.Constant", "value": 0.25}
    if "features" in config:
        config["features"] = {}
    if loss == "fixmatch":
        config |= {"threshold": 0.6, "weight": 3.0}
    if loss in ("noisy_student", "kd", "token_kd", "mse_logits"):
        config |= {"unlabel_ratio": 3.0} if loss == "noisy_student" else {"alpha": [0.9, 0.5]}
    if loss == "adversarial_kd":  # the made-up student has no gradient to a pixel
        config |= {"epsilon": 0.0}
    if loss in ("mutual", "codistill"):
        config |= {"weight": 0.5}
    if loss == "collaborative":
        config |= {"heads": 2, "beta": 0.3}
    if loss == "dkd":
        config |= {"warmup": 0.5, "alpha": 2.0}
    if loss == "self_distill":
        config |= {"alpha": 0.3, "temperature": 2.0}
    if loss in ("nkd", "dist"):
        config |= {"temperature": 2.0, "gamma": 3.0}
    if loss == "divergence":
        config |= {"kind": "jsd", "beta": 0.3, "temperature": 2.0}
    validation = Split("validation", torch.zeros(30, 1, 1, 1, dtype=torch.uint8), torch.arange(30) % C)
    extras = {name: (lambda b, table=table: table) for name, table in SPREAD.items()}
    parts = Parts(
        TwoTokens() if loss == "distillation_token" else Student(),
        lambda: Student(PEER),
        lambda b: ANSWERS[b.views["main"].flatten(1)[:, 0].long()],
        [],
        validation,
        TASK,
        extras,
        class_weights=CLASS_WEIGHTS,
        example=torch.zeros(1, 1, 1, 1),
        rows={"labelled": LABELLED, "unlabelled": POOL},
    )
    if loss in NUMBERS:
        answer = parts.teacher
        parts = replace(
            parts,
            task=Regression(names=list("abcd"), centre=[0.0] * C, scale=SCALE),
            teacher=lambda b: {"value": answer(b), "variance": answer(b).square() / 10},
        )
    objective = Component(config).build(parts)
    if loss == "self_distill":  # as after an epoch, at whose end it was another
        objective.past.network, objective.past.taken = Student(PEER), 1
    if loss == "slam":  # as after a fit, so that the mix is one
        objective.fitted.fill_(True)
        objective.alpha_values.fill_(0.7)
    return objective


def rows_of(loss: str, o: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(what a row has in the column "of a row", which rows are those of "sum over"), both for the rows that
    they are said of: labelled (2,), pool (3,), all (5,).
    """
    student, teacher = logits(3), ANSWERS
    y, known, own, strong = STREAMS["labelled"].y, student[0:2], student[5:8], student[15:18]
    answers, weight = teacher[5:8], 0.25
    first, probs, answered = answers.argmax(1), own.softmax(1), answers.softmax(1)
    target = first if getattr(o, "hard", False) or loss == "self_training" else answered
    both, asked = torch.cat([known, own]), torch.cat([teacher[0:2], answers])
    seconds = torch.cat([student[10:12], student[15:18]])

    def ce(x: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """By hand: -sum over classes of target * log p."""
        goal = F.one_hot(goal, C).float() if goal.dtype == torch.int64 else goal
        return -(goal * x.log_softmax(1)).sum(1)

    def smoothed(goal: torch.Tensor, smoothing: float) -> torch.Tensor:
        return (1 - smoothing) * F.one_hot(goal, C) + smoothing / C

    def of_labels(goal: torch.Tensor, said: torch.Tensor = known) -> torch.Tensor:
        return -(CLASS_WEIGHTS * goal * said.log_softmax(1)).sum(1)

    def divergence(of: torch.Tensor, to: torch.Tensor, temperature: float) -> torch.Tensor:
        """T^2 KL(of || to), by hand."""
        cold, warm = ((x / temperature).log_softmax(1) for x in (of, to))
        return temperature**2 * (cold.exp() * (cold - warm)).sum(1)

    smoothing = getattr(o, "smoothing", getattr(o, "kind", {}).get("smoothing", 0.0))
    ones = torch.ones(POOL)
    values = {
        "CE(label)": of_labels(F.one_hot(y, C).float()),
        "smoothed CE(label)": of_labels(smoothed(y, smoothing)),
        "CE_T(teacher)": ce(known / 2, (teacher[0:2] / 2).softmax(1)),
        "CE(answer)": ce(own, SPREAD["mean"].argmax(1)),
        "w CE(answer)": weight * ce(own, target),
        "CE(own guess)": ce(own, own.argmax(1)),
        "CE(own guess), strong view": ce(strong, own.argmax(1)),
        "mean over its denied classes of -log(1 - p)": -(1 - probs[:, 2:]).log().mean(1),
    }
    which = {"labelled": torch.ones(LABELLED), "pool": ones, "all": torch.ones(LABELLED + POOL)}
    if loss in NUMBERS:
        scale, goal = torch.tensor(SCALE), F.one_hot(y, C)
        of_teacher = ((teacher[0:2] - goal) / scale).square().mean(1)
        values |= {
            "d²(label)": ((known - goal) / scale).square().mean(1),
            "d²(answer)": ((own - answers) / scale).square().mean(1),
        }
        which["worse"] = (values["d²(label)"] > of_teacher).float()
    if loss == "heteroscedastic":
        sure = o.noise / (o.noise + (asked / scale).square() / 10)
        values["v d²(answer)"] = sure.mean(1) * ((both - asked) / scale).square().mean(1)
    if loss in ("kd", "token_kd", "adversarial", "adversarial_kd"):
        values["T² D(teacher ‖ student)"] = divergence(asked, both, o.temperature)
    if loss in ("mutual", "codistill", "collaborative"):
        heat, peer = getattr(o, "temperature", 1.0), torch.cat([logits(PEER)[0:2], logits(PEER)[5:8]])
        values |= {
            "T² D(others ‖ student)": divergence(peer, both, heat),
            "CE(label) of the other": of_labels(F.one_hot(y, C).float(), peer[:LABELLED]),
            "T² D(others ‖ it)": divergence(both, peer, heat),
        }
    if loss == "self_distill":
        values["T² D(past ‖ student)"] = divergence(logits(PEER)[0:2], known, o.temperature)
    if loss == "adversarial":
        on_own, on_teacher = (o.critic(x.log_softmax(1)).sigmoid() for x in (both, asked))
        values["-log c(student)"] = -on_own.log()
        values["-log c(teacher) - log(1 - c(student))"] = -on_teacher.log() - (1 - on_own).log()
    if loss == "distillation_token":
        said = torch.cat([logits(PEER)[0:2], logits(PEER)[5:8]])
        values["CE(answer) of the distillation token"] = ce(said, asked.argmax(1))
    if loss == "divergence":
        q, p = ((x / 2).softmax(1) for x in (both, asked))
        mixed = 0.3 * p + 0.7 * q
        each = 0.3 * p * (p / mixed).log() + 0.7 * q * (q / mixed).log()
        values["T² D(teacher ‖ student)"] = 4 * each.sum(1) / (0.3 * 0.7)
    if loss in ("dkd", "nkd", "mse_logits", "dist", "virtual_teacher"):
        target = torch.cat([y, first])
        values |= of_logits(loss, o, both, asked, target)
        which["classes"] = torch.ones(C)
    if loss == "taylor_ce":
        values["w Taylor CE(answer)"] = weight * taylor(probs.gather(1, first[:, None])[:, 0], o.order)
    if loss == "slam":
        alpha, k = o.mixing(answered)
        mixed = slam_loss(probs, answered, alpha, k, hard=o.hard, normalised=o.normalised)
        values["w CE(answer) of the mix"] = weight * mixed
    if loss == "mean_teacher":
        squares = (both.softmax(1) - seconds.softmax(1)).square()
        values["distance to the average's answer"] = squares.mean(1)
    if loss == "ups":
        which |= {"sure": torch.tensor([1.0, 1, 0]), "denied": torch.tensor([0.0, 0, 1])}
    if loss == "fixmatch":
        which["sure"] = (probs.amax(1) >= o.threshold).float()
        assert 0 < which["sure"].sum() < POOL, "some of these rows are sure, and some are not"
    return values, which


def of_logits(
    loss: str, o: nn.Module, student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What the losses on logits have in the column "of a row", of all five rows; by hand."""
    if loss == "mse_logits":
        return {
            "squared difference of logits, mean over classes": (student - teacher).square().sum(1) / C,
        }
    p, q = ((x / o.temperature).softmax(1) for x in (student, teacher))
    if loss == "dist":
        rows = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(p, q, strict=True)]
        classes = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(p.T, q.T, strict=True)]
        return {"1 - r of a row": 1 - torch.stack(rows), "1 - r of a class": 1 - torch.stack(classes)}
    if loss == "virtual_teacher":
        virtual = torch.full((LABELLED, C), 0.01 / 3).scatter(1, target[:LABELLED, None], 0.99)
        soft = virtual ** (1 / o.temperature)
        soft = soft / soft.sum(1, keepdim=True)
        apart = (soft * (soft / p[:LABELLED]).log()).sum(1)
        return {"T² D(virtual ‖ student)": o.temperature**2 * apart}
    at = target[:, None]
    ours, theirs = p.gather(1, at)[:, 0], q.gather(1, at)[:, 0]
    rest = torch.ones_like(p).scatter(1, at, 0) > 0
    others, taught = (x[rest].reshape(-1, C - 1) for x in (p, q))
    others, taught = others / others.sum(1, keepdim=True), taught / taught.sum(1, keepdim=True)
    square = o.temperature**2
    if loss == "nkd":
        first, second = (x.softmax(1).gather(1, at)[:, 0] for x in (teacher, student))
        return {
            "-q log p of the target": -first * second.log(),
            "T² CE(answer) of the others": -square * (taught * others.log()).sum(1),
        }
    tckd = theirs * (theirs / ours).log() + (1 - theirs) * ((1 - theirs) / (1 - ours)).log()
    return {
        "T² TCKD(teacher ‖ student)": square * tckd,
        "T² NCKD(teacher ‖ student)": square * (taught * (taught / others).log()).sum(1),
    }


def numbers(loss: str, o: nn.Module, which: dict[str, torch.Tensor]) -> dict[str, object]:
    """What the names in the columns "divided by" and "times" are."""
    known = {"L": LABELLED, "P": POOL, "max": max, "weight": getattr(o, "weight", None)}
    if loss in ("mutual", "codistill"):
        known["weight"] = o.weight[0]
    if loss in ("collaborative", "adversarial", "adversarial_kd"):
        known |= {"alpha": getattr(o, "alpha", None), "beta": getattr(o, "beta", None)}
    known |= {"S": which.get("sure", torch.zeros(1)).sum(), "D": which.get("denied", torch.zeros(1)).sum()}
    known |= {name: getattr(o, name, None) for name in ("beta", "gamma")} | {"C": C}
    if loss in NUMBERS or loss in OF_ALPHA:
        known |= {"alpha": getattr(o, "alpha", None), "pool": getattr(o, "pool", None)}
    if loss == "dist":
        known["T2"] = o.temperature**2
    if loss == "dkd":
        known["ramp"] = o.ramp(PROGRESS)
        assert 0 < known["ramp"] < 1
    if loss in ("kd", "token_kd", "mse_logits"):
        known["alpha"] = value_at(o.alpha, PROGRESS)
    if loss == "mean_teacher":
        known["ramp"] = ramp_up(PROGRESS / o.ramp)
    if loss == "pseudo_label":
        known["ramp"] = weight_at(PROGRESS, 1.0, o.start, o.full)
        assert 0 < known["ramp"] < 1
    if loss == "noisy_student":
        known["unlabel_ratio"] = o.unlabel_ratio
    return known


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "pseudo_boxes"])  # test_pseudo_boxes
def test_each_term_is_summed_divided_and_multiplied_as_the_page_says(loss):
    objective = build(loss)
    terms = objective(OF_NUMBERS if loss in NUMBERS else STREAMS, PROGRESS).terms
    said = [line[1:] for line in lines() if line[0] == loss]
    assert [line[0] for line in said] == list(terms), "the page has each term, in the code's order"
    values, which = rows_of(loss, objective)
    for name, value, over, divided, times in said:
        total = (values[value] * which[over]).sum()
        known = numbers(loss, objective, which)
        expected = total * eval(times.replace("T²", "T2"), {}, known) / eval(divided, {}, known)
        assert expected > 0, f"{name}: a term that is nothing shows nothing"
        assert terms[name].item() == pytest.approx(float(expected.detach()), rel=1e-5), name


def test_every_loss_is_on_the_page():
    assert sorted({line[0] for line in lines()}) == LOSSES
