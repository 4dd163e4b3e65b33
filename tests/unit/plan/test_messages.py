"""The termination message: it always fits, and what is read is what was written."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.errors import (
    AcceleratorOutOfMemoryError,
    DamagedInputError,
    FuseChatError,
    InterruptedStageError,
    InvalidDataError,
    SpecError,
    SpecProblem,
)
from fusechat.pins import Pins
from fusechat.plan import build_plan
from fusechat.plan.messages import MAX_BYTES, MESSAGE_VERSION, ErrorSummary, PlanSummary, StageMessage, StageSummary
from fusechat.spec.job import FuseJob
from fusechat.spec.merge_methods import MERGE_METHODS

HEX = "0123456789abcdef"


def _job(sources: int, methods: int, existing: int = 0) -> FuseJob:
    names = [f"source-{number}" for number in range(sources)]
    types = [name for name, method in MERGE_METHODS.items() if not method.required and method.merges(sources)]
    return FuseJob.model_validate(
        {
            "apiVersion": "fusechat.dev/v1alpha1",
            "kind": "FuseJob",
            "metadata": {"name": "job"},
            "spec": {
                "pivot": {"name": "pivot", "model": {"uri": "hf://o/p"}},
                "sources": [{"name": name, "model": {"uri": f"hf://o/{name}"}} for name in names],
                "dataset": {"uri": "hf://datasets/o/d"},
                "evaluation": {"heldOut": {"uri": "hf://datasets/o/h"}},
                "fusion": {"targets": ["Pairwise", "Joint", "Baseline"]},
                "merge": {
                    "methods": [{"name": f"m{i}", "type": types[i % len(types)]} for i in range(methods)],
                    "existingTargets": [
                        {"name": f"e{i}", "model": {"uri": f"hf://o/e{i}"}} for i in range(existing)
                    ],
                },
                "publish": {"uri": "hf://o/fused"},
                "storage": {"uri": "s3://b/p"},
            },
        }
    )  # fmt: skip


_HOURS = {"extract": 3.0, "align": 0.0, "fuse": 20.0, "evaluate": 1.0}
"""Of a job with 7B models and 95,000 conversations, on `_GPUS` accelerators."""
_GPUS = {"extract": 2, "fuse": 8, "evaluate": 1}


def _summary(job: FuseJob) -> PlanSummary:
    """The job's plan with every output there, made in realistic times."""
    noise = random.Random(1)
    stages = []
    for stage in build_plan(job, Pins({}, None, None)).stages:
        seconds = _HOURS.get(stage.kind.name, 0.0) * 3600 * noise.uniform(0.5, 2.0) * _GPUS.get(stage.kind.name, 0)
        digest = hashlib.sha256(stage.name.encode()).hexdigest()
        stages.append(StageSummary(digest[:12], True, round(seconds)))
    return PlanSummary(hashlib.sha256(b"plan").hexdigest(), 1, tuple(stages), "f" * 64)


def _message(plan: PlanSummary) -> StageMessage:
    return StageMessage("prepare", "0123456789ab", gpu_seconds=0, cached=True, plan=plan)


def test_fifty_sources_with_every_method_fit_exactly() -> None:
    methods = len(MERGE_METHODS)
    summary = _summary(_job(50, methods))
    assert len(summary.stages) == 260 + 2 * methods
    assert sum(stage.gpu_seconds for stage in summary.stages) > 50 * 8 * 10 * 3600
    text = _message(summary).to_text()
    assert len(text.encode()) <= MAX_BYTES
    assert StageMessage.parse(text) == _message(summary)


def test_the_largest_job_that_a_spec_can_describe_fits_with_rounded_seconds() -> None:
    summary = _summary(_job(50, 32, existing=32))
    summary = replace(summary, stages=tuple(replace(s, gpu_seconds=s.gpu_seconds * 1000) for s in summary.stages))
    text = _message(summary).to_text()
    assert len(text.encode()) <= MAX_BYTES
    read = StageMessage.parse(text)
    assert read is not None
    assert read.plan is not None
    for stage, written in zip(read.plan.stages, summary.stages, strict=True):
        assert (stage.digest, stage.present) == (written.digest, written.present)
        assert stage.gpu_seconds == pytest.approx(written.gpu_seconds, abs=0.001 * 20 * 3600 * 8 * 1000)


def test_a_plan_that_no_spec_describes_is_refused() -> None:
    stages = (StageSummary("0123456789ab", False),) * 600
    with pytest.raises(ValueError, match="does not fit"):
        _message(PlanSummary("0" * 64, 1, stages)).to_text()


@pytest.mark.parametrize("character", ["a", "é", "火", "🔥", '"', "\x00", "\n", "\udcff"])
def test_a_long_error_is_cut_at_a_character(character: str) -> None:
    error = ErrorSummary(65, "InvalidData", "b" + character * 9000)
    text = StageMessage("fuse-joint", "0123456789ab", error=error).to_text()
    assert MAX_BYTES - 8 < len(text.encode()) <= MAX_BYTES
    read = StageMessage.parse(text)
    assert read is not None
    assert read.error is not None
    shown = "?" if character == "\udcff" else character
    assert read.error.message == "b" + shown * (len(read.error.message) - 2) + "…"


_digests = st.text(HEX, min_size=12, max_size=12)
_seconds = st.integers(0, 10**7)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
_errors = st.builds(ErrorSummary, st.integers(0, 255), _text, _text, st.none() | _text)
_plans = st.builds(
    PlanSummary,
    st.text(HEX, min_size=64, max_size=64),
    st.integers(0, 99),
    st.lists(st.builds(StageSummary, _digests, st.booleans(), _seconds), max_size=280).map(tuple),
)
_steps = st.none() | st.integers(0, 10**9)


@given(st.builds(StageMessage, _text, _digests, _seconds, st.booleans(), _steps, st.none() | _errors))
def test_what_is_read_is_what_was_written(message: StageMessage) -> None:
    assert StageMessage.parse(message.to_text()) == message


@settings(max_examples=30)
@given(_plans)
def test_plans_of_a_jobs_size_are_read_as_written(plan: PlanSummary) -> None:
    text = _message(plan).to_text()
    assert len(text.encode()) <= MAX_BYTES
    assert StageMessage.parse(text) == _message(plan)


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_other_text_is_no_message(text: str) -> None:
    assert StageMessage.parse(text) is None


_GOOD = json.loads(_message(PlanSummary("a" * 64, 1, (StageSummary("0123456789ab", True, 300),))).to_text())


@pytest.mark.parametrize(
    "change",
    [
        {"fusechat": MESSAGE_VERSION + 1},
        {"fusechat": "progress"},
        {"stage": 1},
        {"digest": "xyz"},
        {"digest": "0123456789AB"},
        {"gpuSeconds": -1},
        {"gpuSeconds": True},
        {"gpuSeconds": 1.5},
        {"cached": 0},
        {"error": {"exitCode": 1}},
        {"error": []},
        {"plan": _GOOD["plan"] | {"stages": _GOOD["plan"]["stages"][:-3]}},
        {"plan": _GOOD["plan"] | {"stages": '"'}},
        {"plan": _GOOD["plan"] | {"digest": "a" * 63}},
    ],
)
def test_a_message_that_is_not_whole_is_none(change: dict[str, object]) -> None:
    assert StageMessage.parse(json.dumps(_GOOD)) is not None
    assert StageMessage.parse(json.dumps(_GOOD | change)) is None
    assert StageMessage.parse(json.dumps(_GOOD)[:-1]) is None


def test_unknown_fields_of_a_newer_worker_are_read_over() -> None:
    assert StageMessage.parse(json.dumps(_GOOD | {"later": 1})) == StageMessage.parse(json.dumps(_GOOD))


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InvalidDataError("x"), 65, "InvalidData"),
        (AcceleratorOutOfMemoryError("x"), 71, "OutOfMemory"),
        (InterruptedStageError("x"), 143, "InterruptedStage"),
        (SpecError([SpecProblem("spec", "x")]), 78, "InvalidSpec"),
        (FuseChatError("x"), 70, "Internal"),
        (KeyError("x"), 70, "Internal"),
    ],
)
def test_reasons_follow_from_classes(error: BaseException, code: int, reason: str) -> None:
    summary = ErrorSummary.of(error)
    assert (summary.exit_code, summary.reason, summary.damaged) == (code, reason, None)


def test_a_damaged_input_names_its_stage_and_the_mend_is_told() -> None:
    summary = ErrorSummary.of(DamagedInputError("A chunk is missing.", stage="extract-a"))
    assert (summary.reason, summary.damaged) == ("DamagedInput", "extract-a")
    assert "Stage extract-a must run again" in summary.message


def test_the_operator_needs_no_heavy_package_to_plan() -> None:
    """Its image has pydantic, PyYAML and rapidfuzz (the job file's hints) beside the standard library."""
    program = (
        f"import sys; sys.path[:] = {sys.path!r};"  # without `site`, whose .pth files load what nobody asked for
        "import fusechat.plan, fusechat.plan.messages, fusechat.manifests, fusechat.spec.load, fusechat.spec.status,"
        "fusechat.pins, fusechat.canonical, fusechat.errors;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    allowed = {"annotated_types", "fusechat", "pydantic", "pydantic_core", "rapidfuzz", "typing_extensions"}
    allowed |= {"typing_inspection", "yaml", "_yaml", "__main__", "cython_runtime"}
    loaded = {name for name in done.stdout.split() if not name.startswith(("_cython", "_sysconfigdata"))}
    assert loaded <= allowed
