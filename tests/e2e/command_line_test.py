#!/usr/bin/python3
"""The command line as people and supervisors see it: exit codes, messages, signals, ports."""

import glob
import json
import os
import re
import signal
import socket
import subprocess
import time
import unittest

import harness
from certificates import Authority
from harness import Case, wait_for


def run(*arguments, environment=None, timeout=20):
    return subprocess.run([harness.HOLDFAST, *arguments], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=timeout,
                          env=dict(os.environ, **(environment or {})))


class CommandLineTest(Case):
    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def spawn(self, *arguments):
        """A process without the harness's ports; its output is a pipe."""
        child = subprocess.Popen([harness.HOLDFAST, *arguments], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stderr.close)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def test_version_and_help_are_fine(self):
        for arguments in (["version"], ["--version"]):
            done = run(*arguments)
            self.assertEqual(done.returncode, 0)
            self.assertRegex(done.stdout, r"^holdfast \d+\.\d+\.\d+\n$")
        for arguments in (["--help"], ["agent", "--help"], ["broker", "-h"], ["dev", "--help"],
                          ["validate", "--help"]):
            done = run(*arguments)
            self.assertEqual(done.returncode, 0, arguments)
            self.assertIn("Example", done.stdout)
            self.assertEqual(done.stderr, "")

    def test_wrong_usage_exits_with_2_and_says_why(self):
        for arguments, message in (
                ([], "COMMAND"),
                (["brokre"], "brokre"),
                (["broker", "--dta", "x"], "--dta"),
                (["broker", "--listen"], "--listen"),
                (["broker", "--set", "nonsense"], "KEY=VALUE"),
                (["broker", "--set", "broker.lisen=x"], 'did you mean "broker.listen"?'),
                (["broker", "--listen", "127.0.0.1:0"], "broker.data.directory is not set: "
                                                        "give --data DIR"),
                (["agent", "--listen", "127.0.0.1:0", "--spool", "x"],
                 "agent.upstream.bootstrap is not set: give --upstream HOST:PORT[,...]"),
                (["broker", "--listen", "nonsense", "--data", "x"], "must be HOST:PORT"),
                (["broker", "--config", "/nonexistent.yaml"], "cannot read /nonexistent.yaml"),
                (["validate"], "FILE"),
        ):
            done = run(*arguments)
            self.assertEqual(done.returncode, 2, (arguments, done.stderr))
            self.assertEqual(done.stdout, "")
            self.assertIn(message, done.stderr)

    def test_validate_names_every_mistake_and_its_place(self):
        good = self.write("good.yaml", "agent:\n  listen: 127.0.0.1:0\n  spool: {directory: s}\n"
                                       "  upstream: {bootstrap: 127.0.0.1:1}\n")
        done = run("validate", good)
        self.assertEqual((done.returncode, done.stdout), (0, f"{good}: good for agent\n"))
        bad = self.write("bad.yaml", "agent:\n  lisen: x\n  workers: many\n")
        done = run("validate", bad)
        self.assertEqual(done.returncode, 2)
        self.assertIn(f'{bad}:2:3: unknown key "agent.lisen"; did you mean "agent.listen"?',
                      done.stderr)
        self.assertIn(f"{bad}:3:12: agent.workers", done.stderr)
        half = self.write("half.yaml", "agent:\n  listen: 127.0.0.1:0\n")
        self.assertEqual(run("validate", half).returncode, 2)

    def validated(self, text):
        """What is wrong with it, but for what an example leaves out and files that it names."""
        done = run("validate", self.write("example.yaml", text))
        self.assertIn(done.returncode, (0, 1, 2), done.stderr)
        return [line for line in done.stderr.splitlines()
                if " is not set: give " not in line and "cannot read /" not in line]

    def a_role(self, role):
        return {"agent": {"listen": "127.0.0.1:0", "spool": {"directory": self.path("spool")},
                          "upstream": {"bootstrap": "127.0.0.1:1"}},
                "broker": {"listen": "127.0.0.1:0", "data": {"directory": self.path("data")}},
                "inject": {"listen": "127.0.0.1:0",
                           "tls": {"certificate": self.certificate, "key": self.key},
                           "sidecar": {"image": "x", "agent_config_file": self.agents}}}[role]

    def refused(self, code, text, role, **more):
        """By `validate` and by the role itself, and the doctor says so."""
        file = self.write("role.yaml", json.dumps({role: {**self.a_role(role), **more}}))
        for arguments in (["validate", file], [role, "--config", file]):
            done = run(*arguments)
            said = done.stderr
            self.assertEqual(done.returncode, code, (arguments, more, said))
            self.assertEqual(done.stdout, "")
            self.assertIn(text, said)
        done = run("doctor", "--config", file, "--only", "config", "--json")
        self.assertEqual(done.returncode, 1, (more, done.stdout))
        found = [one["code"] for one in json.loads(done.stdout)["findings"]]
        self.assertIn("HF9001", found, more)
        self.assertNotIn("HF9002", found, more)
        return said

    def test_what_a_role_would_not_start_with_is_a_wrong_configuration(self):
        self.certificate, self.key, _ = Authority(self.directory).issue("webhook")
        self.agents = self.write("agents.yaml", "agent:\n  upstream: {bootstrap: kafka:9092}\n")
        sidecar = self.a_role("inject")["sidecar"]
        oauth = {"mechanisms": ["OAUTHBEARER"]}
        second = {"name": "second", "listen": "127.0.0.1:0"}
        for role, text, more in (
                ("broker", "broker.sasl.mechanisms", {"sasl": {"mechanisms": ["FOO"]}}),
                ("broker", "broker.sasl.oauthbearer needs jwks_endpoint_url", {"sasl": oauth}),
                ("broker", "broker.authorizer.super_users", {"authorizer":
                                                             {"super_users": ["admin"]}}),
                ("broker", "broker.users", {"users": [{"name": "x"}]}),
                ("broker", "broker.listeners names", {"listeners": [second, second]}),
                ("broker", "broker.listeners: second", {"listeners": [{"name": "second"}]}),
                ("broker", "broker.data.bytes_max", {"data": {"directory": self.path("data"),
                                                              "bytes_max": "3MiB"}}),
                ("broker", "broker.tls.certificate", {"tls": {"key": "/nonexistent"}}),
                ("broker", "broker.admin", {"admin": "a host:9090"}),
                ("agent", "agent.spool.bytes_max", {"spool": {"directory": self.path("spool"),
                                                              "bytes_max": "3MiB"}}),
                ("agent", "agent.orphans.directory", {"orphans": {"after_ms": "60s"}}),
                ("agent", "agent.upstream.bootstrap", {"upstream": {"bootstrap": ["a b:9092"]}}),
                ("agent", "agent.listen", {"listen": ["[::x]:9092"]}),
                ("agent", "agent.upstream.schedule", {"upstream": {
                    "bootstrap": "127.0.0.1:1", "schedule": {"windows": [{"when": "noon"}]}}}),
                ("inject", "inject.sidecar.spool_size", {"sidecar": {**sidecar,
                                                                     "spool_size": "abc"}}),
                ("inject", "must not be the same", {"sidecar": {**sidecar, "kafka_port": 9999,
                                                               "admin_port": 9999}}),
                ("inject", "inject.kubernetes_version", {"kubernetes_version": "new"})):
            self.assertIn("HF1001: ", self.refused(2, text, role, **more))
        # What may be there a moment later is tried again by who watches.
        self.refused(1, "HF1007", "broker", tls={"certificate": "/nonexistent"})
        self.refused(1, "HF1007", "agent", tls={"certificate": "/nonexistent"})
        self.refused(1, "HF1007", "broker", tls={"certificate": self.write("empty.pem", "")})
        self.refused(1, "cannot read /nonexistent", "inject",
                     sidecar={**sidecar, "agent_config_file": "/nonexistent"})
        self.refused(1, "HF1007", "inject", tls={"certificate": "/nonexistent", "key": self.key})

    def test_validate_says_what_is_wrong_with_each_role(self):
        self.certificate = self.key = self.agents = "/nonexistent"
        roles = {role: self.a_role(role) for role in ("agent", "broker", "inject")}
        roles["agent"]["orphans"] = {"after_ms": "60s"}
        roles["broker"]["users"] = [{"name": "x"}]
        done = run("validate", self.write("roles.yaml", json.dumps(roles)))
        self.assertEqual(done.returncode, 2, done.stderr)
        for text in "agent.orphans", "broker.users", "cannot read /nonexistent":
            self.assertIn(text, done.stderr)
        # A role does not ask for what is another's.
        child = self.spawn("broker", "--config", self.path("roles.yaml"), "--set",
                           "broker.users=[]")
        self.assertIn("broker listening on", child.stdout.readline())

    def test_examples_are_good(self):
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        examples = 0
        for name in ["README.md", *sorted(glob.glob(root + "/docs/*.md"))]:
            with open(os.path.join(root, name), encoding="utf-8") as file:
                blocks = re.findall(r"^```yaml\n(.*?)^```", file.read(), re.MULTILINE | re.DOTALL)
            for block in blocks:
                # Others are of Kubernetes, or of other programs.
                if re.match(r"(?:#.*\n|\s*\n)*(?:agent|broker|inject|log):\n(?!  config:)", block):
                    examples += 1
                    self.assertEqual(self.validated(block), [], (name, block))
        self.assertGreater(examples, 10)
        with open(root + "/packaging/etc/agent.yaml", encoding="utf-8") as file:
            packaged = file.read()
        uncommented = re.sub(r"^( +)# ((?: +- | *[a-z_.]+:(?: |$)).*)$", r"\1\2", packaged,
                             flags=re.MULTILINE)
        self.assertIn("\n    bytes_per_second_max: ", uncommented)
        self.assertIn("\n    properties:\n      security.protocol:", uncommented)
        self.assertEqual(self.validated(uncommented), [])

    def agent_of(self, listen, bootstrap, **more):
        return self.write("agent.yaml", json.dumps({"agent": {
            "listen": listen, "spool": {"directory": self.path("spool")},
            "upstream": {"bootstrap": bootstrap}, "access": {"open_listeners": True}, **more}}))

    def test_an_agent_is_not_its_own_tier(self):
        def agent(listen, bootstrap):
            return self.agent_of(listen, bootstrap,
                                 listeners=[{"name": "second", "listen": "127.0.0.1:9093"}])

        for listen, bootstrap in (
                ("127.0.0.1:9092", "127.0.0.1:9092"),
                ("127.0.0.1:9092", "kafka:9092,localhost:9092"),
                ("localhost:9092", "127.0.0.1:9092"),
                ("0.0.0.0:9092", "127.0.0.1:9092"),
                ("[::]:9092", "127.0.0.7:9092"),
                ("127.0.0.1:9092", "0.0.0.0:9092"),
                ("[::1]:9092", "[::1]:9092"),
                ("Orders-1:9092", "orders-1:9092"),
                ("127.0.0.1:9092", "127.0.0.1:9093")):
            file = agent(listen, bootstrap)
            done = run("validate", file)
            self.assertEqual(done.returncode, 2, (listen, bootstrap))
            self.assertIn("HF1001: agent.upstream.bootstrap has", done.stderr)
            self.assertIn("where the agent itself listens", done.stderr)
        self.assertIn("agent.listeners second is 127.0.0.1:9093", done.stderr)
        self.assertEqual(run("agent", "--config", file).returncode, 2)
        found = json.loads(run("doctor", "--config", file, "--only", "config", "--json").stdout)
        self.assertIn("HF9001", [one["code"] for one in found["findings"]])

        for listen, bootstrap in (
                ("127.0.0.1:9092", "127.0.0.2:9092"),
                ("127.0.0.1:9092", "127.0.0.1:9094"),
                ("127.0.0.1:9092", "kafka:9092"),
                ("0.0.0.0:9092", "[::1]:9092"),
                ("0.0.0.0:9092", "10.0.0.1:9092")):
            done = run("validate", agent(listen, bootstrap))
            self.assertEqual(done.returncode, 0, (listen, bootstrap, done.stderr))

    def test_an_agent_whose_tier_has_this_hosts_name_starts_and_says_so(self):
        # As a node with IPVS has the addresses of all services.
        port = harness.free_port()
        file = self.agent_of(f"0.0.0.0:{port}", f"{socket.gethostname()}:{port}")
        found = json.loads(run("doctor", "--config", file, "--only", "config", "--json").stdout)
        self.assertNotIn("HF9001", [one["code"] for one in found["findings"]])
        self.assertIn("note", [one["severity"] for one in found["findings"]
                               if "its own tier" in one["what"]])
        child = self.spawn("agent", "--config", file)
        self.assertIn(f"agent listening on 0.0.0.0:{port}", child.stdout.readline())
        child.kill()
        self.assertRegex(child.stderr.read(), "HF1011.*, which is this host")

    def test_a_standard_error_that_takes_nothing_changes_no_exit_code(self):
        for arguments, code in ((["validate", "/nonexistent.yaml"], 2),
                                (["spool", "verify", "/nonexistent"], 1),
                                (["topic", "list", "-b", "127.0.0.1:1"], 1),
                                (["broker", "--listen", "127.0.0.1:0", "--data", "/dev/null"], 1)):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([harness.HOLDFAST, *arguments], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=full, timeout=20)
            self.assertEqual(done.returncode, code, arguments)
            done = subprocess.run(["/bin/sh", "-c", 'exec "$0" "$@" >&- 2>&-', harness.HOLDFAST,
                                   *arguments], stdin=subprocess.DEVNULL, timeout=20)
            self.assertEqual(done.returncode, code, arguments)

    def test_file_environment_set_and_option_win_in_this_order(self):
        file = self.write("order.yaml", "broker:\n  listen: 127.0.0.1:1\n  node_id: -1\n")
        data = self.path("data")
        done = run("broker", "--config", file, "--data", data)
        self.assertIn("node_id", done.stderr)
        file = self.write("order.yaml", "broker:\n  listen: 256.0.0.1:1\n")
        child = self.spawn("broker", "--config", file, "--data", data, "--set",
                           "broker.listen=256.0.0.2:1", "--listen", "127.0.0.1:0")
        self.assertRegex(child.stdout.readline(), r"^broker listening on 127\.0\.0\.1:\d+\n$")

    def test_the_chosen_ports_are_printed_one_per_line(self):
        child = self.spawn("broker", "--data", self.path("d"), "--listen", "127.0.0.1:0",
                           "--admin", "127.0.0.1:0")
        listening, admin = child.stdout.readline(), child.stdout.readline()
        self.assertRegex(listening, r"^broker listening on 127\.0\.0\.1:[1-9]\d+\n$")
        self.assertRegex(admin, r"^broker admin on 127\.0\.0\.1:[1-9]\d+\n$")
        socket.create_connection(("127.0.0.1", int(listening.rsplit(":", 1)[1]))).close()

    def test_dev_runs_both_and_says_what_to_try(self):
        child = self.spawn("dev", "--dir", self.path("dev"), "--set", "agent.listen=127.0.0.1:0",
                           "--set", "agent.admin=127.0.0.1:0", "--set", "broker.admin=127.0.0.1:0",
                           "--set", "broker.listen=127.0.0.1:0")
        text = ""
        while "Ctrl-C" not in text:
            line = child.stdout.readline()
            self.assertTrue(line, child.stderr.read() if child.poll() is not None else "")
            text += line
        address = re.search(r"^agent listening on (\S+)$", text, re.M).group(1)
        self.assertIn(f"kcat -P -b {address}", text)
        harness.produce(address, "greetings", ["hello"])
        wait_for(lambda: harness.consume(address, "greetings") == ["hello"], what="the greeting")
        # What looks at an agent finds this one as well.
        admin = re.search(r"^agent admin on (\S+)$", text, re.M).group(1)
        traced = subprocess.run([harness.HOLDFAST, "trace", "greetings", "0", "--offset", "0",
                                 "--admin", admin], capture_output=True, text=True, timeout=30)
        self.assertIn("accepted", traced.stdout, traced.stderr)
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(20), 0)

    def test_an_address_in_use_is_a_clear_failure(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            for arguments in (
                    ["broker", "--data", self.path("d"), "--listen", address],
                    ["broker", "--data", self.path("d"), "--listen", "127.0.0.1:0",
                     "--admin", address],
                    ["agent", "--spool", self.path("s"), "--upstream", "127.0.0.1:1",
                     "--listen", address]):
                done = run(*arguments)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(address, done.stderr)
                self.assertIn("in use", done.stderr)

    def test_a_directory_that_cannot_be_made_is_a_clear_failure(self):
        file = self.write("file", "")
        done = run("broker", "--data", file + "/below", "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(file, done.stderr)
        done = run("agent", "--spool", file, "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(file, done.stderr)

    def test_a_second_process_on_the_same_directory_is_refused(self):
        first = self.broker().start()
        done = run("broker", "--data", self.path("broker"), "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(self.path("broker"), done.stderr)
        self.assertTrue(first.running())
        host = self.agent(first.address).start()
        done = run("agent", "--spool", self.path("agent"), "--upstream", first.address,
                   "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(self.path("agent"), done.stderr)
        self.assertTrue(host.running())

    def test_sigterm_and_sigint_drain_and_exit_with_0(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            tier = self.broker().start()
            tier.child.send_signal(number)
            self.assertEqual(tier.child.wait(15), 0)
            tier.child = None

    def test_sighup_reads_the_configuration_anew(self):
        tier = self.broker().start()
        tier.child.send_signal(signal.SIGHUP)
        wait_for(lambda: "reloaded: no setting has changed" in tier.log(), what="a word in the log")
        self.assertTrue(tier.get("/live"))

    def test_a_second_signal_exits_at_once(self):
        tier = self.broker("--set", "broker.drain_timeout_ms=60s").start()
        harness.produce(tier.address, "quiet", ["x"])
        waiting = subprocess.Popen(
            ["kcat", "-C", "-q", "-b", tier.address, "-t", "quiet", "-X",
             "fetch.wait.max.ms=60000", "-X", "socket.timeout.ms=90000"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.addCleanup(waiting.wait)
        self.addCleanup(waiting.kill)
        wait_for(lambda: tier.metric("holdfast_broker_parked_fetches") >= 1, what="a long poll")
        tier.child.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        tier.child.send_signal(signal.SIGTERM)
        self.assertIn(tier.child.wait(3), (0, -signal.SIGTERM))  # 0: it was done already.
        tier.child = None

    def test_json_lines_in_the_log_are_json(self):
        tier = self.broker("--set", "log.format=json").start()
        tier.stop()
        lines = tier.log().splitlines()
        self.assertTrue(lines)
        for line in lines:
            self.assertIn("message", json.loads(line))


if __name__ == "__main__":
    harness.main()
