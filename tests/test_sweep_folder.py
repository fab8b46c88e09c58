"""A folder of options stands for all of them: the ablation of Noisy Student in one sweep."""

from types import SimpleNamespace

import pytest

from kdx.commands import _sweep
from kdx.config import compose, grid
from kdx.config.options import use_own
from kdx.core.errors import UserErrors

FOLDER = "noisy_student_ablation"


def ablation():
    """name of the file -> what it composes to"""
    (word,) = grid.spread_options([f"experiment={FOLDER}"])
    return {words[0].split("/")[-1]: compose.check_words(words) for words in grid.jobs([word], multirun=True)}


@pytest.fixture
def own(tmp_path):
    for name in ("two/b", "two/a", "one", "one/c"):
        path = tmp_path / "experiment" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# @package _global_\n# An option of this test\n")
    use_own([f"--config-dir={tmp_path}"])
    yield
    use_own([])


def test_a_folder_is_spread_and_nothing_else_is(own):
    words = [
        "experiment=two",
        "experiment=one",
        "experiment=two/a",
        "experiment=none",
        "seed=two",
        "store=two",
        "loss=kd,supervised",
    ]
    # `one` is a file as well: the file is meant
    assert grid.spread_options(words) == [
        "experiment=two/a,two/b",
        *words[1:],
    ]


def test_a_folder_without_m_is_reported(own):
    words = grid.spread_options(["experiment=two", "seed=1"])
    assert grid.jobs(words, multirun=True) == [
        ["experiment=two/a", "seed=1"],
        ["experiment=two/b", "seed=1"],
    ]
    with pytest.raises(UserErrors, match="add -m"):
        grid.jobs(words, multirun=False)


def differences(one, other, path=""):
    if not isinstance(one, dict) or not isinstance(other, dict):
        return {path} if one != other else set()
    return {
        d
        for k in one.keys() | other.keys()
        for d in differences(one.get(k), other.get(k), f"{path}.{k}".lstrip("."))
    }


def test_each_file_of_the_ablation_takes_away_what_it_says_and_no_more():
    found = ablation()
    whole = found.pop("whole")
    changed = {
        name: {d for d in differences(whole, config) if not d.startswith("choices.experiment")}
        for name, config in found.items()
    }
    balance = changed.pop("no_balance")
    assert "choices.select" in balance and all(d.split(".")[0] in ("select", "choices") for d in balance)
    inputs, model = {"student_train.augment"}, {"student.dropout", "student.stochastic_depth"}
    changed = {
        name: {"student_train.augment" if d.startswith("student_train.augment") else d for d in ds}
        for name, ds in changed.items()
    }
    assert changed == {
        "no_augmentation": inputs,
        "no_model_noise": model,
        "no_noise": inputs | model,
        "noised_teacher": {"pseudo_label.view"},
        "hard_labels": {"loss.hard"},
        "no_average": {"loss.ema"},
        "no_joint_pass": {"loss.joint"},
        "one_round": {"rounds"},
    }
    assert (
        found["no_augmentation"]["student_train"]["augment"] == "none"
        and found["no_augmentation"]["teacher_pretrain"]["augment"]
    )


def test_words_of_the_command_line_win_over_the_ablation():
    config = compose.check_words(
        [f"experiment={FOLDER}/no_balance", "student=mlp", "augment=[affine]", "loss.unlabel_ratio=2"]
    )
    assert (
        config["choices"]["student"] == "mlp"
        and list(config["augment"]) == ["affine"]
        and config["loss"]["unlabel_ratio"] == 2
    )


def test_a_run_is_called_by_key_and_last_part_of_a_path():
    words, swept = ["dataset=folder", "dataset.root=a1", "seed=1"], ["dataset.root"]
    assert compose.job_name(0, words, 12, swept) == "00_dataset.root-a1"
    assert [
        compose.job_name(1, ["seed=1", f"dataset.root={root}"], 2, swept)
        for root in ("a4b/train", "/a4b/train/")
    ] == ["1_dataset.root-train"] * 2
    assert (
        compose.slug(["dataset.root=x/a,y/b/", "store=s/t", "loss=kd"]) == "dataset.root-a-b_loss-kd"
        and compose.slug(["runs/old"]) == "old"
    )


def test_one_run_is_one_run(capsys):
    for jobs in (1, 2):
        _sweep.announce(SimpleNamespace(jobs=range(jobs), done=(), path="a"))
    assert capsys.readouterr().out == "1 run in a: none is done yet\n2 runs in a: none is done yet\n"
