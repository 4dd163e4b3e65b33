"""Memory that gave out anywhere in a stage, as the user's error: what the parts that know more did not explain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fusechat.errors import AcceleratorOutOfMemoryError, FuseChatError

# torch raises plain RuntimeErrors for the host's memory, and torch.OutOfMemoryError, one too, for an accelerator's
_IN_WORDS = ("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory")


@contextmanager
def lack_of_memory_explained() -> Iterator[None]:
    """AcceleratorOutOfMemoryError (71) for a MemoryError, and for what torch and the system raise instead."""
    try:
        yield
    except FuseChatError:
        raise
    except (MemoryError, RuntimeError, OSError) as error:
        if not _is_lack_of_memory(error):
            raise
        first = str(error).strip().partition("\n")[0]
        raise AcceleratorOutOfMemoryError(
            f"The process ran out of memory: {first or type(error).__name__}",
            hint="Give the stage more memory (resources in spec.podTemplateOverrides), or lower tokenBudget or "
            "microBatchSize.",
        ) from error


def _is_lack_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _IN_WORDS)
