"""What the operator knows of the cluster: FuseJobs and their children as last seen, by whoever saw them.

Three tell it: the watches, the lists that find what a watch missed, and the answers to the operator's own writes. They
come in any order, so the newest version of an object wins, and what is gone stays gone unless a newer version shows up
(a label taken off and put back). Because answers to own writes are in it at once, no pass acts twice on what it did.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Set

from fuse_operator.model import Object, Observed
from fuse_operator.resources import (
    WATCHED,
    Key,
    Kind,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
    version_of,
)
from fusechat.manifests.names import JOB, JOB_UID

_GONE_FOR_GOOD = 2**63
_REMEMBERED_GONE = 20_000


class Cache:
    """Safe for many threads. Objects are shared: nobody may change them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._objects: dict[Kind, dict[str, Object]] = {kind: {} for kind in WATCHED}
        self._children: dict[str, dict[Kind, dict[str, None]]] = {}
        self._fusejobs: dict[Key, str] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()

    def put(self, kind: Kind, value: Object) -> bool:
        """An object as someone saw it. Whether that is news."""
        value = _without_managed_fields(value)
        uid = uid_of(value)
        with self._lock:
            known = self._objects[kind].get(uid)
            seen = max(version_of(known) if known else -1, self._gone.get(uid, -1))
            if version_of(value) <= seen:
                return False
            if known:
                self._unlink(kind, known)
            self._gone.pop(uid, None)
            self._objects[kind][uid] = value
            self._link(kind, value)
            return True

    def remove(self, kind: Kind, uid: str, version: int = _GONE_FOR_GOOD) -> bool:
        """An object that was seen going at that version. Whether it was known."""
        with self._lock:
            known = self._objects[kind].get(uid)
            if known and version_of(known) > version:
                return False
            self._gone[uid] = max(version, self._gone.pop(uid, -1))
            while len(self._gone) > _REMEMBERED_GONE:
                self._gone.popitem(last=False)
            if known:
                del self._objects[kind][uid]
                self._unlink(kind, known)
            return known is not None

    def drop_missing(self, kind: Kind, namespace: str | None, present: Set[str], version: int) -> list[Object]:
        """After a whole list, taken at that version, was put: drops what it lacked. What that was."""
        gone = []
        with self._lock:
            for uid, known in list(self._objects[kind].items()):
                here = namespace is None or namespace_of(known) == namespace
                # what is newer than the list may have been made after it
                if here and uid not in present and version_of(known) <= version and self.remove(kind, uid, version):
                    gone.append(known)
        return gone

    def fusejob(self, key: Key) -> Object | None:
        """The FuseJob of that name, the newest if its name was used again."""
        with self._lock:
            uid = self._fusejobs.get(key)
            return self._objects["FuseJob"].get(uid) if uid else None

    def keys(self) -> list[Key]:
        """All FuseJobs, by name."""
        with self._lock:
            return sorted(self._fusejobs)

    def observed(self, uid: str) -> Observed:
        """The children of the FuseJob with that UID, by name."""
        with self._lock:
            kinds = self._children.get(uid, {})
            found = {
                kind: tuple(sorted((self._objects[kind][child] for child in children), key=name_of))
                for kind, children in kinds.items()
            }
        return Observed(
            jobs=found.get("Job", ()),
            pods=found.get("Pod", ()),
            services=found.get("Service", ()),
            config_maps=found.get("ConfigMap", ()),
        )

    def child(self, kind: Kind, uid: str) -> Object | None:
        """A child by UID."""
        with self._lock:
            return self._objects[kind].get(uid)

    def size(self, kind: Kind) -> int:
        """How many of a kind there are."""
        with self._lock:
            return len(self._objects[kind])

    def _link(self, kind: Kind, value: Object) -> None:
        uid = uid_of(value)
        if kind == "FuseJob":
            other = self._objects["FuseJob"].get(self._fusejobs.get(key_of(value), ""))
            if other is None or version_of(other) <= version_of(value):
                self._fusejobs[key_of(value)] = uid
        elif owner := owner_of(kind, value):
            self._children.setdefault(owner, {}).setdefault(kind, {})[uid] = None

    def _unlink(self, kind: Kind, value: Object) -> None:
        uid = uid_of(value)
        if kind == "FuseJob":
            if self._fusejobs.get(key_of(value)) == uid:
                del self._fusejobs[key_of(value)]
        elif owner := owner_of(kind, value):
            kinds = self._children.get(owner, {})
            kinds.get(kind, {}).pop(uid, None)
            if not any(kinds.values()):
                self._children.pop(owner, None)


def owner_of(kind: Kind, value: Object) -> str | None:
    """UID of the FuseJob that a child belongs to: pods by label, since Jobs own them; all else by owner reference."""
    if kind == "Pod":
        return labels_of(value).get(JOB_UID)
    for reference in value["metadata"].get("ownerReferences") or ():
        if reference.get("kind") == "FuseJob":
            return str(reference["uid"])
    return None


def key_for(kind: Kind, value: Object) -> Key | None:
    """Key of the FuseJob that has to be looked at when this object changes."""
    if kind == "FuseJob":
        return key_of(value)
    name = labels_of(value).get(JOB)
    return (namespace_of(value), name) if name else None


def _without_managed_fields(value: Object) -> Object:
    """Half of an object's size, and nobody here reads it."""
    if "managedFields" not in value["metadata"]:
        return value
    metadata = {name: item for name, item in value["metadata"].items() if name != "managedFields"}
    return {**value, "metadata": metadata}
