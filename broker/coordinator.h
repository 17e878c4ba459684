// The group coordinator: turns group requests into calls of broker/group.h and
// broker/consumer_group.h and durable changes of state, and keeps the offsets that groups commit.
//
// An offset is seen, by the commit's answer and by OffsetFetch, only when it is durable, and one of
// a transaction when that is committed (broker/transactions.h). Classic groups are saved when a
// generation is complete and when the last member goes, as Kafka does it, the newer ones with every
// change: members go on after a restart of the broker without joining again.
//
// A group is of one protocol. An empty one becomes what its next member speaks; one with members
// changes over while they do, as `group.consumer.migration.policy` allows.
//
// Ownership: context, submitter and loop outlive it.
// Threads: the loop's; calls from other loops are posted by the workers.
// Shutdown: Close answers everybody who waits for a generation or an assignment. Operations that
//   the spool has may complete later; the coordinator must live until then.
// Limits: group ids of at most kGroupIdBytesMax bytes, offset metadata of at most
//   kOffsetMetadataBytesMax.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "broker/authorizer.h"
#include "broker/catalog.h"
#include "broker/consumer_group.h"
#include "broker/context.h"
#include "broker/group.h"
#include "broker/submitter.h"
#include "kafka/api/consumer_group_describe.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/join_group.h"
#include "kafka/api/leave_group.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/sync_group.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class Coordinator final : public GroupHost, public ConsumerGroupHost {
 public:
  Coordinator(Context& context, Submitter& submitter, base::Executor& loop);
  ~Coordinator() override;

  // What the log found on opening, before the first request.
  void Recover(Log::Recovered recovered);

  void Handle(kafka::Call<kafka::JoinGroupRequest> call);
  void Handle(kafka::Call<kafka::SyncGroupRequest> call);
  void Handle(kafka::Call<kafka::HeartbeatRequest> call);
  void Handle(kafka::Call<kafka::LeaveGroupRequest> call);
  void Handle(kafka::Call<kafka::DescribeGroupsRequest> call);
  void Handle(kafka::Call<kafka::ListGroupsRequest> call);
  void Handle(kafka::Call<kafka::DeleteGroupsRequest> call);
  void Handle(kafka::Call<kafka::ConsumerGroupHeartbeatRequest> call);
  void Handle(kafka::Call<kafka::ConsumerGroupDescribeRequest> call);
  void Handle(kafka::Call<kafka::OffsetCommitRequest> call);
  void Handle(kafka::Call<kafka::OffsetFetchRequest> call);
  void Handle(kafka::Call<kafka::OffsetDeleteRequest> call);
  void Handle(kafka::Call<kafka::TxnOffsetCommitRequest> call);

  // It is durable.
  void OnTransactionEnded(EndedTransaction transaction);
  void OnTopicDeleted(const kafka::Uuid& topic);
  void Close();

  struct Summary {
    std::string id;
    std::string_view state;
    std::string protocol_type;
    size_t members = 0;
    size_t offsets = 0;
    int64_t lag = 0;  // Records behind the committed offsets, of topics that are there.
  };
  // By id.
  [[nodiscard]] std::vector<Summary> Summarize(const Topics& topics) const;

 private:
  struct Entry {
    // One of the two.
    std::unique_ptr<Group> group;
    std::unique_ptr<ConsumerGroup> consumer;
    CommittedOffsets offsets;
    // Partitions for which open transactions have offsets, by their producers' ids.
    std::map<TopicPartition, std::set<int64_t>> pending;
  };
  struct Commit;
  struct TransactionalCommit;
  // Offsets that are to be forgotten, and the group with them if `whole`.
  struct Erasure {
    std::string group;
    std::vector<TopicPartition> offsets;
    bool whole = false;
  };

  // GroupHost, and what of it is ConsumerGroupHost's, too.
  base::Executor& loop() override { return loop_; }
  std::string MakeMemberId(std::string_view prefix) override;
  void Save(const std::string& group_id, const GroupRecord& record, Done done) override;
  [[nodiscard]] base::Duration initial_rebalance_delay() const override;
  void CountMembers(int difference) override;
  void CountRebalance() override;
  // ConsumerGroupHost.
  [[nodiscard]] const Topics& topics() override { return catalog_.topics(); }
  [[nodiscard]] uint64_t topics_version() override { return catalog_.version(); }
  [[nodiscard]] ConsumerGroupOptions consumer_options(const std::string& group_id) override;
  void Save(const std::string& group_id, ConsumerGroupChange change, Done done) override;
  void Downgrade(const std::string& group_id, ConsumerGroupChange gone, GroupRecord record,
                 bool rebalance, Done done) override;

  static bool ValidGroupId(std::string_view id) {
    return !id.empty() && id.size() <= kGroupIdBytesMax;
  }
  // Null if there is no such group.
  Group* FindGroup(std::string_view group_id);
  ConsumerGroup* FindConsumerGroup(std::string_view group_id);
  Entry& FindOrMakeGroup(std::string_view group_id);
  // The consumer group for a member that comes; null if there is a classic one that stays so.
  ConsumerGroup* MakeConsumerGroup(const std::string& group_id);
  // A classic group in place of a consumer group without members.
  void MakeClassic(const std::string& group_id, Entry& entry);
  void Retire(std::unique_ptr<ConsumerGroup> group);
  // Nobody is a member.
  [[nodiscard]] static bool IsEmpty(const Entry& entry);
  // Of either protocol.
  kafka::ErrorCode MayCommit(std::string_view group_id, const MemberRef& who, int32_t epoch,
                             int16_t version);
  kafka::ErrorCode MayCommitInTransaction(std::string_view group_id, const MemberRef& who,
                                          int32_t epoch);
  void CountGroups();
  kafka::DescribeGroupsResponse::DescribedGroup DescribeOne(std::string_view group_id,
                                                            int16_t version,
                                                            kafka::Strings* strings);

  kafka::ConsumerGroupDescribeResponse::DescribedGroup DescribeConsumerGroup(
      std::string_view group_id, kafka::Strings* strings);
  using Arriving = std::multimap<std::string, std::vector<TopicPartition>, std::less<>>;
  void SubmitCommit(std::unique_ptr<Commit> commit);
  void FinishCommit(Commit& commit, kafka::ErrorCode error);
  kafka::OffsetFetchResponse::OffsetFetchResponseGroup FetchGroup(
      const kafka::OffsetFetchRequest::OffsetFetchRequestGroup& request, bool require_stable,
      int16_t version, kafka::Strings* strings);
  void SubmitCommit(std::unique_ptr<TransactionalCommit> commit);
  void FinishCommit(TransactionalCommit& commit, kafka::ErrorCode error);
  // All that is kept of the group, or is on its way to the disk before this.
  Erasure EraseWhole(const std::string& group_id, const Entry& entry) const;
  // Forgets it when that is durable, then calls `done`.
  void Erase(std::vector<Erasure> erasures, Done done);
  void Forget(const Erasure& erasure);
  static void Put(spool::Transaction& transaction, std::string_view group_id,
                  const ConsumerGroupChange& change);
  void ExpireOffsetsLater();
  void ExpireOffsets();

  Context& context_;
  Submitter& submitter_;
  base::Executor& loop_;
  CatalogReader catalog_;
  PublishedReader<GroupConfigs> group_configs_;
  Authorizer authorizer_;
  std::map<std::string, Entry, std::less<>> groups_;
  // Of each commit of offsets that is on its way to the disk, and so not among a group's yet.
  Arriving arriving_;
  base::Timer expiry_timer_;
};

}  // namespace holdfast::broker
