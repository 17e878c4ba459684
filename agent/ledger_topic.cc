#include "agent/ledger_topic.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "kafka/record_batch_builder.h"

namespace holdfast::agent {
namespace {

using nlohmann::json;

constexpr int32_t kPartition = 0;

class LedgerRequest final : public proxy::SinkRequest {
 public:
  using Done = base::UniqueFunction<void(bool stored)>;

  LedgerRequest(std::string topic, std::string batch, Done done)
      : topic_(std::move(topic)), batch_(std::move(batch)), done_(std::move(done)) {
    entries.push_back({.topic = topic_, .partition = kPartition, .batch = batch_});
  }
  void Complete(std::unique_ptr<SinkRequest> /*self*/) override {
    const bool stored = entries[0].error == kafka::ErrorCode::kNone;
    if (!stored) {
      base::Log(base::LogLevel::kDebug, "ledger", "not said this time: {}", entries[0].message);
    }
    done_(stored);
  }

 private:
  const std::string topic_;
  const std::string batch_;
  Done done_;
};

std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

LedgerTopic::LedgerTopic(base::Executor& loop, RecordLog& log, Forwarder& forwarder,
                         Options options)
    : loop_(loop),
      log_(log),
      forwarder_(forwarder),
      options_(std::move(options)),
      own_stream_(StreamName(options_.topic, kPartition)),
      self_(std::make_shared<LedgerTopic*>(this)) {
  timer_ = loop_.After(options_.interval, [this] { Tick(); });
}

LedgerTopic::~LedgerTopic() { *self_ = nullptr; }

void LedgerTopic::Tick() {
  timer_ = loop_.After(options_.interval, [this] { Tick(); });
  const std::shared_ptr<const Ledger> ledger = forwarder_.GetLedger();
  const auto own = std::ranges::find(ledger->streams, own_stream_, &CommitPoint::stream);
  if (appending_ || (own != ledger->streams.end() && own->confirmed < own->end)) return;
  Say(*ledger);
}

void LedgerTopic::Say(const Ledger& ledger) {
  kafka::RecordBatchBuilder batch({});
  const int64_t now_ms = loop_.WallClockMs();
  int64_t complete_until_ms = ledger.measured_ms;
  std::map<std::string, Said> saying;
  const auto behind = std::ranges::upper_bound(ledger.streams, last_, {}, &CommitPoint::stream);
  const size_t first = static_cast<size_t>(behind - ledger.streams.begin());
  for (size_t i = 0; i < ledger.streams.size(); ++i) {
    const CommitPoint& point = ledger.streams[(first + i) % ledger.streams.size()];
    if (point.stream == own_stream_) continue;  // It never is.
    complete_until_ms = std::min(complete_until_ms, point.complete_until_ms);
    const Said now{point.confirmed, point.end};
    if (said_[point.stream] == now || saying.size() == kStreamsAtOnce) continue;
    saying[point.stream] = now;
    last_ = point.stream;
    const std::string key = options_.agent + "/" + point.stream;
    const std::string value = Dump({{"agent", options_.agent},
                                    {"stream", point.stream},
                                    {"measured_ms", ledger.measured_ms},
                                    {"complete_until_ms", point.complete_until_ms},
                                    {"confirmed", point.confirmed},
                                    {"end", point.end},
                                    {"tier_offset", point.tier_offset},
                                    {"dropped_records", point.drops.records()}});
    batch.Add({.timestamp = now_ms, .key = key, .value = value});
  }
  const std::string value = Dump({{"agent", options_.agent},
                                  {"measured_ms", ledger.measured_ms},
                                  {"complete_until_ms", complete_until_ms},
                                  {"dropped_records", ledger.dropped_records}});
  batch.Add({.timestamp = now_ms, .key = options_.agent, .value = value});
  appending_ = true;
  log_.Append(
      std::make_unique<LedgerRequest>(options_.topic, std::move(batch).Build(),
                                      [&loop = loop_, self = std::weak_ptr<LedgerTopic*>(self_),
                                       saying = std::move(saying)](bool stored) mutable {
                                        loop.Post([self, saying = std::move(saying), stored] {
                                          const auto alive = self.lock();
                                          if (alive && *alive != nullptr)
                                            (*alive)->OnSaid(saying, stored);
                                        });
                                      }));
}

void LedgerTopic::OnSaid(const std::map<std::string, Said>& said, bool stored) {
  appending_ = false;
  if (!stored) return;  // Once more, then.
  for (const auto& [stream, point] : said) said_[stream] = point;
}

}  // namespace holdfast::agent
