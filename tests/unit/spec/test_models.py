"""What the models themselves promise: bounds and descriptions everywhere, and what they derive."""

from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from hypothesis import given
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from fusechat.spec import fields
from fusechat.spec.base import SpecObject
from fusechat.spec.fusion import FusionSpec
from fusechat.spec.patterns import PATTERNS
from fusechat.spec.pods import QuantityText

FIELDS = [(place, key, info) for place, model in fields.objects() for key, info in fields.keys(model).items()]


def test_every_field_is_described() -> None:
    bare = [
        f"{place}.{key}" for place, key, info in FIELDS if not (info.description or "").rstrip().endswith((".", ")"))
    ]
    assert not bare


def test_numbers_texts_and_lists_are_bounded() -> None:
    """An API server bounds the cost of its own checks by them, and a slip of the finger meets them first."""
    loose = [f"{place}.{key}" for place, key, info in FIELDS if place != "metadata" and not bounded(info)]
    assert not loose


def bounded(info: FieldInfo) -> bool:
    kind = fields.unwrap(info.annotation)
    kind = get_origin(kind) or kind
    limits = {type(limit) for limit in fields.constraints(info)}
    if kind is Literal or kind is bool or issubclass(kind, SpecObject):
        return True
    if kind in (int, float):
        return bool(limits & {Ge, Gt} and limits & {Le, Lt})
    return MaxLen in limits


@given(
    st.integers(1, 16),
    st.integers(1, 8),
    st.integers(1, 64),
    st.integers(1, 4096),
)
def test_rows_at_once_cut_a_share_evenly(nodes: int, processes: int, share: int, micro: int) -> None:
    world = nodes * processes
    fusion = FusionSpec(
        nodes=nodes, processes_per_node=processes, global_batch_size=share * world, micro_batch_size=micro
    )
    assert fusion.world_size == world
    assert share % fusion.rows_at_once == 0
    assert fusion.rows_at_once <= micro
    assert not [n for n in range(fusion.rows_at_once + 1, min(micro, share) + 1) if share % n == 0]


def test_every_pattern_has_words_for_people() -> None:
    """But a quantity's, which may be a number too and has its own."""
    limits = [limit for _, _, info in FIELDS for limit in _all_limits(info)]
    quantity = {getattr(limit, "pattern", None) for limit in fields.limits(QuantityText)}
    found = {pattern for limit in limits if (pattern := getattr(limit, "pattern", None))}
    assert found - quantity == set(PATTERNS)


def _all_limits(info: FieldInfo) -> list[object]:
    """Of the field, and of the items or keys and values of its list or mapping."""
    inner = [limit for each in get_args(fields.unwrap(info.annotation)) for limit in fields.limits(each)]
    return [*fields.constraints(info), *inner]
