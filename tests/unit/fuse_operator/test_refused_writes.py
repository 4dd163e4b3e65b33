"""Writes that the API server refuses: told, tried again later each time, and in nobody else's way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.fuse_operator.api_server import Request
from tests.unit.fuse_operator.bench import Bench, bench, makes, stage_of

REFUSED = 403, "exceeded quota: count/jobs.batch=1"


@pytest.fixture
def three() -> Iterator[Bench]:
    """Extract stages of p, a, b and c are about to start."""
    with bench("a", "b", "c") as made:
        yield made


def test_what_is_refused_keeps_no_other_stage_from_being_made(three: Bench) -> None:
    three.server.fault = lambda request: REFUSED if makes(request, "extract-a") else None
    three.run(1)
    assert three.stages() >= {"extract-p", "extract-b", "extract-c"}
    assert "extract-a" not in three.stages()
    assert three.entry("extract-a")["reason"] == "CreateFailed"
    assert "exceeded quota" in three.entry("extract-a")["message"]


def test_several_that_are_refused_are_each_tried_again_later_each_time(three: Bench) -> None:
    refused = ("extract-a", "extract-b", "extract-c")
    three.server.fault = lambda request: REFUSED if makes(request, *refused) else None
    looks = three.run(120)
    tries = {stage: sum(makes(each, stage) for each in three.server.requests) for stage in refused}
    assert all(4 <= count <= 6 for count in tries.values()), tries  # at 0, 5, 15, 35, 75 s
    assert looks < 40


def test_one_that_was_refused_once_is_made_though_another_is_refused_for_good(three: Bench) -> None:
    once = {"extract-b"}

    def fault(request: Request) -> tuple[int, str] | None:
        if makes(request, "extract-b") and once:
            once.clear()
            return 500, "failed calling webhook"
        return REFUSED if makes(request, "extract-a") else None

    three.server.fault = fault
    three.run(20)
    assert "extract-b" in three.stages()
    assert "extract-a" not in three.stages()


def test_what_was_refused_is_made_when_it_is_allowed(three: Bench) -> None:
    three.server.fault = lambda request: REFUSED if makes(request, "extract-a", "extract-b") else None
    three.run(30)
    three.server.fault = lambda _request: None
    three.run(50)
    assert three.stages() >= {"extract-a", "extract-b"}
    assert three.entry("extract-a")["reason"] != "CreateFailed"
    assert three.run(600) <= 2, "it waits for nothing any more"


def test_children_of_a_stage_stay_together() -> None:
    """A gang's Job does not meet somebody else's Service in the place of its own."""
    with bench("a", before="fuse-a", nodes=2) as gang:
        gang.server.fault = lambda request: REFUSED if request.method == "POST" and request.kind == "Service" else None
        gang.run(30)
        assert len(gang.server.asked("POST", "Service")) >= 3
        assert "fuse-a" not in gang.stages()
        gang.server.fault = lambda _request: None
        gang.run(30)
        assert "fuse-a" in gang.stages()


def test_prepare_does_not_start_without_the_job_that_it_has_to_read() -> None:
    def refused(request: Request) -> tuple[int, str] | None:
        made = request.method == "POST" and request.kind == "ConfigMap"
        return (403, "exceeded quota: count/configmaps=1") if made else None

    with bench("a", before="prepare") as one:
        one.server.fault = refused
        one.run(30)
        assert one.server.all("Job") == []
        assert one.entry("prepare")["reason"] == "CreateFailed"
        assert "count/configmaps=1" in one.entry("prepare")["message"]
        one.server.fault = lambda _request: None
        one.run(120)
        assert "prepare" in one.stages()


def test_a_fusejob_that_was_edited_meanwhile_does_not_go_for_its_time_to_live() -> None:
    """The watch has not told of the edit yet."""
    with bench("a", ttlSecondsAfterFinished=3600) as one:
        metadata, spec = one.fusejob["metadata"], one.fusejob["spec"]
        long_ago = "2020-01-01T00:00:00Z"
        complete = {"type": "Complete", "status": "True", "reason": "Completed", "message": ""}
        status = one.fusejob["status"] | {
            "observedGeneration": metadata["generation"],
            "conditions": [complete | {"lastTransitionTime": long_ago}],
            "finishedAt": long_ago,
        }
        known = one.server.put("FuseJob", one.fusejob | {"status": status})
        one.cache.put("FuseJob", known)
        edited = metadata | {"generation": metadata["generation"] + 1}
        kept = {name: value for name, value in spec.items() if name != "ttlSecondsAfterFinished"}
        one.server.put("FuseJob", known | {"metadata": edited, "spec": kept})
        one.run(5)
        assert any(each.method == "DELETE" and each.kind == "FuseJob" for each in one.server.requests)
        assert "deletionTimestamp" not in one.fusejob["metadata"]


def test_an_old_configmap_that_cannot_be_deleted_does_not_keep_an_edit_from_being_planned() -> None:
    def refused(request: Request) -> tuple[int, str] | None:
        return (403, "deletion is protected") if (request.method, request.kind) == ("DELETE", "ConfigMap") else None

    with bench("a") as one:
        one.run(2)
        before = {each["metadata"]["name"] for each in one.server.all("Job") if stage_of(each) == "prepare"}
        one.server.fault = refused
        one.edit(dataset={"uri": "s3://data/other"})
        one.run(30)
        after = {each["metadata"]["name"] for each in one.server.all("Job") if stage_of(each) == "prepare"}
        assert after - before
        assert len(one.server.all("ConfigMap")) == 2
