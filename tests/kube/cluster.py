"""A Kubernetes cluster of one node, of real parts, in a network namespace of its own.

    with Cluster(components="build/kube/bin", directory="build/kube/run") as cluster:
        cluster.load_image("holdfast.oci.tar")
        cluster.helm("install", "holdfast", "helm/holdfast", "--wait")
        cluster.kubectl("get", "pods")

etcd, API server, controllers, scheduler, kube-proxy, CoreDNS and kubelet are one binary
(components/); containerd, runc and the CNI plug-ins come from Debian. Services, DNS, `kubectl logs`
and `exec` work. Network policies are not enforced, and there is no volume provisioner (tests make
local volumes). The host's network and mounts are not touched.

Needs root; `why_not()` tells what else this machine lacks. The data is new with each start.
"""

import ctypes
import json
import os
import shutil
import signal
import string
import subprocess
import time

NAMESPACE = "holdfast-kube"
NODE = "node-1"
NODE_IP = "10.231.33.1"
POD_NETWORK = "10.231.32.0/24"
STATE = "/run/holdfast-kube"  # Sockets need short paths.
HERE = os.path.dirname(os.path.realpath(__file__))
# What the kubelet wants changed and is the whole machine's: it sees files in their place.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}


class Failed(Exception):
    """A command or a component failed, or something did not happen in time."""


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(str(part) for part in command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def why_not():
    """What keeps the cluster from running on this machine; None: nothing known."""
    if os.geteuid() != 0:
        return "it needs root, for namespaces and mounts"
    for program in ("ip", "iptables", "nsenter", "containerd", "runc", "openssl"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    with open("/proc/filesystems", encoding="ascii") as file:
        if not any(line.split()[-1] == "overlay" for line in file):
            return "the kernel has no overlayfs"
    probe = NAMESPACE + "-probe"
    try:
        run("ip", "netns", "add", probe)
        run(
            *["nsenter", f"--net=/run/netns/{probe}", "iptables", "-t", "nat", "-A", "PREROUTING"],
            *["-p", "tcp", "-m", "statistic", "--mode", "random", "--probability", "0.5"],
            *["-j", "DNAT", "--to", "10.0.0.1"],
        )
        return None
    except Failed as error:
        return str(error)
    finally:
        subprocess.run(["ip", "netns", "del", probe], check=False, capture_output=True)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Cluster:
    def __init__(self, components, directory, helm="helm"):
        self.kube = os.path.join(os.path.abspath(components), "kube")
        self.pause_image = os.path.join(os.path.abspath(components), "pause.tar")
        self.directory = os.path.abspath(directory)
        self.helm_binary = helm
        self.kubeconfig = self.path("kubeconfig.yaml")
        self.processes = []  # (name, Popen), in the order of their start.
        self.mounts = None  # The process that keeps the node's mount namespace.

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    # What tests do.

    def inside(self, *command, **options):
        """Runs a command in the cluster's network; its output."""
        return run("nsenter", f"--net=/run/netns/{NAMESPACE}", *command, **options)

    def popen(self, *command, **options):
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{NAMESPACE}", *(str(part) for part in command)],
            preexec_fn=die_with_parent,
            **options,
        )

    def kubectl(self, *arguments, **options):
        kubectl = [self.kube, "kubectl", "--kubeconfig", self.kubeconfig]
        return self.inside(*kubectl, *arguments, **options)

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects):
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        return self.kubectl("apply", "--validate=strict", "-f", "-", input=json.dumps(listed))

    def create(self, one, *options):
        """The object as it is stored, after admission."""
        create = ["create", "-f", "-", "-o", "json", *options]
        return json.loads(self.kubectl(*create, input=json.dumps(one)))

    def admit(self, one):
        """The object as it would be stored."""
        return self.create(one, "--dry-run=server")

    def helm(self, *arguments):
        return self.inside(self.helm_binary, "--kubeconfig", self.kubeconfig, *arguments)

    def load_image(self, archive):
        socket = f"{STATE}/containerd.sock"
        return run("ctr", "-a", socket, "-n", "k8s.io", "images", "import", archive)

    def wait(self, what, condition, seconds=60):
        """What `condition` returns as soon as that is true."""
        end = time.monotonic() + seconds
        while True:
            last = condition()
            if last:
                return last
            if time.monotonic() > end:
                raise Failed(f"after {seconds} s still not: {what}")
            time.sleep(0.2)

    def follow(self, namespace, pod, container):
        """Reads what the container writes, until its end. Without this it is gone with the pod."""
        kubectl = [self.kube, "kubectl", "--kubeconfig", self.kubeconfig, "-n", namespace]
        logs = [*kubectl, "logs", "--follow", "--timestamps", pod, "-c", container]
        return self.popen(*logs, stdout=subprocess.PIPE, text=True)

    # Start.

    def start(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        for folder in ("logs", "pod-logs", "cni", "settings", "pki"):
            os.makedirs(self.path(folder))
        os.makedirs(STATE)
        self.make_network()
        self.make_certificates()
        for name in os.listdir(os.path.join(HERE, "node")):
            self.write_settings(name, "cni/pods.conflist" if name == "pods.conflist" else name)
        self.start_control_plane()
        self.start_node()

    def make_network(self):
        run("ip", "netns", "add", NAMESPACE)
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "link", "add", "node0", "type", "bridge")
        self.inside("ip", "address", "add", f"{NODE_IP}/24", "dev", "node0")
        self.inside("ip", "link", "set", "node0", "up")
        # Addresses of services have no route but this one; they are translated before it counts.
        self.inside("ip", "route", "add", "default", "via", NODE_IP, "dev", "node0")

    def make_certificates(self):
        pki = self.path("pki")
        new_key = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        run(
            *[*new_key, "-nodes", "-x509", "-days", "30", "-subj", "/CN=kube-ca"],
            *["-keyout", f"{pki}/ca.key", "-out", f"{pki}/ca.crt"],
        )
        for name, subject, extension in (
            ("api", "/CN=kube-apiserver", f"subjectAltName=IP:{NODE_IP},IP:10.96.0.1"),
            ("admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth"),
        ):
            with open(f"{pki}/{name}.ext", "w", encoding="ascii") as file:
                file.write(extension + "\n")
            run(
                *[*new_key, "-nodes", "-subj", subject],
                *["-keyout", f"{pki}/{name}.key", "-out", f"{pki}/{name}.csr"],
            )
            run(
                *["openssl", "x509", "-req", "-in", f"{pki}/{name}.csr", "-days", "30"],
                *["-CA", f"{pki}/ca.crt", "-CAkey", f"{pki}/ca.key", "-CAcreateserial"],
                *["-extfile", f"{pki}/{name}.ext", "-out", f"{pki}/{name}.crt"],
            )
        run("openssl", "genrsa", "-out", f"{pki}/service-accounts.key", "2048")

    def write_settings(self, template, name):
        with open(os.path.join(HERE, "node", template), encoding="ascii") as file:
            text = string.Template(file.read()).substitute(
                directory=self.directory,
                state=STATE,
                node=NODE,
                node_ip=NODE_IP,
                pod_network=POD_NETWORK,
                kubeconfig=self.kubeconfig,
            )
        with open(self.path(name), "w", encoding="ascii") as file:
            file.write(text)

    def spawn(self, name, *command):
        with open(self.path("logs", name + ".log"), "wb") as log:
            process = self.popen(
                *command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append((name, process))

    def check_alive(self):
        for name, process in self.processes:
            if process.poll() is not None:
                with open(self.path("logs", name + ".log"), encoding="utf-8") as file:
                    last = "".join(file.readlines()[-15:])
                raise Failed(f"{name} ended with {process.returncode}:\n{last}")

    def answered(self, *arguments):
        """What kubectl prints, or nothing while it fails."""
        self.check_alive()
        try:
            return self.kubectl(*arguments)
        except Failed:
            return ""

    def start_control_plane(self):
        pki = self.path("pki")
        self.spawn("etcd", self.kube, "etcd", "--data-dir", self.path("etcd"), "--unsafe-no-fsync")
        self.spawn(
            "kube-apiserver",
            *[self.kube, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379"],
            *[f"--advertise-address={NODE_IP}", "--secure-port=6443"],
            *[f"--tls-cert-file={pki}/api.crt", f"--tls-private-key-file={pki}/api.key"],
            *["--authorization-mode=Node,RBAC", f"--client-ca-file={pki}/ca.crt"],
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki}/service-accounts.key",
            f"--service-account-signing-key-file={pki}/service-accounts.key",
            "--kubelet-preferred-address-types=InternalIP",
            *["--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true"],
        )
        self.wait("the API server is ready", lambda: self.answered("get", "--raw", "/readyz"), 120)
        self.spawn(
            "kube-controller-manager",
            *[self.kube, "kube-controller-manager", "--kubeconfig", self.kubeconfig],
            *["--leader-elect=false", "--use-service-account-credentials=true"],
            f"--service-account-private-key-file={pki}/service-accounts.key",
            f"--root-ca-file={pki}/ca.crt",
        )
        self.spawn(
            "kube-scheduler",
            *[self.kube, "kube-scheduler", "--kubeconfig", self.kubeconfig, "--leader-elect=false"],
        )
        self.wait(
            "the namespace default has its service account",
            lambda: self.answered("get", "serviceaccount", "default"),
        )

    def make_mount_namespace(self):
        """Where containerd and kubelet mount, out of the host's sight; gone with its processes."""
        script = [
            "set -e",
            "mkdir -p /run/netns /run/containerd",
            "mount -t tmpfs none /run/netns",
            "mount -t tmpfs none /run/containerd",
        ]
        for setting, value in KERNEL_SETTINGS.items():
            file = self.path("settings", setting.replace("/", "."))
            with open(file, "w", encoding="ascii") as out:
                out.write(f"{value}\n")
            script.append(
                f"[ ! -e /proc/sys/{setting} ] || mount --bind {file} /proc/sys/{setting}"
            )
        script.append("echo ready; exec sleep infinity")
        self.mounts = self.popen(
            *["unshare", "--mount", "--propagation", "private", "bash", "-c", "\n".join(script)],
            stdout=subprocess.PIPE,
        )
        if self.mounts.stdout.readline() != b"ready\n":
            raise Failed("the node's mount namespace could not be made")

    def spawn_on_node(self, name, *command):
        self.spawn(name, "nsenter", f"--mount=/proc/{self.mounts.pid}/ns/mnt", *command)

    def start_node(self):
        self.make_mount_namespace()
        self.spawn_on_node("containerd", "containerd", "-c", self.path("containerd.toml"))
        self.wait("containerd answers", self.containerd_answers)
        self.load_image(self.pause_image)
        self.spawn_on_node(
            "kubelet",
            *[self.kube, "kubelet", "--config", self.path("kubelet.yaml"), "--v=2"],
            *["--kubeconfig", self.kubeconfig, "--root-dir", self.path("kubelet")],
            *[f"--hostname-override={NODE}", f"--node-ip={NODE_IP}"],
        )
        self.spawn("kube-proxy", self.kube, "kube-proxy", "--config", self.path("kube-proxy.yaml"))
        self.spawn("coredns", self.kube, "coredns", "-conf", self.path("Corefile"))
        ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        self.wait(
            "the node is ready",
            lambda: self.answered("get", "node", NODE, "-o", ready) == "True",
            90,
        )

    def containerd_answers(self):
        self.check_alive()
        version = ["ctr", "-a", f"{STATE}/containerd.sock", "version"]
        return subprocess.run(version, capture_output=True, check=False).returncode == 0

    # Stop.

    def stop(self):
        """Ends everything, also what a run that was killed has left."""
        for name, process in self.processes:
            if name == "kubelet":  # Or it would start again what ends now.
                process.kill()
                process.wait()
        end_containers()
        for _, process in reversed(self.processes):
            end(process)
        if self.mounts is not None:
            end(self.mounts)
            self.mounts.stdout.close()
        self.processes, self.mounts = [], None
        if os.path.exists(f"/run/netns/{NAMESPACE}"):
            run("ip", "netns", "del", NAMESPACE)
        shutil.rmtree(STATE, ignore_errors=True)
        for controller in os.listdir("/sys/fs/cgroup"):
            for group, _, _ in os.walk(f"/sys/fs/cgroup/{controller}/kubepods", topdown=False):
                try:
                    os.rmdir(group)
                except OSError:
                    pass  # Its last process is still on its way out; the next start tries again.


def end(process):
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_containers():
    """Kills the shims of the cluster's containerd, and their containers."""
    parents = {}
    shims = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                parents[pid] = int(file.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read().split(b"\0")
        except OSError:
            continue
        if b"containerd-shim" in command[0] and f"{STATE}/containerd.sock".encode() in command:
            shims.append(pid)
    containers = [pid for pid, parent in parents.items() if parent in shims]
    for pid in (*shims, *containers):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
