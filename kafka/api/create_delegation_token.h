// CreateDelegationToken (key 38): makes a token that stands for a user.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct CreateDelegationTokenResponse;

struct CreateDelegationTokenRequest final {
  static constexpr Api kApi{
      .key = 38, .name = "CreateDelegationToken", .oldest = 1, .newest = 3, .flexible = 2};
  using Response = CreateDelegationTokenResponse;

  struct CreatableRenewers {
    std::string_view principal_type;
    std::string_view principal_name;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.principal_type);
      wire(m.principal_name);
      wire.Tags(m.unknown_tags);
    }
  };

  std::optional<std::string_view> owner_principal_type;
  std::optional<std::string_view> owner_principal_name;
  std::vector<CreatableRenewers> renewers;
  int64_t max_lifetime_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.owner_principal_type, {.since = 3});
    wire(m.owner_principal_name, {.since = 3});
    wire(m.renewers);
    wire(m.max_lifetime_ms);
    wire.Tags(m.unknown_tags);
  }
};

struct CreateDelegationTokenResponse final {
  static constexpr Api kApi = CreateDelegationTokenRequest::kApi;

  ErrorCode error_code = ErrorCode::kNone;
  std::string_view principal_type;
  std::string_view principal_name;
  std::string_view token_requester_principal_type;
  std::string_view token_requester_principal_name;
  int64_t issue_timestamp_ms = 0;
  int64_t expiry_timestamp_ms = 0;
  int64_t max_timestamp_ms = 0;
  std::string_view token_id;
  std::string_view hmac;
  int32_t throttle_time_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.error_code);
    wire(m.principal_type);
    wire(m.principal_name);
    wire(m.token_requester_principal_type, {.since = 3});
    wire(m.token_requester_principal_name, {.since = 3});
    wire(m.issue_timestamp_ms);
    wire(m.expiry_timestamp_ms);
    wire(m.max_timestamp_ms);
    wire(m.token_id);
    wire.Bytes(m.hmac);
    wire(m.throttle_time_ms);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
