#include "agent/forwarder.h"

#include <algorithm>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "kafka/api/init_producer_id.h"
#include "proxy/backoff.h"

namespace holdfast::agent {
namespace {

using base::LogLevel;
using kafka::ErrorCode;

constexpr uint32_t kAttemptsUntilWarning = 3;

}  // namespace

Forwarder::Forwarder(Context context, const Options& options, const KeptState& kept, uint64_t seed)
    : context_(context),
      options_(options),
      kept_(kept.forward),
      kept_drops_(kept.drops),
      kept_left_out_(kept.left_out),
      kept_in_lane_(kept.in_lane),
      bytes_per_second_max_(options.bytes_per_second_max),
      schedule_(options.schedule),
      high_priority_always_(options.high_priority_always),
      expiration_ms_(2 * options.fresh_for.count()),
      producer_(kept.upstream),
      random_(seed),
      log_(context.spool, context.loop, context.records, options.record_interval),
      journal_(kept.journal, options.journal_bytes_max),
      reconciler_(context.tier),
      self_(std::make_shared<Forwarder*>(this)) {
  if (context_.lane != nullptr) context_.lane->SetHost(this);
}

Forwarder::~Forwarder() { *self_ = nullptr; }

void Forwarder::Start() {
  FollowSchedule();
  for (const auto& [name, id] : context_.spool.Streams()) Add(id, name);
  Measure();
}

void Forwarder::Stop() { stopped_ = true; }

void Forwarder::Add(spool::StreamId id, std::string_view name) {
  const auto parsed = ParseStreamName(name);
  if (!parsed) return AddNameless(id, name);
  if (streams_.contains(id.value())) return;
  auto stream = std::make_unique<Stream>();
  stream->id = id;
  stream->topic = parsed->first;
  stream->partition = parsed->second;
  const spool::OffsetRange range = context_.spool.Range(id);
  if (const auto kept = kept_.extract(id.value()); !kept.empty()) stream->record = kept.mapped();
  // But for damage, only `holdfast spool drop` takes records away and leaves the cursor.
  const bool dropped_by_hand = stream->record.confirmed < range.start;
  stream->record.confirmed = std::max(stream->record.confirmed, range.start);
  stream->end = range.end;
  stream->next = stream->rewind = stream->record.confirmed;
  if (const auto in_lane = kept_in_lane_.extract(id.value()); !in_lane.empty()) {
    stream->in_lane = in_lane.mapped();
  }
  // The cursor is written down late: what lies behind it may have been sent.
  // A mark of the same cluster says that it went in transactions: the lane will ask.
  stream->doubt = stream->record.identity.known() && stream->next < stream->end &&
                  stream->in_lane != stream->record.identity.cluster_tag;
  stream->policy = policies_->ForTopic(stream->topic);
  if (auto drops = kept_drops_.extract(id.value()); !drops.empty()) {
    stream->drops = std::move(drops.mapped());
    TellGone(*stream);
  }
  if (auto left_out = kept_left_out_.extract(id.value()); !left_out.empty()) {
    stream->left_out = std::move(left_out.mapped());
    PassLeftOut(*stream, stream->record.confirmed);
  }
  const bool leaves_gap = dropped_by_hand || stream->drops.LeaveGapAt(stream->record.confirmed);
  if (stream->record.identity.known() && leaves_gap) {
    (stream->doubt ? stream->gap : stream->new_epoch) = true;
  }
  if (context_.acks != nullptr) context_.acks->OnConfirmed(id, stream->record.confirmed, -1);
  stream->taken_up = stream->doubt;
  if (stream->doubt) stream->tried = stream->end;
  Stream& added = *stream;
  streams_[id.value()] = std::move(stream);
  // All that went has been confirmed: there is nothing to ask.
  if (added.in_lane && added.next >= added.end) return DropMark(added);
  Step(added);
}

// Whose they are nobody can say, so nothing of them can be delivered: they are listed until a
// person has looked, as what waits; nothing is given up. No more come.
void Forwarder::AddNameless(spool::StreamId id, std::string_view name) {
  const spool::OffsetRange range = context_.spool.Range(id);
  if (range.start >= range.end || nameless_.contains(id.value())) return;
  if (name != spool::LostStreamName(id)) return;
  CommitPoint point{.stream = std::string(name),
                    .confirmed = range.start,
                    .end = range.end,
                    .oldest_ms = context_.loop.WallClockMs(),
                    .trouble = "the spool has lost the partition's name (HF2110)"};
  if (const auto sound = context_.spool.NextReadable(id, range.start); sound) {
    const auto first = context_.spool.Read(id, *sound, 1);
    if (first && !first->empty()) point.oldest_ms = first->entries().front().info.commit_time_ms;
    // Of what is lost before it nobody can say when that was.
    if (*sound == range.start) point.complete_until_ms = point.oldest_ms;
  }
  nameless_.emplace(id.value(), std::move(point));
}

void Forwarder::NoteDurable(std::span<const spool::StreamId> streams) {
  bool post = false;
  {
    base::MutexLock lock(mutex_);
    post = news_.empty();
    news_.insert(news_.end(), streams.begin(), streams.end());
  }
  if (!post) return;
  context_.loop.Post([self = std::weak_ptr<Forwarder*>(self_)] {
    const auto alive = self.lock();
    if (alive && *alive != nullptr) (*alive)->TakeNews();
  });
}

void Forwarder::TakeNews() {
  std::vector<spool::StreamId> news;
  {
    base::MutexLock lock(mutex_);
    news = std::exchange(news_, {});
  }
  std::ranges::sort(news);
  const auto repeated = std::ranges::unique(news);
  news.erase(repeated.begin(), repeated.end());
  bool unknown = false;
  for (const spool::StreamId id : news) {
    const auto found = streams_.find(id.value());
    if (found == streams_.end()) {
      unknown = true;
      continue;
    }
    found->second->end = context_.spool.Range(id).end;
    if (found->second->phase == Phase::kInLane) {
      context_.lane->Wake();
    } else {
      Step(*found->second);
    }
  }
  if (unknown) {
    for (const auto& [name, id] : context_.spool.Streams()) Add(id, name);
  }
}

const proxy::Cluster& Forwarder::CurrentCluster() {
  // Version first: a change in between is then seen next time.
  if (const uint64_t version = context_.cache.version(); version != cluster_version_) {
    cluster_version_ = version;
    cluster_ = context_.cache.cluster();
  }
  return *cluster_;
}

// The only place that decides what a stream does next.
void Forwarder::Step(Stream& stream) {
  if (stopped_ || stream.phase != Phase::kReady || stream.queued || stream.failed) return;
  if (!KnowsTier()) return;
  PassOver(stream);
  if (stream.next >= stream.end || Held(stream)) return;
  if (stream.for_lane) {
    if (!stream.flights.empty()) return;
    stream.for_lane = false;
    // Otherwise what was in flight failed, and comes first again, the way that it was sent before:
    // the tier's leader may have it, and recognises it only so.
    if (stream.next == stream.record.confirmed && stream.next >= stream.tried && !stream.doubt) {
      if (stream.next >= std::exchange(stream.late, 0)) return EnterLane(stream);
      // What comes next outside of the lane would have the sequences of these.
      stream.new_epoch = true;
    }
  }
  const int32_t leader = CurrentCluster().LeaderOf(stream.topic, stream.partition);
  if (leader == proxy::kNoNode) {
    context_.tier.RefreshMetadata(stream.topic);
    // While the tier is away there is nothing to ask, and metadata wakes the stream.
    if (!context_.tier.Ready(proxy::kAnyNode)) return;
    Backoff(stream, "the tier has no leader for this partition, or not the partition");
    stream.no_leader = true;
    return;
  }
  // The flights' answers, or the node, or metadata about another one, lead back here.
  if (!stream.flights.empty() && stream.node != leader) return;
  if (!stream.flights.empty() && (MadeAnew(stream) || ToOtherCluster(stream))) return;
  if (!context_.tier.Ready(leader)) return;
  if (!HaveProducer()) return AskProducer();
  if (ToOtherCluster(stream)) {
    base::Log(base::Event::kOtherCluster, {"forward", StreamName(stream.topic, stream.partition)},
              "the tier is another cluster now; what it got before is not asked about");
    stream.record = {.confirmed = stream.record.confirmed};
    stream.doubt = stream.read_back = stream.new_epoch = false;
    stream.tried = stream.record.confirmed;
    stream.unexplained = {};
  }
  TakeTopicId(stream);
  stream.node = leader;
  if (stream.doubt) return Reconcile(stream);
  if (!stream.pieces.empty() && stream.pieces.front().poison()) return SetAside(stream);
  if (!stream.record.identity.known() || stream.new_epoch) return Renew(stream);
  if (stream.flights.size() < Window(stream)) Enqueue(stream, leader);
}

void Forwarder::StepAll() {
  for (auto& [id, stream] : streams_) Step(*stream);
}

// More than one batch in flight is safe only while the tier certainly remembers the producer: it
// takes any sequence from one that it does not know, so that a batch could overtake one that was
// refused.
size_t Forwarder::Window(const Stream& stream) const {
  if (!stream.pieces.empty()) return 1;
  return IsFresh(stream.newest_ms) ? kWindow : 1;
}

// Whether the tier will remember the producer of a batch of that time for a good while.
bool Forwarder::IsFresh(int64_t timestamp_ms) const {
  return context_.loop.WallClockMs() - timestamp_ms < expiration_ms_ / 2;
}

void Forwarder::OnExpiration(int64_t expiration_ms) {
  expiration_ms_ = std::min<int64_t>(expiration_ms, 2 * options_.fresh_for.count());
}

// What went out under its identity went to a cluster that is not the tier any more.
bool Forwarder::ToOtherCluster(const Stream& stream) {
  const Identity& identity = stream.record.identity;
  return identity.known() && identity.cluster_tag != ClusterTag(CurrentCluster().id);
}

bool Forwarder::HaveProducer() {
  const proxy::Cluster& cluster = CurrentCluster();
  return producer_.id != kafka::kNoProducerId && producer_.cluster_tag == ClusterTag(cluster.id);
}

void Forwarder::AskProducer() {
  if (asking_producer_ || !context_.tier.Ready(proxy::kAnyNode)) return;
  asking_producer_ = true;
  context_.tier.Call(
      proxy::kAnyNode, kafka::InitProducerIdRequest(),
      [this](base::Result<kafka::InitProducerIdResponse> response) {
        if (!response) return AskProducerLater(response.error().message);
        if (response->error_code != ErrorCode::kNone) {
          return AskProducerLater(kafka::ErrorName(response->error_code));
        }
        TakeProducer({.id = response->producer_id, .cluster_tag = ClusterTag(CurrentCluster().id)});
      });
}

void Forwarder::AskProducerLater(std::string_view why) {
  if (producer_attempts_ == kAttemptsUntilWarning)
    base::Log(base::Event::kNoProducerId, "forward",
              "no producer id from the tier, so nothing is delivered: {}", why);
  else
    base::Log(LogLevel::kDebug, "forward", "no producer id from the tier: {}", why);
  const base::Duration wait =
      proxy::Backoff(options_.backoff_min, options_.backoff_max, producer_attempts_++, random_);
  producer_timer_ = context_.loop.After(wait, [this] {
    asking_producer_ = false;
    StepAll();
  });
}

// Written down before it is used.
void Forwarder::TakeProducer(const UpstreamProducer& producer) {
  log_.Note(std::string(kUpstreamKey), producer.Serialize());
  log_.Flush([this, producer] {
    producer_ = producer;
    producer_attempts_ = 0;
    asking_producer_ = false;
    StepAll();
  });
}

void Forwarder::Confirm(Stream& stream, int64_t end, int64_t tier_offset, const Flight* flight) {
  if (end <= stream.record.confirmed) return;
  Release release;
  if (flight != nullptr && flight->whole && flight->base == stream.record.confirmed) {
    release.Add(flight->owner, flight->bytes);
  } else {
    release = ReleaseOf(context_.spool, stream.id, stream.record.confirmed, end);
  }
  Delivery delivery = std::exchange(stream.ahead, {});
  delivery.stream = stream.id;
  delivery.begin = stream.record.confirmed;
  delivery.end = end;
  delivery.node = stream.node;
  delivery.confirmed_ms = delivery.last_ms = delivery.sent_ms = context_.loop.WallClockMs();
  if (flight != nullptr) {
    // Others may have written between this batch and what the tier had before.
    if (tier_offset >= 0 && flight->base == delivery.begin)
      delivery.tier_begin = tier_offset - (end - delivery.begin);
    delivery.sent_ms = flight->sent_ms;
    if (end <= stream.recognised) delivery.proof = DeliveryProof::kRecognised;
  } else {
    delivery.proof =
        stream.phase == Phase::kInLane ? DeliveryProof::kTransaction : DeliveryProof::kReadBack;
  }
  journal_.Add(delivery);
  const int64_t left_out = PassLeftOut(stream, end);
  context_.metrics.forwarded_records.Add(
      static_cast<uint64_t>(end - stream.record.confirmed - left_out));
  // What is released is whole batches, also if this is a piece of one.
  context_.metrics.forwarded_bytes.Add(flight != nullptr ? flight->bytes : release.bytes);
  stream.record.confirmed = end;
  if (tier_offset >= 0) stream.record.tier_offset = tier_offset;
  stream.rewind = std::max(stream.rewind, end);
  DropPieces(stream);
  stream.attempts = 0;
  stream.lane_parked = false;
  stream.trouble.clear();
  log_.Note(stream.id, stream.record, release);
  if (context_.acks != nullptr) context_.acks->OnConfirmed(stream.id, end, tier_offset);
}

void Forwarder::OnNodeReady(int32_t node) {
  StepAll();
  TakeBackMarked();
  if (context_.lane != nullptr && KnowsTier()) context_.lane->Wake();
  PostPump(node);
}

void Forwarder::OnNodeLost(int32_t node) {
  const auto lane = lanes_.find(node);
  if (lane == lanes_.end()) return;
  for (Stream* stream : lane->second.ready.Clear()) stream->queued = false;
}

void Forwarder::OnMetadata() {
  if (options_.cluster_tag) {
    tier_is_known_ = ClusterTag(CurrentCluster().id) == options_.cluster_tag;
    other_cluster_ = tier_is_known_ ? "" : CurrentCluster().id;
  }
  if (!KnowsTier()) return;
  for (auto& [id, stream] : streams_) {
    if (stream->phase == Phase::kBackoff && stream->no_leader &&
        CurrentCluster().LeaderOf(stream->topic, stream->partition) != proxy::kNoNode) {
      stream->timer.Cancel();
      stream->phase = Phase::kReady;
    }
    Step(*stream);
  }
  TakeBackMarked();
  if (context_.lane != nullptr) context_.lane->Wake();
}

}  // namespace holdfast::agent
