"""Fixtures: the FuseJob `gang`, which trains in two pods, carried on step by step by whoever needs a step.

Meanwhile the chart is upgraded, the leading operator killed, the node drained, the job suspended and resumed. Its
training processes stand still (SIGSTOP) while something is done to them, so that it meets them in the midst of training
however fast the machine is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from tests.cluster import installation, tiny_job
from tests.cluster.cluster import until
from tests.cluster.demo_job import Bucket
from tests.cluster.fusejobs import Manifest, condition, stage
from tests.cluster.user import SECONDS, User
from tests.e2e.held import Held, hold

GANG = "fuse-a"
"""The stage that two pods carry out."""


@dataclass(frozen=True)
class Seen:
    """The gang before and after something happened to it or to the operator."""

    before: list[Manifest]
    after: list[Manifest]
    job: Manifest


def uids(items: list[Manifest]) -> set[str]:
    """Which objects these are."""
    return {item["metadata"]["uid"] for item in items}


@dataclass(frozen=True)
class Standing:
    """The FuseJob while both its training processes stand still in the midst of training."""

    job: Manifest
    training: Held


@pytest.fixture(scope="session")
def gang_training(user: User, tiny_bucket: Bucket, tiny_complete: Manifest) -> Standing:
    """It has written a checkpoint and stands still. What comes before training is there."""
    assert stage(tiny_complete, "align-a")["state"] == "Complete"
    fusion = {"nodes": 2, "processesPerNode": 1, "deepspeed": {"zeroStage": 2}, "epochs": 60, "saveSteps": 5}
    user.apply(tiny_job.job(tiny_bucket, "gang", fusion=fusion, merge={"methods": []}))
    return _stopped_after_a_checkpoint(user, tiny_bucket)


def _stopped_after_a_checkpoint(user: User, bucket: Bucket) -> Standing:
    """They are held before their first step, and come to a checkpoint by fits and starts."""
    step = _last_checkpoint(bucket)
    training = hold(user.cluster, 2, r"\S*python\S* -u -m fusechat\.fusion\.train_process ")

    def saved() -> bool:
        training.run_for(0.5)
        return _last_checkpoint(bucket) > step

    until(saved, "a checkpoint", SECONDS)
    return Standing(user.until("gang", _trains), training)


def _trains(job: Manifest) -> bool:
    return bool(stage(job, GANG).get("state") == "Running")


def _last_checkpoint(bucket: Bucket) -> int:
    """Its step; 0 if there is none."""
    steps = [key.rpartition("/step-")[2] for key in bucket.keys("outputs/checkpoints/") if key.endswith("/commit.json")]
    return max((int(step.partition("/")[0]) for step in steps), default=0)


def _operators(user: User) -> list[Manifest]:
    selector = "app.kubernetes.io/name=fusechat,app.kubernetes.io/component=operator"
    return user.cluster.list("pods", installation.NAMESPACE, selector)


def _leader(user: User) -> str:
    """Name of the pod that acts."""
    lease = user.cluster.get("lease", "fusechat", installation.NAMESPACE)
    return str(lease["spec"].get("holderIdentity") or "")


@pytest.fixture(scope="session")
def gang_upgraded(user: User, gang_training: Standing) -> Seen:
    """`helm upgrade` with another log level: every operator pod is replaced."""
    before, operators = user.of("pods", gang_training.job, GANG), uids(_operators(user))
    flags = ("--reuse-values", "--set=log.level=debug", "--wait")
    chart = str(installation.CHART)
    user.cluster.helm("upgrade", "fusechat", chart, f"--namespace={installation.NAMESPACE}", *flags)
    until(lambda: not operators & uids(_operators(user)), "the end of the old operators", SECONDS)
    until(lambda: _leads_one_of(user, _operators(user)), "a leader of the new version", SECONDS)
    return Seen(before, user.of("pods", gang_training.job, GANG), _now(user, "gang"))


@pytest.fixture(scope="session")
def gang_bereft(user: User, gang_upgraded: Seen) -> Seen:
    """The leading operator's pod is gone without a word."""
    leader = _leader(user)
    name = leader.rpartition("_")[0]
    user.cluster.kubectl(
        "delete", "pod", name, f"--namespace={installation.NAMESPACE}", "--grace-period=0", "--force", "--wait=false"
    )
    until(lambda: _leader(user) not in ("", leader), "another leader", SECONDS)
    return Seen(gang_upgraded.after, user.of("pods", gang_upgraded.job, GANG), _now(user, "gang"))


@pytest.fixture(scope="session")
def gang_drained(user: User, tiny_bucket: Bucket, gang_training: Standing, gang_bereft: Seen) -> Standing:
    """The node gives up the gang, and takes it again once it is uncordoned; training stands still in its second run."""
    (node,) = user.cluster.list("nodes")
    name = node["metadata"]["name"]
    selector = f"fusechat.dev/job=gang,fusechat.dev/stage={GANG}"
    drain = ["drain", name, f"--pod-selector={selector}", "--delete-emptydir-data", "--timeout=300s"]
    with _meanwhile(user.cluster.kubectl, *drain):
        _stopping(user, gang_bereft.job)
        gang_training.training.release_once_asked()
    user.cluster.kubectl("uncordon", name)
    again = _stopped_after_a_checkpoint(user, tiny_bucket)
    return replace(again, job=user.until("gang", lambda job: _trains(job) and stage(job, GANG).get("preemptions")))


@pytest.fixture(scope="session")
def gang_suspended(user: User, gang_drained: Standing) -> Manifest:
    """By `fusechat suspend`, in the midst of training."""
    user.fusechat("suspend", "gang")
    _stopping(user, gang_drained.job)
    gang_drained.training.release_once_asked()
    until(lambda: not user.of("pods", gang_drained.job, GANG), "the end of the gang's pods", SECONDS)
    return user.until("gang", lambda job: condition(job, "Suspended") == "True")


@pytest.fixture(scope="session")
def gang_trained(user: User, gang_suspended: Manifest) -> Manifest:
    """By `fusechat resume`, to the end."""
    assert condition(gang_suspended, "Suspended") == "True"
    user.fusechat("resume", "gang")
    return user.until_complete("gang")


def _now(user: User, name: str) -> Manifest:
    return user.cluster.get("fusejob", name, user.namespace)


def _leads_one_of(user: User, operators: list[Manifest]) -> bool:
    return _leader(user).rpartition("_")[0] in {pod["metadata"]["name"] for pod in operators}


def _stopping(user: User, job: Manifest) -> None:
    """Waits until all pods of the gang have been told to stop."""

    def told() -> bool:
        pods = user.of("pods", job, GANG)
        return bool(pods) and all("deletionTimestamp" in pod["metadata"] for pod in pods)

    until(told, "pods that are told to stop", SECONDS)


@contextmanager
def _meanwhile(kubectl: Callable[..., str], *command: str) -> Iterator[None]:
    """A command that must end well, and what is done while it runs."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(kubectl, *command, timeout=SECONDS)
        yield
        running.result()
