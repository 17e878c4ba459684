#include "client/topic_reader.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

namespace holdfast::client {
namespace {

using Partitions = std::vector<RdKafka::TopicPartition*>;

// librdkafka wants plain pointers.
class OwnedPartitions {
 public:
  OwnedPartitions() = default;
  ~OwnedPartitions() { RdKafka::TopicPartition::destroy(partitions_); }
  OwnedPartitions(const OwnedPartitions&) = delete;
  OwnedPartitions& operator=(const OwnedPartitions&) = delete;

  void Add(const std::string& topic, int32_t partition, int64_t offset) {
    partitions_.push_back(RdKafka::TopicPartition::create(topic, partition, offset));
  }
  Partitions& get() { return partitions_; }

 private:
  Partitions partitions_;
};

}  // namespace

base::Result<std::unique_ptr<TopicReader>> TopicReader::Open(const Connection& connection,
                                                             std::string topic,
                                                             const std::string& group) {
  std::unique_ptr<TopicReader> reader(new TopicReader(connection, std::move(topic)));
  HF_RETURN_IF_ERROR(reader->Start(group));
  return reader;
}

TopicReader::~TopicReader() {
  if (consumer_) consumer_->close();
}

base::Result<> TopicReader::Start(const std::string& group) {
  HF_ASSIGN_OR_RETURN(consumer_, connection_.MakeConsumer({{"group.id", group},
                                                           {"isolation.level", "read_committed"},
                                                           {"enable.partition.eof", "true"},
                                                           {"enable.auto.commit", "false"},
                                                           {"auto.offset.reset", "error"}}));

  HF_ASSIGN_OR_RETURN(const int32_t count, CountPartitions());
  OwnedPartitions committed;
  for (int32_t partition = 0; partition < count; ++partition)
    committed.Add(topic_, partition, RdKafka::Topic::OFFSET_INVALID);
  if (const auto code = consumer_->committed(committed.get(), connection_.timeout_ms());
      code != RdKafka::ERR_NO_ERROR)
    return base::Unexpected(
        Failed("asking for the offsets of group " + group, RdKafka::err2str(code)));

  OwnedPartitions assigned;
  for (const RdKafka::TopicPartition* partition : committed.get()) {
    if (partition->err() != RdKafka::ERR_NO_ERROR)
      return base::Unexpected(
          Failed("asking for the offsets of group " + group, RdKafka::err2str(partition->err())));
    HF_ASSIGN_OR_RETURN(const Range range, RangeOf(partition->partition(), partition->offset()));
    if (range.begin >= range.end) continue;
    assigned.Add(topic_, partition->partition(), range.begin);
    ends_[partition->partition()] = range.end;
  }
  if (ends_.empty()) return {};
  if (const auto code = consumer_->assign(assigned.get()); code != RdKafka::ERR_NO_ERROR)
    return base::Unexpected(Failed("reading " + topic_, RdKafka::err2str(code)));
  return {};
}

base::Error TopicReader::Failed(std::string_view what, const std::string& how) {
  // Only consuming calls the connection with what went wrong.
  const std::unique_ptr<RdKafka::Message> none(consumer_->consume(0));
  return connection_.Failed(what, how);
}

base::Result<int32_t> TopicReader::CountPartitions() {
  std::string error;
  const std::unique_ptr<RdKafka::Topic> handle(
      RdKafka::Topic::create(consumer_.get(), topic_, nullptr, error));
  if (!handle) return base::Unexpected(base::Code::kInvalid, topic_ + ": " + error);
  RdKafka::Metadata* answer = nullptr;
  const auto code = consumer_->metadata(false, handle.get(), &answer, connection_.timeout_ms());
  const std::unique_ptr<RdKafka::Metadata> metadata(answer);
  if (code != RdKafka::ERR_NO_ERROR)
    return base::Unexpected(Failed("asking for topic " + topic_, RdKafka::err2str(code)));
  for (const RdKafka::TopicMetadata* topic : *metadata->topics()) {
    if (topic->topic() != topic_) continue;
    if (topic->err() == RdKafka::ERR_NO_ERROR)
      return static_cast<int32_t>(topic->partitions()->size());
    if (topic->err() != RdKafka::ERR_UNKNOWN_TOPIC_OR_PART)
      return base::Unexpected(Failed("asking for topic " + topic_, RdKafka::err2str(topic->err())));
  }
  return base::Unexpected(base::Code::kNotFound, "the tier has no topic " + topic_);
}

base::Result<TopicReader::Range> TopicReader::RangeOf(int32_t partition, int64_t committed) {
  Range range;
  if (const auto code = consumer_->query_watermark_offsets(topic_, partition, &range.begin,
                                                           &range.end, connection_.timeout_ms());
      code != RdKafka::ERR_NO_ERROR)
    return base::Unexpected(Failed("asking what is in " + topic_, RdKafka::err2str(code)));
  range.begin = std::max(range.begin, committed);
  return range;
}

base::Result<std::unique_ptr<RdKafka::Message>> TopicReader::Next() {
  const auto deadline = std::chrono::steady_clock::now() + connection_.timeout();
  while (!ends_.empty()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    std::unique_ptr<RdKafka::Message> message(
        consumer_->consume(static_cast<int>(std::max<int64_t>(left.count(), 0))));
    if (message->err() == RdKafka::ERR__TIMED_OUT)
      return base::Unexpected(Failed("reading " + topic_, "no answer in time"));
    const auto end = ends_.find(message->partition());
    if (message->err() == RdKafka::ERR__PARTITION_EOF) {
      // Markers of transactions stand before the end, too.
      if (end != ends_.end()) ends_.erase(end);
      continue;
    }
    if (message->err() != RdKafka::ERR_NO_ERROR)
      return base::Unexpected(Failed("reading " + topic_, message->errstr()));
    if (end == ends_.end()) continue;
    if (message->offset() + 1 >= end->second) {
      const bool beyond = message->offset() >= end->second;
      ends_.erase(end);
      if (beyond) continue;
    }
    return message;
  }
  return nullptr;
}

std::unique_ptr<RdKafka::ConsumerGroupMetadata> TopicReader::group() const {
  return std::unique_ptr<RdKafka::ConsumerGroupMetadata>(consumer_->groupMetadata());
}

}  // namespace holdfast::client
