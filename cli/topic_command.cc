// `holdfast topic VERB`.
#include <fmt/format.h>
#include <fnmatch.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>
#include <set>

#include "agent/spool_text.h"
#include "cli/client_verb.h"
#include "cli/command_line.h"
#include "cli/spool_verbs.h"
#include "cli/topic_configs.h"
#include "client/topics.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/delete_topics.h"

namespace holdfast::cli {
namespace {

using base::Code;
using kafka::ErrorCode;
using Json = nlohmann::ordered_json;

// Above it topics are named by id alone.
constexpr int16_t kDeleteTopicsCap = 5;

constexpr const char* kCreateFooter =
    R"(Partitions and replicas that are not given are what the tier has as its default.

Example:
  holdfast topic create orders -p 12 -r 3 -c retention.ms=604800000 -c cleanup.policy=compact)";

constexpr const char* kListFooter = R"(PATTERN is a name, with * and ? for any characters.

Example:
  holdfast topic list
  holdfast topic list 'orders.*' --format json | jq -r '.[].name')";

constexpr const char* kDescribeFooter =
    R"(START and END are the offsets of the first record and behind the last one. Settings are those
that are not the tier's own defaults; `holdfast config describe topic NAME` shows all.

Example:
  holdfast topic describe orders)";

constexpr const char* kAlterFooter =
    R"(Changes what is named and leaves the rest as it is; --delete gives a setting its default
again.

Example:
  holdfast topic alter-config orders --set retention.ms=86400000 --delete cleanup.policy)";

constexpr const char* kAddFooter =
    R"(Keys go to other partitions afterwards: producers choose by the number there is.

Example:
  holdfast topic add-partitions orders --num 4)";

constexpr const char* kDeleteFooter =
    R"(Records are lost. Asks first; without a terminal it wants --yes.

Example:
  holdfast topic delete orders --yes)";

constexpr const char* kTrimFooter =
    R"(Deletes the records before an offset: start, end, an offset, +N (so many from the start), -N
(all but so many), or @TIME, as `holdfast consume` has it. Asks first; without a terminal it wants
--yes.

Example:
  holdfast topic trim orders --offset end
  holdfast topic trim orders --partitions 0,3 --offset @-24h --yes)";

using Names = std::vector<std::string>;

struct CreateOptions {
  Names names;
  int32_t partitions = -1;
  int16_t replicas = -1;
  std::vector<std::string> configs;
  bool if_not_exists = false;
  bool dry_run = false;
};

struct ListOptions {
  Names patterns;
  bool internal = false;
  bool json = false;
};

struct DescribeOptions {
  Names names;
  bool json = false;
};

struct AddPartitionsOptions {
  Names names;
  int32_t number = 0;
};

struct DeleteOptions {
  Names names;
  bool yes = false;
};

struct TrimOptions {
  std::string topic;
  std::string offset;
  std::vector<int32_t> partitions;
  bool yes = false;
};

std::string TopicNeeds(std::string_view operation, std::string_view topic) {
  return fmt::format("--operation {} --topic {}", operation, topic);
}

base::Result<int> Create(const CreateOptions& options, const TierAccess& tier) {
  kafka::CreateTopicsRequest request;
  std::vector<std::pair<std::string, std::string>> configs;
  for (const std::string& config : options.configs) {
    HF_ASSIGN_OR_RETURN(configs.emplace_back(), SplitPair("--topic-config", config));
  }
  for (const std::string& name : options.names) {
    auto& topic = request.topics.emplace_back();
    topic.name = name;
    topic.num_partitions = options.partitions;
    topic.replication_factor = options.replicas;
    for (const auto& [key, value] : configs) {
      auto& config = topic.configs.emplace_back();
      config.name = key;
      config.value = value;
    }
  }
  request.validate_only = options.dry_run;
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  request.timeout_ms = cluster->timeout_ms();
  HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(cluster->controller(), request));
  int code = kExitFine;
  for (const auto& topic : answer->topics) {
    const bool there = topic.error_code == ErrorCode::kTopicAlreadyExists;
    if (topic.error_code == ErrorCode::kNone) {
      PrintText(fmt::format("{} {}", options.dry_run ? "could create" : "created", topic.name));
      if (topic.num_partitions > 0)
        PrintText(fmt::format(" (partitions {}, replicas {})", topic.num_partitions,
                              topic.replication_factor));
      PrintText("\n");
    } else if (there && options.if_not_exists) {
      PrintText(fmt::format("{} is there already\n", topic.name));
    } else {
      code = Refuse({.subject = fmt::format("topic {}", topic.name),
                     .code = topic.error_code,
                     .message = topic.error_message,
                     .needs = TopicNeeds("create", topic.name)});
    }
  }
  return code;
}

bool Fits(const Names& patterns, const std::string& name) {
  return patterns.empty() || std::ranges::any_of(patterns, [&](const std::string& pattern) {
           return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
         });
}

base::Result<int> List(const ListOptions& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  HF_ASSIGN_OR_RETURN(const auto topics, client::LookUpTopics(*cluster, std::nullopt));
  std::vector<Json> rows;
  for (const client::Topic& topic : topics) {
    if ((topic.internal && !options.internal) || !Fits(options.patterns, topic.name)) continue;
    rows.push_back(
        {{"name", topic.name},
         {"partitions", topic.partitions.size()},
         {"replicas", topic.partitions.empty() ? 0 : topic.partitions.front().replicas.size()}});
    if (options.internal) rows.back()["internal"] = topic.internal;
  }
  if (options.json) {
    PrintJson(rows);
  } else {
    PrintText(
        TableOf({{"name", "NAME"}, {"partitions", "PARTITIONS"}, {"replicas", "REPLICAS"}}, rows));
  }
  return kExitFine;
}

Json OffsetJson(const client::Offsets& offsets, const client::PartitionName& name) {
  const auto found = offsets.find(name);
  if (found == offsets.end() || found->second.error != ErrorCode::kNone) return nullptr;
  return found->second.offset;
}

std::string DescriptionText(const Json& topic, const std::vector<Json>& partitions,
                            const std::vector<Json>& configs) {
  std::string text = fmt::format("{}\n", topic.value("name", ""));
  if (topic["id"].is_string()) text += fmt::format("id {}\n", topic.value("id", ""));
  if (topic.value("internal", false)) text += "internal: it is the tier's own\n";
  text += "\n" + TableOf({{"partition", "PARTITION"},
                          {"leader", "LEADER"},
                          {"replicas", "REPLICAS"},
                          {"isr", "ISR"},
                          {"start", "START"},
                          {"end", "END"}},
                         partitions);
  if (!configs.empty())
    text +=
        "\n" + TableOf({{"name", "SETTING"}, {"value", "VALUE"}, {"source", "SOURCE"}}, configs);
  return text;
}

base::Result<int> Describe(const DescribeOptions& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  HF_ASSIGN_OR_RETURN(const auto topics, client::LookUpTopics(*cluster, options.names));
  HF_ASSIGN_OR_RETURN(const auto starts, client::FindOffsets(*cluster, topics, client::kStartTime));
  HF_ASSIGN_OR_RETURN(const auto ends, client::FindOffsets(*cluster, topics, client::kEndTime));
  int code = kExitFine;
  Json described = Json::array();
  bool first = true;
  for (const client::Topic& topic : topics) {
    if (topic.error != ErrorCode::kNone) {
      code = Refuse({.subject = "topic " + topic.name,
                     .code = topic.error,
                     .needs = TopicNeeds("describe", topic.name)});
      continue;
    }
    std::vector<Json> partitions;
    for (const client::Partition& partition : topic.partitions) {
      const client::PartitionName name{topic.name, partition.index};
      partitions.push_back({{"partition", partition.index},
                            {"leader", partition.leader < 0 ? Json() : Json(partition.leader)},
                            {"replicas", partition.replicas},
                            {"isr", partition.in_sync},
                            {"start", OffsetJson(starts, name)},
                            {"end", OffsetJson(ends, name)}});
    }
    HF_ASSIGN_OR_RETURN(auto configs, DescribeConfigs(*cluster, ConfigKind::kTopic, topic.name));
    std::erase_if(configs, [](const Json& config) { return config.value("default", false); });
    Json json{{"name", topic.name},
              {"id", topic.id.empty() ? Json() : Json(topic.id)},
              {"internal", topic.internal}};
    if (!options.json)
      PrintText((std::exchange(first, false) ? "" : "\n") +
                DescriptionText(json, partitions, configs));
    json["partitions"] = std::move(partitions);
    json["configs"] = std::move(configs);
    described.push_back(std::move(json));
  }
  if (options.json) PrintJson(described);
  return code;
}

base::Result<int> AddPartitions(const AddPartitionsOptions& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  HF_ASSIGN_OR_RETURN(const auto topics, client::LookUpTopics(*cluster, options.names));
  kafka::CreatePartitionsRequest request{.timeout_ms = cluster->timeout_ms()};
  int code = kExitFine;
  std::map<std::string_view, int32_t> counts;
  for (const client::Topic& topic : topics) {
    if (topic.error != ErrorCode::kNone) {
      code = Refuse({.subject = "topic " + topic.name,
                     .code = topic.error,
                     .needs = TopicNeeds("alter", topic.name)});
      continue;
    }
    auto& wanted = request.topics.emplace_back();
    wanted.name = topic.name;
    wanted.count = static_cast<int32_t>(topic.partitions.size()) + options.number;
    counts[topic.name] = wanted.count;
  }
  if (request.topics.empty()) return code;
  HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(cluster->controller(), request));
  for (const auto& result : answer->results) {
    if (result.error_code == ErrorCode::kNone) {
      PrintText(fmt::format("{} has {} partitions now\n", result.name, counts[result.name]));
      continue;
    }
    code = Refuse({.subject = fmt::format("topic {}", result.name),
                   .code = result.error_code,
                   .message = result.error_message,
                   .needs = TopicNeeds("alter", result.name)});
  }
  return code;
}

base::Result<int> Delete(const DeleteOptions& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  const std::string question =
      fmt::format("Delete {} with all records?", fmt::join(options.names, ", "));
  if (const int code = Confirm(options.yes, question); code != kExitFine) return code;
  kafka::DeleteTopicsRequest request{.timeout_ms = cluster->timeout_ms()};
  for (const std::string& name : options.names) request.topic_names.emplace_back(name);
  HF_ASSIGN_OR_RETURN(const auto answer,
                      cluster->Ask(cluster->controller(), request, kDeleteTopicsCap));
  int code = kExitFine;
  for (const auto& topic : answer->responses) {
    const std::string_view name = topic.name.value_or("");
    if (topic.error_code == ErrorCode::kNone) {
      PrintText(fmt::format("deleted {}\n", name));
      continue;
    }
    code = Refuse({.subject = fmt::format("topic {}", name),
                   .code = topic.error_code,
                   .message = topic.error_message,
                   .needs = TopicNeeds("delete", name)});
  }
  return code;
}

base::Result<int> Trim(const TrimOptions& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const client::Position position,
                      client::ParsePosition(options.offset, agent::NowMs()));
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  HF_ASSIGN_OR_RETURN(auto topics, client::LookUpTopics(*cluster, std::vector{options.topic}));
  const Refusal refusal{.subject = "topic " + options.topic,
                        .needs = TopicNeeds("delete", options.topic)};
  client::Topic& topic = topics.front();
  if (topic.error != ErrorCode::kNone) {
    return Refuse({refusal.subject, topic.error, {}, refusal.needs});
  }
  HF_RETURN_IF_ERROR(client::KeepPartitions(topics, options.partitions));
  HF_ASSIGN_OR_RETURN(const auto located, client::Locate(*cluster, topics, position));

  int64_t records = 0;
  std::map<int32_t, kafka::DeleteRecordsRequest> requests;  // By leader.
  int code = kExitFine;
  for (const client::Partition& partition : topic.partitions) {
    const client::PartitionName name{topic.name, partition.index};
    const auto& at = located.at(name);
    if (at.error != ErrorCode::kNone) {
      code = Refuse({fmt::format("{}/{}", topic.name, partition.index),
                     at.error,
                     {},
                     TopicNeeds("describe", topic.name)});
      continue;
    }
    records += at.offset - at.start;
    kafka::DeleteRecordsRequest& request = requests[partition.leader];
    request.timeout_ms = cluster->timeout_ms();
    if (request.topics.empty()) request.topics.emplace_back().name = topic.name;
    request.topics.front().partitions.push_back(
        {.partition_index = partition.index, .offset = at.offset});
  }
  if (code != kExitFine) return code;
  const std::string question = fmt::format(
      "Delete {} records of {}?", agent::CountText(static_cast<uint64_t>(records)), topic.name);
  if (const int asked = Confirm(options.yes, question); asked != kExitFine) return asked;
  std::vector<Json> rows;
  for (const auto& [leader, request] : requests) {
    HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(leader, request));
    for (const auto& told : answer->topics) {
      for (const auto& partition : told.partitions) {
        if (partition.error_code != ErrorCode::kNone) {
          code = Refuse({fmt::format("{}/{}", told.name, partition.partition_index),
                         partition.error_code,
                         {},
                         refusal.needs});
          continue;
        }
        rows.push_back({{"partition", partition.partition_index},
                        {"before", located.at({topic.name, partition.partition_index}).start},
                        {"start", partition.low_watermark}});
      }
    }
  }
  std::ranges::sort(rows, {}, [](const Json& row) { return row.value("partition", 0); });
  PrintText(TableOf({{"partition", "PARTITION"}, {"before", "BEFORE"}, {"start", "START"}}, rows));
  return code;
}

void AddNames(CLI::App& verb, Names* names) {
  verb.add_option("TOPIC", *names, "Which")->required()->type_name("");
}

}  // namespace

void AddTopicVerbs(CLI::App& topic, ClientCommand* command) {
  topic.require_subcommand(0, 1);
  {
    const auto options = std::make_shared<CreateOptions>();
    CLI::App* const verb =
        AddClientVerb(topic, command, "create", "Create topics", kCreateFooter,
                      [options](const TierAccess& tier) { return Create(*options, tier); });
    verb->add_option("TOPIC", options->names, "Their names")->required()->type_name("");
    verb->add_option("-p,--partitions", options->partitions, "How many")
        ->check(CLI::Range(1, std::numeric_limits<int32_t>::max()))
        ->type_name("N");
    verb->add_option("-r,--replicas", options->replicas, "How many copies of each partition")
        ->check(CLI::Range(1, int{std::numeric_limits<int16_t>::max()}))
        ->type_name("N");
    verb->add_option("-c,--topic-config", options->configs,
                     "A setting of the topics; may be repeated")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false);
    verb->add_flag("--if-not-exists", options->if_not_exists,
                   "It is fine if a topic is there already, whatever its settings");
    verb->add_flag("--dry-run", options->dry_run, "Only ask the tier whether it would do it");
  }
  {
    const auto options = std::make_shared<ListOptions>();
    CLI::App* const verb =
        AddClientVerb(topic, command, "list", "Which topics there are", kListFooter,
                      [options](const TierAccess& tier) { return List(*options, tier); });
    verb->alias("ls");
    verb->add_option("PATTERN", options->patterns, "Only those that fit one of these")
        ->type_name("");
    verb->add_flag("--internal", options->internal, "Also the tier's own");
    AddOutputFormat(*verb, &options->json);
  }
  {
    const auto options = std::make_shared<DescribeOptions>();
    CLI::App* const verb = AddClientVerb(
        topic, command, "describe", "Partitions, offsets and settings of topics", kDescribeFooter,
        [options](const TierAccess& tier) { return Describe(*options, tier); });
    AddNames(*verb, &options->names);
    AddOutputFormat(*verb, &options->json);
  }
  {
    const auto options = std::make_shared<AlterOptions>();
    options->kind = ConfigKind::kTopic;
    CLI::App* const verb =
        AddClientVerb(topic, command, "alter-config", "Change settings of topics", kAlterFooter,
                      [options](const TierAccess& tier) { return AlterConfigs(*options, tier); });
    verb->alias("alter");
    AddNames(*verb, &options->names);
    AddAlterOptions(*verb, options.get());
  }
  {
    const auto options = std::make_shared<AddPartitionsOptions>();
    CLI::App* const verb =
        AddClientVerb(topic, command, "add-partitions", "Give topics more partitions", kAddFooter,
                      [options](const TierAccess& tier) { return AddPartitions(*options, tier); });
    AddNames(*verb, &options->names);
    verb->add_option("-n,--num", options->number, "How many more")
        ->required()
        ->check(CLI::Range(1, 1'000'000))
        ->type_name("N");
  }
  {
    const auto options = std::make_shared<DeleteOptions>();
    CLI::App* const verb =
        AddClientVerb(topic, command, "delete", "Delete topics", kDeleteFooter,
                      [options](const TierAccess& tier) { return Delete(*options, tier); });
    AddNames(*verb, &options->names);
    verb->add_flag("--yes", options->yes, "Do not ask");
  }
  {
    const auto options = std::make_shared<TrimOptions>();
    CLI::App* const verb =
        AddClientVerb(topic, command, "trim", "Delete the oldest records of a topic", kTrimFooter,
                      [options](const TierAccess& tier) { return Trim(*options, tier); });
    verb->alias("trim-prefix");
    verb->add_option("TOPIC", options->topic, "Which")->required()->type_name("");
    verb->add_option("-o,--offset", options->offset, "Where the topic is to begin")
        ->required()
        ->type_name("POSITION");
    verb->add_option("-p,--partitions", options->partitions, "Of these alone")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("N[,...]");
    verb->add_flag("--yes", options->yes, "Do not ask");
  }
}

}  // namespace holdfast::cli
