"""What the report says of one source's alignment: rows by status, and probability by mapping rule.

Masses are kept as integers in units of 2**-30, so chunks may be added in any order and give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusechat.alignment.distribution import MappedRows
from fusechat.alignment.vocabulary import MappingRule
from fusechat.tables import RowStatus, UInt8

_UNIT = 2.0**-30


@dataclass(frozen=True)
class AlignmentFractions:
    """Counts over the pivot's loss-carrying rows; add them with `+`."""

    rows_by_status: tuple[int, ...] = (0,) * len(RowStatus)
    """Indexed by RowStatus."""
    distributions: int = 0
    """Rows that carry a distribution."""
    not_finite: int = 0
    """Rows that carry none because the source's log-probabilities are not numbers."""
    entries_by_rule: tuple[int, ...] = (0,) * len(MappingRule)
    """Top-k entries of rows with a distribution, indexed by MappingRule."""
    mass_by_rule: tuple[int, ...] = (0,) * len(MappingRule)
    """Their probability in units of 2**-30, indexed by MappingRule."""

    @classmethod
    def of(cls, status: UInt8, mapped: MappedRows) -> AlignmentFractions:
        """One conversation."""
        rules = mapped.rules[mapped.carries]
        mass = np.rint(np.exp(mapped.logprobs[mapped.carries]) / _UNIT)
        by_rule = np.bincount(rules.reshape(-1), weights=mass.reshape(-1), minlength=len(MappingRule))
        return cls(
            tuple(np.bincount(status, minlength=len(RowStatus)).tolist()),
            int(mapped.carries.sum()),
            int(mapped.not_finite.sum()),
            tuple(np.bincount(rules.reshape(-1), minlength=len(MappingRule)).tolist()),
            tuple(int(units) for units in by_rule),
        )

    def __add__(self, other: AlignmentFractions) -> AlignmentFractions:
        return AlignmentFractions(
            _add(self.rows_by_status, other.rows_by_status),
            self.distributions + other.distributions,
            self.not_finite + other.not_finite,
            _add(self.entries_by_rule, other.entries_by_rule),
            _add(self.mass_by_rule, other.mass_by_rule),
        )

    @property
    def rows(self) -> int:
        """All pivot rows."""
        return sum(self.rows_by_status)

    def fraction(self, status: RowStatus) -> float:
        """Share of the pivot's rows; 0 where there are none."""
        return _ratio(self.rows_by_status[status], self.rows)

    @property
    def gold_alone(self) -> float:
        """Share of rows with the gold token alone because the source has no row there: GOLD and NOT_COVERED."""
        return self.fraction(RowStatus.GOLD) + self.fraction(RowStatus.NOT_COVERED)

    @property
    def mapped_mass(self) -> float:
        """Share of the stored top-k probability that has a pivot id."""
        total = sum(self.mass_by_rule)
        return _ratio(total - self.mass_by_rule[MappingRule.NOTHING], total)

    def mass_fraction(self, rule: MappingRule) -> float:
        """Share of the stored top-k probability that a rule maps."""
        return _ratio(self.mass_by_rule[rule], sum(self.mass_by_rule))

    def to_json(self) -> dict[str, dict[str, int]]:
        """Counts by name, as a manifest or the report stores them; `from_json` reads them."""
        return {
            "rows": {status.name: self.rows_by_status[status] for status in RowStatus},
            "distributions": {"carried": self.distributions, "not_finite": self.not_finite},
            "entries": {rule.name: self.entries_by_rule[rule] for rule in MappingRule},
            "mass": {rule.name: self.mass_by_rule[rule] for rule in MappingRule},
        }

    @classmethod
    def from_json(cls, value: dict[str, dict[str, int]]) -> AlignmentFractions:
        """Inverse of `to_json`."""
        return cls(
            tuple(value["rows"][status.name] for status in RowStatus),
            value["distributions"]["carried"],
            value["distributions"]["not_finite"],
            tuple(value["entries"][rule.name] for rule in MappingRule),
            tuple(value["mass"][rule.name] for rule in MappingRule),
        )


def _add(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
