#include "agent/record_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/dead_letter.h"
#include "spool/change.h"

namespace holdfast::agent {
namespace {

using spool::Change;
using spool::ChangeKind;
using spool::CommitNumber;
using spool::OfflineView;
using spool::StreamId;

template <class Visit>
void ForEachChange(std::string_view changes, Visit visit) {
  spool::ChangeReader reader(changes);
  for (Change change; reader.Next(&change);) visit(change);
}

// The cursor as this change puts it.
std::optional<ForwardRecord> CursorIn(const Change& change, std::string_view key) {
  if (change.kind != ChangeKind::kPut || change.key != key) return std::nullopt;
  const auto record = ForwardRecord::Parse(change.value);
  return record ? std::optional(*record) : std::nullopt;
}

const DropRange* Covering(const Drops& drops, int64_t offset) {
  const auto found = std::ranges::find_if(drops.ranges(), [offset](const DropRange& range) {
    return offset >= range.begin && offset < range.end;
  });
  return found == drops.ranges().end() ? nullptr : &*found;
}

template <class Parsed>
std::optional<Parsed> StateOf(const OfflineView& view, std::string_view prefix, StreamId stream,
                              base::Result<Parsed> (*parse)(std::string_view)) {
  const auto value = view.state().Get(StreamKey(prefix, stream));
  if (!value) return std::nullopt;
  auto parsed = parse(*value);
  return parsed ? std::optional(*std::move(parsed)) : std::nullopt;
}

// Reads one record's trace.
class Tracer {
 public:
  Tracer(const OfflineView& view, StreamId stream, int64_t offset,
         const std::vector<Delivery>& deliveries, const TraceSinks& sinks)
      : view_(view),
        stream_(stream),
        deliveries_(deliveries),
        sinks_(sinks),
        cursor_key_(StreamKey(kForwardPrefix, stream)),
        drops_key_(StreamKey(kDropsPrefix, stream)),
        left_out_key_(StreamKey(kLeftOutPrefix, stream)) {
    trace_.stream = view.state().stream(stream).name;
    trace_.offset = offset;
  }

  base::Result<RecordTrace> Run() {
    const spool::StreamState& known = view_.state().stream(stream_);
    if (trace_.offset < 0 || trace_.offset >= known.end) {
      return base::Unexpected(
          base::Code::kNotFound,
          fmt::format("{} has had offsets from 0 up to, not including, {}; {} is not there yet",
                      known.name, known.end, trace_.offset));
    }
    trace_.end = known.end;
    trace_.cursor = StateOf<ForwardRecord>(view_, kForwardPrefix, stream_, &ForwardRecord::Parse)
                        .value_or(ForwardRecord());
    HF_RETURN_IF_ERROR(ReadEntry());
    HF_RETURN_IF_ERROR(WalkCommits());
    Judge(known);
    using Fate = RecordTrace::Fate;
    if (trace_.fate == Fate::kDeadLetter || trace_.fate == Fate::kDoneWith)
      HF_RETURN_IF_ERROR(FindDeadLetter());
    if (trace_.fate == Fate::kDoneWith && trace_.dead_letter) {
      trace_.fate = Fate::kDeadLetter;
      trace_.unlisted.reset();
    }
    if (trace_.fate == Fate::kDelivered) {
      trace_.delivery = FindDelivery();
      PlaceAtTier();
    }
    if (trace_.fate == Fate::kWaits) FindTrouble();
    return std::move(trace_);
  }

 private:
  base::Result<> ReadEntry() {
    return view_.ReadAlsoTrimmed(
        stream_, trace_.offset,
        [&](const spool::EntryInfo& info, std::string_view bytes) {
          if (info.base_offset <= trace_.offset && trace_.offset < info.end_offset())
            TakeEntry(info, bytes);
          return false;
        },
        [&](const base::Error& error) { sinks_.damaged(error); });
  }

  void TakeEntry(const spool::EntryInfo& info, std::string_view bytes) {
    RecordTrace::Acceptance& accepted = trace_.accepted.emplace();
    accepted.entry = info;
    for (const OfflineView::SegmentInfo& segment : view_.segments()) {
      if (segment.first_commit <= info.commit) accepted.segment = segment.number;
    }
    if (const auto record = ReadRecord(bytes, trace_.offset - info.base_offset); !record)
      accepted.unreadable = record.error().message;
  }

  base::Result<> ReadRecord(std::string_view bytes, int64_t index) {
    RecordTrace::Acceptance& accepted = *trace_.accepted;
    HF_ASSIGN_OR_RETURN(const auto batch, kafka::RecordBatchView::Front(bytes));
    accepted.batch = batch.header();
    HF_ASSIGN_OR_RETURN(const auto uncompressed, kafka::UncompressedRecords::Of(batch));
    kafka::RecordReader reader(accepted.batch, uncompressed.bytes());
    kafka::Record record;
    while (reader.Next(&record)) {
      if (record.offset - accepted.batch.base_offset != index) continue;
      RecordTrace::Acceptance::Record& facts = accepted.record.emplace();
      facts.timestamp_ms =
          accepted.batch.log_append_time() ? accepted.batch.max_timestamp : record.timestamp;
      facts.key = record.key;
      if (record.value) facts.value_bytes = record.value->size();
      facts.headers = record.headers.size();
      return {};
    }
    HF_RETURN_IF_ERROR(reader.status());
    return base::Unexpected(base::Code::kCorrupt, "the batch does not have the record");
  }

  // From the beginning of the segment that the record is in: what its cursor was before tells where
  // the tier has it.
  base::Result<> WalkCommits() {
    CommitNumber from;
    for (const OfflineView::SegmentInfo& segment : view_.segments()) {
      if (trace_.accepted && segment.first_commit <= trace_.accepted->entry.commit)
        from = segment.first_commit;
    }
    return view_.WalkCommits(
        from,
        [&](const spool::FrameView& frame, std::string_view changes) {
          TakeCommit(frame, changes);
          return !trace_.passed;
        },
        [&](const base::Error& error) {
          // What a compaction could not keep was reported then.
          if (error.code != base::Code::kNotFound) sinks_.damaged(error);
        },
        sinks_.progress);
  }

  void TakeCommit(const spool::FrameView& frame, std::string_view changes) {
    const CommitNumber commit = frame.commit();
    if (last_commit_ && commit != last_commit_->next()) seen_waiting_ = false;
    last_commit_ = commit;
    const CommitNumber accepted = trace_.accepted ? trace_.accepted->entry.commit : CommitNumber();
    if (trace_.accepted && commit == accepted) seen_waiting_ = true;
    // A commit is flushed before the next one is begun.
    if (trace_.accepted && !trace_.accepted->on_disk_by_ms && commit > accepted)
      trace_.accepted->on_disk_by_ms = frame.commit_time_ms();
    std::optional<ForwardRecord> cursor;
    int64_t start = 0;
    bool drops_changed = false;
    bool left_out_changed = false;
    ForEachChange(changes, [&](const Change& change) {
      if (const auto put = CursorIn(change, cursor_key_)) cursor = put;
      if (change.kind == ChangeKind::kTrim && change.stream == stream_) start = change.start;
      if (change.kind == ChangeKind::kPut) drops_changed |= TakeList(change);
      left_out_changed |= change.key == left_out_key_;
      if (trace_.accepted && commit == accepted) TakeOrigin(change);
      TakeTransaction(change);
    });
    if (drops_changed) NoteDeadLetterPlaces(frame);
    const int64_t at = std::max(start, cursor ? cursor->confirmed : 0);
    if (at <= trace_.offset) {
      if (!cursor) return;
      before_ = cursor;
      seen_waiting_ = true;
      return;
    }
    trace_.passed = {
        .commit = commit, .time_ms = frame.commit_time_ms(), .at_latest = !seen_waiting_};
    after_ = cursor;
    // Either the cursor moves past what the list has now, or past what was delivered.
    passed_knowingly_ = seen_waiting_ && lists_reach_ && !left_out_changed;
    // Older versions did not list what was dropped by hand.
    by_hand_ = !cursor || cursor->confirmed <= trace_.offset;
  }

  // Whether it says now, and did not before, that the record was given up.
  bool TakeList(const Change& change) {
    if (trace_.drop || change.key != drops_key_) return false;
    const auto drops = Drops::Parse(change.value);
    lists_reach_ = lists_reach_ && drops && trace_.offset >= drops->ListedFrom();
    const DropRange* range = drops ? Covering(*drops, trace_.offset) : nullptr;
    if (range != nullptr) trace_.drop = *range;
    return range != nullptr;
  }

  // What the commit that accepted the record says of where it comes from.
  void TakeOrigin(const Change& change) {
    RecordTrace::Acceptance& accepted = *trace_.accepted;
    if (accepted.batch.has_producer()) return;
    if (change.kind == ChangeKind::kPut && change.key.starts_with(kOutboxPrefix))
      accepted.outboxes.emplace_back(change.key.substr(kOutboxPrefix.size()));
    if (change.kind == ChangeKind::kErase && change.key.starts_with(kHalfPrefix))
      accepted.half_message = true;
  }

  void TakeTransaction(const Change& change) {
    if (!trace_.accepted || change.kind != ChangeKind::kPut ||
        !change.key.starts_with(kCommittedPrefix))
      return;
    auto transaction = CommittedTransaction::Parse(change.key, change.value);
    if (!transaction) return;
    const CommittedTransaction::Range* range = transaction->RangeIn(stream_);
    if (range != nullptr && range->begin <= trace_.offset && trace_.offset < range->end)
      trace_.accepted->transaction = *std::move(transaction);
  }

  // A record is set aside in the commit that lists it.
  void NoteDeadLetterPlaces(const spool::FrameView& frame) {
    if (trace_.drop->cause != DropCause::kDeadLetter) return;
    for (uint32_t line = 0; line < frame.entry_count(); ++line) {
      const spool::EntryInfo info = frame.info(line);
      if (info.stream != stream_) dead_letter_places_.push_back(info);
    }
  }

  void Judge(const spool::StreamState& known) {
    using Fate = RecordTrace::Fate;
    const int64_t at = std::max(trace_.cursor.confirmed, known.start);
    const Drops drops =
        StateOf<Drops>(view_, kDropsPrefix, stream_, &Drops::Parse).value_or(Drops());
    if (!trace_.drop) {
      const DropRange* range = Covering(drops, trace_.offset);
      if (range != nullptr) trace_.drop = *range;
    }
    if (trace_.drop) {
      trace_.fate = FateOf(trace_.drop->cause);
    } else if (at <= trace_.offset) {
      trace_.fate = trace_.accepted ? Fate::kWaits : Fate::kDamaged;
      trace_.ahead = trace_.offset - at;
    } else if (by_hand_) {
      trace_.fate = Fate::kByHand;
    } else if (trace_.offset >= drops.ListedFrom() || IsProvenDelivered()) {
      trace_.fate = Fate::kDelivered;
    } else {
      trace_.fate = Fate::kDoneWith;
      trace_.unlisted = {.records = drops.Unlisted(), .before = drops.ListedFrom()};
    }
  }

  static RecordTrace::Fate FateOf(DropCause cause) {
    if (cause == DropCause::kDeadLetter) return RecordTrace::Fate::kDeadLetter;
    if (cause == DropCause::kByHand) return RecordTrace::Fate::kByHand;
    return RecordTrace::Fate::kDropped;
  }

  // Without the list of drops as it is now.
  [[nodiscard]] bool IsProvenDelivered() const {
    const std::optional<Delivery> delivery = FindDelivery();
    // That of a transaction spans also what was left out of it.
    return passed_knowingly_ || (delivery && delivery->proof != DeliveryProof::kTransaction);
  }

  base::Result<> FindDeadLetter() {
    for (const spool::EntryInfo& place : dead_letter_places_) {
      HF_RETURN_IF_ERROR(LookForDeadLetter(place.stream, place.base_offset, /*all=*/false));
      if (trace_.dead_letter) return {};
    }
    const auto aside = view_.state().FindStream(DeadLetterStreamName(trace_.stream));
    if (!aside) return {};
    return LookForDeadLetter(*aside, 0, /*all=*/true);
  }

  base::Result<> LookForDeadLetter(StreamId stream, int64_t from, bool all) {
    const auto origin = ParseStreamName(trace_.stream);
    if (!origin) return {};
    const auto visit = [&](const spool::EntryInfo& info, std::string_view bytes) {
      auto found = agent::FindDeadLetter(bytes, origin->first, origin->second, trace_.offset);
      if (!found || !*found) return all;
      const spool::StreamState& known = view_.state().stream(stream);
      const int64_t offset = info.base_offset + (*found)->index;
      trace_.dead_letter = {.stream = known.name,
                            .offset = offset,
                            .there = offset >= known.start,
                            .error = std::move((*found)->reason.error),
                            .message = std::move((*found)->reason.message),
                            .time_ms = (*found)->reason.time_ms};
      return false;
    };
    return view_.ReadAlsoTrimmed(stream, from, visit, sinks_.damaged);
  }

  [[nodiscard]] std::optional<Delivery> FindDelivery() const {
    std::optional<Delivery> found;
    for (const Delivery& delivery : deliveries_) {
      if (delivery.begin <= trace_.offset && trace_.offset < delivery.end) found = delivery;
    }
    return found;
  }

  void FindTrouble() {
    auto trouble = StateOf<Trouble>(view_, kTroublePrefix, stream_, &Trouble::Parse);
    if (trouble && trouble->cursor == trace_.cursor.confirmed) trace_.trouble = std::move(trouble);
  }

  // From the journal, or from the cursors before and behind it: others may have written to the
  // partition in between.
  void PlaceAtTier() {
    if (trace_.delivery && trace_.delivery->tier_begin >= 0) {
      const int64_t at = trace_.delivery->tier_begin + (trace_.offset - trace_.delivery->begin);
      trace_.tier_offsets = {.first = at, .last = at};
      return;
    }
    if (!after_ || after_->tier_offset < 0 || trace_.passed->at_latest) return;
    const int64_t last = after_->tier_offset - (after_->confirmed - trace_.offset);
    if (after_->confirmed == trace_.offset + 1) {
      trace_.tier_offsets = {.first = last, .last = last};
    } else if (before_ && before_->tier_offset >= 0 && before_->tier_offset <= last) {
      const int64_t first = before_->tier_offset + (trace_.offset - before_->confirmed);
      trace_.tier_offsets = {.first = std::min(first, last), .last = last};
    }
  }

  const OfflineView& view_;
  const StreamId stream_;
  const std::vector<Delivery>& deliveries_;
  const TraceSinks& sinks_;
  const std::string cursor_key_;
  const std::string drops_key_;
  const std::string left_out_key_;
  RecordTrace trace_;
  std::optional<CommitNumber> last_commit_;
  std::optional<ForwardRecord> before_;  // The cursor, last before it passed the record.
  std::optional<ForwardRecord> after_;   // And when it had.
  bool by_hand_ = false;
  // That the cursor was not past the record, and every commit since then.
  bool seen_waiting_ = false;
  bool lists_reach_ = true;  // So far back as the record: those in these commits.
  bool passed_knowingly_ = false;
  std::vector<spool::EntryInfo> dead_letter_places_;
};

// Where to begin reading for what was accepted at `from_ms`.
base::Result<std::optional<int64_t>> FirstOffsetAt(const OfflineView& view, StreamId stream,
                                                   int64_t from_ms, const TraceSinks& sinks) {
  std::optional<int64_t> first;
  HF_RETURN_IF_ERROR(view.WalkCommits(
      CommitNumber(),
      [&](const spool::FrameView& frame, std::string_view) {
        if (frame.commit_time_ms() < from_ms) return true;
        for (uint32_t line = 0; line < frame.entry_count() && !first; ++line) {
          const spool::EntryInfo info = frame.info(line);
          if (info.stream == stream) first = info.base_offset;
        }
        return !first;
      },
      [](const base::Error&) {}, sinks.progress));
  return first;
}

// Whether a batch may hold a record with this key: only looks into what is not compressed.
bool MayHold(const kafka::RecordBatchView& batch, const std::optional<std::string>& key) {
  return !key || key->empty() || batch.header().codec() != kafka::Codec::kNone ||
         batch.payload().find(*key) != std::string_view::npos;
}

}  // namespace

std::vector<Delivery> DeliveriesOf(const OfflineView& view, StreamId stream,
                                   const std::vector<Delivery>& recent) {
  std::vector<Delivery> deliveries = ReadJournal(view.state());
  deliveries.insert(deliveries.end(), recent.begin(), recent.end());
  std::erase_if(deliveries, [stream](const Delivery& one) { return one.stream != stream; });
  return deliveries;
}

base::Result<RecordTrace> TraceRecord(const OfflineView& view, StreamId stream, int64_t offset,
                                      const std::vector<Delivery>& deliveries,
                                      const TraceSinks& sinks) {
  return Tracer(view, stream, offset, deliveries, sinks).Run();
}

base::Result<int64_t> OffsetAtTier(const OfflineView& view, StreamId stream, int64_t tier_offset,
                                   const std::vector<Delivery>& deliveries,
                                   const TraceSinks& sinks) {
  for (const Delivery& delivery : deliveries) {
    const int64_t records = delivery.end - delivery.begin;
    if (delivery.tier_begin >= 0 && delivery.tier_begin <= tier_offset &&
        tier_offset - delivery.tier_begin < records)
      return delivery.begin + (tier_offset - delivery.tier_begin);
  }
  const std::string key = StreamKey(kForwardPrefix, stream);
  std::optional<ForwardRecord> before;
  std::optional<int64_t> offset;
  const auto take = [&](const ForwardRecord& after) {
    // The last that the cursor passed over lies right below where the tier's offset then was; the
    // others before it, unless somebody else wrote in between.
    const int64_t at = after.confirmed - (after.tier_offset - tier_offset);
    const bool within =
        before && before->tier_offset <= tier_offset &&
        after.tier_offset - before->tier_offset == after.confirmed - before->confirmed;
    if (after.tier_offset > tier_offset && (within || after.tier_offset == tier_offset + 1))
      offset = at;
    before = after;
  };
  HF_RETURN_IF_ERROR(view.WalkCommits(
      CommitNumber(),
      [&](const spool::FrameView&, std::string_view changes) {
        ForEachChange(changes, [&](const Change& change) {
          if (const auto cursor = CursorIn(change, key); cursor && !offset) take(*cursor);
        });
        return !offset;
      },
      [](const base::Error&) {}, sinks.progress));
  if (offset) return *offset;
  return base::Unexpected(
      base::Code::kNotFound,
      fmt::format("{}: this spool does not know what the tier has at its offset {}: it was not "
                  "written by this agent, or others wrote beside it, or so long ago that the "
                  "commits are gone",
                  view.state().stream(stream).name, tier_offset));
}

base::Result<> FindRecords(const OfflineView& view, StreamId stream, const RecordFilter& filter,
                           const RecordVisitor& visit, const TraceSinks& sinks) {
  int64_t first = 0;
  if (filter.from_ms) {
    HF_ASSIGN_OR_RETURN(const auto found, FirstOffsetAt(view, stream, *filter.from_ms, sinks));
    if (!found) return {};
    first = *found;
  }
  const spool::StreamState& known = view.state().stream(stream);
  uint64_t bytes = 0;  // Of all streams.
  for (const auto& segment : view.segments()) bytes += segment.entry_bytes;
  uint64_t looked_at = 0;
  const auto read = [&](const spool::EntryInfo& info, std::string_view batch_bytes,
                        bool* more) -> base::Result<> {
    HF_ASSIGN_OR_RETURN(const auto batch, kafka::RecordBatchView::Front(batch_bytes));
    if (!MayHold(batch, filter.key)) return {};
    HF_ASSIGN_OR_RETURN(const auto uncompressed, kafka::UncompressedRecords::Of(batch));
    const kafka::BatchHeader header = batch.header();
    kafka::RecordReader reader(header, uncompressed.bytes());
    kafka::Record record;
    while (*more && reader.Next(&record)) {
      if (filter.key && record.key != *filter.key) continue;
      *more = visit(info, record, info.base_offset + (record.offset - header.base_offset));
    }
    return reader.status();
  };
  return view.ReadAlsoTrimmed(
      stream, first,
      [&](const spool::EntryInfo& info, std::string_view batch) {
        if (filter.to_ms && info.commit_time_ms >= *filter.to_ms) return false;
        if (sinks.progress) sinks.progress(looked_at += info.bytes, bytes);
        bool more = true;
        if (const auto done = read(info, batch, &more); !done)
          sinks.damaged({done.error().code,
                         fmt::format("{}: offsets [{}, {}): {}", known.name, info.base_offset,
                                     info.end_offset(), done.error().message)});
        return more;
      },
      sinks.damaged);
}

}  // namespace holdfast::agent
