"""Command line of each component, as pure functions of the cluster's layout."""

from dev.cluster.layout import NODE, PORT, Layout
from dev.cluster.pki import Authority, Subject

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE_COMPONENTS = ("containerd", "kubelet", "kube-proxy")
FAKES = ("kwok",)

# NB: at the default 20 requests a second 200 Services take 48 s to converge instead of 18 s.
# Memory for time: at Go's default of 100 a fifth of the API server's time is garbage collection.
_GARBAGE = "GOGC=400"
_THROUGHPUT = ["--kube-api-qps=1000", "--kube-api-burst=2000"]


def identities(layout: Layout) -> dict[str, Subject]:
    """Everyone who holds a certificate."""
    network = layout.network
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
    service = [*names, "kubernetes.default.svc.cluster.local"]
    return {
        "apiserver": Subject(
            user="kube-apiserver",
            addresses=[*service, "127.0.0.1", network.kubernetes, network.node],
        ),
        "apiserver-kubelet": Subject(user="kube-apiserver-kubelet-client"),
        "admin": Subject(user="local-admin", groups=["system:masters"]),
        "kubelet": Subject(
            user=f"system:node:{NODE}", groups=["system:nodes"], addresses=[NODE, network.node]
        ),
        "kube-controller-manager": Subject(user="system:kube-controller-manager"),
        "kube-scheduler": Subject(user="system:kube-scheduler"),
        "kube-proxy": Subject(user="system:kube-proxy"),
        "kwok": Subject(user="kwok"),
    }


def credentials(layout: Layout) -> None:
    """Write every certificate, key and kubeconfig file of a new cluster."""
    authority = Authority(layout.pki)
    authority.signing_key("service-account")
    for file, subject in identities(layout).items():
        authority.issue(file, subject=subject)
        if not file.startswith("apiserver"):
            target = layout.kubeconfig if file == "admin" else layout.identity(file)
            context = f"slipstream-{layout.network.name}"
            authority.kubeconfig(target, identity=file, server=layout.server, context=context)


def command(component: str, layout: Layout) -> list[str]:
    """The component's arguments, to be run inside the cluster's network namespace."""
    build = {
        "etcd": _etcd,
        "kube-apiserver": _apiserver,
        "kube-controller-manager": _controllers,
        "kube-scheduler": _scheduler,
        "containerd": _containerd,
        "kubelet": _kubelet,
        "kube-proxy": _proxy,
        "kwok": _kwok,
    }[component]
    return ["env", _GARBAGE, str(layout.binaries / component), *build(layout)]


def _etcd(layout: Layout) -> list[str]:
    clients, peers = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver(layout: Layout) -> list[str]:
    network, pki = layout.network, layout.pki
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--service-cluster-ip-range={network.services}",
        f"--advertise-address={network.node}",
        f"--secure-port={PORT}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-account-key-file={pki}/service-account.pub",
        f"--service-account-signing-key-file={pki}/service-account.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        "--profiling=false",
        "-v=1",
    ]


def _controllers(layout: Layout) -> list[str]:
    pki = layout.pki
    return [
        f"--kubeconfig={layout.identity('kube-controller-manager')}",
        f"--service-account-private-key-file={pki}/service-account.key",
        f"--root-ca-file={pki}/ca.crt",
        "--use-service-account-credentials",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--flex-volume-plugin-dir={layout.folder / 'volume-plugins'}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        # NB: EndpointSlices replaced Endpoints, and nothing here reads those.
        "--controllers=*,-endpoints-controller,-endpointslice-mirroring-controller",
        # NB: on few cores more workers only write the stages that one would have skipped.
        "--concurrent-deployment-syncs=1",
        "--concurrent-replicaset-syncs=1",
        *_THROUGHPUT,
        "-v=1",
    ]


def _scheduler(layout: Layout) -> list[str]:
    return [
        f"--kubeconfig={layout.identity('kube-scheduler')}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        *_THROUGHPUT,
        "-v=1",
    ]


def _containerd(layout: Layout) -> list[str]:
    return [f"--config={layout.config('containerd.toml')}", "--log-level=warn"]


def _kubelet(layout: Layout) -> list[str]:
    return [
        f"--config={layout.config('kubelet.yaml')}",
        f"--kubeconfig={layout.identity('kubelet')}",
        f"--hostname-override={NODE}",
        f"--node-ip={layout.network.node}",
        f"--root-dir={layout.folder / 'kubelet'}",
        "-v=1",
    ]


def _proxy(layout: Layout) -> list[str]:
    return [f"--config={layout.config('kube-proxy.yaml')}", f"--hostname-override={NODE}", "-v=1"]


def _kwok(layout: Layout) -> list[str]:
    return [
        f"--kubeconfig={layout.identity('kwok')}",
        f"--config={layout.config('kwok.yaml')}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--cidr={layout.network.fakes}",
        f"--node-ip={layout.network.node}",
        "--node-lease-duration-seconds=40",
        "-v=1",
    ]
