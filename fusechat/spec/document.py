"""A job file as plain values that remember their lines.

YAML is read as the Kubernetes API server reads it, so that a file means the same on a laptop and on a cluster: `5e-6`
and `1e3` are numbers, dates and `1:30` are text, a key given twice is a mistake. JSON is read
too. What the values mean is not known here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from fusechat.errors import SpecError, SpecProblem

Path = tuple[str | int, ...]
"""Keys and list indices from the document's root."""

MAX_CHARACTERS = 1_000_000
MAX_VALUES = 100_000
"""Aliases can make a small file unfold without end."""
MAX_DEPTH = 100
"""Of a file's text, aliases unfolded."""
MAX_NESTING = 32
"""Levels of a job; Kubernetes' own objects in it need half of them."""

_RESOLVED = {
    "tag:yaml.org,2002:bool": (
        r"^(?:y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$",
        "yYnNtTfFoO",
    ),
    "tag:yaml.org,2002:int": (r"^[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"^(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    "tag:yaml.org,2002:merge": (r"^<<$", "<"),
    "tag:yaml.org,2002:null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
}


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of the API server's reader (sigs.k8s.io/yaml): no dates, no base-60 numbers, floats
    with a bare exponent, `y` and `n` for true and false."""

    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _tag, (_pattern, _first) in _RESOLVED.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


@dataclass(frozen=True)
class Document:
    """One document: its values, the line of every path, and mistakes of the file itself."""

    value: Any
    lines: Mapping[Path, int]
    """1-based; of a key in a mapping, of the item in a list."""
    problems: tuple[SpecProblem, ...] = ()

    def line(self, path: Path) -> int | None:
        """Line of the nearest enclosing thing that is in the file."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def dotted(path: Path) -> str:
    """`spec.sources[1].name`; a key that is no identifier is quoted in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_][-\w]*", part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def too_large(value: Any) -> SpecProblem | None:
    """What is wrong with a value that no FuseJob needs to be nested or to grow so far. A loop, for recursion is what
    such a value is about to exhaust."""
    left: list[tuple[Path, Any]] = [((), value)]
    for seen, (path, _) in enumerate(_unfolding(left)):
        if len(path) > MAX_NESTING:
            message = f"is nested more than {MAX_NESTING} levels deep"
            return SpecProblem(dotted(path[:6]), message, "Check its brackets.")
        if seen > MAX_VALUES:
            return SpecProblem("", f"holds more than {MAX_VALUES:,} values", "No FuseJob is that long.")
    return None


def _unfolding(left: list[tuple[Path, Any]]) -> Iterator[tuple[Path, Any]]:
    while left:
        path, item = left.pop()
        yield path, item
        if isinstance(item, Mapping):
            left += [((*path, str(key)), inner) for key, inner in item.items()]
        elif isinstance(item, list):
            left += [((*path, place), inner) for place, inner in enumerate(item)]


def read_documents(text: str, file: str) -> list[Document]:
    """Every document of a YAML or JSON text that is not empty. Raises SpecError where it is neither."""
    if len(text) > MAX_CHARACTERS:
        raise SpecError(
            [SpecProblem("", f"has over {MAX_CHARACTERS:,} characters; no FuseJob is that long")], file=file
        )
    try:
        loader = _Loader(_spaces_for_tabs(text.removeprefix("\ufeff")))
        return [_Reading(loader, file).document(node) for node in list(_nodes(loader))]
    except yaml.MarkedYAMLError as error:
        raise SpecError([_syntax_problem(error)], file=file) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"holds a character that YAML does not allow (U+{int(error.character):04X})"
        raise SpecError([SpecProblem("", message, "Save the file as UTF-8 text.", line)], file=file) from error
    except RecursionError as error:
        raise SpecError([SpecProblem("", "is nested too deeply", "Check its brackets.")], file=file) from error


def _nodes(loader: _Loader) -> Iterator[yaml.Node]:
    while loader.check_node():
        node = loader.get_node()
        if node is not None and not (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
            yield node


def _spaces_for_tabs(text: str) -> str:
    """JSON may be indented with tabs, which YAML refuses; inside JSON's strings there can be none."""
    if "\t" not in text or not text.lstrip().startswith("{"):
        return text
    try:
        json.loads(text)
    except ValueError:
        return text
    return text.replace("\t", " ")


def _syntax_problem(error: yaml.MarkedYAMLError) -> SpecProblem:
    mark = error.problem_mark or error.context_mark
    what = ", ".join(part for part in (error.context, error.problem) if part)
    tab = "\\t" in what
    return SpecProblem(
        "",
        f"is not valid YAML: {what}" + (f" (column {mark.column + 1})" if mark else ""),
        "Indent with spaces; YAML refuses tabs." if tab else "Check indentation, colons and quotes near this line.",
        mark.line + 1 if mark else None,
    )


@dataclass
class _Reading:
    """One walk over a document's nodes."""

    loader: _Loader
    file: str
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[SpecProblem] = field(default_factory=list)

    def document(self, node: yaml.Node) -> Document:
        self.lines[()] = _line(node)
        value = self._value(node, ())
        return Document(value, self.lines, tuple(self.problems))

    def _value(self, node: yaml.Node, path: Path) -> Any:
        if len(path) > MAX_DEPTH or len(self.lines) > MAX_VALUES:
            message = "unfolds to too many values; an alias may contain itself"
            raise SpecError([SpecProblem("", message, line=_line(node))], file=self.file)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, path)
        return self._scalar(node, path)

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            self.lines[(*path, index)] = _line(item)
            values.append(self._value(item, (*path, index)))
        return values

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        own: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self._key(key_node, path), _line(key_node)
            if key in own:
                self._problem((*path, key), f"is given twice, first in line {own[key]}", "Keep one of them.", line)
                continue
            own[key] = self.lines[(*path, key)] = line
            values[key] = self._value(value_node, (*path, key))
        for key, value in self._merged(node, path).items():
            if key not in own:
                values[key] = value
        return values

    def _merged(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        """What `<<` brings in; of several mappings the first counts."""
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag != "tag:yaml.org,2002:merge":
                continue
            items = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for item in items:
                if isinstance(item, yaml.MappingNode):
                    found = self._without_lines(item, path, _line(key_node)) | found
                else:
                    self._problem(path, "`<<` takes a mapping or a list of mappings", "", _line(key_node))
        return found

    def _without_lines(self, node: yaml.MappingNode, path: Path, line: int) -> dict[str, Any]:
        """A merged mapping's values; what it brings in is reported at the line of the `<<`."""
        inner = _Reading(self.loader, self.file)
        values = inner._mapping(node, path)
        for inner_path in inner.lines:
            self.lines.setdefault(inner_path, line)
        return values

    def _key(self, node: yaml.Node, path: Path) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._problem(path, "has a key that is no text", "Keys are plain words.", _line(node))
            return "?"
        return str(node.value)

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        try:
            value = self.loader.construct_object(node)
        except (ValueError, yaml.constructor.ConstructorError):
            self._problem(path, f"`{node.value}` cannot be read as {node.tag.rpartition(':')[2]}", "", _line(node))
            return None
        if isinstance(value, float) and math.isinf(value) and "inf" not in node.value.lower():
            return str(node.value)  # a commit such as 12e4567 is no number, in Go neither
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return int(value)  # JSON does not tell 1e3 from 1000; nor does the API server
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value

    def _problem(self, path: Path, message: str, hint: str, line: int) -> None:
        self.problems.append(SpecProblem(dotted(path), message, hint, line))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
