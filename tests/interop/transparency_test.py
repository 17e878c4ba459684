#!/usr/bin/python3
"""What is not produced works through the agent as it does without it: both group protocols, share
groups, transactions, admin tools, fetch sessions, quotas, pages; and brokers that come, go and come
back are followed."""

import re
import struct
import threading
import time

import apache_kafka
from apache_kafka import java
from harness import wait_for
from raw_kafka import Connection, Reader, compact_array, compact_text, text

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

TOOLS = "org.apache.kafka.tools."
FETCH, DESCRIBE_TOPIC_PARTITIONS = 1, 75
INVALID_FETCH_SESSION_EPOCH = 71


def fetch(connection, topic, offsets, session=0, epoch=-1, wait_ms=200):
    """(throttle time, error code, session, the rest) of these partitions' offsets."""
    partitions = b"".join(struct.pack(">iiqqi", partition, -1, offset, -1, 1 << 20)
                          for partition, offset in offsets.items())
    topics = [text(topic) + struct.pack(">i", len(offsets)) + partitions] if offsets else []
    connection.send(FETCH, 11, struct.pack(">iiiibiii", -1, wait_ms, 1, 1 << 24, 0, session, epoch,
                                           len(topics)) +
                    b"".join(topics) + struct.pack(">i", 0) + text(""))
    answer = connection.receive()
    return *struct.unpack(">ihi", answer[:10]), answer[10:]


def describe_partitions(connection, topics, limit, cursor):
    """The answer's bytes, and where the next page begins."""
    names = compact_array([compact_text(topic) + b"\0" for topic in topics])
    after = b"\xff" if cursor is None else (b"\1" + compact_text(cursor[0]) +
                                           struct.pack(">i", cursor[1]) + b"\0")
    connection.send(DESCRIBE_TOPIC_PARTITIONS, 0,
                    names + struct.pack(">i", limit) + after + b"\0", flexible=True)
    page = connection.receive()
    reader = Reader(page)
    reader.tags()
    reader.number("i")
    partitions = []

    def read_partition(topic):
        reader.number("h")
        partitions.append((topic, reader.number("i")))
        reader.take(8)
        for _ in range(5):
            reader.array(lambda: reader.number("i"))
        reader.tags()

    def read_topic():
        reader.number("h")
        topic = reader.text()
        reader.take(17)
        reader.array(lambda: read_partition(topic))
        reader.number("i")
        reader.tags()

    reader.array(read_topic)
    if reader.number("b") < 0:
        return page, partitions, None
    return page, partitions, (reader.text(), reader.number("i"))


class TransparencyTest(apache_kafka.Case):
    def through(self, tool, *arguments, **options):
        return java(tool, "--bootstrap-server", self.agent_.address, *arguments, **options)

    def both(self, tool, *arguments):
        """The same question directly and through the agent."""
        return (java(tool, "--bootstrap-server", self.kafka_.upstream, *arguments),
                self.through(tool, *arguments))

    def begin(self, kafka, *topics):
        self.kafka_ = kafka
        self.agent_ = self.agent(self.kafka_.upstream).start()
        admin = AdminClient({"bootstrap.servers": self.agent_.address})
        for future in admin.create_topics([NewTopic(name, 2, 1) for name in topics]).values():
            future.result(30)

    def produce(self, topic, count):
        producer = Producer({"bootstrap.servers": self.agent_.address})
        for n in range(count):
            producer.produce(topic, f"{topic} {n}")
        self.assertEqual(producer.flush(30), 0)
        wait_for(lambda: self.agent_.metric("holdfast_agent_backlog_records") == 0,
                 what="all delivered")
        return sorted(f"{topic} {n}" for n in range(count))

    def test_groups_of_each_kind_read_what_was_produced(self):
        self.begin(self.shared_kafka(), "read")
        lines = self.produce("read", 50)
        read = ["--topic", "read", "--max-messages", "50", "--timeout-ms", "30000"]
        for protocol in ("classic", "consumer"):
            out = self.through(TOOLS + "consumer.ConsoleConsumer", *read, "--from-beginning",
                               "--group", protocol, "--command-property",
                               f"group.protocol={protocol}")
            self.assertEqual(sorted(out.split("\n")[:50]), lines, protocol)
        java("kafka.admin.ConfigCommand", "--bootstrap-server", self.agent_.address, "--alter",
             "--entity-type", "groups", "--entity-name", "share", "--add-config",
             "share.auto.offset.reset=earliest")
        out = self.through(TOOLS + "consumer.ConsoleShareConsumer", *read, "--group", "share")
        self.assertEqual(sorted(out.split("\n")[:50]), lines, "share")
        listed = self.through(TOOLS + "consumer.group.ConsumerGroupCommand", "--list")
        self.assertLessEqual({"classic", "consumer"}, set(listed.split()))

    def test_admin_tools_say_the_same(self):
        self.begin(self.shared_kafka(), "described")
        for tool, *arguments in (
                (TOOLS + "TopicCommand", "--describe", "--topic", "described"),
                ("kafka.admin.ConfigCommand", "--describe", "--topic", "described", "--all"),
                (TOOLS + "MetadataQuorumCommand", "describe", "--status")):
            # The quorum's own log goes on, and time does.
            direct, through = (re.sub(r"(HighWatermark|MaxFollowerLag\w*): *\d+", "", out)
                               for out in self.both(tool, *arguments))
            self.assertEqual(through, direct, tool)
        versions = self.through(TOOLS + "BrokerApiVersionsCommand")
        self.assertIn(self.agent_.address, versions)
        for address in (self.kafka_.upstream, self.kafka_.address):
            self.assertNotIn(address, versions)

    def test_transactions_are_the_tiers(self):
        self.begin(self.shared_kafka(), "transacted")
        producer = Producer({"bootstrap.servers": self.agent_.address, "transactional.id": "x"})
        producer.init_transactions(30)
        for commit in (True, False, True):
            producer.begin_transaction()
            producer.produce("transacted", "committed" if commit else "aborted", partition=0)
            # Else the client may end a transaction that the tier has not heard of yet: error 48.
            producer.flush(30)
            producer.commit_transaction(30) if commit else producer.abort_transaction(30)
        self.assertEqual(self.agent_.metric("holdfast_agent_acknowledged_records_total"), 0)
        out = self.through(TOOLS + "consumer.ConsoleConsumer", "--topic", "transacted",
                           "--from-beginning", "--isolation-level", "read_committed",
                           "--max-messages", "2", "--timeout-ms", "30000")
        self.assertEqual(out.split(), ["committed", "committed"])

    def test_a_fetch_session_goes_on_and_has_only_what_is_new(self):
        self.begin(self.shared_kafka(), "session")
        producer = Producer({"bootstrap.servers": self.agent_.address})

        def send(value, partition):
            producer.produce("session", value, partition=partition)
            self.assertEqual(producer.flush(30), 0)
            self.agent_.wait_drained()

        send("nothing new", 0)
        send("the first", 1)
        with Connection(self.agent_.address) as connection:
            _, error, session, records = fetch(connection, "session", {0: 0, 1: 0}, epoch=0)
            self.assertEqual(error, 0)
            self.assertNotEqual(session, 0, "no session was made")
            self.assertIn(b"the first", records)
            # From now on only what changes is said and answered: nothing, and one partition's.
            self.assertEqual(fetch(connection, "session", {0: 1, 1: 1}, session, 1),
                             (0, 0, session, struct.pack(">i", 0)))
            send("the second", 1)
            _, error, same, records = fetch(connection, "session", {}, session, 2)
            self.assertEqual((error, same), (0, session))
            self.assertEqual(struct.unpack(">i", records[:4])[0], 1)
            self.assertIn(b"the second", records)
            self.assertNotIn(b"the first", records)
            _, error, _, _ = fetch(connection, "session", {}, session, 7)
            self.assertEqual(error, INVALID_FETCH_SESSION_EPOCH)

    def test_the_tiers_throttle_time_reaches_the_client(self):
        self.begin(self.shared_kafka(), "throttled")

        def quota(*change):
            java("kafka.admin.ConfigCommand", "--bootstrap-server", self.kafka_.address, "--alter",
                 "--entity-type", "clients", "--entity-name", "raw", *change)

        producer = Producer({"bootstrap.servers": self.agent_.address})
        for _ in range(20):
            producer.produce("throttled", b"x" * 10000, partition=0)
        self.assertEqual(producer.flush(30), 0)
        self.agent_.wait_drained()
        with Connection(self.agent_.address) as connection:
            self.assertEqual(fetch(connection, "throttled", {0: 0})[0], 0)
        quota("--add-config", "consumer_byte_rate=1000")
        try:
            with Connection(self.agent_.address) as connection:
                throttled = wait_for(lambda: fetch(connection, "throttled", {0: 0})[0], 20,
                                     "an answer that says to wait")
            self.assertGreater(throttled, 0)
        finally:
            quota("--delete-config", "consumer_byte_rate")

    def test_a_cursor_leads_over_the_pages_of_partitions(self):
        self.begin(self.shared_kafka(), "page-a", "page-b", "page-c")
        topics = ["page-a", "page-b", "page-c"]

        def pages(address):
            all_pages, all_partitions, cursor = [], [], None
            with Connection(address) as connection:
                while True:
                    page, partitions, cursor = describe_partitions(connection, topics, 4, cursor)
                    all_pages.append(page)
                    all_partitions += partitions
                    if cursor is None:
                        return all_pages, all_partitions

        through, partitions = pages(self.agent_.address)
        self.assertEqual(len(through), 2)
        self.assertEqual(partitions, [(topic, n) for topic in topics for n in range(2)])
        self.assertEqual(through, pages(self.kafka_.upstream)[0])

    def test_brokers_that_come_go_and_come_back_are_followed(self):
        self.begin(self.kafka().start(), "t")
        second = self.kafka(join=self.kafka_).start()
        admin = AdminClient({"bootstrap.servers": self.agent_.address})
        topic = NewTopic("on-the-second", 1, replica_assignment=[[second.node]])
        admin.create_topics([topic])["on-the-second"].result(30)
        brokers = admin.list_topics(timeout=10).brokers
        self.assertEqual(set(brokers), {self.kafka_.node, second.node})
        self.assertEqual(len({broker.port for broker in brokers.values()}), 2)

        seen = []
        stopped = threading.Event()

        def read():
            consumer = Consumer({"bootstrap.servers": self.agent_.address, "group.id": "g",
                                 "auto.offset.reset": "earliest", "log_level": 0})
            consumer.subscribe(["on-the-second"])
            while not stopped.is_set():
                message = consumer.poll(0.2)
                if message is not None and not message.error():
                    seen.append(message.value().decode())
            consumer.close()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            expected = [f"{n}" for n in range(30)]
            producer = Producer({"bootstrap.servers": self.agent_.address, "log_level": 0,
                                 "enable.idempotence": True})

            def send(some):
                for value in some:
                    producer.produce("on-the-second", value)
                self.assertEqual(producer.flush(30), 0)

            send(expected[:10])
            wait_for(lambda: seen == expected[:10], 30, "the first third")
            second.kill()
            began = time.monotonic()
            send(expected[10:20])
            self.assertLess(time.monotonic() - began, 5, "the leader is not needed")
            second.start()
            send(expected[20:])
            wait_for(lambda: seen == expected, 60, "all records in order")
        finally:
            stopped.set()
            reader.join()


if __name__ == "__main__":
    apache_kafka.main()
