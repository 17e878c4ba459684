#include "net/framed_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"
#include "tests/net/loopback.h"
#include "tests/net/no_descriptors.h"
#include "tests/support/noise.h"

namespace holdfast::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

using FramedServerTest = LoopbackTest;

// Answers with `noise` in parts, of which some lie in a pipe; and, to "wait", nothing yet.
class PipingSession final : public Session {
 public:
  PipingSession(Connection& connection, const std::string& noise, Witness& witness)
      : connection_(connection), noise_(noise), witness_(witness) {}

  void OnFrame(base::Buffer frame, Reply reply) override {
    if (frame.view() == "wait") {
      return witness_.Add({connection_.id(), std::string(frame.view()), std::move(reply)});
    }
    EXPECT_TRUE(connection_.sends_piped());
    const std::shared_ptr<Pipe> pipe = connection_.loop().pipes().Take();
    ASSERT_NE(pipe, nullptr);
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    std::string_view left(noise_);
    std::string head = Framed(noise_).substr(0, 4);
    while (left.size() > 2 * kPartBytes) {
      head += left.substr(0, kPartBytes);
      left.remove_prefix(kPartBytes);
      EXPECT_EQ(send(ends[0], left.data(), kPartBytes, 0), static_cast<ssize_t>(kPartBytes));
      size_t piped = 0;
      while (piped < kPartBytes) {
        const IoOutcome filled = pipe->Fill(ends[1], kPartBytes - piped);
        ASSERT_EQ(filled.kind, IoOutcome::Kind::kDone);
        piped += filled.bytes;
      }
      left.remove_prefix(kPartBytes);
      std::vector<base::Buffer> part;
      part.push_back(base::Buffer::Copy(std::exchange(head, std::string())));
      reply.SendPart(std::move(part), {.pipe = pipe, .bytes = kPartBytes});
    }
    reply.Send(base::Buffer::Copy(left));
    close(ends[0]);
    close(ends[1]);
    witness_.Note("answered");
  }
  void OnClosed() override { witness_.Note("closed"); }

  static constexpr size_t kPartBytes = 10000;

 private:
  Connection& connection_;
  const std::string& noise_;
  Witness& witness_;
};

TEST_F(FramedServerTest, EchoesFramesOfManyConnections) {
  const auto server = ServeEcho();
  std::vector<TestPeer> peers;
  for (int i = 0; i < 10; ++i) peers.emplace_back(server->local_address());
  for (size_t i = 0; i < peers.size(); ++i) peers[i].Write(Framed("hello " + std::to_string(i)));
  for (size_t i = 0; i < peers.size(); ++i)
    EXPECT_EQ(peers[i].ReadFrame(), "hello " + std::to_string(i));
  EXPECT_EQ(server->connections(), 10U);
  EXPECT_EQ(metrics_.connections.Value(), 10);
  EXPECT_EQ(metrics_.received_frames.Value(), 10U);
  EXPECT_EQ(metrics_.sent_frames.Value(), 10U);
}

// Tells a peer by which addresses it came.
class AddressesSession final : public Session {
 public:
  explicit AddressesSession(Connection& connection) : connection_(connection) {}
  void OnFrame(base::Buffer, Reply reply) override {
    reply.SendBody(
        base::Buffer::Copy(connection_.peer().host() + " " + connection_.local().host()));
  }

 private:
  Connection& connection_;
};

TEST_F(FramedServerTest, AnIpv4PeerOfAListenerForBothIsKnownByItsIpv4Address) {
  const auto server = FramedServer::Listen(
      {.listen = {"::", 0}}, {.acceptor = acceptor_->loop(), .workers = {&first_->loop()}}, budget_,
      metrics_,
      [](Connection& connection) { return std::make_unique<AddressesSession>(connection); });
  if (!server) GTEST_SKIP() << "no IPv6 here: " << server.error().message;
  TestPeer peer(*SocketAddress::FromIp("127.0.0.1", (*server)->local_address().port()));
  if (!peer.connected()) GTEST_SKIP() << "this host keeps IPv4 off sockets of IPv6";
  peer.Write(Framed("who am I?"));
  EXPECT_EQ(peer.ReadFrame(), "127.0.0.1 127.0.0.1");
}

TEST_F(FramedServerTest, AnswersLeaveInTheOrderOfRequestsWhateverTheOrderOfCompletion) {
  const auto server = ServeWitnessed();
  TestPeer peer(server->local_address());
  peer.Write(Framed("a") + Framed("b") + Framed("c") + Framed("d"));
  auto a = witness_.Take();
  auto b = witness_.Take();
  auto c = witness_.Take();
  auto d = witness_.Take();
  d.reply.SendBody(base::Buffer::Copy("D"));
  b.reply.SendNothing();
  c.reply.Send(base::Buffer::Copy(Framed("C")));
  LetLoopsTurn();
  std::vector<base::Buffer> pieces;
  pieces.push_back(base::Buffer::Copy(Framed("A+").substr(0, 5)));
  pieces.push_back(base::Buffer::Copy("+"));
  a.reply.Send(std::move(pieces));
  EXPECT_EQ(peer.ReadFrame(), "A+");
  EXPECT_EQ(peer.ReadFrame(), "C");
  EXPECT_EQ(peer.ReadFrame(), "D");
}

TEST_F(FramedServerTest, AFrameMayBeSplitAtEveryByte) {
  const auto server = ServeEcho();
  TestPeer peer(server->local_address());
  const std::string frames = Framed("first") + Framed("") + Framed("third one");
  for (size_t cut = 1; cut < frames.size(); ++cut) {
    peer.Write(frames.substr(0, cut));
    LetLoopsTurn();
    peer.Write(frames.substr(cut));
    ASSERT_EQ(peer.ReadFrame(), "first") << cut;
    ASSERT_EQ(peer.ReadFrame(), "") << cut;
    ASSERT_EQ(peer.ReadFrame(), "third one") << cut;
  }
}

TEST_F(FramedServerTest, FramesOfAllSizesArriveWhole) {
  const auto server = ServeEcho({.requests_in_flight_max = 3});
  TestPeer peer(server->local_address());
  base::Random random(11);
  std::vector<std::string> bodies;
  for (int i = 0; i < 300; ++i) {
    const size_t size = i % 20 == 0 ? random.Below(400000) : random.Below(3000);
    std::string body(size, '\0');
    for (char& byte : body) byte = static_cast<char>(random());
    bodies.push_back(std::move(body));
  }
  std::jthread writer([&] {
    for (const std::string& body : bodies) peer.Write(Framed(body));
  });
  for (const std::string& body : bodies) ASSERT_TRUE(peer.ReadFrame() == body);
}

TEST_F(FramedServerTest, AnImpossibleLengthClosesThatConnectionAndNoOther) {
  const auto server = ServeEcho({.frame_bytes_max = 1000});
  TestPeer good(server->local_address());
  for (const std::string& bad :
       {std::string("\xff\xff\xff\xff", 4), std::string("\x7f\xff\xff\xff", 4),
        std::string("\0\0\x03\xe9", 4), std::string("GET / HTTP/1.1\r\n\r\n")}) {
    TestPeer peer(server->local_address());
    peer.Write(bad);
    EXPECT_TRUE(peer.AtEnd());
  }
  EXPECT_EQ(Closed("bad_length"), 4U);
  EXPECT_EQ(budget_.used(), 0U);
  good.Write(Framed(std::string(1000, 'x')));
  EXPECT_EQ(good.ReadFrame(), std::string(1000, 'x'));
}

// Awaits a login after each frame but that of the login. Answers what is not empty.
class LoginSession final : public Session {
 public:
  explicit LoginSession(Connection& connection) : connection_(connection) {
    connection_.AwaitLogin(kBytesMax);
  }
  void OnFrame(base::Buffer frame, Reply reply) override {
    connection_.AwaitLogin(frame.view() == "login" ? std::nullopt : std::optional(kBytesMax));
    if (frame.empty()) return reply.SendNothing();
    reply.SendBody(std::move(frame));
  }

 private:
  static constexpr size_t kBytesMax = 100;
  Connection& connection_;
};

TEST_F(FramedServerTest, FramesAreSmallWhileALoginIsAwaited) {
  const auto server =
      Serve({}, [](Connection& connection) { return std::make_unique<LoginSession>(connection); });
  for (const size_t size : {size_t{101}, size_t{100000}}) {
    TestPeer peer(server->local_address());
    const std::string fits(100, 'x');
    peer.Write(Framed(fits));
    EXPECT_EQ(peer.ReadFrame(), fits);
    // The rest is not waited for.
    peer.Write(Framed(std::string(size, 'x')).substr(0, 20000));
    EXPECT_TRUE(peer.AtEnd());
    EXPECT_EQ(budget_.used(), 0U);
  }
  EXPECT_EQ(Closed("bad_length"), 2U);
  TestPeer peer(server->local_address());
  const std::string large(100000, 'x');
  peer.Write(Framed("login") + Framed(large));
  EXPECT_EQ(peer.ReadFrame(), "login");
  EXPECT_EQ(peer.ReadFrame(), large);
}

TEST_F(FramedServerTest, WhoDoesNotLogInInTimeIsClosed) {
  auto server = Serve({.login_timeout = milliseconds(100)}, [](Connection& connection) {
    return std::make_unique<LoginSession>(connection);
  });
  // What is written is there before any of them is accepted, and so in time.
  std::promise<void> written;
  acceptor_->loop().Post([done = written.get_future()] { done.wait(); });
  TestPeer known(server->local_address());
  known.Write(Framed("login"));
  TestPeer talks(server->local_address());
  TestPeer silent(server->local_address());  // Of the same loop as `known`.
  written.set_value();
  std::jthread talk([&talks] {
    while (talks.TryWrite('\0')) {
    }
  });
  EXPECT_TRUE(silent.AtEnd());
  const auto limit = std::chrono::steady_clock::now() + seconds(10);
  while (Closed("no_login") < 2 && std::chrono::steady_clock::now() < limit) {
  }
  EXPECT_EQ(Closed("no_login"), 2U);
  EXPECT_EQ(known.ReadFrame(), "login");
  known.Write(Framed("login"));
  EXPECT_EQ(known.ReadFrame(), "login");
  server.reset();  // Ends the talk in any case.
}

TEST_F(FramedServerTest, NoMoreThanTheLimitOfRequestsIsInFlight) {
  const auto server = ServeWitnessed({.requests_in_flight_max = 4});
  TestPeer peer(server->local_address());
  std::string all;
  for (int i = 0; i < 10; ++i) all += Framed(std::to_string(i));
  peer.Write(all);
  witness_.WaitForRequests(4);
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 4U);
  witness_.Take().reply.SendBody(base::Buffer::Copy("0"));
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 4U) << "it goes on when half are answered";
  witness_.Take().reply.SendBody(base::Buffer::Copy("1"));
  witness_.WaitForRequests(6);
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 6U);
  for (int i = 2; i < 10; ++i) {
    auto request = witness_.Take();
    EXPECT_EQ(request.body, std::to_string(i));
    request.reply.SendBody(base::Buffer::Copy(request.body));
  }
  for (int i = 0; i < 10; ++i) EXPECT_EQ(peer.ReadFrame(), std::to_string(i));
}

TEST_F(FramedServerTest, AFrameWithoutMemoryWaitsUntilThereIsSome) {
  const auto server = ServeWitnessed();
  const std::string large(700000, 'x');  // Of a budget of 1 MiB.
  TestPeer first(server->local_address());
  first.Write(Framed(large));
  auto held = witness_.Take();
  TestPeer second(server->local_address());
  std::jthread writer([&] { second.Write(Framed(large)); });
  while (!budget_.HasWaiters()) LetLoopsTurn();
  TestPeer third(server->local_address());
  third.Write(Framed("small"));
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 1U) << "nobody overtakes";
  held.reply.SendBody(base::Buffer::Copy("done"));
  EXPECT_EQ(first.ReadFrame(), "done");
  auto next = witness_.Take();
  EXPECT_EQ(next.body.size(), large.size());
  next.reply.SendBody(base::Buffer::Copy("too"));
  EXPECT_EQ(second.ReadFrame(), "too");
  witness_.Take().reply.SendBody(base::Buffer::Copy("three"));
  EXPECT_EQ(third.ReadFrame(), "three");
  EXPECT_EQ(budget_.used(), 0U);
}

TEST_F(FramedServerTest, AFrameThatIsOnlyAnnouncedTakesNoMemoryFromOthers) {
  const auto server = ServeEcho();
  const std::string whole = Framed(std::string(budget_.limit(), 'x'));
  std::vector<TestPeer> silent;
  for (const size_t sent : {size_t{4}, size_t{5}, size_t{16383}}) {
    silent.emplace_back(server->local_address());
    silent.back().Write(std::string_view(whole).substr(0, sent));
  }
  TestPeer honest(server->local_address());
  for (const size_t size : {size_t{1}, size_t{16385}, budget_.limit()}) {
    const std::string body(size, 'y');
    std::jthread writer([&] { honest.Write(Framed(body)); });
    EXPECT_EQ(honest.ReadFrame(), body);
  }
}

TEST_F(FramedServerTest, AFrameLargerThanTheBudgetPassesAlone) {
  const auto server = ServeEcho();
  TestPeer peer(server->local_address());
  const std::string larger(budget_.limit() + 1, 'x');
  std::jthread writer([&] { peer.Write(Framed(larger)); });
  EXPECT_EQ(peer.ReadFrame().size(), larger.size());
  EXPECT_EQ(budget_.used(), 0U);
}

TEST_F(FramedServerTest, MemoryIsGivenBackWhenItsWaiterHasGone) {
  const auto server = ServeWitnessed();
  const std::string large(700000, 'x');
  TestPeer first(server->local_address());
  first.Write(Framed(large));
  auto held = witness_.Take();
  {
    TestPeer second(server->local_address());
    second.Write(Framed(large).substr(0, 20000));
    while (!budget_.HasWaiters()) LetLoopsTurn();
    second.Reset();
  }
  held.reply.SendBody(base::Buffer::Copy("done"));
  EXPECT_EQ(first.ReadFrame(), "done");
  first.Write(Framed("again"));
  witness_.Take().reply.SendNothing();
  while (budget_.used() != 0) LetLoopsTurn();
}

TEST_F(FramedServerTest, APeerThatDoesNotReadItsAnswersIsNotReadFurther) {
  const auto server = ServeWitnessed({.output_bytes_high = 65536, .send_buffer_bytes = 8192});
  TestPeer peer(server->local_address(), 8192);
  const std::string answer(2000000, 'y');
  peer.Write(Framed("1"));
  witness_.Take().reply.SendBody(base::Buffer::Copy(answer));
  witness_.WaitForEvent("high");
  peer.Write(Framed("2"));
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 1U);
  EXPECT_TRUE(peer.ReadFrame() == answer);
  witness_.WaitForEvent("low");
  witness_.Take().reply.SendBody(base::Buffer::Copy("two"));
  EXPECT_EQ(peer.ReadFrame(), "two");
}

// Answers each frame at once with as many bytes as it says, but for "hold", which waits.
class LavishSession final : public Session {
 public:
  struct Seen {
    std::atomic<int> frames = 0;
    std::atomic<int> in_a_turn_max = 0;
  };
  LavishSession(Connection& connection, Witness& witness, Seen& seen)
      : connection_(connection), witness_(witness), seen_(seen) {}

  void OnFrame(base::Buffer frame, Reply reply) override {
    if (frame.view() == "hold") return witness_.Add({connection_.id(), "hold", std::move(reply)});
    const base::TimePoint turn = connection_.loop().Now();
    in_turn_ = turn == turn_ ? in_turn_ + 1 : 1;
    turn_ = turn;
    seen_.in_a_turn_max = std::max(seen_.in_a_turn_max.load(), in_turn_);
    ++seen_.frames;
    reply.SendBody(base::Buffer::Copy(std::string(std::stoul(std::string(frame.view())), 'y')));
  }
  void OnOutputHigh() override { witness_.Note("high"); }

 private:
  Connection& connection_;
  Witness& witness_;
  Seen& seen_;
  base::TimePoint turn_;
  int in_turn_ = 0;
};

TEST_F(FramedServerTest, ManyRequestsAtOnceAreNotAnsweredForAPeerThatDoesNotRead) {
  LavishSession::Seen seen;
  const auto server = Serve({.send_buffer_bytes = 8192}, [&](Connection& connection) {
    return std::make_unique<LavishSession>(connection, witness_, seen);
  });
  TestPeer peer(server->local_address(), 8192);
  std::string all;
  for (int i = 0; i < 100; ++i) all += Framed("1000000");
  peer.Write(all);
  witness_.WaitForEvent("high");
  LetLoopsTurn();
  EXPECT_LE(seen.frames, 3);
  // What was read ahead is not forgotten.
  for (int i = 0; i < 100; ++i) ASSERT_EQ(peer.ReadFrame().size(), 1000000U) << i;
  EXPECT_EQ(seen.frames, 100);
}

TEST_F(FramedServerTest, ATurnMakesNoMoreAnswersThanMayWait) {
  LavishSession::Seen seen;
  const auto server = Serve({.output_bytes_high = 10000}, [&](Connection& connection) {
    return std::make_unique<LavishSession>(connection, witness_, seen);
  });
  TestPeer peer(server->local_address());
  std::string all;
  for (int i = 0; i < 300; ++i) all += Framed(i % 50 == 0 ? "20000" : "1000");
  all += Framed(std::string(30000, '0') + "1000");  // Read to its place.
  peer.Write(all);
  for (int i = 0; i < 301; ++i)
    ASSERT_EQ(peer.ReadFrame().size(), i < 300 && i % 50 == 0 ? 20000U : 1000U) << i;
  EXPECT_LE(seen.in_a_turn_max, 10);
  EXPECT_EQ(seen.frames, 301);
}

TEST_F(FramedServerTest, BehindASlowAnswerThereAreNoMoreThanMayWait) {
  LavishSession::Seen seen;
  const auto server = Serve({.output_bytes_high = 65536}, [&](Connection& connection) {
    return std::make_unique<LavishSession>(connection, witness_, seen);
  });
  TestPeer peer(server->local_address());
  std::string all;
  for (int i = 0; i < 40; ++i) all += Framed("hold") + Framed("60000");
  peer.Write(all);
  for (int i = 0; i < 40; ++i) {
    auto held = witness_.Take();
    LetLoopsTurn();
    EXPECT_LE(seen.frames, i + 2);
    held.reply.SendBody(base::Buffer::Copy("held"));
    ASSERT_EQ(peer.ReadFrame(), "held");
    ASSERT_EQ(peer.ReadFrame().size(), 60000U);
  }
  EXPECT_EQ(seen.frames, 40);
}

// Frames that begin with "long" are to come alone.
class PatientSession final : public Session {
 public:
  PatientSession(Connection& connection, Witness& witness)
      : connection_(connection), witness_(witness) {}
  bool WaitsForAnswers(std::string_view frame) const override { return frame.starts_with("long"); }
  void OnFrame(base::Buffer frame, Reply reply) override {
    witness_.Add({connection_.id(), std::string(frame.view()), std::move(reply)});
  }

 private:
  Connection& connection_;
  Witness& witness_;
};

TEST_F(FramedServerTest, AFrameMayWaitForTheAnswersBeforeIt) {
  const auto server = Serve({.send_buffer_bytes = 8192}, [&](Connection& connection) {
    return std::make_unique<PatientSession>(connection, witness_);
  });
  TestPeer peer(server->local_address(), 8192);
  const std::string longest = "long" + std::string(30000, 'x');
  const std::string answer(3000000, 'y');
  peer.Write(Framed("1") + Framed("2") + Framed("long") + Framed("3") + Framed(longest));
  auto first = witness_.Take();
  witness_.Take().reply.SendBody(base::Buffer::Copy("two"));
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 2U);
  first.reply.SendBody(base::Buffer::Copy("one"));
  auto second = witness_.Take();
  EXPECT_EQ(second.body, "long");
  auto third = witness_.Take();
  EXPECT_EQ(third.body, "3") << "which does not wait";
  third.reply.SendBody(base::Buffer::Copy("three"));
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 4U);
  second.reply.SendBody(base::Buffer::Copy(answer));
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 4U) << "the answer has not left";
  EXPECT_EQ(peer.ReadFrame(), "one");
  EXPECT_EQ(peer.ReadFrame(), "two");
  EXPECT_TRUE(peer.ReadFrame() == answer);
  EXPECT_EQ(peer.ReadFrame(), "three");
  auto last = witness_.Take();
  EXPECT_TRUE(last.body == longest);
  last.reply.SendBody(base::Buffer::Copy("last"));
  EXPECT_EQ(peer.ReadFrame(), "last");
  EXPECT_EQ(budget_.used(), 0U);
}

TEST_F(FramedServerTest, AFrameThatWaitsForAnswersIsNotTakenInADrain) {
  const auto server = Serve({}, [&](Connection& connection) {
    return std::make_unique<PatientSession>(connection, witness_);
  });
  TestPeer peer(server->local_address());
  peer.Write(Framed("1") + Framed("long"));
  auto first = witness_.Take();
  LetLoopsTurn();
  std::promise<void> drained;
  server->Drain(seconds(30), [&] { drained.set_value(); });
  LetLoopsTurn();
  first.reply.SendBody(base::Buffer::Copy("one"));
  EXPECT_EQ(peer.ReadFrame(), "one");
  EXPECT_TRUE(peer.AtEnd());
  peer.Close();
  drained.get_future().wait();
  EXPECT_EQ(witness_.received(), 1U);
  EXPECT_EQ(budget_.used(), 0U);
}

// A peer that takes little at a time.
TEST_F(FramedServerTest, PartsInPipesLeaveInTheirPlaces) {
  const std::string noise = test::Noise(205000);
  const auto server = Serve({.send_buffer_bytes = 8192}, [&](Connection& connection) {
    return std::make_unique<PipingSession>(connection, noise, witness_);
  });
  TestPeer peer(server->local_address(), 8192);
  peer.Write(Framed("1") + Framed("wait") + Framed("2") + Framed("3"));
  auto held = witness_.Take();
  EXPECT_TRUE(peer.ReadFrame() == noise);
  LetLoopsTurn();
  held.reply.SendBody(base::Buffer::Copy("waited"));
  EXPECT_EQ(peer.ReadFrame(), "waited");
  EXPECT_TRUE(peer.ReadFrame() == noise);
  EXPECT_TRUE(peer.ReadFrame() == noise);
  LetLoopsTurn();
  EXPECT_EQ(metrics_.sent_frames.Value(), 4U);
  EXPECT_EQ(metrics_.sent_bytes.Value(), 3 * noise.size() + 6 + 4 * 4);
  EXPECT_GT(IdlePipes(), 0U);
}

TEST_F(FramedServerTest, APipeWithWhatAPeerLeftInItIsNotUsedAgain) {
  const std::string noise = test::Noise(205000);
  const auto server = Serve({.send_buffer_bytes = 8192}, [&](Connection& connection) {
    return std::make_unique<PipingSession>(connection, noise, witness_);
  });
  {
    TestPeer peer(server->local_address(), 8192);
    peer.Write(Framed("1"));
    EXPECT_TRUE(peer.Read(30000) == Framed(noise).substr(0, 30000));
    peer.Reset();
  }
  witness_.WaitForEvent("closed");
  LetLoopsTurn();
  EXPECT_EQ(IdlePipes(), 0U);
  TestPeer peer(server->local_address());
  peer.Write(Framed("1"));
  EXPECT_TRUE(peer.ReadFrame() == noise);
}

TEST_F(FramedServerTest, AnIdleConnectionIsClosedAndABusyOneIsNot) {
  const auto server = ServeWitnessed({.idle_timeout = milliseconds(100)});
  // What is written is there before any of them is accepted, and so in time.
  std::promise<void> written;
  acceptor_->loop().Post([done = written.get_future()] { done.wait(); });
  TestPeer busy(server->local_address());
  busy.Write(Framed("take your time"));
  TestPeer idle(server->local_address());
  TestPeer half(server->local_address());
  half.Write(Framed("never complete").substr(0, 6));
  written.set_value();
  auto request = witness_.Take();
  EXPECT_TRUE(idle.AtEnd());
  EXPECT_TRUE(half.AtEnd());
  EXPECT_EQ(Closed("idle"), 1U);
  EXPECT_EQ(Closed("stalled"), 1U);
  request.reply.SendBody(base::Buffer::Copy("ok"));
  EXPECT_EQ(busy.ReadFrame(), "ok");
}

TEST_F(FramedServerTest, APeerThatDoesNotReadIsNotTakenForGone) {
  const auto server =
      ServeEcho({.acknowledge_timeout = milliseconds(50), .send_buffer_bytes = 16384});
  TestPeer peer(server->local_address(), 4096);
  const std::string large(500000, 'x');
  peer.Write(Framed(large));
  for (int i = 0; i < 3; ++i) Lull();
  EXPECT_EQ(server->connections(), 1U);
  EXPECT_TRUE(peer.ReadFrame() == large);
}

// Be it under way to the peer, or waiting for room there.
TEST_F(FramedServerTest, APeerWhosePacketsAreDroppedIsTakenForGone) {
  for (const bool has_room : {true, false}) {
    const auto server =
        ServeWitnessed({.acknowledge_timeout = milliseconds(500), .send_buffer_bytes = 16384});
    TestPeer peer(server->local_address(), 4096);
    peer.Write(Framed("hello"));
    auto request = witness_.Take();
    const auto drop = [&] {
      sock_filter nothing{.code = BPF_RET | BPF_K, .jt = 0, .jf = 0, .k = 0};
      const sock_fprog filter{.len = 1, .filter = &nothing};
      EXPECT_EQ(setsockopt(peer.fd(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)), 0);
    };
    if (has_room) drop();
    request.reply.SendBody(base::Buffer(500000));
    if (!has_room) {
      LetLoopsTurn();
      drop();
    }
    while (server->connections() > 0) Lull();
    EXPECT_EQ(Closed("error"), has_room ? 1U : 2U);
  }
}

TEST_F(FramedServerTest, AFrameThatTricklesInDoesNotKeepOthersFromMemoryForEver) {
  const auto server = ServeEcho({.idle_timeout = milliseconds(500)});
  TestPeer slow(server->local_address());
  slow.Write(Framed(std::string(200000, 'x')).substr(0, 20000));
  while (budget_.used() == 0) LetLoopsTurn();
  TestPeer other(server->local_address());
  const std::string large(budget_.limit() - 100000, 'y');
  std::jthread writer([&] { other.Write(Framed(large)); });
  while (slow.TryWrite('x')) LetLoopsTurn();
  EXPECT_TRUE(other.ReadFrame() == large);
  EXPECT_EQ(Closed("stalled"), 1U);
}

TEST_F(FramedServerTest, ConnectionsPastTheLimitAreClosed) {
  const auto server = ServeEcho({.connections_max = 1});
  TestPeer first(server->local_address());
  first.Write(Framed("1"));
  EXPECT_EQ(first.ReadFrame(), "1");
  TestPeer second(server->local_address());
  EXPECT_TRUE(second.AtEnd());
  EXPECT_EQ(Closed("too_many"), 1U);
  first.Close();
  while (server->connections() > 0) LetLoopsTurn();
  TestPeer third(server->local_address());
  third.Write(Framed("3"));
  EXPECT_EQ(third.ReadFrame(), "3");
}

TEST_F(FramedServerTest, GoesOnAcceptingWhenDescriptorsAreThereAgain) {
  const auto server = ServeEcho();
  const SocketAddress to = server->local_address();
  const metrics::Counter& errors = metrics_.accept_errors;
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  std::optional<NoDescriptors> none(std::in_place);
  // Nothing here may need a descriptor, and UBSan does when it first sees a virtual class.
  const int connected = connect(client, to.get(), to.size());
  while (connected == 0 && errors.Value() == 0) std::this_thread::yield();
  none.reset();
  ASSERT_EQ(connected, 0);
  TestPeer peer(client);
  peer.Write(Framed("still here"));
  EXPECT_EQ(peer.ReadFrame(), "still here");
}

TEST_F(FramedServerTest, DrainAnswersWhatIsInFlightAndThenCloses) {
  auto server = ServeWitnessed();
  TestPeer idle(server->local_address());
  TestPeer busy(server->local_address());
  busy.Write(Framed("1") + Framed("2"));
  auto first = witness_.Take();
  auto second = witness_.Take();
  std::promise<void> drained;
  server->Drain(seconds(30), [&] { drained.set_value(); });
  EXPECT_TRUE(idle.AtEnd());
  idle.Close();
  EXPECT_FALSE(TestPeer(server->local_address()).connected());
  LetLoopsTurn();
  busy.Write(Framed("too late"));
  LetLoopsTurn();
  second.reply.SendBody(base::Buffer::Copy("two"));
  first.reply.SendBody(base::Buffer::Copy("one"));
  EXPECT_EQ(busy.ReadFrame(), "one");
  EXPECT_EQ(busy.ReadFrame(), "two");
  EXPECT_TRUE(busy.AtEnd());
  busy.Close();
  drained.get_future().wait();
  EXPECT_EQ(witness_.received(), 2U);
  EXPECT_EQ(server->connections(), 0U);
}

TEST_F(FramedServerTest, DrainCutsOffWhatIsNotDoneInTime) {
  auto server = ServeWitnessed();
  TestPeer peer(server->local_address());
  peer.Write(Framed("1"));
  auto request = witness_.Take();
  std::promise<void> drained;
  server->Drain(milliseconds(10), [&] { drained.set_value(); });
  drained.get_future().wait();
  EXPECT_TRUE(peer.AtEnd());
  request.reply.SendBody(base::Buffer::Copy("in vain"));
}

TEST_F(FramedServerTest, AReplyMayCloseAfterTheAnswersBeforeIt) {
  const auto server = ServeWitnessed();
  TestPeer peer(server->local_address());
  peer.Write(Framed("1") + Framed("2") + Framed("3"));
  auto first = witness_.Take();
  witness_.Take().reply.Close("malformed request");
  witness_.Take().reply.SendBody(base::Buffer::Copy("three"));
  LetLoopsTurn();
  first.reply.SendBody(base::Buffer::Copy("one"));
  EXPECT_EQ(peer.ReadFrame(), "one");
  EXPECT_TRUE(peer.AtEnd());
}

TEST_F(FramedServerTest, WhatComesBehindTheEndIsNotTaken) {
  const auto server = ServeWitnessed();
  TestPeer peer(server->local_address());
  peer.Write(Framed("1") + Framed("2"));
  auto first = witness_.Take();
  witness_.Take().reply.Close("enough");
  LetLoopsTurn();
  peer.Write(Framed("3"));
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 2U);
  first.reply.SendBody(base::Buffer::Copy("one"));
  EXPECT_EQ(peer.ReadFrame(), "one");
  EXPECT_TRUE(peer.AtEnd());
}

TEST_F(FramedServerTest, AReplyDestroyedUnansweredClosesTheConnection) {
  const auto server = ServeWitnessed();
  TestPeer peer(server->local_address());
  peer.Write(Framed("1"));
  { const auto lost = witness_.Take(); }
  EXPECT_TRUE(peer.AtEnd());
  EXPECT_EQ(Closed("lost_reply"), 1U);
}

TEST_F(FramedServerTest, RepliesToAConnectionThatHasGoneAreDropped) {
  auto server = ServeWitnessed();
  TestPeer peer(server->local_address());
  peer.Write(Framed("1") + Framed("2"));
  auto first = witness_.Take();
  auto second = witness_.Take();
  peer.Reset();
  witness_.WaitForEvent("destroyed");
  first.reply.SendBody(base::Buffer::Copy("in vain"));
  server.reset();
  second.reply.SendBody(base::Buffer::Copy("even more so"));
  EXPECT_EQ(budget_.used(), 0U);
}

TEST_F(FramedServerTest, SessionsAreToldAndGoneWhenTheServerIs) {
  auto server = ServeWitnessed();
  TestPeer peer(server->local_address());
  peer.Write(Framed("1"));
  auto request = witness_.Take();
  server.reset();
  witness_.WaitForEvent("closed");
  witness_.WaitForEvent("destroyed");
  EXPECT_TRUE(peer.AtEnd());
  EXPECT_EQ(metrics_.connections.Value(), 0);
  request.reply.SendNothing();
}

TEST_F(FramedServerTest, TheServerMayGoAfterItsLoopsHaveEnded) {
  auto server = ServeWitnessed();
  TestPeer peer(server->local_address());
  peer.Write(Framed("1"));
  auto request = witness_.Take();
  for (LoopThread* thread : {acceptor_.get(), first_.get(), second_.get()}) thread->Stop();
  request.reply.SendNothing();
  server.reset();
  EXPECT_TRUE(peer.AtEnd());
}

TEST_F(FramedServerTest, APausedSessionGetsNoFramesUntilItResumes) {
  Connection* connection = nullptr;
  std::promise<void> made;
  const auto server = Serve({}, [&](Connection& here) {
    connection = &here;
    here.Pause();
    made.set_value();
    return std::make_unique<WitnessedSession>(here, witness_);
  });
  TestPeer peer(server->local_address());
  peer.Write(Framed("1"));
  made.get_future().wait();
  LetLoopsTurn();
  EXPECT_EQ(witness_.received(), 0U);
  connection->loop().RunAndWait([&] { connection->Resume(); });
  witness_.Take().reply.SendBody(base::Buffer::Copy("one"));
  EXPECT_EQ(peer.ReadFrame(), "one");
}

TEST_F(FramedServerTest, ASessionMayCloseItsConnectionFromInsideACall) {
  class Closer final : public Session {
   public:
    explicit Closer(Connection& connection) : connection_(connection) {}
    void OnFrame(base::Buffer frame, Reply reply) override {
      reply.SendBody(std::move(frame));
      connection_.Close("enough");
    }

   private:
    Connection& connection_;
  };
  const auto server =
      Serve({}, [](Connection& connection) { return std::make_unique<Closer>(connection); });
  TestPeer peer(server->local_address());
  peer.Write(Framed("1") + Framed("2"));
  EXPECT_TRUE(peer.AtEnd());
  EXPECT_EQ(Closed("session"), 1U);
}

TEST_F(FramedServerTest, RepliesOfOtherThreadsArriveInOrder) {
  const auto server = ServeWitnessed();
  constexpr int kRequests = 3000;
  std::vector<std::jthread> answerers;
  for (int i = 0; i < 3; ++i) {
    answerers.emplace_back([this] {
      while (true) {
        auto request = witness_.Take();
        if (request.body == "end") return request.reply.SendNothing();
        request.reply.SendBody(base::Buffer::Copy(request.body));
      }
    });
  }
  std::vector<std::jthread> peers;
  for (int i = 0; i < 3; ++i) {
    peers.emplace_back([&, i] {
      TestPeer peer(server->local_address());
      std::jthread writer([&] {
        for (int n = 0; n < kRequests; ++n) peer.Write(Framed(std::to_string(i * 10000 + n)));
      });
      for (int n = 0; n < kRequests; ++n)
        ASSERT_EQ(peer.ReadFrame(), std::to_string(i * 10000 + n));
    });
  }
  peers.clear();
  TestPeer last(server->local_address());
  for (int i = 0; i < 3; ++i) last.Write(Framed("end"));
  answerers.clear();
}

TEST_F(FramedServerTest, AnAddressInUseIsAnErrorThatNamesIt) {
  const auto server = ServeEcho();
  const uint16_t port = server->local_address().port();
  const auto second =
      FramedServer::Listen({.listen = {"127.0.0.1", port}},
                           {.acceptor = acceptor_->loop(), .workers = {&first_->loop()}}, budget_,
                           metrics_, [](Connection&) { return std::make_unique<EchoSession>(); });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message, "cannot listen on 127.0.0.1:" + std::to_string(port) +
                                        ": bind: Address already in use");
}

}  // namespace
}  // namespace holdfast::net
