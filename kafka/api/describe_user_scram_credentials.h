// DescribeUserScramCredentials (key 50): which users can log in with SCRAM, never with what.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeUserScramCredentialsResponse;

struct DescribeUserScramCredentialsRequest final {
  static constexpr Api kApi{
      .key = 50, .name = "DescribeUserScramCredentials", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = DescribeUserScramCredentialsResponse;

  struct UserName {
    std::string_view name;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire.Tags(m.unknown_tags);
    }
  };

  std::optional<std::vector<UserName>> users;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.users);
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeUserScramCredentialsResponse final {
  static constexpr Api kApi = DescribeUserScramCredentialsRequest::kApi;

  struct DescribeUserScramCredentialsResult {
    struct CredentialInfo {
      int8_t mechanism = 0;
      int32_t iterations = 0;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.mechanism);
        wire(m.iterations);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view user;
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    std::vector<CredentialInfo> credential_infos;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.user);
      wire(m.error_code);
      wire(m.error_message);
      wire(m.credential_infos);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  std::vector<DescribeUserScramCredentialsResult> results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.error_message);
    wire(m.results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
