#include "net/address.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <future>

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

TEST(ResolverTest, AnswersOnTheAskersLoop) {
  metrics::Registry registry;
  metrics::NetMetrics metrics(registry);
  const auto thread = *LoopThread::Start({.name = "test", .metrics = &metrics});
  Resolver resolver;
  for (const char* host : {"127.0.0.1", "localhost"}) {
    std::promise<std::string> first;
    resolver.Resolve({host, 9092}, thread->loop(), [&](auto addresses) {
      EXPECT_TRUE(thread->loop().InLoop());
      first.set_value(addresses ? addresses->front().ToString() : addresses.error().message);
    });
    EXPECT_THAT(first.get_future().get(), ::testing::AnyOf("127.0.0.1:9092", "[::1]:9092"));
  }
}

TEST(ResolverTest, AnUnknownNameIsAnErrorThatNamesIt) {
  const auto addresses = ResolveBlocking({"no-such-host.invalid", 1});
  ASSERT_FALSE(addresses);
  EXPECT_EQ(addresses.error().code, base::Code::kUnavailable);
  EXPECT_THAT(addresses.error().message, HasSubstr("no-such-host.invalid"));
}

}  // namespace
}  // namespace holdfast::net
