// AddPartitionsToTxn (key 24): tells a transaction's coordinator which partitions it writes to.
// Clients send versions up to 3, one transaction each; from 4 on brokers ask for many at once.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct AddPartitionsToTxnResponse;

struct AddPartitionsToTxnRequest final {
  static constexpr Api kApi{
      .key = 24, .name = "AddPartitionsToTxn", .oldest = 0, .newest = 5, .flexible = 3};
  using Response = AddPartitionsToTxnResponse;

  struct AddPartitionsToTxnTopic {
    std::string_view name;
    std::vector<int32_t> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct AddPartitionsToTxnTransaction {
    std::string_view transactional_id;
    int64_t producer_id = 0;
    int16_t producer_epoch = 0;
    bool verify_only = false;
    std::vector<AddPartitionsToTxnTopic> topics;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.transactional_id);
      wire(m.producer_id);
      wire(m.producer_epoch);
      wire(m.verify_only);
      wire(m.topics);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<AddPartitionsToTxnTransaction> transactions;
  std::string_view v3_and_below_transactional_id;
  int64_t v3_and_below_producer_id = 0;
  int16_t v3_and_below_producer_epoch = 0;
  std::vector<AddPartitionsToTxnTopic> v3_and_below_topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.transactions, {.since = 4});
    wire(m.v3_and_below_transactional_id, {.last = 3});
    wire(m.v3_and_below_producer_id, {.last = 3});
    wire(m.v3_and_below_producer_epoch, {.last = 3});
    wire(m.v3_and_below_topics, {.last = 3});
    wire.Tags(m.unknown_tags);
  }
};

struct AddPartitionsToTxnResponse final {
  static constexpr Api kApi = AddPartitionsToTxnRequest::kApi;

  struct AddPartitionsToTxnPartitionResult {
    int32_t partition_index = 0;
    ErrorCode partition_error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.partition_error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  struct AddPartitionsToTxnTopicResult {
    std::string_view name;
    std::vector<AddPartitionsToTxnPartitionResult> results_by_partition;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.results_by_partition);
      wire.Tags(m.unknown_tags);
    }
  };

  struct AddPartitionsToTxnResult {
    std::string_view transactional_id;
    std::vector<AddPartitionsToTxnTopicResult> topic_results;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.transactional_id);
      wire(m.topic_results);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::vector<AddPartitionsToTxnResult> results_by_transaction;
  std::vector<AddPartitionsToTxnTopicResult> results_by_topic_v3_and_below;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code, {.since = 4, .ignorable = true});
    wire(m.results_by_transaction, {.since = 4});
    wire(m.results_by_topic_v3_and_below, {.last = 3});
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
