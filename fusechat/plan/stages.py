"""The plan as a value: stages, digests, JSON. Which stage follows which is decided in fusechat.plan.build alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fusechat.canonical import canonical_json
from fusechat.errors import ConfigurationError, InvalidDataError, UsageError

PLAN_FORMAT_VERSION = 1
"""Part of every digest: raise it when the same parameters come to mean another result or file layout."""

StageKind = Literal["prepare", "extract", "align", "fuse", "merge", "evaluate", "report", "publish"]


@dataclass(frozen=True)
class Resources:
    """What a stage needs to run; in no digest."""

    gpus: int = 0
    """Accelerators of one worker or training process group on one node."""
    nodes: int = 1
    processes_per_node: int = 1
    threads: int = 1
    """CPU threads a process."""
    memory_bytes: int = 0
    """Estimated peak of one worker's process on the host (CPU runs) or of its accelerators together; 0: unknown."""
    storage_bytes: int = 0
    """Estimated size of the output; 0: unknown."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan."""

    name: str
    kind: StageKind
    parameters: Mapping[str, Any]
    """Everything of the job and its pins that changes the result; in the digest."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else the stage needs to know and what changes no result: URIs, batch budgets. Not in the digest."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Role -> name of the stage whose output plays it."""
    digest: str | None = None
    """SHA-256; None where something it depends on is not pinned."""
    workers: int = 1
    """Workers of a sharded stage (extract, align); 1 otherwise."""
    resources: Resources = Resources()

    @property
    def sharded(self) -> bool:
        """Whether n workers can share it chunk by chunk."""
        return self.kind in ("extract", "align")

    def argv(self, plan_uri: str, *, worker: int | str = 0) -> list[str]:
        """The command of one worker's process, the same on a laptop and in a container. `worker`: its number, or the
        name under which a container will know it."""
        command = ["fusechat", "stage", self.name, "--plan", plan_uri]
        return [*command, "--worker", f"{worker}/{self.workers}"] if self.sharded else command


def stage_digest(kind: StageKind, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """SHA-256 of canonical JSON of kind, format version, parameters and the digests of the inputs by role."""
    value = {"kind": kind, "formatVersion": PLAN_FORMAT_VERSION, "parameters": parameters, "inputs": inputs}
    return hashlib.sha256(canonical_json(value)).hexdigest()


@dataclass(frozen=True)
class Plan:
    """The DAG of stages, in an order in which every stage comes after its inputs."""

    job: str
    stages: tuple[PlannedStage, ...]
    pins: Mapping[str, Any]
    """`Pins.to_json()`: the lock of the plan."""
    result: str
    """Name of the stage whose `model/` is the job's result."""
    seed: int = 0

    def stage(self, name: str) -> PlannedStage:
        """The stage of that name. UsageError, naming all there are, if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = ", ".join(stage.name for stage in self.stages)
        raise UsageError(f"The plan has no stage {name!r}.", mend=f"Its stages: {names}.")

    @property
    def is_resolved(self) -> bool:
        """Whether every stage has a digest."""
        return all(stage.digest for stage in self.stages)

    @property
    def digest(self) -> str:
        """SHA-256 of the plan document."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def key(self) -> str:
        """Where the plan document lies in the job's storage."""
        return f"plans/{self.digest}.json"

    def to_bytes(self) -> bytes:
        """The plan document, canonical JSON."""
        return canonical_json(
            {
                "formatVersion": PLAN_FORMAT_VERSION,
                "job": self.job,
                "seed": self.seed,
                "result": self.result,
                "pins": self.pins,
                "stages": [_stage_json(stage) for stage in self.stages],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """Inverse of `to_bytes`. ConfigurationError for another format version, InvalidDataError for anything else."""
        try:
            value = json.loads(data)
            version = value["formatVersion"]
        except _NOT_A_PLAN as error:
            raise _damaged(error) from error
        if version != PLAN_FORMAT_VERSION:
            raise ConfigurationError(
                f"The plan has format version {version}, this fusechat reads {PLAN_FORMAT_VERSION}.",
                mend="Use the fusechat version (or worker image) that made the plan, or plan the job anew.",
            )
        try:
            stages = tuple(_stage_from_json(stage) for stage in value["stages"])
            return cls(value["job"], stages, value["pins"], value["result"], value["seed"])
        except _NOT_A_PLAN as error:
            raise _damaged(error) from error


_NOT_A_PLAN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def _damaged(error: Exception) -> InvalidDataError:
    return InvalidDataError(
        f"The plan document is damaged: it is no plan ({type(error).__name__}).", mend="Plan the job anew."
    )


def _stage_json(stage: PlannedStage) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in _STAGE_FIELDS} | {"resources": vars(stage.resources)}


def _stage_from_json(value: Mapping[str, Any]) -> PlannedStage:
    fields = {name: value[name] for name in _STAGE_FIELDS}
    return PlannedStage(**fields, resources=Resources(**value["resources"]))


_STAGE_FIELDS = ("name", "kind", "parameters", "settings", "inputs", "digest", "workers")
