"""Code blocks of the documentation, and which of their commands are run by a test."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TUTORIAL = [ROOT / "docs/tutorial" / name for name in ("laptop.md", "own-job.md", "cluster.md")]
HOW_TO = sorted((ROOT / "docs/how-to").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOT_RUN = ("takes minutes", "needs a cluster", "needs a registry", "needs a bucket", "your own job")
"""Titles of `sh` blocks that no test runs. A block with another title, or none, is run."""
FAILS = "fails on purpose"

_BLOCK = re.compile(r'^( *)```(\w*)(?: title="([^"\n]*)")?\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    title: str
    code: str


def blocks(page: Path) -> list[Block]:
    """All of a page, in order."""
    found = _BLOCK.findall(page.read_text("utf-8"))
    return [Block(language, title, code) for _indent, language, title, code in found]


def script(page: Path) -> str:
    """The page's commands as one shell script that ends with the first unexpected exit code."""
    parts = ["set -euo pipefail"]
    for block in blocks(page):
        if block.language == "sh" and block.title not in NOT_RUN:
            code = block.code.rstrip("\n")
            parts.append(f"if ( {code}\n); then exit 99; fi" if block.title == FAILS else code)
    return "\n".join(parts) + "\n"
