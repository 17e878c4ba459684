#!/usr/bin/python3
"""Looks in the broker's logs for the anomalies that Jepsen looks for, while it is killed.

Idempotent producers, transactional ones that abort a quarter, two consumers that read everything as
it comes (and go back now and then), and a group of members that come and go and carry records from
one topic to another, each exactly once. kill -9 of the broker at random moments: 6 times, 40 with
HOLDFAST_LONG=1, or HOLDFAST_CYCLES; HOLDFAST_SEED repeats a run's moments. Then the whole log is
read once more and held against what everybody was told and saw:

  lost write           acknowledged, and not in the log; or committed, and not all of it
  duplicate            twice in the log
  inconsistent offset  one offset, two records
  non-monotonic send   acknowledged in an order that is not the log's
  non-monotonic poll   a consumer got an offset that is not behind the one before
  skipped poll         a consumer passed over a record that it should have got
  aborted read (G1a)   a read_committed consumer got a record of a transaction that was aborted
  torn transaction     some of its records are there, others are not (G1b when it was read so)
  precommitted read    a read_committed consumer got a record before its producer said commit
"""

import collections
import os
import random
import threading
import time

import harness
from harness import Case, transactional, wait_for

from confluent_kafka import (OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition)

PARTITIONS = 4
SENDS, MOVED, WHOLE = TOPICS = ("sends", "moved", "whole")
CLIENT = {"reconnect.backoff.max.ms": 200, "reconnect.backoff.ms": 50, "log_level": 2}


class Worker(threading.Thread):
    """Does `step` until told to stop; what escapes from it ends the test."""

    def __init__(self, address, seed):
        super().__init__(daemon=True)
        self.address = address
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.escaped = None

    def run(self):
        try:
            while not self.stopping.is_set():
                self.step()
            self.close()
        except BaseException as error:  # Of any kind: the test tells of it.
            self.escaped = error
            raise

    def step(self):
        raise NotImplementedError

    def close(self):
        pass

    def finish(self):
        self.stopping.set()
        self.join(120)
        assert not self.is_alive(), f"{type(self).__name__} hangs"
        assert self.escaped is None, self.escaped


class Sender(Worker):
    """Idempotent: every record is acknowledged in the end, once."""

    def __init__(self, address, seed, name):
        super().__init__(address, seed)
        self.name = name
        self.number = 0
        self.acknowledged = []  # (partition, offset, value), in the order of the acknowledgements.
        self.failed = []
        self.producer = Producer(CLIENT | {
            "bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5,
            "message.timeout.ms": 300000, "retry.backoff.ms": 50})

    def on_delivery(self, error, message):
        if error is None:
            self.acknowledged.append(
                (message.partition(), message.offset(), message.value().decode()))
        else:
            self.failed.append(str(error))

    def step(self):
        for _ in range(self.random.randrange(1, 8)):
            self.producer.produce(SENDS, f"{self.name}-{self.number}",
                                  partition=self.random.randrange(PARTITIONS),
                                  on_delivery=self.on_delivery)
            self.number += 1
        self.producer.poll(0.02)

    def close(self):
        self.producer.flush(60)


class Transactor(Worker):
    """Transactions of a few records in several partitions."""

    def __init__(self, address, seed, name):
        super().__init__(address, seed)
        self.name = name
        self.number = 0
        self.producer = None
        self.sizes = {}  # By tag: how many records it has.
        self.asked = set()  # To be committed.
        self.committed = set()
        self.aborted = set()

    def step(self):
        tag = f"{self.name}-{self.number}"
        self.number += 1
        size = self.random.randrange(1, 6)
        try:
            self.producer = self.producer or transactional(self.address, self.name)
            self.producer.begin_transaction()
            self.sizes[tag] = size
            for part in range(size):
                self.producer.produce(WHOLE, f"{tag} {part}",
                                      partition=self.random.randrange(PARTITIONS))
            self.producer.poll(0)
            if self.random.random() < 0.25:
                self.producer.flush(30)
                self.aborted.add(tag)  # Whatever comes: nobody asks for a commit.
                self.producer.abort_transaction(30)
            else:
                self.asked.add(tag)
                self.producer.commit_transaction(30)
                self.committed.add(tag)
        except KafkaException as failure:
            self.recover(tag, failure.args[0])
        time.sleep(self.random.uniform(0, 0.02))

    def recover(self, tag, error):
        if tag in self.sizes and tag not in self.asked:
            self.aborted.add(tag)
        if error.txn_requires_abort():
            self.aborted.add(tag)  # The commit was refused.
            try:
                self.producer.abort_transaction(30)
                return
            except KafkaException:
                pass
        self.producer = None  # The next one ends what is open.

    def close(self):
        # What this one left open must not stand in the way of readers.
        transactional(self.address, self.name)


class Tailer(Worker):
    """Reads all partitions as they grow, and some of it again."""

    def __init__(self, address, seed, isolation, transactors):
        super().__init__(address, seed)
        self.transactors = transactors
        self.committed_only = isolation == "read_committed"
        self.runs = collections.defaultdict(list)  # By partition: offsets; -1: it went back there.
        self.records = {}  # By (topic, partition, offset).
        self.anomalies = []
        self.ends = {}  # By (topic, partition): the last record's offset, once it is known.
        self.consumer = Consumer(CLIENT | {
            "bootstrap.servers": address, "group.id": isolation, "isolation.level": isolation,
            "enable.auto.commit": False, "fetch.wait.max.ms": 50})
        self.consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)
                              for topic in TOPICS for partition in range(PARTITIONS)])

    def step(self):
        self.read()
        if self.random.random() < 0.02:
            self.go_back()

    def read(self):
        for message in self.consumer.consume(500, 0.1):
            if message.error():
                if not message.error().retriable():
                    self.anomalies.append(f"consumer: {message.error()}")
                continue
            self.note(message)

    def note(self, message):
        where = (message.topic(), message.partition())
        value = message.value().decode()
        before = self.records.setdefault((*where, message.offset()), value)
        if before != value:
            self.anomalies.append(f"inconsistent offset: {where} {message.offset()} is {before} "
                                  f"and {value}")
        self.runs[where].append(message.offset())
        if self.committed_only and message.topic() == WHOLE:
            tag = value.split()[0]
            transactor = self.transactors.get(tag.split("-")[0])
            if transactor is not None and tag not in transactor.asked:
                self.anomalies.append(f"precommitted or aborted read: {value}")

    def go_back(self):
        where = self.random.choice(list(self.runs) or [None])
        if where is None or not self.runs[where]:
            return
        offset = max(0, self.runs[where][-1] - self.random.randrange(200))
        self.consumer.seek(TopicPartition(*where, offset))
        self.runs[where].append(-1)
        self.runs[where].append(~offset)

    def close(self):
        # Its last step may have gone back. What does not come in time is told of as skipped.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and any(
                self.runs[where][-1:] != [end] for where, end in self.ends.items()):
            self.read()
        self.consumer.close()


class Member(Worker):
    """Carries records from SENDS to MOVED in transactions with the group's offsets; comes and
    goes."""

    def __init__(self, address, seed, name):
        super().__init__(address, seed)
        self.name = name
        self.consumer = None
        self.producer = None
        self.leave_at = 0

    def join_group(self):
        self.producer = transactional(self.address, self.name)
        self.consumer = Consumer(CLIENT | {
            "bootstrap.servers": self.address, "group.id": "movers", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "isolation.level": "read_committed",
            "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "fetch.wait.max.ms": 50,
            "topic.metadata.refresh.interval.ms": 1000})
        self.consumer.subscribe([SENDS])
        self.leave_at = time.monotonic() + self.random.uniform(4, 12)

    def leave(self):
        consumer, self.consumer, self.producer = self.consumer, None, None
        if consumer is not None:
            consumer.close()

    def step(self):
        try:
            if self.consumer is None:
                self.join_group()
            messages = [message for message in self.consumer.consume(200, 0.1)
                        if not message.error()]
            if messages:
                self.move(messages)
            if time.monotonic() > self.leave_at:
                self.leave()
        except KafkaException as failure:
            try:
                if self.producer is not None and failure.args[0].txn_requires_abort():
                    self.producer.abort_transaction(30)
            except KafkaException:
                pass  # The next producer of this name ends it.
            self.leave()  # It begins again from what is committed.

    def move(self, messages):
        self.producer.begin_transaction()
        next_offsets = {}
        for message in messages:
            self.producer.produce(MOVED, message.value(), partition=message.partition())
            next_offsets[message.partition()] = message.offset() + 1
        self.producer.send_offsets_to_transaction(
            [TopicPartition(SENDS, *place) for place in next_offsets.items()],
            self.consumer.consumer_group_metadata(), 30)
        self.producer.commit_transaction(30)

    def close(self):
        self.leave()


class ConsistencyTest(Case):
    def test_no_anomaly_while_the_broker_is_killed(self):
        cycles = int(os.environ.get("HOLDFAST_CYCLES", "40" if harness.LONG else "6"))
        seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(1 << 32)))
        print(f"\n{cycles} kills, HOLDFAST_SEED={seed}", flush=True)
        chance = random.Random(seed)
        self.server = self.broker("--set", f"broker.num_partitions={PARTITIONS}",
                                  "--set", "broker.data.segment_bytes=1MiB",
                                  "--set", "broker.compaction.check_interval_ms=300").start()
        self.address = self.server.address
        for topic in TOPICS:
            harness.kcat("-P", "-b", self.address, "-t", topic, "-p", "0",
                         data=f"first-{topic} none\n")
        self.senders = [Sender(self.address, seed + n, f"s{n}") for n in range(2)]
        self.transactors = {f"t{n}": Transactor(self.address, seed + n, f"t{n}") for n in range(3)}
        self.members = [Member(self.address, seed + n, f"m{n}") for n in range(3)]
        self.tailers = [Tailer(self.address, seed + n, isolation, self.transactors)
                        for n, isolation in enumerate(("read_committed", "read_uncommitted"))]
        for worker in self.workers():
            worker.start()
        for cycle in range(cycles):
            time.sleep(chance.uniform(0.2, 3))
            self.server.kill()
            time.sleep(chance.choice((0, chance.uniform(0, 1))))
            self.server.start()
        self.wind_up()
        self.check()

    def workers(self):
        return [*self.senders, *self.transactors.values(), *self.members, *self.tailers]

    def wind_up(self):
        """Lets everybody finish what he has begun."""
        time.sleep(1)
        for worker in (*self.senders, *self.transactors.values()):
            worker.finish()
        for sender in self.senders:
            self.assertEqual(sender.failed, [])
            self.assertEqual(len(sender.acknowledged), sender.number)
        reader = Consumer({"bootstrap.servers": self.address, "group.id": "movers"})
        sends = [TopicPartition(SENDS, partition) for partition in range(PARTITIONS)]
        ends = {place.partition: reader.get_watermark_offsets(place, timeout=30)[1]
                for place in sends}
        wait_for(lambda: {place.partition: place.offset for place in
                          reader.committed(sends, timeout=30)} == ends, 120, "all to be moved")
        for member in self.members:
            member.finish()
        self.log = self.read("read_uncommitted")
        self.committed = self.read("read_committed")
        for tailer in self.tailers:
            log = self.committed if tailer.committed_only else self.log
            tailer.ends = {place[:2]: place[2] for place in sorted(log)}
            tailer.finish()
        reader.close()

    def read(self, isolation):
        """All records, by (topic, partition, offset)."""
        reader = Consumer({"bootstrap.servers": self.address, "group.id": "checker",
                           "isolation.level": isolation, "enable.partition.eof": True})
        places = [TopicPartition(topic, partition, OFFSET_BEGINNING)
                  for topic in TOPICS for partition in range(PARTITIONS)]
        reader.assign(places)
        records, ended = {}, set()
        deadline = time.monotonic() + 120
        while len(ended) < len(places):
            self.assertLess(time.monotonic(), deadline, "the log cannot be read to its end")
            for message in reader.consume(1000, 1):
                if message.error():
                    self.assertEqual(message.error().name(), "_PARTITION_EOF")
                    ended.add((message.topic(), message.partition()))
                else:
                    records[message.topic(), message.partition(), message.offset()] = \
                        message.value().decode()
        reader.close()
        return records

    def check(self):
        anomalies = [anomaly for tailer in self.tailers for anomaly in tailer.anomalies]
        anomalies += self.check_sends()
        anomalies += self.check_transactions()
        anomalies += self.check_moves()
        for tailer in self.tailers:
            anomalies += self.check_tailer(tailer)
        transactors = self.transactors.values()
        unsure = sum(len(t.asked - t.committed - t.aborted) for t in transactors)
        print(f"{sum(len(sender.acknowledged) for sender in self.senders)} sent, "
              f"{sum(len(t.committed) for t in transactors)} transactions committed, "
              f"{sum(len(t.aborted) for t in transactors)} aborted, {unsure} unsure, "
              f"{sum(len(run) for tailer in self.tailers for run in tailer.runs.values())} polled; "
              f"{len(anomalies)} anomalies", flush=True)
        self.assertEqual(anomalies[:20], [])

    def check_sends(self):
        for sender in self.senders:
            last = collections.defaultdict(lambda: -1)
            for partition, offset, value in sender.acknowledged:
                if self.log.get((SENDS, partition, offset)) != value:
                    yield f"lost write: {value} is not at {partition}, {offset}"
            for partition, offset, value in sorted(
                    sender.acknowledged, key=lambda ack: int(ack[2].split("-")[1])):
                if offset <= last[partition]:
                    yield f"non-monotonic send: {value} at {partition}, {offset}"
                last[partition] = offset
        yield from self.doubled(self.log, SENDS)

    @staticmethod
    def doubled(log, topic):
        values = collections.Counter(value for place, value in log.items() if place[0] == topic)
        return [f"duplicate: {value} in {topic}" for value, count in values.items() if count > 1]

    def check_transactions(self):
        yield from self.doubled(self.committed, WHOLE)
        parts = collections.defaultdict(set)
        for (topic, _, _), value in self.committed.items():
            tag, part = value.split() if topic == WHOLE else ("", "")
            if part.isdigit():
                parts[tag].add(int(part))
        for transactor in self.transactors.values():
            for tag, size in transactor.sizes.items():
                seen = len(parts[tag])
                if tag in transactor.aborted and seen:
                    yield f"aborted read: {tag}"
                elif tag in transactor.committed and seen == 0:
                    yield f"lost write: {tag} was committed"
                elif seen not in (0, size):
                    yield f"torn transaction: {seen} of {size} records of {tag}"

    def check_moves(self):
        yield from self.doubled(self.committed, MOVED)
        moved = {value for place, value in self.committed.items() if place[0] == MOVED}
        for place, value in self.log.items():
            if place[0] == SENDS and value not in moved:
                yield f"lost write: {value} was not moved"

    def check_tailer(self, tailer):
        log = self.committed if tailer.committed_only else self.log
        offsets = collections.defaultdict(list)
        for topic, partition, offset in sorted(log):
            offsets[topic, partition].append(offset)
        for where, run in tailer.runs.items():
            index = {offset: at for at, offset in enumerate(offsets[where])}
            expected = 0
            moves = iter(run)
            for offset in moves:
                if offset == -1:
                    target = ~next(moves)
                    expected = next((at for at, known in enumerate(offsets[where])
                                     if known >= target), len(offsets[where]))
                elif offset not in index:
                    yield f"read what is not there: {where} {offset}"
                elif index[offset] < expected:
                    yield f"non-monotonic poll: {where} {offset}"
                else:
                    if index[offset] > expected:
                        yield f"skipped poll: {where}, from index {expected} to {offset}"
                    expected = index[offset] + 1
            if expected != len(offsets[where]):
                yield f"skipped poll: the end of {where}"


if __name__ == "__main__":
    harness.main()
