#include "net/socket.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>

namespace holdfast::net {
namespace {

std::string CongestionControlOf(const Socket& socket) {
  std::array<char, 16> name{};
  socklen_t size = name.size();
  EXPECT_EQ(getsockopt(socket.fd(), IPPROTO_TCP, TCP_CONGESTION, name.data(), &size), 0);
  return name.data();
}

TEST(SocketTest, NothingIsPacedOnTheLoopbackInterface) {
  const auto listener = Socket::Listen({"127.0.0.1", 0}, {});
  ASSERT_TRUE(listener) << listener.error().message;
  const auto connected = Socket::Connect(listener->LocalAddress(), {});
  ASSERT_TRUE(connected) << connected.error().message;
  EXPECT_EQ(CongestionControlOf(*connected), "reno");

  Socket elsewhere(socket(AF_INET, SOCK_STREAM, 0));
  const std::string chosen_by_the_host = CongestionControlOf(elsewhere);
  const auto far = SocketAddress::FromIp("192.0.2.1", 9092);
  ASSERT_TRUE(far);
  elsewhere.SetOptions(*far);
  EXPECT_EQ(CongestionControlOf(elsewhere), chosen_by_the_host);
}

int UserTimeoutOf(const Socket& socket) {
  int ms = -1;
  socklen_t size = sizeof(ms);
  EXPECT_EQ(getsockopt(socket.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &size), 0);
  return ms;
}

// It counts the time for which a peer does not read.
TEST(SocketTest, OnlyTheTierHasTheKernelsTimeoutForWhatIsNotAcknowledged) {
  Socket accepted(socket(AF_INET, SOCK_STREAM, 0));
  accepted.SetOptions(*SocketAddress::FromIp("192.0.2.1", 9092));
  EXPECT_EQ(UserTimeoutOf(accepted), 0);

  const auto listener = Socket::Listen({"127.0.0.1", 0}, {});
  ASSERT_TRUE(listener) << listener.error().message;
  const auto connected = Socket::Connect(listener->LocalAddress(), {});
  ASSERT_TRUE(connected) << connected.error().message;
  EXPECT_EQ(UserTimeoutOf(*connected), 30'000);
}

}  // namespace
}  // namespace holdfast::net
