"""What must hold between fields, in Python and in CEL side by side: a rule reads the job alone, and nothing it does
needs more than comparisons, sums and patterns over bounded lists."""

from fusechat.spec.rules.cluster import absolute_uris, storage_given, storage_stays
from fusechat.spec.rules.locations import revision_is_of_hub, uri_schemes
from fusechat.spec.rules.merging import (
    merge_needs_targets,
    merge_parameters_allowed,
    merge_parameters_required,
    merge_target_count,
    slerp_covers_all,
    target_names,
    weights_name_targets,
    weights_sum,
)
from fusechat.spec.rules.names import (
    reserved_names,
    unique_merge_names,
    unique_model_names,
    unique_targets,
    unique_task_names,
)
from fusechat.spec.rules.pods import env_source, operators_own, toleration_fields
from fusechat.spec.rules.rule import Broken, Cel, Distinct, Required, Rule
from fusechat.spec.rules.tasks import task_fields
from fusechat.spec.rules.training import global_batch, offload, temperature

RULES: tuple[Rule, ...] = (
    unique_model_names,
    reserved_names,
    unique_targets,
    unique_merge_names,
    merge_needs_targets,
    merge_target_count,
    merge_parameters_allowed,
    merge_parameters_required,
    weights_name_targets,
    weights_sum,
    slerp_covers_all,
    temperature,
    offload,
    global_batch,
    unique_task_names,
    task_fields,
    revision_is_of_hub,
    uri_schemes,
    env_source,
    toleration_fields,
    operators_own,
)
"""What holds everywhere."""

CLUSTER_RULES: tuple[Rule, ...] = (storage_given, absolute_uris, storage_stays)
"""What holds on a cluster besides."""

__all__ = ["CLUSTER_RULES", "RULES", "Broken", "Cel", "Distinct", "Required", "Rule", "target_names"]
