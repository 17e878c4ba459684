#!/usr/bin/python3
"""`holdfast topic`, `group`, `acl`, `config`, `produce` and `consume` against a real Apache Kafka,
whose own tools say the same."""

import json
import re
import subprocess

import apache_kafka
import harness
from apache_kafka import java
from harness import wait_for

TOOLS = "org.apache.kafka.tools."


class ClientCommandsTest(apache_kafka.Case):
    def holdfast(self, *arguments, code=0, data=None):
        done = subprocess.run([harness.HOLDFAST, *arguments, "-b", self.kafka_.address],
                              input=data or "", capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, (arguments, done.stdout, done.stderr))
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments):
        return json.loads(self.holdfast(*arguments, "--format", "json"))

    def until(self, told, expected):
        """A broker of Kafka learns a little later what its controller has acknowledged."""
        wait_for(lambda: told() == expected, 30, expected)

    def topics(self):
        return [(one["name"], one["partitions"]) for one in self.json("topic", "list")]

    def configs(self, *entity):
        return {one["name"]: (one["value"], one["source"])
                for one in self.json("config", "describe", *entity)}

    def kafkas(self, tool, *arguments):
        return java(tool, "--bootstrap-server", self.kafka_.address, *arguments)

    def test_every_verb(self):
        self.kafka_ = self.kafka({
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS"}).start()

        self.holdfast("topic", "create", "t", "-p", "2", "-c", "retention.ms=100000000")
        self.until(self.topics, [("t", 2)])
        self.assertIn("TOPIC_ALREADY_EXISTS", self.holdfast("topic", "create", "t", code=1))
        self.assertIn("INVALID_REPLICATION_FACTOR",
                      self.holdfast("topic", "create", "u", "-r", "3", code=1))
        self.assertEqual(self.topics(), [("t", 2)])
        self.holdfast("topic", "add-partitions", "t", "--num", "1")
        self.until(self.topics, [("t", 3)])
        self.holdfast("topic", "alter-config", "t", "--set", "max.message.bytes=50000", "--delete",
                      "retention.ms")
        self.until(lambda: [(one["name"], one["value"])
                            for one in self.json("topic", "describe", "t")[0]["configs"]
                            if one["source"] == "topic"], [("max.message.bytes", "50000")])
        self.assertIn("max.message.bytes=50000",
                      self.kafkas(TOOLS + "TopicCommand", "--describe", "--topic", "t"))

        self.holdfast("config", "alter", "topic", "t", "--set", "retention.ms=360000000")
        self.assertIn("INVALID_CONFIG", self.holdfast("config", "alter", "topic", "t", "--set",
                                                      "retention.ms=x", code=1))
        self.holdfast("config", "alter", "broker", "1", "--set", "log.cleaner.threads=2")
        self.holdfast("config", "alter", "broker", "default", "--set", "log.retention.ms=99999999")
        names = ("log.cleaner.threads", "log.retention.ms", "node.id")
        self.until(lambda: [self.configs("broker", "1")[name] for name in names],
                   [("2", "broker"), ("99999999", "all brokers"), ("1", "broker's file")])

        offsets = self.holdfast("produce", "t", "-p", "1", "--offsets", "-f", "%k:%v\\n",
                                "-H", "h=x", "-z", "zstd", data="a:1\nb:2\nc:3\nd:4\n")
        self.assertEqual(offsets, "1@0\n1@1\n1@2\n1@3\n")
        self.assertIn("MESSAGE_TOO_LARGE",
                      self.holdfast("produce", "t", data="x" * 60000, code=1))
        self.holdfast("produce", "t", "-p", "0", "--transactional-id", "tx", data="all\nof\nit\n")
        self.holdfast("produce", "t", "-p", "1", "-k", "a", "-Z", data="\n")
        record = json.loads(self.holdfast("consume", "t", "-p", "1", "-o", "-1", "-n", "1", "-f",
                                          "json"))
        self.assertEqual((record["offset"], record["key"], record["value"]), (4, "a", None))
        self.assertEqual(self.holdfast("consume", "t", "-p", "0", "-e"), "all\nof\nit\n")
        # A key is where Kafka's own producer puts it.
        self.holdfast("produce", "t", "-f", "%k:%v\\n", data="where:holdfast\n")
        java(TOOLS + "ConsoleProducer", "--bootstrap-server", self.kafka_.address, "--topic", "t",
             "--reader-property", "parse.key=true", "--reader-property", "key.separator=:",
             data="where:kafka\n")
        placed = [line for line in self.holdfast("consume", "t", "-e", "-f", "%k %p\\n").split("\n")
                  if line.startswith("where")]
        self.assertEqual(len(placed), 2)
        self.assertEqual(placed[0], placed[1])

        self.holdfast("consume", "t", "-p", "1", "-n", "1", "-o", "2")
        self.assertEqual(len(self.holdfast("consume", "t", "-g", "g", "-n", "4").splitlines()), 4)
        self.assertIn("g", [one["name"] for one in self.json("group", "list")])
        for protocol in ("classic", "consumer"):
            self.members(protocol)
        moved = self.json("group", "seek", "g", "--to", "1", "--topics", "t", "--partitions", "1")
        self.assertEqual([one["after"] for one in moved], [1])
        described = self.kafkas(TOOLS + "consumer.group.ConsumerGroupCommand", "--describe",
                                "--group", "g")
        self.assertRegex(described, r"g +t +1 +1 +\d+")
        self.holdfast("group", "offset-delete", "g", "--topics", "t", "--partitions", "1")
        self.assertNotIn(1, [one["partition"]
                             for one in self.json("group", "describe", "g")[0]["partitions"]])
        self.holdfast("group", "delete", "g", "--yes")
        self.assertIn("GROUP_ID_NOT_FOUND", self.holdfast("group", "describe", "g", code=1))

        self.holdfast("acl", "create", "--allow-principal", "User:orders", "--operation", "read",
                      "--topic", "t", "--group", "g", "--resource-pattern-type", "prefixed")
        self.holdfast("acl", "create", "--deny-principal", "User:*", "--host", "10.0.0.7",
                      "--operation", "describe", "--transactional-id", "tx", "--cluster")
        self.until(lambda: len(self.json("acl", "list")), 4)
        listed = self.kafkas(TOOLS + "AclCommand", "--list")
        self.assertIn("resourceType=TRANSACTIONAL_ID, name=tx, patternType=LITERAL", listed)
        self.assertIn("resourceType=GROUP, name=g, patternType=PREFIXED", listed)
        self.assertEqual(len(self.json("acl", "list", "--topic", "topical",
                                       "--resource-pattern-type", "match")), 1)
        self.assertIn("deleted 4 rules", self.holdfast("acl", "delete", "--yes"))

        trimmed = self.holdfast("topic", "trim", "t", "-o", "3", "-p", "1", "--yes")
        self.assertRegex(trimmed, re.compile(r"^ +1 +0 +3$", re.M))
        self.holdfast("topic", "delete", "t", "--yes")
        wait_for(lambda: self.json("topic", "list") == [], 30, "the topic to be gone")

    def members(self, protocol):
        """A member of that protocol is shown with its partitions, and keeps others from moving
        the group."""
        consumer = subprocess.Popen(
            [*apache_kafka.JAVA, "-Xmx128m", TOOLS + "consumer.ConsoleConsumer",
             "--bootstrap-server", self.kafka_.address, "--topic", "t", "--group", protocol,
             "--from-beginning", "--command-property", f"group.protocol={protocol}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            consumer.stdout.readline()
            group = self.json("group", "describe", protocol)[0]
            self.assertEqual((group["type"], group["state"].upper(), group["members"]),
                             (protocol, "STABLE", 1))
            self.assertEqual([one["client"] for one in group["partitions"]],
                             ["console-consumer"] * 3)
            refused = self.holdfast("group", "seek", protocol, "--to", "end", code=1)
            self.assertIn("with 1 members: stop its consumers first", refused)
        finally:
            consumer.terminate()
            consumer.wait(30)
            consumer.stdout.close()
        wait_for(lambda: self.json("group", "describe", protocol)[0]["members"] == 0, 60,
                 "the member to be gone")
        self.holdfast("group", "seek", protocol, "--to", "end")
        self.assertEqual(self.json("group", "describe", protocol)[0]["lag"], 0)


if __name__ == "__main__":
    apache_kafka.main()
