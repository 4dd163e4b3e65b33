"""Why a stage that was complete is to be made again."""

from __future__ import annotations

import json

from fusechat.storage.outputs import StageDirectory


def withdrawal_reason(directory: StageDirectory) -> str:
    """What the process that withdrew the manifest, or a part, gave as the reason last; empty if none ever was."""
    keys = [info.key for info in directory.storage.list(f"{directory.key}/withdrawn/")]
    if not keys:
        return ""
    newest = max(keys, key=lambda key: int(key.rpartition("/")[2].removesuffix(".json")))
    return str(json.loads(directory.storage.read(newest)).get("reason", ""))
