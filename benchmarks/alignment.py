"""Seconds to align one sequence: bytes against DTW, real tokenizers on human chat.

    python -m benchmarks.alignment [--repeat 20]

Pivot: Mistral's 32,000 ids (OpenChat's tokenizer without its two special tokens); source: Qwen3's 151,669. Top-k rows
are random, since no model is needed to time what follows it. Every figure is the median; one process, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
from chitchat_dataset import MessageDataset

from fusechat.alignment.align import align_conversation
from fusechat.alignment.dtw import match_rows_by_dtw
from fusechat.alignment.options import AlignmentOptions, TokenAlignment, VocabularyAlignment
from fusechat.alignment.pair_counts import PairCounts
from fusechat.alignment.tokens import match_rows_by_bytes, overlap
from fusechat.alignment.vocabulary import VocabularyMapping, map_vocabulary
from fusechat.tables import Representation, RowStatus
from tests.parity.alignment_inputs import plain_text, rendering, representation, vocabulary

PIVOT, SOURCE = "mistral_v1", "qwen3"
LENGTHS = (512, 1024, 2048)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20)
    repeat = parser.parse_args().repeat
    pairs = {length: _sequence(length) for length in LENGTHS}
    counts = PairCounts.total(PairCounts.from_conversation(*pair) for pair in pairs.values())
    mappings = {mode: _timed_mapping(mode, counts) for mode in VocabularyAlignment}
    mapping = mappings[VocabularyAlignment.STATISTICS]
    print("\nmilliseconds a sequence, one message (median)")
    print(f"{'pivot tokens':>12} {'count':>8} {'Bytes':>8} {'DTW':>8}   DTW's exact rows: precision, recall")
    for length, (pivot, source) in pairs.items():
        counting = _median(lambda p=pivot, s=source: PairCounts.from_conversation(p, s), repeat)  # type: ignore[misc]
        times = [_median(_align(pivot, source, mapping, tokens), repeat) for tokens in TokenAlignment]
        precision, recall = _agreement(pivot, source)
        print(f"{length:>12} {counting:>8.2f} {times[0]:>8.2f} {times[1]:>8.2f}   {precision:.3f}, {recall:.3f}")


def _sequence(length: int) -> tuple[Representation, Representation]:
    """One message of chat whose pivot rendering has about `length` tokens."""
    text = "\n".join(islice(MessageDataset(), 1000))
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        tokens = rendering(PIVOT, plain_text(text[: middle + 1])).position.size
        low, high = (middle + 1, high) if tokens < length else (low, middle)
    chat = plain_text(text[:low], length)
    return representation(PIVOT, chat), representation(SOURCE, chat)


def _align(
    pivot: Representation, source: Representation, mapping: VocabularyMapping, tokens: TokenAlignment
) -> Callable[[], object]:
    return lambda: align_conversation(pivot, source, mapping, AlignmentOptions(tokens))


def _agreement(pivot: Representation, source: Representation) -> tuple[float, float]:
    shared = overlap(pivot.rendering, source.rendering)
    truth, warped = match_rows_by_bytes(shared), match_rows_by_dtw(shared, vocabulary(PIVOT), vocabulary(SOURCE))
    exact, claimed = truth.status == RowStatus.EXACT, warped.status == RowStatus.EXACT
    right = np.sum(exact & claimed & (truth.source_row == warped.source_row))
    return right / claimed.sum(), right / exact.sum()


def _timed_mapping(mode: VocabularyAlignment, counts: PairCounts) -> VocabularyMapping:
    begin = time.perf_counter()
    mapping = map_vocabulary(vocabulary(SOURCE), vocabulary(PIVOT), mode, counts)
    rules = ", ".join(f"{rule.name.lower()} {count}" for rule, count in mapping.count_by_rule().items())
    print(f"map_vocabulary {mode}: {time.perf_counter() - begin:.2f} s; {rules}")
    return mapping


def _median(work: Callable[[], object], repeat: int) -> float:
    work()
    times: Sequence[float] = [_seconds(work) for _ in range(repeat)]
    return statistics.median(times) * 1000


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
