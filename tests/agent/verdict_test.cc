#include "agent/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kNow = 1'700'000'000'000;

Situation Well() {
  Situation situation{.now_ms = kNow, .room_bytes = uint64_t{1} << 30};
  situation.spool.entry_bytes = 1000;
  return situation;
}

TopicState Topic(std::string name, int64_t backlog, int64_t age_ms, std::string trouble = "",
                 uint32_t parked = 0) {
  return {.topic = std::move(name),
          .partitions = 1,
          .waiting = backlog > 0 ? 1U : 0U,
          .parked = parked,
          .backlog_records = backlog,
          .oldest_ms = backlog > 0 ? kNow - age_ms : 0,
          .trouble = std::move(trouble)};
}

proxy::Upstream::Peer Unreached(std::string trouble) {
  return {.address = {"kafka", 9092}, .trouble = std::move(trouble)};
}

TEST(VerdictTest, NothingHeldBackIsFine) {
  Situation situation = Well();
  situation.topics = {Topic("orders", 3, 200)};
  const Verdict verdict = Judge(situation);
  EXPECT_EQ(verdict.severity, Severity::kFine);
  EXPECT_EQ(verdict.headline, "Delivering");
  EXPECT_THAT(verdict.remarks, IsEmpty());
}

TEST(VerdictTest, ABacklogThatShrinksIsNoTrouble) {
  Situation situation = Well();
  situation.topics = {Topic("orders", 30000, 60000)};
  situation.drain_in_ms = 90000;
  const Verdict verdict = Judge(situation);
  EXPECT_EQ(verdict.severity, Severity::kNotice);
  EXPECT_THAT(verdict.headline, HasSubstr("Catching up: 30,000 records behind"));
}

TEST(VerdictTest, APartitionWithoutALeaderIsNotARefusal) {
  Situation situation = Well();
  situation.topics = {
      Topic("orders", 5, 60000, "the tier has no leader for this partition, or not the partition")};
  const Verdict verdict = Judge(situation);
  EXPECT_EQ(verdict.headline, "1 topic waits: the tier has no leader for orders");
  EXPECT_THAT(verdict.remarks[0].why, Not(HasSubstr("The tier says")));
  EXPECT_THAT(verdict.remarks[0].todo, HasSubstr("--describe --topic orders`"));
}

TEST(VerdictTest, WhoWaitsForSomethingElseIsNotRefused) {
  Situation situation = Well();
  for (const char* why :
       {"waits for b/0, of its local transaction", "the spool cannot be read: MDB_READERS_FULL"}) {
    situation.topics = {Topic("orders", 5, 60000, why)};
    const Verdict verdict = Judge(situation);
    EXPECT_EQ(verdict.headline, "1 topic waits: orders (" + std::string(why) + ")");
    EXPECT_THAT(verdict.remarks[0].why, Not(HasSubstr("The tier says")));
    EXPECT_THAT(verdict.remarks[0].todo, Not(HasSubstr("the tier says")));
  }
}

TEST(VerdictTest, ATierThatIsAwaySaysWhyAndWhatWaits) {
  Situation situation = Well();
  situation.tier_away = true;
  situation.peers = {Unreached("kafka:9092: connection refused")};
  situation.topics = {Topic("orders", 5, 7'200'000), Topic("done", 0, 0)};
  situation.full_in_ms = 10'800'000;
  const Verdict verdict = Judge(situation);
  EXPECT_EQ(verdict.severity, Severity::kWaiting);
  EXPECT_EQ(verdict.headline,
            "1 topic waits: the tier does not answer (kafka:9092: connection refused)");
  ASSERT_THAT(verdict.remarks, SizeIs(1));
  EXPECT_THAT(verdict.remarks[0].why, HasSubstr("5 records of orders, for 2 h"));
  EXPECT_THAT(verdict.remarks[0].why, HasSubstr("The disk lasts for about 3 h"));
  EXPECT_THAT(verdict.remarks[0].why, Not(HasSubstr("done")));
  EXPECT_THAT(verdict.remarks[0].todo, HasSubstr("start the broker"));
  EXPECT_THAT(WhyWaiting(situation.topics[0], situation), HasSubstr("connection refused"));
  EXPECT_EQ(WhyWaiting(situation.topics[1], situation), "");
}

TEST(VerdictTest, AScheduleThatIsClosedIsNoFault) {
  Situation situation = Well();
  situation.paused = true;
  situation.opens_ms = kNow + 7'200'000;
  EXPECT_EQ(Judge(situation).headline, "Delivering") << "nothing waits";
  situation.topics = {Topic("orders", 5, 60000)};
  const Verdict verdict = Judge(situation);
  EXPECT_EQ(verdict.severity, Severity::kNotice);
  EXPECT_EQ(verdict.headline, "The schedule holds back what waits, for about 2 h 0 min");
}

TEST(VerdictTest, AWrongCertificateIsNamedSo) {
  Situation situation = Well();
  situation.tier_away = true;
  situation.peers = {Unreached("kafka:9093: certificate verify failed")};
  EXPECT_THAT(Judge(situation).remarks[0].todo, HasSubstr("ssl.ca.location"));
}

TEST(VerdictTest, TopicsThatWaitForOneReasonAreToldTogether) {
  Situation situation = Well();
  const std::string denied = "records 0 to 4: TOPIC_AUTHORIZATION_FAILED (parked)";
  situation.topics = {Topic("a", 5, 60000, denied, 1), Topic("b", 5, 90000, denied, 1),
                      Topic("c", 5, 60000, "records 3 to 9: POLICY_VIOLATION (parked)", 1),
                      Topic("fine", 0, 0)};
  const Verdict verdict = Judge(situation);
  ASSERT_THAT(verdict.remarks, SizeIs(2));
  EXPECT_EQ(verdict.remarks[1].title,
            "2 topics wait: the tier refuses a, b (TOPIC_AUTHORIZATION_FAILED)");
  EXPECT_THAT(verdict.remarks[1].todo, HasSubstr("kafka-acls"));
  EXPECT_THAT(verdict.remarks[1].why, HasSubstr("10 records are kept on this host, for 1 min"));
  EXPECT_THAT(verdict.remarks[0].title, HasSubstr("refuses c (POLICY_VIOLATION)"));
}

TEST(VerdictTest, WhatPassesByItselfIsNotTold) {
  Situation situation = Well();
  situation.topics = {Topic("orders", 5, 1000, "records 0 to 4: NOT_ENOUGH_REPLICAS (retry)")};
  EXPECT_EQ(Judge(situation).headline, "Delivering");
  situation.topics = {Topic("orders", 5, 9000, "records 0 to 4: NOT_ENOUGH_REPLICAS (retry)")};
  EXPECT_THAT(Judge(situation).headline, HasSubstr("NOT_ENOUGH_REPLICAS"));
}

TEST(VerdictTest, ADiskThatFillsIsToldBeforeItIsFull) {
  Situation situation = Well();
  situation.spool.entry_bytes = (situation.room_bytes / 100) * 85;
  EXPECT_EQ(Judge(situation).headline, "Delivering") << "delivered, and not yet given back";
  situation.topics = {Topic("orders", 5, 1000)};
  situation.full_in_ms = 120'000;
  const Verdict verdict = Judge(situation);
  EXPECT_THAT(verdict.headline, HasSubstr("The disk is 85 % full, and full in about 2 min"));
  EXPECT_THAT(verdict.remarks[0].why, HasSubstr("what waits for orders"));
}

TEST(VerdictTest, RefusedProducersComeFirst) {
  Situation situation = Well();
  situation.tier_away = true;
  situation.topics = {Topic("orders", 5, 60000)};
  situation.spool.accepting = false;
  situation.spool.refusing_because = "the spool is full";
  const Verdict verdict = Judge(situation);
  EXPECT_EQ(verdict.severity, Severity::kFailing);
  EXPECT_EQ(verdict.headline, "Producers are refused: the spool is full");
  EXPECT_THAT(verdict.remarks, SizeIs(2));
}

TEST(VerdictTest, ATopicThatIsDeniedRefusesItsProducers) {
  Situation situation = Well();
  situation.topics = {Topic("orders", 0, 0)};
  situation.topics[0].denied = true;
  const Verdict verdict = Judge(situation);
  EXPECT_EQ(verdict.severity, Severity::kFailing);
  EXPECT_EQ(verdict.headline, "The tier refuses orders (TOPIC_AUTHORIZATION_FAILED)");
}

TEST(VerdictTest, DeadLettersAreTold) {
  Situation situation = Well();
  situation.dead_letter_records = 1;
  situation.dead_letters = {{.stream = "orders/0", .records = 1, .error = "MESSAGE_TOO_LARGE"}};
  const Verdict verdict = Judge(situation);
  EXPECT_EQ(verdict.severity, Severity::kNotice);
  EXPECT_EQ(verdict.headline,
            "Delivering. 1 record of orders/0 is set aside: the tier refuses it for good "
            "(MESSAGE_TOO_LARGE)");
}

TEST(VerdictTest, OfManyNamesTheFirstAreShown) {
  Situation situation = Well();
  situation.tier_away = true;
  for (int i = 0; i < 2000; ++i) situation.topics.push_back(Topic("t" + std::to_string(i), 1, 1));
  EXPECT_THAT(Judge(situation).remarks[0].why,
              HasSubstr("2,000 records of t0, t1, t2, t3, t4 and 1,995 more"));
}

}  // namespace
}  // namespace holdfast::agent
