"""Extraction of a chunk: equal to each conversation alone in float64, whatever it is batched with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from fusechat.errors import ConfigurationError, InvalidDataError
from fusechat.extraction.extract import BatchDone, count_non_finite, extract_chunk, gold_nats
from fusechat.tables import Rendering, Representation

ARCHITECTURES = ["llama", "mistral", "mixtral", "qwen2", "gemma2", "granite", "cohere", "gpt_neox", "gpt2", "mamba"]
LENGTHS = [23, 5, 40, 5, 12, 1, 31]
BYTES_OF_ROW = 4 * 97

TinyModel = Callable[[str], PreTrainedModel]
Renderings = Callable[..., list[Rendering]]


def oracle(model: PreTrainedModel, rendering: Rendering) -> np.ndarray:
    """[T, V] log-probabilities in float64 from the model's own whole forward, one conversation alone."""
    exact = copy.deepcopy(model).double()
    exact.set_experts_implementation("eager")  # the grouped product of experts has no float64
    with torch.no_grad():
        logits = exact(input_ids=torch.from_numpy(rendering.input_ids)[None].long()).logits
    rows = logits[0].double().numpy()[rendering.position - 1]
    rows = rows - rows.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("logits_bytes", [1 << 30, 7 * BYTES_OF_ROW], ids=["one block", "blocks of seven rows"])
def test_every_architecture_equals_the_float64_oracle(
    architecture: str, logits_bytes: int, tiny_model: TinyModel, random_renderings: Renderings
) -> None:
    model, renderings = tiny_model(architecture), random_renderings(LENGTHS)
    extracted = extract_chunk(model, renderings, top_k=6, token_budget=90, logits_bytes=logits_bytes)
    assert [r.rendering.row for r in extracted] == list(range(len(LENGTHS)))
    for representation in extracted:
        _assert_equals_oracle(representation, oracle(model, representation.rendering), 6)


def _assert_equals_oracle(representation: Representation, logprobs: np.ndarray, top_k: int) -> None:
    tokens = np.arange(len(representation.rendering.position))
    gold = logprobs[tokens, representation.rendering.gold_ids]
    np.testing.assert_allclose(representation.gold_nats, -gold, atol=2e-5, rtol=1e-5)
    ids = np.argsort(-logprobs, axis=1, kind="stable")[:, :top_k]
    np.testing.assert_array_equal(representation.top_ids, ids)
    np.testing.assert_allclose(representation.top_logprobs, logprobs[tokens[:, None], ids], rtol=2**-10, atol=2e-5)


def test_soft_capping_is_seen_by_the_oracle(tiny_model: TinyModel, random_renderings: Renderings) -> None:
    """The comparison above has teeth: without the cap, the same weights give other numbers."""
    capped, (rendering,) = tiny_model("gemma2"), random_renderings([30])
    bare = copy.deepcopy(capped)
    bare.config.final_logit_softcapping = None
    assert np.abs(oracle(capped, rendering) - oracle(bare, rendering)).max() > 0.1


@pytest.mark.parametrize("architecture", ["llama", "mixtral", "gemma2"])
def test_a_row_does_not_depend_on_its_company(
    architecture: str, tiny_model: TinyModel, random_renderings: Renderings
) -> None:
    model, renderings = tiny_model(architecture), random_renderings(LENGTHS)
    together = extract_chunk(model, renderings, top_k=5, token_budget=10_000)
    for rendering, batched in zip(renderings, together, strict=True):
        (alone,) = extract_chunk(model, [rendering], top_k=5, token_budget=1)
        np.testing.assert_allclose(batched.gold_nats, alone.gold_nats, rtol=1e-5, atol=3e-5)
        np.testing.assert_array_equal(batched.top_ids, alone.top_ids)


def test_equal_chunks_give_equal_bits(tiny_model: TinyModel, random_renderings: Renderings) -> None:
    chunks = [random_renderings(LENGTHS, seed) for seed in range(4)]
    model = tiny_model("mixtral")

    def worker(index: int, count: int) -> dict[int, list[Representation]]:
        return {i: extract_chunk(model, chunks[i], top_k=5, token_budget=64) for i in range(index, len(chunks), count)}

    one = worker(0, 1)
    three = worker(2, 3) | worker(0, 3) | worker(1, 3)
    for i in range(len(chunks)):
        for a, b in zip(one[i], three[i], strict=True):
            assert a.gold_nats.tobytes() == b.gold_nats.tobytes()
            assert a.top_ids.tobytes() == b.top_ids.tobytes()
            assert a.top_logprobs.tobytes() == b.top_logprobs.tobytes()


def test_only_rows_that_predict_a_loss_carrying_token_reach_the_output_layer(
    tiny_model: TinyModel, random_renderings: Renderings
) -> None:
    model, renderings = copy.deepcopy(tiny_model("llama")), random_renderings(LENGTHS)
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda _m, _i, output: seen.append(output.shape[:-1].numel()))
    extract_chunk(model, renderings, top_k=3, token_budget=10_000, logits_bytes=10 * BYTES_OF_ROW)
    assert sum(seen) == sum(len(r.position) for r in renderings)
    assert max(seen) == 10


def test_gold_nats_are_those_of_the_extraction(tiny_model: TinyModel, random_renderings: Renderings) -> None:
    model, renderings = tiny_model("qwen2"), random_renderings(LENGTHS)
    extracted = extract_chunk(model, renderings, top_k=5, token_budget=64)
    for nats, representation in zip(gold_nats(model, renderings, token_budget=64), extracted, strict=True):
        np.testing.assert_array_equal(nats, representation.gold_nats)


def test_a_nan_weight_makes_rows_nan_and_drops_none(tiny_model: TinyModel, random_renderings: Renderings) -> None:
    model, renderings = copy.deepcopy(tiny_model("qwen2")), random_renderings(LENGTHS)
    clean = extract_chunk(model, renderings, top_k=5, token_budget=64)
    poison = int(renderings[2].input_ids[10])
    embeddings: Any = model.get_input_embeddings()
    embeddings.weight[[0, poison]] = torch.nan  # 0: nobody's token, and padding must not be it
    batches: list[BatchDone] = []
    extracted = extract_chunk(model, renderings, top_k=5, token_budget=64, on_batch=batches.append)
    for before, after in zip(clean, extracted, strict=True):
        hits = np.flatnonzero(after.rendering.input_ids == poison)
        if len(hits):
            seen = after.rendering.position > hits[0]
            assert np.isnan(after.gold_nats[seen]).all()
            assert np.isnan(after.top_logprobs[seen]).all()
        else:
            np.testing.assert_array_equal(after.gold_nats, before.gold_nats)
            np.testing.assert_array_equal(after.top_logprobs, before.top_logprobs)
    bad = sum(int(np.isnan(r.gold_nats).sum()) for r in extracted)
    assert sum(b.non_finite_tokens for b in batches) == bad > 0
    assert count_non_finite(extracted) == sum(poison in r.input_ids for r in renderings)


def test_progress_counts_every_row_and_token(tiny_model: TinyModel, random_renderings: Renderings) -> None:
    renderings = random_renderings(LENGTHS)
    batches: list[BatchDone] = []
    extract_chunk(tiny_model("llama"), renderings, top_k=2, token_budget=64, on_batch=batches.append)
    with_loss = [r for r in renderings if len(r.position)]
    assert sum(b.rows for b in batches) == len(with_loss)
    assert sum(b.tokens for b in batches) == sum(len(r.input_ids) for r in with_loss)
    assert sum(b.loss_tokens for b in batches) == sum(len(r.position) for r in with_loss)


def test_a_conversation_without_loss_carrying_tokens_is_empty_and_stays(
    tiny_model: TinyModel, random_renderings: Renderings
) -> None:
    extracted = extract_chunk(tiny_model("llama"), random_renderings([1, 9]), top_k=4, token_budget=64)
    assert extracted[0].gold_nats.shape == (0,)
    assert extracted[0].top_ids.shape == extracted[0].top_logprobs.shape == (0, 4)
    assert extract_chunk(tiny_model("llama"), [], top_k=4, token_budget=64) == []


def test_a_token_outside_the_model_is_named(tiny_model: TinyModel, random_renderings: Renderings) -> None:
    (rendering,) = random_renderings([9])
    rendering.input_ids[3] = 97
    with pytest.raises(InvalidDataError, match=r"Row 0 has token id 97.*97 ids"):
        extract_chunk(tiny_model("llama"), [rendering], top_k=4, token_budget=64)


def test_more_than_the_vocabulary_cannot_be_kept(tiny_model: TinyModel, random_renderings: Renderings) -> None:
    with pytest.raises(ConfigurationError, match="topK is 98"):
        extract_chunk(tiny_model("llama"), random_renderings([9]), top_k=98, token_budget=64)
    (whole,) = extract_chunk(tiny_model("llama"), random_renderings([9]), top_k=97, token_budget=64)
    np.testing.assert_allclose(np.exp(whole.top_logprobs.astype(np.float64)).sum(axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_conversation_longer_than_the_models_context_is_refused(
    architecture: str, tiny_model: TinyModel, random_renderings: Renderings
) -> None:
    with pytest.raises(ConfigurationError, match=r"257 tokens.*end at 256\n.*maxLength to 256"):
        extract_chunk(tiny_model(architecture), random_renderings([9, 257]), top_k=3, token_budget=64)
    (whole,) = extract_chunk(tiny_model(architecture), random_renderings([256]), top_k=3, token_budget=64)
    assert np.isfinite(whole.gold_nats).all()


def test_the_model_is_left_as_it_was(tiny_model: TinyModel, random_renderings: Renderings) -> None:
    model = tiny_model("llama")
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        extract_chunk(model, random_renderings(LENGTHS), top_k=3, token_budget=64)
        after = model(input_ids=ids).logits
    assert torch.equal(before, after)
