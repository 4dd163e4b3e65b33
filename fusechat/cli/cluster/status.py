"""`fusechat status` of FuseJobs on a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fusechat.cli.output import console, print_facts, print_json, table

if TYPE_CHECKING:
    from rich.console import Console

    from fusechat.cli.cluster.connection import Cluster
    from fusechat.cli.cluster.view import JobView


def show_job(cluster: Cluster, name: str, *, as_json: bool) -> None:
    """One job: conditions, stages, remarks."""
    from fusechat.cli.cluster.view import JobView

    view = JobView.of(cluster.job(name))
    if as_json:
        print_json(view.as_json())
    else:
        print_job(view, datetime.now(UTC))


def print_job(view: JobView, now: datetime) -> None:
    """For people."""
    from fusechat.cli.cluster.page import RIGHT, STYLES, facts, stage_table

    print_facts({"job": f"{view.name} in namespace {view.namespace}", **facts(view, now)}, style=STYLES)
    if view.status.stages:
        screen = console()
        header, rows = stage_table(view, now)
        screen.print()
        screen.print(table(header, rows, right=RIGHT))
        print_remarks(screen, view)
    print_next(view)


def print_remarks(screen: Console, view: JobView) -> None:
    """What stages have to say, each as one sentence that can be copied."""
    from fusechat.cli.cluster.page import STYLES, remarks

    said = remarks(view)
    if said:
        screen.print()
    for state, stage, message in said:
        screen.print(f"{stage}: {message}", style=STYLES[state] if state == "Failed" else "", soft_wrap=True)


def print_next(view: JobView) -> None:
    """The commands that help now, if any."""
    from fusechat.cli.cluster.page import next_commands

    commands = next_commands(view)
    width = max((len(command) for command, _ in commands), default=0)
    screen = console()
    if commands:
        screen.print()
    for command, purpose in commands:
        screen.print(f"{command:<{width}}  # {purpose}", soft_wrap=True)


def show_jobs(cluster: Cluster, *, as_json: bool) -> None:
    """All jobs of the namespace."""
    from fusechat.cli.cluster.page import job_table
    from fusechat.cli.cluster.view import JobView

    views = [JobView.of(job) for job in cluster.jobs()]
    if as_json:
        print_json([view.as_json() for view in views])
    elif not views:
        console(stderr=True).print(f"There are no FuseJobs in namespace {cluster.namespace}.", soft_wrap=True)
    else:
        header, rows = job_table(views, datetime.now(UTC))
        console().print(table(header, rows))
