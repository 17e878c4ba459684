#include "cli/doctor/broker_client.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <utility>

#include "base/endian.h"
#include "kafka/api/api_versions.h"
#include "net/event_loop.h"
#include "proxy/login.h"

namespace holdfast::cli::doctor {
namespace {

using Clock = std::chrono::steady_clock;
using base::Code;

constexpr size_t kAnswerBytesMax = size_t{100} << 20;
// The first byte of an alert in TLS, where the length of an answer should be.
constexpr uint8_t kTlsAlert = 0x15;

int MillisecondsUntil(Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return static_cast<int>(std::max<int64_t>(0, left.count()));
}

base::Result<void> Await(int fd, short events, Deadline deadline) {
  pollfd entry{.fd = fd, .events = events, .revents = 0};
  const int rc = poll(&entry, 1, MillisecondsUntil(deadline));
  if (rc < 0 && errno != EINTR) return base::Unexpected(base::ErrnoError("poll", errno));
  if (rc == 0) return base::Unexpected(Code::kTimeout, "no answer in time");
  return {};
}

}  // namespace

std::vector<base::Result<std::vector<net::SocketAddress>>> ResolveAll(
    const std::vector<net::HostPort>& names, Deadline deadline) {
  using Answer = base::Result<std::vector<net::SocketAddress>>;
  std::vector<Answer> answers;
  std::vector<base::Timer> questions;  // They go when their thread has ended.
  const auto thread = net::LoopThread::Start({.name = "resolved"});
  if (!thread) return std::vector<Answer>(names.size(), base::Unexpected(thread.error()));
  // One for each name, as a Resolver looks up few at a time. What comes too late is dropped.
  std::vector<std::unique_ptr<net::Resolver>> resolvers;
  std::vector<std::future<Answer>> futures;
  for (const net::HostPort& name : names) {
    std::promise<Answer> promise;
    futures.push_back(promise.get_future());
    resolvers.push_back(std::make_unique<net::Resolver>());
    questions.push_back(resolvers.back()->Resolve(
        name, (*thread)->loop(), [promise = std::move(promise)](Answer answer) mutable {
          promise.set_value(std::move(answer));
        }));
  }
  for (std::future<Answer>& future : futures) {
    if (future.wait_until(deadline) == std::future_status::ready) {
      answers.push_back(future.get());
    } else {
      answers.push_back(base::Unexpected(Code::kTimeout, "no answer from DNS in time"));
    }
  }
  return answers;
}

std::vector<base::Result<net::Socket>> ConnectAll(std::span<const net::SocketAddress> addresses,
                                                  Deadline deadline) {
  std::vector<base::Result<net::Socket>> sockets;
  std::vector<pollfd> waiting;
  std::vector<size_t> whose;
  for (const net::SocketAddress& address : addresses) {
    sockets.push_back(net::Socket::Connect(address, {}));
    if (!sockets.back()) continue;
    waiting.push_back({.fd = sockets.back()->fd(), .events = POLLOUT, .revents = 0});
    whose.push_back(sockets.size() - 1);
  }
  size_t open = waiting.size();
  while (open > 0 && Clock::now() < deadline) {
    if (poll(waiting.data(), waiting.size(), MillisecondsUntil(deadline)) <= 0) continue;
    for (size_t i = 0; i < waiting.size(); ++i) {
      if (waiting[i].fd < 0 || waiting[i].revents == 0) continue;
      waiting[i].fd = -1;
      --open;
      auto& socket = sockets[whose[i]];
      if (const int error = socket->TakeError(); error != 0)
        socket = base::Unexpected(base::ErrnoError("connect", error));
    }
  }
  for (size_t i = 0; i < waiting.size(); ++i) {
    if (waiting[i].fd >= 0)
      sockets[whose[i]] = base::Unexpected(Code::kTimeout, "connect: no answer in time");
  }
  return sockets;
}

base::Result<void> BrokerClient::Secure(std::shared_ptr<const net::TlsContext> context,
                                        const std::string& host, Deadline deadline) {
  socket_.SecureAsClient(std::move(context), host);
  while (true) {
    switch (socket_.Handshake()) {
      case net::TlsSession::Progress::kDone:
        return {};
      case net::TlsSession::Progress::kFailed:
        return base::Unexpected(Code::kInvalid, socket_.tls_error());
      case net::TlsSession::Progress::kWantsRead:
        HF_RETURN_IF_ERROR(Await(socket_.fd(), POLLIN, deadline));
        break;
      case net::TlsSession::Progress::kWantsWrite:
        HF_RETURN_IF_ERROR(Await(socket_.fd(), POLLOUT, deadline));
        break;
    }
  }
}

base::Result<void> BrokerClient::LogIn(const net::SaslCredentials& credentials, Deadline deadline) {
  proxy::Login login;
  HF_ASSIGN_OR_RETURN(base::Buffer frame, login.Begin(credentials, ++correlation_id_));
  while (true) {
    HF_ASSIGN_OR_RETURN(const std::string_view answer, Exchange(std::move(frame), deadline));
    HF_ASSIGN_OR_RETURN(auto next, login.OnAnswer(answer, correlation_id_));
    if (!next) return {};
    frame = *std::move(next);
  }
}

base::Result<void> BrokerClient::AskVersions(Deadline deadline) {
  const kafka::ApiVersionsRequest request{.client_software_name = "holdfast",
                                          .client_software_version = HOLDFAST_VERSION};
  // A broker that does not know the version says so in version 0, with those that it knows.
  for (const int16_t version : {kafka::ApiVersionsRequest::kApi.newest, int16_t{0}}) {
    HF_ASSIGN_OR_RETURN(base::Buffer frame,
                        kafka::EncodeRequest(request, version, ++correlation_id_, kName));
    HF_ASSIGN_OR_RETURN(const std::string_view answer, Exchange(std::move(frame), deadline));
    HF_ASSIGN_OR_RETURN(versions_,
                        kafka::DecodeResponse<kafka::ApiVersionsResponse>(answer, version));
    if (versions_.error_code == kafka::ErrorCode::kNone) return {};
  }
  return base::Unexpected(Code::kInvalid, std::string("ApiVersions: ") +
                                              std::string(kafka::ErrorName(versions_.error_code)));
}

base::Result<std::string_view> BrokerClient::Exchange(base::Buffer frame, Deadline deadline) {
  HF_RETURN_IF_ERROR(Write(frame.view(), deadline));
  char prefix[kafka::kLengthPrefixBytes];
  HF_RETURN_IF_ERROR(Read(prefix, sizeof prefix, deadline));
  const auto length = base::LoadBig<uint32_t>(prefix);
  if (length > kAnswerBytesMax) {
    return base::Unexpected(Code::kCorrupt, static_cast<uint8_t>(prefix[0]) == kTlsAlert
                                                ? "it answers in TLS"
                                                : "its answer is none of Kafka's protocol");
  }
  std::string& answer = answers_.emplace_front(length, '\0');
  HF_RETURN_IF_ERROR(Read(answer.data(), answer.size(), deadline));
  HF_ASSIGN_OR_RETURN(const int32_t id, kafka::ReadCorrelationId(answer));
  if (id != correlation_id_)
    return base::Unexpected(Code::kCorrupt, "its answer belongs to no request");
  return answer;
}

base::Result<void> BrokerClient::Write(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
    const net::Socket::Outcome outcome = socket_.Write({&piece, 1});
    switch (outcome.kind) {
      case net::Socket::Outcome::Kind::kDone:
        bytes.remove_prefix(outcome.bytes);
        break;
      case net::Socket::Outcome::Kind::kBlocked:
        HF_RETURN_IF_ERROR(Await(socket_.fd(), outcome.crossed ? POLLIN : POLLOUT, deadline));
        break;
      case net::Socket::Outcome::Kind::kEnd:
      case net::Socket::Outcome::Kind::kFailed:
        return base::Unexpected(Code::kUnavailable, socket_.Explain("write", outcome));
    }
  }
  return {};
}

base::Result<void> BrokerClient::Read(char* into, size_t bytes, Deadline deadline) {
  while (bytes > 0) {
    iovec piece{into, bytes};
    const net::Socket::Outcome outcome = socket_.Read({&piece, 1});
    switch (outcome.kind) {
      case net::Socket::Outcome::Kind::kDone:
        into += outcome.bytes;
        bytes -= outcome.bytes;
        break;
      case net::Socket::Outcome::Kind::kBlocked:
        HF_RETURN_IF_ERROR(Await(socket_.fd(), outcome.crossed ? POLLOUT : POLLIN, deadline));
        break;
      case net::Socket::Outcome::Kind::kEnd:
        return base::Unexpected(Code::kClosed, "it closed the connection");
      case net::Socket::Outcome::Kind::kFailed:
        return base::Unexpected(Code::kUnavailable, socket_.Explain("read", outcome));
    }
  }
  return {};
}

}  // namespace holdfast::cli::doctor
