"""What the parts of a node are told: addresses, pod network, kubelet, packet filter and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster.containerd import SOCKET
from tests.cluster.pki import Pki

NAME = "node1"
POD_NETWORK = "10.88.0"
ADDRESS = f"{POD_NETWORK}.1"
"""The node's, on the bridge to which its pods are plugged."""

POD_NETWORK_PLUGINS = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": f"{POD_NETWORK}.0/24", "rangeStart": f"{POD_NETWORK}.10"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def kubelet(directory: Path, keys: Pki, cgroup: str) -> dict[str, Any]:
    """KubeletConfiguration; its pods are under `cgroup`."""
    thresholds = (
        "memory.available",
        "nodefs.available",
        "nodefs.inodesFree",
        "imagefs.available",
        "imagefs.inodesFree",
    )
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        # the machine's disk and memory are not this node's to judge
        "evictionHard": dict.fromkeys(thresholds, "0%"),
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusReportFrequency": "30s",
        "nodeStatusUpdateFrequency": "5s",
        "readOnlyPort": 0,
        "resolvConf": str(directory / "resolv.conf"),
        "seccompDefault": True,
        "volumePluginDir": str(directory / "kubelet" / "volume-plugins"),
    }


def proxy(keys: Pki) -> dict[str, Any]:
    """KubeProxyConfiguration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": ADDRESS,
        "clientConnection": {"kubeconfig": str(keys.kubeconfig("proxy"))},
        "clusterCIDR": f"{POD_NETWORK}.0/24",
        # limits of the whole machine, which are not this node's to set
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        "healthzBindAddress": "127.0.0.1:10256",
        "hostnameOverride": NAME,
        "metricsBindAddress": "127.0.0.1:10249",
        "mode": "nftables",
        "nodePortAddresses": [f"{ADDRESS}/32"],
    }


# A block of its own for all other names: no such name, at once, where there is no server to ask. In one block with
# `kubernetes`, `template` would be asked first.
_COREFILE = """\
cluster.local in-addr.arpa {{
  bind {address}
  errors
  ready 127.0.0.1:8181
  kubernetes {{
    kubeconfig {kubeconfig}
    pods insecure
    ttl 5
  }}
}}
. {{
  bind {address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def corefile(keys: Pki) -> str:
    """CoreDNS's configuration."""
    return _COREFILE.format(address=ADDRESS, kubeconfig=keys.kubeconfig("coredns"))


_RBAC = "rbac.authorization.k8s.io"
COREDNS_ROLE: tuple[dict[str, Any], ...] = (
    {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["endpoints", "namespaces", "nodes", "pods", "services"],
                "verbs": ["get", "list", "watch"],
            },
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    },
    {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": "system:coredns"}],
    },
)
