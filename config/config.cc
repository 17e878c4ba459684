#include "config/config.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "base/check.h"
#include "base/event.h"
#include "config/holdfast.pb.h"
#include "config/loader.h"

namespace holdfast::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

base::Result<void> AllOf(const std::vector<std::string>& mistakes, base::Event event) {
  if (mistakes.empty()) return {};
  return base::Unexpected(base::Code::kInvalid, fmt::format("{}", fmt::join(mistakes, "\n")),
                          event);
}

// HOLDFAST__AGENT__SPOOL__DIRECTORY=dir is agent.spool.directory.
void ReadEnvironment(const std::vector<std::string>& environment, Loader& loader) {
  constexpr std::string_view kPrefix = "HOLDFAST__";
  for (const std::string& variable : environment) {
    if (!variable.starts_with(kPrefix)) continue;
    const size_t equals = variable.find('=');
    const std::string name = variable.substr(0, equals);
    std::string key;
    for (size_t i = kPrefix.size(); i < name.size(); ++i) {
      if (name.compare(i, 2, "__") == 0) {
        key += '.';
        ++i;
      } else {
        key += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
      }
    }
    loader.ReadSetting(key, variable.substr(equals + 1), name);
  }
}

const std::string& PatternOf(const TopicRule& rule) { return rule.topic(); }
const std::string& PatternOf(const ClientRule& rule) { return rule.client(); }
const std::string& PatternOf(const TransactionRule& rule) { return rule.pattern(); }

// A rule behind one that fits the same names never counts.
template <class Rules>
void CheckPatterns(std::string_view list, std::string_view key, const Rules& rules,
                   std::vector<std::string>& mistakes) {
  for (auto rule = rules.begin(); rule != rules.end(); ++rule) {
    const std::string& pattern = PatternOf(*rule);
    if (pattern.empty()) {
      mistakes.push_back(fmt::format("{} has a rule without \"{}\"", list, key));
      continue;
    }
    for (auto before = rules.begin(); before != rule; ++before) {
      const std::string& wider = PatternOf(*before);
      const bool covers = wider.ends_with('*')
                              ? pattern.starts_with(wider.substr(0, wider.size() - 1))
                              : wider == pattern;
      if (!wider.empty() && covers) {
        mistakes.push_back(
            fmt::format("{}: \"{}\" comes after \"{}\", which fits the same names, "
                        "so that it never counts",
                        list, pattern, wider));
      }
    }
  }
}

// What no single value shows.
void CheckTogether(const Config& config, std::vector<std::string>& mistakes) {
  const Upstream& upstream = config.agent().upstream();
  if (upstream.backoff_min_ms() > upstream.backoff_max_ms())
    mistakes.push_back(
        "agent.upstream.backoff_min_ms must not be more than agent.upstream.backoff_max_ms");
  const Groups& groups = config.broker().groups();
  if (groups.session_timeout_min_ms() > groups.session_timeout_max_ms())
    mistakes.push_back(
        "broker.groups.session_timeout_min_ms must not be more than "
        "broker.groups.session_timeout_max_ms");
  const ConsumerGroups& consumer = groups.consumer();
  if (consumer.session_timeout_ms() < consumer.session_timeout_min_ms() ||
      consumer.session_timeout_ms() > consumer.session_timeout_max_ms())
    mistakes.push_back(
        "broker.groups.consumer.session_timeout_ms must be between session_timeout_min_ms and "
        "session_timeout_max_ms");
  if (consumer.heartbeat_interval_ms() < consumer.heartbeat_interval_min_ms() ||
      consumer.heartbeat_interval_ms() > consumer.heartbeat_interval_max_ms())
    mistakes.push_back(
        "broker.groups.consumer.heartbeat_interval_ms must be between heartbeat_interval_min_ms "
        "and heartbeat_interval_max_ms");
  if (consumer.heartbeat_interval_ms() >= consumer.session_timeout_ms())
    mistakes.push_back(
        "broker.groups.consumer.heartbeat_interval_ms must be less than session_timeout_ms");
  CheckPatterns("agent.topic_rules", "topic", config.agent().topic_rules(), mistakes);
  CheckPatterns("agent.client_rules", "client", config.agent().client_rules(), mistakes);
  CheckPatterns("agent.transactions", "pattern", config.agent().transactions(), mistakes);
  std::set<std::string> topics;
  for (const DeclaredTopic& topic : config.agent().topics()) {
    if (topic.name().empty()) {
      mistakes.push_back("agent.topics has a topic without a name");
    } else if (!topics.insert(topic.name()).second) {
      mistakes.push_back("agent.topics names \"" + topic.name() + "\" twice");
    }
  }
}

std::string EnvironmentName(const std::string& key) {
  std::string name = "HOLDFAST__";
  for (const char c : key) {
    if (c == '.') {
      name += "__";
    } else {
      name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
  }
  return name;
}

void FindMissing(const Message& message, const std::string& path, const std::string& outer_flag,
                 std::vector<std::string>& mistakes) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string key = path + "." + field->name();
    const Check& rule = field->options().GetExtension(check);
    const bool set = field->is_repeated() ? reflection.FieldSize(message, field) > 0
                                          : reflection.HasField(message, field);
    if (rule.required() && !set) {
      const std::string& flag = rule.has_flag() ? rule.flag() : outer_flag;
      mistakes.push_back(
          fmt::format("{0} is not set: give {1}{2}--set {0}=..., {3}=..., or put it "
                      "into the configuration file",
                      key, flag, flag.empty() ? "" : ", ", EnvironmentName(key)));
    }
    if (field->message_type() != nullptr && !field->is_repeated())
      FindMissing(reflection.GetMessage(message, field), key, rule.flag(), mistakes);
  }
}

}  // namespace

base::Result<std::shared_ptr<const Config>> Load(const Sources& sources) {
  auto config = sources.base ? std::make_shared<Config>(*sources.base) : std::make_shared<Config>();
  Loader loader(*config, sources.references);
  for (const Setting& setting : sources.defaults)
    loader.ReadSetting(setting.key, setting.value, setting.origin);
  if (!sources.file.empty()) loader.ReadFile(sources.file);
  ReadEnvironment(sources.environment, loader);
  for (const Setting& setting : sources.sets)
    loader.ReadSetting(setting.key, setting.value, setting.origin);
  std::vector<std::string> mistakes = loader.mistakes();
  if (mistakes.empty()) CheckTogether(*config, mistakes);
  HF_RETURN_IF_ERROR(AllOf(mistakes, loader.event()));
  return config;
}

base::Result<void> CheckComplete(const Config& config, std::string_view part) {
  std::vector<std::string> mistakes;
  const google::protobuf::Message* message = &config;
  std::string flag;  // Of the innermost map.
  for (size_t begin = 0; begin <= part.size();) {
    const size_t end = std::min(part.find('.', begin), part.size());
    const FieldDescriptor* field =
        message->GetDescriptor()->FindFieldByName(std::string(part.substr(begin, end - begin)));
    HF_CHECK(field != nullptr);
    flag = field->options().GetExtension(check).flag();
    message = &message->GetReflection()->GetMessage(*message, field);
    begin = end + 1;
  }
  FindMissing(*message, std::string(part), flag, mistakes);
  return AllOf(mistakes, base::Event::kConfigurationIncomplete);
}

}  // namespace holdfast::config
