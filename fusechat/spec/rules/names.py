"""Names: unique, and none that stages use."""

from __future__ import annotations

from collections.abc import Iterator

from fusechat.spec.base import RESERVED_NAME_PREFIXES, RESERVED_NAMES
from fusechat.spec.document import Path, dotted
from fusechat.spec.job import FuseJobSpec
from fusechat.spec.rules.rule import Broken, Cel, Distinct, rule, text

Names = list[tuple[Path, str]]

_MODEL_NAMES = ("spec.pivot.name", "spec.sources.name", "spec.merge.existingTargets.name")
_NAME_PLACES = ("spec.pivot.name", "spec.sources[].name", "spec.merge.existingTargets[].name")
_OWN_NAME = "Give each model its own name."


def _model_names(spec: FuseJobSpec) -> Names:
    """Every model's name with its path."""
    names: Names = [(("spec", "pivot", "name"), spec.pivot.name)]
    names += [(("spec", "sources", i, "name"), source.name) for i, source in enumerate(spec.sources)]
    targets = spec.merge.existing_targets
    return names + [(("spec", "merge", "existingTargets", i, "name"), t.name) for i, t in enumerate(targets)]


def _repeated(names: Names) -> Iterator[tuple[Path, str, Path]]:
    first: dict[str, Path] = {}
    for path, name in names:
        if name in first:
            yield path, name, first[name]
        first.setdefault(name, path)


def _repetitions(names: Names, thing: str) -> Iterator[Broken]:
    for path, name, first in _repeated(names):
        message = f"`{name}` is the name of {dotted(first[:-1])} already"
        yield Broken(path, message, f"Give each {thing} its own name.")


@rule(
    "unique-model-names",
    "Names of pivot, sources and existing targets are unique together.",
    reads=_MODEL_NAMES,
    admission=(
        Distinct("spec.sources", ("name",)),
        Distinct("spec.merge.existingTargets", ("name",)),
        Cel(
            ("spec",),
            "!self.sources.exists(s, s.name == self.pivot.name)",
            f"`%s` is the name of spec.pivot already. {_OWN_NAME}",
            ".sources",
            ("self.pivot.name",),
        ),
        Cel(
            ("spec",),
            "!self.merge.existingTargets.exists(t, t.name == self.pivot.name)",
            f"`%s` is the name of spec.pivot already. {_OWN_NAME}",
            ".merge.existingTargets",
            ("self.pivot.name",),
        ),
        Cel(
            ("spec",),
            "!self.merge.existingTargets.exists(t, self.sources.exists(s, s.name == t.name))",
            f"`%s` is the name of a source already. {_OWN_NAME}",
            ".merge.existingTargets",
            ("self.merge.existingTargets.filter(t, self.sources.exists(s, s.name == t.name))[0].name",),
        ),
    ),
)
def unique_model_names(spec: FuseJobSpec) -> Iterator[Broken]:
    yield from _repetitions(_model_names(spec), "model")


@rule(
    "reserved-names",
    "No model is named like a stage or like a target that fusion makes.",
    reads=_MODEL_NAMES,
    admission=(
        *(
            Cel(
                _NAME_PLACES,
                f"!self.startsWith({text(prefix)})",
                f"`%s` begins with `{prefix}`, as stage names do. Leave the prefix out.",
                values=("self",),
            )
            for prefix in RESERVED_NAME_PREFIXES
        ),
        Cel(
            _NAME_PLACES,
            f"!(self in {text(RESERVED_NAMES)})",
            "`%s` is the name of a target that fusion itself makes. Choose another name.",
            values=("self",),
        ),
    ),
)
def reserved_names(spec: FuseJobSpec) -> Iterator[Broken]:
    for path, name in _model_names(spec):
        prefix = next((prefix for prefix in RESERVED_NAME_PREFIXES if name.startswith(prefix)), None)
        if prefix:
            yield Broken(path, f"`{name}` begins with `{prefix}`, as stage names do", "Leave the prefix out.")
        elif name in RESERVED_NAMES:
            yield Broken(path, f"`{name}` is the name of a target that fusion itself makes", "Choose another name.")


@rule(
    "unique-merge-names",
    "Names of merges are unique.",
    reads=("spec.merge.methods.name",),
    admission=(Distinct("spec.merge.methods", ("name",)),),
)
def unique_merge_names(spec: FuseJobSpec) -> Iterator[Broken]:
    methods = spec.merge.methods
    names: Names = [(("spec", "merge", "methods", i, "name"), method.name) for i, method in enumerate(methods)]
    yield from _repetitions(names, "merge")


@rule(
    "unique-task-names",
    "Names of tasks are unique.",
    reads=("spec.evaluation.tasks.name",),
    admission=(Distinct("spec.evaluation.tasks", ("name",)),),
)
def unique_task_names(spec: FuseJobSpec) -> Iterator[Broken]:
    tasks = spec.evaluation.tasks
    names: Names = [(("spec", "evaluation", "tasks", i, "name"), task.name) for i, task in enumerate(tasks)]
    yield from _repetitions(names, "task")


@rule(
    "unique-targets",
    "Each kind of target is listed once.",
    reads=("spec.fusion.targets",),
    admission=(Distinct("spec.fusion.targets"),),
)
def unique_targets(spec: FuseJobSpec) -> Iterator[Broken]:
    names: Names = [(("spec", "fusion", "targets", i), str(t)) for i, t in enumerate(spec.fusion.targets)]
    for path, name, _ in _repeated(names):
        yield Broken(path, f"`{name}` is listed twice", "List it once.")
