"""From Parquet to padded tensors: nothing is lost, shifted or mixed up on the way; batches ignore the process count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fusechat.errors import ConfigurationError, InvalidDataError, MissingInputError
from fusechat.fusion.batches import FILL, BatchPlan, epoch_order, micro_batches
from fusechat.fusion.dataset import EpochLoader, FusionDataset, collate
from fusechat.fusion.examples import Example, ExampleStore, gold_examples, write_examples
from fusechat.fusion.selected import FusionInputs, read_candidates, write_selected_examples
from fusechat.fusion.selection import SelectionRule, select
from fusechat.fusion.targets import TargetSettings, build_targets
from fusechat.parquet import write_alignments, write_representations
from fusechat.tables import Alignment, Rendering, Representation, RowStatus

VOCABULARY, TOP_K = 50, 4


def random_pair(row: int, generator: np.random.Generator, *, nan: bool = False) -> tuple[Representation, Alignment]:
    """A conversation with some loss-carrying tokens, and one source's alignment of it."""
    length = int(generator.integers(3, 12))
    position = np.sort(generator.choice(np.arange(1, length), int(generator.integers(0, length)), replace=False))
    tokens = len(position)
    begin = np.arange(tokens, dtype=np.int32)
    rendering = Rendering(
        row,
        generator.integers(VOCABULARY, size=length).astype(np.int32),
        position.astype(np.int32),
        np.zeros(tokens, np.int32),
        begin,
        begin + 1,
    )
    status = generator.choice(list(RowStatus), tokens).astype(np.uint8)
    source_logprobs = _logprobs(generator, tokens)
    source_logprobs[status < RowStatus.PARTIAL] = -np.inf
    nats = generator.random(tokens).astype(np.float32)
    if nan:
        nats[:] = np.nan
    pivot = Representation(
        rendering, generator.random(tokens).astype(np.float32), _ids(generator, tokens), _logprobs(generator, tokens)
    )
    return pivot, Alignment(row, status, nats, _ids(generator, tokens), source_logprobs)


def _ids(generator: np.random.Generator, tokens: int) -> np.ndarray:
    return generator.integers(VOCABULARY, size=(tokens, TOP_K)).astype(np.int32)


def _logprobs(generator: np.random.Generator, tokens: int) -> np.ndarray:
    return np.log(generator.dirichlet(np.ones(TOP_K + 1), tokens)[:, :TOP_K]).astype(np.float16)


@pytest.fixture
def inputs(tmp_path: Path) -> FusionInputs:
    """Two chunks, five conversations each; the last one's source is broken."""
    generator = np.random.default_rng(0)
    pivot_files, source_files = [], []
    for chunk in range(2):
        pairs = [random_pair(10 * chunk + i, generator, nan=chunk == 1 and i == 4) for i in range(5)]
        pivot_files.append(tmp_path / f"pivot-{chunk}.parquet")
        source_files.append(tmp_path / f"source-{chunk}.parquet")
        write_representations(pivot_files[-1], [pivot for pivot, _ in pairs], top_k=TOP_K)
        # another order in the file: rows are found by their number
        write_alignments(source_files[-1], [source for _, source in reversed(pairs)], top_k=TOP_K)
    return FusionInputs(tuple(pivot_files), {"a": tuple(source_files)})


def test_every_row_of_the_store_is_the_target_of_its_conversation(inputs: FusionInputs, tmp_path: Path) -> None:
    settings = TargetSettings()
    report = write_selected_examples(tmp_path / "store", inputs, SelectionRule.MIN_CE, settings)
    store = ExampleStore(tmp_path / "store")
    expected = [(c, build_targets(c, select(c, SelectionRule.MIN_CE), settings)) for c in read_candidates(inputs)]
    assert len(store) == len(expected) == report.rows == 10
    for i, (candidates, targets) in enumerate(expected):
        example, rendering = store[i], candidates.pivot.rendering
        assert example.row == rendering.row
        np.testing.assert_array_equal(example.input_ids, rendering.input_ids)
        np.testing.assert_array_equal(example.position, rendering.position)
        np.testing.assert_array_equal(example.tail, targets.tail)
        np.testing.assert_array_equal(example.listed == 0, targets.gold_alone)
        np.testing.assert_array_equal(example.ids, targets.ids[targets.probabilities > 0])
        np.testing.assert_array_equal(example.probabilities, targets.probabilities[targets.probabilities > 0])
    assert report.loss_tokens == store.loss_tokens == sum(len(t.tail) for _, t in expected)
    assert report.gold_alone_tokens == sum(int(t.gold_alone.sum()) for _, t in expected)
    assert report.broken_rows == {"pivot": 0, "a": 1}
    assert sum(report.shares.shares) == pytest.approx(1)


def test_the_baseline_sees_the_same_rows_in_the_same_order(inputs: FusionInputs, tmp_path: Path) -> None:
    write_selected_examples(tmp_path / "fused", inputs, SelectionRule.MIN_CE, TargetSettings())
    baseline = FusionInputs(inputs.pivot, {})
    report = write_selected_examples(tmp_path / "baseline", baseline, SelectionRule.MIN_CE, TargetSettings())
    fused, plain = ExampleStore(tmp_path / "fused"), ExampleStore(tmp_path / "baseline")
    assert [fused[i].row for i in range(10)] == [plain[i].row for i in range(10)]
    assert (fused.lengths == plain.lengths).all()
    assert report.gold_alone_fraction == 1
    assert all(plain[i].ids.size == 0 for i in range(10))


def test_tables_that_do_not_belong_together_are_refused(inputs: FusionInputs, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="1 chunks"):
        FusionInputs(inputs.pivot, {"a": inputs.sources["a"][:1]})
    swapped = FusionInputs(inputs.pivot, {"a": inputs.sources["a"][::-1]})
    with pytest.raises(InvalidDataError, match="no alignment of row 0"):
        write_selected_examples(tmp_path / "store", swapped, SelectionRule.MIN_CE, TargetSettings())
    with pytest.raises(MissingInputError):
        ExampleStore(tmp_path / "store")


def test_a_first_token_that_carries_loss_is_refused() -> None:
    one = np.array([1], np.int32)
    rendering = Rendering(3, one, one - 1, one, one - 1, one)
    with pytest.raises(InvalidDataError, match="Row 3"):
        list(gold_examples([rendering]))


def test_collate_pads_and_points_at_the_predicting_positions(inputs: FusionInputs, tmp_path: Path) -> None:
    write_selected_examples(tmp_path / "store", inputs, SelectionRule.AVG_CE, TargetSettings())
    dataset = FusionDataset(ExampleStore(tmp_path / "store"))
    examples = [dataset[4], dataset[FILL], dataset[0], dataset[7]]
    batch = collate(examples)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (4, max(len(e.input_ids) for e in examples))
    assert batch["attention_mask"].sum(1).tolist() == [len(e.input_ids) for e in examples]
    r = 0
    for b, example in enumerate(examples):
        entry = 0
        for t, position in enumerate(example.position):
            assert [int(batch[name][r]) for name in ("sequence", "position")] == [b, position - 1]
            assert batch["gold"][r] == example.input_ids[position]
            width = int(example.listed[t])
            assert batch["ids"][r, :width].tolist() == example.ids[entry : entry + width].tolist()
            assert batch["probabilities"][r, :width].tolist() == example.probabilities[entry : entry + width].tolist()
            assert batch["probabilities"][r, width:].sum() == 0
            assert bool(batch["gold_alone"][r]) == (width == 0)
            assert batch["tail"][r] == example.tail[t]
            r, entry = r + 1, entry + width
    assert r == len(batch["gold"])
    assert torch.nonzero(batch["predicts"]).tolist() == torch.stack([batch["sequence"], batch["position"]], 1).tolist()


def test_a_batch_of_filling_alone_has_no_rows() -> None:
    store_less: list[Example] = [FusionDataset.__getitem__(None, FILL)]  # type: ignore[index]
    batch = collate(store_less)
    assert batch["ids"].shape == (0, 0)
    assert batch["attention_mask"].tolist() == [[1]]


@pytest.mark.parametrize(
    ("micro_batch", "world_size"), [(1, 1), (8, 1), (2, 1), (1, 2), (4, 2), (2, 2), (2, 4), (1, 8)]
)
def test_a_global_batch_holds_the_same_rows_however_it_is_cut(micro_batch: int, world_size: int) -> None:
    plan = BatchPlan(rows=21, global_batch=8, micro_batch=micro_batch, world_size=world_size)
    lengths, order = np.random.default_rng(1).integers(1, 99, 21), epoch_order(21, 5, 2)
    ranks = [list(micro_batches(plan, order, lengths, rank)) for rank in range(world_size)]
    assert {len(batches) for batches in ranks} == {plan.steps * plan.accumulation}
    seen = []
    for step in range(plan.steps):
        cut = [rank[step * plan.accumulation : (step + 1) * plan.accumulation] for rank in ranks]
        rows = sorted(row for rank in cut for batch in rank for row in batch)
        real = [row for row in rows if row != FILL]
        assert real == sorted(order[step * plan.global_batch : (step + 1) * plan.global_batch].tolist())
        assert len(rows) == plan.global_batch
        seen += real
    assert sorted(seen) == list(range(21))


def test_order_follows_seed_and_epoch_alone() -> None:
    assert epoch_order(100, 0, 0).tolist() == epoch_order(100, 0, 0).tolist()
    assert len({tuple(epoch_order(100, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no multiple of 3"):
        BatchPlan(rows=10, global_batch=8, micro_batch=3, world_size=1)
    with pytest.raises(ConfigurationError, match="no row"):
        BatchPlan(rows=0, global_batch=8, micro_batch=8)


def test_the_loader_gives_each_epoch_its_order(inputs: FusionInputs, tmp_path: Path) -> None:
    write_examples(tmp_path / "store", gold_examples(c.pivot.rendering for c in read_candidates(inputs)))
    store = ExampleStore(tmp_path / "store")
    loader = EpochLoader(store, BatchPlan(10, 4, 2), rank=0, seed=1)
    assert len(loader) == 6
    first = [batch["input_ids"] for batch in loader]
    loader.set_epoch(1)
    second = [batch["input_ids"] for batch in loader]
    loader.set_epoch(0)
    again = [batch["input_ids"] for batch in loader]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, second, strict=True))
