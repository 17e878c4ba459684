#include "net/pipe.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/net/no_descriptors.h"
#include "tests/support/noise.h"

namespace holdfast::net {
namespace {

using Kind = IoOutcome::Kind;

// Two ends that do not block.
class Pair {
 public:
  Pair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends_), 0); }
  ~Pair() {
    close(ends_[0]);
    Hang();
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  [[nodiscard]] int fd() const { return ends_[0]; }
  void Put(std::string_view bytes) {
    ASSERT_EQ(send(ends_[1], bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  std::string Get() {
    std::string bytes(1 << 20, '\0');
    const ssize_t got = recv(ends_[1], bytes.data(), bytes.size(), 0);
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return bytes;
  }
  void Hang() {
    if (ends_[1] >= 0) close(std::exchange(ends_[1], -1));
  }

 private:
  int ends_[2];
};

class PipeTest : public ::testing::Test {
 protected:
  PipePool pool_;
  Pair from_;
  Pair to_;
};

TEST_F(PipeTest, BytesLeaveInTheOrderInWhichTheyCame) {
  const std::shared_ptr<Pipe> pipe = pool_.Take();
  ASSERT_NE(pipe, nullptr);
  EXPECT_EQ(pipe->Fill(from_.fd(), 100).kind, Kind::kBlocked);
  from_.Put("one two three");
  EXPECT_EQ(pipe->Fill(from_.fd(), 4).bytes, 4U);
  EXPECT_EQ(pipe->Fill(from_.fd(), 100).bytes, 9U);
  EXPECT_EQ(pipe->bytes(), 13U);
  EXPECT_EQ(pipe->room(), Pipe::kBytes - 13);
  EXPECT_EQ(pipe->Drain(to_.fd(), 7, /*more_follow=*/true).bytes, 7U);
  EXPECT_EQ(to_.Get(), "one two");
  EXPECT_EQ(pipe->Drain(to_.fd(), 6, /*more_follow=*/false).bytes, 6U);
  EXPECT_EQ(to_.Get(), " three");
  EXPECT_EQ(pipe->bytes(), 0U);
}

TEST_F(PipeTest, TakesNoMoreThanItHolds) {
  const std::shared_ptr<Pipe> pipe = pool_.Take();
  ASSERT_NE(pipe, nullptr);
  const std::string noise = test::Noise(Pipe::kBytes + 1000);
  std::string left = noise;
  while (pipe->room() > 0) {
    const size_t bytes = std::min<size_t>(left.size(), 4096);
    from_.Put(left.substr(0, bytes));
    left.erase(0, bytes);
    const IoOutcome filled = pipe->Fill(from_.fd(), left.size() + bytes);
    if (filled.kind == Kind::kBlocked) break;  // The kernel counts pages.
    ASSERT_EQ(filled.kind, Kind::kDone);
  }
  EXPECT_LE(pipe->bytes(), Pipe::kBytes);
  std::string got;
  while (pipe->bytes() > 0) {
    const IoOutcome drained = pipe->Drain(to_.fd(), pipe->bytes(), false);
    ASSERT_EQ(drained.kind, Kind::kDone);
    got += to_.Get();
  }
  EXPECT_TRUE(got == noise.substr(0, got.size()));
}

TEST_F(PipeTest, TellsOfEndsAndOfSlowPeers) {
  const std::shared_ptr<Pipe> pipe = pool_.Take();
  ASSERT_NE(pipe, nullptr);
  from_.Put("last words");
  ASSERT_EQ(pipe->Fill(from_.fd(), 100).bytes, 10U);
  from_.Hang();
  EXPECT_EQ(pipe->Fill(from_.fd(), 100).kind, Kind::kEnd);
  const std::string filler(4096, 'x');
  while (send(to_.fd(), filler.data(), filler.size(), 0) > 0) {
  }
  EXPECT_EQ(pipe->Drain(to_.fd(), 10, false).kind, Kind::kBlocked);
  EXPECT_EQ(pipe->bytes(), 10U);
  while (!to_.Get().empty()) {
  }
  EXPECT_EQ(pipe->Drain(to_.fd(), 10, false).bytes, 10U);
  EXPECT_EQ(to_.Get(), "last words");
}

TEST_F(PipeTest, OnlyAnEmptyPipeIsTakenAgain) {
  std::shared_ptr<Pipe> pipe = pool_.Take();
  ASSERT_NE(pipe, nullptr);
  from_.Put("left over");
  ASSERT_EQ(pipe->Fill(from_.fd(), 100).bytes, 9U);
  Piped part{.pipe = pipe, .bytes = 9};
  pipe.reset();
  part.pipe.reset();
  EXPECT_EQ(pool_.idle(), 0U);

  pipe = pool_.Take();
  ASSERT_NE(pipe, nullptr);
  EXPECT_EQ(pipe->bytes(), 0U);
  from_.Put("clean");
  ASSERT_EQ(pipe->Fill(from_.fd(), 100).bytes, 5U);
  ASSERT_EQ(pipe->Drain(to_.fd(), 5, false).bytes, 5U);
  EXPECT_EQ(to_.Get(), "clean");
  pipe.reset();
  EXPECT_EQ(pool_.idle(), 1U);
  pipe = pool_.Take();
  EXPECT_EQ(pool_.idle(), 0U);
}

TEST_F(PipeTest, APoolHasSoManyAndNoMore) {
  std::vector<std::shared_ptr<Pipe>> taken;
  for (size_t i = 0; i < PipePool::kOpenMax; ++i) taken.push_back(pool_.Take());
  EXPECT_NE(taken.back(), nullptr);
  EXPECT_EQ(pool_.Take(), nullptr);
  from_.Put("left over");
  ASSERT_EQ(taken[0]->Fill(from_.fd(), 100).bytes, 9U);
  taken[0].reset();  // Closed.
  taken[0] = pool_.Take();
  EXPECT_NE(taken[0], nullptr);
  taken[1].reset();  // Idle.
  EXPECT_NE(pool_.Take(), nullptr);
}

TEST_F(PipeTest, WithoutDescriptorsThereIsNone) {
  std::optional<NoDescriptors> none(std::in_place);
  const std::shared_ptr<Pipe> pipe = pool_.Take();
  none.reset();
  EXPECT_EQ(pipe, nullptr);
  EXPECT_NE(pool_.Take(), nullptr);
}

}  // namespace
}  // namespace holdfast::net
