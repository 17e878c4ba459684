#include "agent/outbox/outboxes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "metrics/registry.h"
#include "net/event_loop.h"
#include "tests/agent/table_source.h"

namespace holdfast::outbox {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

// As an LMDB environment whose service holds a write transaction.
struct Lock {
  std::promise<void> wanted;
  std::promise<void> given;
  bool closed = false;
};

class LockedSource final : public Source {
 public:
  explicit LockedSource(Lock& lock) : lock_(lock) {}

  base::Result<void> Open() override { return {}; }
  base::Result<std::vector<Row>> Read(size_t /*limit*/,
                                      std::span<const std::string> /*held*/) override {
    lock_.wanted.set_value();
    lock_.given.get_future().wait();
    return std::vector<Row>();
  }
  base::Result<std::vector<RowId>> Find(std::span<const int64_t> /*positions*/) override {
    return std::vector<RowId>();
  }
  base::Result<void> Remove(std::span<const RowId> /*spooled*/,
                            std::span<const Poison> /*poison*/) override {
    return {};
  }
  base::Result<Lag> Measure() override { return Lag(); }
  base::Result<Sight> Look() override { return Sight(); }
  void Close(bool /*clean*/) override { lock_.closed = true; }

 private:
  Lock& lock_;
};

TEST(Outboxes, ASourceThatBlocksHoldsUpNothingElse) {
  Lock lock;
  test::Table table;
  metrics::Registry registry;
  proxy::MetadataCache cache{{}};
  std::vector<std::unique_ptr<net::LoopThread>> threads;
  std::vector<net::EventLoop*> loops;
  for (const char* name : {"locked", "free"}) {
    auto thread = net::LoopThread::Start({.name = name});
    ASSERT_TRUE(thread) << thread.error().message;
    threads.push_back(*std::move(thread));
    loops.push_back(&threads.back()->loop());
  }
  const std::vector<OutboxOptions> options{
      {.drain = {.name = "locked", .poll_min = 1h, .busy_after = 0s},
       .router = {.topic = "t"},
       .make_source =
           [&lock](const Source::Taker&) { return std::make_unique<LockedSource>(lock); }},
      {.drain = {.name = "free"},
       .router = {.topic = "t"},
       .make_source = [&table](const Source::Taker&) {
         return std::make_unique<test::TableSource>(table);
       }}};
  auto outboxes = Outboxes::Make(
      {.cache = cache,
       .append = [](const agent::NotedAppend&, const agent::RecordLog::NotedDone&) {},
       .want_topic = [](const std::string&) {},
       .want_settings = [](const std::string&) {},
       .spool = "one",
       .undelivered = [](std::vector<agent::StreamEnd> ends) { return ends; }},
      options, loops, registry, {});
  ASSERT_TRUE(outboxes) << outboxes.error().message;
  (*outboxes)->Start();
  lock.wanted.get_future().wait();
  std::vector<Outboxes::Status> status = (*outboxes)->GetStatus();
  EXPECT_THAT(status[0].drain.trouble, HasSubstr("a write transaction"));
  EXPECT_EQ(status[1].drain.trouble, "");

  std::vector<std::future<void>> paused;
  (*outboxes)->Pause(paused);
  ASSERT_EQ(paused.size(), 2U);
  EXPECT_EQ(paused[1].wait_for(1min), std::future_status::ready);
  EXPECT_EQ(paused[0].wait_for(0s), std::future_status::timeout);
  (*outboxes)->Close(/*handed_over=*/true, steady_clock::now());
  (*outboxes)->Close(/*handed_over=*/false, steady_clock::now() + 1h);
  EXPECT_TRUE((*outboxes)->Blocked());

  lock.given.set_value();
  paused[0].wait();
  outboxes->reset();
  EXPECT_TRUE(lock.closed);
  EXPECT_TRUE(table.clean);
}

}  // namespace
}  // namespace holdfast::outbox
