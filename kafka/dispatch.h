// From a request frame to the function that serves it, and the answer's way back.
//
//   // What this tier serves, whole. ApiVersions is printed from it and never listed.
//   constexpr RouteTable kRoutes(std::array{
//       Bind<Broker, HeartbeatRequest>(),
//       Bind<Broker, ProduceRequest>({.advertised_oldest = 0})});
//
//   HeartbeatResponse Broker::Handle(const Caller&, const HeartbeatRequest&);   // answered at once
//   void Broker::Handle(Call<ProduceRequest> call);                             // answered later
//
//   Result<> served = kRoutes.Dispatch(broker, peer, std::move(frame), std::move(reply));
//   if (!served) connection.Close(served.error().message);   // nothing of the kind can be answered
//
// A service that has `void Adjust(const Caller&, ApiVersionsResponse&)` may narrow what is
// advertised or add features.
//
// Ownership: a Call owns the request's frame, so the views in `request` live as long as the Call;
//   it is moved to whoever will answer.
// Threads: the table is constant. A Call belongs to one thread at a time; the Reply is run by the
//   thread that answers, and leads back to the connection's loop by itself.
// Shutdown: a Call that is destroyed unanswered closes its connection, so that the client asks
//   again.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/check.h"
#include "base/executor.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "kafka/api/api_versions.h"
#include "kafka/codec.h"

namespace holdfast::kafka {

// The other end of a connection, as long as that lasts. Immutable, so that calls of one connection
// may share it between threads; Dispatch replaces it when the client has said what it is.
struct Peer {
  std::string address;
  std::string listener;       // The address that clients of its listener are told to connect to.
  std::string software_name;  // From ApiVersions, empty before.
  std::string software_version;
  std::string principal = "User:ANONYMOUS";  // Who it has proved to be.
};

struct Caller {
  std::shared_ptr<const Peer> peer;
  std::string_view client_id;  // Borrowed from the frame; empty if null.
  int16_t version = 0;         // Of the request.
};

// What becomes of one request. Requests of a connection are answered in the order in which they
// came.
struct Answer {
  enum class Kind : uint8_t {
    kFrame,    // Send `frame`, which has its length in front, and `rest` behind it.
    kNothing,  // Send nothing (Produce with acks=0) and go on.
    kClose,    // Close the connection, after the answers before this one; `reason` is for the log.
  };
  Kind kind = Kind::kNothing;
  base::Buffer frame = {};
  std::vector<base::Buffer> rest = {};  // Usually empty; may be borrowed.
  std::string reason = {};
  // The client has to wait: nothing more is read from it for so long, once this has been sent.
  base::Duration throttle{};
};
using Reply = base::UniqueFunction<void(Answer)>;

// A request whose header has been read, with the way back. Answered once: by Send, SendNothing,
// Close, or by its destructor, which closes.
class Exchange {
 public:
  Exchange(base::Buffer frame, const RequestHeader& header, std::shared_ptr<const Peer> peer,
           Reply reply);
  Exchange(Exchange&&) noexcept = default;
  Exchange& operator=(Exchange&& other) noexcept;
  ~Exchange() { Abandon(); }

  [[nodiscard]] std::string_view frame() const { return frame_.view(); }
  [[nodiscard]] const RequestHeader& header() const { return header_; }
  [[nodiscard]] const Caller& caller() const { return caller_; }
  [[nodiscard]] bool answered() const { return !reply_; }

  void Send(base::Buffer response);
  // `contents` are those of the gaps, in pieces.
  void Send(base::Buffer response, std::span<const Gap> gaps,
            std::vector<std::vector<base::Buffer>> contents);
  void SendNothing();
  void Close(std::string reason);
  void Throttle(base::Duration time) { throttle_ = std::max(throttle_, time); }
  [[nodiscard]] base::Duration throttle() const { return throttle_; }
  // Asked once, when the request is answered, for how long the client has to wait.
  void SetToll(base::UniqueFunction<base::Duration()> toll) { toll_ = std::move(toll); }
  base::Duration Settle();
  // Gives the reply up unused: whoever dispatched closes the connection.
  void Disown() { reply_ = Reply(); }

 private:
  void Finish(Answer answer);
  void Abandon();

  base::Buffer frame_;
  RequestHeader header_;
  Caller caller_;
  Reply reply_;
  base::Duration throttle_{};
  base::UniqueFunction<base::Duration()> toll_;
};

template <class Request>
class Call {
 public:
  using Response = typename Request::Response;

  Call(Exchange exchange, Request decoded)
      : request(std::move(decoded)), exchange_(std::move(exchange)) {}

  Request request;

  [[nodiscard]] const Caller& caller() const { return exchange_.caller(); }
  [[nodiscard]] int16_t version() const { return exchange_.header().api_version; }
  // The request as it came, without its length; for who passes it on.
  [[nodiscard]] std::string_view frame() const { return exchange_.frame(); }
  [[nodiscard]] bool answered() const { return exchange_.answered(); }

  void Respond(const Response& response) {
    Settle();
    if (!amend_ && !LacksWait(response)) return Send(response);
    Response amended = response;
    if (amend_) amend_(amended);
    NameWait(&amended);
    Send(amended);
  }
  // With the contents of its fields of bytes given apart, for those that are not empty: they are
  // not copied into the frame.
  void Respond(const Response& response, std::vector<std::vector<base::Buffer>> contents) {
    HF_CHECK(!amend_);
    std::vector<Gap> gaps;
    base::Buffer frame =
        EncodeResponseAround(response, version(), exchange_.header().correlation_id, &gaps);
    exchange_.Send(std::move(frame), gaps, std::move(contents));
  }
  // For Produce with acks=0.
  void NoResponse() {
    if (amend_) return Close("a request without an answer was refused in part");
    exchange_.SendNothing();
  }
  void Close(std::string reason) { exchange_.Close(std::move(reason)); }

  // See Answer::throttle; the longest time counts. The response names it, if it has a field for it.
  void Throttle(base::Duration time) { exchange_.Throttle(time); }
  // `toll` says when the request is answered how long the client has to wait for that alone. Who
  // answers something else then asks by Settle, before Respond does.
  void SetToll(base::UniqueFunction<base::Duration()> toll) { exchange_.SetToll(std::move(toll)); }
  base::Duration Settle() { return exchange_.Settle(); }

  // Who takes a part of the request out, because it is refused, puts it into the response by this:
  // it is run on what Respond is given, where that is called. It may borrow from the request.
  void SetAmendment(base::UniqueFunction<void(Response&)> amend) { amend_ = std::move(amend); }

 private:
  [[nodiscard]] int32_t throttle_ms() const {
    return static_cast<int32_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(exchange_.throttle()).count());
  }
  // The time that the client has to wait.
  [[nodiscard]] bool LacksWait(const Response& response) const {
    if constexpr (requires { response.throttle_time_ms; }) {
      return response.throttle_time_ms < throttle_ms();
    } else {
      return false;
    }
  }
  void NameWait(Response* response) const {
    if constexpr (requires { response->throttle_time_ms; }) {
      response->throttle_time_ms = std::max(response->throttle_time_ms, throttle_ms());
    }
  }
  void Send(const Response& response) {
    exchange_.Send(EncodeResponse(response, version(), exchange_.header().correlation_id));
  }

  Exchange exchange_;
  base::UniqueFunction<void(Response&)> amend_;
};

// One API with the versions that a service takes (served) and that it names to clients
// (advertised).
struct Served {
  Api api;
  int16_t oldest = 0;
  int16_t newest = 0;
  int16_t advertised_oldest = 0;
};

// What a service takes and says, where that differs from what the codec knows. librdkafka before
// 2.11.1 compresses only if Produce is advertised from 0 on, so Kafka says 0 and serves 3; so do
// we.
struct RouteLimits {
  int16_t oldest = 0;
  int16_t newest = kNever;
  int16_t advertised_oldest = kNever;  // kNever: the oldest served.
};

template <class Service>
struct Route {
  using Handler = base::Result<> (*)(Service&, Exchange);

  Served served;
  Handler handler = nullptr;
};

template <class Service, class Request>
constexpr Route<Service> Bind(RouteLimits limits = {}) {
  Served served{.api = Request::kApi,
                .oldest = std::max(limits.oldest, Request::kApi.oldest),
                .newest = std::min(limits.newest, Request::kApi.newest)};
  served.advertised_oldest = std::min(served.oldest, limits.advertised_oldest);
  return {
      served, [](Service& service, Exchange exchange) -> base::Result<> {
        auto request = DecodeRequest<Request>(exchange.frame(), exchange.header());
        if (!request) {
          exchange.Disown();
          return base::Unexpected(std::move(request).error());
        }
        Call<Request> call(std::move(exchange), *std::move(request));
        if constexpr (requires { service.Handle(call.caller(), std::as_const(call.request)); }) {
          call.Respond(service.Handle(call.caller(), std::as_const(call.request)));
        } else {
          service.Handle(std::move(call));
        }
        return {};
      }};
}

// The parts of dispatching that do not depend on the service.
const Served* FindServed(std::span<const Served> table, int16_t api_key);
ApiVersionsResponse PrintApiVersions(std::span<const Served> table);
base::Error CannotServe(const RequestHeader& header, const Served* served, const Peer& peer);
// Answers for good and returns false if the request is in error; otherwise notes the client's
// software in `peer`, and the response is to be sent.
base::Result<bool> ReadApiVersions(Exchange& exchange, std::shared_ptr<const Peer>& peer);
void SendApiVersions(Exchange& exchange, ApiVersionsResponse response);

template <class Service, size_t N>
class RouteTable {
 public:
  // In any order; an API named twice, or ApiVersions, does not compile.
  constexpr explicit RouteTable(std::array<Route<Service>, N> routes) {
    std::ranges::sort(routes, {}, [](const auto& route) { return route.served.api.key; });
    const Api& own = ApiVersionsRequest::kApi;
    size_t at = 0;
    bool own_listed = false;
    for (const Route<Service>& route : routes) {
      if (!own_listed && route.served.api.key >= own.key) {
        own_listed = true;
        served_[at++] = {own, own.oldest, own.newest, own.oldest};
      }
      HF_CHECK(at == 0 || served_[at - 1].api.key < route.served.api.key);
      handlers_[at] = route.handler;
      served_[at++] = route.served;
    }
    if (!own_listed) served_[at] = {own, own.oldest, own.newest, own.oldest};
  }

  // Every API with its versions, by key; ApiVersions among them.
  [[nodiscard]] constexpr std::span<const Served> served() const { return served_; }
  [[nodiscard]] const Served* Find(int16_t api_key) const { return FindServed(served_, api_key); }

  // Serves the request, or says why its connection is to be closed; then the reply is not used.
  base::Result<> Dispatch(Service& service, std::shared_ptr<const Peer>& peer, base::Buffer frame,
                          Reply reply) const {
    HF_ASSIGN_OR_RETURN(const RequestHeader header, ReadRequestHeader(frame.view()));
    Exchange exchange(std::move(frame), header, peer, std::move(reply));
    if (header.api_key == ApiVersionsRequest::kApi.key) {
      return DispatchApiVersions(service, peer, std::move(exchange));
    }
    const Served* served = Find(header.api_key);
    if (served == nullptr || header.api_version < served->oldest ||
        header.api_version > served->newest) {
      exchange.Disown();
      return base::Unexpected(CannotServe(header, served, *peer));
    }
    return handlers_[static_cast<size_t>(served - served_.data())](service, std::move(exchange));
  }

 private:
  base::Result<> DispatchApiVersions(Service& service, std::shared_ptr<const Peer>& peer,
                                     Exchange exchange) const {
    HF_ASSIGN_OR_RETURN(const bool wanted, ReadApiVersions(exchange, peer));
    if (!wanted) return {};
    ApiVersionsResponse response = PrintApiVersions(served_);
    if constexpr (requires { service.Adjust(exchange.caller(), response); }) {
      service.Adjust(exchange.caller(), response);
    }
    SendApiVersions(exchange, std::move(response));
    return {};
  }

  std::array<Served, N + 1> served_{};
  std::array<typename Route<Service>::Handler, N + 1> handlers_{};
};

// The Markdown table of a service's APIs and versions, for docs/protocol.md.
std::string RenderApiTable(std::span<const Served> table);

}  // namespace holdfast::kafka
