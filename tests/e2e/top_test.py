#!/usr/bin/python3
"""`holdfast top` in a terminal: does it tell what is held back and why, obey its keys, and leave
the terminal as it was?"""

import http.server
import json
import os
import re
import signal
import subprocess
import threading

import harness
from faults import LINES, TOPICS, Denied, Poison, TierDown, make_topic
from harness import Case, free_port, produce, wait_for
from small_terminal import Program

from confluent_kafka import Consumer, Producer, TopicPartition

HOSTILE = "evil\x1b[2J\x1b]0;owned\x07\u009b31m\u202etxt\r\n\x00"


class Answers(http.server.BaseHTTPRequestHandler):
    """An admin port that says whatever it is told to."""
    body = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


class TopTest(Case):
    def top(self, admin, *arguments, columns=100, rows=30, **environment):
        program = Program([harness.HOLDFAST, "top", "--admin", admin, "--interval", "200ms",
                           *arguments], columns, rows, environment)
        self.addCleanup(program.close)
        return program

    def printed(self, *arguments, code=0):
        done = subprocess.run([harness.HOLDFAST, "top", *arguments], capture_output=True,
                              timeout=20, stdin=subprocess.DEVNULL,
                              env=dict(os.environ, LC_ALL="C.UTF-8"))
        self.assertEqual(done.returncode, code, done.stderr)
        text = (done.stdout if code == 0 else done.stderr).decode()
        self.assertNotRegex(text, "[\x00-\x09\x0b-\x1f\x7f-\x9f]")
        return text

    def lonely_agent(self):
        """Whose tier is not there."""
        return self.agent(f"127.0.0.1:{free_port()}", "--set", TOPICS).start()

    def answering(self, document):
        Answers.body = document if isinstance(document, bytes) else json.dumps(document).encode()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"127.0.0.1:{server.server_port}"

    def test_the_tier_is_down_and_comes_back(self):
        fault = TierDown(self)
        tier = fault.tier
        top = self.top(fault.agent.admin)
        top.see("1 topic waits: the tier does not answer.*refused")
        top.see("500 records of orders.*What to do: Nothing listens at this address")
        top.see(r"orders +waiting +500 .*the tier does not answer: 127")
        top.see(r"In +[\d,]+/s, .*[▁▂▃▄▅▆▇█]{3}")
        top.press("2")
        top.see(f"{re.escape(tier.address)} .*not reached .*refused")
        fault.repair()
        top.see("● Delivering")
        top.see(f"{re.escape(tier.address)} .*connected")
        top.press("q")
        self.assertEqual(top.end(), 0)
        self.assertTrue(top.left_as_it_was())

    def test_the_tier_denies_one_topic(self):
        agent = Denied(self).agent
        top = self.top(agent.admin)
        top.see(r"1 topic waits: the tier refuses orders \(TOPIC_AUTHORIZATION_FAILED\)")
        top.see(r"What to do: Grant the user of this agent\s+Write")
        top.see(r"orders +held +500 .*partition \d, TOPIC_AUTHORIZATION")
        top.see(r"payments +delivered +0")
        top.press("\r")
        top.see(r"Why\n +partition \d, TOPIC_AUTHORIZATION_FAILED: the tier does not let this")
        self.assertIn("refuses orders (TOPIC_AUTHORIZATION_FAILED)",
                      self.printed("--admin", agent.admin, "--once"))

    def test_a_record_is_poison(self):
        agent = Poison(self).agent
        top = self.top(agent.admin)
        top.see(r"1 record of orders/0 is set aside: the tier refuses it for good\s+"
                r"\(MESSAGE_TOO_LARGE\)")
        top.see("Set aside +1 dead letter")
        top.press("\t\t")
        top.see("orders/0 +1 .*MESSAGE_TOO_LARGE")

    def test_many_topics_are_sorted_filtered_and_paged(self):
        topics = ", ".join(f"{{name: topic-{n:04}, partitions: 1}}" for n in range(300))
        agent = self.agent(f"127.0.0.1:{free_port()}", "--set", f"agent.topics=[{topics}]").start()
        producer = Producer({"bootstrap.servers": agent.address, "log_level": 2})
        for n in range(300):
            for _ in range(41 if n == 123 else n % 7 + 1):
                producer.produce(f"topic-{n:04}", b"x")
        self.assertEqual(producer.flush(60), 0)
        top = self.top(agent.admin, "--sort", "topic")
        top.see(r"1 to \d+ of 300 topics")
        top.see(r"Topic▲.*\ntopic-0000 ")
        top.press("\x1b[C\x1b[C")  # Two columns on.
        top.see(r"Waiting▼.*\ntopic-0123 +waiting +41 ")
        top.press("r")
        top.see(r"Waiting▲.*\ntopic-0000 +waiting +1 ")
        top.press("\x1b[F")  # End.
        top.see(r"topic-0123 +waiting +41 [^\n]*\n+q quit")
        top.press("/topic-02")
        top.see(r"100 topics matching, 300 in all")
        top.see("Only with: topic-02")
        top.press("x")
        top.see("Nothing matches.")
        top.press("\x7f0\r")
        top.see(r"10 topics matching, 300 in all, /topic-020")
        top.see(r"(topic-020.*){11}")  # What is drawn comes in pieces.
        self.assertEqual(len(re.findall("topic-020", top.screen.text())), 11)
        top.press("?")
        top.see("Space\n +ask now")
        top.resize(50, 12)
        top.press("xx")  # One key leaves the page.
        top.see("topic-020")
        top.press("/\x15\r")
        top.see(r"topic-0000")
        top.resize(160, 50)
        top.see(r"1 to (\d\d) of 300.*q quit  \? help[^\n]*$")
        wait_for(lambda: top.read() and len(re.findall("\ntopic-0", top.screen.text())) > 30,
                 what="more rows")

    def test_it_leaves_the_terminal_as_it_was(self):
        agent = self.lonely_agent()
        for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
            top = self.top(agent.admin)
            top.see("holdfast agent")
            self.assertTrue(top.screen.other and top.screen.cursor_hidden)
            top.kill(number)
            self.assertEqual(top.end(), 0)
            self.assertTrue(top.left_as_it_was(), number)
        top = self.top(agent.admin)
        top.see("holdfast agent")
        top.press("\x03")  # Ctrl-C.
        self.assertEqual(top.end(), 0)
        self.assertTrue(top.left_as_it_was())
        # Ctrl-Z gives it back for a while.
        top = self.top(agent.admin)
        top.see("holdfast agent")
        top.press("\x1a")
        wait_for(lambda: top.read() and top.left_as_it_was() and top.stopped(),
                 what="the shell's screen")
        top.kill(signal.SIGCONT)
        wait_for(lambda: top.read() and top.screen.other, what="its screen")
        top.see("holdfast agent.*q quit")

    def test_nobody_answers(self):
        agent = self.lonely_agent()
        address = agent.admin
        agent.kill()
        top = self.top(address)
        top.see(f"No answer from {address}.*refused|No answer from {address}.*connect")
        top.see("What to do: See whether the process runs")
        agent.start()
        top.see("holdfast agent")
        top.see("1 Topics")
        agent.kill()
        top.see(f"● No answer from {address}.*What is below is\\s+old.*1 Topics")
        self.assertIn("no answer from", self.printed("--admin", address, code=1))
        again = self.printed("--admin", address, "--batch", "-n", "2", "--interval", "100ms",
                             code=1)
        self.assertEqual(again.count("no answer from"), 2)
        top.press("q")
        self.assertEqual(top.end(), 0)

    def test_what_others_name_does_not_reach_the_terminal(self):
        """The screen of these tests fails when it does."""
        text = HOSTILE
        answer = {"role": "agent", "now_ms": 1, "verdict": {
            "severity": text, "headline": text, "remarks": [
                {"severity": "failing", "title": text, "why": text, "todo": text}]},
            "topics": {"total": 1, "matching": 1, "offset": 0, "shown": [
                {"topic": text, "state": text, "why": text}]},
            "tier": {"cluster_id": text, "brokers": [{"address": text, "trouble": text}]},
            "disk": {"refusing_because": text},
            "dead_letters": {"records": 1, "streams": [{"stream": text, "error": text}]},
            "events": [{"level": text, "part": text, "message": text}]}
        address = self.answering(answer)
        top = self.top(address, columns=150)
        top.see("evil\ufffd.2J\ufffd.0;owned\ufffd\ufffd31m\ufffdtxt\ufffd\ufffd\ufffd")
        for keys in "2", "3", "4", "\r", "x", "v", "x", "?", "x":
            top.press(keys)
            top.see("holdfast agent")
        self.assertIn("evil", self.printed("--admin", address))
        # What is no answer at all.
        for body in b"", b"{", b"[]", b"\xff" * 100, b"[" * 100_000, b'{"role": "agent"}', \
                json.dumps({"role": "agent", "now_ms": -1e300, "verdict": [], "topics": {
                    "total": -1, "matching": 1e300, "offset": 2**63, "shown": [None, 1, [], {}]},
                    "rates": {"series": {"in_records": {"lately": "x", "per_second": [
                        -1, 1e308, None]}}}, "events": [None]}).encode(), \
                b'{"role": "broker", "partitions": {"matching": 18446744073709551615}}':
            Answers.body = body
            top.press(" ")
            top.see("holdfast")
            self.assertTrue(top.read() and top.child.poll() is None, body[:50])
        Answers.body = b"{}"
        top.see("neither an agent nor a broker")
        Answers.body = json.dumps(answer).encode()
        top.see("evil")

    def test_a_broker(self):
        tier = self.broker().start()
        make_topic(tier.address, "orders", 3)
        for n in range(3):
            produce(tier.address, "orders", LINES[:10 * (n + 1)], "-p", str(n))
        consumer = Consumer({"bootstrap.servers": tier.address, "group.id": "billing"})
        consumer.commit(offsets=[TopicPartition("orders", 2, 12)], asynchronous=False)
        consumer.close()
        top = self.top(tier.admin, "--filter", "orders")
        top.see("holdfast broker.*● Serving")
        top.see("3 partitions matching, 53 in all, /orders")
        top.see(r"orders +2 +30 +0 +30 +0")
        top.press("2")
        top.see(r"Lag▼.*billing +Empty +0 +18")
        self.assertRegex(self.printed("--admin", tier.admin, "--sort", "lag"),
                         r"billing +Empty +0 +18")
        self.assertIn("it can by topic, records, start, end, group, state, members, lag",
                      self.printed("--admin", tier.admin, "--sort", "size", code=2))

    def test_how_it_is_drawn(self):
        agent = self.lonely_agent()
        produce(agent.address, "orders", LINES)
        top = self.top(agent.admin)
        top.see("orders +waiting")
        self.assertIn("33", top.screen.styles)
        top = self.top(agent.admin, NO_COLOR="1")
        top.see("orders +waiting")
        self.assertEqual(top.screen.styles - {"0", "1", "7"}, set())
        top = self.top(agent.admin, LC_ALL="C")
        top.see("[*] 1 topic waits.*orders +waiting")
        self.assertTrue(top.screen.text().isascii())
        for columns, rows in (20, 5), (1, 1), (3, 40), (500, 3), (40, 24):
            top.resize(columns, rows)
            wait_for(lambda: top.read() and top.screen.settled, what="a new screen")
        top.see("orders +waiting +500")
        # A pipe, and a terminal that can do nothing.
        text = self.printed("--admin", agent.admin)
        self.assertRegex(text, r"^agent at .*\n1 topic waits: .*\n(  .*\n)+\nIn: ")
        self.assertRegex(text, r"\norders +waiting +500 ")
        twice = self.printed("--admin", agent.admin, "-b", "-n", "2", "--interval", "100ms")
        self.assertEqual(len(re.findall("^agent at", twice, re.M)), 2)
        dumb = self.top(agent.admin, TERM="dumb")
        self.assertEqual(dumb.end(), 0)
        self.assertFalse(dumb.screen.other or dumb.screen.styles)
        self.assertIn("write a time", self.printed("--interval", "2", code=2))
        self.assertIn("--admin", self.printed("--admin", "nowhere", code=2))


if __name__ == "__main__":
    harness.main()
