// Asks the tier for the settings of those topics that local clients produce to (DescribeConfigs),
// and keeps the metadata cache up to date with them: when a client first produces to a topic, when
// the topic is another one (its id changed), and again at an interval.
//
// A tier that does not tell (no such API, or no right to ask) is asked again at the interval; until
// then the agent's own limits hold, and the log says so once.
//
// Ownership: loop, tier and cache outlive it.
// Threads: everything on the loop. Shutdown: the tier, which goes first, drops answers.
// Limits: one question at a time, of at most kTopicsPerQuestion topics.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/executor.h"
#include "kafka/api/describe_configs.h"
#include "proxy/metadata_cache.h"
#include "proxy/tier.h"

namespace holdfast::proxy {

class SettingsInquiry {
 public:
  static constexpr size_t kTopicsPerQuestion = 100;

  SettingsInquiry(base::Executor& loop, Tier& tier, MetadataCache& cache, base::Duration refresh);

  // A client produces to the topic, and the cache has no settings of it.
  void Want(std::string topic);
  // The tier answers (again): asks what is open.
  void OnTierReady() { Ask(); }

 private:
  void Ask();
  void OnAnswer(const std::vector<std::string>& asked,
                const base::Result<kafka::DescribeConfigsResponse>& answer);
  void Settle(const kafka::DescribeConfigsResponse::DescribeConfigsResult& told);
  void TellsNothing(std::string_view topic, std::string_view why);
  void PlanRefresh();

  base::Executor& loop_;
  Tier& tier_;
  MetadataCache& cache_;
  const base::Duration refresh_;
  std::set<std::string, std::less<>> open_;  // Topics to be asked for.
  bool asking_ = false;
  bool complained_ = false;
  base::Timer refresh_timer_;
  base::Timer retry_timer_;
};

}  // namespace holdfast::proxy
