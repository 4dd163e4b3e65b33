"""When a model reads too little of the conversations, and when a source teaches too little of them."""

from __future__ import annotations

import numpy as np
import pytest

from fusechat.chat.reasons import Dropped, Reason
from fusechat.errors import InvalidDataError
from fusechat.stages.teaching import ReadingLimit, Teaching, dropped_details
from fusechat.tables import Conversation, Message, Rendering

NONE = np.empty(0, np.int32)


def details(read: int, dropped: int, first: int = 0) -> dict[str, object]:
    numbers = range(first, first + read + dropped)
    conversations = [Conversation(number, (Message("user", "q"),)) for number in numbers]
    good: list[Rendering | Dropped] = [Rendering(n, NONE, NONE, NONE, NONE, NONE) for n in list(numbers)[:read]]
    bad = [Dropped(Reason.TEMPLATE_REFUSED, "no system, please")] * dropped
    return dropped_details(conversations, [*good, *bad], {"TemplateRefused": dropped} if dropped else {})


def test_the_limit_holds_over_all_chunks_and_names_model_reasons_counts_example_and_cause() -> None:
    limit = ReadingLimit("solar", 100, 0.05)
    limit.add(details(45, 5))
    limit.check()
    limit.add(details(48, 2, first=50))
    with pytest.raises(InvalidDataError) as caught:
        limit.check()
    for words in ("solar", "7 of 100", "7 TemplateRefused", "row 45: no system, please", "maxDroppedFraction (0.05)"):
        assert words in caught.value.message
    assert "chatTemplate" in caught.value.hint


def test_all_of_them_is_an_error_whatever_is_allowed() -> None:
    limit = ReadingLimit("solar", 4, 1.0)
    limit.add(details(1, 3))
    limit.check()
    limit.add(details(0, 1, first=4))
    with pytest.raises(InvalidDataError):
        limit.check()


def test_no_conversations_are_no_error() -> None:
    limit = ReadingLimit("solar", 0, 0.0)
    limit.check()
    assert limit.warnings() == []


@pytest.mark.parametrize(("dropped", "warned"), [(0, False), (1, False), (2, True)])
def test_a_share_worth_a_look_is_warned_of(dropped: int, warned: bool) -> None:
    limit = ReadingLimit("solar", 200, 0.05)
    limit.add(details(200 - dropped, dropped))
    limit.check()
    assert bool(limit.warnings()) is warned


def chunk(rows: int, **silent: int) -> dict[str, int]:
    return {"rows": rows, "unread": 0, "notFinite": 0, "unaligned": 0} | silent


def test_a_source_that_teaches_a_twentieth_is_enough_by_default() -> None:
    Teaching.total([chunk(50, unread=50), chunk(50, unread=45)]).check("solar", 0.05)


@pytest.mark.parametrize("why", ["unread", "notFinite", "unaligned"])
def test_a_source_that_teaches_less_is_refused_with_the_reasons(why: str) -> None:
    teaching = Teaching.total([chunk(50, **{why: 50}), chunk(50, **{why: 46}), {"rules": {}}])
    with pytest.raises(InvalidDataError, match="solar has something to teach in 4 of 100") as caught:
        teaching.check("solar", 0.05)
    assert "minTeachingFraction (0.05)" in caught.value.message
    assert "96" in caught.value.message
    teaching.check("solar", 0.04)
    Teaching.total([chunk(50, **{why: 50})]).check("solar", 0.0)
