// Finds out how much of a stream has arrived at the tier, when an answer was lost.
//
// First it asks the partition's leader for the producers that it remembers (DescribeProducers): the
// last sequence number tells. What was in flight is to be repeated then: only by recognising them
// does the tier say that it has each of the batches. A tier forgets a producer whose newest record
// is a day old by the record's own time, at some moment or with a restart; then, and from tiers
// that cannot be asked, the partition's tail is read back, since batches carry who wrote them. If
// retention has deleted where that would begin, the first that is left of ours stands for what came
// before it: the tier took that in order, unless it is known that it may not have. Reading ends at
// the high watermark. If the leader says that it has more of ours than was read, its followers do
// not have it yet, and nobody knows whether they will: the question is asked again later.
//
// Ownership: the tier outlives it, or drops its callbacks first.
// Threads: one loop.
// Shutdown: the destructor drops callbacks uncalled; answers still to come must not be delivered.
// Limits: one question of up to kAskedAtOnce partitions in flight per broker, and kReadBacksMax
//   partitions read back at a time; the rest waits in line.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/forward_state.h"
#include "base/unique_function.h"
#include "kafka/error_code.h"
#include "proxy/tier.h"

namespace holdfast::kafka {
struct DescribeProducersResponse;
}

namespace holdfast::agent {

// One stream's question.
struct Doubt {
  int32_t node = -1;  // The partition's leader.
  std::string topic;
  int32_t partition = 0;
  Identity identity;
  int64_t confirmed = 0;     // Records below this ordinal are known to be there.
  int64_t sent_limit = 0;    // None from this ordinal on was ever sent.
  int64_t tier_offset = -1;  // Behind the last confirmed record, if known.
  kafka::Uuid topic_id;      // If known: a topic of that name with another one is not read.
  // A time that the first doubtful record does not precede, by its own time or by the tier's; or
  // -1. Where to read back from when no offset is known.
  int64_t not_before_ms = -1;
  // The records are so old that what the tier remembers may be gone the next moment.
  bool may_be_forgotten = false;
  // Some of them may have arrived without what was sent before them.
  bool may_have_gaps = false;
};

struct Finding {
  enum class Kind : uint8_t {
    kRemembered,  // The tier's leader has what ends at `end`, by its own account, and recognises a
                  // repeat of it; followers may still lack it. If it forgot the producer while
                  // several batches were in flight, it may lack what came before.
    kReadBack,    // Everything below `end` is in the log for good, and nothing from `end` on.
    kLost,        // The tier has less than it once confirmed.
    kFenced,      // Somebody wrote under this identity, or a later one.
    kUnknowable,  // The tier does not let us look.
    kFailed,      // Ask again later; `error` says why.
  };
  Kind kind = Kind::kFailed;
  int64_t end = 0;
  int64_t tier_offset = -1;  // Behind the last record below `end`, if known.
  // Of kReadBack: what the tier knows of the identity, if anything, ends there as well. What is on
  // its way from before, and what comes next under the same epoch, are then told from one another.
  bool epoch_goes_on = false;
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
};

class Reconciler {
 public:
  static constexpr size_t kAskedAtOnce = 500;
  static constexpr size_t kReadBacksMax = 4;
  using Done = base::UniqueFunction<void(const Finding&)>;

  explicit Reconciler(proxy::Tier& tier);
  ~Reconciler();
  Reconciler(const Reconciler&) = delete;
  Reconciler& operator=(const Reconciler&) = delete;

  void Ask(Doubt doubt, Done done);

 private:
  struct Question {
    Doubt doubt;
    Done done;
    // What the leader has of the identity ends there, if it said so.
    std::optional<int64_t> leader_end = {};
    bool forgotten = false;  // It said that it knows nothing of the producer.
  };
  class ReadBack;

  void AskNode(int32_t node);
  void OnProducers(std::vector<Question> questions,
                   const base::Result<kafka::DescribeProducersResponse>& response);
  void OnJudged(Question question, const std::optional<Finding>& finding);
  void BeginReadBack(Question question);
  void EndReadBack(uint64_t id, const Finding& finding);

  proxy::Tier& tier_;
  struct Node {
    std::deque<Question> waiting;
    bool asking = false;
  };
  std::map<int32_t, Node> nodes_;
  std::deque<Question> read_back_queue_;
  std::map<uint64_t, std::unique_ptr<ReadBack>> read_backs_;
  uint64_t next_read_back_ = 0;
  bool beginning_ = false;
};

}  // namespace holdfast::agent
