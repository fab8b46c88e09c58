"""`kdx publish` without any client: what of a run is published and what stays, tables, the folder that would
go to Hugging Face's hub, `publish=` of kdx train. By the clients themselves: test_publish_clients.py.
"""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import fabricate
import pytest
from page_commands import printed_commands
from page_place import typed

import kdx
from kdx.cli import main
from kdx.commands._publish_at_end import publish_at_end
from kdx.config import destinations
from kdx.config.destinations import Destination, read_destination
from kdx.core.errors import UserError
from kdx.report.run import document as run_documents
from kdx.runs.publish import shared
from kdx.runs.publish.files import lay_files, without_rows
from kdx.runs.publish.hub_card import public_dataset
from kdx.runs.publish.publish import publish_path
from kdx.runs.publish.publisher import Publishing, Tracker
from kdx.runs.publish.scores import scores_of
from kdx.runs.publish.shared import identity, shared_runs

RUN = Path("outputs/runs/a=b")
TRAIN = ["device=cpu", "device.threads=1", "teacher_pretrain.steps=12", "student_train.steps=8"]


@pytest.fixture
def place(trained_here, monkeypatch) -> Path:
    """Nobody is logged in."""
    monkeypatch.setenv("HF_HOME", str(trained_here / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return trained_here


def document(run: Path = RUN) -> dict:
    return json.loads((run / "run.json").read_text())


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def refused(words, capsys, code: int = 2) -> str:
    assert main(["publish", *map(str, words)]) == code
    text = capsys.readouterr().err
    assert "Traceback" not in text and len(text.splitlines()) <= 3, text
    return text


def test_the_tables_of_a_run_are_its_run_json_and_its_metrics(place):
    assert main(["publish", str(RUN), "to=csv", "out=tables"]) == 0
    results, (row,) = document()["results"], rows(Path("tables/runs.csv"))
    assert (row["run"], row["status"], row["seed"]) == ("a=b", "finished", "0")
    assert float(row["student/test/accuracy"]) == results["student"]["last"]["test"]["accuracy"]
    assert float(row["student_alone/test/accuracy"]) == results["baseline"]["last"]["test"]["accuracy"]
    assert float(row["teacher/validation/nll"]) == results["teacher"]["last"]["validation"]["nll"]
    assert float(row["gain"]) == results["gain"] and row["student_train.steps"] == "8"
    records = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    wanted = [
        (record["stage"], record["step"], name, value)
        for record in records
        for name, value in record.items()
        if name not in ("stage", "step")
    ]
    found = rows(Path("tables/metrics.csv"))
    assert [(r["stage"], int(r["step"]), r["name"], float(r["value"])) for r in found] == wanted


def test_the_tables_of_a_sweep_have_what_differs_and_a_cell_is_no_formula(tmp_path, capsys):
    for seed in (0, 1):
        for loss in ("kd", "slam"):
            made = fabricate.document([f"loss={loss}"], seed, student=0.9 + seed / 100)
            fabricate.folder(tmp_path / "sweep", f"{seed}_{loss}", made)
    fabricate.folder(tmp_path / "sweep", "dead", {**fabricate.document(), "status": "failed"})
    (tmp_path / "sweep" / "broken").mkdir()
    (tmp_path / "sweep" / "broken" / "run.json").write_text("{")
    assert main(["publish", str(tmp_path / "sweep"), "to=csv"]) == 0
    found = rows(tmp_path / "sweep/published/csv/runs.csv")
    assert {row["run"] for row in found} == {f"loss={n} seed={s}" for n in ("kd", "slam") for s in (0, 1)}
    assert {(row["loss"], row["seed"], row["student/test/accuracy"]) for row in found} >= {
        ("kd", "0", "0.9"),
        ("slam", "1", "0.91"),
    }
    assert "loss._target_" not in found[0] and len({row["id"] for row in found}) == 4
    said = capsys.readouterr().out
    assert "dead is failed" in said and "not read" in said and "broken" in said
    assert main(["publish", str(tmp_path / "sweep/0_kd"), "to=csv", "name==1+1", f"out={tmp_path}"]) == 0
    assert rows(tmp_path / "runs.csv")[0]["run"] == "'=1+1"


def test_scores_have_the_names_of_roles_and_those_that_are_not_finite_are_left_out():
    made = fabricate.document(seed=1, student=0.9, baseline=0.88, teacher=0.95)
    made["results"] |= {"gain": 0.02, "gap_closed": None, "shifts": {"blur 1.0": {"student": 0.5}}}
    made["results"]["student"]["last"]["test"]["nll"] = None
    found = scores_of(made, private=False)
    assert found["student/test/accuracy"] == 0.9 and found["student_alone/test/accuracy"] == 0.88
    assert found["gain"] == 0.02 and found["student/blur 1.0/accuracy"] == 0.5
    assert found["teacher/parameters"] == 151402 and found["student/test/n"] == 500
    assert not {"gap_closed", "student/test/nll", "student/test/confusion"} & found.keys()


def test_of_private_rows_no_more_is_published_than_was_released(tmp_path):
    made = fabricate.document(seed=1)
    made["stages"].append({"name": "release", "key": "0" * 64, "cached": False, "seconds": 1.0})
    made["results"] |= {"gain": 0.02, "gap_closed": 0.5, "shifts": {"blur": {"student": 0.5}}}
    made["results"]["privacy"] = {"epsilon": 5.0, "delta": 1e-5}
    for role in ("student", "baseline", "teacher"):
        made["results"][role]["last"]["train"] = {"accuracy": 1.0, "n": 100}
    path = fabricate.folder(tmp_path, "run", made)
    lines = [{"step": 1, "stage": name, "train/loss": 2.0} for name in ("student-train", "direct-train")]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run,), _, _ = shared_runs(path, store=None, name=None)
    assert run.private and {point.stage for point in run.points()} == {"student-train"}
    told = {name.split("/")[0] for name in run.scores}
    assert told == {"student", "student_alone", "gain", "privacy"} and run.scores["privacy/epsilon"] == 5
    assert not [name for name in run.scores if "train" in name or "agreement" in name or "blur" in name]
    with run.files(examples=True) as files:
        assert list(files.iterdir()) == []
    assert run.remarks(examples=True) == [shared.PRIVATE]


def test_rows_of_the_data_stay_here_unless_they_are_asked_for(place):
    here = Path("less")
    here.mkdir()
    lay_files(RUN, document(), here, examples=False)
    told = json.loads((here / "run.json").read_text())
    worst = document()["results"]["worst"]["rows"]
    assert worst and "worst" not in told["results"] and told == without_rows(document())
    assert not {"store", "host", "predictions"} & told.keys() and told["results"]["student"]
    report = (here / "report.md").read_text()
    assert (
        "## Rows" not in report
        and "surest" not in report
        and "predictions" not in report
        and str(place) not in report
    )
    assert "figures/confusion.png" in report and not (here / "figures/predictions.png").exists()
    assert (here / "figures/confusion.png").read_bytes()
    page = (here / "report.html").read_text()
    assert (
        "surest" not in page and str(place) not in page and page.count("<img ") == report.count("](figures/")
    )
    Path("more").mkdir()
    lay_files(RUN, document(), Path("more"), examples=True)
    assert (
        Path("more/figures/predictions.png").is_file()
        and Path("more/report.md").read_text() == (RUN / "report.md").read_text()
        and Path("more/report.html").read_text() == (RUN / "report.html").read_text()
    )


def test_a_link_in_a_folder_from_somebody_else_is_not_followed(place, capsys):
    Path("secret.png").write_text("secret")
    (RUN / "figures/more.png").symlink_to(Path("secret.png").resolve())
    (RUN / "report.md").unlink()
    (RUN / "report.md").symlink_to(Path("secret.png").resolve())
    Path("to").mkdir()
    lay_files(RUN, document(), Path("to"), examples=True)
    assert not [path for path in Path("to").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    (RUN / "published").symlink_to(place)
    assert "is a link" in refused([RUN, "to=csv"], capsys)


def test_an_id_goes_with_the_run_and_not_with_its_folder(place):
    before = identity(document())
    shutil.move(RUN, "elsewhere")
    assert identity(document(Path("elsewhere"))) == before and len(before) == 16
    made_again = {**document(Path("elsewhere")), "started": "2026-01-01T00:00:00+00:00"}
    assert identity(made_again) != before


def test_the_folder_for_the_hub_is_whole_and_its_card_is_the_librarys(place, capsys):
    hub = pytest.importorskip("huggingface_hub")
    assert main(["publish", str(RUN), "to=hf:me/digits", "dry=true", "data_license=CC0"]) == 0
    out, results = RUN / "published/me--digits", document()["results"]
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md",
        "card.json",
        "model.json",
        "student.safetensors",
    ]
    card = hub.ModelCard.load(out / "README.md")
    assert card.data.library_name == "kdx" and "knowledge-distillation" in card.data.tags
    assert card.data.datasets == ["digits"] and card.data.pipeline_tag == "image-classification"
    assert (card.data.license, card.data.license_name) == ("other", "to-be-filled-in")
    tested = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert tested["accuracy"] == pytest.approx(results["student"]["last"]["test"]["accuracy"])
    assert "agreement" not in tested and card.data.eval_results[0].dataset_split == "test"
    alone = 100 * results["baseline"]["last"]["test"]["accuracy"]
    for words in (
        "## Intended use",
        "## Limits",
        "## Lineage",
        f"{alone:.1f}%",
        "on 500 rows",
        "CC0",
        "seed",
    ):
        assert words in card.text, words
    assert "kdx.load(FOLDER)" in card.text and '"FOLDER' not in card.text
    assert card.text.count("TO BE FILLED IN") == 2 and "fill in what" in capsys.readouterr().out
    assert sum(p.numel() for p in kdx.load(out).parameters()) == results["student"]["parameters"]


def test_what_was_filled_in_is_kept_and_what_is_not_sent_stays(place, capsys):
    pytest.importorskip("huggingface_hub")
    words = [RUN, "to=hf:me/digits", "out=hub"]
    assert main(["publish", *map(str, words), "dry=true"]) == 0
    filled = Path("hub/README.md").read_text().replace("TO BE FILLED IN", "mine")
    Path("hub/README.md").write_text(filled)
    said = refused(words, capsys, 1)
    assert "needs a token" in said and "the folder is whole in 'hub'" in said
    assert Path("hub/README.md").read_text() == filled
    assert "again=true writes it anew" in refused([*words, "license=mit"], capsys)
    assert main(["publish", *map(str, words), "dry=true", "license=mit", "again=true"]) == 0
    assert "\nlicense: mit\n" in Path("hub/README.md").read_text()
    card = json.loads(Path("hub/card.json").read_text())
    Path("hub/card.json").write_text(json.dumps({**card, "published": "another"}))
    assert "the student of another run" in refused(words, capsys)
    Path("taken").mkdir()
    assert "was not written by kdx publish" in refused([RUN, "to=hf:me/digits", "out=taken"], capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([RUN], "needs a place: to=csv, mlflow, trackio, wandb or hf:user/name"),
        ([RUN, "to=wanbd"], "did you mean 'wandb'?"),
        ([RUN, "to=huggingface"], "did you mean 'hf'?"),
        ([RUN, "to=hf"], "hf:user/name"),
        ([RUN, "to=hf:user"], "hf:user/name"),
        ([RUN, "to=hf:../x/y"], "hf:user/name"),
        ([RUN, "to=csv:x"], "takes nothing behind it"),
        ([RUN, "to=csv", "weights=true"], "weights= means nothing to to=csv"),
        ([RUN, "to=csv", "out=pyproject/x/\0"], "out"),
        (["nowhere", "to=csv"], "does not exist"),
        (["outputs/store", "to=csv"], "holds no finished run"),
    ],
)
def test_words_that_are_wrong_get_one_sentence(place, capsys, words, said):
    assert said in refused(words, capsys)


@pytest.mark.parametrize("found", [lambda package: None, lambda package: ModuleSpec(package, None)])
@pytest.mark.parametrize("name", ["mlflow", "trackio", "wandb", "hf"])
def test_an_absent_client_is_named_with_the_extra_that_brings_it(place, capsys, monkeypatch, name, found):
    """Also where a mere folder has its name, such as what wandb keeps here."""
    monkeypatch.setattr(destinations, "find_spec", found)
    where = "hf:me/x" if name == "hf" else name
    assert f"pip install 'kdx[{name}]'" in refused([RUN, f"to={where}"], capsys)
    assert main(["train", f"publish={where}"]) == 2
    assert f"pip install 'kdx[{name}]'" in capsys.readouterr().err


def test_files_of_ones_own_have_no_name_on_the_hub(tmp_path):
    made = fabricate.document(
        changed={"config.dataset.root": "my/pictures", "protocol.paths": ["dataset.root"]}
    )
    for name, content in (("own", made), ("known", fabricate.document())):
        (run,), _, _ = shared_runs(fabricate.folder(tmp_path, name, content), store=None, name=None)
        assert public_dataset(run) == (None if name == "own" else "digits")
        assert "dataset.root" not in run.params and run.params["dataset.labelled"] == 100


def test_how_a_run_ended_decides_what_becomes_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fabricate.folder(tmp_path, "failed", {**fabricate.document(), "status": "failed", "error": "x"})
    assert main(["publish", "failed", "to=csv"]) == 0
    assert rows(Path("failed/published/csv/runs.csv"))[0]["status"] == "failed"
    assert "has no student to hand on" in refused(["failed", "to=hf:me/x"], capsys)
    path = fabricate.folder(tmp_path, "working", {**fabricate.document(), "status": "running"})
    with run_documents.at_work(path):
        assert "publish it when it has ended" in refused([path, "to=csv"], capsys)


def test_a_dry_run_sends_nothing_and_says_what_it_would(place, capsys):
    pytest.importorskip("huggingface_hub")
    assert main(["publish", str(RUN), "to=csv", "dry=true", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dry"] and found["runs"][0]["where"] is None and not (RUN / "published").exists()
    assert found["runs"][0]["scores"]["student/test/accuracy"] and found["runs"][0]["params"] > 50


def test_a_run_is_published_when_it_has_finished(place, capsys, monkeypatch):
    assert main(["train", *TRAIN, "hydra.run.dir=outputs/runs/new", "publish=csv"]) == 0
    said = capsys.readouterr().out
    assert "published to csv: outputs/runs/new/published/csv" in said.replace(f"{place}/", "")
    assert rows(Path("outputs/runs/new/published/csv/runs.csv"))[0]["run"] == "new"
    assert document(Path("outputs/runs/new"))["config"]["publish"] == "csv"
    compared = [kdx.open(path).results["student"]["last"] for path in (RUN, "outputs/runs/new")]
    assert compared[0] == compared[1]
    monkeypatch.setattr("kdx.runs.publish.publish.publish_path", broken)
    publish_at_end(Path("outputs/runs/new"), SimpleNamespace(config={"publish": "csv"}))
    said = capsys.readouterr().err
    assert "WARNING: this was not published: the network is down" in said and "Traceback" not in said
    assert "kdx publish outputs/runs/new to=csv" in said
    assert document(Path("outputs/runs/new"))["status"] == "finished"


def test_a_rerun_publishes_nothing_and_needs_no_client(place, monkeypatch):
    monkeypatch.setattr(destinations, "find_spec", lambda package: None)
    made = document()
    made["config"]["publish"] = "mlflow"
    (RUN / "run.json").write_text(json.dumps(made))
    assert main(["rerun", str(RUN), "store=outputs/store", "to=outputs/again"]) == 0
    assert document(Path("outputs/again"))["config"]["publish"] is None


def broken(*_, **__):
    raise UserError("the network is down")


@pytest.mark.slow
def test_a_sweep_is_published_at_its_end_and_goes_on_in_its_folder(place, capsys):
    words = ["train", "-m", *TRAIN, "student_train.steps=8,6", "hydra.sweep.dir=outputs/sweeps/s"]
    assert main(words) == 0 and main([*words, "publish=csv"]) == 0
    assert "all are done" in capsys.readouterr().out
    found = rows(Path("outputs/sweeps/s/published/csv/runs.csv"))
    assert [row["student_train.steps"] for row in found] == ["8", "6"]
    assert main([*words, "publish=csv,mlflow"]) == 2
    assert "publish" in capsys.readouterr().err


def test_records_that_are_none_are_passed_over_and_too_many_are_reported(tmp_path, monkeypatch):
    path = fabricate.folder(tmp_path, "run", fabricate.document())
    lines = ["{", "[1]", '{"step": -1, "stage": "a", "x": 1}', '{"step": 1, "stage": "a", "x": "y"}']
    lines += ['{"step": 1e400, "stage": "a", "x": 1}', '{"step": 2, "stage": "a", "x": 1, "z": NaN}']
    (path / "metrics.jsonl").write_text("\n".join(lines))
    (run,), _, _ = shared_runs(path, store=None, name="mine")
    assert list(run.points()) == [("a", 2, {"x": 1.0})] and run.name == "mine"
    monkeypatch.setattr(shared, "LONGEST_FILE", 10)
    assert "curves were left out" in run.remarks(examples=True)[0]


def test_a_client_that_raises_is_one_sentence(tmp_path, monkeypatch):
    path = fabricate.folder(tmp_path, "run", fabricate.document())

    class Down:
        look = hint = ""

        def __init__(self, asked):
            raise ConnectionError("no route\nto host")

    module = SimpleNamespace(Tables=Down)
    monkeypatch.setattr("kdx.runs.publish.publish.import_module", lambda name: module)
    with pytest.raises(UserError, match="^csv could not be reached, or refused: no route$"):
        publish_path(path, Publishing(Destination("csv"), tmp_path))
    assert read_destination("to", "hf:a/b") == Destination("hf", "a/b")


class Kept(Tracker):
    """One that keeps names of runs and of their files."""

    def __init__(self, asked, kept):
        super().__init__(asked)
        self.kept = kept

    def find(self, run):
        return next((where for where, of in self.kept.items() if of[0] == run.id), None)

    def put(self, run, files):
        names = {path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()}
        self.kept[f"place {len(self.kept)}"] = (run.id, names)
        return f"place {len(self.kept) - 1}"


def test_a_tracker_is_given_a_run_once_unless_it_is_asked_for_again(place):
    kept, (runs, _, _) = {}, shared_runs(RUN, store=None, name=None)
    asked = Publishing(Destination("mlflow"), place)
    found = [next(iter(Kept(asked, kept).send(runs))) for _ in range(2)]
    assert [(one.where, one.fresh) for one in found] == [("place 0", True), ("place 0", False)]
    again = Kept(replace(asked, again=True, weights=True, examples=True), kept)
    (receipt,) = again.send(runs)
    assert (receipt.where, receipt.fresh, receipt.note) == ("place 1", True, "")
    more = kept["place 1"][1] - kept["place 0"][1]
    assert more == {"figures/predictions.png"} | {
        f"student/{name}" for name in ("student.safetensors", "model.json", "card.json", "card.md")
    }


PRINTED = [
    command for command in printed_commands() if command.kind == "elsewhere" and "publish" in command.text
]


@pytest.mark.slow
@pytest.mark.parametrize("command", PRINTED, ids=lambda command: command.where)
def test_a_printed_command_publishes(command, place, monkeypatch, capsys):
    """Without a token what goes to the hub ends with one sentence, and its folder."""
    name = next(word[3:] for word in command.words if word.startswith("to="))
    if name in ("mlflow", "trackio", "wandb"):
        pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(place / "trackio"))
    shutil.rmtree("outputs")  # that of the fixture has no run by the page's name
    assert main(typed(command)) == (1 if name.startswith("hf:") else 0)
    assert "Traceback" not in capsys.readouterr().err
