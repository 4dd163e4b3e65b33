"""A planned stage and its kind: typed parameters and settings, inputs, digest, command.

What each kind takes and how it is planned is in `fusechat.plan.kinds`, one module per kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from fusechat.canonical import canonical_json
from fusechat.plan.values import to_json

if TYPE_CHECKING:
    from fusechat.plan.draft import PlanDraft

PLAN_FORMAT_VERSION = 2
"""Part of every digest: raise it when the same parameters come to mean another result or file layout."""
DIGEST_DIGITS = 12
"""Of a stage's SHA-256, in labels and messages."""

P = TypeVar("P", covariant=True, default=Any)
S = TypeVar("S", covariant=True, default=Any)


@dataclass(frozen=True)
class Resources:
    """What a stage needs to run; in no digest."""

    gpus: int = 0
    """Accelerators of one worker or training process group on one node."""
    nodes: int = 1
    processes_per_node: int = 1
    threads: int = 1
    """CPU threads per process."""
    memory_bytes: int = 0
    """Estimated peak of one worker's process on the host (CPU runs) or of its accelerators together; 0: unknown."""
    storage_bytes: int = 0
    """Estimated size of the output; 0: unknown."""


@dataclass(frozen=True)
class StageKind(Generic[P, S]):
    """One kind of stage: everything that plan, executors and manifests need to know of it."""

    name: str
    """Also the folder of its outputs, `stages/<kind>/`."""
    parameters: type[P]
    """Everything of the job and its pins that changes the result: all of it is in the digest."""
    settings: type[S]
    """What else the stage needs to know: locations, batch budgets, names. None of it is in the digest."""
    module: str
    """Does the work: `run(context)`, imported only by the process that runs the stage."""
    plan: Callable[[PlanDraft], None]
    """Adds the stages of this kind to a plan."""
    resources: Callable[[PlannedStage[Any, Any], PlanDraft], Resources]
    """What one of its stages needs."""
    after: tuple[str, ...] = ()
    """Kinds whose stages are planned before: those it may read."""
    sharded: bool = False
    """Whether n workers can share it chunk by chunk."""
    needs_torch: bool = False
    """Whether its process imports torch, which takes seconds: the local executor forks such processes from one that
    has done so."""
    grace_seconds: int = 30
    """Time to save what it has after SIGTERM, on a cluster."""


@dataclass(frozen=True)
class PlannedStage(Generic[P, S]):
    """One stage of a plan."""

    name: str
    """Unique in the plan, such as `extract-<model>`; in no digest and no path."""
    kind: StageKind[P, S]
    parameters: P
    settings: S
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Role -> name of the stage whose output plays it."""
    subject: str = ""
    """What it is about, by its name in the job: a model, a source, a merge method, a stage; empty if there is one such
    stage alone."""
    digest: str | None = None
    """SHA-256; None where something it depends on is not pinned."""
    workers: int = 1
    """Workers of a sharded stage; 1 otherwise."""
    resources: Resources = Resources()

    @property
    def sharded(self) -> bool:
        """Whether n workers can share it chunk by chunk."""
        return self.kind.sharded

    @property
    def key(self) -> str:
        """First digits of the digest: how stages that read its output name it, and tell it from others of its role."""
        return (self.digest or "")[:DIGEST_DIGITS]

    def argv(self, plan_uri: str, *, worker: int | str = 0) -> list[str]:
        """The command of one worker's process, the same on a laptop and in a container. `worker`: its number, or the
        name under which a container will know it."""
        command = ["fusechat", "stage", self.name, "--plan", plan_uri]
        return [*command, "--worker", f"{worker}/{self.workers}"] if self.sharded else command


def keyed(stages: Iterable[PlannedStage[Any, Any]]) -> dict[str, PlannedStage[Any, Any]]:
    """Each stage by its key; where a job has one content under two names, a number tells the second from the first."""
    found: dict[str, PlannedStage[Any, Any]] = {}
    for stage in stages:
        key, number = stage.key or stage.name, 1
        while key in found:
            number += 1
            key = f"{stage.key}-{number}"
        found[key] = stage
    return found


def stage_digest(kind: str, parameters: Any, inputs: Mapping[str, str]) -> str:
    """SHA-256 of canonical JSON of kind, format version, parameters (a stage value) and the digests of the inputs by
    role."""
    value: dict[str, Any] = {
        "kind": kind,
        "formatVersion": PLAN_FORMAT_VERSION,
        "parameters": to_json(parameters),
        "inputs": dict(inputs),
    }
    return hashlib.sha256(canonical_json(value)).hexdigest()
