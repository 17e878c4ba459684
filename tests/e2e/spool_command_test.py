#!/usr/bin/python3
"""`holdfast spool`: every verb on the directory of an agent, live and idle, and of a broker."""

import base64
import contextlib
import json
import os
import pty
import subprocess
import unittest

import harness
from harness import Case, wait_for

NOWHERE = "127.0.0.1:1"


def run(*arguments, code=0, stdin=subprocess.DEVNULL, text=True):
    done = subprocess.run([harness.HOLDFAST, "spool", *arguments], stdin=stdin, text=text,
                          capture_output=True, timeout=60)
    if done.returncode != code:
        raise AssertionError(f"spool {' '.join(arguments)}: exit {done.returncode}, not {code}\n"
                             f"{done.stdout}\n{done.stderr}")
    return done


def lines(*arguments, code=0):
    return run(*arguments, code=code).stdout.splitlines()


class SpoolCommandTest(Case):
    TOPICS = "agent.topics=[{name: orders, partitions: 3}, {name: notes, partitions: 1}]"

    def agent(self, upstream=NOWHERE, *arguments):
        return super().agent(upstream, "--set", self.TOPICS, *arguments)

    def setUp(self):
        super().setUp()
        self.spool = self.path("agent")

    def produce(self, agent, count=30, codec="none"):
        """Records "key<i>" -> "value <i>", in partition 1 of orders."""
        harness.kcat("-P", "-b", agent.address, "-t", "orders", "-p", "1", "-K", ":", "-z", codec,
                     data="".join(f"key{i}:value {i}\n" for i in range(count)))

    def names(self):
        return sorted(os.listdir(self.spool))

    def test_status_and_ls_show_the_same_live_and_idle(self):
        agent = self.agent().start()
        self.produce(agent)
        before = self.names()
        live = json.loads(run("status", "--json", self.spool).stdout)
        self.assertEqual(self.names(), before)
        self.assertTrue(live["live"])
        self.assertEqual(live["owner_pid"], agent.child.pid)
        self.assertEqual((live["format"], live["records"], live["streams_with_records"]),
                         (1, 30, 1))
        self.assertGreater(live["disk_bytes"], 1 << 20)
        self.assertIsNone(live["handed_over"])
        self.assertIn(f"the process with pid {agent.child.pid}", run("status", self.spool).stdout)
        streams = [json.loads(line) for line in lines("ls", "--json", self.spool)]
        agent.stop()
        idle = json.loads(run("status", "--json", self.spool).stdout)
        self.assertFalse(idle["live"])
        self.assertEqual(idle["records"], 30)
        self.assertEqual(idle["oldest_ms"], live["oldest_ms"])
        self.assertEqual([json.loads(line) for line in lines("ls", "--json", self.spool)], streams)
        orders = next(s for s in streams if s["stream"] == "orders/1")
        self.assertEqual((orders["start"], orders["end"], orders["records"]), (0, 30, 30))
        self.assertRegex(run("ls", self.spool).stdout, r"(?m)^orders/1 +0 +30 +30 ")

    def test_status_of_a_directory_whose_name_is_no_utf_8(self):
        self.agent().start().stop()
        odd = os.fsdecode(os.fsencode(self.path("odd")) + b"\xff")
        os.rename(self.spool, odd)
        status = json.loads(run("status", "--json", odd).stdout)
        self.assertEqual(status["directory"], self.path("odd\N{REPLACEMENT CHARACTER}"))

    def test_cat_reads_every_codec_live(self):
        agent = self.agent().start()
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            self.produce(agent, 20, codec)
        expected = [f"key{i}\tvalue {i}" for i in range(20)] * 5
        self.assertEqual(lines("cat", self.spool, "orders/1"), expected)
        self.assertEqual(lines("cat", self.spool, "orders/1", "--from", "37", "--count", "5"),
                         expected[37:42])
        raw = run("cat", self.spool, "orders/1", "--format", "raw", text=False).stdout
        self.assertEqual(raw[16], 2)  # Magic.
        last = [json.loads(line) for line in
                lines("cat", self.spool, "orders/1", "--format", "json", "--from", "99")]
        self.assertEqual([(r["offset"], r["key"], r["value"]) for r in last],
                         [(99, "key19", "value 19")])
        agent.kill()
        self.assertEqual(lines("cat", self.spool, "orders/1"), expected)

    def test_cat_shows_bytes_that_are_no_text(self):
        from confluent_kafka import Producer  # pylint: disable=import-outside-toplevel
        agent = self.agent().start()
        producer = Producer({"bootstrap.servers": agent.address, "enable.idempotence": True})
        producer.produce("notes", key=b"a\tb", value=b"\xff\x00\n", partition=0,
                         headers=[("h", b"\xfe"), ("t", "text")])
        producer.produce("notes", key=None, value=None, partition=0)
        self.assertEqual(producer.flush(20), 0)
        self.assertEqual(lines("cat", self.spool, "notes/0"), ["a\\tb\t\\xff\\x00\\n", "\\N\t\\N"])
        first, second = [json.loads(line) for line in
                         lines("cat", self.spool, "notes/0", "--format", "json")]
        self.assertEqual(first["key"], "a\tb")
        self.assertEqual(base64.b64decode(first["value_base64"]), b"\xff\x00\n")
        self.assertEqual(first["headers"], [{"key": "h", "value_base64": "/g=="},
                                            {"key": "t", "value": "text"}])
        self.assertGreater(first["producer_id"], 0)
        self.assertEqual((second["key"], second["value"], second["offset"]), (None, None, 1))

    def test_a_live_spool_is_read_while_it_is_written(self):
        agent = self.agent(NOWHERE, "--set", "agent.spool.segment_bytes=1MiB").start()
        writer = subprocess.Popen(
            ["kcat", "-P", "-b", agent.address, "-t", "orders", "-p", "1", "-X",
             "batch.num.messages=50"], stdin=subprocess.PIPE, text=True)
        try:
            seen = 0
            for batch in range(40):
                for i in range(200):
                    writer.stdin.write(f"{batch * 200 + i} {'x' * 200}\n")
                writer.stdin.flush()
                numbers = [int(line.split("\t")[1].split()[0])
                           for line in (lines("cat", self.spool, "orders/1") if seen else [])]
                self.assertEqual(numbers, list(range(len(numbers))))
                seen = max(seen, len(numbers),
                           json.loads(run("status", "--json", self.spool).stdout)["records"])
            writer.stdin.close()
            self.assertEqual(writer.wait(30), 0)
        finally:
            writer.kill()
        self.assertEqual(len(lines("cat", self.spool, "orders/1")), 8000)
        self.assertGreater(json.loads(run("status", "--json", self.spool).stdout)["segments"], 1)

    def test_mistakes_are_named(self):
        agent = self.agent().start()
        self.produce(agent)
        os.mkdir(self.path("empty"))
        for arguments, code, message in (
                ([], 2, "VERB"), (["stat", self.spool], 2, "stat"),
                (["cat", self.spool], 2, "STREAM"),
                (["cat", self.spool, "orders/1", "--format", "xml"], 2, "text, json or raw"),
                (["status", self.path("nothing")], 1, "no such directory"),
                (["status", self.path("empty")], 1, "is empty"),
                (["status", self.directory], 1, "is not a spool"),
                (["cat", self.spool, "order/1"], 1, 'did you mean "orders/1"'),
                (["cat", self.spool, "orders/1", "--from", "31"], 1, "not there yet"),
                (["drop", self.spool], 2, "--all"),
                (["export", self.spool], 2, "FILE"),
                (["drop", self.spool, "orders/1", "--yes"], 1, "HF2001"),
                (["drop", "--all", self.spool, "--yes"], 1, "stop it first"),
                (["compact", self.spool], 1, "stop it first"),
                (["repair", self.spool, "--yes"], 1, "stop it first"),
                (["export", self.spool, self.path("x")], 1, "stop it first"),
                (["import", self.path("x"), self.spool], 1, "cannot open"),
        ):
            self.assertIn(message, run(*arguments, code=code).stderr, arguments)
        self.assertEqual(os.listdir(self.path("empty")), [])
        agent.stop()
        self.assertIn("--yes", run("drop", self.spool, "orders/1", code=2).stderr)
        self.assertEqual(len(lines("cat", self.spool, "orders/1")), 30)

    def test_an_imported_spool_delivers_everything_once(self):
        tier = self.broker().start()
        agent = self.agent(tier.address).start()
        self.produce(agent, 10)
        agent.wait_drained()
        tier.stop()
        self.produce(agent, 25, "zstd")
        agent.kill()  # With delivery half way.
        file = self.path("spool.export")
        run("export", self.spool, file)
        again = run("export", self.spool, self.path("again"), code=1)
        self.assertEqual(again.stderr.count("--undo"), 1)
        done = subprocess.run([harness.HOLDFAST, "agent", "--spool", self.spool, "--upstream",
                               NOWHERE, "--listen", "127.0.0.1:0"], capture_output=True, text=True,
                              timeout=20)
        self.assertEqual(done.returncode, 1)
        self.assertIn("handed over", done.stderr)
        self.assertIn("this spool was handed over", run("status", self.spool).stdout)
        other = self.path("other")
        run("import", file, other)
        tier.start()
        heir = harness.Process("agent", self.directory, "--spool", other, "--upstream",
                               tier.address, "--set", self.TOPICS)
        self.processes.append(heir)
        heir.start()
        heir.wait_drained()
        expected = [f"value {i}" for i in range(10)] + [f"value {i}" for i in range(25)]
        self.assertEqual(harness.consume(tier.address, "orders", "-p", "1"), expected)
        self.produce(heir, 3)
        heir.wait_drained()
        self.assertEqual(len(harness.consume(tier.address, "orders", "-p", "1")), 38)

    def test_an_export_goes_through_a_pipe_and_can_be_taken_back(self):
        agent = self.agent().start()
        self.produce(agent)
        agent.stop()
        other = self.path("other")
        with subprocess.Popen([harness.HOLDFAST, "spool", "export", self.spool, "-"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as sender:
            run("import", "-", other, stdin=sender.stdout)
        self.assertEqual(lines("cat", other, "orders/1"), lines("cat", self.spool, "orders/1"))
        self.assertIn("a spool already",
                      run("import", os.devnull, other, code=1).stderr)
        run("drop", "--all", "--yes", other)
        self.assertIn("is empty", run("status", other, code=1).stderr)
        run("export", "--undo", self.spool)
        run("export", "--copy", self.spool, self.path("copy"))
        agent.start()
        self.assertEqual(len(lines("cat", self.spool, "orders/1")), 30)

    def test_an_export_says_that_its_pipe_broke(self):
        agent = self.agent().start()
        self.produce(agent)
        agent.stop()
        reader, writer = os.pipe()
        os.close(reader)
        sender = subprocess.run([harness.HOLDFAST, "spool", "export", self.spool, "-"],
                                stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
        os.close(writer)
        self.assertEqual(sender.returncode, 1)
        self.assertIn("Broken pipe", sender.stderr)

    def test_what_is_dropped_is_not_delivered_and_the_rest_is(self):
        tier = self.broker().start()
        agent = self.agent(tier.address).start()
        self.produce(agent, 5)
        agent.wait_drained()
        tier.stop()
        self.produce(agent, 7)
        harness.produce(agent.address, "notes", ["kept"])
        agent.stop()
        self.assertIn("dropped 7 records", run("drop", self.spool, "orders/1", "--yes").stdout)
        self.assertIn("nothing waits", run("drop", self.spool, "orders/1", "--yes").stdout)
        tier.start()
        agent.start()
        ledger = json.loads(agent.get("/ledger"))
        self.assertEqual(ledger["dropped_records"], 7)
        dropped, = [range for stream in ledger["streams"] for range in stream["drops"]]
        self.assertEqual((dropped["begin"], dropped["end"], dropped["cause"]), (5, 12, "by hand"))
        self.assertGreater(dropped["bytes"], 0)
        self.produce(agent, 2)
        agent.wait_drained()
        self.assertEqual(harness.consume(tier.address, "notes"), ["kept"])
        self.assertEqual(harness.consume(tier.address, "orders", "-p", "1"),
                         [f"value {i}" for i in range(5)] + ["value 0", "value 1"])

    def answer(self, answer, *arguments):
        """What the command shows at a terminal where a person answers so, and its exit code."""
        child, terminal = pty.fork()
        if child == 0:
            os.execv(harness.HOLDFAST, [harness.HOLDFAST, "spool", *arguments])
        os.write(terminal, answer.encode() + b"\n")
        shown = b""
        with contextlib.suppress(OSError):  # The terminal is gone with its process.
            while part := os.read(terminal, 4096):
                shown += part
        os.close(terminal)
        return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def test_drop_asks_whoever_sits_at_the_terminal(self):
        agent = self.agent().start()
        self.produce(agent, 4)
        agent.stop()
        shown, code = self.answer("n", "drop", self.spool, "orders/1")
        self.assertRegex(shown, r"Throw away 4 records \(\d+ B\) of orders/1\? \[y/N\]")
        self.assertEqual(code, 1)
        self.assertEqual(len(lines("cat", self.spool, "orders/1")), 4)
        shown, code = self.answer("y", "drop", "--all", self.spool)
        self.assertEqual(code, 0, shown)
        self.assertEqual(self.names(), ["LOCK"])

    def test_compact_frees_disk_and_loses_nothing(self):
        agent = self.agent(NOWHERE, "--set", "agent.spool.segment_bytes=1MiB").start()
        for i in range(6):
            harness.produce(agent.address, "notes", [f"note {i}"])
            harness.kcat("-P", "-b", agent.address, "-t", "orders", "-p", "1",
                         data="".join("x" * 1000 + "\n" for _ in range(800)))
        agent.stop()
        run("drop", self.spool, "orders/1", "--yes")
        before = json.loads(run("status", "--json", self.spool).stdout)
        self.assertRegex(run("compact", self.spool).stdout, r"^[1-9]\d* segments rewritten")
        after = json.loads(run("status", "--json", self.spool).stdout)
        self.assertLess(after["disk_bytes"], before["disk_bytes"] / 2)
        self.assertEqual(lines("cat", self.spool, "notes/0"), [f"\\N\tnote {i}" for i in range(6)])
        run("verify", self.spool)
        agent.start()

    def test_verify_finds_damage_and_repair_ends_it(self):
        agent = self.agent().start()
        self.produce(agent, 10)
        harness.produce(agent.address, "notes", ["a note"])
        harness.produce(agent.address, "notes", ["a note to be damaged"])
        harness.produce(agent.address, "notes", ["the newest note"])
        self.assertIn("all sound", run("verify", self.spool).stdout)
        agent.stop()
        self.assertIn("all sound", run("verify", self.spool).stdout)
        harness.damage(self.spool, b"a note to be damaged")
        self.assertIn("damaged frame", run("verify", self.spool, code=1).stdout)
        self.assertEqual(len(json.loads(run("verify", "--json", self.spool, code=1).stdout)
                             ["damages"]), 1)
        run("repair", self.spool, "--yes")
        self.assertIn("all sound", run("verify", self.spool).stdout)
        self.assertEqual(len(lines("cat", self.spool, "orders/1")), 10)
        tier = self.broker().start()
        heir = self.agent(tier.address).start()
        heir.wait_drained()
        self.assertEqual(harness.consume(tier.address, "notes"), ["a note", "the newest note"])

    def test_repair_says_what_it_has_not_repaired(self):
        agent = self.agent().start()
        for note in ("one", "a large note " + "x" * 30000, "the newest note"):
            harness.produce(agent.address, "notes", [note])
        agent.stop()
        harness.damage(self.spool, b"a large note")
        self.assertIn("1 damaged", run("verify", self.spool, code=1).stdout)
        self.assertIn("repaired, but for this", run("repair", self.spool, "--yes", code=1).stdout)

    def test_dead_letters_that_are_lost_are_said_and_fail_the_replay(self):
        tier = self.broker("--set", "broker.message_bytes_max=20000")
        agent = self.agent(tier.address).start()
        harness.produce(agent.address, "notes", ["x" * 50000], "-X", "compression.codec=none")
        tier.start()
        wait_for(lambda: agent.metric("holdfast_agent_dead_letter_records_total") == 1,
                 what="a dead letter")
        harness.produce(agent.address, "notes", ["a note"])
        agent.wait_drained()
        agent.stop()
        harness.damage(self.spool, b"holdfast.dlq.topic")
        done = subprocess.run([harness.HOLDFAST, "dlq", "replay", self.spool], text=True,
                              capture_output=True, check=False)
        self.assertIn("notes/0: 0 records are to be delivered again", done.stdout)
        self.assertIn("1 dead letters are damaged, and not replayed", done.stderr)
        self.assertEqual(done.returncode, 1)

    def test_a_spool_whose_removal_was_cut_off_is_no_ordinary_one(self):
        agent = self.agent().start()
        self.produce(agent, 3)
        agent.stop()
        self.assertIs(json.loads(run("status", "--json", self.spool).stdout)["being_removed"],
                      False)
        with open(os.path.join(self.spool, "EXPORTED"), "w", encoding="ascii") as mark:
            mark.write("this spool is being dropped\n")
        before = self.names()
        self.assertIn("spool drop --all", run("status", self.spool).stdout)
        self.assertIs(json.loads(run("status", "--json", self.spool).stdout)["being_removed"],
                      True)
        done = subprocess.run([harness.HOLDFAST, "dlq", "replay", self.spool], text=True,
                              capture_output=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("being removed", done.stderr)
        self.assertEqual(self.names(), before)

    def test_a_torn_newest_commit_is_said_and_is_no_damage(self):
        agent = self.agent().start()
        for note in ("one", "two", "three, which the power cut tears"):
            harness.produce(agent.address, "notes", [note])
        agent.stop()
        harness.damage(self.spool, b"three, which")
        found = run("verify", self.spool).stdout
        self.assertIn("torn", found)
        self.assertIn("all sound", found)
        self.assertIsNotNone(json.loads(run("verify", "--json", self.spool).stdout)["torn_segment"])
        agent.start()
        wait_for(lambda: "HF2109" in agent.log(), what="word of the torn commit")
        harness.produce(agent.address, "notes", ["four"])
        agent.stop()
        self.assertEqual([line.split("\t")[1] for line in lines("cat", self.spool, "notes/0")],
                         ["one", "two", "four"])
        self.assertNotIn("torn", run("verify", self.spool).stdout)

    def test_verify_checks_the_batches_own_checksums(self):
        agent = self.agent().start()
        # Larger than what the spool sums itself.
        harness.produce(agent.address, "notes", ["a note to be damaged" + "." * 30000])
        harness.produce(agent.address, "notes", ["the newest note"])
        agent.stop()
        harness.damage(self.spool, b"a note to be damaged")
        found = run("verify", self.spool, code=1).stdout
        self.assertIn("CRC", found)
        self.assertIn("lost: notes/0 [0, 1)", found)

    def test_a_brokers_streams_have_the_names_of_their_topics(self):
        tier = self.broker().start()
        harness.produce(tier.address, "greetings", ["hello"], "-p", "0")
        data = self.path("broker")
        wait_for(lambda: lines("cat", data, "greetings/0") == ["\\N\thello"], what="the greeting")
        self.assertIn("greetings/0", run("ls", data).stdout)

    def test_an_encrypted_spool_wants_its_key(self):
        key = self.path("key")
        with open(key, "w", encoding="utf-8") as file:
            file.write(base64.b64encode(os.urandom(32)).decode() + "\n")
        agent = self.agent(NOWHERE, "--set",
                           "agent.spool.encryption_keys=[{file: %s}]" % key).start()
        self.produce(agent, 5)
        self.assertIn("encrypted with the key", run("status", self.spool, code=1).stderr)
        self.assertEqual(len(lines("cat", self.spool, "orders/1", "--key", key)), 5)
        agent.stop()
        run("export", self.spool, self.path("export"), "--key", key)
        with open(self.path("export"), "rb") as file:
            self.assertNotIn(b"value 1", file.read())
        run("import", self.path("export"), self.path("other"), "--key", key)
        self.assertEqual(len(lines("cat", self.path("other"), "orders/1", "--key", key)), 5)


if __name__ == "__main__":
    harness.main()
