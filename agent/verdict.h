// What somebody who sees an agent for the first time has to know: whether records get through, what
// is held back and why, and what to do about it. Said in whole sentences, the worst first.
//
//   const Verdict verdict = Judge(situation);
//   verdict.headline;                 // "1 topic waits: the tier refuses orders (TOPIC_AUTH...)"
//   verdict.remarks.front().todo;    // "Grant this agent's user Write and Describe on ..."
//
// Threads: any; plain values. Limits: kNamesShown topics are named in one remark.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/upstream.h"
#include "spool/spool.h"

namespace holdfast::agent {

inline constexpr size_t kNamesShown = 5;

enum class Severity : uint8_t {
  kFine,
  kNotice,   // Worth knowing; nothing is held back.
  kWaiting,  // Records are safe on this host and do not get through, or will soon not be taken.
  kFailing,  // Producers are refused.
};
std::string_view SeverityName(Severity severity);  // "fine", "notice", "waiting", "failing"

struct Remark {
  Severity severity = Severity::kNotice;
  std::string title;
  std::string why;
  std::string todo;
};

struct Verdict {
  Severity severity = Severity::kFine;
  std::string headline;
  std::vector<Remark> remarks;  // The worst first.
};

// A topic of which something waits, or which the tier denies.
struct TopicState {
  std::string topic;
  uint32_t partitions = 0;  // That this agent has records of.
  uint32_t waiting = 0;     // Of them, with a backlog.
  uint32_t parked = 0;
  int64_t backlog_records = 0;
  int64_t oldest_ms = 0;        // When the first record that waits was spooled; 0: none waits.
  double drain_per_second = 0;  // By how many records the backlog shrinks.
  std::string trouble;          // Of one of the partitions, a parked one if there is one.
  int32_t trouble_partition = -1;
  bool denied = false;  // The tier does not let this agent write to it.
};

struct DeadLetterState {
  std::string stream;  // "orders/3"
  int64_t records = 0;
  std::string error;    // Why the newest was refused, by Kafka's name of the code.
  std::string message;  // What else the tier said.
  int64_t time_ms = 0;
};

struct Situation {
  int64_t now_ms = 0;
  bool draining = false;
  bool tier_away = false;
  bool paused = false;              // By the schedule.
  std::optional<int64_t> opens_ms;  // When it goes on by the schedule.
  std::vector<proxy::Upstream::Peer> peers;
  std::vector<TopicState> topics;
  std::vector<DeadLetterState> dead_letters;
  int64_t dead_letter_records = 0;
  spool::Status spool;
  uint64_t room_bytes = 0;             // How much the entries may become at most.
  std::optional<int64_t> full_in_ms;   // At the current rate.
  std::optional<int64_t> drain_in_ms;  // At the current rate.
};

Verdict Judge(const Situation& situation);

// Why the tier does not answer, in its peers' words; empty if none said anything.
std::string WhyAway(const std::vector<proxy::Upstream::Peer>& peers);
// Why a topic's records wait; empty if nothing is wrong.
std::string WhyWaiting(const TopicState& topic, const Situation& situation);

}  // namespace holdfast::agent
