"""Fixtures of the merging tests."""

from __future__ import annotations

import pytest

from fusechat.merging import tensor as tensor_module


@pytest.fixture(params=["one slice", "many slices"])
def slicing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with tensors that fit into one slice and with tensors of many."""
    if request.param == "many slices":
        monkeypatch.setattr(tensor_module, "SLICE_ELEMENTS", 7)
    return str(request.param)
