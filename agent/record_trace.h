// What became of a record, as the spool of an agent has it: from the record's entry, as long as a
// file still holds its bytes; from the commits behind it, which changed cursors and lists (ADR 1);
// and from what the state keeps when these are gone.
//
//   const auto deliveries = DeliveriesOf(*view, stream, recent);
//   HF_ASSIGN_OR_RETURN(const RecordTrace trace,
//                       TraceRecord(*view, stream, offset, deliveries, sinks));
//   switch (trace.fate) ...
//
// Nothing is guessed: what is not known any more is not set, and a time that is only an upper bound
// is named so. All of it is as of the view's opening, but deliveries that a running agent has not
// written yet.
//
// Threads: one at a time; it blocks on the disk.
// Limits: time grows with the commits between a record's acceptance and its end; memory with the
//   largest batch.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/delivery_journal.h"
#include "agent/forward_state.h"
#include "agent/ledger.h"
#include "agent/transaction_state.h"
#include "base/result.h"
#include "kafka/record_batch.h"
#include "kafka/record_reader.h"
#include "spool/offline.h"

namespace holdfast::agent {

struct RecordTrace {
  enum class Fate : uint8_t {
    kWaits,
    kDelivered,
    kDropped,     // `drop` says by which rule.
    kDeadLetter,  // `drop` and `dead_letter` say more; one of them, or both.
    kByHand,      // `holdfast spool drop`; `drop` says more, if it was listed then.
    kDamaged,     // It should be there, and cannot be read.
    // Delivered, or given up: `unlisted` says of how many it may be one.
    kDoneWith,
  };

  // Of the record's entry.
  struct Acceptance {
    spool::EntryInfo entry;
    uint64_t segment = 0;
    kafka::BatchHeader batch;
    // The next commit was begun then, by which time this one was on the disk for certain.
    std::optional<int64_t> on_disk_by_ms;
    // Empty if the batch cannot be read; `unreadable` then says why.
    struct Record {
      int64_t timestamp_ms = kafka::kNoTimestamp;
      std::optional<std::string> key;
      std::optional<uint64_t> value_bytes;
      size_t headers = 0;
    };
    std::optional<Record> record;
    std::string unreadable;
    std::optional<CommittedTransaction> transaction;
    // Sources of which the same commit notes rows, or half messages that it resolved. Only if the
    // batch is one that the agent made.
    std::vector<std::string> outboxes;
    bool half_message = false;
  };

  // The cursor of its stream moved past it.
  struct Passing {
    spool::CommitNumber commit;
    int64_t time_ms = 0;
    bool at_latest = false;  // Commits before this one are gone.
  };

  // Where the tier has it: in [first, last]; at `first` if they are the same.
  struct TierOffsets {
    int64_t first = 0;
    int64_t last = 0;
  };

  struct DeadLetter {
    std::string stream;
    int64_t offset = 0;
    bool there = false;  // Neither delivered, replayed nor dropped.
    std::string error;
    std::string message;
    int64_t time_ms = 0;
  };

  // So many records before that offset were given up, and the list of drops does not say any more
  // which ones.
  struct Unlisted {
    uint64_t records = 0;
    int64_t before = 0;
  };

  std::string stream;
  int64_t offset = 0;
  Fate fate = Fate::kWaits;
  std::optional<Acceptance> accepted;
  std::optional<Passing> passed;
  std::optional<Delivery> delivery;  // As the journal has it.
  std::optional<Trouble> trouble;    // Why it waits.
  std::optional<TierOffsets> tier_offsets;
  std::optional<DropRange> drop;
  std::optional<DeadLetter> dead_letter;
  std::optional<Unlisted> unlisted;

  // The stream now.
  ForwardRecord cursor;
  int64_t end = 0;
  // Of the records before it that wait, how many; of those that wait, since when the oldest.
  int64_t ahead = 0;
};

struct TraceSinks {
  spool::OfflineView::DamageVisitor damaged;
  spool::ProgressCallback progress;  // May be empty.
};

// Of the stream, oldest first: what the state has, and of `recent` what it will have.
std::vector<Delivery> DeliveriesOf(const spool::OfflineView& view, spool::StreamId stream,
                                   const std::vector<Delivery>& recent);

// `deliveries` are those of the stream. kNotFound: the stream never had that offset.
base::Result<RecordTrace> TraceRecord(const spool::OfflineView& view, spool::StreamId stream,
                                      int64_t offset, const std::vector<Delivery>& deliveries,
                                      const TraceSinks& sinks);

// The offset in the stream of what the tier has at `tier_offset`. kNotFound: the commits that would
// tell are gone, or somebody else wrote it.
base::Result<int64_t> OffsetAtTier(const spool::OfflineView& view, spool::StreamId stream,
                                   int64_t tier_offset, const std::vector<Delivery>& deliveries,
                                   const TraceSinks& sinks);

struct RecordFilter {
  std::optional<std::string> key;
  // When it was accepted: in [from, to).
  std::optional<int64_t> from_ms;
  std::optional<int64_t> to_ms;
};
// Those of the stream that a file still holds, oldest first. The visitor says whether to go on.
using RecordVisitor =
    std::function<bool(const spool::EntryInfo& entry, const kafka::Record& record, int64_t offset)>;
base::Result<void> FindRecords(const spool::OfflineView& view, spool::StreamId stream,
                               const RecordFilter& filter, const RecordVisitor& visit,
                               const TraceSinks& sinks);

}  // namespace holdfast::agent
