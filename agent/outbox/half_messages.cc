#include "agent/outbox/half_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "agent/forward_state.h"
#include "base/endian.h"
#include "base/event.h"
#include "base/log.h"
#include "base/random.h"
#include "kafka/record_batch_builder.h"
#include "kafka/record_reader.h"
#include "kafka/topic_name.h"
#include "proxy/record_rules.h"

namespace holdfast::outbox {
namespace {

using base::Code;
using base::LogLevel;
using base::Result;
using base::Unexpected;
using net::AdminReply;
using net::AdminRequest;
using net::AdminResponse;
using nlohmann::json;

constexpr char kFormat = 1;
constexpr std::string_view kHeaderPrefix = "header.";
constexpr size_t kUrlBytesMax = 2000;
// Each may hang for as long as a question may take: who comes behind them waits for so many.
constexpr size_t kAskedAtOnce = 16;

constexpr int kCreated = 201;
constexpr int kBadRequest = 400;
constexpr int kNotFound = 404;
constexpr int kConflict = 409;
constexpr int kUnavailable = 503;

std::string KeyOf(std::string_view id) { return std::string(agent::kHalfPrefix) + std::string(id); }

std::string NewId() {
  base::Random random = base::Random::FromSystem();
  base::Random other = base::Random::FromSystem();  // Each has a seed of 64 bits.
  return fmt::format("{:016x}{:016x}", random(), other());
}

void AppendText(std::string_view text, std::string* out) {
  std::array<char, sizeof(uint16_t)> length{};
  base::StoreLittle(length.data(), static_cast<uint16_t>(text.size()));
  out->append(length.data(), length.size());
  out->append(text);
}

bool TakeText(std::string_view* bytes, std::string* text) {
  if (bytes->size() < sizeof(uint16_t)) return false;
  const auto length = base::LoadLittle<uint16_t>(bytes->data());
  bytes->remove_prefix(sizeof(uint16_t));
  if (bytes->size() < length) return false;
  *text = bytes->substr(0, length);
  bytes->remove_prefix(length);
  return true;
}

std::optional<std::string> ParameterOf(const AdminRequest& request, const std::string& name) {
  const auto found = request.query.find(name);
  return found == request.query.end() ? std::nullopt : std::optional(found->second);
}

std::string BatchOf(const AdminRequest& request, int64_t now_ms) {
  const std::optional<std::string> key = ParameterOf(request, "key");
  std::vector<kafka::RecordHeader> headers;
  for (const auto& [name, value] : request.query) {
    if (name.starts_with(kHeaderPrefix))
      headers.push_back({std::string_view(name).substr(kHeaderPrefix.size()), value});
  }
  kafka::RecordBatchBuilder builder({});
  builder.Add({.timestamp = now_ms,
               .key = key ? std::optional<std::string_view>(*key) : std::nullopt,
               .value = request.body,
               .headers = headers});
  return std::move(builder).Build();
}

int32_t PartitionFor(std::string_view batch, int32_t partitions) {
  const kafka::RecordBatchView view(batch);
  const auto records = kafka::UncompressedRecords::Of(view);
  kafka::Record record;
  if (records && kafka::RecordReader(view.header(), records->bytes()).Next(&record)) {
    if (const auto partition =
            kafka::PartitionOf(kafka::Partitioner::kMurmur2, record.key, partitions)) {
      return *partition;
    }
  }
  return static_cast<int32_t>(base::Random::FromSystem().Below(partitions));
}

}  // namespace

std::string HalfMessages::Encode(const Message& message) {
  std::string bytes(2 + sizeof(int64_t), kFormat);
  bytes[1] = message.parked ? 1 : 0;
  base::StoreLittle(bytes.data() + 2, message.prepared_ms);
  AppendText(message.topic, &bytes);
  AppendText(message.check_url, &bytes);
  return bytes + message.batch;
}

Result<HalfMessages::Message> HalfMessages::Decode(std::string_view bytes) {
  Message message;
  constexpr size_t kFixed = 2 + sizeof(int64_t);
  if (bytes.size() < kFixed || bytes[0] != kFormat)
    return Unexpected(Code::kCorrupt, "not a half message");
  message.parked = bytes[1] != 0;
  message.prepared_ms = base::LoadLittle<int64_t>(bytes.data() + 2);
  bytes.remove_prefix(kFixed);
  if (!TakeText(&bytes, &message.topic) || !TakeText(&bytes, &message.check_url))
    return Unexpected(Code::kCorrupt, "not a half message");
  message.batch = bytes;
  return message;
}

HalfMessages::HalfMessages(Context context, Options options,
                           const std::map<std::string, std::string, std::less<>>& kept)
    : context_(std::move(context)),
      options_(std::move(options)),
      self_(std::make_shared<HalfMessages*>(this)) {
  for (const auto& [key, value] : kept) {
    const std::string id = key.substr(agent::kHalfPrefix.size());
    auto message = Decode(value);
    if (!message) {
      base::Log(base::Event::kHalfMessageUnreadable, {"half", id}, "{}", message.error().message);
      continue;
    }
    bytes_ += message->batch.size();
    Schedule(*message);
    messages_[id] = *std::move(message);
  }
  ShowCounts();
  PlanChecks();
}

HalfMessages::~HalfMessages() { *self_ = nullptr; }

std::vector<net::AdminRoute> HalfMessages::Routes() {
  std::vector<net::AdminRoute> routes;
  routes.push_back(PostRoute("/half/prepare",
                             "?topic=T&check_url=URL[&key=K][&header.NAME=V]: a half message, its "
                             "payload as body",
                             &HalfMessages::Prepare));
  routes.push_back(
      PostRoute("/half/commit", "?id=ID: sends a half message", &HalfMessages::Commit));
  routes.push_back(
      PostRoute("/half/rollback", "?id=ID: forgets a half message", &HalfMessages::RollBack));
  routes.push_back({.method = net::HttpMethod::kGet,
                    .path = "/half",
                    .help = "half messages that are not resolved, as JSON",
                    .deferred = [&loop = context_.loop, self = std::weak_ptr<HalfMessages*>(self_)](
                                    const AdminRequest&, AdminReply reply) {
                      loop.Post([self, reply = std::move(reply)]() mutable {
                        const auto alive = self.lock();
                        if (!alive || *alive == nullptr) return reply({.status = kUnavailable});
                        reply({.content_type = "application/json", .body = (*alive)->List()});
                      });
                    }});
  return routes;
}

net::AdminRoute HalfMessages::PostRoute(std::string path, std::string help,
                                        void (HalfMessages::*handle)(const AdminRequest&,
                                                                     AdminReply)) {
  return {.method = net::HttpMethod::kPost,
          .path = std::move(path),
          .help = std::move(help),
          .deferred = [&loop = context_.loop, self = std::weak_ptr<HalfMessages*>(self_), handle](
                          const AdminRequest& request, AdminReply reply) {
            loop.Post([self, handle, request, reply = std::move(reply)]() mutable {
              const auto alive = self.lock();
              if (!alive || *alive == nullptr)
                return reply({.status = kUnavailable, .body = "the agent stops\n"});
              ((*alive)->*handle)(request, std::move(reply));
            });
          }};
}

// `http://127.0.0.1` allows `http://127.0.0.1:80/x` and not `http://127.0.0.1.example.com`, nor
// `http://127.0.0.1:x@example.com`, where what looks like a host is a user.
bool HalfMessages::MayAsk(std::string_view url) const {
  if (url.size() > kUrlBytesMax) return false;
  return std::ranges::any_of(options_.check_urls, [url](std::string_view allowed) {
    if (!url.starts_with(allowed)) return false;
    const std::string_view rest = url.substr(allowed.size());
    if (rest.empty() || allowed.ends_with('/') || rest[0] == '/' || rest[0] == '?') return true;
    if (rest[0] != ':') return false;
    const size_t end_of_port = rest.find_first_not_of("0123456789", 1);
    return end_of_port == std::string_view::npos || rest[end_of_port] == '/' ||
           rest[end_of_port] == '?';
  });
}

void HalfMessages::Prepare(const AdminRequest& request, AdminReply reply) {
  Message message{.topic = ParameterOf(request, "topic").value_or(""),
                  .check_url = ParameterOf(request, "check_url").value_or(""),
                  .prepared_ms = context_.loop.WallClockMs()};
  if (!kafka::ValidTopicName(message.topic))
    return reply({.status = kBadRequest, .body = "topic: missing, or no name for a topic\n"});
  if (!MayAsk(message.check_url)) {
    return reply({.status = kBadRequest,
                  .body = "check_url: missing, or not one that agent.half_messages.check_urls "
                          "allows\n"});
  }
  message.batch = BatchOf(request, message.prepared_ms);
  const proxy::ClusterPtr cluster = context_.cache.cluster();
  const proxy::Topic* const topic = cluster->FindTopic(message.topic);
  if (topic == nullptr) context_.want_topic(message.topic);
  if (topic != nullptr && topic->internal)
    return reply({.status = kBadRequest, .body = "topic: the tier's own\n"});
  const proxy::TopicSettings settings =
      topic != nullptr && topic->settings
          ? *topic->settings
          : proxy::TopicSettings{.max_message_bytes = options_.batch_bytes_max};
  const auto verdict =
      proxy::CheckForTopic(message.batch, settings, message.prepared_ms, /*zstd_allowed=*/true);
  if (!verdict.ok()) return reply({.status = kBadRequest, .body = verdict.message + "\n"});
  if (messages_.size() >= options_.count_max ||
      bytes_ + message.batch.size() > options_.bytes_max) {
    return reply({.status = kUnavailable, .body = "too many half messages are not resolved yet\n"});
  }
  const std::string id = NewId();
  bytes_ += message.batch.size();
  agent::NotedAppend append{.key = KeyOf(id), .note = Encode(message)};
  Append(std::move(append), [this, id, message = std::move(message),
                             reply = std::move(reply)](const Result<>& result) mutable {
    if (!result) {
      bytes_ -= message.batch.size();
      return reply({.status = kUnavailable, .body = result.error().message + "\n"});
    }
    Schedule(message);
    messages_[id] = std::move(message);
    ShowCounts();
    PlanChecks();
    reply({.status = kCreated,
           .content_type = "application/json",
           .body = json{{"id", id}}.dump() + "\n"});
  });
}

void HalfMessages::Commit(const AdminRequest& request, AdminReply reply) {
  Resolve(ParameterOf(request, "id").value_or(""), Outcome::kCommitted, std::move(reply));
}

void HalfMessages::RollBack(const AdminRequest& request, AdminReply reply) {
  Resolve(ParameterOf(request, "id").value_or(""), Outcome::kRolledBack, std::move(reply));
}

void HalfMessages::Resolve(const std::string& id, Outcome outcome, AdminReply reply) {
  const auto found = messages_.find(id);
  if (found == messages_.end()) {
    const auto known = remembered_.find(id);
    if (known == remembered_.end())
      return reply({.status = kNotFound, .body = "no such half message is open\n"});
    if (known->second == outcome) return reply({.body = "done before\n"});
    return reply({.status = kConflict, .body = "it was resolved otherwise before\n"});
  }
  Message& message = found->second;
  if (message.busy)
    return reply({.status = kConflict, .body = "it is being resolved; ask again\n"});
  agent::NotedAppend append{.client = "half", .key = KeyOf(id), .note = std::nullopt};
  if (outcome == Outcome::kCommitted) {
    const proxy::ClusterPtr cluster = context_.cache.cluster();
    const proxy::Topic* const topic = cluster->FindTopic(message.topic);
    if (topic == nullptr || topic->leaders.empty()) {
      context_.want_topic(message.topic);
      return reply({.status = kUnavailable,
                    .body = "the topic is not known yet; try again, nothing is lost\n"});
    }
    append.batches.push_back(
        {.topic = message.topic,
         .partition = PartitionFor(message.batch, static_cast<int32_t>(topic->leaders.size())),
         .bytes = message.batch});
  }
  message.busy = true;
  Append(std::move(append),
         [this, id, outcome, reply = std::move(reply)](const Result<>& result) mutable {
           OnResolved(id, outcome, result, reply);
         });
}

void HalfMessages::OnResolved(const std::string& id, Outcome outcome, const Result<>& result,
                              AdminReply& reply) {
  const auto found = messages_.find(id);
  if (!result) {
    found->second.busy = false;
    PlanChecks();
    return reply({.status = kUnavailable, .body = result.error().message + "\n"});
  }
  bytes_ -= found->second.batch.size();
  messages_.erase(found);
  Remember(id, outcome);
  context_.metrics.outcomes.With(outcome == Outcome::kCommitted ? "committed" : "rolled_back")
      .Add();
  ShowCounts();
  reply({.body = "done\n"});
}

void HalfMessages::Remember(const std::string& id, Outcome outcome) {
  remembered_[id] = outcome;
  remembered_order_.push_back(id);
  if (remembered_order_.size() <= kRememberedMax) return;
  remembered_.erase(remembered_order_.front());
  remembered_order_.pop_front();
}

std::string HalfMessages::List() const {
  json all = json::array();
  for (const auto& [id, message] : messages_) {
    all.push_back({{"id", id},
                   {"topic", message.topic},
                   {"check_url", message.check_url},
                   {"prepared_ms", message.prepared_ms},
                   {"checks", message.checks},
                   {"parked", message.parked}});
  }
  return json{{"messages", std::move(all)}}.dump(2, ' ', false, json::error_handler_t::replace) +
         "\n";
}

void HalfMessages::Schedule(Message& message) {
  base::Duration delay = options_.check_after;
  for (uint32_t n = 0; n < message.checks && delay < options_.check_after_max; ++n) delay *= 2;
  message.due = context_.loop.Now() + std::min(delay, options_.check_after_max);
}

void HalfMessages::PlanChecks() {
  std::optional<base::TimePoint> next;
  for (const auto& [id, message] : messages_) {
    if (asked_ >= kAskedAtOnce) break;  // The next answer plans anew.
    if (message.parked || message.busy || message.asked) continue;
    if (!next || message.due < *next) next = message.due;
  }
  if (!next) return timer_.Cancel();
  timer_ = context_.loop.After(std::max(*next - context_.loop.Now(), base::Duration::zero()),
                               [this] { CheckDue(); });
}

void HalfMessages::CheckDue() {
  const base::TimePoint now = context_.loop.Now();
  std::vector<Messages::value_type*> due;
  for (auto& one : messages_) {
    const Message& message = one.second;
    if (message.parked || message.busy || message.asked || message.due > now) continue;
    due.push_back(&one);
  }
  // The longest due first: those of a service that hangs are due again before others had a turn.
  const auto end =
      due.begin() + static_cast<ptrdiff_t>(std::min(due.size(), kAskedAtOnce - asked_));
  std::ranges::partial_sort(due, end, {}, [](const auto* one) { return one->second.due; });
  due.erase(end, due.end());
  for (auto* const one : due) {
    auto& [id, message] = *one;
    message.asked = true;
    ++asked_;
    const char first = message.check_url.find('?') == std::string::npos ? '?' : '&';
    context_.asking.Post([&loop = context_.loop, ask = context_.ask,
                          self = std::weak_ptr<HalfMessages*>(self_), id = id,
                          url = fmt::format("{}{}id={}", message.check_url, first, id)] {
      loop.Post([self, id, answer = ask(url)] {
        const auto alive = self.lock();
        if (alive && *alive != nullptr) (*alive)->OnAnswer(id, answer);
      });
    });
  }
  PlanChecks();
}

void HalfMessages::OnAnswer(const std::string& id, const Result<std::string>& answer) {
  --asked_;
  const auto found = messages_.find(id);
  if (found == messages_.end()) return PlanChecks();  // Resolved meanwhile.
  Message& message = found->second;
  message.asked = false;
  if (message.busy) return PlanChecks();
  std::string_view text = answer ? std::string_view(*answer) : std::string_view();
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.remove_suffix(1);
  const bool commit = text == "commit";
  context_.metrics.checks
      .With(commit               ? "commit"
            : text == "rollback" ? "rollback"
            : text == "unknown"  ? "unknown"
                                 : "none")
      .Add();
  if (!answer) base::Log(LogLevel::kDebug, {"half", id}, "{}", answer.error().message);
  ++message.checks;
  Schedule(message);
  if (commit || text == "rollback") {
    // If it does not go now it is asked about again.
    Resolve(id, commit ? Outcome::kCommitted : Outcome::kRolledBack, [](AdminResponse) {});
  } else if (message.checks >= options_.checks_max) {
    Park(id);
  }
  PlanChecks();
}

void HalfMessages::Park(const std::string& id) {
  Message& message = messages_.find(id)->second;
  message.parked = true;
  message.busy = true;
  Append({.key = KeyOf(id), .note = Encode(message)}, [this, id](const Result<>& result) {
    Message& parked = messages_.find(id)->second;
    parked.busy = false;
    parked.parked = result.has_value();
    if (parked.parked) {
      base::Log(base::Event::kHalfMessageParked, {"half", id},
                "for topic {}: after {} questions {} has not said what it is; commit it or "
                "roll it back with `holdfast half`",
                parked.topic, parked.checks, parked.check_url);
      context_.metrics.outcomes.With("parked").Add();
    }
    ShowCounts();
    PlanChecks();
  });
}

void HalfMessages::ShowCounts() {
  size_t parked = 0;
  for (const auto& [id, message] : messages_) parked += message.parked ? 1 : 0;
  context_.metrics.messages.With("parked").Set(static_cast<double>(parked));
  context_.metrics.messages.With("prepared").Set(static_cast<double>(messages_.size() - parked));
}

void HalfMessages::Append(agent::NotedAppend append, base::UniqueFunction<void(Result<>)> then) {
  context_.append(std::move(append),
                  [&loop = context_.loop, self = std::weak_ptr<HalfMessages*>(self_),
                   then = std::move(then)](agent::NotedOutcome outcome) mutable {
                    loop.Post([self = std::move(self), result = std::move(outcome.result),
                               then = std::move(then)]() mutable {
                      const auto alive = self.lock();
                      if (alive && *alive != nullptr) then(std::move(result));
                    });
                  });
}

}  // namespace holdfast::outbox
