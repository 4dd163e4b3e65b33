"""Names of children: what Kubernetes takes, and never the same for two."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.manifests import Owner, child_name
from tests.unit.manifests.jobs import OWNER

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_HOST_NAME = 63
MOST_WORKERS = 1024

label = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
stage = st.from_regex(r"(extract|evaluate-merge|fuse)-[a-z]([-a-z0-9]{0,28}[a-z0-9])?", fullmatch=True)
digest = st.from_regex(r"[0-9a-f]{12}", fullmatch=True)
uid = st.uuids().map(str)
identity = st.tuples(label, uid, stage, digest, st.integers(0, 1000))


def name_of(values: tuple[str, str, str, str, int]) -> str:
    name, uid_, stage_, digest_, attempt = values
    return child_name(Owner(name, "default", uid_), stage_, digest_, attempt)


@given(identity)
def test_a_name_is_a_dns_1035_label_with_room_for_the_host_name_of_a_worker(
    values: tuple[str, str, str, str, int],
) -> None:
    name = name_of(values)
    assert DNS_1035.fullmatch(name)
    assert len(f"{name}-{MOST_WORKERS - 1}") <= LONGEST_HOST_NAME


@given(identity, identity)
def test_a_name_is_the_same_again_and_of_nothing_else(
    one: tuple[str, str, str, str, int], other: tuple[str, str, str, str, int]
) -> None:
    # the FuseJob's name follows from its UID
    assert (name_of(one) == name_of(other)) == (one[1:] == other[1:] and one[0] == other[0])


@pytest.mark.parametrize(
    "changed",
    [
        child_name(replace(OWNER, uid="another"), "fuse-a", "0" * 12, 0),
        child_name(OWNER, "fuse-b", "0" * 12, 0),
        child_name(OWNER, "fuse-a", "1" * 12, 0),
        child_name(OWNER, "fuse-a", "0" * 12, 1),
    ],
    ids=["uid", "stage", "digest", "attempt"],
)
def test_each_part_of_the_identity_changes_the_name(changed: str) -> None:
    assert changed != child_name(OWNER, "fuse-a", "0" * 12, 0)


def test_a_short_name_can_be_read() -> None:
    assert re.fullmatch(r"job-extract-a-[0-9a-f]{8}", child_name(OWNER, "extract-a", "0" * 12, 0))


def test_long_names_that_begin_alike_differ() -> None:
    owner = replace(OWNER, name="j" * 40)
    names = {child_name(owner, f"evaluate-fuse-{'s' * 29}{end}", "0" * 12, 0) for end in "abc"}
    assert len(names) == 3
    assert {len(name) for name in names} == {57}


def test_no_name_is_cut_behind_a_dash() -> None:
    owner = replace(OWNER, name="j" * 40)
    assert "--" not in child_name(owner, "extract-a", "0" * 12, 0)
