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
from typing import Any

from fusechat.canonical import canonical_json
from fusechat.chat.parse import ROW_COLUMNS, ParsedRow, parse_row
from fusechat.chat.reasons import Dropped, Reason
from fusechat.dataset_files import DataChoice, Purpose, files_named
from fusechat.errors import InvalidDataError
from fusechat.parquet import write_conversations
from fusechat.plan.kinds.prepare import PrepareParameters, PrepareSettings
from fusechat.records import Malformed, read_records
from fusechat.storage.base import FileEntry
from fusechat.tables import Conversation, Message
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import STATISTICS, TRAIN, VALIDATION, chunk_name
from fusechat.worker.pinned import FetchedDataset, fetch_dataset
from fusechat.worker.splits import split_conversations

SPLITS = (TRAIN, VALIDATION)
_ON_PURPOSE = ("Duplicate", "InTrainingRows", Reason.ALL_MASKED)
"""Reasons of dropping that do not make a dataset unusable: it means them."""
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
    masked_turns: int = 0
    """Answers of kept conversations that the dataset masks."""
    not_read: tuple[str, ...] = ()
    """Files of the dataset's directory that were left alone."""

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
            "maskedTurns": self.masked_turns,
            "notRead": list(self.not_read),
        }

    def warnings(self) -> list[str]:
        """What a user should know of."""
        return [f"not read: {files_named(self.not_read)}."] if self.not_read else []


Context = StageContext[PrepareParameters, PrepareSettings]


def run(context: Context) -> None:
    """Prepares the dataset of the stage's settings. InvalidDataError when too much of it cannot be used."""
    clock = Clock.start(context.stage)
    parameters, settings = context.parameters, context.settings
    purpose: Purpose = "held-out" if "training" in context.stage.inputs else "training"
    source = fetch_dataset(context, settings.location, DataChoice(purpose, settings.split, settings.files))
    statistics = Statistics(not_read=source.not_read)
    chunks = _Chunks(context, parameters.chunk_rows)
    rows = _conversations(source, parameters, statistics)
    for split, conversation in _split(rows, statistics, _training_rows(context)):
        chunks.add(split, conversation)
    _check(statistics, settings)
    chunks.complete(statistics, clock)


def _conversations(
    source: FetchedDataset, parameters: PrepareParameters, statistics: Statistics
) -> Iterator[tuple[str, bool, Conversation]]:
    """Place, whether it is held out, and content of every row that can be used, in the order of the files."""
    held_out_fraction, longest = parameters.validation_fraction, parameters.text_bytes
    extra = 0  # rows that cut texts added, so that every row has a number of its own
    columns = (*ROW_COLUMNS, parameters.skill_field)
    for name, file in source.files.items():
        for record in read_records(file, name, columns):
            where, row = record.place, statistics.read + extra
            statistics.read += 1
            parsed = _parsed(record.value, parameters)
            if isinstance(parsed, Dropped):
                statistics.drop(str(parsed.reason), record.with_cause(parsed.detail))
                continue
            statistics.normalized += parsed.normalized
            whole = Conversation(row, parsed.messages, parsed.skill)
            # by the whole text: its pieces must not be dealt to both sides
            held_out = _hash_fraction(first_question(whole)) < held_out_fraction
            pieces = _pieces(whole, longest)
            extra += len(pieces) - 1
            statistics.cut_texts += len(pieces) > 1
            yield from ((where, held_out, piece) for piece in pieces)


def _pieces(conversation: Conversation, longest: int) -> list[Conversation]:
    """A plain text in rows of at most `longest` bytes; any other conversation as it is."""
    message = conversation.messages[0]
    if message.role != "text":
        return [conversation]
    texts = cut_text(message.content, longest)
    return [
        Conversation(conversation.row + number, (Message("text", text),), conversation.skill)
        for number, text in enumerate(texts)
    ]


def cut_text(text: str, longest: int) -> list[str]:
    """Pieces of at most `longest` UTF-8 bytes that join to `text`, cut after whitespace, or between characters where a
    piece has none."""
    data = text.encode()
    pieces, begin = [], 0
    while len(data) - begin > longest:
        end = _cut(data, begin, begin + longest)
        pieces.append(data[begin:end].decode())
        begin = end
    return [*pieces, data[begin:].decode()]


def _cut(data: bytes, begin: int, limit: int) -> int:
    """The last place at most `limit` where a piece may end."""
    while data[limit] & 0xC0 == 0x80:  # inside a character
        limit -= 1
    spaces = [data.rfind(space, begin, limit) for space in (b" ", b"\n", b"\t")]
    return max(spaces) + 1 if max(spaces) > begin else limit


def _training_rows(context: Context) -> set[bytes]:
    """Hashes of the rows that a held-out set must not repeat."""
    if "training" not in context.stage.inputs:
        return set()
    return {_text_key(conversation) for conversation in split_conversations(context.reader("training"), TRAIN)}


def _text_key(conversation: Conversation) -> bytes:
    content = [[message.role, message.content] for message in conversation.messages]
    return hashlib.sha256(canonical_json(content)).digest()


def _row_key(conversation: Conversation) -> bytes:
    """Rows of one text that train different answers are no duplicates."""
    masks = bytes(message.trains for message in conversation.messages)
    return _text_key(conversation) + (b"" if all(masks) else masks)


def _parsed(record: Mapping[str, Any] | Malformed, parameters: PrepareParameters) -> ParsedRow | Dropped:
    if isinstance(record, Malformed):
        return Dropped(Reason.MALFORMED, record.reason)
    return parse_row(
        record,
        format=parameters.format,
        normalize=parameters.normalize,
        skill_field=parameters.skill_field,
    )


def _split(
    rows: Iterator[tuple[str, bool, Conversation]], statistics: Statistics, training: set[bytes]
) -> Iterator[tuple[str, Conversation]]:
    """Drops exact duplicates (the first stays), and of a held-out set whatever is in the training rows."""
    seen: set[bytes] = set()
    for where, held_out, conversation in rows:
        key = _row_key(conversation)
        if key in seen or _text_key(conversation) in training:
            statistics.drop("Duplicate" if key in seen else "InTrainingRows", where)
            continue
        seen.add(key)
        statistics.masked_turns += sum(not message.trains for message in conversation.messages)
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


def _check(statistics: Statistics, settings: PrepareSettings) -> None:
    """InvalidDataError for an empty dataset, or when more than `maxDroppedFraction` of it was dropped."""
    uri, dropped = settings.location.uri, sum(statistics.dropped.values())
    if not statistics.read:
        raise InvalidDataError(f"The dataset {uri} is empty.", hint="Name files that hold at least one row.")
    unusable = dropped - sum(statistics.dropped[reason] for reason in _ON_PURPOSE)
    limit = settings.max_dropped_fraction
    all_masked = not statistics.kept and statistics.dropped[Reason.ALL_MASKED]
    if unusable > limit * statistics.read or unusable == statistics.read or all_masked:
        reasons = ", ".join(
            f"{count} {reason} (such as {', '.join(statistics.examples[reason])})"
            for reason, count in statistics.dropped.most_common()
        )
        raise InvalidDataError(
            f"{dropped if all_masked else unusable} of {statistics.read} rows of {uri} cannot be used, more than "
            f"spec.dataset.maxDroppedFraction ({limit:g}) allows: {reasons}.",
            hint="Mend the rows, set spec.dataset.format if it was guessed wrong, or raise maxDroppedFraction.",
        )


class _Chunks:
    """Writes each split's rows as soon as a chunk of them is full."""

    def __init__(self, context: Context, size: int) -> None:
        self._context, self._size = context, size
        self._writer = context.writer()
        self._waiting: dict[str, list[Conversation]] = {split: [] for split in SPLITS}
        self._written: Counter[str] = Counter()
        self._entries: list[FileEntry] = []

    def add(self, split: str, conversation: Conversation) -> None:
        """The next row of a split."""
        self._waiting[split].append(conversation)
        if len(self._waiting[split]) == self._size:
            self._write(split)

    def complete(self, statistics: Statistics, clock: Clock) -> None:
        """Writes what is left, the statistics, and the manifest."""
        for split in SPLITS:
            if self._waiting[split]:
                self._write(split)
        path = self._context.scratch / STATISTICS
        path.write_text(json.dumps(statistics.to_json(), indent=2, ensure_ascii=False) + "\n")
        self._entries.append(self._writer.put(path, STATISTICS, move=True))
        self._writer.complete(
            self._entries, {"statistics": statistics.to_json(), "warnings": statistics.warnings(), **clock.details()}
        )

    def _write(self, split: str) -> None:
        path = self._context.scratch / "chunk.parquet"
        write_conversations(path, self._waiting[split])
        name = chunk_name(split, self._written[split])
        self._entries.append(self._writer.put(path, name, move=True))
        self._written[split] += 1
        self._waiting[split] = []
        # how many rows there are is known only at the end
        self._context.progress(sum(self._written.values()), sum(self._written.values()), "chunk", split=split)
