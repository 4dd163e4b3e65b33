"""Looks that fail: whoever owns the FuseJob is told, and it is looked at again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuse_operator.reconcile import reasons

from tests.unit.fuse_operator.bench import Bench, bench, stage_of


@pytest.fixture
def one() -> Iterator[Bench]:
    with bench("a") as made:
        yield made


def test_a_look_that_a_defect_ends_is_told_and_tried_again(one: Bench) -> None:
    one.run(1)
    job = next(each for each in one.server.all("Job") if stage_of(each) == "extract-a")
    one.cache.put("Job", one.server.put("Job", {**job, "spec": {**job["spec"], "completions": "many"}}))
    one.queue.add(("lab", "job"))
    looks = one.run(10)
    assert looks == len(one.errors) >= 3
    assert isinstance(one.errors[0], ValueError)
    assert one.metric("fusechat_fusejobs_quarantined") == 1
    ((reason, message),) = one.events()
    assert reason == reasons.INTERNAL_ERROR
    assert message == f"ValueError: {one.errors[0]}"
    (event,) = one.server.all("Event")
    assert (event["type"], event["count"]) == ("Warning", looks)

    one.cache.put("Job", one.server.put("Job", job))
    one.errors.clear()
    one.run(60)
    assert one.errors == []
    assert one.metric("fusechat_fusejobs_quarantined") == 0


@pytest.mark.parametrize("code", [413, 422])
def test_a_status_that_is_refused_is_told(one: Bench, code: int) -> None:
    one.server.fault = lambda request: (code, "too large") if request.kind == "FuseJob" else None
    one.run(2)
    assert [reason for reason, _ in one.events()] == ["InternalError"]
    assert "too large" in one.events()[0][1]


@pytest.mark.parametrize("code", [409, 500, 503])
def test_what_passes_by_itself_is_not_told(one: Bench, code: int) -> None:
    one.server.fault = lambda request: (code, "later") if request.method == "PATCH" else None
    one.run(2)
    assert one.errors
    assert one.events() == []
