"""publish: the result and its report, where people look for them."""

from __future__ import annotations

from typing import Any

from fusechat.plan.draft import PlanDraft
from fusechat.plan.kinds.prepare import OTHER_BYTES
from fusechat.plan.kinds.report import REPORT
from fusechat.plan.stages import PlannedStage, Resources, StageKind
from fusechat.plan.values import stage_value

PUBLISH = "publish"


@stage_value
class PublishParameters:
    """Where to."""

    uri: str
    private: bool


@stage_value
class PublishSettings:
    """None."""


def _plan(draft: PlanDraft) -> None:
    wanted = draft.spec.publish
    if wanted:
        draft.add(
            KIND,
            PUBLISH,
            PublishParameters(wanted.uri, wanted.private),
            PublishSettings(),
            inputs={"report": REPORT, "model": draft.result},
        )


def _resources(_stage: PlannedStage[Any, Any], draft: PlanDraft) -> Resources:
    return Resources(threads=draft.spec.threads, memory_bytes=OTHER_BYTES)


KIND = StageKind(
    PUBLISH,
    PublishParameters,
    PublishSettings,
    "fusechat.stages.publish",
    plan=_plan,
    resources=_resources,
    after=("report",),
)
