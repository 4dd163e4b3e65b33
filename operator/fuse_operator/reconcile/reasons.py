"""Every reason that conditions, stages and events give. Programs match on these words; each is said here once.

Reasons of a failed process (InvalidData, MissingInput, ...) come from fusechat.plan.messages; those without a message
get theirs from `BY_EXIT_CODE`.
"""

from __future__ import annotations

from fusechat.errors import (
    INTERNAL_ERROR_EXIT_CODE,
    AcceleratorOutOfMemoryError,
    ConfigurationError,
    InvalidDataError,
    MissingInputError,
    NoPermissionError,
    TemporaryError,
    UsageError,
)

# Of the job as a whole
PLANNING = "Planning"
"""The prepare stage finds out what is to be made and what is there."""
PROGRESSING = "Progressing"
"""Stages run, or are about to."""
FINISHING = "FinishingAfterFailure"
"""A stage failed for good; those that run are left to finish."""
COMPLETED = "Completed"
"""Everything that the job declares exists."""
SUSPENDED = "Suspended"
"""`spec.suspend` is true."""
RESUMED = "Resumed"
"""`spec.suspend` is false again."""
INVALID_SPEC = "InvalidSpec"
"""The spec says something that cannot be; the CRD's own rules did not catch it."""
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""The job was active longer than `spec.activeDeadlineSeconds`."""
PLANNED = "Planned"
"""Event: a plan was adopted."""
INTERNAL_ERROR = "InternalError"
"""Event: a defect keeps the operator from deciding about it. It is set apart, and tried again on every change."""

# Of a stage that waits
STARTING = "Starting"
"""Its Job or its pods are being made."""
STOPPING = "Stopping"
"""Pods of an earlier run are not gone yet."""
WAITING_FOR_CAPACITY = "WaitingForCapacity"
"""The scheduler finds no node; the message has its words."""
WAITING_FOR_QUOTA = "WaitingForQuota"
"""The queue has not admitted it."""
WAITING_FOR_GANG = "WaitingForGang"
"""Another gang is not fully running; two that hold half of what they need would wait for each other."""
IMAGE_PULL_FAILED = "ImagePullFailed"
"""The node cannot get the image."""
CONTAINER_CONFIG_FAILED = "ContainerConfigFailed"
"""The node cannot make the container: a Secret or ConfigMap that it names is missing, say."""
CREATE_FAILED = "CreateFailed"
"""The API server refused the Job or its pods."""
SUSPENDED_BY_OTHER = "SuspendedByOther"
"""Somebody else suspended its Job, and the operator leaves it so until they resume it."""
TEMPLATE_OUTDATED = "TemplateOutdated"
"""It runs as it was before an edit or an upgrade; its next attempt is as spec and operator are now."""

# Of a stage that ended without its output
PREEMPTED = "Preempted"
"""The cluster took its node or its quota back. Costs no attempt."""
GANG_NOT_STARTED = "GangNotStarted"
"""Not all pods of the gang ran in time. Costs no attempt."""
EVICTED = "Evicted"
"""The node ran out of memory, disk or processes and ended the pod."""
OUT_OF_MEMORY = "OutOfMemory"
"""The accelerator's memory, or the container's."""
DAMAGED_INPUT = "DamagedInput"
"""An output that it reads was missing or damaged; the stage that makes it runs again first."""
RESULT_UNREAD = "ResultUnread"
"""Its pods were deleted before the operator read their results."""
NO_RESULT = "NoResult"
"""Its process ended well and left no result: the image is no worker image of this version."""
WRONG_PLAN = "WrongPlan"
"""Worker and operator disagree about the plan: their versions differ."""
CRASHED = "Crashed"
"""The process ended with an exit code that is none of fusechat's."""
UNKNOWN_FAILURE = "Failed"
"""The Job failed, and nothing says why."""
JOB_FAILED = "JobFailed"
"""It was stopped because the job failed."""
STAGE_COMPLETE = "StageComplete"
"""Event: a stage made its output."""

BY_EXIT_CODE = {
    UsageError.exit_code: "Usage",
    InvalidDataError.exit_code: "InvalidData",
    MissingInputError.exit_code: "MissingInput",
    INTERNAL_ERROR_EXIT_CODE: "Internal",
    AcceleratorOutOfMemoryError.exit_code: OUT_OF_MEMORY,
    TemporaryError.exit_code: "Temporary",
    NoPermissionError.exit_code: "NoPermission",
    ConfigurationError.exit_code: "Configuration",
}
"""Of a process that could leave no message."""

NEEDS_ATTENTION = (IMAGE_PULL_FAILED, CONTAINER_CONFIG_FAILED, CREATE_FAILED, SUSPENDED_BY_OTHER)
"""Reasons for waiting that a person has to act on."""
NEEDS_ROOM = (WAITING_FOR_CAPACITY, WAITING_FOR_QUOTA, GANG_NOT_STARTED, PREEMPTED)
"""Reasons for waiting that pass when the cluster has room."""
