"""Figures are written one way everywhere."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.core import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1797, "1,797"),
        (0.0015, "0.0015"),
        (0.2143, "0.2143"),
        (0.00002, "2.0e-5"),
        (9600.0, "9,600"),
        (8914.3, "8,914"),
        (-3, "−3"),
        (0, "0"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert figures.number(value) == text


def test_what_is_not_known_is_said_and_never_a_zero() -> None:
    unknown = [
        figures.number,
        figures.percent,
        figures.duration,
        figures.money,
        figures.file_size,
        figures.delta,
        figures.points,
    ]
    assert {figure(None) for figure in unknown} == {"not known"}
    assert figures.ago(None) == "not yet"
    assert figures.number(float("nan")) == "NaN"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2780, "46 min 20 s"),
        (233_280, "2 d 17 h"),
        (3780, "1 h 3 min"),
        (1140, "19 min"),
        (0.2, "0.2 s"),
        (19, "19 s"),
        (9.97, "10 s"),
        (0.061, "61 ms"),
        (59.7, "1 min"),
        (3599.8, "1 h"),
        (86_399, "1 d"),
        (7199, "2 h"),
        (60, "1 min"),
        (0, "0 s"),
        (-5, "−5 s"),
    ],
)
def test_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (2.04, "$2.04"),
        (0, "$0.00"),
        (0.0015, "$0.0015"),
        (0.0000012, "$0.0000012"),
        (1684.2, "$1,684"),
        (-3.27, "−$3.27"),
        (0.0099, "$0.0099"),
        (0.00999, "$0.01"),
        (999.999, "$1,000"),
    ],
)
def test_money(usd: float, text: str) -> None:
    assert figures.money(usd) == text


@pytest.mark.parametrize(
    ("size", "text"), [(97_800_000, "97.8 MB"), (461_000, "461 KB"), (1, "1 byte"), (999_999, "1 MB"), (0, "0 bytes")]
)
def test_file_sizes_go_by_thousands(size: int, text: str) -> None:
    assert figures.file_size(size) == text


def test_memory_goes_by_powers_of_two() -> None:
    assert figures.memory(int(24.5 * 2**30)) == "24.5 GiB"


def test_a_change_carries_its_sign_and_nothing_has_none() -> None:
    assert figures.points(-0.0025) == "−0.25 points"
    assert figures.delta(0.5) == "+0.50"
    assert figures.delta(-0.0001) == "0.00"
    assert figures.percent(0.941) == "94.1%"


def test_ago_has_one_unit() -> None:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    assert figures.ago(now - timedelta(seconds=14), now) == "14 s ago"
    assert figures.ago(now - timedelta(hours=3, minutes=20), now) == "3 h ago"
    assert figures.ago(now + timedelta(minutes=5), now) == "in 5 min"


def test_ids_are_cut_for_reading() -> None:
    assert figures.short_id("run_01k7fz3m9qexampleexample00") == "run_01k7fz3m9q"
    assert figures.short_digest("sha256:9f2c" + "0" * 56 + "41ab") == "9f2c…41ab"
