"""Merging as a user meets it: the same bytes every time, files of any layout, bounded memory, a report."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

from fusechat.errors import InvalidDataError, UsageError
from fusechat.merging import selection
from fusechat.merging.merge import merge
from fusechat.merging.registry import METHODS
from fusechat.spec.merge_methods import MERGE_METHODS
from tests.unit.merging.models import (
    CONFIG,
    Tensors,
    digests,
    kinds_of,
    random_models,
    read_model,
    round_to,
    write_model,
)

PARAMETERS: dict[str, dict[str, Any]] = {
    "SLERP": {"t": [0.2, 0.9]},
    "Linear": {"weights": {"a": 1, "b": 2}},
    "TaskArithmetic": {"weights": {"a": 0.25, "b": 0.5}},
}


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    pivot, targets = random_models(2, "BF16")
    base = write_model(tmp_path / "base", pivot, "BF16")
    return base, {name: write_model(tmp_path / name, tensors, "BF16") for name, tensors in targets.items()}


@pytest.mark.usefixtures("slicing")
@pytest.mark.parametrize("method", METHODS)
def test_bytes_do_not_depend_on_run_order_or_threads(
    tmp_path: Path, models: tuple[Path, dict[str, Path]], method: str
) -> None:
    base, targets = models
    # SLERP tells the first from the second
    backwards = targets if MERGE_METHODS[method].ordered else dict(reversed(targets.items()))
    seen = []
    for index, (listed, threads) in enumerate([(targets, 1), (targets, 1), (backwards, 1), (targets, 4)]):
        output = tmp_path / f"out{index}"
        report = merge(base, listed, method, PARAMETERS.get(method, {}), output, seed=1, threads=threads)
        seen.append((digests(output), report))
    assert all(other == seen[0] for other in seen[1:])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
def test_targets_that_changed_nothing_give_the_pivot_bit_for_bit(tmp_path: Path, method: str, kind: str) -> None:
    """Negative zeros and the smallest numbers of the format among them."""
    pivot = {name: np.array(values) for name, values in random_models(0, kind)[0].items()}
    pivot["model.norm.weight"][:4] = [-0.0, 0.0, 2.0**-24, -(2.0**-24)]
    base = write_model(tmp_path / "base", pivot, kind)
    parameters: dict[str, Any] = {"SLERP": {"t": 0.3}}.get(method, {})
    report = merge(base, {"a": base, "b": base}, method, parameters, tmp_path / "out")
    before, after = (
        dict(safetensors.deserialize((d / "model.safetensors").read_bytes())) for d in (base, tmp_path / "out")
    )
    assert {name: entry["data"] for name, entry in after.items()} == {name: e["data"] for name, e in before.items()}
    assert report.summary["changed_share"] == 0


@pytest.mark.parametrize("method", ["DARE", "DARETIES"])
def test_the_seed_matters_to_random_methods_alone(
    tmp_path: Path, models: tuple[Path, dict[str, Path]], method: str
) -> None:
    base, targets = models
    for seed in (0, 1):
        merge(base, targets, method, {}, tmp_path / f"{seed}", seed=seed)
        merge(base, targets, "VaRM", {}, tmp_path / f"varm{seed}", seed=seed)
    assert digests(tmp_path / "0") != digests(tmp_path / "1")
    assert digests(tmp_path / "varm0") == digests(tmp_path / "varm1")


def test_sharded_in_and_out_gives_the_same_model(tmp_path: Path) -> None:
    pivot, targets = random_models(2, "F32")
    single = write_model(tmp_path / "base1", pivot)
    sharded = write_model(tmp_path / "base3", pivot, shards=3)
    paths = {name: write_model(tmp_path / name, tensors) for name, tensors in targets.items()}
    split = {name: write_model(tmp_path / f"{name}2", tensors, shards=2) for name, tensors in targets.items()}
    merge(single, paths, "VaRM", {}, tmp_path / "one")
    report = merge(sharded, split, "VaRM", {}, tmp_path / "many", shard_bytes=400)
    one, many = read_model(tmp_path / "one"), read_model(tmp_path / "many")
    assert one.keys() == many.keys()
    assert all(np.array_equal(one[name], many[name]) for name in one)

    files = sorted(tmp_path.glob("many/*.safetensors"))
    assert [file.name for file in files] == list(report.shards)
    assert len(files) > 2
    index = json.loads((tmp_path / "many/model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == pivot.keys()
    assert index["metadata"]["total_size"] == sum(values.size * 4 for values in pivot.values())
    assert max(file.stat().st_size for file in files) < 400 + 1500, "data of a shard is within its limit"


def test_the_first_shard_begins_with_the_first_layers(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pivot = {f"model.layers.{i}.weight": generator.normal(size=4) for i in (0, 2, 10)}
    base = write_model(tmp_path / "base", pivot)
    merge(base, {"a": base}, "VaRM", {}, tmp_path / "out", shard_bytes=16)
    weight_map = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())["weight_map"]
    assert sorted(weight_map, key=weight_map.__getitem__) == [f"model.layers.{i}.weight" for i in (0, 2, 10)]


def test_mixed_formats_keep_each_tensors_own_and_stay_aligned(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    kinds = {"a": "BF16", "b": "F32", "c": "F16", "d": "F64", "position_ids": "I64"}
    pivot = {name: round_to(generator.normal(size=3), kind) for name, kind in kinds.items() if kind != "I64"}
    pivot["position_ids"] = np.arange(5.0)
    target = {name: values + (0.5 if name != "position_ids" else 0) for name, values in pivot.items()}
    base = write_model(tmp_path / "base", pivot, kinds)
    trained = write_model(tmp_path / "trained", target, {**kinds, "a": "F32"})
    report = merge(base, {"t": trained}, "VaRM", {}, tmp_path / "out")
    assert kinds_of(tmp_path / "out") == kinds
    assert report.copied == ("position_ids",)
    merged = read_model(tmp_path / "out")
    np.testing.assert_array_equal(merged["position_ids"], np.arange(5))
    np.testing.assert_array_equal(merged["d"], target["d"])
    data = (tmp_path / "out/model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    sizes = {"F64": 8, "I64": 8, "F32": 4, "BF16": 2, "F16": 2}
    for entry in (entry for name, entry in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"):
        assert (8 + length + entry["data_offsets"][0]) % sizes[entry["dtype"]] == 0


def test_float32_output_keeps_small_changes_and_says_so_in_the_config(tmp_path: Path) -> None:
    pivot = {"model.norm.weight": np.ones(8)}
    target = {"model.norm.weight": np.ones(8) + 1e-4}  # far below bfloat16's resolution at 1
    base = write_model(tmp_path / "base", pivot, "BF16", config={**CONFIG, "text_config": {"dtype": "bfloat16"}})
    paths = {"t": write_model(tmp_path / "t", target, "F32", config={**CONFIG, "text_config": {}})}
    rounded = merge(base, paths, "VaRM", {}, tmp_path / "pivot", save_dtype="Pivot")
    kept = merge(base, paths, "VaRM", {}, tmp_path / "float32", save_dtype="Float32")
    assert rounded.summary["changed_share"] == 0
    assert kept.summary["changed_share"] == 1
    np.testing.assert_allclose(read_model(tmp_path / "float32")["model.norm.weight"], 1 + 1e-4, rtol=1e-7)
    config = json.loads((tmp_path / "float32/config.json").read_text())
    assert (config["torch_dtype"], config["text_config"]["dtype"]) == ("float32", "float32")
    assert (tmp_path / "pivot/config.json").read_bytes() == (base / "config.json").read_bytes()


def test_config_and_tokenizer_are_the_pivots(tmp_path: Path, models: tuple[Path, dict[str, Path]]) -> None:
    base, targets = models
    merge(base, targets, "VaRM", {}, tmp_path / "out")
    names = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"model.safetensors"}
    assert all((tmp_path / "out" / name).read_bytes() == (base / name).read_bytes() for name in names)


def tied_models(stored_twice: bool) -> tuple[Tensors, dict[str, Tensors]]:
    pivot, targets = random_models(2, "F32")
    for tensors in (pivot, *targets.values()):
        assert isinstance(tensors, dict)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        if not stored_twice:
            del tensors["lm_head.weight"]
    return pivot, targets


@pytest.mark.parametrize(("method", "given"), [("VaRM", {"granularity": "Model"}), ("DARE", {}), ("SCE", {})])
def test_tied_weights_count_once(tmp_path: Path, method: str, given: dict[str, Any]) -> None:
    """A file that stores the output layer beside the embedding it is tied to merges as one that does not."""
    merged = {}
    for stored_twice in (True, False):
        place = tmp_path / f"{stored_twice}"
        pivot, targets = tied_models(stored_twice)
        base = write_model(place / "base", pivot)
        paths = {name: write_model(place / name, tensors) for name, tensors in targets.items()}
        report = merge(base, paths, method, given, place / "out")
        merged[stored_twice] = (read_model(place / "out"), report.summary)
    twice, once = merged[True][0], merged[False][0]
    assert merged[True][1] == merged[False][1]
    np.testing.assert_array_equal(twice.pop("lm_head.weight"), once["model.embed_tokens.weight"])
    assert all(np.array_equal(twice[name], once[name]) for name in once)


def test_memory_stays_far_below_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tensors of 3 million elements in three models: 72 MB on disk, of which a few slices are held."""
    monkeypatch.setattr(selection, "_SORTABLE", 1 << 16)
    generator = np.random.default_rng(0)
    names = ("model.embed_tokens.weight", "model.layers.0.weight")
    models = [{name: generator.standard_normal((3000, 1000), dtype=np.float32) for name in names} for _ in range(3)]
    base, a, b = (write_model(tmp_path / f"m{i}", model) for i, model in enumerate(models))
    del models
    for method, given in [("VaRM", {"granularity": "Model"}), ("SCE", {}), ("TIES", {}), ("DARE", {})]:
        tracemalloc.start()
        merge(base, {"a": a, "b": b}, method, given, tmp_path / method, threads=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 12e6, f"{method} held {peak / 1e6:.0f} MB"


def test_the_report_has_a_row_for_every_tensor_and_target(tmp_path: Path, models: tuple[Path, dict[str, Path]]) -> None:
    base, targets = models
    report = merge(base, targets, "VaRM", {"granularity": "Layer"}, tmp_path / "out")
    rows = report.rows()
    assert len(rows) == 2 * 12
    before, after = read_model(base), read_model(tmp_path / "out")
    for row in rows:
        name = str(row["tensor"])
        assert row["elements"] == before[name].size
        assert row["changed_share"] == np.mean(before[name] != after[name])
    by_group: dict[str, set[float]] = {}
    for row in rows:
        if row["target"] == "a":
            by_group.setdefault(str(row["group"]), set()).add(float(str(row["weight"])))
    assert all(len(weights) == 1 for weights in by_group.values())
    assert {row["layer"] for row in rows if row["group"] == "model.layers.1"} == {1}
    json.dumps(rows), json.dumps(report.summary)


def test_the_report_tells_how_much_slerp_interpolated_linearly(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pivot = {"near": generator.normal(size=30), "far": generator.normal(size=10)}
    base = write_model(tmp_path / "base", pivot)
    a = write_model(tmp_path / "a", {"near": pivot["near"], "far": pivot["far"]})
    b = write_model(tmp_path / "b", {"near": pivot["near"] * 1.1, "far": generator.normal(size=10)})
    report = merge(base, {"a": a, "b": b}, "SLERP", {"t": 0.5}, tmp_path / "out")
    assert report.summary["linear_share"] == 0.75
    assert report.summary["linear_tensor_share"] == 0.5
    cosines = {row["tensor"]: row["cosine"] for row in report.rows()}
    assert cosines["near"] == pytest.approx(1)


def test_progress_reaches_the_total(tmp_path: Path, models: tuple[Path, dict[str, Path]]) -> None:
    base, targets = models
    for granularity in ("Matrix", "Model"):
        calls: list[tuple[int, int]] = []
        merge(
            base,
            targets,
            "VaRM",
            {"granularity": granularity},
            tmp_path / granularity,
            progress=lambda *call: calls.append(call),  # noqa: B023
        )
        assert calls[0][0] == 0
        assert calls == sorted(calls)
        assert calls[-1][0] == calls[-1][1] > 0


def test_a_failed_merge_leaves_nothing_that_loads(tmp_path: Path) -> None:
    pivot, targets = random_models(2, "F32")
    broken = dict(targets["b"])
    broken["model.norm.weight"] = np.array([1, np.nan, 1, 1, 1, 1.0])
    base = write_model(tmp_path / "base", pivot)
    paths = {"a": write_model(tmp_path / "a", targets["a"]), "b": write_model(tmp_path / "b", broken)}
    with pytest.raises(InvalidDataError, match=r"target b: tensor model\.norm\.weight holds NaN"):
        merge(base, paths, "VaRM", {}, tmp_path / "out", threads=2)
    assert list((tmp_path / "out").iterdir()) == []
    merge(base, {"a": paths["a"]}, "VaRM", {}, tmp_path / "out")


def test_ctrl_c_leaves_nothing_that_loads(tmp_path: Path, models: tuple[Path, dict[str, Path]]) -> None:
    base, targets = models

    def interrupt(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(base, targets, "VaRM", {}, tmp_path / "out", progress=interrupt)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_is_not_empty_is_refused(models: tuple[Path, dict[str, Path]]) -> None:
    base, targets = models
    with pytest.raises(UsageError, match="not an empty directory"):
        merge(base, targets, "VaRM", {}, base)


def test_values_that_overflow_the_format_are_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"w": np.zeros(3)}, "F16")
    target = write_model(tmp_path / "t", {"w": np.array([0, 6e4, 1])}, "F16")
    with pytest.raises(InvalidDataError, match="w do not fit into F16"):
        merge(base, {"t": target}, "TaskArithmetic", {"scale": 2}, tmp_path / "out")
