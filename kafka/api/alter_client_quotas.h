// AlterClientQuotas (key 49): sets and removes quotas of clients.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct AlterClientQuotasResponse;

struct AlterClientQuotasRequest final {
  static constexpr Api kApi{
      .key = 49, .name = "AlterClientQuotas", .oldest = 0, .newest = 1, .flexible = 1};
  using Response = AlterClientQuotasResponse;

  struct EntryData {
    struct EntityData {
      std::string_view entity_type;
      std::optional<std::string_view> entity_name;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.entity_type);
        wire(m.entity_name);
        wire.Tags(m.unknown_tags);
      }
    };

    struct OpData {
      std::string_view key;
      double value = 0;
      bool remove = false;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.key);
        wire(m.value);
        wire(m.remove);
        wire.Tags(m.unknown_tags);
      }
    };

    std::vector<EntityData> entity;
    std::vector<OpData> ops;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.entity);
      wire(m.ops);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<EntryData> entries;
  bool validate_only = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.entries);
    wire(m.validate_only);
    wire.Tags(m.unknown_tags);
  }
};

struct AlterClientQuotasResponse final {
  static constexpr Api kApi = AlterClientQuotasRequest::kApi;

  struct EntryData {
    struct EntityData {
      std::string_view entity_type;
      std::optional<std::string_view> entity_name;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.entity_type);
        wire(m.entity_name);
        wire.Tags(m.unknown_tags);
      }
    };

    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    std::vector<EntityData> entity;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.error_message);
      wire(m.entity);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<EntryData> entries;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.entries);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
