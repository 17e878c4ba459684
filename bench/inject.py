"""How long `holdfast inject` takes to answer: `inject` of bench/run.

One connection over TLS that is kept, as the API server does, and one review after another, of those
in tests/inject/reviews; the times are the client's."""

import http.client
import os
import ssl
import subprocess
import time

import harness
from certificates import Authority

REVIEWS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "inject",
                       "reviews")
COUNT = 2000
CONFIG = """
log: {{level: warn}}
inject:
  listen: 127.0.0.1:0
  admin: 127.0.0.1:0
  kubernetes_version: "1.36"
  tls: {{certificate: {certificate}, key: {key}}}
  sidecar:
    image: example.com/holdfast:1
    agent_config_file: {directory}/agent.yaml
"""


class Webhook(harness.Process):
    def start(self):
        with open(self.out_path, "wb") as out, open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                [harness.HOLDFAST, "inject", "--config", self.arguments[0]],
                stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        self.address, self.admin = harness.wait_for(self._listeners, what="it to listen")
        return self


def run(directory):
    authority = Authority(directory)
    certificate, key, _ = authority.issue("webhook")
    config = os.path.join(directory, "inject.yaml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(directory=directory, certificate=certificate, key=key))
    with open(os.path.join(directory, "agent.yaml"), "w", encoding="utf-8") as file:
        file.write("agent: {upstream: {bootstrap: [kafka:9092]}}\n")
    webhook = Webhook("inject", directory, config).start()
    try:
        for name in ("deployment", "annotated", "restricted", "host_network"):
            measure(webhook, authority, name)
    finally:
        webhook.stop()


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
