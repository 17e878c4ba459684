#include "proxy/settings_inquiry.h"

#include "base/event.h"
#include "base/log.h"

namespace holdfast::proxy {
namespace {

using base::LogLevel;
using kafka::ErrorCode;

constexpr int8_t kTopicResource = 2;
constexpr base::Duration kRetryAfter = std::chrono::seconds(1);

}  // namespace

SettingsInquiry::SettingsInquiry(base::Executor& loop, Tier& tier, MetadataCache& cache,
                                 base::Duration refresh)
    : loop_(loop), tier_(tier), cache_(cache), refresh_(refresh) {
  // What was kept over a restart may have changed meanwhile.
  for (const auto& [name, topic] : cache_.cluster()->topics) {
    if (topic->settings) open_.insert(name);
  }
  PlanRefresh();
}

void SettingsInquiry::PlanRefresh() {
  refresh_timer_ = loop_.After(refresh_, [this] {
    for (const auto& [name, topic] : cache_.cluster()->topics) {
      if (topic->settings) open_.insert(name);
    }
    PlanRefresh();
    Ask();
  });
}

void SettingsInquiry::Want(std::string topic) {
  open_.insert(std::move(topic));
  Ask();
}

void SettingsInquiry::Ask() {
  if (asking_ || open_.empty() || !tier_.Ready(kAnyNode)) return;
  kafka::DescribeConfigsRequest request;
  std::vector<std::string> asked;
  while (!open_.empty() && asked.size() < kTopicsPerQuestion) {
    asked.push_back(std::move(open_.extract(open_.begin()).value()));
  }
  const auto names = TopicSettingNames();
  for (const std::string& topic : asked) {
    request.resources.push_back(
        {.resource_type = kTopicResource,
         .resource_name = topic,
         .configuration_keys = std::vector<std::string_view>(names.begin(), names.end())});
  }
  if (!tier_.Version(kAnyNode, kafka::DescribeConfigsRequest::kApi)) {
    for (const std::string& topic : asked) {
      TellsNothing(topic, "it does not serve DescribeConfigs in a version known here");
    }
    return Ask();
  }
  asking_ = true;
  tier_.Call(
      kAnyNode, request,
      base::UniqueFunction<void(base::Result<kafka::DescribeConfigsResponse>)>(
          [this, asked = std::move(asked)](base::Result<kafka::DescribeConfigsResponse> answer) {
            asking_ = false;
            OnAnswer(asked, answer);
            Ask();
          }));
}

void SettingsInquiry::OnAnswer(const std::vector<std::string>& asked,
                               const base::Result<kafka::DescribeConfigsResponse>& answer) {
  if (answer) {
    for (const auto& told : answer->results) Settle(told);
    return;
  }
  // The connection is gone, or the tier is not well: what is open is asked for soon.
  retry_timer_ = loop_.After(kRetryAfter, [this, asked] {
    open_.insert(asked.begin(), asked.end());
    Ask();
  });
}

void SettingsInquiry::Settle(const kafka::DescribeConfigsResponse::DescribeConfigsResult& told) {
  switch (told.error_code) {
    case ErrorCode::kNone:
      cache_.LearnSettings(told.resource_name, ReadTopicSettings(told));
      return;
    case ErrorCode::kUnknownTopicOrPartition:
      return;  // Gone meanwhile. Whoever produces to it asks again.
    default:
      TellsNothing(told.resource_name, kafka::ErrorName(told.error_code));
  }
}

// What it told before stays: it is the best guess.
void SettingsInquiry::TellsNothing(std::string_view topic, std::string_view why) {
  const ClusterPtr cluster = cache_.cluster();
  const Topic* known = cluster->FindTopic(topic);
  if (known == nullptr || known->settings) return;
  if (!std::exchange(complained_, true)) {
    base::Log(
        base::Event::kSettingsNotTold, {"upstream", topic},
        "the tier does not tell the settings of this topic (and perhaps of others): {}. Records "
        "are held to the agent's own limits; grant DescribeConfigs on the topics for more",
        why);
  }
  cache_.LearnSettings(topic, TopicSettings());
}

}  // namespace holdfast::proxy
