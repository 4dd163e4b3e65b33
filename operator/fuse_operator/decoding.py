"""JSON from the API server, whatever somebody put into it: what is nested too deeply is cut off, the rest is read.

A free-form field may be nested thousands deep, and Python's reader gives up on the whole list or watch in which such
an object stands. A cut object keeps its metadata, so that it can be told what is wrong with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp

from fusechat.spec.document import MAX_DEPTH

KEPT_DEPTH = 2 * MAX_DEPTH
"""Levels of a text that are read: more than a spec may have, so that a cut one is still found to be too deep."""
CUT = b'"(nested too deeply)"'
"""In place of what was cut off."""
_STRING = rb'"(?:[^"\\]|\\.)*"'
_STRINGS = re.compile(_STRING, re.DOTALL)
_TOKENS = re.compile(_STRING + rb"|[\[{\]}]", re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALIKE = bytes.maketrans(b"[]", b"{}")


def loads(data: bytes) -> Any:
    """As `json.loads`, of at most KEPT_DEPTH levels. ValueError for what is no JSON."""
    return json.loads(cut(data))


def cut(data: bytes) -> bytes:
    """The text of a JSON value without what is nested deeper than KEPT_DEPTH."""
    return b"".join(_kept(data)) if _is_too_deep(data) else data


def _is_too_deep(data: bytes) -> bool:
    """Takes away the innermost brackets, level by level."""
    if data.count(b"{") + data.count(b"[") <= KEPT_DEPTH:
        return False
    brackets = _STRINGS.sub(b"", data).translate(_ALIKE, _NO_BRACKETS)
    for _ in range(KEPT_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"{}", b"")
    return bool(brackets)


def _kept(data: bytes) -> Iterator[bytes]:
    depth = begin = 0
    for token in _TOKENS.finditer(data):
        if token[0] in b"[{":
            depth += 1
            if depth == KEPT_DEPTH + 1:
                yield data[begin : token.start()] + CUT
        elif token[0] in b"]}":
            depth -= 1
            if depth == KEPT_DEPTH:
                begin = token.end()
    if depth <= KEPT_DEPTH:
        yield data[begin:]


class CutResponse(aiohttp.ClientResponse):
    """An answer to the watches' client, cut likewise: whole, or line by line where it is a stream."""

    async def json(self, **_: Any) -> Any:
        """The answer as JSON."""
        return loads(await self.read())

    async def start(self, connection: Any) -> CutResponse:
        """As the base class; then the body is there to be read."""
        await super().start(connection)
        if self.url.query.get("watch") == "true":
            self.content = _CutLines(self.content)  # type: ignore[assignment]
        return self


class _CutLines:
    """A stream of JSON lines, each cut."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines, as they come."""
        rest: list[bytes] = []
        async for chunk in self._content.iter_chunked(size):
            head, newline, tail = chunk.rpartition(b"\n")
            if newline:
                yield b"\n".join(cut(line) for line in b"".join((*rest, head)).split(b"\n")) + newline
                rest = []
            rest.append(tail)
        if last := b"".join(rest):
            yield cut(last)
