// The transaction coordinator's answers to tools: what there is, and markers written by hand.
#include <algorithm>

#include "broker/name_pattern.h"
#include "broker/transaction_coordinator.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::DescribeTransactionsRequest;
using kafka::DescribeTransactionsResponse;
using kafka::ErrorCode;
using kafka::ListTransactionsRequest;
using kafka::ListTransactionsResponse;
using kafka::WriteTxnMarkersRequest;
using kafka::WriteTxnMarkersResponse;

// All states that Kafka knows; a transaction here is never in the middle of its end.
constexpr std::string_view kStates[] = {"Empty",        "Ongoing",          "PrepareCommit",
                                        "PrepareAbort", "CompleteCommit",   "CompleteAbort",
                                        "Dead",         "PrepareEpochFence"};

void Describe(const Topics& topics, const Transaction& one, kafka::Strings* strings,
              DescribeTransactionsResponse::TransactionState* out) {
  out->transaction_state = TransactionStateName(one.state);
  out->transaction_timeout_ms = one.timeout_ms;
  out->transaction_start_time_ms = one.start_ms;
  out->producer_id = one.producer.id;
  out->producer_epoch = one.producer.epoch;
  const Topic* last = nullptr;
  for (const auto& [partition, unused] : one.partitions) {  // Those of one topic follow each other.
    const Topic* topic = topics.Find(partition.topic);
    if (topic == nullptr) continue;
    if (topic != last) out->topics.emplace_back().topic = strings->Keep(topic->name);
    last = topic;
    out->topics.back().partitions.push_back(partition.partition);
  }
}

}  // namespace

void TransactionCoordinator::Handle(Call<DescribeTransactionsRequest> call) {
  loop_.AssertInLoop();
  struct Question {
    Call<DescribeTransactionsRequest> call;
    DescribeTransactionsResponse response;
  };
  auto question = std::make_shared<Question>(Question{std::move(call), {}});
  Submit(
      [this, question](Work&) {
        question->response = {};
        const auto topics = context_.catalog.Get();
        for (const std::string_view id : question->call.request.transactional_ids) {
          auto& out = question->response.transaction_states.emplace_back();
          out.transactional_id = id;
          if (id.empty()) {
            out.error_code = ErrorCode::kInvalidRequest;
          } else if (const Transaction* one = transactions().Find(id)) {
            Describe(*topics, *one, &question->response.strings, &out);
          } else {
            out.error_code = ErrorCode::kTransactionalIdNotFound;
          }
        }
        return Outcome{};
      },
      /*bytes=*/0,
      [question](const Outcome& outcome) {
        for (auto& one : question->response.transaction_states) {
          if (outcome.error != ErrorCode::kNone) one.error_code = outcome.error;
        }
        question->call.Respond(question->response);
      });
}

void TransactionCoordinator::Handle(Call<ListTransactionsRequest> call) {
  loop_.AssertInLoop();
  struct Question {
    Call<ListTransactionsRequest> call;
    ListTransactionsResponse response;
    int64_t now_ms;
    std::optional<NamePattern> ids;  // None: all.

    [[nodiscard]] bool Wants(const std::string& id, const Transaction& one) const {
      const ListTransactionsRequest& request = call.request;
      const auto& states = request.state_filters;
      const auto& producers = request.producer_id_filters;
      const std::string_view state = TransactionStateName(one.state);
      if (!states.empty() && std::ranges::find(states, state) == states.end()) return false;
      if (!producers.empty() && std::ranges::find(producers, one.producer.id) == producers.end())
        return false;
      if (ids && !ids->Matches(id)) return false;
      return request.duration_filter < 0 || now_ms - one.start_ms > request.duration_filter;
    }
  };
  auto question =
      std::make_shared<Question>(Question{std::move(call), {}, loop_.WallClockMs(), {}});
  if (const auto pattern = question->call.request.transactional_id_pattern.value_or("");
      !pattern.empty()) {
    auto ids = NamePattern::Parse(std::string(pattern));
    if (!ids) {
      question->response.error_code = ErrorCode::kInvalidRegularExpression;
      return question->call.Respond(question->response);
    }
    question->ids = *std::move(ids);
  }
  Submit(
      [this, question](Work&) {
        question->response = {};
        for (const std::string_view state : question->call.request.state_filters) {
          if (std::ranges::find(kStates, state) != std::end(kStates)) continue;
          question->response.unknown_state_filters.push_back(state);
        }
        for (const auto& [id, one] : transactions().all()) {
          if (!question->Wants(id, one)) continue;
          auto& out = question->response.transaction_states.emplace_back();
          out.transactional_id = question->response.strings.Keep(id);
          out.producer_id = one.producer.id;
          out.transaction_state = TransactionStateName(one.state);
        }
        return Outcome{};
      },
      /*bytes=*/0,
      [question](const Outcome& outcome) {
        question->response.error_code = outcome.error;
        question->call.Respond(question->response);
      });
}

// WriteTxnMarkers on its way: one marker for each partition that is named.
struct TransactionCoordinator::Marking {
  struct One {
    Partition* partition;  // Null if there is none.
    TransactionMarker marker;
    int8_t transaction_version;
    ErrorCode error = ErrorCode::kNone;
  };

  explicit Marking(Call<WriteTxnMarkersRequest> marking_call) : call(std::move(marking_call)) {}

  static ErrorCode Check(const One& one) {
    if (one.partition == nullptr || one.partition->deleted) {
      return ErrorCode::kUnknownTopicOrPartition;
    }
    const ProducerIdentity& producer = one.marker.producer;
    const kafka::ProducerTable& producers = one.partition->producers;
    const ErrorCode error =
        producers.CheckMarker({.producer_id = producer.id,
                               .producer_epoch = producer.epoch,
                               .coordinator_epoch = one.marker.coordinator_epoch,
                               .timestamp = 0});
    if (error != ErrorCode::kNone) return error;
    // There a marker's epoch is the next one, unless it comes again.
    const bool same_epoch = producers.transaction_start(producer.id, producer.epoch) >= 0;
    return one.transaction_version >= 2 && same_epoch ? ErrorCode::kInvalidProducerEpoch
                                                      : ErrorCode::kNone;
  }

  Call<WriteTxnMarkersRequest> call;
  WriteTxnMarkersResponse response;
  std::vector<One> all;  // In the response's order.
};

void TransactionCoordinator::Handle(Call<WriteTxnMarkersRequest> call) {
  loop_.AssertInLoop();
  catalog_.Refresh();
  auto marking = std::make_shared<Marking>(std::move(call));
  for (const auto& asked : marking->call.request.markers) {
    auto& out = marking->response.markers.emplace_back();
    out.producer_id = asked.producer_id;
    const TransactionMarker marker{.end = asked.transaction_result ? kafka::TransactionEnd::kCommit
                                                                   : kafka::TransactionEnd::kAbort,
                                   .producer = {asked.producer_id, asked.producer_epoch},
                                   .coordinator_epoch = asked.coordinator_epoch};
    for (const auto& topic_request : asked.topics) {
      auto& topic_out = out.topics.emplace_back();
      topic_out.name = topic_request.name;
      const Topic* topic = catalog_.topics().Find(topic_request.name);
      for (const int32_t index : topic_request.partition_indexes) {
        topic_out.partitions.emplace_back().partition_index = index;
        marking->all.push_back(
            {topic == nullptr ? nullptr : topic->Find(index), marker, asked.transaction_version});
      }
    }
  }
  Submit(
      [this, marking](Work& work) {
        for (Marking::One& one : marking->all) {
          one.error = one.marker.producer.id < 0 ? ErrorCode::kInvalidRequest : Marking::Check(one);
          if (one.error == ErrorCode::kNone) {
            context_.log->AppendMarker(work.transaction(), *one.partition, one.marker,
                                       work.NewMarker());
          }
        }
        return Outcome{};
      },
      marking->all.size() * kMarkerBytes,
      [marking](const Outcome& outcome) {
        size_t at = 0;
        for (auto& marker : marking->response.markers) {
          for (auto& topic : marker.topics) {
            for (auto& partition : topic.partitions) {
              const ErrorCode error = marking->all[at++].error;
              partition.error_code = outcome.error != ErrorCode::kNone ? outcome.error : error;
            }
          }
        }
        marking->call.Respond(marking->response);
      });
}

}  // namespace holdfast::broker
