#!/usr/bin/python3
"""kill -9 of the agent, of a real Apache Kafka and of both, links that are cut and that go silent,
under producers that note every acknowledgement, and a read_committed consumer.

8 cycles, one of each fault, or 50 with HOLDFAST_LONG=1, or HOLDFAST_CYCLES, in each of two modes of
delivery. HOLDFAST_SEED repeats a run's faults and moments. Every acknowledged record must be in
Kafka, once, and in order. One producer is idempotent. The other is not, and marks what it sends
again: only a copy that it marked may double a record, or come late.
"""

import os
import random
import threading
import time

import apache_kafka
import harness
import relay
from harness import wait_for

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

PARTITIONS = 4
IDEMPOTENT = "idempotent"
PLAIN = "plain"


class VerifyingProducer(threading.Thread):
    """Sends numbered records until told to stop; `acknowledged` is (partition, number, attempt)."""

    def __init__(self, address, topic, idempotent):
        super().__init__(daemon=True)
        self.topic = topic
        self.idempotent = idempotent
        settings = {"bootstrap.servers": address, "linger.ms": 2, "message.timeout.ms": 300000,
                    "reconnect.backoff.max.ms": 200, "queue.buffering.max.messages": 5000,
                    "log_level": 2}
        settings |= ({"enable.idempotence": True, "retry.backoff.ms": 50} if idempotent else
                     {"retries": 0})
        self.producer = Producer(settings)
        self.sent = [0] * PARTITIONS
        self.acknowledged = []
        self.failed = []
        self.retries = 0
        self.stopping = threading.Event()

    def send(self, partition, number, attempt):
        def on_delivery(error, message):
            if error is None:
                self.acknowledged.append((partition, number, attempt))
            elif self.idempotent:
                self.failed.append(str(error))
            else:
                self.retries += 1
                self.send(partition, number, attempt + 1)

        while True:
            try:
                return self.producer.produce(
                    self.topic, f"{number} {attempt} {'.' * (number % 300)}", partition=partition,
                    on_delivery=on_delivery)
            except BufferError:
                self.producer.poll(0.05)

    def run(self):
        """A steady 500 records per second, as long as they are taken."""
        partition = 0
        while not self.stopping.is_set():
            turn = time.monotonic() + 0.02
            if len(self.producer) < 2000:
                for _ in range(10):
                    self.sent[partition] += 1
                    self.send(partition, self.sent[partition] - 1, 0)
                    partition = (partition + 1) % PARTITIONS
            while (left := turn - time.monotonic()) > 0:
                self.producer.poll(left)

    def finish(self):
        """How many records are left without an answer."""
        self.stopping.set()
        self.join()
        return self.producer.flush(300)


class VerifyingConsumer(threading.Thread):
    """Reads all the time and notes the record at each offset."""

    def __init__(self, address):
        super().__init__(daemon=True)
        settings = {
            "bootstrap.servers": address, "group.id": "verify", "enable.auto.commit": False,
            "auto.offset.reset": "error", "enable.partition.eof": True,
            "reconnect.backoff.max.ms": 200, "log_level": 2}
        self.consumer = Consumer(settings | {"isolation.level": "read_committed"})
        self.ends = Consumer(settings | {"isolation.level": "read_uncommitted"})
        self.consumer.assign([TopicPartition(topic, partition, 0)
                              for topic in (IDEMPOTENT, PLAIN) for partition in range(PARTITIONS)])
        self.seen = {(topic, partition): {}
                     for topic in (IDEMPOTENT, PLAIN) for partition in range(PARTITIONS)}
        self.read_up_to = dict.fromkeys(self.seen, 0)  # Where nothing followed.
        self.changed = []
        self.errors = []
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            for message in self.consumer.consume(1000, 0.2):
                if message.error():
                    if message.error().code() == KafkaError._PARTITION_EOF:
                        self.read_up_to[message.topic(), message.partition()] = message.offset()
                    if message.error().name() == "_AUTO_OFFSET_RESET":
                        self.errors.append(str(message.error()))
                    continue
                record = tuple(map(int, message.value().split(b" ")[:2]))
                seen = self.seen[message.topic(), message.partition()]
                before = seen.setdefault(message.offset(), record)
                if before != record:
                    self.changed.append((message.topic(), message.offset(), before, record))

    def total(self):
        return sum(map(len, self.seen.values()))

    def at_the_end(self):
        """Whether nothing is left to be read in any partition, nor held back by a transaction that
        has not ended."""
        return all(self.read_up_to[name] >= self.ends.get_watermark_offsets(
            TopicPartition(*name), timeout=30)[1] for name in self.seen)

    def finish(self):
        self.stopping.set()
        self.join()
        self.consumer.close()
        self.ends.close()


class CrashKafkaTest(apache_kafka.Case):
    settings = ()  # What else the agent is told.

    def test_what_is_acknowledged_is_in_kafka_once_and_in_order(self):
        cycles = int(os.environ.get("HOLDFAST_CYCLES", "50" if harness.LONG else "8"))
        seed = int(os.environ.get("HOLDFAST_SEED", "1"))
        print(f"\n{cycles} cycles, HOLDFAST_SEED={seed}", flush=True)
        self.random = random.Random(seed)
        self.kafka_node = self.kafka({"num.partitions": PARTITIONS}, relay=True).start()
        self.link = self.kafka_node.relay
        topics = ", ".join(f"{{name: {topic}, partitions: {PARTITIONS}}}"
                           for topic in (IDEMPOTENT, PLAIN))
        self.agent_process = self.agent(
            self.link.address, "--set", "agent.upstream.backoff_max_ms=300ms",
            "--set", "agent.upstream.timeout_ms=3s", "--set", f"agent.topics=[{topics}]",
            *self.settings).start()
        producers = [VerifyingProducer(self.agent_process.address, topic, topic == IDEMPOTENT)
                     for topic in (IDEMPOTENT, PLAIN)]
        for producer in producers:
            producer.start()
        wait_for(lambda: all(producer.acknowledged for producer in producers), 30,
                 "the first acknowledgements")
        consumer = VerifyingConsumer(self.kafka_node.address)
        consumer.start()

        faults = []
        for cycle in range(cycles):
            if not faults:  # Each as often as the others.
                faults = [self.kill_agent, self.kill_kafka, self.kill_both, self.cut, self.hold,
                          self.lose_answers, self.strand, self.kill_agent_behind_a_hold]
                self.random.shuffle(faults)
            fault = faults.pop()
            self.pause(0.05, 1.0)
            fault()
            print(f"cycle {cycle + 1}: {fault.__name__}, "
                  f"{sum(len(p.acknowledged) for p in producers)} acknowledged, "
                  f"{consumer.total()} read", flush=True)

        for producer in producers:
            self.assertEqual(producer.finish(), 0, "records without an answer")
            self.assertEqual(producer.failed, [])
        self.agent_process.wait_drained(180)
        wait_for(consumer.at_the_end, 120, "all partitions read to their ends")
        consumer.finish()
        self.assertEqual(consumer.changed, [], "a record changed after it had been read")
        self.assertEqual(consumer.errors, [], "an offset that had been read went away")
        for producer in producers:
            self.check(producer, consumer)

    # The faults. Each is over when it returns.

    def pause(self, least, most):
        time.sleep(self.random.uniform(least, most))

    def kill_agent(self):
        self.agent_process.kill()
        self.pause(0, 0.5)
        self.agent_process.start()

    def kill_kafka(self):
        self.kafka_node.kill()
        self.pause(0, 0.5)
        self.kafka_node.start()

    def kill_both(self):
        both = [self.agent_process, self.kafka_node]
        self.random.shuffle(both)
        for process in both:
            process.kill()
        for process in self.random.sample(both, 2):
            process.start()

    def cut(self):
        self.link.cut()
        self.pause(0, 1.0)
        self.link.heal()

    def hold(self):
        """Long enough, half of the time, for the agent to give the connection up."""
        self.link.hold(*self.random.choice((relay.BOTH, (relay.REQUESTS,), (relay.ANSWERS,))))
        self.pause(0.1, 6.0)
        self.link.heal()

    def lose_answers(self):
        self.link.hold(relay.ANSWERS)
        self.pause(0, 0.5)
        self.link.reset()
        self.link.heal()

    def strand(self):
        """What was on its way arrives behind what the agent sends on a new connection."""
        self.link.strand()
        self.pause(0, 0.3)
        if self.random.random() < 0.5:
            self.kill_agent()
        else:
            self.pause(2.0, 5.0)
        self.link.heal()

    def kill_agent_behind_a_hold(self):
        self.link.hold(*self.random.choice((relay.BOTH, (relay.REQUESTS,), (relay.ANSWERS,))))
        self.pause(0, 0.3)
        self.agent_process.kill()
        if self.random.random() < 0.5:
            self.link.heal()
            self.agent_process.start()
        else:
            self.agent_process.start()
            self.pause(0, 0.5)
            self.link.heal()

    def check(self, producer, consumer):
        doubled = marked = 0
        acknowledged = {partition: set() for partition in range(PARTITIONS)}
        for partition, number, attempt in producer.acknowledged:
            acknowledged[partition].add((number, attempt))
        for partition in range(PARTITIONS):
            where = f"{producer.topic}/{partition}"
            seen = consumer.seen[producer.topic, partition]
            stored = [seen[offset] for offset in sorted(seen)]
            doubled += len(stored) - len(set(stored))
            marked += sum(1 for number, attempt in stored if attempt > 0)
            missing = sorted(acknowledged[partition] - set(stored))
            self.assertEqual(missing[:20], [], f"{len(missing)} acknowledged are lost in {where}")
            first = [number for number, attempt in stored if attempt == 0]
            disorder = [(a, b) for a, b in zip(first, first[1:]) if a >= b]
            self.assertEqual(disorder[:20], [], f"out of order, or doubled, in {where}")
        print(f"{producer.topic}: {sum(producer.sent)} sent, {len(producer.acknowledged)} "
              f"acknowledged, 0 lost, {doubled} doubled, order holds; "
              f"{marked} of {producer.retries} marked copies stored", flush=True)
        self.assertEqual(doubled, 0)


class TransactionalCrashTest(CrashKafkaTest):
    settings = ("--set", "agent.upstream.delivery=transactional")


if __name__ == "__main__":
    apache_kafka.main()
