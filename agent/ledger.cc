#include "agent/ledger.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/endian.h"

namespace holdfast::agent {
namespace {

using nlohmann::json;

constexpr char kFormat = 1;
constexpr size_t kHeadSize = 1 + 8 + 8 + 2;
constexpr size_t kRangeSize = 8 + 8 + 1 + 8 + 8;

template <std::integral T>
void Put(std::string& to, T value) {
  std::array<char, sizeof(T)> bytes;
  base::StoreLittle(bytes.data(), value);
  to.append(bytes.data(), bytes.size());
}

template <std::integral T>
T Take(std::string_view& from) {
  const T value = base::LoadLittle<T>(from.data());
  from.remove_prefix(sizeof(T));
  return value;
}

}  // namespace

std::string_view DropCauseName(DropCause cause) {
  switch (cause) {
    case DropCause::kExpired:
      return "expired";
    case DropCause::kMadeRoom:
      return "made room";
    case DropCause::kDeadLetter:
      return "dead letter";
    case DropCause::kByHand:
      return "by hand";
    case DropCause::kDamaged:
      return "damaged";
  }
  return "unknown";
}

void Drops::Add(const DropRange& range) {
  records_ += static_cast<uint64_t>(range.end - range.begin);
  bytes_ += range.bytes;
  // Not always behind all others: a record of a transaction that is left out is listed before what
  // lies in front of it.
  const auto next = std::ranges::upper_bound(ranges_, range.begin, {}, &DropRange::begin);
  if (next != ranges_.begin()) {
    DropRange& last = *std::prev(next);
    if (last.end == range.begin && last.cause == range.cause) {
      last.end = range.end;
      last.when_ms = range.when_ms;
      last.bytes += range.bytes;
      return;
    }
  }
  ranges_.insert(next, range);
  if (ranges_.size() > kRangesMax) ranges_.erase(ranges_.begin());
}

uint64_t Drops::Unlisted() const {
  uint64_t unlisted = records_;
  for (const DropRange& range : ranges_) unlisted -= static_cast<uint64_t>(range.end - range.begin);
  return unlisted;
}

int64_t Drops::ListedFrom() const { return Unlisted() == 0 ? 0 : ranges_.front().begin; }

bool Drops::LeaveGapAt(int64_t ordinal) const {
  return std::ranges::any_of(ranges_, [&](const DropRange& before) {
    return before.end == ordinal &&
           (before.cause != DropCause::kDeadLetter || LeaveGapAt(before.begin));
  });
}

std::string Drops::Serialize() const {
  std::string bytes(1, kFormat);
  Put(bytes, records_);
  Put(bytes, bytes_);
  Put(bytes, static_cast<uint16_t>(ranges_.size()));
  for (const DropRange& range : ranges_) {
    Put(bytes, range.begin);
    Put(bytes, range.end);
    Put(bytes, static_cast<uint8_t>(range.cause));
    Put(bytes, range.when_ms);
    Put(bytes, range.bytes);
  }
  return bytes;
}

base::Result<Drops> Drops::Parse(std::string_view bytes) {
  if (bytes.size() < kHeadSize || bytes[0] != kFormat) {
    return base::Unexpected(base::Code::kInvalid,
                            "list of dropped records: written by another version of the agent");
  }
  bytes.remove_prefix(1);
  Drops drops;
  drops.records_ = Take<uint64_t>(bytes);
  drops.bytes_ = Take<uint64_t>(bytes);
  const auto count = Take<uint16_t>(bytes);
  if (bytes.size() != count * kRangeSize) {
    return base::Unexpected(base::Code::kCorrupt, "list of dropped records: wrong length");
  }
  for (uint16_t i = 0; i < count; ++i) {
    DropRange& range = drops.ranges_.emplace_back();
    range.begin = Take<int64_t>(bytes);
    range.end = Take<int64_t>(bytes);
    range.cause = static_cast<DropCause>(Take<uint8_t>(bytes));
    range.when_ms = Take<int64_t>(bytes);
    range.bytes = Take<uint64_t>(bytes);
  }
  // Older agents kept them as they came.
  std::ranges::stable_sort(drops.ranges_, {}, &DropRange::begin);
  return drops;
}

std::string Ledger::Print() const {
  json list = json::array();
  for (const CommitPoint& point : streams) {
    json ranges = json::array();
    for (const DropRange& range : point.drops.ranges()) {
      ranges.push_back({{"begin", range.begin},
                        {"end", range.end},
                        {"cause", DropCauseName(range.cause)},
                        {"when_ms", range.when_ms},
                        {"bytes", range.bytes}});
    }
    list.push_back({{"stream", point.stream},
                    {"confirmed", point.confirmed},
                    {"end", point.end},
                    {"tier_offset", point.tier_offset},
                    {"complete_until_ms", point.complete_until_ms},
                    {"dropped_records", point.drops.records()},
                    {"dropped_bytes", point.drops.bytes()},
                    {"drops", std::move(ranges)}});
  }
  const json page{{"measured_ms", measured_ms},
                  {"complete_until_ms", complete_until_ms},
                  {"dropped_records", dropped_records},
                  {"streams", std::move(list)}};
  return page.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace holdfast::agent
