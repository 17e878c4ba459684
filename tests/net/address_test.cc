#include "net/address.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "net/event_loop.h"

namespace holdfast::net {
namespace {

using ::testing::HasSubstr;

TEST(HostPortTest, ParsesNamesAndBothKindsOfAddresses) {
  struct Case {
    const char* text;
    const char* host;
    int port;
  };
  for (const Case& expected :
       {Case{"broker-1.example:9092", "broker-1.example", 9092}, Case{"10.0.0.1:0", "10.0.0.1", 0},
        Case{"[::1]:65535", "::1", 65535}, Case{"localhost:1", "localhost", 1}}) {
    const auto parsed = HostPort::Parse(expected.text);
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->host, expected.host);
    EXPECT_EQ(parsed->port, expected.port);
    EXPECT_EQ(parsed->ToString(), expected.text);
  }
}

TEST(HostPortTest, AnErrorSaysWhatIsWrongWithWhichText) {
  struct Case {
    const char* text;
    const char* complaint;
  };
  for (const Case& expected :
       {Case{"localhost", "port after the host"}, Case{"", "missing"}, Case{":9092", "host before"},
        Case{"a:", "0 to 65535"}, Case{"a:65536", "0 to 65535"}, Case{"a:-1", "0 to 65535"},
        Case{"a:90x", "0 to 65535"}, Case{"::1:9092", "brackets"}, Case{"[::1", "']'"},
        Case{"[::1]9092", "port after"}, Case{"[fish]:1", "IPv6"}, Case{"http://a:1", "brackets"},
        Case{"a b:1", "blanks"}}) {
    const auto parsed = HostPort::Parse(expected.text);
    ASSERT_FALSE(parsed) << expected.text;
    EXPECT_THAT(parsed.error().message, HasSubstr("'" + std::string(expected.text) + "'"));
    EXPECT_THAT(parsed.error().message, HasSubstr(expected.complaint));
  }
}

TEST(HostPortTest, ParsesAListAndRefusesItWithOneBadEntry) {
  const auto list = HostPort::ParseList("a:1,[::1]:2,c:3");
  ASSERT_TRUE(list);
  ASSERT_EQ(list->size(), 3U);
  EXPECT_EQ((*list)[1].host, "::1");
  EXPECT_FALSE(HostPort::ParseList("a:1,,c:3"));
  EXPECT_FALSE(HostPort::ParseList(""));
}

TEST(SocketAddressTest, KnowsLoopbackInAllItsForms) {
  EXPECT_TRUE(SocketAddress::FromIp("127.0.0.1", 1)->IsLoopback());
  EXPECT_TRUE(SocketAddress::FromIp("127.1.2.3", 1)->IsLoopback());
  EXPECT_TRUE(SocketAddress::FromIp("::1", 1)->IsLoopback());
  EXPECT_TRUE(SocketAddress::FromIp("::ffff:127.0.0.1", 1)->IsLoopback());
  EXPECT_FALSE(SocketAddress::FromIp("10.0.0.1", 1)->IsLoopback());
  EXPECT_FALSE(SocketAddress::FromIp("::ffff:10.0.0.1", 1)->IsLoopback());
  EXPECT_FALSE(SocketAddress::FromIp("2001:db8::1", 1)->IsLoopback());
  EXPECT_EQ(SocketAddress::FromIp("2001:db8::1", 9092)->ToString(), "[2001:db8::1]:9092");
  EXPECT_EQ(SocketAddress::FromIp("10.0.0.1", 9092)->ToString(), "10.0.0.1:9092");
}

TEST(SocketAddressTest, OfAnIpv4AddressMappedIntoIpv6IsTheIpv4Address) {
  sockaddr_in6 mapped{};
  mapped.sin6_family = AF_INET6;
  mapped.sin6_port = htons(9092);
  ASSERT_EQ(inet_pton(AF_INET6, "::ffff:10.0.0.5", &mapped.sin6_addr), 1);
  const SocketAddress address(reinterpret_cast<const sockaddr*>(&mapped), sizeof(mapped));
  EXPECT_EQ(address.family(), AF_INET);
  EXPECT_EQ(address.size(), sizeof(sockaddr_in));
  EXPECT_EQ(address.host(), "10.0.0.5");
  EXPECT_EQ(address.port(), 9092);
  EXPECT_EQ(SocketAddress::FromIp("::ffff:10.0.0.5", 9092)->ToString(), "10.0.0.5:9092");
  EXPECT_EQ(SocketAddress::FromIp("::10.0.0.5", 9092)->family(), AF_INET6);
}

// Looks up names that the test holds up and lets go. Outlived by a resolver's threads.
class HeldNames {
 public:
  void Hold(const std::string& host) {
    const std::lock_guard lock(mutex_);
    held_.insert(host);
  }
  void Release(const std::string& host) {
    const std::lock_guard lock(mutex_);
    held_.erase(host);
    changed_.notify_all();
  }
  base::Result<std::vector<SocketAddress>> LookUp(const std::string& host) {
    std::unique_lock lock(mutex_);
    looked_up_.push_back(host);
    most_ = std::max(most_, ++running_);
    changed_.notify_all();
    changed_.wait(lock, [&] { return !held_.contains(host); });
    --running_;
    return std::vector<SocketAddress>{*SocketAddress::FromIp("10.0.0.1", 0)};
  }
  void WaitForLookUpOf(const std::string& host) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return std::ranges::count(looked_up_, host) > 0; });
  }
  std::vector<std::string> looked_up() {
    const std::lock_guard lock(mutex_);
    return looked_up_;
  }
  // At a time.
  int most() {
    const std::lock_guard lock(mutex_);
    return most_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> held_;
  std::vector<std::string> looked_up_;
  int running_ = 0;
  int most_ = 0;
};

class ResolverTest : public ::testing::Test {
 protected:
  ~ResolverTest() override {
    resolver_.reset();
    thread_->Stop();
  }

  EventLoop& loop() { return thread_->loop(); }

  std::future<std::string> Ask(const std::string& host, uint16_t port = 9092) {
    auto answered = std::make_shared<std::promise<std::string>>();
    auto answer = answered->get_future();
    questions_[host].push_back(resolver_->Resolve(
        {host, port}, loop(), [this, answered](base::Result<std::vector<SocketAddress>> found) {
          EXPECT_TRUE(loop().InLoop());
          answered->set_value(found ? found->front().ToString() : found.error().message);
        }));
    return answer;
  }
  void GoAway(const std::string& host) {
    loop().RunAndWait([&] { questions_.erase(host); });
  }

  metrics::Registry registry_;
  metrics::NetMetrics metrics_{registry_};
  std::map<std::string, std::vector<base::Timer>> questions_;
  std::unique_ptr<LoopThread> thread_ = *LoopThread::Start({.name = "test", .metrics = &metrics_});
  std::shared_ptr<HeldNames> names_ = std::make_shared<HeldNames>();
  std::unique_ptr<Resolver> resolver_ = std::make_unique<Resolver>(
      [names = names_](const HostPort& name) { return names->LookUp(name.host); });
};

TEST_F(ResolverTest, ASlowNameIsLookedUpOnceAndHoldsUpNoOther) {
  names_->Hold("slow");
  std::vector<std::future<std::string>> slow;
  for (uint16_t port = 1; port <= 6; ++port) slow.push_back(Ask("slow", port));
  EXPECT_EQ(Ask("good").get(), "10.0.0.1:9092");
  names_->Release("slow");
  for (size_t i = 0; i < slow.size(); ++i)
    EXPECT_EQ(slow[i].get(), "10.0.0.1:" + std::to_string(i + 1));
  EXPECT_THAT(names_->looked_up(), ::testing::UnorderedElementsAre("slow", "good"));
  // It is asked for anew by who comes later.
  EXPECT_EQ(Ask("slow").get(), "10.0.0.1:9092");
  EXPECT_EQ(names_->looked_up().size(), 3U);
}

TEST_F(ResolverTest, WhatNobodyWaitsForAnyMoreIsNotLookedUp) {
  const std::vector<std::string> slow = {"slow1", "slow2", "slow3", "slow4"};
  std::vector<std::future<std::string>> answers;
  for (const std::string& host : slow) {
    names_->Hold(host);
    answers.push_back(Ask(host));
    names_->WaitForLookUpOf(host);
  }
  Ask("gone");
  Ask("gone");
  auto last = Ask("last");
  GoAway("gone");
  // The one thread that is free now goes through the names in turn.
  names_->Release("slow1");
  EXPECT_EQ(last.get(), "10.0.0.1:9092");
  EXPECT_THAT(names_->looked_up(),
              ::testing::ElementsAre("slow1", "slow2", "slow3", "slow4", "last"));
  EXPECT_EQ(names_->most(), 4);
  // One may be gone while its name is looked up, and another come meanwhile.
  GoAway("slow2");
  auto again = Ask("slow2");
  for (const std::string& host : slow) names_->Release(host);
  EXPECT_EQ(again.get(), "10.0.0.1:9092");
  EXPECT_EQ(names_->looked_up().size(), 5U);
}

TEST_F(ResolverTest, WhoHasGoneAwayGetsNoAnswerThatIsOnItsWay) {
  bool answered = false;
  loop().RunAndWait([&] {
    const base::Timer gone =
        resolver_->Resolve({"10.0.0.1", 1}, loop(), [&](auto /*found*/) { answered = true; });
  });
  EXPECT_EQ(Ask("10.0.0.2").get(), "10.0.0.2:9092");  // Posted later.
  EXPECT_FALSE(answered);
}

TEST_F(ResolverTest, GoesWithoutWaitingForALookUp) {
  names_->Hold("slow");
  auto running = Ask("slow");
  names_->WaitForLookUpOf("slow");
  resolver_.reset();
  GoAway("slow");
  names_->Release("slow");
  EXPECT_THROW(running.get(), std::future_error);  // Nobody answers it any more.
}

TEST_F(ResolverTest, AsksTheSystemAndAnswersOnTheAskersLoop) {
  resolver_ = std::make_unique<Resolver>();
  for (const char* host : {"127.0.0.1", "localhost"})
    EXPECT_THAT(Ask(host).get(), ::testing::AnyOf("127.0.0.1:9092", "[::1]:9092"));
}

TEST(ResolveBlockingTest, AnUnknownNameIsAnErrorThatNamesIt) {
  const auto addresses = ResolveBlocking({"no-such-host.invalid", 1});
  ASSERT_FALSE(addresses);
  EXPECT_EQ(addresses.error().code, base::Code::kUnavailable);
  EXPECT_THAT(addresses.error().message, HasSubstr("no-such-host.invalid"));
}

}  // namespace
}  // namespace holdfast::net
