// DescribeDelegationToken (key 41): the tokens that there are.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeDelegationTokenResponse;

struct DescribeDelegationTokenRequest final {
  static constexpr Api kApi{
      .key = 41, .name = "DescribeDelegationToken", .oldest = 1, .newest = 3, .flexible = 2};
  using Response = DescribeDelegationTokenResponse;

  struct DescribeDelegationTokenOwner {
    std::string_view principal_type;
    std::string_view principal_name;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.principal_type);
      wire(m.principal_name);
      wire.Tags(m.unknown_tags);
    }
  };

  std::optional<std::vector<DescribeDelegationTokenOwner>> owners;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.owners);
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeDelegationTokenResponse final {
  static constexpr Api kApi = DescribeDelegationTokenRequest::kApi;

  struct DescribedDelegationToken {
    struct DescribedDelegationTokenRenewer {
      std::string_view principal_type;
      std::string_view principal_name;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.principal_type);
        wire(m.principal_name);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view principal_type;
    std::string_view principal_name;
    std::string_view token_requester_principal_type;
    std::string_view token_requester_principal_name;
    int64_t issue_timestamp = 0;
    int64_t expiry_timestamp = 0;
    int64_t max_timestamp = 0;
    std::string_view token_id;
    std::string_view hmac;
    std::vector<DescribedDelegationTokenRenewer> renewers;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.principal_type);
      wire(m.principal_name);
      wire(m.token_requester_principal_type, {.since = 3});
      wire(m.token_requester_principal_name, {.since = 3});
      wire(m.issue_timestamp);
      wire(m.expiry_timestamp);
      wire(m.max_timestamp);
      wire(m.token_id);
      wire.Bytes(m.hmac);
      wire(m.renewers);
      wire.Tags(m.unknown_tags);
    }
  };

  ErrorCode error_code = ErrorCode::kNone;
  std::vector<DescribedDelegationToken> tokens;
  int32_t throttle_time_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.error_code);
    wire(m.tokens);
    wire(m.throttle_time_ms);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
