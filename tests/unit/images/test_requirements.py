"""What the images install: fixed versions with hashes, the very versions that the tests run with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "images"
FILES = ("tools.txt", "operator/requirements.txt", "worker/requirements.txt", "worker/sources.txt")
_PINNED = re.compile(r"([a-z0-9][a-z0-9-]*)==([0-9][0-9a-z.]*)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    version: str
    hashes: frozenset[str]


def _pins(text: str) -> dict[str, Pin]:
    """Package -> pin. Anything in the file that is neither a comment nor a pin with hashes fails."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    pins = {}
    for requirement in re.sub(r"\\\n", " ", lines).splitlines():
        name, *options = requirement.split()
        pinned = _PINNED.fullmatch(name)
        assert pinned, requirement
        hashes = [_HASH.fullmatch(option) for option in options]
        found = frozenset(each[1] for each in hashes if each)
        assert hashes, requirement
        assert all(hashes), requirement
        pins[pinned[1]] = Pin(pinned[2], found)
    return pins


def _read(file: str, images: Path = IMAGES) -> dict[str, Pin]:
    return _pins((images / file).read_text())


def _names(requirements: list[str]) -> set[str]:
    return {
        found.lower().replace("_", "-")
        for requirement in requirements
        for found in re.findall(r"^[A-Za-z0-9_.-]+", requirement)
    }


def _listed(file: str) -> set[str]:
    return {line for line in (IMAGES / file).read_text().splitlines() if line and not line.startswith("#")}


@pytest.mark.parametrize("file", FILES)
def test_every_line_is_a_version_with_hashes_and_no_address_is_there(file: str) -> None:
    text = (IMAGES / file).read_text()
    assert _pins(text)
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("file", FILES)
def test_versions_are_those_of_constraints(file: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = dict(line.split("==") for line in lines if "==" in line)
    for name, pin in _read(file).items():
        assert constraints.get(name, pin.version) == pin.version, f"{name}: run `make requirements`"
        assert name in constraints or file == "tools.txt", name


def test_worker_has_all_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = _names(project["dependencies"]) | _names(project["optional-dependencies"]["ml"])
    assert wanted <= _read("worker/requirements.txt").keys() | _read("worker/sources.txt").keys()
    assert _read("worker/sources.txt").keys() == _listed("worker/sources.in")
    assert not _read("worker/requirements.txt").keys() & _listed("worker/sources.in")


def test_operator_has_its_own_few() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = _names(project["optional-dependencies"]["operator"])
    named = _listed("operator/requirements.in")
    assert extra <= named <= extra | _names(project["dependencies"])
    installed = _read("operator/requirements.txt").keys()
    assert named <= installed
    assert not installed & {"torch", "numpy", "pyarrow", "boto3", "botocore", "transformers", "uv", "pip"}


def test_files_are_what_make_requirements_writes(tmp_path: Path) -> None:
    """Asks the package index, so hashes of files that were added to a release since are let pass."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(IMAGES, tmp_path / "images")
    bin_directory = Path(sys.executable).parent
    ready = f"{bin_directory.parent}/.ready"
    subprocess.run(
        ["make", "--silent", f"--old-file={ready}", f"VENV={bin_directory.parent}", "requirements"],
        cwd=tmp_path,
        check=True,
    )
    for file in FILES:
        ours, fresh = _read(file), _read(file, tmp_path / "images")
        assert {name: pin.version for name, pin in ours.items()} == {name: pin.version for name, pin in fresh.items()}
        for name, pin in ours.items():
            assert pin.hashes <= fresh[name].hashes, f"{file}: {name}"


_IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path[:0] = sys.argv[1:]
import fuse_operator
modules = [module.name for module in pkgutil.walk_packages(fuse_operator.__path__, "fuse_operator.")]
for module in modules:
    importlib.import_module(module)
heavy = sorted({"torch", "numpy", "pyarrow", "boto3"} & sys.modules.keys())
print(len(modules), heavy)
"""


def test_operator_is_imported_with_its_requirements_alone(tmp_path: Path) -> None:
    uv = [str(Path(sys.executable).parent / "uv"), "--quiet"]
    python = str(tmp_path / "venv" / "bin" / "python")
    requirements = str(IMAGES / "operator" / "requirements.txt")
    subprocess.run([*uv, "venv", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    subprocess.run(
        [*uv, "pip", "install", "--python", python, "--require-hashes", "--no-deps", "-r", requirements], check=True
    )
    subprocess.run([*uv, "pip", "check", "--python", python], check=True)
    # -I: neither this directory nor PYTHONPATH; -P would do, and is not in every Python
    command = [python, "-I", "-c", _IMPORT_ALL, str(ROOT), str(ROOT / "operator")]
    printed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    modules, heavy = printed.stdout.split(maxsplit=1)
    assert int(modules) > 10
    assert heavy.strip() == "[]"
