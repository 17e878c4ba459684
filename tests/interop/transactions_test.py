#!/usr/bin/python3
"""Local transactions and delivery in transactions against a real Apache Kafka: whole or not at all,
once, and in order, whoever dies in between.

5 crash cycles, or HOLDFAST_CYCLES; HOLDFAST_SEED repeats a run's faults and moments.
"""

import collections
import os
import random
import threading
import time

import apache_kafka
import relay
from harness import committed_values as committed
from harness import produce, wait_for

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource

TOPICS = [("a", 0), ("a", 1), ("b", 0)]
DECLARED = ("--set", "agent.topics=[{name: a, partitions: 2}, {name: b}, {name: plain}]")
LOCAL = ("--set", "agent.transactions=[{pattern: local-*, mode: local}]", *DECLARED,
         "--set", "agent.upstream.backoff_max_ms=500ms")


def transactional(address, transactional_id="local-1", timeout_ms=60000):
    producer = Producer({"bootstrap.servers": address, "transactional.id": transactional_id,
                         "transaction.timeout.ms": timeout_ms, "linger.ms": 1,
                         "message.timeout.ms": min(timeout_ms, 30000),
                         "socket.timeout.ms": min(timeout_ms, 10000),
                         "reconnect.backoff.max.ms": 200, "log_level": 2})
    producer.init_transactions(30)
    return producer


def send(producer, tag, records=2):
    """As many to each partition. Every record says how many there are to its transaction."""
    for number in range(records):
        for topic, partition in TOPICS:
            producer.produce(topic, f"{tag} {number}", partition=partition)


def expected(*tags, records=2):
    return [f"{tag} {number}" for tag in tags for number in range(records)]


class LocalTransactionsTest(apache_kafka.Case):
    def test_a_transaction_arrives_whole_or_not_at_all(self):
        kafka = self.kafka(relay=True)
        agent = self.agent(kafka.upstream, *LOCAL).start()
        # Kafka was never seen.
        producer = transactional(agent.address)
        producer.begin_transaction()
        send(producer, "before")
        producer.commit_transaction(20)
        producer.begin_transaction()
        send(producer, "aborted")
        self.assertEqual(producer.flush(20), 0)
        producer.abort_transaction(20)
        kafka.start()
        produce(agent.address, "a", ["plain 0", "plain 1"], "-p", "0")
        producer.begin_transaction()
        send(producer, "after")
        producer.commit_transaction(20)
        agent.wait_drained()
        self.assertEqual(committed(kafka.address, "a", 0),
                         expected("before", "plain", "after"))
        self.assertEqual(committed(kafka.address, "a", 1), expected("before", "after"))
        self.assertEqual(committed(kafka.address, "b", 0), expected("before", "after"))
        self.assertEqual(agent.metric("holdfast_agent_undelivered_transactions"), 0)

        # The agent goes down with a transaction open. What comes of it is not to be committed.
        producer.begin_transaction()
        send(producer, "lost")
        self.assertEqual(producer.flush(20), 0)
        agent.kill()
        agent.start()
        send(producer, "half")
        with self.assertRaises(KafkaException) as raised:
            producer.commit_transaction(20)
        self.assertTrue(raised.exception.args[0].txn_requires_abort(), raised.exception)
        producer.abort_transaction(20)
        producer.begin_transaction()
        send(producer, "then")
        producer.commit_transaction(20)

        # A newer producer of the same id fences the older one.
        newer = transactional(agent.address)
        producer.begin_transaction()
        with self.assertRaises(KafkaException) as raised:
            send(producer, "fenced")
            producer.commit_transaction(20)
        self.assertTrue(raised.exception.args[0].fatal(), raised.exception)
        newer.begin_transaction()
        send(newer, "newer")
        newer.commit_transaction(20)
        agent.wait_drained()
        self.assertEqual(committed(kafka.address, "b", 0),
                         expected("before", "after", "then", "newer"))

        # A record that is refused now is set aside, and the rest of its transaction is whole.
        kafka.relay.cut()
        newer.begin_transaction()
        send(newer, "with a dead letter", records=1)
        newer.produce("a", "x" * 50000, partition=0)
        newer.produce("a", "the last", partition=0)
        newer.commit_transaction(20)
        limit = ConfigResource(ConfigResource.Type.TOPIC, "a",
                               set_config={"max.message.bytes": "5000"})
        admin = kafka.admin()
        for done in admin.alter_configs([limit]).values():
            done.result(10)
        kafka.relay.heal()
        agent.wait_drained()
        self.assertEqual(committed(kafka.address, "a", 0)[-2:],
                         ["with a dead letter 0", "the last"])
        self.assertEqual(committed(kafka.address, "b", 0)[-1], "with a dead letter 0")
        self.assertEqual(agent.metric("holdfast_agent_dead_letter_records_total"), 1)

    def test_javas_producer_speaks_the_second_form_of_the_protocol(self):
        kafka = self.shared_kafka()
        agent = self.agent(kafka.upstream, *LOCAL).start()
        wait_for(lambda: agent.metric("holdfast_agent_upstream_connected") == 1, what="the tier")
        apache_kafka.java("org.apache.kafka.tools.ProducerPerformance", "--topic", "plain",
                          "--num-records", "3000", "--throughput", "1500", "--record-size", "50",
                          "--bootstrap-server", agent.address, "--transactional-id", "local-java",
                          "--transaction-duration-ms", "100")
        agent.wait_drained()
        self.assertEqual(len(committed(kafka.address, "plain", 0)), 3000)
        self.assertGreater(agent.metric("holdfast_agent_local_transactions_total"), 3)

    def test_an_open_transaction_is_aborted_after_its_timeout(self):
        kafka = self.shared_kafka()
        agent = self.agent(kafka.upstream, *LOCAL).start()
        producer = transactional(agent.address, timeout_ms=4000)  # In which to produce, too.
        producer.begin_transaction()
        send(producer, "late")
        self.assertEqual(producer.flush(20), 0)
        wait_for(lambda: agent.metric("holdfast_agent_local_transactions_total") == 1,
                 what="the transaction to be aborted")
        with self.assertRaises(KafkaException) as raised:
            producer.commit_transaction(20)
        self.assertTrue(raised.exception.args[0].fatal(), raised.exception)

    def test_offsets_are_refused_in_a_local_transaction(self):
        kafka = self.shared_kafka()
        agent = self.agent(kafka.upstream, *LOCAL).start()
        consumer = Consumer({"bootstrap.servers": agent.address, "group.id": "g"})
        producer = transactional(agent.address)
        producer.begin_transaction()
        send(producer, "with offsets")
        with self.assertRaises(KafkaException) as raised:
            producer.send_offsets_to_transaction(
                [TopicPartition("a", 0, 1)], consumer.consumer_group_metadata(), 20)
        self.assertEqual(raised.exception.args[0].code(), KafkaError.POLICY_VIOLATION)
        self.assertIn("positions of group g cannot be part of a local transaction", agent.log())
        producer.abort_transaction(20)
        consumer.close()

    def test_other_transactional_ids_go_through_to_the_tier(self):
        kafka = self.shared_kafka()
        agent = self.agent(kafka.upstream, *LOCAL).start()
        wait_for(lambda: {"a", "b"} <= set(kafka.admin().list_topics(timeout=5).topics),
                 what="the declared topics")
        producer = transactional(agent.address, "upstream-1")
        producer.begin_transaction()
        send(producer, "direct")
        producer.commit_transaction(20)
        self.assertEqual(committed(kafka.address, "b", 0), expected("direct"))
        self.assertEqual(agent.metric("holdfast_agent_local_transactions_total"), 0)


class DeliveryModeTest(apache_kafka.Case):
    def test_transactional_delivery_survives_lost_answers_and_crashes(self):
        self.deliver_through_losses("transactional", timestamp=None)

    def test_auto_takes_old_records_the_careful_way(self):
        # Kafka forgets a producer of such records at once, and recognises no repeat.
        self.deliver_through_losses("auto", timestamp=-36 * 3600)

    def deliver_through_losses(self, mode, timestamp):
        kafka = self.kafka({"num.partitions": 1, "producer.id.expiration.check.interval.ms": 200},
                           relay=True).start()
        agent = self.agent(kafka.upstream, *DECLARED, "--set", f"agent.upstream.delivery={mode}",
                           "--set", "agent.upstream.backoff_max_ms=300ms").start()
        producer = Producer({"bootstrap.servers": agent.address})
        now = int(time.time() * 1000)

        def put(first, last):
            for number in range(first, last):
                at = {} if timestamp is None else {"timestamp": now + timestamp * 1000 + number}
                producer.produce("plain", str(number), partition=0, **at)
            self.assertEqual(producer.flush(20), 0)

        def arrived():
            return committed(kafka.address, "plain", 0)

        put(0, 50)
        agent.wait_drained()
        self.assertGreater(agent.metric("holdfast_agent_upstream_transactions_total"), 0)
        kafka.relay.hold(relay.ANSWERS)
        put(50, 100)
        time.sleep(1)
        kafka.relay.cut()
        kafka.relay.heal()
        agent.wait_drained()
        self.assertEqual(arrived(), [str(n) for n in range(100)])
        kafka.relay.hold(relay.ANSWERS)
        put(100, 150)
        time.sleep(1)
        agent.kill()
        kafka.kill()
        kafka.relay.heal()
        kafka.start()
        agent.start()
        agent.wait_drained()
        self.assertEqual(arrived(), [str(n) for n in range(150)])


class VerifyingProducer(threading.Thread):
    """Commits one transaction after another, each with records in all partitions."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address = address
        self.stopping = threading.Event()
        self.committed = []
        self.unsure = set()  # Whether their commit took effect was never heard.
        self.aborted = set()

    def run(self):
        producer = None
        number = 0
        while not self.stopping.is_set():
            tag = f"txn-{number}"
            number += 1
            ending = False
            try:
                producer = producer or transactional(self.address)
                producer.begin_transaction()
                send(producer, tag, records=1 + number % 4)
                if number % 7 == 0:
                    producer.flush(30)
                    self.aborted.add(tag)
                    producer.abort_transaction(30)
                    continue
                ending = True
                producer.commit_transaction(30)
                self.committed.append(tag)
            except KafkaException as failure:
                error = failure.args[0]
                if error.txn_requires_abort():
                    self.aborted.add(tag)
                    try:
                        producer.abort_transaction(30)
                        continue
                    except KafkaException:
                        producer = None
                        continue
                if ending:
                    self.unsure.add(tag)
                producer = None
            time.sleep(0.005)


class CrashTest(apache_kafka.Case):
    def test_transactions_are_whole_once_and_in_order_after_crashes(self):
        seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(1 << 32)))
        cycles = int(os.environ.get("HOLDFAST_CYCLES", "5"))
        print(f"HOLDFAST_SEED={seed}", flush=True)
        chance = random.Random(seed)
        kafka = self.kafka({"num.partitions": 2}, relay=True).start()
        agent = self.agent(kafka.upstream, *LOCAL).start()
        producer = VerifyingProducer(agent.address)
        producer.start()
        for cycle in range(cycles):
            before, some = len(producer.committed), chance.randrange(2, 20)
            wait_for(lambda: len(producer.committed) >= before + some, 120, "commits")
            kind = chance.choice(["agent", "kafka", "both", "answers", "cut"])
            print(f"cycle {cycle}: {kind}, {len(producer.committed)} committed", flush=True)
            if kind in ("answers", "cut"):
                if kind == "answers":
                    kafka.relay.hold(relay.ANSWERS)
                    time.sleep(chance.uniform(0.1, 1))
                    if chance.random() < 0.5:
                        agent.kill()
                        agent.start()
                kafka.relay.cut()
                time.sleep(chance.uniform(0.1, 1))
                kafka.relay.heal()
                continue
            if kind in ("agent", "both"):
                agent.kill()
            if kind in ("kafka", "both"):
                kafka.kill()
                kafka.start()
            if kind in ("agent", "both"):
                agent.start()
        count = len(producer.committed)
        wait_for(lambda: len(producer.committed) > count + 5, 120, "commits after the last crash")
        producer.stopping.set()
        producer.join(120)
        agent.wait_drained(120)
        self.check(kafka, producer)

    def check(self, kafka, producer):
        seen = {where: committed(kafka.address, *where) for where in TOPICS}
        records = collections.Counter()
        for values in seen.values():
            self.assertEqual(len(values), len(set(values)), "doubled records")
            tags = [value.split()[0] for value in values]
            numbers = [int(tag.split("-")[1]) for tag in tags]
            self.assertEqual(numbers, sorted(numbers), "out of order")
            records.update(tags)
        present = set(records)
        self.assertEqual(set(producer.committed) - present, set(), "lost")
        self.assertEqual(present & producer.aborted, set(), "aborted, and there")
        self.assertEqual(present - set(producer.committed) - producer.unsure, set())
        for tag, count in records.items():
            number = int(tag.split("-")[1]) + 1
            self.assertEqual(count, (1 + number % 4) * len(TOPICS), f"half of {tag}")
        print(f"{len(producer.committed)} committed, {len(producer.unsure)} unsure, "
              f"{len(producer.aborted)} aborted; nothing lost, doubled, halved or out of order")


if __name__ == "__main__":
    apache_kafka.main()
