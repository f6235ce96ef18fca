import math
import subprocess
import sys
from pathlib import Path

import pytest

from apps.exports.tolerances import FIGURE_BY_NAME, USED_CAP, complete


def test_the_defaults_depend_on_the_optimisation():
    assert complete({}, "none") == {"accuracy_drop": 0.01, "agreement": 0.99, "max_abs_difference": 1e-4}
    assert complete({}, "dynamic_int8")["max_abs_difference"] == 0.5


def test_given_limits_come_before_defaults():
    assert complete({"agreement": 1, "latency_p99_ms": 5}, "none") == {
        "accuracy_drop": 0.01,
        "agreement": 1.0,
        "max_abs_difference": 1e-4,
        "latency_p99_ms": 5.0,
    }


@pytest.mark.parametrize("limit", [-1, math.nan, math.inf, True, None, "1", [1]])
def test_a_limit_is_a_finite_number_of_at_least_0(limit):
    with pytest.raises(ValueError, match="must be a number of at least 0"):
        complete({"max_abs_difference": limit}, "none")


@pytest.mark.parametrize(
    ("name", "value", "limit", "used", "holds"),
    [
        ("agreement", 0.9908, 0.99, 0.92, True),
        ("agreement", 0.98, 0.99, 2.0, False),
        ("agreement", 0.99, 1, USED_CAP, False),
        ("agreement", 1, 1, 0, True),
        ("accuracy_drop", 0.0025, 0.005, 0.5, True),
        ("accuracy_drop", -0.01, 0, 0, True),
        ("max_abs_difference", 0.1, 0, USED_CAP, False),
        ("max_abs_difference", 5, 1, 5, False),
    ],
)
def test_the_share_of_a_limit(name, value, limit, used, holds):
    figure = FIGURE_BY_NAME[name]
    assert figure.used(value, limit) == pytest.approx(used) and figure.holds(value, limit) is holds


def test_nan_is_inside_no_limit():
    assert not any(figure.holds(math.nan, 1.0) for figure in FIGURE_BY_NAME.values())


def test_the_table_needs_the_standard_library_only():
    program = "import sys, apps.exports.tolerances; print({'django', 'numpy'} & sys.modules.keys())"
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert ended.stdout == "set()\n"
