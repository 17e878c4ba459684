// AddOffsetsToTxn (key 25): tells a transaction's coordinator that it commits a group's positions.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct AddOffsetsToTxnResponse;

struct AddOffsetsToTxnRequest final {
  static constexpr Api kApi{
      .key = 25, .name = "AddOffsetsToTxn", .oldest = 0, .newest = 4, .flexible = 3};
  using Response = AddOffsetsToTxnResponse;

  std::string_view transactional_id;
  int64_t producer_id = 0;
  int16_t producer_epoch = 0;
  std::string_view group_id;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.transactional_id);
    wire(m.producer_id);
    wire(m.producer_epoch);
    wire(m.group_id);
    wire.Tags(m.unknown_tags);
  }
};

struct AddOffsetsToTxnResponse final {
  static constexpr Api kApi = AddOffsetsToTxnRequest::kApi;

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
