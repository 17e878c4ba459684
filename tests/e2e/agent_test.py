#!/usr/bin/python3
"""The agent in front of the broker tier: produced to with the tier away, drained, read through."""

import json
import time
import unittest

import harness
from harness import Case, consume, kcat, produce, wait_for

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

DECLARED = ("--set", "agent.topics=[{name: orders, partitions: 2}]")


class AgentTest(Case):
    def delivered(self, agent, count):
        return lambda: agent.metric("holdfast_agent_forwarded_records_total") >= count

    def test_records_go_through_to_the_tier_and_can_be_read_from_both(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *DECLARED).start()
        lines = [f"record {n}" for n in range(1000)]
        produce(agent.address, "orders", lines, "-p", "0")
        wait_for(self.delivered(agent, 1000), what="1000 records delivered")
        self.assertEqual(consume(tier.address, "orders", "-p", "0"), lines)
        self.assertEqual(consume(agent.address, "orders", "-p", "0"), lines)

    def test_a_topic_that_nobody_declared_is_learned_from_the_tier(self):
        tier = self.broker().start()
        agent = self.agent(tier.address).start()
        produce(agent.address, "undeclared", ["one", "two"])
        wait_for(self.delivered(agent, 2), what="2 records delivered")
        self.assertEqual(consume(agent.address, "undeclared"), ["one", "two"])

    def test_every_compression_goes_through_byte_for_byte(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *DECLARED).start()
        expected = []
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            lines = [f"{codec} {n} " + "y" * n for n in range(100)]
            produce(agent.address, "orders", lines, "-z", codec, "-p", "1")
            expected += lines
        wait_for(self.delivered(agent, len(expected)), what="all records delivered")
        self.assertEqual(consume(tier.address, "orders", "-p", "1"), expected)

    def test_accepts_declared_topics_before_the_tier_was_ever_seen(self):
        tier = self.broker()
        agent = self.agent(tier.address, *DECLARED,
                           "--set", "agent.upstream.backoff_max_ms=500ms").start()
        lines = [f"early {n}" for n in range(2000)]
        produce(agent.address, "orders", lines, "-p", "0", "-X", "enable.idempotence=true")
        self.assertEqual(agent.metric("holdfast_agent_forwarded_records_total"), 0)
        agent.kill()
        agent.start()
        tier.start()
        wait_for(self.delivered(agent, 2000), 30, "2000 records delivered")
        self.assertEqual(consume(tier.address, "orders", "-p", "0"), lines)

    def test_one_producer_lives_through_first_contact_and_outage(self):
        tier = self.broker()
        agent = self.agent(tier.address, *DECLARED,
                           "--set", "agent.upstream.backoff_max_ms=500ms").start()
        failed = []
        producer = Producer({"bootstrap.servers": agent.address, "enable.idempotence": True,
                             "error_cb": lambda error: None})
        lines = [f"{n}" for n in range(1500)]

        def send(some):
            for line in some:
                producer.produce("orders", line, partition=0,
                                 on_delivery=lambda error, _: failed.append(error) if error else 0)
            self.assertEqual(producer.flush(30), 0)

        send(lines[:500])
        tier.start()
        wait_for(self.delivered(agent, 500), 30, "the first third delivered")
        send(lines[500:1000])
        tier.kill()
        send(lines[1000:])
        tier.start()
        agent.wait_drained()
        self.assertEqual(failed, [])
        self.assertEqual(consume(tier.address, "orders", "-p", "0"), lines)

    def test_goes_on_accepting_while_the_tier_is_away_and_drains_in_order(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *DECLARED,
                           "--set", "agent.upstream.backoff_max_ms=500ms").start()
        lines = [f"{n}" for n in range(3000)]
        produce(agent.address, "orders", lines[:1000], "-p", "0")
        wait_for(self.delivered(agent, 1000), what="the first third delivered")
        tier.kill()
        produce(agent.address, "orders", lines[1000:2000], "-p", "0")
        wait_for(lambda: agent.metric("holdfast_agent_backlog_records") == 1000, what="a backlog")
        agent.kill()
        agent.start()
        produce(agent.address, "orders", lines[2000:], "-p", "0")
        tier.start()
        agent.wait_drained()
        self.assertEqual(consume(tier.address, "orders", "-p", "0"), lines)

    def test_a_group_and_admin_calls_work_through_the_agent(self):
        tier = self.broker().start()
        agent = self.agent(tier.address).start()
        admin = AdminClient({"bootstrap.servers": agent.address})
        for future in admin.create_topics([NewTopic("made-through-the-agent", 3, 1)]).values():
            future.result(timeout=20)
        described = admin.list_topics(timeout=10)
        self.assertEqual(len(described.topics["made-through-the-agent"].partitions), 3)
        addresses = {f"{broker.host}:{broker.port}" for broker in described.brokers.values()}
        self.assertNotIn(tier.address, addresses, "clients must not be sent past the agent")

        produce(agent.address, "made-through-the-agent", [str(n) for n in range(300)])
        consumer = Consumer({"bootstrap.servers": agent.address, "group.id": "through",
                             "auto.offset.reset": "earliest"})
        try:
            consumer.subscribe(["made-through-the-agent"])
            got = []

            def read_all():
                message = consumer.poll(0.2)
                if message is not None and not message.error():
                    got.append(int(message.value()))
                return len(got) == 300

            wait_for(read_all, 30, "300 records by the group")
            consumer.commit(asynchronous=False)
        finally:
            consumer.close()
        self.assertEqual(sorted(got), list(range(300)))

    def test_a_topics_own_settings_hold_before_the_acknowledgement_and_offline(self):
        tier = self.broker().start()
        agent = self.agent(tier.address).start()
        admin = AdminClient({"bootstrap.servers": agent.address})
        topics = [NewTopic("small", 1, 1, config={"max.message.bytes": "2000"}),
                  NewTopic("large", 1, 1, config={"max.message.bytes": "3000000"}),
                  NewTopic("compacted", 1, 1, config={"cleanup.policy": "compact"})]
        for future in admin.create_topics(topics).values():
            future.result(timeout=20)

        def outcome(topic, size, key=None):
            """Of one record, in the words of the client's error."""
            told = []
            producer = Producer({"bootstrap.servers": agent.address,
                                 "message.max.bytes": 4000000})
            producer.produce(topic, b"x" * size, key,
                             on_delivery=lambda error, _: told.append(error and error.name()))
            self.assertEqual(producer.flush(20), 0)
            return told[0]

        def check():
            self.assertIsNone(outcome("small", 1500))
            self.assertEqual(outcome("small", 5000), "MSG_SIZE_TOO_LARGE")
            self.assertIsNone(outcome("large", 2500000), "more than the agent's own limit")
            self.assertIsNone(outcome("compacted", 10, "key"))
            self.assertEqual(outcome("compacted", 10), "INVALID_RECORD")

        check()
        wait_for(self.delivered(agent, 3), what="3 records delivered")
        tier.kill()
        agent.stop()
        agent.start()
        check()

    def test_metadata_is_answered_with_the_tier_away(self):
        tier = self.broker().start()
        agent = self.agent(tier.address).start()
        produce(agent.address, "seen", ["x"])
        wait_for(self.delivered(agent, 1), what="1 record delivered")
        tier.kill()
        agent.kill()
        agent.start()
        self.assertIn('topic "seen"', kcat("-L", "-b", agent.address, "-t", "seen"))
        for page in ("/live", "/ready", "/status"):
            self.assertTrue(agent.get(page))
        self.assertTrue(json.loads(agent.get("/status")))

    def test_acks_zero_one_and_all_are_on_disk(self):
        tier = self.broker()
        agent = self.agent(tier.address, *DECLARED).start()
        for acks in ("0", "1", "all"):
            produce(agent.address, "orders", [f"acks {acks}"], "-p", "0", "-X", f"acks={acks}")
        wait_for(lambda: agent.metric("holdfast_agent_acknowledged_records_total") == 3,
                 what="three records on disk")
        agent.kill()
        agent.start()
        tier.start()
        wait_for(self.delivered(agent, 3), 30, "three records delivered")
        self.assertEqual(consume(tier.address, "orders", "-p", "0"),
                         ["acks 0", "acks 1", "acks all"])

    def test_a_drain_answers_what_is_in_flight(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *DECLARED).start()
        produce(agent.address, "orders", [str(n) for n in range(5000)], "-p", "0")
        began = time.monotonic()
        self.assertEqual(agent.stop(), 0)
        self.assertLess(time.monotonic() - began, 12)
        agent.start()
        agent.wait_drained()
        self.assertEqual(consume(tier.address, "orders", "-p", "0"), [str(n) for n in range(5000)])


if __name__ == "__main__":
    harness.main()
