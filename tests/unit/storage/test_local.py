"""What is particular to files on this machine: URIs, atomicity, full disks, permissions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusechat.errors import ConfigurationError, MissingInputError, NoPermissionError, TemporaryError, UsageError
from fusechat.storage import LocalStorage, open_storage
from fusechat.storage.local import local_directory


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///data/x", "/data/x"),
        ("file://localhost/data/x/", "/data/x"),
        ("file:///a%20b/%C3%A9", "/a b/é"),
        ("/a b/100%/é#?", "/a b/100%/é#?"),
        ("~/x", "/home/me/x"),
        ("rel/../x", "/usr/x"),
    ],
)
def test_uris_and_plain_paths(uri, path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/usr")
    assert local_directory(uri) == Path(path)


@pytest.mark.parametrize("uri", ["file:/x", "file://host/x", "ftp://host/x", "hf://org/name"])
def test_what_is_no_local_storage_is_refused(uri):
    with pytest.raises(UsageError, match="no "):
        open_storage(uri)


def test_a_storage_is_opened_again_by_its_uri(tmp_path):
    first = open_storage(str(tmp_path / "ö #%20 ?"))
    first.write("k", b"v")
    assert open_storage(first.uri).read("k") == b"v"


def test_opening_creates_nothing(tmp_path):
    storage = open_storage(str(tmp_path / "new"))
    assert storage.list() == []
    assert storage.size("a/b") is None
    storage.delete("a/b")
    assert not (tmp_path / "new").exists()


def test_a_killed_writer_leaves_nothing_that_is_listed(tmp_path):
    """SIGKILL while the file is being written, before it has its name."""
    script = f"""
import os, signal
from pathlib import Path
import fusechat.storage.local as local
real = os.fsync
def killed(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = killed
local.LocalStorage(Path({str(tmp_path)!r})).write("deep/key", b"x" * 1000)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) == 1, "the kill came before or after the window that this test is about"
    storage = LocalStorage(tmp_path)
    assert storage.list() == []
    assert storage.size("deep/key") is None


def test_a_failed_upload_keeps_the_old_object_and_leaves_no_rest(tmp_path):
    storage = LocalStorage(tmp_path / "store")
    storage.write("k", b"old")
    with pytest.raises(MissingInputError, match="absent"):
        storage.upload(tmp_path / "absent", "k")
    assert storage.read("k") == b"old"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["k"]


def test_moving_gives_the_file_up_without_a_copy(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"data")
    inode = source.stat().st_ino
    storage = LocalStorage(tmp_path / "store")
    entry = storage.upload(source, "a/b", move=True)
    assert (entry.path, entry.size) == ("a/b", 4)
    assert not source.exists()
    assert storage.local_path("a/b").stat().st_ino == inode


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_moving_to_another_file_system_copies(tmp_path):
    source = Path("/dev/shm") / f"fusechat-test-{os.getpid()}"
    source.write_bytes(b"data")
    try:
        assert source.stat().st_dev != tmp_path.stat().st_dev
        LocalStorage(tmp_path).upload(source, "k", move=True)
        assert not source.exists()
        assert (tmp_path / "k").read_bytes() == b"data"
    finally:
        source.unlink(missing_ok=True)


def test_uploading_a_file_onto_itself_keeps_it(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.write("k", b"data")
    assert storage.upload(tmp_path / "k", "k", move=True).size == 4
    assert storage.read("k") == b"data"


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from fusechat.errors import TemporaryError
from fusechat.storage import LocalStorage, StageDirectory
root, way = Path(sys.argv[1]), sys.argv[2]
big = Path(sys.argv[3])
big.write_bytes(b"x" * 150_000)
small = big.with_name("small")
small.write_bytes(b"s" * 50_000)
if way == "limit":
    # files may not exceed 64 KiB; the kernel's answer takes the same way through the program
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limit[1]))
else:
    (root / "filler").write_bytes(b"f" * 100_000)
stage = StageDirectory(LocalStorage(root / "store"), "extract", "0" * 64)
writer = stage.writer("one")
writer.finish_part("0", [writer.put(small, "c0")])
for operation in (lambda: writer.put(big, "c1"), lambda: stage.storage.write("doc", big.read_bytes())):
    try:
        operation()
    except TemporaryError as error:
        assert str(root / "store") in error.message and "no room to write" in error.message, error.message
        assert "run the same command again" in error.hint, error.hint
    else:
        raise SystemExit("wrote more than there is room for")
left = sorted(path.name for path in (root / "store").rglob("*") if path.is_file())
assert left == ["0.json", "c0"], left
assert not stage.is_complete()
# some space is freed, and the same command goes on
if way == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
else:
    (root / "filler").unlink()
again = stage.writer("two")
assert list(again.finished_parts()) == ["0"]
again.finish_part("1", [again.put(big, "c1")])
again.complete(parts=again.finished_parts())
assert [file.path for file in stage.manifest().files] == ["one/c0", "two/c1"]
"""


@pytest.mark.parametrize("way", ["file system", "limit"])
def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path, way):
    """On a real file system of 256 KiB where this machine lets a test mount one; under a limit everywhere."""
    root = tmp_path / "disk"
    root.mkdir()
    run = f'exec {sys.executable} -c "$SCRIPT" {root} {{way}} {tmp_path}/big'
    mount = f"mount -t tmpfs -o size=256k none {root}"
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    may_mount = way == "file system" and subprocess.run([*namespace, "sh", "-c", mount], check=False).returncode == 0
    command = (
        [*namespace, "sh", "-c", f"{mount} && {run.format(way='disk')}"]
        if may_mount
        else ["sh", "-c", run.format(way="limit")]
    )
    subprocess.run(command, check=True, env={**os.environ, "SCRIPT": FULL_DISK})


def test_a_full_device(tmp_path):
    """/dev/full answers every write with ENOSPC."""
    storage = LocalStorage(tmp_path)
    storage.write("k", b"data")
    from fusechat.storage.local import local_errors

    def write_to_full_device() -> None:
        with local_errors(Path("/dev/full")), Path("/dev/full").open("wb", buffering=0) as file:
            file.write(storage.read("k"))

    with pytest.raises(TemporaryError, match="no room to write /dev/full: No space left on device"):
        write_to_full_device()


def test_a_directory_of_somebody_else(tmp_path):
    """Root gives its rights up for the length of the write."""
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(NoPermissionError, match="Permission denied"):
            LocalStorage(tmp_path).write("k", b"")
    finally:
        os.seteuid(user)


def test_a_file_where_a_directory_must_be(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.write("a", b"")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        storage.write("a/b", b"")


def test_a_name_longer_than_the_file_system_allows(tmp_path):
    with pytest.raises(ConfigurationError, match="too long"):
        LocalStorage(tmp_path).write("x" * 300, b"")


def test_the_longest_name_fits(tmp_path):
    assert LocalStorage(tmp_path).write("x" * 255, b"1", if_absent=True)
