"""How long `holdfast inject` takes to answer: `inject` of bench/run.

One connection over TLS that is kept, as the API server does, and one review after another, of those
in tests/inject/reviews; the times are the client's."""

import http.client
import os
import ssl
import time

from certificates import Authority
from inject_test import AGENT, CONFIG, REVIEWS, Webhook, swap

COUNT = 2000


def run(directory):
    authority = Authority(directory)
    certificate, key, _ = authority.issue("webhook")
    swap(directory, "tls", {"tls.crt": read(certificate), "tls.key": read(key)})
    settings = CONFIG.replace("level: debug", "level: warn").format(directory=directory,
                                                                    image="example.com/holdfast:1")
    swap(directory, "config", {"inject.yaml": settings, "agent.yaml": AGENT})
    webhook = Webhook("inject", directory, os.path.join(directory, "config", "inject.yaml")).start()
    try:
        for name in ("deployment", "annotated", "restricted", "host_network"):
            measure(webhook, authority, name)
    finally:
        webhook.stop()


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def measure(webhook, authority, name):
    with open(os.path.join(REVIEWS, name + ".json"), "rb") as file:
        review = file.read()
    host, port = webhook.address.rsplit(":", 1)
    connection = http.client.HTTPSConnection(
        host, int(port), context=ssl.create_default_context(cafile=authority.ca))
    times = []
    for _ in range(COUNT):
        began = time.perf_counter()
        connection.request("POST", "/mutate", review, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        times.append(1000 * (time.perf_counter() - began))
        if answer.status != 200:
            raise AssertionError(f"{name}: {answer.status}")
    connection.close()
    times.sort()
    print(f"review {name}: p50 {times[COUNT // 2]:.2f} ms, p99 {times[COUNT * 99 // 100]:.2f} ms, "
          f"most {times[-1]:.2f} ms, of {COUNT}", flush=True)
