// Real threads: several submit, several read, segments come and go; for ThreadSanitizer above all.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "spool/directory.h"
#include "tests/spool/spool_fixture.h"
#include "tests/support/thread_executor.h"

namespace holdfast::spool {
namespace {

// Does nothing, from the threads of the spool.
class IdleOwner final : public Owner {
 public:
  base::Result<void> Load(const StateView&) override { return {}; }
  void Replay(const EntryInfo&) override {}
  void Checkpoint(Transaction&) override {}
  void OnDurable(std::span<const StreamId>) override {}
};

class ThreadsTest : public testing::Test {
 protected:
  void Open() {
    auto opened = Spool::Open({.directory = directory_.path(),
                               .segment_bytes = 1 << 20,
                               .queue_bytes_max = 1 << 20,
                               .free_bytes_min = 0},
                              owner_, writer_, background_);
    ASSERT_TRUE(opened) << opened.error().message;
    spool_ = *std::move(opened);
  }

  // Waits until the queue has room. The number is in the bytes.
  void Append(const std::string& name, int number, std::atomic<int>& done) {
    const auto bytes = std::make_shared<std::string>(
        std::to_string(number) + ":" + std::string(static_cast<size_t>(number) * 31 % 9000, 'x'));
    std::unique_ptr<Operation> operation = std::make_unique<LambdaOperation>(
        bytes->size(),
        [name, bytes](Transaction& t) {
          t.Append({.stream = t.OpenStream(name), .bytes = *bytes, .record_count = 1});
        },
        [bytes, &done](const auto& result) {
          EXPECT_TRUE(result);
          ++done;
        });
    while (!spool_->Submit(operation)) std::this_thread::yield();
  }

  // Reads the stream up to `count` entries, and trims behind itself.
  void Drain(const std::string& name, int count) {
    int64_t next = 0;
    while (next < count) {
      const auto stream = spool_->FindStream(name);
      if (!stream) {
        std::this_thread::yield();
        continue;
      }
      auto lease = spool_->Read(*stream, next, 100'000);
      ASSERT_TRUE(lease) << lease.error().message;
      for (const EntryView& entry : lease->entries()) {
        ASSERT_EQ(entry.bytes.substr(0, entry.bytes.find(':')), std::to_string(next));
        ++next;
      }
      if (lease->empty()) {
        std::this_thread::yield();
        continue;
      }
      *lease = Lease();
      std::unique_ptr<Operation> trim = std::make_unique<LambdaOperation>(
          0, [stream, next](Transaction& t) { t.Trim(*stream, next); },
          LambdaOperation::DoneFunction());
      ASSERT_TRUE(spool_->Submit(trim));
    }
  }

  TemporaryDirectory directory_;
  IdleOwner owner_;
  test::ThreadExecutor writer_;
  test::ThreadExecutor background_;
  std::unique_ptr<Spool> spool_;
};

TEST_F(ThreadsTest, ManyThreadsAppendReadTrimAndSort) {
  constexpr int kStreams = 3;
  constexpr int kEntries = 600;
  Open();
  std::atomic<int> done = 0;
  std::atomic<bool> finished = false;
  std::vector<std::thread> threads;
  for (int s = 0; s < kStreams; ++s) {
    threads.emplace_back([&, s] {
      for (int i = 0; i < kEntries; ++i) Append("stream" + std::to_string(s), i, done);
    });
    threads.emplace_back([&, s] { Drain("stream" + std::to_string(s), kEntries); });
  }
  std::thread watcher([&] {
    while (!finished) {
      (void)spool_->GetStatus();
      (void)spool_->Streams();
      (void)spool_->FindByTime(StreamId(0), 0, 0);
      // From what is trimmed and retired at the same time.
      const int64_t from = spool_->Range(StreamId(0)).start;
      const auto entries = spool_->ListEntries(StreamId(0), from, 100);
      EXPECT_TRUE(entries || entries.error().code == base::Code::kNotFound)
          << entries.error().message;
      if (entries && !entries->empty()) {
        EXPECT_EQ(entries->front().base_offset, from);
      }
      std::this_thread::yield();
    }
  });
  std::thread sorter([&] {
    while (!finished) {
      const auto sorted =
          spool_->Sort(std::chrono::steady_clock::now(), [&](size_t) { return !finished; });
      EXPECT_TRUE(sorted || sorted.error().code == base::Code::kClosed) << sorted.error().message;
      std::this_thread::yield();
    }
  });
  for (std::thread& thread : threads) thread.join();
  finished = true;
  watcher.join();
  sorter.join();
  spool_->Close();
  EXPECT_EQ(done, kStreams * kEntries);
}

TEST_F(ThreadsTest, CloseFromAnotherThreadCompletesWhatWasTaken) {
  for (int round = 0; round < 20; ++round) {
    Open();
    std::atomic<int> done = 0;
    for (int i = 0; i < 20; ++i) Append("a", i, done);
    spool_.reset();
    EXPECT_EQ(done, 20);
  }
}

TEST_F(ThreadsTest, CloseWorksWhenTheExecutorsHaveStopped) {
  std::atomic<int> done = 0;
  auto writer = std::make_unique<test::ThreadExecutor>();
  class Stopped final : public base::Executor {
   public:
    explicit Stopped(std::unique_ptr<test::ThreadExecutor>& inner) : inner_(inner) {}
    void Post(base::Task task) override {
      if (inner_) inner_->Post(std::move(task));
    }
    bool TryPost(base::Task task) override {
      Post(std::move(task));
      return true;
    }
    [[nodiscard]] bool InLoop() const override { return inner_ && inner_->InLoop(); }
    [[nodiscard]] base::TimePoint Now() const override { return {}; }
    [[nodiscard]] int64_t WallClockMs() const override { return 0; }
    base::Timer After(base::Duration, base::Task) override { return {}; }

   private:
    std::unique_ptr<test::ThreadExecutor>& inner_;
  } executor(writer);
  auto opened = Spool::Open({.directory = directory_.path(), .segment_bytes = 1 << 20}, owner_,
                            executor, background_);
  ASSERT_TRUE(opened);
  spool_ = *std::move(opened);
  writer.reset();
  Append("a", 1, done);
  spool_.reset();
  EXPECT_EQ(done, 1);
}

// As when the node's agent removes what an orphaned spool leaves while the pod comes back.
TEST(DirectoryThreadsTest, DirectoriesThatAreRemovedMeanwhileAreMadeAgain) {
  const TemporaryDirectory root;
  const std::string pod = root.path() + "/pod";
  const std::string path = pod + "/spool";
  std::atomic<bool> done = false;
  // Whoever removes them does not do so for ever, as this one could, while nothing is in them.
  constexpr int kRemovals = 40;
  std::atomic<int> removals = 0;
  std::atomic<int> removed = 0;
  std::thread remover([&] {
    while (!done) {
      if (removals > 0 && (rmdir(path.c_str()) == 0 || rmdir(pod.c_str()) == 0)) {
        --removals;
        ++removed;
      }
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 300; ++i) {
    removals = kRemovals;
    const auto opened = Directory::Open(path);
    EXPECT_TRUE(opened) << opened.error().message;
    if (!opened) break;
    std::filesystem::remove_all(path);
  }
  done = true;
  remover.join();
  EXPECT_GT(removed, 0);
}

}  // namespace
}  // namespace holdfast::spool
