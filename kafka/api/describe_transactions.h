// DescribeTransactions (key 65): how transactions stand with their coordinator.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeTransactionsResponse;

struct DescribeTransactionsRequest final {
  static constexpr Api kApi{
      .key = 65, .name = "DescribeTransactions", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = DescribeTransactionsResponse;

  std::vector<std::string_view> transactional_ids;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.transactional_ids);
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeTransactionsResponse final {
  static constexpr Api kApi = DescribeTransactionsRequest::kApi;

  struct TopicData {
    std::string_view topic;
    std::vector<int32_t> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct TransactionState {
    ErrorCode error_code = ErrorCode::kNone;
    std::string_view transactional_id;
    std::string_view transaction_state;
    int32_t transaction_timeout_ms = 0;
    int64_t transaction_start_time_ms = 0;
    int64_t producer_id = 0;
    int16_t producer_epoch = 0;
    std::vector<TopicData> topics;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.transactional_id);
      wire(m.transaction_state);
      wire(m.transaction_timeout_ms);
      wire(m.transaction_start_time_ms);
      wire(m.producer_id);
      wire(m.producer_epoch);
      wire(m.topics);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<TransactionState> transaction_states;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.transaction_states);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
