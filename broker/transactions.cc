#include "broker/transactions.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <span>
#include <unordered_map>
#include <utility>

#include "base/log.h"
#include "broker/log.h"
#include "broker/producer_ids.h"

namespace holdfast::broker {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;
using kafka::ErrorCode;

// A fence adds one to the epoch of an open transaction, so the largest of all is never given out:
// who was fenced into it gets a new id.
constexpr int16_t kEpochMax = std::numeric_limits<int16_t>::max() - 1;

bool Exhausted(int16_t epoch) { return epoch >= kEpochMax; }

// Somebody may use an epoch that was not given out: then none is left for fencing.
int16_t Next(int16_t epoch) { return static_cast<int16_t>(std::min(epoch, kEpochMax) + 1); }

// An own id, not one of a block.
int64_t NewProducerId(spool::Transaction& transaction) { return TakeProducerIds(transaction, 1); }

void EraseParts(spool::Transaction& transaction, const Transaction& one) {
  const int64_t producer_id = one.producer.id;
  for (const auto& [partition, unused] : one.partitions) {
    transaction.Erase(TransactionPartitionKey(producer_id, partition));
  }
  for (const std::string& group : one.groups) {
    transaction.Erase(TransactionGroupKey(producer_id, group));
  }
  for (const auto& [group, offsets] : one.offsets) {
    for (const auto& [partition, offset] : offsets) {
      transaction.Erase(TransactionOffsetKey(producer_id, {group, partition}));
    }
  }
}

std::string EncodeOffset(const CommittedOffset& offset) {
  return Encode(
      OffsetRecord{offset.offset, offset.leader_epoch, offset.metadata, offset.commit_ms, {}});
}

}  // namespace

ErrorCode ForVersion(ErrorCode error, int16_t version, int16_t fenced_since,
                     int16_t abortable_since) {
  if (error == ErrorCode::kProducerFenced && version < fenced_since) {
    return ErrorCode::kInvalidProducerEpoch;
  }
  if (error == ErrorCode::kTransactionAbortable && version < abortable_since) {
    return ErrorCode::kInvalidTxnState;
  }
  return error;
}

std::string_view TransactionStateName(TransactionState state) {
  switch (state) {
    case TransactionState::kEmpty:
      return "Empty";
    case TransactionState::kOngoing:
      return "Ongoing";
    case TransactionState::kCompleteCommit:
      return "CompleteCommit";
    case TransactionState::kCompleteAbort:
      return "CompleteAbort";
  }
  return "Unknown";
}

bool Transactions::Work::HasRoomFor(size_t markers) {
  const size_t needed = markers * kMarkerBytes;
  if (needed <= bytes_) return true;
  bytes_missing_ = needed;
  return false;
}

// --- State --------------------------------------------------------------------------------------

Result<> Transactions::Load(const spool::StateView& state) {
  all_.clear();
  Result<> result;
  state.ForEach(kTransactionPrefix, [&](std::string_view key, std::string_view value) {
    if (!result) return;
    auto one = MakeTransaction(key.substr(kTransactionPrefix.size()), value);
    if (!one) {
      result = Unexpected(std::move(one).error());
      return;
    }
    std::string id = one->id;
    all_.emplace(std::move(id), *std::move(one));
  });
  if (!result) return result;
  HF_RETURN_IF_ERROR(LoadParts(state));
  CountOngoing();
  return {};
}

Result<Transaction> Transactions::MakeTransaction(std::string_view id,
                                                  std::string_view value) const {
  HF_ASSIGN_OR_RETURN(const TransactionRecord record, ParseTransaction(value));
  return Transaction{.id = std::string(id),
                     .producer = {record.producer_id, record.producer_epoch},
                     .previous_producer_id = record.previous_producer_id,
                     .last_epoch = record.last_producer_epoch,
                     .timeout_ms = record.timeout_ms,
                     .state = static_cast<TransactionState>(record.state),
                     .start_ms = record.start_ms,
                     .update_ms = record.update_ms,
                     .partitions = {},
                     .groups = {},
                     .offsets = {}};
}

Result<> Transactions::LoadParts(const spool::StateView& state) {
  std::unordered_map<int64_t, Transaction*> by_producer;
  for (auto& [id, one] : all_) by_producer[one.producer.id] = &one;
  Result<> result;
  size_t lost = 0;
  const auto for_each = [&](std::string_view prefix, auto visit) {
    state.ForEach(prefix, [&](std::string_view key, std::string_view value) {
      if (!result) return;
      const auto parsed = ParseTransactionKey(key);
      const auto found = parsed ? by_producer.find(parsed->first) : by_producer.end();
      if (parsed && found == by_producer.end()) {
        ++lost;
      } else if (!parsed || !visit(*found->second, parsed->second, value)) {
        result = Unexpected(Code::kCorrupt, "a part of a transaction is damaged");
      }
    });
  };
  for_each(kTransactionPartitionPrefix,
           [this](Transaction& one, std::string_view rest, std::string_view) {
             const auto partition = ParsePartition(rest);
             if (partition) one.partitions[*partition] = log_.Find(*partition);
             return partition.has_value();
           });
  for_each(kTransactionGroupPrefix, [](Transaction& one, std::string_view rest, std::string_view) {
    one.groups.emplace(rest);
    return true;
  });
  for_each(kTransactionOffsetPrefix, [](Transaction& one, std::string_view rest,
                                        std::string_view value) {
    const auto place = ParseOffsetPlace(rest);
    const auto record = ParseOffset(value);
    if (!place || !record) return false;
    one.offsets[std::string(place->group)][place->partition] = {
        record->offset, record->leader_epoch, std::string(record->metadata), record->commit_ms};
    return true;
  });
  return result;
}

void Transactions::Save(spool::Transaction& transaction, Transaction& one) {
  one.update_ms = transaction.commit_time_ms();
  transaction.Put(TransactionKey(one.id),
                  Encode(TransactionRecord{.producer_id = one.producer.id,
                                           .producer_epoch = one.producer.epoch,
                                           .previous_producer_id = one.previous_producer_id,
                                           .last_producer_epoch = one.last_epoch,
                                           .timeout_ms = one.timeout_ms,
                                           .state = static_cast<int8_t>(one.state),
                                           .start_ms = one.start_ms,
                                           .update_ms = one.update_ms,
                                           .unknown_tags = {}}));
}

void Transactions::CountOngoing() {
  size_t count = 0;
  for (const auto& [id, one] : all_) count += one.state == TransactionState::kOngoing ? 1 : 0;
  ongoing_.store(count, std::memory_order_relaxed);
}

Transactions::Summary Transactions::Summarize(size_t most) const {
  Summary summary;
  std::vector<const Transaction*> open;
  for (const auto& [id, one] : all_) {
    ++summary.states[one.state];
    if (one.state == TransactionState::kOngoing) open.push_back(&one);
  }
  const auto end = open.begin() + static_cast<ptrdiff_t>(std::min(most, open.size()));
  std::ranges::partial_sort(open, end, {}, &Transaction::start_ms);
  for (const Transaction* const one : std::span(open.begin(), end)) {
    Summary::Open& told = summary.oldest.emplace_back();
    told = {.id = one->id,
            .producer = one->producer,
            .start_ms = one->start_ms,
            .timeout_ms = one->timeout_ms,
            .partition_count = one->partitions.size(),
            .group_count = one->groups.size()};
    for (const auto& [name, partition] : one->partitions) {
      if (told.partitions.size() == Summary::kPartitionsNamed) break;
      told.partitions.push_back(name);
    }
  }
  return summary;
}

const Transaction* Transactions::Find(std::string_view id) const {
  const auto found = all_.find(id);
  return found == all_.end() ? nullptr : &found->second;
}

Transaction* Transactions::FindMutable(std::string_view id) {
  const auto found = all_.find(id);
  return found == all_.end() ? nullptr : &found->second;
}

// --- Beginning ----------------------------------------------------------------------------------

Transactions::Outcome Transactions::Begin(Work& work, std::string_view id, int32_t timeout_ms,
                                          std::optional<ProducerIdentity> known) {
  Transaction* one = FindMutable(id);
  if (one == nullptr) {
    one = &all_[std::string(id)];
    one->id = id;
    one->producer = {NewProducerId(work.transaction()), kafka::kNoProducerEpoch};
  }
  // Of the id before only if the answer to the last epoch's rotation was lost.
  if (known && one->producer.epoch != kafka::kNoProducerEpoch && known->id != one->producer.id &&
      !(known->id == one->previous_producer_id && Exhausted(known->epoch))) {
    return {ErrorCode::kProducerFenced, {}};
  }
  if (one->state == TransactionState::kOngoing) {
    if (!work.HasRoomFor(one->partitions.size())) return {};
    Fence(work, *one);
  }
  return NextEpoch(work, *one, timeout_ms, known);
}

// No transaction is open.
Transactions::Outcome Transactions::NextEpoch(Work& work, Transaction& one, int32_t timeout_ms,
                                              std::optional<ProducerIdentity> known) {
  const int16_t epoch = one.producer.epoch;
  const bool fenced_last = epoch > kEpochMax && known && known->epoch == one.last_epoch;
  if (Exhausted(epoch) && (!known || known->epoch == epoch || fenced_last)) {
    one.previous_producer_id = one.producer.id;
    one.last_epoch = known ? known->epoch : kafka::kNoProducerEpoch;
    one.producer = {NewProducerId(work.transaction()), 0};
  } else if (!known) {
    one.last_epoch = kafka::kNoProducerEpoch;
    ++one.producer.epoch;
  } else if (epoch == kafka::kNoProducerEpoch || known->epoch == epoch) {
    one.last_epoch = epoch;
    ++one.producer.epoch;
  } else if (known->epoch != one.last_epoch) {
    return {ErrorCode::kProducerFenced, {}};
  }  // Else its answer was lost, and it gets the same again.
  one.timeout_ms = timeout_ms;
  one.state = TransactionState::kEmpty;
  one.start_ms = -1;
  Save(work.transaction(), one);
  return {ErrorCode::kNone, one.producer};
}

ErrorCode Transactions::Check(std::string_view id, ProducerIdentity producer) const {
  const Transaction* one = Find(id);
  if (one == nullptr || one->producer.id != producer.id) {
    return ErrorCode::kInvalidProducerIdMapping;
  }
  return one->producer.epoch == producer.epoch ? ErrorCode::kNone : ErrorCode::kProducerFenced;
}

ErrorCode Transactions::MakeOngoing(spool::Transaction& transaction, Transaction& one) {
  if (one.state == TransactionState::kOngoing) return ErrorCode::kNone;
  one.state = TransactionState::kOngoing;
  one.start_ms = transaction.commit_time_ms();
  Save(transaction, one);
  ongoing_.fetch_add(1, std::memory_order_relaxed);
  return ErrorCode::kNone;
}

ErrorCode Transactions::AddPartition(spool::Transaction& transaction, std::string_view id,
                                     ProducerIdentity producer, Partition& partition) {
  if (const ErrorCode error = Check(id, producer); error != ErrorCode::kNone) return error;
  Transaction& one = *FindMutable(id);
  MakeOngoing(transaction, one);
  if (one.partitions.emplace(partition.id, &partition).second) {
    transaction.Put(TransactionPartitionKey(producer.id, partition.id), {});
  }
  return ErrorCode::kNone;
}

ErrorCode Transactions::AddGroup(spool::Transaction& transaction, std::string_view id,
                                 ProducerIdentity producer, std::string_view group) {
  if (const ErrorCode error = Check(id, producer); error != ErrorCode::kNone) return error;
  Transaction& one = *FindMutable(id);
  MakeOngoing(transaction, one);
  if (one.groups.emplace(group).second) {
    transaction.Put(TransactionGroupKey(producer.id, group), {});
  }
  return ErrorCode::kNone;
}

ErrorCode Transactions::CheckPartition(std::string_view id, ProducerIdentity producer,
                                       const TopicPartition& partition) const {
  if (const ErrorCode error = Check(id, producer); error != ErrorCode::kNone) return error;
  return Find(id)->partitions.contains(partition) ? ErrorCode::kNone
                                                  : ErrorCode::kTransactionAbortable;
}

ErrorCode Transactions::CheckGroup(std::string_view id, ProducerIdentity producer,
                                   std::string_view group) const {
  if (const ErrorCode error = Check(id, producer); error != ErrorCode::kNone) return error;
  return Find(id)->groups.contains(group) ? ErrorCode::kNone : ErrorCode::kTransactionAbortable;
}

void Transactions::AddOffsets(spool::Transaction& transaction, std::string_view id,
                              const std::string& group, const CommittedOffsets& offsets) {
  Transaction& one = *FindMutable(id);
  CommittedOffsets& pending = one.offsets[group];
  for (const auto& [partition, offset] : offsets) {
    pending[partition] = offset;
    transaction.Put(TransactionOffsetKey(one.producer.id, {group, partition}),
                    EncodeOffset(offset));
  }
}

void Transactions::ForgetOffset(spool::Transaction& transaction, std::string_view group,
                                const TopicPartition& partition) {
  if (ongoing() == 0) return;
  for (auto& [id, one] : all_) {
    const auto found = one.offsets.find(group);
    if (found == one.offsets.end() || found->second.erase(partition) == 0) continue;
    transaction.Erase(TransactionOffsetKey(one.producer.id, {group, partition}));
  }
}

void Transactions::ForgetGroup(spool::Transaction& transaction, std::string_view group) {
  for (auto& [id, one] : all_) {
    const auto found = one.offsets.find(group);
    if (found == one.offsets.end()) continue;
    for (const auto& [partition, offset] : found->second) {
      transaction.Erase(TransactionOffsetKey(one.producer.id, {group, partition}));
    }
    one.offsets.erase(found);
  }
}

// --- The end ------------------------------------------------------------------------------------

Transactions::Outcome Transactions::End(Work& work, std::string_view id, ProducerIdentity producer,
                                        bool commit, bool bump) {
  using enum TransactionState;
  Transaction* one = FindMutable(id);
  if (one == nullptr) return {ErrorCode::kInvalidProducerIdMapping, {}};
  // The answer was lost, and the transaction has its next epoch already, or id.
  const bool complete = one->state == kCompleteCommit || one->state == kCompleteAbort;
  const bool next_id = bump && complete && producer.id == one->previous_producer_id &&
                       Exhausted(producer.epoch) && one->producer.epoch == 0;
  const bool next_epoch = bump && complete && producer.id == one->producer.id &&
                          producer.epoch + 1 == one->producer.epoch;
  if (producer.id != one->producer.id && !next_id) {
    return {ErrorCode::kInvalidProducerIdMapping, {}};
  }
  if (producer.epoch != one->producer.epoch && !next_id && !next_epoch) {
    return {ErrorCode::kProducerFenced, {}};
  }
  if (one->state != kOngoing) {
    const bool again = bump ? next_id || next_epoch : complete;
    if (again && commit == (one->state == kCompleteCommit)) return {{}, one->producer};
    // An abort of a transaction that never reached us is one, too, for whoever does not add
    // partitions beforehand.
    if (commit || !bump || again) return {ErrorCode::kInvalidTxnState, {}};
  }
  if (!work.HasRoomFor(one->partitions.size())) return {};
  if (!bump) {
    Finish(work, *one, commit, producer.epoch);
    return {{}, one->producer};
  }
  Finish(work, *one, commit, Next(producer.epoch));
  one->last_epoch = producer.epoch;
  if (Exhausted(producer.epoch)) {
    one->previous_producer_id = producer.id;
    one->producer = {NewProducerId(work.transaction()), 0};
  } else {
    ++one->producer.epoch;
  }
  Save(work.transaction(), *one);
  return {{}, one->producer};
}

// An abort that the producer has not asked for: from now on it is refused. It may come back, if it
// knows its epoch and nobody else has come before.
void Transactions::Fence(Work& work, Transaction& one) {
  one.last_epoch = one.producer.epoch;
  one.producer.epoch = Next(one.producer.epoch);
  Finish(work, one, /*commit=*/false, one.producer.epoch);
}

// Everything that a transaction leaves behind, in the commit that is being made.
void Transactions::Finish(Work& work, Transaction& one, bool commit, int16_t marker_epoch) {
  spool::Transaction& transaction = work.transaction();
  EraseParts(transaction, one);
  for (const auto& [id, partition] : one.partitions) {
    if (partition == nullptr || partition->deleted) continue;
    log_.AppendMarker(
        transaction, *partition,
        {.end = commit ? kafka::TransactionEnd::kCommit : kafka::TransactionEnd::kAbort,
         .producer = {one.producer.id, marker_epoch}},
        work.NewMarker());
  }
  EndedTransaction& ended = work.ended_.emplace_back();
  ended.producer_id = one.producer.id;
  ended.committed = commit;
  ended.offsets = std::exchange(one.offsets, {});
  for (const std::string& group : one.groups) ended.offsets.try_emplace(group);
  for (auto& [group, offsets] : ended.offsets) {
    std::erase_if(offsets, [this](const auto& item) {
      const Partition* partition = log_.Find(item.first);
      return partition == nullptr || partition->deleted;
    });
    if (!commit) continue;
    for (const auto& [partition, offset] : offsets) {
      transaction.Put(CommittedOffsetKey({group, partition}), EncodeOffset(offset));
    }
  }
  one.partitions.clear();
  one.groups.clear();
  if (one.state == TransactionState::kOngoing) ongoing_.fetch_sub(1, std::memory_order_relaxed);
  one.state = commit ? TransactionState::kCompleteCommit : TransactionState::kCompleteAbort;
  Save(transaction, one);
}

std::vector<Transactions::Overdue> Transactions::FindOverdue(int64_t now_ms) const {
  std::vector<Overdue> found;
  for (const auto& [id, one] : all_) {
    if (one.state != TransactionState::kOngoing) continue;
    if (one.start_ms + one.timeout_ms < now_ms) found.push_back({id, one.producer});
  }
  return found;
}

bool Transactions::AbortOverdue(Work& work, const Overdue& overdue) {
  Transaction* one = FindMutable(overdue.id);
  if (one == nullptr || one->producer != overdue.producer ||
      one->state != TransactionState::kOngoing ||
      one->start_ms + one->timeout_ms >= work.transaction().commit_time_ms()) {
    return false;
  }
  if (!work.HasRoomFor(one->partitions.size())) return false;
  Fence(work, *one);
  return true;
}

void Transactions::Expire(spool::Transaction& transaction, int64_t unused_since_ms) {
  std::erase_if(all_, [&](const auto& item) {
    const Transaction& one = item.second;
    if (one.state == TransactionState::kOngoing || one.update_ms > unused_since_ms) return false;
    transaction.Erase(TransactionKey(one.id));
    return true;
  });
}

}  // namespace holdfast::broker
