// One consumer group of the newer protocol (KIP-848): its members, what they subscribe to, which
// partitions each is to have, and which it has.
//
// Like broker/group.h a state machine: heartbeats, leaving and the passing of time go in; answers
// come out through the callbacks given, when what they rest on is durable. The rules are those of
// Apache Kafka 4.2's coordinator:
//
//   group epoch       rises when members come, go or subscribe differently, and when topics that
//                     they subscribe to are made, deleted or grown
//   target epoch      follows with the next heartbeat: an assignor (broker/assignors.h) says what
//                     every member is to have
//   member epochs     follow one by one, as members give up and get partitions
//                     (broker/reconciliation.h)
//
// Members of the classic protocol take part, while a group is moved from one protocol to the other:
// JoinGroup stands for the heartbeat that joins and reports, SyncGroup gives the assignment, and
// Heartbeat tells the member to join again when there is something to do for it.
//
// Ownership: the host outlives the group. Answers are called once each, if need be by the host
//   when the group is gone.
// Threads: all on the host's loop.
// Limits: the coordinator checks ids, sizes and timeouts before it calls.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/unique_function.h"
#include "broker/catalog.h"
#include "broker/consumer_group_options.h"
#include "broker/consumer_group_records.h"
#include "broker/group.h"
#include "broker/name_pattern.h"
#include "kafka/error_code.h"

namespace holdfast::broker {

enum class ConsumerGroupState : uint8_t { kEmpty, kAssigning, kReconciling, kStable };
// As Kafka's tools print it, "Reconciling".
std::string_view ConsumerGroupStateName(ConsumerGroupState state);

// Member epochs that ask for something.
inline constexpr int32_t kJoinEpoch = 0;
inline constexpr int32_t kLeaveEpoch = -1;
inline constexpr int32_t kLeaveForAWhileEpoch = -2;  // A static member will be back.

// Fields that are not set have not changed.
struct ConsumerHeartbeat {
  std::string member_id = {};
  int32_t epoch = kJoinEpoch;
  std::optional<std::string> instance_id = {};
  std::optional<std::string> rack_id = {};
  std::string client_id = {};
  std::string client_host = {};
  std::optional<base::Duration> rebalance_timeout = {};
  std::optional<std::vector<std::string>> topic_names = {};  // In order, each once.
  std::optional<std::string> topic_pattern = {};             // One that can be parsed; empty: none.
  // Which of the topics that the pattern fits it may know of; null: all.
  std::function<bool(std::string_view topic)> may_know = {};
  std::optional<std::string> assignor = {};  // One that there is.
  std::optional<Assignment> owned = {};
};

struct ConsumerHeartbeatResult {
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  std::string message = {};  // For people, if there is an error.
  std::string member_id = {};
  int32_t epoch = 0;
  std::optional<Assignment> assigned = {};  // Not set: as it was.
};
using ConsumerHeartbeatReply = base::UniqueFunction<void(ConsumerHeartbeatResult)>;

// What a group asks of its surroundings.
class ConsumerGroupHost {
 public:
  using Done = base::UniqueFunction<void(kafka::ErrorCode)>;

  virtual ~ConsumerGroupHost() = default;
  [[nodiscard]] virtual base::Executor& loop() = 0;
  // A name nobody else has.
  [[nodiscard]] virtual std::string MakeMemberId(std::string_view prefix) = 0;
  // The topics there are; another number when they have changed.
  [[nodiscard]] virtual const Topics& topics() = 0;
  [[nodiscard]] virtual uint64_t topics_version() = 0;
  [[nodiscard]] virtual ConsumerGroupOptions consumer_options(const std::string& group_id) = 0;
  // Makes the change durable, after all those before, then calls `done`: later, never from inside
  // the call.
  virtual void Save(const std::string& group_id, ConsumerGroupChange change, Done done) = 0;
  // Only members of the classic protocol are left: a classic group is to go on from the record in
  // place of this one, and begin a rebalance if `rebalance`. The group is used no more.
  virtual void Downgrade(const std::string& group_id, ConsumerGroupChange gone, GroupRecord record,
                         bool rebalance, Done done) = 0;
  // For the metrics.
  virtual void CountMembers(int difference) = 0;
  virtual void CountRebalance() = 0;
};

class ConsumerGroup {
 public:
  ConsumerGroup(std::string id, ConsumerGroupHost& host);
  // A group found in state: its members go on in their epochs, with fresh session timeouts.
  ConsumerGroup(std::string id, ConsumerGroupHost& host, ConsumerGroupRecord record,
                std::vector<ConsumerMemberRecord> members);
  // A classic group of consumers whose members go on here; null if what they say about themselves
  // cannot be read, or if their assignor tells them more than partitions.
  static std::unique_ptr<ConsumerGroup> FromClassic(std::string id, ConsumerGroupHost& host,
                                                    const GroupRecord& record);
  ~ConsumerGroup();
  ConsumerGroup(const ConsumerGroup&) = delete;
  ConsumerGroup& operator=(const ConsumerGroup&) = delete;

  // Its first change takes away what is kept of a classic group of the same name.
  void ReplaceClassic() { replaces_classic_ = true; }
  // What takes away all that is kept of it.
  [[nodiscard]] ConsumerGroupChange Erasure() const;
  // Lets go of all timers.
  void Close();

  // ConsumerGroupHeartbeat in all its meanings: joining, living, leaving.
  void Heartbeat(ConsumerHeartbeat request, ConsumerHeartbeatReply reply);

  // Members of the classic protocol.
  void Join(JoinRequest request, JoinReply reply);
  void Sync(const SyncRequest& request, SyncReply reply);
  kafka::ErrorCode ClassicHeartbeat(const MemberRef& who, int32_t generation);
  struct Left {
    kafka::ErrorCode error = kafka::ErrorCode::kNone;
    std::string member_id = {};
  };
  using LeaveReply = base::UniqueFunction<void(std::vector<Left>)>;
  // By LeaveGroup, which administrators use for members of either protocol. One result for each of
  // those named.
  void Leave(const std::vector<MemberRef>& members, LeaveReply reply);

  // May this sender commit offsets, or ask for them? ILLEGAL_GENERATION and STALE_MEMBER_EPOCH say
  // the same to members of the two protocols; UNSUPPORTED_VERSION: not in this form.
  [[nodiscard]] kafka::ErrorCode MayCommit(std::string_view member_id, int32_t epoch,
                                           bool knows_epochs) const;
  [[nodiscard]] kafka::ErrorCode MayFetch(std::optional<std::string_view> member_id,
                                          int32_t epoch) const;

  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] ConsumerGroupState state() const;
  [[nodiscard]] bool empty() const { return members_.empty(); }
  [[nodiscard]] size_t size() const { return members_.size(); }
  [[nodiscard]] const ConsumerGroupRecord& record() const { return record_; }
  [[nodiscard]] std::vector<const ConsumerMemberRecord*> members() const;
  [[nodiscard]] std::string_view assignor() const;
  [[nodiscard]] bool SubscribesTo(const Topic& topic);

 private:
  struct Member : ConsumerMemberRecord {
    std::function<bool(std::string_view topic)> may_know;
    // It was found in state and has not been heard of since, so what it may know is not known: its
    // pattern stands for the topics of its target until then.
    bool recovered = false;
    std::vector<kafka::Uuid> topics;  // What it subscribes to, as of the topics' version.
    uint64_t topics_version = 0;
    base::TimePoint last_heard;
    base::Duration watched_for{};
    base::Timer session;
    base::Timer rebalance;  // It has partitions to give up.
    base::Timer join;       // Of a classic member: it was told to.
    bool join_expected = false;
    base::Timer sync;  // Of a classic member: it has joined.

    [[nodiscard]] ConsumerMemberRecord& kept() { return *this; }
    [[nodiscard]] const ConsumerMemberRecord& kept() const { return *this; }
  };
  struct Refusal {
    kafka::ErrorCode error = kafka::ErrorCode::kNone;
    std::string message = {};
  };
  struct Pattern {
    NamePattern pattern;
    uint64_t version = 0;  // Of the topics that were matched.
    std::vector<kafka::Uuid> topics = {};
  };
  // The changes on their way to the disk, and those that did not get there.
  struct Saving {
    int outstanding = 0;
    bool failed = false;
    std::set<uint64_t> removed = {};  // Maybe still kept.
    bool replaces_classic = false;
  };

  // The member that the request is about, as it stands or new; null if it is refused.
  Member* FindOrAdd(const ConsumerHeartbeat& request, Refusal* refusal);
  Member* FindOrAddStatic(const ConsumerHeartbeat& request, Refusal* refusal);
  Member* FindStatic(std::string_view instance_id);
  // A member has one instance id at most, and static_members_ names none that is gone.
  void SetInstance(Member& member, const std::string& instance_id);
  void GiveUpInstance(Member& member);
  Member& Add(const std::string& member_id);
  // A static member comes back under another id, which nobody else has, and has what the one before
  // had.
  Member& Replace(Member& old, const std::string& member_id);
  void Remove(Member& member);
  static Refusal CheckEpoch(const Member& member, const ConsumerHeartbeat& request);
  // Null if there is no such member, or none of the classic protocol.
  Member* Find(const MemberRef& who, kafka::ErrorCode* error);
  Member* FindClassic(const MemberRef& who, kafka::ErrorCode* error);
  Member* FindNumber(uint64_t number);
  [[nodiscard]] bool Supports(const JoinRequest& request) const;
  void ExpectJoin(Member& member);

  void LeaveByHeartbeat(const ConsumerHeartbeat& request, ConsumerHeartbeatReply reply);
  // The members are gone for good, as far as the others are concerned.
  void Fence(const std::vector<Member*>& members, ConsumerGroupHost::Done done);
  [[nodiscard]] bool CanDowngradeWithout(const std::vector<Member*>& members);
  [[nodiscard]] GroupRecord AsClassic();

  // What the member says about itself has come in: brings epoch, target and the member up to date.
  void Advance(Member& member, bool subscription_changed, const Assignment* owned);
  // The first heartbeat of a member that was found in state; says whether there is to be a new
  // target for what its pattern stands for now.
  bool TakeUp(Member& member);
  bool RefreshTopics();
  void BumpEpoch();
  void UpdateTarget();
  void SetCurrent(Member& member, CurrentAssignment next);
  [[nodiscard]] bool IsFree(const TopicPartition& partition) const;
  const std::vector<kafka::Uuid>& TopicsOf(Member& member);
  const std::vector<kafka::Uuid>& Resolve(const std::string& pattern);

  void Watch(Member& member);
  void OnSessionTimer(uint64_t number);
  void WatchRevocation(Member& member);
  void FenceByTimer(uint64_t number, std::string_view why);
  [[nodiscard]] base::Duration SessionTimeout(const Member& member);

  void NoteMember(const Member& member) { dirty_.insert(member.member_id); }
  void Commit(ConsumerGroupHost::Done done);

  const std::string id_;
  ConsumerGroupHost& host_;
  ConsumerGroupRecord record_;
  const int32_t found_target_epoch_ = 0;
  std::map<std::string, Member, std::less<>> members_;
  std::map<std::string, std::string, std::less<>> static_members_;  // Instance id → member id.
  std::map<std::string, Pattern, std::less<>> patterns_;
  // How many members have it, or are giving it up: one at most, unless a classic group's members
  // had been given it twice.
  std::unordered_map<TopicPartition, int> owners_;
  uint64_t next_number_ = 0;
  uint64_t topics_seen_ = 0;

  // What has changed since the last Commit.
  std::set<std::string, std::less<>> dirty_;
  std::vector<uint64_t> removed_;
  bool group_dirty_ = false;
  bool replaces_classic_ = false;
  std::shared_ptr<Saving> saving_ = std::make_shared<Saving>();
};

}  // namespace holdfast::broker
