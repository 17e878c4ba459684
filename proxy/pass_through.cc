#include "proxy/pass_through.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/endian.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/list_transactions.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/produce.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/endpoint_tail.h"
#include "proxy/local_answers.h"
#include "proxy/patience.h"

namespace holdfast::proxy {
namespace {

using kafka::RequestHeader;

// What it takes to finish an answer later, when the connection may be gone.
struct Rewriting {
  FrontDoor& front;
  net::EventLoop& loop;
  LocalAddresses local;
  RequestHeader header;
  base::Buffer frame;
  net::Reply reply;
  bool by_list = false;  // From an address that is set, while no other could be taken.
  bool asked_for_ports = false;
  std::shared_ptr<ShownTopics> shown;  // Null: that does not matter.
  bool of_all_topics = false;
};

void SendRewritten(Rewriting work);

base::Buffer LengthPrefix(size_t frame_bytes) {
  base::Buffer length(kafka::kLengthPrefixBytes);
  base::StoreBig(length.data(), static_cast<int32_t>(frame_bytes));
  return length;
}

// A header that outlives its frame.
RequestHeader WithoutClientId(const RequestHeader& header) {
  RequestHeader kept = header;
  kept.client_id.reset();
  return kept;
}

template <class Response>
void Finish(Rewriting& work, Response& response) {
  work.reply.Send(
      kafka::EncodeResponse(response, work.header.api_version, work.header.correlation_id));
}

// False if brokers are new: their listeners are opened first, and the answer follows.
template <class Response>
bool RewriteAddresses(Rewriting& work, Response& response) {
  std::vector<int32_t> unknown = NodesIn(response);
  std::erase_if(unknown, [&](int32_t node) { return work.local.PortOf(node).has_value(); });
  if (unknown.empty() || work.asked_for_ports) {
    Rewrite(response, work.local);
    return true;
  }
  work.asked_for_ports = true;
  FrontDoor& front = work.front;
  net::EventLoop& loop = work.loop;
  auto later = std::make_unique<Rewriting>(std::move(work));
  front.ports.Request(std::move(unknown), [&loop, later = std::move(later)]() mutable {
    loop.Post([later = std::move(later)] {
      later->local.ports = later->front.ports.Snapshot();
      SendRewritten(std::move(*later));
    });
  });
  return false;
}

void SendMetadata(Rewriting& work) {
  auto response =
      kafka::DecodeResponse<kafka::MetadataResponse>(work.frame.view(), work.header.api_version);
  if (!response) return work.reply.Close(response.error().message);
  if (!work.front.cache.LearnPassing(*response, work.loop.WallClockMs(), work.by_list)) {
    work.front.NoteOtherCluster();
    return work.reply.Close("the broker belongs to another cluster than the tier");
  }
  if (work.shown && !work.asked_for_ports) work.shown->Learn(*response, work.of_all_topics);
  if (!RewriteAddresses(work, *response)) return;
  const ClusterPtr cluster = work.front.cache.cluster();
  FillIn(*response, *cluster, work.front.cache);
  Finish(work, *response);
}

template <class Response>
void SendWithAddresses(Rewriting& work) {
  auto response = kafka::DecodeResponse<Response>(work.frame.view(), work.header.api_version);
  if (!response) return work.reply.Close(response.error().message);
  if (RewriteAddresses(work, *response)) Finish(work, *response);
}

void SendProduce(Rewriting& work) {
  auto response =
      kafka::DecodeResponse<kafka::ProduceResponse>(work.frame.view(), work.header.api_version);
  if (!response) return work.reply.Close(response.error().message);
  if (RewriteAddresses(work, *response)) Finish(work, *response);
}

// The records in front of the addresses go out from where they are.
void SendWithTail(Rewriting& work) {
  auto tail =
      kafka::FindEndpointTail(work.header.api_key, work.header.api_version, work.frame.view());
  if (!tail) return work.reply.Close(tail.error().message);
  if (!RewriteAddresses(work, *tail)) return;
  base::Buffer end = kafka::EncodeEndpointTail(*tail);
  work.frame.Truncate(tail->begin);
  std::vector<base::Buffer> pieces;
  pieces.push_back(LengthPrefix(work.frame.size() + end.size()));
  pieces.push_back(std::move(work.frame));
  pieces.push_back(std::move(end));
  work.reply.Send(std::move(pieces));
}

void SendRewritten(Rewriting work) {
  switch (work.header.api_key) {
    case kafka::MetadataRequest::kApi.key:
      return SendMetadata(work);
    case kafka::FindCoordinatorRequest::kApi.key:
      return SendWithAddresses<kafka::FindCoordinatorResponse>(work);
    case kafka::DescribeClusterRequest::kApi.key:
      return SendWithAddresses<kafka::DescribeClusterResponse>(work);
    case kafka::ProduceRequest::kApi.key:
      return SendProduce(work);
    case kafka::FetchRequest::kApi.key:
    case kafka::kShareFetchKey:
    case kafka::kShareAcknowledgeKey:
      return SendWithTail(work);
    default:
      work.reply.SendBody(std::move(work.frame));
  }
}

constexpr const char* kComeAgain = "the broker behind this port is to be reached elsewhere";

// Not to look refused.
bool IsLogin(const RequestHeader& header) {
  return header.api_key == kafka::SaslHandshakeRequest::kApi.key ||
         header.api_key == kafka::SaslAuthenticateRequest::kApi.key;
}

// Some are answered by any broker, among them the gate's own Metadata.
bool NeedsTheBroker(const RequestHeader& header) {
  switch (header.api_key) {
    case kafka::MetadataRequest::kApi.key:
    case kafka::FindCoordinatorRequest::kApi.key:
    case kafka::DescribeClusterRequest::kApi.key:
      return false;
    default:
      return true;
  }
}

// Whether answers are taken apart and made anew with our addresses.
bool IsMadeAnew(const RequestHeader& header) {
  switch (header.api_key) {
    case kafka::MetadataRequest::kApi.key:
    case kafka::FindCoordinatorRequest::kApi.key:
    case kafka::DescribeClusterRequest::kApi.key:
    case kafka::ProduceRequest::kApi.key:
      return true;
    default:
      return false;
  }
}

// Whether the gate, or what it asks, may look at the answer.
bool IsLookedAt(const RequestHeader& header) {
  switch (header.api_key) {
    case kafka::OffsetCommitRequest::kApi.key:
    case kafka::OffsetFetchRequest::kApi.key:
    case kafka::ListGroupsRequest::kApi.key:
    case kafka::TxnOffsetCommitRequest::kApi.key:
    case kafka::ListTransactionsRequest::kApi.key:
      return true;
    default:
      return false;
  }
}

// Whether an answer carries addresses, so that it has to be rewritten.
bool CarriesAddresses(const RequestHeader& header, std::string_view frame) {
  if (IsMadeAnew(header)) return true;
  if (!kafka::HasEndpointTail(header.api_key, header.api_version)) return false;
  const auto tail = kafka::FindEndpointTail(header.api_key, header.api_version, frame);
  return !tail || !tail->node_endpoints.empty();
}

}  // namespace

PassThrough::PassThrough(FrontDoor& front, net::Connection& connection, int32_t node)
    : front_(front), connection_(connection), node_(node) {}

PassThrough::~PassThrough() {
  if (client_) front_.metrics.proxied_connections.Sub();
  for (Pending& pending : pending_) {
    if (pending.reply) pending.reply.Close("the client is gone");
  }
}

void PassThrough::KeepToShown(bool keep) {
  if (keep == (shown_ != nullptr)) return;
  shown_ = keep ? std::make_shared<ShownTopics>() : nullptr;
}

void PassThrough::ForgetShown() {
  if (shown_) shown_->Forget();
}

void PassThrough::AnswerLocally(std::string_view frame, const RequestHeader& header,
                                net::Reply reply) {
  const ClusterPtr cluster = front_.cache.cluster();
  const LocalAddresses local = front_.AddressesFor(connection_);
  const auto send = [&](const auto& response) {
    reply.Send(kafka::EncodeResponse(response, header.api_version, header.correlation_id));
  };
  const auto refuse = [&](const base::Error& error) { reply.Close(error.message); };
  if (header.api_key == kafka::MetadataRequest::kApi.key) {
    const auto request = kafka::DecodeRequest<kafka::MetadataRequest>(frame, header);
    if (!request) return refuse(request.error());
    const auto shows = [this](std::string_view name) {
      return !shown_ || shown_->Contains(name) || front_.cache.Declared(name) > 0;
    };
    return send(LocalMetadata(*cluster, local, *request, header.api_version, shows));
  }
  if (header.api_key == kafka::FindCoordinatorRequest::kApi.key) {
    const auto request = kafka::DecodeRequest<kafka::FindCoordinatorRequest>(frame, header);
    if (!request) return refuse(request.error());
    return send(LocalFindCoordinator(*request, header.api_version));
  }
  if (header.api_key == kafka::DescribeClusterRequest::kApi.key) {
    const auto request = kafka::DecodeRequest<kafka::DescribeClusterRequest>(frame, header);
    if (!request) return refuse(request.error());
    return send(LocalDescribeCluster(*cluster, local, *request));
  }
  if (header.api_key == kafka::InitProducerIdRequest::kApi.key) return send(LocalInitProducerId());
  if (header.api_key == kafka::PushTelemetryRequest::kApi.key) return send(LocalPushTelemetry());
  send(LocalTelemetrySubscriptions());
}

void PassThrough::Forward(base::Buffer frame, const RequestHeader& header, net::Reply reply) {
  if (LeadsAstray(header)) return reply.Close(kComeAgain);
  Await({.header = WithoutClientId(header),
         .reply = std::move(reply),
         .own_wait = WaitOf(frame.view(), header)});
  Send(std::move(frame));
}

void PassThrough::ForwardUnanswered(base::Buffer frame, const RequestHeader& header,
                                    net::Reply reply) {
  if (LeadsAstray(header)) return reply.Close(kComeAgain);
  reply.SendNothing();
  Send(std::move(frame), /*answered=*/false);
}

void PassThrough::ForwardOrAnswer(base::Buffer frame, const RequestHeader& header,
                                  net::Reply reply) {
  if (LeadsAstray(header)) return reply.Close(kComeAgain);
  Await({.header = header,
         .reply = std::move(reply),
         .question = base::Buffer::Copy(frame.view()),
         .asked = connection_.loop().Now()});
  Send(std::move(frame));
}

void PassThrough::Await(Pending pending) {
  const base::TimePoint now = connection_.loop().Now();
  if (pending_.empty()) silent_since_ = now;
  const base::TimePoint due = pending.question.empty()
                                  ? now + front_.options.answer_within + pending.own_wait
                                  : now + front_.options.local_answer_after;
  pending_.push_back(std::move(pending));
  if (due < watch_due_) WatchAt(due);
}

void PassThrough::Send(base::Buffer frame, bool answered) {
  front_.metrics.proxied_requests.Add();
  if (!client_) Connect();
  if (!client_) return Lose("the broker behind this port is not known");
  client_->SendBody(std::move(frame), answered);
}

void PassThrough::Connect() {
  way_version_ = front_.cache.version();
  const ClusterPtr cluster = front_.cache.cluster();
  way_cluster_ = cluster->confirmed ? cluster->id : "";
  std::optional<FrontDoor::Way> way = front_.WayToTier(node_, connection_.loop().Now());
  if (!way) return;
  way_ = *std::move(way);
  wrong_broker_ = wrong_cluster_ = false;
  reached_ = false;
  answered_in_absence_ = 0;
  front_.metrics.proxied_connections.Add();
  net::FramedClient::Callbacks callbacks;
  callbacks.on_connected = [this] {
    reached_ = true;
    front_.NoteReached(node_, way_);
  };
  callbacks.on_frame = [this](base::Buffer frame) { OnFrame(std::move(frame)); };
  callbacks.takes_pieces = [this](size_t bytes, std::string_view opening) {
    return TakesPieces(bytes, opening);
  };
  callbacks.on_piece = [this](base::Buffer piece, size_t left) { OnPiece(std::move(piece), left); };
  if (connection_.sends_piped()) {
    callbacks.opaque_bytes = [this] { return OpaqueBytes(); };
    callbacks.on_piped = [this](net::Piped piped, size_t) { OnPiped(std::move(piped)); };
  }
  callbacks.on_closed = [this](const base::Error& error) {
    if (error.code == base::Code::kCorrupt)
      base::Log(base::Event::kTierProtocol, {"proxy", way_.to.ToString()}, "{}: {}",
                way_.to.ToString(), error.message);
    // The agent's own connections may be let in where this one is not.
    if (error.code == base::Code::kInvalid)
      base::Log(error.event == base::Event::kNone ? base::Event::kTierTls : error.event,
                {"proxy", way_.to.ToString()}, "what clients ask does not pass: {}", error.message);
    Lose(error.message);
  };
  callbacks.on_output_high = [this] {
    client_paused_ = true;
    connection_.Pause();
  };
  callbacks.on_output_low = [this] {
    client_paused_ = false;
    connection_.Resume();
  };
  const TierSecurity* const security = front_.options.tier_security;
  ++connects_;
  client_ = std::make_unique<TierConnection>(
      TierConnection::Context{connection_.loop(), front_.resolver, front_.net_metrics},
      security ? security->identity() : nullptr,
      net::FramedClient::Options{.peer = way_.to,
                                 .output_bytes_high = kQueueHigh,
                                 .connect_timeout = front_.options.connect_timeout,
                                 .piece_bytes = kPieceBytes},
      std::move(callbacks));
  if (tier_paused_) client_->Pause();
}

// What is wrong stays so, for the connection's life.
void PassThrough::CheckWay() {
  // Version first: a change in between is then seen next time.
  const uint64_t version = front_.cache.version();
  if (version == way_version_ && !way_.detour) return;
  const ClusterPtr cluster = front_.cache.cluster();
  if (cluster->confirmed && way_cluster_.empty()) way_cluster_ = cluster->id;
  wrong_cluster_ |= cluster->confirmed && way_cluster_ != cluster->id;
  const std::optional<FrontDoor::Way> way = front_.WayToTier(node_, connection_.loop().Now());
  // While the right one is avoided it is not known where that is: it is looked at again.
  if (way && way->detour) return;
  way_version_ = version;
  if (!way) return;
  wrong_broker_ |= way->to != way_.to;
  // An address of the list may be that of the right broker.
  way_.detour = wrong_broker_;
}

bool PassThrough::LeadsAstray(const RequestHeader& header) {
  if (!client_ || IsLogin(header)) return false;
  CheckWay();
  return wrong_cluster_ || (wrong_broker_ && NeedsTheBroker(header));
}

bool PassThrough::AnswersTheNext(std::string_view frame) const {
  const base::Result<int32_t> correlation_id = kafka::ReadCorrelationId(frame);
  return correlation_id && !pending_.empty() &&
         pending_.front().header.correlation_id == *correlation_id;
}

void PassThrough::OnFrame(base::Buffer frame) {
  if (!AnswersTheNext(frame.view()))
    return Lose("the tier sent an answer that belongs to no request");
  Pending pending = std::move(pending_.front());
  pending_.pop_front();
  silent_since_ = connection_.loop().Now();
  answered_in_absence_ = front_.cache.absence();
  if (!pending.reply) return;  // Came too late.
  if (!CarriesAddresses(pending.header, frame.view())) {
    return pending.reply.SendBody(std::move(frame));
  }
  SendRewritten({.front = front_,
                 .loop = connection_.loop(),
                 .local = front_.AddressesFor(connection_),
                 .header = pending.header,
                 .frame = std::move(frame),
                 .reply = std::move(pending.reply),
                 .by_list = way_.detour && way_cluster_.empty(),
                 .shown = shown_,
                 .of_all_topics = shown_ && AsksForAllTopics(pending)});
}

bool PassThrough::AsksForAllTopics(const Pending& pending) const {
  if (pending.header.api_key != kafka::MetadataRequest::kApi.key || pending.question.empty())
    return false;
  const auto request =
      kafka::DecodeRequest<kafka::MetadataRequest>(pending.question.view(), pending.header);
  return request && AsksForAll(*request, pending.header.api_version);
}

bool PassThrough::TakesPieces(size_t bytes, std::string_view opening) {
  if (!AnswersTheNext(opening) || !pending_.front().question.empty()) return false;
  const RequestHeader& header = pending_.front().header;
  if (IsMadeAnew(header) || IsLookedAt(header)) return false;
  passing_.emplace();
  passing_->bytes = bytes;
  if (kafka::HasEndpointTail(header.api_key, header.api_version))
    passing_->finder.emplace(header.api_key, header.api_version);
  return true;
}

// The answer's length, for its first piece.
std::vector<base::Buffer> PassThrough::PassingBegin() {
  std::vector<base::Buffer> pieces;
  if (const size_t bytes = std::exchange(passing_->bytes, 0); bytes > 0)
    pieces.push_back(LengthPrefix(bytes));
  return pieces;
}

size_t PassThrough::OpaqueBytes() const {
  return passing_->finder ? passing_->finder->opaque() : std::numeric_limits<size_t>::max();
}

void PassThrough::OnPiped(net::Piped piped) {
  if (passing_->finder) passing_->finder->PassOpaque(piped.bytes);
  pending_.front().reply.SendPart(PassingBegin(), std::move(piped));
}

void PassThrough::OnPiece(base::Buffer piece, size_t left) {
  std::vector<base::Buffer> pieces = PassingBegin();
  if (passing_->finder) {
    const base::Result<size_t> before = passing_->finder->Pass(piece.view());
    if (!before) return Lose(before.error().message);
    passing_->tail += piece.view().substr(*before);
    piece.Truncate(*before);
  }
  pieces.push_back(std::move(piece));
  if (left > 0) return pending_.front().reply.SendPart(std::move(pieces));
  FinishPassing(std::move(pieces));
}

void PassThrough::FinishPassing(std::vector<base::Buffer> pieces) {
  const Passing passing = *std::exchange(passing_, std::nullopt);
  if (passing.finder) {
    auto tail = passing.finder->Decode(passing.tail);
    if (!tail) return Lose(tail.error().message);
    if (tail->node_endpoints.empty()) {
      pieces.push_back(base::Buffer::Copy(passing.tail));
    } else {
      // The client was told the length, so brokers without a port are not waited for.
      const LocalAddresses local = front_.AddressesFor(connection_);
      Rewrite(*tail, local);
      auto end = kafka::EncodeEndpointTail(*std::move(tail), passing.tail.size());
      if (!end) return Lose(end.error().message);
      pieces.push_back(*std::move(end));
    }
  }
  net::Reply reply = std::move(pending_.front().reply);
  pending_.pop_front();
  silent_since_ = connection_.loop().Now();
  answered_in_absence_ = front_.cache.absence();
  reply.Send(std::move(pieces));
}

void PassThrough::Lose(const std::string& why) {
  passing_.reset();
  if (client_) {
    front_.metrics.proxied_connections.Sub();
    if (!reached_) front_.NoteUnreachable(node_, way_, connection_.loop().Now());
  }
  client_.reset();
  base::Log(base::LogLevel::kDebug, "proxy", "lost the way to the tier for {}: {}",
            connection_.peer().ToString(), why);
  for (Pending& pending : std::exchange(pending_, {})) {
    if (!pending.reply) continue;
    if (pending.question.empty()) {
      pending.reply.Close(why);
    } else {
      AnswerFromCache(pending);
    }
  }
  if (std::exchange(client_paused_, false)) connection_.Resume();
}

void PassThrough::WatchAt(base::TimePoint due) {
  watch_due_ = due;
  deadline_timer_ =
      connection_.loop().After(due - connection_.loop().Now(), [this] { CheckDeadlines(); });
}

base::TimePoint PassThrough::SilentSince() const {
  return client_ && client_->connected() ? std::max(silent_since_, client_->last_heard())
                                         : silent_since_;
}

// When the tier has kept silent for too long. Answers come in order, so only the first counts.
base::TimePoint PassThrough::SilenceEnds() const {
  if (pending_.empty() || tier_paused_) return base::TimePoint::max();
  return SilentSince() + front_.options.answer_within + pending_.front().own_wait;
}

void PassThrough::CheckDeadlines() {
  const base::TimePoint now = connection_.loop().Now();
  watch_due_ = base::TimePoint::max();
  base::TimePoint next = SilenceEnds();
  if (next <= now) {
    return Lose(fmt::format("the tier has not answered request {} for {} ms",
                            pending_.front().header.api_key,
                            std::chrono::duration_cast<std::chrono::milliseconds>(
                                front_.options.answer_within + pending_.front().own_wait)
                                .count()));
  }
  base::Duration waits{};  // Of those before it.
  for (Pending& pending : pending_) {
    if (pending.reply && !pending.question.empty()) {
      const base::TimePoint due =
          std::max(pending.asked, SilentSince()) + waits + front_.options.local_answer_after;
      if (due > now) {
        next = std::min(next, due);
        break;
      }
      AnswerFromCache(pending);
    }
    waits += pending.own_wait;
  }
  if (next != base::TimePoint::max()) WatchAt(next);
}

void PassThrough::AnswerFromCache(Pending& pending) {
  AnswerLocally(pending.question.view(), pending.header, std::move(pending.reply));
}

void PassThrough::PauseTier() {
  tier_paused_ = true;
  if (client_) client_->Pause();
}

void PassThrough::ResumeTier() {
  tier_paused_ = false;
  silent_since_ = connection_.loop().Now();
  if (const base::TimePoint due = SilenceEnds(); due < watch_due_) WatchAt(due);
  if (client_) client_->Resume();
}

}  // namespace holdfast::proxy
