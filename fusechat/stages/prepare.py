"""prepare: from dataset files to normalised, de-duplicated, split and chunked conversations, whatever the models.

Output: `train/chunk-NNNNN.parquet`, `validation/chunk-NNNNN.parquet` (fusechat.tables.Conversation), `statistics.json`.
A row's number is its place in the dataset, dropped rows counted, so that it names the same row for everybody.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusechat.canonical import canonical_json
from fusechat.chat.parse import ParsedRow, parse_row
from fusechat.chat.reasons import Dropped
from fusechat.errors import InvalidDataError
from fusechat.records import Malformed, data_files, read_records
from fusechat.stages.context import Clock, StageContext
from fusechat.stages.layout import STATISTICS, TRAIN, VALIDATION, chunk_name
from fusechat.stages.pinned import fetch_dataset
from fusechat.tables import Conversation, Message, write_conversations

SPLITS = (TRAIN, VALIDATION)
_EXAMPLES = 3
"""Places named for each reason of dropping."""


@dataclass
class Statistics:
    """What became of the rows."""

    read: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    """By split."""
    skills: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Some places, by reason."""
    normalized: int = 0
    """Rows that Unicode normalisation changed."""
    cut_texts: int = 0
    """Plain texts that were cut into several rows."""

    def drop(self, reason: str, where: str) -> None:
        """Counts a row that cannot be used."""
        self.dropped[reason] += 1
        places = self.examples.setdefault(reason, [])
        if len(places) < _EXAMPLES:
            places.append(where)

    def to_json(self) -> dict[str, Any]:
        """Plain values, keys sorted."""
        return {
            "read": self.read,
            "kept": dict(sorted(self.kept.items())),
            "skills": dict(sorted(self.skills.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "examples": dict(sorted(self.examples.items())),
            "normalized": self.normalized,
            "cutTexts": self.cut_texts,
        }


def run(context: StageContext) -> None:
    """Prepares the dataset of the stage's settings. InvalidDataError when too much of it cannot be used."""
    clock = Clock.start()
    parameters, settings = context.stage.parameters, context.stage.settings
    source = fetch_dataset(context, settings)
    statistics = Statistics()
    rows: dict[str, list[Conversation]] = {split: [] for split in SPLITS}
    for split, conversation in _split(_conversations(source, parameters, statistics), parameters, statistics):
        rows[split].append(conversation)
    _check(statistics, settings)
    _write(context, rows, int(parameters["chunkRows"]), statistics, clock)


def _conversations(
    source: Path, parameters: Mapping[str, Any], statistics: Statistics
) -> Iterator[tuple[str, Conversation]]:
    """Place and conversation of every row that can be used, in the order of the files."""
    base = source if source.is_dir() else source.parent
    for file in data_files(source):
        name = file.relative_to(base).as_posix()
        for number, record in enumerate(read_records(file, name)):
            where = f"{name}[{number}]"
            row = statistics.read
            statistics.read += 1
            parsed = _parsed(record, parameters)
            if isinstance(parsed, ParsedRow):
                statistics.normalized += parsed.normalized
                yield where, Conversation(row, parsed.messages, parsed.skill)
            else:
                statistics.drop(parsed, where)


def _parsed(record: Mapping[str, Any] | Malformed, parameters: Mapping[str, Any]) -> ParsedRow | str:
    if isinstance(record, Malformed):
        return "Malformed"
    parsed = parse_row(
        record,
        format=parameters["format"],
        normalize=parameters["normalize"],
        skill_field=parameters["skillField"],
    )
    return str(parsed.reason) if isinstance(parsed, Dropped) else parsed


def _split(
    conversations: Iterator[tuple[str, Conversation]], parameters: Mapping[str, Any], statistics: Statistics
) -> Iterator[tuple[str, Conversation]]:
    """Drops exact duplicates (the first stays) and chooses the split by a hash of the first user message."""
    seen: set[bytes] = set()
    for where, conversation in conversations:
        content = [[message.role, message.content] for message in conversation.messages]
        key = hashlib.sha256(canonical_json(content)).digest()
        if key in seen:
            statistics.drop("Duplicate", where)
            continue
        seen.add(key)
        held_out = _hash_fraction(first_question(conversation)) < float(parameters["validationFraction"])
        split = VALIDATION if held_out else TRAIN
        statistics.kept[split] += 1
        statistics.skills[conversation.skill] += 1
        yield split, conversation


def first_question(conversation: Conversation) -> Message:
    """The first user message; of a plain text, or where there is none, the first message."""
    users = (message for message in conversation.messages if message.role == "user")
    return next(users, conversation.messages[0])


def _hash_fraction(message: Message) -> float:
    """Uniform in [0, 1), from the text alone."""
    return int.from_bytes(hashlib.sha256(message.content.encode()).digest()[:8], "big") / 2**64


def _check(statistics: Statistics, settings: Mapping[str, Any]) -> None:
    """InvalidDataError for an empty dataset, or when more than `maxDroppedFraction` of it was dropped."""
    uri, dropped = settings["uri"], sum(statistics.dropped.values())
    if not statistics.read:
        raise InvalidDataError(f"The dataset {uri} is empty.", mend="Name files that hold at least one row.")
    unusable = dropped - statistics.dropped["Duplicate"]
    limit = float(settings["maxDroppedFraction"])
    if unusable > limit * statistics.read or unusable == statistics.read:
        reasons = ", ".join(
            f"{count} {reason} (such as {', '.join(statistics.examples[reason])})"
            for reason, count in statistics.dropped.most_common()
        )
        raise InvalidDataError(
            f"{unusable} of {statistics.read} rows of {uri} cannot be used, more than "
            f"spec.dataset.maxDroppedFraction ({limit:g}) allows: {reasons}.",
            mend="Mend the rows, set spec.dataset.format if it was guessed wrong, or raise maxDroppedFraction.",
        )


def _write(
    context: StageContext, rows: Mapping[str, list[Conversation]], size: int, statistics: Statistics, clock: Clock
) -> None:
    writer = context.writer()
    entries = []
    for split, conversations in rows.items():
        for number, begin in enumerate(range(0, len(conversations), size)):
            path = context.scratch / "chunk.parquet"
            write_conversations(path, conversations[begin : begin + size])
            entries.append(writer.put(path, chunk_name(split, number), move=True))
            context.progress(begin, len(conversations), "row", split=split)
    path = context.scratch / STATISTICS
    path.write_text(json.dumps(statistics.to_json(), indent=2, ensure_ascii=False) + "\n")
    entries.append(writer.put(path, STATISTICS, move=True))
    writer.complete(entries, {"statistics": statistics.to_json(), **clock.details()})
