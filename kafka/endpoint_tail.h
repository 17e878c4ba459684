// The end of those answers that are mostly records and name brokers' addresses behind them: Fetch
// (from version 16 on), ShareFetch and ShareAcknowledge tell where new leaders are (KIP-951).
//
//   HF_ASSIGN_OR_RETURN(EndpointTail tail, FindEndpointTail(api_key, version, frame.view()));
//   ... change tail.node_endpoints ...
//   const base::Buffer end = EncodeEndpointTail(tail);
//   frame.Truncate(tail.begin);                // `frame`, then `end`, is the changed answer.
//
// The place is found by walking over lengths: no record is looked at, and nothing is copied.
//
// Ownership: the tail borrows from the frame; encode it before the frame goes.
// Threads: any; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/result.h"
#include "kafka/api/fetch.h"

namespace holdfast::kafka {

// Not among the messages of kafka/api/: these two are passed on, never made.
inline constexpr int16_t kShareFetchKey = 78;
inline constexpr int16_t kShareAcknowledgeKey = 79;
// The newest version of each whose shape is known here.
inline constexpr int16_t kShareNewest = 2;

struct EndpointTail {
  int16_t api_key = 0;
  size_t begin = 0;  // Where it stands in the frame, which ends with it.
  std::vector<FetchResponse::NodeEndpoint> node_endpoints;
  UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    if (m.api_key == FetchRequest::kApi.key) {
      wire.Tags(m.unknown_tags, Tag(0, m.node_endpoints));
    } else {
      wire(m.node_endpoints);
      wire.Tags(m.unknown_tags);
    }
  }
};

// Whether answers of this version have such an end.
[[nodiscard]] bool HasEndpointTail(int16_t api_key, int16_t version);

// `frame` is a whole answer without its length. kInvalid if it is not what the version says.
base::Result<EndpointTail> FindEndpointTail(int16_t api_key, int16_t version,
                                            std::string_view frame);

// What stands in the frame from `begin` on.
base::Buffer EncodeEndpointTail(const EndpointTail& tail);

}  // namespace holdfast::kafka
