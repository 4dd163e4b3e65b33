"""The cache: whoever tells it what, in whatever order, the newest stays."""

from __future__ import annotations

from typing import Any

from fuse_operator.cache import Cache, key_for
from hypothesis import given
from hypothesis import strategies as st

from fusechat.manifests.names import JOB, JOB_UID


def _fusejob(uid: str = "u1", version: int = 1, name: str = "house") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version)}}


def _job(uid: str, version: int, owner: str = "u1", **more: Any) -> dict[str, Any]:
    metadata = {
        "name": f"job-{uid}",
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": {JOB: "house", JOB_UID: owner},
        "ownerReferences": [{"kind": "FuseJob", "uid": owner, "name": "house"}],
    }
    return {"metadata": metadata | more}


def _pod(uid: str, version: int, owner: str = "u1") -> dict[str, Any]:
    job = _job(uid, version, owner)
    job["metadata"]["ownerReferences"] = [{"kind": "Job", "uid": "j", "name": "j"}]
    return job


def _listed(cache: Cache, listed: list[dict[str, Any]], version: int, namespace: str | None = None) -> list[Any]:
    """As after a list: what was news."""
    news = [job for job in listed if cache.put("Job", job)]
    return news + cache.drop_missing("Job", namespace, {job["metadata"]["uid"] for job in listed}, version)


def test_children_are_found_by_owner() -> None:
    cache = Cache()
    cache.put("FuseJob", _fusejob())
    cache.put("Job", _job("b", 2))
    cache.put("Job", _job("a", 3))
    cache.put("Job", _job("foreign", 4, owner="u2"))
    cache.put("Pod", _pod("p", 5))

    observed = cache.observed("u1")

    assert [job["metadata"]["uid"] for job in observed.jobs] == ["a", "b"]
    assert [pod["metadata"]["uid"] for pod in observed.pods] == ["p"]
    assert cache.fusejob(("ns", "house")) == _fusejob()


def test_a_label_alone_does_not_make_a_job_a_child() -> None:
    cache = Cache()
    copied = _job("a", 1)
    del copied["metadata"]["ownerReferences"]
    cache.put("Job", copied)
    assert cache.observed("u1").jobs == ()


def test_an_older_version_is_no_news() -> None:
    cache = Cache()
    assert cache.put("Job", _job("a", 5, note="new"))
    assert not cache.put("Job", _job("a", 5, note="same"))
    assert not cache.put("Job", _job("a", 4, note="old"))
    assert cache.observed("u1").jobs[0]["metadata"]["note"] == "new"


def test_what_is_gone_does_not_come_back_with_an_old_list() -> None:
    cache = Cache()
    cache.put("Job", _job("a", 5))
    assert cache.remove("Job", "a", 8)
    assert not cache.put("Job", _job("a", 6))
    assert _listed(cache, [_job("a", 7)], 7) == []
    assert cache.observed("u1").jobs == ()


def test_what_lost_its_label_and_got_it_back_is_there_again() -> None:
    cache = Cache()
    cache.put("Job", _job("a", 5))
    cache.remove("Job", "a", 8)  # as a watch with a selector tells that it no longer matches
    assert cache.put("Job", _job("a", 9))
    assert len(cache.observed("u1").jobs) == 1


def test_an_old_deletion_does_not_remove_a_newer_version() -> None:
    cache = Cache()
    cache.put("Job", _job("a", 9))
    assert not cache.remove("Job", "a", 8)
    assert len(cache.observed("u1").jobs) == 1


def test_a_list_drops_what_it_lacks_and_keeps_what_is_newer_than_it() -> None:
    cache = Cache()
    for job in (_job("gone", 3), _job("stays", 4), _job("made-later", 12)):
        cache.put("Job", job)

    news = _listed(cache, [_job("stays", 4), _job("unseen", 6)], 10)

    assert sorted(job["metadata"]["uid"] for job in news) == ["gone", "unseen"]
    assert [job["metadata"]["uid"] for job in cache.observed("u1").jobs] == ["made-later", "stays", "unseen"]
    assert key_for("Job", news[0]) == ("ns", "house")


def test_a_list_of_one_namespace_says_nothing_about_others() -> None:
    cache = Cache()
    cache.put("Job", _job("a", 1))
    assert _listed(cache, [], 10, "other") == []
    assert len(cache.observed("u1").jobs) == 1


def test_a_name_that_was_used_again_means_the_newer_one() -> None:
    cache = Cache()
    cache.put("FuseJob", _fusejob("old", 1))
    cache.put("FuseJob", _fusejob("new", 5))
    cache.remove("FuseJob", "old", 3)
    found = cache.fusejob(("ns", "house"))
    assert found is not None
    assert found["metadata"]["uid"] == "new"
    cache.remove("FuseJob", "new", 7)
    assert cache.fusejob(("ns", "house")) is None
    assert cache.keys() == []


def test_managed_fields_are_not_kept() -> None:
    cache = Cache()
    cache.put("Job", _job("a", 1, managedFields=[{"manager": "x"}]))
    assert "managedFields" not in cache.observed("u1").jobs[0]["metadata"]


_NEWS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12)


@given(_NEWS, st.randoms(use_true_random=False))
def test_the_order_in_which_news_arrive_makes_no_difference(news: list[tuple[str, bool]], order: Any) -> None:
    """One history; told in order and in any other, to the same end. A deleted UID stays deleted, as in a cluster."""
    history = []
    dead: set[str] = set()
    for version, (uid, deleted) in enumerate(news, start=1):
        if uid not in dead:
            history.append((uid, version, deleted))
        if deleted:
            dead.add(uid)
    shuffled = list(history)
    order.shuffle(shuffled)
    ends = []
    for told in (history, shuffled):
        cache = Cache()
        for uid, version, deleted in told:
            if deleted:
                cache.remove("Job", uid, version)
            else:
                cache.put("Job", _job(uid, version))
        ends.append(cache.observed("u1").jobs)
    assert ends[0] == ends[1]
