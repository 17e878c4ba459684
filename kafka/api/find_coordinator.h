// FindCoordinator (key 10): the broker that coordinates a group or a transactional id.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct FindCoordinatorResponse;

struct FindCoordinatorRequest final {
  static constexpr Api kApi{
      .key = 10, .name = "FindCoordinator", .oldest = 0, .newest = 6, .flexible = 3};
  using Response = FindCoordinatorResponse;

  std::string_view key;
  int8_t key_type = 0;
  std::vector<std::string_view> coordinator_keys;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.key, {.last = 3});
    wire(m.key_type, {.since = 1});
    wire(m.coordinator_keys, {.since = 4});
    wire.Tags(m.unknown_tags);
  }
};

struct FindCoordinatorResponse final {
  static constexpr Api kApi = FindCoordinatorRequest::kApi;

  struct Coordinator {
    std::string_view key;
    int32_t node_id = 0;
    std::string_view host;
    int32_t port = 0;
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.key);
      wire(m.node_id);
      wire(m.host);
      wire(m.port);
      wire(m.error_code);
      wire(m.error_message);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  int32_t node_id = 0;
  std::string_view host;
  int32_t port = 0;
  std::vector<Coordinator> coordinators;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 1});
    wire(m.error_code, {.last = 3});
    wire(m.error_message, {.since = 1, .last = 3});
    wire(m.node_id, {.last = 3});
    wire(m.host, {.last = 3});
    wire(m.port, {.last = 3});
    wire(m.coordinators, {.since = 4});
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
