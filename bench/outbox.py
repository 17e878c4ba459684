"""What an outbox in PostgreSQL takes and gives: `outbox` of bench/run.

PostgreSQL with its defaults (fsync), an agent and a broker as its tier, all on this machine. First
pgbench writes as fast as it can while the agent drains; then single events at a fixed rate, each
with the time from its commit to a consumer at the tier; and last a backlog that is written while no
agent is there."""

import json
import os
import subprocess
import threading
import time

import harness
import postgres
import psycopg2
from confluent_kafka import Consumer, TopicPartition

PARTITIONS = 4
PAYLOAD = ('{"account": 1, "text": "some hundred bytes of an event, as services have them, '
           'more or less"}')
TRANSACTION = """
\\set account random(1, 10000)
BEGIN;
UPDATE account SET changes = changes + 1 WHERE id = :account;
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
  SELECT gen_random_uuid(), 'Account', :account::text, 'Changed',
         '%s' FROM generate_series(1, %d);
COMMIT;
"""


def prepare(build, directory):
    server = postgres.Postgres(directory)
    server.start()
    ddl = subprocess.run([os.path.join(build, "holdfast"), "outbox", "sql"], check=True,
                         capture_output=True, text=True).stdout
    server.ask("CREATE TABLE account (id integer PRIMARY KEY, changes bigint DEFAULT 0)")
    server.ask("INSERT INTO account SELECT generate_series(1, 10000)")
    server.ask(ddl)
    config = os.path.join(directory, "holdfast.yaml")
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"agent": {
            "topics": [{"name": "outbox.event.Account", "partitions": PARTITIONS}],
            "outbox": [{"name": "bench", "postgres": {"connection": server.dsn}}]}}, file)
    broker = harness.Process("broker", directory, "--data", os.path.join(directory, "data")).start()
    agent = harness.Process("agent", directory, "--spool", os.path.join(directory, "spool"),
                            "--upstream", broker.address, "--config", config)
    return server, broker, agent


def taken(agent):
    return agent.metric("holdfast_outbox_taken_rows_total")


def throughput(server, agent, directory, seconds):
    script = os.path.join(directory, "transaction.sql")
    for clients, events in (1, 10), (4, 10), (16, 10), (4, 100):
        with open(script, "w", encoding="utf-8") as file:
            file.write(TRANSACTION % (PAYLOAD, events))
        before = taken(agent)
        begun = time.monotonic()
        out = subprocess.run(
            [postgres.binary("pgbench"), "-n", "-h", "127.0.0.1", "-p", str(server.port), "-U",
             "postgres", "-f", script, "-c", str(clients), "-j", str(min(clients, 2)), "-T",
             str(seconds), "postgres"], check=True, capture_output=True, text=True).stdout
        spent = time.monotonic() - begun
        drained = (taken(agent) - before) / spent
        written = float(next(line for line in out.splitlines() if "tps" in line).split()[2])
        left = server.ask("SELECT count(*) FROM outbox")[0][0]
        begun = time.monotonic()
        while server.ask("SELECT EXISTS (SELECT FROM outbox)")[0][0]:
            time.sleep(0.05)
        print(f"{clients:2} client(s), {events:3} events a transaction: "
              f"{written * events:7.0f} events/s written, "
              f"{drained:7.0f} taken meanwhile, {left} left, gone in "
              f"{time.monotonic() - begun:.1f} s", flush=True)


def latency(server, broker, rate, seconds):
    sent = {}
    got = {}

    def consume():
        consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "bench",
                             "fetch.wait.max.ms": 10})
        parts = [TopicPartition("outbox.event.Account", number) for number in range(PARTITIONS)]
        for part in parts:
            part.offset = consumer.get_watermark_offsets(part, timeout=10)[1]
        consumer.assign(parts)
        ready.set()
        while len(got) < rate * seconds and time.monotonic() < deadline:
            for message in consumer.consume(500, 0.01):
                if message.error() is None:
                    got[dict(message.headers())["id"].decode()] = time.monotonic()
        consumer.close()

    ready = threading.Event()
    deadline = time.monotonic() + seconds + 20
    reader = threading.Thread(target=consume)
    reader.start()
    ready.wait()
    connection = psycopg2.connect(server.dsn)
    begun = time.monotonic()
    with connection.cursor() as cursor:
        for number in range(rate * seconds):
            pause = begun + number / rate - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            name = f"00000000-0000-4000-8000-{number:012x}"
            cursor.execute("INSERT INTO outbox (id, aggregatetype, aggregateid, payload) "
                           "VALUES (%s, 'Account', %s, '{}')", (name, str(number % 1000)))
            connection.commit()
            sent[name] = time.monotonic()
    connection.close()
    reader.join()
    took = sorted((got[name] - at) * 1000 for name, at in sent.items() if name in got)
    print(f"{len(sent) / (max(sent.values()) - begun):.0f} events/s, one a transaction: commit to "
          f"consumer p50 {took[len(took) // 2]:.1f} ms, p99 {took[len(took) * 99 // 100]:.1f} ms "
          f"({len(took)} of {len(sent)} seen)", flush=True)


def backlog(server, agent, rows):
    agent.stop()
    server.ask("INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) "
                f"SELECT gen_random_uuid(), 'Account', (n % 10000)::text, 'Changed', '{PAYLOAD}' "
                f"FROM generate_series(1, {rows}) n")
    agent.start()
    begun = at = time.monotonic()
    before = done = 0
    step = rows // 10
    while done < rows:
        time.sleep(0.1)
        done = taken(agent)
        if done - before >= step or done >= rows:
            now = time.monotonic()
            print(f"  {done:10.0f} taken, {(done - before) / (now - at):8.0f} events/s", flush=True)
            before, at = done, now
    print(f"a backlog of {rows}: {rows / (time.monotonic() - begun):.0f} events/s", flush=True)


def run(build, directory, rows):
    server, broker, agent = prepare(build, directory)
    try:
        agent.start()
        print("\noutbox: PostgreSQL, agent and broker on one machine", flush=True)
        throughput(server, agent, directory, 15)
        latency(server, broker, 1000, 10)
        backlog(server, agent, rows)
    finally:
        for process in agent, broker:
            if process.running():
                process.kill()
        server.stop()
