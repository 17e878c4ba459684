// The part of agent/forwarder.h that deals with what the tier refuses for good: dead letters.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/dead_letter.h"
#include "agent/forwarder.h"
#include "base/log.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {
namespace {

using base::LogLevel;
using kafka::ErrorCode;

bool TooLarge(ErrorCode error) {
  return error == ErrorCode::kMessageTooLarge || error == ErrorCode::kRecordListTooLarge;
}

}  // namespace

// The tier refuses a batch whole. What of it can be delivered is delivered: records that the tier
// did not name, and the halves of a batch that is too large. The cuts are new, and so is the epoch:
// nothing of the old ones was stored.
void Forwarder::Refuse(Stream& stream, const Flight& flight, const std::string& trouble) {
  const bool of_dead_letters = stream.topic == options_.dead_letter_topic;
  if (options_.dead_letters == DeadLetterPolicy::kPark || of_dead_letters) {
    return Park(stream, trouble);
  }
  std::deque<Piece>& pieces = stream.pieces;
  if (!pieces.empty()) pieces.pop_front();
  std::vector<Piece> cut;
  const int64_t count = flight.end - flight.base;
  const Piece poison{.end = flight.end, .error = flight.error, .message = flight.message};
  if (!flight.refused.empty() && static_cast<int64_t>(flight.refused.size()) < count) {
    int64_t at = flight.base;
    for (const int32_t index : flight.refused) {
      const int64_t bad = flight.base + index;
      if (bad < at || bad >= flight.end) continue;
      if (bad > at) cut.push_back({.end = bad});
      if (!cut.empty() && cut.back().poison() && bad == at) {
        cut.back().end = bad + 1;
      } else {
        cut.push_back(poison);
        cut.back().end = bad + 1;
      }
      at = bad + 1;
    }
    if (at < flight.end) cut.push_back({.end = flight.end});
  } else if (TooLarge(flight.error) && count > 1) {
    cut = {{.end = flight.base + count / 2}, {.end = flight.end}};
  } else {
    cut = {poison};
  }
  pieces.insert(pieces.begin(), cut.begin(), cut.end());
  stream.new_epoch = true;
  Step(stream);
}

// The first piece of a refused batch can never be delivered.
void Forwarder::SetAside(Stream& stream) {
  const Piece piece = stream.pieces.front();
  ForwardRecord after = stream.record;
  after.confirmed = piece.end;
  if (after.identity.known() && !after.identity.Advance(producer_, piece.end)) {
    producer_.id = kafka::kNoProducerId;
    return AskProducer();
  }
  auto dead = DeadLettersOf(stream, piece);
  if (!dead) return Park(stream, dead.error().message);
  dead->release = ReleaseOf(context_.spool, stream.id, stream.record.confirmed, piece.end);
  Drops drops = stream.drops;
  drops.Add({.begin = stream.record.confirmed,
             .end = piece.end,
             .cause = DropCause::kDeadLetter,
             .when_ms = context_.loop.WallClockMs(),
             .bytes = dead->release.bytes});
  dead->values[StreamKey(kDropsPrefix, stream.id)] = drops.Serialize();
  stream.phase = Phase::kSettingAside;
  log_.SetAside(stream.id, after, *std::move(dead),
                [this, &stream, piece, after, drops = std::move(drops)](base::Result<> stored) {
                  stream.phase = Phase::kReady;
                  if (!stored) {
                    log_.Note(stream.id, stream.record);
                    return Backoff(stream, "dead letters: " + stored.error().message);
                  }
                  stream.drops = drops;
                  OnSetAside(stream, piece, after);
                });
}

base::Result<ForwardLog::Aside> Forwarder::DeadLettersOf(const Stream& stream, const Piece& piece) {
  const int64_t begin = stream.record.confirmed;
  HF_ASSIGN_OR_RETURN(const spool::Lease lease, context_.spool.Read(stream.id, begin, 1));
  const spool::EntryView& entry = lease.entries().front();
  std::string sliced;
  std::string_view batch = entry.bytes;
  if (begin != entry.info.base_offset || piece.end != entry.info.end_offset()) {
    HF_ASSIGN_OR_RETURN(sliced,
                        SliceBatch(batch, static_cast<int32_t>(begin - entry.info.base_offset),
                                   static_cast<int32_t>(piece.end - begin)));
    batch = sliced;
  }
  DeadLetters dead = BuildDeadLetters(batch, {.topic = stream.topic,
                                              .partition = stream.partition,
                                              .offset = begin,
                                              .error = piece.error,
                                              .message = piece.message,
                                              .time_ms = context_.loop.WallClockMs()});
  return ForwardLog::Aside{.stream_name = DeadLetterStream(stream),
                           .batch = std::move(dead.batch),
                           .record_count = dead.record_count};
}

std::string Forwarder::DeadLetterStream(const Stream& stream) {
  if (options_.dead_letters != DeadLetterPolicy::kTopic) {
    return DeadLetterStreamName(StreamName(stream.topic, stream.partition));
  }
  const proxy::Topic* topic = CurrentCluster().FindTopic(options_.dead_letter_topic);
  const auto partitions =
      topic == nullptr ? 1 : std::max<int32_t>(1, static_cast<int32_t>(topic->leaders.size()));
  return StreamName(options_.dead_letter_topic, stream.partition % partitions);
}

void Forwarder::OnSetAside(Stream& stream, const Piece& piece, const ForwardRecord& after) {
  base::Log(LogLevel::kError, "forward",
            "{}/{}: the tier refuses records {} to {} for good ({}{}{}); they are dead letters now",
            stream.topic, stream.partition, stream.record.confirmed, piece.end - 1,
            kafka::ErrorName(piece.error), piece.message.empty() ? "" : ": ", piece.message);
  context_.metrics.dead_letter_records.With(kafka::ErrorName(piece.error))
      .Add(static_cast<uint64_t>(piece.end - stream.record.confirmed));
  if (context_.acks != nullptr) {
    context_.acks->OnGone(stream.id, piece.end, piece.error,
                          "the tier refuses the record for good; it is a dead letter now");
  }
  stream.record = after;
  stream.next = stream.rewind = after.confirmed;
  stream.new_epoch = !after.identity.known();
  stream.fresh_until_ms = 0;
  stream.attempts = 0;
  stream.trouble.clear();
  DropPieces(stream);
  Step(stream);
}

void Forwarder::DropPieces(Stream& stream) {
  while (!stream.pieces.empty() && stream.pieces.front().end <= stream.record.confirmed) {
    stream.pieces.pop_front();
  }
}

}  // namespace holdfast::agent
