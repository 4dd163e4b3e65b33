"""Models as commands name them: a directory, a URI, a job file for its result; NAME=MODEL gives it a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fusechat.errors import MissingInputError, UsageError
from fusechat.spec.uris import absolute_uri

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][-\w.]*)=(?P<model>.+)", re.DOTALL)
_STAGE = re.compile(r"/stages/(?P<kind>[^/]+)/(?P<digest>[0-9a-f]{64})(/|$)")


def named_models(given: Sequence[str]) -> dict[str, str]:
    """Name -> model, in the order given. UsageError if two have one name."""
    models: dict[str, str] = {}
    for item in given:
        match = _NAMED.fullmatch(item)
        name, model = (match["name"], match["model"]) if match else (model_name(item), item)
        if name in models:
            raise UsageError(f"Two models are called {name}.", hint="Give them names: one=MODEL two=MODEL")
        models[name] = model
    return models


def model_name(model: str) -> str:
    """Kind and first digits of the digest for a stage's output, the name of a job, else the last part of the path."""
    stage = _STAGE.search(model)
    if stage:
        return f"{stage['kind']}-{stage['digest'][:12]}"
    last = model.rstrip("/").rpartition("/")[2]
    return Path(last if last not in ("", ".", "..") else str(Path(model).resolve())).name.removesuffix(".yaml")


def model_directory(model: str) -> Path:
    """A local directory with the model, fetched if need be. MissingInputError if it is not there (yet)."""
    from fusechat.storage.cache import cache_directory
    from fusechat.storage.inputs import fetch

    if model.endswith((".yaml", ".yml")):
        return _result_of(Path(model))
    return fetch(absolute_uri(model, Path.cwd()), cache_directory())


def _result_of(file: Path) -> Path:
    from fusechat.cli.planning import plan_job
    from fusechat.storage.cache import cache_directory
    from fusechat.worker.context import stage_directory
    from fusechat.worker.layout import MODEL

    planned = plan_job(file, offline=True)
    stage = planned.plan.stage(planned.plan.result)
    if stage.digest is None or not stage_directory(planned.storage, stage).is_complete():
        raise MissingInputError(
            f"The job {planned.plan.job} has not made its result ({stage.name}) yet. {planned.lock_damaged}".rstrip(),
            hint=f"fusechat run {file}",
        )
    return stage_directory(planned.storage, stage).reader(cache_directory()).fetch_tree(MODEL)


def quiet_loading() -> None:
    """For commands that load models: transformers shows a bar for every one, and warns of what no user chose."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
