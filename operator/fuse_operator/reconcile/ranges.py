"""Sets of worker indexes as Kubernetes writes them: `0-2,5`."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 100_000
"""Completions of an Indexed Job."""


def read(text: str) -> frozenset[int]:
    """Inverse of `written`. Empty for what it did not write, such as more workers than a Job can have."""
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


def written(numbers: Iterable[int]) -> str:
    """Ascending, neighbours as a range."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
