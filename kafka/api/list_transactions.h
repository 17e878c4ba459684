// ListTransactions (key 66): the transactional ids that a coordinator knows.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ListTransactionsResponse;

struct ListTransactionsRequest final {
  static constexpr Api kApi{
      .key = 66, .name = "ListTransactions", .oldest = 0, .newest = 2, .flexible = 0};
  using Response = ListTransactionsResponse;

  std::vector<std::string_view> state_filters;
  std::vector<int64_t> producer_id_filters;
  int64_t duration_filter = -1;
  std::optional<std::string_view> transactional_id_pattern;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.state_filters);
    wire(m.producer_id_filters);
    wire(m.duration_filter, {.since = 1});
    wire(m.transactional_id_pattern, {.since = 2, .nullable_since = 2});
    wire.Tags(m.unknown_tags);
  }
};

struct ListTransactionsResponse final {
  static constexpr Api kApi = ListTransactionsRequest::kApi;

  struct TransactionState {
    std::string_view transactional_id;
    int64_t producer_id = 0;
    std::string_view transaction_state;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.transactional_id);
      wire(m.producer_id);
      wire(m.transaction_state);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::vector<std::string_view> unknown_state_filters;
  std::vector<TransactionState> transaction_states;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.unknown_state_filters);
    wire(m.transaction_states);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
