"""`resolve`: from a job to its pins. Finds out what can move (hub revisions, file checksums) and checks access, configs
and chat templates before anything is paid for. Runs every time, has no digest; the pins are kept as a lock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.dataset_files import DataChoice, Purpose, choose_files
from fusechat.errors import ConfigurationError, InvalidDataError, MissingInputError
from fusechat.pins import DatasetPin, ModelPin, PinnedFile, Pins
from fusechat.spec.data import DataSource
from fusechat.spec.job import FuseJob, FuseJobSpec
from fusechat.spec.models import ExistingTarget, ModelSpec, NamedModel
from fusechat.storage.inputs import InputKind, Located, fetch, locate
from fusechat.storage.local import local_directory

WEIGHTS = (".safetensors", ".gguf", ".bin")
_MODEL_SUFFIXES = (*WEIGHTS, ".json", ".jinja", ".model", ".tiktoken", ".txt", ".py")
"""What inference or training may read; cards, pictures and other frameworks' weights are not pinned."""
_NOT_A_MODEL = ("training_args.bin", "optimizer.bin", "scheduler.bin", "trainer_state.json")
_REPOSITORY = re.compile(r"[A-Za-z0-9][-\w.]*/[A-Za-z0-9][-\w.]*")
_CARDS = ("README.md", "config.json", "chat_template.jinja", "tokenizer_config.json")


@dataclass(frozen=True)
class _Resolver:
    """Resolves one job."""

    job: FuseJob
    cache: Path

    def model(self, named: NamedModel | ExistingTarget) -> ModelPin:
        """Pins one model. ConfigurationError if what is there is no chat model."""
        model = named.model
        located = _locate(model, "model")
        files = tuple(sorted(_model_files(located), key=lambda file: file.path))
        directory = fetch(model.uri, self.cache, revision=located.revision, patterns=_CARDS)
        config = _json(directory / "config.json")
        self._check(named, files, config, directory)
        return ModelPin(model.uri, files, located.revision, config, _licence(directory / "README.md"))

    def dataset(self, source: DataSource, purpose: Purpose) -> DatasetPin:
        """Pins the files of a dataset that are read for this purpose."""
        located = _locate(source, "dataset")
        choice = DataChoice(purpose, source.split, source.files)
        chosen = choose_files(source.uri, [file.path for file in located.files], choice)
        by_path = {file.path: PinnedFile(file.path, file.size, file.identity) for file in located.files}
        files = tuple(by_path[path] for path in chosen.read)
        return DatasetPin(source.uri, files, located.revision, str(choice), chosen.not_read)

    def _check(
        self, named: NamedModel | ExistingTarget, files: tuple[PinnedFile, ...], config: Mapping[str, Any], at: Path
    ) -> None:
        where = f"{named.name} ({named.model.uri})"
        if not any(file.path.endswith(WEIGHTS) for file in files):
            raise ConfigurationError(f"Model {where} has no weights.", hint="Name a directory with safetensors files.")
        if config.get("is_encoder_decoder"):
            raise ConfigurationError(f"Model {where} is an encoder-decoder.", hint="Only causal models can be fused.")
        _check_length(where, named.model.max_length, config)
        has_template = named.model.chat_template or _ships_template(at)
        is_gguf = any(file.path.endswith(".gguf") for file in files)
        pivots = self.job.spec.alignment.template == "Pivot" and named.name != self.job.spec.pivot.name
        if not (has_template or is_gguf or pivots or self.job.spec.dataset.format == "Text"):
            raise ConfigurationError(
                f"Model {where} ships no chat template.",
                hint="Set its model.chatTemplate, or spec.alignment.template: Pivot to read everything in the pivot's.",
            )


def resolve(job: FuseJob, cache: Path) -> Pins:
    """The pins of a job whose URIs are absolute. Raises the storage errors of whatever cannot be reached."""
    resolver = _Resolver(job, cache)
    spec = job.spec
    return Pins(
        models={named.name: resolver.model(named) for named in _models(spec)},
        dataset=resolver.dataset(spec.dataset, "training"),
        held_out=resolver.dataset(spec.evaluation.held_out, "held-out") if spec.evaluation.held_out else None,
    )


def resolve_offline(job: FuseJob, lock: Pins | None) -> Pins:
    """What is known without the network: local files, and whatever of `lock` is still of the same URI."""
    resolver = _Resolver(job, Path())
    spec = job.spec
    models = {}
    for named in _models(spec):
        locked = lock.models.get(named.name) if lock else None
        if is_local(named.model):
            models[named.name] = resolver.model(named)
        elif locked and _stands_for(locked, named.model):
            models[named.name] = locked
    held_out = spec.evaluation.held_out
    return Pins(
        models,
        _offline_dataset(resolver, spec.dataset, "training", lock.dataset if lock else None),
        _offline_dataset(resolver, held_out, "held-out", lock.held_out if lock else None) if held_out else None,
    )


def is_local(source: ModelSpec | DataSource) -> bool:
    """Whether no network is needed to read it."""
    return source.uri.startswith("file://")


def _locate(source: ModelSpec | DataSource, kind: InputKind) -> Located:
    try:
        return locate(source.uri, revision=source.revision, kind=kind)
    except MissingInputError as error:
        repository = _looks_like_hub(source.uri)
        if repository is None:
            raise
        prefix = "hf://datasets/" if kind == "dataset" else "hf://"
        hint = f"If the Hugging Face Hub's {kind} is meant, write {prefix}{repository}."
        raise MissingInputError(error.message, hint=" ".join(filter(None, (error.hint, hint)))) from error


def _looks_like_hub(uri: str) -> str | None:
    """`organisation/name` where that was written as if it were a path: not even a directory `organisation` is there."""
    if not uri.startswith("file://"):
        return None
    path = local_directory(uri)
    found = not path.parent.exists() and path.parent.parent.is_dir()
    repository = "/".join(path.parts[-2:])
    return repository if found and _REPOSITORY.fullmatch(repository) else None


def _check_length(where: str, max_length: int, config: Mapping[str, Any]) -> None:
    """The same end of positions as extraction.forward.context_size sees, before anything is loaded."""
    text = config.get("text_config")
    inner = text if isinstance(text, Mapping) else config
    positions = inner.get("max_position_embeddings") or inner.get("n_positions")
    if isinstance(positions, int) and max_length > positions:
        raise ConfigurationError(
            f"Model {where} is to read sequences of {max_length} tokens (maxLength), and its positions end at "
            f"{positions} (max_position_embeddings).",
            hint=f"Set its model.maxLength to {positions} or less; longer conversations are cut there.",
        )


def _offline_dataset(
    resolver: _Resolver, source: DataSource, purpose: Purpose, locked: DatasetPin | None
) -> DatasetPin | None:
    if is_local(source):
        return resolver.dataset(source, purpose)
    choice = DataChoice(purpose, source.split, source.files)
    return locked if locked and locked.choice == str(choice) and _stands_for(locked, source) else None


def _stands_for(locked: ModelPin | DatasetPin, source: ModelSpec | DataSource) -> bool:
    return locked.uri == source.uri and source.revision in (None, locked.revision)


def _models(spec: FuseJobSpec) -> list[NamedModel | ExistingTarget]:
    return [spec.pivot, *spec.sources, *spec.merge.existing_targets]


def _model_files(located: Located) -> list[PinnedFile]:
    files = [
        PinnedFile(file.path, file.size, file.identity)
        for file in located.files
        if "/" not in file.path and file.path.endswith(_MODEL_SUFFIXES) and file.path not in _NOT_A_MODEL
    ]
    safetensors = any(file.path.endswith(".safetensors") for file in files)
    return [file for file in files if not (safetensors and file.path.endswith(".bin"))]


def _json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InvalidDataError(f"{path} is no JSON: {error}", hint="Download the model anew.") from error
    return value if isinstance(value, dict) else {}


def _ships_template(directory: Path) -> bool:
    return (directory / "chat_template.jinja").exists() or bool(
        _json(directory / "tokenizer_config.json").get("chat_template")
    )


def _licence(card: Path) -> str | None:
    """`license` of the card's YAML head."""
    try:
        text = card.read_text(errors="replace")
    except OSError:
        return None
    if not text.startswith("---"):
        return None
    import yaml

    try:
        head = yaml.safe_load(text.split("---", 2)[1])
    except (yaml.YAMLError, IndexError):
        return None
    licence = head.get("license") if isinstance(head, dict) else None
    return str(licence) if licence else None
