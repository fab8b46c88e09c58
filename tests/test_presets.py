"""The presets for users' questions: what each says of itself is so, and its grid is run as Hydra runs it."""

import json
import re
import shlex
from pathlib import Path

import pytest

from kdx.cli import main
from kdx.commands import _check
from kdx.commands._typed import read_words
from kdx.commands.list import describe_option
from kdx.commands.train import tell_of_grid
from kdx.config import compose
from kdx.config import grid as combine
from kdx.config.options import options_of, use_own
from kdx.core.errors import UserError

CONF = Path(__file__).parents[1] / "conf/experiment"
QUESTIONS = {
    "which_temperature": "which_temperature",
    "which_loss": "which_loss",
    "how_small": "how_small",
    "how_many_labels": "how_many_labels",
    "how_much_noise": "how_much_noise/no_noise",
    "assistant": "assistant/direct",
}
"""The name on the command line -> the file that says what the question is."""
SWEPT = {
    "which_temperature": {"loss.temperature", "loss.alpha"},
    "which_loss": {"loss"},
    "how_small": {"student.widths"},
    "how_many_labels": {"dataset.labelled"},
    "how_much_noise": {"experiment"},
    "assistant": {"experiment"},
}


def head(question: str) -> dict[str, str]:
    """Answers, Cost, Command -> what the comment says."""
    comment = [
        line.lstrip("# ")
        for line in (CONF / f"{QUESTIONS[question]}.yaml").read_text().splitlines()
        if line.startswith("#")
    ]
    return dict(line.split(": ", 1) for line in comment if re.match(r"(Answers|Cost|Command): ", line))


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_says_what_it_answers_costs_and_the_command_which_passes_the_checks(question):
    reported = head(question)
    assert list(reported) == ["Answers", "Cost", "Command"] and reported["Command"].startswith(
        f"kdx train -m experiment={question} "
    )
    runs, measured = re.match(r"(\d+) runs a seed; (.*)", reported["Cost"]).groups()
    assert re.search(r"\d+ minutes", measured)
    flags, _, words = read_words(shlex.split(reported["Command"])[2:])
    assert flags == ["--multirun"]
    jobs = _check.check_runs(words, True)
    assert len(jobs) == 5 * int(runs)
    assert {
        word.partition("=")[0] for words in _check.varying([job.words for job in jobs]) for word in words
    } == SWEPT[question] | {"seed"}


def test_each_of_their_files_is_reported_by_kdx_list():
    named = [option for option in options_of("experiment") if option.split("/")[0] in QUESTIONS]
    assert len(named) == 4 + 5 + 3
    assert all(len(describe_option(CONF / f"{option}.yaml")) > 30 for option in named)


def test_the_arms_of_the_noise_differ_from_none_in_the_noise_only():
    none = compose.check_words(["experiment=how_much_noise/no_noise"])
    noise = {"augment", "choices", "student_train", "student"}
    for option in (o for o in options_of("experiment") if o.startswith("how_much_noise/")):
        found = compose.check_words([f"experiment={option}"])
        assert {key for key in none if found[key] != none[key]} <= noise
        assert found["teacher_pretrain"]["augment"] == "affine" and found["pseudo_label"]["view"] == "clean"
        assert {k: v for k, v in found["student_train"].items() if k != "augment"} == {
            k: v for k, v in none["student_train"].items() if k != "augment"
        }
        assert found["student_train"]["augment"] == found["augment"]
        assert {k for k in none["student"] if found["student"][k] != none["student"][k]} <= {
            "dropout",
            "stochastic_depth",
        }


def test_the_longer_direct_run_takes_the_steps_of_the_chain():
    def steps(arm):
        config = compose.check_words([f"experiment=assistant/{arm}"])
        return (1 + len(config["assistants"])) * int(config["student_train"]["length"].split()[0])

    assert steps("direct_longer") == steps("one") == 2 * steps("direct")
    one, direct = (compose.check_words([f"experiment=assistant/{arm}"]) for arm in ("one", "direct"))
    assert {key for key in one if one[key] != direct[key]} == {"recipe", "assistants", "choices"}


@pytest.fixture
def own(tmp_path):
    """A folder of options with two presets: a grid and a plain one."""
    folder = tmp_path / "options/experiment"
    folder.mkdir(parents=True)
    text = "# @package _global_\n# Of this test\n"
    grid = "hydra:\n  sweeper:\n    params:\n      loss.temperature: 1,2\n      student.hidden: 3,4\n"
    (folder / "asked.yaml").write_text(f"{text}{grid}")
    (folder / "plain.yaml").write_text(f"{text}seed: 3\n")
    use_own([f"--config-dir={folder.parent}"])
    yield folder.parent
    use_own([])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["experiment=asked", "seed=1"],
            ["loss.temperature=1,2", "student.hidden=3,4", "experiment=asked", "seed=1"],
        ),
        (
            ["student.hidden=9", "experiment=asked"],
            ["loss.temperature=1,2", "student.hidden=9", "experiment=asked"],
        ),
        (
            ["experiment=asked", "loss.temperature=range(3)"],
            ["loss.temperature=range(3)", "student.hidden=3,4", "experiment=asked"],
        ),
        (["experiment=plain", "seed=1,2"], ["experiment=plain", "seed=1,2"]),
        (["loss=kd", "experiment=plain,none"], ["loss=kd", "experiment=plain,none"]),
        (["experiment=nothing_such"], ["experiment=nothing_such"]),
        (["seed=1"], ["seed=1"]),
    ],
)
def test_a_grid_comes_first_and_gives_way_to_words(own, words, expected):
    assert combine.gridded(words) == expected


def test_a_grid_beside_another_preset_is_reported(own):
    with pytest.raises(
        UserError, match=r"experiment=asked has a grid of its own \(loss.temperature, student.hidden\)"
    ):
        combine.gridded(["experiment=plain,asked"])


@pytest.mark.slow
def test_the_runs_of_a_grid_are_those_that_hydra_makes(own, tmp_path, monkeypatch):
    """Folder, words and configuration of each agree, whatever the order of the words."""
    monkeypatch.chdir(tmp_path)
    short = [
        f"--config-dir={own}",
        "device=cpu",
        "device.threads=1",
        "teacher=mlp",
        "student=mlp_small",
        "teacher_pretrain.steps=2",
        "student_train.steps=2",
        "augment=[none]",
        "baseline=false",
    ]
    assert main(["train", "-m", *short, "seed=5", "student.hidden=4", "experiment=asked"]) == 0
    runs = {p.parent.name: json.loads(p.read_text()) for p in Path("outputs/sweeps").glob("*/*/run.json")}
    listed = json.loads(next(Path("outputs/sweeps").glob("*/sweep.json")).read_text())["jobs"]
    assert (
        sorted(runs) == [job["folder"] for job in listed] == ["0_loss.temperature-1", "1_loss.temperature-2"]
    )
    for name, run in runs.items():
        assert (
            name.endswith(f"temperature-{run['config']['loss']['temperature']}")
            and run["config"]["student"]["hidden"] == 4
        )


def test_a_grid_without_m_is_reported(own, capsys):
    tell_of_grid(["seed=1", "experiment=plain"])
    assert capsys.readouterr().err == ""
    tell_of_grid(["seed=1", "experiment=asked"])
    assert (
        "experiment=asked is a grid of loss.temperature, student.hidden: this is one run of it, add -m"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_is_answered_in_the_examples(question):
    """The table says what it was made by, its rows are those of the preset with three seeds each, and the
    page goes by itself.
    """
    examples = CONF.parents[1] / "docs/examples"
    table = (examples / f"{question}.md").read_text()
    assert re.match(
        rf"Made by `kdx train -m experiment={question} .*`; code of the runs: [0-9a-f]{{12}}\.\n", table
    )
    body = [line.split(" | ")[1] for line in table.split("\n\n")[2].splitlines()[2:]]
    assert body == ["3"] * int(head(question)["Cost"].split()[0])
    page = (examples / f"{question}.html").read_bytes()
    assert b"<h1>Comparison of runs</h1>" in page and len(page) < 300_000
    assert (
        f"]({question}.md)" in (examples / "README.md").read_text()
        and f"]({question}.html)" in (examples / "README.md").read_text()
    )
