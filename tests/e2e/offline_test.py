#!/usr/bin/python3
"""The agent with the tier away, in each of the ways in which a tier can be away: clients are served
what this host can serve, and no request waits for ever."""

import concurrent.futures
import socket
import struct
import time
import unittest

import harness
from harness import Case, consume, kcat, produce, wait_for
from raw_kafka import Connection, batch, text

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

TOPIC = ("--set", "agent.topics=[{name: orders, partitions: 2}]",
         "--set", "agent.upstream.backoff_max_ms=500ms")
LEADER_NOT_AVAILABLE, COORDINATOR_NOT_AVAILABLE, THROTTLED = 5, 15, 89
INSTANCE = bytes(16)
# What the agent answers by itself, as (API, version, body); those from 60 on begin with the tags of
# their headers. Every other API closes, see docs/protocol.md.
ANSWERED = (
    (0, 7, text(None) + struct.pack(">hii", -1, 10_000, 1) + text("orders") +
     struct.pack(">iii", 1, 0, len(batch(1))) + batch(1)),
    (3, 1, struct.pack(">i", -1)), (3, 1, struct.pack(">i", 1) + text("never-seen")),
    (10, 0, text("group")), (18, 0, b""),
    (22, 1, text(None) + struct.pack(">i", 60_000)),
    (22, 1, text("tx") + struct.pack(">i", 60_000)),
    (60, 0, b"\0" + b"\0" + b"\0"), (71, 0, b"\0" + INSTANCE + b"\0"),
    (72, 0, b"\0" + INSTANCE + struct.pack(">ibb", 1, 0, 0) + b"\1" + b"\0"))
# Requests are given up after twice this long.
IMPATIENT = ("--set", "agent.upstream.timeout_ms=500ms")


class BlackHole:
    """An address at which packets are dropped: the listener's backlog is full."""

    def __enter__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.listener.getsockname())
            self.fillers.append(filler)
        return self

    def __exit__(self, *_):
        for filler in self.fillers:
            filler.close()
        self.listener.close()


class Mute:
    """Takes connections and reads nothing."""

    def __enter__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(1000)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        return self

    def __exit__(self, *_):
        self.listener.close()


class OfflineTest(Case):
    def check_serves(self, agent):
        """Producers are served in full; others hear soon that they have to wait."""
        began = time.monotonic()
        lines = [f"{n}" for n in range(200)]
        produce(agent.address, "orders", lines, "-p", "1", "-X", "enable.idempotence=true")
        self.assertEqual(agent.metric("holdfast_agent_acknowledged_records_total"), 200)
        listing = kcat("-L", "-b", agent.address)
        self.assertIn('topic "orders" with 2 partitions', listing)
        self.assertIn(agent.address, listing)

        admin = AdminClient({"bootstrap.servers": agent.address})
        self.assertEqual(len(admin.list_topics(timeout=10).topics["orders"].partitions), 2)

        failed = []
        producer = Producer({"bootstrap.servers": agent.address, "acks": "all"})
        for n in range(10):
            producer.produce("orders", str(n), partition=0,
                             on_delivery=lambda error, _: failed.append(error) if error else 0)
        self.assertEqual(producer.flush(20), 0)
        self.assertEqual(failed, [])

        # Where a group is, in time; and a member that does not know it leaves at once.
        with Connection(agent.address) as connection:
            asked = time.monotonic()
            connection.send(10, 0, text("g"))
            self.assertEqual(struct.unpack(">h", connection.receive()[:2])[0],
                             COORDINATOR_NOT_AVAILABLE)
            self.assertLess(time.monotonic() - asked, 5)
        consumer = Consumer({"bootstrap.servers": agent.address, "group.id": "g"})
        consumer.subscribe(["orders"])
        self.assertIsNone(consumer.poll(0.5))
        consumer.close()
        self.assertLess(time.monotonic() - began, 30)

    def test_connections_are_refused(self):
        self.check_serves(self.agent(f"127.0.0.1:{harness.free_port()}", *TOPIC).start())

    def test_packets_are_dropped(self):
        with BlackHole() as hole:
            self.check_serves(self.agent(hole.address, *TOPIC).start())

    def test_connections_are_taken_and_nothing_is_said(self):
        with Mute() as mute:
            self.check_serves(self.agent(mute.address, *TOPIC).start())

    def test_the_name_is_unknown(self):
        self.check_serves(self.agent("no-such-host.invalid:9092", *TOPIC).start())

    def test_a_tier_that_falls_silent_is_noticed_and_its_return_too(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *TOPIC, *IMPATIENT).start()
        produce(agent.address, "orders", ["before"], "-p", "0")
        wait_for(lambda: agent.metric("holdfast_agent_forwarded_records_total") == 1,
                 what="a record delivered")
        tier.child.send_signal(harness.signal.SIGSTOP)
        try:
            produce(agent.address, "orders", ["meanwhile"], "-p", "0")
            kcat("-L", "-b", agent.address)
            wait_for(lambda: agent.metric("holdfast_agent_upstream_connected") == 0,
                     what="the silence noticed")
            produce(agent.address, "orders", ["later"], "-p", "0")
        finally:
            tier.child.send_signal(harness.signal.SIGCONT)
        agent.wait_drained()
        self.assertEqual(consume(agent.address, "orders", "-p", "0"),
                         ["before", "meanwhile", "later"])

    def test_topics_of_the_tier_are_known_after_a_restart_without_it(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *TOPIC).start()
        produce(agent.address, "seen", ["one"])
        wait_for(lambda: agent.metric("holdfast_agent_forwarded_records_total") == 1,
                 what="a record delivered")
        tier.kill()
        agent.stop()
        agent.start()
        produce(agent.address, "seen", ["two"])
        producer = Producer({"bootstrap.servers": agent.address, "message.timeout.ms": 2000,
                             "error_cb": lambda error: None})
        failed = []
        producer.produce("never-seen", "x", on_delivery=lambda error, _: failed.append(error))
        self.assertEqual(producer.flush(20), 0)
        self.assertIsNotNone(failed[0], "a topic that nobody has named cannot be produced to")
        with self.assertRaises(KafkaException):
            next(iter(AdminClient({"bootstrap.servers": agent.address}).delete_topics(
                ["seen"], request_timeout=3).values())).result(10)
        tier.start()
        agent.wait_drained()
        self.assertEqual(consume(tier.address, "seen"), ["one", "two"])

    def test_what_is_answered_here_is_answered_with_errors_that_clients_retry(self):
        agent = self.agent(f"127.0.0.1:{harness.free_port()}", *TOPIC).start()
        with Connection(agent.address) as connection:
            # FindCoordinator v0; InitProducerId v1 of a transactional id; telemetry.
            connection.send(10, 0, text("group"))
            self.assertEqual(struct.unpack(">h", connection.receive()[:2])[0],
                             COORDINATOR_NOT_AVAILABLE)
            self.assertEqual(connection.init_producer_id("tx")[0], COORDINATOR_NOT_AVAILABLE)
            # Flexible from version 0: tags in header and body.
            connection.send(71, 0, b"\0" + bytes(16) + b"\0")
            self.assertEqual(struct.unpack(">h", connection.receive()[5:7])[0], THROTTLED)
            connection.send(3, 1, struct.pack(">i", 1) + text("never-seen"))
            answer = connection.receive()
            at = answer.index(text("never-seen"))
            self.assertEqual(struct.unpack(">h", answer[at - 2:at])[0], LEADER_NOT_AVAILABLE)

    def close_time(self, address, key):
        """How long a request of the API keeps its connection."""
        began = time.monotonic()
        with Connection(address, timeout=30) as connection:
            connection.send(key, 0, bytes(40))
            with self.assertRaises((EOFError, ConnectionResetError), msg=f"API {key}"):
                connection.receive()
        return time.monotonic() - began

    @staticmethod
    def answer_time(address, key, version, body):
        began = time.monotonic()
        with Connection(address, timeout=30) as connection:
            connection.send(key, version, body)
            connection.receive()
        return time.monotonic() - began

    def check_nothing_hangs(self, agent, seconds):
        """Whether every API is answered, or its connection closed, within this time."""
        answered = {key for key, _, _ in ANSWERED}
        closing = [key for key in range(93) if key not in answered and key != 14]
        with concurrent.futures.ThreadPoolExecutor(len(closing) + len(ANSWERED)) as pool:
            closes = pool.map(lambda key: self.close_time(agent.address, key), closing)
            answers = pool.map(lambda one: self.answer_time(agent.address, *one), ANSWERED)
            times = [*zip(closing, closes), *zip((key for key, _, _ in ANSWERED), answers)]
        self.assertLess(max(took for _, took in times), seconds, times)

    def test_no_request_hangs_when_connections_are_refused(self):
        agent = self.agent(f"127.0.0.1:{harness.free_port()}", *TOPIC, *IMPATIENT).start()
        self.check_nothing_hangs(agent, 5)

    def test_no_request_hangs_when_the_tier_says_nothing(self):
        with Mute() as mute:
            self.check_nothing_hangs(self.agent(mute.address, *TOPIC, *IMPATIENT).start(), 10)

    def test_no_request_hangs_when_packets_are_dropped(self):
        with BlackHole() as hole:
            self.check_nothing_hangs(self.agent(hole.address, *TOPIC, *IMPATIENT).start(), 20)


if __name__ == "__main__":
    harness.main()
