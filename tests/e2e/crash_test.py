#!/usr/bin/python3
"""kill -9 of agent and broker at random moments, under a producer that notes every acknowledgement
and a consumer that notes every record; and of the broker under a transactional producer.

5 cycles, or 50 with HOLDFAST_LONG=1, or HOLDFAST_CYCLES. HOLDFAST_SEED repeats a run's moments.
Nothing acknowledged may be lost, and order must hold; duplicates are counted and reported.
"""

import os
import random
import threading
import time
import unittest

import harness
from harness import Case, committed_values, transactional, wait_for

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

PARTITIONS = 4
TOPIC = "crash"


class VerifyingProducer(threading.Thread):
    """Sends numbered records until told to stop; each acknowledged number is noted in a file."""

    def __init__(self, address, noted_path):
        super().__init__(daemon=True)
        self.producer = Producer({
            "bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 2,
            "message.timeout.ms": 180000, "reconnect.backoff.max.ms": 200,
            "retry.backoff.ms": 50, "queue.buffering.max.messages": 20000})
        self.noted = open(noted_path, "w", encoding="ascii", buffering=1)
        self.sent = [0] * PARTITIONS
        self.acknowledged = 0
        self.failed = []
        self.stopping = threading.Event()

    def on_delivery(self, error, message):
        if error is not None:
            self.failed.append(str(error))
            return
        self.acknowledged += 1
        self.noted.write(f"{message.partition()} {message.value().split(b' ')[0].decode()}\n")

    def run(self):
        partition = 0
        while not self.stopping.is_set():
            for _ in range(10):
                number = self.sent[partition]
                try:
                    self.producer.produce(TOPIC, f"{number} {'.' * (number % 300)}",
                                          partition=partition, on_delivery=self.on_delivery)
                except BufferError:
                    break
                self.sent[partition] += 1
                partition = (partition + 1) % PARTITIONS
            self.producer.poll(0.004)

    def finish(self):
        self.stopping.set()
        self.join()
        left = self.producer.flush(180)
        self.noted.close()
        return left


class VerifyingConsumer(threading.Thread):
    """Reads all partitions all the time and notes what it saw at each offset."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.consumer = Consumer({
            "bootstrap.servers": address, "group.id": "verify", "enable.auto.commit": False,
            "auto.offset.reset": "error", "reconnect.backoff.max.ms": 200})
        self.consumer.assign([TopicPartition(TOPIC, partition, 0)
                              for partition in range(PARTITIONS)])
        self.seen = [{} for _ in range(PARTITIONS)]
        self.changed = []
        self.resets = []
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            for message in self.consumer.consume(1000, 0.2):
                if message.error():
                    if message.error().name() == "_AUTO_OFFSET_RESET":
                        self.resets.append(str(message.error()))
                    continue
                number = int(message.value().split(b" ")[0])
                before = self.seen[message.partition()].setdefault(message.offset(), number)
                if before != number:
                    self.changed.append((message.partition(), message.offset(), before, number))

    def total(self):
        return sum(map(len, self.seen))

    def finish(self):
        self.stopping.set()
        self.join()
        self.consumer.close()


class TransactionalProducer(threading.Thread):
    """One transaction after the other, each with a record to every partition; every third is
    aborted. Notes what became of each: committed, aborted, or not known."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address = address
        self.outcomes = {}
        self.stopping = threading.Event()

    def run(self):
        producer = transactional(self.address, "crash")
        number = 0
        while not self.stopping.is_set():
            number += 1
            try:
                self.one(producer, number)
            except KafkaException as error:
                if error.args[0].txn_requires_abort():
                    self.outcomes[number] = "aborted"
                    self.patiently(producer.abort_transaction)
                else:
                    # Fatal: whether the commit was made is not known.
                    self.outcomes[number] = "unknown"
                    producer = transactional(self.address, "crash")

    def one(self, producer, number):
        self.outcomes[number] = "unknown"
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            producer.produce(TOPIC, str(number), partition=partition)
        if number % 3 == 0:
            producer.flush(60)
            self.patiently(producer.abort_transaction)
            self.outcomes[number] = "aborted"
        else:
            self.patiently(producer.commit_transaction)
            self.outcomes[number] = "committed"

    @staticmethod
    def patiently(call):
        while True:
            try:
                return call(60)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise

    def count(self, outcome):
        return list(self.outcomes.values()).count(outcome)

    def finish(self):
        self.stopping.set()
        self.join()


class CrashTest(Case):
    def test_transactions_are_whole_through_kill_9(self):
        cycles = int(os.environ.get("HOLDFAST_CYCLES", "50" if harness.LONG else "3"))
        moments = random.Random(int(os.environ.get("HOLDFAST_SEED", "1")))
        tier = self.broker("--set", f"broker.num_partitions={PARTITIONS}").start()
        producer = TransactionalProducer(tier.address)
        producer.start()
        for _ in range(cycles):
            before = producer.count("committed")
            wait_for(lambda: producer.count("committed") > before, 60, "a commit")
            time.sleep(moments.uniform(0, 0.3))
            tier.kill()
            tier.start()
        before = producer.count("committed")
        wait_for(lambda: producer.count("committed") > before, 60, "a commit")
        producer.finish()

        seen = [list(map(int, committed_values(tier.address, TOPIC, partition)))
                for partition in range(PARTITIONS)]
        for partition in range(1, PARTITIONS):
            self.assertEqual(seen[partition], seen[0], "a transaction is torn")
        self.assertEqual(seen[0], sorted(set(seen[0])), "doubled or out of order")
        for number, outcome in producer.outcomes.items():
            if outcome != "unknown":
                self.assertEqual(number in seen[0], outcome == "committed", f"{number}: {outcome}")
        print(f"\n{len(producer.outcomes)} transactions, {producer.count('committed')} committed, "
              f"{producer.count('unknown')} unknown", flush=True)

    def test_nothing_acknowledged_is_lost_and_order_holds_through_kill_9(self):
        cycles = int(os.environ.get("HOLDFAST_CYCLES", "50" if harness.LONG else "5"))
        seed = int(os.environ.get("HOLDFAST_SEED", "1"))
        moments = random.Random(seed)
        print(f"\n{cycles} cycles, HOLDFAST_SEED={seed}", flush=True)

        tier = self.broker("--set", f"broker.num_partitions={PARTITIONS}").start()
        agent = self.agent(tier.address, "--set", "agent.upstream.backoff_max_ms=300ms",
                           "--set", f"agent.topics=[{{name: {TOPIC}, partitions: {PARTITIONS}}}]")
        agent.start()
        noted_path = self.path("acknowledged")
        producer = VerifyingProducer(agent.address, noted_path)
        producer.start()
        wait_for(lambda: producer.acknowledged > 0, 30, "the first acknowledgement")
        consumer = VerifyingConsumer(tier.address)
        consumer.start()

        for cycle in range(cycles):
            victims = moments.choice(([agent], [tier], [agent, tier]))
            time.sleep(moments.uniform(0.02, 1.0))
            for victim in victims:
                victim.kill()
            time.sleep(moments.choice((0, moments.uniform(0, 1.5))))
            for victim in moments.sample(victims, len(victims)):
                victim.start()
            names = " and ".join(victim.role for victim in victims)
            print(f"cycle {cycle + 1}: killed {names}, {producer.acknowledged} acknowledged, "
                  f"{consumer.total()} read", flush=True)

        self.assertEqual(producer.finish(), 0, "records without an answer")
        self.assertEqual(producer.failed, [])
        agent.wait_drained(90)
        ends = self.end_offsets(tier)
        wait_for(lambda: consumer.total() >= sum(ends), 60,
                 f"{sum(ends)} records read, so far {consumer.total()}")
        consumer.finish()
        self.check(noted_path, producer, consumer, ends)

    def end_offsets(self, tier):
        consumer = Consumer({"bootstrap.servers": tier.address, "group.id": "ends"})
        try:
            return [consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=20)[1]
                    for partition in range(PARTITIONS)]
        finally:
            consumer.close()

    def check(self, noted_path, producer, consumer, ends):
        self.assertEqual(consumer.changed, [], "a record changed after it had been read")
        self.assertEqual(consumer.resets, [], "an offset that had been read went away")
        acknowledged = [set() for _ in range(PARTITIONS)]
        with open(noted_path, encoding="ascii") as noted:
            for line in noted:
                partition, number = map(int, line.split())
                acknowledged[partition].add(number)
        duplicates = 0
        for partition in range(PARTITIONS):
            seen = consumer.seen[partition]
            self.assertEqual(sorted(seen), list(range(ends[partition])), "a gap in the offsets")
            stored = [seen[offset] for offset in sorted(seen)]
            first = list(dict.fromkeys(stored))
            duplicates += len(stored) - len(first)
            missing = sorted(acknowledged[partition] - set(first))
            self.assertEqual(missing[:20], [], f"{len(missing)} acknowledged records are lost "
                                               f"in partition {partition}")
            disorder = [(a, b) for a, b in zip(first, first[1:]) if a > b]
            self.assertEqual(disorder[:20], [], f"out of order in partition {partition}")
        print(f"{sum(producer.sent)} sent, {producer.acknowledged} acknowledged, 0 lost, "
              f"{duplicates} duplicated, order holds", flush=True)
        if os.environ.get("HOLDFAST_STRICT") == "1":
            self.assertEqual(duplicates, 0)


if __name__ == "__main__":
    harness.main()
