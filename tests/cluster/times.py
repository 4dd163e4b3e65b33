"""What the cluster's parts cost: seconds by part, whether each came from the cache, and who hears of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Part:
    """One part of the work. Whoever does it sets `cached` where nothing had to be made anew."""

    name: str
    seconds: float = 0.0
    cached: bool = False


class Times:
    """The parts of one process in the order in which they ended, told to `listener` as they happen."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.listener: Callable[[str], None] = lambda line: print(line, flush=True)

    @contextmanager
    def part(self, name: str) -> Iterator[Part]:
        """Times what happens inside; a part that fails is listed too, for its time was spent."""
        part = Part(name)
        begun = time.monotonic()
        try:
            yield part
        finally:
            part.seconds = time.monotonic() - begun
            self.parts.append(part)
            self.say(f"{name}: {part.seconds:.1f} s{', cached' if part.cached else ''}")

    def say(self, line: str) -> None:
        """One line of progress."""
        self.listener(f"cluster: {line}")

    def table(self) -> list[str]:
        """One line a part, then the sum. Parts do not overlap, so that the sum means something."""
        lines = [f"{part.seconds:8.1f} s  {part.name}{' (cached)' if part.cached else ''}" for part in self.parts]
        return [*lines, f"{sum(part.seconds for part in self.parts):8.1f} s  in all"]


TIMES = Times()
