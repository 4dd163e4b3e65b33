"""Sparse targets against dictionaries of float64 probabilities, one row at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.errors import ConfigurationError
from fusechat.fusion.selection import Candidates, Selection
from fusechat.fusion.targets import SparseTargets, Tail, TargetSettings, add_duplicates, build_targets, gold_targets
from fusechat.tables import Alignment, Rendering, Representation, RowStatus

Row = list[tuple[int, float]]
BUCKET, RENORMALISE = TargetSettings(), TargetSettings(Tail.RENORMALISE)


def pivot_of(gold: list[int], rows: list[Row]) -> Representation:
    tokens = len(gold)
    position = np.arange(1, tokens + 1, dtype=np.int32)
    span = np.arange(tokens, dtype=np.int32)
    rendering = Rendering(0, np.array([0, *gold], np.int32), position, np.zeros(tokens, np.int32), span, span + 1)
    return Representation(rendering, np.ones(tokens, np.float32), *stored(rows))


def source_of(status: list[RowStatus], rows: list[Row]) -> Alignment:
    return Alignment(0, np.array(status, np.uint8), np.ones(len(status), np.float32), *stored(rows))


def stored(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    width = max(len(row) for row in rows)
    ids, logprobs = np.zeros((len(rows), width), np.int32), np.full((len(rows), width), -np.inf, np.float16)
    for i, row in enumerate(rows):
        for j, (token, p) in enumerate(row):
            ids[i, j], logprobs[i, j] = token, np.float16(math.log(p)) if p == p else np.nan
    return ids, logprobs


def half(p: float) -> float:
    """The probability that float16 kept."""
    return math.exp(float(np.float16(math.log(p))))


def as_dicts(targets: SparseTargets) -> list[dict[int, float]]:
    return [
        {int(i): float(p) for i, p in zip(ids, row, strict=True) if p > 0}
        for ids, row in zip(targets.ids, targets.probabilities, strict=True)
    ]


def weights(*values: float) -> Selection:
    return Selection(0, np.ones(len(values)), np.array(values, np.float64))


def test_bucket_keeps_probabilities_and_puts_the_rest_in_the_tail() -> None:
    pivot = pivot_of([5], [[(5, 0.5), (9, 0.25)]])
    targets = build_targets(Candidates(pivot, ()), weights(1), BUCKET)
    assert as_dicts(targets)[0] == pytest.approx({5: half(0.5), 9: half(0.25)}, rel=1e-6)
    assert targets.tail[0] == pytest.approx(1 - half(0.5) - half(0.25), rel=1e-6)
    assert not targets.gold_alone[0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_renormalise_is_a_softmax_of_the_stored_ones(temperature: float) -> None:
    pivot = pivot_of([5], [[(5, 0.5), (9, 0.25), (1, 0.01)]])
    targets = build_targets(Candidates(pivot, ()), weights(1), TargetSettings(Tail.RENORMALISE, temperature))
    logits = {token: float(np.float16(math.log(p))) / temperature for token, p in [(5, 0.5), (9, 0.25), (1, 0.01)]}
    total = math.fsum(math.exp(v) for v in logits.values())
    assert as_dicts(targets)[0] == pytest.approx({t: math.exp(v) / total for t, v in logits.items()}, rel=1e-6)
    assert targets.tail.tolist() == [0]


def test_probabilities_that_meet_on_one_id_are_added() -> None:
    source = source_of([RowStatus.EXACT], [[(4, 0.5), (3, 0.125), (4, 0.25)]])
    targets = build_targets(Candidates(pivot_of([4], [[(4, 1.0)]]), (source,)), weights(0, 1), BUCKET)
    assert targets.ids[0].tolist() == [4, 3]
    assert as_dicts(targets)[0] == pytest.approx({4: half(0.5) + half(0.25), 3: half(0.125)}, rel=1e-6)


@pytest.mark.parametrize("settings_", [BUCKET, RENORMALISE])
def test_rows_without_a_distribution_are_gold_alone(settings_: TargetSettings) -> None:
    status = [RowStatus.NOT_COVERED, RowStatus.GOLD, RowStatus.PARTIAL, RowStatus.PARTIAL, RowStatus.EXACT]
    # the third is partial under rule Span: no distribution; the second carries one against its status
    rows: list[Row] = [[], [(1, 0.5)], [], [(2, 0.5)], [(3, float("nan")), (4, 0.5)]]
    pivot = pivot_of([1] * 5, [[(1, 0.5)]] * 5)
    targets = build_targets(Candidates(pivot, (source_of(status, rows),)), weights(0, 1), settings_)
    assert targets.gold_alone.tolist() == [True, True, True, False, True]
    assert [bool(row) for row in as_dicts(targets)] == [False, False, False, True, False]
    assert targets.tail[targets.gold_alone].tolist() == [0] * 4


def test_average_mixes_over_the_union_and_a_silent_teacher_votes_for_gold() -> None:
    pivot = pivot_of([5, 6], [[(5, 0.5), (9, 0.25)], [(6, 0.5)]])
    source = source_of([RowStatus.EXACT, RowStatus.GOLD], [[(9, 0.5), (2, 0.25)], []])
    targets = build_targets(Candidates(pivot, (source,)), weights(0.25, 0.75), BUCKET)
    first = {5: 0.25 * half(0.5), 9: 0.25 * half(0.25) + 0.75 * half(0.5), 2: 0.75 * half(0.25)}
    assert as_dicts(targets)[0] == pytest.approx(first, rel=1e-6)
    assert targets.tail[0] == pytest.approx(1 - sum(first.values()), rel=1e-5)
    assert as_dicts(targets)[1] == pytest.approx({6: 0.25 * half(0.5) + 0.75}, rel=1e-6)
    assert targets.gold_alone.tolist() == [False, False]


def test_average_of_silent_teachers_is_gold_alone() -> None:
    pivot = pivot_of([5], [[(5, float("nan"))]])
    source = source_of([RowStatus.GOLD], [[]])
    targets = build_targets(Candidates(pivot, (source,)), weights(0.5, 0.5), BUCKET)
    assert targets.gold_alone.tolist() == [True]
    assert as_dicts(targets) == [{}]


def test_stored_mass_above_one_is_scaled_back() -> None:
    ids, logprobs = np.array([[1, 2]], np.int32), np.log(np.array([[0.9995, 0.0006]])).astype(np.float16)
    pivot = pivot_of([1], [[(1, 1.0)]])
    pivot = Representation(pivot.rendering, pivot.gold_nats, ids, np.maximum(logprobs, np.float16(-7.3)))
    targets = build_targets(Candidates(pivot, ()), weights(1), BUCKET)
    assert targets.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert 0 <= targets.tail[0] < 1e-6


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1, width=16)), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=100, deadline=None)
def test_add_duplicates_keeps_every_id_s_mass(rows: list[Row]) -> None:
    ids = np.array([[token for token, _ in row] for row in rows], np.int32)
    p = np.array([[value for _, value in row] for row in rows], np.float64)
    merged_ids, merged = add_duplicates(ids, p)
    for row, out_ids, out in zip(rows, merged_ids, merged, strict=True):
        expected: dict[int, float] = {}
        for token, value in row:
            expected[token] = expected.get(token, 0.0) + value
        found = {int(t): float(v) for t, v in zip(out_ids, out, strict=True) if v > 0}
        assert found == pytest.approx({t: v for t, v in expected.items() if v > 0})
        assert sorted(found.items(), key=lambda item: (-item[1], item[0])) == list(found.items())


def test_gold_targets_and_settings_refused() -> None:
    assert gold_targets(3).gold_alone.tolist() == [True] * 3
    assert gold_targets(0).ids.shape == (0, 0)
    with pytest.raises(ConfigurationError, match="Renormalise"):
        TargetSettings(Tail.BUCKET, 2.0)
    with pytest.raises(ConfigurationError, match="temperature"):
        TargetSettings(Tail.RENORMALISE, 0)
