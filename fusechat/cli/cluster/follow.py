"""Following one FuseJob until it ends, through broken connections and restarts of the API server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from fusechat.cli.cluster.connection import Cluster
from fusechat.cli.cluster.view import JobView
from fusechat.errors import (
    INTERNAL_ERROR_EXIT_CODE,
    AcceleratorOutOfMemoryError,
    FuseChatError,
    MissingInputError,
    SpecError,
    TemporaryError,
)

ROUND_SECONDS = 30
"""Longest time without a look at the FuseJob."""
PATIENCE_SECONDS = 300.0
"""How long a cluster may be out of reach."""
_PAUSE_SECONDS = 2.0
_BREATH_SECONDS = 0.5
"""Between rounds: a proxy that ends every watch at once is not to be asked without end."""
FAILED = 1
"""Exit code of a failure that has no class of its own."""


def changes(cluster: Cluster, name: str, told: Callable[[str], None]) -> Iterator[JobView]:
    """The FuseJob now, at each change, and at least every half minute; endless, but for its end.

    Interruptions of the connection are `told` and waited for. MissingInputError once it is deleted.
    """
    lost_at: float | None = None
    while True:
        try:
            job = cluster.job(name)
            yield JobView.of(job)
            lost_at = None
            for kind, changed in cluster.changes(job, ROUND_SECONDS):
                if kind == "DELETED":
                    raise MissingInputError(f"The FuseJob {name} was deleted.", hint="Its outputs are kept.")
                yield JobView.of(changed)
            time.sleep(_BREATH_SECONDS)
        except TemporaryError as error:
            if lost_at is None:
                lost_at = time.monotonic()
                told(error.message)
            if time.monotonic() - lost_at > PATIENCE_SECONDS:
                raise
            time.sleep(_PAUSE_SECONDS)


def until_end(views: Iterator[JobView]) -> Iterator[JobView]:
    """The same, ending with the one in which the job is Complete or Failed."""
    for view in views:
        yield view
        if view.end:
            return


def exit_code(view: JobView) -> int:
    """0 if it is Complete; else the exit code that the first failed stage's reason stands for, or 1."""
    if view.end == "Complete":
        return 0
    failed = (stage.reason for stage in view.status.stages if stage.state == "Failed")
    reasons = [*failed, *(condition.reason for condition in view.true_conditions)]
    codes = _codes()
    return next((codes[reason] for reason in reasons if reason in codes), FAILED)


def _codes() -> Mapping[str, int]:
    """Reason -> exit code: the names of the errors, without `Error`, and where fusechat.plan.messages has another."""
    codes = {
        "OutOfMemory": AcceleratorOutOfMemoryError.exit_code,
        "InvalidSpec": SpecError.exit_code,
        "Internal": INTERNAL_ERROR_EXIT_CODE,
    }
    kinds = [FuseChatError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        codes[kind.__name__.removesuffix("Error")] = kind.exit_code
    return codes
