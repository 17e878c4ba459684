// The bytes of a frame and of what goes into it: what was encoded is decoded, and every truncation
// and every flipped bit in what the checksum covers is noticed.
#include "spool/frame.h"

#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/random.h"
#include "spool/change.h"
#include "spool/index.h"
#include "tests/support/noise.h"
#include "tests/support/source_path.h"

namespace holdfast::spool {
namespace {

constexpr CommitNumber kCommit{7};
constexpr uint32_t kSeed = 12345;

struct Sample {
  std::string changes;
  std::vector<DraftEntry> entries;
  std::string bytes;
};

Sample MakeSample() {
  Sample sample;
  AppendOpenStream(StreamId(1), "orders-0", &sample.changes);
  AppendPut("cursor", "12", &sample.changes);
  AppendErase("gone", &sample.changes);
  AppendTrim(StreamId(1), 40, &sample.changes);
  sample.entries.push_back({{.stream = StreamId(1),
                             .bytes = "first",
                             .record_count = 3,
                             .max_timestamp_ms = 1000,
                             .tag = {'t', 'a', 'g'}},
                            41});
  sample.entries.push_back({{.stream = StreamId(0), .bytes = "", .record_count = 1}, 0});
  sample.entries.push_back({{.stream = StreamId(1), .bytes = "third", .record_count = 1}, 44});
  const FrameDraft draft{.seed = kSeed,
                         .previous = 99,
                         .commit = kCommit,
                         .commit_time_ms = 1'700'000'000'000,
                         .entries = sample.entries,
                         .changes = sample.changes};
  sample.bytes.resize(draft.FrameBytes());
  EncodeFrame(draft, sample.bytes);
  return sample;
}

bool Accepted(std::string_view bytes) {
  const auto frame = FrameView::Parse(bytes);
  return frame && frame->Verify(kSeed, kCommit);
}

TEST(FrameTest, WhatWasEncodedIsDecoded) {
  const Sample sample = MakeSample();
  const auto frame = FrameView::Parse(sample.bytes);
  ASSERT_TRUE(frame);
  ASSERT_TRUE(frame->Verify(kSeed, kCommit));
  EXPECT_EQ(frame->previous(), 99u);
  EXPECT_EQ(frame->commit(), kCommit);
  EXPECT_EQ(*frame->changes(nullptr, nullptr), sample.changes);
  ASSERT_EQ(frame->entry_count(), 3u);
  const EntryView first = *frame->entry(0, nullptr, nullptr);
  EXPECT_EQ(first.bytes, "first");
  EXPECT_EQ(first.info.stream, StreamId(1));
  EXPECT_EQ(first.info.base_offset, 41);
  EXPECT_EQ(first.info.end_offset(), 44);
  EXPECT_EQ(first.info.max_timestamp_ms, 1000);
  EXPECT_EQ(first.info.tag[2], 'g');
  EXPECT_EQ(first.info.commit, kCommit);
  EXPECT_EQ(first.info.commit_time_ms, 1'700'000'000'000);
  EXPECT_EQ(frame->entry(1, nullptr, nullptr)->bytes, "");
  EXPECT_EQ(frame->entry(2, nullptr, nullptr)->bytes, "third");
  EXPECT_FALSE(frame->Verify(kSeed, kCommit.next()));
  EXPECT_FALSE(frame->Verify(kSeed + 1, kCommit));
}

TEST(FrameTest, ATableSaysWhereItsEntriesAre) {
  const TableLine lines[] = {
      {.info = {.stream = StreamId(1),
                .base_offset = 41,
                .record_count = 3,
                .bytes = 5,
                .max_timestamp_ms = 1000},
       .position = 70000},
      {.info = {.stream = StreamId(2), .base_offset = 7, .record_count = 2}}};
  const TableDraft draft{.seed = kSeed,
                         .previous = 99,
                         .commit = kCommit,
                         .commit_time_ms = 5,
                         .lines = lines,
                         .changes = "changes"};
  std::string bytes(draft.TableBytes(), '\0');
  EncodeTable(draft, bytes);
  ASSERT_TRUE(Accepted(bytes));
  const std::string longer = bytes + "what a page has behind it";
  const auto frame = FrameView::Parse(longer);
  ASSERT_TRUE(frame && frame->table());
  EXPECT_FALSE(FrameView::Parse(MakeSample().bytes)->table());
  EXPECT_EQ(frame->bytes().size(), bytes.size());
  EXPECT_EQ(*frame->changes(nullptr, nullptr), "changes");
  EXPECT_EQ(frame->position(0), 70000u);
  EXPECT_EQ(frame->stored_bytes(0), 5u);
  EXPECT_EQ(frame->info(0).end_offset(), 44);
  EXPECT_EQ(frame->entry(0, "first", nullptr, nullptr)->bytes, "first");
  EXPECT_EQ(frame->info(1).bytes, 0u);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(Accepted(flipped)) << "bit " << bit;
  }
}

TEST(FrameTest, EntriesOfALargeFrameHaveAChecksumOfTheirOwn) {
  const std::string large(20'000, 'x');
  const DraftEntry entries[] = {{{.stream = StreamId(1), .bytes = large, .record_count = 1}, 41},
                                {{.stream = StreamId(2), .bytes = "second", .record_count = 1}, 7}};
  const FrameDraft draft{.seed = kSeed, .commit = kCommit, .entries = entries, .changes = "c"};
  std::string bytes(draft.FrameBytes(), '\0');
  EncodeFrame(draft, bytes);
  const auto whole = [](std::string_view frame) {
    return Accepted(frame) && FrameView::Parse(frame)->VerifyEntries();
  };
  EXPECT_TRUE(whole(bytes));
  EXPECT_EQ(FrameView::Parse(bytes)->entry(1, nullptr, nullptr)->bytes, "second");
  const size_t payload = bytes.find("xxxx");
  for (size_t at = payload; at < bytes.size(); at += at < bytes.size() - 20 ? 997 : 1) {
    std::string damaged = bytes;
    damaged[at] ^= 16;
    EXPECT_TRUE(Accepted(damaged)) << "it costs no other entry";
    EXPECT_FALSE(whole(damaged)) << at;
  }
  // As versions before wrote it: the lines add up to what there is.
  std::string older = bytes.substr(0, bytes.size() - sizeof(uint32_t));
  base::StoreLittle(older.data() + 32, static_cast<uint32_t>(older.size() - payload));
  const std::string_view covered = std::string_view(older).substr(0, payload);
  base::StoreLittle(older.data() + 40,
                    base::Crc32c(covered.substr(44), base::Crc32c(covered.substr(0, 40), kSeed)));
  EXPECT_TRUE(whole(older));
  older.back() ^= 1;
  EXPECT_TRUE(whole(older)) << "nothing tells";
}

TEST(FrameTest, WhatACallerKnowsOfAnEntrySumGivesTheSameFrame) {
  std::vector<std::string> bytes;
  for (const size_t size : {1, 21, 500, 1044, 1045, 1046, 16405, 40000})
    bytes.push_back(test::Noise(size));
  const auto encode = [&](const auto& summed) {
    std::vector<DraftEntry> entries;
    for (const std::string& entry : bytes) {
      entries.push_back(
          {{.stream = StreamId(1), .bytes = entry, .record_count = 1, .summed = summed(entry)},
           static_cast<int64_t>(entries.size())});
    }
    const FrameDraft draft{.seed = kSeed, .commit = kCommit, .entries = entries};
    std::string frame(draft.FrameBytes(), '\0');
    EncodeFrame(draft, frame);
    return frame;
  };
  const std::string without =
      encode([](const std::string&) { return std::optional<NewEntry::Summed>(); });
  const auto behind = [](size_t begin) {
    return [begin](const std::string& entry) -> std::optional<NewEntry::Summed> {
      if (entry.size() < begin) return std::nullopt;
      return NewEntry::Summed{begin, base::Crc32c(std::string_view(entry).substr(begin))};
    };
  };
  for (const size_t begin : {0, 21, 1000}) EXPECT_EQ(encode(behind(begin)), without) << begin;
  EXPECT_TRUE(FrameView::Parse(without)->VerifyEntries());
}

TEST(FrameTest, OfASealedFrameWhatIsStoredIsSummed) {
  const std::string large(20'000, 'x');
  const DraftEntry entry{{.stream = StreamId(1),
                          .bytes = large,
                          .record_count = 1,
                          .summed = {{.begin = 0, .crc = base::Crc32c(large)}}},
                         41};
  const auto key = SegmentKey::Make(*KeyRing::Parse(std::vector{std::string(64, 'a')}));
  const FrameDraft draft{
      .seed = kSeed, .commit = kCommit, .entries = {&entry, 1}, .key = key.get()};
  std::string bytes(draft.FrameBytes(), '\0');
  EncodeFrame(draft, bytes);
  EXPECT_TRUE(FrameView::Parse(bytes)->VerifyEntries());
}

TEST(FrameTest, EveryTruncationIsNoticed) {
  const std::string bytes = MakeSample().bytes;
  ASSERT_TRUE(Accepted(bytes));
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(Accepted(std::string_view(bytes).substr(0, size))) << size;
  const std::string longer = bytes + "what a page has behind it";
  EXPECT_EQ(FrameView::Parse(longer)->bytes(), bytes);
}

TEST(FrameTest, EveryFlippedBitUnderTheChecksumIsNoticed) {
  const Sample sample = MakeSample();
  const size_t covered = sample.bytes.size() - std::string_view("firstthird").size();
  for (size_t bit = 0; bit < covered * 8; ++bit) {
    std::string bytes = sample.bytes;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(Accepted(bytes)) << "bit " << bit;
  }
}

TEST(FrameTest, TheExampleOfTheDocumentIsWhatItSays) {
  std::ifstream document(test::SourcePath("docs/spool-format.md"));
  std::string example;
  std::string line;
  while (std::getline(document, line) && line != "```hex") {
  }
  while (std::getline(document, line) && line != "```") {
    std::istringstream digits(line.substr(0, 47));
    for (unsigned byte = 0; digits >> std::hex >> byte;) example.push_back(static_cast<char>(byte));
  }

  std::string changes;
  AppendOpenStream(StreamId(0), "a", &changes);
  AppendPut("k", "v1", &changes);
  const DraftEntry entry{{.stream = StreamId(0),
                          .bytes = "hello",
                          .record_count = 2,
                          .max_timestamp_ms = 1'767'225'600'000},
                         0};
  const Origin origin{
      {'0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'}, 1};
  const FrameDraft draft{.seed = origin.Seed(),
                         .commit = CommitNumber(1),
                         .commit_time_ms = 1'767'225'600'123,
                         .entries = {&entry, 1},
                         .changes = changes};
  std::string encoded(draft.FrameBytes(), '\0');
  EncodeFrame(draft, encoded);
  EXPECT_EQ(example, encoded);
}

TEST(ChangeTest, EveryTruncationIsNoticed) {
  std::string all;
  AppendPut("key", "value", &all);
  AppendErase("key", &all);
  AppendOpenStream(StreamId(3), "name", &all);
  AppendTrim(StreamId(3), 9, &all);
  Change stream;
  stream.kind = ChangeKind::kStream;
  stream.stream = StreamId(4);
  stream.key = "other";
  stream.end = 12;
  AppendStream(stream, &all);
  Change segment;
  segment.segment = 5;
  segment.end_commit = CommitNumber(17);
  AppendSegment(segment, &all);

  std::vector<size_t> ends;
  ChangeReader reader(all);
  Change change;
  size_t records = 0;
  while (reader.Next(&change)) ++records;
  EXPECT_TRUE(reader.AtEnd());
  EXPECT_EQ(records, 6u);
  EXPECT_EQ(change.kind, ChangeKind::kSegment);
  EXPECT_EQ(change.end_commit, CommitNumber(17));

  size_t whole = 0;
  for (size_t size = 0; size < all.size(); ++size) {
    ChangeReader part(std::string_view(all).substr(0, size));
    while (part.Next(&change)) {
    }
    whole += part.AtEnd() ? 1 : 0;
  }
  EXPECT_EQ(whole,
            6u);  // Only cuts between records look whole: lengths and checksum are the frame's.
}

TEST(IndexBlockTest, PlacesComeBackAndDamageIsNoticed) {
  base::Random random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<Place> places;
    Place place;
    place.base_offset = static_cast<int64_t>(random.Below(1 << 20));
    for (uint64_t i = 0; i <= random.Below(kPlacesPerBlock); ++i) {
      place.base_offset += static_cast<int64_t>(1 + random.Below(1000));
      place.max_timestamp_ms = static_cast<int64_t>(random()) >> random.Below(64);
      place.frame += static_cast<uint32_t>(random.Below(3));
      place.line = static_cast<uint32_t>(random.Below(5000));
      places.push_back(place);
    }
    std::string block = PackBlock(kSeed, StreamId(5), places.data(), places.size());
    std::vector<Place> unpacked;
    ASSERT_TRUE(UnpackBlock(kSeed, StreamId(5), places[0].base_offset, block, &unpacked));
    ASSERT_EQ(unpacked.size(), places.size());
    for (size_t i = 0; i < places.size(); ++i) {
      EXPECT_EQ(unpacked[i].base_offset, places[i].base_offset);
      EXPECT_EQ(unpacked[i].max_timestamp_ms, places[i].max_timestamp_ms);
      EXPECT_EQ(unpacked[i].frame, places[i].frame);
      EXPECT_EQ(unpacked[i].line, places[i].line);
    }
    EXPECT_FALSE(UnpackBlock(kSeed, StreamId(6), places[0].base_offset, block, &unpacked));
    block[random.Below(block.size())] ^= static_cast<char>(1 + random.Below(255));
    EXPECT_FALSE(UnpackBlock(kSeed, StreamId(5), places[0].base_offset, block, &unpacked));
  }
}

TEST(IndexBlockTest, KeysSortByStreamThenOffset) {
  EXPECT_LT(BlockKey(StreamId(1), 255), BlockKey(StreamId(1), 256));
  EXPECT_LT(BlockKey(StreamId(1), INT64_MAX), BlockKey(StreamId(2), 0));
  EXPECT_LT(BlockKey(StreamId(255), 0), BlockKey(StreamId(256), 0));
}

}  // namespace
}  // namespace holdfast::spool
