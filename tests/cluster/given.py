"""A cluster that KUBECONFIG names: how its nodes get the tests' images, and how its pods reach this machine.

Only who has the cluster can know: it is said in the environment, and tests that need what was not said skip.
"""

from __future__ import annotations

import functools
import os
import shlex
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from tests.cluster import images, relay
from tests.cluster.images import Image

_LOADER = "FUSECHAT_LOAD_IMAGE"
_HOST = "FUSECHAT_POD_HOST"
_LOAD_SECONDS = 1800


@functools.cache
def load_image(image: Image) -> str:
    """Gives an archive of the image to the command in FUSECHAT_LOAD_IMAGE; gives its name for a pod."""
    loader = _said(_LOADER, "the command that takes an archive to its nodes, such as `kind load image-archive`")
    with tempfile.TemporaryDirectory(prefix="fusechat-image-") as directory:
        archive = Path(directory) / "image.tar"
        images.write_archive(image.name, archive)
        subprocess.run([*shlex.split(loader), str(archive)], timeout=_LOAD_SECONDS, check=True)
    return image.name


@functools.cache
def publish(port: int) -> str:
    """Serves a port of this machine's loopback at FUSECHAT_POD_HOST, until the tests end; gives HOST:PORT."""
    host = _said(_HOST, "the address of this machine that pods reach, of kind the gateway of its docker network")
    listener = socket.create_server((host, port), backlog=128)
    threading.Thread(target=relay.serve, args=(listener, ("127.0.0.1", port)), daemon=True).start()
    return f"{host}:{port}"


def _said(variable: str, meaning: str) -> str:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"of the cluster in KUBECONFIG {variable} is not known ({meaning})")
    return value
