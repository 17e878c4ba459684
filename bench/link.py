"""Reads from a broker across a link of a known rate, directly and through an agent beside the
consumer, as a sidecar has it: the broker is in a network namespace of its own, consumer and agent
are in another, and what goes to them is held to the rate (`tc`, a token bucket). Needs root.
"""

import contextlib
import os
import subprocess
import time

import harness

BROKER, CONSUMER = "holdfast-bench-broker", "holdfast-bench-consumer"
DEVICE = "veth-bench"  # In both.
ADDRESS = {BROKER: "10.99.0.2", CONSUMER: "10.99.0.1"}


def run(*command):
    subprocess.run(command, check=True)


class Within(harness.Process):
    """A process in a namespace."""

    def __init__(self, namespace, host, *arguments):
        super().__init__(*arguments)
        self.prefix = ("ip", "netns", "exec", namespace)
        self.address = f"{host}:19092"
        self.admin = f"{host}:19093"


@contextlib.contextmanager
def namespaces():
    made = []
    try:
        for name in ADDRESS:
            run("ip", "netns", "add", name)
            made.append(name)
        run("ip", "link", "add", DEVICE, "netns", BROKER, "type", "veth", "peer", "name", DEVICE,
            "netns", CONSUMER)
        for name, address in ADDRESS.items():
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", DEVICE)
            for device in "lo", DEVICE:
                run("ip", "-n", name, "link", "set", device, "up")
        yield
    finally:
        for name in made:
            run("ip", "netns", "del", name)


def measure(build, directory, rates):
    bench = os.path.join(build, "bench", "holdfast_bench")

    def within(namespace, *command):
        run("ip", "netns", "exec", namespace, bench, *command)

    processes = []
    with namespaces():
        try:
            broker = Within(BROKER, ADDRESS[BROKER], "broker", directory, "--data",
                            os.path.join(directory, "data"), "--set", "broker.num_partitions=1")
            processes.append(broker.start())
            for topic, records in ("large", "1000"), ("small", "1"):
                within(BROKER, "ingest", "--bootstrap", broker.address, "--rounds", "1",
                       "--seconds", "1", "--topic", topic, "--record-bytes", "1000",
                       "--batch-records", records)
            agent = Within(CONSUMER, "127.0.0.1", "agent", directory, "--spool",
                           os.path.join(directory, "spool"), "--upstream", broker.address)
            processes.append(agent.start())
            time.sleep(1)
            for rate in rates.split(","):
                run("ip", "netns", "exec", BROKER, "tc", "qdisc", "replace", "dev", DEVICE, "root",
                    "tbf", "rate", rate, "burst", "1mb", "latency", "50ms")
                for topic in "large", "small":
                    print(f"\nlink of {rate}: a topic of {topic} batches", flush=True)
                    within(CONSUMER, "fetch", "--direct", broker.address, "--through",
                           agent.address, "--topic", topic)
        finally:
            for process in processes:
                process.kill()
