"""Two nodes that train one target, each a stage process with its own torchrun, as two pods of a gang would be."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fusechat.gang.grace import GRACE, kill_tree
from fusechat.gang.rendezvous import PATIENCE
from fusechat.plan.messages import StageMessage
from fusechat.worker.ending import MESSAGE_PATH
from tests.gang_ports import next_port
from tests.integration.faults.job import Inputs, TinyJob, fusechat
from tests.standing_still import at_step, go_on, until, until_standing
from tests.tiny import job_document, write_job

pytestmark = pytest.mark.slow

STAGE = "fuse-baseline"
STEPS = 300


@dataclass
class Node:
    """One node's stage process."""

    process: subprocess.Popen[str]
    message_file: Path
    log: Path
    temporary: Path
    steps: list[int] = field(default_factory=list)
    """Optimiser steps told of so far; all of them once the process has ended."""
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record = json.loads(line) if line.startswith("{") else {}
            if record.get("unit") == "step":
                self.steps.append(record["done"])

    def is_asked_to_stop(self) -> bool:
        """Its ranks will find the file that asks them."""
        return any(self.temporary.rglob("stop"))

    def ended(self, seconds: float) -> tuple[int, StageMessage]:
        """Exit code and message."""
        code = self.process.wait(seconds)
        self.reader.join()
        message = StageMessage.parse(self.message_file.read_text())
        assert message is not None, self.log.read_text()
        return code, message

    def kill(self) -> None:
        """As when the machine is gone."""
        kill_tree(self.process.pid)


@dataclass(frozen=True)
class Gang:
    """Both nodes of one attempt."""

    job: TinyJob
    directory: Path
    attempt: str
    port: int

    def start(self, rank: int, **environment: str) -> Node:
        place = self.directory / f"{self.attempt}-{rank}"
        temporary = place / "temporary"
        temporary.mkdir(parents=True)
        gang = {
            # as an Indexed Job tells its pods, by a name that resolves
            "JOB_COMPLETION_INDEX": str(rank),
            "FUSECHAT_MASTER_ADDRESS": "localhost",
            "FUSECHAT_MASTER_PORT": str(self.port),
            MESSAGE_PATH: str(place / "message"),
            "TMPDIR": str(temporary),
            "OMP_NUM_THREADS": "1",
        }
        arguments = self.job.stage_arguments(STAGE)
        process = subprocess.Popen(
            [sys.executable, "-m", "fusechat.cli", *arguments, "--attempt", self.attempt],
            env=os.environ | gang | environment,
            stdout=subprocess.PIPE,
            stderr=(place / "log").open("w"),
            text=True,
        )
        return Node(process, place / "message", place / "log", temporary)


@pytest.fixture
def job(tiny_inputs: Inputs, tmp_path: Path) -> TinyJob:
    """Prepared up to the target that two nodes train."""
    models = {"pivot": tiny_inputs.models["pivot"], "b": tiny_inputs.models["b"]}
    document = job_document(models, tiny_inputs.data, str(tmp_path / "storage"))
    document["spec"]["fusion"] |= {"epochs": STEPS // 6, "nodes": 2, "saveSteps": 1000, "deepspeed": {"zeroStage": 2}}
    made = TinyJob(write_job(tmp_path / "job.yaml", document), tmp_path / "storage")
    ran = fusechat("plan", str(made.file), "-o", "json")
    assert ran.code == 0, ran.errors
    from fusechat.cli.planning import plan_job, write_plan

    write_plan(plan_job(made.file))
    for stage in ("prepare", "extract-pivot"):
        ran = fusechat(*made.stage_arguments(stage))
        assert ran.code == 0, ran.errors
    return made


def _gang(job: TinyJob, directory: Path, attempt: str) -> Gang:
    return Gang(job, directory, attempt, next_port())


def test_two_nodes_train_stop_together_survive_a_loss_and_go_on(job: TinyJob, tmp_path: Path) -> None:
    # a node that is asked to stop stops its gang, with a checkpoint
    in_the_midst = at_step(1, rank=0).environment
    gang = _gang(job, tmp_path, "first")
    nodes = [gang.start(rank, **in_the_midst) for rank in (0, 1)]
    master = until_standing(nodes[0].process.pid)
    nodes[1].process.send_signal(signal.SIGTERM)
    until(nodes[1].is_asked_to_stop, "the other node was not asked to stop")
    go_on(master)
    for node in nodes:
        code, message = node.ended(240)
        assert code == 143, node.log.read_text()
        assert message.error is not None
        assert message.error.reason == "InterruptedStage"
        assert "a checkpoint was saved" in message.error.message

    # a lost master, whose torchrun all others are connected to, ends them soon
    gang = _gang(job, tmp_path, "second")
    nodes = [gang.start(rank, **in_the_midst) for rank in (0, 1)]
    until_standing(nodes[0].process.pid)
    nodes[0].kill()
    began = time.monotonic()
    code, message = nodes[1].ended(240)
    print(f"the master was killed: the other node ended after {time.monotonic() - began:.1f} s")
    assert code == 75, nodes[1].log.read_text()
    assert message.error is not None
    assert message.error.exit_code == 75

    # whoever comes first waits for the master; the checkpoint is there for both
    gang = _gang(job, tmp_path, "third")
    late = gang.start(1)
    time.sleep(5)
    nodes = [gang.start(0), late]
    messages = []
    for node in nodes:
        code, message = node.ended(300)
        assert code == 0, node.log.read_text()
        messages.append(message)
    digest = job.manifest(STAGE)["digest"][:12]
    assert [(message.digest, message.error) for message in messages] == [(digest, None)] * 2
    assert messages[0].resumed_from_step is not None
    assert 0 < messages[0].resumed_from_step < STEPS
    assert nodes[0].steps[0] > messages[0].resumed_from_step
    training = json.loads(job.path(STAGE, "training.json").read_text())
    assert (training["world_size"], training["steps"]) == (2, STEPS)
    assert training["resumed_from_step"] == messages[0].resumed_from_step


def test_a_node_whose_peers_never_come_gives_up(job: TinyJob, tmp_path: Path) -> None:
    """Without the master: after its patience. The master alone: stopped, by its grace."""
    gang = _gang(job, tmp_path, "alone")
    lost = gang.start(1, **{PATIENCE: "2", "FUSECHAT_MASTER_ADDRESS": "no-such-host.invalid"})
    master = gang.start(0, **{GRACE: "20"})
    code, message = lost.ended(240)
    assert code == 75, lost.log.read_text()
    assert message.error is not None
    assert "no-such-host.invalid" in message.error.message
    _until_listening(gang.port)
    master.process.send_signal(signal.SIGTERM)
    began = time.time()
    code, message = master.ended(240)
    # when it said so itself: whoever waits for it may be late
    seconds = master.message_file.stat().st_mtime - began
    print(f"a master without peers was stopped: it ended after {seconds:.1f} s")
    assert code == 143, master.log.read_text()
    assert message.error is not None
    assert message.error.reason == "InterruptedStage"
    # half of its grace is the limit, and the machine may stand still meanwhile; nothing else ends it for an hour
    assert seconds < 80


def _until_listening(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            socket.create_connection(("localhost", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the master's torchrun does not listen")
