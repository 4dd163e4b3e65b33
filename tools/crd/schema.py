"""pydantic models as a structural OpenAPI schema, as CustomResourceDefinitions want it: everything in place, no
references, no unions with null. Bounds, words, defaults and descriptions are those of the models; what holds between
fields comes in with the rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fusechat.spec import fields
from fusechat.spec.base import SpecObject
from fusechat.spec.fusion import MergeMethodSpec
from fusechat.spec.merge_methods import owners
from fusechat.spec.rules import Cel, Distinct, Required, Rule
from fusechat.spec.rules.rule import text

Schema = dict[str, Any]

INT32 = 2**31 - 1


@dataclass(frozen=True)
class Admission:
    """What rules ask of places in the API such as `spec.merge.methods[]`."""

    validations: Mapping[str, Sequence[Schema]]
    distinct: Mapping[str, tuple[str, ...]]
    required: frozenset[str]

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> Admission:
        """Sorts by place what the rules ask for."""
        validations: dict[str, list[Schema]] = {}
        distinct: dict[str, tuple[str, ...]] = {}
        required: set[str] = set()
        for asker, item in _asked(rules):
            match item:
                case Cel(places=places):
                    for place in places:
                        validations.setdefault(place, []).append(validation(asker, item))
                case Distinct(place=place, keys=keys):
                    distinct[place] = keys
                case Required(place=place):
                    required.add(place)
        return cls(validations, distinct, frozenset(required))

    @property
    def places(self) -> frozenset[str]:
        """Every place that is asked about."""
        return frozenset(self.validations) | frozenset(self.distinct) | self.required


def validation(rule: Rule, cel: Cel) -> Schema:
    """One entry of x-kubernetes-validations."""
    said = {"message": cel.says}
    if cel.values:
        said = {"message": rule.statement, "messageExpression": cel.message_expression}
    at = {"fieldPath": cel.field} if cel.field else {}
    return {"rule": cel.expression, **said, **at}


def _asked(rules: Sequence[Rule]) -> Iterator[tuple[Rule, Cel | Distinct | Required]]:
    for rule in rules:
        for item in rule.admission:
            yield rule, item


@dataclass(frozen=True)
class Writer:
    """Writes the schema of a model and all that is in it."""

    admission: Admission
    defaults: bool = True
    """Whether fields get their defaults. Inside list items they never do: GitOps tools that compare lists as they
    were written would find them changed for ever. There the default is in the description."""

    def _object(self, model: type[SpecObject], place: str, in_list: bool) -> Schema:
        """The schema of a model at a place."""
        required = [key for key, info in fields.keys(model).items() if self._required(info, f"{place}.{key}")]
        properties = {
            key: self._field(model, key, info, f"{place}.{key}", in_list) for key, info in fields.keys(model).items()
        }
        schema: Schema = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        if model.model_config.get("extra") == "allow":
            schema["x-kubernetes-preserve-unknown-fields"] = True
        return schema

    def _required(self, info: FieldInfo, place: str) -> bool:
        return info.is_required() or place in self.admission.required

    def _field(self, model: type[SpecObject], key: str, info: FieldInfo, place: str, in_list: bool) -> Schema:
        schema = self.value(fields.annotated(info), place, in_list)
        default = None if self._required(info, place) or not self.defaults else default_of(info)
        description = describe(model, key, info, default if in_list else None)
        if default is None or in_list:
            return {"description": description, **schema}
        return {"description": description, **schema, "default": default}

    def value(self, annotation: Any, place: str, in_list: bool = False) -> Schema:
        """A value's schema with the bounds that its type bears and the rules that sit at its place."""
        limits, found = fields.limits(annotation), fields.unwrap(annotation)
        rules = list(self.admission.validations.get(place, ()))
        if isinstance(found, type) and issubclass(found, SpecObject):
            schema = self._object(found, place, in_list)
        elif get_origin(found) is list:
            schema = self._list(get_args(found)[0], place) | _sizes("Items", limits)
        elif get_origin(found) is dict:
            key, value = get_args(found)
            schema = self._map(value, place) | _sizes("Properties", limits)
            rules = key_rules(fields.limits(key)) + rules
        else:
            schema = scalar(found, limits)
        return schema | ({"x-kubernetes-validations": rules} if rules else {})

    def _list(self, item: Any, place: str) -> Schema:
        schema: Schema = {"type": "array", "items": self.value(item, f"{place}[]", True)}
        if place not in self.admission.distinct:
            return schema | {"x-kubernetes-list-type": "atomic"}
        keys = list(self.admission.distinct[place])
        if not keys:
            return schema | {"x-kubernetes-list-type": "set"}
        return schema | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}

    def _map(self, value: Any, place: str) -> Schema:
        if value is Any:
            return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        return {"type": "object", "additionalProperties": self.value(value, f"{place}[]", True)}


def scalar(found: Any, limits: Sequence[Any]) -> Schema:
    """The schema of a word, text, number, truth value, or of one of several."""
    if get_origin(found) is Literal:
        return {"type": "string", "enum": list(get_args(found))}
    if found is bool:
        return {"type": "boolean"}
    if found is str:
        return {"type": "string"} | _sizes("Length", limits) | _pattern(limits)
    if found is int:
        numbers = _numbers(limits)
        return {"type": "integer", "format": "int32" if numbers.get("maximum", 2**63) <= INT32 else "int64"} | numbers
    if found is float:
        return {"type": "number", "format": "double"} | _numbers(limits)
    return _one_of(get_args(found))


def _one_of(options: Sequence[Any]) -> Schema:
    """Whole number or text, which Kubernetes knows; or any value but a list or a mapping, which it can only be told
    through bounds that no list and no mapping keeps."""
    bounds: Schema = {}
    for option in options:
        kind = scalar(fields.unwrap(option), fields.limits(option))
        bounds |= {key: value for key, value in kind.items() if key not in ("type", "format")}
    if {fields.unwrap(option) for option in options} == {int, str}:
        return {"x-kubernetes-int-or-string": True} | bounds
    nothing = {"minItems": 1, "maxItems": 0, "minProperties": 1, "maxProperties": 0}
    return {"x-kubernetes-preserve-unknown-fields": True} | bounds | nothing


def key_rules(limits: Sequence[Any]) -> list[Schema]:
    """The bounds of a mapping's keys, for which a schema has no words."""
    most = next((limit.max_length for limit in limits if isinstance(limit, MaxLen)), None)
    pattern = _pattern(limits).get("pattern")
    found: list[Schema] = []
    if most:
        says = f"a key must have at most {most} characters"
        found.append({"rule": f"self.all(key, key.size() <= {most})", "message": says})
    if pattern:
        says = "a key must be a name as in app or example.org/app"
        found.append({"rule": f"self.all(key, key.matches({text(pattern)}))", "message": says})
    return found


def default_of(info: FieldInfo) -> Any:
    """A field's default as JSON; None where it has none. An object's is empty: its fields have their own."""
    if info.is_required() or info.default is None:
        return None
    if isinstance(info.default, BaseModel):
        return {}
    if isinstance(info.default, list):
        return [
            item.model_dump(by_alias=True, exclude_none=True) if isinstance(item, BaseModel) else item
            for item in info.default
        ]
    return info.default


def describe(model: type[SpecObject], key: str, info: FieldInfo, default: Any) -> str:
    """The field's docstring in one line; of a merge's parameter, the methods that take it."""
    sentences = " ".join((info.description or "").split())
    takers = owners(key) if model is MergeMethodSpec else {}
    of = f"Of {', '.join(takers)}. " if takers else ""
    said = f" Default: {fields.flow(default)}." if default not in (None, "", {}, []) else ""
    return of + sentences + said


def _numbers(limits: Sequence[Any]) -> Schema:
    found: Schema = {}
    for limit in limits:
        match limit:
            case Ge(ge=least):
                found |= {"minimum": least}
            case Gt(gt=least):
                found |= {"minimum": least, "exclusiveMinimum": True}
            case Le(le=most):
                found |= {"maximum": most}
            case Lt(lt=most):
                found |= {"maximum": most, "exclusiveMaximum": True}
    return found


def _sizes(of: str, limits: Sequence[Any]) -> Schema:
    """The tightest of each: a type has its own, and a field may have a tighter one."""
    least = max((limit.min_length for limit in limits if isinstance(limit, MinLen)), default=0)
    most = min((limit.max_length for limit in limits if isinstance(limit, MaxLen)), default=None)
    return ({f"min{of}": least} if least else {}) | ({f"max{of}": most} if most is not None else {})


def _pattern(limits: Sequence[Any]) -> Schema:
    found = next((pattern for limit in limits if (pattern := getattr(limit, "pattern", None))), None)
    return {"pattern": found} if found else {}
