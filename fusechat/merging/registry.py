"""The merge methods: names, parameters, bounds, papers. Read by `validate`, the documentation and the merge itself.

Nothing heavy is imported here; `MergeMethod.load` imports a method's formula when it is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fusechat.errors import ConfigurationError
from fusechat.merging.parameters import Parameter, ParameterValue


@dataclass(frozen=True)
class MergeMethod:
    """What a method is called, takes and computes."""

    name: str
    summary: str
    paper: str
    function: str
    """`module:name` of its formula (see `tensor.MergeFunction`)."""
    parameters: tuple[Parameter, ...] = ()
    minimum_targets: int = 1
    maximum_targets: int | None = None

    def load(self) -> Callable[..., Any]:
        """The formula, a `tensor.MergeFunction` once its parameters are bound."""
        module, _, name = self.function.partition(":")
        formula: Callable[..., Any] = getattr(importlib.import_module(module), name)
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
        if count < self.minimum_targets or (self.maximum_targets is not None and count > self.maximum_targets):
            exact = self.minimum_targets == self.maximum_targets
            wanted = f"exactly {self.minimum_targets}" if exact else f"at least {self.minimum_targets}"
            raise ConfigurationError(
                f"{self.name} merges {wanted} targets, not {count}",
                mend="Choose the targets it can take, or a method for any number of them such as VaRM.",
            )

    def resolve(self, given: Mapping[str, object]) -> dict[str, ParameterValue]:
        """Every parameter by name, checked, defaults filled in. ConfigurationError for unknown, missing or bad ones."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                takes = ", ".join(known) or "none"
                raise ConfigurationError(f"{self.name} has no parameter {name!r}", mend=f"Its parameters: {takes}.")
        return {name: self._value(parameter, given) for name, parameter in known.items()}

    def _value(self, parameter: Parameter, given: Mapping[str, object]) -> ParameterValue:
        value = given.get(parameter.name)
        if value is not None:
            try:
                return parameter.check(value)
            except ConfigurationError as error:
                raise ConfigurationError(f"{self.name}: {error.message}", mend=parameter.description) from None
        if parameter.required:
            raise ConfigurationError(f"{self.name} needs the parameter {parameter.name}", mend=parameter.description)
        return parameter.default


def _check_names(weights: Mapping[str, float], targets: Sequence[str]) -> None:
    unknown, missing = sorted(set(weights) - set(targets)), sorted(set(targets) - set(weights))
    if unknown or missing:
        problems = [f"no target is named {name}" for name in unknown] + [f"{name} has no weight" for name in missing]
        raise ConfigurationError(f"weights: {'; '.join(problems)}", mend=f"Targets: {', '.join(sorted(targets))}.")


def find_method(name: str) -> MergeMethod:
    """The method of that name, in any letter case. ConfigurationError lists the methods there are."""
    for method in METHODS.values():
        if method.name.lower() == name.lower():
            return method
    raise ConfigurationError(f"There is no merge method {name!r}", mend=f"Methods: {', '.join(METHODS)}.")


def parse_parameters(method: MergeMethod, given: Mapping[str, str]) -> dict[str, object]:
    """The command line's `--set key=value`: each value read as YAML, checked and given back as it was read.

    `weights={a: 0.25, b: 0.5}`, `t=0.3`, `t=[{filter: mlp, values: [0, 1]}, {values: [0.5]}]`, `normalize=false`.
    """
    values: dict[str, object] = {}
    for key, text in given.items():
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigurationError(f"{method.name}: {key}={text!r} cannot be read as YAML") from None
    method.resolve({**{p.name: _placeholder(p) for p in method.parameters if p.required}, **values})
    return values


def _placeholder(parameter: Parameter) -> object:
    """Lets `parse_parameters` check what was given; what is missing is `resolve`'s to say, when all sources are in."""
    return 0.5 if parameter.type == "interpolation" else parameter.default


_WEIGHTS = Parameter(
    "weights",
    "weights",
    "Weight of each target, by its name; all targets or none. Default: 1 each.",
    minimum=-100,
    maximum=100,
)
_SCALE = Parameter(
    "scale",
    "number",
    "Factor on the merged change before it is added to the pivot (lambda in the papers and in mergekit).",
    default=1.0,
    minimum=-100,
    maximum=100,
)
_DENSITY = Parameter(
    "density",
    "number",
    "Share of each target's changes that is kept, tensor by tensor.",
    default=0.5,
    minimum=0,
    maximum=1,
    exclusive_minimum=True,
)


def _normalize(default: bool) -> Parameter:
    return Parameter("normalize", "boolean", "Divide by the sum of the weights that took part.", default=default)


def _tau(default: float, of: str) -> Parameter:
    return Parameter(
        "tau",
        "number",
        f"Share of a tensor's {of} that is merged: those of the highest variance across targets; 1 merges all.",
        default=default,
        minimum=0,
        maximum=1,
        exclusive_minimum=True,
    )


_RESCALE = Parameter(
    "rescale",
    "choice",
    "What kept changes are multiplied by. InverseDensity: 1 / density (the paper). L1: what restores the tensor's sum "
    "of absolute changes (mergekit).",
    default="InverseDensity",
    choices=("InverseDensity", "L1"),
)

_ALL = (
    MergeMethod(
        name="VaRM",
        summary="Each target weighs by the mean square of its change against the pivot, group by group.",
        paper="https://arxiv.org/abs/2402.16107",
        function="fusechat.merging.varm:varm",
        parameters=(
            Parameter(
                "granularity",
                "choice",
                "The group of parameters that shares one weight a target: the whole Model; a Layer (tensors outside "
                "layers stand alone); a Matrix (one tensor); an Element.",
                default="Matrix",
                choices=("Model", "Layer", "Matrix", "Element"),
            ),
        ),
    ),
    MergeMethod(
        name="SCE",
        summary="Select the elements that vary most across targets, calculate weights, erase minority directions.",
        paper="https://arxiv.org/abs/2408.07990",
        function="fusechat.merging.sce:sce",
        parameters=(_tau(0.1, "elements"),),
        minimum_targets=2,
    ),
    MergeMethod(
        name="SCEMergekit",
        summary="SCE as mergekit computes it: a share of the elements that vary at all, uniform weights for tiny "
        "changes, ties of direction count as positive.",
        paper="https://arxiv.org/abs/2408.07990",
        function="fusechat.merging.sce:sce_mergekit",
        parameters=(_tau(1.0, "varying elements"),),
        minimum_targets=2,
    ),
    MergeMethod(
        name="SLERP",
        summary="Spherical interpolation between two targets; linear where their cosine is above 0.9995.",
        paper="https://doi.org/10.1145/325165.325242",
        function="fusechat.merging.slerp:slerp",
        parameters=(
            Parameter(
                "t",
                "interpolation",
                "0 is the first target by name, 1 the second: a number, a list of anchors spread evenly over the "
                "layers, or a list of {filter: part of a tensor's name, values: [anchors]} of which the first that "
                "matches counts.",
                required=True,
                minimum=0,
                maximum=1,
            ),
        ),
        minimum_targets=2,
        maximum_targets=2,
    ),
    MergeMethod(
        name="TaskArithmetic",
        summary="The pivot plus the weighted sum of the targets' changes.",
        paper="https://arxiv.org/abs/2212.04089",
        function="fusechat.merging.arithmetic:task_arithmetic",
        parameters=(_WEIGHTS, _normalize(False), _SCALE),
    ),
    MergeMethod(
        name="Linear",
        summary="The weighted mean of the targets.",
        paper="https://arxiv.org/abs/2203.05482",
        function="fusechat.merging.arithmetic:linear",
        parameters=(_WEIGHTS, _normalize(True)),
    ),
    MergeMethod(
        name="TIES",
        summary="Keep each target's largest changes, elect a sign for each element, merge those that agree.",
        paper="https://arxiv.org/abs/2306.01708",
        function="fusechat.merging.ties:ties",
        parameters=(_WEIGHTS, _DENSITY, _normalize(True), _SCALE),
    ),
    MergeMethod(
        name="DARE",
        summary="Drop changes at random and rescale the rest, then task arithmetic.",
        paper="https://arxiv.org/abs/2311.03099",
        function="fusechat.merging.dare:dare",
        parameters=(_WEIGHTS, _DENSITY, _normalize(False), _SCALE, _RESCALE),
    ),
    MergeMethod(
        name="DARETIES",
        summary="Drop changes at random and rescale the rest, then elect signs as TIES does.",
        paper="https://arxiv.org/abs/2311.03099",
        function="fusechat.merging.dare:dare_ties",
        parameters=(_WEIGHTS, _DENSITY, _normalize(False), _SCALE, _RESCALE),
    ),
)

METHODS: Mapping[str, MergeMethod] = {method.name: method for method in _ALL}
"""Every method by its name in a FuseJob."""
