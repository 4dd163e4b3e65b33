"""Pods of before that a run has to wait for; one whose node is dead may never go, and a person has to know its name."""

from __future__ import annotations

from collections.abc import Iterable

from fuse_operator.reconcile.pod_view import PodView
from fuse_operator.reconcile.terms import MESSAGE

_NOT_GONE = "Pods of an earlier run are not gone yet"
_NAMED = 3


def not_gone(pods: Iterable[PodView]) -> str:
    """Says so, with the names of those that have not ended."""
    names = sorted(pod.name for pod in pods if not pod.ended)
    return f"{_NOT_GONE}: {', '.join(names[:_NAMED])}." if names else f"{_NOT_GONE}."


def beside(told: str, words: str) -> str:
    """What was told before, and these words of `not_gone` in place of earlier ones."""
    before = without(told)[: MESSAGE - len(words) - 2]
    return f"{before}. {words}" if before else words


def without(told: str) -> str:
    """What was told, less any words of `not_gone`."""
    before, found, _ = told.partition(_NOT_GONE)
    return before.rstrip(" .") if found else told
