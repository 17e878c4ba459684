#include "cli/outbox_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include "agent/outbox/lmdb_source.h"
#include "agent/outbox/postgres_source.h"
#include "agent/outbox/sqlite_source.h"
#include "agent/outbox/table_mapping.h"
#include "config/holdfast.pb.h"

namespace holdfast::cli {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;
using outbox::OutboxOptions;
using outbox::TableMapping;
using std::chrono::milliseconds;
using MakeSource = decltype(OutboxOptions::make_source);

Result<TableMapping> MappingOf(const config::OutboxSource& config) {
  const std::map<std::string, std::string> properties(config.properties().begin(),
                                                      config.properties().end());
  HF_ASSIGN_OR_RETURN(TableMapping mapping,
                      TableMapping::Of(static_cast<outbox::Preset>(config.preset()), properties));
  if (config.has_table()) mapping.table = config.table();
  // What LMDB's topics are made from is not known here, see TableMapping::Of.
  if (config.has_lmdb()) {
    if (config.has_topic()) mapping.topic = config.topic();
  } else {
    HF_RETURN_IF_ERROR(mapping.SetTopic(config.has_topic() ? config.topic() : mapping.topic));
  }
  return mapping;
}

// By which people know an agent that shares a table with others.
std::string AgentName(const config::Agent& config) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  std::error_code none;  // Without a directory nothing is owned: a configuration is looked at.
  const auto directory = std::filesystem::absolute(config.spool().directory(), none);
  return fmt::format("{}:{}", host.data(), directory.string());
}

MakeSource PostgresOf(const config::PostgresOutbox& config, TableMapping mapping,
                      std::string agent) {
  using outbox::PostgresSource;
  return [options = PostgresSource::Options{
              .connection = config.connection(),
              .mapping = std::move(mapping),
              .ownership = config.ownership() == config::PostgresOutbox::lease
                               ? PostgresSource::Ownership::kLease
                               : PostgresSource::Ownership::kAdvisoryLock,
              .hash_partitions = config.hash_partitions(),
              .takeover_after = milliseconds(config.takeover_after_ms()),
              .lease = milliseconds(config.lease_ms()),
              .agent = std::move(agent)}](outbox::Source::Taker taker) {
    PostgresSource::Options with = options;
    with.taker = std::move(taker);
    return std::make_unique<PostgresSource>(std::move(with));
  };
}

Result<OutboxOptions> OptionsOf(const config::OutboxSource& source, const config::Agent& config) {
  HF_ASSIGN_OR_RETURN(const TableMapping mapping, MappingOf(source));
  if (source.has_postgres() + source.has_sqlite() + source.has_lmdb() != 1) {
    return Unexpected(Code::kInvalid, "set one of postgres, sqlite and lmdb");
  }
  OutboxOptions options{
      .drain = {.name = source.name(),
                .batch_rows = source.batch_rows(),
                .poll_min = milliseconds(source.poll_min_ms()),
                .poll_max = milliseconds(source.poll_max_ms())},
      .router = {
          .topic = mapping.topic,
          .tombstone_on_empty_payload = mapping.tombstone_on_empty_payload,
          .partitioner = static_cast<kafka::Partitioner>(source.partitioner()),
          .batch_bytes_max = static_cast<int64_t>(config.limits().batch_bytes_max()),
          .timestamp_ahead_max_ms = static_cast<int64_t>(config.limits().timestamp_ahead_max_ms()),
          .unknown_topic_timeout = milliseconds(source.unknown_topic_timeout_ms())}};
  HF_RETURN_IF_ERROR(outbox::Router::Make(options.router));
  if (source.has_postgres()) {
    options.make_source = PostgresOf(source.postgres(), mapping, AgentName(config));
  } else if (source.has_sqlite()) {
    options.make_source =
        [with = outbox::SqliteSource::Options{.file = source.sqlite().file(), .mapping = mapping}](
            const outbox::Source::Taker&) { return std::make_unique<outbox::SqliteSource>(with); };
  } else {
    options.make_source =
        [with = outbox::LmdbSource::Options{.environment = source.lmdb().directory(),
                                            .topic = mapping.topic}](const outbox::Source::Taker&) {
          return std::make_unique<outbox::LmdbSource>(with);
        };
  }
  return options;
}

}  // namespace

Result<std::vector<OutboxOptions>> OutboxOptionsOf(const config::Agent& config) {
  std::vector<OutboxOptions> all;
  std::set<std::string> names;
  // In PostgreSQL an agent is one owner of a table's parts: two of its sources would both be it.
  std::map<std::pair<std::string, std::string>, std::string> tables;
  for (const config::OutboxSource& source : config.outbox()) {
    const std::string where = "agent.outbox " + source.name();
    if (!names.insert(source.name()).second)
      return Unexpected(Code::kInvalid, where + ": two sources have this name");
    auto options = OptionsOf(source, config);
    if (!options) return Unexpected(std::move(options.error()).Within(where));
    all.push_back(*std::move(options));
    if (!source.has_postgres()) continue;
    HF_ASSIGN_OR_RETURN(const TableMapping mapping, MappingOf(source));
    const auto [other, first] =
        tables.emplace(std::pair(source.postgres().connection(), mapping.table), source.name());
    if (!first)
      return Unexpected(Code::kInvalid,
                        fmt::format("{}: it and {} both take from table `{}` of one database",
                                    where, other->second, mapping.table));
  }
  return all;
}

Result<std::optional<agent::Agent::Options::HalfMessages>> HalfMessagesOf(
    const config::Agent& config) {
  const config::HalfMessages& half = config.half_messages();
  if (!half.enabled()) return std::nullopt;
  if (config.admin().empty()) {
    return Unexpected(Code::kInvalid,
                      "agent.half_messages are taken at agent.admin, which is not set");
  }
  std::vector<std::string> check_urls(half.check_urls().begin(), half.check_urls().end());
  if (check_urls.empty()) check_urls = {"http://127.0.0.1", "http://localhost", "http://[::1]"};
  return agent::Agent::Options::HalfMessages{
      .options = {.check_after = milliseconds(half.check_after_ms()),
                  .check_after_max = milliseconds(half.check_after_max_ms()),
                  .checks_max = half.checks_max(),
                  .check_urls = std::move(check_urls),
                  .batch_bytes_max = static_cast<int64_t>(config.limits().batch_bytes_max())},
      .check_timeout = milliseconds(half.check_timeout_ms())};
}

}  // namespace holdfast::cli
