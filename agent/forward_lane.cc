// The part of agent/forwarder.h that hands streams to the lane of transactions and takes them
// back.
#include <utility>

#include "agent/forwarder.h"
#include "agent/tier_transactions.h"
#include "base/event.h"
#include "base/log.h"

namespace holdfast::agent {

// What the lane confirms is not of the identity's sequence numbers, so both ways out of here and
// back are durable before anything is sent: the cursor then says which of them a batch went. If a
// batch went that way that another mode would send the other way, a mark says so as well, until the
// tier has said what arrived.
void Forwarder::EnterLane(Stream& stream) {
  stream.phase = Phase::kInLane;
  log_.Note(stream.id, stream.record);
  log_.Flush([this, &stream] {
    context_.lane->Enter(stream.id, stream.topic, stream.partition, stream.record.confirmed,
                         stream.left_out);
  });
}

// Whether this is next in the lane, or the lane has to ask about it before it goes the other way.
bool Forwarder::GoesInLane(const Stream& stream, const spool::EntryView& next) const {
  if (context_.lane == nullptr || stream.next < stream.tried) return false;
  return stream.in_lane || context_.lane->Takes(next) || !stream.left_out.empty();
}

// Whether there is a mark, and nobody can say any more what came in transactions.
bool Forwarder::IsMarkedInVain(const Stream& stream) {
  return context_.lane != nullptr && stream.in_lane &&
         (*stream.in_lane != ClusterTag(CurrentCluster().id) ||
          TransactionsOf(CurrentCluster()) == TierTransactions::kNone);
}

void Forwarder::TellUnknowable(const Stream& stream) {
  // Of another cluster there is nothing to know.
  if (*stream.in_lane != ClusterTag(CurrentCluster().id)) return;
  base::Log(base::Event::kArrivalUnknown, {"forward", StreamName(stream.topic, stream.partition)},
            "the tier has no transactions any more, and does not tell what arrived in them; "
            "sending again may duplicate records");
  context_.metrics.forward_errors.With("unknowable").Add();
}

// Durably, before anything goes: what went after it is not the lane's to ask about.
void Forwarder::DropMark(Stream& stream) {
  stream.in_lane.reset();
  log_.Note(StreamKey(kInLanePrefix, stream.id), std::nullopt);
  AwaitRecord(stream);
}

// Otherwise the lane would ask for ever a tier that has no transactions any more.
void Forwarder::TakeBackMarked() {
  if (context_.lane == nullptr || TransactionsOf(CurrentCluster()) != TierTransactions::kNone) {
    return;
  }
  for (auto& [id, stream] : streams_) {
    if (stream->phase == Phase::kInLane && stream->in_lane) context_.lane->Release(stream->id);
  }
}

void Forwarder::MarkInLane(const std::vector<spool::StreamId>& ids, base::Task done) {
  const uint32_t tag = ClusterTag(CurrentCluster().id);
  bool any = false;
  for (const spool::StreamId id : ids) {
    Stream& stream = *streams_.at(id.value());
    if (std::exchange(stream.in_lane, tag) == tag) continue;
    log_.Note(StreamKey(kInLanePrefix, id), SerializeClusterTag(tag));
    any = true;
  }
  if (!any) return done();
  log_.Flush(std::move(done));
}

void Forwarder::CloseJournal() {
  WriteJournal(/*all=*/true);
  for (auto& [id, stream] : streams_) {
    if (stream->phase != Phase::kInLane || !context_.lane->IsSettled(stream->id)) continue;
    if (std::exchange(stream->in_lane, std::nullopt)) Forget(StreamKey(kInLanePrefix, stream->id));
  }
}

void Forwarder::OnLeftLane(spool::StreamId id, bool settled) {
  Stream& stream = *streams_.at(id.value());
  if (settled && stream.in_lane) {
    stream.in_lane.reset();
    Forget(StreamKey(kInLanePrefix, id));
  }
  log_.Note(stream.id, stream.record);
  log_.Flush([this, &stream] {
    stream.phase = Phase::kReady;
    stream.end = context_.spool.Range(stream.id).end;
    // It may have been wanted for this, and goes back now.
    DropExpired(stream);
    for (const auto& [topic, bytes] : std::exchange(room_wanted_, {})) MakeRoom(topic, bytes);
    Step(stream);
  });
}

void Forwarder::OnTransacted(spool::StreamId id, int64_t end, int64_t tier_offset) {
  Stream& stream = *streams_.at(id.value());
  if (end <= stream.record.confirmed) return;
  // These records have taken no sequence number.
  stream.record.identity.base_ordinal += end - stream.record.confirmed;
  Confirm(stream, end, tier_offset);
  stream.next = stream.rewind = stream.record.confirmed;
}

void Forwarder::OnLaneTrouble(spool::StreamId id, std::string trouble, bool parked) {
  Stream& stream = *streams_.at(id.value());
  stream.trouble = std::move(trouble);
  if (std::exchange(stream.lane_parked, parked) || !parked) return;
  TellParked(stream);
}

}  // namespace holdfast::agent
