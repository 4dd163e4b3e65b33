"""DeepSpeed's configuration of one run, every value explicit, and what keeps its start-up short. Imports no torch."""

from __future__ import annotations

import os
import socket
from enum import StrEnum
from typing import Any

from fusechat.fusion.batches import BatchPlan
from fusechat.fusion.settings import DeepSpeedSettings, Offload, TrainingSettings

NEVER = 2**31 - 1


class Compute(StrEnum):
    """How the forward and backward get their type; masters are float32 in each."""

    FLOAT32 = "float32"
    BFLOAT16_COPY = "a bfloat16 copy beside the masters"
    """DeepSpeed's own: half the memory, but the masters begin as the copy. For pivots that are bfloat16 on disk."""
    AUTOCAST = "bfloat16 where it is safe, over float32 weights"


def deepspeed_config(settings: TrainingSettings, plan: BatchPlan, compute: Compute) -> dict[str, Any] | None:
    """The dictionary that transformers and DeepSpeed read; None where the run uses no DeepSpeed."""
    deepspeed = settings.deepspeed
    if deepspeed is None:
        return None
    return {
        "train_batch_size": plan.global_batch,
        "train_micro_batch_size_per_gpu": plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": settings.max_grad_norm,
        "zero_optimization": _zero(deepspeed),
        "bf16": {"enabled": compute is Compute.BFLOAT16_COPY},
        "torch_autocast": {"enabled": compute is Compute.AUTOCAST, "dtype": "bfloat16"},
        # gradients of many micro batches are summed: 8 bits of mantissa are too few
        "data_types": {"grad_accum_dtype": "fp32"},
        # the optimiser is torch's AdamW everywhere, so that results do not hang on a compiler being there
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": NEVER,
        "wall_clock_breakdown": False,
    }


def _zero(deepspeed: DeepSpeedSettings) -> dict[str, Any]:
    zero: dict[str, Any] = {
        "stage": deepspeed.zero_stage,
        "contiguous_gradients": True,
        "overlap_comm": False,
        # the final weights are gathered from the float32 masters, tensor by tensor
        "stage3_gather_16bit_weights_on_model_save": False,
    }
    if deepspeed.offload is not Offload.NONE:
        zero["offload_optimizer"] = {"device": "cpu"}
    if deepspeed.offload is Offload.OPTIMIZER_AND_PARAMETERS:
        zero["offload_param"] = {"device": "cpu"}
    return zero


def prepare_process() -> None:
    """What DeepSpeed needs before transformers joins the process group.

    A process that no torchrun started becomes a gang of one. DeepSpeed is kept from compiling its CPU shared-memory
    collectives (50 s, and a compiler): gloo does the same sums.
    """
    import deepspeed

    if "WORLD_SIZE" not in os.environ:
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    # deepspeed builds an operator only where this table, filled at its import, calls it compatible
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def join_process_group() -> None:
    """Let DeepSpeed take over the process group that transformers joined: ZeRO-3 asks for its size as it loads."""
    import deepspeed

    deepspeed.init_distributed(verbose=False)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
