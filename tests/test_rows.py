"""What a run says of single rows and classes: predictions.csv, the worst rows, examples, classes."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import fabricate
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support
from tasks import classification

from kdx.cli import main
from kdx.core.types import Split
from kdx.data.kept_columns import ColumnKeeper, KeptRows, keep_columns, keep_known
from kdx.data.raw import Arrays, skip_reasons
from kdx.pipeline.stages.examples import EXAMPLES, example_rows
from kdx.pipeline.stages.worst import worst_rows
from kdx.report.run import canvas, classes, detail, gallery
from kdx.report.run.markdown import data as markdown_data
from kdx.report.run.table import role_cells
from kdx.runs import row_predictions
from kdx.runs.unread import write_unread
from kdx.store.artifact import Artifact
from kdx.tasks.metrics import confusion, mistaken, recalls
from kdx.tasks.regression import Regression

CPU = ["device=cpu", "device.threads=1"]


def read(file) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(file).open(newline="")))


def own_columns(rows: list[dict[str, str]], split: str, role: str) -> list[dict[str, str]]:
    """Of one role under the names that `kdx predict` gives them."""
    known = ("row", "file", "truth", "truth:price")
    found = []
    for row in rows:
        if row["split"] == split:
            before = "" if role == "student" else f"{role}."
            names = {key: key.removeprefix(before) for key in row if key.startswith(before)}
            plain = {own: row[key] for key, own in names.items() if before or "." not in key}
            found.append({key: row[key] for key in known if key in row} | plain)
    return [{key: value for key, value in row.items() if key != "split"} for row in found]


# predictions.csv


def test_the_file_of_a_run_is_what_kdx_predict_writes(trained_here):
    """Of every role, for validation and test: the same cells, to the last digit."""
    rows = read("outputs/runs/a=b/predictions.csv")
    run = json.loads(Path("outputs/runs/a=b/run.json").read_text())
    assert [row["split"] for row in rows] == ["validation"] * 200 + ["test"] * 500
    assert list(rows[0]) == run["predictions"]["columns"]
    assert list(rows[0])[:6] == ["row", "split", "truth", "label", "confidence", "margin"]
    assert run["predictions"] == {
        "file": "predictions.csv",
        "rows": {"validation": 200, "test": 500},
        "weights": "last",
        "columns": list(rows[0]),
    }
    for role in ("student", "teacher", "baseline"):
        for split in ("validation", "test"):
            words = [f"data={split}", "to=out.csv", f"role={role}", "overwrite=true", *CPU]
            assert main(["predict", "outputs/runs/a=b", *words]) == 0
            assert own_columns(rows, split, role) == read("out.csv"), (role, split)
        test = [row for row in rows if row["split"] == "test"]
        column = "label" if role == "student" else f"{role}.label"
        right = sum(row[column] == row["truth"] for row in test) / 500
        assert right == pytest.approx(run["results"][role]["last"]["test"]["accuracy"])


def test_a_run_from_the_store_writes_the_same_file_without_torch(trained_here):
    words = ["train", *CPU, "teacher_pretrain.steps=12", "student_train.steps=8", "hydra.run.dir=again"]
    code = "import sys; from kdx.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
    first, again = (Path(run) / "predictions.csv" for run in ("outputs/runs/a=b", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_the_truth_stands_in_a_file_of_predictions_where_it_is_known(trained_here):
    """Of the pool too, which the digits have hidden; the truth of a row is the same in every split's file."""
    known = {row["row"]: row["truth"] for row in read("outputs/runs/a=b/predictions.csv")}
    for split, count in (("pool", 997), ("labelled", 100), ("test", 500)):
        assert (
            main(["predict", "outputs/runs/a=b", f"data={split}", "to=out.csv", "overwrite=true", *CPU]) == 0
        )
        rows = read("out.csv")
        assert len(rows) == count and list(rows[0])[:3] == ["row", "truth", "label"]
        assert not known.keys() & {row["row"] for row in rows} or split == "test"
        known |= {row["row"]: row["truth"] for row in rows}
    from sklearn.datasets import load_digits

    digits = load_digits().target
    assert len(known) == 1797 and all(truth == str(digits[int(row) - 1]) for row, truth in known.items())


def kept(place: Path, rows: int = 3) -> Artifact:
    """As `evaluate` leaves it: a student that has last weights only, and a control that is not measured on
    validation."""
    place.mkdir()
    splits = {}
    for split in ("validation", "test"):
        columns = {name: ColumnKeeper() for name in ("truth", "student", "control")}
        columns["truth"].add({"truth": ["cat", None, "dog"][:rows]})
        sure = np.array([0.5, np.nan, 1 / 3], np.float32)[:rows]
        columns["student"].add({"label": ["a, b", "dog", "dog"][:rows], "confidence": sure})
        columns["control"].add({"own.label": ["dog"] * rows})
        names = [f"{split}/{number}.png" for number in range(rows)]
        about = keep_known(place, f"rows.{split}", ("file", names), columns["truth"].columns())
        answers = columns["student"].columns()
        answers |= {} if split == "validation" else columns["control"].columns()
        splits[split] = about | {"last": keep_columns(place, f"rows.{split}.last.npy", answers)}
    worst = {"last": {"role": "student", "rows": []}}
    (place / "predictions.json").write_text(json.dumps({"splits": splits, "worst": worst}))
    return Artifact("evaluate", "0" * 64, place)


ROLES = {"student": {"last": {"test": {}}}}


def test_cells_that_nobody_knows_are_empty(tmp_path):
    said, worst = row_predictions.write_predictions(kept(tmp_path / "a"), tmp_path, ROLES, "last")
    assert (tmp_path / "predictions.csv").read_text() == (
        "file,split,truth,label,confidence,own.label\n"
        'validation/0.png,validation,cat,"a, b",0.5,\n'
        "validation/1.png,validation,,dog,,\n"
        "validation/2.png,validation,dog,dog,0.33333334,\n"
        'test/0.png,test,cat,"a, b",0.5,dog\n'
        "test/1.png,test,,dog,,dog\n"
        "test/2.png,test,dog,dog,0.33333334,dog\n"
    )
    assert said["rows"] == {"validation": 3, "test": 3} and worst == {"role": "student", "rows": []}
    assert row_predictions.write_predictions(kept(tmp_path / "b"), tmp_path, {}, "last") == (None, None)


def test_too_many_rows_stay_in_the_artifact_and_the_report_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(row_predictions, "FILE_ROWS", 5)
    said, _ = row_predictions.write_predictions(kept(tmp_path / "a"), tmp_path, ROLES, "last")
    assert said["file"] is None and not (tmp_path / "predictions.csv").exists()
    told = "\n".join(detail.row_section({"predictions": said}, "a run", {"evaluate": "artifacts/evaluate"}))
    assert "3 rows of validation and 3 rows of test are too many" in told
    assert "`artifacts/evaluate`" in told and "kdx predict 'a run' data=test to=test.csv" in told


def test_blocks_of_rows_are_one_file(tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    row_predictions.write_predictions(kept(tmp_path / "a"), tmp_path, ROLES, "last")
    (tmp_path / "predictions.csv").rename(whole)
    monkeypatch.setattr(row_predictions, "_BLOCK", 2)
    row_predictions.write_predictions(kept(tmp_path / "b"), tmp_path, ROLES, "last")
    (tmp_path / "predictions.csv").rename(cut)
    assert whole.read_bytes() == cut.read_bytes()


def test_columns_are_kept_in_few_bytes(tmp_path):
    keeper = ColumnKeeper()
    for start in (0, 500):
        keeper.add({"label": [f"c{i % 300}" for i in range(start, start + 500)], "x": np.ones(500, "f4")})
    about = keep_columns(tmp_path, "a.npy", keeper.columns())
    assert np.load(tmp_path / "a.npy").dtype.itemsize == 2 + 4
    rows = KeptRows(tmp_path, {"rows": 1000, "known": about}, "last")
    assert rows.take([999, 3])["label"] == ["c99", "c3"] and rows.take(slice(2, 4))["x"].tolist() == [1, 1]


# The worst rows and examples


def test_the_surest_errors_come_first():
    logits = torch.tensor([[9.0, 0.0], [0.0, 1.0], [0.0, 9.0], [0.0, 4.0], [0.0, float("nan")]])
    found = worst_rows(classification(2), logits, torch.tensor([0, 0, 0, 0, 0]))
    assert found.tolist() == [2, 3, 1, 4]  # row 0 is right; of what is no number nothing is known
    said, true = torch.tensor([[1.0], [5.0], [2.0]]), torch.tensor([[1.5], [2.0], [1.0]])
    assert worst_rows(Regression(names=["y"]), said, true).tolist() == [1, 2, 0]


def examples_of(test: Split, answers, task) -> torch.Tensor:
    """The rows that `evaluate` shows."""
    worst = {role: worst_rows(task, found, test.known).tolist() for role, found in answers.items()}
    return example_rows(test, answers, worst, task)


def test_examples_are_the_surest_errors_of_the_student_then_every_class():
    """Ten classes of 40 rows. The student is wrong on ten rows of class 3, the surest last, and on none else;
    the teacher on row 0 of class 0."""
    truth = torch.arange(400) // 40
    student = torch.nn.functional.one_hot(truth, 10).float() * 5
    for place, row in enumerate(range(125, 135)):
        student[row] = torch.nn.functional.one_hot(torch.tensor(7), 10).float() * (6 + place)
    teacher = torch.nn.functional.one_hot(truth, 10).float()
    teacher[0] = teacher[0].roll(1) * 50
    test = Split("test", torch.zeros(400, 1), truth)
    found = examples_of(test, {"teacher": teacher, "student": student}, classification(10)).tolist()
    assert len(found) == len(set(found)) == EXAMPLES
    assert found[:8] == [134, 133, 132, 131, 130, 129, 128, 127]
    rest = truth[found[8:]].tolist()
    assert len(set(rest)) == 8 and 3 not in rest and 0 not in found  # rows that all get right
    student[125:135] = student[0].roll(3)  # nothing is wrong any more
    found = examples_of(test, {"teacher": teacher, "student": student}, classification(10)).tolist()
    assert found[0] == 0 and len(set(truth[found].tolist())) == 10  # what others get wrong comes next


def test_examples_of_numbers_and_of_few_rows():
    task, truth = Regression(names=["y"]), torch.zeros(40, 1)
    answers = torch.arange(40.0)[:, None]
    test = Split("test", torch.zeros(40, 2), truth)
    found = examples_of(test, {"student": answers}, task).tolist()
    assert found[:8] == list(range(39, 31, -1)) and found[8] == 0 and len(set(found)) == 16
    for rows in (1, 3, 17):
        few = Split("test", torch.zeros(rows, 1), torch.arange(rows) % 3)
        logits = torch.nn.functional.one_hot(few.truth, 3).float()
        found = examples_of(few, {"student": logits}, classification(3))
        assert sorted(found.tolist()) == sorted(set(found.tolist())) and len(found) == min(rows, 16)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    place, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, count in (("train", 14), ("test", 9)):
        for level, name in ((60, "dark"), (120, "a|b"), (180, "light")):
            folder = place / "pics" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(level, 40, (12, 12, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = ["dataset=folder", "dataset.root=pics", "dataset.image_size=8", "teacher_pretrain.steps=2"]
        more = ["student_train.steps=20", "dataset.labelled=12", "baseline=false", "hydra.run.dir=run"]
        assert main(["train", *CPU, *words, *more]) == 0
    return place


def test_names_of_files_reach_every_place(pictures):
    """predictions.csv, the worst rows, the examples and the audit's wrong answers."""
    run = json.loads((pictures / "run/run.json").read_text())
    rows = read(pictures / "run/predictions.csv")
    test = {row["file"]: row for row in rows if row["split"] == "test"}
    assert all(name.split("/")[1] == row["truth"] for name, row in test.items()) and len(test) == 27
    assert all(row["file"].startswith("train/") for row in rows if row["split"] == "validation")
    shown = json.loads((pictures / "run/artifacts/evaluate/examples.json").read_text())
    names = run["results"]["classes"]
    for name, truth, said, sure in zip(
        shown["names"],
        shown["truth"],
        shown["predictions"]["student"],
        shown["confidence"]["student"],
        strict=True,
    ):
        row = test[name]
        assert (row["truth"], row["label"]) == (names[truth], names[said])
        assert float(row["confidence"]) == pytest.approx(sure, abs=1e-6)
    worst = run["results"]["worst"]["rows"]
    wrong = [row for row in test.values() if row["label"] != row["truth"]]
    assert len(worst) == min(10, len(wrong)) > 0
    assert [row["confidence"] for row in worst] == sorted(
        (float(row["confidence"]) for row in wrong), reverse=True
    )[:10]
    assert all(test[row["file"]]["label"] == row["label"] != row["truth"] for row in worst)
    report = (pictures / "run/report.md").read_text()
    assert worst[0]["file"].replace("|", "\\|").replace("_", "\\_") in report
    assert "The surest errors of the distilled student on the test split" in report
    assert "[predictions.csv](predictions.csv)" in report


def test_the_wrong_answers_of_the_teacher_have_names(pictures):
    """Those that were learned from, the surest first, with what the student says; as kdx predict has them."""
    (found,) = json.loads((pictures / "run/run.json").read_text())["audit"]["rounds"]
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(pictures)
        for role in ("teacher", "student"):
            words = ["data=pool", "to=pool.csv", f"role={role}", "which=last", "overwrite=true", *CPU]
            assert main(["predict", "run", *words]) == 0
            said[role] = {row["file"]: row for row in read("pool.csv")}
    wrong = [row for row in said["teacher"].values() if row["label"] != row["truth"]]
    assert len(found["worst"]) == min(10, len(wrong), found["inherited"]["wrong"]) > 0
    sure = [row["teacher.confidence"] for row in found["worst"]]
    assert sure == sorted(sure, reverse=True)
    for row in found["worst"]:
        taught, student = (said[role][row["file"]] for role in ("teacher", "student"))
        assert row["truth"] == taught["truth"] == row["file"].split("/")[1] != row["teacher.label"]
        assert (row["teacher.label"], row["label"]) == (taught["label"], student["label"])
        assert row["teacher.confidence"] == pytest.approx(float(taught["confidence"]), abs=2e-3)
    report = (pictures / "run/report.md").read_text().partition("## Pseudo-label audit")[2]
    assert found["worst"][0]["file"].replace("|", "\\|") in report


def test_all_files_that_were_skipped_are_listed_in_the_run_folder(tmp_path, monkeypatch, capsys):
    """Some known by their headers, some only once they are decoded; and gone where the next run reads all."""
    rng = np.random.default_rng(0)
    for k in range(120):
        spot = tmp_path / "pics" / ("cat", "dog")[k % 2] / f"{k}.png"
        spot.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(spot)
        if k >= 66:  # the header is whole, the pixels are not, or nothing is
            spot.write_bytes(spot.read_bytes()[:60] if k % 3 else b"nothing")
    monkeypatch.chdir(tmp_path)
    for name in ("cat/notes.txt", "dog/a.txt", "dog/shot.psd"):
        Path("pics", name).write_text("words")
    bad = sorted(f"{('cat', 'dog')[k % 2]}/{k}.png" for k in range(66, 120))
    words = ["dataset=folder", "dataset.root=pics", "dataset.image_size=8", "teacher_pretrain.steps=1"]
    words += ["student_train.steps=1", "dataset.labelled=20", "baseline=false", "hydra.run.dir=run", *CPU]
    assert main(["train", *words, "dataset.test=10", "dataset.validation=10", "dataset.on_error=skip"]) == 0
    printed = capsys.readouterr()
    assert "could not be read and were skipped: 54, the first" in " ".join(
        (printed.out + printed.err).split()
    )
    rows = read("run/unread.csv")
    assert [row["name"] for row in rows] == bad
    why = {row["name"]: row["reason"] for row in rows}
    none = {name for name in bad if int(name[4:-4]) % 3 == 0}
    assert {name for name in bad if why[name] == "it is no picture of a kind that Pillow knows"} == none
    assert all("truncated" in why[name] and "\n" not in why[name] for name in set(bad) - none)
    run, report = json.loads(Path("run/run.json").read_text()), Path("run/report.md").read_text()
    reasons = [why[name] for name in bad[:50]]
    assert run["unread"] == {"file": "unread.csv", "count": 54, "first": bad[:50], "reasons": reasons}
    first = next(name for name in bad if name in none)
    named = (
        "left out: 2 files in 'pics' whose names say that they are no pictures: 2 .txt (cat/notes.txt, "
        "dog/a.txt)"
    )
    known = "left out: 1 file in 'pics/dog' that Pillow knows for no kind of picture: 1 .psd (shot.psd)"
    said = " ".join((printed.out + printed.err).split())
    assert named in said and known in said and named in run["data"]
    assert known in run["warnings"] and f"- {named}" in report and known in report
    assert f"- `{first}`: it is no picture of a kind that Pillow knows" in report
    assert f"- `{bad[49]}`: " in report and bad[50] not in report
    assert "the first 50 of 54 (as a table: [unread.csv](unread.csv))" in report
    for name in (*bad, "dog/shot.psd"):
        Path("pics", name).unlink()
    assert main(["train", *words, "dataset.test=10", "dataset.validation=10"]) == 0
    assert not Path("run/unread.csv").exists()
    assert "could not be read" not in Path("run/report.md").read_text()


def test_skipped_files_of_older_versions_have_no_reason_and_are_listed_all_the_same(tmp_path):
    """data.json of before had names alone, as a loader of one's own may give them; so had run.json."""
    (tmp_path / "data.json").write_text('{"skipped": ["b.png", "a.png"]}')
    listed = write_unread(Artifact("prepare", "k" * 64, tmp_path), tmp_path)
    assert listed == {"file": "unread.csv", "count": 2, "first": ["a.png", "b.png"], "reasons": ["", ""]}
    assert (tmp_path / "unread.csv").read_text() == "name,reason\na.png,\nb.png,\n"
    before = {"unread": {"file": "unread.csv", "count": 2, "first": ["a.png", "b.png"]}}
    for run in (before, {"unread": listed}):
        assert markdown_data(run)[-1] == "- `a.png`\n- `b.png`"
    (tmp_path / "data.json").write_text('{"skipped": []}')
    assert write_unread(Artifact("prepare", "k" * 64, tmp_path), tmp_path) is None
    arrays = Arrays({"train": (np.zeros((1, 2)), np.zeros(1))}, {}, "numbers", skipped=("z", "y"))
    assert skip_reasons(arrays.skipped) == {"y": "", "z": ""}


def test_numbers_have_their_worst_rows_in_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["dataset=friedman1", "student_train.steps=20", "hydra.run.dir=run", "baseline=false"]
    assert main(["train", *CPU, *words, "teacher=mlp_small", "teacher_pretrain.steps=8"]) == 0
    run = json.loads(Path("run/run.json").read_text())
    test = [row for row in read("run/predictions.csv") if row["split"] == "test"]
    (name,) = [key.removeprefix("value:") for key in test[0] if key.startswith("value:")]
    off = [abs(float(row[f"value:{name}"]) - float(row[f"truth:{name}"])) for row in test]
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(
        run["results"]["student"]["last"]["test"]["rmse"], rel=1e-5
    )
    worst = run["results"]["worst"]["rows"]
    found = [abs(row[f"value:{name}"] - row[f"truth:{name}"]) for row in worst]
    assert found == pytest.approx(sorted(off, reverse=True)[:10], rel=1e-6)
    report = Path("run/report.md").read_text()
    assert "The largest errors of the distilled student on the test split" in report
    assert "## Classes" not in report and "by_class" not in run["results"]
    assert "| row | truth | teacher | distilled student | off by |" in report
    shutil.rmtree("run/artifacts")


# By class


def made_up_classes(number: int, rows: int = 400) -> tuple[dict, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    truth, said = (torch.randint(number, (rows,), generator=generator) for _ in range(2))
    said = torch.where(torch.rand(rows, generator=generator) < 0.6, truth, said)
    table = confusion(said, truth, number)
    test = {
        "recall": recalls(said, truth, number),
        "predicted": table.sum(0).tolist(),
        **mistaken(table),
        "balanced_accuracy": 0.6,
        "n": rows,
    }
    results = {
        "student": {"last": {"test": test}},
        "headline": "last",
        "classes": [f"c{c}" for c in range(number)],
        "class_counts": {"test": truth.bincount(minlength=number).tolist()},
    }
    return results, said, truth


def test_the_table_by_class_against_scikit_learn():
    """Some classes have no row, and some are never named."""
    results, said, truth = made_up_classes(300)
    rows = classes.rows_by_role(results, "last")["student"]
    expected = precision_recall_fscore_support(truth, said, labels=range(300), zero_division=np.nan)
    for found, wanted in zip(("precision", "recall", "f1", "n"), expected, strict=True):
        values = [getattr(row, found) for row in rows]
        assert np.allclose([np.nan if v is None else v for v in values], wanted, equal_nan=True), found
    table = confusion(said, truth, 300).fill_diagonal_(0)
    for number, row in enumerate(rows):
        assert row.mistaken == table[number].max()
        assert (row.mistaken_for is None) == (row.mistaken == 0)
        if row.mistaken_for:
            assert table[number, int(row.mistaken_for[1:])] == row.mistaken


def test_documents_hold_the_worst_of_many_classes_by_name():
    few, many = (made_up_classes(number)[0] for number in (20, 300))
    assert list(classes.by_class(few, "last")["by_class"]["student"]) == [f"c{c}" for c in range(20)]
    found = classes.by_class(many, "last")["by_class"]["student"]
    assert len(found) == 10 and max(row["f1"] for row in found.values()) == 0
    assert set(found["c0" if "c0" in found else next(iter(found))]) == {
        "n",
        "precision",
        "recall",
        "f1",
        "mistaken_for",
        "mistaken",
    }
    told = "\n".join(detail.class_section({"results": many}))
    assert "The 10 classes of 300 with the least F1: distilled student" in told
    assert "`results.<role>.last.test` in run.json" in told and len(told) < 2500
    assert "All classes" not in "\n".join(detail.class_section({"results": few}))


def test_an_older_run_has_a_table_from_its_confusion_matrix():
    test = {"recall": [0.5, 1.0], "confusion": [[1, 1], [0, 2]]}
    (first, second) = classes.class_rows(["a", "b"], [2, 2], test)
    assert (first.precision, first.recall, first.f1) == (1, 0.5, pytest.approx(2 / 3))
    assert second.precision == pytest.approx(2 / 3) and second.mistaken_for is None
    assert classes.class_rows(["a", "b"], [2, 2], {"recall": [0.5, 1.0]}) == []


def compared(place: Path, **tests: list[dict]) -> None:
    """A sweep: loss -> of each seed what the student has on test, of three classes."""
    for loss, seeds in tests.items():
        for seed, test in enumerate(seeds):
            made = fabricate.document((f"loss={loss}",), seed, 0.8)
            counts = test.pop("counts")
            made["results"] |= {"classes": ["a", "<b>", "c"], "class_counts": {"test": counts}}
            for role in ("student", "teacher", "baseline"):
                for key in ("confusion", "reliability"):
                    made["results"][role]["last"]["test"].pop(key, None)
            made["results"]["student"]["last"]["test"] |= test
            fabricate.folder(place / "sweep", f"{loss}-{seed}", made)


def test_seeds_are_one_table_by_class(tmp_path, monkeypatch, capsys):
    """By hand: of class a 3 of 4 and 1 of 2 rows are right, so 4 of 6; 5 and 3 rows are taken for it."""
    first = {"counts": [4, 2, 1], "recall": [0.75, 0.5, 0], "predicted": [5, 2, 0]}
    second = {"counts": [2, 2, 3], "recall": [0.5, 1, 1 / 3], "predicted": [3, 3, 1]}
    first |= {"mistaken_for": [1, 0, 0], "mistaken": [1, 1, 1]}
    second |= {"mistaken_for": [1, None, 0], "mistaken": [1, 0, 2]}
    monkeypatch.chdir(tmp_path)
    compared(tmp_path, kd=[dict(first), dict(second)], slam=[dict(first), dict(first)])
    assert main(["compare", "sweep", "classes=true", "json=out.json", "--html", "page.html"]) == 0
    found = {
        row["name"]: row["by_class"]["student"] for row in json.loads(Path("out.json").read_text())["rows"]
    }
    assert found["loss=kd"]["a"] == {
        "n": 6,
        "precision": pytest.approx(4 / 8),
        "recall": pytest.approx(4 / 6),
        "f1": pytest.approx(2 * 4 / (6 + 8)),
        "mistaken_for": "<b>",
        "mistaken": 2,
    }
    assert found["loss=kd"]["c"]["mistaken"] == 3 and found["loss=slam"]["c"]["f1"] == 0
    table = capsys.readouterr().out.partition("most confused with")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if "|" in line]
    assert ["a", "6", "50.0", "66.7", "57.1", "<b> (2)"] in cells
    page = Path("page.html").read_text()
    assert "<h2>Classes</h2>" in page and "&lt;b&gt; (2)" in page and "<b>" not in page
    capsys.readouterr()
    assert main(["compare", "sweep"]) == 0
    assert "57.1" not in capsys.readouterr().out  # on the terminal only on request


@pytest.mark.parametrize(
    "changed",
    [
        {"recall": [0.5, 0.5]},
        {"predicted": [1.5, 1, 1]},
        {"mistaken_for": [3, 0, 0]},
        {"mistaken_for": [0.5, 0, 0]},
        {"mistaken": []},
        {"recall": "all"},
    ],
)
def test_lists_by_class_of_somebody_else_may_be_anything(tmp_path, monkeypatch, capsys, changed):
    good = {"counts": [4, 2, 1], "recall": [0.75, 0.5, 0], "predicted": [5, 2, 0]}
    good |= {"mistaken_for": [1, 0, 0], "mistaken": [1, 1, 1]}
    compared(tmp_path, kd=[dict(good), {**good, **changed}])
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "sweep", "classes=true"]) == 1
    told = capsys.readouterr().out
    assert "not read: 'sweep/kd-1" in told and " is not as kdx writes it: " in told


def test_runs_without_classes_have_no_table_by_class(tmp_path, monkeypatch, capsys):
    for seed in range(2):
        fabricate.folder(tmp_path / "sweep", str(seed), fabricate.regression((), seed))
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "sweep", "classes=true", "json=out.json", "--html", "page.html"]) == 0
    assert "No table by class: the runs have no classes" in capsys.readouterr().out
    assert "by_class" not in Path("out.json").read_text()
    assert "<h2>Classes</h2>" not in Path("page.html").read_text()


def test_balanced_accuracy_is_a_column_where_one_class_has_many_rows():
    results, _, _ = made_up_classes(5)
    results["student"]["model"] = "cnn"
    assert "balanced test %" not in role_cells(results, "last")[0]
    results["class_counts"]["test"] = [396, 1, 1, 1, 1]
    header, (row,) = role_cells(results, "last")
    assert row[header.index("balanced test %")] == "60.0"
    assert "bal test %" in role_cells(results, "last", short=True)[0]


# What is shown of examples


def test_a_row_of_examples_says_its_name_and_how_sure_each_answer_is():
    shown = {
        "names": ["a very long folder/" * 5 + "cat 1.png"],
        "rows": [7],
        "texts": ["some words"],
        "truth": [0],
        "predictions": {"teacher": [0], "student": [1]},
        "confidence": {"teacher": [0.5], "student": [0.9949]},
    }
    header, ((name, *cells),) = gallery.example_cells(shown, gallery.ROLES, ["cat", "dog"])
    assert header == ["test row", "text", "truth", "teacher", "distilled student"]
    assert name.endswith("cat 1.png") and len(name) == 60
    assert cells == ["some words", "cat", "cat (50%)", "dog (99%) (wrong)"]
    old = {key: shown[key] for key in ("rows", "truth", "predictions")}
    assert gallery.example_cells(old, gallery.ROLES, ["cat", "dog"])[1] == [
        ["7", "cat", "cat", "dog (wrong)"]
    ]


def test_a_picture_has_its_name_and_the_confidence_beside_it():
    """Each makes the drawing another one; a name makes room for a line where the words are as high as the
    picture.
    """
    images = np.zeros((1, 1, 8, 8), np.uint8)

    def drawn(*roles: str, **beside) -> np.ndarray:
        predictions = {role: [1] for role in ("student", *roles)}
        made = gallery.draw_pictures(images, [0], predictions, ["a", "b"], beside=beside)
        from io import BytesIO

        return np.asarray(Image.open(BytesIO(made)))

    plain, named = drawn(), drawn(names=["cat/1.png"])
    assert named.shape == plain.shape and (named != plain).any()
    high, higher = (drawn("teacher", "baseline", "noiseless", **of) for of in ({}, {"names": ["cat/1.png"]}))
    assert high.shape[0] == plain.shape[0] and higher.shape[0] == high.shape[0] + gallery.LINE * canvas.PIXELS
    sure, less = (drawn(names=["cat/1.png"], confidence={"student": [of]}) for of in (0.99, 0.51))
    assert sure.shape == less.shape == named.shape
    assert (sure != less).any() and (sure != named).any()
