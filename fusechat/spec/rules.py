"""Rules that span fields."""

from __future__ import annotations

from fusechat.errors import SpecProblem
from fusechat.spec.job import FuseJob


def broken_rules(job: FuseJob) -> list[SpecProblem]:
    """Every broken rule, without lines."""
    return [] if job.spec.sources else [SpecProblem("spec.sources", "is empty")]
