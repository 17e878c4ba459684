// AddRaftVoter (key 80): adds a voter to the metadata quorum.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct AddRaftVoterResponse;

struct AddRaftVoterRequest final {
  static constexpr Api kApi{
      .key = 80, .name = "AddRaftVoter", .oldest = 0, .newest = 1, .flexible = 0};
  using Response = AddRaftVoterResponse;

  struct Listener {
    std::string_view name;
    std::string_view host;
    uint16_t port = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.host);
      wire(m.port);
      wire.Tags(m.unknown_tags);
    }
  };

  std::optional<std::string_view> cluster_id;
  int32_t timeout_ms = 0;
  int32_t voter_id = 0;
  Uuid voter_directory_id;
  std::vector<Listener> listeners;
  bool ack_when_committed = true;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.cluster_id);
    wire(m.timeout_ms);
    wire(m.voter_id);
    wire(m.voter_directory_id);
    wire(m.listeners);
    wire(m.ack_when_committed, {.since = 1});
    wire.Tags(m.unknown_tags);
  }
};

struct AddRaftVoterResponse final {
  static constexpr Api kApi = AddRaftVoterRequest::kApi;

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
