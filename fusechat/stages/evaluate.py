"""evaluate-<model>: bits per byte of held-out conversations, verifiable tasks, and one sample answer a skill.

Output: `evaluation.json` (fusechat.evaluation.results.ModelEvaluation).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from transformers import PreTrainedModel

from fusechat.canonical import Json
from fusechat.chat.render import ChatTokenizer
from fusechat.evaluation.answers import answer_task, sample_answers
from fusechat.evaluation.bits_per_byte import score_conversations
from fusechat.evaluation.results import GradedAnswer, ModelEvaluation, SampleAnswer, write_evaluation
from fusechat.evaluation.tasks import TaskSpec, load_task
from fusechat.extraction.extract import BatchDone
from fusechat.gang.ranks import RankWork, run_ranks
from fusechat.plan.kinds.evaluate import EvaluateParameters, EvaluateSettings, TaskParameters
from fusechat.stages.extract import render_all
from fusechat.stages.inference import load_for_inference, model_directory
from fusechat.tables import Conversation
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import EVALUATION, VALIDATION
from fusechat.worker.splits import split_conversations

Context = StageContext[EvaluateParameters, EvaluateSettings]


def run(context: Context) -> None:
    """Evaluates one model under the same settings as every other model of the job."""
    ranks = context.settings.model.ranks
    if ranks > 1:
        model_directory(context, context.settings.model.location)  # fetched once, not by every rank
        run_ranks(context, ranks)
    else:
        make(context)


def make(context: Context) -> None:
    """The evaluation, in this process."""
    held_out = _held_out(context)
    model, tokenizer = load_for_inference(context, context.parameters, context.settings.model)
    clock = Clock.start(context.stage)
    renderings, dropped = render_all(tokenizer, held_out)
    skills = {conversation.row: conversation.skill for conversation in held_out}
    conversations = score_conversations(
        model,
        renderings,
        [skills[rendering.row] for rendering in renderings],
        token_budget=_token_budget(context),
        on_batch=_Rows(context, len(renderings)),
    )
    evaluation = ModelEvaluation(
        context.stage.subject,
        conversations,
        _answers(context, model, tokenizer, held_out),
        _samples(context, model, tokenizer, held_out),
    )
    if not context.writes:
        return
    path = context.scratch / EVALUATION
    write_evaluation(path, evaluation)
    writer = context.writer()
    details: dict[str, Json] = {"conversations": len(conversations), "dropped": dict(sorted(dropped.items()))}
    writer.complete([writer.put(path, EVALUATION, move=True)], details | clock.details())


def run_rank(context: Context, _work: RankWork) -> None:
    """One rank of a tensor-parallel model."""
    make(context)


def _held_out(context: Context) -> list[Conversation]:
    return list(split_conversations(context.reader("held-out"), VALIDATION))


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
    context: Context, model: PreTrainedModel, tokenizer: ChatTokenizer, held_out: Sequence[Conversation]
) -> tuple[GradedAnswer, ...]:
    answers: list[GradedAnswer] = []
    for name, wanted in zip(context.settings.task_names, context.parameters.tasks, strict=True):
        task = load_task(_task(wanted), held_out)
        answers += answer_task(
            model,
            tokenizer,
            wanted.key,
            task,
            max_new_tokens=wanted.max_new_tokens,
            token_budget=_token_budget(context),
            on_batch=partial(_question_progress, context, name, len(task.questions)),
        )
    return tuple(answers)


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
