"""Charts: points where the numbers say, names beside them, nothing for nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.reporting import charts
from fusechat.reporting.tables import IntervalRow


def points(drawn: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'<polyline [^>]*points="([^"]*)"', drawn)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in found]


def test_lines_rise_with_the_numbers_and_share_their_axes() -> None:
    drawn = charts.lines({"up": [(0, 1), (5, 2), (10, 3)], "half": [(0, 1), (10, 2)]}, x_name="step", y_name="nats")
    up, half = points(drawn)
    assert [x for x, _ in up] == sorted(x for x, _ in up)
    assert up[0] == half[0]
    (left, bottom), middle, (right, top) = up
    assert middle == pytest.approx(((left + right) / 2, (bottom + top) / 2), abs=0.06)
    assert bottom > top
    assert half[1] == pytest.approx((right, (bottom + top) / 2), abs=0.06)
    assert ">step</text>" in drawn
    assert ">nats</text>" in drawn
    assert re.findall(r"</svg>(\w+)</span>", drawn) == ["up", "half"]


def test_a_line_of_one_point_is_a_dot_and_none_is_nothing() -> None:
    assert "<circle" in charts.lines({"one": [(3, 4)]}, x_name="x", y_name="y")
    assert charts.lines({"none": []}, x_name="x", y_name="y") == ""
    assert charts.heatmap({}, name="x") == ""
    assert charts.forest([], x_name="x") == ""


def test_bars_are_as_long_as_their_shares() -> None:
    drawn = charts.bars({"a": {"x": 0.25, "y": 0.75}, "b": {"x": 1.0}}, whole=1.0, show=str, name="n")
    widths = [float(w) for w in re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="18.0"', drawn)]
    assert widths[0] / widths[2] == pytest.approx(0.25, abs=1e-3)
    assert sum(widths[:2]) == pytest.approx(widths[2], abs=0.2)


def test_bars_without_a_whole_end_at_the_longest_and_tell_their_sums() -> None:
    drawn = charts.bars({"a": {"x": 2.0, "y": 1.0}, "b": {"x": 6.0}}, whole=None, show=str, name="n")
    widths = [float(w) for w in re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="18.0"', drawn)]
    assert sum(widths[:2]) * 2 == pytest.approx(widths[2], abs=0.3)
    assert ">3.0</text>" in drawn


def test_intervals_lie_about_zero_as_they_should() -> None:
    rows = [
        IntervalRow("m - p", "x, bits per byte", -0.2, -0.3, -0.1, "better"),
        IntervalRow("m - q", "x, bits per byte", 0.1, -0.1, 0.3, "not distinguishable"),
        IntervalRow("m - r", "x, bits per byte", None, None, None, "not distinguishable"),
    ]
    drawn = charts.forest(rows, x_name="bits")
    (zero,) = re.findall(r'class="zero" d="M([\d.]+),', drawn)
    spans = re.findall(r'class="interval (\w+)" d="M([\d.]+),[\d.]+ L([\d.]+),', drawn)
    assert [kind for kind, _, _ in spans] == ["better", "even"]
    (_, low, high), (_, left, right) = spans
    assert float(low) < float(high) < float(zero)
    assert float(left) < float(zero) < float(right)
    assert "m - r" not in drawn


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    high = low + span
    if high - low < 1e-9 * max(abs(low), 1):
        return
    ticks = charts._ticks(low, high)
    slack = (high - low) * 1e-6
    assert 1 <= len(ticks) <= 12
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert ticks == sorted(set(ticks))
