// One connection to a broker that is made step by step, each with an outcome of its own: TCP, TLS,
// login, versions; then requests, one at a time. What the agent's own connections do in one go
// (proxy/tier_connection.h), taken apart.
//
// Ownership: answers borrow from the client. Threads: one; every call blocks, until its deadline at
//   most.
#pragma once

#include <chrono>
#include <forward_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/result.h"
#include "kafka/api/api_versions.h"
#include "kafka/codec.h"
#include "net/address.h"
#include "net/sasl.h"
#include "net/socket.h"
#include "net/tls.h"

namespace holdfast::cli::doctor {

using Deadline = std::chrono::steady_clock::time_point;

// The addresses of each name, all asked for at once. kTimeout: no answer in time.
std::vector<base::Result<std::vector<net::SocketAddress>>> ResolveAll(
    const std::vector<net::HostPort>& names, Deadline deadline);

// Connections to all of them, made at once.
std::vector<base::Result<net::Socket>> ConnectAll(std::span<const net::SocketAddress> addresses,
                                                  Deadline deadline);

class BrokerClient {
 public:
  explicit BrokerClient(net::Socket connected) : socket_(std::move(connected)) {}

  base::Result<void> Secure(std::shared_ptr<const net::TlsContext> context, const std::string& host,
                            Deadline deadline);
  base::Result<void> LogIn(const net::SaslCredentials& credentials, Deadline deadline);
  base::Result<void> AskVersions(Deadline deadline);

  // Of the broker's certificate, in seconds since 1970.
  [[nodiscard]] double peer_expires_at() const { return socket_.PeerExpiresAt(); }
  [[nodiscard]] const kafka::ApiVersionsResponse& versions() const { return versions_; }
  // Null: there is no version of it that both sides know.
  [[nodiscard]] std::optional<int16_t> Version(const kafka::Api& api) const {
    return kafka::PickVersion(api, versions_);
  }

  // kInvalid, without asking: there is no common version.
  template <class Request>
  base::Result<typename Request::Response> Call(const Request& request, Deadline deadline) {
    const auto version = Version(Request::kApi);
    if (!version) {
      return base::Unexpected(base::Code::kInvalid,
                              "does not serve " + std::string(Request::kApi.name));
    }
    HF_ASSIGN_OR_RETURN(base::Buffer frame,
                        kafka::EncodeRequest(request, *version, ++correlation_id_, kName));
    HF_ASSIGN_OR_RETURN(const std::string_view answer, Exchange(std::move(frame), deadline));
    return kafka::DecodeResponse<typename Request::Response>(answer, *version);
  }

 private:
  static constexpr std::string_view kName = "holdfast-doctor";

  base::Result<std::string_view> Exchange(base::Buffer frame, Deadline deadline);
  base::Result<void> Write(std::string_view bytes, Deadline deadline);
  base::Result<void> Read(char* into, size_t bytes, Deadline deadline);

  net::Socket socket_;
  int32_t correlation_id_ = 0;
  std::forward_list<std::string> answers_;
  kafka::ApiVersionsResponse versions_;
};

}  // namespace holdfast::cli::doctor
