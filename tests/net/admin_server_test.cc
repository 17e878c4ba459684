#include "net/admin_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <optional>
#include <semaphore>
#include <string>
#include <utility>
#include <vector>

#include "tests/net/loopback.h"
#include "tests/net/no_descriptors.h"

namespace holdfast::net {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::string_literals;

class AdminServerTest : public LoopbackTest {
 protected:
  AdminServerTest() { Serve({}); }

  void Serve(AdminServer::Options options) {
    server_.reset();
    std::vector<AdminRoute> routes;
    routes.push_back({HttpMethod::kGet, "/live", "whether it lives", [](const AdminRequest&) {
                        return AdminResponse{.body = "ok\n", .headers = {{"X-Kind", "probe"}}};
                      }});
    routes.push_back({HttpMethod::kGet, "/ready", "whether it is ready", [](const AdminRequest&) {
                        return AdminResponse{.status = 503,
                                             .content_type = "application/json",
                                             .body = "{\"ready\":false}"};
                      }});
    routes.push_back(
        {HttpMethod::kPost, "/log", "sets the log level", [](const AdminRequest& request) {
           const auto level = request.query.find("level");
           return AdminResponse{.body = (level == request.query.end() ? "none" : level->second) +
                                        "|" + request.body};
         }});
    routes.push_back({.method = HttpMethod::kGet,
                      .path = "/later",
                      .help = "answers from another thread",
                      .deferred = [this](const AdminRequest&, AdminReply reply) {
                        later_.emplace_back([reply = std::move(reply)]() mutable {
                          reply({.status = 202, .body = "at last\n"});
                        });
                        later_came_.release();
                      }});
    options.listen = {"127.0.0.1", 0};
    options.body_bytes_max = 100;
    auto server = AdminServer::Listen(acceptor_->loop(), std::move(options), std::move(routes));
    EXPECT_TRUE(server) << (server ? "" : server.error().message);
    server_ = *std::move(server);
  }

  std::string Ask(const std::string& request_line, const std::string& body = "",
                  const std::string& headers = "Host: localhost\r\n") {
    TestPeer peer(server_->local_address());
    peer.Write(request_line + " HTTP/1.1\r\n" + headers + "Connection: close\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n\r\n" + body);
    return peer.Read(1 << 20);
  }

  // And keeps the connection. Whether it is served.
  static bool AsksAgain(TestPeer& peer) {
    peer.Write("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    std::string got;
    while (!got.ends_with("ok\n")) {
      const std::string next = peer.Read(1);
      if (next.empty()) return false;
      got += next;
    }
    return got.starts_with("HTTP/1.1 200 ");
  }

  std::vector<base::UniqueFunction<void()>> later_;
  std::counting_semaphore<> later_came_{0};
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminServerTest, ADeferredAnswerComesFromAnyThread) {
  TestPeer peer(server_->local_address());
  const std::string request = "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n";
  peer.Write(request);
  later_came_.acquire();
  // Others are served meanwhile.
  EXPECT_THAT(Ask("GET /live"), HasSubstr("ok"));
  later_.at(0)();
  std::string got;
  while (!got.ends_with("at last\n")) {
    const std::string next = peer.Read(1);
    ASSERT_FALSE(next.empty()) << got;
    got += next;
  }
  EXPECT_THAT(got, StartsWith("HTTP/1.1 202 "));
  // A peer that is gone is not answered, nor is anybody once the server is.
  {
    TestPeer gone(server_->local_address());
    gone.Write(request);
    later_came_.acquire();
  }
  later_.at(1)();
  peer.Write(request);
  later_came_.acquire();
  server_.reset();
  later_.at(2)();
}

TEST_F(AdminServerTest, OfTooManyConnectionsTheOneThatAskedLongestAgoIsClosed) {
  Serve({.connections_max = 4});
  TestPeer waits(server_->local_address());
  waits.Write("GET /later HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  later_came_.acquire();
  TestPeer asked(server_->local_address());
  TestPeer silent(server_->local_address());
  TestPeer half(server_->local_address());
  half.Write("GET /live HT");
  EXPECT_TRUE(AsksAgain(asked));
  TestPeer fifth(server_->local_address());
  EXPECT_TRUE(silent.AtEnd());
  TestPeer sixth(server_->local_address());
  EXPECT_TRUE(half.AtEnd());
  EXPECT_TRUE(AsksAgain(asked));
  EXPECT_THAT(Ask("GET /live"), StartsWith("HTTP/1.1 200 "));
  EXPECT_TRUE(fifth.AtEnd());
  EXPECT_TRUE(AsksAgain(asked));
  later_.at(0)();
  EXPECT_THAT(waits.Read(1 << 20), HasSubstr("at last"));
}

TEST_F(AdminServerTest, WhoWaitsIsClosedOnlyIfAllOthersWaitToo) {
  Serve({.connections_max = 1});
  TestPeer first(server_->local_address());
  const std::string request = "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n";
  first.Write(request);
  later_came_.acquire();
  TestPeer second(server_->local_address());
  EXPECT_TRUE(first.AtEnd());
  later_.at(0)();
  EXPECT_TRUE(AsksAgain(second));
}

TEST_F(AdminServerTest, ManyConnectionsThatAskNothingKeepNobodyOut) {
  std::vector<TestPeer> idle;
  for (int i = 0; i < 300; ++i) idle.emplace_back(server_->local_address());
  EXPECT_TRUE(idle.front().AtEnd());
  EXPECT_THAT(Ask("GET /live"), StartsWith("HTTP/1.1 200 "));
  EXPECT_TRUE(AsksAgain(idle.back()));
}

TEST_F(AdminServerTest, AnswersWithStatusTypeAndBodyOfTheHandler) {
  const std::string live = Ask("GET /live");
  EXPECT_THAT(live, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(live, HasSubstr("Content-Type: text/plain; charset=utf-8\r\n"));
  EXPECT_THAT(live, HasSubstr("X-Kind: probe\r\n"));
  EXPECT_THAT(live, HasSubstr("X-Content-Type-Options: nosniff\r\n"));
  EXPECT_THAT(live, HasSubstr("\r\n\r\nok\n"));
  const std::string ready = Ask("GET /ready?verbose=1");
  EXPECT_THAT(ready, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(ready, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(ready, HasSubstr("\r\n\r\n{\"ready\":false}"));
}

TEST_F(AdminServerTest, PassesQueryAndBodyOfAPost) {
  EXPECT_THAT(Ask("POST /log?level=very%20much", "why"), HasSubstr("\r\n\r\nvery much|why"));
  EXPECT_THAT(Ask("POST /log"), HasSubstr("\r\n\r\nnone|"));
}

TEST_F(AdminServerTest, AnUnknownPathGetsTheListOfRoutes) {
  const std::string answer = Ask("GET /lvie");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(answer, HasSubstr("GET  /live   whether it lives\n"));
  EXPECT_THAT(answer, HasSubstr("POST /log    sets the log level\n"));
  EXPECT_THAT(Ask("GET /help"), HasSubstr("GET  /ready  whether it is ready\n"));
}

TEST_F(AdminServerTest, AWrongMethodIsToldTheRightOne) {
  const std::string answer = Ask("GET /log");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(answer, HasSubstr("Allow: POST\r\n"));
  EXPECT_THAT(Ask("DELETE /live"), StartsWith("HTTP/1.1 405 "));
}

TEST_F(AdminServerTest, TooLargeABodyIsRefused) {
  EXPECT_THAT(Ask("POST /log", std::string(101, 'x')), StartsWith("HTTP/1.1 413 "));
}

TEST_F(AdminServerTest, GarbageCostsTheSenderItsConnectionOnly) {
  TestPeer garbage(server_->local_address());
  garbage.Write(std::string("\0\1\2\xff nonsense\r\n\r\n", 17));
  garbage.Read(1 << 20);
  EXPECT_THAT(Ask("GET /live"), StartsWith("HTTP/1.1 200 "));
}

// An address of this machine that is not on loopback, if it has one.
std::optional<SocketAddress> OtherAddress(uint16_t port) {
  const int probe = socket(AF_INET, SOCK_DGRAM, 0);
  const auto outside = SocketAddress::FromIp("192.0.2.1", 9);
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  const bool routed = connect(probe, outside->get(), outside->size()) == 0 &&
                      getsockname(probe, reinterpret_cast<sockaddr*>(&own), &size) == 0;
  close(probe);
  const SocketAddress here(reinterpret_cast<const sockaddr*>(&own), routed ? size : 16);
  if (!routed || here.IsLoopback()) return std::nullopt;
  return *SocketAddress::FromIp(here.host(), port);
}

TEST_F(AdminServerTest, PostIsForLoopbackOnly) {
  std::vector<AdminRoute> routes;
  for (const auto& [method, path] :
       {std::pair(HttpMethod::kPost, "/drain"), std::pair(HttpMethod::kGet, "/live")}) {
    routes.push_back({method, path, "", [](const AdminRequest&) { return AdminResponse{}; }});
  }
  auto everywhere =
      AdminServer::Listen(acceptor_->loop(), {.listen = {"0.0.0.0", 0}}, std::move(routes));
  ASSERT_TRUE(everywhere);
  const uint16_t port = (*everywhere)->local_address().port();
  const auto ask = [](const SocketAddress& to, const std::string& from, const std::string& line) {
    const int from_there = socket(AF_INET, SOCK_STREAM, 0);
    if (!from.empty()) {
      const auto own = SocketAddress::FromIp(from, 0);
      EXPECT_EQ(bind(from_there, own->get(), own->size()), 0);
    }
    EXPECT_EQ(connect(from_there, to.get(), to.size()), 0);
    TestPeer peer(from_there);
    peer.Write(line + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" +
               "Content-Length: 0\r\n\r\n");
    return peer.Read(1 << 20);
  };
  EXPECT_THAT(ask(*SocketAddress::FromIp("127.0.0.1", port), "127.0.0.6", "POST /drain"),
              StartsWith("HTTP/1.1 200 "));
  const auto other = OtherAddress(port);
  if (!other) GTEST_SKIP() << "this machine has no other address";
  // As another host, and as Istio's proxy hands it on from there.
  for (const std::string& from : {""s, "127.0.0.6"s}) {
    EXPECT_THAT(ask(*other, from, "POST /drain"), StartsWith("HTTP/1.1 403 ")) << from;
    EXPECT_THAT(ask(*other, from, "GET /live"), StartsWith("HTTP/1.1 200 ")) << from;
  }
}

TEST_F(AdminServerTest, APageOfAnotherSiteChangesNothing) {
  const std::string own = server_->local_address().ToString();
  const std::string host = "Host: " + own + "\r\n";
  for (const std::string& header :
       {"Origin: http://evil.example\r\n"s, "Origin: null\r\n"s, "Origin: https://" + own + "\r\n",
        "Origin: http://" + own + "0\r\n", "Sec-Fetch-Site: cross-site\r\n"s,
        "Sec-Fetch-Site: same-site\r\n"s}) {
    EXPECT_THAT(Ask("POST /log", "", host + header), StartsWith("HTTP/1.1 403 ")) << header;
    EXPECT_THAT(Ask("GET /live", "", host + header), StartsWith("HTTP/1.1 200 ")) << header;
  }
  for (const std::string& header :
       {""s, "Origin: http://" + own + "\r\nSec-Fetch-Site: same-origin\r\n",
        "Sec-Fetch-Site: none\r\n"s}) {
    EXPECT_THAT(Ask("POST /log", "", host + header), StartsWith("HTTP/1.1 200 ")) << header;
  }
}

TEST_F(AdminServerTest, ANameThatWasMadeToLeadHereIsNotServed) {
  std::array<char, 256> own{};
  ASSERT_EQ(gethostname(own.data(), own.size() - 1), 0);
  for (const std::string& host : {"evil.example"s, "evil.example:9090"s, "localhost.evil.example"s,
                                  "127.0.0.1.evil.example"s, "[::1"s, ":9090"s}) {
    EXPECT_THAT(Ask("GET /live", "", "Host: " + host + "\r\n"), StartsWith("HTTP/1.1 403 "))
        << host;
    EXPECT_THAT(Ask("POST /log", "", "Host: " + host + "\r\n"), StartsWith("HTTP/1.1 403 "))
        << host;
  }
  for (const std::string& host :
       {"localhost"s, "LocalHost:9090"s, "127.0.0.1"s, "127.0.0.1:9090"s, "[::1]:9090"s, "[::1]"s,
        "10.1.2.3:9090"s, std::string(own.data())}) {
    EXPECT_THAT(Ask("GET /live", "", "Host: " + host + "\r\n"), StartsWith("HTTP/1.1 200 "))
        << host;
  }
  EXPECT_THAT(Ask("GET /live", "", ""), StartsWith("HTTP/1.1 200 ")) << "as probes of old do";
}

TEST_F(AdminServerTest, WhatOtherHostsSeeIsShownByAnyNameOfThisHost) {
  std::vector<AdminRoute> routes;
  for (const HttpMethod method : {HttpMethod::kGet, HttpMethod::kPost}) {
    routes.push_back({method, method == HttpMethod::kGet ? "/live" : "/log", "answers",
                      [](const AdminRequest&) { return AdminResponse{}; }});
  }
  auto everywhere =
      AdminServer::Listen(acceptor_->loop(), {.listen = {"0.0.0.0", 0}}, std::move(routes));
  ASSERT_TRUE(everywhere);
  const auto ask = [&](const std::string& line) {
    TestPeer peer(*SocketAddress::FromIp("127.0.0.1", (*everywhere)->local_address().port()));
    peer.Write(line +
               " HTTP/1.1\r\nHost: web1.example.com:9090\r\nConnection: close\r\n"
               "Content-Length: 0\r\n\r\n");
    return peer.Read(1 << 20);
  };
  EXPECT_THAT(ask("GET /live"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ask("HEAD /live"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ask("POST /log"), StartsWith("HTTP/1.1 403 "));
}

TEST_F(AdminServerTest, AQuerysTextsMayHoldAnyByte) {
  EXPECT_THAT(Ask("POST /log?level=a%00b"), ::testing::EndsWith("\r\na\0b|"s));
  EXPECT_THAT(Ask("POST /log?level=%00%05%C3%a4+%2B%26"),
              ::testing::EndsWith("\r\n\0\x05\xc3\xa4 +&|"s));
  EXPECT_THAT(Ask("POST /log?prestop&level=debug&&x=a=b"), ::testing::EndsWith("\r\ndebug|"));
  EXPECT_THAT(Ask("POST /log?level"), ::testing::EndsWith("\r\n|"));
  for (const char* const query : {"level=%", "level=%4", "level=%4g", "%zz=1&level=debug"})
    EXPECT_THAT(Ask("POST /log?"s + query), StartsWith("HTTP/1.1 400 ")) << query;
}

TEST_F(AdminServerTest, HeadIsAnsweredWithTheLengthOfWhatItLeavesOut) {
  const std::string answer = Ask("HEAD /live");
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Length: 3\r\n"));
  EXPECT_THAT(answer, ::testing::EndsWith("\r\n\r\n"));
}

TEST_F(AdminServerTest, WithoutDescriptorsItWaitsAndThenServesWhoCame) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  TestPeer peer(fd);
  // UBSan looks at each kind of object once, and needs descriptors for that.
  (void)ProcessorTimeOfALull();
  {
    const NoDescriptors none;
    const SocketAddress& to = server_->local_address();
    ASSERT_EQ(connect(fd, to.get(), to.size()), 0);
    EXPECT_LT(ProcessorTimeOfALull(), std::chrono::milliseconds(20)) << "it asks and asks";
  }
  EXPECT_TRUE(AsksAgain(peer));
}

}  // namespace
}  // namespace holdfast::net
