package holdfast.golden;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.ControlRecordType;
import org.apache.kafka.common.record.EndTransactionMarker;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.SimpleRecord;

/** Record batches as the Java producer and broker make them, each with what is in it. */
final class RecordBatches {
  private static final long T = 1_700_000_000_000L;
  private static final HexFormat HEX = HexFormat.of();

  private final PrintWriter out;

  private RecordBatches(PrintWriter out) {
    this.out = out;
  }

  static void write(Path file) throws IOException {
    try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(file))) {
      out.print("""
          # Record batches made by kafka-clients 4.2.1, written by tools/golden. Each block is
          #   batch NAME codec=C count=N base_offset=O producer_id=P epoch=E base_sequence=S transactional=0|1 control=0|1
          #         timestamp_type=create|append base_timestamp=T max_timestamp=T leader_epoch=L
          #   record TIMESTAMP KEY VALUE [NAME=VALUE ...]      once per record; the rest of the line are headers
          #   bytes HEX
          # KEY, VALUE and header names and values are hex; "-" is null, "." is empty, "N*HH" is the byte HH N times.
          """);
      RecordBatches batches = new RecordBatches(out);
      for (CompressionType codec : CompressionType.values()) {
        batches.all(codec);
      }
      batches.others();
    }
  }

  private void all(CompressionType codec) {
    String name = codec.name;
    make(name + "_plain", codec, none(), simple());
    make(name + "_idempotent", codec, new Producer(4711, (short) 3, 17, false), simple());
    make(name + "_transactional", codec, new Producer(9_000_000_001L, (short) 12, 2147483646, true), simple());
    make(name + "_odd", codec, none(), odd());
    if (codec != CompressionType.NONE) make(name + "_blocks", codec, none(), large());
  }

  private void others() {
    make("single_empty", CompressionType.NONE, none(), List.of(new SimpleRecord(T, new byte[0], new byte[0])));
    append("append_time", T + 5000);
    marker("commit_marker", ControlRecordType.COMMIT);
    marker("abort_marker", ControlRecordType.ABORT);
  }

  private record Producer(long id, short epoch, int sequence, boolean transactional) {}

  private static Producer none() {
    return new Producer(RecordBatch.NO_PRODUCER_ID, RecordBatch.NO_PRODUCER_EPOCH, RecordBatch.NO_SEQUENCE, false);
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static List<SimpleRecord> simple() {
    List<SimpleRecord> records = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      records.add(new SimpleRecord(T + 7L * i, bytes("key-" + i), bytes("value-" + i)));
    }
    return records;
  }

  /** No key, no value, headers with and without values, times that go back, text beyond ASCII. */
  private static List<SimpleRecord> odd() {
    Header[] headers = {
      new RecordHeader("trace", bytes("abc")), new RecordHeader("trace", (byte[]) null), new RecordHeader("", new byte[0])
    };
    return List.of(
        new SimpleRecord(T, (byte[]) null, bytes("without a key")),
        new SimpleRecord(T - 86_400_000L, bytes("tombstone"), (byte[]) null),
        new SimpleRecord(T + 86_400_000L, bytes("schl\u00fcssel"), bytes("with headers"), headers),
        new SimpleRecord(T, (byte[]) null, (byte[]) null));
  }

  /** More than a block of each codec. */
  private static List<SimpleRecord> large() {
    byte[] value = new byte[150_000];
    Arrays.fill(value, (byte) 'a');
    return List.of(new SimpleRecord(T, bytes("first"), value), new SimpleRecord(T, bytes("second"), value));
  }

  private void make(String name, CompressionType codec, Producer producer, List<SimpleRecord> records) {
    MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), RecordBatch.MAGIC_VALUE_V2,
        Compression.of(codec).build(), TimestampType.CREATE_TIME, 0L, RecordBatch.NO_TIMESTAMP, producer.id(),
        producer.epoch(), producer.sequence(), producer.transactional(), false, -1);
    records.forEach(builder::append);
    print(name, builder.build(), records);
  }

  private void append(String name, long time) {
    MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), RecordBatch.MAGIC_VALUE_V2,
        Compression.NONE, TimestampType.LOG_APPEND_TIME, 1000L, time, RecordBatch.NO_PRODUCER_ID,
        RecordBatch.NO_PRODUCER_EPOCH, RecordBatch.NO_SEQUENCE, false, false, 7);
    simple().forEach(builder::append);
    print(name, builder.build(), simple());
  }

  private void marker(String name, ControlRecordType type) {
    MemoryRecords records = MemoryRecords.withEndTransactionMarker(
        42L, T, 5, 4711L, (short) 3, new EndTransactionMarker(type, 9));
    List<SimpleRecord> content = new ArrayList<>();
    records.records().forEach(r -> content.add(new SimpleRecord(r)));
    print(name, records, content);
  }

  private void print(String name, MemoryRecords records, List<SimpleRecord> content) {
    RecordBatch b = records.batches().iterator().next();
    b.ensureValid();
    ByteBuffer buffer = records.buffer().duplicate();
    byte[] raw = new byte[buffer.remaining()];
    buffer.get(raw);
    ByteBuffer header = ByteBuffer.wrap(raw);
    out.printf("batch %s codec=%s count=%d base_offset=%d producer_id=%d epoch=%d base_sequence=%d transactional=%d"
            + " control=%d timestamp_type=%s base_timestamp=%d max_timestamp=%d leader_epoch=%d%n",
        name, b.compressionType().name, b.countOrNull(), b.baseOffset(), b.producerId(), b.producerEpoch(),
        b.baseSequence(), b.isTransactional() ? 1 : 0, b.isControlBatch() ? 1 : 0,
        b.timestampType() == TimestampType.CREATE_TIME ? "create" : "append", header.getLong(27), b.maxTimestamp(),
        b.partitionLeaderEpoch());
    for (SimpleRecord r : content) {
      out.printf("record %d %s %s", r.timestamp(), text(r.key()), text(r.value()));
      for (Header h : r.headers()) {
        out.printf(" %s=%s", text(ByteBuffer.wrap(bytes(h.key()))), text(h.value() == null ? null : ByteBuffer.wrap(h.value())));
      }
      out.println();
    }
    out.println("bytes " + HEX.formatHex(raw));
  }

  private static String text(ByteBuffer buffer) {
    if (buffer == null) return "-";
    byte[] b = new byte[buffer.remaining()];
    buffer.duplicate().get(b);
    if (b.length == 0) return ".";
    boolean same = true;
    for (byte x : b) same &= x == b[0];
    return same && b.length > 64 ? b.length + "*" + HEX.toHexDigits(b[0]) : HEX.formatHex(b);
  }
}
