#include "client/consumer.h"

#include <utility>

namespace holdfast::client {
namespace {

using Partitions = std::vector<RdKafka::TopicPartition*>;

}  // namespace

class Consumer::Rebalances final : public RdKafka::RebalanceCb {
 public:
  explicit Rebalances(Consumer& consumer) : consumer_(consumer) {}

  void rebalance_cb(RdKafka::KafkaConsumer* handle, RdKafka::ErrorCode error,
                    Partitions& partitions) override {
    consumer_.open_.clear();
    consumer_.assigned_ = error == RdKafka::ERR__ASSIGN_PARTITIONS;
    if (!consumer_.assigned_) {
      // Another member begins where this one stops; what is not committed it gets again.
      [[maybe_unused]] const auto committed = consumer_.Commit();
      consumer_.next_.clear();
      handle->unassign();
      return;
    }
    for (const RdKafka::TopicPartition* partition : partitions)
      consumer_.open_.emplace(partition->topic(), partition->partition());
    handle->assign(partitions);
  }

 private:
  Consumer& consumer_;
};

Consumer::Consumer(const Connection& connection, Options options)
    : connection_(connection),
      options_(std::move(options)),
      rebalances_(std::make_unique<Rebalances>(*this)) {}

Consumer::~Consumer() {
  if (consumer_) consumer_->close();
}

base::Result<> Consumer::Make(Connection::Properties properties) {
  for (const auto& [name, value] : options_.properties) properties.insert_or_assign(name, value);
  properties.emplace("isolation.level",
                     options_.committed_only ? "read_committed" : "read_uncommitted");
  properties.emplace("enable.partition.eof", "true");
  properties.emplace("enable.auto.commit", "false");
  // So long the tier waits for more before it says that this is the end.
  if (options_.to_end) properties.emplace("fetch.wait.max.ms", "50");
  HF_ASSIGN_OR_RETURN(
      consumer_, connection_.MakeConsumer(properties, in_group_ ? rebalances_.get() : nullptr));
  return {};
}

base::Result<std::unique_ptr<Consumer>> Consumer::Assign(const Connection& connection,
                                                         const std::vector<Start>& starts,
                                                         Options options) {
  std::unique_ptr<Consumer> made(new Consumer(connection, std::move(options)));
  // A group's name is asked for, and no group is made.
  HF_RETURN_IF_ERROR(made->Make({{"group.id", "holdfast"}, {"auto.offset.reset", "error"}}));
  Partitions assigned;
  for (const Start& start : starts) {
    assigned.push_back(RdKafka::TopicPartition::create(start.topic, start.partition, start.offset));
    made->open_.emplace(start.topic, start.partition);
  }
  const RdKafka::ErrorCode code = made->consumer_->assign(assigned);
  RdKafka::TopicPartition::destroy(assigned);
  if (code != RdKafka::ERR_NO_ERROR)
    return base::Unexpected(connection.Failed("reading", RdKafka::err2str(code)));
  made->assigned_ = true;
  return made;
}

base::Result<std::unique_ptr<Consumer>> Consumer::Subscribe(const Connection& connection,
                                                            const std::string& group,
                                                            const std::vector<std::string>& topics,
                                                            bool from_start, Options options) {
  std::unique_ptr<Consumer> made(new Consumer(connection, std::move(options)));
  made->in_group_ = true;
  HF_RETURN_IF_ERROR(
      made->Make({{"group.id", group}, {"auto.offset.reset", from_start ? "earliest" : "latest"}}));
  if (const auto code = made->consumer_->subscribe(topics); code != RdKafka::ERR_NO_ERROR)
    return base::Unexpected(connection.Failed("joining group " + group, RdKafka::err2str(code)));
  return made;
}

base::Result<std::unique_ptr<RdKafka::Message>> Consumer::Next(std::chrono::milliseconds wait) {
  std::unique_ptr<RdKafka::Message> message(consumer_->consume(static_cast<int>(wait.count())));
  switch (message->err()) {
    case RdKafka::ERR__TIMED_OUT:
      if (options_.to_end && Clock::now() - heard_ > connection_.timeout())
        return base::Unexpected(connection_.Failed("reading", "no answer in time"));
      return nullptr;
    case RdKafka::ERR__PARTITION_EOF:
      heard_ = Clock::now();
      open_.erase({message->topic_name(), message->partition()});
      return nullptr;
    case RdKafka::ERR_NO_ERROR:
      heard_ = Clock::now();
      if (in_group_) next_[{message->topic_name(), message->partition()}] = message->offset() + 1;
      return message;
    default:
      if (message->err() < 0)
        return base::Unexpected(connection_.Failed("reading", message->errstr()));
      refusal_ = {.code = static_cast<int16_t>(message->err()), .topic = message->topic_name()};
      return base::Unexpected(base::Code::kUnavailable, message->errstr());
  }
}

base::Result<> Consumer::Commit() {
  if (next_.empty() || !options_.processed()) return {};
  Partitions offsets;
  for (const auto& [partition, offset] : next_)
    offsets.push_back(RdKafka::TopicPartition::create(partition.first, partition.second, offset));
  const RdKafka::ErrorCode code = consumer_->commitSync(offsets);
  RdKafka::TopicPartition::destroy(offsets);
  if (code != RdKafka::ERR_NO_ERROR)
    return base::Unexpected(connection_.Failed("committing offsets", RdKafka::err2str(code)));
  next_.clear();
  return {};
}

}  // namespace holdfast::client
