"""What is particular to S3: credentials, buckets, the network, killed uploads."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fusechat.errors import ConfigurationError, MissingInputError, NoPermissionError, TemporaryError, UsageError
from fusechat.storage import S3Settings, StageDirectory, open_storage
from tests.standing_still import until, until_standing

DIGEST = "fedcba9876543210" * 4


@pytest.fixture
def storage(s3, s3_bucket):
    return open_storage(f"{s3_bucket}/p", s3.settings)


def test_a_bucket_without_a_prefix(s3, s3_bucket):
    storage = open_storage(s3_bucket + "/", s3.settings)
    storage.write("k", b"v")
    storage.write("d/k", b"v2")
    assert storage.uri == s3_bucket
    assert [info.key for info in storage.list()] == ["d/k", "k"]
    assert storage.read("d/k") == b"v2"


def _every_operation(storage, tmp_path):
    (tmp_path / "up").write_bytes(b"x")
    yield lambda: storage.read("k")
    yield lambda: list(storage.chunks("k"))
    yield lambda: storage.write("k", b"x")
    yield lambda: storage.write("k", b"x", if_absent=True)
    yield lambda: storage.upload(tmp_path / "up", "k")
    yield lambda: storage.download("k", tmp_path / "down")
    yield lambda: storage.list()
    yield lambda: storage.size("k")
    yield lambda: storage.delete("k")


@pytest.mark.parametrize(("name", "value"), [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "unknown")])
def test_wrong_credentials(storage, tmp_path, monkeypatch, name, value):
    storage.write("k", b"kept")
    monkeypatch.setenv(name, value)
    stranger = open_storage(storage.uri, storage.settings)
    for operation in _every_operation(stranger, tmp_path):
        with pytest.raises(NoPermissionError, match=storage.uri) as raised:
            operation()
        assert "AWS_SECRET_ACCESS_KEY" in raised.value.hint
        assert raised.value.exit_code == 77
    assert storage.read("k") == b"kept"
    assert not (tmp_path / "down").exists()


def test_no_credentials_at_all(storage, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(NoPermissionError, match="credentials"):
        open_storage(storage.uri, storage.settings).read("k")


def test_a_reader_may_read_and_not_write(s3, storage, monkeypatch):
    storage.write("k", b"v")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.read_only_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.read_only_secret)
    reader = open_storage(storage.uri, storage.settings)
    assert reader.read("k") == b"v"
    with pytest.raises(NoPermissionError, match="AccessDenied"):
        reader.write("k", b"x")


def test_credentials_from_a_profile(s3, storage, monkeypatch, tmp_path):
    storage.write("k", b"v")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    path = tmp_path / "credentials"
    path.write_text(f"[lab]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    assert open_storage(storage.uri, replace(storage.settings, profile="lab")).read("k") == b"v"
    with pytest.raises(ConfigurationError, match="nobody"):
        open_storage(storage.uri, replace(storage.settings, profile="nobody")).read("k")


@pytest.mark.usefixtures("s3_bucket")
def test_a_bucket_that_does_not_exist(s3):
    nowhere = open_storage("s3://no-such-bucket-here/p", s3.settings)
    with pytest.raises(MissingInputError, match="NoSuchBucket") as raised:
        nowhere.list()
    assert "Create the bucket" in raised.value.hint
    for operation in (lambda: nowhere.read("k"), lambda: nowhere.write("k", b"x")):
        with pytest.raises(MissingInputError, match="NoSuchBucket"):
            operation()


@pytest.mark.parametrize("uri", ["s3://", "s3:///key"])
def test_a_uri_without_a_bucket(uri):
    with pytest.raises(UsageError, match="no S3 URI"):
        open_storage(uri)


@pytest.mark.usefixtures("s3_bucket")
def test_a_bucket_name_that_cannot_be(s3):
    with pytest.raises(ConfigurationError, match="UPPER case"):
        open_storage("s3://UPPER case", s3.settings).read("k")


def test_an_endpoint_that_is_no_url(storage):
    with pytest.raises(ConfigurationError, match="https://host"):
        open_storage(storage.uri, replace(storage.settings, endpoint="not a url")).read("k")


def test_nobody_listens(storage, tmp_path):
    settings = replace(storage.settings, endpoint="http://127.0.0.1:9", attempts=1)
    for operation in _every_operation(open_storage(storage.uri, settings), tmp_path):
        with pytest.raises(TemporaryError, match=r"127\.0\.0\.1:9"):
            operation()


class _FailingServer(ThreadingHTTPServer):
    requests = 0
    authorization = ""
    failure = ""


class _Failing(BaseHTTPRequestHandler):
    """Answers HEAD well, then fails a GET in the way that its server was told."""

    protocol_version = "HTTP/1.1"
    server: _FailingServer

    def do_HEAD(self):
        self._answer(200, b"x" * 1000, cut=1000)

    def do_GET(self):
        self.server.requests += 1
        self.server.authorization = self.headers["Authorization"]
        if self.server.failure == "503":
            self._answer(503, b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>")
        elif self.server.failure == "silent":
            time.sleep(5)
        else:
            self._answer(200, b"x" * 1000, cut=600)

    def _answer(self, status, body, cut=0):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def failing_server():
    server = _FailingServer(("127.0.0.1", 0), _Failing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("failure", ["503", "silent", "cut"])
def test_a_failing_service_is_temporary_and_tried_again(s3_bucket, failing_server, tmp_path, failure):
    failing_server.failure = failure
    settings = S3Settings(
        endpoint=f"http://127.0.0.1:{failing_server.server_port}", attempts=2, connect_timeout=1, read_timeout=0.5
    )
    storage = open_storage(s3_bucket, settings)
    with pytest.raises(TemporaryError) as raised:
        storage.download("k", tmp_path / "down")
    assert f"{s3_bucket}/k" in raised.value.message
    with pytest.raises(TemporaryError):
        list(storage.chunks("k"))
    until(lambda: failing_server.requests >= 2, "it was not tried again")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION", None])
def test_the_region_that_is_signed_for(s3_bucket, failing_server, monkeypatch, name):
    failing_server.failure = "503"
    for known in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(known, raising=False)
    if name:
        monkeypatch.setenv(name, "eu-test-1")
    with pytest.raises(TemporaryError, match="SlowDown"):
        open_storage(s3_bucket, S3Settings(f"http://127.0.0.1:{failing_server.server_port}", attempts=1)).read("k")
    assert f"/{'eu-test-1' if name else 'us-east-1'}/s3/" in failing_server.authorization


def test_a_killed_upload_leaves_no_object_and_no_manifest(s3, storage, tmp_path):
    """SIGKILL once the first part of a large file is on the server."""
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(96 << 20)
    script = f"""
import os, signal
from pathlib import Path
from fusechat.storage import S3Settings, StageDirectory, open_storage
settings = S3Settings(endpoint={s3.endpoint!r}, part_bytes=5 << 20)
storage = open_storage({storage.uri!r}, settings)
stand_still = lambda **_: os.kill(os.getpid(), signal.SIGSTOP)
storage._client.meta.events.register("after-call.s3.UploadPart", stand_still)
stage = StageDirectory(storage, "merge", {DIGEST!r})
writer = stage.writer("killed")
writer.complete([writer.put(Path({str(big)!r}), "model.safetensors")])
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    until_standing(process.pid)
    process.kill()
    process.wait()
    uploads = s3.client().list_multipart_uploads(Bucket=storage.bucket)["Uploads"]
    assert [upload["Key"] for upload in uploads] == [f"p/stages/merge/{DIGEST}/killed/model.safetensors"]
    assert storage.list() == []
    assert not StageDirectory(storage, "merge", DIGEST).is_complete()


def test_two_processes_finish_one_stage(s3, storage, tmp_path):
    script = f"""
import sys
from pathlib import Path
from fusechat.storage import S3Settings, StageDirectory, open_storage
from fusechat.storage.manifest import manifest_bytes
stage = StageDirectory(open_storage({storage.uri!r}, S3Settings(endpoint={s3.endpoint!r})), "align", {DIGEST!r})
name = sys.argv[1]
local = Path({str(tmp_path)!r}) / name
local.write_bytes(b"same bytes")
writer = stage.writer(name)
entry = writer.put(local, "out")
print("ready", flush=True)
sys.stdin.readline()
sys.stdout.buffer.write(manifest_bytes(writer.complete([entry])))
"""
    environment = {**os.environ, **s3.environment}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert answers[0] == answers[1] == storage.read(f"stages/align/{DIGEST}/manifest.json")
    reader = StageDirectory(storage, "align", DIGEST).reader(tmp_path / "cache")
    assert reader.fetch("out").read_bytes() == b"same bytes"


def test_the_cache_is_filled_once_and_repaired(storage, tmp_path):
    stage = StageDirectory(storage, "fuse", DIGEST)
    (tmp_path / "w").write_bytes(b"weights")
    writer = stage.writer("a")
    writer.complete([writer.put(tmp_path / "w", "model/w")])
    path = stage.reader(tmp_path / "cache").fetch("model/w")
    before = path.stat().st_mtime_ns
    assert stage.reader(tmp_path / "cache").fetch("model/w").stat().st_mtime_ns == before
    path.write_bytes(b"WEIGHTS")
    assert stage.reader(tmp_path / "cache").fetch("model/w").read_bytes() == b"weights"
    assert stage.is_complete(), "a damaged copy is no damage of the output"


def test_a_full_disk_while_downloading(s3, storage, tmp_path):
    storage.write("k", b"x" * 300_000)
    script = f"""
import resource, signal
from pathlib import Path
from fusechat.errors import TemporaryError
from fusechat.storage import S3Settings, open_storage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    open_storage({storage.uri!r}, S3Settings(endpoint={s3.endpoint!r})).download("k", Path({str(tmp_path)!r}) / "down")
except TemporaryError as error:
    assert "no room to write" in error.message and {str(tmp_path)!r} in error.message, error.message
else:
    raise SystemExit("wrote more than the limit")
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert list(tmp_path.iterdir()) == []
