#!/usr/bin/python3
"""The broker tier alone, under clients that nobody here wrote."""

import subprocess
import unittest

import harness
from harness import Case, committed_values, consume, kcat, produce, transactional, wait_for

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


class BrokerTest(Case):
    def setUp(self):
        super().setUp()
        self.tier = self.broker("--set", "broker.num_partitions=3").start()

    def create(self, topic, partitions):
        admin = AdminClient({"bootstrap.servers": self.tier.address})
        for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            future.result(timeout=20)

    def test_records_come_back_as_they_were_with_every_compression(self):
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            lines = [f"{codec} {number} " + "x" * number for number in range(200)]
            produce(self.tier.address, f"codec-{codec}", lines, "-z", codec, "-p", "1")
            self.assertEqual(consume(self.tier.address, f"codec-{codec}", "-p", "1"), lines)

    def test_headers_keys_and_timestamps_are_kept(self):
        kcat("-P", "-b", self.tier.address, "-t", "full", "-K", ":", "-H", "trace=7", "-H", "empty",
             data="key:value\n")
        got = kcat("-C", "-q", "-b", self.tier.address, "-t", "full", "-e", "-o", "beginning",
                   "-f", "%k|%s|%h|%T\n")
        key, value, headers, timestamp = got.strip().split("|")
        self.assertEqual((key, value), ("key", "value"))
        self.assertIn("trace=7", headers)
        self.assertGreater(int(timestamp), 1_600_000_000_000)

    def test_records_and_offsets_survive_kill_9(self):
        self.create("kept", 1)
        produce(self.tier.address, "kept", [f"before {n}" for n in range(500)])
        self.tier.kill()
        self.tier.start()
        produce(self.tier.address, "kept", [f"after {n}" for n in range(500)])
        got = kcat("-C", "-q", "-b", self.tier.address, "-t", "kept", "-e", "-o", "beginning",
                   "-f", "%o %s\n").splitlines()
        expected = [f"before {n}" for n in range(500)] + [f"after {n}" for n in range(500)]
        self.assertEqual(got, [f"{offset} {text}" for offset, text in enumerate(expected)])

    def test_a_group_goes_on_where_it_committed_after_kill_9(self):
        self.create("grouped", 3)
        produce(self.tier.address, "grouped", [str(n) for n in range(300)])
        first = self.read_as_group("readers", ["grouped"], 300)
        self.tier.kill()
        self.tier.start()
        produce(self.tier.address, "grouped", [str(n) for n in range(300, 400)])
        second = self.read_as_group("readers", ["grouped"], 100)
        self.assertEqual(sorted(map(int, first)), list(range(300)))
        self.assertEqual(sorted(map(int, second)), list(range(300, 400)))

    def read_as_group(self, group, topics, count):
        """kcat -G, which commits what it read when it leaves. It does not wait until its leaving is
        heard: if the broker dies before, the next member waits for the session to end."""
        return kcat("-q", "-b", self.tier.address, "-c", str(count), "-X",
                    "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000", "-G", group,
                    *topics, timeout=40).splitlines()

    def test_two_members_share_the_partitions_and_one_takes_over(self):
        self.create("shared", 4)
        settings = {"bootstrap.servers": self.tier.address, "group.id": "sharing",
                    "auto.offset.reset": "earliest", "session.timeout.ms": 6000}
        one, two = Consumer(settings), Consumer(settings)
        try:
            for consumer in (one, two):
                consumer.subscribe(["shared"])

            def both_have_two():
                for consumer in (one, two):
                    consumer.poll(0.05)
                return len(one.assignment()) == 2 and len(two.assignment()) == 2

            wait_for(both_have_two, 30, "two partitions each")
            two.close()
            wait_for(lambda: one.poll(0.1) or len(one.assignment()) == 4, 30, "all partitions")
        finally:
            one.close()

    def test_what_is_read_and_written_in_transactions_goes_together(self):
        """librdkafka's form of transactions: read, write, and commit both, or neither."""
        self.create("from", 1)
        self.create("to", 1)
        produce(self.tier.address, "from", [str(n) for n in range(20)])
        reader = Consumer({"bootstrap.servers": self.tier.address, "group.id": "copy",
                           "auto.offset.reset": "earliest", "enable.auto.commit": False})
        reader.assign([TopicPartition("from", 0, 0)])
        read = []
        wait_for(lambda: read.extend(reader.consume(20, 0.2)) or len(read) >= 20, 20, "20 records")
        producer = transactional(self.tier.address, "copier")

        def copy(begin, end):
            producer.begin_transaction()
            for message in read[begin:end]:
                producer.produce("to", message.value(), partition=0)
            producer.send_offsets_to_transaction([TopicPartition("from", 0, end)],
                                                 reader.consumer_group_metadata(), 20)

        copy(0, 10)
        producer.commit_transaction(20)
        copy(10, 15)
        self.assertEqual(producer.flush(20), 0)
        self.assertEqual(committed_values(self.tier.address, "to"), [str(n) for n in range(10)])
        self.tier.kill()
        self.tier.start()
        producer.abort_transaction(20)
        self.assertEqual(reader.committed([TopicPartition("from", 0)], 20)[0].offset, 10)
        copy(10, 20)
        self.assertEqual(producer.flush(20), 0)
        self.tier.kill()
        self.tier.start()
        producer.commit_transaction(20)
        self.assertEqual(reader.committed([TopicPartition("from", 0)], 20)[0].offset, 20)
        self.assertEqual(committed_values(self.tier.address, "to"), [str(n) for n in range(20)])

        copy(0, 1)
        newer = transactional(self.tier.address, "copier")
        with self.assertRaises(KafkaException) as raised:
            producer.commit_transaction(20)
        self.assertTrue(raised.exception.args[0].fatal(), raised.exception)
        newer.begin_transaction()
        newer.produce("to", "newer", partition=0)
        newer.commit_transaction(20)
        self.assertEqual(committed_values(self.tier.address, "to"),
                         [str(n) for n in range(20)] + ["newer"])
        reader.close()

    def test_offsets_are_found_by_time(self):
        self.create("timed", 1)
        producer = Producer({"bootstrap.servers": self.tier.address})
        for number in range(100):
            producer.produce("timed", str(number), partition=0,
                             timestamp=1_700_000_000_000 + number)
        self.assertEqual(producer.flush(20), 0)
        consumer = Consumer({"bootstrap.servers": self.tier.address, "group.id": "x"})
        try:
            found = consumer.offsets_for_times([TopicPartition("timed", 0, 1_700_000_000_050)],
                                               timeout=10)
            self.assertEqual(found[0].offset, 50)
            self.assertEqual(consumer.get_watermark_offsets(TopicPartition("timed", 0), timeout=10),
                             (0, 100))
        finally:
            consumer.close()

    def test_a_consumer_that_waits_gets_a_record_soon(self):
        self.create("waited", 1)
        waiting = subprocess.Popen(
            ["kcat", "-C", "-q", "-u", "-b", self.tier.address, "-t", "waited", "-c", "1",
             "-X", "fetch.wait.max.ms=20000"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            wait_for(lambda: self.tier.metric("holdfast_broker_parked_fetches") >= 1, 20,
                     "a parked fetch")
            produce(self.tier.address, "waited", ["at last"])
            out, _ = waiting.communicate(timeout=5)
            self.assertEqual(out.decode().strip(), "at last")
        finally:
            waiting.kill()
            waiting.wait()

    def test_a_producer_that_never_heard_the_answer_stores_its_batch_once(self):
        """An idempotent producer meets a broker that dies at random while it produces."""
        self.create("once", 1)
        producer = Producer({"bootstrap.servers": self.tier.address, "enable.idempotence": True,
                             "linger.ms": 1, "message.timeout.ms": 60000})
        for number in range(3000):
            producer.produce("once", str(number), partition=0)
            producer.poll(0)
            if number in (700, 1800):
                self.tier.kill()
                self.tier.start()
        self.assertEqual(producer.flush(60), 0)
        got = [int(line) for line in consume(self.tier.address, "once")]
        self.assertEqual(got, list(range(3000)))

    def test_an_unknown_topic_is_refused_if_topics_are_not_made_on_first_use(self):
        self.tier.stop()
        self.tier.arguments += ("--set", "broker.auto_create_topics=false")
        self.tier.start()
        with self.assertRaisesRegex(AssertionError, "Unknown topic"):
            produce(self.tier.address, "missing", ["x"], "-X",
                    "topic.metadata.propagation.max.ms=500")


if __name__ == "__main__":
    harness.main()
