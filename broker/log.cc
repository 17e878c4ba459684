#include "broker/log.h"

#include <array>
#include <bit>
#include <cstring>

#include "base/endian.h"
#include "base/log.h"

namespace holdfast::broker {
namespace {

using base::Result;
using base::Unexpected;

constexpr size_t kTagEpoch = sizeof(int64_t);
constexpr size_t kTagSequence = kTagEpoch + sizeof(int16_t);
constexpr size_t kTagFlags = kTagSequence + sizeof(int32_t);
constexpr char kTransactional = 1;

}  // namespace

spool::Tag MakeTag(const kafka::SequencedBatch& batch) {
  spool::Tag tag{};
  base::StoreLittle(tag.data(), batch.producer.id);
  base::StoreLittle(tag.data() + kTagEpoch, batch.producer.epoch);
  base::StoreLittle(tag.data() + kTagSequence, batch.producer.base_sequence);
  tag[kTagFlags] = batch.transactional ? kTransactional : 0;
  return tag;
}

kafka::SequencedBatch ReadTag(const spool::EntryInfo& entry) {
  const char* tag = entry.tag.data();
  kafka::SequencedBatch batch;
  batch.producer = {.id = base::LoadLittle<int64_t>(tag),
                    .epoch = base::LoadLittle<int16_t>(tag + kTagEpoch),
                    .base_sequence = base::LoadLittle<int32_t>(tag + kTagSequence)};
  batch.record_count = static_cast<int32_t>(entry.record_count);
  batch.transactional = tag[kTagFlags] == kTransactional;
  return batch;
}

Result<std::unique_ptr<Log>> Log::Open(const spool::Options& options, Catalog& catalog,
                                       base::Executor& writer, base::Executor& background,
                                       Callbacks callbacks) {
  std::unique_ptr<Log> log(new Log(catalog, std::move(callbacks)));
  HF_ASSIGN_OR_RETURN(log->spool_, spool::Spool::Open(options, *log, writer, background));
  for (Partition& partition : log->partitions_) {
    const spool::OffsetRange range = log->spool_->Range(partition.stream);
    partition.high_watermark.store(range.end);
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
  if (!loaded_) {
    HF_RETURN_IF_ERROR(LoadTopics(state));
    HF_RETURN_IF_ERROR(LoadGroups(state));
    if (const auto id = state.Get(kClusterIdKey)) recovered_.cluster_id = *id;
    loaded_ = true;
  } else {
    base::Log(base::LogLevel::kWarn, "broker",
              "a commit failed: reading the producers' state again from the last good one");
  }
  ResetPartitions(state);
  return LoadProducers(state);
}

Result<> Log::LoadTopics(const spool::StateView& state) {
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
    for (const auto& config : record->configs) {
      auto set = topic->config.Set(config.name, config.value);
      if (!set) {
        base::Log(base::LogLevel::kWarn, "broker", "topic {}: left out: {}", topic->name,
                  set.error().message);
      }
    }
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
  }
  return {};
}

void Log::Replay(const spool::EntryInfo& entry) {
  Partition* partition = FindPartition(entry.stream);
  if (partition == nullptr || partition->deleted) return;
  const kafka::SequencedBatch batch = ReadTag(entry);
  if (batch.producer.id == kafka::kNoProducerId) return;
  partition->producers.Record(
      batch, {.base_offset = entry.base_offset, .timestamp = entry.commit_time_ms});
  partition->producers_changed = true;
}

void Log::Checkpoint(spool::Transaction& transaction) {
  for (Partition& partition : partitions_) {
    if (!partition.producers_changed) continue;
    partition.producers_changed = false;
    if (partition.producers.size() == 0) {
      transaction.Erase(ProducersKey(partition.id));
    } else {
      transaction.Put(ProducersKey(partition.id), partition.producers.Serialize());
    }
  }
}

void Log::OnDurable(std::span<const spool::StreamId> streams) {
  for (const spool::StreamId stream : streams) {
    if (Partition* partition = FindPartition(stream)) {
      partition->high_watermark.store(spool_->Range(stream).end);
    }
  }
  Wake(streams);
}

void Log::AnnounceDeleted(const Topic& topic) {
  std::vector<spool::StreamId> streams;
  for (const Partition* partition : topic.partitions) streams.push_back(partition->stream);
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
