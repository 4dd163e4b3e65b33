"""A FuseJob's conditions, states and reasons as a page of documentation, made from the status' models and from the
operator's module that names the reasons.

The library does not import the operator, so its module is read as text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from fusechat.errors import INTERNAL_ERROR_EXIT_CODE, PERMANENT_EXIT_CODES, InterruptedStageError
from fusechat.spec.base import SpecObject
from fusechat.spec.fields import keys, unwrap
from fusechat.spec.status import STAGE_STATES, FuseJobStatus
from tools.cli_reference import first_sentence, kinds_of_errors

_HEAD = """<!-- Made by `python -m tools.generated` from operator/fuse_operator/reconcile/{reasons,advance}.py and
fusechat/spec/status.py; do not edit. -->

# Conditions, states and reasons

The words that `fusechat status NAME`, `kubectl describe fusejob NAME` and events use. Programs match on them; the message with
each is for people and says what is wrong and what to do. There is no phase.

| condition | True means |
| --- | --- |
| Complete | Everything that the job declares exists; `status.result` says where. |
| Failed | A stage failed for good, or the deadline passed. Any change of the spec, or `fusechat retry`, tries again. |
| Suspended | `spec.suspend` is true: nothing starts; pods are ending, with a checkpoint, or gone. |
| Reconciling | The operator works on it or waits; the reason says for what. Together with Stalled this is what kstatus reads (Flux, Argo CD, `kubectl wait`). |
| Stalled | It will not go on without a person; only together with Failed. |

A condition that is False has as its reason the name of the one that is True: `Reconciling`, `Complete`, `Failed` or
`Suspended`. A status is about the spec whose generation is `status.observedGeneration`; -1 means that no operator has seen the job yet.
"""  # noqa: E501 - cells
_STATES = """## States of a stage

`fusechat status` writes `reused` for a Complete stage whose output was there before.

| state | meaning |
| --- | --- |
"""
_TRANSITIONS = """## What is observed of a stage's Job, and what follows

A stage under way is Waiting, Pending, Running, Suspended or Stopped. What is Complete or Failed stays so until an
edit, a retry or a damaged output says otherwise. *run* counts Jobs that ended without the output, *attempt* failures
that cost one of `spec.retry.attempts`, *repeats* ends that say nothing about the stage (also in *attempt*, with a
limit of their own), *preemptions* what cluster or queue took away, at no cost.

| state | observed | next state | counters that it may raise | |
| --- | --- | --- | --- | --- |
"""
_FAILED = """## A stage's process that failed

The names of fusechat's errors. What is not tried again fails at once: the message says what to change. `OutOfMemory` is
also the reason of a pod that the kernel ended at its memory limit (exit code 137), and such a pod is tried again, as
often as `spec.retry.attempts` allows.

| reason | exit code | meaning |
| --- | --- | --- |
"""
_FIELDS = """## Fields of `status`

`kubectl explain fusejob.status` says the same. Times are RFC 3339 in UTC.

| field | meaning |
| --- | --- |
"""
_SECTION = re.compile(r"^# (?P<title>[A-Z].*)$", re.M)
_REASON = re.compile(r'^[A-Z_]+ = "(?P<reason>\w+)"\n"""(?P<meaning>.+?)"""$', re.M | re.S)
_EVENT = "Event: "


def reasons_reference(source: str, transitions: str) -> str:
    """docs/reference/reasons.md. `source`, `transitions`: the texts of the operator's modules."""
    starts = list(_SECTION.finditer(source))
    ends = [*(start.start() for start in starts[1:]), len(source)]
    parts = [_section(found["title"], source[found.end() : end]) for found, end in zip(starts, ends, strict=True)]
    failures = _FAILED + "\n".join(_failures()) + "\n"
    return "\n".join(
        [
            _HEAD,
            _STATES + "\n".join(_states()) + "\n",
            _TRANSITIONS + "\n".join(_transitions(transitions)) + "\n",
            *parts,
            failures,
            _FIELDS + "\n".join(_fields()) + "\n",
        ]
    )


def _states() -> Iterator[str]:
    for state, meaning in STAGE_STATES.items():
        yield f"| {state} | {_cell(meaning)} |"


def _transitions(source: str) -> Iterator[str]:
    """A row a line of the table on which the operator runs."""
    known: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            if node.target.id == "_UNDER_WAY":
                known["_UNDER_WAY"] = "any under way"
            if node.target.id == "TABLE" and isinstance(node.value, ast.Tuple):
                yield from (_transition(call, known) for call in node.value.elts if isinstance(call, ast.Call))


def _transition(call: ast.Call, known: dict[str, str]) -> str:
    states, observed, then, counters, why, _ = call.args
    cells = [_names(states, known), _names(observed, known), _names(then, known), _names(counters, known)]
    return f"| {' | '.join(cells)} | {_cell(str(ast.literal_eval(why)))} |"


def _names(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return known[node.id]
    value = ast.literal_eval(node)
    return value if isinstance(value, str) else ", ".join(value)


def _fields(model: type[SpecObject] = FuseJobStatus, place: str = "") -> Iterator[str]:
    """A row a field, those of an object below it."""
    for key, info in keys(model).items():
        inner, of_list = _object_in(info.annotation)
        yield f"| `{place}{key}` | {_cell(info.description or '')} |"
        if inner is not None:
            yield from _fields(inner, f"{place}{key}{'[]' if of_list else ''}.")


def _object_in(annotation: Any) -> tuple[type[SpecObject] | None, bool]:
    """The model of a field that is an object or a list of them, and whether it is a list."""
    found = unwrap(annotation)
    of_list = get_origin(found) is list
    if of_list:
        found = unwrap(get_args(found)[0])
    return (found if isinstance(found, type) and issubclass(found, SpecObject) else None), of_list


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
        yield _failure(name, kind.exit_code, first_sentence(kind.__doc__))
    told_to_stop = InterruptedStageError
    yield _failure("InterruptedStage", told_to_stop.exit_code, first_sentence(told_to_stop.__doc__))
    yield _failure("Internal", INTERNAL_ERROR_EXIT_CODE, "A defect of fusechat, or what nobody foresaw.")


def _failure(name: str, code: int, meaning: str) -> str:
    again = "" if code in PERMANENT_EXIT_CODES else ", tried again"
    return f"| `{name}` | {code}{again} | {meaning} |"
