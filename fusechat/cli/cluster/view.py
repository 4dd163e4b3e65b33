"""A FuseJob of a cluster as the commands read it, and where it stands. Pure: no request, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from fusechat.errors import ConfigurationError
from fusechat.manifests.names import RETRY
from fusechat.spec.cluster import RetrySpec
from fusechat.spec.status import Condition, ConditionType, FuseJobStatus, StageStatus

End = Literal["Complete", "Failed"]


@dataclass(frozen=True)
class JobView:
    """A FuseJob with its status."""

    name: str
    namespace: str
    uid: str
    generation: int
    storage: str
    suspend: bool
    queue: str
    attempts: int
    """How often a stage, or a worker of a sharded one, may fail."""
    retry: str
    """The annotation fusechat.dev/retry."""
    created: str
    deleting: bool
    status: FuseJobStatus

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> JobView:
        """ConfigurationError for a status that this fusechat cannot read."""
        metadata, spec = job["metadata"], job.get("spec") or {}
        try:
            status = FuseJobStatus.model_validate(job.get("status") or {}, by_alias=True, by_name=False)
        except ValidationError as error:
            raise ConfigurationError(
                f"The status of {metadata['name']} is not as this fusechat knows it: {error.errors()[0]['msg']}",
                hint="Use the fusechat of the operator's version.",
            ) from error
        return cls(
            name=metadata["name"],
            namespace=metadata.get("namespace", ""),
            uid=metadata.get("uid", ""),
            generation=int(metadata.get("generation", 0)),
            storage=str((spec.get("storage") or {}).get("uri", "")),
            suspend=bool(spec.get("suspend", False)),
            queue=str(spec.get("queueName") or ""),
            attempts=int((spec.get("retry") or {}).get("attempts") or RetrySpec().attempts),
            retry=str((metadata.get("annotations") or {}).get(RETRY, "")),
            created=metadata.get("creationTimestamp", ""),
            deleting="deletionTimestamp" in metadata,
            status=status,
        )

    @property
    def noticed(self) -> bool:
        """Whether an operator ever wrote a status."""
        return self.status.observed_generation >= 0

    @property
    def current(self) -> bool:
        """Whether the status is about the spec as it is now, and a failure is not to be tried again."""
        return self.status.observed_generation == self.generation and not self.retry_awaited

    @property
    def retry_awaited(self) -> bool:
        """Whether it failed and a wish to try again was not acted on yet."""
        return bool(self.condition("Failed")) and bool(self.retry) and self.retry != self.status.retry

    @property
    def has_failures(self) -> bool:
        """Whether it has failed, or will once its running stages are finished."""
        return bool(self.condition("Failed")) or self.failed_stage is not None

    @property
    def failed_stage(self) -> StageStatus | None:
        """The first by the plan that failed for good."""
        return next((stage for stage in self.status.stages if stage.state == "Failed"), None)

    @property
    def end(self) -> End | None:
        """How it ended; None while it has not."""
        if not self.current:
            return None
        return next((kind for kind in ("Complete", "Failed") if self.condition(kind)), None)

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition, if it holds."""
        return next((c for c in self.status.conditions if c.type == kind and c.status == "True"), None)

    @property
    def true_conditions(self) -> list[Condition]:
        """Those that hold, the end first. Stalled says again what Failed says, for other programs."""
        kinds: tuple[ConditionType, ...] = ("Complete", "Failed", "Suspended", "Reconciling")
        return [found for kind in kinds if (found := self.condition(kind))]

    @property
    def word(self) -> str:
        """Where it stands, in a word or two."""
        if self.deleting:
            return "being deleted"
        if not self.noticed:
            return "not noticed yet"
        held = self.true_conditions
        if not held:
            return "accepted"
        return held[0].reason if held[0].type == "Reconciling" else held[0].type

    def as_json(self) -> dict[str, Any]:
        """For scripts: the status as it is, beside what it is about."""
        return {
            "job": self.name,
            "namespace": self.namespace,
            "storage": self.storage,
            "generation": self.generation,
            "suspend": self.suspend,
            "current": self.current,
            "end": self.end,
            **self.status.model_dump(by_alias=True, exclude_none=True),
        }
