#!/usr/bin/python3
"""The image, as a cluster would run it: built by buildah, unpacked by umoci, run by runc with a
memory limit, a read-only root, uid 65532 and no capabilities, in a network namespace of its own.

usage: image_test.py BINARY VERSION BUILD_SCRIPT [CASE...]
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

NOT_RUN = 77  # What ctest shows as skipped, with the reason in the log.
BYTES_MAX = 25_000_000
MEMORY_BYTES = 128 << 20
UID = 65532
BINARY = VERSION = BUILD = None


def why_not():
    """What this machine cannot do; None if it can."""
    if os.geteuid() != 0:
        return "only root may make namespaces and control groups here"
    for tool in ("buildah", "umoci", "runc", "kcat", "nsenter", "unshare"):
        if shutil.which(tool) is None:
            return f"{tool} is missing"
    probe = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "mount", "-t",
                            "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if probe.returncode != 0:
        return f"no namespaces here: {probe.stderr.strip()}"
    return None


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(condition, what, timeout=30.0):
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.05)
    return result


class Container:
    """One container of the image. `network_of`: another one, whose network it shares."""

    def __init__(self, test, name, arguments, state, network_of=None):
        self.id = f"holdfast-test-{os.getpid()}-{name}"
        self.bundle = os.path.join(test.directory, f"bundle-{self.id}")
        self.log_path = os.path.join(test.directory, f"{name}.log")
        shutil.rmtree(self.bundle, ignore_errors=True)
        run("umoci", "unpack", "--image", f"{test.layout}:test", self.bundle)
        config_path = os.path.join(self.bundle, "config.json")
        with open(config_path, encoding="utf-8") as file:
            config = json.load(file)
        process = config["process"]
        assert (process["user"]["uid"], process["user"]["gid"]) == (UID, UID), process["user"]
        process["args"] += arguments
        process.update(terminal=False, noNewPrivileges=True, capabilities={})
        config["root"]["readonly"] = True
        config["mounts"] = [mount for mount in config["mounts"]
                            if mount["destination"] not in ("/sys", "/sys/fs/cgroup",
                                                            "/var/lib/holdfast")]
        config["mounts"].append({"destination": "/var/lib/holdfast", "type": "bind",
                                 "source": state, "options": ["bind", "rw"]})
        namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
        namespaces.append({"type": "network"})
        if network_of is not None:
            namespaces[-1]["path"] = f"/proc/{network_of.pid}/ns/net"
        config["linux"].update(namespaces=namespaces, cgroupsPath=f"/{self.id}",
                               resources={"memory": {"limit": MEMORY_BYTES}})
        with open(config_path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                ["runc", "--root", test.path("runc"), "run", "--bundle", self.bundle,
                 "--pid-file", test.path(f"{name}.pid"), self.id],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.test = test
        self.pid = None
        self.pid = wait_for(lambda: self.read_pid(test.path(f"{name}.pid")), self.log)

    def read_pid(self, path):
        if self.child.poll() is not None:
            raise AssertionError(f"{self.id}: exit {self.child.returncode}\n{self.log()}")
        with contextlib.suppress(FileNotFoundError):
            with open(path, encoding="utf-8") as file:
                return int(file.read() or 0)
        return None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_ready(self, port):
        wait_for(lambda: self.inside("kcat", "-L", "-m", "1", "-b", f"127.0.0.1:{port}",
                                     check=False), f"{self.id} to be ready:\n{self.log()}")

    def inside(self, *command, data=None, check=True):
        """Runs a command of this machine in the container's network."""
        done = subprocess.run(["nsenter", "--net", "--target", str(self.pid), *command],
                              input=data, capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stderr}\n{self.log()}")
        return done.stdout

    def status(self):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    def stop(self):
        """SIGTERM; the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        code = self.child.wait(30)
        os.remove(self.test.path(f"{self.id.rsplit('-', 1)[1]}.pid"))
        return code


class ImageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="holdfast-image-")
        cls.layout = os.path.join(cls.directory, "layout")
        cls.said = run(BUILD, BINARY, VERSION, "localhost/holdfast:test", cls.directory)
        cls.archive = os.path.join(cls.directory, "holdfast.oci.tar")
        with tarfile.open(cls.archive) as archive:
            archive.extractall(cls.layout)
        with open(os.path.join(cls.layout, "index.json"), encoding="utf-8") as file:
            index = json.load(file)
        cls.digest = index["manifests"][0]["digest"]
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "test"
        with open(os.path.join(cls.layout, "index.json"), "w", encoding="utf-8") as file:
            json.dump(index, file)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.directory, ignore_errors=True)

    def setUp(self):
        self.containers = []

    def tearDown(self):
        for container in reversed(self.containers):
            subprocess.run(["runc", "--root", self.path("runc"), "delete", "--force", container.id],
                           capture_output=True)
            container.child.wait()

    def path(self, name):
        return os.path.join(self.directory, name)

    def state(self, name):
        directory = self.path(f"state-{name}")
        os.makedirs(directory, exist_ok=True)
        os.chown(directory, UID, UID)
        return directory

    def start(self, *arguments, **options):
        container = Container(self, *arguments, **options)
        self.containers.append(container)
        return container

    def blob(self, digest):
        with open(os.path.join(self.layout, "blobs", *digest.split(":")), encoding="utf-8") as file:
            return json.load(file)

    def test_it_is_small_has_no_shell_and_says_what_it_is(self):
        self.assertLess(os.path.getsize(self.archive), BYTES_MAX, self.said)
        manifest = self.blob(self.digest)
        self.assertEqual(len(manifest["layers"]), 1)
        config = self.blob(manifest["config"]["digest"])["config"]
        self.assertEqual(config["User"], "65532:65532")
        self.assertEqual(config["Entrypoint"], ["/usr/bin/holdfast"])
        labels = config["Labels"]
        self.assertEqual(labels["org.opencontainers.image.version"], VERSION)
        for name in ("title", "description", "revision", "created", "licenses"):
            self.assertTrue(labels[f"org.opencontainers.image.{name}"], name)
        layer = os.path.join(self.layout, "blobs", *manifest["layers"][0]["digest"].split(":"))
        with tarfile.open(layer) as files:
            members = files.getmembers()
        names = {member.name for member in members}
        self.assertIn("usr/bin/holdfast", names)
        self.assertEqual([name for name in names if name.startswith(("bin/", "usr/bin/"))],
                         ["usr/bin/holdfast"])
        self.assertIn("var/lib/dpkg/status.d/libssl3", names)
        self.assertIn("usr/share/doc/libssl3/copyright", names)
        self.assertIn("usr/share/zoneinfo/Europe/Berlin", names)
        self.assertIn("var/lib/dpkg/status.d/tzdata", names)
        self.assertEqual({member.mode & 0o6000 for member in members if member.isfile()}, {0})
        self.assertEqual(len({member.mtime for member in members}), 1)

    def test_it_is_the_same_when_it_is_built_again(self):
        again = self.path("again")
        run(BUILD, BINARY, VERSION, "localhost/holdfast:test", again)
        with tarfile.open(os.path.join(again, "holdfast.oci.tar")) as archive:
            index = json.load(archive.extractfile("index.json"))
        self.assertEqual(index["manifests"][0]["digest"], self.digest)

    def test_agent_and_broker_work_in_it_and_the_spool_outlives_a_container(self):
        state = self.state("agent")
        arguments = ["agent", "--upstream", "127.0.0.1:9192", "--spool", "/var/lib/holdfast/spool",
                     "--listen", "127.0.0.1:9092", "--admin", "127.0.0.1:9090",
                     "--set", "agent.topics=[{name: orders}]"]
        agent = self.start("agent", arguments, state)
        agent.wait_ready(9092)
        status = agent.status()
        self.assertEqual(status["Uid"].split(), [str(UID)] * 4)
        self.assertEqual(int(status["CapEff"], 16), 0)
        self.assertEqual(int(status["CapBnd"], 16), 0)
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        self.assertEqual(self.memory_limit(agent), MEMORY_BYTES)
        agent.inside("kcat", "-P", "-b", "127.0.0.1:9092", "-t", "orders", data="a\nb\n")
        self.assertEqual(agent.stop(), 0, agent.log())

        agent = self.start("agent", arguments, state)
        broker = self.start("broker", ["broker", "--data", "/var/lib/holdfast/data", "--listen",
                                       "127.0.0.1:9192", "--admin", "127.0.0.1:9190"],
                            self.state("broker"), network_of=agent)
        broker.wait_ready(9192)
        agent.inside("kcat", "-P", "-b", "127.0.0.1:9092", "-t", "orders", data="c\n")
        wait_for(lambda: self.orders(broker) == ["a", "b", "c"], "what waited to arrive")
        self.assertEqual(agent.stop(), 0, agent.log())
        self.assertEqual(broker.stop(), 0, broker.log())

    @staticmethod
    def orders(broker):
        return broker.inside("kcat", "-C", "-q", "-e", "-b", "127.0.0.1:9192", "-t", "orders", "-o",
                             "beginning", check=False).split()

    @staticmethod
    def memory_limit(container):
        with open(f"/proc/{container.pid}/cgroup", encoding="utf-8") as file:
            groups = [line.strip().split(":", 2) for line in file]
        for _, controllers, path in groups:
            file = (f"/sys/fs/cgroup{path}/memory.max" if not controllers else
                    f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")
            if (not controllers or "memory" in controllers.split(",")) and os.path.exists(file):
                with open(file, encoding="utf-8") as limit:
                    return int(limit.read())
        raise AssertionError(f"no memory control group: {groups}")


if __name__ == "__main__":
    BINARY, VERSION, BUILD = map(str, sys.argv[1:4])
    del sys.argv[1:4]
    if reason := why_not():
        print(f"not run: {reason}")
        sys.exit(NOT_RUN)
    unittest.main(verbosity=2)
