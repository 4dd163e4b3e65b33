"""A page as a browser takes it apart: tags, attributes, text."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta"}


@dataclass
class Parsed(HTMLParser):
    """Every tag with its attributes, and the text below tags of one kind."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    """(open tags, text)."""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self._open), data))

    def text(self, tag: str | None = None) -> str:
        """All text, or that below one kind of tag."""
        return "\n".join(data for tags, data in self.texts if "style" not in tags and (tag is None or tag in tags))

    def balanced(self) -> bool:
        """Whether every tag was closed."""
        return not self._open

    def __hash__(self) -> int:
        return id(self)


def parse(page: str) -> Parsed:
    """The page, which must be well formed."""
    parsed = Parsed()
    parsed.feed(page)
    parsed.close()
    assert parsed.balanced()
    return parsed
