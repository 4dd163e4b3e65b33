"""The models of a job: the pivot, the sources, and targets that exist already."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fusechat.spec.base import DType, Name, SpecObject, Uri

Parallelism = Literal["DeviceMap", "TensorParallel"]
Quantization = Literal["None", "Int8", "Int4"]


class ModelSpec(SpecObject):
    """Where a model comes from and how it is run."""

    uri: Uri
    """`hf://organisation/name`, `s3://bucket/prefix`, `file:///directory`, or a path relative to the job file (laptop
    only)."""
    revision: Annotated[str | None, Field(max_length=200)] = None
    """Branch, tag or commit of an `hf://` model; resolved to a commit when the job is planned. Default: the main
    branch."""
    dtype: DType = "Auto"
    """Compute type of inference. Auto: the type its config names; Float32 where there is no accelerator."""
    chat_template: Annotated[str | None, Field(max_length=32768)] = None
    """A Jinja chat template used in place of the model's own. Needed only for a tokenizer that ships none."""
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] = 2048
    """Longest sequence in tokens; longer conversations are cut there."""
    trust_remote_code: bool = False
    """Allow Python code shipped with the model to run. Leave off unless you have read that code."""


class ModelExtractionSpec(SpecObject):
    """How one model is run for extraction and evaluation."""

    gpus_per_worker: Annotated[int, Field(ge=0, le=64)] = 1
    """Accelerators of one worker; more than 1 splits the model over them. 0: CPU only."""
    parallelism: Parallelism = "DeviceMap"
    """How a model is split over several accelerators: layer by layer, or within each layer (the model's tp_plan)."""
    quantization: Quantization = "None"
    """Weight-only quantisation by bitsandbytes. Changes the representations, so it is part of the digest."""
    workers: Annotated[int | None, Field(ge=1, le=1024)] = None
    """Workers for this model. Default: `extraction.workers`."""
    token_budget: Annotated[int | None, Field(ge=64, le=4_194_304)] = None
    """Padded tokens per batch for this model. Default: `extraction.tokenBudget`."""


class NamedModel(SpecObject):
    """A model with its name in this job."""

    name: Name
    """Short name, unique among pivot, sources and existing targets; part of stage names."""
    model: ModelSpec
    """The model."""
    extraction: ModelExtractionSpec = ModelExtractionSpec()
    """How it is run for extraction and evaluation."""


class ExistingTarget(SpecObject):
    """A target that an earlier fusion made from the same pivot; merged with the new ones."""

    name: Name
    """Short name, unique among pivot, sources and existing targets."""
    model: ModelSpec
    """The model; must have the pivot's architecture, tokenizer and shapes."""
