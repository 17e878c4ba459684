// The group coordinator: turns group requests into calls of broker/group.h and durable changes of
// state, and keeps the offsets that groups commit.
//
// An offset is seen, by the commit's answer and by OffsetFetch, only when it is durable, and one of
// a transaction when that is committed (broker/transactions.h). Groups are saved when a generation
// is complete and when the last member goes, as Kafka does it: members go on after a restart of the
// broker without joining again.
//
// Ownership: context, submitter and loop outlive it.
// Threads: the loop's; calls from other loops are posted by the workers.
// Shutdown: Close answers everybody who waits for a generation or an assignment. Operations that
//   the spool has may complete later; the coordinator must live until then.
// Limits: group ids of at most kGroupIdBytesMax bytes, offset metadata of at most
//   kMetadataBytesMax.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "broker/catalog.h"
#include "broker/context.h"
#include "broker/group.h"
#include "broker/submitter.h"
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

class Coordinator final : public GroupHost {
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
  };
  // By id.
  [[nodiscard]] std::vector<Summary> Summarize() const;

 private:
  struct Entry {
    std::unique_ptr<Group> group;
    CommittedOffsets offsets;
    // Partitions for which open transactions have offsets, by their producers' ids.
    std::map<TopicPartition, std::set<int64_t>> pending;
  };
  struct Commit;
  struct TransactionalCommit;

  static constexpr size_t kMetadataBytesMax = 4096;

  // GroupHost.
  base::Executor& loop() override { return loop_; }
  std::string MakeMemberId(std::string_view prefix) override;
  void Save(const std::string& group_id, const GroupRecord& record) override;
  [[nodiscard]] base::Duration initial_rebalance_delay() const override;
  void CountMembers(int difference) override;
  void CountRebalance() override;

  static bool ValidGroupId(std::string_view id) {
    return !id.empty() && id.size() <= kGroupIdBytesMax;
  }
  // Null if there is no such group.
  Group* FindGroup(std::string_view group_id);
  Entry& FindOrMakeGroup(std::string_view group_id);
  void CountGroups();
  kafka::DescribeGroupsResponse::DescribedGroup DescribeOne(std::string_view group_id,
                                                            int16_t version,
                                                            kafka::Strings* strings);

  // Checks all partitions and fills the response with what is refused; the rest is in the commit.
  void CheckCommit(Commit& commit);
  void SubmitCommit(std::unique_ptr<Commit> commit);
  void FinishCommit(Commit& commit, kafka::ErrorCode error);
  kafka::OffsetFetchResponse::OffsetFetchResponseGroup FetchGroup(
      const kafka::OffsetFetchRequest::OffsetFetchRequestGroup& request, bool require_stable,
      int16_t version, kafka::Strings* strings);
  void CheckCommit(TransactionalCommit& commit);
  void SubmitCommit(std::unique_ptr<TransactionalCommit> commit);
  void FinishCommit(TransactionalCommit& commit, kafka::ErrorCode error);
  // Forgets the offsets at once and erases their keys.
  void EraseOffsets(const std::string& group_id, std::vector<TopicPartition> partitions);
  void ForgetGroup(const std::string& group_id);
  void ExpireOffsetsLater();
  void ExpireOffsets();

  Context& context_;
  Submitter& submitter_;
  base::Executor& loop_;
  CatalogReader catalog_;
  std::map<std::string, Entry, std::less<>> groups_;
  base::Timer expiry_timer_;
};

}  // namespace holdfast::broker
