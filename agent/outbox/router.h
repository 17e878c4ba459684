// From rows to record batches: which topic, partition, key, headers and timestamp an event gets. A
// row that cannot become a record is poison, with the reason; one whose topic is not known yet is
// held back, and the others of the same route with it.
//
//   Router router(options);
//   Router::Placed placed = router.Place(rows, cache.cluster(), now, now_ms, tier_away);
//
// Rows of one key are in one batch or in batches that follow each other, in the order of the rows.
//
// Ownership: Placed owns its bytes. Threads: one.
// Limits: stops after kBytesAtOnce of payload; the rows behind are not looked at.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/outbox/source.h"
#include "agent/record_log.h"
#include "base/executor.h"
#include "base/random.h"
#include "base/result.h"
#include "kafka/partitioner.h"
#include "proxy/metadata_cache.h"

namespace holdfast::outbox {

class Router {
 public:
  static constexpr size_t kBytesAtOnce = size_t{8} << 20;
  static constexpr size_t kBatchBytes = size_t{256} << 10;

  struct Options {
    std::string topic;  // Template: ${aggregatetype}, ${name of another field}.
    bool tombstone_on_empty_payload = false;
    kafka::Partitioner partitioner = kafka::Partitioner::kMurmur2;
    // Of topics whose own settings are not known.
    int64_t batch_bytes_max = 1048588;
    int64_t timestamp_ahead_max_ms = 3600000;
    std::chrono::milliseconds unknown_topic_timeout = std::chrono::minutes(1);
  };

  struct Placed {
    std::vector<agent::NewBatch> batches;
    std::vector<RowId> spooled;  // What is in the batches.
    std::vector<Source::Poison> poison;
    std::set<std::string, std::less<>> held;  // Routes whose topics are not known.
    std::set<std::string, std::less<>> full;  // Routes whose topics have no room for more.
    std::set<std::string, std::less<>> unknown_topics;
    std::set<std::string, std::less<>> unknown_settings;  // Topics.
  };

  // kInvalid: the template is not one.
  static base::Result<Router> Make(Options options);

  // `held` and `full` of an earlier call may be given again to Source::Read until it is worth
  // another try.
  // `now`: monotonic, for what is waited for; `now_ms`: what the records have as their times.
  Placed Place(std::span<const Row> rows, const proxy::Cluster& cluster, base::TimePoint now,
               int64_t now_ms, bool tier_away);

  // Until Unlimit, no more than that is placed for these topics and in all, in all calls together.
  // A topic that had too little for a row gets no row behind it, of whatever route.
  void Limit(const std::map<std::string, agent::Headroom, std::less<>>& topics,
             const std::optional<agent::Headroom>& all);
  void Unlimit();
  [[nodiscard]] bool limited() const { return limit_ || !topic_limits_.empty(); }

 private:
  struct Piece {
    std::string text;
    bool field = false;  // The text is a field's name.
  };
  struct Open;  // A batch that is being filled.

  Router(Options options, std::vector<Piece> topic)
      : options_(std::move(options)),
        topic_(std::move(topic)),
        random_(base::Random::FromSystem()) {}

  [[nodiscard]] base::Result<std::string> TopicOf(const Row& row) const;
  // Whether the topic has room for a row of this size, which is then taken.
  bool TakeRoom(const std::string& topic, size_t size);
  void Close(Open& open, int64_t now_ms, Placed* placed) const;

  Options options_;
  std::vector<Piece> topic_;
  base::Random random_;
  struct Unknown {
    base::TimePoint since;
    base::TimePoint met;  // When it was last asked for.
  };
  std::map<std::string, Unknown, std::less<>> unknown_;  // By topic.
  std::map<std::string, agent::Headroom, std::less<>> topic_limits_;
  std::optional<agent::Headroom> limit_;
};

}  // namespace holdfast::outbox
