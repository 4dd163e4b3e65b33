"""docs/reference/stage-pods.md says what is so, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusechat.errors import PERMANENT_EXIT_CODES, InterruptedStageError
from tests.unit.manifests.jobs import container_of, fuse_job, gang_job, job_of, pod_of

PAGE = (Path(__file__).parents[3] / "docs/reference/stage-pods.md").read_text()
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)]


@pytest.mark.parametrize("example", EXAMPLES, ids=["places", "directory"])
def test_an_example_is_valid(example: dict[str, Any]) -> None:
    assert fuse_job(**example).spec.pod_template_overrides


def test_the_example_does_what_its_comments_say() -> None:
    job = gang_job(**EXAMPLES[0])
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}} in pod_of(job_of(job, "report"))[
        "volumes"
    ]
    assert container_of(job_of(job, "evaluate-p"))["resources"]["limits"] == {"nvidia.com/mig-3g.40gb": 1}
    assert container_of(job_of(job, "fuse-a"))["resources"] == {
        "requests": {"cpu": "4", "memory": "512Gi"},
        "limits": {"nvidia.com/gpu": 4, "memory": "1Ti"},
    }


def test_permanent_codes_are_those_of_the_page() -> None:
    sentence = re.search(r"Exit codes ([\d, \nand]+) are permanent", PAGE)
    assert sentence
    assert [int(number) for number in re.findall(r"\d+", sentence[1])] == list(PERMANENT_EXIT_CODES)


def test_the_code_of_a_stop_is_that_of_the_page() -> None:
    sentence = re.search(r"exit code (\d+), of a pod\s+that was told to stop", PAGE)
    assert sentence
    assert int(sentence[1]) == InterruptedStageError.exit_code


def test_volumes_and_times_are_those_of_the_page() -> None:
    fuse, merge = job_of(fuse_job(), "fuse-a"), job_of(fuse_job(), "merge-varm")
    for mount in container_of(merge)["volumeMounts"]:
        assert f"`{mount['mountPath']}`" in PAGE
        assert f"`{mount['name']}`" in PAGE
    seconds = [pod_of(manifest)["terminationGracePeriodSeconds"] for manifest in (fuse, merge)]
    assert f"{seconds[0]} seconds for `fuse-*`" in PAGE
    assert f"then; {seconds[1]} for others" in PAGE
