"""How numbers are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.reporting.numbers import decimals_of, duration, number, signed, signed_range


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (8.25, "8.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (250, "4 min 10 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_that_are_none_are_a_dash() -> None:
    assert [number(None), signed(None)] == ["-", "-"]
    assert [number(1.23456), signed(0.5)] == ["1.235", "+0.500"]


@given(st.floats(1e-7, 10), st.floats(1e-7, 10), st.sampled_from([-1, 1]))
def test_what_is_not_zero_never_looks_like_zero(low: float, high: float, sign: int) -> None:
    decimals = decimals_of(sign * low, high)
    for value in (sign * low, high):
        assert float(signed(value, decimals)) != 0
        assert abs(float(signed(value, decimals)) - value) <= 0.5 * 10**-decimals * 1.0001


def test_ranges_share_their_decimals() -> None:
    assert signed_range(-0.164, 0.00004) == "-0.16400 to +0.00004"
    assert signed_range(-0.164, 0.0) == "-0.164 to +0.000"
