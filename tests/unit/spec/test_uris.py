"""Relative URIs become absolute, so that a plan does not depend on the directory it is made in."""

from pathlib import Path

import pytest

from fusechat.spec.load import parse_job
from fusechat.spec.uris import absolute_uri, resolve_uris

BASE = Path("/home/me/jobs")


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("models/a", "file:///home/me/jobs/models/a"),
        ("./models/a/", "file:///home/me/jobs/models/a"),
        ("../models/a", "file:///home/me/models/a"),
        ("../../../../a", "file:///a"),
        ("/models/a", "file:///models/a"),
        ("file:models/a", "file:///home/me/jobs/models/a"),
        ("file:.fusechat", "file:///home/me/jobs/.fusechat"),
        ("file:///models/a", "file:///models/a"),
        ("file:/models/a", "file:///models/a"),
        ("file:///models/a%20b", "file:///models/a%20b"),
        ("models/a b", "file:///home/me/jobs/models/a%20b"),
        ("models/50%", "file:///home/me/jobs/models/50%25"),
        ("data/*.jsonl", "file:///home/me/jobs/data/%2A.jsonl"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("hf://me/a", "hf://me/a"),
    ],
)
def test_absolute_uri(uri: str, absolute: str) -> None:
    assert absolute_uri(uri, BASE) == absolute
    assert absolute_uri(absolute, Path("/elsewhere")) == absolute, "absolute URIs stay as they are"


def test_every_uri_of_a_job_is_resolved() -> None:
    job = parse_job(
        """
        apiVersion: fusechat.dev/v1alpha1
        kind: FuseJob
        metadata: {name: demo}
        spec:
          pivot: {name: a, model: {uri: models/a}}
          sources: [{name: b, model: {uri: hf://me/b}}, {name: c, model: {uri: models/c}}]
          dataset: {uri: hf://me/chats}
          merge: {existingTargets: [{name: d, model: {uri: models/d}}]}
          evaluation: {heldOut: {uri: held-out.jsonl}}
          publish: {uri: out}
        """,
        "job.yaml",
    )
    spec = resolve_uris(job, BASE).spec
    assert spec.pivot.model.uri == "file:///home/me/jobs/models/a"
    assert [source.model.uri for source in spec.sources] == ["hf://me/b", "file:///home/me/jobs/models/c"]
    assert spec.dataset.uri == "hf://datasets/me/chats", "a dataset of the Hub, in the form that storage reads"
    assert spec.merge.existing_targets[0].model.uri == "file:///home/me/jobs/models/d"
    assert spec.evaluation.held_out is not None
    assert spec.evaluation.held_out.uri == "file:///home/me/jobs/held-out.jsonl"
    assert spec.publish is not None
    assert spec.publish.uri == "file:///home/me/jobs/out"
    assert spec.storage.uri == "file:///home/me/jobs/.fusechat"
    assert job.spec.pivot.model.uri == "models/a", "the job itself is left alone"
    assert resolve_uris(resolve_uris(job, BASE), Path("/")) == resolve_uris(job, BASE)
