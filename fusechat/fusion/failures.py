"""What torch raises when memory, a peer or the disk is gone, as the user's errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from fusechat.errors import AcceleratorOutOfMemoryError, FuseChatError, TemporaryError
from fusechat.fusion.settings import TrainingSettings

# torch has no class for these: plain RuntimeErrors of the CPU allocator, of gloo, and of torch.save
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_PEER_GONE = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "gloo/transport",
    "socket timeout",
)
_NO_SPACE = ("no space left on device", "enforce fail at inline_container")


@contextmanager
def failures_explained(settings: TrainingSettings) -> Iterator[None]:
    """Raises AcceleratorOutOfMemoryError, or TemporaryError for a peer that died and a full disk."""
    try:
        yield
    except FuseChatError:
        raise
    except (MemoryError, OSError, RuntimeError) as error:
        explained = explain(error, settings)
        if explained is None:
            raise
        raise explained from error


def explain(error: MemoryError | OSError | RuntimeError, settings: TrainingSettings) -> FuseChatError | None:
    """The user's error for one of torch's or the system's; None for what is a defect of ours."""
    text = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(mark in text for mark in _NO_MEMORY):
        return AcceleratorOutOfMemoryError(
            f"Training ran out of memory with {settings.micro_batch_size} conversations a micro batch: {error}",
            hint="Lower microBatchSize, switch gradientCheckpointing on, raise deepspeed.zeroStage or its offload, or "
            "use more processes.",
        )
    if peer_is_gone(error):
        return TemporaryError(
            f"Another process of the gang went away: {error}", hint="The next start goes on from the last checkpoint."
        )
    if getattr(error, "errno", None) == errno.ENOSPC or any(mark in text for mark in _NO_SPACE):
        return TemporaryError(
            f"The disk is full: {error}",
            hint="Free space in the work directory; the next start goes on from the last checkpoint.",
        )
    return None


def peer_is_gone(error: Exception) -> bool:
    """Whether torch says that another process of the gang ended while this one waited for it."""
    return isinstance(error, dist.DistError | ConnectionError) or any(mark in str(error).lower() for mark in _PEER_GONE)
