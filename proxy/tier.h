// The broker tier as the forwarder sees it: nodes that can be asked, one pipelined connection each.
//
//   if (tier.Ready(leader)) {
//     tier.Call(leader, request, [](base::Result<kafka::ListOffsetsResponse> answer) { ... });
//   }
//
// Every call is answered once. An error instead of an answer means that nobody knows whether the
// request took effect: the connection broke, or the tier kept silent for too long and the
// connection was closed for it.
//
// Ownership: the observer outlives the tier. Threads: everything on one loop.
// Shutdown: the destructor drops callbacks uncalled.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/buffer.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "kafka/codec.h"

namespace holdfast::proxy {

// The name under which the agent's own requests travel.
inline constexpr std::string_view kClientId = "holdfast";
// Whichever broker answers.
inline constexpr int32_t kAnyNode = -1;

class Tier {
 public:
  // A frame without its length; borrowed for the call.
  using OnAnswer = base::UniqueFunction<void(base::Result<std::string_view>)>;

  virtual ~Tier() = default;

  // Whether the node can be asked now. If not, the connection is begun, and the observer hears.
  [[nodiscard]] virtual bool Ready(int32_t node) = 0;
  // The newest version that both sides know, up to `cap`; none if the node does not serve the API,
  // or is not ready.
  [[nodiscard]] virtual std::optional<int16_t> Version(int32_t node, const kafka::Api& api,
                                                       int16_t cap = kafka::kNever) = 0;
  // A whole request frame; its correlation id is filled in. The node must be ready.
  virtual void Send(int32_t node, base::Buffer frame, OnAnswer on_answer) = 0;
  // Asks for metadata soon; the observer hears of the answer. `topic`, if not empty, is asked for
  // until the tier has it, and made if the tier does that by itself or it is declared; less and
  // less often, and no more once nobody has named it here for long.
  virtual void RefreshMetadata(std::string_view topic) = 0;

  // Encodes and decodes around Send. The node must be ready. kInvalid, at once: there is no common
  // version, or it cannot carry the request.
  template <class Request>
  void Call(int32_t node, const Request& request,
            base::UniqueFunction<void(base::Result<typename Request::Response>)> done,
            int16_t cap = kafka::kNever) {
    const std::optional<int16_t> version = Version(node, Request::kApi, cap);
    if (!version) {
      done(base::Unexpected(base::Code::kInvalid, "the tier does not serve " +
                                                      std::string(Request::kApi.name) +
                                                      " in a version known here"));
      return;
    }
    auto frame = kafka::EncodeRequest(request, *version, /*correlation_id=*/0, kClientId);
    if (!frame) return done(base::Unexpected(std::move(frame).error()));
    auto on_answer = [done = std::move(done),
                      version = *version](base::Result<std::string_view> answer) mutable {
      if (!answer) return done(base::Unexpected(std::move(answer).error()));
      done(kafka::DecodeResponse<typename Request::Response>(*answer, version));
    };
    Send(node, *std::move(frame), std::move(on_answer));
  }
};

class TierObserver {
 public:
  virtual ~TierObserver() = default;
  virtual void OnNodeReady(int32_t node) = 0;
  // After the calls in flight were answered with errors.
  virtual void OnNodeLost(int32_t node) = 0;
  // The cluster may have changed: leaders, topics, brokers.
  virtual void OnMetadata() = 0;
};

}  // namespace holdfast::proxy
