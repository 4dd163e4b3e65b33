"""How a stage's process ends, for whoever started the pod: the termination message of fusechat.plan.messages.

It is written to the file that $FUSECHAT_TERMINATION_MESSAGE_PATH names (in a pod /dev/termination-log); without it, as
on a laptop, nothing is written.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fusechat.plan import PlannedStage
from fusechat.plan.messages import ErrorSummary, PlanSummary, StageMessage
from fusechat.plan.stages import DIGEST_DIGITS
from fusechat.worker import detection
from fusechat.worker.clock import process_start_time

MESSAGE_PATH = "FUSECHAT_TERMINATION_MESSAGE_PATH"


@dataclass
class Ending:
    """What is known of this process so far."""

    stage: str = ""
    digest: str = ""
    """First 12 digits; empty until the plan was read."""
    gpus: int = 0
    """Accelerators that this process's pod asked for."""
    cached: bool = False
    resumed_from_step: int | None = None
    plan: PlanSummary | None = None

    def concerns(self, stage: PlannedStage) -> None:
        """It is this stage that runs here."""
        self.digest = (stage.digest or "")[:DIGEST_DIGITS]
        self.gpus = stage.resources.gpus

    def message(self, error: BaseException | None) -> StageMessage:
        """The message, if the process ended now."""
        return StageMessage(
            stage=self.stage,
            digest=self.digest,
            gpu_seconds=round(detection.used_accelerators(self.gpus) * (time.time() - process_start_time())),
            cached=self.cached,
            resumed_from_step=self.resumed_from_step,
            error=None if error is None else ErrorSummary.of(error),
            plan=self.plan,
        )


@contextmanager
def termination_message(ending: Ending) -> Iterator[Ending]:
    """Writes the message when the block ends, however it ends."""
    try:
        yield ending
    except Exception as error:
        _write(ending.message(error))
        raise
    _write(ending.message(None))


def _write(message: StageMessage) -> None:
    path = os.environ.get(MESSAGE_PATH)
    if not path:
        return
    try:
        Path(path).write_text(message.to_text(), encoding="utf-8")
    except OSError as error:  # the stage's own end matters more
        print(f"warning: no termination message could be written to {path}: {error}", file=sys.stderr)
