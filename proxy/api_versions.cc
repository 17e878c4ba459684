#include "proxy/api_versions.h"

#include <algorithm>
#include <array>

#include "base/event.h"
#include "base/log.h"
#include "kafka/api/produce.h"
#include "kafka/codec.h"
#include "proxy/api_policy.h"

namespace holdfast::proxy {
namespace {

using kafka::ApiVersionsResponse;
using Range = ApiVersionsResponse::ApiVersion;

// For a tier that was never seen: what is answered here in full, and of the rest versions that
// every tier has.
constexpr std::array kUnseen{
    std::array<int16_t, 3>{0, 0, kafka::ProduceRequest::kApi.newest},
    std::array<int16_t, 3>{1, 4, 11},  // Fetch
    std::array<int16_t, 3>{2, 1, 5},   // ListOffsets
    std::array<int16_t, 3>{3, 0, 12},  // Metadata
    std::array<int16_t, 3>{8, 2, 7},   // OffsetCommit
    std::array<int16_t, 3>{9, 1, 5},   // OffsetFetch
    std::array<int16_t, 3>{10, 0, 3},  // FindCoordinator
    std::array<int16_t, 3>{11, 0, 5},  // JoinGroup
    std::array<int16_t, 3>{12, 0, 3},  // Heartbeat
    std::array<int16_t, 3>{13, 0, 3},  // LeaveGroup
    std::array<int16_t, 3>{14, 0, 3},  // SyncGroup
    std::array<int16_t, 3>{18, 0, kafka::ApiVersionsRequest::kApi.newest},
    std::array<int16_t, 3>{22, 0, 4},  // InitProducerId
    std::array<int16_t, 3>{24, 0, 3},  // AddPartitionsToTxn
    std::array<int16_t, 3>{25, 0, 3},  // AddOffsetsToTxn
    std::array<int16_t, 3>{26, 0, 3},  // EndTxn
    std::array<int16_t, 3>{28, 0, 3},  // TxnOffsetCommit
};

ApiVersionsResponse Unseen() {
  ApiVersionsResponse response;
  for (const auto& [key, oldest, newest] : kUnseen) {
    response.api_keys.push_back({.api_key = key, .min_version = oldest, .max_version = newest});
  }
  return response;
}

void Narrow(std::vector<Range>& ranges) {
  for (Range& range : ranges) {
    const ApiPolicy policy = PolicyOf(range.api_key);
    range.min_version = std::max(range.min_version, policy.oldest);
    range.max_version = std::min(range.max_version, policy.newest);
    // librdkafka before 2.11.1 compresses only if Produce begins at 0, so Kafka says so, too.
    if (range.api_key == kafka::ProduceRequest::kApi.key) range.min_version = 0;
  }
  std::erase_if(ranges, [](const Range& range) { return range.max_version < range.min_version; });
}

}  // namespace

ApiVersionsResponse CommonApiVersions(std::span<const ApiVersionsResponse* const> brokers) {
  ApiVersionsResponse common = **std::ranges::max_element(
      brokers, {}, [](const auto* broker) { return broker->finalized_features_epoch; });
  for (const ApiVersionsResponse* broker : brokers) {
    std::erase_if(common.api_keys, [&](Range& range) {
      const auto other = std::ranges::find(broker->api_keys, range.api_key, &Range::api_key);
      if (other == broker->api_keys.end()) return true;
      range.min_version = std::max(range.min_version, other->min_version);
      range.max_version = std::min(range.max_version, other->max_version);
      return range.max_version < range.min_version;
    });
  }
  return common;
}

ApiVersionsResponse LocalApiVersions(const Cluster& cluster) {
  ApiVersionsResponse response;
  if (cluster.api_versions.empty()) {
    response = Unseen();
  } else if (auto kept = kafka::DecodeResponse<ApiVersionsResponse>(cluster.api_versions,
                                                                    Cluster::kKeptApiVersions)) {
    response = *std::move(kept);
  } else {
    base::Log(base::Event::kKeptTierDamaged, "metadata",
              "the kept ApiVersions answer is damaged: {}", kept.error().message);
    response = Unseen();
  }
  response.error_code = kafka::ErrorCode::kNone;
  response.throttle_time_ms = 0;
  Narrow(response.api_keys);
  // The ApiVersions exchange with a client is ours alone.
  const auto own =
      std::ranges::find(response.api_keys, kafka::ApiVersionsRequest::kApi.key, &Range::api_key);
  if (own != response.api_keys.end()) {
    own->min_version = kafka::ApiVersionsRequest::kApi.oldest;
    own->max_version = kafka::ApiVersionsRequest::kApi.newest;
  }
  return response;
}

}  // namespace holdfast::proxy
