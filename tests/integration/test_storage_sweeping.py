"""What killed writers left is removed once the stage is finished, and nothing else."""

import os
import signal
import subprocess
import sys

import pytest

from fusechat.storage import StageDirectory, open_storage
from fusechat.storage.sweeping import remove_abandoned, sweep

DIGEST = "00112233445566778899" * 4


@pytest.fixture(params=["local", "s3"])
def stage(request, tmp_path):
    if request.param == "local":
        return StageDirectory(open_storage(str(tmp_path / "store")), "extract", DIGEST)
    bucket, settings = request.getfixturevalue("s3_bucket"), request.getfixturevalue("s3").settings
    return StageDirectory(open_storage(bucket, settings), "extract", DIGEST)


def _put(stage, tmp_path, attempt, name, content):
    (tmp_path / "work").write_bytes(content)
    return stage.writer(attempt).put(tmp_path / "work", name)


def test_only_leftovers_go(stage, tmp_path):
    _put(stage, tmp_path, "killed", "model/w", b"12345")
    kept = stage.writer("kept")
    kept.finish_part("0", [_put(stage, tmp_path, "kept", "c0", b"x")])
    assert sweep(stage) == 0, "before it is complete everything may still be needed"
    kept.complete([_put(stage, tmp_path, "kept", "report", b"r")], parts=kept.finished_parts())
    stage.storage.write("stages/other/file", b"not ours")
    before = set(stage.sizes())
    assert sweep(stage) == 5
    assert before - set(stage.sizes()) == {"killed/model/w"}
    assert stage.is_complete()
    assert stage.storage.size("stages/other/file") == 8
    assert sweep(stage) == 0


def test_half_written_files_go_when_they_are_old(tmp_path):
    stage = StageDirectory(open_storage(str(tmp_path / "store")), "extract", DIGEST)
    directory = tmp_path / "store" / stage.key / "killed"
    directory.mkdir(parents=True)
    for name, age in ((".1-a.unfinished", 7200), (".2-b.unfinished", 0)):
        (directory / name).write_bytes(b"123")
        if age:
            os.utime(directory / name, (1, 1))
    stage.writer("w").complete([_put(stage, tmp_path, "w", "out", b"x")])
    assert sweep(stage) == 3
    assert [path.name for path in directory.iterdir()] == [".2-b.unfinished"]


KILLED = """
import os, signal, sys
from pathlib import Path
from s3transfer.utils import OSUtils
from fusechat.storage import open_storage
from fusechat.storage.base import S3Settings
OSUtils.rename_file = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
bucket, endpoint, path = sys.argv[1:]
open_storage(bucket, S3Settings(endpoint=endpoint, region="us-east-1")).download("model/w", Path(path))
"""


def test_what_a_killed_download_leaves_goes(s3, s3_bucket, tmp_path):
    open_storage(s3_bucket, s3.settings).write("model/w", b"12345")
    path = tmp_path / "inputs" / "model" / "w"
    command = [sys.executable, "-c", KILLED, s3_bucket, s3.settings.endpoint, str(path)]
    assert subprocess.run(command, check=False, env=os.environ | s3.environment).returncode == -signal.SIGKILL
    (half,) = path.parent.iterdir()
    assert half.read_bytes() == b"12345"
    assert remove_abandoned(tmp_path) == 0, "somebody may still be at it"
    os.utime(half, (1, 1))
    path.write_bytes(b"finished")
    os.utime(path, (1, 1))
    assert remove_abandoned(tmp_path) == 5
    assert list(path.parent.iterdir()) == [path]
