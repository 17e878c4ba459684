#!/usr/bin/python3
"""What an agent goes through as a part of a pod: ready or not, ended with records waiting, killed
under a client that stays, and gone for good with its spool left behind."""

import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
import unittest
import urllib.error

import harness
from harness import Case, consume, produce, wait_for
from raw_kafka import Connection

TOPIC = "agent.topics=[{name: orders, partitions: 2}]"
SOON = ("--set", TOPIC, "--set", "agent.upstream.backoff_max_ms=300ms")
LEFT = re.compile(r"(\d[\d,]*) records? \(\S+ \S+\) of (\d+) partitions?")


def ready(agent):
    """The status of /ready, and what it says."""
    try:
        return 200, agent.get("/ready")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def lines(agent, text):
    return [line for line in agent.log().splitlines() if text in line]


def catches_a_stop(pid):
    """Whether the process survives a SIGTERM or SIGINT that comes now."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        caught = int(re.search(r"^SigCgt:\s*(\S+)", status.read(), re.M).group(1), 16)
    return caught & sum(1 << (number - 1) for number in (signal.SIGTERM, signal.SIGINT))


class PodLifeTest(Case):
    def away(self, *arguments):
        """An agent whose tier is not there, with SOON and a record of each partition waiting."""
        tier = self.broker()
        agent = self.agent(tier.address, *SOON, *arguments).start()
        for partition in ("0", "1"):
            produce(agent.address, "orders", [partition], "-p", partition)
        return tier, agent

    def test_ready_says_nothing_of_the_tier(self):
        tier, agent = self.away()
        wait_for(lambda: json.loads(agent.get("/status"))["tier"]["away"], what="a tier away")
        self.assertEqual(ready(agent), (200, "ready\n"))
        tier.start()
        agent.wait_drained()
        tier.kill()
        wait_for(lambda: json.loads(agent.get("/status"))["tier"]["away"], what="a tier away again")
        self.assertEqual(ready(agent), (200, "ready\n"))

    def fill(self, agent):
        """Produces until the spool takes no more; what is refused, the client gives up soon."""
        def full():
            harness.kcat("-P", "-b", agent.address, "-t", "orders", "-p", "0", "-X",
                         "message.timeout.ms=1000", data=("x" * 900 + "\n") * 1000, check=False)
            return ready(agent)[0] == 503

        wait_for(full, 60, "a spool that takes nothing")
        self.assertIn("the spool takes nothing: ", ready(agent)[1])
        return ready(agent)[1]

    def test_not_ready_while_the_spool_is_full_and_ready_again_after(self):
        tier, agent = self.away("--set", "agent.spool.bytes_max=4MiB")
        self.assertIn("the spool is full", self.fill(agent))
        tier.start()
        wait_for(lambda: ready(agent)[0] == 200, 30, "room")

    def test_not_ready_while_the_disk_is_full(self):
        agent = self.agent(self.broker().start().address, *SOON, "--set",
                           f"agent.spool.free_bytes_min={1 << 60}").start()
        self.assertIn("the file system is nearly full", self.fill(agent))

    def test_a_drain_says_what_is_left_and_where_while_it_lasts(self):
        tier, agent = self.away("--set", "agent.drain_backlog_ms=60s")
        agent.child.send_signal(signal.SIGTERM)
        wait_for(lambda: ready(agent) == (503, "draining\n"), what="not ready")
        wait_for(lambda: len(lines(agent, "to go; in")) >= 2, 20, "two lines about what is left")
        told = lines(agent, " agent: draining")
        self.assertIn("the tier gets 60.0 s to take what waits", told[0])
        for line in told:
            self.assertEqual(LEFT.search(line).groups(), ("2", "2"), line)
            self.assertIn(self.path("agent"), line)
        # Prometheus sees it as long as it lasts.
        self.assertEqual(agent.metric("holdfast_agent_draining"), 1)
        self.assertEqual(agent.metric("holdfast_agent_backlog_records"), 2)
        status = json.loads(agent.get("/status"))
        self.assertEqual((status["draining"], status["delivery"]["backlog_records"]), (True, 2))
        # SIGKILL, as at the end of a pod's grace period, leaves the lines.
        agent.kill()
        self.assertEqual(LEFT.search(lines(agent, " agent: draining")[-1]).groups(), ("2", "2"))
        tier.start()
        agent.start()
        agent.wait_drained()
        self.assertEqual(consume(tier.address, "orders", "-p", "1"), ["1"])

    def test_a_drain_ends_once_all_is_delivered_or_its_time_is_over_and_exits_with_0(self):
        tier, agent = self.away("--set", "agent.drain_backlog_ms=1s")
        self.assertEqual(agent.stop(), 0)
        left = lines(agent, "until the next start")
        self.assertEqual(LEFT.search(left[-1]).groups(), ("2", "2"))
        self.assertIn(self.path("agent"), left[-1])
        agent.arguments += ("--set", "agent.drain_backlog_ms=60s")
        agent.start()
        agent.child.send_signal(signal.SIGTERM)
        wait_for(lambda: ready(agent)[0] == 503, what="draining")
        began = time.monotonic()
        tier.start()
        self.assertEqual(agent.child.wait(30), 0)
        agent.child = None
        self.assertLess(time.monotonic() - began, 20)
        self.assertIn("nothing is left to deliver", agent.log())
        self.assertEqual(consume(tier.address, "orders", "-p", "0"), ["0"])

    def test_the_signal_behind_a_requested_drain_does_not_cut_it_short(self):
        """Kubernetes sends SIGTERM as soon as a preStop hook has returned."""
        tier, agent = self.away()
        self.assertEqual(agent.post("/drain?deadline=60s")[0], 202)
        wait_for(lambda: ready(agent)[0] == 503, what="draining")
        self.assertEqual(agent.post("/drain?deadline=1ms"),
                         (202, "draining already, for as long as was said first\n"))
        agent.child.send_signal(signal.SIGTERM)
        wait_for(lambda: len(lines(agent, "to go; in")) >= 2, 20, "two lines about what is left")
        tier.start()
        self.assertEqual(agent.child.wait(30), 0)
        agent.child = None
        self.assertIn("nothing is left to deliver", agent.log())
        self.assertEqual(consume(tier.address, "orders", "-p", "0"), ["0"])

    def test_a_drain_that_is_requested_ends_at_once_by_a_second_signal(self):
        _, agent = self.away()
        agent.post("/drain?deadline=60s")
        wait_for(lambda: ready(agent)[0] == 503, what="draining")
        agent.child.send_signal(signal.SIGINT)
        wait_for(lambda: not catches_a_stop(agent.child.pid), what="the first signal to be taken")
        agent.child.send_signal(signal.SIGTERM)
        self.assertEqual(agent.child.wait(10), -signal.SIGTERM)
        agent.child = None

    def test_a_request_to_drain_does_not_cut_a_drain_by_signal_short(self):
        tier, agent = self.away("--set", "agent.drain_backlog_ms=60s")
        agent.child.send_signal(signal.SIGTERM)
        wait_for(lambda: ready(agent)[0] == 503, what="draining")
        self.assertEqual(agent.post("/drain?deadline=1ms")[0], 202)
        tier.start()
        self.assertEqual(agent.child.wait(30), 0)
        agent.child = None
        self.assertIn("nothing is left to deliver", agent.log())

    def test_a_drain_waits_for_no_connection_that_is_half_open(self):
        """The app's containers are gone when the agent is told to stop; their connections may not
        be: idle, or in the middle of a request."""
        _, agent = self.away("--set", "agent.drain_timeout_ms=60s")
        with Connection(agent.address) as idle, Connection(agent.address) as cut_off:
            idle.init_producer_id()
            cut_off.socket.sendall(b"\0\0\1\0half a request")
            began = time.monotonic()
            self.assertEqual(agent.stop(30), 0)
            self.assertLess(time.monotonic() - began, 20)

    def test_killed_under_a_client_that_keeps_its_connection_it_binds_again(self):
        _, agent = self.away()
        address = agent.address
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as client:
            wait_for(lambda: agent.metric("holdfast_net_connections") >= 1, what="the connection")
            agent.kill()
            agent.start()
            self.assertEqual(agent.address, address)
            self.assertEqual(client.recv(1), b"", "the old process is gone")
            produce(address, "orders", ["again"], "-p", "0")


class SpoolDrainTest(Case):
    """`holdfast spool drain`: the spool of an agent that is gone."""

    def left_behind(self, tier, records=2000, *arguments):
        """An agent that was killed with records waiting. The tier is away, and was seen before."""
        agent = self.agent(tier.address, *SOON, *arguments)
        tier.start()
        agent.start()
        produce(agent.address, "orders", ["first"], "-p", "0")
        agent.wait_written()
        tier.kill()
        produce(agent.address, "orders", [str(n) for n in range(records)], "-p", "0")
        agent.kill()
        return agent

    def command(self, tier, *arguments):
        with open(self.path("holdfast.yaml"), "w", encoding="utf-8") as file:
            json.dump({"agent": {"upstream": {"bootstrap": [tier.address],
                                              "backoff_max_ms": "300ms"}}}, file)
        return [harness.HOLDFAST, "spool", "drain", self.path("agent"), "--config",
                self.path("holdfast.yaml"), *arguments]

    def drain(self, tier, *arguments):
        return subprocess.run(self.command(tier, *arguments), capture_output=True, text=True,
                              timeout=120, check=False)

    def test_delivers_all_once_and_in_order_and_removes_the_spool_if_told_to(self):
        tier = self.broker()
        self.left_behind(tier)
        tier.start()
        done = self.drain(tier)
        self.assertEqual((done.returncode, done.stdout), (0, "delivered 2,000 records\n"),
                         done.stderr)
        done = self.drain(tier, "--remove", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual((report["done"], report["removed"], report["left_records"]),
                         (True, True, 0), report)
        self.assertFalse(os.path.exists(self.path("agent")))
        self.assertEqual(consume(tier.address, "orders", "-p", "0"),
                         ["first", *(str(n) for n in range(2000))])

    def test_says_what_is_left_and_why_and_the_agent_goes_on_with_it(self):
        tier = self.broker()
        agent = self.left_behind(tier, 100)
        for wrong in ("9223372036854775807", "200000d", "0", "soon"):
            done = self.drain(tier, "--timeout", wrong)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("must be a duration of at most 7d, such as 10m", done.stderr)
        done = self.drain(tier, "--timeout", "1s", "--remove")
        self.assertEqual(done.returncode, 1)
        self.assertIn("delivered 0 records; 100 (", done.stdout)
        self.assertIn("the time is over: no broker of the tier answers", done.stderr)
        tier.start()
        agent.start()
        agent.wait_drained()
        self.assertEqual(consume(tier.address, "orders", "-p", "0"),
                         ["first", *(str(n) for n in range(100))])

    def test_refuses_another_cluster_and_keeps_its_own_in_mind(self):
        tier = self.broker()
        self.left_behind(tier, 100, "--set", "agent.topic_rules=[{topic: '*', ttl_ms: 1d}]")
        other = harness.Process("broker", self.directory, "--data", self.path("other"))
        self.processes.append(other.start())
        for _ in range(2):
            done = self.drain(other, "--timeout", "20s", "--remove", "--set",
                              "agent.topic_rules=[{topic: '*', ttl_ms: 1}]")
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("of another cluster than the tier", done.stderr)
        tier.start()
        done = self.drain(tier)
        self.assertEqual((done.returncode, done.stdout), (0, "delivered 100 records\n"),
                         done.stderr)

    def test_a_spool_in_use_is_left_alone(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *SOON).start()
        done = self.drain(tier)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"the process with pid {agent.child.pid} uses this spool", done.stderr)
        done = subprocess.run([*self.command(tier)[:3], self.path("nothing"), "--set",
                               f"agent.upstream.bootstrap={tier.address}"],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no such directory", done.stderr.lower())
        self.assertFalse(os.path.exists(self.path("nothing")))

    def test_dead_letters_are_kept_with_the_spool(self):
        tier = self.broker("--set", "broker.message_bytes_max=20000")
        agent = self.agent(tier.address, *SOON)
        agent.start()
        produce(agent.address, "orders", ["small", "x" * 50000, "last"], "-p", "0", "-X",
                "batch.num.messages=1", "-X", "compression.codec=none")
        agent.kill()
        tier.start()
        done = self.drain(tier, "--remove", "--json")
        report = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual((done.returncode, report["dead_letter_records"], report["removed"]),
                         (0, 1, False), done.stdout + done.stderr)
        self.assertIn("1 dead letters of orders/0 are set aside in it", report["kept"])
        self.assertEqual(consume(tier.address, "orders", "-p", "0"), ["small", "last"])

    def test_records_of_a_partition_whose_name_is_lost_are_left_and_said(self):
        tier = self.broker()
        agent = self.left_behind(tier, 1, "--set", "agent.topics=[{name: orders, partitions: 2}, "
                                                   "{name: notes, partitions: 1}]")
        agent.start()
        for value in ("note one", "note two", "note three"):
            produce(agent.address, "notes", [value], "-p", "0")
        agent.kill()
        for needle in (b"note one", b"note two"):
            harness.damage(self.path("agent"), needle)
        tier.start()
        done = self.drain(tier, "--remove")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("partition without a name (HF2110)", done.stdout + done.stderr)
        self.assertTrue(os.path.exists(self.path("agent")))
        self.assertEqual(consume(tier.address, "orders", "-p", "0"), ["first", "0"])

    def test_the_spools_own_agent_gets_it_at_once(self):
        tier = self.broker()
        agent = self.left_behind(tier, 100)
        with subprocess.Popen(self.command(tier), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as drain:
            wait_for(lambda: self.owner() == drain.pid, what="the drain to own the spool")
            agent.start()
            _, told = drain.communicate(timeout=20)
            self.assertEqual(drain.returncode, 1)
            self.assertIn("the spool's own agent is there", told)
        tier.start()
        agent.wait_drained()
        self.assertEqual(consume(tier.address, "orders", "-p", "0"),
                         ["first", *(str(n) for n in range(100))])

    def test_a_spool_that_its_agent_waits_for_is_not_removed(self):
        tier = self.broker()
        self.left_behind(tier, 100)
        tier.start()
        self.assertEqual(self.drain(tier).returncode, 0)
        with subprocess.Popen(self.command(tier, "--remove", "--json"), stdout=subprocess.PIPE,
                              text=True) as drain:
            with open(self.path("agent/LOCK"), "r+b", buffering=0) as lock:
                while lock.read() != b"%d\n" % drain.pid:
                    lock.seek(0)
                # As an agent that waits: all but the first byte.
                fcntl.fcntl(lock, fcntl.F_OFD_SETLK,
                            struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 1, 0, 0))
                report = json.loads(drain.communicate(timeout=20)[0].splitlines()[-1])
        self.assertEqual((report["removed"], report["wanted"]), (False, True), report)
        self.assertTrue(os.path.exists(self.path("agent/HOLDFAST")))
        self.assertTrue(json.loads(self.drain(tier, "--remove", "--json").stdout)["removed"])

    def owner(self):
        shown = subprocess.run([harness.HOLDFAST, "spool", "status", "--json", self.path("agent")],
                               capture_output=True, check=True)
        return json.loads(shown.stdout)["owner_pid"]


if __name__ == "__main__":
    harness.main()
