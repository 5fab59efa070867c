"""How each program of a node is called, and the files it reads. Nothing is started here."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.harness.postgres import program
from tests.harness.processes import unprivileged

from . import certificates
from .facts import ADDRESS, DOMAIN, Database, Facts, Ingress, Store
from .services import Service

NODE = "node0"
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
API = f"https://{ADDRESS}:6443"
PAUSE = "localhost/pause:1"
DATABASE = Database(ADDRESS, 5432, 6432, "postgres", "cluster-postgres-password")
STORE = Store(f"http://{ADDRESS}:9000", "us-east-1", "cluster-access-key", "cluster-secret-key-0123")
INGRESS_CLASS = "traefik"
STORAGE_CLASS = "local"
# Each serves one claim; none is used again.
VOLUMES = 64
# Users of the API server with their tokens' names and their groups.
USERS = {
    "admin": ("admin", "system:masters"),
    "node": (f"system:node:{NODE}", "system:nodes"),
    "manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
}
# Requests of Kubernetes' own parts are left out of the audit log, so that it shows what was installed.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["system:apiserver",
                                    *(user for name, (user, _) in USERS.items() if name != "admin")]},
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Keys:
    """Certificates and keys of one node."""

    ca: certificates.Pair
    server: certificates.Pair
    kubelet: certificates.Pair
    client: certificates.Pair
    # Signs the tokens of service accounts.
    accounts: certificates.Pair
    ingress_ca: certificates.Pair
    ingress: certificates.Pair

    @classmethod
    def make(cls, folder: Path) -> "Keys":
        """New ones, in an empty folder."""
        ca, ingress_ca = certificates.authority(folder, "ca"), certificates.authority(folder, "ingress-ca")
        first_service = SERVICES.replace("0.0/16", "0.1")
        names = ["DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc",
                 "DNS:kubernetes.default.svc.cluster.local",
                 "DNS:localhost", "IP:127.0.0.1", f"IP:{ADDRESS}", f"IP:{first_service}"]
        return cls(
            ca=ca, ingress_ca=ingress_ca,
            server=certificates.issue(folder, ca, "server", "/CN=kube-apiserver", *names),
            kubelet=certificates.issue(folder, ca, "kubelet", f"/CN={NODE}", f"DNS:{NODE}", f"IP:{ADDRESS}"),
            client=certificates.issue(folder, ca, "client", "/O=system:masters/CN=apiserver-kubelet-client"),
            accounts=certificates.authority(folder, "accounts"),
            ingress=certificates.issue(folder, ingress_ca, "ingress", f"/CN={DOMAIN}", f"DNS:{DOMAIN}",
                                       f"DNS:*.{DOMAIN}"))


class Parts:
    """The services of the node with this state folder, whose subfolders exist."""

    def __init__(self, state: Path, programs: dict[str, Path], keys: Keys, cgroup: str):
        self.state, self.programs, self.keys, self.cgroup = state, programs, keys, cgroup
        self.socket = f"{state}/containerd/containerd.sock"
        self.user = unprivileged()

    def facts(self) -> Facts:
        """What tests are told."""
        keys = self.keys
        return Facts(
            state=str(self.state), address=ADDRESS, kubeconfig=self.kubeconfig("admin"),
            containerd=self.socket,
            programs=[str(self.programs[name].parent) for name in ("kubectl", "helm")],
            audit_log=f"{self.state}/logs/audit.log", storage_class=STORAGE_CLASS, postgres=DATABASE,
            store=STORE,
            ingress=Ingress(DOMAIN, ADDRESS, INGRESS_CLASS, str(keys.ingress_ca.certificate),
                            str(keys.ingress_ca.key),
                            str(keys.ingress.certificate), str(keys.ingress.key)))

    # Files

    def write(self, name: str, content: str | dict) -> str:
        """Writes a file that one of the programs reads; its path."""
        path = self.state / "config" / name
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
        return str(path)

    def kubeconfig(self, user: str) -> str:
        """A user's way to the API server; JSON is YAML."""
        return self.write(f"{user}.kubeconfig", {
            "apiVersion": "v1", "kind": "Config", "current-context": "node",
            "clusters": [{"name": "node", "cluster": {
                "server": API, "certificate-authority": str(self.keys.ca.certificate)}}],
            "users": [{"name": user, "user": {"token": token(user)}}],
            "contexts": [{"name": "node", "context": {"cluster": "node", "user": user}}],
        })

    # Kubernetes

    def etcd(self) -> Service:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        return Service("etcd", [
            str(self.programs["etcd"]), f"--data-dir={self.state}/etcd", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # The cluster ends with its machine: what etcd wrote need not outlive it.
            "--unsafe-no-fsync", "--log-level=warn"], ready=f"{client}/health")

    def apiserver(self) -> Service:
        keys = self.keys
        users = USERS.items()
        tokens = "".join(f'{token(name)},{user},{name},"{groups}"\n' for name, (user, groups) in users)
        return Service("kube-apiserver", [
            str(self.programs["kube-apiserver"]), "--etcd-servers=http://127.0.0.1:2379",
            f"--service-cluster-ip-range={SERVICES}",
            f"--advertise-address={ADDRESS}", "--bind-address=0.0.0.0",
            f"--token-auth-file={self.write('tokens.csv', tokens)}",
            f"--tls-cert-file={keys.server.certificate}", f"--tls-private-key-file={keys.server.key}",
            f"--client-ca-file={keys.ca.certificate}",
            f"--service-account-key-file={keys.accounts.certificate}",
            f"--service-account-signing-key-file={keys.accounts.key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--kubelet-certificate-authority={keys.ca.certificate}",
            f"--kubelet-client-certificate={keys.client.certificate}",
            f"--kubelet-client-key={keys.client.key}", "--kubelet-preferred-address-types=InternalIP",
            f"--audit-policy-file={self.write('audit.json', AUDIT)}",
            f"--audit-log-path={self.state}/logs/audit.log"])

    def manager(self) -> Service:
        return Service("kube-controller-manager", [
            str(self.programs["kube-controller-manager"]), f"--kubeconfig={self.kubeconfig('manager')}",
            "--leader-elect=false",
            f"--service-account-private-key-file={self.keys.accounts.key}",
            f"--root-ca-file={self.keys.ca.certificate}",
            "--use-service-account-credentials", "--allocate-node-cidrs", f"--cluster-cidr={PODS}",
            "--kube-api-qps=200", "--kube-api-burst=400"])

    def scheduler(self) -> Service:
        return Service("kube-scheduler", [
            str(self.programs["kube-scheduler"]), f"--kubeconfig={self.kubeconfig('scheduler')}",
            "--leader-elect=false"])

    def proxy(self) -> Service:
        return Service("kube-proxy", [
            str(self.programs["kube-proxy"]), f"--kubeconfig={self.kubeconfig('proxy')}",
            "--proxy-mode=iptables", f"--cluster-cidr={PODS}",
            f"--hostname-override={NODE}",
            # Limits of the whole machine, which a node inside it may not set.
            "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0"])

    def kubelet(self) -> Service:
        keys = self.keys
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                               "x509": {"clientCAFile": str(keys.ca.certificate)}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(keys.kubelet.certificate), "tlsPrivateKeyFile": str(keys.kubelet.key),
            "clusterDNS": [ADDRESS], "clusterDomain": "cluster.local", "resolvConf": "/etc/resolv.conf",
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "podLogsDir": f"{self.state}/logs/pods",
            "volumePluginDir": f"{self.state}/kubelet/volume-plugins",
            "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{self.cgroup}",
            # What machines of continuous integration have: control groups of version 1, swap, and no right to
            # lower the kernel's score of a process.
            "failCgroupV1": False, "failSwapOn": False, "oomScoreAdj": 0,
            # The disk is shared with all that the machine does besides: when it fills up, pods stay.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%",
                             "nodefs.inodesFree": "1%"},
            "imageGCHighThresholdPercent": 100,
        }
        return Service("kubelet", [
            str(self.programs["kubelet"]), f"--config={self.write('kubelet.json', config)}",
            f"--kubeconfig={self.kubeconfig('node')}",
            f"--root-dir={self.state}/kubelet", f"--cert-dir={self.state}/kubelet/pki",
            f"--hostname-override={NODE}", f"--node-ip={ADDRESS}"])

    def containerd(self) -> Service:
        networks = self.state / "config" / "networks"
        networks.mkdir()
        self.write("networks/10-bridge.conflist", {
            "cniVersion": "1.0.0", "name": "bridge", "plugins": [
                {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
                 "ipam": {"type": "host-local", "subnet": PODS.replace("/16", "/24"),
                          "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}}]})
        folder = f"{self.state}/containerd"
        config = self.write("containerd.toml", f"""
            version = 2
            root = "{folder}/root"
            state = "{folder}/state"
            [grpc]
              address = "{self.socket}"
            [plugins."io.containerd.internal.v1.opt"]
              path = "{folder}/opt"
            [plugins."io.containerd.grpc.v1.cri"]
              sandbox_image = "{PAUSE}"
              restrict_oom_score_adj = true
              [plugins."io.containerd.grpc.v1.cri".cni]
                bin_dir = "/usr/lib/cni"
                conf_dir = "{networks}"
              [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
                runtime_type = "io.containerd.runc.v2"
        """)
        return Service("containerd", ["containerd", "--config", config, "--log-level", "warn"])

    # What a cluster has beside it

    def dns(self) -> Service:
        zones = self.write("Corefile", f"""
            cluster.local in-addr.arpa ip6.arpa {{
                bind {ADDRESS}
                errors
                kubernetes cluster.local in-addr.arpa ip6.arpa {{
                    kubeconfig {self.kubeconfig("admin")}
                    ttl 1
                }}
            }}
            {DOMAIN} {{
                bind {ADDRESS}
                template IN A {{
                    answer "{{{{ .Name }}}} 60 IN A {ADDRESS}"
                }}
                template ANY ANY {{
                    rcode NOERROR
                }}
            }}
            . {{
                bind {ADDRESS}
                health {ADDRESS}:8053
                template ANY ANY {{
                    rcode NXDOMAIN
                }}
            }}
        """)
        return Service("coredns", [str(self.programs["coredns"]), "-conf", zones],
                       ready=f"http://{ADDRESS}:8053/health")

    def ingress(self) -> Service:
        # A client that uploads for an hour is served for an hour.
        patient = [option for name in ("web", "websecure") for option in (
            f"--entrypoints.{name}.asdefault",
            f"--entrypoints.{name}.transport.respondingtimeouts.readtimeout=0")]
        return Service("traefik", [
            str(self.programs["traefik"]), f"--entrypoints.web.address={ADDRESS}:80",
            f"--entrypoints.websecure.address={ADDRESS}:443",
            "--entrypoints.websecure.http.tls", *patient,
            "--providers.kubernetesingress", f"--providers.kubernetesingress.ingressclass={INGRESS_CLASS}",
            f"--providers.kubernetesingress.ingressendpoint.ip={ADDRESS}",
            "--providers.kubernetesgateway", f"--providers.kubernetesgateway.statusaddress.ip={ADDRESS}",
            # What was applied is served at once, not collected for two seconds.
            "--providers.providersthrottleduration=50ms",
            f"--entrypoints.ping.address={ADDRESS}:8082", "--ping", "--ping.entrypoint=ping",
            "--log.level=INFO", "--log.nocolor", "--accesslog",
            f"--accesslog.filepath={self.state}/logs/traefik-access.log",
            "--global.checknewversion=false", "--global.sendanonymoususage=false"],
            {"KUBECONFIG": self.kubeconfig("admin")}, ready=f"http://{ADDRESS}:8082/ping")

    def store(self) -> Service:
        return Service(
            "minio", [str(self.programs["minio"]), "server", "--quiet", "--address",
                      STORE.endpoint.removeprefix("http://"), f"{self.state}/minio"],
            {"MINIO_ROOT_USER": STORE.access_key, "MINIO_ROOT_PASSWORD": STORE.secret_key,
             "MINIO_BROWSER": "off"},
            ready=f"{STORE.endpoint}/minio/health/ready")

    def postgres(self) -> Service:
        folder = f"{self.state}/postgres"
        # `all` leaves out the connections that a base backup is taken through.
        access = "".join(f"host {name} all 0.0.0.0/0 scram-sha-256\n" for name in ("all", "replication"))
        settings = {"listen_addresses": ADDRESS, "port": str(DATABASE.port), "max_connections": "300",
                    "unix_socket_directories": folder,
                    "hba_file": self.write("pg_hba.conf", access)}
        return Service(
            "postgres", [program("postgres"), "-D", f"{folder}/data",
                         *(f"-c{name}={value}" for name, value in settings.items())],
            user=self.user, ready=f"postgresql://{ADDRESS}:{DATABASE.port}")

    def pooler(self) -> Service:
        users = self.write("pgbouncer.users", f'"{DATABASE.user}" "{DATABASE.password}"\n')
        config = self.write("pgbouncer.ini", f"""
[databases]
* = host={ADDRESS} port={DATABASE.port}
[pgbouncer]
listen_addr = {ADDRESS}
listen_port = {DATABASE.pooled_port}
unix_socket_dir =
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 20
auth_type = scram-sha-256
auth_file = {users}
auth_user = {DATABASE.user}
auth_query = SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = $1
""")
        return Service("pgbouncer", ["pgbouncer", config], user=self.user,
                       ready=f"postgresql://{ADDRESS}:{DATABASE.pooled_port}")


def token(user: str) -> str:
    """With which a part of Kubernetes says who it is; nobody outside the node's network can use it."""
    return f"{user}-token"


def objects(volumes: Path) -> dict:
    """What every cluster of a cloud has by itself."""
    default = {"ingressclass.kubernetes.io/is-default-class": "true",
               "storageclass.kubernetes.io/is-default-class": "true"}
    classes = [
        {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
         "metadata": {"name": INGRESS_CLASS, "annotations": default},
         "spec": {"controller": "traefik.io/ingress-controller"}},
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
         "metadata": {"name": INGRESS_CLASS},
         "spec": {"controllerName": "traefik.io/gateway-controller"}},
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
         "metadata": {"name": STORAGE_CLASS, "annotations": default},
         "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"},
    ]
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    here = {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}}
    local = [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"local-{number}"},
         "spec": {"capacity": {"storage": "100Gi"}, "accessModes": ["ReadWriteOnce"],
                  "persistentVolumeReclaimPolicy": "Retain",
                  "storageClassName": STORAGE_CLASS, "local": {"path": str(volumes / str(number))},
                  "nodeAffinity": here}}
        for number in range(VOLUMES)]
    return {"apiVersion": "v1", "kind": "List", "items": [*classes, *local]}
