"""Numbers as reports write them. A difference that is not zero never looks like zero."""

from __future__ import annotations

_DECIMALS, _MOST = 3, 7


def number(value: float | None) -> str:
    """Three decimals; a dash for what is not a number."""
    return "-" if value is None else f"{value:.{_DECIMALS}f}"


def duration(seconds: float) -> str:
    """`8.3 s`, `4 min 10 s`, `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def signed(value: float | None, decimals: int = _DECIMALS) -> str:
    """With its sign."""
    return "-" if value is None else f"{value:+.{decimals}f}"


def decimals_of(*values: float | None) -> int:
    """Three, or as many as it takes that none that is not zero is shown as zero."""
    decimals = _DECIMALS
    known = [value for value in values if value]
    while decimals < _MOST and any(round(value, decimals) == 0 for value in known):
        decimals += 1
    return decimals


def signed_range(low: float | None, high: float | None, decimals: int | None = None) -> str:
    """`-0.155 to -0.143`."""
    digits = decimals_of(low, high) if decimals is None else decimals
    return f"{signed(low, digits)} to {signed(high, digits)}"
