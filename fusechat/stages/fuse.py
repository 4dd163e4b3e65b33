"""fuse-<source>, fuse-joint, fuse-baseline: selects the teacher of every conversation and fine-tunes the pivot.

Output: `model/`, `metrics.jsonl`, `training.json`, `selection.json`, `tensorboard/`. Checkpoints lie beside the stages.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from fusechat.chat.render import ChatTokenizer
from fusechat.fusion.examples import gold_examples, write_examples
from fusechat.fusion.metrics import METRICS_FILE, seconds_before
from fusechat.fusion.selected import FusionInputs, SelectionReport, write_selected_examples
from fusechat.fusion.selection import SelectionRule
from fusechat.fusion.settings import (
    CheckpointLocation,
    DeepSpeedSettings,
    FusionLossSettings,
    Offload,
    Precision,
    SaveDtype,
    TrainingJob,
    TrainingSettings,
)
from fusechat.fusion.targets import Tail, TargetSettings
from fusechat.fusion.train_process import open_checkpoints
from fusechat.gang.launch_training import run_training
from fusechat.gang.torchrun import Gang
from fusechat.parquet import read_conversations
from fusechat.plan.kinds.fuse import DeepSpeedOptions, Distillation, FuseParameters, FuseSettings
from fusechat.storage.reading import OutputReader
from fusechat.tables import Rendering
from fusechat.worker.clock import Clock
from fusechat.worker.context import StageContext
from fusechat.worker.layout import ALIGNMENTS, REPRESENTATIONS, SELECTION, TRAINING, VALIDATION, chunk_name
from fusechat.worker.pinned import fetch_model
from fusechat.worker.splits import chunk_numbers

Context = StageContext[FuseParameters, FuseSettings]


def run(context: Context) -> None:
    """Trains one target; every node of a gang runs this, node 0 stores the result."""
    clock = Clock.start(context.stage)
    gang = Gang.of(context.stage)
    pivot = fetch_model(context, context.settings.location)
    job = training_job(context, pivot, gang)
    report = _write_examples(context, job)
    _write_held_out(context, job, pivot)
    run_training(job, gang, context.progress)
    if gang.node == 0:
        _store(context, job, report, clock)


def training_job(context: Context, pivot: Path, gang: Gang) -> TrainingJob:
    """What the training processes are told."""
    scratch = context.scratch
    return TrainingJob(
        model_directory=pivot,
        examples_directory=scratch / "examples",
        held_out_directory=scratch / "held-out",
        output_directory=scratch / "output",
        work_directory=scratch / "work",
        checkpoints=CheckpointLocation(
            storage_uri=context.storage.uri,
            stage=context.stage.name,
            digest=context.directory.digest,
            writer=context.attempt,
        ),
        settings=training_settings(context.parameters, context.settings, gang),
        stop_file=scratch / "stop",
    )


def training_settings(parameters: FuseParameters, settings: FuseSettings, gang: Gang) -> TrainingSettings:
    """From the stage's parameters, and those settings that change no result."""
    return TrainingSettings(
        loss=_loss(parameters.distillation),
        learning_rate=parameters.learning_rate,
        epochs=parameters.epochs,
        global_batch_size=parameters.global_batch_size,
        micro_batch_size=settings.micro_batch_size,
        warmup_fraction=parameters.warmup_fraction,
        weight_decay=parameters.weight_decay,
        max_grad_norm=parameters.max_grad_norm,
        save_steps=settings.save_steps,
        save_dtype=SaveDtype(parameters.save_dtype),
        precision=Precision(parameters.precision),
        gradient_checkpointing=settings.gradient_checkpointing,
        deepspeed=_deepspeed(settings.deepspeed, gang),
        seed=parameters.seed,
    )


def _loss(distillation: Distillation | None) -> FusionLossSettings:
    """A target without teachers is language modelling alone."""
    if distillation is None:
        return FusionLossSettings(lm_weight=1.0)
    return FusionLossSettings(distillation.lm_loss_weight, Tail(distillation.tail), distillation.temperature)


def _deepspeed(options: DeepSpeedOptions | None, gang: Gang) -> DeepSpeedSettings | None:
    """Several processes always train under DeepSpeed."""
    if options is not None:
        return DeepSpeedSettings(options.zero_stage, Offload(options.offload))
    return DeepSpeedSettings() if gang.world_size > 1 else None


def _write_examples(context: Context, job: TrainingJob) -> SelectionReport:
    """The selected targets of all conversations, for the trainer to read."""
    distillation = context.parameters.distillation
    inputs = FusionInputs(
        _chunks(context.reader("pivot"), REPRESENTATIONS),
        {name: _chunks(reader, ALIGNMENTS) for name, reader in context.readers("source")},
    )
    loss = job.settings.loss
    report = write_selected_examples(
        job.examples_directory,
        inputs,
        SelectionRule(distillation.selection if distillation else SelectionRule.MIN_CE),
        TargetSettings(loss.tail, loss.temperature),
    )
    for warning in _warnings(context, report):
        context.warn(f"warning: {warning}")
    return report


def _warnings(context: Context, report: SelectionReport) -> list[str]:
    sources = {key: stage.subject for key, stage in context.inputs("source").items()}
    picks = dict(zip(report.shares.names, report.shares.shares, strict=True))
    return [
        f"source {sources[key]} is the better teacher in {picks[key]:.1%} of the conversations: it has next to no say."
        for key in report.shares.low
    ]


def _chunks(reader: OutputReader, prefix: str) -> tuple[Path, ...]:
    return tuple(reader.fetch(chunk_name(prefix, number)) for number in chunk_numbers(reader, prefix))


def _write_held_out(context: Context, job: TrainingJob, pivot: Path) -> None:
    """The validation split as the pivot reads it, for the held-out loss of each epoch."""
    assert job.held_out_directory is not None
    parameters = context.parameters
    tokenizer = ChatTokenizer.load(pivot, chat_template=parameters.chat_template, max_length=parameters.max_length)
    reader = context.reader("conversations")
    renderings: list[Rendering] = []
    for number in chunk_numbers(reader, VALIDATION):
        rows = tokenizer.render_many(read_conversations(reader.fetch(chunk_name(VALIDATION, number)))).rows
        renderings += [row for row in rows if isinstance(row, Rendering)]
    write_examples(job.held_out_directory, gold_examples(renderings))


def _store(context: Context, job: TrainingJob, report: SelectionReport, clock: Clock) -> None:
    output = job.output_directory
    selection = output / SELECTION
    selection.write_text(json.dumps(asdict(report), indent=2, sort_keys=True) + "\n")
    training = json.loads((output / TRAINING).read_text())
    context.ending.resumed_from_step = training["resumed_from_step"]
    gpus = clock.gpus * context.stage.resources.nodes
    earlier = seconds_before(output / METRICS_FILE, training["resumed_from_step"])
    writer = context.writer()
    entries = []
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        entries.append(writer.put(path, path.relative_to(output).as_posix(), move=True))
    figures = clock.details() | {"gpuSeconds": replace(clock, gpus=gpus).gpu_seconds() + gpus * earlier}
    writer.complete(entries, {"training": training, "warnings": _warnings(context, report), **figures})
    # several times the model's size, and of no more use
    open_checkpoints(job.checkpoints).clear()
