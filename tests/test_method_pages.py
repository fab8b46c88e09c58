"""docs/methods says what conf/ and the code say, and each method names the test of its limit."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("methods_script", ROOT / "scripts/methods.py")
methods = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = methods  # dataclasses look there
spec.loader.exec_module(methods)

OPTIONS = [path for group in methods.GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]


@pytest.mark.parametrize("group", methods.GROUPS)
def test_the_page_is_made_of_the_files(group):
    page = (ROOT / f"docs/methods/{group}.md").read_text()
    assert page == methods.page(group), "run scripts/methods.py"


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_method_says_when_to_take_it_what_it_costs_and_what_holds_it(path):
    method = methods.read(path)
    assert (method.formula and method.source) or "_target_" not in path.read_text()  # none: no code
    assert {"When", "Cost", "Limit"} <= set(method.says), path
    named = methods.TEST.findall(method.says["Limit"])
    assert named, "Limit names a test"
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.M), f"{file} has no {test}"


def test_keys_and_words_are_read_of_the_file(tmp_path):
    path = tmp_path / "made.yaml"
    path.write_text(
        "# @package _global_\n# A method: in short\n# When: now\n#   and then\n# Cost: none\n"
        "loss:\n  _target_: kdx.methods.losses.kd.KD\n  alpha: 0.9    # in [0, 1]\n"
    )
    method = methods.read(path)
    assert method.idea == "A method: in short"
    assert method.says == {"When": "now and then", "Cost": "none"}
    assert method.options == {"alpha": ("0.9", "in [0, 1]")}
    assert method.formula.startswith("loss = alpha * mean over all rows of w * match")
