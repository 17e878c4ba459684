// AlterUserScramCredentials (key 51): sets and removes SCRAM credentials of users.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct AlterUserScramCredentialsResponse;

struct AlterUserScramCredentialsRequest final {
  static constexpr Api kApi{
      .key = 51, .name = "AlterUserScramCredentials", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = AlterUserScramCredentialsResponse;

  struct ScramCredentialDeletion {
    std::string_view name;
    int8_t mechanism = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.mechanism);
      wire.Tags(m.unknown_tags);
    }
  };

  struct ScramCredentialUpsertion {
    std::string_view name;
    int8_t mechanism = 0;
    int32_t iterations = 0;
    std::string_view salt;
    std::string_view salted_password;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.mechanism);
      wire(m.iterations);
      wire.Bytes(m.salt);
      wire.Bytes(m.salted_password);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<ScramCredentialDeletion> deletions;
  std::vector<ScramCredentialUpsertion> upsertions;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.deletions);
    wire(m.upsertions);
    wire.Tags(m.unknown_tags);
  }
};

struct AlterUserScramCredentialsResponse final {
  static constexpr Api kApi = AlterUserScramCredentialsRequest::kApi;

  struct AlterUserScramCredentialsResult {
    std::string_view user;
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.user);
      wire(m.error_code);
      wire(m.error_message);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<AlterUserScramCredentialsResult> results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
