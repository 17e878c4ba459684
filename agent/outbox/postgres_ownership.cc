#include "agent/outbox/postgres_ownership.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "base/event.h"
#include "base/log.h"

namespace holdfast::outbox {
namespace {

using base::Code;
using base::LogLevel;
using base::Result;
using base::Unexpected;

constexpr const char* kThisDatabase =
    "(SELECT oid FROM pg_database WHERE datname = current_database())";
// Of locks with two keys.
constexpr int kTwoKeys = 2;
constexpr uint32_t kLockClass = 0x686f6c64;

std::string PartsOf(const std::set<int32_t>& parts) {
  return PostgresArray(std::vector<int32_t>(parts.begin(), parts.end()));
}

}  // namespace

std::string PostgresOwnership::LockClass() const {
  return std::to_string(static_cast<int32_t>(static_cast<uint32_t>(table_.oid) ^ kLockClass));
}

size_t PostgresOwnership::Share() const {
  return static_cast<size_t>((options_.parts + agents_ - 1) / agents_);
}

std::vector<int32_t> PostgresOwnership::Readable() const {
  std::vector<int32_t> parts;
  if (!leaving_.empty() && (Clock::now() - leaving_since_) % kPauseEvery < kPause) return parts;
  std::ranges::set_difference(owned_, leaving_, std::back_inserter(parts));
  return parts;
}

Result<void> PostgresOwnership::Start(PostgresConnection& connection, Table table) {
  table_ = std::move(table);
  owned_.clear();
  leaving_.clear();
  free_.clear();
  agents_ = 1;
  renewed_ = Clock::now();
  tried_ = renewed_;
  HF_RETURN_IF_ERROR(ForgetAgents(connection));
  HF_RETURN_IF_ERROR(SeeOthers(connection, name_));
  HF_RETURN_IF_ERROR(SettleOwnLeft(connection));
  HF_RETURN_IF_ERROR(CountAgents(connection));
  return TakeFree(connection);
}

Result<void> PostgresOwnership::ForgetAgents(PostgresConnection& connection) {
  HF_RETURN_IF_ERROR(connection.Execute(fmt::format(
      "DELETE FROM {} AS gone WHERE seen_at < clock_timestamp() - interval '1 day' AND NOT EXISTS "
      "(SELECT FROM {} AS owner WHERE owner.source_table = gone.source_table AND owner.agent = "
      "gone.agent AND NOT owner.clean)",
      table_.agents, table_.owners)));
  return {};
}

// Rows of before this was kept may have no agent: of how many parts theirs was one is not known,
// and they stop nobody.
Result<std::vector<int32_t>> PostgresOwnership::SeeLeft(
    PostgresConnection& connection, const std::function<bool(std::string_view)>& own) {
  HF_ASSIGN_OR_RETURN(
      const PostgresRows left,
      connection.Execute(
          fmt::format("SELECT owner.part, owner.agent, left_by.parts FROM {} AS owner JOIN {} AS "
                      "left_by USING (source_table, agent) WHERE source_table = $1 AND NOT "
                      "owner.clean AND left_by.parts <> $2::int",
                      table_.owners, table_.agents),
          {table_.name, std::to_string(options_.parts)}));
  std::vector<int32_t> own_left;
  for (int i = 0; i < left.count(); ++i) {
    const std::string_view agent = left.Text(i, 1);
    if (!own(agent)) {
      return Unexpected(
          Code::kInvalid,
          fmt::format("{}: this agent divides it into {} parts (hash_partitions), and `{}` left "
                      "some before all that it took was delivered, when it divided it into {}: "
                      "start that one again with that number, and change it when it has stopped "
                      "with nothing left. If it is gone for good, remove its rows from {}",
                      table_.name, options_.parts, agent, left.Text(i, 2), table_.owners));
    }
    own_left.push_back(static_cast<int32_t>(left.Integer(i, 0)));
  }
  return own_left;
}

Result<void> PostgresOwnership::SettleOwnLeft(PostgresConnection& connection) {
  HF_ASSIGN_OR_RETURN(
      std::vector<int32_t> left,
      SeeLeft(connection, [this](std::string_view agent) { return WasThisAgent(agent); }));
  if (left.empty()) return {};
  if (!options_.delivered()) {
    return Unexpected(Code::kUnavailable,
                      fmt::format("{}: what this agent took when it divided it into another number "
                                  "of parts is not at the tier yet; then it goes on with {}",
                                  table_.name, options_.parts));
  }
  // The others are taken again.
  std::erase_if(left, [this](int32_t part) { return part < options_.parts; });
  HF_RETURN_IF_ERROR(connection.Execute(
      fmt::format("UPDATE {} SET clean = true WHERE source_table = $1 AND part = ANY($2::int[])",
                  table_.owners),
      {table_.name, PostgresArray(left)}));
  return {};
}

Result<void> PostgresOwnership::Look(PostgresConnection& connection, Table table) {
  table_ = std::move(table);
  // The agent may be running, with another number of parts; its spool was not opened here.
  const std::string own = options_.agent + "#";
  HF_RETURN_IF_ERROR(SeeOthers(connection, own));
  HF_RETURN_IF_ERROR(SeeLeft(connection, [&](std::string_view agent) {
    return agent.starts_with(own) || agent == options_.agent;
  }));
  return {};
}

Result<void> PostgresOwnership::Keep(PostgresConnection& connection) {
  const auto now = Clock::now();
  if (now - renewed_ >= options_.lease / 3) {
    renewed_ = now;
    HF_RETURN_IF_ERROR(Renew(connection));
    HF_RETURN_IF_ERROR(CountAgents(connection));
  }
  HF_RETURN_IF_ERROR(GiveUpExcess(connection));
  if (now - tried_ >= std::min(kTryEvery, options_.lease / 3)) {
    tried_ = now;
    HF_RETURN_IF_ERROR(TakeFree(connection));
  }
  return {};
}

Result<void> PostgresOwnership::Renew(PostgresConnection& connection) {
  // A table that was made anew under the same name has no owner.
  HF_ASSIGN_OR_RETURN(const PostgresRows same,
                      connection.Execute("SELECT to_regclass($1)::oid = $2::oid",
                                         {table_.name, std::to_string(table_.oid)}));
  if (!same.True(0, 0)) {
    return Unexpected(Code::kUnavailable, fmt::format("{}: the table was made anew", table_.name));
  }
  if (options_.mode != Ownership::kLease || owned_.empty()) return {};
  HF_ASSIGN_OR_RETURN(
      const PostgresRows kept,
      connection.Execute(
          fmt::format("UPDATE {} SET expires_at = clock_timestamp() + $4 * interval '1 ms' WHERE "
                      "source_table = $1 AND agent = $2 AND part = ANY($3::int[]) AND NOT clean "
                      "RETURNING part",
                      table_.owners),
          {table_.name, name_, PartsOf(owned_), LeaseMs()}));
  std::set<int32_t> still;
  for (int i = 0; i < kept.count(); ++i) still.insert(static_cast<int32_t>(kept.Integer(i, 0)));
  if (still.size() < owned_.size()) {
    base::Log(base::Event::kLeasesLost, {"outbox", table_.name},
              "{} of {} leases ran out, and other agents took the parts",
              owned_.size() - still.size(), owned_.size());
  }
  owned_ = std::move(still);
  return {};
}

base::Error PostgresOwnership::TakenOver() const {
  return {Code::kUnavailable,
          fmt::format("{}: the lease ran out and another agent took over", table_.name)};
}

Result<void> PostgresOwnership::Hold(PostgresConnection& connection,
                                     std::span<const int32_t> parts) {
  // A lock that is lost takes the connection with it.
  const auto now = Clock::now();
  if (options_.mode != Ownership::kLease || now - renewed_ < options_.lease / 3) return {};
  renewed_ = now;
  HF_RETURN_IF_ERROR(Renew(connection));
  // Keep has nothing to renew then, however long that goes on.
  HF_RETURN_IF_ERROR(CountAgents(connection));
  if (!std::ranges::includes(owned_, parts)) return Unexpected(TakenOver());
  return {};
}

Result<void> PostgresOwnership::CountAgents(PostgresConnection& connection) {
  HF_RETURN_IF_ERROR(connection.Execute(
      fmt::format("INSERT INTO {} (source_table, agent, parts, seen_at) VALUES ($1, $2, $3::int, "
                  "clock_timestamp()) ON CONFLICT (source_table, agent) DO UPDATE SET parts = "
                  "excluded.parts, seen_at = excluded.seen_at",
                  table_.agents),
      {table_.name, name_, std::to_string(options_.parts)}));
  return SeeOthers(connection, name_);
}

Result<void> PostgresOwnership::SeeOthers(PostgresConnection& connection,
                                          const std::string& but_for) {
  HF_ASSIGN_OR_RETURN(
      const PostgresRows alive,
      connection.Execute(
          fmt::format("SELECT count(*), min(agent || '` into ' || parts) FILTER (WHERE "
                      "parts <> $3::int AND NOT starts_with(agent, $4)) FROM {} WHERE source_table "
                      "= $1 AND "
                      "seen_at > clock_timestamp() - $2 * interval '1 ms'",
                      table_.agents),
          {table_.name, LeaseMs(), std::to_string(options_.parts), but_for}));
  if (!alive.IsNull(0, 1)) {
    return Unexpected(
        Code::kInvalid,
        fmt::format("{}: this agent divides it into {} parts (hash_partitions), and `{}: they have "
                    "to agree, or the order of a key's events is lost",
                    table_.name, options_.parts, alive.Text(0, 1)));
  }
  agents_ = std::max<int64_t>(alive.Integer(0, 0), 1);
  return {};
}

Result<void> PostgresOwnership::TakeFree(PostgresConnection& connection) {
  if (owned_.size() == static_cast<size_t>(options_.parts)) {
    free_.clear();
    return {};
  }
  const bool by_lease = options_.mode == Ownership::kLease;
  // Whoever has the other mode is heeded, too.
  HF_ASSIGN_OR_RETURN(
      const PostgresRows owners,
      connection.Execute(
          fmt::format("SELECT part, agent, clean, NOT clean AND coalesce(expires_at > "
                      "clock_timestamp(), {}), expires_at IS NULL FROM {} WHERE source_table = $1",
                      by_lease, table_.owners),
          {table_.name}));
  std::set<int32_t> taken = owned_;
  std::vector<int32_t> left;  // With events in this agent's spool, which come before newer ones.
  std::vector<int32_t> before;
  std::vector<int32_t> from_others;
  std::map<int32_t, std::string> waited_for;
  for (int i = 0; i < owners.count(); ++i) {
    const auto part = static_cast<int32_t>(owners.Integer(i, 0));
    if (part < 0 || part >= options_.parts || owned_.contains(part)) continue;
    const bool same = owners.Text(i, 1) == name_;
    const bool leased = owners.True(i, 3) && !owners.True(i, 4);
    if (same || (WasThisAgent(owners.Text(i, 1)) && !leased)) {
      (owners.True(i, 2) ? before : left).push_back(part);
      if (!same) from_others.push_back(part);
    } else if (owners.True(i, 3)) {
      taken.insert(part);
    } else if (!owners.True(i, 2)) {
      waited_for[part] = owners.Text(i, 1);
    }
  }
  if (!by_lease) {
    HF_ASSIGN_OR_RETURN(
        const PostgresRows locks,
        connection.Execute(
            fmt::format(
                "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND "
                "database = {} AND classid = ($1::bigint & 4294967295)::oid AND objsubid = {}",
                kThisDatabase, kTwoKeys),
            {LockClass()}));
    for (int i = 0; i < locks.count(); ++i) {
      taken.insert(static_cast<int32_t>(locks.Integer(i, 0)));
    }
  }

  const auto now = Clock::now();
  std::erase_if(waited_for, [&](const auto& one) { return taken.contains(one.first); });
  std::erase_if(free_, [&](const auto& one) {
    const auto still = waited_for.find(one.first);
    return still == waited_for.end() || still->second != one.second.agent;
  });
  std::vector<int32_t> overdue;
  for (const auto& [part, agent] : waited_for) {
    const auto since = free_.try_emplace(part, Seen{agent, now}).first->second.since;
    if (options_.takeover_after.count() > 0 && now - since >= options_.takeover_after) {
      overdue.push_back(part);
    }
  }
  SayWaiting();

  std::vector<int32_t> wanted;
  const auto want = [&](int32_t part) {
    if (taken.insert(part).second) wanted.push_back(part);
  };
  const auto want_within_share = [&](int32_t part) {
    if (owned_.size() + wanted.size() < Share()) want(part);
  };
  std::ranges::for_each(left, want);
  std::ranges::for_each(before, want_within_share);
  for (int32_t part = 0; part < options_.parts; ++part) {
    const auto waiting = waited_for.find(part);
    if (waiting == waited_for.end() || std::ranges::binary_search(overdue, part)) {
      want_within_share(part);
    }
  }
  if (wanted.empty()) return {};
  std::ranges::copy(overdue, std::back_inserter(from_others));
  return Take(connection, std::move(wanted), from_others);
}

Result<void> PostgresOwnership::Take(PostgresConnection& connection, std::vector<int32_t> parts,
                                     const std::vector<int32_t>& from_others) {
  const bool by_lease = options_.mode == Ownership::kLease;
  if (!by_lease) {
    HF_ASSIGN_OR_RETURN(const PostgresRows locked,
                        connection.Execute("SELECT part FROM unnest($2::int[]) AS part WHERE "
                                           "pg_try_advisory_lock($1::int, part)",
                                           {LockClass(), PostgresArray(parts)}));
    parts.clear();
    for (int i = 0; i < locked.count(); ++i) {
      parts.push_back(static_cast<int32_t>(locked.Integer(i, 0)));
    }
  }
  // It may have got another owner meanwhile, who left again.
  HF_ASSIGN_OR_RETURN(
      const PostgresRows got,
      connection.Execute(
          fmt::format(
              "INSERT INTO {} AS owner (source_table, part, agent, clean, taken_at, expires_at) "
              "SELECT $1, part, $2, false, clock_timestamp(), clock_timestamp() + $5 * interval '1 "
              "ms' FROM unnest($3::int[]) AS part ON CONFLICT (source_table, part) DO UPDATE SET "
              "agent = excluded.agent, clean = false, taken_at = excluded.taken_at, expires_at = "
              "excluded.expires_at WHERE owner.agent = $2 OR owner.clean OR (owner.part = "
              "ANY($4::int[]) AND coalesce(owner.expires_at < clock_timestamp(), true)) RETURNING "
              "part",
              table_.owners),
          {table_.name, name_, PostgresArray(parts), PostgresArray(from_others),
           by_lease ? PostgresConnection::Parameter(LeaseMs()) : std::nullopt}));
  std::vector<int32_t> not_for_us = std::move(parts);
  for (int i = 0; i < got.count(); ++i) {
    const auto part = static_cast<int32_t>(got.Integer(i, 0));
    owned_.insert(part);
    std::erase(not_for_us, part);
    if (const auto seen = free_.find(part); seen != free_.end()) {
      base::Log(base::Event::kPartTakenOver, {"outbox", table_.name},
                "part {} is taken over from `{}`, which did not come back; what that one took "
                "and did not deliver will be late, and some of it may come twice",
                part, seen->second.agent);
      free_.erase(seen);
    }
  }
  if (!by_lease && !not_for_us.empty()) HF_RETURN_IF_ERROR(Unlock(connection, not_for_us));
  return {};
}

void PostgresOwnership::SayWaiting() {
  std::map<std::string, std::vector<int32_t>> by_agent;
  for (const auto& [part, seen] : free_) by_agent[seen.agent].push_back(part);
  std::erase_if(said_, [&](const std::string& agent) { return !by_agent.contains(agent); });
  for (const auto& [agent, parts] : by_agent) {
    if (!said_.insert(agent).second) continue;
    const std::string what =
        options_.takeover_after.count() == 0
            ? std::string("they wait until it comes back (takeover_after_ms is 0)")
            : fmt::format(
                  "they are taken over in {} s unless it comes back; its undelivered events would "
                  "then be late, behind newer ones of the same keys, and some might come twice",
                  std::chrono::duration_cast<std::chrono::seconds>(options_.takeover_after)
                      .count());
    base::Log(base::Event::kPartsLeft, {"outbox", table_.name},
              "`{}` left {} parts of {} before all that it took was delivered: {}", agent,
              parts.size(), options_.parts, what);
  }
}

Result<void> PostgresOwnership::GiveUpExcess(PostgresConnection& connection) {
  if (owned_.size() <= Share()) {
    leaving_.clear();
    return {};
  }
  if (leaving_.empty()) leaving_since_ = Clock::now();
  leaving_.clear();
  auto part = owned_.rbegin();
  while (leaving_.size() < owned_.size() - Share()) leaving_.insert(*part++);
  if (!options_.delivered()) return {};
  HF_RETURN_IF_ERROR(connection.Execute(
      fmt::format("UPDATE {} SET clean = true WHERE source_table = $1 AND agent = $2 AND part = "
                  "ANY($3::int[])",
                  table_.owners),
      {table_.name, name_, PartsOf(leaving_)}));
  if (options_.mode == Ownership::kAdvisoryLock) {
    HF_RETURN_IF_ERROR(Unlock(connection, std::vector<int32_t>(leaving_.begin(), leaving_.end())));
  }
  base::Log(LogLevel::kInfo, {"outbox", table_.name}, "gave up {} of {} parts, for {} agents",
            leaving_.size(), owned_.size(), agents_);
  for (const int32_t left : leaving_) owned_.erase(left);
  leaving_.clear();
  return {};
}

Result<void> PostgresOwnership::Unlock(PostgresConnection& connection,
                                       std::span<const int32_t> parts) {
  HF_RETURN_IF_ERROR(
      connection.Execute("SELECT pg_advisory_unlock($1::int, part) FROM unnest($2::int[]) AS part",
                         {LockClass(), PostgresArray(parts)}));
  return {};
}

Result<void> PostgresOwnership::Fence(PostgresConnection& connection,
                                      std::span<const int32_t> parts) {
  // A lock that is lost takes the connection with it.
  if (options_.mode == Ownership::kAdvisoryLock || parts.empty()) return {};
  HF_ASSIGN_OR_RETURN(
      const PostgresRows rows,
      connection.Execute(fmt::format("SELECT part FROM {} WHERE source_table = $1 AND agent = $2 "
                                     "AND part = ANY($3::int[]) AND NOT clean FOR UPDATE",
                                     table_.owners),
                         {table_.name, name_, PostgresArray(parts)}));
  if (static_cast<size_t>(rows.count()) == parts.size()) return {};
  return Unexpected(TakenOver());
}

void PostgresOwnership::Release(PostgresConnection& connection, bool clean) {
  // If it fails the others find out by themselves.
  if (clean && !owned_.empty()) {
    (void)connection.Execute(
        fmt::format("UPDATE {} SET clean = true WHERE source_table = $1 AND agent = $2 AND part = "
                    "ANY($3::int[])",
                    table_.owners),
        {table_.name, name_, PartsOf(owned_)});
  }
  (void)connection.Execute(
      fmt::format("UPDATE {} SET seen_at = '-infinity' WHERE source_table = $1 AND agent = $2",
                  table_.agents),
      {table_.name, name_});
  (void)ForgetAgents(connection);
  owned_.clear();
  leaving_.clear();
}

}  // namespace holdfast::outbox
