"""scripts/tables.py: every table of figures stands between marks, one name has one content, and the figures
are as by hand.
"""

import importlib.util

import pytest


@pytest.fixture(scope="module")
def tables(root):
    spec = importlib.util.spec_from_file_location("tables", root / "scripts/tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_default_runs_table_by_hand(root):
    spec = importlib.util.spec_from_file_location("bench_default", root / "scripts/bench_default.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    before = [
        {"a": 2.0, "short": 0.09, "gone": 1.0, "all": 4.0},
        {"a": 4.0, "short": 2.0, "gone": 3.0, "all": 8.0},
    ]
    now = [{"a": 1.0, "all": 3.0}, {"a": 1.0, "all": 4.0}]
    assert bench.table(before, now).splitlines()[2:] == [
        "| a | 2.00 | 1.00 | 0.38 |",
        "| gone | 1.00 | 0.00 | 0.00 |",
        "| all | 4.00 | 3.00 | 0.62 |",
    ]


TABLE = "| | mean |\n|---|---|\n| a | 1.5 |\n| b | 2.5 |\n"


def marked(name, body, commit="abc"):
    return f"<!-- table {name}: kdx train; commit {commit} -->\n{body}<!-- end {name} -->\n"


def test_every_table_of_figures_says_what_made_it(tables):
    found = tables.pages()
    assert tables.errors(found) == []
    assert {"default", "seeds", "slam"} <= tables.blocks(found).keys()
    assert {page for page, _ in tables.blocks(found)["seeds"]} == {"docs/benchmarks.md"}


def test_what_the_check_finds(tables):
    (reported,) = tables.errors({"a": f"text\n\n{TABLE}\nmore\n"})
    assert reported == "a: a table of figures stands in no marks: | | mean |"
    assert tables.errors({"a": marked("x", TABLE) + "| group | options |\n|---|---|\n| loss | kd |\n"}) == []
    assert tables.errors({"a": marked("x", TABLE), "b": f"{marked('x', TABLE)}\n{marked('y', '1.5')}"}) == []
    for other in (marked("x", TABLE.replace("2.5", "2.6")), marked("x", TABLE, "def")):
        (reported,) = tables.errors({"a": marked("x", TABLE), "b": other})
        assert reported == "table x has two contents, in a and b: python scripts/tables.py x"


def test_a_table_is_made_anew_wherever_it_stands(tables):
    page = f"before\n{marked('x', TABLE)}between\n{marked('y', TABLE)}after\n"
    made = tables.replaced(page, "x", "kdx train seed=1", "def", "| 3.5 |\n")
    assert made == (
        "before\n<!-- table x: kdx train seed=1; commit def -->\n| 3.5 |\n<!-- end x "
        f"-->\nbetween\n{marked('y', TABLE)}after\n"
    )


def results(teacher, alone, student, closed):
    return {
        "gap_closed": closed,
        **{
            role: {"last": {"test": {"accuracy": value}}}
            for role, value in (("teacher", teacher), ("baseline", alone), ("student", student))
        },
    }


def test_the_table_over_seeds_by_hand(tables):
    """Gains of 3, 1 and 2 points: mean 2, deviation 1, t = 2 sqrt(3) with two degrees of freedom, so p =
    .074.
    """
    plain = [
        results(0.96, 0.92, 0.95, 0.75),
        results(0.97, 0.93, 0.94, 0.25),
        results(0.95, 0.91, 0.93, None),
    ]
    normed = [
        results(0.96, 0.95, 0.95, None),
        results(0.97, 0.95, 0.96, None),
        results(0.95, 0.94, 0.96, None),
    ]
    lines = tables.over_seeds(plain, normed).splitlines()
    assert (
        lines[0].startswith("| test accuracy, n = 3 |")
        and lines[2] == "| teacher | 96.0 | 1.0 | 96.0, 97.0, 95.0 |"
    )
    assert (
        lines[5]
        == "| **gain, paired** | +2.0 | 1.0 | +3.0, +1.0, +2.0; 3/3, p = 0.074 n.s., two-sided paired t |"
    )
    assert lines[7] == "| distilled student with batch norm | 95.7 | 0.6 | 95.0, 96.0, 96.0 |"
    assert lines[8].startswith("| **gain, paired** with batch norm | +1.0 | 1.0 | +0.0, +1.0, +2.0; 2/3")
    assert lines[-1] == "| part of the gap closed, without it | 0.50 | 0.35 | 0.75, 0.25 |"


def test_a_claim_is_written_as_it_is_printed(tables):
    pair = {
        "more": "SLaM, hard",
        "less": "vanilla, hard",
        "unit": "points",
        "mean": 1.04,
        "deviation": 0.4,
        "wins": 2,
        "n": 2,
        "p": 0.0047,
        "verdict": "holds",
    }
    reported = tables.of_claim(
        {
            "claim": "slam",
            "seeds": [5000, 5001],
            "figures": {"SLaM, hard": [0.8, 0.82]},
            "comparisons": [pair],
        }
    )
    assert reported.splitlines() == [
        "| n = 2, seeds 5000 to 5001 | mean ± deviation |",
        "| --- | --- |",
        "| SLaM, hard | 81.0 ± 1.4 |",
        "",
        "| difference | mean ± deviation | wins | p | verdict |",
        "| --- | --- | --- | --- | --- |",
        "| SLaM, hard - vanilla, hard | +1.0 ± 0.4 | 2/2 | 0.0047 | holds |",
    ]
    for name, more, less, _ in tables.CLAIMS:
        claim = tables_claim(name)
        assert (more, less) in {(p.more, p.less) for p in (*claim.claimed, *claim.beside)}, name


def tables_claim(name):
    from kdx.runs.claims import read_claim

    return read_claim(name)


def test_what_a_run_prints_is_a_block_of_code(tables, trained):
    import json

    text = tables.printed(json.loads((trained / "outputs/runs/a=b/run.json").read_text()))
    lines = text.splitlines()
    assert lines[0].startswith("    decode -> prepare -> teacher-pretrain -> pseudo-label -> ") and all(
        line.startswith("    ") or not line for line in lines
    )
    assert (
        "parameters" in text
        # 8 steps of 58 rows of the pool, of 997
        and "Pseudo-labels: 464 of 464 answered rows kept; of the answers learned from"
        in " ".join(text.split())
    )
