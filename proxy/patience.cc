#include "proxy/patience.h"

#include <algorithm>

#include "kafka/api/fetch.h"
#include "kafka/api/join_group.h"
#include "kafka/api/sync_group.h"
#include "kafka/endpoint_tail.h"
#include "kafka/wire.h"

namespace holdfast::proxy {
namespace {

using kafka::Reader;

constexpr int16_t kReplicaIdUntil = 14;
constexpr int16_t kRebalanceTimeoutSince = 1;

// At the body, in which only what stands before the wait is read.
Reader StartAtBody(std::string_view frame, const kafka::RequestHeader& header, bool flexible) {
  Reader reader(frame, header.api_version, flexible);
  reader.Take(header.size);
  kafka::UnknownTags tags;
  reader.Tags(tags);
  return reader;
}

base::Duration Bounded(Reader& reader, int32_t wait_ms) {
  if (!reader.ok() || wait_ms < 0) return base::Duration::zero();
  return std::min<base::Duration>(std::chrono::milliseconds(wait_ms), kOwnWaitMax);
}

base::Duration WaitOfFetch(std::string_view frame, const kafka::RequestHeader& header) {
  Reader reader =
      StartAtBody(frame, header, kafka::FetchRequest::kApi.Flexible(header.api_version));
  if (header.api_version <= kReplicaIdUntil) reader.Int<int32_t>();
  const auto wait_ms = reader.Int<int32_t>();
  return Bounded(reader, wait_ms);
}

base::Duration WaitOfShareFetch(std::string_view frame, const kafka::RequestHeader& header) {
  Reader reader = StartAtBody(frame, header, /*flexible=*/true);
  std::optional<std::string_view> text;
  reader(text);  // The group.
  reader(text);  // The member.
  reader.Int<int32_t>();
  const auto wait_ms = reader.Int<int32_t>();
  return Bounded(reader, wait_ms);
}

base::Duration WaitOfJoinGroup(std::string_view frame, const kafka::RequestHeader& header) {
  Reader reader =
      StartAtBody(frame, header, kafka::JoinGroupRequest::kApi.Flexible(header.api_version));
  std::string_view group;
  reader(group);
  const auto session_ms = reader.Int<int32_t>();
  const int32_t rebalance_ms =
      header.api_version >= kRebalanceTimeoutSince ? reader.Int<int32_t>() : session_ms;
  return Bounded(reader, rebalance_ms);
}

}  // namespace

base::Duration WaitOf(std::string_view frame, const kafka::RequestHeader& header) {
  switch (header.api_key) {
    case kafka::FetchRequest::kApi.key:
      return WaitOfFetch(frame, header);
    case kafka::kShareFetchKey:
      return WaitOfShareFetch(frame, header);
    case kafka::JoinGroupRequest::kApi.key:
      return WaitOfJoinGroup(frame, header);
    case kafka::SyncGroupRequest::kApi.key:
      return kRebalanceWait;
    default:
      return base::Duration::zero();
  }
}

}  // namespace holdfast::proxy
