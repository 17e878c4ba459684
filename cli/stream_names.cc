#include "cli/stream_names.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "agent/forward_state.h"
#include "broker/records.h"

namespace holdfast::cli {
namespace {

constexpr size_t kSimilarMax = 3;

// How many characters have to change.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, changed});
    }
  }
  return row.back();
}

}  // namespace

StreamNames::StreamNames(const spool::State& state) {
  for (const spool::StreamState& stream : state.streams()) names_.push_back(stream.name);
  state.ForEach(broker::kTopicPrefix, [this](std::string_view, std::string_view value) {
    const auto topic = broker::ParseTopic(value);
    if (!topic) return;
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      const uint32_t stream = topic->partitions[i].stream;
      if (stream < names_.size())
        names_[stream] = agent::StreamName(topic->name, static_cast<int32_t>(i));
    }
  });
  for (uint32_t id = 0; id < names_.size(); ++id) by_name_.emplace(names_[id], spool::StreamId(id));
}

base::Result<spool::StreamId> StreamNames::Find(std::string_view name) const {
  if (const auto found = by_name_.find(std::string(name)); found != by_name_.end())
    return found->second;
  return base::Unexpected(base::Code::kNotFound,
                          "there is no stream \"" + std::string(name) + "\"" + Similar(name));
}

std::string StreamNames::Similar(std::string_view name) const {
  std::vector<std::pair<size_t, std::string_view>> near;
  for (const std::string& other : names_) {
    const size_t distance = other.starts_with(name) ? 0 : Distance(name, other);
    if (distance <= 1 + name.size() / 3) near.emplace_back(distance, other);
  }
  if (near.empty()) return "; `holdfast spool ls DIR` lists them";
  std::sort(near.begin(), near.end());
  near.resize(std::min(near.size(), kSimilarMax));
  std::string text = "; did you mean ";
  for (size_t i = 0; i < near.size(); ++i) {
    if (i != 0) text += i + 1 == near.size() ? " or " : ", ";
    text.append("\"").append(near[i].second).append("\"");
  }
  return text + "?";
}

std::vector<spool::StreamId> StreamNames::Sorted() const {
  std::vector<std::tuple<std::string, int32_t, uint32_t>> keys;
  for (uint32_t id = 0; id < names_.size(); ++id) {
    const auto parsed = agent::ParseStreamName(names_[id]);
    keys.emplace_back(parsed ? parsed->first : names_[id], parsed ? parsed->second : -1, id);
  }
  std::sort(keys.begin(), keys.end());
  std::vector<spool::StreamId> sorted;
  for (const auto& key : keys) sorted.emplace_back(std::get<2>(key));
  return sorted;
}

}  // namespace holdfast::cli
