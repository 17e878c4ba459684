#!/usr/bin/python3
"""`holdfast topic`, `group`, `acl`, `config`, `produce` and `consume` against the project's own
tier, directly and through an agent."""

import base64
import json
import os
import pty
import signal
import subprocess
import time

import harness
from certificates import Authority
from harness import Case, wait_for

from confluent_kafka import Consumer, Producer, TopicPartition

NOWHERE = "127.0.0.1:1"
HOSTILE = "evil\x1b[2J\x1b]0;owned\x07\u009b31m"


def run(*arguments, code=0, data=None, text=True, timeout=60):
    """Ends with that exit code."""
    stdin = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    done = subprocess.run([harness.HOLDFAST, *arguments], capture_output=True, text=text,
                          timeout=timeout, **stdin)
    if done.returncode != code:
        raise AssertionError(f"{' '.join(arguments)}: exit {done.returncode}, not {code}\n"
                             f"{done.stdout}\n{done.stderr}")
    return done


class ClientCommandsTest(Case):
    def setUp(self):
        super().setUp()
        self.tier = self.broker().start()
        self.at = ("-b", self.tier.address)

    def run(self, *arguments, **options):
        if arguments and arguments[0].__class__ is not str:
            return super().run(*arguments, **options)  # unittest's own.
        return run(*arguments, *self.at, **options)

    def lines(self, *arguments, **options):
        return self.run(*arguments, **options).stdout.splitlines()

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--format", "json").stdout)

    def consumed(self, topic, *arguments):
        """Of a topic, what is there, as JSON."""
        return [json.loads(line) for line in
                self.lines("consume", topic, "-e", "-f", "json", *arguments)]

    def test_topics_are_made_shown_changed_and_deleted(self):
        agent = self.agent(self.tier.address).start()
        for address in (self.tier.address, agent.address):
            self.at = ("--brokers", address)
            self.assertEqual(
                sorted(self.lines("topic", "create", "orders", "notes", "-p", "3", "-r", "1",
                                  "-c", "retention.ms=1000000", "-c", "cleanup.policy=compact")),
                ["created notes (partitions 3, replicas 1)",
                 "created orders (partitions 3, replicas 1)"])
            there = self.run("topic", "create", "orders", code=1).stderr
            self.assertIn("holdfast: HF3014: topic orders: TOPIC_ALREADY_EXISTS", there)
            self.assertEqual(self.lines("topic", "create", "orders", "--if-not-exists"),
                             ["orders is there already"])
            self.run("topic", "create", "never", "--dry-run")
            self.assertEqual(self.lines("topic", "list"),
                             ["NAME    PARTITIONS  REPLICAS", "notes            3         1",
                              "orders           3         1"])
            self.assertEqual(self.json("topic", "list", "o*"),
                             [{"name": "orders", "partitions": 3, "replicas": 1}])
            self.assertEqual(self.json("topic", "list", "nothing"), [])

            self.run("topic", "add-partitions", "orders", "--num", "2")
            self.run("topic", "alter-config", "orders", "--set", "retention.ms=7", "--delete",
                     "cleanup.policy")
            described = self.json("topic", "describe", "orders")[0]
            self.assertEqual([one["partition"] for one in described["partitions"]], [0, 1, 2, 3, 4])
            self.assertEqual([(one["name"], one["value"], one["source"])
                              for one in described["configs"]], [("retention.ms", "7", "topic")])
            wrong = self.run("topic", "alter", "orders", "--set", "retention.ms=x", code=1).stderr
            self.assertIn("topic orders: INVALID_CONFIG", wrong)
            shown = self.run("topic", "describe", "orders", "notes").stdout
            self.assertIn("PARTITION  LEADER  REPLICAS  ISR  START  END\n        0       0  0",
                          shown)
            self.assertIn("retention.ms  7      topic", shown)

            self.run("topic", "alter", "orders", "--delete", "retention.ms")
            self.run("produce", "orders", "-p", "1", data="a\nb\nc\n")
            if address == agent.address:
                agent.wait_drained()
            self.assertIn("--yes", self.run("topic", "trim", "orders", "-o", "end", code=2).stderr)
            self.assertEqual(self.lines("topic", "trim", "orders", "-o", "2", "-p", "1", "--yes"),
                             ["PARTITION  BEFORE  START", "        1       0      2"])
            self.assertEqual([one["value"] for one in self.consumed("orders")], ["c"])
            self.run("topic", "trim-prefix", "orders", "-o", "end", "--yes")
            ends = [(one["start"], one["end"])
                    for one in self.json("topic", "describe", "orders")[0]["partitions"]]
            self.assertEqual(ends, [(0, 0), (3, 3), (0, 0), (0, 0), (0, 0)])

            unsure = self.run("topic", "delete", "orders", code=2).stderr
            self.assertIn("Delete orders with all records?", unsure)
            gone = self.run("topic", "delete", "orders", "ordres", "notes", "--yes", code=1)
            self.assertEqual(sorted(gone.stdout.split("\n")),
                             ["", "deleted notes", "deleted orders"])
            self.assertIn("topic ordres: UNKNOWN_TOPIC_OR_PARTITION", gone.stderr)
            self.assertIn("no such topic", self.run("topic", "describe", "orders", code=1).stderr)

    def test_wrong_usage_is_told_from_failure(self):
        self.run("topic", "create", "t", "-p", "2")
        for code, arguments, message in (
                (2, ["topic", "creat", "t"], "creat"),
                (2, ["topic", "create"], "TOPIC"),
                (2, ["topic", "create", "t", "-p", "0"], "--partitions"),
                (2, ["topic", "create", "t", "-c", "retention.ms"],
                 "--topic-config retention.ms: write NAME=VALUE"),
                (2, ["topic", "alter", "t"], "--set or --delete"),
                (2, ["topic", "list", "-X", "linger.ms=1"], "for `produce` and `consume`"),
                (2, ["topic", "list", "-X", "sasl.usrname=x"],
                 'did you mean "agent.upstream.properties.sasl.username"?'),
                (2, ["topic", "list", "-X", "sasl.username=x"], "needs security.protocol SASL"),
                (2, ["topic", "list", "--format", "xml"], "--format"),
                (2, ["topic", "list", "--config", "/nonexistent.yaml"], "cannot read"),
                (1, ["topic", "describe", "nothing"], "holdfast topic list"),
                (2, ["produce", "t", "-f", "%k%v\\n"], "where a key, value or topic ends"),
                (2, ["produce", "t", "-z", "rar"], "--compression"),
                (2, ["produce", "t", "-X", "linger.m=1"], "linger.m"),
                (2, ["consume", "t", "-o", "sometimes"], "write start, end"),
                (2, ["consume", "t", "-f", "%q"], "none of %k"),
                (2, ["consume", "t", "-g", "g", "-o", "17"], "start or end"),
                (1, ["consume", "t", "-p", "0,7"], "t has no partition 7, but 2"),
                (1, ["topic", "trim", "t", "-o", "start", "-p", "0,7", "--yes"],
                 "t has no partition 7, but 2"),
                (1, ["group", "seek", "g", "--to", "start", "-t", "t", "-p", "7"],
                 "t has no partition 7, but 2"),
                (1, ["consume", "t", "nothing"], "topic nothing: UNKNOWN_TOPIC_OR_PARTITION"),
        ):
            done = self.run(*arguments, code=code)
            self.assertIn(message, done.stderr, arguments)
            self.assertEqual(done.stdout, "", arguments)
        self.assertIn("VERB", run("topic", code=2).stderr)
        manual = run("manual", "2026-01-01").stdout  # Whole.
        self.assertIn(".SS holdfast consume [OPTIONS] TOPIC", manual)
        self.assertTrue(manual.endswith(".SH SEE ALSO\n.BR holdfast.yaml (5)\n"), manual[-200:])
        self.at = ("-b", NOWHERE)
        for arguments in (["topic", "list"], ["consume", "t"], ["consume", "t", "-g", "g"]):
            self.assertIn("cannot reach the tier: 127.0.0.1:1: connect: Connection refused",
                          self.run(*arguments, code=1).stderr)

    def test_records_come_back_as_they_went(self):
        agent = self.agent(self.tier.address).start()
        self.run("topic", "create", "t", "-p", "4")
        for address in (self.tier.address, agent.address):
            self.at = ("-b", address)
            self.assertEqual(self.lines("produce", "t", "-p", "2", "-z", "zstd", "--offsets",
                                        data="one\n\ntwo"), ["2@0", "2@1", "2@2"])
            if address == agent.address:
                agent.wait_drained()
            self.assertEqual(self.lines("consume", "t", "-p", "2", "-e", "-f", "%o:%v\\n"),
                             ["0:one", "1:", "2:two"])
            self.run("topic", "delete", "t", "--yes")
            self.run("topic", "create", "t", "-p", "4")
        self.at = ("-b", self.tier.address)

        self.run("produce", "t", "-f", "%k\\t%h{%k=%v,}%v\\n", "-H", "all=1",
                 data="k1\ta=b,v1\nk2\tc=,\n")
        self.run("produce", "t", "-k", "k1", "-Z", "-X", "linger.ms=0", data="\n")
        records = {(one["key"], one["value"]): one for one in self.consumed("t")}
        self.assertEqual(set(records), {("k1", "v1"), ("k2", ""), ("k1", None)})
        self.assertEqual(records["k1", "v1"]["headers"],
                         [{"key": "a", "value": "b"}, {"key": "all", "value": "1"}])
        # A key's records are in one partition: the one that Java's client chooses.
        self.assertEqual(records["k1", "v1"]["partition"], records["k1", None]["partition"])

        everything = bytes(range(256)) * 4
        self.run("topic", "create", "bytes", "-p", "1")
        size = len(everything).to_bytes(4, "big")
        run("produce", "bytes", "-f", "%K{big32}%k%V{big32}%v", *self.at, text=False,
            data=(size + everything) * 2 + bytes(8))
        self.assertEqual(base64.b64decode(self.consumed("bytes")[0]["value_base64"]), everything)
        back = run("consume", "bytes", "-n", "2", "-f", "%V{big32}%v", *self.at, text=False)
        self.assertEqual(back.stdout, size + everything + bytes(4))
        self.assertEqual(self.lines("consume", "bytes", "-n", "1", "-f", "%k{hex} %v{base64}\\n"),
                         [everything.hex() + " " + base64.b64encode(everything).decode()])

        self.run("produce", "t", "-f", "%t %p %d %v\\n", data="bytes 0 1767225600123 elsewhere\n")
        self.assertEqual(self.lines("consume", "bytes", "-o", "-1", "-e", "-f", "%d %v\\n"),
                         ["1767225600123 elsewhere"])

    def test_json_is_copied_from_topic_to_topic(self):
        self.run("topic", "create", "t", "copy", "-p", "3")
        run("produce", "t", "-f", "%p %d %K{big16}%k %V{big16}%v\\n", "-H", "all=\u00fc", *self.at,
            text=False, data=b"0 1767225600001 \0\1k \0\4\xff\0\n\x80\n"
                             b"2 1767225600002 \0\2\xfe\xff \0\0\n")
        self.run("produce", "t", "-k", "k", "-Z", "-p", "1", data="\n")
        there = self.run("consume", "t", "-e", "-f", "json").stdout
        self.assertEqual(there.count("\n"), 3)
        self.assertIn("value_base64", there)
        self.assertIn("key_base64", there)

        def sorted_lines(topic):
            return sorted(self.lines("consume", topic, "-e", "-f", "json"))

        self.run("produce", "copy", "-f", "json", data=there)
        self.assertEqual([line.replace('"topic":"copy"', '"topic":"t"')
                          for line in sorted_lines("copy")], sorted(there.splitlines()))
        # Where to is in the lines if it is not said; of a partition, only what is said.
        self.run("produce", "-f", "json", data=there)
        self.assertEqual(len(sorted_lines("t")), 6)
        self.run("produce", "copy", "-f", "json", "-p", "1", "-k", "by default",
                 data='{"value": "here", "partition": 0}\r\n{"key": "own"}')
        self.assertEqual([(one["partition"], one["key"], one["value"])
                          for one in self.consumed("copy", "-p", "1", "-o", "-2")],
                         [(1, "by default", "here"), (1, "own", None)])
        good = '{"value": "good"}\n'
        for line, message in (
                ("nonsense", "not an object of JSON"),
                ("[1]", "not an object of JSON"),
                ("", "not an object of JSON"),
                ('{"value": "\xff"}'.encode("latin-1"), "not an object of JSON"),
                ('{"vlaue": "x"}', '"vlaue" is none of topic'),
                ('{"value": 7}', "value is neither text nor null"),
                ('{"value_base64": "%"}', "value_base64 is not Base64"),
                ('{"value": "a", "value_base64": "YQ=="}', "has both"),
                ('{"partition": 4294967296}', "partition is not a number"),
                ('{"partition": 1.5}', "partition is not a number"),
                ('{"timestamp": "now"}', "timestamp is not a number"),
                ('{"timestamp": 0}', "its timestamp is 0"),
                ('{"headers": [{"key": "a\\u0000b"}]}', "a header's key has a zero byte"),
                ('{"headers": {"a": "b"}}', "headers is not a list"),
                ('{"headers": [{"value": "b"}]}', "a header has no key"),
                ('{"headers": ["b"]}', "a header is not an object")):
            line = line.encode() if isinstance(line, str) else line
            failed = run("produce", "t", "-f", "json", *self.at, text=False, code=2,
                         data=good.encode() + line + b"\n" + good.encode()).stderr.decode()
            self.assertIn("line 2: ", failed)
            self.assertIn(message, failed)
        self.assertEqual([one.get("value") for one in self.consumed("t")].count("good"), 16)
        self.assertIn("line 1: no topic", self.run("produce", "-f", "json", data=good,
                                                   code=2).stderr)
        self.assertIn("which TOPIC?", self.run("produce", data=good, code=2).stderr)

    def test_reading_begins_and_ends_where_it_is_told(self):
        self.run("topic", "create", "t", "-p", "1")
        self.run("produce", "t", "-f", "%d %v\\n",
                 data="".join(f"{1000000000000 + i * 1000} v{i}\n" for i in range(10)))
        for offset, first in (("start", 0), ("end", 10), ("4", 4), ("+3", 3), ("-2", 8), ("-99", 0),
                              ("99", 10), ("@1000000004500", 5), ("@1000000004", 4), ("@-1h", 10)):
            self.assertEqual(self.lines("consume", "t", "-o", offset, "-e"),
                             [f"v{i}" for i in range(first, 10)], offset)
        self.assertEqual(self.lines("consume", "t", "-n", "3"), ["v0", "v1", "v2"])
        self.assertEqual(self.lines("consume", "t", "-n", "0"), [])

        # Of a group: what one printed, the next does not.
        self.assertEqual(self.lines("consume", "t", "-g", "g", "-n", "4"),
                         [f"v{i}" for i in range(4)])
        self.assertEqual(self.lines("consume", "t", "-g", "g", "-e"),
                         [f"v{i}" for i in range(4, 10)])
        child = subprocess.Popen([harness.HOLDFAST, "consume", "t", "-g", "g", *self.at],
                                 stdout=subprocess.PIPE, text=True)
        self.run("produce", "t", data="late\n")
        self.assertEqual(child.stdout.readline(), "late\n")
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(20), 0)
        child.stdout.close()
        self.assertEqual(self.lines("consume", "t", "-g", "g", "-e"), [])

    def test_transactions_are_whole(self):
        self.run("topic", "create", "t", "-p", "2")
        self.run("produce", "t", "--transactional-id", "x", data="a\nb\nc\n")
        self.assertEqual(sorted(self.lines("consume", "t", "-e")), ["a", "b", "c"])
        failed = self.run("produce", "t", "--transactional-id", "x", "-f", "%p %v\\n",
                          data="0 d\n7 e\n", code=1)
        self.assertIn("record 2 was not delivered to t", failed.stderr)
        self.assertIn("the transaction was aborted", failed.stderr)
        self.assertEqual(sorted(self.lines("consume", "t", "-e")), ["a", "b", "c"])
        self.assertEqual(self.lines("consume", "t", "-e", "--read-uncommitted", "-p", "0")[-1], "d")

    def test_a_transaction_whose_input_is_not_read_to_its_end_is_aborted(self):
        self.run("topic", "create", "t")
        failed = self.run("produce", "t", "--transactional-id", "x", "-f", "json",
                          data='{"value":"a"}\n{"value":"b"}\nnot json\n{"value":"d"}\n', code=2)
        self.assertIn("line 3: not an object", failed.stderr)
        self.assertIn("the transaction was aborted: no record is there", failed.stderr)
        # Standard input that cannot be read: a directory.
        directory = os.open(self.directory, os.O_RDONLY)
        self.addCleanup(os.close, directory)
        failed = subprocess.run(
            [harness.HOLDFAST, "produce", "t", "--transactional-id", "x", *self.at],
            stdin=directory, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertIn("the transaction was aborted: no record is there", failed.stderr)
        self.assertEqual(self.lines("consume", "t", "-e"), [])
        self.assertEqual(self.lines("consume", "t", "-e", "--read-uncommitted"), ["a", "b"])
        # Without a transaction what comes before the mistake is there.
        failed = self.run("produce", "t", "-f", "json", data='{"value":"a"}\nnot json\n', code=2)
        self.assertNotIn("transaction", failed.stderr)
        self.assertEqual(self.lines("consume", "t", "-e"), ["a"])

    def test_a_producer_that_is_stopped_leaves_nothing_open(self):
        self.run("topic", "create", "t", "-p", "1")

        def start(*arguments):
            child = subprocess.Popen([harness.HOLDFAST, "produce", "t", *arguments, *self.at],
                                     stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(child.kill)
            return child

        def there(values):
            wait_for(lambda: self.lines("consume", "t", "-e", "--read-uncommitted") == values, 20,
                     "the records")

        child = start("--transactional-id", "x")
        child.stdin.write("a\n")
        child.stdin.flush()
        there(["a"])
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(20), 1)
        self.assertIn("the transaction was aborted: no record is there", child.communicate()[1])
        self.run("produce", "t", data="after\n")
        self.assertEqual(self.lines("consume", "t", "-e"), ["after"])

        # What is not whole is not sent.
        child = start()
        child.stdin.write("b\ncut o")
        child.stdin.flush()
        there(["a", "after", "b"])
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(20), 1)
        self.assertIn("stopped after 1 records", child.communicate()[1])
        there(["a", "after", "b"])

        child = start()
        child.stdin.write("c\n")
        child.stdin.flush()
        there(["a", "after", "b", "c"])
        self.tier.child.send_signal(signal.SIGSTOP)
        child.stdin.write("d\n")
        child.stdin.flush()
        for each in (signal.SIGINT, signal.SIGTERM):
            self.assertIsNone(child.poll())
            time.sleep(0.5)
            child.send_signal(each)
        self.assertEqual(child.wait(5), -signal.SIGTERM)
        child.communicate()
        self.tier.child.send_signal(signal.SIGCONT)

    def test_who_lost_its_terminal_ends_unless_it_was_to_stay(self):
        self.run("topic", "create", "t", "-p", "1")

        def start(*arguments, **options):
            child = subprocess.Popen([harness.HOLDFAST, *arguments, *self.at],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True, **options)
            self.addCleanup(child.communicate)
            self.addCleanup(child.kill)
            return child

        producer = start("produce", "t", "--offsets")
        producer.stdin.write("a\n")
        producer.stdin.flush()
        self.assertEqual(producer.stdout.readline(), "0@0\n")
        producer.send_signal(signal.SIGHUP)
        self.assertEqual(producer.wait(20), 1)
        self.assertIn("stopped after 1 records", producer.stderr.read())

        reader = start("consume", "t", "-g", "g")
        self.assertEqual(reader.stdout.readline(), "a\n")
        reader.send_signal(signal.SIGHUP)
        self.assertEqual(reader.wait(20), 0)
        self.run("produce", "t", data="b\n")

        # As nohup starts it; what the first one printed is committed.
        reader = start("consume", "t", "-g", "g",
                       preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.assertEqual(reader.stdout.readline(), "b\n")
        reader.send_signal(signal.SIGHUP)
        self.run("produce", "t", data="c\n")
        self.assertEqual(reader.stdout.readline(), "c\n")
        reader.send_signal(signal.SIGTERM)
        self.assertEqual(reader.wait(20), 0)

    def test_a_format_may_have_the_topic(self):
        for topic in ("x1", "x2"):
            self.run("topic", "create", topic, "-p", "1")
        self.run("produce", "-f", "%t %v\\n", data="x1 hello\nx2 there\n")
        self.assertEqual([one["value"] for one in self.consumed("x1")], ["hello"])
        self.assertEqual([one["value"] for one in self.consumed("x2")], ["there"])
        self.assertIn("which TOPIC?", self.run("produce", "-f", "%v\\n", data="", code=2).stderr)

    def test_a_local_transaction_has_no_offsets(self):
        config = self.path("local.json")
        with open(config, "w", encoding="utf-8") as out:
            json.dump({"agent": {"transactions": [{"pattern": "*", "mode": "local"}],
                                 "topics": [{"name": "tx", "partitions": 1}]}}, out)
        agent = self.agent(self.tier.address, "--config", config).start()
        done = run("produce", "tx", "-b", agent.address, "--transactional-id", "orders-1",
                   "--offsets", data="1\n2\n3\n")
        self.assertEqual(done.stdout, "0@-\n" * 3)

    def test_what_is_not_delivered_is_named(self):
        self.run("topic", "create", "t", "-p", "2", "-c", "max.message.bytes=1000")
        failed = self.run("produce", "t", "-X", "batch.size=1", "-p", "0", "--offsets",
                          data="small\n" + "x" * 2000 + "\n", code=1)
        self.assertEqual(failed.stdout, "0@0\n")
        self.assertIn("record 2 was not delivered to t: MESSAGE_TOO_LARGE", failed.stderr)
        failed = self.run("produce", "t", "-f", "%p %v\\n", data="0 fine\nnonsense\n", code=2)
        self.assertIn("the input is not as the format says: there is no number (at byte 7)",
                      failed.stderr)
        self.at = ("-b", NOWHERE)
        failed = self.run("produce", "t", "-X", "message.timeout.ms=300", data="a\n", code=1)
        self.assertIn("HF0006: record 1 was not delivered to t: Local: Message timed out",
                      failed.stderr)

    def test_large_input_goes_through_with_a_bar(self):
        self.run("topic", "create", "t", "-p", "3")
        path = self.path("input")
        with open(path, "w", encoding="utf-8") as out:
            for i in range(300000):
                out.write(f"{i:08}\t{'x' * 92}\n")
        terminal, side = pty.openpty()
        with open(path, "rb") as data:
            child = subprocess.Popen(
                [harness.HOLDFAST, "produce", "t", "-f", "%k\\t%v\\n", "-X", "linger.ms=20",
                 *self.at], stdin=data, stdout=subprocess.DEVNULL, stderr=side)
        os.close(side)
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 65536)
            except OSError:
                break
        os.close(terminal)
        self.assertEqual(child.wait(60), 0, shown[-1000:])
        if shown:  # A machine that needs half a second for it.
            self.assertRegex(shown.decode(),
                             r"producing \[#* *\] +\d+ % of 29\.2 MiB, [\d,]+ records, .*/s")
        ends = [one["end"] for one in self.json("topic", "describe", "t")[0]["partitions"]]
        self.assertEqual(sum(ends), 300000)
        keys = self.lines("consume", "t", "-e", "-n", "300000", "-f", "%k\\n")
        self.assertEqual(sorted(map(int, keys)), list(range(300000)))

    def test_it_goes_on_while_records_come(self):
        self.run("topic", "create", "t", "-p", "1")
        child = subprocess.Popen([harness.HOLDFAST, "produce", "t", "--offsets", *self.at],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for i, line in enumerate(("line 0", "line 1", "", "line 3")):
            child.stdin.write(line + "\n")
            child.stdin.flush()
            self.assertEqual(child.stdout.readline(), f"0@{i}\n")
        child.stdin.close()
        self.assertEqual(child.wait(20), 0)
        child.stdout.close()
        reader = subprocess.Popen([harness.HOLDFAST, "consume", "t", *self.at],
                                  stdout=subprocess.PIPE, text=True)
        self.assertEqual([reader.stdout.readline() for _ in range(4)],
                         ["line 0\n", "line 1\n", "\n", "line 3\n"])
        reader.stdout.close()
        self.run("produce", "t", data="nobody reads this\n")
        wait_for(lambda: reader.poll() is not None, 20, "the end of who writes to nobody")

    def test_a_reader_says_that_it_waits_for_the_tier(self):
        self.run("topic", "create", "t", "-p", "1")
        self.run("produce", "t", data="a\n")
        child = subprocess.Popen([harness.HOLDFAST, "consume", "t", *self.at],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        self.assertEqual(child.stdout.readline(), "a\n")
        self.tier.kill()
        self.assertIn("holdfast: waiting for the tier: ",
                      child.stderr.readline())
        self.tier.start()
        self.run("produce", "t", data="b\n")
        self.assertEqual(child.stdout.readline(), "b\n")

    def test_what_others_name_does_nothing_to_the_terminal(self):
        self.run("topic", "create", "dead", "-p", "1")
        consumer = Consumer({"bootstrap.servers": self.tier.address, "group.id": HOSTILE})
        consumer.commit(offsets=[TopicPartition("dead", 0, 0)], asynchronous=False)
        consumer.close()
        producer = Producer({"bootstrap.servers": self.tier.address})
        producer.produce("dead", "x", headers=[("holdfast.dlq.topic", HOSTILE.encode()),
                                               ("holdfast.dlq.partition", b"0")])
        producer.flush(20)
        with open(self.path("holdfast.yaml"), "w", encoding="utf-8") as file:
            json.dump({"agent": {"upstream": {"bootstrap": [self.tier.address]}, "listen": NOWHERE,
                                 "spool": {"directory": self.path("agent")},
                                 "dead_letters": {"policy": "topic", "topic_name": "dead"}}}, file)
        for shown in (self.run("group", "list").stdout,
                      self.run("group", "describe", HOSTILE).stdout,
                      self.run("group", "describe", HOSTILE + "x", code=1).stderr,
                      run("dlq", "ls", self.path("holdfast.yaml")).stdout):
            self.assertIn(r"evil\x1b[2J\x1b]0;owned\x07\xc2\x9b31m", shown)
            self.assertNotRegex(shown, "[\x00-\x09\x0b-\x1f\x7f-\x9f]")

    def test_members_of_a_cooperative_group_share_the_partitions(self):
        member = ("consume", "t", "-g", "g", "-X",
                  "partition.assignment.strategy=cooperative-sticky")
        self.run("topic", "create", "t", "-p", "2")

        def produce(value):
            self.run("produce", "t", "-f", "%p %v\\n", data=f"0 {value}\n1 {value}\n")

        def start():
            child = subprocess.Popen([harness.HOLDFAST, *member, "-f", "%p %v\\n", *self.at],
                                     stdout=subprocess.PIPE, text=True)
            self.addCleanup(child.stdout.close)
            self.addCleanup(child.kill)
            return child

        produce("a")
        self.assertEqual(self.lines(*member, "-e"), ["a", "a"])
        produce("b")
        members = [start()]
        self.assertEqual(sorted(members[0].stdout.readline() for _ in range(2)), ["0 b\n", "1 b\n"])
        members.append(start())

        def shared():
            described = self.json("group", "describe", "g")[0]
            return described["state"] == "Stable" and len(
                {one["member"] for one in described["partitions"]} - {None}) == 2

        wait_for(shared, 60, "both to have a partition")
        produce("c")
        self.assertEqual(sorted(child.stdout.readline() for child in members),
                         ["0 c\n", "1 c\n"])
        for child in members:
            child.send_signal(signal.SIGINT)
            self.assertEqual(child.wait(20), 0)
        self.assertEqual(self.lines(*member, "-e"), [])

    def test_a_member_of_a_group_stops_though_the_tier_is_silent(self):
        self.run("topic", "create", "t", "-p", "1")
        self.run("produce", "t", data="a\n")
        for signals, codes in (([signal.SIGINT], [1]),
                               ([signal.SIGINT, signal.SIGTERM],
                                [-signal.SIGINT, -signal.SIGTERM])):
            child = subprocess.Popen(
                [harness.HOLDFAST, "consume", "t", "-g", f"g{len(signals)}", *self.at],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(child.kill)
            self.assertEqual(child.stdout.readline(), "a\n")
            self.tier.child.send_signal(signal.SIGSTOP)
            begun = time.monotonic()
            for each in signals:
                child.send_signal(each)
                time.sleep(1)  # It is at its last commit then.
            _, error = child.communicate(timeout=30)
            self.assertIn(child.returncode, codes, error)
            if len(signals) == 1:
                self.assertIn("HF0006: the tier does not answer", error)
            else:
                self.assertLess(time.monotonic() - begun, 5)
            self.tier.child.send_signal(signal.SIGCONT)

    def test_a_member_of_a_group_goes_on_after_its_session(self):
        self.tier.stop()
        self.tier = self.broker("--set", "broker.groups.session_timeout_min_ms=1").start()
        self.at = ("-b", self.tier.address)
        self.run("topic", "create", "t", "-p", "1")
        pipe = subprocess.PIPE
        producer = subprocess.Popen([harness.HOLDFAST, "produce", "t", *self.at], stdin=pipe,
                                    text=True)
        reader = subprocess.Popen(
            [harness.HOLDFAST, "consume", "t", "-g", "g", "-X", "session.timeout.ms=2000", "-X",
             "heartbeat.interval.ms=500", *self.at], stdout=pipe, stderr=pipe, text=True)
        for child in producer, reader:
            self.addCleanup(child.communicate)
            self.addCleanup(child.kill)
        for i in range(120):
            producer.stdin.write(f"{i}\n")
            producer.stdin.flush()
            if i == 0:
                self.assertEqual(reader.stdout.readline(), "0\n")
            elif i in (15, 60):
                reader.send_signal(signal.SIGSTOP)
            elif i in (55, 100):  # As on a host that slept for four seconds.
                reader.send_signal(signal.SIGCONT)
            time.sleep(0.1)
        while (line := reader.stdout.readline()) != "119\n":
            self.assertTrue(line, reader.stderr.read() if line == "" else "")
        reader.send_signal(signal.SIGTERM)
        self.assertEqual(reader.wait(20), 0)
        self.assertEqual(self.lines("consume", "t", "-g", "g", "-e"), [])

    def cut_off(self, *arguments):
        """Runs with standard output on a full disk; what it says of it."""
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([harness.HOLDFAST, *arguments], stdin=subprocess.DEVNULL,
                                  stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
                                  check=False)
        self.assertEqual(done.returncode, 1, arguments)
        return done.stderr

    def test_output_that_is_cut_off_is_a_failure(self):
        full = "HF0004: cannot write to standard output: No space left on device"
        names = [f"topic-with-a-long-name-{i:03}" for i in range(200)]
        self.run("topic", "create", *names, "-p", "1")
        self.run("produce", names[0], data="".join(f"record {i}\n" for i in range(3000)))
        self.run("produce", names[1], data="short\n")
        # More than what is held back, so that the last flush has nothing to write; and less.
        for arguments in (["consume", names[0], "-e"], ["consume", names[1], "-e"],
                          ["topic", "list"], ["topic", "list", "--format", "json"]):
            self.assertIn(full, self.cut_off(*arguments, *self.at), arguments)
        for arguments in (["explain"], ["manual", "2026-01-01"], ["consume", "--help"],
                          ["top", "--batch", "--interval", "100ms", "--admin", self.tier.admin]):
            self.assertIn(full, self.cut_off(*arguments), arguments)
        # A member of a group gets again what it could not print.
        for _ in range(2):
            self.assertIn(full, self.cut_off("consume", names[0], "-g", "g", "-e", *self.at))
        self.assertEqual(len(self.lines("consume", names[0], "-g", "g", "-e")), 3000)

    def test_the_tier_is_found_by_a_configuration(self):
        config = self.path("holdfast.yaml")
        with open(config, "w", encoding="utf-8") as out:
            json.dump({"agent": {"upstream": {"bootstrap": [NOWHERE, self.tier.address]}}}, out)
        self.at = ("--config", config)
        self.run("topic", "create", "t", "-p", "1")
        self.run("produce", "t", data="a\n")
        self.assertEqual(self.lines("consume", "t", "-e"), ["a"])
        self.at = ("-X", "bootstrap.servers=" + self.tier.address)
        self.assertEqual(self.lines("consume", "t", "-e"), ["a"])

    def groups(self):
        return {one["name"]: one["state"] for one in self.json("group", "list")}

    def offsets(self, *arguments):
        """What a seek says: partition -> (before, after)."""
        return {one["partition"]: (one["before"], one["after"])
                for one in self.json("group", "seek", "g", *arguments)}

    def test_groups_are_shown_moved_and_deleted(self):
        agent = self.agent(self.tier.address).start()
        self.run("topic", "create", "t", "u", "-p", "2")

        def produce(numbers):
            self.run("produce", "t", "-f", "%p %d %v\\n", data="".join(
                f"{i % 2} {1000000000000 + i * 1000} v{i}\n" for i in numbers))

        # Which partition a consumer reads first is left to the fetches, so that all there is at
        # that moment is read: both partitions have an offset then.
        produce(range(6))
        self.assertEqual(self.groups(), {})
        self.assertIn("group g: GROUP_ID_NOT_FOUND",
                      self.run("group", "describe", "g", code=1).stderr)
        self.run("consume", "t", "-g", "g", "-n", "6")
        self.assertEqual(self.groups(), {"g": "Empty"})
        produce(range(6, 20))

        # A member, of both protocols where the client library knows them.
        consumer = Consumer({"bootstrap.servers": self.tier.address, "group.id": "g",
                             "client.id": "someone", "enable.auto.commit": False})
        consumer.subscribe(["t"])

        def joined():
            consumer.poll(0.1)
            return len(consumer.assignment()) == 2

        wait_for(joined, 30, "partitions")
        for address in (self.tier.address, agent.address):
            self.at = ("-b", address)
            described = self.json("group", "describe", "g")[0]
            self.assertEqual((described["state"], described["type"], described["members"]),
                             ("Stable", "classic", 1))
            self.assertEqual(described["lag"], 14)
            self.assertEqual([one["client"] for one in described["partitions"]], ["someone"] * 2)
            shown = self.run("group", "describe", "g").stdout
            self.assertIn("g\nstate Stable, classic with range, members 1", shown)
            self.assertRegex(shown, r"t +1 +\d+ +10 +\d+ +\S+ +someone")
            refused = self.run("group", "seek", "g", "--to", "start", code=1).stderr
            self.assertIn("group g is Stable with 1 members: stop its consumers first", refused)
            self.assertIn("NON_EMPTY_GROUP",
                          self.run("group", "delete", "g", "--yes", code=1).stderr)
        consumer.close()
        wait_for(lambda: self.groups() == {"g": "Empty"}, 30, "the member to be gone")

        before = {one["partition"]: one["committed"]
                  for one in self.json("group", "describe", "g")[0]["partitions"]}
        self.assertEqual(before, {0: 3, 1: 3})
        self.assertEqual(self.offsets("--to", "start", "--dry-run"),
                         {one: (before[one], 0) for one in before})
        first = self.offsets("--to", "4", "--topics", "t")
        self.assertEqual({one: after for one, (_, after) in first.items()}, {0: 4, 1: 4})
        for to, after in (("+3", 7), ("-1", 6), ("end", 10), ("+5", 10), ("-99", 0), ("99", 10),
                          ("@1000000004000", 2), ("@2020-01-01", 10), ("start", 0)):
            moved = self.offsets("--to", to)
            self.assertEqual({one: now for one, (_, now) in moved.items()}, {0: after, 1: after},
                             to)
        self.assertEqual(self.offsets("--to", "3", "--partitions", "1"), {1: (0, 3)})
        self.assertIn("group g has no offset of a partition 7", self.run(
            "group", "seek", "g", "--to", "start", "-p", "1,7", code=1).stderr)
        read = self.lines("consume", "t", "-g", "g", "-n", "17", "-f", "%p\\n")
        self.assertEqual(read.count("1"), 7)
        self.assertIn("UNKNOWN_TOPIC_OR_PARTITION", self.run(
            "group", "reset", "g", "--to", "end", "--topics", "t,nothing", code=1).stderr)
        self.assertIn("--topics says which", self.run("group", "seek", "new", "--to", "end",
                                                      code=1).stderr)
        self.run("group", "seek", "new", "--to", "end", "--topics", "u")
        self.assertEqual(self.groups(), {"g": "Empty", "new": "Empty"})

        deleted = self.lines("group", "offset-delete", "g", "-t", "t", "-p", "0")
        self.assertEqual(deleted, ["deleted the offset of t/0"])
        self.assertEqual([one["partition"] for one in
                          self.json("group", "describe", "g")[0]["partitions"]], [1])
        self.assertIn("--yes", self.run("group", "delete", "g", code=2).stderr)
        gone = self.run("group", "delete", "g", "nobody", "--yes", code=1)
        self.assertEqual(gone.stdout, "deleted g\n")
        self.assertIn("group nobody: GROUP_ID_NOT_FOUND", gone.stderr)
        self.assertEqual(self.groups(), {"new": "Empty"})

    def test_settings_are_shown_and_changed(self):
        self.run("topic", "create", "t", "-p", "1")
        self.run("config", "alter", "topic", "t", "--set", "retention.ms=1234", "--set",
                 "cleanup.policy=compact,delete")
        settings = {one["name"]: one for one in self.json("config", "describe", "topic", "t")}
        self.assertEqual((settings["retention.ms"]["value"], settings["retention.ms"]["source"],
                          settings["retention.ms"]["default"]), ("1234", "topic", False))
        self.assertEqual(settings["cleanup.policy"]["value"], "compact,delete")
        self.assertTrue(settings["segment.bytes"]["default"])
        self.run("config", "alter", "topic", "t", "--delete", "retention.ms", "--dry-run")
        self.assertRegex(self.run("config", "describe", "topic", "t").stdout,
                         r"\nretention\.ms +1234 +topic\n")
        self.run("config", "alter", "broker", "0", "--set", "log.retention.ms=5000")
        told = self.json("config", "describe", "broker", "0")
        self.assertEqual([one["value"] for one in told if one["name"] == "log.retention.ms"],
                         ["5000"])
        for code, arguments, message in (
                (1, ["describe", "topic", "nothing"], "UNKNOWN_TOPIC_OR_PARTITION"),
                (1, ["describe", "broker", "7"], "no broker 7"),
                (2, ["describe", "broker", "seven"], "brokers have numbers, such as 0"),
                (2, ["describe", "cluster", "x"], "KIND"),
                (1, ["alter", "topic", "t", "--set", "no.such=1"], "topic t: INVALID_CONFIG"),
        ):
            self.assertIn(message, self.run("config", *arguments, code=code).stderr)


class AccessTest(Case):
    """Who may not do something is told which rule would allow it, and that rule does."""

    def tier_of(self, *users):
        """A broker where `admin` may do everything; runs a command there as one of the users."""
        path = self.path("broker.json")
        with open(path, "w", encoding="utf-8") as out:
            json.dump({"broker": {
                "authorizer": {"enabled": True, "super_users": ["User:admin"]},
                "users": [{"name": name, "password": "secret"} for name in users],
                "sasl": {"mechanisms": ["SCRAM-SHA-512"]}}}, out)
        tier = self.broker("--config", path).start()

        def as_user(user, *arguments, password="secret", **options):
            return run(*arguments, "-b", tier.address, "-X", "security.protocol=SASL_PLAINTEXT",
                       "-X", "sasl.mechanism=SCRAM-SHA-512", "-X", f"sasl.username={user}", "-X",
                       f"sasl.password={password}", **options)
        return as_user

    def test_rules_are_made_shown_and_deleted(self):
        as_user = self.tier_of("admin", "orders")
        os.environ["PASSWORD"] = "wrong"
        self.addCleanup(os.environ.pop, "PASSWORD")
        listed = ("admin", "topic", "list")
        self.assertIn("cannot reach the tier",
                      as_user(*listed, password="{env: PASSWORD}", code=1).stderr)
        os.environ["PASSWORD"] = "secret"
        as_user(*listed, password="{env: PASSWORD}")

        def rules(*arguments):
            return json.loads(as_user("admin", "acl", "list", "--format", "json",
                                      *arguments).stdout)

        def allow_what_is_missing(message, operation):
            self.assertIn("holdfast acl create --allow-principal User:NAME", message)
            advised = message.split("User:NAME ")[1].splitlines()[0].split()
            self.assertEqual(advised[:2], ["--operation", operation])
            as_user("admin", "acl", "create", "--allow-principal", "User:orders", *advised)

        as_user("admin", "topic", "create", "t", "-p", "1")
        self.assertEqual(rules(), [])
        refused = as_user("orders", "topic", "create", "mine", code=1).stderr
        self.assertIn("TOPIC_AUTHORIZATION_FAILED", refused)
        allow_what_is_missing(refused, "create")
        as_user("orders", "topic", "create", "mine")
        refused = as_user("orders", "produce", "t", data="a\n", code=1).stderr
        self.assertIn("record 1 was not delivered to t: TOPIC_AUTHORIZATION_FAILED", refused)
        allow_what_is_missing(refused, "write")
        as_user("orders", "produce", "t", data="a\n")
        refused = as_user("orders", "consume", "t", "-g", "readers", "-n", "1", code=1).stderr
        self.assertIn("AUTHORIZATION_FAILED", refused)
        allow_what_is_missing(refused, "read")
        refused = as_user("orders", "consume", "t", "-g", "readers", "-n", "1", code=1).stderr
        allow_what_is_missing(refused, "read")
        self.assertEqual(as_user("orders", "consume", "t", "-g", "readers", "-n", "1").stdout,
                         "a\n")
        self.assertIn("--operation describe --cluster",
                      as_user("orders", "acl", "list", code=1).stderr)
        self.assertIn("--operation alter --cluster",
                      as_user("orders", "acl", "create", "--allow-principal", "User:x",
                              "--operation", "all", "--topic", "t", code=1).stderr)

        made = as_user("admin", "acl", "create", "--allow-principal", "User:CN=a,OU=b",
                       "--deny-principal", "User:*", "--host", "10.0.0.7", "--operation",
                       "DescribeConfigs,alter_configs", "--topic", "pre-", "--cluster",
                       "--transactional-id", "tx", "--resource-pattern-type", "prefixed")
        self.assertEqual(len(made.stdout.splitlines()), 1 + 2 * 2 * 3)
        self.assertEqual(len(rules("--allow-principal", "User:CN=a,OU=b")), 6)
        self.assertEqual(rules("--deny-principal", "User:*", "--cluster", "--operation",
                               "alter-configs"),
                         [{"principal": "User:*", "permission": "deny",
                           "operation": "alter-configs", "resource": "cluster",
                           "name": "kafka-cluster", "pattern": "literal", "host": "10.0.0.7"}])
        self.assertEqual(len(rules("--topic", "pre-fixed", "--resource-pattern-type", "match")), 4)
        self.assertEqual(rules("--topic", "pre-fixed"), [])

        def deletion(*arguments, **options):
            return as_user("admin", "acl", "delete", *arguments, **options)

        self.assertIn("--yes", deletion("--host", "10.0.0.7", code=2).stderr)
        self.assertIn("deleted 12 rules", deletion("--host", "10.0.0.7", "--yes").stdout)
        self.assertIn("no such rules", deletion("--host", "10.0.0.7", "--yes", code=1).stderr)
        self.assertEqual({one["principal"] for one in rules()}, {"User:orders"})
        for arguments, message in (
                (["create"], "--allow-principal"),
                (["create", "--allow-principal", "User:x"], "--operation"),
                (["create", "--allow-principal", "User:x", "--operation", "read"], "--topic"),
                (["create", "--allow-principal", "x", "--operation", "read", "--topic", "t"],
                 "write User:x"),
                (["create", "--allow-principal", "User:x", "--operation", "fly", "--topic", "t"],
                 "one of any, all, read"),
                (["list", "--resource-pattern-type", "regex"], "one of any, match"),
        ):
            self.assertIn(message, as_user("admin", "acl", *arguments, code=2).stderr)

    def test_a_reader_without_a_group_needs_no_right_on_one(self):
        as_user = self.tier_of("admin", "reader")
        as_user("admin", "topic", "create", "t", "-p", "1")
        as_user("admin", "produce", "t", data="a\nb\n")
        as_user("admin", "acl", "create", "--allow-principal", "User:reader", "--operation", "read",
                "--topic", "t")
        self.assertEqual(as_user("reader", "consume", "t", "-e").stdout, "a\nb\n")
        self.assertEqual(as_user("reader", "consume", "t", "-o", "-1", "-n", "1").stdout, "b\n")
        self.assertIn("--operation read --group readers",
                      as_user("reader", "consume", "t", "-g", "readers", code=1).stderr)

    def test_every_verb_goes_over_tls_with_a_login(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("tier")
        with open(self.path("broker.json"), "w", encoding="utf-8") as out:
            json.dump({"broker": {
                "authorizer": {"enabled": True, "super_users": ["User:admin"]},
                "users": [{"name": "admin", "password": "secret"}],
                "sasl": {"mechanisms": ["SCRAM-SHA-256"]},
                "tls": {"certificate": certificate, "key": key}}}, out)
        tier = self.broker("--config", self.path("broker.json")).start()

        def secured(*arguments, ca=authority.ca, password="secret", **options):
            return run(*arguments, "-b", tier.address, "-X", "security.protocol=SASL_SSL",
                       "-X", "sasl.mechanism=SCRAM-SHA-256", "-X", "sasl.username=admin",
                       "-X", f"sasl.password={password}", "-X", f"ssl.ca.location={ca}", **options)

        secured("topic", "create", "t", "-p", "1")
        secured("produce", "t", data="a\nb\n")
        secured("produce", "t", "--transactional-id", "x", data="c\n")
        self.assertEqual(secured("consume", "t", "-g", "g", "-e").stdout, "a\nb\nc\n")
        there = secured("consume", "t", "-e", "-f", "json").stdout
        secured("produce", "-f", "json", data=there)
        self.assertIn("g", secured("group", "list").stdout)
        secured("group", "seek", "g", "--to", "start")
        secured("topic", "trim", "t", "-o", "3", "--yes")
        self.assertEqual(secured("consume", "t", "-e").stdout, "a\nb\nc\n")
        secured("config", "alter", "topic", "t", "--set", "retention.ms=1234")
        self.assertIn("1234", secured("topic", "describe", "t").stdout)
        secured("acl", "create", "--allow-principal", "User:x", "--operation", "read", "--topic",
                "t")
        self.assertIn("User:x", secured("acl", "list").stdout)
        secured("group", "delete", "g", "--yes")
        secured("topic", "delete", "t", "--yes")

        other = Authority(self.directory, "other").ca
        for verb, options, message in (
                (["topic", "list"], {"ca": other}, "certificate"),
                (["topic", "list"], {"password": "wrong"}, "SASL_AUTHENTICATION_FAILED"),
                (["consume", "t", "-e"], {"ca": other}, "certificate"),
                (["consume", "t", "-g", "g"], {"ca": other}, "certificate"),
                (["consume", "t", "-g", "g"], {"password": "wrong"}, "SASL_AUTHENTICATION_FAILED"),
                (["consume", "t", "-e"], {"password": "wrong"}, "SASL_AUTHENTICATION_FAILED")):
            self.assertIn(message, secured(*verb, code=1, **options).stderr)
        # librdkafka goes on trying, until the record's time is over.
        for options, message in (({"ca": other}, "certificate verify failed"),
                                 ({"password": "wrong"}, "authentication error")):
            self.assertIn(message, secured("produce", "t", "-X", "message.timeout.ms=3000", code=1,
                                           data="a\n", **options).stderr)

    def test_a_tier_without_rules_says_so(self):
        tier = self.broker().start()
        for arguments in (["list"], ["create", "--allow-principal", "User:x", "--operation", "all",
                                     "--topic", "t"]):
            done = run("acl", *arguments, "-b", tier.address, code=1)
            self.assertIn("SECURITY_DISABLED", done.stderr)
            self.assertIn("broker.authorizer.enabled", done.stderr)


if __name__ == "__main__":
    harness.main()
