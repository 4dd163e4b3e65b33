"""The dataset, and what is done with it before training: extraction and alignment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fusechat.spec.base import DataFormat, Fraction, SpecObject, Text, Uri

Normalization = Literal["NFC", "None"]


class DataSource(SpecObject):
    """Conversations by URI."""

    uri: Uri
    """A JSONL, JSON (both also as .gz) or Parquet file, or a directory of them: `hf://datasets/organisation/name`,
    `s3://`, `file://`, or a path relative to the job file."""
    revision: Annotated[str | None, Field(max_length=200)] = None
    """Branch, tag or commit of an `hf://` dataset. Default: the main branch."""
    split: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    """Files of a directory to read, by the split that the name of the file or its folder says: train, validation,
    test, a split of one's own such as train_sft in train_sft-00000-of-00001.parquet, or all. Default: for the dataset
    all but test and validation files, for `heldOut` test files, or where there are none validation files, or where
    there are neither all. What is not read is named."""
    files: Annotated[str | None, Field(min_length=1, max_length=512)] = None
    """Glob over the paths in the directory, such as `main/*.parquet`; `*` matches slashes too. Without `split`,
    whatever it matches is read."""
    format: DataFormat = "Auto"
    """ShareGPT (`conversations` of from/value), Messages (`messages` of role/content), Text (`text`), or Auto: by the
    keys of each row. An assistant turn with `weight: 0`, `train: false`, `training: false` or `loss: false`, or with a
    span of `train_detail` that does not train, carries no loss."""
    skill_field: Annotated[str, Field(max_length=64)] = "skill"
    """Column that names a row's skill or category, where there is one; evaluation is reported by it."""


class DatasetSpec(DataSource):
    """The fusion dataset."""

    normalize: Normalization = "NFC"
    """Unicode normalisation before anything else. Some tokenizers (Qwen) normalise by themselves; without NFC such
    rows cannot be located and are dropped."""
    chunk_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Rows per chunk: the unit of resumption and of sharing work among workers."""
    validation_fraction: Annotated[float, Field(ge=0, le=0.9)] = 0.02
    """Share held out, chosen by a hash of the first user message."""
    text_bytes: Annotated[int, Field(ge=64, le=16_777_216)] = 4096
    """Plain texts longer than this many bytes are cut into several rows, at whitespace where there is any."""
    max_dropped_fraction: Fraction = 0.05
    """More unusable rows than this share is an error (65), also of the conversations that one model of the job cannot
    read (its template refuses them, say); fewer are counted by reason and reported."""


class ExtractionSpec(SpecObject):
    """How representations are extracted."""

    top_k: Annotated[int, Field(ge=1, le=256)] = 10
    """Most probable next tokens kept a row."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Workers per model; worker i of n takes chunks i mod n. May be changed at any time, changes no result."""
    token_budget: Annotated[int, Field(ge=64, le=4_194_304)] = 8192
    """Padded tokens per batch. Lower it when the accelerator runs out of memory."""


class AlignmentSpec(SpecObject):
    """How a source's rows are put onto the pivot's tokens and vocabulary."""

    tokens: Literal["Bytes", "DTW"] = "Bytes"
    """Bytes: rows whose tokens begin at the same byte, exact. DTW: the release's dynamic time warping, for
    comparison."""
    partial: Literal["Span", "Context"] = "Span"
    """Rows that begin together and end apart: Span uses the gold token alone, Context (the release) maps the row as
    it is."""
    vocabulary: Literal["Statistics", "EditDistance", "Exact"] = "Statistics"
    """Ids without an identical piece in the pivot: the most frequent counterpart (MS), the least edit distance
    (MinED), or nothing (EM)."""
    template: Literal["Own", "Pivot"] = "Own"
    """Own: each model reads a conversation in its own chat template. Pivot: in the pivot's, as the release does."""
    min_teaching_fraction: Fraction = 0.05
    """A source that has something to teach in a smaller share of the conversations is an error (65): it could not read
    them, or shares no token with the pivot. 0 allows it. How often it is then picked is another question: below 5%
    there is a warning."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU workers per source. May be changed at any time, changes no result."""


class TaskSpec(SpecObject):
    """A task whose answers are graded by a program."""

    name: Annotated[str, Field(pattern=r"^[a-z]([-_a-z0-9]*[a-z0-9])?$", max_length=40)]
    """Name in tables."""
    type: Literal["ReasoningGym", "ExactAnswer"] = "ReasoningGym"
    """ReasoningGym: a procedural task with its own grader. ExactAnswer: the last answer of held-out conversations of
    one skill, compared exactly."""
    task: Annotated[str | None, Field(max_length=64)] = None
    """ReasoningGym: the task's name, such as `number_sorting`."""
    skill: Annotated[str | None, Field(max_length=64)] = None
    """ExactAnswer: the skill whose held-out conversations are asked."""
    size: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Questions asked, at most."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of the questions."""
    config: dict[str, bool | int | float | Text] = Field(default={}, max_length=32)
    """ReasoningGym: options of the task."""
    max_new_tokens: Annotated[int, Field(ge=1, le=32_768)] = 256
    """Longest answer, in tokens."""


class EvaluationSpec(SpecObject):
    """How every model is evaluated, side by side."""

    held_out: DataSource | None = None
    """Conversations for bits per byte and ExactAnswer tasks. Default: the dataset's validation split."""
    tasks: list[TaskSpec] = Field(default=[], max_length=32)
    """Verifiable tasks."""
    bootstrap_samples: Annotated[int, Field(ge=100, le=1_000_000)] = 2000
    """Resamples of the paired bootstrap behind every interval."""
    sample_tokens: Annotated[int, Field(ge=0, le=4096)] = 128
    """Length of the sample answer that each model gives to one held-out prompt per skill, for the report; 0: none."""
    token_budget: Annotated[int, Field(ge=64, le=4_194_304)] = 8192
    """Padded tokens per batch."""
