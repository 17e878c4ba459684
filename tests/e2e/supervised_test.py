#!/usr/bin/python3
"""Agent and broker under a supervisor such as systemd: what they tell it, and how they log."""

import os
import re
import signal
import socket

from harness import Case, main, produce, wait_for


class SupervisedTest(Case):
    def setUp(self):
        super().setUp()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(self.path("notify"))
        self.manager.settimeout(20)
        self.environment = {"NOTIFY_SOCKET": self.path("notify"), "WATCHDOG_USEC": "400000"}

    def tearDown(self):
        super().tearDown()
        self.manager.close()

    def supervised(self, process):
        process.environment.update(self.environment)
        return process

    def hear(self, wanted):
        """The message with this in it; and what came before it."""
        before = []
        while True:
            message = self.manager.recv(4096).decode()
            if re.search(wanted, message):
                return message, before
            before.append(message)

    def test_an_agent_tells_of_its_life(self):
        with open(self.path("agent.yaml"), "w", encoding="utf-8") as file:
            file.write("agent: {topics: [{name: orders}], drain_backlog_ms: 500}\n")
        agent = self.supervised(self.agent("127.0.0.1:1", "--config", self.path("agent.yaml")))
        agent.start()
        ready, before = self.hear("READY=1")
        self.assertIn("STATUS=agent: 0 records wait", ready)
        produce(agent.address, "orders", ["one", "two"])
        self.hear("STATUS=agent: 2 records wait for the tier, which is away")
        for _ in range(3):
            self.hear("^WATCHDOG=1$")
        agent.child.send_signal(signal.SIGHUP)
        self.hear("RELOADING=1\nMONOTONIC_USEC=[0-9]+$")
        self.hear("^READY=1$")
        agent.child.send_signal(signal.SIGTERM)
        stopping, _ = self.hear("STOPPING=1")
        self.assertGreater(int(re.search("EXTEND_TIMEOUT_USEC=([0-9]+)", stopping)[1]), 20_000_000)
        self.hear("^WATCHDOG=1$")  # While it drains.
        self.assertEqual(agent.child.wait(30), 0)

    def test_a_broker_tells_of_its_life(self):
        broker = self.supervised(self.broker()).start()
        self.assertIn("STATUS=broker: 0 connections", self.hear("READY=1")[0])
        self.hear("WATCHDOG=1")
        self.assertEqual(broker.stop(), 0)
        self.hear("STOPPING=1")

    def test_a_socket_that_is_not_there_is_an_error(self):
        broker = self.broker()
        broker.environment["NOTIFY_SOCKET"] = self.path("nobody")
        with self.assertRaisesRegex(AssertionError, "cannot reach NOTIFY_SOCKET="):
            broker.start()

    def test_lines_for_the_journal_have_its_levels_and_no_time(self):
        broker = self.broker()
        log = os.open(broker.log_path, os.O_CREAT | os.O_WRONLY)
        where = os.fstat(log)
        os.close(log)
        broker.environment["JOURNAL_STREAM"] = f"{where.st_dev}:{where.st_ino}"
        broker.start()
        self.assertEqual(broker.stop(), 0)
        self.assertRegex(broker.log(), "(?m)^<6>main: SIGTERM: draining")
        self.assertNotRegex(broker.log(), "(?m)^[^<]")
        broker.environment["JOURNAL_STREAM"] = "1:1"
        broker.start()
        broker.stop()
        wait_for(lambda: re.search("(?m)^20[0-9-]+T.* info .*main: SIGTERM", broker.log()),
                 what="a line for people")


if __name__ == "__main__":
    main()
