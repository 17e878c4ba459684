#!/usr/bin/python3
"""A service for the tests of the outbox: changes accounts, with an event for each change, in
transactions of different length, until it is killed. The events of an account are numbered, and
whoever holds the account's row makes the next one.

usage: outbox_writer.py sqlite FILE WRITER
       outbox_writer.py postgres DSN WRITER
"""

import random
import sqlite3
import sys
import time

ACCOUNTS = 10


class Sqlite:
    def __init__(self, file):
        self.database = sqlite3.connect(file, isolation_level=None, timeout=60)

    def begin(self):
        self.database.execute("BEGIN IMMEDIATE")

    def next_of(self, account):
        self.database.execute("UPDATE account SET events = events + 1 WHERE id = ?", (account,))
        return self.database.execute("SELECT events FROM account WHERE id = ?",
                                     (account,)).fetchone()[0]

    def insert(self, name, account):
        self.database.execute(
            "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) "
            "VALUES (?, 'Account', ?, 'Changed', '{}')", (name, str(account)))

    def end(self, how):
        self.database.execute(how)


class Postgres:
    def __init__(self, dsn):
        import psycopg2  # pylint: disable=import-outside-toplevel
        self.error = psycopg2.OperationalError
        self.connect = lambda: psycopg2.connect(dsn)
        self.connection = None
        self.cursor = None

    def begin(self):
        while self.connection is None or self.connection.closed:
            try:
                self.connection = self.connect()
                self.cursor = self.connection.cursor()
            except self.error:
                time.sleep(0.05)

    def next_of(self, account):
        self.cursor.execute("UPDATE account SET events = events + 1 WHERE id = %s RETURNING events",
                            (account,))
        return self.cursor.fetchone()[0]

    def insert(self, name, account):
        self.cursor.execute(
            "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) "
            "VALUES (%s, 'Account', %s, 'Changed', '{}')", (name, str(account)))

    def end(self, how):
        if how == "COMMIT":
            self.connection.commit()
        else:
            self.connection.rollback()


def main():
    kind, where, number = sys.argv[1:]
    service = Sqlite(where) if kind == "sqlite" else Postgres(where)
    lost = service.error if kind == "postgres" else ()
    luck = random.Random(int(number))
    while True:
        try:
            service.begin()
            # In order, so that two transactions do not wait for each other.
            for account in sorted(luck.randrange(ACCOUNTS) for _ in range(luck.randrange(1, 20))):
                # Of the identity a database may ask for a UUID.
                order = service.next_of(account)
                service.insert(f"{account:08x}-0000-4000-8000-{order:012x}", account)
                if kind == "postgres" and luck.random() < 0.1:
                    time.sleep(luck.random() * 0.02)
            service.end("ROLLBACK" if luck.random() < 0.2 else "COMMIT")
        except lost:
            service.connection.close()
        time.sleep(luck.random() * 0.01)


if __name__ == "__main__":
    main()
