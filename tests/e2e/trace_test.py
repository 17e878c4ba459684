#!/usr/bin/python3
"""`holdfast trace`: what happened to a record, in each of the ways in which it can go."""

import contextlib
import http.server
import json
import os
import shutil
import sqlite3
import subprocess
import threading
import time
import unittest

import harness
from harness import Case, wait_for

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource

NOWHERE = "127.0.0.1:1"
TOPICS = "agent.topics=[{name: orders, partitions: 2}, {name: notes, partitions: 1}]"
SOON = ("--set", "agent.upstream.backoff_max_ms=500ms")


def run(*arguments, code=0):
    done = subprocess.run([harness.HOLDFAST, "trace", *arguments], text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=60)
    if done.returncode != code:
        raise AssertionError(f"trace {' '.join(arguments)}: exit {done.returncode}, not {code}\n"
                             f"{done.stdout}\n{done.stderr}")
    return done


class TraceTest(Case):
    def setUp(self):
        super().setUp()
        self.spool = self.path("agent")

    def agent(self, upstream=NOWHERE, *arguments):
        return super().agent(upstream, "--set", TOPICS, *SOON, *arguments)

    def send(self, agent, values, topic="orders", **properties):
        """Each a batch of its own, with its value as key."""
        failed = []
        producer = Producer({"bootstrap.servers": agent.address, "linger.ms": 0,
                             "enable.idempotence": True,
                             **{key.replace("_", "."): value for key, value in properties.items()}})
        for value in values:
            producer.produce(topic, value, key=f"key-{value}", partition=0,
                             headers=[("kind", b"test")],
                             on_delivery=lambda error, _: failed.append(error) if error else None)
            producer.flush(20)
        self.assertEqual(failed, [])

    def limit(self, tier, size):
        """A limit of the topic that the agent has not heard of yet."""
        admin = AdminClient({"bootstrap.servers": tier.address})
        change = ConfigResource(ConfigResource.Type.TOPIC, "orders",
                                {"max.message.bytes": str(size)})
        admin.alter_configs([change])[change].result(20)

    def trace(self, *arguments, topic="orders", code=0):
        done = run(topic, "0", self.spool, "--json", *arguments, code=code)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def one(self, *arguments, **options):
        traces = self.trace(*arguments, **options)
        self.assertEqual(len(traces), 1, traces)
        return traces[0]

    def test_a_record_that_waits_and_is_delivered(self):
        tier = self.broker().start()
        harness.produce(tier.address, "orders", ["theirs"], "-p", "0")
        tier.stop()
        agent = self.agent(tier.address).start()
        begun_ms = time.time() * 1000
        self.send(agent, ["a", "b", "c"])
        waits = self.one("--offset", "1")
        self.assertEqual((waits["fate"], waits["ahead"], waits["end"]), ("waits", 1, 3))
        accepted = waits["accepted"]
        self.assertLess(abs(accepted["time_ms"] - begun_ms), 10_000)
        self.assertEqual((accepted["batch"]["records"], accepted["batch"]["base_offset"]), (1, 1))
        self.assertEqual(accepted["batch"]["base_sequence"], 1)
        self.assertGreater(accepted["batch"]["producer_id"], 0)
        self.assertEqual((accepted["record"]["key"], accepted["record"]["value_bytes"],
                          accepted["record"]["headers"]), ("key-b", 1, 1))
        self.assertIn("Safe on this disk", run("orders", "0", self.spool, "--offset", "1").stdout)
        tier.start()
        agent.wait_written()
        for offset in range(3):
            done = self.one("--offset", str(offset))
            self.assertEqual(done["fate"], "delivered")
        self.assertEqual(done["tier_offsets"], {"first": 3, "last": 3})
        self.assertGreaterEqual(done["passed"]["time_ms"], done["accepted"]["time_ms"])
        # How, the spool says a minute later, the agent at once.
        told = json.loads(run("orders", "0", "--admin", agent.admin, "--offset", "2",
                              "--json").stdout)
        self.assertEqual((told["delivery"]["proof"], told["delivery"]["end"]), ("answer", 3))
        self.assertGreaterEqual(told["delivery"]["sent_ms"], done["accepted"]["time_ms"])
        self.assertGreaterEqual(told["delivery"]["confirmed_ms"], told["delivery"]["sent_ms"])
        text = run("orders", "0", "--admin", agent.admin, "--tier-offset", "3").stdout
        self.assertIn("orders/0 offset 2\n", text)
        self.assertIn("Delivered. The tier has it at offset 3 of orders/0", text)
        agent.stop()
        self.assertEqual(self.one("--offset", "2")["fate"], "delivered")

    def test_an_agent_that_does_not_tell_its_deliveries(self):
        """One of before: its spool is shown, and what is missing is said."""
        agent = self.agent().start()
        self.send(agent, ["a"])
        overview = json.dumps({"role": "agent", "disk": {"directory": self.spool}}).encode()

        class OlderAgent(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                known = self.path.startswith("/overview")
                self.send_response(200 if known else 404)
                self.end_headers()
                self.wfile.write(overview if known else b"")

            def log_message(self, *_):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), OlderAgent) as older:
            threading.Thread(target=older.serve_forever, daemon=True).start()
            done = run("orders", "0", "--admin", f"127.0.0.1:{older.server_address[1]}",
                       "--offset", "0")
            older.shutdown()
        self.assertIn("Safe on this disk", done.stdout)
        self.assertRegex(done.stderr, "delivered in the last minute is left out: .*404")

    def test_how_it_was_delivered_is_remembered_when_its_segment_is_gone(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, "--set", "agent.spool.segment_bytes=1MiB").start()
        self.send(agent, ["a", "b"])
        agent.wait_drained()
        agent.stop()  # Which closes the journal.
        done = self.one("--offset", "1")
        self.assertEqual((done["delivery"]["proof"], done["delivery"]["failed_attempts"]),
                         ("answer", 0))
        self.assertGreaterEqual(done["delivery"]["last_confirmed_ms"],
                                done["accepted"]["time_ms"])
        self.assertEqual(done["tier_offsets"], {"first": 1, "last": 1})
        agent.start()
        for value in range(4):
            harness.kcat("-P", "-b", agent.address, "-t", "notes",
                         data="".join(f"{value} {'x' * 1000}\n" for _ in range(800)))
            agent.wait_drained()
        later = wait_for(lambda: [one for one in self.trace("--offset", "1")
                                  if one["accepted"] is None], 20, "a segment to be retired")[0]
        self.assertEqual((later["fate"], later["tier_offsets"]),
                         ("delivered", {"first": 1, "last": 1}))
        self.assertEqual(later["delivery"]["last_confirmed_ms"],
                         done["delivery"]["last_confirmed_ms"])
        self.assertIn("its segment is gone", run("orders", "0", self.spool, "--offset", "1").stdout)
        self.assertEqual(self.one("--tier-offset", "0")["offset"], 0)
        # The commit that wrote it down is gone, too: the next one of its stream is a bound.
        self.assertFalse(done["passed"]["at_latest"])
        self.send(agent, ["c"])
        agent.wait_written()
        self.assertTrue(self.one("--offset", "1")["passed"]["at_latest"])

    def test_what_the_tier_had_when_it_was_asked_says_so(self):
        tier = self.broker().start()
        harness.produce(tier.address, "orders", ["theirs"] * 2, "-p", "0")
        agent = self.agent(tier.address).start()
        self.send(agent, ["first"])
        agent.wait_written()
        tier.kill()
        self.send(agent, ["second", "third"])
        agent.kill()
        shutil.copytree(self.spool, self.path("copy"))
        tier.start()
        agent.start()
        wait_for(lambda: len(harness.consume(tier.address, "orders", "-p", "0")) == 5, 20,
                 "delivery")
        agent.kill()
        # As if it had died before a cursor was written.
        shutil.rmtree(self.spool)
        os.rename(self.path("copy"), self.spool)
        agent.start()
        agent.wait_drained()
        done = wait_for(lambda: [one for one in self.trace("--offset", "2") if "delivery" in one],
                        20, "the journal")[0]
        self.assertEqual(done["delivery"]["proof"], "recognised")
        self.assertEqual(self.one("--offset", "1")["delivery"]["begin"], 1)
        self.assertEqual(len(harness.consume(tier.address, "orders", "-p", "0")), 5)

    def test_a_record_that_is_held_says_why(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, "--set", "agent.dead_letters.policy=park").start()
        self.send(agent, ["first"])
        agent.wait_drained()
        self.limit(tier, 400)
        tier.stop()  # Before the agent hears of it.
        self.send(agent, ["." * 500])
        tier.start()
        held = wait_for(lambda: [one for one in self.trace("--offset", "1") if "trouble" in one],
                        20, "the stream to be held")[0]
        self.assertTrue(held["trouble"]["parked"])
        self.assertIn("MESSAGE_TOO_LARGE", held["verdict"])
        self.limit(tier, 4000)
        wait_for(lambda: agent.post("/resume")[0] == 202, what="the status to know of it")
        agent.wait_drained()
        done = wait_for(lambda: [one for one in self.trace("--offset", "1") if "delivery" in one],
                        20, "the journal")[0]
        self.assertEqual((done["delivery"]["failed_attempts"], done["delivery"]["first_error"]),
                         (1, "MESSAGE_TOO_LARGE"))
        self.assertNotIn("trouble", done)

    def test_records_are_found_by_key_and_time(self):
        agent = self.agent().start()
        # In one batch: it waits for the end of the input.
        harness.kcat("-P", "-b", agent.address, "-t", "orders", "-p", "0", "-K", ":", "-z", "zstd",
                     "-X", "linger.ms=10000",
                     data="".join(f"key{i % 10}:value {i}\n" for i in range(30)))
        self.send(agent, ["x"])
        found = self.trace("--key", "key7")
        self.assertEqual([one["offset"] for one in found], [7, 17, 27])
        self.assertEqual(found[0]["accepted"]["batch"]["compression"], "zstd")
        self.assertEqual(self.one("--key", "key-x")["offset"], 30)
        at = found[0]["accepted"]["time_ms"]
        self.assertEqual(len(self.trace("--time", f"{at}..{at + 1}", "--limit", "5")), 5)
        self.assertEqual(len(self.trace("--time", str(at), "--limit", "50")), 31)
        later = self.one("--time", f"{at + 1}..{at + 60000}")
        self.assertEqual(later["offset"], 30)
        iso = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at / 1000 - 1))
        self.assertEqual(len(self.trace("--time", iso, "--key", "key7")), 3)
        text = run("orders", "0", self.spool, "--key", "key7", "--limit", "2")
        self.assertRegex(text.stdout, r"(?m)^offset 7 +\S+Z +waits +key7$")
        self.assertIn("--limit", text.stderr)

    def test_a_dead_letter_says_where_it_is_and_why(self):
        tier = self.broker().start()
        agent = self.agent(tier.address).start()
        self.send(agent, ["first"])
        agent.wait_drained()
        self.limit(tier, 400)
        tier.stop()
        self.send(agent, ["second", "." * 500, "third"])
        tier.start()
        agent.wait_written()
        dead = self.one("--offset", "2")
        self.assertEqual(dead["fate"], "dead letter")
        letter = dead["dead_letter"]
        self.assertEqual((letter["stream"], letter["offset"], letter["there"], letter["error"]),
                         ("orders/0/dead-letters", 0, True, "MESSAGE_TOO_LARGE"))
        self.assertEqual([self.one("--offset", n)["fate"] for n in "013"], ["delivered"] * 3)
        text = run("orders", "0", self.spool, "--offset", "2").stdout
        self.assertIn("set aside    to orders/0/dead-letters offset 0", text)
        self.assertIn("holdfast dlq replay", text)
        agent.post("/dead-letters/replay?stream=orders/0")
        wait_for(lambda: not self.one("--offset", "2")["dead_letter"]["there"], 20, "a replay")

    def test_what_is_given_up_says_by_which_rule(self):
        agent = self.agent(NOWHERE, "--set",
                           "agent.topic_rules=[{topic: notes, ttl_ms: 300}]").start()
        self.send(agent, ["old"], topic="notes")
        wait_for(lambda: agent.metric("holdfast_agent_dropped_records_total") == 1, 20, "a drop")
        dropped = wait_for(lambda: [one for one in self.trace("--offset", "0", topic="notes")
                                    if one["fate"] == "dropped"], 20, "the drop on disk")[0]
        self.assertEqual(dropped["drop"]["cause"], "expired")
        self.assertIn("ttl_ms", dropped["verdict"])
        self.send(agent, ["1", "2"])
        agent.stop()
        subprocess.run([harness.HOLDFAST, "spool", "drop", self.spool, "orders/0", "--yes"],
                       check=True, capture_output=True)
        self.assertEqual(self.one("--offset", "1")["fate"], "thrown away")

    def test_a_local_transaction_is_named_with_its_other_streams(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, "--set",
                           "agent.transactions=[{pattern: t-*, mode: local}]").start()
        producer = harness.transactional(agent.address, "t-1")
        tier.stop()
        producer.begin_transaction()
        producer.produce("orders", "a", partition=0)
        producer.produce("notes", "b", partition=0)
        producer.commit_transaction(20)
        waits = self.one("--offset", "0")
        self.assertEqual(waits["fate"], "waits")
        self.assertEqual({one["stream"] for one in waits["accepted"]["transaction"]["ranges"]},
                         {"orders/0", "notes/0"})
        tier.start()
        agent.wait_written()
        self.assertEqual(self.one("--offset", "0")["fate"], "delivered")
        self.assertIn("local transaction",
                      run("notes", "0", self.spool, "--offset", "0").stdout)

    def test_an_event_of_an_outbox_names_its_source(self):
        with contextlib.closing(sqlite3.connect(self.path("shop.db"))) as database:
            database.executescript(subprocess.run(
                [harness.HOLDFAST, "outbox", "sql", "--dialect", "sqlite"], check=True, text=True,
                capture_output=True).stdout)
            database.execute("INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) "
                             "VALUES ('e1', 'any', 'key', 'Changed', 'x')")
            database.commit()
        agent = self.agent(NOWHERE, "--set", "agent.outbox=[{name: shop, topic: orders, sqlite: "
                           f"{{file: {self.path('shop.db')}}}}}]").start()
        self.send(agent, ["of a client"], topic="notes")
        event = wait_for(lambda: [stream for stream in ("0", "1") if subprocess.run(
            [harness.HOLDFAST, "trace", "orders", stream, self.spool, "--offset", "0"],
            capture_output=True).returncode == 0], 20, "the event")[0]
        done = json.loads(run("orders", event, self.spool, "--offset", "0", "--json").stdout)
        self.assertEqual(done["accepted"]["outboxes"], ["shop"])
        self.assertIn("rows of outbox shop", run("orders", event, self.spool, "--offset",
                                                 "0").stdout)
        self.assertNotIn("outboxes", self.one("--offset", "0", topic="notes")["accepted"])

    def test_mistakes_are_named(self):
        tier = self.broker().start()
        agent = self.agent().start()
        self.send(agent, ["a"])
        for arguments, code, message in (
                (["orders"], 2, "PARTITION"),
                (["orders", "0", self.spool], 2, "which record"),
                (["orders", "0", "--offset", "0"], 2, "which spool"),
                (["orders", "0", self.spool, "--offset", "0", "--key", "a"], 2, "excludes"),
                (["orders", "0", self.spool, "--time", "noon"], 2, "must be a time"),
                (["order", "0", self.spool, "--offset", "0"], 1, 'did you mean "orders/0"'),
                (["orders", "0", self.spool, "--offset", "1"], 1, "not there yet"),
                (["orders", "0", self.spool, "--key", "b"], 1, "no such record"),
                (["orders", "0", self.spool, "--tier-offset", "7"], 1, "does not know"),
                (["orders", "0", self.path("nothing"), "--offset", "0"], 1, "no such directory"),
                (["orders", "0", "--admin", tier.admin, "--offset", "0"], 2, "not the admin"),
        ):
            self.assertIn(message, run(*arguments, code=code).stderr, arguments)


if __name__ == "__main__":
    harness.main()
