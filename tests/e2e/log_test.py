#!/usr/bin/python3
"""The log as an operator has it: codes with their remedies, levels at run time, storms."""

import json
import os
import re
import signal
import socket
import subprocess
import unittest

import harness
from harness import Case, wait_for

ERRORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/errors.md")


def run(*arguments):
    return subprocess.run([harness.HOLDFAST, *arguments], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=20)


def documented():
    with open(ERRORS, encoding="utf-8") as file:
        return set(re.findall(r"^\| (HF\d{4}) \|", file.read(), re.M))


def whole_log(process):
    with open(process.log_path, encoding="utf-8") as file:
        return file.read().splitlines()


class LogTest(Case):
    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def knock(self, address, source="127.0.0.1"):
        """Speaks HTTP to a port of Kafka's protocol, until that hangs up."""
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 10, (source, 0)) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            self.assertEqual(client.recv(100), b"")

    def test_nothing_is_said_to_go_wrong_when_all_is_well(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, "--set",
                           "agent.topics=[{name: orders, partitions: 2}]").start()
        harness.produce(agent.address, "orders", ["one"])
        agent.wait_drained()
        self.assertEqual(agent.stop(), 0)
        self.assertEqual(tier.stop(), 0)
        for process in (agent, tier):
            self.assertEqual([line for line in whole_log(process) if "HF" in line], [])

    def test_levels_are_listed_and_changed_while_it_runs(self):
        config = self.write("holdfast.yaml", "log: {level: warn}\n")
        tier = self.broker("--config", config).start()
        self.assertEqual({line.split(": ")[1] for line in tier.get("/logging").splitlines()},
                         {"warn"})
        self.knock(tier.address)
        wait_for(lambda: any("HF5003" in line for line in whole_log(tier)), what="a warning")
        self.assertFalse([line for line in whole_log(tier) if " debug " in line])

        self.assertEqual(tier.post("/logging?net=debug")[0], 200)
        self.assertIn("net: debug\n", tier.get("/logging"))
        self.assertIn("spool: warn\n", tier.get("/logging"))
        self.knock(tier.address)
        wait_for(lambda: any(" debug net: " in line for line in whole_log(tier)), what="debugging")

        code, said = tier.post("/logging?nett=debug")
        self.assertEqual(code, 400)
        self.assertIn("there are agent, broker", said)

        # What the configuration says counts again once it is read again.
        tier.child.send_signal(signal.SIGHUP)
        wait_for(lambda: "net: warn\n" in tier.get("/logging"), what="the level of the file")
        self.write("holdfast.yaml", "log: {level: error}\n")
        tier.child.send_signal(signal.SIGHUP)
        wait_for(lambda: "net: error\n" in tier.get("/logging"), what="the file's new level")

    def test_the_agent_has_the_same_routes(self):
        agent = self.agent("127.0.0.1:1").start()
        self.assertEqual(agent.post("/logging?level=debug")[0], 200)
        wait_for(lambda: any(" debug " in line for line in whole_log(agent)), what="debugging")
        self.assertIn("/logging", agent.get("/help"))

    def test_a_storm_is_a_few_lines_and_a_number(self):
        tier = self.broker().start()
        for _ in range(40):
            self.knock(tier.address)
        # The line comes after the end that the client sees, from one of several threads.
        wait_for(lambda: tier.metric("holdfast_net_closed_total") == 40, what="all to be closed")
        self.knock(tier.address, source="127.0.0.2")
        lines = wait_for(lambda: [line for line in whole_log(tier) if "127.0.0.2" in line] and
                         [line for line in whole_log(tier) if "HF5003" in line],
                         what="the other client's line")
        self.assertEqual(len(lines), 4, lines)
        self.assertIn("(37 more lines of HF5003 were left out)", lines[-1])

    def test_what_goes_wrong_has_a_code_that_is_documented(self):
        codes = documented()
        self.assertGreater(len(codes), 50)
        config = self.write("holdfast.yaml", "log: {format: json}\n")
        agent = self.agent("127.0.0.1:1", "--config", config).start()
        self.knock(agent.address)
        self.write("holdfast.yaml", "log: {format: json, colour: red}\n")
        agent.child.send_signal(signal.SIGHUP)
        wait_for(lambda: any("not reloaded" in line for line in whole_log(agent)), what="a refusal")
        shown = json.loads(agent.get("/overview"))["events"]
        self.assertEqual(agent.stop(), 0)

        found = {}
        for line in map(json.loads, whole_log(agent)):
            if line["level"] in ("warn", "error"):
                self.assertIn(line["code"], codes, line)
                found[line["code"]] = line
            else:
                self.assertNotIn("code", line)
        self.assertLessEqual({"HF3001", "HF5003", "HF1004"}, set(found))
        self.assertEqual(found["HF5003"]["subject"], "127.0.0.1")
        self.assertIn("HF1004", [event["code"] for event in shown])

    def test_what_ends_a_command_has_a_code(self):
        tier = self.broker().start()
        foreign = self.path("foreign")
        os.mkdir(foreign)
        self.write("foreign/letter.txt", "dear")
        broken = self.write("broken.yaml", "broker: {listn: 127.0.0.1:0}\n")
        for code, arguments in (
                ("HF0009", ("broker", "--listen")),
                ("HF0009", ("broker", "--set", "nonsense")),
                ("HF1001", ("validate", broken)),
                ("HF1002", ("validate", self.path("gone.yaml"))),
                ("HF1003", ("broker", "--listen", "127.0.0.1:0")),
                ("HF1005", ("broker", "--listen", tier.address, "--data", self.path("other"))),
                ("HF1006", ("broker", "--listen", "192.0.2.1:9092", "--data", self.path("other"))),
                ("HF2001", ("broker", "--listen", "127.0.0.1:0", "--data", self.path("broker"))),
                ("HF2002", ("broker", "--listen", "127.0.0.1:0", "--data", foreign)),
                ("HF2003", ("spool", "ls", self.path("nowhere")))):
            done = run(*arguments)
            self.assertIn(done.returncode, (1, 2), arguments)
            self.assertRegex(done.stderr, rf"(?m)^holdfast: {code}: \S", arguments)
            self.assertIn(code, documented())

    def test_a_code_is_explained_offline(self):
        for code in ("HF2001", "hf2001", "2001"):
            done = run("explain", code)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("HF2001 (Spool, error)", done.stdout)
            self.assertIn("Another process has the spool.", done.stdout)
            self.assertIn("One process owns a spool", done.stdout)
        self.assertEqual(set(re.findall("^HF[0-9]{4}", run("explain").stdout, re.M)), documented())
        done = run("explain", "HF2999")
        self.assertEqual(done.returncode, 2)
        self.assertIn("HF2999", done.stderr)


if __name__ == "__main__":
    harness.main()
