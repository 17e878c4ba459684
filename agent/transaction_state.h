// What the agent keeps in the spool's state about transactions.
//
// - Under kTransactionsKey: the name by which this spool is known at the tier, where its
//   transactional id and its group are called after it. A spool that is made anew has another, so
//   that it never takes the progress of an older one for its own.
// - Under kCommittedPrefix + number: a local transaction that is committed here and not known to be
//   at the tier: which ranges of which streams belong to it, and whether it was given up: then its
//   streams pass it over as they come to it. The batches themselves stand in the streams like any
//   others, marked transactional.
// - Under kLocalProducerPrefix + transactional id: the coordinator's memory of that producer.
//
// Each value begins with the version of its form. Threads: any; plain values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/ledger.h"
#include "base/result.h"
#include "kafka/record_batch.h"
#include "spool/spool.h"
#include "spool/state.h"

namespace holdfast::agent {

inline constexpr std::string_view kTransactionsKey = "agent/transactions";
inline constexpr std::string_view kCommittedPrefix = "agent/committed/";  // + number, 8 bytes
inline constexpr std::string_view kCommittedNextKey = "agent/committed";  // The next number.
inline constexpr std::string_view kLocalProducerPrefix = "agent/transactional/";

// All records of one local transaction, in commit order of their numbers.
struct CommittedTransaction {
  struct Range {
    spool::StreamId stream;
    int64_t begin = 0;
    int64_t end = 0;

    bool operator==(const Range&) const = default;
  };
  uint64_t number = 0;
  std::vector<Range> ranges;  // One for each stream.
  std::optional<DropCause> given_up;

  [[nodiscard]] const Range* RangeIn(spool::StreamId stream) const;
  [[nodiscard]] std::string Key() const;
  [[nodiscard]] std::string Serialize() const;
  static base::Result<CommittedTransaction> Parse(std::string_view key, std::string_view bytes);
  bool operator==(const CommittedTransaction&) const = default;
};

// Of CommittedTransaction::number.
std::string SerializeNumber(uint64_t number);
std::optional<uint64_t> ParseNumber(std::string_view bytes);

struct LocalProducerRecord {
  enum class State : uint8_t {
    kEmpty = 0,      // No transaction since the producer was made known.
    kOngoing = 1,    // Its batches are in memory; after a restart they are gone.
    kCommitted = 2,  // The last one was.
    kAborted = 3,
    kLost = 4,  // It was ongoing when the agent was started, and that was told.
  };
  int64_t id = kafka::kNoProducerId;
  int16_t epoch = kafka::kNoProducerEpoch;
  // Under which the last transaction ran, if its end brought a new id or epoch, or whose producer
  // has renewed them since: what did that may be asked for again.
  int64_t last_id = kafka::kNoProducerId;
  int16_t last_epoch = kafka::kNoProducerEpoch;
  int32_t timeout_ms = 0;
  State state = State::kEmpty;
  int64_t used_ms = 0;    // Wall clock, when this was written.
  std::string principal;  // Whose it is; empty: everybody's.

  [[nodiscard]] std::string Serialize() const;
  static base::Result<LocalProducerRecord> Parse(std::string_view bytes);
  bool operator==(const LocalProducerRecord&) const = default;
};

// All of it, as of the spool's opening.
struct KeptTransactions {
  std::string name;
  std::vector<CommittedTransaction> committed;           // By number.
  std::map<std::string, LocalProducerRecord> producers;  // By transactional id.
};
base::Result<KeptTransactions> LoadTransactions(const spool::StateView& state);

// What to put into the state when these streams are dropped by hand: local transactions of which
// that is a part are given up, and the rest of them is passed over when the agent runs.
std::map<std::string, std::string> GiveUpWith(const std::vector<spool::StreamId>& dropped,
                                              const spool::State& state);

}  // namespace holdfast::agent
