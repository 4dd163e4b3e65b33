"""Local inputs, remembered checksums, and the form of hub URIs."""

import hashlib
import os
import subprocess
import sys
import time

import pytest

from fusechat.errors import ConfigurationError, InvalidDataError, MissingInputError, UsageError
from fusechat.storage import checksums
from fusechat.storage.hub import HubLocation, parse
from fusechat.storage.inputs import InputFile, fetch, list_files, locate, verify


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user cache"))
    return tmp_path / "user cache" / "fusechat"


def _sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _model(tmp_path):
    directory = tmp_path / "a model"
    for name, data in {"config.json": b"{}", "sub/w.bin": b"w", ".git/HEAD": b"x", ".hidden": b"", "e": b""}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


@pytest.mark.parametrize("as_uri", [True, False])
def test_a_directory(tmp_path, as_uri):
    directory = _model(tmp_path)
    uri = directory.as_uri() if as_uri else str(directory)
    located = locate(uri)
    assert located.files == (
        InputFile("config.json", 2, _sha(b"{}")),
        InputFile("e", 0, _sha(b"")),
        InputFile("sub/w.bin", 1, _sha(b"w")),
    )
    assert located.revision is None
    assert fetch(uri, tmp_path / "cache") == directory
    assert not (tmp_path / "cache").exists()


def test_one_file(tmp_path):
    path = _model(tmp_path) / "sub" / "w.bin"
    assert list_files(str(path), "dataset") == [InputFile("w.bin", 1, _sha(b"w"))]
    assert fetch(str(path), tmp_path / "cache") == path


def test_a_directory_that_may_not_be_read(tmp_path):
    """It must not pass for an empty one."""
    closed = _model(tmp_path) / "sub"
    closed.chmod(0)
    for path in (tmp_path, closed.parent, closed.parent / ".git"):
        path.chmod(0o755)
    script = f"""
import os
from pathlib import Path
from fusechat.errors import NoPermissionError
from fusechat.storage.local import LocalStorage
root = Path({str(closed.parent)!r})
os.chdir(root)
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    LocalStorage(Path(".")).list()
except NoPermissionError as error:
    assert "sub: Permission denied" in error.message, error.message
else:
    raise SystemExit("nothing was raised")
"""
    try:
        subprocess.run([sys.executable, "-c", script], check=True)
    finally:
        closed.chmod(0o700)


def test_what_changed_since_it_was_located(tmp_path):
    directory = _model(tmp_path)
    located = locate(str(directory))
    verify(directory, located.files)
    (directory / "sub" / "w.bin").write_bytes(b"v")
    with pytest.raises(InvalidDataError, match=r"w\.bin is not what it was .*: it is sha256:"):
        verify(directory, located.files)
    (directory / "sub" / "w.bin").write_bytes(b"longer")
    with pytest.raises(InvalidDataError, match="has 6 bytes, expected 1"):
        verify(directory, located.files)
    (directory / "sub" / "w.bin").unlink()
    with pytest.raises(InvalidDataError, match="is missing"):
        verify(directory, located.files)


def test_one_file_is_verified_itself(tmp_path):
    path = _model(tmp_path) / "config.json"
    located = locate(str(path))
    verify(fetch(str(path), tmp_path), located.files)
    path.write_bytes(b"[]")
    with pytest.raises(InvalidDataError, match="is not what it was"):
        verify(fetch(str(path), tmp_path), located.files)


def test_patterns(tmp_path):
    assert [file.path for file in locate(str(_model(tmp_path)), patterns=["*.bin", "e"]).files] == ["e", "sub/w.bin"]


def test_nothing_there(tmp_path):
    for operation in (locate, lambda uri: fetch(uri, tmp_path)):
        with pytest.raises(MissingInputError, match="nowhere does not exist"):
            operation(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match="empty has no files"):
        locate(str(tmp_path / "empty"))
    with pytest.raises(MissingInputError, match=r"no files matching \*\.gguf"):
        locate(str(_model(tmp_path)), patterns=["*.gguf"])


def test_only_the_hub_has_revisions(tmp_path):
    for operation in (
        lambda: locate(str(tmp_path), revision="v1"),
        lambda: fetch(str(tmp_path), tmp_path, revision="v1"),
    ):
        with pytest.raises(ConfigurationError, match="revision 'v1'"):
            operation()


def test_a_checksum_is_remembered_and_a_change_is_noticed(tmp_path, user_cache):
    path = tmp_path / "big"
    path.write_bytes(b"one")
    settled = time.time() - 60
    os.utime(path, (settled, settled))
    first = checksums.remembered_sha256(path)
    records = list((user_cache / "checksums").iterdir())
    assert len(records) == 1
    # what is in the record is what is believed: so it was read, and the file was not
    records[0].write_bytes(records[0].read_bytes().replace(first.encode(), b"0" * 64))
    assert checksums.remembered_sha256(path) == "0" * 64
    path.write_bytes(b"two")
    assert checksums.remembered_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_a_file_that_may_still_change_is_not_remembered(tmp_path, user_cache):
    path = tmp_path / "fresh"
    path.write_bytes(b"one")
    ahead = time.time() + 600  # as if it had been written while it is read, however long that takes
    os.utime(path, (ahead, ahead))
    checksums.remembered_sha256(path)
    assert not user_cache.exists()


def test_a_broken_record_costs_time_and_nothing_else(tmp_path, user_cache):
    path = tmp_path / "big"
    path.write_bytes(b"one")
    os.utime(path, (1, 1))
    expected = checksums.remembered_sha256(path)
    for content in (b"", b"[]", b'{"state": 1}', b"\xff"):
        next((user_cache / "checksums").iterdir()).write_bytes(content)
        assert checksums.remembered_sha256(path) == expected


@pytest.mark.parametrize(
    ("uri", "kind", "revision", "expected"),
    [
        ("hf://org/name", "model", None, HubLocation("org/name", "model", "main")),
        ("hf://gpt2", "model", None, HubLocation("gpt2", "model", "main")),
        ("hf://org/name@v1.0", "model", None, HubLocation("org/name", "model", "v1.0")),
        ("hf://org/name@v1", "model", "v1", HubLocation("org/name", "model", "v1")),
        ("hf://org/name", "dataset", "abc", HubLocation("org/name", "dataset", "abc")),
        ("hf://datasets/org/name", "model", None, HubLocation("org/name", "dataset", "main")),
        ("hf://models/org/name/", "dataset", None, HubLocation("org/name", "model", "main")),
        (
            "hf://datasets/org/name@refs%2Fpr%2F1/data/a.jsonl",
            "dataset",
            None,
            HubLocation("org/name", "dataset", "refs/pr/1", "data/a.jsonl"),
        ),
    ],
)
def test_hub_uris(uri, kind, revision, expected):
    assert parse(uri, kind, revision) == expected


def test_two_revisions_at_once():
    with pytest.raises(ConfigurationError, match="not of revision v2"):
        parse("hf://org/name@v1", "model", "v2")


@pytest.mark.parametrize("uri", ["hf://", "hf:///name", "hf://@main", "hf://org/@main"])
def test_what_is_no_hub_uri(uri):
    with pytest.raises(UsageError, match="hf://org/name"):
        parse(uri, "model", None)
