#include "agent/outbox/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "kafka/record_batch_builder.h"
#include "kafka/topic_name.h"
#include "proxy/record_rules.h"

namespace holdfast::outbox {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

constexpr std::string_view kIdHeader = "id";
// What a record or a batch is besides its bytes, and each header, at the most.
constexpr size_t kRecordRest = 128;
constexpr size_t kHeaderRest = 16;
// Topics that are waited for.
constexpr size_t kUnknownMax = 10'000;
// A topic that no row named for longer than this, or than the timeout, is waited for anew: nobody
// asks the tier for it meanwhile. Longer than a source is ever away from its rows without trouble.
constexpr base::Duration kNotMetFor = std::chrono::minutes(1);

void AddRecord(const Row& row, bool tombstone_on_empty, int64_t now_ms,
               std::vector<kafka::RecordHeader>* headers, kafka::RecordBatchBuilder* batch) {
  headers->clear();
  headers->push_back({kIdHeader, row.id});
  for (const auto& [name, value] : row.headers) headers->push_back({name, value});
  const bool tombstone = !row.payload || (tombstone_on_empty && row.payload->empty());
  batch->Add({.timestamp = row.timestamp_ms.value_or(now_ms),
              .key = row.key,
              .value = tombstone ? std::nullopt : std::optional<std::string_view>(*row.payload),
              .headers = *headers});
}

size_t BytesOf(const Row& row) {
  size_t bytes =
      row.id.size() + (row.key ? row.key->size() : 0) + (row.payload ? row.payload->size() : 0);
  for (const auto& [name, value] : row.headers) bytes += name.size() + (value ? value->size() : 0);
  return bytes;
}

// At the most, even if it is alone in its batch.
size_t SizeInSpool(const Row& row) {
  return BytesOf(row) + kRecordRest + kHeaderRest * row.headers.size();
}

}  // namespace

struct Router::Open {
  std::string topic;
  int32_t partition = 0;
  proxy::TopicSettings settings;
  std::vector<const Row*> rows;
  size_t bytes = 0;
};

Result<Router> Router::Make(Options options) {
  std::vector<Piece> pieces;
  std::string_view rest = options.topic;
  while (!rest.empty()) {
    const size_t begin = std::min(rest.find("${"), rest.size());
    if (begin > 0) pieces.push_back({.text = std::string(rest.substr(0, begin))});
    rest.remove_prefix(begin);
    if (rest.empty()) break;
    const size_t end = rest.find('}');
    if (end == std::string_view::npos || end == 2) {
      return Unexpected(Code::kInvalid,
                        fmt::format("topic `{}`: `${{` without a name and `}}`", options.topic));
    }
    pieces.push_back({.text = std::string(rest.substr(2, end - 2)), .field = true});
    rest.remove_prefix(end + 1);
  }
  if (pieces.empty()) return Unexpected(Code::kInvalid, "topic: it is empty");
  return Router(std::move(options), std::move(pieces));
}

Result<std::string> Router::TopicOf(const Row& row) const {
  std::string topic;
  for (const Piece& piece : topic_) {
    if (!piece.field) {
      topic += piece.text;
    } else if (piece.text == kRouteField) {
      topic += row.route;
    } else {
      const auto field =
          std::ranges::find(row.fields, piece.text, &std::pair<std::string, std::string>::first);
      if (field == row.fields.end()) {
        return Unexpected(
            Code::kInvalid,
            fmt::format("the topic is made from `{}`, and the row has none", piece.text));
      }
      topic += field->second;
    }
  }
  if (!kafka::ValidTopicName(topic)) {
    return Unexpected(Code::kInvalid,
                      fmt::format("`{}` cannot be a topic's name: 1 to 249 of letters, digits, "
                                  "`.`, `_` and `-` can",
                                  topic));
  }
  return topic;
}

void Router::Close(Open& open, int64_t now_ms, Placed* placed) const {
  std::vector<kafka::RecordHeader> headers;
  const auto build = [&](std::span<const Row* const> rows) {
    kafka::RecordBatchBuilder builder({});
    for (const Row* row : rows) {
      AddRecord(*row, options_.tombstone_on_empty_payload, now_ms, &headers, &builder);
    }
    return std::move(builder).Build();
  };
  const auto check = [&](std::string_view batch) {
    return proxy::CheckForTopic(batch, open.settings, now_ms, /*zstd_allowed=*/true);
  };
  std::vector<const Row*> rows = std::move(open.rows);
  open.rows.clear();
  open.bytes = 0;
  std::string batch = build(rows);
  if (!check(batch).ok()) {
    // Which of them?
    std::erase_if(rows, [&](const Row* const row) {
      kafka::BatchVerdict verdict = check(build({&row, 1}));
      if (verdict.ok()) return false;
      placed->poison.push_back(
          {{row->position, row->id},
           fmt::format("topic {} does not take it: {}", open.topic, verdict.message)});
      return true;
    });
    // Together they may be too much although each is not.
    for (const Row* row : rows) {
      placed->batches.push_back(
          {.topic = open.topic, .partition = open.partition, .bytes = build({&row, 1})});
      placed->spooled.push_back({row->position, row->id});
    }
    return;
  }
  placed->batches.push_back(
      {.topic = open.topic, .partition = open.partition, .bytes = std::move(batch)});
  for (const Row* row : rows) placed->spooled.push_back({row->position, row->id});
}

void Router::Limit(const std::map<std::string, agent::Headroom, std::less<>>& topics,
                   const std::optional<agent::Headroom>& all) {
  for (const auto& [topic, room] : topics) topic_limits_.insert_or_assign(topic, room);
  if (all) limit_ = all;
}

void Router::Unlimit() {
  topic_limits_.clear();
  limit_.reset();
}

bool Router::TakeRoom(const std::string& topic, size_t size) {
  const auto limit = topic_limits_.find(topic);
  if (limit == topic_limits_.end()) return true;
  const bool fits = limit->second.Fits(size);
  if (fits) {
    limit->second.Take(size);
  } else {
    limit->second = {};
  }
  return fits;
}

Router::Placed Router::Place(std::span<const Row> rows, const proxy::Cluster& cluster,
                             base::TimePoint now, int64_t now_ms, bool tier_away) {
  Placed placed;
  std::map<std::pair<std::string, int32_t>, Open> open;
  std::map<std::string, int32_t, std::less<>> without_key;  // By topic: one partition at a time.
  const auto poison = [&placed](const Row& row, std::string reason) {
    placed.poison.push_back({{row.position, row.id}, std::move(reason)});
  };
  size_t bytes = 0;
  for (const Row& row : rows) {
    if (bytes > kBytesAtOnce) break;
    if (placed.held.contains(row.route) || placed.full.contains(row.route)) continue;
    if (!row.problem.empty()) {
      poison(row, row.problem);
      continue;
    }
    Result<std::string> topic_name = TopicOf(row);
    if (!topic_name) {
      poison(row, topic_name.error().message);
      continue;
    }
    const proxy::Topic* const topic = cluster.FindTopic(*topic_name);
    if (topic == nullptr || topic->leaders.empty()) {
      if (unknown_.size() >= kUnknownMax) unknown_.clear();
      Unknown& unknown = unknown_.try_emplace(*topic_name, Unknown{now, now}).first->second;
      const bool anew =
          now - unknown.met > std::max<base::Duration>(kNotMetFor, options_.unknown_topic_timeout);
      // A tier that is away cannot say that it has no such topic.
      if (anew || tier_away) unknown.since = now;
      unknown.met = now;
      placed.unknown_topics.insert(*topic_name);
      if (now - unknown.since < options_.unknown_topic_timeout) {
        placed.held.insert(row.route);
      } else {
        poison(row, fmt::format("the tier has no topic {}, and did not make it in {} s",
                                *topic_name, options_.unknown_topic_timeout.count() / 1000));
      }
      continue;
    }
    unknown_.erase(*topic_name);
    if (topic->internal) {
      poison(row,
             fmt::format("topic {} is the tier's own, which writes to it itself", *topic_name));
      continue;
    }
    const auto partitions = static_cast<int32_t>(topic->leaders.size());
    if (row.partition && (*row.partition < 0 || *row.partition >= partitions)) {
      poison(row,
             fmt::format("partition {}: topic {} has {}", *row.partition, *topic_name, partitions));
      continue;
    }
    const size_t in_spool = SizeInSpool(row);
    if (limit_ && !limit_->Fits(in_spool)) break;
    if (!TakeRoom(*topic_name, in_spool)) {
      placed.full.insert(row.route);
      continue;
    }
    if (limit_) limit_->Take(in_spool);
    std::optional<int32_t> partition = row.partition;
    if (!partition) partition = kafka::PartitionOf(options_.partitioner, row.key, partitions);
    if (!partition) {
      partition = without_key.emplace(*topic_name, random_.Below(partitions)).first->second;
    }
    const bool told = topic->settings && topic->settings->from_tier;
    if (!told) placed.unknown_settings.insert(*topic_name);
    Open& batch = open[{*topic_name, *partition}];
    if (batch.rows.empty()) {
      batch.topic = *topic_name;
      batch.partition = *partition;
      batch.settings =
          told ? *topic->settings
               : proxy::TopicSettings{.max_message_bytes = options_.batch_bytes_max,
                                      .timestamp_after_max_ms = options_.timestamp_ahead_max_ms};
    }
    const size_t size = BytesOf(row);
    // Half of what the topic takes, for what a record is besides its bytes.
    const size_t most =
        std::min(kBatchBytes,
                 static_cast<size_t>(std::max<int64_t>(batch.settings.max_message_bytes, 0)) / 2);
    if (!batch.rows.empty() && batch.bytes + size > most) Close(batch, now_ms, &placed);
    batch.rows.push_back(&row);
    batch.bytes += size;
    bytes += size;
  }
  for (auto& [where, batch] : open) Close(batch, now_ms, &placed);
  return placed;
}

}  // namespace holdfast::outbox
