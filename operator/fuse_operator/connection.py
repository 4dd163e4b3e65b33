"""How the API server is reached: one place for both clients, the informer's (kopf) and the writer's (kubernetes).

KUBECONFIG where it is set, else the pod's service account, else ~/.kube/config.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import kopf
import kubernetes.client
import kubernetes.config

from fuse_operator.decoding import CutResponse
from fusechat.errors import ConfigurationError

_config: Any = kubernetes.config
_rest: Any = kubernetes.client.rest  # it says that it is typed, and is not


def load(connections: int = 16) -> Any:
    """A kubernetes.client.Configuration of this process's own; the library's global one stays untouched.

    Requests are not tried again below us: a lease's time-out must be what it says, and the queue retries.
    """
    configuration = kubernetes.client.Configuration()
    try:
        if not os.environ.get("KUBECONFIG") and os.environ.get("KUBERNETES_SERVICE_HOST"):
            _config.load_incluster_config(client_configuration=configuration)
        else:
            _config.load_kube_config(client_configuration=configuration)
    except (kubernetes.config.ConfigException, OSError) as error:
        raise ConfigurationError(
            f"No way to reach a cluster was found: {error}",
            hint="In a pod, let it have a service account token; elsewhere set KUBECONFIG to a file of yours.",
        ) from error
    configuration.retries = False
    configuration.connection_pool_maxsize = connections
    return configuration


def login() -> kopf.ConnectionInfo:
    """The same, as kopf wants it; asked for anew whenever the API server answers 401, so tokens may rotate."""
    configuration = load()
    header = configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
    scheme, _, token = header.rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=_proxy(configuration),
    )


@dataclass(frozen=True, kw_only=True)
class Session(kopf.AiohttpSession):
    """kopf's access by our session. Equal where the credentials are: kopf ends when it gets refused ones again."""

    aiohttp_session: aiohttp.ClientSession = field(compare=False)
    credentials: kopf.ConnectionInfo


def session(info: kopf.ConnectionInfo) -> Session:
    """As kopf makes one itself, but that what is nested too deeply does not end the watches. In an event loop."""
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers=info.as_http_headers(),
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        response_class=CutResponse,
    )
    return Session(server=info.server, aiohttp_session=made, credentials=info)


def _proxy(configuration: Any) -> str | None:
    """As the kubernetes client decides it: the kubeconfig's or HTTPS_PROXY, but for the hosts of NO_PROXY."""
    bypassed = _rest.should_bypass_proxies(configuration.host, configuration.no_proxy or "")
    return None if bypassed else configuration.proxy or None
