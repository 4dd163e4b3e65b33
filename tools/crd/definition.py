"""The CustomResourceDefinition around the schema: names, version, columns, the status subresource."""

from __future__ import annotations

from typing import Any

import yaml
from annotated_types import MaxLen

from fusechat.spec import fields
from fusechat.spec.job import API_VERSION, KIND, FuseJob, FuseJobSpec, Metadata
from fusechat.spec.load import ON_A_CLUSTER
from fusechat.spec.rules.rule import text
from fusechat.spec.status import FuseJobStatus
from tools.crd.schema import Admission, Schema, Writer

GROUP, _, VERSION = API_VERSION.partition("/")
PLURAL = "fusejobs"
NAME = f"{PLURAL}.{GROUP}"

ADMISSION = Admission.of(ON_A_CLUSTER)
STATUS = Admission({}, {"status.conditions": ("type",), "status.stages": ("name",)}, frozenset())
_NOT_SEEN = {"observedGeneration": -1}
"""So that nothing takes a new object, which no operator has seen, for a finished one."""


def custom_resource_definition() -> dict[str, Any]:
    """The CustomResourceDefinition as a plain object."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["fj"],
                "categories": ["all"],
            },
            "versions": [_version()],
        },
    }


def crd_yaml() -> str:
    """The same as YAML, with a line that says where it comes from."""
    made = yaml.safe_dump(custom_resource_definition(), sort_keys=False, width=120, allow_unicode=True)
    return f"# Written by `python -m tools.generated` from fusechat/spec; do not edit.\n{made}"


def _version() -> Schema:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _document()},
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(),
    }


def _document() -> Schema:
    """The schema of the whole object."""
    described = {key: _line(info.description) for key, info in fields.keys(FuseJob).items()}
    return {
        "description": _line(FuseJob.__doc__),
        "type": "object",
        "properties": {
            "apiVersion": {"description": described["apiVersion"], "type": "string"},
            "kind": {"description": described["kind"], "type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": {"description": described["spec"], **Writer(ADMISSION).value(FuseJobSpec, "spec")},
            "status": {
                "description": _line(FuseJobStatus.__doc__),
                **Writer(STATUS, defaults=False).value(FuseJobStatus, "status"),
                "default": _NOT_SEEN,
            },
        },
        "required": ["spec"],
        "x-kubernetes-validations": [_name_rule()],
    }


def _name_rule() -> Schema:
    """The name is cut into names of Jobs and Services. Kubernetes itself would allow 253 characters and dots."""
    limits = fields.constraints(Metadata.model_fields["name"])
    most = next(limit.max_length for limit in limits if isinstance(limit, MaxLen))
    pattern = next(found for limit in limits if (found := getattr(limit, "pattern", None)))
    return {
        "rule": f"self.metadata.name.size() <= {most} && self.metadata.name.matches({text(pattern)})",
        "message": f"a FuseJob's name has at most {most} lower-case letters, digits and hyphens, begins with a letter "
        "and does not end with a hyphen",
        "fieldPath": ".metadata.name",
    }


def _columns() -> list[Schema]:
    return [
        _column("Stage", ".status.stage", "Running stages."),
        _column("Progress", ".status.progress", "Complete stages of all."),
        _column("Complete", _condition("Complete", "status"), "Whether the fused model is there."),
        _column("Reason", _condition("Reconciling", "reason"), "What the job waits for.", priority=1),
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]


def _column(name: str, path: str, description: str, *, priority: int = 0) -> Schema:
    column = {"name": name, "type": "string", "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


def _line(docstring: str | None) -> str:
    return " ".join((docstring or "").split())
