"""What holds for any numbers: identical targets, sums of weights, exact selection, names and depths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fusechat.merging import selection
from fusechat.merging.arithmetic import linear, task_arithmetic
from fusechat.merging.dare import Mask, dare
from fusechat.merging.layout import group, natural_order, places
from fusechat.merging.sce import sce, sce_mergekit
from fusechat.merging.selection import Selector, find_cut
from fusechat.merging.slerp import slerp
from fusechat.merging.ties import ties
from fusechat.merging.varm import varm
from tests.unit.merging.models import ArrayTensor, run_formula

FLOATS = st.floats(-100, 100, width=16)


@st.composite
def tensors(draw: st.DrawFn, least: int = 1, most: int = 4) -> ArrayTensor:
    size = draw(st.integers(1, 12))
    pivot = draw(arrays.arrays(np.float64, size, elements=FLOATS))
    targets = draw(arrays.arrays(np.float64, (draw(st.integers(least, most)), size), elements=FLOATS))
    return ArrayTensor(pivot, targets, piece=draw(st.integers(1, 12)))


@st.composite
def identical(draw: st.DrawFn) -> ArrayTensor:
    one = draw(tensors(1, 1))
    return ArrayTensor(one.pivot, np.repeat(one.targets, 2, axis=0), piece=one.piece)


def as_stored(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)


T = (("", (0.3,)),)
EVEN = {"weights": None, "normalize": True}
RETURN_IDENTICAL: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (varm, {"granularity": "Matrix"}),
    (varm, {"granularity": "Element"}),
    (sce, {"tau": 1.0}),
    (sce_mergekit, {"tau": 1.0}),
    (slerp, {"t": T}),
    (linear, EVEN),
    (task_arithmetic, {**EVEN, "scale": 1.0}),
    (ties, {**EVEN, "density": 1.0, "scale": 1.0}),
    (dare, {**EVEN, "density": 1.0, "scale": 1.0, "rescale": "InverseDensity"}),
]


@pytest.mark.parametrize(("formula", "parameters"), RETURN_IDENTICAL)
@settings(max_examples=50, deadline=None)
@given(tensor=identical())
def test_identical_targets_are_returned(
    formula: Callable[..., Any], parameters: dict[str, Any], tensor: ArrayTensor
) -> None:
    merged, _ = run_formula(formula, tensor, **parameters)
    np.testing.assert_array_equal(as_stored(merged), as_stored(tensor.targets[0]))


@settings(max_examples=50, deadline=None)
@given(tensor=identical(), tau=st.floats(0.01, 0.99))
def test_sce_below_tau_one_selects_nothing_that_does_not_vary(tensor: ArrayTensor, tau: float) -> None:
    for formula in (sce, sce_mergekit):
        np.testing.assert_array_equal(run_formula(formula, tensor, tau=tau)[0], tensor.pivot)


@pytest.mark.parametrize("granularity", ["Matrix", "Element"])
@settings(max_examples=100, deadline=None)
@given(tensor=tensors())
def test_varm_weights_sum_to_one_and_the_result_lies_among_the_targets(granularity: str, tensor: ArrayTensor) -> None:
    merged, outcome = run_formula(varm, tensor, granularity=granularity)
    changed = (tensor.targets != tensor.pivot).any(axis=0)
    expected = float(changed.any() if granularity == "Matrix" else changed.mean())
    assert outcome.weights.sum() == pytest.approx(expected, abs=1e-12)
    assert (outcome.weights >= 0).all()
    low, high = tensor.targets.min(axis=0), tensor.targets.max(axis=0)
    slack = 1e-12 * (1 + np.abs(tensor.targets).max())
    assert ((merged >= low - slack) & (merged <= high + slack)).all()


@settings(max_examples=50, deadline=None)
@given(tensor=tensors(1, 1))
def test_varm_of_one_target_is_that_target(tensor: ArrayTensor) -> None:
    np.testing.assert_array_equal(run_formula(varm, tensor, granularity="Matrix")[0], tensor.targets[0])


@settings(max_examples=50, deadline=None)
@given(tensor=tensors(2), tau=st.floats(0.01, 1))
def test_sce_changes_at_most_the_selected_share(tensor: ArrayTensor, tau: float) -> None:
    merged, _ = run_formula(sce, tensor, tau=tau)
    assert np.count_nonzero(merged != tensor.pivot) <= max(int(tau * tensor.elements), 0)


@settings(max_examples=100, deadline=None)
@given(tensor=tensors(2, 2), t=st.floats(0, 1))
def test_slerp_ends_at_its_targets(tensor: ArrayTensor, t: float) -> None:
    ends = [run_formula(slerp, tensor, t=(("", (end,)),))[0] for end in (0.0, 1.0)]
    np.testing.assert_allclose(ends[0], tensor.targets[0], atol=1e-9)
    np.testing.assert_allclose(ends[1], tensor.targets[1], atol=1e-9)
    assert np.isfinite(run_formula(slerp, tensor, t=(("", (t,)),))[0]).all()


KEYS = arrays.arrays(
    np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 1e-300, 0.5, 0.5000001, 2.0, 3.5, 1e9])
)


@pytest.mark.parametrize("sortable", [1, 4, 1 << 20])
@settings(max_examples=100, deadline=None)
@given(keys=KEYS, count=st.integers(0, 70), piece=st.integers(1, 60))
def test_selection_is_exact_whatever_the_slices_and_memory(
    sortable: int, keys: np.ndarray, count: int, piece: int
) -> None:
    whole, selection._SORTABLE = selection._SORTABLE, sortable
    try:
        parts = [keys[i : i + piece] for i in range(0, keys.size, piece)]
        selector = Selector(find_cut(lambda: iter(parts), lambda _: count))
        marked = np.concatenate([selector.mark(part) for part in parts])
    finally:
        selection._SORTABLE = whole
    expected = np.zeros(keys.size, dtype=bool)
    expected[np.argsort(-keys, kind="stable")[:count]] = True
    np.testing.assert_array_equal(marked, expected & (keys > 0))


@settings(max_examples=30, deadline=None)
@given(pieces=st.lists(st.integers(1, 20), min_size=1, max_size=6), seed=st.integers(0, 2**63))
def test_a_mask_does_not_depend_on_slices(pieces: list[int], seed: int) -> None:
    mask = Mask(seed, "a", "w", 0.5)
    parts = np.concatenate([mask.next(piece) for piece in pieces])
    np.testing.assert_array_equal(parts, Mask(seed, "a", "w", 0.5).next(sum(pieces)))


def test_masks_of_other_seeds_targets_and_tensors_are_unrelated() -> None:
    masks = [Mask(*key, 0.5).next(4096) for key in [(0, "a", "w"), (1, "a", "w"), (0, "b", "w"), (0, "a", "v")]]
    for i, first in enumerate(masks):
        for second in masks[i + 1 :]:
            assert np.mean(first == second) == pytest.approx(0.5, abs=0.05)


def test_layers_groups_and_depths_from_names() -> None:
    names = [
        "model.embed_tokens.weight",
        "model.layers.0.block_sparse_moe.experts.7.w1.weight",
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.10.mlp.up_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
        "transformer.wte.weight",
    ]
    where = places(names)
    assert [where[name].depth for name in names] == [0, 0, 0.2, 1, 1, 1, 0]
    assert group(names[1], where[names[1]], "Layer") == "model.layers.0"
    assert group(names[4], where[names[4]], "Layer") == "model.norm.weight"
    assert group(names[1], where[names[1]], "Matrix") == names[1]
    assert group(names[1], where[names[1]], "Model") == "model"
    assert natural_order([names[3], names[2]]) == [names[2], names[3]]
    assert places(["h.0.w"])["h.0.w"].depth == 1, "a single layer counts as the last"
