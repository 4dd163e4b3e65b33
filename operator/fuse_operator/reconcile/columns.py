"""The strings of kubectl's columns, and the result."""

from __future__ import annotations

from collections.abc import Sequence

from fuse_operator.reconcile.graph import Graph
from fusechat.spec.status import PlanStatus, ResultStatus, StageStatus

WIDTH = 256
SHOWN = 3


def stage_column(entries: Sequence[StageStatus]) -> str:
    """What goes on; else what waits; else what failed."""
    for states in (("Running",), ("Pending",), ("Failed",), ("Suspended",)):
        names = [entry.name for entry in entries if entry.state in states]
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            return (", ".join(names[:SHOWN]) + more)[:WIDTH]
    return ""


def progress_column(entries: Sequence[StageStatus]) -> str:
    """Complete stages of all."""
    return f"{sum(entry.state == 'Complete' for entry in entries)}/{len(entries)}"


def result(
    graph: Graph, plan: PlanStatus, entries: Sequence[StageStatus], before: ResultStatus | None
) -> ResultStatus | None:
    """Where the fused model lies, once its stage is complete."""
    done = any(entry.name == graph.result and entry.state == "Complete" for entry in entries)
    if not done:
        return before if before and before.digest == plan.result else None
    root = graph.job.spec.storage.uri.rstrip("/")
    kind = graph.stages[graph.index[graph.result]].kind.name
    return ResultStatus(uri=f"{root}/stages/{kind}/{plan.result}", digest=plan.result)
