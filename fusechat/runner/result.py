"""Whether the model that a run ends with is, byte for byte, the one its manifest promises."""

from __future__ import annotations

import queue
from collections import Counter

from fusechat.plan import PlannedStage
from fusechat.runner.child import Events, StopAsked
from fusechat.runner.observer import Observer
from fusechat.storage.base import Storage
from fusechat.storage.verifying import stored_stage, verify
from fusechat.worker.context import stage_directory
from fusechat.worker.layout import MODEL


class StopAskedError(Exception):
    """Somebody wants the runner to end while it reads."""

    def __init__(self, request: StopAsked) -> None:
        super().__init__(request)
        self.request = request


def model_damage(storage: Storage, result: PlannedStage, observer: Observer, events: Events) -> str:
    """Why the result's model must be made again; its manifest is withdrawn then. Empty if every byte is right.

    StopAskedError when `events`, the queue of a runner without children, asks to stop.
    """
    stored = stored_stage(stage_directory(storage, result), below=f"{MODEL}/")
    if stored is None:
        return "its manifest is gone"
    done: Counter[str] = Counter()

    def on_read(count: int) -> None:
        done["bytes"] += count
        observer.verifying(result, done["bytes"], stored.bytes)
        _raise_stop(events)

    found = verify(stored, on_read)
    if found.damaged:
        return f"{found.damaged[0].uri}: {found.damaged[0].reason}"
    observer.verified(result, found.files, found.bytes)
    return ""


def _raise_stop(events: Events) -> None:
    try:
        event = events.get_nowait()
    except queue.Empty:
        return
    if isinstance(event, StopAsked):
        raise StopAskedError(event)
