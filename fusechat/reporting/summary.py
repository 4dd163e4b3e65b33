"""What a comparison comes to, in sentences computed from it: which model won what, by the intervals alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusechat.reporting.data import label
from fusechat.reporting.numbers import number, signed_range

Results = Mapping[str, Any]
_ORDER = ("better", "worse", "not distinguishable")
_WORDS = {
    "better": "better than",
    "worse": "worse than",
    "not distinguishable": "not distinguishable from",
}


def verdicts(results: Results, model: str) -> list[str]:
    """How `model` compares with its controls: in bits per byte, where skills differ by skill too, and in each task."""
    pairs = [pair for pair in results["pairs"] if pair["first"] == model]
    if not pairs:
        return [f"{_capital(label(model))} was not compared with another model."]
    skills = sorted({skill for pair in pairs for skill in pair["bitsPerByte"]["strata"]})
    sentences = []
    if skills:  # a job may have tasks alone
        of = f"the mean bits per byte of {len(skills)} skills" if len(skills) > 1 else "bits per byte"
        sentences.append(_sentence(model, of, [(pair["second"], pair["bitsPerByte"]["mean"]) for pair in pairs]))
        sentences += [_by_skill(pair) for pair in pairs if _skills_differ(pair)]
    tasks = sorted({task for pair in pairs for task in pair["accuracy"]["strata"]})
    for task in tasks:
        found = [(p["second"], p["accuracy"]["strata"][task]) for p in pairs if task in p["accuracy"]["strata"]]
        sentences.append(_sentence(model, f"right answers in {task}", found))
    return sentences


def leaders(results: Results) -> list[str]:
    """Which model has the best figure of each skill and task. A figure is no verdict, and the sentence says so."""
    models = results["models"]
    skills = sorted({skill for model in models for skill in model["bitsPerByte"]})
    tasks = sorted({task for model in models for task in model["tasks"]})
    parts = []
    for skill in skills:
        values = {m["model"]: m["bitsPerByte"].get(skill, {}).get("value") for m in models}
        parts.append(_leader(f"{skill or 'all'}", {k: v for k, v in values.items() if v is not None}, lowest=True))
    for task in tasks:
        values = {m["model"]: m["tasks"][task]["right"] for m in models if task in m["tasks"]}
        parts.append(_leader(f"{task} (right answers)", values, lowest=False))
    told = "; ".join(part for part in parts if part)
    return [f"Best figures, leads untested unless an interval below says so: {told}."] if told else []


def _sentence(model: str, of: str, found: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """`Merge varm is better than the pivot (...) and worse than joint (...) in the mean ...`."""
    clauses = []
    for verdict in _ORDER:
        named = [
            f"{label(second)} ({_range(interval)})" for second, interval in found if interval["verdict"] == verdict
        ]
        if named:
            clauses.append(f"{_WORDS[verdict]} {_and(named)}")
    return f"{_capital(label(model))} is {_and(clauses)} in {of}."


def _skills_differ(pair: Mapping[str, Any]) -> bool:
    found = {interval["verdict"] for interval in pair["bitsPerByte"]["strata"].values()}
    return found != {pair["bitsPerByte"]["mean"]["verdict"]}


def _by_skill(pair: Mapping[str, Any]) -> str:
    """`Against joint it is better in chat and docs and worse in sort.`"""
    strata = pair["bitsPerByte"]["strata"]
    named = {verdict: [skill for skill, each in strata.items() if each["verdict"] == verdict] for verdict in _ORDER}
    clauses = [f"{verdict} in {_and(skills)}" for verdict, skills in named.items() if skills]
    return f"Against {label(pair['second'])} it is {'; '.join(clauses)}."


def _range(interval: Mapping[str, Any]) -> str:
    if interval["low"] is None or interval["high"] is None:
        return "too few items for an interval"
    return signed_range(interval["low"], interval["high"])


def _leader(of: str, values: Mapping[str, float], *, lowest: bool) -> str:
    if not values:
        return ""
    best = min(values.values()) if lowest else max(values.values())
    names = [label(name) for name, value in values.items() if value == best]
    shown = number(best) if lowest else f"{best:.1%}"
    return f"{of}: {_and(names)} {shown}"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
