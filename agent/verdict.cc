#include "agent/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

#include "agent/spool_text.h"
#include "kafka/error_code.h"

namespace holdfast::agent {
namespace {

// What stands in a text, and what to do then. The first that fits counts.
struct Remedy {
  std::string_view sign;
  std::string_view todo;
};

constexpr Remedy kAwayRemedies[] = {
    {"certificate",
     "Compare the certificate that the broker shows with agent.upstream.properties: "
     "`ssl.ca.location` must have signed it, it must name the host of the address, and it must not "
     "have expired. `openssl s_client -connect HOST:PORT -CAfile FILE` shows it."},
    {"TLS",
     "One side speaks TLS and the other does not, or they share no version: compare the broker's "
     "listener with `security.protocol` in agent.upstream.properties."},
    {"SASL",
     "The broker does not accept who this agent says it is: check `sasl.mechanism`, "
     "`sasl.username` and `sasl.password` in agent.upstream.properties, and that the broker knows "
     "this user."},
    {"refused",
     "Nothing listens at this address: start the broker, or correct agent.upstream.bootstrap."},
    {"resolve",
     "The name is not known here: check agent.upstream.bootstrap and this host's name servers."},
};
constexpr std::string_view kAwayOtherwise =
    "Check that the broker runs, and that this host reaches its address: name, port, firewall.";

// How a partition says that nobody at the tier answers for it; not a refusal.
constexpr std::string_view kNoLeader = "no leader";

constexpr Remedy kTopicRemedies[] = {
    {"TOPIC_AUTHORIZATION_FAILED",
     "Grant the user of this agent Write and Describe on it at the tier: `kafka-acls "
     "--bootstrap-server HOST:PORT --add --allow-principal User:NAME --operation Write --operation "
     "Describe --topic TOPIC`."},
    {"CLUSTER_AUTHORIZATION_FAILED",
     "Grant the user of this agent IdempotentWrite on the cluster at the tier."},
    {"TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
     "Grant the user of this agent Write and Describe on its transactional ids at the tier. If the "
     "tier is another agent, that one needs `tier_identity: client`: docs/transactions.md."},
    {kNoLeader,
     "Make the topic at the tier with as many partitions, or see why its partition has no leader: "
     "`kafka-topics --bootstrap-server HOST:PORT --describe --topic TOPIC`."},
    {"UNKNOWN_TOPIC_OR_PARTITION",
     "Make the topic at the tier with as many partitions, or name it in agent.topics."},
    {"NOT_ENOUGH_REPLICAS",
     "The tier has fewer replicas in sync than min.insync.replicas: bring its brokers back."},
    {"MESSAGE_TOO_LARGE", "Raise max.message.bytes of the topic at the tier."},
    {"THROTTLING_QUOTA_EXCEEDED", "The tier's quota holds this agent back: raise it there."},
    {"POLICY_VIOLATION", "A policy of the tier refuses the records: see what it asks for."},
};
constexpr std::string_view kWaitsOtherwise =
    "Why is above; docs/delivery.md and docs/transactions.md say what each may wait for.";
constexpr std::string_view kTopicOtherwise =
    "What the tier says is above; docs/delivery.md says what each answer means.";

template <size_t kCount>
std::string_view TodoFor(const Remedy (&remedies)[kCount], std::string_view text,
                         std::string_view otherwise) {
  for (const Remedy& remedy : remedies) {
    if (text.find(remedy.sign) != std::string_view::npos) return remedy.todo;
  }
  return otherwise;
}

bool IsCode(std::string_view word) {
  constexpr int16_t kCodesEnd = 1000;
  for (int16_t code = -1; code < kCodesEnd; ++code) {
    if (kafka::ErrorName(static_cast<kafka::ErrorCode>(code)) == word) return true;
  }
  return false;
}

// Kafka's name of an error in a text, such as TOPIC_AUTHORIZATION_FAILED; or the text.
std::string_view CodeIn(std::string_view text) {
  const auto of_code = [](char c) { return c == '_' || (c >= 'A' && c <= 'Z'); };
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    while (at < text.size() && of_code(text[at])) ++at;
    const std::string_view word = text.substr(begin, at - begin);
    if (word.size() > 3 && word.find('_') != std::string_view::npos && IsCode(word)) return word;
    at = std::max(at, begin + 1);
  }
  return text;
}

// With the name of the topic in its commands.
std::string TopicTodo(std::string_view why, std::string_view topic) {
  std::string todo(TodoFor(kTopicRemedies, why, kTopicOtherwise));
  constexpr std::string_view kPlace = "TOPIC`";
  if (const size_t at = todo.find(kPlace); at != std::string::npos)
    todo.replace(at, kPlace.size(), std::string(topic) + "`");
  return todo;
}

std::string Count(uint64_t count, std::string_view one, std::string_view more) {
  return fmt::format("{} {}", CountText(count), count == 1 ? one : more);
}

std::string Names(const std::vector<std::string_view>& names, size_t total) {
  std::string text;
  for (const std::string_view name : names) {
    if (!text.empty()) text += ", ";
    text += name;
  }
  if (total > names.size()) text += fmt::format(" and {} more", CountText(total - names.size()));
  return text;
}

// Of what is only guessed.
std::string About(int64_t ms) {
  constexpr int64_t kMinuteMs = 60'000;
  return ms < kMinuteMs ? "less than a minute" : "about " + AgeText(ms);
}

std::string Age(int64_t since_ms, int64_t now_ms) {
  return AgeText(std::max<int64_t>(now_ms - since_ms, 0));
}

// Topics that wait for one reason.
struct Held {
  std::vector<const TopicState*> topics;
  int64_t records = 0;
  int64_t oldest_ms = 0;
  std::string_view why;  // Of the one with the oldest record.

  void Add(const TopicState& topic, std::string_view reason) {
    topics.push_back(&topic);
    records += topic.backlog_records;
    if (topic.oldest_ms == 0 || (oldest_ms != 0 && oldest_ms <= topic.oldest_ms)) {
      if (why.empty()) why = reason;
      return;
    }
    oldest_ms = topic.oldest_ms;
    why = reason;
  }
  [[nodiscard]] std::string NamesOf() const {
    std::vector<std::string_view> names;
    for (const TopicState* topic : topics) {
      if (names.size() == kNamesShown) break;
      names.push_back(topic->topic);
    }
    return Names(names, topics.size());
  }
};

// Short trouble passes by itself.
constexpr int64_t kWorthTellingMs = 5000;
// A backlog that is older is one.
constexpr int64_t kBehindMs = 10000;
constexpr double kNearlyFull = 0.8;
constexpr int64_t kFullSoonMs = 30 * 60 * 1000;

class Judging {
 public:
  explicit Judging(const Situation& situation) : s_(situation) {
    for (const TopicState& topic : s_.topics) {
      if (topic.backlog_records > 0) waiting_.Add(topic, topic.trouble);
    }
  }

  Verdict Done() && {
    Refusing();
    Away();
    HeldTopics();
    NearlyFull();
    Denied();
    Paused();
    DeadLetters();
    Draining();
    std::ranges::stable_sort(verdict_.remarks, std::ranges::greater(), &Remark::severity);
    Headline();
    return std::move(verdict_);
  }

 private:
  void Add(Severity severity, std::string title, std::string why, std::string_view todo) {
    verdict_.remarks.push_back({severity, std::move(title), std::move(why), std::string(todo)});
  }

  void Refusing() {
    if (s_.spool.accepting) return;
    Add(Severity::kFailing, "Producers are refused: " + s_.spool.refusing_because,
        fmt::format("{} of {} on this host's disk are used{}.", BytesText(s_.spool.entry_bytes),
                    BytesText(s_.room_bytes),
                    waiting_.topics.empty() ? "" : " by what waits for " + waiting_.NamesOf()),
        "Let the tier take what waits (see below), or give agent.spool more room: bytes_max, or a "
        "larger disk. Nothing that was acknowledged is lost.");
  }

  // The tier is away, so that whatever waits waits for it.
  void Away() {
    if (!s_.tier_away) return;
    const std::string why = WhyAway(s_.peers);
    const std::string brief = Short(why);
    std::string text = why.empty() ? "No broker has answered so far. " : "";
    if (brief != why) text = why + ". ";
    std::string lasts;
    if (s_.full_in_ms) lasts = " The disk lasts for " + About(*s_.full_in_ms) + ".";
    if (waiting_.topics.empty()) {
      text += "Nothing waits. Producers are served, and what they send is kept here.";
    } else {
      text += fmt::format("Kept on this host until it does: {} of {}, for {}.",
                          Count(waiting_.records, "record", "records"), waiting_.NamesOf(),
                          Age(waiting_.oldest_ms, s_.now_ms));
    }
    const std::string title =
        waiting_.topics.empty()
            ? "The tier does not answer"
            : fmt::format("{}: the tier does not answer",
                          Count(waiting_.topics.size(), "topic waits", "topics wait"));
    Add(Severity::kWaiting, why.empty() ? title : title + " (" + brief + ")", text + lasts,
        TodoFor(kAwayRemedies, why, kAwayOtherwise));
  }

  void HeldTopics() {
    if (s_.tier_away) return;
    std::map<std::string_view, Held> by_code;
    for (const TopicState& topic : s_.topics) {
      if (topic.backlog_records == 0) continue;
      const std::string_view why = topic.denied ? kDenied : std::string_view(topic.trouble);
      if (why.empty()) continue;
      if (topic.parked == 0 && s_.now_ms - topic.oldest_ms < kWorthTellingMs) continue;
      by_code[CodeIn(why)].Add(topic, why);
    }
    for (const auto& [code, held] : by_code) {
      const std::string wait = Count(held.topics.size(), "topic waits", "topics wait");
      const bool refused = IsCode(code);
      const bool led = code.find(kNoLeader) == std::string_view::npos;
      Add(Severity::kWaiting,
          refused ? fmt::format("{}: the tier refuses {} ({})", wait, held.NamesOf(), code)
          : led   ? fmt::format("{}: {} ({})", wait, held.NamesOf(), Short(code))
                  : fmt::format("{}: the tier has no leader for {}", wait, held.NamesOf()),
          fmt::format("{} kept on this host, for {}.{} Other topics go on.",
                      Count(held.records, "record is", "records are"),
                      Age(held.oldest_ms, s_.now_ms),
                      refused ? fmt::format(" The tier says: {}.", held.why) : ""),
          fmt::format("{} The agent tries again every half a minute; `curl -X POST "
                      "http://ADMIN/resume` on this host tries at once.",
                      refused || !led ? TopicTodo(held.why, held.topics.front()->topic)
                                      : std::string(kWaitsOtherwise)));
    }
  }

  void NearlyFull() {
    if (!s_.spool.accepting || s_.room_bytes == 0 || waiting_.topics.empty()) return;
    const double used =
        static_cast<double>(s_.spool.entry_bytes) / static_cast<double>(s_.room_bytes);
    const bool soon = s_.full_in_ms && *s_.full_in_ms < kFullSoonMs;
    if (used < kNearlyFull && !soon) return;
    Add(Severity::kWaiting,
        fmt::format("The disk is {:.0f} % full{}", std::min(used, 1.0) * 100,
                    s_.full_in_ms ? ", and full in " + About(*s_.full_in_ms) : ""),
        fmt::format("{} of {} are used by what waits for {}. When it is full, producers are "
                    "refused.",
                    BytesText(s_.spool.entry_bytes), BytesText(s_.room_bytes), waiting_.NamesOf()),
        "Let the tier take what waits, raise agent.spool.bytes_max, or give the disk more space. "
        "Rules of topics (agent.topic_rules) say who has to give way.");
  }

  void Denied() {
    if (s_.tier_away) return;
    Held denied;
    for (const TopicState& topic : s_.topics) {
      if (topic.denied && topic.backlog_records == 0) denied.Add(topic, kDenied);
    }
    if (denied.topics.empty()) return;
    Add(Severity::kFailing,
        fmt::format("The tier refuses {} (TOPIC_AUTHORIZATION_FAILED)", denied.NamesOf()),
        "Nothing of it waits here: producers get this error at once, as they would from the tier.",
        TopicTodo(kDenied, denied.topics.front()->topic));
  }

  void DeadLetters() {
    if (s_.dead_letter_records == 0) return;
    std::vector<std::string_view> streams;
    std::string_view error;
    std::string_view message;
    for (const DeadLetterState& dead : s_.dead_letters) {
      if (streams.size() < kNamesShown) streams.push_back(dead.stream);
      if (error.empty()) error = dead.error;
      if (message.empty()) message = dead.message;
    }
    const auto records = static_cast<uint64_t>(s_.dead_letter_records);
    Add(Severity::kNotice,
        fmt::format("{} of {} {} set aside: the tier refuses {} for good ({})",
                    Count(records, "record", "records"), Names(streams, s_.dead_letters.size()),
                    records == 1 ? "is" : "are", records == 1 ? "it" : "them",
                    error.empty() ? "unknown" : error),
        fmt::format("Dead letters are kept on this host{}{}. The records behind them were "
                    "delivered.",
                    message.empty() ? "" : "; the tier says: ", message),
        "`holdfast dlq ls DIRECTORY` shows them. Once the tier would take them, `curl "
        "-X POST http://ADMIN/dead-letters/replay?stream=TOPIC/PARTITION` on this host delivers "
        "them again.");
  }

  [[nodiscard]] bool IsPaused() const { return s_.paused && waiting_.records > 0; }

  void Paused() {
    if (!IsPaused()) return;
    Add(Severity::kNotice,
        s_.opens_ms ? "The schedule holds back what waits, for " + About(*s_.opens_ms - s_.now_ms)
                    : "The schedule holds back what waits",
        fmt::format("{} of {} go to the tier when its next window opens.",
                    Count(waiting_.records, "record", "records"), waiting_.NamesOf()),
        "Nothing; or change `agent.upstream.schedule` and reload.");
  }

  void Draining() {
    if (!s_.draining) return;
    Add(Severity::kNotice, "Stopping: no more records are taken",
        waiting_.records == 0
            ? "Nothing waits."
            : fmt::format("{} in the spool; what is left is delivered after the next start.",
                          Count(waiting_.records, "record is", "records are")),
        "");
  }

  void Headline() {
    if (!verdict_.remarks.empty()) {
      const Remark& worst = verdict_.remarks.front();
      verdict_.severity = worst.severity;
      if (worst.severity != Severity::kNotice) {
        verdict_.headline = worst.title;
        return;
      }
    }
    if (IsPaused()) {
      verdict_.headline = verdict_.remarks.front().title;
      return;
    }
    const bool behind = waiting_.oldest_ms != 0 && s_.now_ms - waiting_.oldest_ms >= kBehindMs;
    if (!behind) {
      verdict_.headline = "Delivering";
    } else {
      verdict_.severity = std::max(verdict_.severity, Severity::kNotice);
      verdict_.headline =
          fmt::format("Catching up: {} behind, {}", Count(waiting_.records, "record", "records"),
                      s_.drain_in_ms ? "done in " + About(*s_.drain_in_ms)
                                     : "the oldest for " + Age(waiting_.oldest_ms, s_.now_ms));
    }
    if (!verdict_.remarks.empty()) verdict_.headline += ". " + verdict_.remarks.front().title;
  }

  static std::string Short(std::string_view text) {
    constexpr size_t kLength = 120;
    return text.size() <= kLength ? std::string(text) : std::string(text.substr(0, kLength)) + "…";
  }

  static constexpr std::string_view kDenied = "TOPIC_AUTHORIZATION_FAILED";

  const Situation& s_;
  Held waiting_;  // All of them.
  Verdict verdict_;
};

}  // namespace

std::string_view SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kFine:
      return "fine";
    case Severity::kNotice:
      return "notice";
    case Severity::kWaiting:
      return "waiting";
    case Severity::kFailing:
      return "failing";
  }
  return "fine";
}

std::string WhyAway(const std::vector<proxy::Upstream::Peer>& peers) {
  std::string why;
  for (const auto& peer : peers) {
    if (peer.ready || peer.trouble.empty() || why.find(peer.trouble) != std::string::npos) continue;
    why += (why.empty() ? "" : "; ") + peer.trouble;
  }
  return why;
}

std::string WhyWaiting(const TopicState& topic, const Situation& situation) {
  if (topic.denied) return "TOPIC_AUTHORIZATION_FAILED: the tier does not let this agent write";
  if (topic.parked > 0) return topic.trouble;
  if (situation.tier_away && topic.backlog_records > 0) {
    const std::string why = WhyAway(situation.peers);
    return why.empty() ? "the tier does not answer" : "the tier does not answer: " + why;
  }
  return topic.trouble;
}

Verdict Judge(const Situation& situation) { return Judging(situation).Done(); }

}  // namespace holdfast::agent
