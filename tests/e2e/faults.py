"""Five faults around an agent, prepared with real processes. The tests of what people look at meet
them, and so does `./dev demo --fault NAME`, with which a team practises.

Each leaves an agent that holds records of the topic `orders` back, or has set one aside; repair()
does what its remedy says, after which all that was acknowledged is at the tier.
"""

import json
import os
import struct

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from certificates import Authority
from harness import free_port, produce, wait_for
from raw_kafka import Connection, text as wire_text

TOPICS = "agent.topics=[{name: orders, partitions: 2}, {name: payments, partitions: 1}]"
LINES = [f"order {n}" for n in range(500)]

# Of Kafka's protocol.
CREATE_ACLS, TOPIC, CLUSTER, LITERAL, ALLOW = 30, 2, 4, 3, 3
ALL, DESCRIBE = 2, 8


def make_topic(address, name, partitions=1, **config):
    admin = AdminClient({"bootstrap.servers": address})
    topic = NewTopic(name, partitions, 1,
                     config={key.replace("_", "."): str(value) for key, value in config.items()})
    admin.create_topics([topic])[name].result(20)


def allow(address, kind, name, operation):
    """Everybody, one operation on one thing."""
    with Connection(address) as client:
        client.send(CREATE_ACLS, 1, struct.pack(">ib", 1, kind) + wire_text(name) + bytes([LITERAL])
                    + wire_text("User:ANONYMOUS") + wire_text("*") + bytes([operation, ALLOW]))
        answer = client.receive()
    assert answer[8:10] == b"\0\0", answer


class Fault:
    """A site is what starts processes in a directory: harness.Site."""

    name = ""
    truth = ""  # What is wrong.
    remedy = ""  # What repair() does.
    runbook = ""  # The section of docs/operations.md.

    def __init__(self, site):
        self.site = site
        self.agent = None
        self.tier = None
        self.produced = len(LINES)  # Records of `orders` that were acknowledged.
        self.prepare()

    def prepare(self):
        raise NotImplementedError

    def repair(self):
        raise NotImplementedError

    def lonely_agent(self, *arguments):
        """With declared topics and a tier that has never been there; its address is kept free."""
        self.tier_address = f"127.0.0.1:{free_port()}"
        self.agent = self.site.agent(self.tier_address, "--set", TOPICS, *arguments).start()

    def tier_at(self, *arguments):
        """A broker at that address, not started."""
        broker = self.site.broker(*arguments)
        broker.address = self.tier_address
        return broker

    def wait_connected(self, connected):
        wait_for(lambda: self.agent.metric("holdfast_agent_upstream_connected") == connected,
                 what=f"the tier: {connected}")


class TierDown(Fault):
    name = "tier-down"
    truth = "The broker was killed; nothing listens at its address."
    remedy = "Start the broker."
    runbook = "HoldfastTierAway"

    def prepare(self):
        self.tier = self.site.broker().start()
        make_topic(self.tier.address, "orders", 2)
        self.agent = self.site.agent(self.tier.address).start()
        produce(self.agent.address, "orders", ["first"])
        self.agent.wait_drained()
        self.tier.kill()
        produce(self.agent.address, "orders", LINES)
        self.produced += 1

    def repair(self):
        self.tier.start()


class Denied(Fault):
    name = "denied"
    truth = "The broker has no rule that lets the agent's user write to orders; payments it may."
    remedy = "Allow the agent's user Write on orders."
    runbook = "HoldfastStreamsParked"

    def prepare(self):
        """Produced while the tier is away; it comes back with the rules in force."""
        self.lonely_agent()
        self.rules = self.tier_at("--set", "broker.authorizer.enabled=true", "--set",
                                  "broker.authorizer.super_users=[\"User:ANONYMOUS\"]").start()
        self.wait_connected(1)
        admin = AdminClient({"bootstrap.servers": self.tier_address, "log_level": 0})
        wait_for(lambda: {"orders", "payments"} <= set(admin.list_topics(timeout=10).topics),
                 what="the topics")
        allow(self.tier_address, TOPIC, "payments", ALL)
        allow(self.tier_address, TOPIC, "orders", DESCRIBE)
        allow(self.tier_address, CLUSTER, "kafka-cluster", ALL)
        self.rules.kill()
        self.wait_connected(0)
        produce(self.agent.address, "orders", LINES)
        produce(self.agent.address, "payments", ["one", "two"])
        self.tier = self.tier_at("--set", "broker.authorizer.enabled=true").start()

    def repair(self):
        self.tier.kill()
        self.rules.start()
        allow(self.tier_address, TOPIC, "orders", ALL)
        self.tier = self.rules


class DiskNearlyFull(Fault):
    name = "disk-full"
    truth = "The tier has been away for long, and the spool's 32 MiB are nearly used."
    remedy = "Bring the tier back; or make agent.spool.bytes_max larger and restart the agent."
    runbook = "HoldfastSpoolAlmostFull"

    def prepare(self):
        self.lonely_agent("--set", "agent.spool.bytes_max=32MiB")
        self.produced = 0
        self.producer = Producer({"bootstrap.servers": self.agent.address, "log_level": 0,
                                  "compression.type": "none", "message.timeout.ms": 60000})
        while self.used() < 0.85:
            self.fill(5)
            assert self.producer.flush(30) == 0

    def fill(self, records):
        def delivered(error, _):
            if error is None:
                self.produced += 1

        for _ in range(records):
            self.producer.produce("orders", os.urandom(100_000), partition=0, on_delivery=delivered)

    def used(self):
        disk = json.loads(self.agent.get("/overview"))["disk"]
        return disk["entry_bytes"] / disk["room_bytes"]

    def repair(self):
        self.tier = self.tier_at().start()


class WrongCertificate(Fault):
    name = "certificate"
    truth = "The broker's certificate is signed by another authority than ssl.ca.location names."
    remedy = "Name the right authority in agent.upstream.properties, and restart the agent."
    runbook = "HoldfastTierAway"

    def prepare(self):
        self.right = Authority(self.site.directory)
        certificate, key, _ = self.right.issue("broker")
        self.trust(Authority(self.site.directory, "other"))
        config = self.site.path("broker.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"broker": {"tls": {"certificate": certificate, "key": key}}}, file)
        self.tier = self.site.broker("--config", config).start()
        self.agent = self.site.agent(self.tier.address, "--config", self.site.path("agent.json"),
                                     "--set", TOPICS).start()
        produce(self.agent.address, "orders", LINES)

    def trust(self, authority):
        with open(self.site.path("agent.json"), "w", encoding="utf-8") as file:
            json.dump({"agent": {"upstream": {"properties": {
                "security.protocol": "SSL", "ssl.ca.location": authority.ca}}}}, file)

    def repair(self):
        self.trust(self.right)
        self.agent.stop()
        self.agent.start()


class Poison(Fault):
    name = "poison"
    truth = "A record of orders/0 is larger than max.message.bytes of the topic, and was set aside."
    remedy = "Raise the topic's max.message.bytes, and have the dead letters delivered again."
    runbook = "HoldfastDeadLetters"

    def prepare(self):
        self.lonely_agent()
        producer = Producer({"bootstrap.servers": self.agent.address, "log_level": 2,
                             "linger.ms": 0})
        records = [b"good", os.urandom(50_000), b"good as well"]
        for value in records:
            producer.produce("orders", value, partition=0)
            assert producer.flush(20) == 0
        self.produced = len(records)
        self.tier = self.site.broker().start()
        make_topic(self.tier.address, "orders", 2, max_message_bytes=10_000)
        self.tier.kill()
        self.tier.address = self.tier_address
        self.tier.start()
        wait_for(lambda: json.loads(self.agent.get("/status"))["dead_letters"]["records"] == 1,
                 what="the dead letter")

    def repair(self):
        admin = AdminClient({"bootstrap.servers": self.tier.address, "log_level": 0})
        topic = ConfigResource(ConfigResource.Type.TOPIC, "orders",
                               {"max.message.bytes": "1048588"})
        admin.alter_configs([topic])[topic].result(20)
        status, text = self.agent.post("/dead-letters/replay?stream=orders/0")
        assert status == 202, text


FAULTS = {fault.name: fault
          for fault in (TierDown, Denied, DiskNearlyFull, WrongCertificate, Poison)}
