"""The paired bootstrap: equal to a plain loop, covering as promised, independent of what stands beside."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusechat.evaluation import bootstrap
from fusechat.evaluation.bootstrap import Better, PairedItems, Verdict, drawn_items, paired_intervals


def ratios(seed: int, count: int, effect: float = 0.0) -> PairedItems:
    rng = np.random.default_rng(seed)
    size = rng.integers(5, 200, count).astype(float)
    shared = rng.normal(2.5, 0.5, count)
    first = size * (shared + effect + rng.normal(0, 0.05, count))
    second = size * (shared + rng.normal(0, 0.05, count))
    return PairedItems(first, size, second, size)


def plain_difference(items: PairedItems, chosen: list[int]) -> float:
    a = sum(items.first_numerator[i] for i in chosen) / sum(items.first_denominator[i] for i in chosen)
    b = sum(items.second_numerator[i] for i in chosen) / sum(items.second_denominator[i] for i in chosen)
    return float(a - b)


def plain_quantile(values: list[float], at: float) -> float:
    """Linear interpolation between order statistics."""
    ordered = sorted(values)
    place = at * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@pytest.mark.parametrize("at_once", [1 << 22, 50])
def test_equals_a_plain_loop_over_the_same_draws(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_DRAWN_AT_ONCE", at_once)
    strata = {"chat": ratios(1, 17), "docs": ratios(2, 9, 0.1)}
    result = paired_intervals(strata, Better.LOWER, resamples=300, seed=5)
    plain: dict[str, list[float]] = {}
    for name, items in strata.items():
        draws = np.concatenate(list(drawn_items(len(items), 300, 5, name)))
        plain[name] = [plain_difference(items, list(draw)) for draw in draws]
        interval = result.strata[name]
        assert interval.difference == pytest.approx(plain_difference(items, list(range(len(items)))), abs=1e-12)
        assert interval.low == pytest.approx(plain_quantile(plain[name], 0.025), abs=1e-12)
        assert interval.high == pytest.approx(plain_quantile(plain[name], 0.975), abs=1e-12)
        assert interval.items == len(items)
    means = [(a + b) / 2 for a, b in zip(plain["chat"], plain["docs"], strict=True)]
    assert result.mean.low == pytest.approx(plain_quantile(means, 0.025), abs=1e-12)
    assert result.mean.high == pytest.approx(plain_quantile(means, 0.975), abs=1e-12)
    assert result.mean.items == 26


def test_draws_do_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(drawn_items(13, 40, 0, "chat")))
    monkeypatch.setattr(bootstrap, "_DRAWN_AT_ONCE", 30)
    np.testing.assert_array_equal(whole, np.concatenate(list(drawn_items(13, 40, 0, "chat"))))


def test_a_stratum_does_not_depend_on_the_others_or_on_their_order() -> None:
    chat, docs = ratios(1, 30), ratios(2, 20)
    alone = paired_intervals({"chat": chat}, Better.LOWER)
    both = paired_intervals({"docs": docs, "chat": chat}, Better.LOWER)
    assert alone.strata["chat"] == both.strata["chat"]
    assert both == paired_intervals({"chat": chat, "docs": docs}, Better.LOWER)
    assert both.strata["chat"] != paired_intervals({"chat": chat}, Better.LOWER, seed=1).strata["chat"]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    true_difference, repetitions = 0.03, 400
    covered = wider_than_zero = 0
    for seed in range(repetitions):
        items = ratios(seed, 60, true_difference)
        interval = paired_intervals({"s": items}, Better.LOWER, resamples=400, seed=seed).strata["s"]
        covered += interval.low <= true_difference <= interval.high
        wider_than_zero += interval.verdict is Verdict.NOT_DISTINGUISHABLE
    # 95% promised; percentile intervals of 60 items run a little short. Three standard errors are 3.3 points.
    assert 0.90 <= covered / repetitions <= 0.98
    assert wider_than_zero / repetitions < 0.2  # an effect of three standard errors is nearly always seen


def test_pairing_sees_what_two_separate_intervals_would_not() -> None:
    items = ratios(0, 60, 0.03)
    spread = np.std(items.first_numerator / items.first_denominator) / math.sqrt(60)
    interval = paired_intervals({"s": items}, Better.LOWER).strata["s"]
    assert interval.high - interval.low < spread


@pytest.mark.parametrize(
    ("effect", "better", "verdict"),
    [
        (-0.2, Better.LOWER, Verdict.BETTER),
        (0.2, Better.LOWER, Verdict.WORSE),
        (0.2, Better.HIGHER, Verdict.BETTER),
        (-0.2, Better.HIGHER, Verdict.WORSE),
        (0.0, Better.LOWER, Verdict.NOT_DISTINGUISHABLE),
    ],
)
def test_the_verdict_follows_the_metrics_direction(effect: float, better: Better, verdict: Verdict) -> None:
    result = paired_intervals({"s": ratios(0, 100, effect)}, better)
    assert result.strata["s"].verdict is verdict
    assert result.mean.verdict is verdict


def test_a_model_against_itself_is_not_distinguishable() -> None:
    items = ratios(0, 40)
    same = PairedItems(items.first_numerator, items.first_denominator, items.first_numerator, items.first_denominator)
    interval = paired_intervals({"s": same}, Better.LOWER).strata["s"]
    assert (interval.difference, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert interval.verdict is Verdict.NOT_DISTINGUISHABLE


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_items_give_no_interval_and_no_verdict(count: int) -> None:
    result = paired_intervals({"s": ratios(0, count, 5.0)}, Better.LOWER)
    assert math.isnan(result.strata["s"].low)
    assert math.isnan(result.strata["s"].high)
    assert result.strata["s"].verdict is result.mean.verdict is Verdict.NOT_DISTINGUISHABLE
    assert math.isnan(result.strata["s"].difference) == (count == 0)


def test_no_strata_at_all() -> None:
    result = paired_intervals({}, Better.HIGHER)
    assert result.strata == {}
    assert math.isnan(result.mean.difference)
    assert result.mean.verdict is Verdict.NOT_DISTINGUISHABLE
