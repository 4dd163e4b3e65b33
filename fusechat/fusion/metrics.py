"""What training writes down: one JSON object a line, and the same as TensorBoard scalars.

The file is part of every checkpoint, so a resumed run has each step exactly once. TensorBoard's files are made anew
from it at every start.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIRECTORY = "tensorboard"

Record = dict[str, Any]
"""After each optimiser step `{"step", "epoch", "loss", "clm", "fusion", "lr", "grad_norm", "tokens", "seconds"}`: nats
a loss-carrying token, `tokens` those of the global batch; after each epoch `{"step", "epoch", "held_out",
"held_out_tokens"}`."""

_SCALARS = {
    "loss": "train/loss",
    "clm": "train/clm",
    "fusion": "train/fusion",
    "lr": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "tokens": "train/tokens",
    "held_out": "held_out/nats_per_token",
}


def seconds_before(file: Path, step: int | None) -> float:
    """Seconds of all optimiser steps up to `step`, as the attempts that made them measured; 0 for None."""
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return float(sum(each["seconds"] for each in records if "seconds" in each and each["step"] <= (step or 0)))


class MetricsLog:
    """The records of one run, in `directory`; only rank 0 has one."""

    def __init__(self, directory: Path, resumed_from: Path | None) -> None:
        """`resumed_from` is the file of the checkpoint; None starts an empty one."""
        from torch.utils.tensorboard import SummaryWriter

        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / METRICS_FILE
        self.path.write_bytes(b"" if resumed_from is None else resumed_from.read_bytes())
        shutil.rmtree(directory / TENSORBOARD_DIRECTORY, ignore_errors=True)
        self._board = SummaryWriter(str(directory / TENSORBOARD_DIRECTORY))
        for record in self.records():
            self._draw(record)

    def records(self) -> list[Record]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def write(self, record: Record) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self._draw(record)

    def close(self) -> None:
        self._board.close()

    def _draw(self, record: Record) -> None:
        for name, tag in _SCALARS.items():
            if name in record:
                self._board.add_scalar(tag, record[name], record["step"])
