#include "agent/listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <future>
#include <map>
#include <numeric>

#include "agent/forward_state.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/record_batch_builder.h"
#include "net/socket.h"
#include "tests/net/loopback.h"

namespace holdfast::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

// Keeps what the newest request asked for.
class AskedSink final : public proxy::RecordSink {
 public:
  void Append(std::unique_ptr<proxy::SinkRequest> request) override {
    acks = request->acks;
    proxy::SinkRequest& target = *request;
    target.Complete(std::move(request));
  }
  void NewProducerId(ProducerIdDone done) override { done(int64_t{1}); }
  std::atomic<proxy::Acks> acks = proxy::Acks::kLocal;
};

// Of the network of the calling thread.
void SetLoopbackUp() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  EXPECT_EQ(ioctl(fd, SIOCGIFFLAGS, &request), 0);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  EXPECT_EQ(ioctl(fd, SIOCSIFFLAGS, &request), 0);
  close(fd);
}

class ListenerTest : public net::LoopbackTest {
 protected:
  // A tier that was seen, and is away: what clients ask is answered here.
  ListenerTest() {
    kafka::MetadataResponse metadata;
    metadata.cluster_id = "tier";
    for (const int32_t node : {1, 2})
      metadata.brokers.push_back({.node_id = node, .host = "tier.test", .port = 9092});
    auto& topic = metadata.topics.emplace_back();
    topic.name = "t";
    topic.partitions.push_back({.partition_index = 0, .leader_id = 2});
    cache_.Learn(metadata, 1);
    cache_.SetTierAway(true);
  }
  ~ListenerTest() override {
    for (auto& [name, listener] : listeners_) listener->Close();
  }

  Listener& Make(const std::string& name, proxy::Acks acks,
                 std::vector<net::HostPort> addresses = {{"127.0.0.1", 0}},
                 std::string advertised_host = "") {
    auto& listener = listeners_[name];
    listener = std::make_unique<Listener>(
        Listener::Context{
            .upstream = first_->loop(),
            .workers = {&second_->loop()},
            .memory = budget_,
            .resolver = resolver_,
            .cache = cache_,
            .sink = sink_,
            .refresh_topic = [](const std::string&) {},
            .want_settings = [](const std::string&) {},
            .net_metrics = metrics_,
            .metrics = agent_metrics_,
            .keep = [this](std::string key, std::string ports) { kept_[key] = std::move(ports); }},
        Listener::Options{.name = name,
                          .addresses = std::move(addresses),
                          .front = {.bootstrap = {{"127.0.0.1", 1}},
                                    .advertised_host = std::move(advertised_host),
                                    .acks = acks},
                          .host_retry = std::chrono::milliseconds(1)});
    return *listener;
  }
  Listener& Open(const std::string& name, proxy::Acks acks,
                 std::vector<net::HostPort> addresses = {{"127.0.0.1", 0}}) {
    Listener& listener = Make(name, acks, std::move(addresses));
    const auto opened = listener.Open(kept_);
    EXPECT_TRUE(opened) << opened.error().message;
    listener.Accept();
    Map(listener);
    return listener;
  }
  // For the ports of brokers: a socket is of the network of the thread that makes it. In a new one
  // ::1 is not there.
  bool LoseIpv6() {
    bool lost = false;
    if (net::Socket::Listen({.host = "::1", .port = 0}, net::Socket::BufferBytes()))
      first_->loop().RunAndWait([&] { lost = unshare(CLONE_NEWNET) == 0; });
    return lost;
  }
  static void Map(Listener& listener) {
    std::promise<void> mapped;
    listener.ports().Request({1, 2}, [&] { mapped.set_value(); });
    mapped.get_future().wait();
  }
  static net::SocketAddress AddressOf(const Listener& listener, size_t index = 0) {
    const auto address = net::HostPort::Parse(listener.Addresses().at(index));
    return *net::SocketAddress::FromIp(address->host, address->port);
  }

  // The brokers, as a client of this address is told.
  std::map<int32_t, net::SocketAddress> BrokersAt(const net::SocketAddress& address) {
    net::TestPeer client(address);
    Ask(client);
    return Told(client);
  }
  static void Ask(net::TestPeer& client) {
    client.Write(kafka::EncodeRequest(kafka::MetadataRequest(), 9, 1, "test")->view());
  }
  static std::map<int32_t, net::SocketAddress> Told(net::TestPeer& client) {
    const std::string frame = client.ReadFrame();
    const auto answer = kafka::DecodeResponse<kafka::MetadataResponse>(frame, 9);
    std::map<int32_t, net::SocketAddress> brokers;
    EXPECT_TRUE(answer);
    if (!answer) return brokers;
    for (const auto& broker : answer->brokers) {
      brokers[broker.node_id] =
          *net::SocketAddress::FromIp(std::string(broker.host), static_cast<uint16_t>(broker.port));
    }
    return brokers;
  }
  std::map<int32_t, int32_t> PortsAt(const net::SocketAddress& address) {
    std::map<int32_t, int32_t> ports;
    for (const auto& [node, broker] : BrokersAt(address)) ports[node] = broker.port();
    return ports;
  }
  proxy::Acks AskedAt(const net::SocketAddress& address) {
    kafka::RecordBatchBuilder builder({});
    builder.Add({.timestamp = 1'700'000'000'000, .value = "v"});
    const std::string batch = std::move(builder).Build();
    kafka::ProduceRequest request{.acks = -1};
    request.topic_data.push_back({.name = "t", .partition_data = {{.records = batch}}});
    net::TestPeer client(address);
    client.Write(kafka::EncodeRequest(request, 9, 1, "test")->view());
    const std::string frame = client.ReadFrame();
    const auto answer = kafka::DecodeResponse<kafka::ProduceResponse>(frame, 9);
    EXPECT_TRUE(answer && answer->responses.at(0).partition_responses.at(0).error_code ==
                              kafka::ErrorCode::kNone);
    return sink_.acks;
  }

  metrics::AgentMetrics agent_metrics_{registry_};
  net::Resolver resolver_;
  proxy::MetadataCache cache_{{}};
  AskedSink sink_;
  std::map<std::string, std::string, std::less<>> kept_;  // Of the upstream loop, when it is idle.
  std::map<std::string, std::unique_ptr<Listener>> listeners_;
};

TEST_F(ListenerTest, AClientStaysWithItsListenerAndWhatThatAsksFor) {
  const net::SocketAddress plain = AddressOf(Open("", proxy::Acks::kLocal));
  const net::SocketAddress strict = AddressOf(Open("strict", proxy::Acks::kBoth));
  const auto plain_ports = PortsAt(plain);
  const auto strict_ports = PortsAt(strict);
  EXPECT_THAT(plain_ports, ElementsAre(Pair(1, plain.port()), Pair(2, testing::_)));
  EXPECT_THAT(strict_ports, ElementsAre(Pair(1, strict.port()), Pair(2, testing::_)));
  const auto beside = [](const std::map<int32_t, int32_t>& ports) {
    return *net::SocketAddress::FromIp("127.0.0.1", static_cast<uint16_t>(ports.at(2)));
  };
  EXPECT_EQ(PortsAt(beside(strict_ports)), strict_ports);
  EXPECT_EQ(PortsAt(beside(plain_ports)), plain_ports);
  EXPECT_EQ(AskedAt(strict), proxy::Acks::kBoth);
  EXPECT_EQ(AskedAt(plain), proxy::Acks::kLocal);
  EXPECT_EQ(AskedAt(beside(strict_ports)), proxy::Acks::kBoth);
  EXPECT_EQ(AskedAt(beside(plain_ports)), proxy::Acks::kLocal);
}

TEST_F(ListenerTest, ClientsOfEachAddressAreToldWhereTheyCanConnect) {
  // Two hosts, two ports of one host, and a host that a wildcard covers.
  for (const auto& [first, second] : {std::pair("127.0.0.1", "127.0.0.2"),
                                      {"127.0.0.1", "127.0.0.1"},
                                      {"0.0.0.0", "127.0.0.1"}}) {
    const Listener& listener = Open("", proxy::Acks::kLocal, {{first, 0}, {second, 0}});
    const net::SocketAddress address = AddressOf(listener, 1);
    const auto brokers = BrokersAt(address);
    ASSERT_EQ(brokers.size(), 2U);
    EXPECT_EQ(brokers.at(1).ToString(), address.ToString());
    for (const auto& [node, broker] : brokers) {
      EXPECT_EQ(broker.host(), second);
      ASSERT_TRUE(net::TestPeer(broker).connected()) << broker.ToString();
      const auto again = BrokersAt(broker);
      EXPECT_EQ(again.at(2).ToString(), brokers.at(2).ToString());
      EXPECT_TRUE(net::TestPeer(again.at(1)).connected()) << again.at(1).ToString();
    }
    listeners_.at("")->Close();
    kept_.clear();
  }
}

TEST_F(ListenerTest, AHostThatIsGoneTakesNoBrokerFromTheOthers) {
  if (!LoseIpv6()) GTEST_SKIP() << "without IPv6 or the right to have a network of one's own";
  for (const auto& [one, other] : {std::pair("0.0.0.0", "::1"), {"::1", "0.0.0.0"}}) {
    const Listener& listener = Open("", proxy::Acks::kLocal, {{one, 0}, {other, 0}});
    EXPECT_EQ(BrokersAt(AddressOf(listener, 0)).size(), 2U);
    listeners_.at("")->Close();
    kept_.clear();
  }
}

TEST_F(ListenerTest, AHostThatComesBackGetsThePortsOfTheBrokers) {
  if (!LoseIpv6()) GTEST_SKIP() << "without IPv6 or the right to have a network of one's own";
  const Listener& listener = Open("", proxy::Acks::kLocal, {{"0.0.0.0", 0}, {"::1", 0}});
  const auto port = static_cast<uint16_t>(PortsAt(AddressOf(listener)).at(2));
  const auto is_there = [&] {
    bool connected = false;
    first_->loop().RunAndWait(
        [&] { connected = net::TestPeer(*net::SocketAddress::FromIp("::1", port)).connected(); });
    return connected;
  };
  EXPECT_FALSE(is_there());
  first_->loop().RunAndWait([] { SetLoopbackUp(); });
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  bool came_back = is_there();
  while (!came_back && std::chrono::steady_clock::now() < give_up) came_back = is_there();
  EXPECT_TRUE(came_back);
}

TEST_F(ListenerTest, ABrokerGetsItsPortOnceTheListenerIsOpen) {
  Listener& listener = Make("", proxy::Acks::kLocal);
  Map(listener);
  EXPECT_FALSE(listener.ports().Snapshot()->contains(2));
  ASSERT_TRUE(listener.Open({}));
  listener.Accept();
  Map(listener);
  EXPECT_EQ(BrokersAt(AddressOf(listener)).size(), 2U);
}

TEST_F(ListenerTest, TheNewestOfManyBrokersGetsThePlaceOfOneThatHasLeft) {
  Listener& listener = Open("", proxy::Acks::kLocal);
  const auto map = [&](std::vector<int32_t> nodes) {
    std::promise<void> mapped;
    listener.ports().Request(std::move(nodes), [&] { mapped.set_value(); });
    mapped.get_future().wait();
    return *listener.ports().Snapshot();
  };
  std::vector<int32_t> others(proxy::BrokerPorts::kBrokersMax - 2);
  std::iota(others.begin(), others.end(), 3);
  const auto before = map(others);
  ASSERT_EQ(before.size(), proxy::BrokerPorts::kBrokersMax);
  const auto left = *net::SocketAddress::FromIp("127.0.0.1", before.at(3));
  net::TestPeer client(left);
  Ask(client);
  EXPECT_EQ(Told(client).size(), 2U);

  const auto after = map({100});
  EXPECT_FALSE(after.contains(3));
  EXPECT_TRUE(after.contains(2)) << "is in the tier";
  EXPECT_TRUE(client.AtEnd());
  EXPECT_FALSE(net::TestPeer(left).connected());
  const auto newest = *net::SocketAddress::FromIp("127.0.0.1", after.at(100));
  EXPECT_EQ(BrokersAt(newest).size(), 2U);
}

TEST_F(ListenerTest, WhoComesEarlyWaitsUntilThePortsThatWereKeptAreBack) {
  const auto ports = PortsAt(AddressOf(Open("", proxy::Acks::kLocal)));
  listeners_.at("")->Close();
  Listener& listener = Make("", proxy::Acks::kLocal);
  ASSERT_TRUE(listener.Open(kept_));
  const uint64_t accepted = metrics_.accepted.Value();
  // By the listener's own address and by that of the second broker.
  net::TestPeer first(AddressOf(listener));
  net::TestPeer second(
      *net::SocketAddress::FromIp("127.0.0.1", static_cast<uint16_t>(ports.at(2))));
  ASSERT_TRUE(first.connected() && second.connected());
  Ask(first);
  Ask(second);
  LetLoopsTurn();
  EXPECT_EQ(metrics_.accepted.Value(), accepted);
  listener.Accept();
  EXPECT_EQ(Told(first).at(2).port(), ports.at(2));
  EXPECT_EQ(Told(second).at(2).port(), ports.at(2));
}

TEST_F(ListenerTest, AtAnAdvertisedHostTheFirstAddressIsMeant) {
  // One that is none of the listener's, as a name is.
  Listener& listener = Make("", proxy::Acks::kLocal, {{"127.0.0.1", 0}, {"127.0.0.2", 0}},
                            /*advertised_host=*/"192.0.2.9");
  ASSERT_TRUE(listener.Open({}));
  listener.Accept();
  Map(listener);
  for (const size_t index : {0, 1}) {
    const auto brokers = BrokersAt(AddressOf(listener, index));
    ASSERT_EQ(brokers.size(), 2U);
    EXPECT_EQ(brokers.at(1).host(), "192.0.2.9");
    EXPECT_EQ(brokers.at(1).port(), AddressOf(listener, 0).port());
  }
}

TEST_F(ListenerTest, PortsAreKeptByTheNameOfTheListener) {
  Open("", proxy::Acks::kLocal);
  const int32_t port = PortsAt(AddressOf(Open("strict", proxy::Acks::kBoth))).at(2);
  EXPECT_THAT(kept_, ElementsAre(Pair("agent/ports", testing::Not(IsEmpty())),
                                 Pair("agent/ports/strict", testing::Not(IsEmpty()))));
  listeners_["strict"]->Close();
  EXPECT_EQ(PortsAt(AddressOf(Open("strict", proxy::Acks::kBoth))).at(2), port);
}

}  // namespace
}  // namespace holdfast::agent
