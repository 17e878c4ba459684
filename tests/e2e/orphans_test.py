#!/usr/bin/python3
"""Spools whose agents are gone, as those of deleted pods on a node: the node's agent finds them,
has them delivered once and in order, and removes what is empty. Under kill -9 of everybody, too.

4 cycles, or 30 with HOLDFAST_LONG=1, or HOLDFAST_CYCLES. HOLDFAST_SEED repeats a run's moments.
"""

import json
import os
import random
import signal
import subprocess
import time
import unittest
import uuid

import harness
from harness import Case, consume, produce, wait_for
from raw_kafka import Connection, batch
from tokens import unsecured

PODS_AT_ONCE = 3
RECORDS = 300


def name_of(number):
    """What Kubernetes makes of a pod's namespace, name and uid."""
    return f"ns_pod{number}_{uuid.UUID(int=number)}"


def login(user, prefix="", option="--set"):
    """Of an agent, or with -X of a client."""
    properties = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256",
                  "sasl.username": user, "sasl.password": "secret"}
    return [part for name, value in properties.items()
            for part in (option, f"{prefix}{name}={value}")]


class OrphansTest(Case):
    def setUp(self):
        super().setUp()
        self.pods = self.path("pods")
        os.mkdir(self.pods)

    def topics(self, count):
        return "agent.topics=[%s]" % ", ".join(
            f"{{name: pod{n}, partitions: 1}}" for n in range(count))

    def node(self, tier, *arguments, after="1s", remove_after="15m"):
        """The node's agent."""
        return self.agent(tier.address, "--set", "agent.upstream.backoff_max_ms=300ms", "--set",
                          f"agent.orphans={{directory: {self.pods}, after_ms: {after}, "
                          f"remove_after_ms: {remove_after}}}",
                          *arguments)

    def pod(self, tier, number, *arguments):
        """The agent of one pod, in its own directory of the node."""
        process = harness.Process("agent", self.directory, "--spool",
                                  os.path.join(self.pods, name_of(number), "spool"),
                                  "--upstream", tier.address, "--set", self.topics(number + 1),
                                  "--set", "agent.upstream.backoff_max_ms=300ms", *arguments)
        process.log_path = self.path(f"pod{number}.log")
        process.out_path = self.path(f"pod{number}.out")
        self.processes.append(process)
        return process

    def orphan(self, tier, number, records):
        """A pod that is gone with records waiting, and some on their way or at the tier."""
        pod = self.pod(tier, number, "--set", "agent.upstream.bytes_per_second_max=1").start()
        produce(pod.address, f"pod{number}", records, "-X", "batch.num.messages=10")
        pod.kill()

    def status(self, node):
        return {one["name"]: one for one in json.loads(node.get("/status"))["orphans"]}

    def drain(self, tier, *arguments):
        return subprocess.run(
            [harness.HOLDFAST, "spool", "drain", os.path.join(self.pods, name_of(0), "spool"),
             "--set", f"agent.upstream.bootstrap={tier.address}", "--set", self.topics(1),
             *arguments], capture_output=True, text=True, timeout=60, check=False)

    def names(self):
        return sorted(os.listdir(self.pods))

    def child(self, node):
        """The process that drains, or nothing."""
        tasks = f"/proc/{node.child.pid}/task"
        for task in os.listdir(tasks):
            try:
                with open(f"{tasks}/{task}/children", encoding="ascii") as file:
                    children = file.read().split()
            except OSError:
                continue
            if children:
                return int(children[0])
        return None

    def test_orphans_are_delivered_and_removed_and_all_else_is_left_alone(self):
        tier = self.broker()
        for number in range(2):
            self.orphan(tier, number, [f"{number}-{n}" for n in range(RECORDS)])
        pod = self.pod(tier, 2).start()  # This one lives.
        produce(pod.address, "pod2", ["alive"])
        os.mkdir(os.path.join(self.pods, "foreign"))
        os.makedirs(os.path.join(self.pods, "empty", "spool"))
        with open(os.path.join(self.pods, "foreign", "file"), "w", encoding="ascii"):
            pass
        os.symlink(os.path.join(self.pods, "foreign"), os.path.join(self.pods, "link"))
        elsewhere = self.path("elsewhere")
        os.mkdir(elsewhere)
        os.symlink(elsewhere, os.path.join(self.pods, "foreign", "spool"))
        tier.start()
        node = self.node(tier).start()
        wait_for(lambda: self.names() == ["empty", "foreign", "link", name_of(2)], 60,
                 "two orphans removed")
        for number in range(2):
            self.assertEqual(consume(tier.address, f"pod{number}"),
                             [f"{number}-{n}" for n in range(RECORDS)])
        self.assertEqual(consume(tier.address, "pod2"), ["alive"])
        self.assertEqual(node.metric("holdfast_orphans_removed_total"), 2)
        self.assertEqual(node.metric("holdfast_orphans_drained_records_total"), 2 * RECORDS)
        self.assertEqual(self.status(node), {})
        self.assertEqual(os.listdir(elsewhere), [])
        with open(node.log_path, encoding="utf-8") as log:
            self.assertEqual(log.read().count("left alone"), 1)
        self.assertIsNone(self.child(node), "a child is left, or a zombie")

    def test_a_pod_that_is_late_in_coming_back_still_knows_what_it_was_sent(self):
        tier = self.broker()
        pod = self.pod(tier, 0).start()
        sent = batch(2, producer_id=7, epoch=0, sequence=0)
        with Connection(pod.address) as client:
            self.assertEqual(client.produce("pod0", 0, sent), (0, 0))
        pod.kill()
        tier.start()
        node = self.node(tier).start()
        drained = "holdfast_orphans_drained_records_total"
        wait_for(lambda: node.metric(drained) == 2 and not self.child(node), 30, "a drain")
        orphan = self.status(node)[name_of(0)]
        self.assertEqual(orphan["state"], "waiting")
        self.assertIn("its agent could come back", orphan["why"])
        pod.start()
        with Connection(pod.address) as client:
            self.assertEqual(client.produce("pod0", 0, sent), (0, 0), "the answer was lost")
        pod.wait_drained()
        self.assertEqual(consume(tier.address, "pod0"), ["v", "v"])
        pod.kill()
        node.stop()
        self.node(tier, remove_after="1s").start()
        wait_for(lambda: self.names() == [], 30, "the spool to be removed")

    def test_what_was_meant_for_another_tier_is_left(self):
        tier = self.broker().start()
        other = harness.Process("broker", self.directory, "--data", self.path("other"))
        self.processes.append(other)
        self.orphan(other, 0, ["for the other"])  # Which it never saw.
        node = self.node(tier, "--set", self.topics(1)).start()
        wait_for(lambda: self.status(node).get(name_of(0), {}).get("state") == "left", 30, "a try")
        orphan = self.status(node)[name_of(0)]
        self.assertIn(f"is for the tier at {other.address}, which its agent never saw",
                      orphan["why"])
        self.assertEqual(orphan["left_records"], 1)
        node.stop()
        other.start()
        self.assertEqual(self.drain(other).stdout, "delivered 1 records\n")
        self.assertEqual(consume(other.address, "pod0"), ["for the other"])

    def test_nothing_is_delivered_by_rights_that_the_pod_did_not_have(self):
        tier = self.broker("--set", "broker.sasl={mechanisms: [SCRAM-SHA-256]}", "--set",
                           "broker.users=[{name: shop, password: secret}, "
                           "{name: node, password: secret}]").start()
        agents, clients = "agent.upstream.properties.", {"prefix": "", "option": "-X"}
        pod = self.pod(tier, 0, *login("shop", agents), "--set",
                       "agent.upstream.bytes_per_second_max=1").start()
        records = [str(n) for n in range(RECORDS)]
        produce(pod.address, "pod0", records, "-X", "batch.num.messages=10",
                *login("shop", **clients))
        pod.kill()
        before = consume(tier.address, "pod0", *login("shop", **clients))
        node = self.node(tier, *login("node", agents)).start()
        wait_for(lambda: self.status(node).get(name_of(0), {}).get("state") == "left", 30, "a try")
        self.assertIn("is to the tier SCRAM-SHA-256 shop, and this is SCRAM-SHA-256 node",
                      self.status(node)[name_of(0)]["why"])
        self.assertEqual(consume(tier.address, "pod0", *login("shop", **clients)), before)
        node.stop()
        done = self.drain(tier, *login("node", agents))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("by hand with --lend-rights", done.stderr)
        self.assertEqual(consume(tier.address, "pod0", *login("shop", **clients)), before)
        done = self.drain(tier, *login("node", agents), "--lend-rights")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(consume(tier.address, "pod0", *login("shop", **clients)), records)
        # Of what is empty nobody's rights are asked for.
        node.start()
        wait_for(lambda: self.names() == [], 30, "the spool to be removed")

    def test_whose_a_spool_is_may_be_known_only_after_its_agent_has_started(self):
        token = self.path("token")
        properties = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER",
                      "sasl.oauthbearer.token.endpoint.url": f"file://{token}"}
        login_of_pod = [part for name, value in properties.items()
                        for part in ("--set", f"agent.upstream.properties.{name}={value}")]
        login_of_pod += ["--set", "agent.access.tier_identity=agent", "--set",
                         "agent.access.rules=[{principal: 'User:ANONYMOUS', topics: ['*'], "
                         "operations: [all]}]"]
        tier = self.broker()  # Is never there: a refusal asks nobody.
        pod = self.pod(tier, 0, *login_of_pod).start()
        produce(pod.address, "pod0", ["1"])

        def refusal():
            pod.kill()
            done = self.drain(tier, *login("node", "agent.upstream.properties."), "--timeout", "1s")
            self.assertEqual(done.returncode, 1, done.stderr)
            return done.stderr

        self.assertIn("is to the tier somebody whom its token or certificate does not name",
                      refusal())
        pod.start()
        with open(token, "w", encoding="ascii") as file:
            file.write(unsecured(iss="i", sub="shop"))
        time.sleep(12)  # It looks every ten seconds.
        self.assertIn("is to the tier OAUTHBEARER 4:shop of 1:i", refusal())

    def test_what_is_left_or_set_aside_is_kept_and_told(self):
        tier = self.broker("--set", "broker.message_bytes_max=20000")
        pod = self.pod(tier, 0).start()
        produce(pod.address, "pod0", ["small", "x" * 50000], "-X", "batch.num.messages=1", "-X",
                "compression.codec=none")
        pod.kill()
        node = self.node(tier).start()
        # The tier is away: nothing is tried.
        wait_for(lambda: self.status(node).get(name_of(0), {}).get("state") == "waiting", 20,
                 "an orphan that waits")
        tier.start()
        wait_for(lambda: self.status(node)[name_of(0)]["state"] == "kept", 30, "it is kept")
        self.assertIn("1 dead letters of pod0/0", self.status(node)[name_of(0)]["why"])
        self.assertEqual(self.names(), [name_of(0)])
        self.assertEqual(consume(tier.address, "pod0"), ["small"])

    def test_what_is_given_up_is_counted_and_warned_of(self):
        tier = self.broker()
        pod = self.pod(tier, 0).start()
        for record in ("first", "a record to be damaged", "last"):
            produce(pod.address, "pod0", [record])
        pod.kill()
        harness.damage(os.path.join(self.pods, name_of(0), "spool"), b"a record to be damaged")
        tier.start()
        node = self.node(tier).start()
        wait_for(lambda: node.metric("holdfast_orphans_dropped_records_total") == 1, 30, "a drop")
        wait_for(lambda: self.status(node)[name_of(0)]["state"] == "kept", 30, "the drain's end")
        self.assertEqual(node.metric("holdfast_orphans_drained_records_total"), 2)
        with open(node.log_path, encoding="utf-8") as log:
            self.assertRegex(log.read(), r"HF4004 orphans: .*1 records dropped")

    def test_a_directory_that_cannot_be_looked_at_is_said_each_time_and_has_nothing(self):
        tier = self.broker()
        self.orphan(tier, 0, ["a record"])
        node = self.node(tier).start()
        for times in 1, 2:
            wait_for(lambda: node.metric("holdfast_orphans_spools") == 1, 20, "an orphan")
            os.rename(self.pods, self.pods + ".away")
            wait_for(lambda: node.metric("holdfast_orphans_spools") == 0, 20, "none")
            self.assertEqual(self.status(node), {})
            with open(node.log_path, encoding="utf-8") as log:
                self.assertEqual(log.read().count("cannot look for orphaned spools"), times)
            os.rename(self.pods + ".away", self.pods)

    def test_a_pod_that_is_back_gets_its_spool(self):
        tier = self.broker().start()
        pod = self.pod(tier, 0, "--set", "agent.upstream.bytes_per_second_max=1").start()
        produce(pod.address, "pod0", [str(n) for n in range(RECORDS)], "-X", "linger.ms=0", "-X",
                "batch.num.messages=1")
        pod.kill()
        node = self.node(tier, "--set", "agent.upstream.bytes_per_second_max=200").start()
        wait_for(lambda: self.child(node), 30, "a drain that takes long")
        time.sleep(0.5)
        pod.arguments = pod.arguments[:-2]
        pod.start()
        pod.wait_drained()
        self.assertEqual(consume(tier.address, "pod0"), [str(n) for n in range(RECORDS)])
        self.assertEqual(self.names(), [name_of(0)])

    def test_the_child_ends_with_the_node_agent(self):
        tier = self.broker().start()
        self.orphan_with_much(tier)
        node = self.node(tier, "--set", "agent.upstream.bytes_per_second_max=200").start()
        child = wait_for(lambda: self.child(node), 30, "a drain that takes long")
        self.assertEqual(node.stop(), 0)
        self.assertFalse(os.path.exists(f"/proc/{child}"))
        node.start()
        child = wait_for(lambda: self.child(node), 30, "another one")
        node.kill()
        wait_for(lambda: not running(child), 10, "the child to end with its parent")

    def orphan_with_much(self, tier):
        pod = self.pod(tier, 0, "--set", "agent.upstream.bytes_per_second_max=1").start()
        produce(pod.address, "pod0", ["x" * 500] * RECORDS, "-X", "batch.num.messages=1")
        pod.kill()

    def test_every_record_of_every_pod_arrives_once_and_in_order_through_kill_9(self):
        cycles = int(os.environ.get("HOLDFAST_CYCLES", "30" if harness.LONG else "4"))
        seed = int(os.environ.get("HOLDFAST_SEED", "1"))
        moments = random.Random(seed)
        print(f"\n{cycles} cycles, HOLDFAST_SEED={seed}", flush=True)
        tier = self.broker().start()
        node = self.node(tier, "--set", "agent.upstream.bytes_per_second_max=20000", "--set",
                         self.topics(cycles * PODS_AT_ONCE), after="200ms").start()
        kills = {"node": 0, "child": 0, "tier": 0}
        expected = {}
        for _ in range(cycles):
            for _ in range(PODS_AT_ONCE):
                number = len(expected)
                expected[number] = [f"{n} {'.' * (n % 200)}" for n in range(RECORDS)]
                self.orphan(tier, number, expected[number])
            for _ in range(3):
                time.sleep(moments.uniform(0, 0.6))
                victim = moments.choice(("node", "child", "child", "tier"))
                kills[victim] += self.kill_one(victim, node, tier)
        wait_for(lambda: self.names() == [], 180, "no orphans")
        for number, records in expected.items():
            self.assertEqual(consume(tier.address, f"pod{number}"), records, f"pod {number}")
        print(f"{len(expected)} orphans with {len(expected) * RECORDS} records; killed {kills}",
              flush=True)
        self.assertGreater(kills["child"], 0)

    def kill_one(self, victim, node, tier):
        if victim == "child":
            child = wait_for(lambda: self.child(node) or not self.names() and -1, 20, "a drain")
            if child < 0:
                return 0
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                return 0
            return 1
        process = node if victim == "node" else tier
        process.kill()
        process.start()
        return 1


def running(pid):
    """Whether it runs: one that is dead and nobody's to wait for does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() not in ("", "Z")


if __name__ == "__main__":
    harness.main()
