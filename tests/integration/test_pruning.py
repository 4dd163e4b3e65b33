"""What no lock names goes from a storage, and nothing else: locally and on S3, beside jobs that are at work."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusechat.canonical import canonical_json
from fusechat.errors import InvalidDataError
from fusechat.plan import Plan, PlannedStage
from fusechat.plan.kinds.publish import KIND, PublishParameters, PublishSettings
from fusechat.pruning import Pruning
from fusechat.storage import StageDirectory, Storage, open_storage
from fusechat.storage.checkpoints import Checkpoints
from tests.integration.faults.job import fusechat

AGE = 1.5
"""Seconds. S3 tells times in whole seconds."""


@dataclass
class Stored:
    """A storage with jobs in it."""

    storage: Storage
    work: Path

    def plan(self, job: str, *digits: str) -> Plan:
        """A stored plan with one stage for each digit."""
        nowhere = PublishParameters("file:///nowhere", private=False)
        stages = tuple(
            PlannedStage(f"stage-{digit}", KIND, nowhere, PublishSettings(), digest=digit * 64) for digit in digits
        )
        plan = Plan(job, stages, {}, stages[0].name)
        self.storage.write(plan.key, plan.to_bytes())
        return plan

    def lock(self, job: str, plan: Plan) -> None:
        """The lock of a job whose last run had this plan."""
        self.storage.write(f"locks/{job}.json", canonical_json({"plan": plan.digest, "models": {}}))

    def stage(self, digit: str, *, complete: bool = True) -> StageDirectory:
        """A stage's output of two files, of which one belongs to a part."""
        stage = StageDirectory(self.storage, "publish", digit * 64)
        writer = stage.writer("a")
        self.work.write_bytes(b"weights")
        writer.finish_part("0", [writer.put(self.work, "part")])
        files = [writer.put(self.work, "model/w")]
        if complete:
            writer.complete(files, parts=writer.finished_parts())
        return stage

    def checkpoint(self, digit: str) -> None:
        """A committed checkpoint of that stage."""
        checkpoints = Checkpoints(self.storage, "fuse-a", digit * 64, world_size=1, writer="w")
        directory = self.work.parent / "checkpoint"
        directory.mkdir(exist_ok=True)
        (directory / "state").write_bytes(b"state")
        checkpoints.save(1, 0, directory)
        checkpoints.commit(1)

    def top(self) -> set[str]:
        """`stages/a`, `checkpoints/b`, ...: what is there, by the first digit of its digest."""
        found = set()
        for info in self.storage.list():
            kind, *rest = info.key.split("/")
            found.add(f"{kind}/{(rest[1] if kind == 'stages' else rest[0])[:1]}")
        return found


@pytest.fixture(params=["local", "s3"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Stored:
    if request.param == "local":
        storage = open_storage(str(tmp_path / "store"))
    else:
        storage = open_storage(request.getfixturevalue("s3_bucket") + "/p", request.getfixturevalue("s3").settings)
    return Stored(storage, tmp_path / "work")


def pruned(stored: Stored, age: float = AGE) -> set[str]:
    """Keys that went."""
    pruning = Pruning(stored.storage, age)
    found = pruning.unneeded()
    assert all(pruning.remove(each) for each in found)
    return {each.key for each in found}


def test_what_no_lock_names_goes_and_nothing_else(stored: Stored) -> None:
    old, new = stored.plan("job", "a", "b"), stored.plan("job", "b", "c")
    other = stored.plan("other", "d")
    for digit in "abcde":
        stored.stage(digit)
        stored.checkpoint(digit)
    strange = ["plans/notes.txt", "stages/publish/README", "stages/other", "logs/x/y"]
    for key in strange:
        stored.storage.write(key, b"not ours")
    stored.lock("job", new)
    stored.lock("other", other)
    assert pruned(stored) == set(), "all of it is young"
    time.sleep(AGE + 1.1)
    expected = {f"stages/publish/{digit * 64}" for digit in "ae"} | {f"checkpoints/{digit * 12}" for digit in "ae"}
    assert pruned(stored) == expected | {old.key}
    for digit in "bcd":
        assert StageDirectory(stored.storage, "publish", digit * 64).is_complete()
        assert Checkpoints(stored.storage, "fuse-a", digit * 64, world_size=1, writer="x").newest() == 1
    for digit in "ae":
        assert stored.storage.list(f"stages/publish/{digit}") == stored.storage.list(f"checkpoints/{digit}") == []
        local = stored.storage.local_path(f"stages/publish/{digit * 64}")
        assert local is None or not local.exists()
    assert pruned(stored) == set()
    assert all(stored.storage.read(key) == b"not ours" for key in strange)


def test_what_a_job_may_be_at_work_on_stays(stored: Stored) -> None:
    stored.stage("a")
    stored.stage("b", complete=False)
    stored.stage("c")
    stored.checkpoint("c")
    time.sleep(AGE + 1.1)
    stored.plan("unlocked yet", "a")
    stored.storage.write(f"stages/publish/{'b' * 64}/a/another", b"chunk")
    assert pruned(stored) == {f"stages/publish/{'c' * 64}", f"checkpoints/{'c' * 12}"}
    assert stored.top() == {f"plans/{next(iter(stored.storage.list('plans/'))).key[6]}", "stages/a", "stages/b"}


def test_what_is_needed_again_meanwhile_stays(stored: Stored) -> None:
    for digit in "ab":
        stored.stage(digit)
    time.sleep(AGE + 1.1)
    pruning = Pruning(stored.storage, AGE)
    first, second = pruning.unneeded()
    stored.lock("job", stored.plan("job", "a"))
    stored.storage.write(f"{second.key}/b/new", b"attempt")
    assert not pruning.remove(first)
    assert not pruning.remove(second)
    assert StageDirectory(stored.storage, "publish", "a" * 64).is_complete()


def test_what_is_half_removed_counts_for_nothing(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stored.stage("a")
    stored.checkpoint("a")
    time.sleep(AGE + 1.1)
    pruning = Pruning(stored.storage, AGE)
    found = pruning.unneeded()
    for each in found:
        deleted: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(type(stored.storage), "delete", lambda _, key, deleted=deleted: deleted.append(key))
            assert pruning.remove(each)
        assert deleted[0].endswith(("manifest.json", "commit.json"))
        assert len(deleted) == len(each.files)
        stored.storage.delete(deleted[0])
    assert not stage.is_complete()
    assert Checkpoints(stored.storage, "fuse-a", "a" * 64, world_size=1, writer="x").newest() is None


@pytest.mark.parametrize("lock", [b"", b"[]", b"\xff", b'{"models": {}}', b'{"plan": "../x"}', b'{"plan": 7}'])
def test_nothing_goes_while_a_lock_cannot_be_read(stored: Stored, lock: bytes) -> None:
    stored.stage("a")
    stored.storage.write("locks/job.json", lock)
    with pytest.raises(InvalidDataError, match=r"locks/job\.json"):
        Pruning(stored.storage, -1).unneeded()


def test_nothing_goes_while_a_locked_plan_cannot_be_read(stored: Stored) -> None:
    stored.stage("a")
    plan = stored.plan("job", "b")
    stored.lock("job", plan)
    for damage in (lambda: stored.storage.write(plan.key, b"{}"), lambda: stored.storage.delete(plan.key)):
        damage()
        with pytest.raises(InvalidDataError, match=plan.key):
            Pruning(stored.storage, -1).unneeded()


def test_the_command_shows_first_and_removes_when_told(tmp_path: Path) -> None:
    stored = Stored(open_storage(str(tmp_path / "store")), tmp_path / "work")
    plan = stored.plan("job", "b")
    stored.lock("job", plan)
    stored.stage("a")
    stored.stage("b")
    arguments = ["prune", str(tmp_path / "store")]
    assert "nothing to remove" in fusechat(*arguments).output
    for path in (tmp_path / "store").rglob("*"):
        os.utime(path, (1, 1))
    shown = fusechat(*arguments)
    assert shown.code == 0
    assert f"stages/publish/{'a' * 64}" in shown.output
    assert "--delete removes it" in shown.output
    document = json.loads(fusechat(*arguments, "--json").output)
    assert (document["deleted"], document["locks"], len(document["unneeded"])) == (False, 1, 1)
    assert document["bytes"] == sum(info.size for info in stored.storage.list(f"stages/publish/{'a' * 64}/"))
    assert json.loads(fusechat(*arguments, "--delete", "--json").output)["unneeded"][0]["deleted"] is True
    assert {info.key.split("/")[2][:1] for info in stored.storage.list("stages/")} == {"b"}
    stored.storage.write("locks/job.json", b"")
    refused = fusechat(*arguments, "--delete")
    assert refused.code == 65
    assert "locks/job.json" in refused.errors


def test_wrong_ages_and_places(tmp_path: Path) -> None:
    assert fusechat("prune", str(tmp_path)).code == 66
    for age in ("7", "d", "-1d", "1w", "1.5h"):
        assert fusechat("prune", str(tmp_path), "--older-than", age).code == 64, age
