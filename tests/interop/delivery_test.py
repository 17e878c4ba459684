#!/usr/bin/python3
"""What the agent delivers to a real Apache Kafka when something goes wrong on the way."""

import apache_kafka
import relay
from harness import consume, produce, wait_for

TOPIC = "orders"


def lines(first, last):
    return [f"line {n}" for n in range(first, last)]


class DeliveryTest(apache_kafka.Case):
    def test_lost_answers_and_crashes_neither_lose_nor_double_records(self):
        kafka = self.kafka({"num.partitions": 1}, relay=True).start()
        agent = self.agent(kafka.upstream, "--set", "agent.upstream.backoff_max_ms=300ms").start()
        produce(agent.address, TOPIC, lines(0, 100))
        agent.wait_drained()

        # Kafka has stored them, and nobody hears of it.
        kafka.relay.hold(relay.ANSWERS)
        produce(agent.address, TOPIC, lines(100, 200), "-X", "enable.idempotence=true")
        wait_for(lambda: len(consume(kafka.address, TOPIC)) == 200, what="200 records in Kafka")
        kafka.relay.cut()
        kafka.relay.heal()
        agent.wait_drained()
        self.assertEqual(consume(kafka.address, TOPIC), lines(0, 200))

        # The same, and both processes are gone.
        kafka.relay.hold(relay.ANSWERS)
        produce(agent.address, TOPIC, lines(200, 300))
        wait_for(lambda: len(consume(kafka.address, TOPIC)) == 300, what="300 records in Kafka")
        agent.kill()
        kafka.kill()
        kafka.relay.heal()
        kafka.start()
        agent.start()
        agent.wait_drained()
        self.assertEqual(consume(kafka.address, TOPIC), lines(0, 300))


if __name__ == "__main__":
    apache_kafka.main()
