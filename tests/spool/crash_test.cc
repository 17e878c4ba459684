// kill -9 and random operations: the spool against a model of it that is a few vectors.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>

#include "base/random.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

// The child appends for ever and writes each answer to a pipe; the parent kills it in the middle,
// and finds every entry that was answered, in order, once.
TEST(CrashTest, AcknowledgedEntriesSurviveKill) {
  TemporaryDirectory directory;
  std::vector<std::string> acked;
  for (int round = 0; round < 5; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const size_t from = acked.size();
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      TestSpool spool(directory.path());
      if (!spool.Open()) _exit(1);
      for (uint32_t i = 0;; ++i) {
        const std::string bytes = std::to_string(round) + "/" + std::to_string(i) + "/" +
                                  std::string(i * 7919 % 20'000, 'x');
        (void)spool.Append("stream", bytes, [&, i](const auto& result) {
          if (!result || write(pipe_ends[1], &i, sizeof i) != sizeof i) _exit(1);
        });
        if (i % 3 != 0) spool.writer.RunOne();
        if (i % 7 == 0) spool.clock.RunUntilIdle();
      }
    }
    close(pipe_ends[1]);
    uint32_t i = 0;
    while (acked.size() < from + 50 + static_cast<size_t>(round) * 37) {
      ASSERT_EQ(read(pipe_ends[0], &i, sizeof i), static_cast<ssize_t>(sizeof i));
      acked.push_back(std::to_string(round) + "/" + std::to_string(i) + "/" +
                      std::string(i * 7919 % 20'000, 'x'));
    }
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    // What was answered between the last look and the kill.
    while (read(pipe_ends[0], &i, sizeof i) == static_cast<ssize_t>(sizeof i))
      acked.push_back(std::to_string(round) + "/" + std::to_string(i) + "/" +
                      std::string(i * 7919 % 20'000, 'x'));
    close(pipe_ends[0]);

    TestSpool spool(directory.path());
    ASSERT_TRUE(spool.Open());
    const std::vector<std::string> found = spool.ReadAll("stream");
    ASSERT_GE(found.size(), acked.size());
    for (size_t k = 0; k < acked.size(); ++k) ASSERT_TRUE(found[k] == acked[k]) << k;
    EXPECT_EQ(spool.Get("count/0"), std::to_string(found.size()));
    EXPECT_EQ(spool.owner.seen[0], static_cast<int64_t>(found.size()));
    acked = found;  // Commits that were durable and not yet answered are there, too.
  }
}

class ModelTest : public testing::TestWithParam<uint64_t> {};

TEST_P(ModelTest, RandomOperationsAgreeWithTheModel) {
  SCOPED_TRACE("seed " + std::to_string(GetParam()));
  struct ModelStream {
    std::vector<std::pair<int64_t, std::string>> entries;  // (end offset, bytes)
    int64_t start = 0;
  };
  std::map<std::string, ModelStream> model;
  std::map<std::string, std::string> state;
  base::Random random(GetParam());
  TemporaryDirectory directory;
  TestSpool spool(directory.path());
  ASSERT_TRUE(spool.Open());

  const auto append = [&](const std::string& name) {
    const auto records = static_cast<uint32_t>(1 + random.Below(5));
    std::string bytes(1 + (random.Below(10) == 0 ? random.Below(120'000) : random.Below(2000)),
                      static_cast<char>('a' + random.Below(26)));
    ModelStream& stream = model[name];
    const int64_t end = (stream.entries.empty() ? 0 : stream.entries.back().first) + records;
    stream.entries.emplace_back(end, bytes);
    ASSERT_TRUE(spool.Append(
        name, bytes, [](const auto& result) { ASSERT_TRUE(result); }, records));
  };
  const auto trim = [&](const std::string& name) {
    ModelStream& stream = model[name];
    if (stream.entries.empty()) return;
    const auto to =
        static_cast<int64_t>(random.Below(static_cast<uint64_t>(stream.entries.back().first) + 1));
    stream.start = std::max(stream.start, to);
    (void)spool.Submit(0, [=](Transaction& t) { t.Trim(t.OpenStream(name), to); });
  };
  const auto put = [&] {
    const std::string key = "k/" + std::to_string(random.Below(50));
    if (random.Below(3) == 0) {
      state.erase(key);
      (void)spool.Submit(0, [=](Transaction& t) { t.Erase(key); });
    } else {
      const std::string value(random.Below(300), 'v');
      state[key] = value;
      (void)spool.Submit(0, [=](Transaction& t) { t.Put(key, value); });
    }
  };
  const auto check = [&] {
    spool.clock.RunUntilIdle();
    for (const auto& [name, stream] : model) {
      if (stream.entries.empty()) continue;
      std::vector<std::string> expected;
      for (const auto& [end, bytes] : stream.entries)
        if (end > stream.start) expected.push_back(bytes);
      ASSERT_TRUE(spool.ReadAll(name) == expected) << name;
      EXPECT_EQ(spool.spool->Range(*spool.spool->FindStream(name)).start, stream.start);
    }
    for (int k = 0; k < 50; ++k) {
      const std::string key = "k/" + std::to_string(k);
      const auto found = state.find(key);
      EXPECT_EQ(spool.Get(key), found == state.end() ? std::nullopt : std::optional(found->second));
    }
  };

  for (int step = 0; step < 600 && !HasFatalFailure(); ++step) {
    const std::string name = "s" + std::to_string(random.Below(6));
    switch (random.Below(12)) {
      case 0:
        trim(name);
        break;
      case 1:
      case 2:
        put();
        break;
      case 3:
        spool.background.RunOne();
        break;
      case 4:
      case 5:
        spool.writer.RunOne();
        break;
      case 6:
        if (random.Below(12) == 0) check();
        break;
      case 7:
        if (random.Below(20) == 0) spool.Reopen();
        break;
      default:
        append(name);
    }
  }
  check();
  spool.Reopen();
  check();
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelTest, testing::Range<uint64_t>(1, 13));

}  // namespace
}  // namespace holdfast::spool
