"""What kinds that run or copy a model have in common: where it lies, how it is loaded, what it weighs."""

from __future__ import annotations

from fusechat.pins import DatasetPin, ModelPin
from fusechat.plan.values import stage_value
from fusechat.spec.data import DataSource
from fusechat.spec.models import ModelSpec, Parallelism


@stage_value
class Location:
    """Where content is found; the pinned revision, so that every worker reads the same."""

    uri: str
    revision: str | None


def location(source: DataSource | ModelSpec, pin: ModelPin | DatasetPin | None) -> Location:
    """Of a model or dataset of the job."""
    return Location(source.uri, pin.revision if pin else source.revision)


def identity(pin: ModelPin | DatasetPin | None) -> str | None:
    """SHA-256 of the pinned content; None if it is not pinned."""
    return pin.identity if pin else None


@stage_value
class InferenceSettings:
    """How a model is run, as far as results do not depend on it."""

    location: Location
    trust_remote_code: bool
    gpus: int
    parallelism: Parallelism
    token_budget: int

    @property
    def ranks(self) -> int:
        """Processes that share the model; 1 unless it is tensor-parallel."""
        return max(1, self.gpus) if self.parallelism == "TensorParallel" else 1
