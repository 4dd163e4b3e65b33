"""Where each message of a conversation stands in the bytes of its rendering.

Two ways, both verified byte for byte. By layout: the template's literals for this sequence of roles, with the contents
(trimmed as the template trims) between them, are exactly the rendering. One by one, for templates whose literals depend
on the contents (Qwen3 drops the reasoning of earlier turns): renderings with one message marked, or replaced, show
which bytes that message causes, and its content, or a part of it, must stand exactly there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusechat.chat.template import ChatTemplate, Layout, TemplateRefusedError, sentinel
from fusechat.tables import Message


@dataclass(frozen=True)
class Region:
    """A message, or the part of it that the template kept, in the rendered bytes."""

    message: int
    begin: int
    end: int
    offset: int
    """Byte of the message at which the region begins."""


@dataclass(frozen=True)
class Located:
    """The located messages, in the rendering's order."""

    regions: tuple[Region, ...]
    complete: bool
    """Every message that the rendering shows is located, not only those that carry loss."""


def locate(template: ChatTemplate, messages: Sequence[Message], rendered: str) -> Located:
    """Regions of the messages in `rendered`, which `template.text(messages)` gave. A missing one cannot be located."""
    layout = template.layout(tuple(m.role for m in messages))
    by_layout = _by_layout(layout, messages, rendered) if layout else None
    if by_layout is not None:
        return Located(by_layout, complete=True)
    found = [_alone(template, messages, i, rendered) for i, m in enumerate(messages) if m.carries_loss]
    regions = sorted((region for region in found if region), key=lambda region: region.begin)
    return Located(tuple(regions), complete=False)


def _by_layout(layout: Layout, messages: Sequence[Message], rendered: str) -> tuple[Region, ...] | None:
    """None unless literals and contents are the rendering."""
    filled = [slot.filled(messages[slot.message].content) for slot in layout.slots]
    text = [layout.literals[0]]
    for (_, kept), literal in zip(filled, layout.literals[1:], strict=True):
        text += (kept, literal)
    if "".join(text) != rendered:
        return None
    lengths = [len(part.encode()) for part in text]
    regions = []
    end = lengths[0]
    for number, (slot, (removed, _)) in enumerate(zip(layout.slots, filled, strict=True)):
        begin, end = end, end + lengths[2 * number + 1]
        regions.append(Region(slot.message, begin, end, len(removed.encode())))
        end += lengths[2 * number + 2]
    return tuple(region for region in regions if _once(region, regions))


def _once(region: Region, regions: Sequence[Region]) -> bool:
    """A message that the template shows twice has no place of its own."""
    return sum(other.message == region.message for other in regions) == 1


def _alone(template: ChatTemplate, messages: Sequence[Message], index: int, rendered: str) -> Region | None:
    try:
        return _marked(template, messages, index, rendered) or _replaced(template, messages, index, rendered)
    except TemplateRefusedError:
        return None


def _marked(template: ChatTemplate, messages: Sequence[Message], index: int, rendered: str) -> Region | None:
    """With a mark at both ends of its content, the message is what stands between them if all else is as rendered."""
    content, mark = messages[index].content, sentinel(index)
    for part in _trimmed(content):
        begin = content.index(part)
        marked = f"{content[:begin]}{mark}{part}{mark}{content[begin + len(part) :]}"
        around = template.text_around(messages, index, marked, 2)
        if around and around[1] == part and "".join(around) == rendered:
            return _region(rendered, index, len(around[0]), len(part), _bytes(content[:begin]))
    return None


def _replaced(template: ChatTemplate, messages: Sequence[Message], index: int, rendered: str) -> Region | None:
    """With the message replaced, whatever else is rendered shows which part of the rendering the message causes."""
    content = messages[index].content
    around = template.text_around(messages, index, sentinel(index), 1)
    if around is None:
        return None
    left, right = around
    first = _common_prefix(left, rendered)
    last = len(rendered) - _common_prefix(right[::-1], rendered[first:][::-1])
    for part in _trimmed(content):
        begin = _covering(rendered, part, first, last)
        if begin is not None:
            return _region(rendered, index, begin, len(part), _bytes(content[: content.index(part)]))
    if first == len(left) and len(rendered) - last == len(right):
        offset = _only(content, rendered[first:last])
        if offset is not None:
            return _region(rendered, index, first, last - first, _bytes(content[:offset]))
    return None


def _trimmed(content: str) -> list[str]:
    """What templates leave of a content's ends, longest first."""
    return [part for part in dict.fromkeys((content, content.strip("\n"), content.strip())) if part]


def _covering(rendered: str, part: str, first: int, last: int) -> int | None:
    """Where `part` stands in `rendered` so that it covers [first, last), if that is one place only."""
    low, high = max(0, last - len(part)), first + len(part)
    begin = rendered.find(part, low, high)
    if begin < 0 or rendered.find(part, begin + 1, high) >= 0:
        return None
    return begin


def _only(content: str, part: str) -> int | None:
    """Where the kept part of a content stands in it; at its end, if it stands there too."""
    if not part or part not in content:
        return None
    if content.endswith(part):
        return len(content) - len(part)
    return content.index(part) if content.find(part, content.index(part) + 1) < 0 else None


def _region(rendered: str, message: int, begin: int, length: int, offset: int) -> Region:
    first = _bytes(rendered[:begin])
    return Region(message, first, first + _bytes(rendered[begin : begin + length]), offset)


def _bytes(text: str) -> int:
    return len(text.encode())


def _common_prefix(one: str, other: str) -> int:
    """Characters that both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
