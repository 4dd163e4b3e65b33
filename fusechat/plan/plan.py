"""The plan as a value and as a document. Which stage follows which is decided by the kinds alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fusechat.canonical import canonical_json
from fusechat.errors import ConfigurationError, InvalidDataError, UsageError
from fusechat.plan.kinds import KINDS
from fusechat.plan.stages import PLAN_FORMAT_VERSION, PlannedStage, Resources
from fusechat.plan.values import from_json, to_json


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
        raise UsageError(f"The plan has no stage {name!r}.", hint=f"Its stages: {names}.")

    def upstream(self, name: str) -> tuple[PlannedStage, ...]:
        """That stage and every stage that it depends on, directly or not, in the plan's order."""
        needed = {self.stage(name).name}
        for stage in reversed(self.stages):
            if stage.name in needed:
                needed.update(stage.inputs.values())
        return tuple(stage for stage in self.stages if stage.name in needed)

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
                hint="Use the fusechat version (or worker image) that made the plan, or plan the job anew.",
            )
        try:
            stages = tuple(_stage_from_json(stage) for stage in value["stages"])
            return cls(value["job"], stages, value["pins"], value["result"], value["seed"])
        except _NOT_A_PLAN as error:
            raise _damaged(error) from error


_NOT_A_PLAN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def _damaged(error: Exception) -> InvalidDataError:
    return InvalidDataError(
        f"The plan document is damaged: it is no plan ({type(error).__name__}).", hint="Plan the job anew."
    )


_PLAIN = ("name", "subject", "digest", "workers")


def _stage_json(stage: PlannedStage) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in _PLAIN} | {
        "kind": stage.kind.name,
        "parameters": to_json(stage.parameters),
        "settings": to_json(stage.settings),
        "inputs": dict(stage.inputs),
        "resources": asdict(stage.resources),
    }


def _stage_from_json(value: Mapping[str, Any]) -> PlannedStage:
    name, kind = value["name"], KINDS.get(value["kind"])
    if kind is None:
        raise InvalidDataError(
            f"Stage {name} is of kind {value['kind']!r}; this fusechat knows {', '.join(KINDS)}.",
            hint="Use the fusechat version (or worker image) that made the plan.",
        )
    return PlannedStage(
        **{plain: value[plain] for plain in _PLAIN},
        kind=kind,
        parameters=from_json(kind.parameters, value["parameters"], f"Stage {name} of the plan, parameters"),
        settings=from_json(kind.settings, value["settings"], f"Stage {name} of the plan, settings"),
        inputs=dict(value["inputs"]),
        resources=Resources(**value["resources"]),
    )
