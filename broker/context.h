// What the parts of one broker share.
//
// Ownership: the broker owns it and all it points to; it outlives the workers.
// Threads: immutable after Start but for what is published, the log and the metrics, which say
//   themselves what is allowed.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "broker/broker.h"
#include "broker/catalog.h"
#include "broker/fetch_session.h"
#include "broker/log.h"
#include "metrics/catalogue.h"

namespace holdfast::broker {

struct Context {
  Context(Options broker_options, metrics::Registry& registry)
      : options(std::move(broker_options)),
        metrics(registry),
        fetch_sessions(options.fetch_sessions_max, metrics) {
    fetched_waiting_gauge = metrics.fetched_waiting_bytes.Bind(
        [bytes = fetched_waiting] { return static_cast<double>(bytes->load()); });
  }

  const Options options;
  std::string cluster_id;
  metrics::BrokerMetrics metrics;
  FetchSessionCache fetch_sessions;
  Catalog catalog;
  Published<Acls> acls;
  Published<GroupConfigs> group_configs;
  Published<BrokerConfig> broker_config;
  Published<ScramCredentials> scram;
  Published<Quotas> quotas;
  QuotaMeters meters;
  // Reads of the spool that fetched batches are lent from just now; shared with these.
  const std::shared_ptr<std::atomic<size_t>> lent = std::make_shared<std::atomic<size_t>>(0);
  // See Options::fetched_waiting_bytes_max; shared with the answers.
  const std::shared_ptr<std::atomic<size_t>> fetched_waiting =
      std::make_shared<std::atomic<size_t>>(0);
  metrics::CallbackGauge::Binding fetched_waiting_gauge;
  std::unique_ptr<Log> log;
};

}  // namespace holdfast::broker
