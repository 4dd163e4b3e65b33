"""The FuseJob itself. `load_job` in fusechat.spec.load reads one from YAML; fusechat.spec.rules checks what spans
fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fusechat.spec.base import SpecObject
from fusechat.spec.cluster import HubSpec, PodTemplateOverride, PublishSpec, RetrySpec, StorageSpec
from fusechat.spec.data import AlignmentSpec, DatasetSpec, EvaluationSpec, ExtractionSpec
from fusechat.spec.fusion import FusionSpec, MergeSpec
from fusechat.spec.models import NamedModel
from fusechat.spec.pods import ObjectName

API_VERSION = "fusechat.dev/v1alpha1"
KIND = "FuseJob"


class Metadata(SpecObject):
    """Kubernetes object metadata; a laptop uses the name alone."""

    model_config = SpecObject.model_config | {"extra": "ignore"}

    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
    """The job's name: a DNS-1035 label of at most 40 characters."""
    namespace: Annotated[str | None, Field(max_length=63)] = None
    """Namespace on a cluster."""
    labels: dict[str, str] = {}
    """Labels on a cluster."""
    annotations: dict[str, str] = {}
    """Annotations on a cluster."""


class FuseJobSpec(SpecObject):
    """What should exist: one model of the pivot's size with the strengths of all sources."""

    pivot: NamedModel
    """The model that is fine-tuned; the result has its architecture, tokenizer and size."""
    sources: Annotated[list[NamedModel], Field(min_length=1, max_length=50)]
    """The models whose knowledge is fused into the pivot, of any architecture, size and tokenizer."""
    dataset: DatasetSpec
    """The conversations on which knowledge is transferred."""
    extraction: ExtractionSpec = ExtractionSpec()
    """Top-k next-token distributions of every model."""
    alignment: AlignmentSpec = AlignmentSpec()
    """From a source's tokens and vocabulary to the pivot's."""
    fusion: FusionSpec = FusionSpec()
    """Fine-tuning one copy of the pivot per source."""
    merge: MergeSpec = MergeSpec()
    """From the targets to one model."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Held-out comparison of every model."""
    publish: PublishSpec | None = None
    """Where the result goes in the end."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of everything that is random."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads of a stage process. Set, not read off the machine, so that CPU results agree bit for bit between
    machines."""
    storage: StorageSpec = StorageSpec()
    """Where outputs live."""
    hub: HubSpec = HubSpec()
    """Access to the Hugging Face Hub."""
    pod_template_overrides: Annotated[list[PodTemplateOverride], Field(max_length=32)] = []
    """Cluster: changes to the pods of some stages."""
    suspend: bool = False
    """Cluster: stop running stages and start none until it is false again."""
    queue_name: Annotated[ObjectName | None, Field(max_length=63)] = None
    """Cluster: the Kueue LocalQueue that admits this job's pods."""
    priority_class_name: ObjectName | None = None
    """Cluster: priority of its pods."""
    active_deadline_seconds: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None
    """Cluster: the job fails when it has been active longer."""
    ttl_seconds_after_finished: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    """Cluster: the FuseJob is deleted this long after it ends; outputs stay. Leave unset under GitOps."""
    retry: RetrySpec = RetrySpec()
    """Retries of a stage."""


class FuseJob(SpecObject):
    """One fusion: the resource a person writes."""

    api_version: Literal["fusechat.dev/v1alpha1"]
    """Version of this API."""
    kind: Literal["FuseJob"]
    """Kind of the resource."""
    metadata: Metadata
    """The job's name, and what a cluster keeps beside it."""
    spec: FuseJobSpec
    """What should exist, and how it is made."""
