#include "broker/log_dirs.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>

#include "broker/entries.h"

namespace holdfast::broker {
namespace {

constexpr size_t kPartitionsPerTurn = 1000;  // Those without entries.

kafka::DescribeLogDirsResponse::DescribeLogDirsResult& Directory(
    kafka::DescribeLogDirsResponse& response) {
  return response.results.front();
}

}  // namespace

void LogDirs::Handle(Call call) {
  catalog_.Refresh();
  const Topics& topics = catalog_.topics();
  Question question{std::move(call), {}, {}};
  auto& directory = question.response.results.emplace_back();
  directory.log_dir = question.response.strings.Keep(context_.options.spool.directory);
  std::error_code error;
  const auto space = std::filesystem::space(context_.options.spool.directory, error);
  if (!error) {
    directory.total_bytes = static_cast<int64_t>(space.capacity);
    directory.usable_bytes = static_cast<int64_t>(space.available);
  }
  if (question.call.request.topics) {
    std::map<std::string_view, std::set<int32_t>> named;  // Each once, however often it was.
    for (const auto& asked : *question.call.request.topics) {
      named[asked.topic].insert(asked.partitions.begin(), asked.partitions.end());
    }
    for (const auto& [name, partitions] : named) {
      const Topic* topic = topics.Find(name);
      if (topic != nullptr) Ask(*topic, &partitions, &question);
    }
  } else {
    for (const Topic* topic : topics.All()) Ask(*topic, nullptr, &question);
  }
  questions_.push_back(std::move(question));
  if (questions_.size() == 1) GoOn();
}

void LogDirs::Ask(const Topic& topic, const std::set<int32_t>* partitions, Question* question) {
  auto& directory = Directory(question->response);
  auto& out = directory.topics.emplace_back();
  out.name = question->response.strings.Keep(topic.name);
  for (size_t i = 0; i < topic.partitions.size(); ++i) {
    const auto index = static_cast<int32_t>(i);
    if (partitions != nullptr && !partitions->contains(index)) continue;
    question->left.push_back(
        {topic.partitions[i], directory.topics.size() - 1, out.partitions.size()});
    out.partitions.emplace_back().partition_index = index;
  }
  if (out.partitions.empty()) directory.topics.pop_back();
}

void LogDirs::GoOn() {
  size_t measured = 0;
  bool counted = false;
  while (!questions_.empty() && !counted && measured < kPartitionsPerTurn) {
    Question& question = questions_.front();
    while (!question.left.empty() && !counted && measured < kPartitionsPerTurn) {
      counted = Measure(question);
      ++measured;
    }
    if (!question.left.empty()) break;
    question.call.Respond(question.response);
    questions_.pop_front();
  }
  if (!questions_.empty()) {
    timer_ = loop_.After(base::Duration::zero(), [this] { GoOn(); });
  }
}

bool LogDirs::Measure(Question& question) {
  const auto [partition, topic, index] = question.left.back();
  int64_t& size = Directory(question.response).topics[topic].partitions[index].partition_size;
  const int64_t from = std::max(question.offset, partition->log_start.load());
  const int64_t end = partition->high_watermark.load();
  const Walked walked = WalkSomeEntries(context_.log->spool(), partition->stream, from, end,
                                        [&size](const spool::EntryInfo& entry) {
                                          size += entry.bytes;
                                          return true;
                                        });
  question.offset = walked.offset;
  if (walked.stopped) {
    question.left.pop_back();
    question.offset = -1;
  }
  return from < end;
}

void LogDirs::Close() {
  timer_.Cancel();
  for (Question& question : std::exchange(questions_, {})) {
    Directory(question.response).error_code = kafka::ErrorCode::kKafkaStorageError;
    Directory(question.response).topics.clear();
    question.call.Respond(question.response);
  }
}

}  // namespace holdfast::broker
