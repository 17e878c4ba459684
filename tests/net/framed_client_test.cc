#include "net/framed_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "net/socket.h"
#include "tests/net/loopback.h"
#include "tests/net/no_descriptors.h"
#include "tests/support/noise.h"

namespace holdfast::net {
namespace {

using ::testing::HasSubstr;

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
          loop(), *resolver_, metrics_, std::move(options),
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
                    ++pieces_;
                    in_pieces_ += piece.view();
                    if (left == 0)
                      witness_.Add({0, std::exchange(in_pieces_, std::string()), Reply()});
                  },
              .opaque_bytes = [this] { return OpaqueBytes(); },
              .on_piped =
                  [this](Piped piped, size_t left) {
                    EXPECT_GT(left, 0U);
                    EXPECT_LE(piped.bytes, OpaqueBytes());
                    EXPECT_EQ(client_->last_heard(), loop().Now());
                    in_pipes_ += piped.bytes;
                    if (!hold_) {
                      in_pieces_ += Drain(piped);
                    } else {
                      in_pieces_ += std::string(piped.bytes, '?');
                      held_.push_back(std::move(piped));
                    }
                  },
              .on_closed = [this](base::Error error) { closed_.set_value(std::move(error)); },
              .on_output_high = [this] { witness_.Note("high"); },
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
  // Of the frame that is coming, in stretches that begin at `first` and end at `second`.
  size_t OpaqueBytes() {
    for (const auto& [first, second] : opaque_) {
      if (in_pieces_.size() >= first && in_pieces_.size() < second)
        return second - in_pieces_.size();
    }
    return 0;
  }
  std::string Drain(const Piped& piped) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    std::string bytes(piped.bytes, '\0');
    size_t left = piped.bytes;
    for (size_t got = 0; got < bytes.size();) {
      if (left > 0) left -= piped.pipe->Drain(ends[0], left, false).bytes;
      const ssize_t more = recv(ends[1], bytes.data() + got, bytes.size() - got, 0);
      EXPECT_GT(more, 0);
      if (more <= 0) break;
      got += static_cast<size_t>(more);
    }
    close(ends[0]);
    close(ends[1]);
    return bytes;
  }
  // Until the loop has taken what was written so far.
  void WaitForReceived(size_t bytes) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (metrics_.received_bytes.Value() < bytes && std::chrono::steady_clock::now() < end)
      std::this_thread::yield();
    ASSERT_EQ(metrics_.received_bytes.Value(), bytes);
    loop().RunAndWait([] {});
  }
  void Send(std::string_view body) {
    loop().RunAndWait([&] { client_->SendBody(base::Buffer::Copy(body)); });
  }
  // What names have from here on, at any port.
  void ResolveTo(const std::vector<std::string>& hosts) {
    std::vector<SocketAddress> addresses;
    for (const std::string& host : hosts) addresses.push_back(*SocketAddress::FromIp(host, 0));
    resolver_ = std::make_unique<Resolver>([addresses](const HostPort&) { return addresses; });
  }
  base::Error WaitForClosed() { return closed_.get_future().get(); }

  static constexpr size_t kPieceBytes = 65536;
  Socket listener_;
  std::unique_ptr<Resolver> resolver_ = std::make_unique<Resolver>();
  std::unique_ptr<FramedClient> client_;
  std::string in_pieces_;  // Of the frame that is coming.
  size_t in_pipes_ = 0;    // Of all frames.
  size_t pieces_ = 0;      // Not in pipes.
  bool hold_ = false;      // What comes in pipes is not taken out.
  std::vector<Piped> held_;
  std::vector<std::pair<size_t, size_t>> opaque_;
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
  const std::string first = test::Noise(16384 + 3 * kPieceBytes);
  const std::string second = test::Noise(16384 + kPieceBytes + 1);
  peer.Write(Framed(first) + Framed("short") + Framed(second) + Framed("shorter"));
  EXPECT_TRUE(witness_.Take().body == first);
  EXPECT_EQ(witness_.Take().body, "short");
  EXPECT_TRUE(witness_.Take().body == second);
  EXPECT_EQ(witness_.Take().body, "shorter");
}

// The limit is for what has to be held in memory as a whole.
TEST_F(FramedClientTest, WhatIsTakenInPiecesMayBeLongerThanOneWholeFrame) {
  Connect({.peer = Here(), .frame_bytes_max = 1024, .piece_bytes = kPieceBytes});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  const std::string longer = test::Noise(3 * kPieceBytes);
  peer.Write(Framed(longer) + Framed("short"));
  EXPECT_TRUE(witness_.Take().body == longer);
  EXPECT_EQ(witness_.Take().body, "short");
  peer.Write(Framed(test::Noise(1025)));
  EXPECT_EQ(WaitForClosed().code, base::Code::kCorrupt);
}

// Long stretches and short ones, with something to be seen between them and at the end.
TEST_F(FramedClientTest, WhatNeedNotBeSeenComesThroughPipes) {
  opaque_ = {{16, 300000}, {300010, 310000}, {310001, 900000}};
  Connect({.peer = Here(), .piece_bytes = 4 * kPieceBytes});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  const std::string first = test::Noise(900003);
  const std::string second = test::Noise(700000);  // The last stretch is longer than the frame.
  std::jthread writer(
      [&] { peer.Write(Framed(first) + Framed("short") + Framed(second) + Framed("shorter")); });
  EXPECT_TRUE(witness_.Take().body == first);
  EXPECT_EQ(witness_.Take().body, "short");
  EXPECT_TRUE(witness_.Take().body == second);
  EXPECT_EQ(witness_.Take().body, "shorter");
  loop().RunAndWait([&] {
    EXPECT_GT(in_pipes_, 0U);
    EXPECT_EQ(loop().pipes().idle(), 1U) << "one after the other";
  });
  EXPECT_EQ(metrics_.received_frames.Value(), 4U);
  EXPECT_EQ(metrics_.received_bytes.Value(), first.size() + second.size() + 12 + 4 * 4);
}

TEST_F(FramedClientTest, ShortStretchesAreRead) {
  opaque_ = {{100, 60000}, {60001, 120000}, {120001, 180000}};
  Connect({.peer = Here(), .piece_bytes = kPieceBytes});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  const std::string frame = test::Noise(180003);
  std::jthread writer([&] { peer.Write(Framed(frame)); });
  EXPECT_TRUE(witness_.Take().body == frame);
  loop().RunAndWait([&] { EXPECT_EQ(in_pipes_, 0U); });
}

TEST_F(FramedClientTest, WithoutPipesAllOfItIsRead) {
  opaque_ = {{16, 900000}};
  Connect({.peer = Here(), .piece_bytes = kPieceBytes});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  const std::string frame = test::Noise(900003);
  std::optional<NoDescriptors> none(std::in_place);
  std::jthread writer([&] { peer.Write(Framed(frame)); });
  const auto request = witness_.Take();
  none.reset();
  EXPECT_TRUE(request.body == frame);
  loop().RunAndWait([&] { EXPECT_EQ(in_pipes_, 0U); });
}

// A pipe that is to be had again in the middle of a frame changes nothing: the frame's end and the
// next frame are where they were.
TEST_F(FramedClientTest, AFrameGoesOnAsItBegan) {
  opaque_ = {{16, 900000}};
  Connect({.peer = Here(), .piece_bytes = kPieceBytes});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  const std::string frame = test::Noise(900003);
  const std::string bytes = Framed(frame);
  // To the end of a piece, wherever the pieces begin, and to that of the opening.
  for (const size_t end : {4 + 16384 + kPieceBytes, 4 + 16384 + 4 * kPieceBytes}) {
    const uint64_t before = metrics_.received_bytes.Value();
    std::optional<NoDescriptors> none(std::in_place);
    peer.Write(bytes.substr(0, 4 + 16384));
    WaitForReceived(before + 4 + 16384);
    peer.Write(bytes.substr(4 + 16384, end - 4 - 16384));
    WaitForReceived(before + end);
    none.reset();
    std::jthread writer([&] { peer.Write(bytes.substr(end) + Framed("short")); });
    EXPECT_TRUE(witness_.Take().body == frame);
    EXPECT_EQ(witness_.Take().body, "short");
  }
}

// Where the other side takes nothing, what trickles in is put together before it is handed on.
TEST_F(FramedClientTest, BehindAFullPipePiecesAreFull) {
  constexpr size_t kDrop = 1000;
  constexpr size_t kDrops = 300;
  opaque_ = {{16, 900000}};
  hold_ = true;
  Connect({.peer = Here(), .piece_bytes = kPieceBytes});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  const std::string bytes = Framed(test::Noise(900003));
  size_t written = 400000;
  peer.Write(bytes.substr(0, written));
  WaitForReceived(written);
  size_t before = 0;
  loop().RunAndWait([&] {
    EXPECT_GT(in_pipes_, 0U);
    before = pieces_;
  });
  for (size_t i = 0; i < kDrops; ++i, written += kDrop) {
    peer.Write(bytes.substr(written, kDrop));
    WaitForReceived(written + kDrop);
  }
  loop().RunAndWait([&] { EXPECT_LE(pieces_ - before, kDrop * kDrops / kPieceBytes + 1); });
}

TEST_F(FramedClientTest, TellsOfAnEndBehindWhatWentThroughAPipe) {
  opaque_ = {{16, 900000}};
  Connect({.peer = Here(), .piece_bytes = kPieceBytes});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  const std::string frame = test::Noise(900003);
  peer.Write(Framed(frame).substr(0, 500000));
  peer.Close();
  EXPECT_THAT(WaitForClosed().message, HasSubstr("closed by the peer"));
  loop().RunAndWait([&] {
    EXPECT_GT(in_pipes_, 0U);
    EXPECT_TRUE(in_pieces_ == frame.substr(0, in_pieces_.size()));
    EXPECT_EQ(loop().pipes().idle(), 1U);
  });
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

// A listener whose queue is full does not answer any more.
class SilentListener {
 public:
  explicit SilentListener(const SocketAddress& at) : full_(socket(AF_INET, SOCK_STREAM, 0)) {
    EXPECT_EQ(bind(full_.fd(), at.get(), at.size()), 0);
    EXPECT_EQ(listen(full_.fd(), 0), 0);
    for (auto& waiting : waiting_) waiting = Socket::Connect(address(), {});
  }
  [[nodiscard]] SocketAddress address() const { return full_.LocalAddress(); }

 private:
  Socket full_;
  std::array<base::Result<Socket>, 2> waiting_;
};

TEST_F(FramedClientTest, GivesUpWhenNoConnectionComesInTime) {
  const SilentListener silent(*SocketAddress::FromIp("127.0.0.1", 0));
  Connect({.peer = {"127.0.0.1", silent.address().port()},
           .connect_timeout = std::chrono::milliseconds(20)});
  const base::Error error = WaitForClosed();
  EXPECT_EQ(error.code, base::Code::kTimeout);
  EXPECT_EQ(error.message, silent.address().ToString() + ": no connection in time");
}

TEST_F(FramedClientTest, OneOfANamesAddressesThatStaysSilentLeavesTimeForTheNext) {
  const SilentListener silent(*SocketAddress::FromIp("127.0.0.2", Here().port));
  // Many leave each of them a quarter of the time all the same.
  std::vector<std::string> hosts(50, "127.0.0.1");
  hosts.front() = "127.0.0.2";
  ResolveTo(hosts);
  const auto begun = std::chrono::steady_clock::now();
  Connect({.peer = {"several.test", Here().port}, .connect_timeout = std::chrono::seconds(4)});
  Send("sent before the connection stood");
  TestPeer peer = Accept();
  connected_.get_future().wait();
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(900));
  EXPECT_EQ(peer.ReadFrame(), "sent before the connection stood");
  EXPECT_EQ(closed_.get_future().wait_for(std::chrono::seconds(0)), std::future_status::timeout);
}

TEST_F(FramedClientTest, ANameWithSilentAddressesOnlyTakesNoLongerThanOneAddress) {
  const SilentListener silent(*SocketAddress::FromIp("127.0.0.2", 0));
  ResolveTo({"127.0.0.2", "127.0.0.2", "127.0.0.2"});
  const auto begun = std::chrono::steady_clock::now();
  Connect({.peer = {"several.test", silent.address().port()},
           .connect_timeout = std::chrono::milliseconds(60)});
  const base::Error error = WaitForClosed();
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(60));
  EXPECT_EQ(error.code, base::Code::kTimeout);
  EXPECT_THAT(error.message, HasSubstr("several.test"));
  EXPECT_THAT(error.message, HasSubstr(": no connection in time"));
}

TEST_F(FramedClientTest, TellsWhyTheLastOfANamesAddressesFailed) {
  const SilentListener silent(*SocketAddress::FromIp("127.0.0.2", Here().port));
  // Nobody listens there, and nobody else can have the port here.
  ResolveTo({"127.0.0.2", "127.0.0.3"});
  Connect({.peer = {"several.test", Here().port}, .connect_timeout = std::chrono::seconds(1)});
  const base::Error error = WaitForClosed();
  EXPECT_EQ(error.code, base::Code::kUnavailable);
  EXPECT_THAT(error.message, HasSubstr("several.test"));
  EXPECT_THAT(error.message, HasSubstr(": connect: Connection refused"));
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

TEST_F(FramedClientTest, TellsWhenItsQueueIsLongAndWhenItHasFallen) {
  Connect({.peer = Here(), .output_bytes_high = 1000, .send_buffer_bytes = 8192});
  TestPeer peer = Accept();
  connected_.get_future().wait();
  const std::string large(1000000, 'x');
  Send(large);
  witness_.WaitForEvent("high");
  EXPECT_TRUE(peer.ReadFrame() == large);
  witness_.WaitForEvent("low");
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
    client = std::make_unique<FramedClient>(loop(), *resolver_, metrics_,
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
    client = std::make_unique<FramedClient>(loop(), *resolver_, metrics_,
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
