#include "proxy/api_versions.h"

#include <algorithm>
#include <array>

#include "base/log.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/codec.h"

namespace holdfast::proxy {
namespace {

using kafka::ApiVersionsResponse;
using Range = ApiVersionsResponse::ApiVersion;

struct Cap {
  int16_t key;
  int16_t newest;
};
constexpr int16_t kHidden = -1;

constexpr std::array kCaps{
    Cap{kafka::ProduceRequest::kApi.key, kProduceNewest},
    Cap{kafka::FetchRequest::kApi.key, kFetchNewest},
    // Addresses in the answers.
    Cap{kafka::MetadataRequest::kApi.key, kafka::MetadataRequest::kApi.newest},
    Cap{kafka::FindCoordinatorRequest::kApi.key, kafka::FindCoordinatorRequest::kApi.newest},
    Cap{kafka::DescribeClusterRequest::kApi.key, kafka::DescribeClusterRequest::kApi.newest},
    // Answered here.
    Cap{kafka::InitProducerIdRequest::kApi.key, kafka::InitProducerIdRequest::kApi.newest},
    Cap{kafka::ApiVersionsRequest::kApi.key, kafka::ApiVersionsRequest::kApi.newest},
    // GetTelemetrySubscriptions and PushTelemetry: a producer would lose its connection over them
    // while the tier is away.
    Cap{71, kHidden},
    Cap{72, kHidden},
    // ShareFetch and ShareAcknowledge: addresses behind the records, as in Fetch, in every version.
    Cap{78, kHidden},
    Cap{79, kHidden},
};

// For a tier that was never seen: what is answered here in full, and of the rest versions that
// every tier has.
constexpr std::array kUnseen{
    std::array<int16_t, 3>{0, 0, kProduceNewest},
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
};

ApiVersionsResponse Unseen() {
  ApiVersionsResponse response;
  for (const auto& [key, oldest, newest] : kUnseen) {
    response.api_keys.push_back({.api_key = key, .min_version = oldest, .max_version = newest});
  }
  return response;
}

void Narrow(std::vector<Range>& ranges) {
  for (const Cap& cap : kCaps) {
    const auto range = std::ranges::find(ranges, cap.key, &Range::api_key);
    if (range == ranges.end()) continue;
    range->max_version = std::min(range->max_version, cap.newest);
    // librdkafka before 2.11.1 compresses only if Produce begins at 0, so Kafka says so, too.
    if (cap.key == kafka::ProduceRequest::kApi.key) range->min_version = 0;
  }
  std::erase_if(ranges, [](const Range& range) { return range.max_version < range.min_version; });
}

}  // namespace

ApiVersionsResponse LocalApiVersions(const Cluster& cluster) {
  ApiVersionsResponse response;
  if (cluster.api_versions.empty()) {
    response = Unseen();
  } else if (auto kept = kafka::DecodeResponse<ApiVersionsResponse>(cluster.api_versions,
                                                                    Cluster::kKeptApiVersions)) {
    response = *std::move(kept);
  } else {
    base::Log(base::LogLevel::kError, "metadata", "the kept ApiVersions answer is damaged: {}",
              kept.error().message);
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
