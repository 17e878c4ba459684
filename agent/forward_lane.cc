// The part of agent/forwarder.h that hands streams to the lane of transactions and takes them
// back.
#include <utility>

#include "agent/forwarder.h"

namespace holdfast::agent {

// What the lane confirms is not of the identity's sequence numbers, so both ways out of here and
// back are durable before anything is sent: the cursor then says which of them a batch went.
void Forwarder::EnterLane(Stream& stream) {
  stream.phase = Phase::kInLane;
  log_.Note(stream.id, stream.record);
  log_.Flush([this, &stream] {
    context_.lane->Enter(stream.id, stream.topic, stream.partition, stream.record.confirmed,
                         stream.left_out);
  });
}

void Forwarder::OnLeftLane(spool::StreamId id) {
  Stream& stream = *streams_.at(id.value());
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

void Forwarder::OnLaneTrouble(spool::StreamId id, std::string trouble) {
  streams_.at(id.value())->trouble = std::move(trouble);
}

}  // namespace holdfast::agent
