#include "agent/outbox/outboxes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
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
  bool gives_up = false;
  bool closed = false;
};

class LockedSource final : public Source {
 public:
  explicit LockedSource(Lock& lock) : lock_(lock) {}

  base::Result<void> Open() override { return {}; }
  base::Result<std::vector<Row>> Read(size_t /*limit*/, std::span<const std::string> /*held*/,
                                      std::span<const RowId> /*stuck*/) override {
    lock_.wanted.set_value();
    lock_.given.get_future().wait();
    return std::vector<Row>();
  }
  base::Result<std::vector<RowId>> Find(std::span<const int64_t> /*positions*/) override {
    return std::vector<RowId>();
  }
  base::Result<Refusal> Remove(std::span<const RowId> /*spooled*/,
                               std::span<const Poison> /*poison*/) override {
    return Refusal();
  }
  base::Result<Lag> Measure() override { return Lag(); }
  base::Result<Sight> Look() override { return Sight(); }
  void Close(bool /*clean*/) override { lock_.closed = true; }
  void GiveUp() override {
    if (lock_.gives_up) lock_.given.set_value();
  }

 private:
  Lock& lock_;
};

// One whose source waits for the lock while it reads, and one without trouble.
class OutboxesTest : public testing::Test {
 protected:
  OutboxesTest() {
    for (const char* name : {"locked", "free"}) {
      auto thread = net::LoopThread::Start({.name = name});
      HF_CHECK(thread);
      threads_.push_back(*std::move(thread));
    }
    const std::vector<OutboxOptions> options{
        {.drain = {.name = "locked", .poll_min = 1h, .busy_after = 0s},
         .router = {.topic = "t"},
         .make_source =
             [this](const Source::Taker&) { return std::make_unique<LockedSource>(lock_); }},
        {.drain = {.name = "free"},
         .router = {.topic = "t"},
         .make_source = [this](const Source::Taker&) {
           return std::make_unique<test::TableSource>(table_);
         }}};
    auto outboxes = Outboxes::Make(
        {.cache = cache_,
         .append = [](const agent::NotedAppend&, const agent::RecordLog::NotedDone&) {},
         .want_topic = [](const std::string&) {},
         .want_settings = [](const std::string&) {},
         .spool = "one",
         .undelivered = [](std::vector<agent::StreamEnd> ends) { return ends; }},
        options, {&threads_[0]->loop(), &threads_[1]->loop()}, registry_, {});
    HF_CHECK(outboxes);
    outboxes_ = *std::move(outboxes);
    outboxes_->Start();
    lock_.wanted.get_future().wait();
  }

  Lock lock_;
  test::Table table_;
  metrics::Registry registry_;
  proxy::MetadataCache cache_{{}};
  std::vector<std::unique_ptr<net::LoopThread>> threads_;
  std::unique_ptr<Outboxes> outboxes_;
};

TEST_F(OutboxesTest, ASourceThatBlocksHoldsUpNothingElse) {
  const std::vector<Outboxes::Status> status = outboxes_->GetStatus();
  EXPECT_THAT(status[0].drain.trouble, HasSubstr("a write transaction"));
  EXPECT_EQ(status[1].drain.trouble, "");

  std::vector<std::future<void>> paused;
  outboxes_->Pause(paused);
  ASSERT_EQ(paused.size(), 2U);
  EXPECT_EQ(paused[1].wait_for(1min), std::future_status::ready);
  EXPECT_EQ(paused[0].wait_for(0s), std::future_status::timeout);
  outboxes_->Close(/*handed_over=*/true, steady_clock::now());
  outboxes_->Close(/*handed_over=*/false, steady_clock::now() + 1h);
  EXPECT_TRUE(outboxes_->Blocked());

  lock_.given.set_value();
  paused[0].wait();
  outboxes_.reset();
  EXPECT_TRUE(lock_.closed);
  EXPECT_TRUE(table_.clean);
}

// A route is whatever a service writes there.
TEST_F(OutboxesTest, ThePageIsThereWhateverBytesARouteHas) {
  threads_[1]->loop().RunAndWait([this] {
    table_.rows[1] = {.position = 1, .id = "1", .route = "\xff", .key = "k", .payload = "p"};
  });
  for (const auto end = steady_clock::now() + 1min; steady_clock::now() < end;
       std::this_thread::sleep_for(1ms)) {
    if (!outboxes_->GetStatus()[1].drain.held.empty()) break;
  }
  const std::vector<net::AdminRoute> routes = outboxes_->Routes();
  const auto page = std::ranges::find(routes, "/outbox", &net::AdminRoute::path);
  ASSERT_NE(page, routes.end());
  EXPECT_THAT(page->handler({}).body,
              HasSubstr("\"waiting_for_topics_of\": [\n        \"\xef\xbf\xbd\"\n"));
  lock_.given.set_value();
}

TEST_F(OutboxesTest, ASourceThatBlocksIsToldToGiveUp) {
  lock_.gives_up = true;
  std::vector<std::future<void>> paused;
  outboxes_->Pause(paused);
  outboxes_->Close(/*handed_over=*/true, steady_clock::now());
  outboxes_.reset();
  EXPECT_TRUE(lock_.closed);
}

}  // namespace
}  // namespace holdfast::outbox
