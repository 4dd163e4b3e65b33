"""What a watched job shows of itself: changes as lines, the stages that matter on a small terminal, exit codes."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console, Group

from fusechat.cli.cluster.follow import exit_code, until_end
from fusechat.cli.cluster.view import JobView
from fusechat.cli.cluster.watch import JsonLines, Lines, bar, counted, live_lines, stages_that_matter
from fusechat.errors import FuseChatError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def view(stages: list[dict[str, Any]], progress: str = "", **true_conditions: str) -> JobView:
    conditions = [
        {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": "2026-11-23T11:00:00Z"}
        for kind, reason in true_conditions.items()
    ]
    status = {"observedGeneration": 1, "stages": stages, "conditions": conditions, "progress": progress}
    return JobView.of({"metadata": {"name": "demo", "generation": 1}, "status": status})


def stage(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, **more}


def test_only_news_become_lines() -> None:
    screen = Console(file=io.StringIO(), width=200)
    lines = Lines(screen)
    lines.update(view([stage("prepare", "Running"), stage("fuse-a", "Waiting")], "0/2", Reconciling="Running"))
    lines.update(
        view(
            [stage("prepare", "Running", progressPercent=50), stage("fuse-a", "Waiting")], "0/2", Reconciling="Running"
        )
    )
    lines.update(
        view(
            [
                stage("prepare", "Complete", cached=True),
                stage("fuse-a", "Pending", reason="Queued", message="behind x"),
            ],
            "1/2",
            Reconciling="WaitingForCapacity",
        )
    )
    assert screen.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "[0/2] prepare                Running",
        "demo: Running",
        "[1/2] prepare                reused",
        "[1/2] fuse-a                 Pending (Queued): behind x",
        "demo: WaitingForCapacity",
    ]


def test_scripts_get_one_object_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    lines = JsonLines()
    for state in ("Running", "Running", "Complete"):
        lines.update(view([stage("prepare", state)]))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert [first["stages"][0]["state"], second["stages"][0]["state"]] == ["Running", "Complete"]


def test_a_small_terminal_shows_what_matters_in_the_plans_order() -> None:
    stages = view(
        [
            stage("a", "Complete", finishedAt="2026-11-23T10:00:00Z"),
            stage("b", "Complete", finishedAt="2026-11-23T11:00:00Z"),
            stage("c", "Running"),
            stage("d", "Pending"),
            stage("e", "Failed"),
            stage("f", "Waiting"),
            stage("g", "Waiting"),
        ]
    ).status.stages
    shown = {most: "".join(found.name for found in stages_that_matter(stages, most)) for most in range(1, 8)}
    assert shown == {1: "c", 2: "ce", 3: "cde", 4: "bcde", 5: "abcde", 6: "abcdef", 7: "abcdefg"}


def test_the_live_view_fits_its_terminal_and_says_how_many_there_are() -> None:
    stages = [stage(f"extract-{number}", "Waiting") for number in range(60)]
    stages[3] = stage(
        "extract-3", "Running", progressPercent=50, completed="1/2", startedAt="2026-11-23T11:59:00Z", message="x" * 300
    )
    screen = Console(file=io.StringIO(), width=80, height=24)
    screen.print(Group(*live_lines(view(stages, "0/60", Reconciling="Running"), NOW, 10)))
    text = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(text) == 13
    assert max(map(len, text)) <= 80
    assert text[0].split() == ["demo", "0/60", "stages", "Running"]
    assert "━━━━━━━━╌╌╌╌╌╌╌╌  1/2 workers, 50%, 1 min 00 s" in next(line for line in text if "extract-3 " in line)
    assert text[-1].strip() == "59 waiting, 1 running"


def test_bars() -> None:
    running = [stage("x", "Running", progressPercent=percent) for percent in (None, 0, 100)]
    assert [bar(found) for found in view(running).status.stages] == ["", "╌" * 16, "━" * 16]
    (ended,) = view([stage("x", "Complete", progressPercent=40)]).status.stages
    assert bar(ended) == "", "the last that was heard of it"


def test_counts_name_what_was_reused() -> None:
    stages = view([stage("a", "Complete", cached=True), stage("b", "Complete"), stage("c", "Running")]).status.stages
    assert counted(stages) == "2 complete, 1 running (1 reused)"


def test_watching_ends_with_the_end() -> None:
    views = [view([]), view([], Reconciling="Running"), view([], Complete="Complete"), view([], Failed="X")]
    assert [v.end for v in until_end(iter(views))] == [None, None, "Complete"]


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (view([], Complete="Complete"), 0),
        (view([stage("fuse-a", "Failed", reason="OutOfMemory")], Failed="StageFailed"), 71),
        (view([stage("prepare", "Failed", reason="InvalidData")], Failed="StageFailed"), 65),
        (view([stage("prepare", "Failed", reason="InvalidSpec")], Failed="StageFailed"), 78),
        (view([stage("prepare", "Failed", reason="NoPermission")], Failed="StageFailed"), 77),
        (view([stage("prepare", "Failed", reason="DamagedInput")], Failed="StageFailed"), 75),
        (view([stage("prepare", "Failed", reason="Internal")], Failed="StageFailed"), 70),
        (view([stage("prepare", "Failed", reason="Unheard")], Failed="DeadlineExceeded"), 1),
        (view([], Failed="MissingInput"), 66),
    ],
)
def test_the_exit_code_is_that_of_the_first_failed_stage(seen: JobView, code: int) -> None:
    assert exit_code(seen) == code


def test_every_error_a_stage_can_end_with_has_its_own_exit_code_here() -> None:
    from fusechat.plan.messages import ErrorSummary

    kinds = list(FuseChatError.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
        if kind.__module__ != "fusechat.errors":
            continue
        error = kind.__new__(kind)
        Exception.__init__(error, "x")
        error.message, error.hint = "x", ""
        error.stage = "prepare"  # type: ignore[attr-defined]
        reason = ErrorSummary.of(error).reason
        assert exit_code(view([stage("x", "Failed", reason=reason)], Failed="StageFailed")) == kind.exit_code, reason
