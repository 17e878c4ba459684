#!/usr/bin/python3
"""Consumer groups of the newer protocol (KIP-848), spoken by hand, beside librdkafka's classic
consumers."""

import threading
import time
import uuid

import harness
from harness import Case, wait_for
from raw_kafka import FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER_ID, Connection, GroupMember

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic


class RunningMember(threading.Thread):
    """A member that behaves like a client: it reports often, gives up what it is told to, connects
    again, and joins again when it is fenced. `used` is what it consumes at the moment."""

    def __init__(self, addresses, group, topics, used_by):
        super().__init__(daemon=True)
        self.addresses = addresses
        self.member = GroupMember(group, str(uuid.uuid4()), topics)
        self.used_by = used_by
        self.used = set()
        self.joins = 0
        self.stopping = threading.Event()
        self.problem = None

    def run(self):
        try:
            while not self.stopping.is_set():
                try:
                    with Connection(self.addresses()) as connection:
                        self.member.say_everything()
                        while not self.stopping.is_set():
                            self.live(connection)
                            time.sleep(0.02)
                        self.use(set())
                        self.member.leave(connection)
                except OSError:
                    time.sleep(0.02)
                except EOFError:
                    pass
        except BaseException as problem:  # For the test to see.
            self.problem = problem

    def live(self, connection):
        if self.member.epoch == 0:
            self.joins += 1
        error = self.member.heartbeat(connection, self.used)
        if error in (FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER_ID):
            self.use(set())
            self.member.epoch = 0
        elif error == 0 and self.member.assigned is not None:
            self.use(self.member.assigned)

    def use(self, wanted):
        for partition in self.used - wanted:
            del self.used_by[partition]
        self.used &= wanted
        for partition in wanted - self.used:
            other = self.used_by.setdefault(partition, self.member.member_id)
            assert other == self.member.member_id, f"{partition} is used by {other} as well"
            self.used.add(partition)

    def stop(self):
        self.stopping.set()
        self.join(20)


class GroupTest(Case):
    def setUp(self):
        super().setUp()
        self.tier = self.broker().start()
        self.used_by = {}
        self.members = []

    def tearDown(self):
        for member in self.members:
            member.stop()
        super().tearDown()

    def create(self, topic, partitions):
        admin = AdminClient({"bootstrap.servers": self.tier.address})
        for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            future.result(timeout=20)

    def add_members(self, count, topics):
        added = [RunningMember(lambda: self.tier.address, "g", topics, self.used_by)
                 for _ in range(count)]
        self.members += added
        for member in added:
            member.start()
        return added

    def check(self):
        for member in self.members:
            if member.problem is not None:
                raise member.problem

    def wait_balanced(self, total):
        def balanced():
            self.check()
            counts = sorted(len(member.used) for member in self.members)
            return (sum(counts) == total and len(self.used_by) == total
                    and counts[-1] - counts[0] <= 1)

        wait_for(balanced, 20, "all partitions used, evenly")

    def test_members_go_on_through_kill_9_of_the_broker(self):
        self.create("t", 24)
        self.add_members(5, ["t"])
        self.wait_balanced(24)
        before = [set(member.used) for member in self.members]
        self.tier.kill()
        time.sleep(0.3)
        self.tier.start()
        time.sleep(1)
        self.wait_balanced(24)
        self.assertEqual([member.used for member in self.members], before)
        self.assertEqual([member.joins for member in self.members], [1] * 5)

    def test_no_partition_is_used_by_two_while_members_come_and_go_and_the_broker_is_killed(self):
        self.create("t", 12)
        self.create("u", 7)
        self.add_members(3, ["t", "u"])
        for round_number in range(6):
            self.add_members(2, ["t", "u"])
            time.sleep(0.1)
            self.tier.kill()
            self.tier.start()
            time.sleep(0.1)
            gone = self.members.pop(round_number % len(self.members))
            gone.stop()
            if gone.problem is not None:
                raise gone.problem
        self.wait_balanced(19)

    def test_a_classic_consumer_and_a_newer_member_share_a_group(self):
        self.create("t", 6)
        classic = Consumer({"bootstrap.servers": self.tier.address, "group.id": "g",
                            "session.timeout.ms": 6000, "heartbeat.interval.ms": 100})
        try:
            classic.subscribe(["t"])

            def has(count):
                classic.poll(0.05)
                self.check()
                return len(classic.assignment()) == count

            wait_for(lambda: has(6), 30, "all partitions")
            newer, = self.add_members(1, ["t"])
            wait_for(lambda: has(3) and len(newer.used) == 3, 30, "three partitions each")
            newer.stop()
            self.check()
            wait_for(lambda: has(6), 30, "all partitions again")
        finally:
            classic.close()


if __name__ == "__main__":
    harness.main()
