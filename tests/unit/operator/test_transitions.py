"""The table of transitions: complete, and true of whatever happens."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from fuse_operator.reconcile import advance as table
from fuse_operator.reconcile import passes
from fuse_operator.reconcile.advance import TABLE, TRANSITIONS, Look, Observation, advance
from fuse_operator.reconcile.stage import RunPolicy, Stage, Step
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.operator.fusejobs import fusejob
from tests.unit.operator.roads import BASE, TWO_GANGS, moves, play
from tests.unit.operator.simulated import Cluster

COUNTERS = ("attempt", "repeats", "preemptions", "run")


def test_every_observation_of_every_state_under_way_has_one_transition() -> None:
    states = {"Waiting", "Pending", "Running", "Suspended", "Stopped"}
    assert set(TRANSITIONS) == {(state, seen) for state in states for seen in get_args(Observation)}
    assert len(TRANSITIONS) == sum(len(row.states) for row in TABLE)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from([BASE, TWO_GANGS]), st.integers(0, 15), st.lists(moves(), max_size=30))
def test_whatever_happens_follows_the_table(value: dict[str, Any], begun: int, road: list[tuple[Any, ...]]) -> None:
    seen: list[Observation] = []

    class Seen(Look):
        @property
        def observation(self) -> Observation:
            seen.append(super().observation)
            return seen[-1]

    def checked(stage: Stage, policy: RunPolicy) -> Step:
        seen.clear()
        step = advance(stage, policy)
        if seen:
            before, row = stage.entry, TRANSITIONS[stage.entry.state, seen[0]]
            assert step.entry.state in row.then
            raised = {name for name in COUNTERS if getattr(step.entry, name) > getattr(before, name)}
            assert raised <= set(row.counters), (raised, row)
        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "Look", Seen)
        patch.setattr(passes, "advance", checked)
        cluster = Cluster(fusejob(value))
        for move in [("rounds", begun), *road]:
            play(cluster, move)
