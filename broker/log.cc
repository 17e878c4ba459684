#include "broker/log.h"

#include <array>
#include <bit>
#include <cstring>

#include "base/endian.h"
#include "base/event.h"
#include "base/log.h"

namespace holdfast::broker {
namespace {

using base::Result;
using base::Unexpected;

// What an entry's tag holds is enough to bring a producer's state up to date without its bytes:
//   tag := i64 producer id, i16 epoch, i32 sequence (of a marker: coordinator epoch), u8 flags
// in little-endian.
constexpr size_t kTagEpoch = sizeof(int64_t);
constexpr size_t kTagSequence = kTagEpoch + sizeof(int16_t);
constexpr size_t kTagFlags = kTagSequence + sizeof(int32_t);
constexpr char kTransactional = 1;
constexpr char kMarker = 2;
constexpr char kCommit = 4;

spool::Tag MakeTag(const kafka::Producer& producer, int flags) {
  spool::Tag tag{};
  base::StoreLittle(tag.data(), producer.id);
  base::StoreLittle(tag.data() + kTagEpoch, producer.epoch);
  base::StoreLittle(tag.data() + kTagSequence, producer.base_sequence);
  tag[kTagFlags] = static_cast<char>(flags);
  return tag;
}

kafka::Producer ReadProducer(const spool::Tag& tag) {
  return {.id = base::LoadLittle<int64_t>(tag.data()),
          .epoch = base::LoadLittle<int16_t>(tag.data() + kTagEpoch),
          .base_sequence = base::LoadLittle<int32_t>(tag.data() + kTagSequence)};
}

}  // namespace

Result<std::unique_ptr<Log>> Log::Open(const spool::Options& options, Published published,
                                       base::Executor& writer, base::Executor& background,
                                       Callbacks callbacks) {
  std::unique_ptr<Log> log(new Log(published, std::move(callbacks)));
  HF_ASSIGN_OR_RETURN(log->spool_, spool::Spool::Open(options, *log, writer, background));
  for (Partition& partition : log->partitions_) {
    const spool::OffsetRange range = log->spool_->Range(partition.stream);
    partition.high_watermark.store(range.end);
    partition.last_stable_offset.store(partition.transactions.LastStableOffset(range.end));
    partition.log_start.store(range.start);
  }
  return log;
}

Log::~Log() {
  if (spool_) spool_->Close();
}

Partition* Log::AddPartition(const TopicPartition& id, spool::StreamId stream,
                             int32_t leader_epoch) {
  if (by_stream_.size() <= stream.value()) by_stream_.resize(size_t{stream.value()} + 1);
  Partition*& slot = by_stream_[stream.value()];
  // A name never comes twice: it holds the topic's id.
  HF_CHECK(slot == nullptr);
  slot = &partitions_.emplace_back(id, stream, leader_epoch);
  return slot;
}

void Log::ForgetPartition(Partition& partition) {
  partition.deleted = true;
  partition.producers = {};
  partition.producers_changed = false;
}

Partition* Log::Find(const TopicPartition& id) const {
  const auto topics = catalog_.Get();
  const Topic* topic = topics->Find(id.topic);
  return topic == nullptr ? nullptr : topic->Find(id.partition);
}

void Log::AppendBatch(spool::Transaction& transaction, Partition& partition, std::string_view bytes,
                      const kafka::SequencedBatch& batch, int64_t max_timestamp_ms) {
  const int64_t base_offset =
      transaction.Append({.stream = partition.stream,
                          .bytes = bytes,
                          .record_count = static_cast<uint32_t>(batch.record_count),
                          .max_timestamp_ms = max_timestamp_ms,
                          .tag = MakeTag(batch.producer, batch.transactional ? kTransactional : 0),
                          .summed = {{.begin = kafka::kBatchCrcBegin,
                                      .crc = kafka::RecordBatchView(bytes).header().crc}}});
  if (batch.producer.id == kafka::kNoProducerId) return;
  // The time of arrival, where Kafka takes the records' own: old records do not make a producer
  // expire, so that a backlog of days is deduplicated like any other.
  Remember(partition, batch,
           {.base_offset = base_offset, .timestamp = transaction.commit_time_ms()});
}

void Log::AppendMarker(spool::Transaction& transaction, Partition& partition,
                       const TransactionMarker& marker, std::string* bytes) {
  const int64_t now_ms = transaction.commit_time_ms();
  const auto& [id, epoch] = marker.producer;
  *bytes = kafka::BuildTransactionMarker(marker.end, id, epoch, marker.coordinator_epoch, now_ms);
  HF_CHECK(bytes->size() == kMarkerBytes);
  const std::span<char> batch(*bytes);
  kafka::SetBaseOffset(batch, transaction.EndOffset(partition.stream));
  kafka::SetPartitionLeaderEpoch(batch, partition.leader_epoch);
  const int flags =
      kTransactional | kMarker | (marker.end == kafka::TransactionEnd::kCommit ? kCommit : 0);
  const int64_t offset =
      transaction.Append({.stream = partition.stream,
                          .bytes = *bytes,
                          .record_count = 1,
                          .max_timestamp_ms = now_ms,
                          .tag = MakeTag({id, epoch, marker.coordinator_epoch}, flags)});
  Remember(partition, marker, {.base_offset = offset, .timestamp = now_ms});
}

void Log::Remember(Partition& partition, const kafka::SequencedBatch& batch,
                   const kafka::ProducerTable::Place& place) {
  partition.producers.Record(batch, place);
  partition.producers_changed = true;
  if (batch.transactional &&
      partition.producers.transaction_start(batch.producer.id) == place.base_offset) {
    partition.transactions.Begin(place.base_offset);
  }
}

void Log::Remember(Partition& partition, const TransactionMarker& marker,
                   const kafka::ProducerTable::Place& place) {
  const int64_t begun =
      partition.producers.RecordMarker({.producer_id = marker.producer.id,
                                        .producer_epoch = marker.producer.epoch,
                                        .coordinator_epoch = marker.coordinator_epoch,
                                        .timestamp = place.timestamp});
  partition.producers_changed = true;
  if (begun < 0) return;  // The partition was added to the transaction, and nothing came.
  partition.transactions.End({marker.producer.id, begun, place.base_offset},
                             marker.end == kafka::TransactionEnd::kAbort);
}

Partition* Log::FindPartition(spool::StreamId stream) {
  return stream.value() < by_stream_.size() ? by_stream_[stream.value()] : nullptr;
}

void Log::ExpireProducers(int64_t last_seen_before_ms) {
  for (Partition& partition : partitions_) {
    if (partition.producers.ExpireBefore(last_seen_before_ms) > 0) {
      partition.producers_changed = true;
    }
  }
}

Result<> Log::Load(const spool::StateView& state) {
  const bool again = std::exchange(loaded_, true);
  if (again) {
    base::Log(base::Event::kProducersReadAgain, "broker",
              "a commit failed: reading the producers' state again from the last good one");
    for (Partition& partition : partitions_) {
      partition.transactions.Rewind(partition.high_watermark.load());
    }
  } else {
    HF_RETURN_IF_ERROR(LoadBrokerConfig(state));
    HF_RETURN_IF_ERROR(LoadTopics(state));
    HF_RETURN_IF_ERROR(LoadGroups(state));
    HF_RETURN_IF_ERROR(LoadConsumerGroups(state));
    HF_RETURN_IF_ERROR(LoadAborted(state));
    HF_RETURN_IF_ERROR(LoadAcls(state));
    HF_RETURN_IF_ERROR(LoadGroupConfigs(state));
    for (Partition& partition : partitions_) {
      const auto cleaned = state.Get(CleanedKey(partition.id));
      if (cleaned) partition.cleaned_to = std::max<int64_t>(ParseCleaned(*cleaned), 0);
    }
    HF_RETURN_IF_ERROR(LoadScram(state));
    HF_RETURN_IF_ERROR(LoadQuotas(state));
    if (const auto id = state.Get(kClusterIdKey)) recovered_.cluster_id = *id;
    if (const auto key = state.Get(kSaltKeyKey)) recovered_.salt_key = *key;
  }
  HF_RETURN_IF_ERROR(transactions_.Load(state));
  if (!again) NotePendingOffsets();
  ResetPartitions(state);
  return LoadProducers(state);
}

void Log::NotePendingOffsets() {
  for (const auto& [id, transaction] : transactions_.all()) {
    for (const auto& [group, offsets] : transaction.offsets) {
      for (const auto& [partition, offset] : offsets) {
        recovered_.pending_offsets.push_back({group, partition, transaction.producer.id});
      }
    }
  }
}

Result<> Log::LoadTopics(const spool::StateView& state) {
  const auto defaults = broker_config_.Get()->topic_defaults();
  auto topics = std::make_shared<Topics>();
  Result<> result;
  state.ForEach(kTopicPrefix, [&](std::string_view, std::string_view value) {
    if (!result) return;
    auto record = ParseTopic(value);
    if (!record) {
      result = Unexpected(std::move(record).error());
      return;
    }
    auto topic = std::make_shared<Topic>();
    topic->name = record->name;
    topic->id = record->id;
    topic->config = ReadConfig(*record).Over(defaults);
    for (const auto& partition : record->partitions) {
      const auto index = static_cast<int32_t>(topic->partitions.size());
      topic->partitions.push_back(AddPartition(
          {topic->id, index}, spool::StreamId(partition.stream), partition.leader_epoch));
    }
    topics->Put(std::move(topic));
  });
  if (!result) return result;
  catalog_.Publish(std::move(topics));
  return {};
}

Result<> Log::LoadGroups(const spool::StateView& state) {
  Result<> result;
  state.ForEach(kGroupPrefix, [&](std::string_view key, std::string_view value) {
    if (!result) return;
    auto record = ParseGroup(value);
    if (!record) {
      result = Unexpected(std::move(record).error());
      return;
    }
    recovered_.groups.emplace_back(key.substr(kGroupPrefix.size()), *std::move(record));
  });
  if (!result) return result;

  state.ForEach(kOffsetPrefix, [&](std::string_view key, std::string_view value) {
    if (!result) return;
    const auto place = ParseOffsetKey(key);
    auto record = ParseOffset(value);
    if (!place || !record) {
      result = place ? Unexpected(std::move(record).error())
                     : Unexpected(base::Code::kCorrupt, "the key of a committed offset is damaged");
      return;
    }
    recovered_.offsets.push_back({std::string(place->group), place->partition, record->offset,
                                  record->leader_epoch, std::string(record->metadata),
                                  record->commit_ms});
  });
  return result;
}

Result<> Log::LoadConsumerGroups(const spool::StateView& state) {
  Result<> result;
  state.ForEach(kConsumerGroupPrefix, [&](std::string_view key, std::string_view value) {
    if (!result) return;
    auto record = ParseConsumerGroup(value);
    if (!record) {
      result = Unexpected(std::move(record).error());
      return;
    }
    const std::string group(key.substr(kConsumerGroupPrefix.size()));
    recovered_.consumer_groups[group].record = *std::move(record);
  });
  if (!result) return result;

  state.ForEach(kConsumerMemberPrefix, [&](std::string_view key, std::string_view value) {
    if (!result) return;
    const auto place = ParseConsumerMemberKey(key);
    auto record = ParseConsumerMember(value);
    if (!place || !record) {
      result = place ? Unexpected(std::move(record).error())
                     : Unexpected(base::Code::kCorrupt, "the key of a group's member is damaged");
      return;
    }
    record->number = place->second;
    recovered_.consumer_groups[std::string(place->first)].members.push_back(*std::move(record));
  });
  return result;
}

void Log::ResetPartitions(const spool::StateView& state) {
  kafka::Uuid topic;
  bool deleted = true;
  for (Partition& partition : partitions_) {  // Those of one topic mostly follow each other.
    if (partition.id.topic != topic) {
      topic = partition.id.topic;
      deleted = !state.Get(TopicKey(topic));
    }
    partition.producers = {};
    partition.producers_changed = false;
    partition.deleted = deleted;
  }
}

Result<> Log::LoadProducers(const spool::StateView& state) {
  for (Partition& partition : partitions_) {
    const auto stored = state.Get(ProducersKey(partition.id));
    if (!stored) continue;
    HF_ASSIGN_OR_RETURN(partition.producers, kafka::ProducerTable::Parse(*stored));
    for (const kafka::ActiveProducer& producer : partition.producers.List()) {
      const int64_t begun = producer.transaction_start_offset;
      if (begun >= 0) partition.transactions.Begin(begun);
    }
  }
  return {};
}

Result<> Log::LoadAborted(const spool::StateView& state) {
  for (Partition& partition : partitions_) {
    const auto stored = state.Get(AbortedKey(partition.id));
    if (stored) HF_RETURN_IF_ERROR(partition.transactions.Load(*stored));
  }
  return {};
}

Result<> Log::LoadAcls(const spool::StateView& state) {
  auto acls = std::make_shared<Acls>();
  Result<> result;
  state.ForEach(kAclPrefix, [&](std::string_view key, std::string_view value) {
    if (!result) return;
    const auto acl = ParseAclKey(key);
    // A rule that is not understood must not be passed over: it may be one that denies.
    if (auto record = ParseAcl(value); !record) {
      result = Unexpected(std::move(record).error());
    } else if (!acl) {
      result = Unexpected(base::Code::kCorrupt, "the key of an access rule is damaged");
    } else {
      acls->Put(*acl);
    }
  });
  if (!result) return result;
  acls_.Publish(std::move(acls));
  return {};
}

Result<> Log::LoadGroupConfigs(const spool::StateView& state) {
  auto configs = std::make_shared<GroupConfigs>();
  Result<> result;
  state.ForEach(kGroupConfigPrefix, [&](std::string_view key, std::string_view value) {
    if (!result) return;
    auto record = ParseConfigs(value);
    if (!record) {
      result = Unexpected(std::move(record).error());
      return;
    }
    const std::string group(key.substr(kGroupConfigPrefix.size()));
    GroupConfig config = ReadConfig(group, *record);
    if (!config.overrides().empty()) configs->emplace(group, std::move(config));
  });
  if (!result) return result;
  group_configs_.Publish(std::move(configs));
  return {};
}

Result<> Log::LoadBrokerConfig(const spool::StateView& state) {
  auto config = std::make_shared<BrokerConfig>();
  for (const BrokerScope scope : kBrokerScopes) {
    const auto stored = state.Get(BrokerConfigKey(scope));
    if (!stored) continue;
    HF_ASSIGN_OR_RETURN(const ConfigsRecord record, ParseConfigs(*stored));
    ReadConfig(scope, record, config.get());
  }
  broker_config_.Publish(std::move(config));
  return {};
}

Result<> Log::LoadScram(const spool::StateView& state) {
  auto credentials = std::make_shared<ScramCredentials>();
  Result<> result;
  state.ForEach(kScramPrefix, [&](std::string_view key, std::string_view value) {
    if (!result) return;
    auto parsed_key = ParseScramKey(key);
    if (auto record = ParseScram(value); !record) {
      result = Unexpected(std::move(record).error());
    } else if (!parsed_key) {
      result = Unexpected(base::Code::kCorrupt, "the key of a SCRAM credential is damaged");
    } else {
      (*credentials)[*std::move(parsed_key)] = {.salt = std::string(record->salt),
                                                .iterations = record->iterations,
                                                .stored_key = std::string(record->stored_key),
                                                .server_key = std::string(record->server_key)};
    }
  });
  if (!result) return result;
  scram_.Publish(std::move(credentials));
  return {};
}

Result<> Log::LoadQuotas(const spool::StateView& state) {
  auto quotas = std::make_shared<Quotas>();
  Result<> result;
  state.ForEach(kQuotaPrefix, [&](std::string_view key, std::string_view value) {
    if (!result) return;
    const auto entity = ParseQuotaKey(key);
    if (auto record = ParseQuota(value); !record) {
      result = Unexpected(std::move(record).error());
    } else if (!entity) {
      result = Unexpected(base::Code::kCorrupt, "the key of a quota is damaged");
    } else {
      QuotaValues values;
      for (const auto& one : record->values) values[std::string(one.key)] = one.value;
      quotas->Put(*entity, std::move(values));
    }
  });
  if (!result) return result;
  quotas_.Publish(std::move(quotas));
  return {};
}

void Log::Replay(const spool::EntryInfo& entry) {
  Partition* partition = FindPartition(entry.stream);
  if (partition == nullptr || partition->deleted) return;
  const kafka::Producer producer = ReadProducer(entry.tag);
  if (producer.id == kafka::kNoProducerId) return;
  const int flags = entry.tag[kTagFlags];
  const kafka::ProducerTable::Place place{.base_offset = entry.base_offset,
                                          .timestamp = entry.commit_time_ms};
  if ((flags & kMarker) != 0) {
    const bool commit = (flags & kCommit) != 0;
    return Remember(*partition,
                    {.end = commit ? kafka::TransactionEnd::kCommit : kafka::TransactionEnd::kAbort,
                     .producer = {producer.id, producer.epoch},
                     .coordinator_epoch = producer.base_sequence},
                    place);
  }
  Remember(*partition,
           {.producer = producer,
            .record_count = static_cast<int32_t>(entry.record_count),
            .transactional = (flags & kTransactional) != 0},
           place);
}

void Log::Checkpoint(spool::Transaction& transaction) {
  const auto put = [&transaction](const std::string& key, const std::string& value) {
    value.empty() ? transaction.Erase(key) : transaction.Put(key, value);
  };
  for (Partition& partition : partitions_) {
    if (std::exchange(partition.producers_changed, false)) {
      put(ProducersKey(partition.id),
          partition.producers.size() == 0 ? "" : partition.producers.Serialize());
    }
    if (partition.transactions.changed() && !partition.deleted) {
      put(AbortedKey(partition.id), partition.transactions.Serialize());
    }
  }
}

void Log::OnDurable(std::span<const spool::StreamId> streams) {
  for (const spool::StreamId stream : streams) {
    if (Partition* partition = FindPartition(stream)) {
      const int64_t end = spool_->Range(stream).end;
      partition->high_watermark.store(end);
      partition->last_stable_offset.store(partition->transactions.LastStableOffset(end));
    }
  }
  Wake(streams);
}

void Log::OnTrimmed(Partition& partition, int64_t offset) {
  if (offset <= partition.log_start.load()) return;
  partition.log_start.store(offset);  // First: readers look at it when they have asked for these.
  partition.transactions.TrimBelow(offset);
  Wake({&partition.stream, 1});
}

void Log::AnnounceDeleted(const Topic& topic) {
  std::vector<spool::StreamId> streams;
  for (Partition* partition : topic.partitions) {
    partition->log_start.store(partition->high_watermark.load());  // First, as in OnTrimmed.
    partition->transactions.Clear();
    streams.push_back(partition->stream);
  }
  Wake(streams);
  callbacks_.topic_deleted(topic.id);
}

// The watermark is stored before the waiters are looked at, and a waiter registers before it looks
// at the watermark a last time; with sequential consistency one of the two sees the other.
void Log::Wake(std::span<const spool::StreamId> streams) {
  std::array<std::vector<spool::StreamId>, 64> per_worker;
  uint64_t woken = 0;
  for (const spool::StreamId stream : streams) {
    const Partition* partition = FindPartition(stream);
    if (partition == nullptr) continue;
    uint64_t workers = partition->waiting_workers.load();
    woken |= workers;
    for (; workers != 0; workers &= workers - 1) {
      per_worker[static_cast<size_t>(std::countr_zero(workers))].push_back(stream);
    }
  }
  for (; woken != 0; woken &= woken - 1) {
    const auto worker = static_cast<size_t>(std::countr_zero(woken));
    callbacks_.wake(worker, std::move(per_worker[worker]));
  }
}

}  // namespace holdfast::broker
