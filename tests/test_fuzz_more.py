"""Nasty command lines (tests/nasty.py), half of them; the other half is tests/test_fuzz_words.py, so that
both run at once. The same each time.
"""

from __future__ import annotations

import nasty
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

CONTEXTS = (
    "loss=noisy_student",
    "teacher=mlp",
    "dataset=folder",
    "augment=flip_crop",
    "loss=soft loss.weights=debiased",
)
"""The options of the default tests: few, as each is composed anew."""
ALIKE = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "phases": (Phase.generate,),
    "suppress_health_check": list(HealthCheck),
}
pytestmark = pytest.mark.usefixtures("stopped_before_work")


@pytest.mark.slow
@settings(max_examples=50, **ALIKE)
@given(st.data())
def test_more_nasty_lines_are_answered_in_plain_words(data):
    command, words = nasty.line(lambda options: data.draw(st.sampled_from(options)), CONTEXTS)
    assert nasty.answer(command, words) is None


@pytest.mark.slow
@settings(max_examples=2500, **ALIKE)
@given(st.data())
def test_more_nasty_lines_over_every_option(data):
    command, words = nasty.line(lambda options: data.draw(st.sampled_from(options)))
    assert nasty.answer(command, words) is None
