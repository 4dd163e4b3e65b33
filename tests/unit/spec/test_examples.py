"""Every example is a valid job without warnings, and says what it promises."""

from pathlib import Path

import pytest

from fusechat.merging.registry import METHODS
from fusechat.spec.load import load_job
from fusechat.spec.warnings import warnings

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_valid(path: Path) -> None:
    loaded = load_job(path)
    assert not warnings(loaded.job)
    for method in loaded.job.spec.merge.methods:
        METHODS[method.type].resolve(method.parameters())
    assert path.read_text(encoding="utf-8").startswith("# "), "begins by saying what it is"


def test_the_release_is_there() -> None:
    spec = load_job(EXAMPLES / "fusechat-7b.yaml").job.spec
    assert [source.name for source in spec.sources] == ["mixtral", "solar"]
    fusion = spec.fusion
    assert (fusion.learning_rate, fusion.epochs, fusion.global_batch_size, fusion.lm_loss_weight) == (5e-6, 3, 128, 0.9)
    assert [method.type for method in spec.merge.methods] == ["VaRM", "SLERP", "TaskArithmetic"]
    assert spec.fusion.world_size == 8


def test_fusellm_makes_one_target_and_no_merge() -> None:
    spec = load_job(EXAMPLES / "fusellm-7b-joint.yaml").job.spec
    assert spec.fusion.targets == ["Joint", "Baseline"]
    assert not spec.merge.methods
    assert spec.dataset.format == "Text"


def test_adding_a_source_merges_it_with_what_exists() -> None:
    spec = load_job(EXAMPLES / "add-a-source.yaml").job.spec
    assert [source.name for source in spec.sources] == ["qwen"]
    assert [target.name for target in spec.merge.existing_targets] == ["mixtral", "solar"]


def test_the_laptop_job_is_marked_unmeasured() -> None:
    assert "UNMEASURED" in (EXAMPLES / "laptop.yaml").read_text(encoding="utf-8")
