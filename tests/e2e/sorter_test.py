#!/usr/bin/python3
"""The broker's old segments, ordered by partition: that kill -9 amid it loses nothing, and that the
space of a deleted topic comes back although another topic's records lie beside its own.
"""

import pathlib
import random
import subprocess
import time

import harness
from harness import Case, wait_for

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 12


class SorterTest(Case):
    def start(self, segment_bytes):
        self.tier = self.broker("--set", "broker.compaction.check_interval_ms=200",
                                "--set", "broker.compaction.bytes_per_second_max=0",
                                "--set", f"broker.data.segment_bytes={segment_bytes}").start()
        self.admin = AdminClient({"bootstrap.servers": self.tier.address})

    def create(self, topic):
        for future in self.admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
            future.result(timeout=20)

    def produce(self, topic, records):
        producer = Producer({"bootstrap.servers": self.tier.address, "linger.ms": 1,
                             "enable.idempotence": True})
        for partition, value in records:
            producer.produce(topic, value=value, partition=partition)
        self.assertEqual(producer.flush(30), 0)

    def read(self, topic):
        """The values of each partition, in order."""
        consumer = Consumer({"bootstrap.servers": self.tier.address, "group.id": "reader",
                             "enable.partition.eof": True, "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        values = [[] for _ in range(PARTITIONS)]
        ended = set()
        deadline = time.monotonic() + 60
        try:
            while len(ended) < PARTITIONS:
                message = consumer.poll(1.0)
                self.assertLess(time.monotonic(), deadline, "the ends were never reached")
                if message is None:
                    continue
                if message.error():
                    ended.add(message.partition())
                else:
                    values[message.partition()].append(message.value())
            return values
        finally:
            consumer.close()

    def sorted_segments(self):
        return self.tier.metric("holdfast_broker_sorted_segments_total")

    def disk_bytes(self):
        return sum(file.stat().st_size
                   for file in pathlib.Path(self.path("broker")).glob("*.segment"))

    def test_nothing_is_lost_when_it_is_killed_amid_sorting(self):
        self.start("1MiB")
        self.create("kept")
        chance = random.Random(7)
        expected = [[] for _ in range(PARTITIONS)]
        written = 0
        for life in range(6):
            records = []
            for i in range(4000):
                partition = chance.randrange(PARTITIONS)
                value = b"%d.%d " % (life, i) + b"x" * chance.randrange(600)
                expected[partition].append(value)
                records.append((partition, value))
            self.produce("kept", records)
            time.sleep(chance.random())
            written += self.sorted_segments()
            self.tier.kill()
            self.tier.start()
            self.assertEqual(self.read("kept"), expected)
        self.assertGreater(written, 0)
        self.assertEqual(self.tier.stop(), 0)
        verified = subprocess.run([harness.HOLDFAST, "spool", "verify", self.path("broker")],
                                  capture_output=True, text=True, timeout=60)
        self.assertIn("all sound", verified.stdout, verified.stderr)
        self.tier.start()
        self.assertEqual(self.read("kept"), expected)

    def test_the_space_of_a_deleted_topic_comes_back(self):
        self.start("8MiB")
        self.create("kept")
        self.create("deleted")
        for _ in range(80):
            self.produce("kept", [(0, b"stays")])
            self.produce("deleted", [(p, b"x" * 30000) for p in range(PARTITIONS)])
        self.assertGreater(self.disk_bytes(), 24 << 20)
        for future in self.admin.delete_topics(["deleted"]).values():
            future.result(timeout=20)
        # Whether more of a segment is trimmed is looked at anew after a start, else in minutes.
        self.assertEqual(self.tier.stop(), 0)
        self.tier.start()
        wait_for(lambda: self.disk_bytes() < 12 << 20, what="the space of the deleted topic")
        self.assertEqual(self.read("kept")[0], [b"stays"] * 80)


if __name__ == "__main__":
    harness.main()
