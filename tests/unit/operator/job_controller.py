"""The Job controller and the garbage collector of the simulated cluster: functions over a `Store`.

What they keep of Kubernetes: a Job that runs has a pod for every index that is neither done nor given up; each ended
pod is counted once; podFailurePolicy, both backoff limits and `suspend` are obeyed; a Job has failed only when its last
pod has ended; pods whose Job is gone are told to stop. What the controller must remember is in the Job's status, under
names that begin with `_`.
"""

from __future__ import annotations

import copy

from tests.unit.operator.store import (
    COMPLETE,
    FAILED,
    INDEX,
    SUSPENDED,
    Json,
    Store,
    exit_code,
    has_ended,
    index_of,
    is_deleted,
    is_disrupted,
    owner_of,
)


def run(store: Store) -> None:
    """Every Job once, then the collector."""
    for job in list(store.jobs.values()):
        if is_deleted(job):
            _delete_after_pods(store, job)
        elif not _is_finished(job):
            _sync(store, job)
    for pod in store.pods.values():
        if owner_of(pod) and store.job_of(pod) is None:
            store.mark_deleted(pod)


def count_vanished(job: Json, pod: Json) -> None:
    """A pod that is gone without a word has failed unless it had ended well."""
    status, uid = job["status"], pod["metadata"]["uid"]
    seen = status.setdefault("_seen", [])
    if uid in seen:
        return
    seen.append(uid)
    if pod["status"]["phase"] == "Succeeded":
        _count_success(job, pod)
    else:
        status["failed"] = status.get("failed", 0) + 1


def _delete_after_pods(store: Store, job: Json) -> None:
    uid = job["metadata"]["uid"]
    store.stop_pods(uid)
    if not store.pods_of(uid):
        del store.jobs[job["metadata"]["name"]]


def _is_finished(job: Json) -> bool:
    return any(condition["type"] in (COMPLETE, FAILED) for condition in job["status"].get("conditions", ()))


def _sync(store: Store, job: Json) -> None:
    uid, spec, status = job["metadata"]["uid"], job["spec"], job["status"]
    pods = store.pods_of(uid)
    _count(job, pods)
    if len(set(status["_done"])) >= spec["completions"]:
        _say(store, job, COMPLETE, "CompletionsReached", "")
    elif failure := _failure(job):
        _fail(store, job, pods, failure)
    elif spec.get("suspend"):
        _say_whether_suspended(store, job, True)
        store.stop_pods(uid)
    else:
        _say_whether_suspended(store, job, False)
        status.setdefault("startTime", store.time)
        _make_missing_pods(store, job, pods)


def _count(job: Json, pods: list[Json]) -> None:
    """Each ended pod once, as the finalizer has it."""
    status = job["status"]
    for key in ("_seen", "_done", "_out"):
        status.setdefault(key, [])
    for pod in pods:
        uid = pod["metadata"]["uid"]
        if not has_ended(pod) or uid in status["_seen"]:
            continue
        status["_seen"].append(uid)
        if pod["status"]["phase"] == "Succeeded":
            _count_success(job, pod)
        else:
            _count_failure(job, pod)
    status["succeeded"] = len(status["_done"])


def _count_success(job: Json, pod: Json) -> None:
    done = job["status"].setdefault("_done", [])
    if index_of(pod) not in done:
        done.append(index_of(pod))


def _count_failure(job: Json, pod: Json) -> None:
    spec, status, index = job["spec"], job["status"], index_of(pod)
    action, rule = _action(spec, pod)
    if action == "Ignore":
        return
    status["failed"] = status.get("failed", 0) + 1
    failures = status.setdefault("_failures", {})
    failures[index] = failures.get(index, 0) + 1
    if action == "FailJob":
        status["_fail"] = _words(pod, rule)
    out = status["_out"]
    if "backoffLimitPerIndex" in spec and failures[index] > spec["backoffLimitPerIndex"] and index not in out:
        out.append(index)


def _action(spec: Json, pod: Json) -> tuple[str, int]:
    """The first rule of the podFailurePolicy that the pod meets: what it says, and its index."""
    for index, rule in enumerate(spec["podFailurePolicy"]["rules"]):
        if _is_met(rule, pod):
            return str(rule["action"]), index
    return "Count", -1


def _is_met(rule: Json, pod: Json) -> bool:
    if "onPodConditions" in rule:
        return is_disrupted(pod)
    assert rule["onExitCodes"]["operator"] == "In"
    return exit_code(pod) in rule["onExitCodes"]["values"]


def _words(pod: Json, rule: int) -> str:
    name, matching = pod["metadata"]["name"], f"matching FailJob rule at index {rule}"
    if is_disrupted(pod):
        return f"Pod lab/{name} has condition DisruptionTarget {matching}"
    return f"Container stage for pod lab/{name} failed with exit code {exit_code(pod)} {matching}"


def _failure(job: Json) -> tuple[str, str] | None:
    """Reason and message, if the Job is to fail."""
    spec, status = job["spec"], job["status"]
    if "_fail" in status:
        return "PodFailurePolicy", status["_fail"]
    if "backoffLimitPerIndex" in spec:
        finished = set(status["_done"]) | set(status["_out"])
        left = status["_out"] and len(finished) >= spec["completions"]
        return ("FailedIndexes", "Job has failed indexes") if left else None
    if status.get("failed", 0) > spec["backoffLimit"]:
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    return None


def _fail(store: Store, job: Json, pods: list[Json], failure: tuple[str, str]) -> None:
    """The target first; the Job has failed when no pod is left that has not ended."""
    left = [pod for pod in pods if not has_ended(pod)]
    for pod in left:
        store.mark_deleted(pod)
    _say(store, job, "FailureTarget" if left else FAILED, *failure)


def _say(store: Store, job: Json, kind: str, reason: str, message: str) -> None:
    conditions = job["status"].setdefault("conditions", [])
    if all(condition["type"] != kind for condition in conditions):
        conditions.append(store.true_condition(kind, reason, message))


def _say_whether_suspended(store: Store, job: Json, suspended: bool) -> None:
    """A Job that is resumed starts anew; until then its startTime is the old one."""
    conditions = job["status"].setdefault("conditions", [])
    said = next((each for each in conditions if each["type"] == SUSPENDED), None)
    if said is None and suspended:
        conditions.append(store.true_condition(SUSPENDED, "JobSuspended", ""))
    elif said is not None and said["status"] != str(suspended):
        said |= {"status": str(suspended), "lastTransitionTime": store.time}
        if not suspended:
            job["status"]["startTime"] = store.time


def _make_missing_pods(store: Store, job: Json, pods: list[Json]) -> None:
    served = {*job["status"]["_done"], *job["status"]["_out"]}
    served |= {index_of(pod) for pod in pods if pod["status"]["phase"] in ("Pending", "Running")}
    for index in range(job["spec"]["completions"]):
        if index not in served:
            _make_pod(store, job, index)


def _make_pod(store: Store, job: Json, index: int) -> None:
    metadata, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
    name = f"{metadata['name']}-{index}-{store.uids}"
    annotations = template["metadata"].get("annotations", {}) | {INDEX: str(index)}
    owner = {"kind": "Job", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    store.pods[name] = {
        "metadata": {
            "name": name,
            "uid": store.uid(),
            "labels": template["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
        "status": {"phase": "Pending"},
    }
