#!/usr/bin/python3
"""Compacted topics of a real broker process: what consumers find after compaction, and that kill -9
amid it loses nothing.
"""

import random
import time

import harness
from harness import Case, wait_for

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SETTINGS = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01",
            "delete.retention.ms": "100000000"}


class CompactionTest(Case):
    def setUp(self):
        super().setUp()
        self.tier = self.broker("--set", "broker.compaction.check_interval_ms=300",
                                "--set", "broker.data.segment_bytes=1048576").start()

    def create(self, topic, partitions, settings):
        admin = AdminClient({"bootstrap.servers": self.tier.address})
        new = NewTopic(topic, partitions, 1, config=settings)
        for future in admin.create_topics([new]).values():
            future.result(timeout=20)

    def read(self, topic, partition=0):
        """All records of a partition from its beginning: (offset, key, value)."""
        consumer = Consumer({"bootstrap.servers": self.tier.address, "group.id": "reader",
                             "enable.partition.eof": True, "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, partition, 0)])
        records = []
        deadline = time.monotonic() + 30
        try:
            while True:
                message = consumer.poll(1.0)
                self.assertLess(time.monotonic(), deadline, "the end was never reached")
                if message is None:
                    continue
                if message.error():
                    return records
                records.append((message.offset(), message.key(), message.value()))
        finally:
            consumer.close()

    def test_nothing_is_lost_when_it_is_killed_amid_compaction(self):
        self.create("keyed", 2, SETTINGS)
        chance = random.Random(5)
        newest = [{}, {}]
        count = 0
        for life in range(8):
            producer = Producer({"bootstrap.servers": self.tier.address, "linger.ms": 2,
                                 "enable.idempotence": True,
                                 "compression.type": ("none", "zstd", "lz4", "gzip")[life % 4]})
            for _ in range(1500):
                partition = chance.randrange(2)
                key = b"key %d" % chance.randrange(100)
                value = None if chance.random() < 0.1 else b"%d " % count + b"x" * 200
                newest[partition][key] = value
                producer.produce("keyed", key=key, value=value, partition=partition)
                count += 1
            self.assertEqual(producer.flush(30), 0)
            time.sleep(chance.random())
            self.tier.kill()
            self.tier.start()
            for partition in range(2):
                self.check(partition, newest[partition])
        wait_for(lambda: sum(len(self.read("keyed", p)) for p in range(2)) < 2000,
                 what=f"less than 2000 of {count} records to be left")
        for partition in range(2):
            self.check(partition, newest[partition])

    def check(self, partition, newest):
        last = {}
        previous = -1
        for offset, key, value in self.read("keyed", partition):
            self.assertGreater(offset, previous)
            previous = offset
            last[key] = value
        self.assertEqual(last, newest)


if __name__ == "__main__":
    harness.main()
