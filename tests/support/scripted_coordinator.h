// The transaction coordinator of a scripted cluster: the state machine of Apache Kafka 4.2's, for
// both forms of the protocol. It keeps states, epochs and which partitions are to get markers;
// whoever has it writes these, whenever that is, and says so.
//
//   const auto given = coordinator.Init("id", timeout, now);
//   coordinator.Add("id", given, {{"orders", 0}}, now);
//   coordinator.End("id", given, /*commit=*/true);
//   for (const auto& marker : coordinator.Unmarked()) { ... coordinator.Marked(marker); }
//
// Each transaction has a number of its own, by which a test tells what became of it: that is
// decided before any of its markers is written.
//
// Threads: one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/executor.h"
#include "kafka/error_code.h"

namespace holdfast::test {

class ScriptedCoordinator {
 public:
  using ErrorCode = kafka::ErrorCode;
  using Partition = std::pair<std::string, int32_t>;
  struct Producer {
    int64_t id = -1;
    int16_t epoch = -1;

    bool operator==(const Producer&) const = default;
  };
  struct Answer {
    ErrorCode error = ErrorCode::kNone;
    Producer producer = {};
  };
  struct Marker {
    std::string transactional_id;
    Partition partition;
    Producer producer;
    bool commit = false;
  };

  // Kafka's: from there on comes a new producer id.
  static constexpr int16_t kLastEpoch = 32766;

  ScriptedCoordinator(bool second, int16_t first_epoch)
      : second_(second), first_epoch_(first_epoch) {}

  Answer Init(const std::string& id, base::Duration timeout) {
    const auto [found, made] = transactions_.try_emplace(id);
    Transaction& at = found->second;
    if (made) {
      at.producer = {next_producer_id_++, first_epoch_};
      at.timeout = timeout;
      return {.producer = at.producer};
    }
    switch (at.state) {
      case State::kPrepareCommit:
      case State::kPrepareAbort:
        return {ErrorCode::kConcurrentTransactions};
      case State::kOngoing:
        Fence(at);
        return {ErrorCode::kConcurrentTransactions};
      default:
        break;
    }
    at.previous = at.producer;
    at.producer = Next(at.producer);
    at.state = State::kEmpty;
    at.retries = false;
    at.timeout = timeout;
    return {.producer = at.producer};
  }

  // As a client of the first protocol, or a leader of the second, asks for it.
  ErrorCode Add(const std::string& id, const Producer& producer,
                const std::set<Partition>& partitions, base::TimePoint now) {
    const auto found = transactions_.find(id);
    if (const ErrorCode error = Check(found, producer); error != ErrorCode::kNone) return error;
    Transaction& at = found->second;
    if (at.state == State::kPrepareCommit || at.state == State::kPrepareAbort) {
      return ErrorCode::kConcurrentTransactions;
    }
    if (at.state != State::kOngoing) {
      at.state = State::kOngoing;
      at.number = next_number_++;
      at.began = now;
      at.partitions.clear();
    }
    at.partitions.insert(partitions.begin(), partitions.end());
    return ErrorCode::kNone;
  }

  // As a leader of the first protocol asks before the first batch of a transaction.
  ErrorCode Verify(const std::string& id, const Producer& producer, const Partition& partition) {
    const auto found = transactions_.find(id);
    if (const ErrorCode error = Check(found, producer); error != ErrorCode::kNone) return error;
    const Transaction& at = found->second;
    if (at.state == State::kPrepareCommit || at.state == State::kPrepareAbort) {
      return ErrorCode::kConcurrentTransactions;
    }
    return at.state == State::kOngoing && at.partitions.contains(partition)
               ? ErrorCode::kNone
               : ErrorCode::kInvalidTxnState;
  }

  Answer End(const std::string& id, const Producer& producer, bool commit) {
    const auto found = transactions_.find(id);
    if (found == transactions_.end()) return {ErrorCode::kInvalidProducerIdMapping};
    Transaction& at = found->second;
    // It has another epoch by the first time that it was asked.
    const bool again = second_ && at.retries && producer == at.previous;
    if (!again) {
      if (producer.id != at.producer.id) return {ErrorCode::kInvalidProducerIdMapping};
      if (producer.epoch != at.producer.epoch) return {ErrorCode::kProducerFenced};
    }
    const bool right =
        commit == (at.state == State::kPrepareCommit || at.state == State::kCompleteCommit);
    switch (at.state) {
      case State::kOngoing:
        Decide(at, commit);
        return {.producer = second_ ? at.producer : Producer()};
      case State::kPrepareCommit:
      case State::kPrepareAbort:
        return {right ? ErrorCode::kConcurrentTransactions : ErrorCode::kInvalidTxnState};
      case State::kCompleteCommit:
      case State::kCompleteAbort:
        if (right && (!second_ || again)) return {.producer = second_ ? at.producer : Producer()};
        return {ErrorCode::kInvalidTxnState};
      case State::kEmpty:
        return {ErrorCode::kInvalidTxnState};
    }
    return {ErrorCode::kUnknownServerError};
  }

  void AbortExpired(base::TimePoint now) {
    for (auto& [id, at] : transactions_) {
      if (at.state == State::kOngoing && at.began + at.timeout < now) Fence(at);
    }
  }

  [[nodiscard]] std::vector<Marker> Unmarked() const {
    std::vector<Marker> markers;
    for (const auto& [id, at] : transactions_) {
      if (at.state != State::kPrepareCommit && at.state != State::kPrepareAbort) continue;
      for (const Partition& partition : at.partitions) {
        markers.push_back({id, partition, at.marker, at.state == State::kPrepareCommit});
      }
    }
    return markers;
  }
  void Marked(const Marker& marker) {
    Transaction& at = transactions_.at(marker.transactional_id);
    at.partitions.erase(marker.partition);
    if (!at.partitions.empty()) return;
    at.state = marker.commit ? State::kCompleteCommit : State::kCompleteAbort;
  }

  // Of the transaction that is open, or was the last.
  [[nodiscard]] int64_t NumberOf(const std::string& id) const {
    return transactions_.at(id).number;
  }
  [[nodiscard]] bool Committed(int64_t number) const { return committed_.contains(number); }
  [[nodiscard]] std::set<std::string> Ids() const {
    std::set<std::string> ids;
    for (const auto& [id, at] : transactions_) ids.insert(id);
    return ids;
  }

  std::function<void()> on_commit;  // One was decided.

 private:
  enum class State : uint8_t {
    kEmpty,
    kOngoing,
    kPrepareCommit,
    kPrepareAbort,
    kCompleteCommit,
    kCompleteAbort,
  };
  struct Transaction {
    Producer producer;
    Producer previous;     // Who had the transaction that was ended last, if `retries`.
    bool retries = false;  // That end brought another epoch.
    Producer marker;
    State state = State::kEmpty;
    int64_t number = -1;
    std::set<Partition> partitions;  // Once it is decided: without a marker so far.
    base::TimePoint began;
    base::Duration timeout{};
  };
  using Transactions = std::map<std::string, Transaction>;

  ErrorCode Check(Transactions::const_iterator found, const Producer& producer) const {
    if (found == transactions_.end() || found->second.producer.id != producer.id) {
      return ErrorCode::kInvalidProducerIdMapping;
    }
    return found->second.producer.epoch == producer.epoch ? ErrorCode::kNone
                                                          : ErrorCode::kProducerFenced;
  }
  Producer Next(const Producer& producer) {
    if (producer.epoch >= kLastEpoch) return {next_producer_id_++, 0};
    return {producer.id, static_cast<int16_t>(producer.epoch + 1)};
  }
  // By its producer, whose next transaction has another epoch in the second protocol.
  void Decide(Transaction& at, bool commit) {
    at.marker = at.previous = at.producer;
    if (second_) {
      ++at.marker.epoch;
      at.producer = Next(at.producer);
    }
    at.retries = second_;
    Prepare(at, commit);
  }
  // By somebody else.
  void Fence(Transaction& at) {
    ++at.producer.epoch;
    at.marker = at.producer;
    at.retries = false;
    Prepare(at, /*commit=*/false);
  }
  void Prepare(Transaction& at, bool commit) {
    at.state = commit ? State::kPrepareCommit : State::kPrepareAbort;
    if (!commit) return;
    committed_.insert(at.number);
    if (on_commit) on_commit();
  }

  const bool second_;
  const int16_t first_epoch_;
  int64_t next_producer_id_ = 9000;
  int64_t next_number_ = 0;
  Transactions transactions_;
  std::set<int64_t> committed_;
};

}  // namespace holdfast::test
