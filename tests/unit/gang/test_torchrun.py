"""Gangs: which node of how many, torchrun's command line, and whose error a gang ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusechat.errors import (
    AcceleratorOutOfMemoryError,
    ConfigurationError,
    FuseChatError,
    InterruptedStageError,
    TemporaryError,
)
from fusechat.fusion.train_process import leave_failure
from fusechat.gang.ranks import RankWork
from fusechat.gang.torchrun import Gang, failure, torchrun
from fusechat.plan import PlannedStage, Resources
from fusechat.plan.kinds.models import InferenceSettings, Location
from fusechat.spec.models import Parallelism
from tests.planned_stages import planned_stage


def stage(nodes: int, processes: int) -> PlannedStage:
    return planned_stage("fuse-a", "fuse", resources=Resources(nodes=nodes, processes_per_node=processes))


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FUSECHAT_NODE_RANK", "FUSECHAT_MASTER_ADDRESS", "FUSECHAT_MASTER_PORT", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)


def test_one_machine_runs_the_processes_of_all_nodes() -> None:
    gang = Gang.of(stage(nodes=2, processes=4))
    assert (gang.nodes, gang.node, gang.processes, gang.world_size) == (1, 0, 8, 8)
    command = torchrun(gang, "some.module", "job.json")
    assert command[1:] == [
        *("-m", "torch.distributed.run", "--max-restarts=0", "--nproc-per-node=8", "--standalone"),
        *("-m", "some.module", "job.json"),
    ]


def test_a_node_of_a_cluster_joins_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSECHAT_NODE_RANK", "1")
    monkeypatch.setenv("FUSECHAT_MASTER_ADDRESS", "fuse-a-0.gang")
    gang = Gang.of(stage(nodes=2, processes=4))
    assert (gang.node, gang.world_size) == (1, 8)
    command = torchrun(gang, "some.module")
    assert {"--nnodes=2", "--node-rank=1", "--master-addr=fuse-a-0.gang", "--master-port=29500"} <= set(command)
    assert "--standalone" not in command


def test_a_pods_index_is_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert Gang.of(stage(nodes=2, processes=4)).node == 1
    assert Gang.of(stage(nodes=1, processes=4)).nodes == 1, "the index of a worker is no node"


def leave(work: Path, rank: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", str(rank))
    leave_failure(work, error)


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("zeroStage is wrong", hint="Change it."),
        AcceleratorOutOfMemoryError("too large", hint="Lower it."),
        TemporaryError("the disk is full", hint="Free some."),
    ],
)
def test_a_gang_ends_with_the_class_message_and_mend_of_the_first_rank_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: FuseChatError
) -> None:
    leave(tmp_path, 3, error, monkeypatch)
    leave(tmp_path, 0, TemporaryError("a peer went away"), monkeypatch)
    found = failure(tmp_path, 1, of="training", when_killed="", asked=True)
    assert type(found) is type(error)
    assert (found.message, found.hint) == (f"Rank 3 of the training: {error.message}", error.hint)


def test_a_rank_that_knows_a_reason_comes_before_one_that_lost_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, 0, TemporaryError("a peer went away"), monkeypatch)
    leave(tmp_path, 1, ConfigurationError("the reason"), monkeypatch)
    assert (
        failure(tmp_path, 1, of="training", when_killed="", asked=True).message == "Rank 1 of the training: the reason"
    )


def test_an_interrupted_gang_may_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path, 0, InterruptedStageError("Stopped after step 3.", hint="Run it again."), monkeypatch)
    found = failure(tmp_path, 1, of="training", when_killed="", asked=True)
    assert type(found) is InterruptedStageError
    assert str(found) == "Stopped after step 3.\nRun it again."


@pytest.mark.parametrize("left", [None, TemporaryError("the disk is full", hint="Free some.")])
def test_ranks_that_torchrun_stopped_because_another_ended_do_not_pass_for_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: FuseChatError | None
) -> None:
    """That costs no attempt: a rank without memory enough would be started for ever."""
    leave(tmp_path, 0, InterruptedStageError("Stopped by SIGTERM."), monkeypatch)
    if left is not None:
        leave(tmp_path, 1, left, monkeypatch)
    found = failure(tmp_path, 1, of="model", when_killed="Give it more memory.", asked=False)
    assert (type(found), found.exit_code) == (TemporaryError, 75)
    assert found.hint == (left.hint if left else "Give it more memory.")


def test_a_defect_in_a_rank_is_one_of_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path, 2, ZeroDivisionError("division by zero"), monkeypatch)
    found = failure(tmp_path, 1, of="training", when_killed="", asked=True)
    assert (type(found), found.exit_code) == (FuseChatError, 70)
    assert "Rank 2 of the training failed: ZeroDivisionError: division by zero" in found.message


def test_ranks_that_were_killed_leave_no_word(tmp_path: Path) -> None:
    found = failure(tmp_path, 1, of="training", when_killed="Give it more memory.", asked=False)
    assert (type(found), found.hint) == (TemporaryError, "Give it more memory.")


@pytest.mark.parametrize(
    ("gpus", "parallelism", "ranks"),
    [(0, "TensorParallel", 1), (1, "TensorParallel", 1), (4, "TensorParallel", 4), (4, "DeviceMap", 1)],
)
def test_a_tensor_parallel_model_has_a_rank_per_accelerator(gpus: int, parallelism: Parallelism, ranks: int) -> None:
    assert InferenceSettings(Location("file:///a", None), False, gpus, parallelism, 64).ranks == ranks


def test_what_ranks_are_told_travels_as_json() -> None:
    work = RankWork("extract-a", "file:///s/plans/d.json", 1, 4, "a1", (1, 5, 9), vocabulary=True)
    assert RankWork.from_json(work.to_json()) == work
    assert json.loads(work.to_json())["chunks"] == [1, 5, 9]
