#!/usr/bin/python3
"""What the agent delivers to a real Apache Kafka when something goes wrong on the way."""

import json
import subprocess
import time
import urllib.request

import apache_kafka
import harness
import relay
from harness import kcat, wait_for

from confluent_kafka import Producer
from confluent_kafka.admin import ConfigResource, NewTopic

DAY_MS = 24 * 3600 * 1000


def lines(first, last):
    return [f"line {n}" for n in range(first, last)]


class DeliveryTest(apache_kafka.Case):
    def begin(self, topic, *settings):
        self.topic = topic
        # Kafka forgets a producer that was silent for a day whenever it looks.
        self.tier = self.shared_kafka({"num.partitions": 1, "auto.create.topics.enable": "false",
                                       "producer.id.expiration.check.interval.ms": 1000},
                                      relay=True)
        self.admin = self.tier.admin()
        self.make_topic()
        self.sidecar = self.agent(
            self.tier.upstream, "--set", "agent.upstream.backoff_max_ms=300ms",
            "--set", "agent.upstream.metadata_refresh_ms=1s",
            "--set", "agent.upstream.timeout_ms=5s", *settings).start()
        self.producer = Producer({"bootstrap.servers": self.sidecar.address, "linger.ms": 20,
                                  "log_level": 2})

    def make_topic(self):
        for done in self.admin.create_topics([NewTopic(self.topic, 1, 1)]).values():
            done.result(30)

    def delete_topic(self):
        for done in self.admin.delete_topics([self.topic]).values():
            done.result(30)

    def set_limit(self, **settings):
        config = {name.replace("_", "."): str(value) for name, value in settings.items()}
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.topic, set_config=config)
        for done in self.admin.alter_configs([resource]).values():
            done.result(30)

    def produce(self, values, timestamp=0):
        """Until the agent has acknowledged them."""
        failed = []
        for value in values:
            self.producer.produce(self.topic, value, timestamp=timestamp,
                                  on_delivery=lambda error, _: error and failed.append(error))
        self.assertEqual(self.producer.flush(30), 0)
        self.assertEqual(failed, [])

    def stored(self):
        # A topic that was just made may not be readable yet.
        return kcat("-C", "-q", "-b", self.tier.address, "-t", self.topic, "-o", "beginning", "-e",
                    check=False).splitlines()

    def wait_stored(self, expected):
        wait_for(lambda: len(self.stored()) >= len(expected), 60, f"{len(expected)} in Kafka")
        self.sidecar.wait_drained()
        self.assertEqual(self.stored(), expected)

    def status(self):
        return json.loads(self.sidecar.get("/status"))

    def post(self, path):
        request = urllib.request.Request(f"http://{self.sidecar.admin}{path}", method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status

    def dlq(self, verb, *arguments):
        return subprocess.run([harness.HOLDFAST, "dlq", verb, self.path("agent"), *arguments],
                              check=True, capture_output=True, text=True).stdout

    def dlq_topic(self, verb, *arguments):
        """What the command does by the agent's configuration: exit code, output and complaints."""
        path = self.path("agent.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"agent": {"listen": ["127.0.0.1:0"], "spool": {"directory": "unused"},
                                 "upstream": {"bootstrap": [self.tier.address]},
                                 "dead_letters": {"policy": "topic",
                                                  "topic_name": self.topic + ".dead"}}}, file)
        done = subprocess.run([harness.HOLDFAST, "dlq", verb, path, *arguments],
                              capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def letters(self):
        """How many dead letters of which stream are still to be replayed."""
        code, out, complaints = self.dlq_topic("ls", "--json")
        self.assertEqual((code, complaints), (0, ""))
        return {line["stream"]: line["records"] for line in map(json.loads, out.splitlines())}

    def test_lost_answers_and_crashes_neither_lose_nor_double_records(self):
        self.begin("lost-answers")
        self.produce(lines(0, 100))
        self.wait_stored(lines(0, 100))

        # Kafka has stored them, and nobody hears of it.
        self.tier.relay.hold(relay.ANSWERS)
        self.produce(lines(100, 200))
        wait_for(lambda: len(self.stored()) == 200, what="200 records in Kafka")
        self.tier.relay.reset()
        self.tier.relay.heal()
        self.wait_stored(lines(0, 200))

        # The same, and both processes are gone.
        self.tier.relay.hold(relay.ANSWERS)
        self.produce(lines(200, 300))
        wait_for(lambda: len(self.stored()) == 300, what="300 records in Kafka")
        self.sidecar.kill()
        self.tier.kill()
        self.tier.relay.heal()
        self.tier.start()
        self.sidecar.start()
        self.wait_stored(lines(0, 300))

    def test_records_of_a_producer_that_kafka_forgot_are_not_doubled(self):
        self.begin("forgotten")
        old = int(time.time() * 1000) - 2 * DAY_MS
        self.produce(lines(0, 5), old)
        self.wait_stored(lines(0, 5))
        self.tier.relay.hold(relay.ANSWERS)
        self.produce(lines(5, 10), old)
        wait_for(lambda: len(self.stored()) == 10, what="10 records in Kafka")
        self.tier.relay.cut()
        time.sleep(1.5)
        self.tier.relay.heal()
        self.produce(lines(10, 15), old)
        self.wait_stored(lines(0, 15))

    def test_a_topic_that_is_made_anew_gets_what_the_old_one_did_not(self):
        self.begin("anew")
        self.produce(lines(0, 50))
        self.wait_stored(lines(0, 50))
        self.tier.relay.cut()
        self.produce(lines(50, 60))
        self.delete_topic()
        wait_for(lambda: self.topic not in self.admin.list_topics(timeout=10).topics,
                 what="the topic to be gone")
        self.make_topic()
        wait_for(lambda: self.topic in self.admin.list_topics(timeout=10).topics,
                 what="the new topic")
        self.tier.relay.heal()
        self.wait_stored(lines(50, 60))

    def test_dead_letters_are_set_aside_and_can_be_replayed(self):
        self.begin("orders")
        self.produce(lines(0, 5))
        self.wait_stored(lines(0, 5))
        self.tier.relay.cut()
        large = "x" * 50000
        self.produce([*lines(5, 10), large, *lines(10, 15)])
        self.set_limit(max_message_bytes=5000)
        self.tier.relay.heal()
        self.wait_stored(lines(0, 15))

        self.assertEqual(self.status()["dead_letters"],
                         {"records": 1, "streams": [{"stream": "orders/0", "records": 1}]})
        self.assertIn("orders/0", self.dlq("ls"))
        letter = json.loads(self.dlq("cat", "orders/0", "--format", "json"))
        self.assertEqual(letter["value"], large)
        headers = {header["key"]: header["value"] for header in letter["headers"]}
        self.assertEqual(headers["holdfast.dlq.error"], "MESSAGE_TOO_LARGE")
        self.assertEqual(headers["holdfast.dlq.offset"], "10")

        # Too early: it is one again.
        self.assertEqual(self.post("/dead-letters/replay?stream=orders/0"), 202)
        wait_for(lambda: json.loads(self.dlq("ls", "--json") or "{}").get("start") == 1,
                 what="the dead letter again")
        self.assertEqual(self.status()["dead_letters"]["records"], 1)

        self.set_limit(max_message_bytes=1000000)
        self.assertEqual(self.sidecar.stop(), 0)
        self.assertEqual(self.dlq("replay"), "orders/0: 1 records are to be delivered again\n")
        self.sidecar.start()
        self.wait_stored([*lines(0, 15), large])
        self.assertEqual(self.status()["dead_letters"]["records"], 0)

    def test_dead_letters_in_a_topic_can_be_replayed(self):
        self.begin("from-topic", "--set", "agent.dead_letters.policy=topic",
                   "--set", "agent.dead_letters.topic_name=from-topic.dead")
        self.admin.create_topics([NewTopic("from-topic.dead", 2, 1)])["from-topic.dead"].result(30)
        self.produce(lines(0, 5))
        self.wait_stored(lines(0, 5))
        self.tier.relay.cut()
        large = [f"{n} {'x' * 50000}" for n in range(3)]
        self.produce([*lines(5, 10), *large, *lines(10, 15)])
        self.set_limit(max_message_bytes=5000)
        self.tier.relay.heal()
        self.wait_stored(lines(0, 15))
        wait_for(lambda: self.letters() == {"from-topic/0": 3}, what="three dead letters")

        code, out, _ = self.dlq_topic("cat", "from-topic/0", "--format", "json", "--count", "2")
        self.assertEqual(code, 0)
        shown = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([letter["value"] for letter in shown], large[:2])
        self.assertEqual([letter["offset"] for letter in shown], [10, 11])
        code, _, complaints = self.dlq_topic("cat", "from-topic/7")
        self.assertEqual((code, "no dead letters of from-topic/7" in complaints), (1, True))

        # Too early: they are there again, and once each. So does what belongs to nobody.
        stranger = Producer({"bootstrap.servers": self.tier.address, "log_level": 2})
        stranger.produce("from-topic.dead", b"from somebody else", partition=1)
        self.assertEqual(stranger.flush(30), 0)
        code, out, complaints = self.dlq_topic("replay")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("from-topic/0: 3 records were refused again, MESSAGE_TOO_LARGE", complaints)
        self.assertEqual(self.letters(), {"from-topic/0": 3, "-": 1})

        self.set_limit(max_message_bytes=1000000)
        code, out, complaints = self.dlq_topic("replay", "from-topic/3")
        self.assertEqual((code, complaints), (0, "holdfast: there are no dead letters\n"))
        self.assertEqual(self.dlq_topic("replay"),
                         (0, "from-topic/0: 3 records were delivered again\n", ""))
        self.wait_stored([*lines(0, 15), *large])
        self.assertEqual(self.letters(), {"-": 1})
        self.assertEqual(self.dlq_topic("replay"),
                         (0, "", "holdfast: there are no dead letters\n"))
        self.wait_stored([*lines(0, 15), *large])

    def test_a_replay_that_is_killed_moves_each_dead_letter_once(self):
        self.begin("replayed")
        self.admin.create_topics([NewTopic("replayed.dead", 2, 1)])["replayed.dead"].result(30)
        count = 20000
        headers = [("holdfast.dlq.topic", "replayed"), ("holdfast.dlq.partition", "0")]
        letters = Producer({"bootstrap.servers": self.tier.address, "log_level": 2})
        for number in range(count):
            letters.produce("replayed.dead", f"letter {number}", partition=number % 2,
                            headers=[*headers, ("own", str(number))])
            letters.poll(0)
        self.assertEqual(letters.flush(30), 0)
        code, _, _ = self.dlq_topic("ls")
        self.assertEqual(code, 0)
        killed = 0
        while True:
            replay = subprocess.Popen([harness.HOLDFAST, "dlq", "replay", self.path("agent.yaml")],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                self.assertEqual(replay.wait(0.3 + 0.2 * killed), 0)
                break
            except subprocess.TimeoutExpired:
                replay.kill()
                replay.wait()
                killed += 1
        self.assertGreaterEqual(killed, 2)
        stored = kcat("-C", "-q", "-b", self.tier.address, "-t", "replayed", "-e",
                      "-o", "beginning", "-X", "isolation.level=read_committed",
                      "-f", "%s %h\n").splitlines()
        self.assertCountEqual(stored, [f"letter {n} own={n}" for n in range(count)])

    def test_a_parked_partition_goes_on_when_somebody_asks(self):
        self.begin("parked", "--set", "agent.dead_letters.policy=park")
        self.produce(lines(0, 5))
        self.wait_stored(lines(0, 5))
        self.tier.relay.cut()
        self.produce(lines(5, 10))
        self.set_limit(max_message_bytes=50)
        self.tier.relay.heal()
        parked = wait_for(lambda: self.status()["delivery"]["parked_streams"], 30, "parking")
        self.assertEqual(parked[0]["stream"], "parked/0")
        self.assertIn("MESSAGE_TOO_LARGE", parked[0]["trouble"])
        self.set_limit(max_message_bytes=1000000)
        self.assertEqual(self.post("/resume?stream=parked/0"), 202)
        self.wait_stored(lines(0, 10))


if __name__ == "__main__":
    apache_kafka.main()
