#include "net/output_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "base/random.h"

namespace holdfast::net {
namespace {

std::string Peeked(OutputQueue& queue, size_t elements) {
  std::array<iovec, 64> pieces;
  const size_t count = queue.Peek(std::span(pieces).first(elements));
  std::string bytes;
  for (size_t i = 0; i < count; ++i)
    bytes.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
  return bytes;
}

TEST(OutputQueueTest, ABodyGoesOutWithItsLengthBeforeIt) {
  OutputQueue queue;
  queue.PushBody(base::Buffer::Copy("abc"));
  EXPECT_EQ(queue.bytes(), 7U);
  EXPECT_EQ(Peeked(queue, 2), std::string("\0\0\0\3abc", 7));
  queue.PushBody(base::Buffer());
  queue.Pop(7);
  EXPECT_EQ(Peeked(queue, 2), std::string("\0\0\0\0", 4));
}

TEST(OutputQueueTest, BytesLeaveInOrderHoweverTheyAreTaken) {
  base::Random random(7);
  for (int round = 0; round < 200; ++round) {
    OutputQueue queue;
    std::string expected;
    std::string sent;
    for (int i = 0; i < 200; ++i) {
      const std::string bytes(random.Below(5), static_cast<char>('a' + random.Below(26)));
      if (random.Below(2) == 0) {
        queue.Push(base::Buffer::Copy(bytes));
      } else {
        queue.PushBody(base::Buffer::Copy(bytes));
        expected += std::string(3, '\0') + static_cast<char>(bytes.size());
      }
      expected += bytes;
      const std::string front = Peeked(queue, 2 + random.Below(10));
      const size_t taken = random.Below(front.size() + 1);
      sent += front.substr(0, taken);
      queue.Pop(taken);
    }
    while (!queue.empty()) {
      const std::string front = Peeked(queue, 64);
      ASSERT_FALSE(front.empty());
      sent += front;
      queue.Pop(front.size());
    }
    ASSERT_EQ(sent, expected);
  }
}

TEST(OutputQueueTest, WhatIsBorrowedIsCopiedWhenItHasToWait) {
  OutputQueue queue;
  auto owner = std::make_shared<std::string>("lent bytes");
  queue.Push(base::Buffer::Copy("own "));
  queue.Push(base::Buffer::Borrow(*owner, owner));
  queue.Push(base::Buffer::Copy(" own"));
  EXPECT_EQ(Peeked(queue, 8), "own lent bytes own");
  queue.Pop(6);
  EXPECT_EQ(owner.use_count(), 2);
  queue.Own();
  EXPECT_EQ(owner.use_count(), 1) << "the owner is let go";
  owner.reset();
  EXPECT_EQ(Peeked(queue, 8), "nt bytes own");
}

TEST(OutputQueueTest, WhatIsSharedMayWait) {
  OutputQueue queue;
  const auto owner = std::make_shared<std::string>("shared");
  queue.Push(base::Buffer::Share(*owner, owner));
  queue.Own();
  EXPECT_EQ(owner.use_count(), 2);
  EXPECT_EQ(Peeked(queue, 8), "shared");
  queue.Pop(6);
  EXPECT_EQ(owner.use_count(), 1);
}

TEST(OutputQueueTest, WhatLiesInAPipeKeepsItsPlace) {
  OutputQueue queue;
  PipePool pool;
  const std::shared_ptr<Pipe> pipe = pool.Take();
  ASSERT_NE(pipe, nullptr);
  queue.Push(base::Buffer::Copy("before"));
  queue.Push(Piped{.pipe = pipe, .bytes = 5});
  queue.Push(Piped{.pipe = pipe, .bytes = 2});
  queue.Push(base::Buffer::Copy("behind"));
  EXPECT_EQ(queue.bytes(), 19U);
  EXPECT_EQ(Peeked(queue, 8), "before");
  EXPECT_EQ(queue.PeekPiped().pipe, nullptr);
  queue.Pop(6);
  EXPECT_EQ(queue.PeekPiped().pipe, pipe);
  EXPECT_EQ(queue.PeekPiped().bytes, 5U);
  queue.Own();
  queue.Pop(3);
  EXPECT_EQ(queue.PeekPiped().bytes, 2U);
  EXPECT_EQ(pipe.use_count(), 3);
  queue.Pop(2);
  EXPECT_EQ(pipe.use_count(), 2);
  EXPECT_EQ(queue.PeekPiped().bytes, 2U);
  queue.Pop(2);
  EXPECT_EQ(pipe.use_count(), 1);
  EXPECT_EQ(queue.PeekPiped().pipe, nullptr);
  EXPECT_EQ(Peeked(queue, 8), "behind");
  queue.Push(Piped{.pipe = pipe, .bytes = 2});
  queue.Clear();
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(pipe.use_count(), 1);
}

TEST(OutputQueueTest, TheOwnerOfWhatHasLeftIsLetGo) {
  OutputQueue queue;
  const auto owner = std::make_shared<std::string>("lent");
  queue.Push(base::Buffer::Borrow(*owner, owner));
  queue.Pop(4);
  EXPECT_EQ(owner.use_count(), 1);
}

}  // namespace
}  // namespace holdfast::net
