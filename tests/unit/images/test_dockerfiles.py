"""What holds for both Dockerfiles, read as instructions. That they build, and what is in them, tests/cluster shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKERFILES = {name: ROOT / "images" / name / "Dockerfile" for name in ("operator", "worker")}


def _instructions(path: Path) -> list[tuple[str, str]]:
    """Word and rest of each; in RUN, the arguments that have a default are in their places."""
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text())
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    instructions = [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]
    defaults = dict(text.split("=", 1) for word, text in instructions if word == "ARG" and "=" in text)
    return [
        (word, re.sub(r"\$(\w+)", lambda found: defaults.get(found[1], found[0]), text) if word == "RUN" else text)
        for word, text in instructions
    ]


def _final_image(path: Path) -> list[tuple[str, str]]:
    """The instructions of the last stage, after those of the stages that it is built on."""
    stages: dict[str, list[tuple[str, str]]] = {}
    for word, text in _instructions(path):
        if word == "FROM":
            base, _, name = text.partition(" AS ")
            stages[name] = list(stages.get(base, []))
        elif stages:
            stages[name].append((word, text))
    return stages[""]


@pytest.fixture(params=DOCKERFILES)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    return DOCKERFILES[request.param]


def test_base_is_an_argument_and_no_other_image_is_used(dockerfile: Path) -> None:
    instructions = _instructions(dockerfile)
    assert instructions[0][0] == "ARG"
    assert instructions[0][1].startswith("BASE_IMAGE=")
    stages = {text.split(" AS ")[1] for word, text in instructions if word == "FROM" and " AS " in text}
    assert {text.split()[0] for word, text in instructions if word == "FROM"} <= stages | {"${BASE_IMAGE}"}


def test_runs_as_a_numbered_user_that_is_not_root(dockerfile: Path) -> None:
    users = [text for word, text in _final_image(dockerfile) if word == "USER"]
    assert users == ["10001:10001"], "kubelet can check runAsNonRoot for numbers only"


def test_everything_from_outside_is_installed_by_hash(dockerfile: Path) -> None:
    installs = [
        command
        for word, text in _instructions(dockerfile)
        if word == "RUN"
        for command in text.split("&&")
        if re.search(r"\bpip\b.* install\b", command)
    ]
    assert len(installs) >= 3
    for command in installs:
        assert "--require-hashes" in command or "--no-index" in command, command


def test_changed_sources_change_the_last_layer_only(dockerfile: Path) -> None:
    layers = [text for word, text in _final_image(dockerfile) if word in ("COPY", "RUN", "ADD")]
    assert layers[-1] == "--from=project /project /opt/fusechat"
    for text in layers[:-1]:
        assert "project" not in text
        assert not re.search(r"(^| )(\.|fusechat|operator)( |$)", text), text


def test_labels_and_entry_point(dockerfile: Path) -> None:
    final = _final_image(dockerfile)
    labels = next(text for word, text in final if word == "LABEL")
    for name in ("title", "description", "licenses", "version", "revision", "source"):
        assert f"org.opencontainers.image.{name}=" in labels
    commands = {"operator": '["fusechat-operator"]', "worker": '["fusechat"]'}
    assert ("ENTRYPOINT", commands[dockerfile.parent.name]) in final


def test_build_context_holds_what_the_images_copy() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for path in DOCKERFILES.values():
        for word, text in _instructions(path):
            if word == "COPY" and not text.startswith("--from="):
                for source in text.split()[:-1]:
                    assert source.split("/")[0] in allowed, source
                    assert (ROOT / source).exists(), source
