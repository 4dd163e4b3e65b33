"""Times and index sets as Kubernetes writes them: RFC 3339 in UTC with whole seconds, and `0-2,5`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime


def moment(text: str | None) -> datetime | None:
    """None for nothing, and for what is no time."""
    if not text:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def text_of(time: datetime) -> str:
    """Rounded down to seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_until(time: datetime, now: datetime) -> float:
    """0 if it has passed."""
    return max(0.0, (time - now).total_seconds())


MOST = 100_000
"""Completions of an Indexed Job."""


def parse_indexes(text: str) -> frozenset[int]:
    """Inverse of `format_indexes`. Empty for what it did not write, such as more workers than a Job can have."""
    numbers: set[int] = set()
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            if int(last or first) >= MOST:
                return frozenset()
            numbers.update(range(int(first), int(last or first) + 1))
    except ValueError:
        return frozenset()
    return frozenset(numbers)


def format_indexes(numbers: Iterable[int]) -> str:
    """Ascending, neighbours as a range."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
