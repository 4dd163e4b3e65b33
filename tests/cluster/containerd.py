"""The node's containerd, and its store of images, kept between runs.

What buildah unpacked is not unpacked again: hard links to it are containerd's snapshots. Gigabytes of images so take a
second to load, and no disk.

One node at a time has the kept store; another beside it starts with an empty one. What a killed node left in the store
besides images is removed by a containerd without kubelet's side (CRI) before the real one starts.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.cluster import images
from tests.cluster.cache import cache_root
from tests.cluster.images import Image
from tests.cluster.processes import Servers
from tests.cluster.stored import Layer, StoredImage
from tests.cluster.times import TIMES

SOCKET = "/run/containerd/containerd.sock"
_CTR = ("ctr", f"--address={SOCKET}", "--namespace=k8s.io")
_START_SECONDS = 90.0
_KEPT = "containerd.io/gc.root"
"""The label by which `ctr` keeps a snapshot from being collected before an image refers to it."""
_UNUSED_PLUGINS = (
    "io.containerd.internal.v1.tracing",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
)
_CRI = "io.containerd.grpc.v1.cri"


@contextmanager
def store(fallback: Path) -> Iterator[Path]:
    """The kept store, or a directory under `fallback` where another node has that."""
    home = cache_root() / "containerd"
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            TIMES.say("another node has the kept images; this one starts without")
            yield fallback / "containerd"
            return
        yield home / "store"


class Containerd:
    """containerd on a node. `enter` is put before commands to run them there."""

    def __init__(self, servers: Servers, enter: tuple[str, ...], root: Path) -> None:
        self._servers = servers
        self._enter = enter
        self._root = root
        self._loading = threading.Lock()

    def start(self, pause: Image, network_configuration: Path) -> None:
        """Starts it with the pause image loaded; returns when it answers."""
        used_before = self._root.exists()
        if used_before:
            try:
                self._start(_configuration(self._root, disabled=(*_UNUSED_PLUGINS, _CRI)))
                self._keep_only_images()
                self._servers.stop("containerd")
            except (RuntimeError, subprocess.SubprocessError) as problem:
                TIMES.say(f"the kept images cannot be used and are given up: {problem}")
                self._servers.stop("containerd")
                shutil.rmtree(self._root)
        kubelets_side = _cri_configuration(pause.name, network_configuration)
        self._start(_configuration(self._root, disabled=_UNUSED_PLUGINS) + kubelets_side)
        self.load(pause)

    def load(self, image: Image) -> bool:
        """Brings what is missing of an image; says whether there was anything to do."""
        with self._loading:
            missing = not self._has(image)
            if missing:
                self._import(image)
                self._ctr("images", "tag", "--force", image.name, image.pinned_name)
                self._forget_replaced()
            return missing

    def _forget_replaced(self) -> None:
        """What is named by digest alone, its tag having gone to the next version, is of no more use."""
        digests = dict(line.split()[:3:2] for line in self._ctr("images", "ls").splitlines()[1:])
        tagged = {digest for name, digest in digests.items() if "@" not in name and not name.startswith("sha256:")}
        replaced = [name for name, digest in digests.items() if digest not in tagged]
        if replaced:
            self._ctr("images", "rm", *replaced)

    def _import(self, image: Image) -> None:
        with images.opened(image.name) as stored:
            known = {line.split()[0] for line in self._ctr("snapshots", "ls").splitlines()[1:]}
            below = ""
            for layer in stored.layers:
                if layer.chain_id not in known:
                    self._adopt(layer, below)
                below = layer.chain_id
        # finds every layer unpacked and so asks for none
        self._import_archive(image, stored)
        for layer in stored.layers:
            self._ctr("snapshots", "label", layer.chain_id, f"{_KEPT}=")

    def _adopt(self, layer: Layer, below: str) -> None:
        """Makes a snapshot of a layer, with the layer's own files in it."""
        scratch = f"adopting {layer.chain_id}"
        with suppress(subprocess.CalledProcessError):  # there is none, but after a kill
            self._ctr("snapshots", "rm", scratch)
        (mount,) = json.loads(self._ctr("snapshots", "prepare", "--mounts", scratch, *([below] if below else [])))
        _link(layer.directory, _writable(mount))
        self._ctr("snapshots", "commit", layer.chain_id, scratch)

    def _import_archive(self, image: Image, stored: StoredImage) -> None:
        command = [*self._enter, *_CTR, "images", "import", "-"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as ctr:
            assert ctr.stdin
            with suppress(BrokenPipeError):
                stored.write_archive(image.name, ctr.stdin)
            output, _ = ctr.communicate()
        if ctr.returncode != 0:
            raise RuntimeError(f"containerd did not take {image.name}: {output.decode(errors='replace')[-2000:]}")

    def _has(self, image: Image) -> bool:
        rows = [line.split() for line in self._ctr("images", "ls", f"name=={image.pinned_name}").splitlines()[1:]]
        return bool(rows) and rows[0][2] == image.digest

    def _start(self, configuration: str) -> None:
        file = self._servers.directory / "containerd.toml"
        file.write_text(configuration)
        self._servers.start("containerd", [*self._enter, "containerd", f"--config={file}"])
        ready = [*self._enter, *_CTR, "version"]
        self._servers.wait_until(
            lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0,
            what="containerd",
            needs=("containerd",),
            seconds=_START_SECONDS,
        )

    def _keep_only_images(self) -> None:
        containers = self._ctr("containers", "ls", "--quiet").split()
        if containers:
            self._ctr("containers", "rm", *containers)
        # kubelet's side names images by their ids too; those it has no more use for would hold what they are made of
        ids = [name for name in self._ctr("images", "ls", "--quiet").split() if name.startswith("sha256:")]
        if ids:
            self._ctr("images", "rm", *ids)

    def _ctr(self, *arguments: str) -> str:
        command = [*self._enter, *_CTR, *arguments]
        nothing = subprocess.DEVNULL
        return subprocess.run(command, stdin=nothing, capture_output=True, text=True, check=True, timeout=600).stdout


def _writable(mount: dict[str, Any]) -> Path:
    """The directory that what is written to a mount ends up in: overlayfs's upper, or what is bound."""
    options = dict(option.partition("=")[::2] for option in mount["Options"])
    return Path(options.get("upperdir", mount["Source"]))


def _link(source: Path, target: Path) -> None:
    """Hard links of all files, with directories, owners and attributes; copies where the file systems are two."""
    link = ["--link"] if source.stat().st_dev == target.stat().st_dev else []
    command = ["cp", "--archive", *link, f"{source}/.", str(target)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {result.returncode}: {result.stderr[-2000:]}")


def _configuration(root: Path, *, disabled: tuple[str, ...]) -> str:
    return f"""\
version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = {json.dumps(disabled)}
[grpc]
  address = "{SOCKET}"
"""


def _cri_configuration(pause_image: str, network_configuration: Path) -> str:
    # the kernel lets only the privileged lower an oom score: without that, containerd is to leave it as it is
    return f"""\
[plugins."{_CRI}"]
  sandbox_image = "{pause_image}"
  restrict_oom_score_adj = true
  [plugins."{_CRI}".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."{_CRI}".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network_configuration}"
"""
