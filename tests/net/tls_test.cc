#include "net/tls.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cmath>
#include <ctime>
#include <fstream>
#include <future>
#include <string>

#include "net/frame_stream.h"
#include "net/framed_client.h"
#include "tests/net/loopback.h"
#include "tests/net/tls_peer.h"
#include "tests/support/certificates.h"

namespace holdfast::net {
namespace {

using ::testing::HasSubstr;

// All but its last byte.
constexpr std::string_view kBeginningOfKeyUpdate("\x18\0\0\x01", 4);
// More than a loop that waits takes of a lull, and much less than one that does not.
constexpr base::Duration kBusy = std::chrono::milliseconds(20);

class TlsTest : public LoopbackTest {
 protected:
  // One connection of a client, for the test's thread.
  class Client {
   public:
    Client(TlsTest& test, const FramedServer& server, std::shared_ptr<const TlsContext> tls,
           const std::string& host = "localhost")
        : test_(test), loop_(test.first_->loop()) {
      loop_.RunAndWait([&] {
        client_ = std::make_unique<FramedClient>(
            loop_, test.resolver_, test.metrics_,
            FramedClient::Options{.peer = {host, server.local_address().port()},
                                  .tls = std::move(tls)},
            FramedClient::Callbacks{
                .on_connected = [this] { connected_.set_value(); },
                .on_frame =
                    [this](base::Buffer frame) {
                      witness_.Add({0, std::string(frame.view()), Reply()});
                    },
                .on_closed = [this](base::Error error) { closed_.set_value(std::move(error)); }});
      });
    }
    ~Client() {
      loop_.RunAndWait([&] { client_.reset(); });
    }
    void Send(std::string_view body) {
      loop_.RunAndWait([&] { client_->SendBody(base::Buffer::Copy(body)); });
    }
    void Pause() {
      loop_.RunAndWait([&] { client_->Pause(); });
    }
    void Resume() {
      loop_.RunAndWait([&] { client_->Resume(); });
    }
    std::string Read() { return witness_.Take().body; }
    size_t received() { return witness_.received(); }
    void WaitForConnected() { connected_.get_future().wait(); }
    base::Error WaitForClosed() { return closed_.get_future().get(); }

   private:
    TlsTest& test_;
    EventLoop& loop_;
    Witness witness_;
    std::promise<void> connected_;
    std::promise<base::Error> closed_;
    std::unique_ptr<FramedClient> client_;
  };

  TlsTest() { ca_.Issue("server", {.name = "tier", .hosts = "DNS:localhost"}); }

  std::shared_ptr<TlsCredentials> ServerSide(
      TlsOptions::ClientAuth client_auth = TlsOptions::ClientAuth::kNone) {
    auto loaded = TlsCredentials::Load({.ca_location = directory_.File("ca.pem"),
                                        .certificate_location = directory_.File("server.pem"),
                                        .key_location = directory_.File("server.key"),
                                        .server = true,
                                        .client_auth = client_auth});
    EXPECT_TRUE(loaded) << (loaded ? "" : loaded.error().message);
    return *loaded;
  }
  std::shared_ptr<const TlsContext> ClientSide(TlsOptions options = {}) {
    if (options.ca_location.empty()) options.ca_location = directory_.File("ca.pem");
    auto made = TlsContext::Make(options);
    EXPECT_TRUE(made) << (made ? "" : made.error().message);
    return *made;
  }

  test::TestDirectory directory_;
  test::TestAuthority ca_{directory_, "ca"};
  Resolver resolver_;
};

TEST_F(TlsTest, FramesOfAnySizePassBothWays) {
  const auto server = ServeEcho({.tls = ServerSide()});
  Client client(*this, *server, ClientSide());
  for (const size_t size : {1UL, 16379UL, 16380UL, 16384UL, 65536UL, 900000UL}) {
    std::string body(size, 'x');
    for (size_t i = 0; i < size; i += 1000) body[i] = static_cast<char>('a' + i / 1000 % 26);
    client.Send(body);
    EXPECT_TRUE(client.Read() == body) << size;
  }
  for (int i = 0; i < 500; ++i) client.Send("frame " + std::to_string(i));
  for (int i = 0; i < 500; ++i) EXPECT_EQ(client.Read(), "frame " + std::to_string(i));
}

TEST_F(TlsTest, WhatWasReadAheadIsNotForgottenWhenAReaderPauses) {
  const auto server = ServeEcho({.requests_in_flight_max = 2, .tls = ServerSide()});
  Client client(*this, *server, ClientSide());
  client.WaitForConnected();
  client.Pause();
  for (int i = 0; i < 200; ++i) client.Send(std::to_string(i) + std::string(3000, '.'));
  LetLoopsTurn();
  EXPECT_EQ(client.received(), 0U);
  client.Resume();
  for (int i = 0; i < 200; ++i)
    EXPECT_TRUE(client.Read() == std::to_string(i) + std::string(3000, '.')) << i;
}

// More comes at once than what may be answered in a turn, and all lies in TLS or was read ahead.
TEST_F(TlsTest, WhatWasReadAheadIsNotForgottenWhenAnswersHaveToLeave) {
  const auto server = ServeEcho({.output_bytes_high = 5000, .tls = ServerSide()});
  Client client(*this, *server, ClientSide());
  client.WaitForConnected();
  first_->loop().RunAndWait([&] {
    for (int i = 0; i < 200; ++i) client.Send(std::to_string(i) + std::string(3000, '.'));
  });
  for (int i = 0; i < 200; ++i)
    EXPECT_TRUE(client.Read() == std::to_string(i) + std::string(3000, '.')) << i;
}

// Nothing can be sent before the rest of it is there, so that is what has to be waited for, even by
// a stream that reads no more.
TEST_F(TlsTest, AMessageOfTlsThatDoesNotGoOnKeepsNobodyBusy) {
  for (const size_t requests_max : {64UL, 1UL}) {
    const auto server =
        ServeWitnessed({.requests_in_flight_max = requests_max, .tls = ServerSide()});
    TlsPeer peer(TestPeer(server->local_address()), directory_.File("ca.pem"));
    peer.Send(Framed("hello"));
    peer.SendRecord(TlsPeer::kHandshake, kBeginningOfKeyUpdate);
    peer.Flush();
    Witness::Request request = witness_.Take();
    LetLoopsTurn();
    request.reply.SendBody(base::Buffer::Copy("answer"));
    EXPECT_LT(ProcessorTimeOfALull(), kBusy) << requests_max;
    peer.SendRecord(TlsPeer::kHandshake, std::string_view("\0", 1));
    peer.Flush();
    EXPECT_EQ(peer.ReadFrame(), "answer") << requests_max;
  }
}

// A stream whose descriptor the test knows.
class BareStream final : public FrameStream::Owner {
 public:
  BareStream(EventLoop& loop, metrics::NetMetrics& metrics, Socket socket, Witness& witness)
      : loop_(loop), witness_(witness) {
    loop_.RunAndWait([&] {
      stream_ = std::make_unique<FrameStream>(
          loop_, metrics, FrameStream::Options{.frame_bytes_max = 100, .output_bytes_high = 100},
          std::move(socket), *this);
    });
  }
  ~BareStream() {
    loop_.RunAndWait([this] {
      stream_->Close();
      loop_.AtTurnEnd([stream = std::move(stream_)] {});
    });
  }
  void Send(std::string_view body) {
    loop_.RunAndWait([&] { stream_->SendBody(base::Buffer::Copy(body)); });
  }

  bool AdmitFrame(size_t /*bytes*/) override { return true; }
  void OnFrame(base::Buffer frame) override {
    witness_.Add({0, std::string(frame.view()), Reply()});
  }
  void OnOutputHigh() override {}
  void OnOutputLow() override {}
  void OnEnd(FrameStream::End /*end*/, std::string reason) override { witness_.Note(reason); }

 private:
  EventLoop& loop_;
  Witness& witness_;
  std::unique_ptr<FrameStream> stream_;
};

// As many bytes as the socket takes now.
size_t Fill(int fd) {
  const std::string bytes(4096, '.');
  size_t filled = 0;
  for (size_t size = bytes.size(); size > 0; size /= 2) {
    ssize_t sent;
    while ((sent = send(fd, bytes.data(), size, MSG_DONTWAIT)) > 0)
      filled += static_cast<size_t>(sent);
  }
  return filled;
}

// Our own new keys have to leave before anything else can be read.
TEST_F(TlsTest, AMessageOfTlsThatFindsNoRoomKeepsNobodyBusy) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  ASSERT_EQ(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
  Socket socket(ends[0]);
  socket.SecureAsServer(ServerSide()->context());
  BareStream stream(first_->loop(), metrics_, std::move(socket), witness_);
  TlsPeer peer(TestPeer(ends[1]), directory_.File("ca.pem"));
  const size_t filled = Fill(ends[0]);
  peer.UpdateKeys();
  peer.Send(Framed("one"));
  peer.Flush();
  EXPECT_EQ(witness_.Take().body, "one");
  stream.Send("answer");
  LetLoopsTurn();
  peer.Send(Framed("two"));
  peer.Flush();
  EXPECT_LT(ProcessorTimeOfALull(), kBusy);
  EXPECT_EQ(witness_.received(), 1U);
  peer.Skip(filled);
  EXPECT_EQ(peer.ReadFrame(), "answer");
  EXPECT_EQ(witness_.Take().body, "two");
}

TEST_F(TlsTest, AnEndThatComesTogetherWithARequestIsSeen) {
  const auto server = ServeEcho({.tls = ServerSide()});
  TlsPeer peer(TestPeer(server->local_address()), directory_.File("ca.pem"));
  peer.Send(Framed("hello"));
  peer.SendEnd();
  peer.Flush();
  EXPECT_EQ(peer.ReadFrame(), "hello");
  EXPECT_TRUE(peer.AtEnd());
  EXPECT_EQ(Closed("peer"), 1U);
}

// The rest of a request and the end were read while the one before it was under way.
TEST_F(TlsTest, AnEndThatIsMetByAStoppedStreamIsSeenLater) {
  const auto server = ServeWitnessed({.requests_in_flight_max = 1, .tls = ServerSide()});
  TlsPeer peer(TestPeer(server->local_address()), directory_.File("ca.pem"));
  peer.Send(Framed("one") + Framed("two"));
  peer.SendEnd();
  peer.Flush();
  for (const std::string body : {"one", "two"}) {
    Witness::Request request = witness_.Take();
    EXPECT_EQ(request.body, body);
    LetLoopsTurn();
    request.reply.SendBody(base::Buffer::Copy(body));
  }
  EXPECT_EQ(peer.ReadFrame(), "one");
  EXPECT_EQ(peer.ReadFrame(), "two");
  EXPECT_TRUE(peer.AtEnd());
}

TEST_F(TlsTest, ACertificateForAnotherNameIsNotAccepted) {
  const auto server = ServeEcho({.tls = ServerSide()});
  Client client(*this, *server, ClientSide(), "127.0.0.1");
  const base::Error error = client.WaitForClosed();
  EXPECT_EQ(error.code, base::Code::kInvalid);
  EXPECT_EQ(error.message,
            "127.0.0.1:" + std::to_string(server->local_address().port()) +
                ": TLS: the certificate of 127.0.0.1 is not accepted: IP address mismatch "
                "(CN=tier)");
  EXPECT_EQ(Closed("tls"), 1U);
}

TEST_F(TlsTest, TheNameNeedNotMatchIfTheUserSaysSo) {
  const auto server = ServeEcho({.tls = ServerSide()});
  Client client(*this, *server, ClientSide({.check_name = false}), "127.0.0.1");
  client.Send("hello");
  EXPECT_EQ(client.Read(), "hello");
}

TEST_F(TlsTest, AnAddressInFiguresMayStandInTheCertificate) {
  ca_.Issue("server", {.name = "tier", .hosts = "DNS:elsewhere,IP:127.0.0.1"});
  const auto server = ServeEcho({.tls = ServerSide()});
  Client client(*this, *server, ClientSide(), "127.0.0.1");
  client.Send("hello");
  EXPECT_EQ(client.Read(), "hello");
}

TEST_F(TlsTest, ACertificateOfAnUnknownAuthorityIsNotAccepted) {
  test::TestAuthority other(directory_, "other");
  const auto server = ServeEcho({.tls = ServerSide()});
  Client client(*this, *server, ClientSide({.ca_location = directory_.File("other.pem")}));
  EXPECT_THAT(client.WaitForClosed().message,
              HasSubstr("TLS: the certificate of localhost is not accepted: unable to get local "
                        "issuer certificate (CN=tier)"));
}

TEST_F(TlsTest, AnExpiredCertificateIsNotAccepted) {
  ca_.Issue("server", {.name = "tier", .hosts = "DNS:localhost", .days = -1});
  const auto server = ServeEcho({.tls = ServerSide()});
  Client client(*this, *server, ClientSide());
  EXPECT_THAT(client.WaitForClosed().message, HasSubstr("certificate has expired (CN=tier)"));
}

TEST_F(TlsTest, TheServerKnowsTheSubjectOfAClientsCertificate) {
  std::promise<std::optional<std::string>> subject;
  const auto server =
      Serve({.tls = ServerSide(TlsOptions::ClientAuth::kRequired)}, [&](Connection& connection) {
        EXPECT_FALSE(connection.sends_piped());
        subject.set_value(connection.peer_subject());
        return std::make_unique<EchoSession>();
      });
  ca_.Issue("client", {.name = "orders", .key_password = "a secret"});
  Client client(*this, *server,
                ClientSide({.certificate_location = directory_.File("client.pem"),
                            .key_location = directory_.File("client.key"),
                            .key_password = "a secret"}));
  client.Send("hello");
  EXPECT_EQ(client.Read(), "hello");
  EXPECT_EQ(subject.get_future().get(), "CN=orders");
}

TEST_F(TlsTest, ACertificateWithoutASubjectIsOneAllTheSame) {
  std::promise<std::optional<std::string>> subject;
  const auto server =
      Serve({.tls = ServerSide(TlsOptions::ClientAuth::kRequired)}, [&](Connection& connection) {
        subject.set_value(connection.peer_subject());
        return std::make_unique<EchoSession>();
      });
  ca_.Issue("client", {.name = "", .hosts = "URI:spiffe://example/orders"});
  Client client(*this, *server,
                ClientSide({.certificate_location = directory_.File("client.pem"),
                            .key_location = directory_.File("client.key")}));
  client.Send("hello");
  EXPECT_EQ(client.Read(), "hello");
  EXPECT_EQ(subject.get_future().get(), "");
}

TEST_F(TlsTest, AClientWithoutTheCertificateThatIsRequiredIsTurnedAway) {
  const auto server = ServeEcho({.tls = ServerSide(TlsOptions::ClientAuth::kRequired)});
  Client client(*this, *server, ClientSide());
  const base::Error error = client.WaitForClosed();
  EXPECT_THAT(error.message, HasSubstr("certificate required"));
  // The server says so behind the client's handshake, but it is a part of it.
  EXPECT_EQ(error.code, base::Code::kInvalid);
  EXPECT_EQ(Closed("tls"), 1U);
}

TEST_F(TlsTest, ACertificateThatIsOnlyRequestedMayBeMissing) {
  std::promise<std::optional<std::string>> subject;
  const auto server =
      Serve({.tls = ServerSide(TlsOptions::ClientAuth::kRequested)}, [&](Connection& connection) {
        subject.set_value(connection.peer_subject());
        return std::make_unique<EchoSession>();
      });
  Client client(*this, *server, ClientSide());
  client.Send("hello");
  EXPECT_EQ(client.Read(), "hello");
  EXPECT_EQ(subject.get_future().get(), std::nullopt);
}

TEST_F(TlsTest, AClientInTheClearIsTurnedAway) {
  const auto server = ServeWitnessed({.tls = ServerSide()});
  TestPeer peer(server->local_address());
  peer.Write(Framed("not a handshake"));
  EXPECT_FALSE(peer.ReadFrame() == "not a handshake");
  EXPECT_EQ(Closed("tls"), 1U);
  EXPECT_EQ(witness_.received(), 0U);
}

TEST_F(TlsTest, AServerInTheClearIsNotAccepted) {
  const auto server = ServeEcho({.frame_bytes_max = 100});
  Client client(*this, *server, ClientSide());
  EXPECT_FALSE(client.WaitForClosed().message.empty());
}

TEST_F(TlsTest, AHandshakeThatDoesNotMoveIsGivenUp) {
  const auto server =
      ServeEcho({.tls = ServerSide(), .handshake_timeout = std::chrono::milliseconds(20)});
  TestPeer peer(server->local_address());
  EXPECT_TRUE(peer.AtEnd());
  EXPECT_EQ(Closed("tls"), 1U);
}

TEST_F(TlsTest, ADrainingServerDoesNotWaitForAHandshake) {
  const auto server = ServeEcho({.tls = ServerSide()});
  TestPeer peer(server->local_address());
  LetLoopsTurn();
  std::promise<void> drained;
  server->Drain(std::chrono::seconds(10), [&] { drained.set_value(); });
  EXPECT_TRUE(peer.AtEnd());
  peer.Close();
  drained.get_future().wait();
}

TEST_F(TlsTest, NewConnectionsSeeAChangedCertificateAndOldOnesStay) {
  const auto credentials = ServerSide();
  const auto server = ServeEcho({.tls = credentials});
  Client before(*this, *server, ClientSide());
  before.WaitForConnected();
  EXPECT_FALSE(*credentials->Refresh());

  test::TestAuthority next(directory_, "next");
  next.Issue("server", {.name = "tier", .hosts = "DNS:localhost"});
  const auto refreshed = credentials->Refresh();
  ASSERT_TRUE(refreshed) << refreshed.error().message;
  EXPECT_TRUE(*refreshed);
  Client refused(*this, *server, ClientSide());
  EXPECT_THAT(refused.WaitForClosed().message, HasSubstr("is not accepted"));
  Client after(*this, *server, ClientSide({.ca_location = directory_.File("next.pem")}));
  after.Send("new");
  EXPECT_EQ(after.Read(), "new");
  before.Send("old");
  EXPECT_EQ(before.Read(), "old");
}

TEST_F(TlsTest, OtherFilesTakeThePlaceOfThoseBefore) {
  const auto credentials = ServerSide();
  const auto server = ServeEcho({.tls = credentials});
  test::TestAuthority next(directory_, "next");
  next.Issue("other", {.name = "tier", .hosts = "DNS:localhost", .days = 1});
  const auto other = TlsCredentials::Load({.certificate_location = directory_.File("other.pem"),
                                           .key_location = directory_.File("other.key"),
                                           .server = true});
  ASSERT_TRUE(other) << other.error().message;
  credentials->Replace(**other);
  Client refused(*this, *server, ClientSide());
  EXPECT_THAT(refused.WaitForClosed().message, HasSubstr("is not accepted"));
  Client after(*this, *server, ClientSide({.ca_location = directory_.File("next.pem")}));
  after.Send("new");
  EXPECT_EQ(after.Read(), "new");
  // And these are looked after from now on.
  next.Issue("other", {.name = "tier", .hosts = "DNS:localhost", .days = 2});
  EXPECT_TRUE(*credentials->Refresh());
}

TEST_F(TlsTest, TheFirstCertificateToEndSaysUntilWhenAllIsGood) {
  const auto days_of = [&](const std::shared_ptr<const TlsContext>& context) {
    return std::round((context->expires_at() - static_cast<double>(std::time(nullptr))) / 86400);
  };
  ca_.Issue("short", {.name = "tier", .days = 5});
  ca_.Issue("long", {.name = "tier", .days = 9});
  std::ofstream(directory_.File("long.pem"), std::ios::app)
      << std::ifstream(directory_.File("short.pem")).rdbuf();
  const auto made = [&](const std::string& name) {
    const auto context = TlsContext::Make({.certificate_location = directory_.File(name + ".pem"),
                                           .key_location = directory_.File(name + ".key"),
                                           .server = true});
    EXPECT_TRUE(context) << context.error().message;
    return *context;
  };
  EXPECT_EQ(days_of(made("short")), 5);
  EXPECT_EQ(days_of(made("long")), 5);
  EXPECT_TRUE(std::isinf((*TlsContext::Make({}))->expires_at()));
}

TEST_F(TlsTest, ABrokenFileLeavesTheCertificateThatWasThere) {
  const auto credentials = ServerSide();
  std::ofstream(directory_.File("server.pem")) << "half a fi";
  const auto refreshed = credentials->Refresh();
  ASSERT_FALSE(refreshed);
  EXPECT_THAT(refreshed.error().message, HasSubstr("the certificate in "));
  const auto server = ServeEcho({.tls = credentials});
  Client client(*this, *server, ClientSide());
  client.Send("hello");
  EXPECT_EQ(client.Read(), "hello");
}

TEST_F(TlsTest, ErrorsNameTheFile) {
  const auto error = [](const TlsOptions& options) {
    const auto made = TlsContext::Make(options);
    return made ? "none" : made.error().message;
  };
  const std::string missing = directory_.File("missing.pem");
  EXPECT_EQ(error({.ca_location = missing}),
            "cannot read " + missing + ": No such file or directory");
  EXPECT_THAT(error({.ca_location = directory_.File("server.key")}),
              HasSubstr("CA certificates in " + directory_.File("server.key")));
  ca_.Issue("client", {.name = "orders", .key_password = "a secret"});
  const std::string wrong = error({.ca_location = directory_.File("ca.pem"),
                                   .certificate_location = directory_.File("client.pem"),
                                   .key_location = directory_.File("client.key"),
                                   .key_password = "another secret"});
  EXPECT_THAT(wrong, HasSubstr("the private key in " + directory_.File("client.key")));
  EXPECT_THAT(wrong, ::testing::Not(HasSubstr("another secret")));
  EXPECT_THAT(error({.certificate_location = directory_.File("client.pem"),
                     .key_location = directory_.File("server.key"),
                     .server = true}),
              HasSubstr("the private key in " + directory_.File("server.key")));
  EXPECT_THAT(error({.server = true}), HasSubstr("a certificate is needed"));
}

}  // namespace
}  // namespace holdfast::net
