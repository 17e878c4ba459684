// The part of agent/forwarder.h that deals with what the tier refuses for good: dead letters.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/dead_letter.h"
#include "agent/forwarder.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;

// One alone may be the tier's own passing trouble.
constexpr uint32_t kUnexplainedUntilJudged = 3;

}  // namespace

// What waits behind the rest of a refused batch of a transaction.
struct Forwarder::Refusal {
  std::deque<Piece> pieces;
  int64_t at = 0;  // Where the first of them begins.
  std::vector<int64_t> cuts;
  OnRemainder done;

  void Finish(std::vector<LeftOut> left_out, std::string trouble = {}) {
    done({.left_out = std::move(left_out), .cuts = std::move(cuts), .trouble = std::move(trouble)});
  }
};

bool Forwarder::HoldsRefused(const Stream& stream) const {
  return options_.dead_letters == DeadLetterPolicy::kPark ||
         stream.topic == options_.dead_letter_topic;
}

// What of the batch can be delivered is delivered. The cuts are new, and so is the epoch: nothing
// of the old ones was stored.
void Forwarder::Refuse(Stream& stream, const RefusedBatch& batch, const std::string& trouble) {
  if (HoldsRefused(stream)) return Park(stream, trouble);
  std::deque<Piece>& pieces = stream.pieces;
  if (!pieces.empty()) pieces.pop_front();
  const std::deque<Piece> cut = CutRefused(batch);
  pieces.insert(pieces.begin(), cut.begin(), cut.end());
  stream.new_epoch = true;
  Step(stream);
}

void Forwarder::NoteUnexplained(Stream& stream, const Flight& flight) {
  Unexplained& unexplained = stream.unexplained;
  if (flight.error != ErrorCode::kUnknownServerError || flight.lost) {
    unexplained.asked = false;
    return;
  }
  if (unexplained.begin != flight.base || unexplained.end != flight.end)
    unexplained = {.begin = flight.base, .end = flight.end};
  unexplained.asked = true;
}

// Whether this is the last of several times that the tier answered so and did not have it, of
// which it is certain.
bool Forwarder::IsToBeJudged(Stream& stream, const Finding& finding) {
  Unexplained& unexplained = stream.unexplained;
  if (!std::exchange(unexplained.asked, false) || stream.doubt) return false;
  const bool told =
      finding.kind == Finding::Kind::kRemembered || finding.kind == Finding::Kind::kReadBack;
  const bool stored = finding.end > unexplained.begin;
  if (!told || stored || stream.record.confirmed != unexplained.begin) return false;
  return ++unexplained.refusals >= kUnexplainedUntilJudged;
}

// It is not sent on and on, with everything behind it waiting: either it is seen from here what is
// wrong with it, or a person has to look.
void Forwarder::JudgeUnexplained(Stream& stream) {
  const int64_t begin = stream.unexplained.begin;
  const int64_t end = stream.unexplained.end;
  std::optional<RefusedBatch> refused;
  {
    const auto lease = context_.spool.ReadSound(stream.id, begin, 1);
    // Step says what is wrong then.
    if (!lease || IsLost(lease, begin)) return Step(stream);
    refused = RefuseUnreadable(lease->entries().front().bytes, begin, end);
  }
  const Outcome outcome = refused ? Outcome::kRefused : Outcome::kParked;
  const std::string trouble =
      fmt::format("records {} to {}: {} ({})", begin, end - 1,
                  kafka::ErrorName(ErrorCode::kUnknownServerError), OutcomeName(outcome));
  if (!refused) return Park(stream, trouble);
  Refuse(stream, *refused, trouble);
}

bool Forwarder::SetAsideRefused(spool::StreamId id, const RefusedBatch& batch, OnRemainder done) {
  Stream& stream = *streams_.at(id.value());
  if (HoldsRefused(stream)) return false;
  SetAsideNext(stream,
               std::make_shared<Refusal>(Refusal{
                   .pieces = CutRefused(batch), .at = batch.begin, .done = std::move(done)}));
  return true;
}

// The stream cannot move past them yet, so it is written down with them that they are left out.
void Forwarder::SetAsideNext(Stream& stream, std::shared_ptr<Refusal> refusal) {
  while (!refusal->pieces.empty() && !refusal->pieces.front().poison()) {
    refusal->at = refusal->pieces.front().end;
    refusal->cuts.push_back(refusal->at);
    refusal->pieces.pop_front();
  }
  if (refusal->pieces.empty()) return refusal->Finish(stream.left_out);
  const Piece& piece = refusal->pieces.front();
  auto dead = DeadLettersOf(stream, refusal->at, piece);
  if (!dead) return refusal->Finish(stream.left_out, dead.error().message);
  std::vector<LeftOut> left_out = stream.left_out;
  left_out.push_back({.begin = refusal->at, .end = piece.end, .error = piece.error});
  std::ranges::sort(left_out, {}, &LeftOut::begin);
  Drops drops = stream.drops;
  drops.Add({.begin = refusal->at,
             .end = piece.end,
             .cause = DropCause::kDeadLetter,
             .when_ms = context_.loop.WallClockMs(),
             .bytes = dead->batch.size()});
  dead->values[StreamKey(kLeftOutPrefix, stream.id)] = SerializeLeftOut(left_out);
  dead->values[StreamKey(kDropsPrefix, stream.id)] = drops.Serialize();
  log_.SetAside(stream.id, stream.record, *std::move(dead),
                [this, &stream, refusal, left_out = std::move(left_out),
                 drops = std::move(drops)](base::Result<> stored) mutable {
                  log_.Note(stream.id, stream.record);
                  if (!stored) {
                    return refusal->Finish(stream.left_out,
                                           "dead letters: " + stored.error().message);
                  }
                  stream.left_out = std::move(left_out);
                  stream.drops = std::move(drops);
                  const Piece done = std::move(refusal->pieces.front());
                  refusal->pieces.pop_front();
                  CountDeadLetters(stream, std::exchange(refusal->at, done.end), done);
                  SetAsideNext(stream, refusal);
                });
}

// The cursor goes to `end`: clients that wait for the tier hear of what was left out before that.
// Returns how many records those are.
int64_t Forwarder::PassLeftOut(Stream& stream, int64_t end) {
  if (stream.left_out.empty()) return 0;
  int64_t passed = 0;
  for (const LeftOut& range : stream.left_out) {
    if (range.end > end) continue;
    passed += range.end - range.begin;
    if (context_.acks == nullptr) continue;
    context_.acks->OnGone(stream.id, {.begin = range.begin,
                                      .end = range.end,
                                      .cause = DropCause::kDeadLetter,
                                      .error = range.error});
  }
  std::erase_if(stream.left_out, [end](const LeftOut& range) { return range.end <= end; });
  std::optional<std::string> rest;
  if (!stream.left_out.empty()) rest = SerializeLeftOut(stream.left_out);
  log_.Note(StreamKey(kLeftOutPrefix, stream.id), std::move(rest));
  return passed;
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
  auto dead = DeadLettersOf(stream, stream.record.confirmed, piece);
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

base::Result<ForwardLog::Aside> Forwarder::DeadLettersOf(const Stream& stream, int64_t begin,
                                                         const Piece& piece) {
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

void Forwarder::CountDeadLetters(const Stream& stream, int64_t begin, const Piece& piece) {
  base::Log(base::Event::kRecordsRefused, {"forward", StreamName(stream.topic, stream.partition)},
            "the tier refuses records {} to {} for good ({}{}{}); they are dead letters now", begin,
            piece.end - 1, kafka::ErrorName(piece.error), piece.message.empty() ? "" : ": ",
            piece.message);
  context_.metrics.dead_letter_records.With(kafka::ErrorName(piece.error))
      .Add(static_cast<uint64_t>(piece.end - begin));
}

void Forwarder::OnSetAside(Stream& stream, const Piece& piece, const ForwardRecord& after) {
  CountDeadLetters(stream, stream.record.confirmed, piece);
  if (context_.acks != nullptr) {
    context_.acks->OnGone(stream.id, {.begin = stream.record.confirmed,
                                      .end = piece.end,
                                      .cause = DropCause::kDeadLetter,
                                      .error = piece.error});
  }
  stream.ahead = {};
  stream.record = after;
  stream.next = stream.rewind = after.confirmed;
  stream.new_epoch = !after.identity.known();
  stream.newest_ms = -1;
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
