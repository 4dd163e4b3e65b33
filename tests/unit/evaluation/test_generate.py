"""Greedy answers: each prompt as if it were alone, in plain arg-max steps over whole forwards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel

from fusechat.evaluation.generate import GenerationOptions, generate
from fusechat.tables import Int32

TinyModel = Callable[[str], PreTrainedModel]


def prompts(lengths: list[int]) -> list[Int32]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, length).astype(np.int32) for length in lengths]


def plain_greedy(model: PreTrainedModel, prompt: Int32, steps: int, stops: tuple[int, ...]) -> tuple[list[int], bool]:
    ids = [int(i) for i in prompt]
    for _ in range(steps):
        with torch.no_grad():
            following = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if following in stops:
            return ids[len(prompt) :], True
        ids.append(following)
    return ids[len(prompt) :], False


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_batched_answers_are_those_of_each_prompt_alone(architecture: str, tiny_model: TinyModel) -> None:
    model, asked = tiny_model(architecture), prompts([3, 11, 7, 1, 11])
    first, _ = plain_greedy(model, asked[1], 12, ())
    stops = (first[4], 256)  # one answer, at least, ends early
    answers = generate(model, asked, GenerationOptions(stops, max_new_tokens=12, token_budget=60))
    for prompt, answer in zip(asked, answers, strict=True):
        assert (answer.ids.tolist(), answer.stopped) == plain_greedy(model, prompt, 12, stops)
    assert any(a.stopped for a in answers)
    assert not all(a.stopped for a in answers)


def test_the_models_own_settings_are_neither_used_nor_lost(tiny_model: TinyModel) -> None:
    model, asked = tiny_model("llama"), prompts([5, 9])
    options = GenerationOptions((256,), max_new_tokens=10)
    plain = generate(model, asked, options)
    own = GenerationConfig(
        do_sample=True, temperature=5.0, repetition_penalty=4.0, max_length=7, num_return_sequences=3
    )
    model.generation_config = own
    for a, b in zip(generate(model, asked, options), plain, strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
    assert model.generation_config is own


def test_a_prompt_near_the_end_of_the_context_is_cut_short_alone(tiny_model: TinyModel) -> None:
    model, asked = tiny_model("llama"), prompts([126, 4, 128, 200])
    finished: list[int] = []
    options = GenerationOptions((), max_new_tokens=6, token_budget=10_000)
    answers = generate(model, asked, options, on_batch=finished.append)
    assert [len(a.ids) for a in answers] == [2, 6, 0, 0]
    assert not any(a.stopped for a in answers)
    assert sum(finished) == 2
    assert generate(model, [], options) == []
