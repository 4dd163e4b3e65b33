"""The conditions and reasons of a FuseJob as a page of documentation, made from the operator's module that names them.

The library does not import the operator, so its module is read as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fusechat.cli.reference import first_sentence, kinds_of_errors
from fusechat.errors import INTERNAL_ERROR_EXIT_CODE

_HEAD = """<!-- Made by `python -m fusechat.generated` from operator/fuse_operator/reconcile/reasons.py; do not edit. -->

# Conditions and reasons

What `fusechat status NAME`, `kubectl describe fusejob NAME` and events say. Programs match on these words; the message beside
each is for people: what is the matter and what to do. There is no phase.

| condition | True means |
| --- | --- |
| Complete | Everything that the job declares exists; `status.result` says where. |
| Failed | A stage failed for good, or the deadline passed. Any change of the spec, or `fusechat retry`, tries again. |
| Suspended | `spec.suspend` is true and nothing runs. |
| Reconciling | The operator works on it or waits; the reason says for what. Together with Stalled this is what kstatus reads (Flux, Argo CD, `kubectl wait`). |
| Stalled | It will not go on without a person; only together with Failed. |

A status is about the spec whose generation is `status.observedGeneration`; -1 means that no operator has seen the job yet.
"""  # noqa: E501 - cells
_FAILED = """## A stage's process that failed

The names of fusechat's errors. Those that are not retriable are not tried again: the message says what to change.

| reason | exit code | meaning |
| --- | --- | --- |
"""
_SECTION = re.compile(r"^# (?P<title>[A-Z].*)$", re.M)
_REASON = re.compile(r'^[A-Z_]+ = "(?P<reason>\w+)"\n"""(?P<meaning>.+?)"""$', re.M | re.S)
_EVENT = "Event: "


def reasons_reference(source: str) -> str:
    """docs/reasons.md. `source`: the text of the operator's module."""
    starts = list(_SECTION.finditer(source))
    ends = [*(start.start() for start in starts[1:]), len(source)]
    parts = [_section(found["title"], source[found.end() : end]) for found, end in zip(starts, ends, strict=True)]
    return "\n".join([_HEAD, *parts, _FAILED + "\n".join(_failures()) + "\n"])


def _section(title: str, text: str) -> str:
    rows = [f"| `{found['reason']}` | {_cell(found['meaning'])} |" for found in _REASON.finditer(text)]
    return f"## {title}\n\n| reason | meaning |\n| --- | --- |\n" + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    words = " ".join(text.split()).replace("|", "\\|")
    rest = words.removeprefix(_EVENT)
    return words if rest == words else f"{rest[:1].upper()}{rest[1:]} Events only."


def _failures() -> Iterator[str]:
    for kind in kinds_of_errors():
        name = kind.__name__.removesuffix("Error").replace("AcceleratorOutOfMemory", "OutOfMemory")
        code = f"{kind.exit_code}, retriable" if kind.retriable else kind.exit_code
        yield f"| `{name}` | {code} | {first_sentence(kind.__doc__)} |"
    yield f"| `Internal` | {INTERNAL_ERROR_EXIT_CODE} | A defect of fusechat. |"
