"""Which optional dependencies belong to which extra of the package, for whoever installed it without."""

from __future__ import annotations

from collections.abc import Mapping

from fusechat.errors import ConfigurationError

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "ml": (
        *("torch", "transformers", "tokenizers", "accelerate", "deepspeed", "safetensors", "numba", "jinja2"),
        *("tensorboard", "sentencepiece", "reasoning_gym"),
    ),
    "cluster": ("kubernetes",),
    "operator": ("kopf", "prometheus_client"),
}
"""Extra -> the modules that it brings."""


def missing_extra(error: ModuleNotFoundError) -> ConfigurationError | None:
    """What to install; None if the module is part of no extra, which is a defect."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in PACKAGES.items():
        if module in modules:
            return ConfigurationError(
                f"This needs {module}, which is not installed.", hint=f"pip install 'fusechat[{extra}]'"
            )
    return None
