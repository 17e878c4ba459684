#!/usr/bin/python3
"""What no honest client sends: it costs the sender its connection, and nobody else anything."""

import random
import socket
import struct
import unittest

import harness
from harness import Case, consume, produce

API_VERSIONS = 18
PRODUCE = 0


def frame(body):
    return struct.pack(">i", len(body)) + body


def header(api, version, correlation=7, client=b"test"):
    return struct.pack(">hhih", api, version, correlation, len(client)) + client


def string(text):
    return struct.pack(">h", len(text)) + text


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def batch(value, damage_crc=False):
    """A record batch with one record."""
    record = b"\0\0\0\1" + bytes([2 * len(value)]) + value + b"\0"
    record = bytes([2 * len(record)]) + record
    tail = struct.pack(">hiqqqhii", 0, 0, 1_700_000_000_000, 1_700_000_000_000, -1, -1, -1, 1)
    tail += record
    crc = crc32c(tail) ^ (1 if damage_crc else 0)
    return struct.pack(">qiibI", 0, 4 + 1 + 4 + len(tail), 0, 2, crc) + tail


def produce_request(topic, records, version=3):
    body = header(PRODUCE, version) + struct.pack(">hhi", -1, -1, 10000)
    body += struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, 0)
    return body + struct.pack(">i", len(records)) + records


class Peer:
    """A raw connection."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """One frame's body, or None when the other side has closed."""
        size = self._exactly(4)
        return None if size is None else self._exactly(struct.unpack(">i", size)[0])

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionError:
                return None
            if not more:
                return None
            data += more
        return data

    def close(self):
        self.socket.close()


class Malformed:
    """For the address of `self.victim()`; mixed into a case for the broker and the agent."""

    TOPIC = b"attacked"

    def assert_closed(self, *pieces, half_close=False):
        bystander = Peer(self.victim().address)
        peer = Peer(self.victim().address)
        try:
            for piece in pieces:
                peer.send(piece)
            if half_close:
                peer.socket.shutdown(socket.SHUT_WR)
            self.assertIsNone(peer.receive(), "the connection must be closed without an answer")
            bystander.send(frame(header(API_VERSIONS, 0)))
            self.assertEqual(bystander.receive()[:4], struct.pack(">i", 7))
        finally:
            peer.close()
            bystander.close()

    def test_a_length_of_two_gigabytes(self):
        self.assert_closed(struct.pack(">i", 0x7FFFFFFF))

    def test_a_negative_length(self):
        self.assert_closed(struct.pack(">i", -1))
        self.assert_closed(struct.pack(">i", -2147483648))

    def test_a_length_of_zero_and_frames_too_short_for_a_header(self):
        self.assert_closed(struct.pack(">i", 0))
        for size in range(1, 8):
            self.assert_closed(frame(b"\0" * size))

    def test_a_frame_that_ends_early(self):
        whole = frame(produce_request(self.TOPIC, batch(b"x")))
        for size in (1, 3, 5, 20, len(whole) - 1):
            self.assert_closed(whole[:size], half_close=True)

    def test_a_request_that_ends_before_its_fields_do(self):
        body = produce_request(self.TOPIC, batch(b"x"))
        for size in range(14, len(body), 7):
            self.assert_closed(frame(body[:size]))

    def test_bytes_left_over_after_the_fields_are_ignored_as_by_kafka(self):
        peer = Peer(self.victim().address)
        peer.send(frame(header(API_VERSIONS, 0) + b"more"))
        self.assertEqual(struct.unpack(">ih", peer.receive()[:6]), (7, 0))
        peer.close()

    def test_an_unknown_api(self):
        self.assert_closed(frame(header(999, 0)))
        self.assert_closed(frame(header(-1, 0)))

    def test_a_version_that_nobody_serves(self):
        # What an agent answers itself, while its tier is there or away.
        for api in PRODUCE, 3, 10, 22, 60, 71, 72:
            self.assert_closed(frame(header(api, 99) + b"\0" * 40))
            self.assert_closed(frame(header(api, -1) + b"\0" * 40))

    def test_an_array_that_says_it_has_two_billion_elements(self):
        body = header(PRODUCE, 3) + struct.pack(">hhi", -1, -1, 1000)
        self.assert_closed(frame(body + struct.pack(">i", 0x7FFFFFFF)))
        self.assert_closed(frame(body + struct.pack(">i", -5)))

    def test_http_and_noise(self):
        self.assert_closed(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        noise = random.Random(7)
        for _ in range(50):
            self.assert_closed(frame(b"\x7f" + noise.randbytes(noise.randrange(8, 400))))

    def test_apiversions_of_a_future_version_is_answered_with_version_zero(self):
        peer = Peer(self.victim().address)
        peer.send(frame(header(API_VERSIONS, 99) + b"\0"))
        answer = peer.receive()
        self.assertEqual(struct.unpack(">ih", answer[:6]), (7, 35))  # UNSUPPORTED_VERSION
        peer.close()

    def produce_raw(self, records):
        """Returns the partition's error code."""
        peer = Peer(self.victim().address)
        peer.send(frame(produce_request(self.TOPIC, records)))
        answer = peer.receive()
        peer.close()
        self.assertIsNotNone(answer)
        return struct.unpack(">h", answer[4 + 4 + 2 + len(self.TOPIC) + 4 + 4:][:2])[0]

    def test_damaged_batches_are_refused_and_nothing_of_them_is_stored(self):
        good = batch(b"good")
        self.assertEqual(self.produce_raw(good), 0)
        self.assertEqual(self.produce_raw(batch(b"bad", damage_crc=True)), 2)  # CORRUPT_MESSAGE
        for change in (lambda b: b[:16] + b"\x01" + b[17:],           # magic 1
                       lambda b: b[:8] + struct.pack(">i", 1 << 30) + b[12:],  # batch length
                       lambda b: b[:8] + struct.pack(">i", -1) + b[12:],
                       lambda b: b[:-1],
                       lambda b: b + b"\0",
                       lambda b: b""):
            self.assertNotEqual(self.produce_raw(change(good)), 0)
        self.assertEqual(self.produce_raw(batch(b"last")), 0)
        self.wait_until_stored(2)
        self.assertEqual(consume(self.tier.address, "attacked"), ["good", "last"])

    def test_others_produce_while_garbage_arrives(self):
        noise = random.Random(11)
        for number in range(30):
            peer = Peer(self.victim().address)
            peer.send(noise.randbytes(noise.randrange(1, 2000)))
            produce(self.victim().address, "bystander", [f"fine {number}"], "-p", "0")
            self.addCleanup(peer.close)
        self.wait_until_stored(30)
        self.assertEqual(consume(self.tier.address, "bystander"),
                         [f"fine {number}" for number in range(30)])


class MalformedToBroker(Malformed, Case):
    def setUp(self):
        super().setUp()
        self.tier = self.broker().start()
        produce(self.tier.address, "attacked-too", ["x"])
        harness.kcat("-L", "-b", self.tier.address, "-t", "attacked")

    def victim(self):
        return self.tier

    def wait_until_stored(self, count):
        pass


class MalformedToAgent(Malformed, Case):
    def setUp(self):
        super().setUp()
        self.tier = self.broker().start()
        self.host = self.agent(self.tier.address, "--set", "agent.topics=[{name: attacked}, "
                               "{name: bystander}]").start()

    def victim(self):
        return self.host

    def wait_until_stored(self, count):
        series = "holdfast_agent_forwarded_records_total"
        harness.wait_for(lambda: self.host.metric(series) >= count, what=f"{count} delivered")


if __name__ == "__main__":
    harness.main()
