"""The audit of pseudo-labels, by hand."""

import numpy as np
import pytest

from kdx import audit


def test_margins_of_the_teacher_by_hand():
    """Margins 0.12 (wrong), 0.55, 1 and 0 (a tie goes to the first class)."""
    probs = np.array([[0.38, 0.5, 0.12], [0.05, 0.2, 0.75], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    found = audit.margins(probs, np.array([0, 2, 1, 0]))
    assert found["edges"] == pytest.approx(np.linspace(0, 1, 11))
    assert found["counts"] == [1, 1, 0, 0, 0, 1, 0, 0, 0, 1] and found["right"] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]
