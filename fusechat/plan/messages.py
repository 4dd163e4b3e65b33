"""What a stage's pod leaves behind for the operator: its termination message, one JSON object of at most 4,096 bytes.

It is the only thing a pod tells the operator, which reads neither storage nor (for decisions) logs.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fusechat.errors import (
    INTERNAL_ERROR_EXIT_CODE,
    AcceleratorOutOfMemoryError,
    DamagedInputError,
    FuseChatError,
    SpecError,
)
from fusechat.plan.stages import DIGEST_DIGITS

T = TypeVar("T")

MAX_BYTES = 4096
"""What the kubelet keeps of a container's termination message."""
MESSAGE_VERSION = 2
_OPTIONAL_DIGEST = re.compile(r"([0-9a-f]{12})?")
_PLAN_DIGEST = re.compile(r"[0-9a-f]{64}")
_OPTIONAL_RESULT = re.compile(r"([0-9a-f]{64})?")
_ELLIPSIS = "…"
_SECONDS_UNITS = tuple(1 << bits for bits in range(0, 41, 4))
_REASONS: Mapping[type[FuseChatError], str] = {AcceleratorOutOfMemoryError: "OutOfMemory", SpecError: "InvalidSpec"}
"""Where the class's name is not the best word."""


@dataclass(frozen=True)
class StageSummary:
    """One stage of a plan, as prepare found it."""

    digest: str
    """First 12 digits of the stage's digest."""
    present: bool
    """Whether its output is there."""
    gpu_seconds: int = 0
    """What making the output took that is there, all workers and attempts that are known."""


@dataclass(frozen=True)
class PlanSummary:
    """A plan without names: they follow from the job alone."""

    digest: str
    """64 digits; names STORAGE/plans/DIGEST.json."""
    format_version: int
    stages: tuple[StageSummary, ...]
    """In the plan's order."""
    result: str = ""
    """64 digits of the stage that makes the result: its output's address."""


@dataclass(frozen=True)
class ErrorSummary:
    """Why a stage's process failed."""

    exit_code: int
    """As fusechat.errors has them."""
    reason: str
    """The error's class without `Error`, such as InvalidData, OutOfMemory, InvalidSpec; Internal for a defect."""
    message: str
    """What happened and what to do; cut where it would not fit."""
    damaged: str | None = None
    """Name of the stage whose output is missing or damaged and must be made again (reason DamagedInput)."""

    @classmethod
    def of(cls, error: BaseException) -> ErrorSummary:
        """Of what a stage raised."""
        if isinstance(error, MemoryError):
            return cls(AcceleratorOutOfMemoryError.exit_code, "OutOfMemory", f"The process ran out of memory. {error}")
        if not isinstance(error, FuseChatError):
            return cls(INTERNAL_ERROR_EXIT_CODE, "Internal", f"{type(error).__name__}: {error}")
        reason = _REASONS.get(type(error)) or type(error).__name__.removesuffix("Error")
        damaged = error.stage if isinstance(error, DamagedInputError) else None
        return cls(error.exit_code, "Internal" if type(error) is FuseChatError else reason, str(error), damaged)


@dataclass(frozen=True)
class StageMessage:
    """What one process of a stage says when it ends."""

    stage: str
    """The stage's name in the plan."""
    digest: str
    """First 12 digits of the stage's digest; of prepare, of the hash of the spec that it plans. Empty if the process
    failed before it could read its plan."""
    gpu_seconds: int = 0
    """Accelerators of this pod times its seconds."""
    cached: bool = False
    """Whether the output was there already."""
    resumed_from_step: int | None = None
    """Optimiser step of the checkpoint that training went on from."""
    error: ErrorSummary | None = None
    """None: it ended well."""
    plan: PlanSummary | None = None
    """Only from prepare."""

    def to_text(self) -> str:
        """One line of JSON, at most 4,096 bytes of UTF-8.

        A long error message is cut. GPU seconds of a large plan's stages lose low bits, as few as are needed. Raises
        ValueError if even then it does not fit: a plan of over 450 stages, which no spec describes.
        """
        for text in self._candidates():
            if len(text.encode()) <= MAX_BYTES:
                return text
        if self.error is None:
            raise ValueError(f"the message of stage {self.stage} does not fit into {MAX_BYTES} bytes")
        return self._with_cut_error(self.error)

    def _candidates(self) -> list[str]:
        if self.plan is None:
            return [self._text(None)]
        largest = max((stage.gpu_seconds for stage in self.plan.stages), default=0)
        units = [unit for unit in _SECONDS_UNITS if unit == 1 or unit <= 2 * largest]
        return [self._text(_packed_plan(self.plan, unit)) for unit in units]

    def _text(self, plan: Mapping[str, Any] | None) -> str:
        error = self.error
        fields = {
            "fusechat": MESSAGE_VERSION,
            "stage": _encodable(self.stage),
            "digest": self.digest,
            "gpuSeconds": self.gpu_seconds,
            "cached": self.cached,
            "resumedFromStep": self.resumed_from_step,
            "error": error
            and {
                "exitCode": error.exit_code,
                "reason": error.reason,
                "message": _encodable(error.message),
                "damaged": error.damaged,
            },
            "plan": plan,
        }
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)

    def _with_cut_error(self, error: ErrorSummary) -> str:
        """With the longest beginning of the error's message that fits; by bisection, for escapes differ in length."""
        kept, too_long = 0, len(error.message)
        while too_long - kept > 1:
            middle = (kept + too_long) // 2
            text = self._with_error_of(error, middle)
            kept, too_long = (middle, too_long) if len(text.encode()) <= MAX_BYTES else (kept, middle)
        return self._with_error_of(error, kept)

    def _with_error_of(self, error: ErrorSummary, characters: int) -> str:
        cut = replace(error, message=error.message[:characters] + _ELLIPSIS)
        return replace(self, error=cut, plan=None)._text(None)

    @classmethod
    def parse(cls, text: str) -> StageMessage | None:
        """Inverse of `to_text`; None for anything else, such as the last lines of a log."""
        try:
            value = json.loads(text)
            if not isinstance(value, dict) or value.get("fusechat") != MESSAGE_VERSION:
                return None
            return cls(
                _typed(value["stage"], str),
                _matching(value["digest"], _OPTIONAL_DIGEST),
                _count(value["gpuSeconds"]),
                _typed(value["cached"], bool),
                _optional(value["resumedFromStep"], _count),
                _optional(value["error"], _error_from),
                _optional(value["plan"], _plan_from),
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


def _packed_plan(plan: PlanSummary, unit: int) -> dict[str, Any]:
    """The stages as base 85 of, for each, six bytes of digest and a variable-length number: GPU seconds in `unit`s
    (rounded) above one bit for `present`."""
    stages = b"".join(
        bytes.fromhex(stage.digest) + _varint(round(stage.gpu_seconds / unit) << 1 | stage.present)
        for stage in plan.stages
    )
    packed = base64.b85encode(stages).decode("ascii")  # its alphabet has nothing that JSON escapes
    return {
        "digest": plan.digest,
        "formatVersion": plan.format_version,
        "unit": unit,
        "stages": packed,
        "result": plan.result,
    }


def _plan_from(value: Mapping[str, Any]) -> PlanSummary:
    packed = base64.b85decode(_typed(value["stages"], str).encode("ascii"))
    return PlanSummary(
        _matching(value["digest"], _PLAN_DIGEST),
        _count(value["formatVersion"]),
        _unpacked(packed, _count(value["unit"])),
        _matching(value["result"], _OPTIONAL_RESULT),
    )


def _unpacked(packed: bytes, unit: int) -> tuple[StageSummary, ...]:
    stages, place = [], 0
    while place < len(packed):
        digest = packed[place : place + DIGEST_DIGITS // 2].hex()
        number, place = _varint_at(packed, place + DIGEST_DIGITS // 2)
        stages.append(StageSummary(digest, bool(number & 1), (number >> 1) * unit))
    return tuple(stages)


def _varint(number: int) -> bytes:
    """LEB128: seven bits a byte, low ones first, the highest bit says that more follow."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _varint_at(data: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and the place after it. ValueError if the data ends before."""
    number = shift = 0
    while place < len(data):
        number |= (data[place] & 0x7F) << shift
        if data[place] <= 0x7F:
            return number, place + 1
        shift, place = shift + 7, place + 1
    raise ValueError("the packed stages end in the middle of a number")


def _error_from(value: Mapping[str, Any]) -> ErrorSummary:
    return ErrorSummary(
        _count(value["exitCode"]),
        _typed(value["reason"], str),
        _typed(value["message"], str),
        _optional(value.get("damaged"), lambda name: _typed(name, str)),
    )


def _encodable(text: str) -> str:
    """Names of files that are not UTF-8 reach messages as lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _typed(value: object, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _count(value: object) -> int:
    number = _typed(value, int)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number


def _matching(value: object, pattern: re.Pattern[str]) -> str:
    text = _typed(value, str)
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is no digest")
    return text


def _optional(value: Any, read: Callable[[Any], T]) -> T | None:
    return None if value is None else read(value)
