// The topics that exist, as every loop sees them.
//
// Topics is immutable: a change publishes a new one. Readers keep a CatalogReader each, which looks
// at one atomic number per request and touches shared memory only when topics were changed.
//
// Ownership: partitions live as long as the broker, also after their topic is deleted, as their
//   streams do; so plain pointers to them are never left hanging.
// Threads: Topics and Topic from any; a CatalogReader belongs to one thread; Catalog::Publish is
//   called on the writer only.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "broker/published.h"
#include "broker/records.h"
#include "broker/topic_config.h"
#include "broker/transaction_index.h"
#include "kafka/producer_state.h"
#include "spool/spool.h"

namespace holdfast::broker {

struct Partition {
  Partition(const TopicPartition& partition_id, spool::StreamId partition_stream, int32_t epoch)
      : id(partition_id), stream(partition_stream), leader_epoch(epoch) {}

  const TopicPartition id;
  const spool::StreamId stream;
  const int32_t leader_epoch;

  // Consumers read below it. On one node it is the end of what is durable.
  std::atomic<int64_t> high_watermark{0};
  // Those with isolation level read_committed read below it. Never above the high watermark.
  std::atomic<int64_t> last_stable_offset{0};
  std::atomic<int64_t> log_start{0};
  // What is below was compacted.
  std::atomic<int64_t> cleaned_to{0};
  // Bit i: worker i has fetches that wait for this partition, and wants to be told of new entries.
  std::atomic<uint64_t> waiting_workers{0};

  TransactionIndex transactions;

  // Of the writer's thread.
  kafka::ProducerTable producers;
  bool producers_changed = false;  // Since the last checkpoint.
  bool deleted = false;
};

struct Topic {
  std::string name;
  kafka::Uuid id;
  TopicConfig config;
  std::vector<Partition*> partitions;

  // Null if there is no such partition.
  [[nodiscard]] Partition* Find(int32_t index) const {
    return index >= 0 && static_cast<size_t>(index) < partitions.size()
               ? partitions[static_cast<size_t>(index)]
               : nullptr;
  }
};

class Topics {
 public:
  // Null if there is none.
  [[nodiscard]] const Topic* Find(std::string_view name) const;
  [[nodiscard]] const Topic* Find(const kafka::Uuid& id) const;
  // By name.
  [[nodiscard]] std::vector<const Topic*> All() const;
  [[nodiscard]] size_t size() const { return by_id_.size(); }
  [[nodiscard]] size_t partitions() const;

  // In place of one with the same id, if there is one.
  void Put(std::shared_ptr<const Topic> topic);
  void Erase(const kafka::Uuid& id);

 private:
  std::unordered_map<kafka::Uuid, std::shared_ptr<const Topic>> by_id_;
  std::unordered_map<std::string_view, const Topic*> by_name_;  // Keys borrow from the topics.
};

using Catalog = Published<Topics>;

class CatalogReader {
 public:
  explicit CatalogReader(const Catalog& catalog) : reader_(catalog) {}

  // What Refresh saw last.
  [[nodiscard]] const Topics& topics() const { return *reader_; }
  [[nodiscard]] const std::shared_ptr<const Topics>& shared() const { return reader_.shared(); }
  // Another number when the topics have changed; not 0 once Refresh was called.
  [[nodiscard]] uint64_t version() const { return reader_.version(); }
  // Pointers got from topics() before may be left hanging.
  void Refresh() { reader_.Refresh(); }

 private:
  PublishedReader<Topics> reader_;
};

// The settings of a stored topic. What this version does not take (another one may have written it)
// is left out, with a warning.
TopicConfig ReadConfig(const TopicRecord& record);

// Random, and neither zero nor one whose text form begins with '-', which tools take for an option.
kafka::Uuid MakeUuid();

}  // namespace holdfast::broker
