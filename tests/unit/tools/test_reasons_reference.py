"""The page of reasons has every word that the operator and the status name, and none that they do not."""

from __future__ import annotations

import re
from typing import get_args

from fuse_operator.reconcile import reasons
from fuse_operator.reconcile.attempts import INTERRUPTED

from fusechat.errors import INTERNAL_ERROR_EXIT_CODE, PERMANENT_EXIT_CODES, InterruptedStageError, TemporaryError
from fusechat.spec.status import StageState
from tools.generated import FILES

TRIED_AGAIN = (INTERNAL_ERROR_EXIT_CODE, TemporaryError.exit_code, InterruptedStageError.exit_code)
PAGE = FILES["docs/reference/reasons.md"]()


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_every_reason_is_on_the_page_once() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Fields of")[0], re.M)
    named = [value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)]
    assert len(named) > 20
    assert {word: listed.count(word) for word in named} == {
        word: 2 if word == reasons.OUT_OF_MEMORY else 1 for word in named
    }
    assert set(listed) - set(named) == {*reasons.BY_EXIT_CODE.values(), INTERRUPTED} - {reasons.OUT_OF_MEMORY}


def test_what_is_tried_again_is_what_the_operator_tries_again() -> None:
    rows = re.findall(r"^\| `\w+` \| (\d+)(, tried again)? \|", section("A stage's process that failed"), re.M)
    assert {int(code) for code, again in rows if not again} == set(PERMANENT_EXIT_CODES)
    assert {code for code, again in rows if again} == set(map(str, TRIED_AGAIN))


def test_every_state_has_a_meaning() -> None:
    listed = re.findall(r"^\| (\w+) \| \S", section("States of a stage"), re.M)
    assert listed == ["state", *get_args(StageState)]


def test_every_field_of_the_status_is_described() -> None:
    rows = re.findall(r"^\| `([\w.\[\]]+)` \| (.+) \|$", section("Fields of `status`"), re.M)
    assert {"observedGeneration", "conditions[].lastTransitionTime", "plan.stages[].digest", "stages[].attempt"} <= {
        name for name, _ in rows
    }
    assert all(meaning.strip() for _, meaning in rows)
