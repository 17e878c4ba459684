// Encryption at rest: what is written cannot be found in the files, is read back with the key, and
// with no other; keys change without a break; what was changed on disk is noticed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/log.h"
#include "spool/cipher.h"
#include "spool/frame.h"
#include "tests/spool/faulty_disk.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

using base::Code;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::string kOld(64, 'a');
const std::string kNew = "ISEhISEhISEhISEhISEhISEhISEhISEhISEhISEhISE=\n";  // 32 times '!'.

KeyRing Ring(const std::vector<std::string>& keys) {
  const base::Result<KeyRing> ring = KeyRing::Parse(keys);
  EXPECT_TRUE(ring) << ring.error().message;
  return ring ? *ring : KeyRing();
}

class EncryptionTest : public testing::Test {
 protected:
  EncryptionTest() { base::SetLogLevel(base::LogLevel::kError); }

  base::Result<void> OpenWith(const std::vector<std::string>& keys) {
    spool_.Close();
    spool_.options.encryption_keys = Ring(keys);
    return spool_.Open();
  }
  void OpenedWith(const std::vector<std::string>& keys) {
    const auto opened = OpenWith(keys);
    ASSERT_TRUE(opened) << opened.error().message;
  }
  std::string AllFiles() {
    std::string bytes;
    for (const auto& file : std::filesystem::directory_iterator(directory_.path())) {
      std::ifstream in(file.path(), std::ios::binary);
      bytes.append(std::istreambuf_iterator<char>(in), {});
    }
    return bytes;
  }

  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
};

TEST_F(EncryptionTest, NothingSecretStandsInTheFiles) {
  OpenedWith({kOld});
  ASSERT_TRUE(spool_.AppendNow("topic-name", "the-payload"));
  // The second segment brings a checkpoint with stream names and state.
  for (int i = 0; i < 40; ++i)
    ASSERT_TRUE(spool_.AppendNow("topic-name", std::string(50'000, 'x')));
  EXPECT_GT(spool_.spool->GetStatus().segments, 1u);
  spool_.Close();
  const std::string files = AllFiles();
  for (const char* secret : {"topic-name", "the-payload", "xxxxxxxx", "count/"})
    EXPECT_EQ(files.find(secret), std::string::npos) << secret;
  OpenedWith({kOld});
  EXPECT_EQ(spool_.ReadAll("topic-name").front(), "the-payload");
  EXPECT_EQ(spool_.ReadAll("topic-name").size(), 41u);
  EXPECT_EQ(spool_.Get("count/0"), "41");
  EXPECT_EQ(spool_.owner.seen[0], 41);
}

TEST_F(EncryptionTest, WithoutTheKeyTheSpoolDoesNotOpenAndNothingIsTouched) {
  OpenedWith({kOld});
  ASSERT_TRUE(spool_.AppendNow("a", "kept"));
  spool_.Close();
  const std::string before = AllFiles();
  auto opened = OpenWith({});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kInvalid);
  EXPECT_THAT(opened.error().message, AllOf(HasSubstr("encrypted"), HasSubstr("no key is given")));
  opened = OpenWith({kNew});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kInvalid);
  EXPECT_THAT(opened.error().message, AllOf(HasSubstr("given is "), Not(HasSubstr(kOld))));
  OpenedWith({kOld});
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("kept"));
}

TEST_F(EncryptionTest, KeysChangeBySegment) {
  OpenedWith({});
  ASSERT_TRUE(spool_.AppendNow("a", "plain"));
  OpenedWith({kOld});
  ASSERT_TRUE(spool_.AppendNow("a", "old key"));
  OpenedWith({kNew, kOld});
  EXPECT_EQ(spool_.spool->GetStatus().segments, 3u);
  ASSERT_TRUE(spool_.AppendNow("a", "new key"));
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("plain", "old key", "new key"));
  // Once nobody needs the old segments, nobody needs the old key.
  ASSERT_TRUE(spool_.TrimNow("a", 2));
  OpenedWith({kNew});
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("new key"));
  EXPECT_EQ(spool_.spool->GetStatus().segments, 1u);
}

TEST_F(EncryptionTest, ANewKeyCountsAsSoonAsThereIsSpace) {
  OpenedWith({});
  ASSERT_TRUE(spool_.AppendNow("a", "before"));
  FaultyDisk disk;
  disk.OnCall(
      [](FaultyDisk::Call call, int) { return call == FaultyDisk::Call::kAllocate ? ENOSPC : 0; });
  OpenedWith({kOld});
  EXPECT_EQ(spool_.spool->GetStatus().segments, 1u);
  ASSERT_TRUE(spool_.AppendNow("a", "no space"));
  spool_.clock.Advance(std::chrono::minutes(1));
  disk.OnCall({});
  spool_.clock.Advance(std::chrono::minutes(1));
  ASSERT_TRUE(spool_.AppendNow("a", "secret-later"));
  EXPECT_EQ(spool_.spool->GetStatus().segments, 2u);
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("before", "no space", "secret-later"));
  spool_.Close();
  EXPECT_EQ(AllFiles().find("secret-later"), std::string::npos);
}

TEST_F(EncryptionTest, WhatWasNotEncryptedGoesWithItsSegments) {
  OpenedWith({});
  for (int i = 0; i < 40; ++i)
    ASSERT_TRUE(spool_.AppendNow("a", "the-payload" + std::string(50'000, 'x')));
  OpenedWith({kOld});
  ASSERT_TRUE(spool_.TrimNow("a", 40));
  spool_.clock.RunUntilIdle();
  EXPECT_EQ(spool_.spool->GetStatus().segments, 1u);
  EXPECT_EQ(AllFiles().find("the-payload"), std::string::npos);
  // Those that are encrypted are used again.
  for (int i = 0; i < 60; ++i)
    ASSERT_TRUE(spool_.AppendNow("a", "the-payload" + std::string(50'000, 'x')));
  ASSERT_TRUE(spool_.TrimNow("a", 100));
  size_t spares = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory_.path()))
    spares += file.path().string().ends_with(".segment.new") ? 1 : 0;
  EXPECT_GT(spares, 0u);
}

// What cannot be opened is listed, so nothing is opened for it.
TEST_F(EncryptionTest, NothingIsOpenedToBeListed) {
  OpenedWith({kOld});
  constexpr size_t kEntries = 40;
  for (size_t i = 0; i < kEntries; ++i)
    ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000 + i, 'x')));
  ASSERT_TRUE(spool_.AppendNow("b", "the newest frame is whole, or it is torn"));
  const StreamId a = *spool_.spool->FindStream("a");
  EXPECT_GT(spool_.spool->SealedEnd(a), 0);
  EXPECT_LT(spool_.spool->SealedEnd(a), static_cast<int64_t>(kEntries));
  spool_.Close();
  ASSERT_EQ(DamageLargeEntries(directory_.path()), static_cast<int>(kEntries));
  OpenedWith({kOld});
  EXPECT_EQ(*spool_.spool->NextReadable(a, 0), static_cast<int64_t>(kEntries));
  std::vector<EntryInfo> all;
  while (all.size() < kEntries) {
    const auto entries = spool_.spool->ListEntries(a, std::ssize(all), 1000);
    ASSERT_TRUE(entries) << entries.error().message;
    ASSERT_FALSE(entries->empty());
    all.insert(all.end(), entries->begin(), entries->end());
  }
  for (size_t i = 0; i < kEntries; ++i) {
    EXPECT_EQ(all[i].base_offset, static_cast<int64_t>(i));
    EXPECT_EQ(all[i].bytes, 50'000 + i);
  }
}

TEST_F(EncryptionTest, TextThatIsNoKeyIsRefusedWithoutShowingIt) {
  for (const std::string& text :
       {std::string("secret"), std::string(63, 'a'), std::string(64, 'g'), std::string(44, '=')}) {
    const auto ring = KeyRing::Parse(std::vector{text});
    ASSERT_FALSE(ring);
    EXPECT_EQ(ring.error().code, Code::kInvalid);
    EXPECT_THAT(ring.error().message, Not(HasSubstr(text)));
  }
}

class SealedFrameTest : public testing::Test {
 protected:
  std::string Encode(SegmentKey* key) {
    const DraftEntry entry{.entry = {.stream = StreamId(3), .bytes = "hello", .record_count = 2},
                           .base_offset = 7};
    const FrameDraft draft{
        .commit = CommitNumber(9), .entries = {&entry, 1}, .changes = "changes", .key = key};
    std::string bytes(draft.FrameBytes(), '\0');
    EncodeFrame(draft, bytes);
    return bytes;
  }

  std::shared_ptr<SegmentKey> key_ = SegmentKey::Make(Ring({kOld}));
};

TEST_F(SealedFrameTest, IsReadWithItsKeyOnly) {
  const std::string bytes = Encode(key_.get());
  const auto frame = FrameView::Parse(bytes);
  ASSERT_TRUE(frame && frame->Verify(0, CommitNumber(9)));
  std::string plain;
  const auto entry = frame->entry(0, key_.get(), &plain);
  ASSERT_TRUE(entry) << entry.error().message;
  EXPECT_EQ(entry->bytes, "hello");
  EXPECT_EQ(entry->info.bytes, 5u);
  std::string changes;
  EXPECT_EQ(*frame->changes(key_.get(), &changes), "changes");
  EXPECT_EQ(frame->entry(0, nullptr, &plain).error().code, Code::kInvalid);
  const auto other = SegmentKey::Make(Ring({kOld}));
  EXPECT_EQ(frame->entry(0, other.get(), &plain).error().code, Code::kCorrupt);
  const auto unwrapped = SegmentKey::Unwrap(Ring({kOld}), key_->wrapped());
  ASSERT_TRUE(unwrapped);
  EXPECT_TRUE(frame->entry(0, unwrapped->get(), &plain));
}

TEST_F(SealedFrameTest, NoTwoAreAlike) { EXPECT_NE(Encode(key_.get()), Encode(key_.get())); }

TEST_F(SealedFrameTest, EveryFlippedBitIsNoticed) {
  const std::string bytes = Encode(key_.get());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const auto frame = FrameView::Parse(flipped);
    if (!frame || !frame->Verify(0, CommitNumber(9))) continue;
    std::string entry;
    std::string changes;
    EXPECT_FALSE(frame->entry(0, key_.get(), &entry) && frame->changes(key_.get(), &changes))
        << "bit " << bit;
  }
}

}  // namespace
}  // namespace holdfast::spool
