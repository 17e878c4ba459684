#!/usr/bin/python3
"""`holdfast doctor` through the built binary: a good setup, and one fault after the other."""

import json
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness
from certificates import Authority, run
from harness import Case, produce

from broker_security_test import LITERAL, READ, TOPIC, WRITE, Administrator
from confluent_kafka.admin import AdminClient, NewTopic

DESCRIBE, DESCRIBE_CONFIGS = 8, 10
# Its clock, where its temporary files are, how fast and large its disk is, and whether it is a pod.
OF_THE_HOST = {"HF9101", "HF9102", "HF9103", "HF9104", "HF9106", "HF9107", "HF9109", "HF9201",
               "HF9006", "HF9501", "HF9502", "HF9503"}
SASL = ("--set", "agent.upstream.properties.security.protocol=SASL_PLAINTEXT",
        "--set", "agent.upstream.properties.sasl.mechanism=SCRAM-SHA-256",
        "--set", "agent.upstream.properties.sasl.username=agent")


class DoctorCase(Case):
    def doctor(self, *arguments, code=0, spool=None):
        """The findings; the exit code is as expected (None: that of the host's disk)."""
        done = subprocess.run(
            [harness.HOLDFAST, "doctor", "--json", "--listen", "127.0.0.1:0",
             "--spool", spool or self.path("agent"), *arguments],
            capture_output=True, text=True, check=False, timeout=60)
        if code is not None:
            self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "")
        self.report = json.loads(done.stdout)
        return self.report["findings"]

    def found(self, code, findings):
        """What is said of the problem of that code, once."""
        said = [one for one in findings if one["code"] == code]
        self.assertEqual(len(said), 1, json.dumps(findings, indent=1))
        return said[0]["what"]

    def problems(self, findings):
        """Codes, but those of the host that this runs on."""
        return [one["code"] for one in findings if one["code"] and one["code"] not in OF_THE_HOST]

    def make(self, tier, *topics, **properties):
        admin = AdminClient({"bootstrap.servers": tier.address, **properties})
        for made in admin.create_topics(list(topics)).values():
            made.result(20)

    def upstream(self, *arguments, code=1):
        return self.doctor("--only", "upstream", *arguments, code=code)


class SetupTest(DoctorCase):
    def test_a_good_setup(self):
        tier = self.broker().start()
        self.make(tier, NewTopic("orders", 3))
        topics = ("--set", "agent.topics=[{name: orders, partitions: 3}, {name: later}]",
                  "--set", "agent.limits.connections_max=100")
        agent = self.agent(tier.address, *topics).start()
        produce(agent.address, "orders", ["one", "two"])
        agent.wait_drained()
        before = self.files_of_the_agent()
        self.doctor("--upstream", tier.address, "--only", "config,upstream,databases", *topics)
        findings = self.doctor("--upstream", tier.address, *topics, code=None)
        self.assertEqual(self.problems(findings), [])
        said = "\n".join(one["what"] for one in findings)
        for part in ("settings of agent are complete", f"process with pid {agent.child.pid}",
                     "a flush takes", "free of", f"{tier.address}: connected",
                     "has 1 broker", "may produce idempotently", "topic orders: 3 partitions",
                     "topic later: 1 partition", "there are no outbox sources"):
            self.assertIn(part, said)
        # The agent is not disturbed.
        self.assertEqual(self.files_of_the_agent(), before)
        produce(agent.address, "orders", ["three"])
        agent.wait_drained()
        self.assertEqual(len(harness.records(tier.address, "orders")), 3)

    def files_of_the_agent(self):
        """But segments, of which it makes some ahead of time when it likes to."""
        return {name for name in os.listdir(self.path("agent")) if ".segment" not in name}

    def test_its_json_and_its_text_say_the_same(self):
        findings = self.doctor("--only", "disk,clock", "--set",
                               "agent.spool.free_bytes_min=1000TB", code=1)
        self.assertEqual(set(self.report), {"error", "warning", "note", "good", "findings"})
        self.assertGreaterEqual(self.report["error"], 1)
        self.assertEqual({one["area"] for one in findings}, {"disk", "clock"})
        for one in findings:
            self.assertEqual(set(one), {"area", "severity", "code", "what", "why", "do"})
            troubled = one["severity"] in ("warning", "error")
            self.assertEqual([one[key] is not None for key in ("code", "why", "do")],
                             [troubled] * 3, one)
        text = subprocess.run(
            [harness.HOLDFAST, "doctor", "--spool", self.path("agent"), "--only", "disk,clock",
             "--set", "agent.spool.free_bytes_min=1000TB"],
            capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(text.returncode, 1)
        full = next(one for one in findings if one["code"] == "HF9108")
        for part in (full["code"], full["why"], full["do"]):
            self.assertIn(part, text.stdout)

    def test_settings_that_cannot_be_read_are_a_finding_too(self):
        findings = self.doctor("--set", "agent.spol.directory=x", code=2)
        self.assertIn("agent.spol", self.found("HF9001", findings))
        # What is wrong only together with others does not keep it from looking further.
        findings = self.doctor("--only", "config,disk", "--upstream", "127.0.0.1:1", "--set",
                               "agent.upstream.properties.ssl.ca.location=/nonexistent", code=1)
        self.assertIn("ssl.ca.location", self.found("HF9001", findings))
        self.assertIn("a flush takes", "\n".join(one["what"] for one in findings))

    def test_warnings_count_only_if_asked_for(self):
        weak = ("--only", "config", "--upstream", "127.0.0.1:1",
                "--set", "agent.spool.free_bytes_min=0")
        self.found("HF9004", self.doctor(*weak))
        self.doctor(*weak, "--strict", code=1)
        done = subprocess.run([harness.HOLDFAST, "doctor", "--only", "weather"],
                              capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, 2)


class DiskTest(DoctorCase):
    def test_a_spool_in_memory(self):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            findings = self.doctor("--only", "disk", spool=memory, code=1)
            self.assertIn("tmpfs at /dev/shm", self.found("HF9101", findings))
            self.assertEqual(os.listdir(memory), [])

    def test_a_foreign_directory_is_named_and_left_alone(self):
        os.mkdir(self.path("foreign"))
        with open(self.path("foreign/thesis.txt"), "w", encoding="utf-8") as file:
            file.write("x")
        findings = self.doctor("--only", "disk", spool=self.path("foreign"), code=1)
        self.assertIn("thesis.txt", self.found("HF9112", findings))
        self.assertEqual(os.listdir(self.path("foreign")), ["thesis.txt"])

    def test_a_spool_that_was_handed_over(self):
        agent = self.agent("127.0.0.1:1").start()
        agent.stop()
        subprocess.run([harness.HOLDFAST, "spool", "export", self.path("agent"),
                        self.path("export")], check=True, capture_output=True, timeout=60)
        findings = self.doctor("--only", "disk", code=1)
        self.assertIn("export --undo", self.found("HF9114", findings))

    def test_a_spool_whose_key_is_not_given(self):
        key = "agent.spool.encryption_keys=[" + "ab" * 32 + "]"
        agent = self.agent("127.0.0.1:1", "--set", key).start()
        agent.stop()
        self.assertEqual(self.problems(self.doctor("--only", "disk", "--set", key, code=None)), [])
        findings = self.doctor("--only", "disk", code=1)
        self.assertIn("encrypted", self.found("HF9114", findings))

    def test_clients_of_an_agent_take_two_files_each(self):
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, before[1]))
        try:
            findings = self.doctor("--only", "disk", "--set", "agent.limits.connections_max=300",
                                   code=None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        self.assertIn("connections may take 600", self.found("HF9110", findings))

    def test_a_path_that_is_a_file(self):
        with open(self.path("file"), "w", encoding="utf-8"):
            pass
        findings = self.doctor("--only", "disk", spool=self.path("file"), code=1)
        self.assertIn("Not a directory", self.found("HF9112", findings))

    @unittest.skipIf(os.geteuid() != 0, "only root can be somebody else")
    def test_rights_are_those_of_who_asks(self):
        os.chmod(self.directory, 0o755)
        for name, mode in (("closed", 0o700), ("shown", 0o755)):
            os.mkdir(self.path(name), mode)
        shutil.copy(harness.HOLDFAST, self.path("holdfast"))
        for name in "closed", "closed/below", "shown":
            done = subprocess.run(
                [self.path("holdfast"), "doctor", "--json", "--only", "disk", "--spool",
                 self.path(name)], capture_output=True, text=True, check=False, timeout=60,
                user=65534)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("user 65534 may not", self.found("HF9113",
                                                           json.loads(done.stdout)["findings"]))


class TierTest(DoctorCase):
    def test_names_and_addresses_that_lead_nowhere(self):
        findings = self.upstream("--upstream", "nowhere.invalid:9092,127.0.0.1:1")
        self.assertIn("cannot resolve 'nowhere.invalid'", self.found("HF9301", findings))
        self.assertIn("127.0.0.1:1: connect: Connection refused", self.found("HF9302", findings))
        # While another one answers, it is a warning. An agent tries all addresses of a name.
        tier = self.broker().start()
        findings = self.upstream("--upstream", f"127.0.0.1:1,{tier.address}", code=0)
        self.assertEqual(self.problems(findings), ["HF9302"])
        named = tier.address.replace("127.0.0.1", "localhost")
        self.assertEqual(self.problems(self.upstream("--upstream", named, code=0)), [])

    def test_one_that_takes_connections_and_says_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            findings = self.upstream("--upstream", f"127.0.0.1:{port}")
        self.assertIn("no answer in time", self.found("HF9307", findings))

    def test_tls(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("tier", days=60)
        tier = self.broker("--set", f"broker.tls={{certificate: {certificate}, key: {key}}}")
        tier.start()

        def secured(ca=authority.ca, *more, code=1):
            return self.upstream("--upstream", tier.address, "--set",
                                 "agent.upstream.properties.security.protocol=SSL", "--set",
                                 f"agent.upstream.properties.ssl.ca.location={ca}", *more,
                                 code=code)

        self.assertEqual(self.problems(secured(code=0)), [])
        # The wrong CA; a name that the certificate does not have; in the clear.
        other = Authority(self.directory, "other")
        self.assertIn("is not accepted", self.found("HF9303", secured(other.ca)))
        named = self.upstream(
            "--upstream", tier.address.replace("127.0.0.1", "127.0.0.2"), "--set",
            "agent.upstream.properties.security.protocol=SSL")
        self.assertTrue({"HF9302", "HF9303"} & set(self.problems(named)))
        self.found("HF9307", self.upstream("--upstream", tier.address))
        # A key that cannot be read: of the settings.
        findings = secured(authority.ca, "--set",
                           f"agent.upstream.properties.ssl.certificate.location={certificate}",
                           "--set", "agent.upstream.properties.ssl.key.location=/nonexistent.key")
        self.assertIn("/nonexistent.key", self.found("HF9001", findings))

    def test_certificates_that_end(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("tier", days=2)
        expired, expired_key = self.expired(authority)
        tier = self.broker("--set", f"broker.tls={{certificate: {certificate}, key: {key}}}")
        tier.start()
        ssl = ("--set", "agent.upstream.properties.security.protocol=SSL", "--set",
               f"agent.upstream.properties.ssl.ca.location={authority.ca}")
        findings = self.upstream("--upstream", tier.address, *ssl, code=0)
        self.assertEqual(self.problems(findings), ["HF9304"])
        tier.stop()
        old = self.broker("--set", f"broker.tls={{certificate: {expired}, key: {expired_key}}}")
        old.start()
        findings = self.upstream("--upstream", old.address, *ssl)
        self.assertIn("certificate has expired", self.found("HF9303", findings))

    def expired(self, authority):
        key, request, certificate = (self.path("expired" + end) for end in (".key", ".csr", ".pem"))
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", "/CN=expired", "-keyout", key, "-out", request)
        run("openssl", "x509", "-req", "-in", request, "-CA", authority.ca, "-CAkey",
            self.path("ca.key"), "-CAcreateserial", "-days", "-1", "-extfile",
            self.path("extensions.cnf"), "-out", certificate)
        return certificate, key

    def test_login(self):
        tier = self.broker("--set", "broker.sasl={mechanisms: [SCRAM-SHA-256]}", "--set",
                           "broker.users=[{name: agent, password: right}]").start()
        password = "agent.upstream.properties.sasl.password="
        findings = self.upstream("--upstream", tier.address, *SASL, "--set", password + "wrong")
        self.assertIn("SASL_AUTHENTICATION_FAILED", self.found("HF9306", findings))
        findings = self.upstream("--upstream", tier.address, *SASL, "--set", password + "right",
                                 code=0)
        self.assertEqual(self.problems(findings), [])
        self.assertIn("logged in by SCRAM-SHA-256", findings[0]["what"])
        # Without a login.
        findings = self.upstream("--upstream", tier.address)
        self.assertIn("may ask for SASL", self.found("HF9306", findings))

    def test_rights(self):
        tier = self.broker(
            "--set", "broker.sasl={mechanisms: [PLAIN, SCRAM-SHA-256]}", "--set",
            "broker.users=[{name: agent, password: p}, {name: admin, password: p}]", "--set",
            "broker.authorizer={enabled: true, super_users: ['User:admin']}").start()
        self.make(tier, *(NewTopic(name, 1) for name in ("open", "shown", "closed")), **{
            "sasl.username": "admin", "security.protocol": "SASL_PLAINTEXT", "sasl.password": "p",
            "sasl.mechanisms": "SCRAM-SHA-256"})
        administrator = Administrator(tier.address, "p")
        for topic, right in (("open", WRITE), ("open", READ), ("open", DESCRIBE_CONFIGS),
                             ("shown", DESCRIBE), ("shown", DESCRIBE_CONFIGS), ("new", WRITE)):
            administrator.allow(TOPIC, topic, LITERAL, "User:agent", right)
        administrator.client.__exit__()
        findings = self.upstream(
            "--upstream", tier.address, *SASL, "--set",
            "agent.upstream.properties.sasl.password=p", "--set",
            "agent.topics=[{name: open}, {name: shown}, {name: closed}, {name: new}]")
        denied = [one["what"] for one in findings if one["code"] == "HF9313"]
        self.assertEqual([what.split()[1] for what in denied], ["closed", "shown"], findings)
        said = "\n".join(one["what"] for one in findings)
        self.assertIn("topic open: 1 partition", said)
        self.assertIn("topic new is not", said)

    def test_a_topic_that_would_refuse_batches(self):
        tier = self.broker().start()
        self.make(tier, NewTopic("small", 1, config={
            "max.message.bytes": "1000", "message.timestamp.before.max.ms": "3600000"}))
        topics = ("--upstream", tier.address, "--set", "agent.topics=[{name: small}]")
        findings = self.upstream(*topics, code=0)
        self.assertEqual(self.problems(findings), ["HF9318", "HF9319"])
        # What waits already is worse. It was taken before the tier was ever asked.
        agent = self.agent("127.0.0.1:1", *topics[2:]).start()
        produce(agent.address, "small", ["x" * 2000])
        agent.stop()
        findings = self.upstream(*topics)
        self.assertIn("one of 2.0 KiB waits", self.found("HF9318", findings))

    def test_another_cluster_than_before(self):
        tier = self.broker().start()
        agent = self.agent(tier.address, "--set", "agent.topics=[{name: orders}]").start()
        produce(agent.address, "orders", ["one"])
        agent.wait_drained()
        agent.stop()
        tier.stop()
        shutil.rmtree(self.path("broker"))
        other = self.broker().start()
        findings = self.upstream("--upstream", other.address, code=0)
        self.assertIn("was delivered to cluster", self.found("HF9312", findings))


class DatabaseTest(DoctorCase):
    def test_an_outbox_without_its_table(self):
        outbox = f"agent.outbox=[{{name: a, sqlite: {{file: {self.path('service.db')}}}}}]"
        findings = self.doctor("--only", "databases", "--set", outbox, code=1)
        self.assertIn("service.db", self.found("HF9401", findings))


if __name__ == "__main__":
    harness.main()
