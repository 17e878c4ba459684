// Handing a spool over: what Import makes of an Export is the spool that was exported.
#include "spool/transfer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/endian.h"
#include "base/log.h"
#include "spool/directory.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

using testing::HasSubstr;

const std::vector<std::string> kKey = {std::string(64, 'a')};
const std::vector<std::string> kOtherKey = {std::string(64, 'b')};

class TransferTest : public testing::Test {
 protected:
  TransferTest() { base::SetLogLevel(base::LogLevel::kError); }

  // Several segments; some trimmed, some state.
  void Fill() {
    ASSERT_TRUE(spool_.Open());
    for (int i = 0; i < 150; ++i)
      ASSERT_TRUE(spool_.AppendNow(i % 3 == 0 ? "slow" : "fast",
                                   "#" + std::to_string(i) + std::string(20'000, 'x'),
                                   /*record_count=*/2, /*max_timestamp_ms=*/i));
    ASSERT_TRUE(spool_.TrimNow("fast", 190));
    ASSERT_TRUE(spool_.TrimNow("slow", 31));
  }

  std::string ExportAll(const KeyRing& keys = {}) {
    std::string bytes;
    const auto report = Export(source_.path(), {.hand_over = "handed over to b", .keys = keys},
                               [&](std::string_view part) -> base::Result<void> {
                                 bytes.append(part);
                                 return {};
                               });
    EXPECT_TRUE(report) << report.error().message;
    if (report) {
      EXPECT_EQ(report->bytes, bytes.size());
    }
    return bytes;
  }
  static base::Result<TransferReport> ImportAll(const std::string& path, std::string_view bytes,
                                                const KeyRing& keys = {}) {
    return Import(path, {.keys = keys}, [&](std::span<char> out) -> base::Result<size_t> {
      const size_t size = std::min(out.size(), bytes.size());
      std::copy_n(bytes.begin(), size, out.begin());
      bytes.remove_prefix(size);
      return size;
    });
  }

  TemporaryDirectory source_;
  TemporaryDirectory target_;
  TestSpool spool_{source_.path()};
};

TEST_F(TransferTest, TheImportedSpoolGoesOnWhereTheExportedOneStopped) {
  Fill();
  const auto slow = spool_.ReadAll("slow");
  const auto fast = spool_.ReadAll("fast");
  const auto seen = spool_.owner.seen;
  const auto count = spool_.Get("count/0");
  const Status before = spool_.spool->GetStatus();
  spool_.Close();
  const std::string bytes = ExportAll();

  const auto imported = ImportAll(target_.path(), bytes);
  ASSERT_TRUE(imported) << imported.error().message;
  EXPECT_LT(imported->entries, 150u);  // Trimmed ones stay behind.
  TestSpool other(target_.path());
  const auto opened = other.Open();
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(other.ReadAll("slow"), slow);
  EXPECT_EQ(other.ReadAll("fast"), fast);
  EXPECT_EQ(other.owner.seen, seen);
  EXPECT_EQ(other.Get("count/0"), count);
  EXPECT_EQ(other.spool->GetStatus().durable, before.durable);
  EXPECT_LE(other.spool->GetStatus().disk_bytes, before.disk_bytes);
  const StreamId id = *other.spool->FindStream("slow");
  EXPECT_EQ(other.spool->Range(id).start, 31);
  EXPECT_EQ((*other.spool->FindByTime(id, 100, 0))->base_offset, 68);
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(other.AppendNow("slow", std::string(30'000, 'y')));
  other.Reopen();
  EXPECT_EQ(other.ReadAll("slow").size(), slow.size() + 60);
}

TEST_F(TransferTest, TheSourceDoesNotOpenUntilItIsTakenBack) {
  Fill();
  spool_.Close();
  ExportAll();
  EXPECT_THAT(spool_.Open().error().message, HasSubstr("handed over to b"));
  const auto again =
      Export(source_.path(), {}, [](std::string_view) { return base::Result<void>(); });
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, base::Code::kInvalid);
}

TEST_F(TransferTest, ACopyLeavesTheSourceAsItIs) {
  Fill();
  spool_.Close();
  ASSERT_TRUE(Export(source_.path(), {}, [](std::string_view) { return base::Result<void>(); }));
  EXPECT_TRUE(spool_.Open());
}

TEST_F(TransferTest, AnExportThatCannotBeWrittenHandsNothingOver) {
  Fill();
  spool_.Close();
  size_t left = 500'000;
  const auto written = Export(source_.path(), {.hand_over = "handed over"},
                              [&](std::string_view part) -> base::Result<void> {
                                if (part.size() > left)
                                  return base::Unexpected(base::Code::kFull, "no space");
                                left -= part.size();
                                return {};
                              });
  ASSERT_FALSE(written);
  EXPECT_TRUE(spool_.Open());
}

// Wherever the bytes end, or are changed, there is no spool, and the import can be run again.
TEST_F(TransferTest, HalfAnImportIsNoSpool) {
  Fill();
  spool_.Close();
  const std::string bytes = ExportAll();
  for (size_t share = 0; share < 40; ++share) {
    const size_t at = share == 39 ? bytes.size() - 1 : bytes.size() / 39 * share;
    const auto cut = ImportAll(target_.path(), std::string_view(bytes).substr(0, at));
    ASSERT_FALSE(cut) << at;
    EXPECT_EQ(cut.error().code, base::Code::kCorrupt) << cut.error().message;
    std::string flipped = bytes;
    flipped[at] ^= 0x10;
    ASSERT_FALSE(ImportAll(target_.path(), flipped)) << at;
    TestSpool other(target_.path());
    const auto opened = other.Open();
    ASSERT_FALSE(opened) << at;
    EXPECT_THAT(opened.error().message, HasSubstr("an import was cut off here"));
  }
  ASSERT_TRUE(ImportAll(target_.path(), bytes));
  TestSpool other(target_.path());
  EXPECT_TRUE(other.Open());
}

// Each section is whole, but not all of them are there.
TEST_F(TransferTest, AnExportWithoutOneOfItsCommitsIsRefused) {
  Fill();
  spool_.Close();
  std::string bytes = ExportAll();
  constexpr uint32_t kFrame = 5;
  for (size_t at = 12;;) {
    ASSERT_LT(at, bytes.size());
    const size_t size = 12 + base::LoadLittle<uint64_t>(&bytes[at + 4]) + 4;
    if (base::LoadLittle<uint32_t>(&bytes[at]) == kFrame) {
      bytes.erase(at, size);
      break;
    }
    at += size;
  }
  const auto imported = ImportAll(target_.path(), bytes);
  ASSERT_FALSE(imported);
  EXPECT_THAT(imported.error().message, HasSubstr("missing"));
}

TEST_F(TransferTest, NothingIsImportedIntoADirectoryThatIsNotEmpty) {
  Fill();
  spool_.Close();
  const std::string bytes = ExportAll();
  EXPECT_THAT(ImportAll(source_.path(), bytes).error().message, HasSubstr("a spool already"));
  std::ofstream(target_.path() + "/notes") << "mine";
  EXPECT_THAT(ImportAll(target_.path(), bytes).error().message, HasSubstr("not empty"));
  EXPECT_THAT(ImportAll(target_.path() + "/new", "").error().message, HasSubstr("ends early"));
  EXPECT_THAT(ImportAll(target_.path() + "/new", "something else entirely").error().message,
              HasSubstr("not an exported spool"));
}

TEST_F(TransferTest, WhatWasEncryptedStaysEncrypted) {
  const KeyRing keys = *KeyRing::Parse(kKey);
  spool_.options.encryption_keys = keys;
  Fill();
  const auto slow = spool_.ReadAll("slow");
  spool_.Close();
  const std::string bytes = ExportAll(keys);
  EXPECT_EQ(bytes.find("xxxxxxxx"), std::string::npos);
  EXPECT_EQ(bytes.find("slow"), std::string::npos);
  EXPECT_THAT(ImportAll(target_.path(), bytes, *KeyRing::Parse(kOtherKey)).error().message,
              HasSubstr("encrypted with the key"));
  const auto imported = ImportAll(target_.path(), bytes, keys);
  ASSERT_TRUE(imported) << imported.error().message;
  TestSpool other(target_.path());
  EXPECT_FALSE(other.Open());
  other.options.encryption_keys = keys;
  ASSERT_TRUE(other.Open());
  EXPECT_EQ(other.ReadAll("slow"), slow);
}

// What comes to stand in an encrypted segment, or in a small frame since others were left out of
// it, counts as sound from then on.
TEST_F(TransferTest, ADamagedEntryIsNotVouchedFor) {
  const EntryCheck check = [](const EntryView& entry) -> base::Result<void> {
    if (!entry.bytes.starts_with("xxxx")) return {};
    return base::Unexpected(base::Code::kCorrupt, "damaged");
  };
  const std::vector<std::string> entries = {"a" + std::string(5'000, 'a'),
                                            "b" + std::string(20'000, 'b')};
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.Submit(30'000, [&](Transaction& transaction) {
    for (const std::string& entry : entries)
      transaction.Append({.stream = transaction.OpenStream(entry.substr(0, 1)),
                          .bytes = entry,
                          .record_count = 1});
  }));
  spool_.clock.RunUntilIdle();
  spool_.spool->SealSoon();
  spool_.clock.RunUntilIdle();
  ASSERT_TRUE(spool_.TrimNow("b", 1));
  ASSERT_TRUE(spool_.AppendNow("a", "later"));
  spool_.Close();
  {
    const std::string path = Directory::SegmentPath(source_.path(), 1);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const size_t at = bytes.find(entries[0]);
    ASSERT_NE(at, std::string::npos);
    file.seekp(static_cast<std::streamoff>(at));
    file << "xxxx";
  }
  std::string bytes;
  ASSERT_TRUE(Export(source_.path(), {.check_entry = check},
                     [&](std::string_view part) -> base::Result<void> {
                       bytes.append(part);
                       return {};
                     }));
  EXPECT_EQ(bytes.find("xxxx"), std::string::npos);
  const auto imported = ImportAll(target_.path(), bytes);
  ASSERT_TRUE(imported) << imported.error().message;
  TestSpool other(target_.path());
  ASSERT_TRUE(other.Open());
  EXPECT_EQ(other.ReadAll("a"), std::vector<std::string>{"later"});
}

}  // namespace
}  // namespace holdfast::spool
