#!/usr/bin/python3
"""The status page in a real Chromium: does somebody who has never seen Holdfast find what is held
back, and why? HOLDFAST_SCREENSHOTS=DIRECTORY keeps what the browser showed."""

import os
import re
import subprocess
import time

import harness
import webdriver
from faults import (LINES, TOPICS, Denied, DiskNearlyFull, Poison, TierDown, WrongCertificate,
                    make_topic)
from harness import Case, Process, free_port, produce, transactional, wait_for

from confluent_kafka import Consumer, Producer, TopicPartition


class StatusPageTest(Case):
    def setUp(self):
        super().setUp()
        self.browser = webdriver.Browser(self.directory)

    def tearDown(self):
        # First, or it would write to the directory that is being removed.
        self.browser.close()
        super().tearDown()

    def open(self, process):
        self.browser.open(f"http://{process.admin}/")
        wait_for(lambda: self.browser.run("return !!document.querySelector('.tile')"), 30,
                 "the page to show something")

    def see(self, pattern, selector="body", timeout=40):
        """Until the page shows it; the text of the element."""
        seen = []

        def shown():
            seen[:] = [self.browser.text(selector)]
            return re.search(pattern, seen[0], re.S)

        try:
            wait_for(shown, timeout, pattern)
        except AssertionError as error:
            raise AssertionError(f"{pattern} is not in {selector}:\n{seen[0]}") from error
        return seen[0]

    def row(self, table, name):
        """The texts of the table's row that begins with this."""
        return self.browser.run("""
            const row = [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]
              .find((one) => one.cells[0].innerText === arguments[1]);
            return row && [...row.cells].map((cell) => cell.innerText);""", table, name)

    def filter(self, table, text):
        self.browser.run("""
            const filter = document.querySelector(`#${arguments[0]} input`);
            filter.value = arguments[1];
            filter.dispatchEvent(new Event('input'));""", table, text)

    def state_of(self, topic):
        row = self.row("topics", topic)
        return row and row[1]

    def check_page(self):
        """What holds whatever it shows: the browser has nothing to say against it."""
        self.assertEqual(self.browser.complaints(), [])

    def keep(self, name, width=1200, height=900, scheme="light"):
        directory = os.environ.get("HOLDFAST_SCREENSHOTS")
        if not directory:
            return
        self.browser.resize(width, height, mobile=width < 600)
        self.browser.prefer(scheme)
        time.sleep(0.3)
        self.browser.screenshot(os.path.join(directory, name + ".png"))

    def test_all_is_well(self):
        tier = self.broker().start()
        make_topic(tier.address, "orders", 2)
        agent = self.agent(tier.address).start()
        self.open(agent)
        self.see("Delivering", "#headline")
        produce(agent.address, "orders", LINES)
        agent.wait_drained()
        self.see("orders", "#topics")
        wait_for(lambda: self.state_of("orders") == "delivered", what="delivered")
        # On average since it was started: how much depends on when it is looked at.
        self.see(r"Records in\s+[1-9]\d*/s\s.*Records out\s+[1-9]\d*/s\s", "#tiles")
        self.see(f"{tier.address}.*connected", "#brokers")
        self.see("connected to", "#events")
        self.assertEqual(self.browser.run(
            "return document.getElementById('verdict').dataset.severity"), "fine")
        self.assertTrue(self.browser.run(
            "return document.getElementById('orphans').hidden && "
            "document.getElementById('outboxes').hidden"))
        # Settings, and no secret of them.
        self.browser.run("document.querySelector('#config summary').click()")
        self.see("bootstrap", "#config pre")
        self.browser.run("document.querySelector('#config summary').click()")
        # Dark, and on a phone: nothing but tables is wider than the screen.
        self.browser.resize(390, 844, mobile=True)
        self.assertLessEqual(
            self.browser.run("return document.documentElement.scrollWidth"), 390)
        self.keep("status-phone-dark", 390, 844, "dark")
        self.keep("status-delivering")
        self.check_page()
        tier.kill()
        self.see("The tier does not answer", "#headline")
        # The agent goes, the page says so, and goes on when it is back.
        agent.kill()
        self.see("No answer from", "#headline")
        agent.start()
        self.see("The tier does not answer", "#headline")

    def repaired(self, fault):
        """What its remedy promises."""
        fault.repair()
        self.see("Delivering", "#headline")

    def test_fault_1_the_tier_is_down(self):
        fault = TierDown(self)
        self.open(fault.agent)
        self.see("1 topic waits: the tier does not answer.*refused", "#headline")
        self.see(f"500 records of orders.*What to do: Nothing listens at this address.*"
                 "agent.upstream.bootstrap", "#remarks")
        self.assertIn("refused", self.row("topics", "orders")[6])
        self.see(f"{fault.tier.address}.*not reached", "#brokers")
        self.keep("status-tier-down")
        self.check_page()
        self.repaired(fault)

    def test_fault_2_the_tier_denies_one_topic(self):
        fault = Denied(self)
        self.open(fault.agent)
        self.see(r"1 topic waits: the tier refuses orders \(TOPIC_AUTHORIZATION_FAILED\)",
                 "#headline")
        self.see("What to do: Grant the user of this agent Write", "#remarks")
        row = self.row("topics", "orders")
        self.assertEqual((row[1], row[2]), ("held", "500"))
        self.assertIn("TOPIC_AUTHORIZATION_FAILED", row[6])
        wait_for(lambda: self.state_of("payments") == "delivered", what="the other topic")
        self.keep("status-denied")
        self.check_page()
        self.repaired(fault)

    def test_fault_3_the_disk_is_nearly_full(self):
        fault = DiskNearlyFull(self)
        self.open(fault.agent)
        self.see(r"The disk is 8\d % full", "#verdict")
        self.see("are used by what waits for orders", "#verdict")
        self.see("agent.spool.bytes_max", "#verdict")
        self.see(r"8\d %", "#tiles")
        self.keep("status-disk-nearly-full")
        # And then it is.
        fault.fill(100)
        fault.producer.flush(2)
        self.see("Producers are refused", "#headline")
        self.check_page()
        self.repaired(fault)

    def test_fault_4_the_certificate_is_wrong(self):
        fault = WrongCertificate(self)
        self.open(fault.agent)
        self.see("1 topic waits: the tier does not answer.*certificate", "#headline")
        self.see("What to do: Compare the certificate.*ssl.ca.location", "#remarks")
        self.assertIn("certificate", self.row("topics", "orders")[6])
        self.see("certificate", "#brokers")
        self.keep("status-wrong-certificate")
        self.check_page()
        self.repaired(fault)

    def test_fault_5_a_record_is_poison(self):
        fault = Poison(self)
        self.open(fault.agent)
        self.see(r"1 record of orders/0 is set aside: the tier refuses it for good "
                 r"\(MESSAGE_TOO_LARGE\)", "#verdict")
        self.see("What to do:.*holdfast dlq ls", "#verdict")
        self.see("orders/0.*MESSAGE_TOO_LARGE", "#dead-letters")
        wait_for(lambda: self.state_of("orders") == "delivered", what="the good ones")
        self.keep("status-dead-letter")
        self.check_page()
        self.repaired(fault)

    def test_a_time_of_another_day_has_its_date(self):
        self.open(self.agent(f"127.0.0.1:{free_port()}").start())
        moment = "return moment(+new Date(2026, 0, 2, 3, 4, 5), +new Date(2026, 0, %d, 4, 0))"
        self.assertEqual(self.browser.run(moment % 2), "03:04:05")
        self.assertEqual(self.browser.run(moment % 3), "2026-01-02 03:04:05")

    def test_what_is_measured_is_of_the_last_half_a_minute_and_of_one_process(self):
        self.open(self.agent(f"127.0.0.1:{free_port()}").start())
        kept = """
            const at = (timeMs, count) => ({ timeMs, histograms: { a: { count } } });
            return keep([at(0, 5), at(10000, 7)], at(...arguments)).map((one) => one.timeMs);"""
        self.assertEqual(self.browser.run(kept, 12000, 7), [0, 10000, 12000])
        self.assertEqual(self.browser.run(kept, 40000, 9), [10000, 40000])
        self.assertEqual(self.browser.run(kept, 90000, 9), [90000])
        self.assertEqual(self.browser.run(kept, 12000, 6), [12000])

    def test_what_clients_name_is_text(self):
        """Names and messages from outside are never markup, and nothing but the page's own script
        runs in it."""
        tier = self.broker().start()
        agent = self.agent(tier.address).start()
        self.open(agent)
        self.browser.run("document.body.insertAdjacentHTML('beforeend', "
                         "'<img src=x onerror=\"window.intruded=1\">')")
        time.sleep(0.5)
        self.assertIsNone(self.browser.run("return window.intruded ?? null"))
        self.assertIn("Content Security Policy", "".join(self.browser.complaints()))

    def test_thousands_of_topics_stay_usable(self):
        topics = ", ".join(f"{{name: topic-{n:04}, partitions: 1}}" for n in range(2000))
        agent = self.agent(f"127.0.0.1:{free_port()}", "--set", f"agent.topics=[{topics}]").start()
        producer = Producer({"bootstrap.servers": agent.address, "log_level": 2})
        for n in range(2000):
            producer.produce(f"topic-{n:04}", b"x" * (n % 7 + 1))
            producer.poll(0)
        self.assertEqual(producer.flush(60), 0)
        for _ in range(41):
            producer.produce("topic-1234", b"x")
        self.assertEqual(producer.flush(60), 0)
        self.open(agent)
        self.see("1 to 50 of 2,000 topics", "#topics")
        self.see("2,000 topics wait", "#headline")
        # Sorted by the server, with the keyboard.
        self.browser.run("""
            [...document.querySelectorAll('#topics th button')]
              .find((one) => one.innerText === 'Waiting').click()""")
        wait_for(lambda: self.browser.text("#topics tbody th") == "topic-1234", what="the longest")
        self.assertEqual(self.browser.run(
            "return document.querySelector('#topics th[aria-sort]').innerText.trim()"), "Waiting")
        self.filter("topics", "topic-19")
        self.see("1 to 50 of 100 topics that match, 2,000 in all", "#topics")
        self.browser.run("""
            [...document.querySelectorAll('#topics .pages button')]
              .find((one) => one.innerText === 'More').click()""")
        self.see("51 to 100 of 100 topics", "#topics")
        self.assertEqual(self.browser.run(
            "return document.querySelectorAll('#topics tbody tr').length"), 50)
        self.assertLess(len(agent.get("/overview")), 60_000)
        self.check_page()

    def test_orphaned_spools_and_outboxes_where_there_are_some(self):
        tier = f"127.0.0.1:{free_port()}"
        spool = self.path("pods/shop_web-1_00000000-0000-0000-0000-000000000001/spool")
        os.makedirs(os.path.dirname(spool))
        gone = Process("agent", self.directory, "--spool", spool, "--upstream", tier, "--set",
                       TOPICS)
        self.processes.append(gone)
        gone.start()
        produce(gone.address, "orders", LINES)
        gone.kill()
        agent = self.agent(
            tier, "--set", f"agent.orphans={{directory: {self.path('pods')}, after_ms: 1s}}",
            "--set", "agent.outbox=[{name: shop, topic: orders, sqlite: {file: "
                     f"{self.path('nowhere/shop.db')}}}}}]").start()
        self.open(agent)
        self.see("shop_web-1_00000000.*waiting", "#orphans")
        self.see("shop.*in trouble.*nowhere", "#outboxes")
        self.check_page()
        shown = subprocess.run([harness.HOLDFAST, "top", "--admin", agent.admin, "--once"],
                               capture_output=True, text=True, timeout=20).stdout
        self.assertRegex(shown, r"Orphans: 1 spool\n.*\nshop_web-1")
        self.assertRegex(shown, r"Outboxes: 1 source\n.*\nshop +in trouble .*nowhere")

    def test_a_broker(self):
        tier = self.broker("--set", "broker.users=[{name: alice, password: secret-of-alice}]")
        tier.start()
        make_topic(tier.address, "orders", 3)
        for n in range(3):
            produce(tier.address, "orders", LINES[:10 * (n + 1)], "-p", str(n))
        consumer = Consumer({"bootstrap.servers": tier.address, "group.id": "billing"})
        consumer.commit(offsets=[TopicPartition("orders", 2, 12)], asynchronous=False)
        consumer.close()
        self.open(tier)
        self.see("Serving", "#headline")
        self.filter("partitions", "orders")
        self.see("3 partitions that match, 53 in all", "#partitions")
        row = self.browser.run("""
            return [...document.querySelectorAll('#partitions tbody tr')]
              .map((one) => [...one.cells].map((cell) => cell.innerText))""")
        self.assertEqual(row[2], ["orders", "2", "30", "0", "30", "0"])
        wait_for(lambda: self.row("groups", "billing"), what="the group")
        self.assertEqual(self.row("groups", "billing")[3], "18")
        produce(tier.address, "orders", ["a"])
        self.see(r"Sync\s+[\d.]+ ms", "#tiles")
        self.see("None is open", "#transactions")
        self.keep("status-broker")
        # An open transaction: whose, for how long, and in which partitions.
        producer = transactional(tier.address, "billing-1")
        producer.begin_transaction()
        producer.produce("orders", b"pending", partition=1)
        producer.flush(20)
        self.see(r"billing-1\s+\d+ s\s+1 min\s+\d+, epoch \d\s+orders/1", "#transactions")
        self.see("1 Ongoing", "#transactions")
        self.see(r"Transactions\s+1\s+open now", "#tiles")
        producer.commit_transaction(20)
        self.see("1 CompleteCommit.*None is open", "#transactions")
        # Settings, and no secret of them.
        self.browser.run("document.querySelector('#config summary').click()")
        self.see("initial_rebalance_delay_ms", "#config pre")
        self.assertNotIn("of-alice", self.browser.text("#config pre"))
        self.check_page()


if __name__ == "__main__":
    if not webdriver.available():
        print("not run: chromium and chromedriver are missing; ./dev test installs them")
        raise SystemExit(77)
    harness.main()
