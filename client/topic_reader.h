// Reads a topic once, read_committed: from where a consumer group has come to, or the beginning,
// up to what is there when it is opened. It is no member of the group and commits nothing.
//
//   HF_ASSIGN_OR_RETURN(auto reader, TopicReader::Open(connection, "orders.dlq", "replay"));
//   while (true) {
//     HF_ASSIGN_OR_RETURN(auto message, reader->Next());
//     if (!message) break;  // That was all.
//   }
//
// Records of one partition come in order.
// Ownership: the connection outlives it; messages may outlive each other, not the reader.
// Threads: one. Limits: kUnavailable when the tier is silent for the connection's timeout.
#pragma once

#include <librdkafka/rdkafkacpp.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "client/connection.h"

namespace holdfast::client {

class TopicReader {
 public:
  // kNotFound: there is no such topic.
  static base::Result<std::unique_ptr<TopicReader>> Open(const Connection& connection,
                                                         std::string topic,
                                                         const std::string& group);
  ~TopicReader();
  TopicReader(const TopicReader&) = delete;
  TopicReader& operator=(const TopicReader&) = delete;

  // Null when all was read.
  base::Result<std::unique_ptr<RdKafka::Message>> Next();

  [[nodiscard]] const std::string& topic() const { return topic_; }
  // For the transaction that commits the group's offsets.
  [[nodiscard]] std::unique_ptr<RdKafka::ConsumerGroupMetadata> group() const;

 private:
  struct Range {
    int64_t begin = 0;
    int64_t end = 0;
  };

  TopicReader(const Connection& connection, std::string topic)
      : connection_(connection), topic_(std::move(topic)) {}
  base::Result<> Start(const std::string& group);
  [[nodiscard]] base::Error Failed(std::string_view what, const std::string& how);
  base::Result<int32_t> CountPartitions();
  base::Result<Range> RangeOf(int32_t partition, int64_t committed);

  const Connection& connection_;
  const std::string topic_;
  std::unique_ptr<RdKafka::KafkaConsumer> consumer_;
  std::map<int32_t, int64_t> ends_;  // Of the partitions that are not read to their end yet.
};

}  // namespace holdfast::client
