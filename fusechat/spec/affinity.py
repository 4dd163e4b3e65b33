"""Node and pod affinity in Kubernetes' own words, closed and bounded, so that nothing of any depth or size gets in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fusechat.spec.base import SpecObject
from fusechat.spec.pods import LabelValue, ObjectName, QualifiedName

Weight = Annotated[int, Field(ge=1, le=100)]
Values = Annotated[list[Annotated[str, Field(max_length=253)]] | None, Field(max_length=256)]
LabelKeys = Annotated[list[QualifiedName] | None, Field(max_length=16)]


class NodeSelectorRequirement(SpecObject):
    """What a label or field of a node must be."""

    key: QualifiedName
    """Key of the label, or the field."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How it is compared."""
    values: Values = None
    """What it is compared with; none for Exists and DoesNotExist, one for Gt and Lt."""


class NodeSelectorTerm(SpecObject):
    """Nodes that meet all of it."""

    match_expressions: Annotated[list[NodeSelectorRequirement] | None, Field(max_length=32)] = None
    """By labels."""
    match_fields: Annotated[list[NodeSelectorRequirement] | None, Field(max_length=32)] = None
    """By fields, such as metadata.name."""


class NodeSelector(SpecObject):
    """Nodes that meet any of the terms."""

    node_selector_terms: Annotated[list[NodeSelectorTerm], Field(min_length=1, max_length=32)]
    """The terms."""


class PreferredNodes(SpecObject):
    """Nodes that are better than others."""

    weight: Weight
    """How much better."""
    preference: NodeSelectorTerm
    """Which they are."""


class NodeAffinity(SpecObject):
    """Which nodes the pod may or should run on."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """Those it may."""
    preferred_during_scheduling_ignored_during_execution: Annotated[
        list[PreferredNodes] | None, Field(max_length=32)
    ] = None
    """Those it should."""


class LabelRequirement(SpecObject):
    """What a label must be."""

    key: QualifiedName
    """Its key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How it is compared."""
    values: Values = None
    """What it is compared with; none for Exists and DoesNotExist."""


class LabelSelector(SpecObject):
    """What bears all of these labels."""

    match_labels: Annotated[dict[str, LabelValue] | None, Field(max_length=64)] = None
    """Exactly these."""
    match_expressions: Annotated[list[LabelRequirement] | None, Field(max_length=32)] = None
    """Labels that meet these."""


class PodAffinityTerm(SpecObject):
    """Pods, and what to be beside them means."""

    topology_key: QualifiedName
    """Label of nodes: those of one value are one place."""
    label_selector: LabelSelector | None = None
    """The pods."""
    namespaces: Annotated[list[ObjectName] | None, Field(max_length=32)] = None
    """Their namespaces. Default: the job's own."""
    namespace_selector: LabelSelector | None = None
    """Their namespaces by label."""
    match_label_keys: LabelKeys = None
    """Labels in which they are like this pod."""
    mismatch_label_keys: LabelKeys = None
    """Labels in which they are unlike it."""


class PreferredPods(SpecObject):
    """Pods beside which is better than elsewhere."""

    weight: Weight
    """How much better."""
    pod_affinity_term: PodAffinityTerm
    """Which they are."""


class PodAffinity(SpecObject):
    """Pods beside which, or away from which, the pod must or should run."""

    required_during_scheduling_ignored_during_execution: Annotated[
        list[PodAffinityTerm] | None, Field(max_length=32)
    ] = None
    """Those it must."""
    preferred_during_scheduling_ignored_during_execution: Annotated[
        list[PreferredPods] | None, Field(max_length=32)
    ] = None
    """Those it should."""


class Affinity(SpecObject):
    """Node and pod affinity, as in a pod."""

    node_affinity: NodeAffinity | None = None
    """Nodes to run on."""
    pod_affinity: PodAffinity | None = None
    """Pods to run beside."""
    pod_anti_affinity: PodAffinity | None = None
    """Pods to run away from."""
