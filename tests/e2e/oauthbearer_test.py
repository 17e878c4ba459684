#!/usr/bin/python3
"""The broker's SASL OAUTHBEARER, under clients of librdkafka: which tokens let whom in."""

import base64
import http.server
import json
import os
import ssl
import struct
import threading
import time

import harness
from certificates import Authority
from harness import Case, free_port, wait_for

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from broker_security_test import ALL_TOPICS, AUTHENTICATE, GONE, HANDSHAKE, METADATA
from raw_kafka import Connection, text
from security_test import try_to_produce
from tokens import Issuer, encoded_json, publish, unsecured

FAILED = (58).to_bytes(2, "big")  # SASL_AUTHENTICATION_FAILED


class Shelf:
    """Serves one file, over http or https, and counts how often it was asked for."""

    def __init__(self, path, certificate=None, key=None, port=None):
        shelf = self
        self.asked = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                shelf.asked += 1
                with open(path, "rb") as file:
                    body = file.read()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", port or free_port()), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = (f"{'https' if certificate else 'http'}://127.0.0.1:{self.server.server_port}"
                    "/keys")
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class OauthBearerTest(Case):
    def tier(self, oauthbearer, max_reauth_ms=0, **settings):
        path = self.path("broker.json")
        sasl = {"mechanisms": ["OAUTHBEARER"], "oauthbearer": oauthbearer,
                "max_reauth_ms": max_reauth_ms}
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"broker": {"sasl": sasl, **settings}}, file)
        return self.broker("--config", path)

    def bearer(self, address, token):
        """Settings of a client that shows this token, or what this function gives."""
        def give(_):
            given = token() if callable(token) else token
            return given, json.loads(claims_of(given))["exp"]
        return {"bootstrap.servers": address, "log_level": 0, "sasl.mechanism": "OAUTHBEARER",
                "security.protocol": "SASL_PLAINTEXT", "oauth_cb": give}

    def lets_in(self, address, token):
        """None, or the words of the refusal. A message for each step, as they come by the wire."""
        with Connection(address) as client:
            client.send(HANDSHAKE, 1, text("OAUTHBEARER"))
            self.assertEqual(client.receive()[:2], b"\0\0")
            answer = show(client, token)
            self.assertEqual(answer[:2], b"\0\0")
            if answer[2:8] == bytes(6):
                return None
            # First the reason, for the client's \x01; and then the error, with the reason again.
            length = struct.unpack(">i", answer[4:8])[0]
            reason = answer[8:8 + length]
            client.send(AUTHENTICATE, 1, struct.pack(">i", 1) + b"\x01")
            error = client.receive()
            self.assertEqual(error[:2], FAILED)
            self.assertIn(reason, error)
            self.assertRaises(GONE, client.receive)
            return reason.decode()

    def test_signed_tokens_name_who_their_subject_is(self):
        keys = self.path("keys.json")
        rsa, ec, other = (Issuer(self.directory, name, kind) for name, kind in
                          (("one", "RSA"), ("two", "EC"), ("three", "EC")))
        publish(keys, rsa, ec)
        tier = self.tier({"jwks_endpoint_url": "file://" + keys,
                          "expected_audience": ["kafka", "x"],
                          "expected_issuer": "https://login.example.org"},
                         authorizer={"enabled": True, "super_users": ["User:admin"]}).start()
        good = {"aud": "kafka", "iss": "https://login.example.org"}
        admin = AdminClient(self.bearer(tier.address, rsa.token(sub="admin", **good)))
        # Callbacks for tokens are served by poll.
        admin.poll(1)
        admin.create_topics([NewTopic("orders", 1, 1)])["orders"].result(10)
        self.assertIsNone(try_to_produce(
            self.bearer(tier.address, ec.token(sub="admin", **good)), "orders"))
        self.assertEqual(try_to_produce(
            self.bearer(tier.address, ec.token(sub="nobody", **good)), "orders"),
            "TOPIC_AUTHORIZATION_FAILED")

        now = int(time.time())
        for wrong in ({"aud": "other"}, {"aud": None}, {"iss": "https://example.org"},
                      {"iss": None}, {"sub": None}, {"sub": " "}, {"exp": now - 60},
                      {"exp": None}, {"iat": None}, {"nbf": now + 60}, {"scope": ["a", "a"]}):
            self.assertEqual(self.lets_in(tier.address, rsa.token(**{"sub": "a", **good, **wrong})),
                             '{"status":"invalid_token"}', wrong)
        for right in ({}, {"aud": ["y", "x"]}, {"exp": now - 5, "iat": now - 60}, {"nbf": now + 5},
                      {"scope": ["a", "b"]}, {"scope": "a b"}):
            self.assertIsNone(
                self.lets_in(tier.address, rsa.token(**{"sub": "a", **good, **right})), right)
        forged = rsa.token(sub="a", **good).split(".")
        forged[1] = encoded_json({"sub": "admin", "exp": now + 60, "iat": now, **good})
        for token in (".".join(forged), unsecured(sub="admin", **good),
                      other.token(sub="a", **good), rsa.token({"kid": "two"}, sub="a", **good),
                      rsa.token({"crit": ["exp"]}, sub="a", **good)):
            self.assertIsNotNone(self.lets_in(tier.address, token))
        self.assertGreaterEqual(tier.metric("holdfast_broker_login_failures_total"), 15)

        # The issuer takes new keys.
        publish(keys, other)
        wait_for(lambda: self.lets_in(tier.address, other.token(sub="a", **good)) is None, 30,
                 "the new keys")
        self.assertIsNotNone(self.lets_in(tier.address, rsa.token(sub="a", **good)))
        self.assertEqual(tier.stop(), 0)

    def test_keys_over_https_come_anew_when_a_token_names_an_unknown_one(self):
        authority = Authority(self.directory)
        certificate, key, _ = authority.issue("login")
        keys = self.path("keys.json")
        first, second = (Issuer(self.directory, name, "EC") for name in ("first", "second"))
        publish(keys, first)
        shelf = Shelf(keys, certificate, key)
        self.addCleanup(shelf.close)
        tier = self.tier({"jwks_endpoint_url": shelf.url, "jwks_endpoint_ca": authority.ca}).start()
        wait_for(lambda: self.lets_in(tier.address, first.token(sub="a")) is None, 30, "keys")
        self.assertEqual(shelf.asked, 1)
        publish(keys, first, second)
        self.assertIsNotNone(self.lets_in(tier.address, second.token(sub="a")))
        wait_for(lambda: self.lets_in(tier.address, second.token(sub="a")) is None, 30, "a new key")
        self.assertLessEqual(shelf.asked, 3)

    def test_without_its_keys_a_broker_lets_nobody_in_until_they_come(self):
        keys = self.path("keys.json")
        issuer = Issuer(self.directory, "one", "EC")
        publish(keys, issuer)
        port = free_port()
        tier = self.tier({"jwks_endpoint_url": f"http://127.0.0.1:{port}/keys"}).start()
        self.assertIsNotNone(self.lets_in(tier.address, issuer.token(sub="a")))
        wait_for(lambda: "until they can" in tier.log(), what="the log to say so")
        shelf = Shelf(keys, port=port)
        self.addCleanup(shelf.close)
        wait_for(lambda: self.lets_in(tier.address, issuer.token(sub="a")) is None, 30, "keys")
        self.assertEqual(tier.stop(), 0)

    def test_an_agent_delivers_with_tokens_that_end(self):
        keys, token = self.path("keys.json"), self.path("token")
        issuer = Issuer(self.directory, "one", "EC")
        publish(keys, issuer)

        def renew():
            with open(token + ".new", "w", encoding="utf-8") as file:
                file.write(issuer.token(sub="agent", exp=int(time.time()) + 4))
            os.replace(token + ".new", token)

        renew()
        tier = self.tier({"jwks_endpoint_url": "file://" + keys, "clock_skew_seconds": 0},
                         authorizer={"enabled": True, "super_users": ["User:agent"]}).start()
        upstream = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER",
                    "sasl.oauthbearer.token.endpoint.url": "file://" + token}
        agent = self.agent(
            tier.address, "--set", "agent.access.tier_identity=agent",
            "--set", "agent.access.rules=[{principal: 'User:ANONYMOUS', topics: ['*'], "
            "groups: ['*'], operations: [all]}]",
            *(f"--set=agent.upstream.properties.{name}={value}"
              for name, value in upstream.items())).start()
        producer = Producer({"bootstrap.servers": agent.address, "log_level": 0})
        errors = []
        # For three tokens' time.
        end = time.monotonic() + 12
        while time.monotonic() < end:
            renew()
            producer.produce("t", b"x", on_delivery=lambda error, _: errors.append(error))
            producer.poll(0)
            time.sleep(0.2)
        producer.flush(10)
        self.assertEqual([error for error in errors if error], [])
        agent.wait_drained()
        self.assertEqual(agent.metric("holdfast_agent_upstream_errors_total"), 0)

    def test_unsecured_tokens_are_for_tests_and_the_log_says_so(self):
        tier = self.tier({"unsecured": True}).start()
        self.assertIn("INSECURE", tier.log())
        librdkafka = {"bootstrap.servers": tier.address, "log_level": 0,
                      "sasl.mechanism": "OAUTHBEARER", "security.protocol": "SASL_PLAINTEXT",
                      "enable.sasl.oauthbearer.unsecure.jwt": "true",
                      "sasl.oauthbearer.config": "principal=orders"}
        self.assertIsNone(try_to_produce(librdkafka, "t"))
        self.assertIsNotNone(self.lets_in(
            tier.address, Issuer(self.directory, "one", "EC").token(sub="a")))

    def test_nobody_gets_unsecured_tokens_without_asking(self):
        for settings, word in (({}, "needs jwks_endpoint_url"),
                               ({"jwks_endpoint_url": "https://x", "unsecured": True}, "both"),
                               ({"jwks_endpoint_url": "ftp://x"}, "without https"),
                               ({"jwks_endpoint_url": "file:///nowhere"}, "nowhere")):
            tier = self.tier(settings)
            with self.assertRaises(AssertionError) as raised:
                tier.start()
            self.assertIn(word, str(raised.exception))

    def test_a_session_ends_with_its_token(self):
        tier = self.tier({"unsecured": True, "clock_skew_seconds": 0},
                         max_reauth_ms=3600000).start()
        with Connection(tier.address) as client:
            client.send(HANDSHAKE, 1, text("OAUTHBEARER"))
            client.receive()
            end = time.time() + 2
            answer = show(client, unsecured(sub="orders", exp=int(end)))
            self.assertEqual(answer[:2], b"\0\0")
            lifetime = struct.unpack(">q", answer[-8:])[0]
            self.assertLessEqual(lifetime, 2000)
            client.send(METADATA, 1, ALL_TOPICS)
            self.assertIsNotNone(client.receive())
            time.sleep(lifetime / 1000 + 0.2)
            client.send(METADATA, 1, ALL_TOPICS)
            self.assertRaises(GONE, client.receive)
        # librdkafka takes a new one in time.
        taken = []

        def short_lived():
            taken.append(1)
            return unsecured(sub="orders", exp=int(time.time()) + 3)

        producer = Producer(self.bearer(tier.address, short_lived))
        errors = []

        def produced_with_the_third():
            producer.produce("t", b"x", on_delivery=lambda error, _: errors.append(error))
            producer.poll(0.1)
            return len(taken) == 3

        wait_for(produced_with_the_third, 60, "tokens to be taken")
        producer.flush(10)
        self.assertEqual([error for error in errors if error], [])


def claims_of(token):
    claims = token.split(".")[1]
    return base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))


def show(client, token):
    message = f"n,,\x01auth=Bearer {token}\x01\x01".encode()
    client.send(AUTHENTICATE, 1, struct.pack(">i", len(message)) + message)
    return client.receive()


if __name__ == "__main__":
    harness.main()
