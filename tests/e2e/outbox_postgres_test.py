#!/usr/bin/python3
"""Rows that are committed in PostgreSQL become records at the tier, through the built binary."""

import json
import subprocess

import harness
import postgres
import psycopg2
from harness import Case, records, wait_for

EVENTS = [(f"00000000-0000-4000-8000-00000000000{number}", key, payload)
          for number, key, payload in ((1, "a", '{"n": 1}'), (2, "b", None), (3, "a", '{"n": 3}'))]


class PostgresTest(Case):
    def setUp(self):
        super().setUp()
        self.server = postgres.Postgres(self.path(""))
        self.addCleanup(self.server.stop)
        self.server.start()
        with open(self.path("holdfast.yaml"), "w", encoding="utf-8") as file:
            json.dump({"agent": {
                "topics": [{"name": "outbox.event.Account", "partitions": 3}],
                "outbox": [{"name": "accounts", "postgres": {"connection": self.server.dsn}}]}},
                file)
        self.database = psycopg2.connect(self.server.dsn)
        self.addCleanup(self.database.close)

    def ask(self, statement, *values):
        with self.database, self.database.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else None

    def insert(self, events):
        with self.database, self.database.cursor() as cursor:
            cursor.executemany("INSERT INTO outbox (id, aggregatetype, aggregateid, payload) "
                               "VALUES (%s, 'Account', %s, %s)", events)

    def test_rows_of_committed_transactions_become_records_and_go(self):
        tier = self.broker().start()
        printed = subprocess.run([harness.HOLDFAST, "outbox", "sql"],
                                 capture_output=True, text=True, check=True, timeout=30)
        self.ask(printed.stdout)
        agent = self.agent(tier.address, "--config", self.path("holdfast.yaml"), "--set",
                           "agent.upstream.backoff_max_ms=500ms").start()
        with self.database.cursor() as cursor:
            cursor.execute("INSERT INTO outbox (id, aggregatetype, aggregateid, payload) VALUES "
                           "('00000000-0000-4000-8000-000000000009', 'Account', 'a', '{}')")
        self.database.rollback()
        self.insert(EVENTS)
        wait_for(lambda: self.ask("SELECT count(*) FROM outbox") == [(0,)], what="an empty table")
        agent.wait_drained()
        got = records(tier.address, "outbox.event.Account")
        self.assertEqual(
            sorted((dict(one.headers())["id"].decode(), one.key().decode(),
                    one.value() and one.value().decode()) for one in got), EVENTS)
        of_a = [dict(one.headers())["id"].decode() for one in got if one.key() == b"a"]
        self.assertEqual(of_a, [EVENTS[0][0], EVENTS[2][0]])
        self.assertEqual(self.ask("SELECT count(*) FROM outbox_quarantine"), [(0,)])


if __name__ == "__main__":
    harness.main()
