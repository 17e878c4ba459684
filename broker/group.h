// One consumer group of the classic protocol: who its members are and which generation they are in.
//
// A state machine. Requests, leaving and the passing of time go in; answers come out through the
// callbacks given with Join and Sync, and what must be durable through GroupHost::Save. It knows no
// messages, no storage and no offsets. The rules are those of Apache Kafka 4.2's coordinator:
//
//   Empty ─join─▶ PreparingRebalance ─all joined, or time is up─▶ CompletingRebalance
//     ▲                 ▲    ▲                                        │ the leader's Sync, saved
//     │ nobody left     │    └── a member comes, goes or changes ── Stable
//     └─────────────────┴── every generation without members
//
// Ownership: the host outlives the group. Answers are called once each, at the latest from Close,
//   or by the host when the record that they wait for is saved.
// Threads: all on the host's loop.
// Limits: none of its own; the coordinator checks ids, sizes and timeouts before it calls.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/unique_function.h"
#include "kafka/error_code.h"

namespace holdfast::broker {

enum class GroupState : uint8_t {
  kEmpty,
  kPreparingRebalance,
  kCompletingRebalance,
  kStable,
  kDead
};
// As Kafka's tools print it, "PreparingRebalance".
std::string_view GroupStateName(GroupState state);

// A way of assigning that a member supports, with what it says about itself for it.
struct GroupProtocol {
  std::string name;
  std::string metadata;

  bool operator==(const GroupProtocol&) const = default;
};

struct JoinRequest {
  std::string member_id;  // Empty: a new member.
  std::optional<std::string> instance_id;
  std::string client_id;
  std::string client_host;
  std::string protocol_type;
  std::vector<GroupProtocol> protocols;
  base::Duration session_timeout{};
  base::Duration rebalance_timeout{};
  // From version 4 on, a new member is given its id first, and joins with it.
  bool id_required = false;
  // From version 9 on, a leader may be told not to assign.
  bool can_skip_assignment = false;
};

struct JoinedMember {
  std::string member_id = {};
  std::optional<std::string> instance_id = {};
  std::string metadata = {};  // For the chosen protocol.
};

struct JoinResult {
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  std::string member_id = {};
  int32_t generation = -1;
  std::optional<std::string> protocol_type = {};
  std::optional<std::string> protocol_name = {};
  std::string leader = {};
  bool skip_assignment = false;
  std::vector<JoinedMember> members = {};  // For the leader only.
};

struct MemberAssignment {
  std::string member_id = {};
  std::string assignment = {};
};

struct SyncRequest {
  std::string member_id = {};
  std::optional<std::string> instance_id = {};
  int32_t generation = -1;
  std::optional<std::string> protocol_type = {};
  std::optional<std::string> protocol_name = {};
  std::vector<MemberAssignment> assignments = {};  // From the leader.
};

struct SyncResult {
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  std::optional<std::string> protocol_type = {};
  std::optional<std::string> protocol_name = {};
  std::string assignment = {};
};

using JoinReply = base::UniqueFunction<void(JoinResult)>;
using SyncReply = base::UniqueFunction<void(SyncResult)>;

// Who speaks, in requests other than Join.
struct MemberRef {
  std::string_view member_id;
  std::optional<std::string_view> instance_id;
};

struct MemberRecord {
  std::string member_id;
  std::optional<std::string> instance_id;
  std::string client_id;
  std::string client_host;
  base::Duration session_timeout{};
  base::Duration rebalance_timeout{};
  std::vector<GroupProtocol> protocols;
  std::string assignment;
};

// What of a group is durable, and what it begins from after a restart.
struct GroupRecord {
  std::string protocol_type;
  std::optional<std::string> protocol_name;
  std::string leader;
  int32_t generation = 0;
  int64_t changed_ms = 0;  // When it was saved; offsets expire by it once nobody is a member.
  std::vector<MemberRecord> members;  // None, or all of a stable generation.
};

// What a group asks of its surroundings.
class GroupHost {
 public:
  virtual ~GroupHost() = default;
  [[nodiscard]] virtual base::Executor& loop() = 0;
  // A name nobody else has.
  [[nodiscard]] virtual std::string MakeMemberId(std::string_view prefix) = 0;
  // Makes the record durable, then calls the group's Saved with its generation, and `done` even if
  // the group is gone: later, never from inside the call.
  virtual void Save(const std::string& group_id, const GroupRecord& record,
                    base::UniqueFunction<void(kafka::ErrorCode)> done) = 0;
  [[nodiscard]] virtual base::Duration initial_rebalance_delay() const = 0;
  // For the metrics.
  virtual void CountMembers(int difference) = 0;
  virtual void CountRebalance() = 0;
};

class Group {
 public:
  Group(std::string id, GroupHost& host);
  // A group found in state: its members go on in their generation, with fresh session timeouts.
  Group(std::string id, GroupHost& host, const GroupRecord& record);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  void Join(JoinRequest request, JoinReply reply);
  void Sync(SyncRequest request, SyncReply reply);
  kafka::ErrorCode Heartbeat(const MemberRef& who, int32_t generation);
  kafka::ErrorCode Leave(const MemberRef& who);
  // May this sender commit offsets? A generation of -1 and no member id: only while nobody is a
  // member.
  kafka::ErrorCode MayCommit(const MemberRef& who, int32_t generation);
  // The same within a transaction, which fences its producers by itself: whoever does not say which
  // member it is may always, and so may the members of a generation that is being assigned.
  kafka::ErrorCode MayCommitInTransaction(const MemberRef& who, int32_t generation);
  // Sends everybody back to joining.
  void Rebalance();
  // A record given to Save is durable, or could not be written.
  void Saved(int32_t generation, kafka::ErrorCode error);
  // Answers everybody with `error`, lets go of all timers, and is dead.
  void Close(kafka::ErrorCode error);

  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] GroupState state() const { return state_; }
  [[nodiscard]] int32_t generation() const { return generation_; }
  // Nobody is a member: it may be deleted, or become another's. Who comes with an id that was given
  // out is a stranger then.
  [[nodiscard]] bool empty() const { return state_ == GroupState::kEmpty && members_.empty(); }
  // Nor is anybody about to be: it may go by itself.
  [[nodiscard]] bool unused() const { return empty() && pending_.empty(); }
  // Since when nobody is a member, in wall-clock milliseconds; null if nobody ever was.
  [[nodiscard]] std::optional<int64_t> empty_since_ms() const {
    return protocol_type_.empty() ? std::nullopt : std::optional(changed_ms_);
  }
  // The group as it stands, for describing, saving and taking over. In a rebalance members have
  // their last assignments: cooperative ones go on with them.
  [[nodiscard]] GroupRecord Describe() const;

 private:
  struct Member {
    std::string id;
    std::optional<std::string> instance_id;
    std::string client_id;
    std::string client_host;
    base::Duration session_timeout{};
    base::Duration rebalance_timeout{};
    std::vector<GroupProtocol> protocols;
    std::string assignment;  // The last one, until the leader's next.
    uint64_t order = 0;      // Of joining the group.
    bool can_skip_assignment = false;

    JoinReply join_reply;  // While it waits for the generation to begin.
    SyncReply sync_reply;  // While it waits for its assignment.
    base::TimePoint last_heard;
    base::Timer session;

    [[nodiscard]] bool waits() const { return join_reply || sync_reply; }
    // What it says about itself for that protocol; null if it does not know it.
    [[nodiscard]] const std::string* MetadataFor(std::string_view protocol) const;
  };
  using Members = std::map<std::string, Member, std::less<>>;

  // Join by a member that the group does not have, has under its instance id, or has.
  void JoinNew(JoinRequest request, JoinReply reply);
  void JoinKnown(Member& member, JoinRequest request, JoinReply reply);
  void AddMember(std::string member_id, JoinRequest request, JoinReply reply);
  void UpdateMember(Member& member, JoinRequest request, JoinReply reply);
  // A static member comes back after a restart and takes over its old place.
  void ReplaceStaticMember(const std::string& old_id, JoinRequest request, JoinReply reply);
  void RemoveMember(Members::iterator member);
  [[nodiscard]] bool Supports(const JoinRequest& request) const;
  [[nodiscard]] kafka::ErrorCode CheckMember(const MemberRef& who) const;

  void PrepareRebalance();
  void PrepareOrGoOn();
  void OnInitialDelay(base::Duration remaining);
  void CompleteJoinIfAllJoined();
  void CompleteJoin();
  bool ElectJoinedLeader();
  void BeginGeneration();
  void BecomeEmpty();
  [[nodiscard]] std::string ChooseProtocol() const;
  [[nodiscard]] JoinResult CurrentResult(const Member& member, bool as_leader) const;
  [[nodiscard]] base::Duration RebalanceTimeout() const;

  void OnSyncDeadline();
  void AnswerSync(Member& member, kafka::ErrorCode error);
  void AnswerAllSyncs(kafka::ErrorCode error);

  void HeardFrom(Member& member);
  void WatchSession(Member& member);
  void OnSessionTimer(const std::string& member_id);
  void Save(base::UniqueFunction<void(kafka::ErrorCode)> done = [](kafka::ErrorCode) {});

  const std::string id_;
  GroupHost& host_;
  GroupState state_ = GroupState::kEmpty;
  int32_t generation_ = 0;
  std::string protocol_type_;
  std::optional<std::string> protocol_name_;
  std::string leader_;
  int64_t changed_ms_ = 0;
  Members members_;
  std::map<std::string, std::string, std::less<>> static_members_;  // Instance id → member id.
  // Ids that were given to new members, who have not joined with them yet.
  std::map<std::string, base::Timer, std::less<>> pending_;
  uint64_t next_order_ = 0;
  bool newcomer_ = false;        // Since the initial delay was begun, or begun again.
  bool initial_delay_ = false;   // The first rebalance of an empty group waits for more members.
  bool saving_ = false;          // The leader's assignment is on its way to the disk.
  base::Timer rebalance_timer_;  // When those are dropped who have not joined, or not synced.
};

}  // namespace holdfast::broker
