"""Which cluster: the kubeconfig's context as kubectl finds it, or in a pod without one, the pod's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusechat.cli.cluster.refusals import LOG_IN
from fusechat.errors import ConfigurationError, NoPermissionError, UsageError
from fusechat.spec.keys import nearest

INSTALL_CLIENT = "Install it, in a clone of fusechat: pip install '.[cluster]'"
_IN_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def load(context: str | None = None) -> tuple[Any, str]:
    """The client's Configuration, and the namespace that goes with it.

    ConfigurationError without the Kubernetes client or without a usable kubeconfig, UsageError for a context that it
    does not have, NoPermissionError where the command that it names for credentials fails.
    """
    try:
        from kubernetes import config
    except ImportError as error:
        raise ConfigurationError("This needs the Kubernetes client for Python.", hint=INSTALL_CLIENT) from error
    with _explained():
        files, configuration = _kubeconfigs(), _configuration()
        if not files and context is None and _in_pod():
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            return configuration, _IN_POD_NAMESPACE.read_text("utf-8").strip()
        chosen = _context(files, context)
        with _login():
            config.load_kube_config(files, chosen["name"], configuration)  # type: ignore[no-untyped-call]
        return configuration, str(chosen["context"].get("namespace") or "default")


def _configuration() -> Any:
    """Without retries of its own: each would wait for the whole time limit again."""
    from kubernetes.client import Configuration

    configuration = Configuration()
    configuration.retries = False
    return configuration


def _kubeconfigs() -> str:
    """Existing files, joined as KUBECONFIG is; empty if there is none. ConfigurationError if KUBECONFIG names none."""
    named = os.environ.get("KUBECONFIG", "")
    files = [file for file in named.split(os.pathsep) if file and Path(file).expanduser().is_file()]
    if named and not files:
        raise ConfigurationError(
            f"KUBECONFIG is {named}: there is no such file.", hint="Name a kubeconfig that exists."
        )
    usual = Path("~/.kube/config").expanduser()
    return os.pathsep.join(files) or (str(usual) if usual.is_file() else "")


def _in_pod() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and _IN_POD_NAMESPACE.is_file()


def _context(files: str, name: str | None) -> Mapping[str, Any]:
    if not files:
        raise ConfigurationError(
            "No cluster is known: there is neither KUBECONFIG nor ~/.kube/config.",
            hint="Set KUBECONFIG to the file that your cluster's provider gave you.",
        )
    return _current(files) if name is None else _named(files, name)


def _current(files: str) -> Mapping[str, Any]:
    from kubernetes.config import list_kube_config_contexts

    _, current = list_kube_config_contexts(files)  # type: ignore[no-untyped-call]
    found: Mapping[str, Any] = current
    return found


def _named(files: str, name: str) -> Mapping[str, Any]:
    """Read without the current context: a kubeconfig need not have one."""
    from kubernetes.config.kube_config import KubeConfigMerger

    merged = KubeConfigMerger(files).config  # type: ignore[no-untyped-call]
    contexts = [context.value for context in merged["contexts"]]
    for context in contexts:
        if context["name"] == name:
            found: Mapping[str, Any] = context
            return found
    raise UsageError(f"The kubeconfig has no context {name}.", hint=_choose([c["name"] for c in contexts], name))


def _choose(names: Sequence[str], wanted: str) -> str:
    near = nearest(wanted, names)
    has = f"It has: {', '.join(names)}." if names else "It has none."
    return f"Did you mean {' or '.join(near)}?" if near else has


@contextmanager
def _explained() -> Iterator[None]:
    """Whatever the client says to a kubeconfig that is not one, as a ConfigurationError."""
    import yaml
    from kubernetes.config import ConfigException

    try:
        yield
    except (ConfigException, yaml.YAMLError, OSError) as error:
        raise _useless(" ".join(str(error).split())) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        where = os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise _useless(f"what is in {where} is none") from error


def _useless(words: str) -> ConfigurationError:
    return ConfigurationError(
        f"The kubeconfig cannot be used: {words}", hint="`kubectl get namespaces` must work with the same KUBECONFIG."
    )


@contextmanager
def _login() -> Iterator[None]:
    """NoPermissionError where the kubeconfig's `exec` gives no credentials: the client only logs that, and goes on."""
    heard = _RootErrors()
    logging.getLogger().addHandler(heard)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(heard)
    if heard.words:
        raise NoPermissionError(
            f"The command that the kubeconfig names for credentials gave none: {'; '.join(heard.words)}", hint=LOG_IN
        )


class _RootErrors(logging.Handler):
    """Errors that are logged without a logger of their own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        if record.name == "root":
            self.words.append(" ".join(record.getMessage().split()))
