// What is on the disk after writes that succeed and fail in any order.
#include "agent/forward_log.h"

#include <gtest/gtest.h>

#include <deque>

#include "kafka/record_batch_builder.h"
#include "tests/support/manual_executor.h"

namespace holdfast::agent {
namespace {

using std::chrono::milliseconds;

// Takes operations, and does each when the test says how it ends.
class PatientSpool final : public spool::Spool {
 public:
  bool Submit(std::unique_ptr<spool::Operation>& operation) override {
    waiting.push_back(std::move(operation));
    return true;
  }
  void DoNext(bool succeeds) {
    const std::unique_ptr<spool::Operation> operation = std::move(waiting.front());
    waiting.pop_front();
    if (succeeds) {
      State transaction(state);
      operation->Apply(transaction);
      return operation->Done(spool::CommitNumber{});
    }
    operation->Done(base::Unexpected(base::Code::kIo, "the disk fails"));
  }

  base::Result<spool::Lease> Read(spool::StreamId, int64_t, size_t) override {
    return base::Unexpected(base::Code::kNotFound, "");
  }
  base::Result<spool::Lease> ReadSound(spool::StreamId, int64_t, size_t) override {
    return base::Unexpected(base::Code::kNotFound, "");
  }
  base::Result<std::vector<spool::EntryInfo>> ListEntries(spool::StreamId /*stream*/,
                                                          int64_t /*from*/,
                                                          size_t /*entries_max*/) override {
    return std::vector<spool::EntryInfo>();
  }
  base::Result<int64_t> NextReadable(spool::StreamId, int64_t) override {
    return base::Unexpected(base::Code::kNotFound, "");
  }
  spool::OffsetRange Range(spool::StreamId) const override { return {}; }
  base::Result<std::optional<spool::EntryInfo>> FindByTime(spool::StreamId, int64_t,
                                                           int64_t) override {
    return base::Unexpected(base::Code::kNotFound, "");
  }
  std::optional<spool::StreamId> FindStream(std::string_view) const override { return {}; }
  std::vector<std::pair<std::string, spool::StreamId>> Streams() const override { return {}; }
  spool::Status GetStatus() const override { return {}; }
  bool Wanted() const override { return false; }
  int64_t SealedEnd(spool::StreamId) const override { return 0; }
  void SealSoon() override {}
  base::Result<spool::RevisionReport> Revise(spool::Revision&) override {
    return base::Unexpected(base::Code::kNotFound, "");
  }
  base::Result<spool::RevisionReport> Sort(base::TimePoint, const spool::Pace&) override {
    return base::Unexpected(base::Code::kNotFound, "");
  }
  void Close() override {}

  std::deque<std::unique_ptr<spool::Operation>> waiting;
  std::map<std::string, std::string, std::less<>> state;

 private:
  struct State final : spool::Transaction {
    explicit State(std::map<std::string, std::string, std::less<>>& values) : state(values) {}
    spool::StreamId OpenStream(std::string_view) override { return spool::StreamId(99); }
    int64_t Append(const spool::NewEntry&) override { return 0; }
    int64_t EndOffset(spool::StreamId) const override { return 0; }
    int64_t StartOffset(spool::StreamId) const override { return 0; }
    void Trim(spool::StreamId, int64_t) override {}
    void Put(std::string_view key, std::string_view value) override {
      state[std::string(key)] = value;
    }
    void Erase(std::string_view key) override { state.erase(std::string(key)); }
    std::optional<std::string_view> Get(std::string_view) const override { return {}; }
    int64_t commit_time_ms() const override { return 0; }
    std::map<std::string, std::string, std::less<>>& state;
  };
};

class ForwardLogTest : public testing::Test {
 protected:
  ~ForwardLogTest() override { clock_.RunUntilIdle(); }

  void NoteOld() {
    log_.Note(kStream, {.confirmed = 1});
    log_.Note("a", "old");
    log_.Note("b", std::nullopt);
    log_.Note("other", "old");
  }
  void SetAside() {
    kafka::RecordBatchBuilder builder({});
    builder.Add({.value = "dead"});
    log_.SetAside(kStream, {.confirmed = 2},
                  {.stream_name = "dead",
                   .batch = std::move(builder).Build(),
                   .record_count = 1,
                   .values = {{"a", "new"}, {"b", "new"}}},
                  [this](const base::Result<>& stored) {
                    stored_ = stored.has_value();
                    if (!stored_) log_.Note(kStream, {.confirmed = 1});
                  });
  }
  void Do(bool succeeds) {
    spool_.DoNext(succeeds);
    clock_.RunUntilIdle();
  }
  // All that is still to be written.
  void DoTheRest() {
    for (int i = 0; i < 10; ++i) {
      while (!spool_.waiting.empty()) Do(true);
      clock_.Advance(milliseconds(200));
    }
  }
  void ExpectState(bool aside) {
    EXPECT_EQ(stored_, aside);
    const auto record = ForwardRecord::Parse(spool_.state[StreamKey(kForwardPrefix, kStream)]);
    ASSERT_TRUE(record);
    EXPECT_EQ(record->confirmed, aside ? 2 : 1);
    EXPECT_EQ(spool_.state["a"], aside ? "new" : "old");
    EXPECT_EQ(spool_.state.contains("b"), aside);
    EXPECT_EQ(spool_.state["other"], "old");
  }

  static constexpr spool::StreamId kStream{7};
  test::ManualClock clock_;
  test::ManualExecutor loop_{clock_};
  PatientSpool spool_;
  ForwardLog log_{spool_, loop_, nullptr, milliseconds(100)};
  bool stored_ = false;
};

TEST_F(ForwardLogTest, WhatWasNotedBeforeIsNotWrittenOverWhatWasSetAside) {
  NoteOld();
  SetAside();
  Do(true);
  DoTheRest();
  ExpectState(/*aside=*/true);
}

TEST_F(ForwardLogTest, IfNothingIsSetAsideWhatWasNotedBeforeIsWritten) {
  NoteOld();
  SetAside();
  Do(false);
  DoTheRest();
  ExpectState(/*aside=*/false);
}

TEST_F(ForwardLogTest, AWriteThatFailedIsNotRepeatedOverWhatWasSetAsideMeanwhile) {
  NoteOld();
  clock_.Advance(milliseconds(100));
  SetAside();
  Do(false);
  Do(true);
  DoTheRest();
  ExpectState(/*aside=*/true);
}

TEST_F(ForwardLogTest, IfBothFailWhatWasNotedBeforeIsWritten) {
  NoteOld();
  clock_.Advance(milliseconds(100));
  SetAside();
  Do(false);
  Do(false);
  DoTheRest();
  ExpectState(/*aside=*/false);
}

}  // namespace
}  // namespace holdfast::agent
