"""The reference of the FuseJob as Markdown, written from the models and tables themselves.

python -m tools.fusejob_reference > docs/reference/fusejob.md
python -m tools.fusejob_reference merging > docs/reference/merging.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fusechat.spec import fields
from fusechat.spec.base import SpecObject
from fusechat.spec.fusion import MergeMethodSpec
from fusechat.spec.keys import INSTEAD
from fusechat.spec.merge_methods import MERGE_METHODS, MergeMethod, owners
from fusechat.spec.rules import CLUSTER_RULES, RULES, Rule

MINIMAL_JOB = """\
apiVersion: fusechat.dev/v1alpha1
kind: FuseJob
metadata:
  name: my-fusion
spec:
  pivot:
    name: smollm
    model: {uri: hf://HuggingFaceTB/SmolLM2-360M-Instruct}
  sources:
    - name: qwen
      model: {uri: hf://Qwen/Qwen2.5-1.5B-Instruct}
  dataset: {uri: chats.jsonl}
"""

_GENERATED = "<!-- Written by `python -m tools.fusejob_reference{arguments}`; do not edit. -->"


def fusejob_reference() -> str:
    """Every field of a FuseJob: type, default, bounds and meaning; then the rules between fields."""
    parts = [_GENERATED.format(arguments=""), "# FuseJob", _INTRODUCTION, f"```yaml\n{MINIMAL_JOB}```"]
    parts += [section for place, model in _first_places() for section in _object_section(place, model)]
    parts += ["## Rules between fields", _rules(RULES)]
    parts += ["## On a cluster besides", _rules(CLUSTER_RULES)]
    parts += ["## Not in v1alpha1", "\n".join(f"- {feature}. {hint}" for feature, hint in INSTEAD.items())]
    return "\n\n".join(parts) + "\n"


def merging_reference() -> str:
    """The merge methods and their parameters."""
    methods = _table(("Method", "Computes", "Targets", "Parameters", "Paper"), map(_method_row, MERGE_METHODS.items()))
    parameters = _table(("Parameter", "Type", "Methods", "Meaning"), map(_parameter_row, _parameters()))
    head = [_GENERATED.format(arguments=" merging"), "# Merge methods", _MERGING]
    return "\n\n".join([*head, methods, "## Parameters", parameters, "## Adding a method", _ADDING]) + "\n"


def _rules(rules: Sequence[Rule]) -> str:
    return "\n".join(f"- {rule.statement} (`{rule.name}`)" for rule in rules)


_INTRODUCTION = """\
One fusion as a person writes it. The same file is run by `fusechat run job.yaml` and applied to a cluster;
`fusechat validate job.yaml` names every mistake with its line, `fusechat validate --cluster job.yaml` those that only a
cluster would find too. Keys that are not listed here are refused, YAML numbers may be written as `5e-6`, and an empty
value means the default. The smallest job:"""

_MERGING = """\
A merge makes one model of the targets: those that pairwise fusion has made, named after their sources, and
`spec.merge.existingTargets`. Changes are differences from the pivot. Each entry of `spec.merge.methods` has a `name`, a
`type` from this table and that method's parameters, no others; what is left out has the default beside it. Results do
not depend on the order in which targets are listed."""


_ADDING = """\
1. One formula file, `fusechat/merging/<method>.py`, with the paper's link in its docstring: a pure function of a tensor
   and the method's parameters by name, which yields the merged slices and returns what each target contributed
   (`fusechat/merging/arithmetic.py` is the shortest; `fusechat/merging/tensor.py` says what a formula may know).
2. One entry in the table of `fusechat/spec/merge_methods.py`: the formula, what it computes, paper, parameters with
   their defaults, numbers of targets. Only a parameter that no method had before needs more: a field of
   `MergeMethodSpec` in `fusechat/spec/fusion.py` with its type, bounds and meaning.
3. One oracle test in `tests/unit/merging/test_formulas.py`: the paper's equation in float64 over whole arrays.

`python -m tools.generated` then rewrites this page. Job files, `fusechat merge`, plans, and the tests that
every method passes read the table."""


def _first_places() -> Iterator[tuple[str, type[SpecObject]]]:
    """Each kind of object once, where it first appears."""
    seen: list[type[SpecObject]] = []
    for place, model in fields.objects():
        if model not in seen:
            seen.append(model)
            yield place, model


def _object_section(place: str, model: type[SpecObject]) -> Iterator[str]:
    others = [other for other, found in fields.objects() if found is model and other != place]
    also = f" Also at {', '.join(f'`{other}`' for other in others)}." if others else ""
    if place:
        yield f"## {place}"
    yield _sentence(model.__doc__ or "") + also
    rows = (_field_row(model, key, info) for key, info in fields.keys(model).items())
    yield _table(("Field", "Type", "Default", "Meaning"), rows)


def _field_row(model: type[SpecObject], key: str, info: FieldInfo) -> tuple[str, ...]:
    takers = owners(key) if model is MergeMethodSpec else {}
    of = f"Of {', '.join(takers)}. " if takers else ""
    default = _defaults_of(key, takers) if takers else _default(info)
    return f"`{key}`", _kind(info), default, of + _sentence(info.description or "")


def _defaults_of(parameter: str, takers: Mapping[str, MergeMethod]) -> str:
    """A merge parameter's default; where methods differ, each value with its methods."""
    by_value: dict[str, list[str]] = {}
    for name, method in takers.items():
        value = "**required**" if parameter in method.required else _shown(method.defaults[parameter])
        by_value.setdefault(value, []).append(name)
    if len(by_value) == 1:
        return next(iter(by_value))
    return "; ".join(f"{', '.join(names)}: {value}" for value, names in by_value.items())


def _kind(info: FieldInfo) -> str:
    """Type and bounds in words."""
    thing = "characters" if fields.unwrap(info.annotation) is str else "entries"
    bounds = _bounds(fields.constraints(info), thing)
    return ", ".join(part for part in (_type(info.annotation), bounds) if part)


def _type(annotation: Any) -> str:
    """The type in words; objects are links to their section."""
    found = fields.unwrap(annotation)
    if get_origin(found) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(found))
    if get_origin(found) is list:
        return f"list of {_type(get_args(found)[0])}"
    if get_origin(found) is dict:
        return f"mapping to {_type(get_args(found)[1])}"
    if isinstance(found, type) and issubclass(found, SpecObject):
        return _link(found)
    if get_origin(found) in (Union, UnionType):
        return " or ".join(_type(option) for option in get_args(found))
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return words.get(found, "any value")


def _link(model: type[SpecObject]) -> str:
    place = next(place for place, found in _first_places() if found is model)
    return f"[{place}](#{re.sub(r'[^a-z0-9-]', '', place.lower())})"


def _bounds(limits: Sequence[Any], thing: str) -> str:
    """The limits of numbers, or of how many characters or entries there are."""
    words = {Ge: "from {}", Gt: "above {}", Le: "to {}", Lt: "below {}"}
    numbers = [words[type(limit)].format(_number(_limit(limit))) for limit in limits if type(limit) in words]
    lengths = {type(limit): _limit(limit) for limit in limits if type(limit) in (MinLen, MaxLen)}
    if MaxLen in lengths:
        least = f"{lengths[MinLen]} to " if MinLen in lengths else "at most "
        numbers.append(f"{least}{lengths[MaxLen]:,} {thing}")
    return " ".join(numbers)


def _limit(limit: Any) -> float:
    """The one number of an annotated_types limit."""
    names = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt", MinLen: "min_length", MaxLen: "max_length"}
    value: float = getattr(limit, names[type(limit)])
    return value


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    return _shown(info.default)


def _shown(value: Any) -> str:
    """A default as YAML would have it; an object's is empty, for its fields have their own."""
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        return "`{}`"
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        value = [item.model_dump(by_alias=True, exclude_none=True) for item in value]
    return f"`{fields.flow(value)}`"


def _method_row(item: tuple[str, MergeMethod]) -> tuple[str, ...]:
    name, method = item
    exact = method.minimum_targets == method.maximum_targets
    targets = f"{method.minimum_targets}" + ("" if exact else " or more")
    given = [f"`{key}` (required)" for key in method.required]
    given += [
        f"`{key}`" + ("" if value is None else f" {fields.flow(value)}") for key, value in method.defaults.items()
    ]
    paper = re.sub(r"^https://(arxiv\.org/abs/|doi\.org/)", "", method.paper)
    return f"`{name}`", method.summary, targets, ", ".join(given), f"[{paper}]({method.paper})"


def _parameters() -> list[str]:
    """Every parameter once, in the order of the model."""
    return [key for key in fields.keys(MergeMethodSpec) if owners(key)]


def _parameter_row(key: str) -> tuple[str, ...]:
    info = fields.keys(MergeMethodSpec)[key]
    return (
        f"`{key}`",
        _kind(info).replace("(#", "(fusejob.md#"),
        ", ".join(owners(key)),
        _sentence(info.description or ""),
    )


def _sentence(text: str) -> str:
    return " ".join(text.split())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(merging_reference() if sys.argv[1:] == ["merging"] else fusejob_reference())
