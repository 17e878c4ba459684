#!/usr/bin/python3
"""The outbox through the built binary: events that services leave in SQLite, and half messages."""

import http.server
import json
import os
import sqlite3
import subprocess
import threading
import unittest

import harness
import postgres
import psycopg2
from harness import Case, records, wait_for

from confluent_kafka import Producer

SOON = ("--set", "agent.upstream.backoff_max_ms=500ms")
TABLES = """
PRAGMA journal_mode=WAL;
CREATE TABLE IF NOT EXISTS outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, aggregatetype TEXT NOT NULL,
  aggregateid TEXT, type TEXT, payload BLOB);
CREATE TABLE IF NOT EXISTS outbox_quarantine (
  seq INTEGER, id TEXT, aggregatetype TEXT, aggregateid TEXT, type TEXT, payload BLOB,
  reason TEXT, quarantined_at TEXT);
"""


def doctor(config):
    done = subprocess.run([harness.HOLDFAST, "doctor", "--only", "databases", *config],
                          capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout


class OutboxCase(Case):
    def config(self, **agent):
        """JSON is YAML, too."""
        settings = {"topics": [{"name": "outbox.event.Account", "partitions": 3}]}
        settings.update(agent)
        with open(self.path("holdfast.yaml"), "w", encoding="utf-8") as file:
            json.dump({"agent": settings}, file)
        return ("--config", self.path("holdfast.yaml"), *SOON)

    def sqlite(self, **source):
        return self.config(outbox=[{"name": "accounts", "sqlite": {"file": self.path("service.db")},
                                    **source}])

    def database(self):
        database = sqlite3.connect(self.path("service.db"), isolation_level=None, timeout=30,
                                   check_same_thread=False)
        database.executescript(TABLES)
        return database

    @staticmethod
    def insert(database, event, key, payload=b"{}", kind="Account"):
        database.execute("INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) "
                         "VALUES (?, ?, ?, 'Changed', ?)", (event, kind, key, payload))

    def expect_one_stuck(self, agent, rows, reason):
        wait_for(lambda: rows() == 1, what="all but one row to go")

        def source():
            return json.loads(agent.get("/outbox"))["sources"][0]

        wait_for(lambda: source()["stuck_rows"] == 1, what="a row that is stuck")
        self.assertIn(reason, source()["stuck_reason"])
        self.assertEqual((source()["connected"], source()["trouble"]), (True, ""))
        self.assertIn("HF6007", agent.log())
        agent.wait_drained()
        self.assertEqual(len(records(agent.address, "outbox.event.Account")), 1)
        self.assertEqual(rows(), 1)

    @staticmethod
    def left(database):
        return database.execute("SELECT count(*) FROM outbox").fetchone()[0]


class ConfigurationTest(OutboxCase):
    def refused(self, **agent):
        self.config(**agent)
        done = subprocess.run([harness.HOLDFAST, "validate", self.path("holdfast.yaml")],
                              capture_output=True, text=True, check=False, timeout=30)
        self.assertEqual(done.returncode, 2, done.stderr)
        return done.stderr

    def test_what_the_schema_cannot_say_is_said_before_anything_starts(self):
        file = {"sqlite": {"file": "service.db"}}
        self.assertIn("two sources have this name",
                      self.refused(outbox=[{"name": "a", **file}, {"name": "a", **file}]))
        self.assertIn("set one of postgres, sqlite and lmdb", self.refused(outbox=[{"name": "a"}]))
        self.assertIn("`${` without a name",
                      self.refused(outbox=[{"name": "a", "topic": "x.${", **file}]))
        postgres = {"postgres": {"connection": "host=db"}}
        for source in (file, postgres):
            self.assertIn("`tpye`, which is not read", self.refused(outbox=[
                {"name": "a", "topic": "x.${tpye}", **source}]))
            self.assertIn("`tpye`, which is not read", self.refused(outbox=[
                {"name": "a", "properties": {"route.topic.replacement": "x.${tpye}"}, **source}]))
        # The rest of the configuration is missing.
        self.assertNotIn("agent.outbox", self.refused(outbox=[
            {"name": "a", **postgres}, {"name": "b", "table": "bills", **postgres},
            {"name": "c", "topic": "x.${routedByValue}", **file},
            {"name": "d", "topic": "${header}", "lmdb": {"directory": "service"}},
            {"name": "e", "properties": {"route.topic.replacement": "x.${header}"},
             "lmdb": {"directory": "other"}}]))
        self.assertIn("both take from table `outbox` of one database", self.refused(outbox=[
            {"name": "a", **postgres}, {"name": "b", **postgres}]))
        self.assertIn("envelope", self.refused(outbox=[{"name": "a", **file, "properties": {
            "table.fields.additional.placement": "type:envelope"}}]))
        self.assertIn("did you mean", self.refused(outbox=[{"name": "a", **file, "properties": {
            "table.field.event.keys": "x"}}]))
        self.assertIn("agent.admin", self.refused(half_messages={"enabled": True}))


class LmdbTest(OutboxCase):
    def test_a_transaction_that_a_service_keeps_open_does_not_keep_the_agent(self):
        tier = self.broker().start()
        os.mkdir(self.path("service"))
        program = os.path.join(os.path.dirname(harness.HOLDFAST), "tests/e2e/outbox_lmdb_writer")
        service = subprocess.Popen([program, self.path("service"), "hold"], stdout=subprocess.PIPE)
        self.addCleanup(service.communicate)
        self.addCleanup(service.kill)
        self.assertEqual(service.stdout.readline(), b"held\n")
        agent = self.agent(tier.address, *self.config(
            drain_timeout_ms="2s",
            outbox=[{"name": "accounts", "lmdb": {"directory": self.path("service")}}])).start()
        wait_for(lambda: records(tier.address, "outbox.event.Account"), what="the event")
        self.assertIn("busy for", wait_for(
            lambda: json.loads(agent.get("/outbox"))["sources"][0]["trouble"], what="trouble"))
        wait_for(lambda: "HF6001 outbox: accounts: busy for" in agent.log(), what="the log")
        self.assertEqual(agent.stop(), 0)
        service.kill()
        self.assertNotIn("HF4201", agent.log())
        self.assertIn("main: drained", agent.log())
        agent.start()
        agent.wait_drained()
        wait_for(lambda: "left 0\n" in subprocess.run(
            [program, self.path("service")], check=True, capture_output=True, text=True).stdout,
                 what="an empty outbox")
        agent.wait_drained()
        self.assertEqual(len(records(tier.address, "outbox.event.Account")), 1)


class SqliteTest(OutboxCase):
    def test_rows_become_records_and_go(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *self.sqlite(
            properties={"table.fields.additional.placement": "type:header:eventType"})).start()
        database = self.database()
        self.insert(database, "e-1", "a", b'{"n": 1}')
        self.insert(database, "e-2", "a", None)
        self.insert(database, "e-3", None, b"text")
        wait_for(lambda: self.left(database) == 0, what="an empty table")
        agent.wait_drained()
        got = {dict(message.headers())["id"]: message
               for message in records(agent.address, "outbox.event.Account")}
        self.assertEqual(sorted(got), [b"e-1", b"e-2", b"e-3"])
        self.assertEqual(got[b"e-1"].value(), b'{"n": 1}')
        self.assertEqual(got[b"e-1"].key(), b"a")
        self.assertEqual(got[b"e-1"].headers(), [("id", b"e-1"), ("eventType", b"Changed")])
        self.assertIsNone(got[b"e-2"].value())
        self.assertEqual(got[b"e-1"].partition(), got[b"e-2"].partition())
        self.assertIsNone(got[b"e-3"].key())
        self.assertEqual(agent.metric("holdfast_outbox_taken_rows_total"), 3)

    def test_keys_go_where_clients_put_them(self):
        tier = self.broker().start()
        for partitioner, theirs in (("murmur2", "murmur2"), ("consistent_random", "consistent"),
                                    ("murmur2_random", "murmur2_random")):
            topic = f"keys-{partitioner}"
            agent = self.agent(tier.address, *self.config(
                topics=[{"name": topic, "partitions": 13}],
                outbox=[{"name": "accounts", "sqlite": {"file": self.path("service.db")},
                         "topic": topic, "partitioner": partitioner}])).start()
            database = self.database()
            keys = [f"key-{number}" for number in range(200)]
            with database:
                for key in keys:
                    self.insert(database, f"outbox-{key}", key)
            wait_for(lambda: self.left(database) == 0, what="an empty table")
            agent.wait_drained()
            producer = Producer({"bootstrap.servers": tier.address, "partitioner": theirs})
            for key in keys:
                producer.produce(topic, b"by librdkafka", key)
            producer.flush(30)
            where = {}
            for message in records(tier.address, topic):
                where.setdefault(message.key(), []).append(message.partition())
            self.assertEqual(len(where), 200)
            for key, partitions in where.items():
                self.assertEqual(partitions, [partitions[0]] * 2, key)
            agent.stop()

    def test_what_cannot_be_sent_is_set_aside_and_others_flow(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *self.sqlite()).start()
        database = self.database()
        self.insert(database, "e-1", "a", kind="no topic's name")
        self.insert(database, "e-2", "a", b"x" * 2_000_000)
        self.insert(database, "e-3", "a")
        wait_for(lambda: self.left(database) == 0, what="an empty table")
        aside = dict(database.execute("SELECT id, reason FROM outbox_quarantine").fetchall())
        self.assertEqual(sorted(aside), ["e-1", "e-2"])
        self.assertIn("topic's name", aside["e-1"])
        agent.wait_drained()
        self.assertEqual(len(records(agent.address, "outbox.event.Account")), 1)
        status = json.loads(agent.get("/outbox"))["sources"][0]
        self.assertEqual((status["connected"], status["quarantined_rows"]), (True, 2))

    def test_what_the_quarantine_refuses_holds_up_nobody(self):
        tier = self.broker().start()
        database = self.database()
        database.executescript(
            "ALTER TABLE outbox_quarantine RENAME COLUMN type TO old;"
            "ALTER TABLE outbox_quarantine ADD COLUMN type TEXT CHECK (type <> 'Changed')")
        agent = self.agent(tier.address, *self.sqlite()).start()
        self.insert(database, "e-1", "a", kind="no topic's name")
        self.insert(database, "e-2", "a")
        self.expect_one_stuck(agent, lambda: self.left(database), "CHECK constraint failed")

    def test_a_nudge_is_followed_at_once(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *self.sqlite(poll_min_ms="30s", poll_max_ms="30s")).start()
        database = self.database()
        wait_for(lambda: json.loads(agent.get("/outbox"))["sources"][0]["connected"], 40,
                 what="a connection")
        self.insert(database, "e-1", "a")
        self.assertEqual(agent.post("/outbox/nudge?source=accounts")[0], 202)
        wait_for(lambda: self.left(database) == 0, 5, what="an empty table")

    def test_the_doctor_says_what_is_wrong(self):
        config = self.sqlite()
        code, text = doctor(config)
        self.assertEqual(code, 1, text)
        self.assertIn("service.db", text)
        self.database().close()
        code, text = doctor(config)
        self.assertEqual(code, 0, text)
        self.assertIn("agent.outbox accounts: good; 0 rows wait", text)

    def test_the_doctor_leaves_nothing_at_a_database_and_works_beside_an_agent(self):
        os.mkdir(self.path("service"))
        config = self.config(outbox=[{"name": "accounts",
                                      "sqlite": {"file": self.path("service/service.db")}}])
        database = sqlite3.connect(self.path("service/service.db"))
        database.executescript(TABLES)
        database.close()
        if os.geteuid() == 0:
            # The service's, and not of who asks.
            for path in ("service", "service/service.db"):
                os.chown(self.path(path), 65534, 65534)
        code, text = doctor(config)
        self.assertEqual((code, os.listdir(self.path("service"))), (0, ["service.db"]), text)

        agent = self.agent("127.0.0.1:1", *config).start()
        wait_for(lambda: json.loads(agent.get("/outbox"))["sources"][0]["connected"],
                 what="a connection")
        code, text = doctor((*config, "--spool", self.path("agent")))
        self.assertEqual(code, 0, text)
        self.assertIn("good; 0 rows wait", text)
        self.assertIn("an agent takes events out of it; agent.spool is in use by", text)
        code, text = doctor((*config, "--spool", self.path("another")))
        self.assertEqual(code, 0, text)
        self.assertIn("another agent takes events out of it", text)


class PostgresTest(OutboxCase):
    def setUp(self):
        super().setUp()
        self.server = postgres.Postgres(self.path(""))
        self.addCleanup(self.server.stop)
        self.server.start()
        self.server.ask(subprocess.run([harness.HOLDFAST, "outbox", "sql"], check=True,
                                capture_output=True, text=True).stdout)

    def postgres(self, **source):
        return self.config(outbox=[{"name": "accounts",
                                    "postgres": {"connection": self.server.dsn, **source}}])

    def write(self, first, count):
        self.server.ask("INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) SELECT "
                 "('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'Account', "
                 "(n % 50)::text, 'Changed', jsonb_build_object('n', n) "
                 f"FROM generate_series({first}, {first + count - 1}) n")

    def rows(self):
        return self.server.ask("SELECT count(*) FROM outbox")[0][0]

    def test_rows_of_committed_transactions_become_records_and_go(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *self.postgres()).start()
        connection = psycopg2.connect(self.server.dsn)
        with connection.cursor() as cursor:
            insert = ("INSERT INTO outbox (id, aggregatetype, aggregateid, payload) "
                      "VALUES (%s, 'Account', %s, %s)")
            name = "00000000-0000-4000-8000-00000000000{}".format
            cursor.execute(insert, (name(9), "a", "{}"))
            connection.rollback()
            rows = [(name(1), "a", '{"n": 1}'), (name(2), "b", None), (name(3), "a", '{"n": 3}')]
            cursor.executemany(insert, rows)
            connection.commit()
        connection.close()
        wait_for(lambda: self.rows() == 0, what="an empty table")
        agent.wait_drained()
        got = [(dict(one.headers())["id"].decode(), one.key().decode(),
                one.value() and one.value().decode())
               for one in records(tier.address, "outbox.event.Account")]
        self.assertEqual(sorted(got), rows)
        self.assertEqual([one for one in got if one[1] == "a"], [rows[0], rows[2]])
        self.assertEqual(self.server.ask("SELECT count(*) FROM outbox_quarantine"), [(0,)])

    def test_what_the_quarantine_refuses_holds_up_nobody(self):
        tier = self.broker().start()
        self.server.ask("ALTER TABLE outbox_quarantine ALTER COLUMN payload TYPE bytea USING NULL")
        agent = self.agent(tier.address, *self.postgres()).start()
        self.server.ask("INSERT INTO outbox (id, aggregatetype, aggregateid, payload) VALUES "
                        "(gen_random_uuid(), 'no topic', 'k', '{}'), "
                        "(gen_random_uuid(), 'Account', 'k', '{}')")
        self.expect_one_stuck(
            agent, self.rows,
            'ALTER TABLE "public"."outbox_quarantine" ALTER COLUMN "payload" TYPE jsonb')

    def test_agents_share_a_table_and_hand_it_over(self):
        tier = self.broker().start()
        for mode in "advisory_lock", "lease":
            with self.subTest(mode):
                self.server.ask("TRUNCATE outbox, holdfast_outbox_owner, holdfast_outbox_agent")
                config = self.postgres(ownership=mode, hash_partitions=4, lease_ms=2000)
                agents = []
                for number in range(2):
                    os.makedirs(self.path(f"{mode}-{number}"), exist_ok=True)
                    agents.append(harness.Process(
                        "agent", self.path(f"{mode}-{number}"), "--spool",
                        self.path(f"{mode}-{number}/spool"), "--upstream", tier.address,
                        *config).start())
                    self.processes.append(agents[-1])

                def owned(agent):
                    source = json.loads(agent.get("/outbox"))["sources"][0]
                    return sum(part["owned"] for part in source["parts"])

                wait_for(lambda: [owned(agent) for agent in agents] == [2, 2], 60,
                         what="two parts for each agent")
                begin = len(records(tier.address, "outbox.event.Account"))
                self.write(begin, 1000)
                wait_for(lambda: self.rows() == 0, what="an empty table")
                self.assertGreater(min(agent.metric("holdfast_outbox_taken_rows_total")
                                       for agent in agents), 100)
                # One goes, and the other has all of it at once.
                self.assertEqual(agents[0].stop(), 0)
                self.write(begin + 1000, 1000)
                wait_for(lambda: self.rows() == 0, 30, what="an empty table")
                agents[1].wait_drained()
                agents[1].stop()
                got = records(tier.address, "outbox.event.Account")
                numbers = [json.loads(message.value())["n"] for message in got]
                self.assertEqual(sorted(numbers), list(range(begin + 2000)))
                last = {}
                for message, number in zip(got, numbers):
                    self.assertLess(last.get(message.key(), -1), number, "out of order")
                    last[message.key()] = number

    def test_the_doctor_names_what_is_missing(self):
        self.server.ask("ALTER TABLE outbox DROP COLUMN payload; DROP TABLE holdfast_outbox_owner")
        code, text = doctor(self.postgres())
        self.assertEqual(code, 1, text)
        self.assertIn("payload", text)
        self.assertIn("holdfast_outbox_owner", text)
        self.assertIn("holdfast outbox sql", text)

    def test_the_doctor_owns_no_part_of_a_table(self):
        self.write(1, 3)
        code, text = doctor((*self.postgres(), "--spool", self.path("spool")))
        self.assertEqual(code, 0, text)
        self.assertIn("good; 3 rows wait", text)
        for table in ("holdfast_outbox_owner", "holdfast_outbox_agent"):
            self.assertEqual(self.server.ask(f"SELECT count(*) FROM {table}")[0][0], 0, table)


class Service(http.server.BaseHTTPRequestHandler):
    """Answers what it is told to."""
    answer = b"unknown"
    asked = []

    def do_GET(self):  # pylint: disable=invalid-name
        Service.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(Service.answer)

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass


class HalfMessagesTest(OutboxCase):
    def setUp(self):
        super().setUp()
        self.service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        Service.asked = []
        threading.Thread(target=self.service.serve_forever, daemon=True).start()

    def tearDown(self):
        self.service.shutdown()
        self.service.server_close()
        super().tearDown()

    def prepare(self, agent, key, body):
        url = f"http://127.0.0.1:{self.service.server_port}/check"
        status, answer = agent.post(f"/half/prepare?topic=half&key={key}&check_url={url}"
                                    "&header.kind=test", body.encode())
        self.assertEqual(status, 201, answer)
        return json.loads(answer)["id"]

    def half(self, agent, verb, *ids):
        done = subprocess.run([harness.HOLDFAST, "half", verb, agent.admin, *ids],
                              capture_output=True, text=True, check=False, timeout=30)
        return done.returncode, done.stdout + done.stderr

    def test_prepared_committed_asked_about_and_parked(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *self.config(
            topics=[{"name": "half", "partitions": 1}],
            half_messages={"enabled": True, "check_after_ms": 1500, "checks_max": 2})).start()
        first = self.prepare(agent, "a", "one")
        second = self.prepare(agent, "b", "two")
        third = self.prepare(agent, "c", "three")
        # Dies before it hears more, and has them when it is back.
        agent.kill()
        Service.answer = b"unknown"
        agent.start()
        self.assertEqual(len(json.loads(agent.get("/half"))["messages"]), 3)
        agent.post(f"/half/commit?id={first}")
        Service.answer = b"commit"
        wait_for(lambda: len(json.loads(agent.get("/half"))["messages"]) == 0,
                 what="an answer of the service")
        self.assertTrue(any(second in path for path in Service.asked))
        self.assertTrue(any(third in path for path in Service.asked))
        Service.answer = b"unknown"
        parked = self.prepare(agent, "d", "four")
        gone = self.prepare(agent, "e", "five")
        wait_for(lambda: all(one["parked"] for one in json.loads(agent.get("/half"))["messages"]),
                 what="parked messages")
        code, text = self.half(agent, "ls")
        self.assertEqual(code, 0, text)
        self.assertIn(parked, text)
        self.assertEqual(self.half(agent, "commit", parked), (0, f"{parked} sent\n"))
        self.assertEqual(self.half(agent, "rollback", gone), (0, f"{gone} forgotten\n"))
        code, text = self.half(agent, "commit", gone)
        self.assertEqual(code, 1, text)
        self.assertIn(f"HF0001: {gone}: it was resolved otherwise before", text)
        code, text = self.half(agent, "commit", "0" * 32)
        self.assertEqual(code, 1, text)
        self.assertIn("HF0003: " + "0" * 32, text)
        agent.wait_drained()
        got = sorted((message.key(), message.value(), tuple(message.headers()))
                     for message in records(tier.address, "half"))
        headers = (("kind", b"test"),)
        self.assertEqual(got, [(b"a", b"one", headers), (b"b", b"two", headers),
                               (b"c", b"three", headers), (b"d", b"four", headers)])


if __name__ == "__main__":
    harness.main()
