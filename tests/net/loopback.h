// What the tests of this folder share: loops with metrics, a blocking client without any of the
// code under test, and a session that hands every request to the test.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <ctime>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/endian.h"
#include "metrics/catalogue.h"
#include "net/event_loop.h"
#include "net/framed_server.h"

namespace holdfast::net {

inline std::string Framed(std::string_view body) {
  std::string frame(4, '\0');
  base::StoreBig(frame.data(), static_cast<int32_t>(body.size()));
  return frame.append(body);
}

// A blocking TCP connection. A read that waits for more than ten seconds fails the test.
class TestPeer {
 public:
  explicit TestPeer(int fd) : fd_(fd) {
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    // What is written is at the other side at once.
    const int now = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &now, sizeof(now));
  }
  // A small receive_bytes makes a peer that soon cannot take more.
  explicit TestPeer(const SocketAddress& to, int receive_bytes = 0)
      : TestPeer(socket(to.family(), SOCK_STREAM, 0)) {
    if (receive_bytes > 0)
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    connected_ = connect(fd_, to.get(), to.size()) == 0;
  }
  TestPeer(TestPeer&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}
  ~TestPeer() { Close(); }

  [[nodiscard]] bool connected() const { return connected_; }
  [[nodiscard]] int fd() const { return fd_; }

  void Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      ASSERT_GT(written, 0);
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }
  // False once the other side has closed.
  bool TryWrite(char byte) { return send(fd_, &byte, 1, MSG_NOSIGNAL) == 1; }
  // Fewer bytes only at the end of the stream.
  std::string Read(size_t size) {
    std::string bytes(size, '\0');
    size_t filled = 0;
    while (filled < size) {
      const ssize_t got = recv(fd_, bytes.data() + filled, size - filled, 0);
      if (got <= 0) {
        EXPECT_EQ(got, 0) << "read: " << strerror(errno);
        break;
      }
      filled += static_cast<size_t>(got);
    }
    bytes.resize(filled);
    return bytes;
  }
  std::string ReadFrame() {
    const std::string header = Read(4);
    if (header.size() < 4) return "<end>";
    return Read(static_cast<size_t>(base::LoadBig<int32_t>(header.data())));
  }
  // True if nothing but the end comes, be it orderly or a reset.
  bool AtEnd() {
    char byte;
    const ssize_t got = recv(fd_, &byte, 1, 0);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }
  // The other side sees a reset.
  void Reset() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    Close();
  }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
  bool connected_ = false;
};

// Takes what sessions see, for a test that waits for it.
class Witness {
 public:
  struct Request {
    uint64_t connection;
    std::string body;
    Reply reply;
  };

  void Add(Request request) {
    const std::lock_guard lock(mutex_);
    requests_.push_back(std::move(request));
    ++received_;
    changed_.notify_all();
  }
  void Note(std::string event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    changed_.notify_all();
  }

  // The oldest request that was not taken yet.
  Request Take() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(10), [this] { return !requests_.empty(); })) {
      ADD_FAILURE() << "no request came";
      return {};
    }
    Request first = std::move(requests_.front());
    requests_.erase(requests_.begin());
    return first;
  }
  void WaitForRequests(size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(10),
                                  [this, count] { return received_ >= count; }))
        << received_ << " of " << count << " requests came";
  }
  void WaitForEvent(std::string_view event) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(
        lock, std::chrono::seconds(10),
        [this, event] { return std::ranges::find(events_, event) != events_.end(); }))
        << "never came: " << event;
  }
  [[nodiscard]] size_t received() {
    const std::lock_guard lock(mutex_);
    return received_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Request> requests_;
  std::vector<std::string> events_;
  size_t received_ = 0;
};

class WitnessedSession final : public Session {
 public:
  WitnessedSession(Connection& connection, Witness& witness)
      : connection_(connection), witness_(witness) {}
  ~WitnessedSession() override { witness_.Note("destroyed"); }
  void OnFrame(base::Buffer frame, Reply reply) override {
    witness_.Add({connection_.id(), std::string(frame.view()), std::move(reply)});
  }
  void OnOutputHigh() override { witness_.Note("high"); }
  void OnOutputLow() override { witness_.Note("low"); }
  void OnClosed() override { witness_.Note("closed"); }

 private:
  Connection& connection_;
  Witness& witness_;
};

class EchoSession final : public Session {
 public:
  void OnFrame(base::Buffer frame, Reply reply) override { reply.SendBody(std::move(frame)); }
};

// Two worker loops and an acceptor.
class LoopbackTest : public ::testing::Test {
 protected:
  std::unique_ptr<LoopThread> StartLoop(std::string name) {
    auto thread = LoopThread::Start({.name = std::move(name), .metrics = &metrics_});
    EXPECT_TRUE(thread) << (thread ? "" : thread.error().message);
    return *std::move(thread);
  }

  std::unique_ptr<FramedServer> Serve(FramedServer::Options options,
                                      FramedServer::SessionFactory factory) {
    options.listen = {"127.0.0.1", 0};
    auto server = FramedServer::Listen(
        std::move(options),
        {.acceptor = acceptor_->loop(), .workers = {&first_->loop(), &second_->loop()}}, budget_,
        metrics_, std::move(factory));
    EXPECT_TRUE(server) << (server ? "" : server.error().message);
    return *std::move(server);
  }
  std::unique_ptr<FramedServer> ServeEcho(FramedServer::Options options = {}) {
    return Serve(std::move(options), [](Connection&) { return std::make_unique<EchoSession>(); });
  }
  std::unique_ptr<FramedServer> ServeWitnessed(FramedServer::Options options = {}) {
    return Serve(std::move(options), [this](Connection& connection) {
      return std::make_unique<WitnessedSession>(connection, witness_);
    });
  }

  // All loops go around several times: what sockets hold now has been read by then, if anybody
  // wants to read it, since a loop looks at its sockets before each round of tasks.
  void LetLoopsTurn() {
    for (int i = 0; i < 4; ++i) {
      for (LoopThread* thread : {acceptor_.get(), first_.get(), second_.get()})
        thread->loop().RunAndWait([] {});
    }
  }
  size_t IdlePipes() {
    size_t idle = 0;
    for (LoopThread* thread : {first_.get(), second_.get()})
      thread->loop().RunAndWait([&] { idle += thread->loop().pipes().idle(); });
    return idle;
  }
  // Of all loops' threads together.
  base::Duration ProcessorTime() {
    base::Duration spent{};
    for (LoopThread* thread : {acceptor_.get(), first_.get(), second_.get()}) {
      thread->loop().RunAndWait([&] {
        timespec time{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        spent += std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
      });
    }
    return spent;
  }
  // Nothing is done for a third of a second.
  void Lull() {
    std::promise<void> over;
    base::Timer timer;
    first_->loop().RunAndWait([&] {
      timer = first_->loop().After(std::chrono::milliseconds(300), [&] { over.set_value(); });
    });
    over.get_future().wait();
    first_->loop().RunAndWait([&] { timer.Cancel(); });
  }
  // What the loops take of a lull. One that waits for nothing takes as much as it is given.
  base::Duration ProcessorTimeOfALull() {
    const base::Duration before = ProcessorTime();
    Lull();
    return ProcessorTime() - before;
  }
  uint64_t Closed(std::string_view cause) {
    LetLoopsTurn();
    return metrics_.closed.With(cause).Value();
  }

  metrics::Registry registry_;
  metrics::NetMetrics metrics_{registry_};
  MemoryBudget budget_{size_t{1} << 20, metrics_};
  std::unique_ptr<LoopThread> acceptor_ = StartLoop("acceptor");
  std::unique_ptr<LoopThread> first_ = StartLoop("worker0");
  std::unique_ptr<LoopThread> second_ = StartLoop("worker1");
  Witness witness_;  // Holds replies, which loops outlive.
};

}  // namespace holdfast::net
