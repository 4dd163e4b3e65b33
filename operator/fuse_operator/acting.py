"""Actions of a decision carried out against the API server, each answer put into the cache.

Every write names the one object it means. Where the object turns out to be another, or gone, nothing is done, what is
really there goes into the cache, and the FuseJob is looked at again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass

from fuse_operator.api import ApiError, Connection, Writer
from fuse_operator.cache import Cache
from fuse_operator.logs import fields
from fuse_operator.model import Action, ChildKind, Create, Delete, DeleteFuseJob, Object, Propagation, Refused, Suspend
from fuse_operator.refusals import Refusals, target_of
from fuse_operator.resources import Kind, is_being_deleted, key_of, labels_of, name_of, namespace_of, uid_of
from fusechat.manifests.names import ATTEMPT, DIGEST, STAGE
from fusechat.manifests.planned_spec import SPEC
from fusechat.plan.kinds.prepare import PREPARE

_log = logging.getLogger(__name__)
_TRANSIENT = frozenset({0, 401, 408, 409, 429, 503, 504})
_TRANSIENT_OF_KNOWN = _TRANSIENT | {500, 502}
"""Of a delete or patch: no fault of what is asked for, as a child's manifest may be when a webhook fails over it."""


class LookAgainError(Exception):
    """The cluster is not as it was observed; the cache knows better now."""


class RefusedError(Exception):
    """A write was refused, and the status should say so. It may be tried again in so many seconds."""

    def __init__(self, again_in: float) -> None:
        super().__init__(f"refused, to be tried again in {again_in:.1f} s")
        self.again_in = again_in


@dataclass(frozen=True)
class ActionResult:
    """What became of a decision's actions."""

    changed: bool
    """Whether one was carried out."""
    refused: bool
    """Whether one was refused."""
    again_in: float | None
    """Seconds until the first of what was refused may be tried again."""


class Actor:
    """Carries out decisions; remembers per child what was refused, and when it may be tried again."""

    def __init__(
        self, connection: Connection, writer: Writer, cache: Cache, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._cache = cache
        self._refusals = Refusals(clock)

    def refused(self, fusejob: Object) -> Mapping[str, Refused]:
        """Name of a child -> why it could not be made, of that FuseJob."""
        return self._refusals.of(fusejob)

    def forget(self, uid: str) -> None:
        """The FuseJob is gone."""
        self._refusals.forget(uid)

    def carry_out(self, fusejob: Object, actions: Iterable[Action]) -> ActionResult:
        """In order. What is refused ends the actions of its stage, whose Job must not meet somebody else's Service in
        the place of its own; other stages go on. LookAgainError or ApiError ends them all."""
        actions = tuple(actions)
        self._refusals.keep(fusejob, {target_of(action) for action in actions})
        changed, ended, waits = False, set(), []
        for action in actions:
            stage = self._stage(action)
            if stage in ended:
                continue
            try:
                self.do(fusejob, action)
                changed = True
            except RefusedError as error:
                ended.add(stage)
                waits.append(error.again_in)
        return ActionResult(changed, bool(ended), min(waits, default=None))

    def do(self, fusejob: Object, action: Action) -> None:
        """One action. LookAgainError, RefusedError, or ApiError where it may simply be tried again."""
        match action:
            case Create(manifest):
                self._create(fusejob, manifest)
            case Delete(kind, name, uid, propagation):
                self._delete(fusejob, kind, name, uid, propagation)
            case Suspend():
                self._suspend(fusejob, action)
            case DeleteFuseJob(uid):
                self._delete_fusejob(fusejob, uid)

    def _create(self, fusejob: Object, manifest: Object) -> None:
        name, kind = name_of(manifest), manifest["kind"]
        if (wait := self._refusals.wait(fusejob, (kind, name))) > 0:
            raise RefusedError(wait)
        try:
            made = self._writer.create(kind, manifest)
        except ApiError as error:
            if error.code == 409:
                made = self._existing(fusejob, manifest, error)
            else:
                raise self._refusal(fusejob, kind, name, error) from error
        self._cache.put(kind, {"kind": kind, "apiVersion": manifest["apiVersion"], **made})
        self._refusals.remove(fusejob, (kind, name))
        self._tell(fusejob, "create", kind, name)

    def _existing(self, fusejob: Object, manifest: Object, error: ApiError) -> Object:
        """What is there under that name, if it is the very child that was to be made."""
        kind, name = manifest["kind"], name_of(manifest)
        found = self._connection.find(kind, namespace_of(manifest), name)
        if found is None:
            raise LookAgainError(f"{kind} {name} went away") from error
        if not _owned(found, fusejob) or not _same_run(found, manifest):
            message = f"A {kind} named {name} exists and is not this FuseJob's. Delete it if nobody needs it."
            raise self._refusal(fusejob, kind, name, ApiError(422, "Foreign", message)) from error
        self._cache.put(kind, found)
        if is_being_deleted(found):
            raise LookAgainError(f"{kind} {name} is being deleted") from error
        return found

    def _delete(self, fusejob: Object, kind: ChildKind, name: str, uid: str, propagation: Propagation) -> None:
        namespace = namespace_of(fusejob)
        try:
            rest = self._writer.delete(kind, namespace, name, uid, propagation)
        except ApiError as error:
            if error.code not in (404, 409):
                raise self._refusal(fusejob, kind, name, error, _TRANSIENT_OF_KNOWN) from error
            self._refusals.remove(fusejob, (kind, name))
            if error.code == 404:
                self._cache.remove(kind, uid)
                return
            self._look(kind, namespace, name, uid)
            raise LookAgainError(f"{kind} {name} is another one now") from error
        self._refusals.remove(fusejob, (kind, name))
        if rest.get("kind") == kind:
            self._cache.put(kind, rest)
        else:
            self._cache.remove(kind, uid)
        self._tell(fusejob, "delete", kind, name, propagation=propagation)

    def _suspend(self, fusejob: Object, action: Suspend) -> None:
        name, uid = action.name, action.uid
        known = self._cache.child("Job", uid)
        if known is None:
            raise LookAgainError(f"Job {name} went away")
        try:
            changed = self._writer.merge("Job", known, action.patch)
        except ApiError as error:
            if error.code not in (404, 409):
                raise self._refusal(fusejob, "Job", name, error, _TRANSIENT_OF_KNOWN) from error
            self._refusals.remove(fusejob, ("Job", name))
            self._look("Job", namespace_of(fusejob), name, uid)
            raise LookAgainError(f"Job {name} has changed") from error
        self._refusals.remove(fusejob, ("Job", name))
        self._cache.put("Job", changed)
        self._tell(fusejob, "suspend" if action.suspend else "resume", "Job", name)

    def _delete_fusejob(self, fusejob: Object, uid: str) -> None:
        namespace, name = key_of(fusejob)
        # somebody may just have edited it: what was not seen yet must not be deleted
        version = fusejob["metadata"]["resourceVersion"]
        try:
            rest = self._writer.delete("FuseJob", namespace, name, uid, "Foreground", version=version)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            self._look("FuseJob", namespace, name, uid)
            raise LookAgainError(f"FuseJob {name} has changed") from error
        if rest.get("kind") == "FuseJob":
            self._cache.put("FuseJob", rest)
        self._tell(fusejob, "delete", "FuseJob", name, reason="its time to live has passed")

    def _look(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Puts what is really there into the cache."""
        found = self._connection.find(kind, namespace, name)
        if found is None or uid_of(found) != uid:
            self._cache.remove(kind, uid)
        if found is not None:
            self._cache.put(kind, found)

    def _refusal(
        self, fusejob: Object, kind: Kind, name: str, error: ApiError, transient: Set[int] = _TRANSIENT
    ) -> Exception:
        """Remembers it, for the status; what passes by itself is only raised again."""
        if error.code in transient:
            return error
        self._refusals.add(fusejob, (kind, name), error)
        namespace, job = key_of(fusejob)
        _log.warning(
            "refused",
            extra=fields(namespace=namespace, name=job, kind=kind, child=name, code=error.code, reason=error.message),
        )
        return RefusedError(self._refusals.wait(fusejob, (kind, name)))

    def _stage(self, action: Action) -> str:
        """Of the Job that it means, or of the child that it makes. Else its kind and name: what is in nobody's way is
        deleted for tidiness alone."""
        kind, name = target_of(action)
        if isinstance(action, Delete) and kind in ("ConfigMap", "Service"):
            return f"{kind}/{name}"
        child = action.manifest if isinstance(action, Create) else self._cache.child(kind, action.uid)
        return (stage_of_child(child) if child else "") or f"{kind}/{name}"

    @staticmethod
    def _tell(fusejob: Object, action: str, kind: str, child: str, **more: str) -> None:
        namespace, name = key_of(fusejob)
        _log.info(action, extra=fields(namespace=namespace, name=name, action=action, kind=kind, child=child, **more))


def stage_of_child(child: Object) -> str:
    """The stage that cannot do without it; "" if it says none. The job's own ConfigMap is prepare's."""
    stage = labels_of(child).get(STAGE, "")
    return PREPARE if stage == SPEC else stage


def _owned(value: Object, fusejob: Object) -> bool:
    references = value["metadata"].get("ownerReferences") or ()
    return any(each.get("uid") == uid_of(fusejob) for each in references)


def _same_run(value: Object, manifest: Object) -> bool:
    """Whether both are the same attempt at the same stage."""
    found, wanted = labels_of(value), labels_of(manifest)
    return all(found.get(label) == wanted.get(label) for label in (DIGEST, ATTEMPT))
