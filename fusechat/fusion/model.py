"""The pivot as a trainable model whose forward returns the fusion loss.

Every causal language model of transformers ends its forward with `self.loss_function(logits, labels, ...)`, after its
own logit scaling or soft-capping. The targets ride in as `labels`, which go nowhere else, and `logits_to_keep` (a
boolean mask) makes the output layer compute the loss-carrying rows alone. So the loss runs inside the forward, where
ZeRO-3 has the output layer's parameters gathered, and gradient checkpointing sees nothing new.
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from fusechat.errors import ConfigurationError
from fusechat.fusion.dataset import Batch, targets_of
from fusechat.fusion.loss import BatchTargets, LossSums, fusion_loss
from fusechat.fusion.settings import FusionLossSettings


class FusionObjective:
    """The model's `loss_function`: computes the loss and keeps its terms for the log."""

    def __init__(self, settings: FusionLossSettings) -> None:
        self.settings = settings
        self._sums: LossSums | None = None

    def __call__(
        self, logits: torch.Tensor, labels: BatchTargets, _vocab_size: int | None = None, **_other: object
    ) -> torch.Tensor:
        """The sum over the micro batch's rows, not divided by anything; the arguments are transformers' convention."""
        self._sums = fusion_loss(logits, labels, self.settings)
        # a clone: a model may add terms of its own in place, which `take` could then not tell
        return self._sums.loss.clone()

    def take(self) -> LossSums:
        """The terms of the forward that just ran."""
        sums, self._sums = self._sums, None
        if sums is None:
            raise ConfigurationError(
                "The pivot's forward did not ask for its loss through `loss_function`.",
                hint="Use a pivot of an architecture whose causal language model is part of transformers.",
            )
        return sums


def load_pivot(directory: Path, objective: FusionObjective, *, gradient_checkpointing: bool) -> PreTrainedModel:
    """The pivot in float32, ready to train with `objective`. Raises ConfigurationError for what cannot be honoured.

    Under ZeRO-3 the weights are sharded as they are read, if the TrainingArguments exist already.
    """
    refuse_unsupported(AutoConfig.from_pretrained(directory, local_files_only=True))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise ConfigurationError(
            f"{type(model).__name__} cannot compute the logits of chosen tokens alone (no logits_to_keep).",
            hint="Use a pivot of a decoder-only architecture.",
        )
    model.loss_function = objective
    if gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def refuse_unsupported(config: PreTrainedConfig) -> None:
    """ConfigurationError, naming the setting, for a pivot whose own training loss has terms that this one has not."""
    if getattr(config, "output_router_logits", False):
        raise ConfigurationError(
            f"The pivot ({config.model_type}) adds a router auxiliary loss to its training "
            f"(output_router_logits, router_aux_loss_coef={getattr(config, 'router_aux_loss_coef', None)}), "
            "which fusion does not have.",
            hint="Set output_router_logits to false in the pivot's config.json to train without it.",
        )
    if config.is_encoder_decoder:
        raise ConfigurationError(
            f"The pivot ({config.model_type}) is an encoder-decoder model.", hint="Use a decoder-only pivot."
        )
    if getattr(config, "quantization_config", None) is not None:
        raise ConfigurationError(
            f"The pivot ({config.model_type}) is quantized.", hint="Use the weights it was quantized from."
        )


def forward_loss(model: Any, batch: Batch) -> torch.Tensor:
    """The loss sum of one micro batch; `model` is the pivot or what DeepSpeed or DDP wrapped around it."""
    output = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        labels=targets_of(batch),
        logits_to_keep=batch["predicts"],
        use_cache=False,
    )
    loss: torch.Tensor = output["loss"]
    return loss


def check_honest(loss: torch.Tensor, sums: LossSums, model: PreTrainedModel) -> None:
    """ConfigurationError if the forward returned another loss than the objective's: a term that no setting tells of."""
    returned, computed = float(loss.detach()), float(sums.loss.detach())
    if not math.isclose(returned, computed, rel_tol=1e-6) and not (math.isnan(returned) and math.isnan(computed)):
        raise ConfigurationError(
            f"{type(model).__name__} adds a loss of its own ({returned - computed:+.6g} on the first batch), which "
            "fusion does not have.",
            hint="Switch its auxiliary loss off in the pivot's config.json, or use another pivot.",
        )
