// Groups of the newer protocol on virtual time: members are played by the test, and a disk that
// says when a change is durable.
#include "broker/consumer_group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

#include "broker/consumer_protocol.h"
#include "kafka/wire.h"
#include "tests/support/manual_executor.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Topics, and a disk: what was saved can be looked at, and taken up by another group.
class FakeHost final : public ConsumerGroupHost {
 public:
  explicit FakeHost(base::Executor& executor) : executor_(executor) {}

  base::Executor& loop() override { return executor_; }
  std::string MakeMemberId(std::string_view prefix) override {
    return std::string(prefix) + "-" + std::to_string(++made_);
  }
  const Topics& topics() override { return topics_; }
  uint64_t topics_version() override { return version_; }
  ConsumerGroupOptions consumer_options(const std::string& /*group_id*/) override {
    return options;
  }
  void Save(const std::string& /*group_id*/, ConsumerGroupChange change, Done done) override {
    removed = change.removed_members;
    waiting_.emplace_back(std::move(change), std::move(done));
    if (!hold) Flush();
  }
  void Downgrade(const std::string& /*group_id*/, ConsumerGroupChange gone, GroupRecord record,
                 bool rebalance, Done done) override {
    downgraded = std::move(record);
    downgrade_rebalances = rebalance;
    waiting_.emplace_back(std::move(gone), std::move(done));
    if (!hold) Flush();
  }
  void CountMembers(int difference) override { members += difference; }
  void CountRebalance() override { ++rebalances; }

  // What waits for the disk has reached it, or could not be written.
  void Flush(ErrorCode error = ErrorCode::kNone) {
    while (!waiting_.empty()) {
      auto [change, done] = std::move(waiting_.front());
      waiting_.pop_front();
      if (error == ErrorCode::kNone) Apply(change);
      executor_.Post([done = std::move(done), error]() mutable { done(error); });
    }
  }
  void MakeTopic(const std::string& name, int partitions) {
    auto topic = std::make_shared<Topic>();
    topic->name = name;
    topic->id.bytes[0] = ++topics_made_;
    Grow(topic, partitions);
  }
  void GrowTopic(const std::string& name, int partitions) {
    Grow(std::make_shared<Topic>(*topics_.Find(name)), partitions);
  }
  void DeleteTopic(const std::string& name) {
    topics_.Erase(topics_.Find(name)->id);
    ++version_;
  }

  ConsumerGroupOptions options;
  bool hold = false;
  std::optional<ConsumerGroupRecord> kept_group;
  std::map<uint64_t, ConsumerMemberRecord> kept_members;
  std::vector<uint64_t> removed;  // By the newest change.
  std::optional<GroupRecord> downgraded;
  bool downgrade_rebalances = false;
  int members = 0;
  int rebalances = 0;

 private:
  void Apply(const ConsumerGroupChange& change) {
    if (change.erases_group) kept_group.reset();
    if (change.group) kept_group = change.group;
    for (const uint64_t number : change.removed_members) kept_members.erase(number);
    for (const ConsumerMemberRecord& member : change.members) kept_members[member.number] = member;
  }
  void Grow(std::shared_ptr<Topic> topic, int partitions) {
    while (static_cast<int>(topic->partitions.size()) < partitions) {
      const TopicPartition id{topic->id, static_cast<int32_t>(topic->partitions.size())};
      topic->partitions.push_back(&partitions_.emplace_back(id, spool::StreamId(1), 0));
    }
    topics_.Put(std::move(topic));
    ++version_;
  }

  base::Executor& executor_;
  int made_ = 0;
  uint8_t topics_made_ = 0;
  uint64_t version_ = 1;
  Topics topics_;
  std::deque<Partition> partitions_;
  std::deque<std::pair<ConsumerGroupChange, Done>> waiting_;
};

std::string SubscriptionBytes(const std::vector<std::string_view>& topics,
                              const std::vector<TopicPartitions>& owned = {}) {
  constexpr int16_t kVersion = 3;
  kafka::Writer writer(kVersion);
  writer.Int(kVersion);
  ConsumerSubscription subscription;
  subscription.topics = topics;
  subscription.owned = owned;
  writer.Struct(subscription);
  return std::string(writer.written());
}

class ConsumerGroupTest : public testing::Test {
 protected:
  using Answer = std::shared_ptr<std::optional<ConsumerHeartbeatResult>>;

  ConsumerGroupTest() { host.MakeTopic("t", 4); }

  Answer Send(ConsumerHeartbeat request) {
    auto answer = std::make_shared<std::optional<ConsumerHeartbeatResult>>();
    request.client_id = "c";
    request.client_host = "/127.0.0.1";
    group->Heartbeat(std::move(request),
                     [answer](ConsumerHeartbeatResult result) { *answer = std::move(result); });
    clock.RunUntilIdle();
    return answer;
  }
  ConsumerHeartbeatResult Ask(ConsumerHeartbeat request) {
    const Answer answer = Send(std::move(request));
    HF_CHECK(answer->has_value());
    return **answer;
  }
  static ConsumerHeartbeat JoinAs(std::string member, std::vector<std::string> topics = {"t"}) {
    return {.member_id = std::move(member),
            .epoch = kJoinEpoch,
            .rebalance_timeout = seconds(60),
            .topic_names = std::move(topics),
            .owned = Assignment()};
  }
  ConsumerHeartbeatResult Live(std::string member, int32_t epoch,
                               std::optional<Assignment> owned = std::nullopt) {
    return Ask({.member_id = std::move(member), .epoch = epoch, .owned = std::move(owned)});
  }
  Assignment Partitions(const std::string& topic, std::vector<int32_t> indexes) {
    Assignment assignment;
    for (const int32_t index : indexes) {
      assignment.push_back({host.topics().Find(topic)->id, index});
    }
    return assignment;
  }
  const ConsumerMemberRecord& Member(std::string_view id) {
    for (const ConsumerMemberRecord* member : group->members()) {
      if (member->member_id == id) return *member;
    }
    HF_CHECK(false);
  }
  void Restart() {
    std::vector<ConsumerMemberRecord> members;
    for (const auto& [number, member] : host.kept_members) members.push_back(member);
    group = std::make_unique<ConsumerGroup>(
        "g", host, host.kept_group.value_or(ConsumerGroupRecord()), std::move(members));
  }

  test::ManualClock clock;
  test::ManualExecutor loop{clock};
  FakeHost host{loop};
  std::unique_ptr<ConsumerGroup> group = std::make_unique<ConsumerGroup>("g", host);
};

TEST_F(ConsumerGroupTest, LoneMemberGetsEverythingWithItsFirstHeartbeat) {
  EXPECT_EQ(group->state(), ConsumerGroupState::kEmpty);
  const auto joined = Ask(JoinAs("a"));
  EXPECT_EQ(joined.error, ErrorCode::kNone);
  EXPECT_EQ(joined.member_id, "a");
  EXPECT_EQ(joined.epoch, 1);
  EXPECT_EQ(joined.assigned, Partitions("t", {0, 1, 2, 3}));
  EXPECT_EQ(group->state(), ConsumerGroupState::kStable);
  EXPECT_EQ(host.rebalances, 1);

  const auto living = Live("a", 1);
  EXPECT_EQ(living.epoch, 1);
  EXPECT_FALSE(living.assigned) << "nothing has changed";
}

TEST_F(ConsumerGroupTest, AnswerWaitsForTheDisk) {
  host.hold = true;
  const Answer joining = Send(JoinAs("a"));
  EXPECT_FALSE(joining->has_value());
  const Answer behind = Send({.member_id = "a", .epoch = 1});
  EXPECT_FALSE(behind->has_value()) << "it rests on what is not durable yet";
  host.Flush();
  clock.RunUntilIdle();
  ASSERT_TRUE(joining->has_value());
  EXPECT_TRUE(behind->has_value());
  EXPECT_EQ(host.kept_members.size(), 1u);
}

TEST_F(ConsumerGroupTest, AfterAFailedWriteTheNextOneHoldsEverything) {
  Ask(JoinAs("a"));
  host.hold = true;
  const Answer failed = Send(JoinAs("b"));
  host.Flush(ErrorCode::kCoordinatorNotAvailable);
  clock.RunUntilIdle();
  ASSERT_TRUE(failed->has_value());
  EXPECT_EQ((*failed)->error, ErrorCode::kCoordinatorNotAvailable);
  EXPECT_EQ(host.kept_members.size(), 1u);

  host.hold = false;
  Live("a", 1);
  EXPECT_EQ(host.kept_members.size(), 2u);
  EXPECT_EQ(host.kept_group->epoch, group->record().epoch);
  for (const ConsumerMemberRecord* member : group->members()) {
    EXPECT_EQ(host.kept_members.at(member->number), *member);
  }
}

TEST_F(ConsumerGroupTest, MemberThatLeftIsNamedOnceHoweverManyWritesFail) {
  Ask(JoinAs("a"));
  Ask(JoinAs("b"));
  const uint64_t gone = Member("b").number;
  host.hold = true;
  Send({.member_id = "b", .epoch = kLeaveEpoch});
  for (int i = 0; i < 10; ++i) {
    host.Flush(ErrorCode::kCoordinatorNotAvailable);
    clock.RunUntilIdle();
    Send({.member_id = "a", .epoch = Member("a").current.epoch});
    EXPECT_EQ(host.removed, std::vector<uint64_t>{gone});
  }
  EXPECT_EQ(group->Erasure().removed_members.size(), 2u);
  host.Flush();
  clock.RunUntilIdle();
  EXPECT_EQ(host.kept_members.size(), 1u);
  EXPECT_EQ(group->Erasure().removed_members, std::vector<uint64_t>{Member("a").number});
  // What is removed needs no more mention.
  Send(JoinAs("c"));
  host.Flush(ErrorCode::kCoordinatorNotAvailable);
  clock.RunUntilIdle();
  Send(JoinAs("c"));
  EXPECT_EQ(host.removed, std::vector<uint64_t>());
}

TEST_F(ConsumerGroupTest, PartitionsAreGivenUpBeforeAnotherGetsThem) {
  Ask(JoinAs("a"));
  const auto second = Ask(JoinAs("b"));
  EXPECT_EQ(second.epoch, 2);
  EXPECT_EQ(second.assigned, Assignment()) << "a has them all";
  EXPECT_EQ(group->state(), ConsumerGroupState::kReconciling);

  const auto told = Live("a", 1);
  EXPECT_EQ(told.epoch, 1) << "until it has given them up";
  EXPECT_EQ(told.assigned, Partitions("t", {0, 1}));
  EXPECT_FALSE(Live("b", 2).assigned);
  EXPECT_EQ(Live("a", 1, Partitions("t", {0, 1, 2})).epoch, 1) << "one is still its own";

  EXPECT_EQ(Live("a", 1, Partitions("t", {0, 1})).epoch, 2);
  EXPECT_EQ(Live("b", 2).assigned, Partitions("t", {2, 3}));
  EXPECT_EQ(group->state(), ConsumerGroupState::kStable);
}

TEST_F(ConsumerGroupTest, WhoDoesNotGiveUpInTimeIsFenced) {
  Ask(JoinAs("a"));
  Ask(JoinAs("b"));
  Live("a", 1);
  for (int i = 0; i < 12; ++i) {
    clock.Advance(seconds(5));
    if (i < 11) {
      EXPECT_EQ(Live("a", 1).error, ErrorCode::kNone);
    }
    Live("b", Member("b").current.epoch);
  }
  EXPECT_EQ(Live("a", 1).error, ErrorCode::kUnknownMemberId);
  Live("b", Member("b").current.epoch);
  EXPECT_EQ(Member("b").current.assigned, Partitions("t", {0, 1, 2, 3}));
}

TEST_F(ConsumerGroupTest, SilentMemberIsFencedAfterItsSession) {
  Ask(JoinAs("a"));
  clock.Advance(seconds(44));
  EXPECT_EQ(Live("a", 1).error, ErrorCode::kNone);
  clock.Advance(seconds(44));
  EXPECT_EQ(Live("a", 1).error, ErrorCode::kNone);
  clock.Advance(seconds(46));
  EXPECT_EQ(Live("a", 1).error, ErrorCode::kUnknownMemberId);
  EXPECT_EQ(group->state(), ConsumerGroupState::kEmpty);
  EXPECT_TRUE(host.kept_members.empty());
  EXPECT_EQ(host.members, 0);
}

TEST_F(ConsumerGroupTest, EpochsOutOfTurnAreFenced) {
  Ask(JoinAs("a"));
  EXPECT_EQ(Live("a", 2).error, ErrorCode::kFencedMemberEpoch);
  EXPECT_EQ(Live("stranger", 1).error, ErrorCode::kUnknownMemberId);
  Ask({.member_id = "a", .epoch = 1, .topic_names = {{"t", "u"}}});
  EXPECT_EQ(Member("a").current.epoch, 2);
  // The answer was lost: what it has is a part of what it was given.
  EXPECT_EQ(Live("a", 1, Partitions("t", {0})).epoch, 2);
  EXPECT_EQ(Live("a", 1).error, ErrorCode::kFencedMemberEpoch) << "it does not say what it has";
  Ask({.member_id = "a", .epoch = 2, .topic_names = {{"t"}}});
  EXPECT_EQ(Live("a", 1, Assignment()).error, ErrorCode::kFencedMemberEpoch);
}

TEST_F(ConsumerGroupTest, AMemberMayJoinAgainUnderItsId) {
  Ask(JoinAs("a"));
  Ask({.member_id = "a", .epoch = 1, .topic_names = {{"t", "u"}}});
  const auto again = Ask(JoinAs("a", {"t", "u"}));
  EXPECT_EQ(again.error, ErrorCode::kNone);
  EXPECT_EQ(again.epoch, 2);
  EXPECT_EQ(again.assigned, Partitions("t", {0, 1, 2, 3}));
  EXPECT_EQ(group->size(), 1u);
}

TEST_F(ConsumerGroupTest, LeavingGivesThePartitionsToTheOthers) {
  Ask(JoinAs("a"));
  Ask(JoinAs("b"));
  Live("a", 1);
  Live("a", 1, Partitions("t", {0, 1}));
  Live("b", 2);
  const auto left = Ask({.member_id = "a", .epoch = kLeaveEpoch});
  EXPECT_EQ(left.error, ErrorCode::kNone);
  EXPECT_EQ(left.epoch, kLeaveEpoch);
  EXPECT_EQ(group->state(), ConsumerGroupState::kAssigning) << "until somebody reports";
  EXPECT_EQ(Live("b", 2).assigned, Partitions("t", {0, 1, 2, 3}));
  EXPECT_EQ(Ask({.member_id = "a", .epoch = kLeaveEpoch}).error, ErrorCode::kUnknownMemberId);
}

TEST_F(ConsumerGroupTest, StaticMemberComesBackToItsPlace) {
  ConsumerHeartbeat join = JoinAs("a");
  join.instance_id = "i";
  Ask(join);
  Ask(JoinAs("b"));
  Live("a", 1);
  Ask({.member_id = "a", .epoch = 1, .instance_id = "i", .owned = Partitions("t", {0, 1})});
  Live("b", 2);
  const int32_t epoch = group->record().epoch;

  join.member_id = "a2";
  EXPECT_EQ(Ask(join).error, ErrorCode::kUnreleasedInstanceId);
  EXPECT_EQ(Ask({.member_id = "x", .epoch = kLeaveForAWhileEpoch, .instance_id = "i"}).error,
            ErrorCode::kFencedInstanceId);
  EXPECT_EQ(Ask({.member_id = "a", .epoch = kLeaveForAWhileEpoch, .instance_id = "i"}).epoch,
            kLeaveForAWhileEpoch);
  EXPECT_FALSE(Live("b", 2).assigned) << "nothing moves";
  const auto back = Ask(join);
  EXPECT_EQ(back.error, ErrorCode::kNone);
  EXPECT_EQ(back.epoch, epoch);
  EXPECT_EQ(back.assigned, Partitions("t", {0, 1}));
  EXPECT_EQ(group->record().epoch, epoch) << "and there was no rebalance";
  EXPECT_EQ(host.kept_members.size(), 2u);
  EXPECT_EQ(Ask({.member_id = "a", .epoch = epoch, .instance_id = "i"}).error,
            ErrorCode::kFencedInstanceId);
}

TEST_F(ConsumerGroupTest, StaticMemberThatStaysAwayIsDropped) {
  ConsumerHeartbeat join = JoinAs("a");
  join.instance_id = "i";
  Ask(join);
  Ask({.member_id = "a", .epoch = kLeaveForAWhileEpoch, .instance_id = "i"});
  clock.Advance(seconds(46));
  EXPECT_TRUE(group->empty());
}

TEST_F(ConsumerGroupTest, MemberThatTakesAnotherInstanceGivesUpTheOneBefore) {
  for (const char* instance : {"A", "B"}) {
    ConsumerHeartbeat join = JoinAs("m");
    join.instance_id = instance;
    EXPECT_EQ(Ask(join).error, ErrorCode::kNone);
  }
  std::vector<ConsumerGroup::Left> results;
  group->Leave({{"", "A"}},
               [&](std::vector<ConsumerGroup::Left> left) { results = std::move(left); });
  clock.RunUntilIdle();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].error, ErrorCode::kUnknownMemberId);
  EXPECT_EQ(Ask({.member_id = "m", .epoch = kLeaveEpoch, .instance_id = "B"}).error,
            ErrorCode::kNone);
  ConsumerHeartbeat join = JoinAs("n");
  join.instance_id = "A";
  EXPECT_EQ(Ask(join).error, ErrorCode::kNone);
  EXPECT_EQ(group->size(), 1u);
}

TEST_F(ConsumerGroupTest, MemberThatComesBackAsAStaticOneIsNotTwo) {
  ConsumerHeartbeat join = JoinAs("m");
  join.instance_id = "A";
  Ask(join);
  Ask(JoinAs("n"));
  Ask({.member_id = "m", .epoch = kLeaveForAWhileEpoch, .instance_id = "A"});
  join.member_id = "n";
  const auto joined = Ask(join);
  EXPECT_EQ(joined.error, ErrorCode::kNone);
  EXPECT_EQ(joined.assigned, Partitions("t", {0, 1, 2, 3}));
  EXPECT_EQ(group->size(), 1u);
  EXPECT_EQ(host.members, 1);
  EXPECT_EQ(host.kept_members.size(), 1u);
  Restart();
  EXPECT_EQ(Member("n").current.assigned, Partitions("t", {0, 1, 2, 3}));
  EXPECT_EQ(group->state(), ConsumerGroupState::kStable);
}

TEST_F(ConsumerGroupTest, TopicsThatChangeMakeANewEpoch) {
  Ask(JoinAs("a", {"t", "u"}));
  EXPECT_EQ(Live("a", 1).epoch, 1);
  host.MakeTopic("other", 3);
  EXPECT_EQ(Live("a", 1).epoch, 1) << "nobody subscribes to it";
  host.MakeTopic("u", 1);
  auto told = Live("a", 1);
  EXPECT_EQ(told.epoch, 2);
  EXPECT_EQ(told.assigned->size(), 5u);
  host.GrowTopic("t", 6);
  told = Live("a", 2);
  EXPECT_EQ(told.epoch, 3);
  EXPECT_EQ(told.assigned->size(), 7u);
  host.DeleteTopic("u");
  told = Live("a", 3);
  EXPECT_EQ(told.epoch, 3) << "it has to give something up";
  EXPECT_EQ(told.assigned, Partitions("t", {0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(Live("a", 3, Partitions("t", {0, 1, 2, 3, 4, 5})).epoch, 4);
}

TEST_F(ConsumerGroupTest, PatternsFollowTheTopics) {
  host.MakeTopic("orders-1", 1);
  host.MakeTopic("my-orders-1", 1);
  ConsumerHeartbeat join = JoinAs("a");
  join.topic_names.reset();
  join.topic_pattern = "orders-[0-9]+";
  EXPECT_EQ(Ask(join).assigned, Partitions("orders-1", {0})) << "whole names match";
  host.MakeTopic("orders-22", 2);
  EXPECT_EQ(Live("a", 1).assigned->size(), 3u);
  EXPECT_TRUE(group->SubscribesTo(*host.topics().Find("orders-22")));
  EXPECT_FALSE(group->SubscribesTo(*host.topics().Find("t")));
  // From pattern to names.
  const auto changed =
      Ask({.member_id = "a", .epoch = 2, .topic_names = {{"t"}}, .topic_pattern = ""});
  EXPECT_EQ(changed.assigned, Assignment());
  EXPECT_EQ(Live("a", 2, Assignment()).assigned, Partitions("t", {0, 1, 2, 3}));
}

TEST_F(ConsumerGroupTest, PatternsFitOnlyWhatTheMemberMayKnow) {
  host.MakeTopic("orders-1", 1);
  host.MakeTopic("orders-2", 1);
  ConsumerHeartbeat join = JoinAs("a");
  join.topic_names.reset();
  join.topic_pattern = "orders-.*";
  join.may_know = [](std::string_view topic) { return topic != "orders-2"; };
  EXPECT_EQ(Ask(join).assigned, Partitions("orders-1", {0}));
  EXPECT_FALSE(group->SubscribesTo(*host.topics().Find("orders-2")));
}

TEST_F(ConsumerGroupTest, PatternsFitNoMoreAfterARestart) {
  host.MakeTopic("hidden", 2);
  host.MakeTopic("s", 2);
  const auto may_know = [](std::string_view topic) { return topic != "hidden"; };
  const auto live = [&](const std::string& member, std::optional<Assignment> owned = {}) {
    return Ask({.member_id = member,
                .epoch = Member(member).current.epoch,
                .may_know = may_know,
                .owned = std::move(owned)});
  };
  for (const char* member : {"a", "b", "c"}) {
    ConsumerHeartbeat join = JoinAs(member);
    join.topic_names.reset();
    join.topic_pattern = ".*";
    join.may_know = may_know;
    Ask(join);
  }
  for (int i = 0; i < 3; ++i) {
    for (const char* member : {"a", "b", "c"}) live(member, Member(member).current.assigned);
  }
  ASSERT_EQ(group->state(), ConsumerGroupState::kStable);
  const int32_t epoch = group->record().epoch;
  Restart();
  for (const char* member : {"a", "b", "c"}) {
    EXPECT_EQ(live(member).error, ErrorCode::kNone);
    EXPECT_FALSE(group->SubscribesTo(*host.topics().Find("hidden")));
  }
  EXPECT_EQ(group->record().epoch, epoch) << "all is as it was";
  EXPECT_EQ(group->state(), ConsumerGroupState::kStable);

  // What is made before all are back is assigned in the end.
  Restart();
  EXPECT_EQ(live("a").error, ErrorCode::kNone);
  host.MakeTopic("u", 6);
  for (int i = 0; i < 4; ++i) {
    for (const char* member : {"a", "b", "c"}) live(member, Member(member).current.assigned);
  }
  EXPECT_EQ(group->state(), ConsumerGroupState::kStable);
  for (const char* member : {"a", "b", "c"}) {
    EXPECT_EQ(Member(member).target.size(), 4u);
    for (const TopicPartition& partition : Member(member).target) {
      EXPECT_NE(partition.topic, host.topics().Find("hidden")->id);
    }
  }
}

TEST_F(ConsumerGroupTest, GroupChoosesTheAssignorThatMostMembersName) {
  EXPECT_EQ(group->assignor(), "uniform");
  for (const char* name : {"a", "b"}) {
    ConsumerHeartbeat join = JoinAs(name);
    join.assignor = "range";
    Ask(join);
  }
  EXPECT_EQ(group->assignor(), "range");
}

TEST_F(ConsumerGroupTest, FullGroupRefusesNewMembersOnly) {
  host.options.size_max = 1;
  Ask(JoinAs("a"));
  EXPECT_EQ(Ask(JoinAs("b")).error, ErrorCode::kGroupMaxSizeReached);
  EXPECT_EQ(Live("a", 1).error, ErrorCode::kNone);
}

TEST_F(ConsumerGroupTest, NewGroupLeavesEpochZeroWithoutTopics) {
  const auto joined = Ask(JoinAs("a", {}));
  EXPECT_EQ(joined.epoch, 1);
  EXPECT_EQ(joined.assigned, Assignment());
}

TEST_F(ConsumerGroupTest, OffsetsAreForMembersOfTheEpoch) {
  EXPECT_EQ(group->MayCommit("", -1, true), ErrorCode::kNone) << "nobody is a member";
  Ask(JoinAs("a"));
  EXPECT_EQ(group->MayCommit("", -1, true), ErrorCode::kUnknownMemberId);
  EXPECT_EQ(group->MayCommit("a", 1, true), ErrorCode::kNone);
  EXPECT_EQ(group->MayCommit("a", 0, true), ErrorCode::kStaleMemberEpoch);
  EXPECT_EQ(group->MayCommit("a", 1, false), ErrorCode::kUnsupportedVersion);
  EXPECT_EQ(group->MayFetch(std::nullopt, -1), ErrorCode::kNone);
  EXPECT_EQ(group->MayFetch("a", 1), ErrorCode::kNone);
  EXPECT_EQ(group->MayFetch("a", 2), ErrorCode::kStaleMemberEpoch);
  EXPECT_EQ(group->MayFetch("b", 1), ErrorCode::kUnknownMemberId);
}

TEST_F(ConsumerGroupTest, MembersGoOnAfterARestart) {
  Ask(JoinAs("a"));
  Ask(JoinAs("b"));
  Live("a", 1);
  Restart();
  EXPECT_EQ(host.members, 2);
  EXPECT_EQ(group->state(), ConsumerGroupState::kReconciling);
  EXPECT_FALSE(Live("b", 2).assigned);
  EXPECT_EQ(Live("a", 1, Partitions("t", {0, 1})).epoch, 2);
  EXPECT_EQ(Live("b", 2).assigned, Partitions("t", {2, 3}));
  clock.Advance(seconds(46));
  EXPECT_TRUE(group->empty()) << "sessions run from the restart on";
}

TEST_F(ConsumerGroupTest, TopicsThatGrewDuringARestartAreSeen) {
  Ask(JoinAs("a"));
  host.GrowTopic("t", 5);
  Restart();
  EXPECT_EQ(Live("a", 1).epoch, 2);
}

// --- Members of the classic protocol ------------------------------------------------------------

class MixedGroupTest : public ConsumerGroupTest {
 protected:
  static JoinRequest ClassicJoin(std::string member_id,
                                 const std::vector<TopicPartitions>& owned = {}) {
    JoinRequest request;
    request.member_id = std::move(member_id);
    request.client_id = "old";
    request.client_host = "/127.0.0.1";
    request.protocol_type = "consumer";
    request.protocols = {{"range", SubscriptionBytes({"t"}, owned)}};
    request.session_timeout = seconds(10);
    request.rebalance_timeout = seconds(60);
    return request;
  }
  JoinResult Join(JoinRequest request) {
    auto answer = std::make_shared<std::optional<JoinResult>>();
    group->Join(std::move(request), [answer](JoinResult result) { *answer = std::move(result); });
    clock.RunUntilIdle();
    return answer->value();
  }
  SyncResult Sync(const std::string& member_id, int32_t generation) {
    auto answer = std::make_shared<std::optional<SyncResult>>();
    group->Sync({.member_id = member_id,
                 .generation = generation,
                 .protocol_type = "consumer",
                 .protocol_name = "range"},
                [answer](SyncResult result) { *answer = std::move(result); });
    clock.RunUntilIdle();
    return answer->value();
  }
  static std::vector<int32_t> AssignedOf(const SyncResult& synced) {
    const auto topics = ParseConsumerAssignment(synced.assignment)->topics;
    return topics.empty() ? std::vector<int32_t>() : topics.front().partitions;
  }
  // A stable classic group of one member with all partitions.
  static GroupRecord ClassicGroup() {
    GroupRecord record;
    record.protocol_type = "consumer";
    record.protocol_name = "range";
    record.leader = "old-0";
    record.generation = 5;
    record.members = {{.member_id = "old-0",
                       .client_id = "old",
                       .client_host = "/127.0.0.1",
                       .session_timeout = seconds(10),
                       .rebalance_timeout = seconds(60),
                       .protocols = {{"range", SubscriptionBytes({"t"})}},
                       .assignment = EncodeConsumerAssignment(3, {{"t", {0, 1, 2, 3}}})}};
    return record;
  }
};

TEST_F(MixedGroupTest, ClassicGroupGoesOnWhenANewerMemberJoins) {
  group = ConsumerGroup::FromClassic("g", host, ClassicGroup());
  ASSERT_NE(group, nullptr);
  EXPECT_EQ(Ask(JoinAs("new")).epoch, 6);
  EXPECT_EQ(host.kept_members.size(), 2u);

  const MemberRef old{"old-0", std::nullopt};
  EXPECT_EQ(group->ClassicHeartbeat(old, 4), ErrorCode::kIllegalGeneration);
  EXPECT_EQ(group->ClassicHeartbeat(old, 5), ErrorCode::kRebalanceInProgress);
  // It joins with what it has, is told what to keep, and gives the rest up by joining again.
  JoinResult joined = Join(ClassicJoin("old-0", {{"t", {0, 1, 2, 3}}}));
  EXPECT_EQ(joined.error, ErrorCode::kNone);
  EXPECT_EQ(joined.generation, 5);
  EXPECT_EQ(joined.protocol_name, "range");
  EXPECT_EQ(AssignedOf(Sync("old-0", 5)), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(group->ClassicHeartbeat(old, 5), ErrorCode::kRebalanceInProgress);
  joined = Join(ClassicJoin("old-0", {{"t", {0, 1}}}));
  EXPECT_EQ(joined.generation, 6);
  EXPECT_EQ(AssignedOf(Sync("old-0", 6)), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(group->ClassicHeartbeat(old, 6), ErrorCode::kNone);
  EXPECT_EQ(Live("new", 6).assigned, Partitions("t", {2, 3}));
}

TEST_F(MixedGroupTest, ClassicGroupWhoseMembersCannotBeReadIsNotTakenOver) {
  GroupRecord record = ClassicGroup();
  record.members[0].protocols[0].metadata = "x";
  EXPECT_EQ(ConsumerGroup::FromClassic("g", host, record), nullptr);
}

TEST_F(MixedGroupTest, ClassicGroupWhoseAssignorTellsMembersMoreIsNotTakenOver) {
  GroupRecord record = ClassicGroup();
  record.protocol_name = record.members[0].protocols[0].name = "stream";
  std::string& assignment = record.members[0].assignment;
  ASSERT_TRUE(assignment.ends_with("\377\377\377\377")) << "no user data";
  assignment.replace(assignment.size() - 4, 4, {"\0\0\0\0", 4});
  EXPECT_NE(ConsumerGroup::FromClassic("g", host, record), nullptr) << "empty";
  assignment.replace(assignment.size() - 4, 4, {"\0\0\0\5tasks", 9});
  EXPECT_EQ(ConsumerGroup::FromClassic("g", host, record), nullptr);
  record.protocol_name = record.members[0].protocols[0].name = "cooperative-sticky";
  EXPECT_NE(ConsumerGroup::FromClassic("g", host, record), nullptr) << "as librdkafka has it";
}

TEST_F(MixedGroupTest, GroupGoesBackWhenTheLastNewerMemberLeaves) {
  group = ConsumerGroup::FromClassic("g", host, ClassicGroup());
  Ask(JoinAs("new"));
  Ask({.member_id = "new", .epoch = kLeaveEpoch});
  ASSERT_TRUE(host.downgraded.has_value());
  EXPECT_TRUE(host.downgrade_rebalances);
  EXPECT_EQ(host.downgraded->generation, 6);
  EXPECT_EQ(host.downgraded->protocol_name, "range");
  ASSERT_EQ(host.downgraded->members.size(), 1u);
  EXPECT_EQ(host.downgraded->members[0].member_id, "old-0");
  EXPECT_TRUE(host.kept_members.empty());
  EXPECT_FALSE(host.kept_group.has_value());
}

TEST_F(MixedGroupTest, PolicyMayForbidTheWayBack) {
  host.options.downgrade = false;
  group = ConsumerGroup::FromClassic("g", host, ClassicGroup());
  Ask(JoinAs("new"));
  Ask({.member_id = "new", .epoch = kLeaveEpoch});
  EXPECT_FALSE(host.downgraded.has_value());
  EXPECT_EQ(group->size(), 1u);
}

TEST_F(MixedGroupTest, RestartOfTheLastNewerMemberAsAClassicOneTakesTheGroupBack) {
  group = ConsumerGroup::FromClassic("g", host, ClassicGroup());
  ConsumerHeartbeat join = JoinAs("new");
  join.instance_id = "i";
  Ask(join);
  JoinRequest classic = ClassicJoin("");
  classic.instance_id = "i";
  const JoinResult joined = Join(classic);
  EXPECT_EQ(joined.error, ErrorCode::kNone);
  ASSERT_TRUE(host.downgraded.has_value());
  EXPECT_FALSE(host.downgrade_rebalances);
  EXPECT_EQ(host.downgraded->members.size(), 2u);
}

TEST_F(MixedGroupTest, ClassicMembersJoinInTwoStepsAndMustSync) {
  Ask(JoinAs("new"));
  JoinRequest request = ClassicJoin("");
  request.id_required = true;
  JoinResult joined = Join(request);
  EXPECT_EQ(joined.error, ErrorCode::kMemberIdRequired);
  EXPECT_EQ(group->size(), 1u);
  joined = Join(ClassicJoin(joined.member_id));
  EXPECT_EQ(joined.generation, 2);
  EXPECT_EQ(Sync(joined.member_id, 1).error, ErrorCode::kIllegalGeneration);
  EXPECT_EQ(Sync("new", 1).error, ErrorCode::kUnknownMemberId) << "it speaks the newer protocol";
  for (int i = 0; i < 12; ++i) {
    clock.Advance(seconds(5));
    group->ClassicHeartbeat({joined.member_id, std::nullopt}, 2);
    Live("new", Member("new").current.epoch);
  }
  clock.Advance(seconds(1));
  EXPECT_EQ(group->size(), 1u) << "it never came for its assignment";
}

TEST_F(MixedGroupTest, ClassicMemberThatIsToldToRejoinAndDoesNotIsDropped) {
  group = ConsumerGroup::FromClassic("g", host, ClassicGroup());
  Ask(JoinAs("new"));
  for (int i = 0; i < 13; ++i) {
    EXPECT_EQ(group->ClassicHeartbeat({"old-0", std::nullopt}, 5),
              i < 12 ? ErrorCode::kRebalanceInProgress : ErrorCode::kUnknownMemberId);
    clock.Advance(seconds(5));
    Live("new", Member("new").current.epoch);
  }
}

TEST_F(MixedGroupTest, ClassicSessionsAreTheMembersOwn) {
  group = ConsumerGroup::FromClassic("g", host, ClassicGroup());
  Ask(JoinAs("new"));
  clock.Advance(seconds(11));
  EXPECT_EQ(group->size(), 1u);
}

TEST_F(MixedGroupTest, ProtocolsMustFit) {
  group = ConsumerGroup::FromClassic("g", host, ClassicGroup());
  Ask(JoinAs("new"));
  JoinRequest other = ClassicJoin("");
  other.protocols[0].name = "sticky";
  EXPECT_EQ(Join(other).error, ErrorCode::kInconsistentGroupProtocol);
  other = ClassicJoin("");
  other.protocol_type = "connect";
  EXPECT_EQ(Join(other).error, ErrorCode::kInconsistentGroupProtocol);
  other = ClassicJoin("");
  other.protocols[0].metadata = "?";
  EXPECT_EQ(Join(other).error, ErrorCode::kInconsistentGroupProtocol);
}

TEST_F(MixedGroupTest, ClassicMembersLeaveByIdOrInstance) {
  Ask(JoinAs("new"));
  JoinRequest request = ClassicJoin("");
  request.instance_id = "i";
  Join(request);
  std::vector<ConsumerGroup::Left> results;
  group->Leave({{"nobody", std::nullopt}, {"x", "i"}, {"", "i"}},
               [&](std::vector<ConsumerGroup::Left> left) { results = std::move(left); });
  clock.RunUntilIdle();
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0].error, ErrorCode::kUnknownMemberId);
  EXPECT_EQ(results[1].error, ErrorCode::kFencedInstanceId);
  EXPECT_EQ(results[2].error, ErrorCode::kNone);
  EXPECT_EQ(group->size(), 1u);
  // An administrator removes members of the newer protocol in the same way.
  group->Leave({{"new", std::nullopt}},
               [&](std::vector<ConsumerGroup::Left> left) { results = std::move(left); });
  clock.RunUntilIdle();
  EXPECT_EQ(results[0].error, ErrorCode::kNone);
  EXPECT_TRUE(group->empty());
}

// --- Whatever happens ---------------------------------------------------------------------------

// Members that behave like clients: they report what they have, give up what they are told to a
// while later, and come again when they are fenced.
TEST_F(ConsumerGroupTest, NoPartitionIsEverUsedByTwoAndAllIsUsedInTheEnd) {
  struct Client {
    std::string id;
    int32_t epoch = kJoinEpoch;
    Assignment using_now;                 // What it consumes.
    std::optional<Assignment> to_become;  // What it was told, and has not yet done.
    bool alive = true;
    bool reports = true;       // With the next heartbeat, what it has.
    bool answer_lost = false;  // Then it says everything once more.
    std::vector<std::string> topics = {};
  };
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
    FakeHost own_host(loop);
    // Long enough that only those who died are fenced: others would use what they have until they
    // hear of it.
    own_host.options.session_timeout = seconds(120);
    own_host.MakeTopic("t", 3);
    own_host.MakeTopic("u", 2);
    auto own_group = std::make_unique<ConsumerGroup>("g", own_host);
    std::vector<Client> clients;
    int named = 0;
    int grown = 3;

    const auto expect_exclusive = [&] {
      std::set<TopicPartition> used;
      for (const Client& client : clients) {
        for (const TopicPartition& partition : client.using_now) {
          ASSERT_TRUE(used.insert(partition).second) << "two use one partition";
        }
      }
    };
    const auto heartbeat = [&](Client& client, bool answer_arrives) {
      ConsumerHeartbeat request{.member_id = client.id, .epoch = client.epoch};
      if (client.epoch == kJoinEpoch) {
        client.topics = {"t"};
        if (pick(4) != 0) client.topics.push_back("u");
        request = JoinAs(client.id, client.topics);
        request.rebalance_timeout = seconds(3000);
      } else if (client.reports || client.answer_lost) {
        request.owned = client.using_now;
      }
      if (std::exchange(client.answer_lost, false)) {
        request.rebalance_timeout = seconds(3000);
        request.topic_names = client.topics;
      }
      std::optional<ConsumerHeartbeatResult> result;
      own_group->Heartbeat(std::move(request),
                           [&](ConsumerHeartbeatResult given) { result = std::move(given); });
      clock.RunUntilIdle();
      ASSERT_TRUE(result.has_value());
      if (!answer_arrives) {
        client.answer_lost = true;
        client.to_become.reset();  // It may have been told otherwise.
        return;
      }
      client.reports = false;
      if (result->error != ErrorCode::kNone) {
        ASSERT_TRUE(result->error == ErrorCode::kFencedMemberEpoch ||
                    result->error == ErrorCode::kUnknownMemberId)
            << static_cast<int>(result->error);
        client.using_now.clear();
        client.to_become.reset();
        client.epoch = kJoinEpoch;
        return;
      }
      client.epoch = result->epoch;
      if (result->assigned) client.to_become = *result->assigned;
    };
    // It gives up what it is to give up at once, and takes the rest.
    const auto obey = [&](Client& client) {
      if (!client.to_become) return;
      client.using_now = *std::exchange(client.to_become, std::nullopt);
      client.reports = true;
    };

    for (int step = 0; step < 400; ++step) {
      const int what = pick(100);
      Client* const client =
          clients.empty() ? nullptr
                          : &clients[static_cast<size_t>(pick(static_cast<int>(clients.size())))];
      if (what < 8 && clients.size() < 8) {
        clients.push_back({.id = "m" + std::to_string(named++)});
        heartbeat(clients.back(), true);
      } else if (client == nullptr) {
        continue;
      } else if (what < 11) {
        // It leaves in good order.
        std::optional<ConsumerHeartbeatResult> left;
        const std::string id = client->id;
        clients.erase(clients.begin() + (client - clients.data()));
        own_group->Heartbeat({.member_id = id, .epoch = kLeaveEpoch},
                             [&](ConsumerHeartbeatResult given) { left = std::move(given); });
        clock.RunUntilIdle();
        ASSERT_TRUE(left.has_value());
      } else if (what < 13) {
        // It dies: what it used is free when its session is over.
        clients.erase(clients.begin() + (client - clients.data()));
      } else if (what < 15) {
        own_host.GrowTopic("t", ++grown);
      } else if (what < 17) {
        // kill -9 of the broker: only what was kept is left.
        std::vector<ConsumerMemberRecord> kept;
        for (const auto& [number, member] : own_host.kept_members) kept.push_back(member);
        const ConsumerGroupRecord record = own_host.kept_group.value_or(ConsumerGroupRecord());
        own_group.reset();
        own_group = std::make_unique<ConsumerGroup>("g", own_host, record, std::move(kept));
      } else if (what < 40) {
        obey(*client);
      } else {
        heartbeat(*client, pick(10) != 0);
      }
      clock.Advance(milliseconds(pick(300)));
      expect_exclusive();
      if (HasFatalFailure()) return;
    }

    if (clients.empty()) clients.push_back({.id = "last"});
    for (int round = 0; round < 40; ++round) {
      for (Client& client : clients) {
        heartbeat(client, true);
        obey(client);
        expect_exclusive();
        if (HasFatalFailure()) return;
      }
      clock.Advance(seconds(5));
    }
    EXPECT_EQ(own_group->state(), ConsumerGroupState::kStable);
    EXPECT_EQ(own_group->size(), clients.size());
    std::set<TopicPartition> used;
    for (const Client& client : clients) {
      EXPECT_EQ(client.epoch, own_group->record().target_epoch);
      used.insert(client.using_now.begin(), client.using_now.end());
    }
    size_t subscribed = 0;
    for (const SubscribedTopic& topic : own_group->record().topics) {
      subscribed += static_cast<size_t>(topic.partitions);
    }
    EXPECT_EQ(used.size(), subscribed);
    EXPECT_EQ(own_host.kept_members.size(), clients.size()) << "no member is kept for ever";
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace holdfast::broker
