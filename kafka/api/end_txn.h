// EndTxn (key 26): commits or aborts a transaction. From version 5 on the answer carries the epoch
// under which the next transaction runs.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct EndTxnResponse;

struct EndTxnRequest final {
  static constexpr Api kApi{.key = 26, .name = "EndTxn", .oldest = 0, .newest = 5, .flexible = 3};
  using Response = EndTxnResponse;

  std::string_view transactional_id;
  int64_t producer_id = 0;
  int16_t producer_epoch = 0;
  bool committed = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.transactional_id);
    wire(m.producer_id);
    wire(m.producer_epoch);
    wire(m.committed);
    wire.Tags(m.unknown_tags);
  }
};

struct EndTxnResponse final {
  static constexpr Api kApi = EndTxnRequest::kApi;

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  int64_t producer_id = -1;
  int16_t producer_epoch = -1;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.producer_id, {.since = 5, .ignorable = true});
    wire(m.producer_epoch, {.since = 5, .ignorable = true});
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
