"""`fusechat suspend`, `resume` and `retry`: one small patch each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fusechat.cli.cluster.options import Context, JobName, Namespace
from fusechat.cli.options import Json
from fusechat.cli.output import console, print_json

if TYPE_CHECKING:
    from fusechat.cli.cluster.view import JobView


def suspend(name: JobName, namespace: Namespace = None, context: Context = None, as_json: Json = False) -> None:
    """Stop a job's running stages and start no others, until it is resumed. Nothing that was finished is lost.

    Training writes a checkpoint first; chunks that are stored are kept. It sets spec.suspend, so where a GitOps tool
    owns the job, set it there instead.

    Example: [bold]fusechat suspend my-fusion[/bold]
    """
    _set_suspend(name, True, namespace, context, as_json)


def resume(name: JobName, namespace: Namespace = None, context: Context = None, as_json: Json = False) -> None:
    """Let a suspended job go on from where it stood; its deadline starts again.

    Example: [bold]fusechat resume my-fusion[/bold]
    """
    _set_suspend(name, False, namespace, context, as_json)


def retry(name: JobName, namespace: Namespace = None, context: Context = None, as_json: Json = False) -> None:
    """Try what has failed again, every stage with all its attempts; what is complete is reused.

    For a Failed job, and for one of which a stage has failed while others are left to finish. It sets the annotation
    fusechat.dev/retry to the present time, from which attempts and the deadline count anew; any change of the job's
    spec does the same.

    Example: [bold]fusechat retry my-fusion[/bold]
    """
    from fusechat.cli.cluster.connection import Cluster
    from fusechat.cli.cluster.view import JobView
    from fusechat.errors import UsageError
    from fusechat.manifests.names import RETRY

    cluster = Cluster.connect(context, namespace)
    before = JobView.of(cluster.job(name))
    if not before.has_failures:
        raise UsageError(
            f"Nothing of {name} has failed (it is {before.word}): there is nothing to try again.",
            hint=f"`fusechat status {name} -n {cluster.namespace}` shows where it stands. While a stage has attempts "
            "left, it is tried again by itself.",
        )
    wish = datetime.now(UTC).isoformat(timespec="milliseconds")
    cluster.patch(name, {"metadata": {"annotations": {RETRY: wish}}})
    when = f", once it is resumed: fusechat resume {name} -n {cluster.namespace}" if before.suspend else ""
    _tell({"job": name, "namespace": cluster.namespace, "retry": wish}, f"{name} will be tried again{when}", as_json)


def _set_suspend(name: str, wanted: bool, namespace: str | None, context: str | None, as_json: bool) -> None:
    from fusechat.cli.cluster.connection import Cluster
    from fusechat.cli.cluster.view import JobView

    cluster = Cluster.connect(context, namespace)
    before = JobView.of(cluster.job(name))
    if before.suspend != wanted:
        cluster.patch(name, {"spec": {"suspend": wanted}})
    word = "suspended" if wanted else "resumed"
    already = "" if before.suspend != wanted else " already" if wanted else ": it was not suspended"
    answer = {"job": name, "namespace": cluster.namespace, "suspend": wanted, "changed": before.suspend != wanted}
    _tell(
        answer,
        f"{name} {'not ' if already and not wanted else ''}{word}{already}{_consequence(before, wanted)}",
        as_json,
    )


def _consequence(before: JobView, wanted: bool) -> str:
    """What it means for a job that has ended: any change of a spec tries a failed job again."""
    if before.end == "Failed" and before.suspend != wanted:
        return "; it had failed, and is tried again" + (" once it is resumed" if wanted else "")
    return f"; it is {before.end} already, so nothing changes" if before.end else ""


def _tell(answer: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        console().print(sentence, soft_wrap=True)
