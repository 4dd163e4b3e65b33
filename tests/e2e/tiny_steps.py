"""Fixtures: the FuseJob `tiny`, carried on step by step by whoever needs a step, so that each stage runs once.

It cannot be scheduled, is fixed, suspended and resumed, runs out of memory, is fixed, gets another source, is
deleted, is applied again, and goes when its time to live is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest

from tests.cluster import tiny_job
from tests.cluster.cluster import until
from tests.cluster.demo_job import Bucket
from tests.cluster.fusejobs import Manifest, condition, stage
from tests.cluster.user import SECONDS, User
from tests.e2e.held import hold

_NOWHERE = {"stages": ["extract-a"], "nodeSelector": {"example.org/pool": "gone"}}
_CRAMPED = {
    "stages": ["evaluate-fuse-a"],
    "resources": {"requests": {"memory": "100Mi"}, "limits": {"memory": "100Mi"}},
}
_ROOMY = {"stages": ["evaluate-fuse-a"], "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "4Gi"}}}
_BOTH = ("a", "b")


@pytest.fixture(scope="session")
def tiny_waiting(user: User, tiny_bucket: Bucket) -> Manifest:
    """No node is as `extract-a` wants it."""
    user.apply(tiny_job.job(tiny_bucket, "tiny", _NOWHERE, _CRAMPED))
    return user.until("tiny", _extraction_waits)


def _extraction_waits(job: Manifest) -> bool:
    return "extract-a" in said(job, "Reconciling").get("message", "")


def said(job: Manifest, kind: str) -> dict[str, str]:
    """A condition."""
    return next(each for each in job["status"]["conditions"] if each["type"] == kind)


@dataclass(frozen=True)
class Orphaned:
    """A Job before it was deleted and after it came back, and the pod that the first one left."""

    before: Manifest
    pod: Manifest
    after: Manifest


@pytest.fixture(scope="session")
def tiny_orphaned(user: User, tiny_waiting: Manifest) -> Orphaned:
    """The Job of `extract-a` is deleted by hand in the way that leaves its pod behind."""
    (before,) = user.of("jobs", tiny_waiting, "extract-a")
    (pod,) = user.of("pods", tiny_waiting, "extract-a")
    user.kubectl("delete", "job", before["metadata"]["name"], "--cascade=orphan")
    (after,) = until(lambda: user.of("jobs", tiny_waiting, "extract-a"), "the Job's return", SECONDS)
    return Orphaned(before, pod, after)


@pytest.fixture(scope="session")
def tiny_suspended_twice(user: User, tiny_orphaned: Orphaned) -> Manifest:
    """And resumed as often."""
    assert not tiny_orphaned.after["status"].get("succeeded")
    for _ in range(2):
        user.fusechat("suspend", "tiny")
        user.until("tiny", lambda job: condition(job, "Suspended") == "True")
        user.fusechat("resume", "tiny")
        job = user.until("tiny", _extraction_waits)
    return job


@dataclass(frozen=True)
class Interrupted:
    """A FuseJob that was suspended while a pod of its ran, and the Kubernetes Job of that pod."""

    fusejob: Manifest
    job: Manifest


@pytest.fixture(scope="session")
def tiny_interrupted(user: User, tiny_bucket: Bucket, tiny_suspended_twice: Manifest) -> Interrupted:
    """Mended of the node selector, it is suspended in the midst of `fuse-a`, which one pod carries out."""
    assert condition(tiny_suspended_twice, "Suspended") == "False"
    user.apply(tiny_job.job(tiny_bucket, "tiny", _CRAMPED))
    training = hold(user.cluster, 1, r"\S*python\S* \S*fusechat stage fuse-a ")
    user.until("tiny", lambda job: stage(job, "fuse-a").get("state") == "Running")
    user.fusechat("suspend", "tiny")
    suspended = user.until("tiny", lambda job: condition(job, "Suspended") == "True")
    training.release_once_signalled()
    until(lambda: not user.of("pods", suspended, "fuse-a"), "the end of the pod", SECONDS)
    (job,) = user.of("jobs", suspended, "fuse-a")
    return Interrupted(user.until("tiny", lambda job: condition(job, "Suspended") == "True"), job)


@pytest.fixture(scope="session")
def tiny_out_of_memory(user: User, tiny_interrupted: Interrupted) -> Manifest:
    """Resumed, it meets a memory limit that is too low."""
    assert condition(tiny_interrupted.fusejob, "Failed") == "False"
    user.fusechat("resume", "tiny")
    return user.until_ended("tiny")


@pytest.fixture(scope="session")
def tiny_complete(user: User, tiny_bucket: Bucket, tiny_out_of_memory: Manifest) -> Manifest:
    """Mended of the limit."""
    assert condition(tiny_out_of_memory, "Failed") == "True"
    user.apply(tiny_job.job(tiny_bucket, "tiny", _ROOMY))
    return user.until_complete("tiny")


@dataclass(frozen=True)
class Edited:
    """The FuseJob after an edit, and the stages that ran for it."""

    job: Manifest
    ran: list[str]


@pytest.fixture(scope="session")
def tiny_grown(user: User, tiny_bucket: Bucket, tiny_complete: Manifest) -> Edited:
    """With a second source."""
    assert condition(tiny_complete, "Complete") == "True"
    return _applied(user, tiny_job.job(tiny_bucket, "tiny", _ROOMY, sources=_BOTH))


def _applied(user: User, document: Manifest) -> Edited:
    before = len(user.created("tiny"))
    user.apply(document)
    return Edited(user.until_complete("tiny"), user.created("tiny")[before:])


@dataclass(frozen=True)
class Remade:
    """A FuseJob that was deleted and applied again; what there was of outputs before and after the deletion."""

    edit: Edited
    outputs_before: list[str]
    outputs_after: list[str]


@pytest.fixture(scope="session")
def tiny_remade(user: User, tiny_bucket: Bucket, tiny_grown: Edited) -> Remade:
    """Deleted, all its children gone, and applied again."""
    before = tiny_bucket.keys("outputs/stages/")
    user.kubectl("delete", "fusejob", "tiny")
    _until_childless(user, tiny_grown.job)
    after = tiny_bucket.keys("outputs/stages/")
    edit = _applied(user, tiny_job.job(tiny_bucket, "tiny", _ROOMY, sources=_BOTH))
    return Remade(edit, before, after)


def _until_childless(user: User, job: Manifest) -> None:
    for kind in ("jobs", "pods", "configmaps", "services"):
        until(partial(_none, user, kind, job), f"the end of all {kind}", SECONDS)


def _none(user: User, kind: str, job: Manifest) -> bool:
    return not user.of(kind, job)


@pytest.fixture(scope="session")
def tiny_outlived(user: User, tiny_remade: Remade) -> None:
    """A time to live is set, and over at once. Raises TimeoutError where it does not go."""
    user.kubectl("patch", "fusejob", "tiny", "--type=merge", '--patch={"spec":{"ttlSecondsAfterFinished":0}}')
    until(lambda: "tiny" not in _names(user), "the FuseJob's end", SECONDS)
    _until_childless(user, tiny_remade.edit.job)


def _names(user: User) -> list[str]:
    return [job["metadata"]["name"] for job in user.cluster.list("fusejobs", user.namespace)]
