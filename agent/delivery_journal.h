// How records came to the tier, for whoever asks later (agent/record_trace.h): when they were sent
// and confirmed, by which broker, at which offset, what went wrong before. Nothing that the agent
// does depends on it.
//
// What is confirmed one after the other without trouble is one *delivery*, for up to kSpanMs; one
// with trouble stands alone. Deliveries of all streams are written in blocks, a few at a time, each
// a key of the spool's state that travels with the next cursors: no commit is made for it. What a
// crash takes is the last minute's, of which the cursors still tell the rest.
//
//   journal.Add(delivery);                           // Of each confirmed batch.
//   for (auto& [key, value] : journal.Take(now_ms, false)) log.Note(key, value);
//   ParseBlock(journal.Unwritten());                 // What the state does not have yet.
//
// In the spool's state: agent/journal/<u64, big-endian> = u8 format, i64 time (ms, little-endian),
// then per delivery varints (kafka/varint.h):
//   stream, begin, end - begin, tier_begin, node, confirmed_ms - time, last_ms - confirmed_ms,
//   confirmed_ms - sent_ms, proof, attempts, and if there were attempts: confirmed_ms - since_ms,
//   first_error, last_error
//
// Threads: any, one short lock; Add and Take are called on the forwarder's loop.
// Limits: bytes_max of blocks, the oldest go first; and one open delivery per stream.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "kafka/error_code.h"
#include "spool/spool.h"

namespace holdfast::agent {

inline constexpr std::string_view kJournalPrefix = "agent/journal/";  // + number: a block
// + stream: Trouble, of the record that its cursor stands before. It is not erased: one that is
// over is about a record that the cursor has passed.
inline constexpr std::string_view kTroublePrefix = "agent/trouble/";

enum class DeliveryProof : uint8_t {
  kAnswer = 0,       // The tier's answer to the batch.
  kReadBack = 1,     // The tier's log had it, after an answer was lost.
  kTransaction = 2,  // The commit of a transaction.
  kRecognised = 3,   // Asked, the tier said that it had them, and recognised a repeat.
};

// Records [begin, end) of a stream.
struct Delivery {
  spool::StreamId stream;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t tier_begin = -1;  // The tier's offset of the first, if the tier said it.
  int32_t node = -1;        // The broker.
  int64_t sent_ms = 0;      // The first of them, the last time.
  int64_t confirmed_ms = 0;
  int64_t last_ms = 0;  // When the last of them was confirmed.
  DeliveryProof proof = DeliveryProof::kAnswer;
  // What went wrong with the first before. Lost answers are NETWORK_EXCEPTION.
  uint32_t attempts = 0;  // That failed.
  int64_t since_ms = 0;   // The first of these.
  kafka::ErrorCode first_error = kafka::ErrorCode::kNone;
  kafka::ErrorCode last_error = kafka::ErrorCode::kNone;

  bool operator==(const Delivery&) const = default;
};

class DeliveryJournal {
 public:
  static constexpr int64_t kSpanMs = 60'000;
  static constexpr size_t kBlockBytes = 1024;

  using Blocks = std::map<std::string, size_t, std::less<>>;  // Sizes by keys in the state.
  // A value to be put, or the key is to be erased.
  using Changes = std::vector<std::pair<std::string, std::optional<std::string>>>;

  // `kept`: what the state has.
  DeliveryJournal(const Blocks& kept, size_t bytes_max);

  void Add(const Delivery& delivery);
  // What became due; or, before the end, everything.
  [[nodiscard]] Changes Take(int64_t now_ms, bool all);
  // As a block, all that was not taken; what was taken last is there once more, since it may still
  // be on its way to the disk.
  [[nodiscard]] std::string Unwritten() const;

 private:
  struct Block {
    uint64_t number = 0;
    size_t bytes = 0;
  };

  const size_t bytes_max_;
  mutable base::Mutex mutex_;
  std::unordered_map<uint32_t, Delivery> open_ HF_GUARDED_BY(mutex_);  // By stream id.
  std::vector<Delivery> due_ HF_GUARDED_BY(mutex_);
  std::deque<Block> blocks_ HF_GUARDED_BY(mutex_);
  size_t bytes_ HF_GUARDED_BY(mutex_) = 0;  // Of all blocks.
  uint64_t next_ HF_GUARDED_BY(mutex_) = 0;
  std::string last_ HF_GUARDED_BY(mutex_);  // The newest block's value, while it has room.
  int64_t last_time_ms_ HF_GUARDED_BY(mutex_) = 0;
};

// Up to what cannot be read.
std::vector<Delivery> ParseBlock(std::string_view block);
// All deliveries that the state has, oldest first.
std::vector<Delivery> ReadJournal(const spool::StateView& state);

// Why a stream does not go on.
struct Trouble {
  int64_t cursor = 0;    // The record it is about.
  int64_t since_ms = 0;  // When it was written down.
  bool parked = false;   // Tried rarely, until somebody changes something.
  std::string text;

  [[nodiscard]] std::string Serialize() const;
  static base::Result<Trouble> Parse(std::string_view bytes);
};

}  // namespace holdfast::agent
