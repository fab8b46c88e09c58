"""A composed run as a file: kdx config prints it, --config takes it, words beside it win. It is data."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from kdx.cli import main
from kdx.commands import _check
from kdx.commands import train as command
from kdx.config import compose, filed, options
from kdx.config.yaml_files import as_yaml, read_yaml
from kdx.core import snapshot
from kdx.core.errors import UserError

SHORT = ["device=cpu", "device.threads=1", "student_train.steps=2", "teacher_pretrain.steps=2"]
OWN = """import torch
from kdx.methods.losses.kd import KD
class Mine(KD):
    '''Of one's own.'''
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    filed.given.clear()


def printed(capsys, *words: str) -> str:
    assert main(["config", *words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def plain(config: dict) -> dict:
    return {key: value for key, value in config.items() if key not in filed.NOT_IN_A_FILE}


def examined(text: str, *words: str) -> dict:
    Path("my.yaml").write_text(text)
    filed.use_file(["--config=my.yaml"])
    config, errors, _ = filed.examine(words)
    assert errors == [] and config is not None
    return config


def refused(capsys, text: str | bytes, *words: str) -> str:
    Path("my.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["train", "--config", "my.yaml", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err and len(err.splitlines()) <= 3, err
    assert not Path("outputs").exists()
    return err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["loss=slam", "loss.k=3", "augment=[flip_crop,cutout]", "augment.cutout.size=0.3"],
        ["loss=soft", "loss.weights=debiased", "loss.features=vid", "shift=[blur,noise]"],
        ["loss=noisy_student", "student=cnn", "student_train.lr=1e-5", "stages=[teacher_pretrain]"],
        ["teachers=[cnn,mlp]", "members.2.dropout=0.2"],
        ["teacher=mlp", "teacher.members=3", "student_train.augment=[cutout]"],
        ["experiment=shifted_inputs", "seed=4", "budget=0.5", "select=rad"],
        ["dataset=folder", "dataset.root='a, b = [c'", "dataset.range=[0,4095]", "device=cpu"],
    ],
    ids=" ".join,
)
def test_there_and_back_is_the_same(capsys, words):
    wanted, errors, _ = compose.examine_words(words)
    assert errors == []
    found = examined(as_yaml(plain(wanted)))
    assert plain(found) == plain(wanted) and found["choices"] == wanted["choices"]
    assert json.dumps(found["augment"]) == json.dumps(wanted["augment"]), "in the same order"


@pytest.fixture
def would_run(monkeypatch):
    """(order, words) of what would run; neither networks nor data are looked at."""
    runs = []
    monkeypatch.setattr(_check, "_inspect", lambda *_, **__: [])

    def note(order, path, words, *more):
        runs.append((order, list(words)))
        path.mkdir(parents=True, exist_ok=True)
        (path / "run.json").write_text(json.dumps({"status": "finished", "config": dict(order.config)}))
        return 0

    monkeypatch.setattr(command, "run_order", note)
    return runs


def test_a_file_runs_as_its_words_would(capsys, would_run):
    """The same order, and so the same keys of all stages."""
    words = ["loss=slam", "augment=[noise]", "store=elsewhere", *SHORT]
    Path("my.yaml").write_text(printed(capsys, *words))
    assert main(["train", *words]) == 0
    assert main(["train", "--config", "my.yaml", "store=elsewhere"]) == 0
    (first, typed), (second, of_file) = would_run
    orders = [re.sub(r" at 0x[0-9a-f]+", "", repr(order)) for order in (first, second)]
    assert orders[0] == orders[1] and first.config["loss"]["_target_"].endswith("SLaM")
    assert typed == words and of_file == ["--config=my.yaml", "store=elsewhere"]
    assert not list(Path("outputs/runs").glob("*slam*_slam*"))


@pytest.mark.parametrize(
    ("text", "words", "temperature"),
    [
        ("{choices: {loss: kd}, loss: {temperature: 2}}", [], 2),
        ("{choices: {loss: kd}, loss: {temperature: 2}}", ["loss=kd"], 4),
        ("{choices: {loss: kd}, loss: {temperature: 2}}", ["loss.temperature=3", "student=cnn"], 3),
    ],
)
def test_what_was_checked_is_what_runs(would_run, text, words, temperature):
    """Also where a word says what the file says."""
    Path("my.yaml").write_text(text)
    assert main(["train", "--config=my.yaml", "store=elsewhere", *words]) == 0
    assert would_run[0][0].config["loss"]["temperature"] == temperature
    assert would_run[0][1] == ["--config=my.yaml", "store=elsewhere", *words]


def test_the_slots_of_a_loss_run_too(capsys, would_run):
    Path("my.yaml").write_text(printed(capsys, "loss=soft", "loss.weights=debiased", "loss.features=vid"))
    assert main(["train", "-m", "--config=my.yaml", "store=elsewhere", "loss.features=none,vid"]) == 0
    found = [order.config["loss"] for order, _ in would_run]
    assert [list(loss["features"]) for loss in found] == [[], ["vid"]]
    assert {loss["weights"]["_target_"].rpartition(".")[2] for loss in found} == {"Debiased"}


def test_a_sweep_of_a_file_and_a_run_folder_as_one(capsys, would_run):
    Path("my.yaml").write_text("loss: slam\n")
    main(["train", "-m", "--config=my.yaml", "loss.k=2,3", "store=elsewhere"])
    assert [order.config["loss"]["k"] for order, _ in would_run] == [2, 3]
    assert [words for _, words in would_run] == [
        ["--config=my.yaml", f"loss.k={k}", "store=elsewhere"] for k in (2, 3)
    ]
    names = sorted(path.name for path in Path("outputs/sweeps").glob("*/*") if path.is_dir())
    assert names == ["0_loss.k-2", "1_loss.k-3"]
    folder = next(Path("outputs/sweeps").glob("*/1_*"))
    capsys.readouterr()
    again = yaml.safe_load(printed(capsys, str(folder), "seed=4"))
    assert (again["loss"]["k"], again["seed"]) == (3, 4)


@pytest.mark.parametrize(
    ("text", "words", "key", "value"),
    [
        ("{student_train: {lr: 0.5}}", ["student_train.lr=0.002"], "student_train.lr", 0.002),
        ("{student_train: {lr: 1e-3}}", [], "student_train.lr", 0.001),
        ("{loss: slam}", [], "loss.top_k_by", "mass"),
        ("{loss: slam}", ["loss=kd"], "loss.temperature", 4),
        ("{loss: slam, seed: 3}", ["loss.k=2"], "seed", 3),
        ("{rounds: 2}", ["loss=noisy_student"], "rounds", 3),
        ("{loss: noisy_student, rounds: 5}", [], "rounds", 5),
        ("{augment: [flip_crop]}", ["augment=[affine]"], "student_train.augment.affine.scale", 0.1),
        ("{augment: [flip_crop]}", [], "student_train.augment.flip_crop.pad", 4),
        ("{teachers: [cnn, mlp], members: {2: {dropout: 0.4}}}", ["seed=1"], "members.2.dropout", 0.4),
        ("{teachers: [cnn, mlp]}", ["teacher=cnn_tiny"], "choices.teacher", "cnn_tiny"),
        ("{choices: {student: cnn}, student: {dropout: 0.2}}", [], "student.dropout", 0.2),
        ("{device: cpu, device.threads: 1}", None, "", None),
    ],
)
def test_a_part_of_a_run_is_enough_and_typed_words_win(text, words, key, value):
    if words is None:
        Path("my.yaml").write_text(text)
        with pytest.raises(UserError, match="write `device: {threads: 1}`, and `choices: {device: cpu}` for"):
            filed.use_file(["--config=my.yaml"])
        both = examined("{device: {threads: 1}, choices: {device: cpu}}")
        assert both["device"]["threads"] == 1 and both["choices"]["device"] == "cpu"
        return
    node = examined(text, *words)
    for name in key.split("."):
        node = node[name]
    assert node == value


def test_steps_of_augmentation_follow_the_words_in_a_whole_file(capsys):
    whole = printed(capsys, "augment=[flip_crop]")
    assert list(examined(whole, "augment=[affine]")["student_train"]["augment"]) == ["affine"]
    apart = printed(capsys, "augment=[flip_crop]", "student_train.augment=[cutout]")
    found = examined(apart, "augment=[affine]")
    assert list(found["student_train"]["augment"]) == ["cutout"], "the file sets it apart"
    assert list(found["teacher_pretrain"]["augment"]) == ["affine"]


@pytest.mark.parametrize(
    ("text", "says", "lacks"),
    [
        (
            "student_train.lr: 0.3\n",
            "'student_train.lr' is nested in a file: write `student_train: {lr: 0.3}`",
            "teacher_pretrain",
        ),
        ("student_train.optimiser.lr: 1\n", "write `student_train: {optimiser: {lr: 1}}`", "no key"),
        ("hydra.run.dir: x\nzzz: 1\n", "note: 'my.yaml' sets hydra.run.dir: ignored, ", "one of: allow"),
        ("zzz: 1\n", "'zzz' is no key; one of: aggregate, ", "hydra"),
        ("loss: sof\n", "did you mean 'soft'? If it is your own, name", "?;"),
    ],
)
def test_keys_of_a_file_are_nested(text, says, lacks, capsys):
    Path("my.yaml").write_text(text)
    assert main(["config", "--config", "my.yaml"]) == 2
    found = capsys.readouterr().err
    assert says in found and lacks not in found and len(found.splitlines()) <= 3


def test_a_file_that_is_named_as_something_else(capsys):
    Path("my.yaml").write_text("seed: 1\n")
    Path("folder").mkdir()
    for words, says in (
        (["my.yaml"], "'my.yaml' is no setting: write --config my.yaml"),
        (["-c", "my.yaml"], "takes no file: write --config my.yaml"),
        (["--config", "folder"], "'folder' is no run folder, and no file of settings"),
    ):
        assert main(["train", *words]) == 2
        assert says in capsys.readouterr().err


def test_what_only_the_command_line_may_say_is_ignored_and_named(capsys):
    Path("my.yaml").write_text(
        "allow: [os]\nstore: elsewhere\npublish: csv\nhydra: {run: {dir: x}, job: {env_set: {A: b}}}\n"
        "launcher: joblib\nseed: 5\n"
    )
    assert main(["config", "my.yaml"]) == 0
    out, err = capsys.readouterr()
    assert err == (
        "note: 'my.yaml' sets allow, store, publish, hydra and launcher: ignored, "
        "as that counts on the command line only\n"
    )
    config = examined(Path("my.yaml").read_text())
    assert (config["allow"], config["store"], config["seed"]) == ([], "outputs/store", 5)
    assert "store" not in yaml.safe_load(out) and yaml.safe_load(out)["seed"] == 5


REFUSED = [
    ("student_train: {lrr: 1}", "'student_train.lrr' is no key in 'student_train'"),
    ("loss: kdd", "loss has no option 'kdd'"),
    ("choices: {loss: kdd}", "loss has no option 'kdd'"),
    ("choices: {model: cnn}", "names a group that is not here: 'model'"),
    ("seed: ${oc.env:HOME}", "'seed' in 'my.yaml' refers to something else"),
    ("loss: {_target_: os.system}", "'loss._target_' is 'os.system', which neither"),
    ("loss: {_target_: kdx.core.files.write_output}", "which neither the chosen options nor others"),
    ("controls: {a: {_target_: mine.Mine}}", "allow its package with allow=[PACKAGE]"),
    ("student: {dropout: {_target_: os.system}}", "'student.dropout' holds one value"),
    ("dataset: {download: true, root: /etc}\nchoices: {dataset: cifar10}", "say so on the command line with"),
    ("seed: &a 1\nrounds: *a", "it has an alias"),
    ("seed: 1\nseed: 2", "the key 'seed' stands there twice"),
    ("seed: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ("seed: [", "cannot be read, line"),
    ("- a", "holds no keys"),
    ("", "holds no keys"),
    ("seed: " + "[" * 40 + "]" * 40, "lists inside each other"),
    ("seed: " + "[" * 5000, "cannot be read"),
    ("seed: 99999999999999999999999", "must be a number of 64 bits"),
    ("seed: 2020-01-01", "seed must be a whole number"),
    (b"\xff\xfe\x00", "cannot be read"),
    ("#" * (1 << 21), "is too large"),
]


@pytest.mark.parametrize(("text", "says"), REFUSED, ids=range(len(REFUSED)))
def test_what_a_file_may_not_say_is_refused_in_a_sentence(capsys, text, says):
    assert says in refused(capsys, text)


def test_a_file_that_is_not_there(capsys):
    assert main(["train", "--config", "no.yaml"]) == 2
    assert "'no.yaml' does not exist" in capsys.readouterr().err
    assert main(["train", "--config", "no.yaml", "--cfg", "job"]) == 2
    assert "is shown by kdx config --config FILE" in capsys.readouterr().err
    assert main(["config", "-m", "seed=1,2"]) == 2
    assert "kdx config has no flag --multirun" in capsys.readouterr().err


def test_code_of_ones_own_needs_to_be_allowed_where_it_is_typed(capsys, monkeypatch):
    Path("ownloss.py").write_text(OWN)
    monkeypatch.syspath_prepend(".")
    text = "loss: {_target_: ownloss.Mine, temperature: 2, alpha: 0.5}\nallow: [ownloss]\n"
    assert "'loss._target_' is 'ownloss.Mine'" in refused(capsys, text)
    config = examined(text, "allow=[ownloss]")
    assert config["loss"] == {"_target_": "ownloss.Mine", "temperature": 2, "alpha": 0.5}
    sys.modules.pop("ownloss", None)


def test_a_sweep_of_a_file_reads_each_option_file_once(monkeypatch):
    """And again where it has changed; outside a command each time."""
    read, look = [], options._read_option
    monkeypatch.setattr(options, "_read_option", lambda file: read.append(file) or look(file))
    text = "loss: soft\nshift:\n  blur: {_target_: kdx.data.views.shift.Blur, sigma: 1.0}\n"
    Path("my.yaml").write_text(text)
    filed.use_file(["--config=my.yaml"])
    with snapshot.one_command():
        first = [filed.examine([f"seed={seed}"]) for seed in range(3)]
    assert len(read) == len(set(read)) > 1
    assert all(errors == [] and config["shift"].keys() == {"blur"} for config, errors, _ in first)
    filed.examine(["seed=1"])
    assert len(read) > len(set(read))


def test_what_was_read_of_an_option_file_is_the_callers_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("a: {b: [1]}\n")
    with snapshot.one_command():
        options.read_option(file)["a"]["b"].append(2)
        assert options.read_option(file) == {"a": {"b": [1]}}
        file.write_text("a: {b: [1, 3]}\n")
        assert options.read_option(file) == {"a": {"b": [1, 3]}}
    file.write_text("a: [1\nb: 2\n")
    with pytest.raises(UserError, match=r"mine\.yaml' cannot be read, line 2: expected ',' or '\]'"):
        options.read_option(file)


def test_no_value_of_a_file_reaches_hydra(capsys, monkeypatch):
    """Only names of options that exist are words."""
    seen = []
    monkeypatch.setattr(compose, "examine_words", lambda words: seen.extend(words) or (None, ["no"], 0))
    Path("my.yaml").write_text("loss: slam\nstudent_train: {lr: 0.25}\naugment: [cutout]\nstages: [x]\n")
    filed.use_file(["--config=my.yaml"])
    filed.examine(["seed=1"])
    assert set(seen) <= {"loss=slam", "augment=[cutout]"}


def test_a_run_in_another_process_reads_the_file_that_was_checked(monkeypatch):
    Path("my.yaml").write_text("seed: 3\nloss: slam\n")
    filed.use_file(["--config=my.yaml"])
    word = filed.handed_on(["rounds=1"])[-1]
    key, _, value = word.partition("=")
    assert key == "+hydra.job.env_set.KDX_CONFIG"
    monkeypatch.setenv("KDX_CONFIG", value.strip("'"))
    monkeypatch.setattr(compose, "plain_config", lambda config: {})
    monkeypatch.setattr(compose, "task_words", lambda: ["rounds=1", "loss=slam"])
    filed.given.clear()
    config, words = filed.config_of(None)
    assert config["seed"] == 3 and words == ["--config=my.yaml", "rounds=1"]
    Path("my.yaml").write_text("seed: 4\n")
    filed.given.clear()
    with pytest.raises(UserError, match="was changed after the runs were checked"):
        filed.config_of(None)


def test_what_is_written_is_read_as_the_same(tmp_path):
    odd = {
        "a": "1e3",
        "b": "null",
        "c": 1e-5,
        "d": "2020-01-01",
        "e": ["yes", "~", 0.1],
        "f": {"1": None},
        "g": "é: x",
    }
    (tmp_path / "x.yaml").write_text(as_yaml(odd))
    assert read_yaml(tmp_path / "x.yaml")[0] == odd
