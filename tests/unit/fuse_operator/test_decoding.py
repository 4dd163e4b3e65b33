"""JSON that is nested too deeply: what is kept of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fuse_operator.decoding import CUT, KEPT_DEPTH, _CutLines, cut, loads
from hypothesis import given
from hypothesis import strategies as st

DEEP = b'{"a":[' * 5000 + b"]}" * 5000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def depth_of(value: Any) -> int:
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


@given(VALUES)
def test_what_is_not_deep_stays_as_it_is(value: Any) -> None:
    text = json.dumps(value).encode()
    assert cut(text) == text
    assert loads(text) == value


@given(VALUES, VALUES)
def test_a_deep_value_is_cut_and_its_neighbours_stay(before: Any, after: Any) -> None:
    text = b'{"before":%s,"deep":%s,"after":%s}' % (json.dumps(before).encode(), DEEP, json.dumps(after).encode())
    found = loads(text)
    assert (found["before"], found["after"]) == (before, after)
    assert depth_of(found["deep"]) == KEPT_DEPTH - 1
    assert json.loads(CUT) in json.dumps(found["deep"])


def test_brackets_in_texts_do_not_count() -> None:
    value = {"text": "[{" * 5000, "quoted": '"[' * 500 + "\\"}
    assert loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", [b"[" * 5000, b"]" * 5000, b"not JSON", b"[1," * 300 + b"}" * 300])
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(text)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_lines_of_a_watch_are_cut_one_by_one(size: int) -> None:
    lines = [b'{"n":1}', b'{"n":2,"deep":%s}' % DEEP, b'{"n":3}']
    data = b"\n".join(lines) + b"\n"

    class Content:
        async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
            for begin in range(0, len(data), size):
                yield data[begin : begin + size]

    async def read() -> bytes:
        return b"".join([chunk async for chunk in _CutLines(Content()).iter_chunked(1)])  # type: ignore[arg-type]

    found = asyncio.run(read()).splitlines()
    assert [json.loads(line)["n"] for line in found] == [1, 2, 3]
    assert (found[0], found[2]) == (lines[0], lines[2])
