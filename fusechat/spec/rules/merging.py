"""Merges: their targets and their methods' parameters. What each method takes is read from its table."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fusechat.spec import fields
from fusechat.spec.document import Path
from fusechat.spec.fusion import MergeMethodSpec
from fusechat.spec.job import FuseJobSpec
from fusechat.spec.merge_methods import MERGE_METHODS, owners
from fusechat.spec.rules.rule import Broken, Cel, rule, text

_TARGETS = ("spec.sources.name", "spec.fusion.targets", "spec.merge.existingTargets.name")
_METHODS = ("spec.merge.methods",)
_EACH = ("spec.merge.methods[]",)
_ANCHORS = ("spec.merge.methods[].t",)
_PAIRWISE = "('Pairwise' in self.fusion.targets)"
_COUNT = f"(({_PAIRWISE} ? self.sources.size() : 0) + self.merge.existingTargets.size())"
_NAMES = f"(({_PAIRWISE} ? self.sources.map(s, s.name) : []) + self.merge.existingTargets.map(t, t.name))"
NOTHING = 1e-9
"""A sum of weights below this is 0 but for rounding: 0.1 + 0.2 - 0.3."""


def target_names(spec: FuseJobSpec) -> tuple[str, ...]:
    """The targets that are merged: one a source if pairwise fusion is asked for, and the existing ones."""
    made = spec.sources if "Pairwise" in spec.fusion.targets else []
    return (*(source.name for source in made), *(target.name for target in spec.merge.existing_targets))


def _methods(spec: FuseJobSpec) -> Iterator[tuple[Path, MergeMethodSpec]]:
    for i, method in enumerate(spec.merge.methods):
        yield ("spec", "merge", "methods", i), method


_NO_TARGETS = (
    "has no targets to merge",
    "Add Pairwise to spec.fusion.targets or models to spec.merge.existingTargets, "
    "or write `merge: {methods: []}`: joint fusion makes one target and needs no merge.",
)


@rule(
    "merge-needs-targets",
    "A merge needs pairwise or existing targets.",
    reads=("spec.merge.methods.name", *_TARGETS),
    admission=(
        Cel(
            ("spec",),
            f"self.merge.methods.size() == 0 || {_COUNT} > 0",
            ". ".join(_NO_TARGETS),
            ".merge.methods",
        ),
    ),
)
def merge_needs_targets(spec: FuseJobSpec) -> Iterator[Broken]:
    if spec.merge.methods and not target_names(spec):
        yield Broken(("spec", "merge", "methods"), *_NO_TARGETS)


def _counts() -> Iterator[Cel]:
    """For each number of targets that some methods ask for: all of them merge as many as there are."""
    wanted = {method.wanted_targets: method for method in MERGE_METHODS.values()}
    for words, method in wanted.items():
        types = tuple(name for name, other in MERGE_METHODS.items() if other.wanted_targets == words)
        holds = f"{_COUNT} >= {method.minimum_targets}"
        if method.maximum_targets:
            holds += f" && {_COUNT} <= {method.maximum_targets}"
        chosen = f"self.merge.methods.filter(m, m.type in {text(types)})"
        if method.minimum_targets > 1:
            expression = f"{_COUNT} == 0 || {chosen}.size() == 0 || ({holds})"
            values = (f"{chosen}[0].type", _COUNT, _NAMES)
            yield Cel(("spec",), expression, f"%s merges {words} targets, not %d: %s", ".merge.methods", values)


@rule(
    "merge-target-count",
    "A merge has as many targets as its method takes.",
    reads=("spec.merge.methods.type", *_TARGETS),
    admission=tuple(_counts()),
)
def merge_target_count(spec: FuseJobSpec) -> Iterator[Broken]:
    names = target_names(spec)
    for path, method in _methods(spec):
        takes = MERGE_METHODS[method.type]
        if names and not takes.merges(len(names)):
            message = f"{method.type} merges {takes.wanted_targets} targets, not {len(names)} ({', '.join(names)})"
            able = ", ".join(name for name, other in MERGE_METHODS.items() if other.merges(len(names)))
            yield Broken((*path, "type"), message, f"{len(names)} can be merged by {able}.")


def _allowed() -> Iterator[Cel]:
    for key in fields.keys(MergeMethodSpec):
        takers = tuple(owners(key))
        if takers:
            says = f"is no parameter of %s; `{key}` belongs to {', '.join(takers)}."
            yield Cel(_EACH, f"!has(self.{key}) || self.type in {text(takers)}", says, f".{key}", ("self.type",))


@rule(
    "merge-parameters-allowed",
    "A merge takes only its method's parameters.",
    reads=_METHODS,
    admission=tuple(_allowed()),
)
def merge_parameters_allowed(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, method in _methods(spec):
        takes = MERGE_METHODS[method.type].takes
        for key in method.parameters():
            if key not in takes:
                own = ", ".join(takes) or "no parameters"
                hint = f"{method.type} takes {own}; `{key}` belongs to {', '.join(owners(key))}."
                yield Broken((*path, key), f"is no parameter of {method.type}", hint)


def _required() -> Iterator[Cel]:
    for name, method in MERGE_METHODS.items():
        for key in method.required:
            says = f"is missing; {name} needs it. {fields.example(('spec', 'merge', 'methods', 0, key))}"
            yield Cel(_EACH, f"self.type != '{name}' || has(self.{key})", says, f".{key}")


@rule(
    "merge-parameters-required",
    "A merge has every parameter that its method cannot do without.",
    reads=_METHODS,
    admission=tuple(_required()),
)
def merge_parameters_required(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, method in _methods(spec):
        given = method.parameters()
        for key in MERGE_METHODS[method.type].required:
            if key not in given:
                yield Broken((*path, key), f"is missing; {method.type} needs it", fields.example((*path, key)))


_WEIGHED = (
    f"m.weights.size() == {_COUNT}"
    f" && (!{_PAIRWISE} || self.sources.all(s, s.name in m.weights))"
    " && self.merge.existingTargets.all(t, t.name in m.weights)"
)
"""As many as there are targets, and each of these: then there is no other, for names are unique. Looking every key up
among the names would cost an API server more than it spends on a rule."""


@rule(
    "weights-name-targets",
    "Weights are given for all targets or for none.",
    reads=(*_METHODS, *_TARGETS),
    admission=(
        Cel(
            ("spec",),
            f"self.merge.methods.all(m, !has(m.weights) || {_COUNT} == 0 || ({_WEIGHED}))",
            "weights name every target (0 leaves one out) and nothing else, or are left out. Targets: %s.",
            ".merge.methods",
            (_NAMES,),
        ),
    ),
)
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


_NORMALISED = tuple(name for name, method in MERGE_METHODS.items() if method.defaults.get("normalize"))
_SUM = "self.weights.map(key, self.weights[key]).sum()"
_ZERO_SUM = ("sums to 0, by which normalize divides", "Change the weights or set `normalize: false`.")


@rule(
    "weights-sum",
    "Weights that are normalised do not sum to 0.",
    reads=_METHODS,
    admission=(
        Cel(
            _EACH,
            f"!has(self.weights) || self.weights.size() == 0"
            f" || !(has(self.normalize) ? self.normalize : self.type in {text(_NORMALISED)})"
            f" || {_SUM} >= {NOTHING} || {_SUM} <= -{NOTHING}",
            ". ".join(_ZERO_SUM),
            ".weights",
        ),
    ),
)
def weights_sum(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, method in _methods(spec):
        normalize = method.type in _NORMALISED if method.normalize is None else method.normalize
        if method.weights and normalize and abs(math.fsum(method.weights.values())) < NOTHING:
            yield Broken((*path, "weights"), *_ZERO_SUM)


_OPEN = "!(has(a.filter) && a.filter != '')"
_END = "End the list with an entry without filter: {values: [0.5]}."
_NEVER = ("has no filter, so the entries after it never count", "Move it to the end of the list.")


@rule(
    "slerp-covers-all",
    "The last entry of t, and no other, is without filter.",
    reads=_METHODS,
    admission=(
        Cel(
            _ANCHORS,
            f"self.size() == 0 || [self[self.size() - 1]].all(a, {_OPEN})",
            f"leaves t open for tensors whose name does not contain `%s`. {_END}",
            values=("self[self.size() - 1].filter",),
        ),
        Cel(
            _ANCHORS,
            f"self.size() == 0 || self.filter(a, {_OPEN}).size() <= ([self[self.size() - 1]].all(a, {_OPEN}) ? 1 : 0)",
            f"an entry {_NEVER[0]}. {_NEVER[1]}",
        ),
    ),
)
def slerp_covers_all(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, method in _methods(spec):
        for i, anchors in enumerate(method.t or []):
            last = i == len(method.t or []) - 1
            if last and anchors.filter:
                message = f"leaves t open for tensors whose name does not contain `{anchors.filter}`"
                yield Broken((*path, "t", i), message, _END)
            if not last and not anchors.filter:
                yield Broken((*path, "t", i), *_NEVER)
