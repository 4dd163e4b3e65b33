"""What makes the libraries of a stage's process use so many CPU threads: results on a CPU depend on it, so every
executor sets the same."""

from __future__ import annotations

NO_ACCELERATOR = {"DS_ACCELERATOR": "cpu"}
"""DeepSpeed looks for an accelerator, and says so, unless it is told."""


def library_environment(threads: int) -> dict[str, str]:
    """Environment variables. Idle threads sleep: stages share the cores."""
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }
