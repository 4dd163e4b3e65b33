"""The chain of policies: the first that has something to say decides.

gone        the FuseJob is being deleted, or its children are not known yet: nothing
ended       complete or failed, and neither edited nor retried since: stays so; its TTL
under way   an invalid spec: what runs is stopped. Its plan not known: prepare runs, other stages go on, none
            starts. Its plan known: stages run by their inputs until all are complete or one has failed
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from fuse_operator.model import Decision, DeleteFuseJob, Object, Observed
from fuse_operator.reconcile import conditions, reasons, removal
from fuse_operator.reconcile.edits import is_retried, renewed
from fuse_operator.reconcile.graph import graph_of
from fuse_operator.reconcile.input import ReconcileInput
from fuse_operator.reconcile.notation import seconds_until
from fuse_operator.reconcile.passes import reconcile_active
from fuse_operator.reconcile.timing import end_of_life
from fuse_operator.reconcile.views import ReasonMessage
from fuse_operator.reconcile.writing import stopped
from fusechat.errors import SpecError
from fusechat.manifests import WorkerSettings

Policy = Callable[[ReconcileInput], Decision | None]


def reconcile(fusejob: Object, observed: Observed, now: datetime, worker: WorkerSettings) -> Decision:
    """What to do about a FuseJob. Pure: the same input, the same decision.

    `fusejob` is the whole resource as the API server has it, with its last written status. A decision rests on what was
    written: where a pass ends a run, it writes that down, and the next one, on the written status, deletes.
    """
    given = ReconcileInput(fusejob, observed, now, worker)
    for policy in CHAIN:
        decision = policy(given)
        if decision is not None:
            return decision
    raise AssertionError("the last policy always decides")


def _gone(given: ReconcileInput) -> Decision | None:
    return Decision() if given.deleting or not given.observed.synced else None


def _ended(given: ReconcileInput) -> Decision | None:
    """Terminal is sticky for a generation: no child that comes or goes makes an ended job start again."""
    before = given.before
    is_complete = conditions.is_true(before.conditions, "Complete")
    has_failed = conditions.is_true(before.conditions, "Failed")
    if before.observed_generation != given.generation or not (is_complete or has_failed):
        return None
    if has_failed and is_retried(given):
        return None
    end = end_of_life(before, given.spec.get("ttlSecondsAfterFinished"))
    if end is not None and given.now >= end:
        return Decision(actions=(DeleteFuseJob(given.owner.uid),))
    after = None if end is None else seconds_until(end, given.now)
    return Decision(actions=tuple(removal.running_jobs(given)), requeue_after=after)


def _under_way(given: ReconcileInput) -> Decision:
    """The CRD's own rules should have refused an invalid spec; an older CRD, or one that was altered, may not have."""
    try:
        graph = graph_of(given)
    except SpecError as error:
        return stopped(given, renewed(given), ReasonMessage(reasons.INVALID_SPEC, str(error)))
    return reconcile_active(given, graph)


CHAIN: tuple[Policy, ...] = (_gone, _ended, _under_way)
