#!/usr/bin/python3
"""kill -9 of agent, tier, database and services, all the while that services write events: at the
end the tier has each committed event once, none of a rolled-back transaction, and those of each key
in order. HOLDFAST_CYCLES says how often, HOLDFAST_SEED with which luck."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
import unittest

import harness
import postgres
from harness import Case, records, wait_for

CYCLES = int(os.environ.get("HOLDFAST_CYCLES", "5"))
HERE = os.path.dirname(os.path.realpath(__file__))
WRITERS = 3


def outbox_sql(*arguments):
    return subprocess.run([harness.HOLDFAST, "outbox", "sql", *arguments], check=True,
                          capture_output=True, text=True).stdout


class Sqlite:
    agents = 1
    tables = """
PRAGMA journal_mode=WAL;
CREATE TABLE account (id INTEGER PRIMARY KEY, events INTEGER NOT NULL DEFAULT 0);
INSERT INTO account (id) VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
"""

    def __init__(self, case):
        self.file = case.path("service.db")
        self.database = sqlite3.connect(self.file, isolation_level=None, timeout=60)
        self.database.executescript(self.tables + outbox_sql("--dialect", "sqlite"))
        self.source = {"sqlite": {"file": self.file}}

    def writer(self, number):
        return [sys.executable, "-B", os.path.join(HERE, "outbox_writer.py"), "sqlite", self.file,
                str(number)]

    def victims(self):
        return {}

    def left(self):
        return self.database.execute("SELECT count(*) FROM outbox").fetchone()[0]

    def changes(self):
        return dict(self.database.execute("SELECT id, events FROM account").fetchall())

    def close(self):
        self.database.close()


class Lmdb:
    agents = 1

    def __init__(self, case):
        self.directory = case.path("service")
        os.mkdir(self.directory)
        self.program = os.path.join(os.path.dirname(harness.HOLDFAST), "tests", "e2e",
                                    "outbox_lmdb_writer")
        self.source = {"lmdb": {"directory": self.directory}}
        self._shown()

    def writer(self, number):
        return [self.program, self.directory, str(number)]

    def victims(self):
        return {}

    def _shown(self):
        out = subprocess.run([self.program, self.directory], check=True, capture_output=True,
                             text=True).stdout
        return dict(line.split() for line in out.splitlines())

    def left(self):
        return int(self._shown()["left"])

    def changes(self):
        return {int(account): int(changes) for account, changes in self._shown().items()
                if account != "left"}

    def close(self):
        pass


class PostgreSql:
    """Two agents share the table. What one of them owned when it was killed waits for it."""
    agents = 2

    def __init__(self, case):
        self.server = postgres.Postgres(case.path(""))
        case.addCleanup(self.server.stop)
        self.server.start()
        self.server.ask("CREATE TABLE account (id integer PRIMARY KEY, events bigint DEFAULT 0)")
        self.server.ask("INSERT INTO account SELECT generate_series(0, 9)")
        self.server.ask(outbox_sql())
        self.source = {"postgres": {"connection": self.server.dsn, "hash_partitions": 4}}

    def writer(self, number):
        return [sys.executable, "-B", os.path.join(HERE, "outbox_writer.py"), "postgres",
                self.server.dsn, str(number)]

    def victims(self):
        return {"postgres": self.server}

    def left(self):
        return self.server.ask("SELECT count(*) FROM outbox")[0][0]

    def changes(self):
        return dict(self.server.ask("SELECT id, events FROM account"))

    def close(self):
        self.server.stop()


class OutboxCrashTest(Case):
    def run_campaign(self, database):
        tier = self.broker().start()
        with open(self.path("holdfast.yaml"), "w", encoding="utf-8") as file:
            json.dump({"agent": {
                "topics": [{"name": "outbox.event.Account", "partitions": 3}],
                "outbox": [{"name": "accounts", **database.source}]}}, file)
        agents = []
        for number in range(database.agents):
            directory = self.path(f"agent-{number}")
            os.mkdir(directory)
            agents.append(harness.Process(
                "agent", directory, "--spool", os.path.join(directory, "spool"), "--upstream",
                tier.address, "--config", self.path("holdfast.yaml"), "--set",
                "agent.upstream.backoff_max_ms=500ms").start())
            self.processes.append(agents[-1])
        seed = int(os.environ.get("HOLDFAST_SEED", "7"))
        chance = random.Random(seed)
        writers = [subprocess.Popen(database.writer(seed * 100 + number))
                   for number in range(WRITERS)]
        killed = {"agent": 0, "tier": 0, "service": 0, **{name: 0 for name in database.victims()}}
        try:
            for _ in range(CYCLES):
                time.sleep(0.2 + chance.random())
                name = chance.choice(["agent", "agent", "tier", "service",
                                      *2 * list(database.victims())])
                killed[name] += 1
                if name == "service":
                    number = chance.randrange(WRITERS)
                    self.assertIsNone(writers[number].poll(), "a service ended by itself")
                    writers[number].kill()
                    writers[number].wait()
                    writers[number] = subprocess.Popen(
                        database.writer(seed * 100 + WRITERS + sum(killed.values())))
                    continue
                victim = {"agent": chance.choice(agents), "tier": tier,
                          **database.victims()}[name]
                victim.kill()
                time.sleep(chance.random() * 0.3)
                victim.start()
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
        wait_for(lambda: database.left() == 0, 180, what=f"an empty outbox\n{agents[0].log()}")
        for agent in agents:
            agent.wait_drained(180)
        got = {}
        for message in records(tier.address, "outbox.event.Account"):
            got.setdefault(int(message.key()), []).append(
                self.order_of(dict(message.headers())["id"].decode()))
        self.assertGreater(sum(map(len, got.values())), 100, "the services wrote next to nothing")
        for account, changes in database.changes().items():
            self.assertEqual(got.get(account, []), list(range(1, changes + 1)), f"key {account}")
        print(f"{sum(map(len, got.values()))} events, killed: {killed}", flush=True)
        database.close()

    @staticmethod
    def order_of(name):
        """The number of an event among those of its account."""
        return int(name.split("/")[1]) if "/" in name else int(name.rsplit("-", 1)[1], 16)

    def test_sqlite(self):
        self.run_campaign(Sqlite(self))

    def test_postgres(self):
        self.run_campaign(PostgreSql(self))

    def test_lmdb(self):
        self.run_campaign(Lmdb(self))


if __name__ == "__main__":
    harness.main()
