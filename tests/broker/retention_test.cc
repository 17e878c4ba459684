// What retention lets go while the partition changes under it.
#include "broker/retention.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/spool/spool_fixture.h"

namespace holdfast::broker {
namespace {

// A spool that another thread works on between two looks.
class ChangingSpool final : public spool::Spool {
 public:
  explicit ChangingSpool(spool::Spool& within) : within_(&within) {}

  // From now on another one, as when compaction has written segments anew.
  void SwitchTo(spool::Spool& other) { within_ = &other; }

  std::function<void()> after_find_by_time = [] {};
  std::function<void(const std::vector<spool::EntryInfo>&)> after_list = [](const auto&) {};

  base::Result<std::optional<spool::EntryInfo>> FindByTime(spool::StreamId stream,
                                                           int64_t timestamp_ms,
                                                           int64_t from) override {
    auto found = within_->FindByTime(stream, timestamp_ms, from);
    after_find_by_time();
    return found;
  }

  bool Submit(std::unique_ptr<spool::Operation>& operation) override {
    return within_->Submit(operation);
  }
  base::Result<spool::Lease> Read(spool::StreamId stream, int64_t from, size_t max_bytes) override {
    ADD_FAILURE() << "what is encrypted would be opened";
    return within_->Read(stream, from, max_bytes);
  }
  base::Result<spool::Lease> ReadSound(spool::StreamId stream, int64_t from,
                                       size_t max_bytes) override {
    return within_->ReadSound(stream, from, max_bytes);
  }
  base::Result<std::vector<spool::EntryInfo>> ListEntries(spool::StreamId stream, int64_t from,
                                                          size_t entries_max) override {
    auto entries = within_->ListEntries(stream, from, entries_max);
    if (entries) after_list(*entries);
    return entries;
  }
  base::Result<int64_t> NextReadable(spool::StreamId stream, int64_t from) override {
    return within_->NextReadable(stream, from);
  }
  [[nodiscard]] spool::OffsetRange Range(spool::StreamId stream) const override {
    return within_->Range(stream);
  }
  [[nodiscard]] std::optional<spool::StreamId> FindStream(std::string_view name) const override {
    return within_->FindStream(name);
  }
  [[nodiscard]] std::vector<std::pair<std::string, spool::StreamId>> Streams() const override {
    return within_->Streams();
  }
  [[nodiscard]] spool::Status GetStatus() const override { return within_->GetStatus(); }
  [[nodiscard]] bool Wanted() const override { return within_->Wanted(); }
  [[nodiscard]] int64_t SealedEnd(spool::StreamId stream) const override {
    return within_->SealedEnd(stream);
  }
  void SealSoon() override { within_->SealSoon(); }
  base::Result<spool::RevisionReport> Revise(spool::Revision& revision) override {
    return within_->Revise(revision);
  }
  base::Result<spool::RevisionReport> Sort(base::TimePoint now, const spool::Pace& pace) override {
    return within_->Sort(now, pace);
  }
  void Close() override { within_->Close(); }

 private:
  spool::Spool* within_;
};

class RetentionTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(stored_.Open());
    ASSERT_TRUE(stored_.AppendNow("other", "x"));
    ASSERT_TRUE(stored_.Submit(
        0, [](spool::Transaction& transaction) { (void)transaction.OpenStream("t"); }));
    stored_.clock.RunUntilIdle();
    partition_.emplace(TopicPartition{}, *stored_.spool->FindStream("t"), 0);
  }
  // As the writer does it: readable, and acknowledged.
  void Produce(int64_t timestamp_ms, size_t bytes = 10) {
    ASSERT_TRUE(stored_.AppendNow("t", std::string(bytes, '.'), 1, timestamp_ms));
    partition_->high_watermark.store(stored_.spool->Range(partition_->stream).end);
  }

  static int64_t FindFirstToKeep(spool::Spool& spool, const Partition& partition,
                                 const RetentionLimits& limits) {
    FirstToKeep first(spool, partition, limits);
    while (!first.done()) first.Look();
    return first.offset();
  }

  spool::TemporaryDirectory directory_;
  spool::TestSpool stored_{directory_.path()};
  std::optional<Partition> partition_;
};

TEST_F(RetentionTest, WhatIsAppendedMeanwhileStays) {
  ChangingSpool spool(*stored_.spool);
  spool.after_find_by_time = [&] { Produce(2000); };
  EXPECT_EQ(FindFirstToKeep(spool, *partition_, {.oldest_ms = 1000}), 0) << "the stream was empty";
  spool.after_find_by_time = [] {};
  EXPECT_EQ(FindFirstToKeep(spool, *partition_, {.oldest_ms = 3000}), 1);
  spool.after_find_by_time = [&] { Produce(4000); };
  EXPECT_EQ(FindFirstToKeep(spool, *partition_, {.oldest_ms = 3000}), 1) << "all of it was too old";
}

TEST_F(RetentionTest, SizesThatChangeMeanwhileTakeNothingThatFits) {
  spool::TemporaryDirectory other_directory;
  spool::TestSpool compacted(other_directory.path());
  ASSERT_TRUE(compacted.Open());
  ASSERT_TRUE(compacted.AppendNow("other", "x"));
  for (int i = 0; i < 10; ++i) {
    Produce(1000, 1000);
    ASSERT_TRUE(compacted.AppendNow("t", std::string(400, '.')));
  }
  ChangingSpool spool(*stored_.spool);
  spool.after_list = [&](const auto& entries) {
    if (!entries.empty() && entries.back().end_offset() == 10) spool.SwitchTo(*compacted.spool);
  };
  EXPECT_EQ(FindFirstToKeep(spool, *partition_, {.bytes_max = 5000}), 5) << "as it was before";
  EXPECT_EQ(FindFirstToKeep(spool, *partition_, {.bytes_max = 5000}), 0) << "all of it fits";
  EXPECT_EQ(FindFirstToKeep(spool, *partition_, {.bytes_max = 1000}), 7);
  EXPECT_EQ(FindFirstToKeep(spool, *partition_, {.bytes_max = 0}), 10);
}

// Clients wait for the same loop.
TEST_F(RetentionTest, SomeEntriesAreLookedAtAtATime) {
  constexpr int kEntries = 2000;
  ASSERT_TRUE(stored_.Submit(kEntries * 10, [&](spool::Transaction& transaction) {
    for (int i = 0; i < kEntries; ++i) {
      transaction.Append({.stream = partition_->stream, .bytes = "0123456789", .record_count = 1});
    }
  }));
  stored_.clock.RunUntilIdle();
  partition_->high_watermark.store(kEntries);
  ChangingSpool spool(*stored_.spool);
  int lists = 0;
  spool.after_list = [&](const auto& entries) {
    ++lists;
    EXPECT_LE(entries.size(), 200u);
  };
  FirstToKeep first(spool, *partition_, {.bytes_max = 100});
  int looks = 0;
  while (!first.done()) {
    first.Look();
    EXPECT_EQ(lists, ++looks);
    if (looks == 2) partition_->log_start.store(kEntries / 2);  // Trimmed meanwhile.
  }
  EXPECT_GE(looks, 2 + kEntries / 2 / 200);
  EXPECT_EQ(first.offset(), kEntries - 10);
}

TEST_F(RetentionTest, WhatStaysIsCountedToAThousandth) {
  for (int i = 0; i < 30; ++i) Produce(1000, 100);
  EXPECT_EQ(FindFirstToKeep(*stored_.spool, *partition_, {.bytes_max = 999}), 20);
  EXPECT_EQ(FindFirstToKeep(*stored_.spool, *partition_, {.bytes_max = 1000}), 20);
  EXPECT_EQ(FindFirstToKeep(*stored_.spool, *partition_, {.bytes_max = 1001}), 19);
  partition_->log_start.store(25);
  EXPECT_EQ(FindFirstToKeep(*stored_.spool, *partition_, {.bytes_max = 1000}), 25);
}

}  // namespace
}  // namespace holdfast::broker
