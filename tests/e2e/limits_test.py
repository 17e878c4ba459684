#!/usr/bin/python3
"""What topics and clients may take, when records are acknowledged, what is dropped and how that is
told, and changing all this in a running agent."""

import json
import os
import re
import signal
import time
import unittest

import harness
from harness import Case, consume, produce, wait_for

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

SOON = ("--set", "agent.upstream.backoff_max_ms=500ms")


class LimitsTest(Case):
    def config(self, **agent):
        """Writes the agent's configuration file; JSON is YAML, too."""
        settings = {"topics": [{"name": name, "partitions": 1} for name in ("a", "b", "ledger")]}
        settings.update(agent)
        with open(self.path("holdfast.yaml"), "w", encoding="utf-8") as file:
            json.dump({"agent": settings}, file)
        return ("--config", self.path("holdfast.yaml"), *SOON)

    def send(self, address, topic, values, **properties):
        """Offsets or errors, one for each value."""
        answers = []

        def delivered(error, message):
            answers.append(error.name() if error else message.offset())

        producer = Producer({"bootstrap.servers": address, "linger.ms": 0,
                             "error_cb": lambda error: None,
                             **{key.replace("_", "."): value for key, value in properties.items()}})
        for value in values:
            producer.produce(topic, value, partition=0, on_delivery=delivered)
            producer.poll(0)
        producer.flush(30)
        return answers

    def ledger_of(self, agent, stream):
        return next((one for one in json.loads(agent.get("/ledger"))["streams"]
                     if one["stream"] == stream), None)

    def detail_of(self, agent, series, topic):
        """Of its partition 0, on the page with all streams."""
        found = re.findall(
            rf'^holdfast_agent_stream_{series}{{topic="{topic}",partition="0"}} (\S+)$',
            agent.get("/metrics/detail"), re.M)
        return float(found[0]) if found else None

    def test_upstream_and_both_answer_with_the_tiers_offset(self):
        tier = self.broker().start()
        produce(tier.address, "a", ["before 1", "before 2"])
        agent = self.agent(tier.address, *self.config(
            topic_rules=[{"topic": "a", "acks": "upstream"}, {"topic": "b", "acks": "both"}]))
        agent.start()
        self.assertEqual(self.send(agent.address, "a", ["1", "2"], enable_idempotence=True), [2, 3])
        self.assertEqual(self.send(agent.address, "b", ["1", "2"], enable_idempotence=True), [0, 1])
        self.assertEqual(consume(tier.address, "a"), ["before 1", "before 2", "1", "2"])

    def test_a_listener_may_ask_for_more_than_the_topic(self):
        tier = self.broker().start()
        produce(tier.address, "a", ["before"])
        agent = self.agent(tier.address, *self.config(
            listeners=[{"name": "strict", "listen": "127.0.0.1:0", "acks": "upstream"}])).start()
        with open(agent.out_path, encoding="utf-8") as out:
            strict = [line.split()[-1] for line in out if "listening on" in line][1]
        self.assertEqual(self.send(agent.address, "a", ["1"]), [0])
        self.assertEqual(self.send(strict, "a", ["2"]), [2])
        brokers = AdminClient({"bootstrap.servers": strict}).list_topics(timeout=10).brokers
        self.assertEqual([f"{one.host}:{one.port}" for one in brokers.values()], [strict])

    def test_an_idempotent_producer_waits_out_a_tier_that_is_away_without_duplicates(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *self.config(
            topic_rules=[{"topic": "a", "acks": "upstream"}])).start()
        self.send(agent.address, "a", ["0"], enable_idempotence=True)
        tier.kill()
        answers = []
        producer = Producer({"bootstrap.servers": agent.address, "enable.idempotence": True,
                             "request.timeout.ms": 1000, "error_cb": lambda error: None})
        producer.produce("a", "1", partition=0,
                         on_delivery=lambda error, _: answers.append(error))
        wait_for(lambda: producer.poll(0.1) or
                 agent.metric("holdfast_agent_duplicate_batches_total") > 0, 20, "a retry")
        self.assertEqual(answers, [])
        tier.start()
        producer.flush(30)
        self.assertEqual(answers, [None])
        self.assertEqual(consume(tier.address, "a"), ["0", "1"])

    def test_a_topic_at_its_limit_delays_only_itself_and_drops_what_its_rule_says(self):
        tier = self.broker()
        agent = self.agent(tier.address, *self.config(topic_rules=[
            {"topic": "a", "bytes_max": 20000, "when_full": "drop_oldest"},
            {"topic": "b", "bytes_max": 20000}])).start()
        values = [f"{n:04}" + "." * 1000 for n in range(100)]
        # One by one, so that each is a batch.
        for value in values:
            answer = self.send(agent.address, "a", [value])
            self.assertIsInstance(answer[0], int, answer)
        refused = self.send(agent.address, "b", values, message_timeout_ms=1500,
                            batch_num_messages=1)
        self.assertIn("_MSG_TIMED_OUT", refused)
        self.assertIsInstance(self.send(agent.address, "ledger", ["x"])[0], int)
        ledger = self.ledger_of(agent, "a/0")
        dropped = ledger["dropped_records"]
        self.assertGreater(dropped, 60)
        self.assertEqual([(one["begin"], one["end"], one["cause"]) for one in ledger["drops"]],
                         [(0, dropped, "made room")])
        self.assertEqual(self.detail_of(agent, "dropped_records_total", "a"), dropped)
        self.assertEqual(self.detail_of(agent, "dropped_bytes_total", "a"), ledger["dropped_bytes"])
        self.assertEqual(self.detail_of(agent, "backlog_records", "a"), 100 - dropped)
        self.assertEqual(self.detail_of(agent, "complete_until_timestamp_seconds", "a"),
                         ledger["complete_until_ms"] / 1000)
        self.assertIsNone(self.detail_of(agent, "tier_offset", "a"))
        self.assertNotIn('topic="a"', agent.get("/metrics") + agent.get("/metrics/detail?filter=b"))
        agent.kill()
        agent.start()
        tier.start()
        agent.wait_drained()
        self.assertEqual(consume(tier.address, "a"), values[dropped:])
        self.assertEqual(self.ledger_of(agent, "a/0")["drops"][0]["end"], dropped)
        self.assertEqual(self.detail_of(agent, "dropped_records_total", "a"), dropped)
        self.assertEqual(self.detail_of(agent, "confirmed_ordinal", "a"), 100)
        self.assertEqual(self.detail_of(agent, "backlog_records", "a"), 0)
        self.assertEqual(self.detail_of(agent, "tier_offset", "a"), 100 - dropped)

    def test_a_spool_that_fills_with_what_the_tier_is_to_acknowledge_says_when_it_is_full(self):
        agent = self.agent("127.0.0.1:1", *self.config(
            topic_rules=[{"topic": "a", "acks": "upstream"}],
            spool={"directory": self.path("agent"), "bytes_max": "64MiB"})).start()
        producer = Producer({"bootstrap.servers": agent.address, "linger.ms": 0,
                             "error_cb": lambda error: None})

        def fill():
            producer.produce("a", "." * 10000, partition=0)
            producer.poll(0)
            return json.loads(agent.get("/overview"))["disk"]["full_in_ms"]

        wait_for(fill, 20, "a time")
        self.assertEqual(agent.metric("holdfast_agent_acknowledged_bytes_total"), 0)
        producer.purge()

    def test_what_waits_at_the_start_does_not_fill_the_spool(self):
        agent = self.agent("127.0.0.1:1", *self.config(
            spool={"directory": self.path("agent"), "bytes_max": "64MiB"})).start()
        self.send(agent.address, "a", ["." * 100000] * 50)
        agent.kill()
        agent.start()
        for _ in range(6):
            self.assertIsNone(json.loads(agent.get("/overview"))["disk"]["full_in_ms"])
            time.sleep(1)
        self.assertGreater(agent.metric("holdfast_agent_backlog_bytes"), 5000000)

    def test_rates_slow_the_client_that_is_over_them(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *self.config(
            client_rules=[{"client": "greedy*", "bytes_per_second_max": 50000}])).start()
        values = ["." * 5000] * 30

        def seconds(client):
            begun = time.monotonic()
            answers = self.send(agent.address, "a", values, client_id=client,
                                batch_num_messages=1, max_in_flight=1)
            self.assertEqual(len(answers), len(values))
            return time.monotonic() - begun

        self.assertLess(seconds("modest"), 1.5)
        self.assertGreater(seconds("greedy-1"), 1.5)
        self.assertGreater(agent.metric("holdfast_agent_throttle_seconds_count"), 0)

    def test_a_reload_changes_rules_and_refuses_what_needs_a_restart(self):
        tier = self.broker()
        agent = self.agent(tier.address, *self.config()).start()
        producer = Producer({"bootstrap.servers": agent.address, "linger.ms": 0})
        failed = []
        producer.produce("a", "0", partition=0, on_delivery=lambda error, _: failed.append(error))
        producer.flush(20)
        self.config(topic_rules=[{"topic": "a", "bytes_max": 1}], drain_timeout_ms=5000)
        status, text = agent.post("/reload")
        self.assertEqual((status, text.strip()),
                         (200, "changed agent.drain_timeout_ms, agent.topic_rules"))
        self.assertEqual(self.send(agent.address, "a", ["1"], message_timeout_ms=1000),
                         ["_MSG_TIMED_OUT"])
        self.config(topic_rules=[], spool={"directory": self.path("agent"), "bytes_max": "1GiB"})
        status, text = agent.post("/reload")
        self.assertEqual(status, 409)
        self.assertIn("agent.spool.bytes_max", text)
        with open(self.path("holdfast.yaml"), "w", encoding="utf-8") as file:
            file.write("agent: {topc_rules: []}\n")
        status, text = agent.post("/reload")
        self.assertEqual(status, 409)
        self.assertIn("did you mean", text)
        self.config()
        os.kill(agent.child.pid, signal.SIGHUP)
        wait_for(lambda: "reloaded" in agent.log().splitlines()[-1], 10, "SIGHUP to be heard")
        # The same connection, all the time.
        producer.produce("a", "2", partition=0, on_delivery=lambda error, _: failed.append(error))
        producer.flush(20)
        self.assertEqual(failed, [None, None])
        self.assertEqual(json.loads(agent.get("/config"))["agent"].get("topic_rules", []), [])

    def test_draining_waits_for_the_tier_and_says_what_is_left(self):
        tier = self.broker()
        agent = self.agent(tier.address, *self.config()).start()
        self.send(agent.address, "a", [str(n) for n in range(100)])
        for wrong in ("9223372036854775807", "200000d", "25h", "-1s", "soon"):
            self.assertEqual(agent.post(f"/drain?deadline={wrong}"),
                             (400, "deadline must be a duration of at most 1d, such as 30s\n"))
        self.assertIn('"draining": false', agent.get("/status"))
        status, _ = agent.post("/drain?deadline=30s")
        self.assertEqual(status, 202)
        wait_for(lambda: '"draining": true' in agent.get("/status"), 10, "draining")
        tier.start()
        self.assertEqual(agent.child.wait(30), 0)
        agent.child = None
        self.assertEqual(consume(tier.address, "a"), [str(n) for n in range(100)])
        agent.start()
        tier.kill()
        self.send(agent.address, "a", ["left"])
        agent.post("/drain?deadline=500ms")
        self.assertEqual(agent.child.wait(30), 0)
        agent.child = None
        self.assertIn("until the next start: 1 record (", agent.log())

    def test_a_schedule_keeps_records_here_until_it_is_changed(self):
        hours = [time.strftime("%H:00", time.gmtime(time.time() + ahead * 3600))
                 for ahead in (2, 3)]
        later = {"bootstrap": "127.0.0.1:1", "schedule": {
            "clock": "utc", "high_priority_always": True, "windows": [{"when": "-".join(hours)}]}}
        rules = [{"topic": "b", "priority": "high"}]
        tier = self.broker().start()
        agent = self.agent(tier.address, *self.config(upstream=later, topic_rules=rules)).start()
        self.send(agent.address, "a", ["waits"])
        self.send(agent.address, "b", ["goes"])
        wait_for(lambda: agent.metric("holdfast_agent_forwarded_records_total") == 1, 20,
                 "what is of high priority")
        self.assertEqual(consume(tier.address, "b"), ["goes"])
        self.assertEqual(agent.metric("holdfast_agent_forward_paused"), 1)
        schedule = json.loads(agent.get("/status"))["delivery"]["schedule"]
        self.assertFalse(schedule["open"])
        self.assertEqual(time.strftime("%H:%M", time.gmtime(schedule["changes_ms"] / 1000)),
                         hours[0])

        # A drain does not wait for what may not go now, but for what may.
        tier.stop()
        self.send(agent.address, "b", ["goes, too"])
        agent.post("/drain?deadline=10m")
        wait_for(lambda: '"draining": true' in agent.get("/status"), 10, "draining")
        tier.start()
        self.assertEqual(agent.child.wait(30), 0)
        agent.child = None
        self.assertIn("agent.upstream.schedule says not now", agent.log())
        self.assertIn("until the next start: 1 record (", agent.log())
        self.assertEqual(consume(tier.address, "b"), ["goes", "goes, too"])

        agent.start()
        later["schedule"]["windows"][0]["when"] = "Mon-Frisday"
        self.config(upstream=later, topic_rules=rules)
        status, text = agent.post("/reload")
        self.assertEqual(status, 409)
        self.assertIn('agent.upstream.schedule.windows: "Mon-Frisday" is no window', text)
        self.config(topic_rules=rules)
        self.assertEqual(agent.post("/reload")[0], 200)
        wait_for(lambda: agent.metric("holdfast_agent_forward_paused") == 0, 10, "an open schedule")
        agent.wait_drained()
        self.assertEqual(consume(tier.address, "a"), ["waits"])

    def test_the_ledger_topic_says_how_complete_the_rest_is(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, *self.config(
            ledger={"topic": "ledger", "interval_ms": 200, "name": "host-1"})).start()
        self.send(agent.address, "a", [str(n) for n in range(10)])
        produced_ms = time.time() * 1000

        records = []
        consumer = Consumer({"bootstrap.servers": tier.address, "group.id": "ledger",
                             "error_cb": lambda error: None})
        wait_for(lambda: agent.metric("holdfast_agent_forwarded_records_total") > 10, 20,
                 "a record in the ledger topic")
        consumer.assign([TopicPartition("ledger", 0, OFFSET_BEGINNING)])

        def told():
            message = consumer.poll(0.1)
            if message is not None and not message.error():
                records.append(json.loads(message.value()))
            complete = any("stream" not in one and one["complete_until_ms"] > produced_ms
                           for one in records)
            point = [one for one in records if one.get("stream") == "a/0"]
            return complete and point and point[-1]["confirmed"] == 10

        wait_for(told, 20, "the commit point of a/0")
        consumer.close()


if __name__ == "__main__":
    harness.main()
