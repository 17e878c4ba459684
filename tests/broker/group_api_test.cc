// Groups of the newer protocol through a whole broker, by requests: what is kept, what offsets and
// the administrators' calls say, and how a group gets from one protocol to the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "broker/configs.h"
#include "broker/consumer_protocol.h"
#include "kafka/api/consumer_group_describe.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/incremental_alter_configs.h"
#include "kafka/api/join_group.h"
#include "kafka/api/leave_group.h"
#include "kafka/api/list_config_resources.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/sync_group.h"
#include "tests/broker/broker_fixture.h"
#include "tests/spool/faulty_disk.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using std::chrono::seconds;
using testing::ElementsAre;

class GroupApiTest : public testing::Test {
 protected:
  using Request = kafka::ConsumerGroupHeartbeatRequest;
  using Response = kafka::ConsumerGroupHeartbeatResponse;

  explicit GroupApiTest(Options options = {}) : broker(std::move(options)) {
    broker.CreateTopic("t", 4);
  }

  static Request MakeJoin(std::string_view member, std::vector<std::string_view> topics = {"t"}) {
    Request request;
    request.group_id = "g";
    request.member_id = member;
    request.rebalance_timeout_ms = 60000;
    request.subscribed_topic_names = std::move(topics);
    request.topic_partitions.emplace();
    return request;
  }
  Response Ask(const Request& request, int16_t version = 1) {
    return broker.Ask(request, version).Get();
  }
  Response Live(std::string_view member, int32_t epoch) {
    Request request;
    request.group_id = "g";
    request.member_id = member;
    request.member_epoch = epoch;
    return Ask(request);
  }
  static size_t Assigned(const Response& response) {
    size_t count = 0;
    for (const auto& topic : response.assignment.value().topic_partitions) {
      count += topic.partitions.size();
    }
    return count;
  }
  // Of the one group; its strings are the fixture's.
  kafka::ConsumerGroupDescribeResponse::DescribedGroup Describe() {
    kafka::ConsumerGroupDescribeRequest request;
    request.group_ids = {"g"};
    return broker.Ask(request, 1).Get().groups.at(0);
  }
  static kafka::OffsetCommitRequest MakeCommit(std::string_view member, int32_t epoch) {
    kafka::OffsetCommitRequest request;
    request.group_id = "g";
    request.member_id = member;
    request.generation_id_or_member_epoch = epoch;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.emplace_back().committed_offset = 42;
    return request;
  }
  ErrorCode Commit(std::string_view member, int32_t epoch, int16_t version = 9) {
    return broker.Ask(MakeCommit(member, epoch), version).Get().topics[0].partitions[0].error_code;
  }
  std::pair<ErrorCode, int64_t> Fetch(std::optional<std::string_view> member = std::nullopt,
                                      int32_t epoch = -1) {
    kafka::OffsetFetchRequest request;
    auto& group = request.groups.emplace_back();
    group.group_id = "g";
    group.member_id = member;
    group.member_epoch = epoch;
    auto& topic = group.topics.emplace().emplace_back();
    topic.name = "t";
    topic.partition_indexes = {0};
    const auto pending = broker.Ask(request, 9);
    const auto out = pending.Get().groups.at(0);
    if (out.topics.empty()) return {out.error_code, -1};
    return {out.error_code, out.topics[0].partitions[0].committed_offset};
  }
  std::vector<std::string> List(std::vector<std::string_view> types = {}) {
    kafka::ListGroupsRequest request;
    request.types_filter = std::move(types);
    const auto pending = broker.Ask(request, 5);
    std::vector<std::string> all;
    for (const auto& group : pending.Get().groups) {
      all.push_back(std::string(group.group_id) + " " + std::string(group.group_type) + " " +
                    std::string(group.group_state));
    }
    return all;
  }
  static kafka::DeleteGroupsRequest MakeDelete() {
    kafka::DeleteGroupsRequest request;
    request.groups_names = {"g"};
    return request;
  }
  ErrorCode Delete() { return broker.Ask(MakeDelete(), 2).Get().results.at(0).error_code; }
  kafka::OffsetDeleteResponse DeleteOffset() {
    kafka::OffsetDeleteRequest request;
    request.group_id = "g";
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.push_back({0});
    return broker.Ask(request, 0).Get();
  }
  // The next sync fails, and with it what was to be written.
  void FailNextSync(spool::FaultyDisk& disk) {
    disk.OnCall([failed = false](spool::FaultyDisk::Call call, int) mutable {
      if (failed || call != spool::FaultyDisk::Call::kSync) return 0;
      failed = true;
      return EIO;
    });
  }

  BrokerFixture broker;
};

TEST_F(GroupApiTest, MembersAndEpochsSurviveACrash) {
  const auto joining = broker.Send(MakeJoin("a"), 1);
  EXPECT_FALSE(joining.answered()) << "before it is durable";
  broker.clock().RunUntilIdle();
  EXPECT_EQ(joining.Get().member_epoch, 1);
  EXPECT_EQ(joining.Get().heartbeat_interval_ms, 5000);
  EXPECT_EQ(Assigned(joining.Get()), 4u);
  EXPECT_EQ(Ask(MakeJoin("b")).member_epoch, 2);
  EXPECT_EQ(Assigned(Live("a", 1)), 2u);
  EXPECT_EQ(Commit("b", 2), ErrorCode::kNone);

  broker.CrashAndRestart();
  EXPECT_EQ(Describe().group_state, "Reconciling");
  EXPECT_FALSE(Live("b", 2).assignment.has_value()) << "a has not given them up";
  Request gave_up = MakeJoin("a");
  gave_up.member_epoch = 1;
  gave_up.topic_partitions->push_back({broker.TopicId("t"), {0, 1}, {}});
  EXPECT_EQ(Ask(gave_up).member_epoch, 2);
  EXPECT_EQ(Assigned(Live("b", 2)), 2u);
  EXPECT_EQ(Fetch("b", 2), std::pair(ErrorCode::kNone, int64_t{42}));

  broker.CrashAndRestart();
  const auto group = Describe();
  EXPECT_EQ(group.group_state, "Stable");
  EXPECT_EQ(group.group_epoch, 2);
  EXPECT_EQ(group.assignment_epoch, 2);
  EXPECT_EQ(group.assignor_name, "uniform");
  ASSERT_EQ(group.members.size(), 2u);
  EXPECT_EQ(group.members[0].client_host, "/10.1.2.3");
  EXPECT_EQ(group.members[0].member_type, 1);
  EXPECT_EQ(group.members[0].assignment.topic_partitions.at(0).topic_name, "t");
}

TEST_F(GroupApiTest, RequestsAreCheckedAsKafkaDoes) {
  const auto error = [&](const Request& request, int16_t version = 1) {
    return Ask(request, version).error_code;
  };
  EXPECT_EQ(Live("a", 1).error_code, ErrorCode::kGroupIdNotFound);
  EXPECT_EQ(Live("a", kLeaveEpoch).error_code, ErrorCode::kGroupIdNotFound);
  EXPECT_EQ(error(MakeJoin("")), ErrorCode::kInvalidRequest);
  Request request = MakeJoin("a");
  request.group_id = " ";
  EXPECT_EQ(error(request), ErrorCode::kInvalidRequest);
  request = MakeJoin("a");
  request.rebalance_timeout_ms = -1;
  EXPECT_EQ(error(request), ErrorCode::kInvalidRequest);
  request = MakeJoin("a");
  request.topic_partitions.reset();
  EXPECT_EQ(error(request), ErrorCode::kInvalidRequest);
  request = MakeJoin("a");
  request.subscribed_topic_names.reset();
  EXPECT_EQ(error(request), ErrorCode::kInvalidRequest);
  request = MakeJoin("a");
  request.member_epoch = -3;
  EXPECT_EQ(error(request), ErrorCode::kInvalidRequest);
  request.member_epoch = kLeaveForAWhileEpoch;
  EXPECT_EQ(error(request), ErrorCode::kInvalidRequest) << "without an instance";
  request = MakeJoin("a");
  request.server_assignor = "sticky";
  EXPECT_EQ(error(request), ErrorCode::kUnsupportedAssignor);
  request = MakeJoin("a");
  request.subscribed_topic_regex = "[(";
  EXPECT_EQ(error(request), ErrorCode::kInvalidRegularExpression);
  EXPECT_THAT(List(), ElementsAre()) << "and no group has come of it";

  // Before version 1 the coordinator gives the id.
  const Response named = Ask(MakeJoin(""), 0);
  EXPECT_EQ(named.error_code, ErrorCode::kNone);
  EXPECT_EQ(named.member_id->size(), 22u);
}

TEST_F(GroupApiTest, OffsetsNeedTheMembersEpoch) {
  EXPECT_EQ(Commit("a", 1), ErrorCode::kGroupIdNotFound);
  EXPECT_EQ(Commit("a", 1, 8), ErrorCode::kIllegalGeneration);
  Ask(MakeJoin("a"));
  EXPECT_EQ(Commit("a", 1), ErrorCode::kNone);
  EXPECT_EQ(Commit("a", 2), ErrorCode::kStaleMemberEpoch);
  EXPECT_EQ(Commit("a", 1, 8), ErrorCode::kUnsupportedVersion);
  EXPECT_EQ(Commit("b", 1), ErrorCode::kUnknownMemberId);
  EXPECT_EQ(Commit("", -1), ErrorCode::kUnknownMemberId);
  EXPECT_EQ(Fetch(), std::pair(ErrorCode::kNone, int64_t{42}));
  EXPECT_EQ(Fetch("a", 1), std::pair(ErrorCode::kNone, int64_t{42}));
  EXPECT_EQ(Fetch("a", 0).first, ErrorCode::kStaleMemberEpoch);
  EXPECT_EQ(Fetch("b", 1).first, ErrorCode::kUnknownMemberId);
}

TEST_F(GroupApiTest, AdministratorsSeeAndDeleteThem) {
  Ask(MakeJoin("a"));
  EXPECT_THAT(List(), ElementsAre("g consumer Stable"));
  EXPECT_THAT(List({"Consumer"}), ElementsAre("g consumer Stable"));
  EXPECT_THAT(List({"classic"}), ElementsAre());
  kafka::DescribeGroupsRequest describe;
  describe.groups = {"g"};
  const auto classic = broker.Ask(describe, 6);
  EXPECT_EQ(classic.Get().groups[0].error_code, ErrorCode::kGroupIdNotFound);
  EXPECT_EQ(classic.Get().groups[0].group_state, "Dead");
  EXPECT_EQ(Commit("a", 1), ErrorCode::kNone);
  EXPECT_EQ(DeleteOffset().topics[0].partitions[0].error_code, ErrorCode::kGroupSubscribedToTopic);
  EXPECT_EQ(Delete(), ErrorCode::kNonEmptyGroup);

  Live("a", kLeaveEpoch);
  EXPECT_EQ(DeleteOffset().topics[0].partitions[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(Fetch().second, -1);
  EXPECT_EQ(Delete(), ErrorCode::kNone);
  EXPECT_EQ(Delete(), ErrorCode::kGroupIdNotFound);
  EXPECT_EQ(Describe().error_code, ErrorCode::kGroupIdNotFound);
  broker.CrashAndRestart();
  EXPECT_THAT(List(), ElementsAre());
}

TEST_F(GroupApiTest, TopicsMadeLaterAreAssigned) {
  EXPECT_EQ(Assigned(Ask(MakeJoin("a", {"t", "later"}))), 4u);
  broker.CreateTopic("later", 2);
  EXPECT_EQ(Assigned(Live("a", 1)), 6u);
}

// --- What is on its way to the disk --------------------------------------------------------------

TEST_F(GroupApiTest, DeletionTakesAnOffsetThatIsOnItsWay) {
  const auto commit = broker.Send(MakeCommit("", -1), 9);
  const auto deletion = broker.Send(MakeDelete(), 2);
  broker.clock().RunUntilIdle();
  EXPECT_EQ(commit.Get().topics[0].partitions[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(deletion.Get().results.at(0).error_code, ErrorCode::kNone);
  EXPECT_EQ(Fetch().second, -1);
  broker.CrashAndRestart();
  EXPECT_EQ(Fetch().second, -1);
  EXPECT_THAT(List(), ElementsAre());
}

class ExpiryTest : public GroupApiTest {
 protected:
  ExpiryTest() : GroupApiTest(MakeOptions()) {}

  static Options MakeOptions() {
    Options options;
    options.groups.offsets_retention = std::chrono::minutes(1);
    options.spool.queue_bytes_max = 1;  // Full with the first batch.
    return options;
  }
};

TEST_F(ExpiryTest, LeavesAnOffsetThatIsOnItsWay) {
  EXPECT_EQ(Commit("", -1), ErrorCode::kNone);
  const auto moment = std::chrono::microseconds(1);
  broker.clock().Advance(std::chrono::minutes(10) - moment);
  const std::string batch = broker.Batch({"x"});
  broker.Send(BrokerFixture::MakeProduce("t", 0, batch), 9);
  broker.Send(BrokerFixture::MakeProduce("t", 0, batch), 9);
  const auto commit = broker.Send(MakeCommit("", -1), 9);
  broker.clock().Advance(moment);
  ASSERT_FALSE(commit.answered()) << "it waits for room while offsets expire";
  broker.clock().Advance(seconds(1));
  EXPECT_EQ(commit.Get().topics[0].partitions[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(Fetch().second, 42);
  broker.CrashAndRestart();
  EXPECT_EQ(Fetch().second, 42);
  broker.clock().Advance(std::chrono::minutes(20));
  EXPECT_EQ(Fetch().second, -1);
}

class RestartedExpiryTest : public GroupApiTest {
 protected:
  RestartedExpiryTest() : GroupApiTest(MakeOptions()) {}

  static Options MakeOptions() {
    Options options;
    options.groups.offsets_retention = std::chrono::minutes(15);
    return options;
  }
};

TEST_F(RestartedExpiryTest, GoesByTheOffsetsAgeWhereNobodyEverWasAMember) {
  EXPECT_EQ(Commit("", -1), ErrorCode::kNone);
  broker.clock().Advance(std::chrono::minutes(9));
  broker.CrashAndRestart();
  EXPECT_EQ(Fetch().second, 42);
  broker.clock().Advance(std::chrono::minutes(11));
  EXPECT_EQ(Fetch().second, -1);
}

// --- Settings of groups -------------------------------------------------------------------------

class GroupSettingsTest : public GroupApiTest {
 protected:
  std::pair<ErrorCode, std::string> Alter(std::string_view name,
                                          std::optional<std::string_view> value,
                                          std::string_view group = "g", bool validate = false) {
    kafka::IncrementalAlterConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = kGroupResource;
    resource.resource_name = group;
    auto& config = resource.configs.emplace_back();
    config.name = name;
    config.config_operation = value ? 0 : 1;
    config.value = value;
    request.validate_only = validate;
    const auto pending = broker.Ask(request, 1);
    const auto out = pending.Get().responses.at(0);
    return {out.error_code, std::string(out.error_message.value_or(""))};
  }
  // Value and source.
  std::pair<std::string, int> Describe(std::string_view name) {
    kafka::DescribeConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = kGroupResource;
    resource.resource_name = "g";
    const auto pending = broker.Ask(request, 4);
    const auto result = pending.Get().results.at(0);
    EXPECT_EQ(result.configs.size(), 11u);
    for (const auto& config : result.configs) {
      if (config.name == name) return {std::string(config.value.value()), config.config_source};
    }
    return {};
  }
  std::vector<std::string> ListResources() {
    kafka::ListConfigResourcesRequest request;
    request.resource_types = {kGroupResource};
    const auto pending = broker.Ask(request, 1);
    std::vector<std::string> names;
    for (const auto& resource : pending.Get().config_resources) {
      names.emplace_back(resource.resource_name);
    }
    return names;
  }
};

TEST_F(GroupSettingsTest, HaveTheirEffectAndSurviveACrash) {
  EXPECT_EQ(Describe("consumer.session.timeout.ms"), (std::pair<std::string, int>("45000", 5)));
  EXPECT_THAT(ListResources(), ElementsAre());
  EXPECT_EQ(Alter("consumer.session.timeout.ms", "60000").first, ErrorCode::kNone);
  EXPECT_EQ(Alter("consumer.heartbeat.interval.ms", "7000").first, ErrorCode::kNone);
  broker.CrashAndRestart();
  EXPECT_EQ(Describe("consumer.session.timeout.ms"), (std::pair<std::string, int>("60000", 8)));
  EXPECT_THAT(ListResources(), ElementsAre("g"));

  EXPECT_EQ(Ask(MakeJoin("a")).heartbeat_interval_ms, 7000);
  broker.clock().Advance(seconds(50));
  EXPECT_EQ(Live("a", 1).error_code, ErrorCode::kNone);
  EXPECT_EQ(Alter("consumer.session.timeout.ms", std::nullopt).first, ErrorCode::kNone);
  EXPECT_EQ(Live("a", 1).error_code, ErrorCode::kNone);
  broker.clock().Advance(seconds(50));
  EXPECT_EQ(Live("a", 1).error_code, ErrorCode::kUnknownMemberId);
}

TEST_F(GroupSettingsTest, AreHeldAgainstTheBrokersBounds) {
  const auto error = [&](std::string_view name, std::optional<std::string_view> value) {
    return Alter(name, value);
  };
  EXPECT_EQ(error("nope", "1").first, ErrorCode::kInvalidConfig);
  EXPECT_EQ(error("consumer.session.timeout.ms", "x").first, ErrorCode::kInvalidConfig);
  EXPECT_EQ(error("consumer.session.timeout.ms", "44999").second,
            "consumer.session.timeout.ms must be greater than or equal to "
            "group.consumer.min.session.timeout.ms");
  EXPECT_EQ(error("consumer.session.timeout.ms", "60001").second,
            "consumer.session.timeout.ms must be less than or equal to "
            "group.consumer.max.session.timeout.ms");
  EXPECT_EQ(error("consumer.heartbeat.interval.ms", "15001").first, ErrorCode::kInvalidConfig);
  EXPECT_EQ(error("share.auto.offset.reset", "never").first, ErrorCode::kInvalidConfig);
  EXPECT_EQ(error("share.auto.offset.reset", "by_duration:PT1H").first, ErrorCode::kNone);
  EXPECT_EQ(error("nope", std::nullopt).first, ErrorCode::kNone) << "there is none to delete";
  EXPECT_EQ(Alter("consumer.session.timeout.ms", "50000", "").first, ErrorCode::kInvalidRequest);
  EXPECT_EQ(Alter("consumer.session.timeout.ms", "50000", "g", /*validate=*/true).first,
            ErrorCode::kNone);
  EXPECT_EQ(Describe("consumer.session.timeout.ms").first, "45000");
}

// --- Internal topics ----------------------------------------------------------------------------

TEST_F(GroupApiTest, InternalTopicsAppearWhenACoordinatorIsFirstAskedFor) {
  const auto describe = [&](std::string_view name) {
    kafka::MetadataRequest request;
    request.topics.emplace().emplace_back().name = name;
    request.allow_auto_topic_creation = false;
    return broker.Ask(request, 12).Get().topics.at(0);
  };
  EXPECT_EQ(describe("__consumer_offsets").error_code, ErrorCode::kUnknownTopicOrPartition);
  kafka::FindCoordinatorRequest find;
  find.coordinator_keys = {"g"};
  EXPECT_EQ(broker.Ask(find, 4).Get().coordinators[0].error_code, ErrorCode::kNone);
  const auto offsets = describe("__consumer_offsets");
  EXPECT_TRUE(offsets.is_internal);
  EXPECT_EQ(offsets.partitions.size(), 50u);
  EXPECT_EQ(describe("__transaction_state").error_code, ErrorCode::kUnknownTopicOrPartition);
  find.key_type = 1;
  broker.Ask(find, 4);
  EXPECT_EQ(describe("__transaction_state").partitions.size(), 50u);
  EXPECT_FALSE(describe("t").is_internal);

  EXPECT_EQ(broker.Produce("__consumer_offsets", 0, broker.Batch({"x"})).error_code,
            ErrorCode::kInvalidTopicException);
  kafka::DeleteRecordsRequest deletion;
  auto& topic = deletion.topics.emplace_back();
  topic.name = "__consumer_offsets";
  topic.partitions.push_back({0, 0, {}});
  EXPECT_EQ(broker.Ask(deletion, 2).Get().topics[0].partitions[0].error_code,
            ErrorCode::kInvalidTopicException);
}

// --- What could not be written ------------------------------------------------------------------

TEST_F(GroupApiTest, OffsetsWhoseDeletionFailedAreStillThere) {
  EXPECT_EQ(Commit("", -1), ErrorCode::kNone);
  spool::FaultyDisk disk;
  FailNextSync(disk);
  EXPECT_NE(DeleteOffset().error_code, ErrorCode::kNone);
  EXPECT_EQ(Fetch().second, 42);
  broker.clock().Advance(seconds(10));
  EXPECT_EQ(DeleteOffset().error_code, ErrorCode::kNone);
  EXPECT_EQ(Fetch().second, -1);
}

TEST_F(GroupApiTest, GroupWhoseDeletionFailedIsStillThere) {
  EXPECT_EQ(Commit("", -1), ErrorCode::kNone);
  spool::FaultyDisk disk;
  FailNextSync(disk);
  EXPECT_NE(Delete(), ErrorCode::kNone);
  EXPECT_EQ(Fetch().second, 42);
  EXPECT_THAT(List(), ElementsAre("g classic Empty"));
}

TEST_F(GroupApiTest, MemberWhoseJoiningFailedJoinsAgain) {
  spool::FaultyDisk disk;
  FailNextSync(disk);
  EXPECT_NE(Ask(MakeJoin("a")).error_code, ErrorCode::kNone);
  broker.clock().Advance(seconds(10));
  EXPECT_EQ(Ask(MakeJoin("a")).error_code, ErrorCode::kNone);
  broker.CrashAndRestart();
  EXPECT_EQ(Describe().members.size(), 1u);
  EXPECT_EQ(Live("a", 1).error_code, ErrorCode::kNone);
}

// --- From one protocol to the other -------------------------------------------------------------

class MigrationTest : public GroupApiTest {
 protected:
  // Version 1, of topic t, no user data.
  static constexpr std::string_view kSubscription{"\0\1\0\0\0\1\0\1t\377\377\377\377\0\0\0\0", 17};

  static kafka::JoinGroupRequest MakeClassicJoin(std::string_view member) {
    kafka::JoinGroupRequest request;
    request.group_id = "g";
    request.session_timeout_ms = 10000;
    request.rebalance_timeout_ms = 60000;
    request.member_id = member;
    request.protocol_type = "consumer";
    request.protocols.push_back({"range", kSubscription, {}});
    return request;
  }
  kafka::JoinGroupResponse ClassicJoin(std::string_view member) {
    const auto pending = broker.Ask(MakeClassicJoin(member), 9);
    if (!pending.answered()) broker.clock().Advance(seconds(3));
    return pending.Get();
  }
  ErrorCode ClassicHeartbeat(std::string_view member, int32_t generation) {
    kafka::HeartbeatRequest request;
    request.group_id = "g";
    request.member_id = member;
    request.generation_id = generation;
    return broker.Ask(request, 4).Get().error_code;
  }
  // A classic group of one member that has all partitions.
  std::string MakeClassicGroup() {
    const std::string member(ClassicJoin("").member_id);
    EXPECT_EQ(ClassicJoin(member).generation_id, 1);
    const std::string everything = EncodeConsumerAssignment(1, {{"t", {0, 1, 2, 3}}});
    kafka::SyncGroupRequest sync;
    sync.group_id = "g";
    sync.member_id = member;
    sync.generation_id = 1;
    sync.assignments.push_back({member, everything, {}});
    EXPECT_EQ(broker.Ask(sync, 5).Get().error_code, ErrorCode::kNone);
    return member;
  }
};

TEST_F(MigrationTest, EmptyGroupBecomesWhatItsNextMemberSpeaks) {
  EXPECT_EQ(Commit("", -1), ErrorCode::kNone);
  EXPECT_THAT(List(), ElementsAre("g classic Empty"));
  EXPECT_EQ(Ask(MakeJoin("a")).member_epoch, 1);
  EXPECT_THAT(List(), ElementsAre("g consumer Stable"));
  EXPECT_EQ(Fetch().second, 42) << "its offsets stay";
  Live("a", kLeaveEpoch);
  EXPECT_EQ(ClassicJoin("stranger").error_code, ErrorCode::kUnknownMemberId);
  EXPECT_THAT(List(), ElementsAre("g consumer Empty"));
  EXPECT_EQ(ClassicJoin("").error_code, ErrorCode::kMemberIdRequired);
  EXPECT_THAT(List(), ElementsAre("g classic Empty"));
  EXPECT_EQ(Fetch().second, 42);
  broker.CrashAndRestart();
  EXPECT_THAT(List(), ElementsAre("g classic Empty"));
}

// Who asked for it may never come.
TEST_F(MigrationTest, AnIdThatWasGivenOutKeepsNobodyAway) {
  const std::string member(ClassicJoin("").member_id);
  EXPECT_EQ(DeleteOffset().error_code, ErrorCode::kNone);
  EXPECT_EQ(Delete(), ErrorCode::kNone);
  EXPECT_THAT(List(), ElementsAre());
  EXPECT_EQ(ClassicJoin(member).error_code, ErrorCode::kUnknownMemberId);

  const std::string other(ClassicJoin("").member_id);
  EXPECT_EQ(Ask(MakeJoin("a")).member_epoch, 1);
  EXPECT_THAT(List(), ElementsAre("g consumer Stable"));
  broker.clock().Advance(seconds(11));
  EXPECT_EQ(ClassicJoin(other).error_code, ErrorCode::kNone) << "it comes after all";
}

TEST_F(MigrationTest, ClassicGroupThatKeepsNothingGoesWithTheNextRound) {
  kafka::LeaveGroupRequest leave;
  leave.group_id = "g";
  const auto leave_group = [&](std::string_view member) {
    leave.members.assign(1, {});
    leave.members[0].member_id = member;
    EXPECT_EQ(broker.Ask(leave, 5).Get().error_code, ErrorCode::kNone);
  };
  leave_group(MakeClassicGroup());
  EXPECT_THAT(List(), ElementsAre("g classic Empty"));
  broker.clock().Advance(std::chrono::minutes(10));
  EXPECT_THAT(List(), ElementsAre());
  broker.CrashAndRestart();
  EXPECT_THAT(List(), ElementsAre());

  const std::string member = MakeClassicGroup();
  EXPECT_EQ(Commit(member, 1), ErrorCode::kNone);
  broker.clock().Advance(std::chrono::minutes(10));
  leave_group(member);
  broker.clock().Advance(std::chrono::minutes(20));
  EXPECT_THAT(List(), ElementsAre("g classic Empty")) << "its offsets stay for a week";
  EXPECT_EQ(Fetch().second, 42);
}

TEST_F(MigrationTest, GroupGoesOverWithItsMembersAndBackAndSurvivesCrashes) {
  const std::string member = MakeClassicGroup();
  EXPECT_EQ(Live("a", 1).error_code, ErrorCode::kGroupIdNotFound) << "it does not join";
  EXPECT_EQ(Ask(MakeJoin("a")).member_epoch, 2);
  broker.CrashAndRestart();
  EXPECT_THAT(List(), ElementsAre("g consumer Reconciling"));
  EXPECT_EQ(ClassicHeartbeat(member, 1), ErrorCode::kRebalanceInProgress);
  EXPECT_EQ(ClassicJoin(member).generation_id, 2);
  EXPECT_EQ(Assigned(Live("a", 2)), 2u);
  const auto members = Describe().members;
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].member_type + members[1].member_type, 1) << "one of each";

  Live("a", kLeaveEpoch);
  EXPECT_THAT(List(), ElementsAre("g classic PreparingRebalance"));
  EXPECT_EQ(ClassicHeartbeat(member, 2), ErrorCode::kRebalanceInProgress);
  broker.CrashAndRestart();
  EXPECT_THAT(List(), ElementsAre("g classic Stable"));
  EXPECT_EQ(ClassicJoin(member).error_code, ErrorCode::kNone);
}

TEST_F(MigrationTest, WhatMembersHaveStaysTheirsWhenTheGroupGoesOverInARebalance) {
  const std::string member = MakeClassicGroup();
  kafka::JoinGroupRequest request = MakeClassicJoin(ClassicJoin("").member_id);
  const auto joining = broker.Ask(request, 9);
  EXPECT_FALSE(joining.answered());
  EXPECT_EQ(ClassicJoin(member).generation_id, 2);
  EXPECT_TRUE(joining.answered());
  EXPECT_THAT(List(), ElementsAre("g classic CompletingRebalance"));
  EXPECT_EQ(Assigned(Ask(MakeJoin("a"))), 0u) << "the first has them all, and goes on";
  ClassicJoin(member);  // By now without any.
  EXPECT_NE(Assigned(Live("a", 3)), 0u);
}

TEST_F(MigrationTest, GroupsOfOtherThingsThanConsumersStayAsTheyAre) {
  kafka::JoinGroupRequest request;
  request.group_id = "g";
  request.session_timeout_ms = 10000;
  request.rebalance_timeout_ms = 60000;
  request.protocol_type = "connect";
  request.protocols.push_back({"default", "x", {}});
  const std::string member(broker.Ask(request, 9).Get().member_id);
  request.member_id = member;
  broker.Ask(request, 9);
  EXPECT_EQ(Ask(MakeJoin("a")).error_code, ErrorCode::kGroupIdNotFound);
}

TEST(MigrationPolicyTest, MayForbidToGoOver) {
  Options options;
  options.groups.consumer.upgrade = false;
  options.groups.initial_rebalance_delay = {};
  BrokerFixture broker(options);
  broker.CreateTopic("t", 1);
  kafka::JoinGroupRequest request;
  request.group_id = "g";
  request.session_timeout_ms = 10000;
  request.rebalance_timeout_ms = 60000;
  request.protocol_type = "consumer";
  request.protocols.push_back({"range", "x", {}});
  ASSERT_EQ(broker.Ask(request, 3).Get().error_code, ErrorCode::kNone);
  kafka::ConsumerGroupHeartbeatRequest join;
  join.group_id = "g";
  join.member_id = "a";
  join.rebalance_timeout_ms = 60000;
  join.subscribed_topic_names = {"t"};
  join.topic_partitions.emplace();
  EXPECT_EQ(broker.Ask(join, 1).Get().error_code, ErrorCode::kGroupIdNotFound);
}

}  // namespace
}  // namespace holdfast::broker
