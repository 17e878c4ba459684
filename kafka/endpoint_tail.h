// The end of those answers that are mostly records and name brokers' addresses behind them: Fetch
// (from version 16 on), ShareFetch and ShareAcknowledge tell where new leaders are (KIP-951).
//
//   HF_ASSIGN_OR_RETURN(EndpointTail tail, FindEndpointTail(api_key, version, frame.view()));
//   ... change tail.node_endpoints ...
//   const base::Buffer end = EncodeEndpointTail(tail);
//   frame.Truncate(tail.begin);                // `frame`, then `end`, is the changed answer.
//
// An answer that is passed on while it still comes is given to an EndpointTailFinder piece by
// piece.
//
// The place is found by walking over lengths: no record is looked at, and nothing is copied.
//
// Ownership: the tail borrows from the bytes it was read from; encode it before they go.
// Threads: any; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
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

// The same in exactly so many bytes, which must be as many as the tail had when it was read, for
// an answer whose length is told already. What is too short is filled up with a tagged field that
// nobody knows (KIP-482), and endpoints that do not fit are left out: the client then asks for
// metadata. kInvalid if that is of no use, as with a tail whose numbers took more bytes than they
// need.
base::Result<base::Buffer> EncodeEndpointTail(EndpointTail tail, size_t bytes);

class EndpointTailFinder {
 public:
  // Of a version that has such an end.
  EndpointTailFinder(int16_t api_key, int16_t version) : api_key_(api_key), version_(version) {}

  // How many bytes of the answer's next piece stand before the tail: all the others, and all
  // pieces that follow, are the tail. kInvalid if it is not what the version says.
  base::Result<size_t> Pass(std::string_view piece);
  // How many of the bytes that follow are records, which need not be given to Pass: some of them
  // may be passed over instead.
  [[nodiscard]] size_t opaque() const { return skip_; }
  void PassOpaque(size_t bytes);
  // `bytes`: the tail, to the answer's end.
  [[nodiscard]] base::Result<EndpointTail> Decode(std::string_view bytes) const;

 private:
  // What comes next that is not records.
  enum class Step : uint8_t { kHead, kTopic, kPartition, kPartitionEnd, kTopicEnd, kTail };

  void Read(class Reader& reader);
  void ReadPartition(class Reader& reader);
  void NextPartition();
  void NextTopic();
  [[nodiscard]] base::Error Unreadable(const class Reader& reader) const;

  const int16_t api_key_;
  const int16_t version_;
  Step step_ = Step::kHead;
  size_t skip_ = 0;  // Bytes of records that come before the step.
  uint32_t topics_ = 0;
  uint32_t partitions_ = 0;
  std::string carried_;  // The beginning of the step, from pieces before.
  size_t passed_ = 0;
};

}  // namespace holdfast::kafka
