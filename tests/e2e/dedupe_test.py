#!/usr/bin/python3
"""The local leg's memory of producers, row by row as a real Apache Kafka was seen to behave, and
over kill -9 of the agent. Where the agent remembers more than Kafka does, the row says so."""

import unittest

import harness
from harness import Case
from raw_kafka import Connection, batch

TOPIC = ("--set", "agent.topics=[{name: t, partitions: 4}]")
OK, OUT_OF_ORDER, WRONG_EPOCH, INVALID_RECORD = 0, 45, 47, 87
BACK_THEN = 1_500_000_000_000


class DedupeTest(Case):
    def setUp(self):
        super().setUp()
        # The tier stays away: what is asked here is decided on this host.
        self.process = self.agent(f"127.0.0.1:{harness.free_port()}", *TOPIC).start()
        self.connect()

    def tearDown(self):
        self.connection.socket.close()
        super().tearDown()

    def connect(self):
        self.connection = Connection(self.process.address)

    def kill_and_start(self):
        self.connection.socket.close()
        self.process.kill()
        self.process.start()
        self.connect()

    def expect(self, row, first, last, error, offset=None, partition=0, **producer):
        """Produces the sequences first to last."""
        producer = {"producer_id": 7, "epoch": 0, **producer}
        got = self.connection.produce("t", partition,
                                      batch(last - first + 1, sequence=first, **producer))
        self.assertEqual(got, (error, -1 if offset is None else offset), row)

    def test_sequences_count_records_and_retries_get_the_original_offset(self):
        expect = self.expect
        ranges = [(0, 9), (10, 14), (15, 15), (16, 115), (116, 116)]
        for first, last in ranges:
            expect("composition is free", first, last, OK, first)
        for first, last in ranges:
            expect("one of the last five", first, last, OK, first)
        expect("other bytes in the same range", 10, 14, OK, 10, value=b"other")
        expect("the next", 117, 117, OK, 117)
        expect("the sixth last", 0, 9, OUT_OF_ORDER)
        for row, first, last in [("overlap", 112, 120), ("overlap", 116, 118),
                                 ("cut anew", 15, 16), ("prefix", 16, 17), ("suffix", 114, 115),
                                 ("gap", 119, 119)]:
            expect(row, first, last, OUT_OF_ORDER)
        expect("the stream goes on", 118, 118, OK, 118)

    def test_a_newer_epoch_begins_at_zero_and_fences_the_older(self):
        expect = self.expect
        expect("first", 0, 15, OK, 0)
        expect("newer epoch, not from zero", 16, 16, OUT_OF_ORDER, epoch=1)
        expect("newer epoch", 0, 0, OK, 16, epoch=1)
        expect("older epoch", 16, 16, WRONG_EPOCH)
        expect("older epoch, even a retry", 0, 15, WRONG_EPOCH)
        expect("retry in the newer epoch", 0, 0, OK, 16, epoch=1)

    def test_all_of_it_survives_kill_9(self):
        expect = self.expect
        for n in range(6):
            # Times of days ago make Kafka forget; here the time of arrival counts.
            expect("before", n, n, OK, n, timestamp=BACK_THEN)
        expect("epoch", 0, 0, OK, 0, partition=1, epoch=3)
        self.kill_and_start()
        # Kafka remembers the last one only.
        for n in range(1, 6):
            expect("one of the last five", n, n, OK, n, timestamp=BACK_THEN)
        expect("the sixth last", 0, 0, OUT_OF_ORDER)
        expect("gap", 9, 9, OUT_OF_ORDER)
        expect("next", 6, 6, OK, 6)
        expect("older epoch", 1, 1, WRONG_EPOCH, partition=1, epoch=2)
        expect("next of the epoch", 1, 1, OK, 1, partition=1, epoch=3)
        self.kill_and_start()
        expect("the next was remembered, too", 6, 6, OK, 6)

    def test_sequences_wrap_behind_the_largest(self):
        expect = self.expect
        top = 2**31 - 1
        expect("an unknown producer may begin anywhere", top - 7, top, OK, 0)
        expect("behind the wrap", 0, 4, OK, 8)
        expect("retry across", top - 7, top, OK, 0)
        got = self.connection.produce("t", 1, batch(6, producer_id=7, epoch=0, sequence=top - 2))
        self.assertEqual(got, (OK, 0), "one batch over the wrap")
        expect("after it", 3, 3, OK, 6, partition=1)
        got = self.connection.produce("t", 1, batch(6, producer_id=7, epoch=0, sequence=top - 2))
        self.assertEqual(got, (OK, 0), "its retry")

    def test_producers_and_partitions_do_not_touch_each_other(self):
        expect = self.expect
        expect("unknown producer of epoch 3", 1000, 1002, OK, 0, producer_id=99, epoch=3)
        expect("then in turn", 1003, 1003, OK, 3, producer_id=99, epoch=3)
        expect("not from zero again", 0, 0, OUT_OF_ORDER, producer_id=99, epoch=3)
        expect("another partition", 5, 5, OK, 0, producer_id=99, epoch=3, partition=1)
        expect("another producer", 0, 0, OK, 4, producer_id=100)
        with Connection(self.process.address) as other:
            got = other.produce("t", 0, batch(1, producer_id=100, epoch=0, sequence=0))
            self.assertEqual(got, (OK, 4), "over another connection")

    def test_what_is_no_proper_batch_takes_no_sequence(self):
        self.expect("id without sequence", -1, -1, INVALID_RECORD)
        moved = bytearray(batch(1, producer_id=7, epoch=0, sequence=0))
        moved[7] = 5
        self.assertEqual(self.connection.produce("t", 0, bytes(moved))[0], INVALID_RECORD)
        self.expect("from the beginning", 0, 0, OK, 0)

    def test_producer_ids_are_not_given_twice_over_kill_9(self):
        given = set()
        for _ in range(3):
            for _ in range(3):
                error, producer_id, epoch = self.connection.init_producer_id()
                self.assertEqual((error, epoch), (OK, 0))
                self.assertNotIn(producer_id, given)
                given.add(producer_id)
            self.kill_and_start()


if __name__ == "__main__":
    harness.main()
