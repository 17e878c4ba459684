"""What it costs to be looked at: `overview` of bench/run.

An agent with 10,000 topics that all have a backlog, and a broker with 10,000 partitions and a
group. Then what the status page does every two seconds, and `holdfast top` in a terminal: the
processor time and the memory that this adds to the process, and what `top` takes itself; how long
/overview, /metrics and an agent's /metrics/detail take, and how large they are. Times are those of
a client that has the answer whole.
"""

import glob
import http.client
import json
import os
import re
import time

import harness
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from small_terminal import Program

STREAMS = 10_000
LOOKED_AT_SECONDS = 20
REQUESTS = 200
EVERY_SECONDS = 2  # As the page and `top` ask.

# What the page asks for, with the rows of its tables.
OF_AGENT = ["/overview?filter=&sort=trouble&order=asc&offset=0&limit=50"]
OF_BROKER = ["/overview?filter=&sort=topic&order=asc&offset=0&limit=50&groups_filter=&"
             "groups_sort=lag&groups_order=desc&groups_offset=0&groups_limit=50", "/metrics"]


def cpu_seconds(pid):
    """Of all threads that there are, to the nanosecond."""
    spent = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path, encoding="ascii") as file:
            spent += int(file.read().split()[0])
    return spent / 1e9


def memory_mb(pid, kind="RssAnon"):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(rf"{kind}:\s+(\d+)", file.read()).group(1)) / 1024


def connect(process):
    host, port = process.admin.rsplit(":", 1)
    return http.client.HTTPConnection(host, int(port), timeout=60)


def get(connection, path):
    begun = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - begun
    if answer.status != 200:
        raise AssertionError(f"{path}: {answer.status} {body[:200]}")
    return took * 1000, body


def agent_with_backlog(directory):
    config = os.path.join(directory, "agent.json")
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"agent": {"topics": [{"name": f"topic-{n:05}", "partitions": 1}
                                        for n in range(STREAMS)]}}, file)
    agent = harness.Process("agent", directory, "--config", config, "--spool",
                            os.path.join(directory, "spool"), "--upstream",
                            f"127.0.0.1:{harness.free_port()}").start()
    producer = Producer({"bootstrap.servers": agent.address, "log_level": 2,
                         "queue.buffering.max.messages": 10 * STREAMS})
    for n in range(STREAMS):
        producer.produce(f"topic-{n:05}", b"x" * 100)
        producer.poll(0)
    if producer.flush(300) != 0:
        raise AssertionError("not all was taken")
    return agent


def broker_with_partitions(directory):
    broker = harness.Process("broker", directory, "--data", os.path.join(directory, "data")).start()
    admin = AdminClient({"bootstrap.servers": broker.address})
    topics = [NewTopic(f"topic-{n:03}", 100, 1) for n in range(STREAMS // 100)]
    for done in admin.create_topics(topics, request_timeout=120).values():
        done.result(120)
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 2,
                         "queue.buffering.max.messages": 10 * STREAMS})
    for n in range(STREAMS):
        producer.produce(f"topic-{n // 100:03}", b"x" * 100, partition=n % 100)
        producer.poll(0)
    if producer.flush(300) != 0:
        raise AssertionError("not all was taken")
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "all"})
    consumer.commit(offsets=[TopicPartition(f"topic-{n // 100:03}", n % 100, 0)
                             for n in range(STREAMS)], asynchronous=False)
    consumer.close()
    return broker


def over_time(process, act):
    """The share of a core that the process took meanwhile."""
    before, begun = cpu_seconds(process.child.pid), time.monotonic()
    while (now := time.monotonic()) < begun + LOOKED_AT_SECONDS:
        act()
        time.sleep(max(0, EVERY_SECONDS - (time.monotonic() - now)))
    return 100 * (cpu_seconds(process.child.pid) - before) / (time.monotonic() - begun)


def measure(process, pages, more):
    pid = process.child.pid
    idle_memory = memory_mb(pid)
    idle = over_time(process, lambda: None)
    connection = connect(process)
    page = over_time(process, lambda: [get(connection, path) for path in pages])
    connection.close()
    page_memory = memory_mb(pid)
    top = Program([harness.HOLDFAST, "top", "--admin", process.admin], 120, 40)
    try:
        top.see(r"10,0\d\d (topics|partitions)")  # The broker has some of its own.
        own_begun, begun = cpu_seconds(top.child.pid), time.monotonic()
        looked_at = over_time(process, top.read)
        own = 100 * (cpu_seconds(top.child.pid) - own_begun) / (time.monotonic() - begun)
        own_memory = memory_mb(top.child.pid)
        own_all = memory_mb(top.child.pid, "VmRSS")
        top.press("q")
        top.end()
    finally:
        top.close()
    print(f"processor, percent of a core: {idle:.2f} idle, {page:.2f} with the page, "
          f"{looked_at:.2f} with top, which takes {own:.2f} itself")
    print(f"memory without page cache: {idle_memory:.1f} MB, {page_memory - idle_memory:+.1f} MB "
          f"after the page, {memory_mb(pid) - idle_memory:+.1f} MB after top as well; top has "
          f"{own_memory:.1f} MB of its own, {own_all:.1f} MB with the libraries that it maps")
    connection = connect(process)
    for path in dict.fromkeys([*pages, "/metrics", *more]):
        before = cpu_seconds(pid)
        answers = [get(connection, path) for _ in range(REQUESTS)]
        spent = 1000 * (cpu_seconds(pid) - before) / REQUESTS
        times = sorted(took for took, _ in answers)
        print(f"{path.split('?')[0]}: p50 {times[REQUESTS // 2]:.2f} ms, p99 "
              f"{times[REQUESTS * 99 // 100]:.2f} ms, {spent:.2f} ms of processor, "
              f"{len(answers[-1][1]) / 1000:.1f} kB, of {REQUESTS}", flush=True)
    print(f"memory after {REQUESTS} of each: {memory_mb(pid) - idle_memory:+.1f} MB", flush=True)
    connection.close()


def run(directory):
    for role, start, pages, more in (
            ("agent", agent_with_backlog, OF_AGENT, ["/metrics/detail"]),
            ("broker", broker_with_partitions, OF_BROKER, [])):
        place = os.path.join(directory, role)
        os.mkdir(place)
        process = start(place)
        try:
            time.sleep(5)  # What was produced has been dealt with.
            print(f"\n{role}, {STREAMS} {'topics' if role == 'agent' else 'partitions'}",
                  flush=True)
            measure(process, pages, more)
        finally:
            process.kill()
