// `holdfast group VERB`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <set>

#include "agent/spool_text.h"
#include "base/utf8.h"
#include "broker/consumer_protocol.h"
#include "cli/client_verb.h"
#include "cli/command_line.h"
#include "cli/spool_verbs.h"
#include "client/groups.h"
#include "client/topics.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/offset_delete.h"

namespace holdfast::cli {
namespace {

using base::Code;
using client::PartitionName;
using client::Position;
using kafka::ErrorCode;
using Json = nlohmann::ordered_json;

constexpr const char* kListFooter = R"(Example:
  holdfast group list
  holdfast group list --format json | jq -r '.[] | select(.state == "Empty").name')";

constexpr const char* kDescribeFooter =
    R"(COMMITTED is the offset from which the group goes on, LAG how many records there are from it
on; all there are, if the group has no offset yet.

Example:
  holdfast group describe billing)";

constexpr const char* kDeleteFooter =
    R"(The group must have no members. Its offsets are lost. Asks first; without a terminal it wants
--yes.

Example:
  holdfast group delete billing --yes)";

constexpr const char* kOffsetDeleteFooter =
    R"(Consumers begin there again where their auto.offset.reset says. No member may be subscribed
to the topics.

Example:
  holdfast group offset-delete billing --topics orders)";

constexpr const char* kSeekFooter =
    R"(The group must have no members: stop its consumers first. Shows the offsets before and after;
with --dry-run nothing is changed. POSITION is
  start, end   the first record that there is, or behind the last one
  4711         this offset
  +10, -10     so many records on, or back, from where the group is
  @TIME        the first record of that time or later: milliseconds, seconds, 2026-01-31,
               2026-01-31T12:00:00Z, or @-90m for so long ago (s, m, h, d)
A position outside of what is there becomes the nearest that is. Without --topics those are moved
for which the group has offsets.

Example:
  holdfast group seek billing --to start --topics orders --dry-run
  holdfast group seek billing --to @2026-01-31T12:00:00Z)";

struct Options {
  std::vector<std::string> names;
  std::vector<std::string> topics;
  std::vector<int32_t> partitions;
  std::string to;
  bool json = false;
  bool yes = false;
  bool dry_run = false;
};

std::string GroupNeeds(std::string_view operation, std::string_view group) {
  return fmt::format("--operation {} --group {}", operation, group);
}

base::Result<int> List(const Options& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  std::vector<Json> rows;
  int code = kExitFine;
  for (const client::Cluster::Broker& broker : cluster->brokers()) {
    HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(broker.id, kafka::ListGroupsRequest()));
    if (answer->error_code != ErrorCode::kNone)
      code = Refuse({.subject = fmt::format("groups of broker {}", broker.id),
                     .code = answer->error_code,
                     .needs = "--operation describe --cluster"});
    for (const auto& group : answer->groups) {
      // Older tiers tell less.
      const auto told = [](std::string_view text) { return text.empty() ? Json() : Json(text); };
      rows.push_back({{"name", group.group_id},
                      {"state", told(group.group_state)},
                      {"type", told(group.group_type)},
                      {"protocol", told(group.protocol_type)},
                      {"coordinator", broker.id}});
    }
  }
  std::ranges::sort(rows, {}, [](const Json& row) { return row.value("name", ""); });
  if (options.json) {
    PrintJson(rows);
  } else {
    PrintText(TableOf({{"name", "GROUP"},
                       {"state", "STATE"},
                       {"type", "TYPE"},
                       {"protocol", "PROTOCOL"},
                       {"coordinator", "COORDINATOR"}},
                      rows));
  }
  return code;
}

std::vector<PartitionName> AssignmentOf(std::string_view bytes) {
  std::vector<PartitionName> partitions;
  const auto assigned = broker::ParseConsumerAssignment(bytes);
  if (!assigned) return partitions;
  for (const broker::TopicPartitions& topic : assigned->topics) {
    for (const int32_t partition : topic.partitions)
      partitions.emplace_back(topic.topic, partition);
  }
  return partitions;
}

base::Result<client::Group> Describe(client::Cluster& cluster, const std::string& name) {
  return client::DescribeGroup(cluster, name, AssignmentOf);
}

int RefuseGroup(const client::Group& group, std::string_view operation) {
  return Refuse({.subject = "group " + group.name,
                 .code = group.error,
                 .message = group.why,
                 .needs = GroupNeeds(operation, group.name)});
}

// A row for each partition that is committed or assigned, and for each member without any.
base::Result<std::vector<Json>> PartitionRows(client::Cluster& cluster,
                                              const client::Group& group) {
  HF_ASSIGN_OR_RETURN(const auto committed,
                      client::CommittedOffsets(cluster, group.coordinator, group.name));
  std::map<PartitionName, const client::GroupMember*> owners;
  std::vector<Json> idle;
  for (const auto& [name, offset] : committed) owners[name] = nullptr;
  for (const client::GroupMember& member : group.members) {
    for (const PartitionName& name : member.partitions) owners[name] = &member;
    if (member.partitions.empty())
      idle.push_back({{"topic", nullptr},
                      {"partition", nullptr},
                      {"committed", nullptr},
                      {"end", nullptr},
                      {"lag", nullptr},
                      {"member", member.id},
                      {"client", member.client},
                      {"host", member.host}});
  }
  std::set<std::string> names;
  for (const auto& [name, owner] : owners) names.insert(name.first);
  std::vector<Json> rows;
  if (!names.empty()) {
    HF_ASSIGN_OR_RETURN(
        const auto topics,
        client::LookUpTopics(cluster, std::vector<std::string>(names.begin(), names.end())));
    HF_ASSIGN_OR_RETURN(const auto starts,
                        client::FindOffsets(cluster, topics, client::kStartTime));
    HF_ASSIGN_OR_RETURN(const auto ends, client::FindOffsets(cluster, topics, client::kEndTime));
    for (const auto& [name, owner] : owners) {
      Json row{{"topic", name.first}, {"partition", name.second}};
      const auto at = committed.find(name);
      const auto end = ends.find(name);
      const bool known = end != ends.end() && end->second.error == ErrorCode::kNone;
      row["committed"] = at == committed.end() ? Json() : Json(at->second);
      row["end"] = known ? Json(end->second.offset) : Json();
      row["lag"] = nullptr;
      if (known) {
        // What was deleted meanwhile does not wait; without an offset everything does.
        const int64_t start = starts.at(name).offset;
        const int64_t from = at == committed.end() ? start : std::max(at->second, start);
        row["lag"] = std::max<int64_t>(end->second.offset - from, 0);
      }
      row["member"] = owner == nullptr ? Json() : Json(owner->id);
      row["client"] = owner == nullptr ? Json() : Json(owner->client);
      row["host"] = owner == nullptr ? Json() : Json(owner->host);
      rows.push_back(std::move(row));
    }
  }
  rows.insert(rows.end(), idle.begin(), idle.end());
  return rows;
}

base::Result<int> DescribeAll(const Options& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  int code = kExitFine;
  Json described = Json::array();
  for (const std::string& name : options.names) {
    HF_ASSIGN_OR_RETURN(const client::Group group, Describe(*cluster, name));
    if (group.error != ErrorCode::kNone) {
      code = RefuseGroup(group, "describe");
      continue;
    }
    HF_ASSIGN_OR_RETURN(auto rows, PartitionRows(*cluster, group));
    int64_t lag = 0;
    for (const Json& row : rows) {
      if (row["lag"].is_number()) lag += row["lag"].get<int64_t>();
    }
    if (options.json) {
      described.push_back({{"name", name},
                           {"state", group.state},
                           {"type", group.protocol},
                           {"assignor", group.assignor},
                           {"coordinator", group.coordinator},
                           {"members", group.members.size()},
                           {"lag", lag},
                           {"partitions", std::move(rows)}});
      continue;
    }
    PrintText(fmt::format("{}{}\nstate {}, {}{}, members {}, coordinator {}, lag {}\n\n",
                          name == options.names.front() ? "" : "\n", base::Printable(name),
                          group.state, base::Printable(group.protocol),
                          group.assignor.empty() ? "" : " with " + base::Printable(group.assignor),
                          group.members.size(), group.coordinator,
                          agent::CountText(static_cast<uint64_t>(lag))));
    PrintText(TableOf({{"topic", "TOPIC"},
                       {"partition", "PARTITION"},
                       {"committed", "COMMITTED"},
                       {"end", "END"},
                       {"lag", "LAG"},
                       {"member", "MEMBER"},
                       {"client", "CLIENT"},
                       {"host", "HOST"}},
                      rows));
  }
  if (options.json) PrintJson(described);
  return code;
}

base::Result<int> Delete(const Options& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  const std::string question =
      fmt::format("Delete the groups {} with their offsets?", fmt::join(options.names, ", "));
  if (const int code = Confirm(options.yes, question); code != kExitFine) return code;
  int code = kExitFine;
  for (const std::string& name : options.names) {
    HF_ASSIGN_OR_RETURN(const int32_t coordinator, cluster->FindCoordinator(name));
    kafka::DeleteGroupsRequest request;
    request.groups_names.emplace_back(name);
    HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(coordinator, request));
    for (const auto& result : answer->results) {
      if (result.error_code == ErrorCode::kNone) {
        PrintText(fmt::format("deleted {}\n", result.group_id));
      } else {
        code = Refuse({.subject = fmt::format("group {}", result.group_id),
                       .code = result.error_code,
                       .needs = GroupNeeds("delete", result.group_id)});
      }
    }
  }
  return code;
}

bool Wanted(const Options& options, const PartitionName& name) {
  const auto has = [](const auto& list, const auto& one) {
    return list.empty() || std::ranges::find(list, one) != list.end();
  };
  return has(options.topics, name.first) && has(options.partitions, name.second);
}

base::Result<int> DeleteOffsets(const Options& options, const TierAccess& tier) {
  const std::string& name = options.names.front();
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  HF_ASSIGN_OR_RETURN(const int32_t coordinator, cluster->FindCoordinator(name));
  HF_ASSIGN_OR_RETURN(const auto committed, client::CommittedOffsets(*cluster, coordinator, name));
  kafka::OffsetDeleteRequest request;
  request.group_id = name;
  for (const auto& [partition, offset] : committed) {
    if (!Wanted(options, partition)) continue;
    if (request.topics.empty() || request.topics.back().name != partition.first)
      request.topics.emplace_back().name = partition.first;
    request.topics.back().partitions.push_back({partition.second});
  }
  if (request.topics.empty())
    return base::Unexpected(Code::kNotFound, fmt::format("group {} has no offsets of {}", name,
                                                         fmt::join(options.topics, ", ")));
  HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(coordinator, request));
  if (answer->error_code != ErrorCode::kNone)
    return Refuse({.subject = "group " + name,
                   .code = answer->error_code,
                   .needs = GroupNeeds("delete", name)});
  int code = kExitFine;
  for (const auto& topic : answer->topics) {
    for (const auto& partition : topic.partitions) {
      const std::string subject = fmt::format("{}/{}", topic.name, partition.partition_index);
      if (partition.error_code == ErrorCode::kNone) {
        PrintText(fmt::format("deleted the offset of {}\n", subject));
      } else {
        code = Refuse({.subject = subject,
                       .code = partition.error_code,
                       .needs = fmt::format("--operation read --topic {}", topic.name)});
      }
    }
  }
  return code;
}

// Which partitions are moved, as topics of them alone.
base::Result<std::vector<client::Topic>> SeekTopics(
    client::Cluster& cluster, const Options& options,
    const std::map<PartitionName, int64_t>& committed) {
  std::set<std::string> names(options.topics.begin(), options.topics.end());
  if (names.empty()) {
    for (const auto& [name, offset] : committed) names.insert(name.first);
  }
  if (names.empty())
    return base::Unexpected(
        Code::kNotFound,
        fmt::format("group {} has no offsets; --topics says which to set", options.names.front()));
  HF_ASSIGN_OR_RETURN(auto topics, client::LookUpTopics(cluster, std::vector<std::string>(
                                                                     names.begin(), names.end())));
  if (!options.topics.empty()) {
    HF_RETURN_IF_ERROR(client::KeepPartitions(topics, options.partitions));
    return topics;
  }
  // Those that the group has read.
  for (const int32_t wanted : options.partitions) {
    if (std::ranges::none_of(committed,
                             [wanted](const auto& one) { return one.first.second == wanted; }))
      return base::Unexpected(
          Code::kNotFound,
          fmt::format("group {} has no offset of a partition {}", options.names.front(), wanted));
  }
  for (client::Topic& topic : topics) {
    std::erase_if(topic.partitions, [&](const client::Partition& partition) {
      const PartitionName name{topic.name, partition.index};
      return !Wanted(options, name) || !committed.contains(name);
    });
  }
  return topics;
}

base::Result<int> Seek(const Options& options, const TierAccess& tier) {
  const std::string& name = options.names.front();
  HF_ASSIGN_OR_RETURN(const Position to, client::ParsePosition(options.to, agent::NowMs()));
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  HF_ASSIGN_OR_RETURN(const client::Group group, Describe(*cluster, name));
  // A group that is not there is made by its first offset.
  if (group.error != ErrorCode::kNone && group.error != ErrorCode::kGroupIdNotFound)
    return RefuseGroup(group, "read");
  if (!group.members.empty() && !options.dry_run)
    return base::Unexpected(
        Code::kUnavailable,
        fmt::format("group {} is {} with {} members: stop its consumers first, or they go on from "
                    "where they are",
                    name, group.state, group.members.size()));
  HF_ASSIGN_OR_RETURN(const auto committed,
                      client::CommittedOffsets(*cluster, group.coordinator, name));
  HF_ASSIGN_OR_RETURN(const auto topics, SeekTopics(*cluster, options, committed));
  int code = kExitFine;
  for (const client::Topic& topic : topics) {
    if (topic.error != ErrorCode::kNone)
      code = Refuse({.subject = "topic " + topic.name,
                     .code = topic.error,
                     .needs = "--operation read --topic " + topic.name});
  }
  HF_ASSIGN_OR_RETURN(const auto located, client::Locate(*cluster, topics, to, committed));
  std::map<PartitionName, int64_t> wanted;
  for (const auto& [partition, at] : located) {
    if (at.error == ErrorCode::kNone) {
      wanted[partition] = at.offset;
    } else {
      code = Refuse({.subject = fmt::format("{}/{}", partition.first, partition.second),
                     .code = at.error,
                     .needs = "--operation describe --topic " + partition.first});
    }
  }
  if (code != kExitFine) {
    Complain("nothing was changed");
    return code;
  }
  std::map<PartitionName, ErrorCode> done;
  if (!options.dry_run) {
    HF_ASSIGN_OR_RETURN(done, client::SetOffsets(*cluster, group.coordinator, name, wanted));
  }
  std::vector<Json> rows;
  for (const auto& [partition, offset] : wanted) {
    const auto result = done.find(partition);
    if (result != done.end() && result->second != ErrorCode::kNone) {
      code = Refuse({.subject = fmt::format("{}/{}", partition.first, partition.second),
                     .code = result->second,
                     .needs = GroupNeeds("read", name)});
      continue;
    }
    const auto before = committed.find(partition);
    rows.push_back({{"topic", partition.first},
                    {"partition", partition.second},
                    {"before", before == committed.end() ? Json() : Json(before->second)},
                    {"after", offset}});
  }
  if (options.json) {
    PrintJson(rows);
  } else {
    PrintText(TableOf(
        {{"topic", "TOPIC"}, {"partition", "PARTITION"}, {"before", "BEFORE"}, {"after", "AFTER"}},
        rows));
  }
  return code;
}

class Verbs {
 public:
  Verbs(CLI::App& group, ClientCommand* command) : group_(group), command_(command) {}

  using Run = base::Result<int> (*)(const Options&, const TierAccess&);

  CLI::App* Add(const char* name, const char* description, const char* footer, Run run) {
    options_ = std::make_shared<Options>();
    verb_ = AddClientVerb(
        group_, command_, name, description, footer,
        [options = options_, run](const TierAccess& tier) { return run(*options, tier); });
    return verb_;
  }
  void Names(bool one) {
    auto* const option =
        verb_->add_option("GROUP", options_->names, "Which")->required()->type_name("");
    if (one) option->expected(1);
  }
  void Partitions(bool required) {
    verb_->add_option("-t,--topics", options_->topics, "Of these topics alone")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->required(required)
        ->type_name("TOPIC[,...]");
    verb_->add_option("-p,--partitions", options_->partitions, "Of these partitions alone")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("N[,...]");
  }
  void Json() { AddOutputFormat(*verb_, &options_->json); }
  void Yes() { verb_->add_flag("--yes", options_->yes, "Do not ask"); }
  void To() {
    verb_->add_option("--to", options_->to, "Where the group is to go on")
        ->required()
        ->type_name("POSITION");
    verb_->add_flag("--dry-run", options_->dry_run, "Show what would change, and change nothing");
  }

 private:
  CLI::App& group_;
  ClientCommand* const command_;
  std::shared_ptr<Options> options_;  // Of the verb that was added last.
  CLI::App* verb_ = nullptr;
};

}  // namespace

void AddGroupVerbs(CLI::App& group, ClientCommand* command) {
  group.require_subcommand(0, 1);
  Verbs verbs(group, command);
  verbs.Add("list", "Which groups there are", kListFooter, List)->alias("ls");
  verbs.Json();
  verbs.Add("describe", "Members of groups, and how far each partition was read", kDescribeFooter,
            DescribeAll);
  verbs.Names(/*one=*/false);
  verbs.Json();
  verbs.Add("delete", "Delete groups", kDeleteFooter, Delete);
  verbs.Names(/*one=*/false);
  verbs.Yes();
  verbs.Add("offset-delete", "Forget how far a group has read topics", kOffsetDeleteFooter,
            DeleteOffsets);
  verbs.Names(/*one=*/true);
  verbs.Partitions(/*required=*/true);
  verbs.Add("seek", "Set from where a group goes on", kSeekFooter, Seek)->alias("reset");
  verbs.Names(/*one=*/true);
  verbs.Partitions(/*required=*/false);
  verbs.To();
  verbs.Json();
}

}  // namespace holdfast::cli
