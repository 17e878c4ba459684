#!/usr/bin/python3
"""Local clients that come in TLS, say who they are by SASL, and may not do everything."""

import json
import os
import socket
import struct
import subprocess

import harness
from certificates import Authority, expiry
from harness import Case, consume, kcat, produce, wait_for
from raw_kafka import text

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PASSWORD = "a, strange=\"password"
SASL_HANDSHAKE, UNSUPPORTED_SASL_MECHANISM = 17, 33
TOPICS = "agent.topics=[{name: orders, partitions: 1}, {name: audit, partitions: 1}]"


def client(agent, **properties):
    """What a client of librdkafka is to be told; in names, an underscore is a dot."""
    return {"bootstrap.servers": agent.address, "log_level": 0,
            **{name.replace("_", "."): value for name, value in properties.items()}}


def try_to_produce(properties, topic, value="x", timeout=10):
    """The error of one record, or None."""
    outcome = []
    producer = Producer(dict(properties, **{"message.timeout.ms": int(timeout * 1000),
                                            "error_cb": lambda error: None}))
    producer.produce(topic, value, on_delivery=lambda error, _: outcome.append(error))
    producer.flush(timeout + 5)
    return outcome[0].name() if outcome[0] else None


class SecurityTest(Case):
    def config(self, name, content):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file)
        return path

    def secured_agent(self, agent):
        """An agent with these settings, before a broker of ours."""
        self.tier = self.broker().start()
        path = self.config("agent.yaml", {"agent": agent})
        return self.agent(self.tier.address, "--config", path, "--set", TOPICS)

    def test_clients_come_in_tls_and_scram(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("agent")
        password = os.path.join(self.directory, "password")
        with open(password, "w", encoding="utf-8") as file:
            file.write(PASSWORD + "\n")
        agent = self.secured_agent({
            "tls": {"certificate": certificate, "key": key},
            "sasl": {"mechanisms": ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
                     "users": [{"name": "orders", "password": {"file": password}}]},
        }).start()
        tls = {"security_protocol": "SASL_SSL", "ssl_ca_location": authority.ca,
               "sasl_username": "orders"}
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            good = client(agent, **tls, sasl_mechanism=mechanism, sasl_password=PASSWORD)
            self.assertIsNone(try_to_produce(good, "orders", mechanism))
            wrong = client(agent, **tls, sasl_mechanism=mechanism, sasl_password="wrong")
            self.assertEqual(try_to_produce(wrong, "orders", timeout=1), "_MSG_TIMED_OUT")
        self.assertGreaterEqual(agent.metric("holdfast_agent_login_failures_total"), 3)
        agent.wait_drained()
        arguments = [argument for name, value in good.items() if name not in ("bootstrap.servers",)
                     for argument in ("-X", f"{name}={value}")]
        self.assertEqual(consume(agent.address, "orders", *arguments),
                         ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
        # Neither in the clear nor without SASL.
        for protocol in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT"):
            bad = dict(good, **{"security.protocol": protocol})
            self.assertEqual(try_to_produce(bad, "orders", timeout=1), "_MSG_TIMED_OUT")
        for text in (agent.log(), agent.get("/status"), agent.get("/metrics")):
            self.assertNotIn(PASSWORD, text)

        # Another certificate is shown to who comes next.
        other = Authority(self.directory, "other")
        for old, new in zip((certificate, key), other.issue("agent")):
            os.replace(new, old)
        changed = dict(good, **{"ssl.ca.location": other.ca})
        wait_for(lambda: try_to_produce(changed, "orders", timeout=1) is None, 30,
                 "the new certificate")

    def test_a_certificate_says_who_a_client_is_and_rules_what_it_may_do(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("agent")
        agent = self.secured_agent({
            "tls": {"certificate": certificate, "key": key, "client_ca": authority.ca,
                    "client_auth": "required"},
            "access": {"rules": [
                {"principal": "User:CN=orders", "topics": ["orders*"],
                 "operations": ["produce"]},
                {"principal": "User:CN=reader", "topics": ["*"], "groups": ["readers"],
                 "operations": ["consume"]},
                {"principal": "User:CN=operator", "topics": ["*"], "operations": ["all"]}]},
        }).start()

        def who(name):
            shown, own_key, _ = authority.issue(name)
            return client(agent, security_protocol="SSL", ssl_ca_location=authority.ca,
                          ssl_certificate_location=shown, ssl_key_location=own_key)

        orders, reader, operator = who("orders"), who("reader"), who("operator")
        self.assertIsNone(try_to_produce(orders, "orders", "from orders"))
        self.assertEqual(try_to_produce(orders, "audit"), "TOPIC_AUTHORIZATION_FAILED")
        self.assertEqual(try_to_produce(reader, "orders"), "TOPIC_AUTHORIZATION_FAILED")
        self.assertIsNone(try_to_produce(operator, "audit", "from the operator"))
        agent.wait_drained()

        self.assertEqual(list(AdminClient(orders).list_topics(timeout=10).topics), ["orders"])
        self.assertEqual(sorted(AdminClient(reader).list_topics(timeout=10).topics),
                         ["audit", "orders"])
        admin = AdminClient(orders)
        with self.assertRaises(KafkaException) as refused:
            admin.create_topics([NewTopic("orders-new", 1, 1)])["orders-new"].result(10)
        self.assertEqual(refused.exception.args[0].name(), "TOPIC_AUTHORIZATION_FAILED")
        admin = AdminClient(operator)
        admin.create_topics([NewTopic("new", 1, 1)])["new"].result(10)

        def x(properties):
            return [argument for name, value in properties.items() if name != "bootstrap.servers"
                    for argument in ("-X", f"{name}={value}")]

        self.assertEqual(consume(agent.address, "audit", *x(reader)), ["from the operator"])
        out = kcat("-b", agent.address, "-G", "readers", "-e", "-X", "auto.offset.reset=earliest",
                   *x(reader), "orders")
        self.assertEqual(out.splitlines(), ["from orders"])
        consumer = Consumer(dict(orders, **{"group.id": "none"}))
        consumer.assign([TopicPartition("orders", 0, 0)])

        def refused():
            message = consumer.poll(1)
            return message and message.error().name() == "TOPIC_AUTHORIZATION_FAILED"

        wait_for(refused, 20, "an error of Fetch")
        consumer.close()
        nobody = client(agent, security_protocol="SSL", ssl_ca_location=authority.ca)
        self.assertEqual(try_to_produce(nobody, "orders", timeout=1), "_MSG_TIMED_OUT")

    def test_a_reload_changes_certificates_users_and_rules(self):
        authority, other = Authority(self.directory), Authority(self.directory, "other")
        certificate, key, _ = authority.issue("agent")
        settings = {
            "tls": {"certificate": certificate, "key": key},
            "sasl": {"mechanisms": ["PLAIN"], "users": [{"name": "orders", "password": "one"}]},
            "access": {"rules": [{"principal": "User:orders", "topics": ["*"],
                                  "operations": ["produce"]}]}}
        agent = self.secured_agent(settings).start()

        def user(name, password, trusted):
            return client(agent, security_protocol="SASL_SSL", ssl_ca_location=trusted.ca,
                          sasl_mechanism="PLAIN", sasl_username=name, sasl_password=password)

        failed = []
        before = Producer(dict(user("orders", "one", authority), **{"linger.ms": 0}))

        def send(topic):
            before.produce(topic, "x", on_delivery=lambda error, _: failed.append(
                error.name() if error else None))
            before.flush(20)
            return failed[-1]

        self.assertIsNone(send("audit"))
        self.assertAlmostEqual(
            agent.metric("holdfast_agent_certificate_expiry_timestamp_seconds"),
            expiry(certificate), delta=1)
        certificate, key, _ = other.issue("next", days=3)
        settings = {
            "tls": {"certificate": certificate, "key": key},
            "sasl": {"mechanisms": ["PLAIN"], "users": [{"name": "audit", "password": "two"},
                                                        {"name": "orders", "password": "new"}]},
            "access": {"rules": [{"principal": "User:*", "topics": ["orders"],
                                  "operations": ["produce"]}]}}
        self.config("agent.yaml", {"agent": settings})
        status, text = agent.post("/reload")
        self.assertEqual((status, text.strip()), (200, (
            "changed agent.tls.certificate, agent.tls.key, agent.sasl.users, agent.access.rules")))
        # Rules count for connections that stand.
        self.assertEqual(send("audit"), "TOPIC_AUTHORIZATION_FAILED")
        self.assertIsNone(send("orders"))
        self.assertIsNone(try_to_produce(user("audit", "two", other), "orders"))
        for late in (user("orders", "one", other), user("audit", "two", authority)):
            self.assertEqual(try_to_produce(late, "orders", timeout=1), "_MSG_TIMED_OUT")
        wait_for(lambda: abs(agent.metric("holdfast_agent_certificate_expiry_timestamp_seconds") -
                             expiry(certificate)) < 2, 10, "the new certificate's end")
        del settings["tls"]
        self.config("agent.yaml", {"agent": settings})
        status, text = agent.post("/reload")
        self.assertEqual((status, text.strip()),
                         (409, "setting or unsetting agent.tls needs a restart"))

    def test_what_would_open_a_hole_is_refused(self):
        password = "very-secret"
        tier = {"bootstrap": ["127.0.0.1:1"]}
        sasl = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
                "sasl.username": "agent", "sasl.password": password}
        users = {"mechanisms": ["SCRAM-SHA-256"], "users": [{"name": "a", "password": password}]}
        base = {"listen": ["127.0.0.1:0"], "spool": {"directory": "spool"}, "upstream": tier}
        cases = [
            ({"listen": ["0.0.0.0:9092"]}, "agent.access.open_listeners"),
            ({"listeners": [{"name": "a", "listen": "0.0.0.0:9092"}]},
             "agent.access.open_listeners"),
            ({"listeners": [{"name": "a", "listen": "127.0.0.1:0"}] * 2},
             'agent.listeners names "a" twice'),
            ({"listen": ["0.0.0.0:9092"], "sasl": dict(users, mechanisms=["PLAIN"])},
             "would send passwords in the clear"),
            ({"upstream": dict(tier, properties=sasl), "access": {"tier_identity": "agent"}},
             "say in agent.access.rules what they may do"),
            ({"upstream": dict(tier, properties=sasl), "sasl": users},
             "set agent.access.tier_identity to agent"),
            ({"upstream": dict(tier, properties={"sasl.username": "x"})},
             "sasl.username needs security.protocol"),
            ({"upstream": dict(tier, properties={"sasl.pasword": password})}, "sasl.password"),
            ({"tls": {"certificate": "/nowhere.pem"}}, "cannot read /nowhere.pem"),
            ({"access": {"rules": [{"principal": "orders", "operations": ["all"]}]}},
             "must be User:NAME"),
        ]
        for change, expected in cases:
            path = self.config("agent.yaml", {"agent": dict(base, **change)})
            done = subprocess.run([harness.HOLDFAST, "validate", path], capture_output=True,
                                  text=True, timeout=20)
            # A file may be there at the next try.
            self.assertEqual(done.returncode, 1 if "cannot read" in expected else 2, change)
            self.assertIn(expected, done.stderr)
            self.assertNotIn(password, done.stdout + done.stderr)
        path = self.config("agent.yaml", {"agent": dict(
            base, listen=["0.0.0.0:9092"], access={"open_listeners": True})})
        done = subprocess.run([harness.HOLDFAST, "validate", path], capture_output=True, text=True,
                              timeout=20)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_tier_that_knows_the_agent_by_its_certificate_alone(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("tier")
        shown, own_key, _ = authority.issue("agent")
        tier = self.broker("--set", f"broker.tls={{certificate: {certificate}, key: {key}, "
                           f"client_ca: {authority.ca}, client_auth: required}}").start()
        properties = {"security.protocol": "SSL", "ssl.ca.location": authority.ca,
                      "ssl.certificate.location": shown, "ssl.key.location": own_key}

        def config(**access):
            return self.config("agent.yaml", {"agent": {
                "listen": ["127.0.0.1:0"], "spool": {"directory": self.path("agent")},
                "upstream": {"bootstrap": [tier.address], "properties": properties},
                "access": access}})

        # Clients cannot show theirs, so somebody has to say with whose rights they come.
        done = subprocess.run([harness.HOLDFAST, "validate", config()], capture_output=True,
                              text=True, timeout=20)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("agent.access.tier_identity must be set", done.stderr)
        agent = self.agent(tier.address, "--config", config(tier_identity="client"), "--set",
                           TOPICS).start()
        # From the cache.
        AdminClient(client(agent)).list_topics(timeout=10)
        wait_for(lambda: "HF3002 proxy" in agent.log(), 20, "word of a tier that lets nobody in")
        self.assertRegex(agent.log(), "error HF3002 proxy: .*certificate required")
        agent.stop()
        rules = [{"principal": "User:ANONYMOUS", "topics": ["*"], "operations": ["produce"]}]
        agent = self.agent(tier.address, "--config",
                           config(tier_identity="agent", rules=rules), "--set", TOPICS).start()
        self.assertIsNone(try_to_produce(client(agent), "orders"))
        agent.wait_drained()

    def handshake_by_plain(self, address, source):
        """The error of it, for a client with this address."""
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 20, (source, 0)) as connection:
            body = struct.pack(">hhi", SASL_HANDSHAKE, 1, 1) + text(None) + text("PLAIN")
            connection.sendall(struct.pack(">i", len(body)) + body)
            return struct.unpack(">iih", connection.recv(10, socket.MSG_WAITALL))[2]

    def test_in_the_clear_other_hosts_log_in_at_the_tier_by_scram_alone(self):
        password = "very-secret"
        far = f"0.0.0.0:{harness.free_port()}"
        upstream = {"bootstrap": ["127.0.0.1:1"], "properties": {
            "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
            "sasl.username": "agent", "sasl.password": password}}
        said = f"clients that reach {far} from other hosts may not log in at the tier by PLAIN"
        # To the agent one that does not come to its own address is another host's.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # Nothing is sent.
            except OSError as error:
                self.skipTest(f"this host has no address but loopback: {error}")
            elsewhere = probe.getsockname()[0]
        for opened in (True, False):
            path = self.config("agent.yaml", {"agent": {
                "listen": ["127.0.0.1:0"], "spool": {"directory": self.path("agent")},
                "upstream": upstream,
                "listeners": [{"name": "far", "listen": far}],
                "access": {"open_listeners": opened}}})
            done = subprocess.run([harness.HOLDFAST, "validate", path], capture_output=True,
                                  text=True, timeout=20)
            self.assertEqual(done.returncode, 0, done.stderr)
            done = subprocess.run([harness.HOLDFAST, "doctor", "--config", path, "--only", "config",
                                   "--json"], capture_output=True, text=True, timeout=20)
            notes = [finding["what"] for finding in json.loads(done.stdout)["findings"]
                     if finding["severity"] == "note"]
            self.assertEqual(any(said in note for note in notes), not opened, done.stdout)
        agent = self.agent("127.0.0.1:1", "--config", path).start()
        self.assertRegex(agent.log(), f"warn  HF1012 agent: .*{said}")
        self.assertEqual(self.handshake_by_plain(far.replace("0.0.0.0", "127.0.0.1"), elsewhere),
                         UNSUPPORTED_SASL_MECHANISM)
        self.assertNotIn(password, agent.log())


if __name__ == "__main__":
    harness.main()
