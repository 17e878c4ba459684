"""Kafka's protocol by hand, for what clients' libraries do not let a test say: a batch sent twice,
a sequence out of turn, a request that nobody answers."""

import socket
import struct

PRODUCE, METADATA, INIT_PRODUCER_ID = 0, 3, 22


def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(value):
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value):
    if value is None:
        return struct.pack(">h", -1)
    return struct.pack(">h", len(value)) + value.encode()


def batch(count, producer_id=-1, epoch=-1, sequence=-1, timestamp=1_700_000_000_000, value=b"v",
          key=None, transactional=False):
    """One record batch of `count` records."""
    records = b""
    for delta in range(count):
        body = b"\0" + varint(0) + varint(delta)
        body += varint(-1) if key is None else varint(len(key)) + key
        body += varint(len(value)) + value + varint(0)
        records += varint(len(body)) + body
    attributes = 0x10 if transactional else 0
    covered = struct.pack(">hiqqqhii", attributes, count - 1, timestamp, timestamp, producer_id,
                          epoch, sequence, count) + records
    return struct.pack(">qiibI", 0, 9 + len(covered), -1, 2, crc32c(covered)) + covered


class Connection:
    """One connection; requests are answered in turn."""

    def __init__(self, address, timeout=20.0):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.correlation_id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, key, version, body):
        self.correlation_id += 1
        frame = struct.pack(">hhi", key, version, self.correlation_id) + text("raw") + body
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def read(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError("the connection was closed")
            data += more
        return data

    def receive(self):
        """The next answer behind its correlation id."""
        frame = self.read(struct.unpack(">i", self.read(4))[0])
        assert struct.unpack(">i", frame[:4])[0] == self.correlation_id
        return frame[4:]

    def produce(self, topic, partition, records, acks=-1):
        """Of one batch: (error code, base offset)."""
        body = text(None) + struct.pack(">hii", acks, 10_000, 1) + text(topic)
        body += struct.pack(">iii", 1, partition, len(records)) + records
        self.send(PRODUCE, 7, body)
        answer = self.receive()
        error, offset = struct.unpack(">hq", answer[4 + 2 + len(topic) + 4 + 4:][:10])
        return error, offset

    def init_producer_id(self, transactional_id=None):
        """(error code, producer id, epoch)."""
        self.send(INIT_PRODUCER_ID, 1, text(transactional_id) + struct.pack(">i", 60_000))
        return struct.unpack(">hqh", self.receive()[4:16])
