"""Where the environments of several outputs differ."""

from __future__ import annotations

from dataclasses import replace

from fusechat.plan.provenance import Environment, mixtures

HERE = Environment("x86-64 avx2", "scipy-openblas 0.3.30", "2.9.1+cpu", "3.12.3", "0.1.0", None)
OTHER = replace(HERE, isa="x86-64 avx512", torch="2.9.0+cpu")


def test_one_environment_is_no_mixture() -> None:
    assert mixtures({}) == mixtures({"a": [], "b": [HERE]}) == mixtures({"a": [HERE], "b": [HERE]}) == []


def test_what_differs_is_named_with_its_stages() -> None:
    isa, torch = mixtures({"a": [HERE], "b": [HERE, OTHER], "c": [OTHER]})
    assert "(x86-64 avx2: a, b; x86-64 avx512: b, c)" in isa
    assert "(2.9.0+cpu: b, c; 2.9.1+cpu: a, b)" in torch


def test_a_stage_that_asks_for_no_accelerator_mixes_with_all() -> None:
    on = replace(HERE, accelerator="NVIDIA H200")
    assert mixtures({"prepare": [HERE], "extract": [on]}) == []
    (mixed,) = mixtures({"prepare": [HERE], "extract": [on], "fuse": [replace(HERE, accelerator="none")]})
    assert "(NVIDIA H200: extract; none: fuse)" in mixed


def test_python_and_fusechat_alone_change_no_float() -> None:
    assert mixtures({"a": [HERE], "b": [replace(HERE, python="3.13.0", fusechat="0.2.0", torch=None)]}) == []
