// The coordinator of local transactions, by the rules of Kafka's.
#include "agent/local_transactions.h"

#include <cerrno>
#include <utility>

#include "tests/agent/transactions_fixture.h"
#include "tests/spool/faulty_disk.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;

class LocalTransactionsTest : public TransactionsFixture, public testing::WithParamInterface<bool> {
 protected:
  LocalTransactionsTest() : TransactionsFixture(GetParam()) { Begin(); }

  [[nodiscard]] bool second() const { return GetParam(); }
  // Of what is spooled for the partition.
  int64_t Spooled(const std::string& stream) {
    const auto id = spool_->FindStream(stream);
    return id ? spool_->Range(*id).end : 0;
  }
  static void Break(spool::FaultyDisk& disk) {
    disk.OnCall([](spool::FaultyDisk::Call /*call*/, int /*n*/) { return EIO; });
  }
  // And the spool notices.
  void Heal(spool::FaultyDisk& disk) {
    disk.OnCall({});
    clock_.Advance(std::chrono::seconds(10));
    ASSERT_TRUE(spool_->GetStatus().accepting);
  }
};

TEST_P(LocalTransactionsTest, OwnsTheIdsThatARuleNames) {
  EXPECT_TRUE(local_->Owns("local-1"));
  EXPECT_FALSE(local_->Owns("orders"));
}

TEST_P(LocalTransactionsTest, ACommitIsOneFrameAndAnAbortLeavesNothing) {
  ASSERT_EQ(Init().error, ErrorCode::kNone);
  ASSERT_EQ(Put("a", 0, {"1", "2"}), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {"3"}), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 0);
  EXPECT_GT(metrics_.local_transaction_bytes.Value(), 0);
  const uint64_t before = spool_->GetStatus().durable.value();
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(spool_->GetStatus().durable.value(), before + 1);
  EXPECT_EQ(Spooled("a/0"), 2);
  EXPECT_EQ(Spooled("b/0"), 1);
  ASSERT_EQ(Put("a", 0, {"4"}), ErrorCode::kNone);
  ASSERT_EQ(Abort(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 2);
  EXPECT_EQ(metrics_.local_transaction_bytes.Value(), 0);
}

TEST_P(LocalTransactionsTest, AnIdIsOfWhoTookItByNameAlsoAfterARestart) {
  constexpr ErrorCode kRefused = ErrorCode::kTransactionalIdAuthorizationFailed;
  ASSERT_EQ(Init().error, ErrorCode::kNone) << "by nobody in particular";
  principal_ = "User:billing";
  ASSERT_EQ(Init().error, ErrorCode::kNone);
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  for (const char* const other : {"User:other", ""}) {
    principal_ = other;
    EXPECT_EQ(Init().error, kRefused);
    EXPECT_EQ(Put("a", 0, {"2"}), kRefused);
    EXPECT_EQ(PutAt("a", 0, {"2"}, 1), kRefused);
    EXPECT_EQ(Commit(), kRefused);
    EXPECT_EQ(Abort(), kRefused);
  }
  principal_ = "User:billing";
  EXPECT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 1);
  CrashAndRestart();
  principal_ = "User:other";
  EXPECT_EQ(Init().error, kRefused);
  EXPECT_EQ(Init("local-2").error, ErrorCode::kNone);
  principal_ = "User:billing";
  EXPECT_EQ(Init().error, ErrorCode::kNone);
}

TEST_P(LocalTransactionsTest, ANewerProducerFencesTheOlderAndEndsItsTransaction) {
  const Producer older = Init().producer;
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  const Ended newer = Init();
  EXPECT_EQ(newer.producer.id, older.id);
  EXPECT_EQ(newer.producer.epoch, older.epoch + 1);
  EXPECT_EQ(EndTransaction(true, older).error, ErrorCode::kProducerFenced);
  producer_ = older;
  EXPECT_EQ(PutAt("a", 0, {"2"}, 1), ErrorCode::kProducerFenced);
  producer_ = newer.producer;
  ASSERT_EQ(Put("a", 0, {"3"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 1);
  EXPECT_EQ(Init("local-1", 60000, older).error, ErrorCode::kProducerFenced);
}

TEST_P(LocalTransactionsTest, AnEndThatIsAskedForAgainGetsTheSameAnswer) {
  Init();
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  const Producer as = producer_;
  const Ended first = EndTransaction(true);
  const Ended again = EndTransaction(true, as);
  EXPECT_EQ(again.error, ErrorCode::kNone);
  EXPECT_EQ(again.producer, first.producer);
  EXPECT_EQ(first.producer.epoch, as.epoch + (second() ? 1 : 0));
  EXPECT_EQ(Spooled("a/0"), 1);
  // Also after a restart, but not the opposite.
  CrashAndRestart();
  EXPECT_EQ(EndTransaction(true, as).producer, first.producer);
  EXPECT_NE(EndTransaction(false, as).error, ErrorCode::kNone);
}

TEST_P(LocalTransactionsTest, ARenewalThatIsAskedForAgainGetsTheSameAnswer) {
  const Producer older = Init().producer;
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  const Producer newer = Init("local-1", 60000, older).producer;
  EXPECT_EQ(newer.epoch, older.epoch + 1);
  EXPECT_EQ(Init("local-1", 60000, older).producer, newer);
  CrashAndRestart();
  const Ended again = Init("local-1", 60000, older);
  EXPECT_EQ(again.error, ErrorCode::kNone);
  EXPECT_EQ(again.producer, newer);
  // Not once the newer epoch was used, or another producer has come.
  ASSERT_EQ(Put("a", 0, {"2"}), ErrorCode::kNone);
  EXPECT_EQ(Init("local-1", 60000, older).error, ErrorCode::kProducerFenced);
  ASSERT_EQ(Put("b", 0, {"3"}), ErrorCode::kNone);
  Init();
  EXPECT_EQ(Init("local-1", 60000, older).error, ErrorCode::kProducerFenced);
  EXPECT_EQ(Init("local-1", 60000, newer).error, ErrorCode::kProducerFenced);
}

TEST_P(LocalTransactionsTest, ALateCopyOfARenewalFencesNobodyAfterTheNextTransaction) {
  const Producer older = Init().producer;
  Init("local-1", 60000, older);
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  const Producer living = producer_;
  EXPECT_EQ(Init("local-1", 60000, older).error, ErrorCode::kProducerFenced);
  producer_ = living;
  ASSERT_EQ(Put("b", 0, {"2"}), ErrorCode::kNone);
  EXPECT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("b/0"), 1);
}

TEST_P(LocalTransactionsTest, ARenewalAfterAnEndIsAnsweredAgainIfBothAnswersAreLost) {
  const Producer older = Init().producer;
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  ASSERT_EQ(EndTransaction(true, older).error, ErrorCode::kNone);
  const Producer newer = Init("local-1", 60000, older).producer;
  EXPECT_EQ(newer.epoch, older.epoch + (second() ? 2 : 1));
  for (int i = 0; i < 2; ++i) {
    const Ended again = Init("local-1", 60000, older);
    EXPECT_EQ(again.error, ErrorCode::kNone);
    EXPECT_EQ(again.producer, newer);
  }
  ASSERT_EQ(Put("a", 0, {"2"}), ErrorCode::kNone);
  EXPECT_EQ(Commit(), ErrorCode::kNone);
}

TEST_P(LocalTransactionsTest, WithoutATransactionThereIsNothingToCommit) {
  Init();
  EXPECT_EQ(Commit(), ErrorCode::kInvalidTxnState);
  EXPECT_EQ(EndTransaction(true, Producer{.id = 7, .epoch = 0}).error,
            ErrorCode::kInvalidProducerIdMapping);
  if (second()) {
    EXPECT_EQ(Abort(), ErrorCode::kNone);
  } else {
    EXPECT_EQ(PutAt("a", 0, {"1"}, 0), ErrorCode::kInvalidTxnState);
    ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
    EXPECT_EQ(PutAt("a", 1, {"not added"}, 0), ErrorCode::kInvalidTxnState);
  }
}

TEST_P(LocalTransactionsTest, ARetryWithinATransactionIsRecognisedAndAGapRefused) {
  Init();
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  EXPECT_EQ(PutAt("a", 0, {"1"}, 0), ErrorCode::kNone);
  EXPECT_EQ(PutAt("a", 0, {"9"}, 5), ErrorCode::kOutOfOrderSequenceNumber);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 1);
}

TEST_P(LocalTransactionsTest, ATransactionThatIsOpenForTooLongIsAbortedAndItsProducerFenced) {
  Init("local-1", 1000);
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  clock_.Advance(std::chrono::milliseconds(1100));
  EXPECT_EQ(Commit(), ErrorCode::kProducerFenced);
  EXPECT_EQ(Spooled("a/0"), 0);
  EXPECT_EQ(metrics_.local_transactions.With("timed out").Value(), 1);
  EXPECT_EQ(Init("local-1", 0).error, ErrorCode::kInvalidTransactionTimeout);
}

TEST_P(LocalTransactionsTest, ATransactionOfAnEarlierRunCannotBeCommittedAsHalf) {
  Init();
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  CrashAndRestart();
  EXPECT_EQ(Put("b", 0, {"2"}), ErrorCode::kTransactionAbortable);
  EXPECT_EQ(Commit(), ErrorCode::kTransactionAbortable);
  ASSERT_EQ(Abort(), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {"3"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 0);
  EXPECT_EQ(Spooled("b/0"), 1);
}

TEST_P(LocalTransactionsTest, AProducerBetweenTransactionsDoesNotNoticeARestart) {
  Init();
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  CrashAndRestart();
  ASSERT_EQ(Put("a", 0, {"2"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 2);
}

// As the spool answers what it has when it is closed.
TEST_P(LocalTransactionsTest, AProducerIdThatComesWhenTheCoordinatorIsGoneIsNobodys) {
  bool answered = false;
  local_->InitProducer({"local-1"}, 60000, {}, [&](ErrorCode, Producer) { answered = true; });
  while (loop_.RunOne()) {
  }
  local_.reset();
  clock_.RunUntilIdle();
  EXPECT_FALSE(answered);
}

TEST_P(LocalTransactionsTest, SizesAreBounded) {
  End();
  options_.transaction_bytes_max = 400;
  options_.memory_max = 500;
  Begin();
  Init();
  ASSERT_EQ(Put("a", 0, {std::string(200, 'x')}), ErrorCode::kNone);
  EXPECT_EQ(Put("a", 0, {std::string(200, 'y')}), ErrorCode::kRecordListTooLarge);
  Init("local-2");
  EXPECT_EQ(Put("a", 0, {std::string(200, 'z')}, "local-2"), ErrorCode::kNotEnoughReplicas);
}

TEST_P(LocalTransactionsTest, ALargeCommitHasOthersDroppedWithinTheBoundsOfAll) {
  const auto asked_for = std::make_shared<uint64_t>(0);
  sinks_.drop_oldest = [asked_for](const std::string& /*topic*/, uint64_t bytes) {
    *asked_for += bytes;
  };
  End();
  CloseSpool();
  OpenSpool(4 << 20);
  Begin();
  SetPolicies({{.pattern = "*", .policy = {.when_full = WhenFull::kDropOldest}}});
  Init();
  ASSERT_EQ(Produce("a", 0, Values{std::string(900'000, 'x')}).error, ErrorCode::kNone);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(Put("b", 0, {std::string(300'000, 'y')}), ErrorCode::kNone);
  EXPECT_EQ(Commit(), ErrorCode::kCoordinatorNotAvailable);
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(*asked_for, 0) << "the spool may make the room by itself";
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(Commit(), ErrorCode::kCoordinatorNotAvailable);
    clock_.Advance(std::chrono::milliseconds(100));
  }
  EXPECT_GT(*asked_for, 900'000);
  const spool::Status status = spool_->GetStatus();
  EXPECT_LE(*asked_for, (1 << 20) + status.disk_bytes / status.segments * 3 / 2);
  Reconnect();
  EXPECT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Backlog(), 0);
}

// Each batch does.
TEST_P(LocalTransactionsTest, WhatTheSpoolNeverTakesInOnePieceIsRefusedWhenItComes) {
  End();
  CloseSpool();
  OpenSpool(4 << 20);
  Begin();
  Init();
  ASSERT_EQ(Put("a", 0, {std::string(700'000, 'x')}), ErrorCode::kNone);
  EXPECT_EQ(Put("a", 0, {std::string(900'000, 'y')}), ErrorCode::kRecordListTooLarge);
  EXPECT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 1);
}

// A value that makes a batch of about 1,100 bytes.
std::string Kilobyte(char fill = '.') { return std::string(1000, fill); }

TEST_P(LocalTransactionsTest, ATopicsLimitCountsForOpenAndCommittedTransactions) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 3000}}});
  Init("local-2");
  const Producer second_producer = producer_;
  Init();
  ASSERT_EQ(Put("a", 0, {Kilobyte()}), ErrorCode::kNone);
  ASSERT_EQ(Put("a", 1, {Kilobyte()}), ErrorCode::kNone);
  // What is open has its room already, whoever comes.
  EXPECT_EQ(Produce("a", 0, Values{Kilobyte()}).error, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Produce("b", 0, Values{Kilobyte()}).error, ErrorCode::kNone);
  ASSERT_EQ(Abort(), ErrorCode::kNone);
  ASSERT_EQ(Put("a", 0, {Kilobyte()}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Produce("a", 0, Values{Kilobyte()}).error, ErrorCode::kNone);
  EXPECT_EQ(Put("a", 0, {Kilobyte()}), ErrorCode::kNotEnoughReplicas);
  CrashAndRestart();
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 3000}}});
  producer_ = second_producer;
  sequences_.clear();
  EXPECT_EQ(Put("a", 0, {Kilobyte()}, "local-2"), ErrorCode::kNotEnoughReplicas);
  Reconnect();
  EXPECT_EQ(Put("a", 0, {Kilobyte()}, "local-2"), ErrorCode::kNone);
}

TEST_P(LocalTransactionsTest, AClientsLimitCountsForTransactionsOnAllTopics) {
  SetPolicies({}, {{.pattern = "greedy", .policy = {.bytes_max = 3000}}});
  client_ = "greedy";
  Init();
  ASSERT_EQ(Put("a", 0, {Kilobyte()}), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {Kilobyte()}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Put("a", 0, {Kilobyte()}), ErrorCode::kNotEnoughReplicas);
  client_ = "modest";
  EXPECT_EQ(Put("a", 0, {Kilobyte()}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  client_ = "greedy";
  Reconnect();
  EXPECT_EQ(Put("a", 0, {Kilobyte()}), ErrorCode::kNone);
}

TEST_P(LocalTransactionsTest, ABatchThatWaitsForRoomIsPartOfItsTransaction) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 1500, .when_full = WhenFull::kWait}}});
  ASSERT_EQ(Produce("a", 0, Values{Kilobyte()}).error, ErrorCode::kNone);
  Init();
  ASSERT_EQ(Put("b", 0, {"first"}), ErrorCode::kNone);
  EXPECT_EQ(Put("a", 0, {Kilobyte('!')}), ErrorCode::kUnknownServerError) << "it waits";
  ErrorCode ended = ErrorCode::kUnknownServerError;
  local_->End({"local-1"}, producer_, /*commit=*/true, protocol_,
              [&](ErrorCode error, Producer /*producer*/) { ended = error; });
  clock_.RunUntilIdle();
  EXPECT_EQ(ended, ErrorCode::kUnknownServerError) << "what comes later waits behind it";
  Reconnect();
  EXPECT_EQ(answers_.back(), ErrorCode::kNone);
  EXPECT_EQ(ended, ErrorCode::kNone);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{Kilobyte(), Kilobyte('!')}));
  EXPECT_EQ(tier_.Values("b", 0), Values{"first"});
}

TEST_P(LocalTransactionsTest, ATransactionThatFillsItsTopicAloneIsRefusedForGood) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 1500, .when_full = WhenFull::kWait}}});
  Init();
  ASSERT_EQ(Put("a", 0, {Kilobyte()}), ErrorCode::kNone);
  EXPECT_EQ(Put("a", 1, {Kilobyte()}), ErrorCode::kRecordListTooLarge);
  ASSERT_EQ(Abort(), ErrorCode::kNone);
  EXPECT_EQ(Put("a", 1, {Kilobyte()}), ErrorCode::kNone);
}

TEST_P(LocalTransactionsTest, AFullSpoolIsRefusedWhenABatchComesAndACommitIsTriedAgain) {
  End();
  spool_.reset();
  clock_.RunUntilIdle();
  OpenSpool(4 << 20);
  Begin();
  Init();
  ASSERT_EQ(Put("b", 0, {std::string(200000, '.')}), ErrorCode::kNone);
  while (Produce("a", 0, Values{std::string(100000, '.')}).error == ErrorCode::kNone) {
  }
  EXPECT_EQ(Put("b", 0, {std::string(100000, '.')}), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Commit(), ErrorCode::kCoordinatorNotAvailable);
  Reconnect();
  EXPECT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("b", 0), Values{std::string(200000, '.')});
}

TEST_P(LocalTransactionsTest, IdsThatNobodyMayUseTakeNoPlaces) {
  for (size_t i = 0; i <= LocalTransactions::kProducersMax; ++i) {
    const std::string id = "local-" + std::to_string(i);
    if (i % 2 == 0) {
      ASSERT_EQ(EndTransaction(true, Producer{.id = 7, .epoch = 0}, id).error,
                ErrorCode::kInvalidProducerIdMapping);
    } else {
      ASSERT_EQ(Init(id, 0).error, ErrorCode::kInvalidTransactionTimeout);
    }
  }
  EXPECT_EQ(Put("a", 0, {"1"}, "local-new"), ErrorCode::kInvalidProducerIdMapping);
  EXPECT_EQ(Init("local-new").error, ErrorCode::kNone);
  ASSERT_EQ(Put("a", 0, {"1"}, "local-new"), ErrorCode::kNone);
  EXPECT_EQ(EndTransaction(true, {}, "local-new").error, ErrorCode::kNone);
}

TEST_P(LocalTransactionsTest, AnInitOrAbortThatFailsLeavesTheOpenTransactionWhole) {
  spool::FaultyDisk disk;
  Init();
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  const Producer older = producer_;
  const auto sequences = sequences_;
  Break(disk);
  EXPECT_EQ(Init().error, ErrorCode::kCoordinatorNotAvailable);
  EXPECT_EQ(Abort(), ErrorCode::kCoordinatorNotAvailable);
  Heal(disk);
  producer_ = older;
  sequences_ = sequences;
  ASSERT_EQ(Put("a", 0, {"2"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 2);
}

TEST_P(LocalTransactionsTest, ATransactionThatCouldNotBeTimedOutIsCommittedWhole) {
  spool::FaultyDisk disk;
  Init("local-1", 5000);
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  Break(disk);
  EXPECT_EQ(Commit(), ErrorCode::kCoordinatorNotAvailable);
  clock_.Advance(std::chrono::milliseconds(5200));
  disk.OnCall({});
  // Between two attempts to time it out.
  for (int i = 0; i < 100 && !spool_->GetStatus().accepting; ++i) {
    clock_.Advance(std::chrono::milliseconds(100));
  }
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 1);
}

TEST_P(LocalTransactionsTest, ACommitThatFailsHasItsClientsRoomAgain) {
  spool::FaultyDisk disk;
  SetPolicies({}, {{.pattern = "greedy", .policy = {.bytes_max = 3000}}});
  client_ = "greedy";
  Init();
  ASSERT_EQ(Put("a", 0, {Kilobyte()}), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {Kilobyte()}), ErrorCode::kNone);
  bool failed = false;
  disk.OnCall([&](spool::FaultyDisk::Call call, int /*n*/) {
    if (call != spool::FaultyDisk::Call::kSync || std::exchange(failed, true)) return 0;
    return EIO;
  });
  EXPECT_EQ(Commit(), ErrorCode::kCoordinatorNotAvailable);
  EXPECT_TRUE(failed);
  Heal(disk);
  const Batch another = {.values = {Kilobyte()}};
  EXPECT_EQ(ProduceLater("c", 0, another, "greedy").error, ErrorCode::kNotEnoughReplicas);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Spooled("a/0"), 1);
  EXPECT_EQ(ProduceLater("c", 0, another, "greedy").error, ErrorCode::kNotEnoughReplicas);
}

TEST_P(LocalTransactionsTest, ATierWithoutTransactionsIsNamedAtOnce) {
  kafka::ApiVersionsResponse none;
  none.api_keys.push_back({.api_key = 0, .min_version = 0, .max_version = 12});
  cache_.Learn(none);
  EXPECT_EQ(Init().error, ErrorCode::kUnsupportedVersion);
}

TEST_P(LocalTransactionsTest, WhileTooManyWaitForTheTierNoneIsBegun) {
  End();
  options_.waiting_max = 3;
  Begin();
  Init();
  for (const char* value : {"1", "2"}) {
    ASSERT_EQ(Put("a", 0, {value}), ErrorCode::kNone);
    ASSERT_EQ(Put("b", 0, {value}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone) << "of one that is open already";
  }
  const ErrorCode tried_again = protocol_ == Protocol::kFirst ? ErrorCode::kCoordinatorNotAvailable
                                                              : ErrorCode::kNotEnoughReplicas;
  EXPECT_EQ(Put("a", 0, {"3"}), tried_again);
  EXPECT_EQ(metrics_.local_transactions.With("refused").Value(), 1);
  CrashAndRestart();
  EXPECT_EQ(Put("a", 0, {"3"}), tried_again);
  Reconnect();
  ASSERT_EQ(Put("a", 0, {"3"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2", "3"}));
}

TEST_P(LocalTransactionsTest, ATransactionIsLostOnceAndItsProducerForgottenByAge) {
  const auto lost = [&] { return metrics_.local_transactions.With("lost").Value(); };
  Init();
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  for (int i = 0; i < 3; ++i) {
    CrashAndRestart();
    EXPECT_EQ(lost(), 1) << i;
    EXPECT_EQ(Commit(), ErrorCode::kTransactionAbortable) << "and still is";
  }
  clock_.SetWallClockMs(clock_.wall_clock_ms() + LocalTransactions::kForgetAfterMs + 1000);
  CrashAndRestart();
  EXPECT_EQ(Commit(), ErrorCode::kInvalidProducerIdMapping);
  clock_.Advance(std::chrono::seconds(1));
  CrashAndRestart();
  EXPECT_TRUE(log_->kept().transactions.producers.empty());
  EXPECT_EQ(lost(), 1);
}

INSTANTIATE_TEST_SUITE_P(Protocols, LocalTransactionsTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Second" : "First"; });

}  // namespace
}  // namespace holdfast::agent
