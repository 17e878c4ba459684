#include "broker/transaction_coordinator.h"

#include <algorithm>

#include "base/event.h"
#include "base/log.h"
#include "broker/milliseconds.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;

constexpr int16_t kFencedSince = 2;  // Before, PRODUCER_FENCED has no name.
// An end is asked for this many markers at first; only larger transactions have to come twice.
constexpr size_t kUsualEndBytes = 16 * kMarkerBytes;

bool ValidTransactionalId(std::string_view id) {
  return !id.empty() && id.size() <= kTransactionalIdBytesMax;
}

}  // namespace

// One call of the rules in a commit. If that lacks room for markers it is done over with enough.
class TransactionCoordinator::Decision final : public spool::Operation {
 public:
  Decision(TransactionCoordinator& coordinator, Decide decide, size_t bytes, Answer answer)
      : coordinator_(coordinator),
        decide_(std::move(decide)),
        bytes_(bytes),
        answer_(std::move(answer)) {}

  [[nodiscard]] size_t Bytes() const override { return bytes_; }

  void Apply(spool::Transaction& transaction) override {
    Work work(transaction, bytes_);
    outcome_ = decide_(work);
    bytes_missing_ = work.bytes_missing();
    markers_ = work.TakeMarkers();
    ended_ = work.TakeEnded();
  }

  void Done(const base::Result<spool::CommitNumber>& result) override {
    TransactionCoordinator& coordinator = coordinator_;
    if (result && bytes_missing_ > 0) {
      coordinator.loop_.Post([&coordinator, decide = std::move(decide_), bytes = bytes_missing_,
                              answer = std::move(answer_)]() mutable {
        coordinator.Submit(std::move(decide), bytes, std::move(answer));
      });
      return;
    }
    if (!result) {
      outcome_ = {kafka::ToCoordinatorError(result.error().code), {}};
      ended_.clear();
    }
    coordinator.loop_.Post([&coordinator, outcome = outcome_, ended = std::move(ended_),
                            answer = std::move(answer_)]() mutable {
      for (EndedTransaction& transaction : ended) {
        coordinator.context_.metrics.transactions
            .With(transaction.committed ? "committed" : "aborted")
            .Add();
        coordinator.groups_.OnTransactionEnded(std::move(transaction));
      }
      if (outcome.error != ErrorCode::kNone) {
        coordinator.context_.metrics.errors.With(kafka::ErrorName(outcome.error)).Add();
      }
      answer(outcome);
    });
  }

 private:
  TransactionCoordinator& coordinator_;
  Decide decide_;
  const size_t bytes_;
  Answer answer_;
  Outcome outcome_;
  size_t bytes_missing_ = 0;
  std::deque<std::string> markers_;
  std::vector<EndedTransaction> ended_;
};

TransactionCoordinator::TransactionCoordinator(Context& context, Coordinator& groups,
                                               Submitter& submitter, base::Executor& loop)
    : context_(context),
      groups_(groups),
      submitter_(submitter),
      loop_(loop),
      catalog_(context.catalog) {}

void TransactionCoordinator::Start() {
  AbortOverdueLater();
  ExpireLater();
}

void TransactionCoordinator::Stop() {
  abort_timer_.Cancel();
  expiry_timer_.Cancel();
}

void TransactionCoordinator::Submit(Decide decide, size_t bytes, Answer answer) {
  submitter_.Submit(std::make_unique<Decision>(*this, std::move(decide), bytes, std::move(answer)));
}

// --- Producers ----------------------------------------------------------------------------------

void TransactionCoordinator::Handle(Call<kafka::InitProducerIdRequest> call) {
  loop_.AssertInLoop();
  constexpr int16_t kFencedSinceHere = 4;
  const kafka::InitProducerIdRequest& request = call.request;
  const std::string_view id = *request.transactional_id;
  const auto respond = [](Call<kafka::InitProducerIdRequest>& to, const Outcome& outcome) {
    kafka::InitProducerIdResponse response;
    response.error_code = ForVersion(outcome.error, to.version(), kFencedSinceHere);
    if (outcome.error == ErrorCode::kNone) {
      response.producer_id = outcome.producer.id;
      response.producer_epoch = outcome.producer.epoch;
    } else {
      response.producer_epoch = kafka::kNoProducerEpoch;
    }
    to.Respond(response);
  };
  const ProducerIdentity known{request.producer_id, request.producer_epoch};
  ErrorCode error = ErrorCode::kNone;
  if (!ValidTransactionalId(id) ||
      (known.id == kafka::kNoProducerId) != (known.epoch == kafka::kNoProducerEpoch)) {
    error = ErrorCode::kInvalidRequest;
  } else if (request.transaction_timeout_ms <= 0 ||
             request.transaction_timeout_ms > ToMs(context_.options.transaction_timeout_max)) {
    error = ErrorCode::kInvalidTransactionTimeout;
  }
  if (error != ErrorCode::kNone) return respond(call, {error, {}});
  const bool is_known = known.id != kafka::kNoProducerId;
  Submit([this, id = std::string(id), timeout_ms = request.transaction_timeout_ms,
          known = is_known ? std::optional(known) : std::nullopt](
             Work& work) { return transactions().Begin(work, id, timeout_ms, known); },
         /*bytes=*/0,
         [respond, call = std::move(call)](const Outcome& outcome) mutable {
           respond(call, outcome);
         });
}

void TransactionCoordinator::Handle(Call<kafka::EndTxnRequest> call) {
  loop_.AssertInLoop();
  constexpr int16_t kBumpsSince = 5;
  const auto respond = [](Call<kafka::EndTxnRequest>& to, const Outcome& outcome) {
    kafka::EndTxnResponse response;
    response.error_code = ForVersion(outcome.error, to.version(), kFencedSince);
    response.producer_id = outcome.producer.id;
    response.producer_epoch = outcome.producer.epoch;
    to.Respond(response);
  };
  const kafka::EndTxnRequest& request = call.request;
  if (!ValidTransactionalId(request.transactional_id)) {
    return respond(call, {ErrorCode::kInvalidRequest, {}});
  }
  Submit([this, id = std::string(request.transactional_id),
          producer = ProducerIdentity{request.producer_id, request.producer_epoch},
          commit = request.committed, bump = call.version() >= kBumpsSince](
             Work& work) { return transactions().End(work, id, producer, commit, bump); },
         kUsualEndBytes,
         [respond, call = std::move(call)](const Outcome& outcome) mutable {
           respond(call, outcome);
         });
}

// --- What takes part ----------------------------------------------------------------------------

// AddPartitionsToTxn on its way: the partitions of each transaction.
struct TransactionCoordinator::Addition {
  using Request = kafka::AddPartitionsToTxnRequest;
  using TopicResult = kafka::AddPartitionsToTxnResponse::AddPartitionsToTxnTopicResult;

  struct One {
    std::string_view id;
    ProducerIdentity producer;
    bool verify_only = false;
    std::vector<Partition*> partitions;  // In the response's order; null if there is none.
    std::vector<ErrorCode> errors;
  };

  explicit Addition(Call<Request> addition_call) : call(std::move(addition_call)) {}

  void Add(const Topics& catalog, const std::vector<Request::AddPartitionsToTxnTopic>& topics,
           One one, std::vector<TopicResult>* out) {
    for (const auto& topic_request : topics) {
      auto& topic_out = out->emplace_back();
      topic_out.name = topic_request.name;
      const Topic* topic = catalog.Find(topic_request.name);
      for (const int32_t index : topic_request.partitions) {
        topic_out.results_by_partition.emplace_back().partition_index = index;
        one.partitions.push_back(topic == nullptr ? nullptr : topic->Find(index));
      }
    }
    all.push_back(std::move(one));
  }

  // All or none of a transaction's partitions.
  void Decide(spool::Transaction& transaction, Transactions& transactions, One& one) const {
    one.errors.clear();
    if (!ValidTransactionalId(one.id)) {
      one.errors.assign(one.partitions.size(), ErrorCode::kInvalidRequest);
      return;
    }
    const bool any_unknown = std::ranges::any_of(one.partitions, [](const Partition* partition) {
      return partition == nullptr || partition->deleted;
    });
    for (Partition* partition : one.partitions) {
      if (partition == nullptr || partition->deleted) {
        one.errors.push_back(ErrorCode::kUnknownTopicOrPartition);
      } else if (any_unknown) {
        one.errors.push_back(ErrorCode::kOperationNotAttempted);
      } else if (one.verify_only) {
        one.errors.push_back(transactions.CheckPartition(one.id, one.producer, partition->id));
      } else {
        one.errors.push_back(
            transactions.AddPartition(transaction, one.id, one.producer, *partition));
      }
    }
  }

  void Fill(const One& one, ErrorCode failed, std::vector<TopicResult>* out) const {
    size_t at = 0;
    for (auto& topic : *out) {
      for (auto& partition : topic.results_by_partition) {
        const ErrorCode error = failed != ErrorCode::kNone ? failed : one.errors[at];
        partition.partition_error_code =
            ForVersion(error, call.version(), kFencedSince, kAbortableSince);
        ++at;
      }
    }
  }

  static constexpr int16_t kManySince = 4;
  static constexpr int16_t kAbortableSince = 5;

  Call<Request> call;
  kafka::AddPartitionsToTxnResponse response;
  std::vector<One> all;
};

void TransactionCoordinator::Handle(Call<kafka::AddPartitionsToTxnRequest> call) {
  loop_.AssertInLoop();
  catalog_.Refresh();
  auto addition = std::make_shared<Addition>(std::move(call));
  const auto& request = addition->call.request;
  const bool many = addition->call.version() >= Addition::kManySince;
  if (many) {
    for (const auto& one : request.transactions) {
      auto& out = addition->response.results_by_transaction.emplace_back();
      out.transactional_id = one.transactional_id;
      addition->Add(catalog_.topics(), one.topics,
                    {one.transactional_id, {one.producer_id, one.producer_epoch}, one.verify_only},
                    &out.topic_results);
    }
  } else {
    addition->Add(catalog_.topics(), request.v3_and_below_topics,
                  {request.v3_and_below_transactional_id,
                   {request.v3_and_below_producer_id, request.v3_and_below_producer_epoch}},
                  &addition->response.results_by_topic_v3_and_below);
  }
  Submit(
      [this, addition](Work& work) {
        for (Addition::One& one : addition->all) {
          addition->Decide(work.transaction(), transactions(), one);
        }
        return Outcome{};
      },
      /*bytes=*/0,
      [addition, many](const Outcome& outcome) {
        auto& response = addition->response;
        if (many) {
          for (size_t i = 0; i < addition->all.size(); ++i) {
            addition->Fill(addition->all[i], outcome.error,
                           &response.results_by_transaction[i].topic_results);
          }
        } else {
          addition->Fill(addition->all.front(), outcome.error,
                         &response.results_by_topic_v3_and_below);
        }
        addition->call.Respond(response);
      });
}

void TransactionCoordinator::Handle(Call<kafka::AddOffsetsToTxnRequest> call) {
  loop_.AssertInLoop();
  const auto respond = [](Call<kafka::AddOffsetsToTxnRequest>& to, const Outcome& outcome) {
    kafka::AddOffsetsToTxnResponse response;
    response.error_code = ForVersion(outcome.error, to.version(), kFencedSince);
    to.Respond(response);
  };
  const kafka::AddOffsetsToTxnRequest& request = call.request;
  if (request.group_id.empty() || request.group_id.size() > kGroupIdBytesMax) {
    return respond(call, {ErrorCode::kInvalidGroupId, {}});
  }
  if (!ValidTransactionalId(request.transactional_id)) {
    return respond(call, {ErrorCode::kInvalidRequest, {}});
  }
  Submit(
      [this, id = std::string(request.transactional_id), group = std::string(request.group_id),
       producer = ProducerIdentity{request.producer_id, request.producer_epoch}](Work& work) {
        return Outcome{transactions().AddGroup(work.transaction(), id, producer, group), {}};
      },
      /*bytes=*/0,
      [respond, call = std::move(call)](const Outcome& outcome) mutable {
        respond(call, outcome);
      });
}

// --- Timeouts -----------------------------------------------------------------------------------

void TransactionCoordinator::AbortOverdueLater() {
  abort_timer_ = loop_.After(kAbortInterval, [this] {
    if (transactions().ongoing() > 0) AbortOverdue();
    AbortOverdueLater();
  });
}

void TransactionCoordinator::AbortOverdue() {
  auto found = std::make_shared<std::vector<Transactions::Overdue>>();
  Submit(
      [this, found, now_ms = loop_.WallClockMs()](Work&) {
        *found = transactions().FindOverdue(now_ms);
        return Outcome{};
      },
      /*bytes=*/0,
      [this, found](const Outcome&) {
        for (const Transactions::Overdue& one : *found) {
          base::Log(base::Event::kTransactionOverdue, {"transaction", one.id},
                    "the transaction (producer {}, epoch {}) has taken too long: aborting it",
                    one.producer.id, one.producer.epoch);
          Submit(
              [this, one](Work& work) {
                transactions().AbortOverdue(work, one);
                return Outcome{};
              },
              // If it cannot be written the next round tries again.
              kUsualEndBytes, [](const Outcome&) {});
        }
      });
}

void TransactionCoordinator::ExpireLater() {
  expiry_timer_ = loop_.After(kExpiryInterval, [this] {
    const int64_t since_ms =
        loop_.WallClockMs() - ToMs(context_.options.transactional_id_expiration);
    Submit(
        [this, since_ms](Work& work) {
          transactions().Expire(work.transaction(), since_ms);
          return Outcome{};
        },
        /*bytes=*/0, [](const Outcome&) {});
    ExpireLater();
  });
}

}  // namespace holdfast::broker
