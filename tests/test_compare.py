"""What `kdx compare` says of many runs: groups, names, statistics by hand, folding, refusals. On documents,
without a run.
"""

from __future__ import annotations

import json
import math

import pytest
from fabricate import document, key

from kdx.core.errors import UserError
from kdx.report.compare.compare import arranged, compare_runs
from kdx.report.compare.costs import reach
from kdx.report.compare.documents import as_csv, as_json, as_markdown, records
from kdx.report.compare.entries import entry, pick_entries
from kdx.report.compare.files import digests_of_files
from kdx.report.compare.rows import comparison_sentences, forms, group_cells, header
from kdx.report.compare.statistics import holm, spread, t_interval
from kdx.report.compare.svg import small
from kdx.report.compare.sweeps import alones, aside, lines_of
from kdx.report.run import table


def run(words=(), seed=0, student=0.9, baseline=0.88, name=None, teacher=0.95, **changed):
    """An entry; changed: dotted keys of the document, with __ for the dots."""
    made = document(
        words, seed, student, baseline, teacher, {k.replace("__", "."): v for k, v in changed.items()}
    )
    return entry(name or f"{'_'.join(words)}_seed-{seed}", made)


def sweep(*rows, seeds=(0, 1, 2), **further):
    """rows: (words, accuracies of the seeds)."""
    return [
        run(words, seed, value, **further)
        for words, values in rows
        for seed, value in zip(seeds, values, strict=False)
    ]


def reported(entries, **more) -> str:
    with pytest.raises(UserError) as error:
        compare_runs(entries, **more)
    return str(error.value)


def names_of(entries) -> list[str]:
    return [g.name for g in arranged(compare_runs(entries), "name").groups]


# Settings that are files


def reads(path, digest, stage="given-answers", source="answers.file", setting="teacher__file", **more):
    """A run that names a file there, whose stage says what it held; digest None: an older run does not."""
    made = run(**{f"config__{setting}": path}, **more)
    held = {} if digest is None else {"sources": {source: digest}}
    stages = [{"name": stage, "key": "k", **held}, {"name": "student-train", "key": f"{path} {more}"}]
    return run(**{f"config__{setting}": path, "stages": stages}, **more), made


def test_a_file_is_known_by_its_content():
    """One under two paths is one setting, two under one path are two, and each is called by its path."""
    one, two = 64 * "1", 64 * "2"
    a, older = reads("a.csv", one)
    b, c, d = reads("b.csv", one, seed=1)[0], reads("c.csv", two)[0], reads("a.csv", two, seed=2)[0]
    assert names_of([a, b]) == ["loss=kd student=cnn_tiny"]
    assert compare_runs([a, b]).groups[0].seeds == (0, 1)
    assert names_of([a, b, c]) == ["teacher.file=a.csv", "teacher.file=c.csv"]
    found = arranged(compare_runs([a, d]), "name").groups
    assert [g.name for g in found] == ["teacher.file=a.csv (11111111)", "teacher.file=a.csv (22222222)"]
    assert [g.seeds for g in found] == [(0,), (2,)]
    assert older.files == {} and older.settings["teacher.file"] == "a.csv"
    assert names_of([older, reads("b.csv", None, seed=1)[1]]) == ["teacher.file=a.csv", "teacher.file=b.csv"]


@pytest.mark.parametrize(
    ("stage", "source", "setting"),
    [
        ("teacher-pretrain", "model.file", "teacher.file"),
        ("teacher-pretrain", "checkpoint", "teacher.checkpoint"),
        ("teacher-pretrain-1", "checkpoint", "members.1.checkpoint"),
        ("teacher-pretrain-1", "checkpoint", "teacher.checkpoint"),
        ("teacher-pretrain-2", "model.file", "members.2.file"),
        ("student-train", "checkpoint", "student.checkpoint"),
    ],
)
def test_files_of_every_network_are_found(stage, source, setting):
    stages = [{"name": stage, "sources": {source: "abc"}}]
    assert digests_of_files(stages, {setting: "x.pt"}) == {setting: "abc"}
    assert digests_of_files(stages, {setting: None}) == {} == digests_of_files(stages, {"loss": "x.pt"})
    assert digests_of_files([{"name": "decode", "sources": {"dataset.train": "abc"}}], {setting: "x"}) == {}
    assert digests_of_files([{"name": stage, "sources": ["abc"]}], {setting: "x.pt"}) == {}


# Statistics


def test_holm_by_hand():
    """.005 x 4, .01 x 3, .03 x 2, .04 x 1 raised to the one before it; what has no p is not counted."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([None]) == [None] and holm([]) == []


def test_interval_by_hand():
    """1, 2, 3: mean 2, deviation 1; t with two degrees of freedom at .975 is 4.302653, over the root of 3."""
    assert t_interval(spread([1.0, 2.0, 3.0])) == pytest.approx(
        (2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6
    )
    assert t_interval(spread([4.0])) is None and t_interval(spread([0.1 + 0.2, 0.3])) is None


def test_a_row_by_hand():
    """Gains 1, 2 and 3 points: mean 2, deviation 1, t = 2 sqrt(3) with two degrees of freedom, p = 1 - t /
    sqrt(2 + t^2).
    """
    entries = [run(("loss=kd",), seed, 0.90 + 0.01 * seed, baseline=0.89) for seed in range(3)]
    (row,) = compare_runs(entries).groups
    assert (row.test.n, row.test.mean, row.test.deviation) == pytest.approx((3, 91, 1))
    gain = row.gain.found
    t = 2 * math.sqrt(3)
    assert (gain.mean, gain.deviation, gain.wins, gain.losses, gain.n) == pytest.approx((2, 1, 3, 0, 3))
    assert gain.p == pytest.approx(1 - t / math.sqrt(2 + t * t)) and row.against.holm == pytest.approx(gain.p)
    assert row.gain.interval == pytest.approx(
        (2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-5
    )
    assert row.gap_closed == pytest.approx(2 / (95 - 89))
    assert row.validation.mean == pytest.approx(90)


def test_an_interval_ends_where_a_mean_can_be():
    """Two seeds: t is 12.7062, so that 99.5 +- 0.7071 would reach from 93.1 to 105.9;
    a gain may be anything.
    """
    (row,) = compare_runs(
        [run(("loss=kd",), seed, 0.99 + 0.01 * seed, baseline=0.89) for seed in range(2)]
    ).groups
    assert row.interval == pytest.approx((99.5 - 12.7062 * 0.5, 100), abs=1e-3)
    assert row.gain.interval == pytest.approx((10.5 - 12.7062 * 0.5, 10.5 + 12.7062 * 0.5), abs=1e-3)
    (row,) = compare_runs(
        [run(("loss=kd",), seed, 0.01 + 0.01 * seed, baseline=0.89) for seed in range(2)]
    ).groups
    assert row.interval[0] == 0


def test_two_rows_are_corrected_for_two_comparisons():
    found = compare_runs(sweep((("loss=kd",), (0.89, 0.91, 0.90)), (("loss=slam",), (0.92, 0.93, 0.96))))
    ps = {g.name: g.gain.found.p for g in found.groups}
    low, high = sorted(ps, key=ps.get)
    corrected = {g.name: g.against.holm for g in found.groups}
    assert found.comparisons == 2 and corrected[low] == pytest.approx(2 * ps[low])
    assert corrected[high] == pytest.approx(max(ps[high], 2 * ps[low]))
    assert "corrected for 2 comparisons" in " ".join(comparison_sentences(found))


def test_one_seed_has_no_deviation_interval_or_p():
    found = compare_runs([run(("loss=kd",)), run(("loss=slam",), student=0.92)])
    assert all(
        g.test.deviation is None and g.interval is None and g.gain.found.p is None and g.against.holm is None
        for g in found.groups
    )
    assert group_cells(found, found.groups[0])[1:] == ["1", "92.0", "-", "+4.0", "-", "1/1", "-", "-", "57%"]
    assert "more than one seed" in " ".join(comparison_sentences(found)) and found.comparisons == 0


def test_not_significant_is_said():
    found = compare_runs(sweep((("loss=kd",), (0.87, 0.90, 0.88))))
    assert group_cells(found, found.groups[0])[8].endswith(" n.s.") and records(found)[0]["verdict"] == "n.s."
    sure = compare_runs(sweep((("loss=kd",), (0.90, 0.901, 0.902))))
    assert "n.s." not in group_cells(sure, sure.groups[0])[8] and records(sure)[0]["verdict"] == "more"


def test_less_is_better_for_calibration():
    """The row with the lower error comes first, and a lower one wins."""
    entries = [run(("loss=kd",), seed, results__student__last__test__ece=0.01) for seed in range(2)]
    entries += [
        run(("loss=slam",), seed, results__student__last__test__ece=0.05 + 0.01 * seed) for seed in range(2)
    ]
    found = compare_runs(entries, metric="ece")
    assert [g.name for g in found.groups] == ["loss=kd", "loss=slam"]
    assert (found.groups[0].gain.found.mean, found.groups[0].gain.found.wins) == (pytest.approx(0.01), 2)
    assert found.groups[1].gain.found.wins == 0


def test_balanced_accuracy_is_a_metric_too():
    """Of which older runs have none: then they are left out, or it is said."""
    entries = [
        run(("loss=kd",), seed, results__student__last__test__balanced_accuracy=0.4 + 0.02 * seed)
        for seed in range(2)
    ]
    found = compare_runs(entries, metric="balanced_accuracy")
    assert group_cells(found, found.groups[0])[2].startswith("41.0")
    assert found.metric.heading == "balanced test %"
    with pytest.raises(UserError, match="no student has balanced_accuracy on the test split"):
        compare_runs([run(results__student__last__test__balanced_accuracy=None)], metric="balanced_accuracy")


def test_a_newer_key_that_changes_nothing_makes_no_other_experiment():
    old = run(seed=1)
    assert "dataset.class_weights" not in old.settings and old.everything["dataset.class_weights"] == "none"
    assert run(("dataset.class_weights=balanced",)).settings["dataset.class_weights"] == "balanced"


# Reference


def test_reference_is_paired_by_seed():
    """Seeds 1 and 2 are shared: differences 2 and 4."""
    kd = [run(("loss=kd",), seed, v) for seed, v in ((0, 0.99), (1, 0.90), (2, 0.91))]
    slam = [run(("loss=slam",), seed, v) for seed, v in ((1, 0.92), (2, 0.95), (3, 0.50))]
    found = arranged(compare_runs([*kd, *slam], reference="loss=kd"), "name")
    reference, other = found.groups
    assert reference.is_reference and reference.against is None
    assert other.against.seeds == (1, 2) and (other.against.found.mean, other.against.found.n) == (
        pytest.approx(3),
        2,
    )
    assert found.comparisons == 1 and "Without a pair for every seed: loss=slam" in " ".join(
        comparison_sentences(found)
    )
    assert header(found)[4] == "less reference" and group_cells(found, reference)[4] == "reference"


def test_reference_that_several_rows_fit_is_each_rows_own_match():
    words = [
        (f"loss={loss}", f"student={student}")
        for loss in ("kd", "slam")
        for student in ("cnn_tiny", "cnn_small")
    ]
    found = compare_runs(
        [run(w, seed, 0.9 + 0.01 * i) for i, w in enumerate(words) for seed in (0, 1)], reference="loss=kd"
    )
    against = {g.name: g.against and g.against.reference for g in found.groups}
    assert against["loss=slam student=cnn_tiny"] == "loss=kd student=cnn_tiny"
    assert against["loss=slam student=cnn_small"] == "loss=kd student=cnn_small"
    assert against["loss=kd student=cnn_tiny"] is None
    whole = compare_runs([run(w, 0, 0.9) for w in words], reference="loss=kd student=cnn_tiny")
    assert {g.against and g.against.reference for g in whole.groups} == {None, "loss=kd student=cnn_tiny"}


def test_reference_that_is_none_is_reported_with_the_nearest():
    entries = [run(("loss=kd",)), run(("loss=slam",))]
    assert "did you mean 'loss=slam'" in reported(entries, reference="loss=slm")
    three = [run(("loss=kd", f"loss.temperature={t}")) for t in (2, 4)] + [run(("loss=slam",))]
    text = reported(three, reference="loss=kd")
    assert "match of 'loss=slam': loss=kd loss.temperature=2, loss=kd loss.temperature=4; name one" in text


def test_runs_without_a_baseline_have_no_gain():
    found = compare_runs([run(("loss=kd",), seed, 0.9, baseline=None) for seed in (0, 1)])
    (row,) = found.groups
    assert row.gain is None and row.gap_closed is None and group_cells(found, row)[4:] == ["-"] * 6


# Groups and names


def test_seed_store_device_and_controls_make_no_row():
    words = [
        (),
        ("device=cpu", "device.threads=1"),
        ("store=elsewhere", "allow=[kdx]"),
        ("ceiling=true", "shift=blur"),
    ]
    entries = [run(w, seed) for seed, w in enumerate(words)] + [
        run((), 9, config__choices__launcher="joblib", config__choices__sweeper="optuna")
    ]
    (row,) = compare_runs(entries).groups
    assert row.test.n == len(entries) and row.name == "loss=kd student=cnn_tiny"


def test_an_option_and_the_same_values_by_hand_are_one_row():
    (row,) = compare_runs([run(("loss=weighted",), 0), run(("loss=soft", "loss.weights=debiased"), 1)]).groups
    assert row.test.n == 2


def test_names_are_the_changed_keys_and_not_what_an_option_sets():
    rows = [
        ("loss=slam", "student=cnn_small"),
        ("loss=kd", "student=cnn_small"),
        ("loss=weighted", "student=cnn_tiny"),
        ("loss=soft", "student=cnn_tiny"),
    ]
    assert names_of([run(w) for w in rows]) == [
        "loss=kd student=cnn_small",
        "loss=slam student=cnn_small",
        "loss=soft student=cnn_tiny",
        "loss=weighted student=cnn_tiny",
    ]


def test_values_that_differ_among_runs_of_one_option_are_named():
    rows = [("loss=kd", "loss.temperature=2"), ("loss=kd",), ("loss=slam",)]
    assert names_of([run(w) for w in rows]) == [
        "loss=kd",
        "loss=kd loss.temperature=2",
        "loss=slam",
    ]


def test_a_value_that_was_set_is_named_where_the_options_would_tell_the_rows_apart():
    """Only slam's threshold was set by hand: it is part of what the row is."""
    assert names_of([run(("loss=kd",)), run(("loss=slam", "loss.threshold=0.5"))]) == [
        "loss=kd",
        "loss=slam loss.threshold=0.5",
    ]


def test_an_augmentation_is_named_once_and_a_slot_by_its_option():
    assert names_of([run(()), run(("augment=[none]",))]) == ["augment=[affine]", "augment=none"]
    assert names_of([run(()), run(("augment.affine.degrees=5",))]) == [
        "augment.affine.degrees=5",
        "augment.affine.degrees=11.5",
    ]
    slots = [run(("loss=soft", f"loss.weights={w}")) for w in ("one", "debiased")]
    assert names_of(slots) == ["loss.weights=debiased", "loss.weights=one"]


def test_names_are_unique_also_for_long_and_like_values():
    long = ["a" * 300 + end for end in "xy"]
    found = compare_runs(
        [
            run((), config__loss__note=note, config__loss__other=other)
            for note, other in zip([*long, "1", 1], "pqrs", strict=True)
        ]
    )
    assert len({g.name for g in found.groups}) == 4 and all(len(g.name) < 120 for g in found.groups)


def test_a_terminal_is_not_commanded_by_a_name():
    found = compare_runs([run((), config__loss__note="\x1b[31mred\n"), run((), config__loss__note="plain")])
    assert any("\\x1b[31mred\\x0a" in g.name for g in found.groups) and not any(
        "\x1b" in g.name for g in found.groups
    )


def test_where_takes_both_options_and_values():
    entries = [
        run((f"loss={loss}",), seed, config__dataset__labelled=n)
        for loss in ("kd", "slam")
        for n in (50, 100)
        for seed in (0, 1)
    ]
    assert (
        len(pick_entries(entries, ["loss=slam"])) == 4
        and len(pick_entries(entries, ["loss=slam", "dataset.labelled=50"])) == 2
    )
    assert len(pick_entries(entries, ["loss=slam,kd", "seed=1"])) == 4
    for wanted, part in (
        ("los=slam", "did you mean 'loss'"),
        ("loss=slm", "did you mean 'slam'"),
        ("loss", "needs key=value"),
    ):
        with pytest.raises(UserError, match=part):
            pick_entries(entries, [wanted])


# Folding


def test_runs_of_one_student_count_once():
    """As of a sweep that was run again: everything came from the store."""
    entries = sweep((("loss=kd",), (0.90, 0.91, 0.92)))
    again = [run(("loss=kd",), seed, v, name=f"again-{seed}") for seed, v in enumerate((0.90, 0.91, 0.92))]
    once, twice = compare_runs(entries), compare_runs([*entries, *again])
    assert twice.groups[0].test == once.groups[0].test and twice.groups[0].against == once.groups[0].against
    assert "6 runs are 3 students; not counted again: again-0, again-1, again-2" in twice.notes[
        0
    ] and "Folded: " in " ".join(comparison_sentences(twice))


def test_a_folded_run_is_the_one_with_most_beside_it():
    bare, whole = run(("loss=kd",), baseline=None, name="bare"), run(("loss=kd",), name="whole")
    (row,) = compare_runs([bare, whole]).groups
    assert row.test.n == 1 and row.gain.found.mean == pytest.approx(2)


def test_of_two_students_of_a_seed_the_later_counts_and_that_is_said():
    old = run(("loss=kd",), 0, 0.80, name="old", started="2026-01-01")
    made = document(("loss=kd",), 0, 0.90, changed={"started": "2026-02-01"})
    made["stages"][3]["key"] = key("another")
    found = compare_runs([entry("new", made), old])
    assert found.groups[0].test.n == 1 and found.groups[0].test.mean == pytest.approx(90)
    assert "seed 0 has two students" in found.warnings[0] and "old is left out" in found.warnings[0]


def said_of_students(*several):
    """several: words of a run, and the parameters of its student."""
    runs = []
    for words, size in several:
        made = document(words)
        made["results"]["student"]["parameters"] = size
        runs.append(entry(" ".join(words), {**made, "command": ["kdx", "train", *words]}))
    return [text for text in compare_runs(runs).warnings if "differ in architecture" in text]


def test_students_that_a_loss_has_changed_are_named():
    kd, token = ["loss=kd"], ["loss=distillation_token"]
    assert said_of_students((kd, 2570), (token, 137620)) == [
        "the students differ in architecture: cnn_tiny, 2,570 parameters, in loss=kd; vit_tiny, 137,620 "
        "parameters, in loss=distillation_token: what lies between these rows is not the loss alone"
    ]
    vit = ["student=vit_tiny"]
    (said,) = said_of_students(([*kd, *vit], 136778), ([*token, *vit], 137620))
    assert "vit_tiny, 136,778 parameters, in loss=kd; vit_tiny, 137,620 parameters" in said
    assert not said_of_students((kd, 2570), (["loss=soft"], 2570))
    named = [*kd, "student=cnn_small"], [*kd, "student=mlp"]
    assert not said_of_students((named[0], 7898), (named[1], 35000)), "that was asked for"


def test_a_student_measured_twice_otherwise_is_reported():
    found = compare_runs([run(("loss=kd",), 0, 0.90, name="here"), run(("loss=kd",), 0, 0.91, name="there")])
    assert "measured differently in here, there" in found.warnings[0]


def test_one_student_in_two_rows_is_reported():
    a, b = document(("loss=kd",)), document(("loss=kd", "pseudo_label.mode=stored"))
    b["stages"] = a["stages"]
    found = compare_runs([entry("a", a), entry("b", b)])
    assert len(found.groups) == 2 and "the same student stands in" in found.warnings[0]


def test_mixed_code_versions_are_reported_by_row():
    mixed = compare_runs([run(("loss=kd",)), run(("loss=slam",), environment__commit="def")])
    (warning,) = mixed.warnings
    assert "abc in loss=kd" in warning and "def in loss=slam" in warning
    assert compare_runs([run(("loss=kd",)), run(("loss=slam",))]).warnings == ()


def test_mixed_code_inside_a_row_is_reported_by_its_digest():
    entries = [
        entry(name, document(("loss=kd",), seed), code=code)
        for name, seed, code in (("a", 0, "1"), ("b", 1, "2"))
    ]
    (warning,) = compare_runs(entries).warnings
    assert "students of loss=kd student=cnn_tiny were trained by different code: a; b" in warning


# Refusals


def test_different_headlines_are_refused_by_name():
    other = run(("loss=slam", "headline=best"), 0, protocol__headline="best")
    text = reported([run(("loss=kd",), 0, name="one"), other])
    assert (
        "headline: last in loss=kd (1 run: one); best in loss=slam" in text and "where=headline=last" in text
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"protocol__dataset": "Mnist5k"},
        {"protocol__counts": {"test": 300, "validation": 200}},
        {"protocol__counts": {"test": 500, "validation": 100}},
        {"protocol__selection": "the test split"},
        {"protocol__test": "looked at often"},
        {"protocol__baseline": "another"},
        {"results__classes": list("abcdefghij")},
    ],
)
def test_different_protocols_are_refused(changed):
    text = reported([run(("loss=kd",), 0), run(("loss=slam",), 0, **changed)])
    assert (
        "loss=kd (1 run" in text
        and "loss=slam (1 run" in text
        and "not compared" in text
        and len(text.splitlines()) <= 3
    )


def test_a_run_without_a_baseline_has_no_other_protocol():
    assert (
        len(
            compare_runs(
                [run(("loss=kd",), 0), run(("loss=slam",), 0, baseline=None, protocol__baseline=None)]
            ).groups
        )
        == 2
    )


def test_another_test_split_is_refused_by_its_digest():
    other = run(("loss=slam",), 1, protocol__digests__test=key("other rows"), protocol__data_key=key("x"))
    text = reported([run(("loss=kd",), 0), run(("loss=kd",), 1), run(("loss=slam",), 0), other])
    assert (
        "different test split (seed 1): loss=kd (1 run: loss=kd_seed-1); loss=slam (1 run: loss=slam_seed-1)"
        in text
    )


def test_another_number_of_labels_has_the_same_test_split():
    entries = [run((f"dataset.labelled={n}",), seed, 0.8 + n / 1000) for n in (50, 100) for seed in (0, 1)]
    assert names_of(entries) == ["dataset.labelled=50", "dataset.labelled=100"]
    assert len({e.protocol["data_key"] for e in entries}) == 4


def without_digests(*words, seed=0, **changed):
    return run(words, seed, protocol__digests=None, **changed)


def test_without_digests_the_settings_of_the_data_set_tell():
    """kdx/data/splits.py: the test rows depend on the seed and dataset.test, not on the number of labels."""
    assert (
        len(
            compare_runs(
                [without_digests("dataset.labelled=50"), without_digests("dataset.labelled=100")]
            ).groups
        )
        == 2
    )
    assert "different test split" in reported(
        [without_digests("dataset.test=500"), without_digests("dataset.test=300")]
    )
    assert "different test split" in reported([without_digests(), without_digests("dataset.image_size=20")])


def test_one_seed_and_the_same_settings_must_have_had_the_same_data():
    """By key, or where keys differ (other code) by digest."""
    assert "different data (seed 0)" in reported([without_digests("loss=kd"), without_digests("loss=slam")])
    assert (
        len(
            compare_runs(
                [
                    without_digests("loss=kd", protocol__data_key="k"),
                    without_digests("loss=slam", protocol__data_key="k"),
                ]
            ).groups
        )
        == 2
    )
    assert len(compare_runs([run(("loss=kd",)), run(("loss=slam",))]).groups) == 2
    assert "different data (seed 0)" in reported(
        [run(("loss=kd",)), run(("loss=slam",), protocol__digests__labelled="other")]
    )


# Documents that are not as kdx writes them


@pytest.mark.parametrize(
    "changed",
    [
        {"config": []},
        {"config": {"seed": "0"}},
        {"results": None},
        {"results": {"headline": "last"}},
        {"results__headline": "worst"},
        {"results__student__last__test__accuracy": 7},
        {"results__student__last__test__accuracy": "high"},
        {"results__student__parameters": 10**400},
        {"results__student__last__test__confusion": [[1, 2]]},
        {"results__student__last__test__confusion": [[True]]},
        {"results__student__last__test__reliability": {"edges": [0, 1]}},
        {"results__student__last": 3},
        {"results__classes": 3},
        {"stages": [3]},
        {"stages": []},
        {"protocol": "strict"},
        {"results__student__last__test__accuracy": float("nan")},
        {"config__choices": 3},
    ],
)
def test_a_document_that_is_wrong_is_an_error_and_no_traceback(changed):
    with pytest.raises(UserError):
        run(("loss=kd",), **changed)


def test_a_document_that_is_nested_too_deeply_is_an_error():
    deep: dict = {}
    for _ in range(3000):
        deep = {"a": deep}
    made = document()
    made["config"]["deep"] = deep
    with pytest.raises(UserError, match="nested too deeply"):
        entry("x", made)


# Files


def test_csv_json_and_markdown_hold_the_figures():
    found = compare_runs(sweep((("loss=kd",), (0.90, 0.91, 0.92)), (("loss=slam",), (0.92, 0.93, 0.95))))
    lines = as_csv(found).splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert (
        [row["name"] for row in rows] == ["loss=slam", "loss=kd"]
        and rows[1]["loss"] == "kd"
        and rows[1]["n"] == "3"
    )
    assert float(rows[1]["test_mean"]) == pytest.approx(91) and float(rows[1]["gain_mean"]) == pytest.approx(
        3
    )
    assert (
        rows[1]["seeds"] == "0 1 2"
        and float(rows[1]["p_holm"]) >= float(rows[1]["difference_p"])
        and rows[1]["parameters"] == "2582.0"
    )
    made = json.loads(as_json(found, ["not compared: 1 run failed: x"]))
    assert (
        made["rows"][1]["words"] == {"loss": "kd"}
        and len(made["rows"][1]["runs"]) == 3
        and made["comparisons"] == 2
    )
    assert (
        made["rows"][1]["runs"][0]["student"] == pytest.approx(90)
        and "not compared: 1 run failed: x" in made["notes"]
    )
    assert made["protocol"]["test rows"] == "500"
    text = as_markdown(found, ["not compared: 1 run failed: x"])
    assert "| loss=kd | 3 | 91.0 ± 1.0 |" in text and "- not compared: 1 run failed: x" in text


def test_a_spreadsheet_is_given_no_formula_and_markdown_no_markup():
    found = compare_runs([run((), **{"config__=cmd()": "=1+1|<b>"}), run((), **{"config__=cmd()": "-2"})])
    text = as_csv(found)
    assert (
        "'=cmd()=" in text
        and "'=cmd()," in text.splitlines()[0] + ","
        and ",'=1+1|<b>" in text
        and ",-2" in text
    )
    assert "<b>" not in as_markdown(found) and "&lt;b&gt;" in as_markdown(found)


def test_every_form_of_the_table_holds_every_figure():
    found = compare_runs(sweep((("loss=kd",), (0.90, 0.91, 0.92)), (("loss=slam",), (0.92, 0.93, 0.95))))
    wide, *narrower = forms(found)
    figures = {cell for row in wide.tables[0][1] for cell in row} - {"-", ""}
    for form in narrower:
        text = "\n".join([*(cell for _, rows in form.tables for row in rows for cell in row), *form.below])
        assert all(figure in text for figure in figures)


def test_sorting():
    entries = sweep(
        (("student=cnn_small",), (0.90, 0.91)), (("student=cnn_tiny",), (0.80, 0.83)), seeds=(0, 1)
    )
    found = compare_runs(entries)
    assert [g.name for g in found.groups] == ["student=cnn_small", "student=cnn_tiny"]
    assert [g.name for g in arranged(found, "parameters").groups] == ["student=cnn_tiny", "student=cnn_small"]
    assert [g.name for g in arranged(found, "p").groups][0] == min(
        found.groups, key=lambda g: g.against.holm
    ).name


# What stands beside the student


def test_the_student_alone_and_the_teacher_stand_in_the_wide_table():
    entries = [
        run(("loss=kd",), seed, 0.90, baseline=0.88 + 0.01 * seed, teacher=0.94 + 0.01 * seed)
        for seed in (0, 1)
    ]
    found = compare_runs([*entries, run(("loss=slam",), 0, 0.91, baseline=None)])
    body = [
        [cell.strip() for cell in line.split("|")]
        for line in as_markdown(found).splitlines()
        if line.startswith("|")
    ]
    alone, teacher = body[0].index("alone"), body[0].index("teacher")
    assert [(row[1], row[alone], row[teacher]) for row in body[2:]] == [
        ("loss=slam", "-", "95.0"),
        ("loss=kd", "88.5", "94.5"),
    ]
    assert [(r["baseline_mean"], r["teacher_mean"]) for r in records(found)] == [
        (None, pytest.approx(95)),
        (pytest.approx(88.5), pytest.approx(94.5)),
    ]


def test_one_student_alone_for_several_lines_is_drawn_once():
    """Temperature and alpha do not touch it; the loss of the baseline does."""

    def drawn(key, rows):
        found = compare_runs(
            [run(words, seed, 0.9, baseline=alone) for words, alone in rows for seed in (0, 1)]
        )
        return alones(found, list(lines_of(found, key).values()))

    one = drawn(
        "loss.temperature",
        [((f"loss.temperature={t}", f"loss.alpha={a}"), 0.875) for t in (1, 2) for a in (0.5, 0.9)],
    )
    assert one == {((1, 87.5), (2, 87.5)): None}
    alone = {("kd", 50): 0.75, ("kd", 100): 0.875, ("slam", 50): 0.5, ("slam", 100): 0.625}
    two = drawn(
        "dataset.labelled",
        [((f"loss={loss}", f"dataset.labelled={n}"), value) for (loss, n), value in alone.items()],
    )
    assert two == {((50, 75), (100, 87.5)): 0, ((50, 50), (100, 62.5)): 1}
    assert drawn("dataset.labelled", [((f"dataset.labelled={n}",), None) for n in (50, 100)]) == {}


def test_intervals_at_one_number_are_moved_aside():
    assert aside([1, 3], -0.5, [1, 3], False) == pytest.approx([1 - 0.008, 3 - 0.008])
    assert aside([1, 100], 1, [1, 100], True) == pytest.approx([100**0.008, 100 * 100**0.008])
    assert aside([1, 3], 0, [1, 3], True) == [1, 3]


def test_a_figure_loses_only_what_does_not_show():
    text = """<g>\n    <text style="font-size: 7px; font-family: 'DejaVu Sans'; fill: red" x="1.23456" y="-0.5" transform="rotate(-0 1.2 3.4)">0.12345</text>
      <text transform="rotate(-90 1.234 2)">a</text>\n  <path d="M 1.23456 20.5 L 3 4.999"/>\n</g>"""  # noqa: E501
    assert (
        small(text)
        == """<g>\n<text style="font-size: 7px; fill: red" x="1.23" y="-0.5">0.12345</text>
<text transform="rotate(-90 1.234 2)">a</text>\n<path d="M 1.23 20.5 L 3 4.99"/>\n</g>"""
    )


def test_an_axis_of_sizes_spans_a_factor_of_two_at_least():
    assert reach([1000, 3000]) == (1000, 3000)
    low, high = reach([100, 121])
    assert high / low == pytest.approx(2) and low * high == pytest.approx(100 * 121)
    assert reach([8]) == pytest.approx((8 / math.sqrt(2), 8 * math.sqrt(2)))


def test_a_student_that_is_the_best_of_rounds_is_said_to_be_compared_with_one_run():
    """With rounds the student is chosen on validation, and the student alone is not: in a run's own lines,
    and in a comparison.
    """

    def reported(*words, **changed):
        return [
            note
            for note in compare_runs([run(words, seed, **changed) for seed in (0, 1)]).notes
            if "rounds on validation" in note
        ]

    (note,) = reported("loss=self_training")
    assert "best of up to 3 rounds on validation, and a student alone is one run" in note
    assert not reported("loss=kd") and not reported("loss=soft", "select=rad", "budget=20", "rounds=5")
    assert not reported("loss=self_training", protocol__counts__validation=0)
    of = {
        role: {"last": {"test": {"accuracy": value, "n": 100}}}
        for role, value in (("teacher", 0.9), ("baseline", 0.7), ("student", 0.8))
    }
    rounds = [{"key": "a", "validation": {"accuracy": 0.8}}, {"key": "b", "validation": {"accuracy": 0.7}}]
    caveat = (
        " It is the best of 2 rounds on validation, and the student alone is one run: some "
        "of this may be the choice."
    )
    assert (
        table.result_sentences({**of, "rounds": rounds, "round_by": "validation"}, "last")[0]
        == f"Gain of distillation: +10.0 points of test accuracy.{caveat}"
    )
    for other in ({"round_by": "last"}, {"rounds": []}, {"rounds": [{"key": "a"}, {"key": "b"}]}):
        assert (
            "rounds"
            not in table.result_sentences(
                {**of, "rounds": rounds, "round_by": "validation", **other}, "last"
            )[0]
        )
