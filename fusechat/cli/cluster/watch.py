"""A FuseJob shown while it runs: on a terminal a view that keeps itself up to date, elsewhere a line a change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, get_args

from fusechat.cli.cluster.connection import Cluster
from fusechat.cli.cluster.follow import changes, exit_code, until_end
from fusechat.cli.cluster.page import NO_OPERATOR, STYLES, progress, state_word, took
from fusechat.cli.cluster.status import print_job
from fusechat.cli.cluster.view import JobView
from fusechat.cli.main import INTERRUPTED
from fusechat.cli.output import console
from fusechat.spec.status import StageState, StageStatus

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

UNNOTICED_SECONDS = 20.0
"""After so long without a status it is said that no operator seems to run."""
BAR = 16
"""Columns of a bar."""
_STATE_WIDTH = max(map(len, get_args(StageState)))
_KEPT_LINES = 7
"""Lines of a terminal that are not stages."""


class Display(Protocol):
    """Whoever shows a job."""

    def update(self, view: JobView) -> None:
        """The job changed, or time passed."""

    def remark(self, text: str) -> None:
        """Something about the connection."""


def watch_job(cluster: Cluster, name: str, *, as_json: bool, quiet: bool = False) -> int:
    """Shows the job until it ends and then its final state. The exit code: see follow.exit_code; 130 for Ctrl-C."""
    try:
        with _display(as_json, quiet) as display:
            last = _shown(cluster, name, display)
    except KeyboardInterrupt:
        console(stderr=True).print(
            f"\nNo longer watching; the job goes on: fusechat status {name} --watch -n {cluster.namespace}"
        )
        return INTERRUPTED
    if not as_json:
        print_job(last, datetime.now(UTC))
    return exit_code(last)


def _shown(cluster: Cluster, name: str, display: Display) -> JobView:
    began, warned = time.monotonic(), False
    for view in until_end(changes(cluster, name, display.remark)):
        display.update(view)
        if not view.noticed and not warned and time.monotonic() - began > UNNOTICED_SECONDS:
            warned = True
            display.remark(NO_OPERATOR)
    return view


@contextmanager
def _display(as_json: bool, quiet: bool) -> Iterator[Display]:
    screen = console()
    if as_json:
        yield JsonLines()
    elif quiet:
        yield Silent(console(stderr=True))
    elif not screen.is_terminal:
        yield Lines(screen)
    else:
        from rich.live import Live

        display = LiveView(screen)
        with Live(get_renderable=display.render, console=screen, refresh_per_second=2, transient=True):
            yield display


class Silent:
    """Tells only what hinders."""

    def __init__(self, errors: Console) -> None:
        self._errors = errors

    def update(self, view: JobView) -> None:
        """See Display."""

    def remark(self, text: str) -> None:
        """See Display."""
        self._errors.print(text, style="yellow", soft_wrap=True)


class JsonLines:
    """The job as one JSON object a line, at each change."""

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None

    def update(self, view: JobView) -> None:
        """See Display."""
        value = view.as_json()
        if value != self._last:
            print(json.dumps(value, ensure_ascii=False), flush=True)
        self._last = value

    def remark(self, text: str) -> None:
        """See Display."""
        print(json.dumps({"remark": text}, ensure_ascii=False), flush=True)


class Lines:
    """What changed, for logs of other programs: a line for each stage whose state or reason is another one."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._stages: dict[str, StageStatus] = {}
        self._word = ""

    def update(self, view: JobView) -> None:
        """See Display."""
        for line in changed_lines(self._stages, view):
            self._screen.print(line, soft_wrap=True)
        self._stages = {stage.name: stage for stage in view.status.stages}
        if view.word != self._word:
            self._screen.print(_headline(view), soft_wrap=True)
        self._word = view.word

    def remark(self, text: str) -> None:
        """See Display."""
        self._screen.print(text, style="yellow", soft_wrap=True)


def changed_lines(before: dict[str, StageStatus], view: JobView) -> list[str]:
    """`[12/31] fuse-a Running`, for each stage that is not as it was but for how far it is."""
    lines = []
    for stage in view.status.stages:
        old = before.get(stage.name)
        if (old is None and stage.state == "Waiting") or (old and _essence(old) == _essence(stage)):
            continue
        told = " ".join(part for part in (state_word(stage), stage.reason and f"({stage.reason})") if part)
        message = f": {stage.message}" if stage.message else ""
        lines.append(f"[{view.status.progress or '-'}] {stage.name:<22} {told}{message}")
    return lines


def _essence(stage: StageStatus) -> StageStatus:
    """Without what only says how far it is."""
    return stage.model_copy(update={"progress_percent": None, "completed": "", "gpu_seconds": 0})


def _headline(view: JobView) -> str:
    held = view.true_conditions
    return f"{view.name}: {view.word}" + (f": {held[0].message}" if held and held[0].message else "")


class LiveView:
    """The terminal's: one headline, the stages that matter now, and how many others there are."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._view: JobView | None = None
        self._remark = ""

    def update(self, view: JobView) -> None:
        """See Display."""
        self._view, self._remark = view, ""

    def remark(self, text: str) -> None:
        """See Display."""
        self._remark = text

    def render(self) -> RenderableType:
        """What is to be seen now."""
        from rich.console import Group
        from rich.text import Text

        remark = [Text(self._remark, style="yellow")] if self._remark else []
        if self._view is None:
            return Group(Text("asking the cluster", style="dim"), *remark)
        height = max(3, self._screen.height - _KEPT_LINES)
        return Group(*live_lines(self._view, datetime.now(UTC), height), *remark)


def live_lines(view: JobView, now: datetime, height: int) -> list[Text]:
    """Headline, conditions, at most `height` stages, and the counts of all; each cut at the terminal's edge."""
    from rich.text import Text

    shown = stages_that_matter(view.status.stages, height)
    rows = [(stage, bar(stage), _told(stage, view, now)) for stage in shown]
    widths = [
        max((len(text) for text in column), default=0)
        for column in zip(*((s.name, b, t) for s, b, t in rows), strict=True)
    ]
    lines = [Text(f"{view.name}  {view.status.progress or '-'} stages  {view.word}", style="bold")]
    lines += [
        Text(f"{c.type} {c.reason}: {c.message}".rstrip(": "), style=STYLES[c.type]) for c in view.true_conditions
    ]
    for stage, percent, told in rows:
        name, bars, figures = (
            f"{text:<{width}}" for text, width in zip((stage.name, percent, told), widths, strict=True)
        )
        state = (f"{state_word(stage):<{_STATE_WIDTH}}", STYLES[stage.state])
        lines.append(Text.assemble(name, "  ", state, f"  {bars}  {figures}  ", (stage.message or stage.reason, "dim")))
    lines.append(Text(counted(view.status.stages), style="dim"))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _told(stage: StageStatus, view: JobView, now: datetime) -> str:
    return ", ".join(part for part in (progress(stage), took(stage, view, now)) if part)


def stages_that_matter(stages: list[StageStatus], most: int) -> list[StageStatus]:
    """At most so many, in the plan's order: first what failed and what runs, then what pends, what ended last, what is
    next."""
    ranks = {"Failed": 0, "Running": 0, "Pending": 1, "Suspended": 1, "Stopped": 2, "Complete": 3, "Waiting": 4}
    # of complete ones the newest are of interest, of waiting ones the next
    recent = {s.name: n for n, s in enumerate(sorted(stages, key=lambda s: s.finished_at or "", reverse=True))}
    order = {stage.name: number for number, stage in enumerate(stages)}
    chosen = sorted(stages, key=lambda s: (ranks[s.state], recent[s.name] if s.state == "Complete" else order[s.name]))
    return sorted(chosen[:most], key=lambda stage: order[stage.name])


def counted(stages: list[StageStatus]) -> str:
    """`12 complete (3 reused), 2 running, 17 waiting`."""
    counts: dict[str, int] = {}
    for stage in stages:
        counts[stage.state] = counts.get(stage.state, 0) + 1
    reused = sum(stage.cached and stage.state == "Complete" for stage in stages)
    told = [f"{number} {state.lower()}" for state, number in counts.items()]
    return ", ".join(told) + (f" ({reused} reused)" if reused else "")


def bar(stage: StageStatus) -> str:
    """`######----------`, in the terminal's line characters; empty where nothing is known or nothing goes on."""
    if stage.progress_percent is None or stage.state != "Running":
        return ""
    full = round(BAR * stage.progress_percent / 100)
    return "━" * full + "╌" * (BAR - full)
