"""Merges: their targets and their methods' parameters."""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.spec import fields
from fusechat.spec.document import Path
from fusechat.spec.fusion import MergeMethodSpec
from fusechat.spec.job import FuseJobSpec
from fusechat.spec.merge_methods import MERGE_METHODS, owners
from fusechat.spec.rules.rule import Broken, rule

_TARGETS = ("spec.sources.name", "spec.fusion.targets", "spec.merge.existingTargets.name")
_METHODS = ("spec.merge.methods",)


def target_names(spec: FuseJobSpec) -> tuple[str, ...]:
    """The targets that are merged: one a source if pairwise fusion is asked for, and the existing ones."""
    made = spec.sources if "Pairwise" in spec.fusion.targets else []
    return (*(source.name for source in made), *(target.name for target in spec.merge.existing_targets))


def _methods(spec: FuseJobSpec) -> Iterator[tuple[Path, MergeMethodSpec]]:
    for i, method in enumerate(spec.merge.methods):
        yield ("spec", "merge", "methods", i), method


@rule(
    "merge-needs-targets", "A merge needs pairwise or existing targets.", reads=("spec.merge.methods.name", *_TARGETS)
)
def merge_needs_targets(spec: FuseJobSpec) -> Iterator[Broken]:
    if spec.merge.methods and not target_names(spec):
        mend = (
            "Add Pairwise to spec.fusion.targets or models to spec.merge.existingTargets, "
            "or write `merge: {methods: []}`: joint fusion makes one target and needs no merge."
        )
        yield Broken(("spec", "merge", "methods"), "has no targets to merge", mend)


@rule(
    "merge-target-count",
    "A merge has as many targets as its method takes.",
    reads=("spec.merge.methods.type", *_TARGETS),
)
def merge_target_count(spec: FuseJobSpec) -> Iterator[Broken]:
    names = target_names(spec)
    for path, method in _methods(spec):
        takes = MERGE_METHODS[method.type]
        if names and not takes.merges(len(names)):
            message = f"{method.type} merges {takes.wanted_targets} targets, not {len(names)} ({', '.join(names)})"
            able = ", ".join(name for name, other in MERGE_METHODS.items() if other.merges(len(names)))
            yield Broken((*path, "type"), message, f"{len(names)} can be merged by {able}.")


@rule("merge-parameters-allowed", "A merge takes only its method's parameters.", reads=_METHODS)
def merge_parameters_allowed(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, method in _methods(spec):
        takes = MERGE_METHODS[method.type].takes
        for key in method.parameters():
            if key not in takes:
                own = ", ".join(takes) or "no parameters"
                mend = f"{method.type} takes {own}; `{key}` belongs to {', '.join(owners(key))}."
                yield Broken((*path, key), f"is no parameter of {method.type}", mend)


@rule("merge-parameters-required", "A merge has every parameter that its method cannot do without.", reads=_METHODS)
def merge_parameters_required(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, method in _methods(spec):
        given = method.parameters()
        for key in MERGE_METHODS[method.type].required:
            if key not in given:
                yield Broken((*path, key), f"is missing; {method.type} needs it", fields.example((*path, key)))


@rule("weights-name-targets", "Weights are given for all targets or for none.", reads=(*_METHODS, *_TARGETS))
def weights_name_targets(spec: FuseJobSpec) -> Iterator[Broken]:
    names = target_names(spec)
    for path, method in _methods(spec):
        if method.weights is None or not names:
            continue
        for key in method.weights:
            if key not in names:
                yield Broken((*path, "weights", key), f"`{key}` is no target", f"Targets: {', '.join(names)}.")
        missing = [name for name in names if name not in method.weights]
        if missing:
            message = f"has no weight for {', '.join(missing)}"
            yield Broken((*path, "weights"), message, "Give every target a weight (0 leaves one out), or none.")


@rule("weights-sum", "Weights that are normalised do not sum to 0.", reads=_METHODS)
def weights_sum(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, method in _methods(spec):
        default = MERGE_METHODS[method.type].defaults.get("normalize", False)
        normalize = default if method.normalize is None else method.normalize
        if method.weights and normalize and sum(method.weights.values()) == 0:
            message = "sums to 0, by which normalize divides"
            yield Broken((*path, "weights"), message, "Change the weights or set `normalize: false`.")


@rule("slerp-covers-all", "The last entry of t, and no other, is without filter.", reads=_METHODS)
def slerp_covers_all(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, method in _methods(spec):
        for i, anchors in enumerate(method.t or []):
            last = i == len(method.t or []) - 1
            if last and anchors.filter:
                message = f"leaves t open for tensors whose name does not contain `{anchors.filter}`"
                yield Broken((*path, "t", i), message, "End the list with an entry without filter: {values: [0.5]}.")
            if not last and not anchors.filter:
                message = "has no filter, so the entries after it never count"
                yield Broken((*path, "t", i), message, "Move it to the end of the list.")
