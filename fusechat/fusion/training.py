"""One fine-tuning of the pivot, from local directories to a local directory, on this process's share of the gang."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from transformers import TrainingArguments

from fusechat.errors import FuseChatError, InterruptedStageError
from fusechat.fusion.batches import BatchPlan
from fusechat.fusion.checkpointing import CheckpointStore, RunIdentity, fresh_directory, refuse_other_world_sizes
from fusechat.fusion.deepspeed_config import Compute, deepspeed_config, join_process_group, prepare_process
from fusechat.fusion.examples import ExampleStore
from fusechat.fusion.failures import failures_explained
from fusechat.fusion.metrics import METRICS_FILE, MetricsLog
from fusechat.fusion.model import FusionObjective, load_pivot
from fusechat.fusion.saving import ChangedElements, PivotWeights, save_target
from fusechat.fusion.settings import Precision, TrainingJob, TrainingSettings
from fusechat.fusion.stopping import StopRequest
from fusechat.fusion.trainer import FusionTrainer, Progress, TrainingRun, local_rank

MODEL_DIRECTORY = "model"
REPORT_FILE = "training.json"


@dataclass(frozen=True)
class TrainingReport:
    """What a finished run says about itself; `training.json`."""

    steps: int
    epochs: int
    rows: int
    loss_tokens: int
    """Of one epoch."""
    world_size: int
    micro_batch: int
    accumulation: int
    resumed_from_step: int | None
    held_out: float | None
    """Nats a loss-carrying token after the last epoch."""
    changed_elements: int
    elements: int
    changed_share: float
    """Share of the saved elements that differ from the pivot's."""
    seconds: float
    """Of this attempt, loading and saving included."""


def train(job: TrainingJob, store: CheckpointStore, progress: Progress) -> TrainingReport | None:
    """Train to the end, from the newest checkpoint if there is one, and save the target; the report on rank 0.

    Raises InterruptedStageError after SIGTERM, SIGINT or the stop file, with a checkpoint saved;
    AcceleratorOutOfMemoryError; ConfigurationError for settings, pivots and checkpoints that do not fit together.
    """
    began = time.monotonic()
    with failures_explained(job.settings):
        return _train(job, store, progress, began)


def _train(job: TrainingJob, store: CheckpointStore, progress: Progress, began: float) -> TrainingReport | None:
    settings = job.settings
    examples = ExampleStore(job.examples_directory)
    held_out = None if job.held_out_directory is None else ExampleStore(job.held_out_directory)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    plan = BatchPlan(len(examples), settings.global_batch_size, settings.micro_batch_size, world_size)
    compute = _compute(settings, job.model_directory)
    # before the model: under ZeRO-3 it is sharded as it is loaded, which these arguments switch on
    arguments = training_arguments(settings, plan, job.work_directory, compute)
    identity = RunIdentity(
        world_size, _stage(settings), settings.global_batch_size, len(examples), plan.steps * settings.epochs
    )
    resume = _restore(store, job, identity)
    objective = FusionObjective(settings.loss)
    model = load_pivot(job.model_directory, objective, gradient_checkpointing=settings.gradient_checkpointing)
    metrics = None
    if arguments.process_index == 0:
        metrics = MetricsLog(job.output_directory, None if resume is None else resume / METRICS_FILE)
    run = TrainingRun(
        settings=settings,
        plan=plan,
        examples=examples,
        held_out=held_out if held_out is not None and len(held_out) else None,
        identity=identity,
        store=store,
        scratch=job.work_directory / "checkpoints",
        stop=StopRequest(job.stop_file),
        metrics=metrics,
        progress=progress,
        autocast=compute is Compute.AUTOCAST and settings.deepspeed is None,
    )
    trainer = FusionTrainer(model, arguments, objective, run)
    with run.stop.listening():
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    if trainer.interrupted:
        raise InterruptedStageError(
            f"Stopped after step {trainer.state.global_step} of {trainer.state.max_steps}; a checkpoint was saved.",
            hint="Run it again to go on from there.",
        )
    changed = save_target(
        model,
        job.output_directory / MODEL_DIRECTORY,
        job.model_directory,
        settings.save_dtype,
        rank=arguments.process_index,
    )
    return None if changed is None else _report(job, trainer, changed, resume, time.monotonic() - began)


def training_arguments(
    settings: TrainingSettings, plan: BatchPlan, directory: Path, compute: Compute
) -> TrainingArguments:
    """Everything the Trainer is left to decide by itself is switched off; joins the process group of torchrun."""
    if settings.deepspeed is not None:
        prepare_process()
    steps = plan.steps * settings.epochs
    arguments = TrainingArguments(
        output_dir=str(directory / "trainer"),
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=plan.accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warmup_fraction * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch",
        seed=settings.seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=compute is Compute.BFLOAT16_COPY,
        deepspeed=deepspeed_config(settings, plan, compute),
        remove_unused_columns=False,
        average_tokens_across_devices=False,
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        skip_memory_metrics=True,
    )
    # several devices of one process would be nn.DataParallel: a gang has one process a device
    arguments._n_gpu = min(1, arguments.n_gpu)
    if settings.deepspeed is not None:
        join_process_group()
    return arguments


def _compute(settings: TrainingSettings, pivot_directory: Path) -> Compute:
    automatic = settings.precision is Precision.AUTO and torch.cuda.is_available()
    if not automatic and settings.precision is not Precision.BFLOAT16:
        return Compute.FLOAT32
    # DeepSpeed makes its masters from the copy: a pivot with more digits would lose them
    lossless = PivotWeights(pivot_directory).one_dtype is torch.bfloat16
    return Compute.BFLOAT16_COPY if lossless and _stage(settings) > 0 else Compute.AUTOCAST


def _stage(settings: TrainingSettings) -> int:
    return -1 if settings.deepspeed is None else settings.deepspeed.zero_stage


def _restore(store: CheckpointStore, job: TrainingJob, identity: RunIdentity) -> Path | None:
    """The newest whole checkpoint in a directory of this node, or None; every rank takes the one that rank 0 found."""
    directory = job.work_directory / "resume"
    step = _from_rank_zero(lambda: _newest(store, job, identity, fresh_directory(directory)))
    if step is None:
        return None
    if local_rank() == 0 and int(os.environ.get("RANK", "0")) != 0:
        store.restore(step, fresh_directory(directory))
    _barrier()
    identity.check(directory, store.uri)
    return directory


def _newest(store: CheckpointStore, job: TrainingJob, identity: RunIdentity, directory: Path) -> int | None:
    step = store.restore_newest(directory)
    if step is None and not job.begin_again:
        refuse_other_world_sizes(store, identity.world_size)
    return step


def _from_rank_zero(ask: Callable[[], int | None]) -> int | None:
    """Rank 0's answer on every rank; its refusal too, so that no rank waits for one that has gone."""
    if not dist.is_initialized():
        return ask()
    answer: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            answer = [ask()]
        except FuseChatError as refusal:
            answer = [refusal]
    dist.broadcast_object_list(answer, src=0)
    if isinstance(answer[0], FuseChatError):
        raise answer[0]
    return cast("int | None", answer[0])


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def _report(
    job: TrainingJob, trainer: FusionTrainer, changed: ChangedElements, resume: Path | None, seconds: float
) -> TrainingReport:
    run, metrics = trainer.run, trainer.run.metrics
    assert metrics is not None
    held_out = [record["held_out"] for record in metrics.records() if "held_out" in record]
    report = TrainingReport(
        steps=trainer.state.max_steps,
        epochs=run.settings.epochs,
        rows=run.plan.rows,
        loss_tokens=run.examples.loss_tokens,
        world_size=run.plan.world_size,
        micro_batch=run.plan.micro_batch,
        accumulation=run.plan.accumulation,
        resumed_from_step=None if resume is None else trainer._initial_global_step,
        held_out=held_out[-1] if held_out else None,
        changed_elements=changed.changed,
        elements=changed.elements,
        changed_share=changed.share,
        seconds=seconds,
    )
    metrics.close()
    (job.output_directory / REPORT_FILE).write_text(json.dumps(asdict(report), indent=1) + "\n")
    return report
