"""Which answers a dataset masks: turns that are context and carry no loss.

    weight: 0 or 1            OpenAI's fine-tuning format, and others' after it
    train, training: false    axolotl; `train_detail` (spans of characters) beside it
    loss: false               LLaMA-Factory's and ms-swift's data

An answer trains unless one of them says no; `train: true` on one answer says nothing of the others. A span that does
not train masks the whole answer: less is learnt, and nothing that was masked. Flags on other roles are not read, for
only answers carry loss here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_NUMBERED = ("weight", "train", "training")
_DETAILS = ("train_detail", "training_detail")
_WORDS = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}


def trains(turn: Mapping[str, object]) -> bool:
    """Whether an assistant turn carries loss. ValueError for a flag that says neither yes nor no."""
    flags = [_flag(name, turn.get(name)) for name in _NUMBERED]
    flags += [_span_flag(span) for name in _DETAILS for span in _spans(name, turn.get(name))]
    loss = turn.get("loss")  # a float there is somebody's measurement
    return False not in flags and not (isinstance(loss, int) and loss == 0)


def _flag(name: str, value: object) -> bool | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool | int | float):
        return value != 0
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    raise ValueError(f"{name} is {value!r:.40}, neither yes nor no")


def _spans(name: str, value: object) -> Sequence[object]:
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return value
    raise ValueError(f"{name} is {type(value).__name__}, not a list of spans")


def _span_flag(span: object) -> bool | None:
    if not isinstance(span, Mapping):
        raise ValueError(f"a span of train_detail is {type(span).__name__}, not a mapping")
    return _flag("train", span.get("train"))
