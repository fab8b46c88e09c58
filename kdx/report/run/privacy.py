"""What a run with private rows promises of them, and what it does not, from its results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdx.report.run.markup import code, escape, markdown_table

HOLDS = (
    ("prepare", "all rows", "none: it divides them"),
    ("divide-private", "private rows and labels", "none"),
    ("shard-teachers", "private rows and labels", "none: the votes of teachers without noise"),
    ("release", "votes", "the guarantee"),
    ("divide-public, answered, student-train", "public rows, released labels", "the guarantee"),
    ("answered-true, baseline-train", "public rows, their true labels", "no private row is read"),
    ("teacher-pretrain, answered-plain, plain-train", "private rows and labels", "none: a comparison"),
    ("answered-exact, exact-train", "votes without noise", "none: a comparison"),
    ("direct-train, attack", "private rows and labels", "none: a comparison (recipe.attack=true)"),
    ("evaluate, run.json, report.md", "all networks above", "the student's, on public rows, alone have it"),
)
"""(stages, what of the data touched them, what is promised of it)"""
NOT_COVERED = (
    "every figure of this run but the student's on validation and test: teachers and comparisons are made of "
    "private rows without noise, and agreement and what is measured on the rows to train with read them, so "
    "keep this folder and its store where the private rows are, and hand on an export alone",
    "further releases about the same private rows, such as another seed or setting, or this one computed "
    "anew after its store was deleted: their epsilons add",
    "a person with several rows: the guarantee is about one row; of k rows epsilon is k times as large, and "
    "delta more than that",
    "the public rows, the labels of validation and the test rows, which are taken to be public",
    "the names of classes, columns and categories, and which column holds numbers: they are read of all rows",
    "the choice of settings by looking at results of private rows",
    "attacks on how a computer draws and rounds noise (Mironov 2012): it is drawn in double precision",
)
LAW = (
    "GDPR and HIPAA: the guarantee is a statement about what a release tells of one row. Whether data are "
    "anonymous or personal in the sense of the GDPR (recital 26), or de-identified in that of HIPAA (45 CFR "
    "164.514), is a legal question, which neither it nor this page answers."
)
FORGET = "kdx cache forget DATA lists and erases what the store has made of a file, a folder or a run."
_TARGETS = {
    "student": "distilled student",
    "direct": "student on the private rows",
    "plain": "plainly distilled student",
    "never": "student that never saw the private rows",
}
_HOW = {"loss": "loss threshold", "shadow": "shadow model"}


def promise(found: Mapping[str, Any]) -> str:
    """In one sentence. found: `results.privacy` of a run.json, or `privacy` of a model.json."""
    if found.get("known_seed"):
        return (
            "Privacy: no guarantee towards who knows the seed of the noise (noise_seed), which this "
            "run has written down."
        )
    return (
        f"Privacy: the student is ({_number(found.get('epsilon'))}, {_short(found.get('delta'))})-"
        f"differentially private for each private row ({_number(found.get('epsilon_closed_form'))} by hand), "
        f"for {found.get('queries')} queries with {found.get('noise_in_words')}"
        f"{' and made-up public rows' if found.get('epsilon_of_pool') else ''}; of these "
        f"{found.get('answered')} have a label."
    )


def epsilon_in_row(results: Mapping[str, Any], role: str) -> str:
    """What stands behind the name of a student of released labels; empty of others, and where the noise hides
    nothing."""
    found = results.get("privacy") or {}
    epsilon = found.get("epsilon")
    promised = role == "student" and isinstance(epsilon, int | float) and not found.get("known_seed")
    return f", epsilon {_number(epsilon)}" if promised else ""


def privacy_sentences(results: Mapping[str, Any]) -> list[str]:
    found = results.get("privacy")
    if not found:
        return []
    said = [promise(found), "The guarantee covers the student alone: every other row of the table read more."]
    attack = (found.get("attack") or {}).get("loss") or {}
    if attack:
        each = ", ".join(f"{_TARGETS[name]} {_auc(attack[name])}" for name in _TARGETS if attack.get(name))
        said.append(
            f"Membership, by a threshold on the loss, AUC ± standard error (0.5 is guessing): {each}. "
            "An attack that does not tell the comparisons apart shows no privacy."
        )
    return said


def privacy_section(found: Mapping[str, Any] | None) -> list[str]:
    """The privacy card, in Markdown."""
    if not found:
        return []
    rows = [
        ["epsilon", _number(found.get("epsilon"))],
        ["by hand, never below it", _number(found.get("epsilon_closed_form"))],
        *(
            [["of it the made-up public rows", _number(pool)]]
            if (pool := found.get("epsilon_of_pool"))
            else []
        ),
        ["delta", _short(found.get("delta"))],
        ["accountant", escape(found.get("accountant"))],
        ["neighbours", escape(found.get("neighbours"))],
        ["covers", escape(found.get("covers"))],
        ["noise", escape(found.get("noise_in_words"))],
        [
            "shards, queries, answered",
            f"{found.get('shards')}, {found.get('queries')}, {found.get('answered')}",
        ],
    ]
    lines = ["## Privacy", escape(promise(found)), markdown_table(["", "value"], rows)]
    lines += [
        "Which data touched what:",
        markdown_table(
            ["stage", "what it read", "what is promised"],
            [[code(stage) if "," not in stage else escape(stage), read, said] for stage, read, said in HOLDS],
        ),
        "Not covered:",
        "\n".join(f"- {line}" for line in NOT_COVERED),
        LAW,
        FORGET,
    ]
    return [*lines, *_attacks(found.get("attack") or {})]


def _attacks(attack: Mapping[str, Any]) -> list[str]:
    rows: list[Sequence[str]] = []
    for how, words in _HOW.items():
        for name, target in _TARGETS.items():
            if one := (attack.get(how) or {}).get(name):
                rows.append([words, target, _auc(one), f"{one['members']} + {one['others']}"])
    if not rows:
        return []
    return [
        "Who was a member (AUC, ± one standard error; 0.5 is guessing):",
        markdown_table(["attack", "network", "AUC", "members + others"], rows),
        (
            "The plainly distilled student and the one that never saw the private rows are the controls: "
            "where the attack does not set the directly trained one apart from them, it shows no privacy of "
            "any."
        ),
    ]


def _auc(one: Mapping[str, Any]) -> str:
    return f"{one['auc']:.3f} ± {one['standard_error']:.3f}"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "-"


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "-"
