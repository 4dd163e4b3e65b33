"""`fusechat-operator`: flags and environment to settings, errors to exit codes."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from fuse_operator.settings import Address, LeaseSettings, OperatorSettings
from fusechat.errors import INTERNAL_ERROR_EXIT_CODE, ConfigurationError, FuseChatError, UsageError
from fusechat.manifests.settings import WorkerSettings

_PREFIX = "FUSECHAT_OPERATOR_"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DESCRIPTION = """\
Runs FuseJobs on Kubernetes: plans each one and makes the Jobs of its stages, in the order of their inputs.

Every option may be given in the environment instead, as FUSECHAT_OPERATOR_ and its name in capitals (--worker-image
as FUSECHAT_OPERATOR_WORKER_IMAGE); lists with commas. The cluster is the one of KUBECONFIG, else of the pod's service
account, else of ~/.kube/config. SIGTERM ends it: looks that are going on are finished and the Lease is released.
"""
_CHECK_DESCRIPTION = """\
Asks the API server, as the account that it runs as: are FuseJobs served, is every right there that the operator uses
and none on Secrets, does a replica lead? Ends with 0 if all is well, else with 78. `helm test` runs it.
"""
_EPILOG = """\
exit codes: 0 ended by SIGTERM, 64 wrong options, 75 start it again (the Lease was lost, or the cluster is another),
77 the API server refuses, 78 no cluster or address to be had, 70 a defect
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments, os.environ))


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """The command line; gives the exit code."""
    try:
        options = _parser(environment).parse_args(list(arguments))
        if options.command == "check":
            return _check(options)
        settings = settings_of(options)
    except FuseChatError as error:
        print(f"fusechat-operator: {error}", file=sys.stderr)
        return error.exit_code
    from fuse_operator import logs  # after --help

    logs.configure(options.log_format, options.log_level)
    return _serve(settings)


def _check(options: argparse.Namespace) -> int:
    from fuse_operator import connection
    from fuse_operator.api import Connection
    from fuse_operator.check import CheckSettings, findings

    settings = CheckSettings(
        options.namespaces,
        options.lease_name,
        options.lease_namespace or _own_namespace(),
        options.log_progress,
        options.leader_seconds,
    )
    failed = False
    for finding in findings(Connection(connection.load()), settings):
        print(finding, flush=True)
        failed = failed or bool(finding.problem)
    return ConfigurationError.exit_code if failed else 0


def _serve(settings: OperatorSettings) -> int:
    import logging

    from fuse_operator.process import OperatorProcess
    from fuse_operator.reconcile import reconcile

    log = logging.getLogger(__name__)
    try:
        OperatorProcess(settings, reconcile).run()
    except FuseChatError as error:
        log.error("%s", error)
        return error.exit_code
    except Exception:
        log.exception("a defect ended the operator")
        return INTERNAL_ERROR_EXIT_CODE
    return 0


def settings_of(options: argparse.Namespace) -> OperatorSettings:
    """Settings of parsed options. UsageError or ConfigurationError where they do not fit together."""
    if not options.worker_image:
        raise UsageError("--worker-image is missing.", hint="Name the image in which stages run, as the chart does.")
    worker = WorkerSettings(
        image=options.worker_image,
        image_pull_policy=options.worker_image_pull_policy,
        image_pull_secrets=options.worker_image_pull_secrets,
        gpu_resource=options.gpu_resource,
        gang_start_seconds=options.gang_start_seconds,
    )
    lease = LeaseSettings(
        name=options.lease_name,
        namespace=options.lease_namespace or _own_namespace(),
        identity=options.identity or f"{socket.gethostname()}_{secrets.token_hex(4)}",
        lease_seconds=options.lease_seconds,
        renew_seconds=options.renew_seconds,
        retry_seconds=options.retry_seconds,
    )
    return OperatorSettings(
        worker=worker,
        lease=lease,
        namespaces=options.namespaces,
        workers=options.workers,
        relist_seconds=options.relist_seconds,
        log_progress=options.log_progress,
        metrics=options.metrics_address,
        health=options.health_address,
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fusechat-operator",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    serve = commands.add_parser(
        "run",
        help="serve FuseJobs until SIGTERM",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_options(_Options(serve, environment))
    check = commands.add_parser(
        "check",
        help="say whether this installation can do its work; changes nothing",
        description=_CHECK_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = _Options(check, environment)
    _add_scope(add)
    add("--leader-seconds", _positive, "60", "how long a replica that leads is waited for", "S")
    return parser


def _add_scope(add: _Options) -> None:
    add("--namespaces", _words, "", "namespaces, with commas; none: the whole cluster", "A,B")
    add("--log-progress", _truth, "true", "read progress from pods' logs: true or false", "BOOL")
    add("--lease-name", str, "fusechat-operator", "name of the Lease: which replica acts", "NAME")
    add("--lease-namespace", str, "", "its namespace; default: the pod's own", "NS")


def _add_options(add: _Options) -> None:
    add.group("what is served, and where the Lease is")
    _add_scope(add)
    add("--workers", _positive, "4", "FuseJobs that are looked at side by side", "N")
    add("--relist-seconds", float, "300", "between two lists that find what watches missed", "S")
    add.group("pods of stages")
    add("--worker-image", str, "", "image in which stages run (required)", "IMAGE")
    add(
        "--worker-image-pull-policy",
        _choice("Always", "IfNotPresent", "Never"),
        "IfNotPresent",
        "when it is pulled",
        "P",
    )
    add("--worker-image-pull-secrets", _words, "", "secrets for pulling it, with commas", "A,B")
    add("--gpu-resource", str, "nvidia.com/gpu", "name of the accelerator resource", "NAME")
    add("--gang-start-seconds", _positive, "900", "a gang that does not run fully by then is tried later", "S")
    add.group("the Lease")
    add("--identity", str, "", "this process, unique; default: host name and a random part", "ID")
    add("--lease-seconds", _positive, "15", "another replica takes over after so long without renewal", "S")
    add("--renew-seconds", _positive, "10", "the holder stops writing after so long without renewal", "S")
    add("--retry-seconds", _positive, "2", "between two renewals", "S")
    add.group("how it is watched")
    add("--metrics-address", _address, "0.0.0.0:8080", "for Prometheus: /metrics", "HOST:PORT")
    add("--health-address", _address, "0.0.0.0:8081", "for probes: /healthz and /readyz", "HOST:PORT")
    add("--log-format", _choice("json", "text"), "json", "json or text", "FORMAT")
    add("--log-level", _choice("debug", "info", "warning", "error"), "info", "debug, info, warning or error", "LEVEL")


class _Parser(argparse.ArgumentParser):
    """Mistakes are ours to tell, with our exit code."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}.", hint="`fusechat-operator run --help` explains every option.")


class _Options:
    """Adds options that may come from the environment too; both are checked alike."""

    def __init__(self, parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
        self._parser = parser
        self._group: argparse._ArgumentGroup | argparse.ArgumentParser = parser
        self._environment = environment

    def group(self, title: str) -> None:
        """What follows belongs under this heading."""
        self._group = self._parser.add_argument_group(title)

    def __call__(self, flag: str, kind: object, default: str, text: str, metavar: str) -> None:
        value = self._environment.get(_PREFIX + flag.removeprefix("--").replace("-", "_").upper(), default)
        shown = f"{text} [{default}]" if default else text
        assert callable(kind)
        # argparse parses a default that is a string as it parses the option
        self._group.add_argument(flag, type=kind, default=value, help=shown, metavar=metavar)


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _choice(*values: str) -> object:
    def parse(text: str) -> str:
        if text not in values:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(values)}")
        return text

    return parse


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return Address(host.strip("[]") or "0.0.0.0", int(port))


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            "The namespace of the Lease is not known outside a pod.", hint="Name it with --lease-namespace."
        ) from error


if __name__ == "__main__":
    main()
