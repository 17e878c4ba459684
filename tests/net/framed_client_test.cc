#include "net/framed_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <random>
#include <string>
#include <utility>

#include "net/socket.h"
#include "tests/net/loopback.h"

namespace holdfast::net {
namespace {

using ::testing::HasSubstr;

// No two stretches of it are the same.
std::string Noise(size_t bytes) {
  std::mt19937 random;
  std::string noise(bytes, '\0');
  for (char& byte : noise) byte = static_cast<char>(random());
  return noise;
}

// A client on a loop, used by the test's thread.
class FramedClientTest : public LoopbackTest {
 protected:
  FramedClientTest() {
    auto listener = Socket::Listen({"127.0.0.1", 0}, {});
    EXPECT_TRUE(listener);
    listener_ = *std::move(listener);
  }
  ~FramedClientTest() override { client_.reset(); }

  EventLoop& loop() { return first_->loop(); }
  HostPort Here() { return {"127.0.0.1", listener_.LocalAddress().port()}; }

  void Connect(FramedClient::Options options, bool paused = false) {
    loop().RunAndWait([&] {
      client_ = std::make_unique<FramedClient>(
          loop(), resolver_, metrics_, std::move(options),
          FramedClient::Callbacks{
              .on_connected = [this] { connected_.set_value(); },
              .on_frame =
                  [this](base::Buffer frame) {
                    witness_.Add({0, std::string(frame.view()), Reply()});
                  },
              .takes_pieces = [](size_t, std::string_view) { return true; },
              .on_piece =
                  [this](base::Buffer piece, size_t left) {
                    EXPECT_LE(piece.size(), kPieceBytes);
                    in_pieces_ += piece.view();
                    if (left == 0)
                      witness_.Add({0, std::exchange(in_pieces_, std::string()), Reply()});
                  },
              .on_closed = [this](base::Error error) { closed_.set_value(std::move(error)); },
              .on_output_low = [this] { witness_.Note("low"); }});
      if (paused) client_->Pause();
    });
  }
  // The other end of the client's connection.
  TestPeer Accept() {
    int fd;
    do {
      fd = accept(listener_.fd(), nullptr, nullptr);
    } while (fd < 0);
    return TestPeer(fd);
  }
  void Send(std::string_view body) {
    loop().RunAndWait([&] { client_->SendBody(base::Buffer::Copy(body)); });
  }
  base::Error WaitForClosed() { return closed_.get_future().get(); }

  static constexpr size_t kPieceBytes = 65536;
  Socket listener_;
  Resolver resolver_;
  std::unique_ptr<FramedClient> client_;
  std::string in_pieces_;  // Of the frame that is coming.
  std::promise<void> connected_;
  std::promise<base::Error> closed_;
};

TEST_F(FramedClientTest, SendsAndReceivesFrames) {
  Connect({.peer = {"localhost", Here().port}});
  Send("sent before the connection stood");
  TestPeer peer = Accept();
  connected_.get_future().wait();
  EXPECT_EQ(peer.ReadFrame(), "sent before the connection stood");
  peer.Write(Framed("an answer") + Framed("another"));
  EXPECT_EQ(witness_.Take().body, "an answer");
  EXPECT_EQ(witness_.Take().body, "another");
  loop().RunAndWait([&] {
    std::vector<base::Buffer> pieces;
    pieces.push_back(base::Buffer::Copy(Framed("in pieces").substr(0, 6)));
    pieces.push_back(base::Buffer::Copy(Framed("in pieces").substr(6)));
    client_->Send(std::move(pieces));
    EXPECT_TRUE(client_->connected());
    EXPECT_EQ(client_->local().host(), "127.0.0.1");
  });
  EXPECT_EQ(peer.ReadFrame(), "in pieces");
}

TEST_F(FramedClientTest, TakesLongFramesInPieces) {
  Connect({.peer = Here(), .piece_bytes = kPieceBytes});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  // The last piece of the first ends where a piece does; that of the second is a single byte.
  const std::string first = Noise(16384 + 3 * kPieceBytes);
  const std::string second = Noise(16384 + kPieceBytes + 1);
  peer.Write(Framed(first) + Framed("short") + Framed(second) + Framed("shorter"));
  EXPECT_TRUE(witness_.Take().body == first);
  EXPECT_EQ(witness_.Take().body, "short");
  EXPECT_TRUE(witness_.Take().body == second);
  EXPECT_EQ(witness_.Take().body, "shorter");
}

TEST_F(FramedClientTest, TellsWhenItIsRefused) {
  const HostPort nobody = Here();
  listener_.Close();
  Connect({.peer = nobody});
  const base::Error error = WaitForClosed();
  EXPECT_EQ(error.code, base::Code::kUnavailable);
  EXPECT_EQ(error.message, nobody.ToString() + ": connect: Connection refused");
}

TEST_F(FramedClientTest, TellsWhenTheNameIsUnknown) {
  Connect({.peer = {"no-such-host.invalid", 1}});
  EXPECT_THAT(WaitForClosed().message, HasSubstr("no-such-host.invalid:1: cannot resolve"));
}

TEST_F(FramedClientTest, TellsWhenThePeerCloses) {
  Connect({.peer = Here()});
  Accept().Close();
  EXPECT_THAT(WaitForClosed().message, HasSubstr("closed by the peer"));
}

TEST_F(FramedClientTest, TellsWhenTheConnectionIsReset) {
  Connect({.peer = Here()});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  peer.Reset();
  EXPECT_THAT(WaitForClosed().message, HasSubstr("Connection reset by peer"));
}

TEST_F(FramedClientTest, GivesUpWhenNoConnectionComesInTime) {
  // A listener whose queue is full does not answer any more.
  const Socket full(socket(AF_INET, SOCK_STREAM, 0));
  const auto any = SocketAddress::FromIp("127.0.0.1", 0);
  ASSERT_EQ(bind(full.fd(), any->get(), any->size()), 0);
  ASSERT_EQ(listen(full.fd(), 0), 0);
  const SocketAddress address = full.LocalAddress();
  const auto first = Socket::Connect(address, {});
  const auto second = Socket::Connect(address, {});
  Connect(
      {.peer = {"127.0.0.1", address.port()}, .connect_timeout = std::chrono::milliseconds(20)});
  const base::Error error = WaitForClosed();
  EXPECT_EQ(error.code, base::Code::kTimeout);
  EXPECT_EQ(error.message, address.ToString() + ": no connection in time");
}

TEST_F(FramedClientTest, BrokenFramingClosesTheConnection) {
  Connect({.peer = Here(), .frame_bytes_max = 100});
  TestPeer peer = Accept();
  peer.Write(std::string("\0\0\0\x65", 4));
  EXPECT_EQ(WaitForClosed().code, base::Code::kCorrupt);
  EXPECT_TRUE(peer.AtEnd());
}

TEST_F(FramedClientTest, APausedClientGetsNoFramesUntilItResumes) {
  Connect({.peer = Here()}, /*paused=*/true);
  TestPeer peer = Accept();
  connected_.get_future().wait();
  peer.Write(Framed("1"));
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 0U);
  loop().RunAndWait([&] { client_->Resume(); });
  EXPECT_EQ(witness_.Take().body, "1");
}

TEST_F(FramedClientTest, TellsWhenItsQueueHasFallen) {
  Connect({.peer = Here(), .output_bytes_high = 1000, .send_buffer_bytes = 8192});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  const std::string large(1000000, 'x');
  Send(large);
  LetLoopsTurn();
  loop().RunAndWait([&] { EXPECT_GT(client_->bytes_queued(), 1000U); });
  EXPECT_TRUE(peer.ReadFrame() == large);
  witness_.WaitForEvent("low");
  loop().RunAndWait([&] { EXPECT_EQ(client_->bytes_queued(), 0U); });
}

TEST_F(FramedClientTest, RemembersWhenItLastHeardFromThePeer) {
  Connect({.peer = Here()});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  base::TimePoint before;
  loop().RunAndWait([&] { before = client_->last_heard(); });
  LetLoopsTurn();
  loop().RunAndWait([&] { EXPECT_EQ(client_->last_heard(), before); });
  peer.Write(Framed("x").substr(0, 1));
  peer.Write(Framed("x").substr(1));
  witness_.Take();
  loop().RunAndWait([&] { EXPECT_GT(client_->last_heard(), before); });
}

TEST_F(FramedClientTest, MayBeDestroyedFromItsOwnCallbacks) {
  std::promise<void> destroyed;
  std::unique_ptr<FramedClient> client;
  loop().RunAndWait([&] {
    client = std::make_unique<FramedClient>(loop(), resolver_, metrics_,
                                            FramedClient::Options{.peer = Here()},
                                            FramedClient::Callbacks{.on_frame = [&](base::Buffer) {
                                              client.reset();
                                              destroyed.set_value();
                                            }});
  });
  TestPeer peer = Accept();
  peer.Write(Framed("1") + Framed("2"));
  destroyed.get_future().wait();
  EXPECT_TRUE(peer.AtEnd());

  const HostPort nobody = Here();
  listener_.Close();
  std::promise<void> destroyed_again;
  loop().RunAndWait([&] {
    client = std::make_unique<FramedClient>(loop(), resolver_, metrics_,
                                            FramedClient::Options{.peer = nobody},
                                            FramedClient::Callbacks{.on_closed = [&](base::Error) {
                                              client.reset();
                                              destroyed_again.set_value();
                                            }});
  });
  destroyed_again.get_future().wait();
}

TEST_F(FramedClientTest, NothingIsCalledAfterClose) {
  Connect({.peer = Here()});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  loop().RunAndWait([&] { client_->Close(); });
  EXPECT_TRUE(peer.AtEnd());
  Send("dropped");
  LetLoopsTurn();
  EXPECT_EQ(closed_.get_future().wait_for(std::chrono::seconds(0)), std::future_status::timeout);
}

TEST_F(FramedClientTest, MayBeDestroyedAfterItsLoopHasEnded) {
  Connect({.peer = Here()});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  first_->Stop();
  client_.reset();
  EXPECT_TRUE(peer.AtEnd());
}

}  // namespace
}  // namespace holdfast::net
