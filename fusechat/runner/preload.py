"""What the fork server imports once for all stages that need torch. Importing starts no thread and opens no device.

transformers imports a model's code when it is first asked for; the common families are asked for here.
"""

from __future__ import annotations

from pathlib import Path

import transformers.integrations
import transformers.models.llama.modeling_llama
import transformers.models.mistral.modeling_mistral
import transformers.models.mixtral.modeling_mixtral
import transformers.models.qwen2.modeling_qwen2
import transformers.trainer  # noqa: F401
from torch.utils import tensorboard  # noqa: F401

# looking for an accelerator, it may open one, which a fork must not inherit
if not Path("/proc/driver/nvidia").exists():
    import deepspeed  # noqa: F401

import fusechat.evaluation.generate
import fusechat.evaluation.reasoning_gym_task
import fusechat.fusion.training
import fusechat.stages.evaluate
import fusechat.stages.extract
import fusechat.stages.fuse
import fusechat.stages.merge  # noqa: F401
