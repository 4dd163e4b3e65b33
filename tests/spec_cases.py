"""Whole FuseJob documents with what is expected of them, for the tests of the spec and of the CRD alike.

`invalid/`  refused everywhere         `# expect: LINE PATH: WORDS` at the top, one a mistake, as `fusechat validate`
                                       reports it; `# cluster: PATH: WORDS` at the end where an API server's own
                                       words or path are others; `-` is the document itself.
`laptop/`   a cluster refuses it       the same, of `fusechat validate --cluster`.
`valid/`    accepted everywhere
`# file: REASON` at the end: makes sense for a file only, so the API server never sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parent / "unit" / "spec" / "cases"
_EXPECT = re.compile(r"^# expect: (?P<line>\d+) (?P<path>\S+): (?P<words>.+)$", re.MULTILINE)
_CLUSTER = re.compile(r"^# cluster: (?P<path>\S+): (?P<words>.+)$", re.MULTILINE)
_FILE = re.compile(r"^# file: (?P<reason>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """One document."""

    path: Path
    text: str

    def __str__(self) -> str:
        return self.path.stem

    @property
    def expected(self) -> list[tuple[int, str, str]]:
        """Line, path and words of each mistake."""
        return [(int(found["line"]), found["path"], found["words"]) for found in _EXPECT.finditer(self.text)]

    @property
    def expected_of_a_cluster(self) -> list[tuple[str, str]]:
        """Path and words of what an API server must say."""
        own = [(found["path"], found["words"]) for found in _CLUSTER.finditer(self.text)]
        return own or [_in_a_servers_words(path, words) for _, path, words in self.expected]

    @property
    def for_a_file_only(self) -> str | None:
        """Why the API server never sees it."""
        found = _FILE.search(self.text)
        return found["reason"] if found else None


def _in_a_servers_words(path: str, words: str) -> tuple[str, str]:
    """Path and words of Kubernetes for the two mistakes that it names itself."""
    if words == "is missing":
        return path, "Required value"
    if words == "is no field here" or words.endswith(": not in v1alpha1"):
        return "-", f'unknown field "{path}"'
    return path, words


def cases(kind: str) -> list[Case]:
    """Those of `invalid`, `laptop` or `valid`."""
    return [Case(path, path.read_text("utf-8")) for path in sorted((CASES / kind).glob("*.yaml"))]
