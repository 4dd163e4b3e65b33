"""Somebody who uses an installed chart with kubectl and `fusechat`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.fusejobs import Manifest, condition
from tests.cluster.installation import Installed

SECONDS = 600.0
"""Longest wait for anything; on two idle cores nothing takes more than a minute."""


@dataclass(frozen=True)
class User:
    """Somebody with kubectl and one namespace."""

    cluster: Cluster
    namespace: str
    operator: Installed

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, input=input)

    def apply(self, job: Manifest) -> str:
        return self.kubectl("apply", "--filename=-", input=json.dumps(job))

    def fusechat(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "fusechat.cli", *arguments, f"--namespace={self.namespace}"]
        environment = os.environ | self.cluster.environment
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, timeout=SECONDS
        ).stdout

    def until(self, name: str, holds: Callable[[Manifest], Any]) -> Manifest:
        """The FuseJob once that holds, of a status about the spec as it is."""

        def now(job: Manifest) -> Any:
            return job.get("status", {}).get("observedGeneration") == job["metadata"]["generation"] and holds(job)

        return self.cluster.wait_for("fusejob", name, self.namespace, now, seconds=SECONDS)

    def until_ended(self, name: str) -> Manifest:
        return self.until(name, lambda job: "True" in (condition(job, "Complete"), condition(job, "Failed")))

    def until_complete(self, name: str) -> Manifest:
        job = self.until_ended(name)
        assert condition(job, "Complete") == "True", json.dumps(job["status"], indent=1)
        return job

    def of(self, kind: str, job: Manifest, of_stage: str = "") -> list[Manifest]:
        """The FuseJob's children of a kind, maybe of one stage."""
        selector = f"fusechat.dev/job-uid={job['metadata']['uid']}"
        selector += f",fusechat.dev/stage={of_stage}" if of_stage else ""
        return self.cluster.list(kind, self.namespace, selector)

    def created(self, name: str) -> list[str]:
        """Stages for which the operator created Jobs, in order, once for each Job."""
        made = [
            event["objectRef"]["name"] for event in self.operator.requests() if _creates_a_job(event, self.namespace)
        ]
        # NAME-STAGE-HASH
        return [job.removeprefix(f"{name}-").rpartition("-")[0] for job in made if job.startswith(f"{name}-")]


def _creates_a_job(event: dict[str, Any], namespace: str) -> bool:
    what, code = event.get("objectRef", {}), event.get("responseStatus", {}).get("code")
    found = (event["verb"], what.get("resource"), what.get("namespace"), code)
    return found == ("create", "jobs", namespace, 201)
