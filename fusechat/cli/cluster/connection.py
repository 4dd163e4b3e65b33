"""One cluster and one namespace in it: the few requests that the commands make, with errors that say what to do.

Objects are plain JSON mappings as the API server gives them. Requests have time limits and are not repeated here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fusechat.cli.cluster.kubeconfig import load
from fusechat.cli.cluster.refusals import FIELD_MANAGER, ObjectNotFoundError, Refusal, as_error, explained
from fusechat.errors import FuseChatError, MissingInputError
from fusechat.spec.job import API_VERSION
from fusechat.spec.keys import nearest

Object = Mapping[str, Any]
PLURAL = "fusejobs"
TIMEOUT = (30.0, 30.0)
"""Seconds to connect, a busy server's TLS handshake included, and to wait for an answer."""
SILENCE_SECONDS = 1800.0
"""A log that is followed and says nothing for so long is asked for again."""
_UNREAD: dict[str, Any] = {"_preload_content": False, "_request_timeout": TIMEOUT}
"""The client's own reading drops answers with code 201, and its typed models refuse `nvidia.com/gpu: 8`."""
_GROUP, _, _VERSION = API_VERSION.partition("/")


@dataclass(frozen=True)
class Applied:
    """What applying a document came to."""

    job: Object
    change: str
    """`created`, `configured` or `unchanged`."""


@dataclass(frozen=True)
class Cluster:
    """A connection to one namespace."""

    client: Any
    """kubernetes.client.ApiClient"""
    server: str
    namespace: str

    @classmethod
    def connect(cls, context: str | None = None, namespace: str | None = None) -> Cluster:
        """See kubeconfig.load; a namespace that is given wins over the context's. Nothing is sent yet."""
        configuration, usual = load(context)
        from kubernetes.client import ApiClient

        return cls(ApiClient(configuration), configuration.host, namespace or usual)

    def job(self, name: str) -> Object:
        """The FuseJob. MissingInputError, naming near ones, if there is none."""
        found = self._job_if_any(name)
        if found is None:
            raise self._no_job(name)
        return found

    def jobs(self) -> list[Object]:
        """All FuseJobs of the namespace, by name."""
        with explained(self.server):
            answer = self._objects.list_namespaced_custom_object(*self._place, **_UNREAD)
            found = self._json(answer)["items"]
        return sorted(found, key=lambda job: str(job["metadata"]["name"]))

    def apply(self, document: Object, *, force: bool = False, dry_run: bool = False) -> Applied:
        """Server-side apply: the document's fields become so, others stay. SpecError for what is refused."""
        name = document["metadata"]["name"]
        before = self._job_if_any(name)
        asked: dict[str, Any] = {"dry_run": "All"} if dry_run else {}
        after = self._patched(name, document, "application/apply-patch+yaml", force=force, **asked)
        if before is None:
            return Applied(after, "created")
        return Applied(after, "unchanged" if _wanted(before) == _wanted(after) else "configured")

    def patch(self, name: str, change: Object) -> Object:
        """JSON merge patch of a FuseJob. MissingInputError if there is none."""
        try:
            return self._patched(name, change, "application/merge-patch+json")
        except ObjectNotFoundError as error:
            raise self._no_job(name) from error

    def _patched(self, name: str, body: Object, content_type: str, **asked: Any) -> Object:
        with explained(self.server):
            answer = self._objects.patch_namespaced_custom_object(
                *self._place,
                name,
                dict(body),
                field_manager=FIELD_MANAGER,
                field_validation="Strict",
                _content_type=content_type,
                **_UNREAD,
                **asked,
            )
            return self._json(answer)

    def changes(self, job: Object, seconds: int) -> Iterator[tuple[str, Object]]:
        """(`ADDED`, `MODIFIED` or `DELETED`; the FuseJob) for each change after this version of it, so many seconds
        long. Ends early where the API server ends it or no longer knows the version: then read the FuseJob again."""
        metadata = job["metadata"]
        with explained(self.server):
            answer = self._objects.list_namespaced_custom_object(
                *self._place,
                field_selector=f"metadata.name={metadata['name']}",
                resource_version=metadata["resourceVersion"],
                watch=True,
                timeout_seconds=seconds,
                _preload_content=False,
                _request_timeout=(TIMEOUT[0], seconds + TIMEOUT[1]),
            )
            for line in self._lines(answer):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                yield event["type"], event["object"]

    def pods(self, labels: Mapping[str, str]) -> list[Object]:
        """Pods with these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        with explained(self.server):
            answer = self._core.list_namespaced_pod(self.namespace, label_selector=selector, **_UNREAD)
            return list(self._json(answer)["items"])

    def pod(self, name: str) -> Object | None:
        """A pod; None if there is none of that name."""
        try:
            with explained(self.server):
                return self._json(self._core.read_namespaced_pod(name, self.namespace, **_UNREAD))
        except ObjectNotFoundError:
            return None

    def log(self, pod: str, *, container: str, tail: int | None = None) -> Iterator[str]:
        """Lines of a pod's log so far."""
        more = {} if tail is None else {"tail_lines": tail}
        with explained(self.server):
            yield from self._log(pod, container=container, _request_timeout=TIMEOUT, **more)

    def following_log(
        self, pod: str, *, container: str, tail: int | None = None, since_seconds: int | None = None
    ) -> Iterator[tuple[str, str]]:
        """(time, line) of a pod's log as they come, until the container or the connection ends. Times are RFC 3339."""
        asked = {"tail_lines": tail, "since_seconds": since_seconds}
        more = {name: value for name, value in asked.items() if value is not None}
        with explained(self.server):
            lines = self._log(
                pod,
                container=container,
                follow=True,
                timestamps=True,
                _request_timeout=(TIMEOUT[0], SILENCE_SECONDS),
                **more,
            )
            for line in lines:
                stamp, _, text = line.partition(" ")
                yield stamp, text

    def _log(self, pod: str, **asked: Any) -> Iterator[str]:
        answer = self._core.read_namespaced_pod_log(pod, self.namespace, _preload_content=False, **asked)
        return self._lines(answer)

    @property
    def _objects(self) -> Any:
        from kubernetes.client import CustomObjectsApi

        return CustomObjectsApi(self.client)

    @property
    def _core(self) -> Any:
        from kubernetes.client import CoreV1Api

        return CoreV1Api(self.client)

    @property
    def _place(self) -> tuple[str, str, str, str]:
        return _GROUP, _VERSION, self.namespace, PLURAL

    def _job_if_any(self, name: str) -> Object | None:
        try:
            with explained(self.server):
                return self._json(self._objects.get_namespaced_custom_object(*self._place, name, **_UNREAD))
        except ObjectNotFoundError:
            return None

    def _no_job(self, name: str) -> FuseChatError:
        names = [str(job["metadata"]["name"]) for job in self.jobs()]
        near = nearest(name, names)
        hint = "`fusechat submit JOB.yaml` creates one; another namespace is named with --namespace."
        if names:
            hint = f"There are: {', '.join(names[:20])}."
        if near:
            hint = f"Did you mean {' or '.join(near)}?"
        return MissingInputError(f"There is no FuseJob {name} in namespace {self.namespace}.", hint=hint)

    def _json(self, answer: Any) -> Object:
        found: Object = json.loads(self._body(answer))
        return found

    def _body(self, answer: Any) -> bytes:
        """The whole of an answer that was not read yet; the client has not looked at its code either."""
        body: bytes = answer.data if getattr(answer, "data", None) else answer.read()
        if not 200 <= answer.status <= 299:
            raise as_error(Refusal.of(answer.status, body), self.server)
        return body

    def _lines(self, answer: Any) -> Iterator[str]:
        """Lines of an answer as they arrive; the connection is closed however the reader goes."""
        if not 200 <= answer.status <= 299:
            self._body(answer)
        response = getattr(answer, "response", answer)
        rest = b""
        try:
            for piece in response.stream(amt=None, decode_content=False):
                *lines, rest = (rest + piece).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in lines)
            if rest:
                yield rest.decode("utf-8", "replace")
        finally:
            response.close()


def _wanted(job: Object) -> tuple[Any, Any, Any]:
    """What a person or a tool says about a job; the rest is the cluster's own."""
    metadata = job["metadata"]
    return job.get("spec"), metadata.get("labels"), metadata.get("annotations")
