#include "proxy/link.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/endian.h"
#include "base/event.h"
#include "base/log.h"
#include "proxy/backoff.h"

namespace holdfast::proxy {
namespace {

using base::Code;
using base::LogLevel;

// In a request frame, behind its length, API key and version.
constexpr size_t kCorrelationIdAt = 8;

std::string_view CauseOf(Code code) {
  if (code == Code::kInvalid) return "security";
  return code == Code::kTimeout ? "connect timeout" : "disconnected";
}

base::Event WhyLost(const base::Error& error) {
  if (error.event != base::Event::kNone) return error.event;
  return error.code == Code::kInvalid ? base::Event::kTierTls : base::Event::kTierUnreachable;
}

}  // namespace

Link::Link(Context context, const Options& options, net::HostPort peer, Callbacks callbacks)
    : context_(context),
      options_(options),
      peer_(std::move(peer)),
      callbacks_(std::move(callbacks)) {
  Connect();
}

Link::~Link() {
  if (client_) context_.metrics.upstream_connections.Sub();
}

void Link::Connect() {
  context_.metrics.upstream_connects.Add();
  context_.metrics.upstream_connections.Add();
  net::FramedClient::Callbacks callbacks;
  callbacks.on_connected = [this] { AskVersions(kafka::ApiVersionsRequest::kApi.newest); };
  callbacks.on_frame = [this](base::Buffer frame) { OnFrame(std::move(frame)); };
  callbacks.on_closed = [this](const base::Error& error) {
    Lose(CauseOf(error.code), error.message, WhyLost(error));
  };
  client_ = std::make_unique<TierConnection>(
      TierConnection::Context{context_.loop, context_.resolver, context_.net_metrics},
      context_.security ? context_.security->identity() : nullptr,
      net::FramedClient::Options{.peer = peer_, .connect_timeout = options_.connect_timeout},
      std::move(callbacks));
}

void Link::AskVersionsAgain(base::Duration after) {
  if (!ready_ || asking_versions_ || context_.loop.Now() - versions_told_ < after) return;
  AskVersions(asked_version_);
}

void Link::AskVersions(int16_t version) {
  asking_versions_ = true;
  const kafka::ApiVersionsRequest request{.client_software_name = "holdfast",
                                          .client_software_version = "1"};
  auto frame = kafka::EncodeRequest(request, version, /*correlation_id=*/0, kClientId);
  if (!frame) return Lose("protocol", frame.error().message, base::Event::kTierProtocol);
  SendRaw(*std::move(frame), [this, version](base::Result<std::string_view> answer) {
    OnVersions(std::move(answer), version);
  });
}

void Link::OnVersions(base::Result<std::string_view> frame, int16_t version) {
  asking_versions_ = false;
  if (!frame) return;  // Lose says the rest.
  versions_ = {};
  versions_frame_ = base::Buffer::Copy(*frame);
  auto versions =
      kafka::DecodeResponse<kafka::ApiVersionsResponse>(versions_frame_.view(), version);
  if (!versions) return Lose("protocol", versions.error().message, base::Event::kTierProtocol);
  if (versions->error_code == kafka::ErrorCode::kUnsupportedVersion && version > 0) {
    // The tier is older than this agent: it names what it knows, or nothing.
    const auto named = std::ranges::find(versions->api_keys, kafka::ApiVersionsRequest::kApi.key,
                                         &kafka::ApiVersionsResponse::ApiVersion::api_key);
    const bool usable = named != versions->api_keys.end() && named->max_version < version;
    return AskVersions(usable ? std::max<int16_t>(named->max_version, 0) : int16_t{0});
  }
  if (versions->error_code != kafka::ErrorCode::kNone) {
    return Lose("protocol",
                fmt::format("{} answers ApiVersions with {}", peer_.ToString(),
                            kafka::ErrorName(versions->error_code)),
                base::Event::kTierProtocol);
  }
  versions_ = *std::move(versions);
  asked_version_ = version;
  versions_told_ = context_.loop.Now();
  if (std::exchange(ready_, true)) {
    if (!abandoned_) callbacks_.on_versions();
    return;
  }
  attempts_ = 0;
  last_trouble_.clear();
  base::Log(LogLevel::kInfo, "upstream", "connected to {}", peer_.ToString());
  if (!abandoned_) callbacks_.on_ready();
}

void Link::Send(base::Buffer frame, Tier::OnAnswer on_answer) {
  HF_CHECK(ready_);
  SendRaw(std::move(frame), std::move(on_answer));
}

void Link::SendRaw(base::Buffer frame, Tier::OnAnswer on_answer) {
  const int32_t correlation_id = next_correlation_id_++ & 0x7fffffff;
  base::StoreBig(frame.data() + kCorrelationIdAt, correlation_id);
  pending_.push_back(
      {correlation_id, context_.loop.Now() + options_.request_timeout, std::move(on_answer)});
  client_->Send(std::move(frame));
  WatchDeadline();
}

void Link::OnFrame(base::Buffer frame) {
  if (abandoned_) return;
  const base::Result<int32_t> correlation_id = kafka::ReadCorrelationId(frame.view());
  if (!correlation_id || pending_.empty() || pending_.front().correlation_id != *correlation_id) {
    return Lose("protocol",
                fmt::format("{} sent an answer that belongs to no request", peer_.ToString()),
                base::Event::kTierProtocol);
  }
  Tier::OnAnswer on_answer = std::move(pending_.front().on_answer);
  pending_.pop_front();
  on_answer(frame.view());
}

// One timer for all: it looks at the oldest request when that of an earlier one would have been
// due.
void Link::WatchDeadline() {
  if (watching_ || pending_.empty()) return;
  watching_ = true;
  deadline_timer_ = context_.loop.After(pending_.front().deadline - context_.loop.Now(), [this] {
    watching_ = false;
    if (pending_.empty() || pending_.front().deadline > context_.loop.Now()) return WatchDeadline();
    Lose("request timeout",
         fmt::format("{} did not answer within {} ms", peer_.ToString(),
                     std::chrono::duration_cast<std::chrono::milliseconds>(options_.request_timeout)
                         .count()),
         base::Event::kTierUnreachable);
  });
}

void Link::Lose(std::string_view cause, std::string_view message, base::Event event) {
  client_.reset();
  context_.metrics.upstream_connections.Sub();
  if (abandoned_) return;
  context_.metrics.upstream_errors.With(cause).Add();
  const bool was_ready = std::exchange(ready_, false);
  const base::Duration wait =
      Backoff(options_.backoff_min, options_.backoff_max, attempts_, context_.random);
  // One line for each reason, not for each attempt.
  const bool news = was_ready || attempts_ == 0 || message != last_trouble_;
  last_trouble_ = message;
  const auto wait_ms = std::chrono::duration_cast<std::chrono::milliseconds>(wait).count();
  if (news)
    base::Log(event, "upstream", "{}; next attempt in {} ms", message, wait_ms);
  else
    base::Log(LogLevel::kDebug, "upstream", "{}; next attempt in {} ms", message, wait_ms);
  ++attempts_;
  deadline_timer_.Cancel();
  watching_ = false;
  retry_timer_ = context_.loop.After(wait, [this] { Connect(); });
  FailPending(Code::kUnavailable, message);
  callbacks_.on_lost();
}

void Link::FailPending(Code code, std::string_view message) {
  for (Pending& pending : std::exchange(pending_, {})) {
    pending.on_answer(base::Unexpected(code, std::string(message)));
  }
}

void Link::Abandon() {
  if (std::exchange(abandoned_, true)) return;
  FailPending(Code::kClosed, "the connection is not needed any more");
}

}  // namespace holdfast::proxy
