// Half messages with check-back, as RocketMQ has them, for services that have no database of theirs
// in which an event could wait: the service prepares a message here, makes its change, and then
// commits the message or rolls it back. Of one that stays unresolved the service is asked, on a
// growing schedule; one of which it never says anything is parked for an operator.
//
//   POST /half/prepare?topic=orders&key=4711&check_url=http://127.0.0.1:8080/outbox-check
//        the payload as body; any number of header.NAME=VALUE       -> 201 {"id": "..."}
//   POST /half/commit?id=...     POST /half/rollback?id=...         -> 200
//   GET  /half                   those that are open, as JSON
//
// The service is asked by GET of check_url with id=... added, and says `commit`, `rollback` or
// `unknown`. An answer of the agent holds once it is there: a prepared message is in the spool's
// state on disk, and a commit takes it out of there and appends its record in one group commit. To
// resolve a message twice in the same way is fine, as long as this process remembers it
// (kRememberedMax); later, and for ids that never were, the answer is 404.
//
// In the spool's state: agent/half/<id>, a byte of format, a byte that says whether it is parked,
// i64 of when it was prepared (ms), topic and check_url with u16 of length before each, and the
// record as a batch.
//
// Ownership: what the context names outlives it.
// Threads: the loop; the routes' handlers from any. The service is asked on `asking`, which blocks.
// Shutdown: the destructor, on the loop. What is open is asked about after the next start.
// Limits: count_max messages and bytes_max of them; past it 503. Of each 1 MiB.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/record_log.h"
#include "base/executor.h"
#include "base/result.h"
#include "kafka/partitioner.h"
#include "metrics/catalogue.h"
#include "net/admin_server.h"
#include "proxy/metadata_cache.h"

namespace holdfast::outbox {

class HalfMessages {
 public:
  static constexpr size_t kRememberedMax = 10'000;

  struct Options {
    base::Duration check_after = std::chrono::seconds(10);  // After the preparation; it doubles,
    base::Duration check_after_max = std::chrono::minutes(10);  // up to this.
    uint32_t checks_max = 15;
    // What check_url begins with, up to a host's or path's end.
    std::vector<std::string> check_urls;
    size_t count_max = 10'000;
    size_t bytes_max = size_t{16} << 20;
    // Of topics whose own settings are not known.
    int64_t batch_bytes_max = 1048588;
  };
  struct Context {
    base::Executor& loop;
    base::Executor& asking;
    proxy::MetadataCache& cache;
    metrics::HalfMessageMetrics& metrics;
    std::function<void(agent::NotedAppend, agent::RecordLog::NotedDone)> append;
    std::function<void(std::string topic)> want_topic;
    std::function<base::Result<std::string>(const std::string& url)> ask;  // Blocks.
  };

  // `kept`: what the spool's state has, by its keys.
  HalfMessages(Context context, Options options,
               const std::map<std::string, std::string, std::less<>>& kept);
  ~HalfMessages();
  HalfMessages(const HalfMessages&) = delete;
  HalfMessages& operator=(const HalfMessages&) = delete;

  [[nodiscard]] std::vector<net::AdminRoute> Routes();

 private:
  enum class Outcome : uint8_t { kCommitted, kRolledBack };
  struct Message {
    std::string topic;
    std::string check_url;
    int64_t prepared_ms = 0;
    std::string batch;
    bool parked = false;
    bool busy = false;   // It is being resolved or parked.
    bool asked = false;  // Its service has not answered yet.
    uint32_t checks = 0;
    base::TimePoint due;
  };
  using Messages = std::map<std::string, Message, std::less<>>;

  static std::string Encode(const Message& message);
  static base::Result<Message> Decode(std::string_view bytes);

  net::AdminRoute PostRoute(std::string path, std::string help,
                            void (HalfMessages::*handle)(const net::AdminRequest&,
                                                         net::AdminReply));
  void Prepare(const net::AdminRequest& request, net::AdminReply reply);
  void Commit(const net::AdminRequest& request, net::AdminReply reply);
  void RollBack(const net::AdminRequest& request, net::AdminReply reply);
  void Resolve(const std::string& id, Outcome outcome, net::AdminReply reply);
  void OnResolved(const std::string& id, Outcome outcome, const base::Result<>& result,
                  net::AdminReply& reply);
  [[nodiscard]] std::string List() const;
  [[nodiscard]] bool MayAsk(std::string_view url) const;

  void Schedule(Message& message);
  void PlanChecks();
  void CheckDue();
  void OnAnswer(const std::string& id, const base::Result<std::string>& answer);
  void Park(const std::string& id);
  void Remember(const std::string& id, Outcome outcome);
  void ShowCounts();
  // `then` runs on the loop if this is still there.
  void Append(agent::NotedAppend append, base::UniqueFunction<void(base::Result<>)> then);

  const Context context_;
  const Options options_;
  Messages messages_;
  size_t bytes_ = 0;
  std::map<std::string, Outcome, std::less<>> remembered_;
  std::deque<std::string> remembered_order_;
  size_t asked_ = 0;  // Questions that have not come back, also of messages that are gone.
  base::Timer timer_;
  std::shared_ptr<HalfMessages*> self_;  // Null in it once this is gone.
};

}  // namespace holdfast::outbox
