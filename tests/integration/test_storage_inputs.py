"""Inputs from the hub (the real client against a local server) and from S3."""

import hashlib
from typing import Literal

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from fusechat.errors import InvalidDataError, MissingInputError, NoPermissionError, TemporaryError, UsageError
from fusechat.storage import open_storage
from fusechat.storage.inputs import InputFile, fetch, locate, verify
from tests.hub_server import TOKEN, HubServer, Repository, git_blob, running_hub

WEIGHTS = bytes(range(256)) * 200
OLD = {"config.json": b'{"v":1}', "model.safetensors": b"old"}
NEW = {
    ".gitattributes": b"x",
    "README.md": b"card",
    "config.json": b'{"v":2}',
    "model.safetensors": WEIGHTS,
    "original/weights.pth": b"other",
    "tokenizer.json": b"{}",
}
DATA = {"README.md": b"card", "data/a.jsonl": b"{}\n", "data/b.jsonl": b"[]\n", "extra/c d.jsonl": b"1\n"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    # the client reads these once, at its import
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "no tokens"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        server.add(Repository("org/chat", [OLD, NEW], tags={"v1": 0, "refs/pr/1": 0}))
        server.add(Repository("org/talks", [DATA], kind="datasets"))
        server.add(Repository("org/gated", [NEW], gated=True))
        server.add(Repository("org/secret", [NEW], private=True))
        yield server


def _commit(server: HubServer, repo: str, index: int, kind: str = "models") -> str:
    return server.repositories[kind, repo].commit(index)


def test_a_model_is_located_without_downloading_it(hub):
    located = locate("hf://org/chat")
    assert located.revision == _commit(hub, "org/chat", 1)
    assert located.files == tuple(
        InputFile(path, len(data), _identity(data)) for path, data in sorted(NEW.items()) if path[0] != "."
    )
    assert hub.downloads() == []


def _identity(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}" if data is WEIGHTS else f"blob:{git_blob(data)}"


@pytest.mark.parametrize("by", ["uri", "argument", "commit", "pull request"])
def test_revisions(hub, tmp_path, by):
    commit = _commit(hub, "org/chat", 0)
    uri, revision = {
        "uri": ("hf://org/chat@v1", None),
        "argument": ("hf://org/chat", "v1"),
        "commit": ("hf://org/chat", commit),
        "pull request": ("hf://org/chat@refs%2Fpr%2F1", None),
    }[by]
    located = locate(uri, revision=revision)
    assert located.revision == commit
    assert [file.path for file in located.files] == sorted(OLD)
    assert (fetch(uri, tmp_path, revision=revision) / "config.json").read_bytes() == OLD["config.json"]


def test_fetching_what_was_located(hub, tmp_path):
    located = locate("hf://org/chat")
    hub.repositories["models", "org/chat"].commits.append({"config.json": b"moved on"})
    directory = fetch("hf://org/chat", tmp_path, revision=located.revision)
    assert (directory / "model.safetensors").read_bytes() == WEIGHTS
    assert (directory / "original" / "weights.pth").read_bytes() == b"other"


def test_a_damaged_copy_is_noticed(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user cache"))
    located = locate("hf://org/chat")
    directory = fetch("hf://org/chat", tmp_path, revision=located.revision)
    verify(directory, located.files)
    for name in ("config.json", "model.safetensors"):
        path = (directory / name).resolve()
        good = path.read_bytes()
        path.write_bytes(good[:-1] + b"?")
        with pytest.raises(InvalidDataError, match=f"{name} is not what it was"):
            verify(directory, located.files)
        path.write_bytes(good)
    assert hub.repositories["models", "org/chat"].commits[1]["config.json"] == (directory / "config.json").read_bytes()


def test_fetching_again_downloads_nothing(hub, tmp_path):
    located = locate("hf://org/chat")
    first = fetch("hf://org/chat", tmp_path, revision=located.revision)
    downloads = hub.downloads()
    assert any(path.startswith("/cdn/") for path in downloads)
    assert fetch("hf://org/chat", tmp_path, revision=located.revision) == first
    assert hub.downloads() == downloads


def test_a_pinned_and_downloaded_model_needs_no_hub(hub, tmp_path):
    revision = locate("hf://org/chat").revision
    first = fetch("hf://org/chat", tmp_path, revision=revision)
    hub.failure = 503
    assert fetch("hf://org/chat", tmp_path, revision=revision) == first


@pytest.mark.usefixtures("hub")
def test_only_what_matches_is_downloaded(tmp_path):
    directory = fetch("hf://org/chat", tmp_path, patterns=["*.json", "README.md"])
    assert sorted(path.name for path in directory.iterdir()) == ["README.md", "config.json", "tokenizer.json"]
    assert [file.path for file in locate("hf://org/chat", patterns=["*.safetensors"]).files] == ["model.safetensors"]


@pytest.mark.usefixtures("hub")
def test_a_dataset(tmp_path):
    kinds: tuple[tuple[str, Literal["model", "dataset"]], ...] = (
        ("hf://datasets/org/talks", "model"),
        ("hf://org/talks", "dataset"),
    )
    for uri, kind in kinds:
        located = locate(uri, kind=kind)
        assert [file.path for file in located.files] == sorted(DATA)
        assert (fetch(uri, tmp_path, kind=kind) / "extra" / "c d.jsonl").read_bytes() == b"1\n"


@pytest.mark.usefixtures("hub")
def test_a_directory_and_a_file_of_a_dataset(tmp_path):
    located = locate("hf://datasets/org/talks/data")
    assert [(file.path, file.identity) for file in located.files] == [
        ("a.jsonl", f"blob:{git_blob(DATA['data/a.jsonl'])}"),
        ("b.jsonl", f"blob:{git_blob(DATA['data/b.jsonl'])}"),
    ]
    directory = fetch("hf://datasets/org/talks/data", tmp_path)
    assert sorted(path.name for path in directory.iterdir()) == ["a.jsonl", "b.jsonl"]
    assert [file.path for file in locate("hf://datasets/org/talks@main/extra/c d.jsonl").files] == ["c d.jsonl"]
    assert fetch("hf://datasets/org/talks@main/extra/c d.jsonl", tmp_path).read_bytes() == b"1\n"
    for operation in (lambda uri: locate(uri), lambda uri: fetch(uri, tmp_path)):
        with pytest.raises(MissingInputError, match="org/talks@main/nope"):
            operation("hf://datasets/org/talks/nope")


def _both(tmp_path):
    return (lambda uri, **more: locate(uri, **more), lambda uri, **more: fetch(uri, tmp_path, **more))


@pytest.mark.parametrize("token", [None, "hf_somebody"])
def test_a_gated_model(hub, tmp_path, monkeypatch, token):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    for operation in _both(tmp_path):
        with pytest.raises(NoPermissionError, match="gated") as raised:
            operation("hf://org/gated")
        assert f"{hub.endpoint}/org/gated" in raised.value.hint
        assert "HF_TOKEN" in raised.value.hint
        assert raised.value.exit_code == 77


@pytest.mark.parametrize("repo", ["org/gated", "org/secret"])
def test_the_token_opens_what_is_closed(hub, tmp_path, monkeypatch, repo):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert locate(f"hf://{repo}").revision == _commit(hub, repo, 0)
    assert (fetch(f"hf://{repo}", tmp_path) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("token", [None, "hf_somebody"])
@pytest.mark.parametrize("repo", ["org/none", "org/secret", "org/talks"])
def test_what_does_not_exist_or_is_private(hub, tmp_path, monkeypatch, repo, token):
    """The hub gives the same answer for both; so the hint speaks of both."""
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    for operation in _both(tmp_path):
        with pytest.raises(MissingInputError, match=f"{repo}@main: no such model at {hub.endpoint}") as raised:
            operation(f"hf://{repo}")
        assert "private" in raised.value.hint


@pytest.mark.usefixtures("hub")
def test_a_revoked_token(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_revoked")
    for operation in _both(tmp_path):
        with pytest.raises(NoPermissionError, match="401") as raised:
            operation("hf://org/gated")
        assert "HF_TOKEN" in raised.value.hint


@pytest.mark.usefixtures("hub")
def test_an_unknown_revision(tmp_path):
    for operation in _both(tmp_path):
        with pytest.raises(MissingInputError, match="has no revision v9"):
            operation("hf://org/chat@v9")
        with pytest.raises(MissingInputError, match="has no revision 0000"):
            operation("hf://org/chat", revision="0" * 40)


def test_a_name_that_cannot_be(hub, tmp_path):
    for operation in _both(tmp_path):
        with pytest.raises(UsageError, match="org/a--b"):
            operation("hf://org/a--b")
    assert hub.requests == []


def test_a_failing_hub(hub, tmp_path):
    hub.failure = 503
    for operation in _both(tmp_path):
        with pytest.raises(TemporaryError, match="org/chat@main: the hub answered 503"):
            operation("hf://org/chat")


def test_nobody_listens(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for operation in _both(tmp_path):
        with pytest.raises(TemporaryError, match=r"cannot reach http://127\.0\.0\.1:9") as raised:
            operation("hf://org/chat")
        assert "HF_ENDPOINT" in raised.value.hint
    assert hub.requests == []


def test_offline_on_purpose(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for operation in _both(tmp_path):
        with pytest.raises(TemporaryError, match="cannot reach"):
            operation("hf://org/chat")
    assert hub.requests == []


def test_the_server_is_like_the_hub(hub):
    """The client's own view of the server, so that the tests above mean something."""
    api = HfApi(endpoint=hub.endpoint)
    assert api.model_info("org/chat").sha == _commit(hub, "org/chat", 1)
    assert api.list_repo_files("org/chat", revision="v1") == sorted(OLD)
    assert len(list(api.list_repo_tree("org/chat", recursive=True))) == len(NEW) + 1
    assert len([path for _, path in hub.requests if "cursor" in path]) == 2


@pytest.fixture
def bucket(s3, s3_bucket):
    storage = open_storage(f"{s3_bucket}/data", s3.settings)
    for path, data in (DATA | {".hidden": b""}).items():
        storage.write(path, data)
    return storage


def test_a_directory_on_s3(bucket, tmp_path):
    located = locate(bucket.uri + "/", s3=bucket.settings)
    assert located.files == tuple(
        InputFile(path, len(data), f"etag:{hashlib.md5(data).hexdigest()}") for path, data in sorted(DATA.items())
    )
    directory = fetch(bucket.uri, tmp_path / "cache", s3=bucket.settings)
    assert {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()} == DATA
    part = fetch(bucket.uri, tmp_path / "cache", patterns=["data/*"], s3=bucket.settings)
    assert sorted(path.name for path in part.rglob("*.*")) == ["a.jsonl", "b.jsonl"]


def test_one_object_of_s3(bucket, tmp_path):
    uri = f"{bucket.uri}/data/a.jsonl"
    assert [file.path for file in locate(uri, s3=bucket.settings).files] == ["a.jsonl"]
    assert fetch(uri, tmp_path, s3=bucket.settings).read_bytes() == DATA["data/a.jsonl"]


def test_what_changed_on_s3_is_fetched_again(bucket, tmp_path):
    uri = f"{bucket.uri}/data/a.jsonl"
    first = fetch(uri, tmp_path, s3=bucket.settings)
    before = first.stat().st_mtime_ns
    assert fetch(uri, tmp_path, s3=bucket.settings) == first
    assert first.stat().st_mtime_ns == before
    old = locate(uri, s3=bucket.settings)
    bucket.write("data/a.jsonl", b"{}!")
    assert locate(uri, s3=bucket.settings) != old
    assert fetch(uri, tmp_path, s3=bucket.settings).read_bytes() == b"{}!"


@pytest.mark.parametrize("path", ["nope", "dat", "data/a.json"])
def test_nothing_on_s3(bucket, tmp_path, path):
    base = bucket.uri.rpartition("/")[0]
    for operation in _both(tmp_path):
        with pytest.raises(MissingInputError, match=f"{path} has no files"):
            operation(f"{base}/{path}", s3=bucket.settings)


def test_the_endpoint_from_the_environment(bucket, monkeypatch):
    """What other programs read too: no setting of ours is needed."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.settings.endpoint)
    assert [file.path for file in locate(bucket.uri).files] == sorted(DATA)
