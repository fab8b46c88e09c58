"""The recipe `private` from end to end: what reaches the student of private rows, and what is said of it."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from kdx.cli import main
from kdx.config import compose
from kdx.config.wire import wire
from kdx.core.errors import UserError
from kdx.pipeline.stages import shards
from kdx.planning.dry_run import forecast
from kdx.report.compare.compare import compare_runs
from kdx.report.compare.entries import entry
from kdx.report.compare.rows import forms
from kdx.report.run.result_warnings import result_warnings
from kdx.report.run.table import role_cells
from kdx.store.artifact import Artifact
from kdx.store.manifest import references

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dp_accounting") is None, reason="could not import 'dp_accounting'"
)

TABLE = ["dataset=csv", "dataset.file=table.csv", "dataset.target=y", "dataset.labelled=120", "store=store"]
TABLE += ["dataset.validation=40", "dataset.test=60", "device=cpu", "device.threads=1"]
TABLE += ["teacher=mlp_small", "student=mlp_small", "student_train.steps=30", "teacher_pretrain.steps=20"]
RECIPE = [
    "recipe=private",
    "loss=supervised",
    "recipe.shards=6",
    "recipe.shard_steps=15",
    "recipe.queries=60",
]
RUN = [*TABLE, *RECIPE, "recipe.sigma=2", "recipe.noise_seed=1"]


def table(changed=None):
    """400 rows of two bells; of one that is changed, a number is moved a little."""
    random = np.random.Generator(np.random.PCG64(0))
    truth = np.arange(400) % 2
    rows = random.normal(0, 1, (400, 3)) + 2 * truth[:, None]
    if changed is not None:
        rows[changed, 0] += 0.01
    lines = [
        ",".join([*(f"{value:.4f}" for value in row), "ab"[y]]) for row, y in zip(rows, truth, strict=True)
    ]
    return "\n".join(["p,q,r,y", *lines]) + "\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("private"), Path.cwd()
    os.chdir(folder)
    Path("table.csv").write_text(table())
    yield folder
    os.chdir(before)


def train(to, *words):
    assert main(["train", *RUN, *words, f"hydra.run.dir=runs/{to}"]) == 0
    return json.loads(Path("runs", to, "run.json").read_text())


@pytest.fixture(scope="module")
def run(place):
    return train("first", "recipe.attack=true", "recipe.queries=60")


def artifact(of, name):
    folder = Path(next(iter(Path("runs", of, "artifacts", name).resolve().parents)), "").parent
    path = Path("runs", of, "artifacts", name).resolve()
    return Artifact(path.parent.name, path.name, folder / path.parent.name / path.name)


def above(made, past=()):
    """ "stage/key" of all that an artifact was made from, not looking past the stages that are named."""
    found, todo = {}, [made]
    while todo:
        one = todo.pop()
        name = f"{one.stage}/{one.key}"
        if name in found:
            continue
        found[name] = one
        if one.stage not in past:
            for stage, key in references(one.manifest["inputs"]):
                todo.append(Artifact(stage, key, Path("store", stage, key)))
    return found


def test_private_rows_reach_the_student_by_way_of_the_release_alone(run):
    student, private = artifact("first", "student-train"), artifact("first", "divide-private")
    assert f"{private.stage}/{private.key}" in above(student)
    short = above(student, past=("release",))
    assert f"{private.stage}/{private.key}" not in short
    assert {name.partition("/")[0] for name in short} == {
        *("train", "answered", "release", "divide", "prepare", "decode")
    }
    # and no private row lies in what the student was trained on
    learned = artifact("first", "answered")
    numbers = np.concatenate(
        [np.load(learned.file(f"{split}.rows.npy")) for split in ("labelled", "unlabelled", "validation")]
    )
    assert not set(numbers.tolist()) & set(np.load(private.file("labelled.rows.npy")).tolist())


def test_a_private_row_that_moves_no_vote_leaves_the_student_bit_for_bit(run):
    row = int(np.load(artifact("first", "divide-private").file("labelled.rows.npy"))[5])
    Path("table.csv").write_text(table(changed=row))
    try:
        train("other")
    finally:
        Path("table.csv").write_text(table())
    one, other = artifact("first", "shard-teachers"), artifact("other", "shard-teachers")
    assert one.key != other.key
    assert np.array_equal(np.load(one.file("said.npy")), np.load(other.file("said.npy")))
    one, other = artifact("first", "student-train"), artifact("other", "student-train")
    for file in ("last.safetensors", "best.safetensors", "model.json"):
        assert one.file(file).read_bytes() == other.file(file).read_bytes()
    # while what learned from the rows themselves has changed
    one, other = artifact("first", "teacher-pretrain"), artifact("other", "teacher-pretrain")
    assert one.file("last.safetensors").read_bytes() != other.file("last.safetensors").read_bytes()


def test_the_adapter_is_made_of_public_rows_alone(run):
    data = artifact("first", "prepare")
    rows = np.loadtxt("table.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2))
    public = rows[np.load(data.file("unlabelled.rows.npy"))]
    columns = data.json("data.json")["adapter"]["columns"]
    assert [column["mean"] for column in columns] == pytest.approx(public.mean(0).tolist(), abs=1e-5)
    everything = rows[np.load(data.file("labelled.rows.npy"))].mean(0)
    assert columns[0]["mean"] != pytest.approx(everything[0], abs=1e-3)


def test_the_guarantee_goes_with_the_student(run):
    found = run["results"]["privacy"]
    assert 0 < found["epsilon"] <= found["epsilon_closed_form"] and found["queries"] == 60
    assert found["known_seed"] and found["answered"] == 60
    about = artifact("first", "student-train").json("model.json")["privacy"]
    assert about == {key: value for key, value in found.items() if key != "attack"}
    for name in ("teacher-pretrain", "baseline-train", "exact-train", "plain-train"):
        assert "privacy" not in artifact("first", name).json("model.json")
    report = Path("runs/first/report.md").read_text()
    assert "## Privacy" in report and "GDPR" in report and "HIPAA" in report
    assert "no guarantee towards who knows the seed" in report
    assert any("recipe.noise_seed=1" in warning for warning in run["warnings"])


def test_the_controls_learn_as_many_rows(run):
    data = artifact("first", "divide-public")
    truth = np.load(data.file("truth.npy"))
    asked = np.load(artifact("first", "shard-teachers").file("asked.npy"))
    labels = np.load(artifact("first", "release").file("labels.npy"))
    for name, wanted in (("answered", labels), ("answered-true", truth[asked])):
        made = artifact("first", name)
        assert np.array_equal(np.load(made.file("labelled.truth.npy")), wanted)
        counts = made.json("data.json")["counts"]
        assert (counts["labelled"], counts["unlabelled"], counts["test"]) == (60, len(truth) - 60, 0)


def test_membership_is_guessed_of_the_student_and_of_controls(run):
    attack = run["results"]["privacy"]["attack"]
    assert set(attack) == {"loss", "shadow"}
    for found in attack.values():
        assert set(found) == {"student", "direct", "plain", "never"}
        assert all(0 <= one["auc"] <= 1 and one["members"] == one["others"] >= 20 for one in found.values())
    assert "student that never saw the private rows" in Path("runs/first/report.md").read_text()


def test_the_export_has_the_guarantee(run, tmp_path):
    assert main(["export", "runs/first", f"to={tmp_path}/out"]) == 0
    card = (tmp_path / "out/card.md").read_text()
    assert "## Privacy" in card and "no guarantee towards who knows" in card
    assert json.loads((tmp_path / "out/model.json").read_text())["privacy"]["queries"] == 60
    # and no figure that hangs on private rows without noise: of others, on these rows, or beside the teacher
    about = json.loads((tmp_path / "out/card.json").read_text())
    found = about["metrics"]
    assert set(found) - {"metric", "metrics", "roles"} == {"student", "baseline"}
    assert set(found["student"]["last"]) == {"validation", "test"}
    assert "agreement" in run["results"]["student"]["last"]["test"] and "agreement" not in json.dumps(found)
    assert about["teacher_artifact"] is None and about["gap_closed"] is None and about["gain"] is not None
    # nor a key or a digest, by which whoever guesses the private rows could tell that the guess is right
    texts = [path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix in (".json", ".md")]
    names = {stage["key"] for stage in run["stages"]} | set(run["protocol"]["digests"].values())
    names |= {digest for stage in run["stages"] for digest in (stage.get("sources") or {}).values()}
    assert len(names) > 10 and not any(name in text for name in names for text in texts)
    results = card.partition("## Results")[2].partition("## Privacy")[0]
    assert "distilled student" in results and "over the student of true public labels" in results
    assert "student alone" not in results
    assert "eacher" not in results and "votes" not in results and "greement" not in results


def test_the_control_is_called_the_same_everywhere(run, capsys):
    capsys.readouterr()
    for words in (["evaluate", "runs/first"], ["compare", "runs/first"]):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert "student of true public labels" in said and "student alone" not in said
    document = json.loads(Path("runs/first/run.json").read_text())["results"]
    document["student"]["last"]["test"]["accuracy"] = document["student"]["best"]["test"]["accuracy"] = 0.2
    assert any(
        "worse than the student of true public labels (" in w for w in result_warnings(document, "last")
    )
    assert main(["plan", *RUN]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "augmentation; as many true labels of the same public rows" in said
    report = Path("runs/first/report.md").read_text()
    assert "The student of true public labels is a matched baseline" in report


def test_epsilon_stands_in_the_rows_and_of_several_releases_they_add_up(run, capsys):
    document = json.loads(Path("runs/first/run.json").read_text())
    assert "epsilon" not in str(role_cells(document["results"], "last"))  # its noise is known
    document["results"]["privacy"] |= {"known_seed": False, "epsilon": 11.1875}
    assert "distilled student, epsilon 11.19" in [
        row[0] for row in role_cells(document["results"], "last")[1]
    ]
    other = json.loads(json.dumps(document))
    other["results"]["privacy"]["epsilon"] = 4.877
    other["config"]["recipe"]["sigma"] = 10
    for stage in other["stages"]:
        stage["key"] = stage["key"][::-1] if stage["name"] in ("release", "student-train") else stage["key"]
    found = compare_runs([entry("one", document), entry("two", other)])
    assert sorted(row[0] for row in forms(found)[0].tables[0][1]) == [
        "recipe.sigma=10 (epsilon 4.88)",
        "recipe.sigma=2 (epsilon 11.19)",
    ]
    assert any("2 releases" in text and "add to 16.06" in text for text in found.warnings)
    capsys.readouterr()
    words = [*RUN, "recipe.noise_seed=null", "store=nowhere"]
    assert main(["plan", "-m", *words, "recipe.sigma=5,10"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 releases of private rows stand here" in said and "the epsilons add to 16.06" in said
    assert main(["plan", *words]) == 0
    assert "releases of private rows" not in capsys.readouterr().out


def test_the_plan_foretells_every_stage(run, tmp_path):
    order = wire(compose.check_words([*RUN, "recipe.attack=true", "store=nothing"]))
    steps, stop = forecast(order, tmp_path, {})
    assert stop is None
    assert {step.name: step.key for step in steps} == {stage["name"]: stage["key"] for stage in run["stages"]}


@pytest.mark.slow
def test_noise_of_the_system_is_drawn_once(run):
    """The key is the same, so what was released once is what every later run learns from. Of confident votes
    the control has as many rows as were answered."""
    words = ["recipe.noise_seed=null", "recipe.noise=confident", "recipe.threshold=5"]
    words += ["recipe.threshold_sigma=1"]
    one, other = train("system", *words), train("again", *words)
    privacy = one["results"]["privacy"]
    assert not privacy["known_seed"] and 0 < privacy["answered"] < 60
    keys = [next(s for s in r["stages"] if s["name"] == "release") for r in (one, other)]
    assert keys[0]["key"] == keys[1]["key"] and keys[1]["cached"]
    for name in ("answered", "answered-true"):
        assert artifact("system", name).json("data.json")["counts"]["labelled"] == privacy["answered"]


def test_a_release_is_not_made_again_by_a_rerun(run, capsys):
    path = Path("runs/first/run.json")
    document = json.loads(path.read_text())
    seed = document["config"]["recipe"].pop("noise_seed")
    folder = Path("runs/unseeded")
    folder.mkdir()
    document["config"]["recipe"]["noise_seed"] = None
    (folder / "run.json").write_text(json.dumps(document))
    assert seed == 1 and main(["rerun", str(folder), "to=again"]) == 2
    said = capsys.readouterr().err
    assert "is a release of private rows, which is made once" in said and "the epsilons would add" in said
    assert not Path("again").exists()


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_kill_between_teachers_goes_on_where_it_was(run, monkeypatch, capsys):
    whole, done, real = artifact("first", "shard-teachers"), [], shards._one

    def one(work, runtime, these, number):
        if number == 3:
            raise Killed
        done.append(number)
        return real(work, runtime, these, number)

    shutil.move("store/shard-teachers", "before")
    try:
        monkeypatch.setattr(shards, "_one", one)
        with pytest.raises(Killed):
            train("killed")
        assert done == [0, 1, 2]
        monkeypatch.setattr(shards, "_one", lambda *args: (done.append(args[3]), real(*args))[1])
        train("killed")
        assert done == [0, 1, 2, 3, 4, 5]
        made = artifact("killed", "shard-teachers")
        assert made.key == whole.key and sorted(path.name for path in made.path.iterdir()) == [
            *("asked.npy", "manifest.json", "notes.jsonl", "said.npy", "shards.json")
        ]
        said = np.load(made.file("said.npy"))
    finally:
        shutil.rmtree("store/shard-teachers")
        shutil.move("before", "store/shard-teachers")
    assert np.array_equal(said, np.load(whole.file("said.npy")))


def refused(capsys, *words):
    assert main(["train", *RUN, *words, "hydra.run.dir=runs/refused"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and not Path("runs/refused").exists()
    return said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipe.epsilon=10"], ["recipe.epsilon=10 is less than", "set recipe.queries=", "recipe.sigma="]),
        (["recipe.epsilon=0.1"], ["it affords none: set recipe.sigma="]),
        (["recipe.queries=1000"], ["recipe.queries=180 at most"]),
        (["recipe.threshold=0.5"], ["recipe.threshold=0.5 can never act: it is of recipe.noise=confident"]),
        (["recipe.threshold_sigma=9"], ["recipe.threshold_sigma=9 can never act", "and this is gaussian"]),
        (["recipe.shards=100"], ["recipe.shards=12 at most"]),
        (["loss=kd"], ["choose loss=supervised"]),
        (["recipe.noise=poisson"], ["recipe.noise"]),
        (["dataset.duplicates=drop"], ["dataset.duplicates=drop looks at both"]),
        (["dataset.labelled=null"], ["this run has none", "dataset.labelled=0.5"]),
        (["ceiling=true"], ["ceiling=true is a control of other recipes"]),
        (["made_up=munge"], ["makes no public rows of private ones"]),
        (["baseline=false", "recipe.attack=true"], ["set baseline=true"]),
        (["teacher.members=2"], ["one teacher a shard"]),
        (["student.checkpoint=w.pt"], ["may have learned the private rows", "leave student.checkpoint= out"]),
        (["teacher.checkpoint=w.pt"], ["may have learned all of them", "leave teacher.checkpoint= out"]),
    ],
)
def test_what_does_not_go_with_it_is_refused_before_work(place, capsys, words, said):
    Path("w.pt").touch()
    found = refused(capsys, *words)
    assert all(part in found for part in said), found


def test_a_budget_that_suffices_is_no_obstacle(place):
    wire(compose.check_words([*RUN, "recipe.epsilon=1000"]))


def test_without_the_accountant_a_sentence_says_so(place, capsys, monkeypatch):
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "dp_accounting" else real(name, *more)
    )
    assert "pip install 'kdx[privacy]'" in refused(capsys)


def test_a_shard_of_one_class_is_named(place):
    with pytest.raises(
        UserError, match="shard 2 would have 2 rows of one class only, 'b'.*recipe.shards lower"
    ):
        shards.check_shards(np.array([0, 1, 1, 1]), [np.array([0, 1]), np.array([2, 3])], "ab")


def test_the_shard_of_a_row_hangs_on_no_row():
    found = shards.parts(10, 3, seed=5)
    assert sorted(np.concatenate(found).tolist()) == list(range(10))
    assert [len(part) for part in found] == [4, 3, 3]


@pytest.mark.slow
def test_a_second_release_is_refused_by_the_same_words_and_added_up_by_others(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(table())
    noisy = [word for word in RUN if word != "recipe.noise_seed=1"]
    few = [*noisy, "student_train.steps=2", "teacher_pretrain.steps=2", "recipe.shard_steps=2"]
    assert main(["train", *few, "hydra.run.dir=outputs/runs/once"]) == 0
    epsilon = json.loads(Path("outputs/runs/once/run.json").read_text())["results"]["privacy"]["epsilon"]
    shutil.copytree("outputs/runs/once", tmp_path / "copy", symlinks=True)
    capsys.readouterr()
    for words in (few, ["--config", "outputs/runs/once"], ["--config", str(tmp_path / "copy")]):
        more = [word for word in words if not word.startswith("store=")]
        for command in ("train", "plan"):
            assert main([command, *more, "store=new"]) == 2
            error = capsys.readouterr().err
            assert "a release is made once" in error and f"add to {2 * epsilon:.2f}" in error
            assert "Traceback" not in error and error.count("outputs/runs") + error.count("copy") < 3
    assert not Path("new").exists()
    # what changes nothing of a release makes no other words of it
    for word in ("recipe.epsilon=1000", "recipe.attack=true"):
        assert main(["plan", *few, word, "store=new"]) == 2
        assert "a release is made once" in capsys.readouterr().err
    # the same store knows it, other students of it release nothing, and further ones are added up
    assert main(["train", *few, "student_train.lr=0.01", "hydra.run.dir=outputs/runs/student"]) == 0
    said = json.loads(Path("outputs/runs/student/run.json").read_text())["warnings"]
    assert not any("epsilons add" in text for text in said)
    assert main(["train", *few, "seed=5", "hydra.run.dir=outputs/runs/other"]) == 0
    said = json.loads(Path("outputs/runs/other/run.json").read_text())["warnings"]
    assert any("1 other release of the same data set is known here" in text for text in said)
    assert any(f"add to {2 * epsilon:.2f}" in text for text in said)
    words = ["--config", "outputs/runs/once", "store=new", "recipe.noise_seed=1"]
    assert main(["plan", *words]) == 0, "what hides nothing may be drawn again"


@pytest.mark.slow
def test_texts_whose_pool_is_another_set_need_a_public_vocabulary(place, capsys, tmp_path):
    for name, count in (("own", 120), ("public", 150)):
        (tmp_path / name).mkdir()
        lines = [f"a {('good', 'bad')[i % 2]} thing {i % 9},{('pos', 'neg')[i % 2]}" for i in range(count)]
        (tmp_path / name / "train.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    words = ["dataset=text", f"dataset.root={tmp_path / 'own'}", "dataset.labelled=70", "dataset.test=20"]
    words += ["dataset.validation=20", "teacher=bag", "student=bag", *RECIPE, "recipe.sigma=2"]
    words += ["student_train.steps=4", "teacher_pretrain.steps=4", "device=cpu", "store=texts"]
    words += ["pool=text", f"pool.root={tmp_path / 'public'}", "recipe.shard_steps=3"]
    assert main(["train", *words]) == 2
    assert "public with dataset.tokenizer=FILE" in capsys.readouterr().err
    from kdx.data.text.tokens import Tokens

    tokens = Tokens("words", 50, min_frequency=1, lower=True, length=8)
    (tmp_path / "public.json").write_text(tokens.of(["a good bad thing"]))
    assert main(["train", *words, f"dataset.tokenizer={tmp_path}/public.json"]) == 0
