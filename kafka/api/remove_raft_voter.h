// RemoveRaftVoter (key 81): takes a voter from the metadata quorum.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct RemoveRaftVoterResponse;

struct RemoveRaftVoterRequest final {
  static constexpr Api kApi{
      .key = 81, .name = "RemoveRaftVoter", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = RemoveRaftVoterResponse;

  std::optional<std::string_view> cluster_id;
  int32_t voter_id = 0;
  Uuid voter_directory_id;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.cluster_id);
    wire(m.voter_id);
    wire(m.voter_directory_id);
    wire.Tags(m.unknown_tags);
  }
};

struct RemoveRaftVoterResponse final {
  static constexpr Api kApi = RemoveRaftVoterRequest::kApi;

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.error_message);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
