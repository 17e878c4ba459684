"""Kafka's protocol by hand, for what clients' libraries do not let a test say: a batch sent twice,
a sequence out of turn, a request that nobody answers."""

import socket
import struct

PRODUCE, METADATA, INIT_PRODUCER_ID, CONSUMER_GROUP_HEARTBEAT = 0, 3, 22, 68
UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH = 25, 110


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


def unsigned(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def compact_text(value):
    return b"\0" if value is None else unsigned(len(value.encode()) + 1) + value.encode()


def compact_array(items):
    """Of items that are encoded; None is null."""
    return b"\0" if items is None else unsigned(len(items) + 1) + b"".join(items)


class Reader:
    """The fields of a flexible answer, one after the other."""

    def __init__(self, data):
        self.data = data

    def take(self, size):
        taken, self.data = self.data[:size], self.data[size:]
        assert len(taken) == size
        return taken

    def number(self, kind):
        return struct.unpack(">" + kind, self.take(struct.calcsize(">" + kind)))[0]

    def unsigned(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text(self):
        size = self.unsigned()
        return None if size == 0 else self.take(size - 1).decode()

    def array(self, read):
        size = self.unsigned()
        return None if size == 0 else [read() for _ in range(size - 1)]

    def tags(self):
        for _ in range(self.unsigned()):
            self.unsigned()
            self.take(self.unsigned())


class GroupMember:
    """A member of a consumer group of the newer protocol, as its client knows itself."""

    def __init__(self, group, member_id, topics):
        self.group = group
        self.member_id = member_id
        self.topics = topics
        self.epoch = 0
        self.assigned = None  # What the last answer told it to have; None: what it has.
        self.reported = None
        self.everything = True

    def say_everything(self):
        """With the next heartbeat, as after a lost answer."""
        self.everything = True

    def heartbeat(self, connection, owned):
        """Reports (topic id, partition) pairs; returns the error code."""
        joining = self.epoch == 0
        full = joining or self.everything
        reports = set() if joining else owned
        body = compact_text(self.group) + compact_text(self.member_id)
        body += struct.pack(">i", self.epoch) + compact_text(None) + compact_text(None)
        body += struct.pack(">i", 60_000 if full else -1)
        body += compact_array([compact_text(topic) for topic in self.topics] if full else None)
        body += compact_text(None) + compact_text(None)
        if full or reports != self.reported:
            by_topic = {}
            for topic, partition in sorted(reports):
                by_topic.setdefault(topic, []).append(struct.pack(">i", partition))
            body += compact_array([topic + compact_array(partitions) + b"\0"
                                   for topic, partitions in by_topic.items()])
        else:
            body += compact_array(None)
        error = self.ask(connection, body)
        self.everything = error != 0
        self.reported = set(reports)
        return error

    def leave(self, connection):
        body = compact_text(self.group) + compact_text(self.member_id) + struct.pack(">i", -1)
        body += compact_text(None) * 2 + struct.pack(">i", -1) + b"\0" * 4
        return self.ask(connection, body)

    def ask(self, connection, body):
        connection.send(CONSUMER_GROUP_HEARTBEAT, 1, body + b"\0", flexible=True)
        answer = Reader(connection.receive())
        answer.tags()
        answer.number("i")
        error = answer.number("h")
        answer.text()
        answer.text()
        epoch = answer.number("i")
        answer.number("i")
        self.assigned = None
        if error == 0:
            self.epoch = epoch
            if answer.number("b") >= 0:
                self.assigned = set()
                for topic, partitions in answer.array(lambda: self.read_topic(answer)):
                    self.assigned |= {(topic, partition) for partition in partitions}
        return error

    @staticmethod
    def read_topic(answer):
        topic = answer.take(16)
        partitions = answer.array(lambda: answer.number("i"))
        answer.tags()
        return topic, partitions


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

    def send(self, key, version, body, flexible=False):
        self.correlation_id += 1
        frame = struct.pack(">hhi", key, version, self.correlation_id) + text("raw")
        frame += (b"\0" if flexible else b"") + body
        self.send_bare(frame)

    def send_bare(self, frame):
        """Without a header of Kafka's."""
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive_bare(self):
        return self.read(struct.unpack(">i", self.read(4))[0])

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
        frame = self.receive_bare()
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
