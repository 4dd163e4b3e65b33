"""transformers' Trainer with the fusion loss, batches by global step, and checkpoints that count only when complete.

What it changes, and why:
- the data loader: rows of a step do not depend on the process count (`fusion.batches`);
- the loss: a sum over the micro batch, divided by the loss-carrying tokens of the global batch over all ranks and
  accumulation steps. Gradients are averaged over ranks, so it is multiplied by their number;
- logging, held-out loss and checkpoints: after the step, in an order that resuming repeats exactly.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from fusechat.errors import ConfigurationError
from fusechat.fusion.batches import BatchPlan
from fusechat.fusion.checkpointing import KEPT, CheckpointStore, RunIdentity, fresh_directory
from fusechat.fusion.dataset import Batch, EpochLoader, FusionDataset
from fusechat.fusion.examples import ExampleStore
from fusechat.fusion.loss import LossSums
from fusechat.fusion.metrics import METRICS_FILE, MetricsLog
from fusechat.fusion.model import FusionObjective, check_honest, forward_loss
from fusechat.fusion.settings import TrainingSettings
from fusechat.fusion.stopping import StopRequest

MODEL_FILE = "model.pt"
Progress = Callable[[int, int, dict[str, Any]], None]
"""(steps done, steps in all, the step's record) on rank 0."""


@dataclass(frozen=True)
class TrainingRun:
    """What surrounds the model in one run."""

    settings: TrainingSettings
    plan: BatchPlan
    examples: ExampleStore
    held_out: ExampleStore | None
    identity: RunIdentity
    store: CheckpointStore
    scratch: Path
    """Checkpoints of this node before they are stored."""
    stop: StopRequest
    metrics: MetricsLog | None
    """Rank 0's."""
    progress: Progress
    autocast: bool
    """Compute in bfloat16 by autocast over float32 weights, where DeepSpeed does not do it its own way."""


class FusionTrainer(Trainer):
    """One fine-tuning of the pivot."""

    def __init__(
        self, model: PreTrainedModel, arguments: TrainingArguments, objective: FusionObjective, run: TrainingRun
    ) -> None:
        super().__init__(model=model, args=arguments, train_dataset=FusionDataset(run.examples))
        self.remove_callback(PrinterCallback)
        # the loss is divided by the global batch's tokens already: no division by the accumulation steps
        self.loss_is_scaled_for_ga = True
        self.pivot = model
        self.objective: FusionObjective = objective
        self.run: TrainingRun = run
        self.interrupted = False
        self._terms: list[LossSums] = []
        self._recorded_step: int | None = None
        self._step_began = time.monotonic()
        self._checked = False

    def get_train_dataloader(self) -> EpochLoader:
        run = self.run
        return EpochLoader(run.examples, run.plan, rank=self.args.process_index, seed=run.settings.seed)

    def _get_num_items_in_batch(self, batch_samples: Sequence[Batch], device: torch.device) -> torch.Tensor:
        """Loss-carrying tokens of the global batch (N), float64; at least 1, for a batch that has none."""
        tokens = torch.tensor(sum(len(batch["gold"]) for batch in batch_samples), dtype=torch.float64, device=device)
        self._tokens = int(self._summed(tokens).item())
        return tokens.clamp(min=1)

    def _prepare_for_training(self, *arguments: Any, **named: Any) -> Any:
        prepared = super()._prepare_for_training(*arguments, **named)  # type: ignore[no-untyped-call]
        if self.run.identity.zero_stage == 0:
            _report_gradient_norm(self.model_wrapped)
        return prepared

    def _prepare_inputs(self, inputs: Any) -> Any:
        """To the device as they are: the Trainer would round probabilities to DeepSpeed's compute type."""
        return {name: tensor.to(self.args.device) for name, tensor in inputs.items()}

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """This rank's part of the global batch's mean, scaled for the averaging over ranks that follows."""
        assert isinstance(num_items_in_batch, torch.Tensor)
        assert not return_outputs
        loss, sums = self._forward(model, inputs)
        self._terms.append(sums)
        scale: torch.Tensor = self.args.world_size / num_items_in_batch
        return loss * scale.float()

    def held_out_loss(self) -> tuple[float, int]:
        """(nats a loss-carrying token of the gold text, tokens) over all held-out rows, the same on every rank."""
        store = self.run.held_out
        assert store is not None
        micro, world = self.run.plan.micro_batch, self.args.world_size
        plan = BatchPlan(len(store), micro * world, micro, world)
        model: Any = self.model_wrapped
        model.eval()
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        with torch.no_grad():
            for batch in EpochLoader(store, plan, rank=self.args.process_index, seed=None):
                _, sums = self._forward(model, self._prepare_inputs(batch))
                total += torch.stack([sums.clm, sums.clm.new_tensor(len(batch["gold"]))])
        model.train()
        nats, tokens = self._summed(total).tolist()
        return nats / max(tokens, 1), int(tokens)

    def _forward(self, model: Any, batch: Batch) -> tuple[torch.Tensor, LossSums]:
        with self._autocast():
            loss = forward_loss(model, batch)
        sums = self.objective.take()
        if not self._checked:
            check_honest(loss, sums, self.pivot)
            self._checked = True
        return loss, sums

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.run.autocast)

    def _summed(self, values: torch.Tensor) -> torch.Tensor:
        """`values` summed over ranks, in place."""
        if self.args.world_size > 1:
            dist.all_reduce(values)
        return values

    # ---- after a step -------------------------------------------------------------------------------------------

    def _maybe_log_save_evaluate(
        self,
        _total_loss: Any,
        grad_norm: torch.Tensor | float | None,
        *_others: Any,
        learning_rate: float | None = None,
    ) -> None:
        """Called by the Trainer after each optimiser step, and once more at the end of each epoch."""
        step = self.state.global_step
        if step == self._recorded_step or not self._terms:
            return
        self._recorded_step = step
        stop = self._record(float(grad_norm or 0.0), float(learning_rate or 0.0))
        if step % self.run.plan.steps == 0 and self.run.held_out is not None:
            self._record_held_out()
        last = step == self.state.max_steps
        if stop and not last:
            self.interrupted = self.control.should_training_stop = True
        if last or self.interrupted or step % self.run.settings.save_steps == 0:
            self.save_checkpoint()
        self._step_began = time.monotonic()

    def _record(self, grad_norm: float, learning_rate: float) -> bool:
        """Write the step's record; True if any rank was asked to stop."""
        clm = torch.stack([terms.clm for terms in self._terms]).sum()
        fusion = torch.stack([terms.fusion for terms in self._terms]).sum()
        self._terms.clear()
        stopping = clm.new_tensor(float(bool(self.run.stop)))
        clm_nats, fusion_nats, stop = self._summed(torch.stack([clm, fusion, stopping])).tolist()
        tokens, weight = max(self._tokens, 1), self.run.settings.loss.lm_weight
        record = {
            "step": self.state.global_step,
            "epoch": self.state.global_step / self.run.plan.steps,
            "loss": (weight * clm_nats + (1 - weight) * fusion_nats) / tokens,
            "clm": clm_nats / tokens,
            "fusion": fusion_nats / tokens,
            "lr": learning_rate,
            "grad_norm": grad_norm,
            "tokens": self._tokens,
            "seconds": time.monotonic() - self._step_began,
        }
        self._refuse_divergence(record)
        self._write(record)
        return bool(stop > 0)

    def _record_held_out(self) -> None:
        held_out, tokens = self.held_out_loss()
        step = self.state.global_step
        self._write(
            {"step": step, "epoch": step / self.run.plan.steps, "held_out": held_out, "held_out_tokens": tokens}
        )

    def _write(self, record: dict[str, Any]) -> None:
        if self.run.metrics is not None:
            self.run.metrics.write(record)
            self.run.progress(self.state.global_step, self.state.max_steps, record)

    def _refuse_divergence(self, record: dict[str, Any]) -> None:
        if not (math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])):
            raise ConfigurationError(
                f"Training diverged at step {record['step']}: loss {record['loss']}, gradient norm "
                f"{record['grad_norm']}.",
                hint="Lower learningRate or maxGradNorm, or raise warmupFraction; check that the pivot's weights are "
                "finite.",
            )

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def save_checkpoint(self) -> None:
        """Every rank writes and stores its files; it counts once all have."""
        step, rank = self.state.global_step, self.args.process_index
        directory = fresh_directory(self.run.scratch / f"step-{step}" / f"rank-{rank}")
        if self.is_deepspeed_enabled:
            engine: Any = self.model_wrapped
            engine.save_checkpoint(str(directory))
        elif rank == 0:
            torch.save(self.pivot.state_dict(), directory / MODEL_FILE)
        self._save_rng_state(str(directory))
        if rank == 0:
            self._save_rank_zero(directory)
        self.run.store.save(step, rank, directory)
        self._barrier()
        if rank == 0:
            self.run.store.commit(step)
            self.run.store.prune(KEPT)
        fresh_directory(directory).rmdir()
        self._barrier()

    def _save_rank_zero(self, directory: Path) -> None:
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        if not self.is_deepspeed_enabled:
            torch.save(self.optimizer.state_dict(), directory / "optimizer.pt")
        torch.save(self.lr_scheduler.state_dict(), directory / "scheduler.pt")
        self.state.save_to_json(str(directory / "trainer_state.json"))
        self.run.identity.write(directory)
        assert self.run.metrics is not None
        (directory / METRICS_FILE).write_bytes(self.run.metrics.path.read_bytes())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Weights, where DeepSpeed does not load them itself."""
        weights = torch.load(Path(resume_from_checkpoint) / MODEL_FILE, map_location="cpu", weights_only=True)
        (self.pivot if model is None else model).load_state_dict(weights)

    def _barrier(self) -> None:
        if self.args.world_size > 1:
            dist.barrier()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The Trainer's own totals at the end: they count only the steps since the last start."""


def _report_gradient_norm(engine: Any) -> None:
    """At stage 0 DeepSpeed clips without keeping the norm that it computed for it."""

    def clip() -> None:
        engine._global_grad_norm = torch.nn.utils.clip_grad_norm_(
            engine.module.parameters(), engine.gradient_clipping()
        ).item()

    engine.clip_fp32_gradients = clip


def local_rank() -> int:
    """This process's number on its node; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))
