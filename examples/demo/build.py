"""Builds the demo's data and models: `python -m examples.demo.build --output DIR`.

    DIR/data/{train,fusion,heldout}.jsonl
    DIR/models/{pivot,a,b}/                  Hugging Face model directories
    DIR/fusejob.yaml                         the job, beside what it names

Each part is made in a folder of its own and renamed when complete; its `made.json` holds the digest of what it was made
from, and a part whose digest is the same is not made again. The models are trained side by side, one process each.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from examples.demo.data import SPLITS, DataSettings, make_splits, origins, read_split, write_splits

JOB = Path(__file__).with_name("fusejob.yaml")
_SOURCES = ("data.py", "models.py", "chat_formats.py")
_LIBRARIES = ("torch", "transformers", "tokenizers")
_MADE = "made.json"
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Part:
    """One folder that is made as a whole."""

    directory: Path
    digest: str

    @property
    def done(self) -> bool:
        """The folder is complete and was made from the same inputs."""
        try:
            return bool(json.loads((self.directory / _MADE).read_text(encoding="utf-8"))["digest"] == self.digest)
        except (FileNotFoundError, ValueError, KeyError):
            return False

    def make(self, write: Callable[[Path], None]) -> None:
        """Writes into a folder beside it, then puts that in place."""
        staging = self.directory.with_name(f".{self.directory.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        staging.parent.mkdir(parents=True, exist_ok=True)
        write(staging)
        (staging / _MADE).write_text(json.dumps({"digest": self.digest}) + "\n", encoding="utf-8")
        shutil.rmtree(self.directory, ignore_errors=True)
        staging.rename(self.directory)


def data_part(output: Path, settings: DataSettings) -> Part:
    """The three splits."""
    return Part(output / "data", _digest("data", asdict(settings), origins(), _text("data.py")))


def model_part(output: Path, name: str, settings: DataSettings) -> Part:
    """One model; its recipe is in the text of models.py."""
    libraries = {library: importlib.metadata.version(library) for library in _LIBRARIES}
    texts = [_text(source) for source in _SOURCES]
    return Part(output / "models" / name, _digest("model", name, asdict(settings), origins(), libraries, texts))


def _text(source: str) -> str:
    return Path(__file__).with_name(source).read_text(encoding="utf-8")


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def build(output: Path, settings: DataSettings, *, parallel: int) -> None:
    """Makes whatever is missing."""
    output.mkdir(parents=True, exist_ok=True)
    data = data_part(output, settings)
    if data.done:
        print(f"{data.directory}: as it was", flush=True)
    else:
        begin = time.monotonic()
        data.make(lambda folder: _write_data(settings, folder))
        print(f"{data.directory}: made in {time.monotonic() - begin:.0f} s", flush=True)
    _train_missing(output, settings, parallel)
    shutil.copyfile(JOB, output / JOB.name)


def _write_data(settings: DataSettings, folder: Path) -> None:
    splits = make_splits(settings)
    write_splits(splits, folder)
    counts = {split: len(splits[split]) for split in SPLITS}
    print("rows: " + ", ".join(f"{split} {count:,}" for split, count in counts.items()), flush=True)


def _train_missing(output: Path, settings: DataSettings, parallel: int) -> None:
    """A process a model, the longest first, at most `parallel` at once."""
    from examples.demo.models import RECIPES

    names = sorted(RECIPES, key=lambda name: -RECIPES[name].cost)
    waiting = []
    for name in names:
        if model_part(output, name, settings).done:
            print(f"{output / 'models' / name}: as it was", flush=True)
        else:
            waiting.append(name)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                name = waiting.pop(0)
                running[name] = _start(output, name, settings)
            running = dict(_still_running(running))
            time.sleep(0.1)
    finally:
        for process in running.values():
            process.terminate()
            process.wait()


def _start(output: Path, name: str, settings: DataSettings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "examples.demo.build", "--output", str(output), "--model", name]
    command += ["--settings", json.dumps(asdict(settings))]
    # one thread: the sums, and so the weights, are the same whatever else runs; nothing is fetched
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "DS_ACCELERATOR": "cpu",
    }
    return subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2])


def _still_running(running: dict[str, subprocess.Popen[bytes]]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    for name, process in running.items():
        code = process.poll()
        if code is None:
            yield name, process
        elif code != 0:
            raise SystemExit(f"Training of model {name} ended with exit code {code}.")


def train_one(output: Path, name: str, settings: DataSettings) -> None:
    """Trains one model in this process, with lines of progress."""
    import torch

    from examples.demo.models import RECIPES, train_model

    torch.set_num_threads(1)
    rows = read_split(data_part(output, settings).directory / "train.jsonl")
    steps, begin = RECIPES[name].steps, time.monotonic()

    def write(folder: Path) -> None:
        told = begin
        for step, loss in train_model(name, rows, folder):
            now = time.monotonic()
            if now - told > _PROGRESS_SECONDS or step == steps:
                left = (now - begin) / step * (steps - step)
                print(f"model {name}: step {step}/{steps}, loss {loss:.2f}, {left:.0f} s left", flush=True)
                told = now

    part = model_part(output, name, settings)
    part.make(write)
    print(f"{part.directory}: trained in {time.monotonic() - begin:.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.build", description="Build the demo.")
    parser.add_argument("--output", type=Path, required=True, help="directory for data, models and job")
    parser.add_argument("--parallel", type=int, default=2, help="models trained at once (default 2)")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = DataSettings(**json.loads(options.settings)) if options.settings else DataSettings()
    output = options.output.resolve()
    if options.model:
        train_one(output, options.model, settings)
    else:
        build(output, settings, parallel=options.parallel)


if __name__ == "__main__":
    main()
