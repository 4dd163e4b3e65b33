"""The model of an extract or evaluate stage, loaded: from its URI, or from the output of the stage that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel

from fusechat.chat.render import ChatTokenizer
from fusechat.extraction.model import ModelOptions, load_model
from fusechat.plan.kinds.models import InferenceSettings, Location
from fusechat.spec.base import DType
from fusechat.spec.models import Quantization
from fusechat.worker.context import StageContext
from fusechat.worker.layout import MODEL
from fusechat.worker.pinned import fetch_model


class InferenceParameters(Protocol):
    """What every kind that runs a model has among its parameters."""

    @property
    def dtype(self) -> DType: ...
    @property
    def quantization(self) -> Quantization: ...
    @property
    def max_length(self) -> int: ...
    @property
    def chat_template(self) -> str | None: ...


def model_directory(context: StageContext, location: Location) -> Path:
    """The local directory of the stage's model."""
    if "model" in context.stage.inputs:
        return context.reader("model").fetch_tree(MODEL)
    return fetch_model(context, location)


def load_for_inference(
    context: StageContext,
    parameters: InferenceParameters,
    settings: InferenceSettings,
    template_location: Location | None = None,
) -> tuple[PreTrainedModel, ChatTokenizer]:
    """Model and tokenizer as the stage's parameters say.

    `template_location` is of the model that lends its chat template, if one does. Raises what loading raises.
    """
    directory = model_directory(context, settings.location)
    template = parameters.chat_template
    if template is None and template_location is not None:
        lender = fetch_model(context, template_location)
        template = ChatTokenizer.load(lender, chat_template=None, max_length=8).template_source
    tokenizer = ChatTokenizer.load(directory, chat_template=template, max_length=parameters.max_length)
    options = ModelOptions(
        dtype=parameters.dtype,
        accelerators=_accelerators(settings.gpus),
        parallelism=settings.parallelism,
        quantization=parameters.quantization,
        trust_remote_code=settings.trust_remote_code,
    )
    return load_model(directory, options), tokenizer


def _accelerators(wanted: int) -> int | None:
    """One accelerator is taken if there is one; several are insisted on, for the model would not fit."""
    return None if wanted == 1 else wanted
