"""What docs/security.md says, line by line: option files and presets from somebody else set what is computed;
they run nothing and write nowhere else.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdx.cli import main
from kdx.commands import plan
from kdx.commands import train as command
from kdx.config import compose
from kdx.config.options import options_of, use_own
from kdx.core.errors import UserError
from kdx.core.paths import conf_dir

THEIRS = ""
"""The folder of `theirs`, set for each test."""
HARM = "{_target_: subprocess.Popen, args: [touch, canary]}"
GLOBAL = "# @package _global_\n"
FILES = {  # name of the preset: (its text, what is said)
    "allows": (
        f"allow: [subprocess]\nshift: {{x: {HARM}}}",
        "sets 'allow' to [subprocess], which counts from the command line only",
    ),
    "stores": ("store: elsewhere", "sets 'store' to 'elsewhere', which counts from the command line only"),
    "publishes": ("publish: csv", "sets 'publish' to 'csv', which counts from the command line only"),
    "moves": (
        "hydra: {run: {dir: elsewhere}}",
        "sets 'hydra.run.dir', which decides what runs and where is written",
    ),
    "moves_sweeps": ("hydra: {sweep: {dir: elsewhere}}", "sets 'hydra.sweep.dir'"),
    "names_folders": ("hydra: {sweep: {subdir: ../../elsewhere}}", "sets 'hydra.sweep.subdir'"),
    "logs": (
        "hydra: {job_logging: {handlers: {file: {filename: elsewhere}}}}",
        "sets 'hydra.job_logging.handlers.file.filename'",
    ),
    "logs_of_hydra": (
        "hydra: {hydra_logging: {handlers: {x: {'()': os.system, command: touch canary}}}}",
        "sets 'hydra.hydra_logging.handlers.x'",
    ),
    "calls_back": (
        "hydra: {callbacks: {x: {_target_: os.system, command: touch canary}}}",
        "sets 'hydra.callbacks.x'",
    ),
    "launches": ("hydra: {launcher: {_target_: os.system}}", "sets 'hydra.launcher._target_'"),
    "sweeps": ("hydra: {sweeper: {_target_: os.system}}", "sets 'hydra.sweeper._target_'"),
    "sets_environment": ("hydra: {job: {env_set: {PATH: /elsewhere}}}", "sets 'hydra.job.env_set.PATH'"),
    "keeps_words": ("hydra: {output_subdir: elsewhere}", "sets 'hydra.output_subdir'"),
    "runs_many": ("hydra: {mode: MULTIRUN}", "sets 'hydra.mode'"),
    "grid_allows": (
        "hydra: {sweeper: {params: {seed: '1,2', allow: '[subprocess]'}}}",
        "the grid of a preset (hydra.sweeper.params) cannot set 'allow'",
    ),
    "grid_hides": (
        "hydra: {sweeper: {params: {'allow=[subprocess],seed': '1'}}}",
        "the grid of a preset (hydra.sweeper.params) cannot set 'allow=",
    ),
    "grid_adds": ("hydra: {sweeper: {params: {'+hydra.run.dir': '1'}}}", "cannot set '+hydra.run.dir'"),
    "grid_targets": (
        "hydra: {sweeper: {params: {'loss._target_': 'os.system'}}}",
        "cannot set 'loss._target_'",
    ),
    "grid_reads": (
        "hydra: {sweeper: {params: {round_patience: '${oc.env:HOME},fresh'}}}",
        "gives 'round_patience' a reference to something else",
    ),
    "reads_environment": (
        "round_patience: ${oc.env:HOME}",
        "sets 'round_patience' to '${oc.env:HOME}', and may refer to other keys only",
    ),
    "reads_inside": ("round_patience: 'a ${oc.env:HOME} b'", "may refer to other keys only"),
    "reads_by_name": (
        "headline: oc.env\nround_patience: '${${headline}:HOME}'",
        "may refer to other keys only",
    ),
    "decodes": ("round_patience: \"${oc.decode:'{a: 1}'}\"", "may refer to other keys only"),
    "names_code": (
        "loss: {_target_: os.system, command: touch canary}",
        "loss._target_ 'os.system' is not allowed",
    ),
    "names_kdx": (
        "shift: {x: {_target_: kdx.core.files.write_atomically, path: canary, text: x}}",
        "shift.x._target_ 'kdx.core.files.write_atomically' is not allowed",
    ),
    "names_another_kind": (
        "dataset: {_target_: kdx.models.pretrained.fetch, path: canary}",
        "dataset._target_ 'kdx.models.pretrained.fetch' is not",
    ),
    "hides_code": (
        f"loss: {{temperature: {HARM}}}",
        "loss.temperature holds a _target_, and is no slot for one",
    ),
    "hides_code_in_a_list": (
        f"student: {{widths: [{HARM}]}}",
        "student.widths holds a _target_, and is no slot for one",
    ),
    "augments": (
        f"student_train: {{augment: {{x: {HARM}}}}}",
        "augment.x._target_ 'subprocess.Popen' is not allowed",
    ),
    "partly": ("loss: {_partial_: true, _args_: [1]}", "kdx.methods.losses.kd.KD does not take these keys"),
    "downloads": (
        "defaults: [override /dataset: cifar10]\ndataset: {root: elsewhere}",
        "has a data set downloaded to 'elsewhere'",
    ),
    "grid_downloads": (
        (
            "defaults: [override /dataset: cifar10]\nhydra: {sweeper: {params: {dataset.root: "
            "elsewhere, seed: '1,2'}}}"
        ),
        "the grid of a preset (hydra.sweeper.params) has a data set downloaded to 'elsewhere'",
    ),
    "grid_downloads_usually": (
        (
            "defaults: [override /dataset: fashion_mnist]\nhydra: {sweeper: {params: {dataset.usual_root: "
            "'elsewhere,data'}}}"
        ),
        "has a data set downloaded to 'elsewhere,data'",
    ),
    "grid_lets_download": (
        "defaults: [override /dataset: cifar10]\ndataset: {root: elsewhere, download: false}\n"
        "hydra: {sweeper: {params: {dataset.download: 'true'}}}",
        "cannot set 'dataset.download'",
    ),
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    """Somebody's folder of options, with every preset of FILES. One for all tests, so that what does not
    differ is composed once.
    """
    place = tmp_path_factory.mktemp("theirs")
    (place / "experiment").mkdir()
    for name, (text, _) in FILES.items():
        (place / "experiment" / f"{name}.yaml").write_text(GLOBAL + text)
    return place


@pytest.fixture(autouse=True)
def here(theirs, tmp_path, monkeypatch) -> Path:
    """A working directory, which must stay empty."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(command, "launch", lambda words: pytest.fail("the run began"))
    monkeypatch.setattr(command._sweep, "run_sweep", lambda *anything: pytest.fail("the sweep began"))
    monkeypatch.setattr("test_security.THEIRS", str(theirs))
    yield place
    assert not list(place.iterdir()), "something was written"


def reported(capsys, *words: str, name: str = "train") -> str:
    assert main([name, "--config-dir", THEIRS, *words]) == 2
    out, err = capsys.readouterr()
    assert not out and "Traceback" not in err
    return err


QUICK = ("allows", "logs", "grid_allows", "reads_environment", "names_kdx", "grid_downloads")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FILES]
)
def test_a_preset_runs_nothing_and_writes_nowhere(name, capsys):
    assert FILES[name][1] in reported(capsys, f"experiment={name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_nor_under_plan_nor_in_a_sweep_nor_where_it_is_only_shown(name, capsys):
    assert FILES[name][1] in reported(capsys, f"experiment={name}", name="plan")
    assert FILES[name][1] in reported(capsys, "-m", f"experiment={name}", "rounds=1,2")


BROKEN = {  # name of the preset: (its text, what is said)
    "no_keys": ("teacher: 5", "sets 'teacher' to 5, and it holds keys of its own"),
    "unknown": ("nonsense: 3", "sets 'nonsense', which is no key"),
    "strange": ("device: {nonsense: 1}", "'device.nonsense' is no key of device=auto"),
    "null_data": ("dataset: null", "sets 'dataset' to null, and it holds keys of its own"),
    "numbered": ("student: {1: 2}", "student has a key that is no name: 1"),
    "list": ("- x", "do not go together: In 'experiment/list': Cannot merge DictConfig with ListConfig"),
    "torn": ("a: [", "torn.yaml' cannot be read, line 2: expected the node content"),
    "round": ("seed: ${seed}", "do not go together: Recursive interpolation detected"),
    "python": ("seed: !!python/object/apply:os.system [touch canary]", "could not determine a constructor"),
    "huge": ("seed: 1" + "0" * 40, "seed must be a number of 64 bits"),
}


@pytest.mark.parametrize(
    "name",
    [name if name in ("no_keys", "torn") else pytest.param(name, marks=pytest.mark.slow) for name in BROKEN],
)
def test_an_option_file_that_is_none_is_reported_in_a_sentence(name, capsys):
    (Path(THEIRS) / "experiment" / f"{name}.yaml").write_text(GLOBAL + BROKEN[name][0])
    err = reported(capsys, f"experiment={name}")
    assert BROKEN[name][1] in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "experiment/aside",
            "seed: 7\n",
            (
                "sets 'experiment' to {seed: 7}, which nothing reads: let its first line "
                "be '# @package _global_'"
            ),
        ),
        ("experiment/words", "hello\n", "sets 'experiment' to {hello: null}, which nothing reads"),
        ("sweeper/aside", "max_runs: 3\n", "sets 'sweeper' to {max_runs: 3}, which nothing reads"),
        (
            "loss/aside",
            "# @package baseline_loss\n_target_: kdx.methods.losses.supervised.Supervised\n",
            "leaves out 'loss', which every run reads",
        ),
        ("recipe/aside", "# @package seed\nseed: 1\n", "leaves out 'recipe', which every run reads"),
    ],
)
def test_what_nothing_would_read_is_not_passed_over(name, text, said, capsys):
    (Path(THEIRS) / name).parent.mkdir(exist_ok=True)
    (Path(THEIRS) / f"{name}.yaml").write_text(text)
    assert said in reported(capsys, name.replace("/", "="))


def test_nor_are_options_of_hydras_own(tmp_path):
    (tmp_path / "hydra" / "launcher").mkdir(parents=True)
    (tmp_path / "hydra" / "launcher" / "basic.yaml").write_text("_target_: os.system\n")
    with pytest.raises(
        UserError, match="'hydra' would hold options of Hydra's own, which count from the command line only"
    ):
        use_own([f"--config-dir={tmp_path}"])


@pytest.mark.slow
def test_a_data_set_that_lacks_a_size_is_reported(capsys):
    (Path(THEIRS) / "dataset").mkdir(exist_ok=True)
    (Path(THEIRS) / "dataset" / "short.yaml").write_text(
        "_target_: kdx.data.datasets.digits.Digits\nimage_size: 16\nlabelled: "
        "100\nunlabelled: null\ntest: 500\n"
    )
    assert "leaves out 'dataset.validation', which every run reads" in reported(capsys, "dataset=short")


def test_what_is_typed_counts(here, monkeypatch, capsys):
    begun = []
    monkeypatch.setattr(command, "launch", lambda words: begun.append(words))
    (Path(THEIRS) / "experiment" / "fine.yaml").write_text(
        GLOBAL + "student_train: {lr: '${teacher_pretrain.lr}'}\nallow: [kdx]\nstore: elsewhere"
    )
    assert (
        main(["train", "--config-dir", THEIRS, "experiment=fine", "allow=[]", "store=mine"]) == 0
        and len(begun) == 1
    )


@pytest.mark.parametrize("name", ["train.yaml", "launcher/joblib.yaml", "loss/kd.yaml"])
def test_a_file_with_a_name_of_kdxs_own_is_not_passed_over_in_silence(name, tmp_path):
    mine, kdxs = tmp_path / "mine" / name, conf_dir() / name
    mine.parent.mkdir(parents=True)
    if kdxs.is_file():
        mine.write_bytes(kdxs.read_bytes())
    use_own([f"--config-dir={tmp_path / 'mine'}"])  # a copy of it changes nothing
    mine.write_text("seed: 7")
    with pytest.raises(UserError, match=f"'{name}' has the name of a file of kdx's own"):
        use_own([f"--config-dir={tmp_path / 'mine'}"])
    mine.unlink()
    os.mkfifo(mine)
    with pytest.raises(UserError, match="give it another name"):
        use_own([f"--config-dir={tmp_path / 'mine'}"])
    use_own([])


def test_a_grid_that_chooses_the_data_too_has_it_downloaded_nowhere(capsys):
    text = "hydra: {sweeper: {params: {dataset: 'cifar10,digits', dataset.root: elsewhere}}}"
    (Path(THEIRS) / "experiment" / "grid_of_data.yaml").write_text(GLOBAL + text)
    assert "has a data set downloaded to 'elsewhere'" in reported(
        capsys, "-m", "experiment=grid_of_data", name="plan"
    )


def test_a_grid_of_ones_own_still_counts(here, monkeypatch, capsys):
    monkeypatch.setattr(plan, "show_plan", lambda found: None)
    monkeypatch.setattr("kdx.planning.document.look_ahead", lambda jobs, telling: {"jobs": list(jobs)})
    (Path(THEIRS) / "experiment" / "grid.yaml").write_text(
        GLOBAL + "hydra: {sweeper: {params: {seed: '1,2', loss.temperature: '1,2'}}}"
    )
    assert main(["plan", "-m", "--config-dir", THEIRS, "experiment=grid"]) == 0


def test_a_program_is_not_looked_at_before_it_is_refused(monkeypatch, capsys):
    """The error of `allow` comes before anything is built, whatever else is wrong."""
    monkeypatch.setattr("kdx.commands._check._inspect", lambda *anything, **more: pytest.fail("it was built"))
    assert reported(capsys, "experiment=allows", "loss.temperature=0", "seed=x").count("\n") == 1


def test_kdx_keeps_its_own_rules():
    """No option of conf/ would be refused if it came from somebody else, but for the engines of a sweep."""
    for preset in ("which_temperature", "how_many_labels"):
        assert compose.overreach([f"experiment={preset}"], set()) == []
    for name in options_of("dataset"):
        assert compose.overreach([f"dataset={name}"], set()) == [], name


def test_every_line_of_the_page_has_a_test(root):
    text = (root / "docs" / "security.md").read_text()
    named = {
        line.split("`")[-2]
        for line in text.splitlines()
        if line.startswith("|") and line.count("`") >= 2 and "test_" in line.split("`")[-2]
    }
    found = {
        f"{file.name}::{line.split('def ')[1].split('(')[0]}"
        for file in (root / "tests").glob("test_*.py")
        for line in file.read_text().splitlines()
        if line.startswith("def test_")
    }
    assert named and named <= found, named - found
