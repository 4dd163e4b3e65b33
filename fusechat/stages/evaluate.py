"""evaluate-<model>: bits per byte of held-out conversations, verifiable tasks, and one sample answer a skill.

Output: `evaluation.json` (fusechat.evaluation.results.ModelEvaluation), put together from `pieces/`: the text, each
task and the samples, of which each is measured once however many jobs ask for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from transformers import PreTrainedModel

from fusechat.canonical import Json
from fusechat.chat.render import ChatTokenizer
from fusechat.errors import TemporaryError
from fusechat.evaluation.answers import answer_task, sample_answers
from fusechat.evaluation.bits_per_byte import score_conversations
from fusechat.evaluation.results import GradedAnswer, ModelEvaluation, SampleAnswer, read_evaluation, write_evaluation
from fusechat.evaluation.tasks import TaskSpec, load_task
from fusechat.extraction.extract import BatchDone
from fusechat.gang.ranks import RankWork, run_ranks
from fusechat.plan.kinds.evaluate import EvaluateParameters, EvaluateSettings, TaskParameters
from fusechat.plan.values import to_json
from fusechat.stages.extract import render_all
from fusechat.stages.inference import load_for_inference, model_directory
from fusechat.storage.base import file_entry
from fusechat.storage.manifest import Part
from fusechat.tables import Conversation
from fusechat.worker.chunks import gpu_seconds
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import EVALUATION, VALIDATION, chunk_name
from fusechat.worker.parts import part_digest, remember, take_over
from fusechat.worker.splits import chunk_numbers, split_conversations

TEXT, SAMPLES = "text", "samples"

Context = StageContext[EvaluateParameters, EvaluateSettings]


def run(context: Context) -> None:
    """Evaluates one model under the same settings as every other model of the job."""
    clock = Clock.start(context.stage)
    pieces = _pieces(context)
    finished = context.writer().finished_parts()
    missing = [
        number
        for number, piece in enumerate(pieces)
        if piece.part not in finished and not take_over(context, piece.part, piece.file, piece.digest)
    ]
    if missing:
        ranks = context.settings.model.ranks
        if ranks > 1:
            model_directory(context, context.settings.model.location)  # fetched once, not by every rank
            run_ranks(context, ranks, missing)
        else:
            clock = make(context, missing)
    _complete(context, pieces, clock)


@dataclass(frozen=True)
class _Piece:
    """A part of the evaluation that can be had alone: the text, one task, the samples."""

    part: str
    digest: str
    """Of everything that it depends on."""
    task: TaskParameters | None = None
    task_name: str = ""

    @property
    def file(self) -> str:
        """What it measured, in the form of a whole evaluation."""
        return f"pieces/{self.part}.json"


def _pieces(context: Context) -> list[_Piece]:
    parameters = to_json(context.parameters)
    asked = {name: parameters.pop(name) for name in ("tasks", "sampleTokens")}
    reader = context.reader("held-out")
    made_by = context.stage.inputs.get("model")
    shared: dict[str, Json] = {
        "parameters": parameters,
        "model": context.plan.stage(made_by).digest if made_by else None,
        "rows": [reader.entry(chunk_name(VALIDATION, number)).sha256 for number in chunk_numbers(reader, VALIDATION)],
    }
    pieces = [_Piece(TEXT, part_digest("evaluate", shared | {"piece": TEXT}))]
    tasks = zip(context.parameters.tasks, context.settings.task_names, strict=True)
    pieces += [
        _Piece(f"task-{task.key}", part_digest("evaluate", shared | {"piece": to_json(task)}), task, name)
        for task, name in tasks
    ]
    if asked["sampleTokens"]:
        piece = {"piece": SAMPLES, "sampleTokens": asked["sampleTokens"]}
        pieces.append(_Piece(SAMPLES, part_digest("evaluate", shared | piece)))
    return pieces


def make(context: Context, missing: Sequence[int]) -> Clock:
    """Measures these pieces; the clock of this process, begun when the model was loaded."""
    held_out = list(split_conversations(context.reader("held-out"), VALIDATION))
    model, tokenizer = load_for_inference(context, context.parameters, context.settings.model)
    clock = Clock.start(context.stage)
    since = clock.process_started  # the first piece bears the cost of loading the model
    pieces = _pieces(context)
    for number in missing:
        evaluation, details = _measured(context, pieces[number], model, tokenizer, held_out)
        if context.writes:
            _store(context, pieces[number], evaluation, dict(details) | {"gpuSeconds": clock.gpu_seconds(since)})
        since = time.time()
    return clock


def run_rank(context: Context, work: RankWork) -> None:
    """One rank of a tensor-parallel model."""
    make(context, work.chunks)


def _store(context: Context, piece: _Piece, evaluation: ModelEvaluation, details: Mapping[str, Json]) -> None:
    path = context.scratch / f"{piece.part}.json"
    write_evaluation(path, evaluation)
    writer = context.writer()
    part = writer.finish_part(piece.part, [writer.put(path, piece.file, move=True)], details)
    remember(context, piece.digest, part)


def _complete(context: Context, pieces: Sequence[_Piece], clock: Clock) -> None:
    """The pieces as one evaluation. A piece that was withdrawn meanwhile is for the next attempt."""
    writer = context.writer()
    finished = writer.finished_parts()
    parts = {piece.part: finished[piece.part] for piece in pieces if piece.part in finished}
    if len(parts) < len(pieces):
        return
    measured = [_read_piece(context, parts[piece.part]) for piece in pieces]
    path = context.scratch / EVALUATION
    whole = ModelEvaluation(
        context.stage.subject,
        tuple(row for each in measured for row in each.conversations),
        tuple(answer for each in measured for answer in each.answers),
        tuple(sample for each in measured for sample in each.samples),
    )
    write_evaluation(path, whole)
    spent: dict[str, Json] = {"gpuSeconds": round(sum(map(gpu_seconds, parts.values())), 3)}
    dropped = parts[TEXT].details["dropped"]
    details: dict[str, Json] = {"conversations": len(whole.conversations), "dropped": dropped}
    writer.complete([writer.put(path, EVALUATION, move=True)], details | clock.details() | spent, parts=parts)


def _read_piece(context: Context, part: Part) -> ModelEvaluation:
    (file,) = part.files
    path = context.scratch / "piece.json"
    context.storage.download(f"{context.directory.key}/{file.path}", path)
    if file_entry(path, "").sha256 != file.sha256:
        reason = f"{context.directory.uri}/{file.path} was altered"
        context.directory.withdraw_parts([file.path], reason)
        raise TemporaryError(reason, hint="The next attempt measures it again.")
    return read_evaluation(path, context.stage.subject)


def _measured(
    context: Context,
    piece: _Piece,
    model: PreTrainedModel,
    tokenizer: ChatTokenizer,
    held_out: Sequence[Conversation],
) -> tuple[ModelEvaluation, Mapping[str, Json]]:
    """What the model says to one piece, and what is counted of it."""
    subject = context.stage.subject
    if piece.part == TEXT:
        return _text(context, model, tokenizer, held_out)
    if piece.task is None:
        return ModelEvaluation(subject, samples=_samples(context, model, tokenizer, held_out)), {}
    return ModelEvaluation(subject, answers=_answers(context, piece, model, tokenizer, held_out)), {}


def _text(
    context: Context, model: PreTrainedModel, tokenizer: ChatTokenizer, held_out: Sequence[Conversation]
) -> tuple[ModelEvaluation, Mapping[str, Json]]:
    renderings, dropped = render_all(tokenizer, held_out)
    skills = {conversation.row: conversation.skill for conversation in held_out}
    conversations = score_conversations(
        model,
        renderings,
        [skills[rendering.row] for rendering in renderings],
        token_budget=_token_budget(context),
        on_batch=_Rows(context, len(renderings)),
    )
    return ModelEvaluation(context.stage.subject, conversations), {"dropped": dict(sorted(dropped.items()))}


def _token_budget(context: Context) -> int:
    return context.settings.model.token_budget


class _Rows:
    """Progress in conversations."""

    def __init__(self, context: Context, total: int) -> None:
        self._context, self._total, self._done = context, total, 0

    def __call__(self, batch: BatchDone) -> None:
        self._done += batch.rows
        self._context.progress(self._done, self._total, "row")


def _answers(
    context: Context,
    piece: _Piece,
    model: PreTrainedModel,
    tokenizer: ChatTokenizer,
    held_out: Sequence[Conversation],
) -> tuple[GradedAnswer, ...]:
    assert piece.task is not None
    task = load_task(_task(piece.task), held_out)
    return answer_task(
        model,
        tokenizer,
        piece.task.key,
        task,
        max_new_tokens=piece.task.max_new_tokens,
        token_budget=_token_budget(context),
        on_batch=partial(_question_progress, context, piece.task_name, len(task.questions)),
    )


def _question_progress(context: Context, task: str, total: int, answered: int) -> None:
    context.progress(min(answered, total), total, "question", task=task)


def _task(task: TaskParameters) -> TaskSpec:
    return TaskSpec(
        name=task.key,
        type=task.type,
        task=task.task,
        skill=task.skill,
        size=task.size,
        seed=task.seed,
        config=task.config,
    )


def _samples(
    context: Context, model: PreTrainedModel, tokenizer: ChatTokenizer, held_out: Sequence[Conversation]
) -> tuple[SampleAnswer, ...]:
    """The answer to the first held-out prompt of each skill: the same prompts for every model."""
    length = context.parameters.sample_tokens
    first: dict[str, Conversation] = {}
    for conversation in held_out:
        if any(message.role == "user" for message in conversation.messages):
            first.setdefault(conversation.skill, conversation)
    if not length or not first:
        return ()
    chosen = [first[skill] for skill in sorted(first)]
    return sample_answers(model, tokenizer, chosen, max_new_tokens=length, token_budget=_token_budget(context))
