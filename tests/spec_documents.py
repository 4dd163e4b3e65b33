"""Job documents that differ from a valid one in a few places, drawn by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fusechat.spec import fields
from fusechat.spec.document import Path, read_documents
from tests.spec_cases import cases

VALID = [
    document.value
    for case in cases("valid")
    if not case.for_a_file_only
    for document in read_documents(case.text, case.path.name)
    if document.value["kind"] == "FuseJob"
]
JOBS = [*VALID, *(read_documents(case.text, case.path.name)[0].value for case in cases("laptop"))]
WORDS = (
    *("hf://", "hf://me/a", "hf://me/a@main", "HF://me/a", "s3://x", "s3://bucket", "file:", "file:///a", "file://a/b"),
    *(
        "/a",
        "~/a",
        "C:\\a",
        "://",
        "VaRM",
        "SLERP",
        "Linear",
        "TIES",
        "Joint",
        "5Gi",
        "0.5",
        "a b",
        "a\n",
        "2026-01-01",
    ),
    *("name", "solar", "openchat", "fuse-a", "joint", "FUSECHAT_X", "fusechat.dev/x", "x" * 31, "ä" * 30, "x" * 2000),
)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-2, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(WORDS)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: Path = ()) -> list[Path]:
    """The path of every value in a document, its own first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def at(value: Any, path: Path) -> Any:
    """The value at a path."""
    for part in path:
        value = value[part]
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """The document with another value at a path."""
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(value, list):
        return [replaced(item, rest, new) if i == head else item for i, item in enumerate(value)]
    return {key: replaced(item, rest, new) if key == head else item for key, item in value.items()}


@st.composite
def jobs(draw: st.DrawFn, values: st.SearchStrategy[Any] = VALUES, most: int = 3) -> Any:
    """A job with up to `most` values, of its document or any that it holds, replaced by others."""
    job = draw(st.sampled_from(JOBS))
    for _ in range(draw(st.integers(1, most))):
        job = replaced(job, draw(st.sampled_from(places(job))), draw(values))
    return job


@st.composite
def nearly_valid_jobs(draw: st.DrawFn) -> Any:
    """A job whose spec has one thing changed as a person would: a value, a field more, an entry twice or gone."""
    job = draw(st.sampled_from(VALID))
    path = draw(st.sampled_from([place for place in places(job) if place[:1] == ("spec",)]))
    old = at(job, path)
    if isinstance(old, list) and old and draw(st.booleans()):
        return replaced(job, path, [*old, draw(st.sampled_from(old))] if draw(st.booleans()) else old[1:])
    model = fields.object_at(path)
    if isinstance(old, dict) and model:
        key = draw(st.sampled_from(list(fields.keys(model))))
        elsewhere = [at(other, place) for other in VALID for place in places(other) if place[-1:] == (key,)]
        value = draw(st.sampled_from(elsewhere) | VALUES if elsewhere else VALUES)
        return replaced(job, path, old | {key: value})
    return replaced(job, path, draw(VALUES))
