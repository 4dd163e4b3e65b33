"""What a Python program does with FuseChat: the functions that `import fusechat` offers.

    import fusechat
    job = fusechat.load_job("job.yaml")
    print(fusechat.plan_job(job).plan.stages)
    outcome = fusechat.run(job)

Heavy imports are inside the functions: importing this module needs neither torch nor a network.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.planned_job import PlannedJob, planned, write_plan
from fusechat.spec.job import FuseJob
from fusechat.spec.load import load_job as load_document
from fusechat.spec.uris import absolute_uri, resolve_uris

if TYPE_CHECKING:
    from fusechat.alignment.options import AlignmentOptions
    from fusechat.dataset_files import Purpose
    from fusechat.evaluation.compare import Comparison
    from fusechat.evaluation.results import ModelEvaluation
    from fusechat.runner.observer import Observer
    from fusechat.runner.state import Outcome
    from fusechat.tables import Alignment, Conversation, Representation, Vocabulary

_COMMAND_LINE = "fusechat.cli.main"
"""Runs a stage in a forked process, as the command line would; named, for it stands above this module."""


@dataclass(frozen=True)
class RunResult:
    """What `run` left behind."""

    planned: PlannedJob
    ran: tuple[str, ...]
    """Stages that ran, in order of completion."""
    cached: tuple[str, ...]
    """Stages whose output was there before."""

    def output(self, stage: str, cache: Path | None = None) -> dict[str, Path]:
        """Name -> local path of every file of a finished stage, each verified."""
        from fusechat.storage.cache import cache_directory
        from fusechat.worker.context import stage_directory

        directory = stage_directory(self.planned.storage, self.planned.plan.stage(stage))
        reader = directory.reader(cache or cache_directory())
        return {name: reader.fetch(name) for name in reader.names()}

    @property
    def model(self) -> Path:
        """A local directory with the fused model."""
        return self.output(self.planned.plan.result)["model/config.json"].parent

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.output("report")["report.html"]


@dataclass(frozen=True)
class Extraction:
    """What a model says about some conversations."""

    vocabulary: Vocabulary
    representations: Sequence[Representation]
    """One for each conversation that the model could read, in the order given."""
    dropped: Mapping[int, str]
    """Row of each conversation that it could not read -> the reason."""


def load_job(file: str | Path) -> FuseJob:
    """Reads and checks a job file; relative paths become absolute. SpecError names every mistake with its line."""
    loaded = load_document(Path(file))
    return resolve_uris(loaded.job, loaded.base)


def plan_job(job: FuseJob, *, offline: bool = False) -> PlannedJob:
    """Pins what can move and plans every stage with its digest. Offline: what is not known stays unresolved."""
    return planned(job, offline=offline)


def run(job: FuseJob, *, parallel: int | None = None, observer: Observer | None = None) -> RunResult:
    """Runs what is missing on this machine, as `fusechat run` does. `parallel`: stage processes at once.

    A program that calls this is imported again by the processes of stages: guard it with `if __name__ == "__main__":`.
    StageFailedError when a stage fails for good, InterruptedStageError after Ctrl-C.
    """
    plan = planned(job)
    write_plan(plan)
    outcome = run_plan(plan, parallel, observer)
    return RunResult(plan, outcome.ran, outcome.cached)


def run_plan(plan: PlannedJob, parallel: int | None = None, observer: Observer | None = None) -> Outcome:
    """Runs a plan that is stored."""
    from fusechat.runner.local import LocalExecutor
    from fusechat.runner.machine import this_machine
    from fusechat.runner.observer import Observer

    executor = LocalExecutor(
        plan.storage,
        plan.plan,
        this_machine(parallel, plan.job.spec.threads),
        observer or Observer(),
        log_directory(plan),
        importlib.import_module(_COMMAND_LINE).run,
        plan.environment,
    )
    return executor.run(attempts=plan.job.spec.retry.attempts)


def log_directory(plan: PlannedJob) -> Path:
    """Where the stages' logs of this machine go: beside the outputs, or in the cache for a remote storage."""
    from fusechat.storage.cache import cache_directory

    key = f"logs/{plan.plan.digest[:12]}"
    return plan.storage.local_path(key) or cache_directory() / key


def load_conversations(
    uri: str,
    *,
    skill_field: str = "skill",
    purpose: Purpose = "training",
    on_left_out: Callable[[int, int], None] | None = None,
    on_not_read: Callable[[Sequence[str]], None] | None = None,
) -> list[Conversation]:
    """Conversations of a file or directory, in any format that a job takes.

    Of a directory with splits it reads those for `purpose`; `on_not_read` hears which other files there are. Rows that
    are no conversations are left out; `on_left_out` hears how many, and of how many. InvalidDataError if all are.
    """
    from glob import escape

    from fusechat.chat.parse import ROW_COLUMNS, ParsedRow, parse_row
    from fusechat.dataset_files import DataChoice, choose_files
    from fusechat.errors import InvalidDataError
    from fusechat.records import Malformed, read_records
    from fusechat.storage.cache import cache_directory
    from fusechat.storage.inputs import fetch, locate

    place = absolute_uri(uri, Path.cwd())
    chosen = choose_files(place, [file.path for file in locate(place, kind="dataset").files], DataChoice(purpose))
    if chosen.not_read and on_not_read:
        on_not_read(chosen.not_read)
    source = fetch(place, cache_directory(), kind="dataset", patterns=[escape(path) for path in chosen.read])
    files = {name: source if source.is_file() else source / name for name in chosen.read}
    columns = (*ROW_COLUMNS, skill_field)
    records = [record.value for name, file in files.items() for record in read_records(file, name, columns)]
    parsed = [parse_row(record, skill_field=skill_field) for record in records if not isinstance(record, Malformed)]
    conversations = [row.conversation(number) for number, row in enumerate(parsed) if isinstance(row, ParsedRow)]
    if not conversations:
        raise InvalidDataError(f"{uri} holds no conversation.", hint="Name a file that `fusechat run` could read.")
    if len(conversations) < len(records) and on_left_out:
        on_left_out(len(records) - len(conversations), len(records))
    return conversations


def extract(
    model: Path,
    conversations: Sequence[Conversation],
    *,
    top_k: int = 10,
    max_length: int = 2048,
    token_budget: int = 8192,
    chat_template: str | None = None,
) -> Extraction:
    """Top-k next-token distributions of the model in directory `model` over the conversations (arXiv 2402.16107,
    section 3.1). `token_budget`: padded tokens per batch. Needs the extra `ml`."""
    from fusechat.chat.render import ChatTokenizer
    from fusechat.chat.vocabulary import vocabulary_of
    from fusechat.extraction.extract import extract_chunk
    from fusechat.extraction.forward import output_size
    from fusechat.extraction.model import load_model
    from fusechat.tables import Rendering

    tokenizer = ChatTokenizer.load(model, chat_template=chat_template, max_length=max_length)
    rows = tokenizer.render_many(conversations).rows
    renderings = [row for row in rows if isinstance(row, Rendering)]
    loaded = load_model(model)
    return Extraction(
        vocabulary_of(tokenizer, output_size(loaded)),
        extract_chunk(loaded, renderings, top_k=top_k, token_budget=token_budget),
        {
            conversation.row: str(row.reason)
            for conversation, row in zip(conversations, rows, strict=True)
            if not isinstance(row, Rendering)
        },
    )


def align(pivot: Extraction, source: Extraction, options: AlignmentOptions | None = None) -> list[Alignment]:
    """The source's distributions on the pivot's tokens and vocabulary, one for each of the pivot's conversations.

    The vocabulary mapping is by statistics over these conversations, as `alignment.vocabulary: Statistics` of a job.
    Needs the extra `ml` for `alignment.tokens: DTW` alone.
    """
    from fusechat.alignment.align import align_conversation
    from fusechat.alignment.options import AlignmentOptions, VocabularyAlignment
    from fusechat.alignment.pair_counts import PairCounts
    from fusechat.alignment.vocabulary import map_vocabulary, same_vocabulary

    of_source = {each.rendering.row: each for each in source.representations}
    pairs = [(each, of_source.get(each.rendering.row)) for each in pivot.representations]
    counts = None
    if not same_vocabulary(source.vocabulary, pivot.vocabulary):
        counts = PairCounts.total(PairCounts.from_conversation(one, other) for one, other in pairs if other)
    mapping = map_vocabulary(source.vocabulary, pivot.vocabulary, VocabularyAlignment.STATISTICS, counts)
    return [align_conversation(one, other, mapping, options or AlignmentOptions()) for one, other in pairs]


def evaluate(
    models: Mapping[str, Path],
    conversations: Sequence[Conversation],
    *,
    max_length: int = 2048,
    token_budget: int = 8192,
    resamples: int = 2000,
) -> Comparison:
    """Bits per byte of the assistant's text of every model (name -> directory), each in its own chat template, and 95%
    intervals of the first model's difference to each other one (paired bootstrap). Needs the extra `ml`."""
    from fusechat.evaluation.compare import compare

    evaluations = [
        _evaluated(name, directory, conversations, max_length, token_budget) for name, directory in models.items()
    ]
    first, *others = models
    return compare(evaluations, [(first, other) for other in others], resamples=resamples)


def _evaluated(
    name: str, directory: Path, conversations: Sequence[Conversation], max_length: int, token_budget: int
) -> ModelEvaluation:
    from fusechat.chat.render import ChatTokenizer
    from fusechat.evaluation.bits_per_byte import score_conversations
    from fusechat.evaluation.results import ModelEvaluation
    from fusechat.extraction.model import load_model
    from fusechat.tables import Rendering

    tokenizer = ChatTokenizer.load(directory, chat_template=None, max_length=max_length)
    renderings = [row for row in tokenizer.render_many(conversations).rows if isinstance(row, Rendering)]
    skills = {conversation.row: conversation.skill for conversation in conversations}
    scored = score_conversations(
        load_model(directory), renderings, [skills[r.row] for r in renderings], token_budget=token_budget
    )
    return ModelEvaluation(name, scored)
