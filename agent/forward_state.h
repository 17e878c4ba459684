// What the agent keeps in the spool's state about delivery, so that a restart goes on where it was:
// under which producer id and epoch a stream is written at the tier, and how far the tier has
// confirmed it.
//
// The sequence number of a record at the tier is its ordinal in the stream minus the base ordinal:
// a stream is one contiguous range, whatever happens between. Records that went in a transaction
// (agent/transaction_lane.h) have no such number: the base ordinal moves on by their count.
//
// Threads: any; plain values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "kafka/error_code.h"
#include "kafka/message.h"
#include "kafka/record_batch.h"
#include "spool/spool.h"
#include "spool/state.h"

namespace holdfast::agent {

// Under which the agent's own records stand in the spool's state.
inline constexpr std::string_view kClusterKey = "agent/cluster";       // MetadataCache::Serialize
inline constexpr std::string_view kPortsKey = "agent/ports";           // [/listener]: broker ports
inline constexpr std::string_view kProducerIdsKey = "agent/ids";       // local producer ids
inline constexpr std::string_view kUpstreamKey = "agent/upstream";     // UpstreamProducer
inline constexpr std::string_view kForwardPrefix = "agent/forward/";   // + stream: ForwardRecord
inline constexpr std::string_view kLeftOutPrefix = "agent/left-out/";  // + stream: LeftOut
inline constexpr std::string_view kDedupePrefix = "agent/dedupe/";     // + stream: ProducerTable
// + stream: SerializeClusterTag. From the cursor on nothing went to that cluster outside of
// transactions, and some may have gone in one.
inline constexpr std::string_view kInLanePrefix = "agent/in-lane/";
// Destination.
inline constexpr std::string_view kDestinationKey = "agent/destination";

inline constexpr std::string_view kHalfPrefix = "agent/half/";      // + id: outbox::HalfMessages
inline constexpr std::string_view kOutboxPrefix = "agent/outbox/";  // + source: outbox::Note

// The stream's id in four bytes follows the prefix.
std::string StreamKey(std::string_view prefix, spool::StreamId stream);
std::optional<spool::StreamId> ParseStreamKey(std::string_view prefix, std::string_view key);

// "<topic>/<partition>"; a topic's name has no slash.
std::string StreamName(std::string_view topic, int32_t partition);
std::optional<std::pair<std::string, int32_t>> ParseStreamName(std::string_view name);

// Tells clusters apart without keeping their names in every record.
uint32_t ClusterTag(std::string_view cluster_id);
std::string SerializeClusterTag(uint32_t tag);
base::Result<uint32_t> ParseClusterTag(std::string_view bytes);

// Where the spool's own agent delivers, and as whom, by its settings.
struct Destination {
  std::vector<std::string> bootstrap;  // HOST:PORT.
  std::string principal;               // See proxy::PrincipalOf.

  // Whether an address of one is an address of the other: those of a tier may grow.
  [[nodiscard]] bool SharesAddress(const Destination& other) const;
  [[nodiscard]] bool IsSamePrincipal(const Destination& other) const {
    return !principal.empty() && principal == other.principal;
  }
  [[nodiscard]] std::string Serialize() const;
  static base::Result<Destination> Parse(std::string_view bytes);
  bool operator==(const Destination&) const = default;
};

// The producer id that the tier gave this agent.
struct UpstreamProducer {
  int64_t id = kafka::kNoProducerId;
  uint32_t cluster_tag = 0;

  [[nodiscard]] std::string Serialize() const;
  static base::Result<UpstreamProducer> Parse(std::string_view bytes);
};

// As whom one stream is written at the tier.
struct Identity {
  int64_t producer_id = kafka::kNoProducerId;
  int16_t epoch = 0;
  int64_t base_ordinal = 0;
  uint32_t cluster_tag = 0;

  [[nodiscard]] bool known() const { return producer_id != kafka::kNoProducerId; }
  [[nodiscard]] int32_t SequenceOf(int64_t ordinal) const {
    return static_cast<int32_t>((ordinal - base_ordinal) & 0x7fffffff);
  }
  // How many records after `ordinal` the tier has if `last_sequence` was its last: less than 2^31,
  // and only meaningful if that is plausible.
  [[nodiscard]] int64_t RecordsBeyond(int64_t ordinal, int32_t last_sequence) const {
    return (static_cast<int64_t>(last_sequence) + 1 - SequenceOf(ordinal)) & 0x7fffffff;
  }
  [[nodiscard]] kafka::Producer ProducerAt(int64_t ordinal) const {
    return {.id = producer_id, .epoch = epoch, .base_sequence = SequenceOf(ordinal)};
  }
  // The next epoch, whose first record is `ordinal`; of the producer's id if this one is another or
  // at its end. False: the agent needs a new producer id first.
  [[nodiscard]] bool Advance(const UpstreamProducer& producer, int64_t ordinal);
  bool operator==(const Identity&) const = default;
};

struct ForwardRecord {
  Identity identity;
  int64_t confirmed = 0;     // Records below this ordinal are at the tier.
  int64_t tier_offset = -1;  // The tier's offset behind the last confirmed record, if it said so.
  // Of the topic that the above is about; zero if the tier never said. One of the same name that
  // was made anew has another.
  kafka::Uuid topic_id;

  [[nodiscard]] std::string Serialize() const;
  static base::Result<ForwardRecord> Parse(std::string_view bytes);
  bool operator==(const ForwardRecord&) const = default;
};

// Records [begin, end) of a stream that were refused for good and are set aside already, while the
// cursor is before them: the rest of the transaction that they are part of is still to come.
struct LeftOut {
  int64_t begin = 0;
  int64_t end = 0;
  kafka::ErrorCode error = kafka::ErrorCode::kNone;

  bool operator==(const LeftOut&) const = default;
};
// Of one stream, ascending.
std::string SerializeLeftOut(const std::vector<LeftOut>& left_out);
base::Result<std::vector<LeftOut>> ParseLeftOut(std::string_view bytes);

// What to put into the state when what waits in these streams is dropped by hand, which may be so
// many bytes of each: it is listed as given up (agent/ledger.h), but for what is listed as dead
// letters already. Of streams that are not delivered nothing is listed.
base::Result<std::map<std::string, std::string>> ListByHand(
    const std::map<spool::StreamId, uint64_t>& dropped, const spool::State& state, int64_t now_ms);

}  // namespace holdfast::agent
