"""The store: keys, caching, damage, resume, two at once. A stage here is a small module written into a
package of the test's own.
"""

import fcntl
import json
import multiprocessing
import os
import signal
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest
from fabricate import Still
from stages import Heard, on_cpu, own_package

from kdx.core import signals
from kdx.core.errors import UserError
from kdx.core.shortage import Shortage
from kdx.pipeline.stages import TRAIN
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.digest import code_digest
from kdx.store.disk import lock_file
from kdx.store.manifest import CHECKPOINT, MANIFEST
from kdx.store.resolve import allow, resolve
from kdx.store.source import Source
from kdx.store.stage import Stage, subseed
from kdx.store.store import Halt, Miss, Store
from kdx.store.verification import verify
from kdx.store.work import Listener, Work

STAGE = """
    import os, time
    def run(work, runtime, *, text, wait=0.0, **rest):
        with open(os.environ["KDX_TEST_LOG"], "a") as log:
            log.write(f"{os.getpid()}\\n")
        time.sleep(wait)
        work.record({"step": 0, "value": 1.5})
        work.note("something to know", "warning")
        (work.path / "out.txt").write_text(text)
"""


def test_what_a_class_says_of_itself_is_read_without_importing_it(tmp_path, monkeypatch):
    folder = tmp_path / "kdxsaid"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "base.py").write_text("import no_such_thing\nclass Base:\n    paths: tuple = ('csv',)\n")
    (folder / "own.py").write_text(
        "import no_such_thing\nfrom abc import ABC\n"
        "from kdxsaid import base\nfrom .base import Base as Known\n"
        "class Here(ABC):\n    paths = ('here',)\n    later: tuple\n"
        "class Above(Known):\n    more = 1\n"
        "class Dotted(base.Base): pass\n"
        "def function(): pass\n"
    )
    (folder / "made.py").write_text("class Base:\n    paths = tuple(['a', 'b'])\nclass Made(Base): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    allow(["kdxsaid"])
    try:
        said = {
            name: declared(f"kdxsaid.own.{name}", "paths") for name in ("Here", "Above", "Dotted", "function")
        }
        assert said == {"Here": ("here",), "Above": ("csv",), "Dotted": ("csv",), "function": None}
        assert declared("kdxsaid.own.Here", "later", ()) == ()
        assert "kdxsaid.own" not in sys.modules and "kdxsaid.base" not in sys.modules
        assert declared("kdxsaid.made.Made", "paths") == ("a", "b") and "kdxsaid.made" in sys.modules
        with pytest.raises(UserError, match="needs the package 'no_such_thing'"):
            declared("kdxsaid.own.Nobody", "paths")
    finally:
        allow([])
    loss = "kdx.methods.losses.kd.KD"
    assert [declared(loss, name) for name in ("uses", "may_use", "reads")] == [
        ("labelled",),
        ("unlabelled",),
        ("answers",),
    ]


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setenv("KDX_TEST_LOG", str(tmp_path / "log"))
    with own_package(tmp_path, monkeypatch, "kdxtestpkg", STAGE) as folder:
        yield folder


STAGE_OBJECT = Stage("write", "kdxtestpkg.stage")


def runs(tmp_path):
    return len((tmp_path / "log").read_text().splitlines()) if (tmp_path / "log").exists() else 0


def store(tmp_path, listener=None, **more):
    return Store(tmp_path / "store", Still(), listener or Listener(), **more)


def test_a_stage_runs_once_and_is_replayed(tmp_path, package):
    first = store(tmp_path).run(STAGE_OBJECT, text="a")
    heard = Heard()
    second = store(tmp_path, heard).run(STAGE_OBJECT, text="a")
    assert runs(tmp_path) == 1 and first.path == second.path
    assert second.file("out.txt").read_text() == "a"
    assert ("started", "write", True) in heard.events
    assert ("record", "write", {"step": 0, "value": 1.5}) in heard.events
    assert ("note", "warning", "something to know") in heard.events
    store(tmp_path).run(STAGE_OBJECT, text="b")
    assert runs(tmp_path) == 2


def test_a_key_knows_types_and_order(tmp_path, package):
    one = store(tmp_path)
    keys = [
        one.key(STAGE_OBJECT, {"x": v})[0]
        for v in (
            1,
            1.5,
            "1",
            True,
            None,
            [1, 2],
            [2, 1],
            {"a": 1},
            Component({"_target_": "kdx.pipeline.recipes.distil.Distil"}),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert one.key(STAGE_OBJECT, {"a": 1, "b": 2})[0] == one.key(STAGE_OBJECT, {"b": 2, "a": 1})[0]
    with pytest.raises(TypeError, match="Still"):
        one.key(STAGE_OBJECT, {"x": Still()})


def test_what_is_damaged_is_there_and_not_whole(tmp_path, package):
    made = store(tmp_path).run(STAGE_OBJECT, text="a")
    here = store(tmp_path)
    assert here.has_any(STAGE_OBJECT, text="a") and here.has_whole(STAGE_OBJECT, text="a")
    made.file("out.txt").write_text("b")
    assert here.has_any(STAGE_OBJECT, text="a") and not here.has_whole(STAGE_OBJECT, text="a")
    assert not here.has_any(STAGE_OBJECT, text="b") and not here.has_whole(STAGE_OBJECT, text="b")


def test_runtime_enters_no_key(tmp_path, package):
    def key(threads):
        return Store(tmp_path / "store", on_cpu(threads=threads), Listener()).key(STAGE_OBJECT, {"x": 1})[0]

    assert key(1) == key(2)


def test_a_flipped_byte_is_named_and_the_stage_runs_again(tmp_path, package):
    path = store(tmp_path).run(STAGE_OBJECT, text="precious").path
    stamp = os.stat(path / "out.txt")
    (path / "out.txt").write_text("pretious")
    os.utime(path / "out.txt", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert "out.txt" in verify(path)
    heard = Heard()
    again = store(tmp_path, heard).run(STAGE_OBJECT, text="precious")
    assert runs(tmp_path) == 2 and again.file("out.txt").read_text() == "precious"
    assert any(e[0] == "note" and "out.txt" in e[2] for e in heard.events)
    assert any(".damaged-" in p.name for p in path.parent.iterdir())


def test_a_missing_file_and_a_cut_one_are_named(tmp_path, package):
    path = store(tmp_path).run(STAGE_OBJECT, text="abc").path
    (path / "out.txt").write_text("ab")
    assert "2 bytes instead of 3" in verify(path)
    (path / "out.txt").unlink()
    assert "out.txt is missing" in verify(path)
    (path / MANIFEST).write_text("{")
    assert MANIFEST in verify(path)


def test_a_failed_stage_publishes_nothing_and_leaves_its_work(tmp_path, package):
    (package / "stage.py").write_text(
        "def run(work, runtime, **i):\n    (work.path / 'half').write_text('x')\n    raise ValueError('no')\n"
    )
    with pytest.raises(ValueError):
        store(tmp_path).run(STAGE_OBJECT, text="a")
    folders = list((tmp_path / "store" / "write").iterdir())
    assert [f.name.endswith(".partial") for f in folders] == [True] and (folders[0] / "half").exists()


def test_a_sealed_folder_without_its_last_rename_is_taken_as_it_is(tmp_path, package):
    path = store(tmp_path).run(STAGE_OBJECT, text="a").path
    partial = path.with_name(path.name + ".partial")
    path.rename(partial)
    (partial / CHECKPOINT).write_text("left")
    again = store(tmp_path).run(STAGE_OBJECT, text="a")
    assert runs(tmp_path) == 1 and again.path == path and not again.file(CHECKPOINT).exists()


def _work(folder, code, log):
    sys.path.insert(0, str(code))
    os.environ["KDX_TEST_LOG"] = str(log)
    Store(folder, Still(), Listener()).run(STAGE_OBJECT, text="a", wait=0.5)


def test_two_at_once_run_a_stage_once(tmp_path, package):
    context = multiprocessing.get_context("spawn")
    both = [
        context.Process(target=_work, args=(tmp_path / "store", package.parent, tmp_path / "log"))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [p.exitcode for p in both] == [0, 0] and runs(tmp_path) == 1


def test_a_killed_owner_frees_the_lock(tmp_path, package):
    context = multiprocessing.get_context("spawn")
    (package / "stage.py").write_text(
        textwrap.dedent(STAGE).replace("time.sleep(wait)", "time.sleep(wait * 200)")
    )
    owner = context.Process(target=_work, args=(tmp_path / "store", package.parent, tmp_path / "log"))
    owner.start()
    while runs(tmp_path) == 0:
        time.sleep(0.02)
    owner.kill()
    owner.join()
    (package / "stage.py").write_text(textwrap.dedent(STAGE))
    store(tmp_path).run(STAGE_OBJECT, text="a", wait=0.5)  # would wait for ever else
    assert runs(tmp_path) == 2


def test_stages_beyond_those_asked_for_halt_and_peeking_runs_nothing(tmp_path, package):
    with pytest.raises(Halt):
        store(tmp_path, until=frozenset({"other"})).run(replace(STAGE_OBJECT, node="mine"), text="a")
    with pytest.raises(Miss):
        store(tmp_path, peek=True).run(STAGE_OBJECT, text="a")
    assert runs(tmp_path) == 0
    store(tmp_path).run(STAGE_OBJECT, text="a")
    assert store(tmp_path, peek=True).run(STAGE_OBJECT, text="a").file("out.txt").exists()


def test_a_source_is_its_content(tmp_path):
    folder = tmp_path / "data set, v=1"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    Source.memo = tmp_path / "memo.json"
    first = Source(folder).digest()
    moved = folder.rename(tmp_path / "elsewhere")
    assert Source(moved).digest() == first
    stamp = os.stat(moved / "a.txt")
    (moved / "a.txt").write_text("two")
    os.utime(moved / "a.txt", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    # same name, size and time of change: the inode's own time gives it away
    assert Source(moved).digest() != first
    (moved / "a.txt").write_text("one")
    (moved / "a.txt").rename(moved / "b.txt")
    assert Source(moved).digest() != first  # in a folder a file's name is content
    with pytest.raises(UserError, match="does not exist"):
        Source(tmp_path / "none").digest()


def test_a_source_knows_which_of_its_folders_a_file_is_in(tmp_path):
    for name in ("a/1", "a/2", "b/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    both = Source(tmp_path / "a", tmp_path / "b")
    found = {both.digest(), Source(tmp_path / "b", tmp_path / "a").digest()}
    (tmp_path / "a" / "2").rename(tmp_path / "b" / "2")
    found |= {both.digest()}
    assert len(found) == 3
    (tmp_path / "a" / ".cache").mkdir()
    (tmp_path / "a" / ".cache" / "x").touch()
    assert both.digest() in found  # nothing hidden counts
    named = [("cat/1", tmp_path / "a" / "1"), ("dog/3", tmp_path / "b" / "3")]
    assert (
        len(
            {
                Source(named=n).digest()
                for n in (named, named[::-1], named[:1], [("dog/1", named[0][1]), named[1]])
            }
        )
        == 4
    )


def test_a_component_with_a_source_is_known_by_content_not_by_path(tmp_path):
    (tmp_path / "x").write_text("same")
    (tmp_path / "y").write_text("same")
    one = Store(tmp_path / "store", Still(), Listener())

    def key(name):
        path = str(tmp_path / name)
        return one.key(
            STAGE_OBJECT,
            {
                "d": Component(
                    {"_target_": "kdx.pipeline.recipes.distil.Distil", "root": path}, {"root": Source(path)}
                )
            },
        )[0]

    assert key("x") == key("y")
    (tmp_path / "y").write_text("diff")
    assert key("x") != key("y")


def test_code_digest_sees_edits_of_what_is_imported_but_no_comments(package):
    allow(["kdxtestpkg"])
    (package / "loss.py").write_text("def f(x):\n    return x + 1\n")

    def digest():
        code_digest.__globals__["_syntax"].cache_clear()
        return code_digest(["kdxtestpkg.loss.f"])

    first = digest()
    (package / "loss.py").write_text('def f(x):\n    """What it does."""\n    # why\n    return x + 1\n')
    with_words = digest()
    (package / "loss.py").write_text('def f(x):\n    """Other words."""\n    return x + 1\n')
    assert digest() == with_words
    (package / "loss.py").write_text("def f(x):\n    return x + 2\n")
    assert digest() not in (first, with_words)


def test_code_digest_sees_edits_of_what_ones_own_code_imports(package):
    allow(["kdxtestpkg"])
    (package / "parts").mkdir()
    for name, text in {
        "loss": "from .parts import helper\nimport kdxtestpkg.other\n",
        "other": "x = 1\n",
        "parts/__init__": "",
        "parts/helper": "from ..deep import y\n",
        "deep": "y = 1\n",
        "apart": "z = 1\n",
    }.items():
        (package / f"{name}.py").write_text(text)

    def digest():
        code_digest.__globals__["_syntax"].cache_clear()
        return code_digest(["kdxtestpkg.loss.f"])

    found = {digest()}
    for name in ("other", "parts/helper", "deep", "loss", "parts/__init__"):
        with (package / f"{name}.py").open("a") as file:
            file.write("more = 1\n")
        found.add(digest())
    assert len(found) == 6
    (package / "apart.py").write_text("z = 2\n")
    assert digest() in found


def test_names_in_a_key_are_text(tmp_path):
    with pytest.raises(TypeError, match="int cannot name a part of a key"):
        Store(tmp_path, Still(), Listener()).key(STAGE_OBJECT, {"views": {1: "a", "1": "b"}})


def test_editing_one_loss_leaves_the_key_of_another(tmp_path):
    """kd and supervised share core and functional, but neither imports the other."""
    from kdx.store import digest as digest_of_store
    from kdx.store import resolve as resolve_of_store

    def modules(target):
        seen, todo = set(), [target]
        while todo:
            module = resolve_of_store.module_of(todo.pop())
            if module not in seen and module.startswith("kdx") and module not in digest_of_store.PLUMBING:
                seen.add(module)
                todo += digest_of_store._syntax(resolve_of_store.code_file(module), module)[1]
        return seen

    assert "kdx.methods.losses.kd" in modules("kdx.methods.losses.kd.KD")
    assert "kdx.methods.losses.kd" not in modules("kdx.methods.losses.supervised.Supervised")
    for stage in (
        "kdx.pipeline.stages.learn",
        "kdx.pipeline.stages.parts",
        "kdx.pipeline.stages.streams",
        "kdx.pipeline.stages.label",
        "kdx.pipeline.stages.evaluate",
    ):
        assert not any(m.startswith("kdx.methods.losses") for m in modules(stage))
    assert not any(m in modules("kdx.pipeline.stages.prepare") for m in ("kdx.training.loop", "kdx.models"))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "kdx.core.types.torch.load",
        "kdx.store.store.shutil",
        "kdx.core.types.torch",
        "builtins.eval",
        "kdxevil.f",
        "torch.load",
        "torchvision.models.os.system",
        "kdx.store.component.MANIFEST",
        "nodots",
        "kdx..core",
    ],
)
def test_targets_that_are_refused(target):
    with pytest.raises(UserError):
        resolve(target)


def test_a_class_that_is_not_whole_is_named_with_what_it_lacks():
    with pytest.raises(
        UserError, match="Objective cannot be built: it lacks forward, which its base class asks"
    ):
        Component({"_target_": "kdx.core.types.Objective"}).build(parts=None)


def test_a_component_names_keys_that_do_not_fit():
    with pytest.raises(UserError, match="does not take these keys"):
        Component({"_target_": "kdx.methods.losses.kd.KD", "temprature": 3}).build(None)


def test_subseeds_are_stable_and_distinct():
    seeds = [subseed(s, *p) for s in (0, 1) for p in (("split",), ("student", 0), ("student", 1))]
    assert len(set(seeds)) == 6 and all(0 <= s < 2**63 for s in seeds)
    assert subseed(0, "split") == subseed(0, "split")


def test_a_resumed_stage_tells_its_earlier_records_once(tmp_path):
    """From the checkpoint: the files beside it may be damaged apart from it."""
    first = Work(tmp_path, "w", Listener())
    for step in range(3):
        first.record({"step": step, "v": step})
    first.note("careful", "warning")
    first.note("by the way")
    so_far, heard = first.so_far(), Heard()
    first.record({"step": 3, "v": 3})
    for name in ("metrics.jsonl", "notes.jsonl"):
        (tmp_path / name).unlink()  # as the store does with all that is not gone on from
    work = Work(tmp_path, "w", heard)
    work.report_again(so_far)
    assert [e[2].get("step") for e in heard.events if e[0] == "record"] == [0, 1, 2] and heard.events[-1] == (
        "note",
        "warning",
        "careful",
    )
    work.record({"step": 3, "v": 30})
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        0,
        1,
        2,
        3,
    ]
    assert [json.loads(line)["text"] for line in (tmp_path / "notes.jsonl").read_text().splitlines()] == [
        "careful",
        "by the way",
    ]
    for wrong in (
        {"records": [{"v": 1}]},
        {"notes": [["x", "loud"]]},
        {"notes": [[1, "info"]]},
        {"records": [{"step": 0, "v": "x"}]},
    ):
        with pytest.raises(ValueError, match="not as kdx writes them"):
            Work(tmp_path, "w", Listener()).report_again(json.dumps(json.loads(so_far) | wrong))


SHORT = {
    "MemoryError()": "is too large for this machine",
    'RuntimeError("can\'t start new thread")': "needs more threads",
}


@pytest.mark.parametrize(("error", "says"), SHORT.items())
def test_a_stage_that_is_short_of_something_says_what_to_lower(package, tmp_path, error, says):
    (package / "stage.py").write_text(f"def run(work, runtime, **rest):\n    raise {error}\n")
    with pytest.raises(Shortage, match=says) as found:
        store(tmp_path).run(replace(TRAIN, module="kdxtestpkg.stage"), name="baseline-train")
    assert str(found.value).startswith("baseline-train ") and (
        "student_train.batch_size" in str(found.value)
    ) == ("too large" in says)


def test_a_signal_that_a_stage_swallows_stops_the_run_after_it(package, tmp_path):
    (package / "stage.py").write_text("""
import os, signal
def run(work, runtime, **rest):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        pass
""")
    with signals.heeded(), pytest.raises(signals.Stopped):
        store(tmp_path).run(STAGE_OBJECT)
    store(tmp_path).run(STAGE_OBJECT), "it was published"


def test_a_signal_ends_the_wait_for_another_run(package, tmp_path):
    """It comes as soon as the wait is reported."""

    class Impatient(Heard):
        def note(self, name, text, level):
            assert "another run is at work" in text
            timer.start()

    key, _ = store(tmp_path).key(STAGE_OBJECT, {"text": "a"})
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    with lock_file(tmp_path / "store", "write", key).open("w") as held, signals.heeded():
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(signals.Stopped):
            store(tmp_path, Impatient()).run(STAGE_OBJECT, text="a")
            time.sleep(5)
        timer.join()
    store(tmp_path).run(STAGE_OBJECT, text="a")
