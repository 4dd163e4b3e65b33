"""Why a stage that was complete is to be made again."""

from __future__ import annotations

import json

from fusechat.storage.outputs import StageDirectory


def withdrawal_reason(directory: StageDirectory) -> str:
    """What the process that withdrew the manifest, or a part, gave as the reason last; empty if none ever was."""
    names = [info.key.rpartition("/")[2].removesuffix(".json") for info in directory.storage.list(_prefix(directory))]
    numbers = [int(name) for name in names if name.isdecimal()]
    if not numbers:
        return ""
    try:
        document = json.loads(directory.storage.read(f"{_prefix(directory)}{max(numbers)}.json"))
    except (ValueError, RecursionError):
        return ""
    return str(document.get("reason", "")) if isinstance(document, dict) else ""


def _prefix(directory: StageDirectory) -> str:
    return f"{directory.key}/withdrawn/"
