"""Starts, kills and restarts a real Apache Kafka 4.2.1 for tests. The jars go to build/interop.

    class ForwardTest(apache_kafka.Case):
        def test_something(self):
            kafka = self.kafka({"auto.create.topics.enable": "false"}, relay=True).start()
            agent = self.agent(kafka.upstream).start()
            kafka.relay.hold(relay.ANSWERS)

    if __name__ == "__main__":
        apache_kafka.main()
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import harness  # noqa: E402
from harness import free_port, wait_for  # noqa: E402
from relay import Relay  # noqa: E402

from confluent_kafka.admin import AdminClient  # noqa: E402

VERSION = "4.2.1"
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
LIBRARIES = os.path.join(ROOT, "build", "interop", "kafka-" + VERSION)
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp", LIBRARIES + "/*"]
START_TIMEOUT = 90.0  # About five seconds on an idle machine.


def fetch():
    """Kafka's jars, once, whoever else wants them at the same time."""
    os.makedirs(os.path.dirname(LIBRARIES), exist_ok=True)
    with open(LIBRARIES + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(LIBRARIES):
            download()


def download():
    print("fetching Apache Kafka with maven", file=sys.stderr, flush=True)
    command = ["mvn", "-q", "-B", "-f", os.path.join(ROOT, "tests", "interop", "pom.xml"),
               "dependency:copy-dependencies", f"-DoutputDirectory={LIBRARIES}.part"]
    for attempt in range(3):
        if subprocess.run(command, check=attempt == 2, stdin=subprocess.DEVNULL).returncode == 0:
            break
    os.rename(LIBRARIES + ".part", LIBRARIES)


def main():
    """Runs the tests of the calling file; its first argument is the binary."""
    fetch()
    harness.main()


def java(tool, *arguments, data=None, timeout=60, prefix=()):
    """One of Kafka's command-line tools, run to its end."""
    done = subprocess.run([*prefix, *JAVA, "-Xmx256m", tool, *arguments], input=data,
                          capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise AssertionError(f"{tool} {' '.join(arguments)}: exit {done.returncode}\n"
                             f"{done.stdout}{done.stderr}")
    return done.stdout


class Kafka:
    """One node: broker and controller, or a further broker of the cluster of another one.

    `address` reaches it directly. `upstream` is what to give to an agent: a listener of its own
    (named LINK, the other is DIRECT), which a relay may stand in front of. Both are in the metadata
    that their clients get, so that nothing goes around the relay. `options` are server properties
    and override those below; listener.security.protocol.map, for one, gives LINK TLS or SASL.
    `prefix` is a command that runs it.
    """

    def __init__(self, directory, options=None, *, relay=False, join=None, host="127.0.0.1",
                 prefix=()):
        self.role = "kafka"
        self.join = join
        self.node = 1 if join is None else join.root().take_node()
        self.nodes = self.node
        self.directory = os.path.join(directory, f"kafka-{self.node}")
        os.mkdir(self.directory)
        self.log_path = os.path.join(self.directory, "server.log")
        self.properties_path = os.path.join(self.directory, "server.properties")
        ports = [free_port() for _ in range(3)]
        self.address, link, self.controller = (f"{host}:{port}" for port in ports)
        self.relay = Relay(link) if relay else None
        self.upstream = self.relay.address if relay else link
        self.prefix = prefix
        self.child = None
        with open(self.properties_path, "w", encoding="utf-8") as file:
            for key, value in (self._properties(link) | (options or {})).items():
                file.write(f"{key}={value}\n")
        java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", self.properties_path)

    def root(self):
        return self if self.join is None else self.join.root()

    def take_node(self):
        self.nodes += 1
        return self.nodes

    def _properties(self, link):
        own = self.join is None
        listeners = f"DIRECT://{self.address},LINK://{link}"
        return {
            "process.roles": "broker,controller" if own else "broker",
            "node.id": self.node,
            "controller.quorum.voters": f"1@{self.root().controller}",
            "listeners": f"{listeners},CONTROLLER://{self.controller}" if own else listeners,
            "advertised.listeners": f"DIRECT://{self.address},LINK://{self.upstream}",
            "listener.security.protocol.map":
                "DIRECT:PLAINTEXT,LINK:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "DIRECT",
            "log.dirs": os.path.join(self.directory, "data"),
            "num.partitions": 4,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker may come back when the controller has given it up.
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 2000,
        }

    def start(self, wait=True):
        assert self.child is None, "Kafka already runs"
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                [*self.prefix, *JAVA, "-Xmx512m", "kafka.Kafka", self.properties_path],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        """Until it tells clients of itself."""
        listing = [*self.prefix, "kcat", "-b", self.address, "-L", "-J", "-m", "1"]

        def ready():
            if self.child.poll() is not None:
                raise AssertionError(f"Kafka exited with {self.child.returncode}:\n{self.log()}")
            done = subprocess.run(listing, capture_output=True, check=False)
            return done.returncode == 0 and any(
                broker["id"] == self.node for broker in json.loads(done.stdout)["brokers"])

        wait_for(ready, START_TIMEOUT, "Kafka to answer")

    def running(self):
        return self.child is not None and self.child.poll() is None

    def kill(self):
        """kill -9."""
        self.child.kill()
        self.child.wait()
        self.child = None

    def stop(self, timeout=60.0):
        """A clean stop."""
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(timeout)
        self.child = None

    def pause(self):
        """It stops answering, its connections stay."""
        self.child.send_signal(signal.SIGSTOP)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)

    def admin(self):
        return AdminClient({"bootstrap.servers": self.address})

    def log(self):
        with contextlib.suppress(FileNotFoundError):
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-40:])
        return ""


class Case(harness.Case):
    """harness.Case, and real Kafkas that are gone when the test ends."""

    def kafka(self, options=None, *, relay=False, join=None):
        kafka = Kafka(self.directory, options, relay=relay, join=join)
        self.processes.append(kafka)
        if kafka.relay is not None:
            self.addCleanup(kafka.relay.close)
        return kafka

    @classmethod
    def shared_kafka(cls, options=None, *, relay=False):
        """One for all tests of the class, which take topics of their own; as the first has asked
        for it. Healthy again, whatever the test before has left."""
        shared = cls.__dict__.get("shared")
        if shared is None:
            directory = tempfile.mkdtemp(prefix="holdfast-interop-")
            cls.addClassCleanup(shutil.rmtree, directory, ignore_errors=True)
            shared = cls.shared = Kafka(directory, options, relay=relay)
            cls.addClassCleanup(lambda: shared.running() and shared.kill())
            if relay:
                cls.addClassCleanup(shared.relay.close)
        if relay:
            shared.relay.heal()
        if not shared.running():
            shared.start()
        return shared

    def tearDown(self):
        failed = not self._outcome.success
        super().tearDown()
        if failed and type(self).__dict__.get("shared") is not None:
            print(f"--- last lines of the shared Kafka's log\n{self.shared.log()}",
                  file=sys.stderr)
