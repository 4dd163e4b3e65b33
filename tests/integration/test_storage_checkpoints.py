"""Checkpoints of a gang: they count when all ranks are in, and damage costs one checkpoint, never the run."""

import inspect

import pytest

from fusechat.errors import DamagedInputError, InvalidDataError, TemporaryError
from fusechat.fusion.checkpointing import CheckpointStore
from fusechat.storage import open_storage
from fusechat.storage.checkpoints import Checkpoints

DIGEST = "abcdef0123456789" * 4


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path):
    if request.param == "local":
        return open_storage(str(tmp_path / "store"))
    return open_storage(request.getfixturevalue("s3_bucket"), request.getfixturevalue("s3").settings)


def _open(storage, *, world_size=2, writer="first") -> Checkpoints:
    return Checkpoints(storage, "fuse-a", DIGEST, world_size=world_size, writer=writer)


@pytest.mark.parametrize("name", ["save", "commit", "newest", "restore", "prune"])
def test_training_finds_the_methods_that_it_asks_for(name):
    asked, given = (inspect.signature(getattr(cls, name)) for cls in (CheckpointStore, Checkpoints))
    assert list(asked.parameters) == list(given.parameters)
    assert asked.return_annotation == given.return_annotation


def _save(checkpoints, tmp_path, step, *, ranks=(0, 1), commit=True):
    for rank in ranks:
        directory = tmp_path / "ranks" / f"{step}-{rank}"
        (directory / "optim").mkdir(parents=True, exist_ok=True)
        (directory / "optim" / f"rank{rank}.bin").write_bytes(b"%d:%d" % (step, rank))
        (directory / "run.json").write_bytes(b"{}")
        checkpoints.save(step, rank, directory)
    if commit:
        checkpoints.commit(step)


def _restored(checkpoints, step, directory):
    checkpoints.restore(step, directory)
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_all_ranks_are_put_together(storage, tmp_path):
    checkpoints = _open(storage)
    assert checkpoints.newest() is None
    _save(checkpoints, tmp_path, 10)
    assert checkpoints.newest() == 10
    expected = {"optim/rank0.bin": b"10:0", "optim/rank1.bin": b"10:1", "run.json": b"{}"}
    assert _restored(checkpoints, 10, tmp_path / "out") == expected
    keys = [info.key for info in storage.list("checkpoints/")]
    assert f"checkpoints/{DIGEST[:12]}/2/first/step-10/commit.json" in keys


def test_an_uncommitted_checkpoint_does_not_count(storage, tmp_path):
    checkpoints = _open(storage)
    _save(checkpoints, tmp_path, 9)
    _save(checkpoints, tmp_path, 10, commit=False)
    assert checkpoints.newest() == 9
    with pytest.raises(TemporaryError, match="step 10"):
        checkpoints.restore(10, tmp_path / "out")


def test_a_commit_without_all_ranks_is_refused(storage, tmp_path):
    checkpoints = _open(storage, world_size=3)
    _save(checkpoints, tmp_path, 5, ranks=(1,), commit=False)
    with pytest.raises(TemporaryError, match=r"lacks ranks \[0, 2\] of 3"):
        checkpoints.commit(5)
    assert checkpoints.newest() is None


def test_steps_are_numbers_and_writers_are_joined(storage, tmp_path):
    _save(_open(storage, writer="zzz"), tmp_path, 9)
    _save(_open(storage, writer="aaa"), tmp_path, 100)
    third = _open(storage, writer="mmm")
    assert third.newest() == 100
    newest = third.newest_checkpoint()
    assert newest is not None
    assert newest.writer == "aaa"
    assert third.restore_newest(tmp_path / "out") == 100


def test_another_world_size_is_seen_and_not_used(storage, tmp_path):
    _save(_open(storage), tmp_path, 5)
    _save(_open(storage, world_size=1), tmp_path, 5, ranks=(0,), commit=False)
    other = _open(storage, world_size=4)
    assert other.newest() is None
    assert other.other_world_sizes() == [2]
    assert _open(storage).other_world_sizes() == []


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("rank-1/optim/rank1.bin", b"20", "rank-1/optim/rank1.bin: 2 bytes, 4 bytes expected"),
        ("rank-0/run.json", None, "rank-0/run.json: missing, 2 bytes expected"),
        ("rank-0.json", b"{}", "no checksum"),
        ("commit.json", b'{"step":20', "no JSON"),
        ("rank-1.json", None, "does not exist"),
    ],
)
def test_what_a_look_shows_to_be_damaged_is_passed_over(storage, tmp_path, file, content, reason):
    checkpoints = _open(storage)
    for step in (10, 20):
        _save(checkpoints, tmp_path, step)
    key = f"checkpoints/{DIGEST[:12]}/2/first/step-20/{file}"
    assert storage.size(key) is not None
    storage.delete(key) if content is None else storage.write(key, content)
    assert checkpoints.newest() == 10
    assert [(skipped.step, reason in skipped.reason) for skipped in checkpoints.skipped] == [(20, True)]


def test_a_flipped_bit_costs_one_checkpoint(storage, tmp_path):
    checkpoints = _open(storage)
    for step in (10, 20):
        _save(checkpoints, tmp_path, step)
    storage.write(f"checkpoints/{DIGEST[:12]}/2/first/step-20/rank-1/optim/rank1.bin", b"20:0")
    assert checkpoints.newest() == 20
    with pytest.raises(DamagedInputError, match=r"step-20/rank-1/optim/rank1\.bin: expected 4 bytes") as raised:
        checkpoints.restore(20, tmp_path / "out")
    assert raised.value.stage == "fuse-a"
    assert checkpoints.newest() == 10


def test_restoring_the_newest_falls_back_by_itself(storage, tmp_path):
    checkpoints = _open(storage)
    for step in (10, 20):
        _save(checkpoints, tmp_path, step)
    storage.write(f"checkpoints/{DIGEST[:12]}/2/first/step-20/rank-1/optim/rank1.bin", b"20:0")
    assert checkpoints.restore_newest(tmp_path / "out") == 10
    assert (tmp_path / "out" / "optim" / "rank1.bin").read_bytes() == b"10:1"


@pytest.mark.parametrize("requests", range(8))
def test_restoring_what_another_start_removes_meanwhile(storage, tmp_path, monkeypatch, requests):
    """It finishes the stage, and needs no checkpoint any more, before that request: all is restored, or nothing is."""
    _save(_open(storage), tmp_path, 10)
    left = iter(range(requests, -1, -1))

    def but_first(method):
        def ask(*arguments):
            if next(left, None) == 0:
                _open(storage, writer="second").clear()
            return method(*arguments)

        return ask

    for name in ("list", "read", "download"):
        monkeypatch.setattr(storage, name, but_first(getattr(storage, name)))
    restored = _open(storage, writer="third").restore_newest(tmp_path / "out")
    assert restored == (None if requests < 7 else 10)
    monkeypatch.undo()
    _open(storage).clear()
    assert storage.list("checkpoints/") == []


def test_a_checkpoint_saved_again_counts_only_with_its_new_commit(storage, tmp_path):
    checkpoints = _open(storage)
    _save(checkpoints, tmp_path, 10)
    (tmp_path / "ranks" / "10-1" / "optim" / "rank1.bin").write_bytes(b"new!")
    checkpoints.save(10, 1, tmp_path / "ranks" / "10-1")
    assert checkpoints.newest() is None
    checkpoints.commit(10)
    assert _restored(checkpoints, 10, tmp_path / "out")["optim/rank1.bin"] == b"new!"


def test_two_ranks_with_different_files_of_one_name(storage, tmp_path):
    checkpoints = _open(storage)
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / "state").write_bytes(b"%d" % rank)
        checkpoints.save(1, rank, tmp_path / str(rank))
    with pytest.raises(InvalidDataError, match="rank-0/state and rank-1/state"):
        checkpoints.commit(1)


def test_pruning_keeps_the_newest_that_count(storage, tmp_path):
    old, checkpoints = _open(storage, writer="old"), _open(storage, writer="new")
    _save(old, tmp_path, 10)
    _save(old, tmp_path, 15, commit=False)
    _save(old, tmp_path, 20)
    _save(checkpoints, tmp_path, 20)
    _save(checkpoints, tmp_path, 30)
    _save(checkpoints, tmp_path, 40, commit=False)
    checkpoints.prune(2)
    left = {info.key.split("/")[3] + "/" + info.key.split("/")[4] for info in storage.list("checkpoints/")}
    assert left == {"new/step-20", "new/step-30", "new/step-40"}
    assert checkpoints.newest() == 30


def test_pruning_never_counts_a_damaged_one(storage, tmp_path):
    checkpoints = _open(storage)
    for step in (10, 20, 30):
        _save(checkpoints, tmp_path, step)
    storage.write(f"checkpoints/{DIGEST[:12]}/2/first/step-20/rank-0/run.json", b"")
    checkpoints.prune(2)
    steps = {info.key.split("/")[4] for info in storage.list("checkpoints/")}
    assert steps == {"step-10", "step-30"}


def test_pruning_nothing(storage, tmp_path):
    checkpoints = _open(storage)
    checkpoints.prune()
    _save(checkpoints, tmp_path, 10, commit=False)
    checkpoints.prune()
    assert storage.list("checkpoints/") != []


def test_a_finished_stage_needs_none(storage, tmp_path):
    _save(_open(storage), tmp_path, 10)
    _save(_open(storage, world_size=1), tmp_path, 5, ranks=(0,))
    storage.write("checkpoints/other/1/w/step-1/commit.json", b"")
    _open(storage).clear()
    assert [info.key for info in storage.list()] == ["checkpoints/other/1/w/step-1/commit.json"]
