#!/usr/bin/python3
"""The agent in front of a real Apache Kafka that wants TLS and SASL."""

import base64
import json
import os
import subprocess
import time

import apache_kafka
import harness
from certificates import Authority
from harness import consume, produce, wait_for

from confluent_kafka import Producer, libversion
from confluent_kafka.admin import NewTopic

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
PASSWORD = "a, strange=\"password"


def properties(**given):
    """As arguments for the agent; in names, two underscores are a dot."""
    arguments = []
    for name, value in given.items():
        key = name.replace("__", ".")
        arguments += ["--set", f"agent.upstream.properties.{key}={value}"]
    return arguments


def unsecured_token(subject, seconds):
    def part(claims):
        return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

    now = int(time.time())
    claims = {"sub": subject, "iat": now, "exp": now + seconds}
    return f"{part({'alg': 'none'})}.{part(claims)}."


class SecurityTest(apache_kafka.Case):
    def setUp(self):
        super().setUp()
        self.authority = Authority(self.directory)

    def secured(self, protocol, more=None):
        """LINK speaks the protocol; DIRECT is open, and everybody there is a super user."""
        _, _, both = self.authority.issue("tier")
        escaped = PASSWORD.replace('"', r'\\"')  # For JAAS, in a properties file.
        link = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": both,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.authority.ca,
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "plain.sasl.jaas.config":
                f'{PLAIN} required user_holdfast="{escaped}" user_orders="orders-secret";',
            "scram-sha-256.sasl.jaas.config": f"{SCRAM} required;",
            "scram-sha-512.sasl.jaas.config": f"{SCRAM} required;",
            "oauthbearer.sasl.jaas.config":
                f'{OAUTH} required unsecuredLoginStringClaim_sub="tier";',
        } | (more or {})
        return self.kafka({
            "listener.security.protocol.map":
                f"DIRECT:PLAINTEXT,LINK:{protocol},CONTROLLER:PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:holdfast;User:CN=holdfast",
            "num.partitions": 1,
        } | {f"listener.name.link.{name}": value for name, value in link.items()}).start()

    def delivers(self, kafka, topic, *arguments):
        """Through an agent that lends its rights to local clients."""
        agent = self.agent(kafka.upstream, *arguments,
                           "--set", "agent.upstream.backoff_max_ms=300ms",
                           "--set", "agent.access.tier_identity=agent",
                           "--set", "agent.access.rules=[{principal: 'User:ANONYMOUS', "
                           "topics: ['*'], groups: ['*'], operations: [all]}]").start()
        lines = [f"{topic} {n}" for n in range(100)]
        produce(agent.address, topic, lines)
        agent.wait_drained()
        self.assertEqual(consume(kafka.address, topic), lines)
        self.assertEqual(consume(agent.address, topic), lines)
        with open(agent.log_path, encoding="utf-8") as log:
            self.assertNotIn(PASSWORD, log.read())
        self.assertNotIn(PASSWORD, agent.get("/status") + agent.get("/metrics"))
        return agent

    def commands_read(self, kafka, topic, arguments):
        """`holdfast dlq` reaches the tier by the agent's properties."""
        given = dict(argument.split("=", 1) for argument in arguments if argument != "--set")
        prefix = "agent.upstream.properties."
        path = os.path.join(self.directory, "agent.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"""
agent:
  listen: [127.0.0.1:0]
  spool: {{directory: unused}}
  dead_letters: {{policy: topic, topic_name: {topic}}}
  upstream:
    bootstrap: ['{kafka.upstream}']
    properties:
""" + "".join(f"      {key.removeprefix(prefix)}: {value}\n" for key, value in given.items()))
        done = subprocess.run([harness.HOLDFAST, "dlq", "ls", "--json", path],
                              capture_output=True, text=True, timeout=60)
        if "SCRAM" in topic and libversion()[1] < 0x020601ff:
            self.assertEqual(done.returncode, 1)
            self.assertIn("cannot log in to Kafka 4 by SCRAM, 2.6.1 can", done.stderr)
            return
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(json.loads(done.stdout)["records"], 100)

    def test_every_sasl_mechanism_over_tls(self):
        kafka = self.secured("SASL_SSL")
        for scram in (f"SCRAM-SHA-256=[password={PASSWORD}]",
                      f"SCRAM-SHA-512=[iterations=8192,password={PASSWORD}]"):
            apache_kafka.java("kafka.admin.ConfigCommand", "--bootstrap-server", kafka.address,
                              "--alter", "--entity-type", "users", "--entity-name", "holdfast",
                              "--add-config", scram)
        common = properties(security__protocol="SASL_SSL", ssl__ca__location=self.authority.ca)
        password = os.path.join(self.directory, "password")
        with open(password, "w", encoding="utf-8") as file:
            file.write(PASSWORD + "\n")
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            with self.subTest(mechanism):
                login = properties(sasl__mechanism=mechanism, sasl__username="holdfast",
                                   sasl__password=f"{{file: {password}}}")
                self.delivers(kafka, "topic-" + mechanism, *common, *login).kill()
                self.commands_read(kafka, "topic-" + mechanism, [*common, *login])
        token = os.path.join(self.directory, "token")
        with open(token, "w", encoding="utf-8") as file:
            file.write(unsecured_token("holdfast", 600) + "\n")
        with self.subTest("OAUTHBEARER"):
            login = properties(sasl__mechanism="OAUTHBEARER",
                               sasl__oauthbearer__token__endpoint__url="file://" + token)
            self.delivers(kafka, "topic-OAUTHBEARER", *common, *login)
            self.commands_read(kafka, "topic-OAUTHBEARER", [*common, *login])

    def test_a_certificate_says_who_the_agent_is(self):
        kafka = self.secured("SSL", {"ssl.client.auth": "required"})
        certificate, key, _ = self.authority.issue("holdfast")
        login = properties(security__protocol="SSL", ssl__ca__location=self.authority.ca,
                           ssl__certificate__location=certificate, ssl__key__location=key)
        self.delivers(kafka, "topic", *login)
        self.commands_read(kafka, "topic", login)

    def test_sessions_that_end_are_prolonged_without_losing_anything(self):
        kafka = self.secured("SASL_SSL", {"connections.max.reauth.ms": "2000"})
        agent = self.delivers(kafka, "topic", *properties(
            security__protocol="SASL_SSL", ssl__ca__location=self.authority.ca,
            sasl__mechanism="PLAIN", sasl__username="holdfast", sasl__password=PASSWORD))
        end = time.monotonic() + 7
        count = 0
        while time.monotonic() < end:
            produce(agent.address, "topic", [f"later {n}" for n in range(count, count + 50)])
            count += 50
        agent.wait_drained()
        lines = [f"topic {n}" for n in range(100)] + [f"later {n}" for n in range(count)]
        self.assertEqual(consume(kafka.address, "topic"), lines)
        self.assertEqual(agent.metric("holdfast_agent_upstream_errors_total"), 0)

    def test_clients_that_speak_for_themselves_produce_what_the_tier_lets_them(self):
        kafka = self.secured("SASL_SSL")
        agent = self.agent(kafka.upstream, *properties(
            security__protocol="SASL_SSL", ssl__ca__location=self.authority.ca,
            sasl__mechanism="PLAIN", sasl__username="holdfast", sasl__password=PASSWORD)).start()
        admin = kafka.admin()
        for topic in ("allowed", "forbidden"):
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
        for topic, operations in (("allowed", ("Write", "Describe", "Read")),
                                  ("forbidden", ("Describe",))):
            apache_kafka.java("org.apache.kafka.tools.AclCommand", "--bootstrap-server",
                              kafka.address, "--add", "--allow-principal", "User:orders",
                              "--topic", topic,
                              *(word for name in operations for word in ("--operation", name)))

        def outcomes(topic, **changed):
            client = {"bootstrap.servers": agent.address, "security.protocol": "SASL_PLAINTEXT",
                      "sasl.mechanism": "PLAIN", "sasl.username": "orders",
                      "sasl.password": "orders-secret", "message.timeout.ms": 5000,
                      "log_level": 0, "error_cb": lambda error: None}
            given = []
            producer = Producer(client | {name.replace("_", "."): value
                                          for name, value in changed.items()})
            producer.produce(topic, "from orders",
                             on_delivery=lambda error, _: given.append(error and error.name()))
            producer.flush(15)
            return given

        self.assertEqual(outcomes("allowed"), [None])
        self.assertEqual(outcomes("forbidden"), ["TOPIC_AUTHORIZATION_FAILED"])
        self.assertEqual(outcomes("allowed", sasl_password="wrong"), ["_MSG_TIMED_OUT"])
        self.assertEqual(outcomes("allowed", security_protocol="PLAINTEXT"), ["_MSG_TIMED_OUT"])
        agent.wait_drained()
        self.assertEqual(consume(kafka.address, "allowed"), ["from orders"])
        self.assertEqual(consume(kafka.address, "forbidden"), [])
        self.assertEqual(consume(agent.address, "allowed", "-X", "security.protocol=SASL_PLAINTEXT",
                                 "-X", "sasl.mechanism=PLAIN", "-X", "sasl.username=orders",
                                 "-X", "sasl.password=orders-secret"), ["from orders"])

    def test_what_is_not_trusted_is_said_and_waited_for(self):
        kafka = self.secured("SASL_SSL")
        other = Authority(self.directory, "other")
        agent = self.agent(kafka.upstream, *properties(
            security__protocol="SASL_SSL", ssl__ca__location=other.ca, sasl__mechanism="PLAIN",
            sasl__username="holdfast", sasl__password="wrong")).start()
        wait_for(lambda: "certificate of 127.0.0.1 is not accepted" in agent.log(),
                 what="a line about the certificate")
        os.replace(self.authority.ca, other.ca)
        wait_for(lambda: "SASL_AUTHENTICATION_FAILED" in agent.log(), 30,
                 "a line about the password")
        self.assertNotIn("wrong", agent.log())


if __name__ == "__main__":
    apache_kafka.main()
