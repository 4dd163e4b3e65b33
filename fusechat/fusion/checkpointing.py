"""Checkpoints of a training run: what a store of them offers, and what each rank puts in.

Every rank writes its own directory and hands it to the store; the checkpoint counts once the store's manifest says
that all of them arrived. A restart takes the newest one that counts.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from fusechat.errors import ConfigurationError

KEPT = 2
"""Complete checkpoints that stay: a damaged newest one leaves one to fall back to."""

RUN_FILE = "run.json"


class CheckpointStore(Protocol):
    """Checkpoints of one run at one world size, as `fusechat.storage.checkpoints` keeps them; in optimiser steps."""

    @property
    def uri(self) -> str:
        """Where the run's checkpoints are, at all world sizes."""

    def save(self, step: int, rank: int, directory: Path) -> None:
        """Store every file below `directory` as this rank's part of the checkpoint."""

    def commit(self, step: int) -> None:
        """Make the checkpoint count; called by rank 0 after all ranks have saved."""

    def newest(self) -> int | None:
        """The last step whose checkpoint counts, or None."""

    def restore(self, step: int, directory: Path) -> None:
        """Put the files of all ranks together below `directory`; verified, or DamagedInputError."""

    def restore_newest(self, directory: Path) -> int | None:
        """Restore the newest checkpoint that is whole and give its step, or None."""

    def other_world_sizes(self) -> list[int]:
        """World sizes, other than this one, at which the run has checkpoints that count."""

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` checkpoints that count, and what never came to count before them."""


def refuse_other_world_sizes(store: CheckpointStore, world_size: int) -> None:
    """ConfigurationError if the run was begun with another number of processes."""
    others = store.other_world_sizes()
    if others:
        raise ConfigurationError(
            f"The checkpoints of this training were made by {' and '.join(map(str, others))} processes, now there are "
            f"{world_size}: each holds its own part of the optimiser.",
            hint=f"Train with {others[-1]} processes again (nodes x processesPerNode), or remove {store.uri} to begin "
            "anew.",
        )


@dataclass(frozen=True)
class RunIdentity:
    """What a checkpoint can be continued with."""

    world_size: int
    zero_stage: int
    """-1 without DeepSpeed."""
    global_batch: int
    rows: int
    steps: int

    def write(self, directory: Path) -> None:
        (directory / RUN_FILE).write_text(json.dumps(asdict(self)))

    def check(self, directory: Path, uri: str) -> None:
        """ConfigurationError if the checkpoint restored to `directory` belongs to another kind of run. `uri`: where it
        and the run's others are."""
        saved = json.loads((directory / RUN_FILE).read_text())
        differences = [
            f"{name} {saved.get(name)}, now {value}" for name, value in asdict(self).items() if saved.get(name) != value
        ]
        if differences:
            raise ConfigurationError(
                f"The checkpoint was made with {'; '.join(differences)}. Optimiser states are not moved between them.",
                hint=f"Train with the settings of the checkpoint, or remove {uri} to begin anew.",
            )


def fresh_directory(directory: Path) -> Path:
    """`directory`, empty."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
