#!/usr/bin/python3
"""`holdfast doctor` against a real Apache Kafka that wants TLS and SASL, and knows rights."""

import json
import struct
import subprocess

import apache_kafka
import harness
from certificates import Authority
from harness import wait_for
from raw_kafka import Connection, text

from confluent_kafka.admin import AdminClient, NewTopic

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
# Of Kafka's protocol.
CREATE_ACLS, TOPIC, CLUSTER, LITERAL, ALLOW = 30, 2, 4, 3, 3
READ, WRITE, DESCRIBE_CONFIGS = 3, 4, 10


class DoctorTest(apache_kafka.Case):
    def allow(self, kafka, kind, name, operation):
        with Connection(kafka.address) as client:
            client.send(CREATE_ACLS, 1, struct.pack(">ib", 1, kind) + text(name)
                        + bytes([LITERAL]) + text("User:agent") + text("*")
                        + bytes([operation, ALLOW]))
            answer = client.receive()
        self.assertEqual(answer[8:10], b"\0\0", answer)

    @staticmethod
    def rules(kafka):
        """How many."""
        done = subprocess.run([harness.HOLDFAST, "acl", "list", "-b", kafka.address, "--format",
                               "json"], capture_output=True, text=True, timeout=60, check=True)
        return len(json.loads(done.stdout))

    def doctor(self, kafka, *arguments, code, password="right"):
        properties = {"security.protocol": "SASL_SSL", "ssl.ca.location": self.authority.ca,
                      "sasl.mechanism": "PLAIN", "sasl.username": "agent",
                      "sasl.password": password}
        for name, value in properties.items():
            arguments += ("--set", f"agent.upstream.properties.{name}={value}")
        done = subprocess.run(
            [harness.HOLDFAST, "doctor", "--json", "--only", "upstream", "--upstream",
             kafka.upstream, *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return json.loads(done.stdout)["findings"]

    @staticmethod
    def by_code(findings, code):
        return [one["what"] for one in findings if one["code"] == code]

    def test_what_kafka_tells_of_itself(self):
        self.authority = Authority(self.directory)
        _, _, both = self.authority.issue("tier", days=60)
        link = {"ssl.keystore.type": "PEM", "ssl.keystore.location": both,
                "sasl.enabled.mechanisms": "PLAIN",
                "plain.sasl.jaas.config": f'{PLAIN} required user_agent="right";'}
        kafka = self.kafka({
            "listener.security.protocol.map":
                "DIRECT:PLAINTEXT,LINK:SASL_SSL,CONTROLLER:PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "producer.id.expiration.ms": 3600000,
        } | {f"listener.name.link.{name}": value for name, value in link.items()}).start()
        admin = AdminClient({"bootstrap.servers": kafka.address, "log_level": 0})
        small = {"max.message.bytes": "2000", "min.insync.replicas": "2"}
        for made in admin.create_topics([NewTopic("open", 2, 1), NewTopic("closed", 1, 1),
                                         NewTopic("small", 1, 1, config=small)]).values():
            made.result(20)
        for topic in "open", "small":
            for operation in READ, WRITE, DESCRIBE_CONFIGS:
                self.allow(kafka, TOPIC, topic, operation)
        self.allow(kafka, CLUSTER, "kafka-cluster", DESCRIBE_CONFIGS)
        # Its controller has acknowledged all of it; a broker knows a little later.
        wait_for(lambda: self.rules(kafka) == 7 and
                 {"open", "closed", "small"} <= set(admin.list_topics(timeout=20).topics),
                 what="topics and rules")
        named = ("--set", "agent.topics=[{name: open}, {name: closed}, {name: small}]",
                 "--set", "agent.upstream.delivery=transactional")
        findings = self.doctor(kafka, *named, code=1)
        said = "\n".join(one["what"] for one in findings)
        for part in ("TLS, certificate until", "logged in by PLAIN",
                     f"cluster {apache_kafka.CLUSTER_ID} has 1 broker", "topic open: 2 partitions",
                     "may produce idempotently"):
            self.assertIn(part, said)
        for code, what in (("HF9313", "topic closed"), ("HF9318", "topic small"),
                           ("HF9320", "topic small"), ("HF9316", "transactional ids"),
                           ("HF9323", "forgets producers after 1 h")):
            found = self.by_code(findings, code)
            self.assertEqual(len(found), 1, said)
            self.assertIn(what, found[0])
        findings = self.doctor(kafka, password="wrong", code=1)
        self.assertEqual(len(self.by_code(findings, "HF9306")), 1, findings)
        # It answers, and tells an address that leads nowhere.
        kafka.stop()
        with open(kafka.properties_path, "a", encoding="utf-8") as file:
            file.write(f"advertised.listeners=DIRECT://{kafka.address},LINK://127.0.0.1:1\n")
        kafka.start()
        findings = self.doctor(kafka, code=1)
        self.assertIn("127.0.0.1:1: connect: Connection refused",
                      self.by_code(findings, "HF9311")[0])


if __name__ == "__main__":
    apache_kafka.main()
