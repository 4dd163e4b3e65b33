"""Keys, certificates, tokens and kubeconfigs of one cluster, made with the `openssl` command."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

ADMIN = "admin"
_USERS = {
    ADMIN: ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": ("system:node:{node}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
    "coredns": ("system:coredns", ""),
}
"""Kubeconfig: user name, groups. Kubernetes binds its own roles to all but CoreDNS's."""
_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


@dataclass(frozen=True)
class Pki:
    """A directory of `NAME.key`, `NAME.crt`, `tokens.csv` and `NAME.kubeconfig`."""

    directory: Path
    tokens: dict[str, str]

    def key(self, name: str) -> Path:
        """Private key."""
        return self.directory / f"{name}.key"

    def certificate(self, name: str) -> Path:
        """Certificate."""
        return self.directory / f"{name}.crt"

    @property
    def tokens_file(self) -> Path:
        """For the API server: token, user, id, groups."""
        return self.directory / "tokens.csv"

    def kubeconfig(self, user: str) -> Path:
        """The user's, for the server that `write_kubeconfigs` was told."""
        return self.directory / f"{user}.kubeconfig"

    def write_kubeconfigs(self, server: str, users: tuple[str, ...] = tuple(_USERS)) -> None:
        """`server`: the API server's URL as these users reach it."""
        authority = base64.b64encode(self.certificate("ca").read_bytes()).decode()
        for user in users:
            self.kubeconfig(user).write_text(json.dumps(_kubeconfig(server, authority, self.tokens[user])))
            self.kubeconfig(user).chmod(0o600)


def create(directory: Path, *, node: str, addresses: tuple[str, ...]) -> Pki:
    """Everything but the kubeconfigs. `addresses`: the IPs by which the API server is reached."""
    directory.mkdir(mode=0o700)
    pki = Pki(directory, {user: secrets.token_hex(16) for user in _USERS})
    _certificate_authority(pki)
    names = [f"DNS:{name}" for name in (*_NAMES, "kubernetes.default.svc.cluster.local")]
    alternatives = ",".join(names + [f"IP:{address}" for address in addresses])
    _certificate(pki, "api-server", "/CN=kube-apiserver", f"extendedKeyUsage=serverAuth\nsubjectAltName={alternatives}")
    client = "extendedKeyUsage=clientAuth"
    _certificate(pki, "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", client)
    _certificate(pki, "front-proxy", "/CN=front-proxy", client)
    _key_pair(pki, "service-account")
    rows = [(user, *_USERS[user]) for user in _USERS]
    lines = [f'{pki.tokens[user]},{name},{name},"{groups}"' for user, name, groups in rows]
    pki.tokens_file.write_text("\n".join(lines).format(node=node) + "\n")
    return pki


def _certificate_authority(pki: Pki) -> None:
    _new_key(pki, "ca")
    usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
    subject = ("-subj", "/CN=test-cluster-ca", "-days", "365", "-addext", usage)
    _openssl("req", "-x509", "-new", "-key", pki.key("ca"), *subject, "-out", pki.certificate("ca"))


def _certificate(pki: Pki, name: str, subject: str, extensions: str) -> None:
    _new_key(pki, name)
    request, extra = pki.directory / f"{name}.csr", pki.directory / f"{name}.ext"
    extra.write_text(extensions)
    _openssl("req", "-new", "-key", pki.key(name), "-subj", subject, "-out", request)
    authority = ("-CA", pki.certificate("ca"), "-CAkey", pki.key("ca"), "-CAcreateserial", "-days", "365")
    _openssl("x509", "-req", "-in", request, *authority, "-extfile", extra, "-out", pki.certificate(name))
    request.unlink()
    extra.unlink()


def _key_pair(pki: Pki, name: str) -> None:
    _new_key(pki, name)
    _openssl("ec", "-in", pki.key(name), "-pubout", "-out", pki.directory / f"{name}.pub")


def _new_key(pki: Pki, name: str) -> None:
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", pki.key(name))
    pki.key(name).chmod(0o600)


def _openssl(*arguments: str | Path) -> None:
    result = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed: {result.stderr}")


def _kubeconfig(server: str, authority: str, token: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
