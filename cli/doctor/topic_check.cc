#include "cli/doctor/topic_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <vector>

#include "agent/spool_text.h"
#include "proxy/topic_settings.h"

namespace holdfast::cli::doctor {
namespace {

using agent::AgeText;
using agent::BytesText;
using agent::CountText;
using base::Event;
using kafka::ErrorCode;
using TopicMetadata = kafka::MetadataResponse::MetadataResponseTopic;
using TopicConfigs = kafka::DescribeConfigsResponse::DescribeConfigsResult;

constexpr std::string_view kMinInsyncReplicas = "min.insync.replicas";
constexpr std::string_view kRetentionMs = "retention.ms";

// Bits, by Kafka's codes of operations.
constexpr int32_t kMayRead = 1 << 3;
constexpr int32_t kMayWrite = 1 << 4;
constexpr int32_t kMayDescribe = 1 << 8;

// An outage that a spool is made for.
constexpr int64_t kLongOutageMs = int64_t{7} * 24 * 3600 * 1000;

std::optional<int64_t> NumberOf(const TopicConfigs& settings, std::string_view name) {
  const auto found = std::ranges::find(
      settings.configs, name, &kafka::DescribeConfigsResponse::DescribeConfigsResourceResult::name);
  if (found == settings.configs.end() || !found->value) return std::nullopt;
  int64_t number = 0;
  const std::string_view text = *found->value;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  return number;
}

class TopicCheck {
 public:
  TopicCheck(const TopicQuestion& question, const TopicMetadata& topic)
      : question_(question), topic_(topic) {}

  Findings Run(const TopicConfigs* settings) {
    if (!CheckThere()) return std::move(findings_);
    CheckRights();
    CheckLeaders();
    if (settings != nullptr) CheckSettings(*settings);
    if (findings_.all().empty())
      findings_.Good(fmt::format("topic {}: {} partition{}{}", question_.name,
                                 topic_.partitions.size(), topic_.partitions.size() == 1 ? "" : "s",
                                 Waiting()));
    return std::move(findings_);
  }

 private:
  void Trouble(Event problem, std::string_view what) {
    findings_.Trouble(problem, fmt::format("topic {} {}", question_.name, what));
  }
  void Trouble(Event problem, Severity severity, std::string_view what) {
    findings_.Trouble(problem, severity, fmt::format("topic {} {}", question_.name, what));
  }

  [[nodiscard]] std::string Waiting() const {
    if (!question_.waiting) return {};
    return fmt::format("; {} records ({}) wait for it", CountText(question_.waiting->records),
                       BytesText(question_.waiting->bytes));
  }

  bool CheckThere() {
    switch (topic_.error_code) {
      case ErrorCode::kNone:
      case ErrorCode::kLeaderNotAvailable:
        return true;
      case ErrorCode::kTopicAuthorizationFailed:
        Trouble(Event::kMayNotWrite,
                "is not shown to the agent, who may not write to it, if it is there" + Waiting());
        return false;
      case ErrorCode::kUnknownTopicOrPartition:
        break;
      default:
        Trouble(Event::kTopicMissing, fmt::format("cannot be used: {}{}",
                                                  kafka::ErrorName(topic_.error_code), Waiting()));
        return false;
    }
    if (!question_.declared) {
      // The tier may make it by itself, when the agent asks for it to deliver.
      Trouble(Event::kTopicMissing, question_.waiting ? Severity::kError : Severity::kWarning,
              "is not there, and not declared in agent.topics" + Waiting());
    } else if (question_.may_create == false) {
      // Or on this topic alone, which nobody tells.
      Trouble(Event::kTopicMissing, Severity::kWarning,
              "is not there, and the agent may not CREATE on the cluster" + Waiting());
    } else {
      findings_.Note(fmt::format("topic {} is not there, and the agent will make it{}",
                                 question_.name, Waiting()));
    }
    return false;
  }

  void CheckRights() {
    const int32_t rights = topic_.topic_authorized_operations;
    // A tier that tells of rights tells that of describing the topic, too.
    if (rights == std::numeric_limits<int32_t>::min() || (rights & kMayDescribe) == 0) return;
    if ((rights & kMayWrite) == 0) {
      Trouble(Event::kMayNotWrite, "may not be written to by the agent" + Waiting());
    } else if ((rights & kMayRead) == 0) {
      Trouble(Event::kMayNotAsk, "may be written to by the agent, but not read");
    }
  }

  void CheckLeaders() {
    std::vector<int32_t> without;
    for (const auto& partition : topic_.partitions) {
      if (partition.leader_id < 0) without.push_back(partition.partition_index);
    }
    if (without.empty()) return;
    std::ranges::sort(without);
    Trouble(Event::kNoLeader,
            fmt::format("has no leader for {} of its {} partitions, such as {}", without.size(),
                        topic_.partitions.size(), without.front()));
  }

  void CheckSettings(const TopicConfigs& configs) {
    if (configs.error_code != ErrorCode::kNone) {
      Trouble(Event::kSettingsNotTold,
              fmt::format("does not tell its settings: {}", kafka::ErrorName(configs.error_code)));
      return;
    }
    const proxy::TopicSettings settings = proxy::ReadTopicSettings(configs);
    CheckSizes(settings);
    CheckTimestamps(settings);
    CheckReplicas(NumberOf(configs, kMinInsyncReplicas).value_or(1));
    CheckRetention(settings, NumberOf(configs, kRetentionMs).value_or(-1));
    if (settings.compacted)
      findings_.Note(
          fmt::format("topic {} is compacted: records without a key are refused", question_.name));
  }

  void CheckSizes(const proxy::TopicSettings& settings) {
    const auto most = static_cast<uint64_t>(std::max<int64_t>(0, settings.max_message_bytes));
    if (question_.waiting && question_.waiting->largest_entry > most) {
      Trouble(Event::kBatchesTooLarge, Severity::kError,
              fmt::format("takes batches of {} (max.message.bytes), and one of {} waits for it",
                          BytesText(most), BytesText(question_.waiting->largest_entry)));
    } else if (question_.batch_bytes_max > most) {
      Trouble(Event::kBatchesTooLarge,
              fmt::format("takes batches of {} (max.message.bytes), and before the tier was asked "
                          "the agent takes {} (agent.limits.batch_bytes_max)",
                          BytesText(most), BytesText(question_.batch_bytes_max)));
    }
  }

  void CheckTimestamps(const proxy::TopicSettings& settings) {
    if (settings.log_append_time) return;
    const int64_t bound = settings.timestamp_before_max_ms;
    if (question_.waiting && question_.waiting->oldest_timestamp_ms >= 0) {
      const int64_t age = question_.now_ms - question_.waiting->oldest_timestamp_ms;
      if (age > bound) {
        Trouble(Event::kTimestampsTooOld, Severity::kError,
                fmt::format("takes records of the last {} (message.timestamp.before.max.ms), and "
                            "one that waits for it is {} old",
                            AgeText(bound), AgeText(age)));
        return;
      }
    }
    if (bound < kLongOutageMs)
      Trouble(Event::kTimestampsTooOld,
              fmt::format("takes only records of the last {} (message.timestamp.before.max.ms)",
                          AgeText(bound)));
  }

  void CheckReplicas(int64_t min_insync) {
    size_t refused = 0;
    for (const auto& partition : topic_.partitions) {
      if (static_cast<int64_t>(partition.isr_nodes.size()) < min_insync) ++refused;
    }
    if (refused != 0)
      Trouble(Event::kTooFewReplicas,
              fmt::format("asks for {} replicas in sync (min.insync.replicas), which {} of its {} "
                          "partitions do not have",
                          min_insync, refused, topic_.partitions.size()));
  }

  void CheckRetention(const proxy::TopicSettings& settings, int64_t retention_ms) {
    if (settings.log_append_time || retention_ms < 0 || !question_.waiting ||
        question_.waiting->oldest_timestamp_ms < 0)
      return;
    const int64_t age = question_.now_ms - question_.waiting->oldest_timestamp_ms;
    if (age > retention_ms)
      Trouble(Event::kRetentionTooShort,
              fmt::format("keeps records for {} (retention.ms), and one that waits for it is {} "
                          "old",
                          AgeText(retention_ms), AgeText(age)));
  }

  const TopicQuestion& question_;
  const TopicMetadata& topic_;
  Findings findings_{Area::kUpstream};
};

}  // namespace

std::span<const std::string_view> SettingsToAsk() {
  static const std::vector<std::string_view> all = [] {
    const auto known = proxy::TopicSettingNames();
    std::vector<std::string_view> names(known.begin(), known.end());
    names.insert(names.end(), {kMinInsyncReplicas, kRetentionMs});
    return names;
  }();
  return all;
}

Findings CheckTopic(const TopicQuestion& question, const TopicMetadata& topic,
                    const TopicConfigs* settings) {
  return TopicCheck(question, topic).Run(settings);
}

}  // namespace holdfast::cli::doctor
