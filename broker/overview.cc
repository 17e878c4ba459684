#include "broker/overview.h"

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/run_and_wait.h"
#include "net/overview_parts.h"

namespace holdfast::broker {
namespace {

using nlohmann::json;

// A group that is further behind, or stands still, is worth a look.
constexpr int64_t kFarBehind = 100'000;

struct PartitionRow {
  const Topic* topic = nullptr;
  int32_t partition = 0;
  int64_t start = 0;
  int64_t end = 0;
  int64_t stable = 0;
};

std::vector<PartitionRow> RowsOf(const Topics& topics) {
  std::vector<PartitionRow> rows;
  rows.reserve(topics.partitions());
  for (const Topic* topic : topics.All()) {
    for (const Partition* partition : topic->partitions) {
      rows.push_back({.topic = topic,
                      .partition = partition->id.partition,
                      .start = partition->log_start.load(),
                      .end = partition->high_watermark.load(),
                      .stable = partition->last_stable_offset.load()});
    }
  }
  return rows;
}

json DescribePartitions(std::vector<PartitionRow> rows, const net::TableQuery& query) {
  const size_t total = rows.size();
  std::erase_if(rows, [&](const PartitionRow& row) { return !query.Matches(row.topic->name); });
  const auto by = [&](auto key) {
    query.SortBy(rows, key, [](const PartitionRow& row) {
      return std::pair(std::string_view(row.topic->name), row.partition);
    });
  };
  if (query.sort == "records") {
    by([](const PartitionRow& row) { return row.end - row.start; });
  } else if (query.sort == "start") {
    by([](const PartitionRow& row) { return row.start; });
  } else if (query.sort == "end") {
    by([](const PartitionRow& row) { return row.end; });
  } else {
    by([](const PartitionRow& row) {
      return std::pair(std::string_view(row.topic->name), row.partition);
    });
  }
  json shown = json::array();
  for (size_t i = query.begin_of(rows.size()); i < query.end_of(rows.size()); ++i) {
    const PartitionRow& row = rows[i];
    shown.push_back({{"topic", row.topic->name},
                     {"partition", row.partition},
                     {"log_start", row.start},
                     {"high_watermark", row.end},
                     {"last_stable_offset", row.stable}});
  }
  return {{"total", total},
          {"matching", rows.size()},
          {"offset", query.offset},
          {"shown", std::move(shown)}};
}

json DescribeGroups(const std::vector<Coordinator::Summary>& groups, const net::TableQuery& query) {
  std::vector<const Coordinator::Summary*> rows;
  for (const Coordinator::Summary& group : groups) {
    if (query.Matches(group.id) || query.Matches(group.state)) rows.push_back(&group);
  }
  const auto by = [&](auto key) {
    query.SortBy(
        rows, [&](const Coordinator::Summary* group) { return key(*group); },
        [](const Coordinator::Summary* group) -> std::string_view { return group->id; });
  };
  if (query.sort == "group") {
    by([](const Coordinator::Summary& group) { return std::string_view(group.id); });
  } else if (query.sort == "members") {
    by([](const Coordinator::Summary& group) { return group.members; });
  } else if (query.sort == "state") {
    by([](const Coordinator::Summary& group) { return group.state; });
  } else {
    by([](const Coordinator::Summary& group) { return group.lag; });
  }
  json shown = json::array();
  for (size_t i = query.begin_of(rows.size()); i < query.end_of(rows.size()); ++i) {
    shown.push_back({{"group", rows[i]->id},
                     {"state", rows[i]->state},
                     {"members", rows[i]->members},
                     {"committed_offsets", rows[i]->offsets},
                     {"lag", rows[i]->lag}});
  }
  return {{"total", groups.size()},
          {"matching", rows.size()},
          {"offset", query.offset},
          {"shown", std::move(shown)}};
}

json DescribeTransactions(const Transactions::Summary& summary, size_t open, const Topics& topics) {
  json states = json::object();
  for (const auto& [state, count] : summary.states)
    states[std::string(TransactionStateName(state))] = count;
  json oldest = json::array();
  for (const Transactions::Summary::Open& one : summary.oldest) {
    json partitions = json::array();
    for (const TopicPartition& partition : one.partitions) {
      const Topic* const topic = topics.Find(partition.topic);
      if (topic != nullptr)
        partitions.push_back(topic->name + "/" + std::to_string(partition.partition));
    }
    oldest.push_back({{"id", one.id},
                      {"producer_id", one.producer.id},
                      {"producer_epoch", one.producer.epoch},
                      {"start_ms", one.start_ms},
                      {"timeout_ms", one.timeout_ms},
                      {"partitions", std::move(partitions)},
                      {"partition_count", one.partition_count},
                      {"group_count", one.group_count}});
  }
  return {{"open", open}, {"states", std::move(states)}, {"oldest", std::move(oldest)}};
}

json JudgeBroker(const spool::Status& spool, const std::vector<Coordinator::Summary>& groups) {
  json remarks = json::array();
  if (!spool.accepting) {
    remarks.push_back(
        {{"severity", "failing"},
         {"title", "Producers are refused: " + spool.refusing_because},
         {"why", "Consumers are served. Agents keep what they have until records are taken again."},
         {"todo",
          "Free some disk, raise `broker.data.bytes_max`, or shorten `retention.ms` or "
          "`retention.bytes` of topics."}});
  }
  for (const Coordinator::Summary& group : groups) {
    if (group.lag == 0 || group.members != 0 || group.lag < kFarBehind) continue;
    remarks.push_back(
        {{"severity", "notice"},
         {"title", "Nobody reads for group " + group.id},
         {"why", "It has no members, and is " + std::to_string(group.lag) + " records behind."},
         {"todo", "Start its consumers, or delete the group if it is not needed any more."}});
    if (remarks.size() == 5) break;
  }
  const std::string severity = remarks.empty() ? "fine" : remarks.front()["severity"];
  const std::string headline =
      spool.accepting ? std::string("Serving") : remarks.front()["title"].get<std::string>();
  return {{"severity", severity}, {"headline", headline}, {"remarks", std::move(remarks)}};
}

}  // namespace

Overview::Overview(Context& context, const Coordinator& coordinator, base::Executor& loop,
                   base::Executor& writer)
    : context_(context),
      coordinator_(coordinator),
      loop_(loop),
      writer_(writer),
      history_({{"in_records", &context_.metrics.produced_records},
                {"in_bytes", &context_.metrics.produced_bytes},
                {"out_bytes", &context_.metrics.fetched_bytes}}) {
  Sample();
}

void Overview::Sample() {
  history_.Sample(loop_.WallClockMs());
  // One question at a time, however long the writer is busy.
  if (!told_->asked.exchange(true)) {
    writer_.Post([told = told_, &log = *context_.log] {
      Transactions::Summary summary = log.transactions().Summarize(kTransactionsShown);
      const base::MutexLock lock(told->mutex);
      told->transactions = std::move(summary);
      told->asked = false;
    });
  }
  timer_ = loop_.After(metrics::History::kSampleEvery, [this] { Sample(); });
}

net::AdminResponse Overview::Get(const net::AdminRequest& request) {
  const auto queries = net::ParseTableQueries(
      request, {{.prefix = "", .sorts = {"topic", "records", "start", "end"}},
                {.prefix = "groups_", .sorts = {"lag", "group", "state", "members"}}});
  if (!queries) return {.status = 400, .body = queries.error().message + "\n"};
  const auto topics = context_.catalog.Get();
  std::vector<Coordinator::Summary> groups;
  int64_t now_ms = 0;
  RunAndWait(loop_, [&] {
    groups = coordinator_.Summarize(*topics);
    now_ms = loop_.WallClockMs();
  });
  Transactions::Summary transactions;
  {
    const base::MutexLock lock(told_->mutex);
    transactions = told_->transactions;
  }
  const spool::Status spool = context_.log->spool().GetStatus();
  json rates = net::DescribeRates(history_.Get());
  return net::JsonResponse(
      {{"role", "broker"},
       {"now_ms", now_ms},
       {"cluster_id", context_.cluster_id},
       {"node_id", context_.options.node_id},
       {"verdict", JudgeBroker(spool, groups)},
       {"rates", std::move(rates)},
       {"topics", topics->size()},
       {"partitions", DescribePartitions(RowsOf(*topics), (*queries)[0])},
       {"groups", DescribeGroups(groups, (*queries)[1])},
       {"transactions",
        DescribeTransactions(transactions, context_.log->transactions().ongoing(), *topics)},
       {"disk",
        {{"entry_bytes", spool.entry_bytes},
         {"disk_bytes", spool.disk_bytes},
         {"bytes_max", spool.bytes_max},
         {"accepting", spool.accepting},
         {"refusing_because", spool.refusing_because},
         {"segments", spool.segments},
         {"durable_commit", spool.durable.value()}}},
       {"events", net::DescribeRecentLines()}});
}

}  // namespace holdfast::broker
