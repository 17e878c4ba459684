// The broker's side of the spool: which stream is which partition, what each partition knows of its
// producers, and how far each can be read.
//
// Log is the spool's Owner. Topics, group offsets and transactions are explicit state, written by
// the operations that change them; the producers of a partition and which of its transactions were
// aborted follow from its entries: they are in the checkpoint at a segment's start, and the tags of
// the entries bring them up to date.
//
// Ownership: what is published and the executors outlive it; the spool is its own.
// Threads: Load to OnDurable, the calls with a Transaction and those named so run on the writer;
//   spool() from any.
// Shutdown: the destructor closes the spool.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/result.h"
#include "broker/broker_config.h"
#include "broker/catalog.h"
#include "broker/group_config.h"
#include "broker/records.h"
#include "broker/transactions.h"
#include "spool/spool.h"

namespace holdfast::broker {

// The end of a producer's transaction in one partition.
struct TransactionMarker {
  kafka::TransactionEnd end = kafka::TransactionEnd::kAbort;
  ProducerIdentity producer;
  int32_t coordinator_epoch = 0;  // There has been one coordinator only.
};
// Of each marker's batch.
inline constexpr size_t kMarkerBytes = 78;

class Log final : public spool::Owner {
 public:
  // What is found on opening, for those who keep it.
  struct Recovered {
    struct Offset {
      std::string group;
      TopicPartition partition;
      int64_t offset = -1;
      int32_t leader_epoch = -1;
      std::string metadata;
      int64_t commit_ms = 0;
    };
    std::string cluster_id;  // Empty in a new directory.
    std::string salt_key;    // Empty, too, in one of an older version.
    std::vector<std::pair<std::string, GroupRecord>> groups;
    struct ConsumerGroup {
      ConsumerGroupRecord record;
      std::vector<ConsumerMemberRecord> members;
    };
    std::map<std::string, ConsumerGroup, std::less<>> consumer_groups;
    std::vector<Offset> offsets;
    struct PendingOffset {
      std::string group;
      TopicPartition partition;
      int64_t producer_id = kafka::kNoProducerId;
    };
    std::vector<PendingOffset> pending_offsets;  // Of open transactions.
  };
  struct Callbacks {
    // On the writer: these streams have new durable entries, or are gone, and the worker has
    // fetches that wait for them.
    std::function<void(size_t worker, std::vector<spool::StreamId> streams)> wake;
    // On the writer, when it is durable.
    std::function<void(const kafka::Uuid& topic)> topic_deleted;
  };

  // What is published when it is durable; outlives the log.
  struct Published {
    Catalog& catalog;
    broker::Published<Acls>& acls;
    broker::Published<GroupConfigs>& group_configs;
    broker::Published<BrokerConfig>& broker_config;
    broker::Published<ScramCredentials>& scram;
    broker::Published<Quotas>& quotas;
  };

  static base::Result<std::unique_ptr<Log>> Open(const spool::Options& options, Published published,
                                                 base::Executor& writer, base::Executor& background,
                                                 Callbacks callbacks);
  ~Log() override;

  [[nodiscard]] spool::Spool& spool() { return *spool_; }
  [[nodiscard]] Recovered TakeRecovered() { return std::move(recovered_); }

  // For operations; on the writer.
  [[nodiscard]] Catalog& catalog() { return catalog_; }
  [[nodiscard]] broker::Published<GroupConfigs>& group_configs() { return group_configs_; }
  [[nodiscard]] broker::Published<BrokerConfig>& broker_config() { return broker_config_; }
  Partition* AddPartition(const TopicPartition& id, spool::StreamId stream, int32_t leader_epoch);
  void ForgetPartition(Partition& partition);
  // After a trim has become durable. A later one may have gone further before.
  void OnTrimmed(Partition& partition, int64_t offset);
  // After topics have gone: tells the group coordinator, and the fetches that wait for them.
  void AnnounceDeleted(const Topic& topic);
  void ExpireProducers(int64_t last_seen_before_ms);
  [[nodiscard]] Transactions& transactions() { return transactions_; }
  // Null if there is none.
  [[nodiscard]] Partition* Find(const TopicPartition& id) const;
  // Appends a batch that was checked, and remembers it for its producer. Its offset has been set.
  void AppendBatch(spool::Transaction& transaction, Partition& partition, std::string_view bytes,
                   const kafka::SequencedBatch& batch, int64_t max_timestamp_ms);
  // `bytes` takes the marker's batch, and must stay until the commit is done.
  void AppendMarker(spool::Transaction& transaction, Partition& partition,
                    const TransactionMarker& marker, std::string* bytes);

  // spool::Owner.
  base::Result<void> Load(const spool::StateView& state) override;
  void Replay(const spool::EntryInfo& entry) override;
  void Checkpoint(spool::Transaction& transaction) override;
  void OnDurable(std::span<const spool::StreamId> streams) override;

 private:
  Log(const Published& published, Callbacks callbacks)
      : catalog_(published.catalog),
        acls_(published.acls),
        group_configs_(published.group_configs),
        broker_config_(published.broker_config),
        scram_(published.scram),
        quotas_(published.quotas),
        callbacks_(std::move(callbacks)),
        transactions_(*this) {}

  base::Result<> LoadTopics(const spool::StateView& state);
  base::Result<> LoadProducers(const spool::StateView& state);
  base::Result<> LoadGroups(const spool::StateView& state);
  base::Result<> LoadConsumerGroups(const spool::StateView& state);
  base::Result<> LoadAborted(const spool::StateView& state);
  base::Result<> LoadAcls(const spool::StateView& state);
  base::Result<> LoadGroupConfigs(const spool::StateView& state);
  base::Result<> LoadBrokerConfig(const spool::StateView& state);
  base::Result<> LoadScram(const spool::StateView& state);
  base::Result<> LoadQuotas(const spool::StateView& state);
  void NotePendingOffsets();
  // All producers and deletions back to what `state` says.
  void ResetPartitions(const spool::StateView& state);
  Partition* FindPartition(spool::StreamId stream);
  static void Remember(Partition& partition, const kafka::SequencedBatch& batch,
                       const kafka::ProducerTable::Place& place);
  static void Remember(Partition& partition, const TransactionMarker& marker,
                       const kafka::ProducerTable::Place& place);
  void Wake(std::span<const spool::StreamId> streams);

  Catalog& catalog_;
  broker::Published<Acls>& acls_;
  broker::Published<GroupConfigs>& group_configs_;
  broker::Published<BrokerConfig>& broker_config_;
  broker::Published<ScramCredentials>& scram_;
  broker::Published<Quotas>& quotas_;
  const Callbacks callbacks_;
  std::unique_ptr<spool::Spool> spool_;
  Transactions transactions_;

  std::deque<Partition> partitions_;
  std::vector<Partition*> by_stream_;  // The spool numbers its streams without gaps.
  bool loaded_ = false;
  Recovered recovered_;
};

}  // namespace holdfast::broker
