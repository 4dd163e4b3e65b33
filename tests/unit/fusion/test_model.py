"""The loss inside real models' forwards: their own logit scaling honoured, what cannot be honoured refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    T5Config,
)

from fusechat.errors import ConfigurationError
from fusechat.fusion.dataset import Batch, collate, targets_of
from fusechat.fusion.examples import FILLING, Example
from fusechat.fusion.loss import fusion_loss
from fusechat.fusion.model import FusionObjective, check_honest, forward_loss, load_pivot, refuse_unsupported
from fusechat.fusion.settings import FusionLossSettings

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
MODELS = {
    "Llama": (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "Gemma 2, soft-capped": (
        Gemma2ForCausalLM,
        Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0, query_pre_attn_scalar=8),
    ),
    "Cohere, scaled": (CohereForCausalLM, CohereConfig(**SIZES, logit_scale=0.3)),
    "Granite, scaled": (GraniteForCausalLM, GraniteConfig(**SIZES, logits_scaling=3.0)),
    "Mixtral": (MixtralForCausalLM, MixtralConfig(**SIZES, num_local_experts=4)),
}
SETTINGS = FusionLossSettings(lm_weight=0.3)


def pivot_on_disk(directory: Path, name: str) -> Path:
    torch.manual_seed(0)
    model_class, config = MODELS[name]
    model_class(config).save_pretrained(directory)
    return directory


def batch_of(seed: int = 0) -> Batch:
    generator = np.random.default_rng(seed)
    return collate([_example(generator, 9), FILLING, _example(generator, 20)])


def _example(generator: np.random.Generator, length: int) -> Example:
    tokens = length // 2
    listed = generator.integers(0, 5, tokens).astype(np.int32)
    p = [generator.dirichlet(np.ones(count + 1)) for count in listed]
    ids = [generator.choice(97, count, replace=False) for count in listed]
    return Example(
        row=0,
        input_ids=generator.integers(97, size=length).astype(np.int32),
        position=np.sort(generator.choice(np.arange(1, length), tokens, replace=False)).astype(np.int32),
        listed=listed,
        tail=np.array([q[-1] if len(q) > 1 else 0 for q in p], np.float32),
        ids=np.concatenate(ids).astype(np.int32),
        probabilities=np.concatenate([q[:-1] for q in p]).astype(np.float32),
    )


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_in_the_forward_is_the_loss_of_the_model_s_own_logits(name: str, tmp_path: Path) -> None:
    objective = FusionObjective(SETTINGS)
    model = load_pivot(pivot_on_disk(tmp_path, name), objective, gradient_checkpointing=False)
    batch = batch_of()
    loss = forward_loss(model, batch)
    sums = objective.take()
    check_honest(loss, sums, model)
    loss.backward()
    found = gradients(model)
    model.zero_grad()
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = fusion_loss(logits, targets_of(batch), SETTINGS)
    expected.loss.backward()
    torch.testing.assert_close(loss, expected.loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums.clm, expected.clm, rtol=1e-5, atol=1e-5)
    for parameter, gradient in gradients(model).items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-4, atol=1e-4)


def test_gradient_checkpointing_changes_nothing_but_memory(tmp_path: Path) -> None:
    pivot_on_disk(tmp_path, "Llama")
    found = []
    for checkpointing in (False, True):
        model = load_pivot(tmp_path, FusionObjective(SETTINGS), gradient_checkpointing=checkpointing)
        model.train()
        assert model.is_activation_checkpointing == checkpointing
        loss = forward_loss(model, batch_of())
        loss.backward()
        found.append((loss.item(), gradients(model)))
    assert found[0][0] == found[1][0]
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=0, atol=0)


def test_a_batch_without_any_row_has_loss_and_gradient_zero(tmp_path: Path) -> None:
    model = load_pivot(pivot_on_disk(tmp_path, "Llama"), FusionObjective(SETTINGS), gradient_checkpointing=False)
    loss = forward_loss(model, collate([FILLING, FILLING]))
    loss.backward()
    assert loss.item() == 0
    assert all(gradient.abs().max() == 0 for gradient in gradients(model).values())


def test_a_row_of_one_conversation_does_not_see_another(tmp_path: Path) -> None:
    """Padding and the other rows of the batch leave a conversation's loss alone."""
    objective = FusionObjective(SETTINGS)
    model = load_pivot(pivot_on_disk(tmp_path, "Llama"), objective, gradient_checkpointing=False)
    generator = np.random.default_rng(0)
    first, second = _example(generator, 9), _example(generator, 20)
    alone = forward_loss(model, collate([first])) + forward_loss(model, collate([second]))
    torch.testing.assert_close(forward_loss(model, collate([second, FILLING, first])), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (MixtralConfig(**SIZES, output_router_logits=True, router_aux_loss_coef=0.02), "router_aux_loss_coef=0.02"),
        (T5Config(), "encoder-decoder"),
        (LlamaConfig(**SIZES | {"quantization_config": {"quant_method": "gptq", "bits": 4}}), "quantized"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(config: LlamaConfig, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as raised:
        refuse_unsupported(config)
    assert raised.value.hint


def test_a_loss_that_a_forward_adds_unasked_is_noticed() -> None:
    """The same Mixtral as above, with the router loss switched on behind the check's back."""
    objective = FusionObjective(SETTINGS)
    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4, output_router_logits=True))
    model.loss_function = objective
    loss = forward_loss(model, batch_of())
    with pytest.raises(ConfigurationError, match="MixtralForCausalLM adds a loss of its own"):
        check_honest(loss, objective.take(), model)
