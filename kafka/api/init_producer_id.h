// InitProducerId (key 22): an id and epoch for an idempotent or transactional producer.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct InitProducerIdResponse;

struct InitProducerIdRequest final {
  static constexpr Api kApi{
      .key = 22, .name = "InitProducerId", .oldest = 0, .newest = 5, .flexible = 2};
  using Response = InitProducerIdResponse;

  std::optional<std::string_view> transactional_id;
  int32_t transaction_timeout_ms = 0;
  int64_t producer_id = -1;
  int16_t producer_epoch = -1;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.transactional_id);
    wire(m.transaction_timeout_ms);
    wire(m.producer_id, {.since = 3});
    wire(m.producer_epoch, {.since = 3});
    wire.Tags(m.unknown_tags);
  }
};

struct InitProducerIdResponse final {
  static constexpr Api kApi = InitProducerIdRequest::kApi;

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  int64_t producer_id = -1;
  int16_t producer_epoch = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.producer_id);
    wire(m.producer_epoch);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
