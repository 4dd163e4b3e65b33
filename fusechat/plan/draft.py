"""A plan in the making: the job, its pins, and the stages planned so far, each with its digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fusechat.errors import UsageError
from fusechat.pins import ModelPin, Pins
from fusechat.plan.stages import PlannedStage, StageKind, stage_digest
from fusechat.spec.job import FuseJob

P = TypeVar("P")
S = TypeVar("S")


class PlanDraft:
    """What the planners of the kinds read and add to."""

    def __init__(self, job: FuseJob, pins: Pins) -> None:
        self.job = job
        self.spec = job.spec
        self.pins = pins
        self.stages: list[PlannedStage] = []
        self._by_name: dict[str, PlannedStage] = {}

    def of(self, kind: str) -> list[PlannedStage]:
        """Stages of one kind, in the order they were planned."""
        return [stage for stage in self.stages if stage.kind.name == kind]

    @property
    def result(self) -> str:
        """Name of the stage that makes the job's result: the first merge, or the first target where none is."""
        return (self.of("merge") or self.of("fuse"))[0].name

    def stage(self, name: str) -> PlannedStage:
        """A stage that is planned already."""
        return self._by_name[name]

    def pin(self, model: str) -> ModelPin | None:
        """The pin of a model by its name in the job."""
        return self.pins.models.get(model)

    def add(
        self,
        kind: StageKind[P, S],
        name: str,
        parameters: P,
        settings: S,
        *,
        inputs: Mapping[str, str] | None = None,
        subject: str = "",
        pinned: bool = True,
        workers: int = 1,
    ) -> PlannedStage[P, S]:
        """Plans a stage. It has a digest if everything its parameters name is `pinned` and all its inputs have one."""
        if name in self._by_name:
            raise UsageError(f"Two stages are called {name}.", hint="Rename one of the models or methods.")
        roles = dict(inputs or {})
        digests = {role: self._by_name[stage].digest for role, stage in roles.items()}
        known = {role: digest for role, digest in digests.items() if digest is not None}
        resolved = pinned and len(known) == len(digests)
        digest = stage_digest(kind.name, parameters, known) if resolved else None
        stage = PlannedStage(name, kind, parameters, settings, roles, subject, digest, workers)
        stage = replace(stage, resources=kind.resources(stage, self))
        self.stages.append(stage)
        self._by_name[name] = stage
        return stage


def in_order_of_content(stages: Sequence[PlannedStage[Any, Any]]) -> list[PlannedStage[Any, Any]]:
    """By digest, so that names and the order of a file change nothing; as given while one has none."""
    if any(stage.digest is None for stage in stages):
        return list(stages)
    return sorted(stages, key=lambda stage: str(stage.digest))


def by_role(role: str, stages: Sequence[PlannedStage[Any, Any]]) -> dict[str, str]:
    """`role:0`, `role:1`, ... -> name, in the order of content."""
    return {f"{role}:{number}": stage.name for number, stage in enumerate(in_order_of_content(stages))}
