"""Whether the operator that rendered a pod and the worker image that runs in it understand the same plans."""

from __future__ import annotations

from fusechat.errors import ConfigurationError
from fusechat.plan.messages import MESSAGE_VERSION
from fusechat.plan.stages import PLAN_FORMAT_VERSION
from fusechat.version import __version__

RENDERED_BY = "FUSECHAT_RENDERED_BY"
"""Environment variable of prepare's pod: `rendered_by()` of the operator."""


def rendered_by() -> str:
    """Version of fusechat, format of plans, format of termination messages: `0.1.0 1 1`."""
    return f"{__version__} {PLAN_FORMAT_VERSION} {MESSAGE_VERSION}"


def check_rendered_by(operator: str) -> None:
    """ConfigurationError, which names the image to use, if the operator's formats are not this fusechat's."""
    version, *formats = operator.split()
    if formats != rendered_by().split()[1:]:
        raise ConfigurationError(
            f"The operator is of fusechat {version}, this worker image of {__version__}: formats of their plans and "
            f"messages differ ({' '.join(formats)}; {PLAN_FORMAT_VERSION} {MESSAGE_VERSION}).",
            hint=matching_image(operator),
        )


def matching_image(operator: str) -> str:
    """What to do about a worker image that does not go with the operator; `operator`: its `rendered_by()`, or empty."""
    version = operator.partition(" ")[0]
    image = f"fusechat-worker:{version}" if version else "the fusechat-worker image of the operator's own version"
    return (
        f"Use {image}: worker.image of the chart, and image in spec.podTemplateOverrides where the job sets one; or "
        "upgrade the chart, CRD included."
    )
