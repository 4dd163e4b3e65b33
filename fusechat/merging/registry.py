"""From a merge method's name to its formula and checked parameters. What the methods are is in MERGE_METHODS.

Nothing heavy is imported here; `Method.load` imports a method's formula when it is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fusechat.errors import ConfigurationError
from fusechat.merging.parameters import ParameterValue, checked, formula_values
from fusechat.spec.merge_methods import MERGE_METHODS, MergeMethod


@dataclass(frozen=True)
class Method:
    """One method of the table, ready to merge."""

    name: str
    described: MergeMethod

    def load(self) -> Callable[..., Any]:
        """The formula, a `tensor.MergeFunction` once its parameters are bound."""
        module, _, function = self.described.formula.partition(":")
        formula: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return formula

    def check(self, given: Mapping[str, object], targets: Sequence[str]) -> dict[str, ParameterValue]:
        """`resolve`, and ConfigurationError unless the method can merge these targets and weights name exactly them."""
        self.check_targets(len(targets))
        values = self.resolve(given)
        weights = values.get("weights")
        if isinstance(weights, Mapping):
            _check_names(weights, targets)
        return values

    def check_targets(self, count: int) -> None:
        """ConfigurationError if the method cannot merge that many targets."""
        if not self.described.merges(count):
            able = ", ".join(name for name, method in MERGE_METHODS.items() if method.merges(count))
            raise ConfigurationError(
                f"{self.name} merges {self.described.wanted_targets} targets, not {count}",
                hint=f"{count} can be merged by {able}." if able else "Name the targets to merge.",
            )

    def resolve(self, given: Mapping[str, object]) -> dict[str, ParameterValue]:
        """Every parameter by the formula's keyword, checked, defaults filled in. ConfigurationError for unknown,
        missing or bad ones."""
        return formula_values(checked(self.name, given))


METHODS: Mapping[str, Method] = {name: Method(name, described) for name, described in MERGE_METHODS.items()}
"""Every method by its type in a FuseJob."""


def find_method(name: str) -> Method:
    """The method of that name, in any letter case. ConfigurationError lists the methods there are."""
    for method in METHODS.values():
        if method.name.lower() == name.lower():
            return method
    raise ConfigurationError(f"There is no merge method {name!r}", hint=f"Methods: {', '.join(METHODS)}.")


def parse_parameters(method: Method, given: Mapping[str, str]) -> dict[str, object]:
    """The command line's `--set key=value`: each value read as YAML, checked and given back as it was read.

    `weights={a: 0.25, b: 0.5}`, `t=0.3`, `t=[{filter: mlp, values: [0, 1]}, {values: [0.5]}]`, `normalize=false`.
    What is missing is `resolve`'s to say, when all sources are in.
    """
    values: dict[str, object] = {}
    for key, text in given.items():
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigurationError(f"{method.name}: {key}={text!r} cannot be read as YAML") from None
    checked(method.name, values)
    return values


def _check_names(weights: Mapping[str, float], targets: Sequence[str]) -> None:
    unknown, missing = sorted(set(weights) - set(targets)), sorted(set(targets) - set(weights))
    if unknown or missing:
        problems = [f"no target is named {name}" for name in unknown] + [f"{name} has no weight" for name in missing]
        raise ConfigurationError(f"weights: {'; '.join(problems)}", hint=f"Targets: {', '.join(sorted(targets))}.")
