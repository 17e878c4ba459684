// DescribeClientQuotas (key 48): the quotas of clients that a filter fits.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeClientQuotasResponse;

struct DescribeClientQuotasRequest final {
  static constexpr Api kApi{
      .key = 48, .name = "DescribeClientQuotas", .oldest = 0, .newest = 1, .flexible = 1};
  using Response = DescribeClientQuotasResponse;

  struct ComponentData {
    std::string_view entity_type;
    int8_t match_type = 0;
    std::optional<std::string_view> match;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.entity_type);
      wire(m.match_type);
      wire(m.match);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<ComponentData> components;
  bool strict = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.components);
    wire(m.strict);
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeClientQuotasResponse final {
  static constexpr Api kApi = DescribeClientQuotasRequest::kApi;

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

    struct ValueData {
      std::string_view key;
      double value = 0;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.key);
        wire(m.value);
        wire.Tags(m.unknown_tags);
      }
    };

    std::vector<EntityData> entity;
    std::vector<ValueData> values;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.entity);
      wire(m.values);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  std::optional<std::vector<EntryData>> entries;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.error_message);
    wire(m.entries);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
