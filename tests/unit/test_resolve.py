"""From a job to its pins: what is pinned, what changes a pin, what is refused before anything is paid for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from fusechat.errors import ConfigurationError, InvalidDataError, MissingInputError, NoPermissionError
from fusechat.pins import Pins
from fusechat.resolve import resolve, resolve_offline
from fusechat.spec.job import FuseJob
from fusechat.spec.uris import resolve_uris
from tests.hub_server import TOKEN, HubServer, Repository, running_hub

CONFIG = {"model_type": "llama", "max_position_embeddings": 4096}
TOKENIZER = {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
CARD = "---\nlicense: apache-2.0\nlanguage: [en]\n---\n# A model\n"


def model_files(**changed: bytes | None) -> dict[str, bytes]:
    """What a hub repository of a chat model holds; None takes a file away."""
    files: dict[str, bytes | None] = {
        "README.md": CARD.encode(),
        "config.json": json.dumps(CONFIG).encode(),
        "generation_config.json": b"{}",
        "model.safetensors": b"weights",
        "tokenizer.json": b'{"model": {}}',
        "tokenizer_config.json": json.dumps(TOKENIZER).encode(),
        **changed,
    }
    return {name: content for name, content in files.items() if content is not None}


def write(directory: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def changed_config(**values: Any) -> dict[str, bytes]:
    return {"config.json": json.dumps(CONFIG | values).encode()}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory with two models and a dataset."""
    write(tmp_path / "pivot", model_files())
    write(tmp_path / "source", model_files())
    (tmp_path / "rows.jsonl").write_text('{"conversations": []}\n')
    return tmp_path


def job(base: Path, **spec: Any) -> FuseJob:
    """Over `base`; keys of `spec` replace whole parts of it."""
    parts: dict[str, Any] = {
        "pivot": {"name": "pivot", "model": {"uri": "pivot"}},
        "sources": [{"name": "source", "model": {"uri": "source"}}],
        "dataset": {"uri": "rows.jsonl"},
    }
    document = {"apiVersion": "fusechat.dev/v1alpha1", "kind": "FuseJob", "metadata": {"name": "job"}}
    return resolve_uris(FuseJob.model_validate(document | {"spec": parts | spec}), base)


def source(uri: str, **model: Any) -> list[dict[str, Any]]:
    return [{"name": "source", "model": {"uri": uri} | model}]


def pins(base: Path, **spec: Any) -> Pins:
    return resolve(job(base, **spec), base / "cache")


def names(base: Path) -> list[str]:
    return [file.path for file in pins(base).models["source"].files]


def test_the_files_that_inference_and_training_read_are_pinned(base: Path) -> None:
    more = {"model.bin": b"the same, older", "training_args.bin": b"x", "flax_model.msgpack": b"x", "plot.png": b"x"}
    write(base / "source", more | {"original/consolidated.safetensors": b"x", "modeling.py": b"", "vocab.txt": b""})
    expected = ["config.json", "generation_config.json", "model.safetensors", "modeling.py", "tokenizer.json"]
    assert names(base) == [*expected, "tokenizer_config.json", "vocab.txt"]


def test_weights_of_older_models_are_pinned_where_there_are_no_others(base: Path) -> None:
    write(base / "source", {"pytorch_model.bin": b"weights", "optimizer.bin": b"x"})
    (base / "source" / "model.safetensors").unlink()
    assert [name for name in names(base) if name.endswith(".bin")] == ["pytorch_model.bin"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_changed_file_changes_the_models_identity_and_no_other(base: Path, name: str) -> None:
    before = pins(base)
    content = (base / "source" / name).read_bytes()
    # of the same length: a size would not show it
    (base / "source" / name).write_bytes(content.replace(b"e", b"E") if name == "model.safetensors" else b" " + content)
    after = pins(base)
    assert after.models["source"].identity != before.models["source"].identity
    assert after.models["pivot"] == before.models["pivot"]
    assert after.dataset == before.dataset


def test_the_card_and_the_place_are_not_in_the_identity(base: Path) -> None:
    before = pins(base).models
    assert before["pivot"].identity == before["source"].identity
    (base / "source" / "README.md").write_text("---\nlicense: mit\n---\nMore words.\n")
    after = pins(base).models["source"]
    assert after.identity == before["source"].identity
    assert (before["source"].licence, after.licence) == ("apache-2.0", "mit")


def test_a_changed_row_changes_the_datasets_identity(base: Path) -> None:
    before = pins(base)
    (base / "rows.jsonl").write_text('{"conversations": [1]}\n')
    after = pins(base)
    assert before.dataset is not None
    assert after.dataset is not None
    assert after.dataset.identity != before.dataset.identity
    assert after.models == before.models


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (CARD, "apache-2.0"),
        ("---\nlicense: other\nlicense_name: research\n---\n", "other"),
        ("---\ntags: [chat]\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        ("---\nlicense: [unclosed\n---\n", None),
        ("---\n- a list\n---\n", None),
        ("---\nlicense: mit", "mit"),
        ("", None),
        (None, None),
    ],
)
def test_the_licence_is_read_from_the_cards_head(base: Path, card: str | None, licence: str | None) -> None:
    (base / "source" / "README.md").unlink()
    if card is not None:
        (base / "source" / "README.md").write_text(card)
    assert pins(base).models["source"].licence == licence


def test_the_config_is_pinned_whatever_the_architecture(base: Path) -> None:
    """Whether this transformers knows the architecture is found out by who loads it."""
    write(base / "source", changed_config(model_type="from_the_future"))
    assert pins(base).models["source"].config["model_type"] == "from_the_future"


@pytest.mark.parametrize(
    "values",
    [
        {"max_position_embeddings": 1024},
        {"max_position_embeddings": None, "n_positions": 1024},
        {"max_position_embeddings": 9999, "text_config": {"max_position_embeddings": 1024}},
    ],
)
def test_sequences_longer_than_the_models_positions_are_refused(base: Path, values: dict[str, Any]) -> None:
    write(base / "source", changed_config(**values))
    with pytest.raises(ConfigurationError) as refused:
        pins(base, sources=source("source", maxLength=1025))
    assert "source (file://" in refused.value.message
    assert "1025 tokens (maxLength)" in refused.value.message
    assert "end at 1024 (max_position_embeddings)" in refused.value.message
    assert "model.maxLength to 1024" in refused.value.hint
    assert pins(base, sources=source("source", maxLength=1024)).models["source"].config == CONFIG | values


def test_positions_without_an_end_refuse_nothing(base: Path) -> None:
    write(base / "source", changed_config(max_position_embeddings=None))
    assert "source" in pins(base, sources=source("source", maxLength=1_000_000)).models


def test_the_default_length_is_checked_too(base: Path) -> None:
    write(base / "pivot", changed_config(max_position_embeddings=512))
    with pytest.raises(ConfigurationError, match=r"pivot .* 2048 tokens"):
        pins(base)


def test_a_model_without_weights_config_or_template_is_named(base: Path) -> None:
    (base / "source" / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match=r"source \(file://.* has no weights"):
        pins(base)
    write(base / "source", model_files() | {"tokenizer_config.json": b"{}"})
    with pytest.raises(ConfigurationError, match=r"source .* no chat template") as refused:
        pins(base)
    assert "alignment.template: Pivot" in refused.value.hint
    assert pins(base, alignment={"template": "Pivot"}).models["source"].licence == "apache-2.0"
    write(base / "source", {"config.json": b"{"})
    with pytest.raises(InvalidDataError, match=r"config\.json is no JSON"):
        pins(base)


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_hub_name_written_as_a_path_is_recognised(base: Path, kind: str) -> None:
    spec: dict[str, Any] = {"sources": source("openchat/openchat_3.5")}
    if kind == "dataset":
        spec = {"dataset": {"uri": "FuseAI/FuseChat-Mixture"}}
    with pytest.raises(MissingInputError) as refused:
        pins(base, **spec)
    suggested = {"model": "hf://openchat/openchat_3.5", "dataset": "hf://datasets/FuseAI/FuseChat-Mixture"}
    assert suggested[kind] in refused.value.hint
    assert refused.value.exit_code == 66


@pytest.mark.parametrize("uri", ["pivott", "models of mine/chat", "pivot/other", "a/b/c"])
def test_other_missing_paths_are_not_taken_for_hub_names(base: Path, uri: str) -> None:
    with pytest.raises(MissingInputError) as refused:
        pins(base, sources=source(uri))
    assert "hf://" not in str(refused.value)
    assert Path(uri).name in refused.value.message


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub with an open model of two commits, a gated one, and a dataset; nobody is logged in."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    # the client reads these once, at its import
    for name in ("HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH"):
        monkeypatch.setattr(huggingface_hub.constants, name, str(tmp_path / name))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        old = model_files() | {"model.safetensors": b"older"}
        server.add(Repository("org/chat", [old, model_files()], tags={"v1": 0}))
        server.add(Repository("org/gated", [model_files()], gated=True))
        files = {f"data/{name}-00000-of-00001.jsonl": b"{}\n" for name in ("train", "test", "validation")}
        server.add(Repository("org/splits", [files | {"README.md": b""}], kind="datasets"))
        server.add(Repository("org/rows", [{"rows.jsonl": b"{}\n", "README.md": b""}], kind="datasets"))
        yield server


HUB: dict[str, Any] = {"sources": source("hf://org/chat"), "dataset": {"uri": "hf://datasets/org/rows"}}


def test_a_revision_of_the_hub_is_pinned_to_its_commit(hub: HubServer, base: Path) -> None:
    newest = pins(base, **HUB).models["source"]
    tagged = pins(base, sources=source("hf://org/chat", revision="v1")).models["source"]
    commits = [hub.repositories["models", "org/chat"].commit(index) for index in (0, 1)]
    assert [tagged.revision, newest.revision] == commits
    assert tagged.identity != newest.identity
    assert (newest.licence, newest.config) == ("apache-2.0", CONFIG)
    assert not any("safetensors" in path for path in hub.downloads()), "weights were fetched"


def test_a_gated_model_is_refused_before_anything_runs(
    hub: HubServer, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoPermissionError, match=r"hf://org/gated.* is gated") as refused:
        pins(base, sources=source("hf://org/gated"))
    assert f"{hub.endpoint}/org/gated" in refused.value.hint
    assert refused.value.exit_code == 77
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pins(base, sources=source("hf://org/gated")).models["source"].revision


def test_offline_only_local_files_are_known(hub: HubServer, base: Path) -> None:
    known = resolve_offline(job(base, **HUB), None)
    assert known.models == {"pivot": pins(base).models["pivot"]}
    assert known.dataset is None
    assert hub.requests == []


def test_offline_the_lock_stands_for_what_is_remote(hub: HubServer, base: Path) -> None:
    lock = Pins.from_json(pins(base, **HUB).to_json())
    hub.requests.clear()
    assert resolve_offline(job(base, **HUB), lock) == lock
    # local files are looked at all the same
    write(base / "pivot", {"model.safetensors": b"other weights"})
    known = resolve_offline(job(base, **HUB), lock)
    assert known.models["pivot"].identity != lock.models["pivot"].identity
    assert known.models["source"] == lock.models["source"]
    assert hub.requests == []


def test_a_lock_of_another_revision_or_place_stands_for_nothing(hub: HubServer, base: Path) -> None:
    lock = pins(base, **HUB)
    (old, new) = (hub.repositories["models", "org/chat"].commit(index) for index in (0, 1))
    for model, stands in (
        (source("hf://org/chat", revision=new), True),
        (source("hf://org/chat", revision=old), False),
        (source("hf://org/gated"), False),
    ):
        known = resolve_offline(job(base, sources=model, dataset={"uri": "hf://datasets/org/other"}), lock)
        assert ("source" in known.models) is stands, model
        assert known.dataset is None


@pytest.mark.usefixtures("hub")
def test_a_lock_of_another_revision_of_the_dataset_stands_for_nothing(base: Path) -> None:
    lock = pins(base, **HUB)
    assert lock.dataset is not None
    for revision, stands in ((None, True), (lock.dataset.revision, True), ("v0", False)):
        dataset = {"uri": "hf://datasets/org/rows", "revision": revision}
        known = resolve_offline(job(base, **HUB | {"dataset": dataset}), lock)
        assert (known.dataset == lock.dataset) is stands, revision


SPLITS: dict[str, Any] = {"uri": "hf://datasets/org/splits"}


@pytest.mark.usefixtures("hub")
def test_of_a_folder_with_splits_each_purpose_pins_its_own(base: Path) -> None:
    both = pins(base, dataset=SPLITS, evaluation={"heldOut": SPLITS})
    assert both.dataset is not None
    assert both.held_out is not None
    assert [file.path for file in both.dataset.files] == ["data/train-00000-of-00001.jsonl"]
    assert [file.path for file in both.held_out.files] == ["data/test-00000-of-00001.jsonl"]
    assert both.dataset.not_read == tuple(f"data/{n}-00000-of-00001.jsonl" for n in ("test", "validation"))
    assert Pins.from_json(both.to_json()) == both


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(("other", "stands"), [({}, True), ({"split": "all"}, False), ({"files": "*train*"}, False)])
def test_a_lock_of_another_choice_of_files_stands_for_nothing(base: Path, other: dict[str, Any], stands: bool) -> None:
    lock = pins(base, dataset=SPLITS)
    known = resolve_offline(job(base, dataset=SPLITS | other), lock)
    assert (known.dataset == lock.dataset) is stands


def test_a_local_folder_without_training_files_is_refused_with_what_it_holds(base: Path) -> None:
    write(base / "d", {"test.jsonl": b"{}\n"})
    with pytest.raises(InvalidDataError, match=r"test\.jsonl") as caught:
        pins(base, dataset={"uri": "d"})
    assert "split" in caught.value.hint
