"""Every method, from files to files, against a float64 oracle written plainly here over whole arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusechat.merging.merge import merge
from tests.unit.merging.models import kinds_of, random_models, read_model, round_to, write_model

Oracle = Callable[[str, np.ndarray, list[np.ndarray]], np.ndarray]


def check(tmp_path: Path, count: int, kind: str, method: str, parameters: dict[str, Any], oracle: Oracle) -> None:
    pivot, targets = random_models(count, kind)
    base = write_model(tmp_path / "base", pivot, kind)
    paths = {name: write_model(tmp_path / name, tensors, kind) for name, tensors in targets.items()}
    merge(base, paths, method, parameters, tmp_path / "out", seed=3)
    merged = read_model(tmp_path / "out")
    assert set(kinds_of(tmp_path / "out").values()) == {kind}
    assert merged.keys() == pivot.keys()
    for name, values in pivot.items():
        expected = round_to(oracle(name, values, [targets[target][name] for target in sorted(targets)]), kind)
        np.testing.assert_array_equal(merged[name], expected, err_msg=name)


KINDS = ["F32", "BF16", "F16"]


def ratio(squares: list[float]) -> list[float]:
    total = sum(squares)
    return [square / total for square in squares] if total else [0.0] * len(squares)


def weigh(weights: list[float], pivot: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
    if not any(weights):
        return pivot
    return sum((w * target for w, target in zip(weights, targets, strict=True)), np.zeros_like(pivot))


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_varm_by_matrix(tmp_path: Path, kind: str, count: int) -> None:
    def oracle(_: str, pivot: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        return weigh(ratio([np.mean((target - pivot) ** 2) for target in targets]), pivot, targets)

    check(tmp_path, count, kind, "VaRM", {}, oracle)


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("granularity", ["Model", "Layer"])
def test_varm_by_model_and_layer(tmp_path: Path, granularity: str) -> None:
    pivot_model, target_models = random_models(2, "BF16")

    def in_group(name: str, other: str) -> bool:
        if granularity == "Model":
            return True
        layer, other_layer = name.split(".")[:3], other.split(".")[:3]
        return name == other or (layer[1] == "layers" and layer == other_layer)

    def oracle(name: str, pivot: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        members = [other for other in pivot_model if in_group(name, other)]
        means = []
        for target in sorted(target_models):
            changes = [(target_models[target][m] - pivot_model[m]).ravel() for m in members]
            means.append(float(np.mean(np.concatenate(changes) ** 2)))
        return weigh(ratio(means), pivot, targets)

    check(tmp_path, 2, "BF16", "VaRM", {"granularity": granularity}, oracle)


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("kind", KINDS)
def test_varm_by_element(tmp_path: Path, kind: str) -> None:
    def oracle(_: str, pivot: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        merged = np.array(pivot)
        for index in np.ndindex(pivot.shape):
            weights = ratio([float(target[index] - pivot[index]) ** 2 for target in targets])
            merged[index] = weigh(weights, pivot[index], [target[index] for target in targets])
        return merged

    check(tmp_path, 3, kind, "VaRM", {"granularity": "Element"}, oracle)


def top(keys: np.ndarray, count: int) -> np.ndarray:
    """Mask of the `count` largest keys above zero, earlier ones first among equals."""
    mask = np.zeros(keys.size, dtype=bool)
    mask[np.argsort(-keys.ravel(), kind="stable")[:count]] = True
    return mask.reshape(keys.shape) & (keys > 0)


def sce_oracle(tau: float) -> Oracle:
    def oracle(_: str, pivot: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        deltas = np.stack([target - pivot for target in targets])
        if tau < 1:
            deltas = deltas * top(deltas.var(axis=0), int(tau * pivot.size))
        eta = ratio([float((delta**2).sum()) for delta in deltas])
        merged = np.array(pivot)
        for index in np.ndindex(pivot.shape):
            column = deltas[(slice(None), *index)]
            sign = np.sign(column.sum())
            alive = [j for j, d in enumerate(column) if sign and np.sign(d) == sign]
            if alive:
                merged[index] += sum(eta[j] * column[j] for j in alive) / sum(eta[j] for j in alive)
        return merged

    return oracle


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tau", [None, 0.3, 1])
def test_sce_is_the_papers(tmp_path: Path, kind: str, tau: float | None) -> None:
    parameters = {} if tau is None else {"tau": tau}
    check(tmp_path, 3, kind, "SCE", parameters, sce_oracle(0.1 if tau is None else tau))


def sce_mergekit_oracle(tau: float) -> Oracle:
    def oracle(_: str, pivot: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        deltas = np.stack([target - pivot for target in targets])
        if tau < 1:
            variance = deltas.var(axis=0)
            deltas = deltas * top(variance, int(tau * np.count_nonzero(variance)))
        means = [float((delta**2).mean()) for delta in deltas]
        eta = [1 / len(means)] * len(means) if sum(means) < 1e-6 else ratio(means)
        sign = np.where(deltas.sum(axis=0) >= 0, 1, -1)
        effective = np.stack([eta[j] * (np.sign(deltas[j]) == sign) for j in range(len(eta))])
        return pivot + (effective * deltas).sum(axis=0) / np.maximum(effective.sum(axis=0), 1e-6)

    return oracle


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("tau", [None, 0.4])
def test_sce_as_mergekit_does_it(tmp_path: Path, tau: float | None) -> None:
    parameters = {} if tau is None else {"tau": tau}
    check(tmp_path, 2, "BF16", "SCEMergekit", parameters, sce_mergekit_oracle(1.0 if tau is None else tau))


T = [{"filter": "self_attn", "values": [0, 0.5, 0.3]}, {"filter": "mlp", "values": [1, 0.2]}, {"values": [0.4]}]


def t_of(name: str) -> float:
    """`T` by hand: three layers, at depths 0, 1/2 and 1."""
    layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
    if "self_attn" in name:
        return [0, 0.5, 0.3][layer or 0]
    if "mlp" in name:
        return [1, 0.6, 0.2][layer or 0]
    return 0.4


def slerp_oracle(t: Callable[[str], float]) -> Oracle:
    def oracle(name: str, _: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        a, b = targets
        norm = np.linalg.norm(a) * np.linalg.norm(b)
        dot = float((a * b).sum() / norm)
        if abs(dot) > 0.9995:
            return (1 - t(name)) * a + t(name) * b
        angle = np.arccos(dot)
        return (np.sin((1 - t(name)) * angle) * a + np.sin(t(name) * angle) * b) / np.sin(angle)

    return oracle


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("kind", KINDS)
def test_slerp_with_anchors_by_filter(tmp_path: Path, kind: str) -> None:
    check(tmp_path, 2, kind, "SLERP", {"t": T}, slerp_oracle(t_of))


def test_slerp_with_one_number(tmp_path: Path) -> None:
    check(tmp_path, 2, "F32", "SLERP", {"t": 0.3}, slerp_oracle(lambda _: 0.3))


WEIGHTS = {"a": 0.25, "b": 0.5, "c": -0.1}
VECTOR = [0.25, 0.5, -0.1]


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("normalize", [True, False])
def test_linear(tmp_path: Path, normalize: bool) -> None:
    divisor = sum(VECTOR) if normalize else 1

    def oracle(_: str, __: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        return sum(w / divisor * target for w, target in zip(VECTOR, targets, strict=True))  # type: ignore[return-value]

    check(tmp_path, 3, "BF16", "Linear", {"weights": WEIGHTS, "normalize": normalize}, oracle)


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("normalize", [True, False])
def test_task_arithmetic(tmp_path: Path, normalize: bool) -> None:
    divisor = sum(VECTOR) if normalize else 1

    def oracle(_: str, pivot: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        return pivot + 0.7 * sum(w / divisor * (target - pivot) for w, target in zip(VECTOR, targets, strict=True))

    parameters = {"weights": WEIGHTS, "normalize": normalize, "scale": 0.7}
    check(tmp_path, 3, "F32", "TaskArithmetic", parameters, oracle)


def consensus(weighted: np.ndarray, weights: list[float], normalize: bool) -> np.ndarray:
    merged = np.zeros(weighted.shape[1:])
    for index in np.ndindex(merged.shape):
        column = weighted[(slice(None), *index)]
        sign = 1 if column.sum() >= 0 else -1
        alive = [j for j, value in enumerate(column) if np.sign(value) == sign]
        divisor = sum(weights[j] for j in alive) if normalize else 1.0
        merged[index] = sum(column[j] for j in alive) / (divisor if abs(divisor) >= 1e-8 else 1.0)
    return merged


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize(("density", "normalize"), [(0.5, True), (0.3, False), (1.0, True)])
def test_ties(tmp_path: Path, density: float, normalize: bool) -> None:
    weights = [0.25, 0.5, 1.0]

    def oracle(_: str, pivot: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        deltas = [target - pivot for target in targets]
        kept = max(1, int(density * pivot.size))
        trimmed = [delta * top(np.abs(delta), kept) for delta in deltas]
        weighted = np.stack([w * delta for w, delta in zip(weights, trimmed, strict=True)])
        return pivot + 1.5 * consensus(weighted, weights, normalize)

    given = dict(zip("abc", weights, strict=True))
    parameters = {"weights": given, "density": density, "normalize": normalize, "scale": 1.5}
    check(tmp_path, 3, "BF16", "TIES", parameters, oracle)


def dare_mask(seed: int, target: str, tensor: str, density: float, shape: tuple[int, ...]) -> np.ndarray:
    """The documented derivation: Philox keyed by the first 16 bytes of SHA-256 of the canonical JSON."""
    import hashlib

    text = f'[{seed},"{target}","{tensor}"]'.encode()
    key = int.from_bytes(hashlib.sha256(text).digest()[:16], "big")
    raw = np.random.Philox(key=key).random_raw(int(np.prod(shape)))
    return (raw.astype(np.float64) / 2.0**64 < density).reshape(shape)


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("rescale", ["InverseDensity", "L1"])
@pytest.mark.parametrize("method", ["DARE", "DARETIES"])
def test_dare(tmp_path: Path, method: str, rescale: str) -> None:
    density = 0.4

    def drop(name: str, target: str, delta: np.ndarray) -> np.ndarray:
        kept = delta * dare_mask(3, target, name, density, delta.shape)
        if rescale == "InverseDensity":
            return kept / density
        before, after = np.abs(delta).sum(), np.abs(kept).sum()
        return kept * (before / after) if min(before, after) >= 1e-7 else kept

    def oracle(name: str, pivot: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        deltas = [drop(name, t, target - pivot) for t, target in zip("ab", targets, strict=True)]
        weighted = np.stack([w * delta for w, delta in zip([0.25, 0.5], deltas, strict=True)])
        change = consensus(weighted, [0.25, 0.5], False) if method == "DARETIES" else weighted.sum(axis=0)
        return pivot + change

    parameters = {"weights": {"a": 0.25, "b": 0.5}, "density": density, "rescale": rescale}
    check(tmp_path, 2, "F32", method, parameters, oracle)


def test_dare_rescaled_keeps_the_expected_change() -> None:
    """E[mask / density] = 1: over many elements the mean change is unbiased and the kept share is the density."""
    from fusechat.merging.dare import dare
    from tests.unit.merging.models import ArrayTensor, run_formula

    size = 200_000
    tensor = ArrayTensor(np.zeros(size), np.ones((2, size)), piece=50_000)
    merged, outcome = run_formula(
        dare, tensor, weights=None, density=0.2, normalize=False, scale=1.0, rescale="InverseDensity"
    )
    assert merged.mean() == pytest.approx(2.0, abs=0.03)
    np.testing.assert_allclose(outcome.contributing, 0.2, atol=0.005)
    assert len(np.unique(merged)) == 3, "the two targets' masks must be independent"
