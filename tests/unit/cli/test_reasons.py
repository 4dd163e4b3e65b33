"""The page of reasons has every word that the operator's module names, and nothing that it does not."""

from __future__ import annotations

import re

from fuse_operator.reconcile import reasons

from fusechat.generated import FILES


def test_every_reason_is_on_the_page_once() -> None:
    page = FILES["docs/reasons.md"]()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.M)
    named = [value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)]
    assert len(named) > 20
    assert {word: listed.count(word) for word in named} == {
        word: 2 if word == reasons.OUT_OF_MEMORY else 1 for word in named
    }
    assert set(listed) - set(named) == set(reasons.BY_EXIT_CODE.values()) - {reasons.OUT_OF_MEMORY}
