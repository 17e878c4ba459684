"""Starts real processes and real clients for the end-to-end tests.

Processes get ports below the ephemeral range, so that no client's socket takes the port of one that
was killed and is to come back. Everything lives in one temporary directory per test.
"""

import contextlib
import glob
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

HOLDFAST = None  # The binary under test, the first argument of every test file.
LONG = os.environ.get("HOLDFAST_LONG") == "1"
START_TIMEOUT = 20.0


def main():
    """Runs the tests of the calling file; its first argument is the binary."""
    global HOLDFAST
    sys.modules["harness"].HOLDFAST = os.path.abspath(sys.argv.pop(1))
    unittest.main(module="__main__", verbosity=2)


def wait_for(condition, timeout=20.0, what="condition"):
    """Polls until the condition gives something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.02)


def own_ports():
    """400 ports that no other test file which runs now takes: it holds the first of them."""
    for first in range(20000, 30000, 400):
        held = socket.socket()
        with contextlib.suppress(OSError):
            held.bind(("127.0.0.1", first))
            return held, itertools.cycle(range(first + 1, first + 400))
        held.close()
    raise AssertionError("no ports are left for this test")


_held, _ports = own_ports()


def free_port():
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


class Process:
    """One `holdfast` process that may be killed and started again. `prefix` is a command that runs
    it, for one in a network namespace."""

    def __init__(self, role, directory, *arguments, environment=None, host="127.0.0.1", prefix=()):
        self.role = role
        self.directory = directory
        self.arguments = arguments
        self.environment = dict(os.environ, **(environment or {}))
        self.log_path = os.path.join(directory, f"{role}.log")
        self.out_path = os.path.join(directory, f"{role}.out")
        self.address = f"{host}:{free_port()}"
        self.admin = f"{host}:{free_port()}"
        self.prefix = prefix
        self.child = None
        self.starts = 0

    def start(self):
        assert self.child is None, f"{self.role} already runs"
        self.starts += 1
        command = [*self.prefix, HOLDFAST, self.role, "--listen", self.address, "--admin",
                   self.admin, *self.arguments]
        with open(self.out_path, "wb") as out, open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                                          env=self.environment)
        lines = wait_for(self._listeners, START_TIMEOUT, f"{self.role} to listen\n{self.log()}")
        self.address, self.admin = lines
        return self

    def _listeners(self):
        if self.child.poll() is not None:
            raise AssertionError(f"{self.role} exited with {self.child.returncode}:\n{self.log()}")
        with open(self.out_path, encoding="utf-8") as out:
            text = out.read()
        found = [re.search(rf"^{self.role} {what} (\S+)$", text, re.M)
                 for what in ("listening on", "admin on")]
        return [match.group(1) for match in found] if all(found) else None

    def running(self):
        return self.child is not None and self.child.poll() is None

    def kill(self):
        """kill -9."""
        self.child.kill()
        self.child.wait()
        self.child = None

    def stop(self, timeout=20.0):
        """SIGTERM; returns the exit code."""
        self.child.send_signal(signal.SIGTERM)
        code = self.child.wait(timeout)
        self.child = None
        return code

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def post(self, path, body=b""):
        """The status, and the text."""
        request = urllib.request.Request(f"http://{self.admin}{path}", method="POST", data=body)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name):
        """The sum over all labels of a series."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics"), re.M)
        return sum(map(float, found))

    def wait_drained(self, timeout=60.0):
        """Until an agent has nothing left to deliver of what it has acknowledged so far. The ledger
        is measured once a second."""
        begun_ms = time.time() * 1000

        def drained():
            ledger = json.loads(self.get("/ledger"))
            return ledger["measured_ms"] > begun_ms and all(
                stream["confirmed"] >= stream["end"] for stream in ledger["streams"])

        wait_for(drained, timeout, "an empty spool")

    def wait_written(self):
        """The same, and its spool says so, which a kill leaves behind: cursors are written a little
        later. Dead letters may be there."""
        self.wait_drained()
        spool = self.arguments[self.arguments.index("--spool") + 1]

        def written():
            listed = subprocess.run([HOLDFAST, "spool", "ls", spool, "--json"], check=True,
                                    capture_output=True, text=True, timeout=20).stdout
            return all(stream["records"] == 0 for stream in map(json.loads, listed.splitlines())
                       if not stream["stream"].endswith("/dead-letters"))

        wait_for(written, what="cursors in the spool")

    def log(self):
        with contextlib.suppress(FileNotFoundError):
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-40:])
        return ""


class Site:
    """A directory, and processes that live in it."""

    def __init__(self, directory):
        self.directory = directory
        self.processes = []

    def path(self, name):
        return os.path.join(self.directory, name)

    def broker(self, *arguments):
        process = Process("broker", self.directory, "--data", self.path("broker"),
                          "--set", "broker.groups.initial_rebalance_delay_ms=0", *arguments)
        self.processes.append(process)
        return process

    def agent(self, upstream, *arguments):
        process = Process("agent", self.directory, "--spool", self.path("agent"),
                          "--upstream", upstream, *arguments)
        self.processes.append(process)
        return process

    def kill(self):
        for process in self.processes:
            if process.running():
                process.kill()


class Case(Site, unittest.TestCase):
    """A temporary directory, and processes that are gone when the test ends."""

    def __init__(self, *arguments):
        unittest.TestCase.__init__(self, *arguments)

    def setUp(self):
        Site.__init__(self, tempfile.mkdtemp(prefix="holdfast-e2e-"))

    def tearDown(self):
        self.kill()
        failed = not self._outcome.success
        if failed:
            for process in self.processes:
                print(f"--- last lines of {process.role}'s log\n{process.log()}", file=sys.stderr)
        shutil.rmtree(self.directory, ignore_errors=True)


def kcat(*arguments, data=None, timeout=30.0, check=True):
    """Runs kcat to its end; returns its output."""
    if isinstance(data, str):
        data = data.encode()
    done = subprocess.run(["kcat", *arguments], input=data, capture_output=True, timeout=timeout,
                          **({"stdin": subprocess.DEVNULL} if data is None else {}))
    if check and done.returncode != 0:
        raise AssertionError(f"kcat {' '.join(arguments)}: exit {done.returncode}\n"
                             f"{done.stderr.decode(errors='replace')}")
    return done.stdout.decode()


def produce(address, topic, lines, *arguments, timeout=30.0):
    """One record per line."""
    kcat("-P", "-b", address, "-t", topic, *arguments, data="\n".join(lines) + "\n",
         timeout=timeout)


def consume(address, topic, *arguments, timeout=30.0):
    """All records there are, as a list of lines."""
    return kcat("-C", "-q", "-b", address, "-t", topic, "-o", "beginning", "-e", *arguments,
                timeout=timeout).splitlines()


def records(address, topic):
    """All of a topic's records, those of each partition in order."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "check",
                         "isolation.level": "read_committed"})
    found = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    ends = {number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)[1]
            for number in found}
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in found])
    taken = []
    at = {number: 0 for number in found}
    wait_until = time.monotonic() + 60
    while any(at[number] < end for number, end in ends.items()):
        if time.monotonic() > wait_until:
            raise AssertionError(f"{topic}: {at} of {ends}")
        message = consumer.poll(1)
        if message is not None and not message.error():
            taken.append(message)
            at[message.partition()] = message.offset() + 1
    consumer.close()
    return taken


def damage(spool, needle):
    """Flips a bit in every copy of these bytes."""
    hits = 0
    for path in glob.glob(spool + "/*.segment"):
        with open(path, "r+b") as file:
            data = file.read()
            at = data.find(needle)
            while at >= 0:
                file.seek(at)
                file.write(bytes([data[at] ^ 1]))
                hits += 1
                at = data.find(needle, at + 1)
    if hits == 0:
        raise AssertionError(f"{needle} is not in {spool}")


def transactional(address, transactional_id, timeout_ms=60000):
    """A producer that is ready to begin its first transaction."""
    producer = Producer({"bootstrap.servers": address, "transactional.id": transactional_id,
                         "transaction.timeout.ms": timeout_ms, "linger.ms": 1,
                         "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 50, "log_level": 2})
    producer.init_transactions(30)
    return producer


def committed_values(address, topic, partition=0):
    """What a read_committed consumer sees of a partition, up to the last stable offset."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "committed",
                         "isolation.level": "read_committed", "enable.partition.eof": True,
                         "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0)])
    values = []
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error() is None:
                values.append(message.value().decode())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                return values
        raise AssertionError(f"no end of {topic}/{partition}")
    finally:
        consumer.close()
