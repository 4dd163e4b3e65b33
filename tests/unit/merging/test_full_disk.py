"""A disk that refuses a merge's bytes: the error names the file and the hint, nothing is left, the next try works."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fusechat.errors import TemporaryError
from fusechat.merging.merge import merge
from tests.unit.merging.models import random_models, write_model

WEIGHTS = 200_000
"""Bytes, far above what the models of these tests have."""


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to write beyond `size` bytes of any file, with EFBIG, as a full quota does with EDQUOT."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    pivot, targets = random_models(2, "F32")
    base = write_model(tmp_path / "base", pivot)
    return base, {name: write_model(tmp_path / name, tensors) for name, tensors in targets.items()}


def assert_refused(models: tuple[Path, dict[str, Path]], output: Path, size: int, file: str) -> None:
    base, targets = models
    with largest_file(size), pytest.raises(TemporaryError) as caught:
        merge(base, targets, "VaRM", {}, output)
    assert f"no room to write {output / file}" in caught.value.message
    assert "Free some space there" in caught.value.hint
    assert list(output.iterdir()) == []
    merge(base, targets, "VaRM", {}, output)
    assert (output / "config.json").is_file()


def test_no_room_for_the_weights(tmp_path: Path, models: tuple[Path, dict[str, Path]]) -> None:
    assert_refused(models, tmp_path / "out", 1000, "model.safetensors.partial")


def test_no_room_for_the_tokenizer_beside_finished_weights(
    tmp_path: Path, models: tuple[Path, dict[str, Path]]
) -> None:
    """The destination is named, not the file that is copied."""
    for model in (models[0], *models[1].values()):
        (model / "merges.txt").write_text("a b\n" * WEIGHTS)
    assert (models[0] / "model.safetensors").stat().st_size < WEIGHTS
    assert_refused(models, tmp_path / "out", WEIGHTS, "merges.txt")


def test_the_disk_fills_up_between_slices(tmp_path: Path, models: tuple[Path, dict[str, Path]]) -> None:
    base, targets = models
    with ExitStack() as until_full:

        def fill(done: int, _: int) -> None:
            """At the first report of progress the files have their full length, and no data yet."""
            if done == 0:
                until_full.enter_context(largest_file(1000))

        with pytest.raises(TemporaryError, match=r"no room to write .*model\.safetensors\.partial"):
            merge(base, targets, "VaRM", {}, tmp_path / "out", progress=fill)
    assert list((tmp_path / "out").iterdir()) == []
