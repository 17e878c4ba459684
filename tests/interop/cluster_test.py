#!/usr/bin/python3
"""In front of a real Apache Kafka of two nodes, with two replicas of everything and both asked for:
a node that dies and comes back, leaders that move, partitions that are added meanwhile, an agent
that was there before its tier, and records that the topics' settings exclude. Everything is
counted: what was acknowledged is in Kafka, once and in order."""

import json
import re
import shutil
import tempfile
import threading
import time

import apache_kafka
from apache_kafka import java
from harness import kcat, wait_for

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

BOTH_REPLICAS = {"default.replication.factor": 2, "min.insync.replicas": 2, "num.partitions": 2,
                 "offsets.topic.replication.factor": 2,
                 "auto.leader.rebalance.enable": "false"}
ACKS = {"here": "local", "there": "upstream", "everywhere": "both"}
HOUR_MS = 3600 * 1000


class Flow(threading.Thread):
    """Numbers the records of each of a topic's partitions from 0 on, 400 in a second, and notes
    what is acknowledged, until it is told to stop."""

    def __init__(self, address, topic, partitions=(0, 1)):
        super().__init__(daemon=True)
        self.topic = topic
        self.producer = Producer({"bootstrap.servers": address, "enable.idempotence": True,
                                  "linger.ms": 5, "message.timeout.ms": 120000, "log_level": 2})
        self.sent = dict.fromkeys(partitions, 0)
        self.acknowledged = {partition: [] for partition in partitions}
        self.failed = []
        self.stopping = threading.Event()
        self.start()

    def run(self):
        while not self.stopping.is_set():
            turn = time.monotonic() + 0.02
            for partition in self.sent:
                for _ in range(4):
                    self.send(partition)
            while (left := turn - time.monotonic()) > 0:
                self.producer.poll(left)

    def send(self, partition):
        number = self.sent[partition]
        self.sent[partition] += 1

        def on_delivery(error, _):
            if error is None:
                self.acknowledged[partition].append(number)
            else:
                self.failed.append(str(error))

        self.producer.produce(self.topic, str(number), partition=partition,
                              on_delivery=on_delivery)

    def count(self):
        return sum(map(len, self.acknowledged.values()))

    def wait_acknowledged(self, more):
        """Until so many more are."""
        enough = self.count() + more
        wait_for(lambda: self.count() >= enough, 60, f"{more} more records of {self.topic} taken")

    def finish(self):
        """How many have no answer."""
        self.stopping.set()
        self.join()
        return self.producer.flush(60)


class ClusterTest(apache_kafka.Case):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.mkdtemp(prefix="holdfast-interop-")
        cls.addClassCleanup(shutil.rmtree, directory, ignore_errors=True)
        cls.first = cls.shared = apache_kafka.Kafka(directory, BOTH_REPLICAS)
        cls.second = apache_kafka.Kafka(directory, BOTH_REPLICAS, join=cls.first)
        cls.addClassCleanup(cls.kill_both)
        cls.admin = AdminClient({"bootstrap.servers": cls.first.address, "log_level": 2})

    @classmethod
    def kill_both(cls):
        for node in (cls.second, cls.first):
            if node.running():
                node.kill()

    def start_both(self):
        for node in (self.first, self.second):
            if not node.running():
                node.start(wait=False)
        self.first.wait_ready()
        self.second.wait_ready()

    def agent_of(self, **settings):
        with open(self.path("agent.json"), "w", encoding="utf-8") as file:
            json.dump({"agent": settings}, file)
        return self.agent(self.first.upstream, "--config", self.path("agent.json"),
                          "--set", "agent.upstream.backoff_max_ms=300ms",
                          "--set", "agent.upstream.metadata_refresh_ms=1s").start()

    def make_topics(self, *topics):
        for done in self.admin.create_topics(list(topics)).values():
            done.result(30)

    def leaders(self, topic):
        partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        return [partitions[n].leader for n in sorted(partitions)]

    def in_sync(self, *topics):
        listed = self.admin.list_topics(timeout=10).topics
        return all(len(partition.isrs) == 2
                   for topic in topics for partition in listed[topic].partitions.values())

    def stored(self, topic, partition):
        return [int(line) for line in kcat(
            "-C", "-q", "-b", self.first.address, "-t", topic, "-p", str(partition),
            "-o", "beginning", "-e").split()]

    def check(self, agent, *flows):
        """All of them have ended, and everything is there."""
        for flow in flows:
            self.assertEqual(flow.finish(), 0, f"records of {flow.topic} without an answer")
            self.assertEqual(flow.failed, [])
        agent.wait_drained()
        for flow in flows:
            for partition, sent in flow.sent.items():
                # An idempotent client's answers come in order.
                self.assertEqual(flow.acknowledged[partition], list(range(sent)))
                self.assertEqual(self.stored(flow.topic, partition), list(range(sent)),
                                 f"{flow.topic}/{partition}")
            print(f"{flow.topic}: {sum(flow.sent.values())} records, 0 lost, 0 doubled, in order",
                  flush=True)
        self.assertEqual(json.loads(agent.get("/status"))["dead_letters"]["records"], 0)

    def refusals(self, agent):
        """How often the tier had too few replicas."""
        found = re.findall(
            r'^holdfast_agent_forward_errors_total{cause="NOT_ENOUGH_REPLICAS"} (\S+)$',
            agent.get("/metrics"), re.M)
        return sum(map(float, found))

    def test_one_node_dies_leaders_move_and_partitions_are_added(self):
        self.start_both()
        one, two = self.first.node, self.second.node
        self.make_topics(*(NewTopic(topic, 2, replica_assignment=[[one, two], [two, one]])
                           for topic in ACKS))
        self.assertEqual(self.leaders("here"), [one, two])
        agent = self.agent_of(topic_rules=[{"topic": topic, "acks": acks}
                                           for topic, acks in ACKS.items()])
        flows = [Flow(agent.address, topic) for topic in ACKS]
        here, there, everywhere = flows
        for flow in flows:
            flow.wait_acknowledged(100)

        # One leader is gone, and so is the follower of the other.
        self.second.kill()
        wait_for(lambda: self.leaders("here") == [one, one], 30, "the leader to move")
        wait_for(lambda: self.refusals(agent) > 0, 30, "NOT_ENOUGH_REPLICAS")
        confirmed = there.count(), everywhere.count()
        here.wait_acknowledged(200)
        # The agent may answer for the tier only once there is one that has both replicas.
        self.assertEqual((there.count(), everywhere.count()), confirmed)
        self.assertGreater(agent.metric("holdfast_agent_backlog_records"), 200)

        self.admin.create_partitions(
            [NewPartitions("here", 4, replica_assignment=[[one, two], [two, one]])]
        )["here"].result(30)
        local = AdminClient({"bootstrap.servers": agent.address})
        wait_for(lambda: len(local.list_topics("here", timeout=10).topics["here"].partitions) == 4,
                 30, "the agent to know of the new partitions")
        added = Flow(agent.address, "here", (2, 3))
        added.wait_acknowledged(100)
        self.assertEqual((there.count(), everywhere.count()), confirmed)

        self.second.start()
        wait_for(lambda: self.in_sync(*ACKS), 30, "both replicas to be in sync")
        for flow in (*flows, added):
            flow.wait_acknowledged(100)

        # Back to the node that was away, while records go on.
        self.assertEqual(self.leaders("here")[:2], [one, one])
        java("org.apache.kafka.tools.LeaderElectionCommand", "--bootstrap-server",
             self.first.address, "--election-type", "preferred", "--all-topic-partitions")
        wait_for(lambda: self.leaders("here") == [one, two, one, two], 30, "the leader to be back")
        for flow in (*flows, added):
            flow.wait_acknowledged(100)
        self.check(agent, *flows, added)

    def test_an_agent_that_was_there_before_its_tier(self):
        self.kill_both()
        agent = self.agent_of(topics=[{"name": "early", "partitions": 2}])
        flow = Flow(agent.address, "early")
        flow.wait_acknowledged(500)
        # With one node no topic is made that has two replicas.
        self.first.start()
        flow.wait_acknowledged(500)
        self.second.start()
        wait_for(lambda: "early" in self.admin.list_topics(timeout=10).topics, 30,
                 "the topic to be made")
        flow.wait_acknowledged(200)
        self.check(agent, flow)
        self.assertTrue(self.in_sync("early"))

    def test_what_a_topics_settings_exclude_is_refused_before_the_acknowledgement(self):
        self.start_both()
        self.make_topics(
            NewTopic("compacted", 1, 2, config={"cleanup.policy": "compact"}),
            NewTopic("young", 1, 2, config={"message.timestamp.before.max.ms": str(HOUR_MS)}),
            NewTopic("stamped", 1, 2, config={"message.timestamp.before.max.ms": str(HOUR_MS),
                                              "message.timestamp.type": "LogAppendTime"}))
        agent = self.agent_of()
        old_ms = int(time.time() * 1000) - 2 * HOUR_MS
        taken = []

        def outcome(topic, value, key=None, timestamp=0):
            """Of one record, in the words of the client's error."""
            told = []
            producer = Producer({"bootstrap.servers": agent.address, "log_level": 2})
            producer.produce(topic, str(value), key, timestamp=timestamp,
                             on_delivery=lambda error, _: told.append(error and error.name()))
            self.assertEqual(producer.flush(20), 0)
            if told[0] is None:
                taken.append((topic, value))
            return told[0]

        for topic in ("compacted", "young", "stamped"):
            self.assertIsNone(outcome(topic, 1, "key"))
        agent.wait_drained()
        for tier_is_there in (True, False):
            if not tier_is_there:
                self.kill_both()
            self.assertEqual(outcome("compacted", 2), "INVALID_RECORD")
            self.assertIsNone(outcome("compacted", 3, "key"))
            self.assertEqual(outcome("young", 2, timestamp=old_ms), "INVALID_TIMESTAMP")
            self.assertIsNone(outcome("young", 3))
            # The tier stamps it anew, so it is not too old.
            self.assertIsNone(outcome("stamped", 2, timestamp=old_ms))
        self.assertEqual(agent.metric("holdfast_agent_acknowledged_records_total"), len(taken))
        self.start_both()
        agent.wait_drained()
        for topic in ("compacted", "young", "stamped"):
            self.assertEqual(self.stored(topic, 0),
                             [value for name, value in taken if name == topic])
        self.assertEqual(json.loads(agent.get("/status"))["dead_letters"]["records"], 0)


if __name__ == "__main__":
    apache_kafka.main()
