"""Arguments and options that the commands of a cluster share: the words of kubectl."""

from __future__ import annotations

from typing import Annotated

import typer

JobName = Annotated[str, typer.Argument(metavar="NAME", help="The FuseJob's name on the cluster.", show_default=False)]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="Namespace. Default: that of the kubeconfig's context."),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="Context of the kubeconfig. Default: the current one.")
]
