// Goal: whatever fails, nothing acknowledged is lost, nothing is there twice or out of order, state
// agrees with the log, and the spool works again when the disk does.
// Method: a scripted workload on a faulty disk. The power is cut before every single call; every
// single call is made to fail; after each the directory is opened again and compared with what was
// acknowledged.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "base/log.h"
#include "metrics/registry.h"
#include "spool/lmdb.h"
#include "tests/spool/faulty_disk.h"
#include "tests/spool/spool_fixture.h"
#include "tests/support/sanitizers.h"

namespace holdfast::spool {
namespace {

using Call = FaultyDisk::Call;
using Unflushed = FaultyDisk::Unflushed;

// What was asked and what was answered, per stream.
struct Account {
  struct Stream {
    std::vector<std::string> submitted;
    std::vector<std::string> acked;
    int64_t trim_submitted = 0;
    int64_t trim_acked = 0;
  };
  std::map<std::string, Stream> streams;
  int answers = 0;
  int submissions = 0;
};

// Bursts of appends to some streams, single ones, and a trim now and then; enough for several
// segments.
class Workload {
 public:
  Workload(TestSpool& spool, uint64_t seed) : spool_(spool), random_(seed) {}

  void Step() {
    const uint64_t burst = 1 + random_.Below(6);
    for (uint64_t i = 0; i < burst; ++i) {
      random_.Below(8) == 0 ? Trim() : Append();
      // One task: some of the burst is queued while a commit is on its way.
      if (random_.Below(2) == 0) spool_.writer.RunOne();
    }
    spool_.clock.RunUntilIdle();
  }

  Account account;

 private:
  std::string RandomName() { return "stream" + std::to_string(random_.Below(3)); }

  void Append() {
    const std::string name = RandomName();
    const auto fill = static_cast<char>('a' + random_.Below(26));
    std::string bytes = std::to_string(account.submissions) + ":" +
                        std::string(random_.Below(4) == 0 ? 150'000 : random_.Below(9000), fill);
    account.streams[name].submitted.push_back(bytes);
    ++account.submissions;
    const bool taken = spool_.Append(name, bytes, [this, name, bytes](const auto& result) {
      ++account.answers;
      if (result) account.streams[name].acked.push_back(bytes);
    });
    ASSERT_TRUE(taken);
  }

  void Trim() {
    const std::string name = RandomName();
    Account::Stream& stream = account.streams[name];
    if (stream.acked.empty()) return;
    const auto offset = static_cast<int64_t>(random_.Below(stream.acked.size()));
    stream.trim_submitted = std::max(stream.trim_submitted, offset);
    ++account.submissions;
    const bool taken = spool_.Submit(
        0,
        [name, offset](Transaction& transaction) {
          transaction.Trim(transaction.OpenStream(name), offset);
        },
        [this, name, offset](const auto& result) {
          ++account.answers;
          if (!result) return;
          int64_t& acked = account.streams[name].trim_acked;
          acked = std::max(acked, offset);
        });
    ASSERT_TRUE(taken);
  }

  TestSpool& spool_;
  base::Random random_;
};

// The spool in `directory` holds what `account` says was acknowledged. Beyond that it may hold what
// was submitted next in each stream, if `more_allowed`.
void ExpectHolds(const std::string& directory, const Account& account, bool more_allowed) {
  metrics::Registry registry;  // Outlives the spool.
  TestSpool spool(directory);
  spool.options.metrics = &registry;
  const auto opened = spool.Open();
  ASSERT_TRUE(opened) << opened.error().message;
  for (const auto& [name, stream] : account.streams) {
    const std::vector<std::string>& all = more_allowed ? stream.submitted : stream.acked;
    const std::optional<StreamId> id = spool.spool->FindStream(name);
    if (!id) {
      EXPECT_TRUE(stream.acked.empty());
      continue;
    }
    const OffsetRange range = spool.spool->Range(*id);
    ASSERT_GE(range.end, static_cast<int64_t>(stream.acked.size())) << name;
    ASSERT_LE(range.end, static_cast<int64_t>(all.size())) << name;
    EXPECT_GE(range.start, stream.trim_acked) << name;
    EXPECT_LE(range.start, stream.trim_submitted) << name;
    const std::vector<std::string> expected(all.begin() + range.start, all.begin() + range.end);
    EXPECT_TRUE(spool.ReadAll(name) == expected) << name;
    // State agrees with the log, whichever way it is kept.
    EXPECT_EQ(spool.owner.seen[id->value()], range.end) << name;
    EXPECT_EQ(spool.Get("count/" + std::to_string(id->value())).value_or("0"),
              std::to_string(range.end))
        << name;
  }
  // Nobody damaged anything.
  for (const char* const line :
       {"holdfast_spool_damaged_segments_total 0\n", "holdfast_spool_damaged_frames_total 0\n"})
    EXPECT_NE(registry.Expose().find(line), std::string::npos) << line;
}

class FaultsTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  TemporaryDirectory scratch_;
  std::string image_ = scratch_.path() + "/image";
};

TEST_F(FaultsTest, NothingAcknowledgedIsLostWhenThePowerIsCutBeforeAnyCall) {
  int calls = 0;
  int cuts = 0;
  for (const Unflushed unflushed : {Unflushed::kLost, Unflushed::kKept, Unflushed::kRandom}) {
    TemporaryDirectory fresh;
    base::Random random(7);
    FaultyDisk disk;
    TestSpool spool(fresh.path());
    Workload workload(spool, 42);
    disk.OnCall([&](Call, int) {
      if (HasFatalFailure() || ++calls % test::kEveryOf != 0) return 0;
      disk.PowerCut(fresh.path(), image_, unflushed, random);
      // Before the marker is there, this is no spool yet.
      if (std::filesystem::exists(image_ + "/HOLDFAST"))
        ExpectHolds(image_, workload.account, /*more_allowed=*/true);
      ++cuts;
      return 0;
    });
    ASSERT_TRUE(spool.Open());
    for (int i = 0; i < 12 && !HasFatalFailure(); ++i) workload.Step();
    EXPECT_EQ(workload.account.answers, workload.account.submissions);
    disk.OnCall({});
  }
  EXPECT_GT(cuts, 300 / test::kEveryOf);
}

// A lock file that is there may be in use, so only one that nobody sees yet is filled.
TEST_F(FaultsTest, WhereNothingCanBeAllocatedALockFileIsWrittenBeforeItHasItsName) {
  const std::string path = directory_.path() + "/environment";
  const std::string lock = path + "-lock";
  const auto files = [&] {
    const std::filesystem::directory_iterator begin(directory_.path());
    return std::distance(begin, std::filesystem::directory_iterator());
  };
  int write_error = ENOSPC;
  FaultyDisk disk;
  disk.OnCall([&](Call call, int) {
    return call == Call::kAllocate ? EOPNOTSUPP : call == Call::kWrite ? write_error : 0;
  });
  const auto failed = lmdb::Environment::AllocateLock(path);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, base::Code::kFull);
  EXPECT_EQ(files(), 0);
  write_error = 0;
  EXPECT_TRUE(lmdb::Environment::AllocateLock(path));
  EXPECT_EQ(files(), 1);
  struct stat info {};
  ASSERT_EQ(stat(lock.c_str(), &info), 0);
  EXPECT_GE(info.st_size, 64 << 10);
  EXPECT_GE(info.st_blocks * 512, info.st_size);
  ASSERT_EQ(truncate(lock.c_str(), 0), 0);
  EXPECT_TRUE(lmdb::Environment::AllocateLock(path));
  EXPECT_EQ(std::filesystem::file_size(lock), 0u);
}

// The harness must be able to see a loss: without flushes there is one.
TEST_F(FaultsTest, APowerCutLosesWhatIsNotFlushed) {
  base::Random random(7);
  FaultyDisk disk;
  {
    TestSpool spool(directory_.path());
    ASSERT_TRUE(spool.Open());
    ASSERT_TRUE(spool.AppendNow("stream", "flushed"));
    const int syncs = disk.syncs();
    disk.OnCall([&](Call call, int) {
      if (call == Call::kSync) disk.PowerCut(directory_.path(), image_, Unflushed::kLost, random);
      return 0;
    });
    ASSERT_TRUE(spool.AppendNow("stream", "not flushed before the last cut"));
    EXPECT_EQ(disk.syncs() - syncs, 1);
    disk.OnCall({});
  }
  TestSpool spool(image_);
  ASSERT_TRUE(spool.Open());
  EXPECT_EQ(spool.ReadAll("stream"), std::vector<std::string>{"flushed"});
}

struct Failure {
  int error;
  int times;   // How many calls in a row.
  int stride;  // Beginning with every n-th call, for the sake of time.
};

class FailingCallTest : public FaultsTest, public testing::WithParamInterface<Failure> {};

TEST_P(FailingCallTest, NothingAcknowledgedIsLostAndTheSpoolRecovers) {
  base::SetLogLevel(base::LogLevel::kError);
  const auto [error, times, stride] = GetParam();
  base::Random random(11);
  int failed = 0;
  for (int first = 0;; first += stride) {
    TemporaryDirectory fresh;
    FaultyDisk disk;
    Account account;
    bool reached = false;
    {
      TestSpool spool(fresh.path());
      ASSERT_TRUE(spool.Open());
      Workload workload(spool, 5);
      const int begin = disk.calls();
      disk.OnCall([&](Call, int n) {
        const bool fail = n >= begin + first && n < begin + first + times;
        reached = reached || fail;
        return fail ? error : 0;
      });
      for (int i = 0; i < 8; ++i) workload.Step();
      spool.clock.Advance(std::chrono::minutes(2));
      EXPECT_TRUE(spool.spool->GetStatus().accepting) << spool.spool->GetStatus().refusing_because;
      disk.OnCall({});
      for (int i = 0; i < 2; ++i) workload.Step();
      EXPECT_EQ(workload.account.answers, workload.account.submissions);
      account = workload.account;
      for (const auto& [name, stream] : account.streams)
        EXPECT_FALSE(stream.acked.empty()) << "first=" << first;
      disk.PowerCut(fresh.path(), image_, Unflushed::kRandom, random);
    }
    ExpectHolds(fresh.path(), account, /*more_allowed=*/false);
    ExpectHolds(image_, account, /*more_allowed=*/false);
    if (HasFailure()) FAIL() << "call " << first << " failing " << times << " times";
    if (!reached) break;
    ++failed;
  }
  EXPECT_GT(failed, 25);
}

INSTANTIATE_TEST_SUITE_P(Errors, FailingCallTest,
                         testing::Values(Failure{EIO, 1, 1}, Failure{EIO, 25, 4},
                                         Failure{ENOSPC, 1, 3}, Failure{EDQUOT, 3, 4}));

}  // namespace
}  // namespace holdfast::spool
