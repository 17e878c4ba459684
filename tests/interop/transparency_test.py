#!/usr/bin/python3
"""What is not produced works through the agent as it does without it: both group protocols, share
groups, transactions, admin tools; and brokers that come, go and come back are followed."""

import re
import threading
import time

import apache_kafka
from apache_kafka import java
from harness import wait_for

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

TOOLS = "org.apache.kafka.tools."


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
