"""A whole conversation against a float64 oracle in plain Python, and the counts for the report."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.alignment.align import align_and_count, align_conversation
from fusechat.alignment.fractions import AlignmentFractions
from fusechat.alignment.options import AlignmentOptions, PartialRule, TokenAlignment, VocabularyAlignment
from fusechat.alignment.pair_counts import PairCounts
from fusechat.alignment.tokens import match_rows_by_bytes, overlap
from fusechat.alignment.vocabulary import MappingRule, VocabularyMapping, map_vocabulary
from fusechat.errors import InvalidDataError
from fusechat.tables import Alignment, RowStatus

from .segmented import END, Model, Token, model_of, two_models

OPTIONS = st.builds(AlignmentOptions, st.just(TokenAlignment.BYTES), st.sampled_from(PartialRule))


def mapping_of(pivot: Model, source: Model, mode: VocabularyAlignment) -> VocabularyMapping:
    counts = PairCounts.from_conversation(pivot.representation, source.representation)
    return map_vocabulary(source.vocabulary, pivot.vocabulary, mode, counts)


def oracle_row(
    pivot: Model, source: Model, mapping: VocabularyMapping, j: int, options: AlignmentOptions
) -> dict[int, float]:
    """Pivot id -> probability of one row: exp, map, add."""
    match = match_rows_by_bytes(overlap(pivot.representation.rendering, source.representation.rendering))
    exact = match.status[j] == RowStatus.EXACT
    if not exact and not (match.status[j] == RowStatus.PARTIAL and options.partial is PartialRule.CONTEXT):
        return {}
    i = match.source_row[j]
    row: dict[int, float] = {}
    for source_id, logprob in zip(
        source.representation.top_ids[i].tolist(), source.representation.top_logprobs[i].tolist(), strict=True
    ):
        pivot_id = int(mapping.pivot_ids[source_id])
        if exact and source_id == source.representation.rendering.gold_ids[i]:
            pivot_id = int(pivot.representation.rendering.gold_ids[j])
        if pivot_id >= 0:
            row[pivot_id] = row.get(pivot_id, 0.0) + math.exp(logprob)
    return row


def stored_row(alignment: Alignment, j: int) -> dict[int, float]:
    pairs = zip(alignment.top_ids[j].tolist(), alignment.top_logprobs[j].tolist(), strict=True)
    return {i: math.exp(logprob) for i, logprob in pairs if logprob > -math.inf}


@given(two_models(), st.sampled_from(VocabularyAlignment), OPTIONS)
def test_distributions_equal_the_oracle(
    models: tuple[Model, Model], mode: VocabularyAlignment, options: AlignmentOptions
) -> None:
    pivot, source = models
    mapping = mapping_of(pivot, source, mode)
    alignment, fractions = align_and_count(pivot.representation, source.representation, mapping, options)
    mass = 0.0
    for j in range(len(pivot.tokens)):
        expected = oracle_row(pivot, source, mapping, j, options)
        assert stored_row(alignment, j) == pytest.approx(expected, rel=4e-3)  # float16 logarithms
        order = [(-expected[i], i) for i in alignment.top_ids[j, : len(expected)].tolist()]
        assert all(a[0] <= b[0] + 1e-12 for a, b in pairwise(order))
        assert not alignment.top_ids[j, len(expected) :].any()
        mass += sum(expected.values())
    assert alignment.top_logprobs.dtype == np.float16
    assert alignment.top_ids.dtype == np.int32
    mapped = sum(fractions.mass_by_rule) - fractions.mass_by_rule[MappingRule.NOTHING]
    assert mapped * 2.0**-30 == pytest.approx(mass, abs=1e-7)


@given(two_models(), st.sampled_from(VocabularyAlignment))
def test_no_row_has_more_probability_than_its_source_row(
    models: tuple[Model, Model], mode: VocabularyAlignment
) -> None:
    pivot, source = models
    mapping = mapping_of(pivot, source, mode)
    options = AlignmentOptions(partial=PartialRule.CONTEXT)
    alignment = align_conversation(pivot.representation, source.representation, mapping, options)
    match = match_rows_by_bytes(overlap(pivot.representation.rendering, source.representation.rendering))
    for j, i in enumerate(match.source_row.tolist()):
        whole = np.exp(source.representation.top_logprobs[i].astype(np.float64)).sum() if i >= 0 else 0.0
        assert sum(stored_row(alignment, j).values()) <= whole * (1 + 4e-3)
    assert np.all(alignment.top_logprobs <= 0)


@given(two_models(), OPTIONS, st.sampled_from(TokenAlignment))
@settings(max_examples=50)
def test_equal_models_align_to_themselves_bit_for_bit(
    models: tuple[Model, Model], options: AlignmentOptions, tokens: TokenAlignment
) -> None:
    own = models[0].representation
    mapping = map_vocabulary(models[0].vocabulary, models[0].vocabulary, VocabularyAlignment.STATISTICS)
    alignment = align_conversation(own, own, mapping, replace(options, tokens=tokens))
    assert alignment.status.tolist() == [RowStatus.EXACT] * len(models[0].tokens)
    assert alignment.nats.tobytes() == own.gold_nats.tobytes()
    assert alignment.top_ids.tobytes() == own.top_ids.tobytes()
    assert alignment.top_logprobs.tobytes() == own.top_logprobs.tobytes()


PIVOT = model_of([Token(0, 0, 1, b"a"), Token(0, 1, 2, b"b"), Token(0, 2, 2, END)], [b"c"], 0)
SOURCE = model_of([Token(0, 0, 1, b"a"), Token(0, 1, 2, b"b"), Token(0, 2, 2, END)], [b"c", b"ca"], 1)
EXACT_MAPPING = mapping_of(PIVOT, SOURCE, VocabularyAlignment.EXACT)


def test_a_source_row_that_is_no_number_carries_no_distribution_and_keeps_its_status() -> None:
    top_logprobs = SOURCE.representation.top_logprobs.copy()
    top_logprobs[0, 2], top_logprobs[1, 3] = np.nan, -np.inf
    broken = replace(SOURCE.representation, top_logprobs=top_logprobs)
    alignment, fractions = align_and_count(PIVOT.representation, broken, EXACT_MAPPING, AlignmentOptions())
    assert alignment.status.tolist() == [RowStatus.EXACT] * 3
    assert stored_row(alignment, 0) == {}
    assert stored_row(alignment, 1)
    assert (fractions.not_finite, fractions.distributions) == (1, 2)


def test_very_small_probabilities_survive_the_way_through_logarithms() -> None:
    top_logprobs = np.full_like(SOURCE.representation.top_logprobs, -60000)
    far = replace(SOURCE.representation, top_logprobs=top_logprobs)
    alignment = align_conversation(PIVOT.representation, far, EXACT_MAPPING, AlignmentOptions())
    assert alignment.top_logprobs[0, 0] == np.float16(-60000)


def test_probabilities_that_meet_are_added_and_never_exceed_one() -> None:
    rules = np.full(len(SOURCE.vocabulary), MappingRule.STATISTICS, np.uint8)
    gold = PIVOT.representation.rendering.gold_ids
    onto_one = VocabularyMapping(
        SOURCE.vocabulary, PIVOT.vocabulary, np.full(len(SOURCE.vocabulary), gold[0], np.int32), rules
    )
    top_logprobs = np.tile(np.array([-0.0005, -7.5, -9, -9], np.float16), (3, 1))
    sure = replace(SOURCE.representation, top_logprobs=top_logprobs)
    alignment = align_conversation(PIVOT.representation, sure, onto_one, AlignmentOptions())
    assert alignment.top_ids[0].tolist() == [gold[0], 0, 0, 0]
    assert alignment.top_logprobs[0].tolist() == [0.0, -math.inf, -math.inf, -math.inf]


def test_a_missing_conversation_covers_nothing() -> None:
    alignment, fractions = align_and_count(PIVOT.representation, None, EXACT_MAPPING, AlignmentOptions())
    assert alignment.status.tolist() == [RowStatus.NOT_COVERED] * 3
    assert alignment.nats.tolist() == [0.0] * 3
    assert alignment.top_ids.shape == PIVOT.representation.top_ids.shape
    assert not np.any(alignment.top_logprobs > -np.inf)
    assert (fractions.rows, fractions.gold_alone, fractions.distributions) == (3, 1.0, 0)


def test_other_conversations_and_other_top_k_are_refused() -> None:
    other = replace(SOURCE.representation, rendering=replace(SOURCE.representation.rendering, row=7))
    with pytest.raises(InvalidDataError, match="row 7"):
        align_conversation(PIVOT.representation, other, EXACT_MAPPING, AlignmentOptions())
    wider = model_of(SOURCE.tokens, [], 0, top_k=2).representation
    with pytest.raises(InvalidDataError, match="topK"):
        align_conversation(PIVOT.representation, wider, EXACT_MAPPING, AlignmentOptions())


@given(st.lists(two_models(), min_size=1, max_size=4), OPTIONS, st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_fractions_add_up_in_any_order(
    conversations: list[tuple[Model, Model]], options: AlignmentOptions, random: object
) -> None:
    parts, statuses = [], []
    for pivot, source in conversations:
        mapping = mapping_of(pivot, source, VocabularyAlignment.STATISTICS)
        alignment, part = align_and_count(pivot.representation, source.representation, mapping, options)
        parts.append(part)
        statuses += alignment.status.tolist()
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    total = sum(parts, AlignmentFractions())
    assert total == sum(shuffled, AlignmentFractions())
    assert AlignmentFractions.from_json(total.to_json()) == total
    assert total.rows_by_status == tuple(statuses.count(status) for status in RowStatus)
    assert 0.0 <= total.mapped_mass <= 1.0
