"""The methods' parameters: what is accepted, what is refused and in which words."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any, get_args

import numpy as np
import pytest

from fusechat.errors import ConfigurationError
from fusechat.merging.registry import METHODS, find_method, parse_parameters
from fusechat.merging.slerp import interpolation_at
from fusechat.spec import fields
from fusechat.spec.fusion import MergeMethodSpec, MergeType
from tools.fusejob_reference import merging_reference


@pytest.mark.parametrize("name", METHODS)
def test_formula_takes_exactly_the_described_parameters(name: str) -> None:
    method = METHODS[name]
    described = method.described
    signature = inspect.signature(method.load())
    assert list(signature.parameters) == ["tensor", *described.takes]
    assert described.paper.startswith("https://")
    assert all((fields.keys(MergeMethodSpec)[key].description or "").endswith(".") for key in described.takes)


@pytest.mark.parametrize("name", METHODS)
def test_a_formula_links_its_paper(name: str) -> None:
    formula = METHODS[name].load()
    documentation = f"{inspect.getdoc(inspect.getmodule(formula))} {inspect.getdoc(formula)}"
    assert METHODS[name].described.paper in documentation


def test_the_registry_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, fusechat.merging.registry; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_merging_needs_no_torch() -> None:
    code = (
        "import sys, fusechat.merging.merge, fusechat.merging.dare, fusechat.merging.sce; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_names_are_found_in_any_letter_case() -> None:
    assert find_method("varm").name == "VaRM"
    with pytest.raises(ConfigurationError, match=r"no merge method 'mean'\nMethods: VaRM, SCE"):
        find_method("mean")


def test_defaults() -> None:
    assert METHODS["VaRM"].resolve({}) == {"granularity": "Matrix"}
    assert METHODS["SCE"].resolve({})["tau"] == 0.1
    assert METHODS["SCEMergekit"].resolve({})["tau"] == 1.0
    assert METHODS["TIES"].resolve({}) == {"weights": None, "density": 0.5, "normalize": True, "scale": 1.0}
    assert METHODS["DARE"].resolve({"weights": None})["rescale"] == "InverseDensity"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("VaRM", {"tau": 0.1}, "VaRM has no parameter 'tau'\nIts parameters: granularity"),
        ("VaRM", {"granularity": "Row"}, "granularity must be one of Model, Layer, Matrix, Element, not 'Row'"),
        ("SLERP", {}, "SLERP needs the parameter t"),
        ("SLERP", {"t": 1.5}, r"t must be in \[0, 1\], not 1.5"),
        ("SLERP", {"t": []}, "t must not be empty"),
        ("SLERP", {"t": [{"filter": "mlp", "value": [1]}]}, "must be {filter: part of a name, values: "),
        ("SLERP", {"t": [{"values": []}]}, "at least one number"),
        ("SCE", {"tau": 0}, r"tau must be in \(0, 1\], not 0"),
        ("TIES", {"density": float("nan")}, "density must be a number"),
        ("TIES", {"density": True}, "density must be a number"),
        ("Linear", {"weights": 0.5}, "weights must give a number for each target"),
        ("Linear", {"weights": {"a": "x"}}, "weights must be a number, not 'x'"),
        ("Linear", {"normalize": "yes"}, "normalize must be true or false"),
        ("Linear", {"weights": {"a": 101}}, r"weights must be in \[-100, 100\], not 101"),
        ("SLERP", {"t": [0.5] * 257}, "t must have at most 256 entries, not 257"),
        ("SLERP", {"t": [{"filter": 3, "values": [1]}]}, "must be {filter: part of a name, values: "),
        ("SLERP", {"t": [[0.5]]}, "t must be a number, not \\[0.5\\]"),
        ("SLERP", {"t": 2}, "t must be in .*\n.*0 is the first target"),
    ],
)
def test_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        METHODS[name].resolve(given)


def test_numbers_of_targets() -> None:
    with pytest.raises(ConfigurationError, match="SLERP merges exactly 2 targets, not 3"):
        METHODS["SLERP"].check_targets(3)
    with pytest.raises(ConfigurationError, match="SCE merges at least 2 targets, not 1"):
        METHODS["SCE"].check_targets(1)
    METHODS["VaRM"].check_targets(1)


def test_weights_must_name_exactly_the_targets(tmp_path: Any) -> None:
    from fusechat.merging.merge import merge

    with pytest.raises(ConfigurationError, match="weights: no target is named c; b has no weight") as error:
        merge(tmp_path, {"a": tmp_path, "b": tmp_path}, "Linear", {"weights": {"a": 1, "c": 1}}, tmp_path / "out")
    assert "Targets: a, b." in str(error.value)


def test_weights_that_cancel_cannot_be_normalised() -> None:
    from fusechat.merging.arithmetic import normalised

    with pytest.raises(ConfigurationError, match="sum to zero"):
        normalised(np.array([1.0, -1.0]), True)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("TIES", {"density": "5e-1", "normalize": "false"}, {"density": 0.5, "normalize": False}),
        ("Linear", {"weights": "{a: 0.25, b: 1}"}, {"weights": {"a": 0.25, "b": 1.0}}),
        ("SLERP", {"t": "0.3"}, {"t": (("", (0.3,)),)}),
        ("SLERP", {"t": "[0, 0.5, 1]"}, {"t": (("", (0.0, 0.5, 1.0)),)}),
        ("SLERP", {"t": "[{filter: mlp, values: [1]}, {values: [0.5]}]"}, {"t": (("mlp", (1.0,)), ("", (0.5,)))}),
        ("VaRM", {"granularity": "element"}, {"granularity": "Element"}),
        ("DARE", {"rescale": "l1", "scale": "-1"}, {"rescale": "L1", "scale": -1.0}),
        ("Linear", {"weights": "{Qwen2.5_7B: 1, 7: 2e-1}"}, {"weights": {"Qwen2.5_7B": 1.0, "7": 0.2}}),
        ("SLERP", {"t": "{filter: mlp, values: 0.5}"}, {"t": (("mlp", (0.5,)),)}),
    ],
)
def test_command_line_values(name: str, given: dict[str, str], expected: dict[str, Any]) -> None:
    method = METHODS[name]
    resolved = method.resolve(parse_parameters(method, given))
    assert {key: resolved[key] for key in given} == expected


@pytest.mark.parametrize("given", [{"t": "{"}, {"t": "x"}, {"q": "1"}])
def test_command_line_values_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        parse_parameters(METHODS["SLERP"], given)


def test_the_command_line_may_leave_a_required_parameter_to_another_source() -> None:
    assert parse_parameters(METHODS["SLERP"], {}) == {}


@pytest.mark.parametrize(("depth", "expected"), [(0, 0), (0.25, 0.5), (0.375, 0.4), (0.5, 0.3), (1, 1)])
def test_anchors_are_interpolated_over_depth(depth: float, expected: float) -> None:
    t = (("mlp", (0.9,)), ("*", (0.0, 0.5, 0.3, 0.7, 1.0)))
    assert interpolation_at(t, "model.layers.0.self_attn.q", depth) == pytest.approx(expected)
    assert interpolation_at(t, "model.layers.0.mlp.up", depth) == 0.9


def test_a_tensor_no_filter_matches_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no entry of t matches the tensor model\.norm"):
        interpolation_at((("mlp", (0.9,)),), "model.norm", 1.0)


def test_the_table_for_the_documentation_has_every_parameter() -> None:
    lines = [line for line in merging_reference().splitlines() if line.startswith("|")]
    methods, parameters = lines[: len(METHODS) + 2], lines[len(METHODS) + 2 :]
    for table in (methods, parameters):
        assert all(line.count("|") == table[0].count("|") for line in table)
    assert len(parameters) == 2 + len({key for method in METHODS.values() for key in method.described.takes})
    assert any("| `SCE` |" in line and "`tau` 0.1 |" in line for line in methods)
    assert any("| `tau` | number, above 0 to 1 | SCE, SCEMergekit |" in line for line in parameters)
    assert any("| `SLERP` |" in line and "`t` (required) |" in line for line in methods)


def test_a_fusejob_names_the_same_methods_and_parameters() -> None:
    assert set(get_args(MergeType)) == set(METHODS)
    keys = set(fields.keys(MergeMethodSpec)) - {"name", "type"}
    assert keys == {key for method in METHODS.values() for key in method.described.takes}


def test_what_a_fusejob_gives_is_what_a_method_takes() -> None:
    anchors = [{"filter": "mlp", "values": [0, 1]}, {"values": [0.5]}]
    spec = MergeMethodSpec.model_validate({"name": "s", "type": "SLERP", "t": anchors})
    assert METHODS[spec.type].resolve(spec.parameters()) == {"t": (("mlp", (0.0, 1.0)), ("", (0.5,)))}
