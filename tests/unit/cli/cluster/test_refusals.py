"""Answers of an API server as errors: their class, what they name, and the hint."""

from __future__ import annotations

import json

import pytest
from kubernetes.client.exceptions import ApiException

from fusechat import errors
from fusechat.cli.cluster.refusals import ObjectNotFoundError, Refusal, as_error, explained

SERVER = "https://cluster"


def refused(code: int, message: str = "", **details: object) -> errors.FuseChatError:
    status = {"kind": "Status", "code": code, "message": message, "details": details}
    return as_error(Refusal.of(code, json.dumps(status)), SERVER)


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (401, errors.NoPermissionError, 77),
        (403, errors.NoPermissionError, 77),
        (404, ObjectNotFoundError, 66),
        (409, errors.TemporaryError, 75),
        (418, errors.ConfigurationError, 78),
        (422, errors.ConfigurationError, 78),
        (429, errors.TemporaryError, 75),
        (500, errors.TemporaryError, 75),
        (503, errors.TemporaryError, 75),
    ],
)
def test_classes(code: int, kind: type[errors.FuseChatError], exit_code: int) -> None:
    error = refused(code, "because of x")
    assert type(error) is kind
    assert error.exit_code == exit_code


def test_an_unknown_kind_is_told_from_an_unknown_object() -> None:
    error = as_error(Refusal.of(404, b"404 page not found\n"), SERVER)
    assert type(error) is errors.ConfigurationError
    assert "does not know FuseJobs" in error.message
    assert "helm install" in error.hint
    assert "--set registry=" in error.hint, "no images are where the chart looks by itself"
    namespace = refused(404, 'namespaces "x" not found', kind="namespaces", name="x")
    assert type(namespace) is errors.MissingInputError
    assert "kubectl create namespace x" in namespace.hint


def test_a_conflict_names_fields_and_owners() -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "argocd" using v1', "field": ".spec.seed"},
        {"reason": "FieldManagerConflict", "message": 'conflict with "argocd"', "field": ".spec.suspend"},
    ]
    error = refused(409, "Apply failed with 2 conflicts", causes=causes)
    assert type(error) is errors.ConfigurationError
    assert "spec.seed, spec.suspend by argocd" in error.message
    assert "--force" in error.hint


def test_a_conflict_with_the_commands_themselves_is_told_as_one() -> None:
    causes = [{"message": 'conflict with "fusechat" using fusechat.dev/v1alpha1', "field": ".spec.suspend"}]
    error = refused(409, "Apply failed with 1 conflict", causes=causes)
    assert type(error) is errors.ConfigurationError
    assert "spec.suspend by `fusechat suspend`" in error.message
    assert "somebody else" not in error.message
    assert "out of the file" in error.hint
    assert "--force" in error.hint
    mixed = refused(409, "2 conflicts", causes=[*causes, {"message": 'conflict with "argocd"', "field": ".spec.seed"}])
    assert "spec.suspend by `fusechat suspend`, `resume` or `retry`; spec.seed by argocd" in mixed.message


def test_whoever_may_not_is_told_what_to_ask_for_with_and_without_the_charts_roles() -> None:
    hint = refused(403, 'User "me" cannot list resource "fusejobs" in API group "fusechat.dev"').hint
    assert "role `edit`" in hint
    assert "rbac.aggregate=false" in hint


def test_who_may_not_read_logs_is_told_what_to_ask_for() -> None:
    error = refused(403, 'pods is forbidden: User "me" cannot list resource "pods" in API group ""', kind="pods")
    assert "role `view`" in error.hint
    assert "pods/log" in error.hint


@pytest.mark.parametrize(
    "message",
    [
        'fusejobs.fusechat.dev "demo" is forbidden: exceeded quota: small, requested: count/fusejobs.fusechat.dev=1',
        'fusejobs "demo" is forbidden: unable to create new content in namespace x because it is being terminated',
        'admission webhook "policy.example.org" denied the request: no',
    ],
)
def test_what_no_role_would_change_sends_nobody_after_one(message: str) -> None:
    error = refused(403, message)
    assert message in error.message
    assert "edit" not in error.hint
    assert "no matter of your role" in error.hint


def test_whom_the_cluster_takes_for_nobody_is_to_log_in() -> None:
    error = refused(403, 'fusejobs is forbidden: User "system:anonymous" cannot list resource "fusejobs"')
    assert "credentials" in error.message
    assert "Log in" in error.hint


def test_rules_of_the_cluster_read_like_those_of_validate() -> None:
    causes = [
        {"reason": "FieldValueInvalid", "message": "Invalid value: 0: must be at least 1", "field": "spec.threads"},
        {"reason": "FieldValueInvalid", "message": 'Invalid value: "object": two are named a', "field": "<nil>"},
        {"message": "Invalid value: null: some validation rules were not checked because ...", "field": "<nil>"},
    ]
    error = refused(422, "is invalid", causes=causes)
    assert isinstance(error, errors.SpecError)
    assert [(p.path, p.message) for p in error.problems] == [
        ("spec.threads", "Invalid value: 0: must be at least 1"),
        ("", "two are named a"),
    ]


def test_fields_that_the_cluster_does_not_know_are_named() -> None:
    error = refused(400, 'failed to create: strict decoding error: unknown field "spec.sed", duplicate field "spec.a"')
    assert isinstance(error, errors.SpecError)
    assert [(p.path, p.message) for p in error.problems] == [
        ("spec.sed", "is no field here"),
        ("spec.a", "is given twice"),
    ]


@pytest.mark.parametrize(
    ("message", "paths"),
    [
        (".spec.evaluation.sampleTokens: field not declared in schema", ["spec.evaluation.sampleTokens"]),
        (
            'errors:\n  .spec.a: field not declared in schema\n  .spec.b[name="x"].c: field not declared in schema',
            ["spec.a", 'spec.b[name="x"].c'],
        ),
    ],
)
def test_an_older_resource_definition_is_no_trouble_that_passes(message: str, paths: list[str]) -> None:
    error = refused(
        500, f"failed to create typed patch object (x/demo; fusechat.dev/v1alpha1, Kind=FuseJob): {message}"
    )
    assert isinstance(error, errors.SpecError)
    assert [problem.path for problem in error.problems] == paths
    assert all("helm upgrade" in problem.hint for problem in error.problems)


@pytest.mark.parametrize("words", ["SSLError\n[SSL] PEM lib (_ssl.c:3905)", "[X509: NO_CERTIFICATE_OR_CRL_FOUND] none"])
def test_a_certificate_of_ones_own_that_cannot_be_read_is_no_silence_of_the_cluster(words: str) -> None:
    with (
        pytest.raises(errors.ConfigurationError, match="in the kubeconfig cannot be read") as refusal,
        explained(SERVER),
    ):
        raise ApiException(status=0, reason=words)
    assert "\n" not in refusal.value.message


def test_long_answers_are_cut_and_empty_ones_have_words() -> None:
    assert len(Refusal.of(500, "x" * 5000).message) < 700
    assert Refusal.of(500, None).message == "HTTP status 500"
    assert Refusal.of(500, b"\xff").message == "\ufffd"
