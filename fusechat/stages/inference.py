"""The model of an extract or evaluate stage, loaded: from its URI, or from the output of the stage that made it."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from fusechat.chat.render import ChatTokenizer
from fusechat.extraction.model import ModelOptions, load_model
from fusechat.worker.context import StageContext
from fusechat.worker.layout import MODEL
from fusechat.worker.pinned import fetch_model


def model_directory(context: StageContext) -> Path:
    """The local directory of the stage's model."""
    if "model" in context.stage.inputs:
        return context.reader("model").fetch_tree(MODEL)
    return fetch_model(context, context.stage.settings)


def load_for_inference(context: StageContext) -> tuple[PreTrainedModel, ChatTokenizer]:
    """Model and tokenizer as the stage's parameters say. Raises what loading raises, each with its mend."""
    parameters, settings = context.stage.parameters, context.stage.settings
    directory = model_directory(context)
    tokenizer = ChatTokenizer.load(directory, chat_template=_template(context), max_length=int(parameters["maxLength"]))
    options = ModelOptions(
        dtype=parameters["dtype"],
        accelerators=_accelerators(int(settings["gpus"])),
        parallelism=settings["parallelism"],
        quantization=parameters["quantization"],
        trust_remote_code=settings["trustRemoteCode"],
    )
    return load_model(directory, options), tokenizer


def _accelerators(wanted: int) -> int | None:
    """One accelerator is taken if there is one; several are insisted on, for the model would not fit."""
    return None if wanted == 1 else wanted


def _template(context: StageContext) -> str | None:
    """The chat template that replaces the model's own: a given one, or the pivot's (`alignment.template: Pivot`)."""
    template = context.stage.parameters["template"]
    pivot = context.stage.settings.get("templateModel")
    if template["chatTemplate"] is not None or pivot is None:
        given: str | None = template["chatTemplate"]
        return given
    directory = fetch_model(context, pivot)
    return ChatTokenizer.load(directory, chat_template=None, max_length=8).template_source
