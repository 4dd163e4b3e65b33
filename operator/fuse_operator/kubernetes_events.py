"""Kubernetes Events about a FuseJob. The same one again is counted, not repeated."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from fuse_operator.api import FIELD_MANAGER, ApiError, Connection, Writer
from fuse_operator.model import Event, Object
from fuse_operator.resources import RESOURCES, name_of, namespace_of, uid_of

_MESSAGE_CHARACTERS = 1024


def tell(connection: Connection, writer: Writer, fusejob: Object, event: Event, now: datetime) -> None:
    """Makes the Event, or counts it once more. ApiError where that fails."""
    name = f"{name_of(fusejob)}.{_fingerprint(fusejob, event)}"
    namespace = namespace_of(fusejob)
    try:
        writer.create("Event", _event(fusejob, event, name, now))
    except ApiError as error:
        if error.code != 409:
            raise
        writer.add_to_event(namespace, name, {"lastTimestamp": _time(now), "count": _count(connection, fusejob, name)})


def _count(connection: Connection, fusejob: Object, name: str) -> int:
    query = {"fieldSelector": f"metadata.name={name}"}
    known = connection.read(RESOURCES["Event"].path(namespace_of(fusejob)), query).get("items") or []
    return int(known[0].get("count") or 1) + 1 if known else 1


def _event(fusejob: Object, event: Event, name: str, now: datetime) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace_of(fusejob)},
        "involvedObject": {
            "apiVersion": RESOURCES["FuseJob"].api_version,
            "kind": "FuseJob",
            "name": name_of(fusejob),
            "namespace": namespace_of(fusejob),
            "uid": uid_of(fusejob),
            "resourceVersion": fusejob["metadata"].get("resourceVersion", ""),
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:_MESSAGE_CHARACTERS],
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "firstTimestamp": _time(now),
        "lastTimestamp": _time(now),
        "count": 1,
    }


def _fingerprint(fusejob: Object, event: Event) -> str:
    text = "\0".join((uid_of(fusejob), event.type, event.reason, event.message))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _time(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
