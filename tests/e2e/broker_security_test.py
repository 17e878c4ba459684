#!/usr/bin/python3
"""The broker's listeners, users, access rules and quotas, under clients of librdkafka."""

import hashlib
import json
import os
import struct
import time

import harness
from certificates import Authority
from harness import Case, free_port, wait_for

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from raw_kafka import Connection, text
from security_test import try_to_produce

ADMIN = "admin, with=a \"strange password"
GONE = (EOFError, ConnectionResetError)
METADATA, HANDSHAKE, API_VERSIONS, DESCRIBE_ACLS, CREATE_ACLS, DELETE_ACLS, AUTHENTICATE = (
    3, 17, 18, 29, 30, 31, 36)
DESCRIBE_SCRAM, ALTER_SCRAM = 50, 51
ALTER_QUOTAS = 49
TOPIC, GROUP = 2, 3
LITERAL, PREFIXED = 3, 4
READ, WRITE = 3, 4
ALL_TOPICS = b"\xff\xff\xff\xff"


def short(value):
    """A string of the flexible encoding."""
    return bytes([len(value) + 1]) + value


class Administrator:
    """Who logs in with PLAIN, and asks for what the client library at hand cannot."""

    def __init__(self, address, password=ADMIN, user="admin"):
        self.client = Connection(address)
        self.client.send(HANDSHAKE, 1, text("PLAIN"))
        assert self.client.receive()[:2] == b"\0\0"
        message = b"\0" + user.encode() + b"\0" + password.encode()
        self.client.send(AUTHENTICATE, 1, struct.pack(">i", len(message)) + message)
        self.login = self.client.receive()
        assert self.login[:2] == b"\0\0", self.login

    def allow(self, kind, name, pattern, principal, operation):
        self.client.send(CREATE_ACLS, 1, struct.pack(">ib", 1, kind) + text(name) + bytes([pattern])
                         + text(principal) + text("*") + bytes([operation, 3]))
        assert self.client.receive()[8:10] == b"\0\0"

    def rules(self):
        self.client.send(DESCRIBE_ACLS, 1, b"\1" + text(None) + b"\1" + text(None) + text(None)
                         + b"\1\1")
        return self.client.receive()

    def delete_rules(self):
        self.client.send(DELETE_ACLS, 1, struct.pack(">i", 1) + b"\1" + text(None) + b"\1"
                         + text(None) + text(None) + b"\1\1")
        return self.client.receive()

    def alter_scram(self, deletions=b"\1", upsertions=b"\1"):
        self.client.send(ALTER_SCRAM, 0, b"\0" + deletions + upsertions + b"\0")
        answer = self.client.receive()
        length = answer[6]  # Of the one user's name.
        return struct.unpack(">h", answer[6 + length:8 + length])[0]

    def set_scram(self, user, password, iterations=8192):
        """With SCRAM-SHA-512, which is 2."""
        salt = b"some salt"
        salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
        return self.alter_scram(upsertions=b"\2" + short(user.encode()) + b"\2"
                                + struct.pack(">i", iterations) + short(salt) + short(salted)
                                + b"\0")

    def remove_scram(self, user):
        return self.alter_scram(deletions=b"\2" + short(user.encode()) + b"\2\0")


def set_quota(address, kind, name, key, value):
    with Connection(address) as client:
        client.send(ALTER_QUOTAS, 0, struct.pack(">ii", 1, 1) + text(kind) + text(name)
                    + struct.pack(">i", 1) + text(key) + struct.pack(">d", value) + b"\0\0")
        answer = client.receive()
    assert answer[8:10] == b"\0\0", answer


class BrokerSecurityTest(Case):
    def secured(self, **settings):
        """A broker with these settings below "broker"; further listeners by their names."""
        path = os.path.join(self.directory, "broker.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"broker": settings}, file)
        return self.broker("--config", path).start()

    def login(self, address, user, password, mechanism="SCRAM-SHA-256", ca=None):
        return {"bootstrap.servers": address, "log_level": 0, "sasl.mechanism": mechanism,
                "sasl.username": user, "sasl.password": password,
                **({"security.protocol": "SASL_SSL", "ssl.ca.location": ca} if ca
                   else {"security.protocol": "SASL_PLAINTEXT"})}

    def test_quotas_hold(self):
        tier = self.broker().start()
        settings = {"bootstrap.servers": tier.address, "client.id": "app", "log_level": 0}
        admin = AdminClient(settings)
        admin.create_topics([NewTopic("orders", 1)])["orders"].result(10)
        values = [b"%d " % n + os.urandom(1000) for n in range(300)]
        producer = Producer({**settings, "batch.size": 20000})
        for value in values:
            producer.produce("orders", value)
        self.assertEqual(producer.flush(10), 0)

        # 300 kB, where 200 kB may leave in ten seconds.
        set_quota(tier.address, "client-id", "app", "consumer_byte_rate", 20000)
        consumer = Consumer({**settings, "group.id": "readers", "auto.offset.reset": "earliest"})
        consumer.subscribe(["orders"])
        begun = time.monotonic()
        got = []
        while len(got) < len(values) and time.monotonic() - begun < 60:
            message = consumer.poll(1)
            if message is not None:
                self.assertIsNone(message.error())
                got.append(message.value())
        self.assertGreater(time.monotonic() - begun, 2)
        self.assertEqual(got, values)
        consumer.close()

        # An old client is not refused, but waits: 110 may be made at once.
        set_quota(tier.address, "client-id", "app", "controller_mutation_rate", 10)
        admin.create_topics([NewTopic("large", 130)])["large"].result(10)
        begun = time.monotonic()
        admin.create_topics([NewTopic("more", 1)])["more"].result(10)
        self.assertGreater(time.monotonic() - begun, 1)

        set_quota(tier.address, "ip", "127.0.0.1", "connection_creation_rate", 1)
        refused = 0
        for _ in range(15):
            with Connection(tier.address) as client:
                try:
                    client.send(API_VERSIONS, 0, b"")
                    client.receive()
                except GONE:
                    refused += 1
        self.assertGreater(refused, 2)

    def test_users_log_in_and_do_what_rules_allow(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("broker")
        secure, mutual = (f"127.0.0.1:{free_port()}" for _ in range(2))
        tls = {"certificate": certificate, "key": key}
        tier = self.secured(
            authorizer={"enabled": True, "super_users": ["User:admin"]},
            users=[{"name": "admin", "password": ADMIN}],
            sasl={"mechanisms": ["PLAIN"]},
            listeners=[
                {"name": "secure", "listen": secure, "tls": tls,
                 "sasl": {"mechanisms": ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]}},
                {"name": "mutual", "listen": mutual,
                 "tls": {**tls, "client_ca": authority.ca, "client_auth": "required"}}])
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            admin = AdminClient(self.login(secure, "admin", ADMIN, mechanism, authority.ca))
            name = "orders-" + mechanism
            admin.create_topics([NewTopic(name, 1, 1)])[name].result(10)

        # A user made by an administrator, with the right to topics that begin so.
        root = Administrator(tier.address)
        self.assertEqual(root.set_scram("orders", "secret"), 0)
        orders = self.login(secure, "orders", "secret", "SCRAM-SHA-512", authority.ca)
        self.assertEqual(try_to_produce(orders, "orders-PLAIN"), "TOPIC_AUTHORIZATION_FAILED")
        root.allow(TOPIC, "orders-", PREFIXED, "User:orders", WRITE)
        self.assertIsNone(try_to_produce(orders, "orders-PLAIN"))
        self.assertEqual(sorted(AdminClient(orders).list_topics(timeout=10).topics),
                         ["orders-PLAIN", "orders-SCRAM-SHA-256", "orders-SCRAM-SHA-512"])

        # Both outlive the process.
        before = root.rules()
        tier.kill()
        tier.start()
        self.assertIsNone(try_to_produce(orders, "orders-PLAIN"))
        root = Administrator(tier.address)
        self.assertEqual(root.rules(), before)
        self.assertIn(b"User:orders", before)

        # A certificate is a name, too.
        shown, own_key, _ = authority.issue("reader")
        reader = {"bootstrap.servers": mutual, "log_level": 0, "security.protocol": "SSL",
                  "ssl.ca.location": authority.ca, "ssl.certificate.location": shown,
                  "ssl.key.location": own_key}
        self.assertEqual(AdminClient(reader).list_topics(timeout=10).topics, {})
        root.allow(TOPIC, "orders-PLAIN", LITERAL, "User:CN=reader", READ)
        root.allow(GROUP, "readers", LITERAL, "User:CN=reader", READ)
        consumer = Consumer({**reader, "group.id": "readers", "auto.offset.reset": "earliest"})
        consumer.subscribe(["orders-PLAIN"])
        got = []

        def read():
            message = consumer.poll(1)
            if message and not message.error():
                got.append(message.value())
            return len(got) == 2

        wait_for(read, 30, "both records")
        consumer.close()
        self.assertEqual(try_to_produce(reader, "orders-PLAIN"), "TOPIC_AUTHORIZATION_FAILED")
        nobody = {key: value for key, value in reader.items()
                  if key not in ("ssl.certificate.location", "ssl.key.location")}
        self.assertEqual(try_to_produce(nobody, "orders-PLAIN", timeout=1), "_MSG_TIMED_OUT")

        # Without its credential a user cannot come back.
        self.assertEqual(root.remove_scram("orders"), 0)
        self.assertEqual(root.remove_scram("orders"), 91)  # RESOURCE_NOT_FOUND
        self.assertEqual(try_to_produce(orders, "orders-PLAIN", timeout=1), "_MSG_TIMED_OUT")
        deleted = root.delete_rules()
        for name in (b"User:orders", b"User:CN=reader", b"readers"):
            self.assertIn(name, deleted)
        self.assertNotIn(b"User:", root.rules())
        for shown_text in (tier.log(), tier.get("/status"), tier.get("/metrics")):
            self.assertNotIn(ADMIN, shown_text)

        # Another certificate is shown to who comes next.
        other = Authority(self.directory, "other")
        for old, new in zip((certificate, key), other.issue("broker")):
            os.replace(new, old)
        changed = self.login(secure, "admin", ADMIN, "PLAIN", other.ca)
        wait_for(lambda: try_to_produce(changed, "orders-PLAIN", timeout=1) is None, 30,
                 "the new certificate")

    def test_nothing_is_served_before_a_login(self):
        tier = self.secured(users=[{"name": "admin", "password": ADMIN}],
                            sasl={"mechanisms": ["PLAIN"]})
        bad = self.login(tier.address, "admin", "wrong", "PLAIN")
        self.assertEqual(try_to_produce(bad, "t", timeout=1), "_MSG_TIMED_OUT")
        self.assertGreaterEqual(tier.metric("holdfast_broker_login_failures_total"), 1)

        def plain(password):
            message = b"\0admin\0" + password.encode()
            return len(message).to_bytes(4, "big") + message

        with Connection(tier.address) as client:
            client.send(API_VERSIONS, 0, b"")
            self.assertEqual(client.receive()[:2], b"\0\0")
            client.send(METADATA, 1, ALL_TOPICS)
            self.assertRaises(GONE, client.receive)
        with Connection(tier.address) as client:
            client.send(AUTHENTICATE, 1, plain(ADMIN))
            self.assertEqual(client.receive()[:2], (34).to_bytes(2, "big"))  # ILLEGAL_SASL_STATE
        with Connection(tier.address) as client:
            client.send(HANDSHAKE, 1, text("GSSAPI"))
            self.assertEqual(client.receive()[:2], (33).to_bytes(2, "big"))
            self.assertRaises(GONE, client.receive)
        with Connection(tier.address) as client:
            client.send(HANDSHAKE, 1, text("PLAIN"))
            client.receive()
            client.send(AUTHENTICATE, 1, plain("x" * 600_000))
            self.assertRaises(GONE, client.receive)
        with Connection(tier.address) as client:
            client.send(HANDSHAKE, 1, text("PLAIN"))
            self.assertEqual(client.receive()[:2], b"\0\0")
            begun = time.monotonic()
            client.send(AUTHENTICATE, 1, plain("wrong"))
            # SASL_AUTHENTICATION_FAILED, not at once; and then the end.
            self.assertEqual(client.receive()[:2], (58).to_bytes(2, "big"))
            self.assertGreater(time.monotonic() - begun, 0.09)
            self.assertRaises(GONE, client.receive)
        with Connection(tier.address) as client:
            client.send(HANDSHAKE, 1, text("PLAIN"))
            client.receive()
            client.send(AUTHENTICATE, 1, plain(ADMIN))
            self.assertEqual(client.receive()[:2], b"\0\0")
            client.send(METADATA, 1, ALL_TOPICS)
            self.assertIsNotNone(client.receive())
            client.send(HANDSHAKE, 1, text("PLAIN"))  # Sessions do not end here.
            self.assertEqual(client.receive()[:2], (34).to_bytes(2, "big"))

    def test_rules_give_certificates_names(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("broker")
        mutual = f"localhost:{free_port()}"
        tls = {"certificate": certificate, "key": key, "client_ca": authority.ca,
               "client_auth": "required",
               "principal_mapping_rules": "RULE:^CN=([a-z]+)-SVC$/$1.service/U"}
        tier = self.secured(
            authorizer={"enabled": True,
                        "super_users": ["User:ADMIN.SERVICE", "User:ANONYMOUS"]},
            listeners=[{"name": "mutual", "listen": mutual, "tls": tls}])

        def shows(name, subject=None):
            shown, own_key, _ = authority.issue(name, subject=subject)
            return {"bootstrap.servers": mutual, "log_level": 0, "security.protocol": "SSL",
                    "ssl.ca.location": authority.ca, "ssl.certificate.location": shown,
                    "ssl.key.location": own_key}

        admin = AdminClient(shows("admin-SVC"))
        admin.create_topics([NewTopic("t", 1, 1)])["t"].result(10)
        self.assertIsNone(try_to_produce(shows("admin-SVC"), "t"))
        self.assertEqual(try_to_produce(shows("other-SVC"), "t"), "TOPIC_AUTHORIZATION_FAILED")
        self.assertEqual(try_to_produce(shows("admin"), "t", timeout=1), "_MSG_TIMED_OUT")
        # Its names may stand elsewhere: it was shown, and is not nobody's.
        self.assertEqual(try_to_produce(shows("names", subject="/"), "t", timeout=1),
                         "_MSG_TIMED_OUT")
        self.assertIn("no rule names its certificate", tier.log())

    def test_messages_come_bare_after_a_handshake_of_version_0(self):
        tier = self.secured(users=[{"name": "admin", "password": ADMIN}],
                            authorizer={"enabled": True, "super_users": ["User:admin"]},
                            sasl={"mechanisms": ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER"],
                                  "oauthbearer": {"unsecured": True}, "max_reauth_ms": 1500})
        with Connection(tier.address) as client:
            for _ in range(2):
                client.send(HANDSHAKE, 0, text("PLAIN"))
                self.assertEqual(client.receive()[:2], b"\0\0")
                client.send_bare(b"\0admin\0" + ADMIN.encode())
                self.assertEqual(client.receive_bare(), b"")
                client.send(DESCRIBE_ACLS, 1, b"\1" + text(None) + b"\1" + text(None) + text(None)
                            + b"\1\1")
                self.assertEqual(client.receive()[4:6], b"\0\0")
            time.sleep(1.7)
            client.send(METADATA, 1, ALL_TOPICS)
            self.assertRaises(GONE, client.receive)
        for message in (b"\0admin\0wrong", b"", b"x"):
            with Connection(tier.address) as client:
                client.send(HANDSHAKE, 0, text("PLAIN"))
                client.receive()
                begun = time.monotonic()
                client.send_bare(message)
                self.assertRaises(GONE, client.receive_bare)
                self.assertGreater(time.monotonic() - begun, 0.09)
        with Connection(tier.address) as client:
            client.send(HANDSHAKE, 0, text("OAUTHBEARER"))
            client.receive()
            client.send_bare(b"n,,\1auth=Bearer x\1\1")
            self.assertEqual(client.receive_bare(), b'{"status":"invalid_token"}')
            client.send_bare(b"\1")
            self.assertRaises(GONE, client.receive_bare)
        with Connection(tier.address) as client:
            client.send(HANDSHAKE, 0, text("GSSAPI"))
            self.assertEqual(client.receive()[:2], (33).to_bytes(2, "big"))
            self.assertRaises(GONE, client.receive)
        # As librdkafka does where it takes the broker for one of Kafka 0.10.0.
        shown = harness.kcat(
            "-L", "-b", tier.address, "-X", "api.version.request=false",
            "-X", "broker.version.fallback=0.10.0", "-X", "security.protocol=SASL_PLAINTEXT",
            "-X", "sasl.mechanism=PLAIN", "-X", "sasl.username=admin", "-X",
            "sasl.password=" + ADMIN)
        self.assertIn("1 brokers", shown)

    def test_sessions_end_and_are_prolonged(self):
        tier = self.secured(users=[{"name": "admin", "password": ADMIN},
                                   {"name": "other", "password": ADMIN}],
                            sasl={"mechanisms": ["PLAIN", "SCRAM-SHA-256"], "max_reauth_ms": 1500})
        def log_in(client, user="admin"):
            client.send(HANDSHAKE, 1, text("PLAIN"))
            self.assertEqual(client.receive()[:2], b"\0\0")
            message = b"\0" + user.encode() + b"\0" + ADMIN.encode()
            client.send(AUTHENTICATE, 1, len(message).to_bytes(4, "big") + message)
            return client.receive()

        with Connection(tier.address) as client:
            self.assertEqual(log_in(client)[-8:], (1500).to_bytes(8, "big"))
            time.sleep(1)
            self.assertEqual(log_in(client)[:2], b"\0\0")
            time.sleep(1)
            client.send(METADATA, 1, ALL_TOPICS)
            self.assertIsNotNone(client.receive())
            self.assertEqual(log_in(client, "other")[:2], (58).to_bytes(2, "big"))
        for late in (lambda client: client.send(METADATA, 1, ALL_TOPICS),
                     lambda client: client.send(API_VERSIONS, 0, b"")):
            with Connection(tier.address) as client:
                log_in(client)
                time.sleep(1.7)
                late(client)
                self.assertRaises(GONE, client.receive)
        with Connection(tier.address) as client:
            log_in(client)
            time.sleep(1.7)
            self.assertEqual(log_in(client)[:2], b"\0\0")
            # Once a second is enough, and by the mechanism of before.
            client.send(HANDSHAKE, 1, text("PLAIN"))
            self.assertEqual(client.receive()[:2], (34).to_bytes(2, "big"))
            time.sleep(1.1)
            client.send(HANDSHAKE, 1, text("SCRAM-SHA-256"))
            self.assertEqual(client.receive()[:2], b"\0\0")
            client.send(AUTHENTICATE, 1, (1).to_bytes(4, "big") + b"x")
            answer = client.receive()
            self.assertEqual(answer[:2], (58).to_bytes(2, "big"))
            self.assertIn(b"is not supported for re-authentication of mechanism 'PLAIN'", answer)
            self.assertRaises(GONE, client.receive)
        # librdkafka prolongs by itself.
        producer = Producer(self.login(tier.address, "admin", ADMIN, "PLAIN"))
        errors = []
        for _ in range(40):
            producer.produce("t", b"x", on_delivery=lambda error, _: errors.append(error))
            producer.poll(0.1)
            time.sleep(0.1)
        producer.flush(10)
        self.assertEqual([error for error in errors if error], [])
        self.assertEqual(len(errors), 40)


if __name__ == "__main__":
    harness.main()
