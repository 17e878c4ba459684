#include "net/event_loop.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace holdfast::net {
namespace {

using std::chrono::milliseconds;

class EventLoopTest : public ::testing::Test {
 protected:
  std::unique_ptr<EventLoop> Make(size_t mailbox_max = 100) {
    auto loop =
        EventLoop::Create({.name = "test", .metrics = &metrics_, .mailbox_max = mailbox_max});
    EXPECT_TRUE(loop);
    return *std::move(loop);
  }
  std::unique_ptr<LoopThread> Start() {
    auto thread = LoopThread::Start({.name = "test", .metrics = &metrics_});
    EXPECT_TRUE(thread);
    return *std::move(thread);
  }

  metrics::Registry registry_;
  metrics::NetMetrics metrics_{registry_};
};

TEST_F(EventLoopTest, TasksOfEachSenderRunInTheOrderOfPosting) {
  const auto thread = Start();
  constexpr int kSenders = 4;
  constexpr int kTasks = 5000;
  std::vector<std::vector<int>> seen(kSenders);
  {
    std::vector<std::jthread> senders;
    for (int sender = 0; sender < kSenders; ++sender) {
      senders.emplace_back([&, sender] {
        for (int i = 0; i < kTasks; ++i)
          thread->loop().Post([&, sender, i] { seen[static_cast<size_t>(sender)].push_back(i); });
      });
    }
  }
  thread->loop().RunAndWait([] {});
  for (const std::vector<int>& numbers : seen) {
    ASSERT_EQ(numbers.size(), static_cast<size_t>(kTasks));
    EXPECT_TRUE(std::ranges::is_sorted(numbers));
  }
}

TEST_F(EventLoopTest, TryPostRefusesOnceItsLimitWaits) {
  const auto loop = Make(2);
  int ran = 0;
  EXPECT_TRUE(loop->TryPost([&] { ++ran; }));
  EXPECT_TRUE(loop->TryPost([&] { ++ran; }));
  EXPECT_FALSE(loop->TryPost([&] { ++ran; }));
  EXPECT_EQ(metrics_.mailbox_tasks.Value(), 2);
  loop->Post([&] { loop->Stop(); });
  loop->Run();
  EXPECT_EQ(ran, 2);
  EXPECT_EQ(metrics_.mailbox_tasks.Value(), 0);
}

TEST_F(EventLoopTest, TasksQueuedBeforeStopStillRunAndLaterOnesAreDestroyedUnrun) {
  const auto loop = Make();
  bool second_ran = false;
  bool third_ran = false;
  auto token = std::make_shared<int>();
  const std::weak_ptr<int> held_by_third = token;
  loop->Post([&] { loop->Stop(); });
  loop->Post([&] {
    second_ran = true;
    loop->Post([&third_ran, token = std::move(token)] { third_ran = true; });
    EXPECT_TRUE(held_by_third.expired());
  });
  loop->Run();
  EXPECT_TRUE(second_ran);
  EXPECT_FALSE(third_ran);
  EXPECT_FALSE(loop->TryPost([] {}));
}

TEST_F(EventLoopTest, ATaskIsDestroyedOnTheLoopRightAfterItRan) {
  const auto thread = Start();
  struct Token {
    std::promise<std::thread::id>* where;
    ~Token() { where->set_value(std::this_thread::get_id()); }
  };
  std::promise<std::thread::id> where;
  auto destroyed_on = where.get_future();
  std::thread::id loop_thread;
  bool destroyed_before_next = false;
  thread->loop().Post(
      [&, token = std::make_unique<Token>(&where)] { loop_thread = std::this_thread::get_id(); });
  thread->loop().RunAndWait([&] {
    destroyed_before_next =
        destroyed_on.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  });
  EXPECT_TRUE(destroyed_before_next);
  EXPECT_EQ(destroyed_on.get(), loop_thread);
  EXPECT_NE(loop_thread, std::this_thread::get_id());
}

TEST_F(EventLoopTest, TimersRunInTheOrderOfTheirTimesAndNeverEarly) {
  const auto loop = Make();
  constexpr int kTimers = 15;
  std::vector<int> order;
  std::vector<base::Timer> timers;
  base::TimePoint start;
  // Within a turn, where time stands still: however long it takes, their order is that of the
  // delays.
  loop->Post([&] {
    start = loop->Now();
    for (int ms = kTimers; ms > 0; --ms) {
      timers.push_back(loop->After(milliseconds(ms), [&, ms] {
        EXPECT_GE(loop->Now() - start, milliseconds(ms));
        order.push_back(ms);
        if (ms == kTimers) loop->Stop();
      }));
    }
  });
  loop->Run();
  EXPECT_EQ(order.size(), static_cast<size_t>(kTimers));
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST_F(EventLoopTest, ACancelledTimerNeverRunsAndItsTaskIsDestroyedAtOnce) {
  const auto loop = Make();
  auto token = std::make_shared<int>();
  const std::weak_ptr<int> held = token;
  auto cancelled =
      loop->After(milliseconds(1), [token = std::move(token)] { FAIL() << "it was cancelled"; });
  cancelled.Cancel();
  EXPECT_TRUE(held.expired());
  {
    const auto dropped = loop->After(milliseconds(1), [] { FAIL() << "it was dropped"; });
  }
  const auto end = loop->After(milliseconds(4), [&] { loop->Stop(); });
  loop->Run();
}

TEST_F(EventLoopTest, ATimersTaskMayReplaceOrDestroyTheTimer) {
  const auto loop = Make();
  int runs = 0;
  base::Timer timer;
  base::UniqueFunction<void()> arm = [&] {
    timer = loop->After(milliseconds(0), [&] {
      if (++runs < 3) {
        arm();
      } else {
        timer = base::Timer();
        loop->Stop();
      }
    });
  };
  arm();
  loop->Run();
  EXPECT_EQ(runs, 3);
}

TEST_F(EventLoopTest, ATimerMayOutliveItsLoop) {
  auto loop = Make();
  auto token = std::make_shared<int>();
  const std::weak_ptr<int> held = token;
  const auto timer = loop->After(milliseconds(1), [token = std::move(token)] {});
  loop.reset();
  EXPECT_TRUE(held.expired());
}

TEST_F(EventLoopTest, TimeStandsStillWithinATurn) {
  const auto loop = Make();
  loop->Post([&] {
    const base::TimePoint now = loop->Now();
    while (std::chrono::steady_clock::now() == now) {
    }
    EXPECT_EQ(loop->Now(), now);
    loop->Post([&, now] {
      EXPECT_GT(loop->Now(), now);
      loop->Stop();
    });
  });
  loop->Run();
}

TEST_F(EventLoopTest, WhatIsAskedForAtTurnEndRunsBeforeLaterTasks) {
  const auto loop = Make();
  std::vector<int> order;
  loop->Post([&] {
    loop->AtTurnEnd([&] {
      order.push_back(2);
      loop->AtTurnEnd([&] { order.push_back(3); });
    });
    loop->Post([&] {
      order.push_back(4);
      loop->Stop();
    });
    order.push_back(1);
  });
  loop->Run();
  EXPECT_EQ(order, (std::vector{1, 2, 3, 4}));
}

TEST_F(EventLoopTest, RunAndWaitWorksFromOutsideFromInsideAndAfterTheEnd) {
  const auto thread = Start();
  int ran = 0;
  thread->loop().RunAndWait([&] {
    EXPECT_TRUE(thread->loop().InLoop());
    ++ran;
    thread->loop().RunAndWait([&] { ++ran; });
  });
  EXPECT_EQ(ran, 2);
  EXPECT_FALSE(thread->loop().InLoop());
  thread->Stop();
  thread->loop().RunAndWait([&] {
    EXPECT_TRUE(thread->loop().InLoop());
    thread->loop().AtTurnEnd([&] { ++ran; });
  });
  EXPECT_EQ(ran, 3);
}

TEST_F(EventLoopTest, ABatchWakesTheLoopAtItsEnd) {
  const auto thread = Start();
  std::promise<int> ran;
  int tasks = 0;
  {
    const base::WakeBatch batch;
    for (int i = 0; i < 3; ++i) thread->loop().Post([&] { ++tasks; });
    thread->loop().Post([&] { ran.set_value(tasks); });
  }
  EXPECT_EQ(ran.get_future().get(), 3);
}

TEST_F(EventLoopTest, RunAndWaitDoesNotWaitForTheEndOfABatch) {
  const auto thread = Start();
  const base::WakeBatch batch;
  bool ran = false;
  thread->loop().RunAndWait([&] { ran = true; });
  EXPECT_TRUE(ran);
}

TEST_F(EventLoopTest, ASignalRunsItsTaskEachTimeUntilItIsUnwatched) {
  const auto loop = Make();
  int signals = 0;
  base::Timer watch;
  watch = loop->OnSignal(SIGUSR1, [&] {
    if (++signals < 2) {
      raise(SIGUSR1);
    } else {
      watch.Cancel();
      loop->Stop();
    }
  });
  loop->Post([] { raise(SIGUSR1); });
  loop->Run();
  EXPECT_EQ(signals, 2);
}

TEST_F(EventLoopTest, WhatCanBeReadRunsItsTaskUntilItIsUnwatched) {
  const auto loop = Make();
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  std::string read_so_far;
  base::Timer watch;
  watch = loop->OnReadable(ends[0], [&] {
    char c = 0;
    if (read(ends[0], &c, 1) == 1) {
      read_so_far.push_back(c);
      return;
    }
    watch.Cancel();  // The other end is closed.
    loop->Stop();
  });
  loop->Post([&] {
    ASSERT_EQ(write(ends[1], "ab", 2), 2);
    close(ends[1]);
  });
  loop->Run();
  EXPECT_EQ(read_so_far, "ab");
  close(ends[0]);
}

TEST_F(EventLoopTest, SlowTurnsAreCountedAndTheLongestIsShown) {
  const auto loop = Make();
  loop->Post([&] {
    const auto until = std::chrono::steady_clock::now() + milliseconds(51);
    while (std::chrono::steady_clock::now() < until) {
    }
    loop->Stop();
  });
  loop->Run();
  EXPECT_EQ(metrics_.slow_loop_turns.Value(), 1U);
  EXPECT_GE(metrics_.loop_turn_seconds_max.Value(), 0.051);
}

}  // namespace
}  // namespace holdfast::net
