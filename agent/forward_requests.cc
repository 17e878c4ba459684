// The part of agent/forwarder.h that sends batches and sorts the answers.
#include <algorithm>
#include <tuple>
#include <utility>

#include "agent/dead_letter.h"
#include "agent/forwarder.h"
#include "agent/produce_request.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/api/produce.h"

namespace holdfast::agent {
using kafka::ErrorCode;

void Forwarder::Enqueue(Stream& stream, int32_t node) {
  stream.queued = true;
  lanes_[node].ready.Push(&stream, stream.policy.priority);
  PostPump(node);
}

// After this turn, so that streams that become ready together go into one request.
void Forwarder::PostPump(int32_t node) {
  Lane& lane = lanes_[node];
  if (std::exchange(lane.pump_posted, true)) return;
  context_.loop.Post([self = std::weak_ptr<Forwarder*>(self_), node] {
    const auto alive = self.lock();
    if (alive && *alive != nullptr) (*alive)->Pump(node);
  });
}

void Forwarder::Pump(int32_t node) {
  Lane& lane = lanes_[node];
  lane.pump_posted = false;
  while (!stopped_ && !lane.ready.empty() && lane.requests < options_.requests_in_flight_max &&
         context_.tier.Ready(node)) {
    if (lane.throttled_until > context_.loop.Now()) {
      lane.throttle = context_.loop.After(lane.throttled_until - context_.loop.Now(),
                                          [this, node] { Pump(node); });
      return;
    }
    if (const base::Duration wait = UplinkWait(); wait > base::Duration::zero()) {
      lane.throttle = context_.loop.After(wait, [this, node] { Pump(node); });
      return;
    }
    if (!SendOne(node, lane)) return;
  }
}

// What the stream sends next: an entry, or of one that the tier refused whole the next piece.
base::Result<Forwarder::Outgoing> Forwarder::TakeOne(Stream& stream) {
  if (stream.next >= stream.end) return Outgoing{.stream = &stream};
  auto lease = context_.spool.ReadSound(stream.id, stream.next, 1);
  if (!lease) return base::Unexpected(std::move(lease).error());
  if (IsLost(lease, stream.next)) {
    return base::Unexpected(base::Code::kCorrupt, "the spool has lost what comes next");
  }
  Outgoing one{.stream = &stream, .lease = *std::move(lease)};
  const spool::EntryView& entry = one.entry();
  one.base = stream.next;
  one.end = entry.info.end_offset();
  if (!stream.pieces.empty()) one.end = std::min(one.end, stream.pieces.front().end);
  if (one.base != entry.info.base_offset || one.end != entry.info.end_offset()) {
    HF_ASSIGN_OR_RETURN(
        one.part, SliceBatch(entry.bytes, static_cast<int32_t>(one.base - entry.info.base_offset),
                             static_cast<int32_t>(one.end - one.base)));
  }
  return one;
}

base::Duration Forwarder::UplinkWait() {
  return Rate() == 0 ? base::Duration::zero() : uplink_.Owed(Rate(), context_.loop.Now());
}

void Forwarder::SetRate(uint64_t bytes_per_second_max) {
  context_.loop.Post([self = std::weak_ptr<Forwarder*>(self_), bytes_per_second_max] {
    const auto alive = self.lock();
    if (!alive || *alive == nullptr) return;
    (*alive)->bytes_per_second_max_ = bytes_per_second_max;
    for (const auto& [node, lane] : (*alive)->lanes_) (*alive)->PostPump(node);
  });
}

// Of the limits that hold now the lowest.
uint64_t Forwarder::Rate() const {
  const uint64_t scheduled = scheduled_.bytes_per_second_max;
  if (bytes_per_second_max_ == 0 || scheduled == 0)
    return std::max(bytes_per_second_max_, scheduled);
  return std::min(bytes_per_second_max_, scheduled);
}

bool Forwarder::Held(const Stream& stream) const {
  return !scheduled_.open &&
         !(high_priority_always_ && stream.policy.priority == TopicPolicy::Priority::kHigh);
}

void Forwarder::SetSchedule(Schedule schedule, bool high_priority_always) {
  context_.loop.Post([self = std::weak_ptr<Forwarder*>(self_), schedule = std::move(schedule),
                      high_priority_always]() mutable {
    const auto alive = self.lock();
    if (!alive || *alive == nullptr) return;
    (*alive)->schedule_ = std::move(schedule);
    (*alive)->high_priority_always_ = high_priority_always;
    (*alive)->FollowSchedule();
  });
}

// What is in flight is not called back.
void Forwarder::FollowSchedule() {
  const int64_t now_ms = context_.loop.WallClockMs();
  const bool was_open = scheduled_.open;
  scheduled_ = schedule_.At(now_ms);
  schedule_changes_ms_ = schedule_.NextChange(now_ms);
  context_.metrics.forward_paused.Set(scheduled_.open ? 0 : 1);
  if (was_open != scheduled_.open) {
    base::Log(base::LogLevel::kInfo, "forward", "{} by agent.upstream.schedule",
              scheduled_.open ? "resumed" : "paused");
  }
  if (context_.lane != nullptr) context_.lane->Hold(!scheduled_.open);
  // Those that are held leave; those that are not, and the lanes, go on.
  for (auto& [node, lane] : lanes_) {
    for (Stream* stream : lane.ready.Clear()) stream->queued = false;
    PostPump(node);
  }
  StepAll();
}

// Under a rate a request is a tenth of a second's worth, so that priorities tell.
size_t Forwarder::RequestBytesMax() const {
  if (Rate() == 0) return options_.request_bytes_max;
  return std::min<size_t>(options_.request_bytes_max, Rate() / 10);
}

// One batch of each ready stream in turn, until the request is full.
std::vector<Forwarder::Outgoing> Forwarder::Gather(int32_t node, Lane& lane) {
  std::vector<Outgoing> gathered;
  size_t bytes = 0;
  lane.ready.BeginRequest();
  for (size_t left = lane.ready.size(); left > 0 && gathered.size() < kRequestBatchesMax; --left) {
    Stream* const next = lane.ready.Front();
    if (next == nullptr) break;
    Stream& stream = *next;
    base::Result<Outgoing> one = TakeOne(stream);
    const size_t size = one && !one->lease.empty() ? one->bytes().size() : 0;
    if (!gathered.empty() && bytes + size > RequestBytesMax()) break;
    lane.ready.PopFront();
    stream.queued = false;
    // Something may have happened since it was put here.
    const bool ready = stream.phase == Phase::kReady && !stream.failed && !stream.doubt &&
                       !stream.new_epoch && !MadeAnew(stream) && !ToOtherCluster(stream);
    if (!ready) {
      Step(stream);
    } else if (CurrentCluster().LeaderOf(stream.topic, stream.partition) != node) {
      Step(stream);
    } else if (!one) {
      OnUnreadable(stream, one.error());
    } else if (size > 0 && IsMarkedInVain(stream)) {
      if (!stream.flights.empty()) continue;  // Their answers lead back here.
      TellUnknowable(stream);
      DropMark(stream);
    } else if (size > 0 && RepeatsBlindly(stream)) {
      if (!stream.flights.empty()) continue;  // Their answers lead back here.
      stream.doubt = stream.read_back = true;
      Step(stream);
    } else if (size > 0 && GoesInLane(stream, one->entry())) {
      stream.for_lane = true;
      Step(stream);
    } else if (size > 0) {
      bytes += size;
      lane.ready.Took(stream.policy.priority, size, one->end < stream.end);
      gathered.push_back(*std::move(one));
    }
  }
  std::ranges::sort(gathered, {}, [](const Outgoing& one) {
    return std::tie(one.stream->topic, one.stream->partition);
  });
  return gathered;
}

// What the spool has lost is given up, once all that was sent before it is answered.
void Forwarder::OnUnreadable(Stream& stream, const base::Error& error) {
  if (error.code != base::Code::kCorrupt) return Park(stream, error.message);
  if (!stream.flights.empty()) return;  // Their answers lead back here.
  // The leader has what comes before it, or it itself.
  if (std::max(stream.next, stream.at_leader) > stream.record.confirmed) {
    stream.doubt = stream.read_back = true;
  } else if (!GiveUpDamaged(stream)) {
    return Backoff(stream, error.message);
  }
  Step(stream);
}

base::Result<base::Buffer> Forwarder::Encode(int16_t version,
                                             const std::vector<Outgoing>& gathered) const {
  std::vector<OutgoingBatch> batches;
  batches.reserve(gathered.size());
  for (const Outgoing& one : gathered) {
    batches.push_back({.topic = one.stream->topic,
                       .partition = one.stream->partition,
                       .bytes = one.bytes(),
                       .producer = one.stream->record.identity.ProducerAt(one.base)});
  }
  const auto timeout =
      std::chrono::duration_cast<std::chrono::milliseconds>(options_.produce_timeout);
  return BuildProduceRequest(batches, version, static_cast<int32_t>(timeout.count()));
}

// False if nothing was sent.
bool Forwarder::SendOne(int32_t node, Lane& lane) {
  std::vector<Outgoing> gathered = Gather(node, lane);
  if (gathered.empty()) return !lane.ready.empty();
  const std::optional<int16_t> version =
      context_.tier.Version(node, kafka::ProduceRequest::kApi, kForwardProduceCap);
  base::Result<base::Buffer> frame = base::Unexpected(
      base::Code::kInvalid, "the tier serves no version of Produce that is known here");
  if (version) frame = Encode(*version, gathered);
  std::vector<Sent> sent;
  size_t bytes = 0;
  const int64_t now_ms = context_.loop.WallClockMs();
  for (const Outgoing& one : gathered) {
    const spool::EntryInfo& info = one.entry().info;
    one.stream->flights.push_back({.base = one.base,
                                   .end = one.end,
                                   .bytes = one.bytes().size(),
                                   .owner = OwnerOfTag(info.tag),
                                   .whole = one.part.empty(),
                                   .commit_ms = info.commit_time_ms,
                                   .sent_ms = now_ms,
                                   .max_timestamp_ms = info.max_timestamp_ms});
    one.stream->next = one.end;
    one.stream->tried = std::max(one.stream->tried, one.end);
    one.stream->taken_up = false;
    sent.push_back({one.stream, one.base});
    bytes += one.bytes().size();
  }
  gathered.clear();  // The bytes are in the frame now.
  if (!frame) {
    base::Log(base::Event::kRequestNotBuilt, "forward", "{}", frame.error().message);
    for (const Sent& one : sent) {
      Settle(*one.stream, one.base, {.error = ErrorCode::kUnsupportedVersion});
    }
    return true;
  }
  ++lane.requests;
  if (Rate() > 0) uplink_.Take(bytes, Rate(), context_.loop.Now());
  context_.metrics.forward_in_flight_bytes.Add(static_cast<double>(bytes));
  auto on_answer = [this, node, sent, bytes, version = *version,
                    begun = context_.loop.Now()](base::Result<std::string_view> answer) mutable {
    if (!answer) {
      return OnAnswer(node, std::move(sent), bytes, begun,
                      base::Unexpected(std::move(answer).error()));
    }
    OnAnswer(node, std::move(sent), bytes, begun,
             kafka::DecodeResponse<kafka::ProduceResponse>(*answer, version));
  };
  context_.tier.Send(node, *std::move(frame), std::move(on_answer));
  // What more they have goes into the next request.
  for (const Sent& one : sent) Step(*one.stream);
  return true;
}

void Forwarder::OnAnswer(int32_t node, std::vector<Sent> sent, size_t bytes, base::TimePoint begun,
                         const base::Result<kafka::ProduceResponse>& response) {
  Lane& lane = lanes_[node];
  --lane.requests;
  metrics::AgentMetrics& metrics = context_.metrics;
  metrics.forward_in_flight_bytes.Sub(static_cast<double>(bytes));
  metrics.forward_seconds.Observe(context_.loop.Now() - begun);
  if (!response) {
    metrics.forward_errors.With("lost answer").Add();
    for (const Sent& one : sent) {
      Settle(*one.stream, one.base, {.error = ErrorCode::kNetworkException, .lost = true});
    }
    return;
  }
  if (response->throttle_time_ms > 0) {
    lane.throttled_until =
        context_.loop.Now() + std::chrono::milliseconds(response->throttle_time_ms);
  }
  // `sent` is sorted by topic and partition; the answer comes in the tier's own order.
  const auto order = [](const Sent& one) {
    return std::tuple<std::string_view, int32_t>(one.stream->topic, one.stream->partition);
  };
  for (const auto& topic : response->responses) {
    for (const auto& partition : topic.partition_responses) {
      const auto found = std::ranges::lower_bound(
          sent, std::tuple<std::string_view, int32_t>(topic.name, partition.index), {}, order);
      if (found == sent.end() || found->stream->topic != topic.name ||
          found->stream->partition != partition.index) {
        continue;
      }
      const int64_t base = std::exchange(found->base, -1);
      if (base < 0) continue;
      Settle(*found->stream, base, AnswerOf(partition));
    }
  }
  for (const Sent& one : sent) {
    if (one.base >= 0) {
      Settle(*one.stream, one.base, {.error = ErrorCode::kUnknownServerError, .lost = true});
    }
  }
  PostPump(node);
}

void Forwarder::Settle(Stream& stream, int64_t base, TierAnswer answer) {
  const auto flight = std::ranges::find(stream.flights, base, &Flight::base);
  HF_CHECK(flight != stream.flights.end());
  flight->answered = true;
  flight->error = answer.error;
  flight->lost = answer.lost;
  flight->outcome = answer.lost ? Outcome::kReconcile : OutcomeOf(answer.error);
  flight->message = std::move(answer.message);
  flight->refused = std::move(answer.refused);
  const int64_t tier_offset = answer.tier_offset;
  if (flight->outcome == Outcome::kDelivered) {
    if (tier_offset >= 0) flight->tier_offset = tier_offset + (flight->end - flight->base);
    // Another log, or a shorter one: has the topic been made anew?
    if (tier_offset >= 0 && tier_offset < stream.record.tier_offset) {
      context_.tier.RefreshMetadata(stream.topic);
    }
  } else {
    stream.failed = true;
    if (!answer.lost) context_.metrics.forward_errors.With(kafka::ErrorName(answer.error)).Add();
    // What follows would wait behind this: local clients are to hear of it.
    if (answer.error == ErrorCode::kTopicAuthorizationFailed) {
      context_.cache.NoteDenied(stream.topic, context_.loop.WallClockMs());
    }
  }
  while (!stream.flights.empty() && stream.flights.front().answered &&
         stream.flights.front().outcome == Outcome::kDelivered) {
    const Flight& done = stream.flights.front();
    Confirm(stream, done.end, done.tier_offset, &done);
    const int64_t now_ms = context_.loop.WallClockMs();
    context_.metrics.spooled_seconds.Observe(static_cast<double>(now_ms - done.commit_ms) / 1000);
    // The tier goes by the last batch.
    stream.newest_ms = done.max_timestamp_ms;
    stream.flights.pop_front();
  }
  const bool drained = std::ranges::all_of(stream.flights, &Flight::answered);
  if (!stream.failed) {
    Step(stream);
  } else if (drained) {
    Recover(stream);
  }
}

}  // namespace holdfast::agent
