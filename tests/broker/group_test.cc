// The group state machine on virtual time: each test plays members against one group and looks at
// the answers, as a coordinator would pass them on.
#include "broker/group.h"

#include <gtest/gtest.h>

#include <deque>

#include "tests/support/manual_executor.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;

class FakeHost final : public GroupHost {
 public:
  explicit FakeHost(base::Executor& executor) : executor_(executor) {}

  base::Executor& loop() override {
    HF_CHECK(++calls_ < 100'000);  // A timer that fires for ever.
    return executor_;
  }
  std::string MakeMemberId(std::string_view prefix) override {
    return std::string(prefix) + "-" + std::to_string(++made_);
  }
  void Save(const std::string& /*group_id*/, const GroupRecord& record,
            base::UniqueFunction<void(ErrorCode)> done) override {
    saved.push_back(record);
    waiting.push_back(std::move(done));
  }
  [[nodiscard]] base::Duration initial_rebalance_delay() const override { return delay; }
  void CountMembers(int difference) override { members += difference; }
  void CountRebalance() override { ++rebalances; }

  base::Duration delay{};
  std::deque<GroupRecord> saved;
  std::deque<base::UniqueFunction<void(ErrorCode)>> waiting;  // For the disk.
  int members = 0;
  int rebalances = 0;

 private:
  base::Executor& executor_;
  int made_ = 0;
  int calls_ = 0;
};

class GroupTest : public testing::Test {
 protected:
  struct Joining {
    std::shared_ptr<std::optional<JoinResult>> result =
        std::make_shared<std::optional<JoinResult>>();
    [[nodiscard]] bool answered() const { return result->has_value(); }
    JoinResult* operator->() const { return &**result; }
  };
  struct Syncing {
    std::shared_ptr<std::optional<SyncResult>> result =
        std::make_shared<std::optional<SyncResult>>();
    [[nodiscard]] bool answered() const { return result->has_value(); }
    SyncResult* operator->() const { return &**result; }
  };

  static JoinRequest MakeJoin(std::string member_id, std::string client = "c") {
    JoinRequest request;
    request.member_id = std::move(member_id);
    request.client_id = std::move(client);
    request.client_host = "/127.0.0.1";
    request.protocol_type = "consumer";
    request.protocols = {{"range", "meta-range"}, {"roundrobin", "meta-rr"}};
    request.session_timeout = seconds(10);
    request.rebalance_timeout = seconds(60);
    return request;
  }
  Joining Join(JoinRequest request) {
    Joining joining;
    group.Join(std::move(request),
               [result = joining.result](JoinResult given) { *result = std::move(given); });
    return joining;
  }
  Syncing Sync(const Joining& joined, std::vector<MemberAssignment> assignments = {}) {
    Syncing syncing;
    group.Sync({.member_id = joined->member_id,
                .instance_id = std::nullopt,
                .generation = joined->generation,
                .protocol_type = std::nullopt,
                .protocol_name = std::nullopt,
                .assignments = std::move(assignments)},
               [result = syncing.result](SyncResult given) { *result = std::move(given); });
    return syncing;
  }
  // What was given to Save has reached the disk.
  void DiskSays(ErrorCode error = ErrorCode::kNone) {
    ASSERT_FALSE(host.saved.empty());
    group.Saved(host.saved.back().generation, error);
    for (auto& done : std::exchange(host.waiting, {})) done(error);
  }
  // Two members in a stable generation; the first leads.
  std::pair<Joining, Joining> MakeStablePair() {
    Joining first = Join(MakeJoin(""));
    Joining second = Join(MakeJoin(""));
    first = Join(MakeJoin(first->member_id));  // Told to by a heartbeat.
    Syncing first_sync = Sync(first, {{first->member_id, "A"}, {second->member_id, "B"}});
    Syncing second_sync = Sync(second);
    DiskSays();
    EXPECT_EQ(group.state(), GroupState::kStable);
    return {first, second};
  }

  test::ManualClock clock;
  test::ManualExecutor loop{clock};
  FakeHost host{loop};
  Group group{"g", host};
};

TEST_F(GroupTest, LoneMemberLeadsItsGenerationAndGetsWhatItAssigned) {
  Joining joined = Join(MakeJoin(""));
  ASSERT_TRUE(joined.answered());
  EXPECT_EQ(joined->error, ErrorCode::kNone);
  EXPECT_EQ(joined->generation, 1);
  EXPECT_EQ(joined->leader, joined->member_id);
  EXPECT_EQ(joined->protocol_name, "range");
  ASSERT_EQ(joined->members.size(), 1u);
  EXPECT_EQ(joined->members[0].metadata, "meta-range");

  Syncing synced = Sync(joined, {{joined->member_id, "all"}});
  EXPECT_FALSE(synced.answered()) << "before the assignment is durable";
  DiskSays();
  ASSERT_TRUE(synced.answered());
  EXPECT_EQ(synced->assignment, "all");
  EXPECT_EQ(group.state(), GroupState::kStable);
}

TEST_F(GroupTest, NewerClientsGetTheirIdFirst) {
  JoinRequest request = MakeJoin("");
  request.id_required = true;
  Joining refused = Join(request);
  ASSERT_TRUE(refused.answered());
  EXPECT_EQ(refused->error, ErrorCode::kMemberIdRequired);
  EXPECT_FALSE(refused->member_id.empty());

  request.member_id = refused->member_id;
  Joining joined = Join(request);
  ASSERT_TRUE(joined.answered());
  EXPECT_EQ(joined->error, ErrorCode::kNone);
  EXPECT_EQ(joined->member_id, refused->member_id);
}

TEST_F(GroupTest, AnIdThatIsNotUsedInTimeIsForgotten) {
  JoinRequest request = MakeJoin("");
  request.id_required = true;
  const std::string id = Join(request)->member_id;
  clock.Advance(seconds(11));
  request.member_id = id;
  EXPECT_EQ(Join(request)->error, ErrorCode::kUnknownMemberId);
}

TEST_F(GroupTest, FirstRebalanceWaitsForMoreMembers) {
  host.delay = seconds(3);
  Joining first = Join(MakeJoin(""));
  clock.Advance(milliseconds(2900));
  Joining second = Join(MakeJoin(""));
  clock.Advance(milliseconds(200));
  EXPECT_FALSE(first.answered()) << "a newcomer begins the delay again";
  clock.Advance(seconds(3));
  ASSERT_TRUE(first.answered());
  ASSERT_TRUE(second.answered());
  EXPECT_EQ(first->generation, 1);
  EXPECT_EQ(first->leader, first->member_id);
  EXPECT_EQ(first->members.size(), 2u);
  EXPECT_TRUE(second->members.empty()) << "only the leader learns of all";
}

TEST_F(GroupTest, NewMemberMakesTheOthersRejoin) {
  auto [first, second] = MakeStablePair();
  Joining third = Join(MakeJoin(""));
  EXPECT_FALSE(third.answered());
  const MemberRef first_ref{first->member_id, std::nullopt};
  EXPECT_EQ(group.Heartbeat(first_ref, first->generation), ErrorCode::kRebalanceInProgress);
  Joining first_again = Join(MakeJoin(first->member_id));
  EXPECT_FALSE(first_again.answered());
  Joining second_again = Join(MakeJoin(second->member_id));
  ASSERT_TRUE(first_again.answered());
  ASSERT_TRUE(third.answered());
  EXPECT_EQ(third->generation, first->generation + 1);
  EXPECT_EQ(first_again->members.size(), 3u);
}

// Members that keep their partitions through a rebalance still use them.
TEST_F(GroupTest, WhatMembersHaveIsKnownUntilTheLeaderAssignsAnew) {
  auto [first, second] = MakeStablePair();
  Joining third = Join(MakeJoin(""));
  first = Join(MakeJoin(first->member_id));
  second = Join(MakeJoin(second->member_id));
  ASSERT_TRUE(third.answered());
  EXPECT_EQ(group.state(), GroupState::kCompletingRebalance);
  const auto assignments = [this] {
    std::map<std::string, std::string> all;
    for (const MemberRecord& member : group.Describe().members) {
      all[member.member_id] = member.assignment;
    }
    return all;
  };
  using Assignments = std::map<std::string, std::string>;
  EXPECT_EQ(
      assignments(),
      (Assignments{{first->member_id, "A"}, {second->member_id, "B"}, {third->member_id, ""}}));
  Sync(first, {{third->member_id, "C"}});
  EXPECT_EQ(
      assignments(),
      (Assignments{{first->member_id, ""}, {second->member_id, ""}, {third->member_id, "C"}}));
}

TEST_F(GroupTest, WhoDoesNotRejoinInTimeIsLeftOut) {
  auto [first, second] = MakeStablePair();
  Joining first_again = Join(MakeJoin(first->member_id));
  // The second one is alive but does not rejoin.
  for (int i = 0; i < 12; ++i) {
    clock.Advance(seconds(5));
    group.Heartbeat({second->member_id, std::nullopt}, second->generation);
  }
  clock.Advance(seconds(1));
  ASSERT_TRUE(first_again.answered());
  EXPECT_EQ(first_again->members.size(), 1u);
  EXPECT_EQ(group.Heartbeat({second->member_id, std::nullopt}, second->generation),
            ErrorCode::kUnknownMemberId);
}

TEST_F(GroupTest, SilentMemberIsRemovedAfterItsSession) {
  auto [first, second] = MakeStablePair();
  const MemberRef first_ref{first->member_id, std::nullopt};
  clock.Advance(seconds(6));
  EXPECT_EQ(group.Heartbeat(first_ref, first->generation), ErrorCode::kNone);
  clock.Advance(seconds(5));
  EXPECT_EQ(group.Heartbeat(first_ref, first->generation), ErrorCode::kRebalanceInProgress);
  Joining again = Join(MakeJoin(first->member_id));
  ASSERT_TRUE(again.answered());
  EXPECT_EQ(again->members.size(), 1u);
  EXPECT_EQ(host.members, 1);
}

TEST_F(GroupTest, LastMemberLeavingEmptiesTheGroupAndSavesThat) {
  Joining joined = Join(MakeJoin(""));
  Syncing synced = Sync(joined, {{joined->member_id, "all"}});
  DiskSays();
  EXPECT_EQ(group.Leave({joined->member_id, std::nullopt}), ErrorCode::kNone);
  EXPECT_EQ(group.state(), GroupState::kEmpty);
  EXPECT_TRUE(host.saved.back().members.empty());
  EXPECT_EQ(host.saved.back().generation, joined->generation + 1);
  EXPECT_TRUE(group.unused());
}

TEST_F(GroupTest, StaleGenerationsAndStrangersAreRefused) {
  auto [first, second] = MakeStablePair();
  EXPECT_EQ(group.Heartbeat({first->member_id, std::nullopt}, first->generation - 1),
            ErrorCode::kIllegalGeneration);
  EXPECT_EQ(group.Heartbeat({"stranger", std::nullopt}, first->generation),
            ErrorCode::kUnknownMemberId);
  Joining stale = first;
  *stale.result = **first.result;
  stale->generation = 0;
  EXPECT_EQ(Sync(stale)->error, ErrorCode::kIllegalGeneration);
}

TEST_F(GroupTest, ProtocolIsTheOneAllSupport) {
  JoinRequest both = MakeJoin("");
  JoinRequest only_rr = MakeJoin("");
  only_rr.protocols = {{"roundrobin", "x"}};
  JoinRequest none = MakeJoin("");
  none.protocols = {{"sticky", "x"}};
  host.delay = seconds(1);
  Joining first = Join(both);
  Joining second = Join(only_rr);
  EXPECT_EQ(Join(none)->error, ErrorCode::kInconsistentGroupProtocol);
  clock.Advance(seconds(3));
  ASSERT_TRUE(first.answered());
  EXPECT_EQ(first->protocol_name, "roundrobin");
  EXPECT_EQ(first->members[0].metadata, "meta-rr");
}

TEST_F(GroupTest, FailedSaveSendsEverybodyBackToJoining) {
  Joining joined = Join(MakeJoin(""));
  Syncing synced = Sync(joined, {{joined->member_id, "all"}});
  DiskSays(ErrorCode::kCoordinatorNotAvailable);
  ASSERT_TRUE(synced.answered());
  EXPECT_EQ(synced->error, ErrorCode::kCoordinatorNotAvailable);
  EXPECT_EQ(group.state(), GroupState::kPreparingRebalance);
}

TEST_F(GroupTest, MemberLeavingDuringTheSaveDoesNotMakeAnOldAssignmentStable) {
  host.delay = seconds(1);
  Joining first = Join(MakeJoin(""));
  Joining second = Join(MakeJoin(""));
  clock.Advance(seconds(3));
  Syncing first_sync = Sync(first, {{first->member_id, "A"}, {second->member_id, "B"}});
  EXPECT_EQ(group.Leave({second->member_id, std::nullopt}), ErrorCode::kNone);
  ASSERT_TRUE(first_sync.answered());
  EXPECT_EQ(first_sync->error, ErrorCode::kRebalanceInProgress);
  DiskSays();
  EXPECT_EQ(group.state(), GroupState::kPreparingRebalance);
}

TEST_F(GroupTest, StaticMemberComesBackWithoutRebalance) {
  JoinRequest request = MakeJoin("");
  request.instance_id = "i1";
  Joining first = Join(request);
  Syncing synced = Sync(first, {{first->member_id, "all"}});
  DiskSays();
  const int rebalances = host.rebalances;

  Joining back = Join(request);
  EXPECT_FALSE(back.answered()) << "before its new id is durable";
  DiskSays();
  ASSERT_TRUE(back.answered());
  EXPECT_EQ(back->error, ErrorCode::kNone);
  EXPECT_NE(back->member_id, first->member_id);
  EXPECT_EQ(back->generation, first->generation);
  EXPECT_EQ(back->leader, first->member_id) << "an older client must not assign anew";
  EXPECT_EQ(host.rebalances, rebalances);
  EXPECT_EQ(Sync(back)->assignment, "all");
  EXPECT_EQ(group.Heartbeat({first->member_id, "i1"}, first->generation),
            ErrorCode::kFencedInstanceId);
}

TEST_F(GroupTest, StaticMemberWhoseReturnCannotBeSavedComesAgain) {
  JoinRequest request = MakeJoin("");
  request.instance_id = "i1";
  Joining first = Join(request);
  Sync(first, {{first->member_id, "all"}});
  DiskSays();

  Joining failed = Join(request);
  DiskSays(ErrorCode::kCoordinatorNotAvailable);
  ASSERT_TRUE(failed.answered());
  EXPECT_EQ(failed->error, ErrorCode::kCoordinatorNotAvailable);
  EXPECT_EQ(failed->member_id, "");
  Joining again = Join(request);
  DiskSays();
  ASSERT_TRUE(again.answered());
  EXPECT_EQ(again->error, ErrorCode::kNone);
  EXPECT_EQ(Sync(again)->assignment, "all");
  Group restored("g", host, host.saved.back());
  EXPECT_EQ(restored.Heartbeat({again->member_id, "i1"}, again->generation), ErrorCode::kNone);
}

TEST_F(GroupTest, StaticMembersWhoAreAwayDoNotKeepTheLoopBusy) {
  host.delay = seconds(1);
  JoinRequest request = MakeJoin("");
  request.instance_id = "i1";
  Joining first = Join(request);
  request.instance_id = "i2";
  Joining second = Join(request);
  clock.Advance(seconds(3));
  Sync(first, {{first->member_id, "A"}, {second->member_id, "B"}});
  DiskSays();
  request.rebalance_timeout = {};
  for (const char* instance : {"i1", "i2"}) {
    request.instance_id = instance;
    Join(request);
  }
  ASSERT_EQ(group.state(), GroupState::kStable);

  EXPECT_EQ(group.Leave({"", "i1"}), ErrorCode::kNone);
  EXPECT_EQ(group.state(), GroupState::kPreparingRebalance);
  clock.Advance(milliseconds(900));
  EXPECT_EQ(group.state(), GroupState::kPreparingRebalance);
  EXPECT_EQ(Join(request)->error, ErrorCode::kNone);
}

TEST_F(GroupTest, OffsetsMayBeCommittedByMembersOrWhenNobodyIsOne) {
  EXPECT_EQ(group.MayCommit({"", std::nullopt}, -1), ErrorCode::kNone);
  auto [first, second] = MakeStablePair();
  EXPECT_EQ(group.MayCommit({"", std::nullopt}, -1), ErrorCode::kUnknownMemberId);
  EXPECT_EQ(group.MayCommit({first->member_id, std::nullopt}, first->generation), ErrorCode::kNone);
  EXPECT_EQ(group.MayCommit({first->member_id, std::nullopt}, first->generation - 1),
            ErrorCode::kIllegalGeneration);
}

TEST_F(GroupTest, MembersGoOnAfterARestartOfTheBroker) {
  auto [first, second] = MakeStablePair();
  Group restored("g", host, host.saved.back());
  EXPECT_EQ(restored.state(), GroupState::kStable);
  EXPECT_EQ(restored.Heartbeat({first->member_id, std::nullopt}, first->generation),
            ErrorCode::kNone);
  const auto assignment = std::make_shared<std::string>();
  SyncRequest sync;
  sync.member_id = second->member_id;
  sync.generation = second->generation;
  restored.Sync(sync, [assignment](SyncResult result) { *assignment = result.assignment; });
  EXPECT_EQ(*assignment, "B");
  clock.Advance(seconds(21));
  EXPECT_TRUE(restored.unused()) << "sessions run from the restart on";
}

TEST_F(GroupTest, CloseAnswersWhoWaits) {
  host.delay = seconds(3);
  Joining waiting = Join(MakeJoin(""));
  group.Close(ErrorCode::kCoordinatorNotAvailable);
  ASSERT_TRUE(waiting.answered());
  EXPECT_EQ(waiting->error, ErrorCode::kCoordinatorNotAvailable);
}

}  // namespace
}  // namespace holdfast::broker
