"""Where the outputs of a job's stages lie in a directory, by the names that its plan gives them."""

from __future__ import annotations

import json
from pathlib import Path


def stage_directories(storage: Path) -> dict[str, Path]:
    """Name of a stage -> where its output is, or would be; of several plans the newest says."""
    found = {}
    for path in sorted((storage / "plans").glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            stages = json.loads(path.read_bytes())["stages"]
        except (ValueError, TypeError, RecursionError):
            continue  # a test damaged it
        for stage in stages:
            found[stage["name"]] = storage / address(stage["kind"], stage["digest"])
    return found


def address(kind: str, digest: str) -> str:
    """The key of a stage's directory."""
    return f"stages/{kind}/{digest}"
