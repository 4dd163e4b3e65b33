"""Valid settings that rarely do what their writer hopes. A warning never stops a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fusechat.errors import SpecProblem
from fusechat.spec.job import FuseJob, FuseJobSpec
from fusechat.spec.merge_methods import MERGE_METHODS
from fusechat.spec.rules import target_names

SMALL_LEARNING_RATE = 1e-5
"""Below it a bf16 weight of usual size moves by less than half its last place in a step."""
EVEN_WEIGHT = 0.5
"""Below this lmLossWeight fusion outweighs language modelling."""


def warnings(job: FuseJob) -> list[SpecProblem]:
    """What is worth a second look, with its path and what to do."""
    return [warning for check in _CHECKS for warning in check(job.spec)]


def _rounded_changes(spec: FuseJobSpec) -> Iterator[SpecProblem]:
    weighing = [method.name for method in spec.merge.methods if MERGE_METHODS[method.type].weighs_changes]
    small = spec.fusion.learning_rate < SMALL_LEARNING_RATE
    if small and weighing and spec.fusion.save_dtype == "Pivot" and "Pairwise" in spec.fusion.targets:
        message = (
            f"a bfloat16 pivot rounds away most changes that learningRate {spec.fusion.learning_rate:g} makes, "
            f"and {', '.join(weighing)} weighs targets by their changes"
        )
        yield SpecProblem(
            "spec.fusion.saveDtype", message, "Leave saveDtype at Float32 (twice the disk space a target)."
        )


def _renormalise(spec: FuseJobSpec) -> Iterator[SpecProblem]:
    fusion = spec.fusion
    if fusion.tail == "Renormalise" and fusion.lm_loss_weight < EVEN_WEIGHT:
        message = (
            "Renormalise teaches that nothing outside the stored top-k can follow, and here fusion outweighs the text"
        )
        yield SpecProblem("spec.fusion.tail", message, "Use tail: Bucket, or a lmLossWeight of 0.5 and more.")


def _nothing_distilled(spec: FuseJobSpec) -> Iterator[SpecProblem]:
    if spec.fusion.lm_loss_weight == 1 and {"Pairwise", "Joint"} & set(spec.fusion.targets):
        message = "1 leaves the sources no say: every target equals the baseline"
        yield SpecProblem("spec.fusion.lmLossWeight", message, "Lower it, or ask for targets: [Baseline] alone.")


def _no_control(spec: FuseJobSpec) -> Iterator[SpecProblem]:
    if "Baseline" not in spec.fusion.targets:
        message = "has no Baseline: the report cannot tell what fusion gains over fine-tuning on the same text"
        yield SpecProblem("spec.fusion.targets", message, "Add Baseline (the training time of one more target).")


def _merge_of_one(spec: FuseJobSpec) -> Iterator[SpecProblem]:
    if spec.merge.methods and len(target_names(spec)) == 1:
        message = f"merges the single target {target_names(spec)[0]}"
        yield SpecProblem("spec.merge.methods", message, "Add a source or an existing target for a merge to matter.")


def _idle_options(spec: FuseJobSpec) -> Iterator[SpecProblem]:
    for i, task in enumerate(spec.evaluation.tasks):
        if task.type == "ExactAnswer" and task.config:
            path = f"spec.evaluation.tasks[{i}].config"
            yield SpecProblem(path, "is not for ExactAnswer tasks, which have no options", "Leave it out.")


_CHECKS: tuple[Callable[[FuseJobSpec], Iterator[SpecProblem]], ...] = (
    _rounded_changes,
    _renormalise,
    _nothing_distilled,
    _no_control,
    _merge_of_one,
    _idle_options,
)
