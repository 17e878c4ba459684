// Whether a topic of the tier takes what this agent has and will have for it.
//
// Threads: any; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "cli/doctor/finding.h"
#include "cli/doctor/spool_facts.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/metadata.h"

namespace holdfast::cli::doctor {

struct TopicQuestion {
  std::string name;
  bool declared = false;  // The agent makes it if it is not there.
  std::optional<SpoolFacts::Waiting> waiting;
  uint64_t batch_bytes_max = 0;    // What is taken while the tier's own limit is not known.
  std::optional<bool> may_create;  // None: the tier does not say.
  int64_t now_ms = 0;
};

// The settings that CheckTopic looks at.
std::span<const std::string_view> SettingsToAsk();

// `settings`: null if the tier was not asked, as the topic is not there.
Findings CheckTopic(const TopicQuestion& question,
                    const kafka::MetadataResponse::MetadataResponseTopic& topic,
                    const kafka::DescribeConfigsResponse::DescribeConfigsResult* settings);

}  // namespace holdfast::cli::doctor
