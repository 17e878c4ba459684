#!/usr/bin/python3
"""Apache Kafka's own TopicCommand, ConsoleProducer and ConsoleConsumer (4.2.1) against the broker
and through the agent.
"""

import json
import os
import subprocess
import time

import apache_kafka
import harness
from apache_kafka import JAVA, java
from certificates import Authority
from harness import free_port, wait_for
from tokens import Issuer, publish

TOOLS = "org.apache.kafka.tools."


def kafka_tool(name, *arguments, **options):
    return java(TOOLS + name, *arguments, **options)


class JavaClientsTest(apache_kafka.Case):
    def run_all(self, address, prefix):
        topic = prefix + "-java"
        kafka_tool("TopicCommand", "--bootstrap-server", address, "--create", "--topic", topic,
                   "--partitions", "3", "--replication-factor", "1")
        listed = kafka_tool("TopicCommand", "--bootstrap-server", address, "--list")
        self.assertIn(topic, listed.split())
        described = kafka_tool("TopicCommand", "--bootstrap-server", address, "--describe",
                               "--topic", topic)
        self.assertIn("PartitionCount: 3", described)

        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            lines = [f"key{n}:{codec} value {n}" for n in range(200)]
            kafka_tool("ConsoleProducer", "--bootstrap-server", address, "--topic", topic,
                       "--compression-codec", codec, "--reader-property", "parse.key=true",
                       "--reader-property", "key.separator=:", data="\n".join(lines) + "\n")
        total = 5 * 200
        wait_for(lambda: self.tier.metric("holdfast_broker_produced_records_total") >= total,
                 what="all records in the tier")
        for extra in ([], ["--group", prefix + "-group"],
                      ["--group", prefix + "-newer", "--consumer-property",
                       "group.protocol=consumer"]):
            out = kafka_tool("consumer.ConsoleConsumer", "--bootstrap-server", address,
                             "--topic", topic, "--from-beginning", "--max-messages", str(total),
                             "--timeout-ms", "30000", "--formatter-property", "print.key=true",
                             *extra)
            got = [line.split("\t") for line in out.splitlines() if "\t" in line]
            self.assertEqual(len(got), total)
            for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
                of_codec = [pair for pair in got if pair[1].startswith(codec)]
                self.assertEqual(sorted(of_codec),
                                 sorted([f"key{n}", f"{codec} value {n}"] for n in range(200)))

    def test_against_the_broker(self):
        self.tier = self.broker().start()
        self.run_all(self.tier.address, "direct")

    def test_a_compacted_topic_is_read_from_the_beginning(self):
        self.tier = self.broker("--set", "broker.compaction.check_interval_ms=500").start()
        address = self.tier.address
        kafka_tool("TopicCommand", "--bootstrap-server", address, "--create",
                   "--topic", "compacted",
                   "--partitions", "1", "--config", "cleanup.policy=compact",
                   "--config", "segment.ms=500", "--config", "min.cleanable.dirty.ratio=0.01")
        # The last batch of a partition is never compacted.
        for codec in ("none", "gzip", "snappy", "lz4", "zstd", "last"):
            lines = [f"key{n % 20}:{codec} {n}" for n in range(500)]
            if codec == "last":
                codec, lines = "none", ["end:1"]
            kafka_tool("ConsoleProducer", "--bootstrap-server", address, "--topic", "compacted",
                       "--compression-codec", codec, "--reader-property", "parse.key=true",
                       "--reader-property", "key.separator=:", data="\n".join(lines) + "\n")
        def read():
            out = kafka_tool("consumer.ConsoleConsumer", "--bootstrap-server", address, "--topic",
                             "compacted", "--from-beginning", "--timeout-ms", "5000",
                             "--formatter-property", "print.key=true",
                             "--formatter-property", "print.offset=true")
            return [line.split("\t") for line in out.splitlines() if line.startswith("Offset:")]

        wait_for(lambda: len(read()) < 100, timeout=60, what="most of 2500 records to go")
        got = read()
        self.assertEqual({key: value for _, key, value in got},
                         {f"key{n % 20}": f"zstd {n}" for n in range(480, 500)} | {"end": "1"})
        offsets = [int(offset.split(":")[1]) for offset, _, _ in got]
        self.assertEqual(offsets, sorted(set(offsets)))
        self.assertEqual(offsets[-1], 2500)

    def test_through_the_agent(self):
        self.tier = self.broker().start()
        agent = self.agent(self.tier.address).start()
        self.run_all(agent.address, "through")

    def test_a_consumer_keeps_one_fetch_session(self):
        self.tier = self.broker().start()
        kafka_tool("TopicCommand", "--bootstrap-server", self.tier.address, "--create", "--topic",
                   "many", "--partitions", "30", "--replication-factor", "1")
        total = 20 * 50
        consumer = subprocess.Popen(
            [*JAVA, "-Xmx256m", TOOLS + "VerifiableConsumer", "--bootstrap-server",
             self.tier.address, "--topic", "many", "--group-id", "readers", "--max-messages",
             str(total)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_for(lambda: self.tier.metric("holdfast_broker_fetch_session_partitions") == 30, 60,
                     "a session of all partitions")
            for number in range(20):
                harness.produce(self.tier.address, "many", [f"{number} {n}" for n in range(50)],
                                "-p", str(number % 7))
            out, errors = consumer.communicate(timeout=60)
        finally:
            consumer.kill()
        self.assertEqual(consumer.returncode, 0, errors)
        consumed = sum(event["count"] for event in map(json.loads, out.splitlines())
                       if event["name"] == "records_consumed")
        self.assertEqual(consumed, total)
        self.assertNotIn('holdfast_broker_errors_total{code="FETCH_SESSION_ID_NOT_FOUND"}',
                         self.tier.get("/metrics"))
        self.assertEqual(self.tier.metric("holdfast_broker_fetch_sessions"), 0)

    def test_one_producer_with_the_tier_away_at_first(self):
        tier = self.broker()
        agent = self.agent(tier.address, "--set", "agent.topics=[{name: orders}]",
                           "--set", "agent.upstream.backoff_max_ms=500ms").start()
        producer = subprocess.Popen(
            [*JAVA, "-Xmx256m", TOOLS + "ConsoleProducer", "--bootstrap-server", agent.address,
             "--topic", "orders"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        lines = [f"line {n}" for n in range(300)]

        def send(some):
            producer.stdin.write("\n".join(some) + "\n")
            producer.stdin.flush()

        def acknowledged(count):
            wait_for(lambda: agent.metric("holdfast_agent_acknowledged_records_total") == count,
                     60, f"{count} records acknowledged")

        send(lines[:100])
        acknowledged(100)
        tier.start()
        wait_for(lambda: agent.metric("holdfast_agent_forwarded_records_total") == 100,
                 30, "what was sent before first contact in the tier")
        send(lines[100:200])
        acknowledged(200)
        tier.kill()
        send(lines[200:])
        acknowledged(300)
        tier.start()
        errors = producer.communicate(timeout=60)[1]
        self.assertEqual(producer.returncode, 0, errors)
        agent.wait_drained()
        self.assertEqual(harness.consume(tier.address, "orders"), lines)

    def test_rules_credentials_and_quotas_by_kafkas_tools(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("broker")
        secure = f"localhost:{free_port()}"
        path = os.path.join(self.directory, "broker.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"broker": {
                "authorizer": {"enabled": True, "super_users": ["User:admin"]},
                "users": [{"name": "admin", "password": "admin-secret"}],
                "listeners": [{"name": "secure", "listen": secure,
                               "tls": {"certificate": certificate, "key": key},
                               "sasl": {"mechanisms": ["SCRAM-SHA-512"]}}]}}, file)
        self.broker("--config", path).start()

        def properties(user, password):
            name = os.path.join(self.directory, user + ".properties")
            with open(name, "w", encoding="utf-8") as file:
                file.write(
                    "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
                    f"ssl.truststore.type=PEM\nssl.truststore.location={authority.ca}\n"
                    "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule "
                    f'required username="{user}" password="{password}";\n')
            return name

        admin = ["--bootstrap-server", secure, "--command-config",
                 properties("admin", "admin-secret")]
        configs = "kafka.admin.ConfigCommand"
        java(configs, *admin, "--alter", "--entity-type", "users", "--entity-name", "orders",
             "--add-config", "SCRAM-SHA-512=[iterations=8192,password=orders-secret]")
        java(configs, *admin, "--alter", "--entity-type", "users", "--entity-name", "orders",
             "--add-config", "producer_byte_rate=20000")
        shown = java(configs, *admin, "--describe", "--entity-type", "users")
        self.assertIn("SCRAM-SHA-512=iterations=8192", shown)
        self.assertIn("producer_byte_rate=20000.0", shown)
        kafka_tool("AclCommand", *admin, "--add", "--allow-principal", "User:orders",
                   "--producer", "--topic", "orders", "--resource-pattern-type", "prefixed")
        kafka_tool("AclCommand", *admin, "--add", "--allow-principal", "User:orders",
                   "--consumer", "--topic", "orders", "--group", "readers",
                   "--resource-pattern-type", "prefixed")
        listed = kafka_tool("AclCommand", *admin, "--list", "--principal", "User:orders")
        for operation in ("WRITE", "CREATE", "DESCRIBE", "READ"):
            self.assertIn(f"operation={operation}, permissionType=ALLOW", listed)
        kafka_tool("TopicCommand", *admin, "--create", "--topic", "other")

        orders = properties("orders", "orders-secret")
        lines = [f"{n} " + "x" * 1000 for n in range(350)]
        begun = time.monotonic()
        kafka_tool("ConsoleProducer", "--bootstrap-server", secure, "--topic", "orders-1",
                   "--command-config", orders, "--command-property", "batch.size=10000",
                   data="\n".join(lines) + "\n")
        # 350 kB, where 200 kB may come in ten seconds. The producer waits for no throttle behind
        # its last five batches of 10 kB: half a second for each of the ten before.
        self.assertGreater(time.monotonic() - begun, 2)
        out = kafka_tool("consumer.ConsoleConsumer", "--bootstrap-server", secure, "--topic",
                         "orders-1", "--from-beginning", "--max-messages", "350", "--timeout-ms",
                         "30000", "--command-config", orders, "--group", "readers-1")
        self.assertEqual([line for line in out.splitlines() if line], lines)
        # What is not allowed is not even seen.
        topics = kafka_tool("TopicCommand", "--bootstrap-server", secure, "--command-config",
                            orders, "--list")
        self.assertEqual(topics.split(), ["orders-1"])
        with self.assertRaisesRegex(AssertionError, "Cluster authorization failed"):
            kafka_tool("AclCommand", "--bootstrap-server", secure, "--command-config", orders,
                       "--list")
        with self.assertRaisesRegex(AssertionError, "SaslAuthenticationException"):
            kafka_tool("TopicCommand", "--bootstrap-server", secure, "--command-config",
                       properties("orders", "wrong"), "--list")
        kafka_tool("AclCommand", *admin, "--remove", "--force", "--topic", "orders",
                   "--resource-pattern-type", "prefixed")
        listed = kafka_tool("AclCommand", *admin, "--list", "--topic", "*")
        self.assertNotIn("User:orders", listed)

    def test_tokens_by_kafkas_tools(self):
        issuer = Issuer(self.directory, "one")
        publish(self.path("keys.json"), issuer)
        unsecured = f"127.0.0.1:{free_port()}"
        bearer = {"mechanisms": ["OAUTHBEARER"]}
        path = self.path("broker.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"broker": {
                "authorizer": {"enabled": True, "super_users": ["User:admin"]},
                "sasl": {**bearer, "oauthbearer": {
                    "jwks_endpoint_url": "file://" + self.path("keys.json"),
                    "expected_audience": ["kafka"]}},
                "listeners": [{"name": "tests", "listen": unsecured,
                               "sasl": {**bearer, "max_reauth_ms": 3000,
                                        "oauthbearer": {"unsecured": True}}}]}}, file)
        tier = self.broker("--config", path).start()
        oauth = "org.apache.kafka.common.security.oauthbearer."

        def properties(name, *lines):
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\n"
                           + "\n".join(lines) + "\n")
            return self.path(name)

        def signed(name, token):
            with open(self.path(name + ".jwt"), "w", encoding="utf-8") as file:
                file.write(token)
            return properties(
                name, f"sasl.jaas.config={oauth}OAuthBearerLoginModule required;",
                f"sasl.login.callback.handler.class={oauth}OAuthBearerLoginCallbackHandler",
                f"sasl.oauthbearer.jwt.retriever.class={oauth}FileJwtRetriever",
                f"sasl.oauthbearer.token.endpoint.url=file://{self.path(name + '.jwt')}")

        def tool(name, *arguments, **options):
            files = [self.path(each + ".jwt") for each in ("admin", "orders", "other")]
            allowed = "-Dorg.apache.kafka.sasl.oauthbearer.allowed."
            return java(
                f"{allowed}files={','.join(files)}",
                f"{allowed}urls={','.join('file://' + file for file in files)}",
                f"org.apache.kafka.tools.{name}", *arguments, **options)

        admin = ["--bootstrap-server", tier.address, "--command-config",
                 signed("admin", issuer.token(sub="admin", aud="kafka", scope="all"))]
        tool("TopicCommand", *admin, "--create", "--topic", "orders")
        tool("AclCommand", *admin, "--add", "--allow-principal", "User:orders", "--producer",
             "--topic", "orders")
        orders = signed("orders", issuer.token(sub="orders", aud="kafka", scope="all"))
        tool("ConsoleProducer", "--bootstrap-server", tier.address, "--topic", "orders",
             "--command-config", orders, data="one\ntwo\n")
        with self.assertRaisesRegex(AssertionError, "Cluster authorization failed"):
            tool("AclCommand", "--bootstrap-server", tier.address, "--command-config", orders,
                 "--list")
        with self.assertRaisesRegex(AssertionError,
                                    'SaslAuthenticationException: {"status":"invalid_token"}'):
            tool("TopicCommand", "--bootstrap-server", tier.address, "--command-config",
                 signed("other", issuer.token(sub="orders", aud="x", scope="all")), "--list")

        # For longer than a session lasts, so that the consumer has to log in again.
        name = properties("unsecured", f"sasl.jaas.config={oauth}OAuthBearerLoginModule required "
                                       'unsecuredLoginStringClaim_sub="admin";')
        consumer = subprocess.Popen(
            [*JAVA, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server",
             unsecured, "--command-config", name, "--topic", "orders", "--from-beginning",
             "--max-messages", "3", "--timeout-ms", "30000"], stdout=subprocess.PIPE, text=True)
        time.sleep(8)
        tool("ConsoleProducer", "--bootstrap-server", tier.address, "--topic", "orders",
             "--command-config", orders, data="three\n")
        self.assertEqual(consumer.communicate(timeout=60)[0].split(), ["one", "two", "three"])


if __name__ == "__main__":
    apache_kafka.main()
