#include "client/consumer.h"

#include <algorithm>
#include <utility>

namespace holdfast::client {
namespace {

using Partitions = std::vector<RdKafka::TopicPartition*>;

// Of a commit: the group is joined again soon, since others change, or since the session ran out,
// such as on a host that slept.
bool IsToJoinAgain(RdKafka::ErrorCode code) {
  return code == RdKafka::ERR_REBALANCE_IN_PROGRESS || code == RdKafka::ERR_UNKNOWN_MEMBER_ID ||
         code == RdKafka::ERR_ILLEGAL_GENERATION;
}

// A rebalance waits for this member; who gets the partitions reads again what is not committed.
constexpr std::chrono::milliseconds kCommitAtRevokeWithin = std::chrono::seconds(5);

}  // namespace

class Consumer::Rebalances final : public RdKafka::RebalanceCb {
 public:
  explicit Rebalances(Consumer& consumer) : consumer_(consumer) {}

  void rebalance_cb(RdKafka::KafkaConsumer* handle, RdKafka::ErrorCode error,
                    Partitions& partitions) override {
    if (error == RdKafka::ERR__ASSIGN_PARTITIONS) {
      Take(*handle, partitions);
    } else {
      Give(*handle, partitions);
    }
  }

 private:
  // Then a change is told, else the whole.
  static bool Incremental(RdKafka::KafkaConsumer& handle) {
    return handle.rebalance_protocol() == "COOPERATIVE";
  }

  void Take(RdKafka::KafkaConsumer& handle, const Partitions& partitions) {
    const bool incremental = Incremental(handle);
    if (!incremental) consumer_.open_.clear();
    consumer_.assigned_ = true;
    for (const RdKafka::TopicPartition* partition : partitions)
      consumer_.open_.emplace(partition->topic(), partition->partition());
    if (incremental) {
      Note(handle.incremental_assign(partitions));
    } else {
      Note(handle.assign(partitions));
    }
  }

  void Give(RdKafka::KafkaConsumer& handle, const Partitions& partitions) {
    // Another member begins where this one stops, unless it has begun already.
    if (!consumer_.closing_ && !handle.assignment_lost()) {
      [[maybe_unused]] const auto committed = consumer_.Commit(kCommitAtRevokeWithin);
    }
    for (const RdKafka::TopicPartition* partition : partitions)
      consumer_.Forget({partition->topic(), partition->partition()});
    if (Incremental(handle)) {
      Note(handle.incremental_unassign(partitions));
    } else {
      consumer_.assigned_ = false;
      Note(handle.unassign());
    }
  }

  void Note(RdKafka::ErrorCode code) {
    if (code != RdKafka::ERR_NO_ERROR) consumer_.rebalance_error_ = RdKafka::err2str(code);
  }
  void Note(RdKafka::Error* failed) {
    const std::unique_ptr<RdKafka::Error> error(failed);
    if (error) consumer_.rebalance_error_ = error->str();
  }

  Consumer& consumer_;
};

Consumer::Consumer(const Connection& connection, Options options)
    : connection_(connection),
      options_(std::move(options)),
      rebalances_(std::make_unique<Rebalances>(*this)) {}

Consumer::~Consumer() {
  if (!consumer_) return;
  closing_ = true;
  consumer_->close();
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
  answers_.reset(rd_kafka_queue_new(consumer_->c_ptr()));
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
  if (!rebalance_error_.empty())
    return base::Unexpected(connection_.Failed("taking partitions", rebalance_error_));
  // librdkafka looks for a group's coordinator, though nothing of the group is read or written.
  if (!in_group_ && message->err() == RdKafka::ERR_GROUP_AUTHORIZATION_FAILED) return nullptr;
  switch (message->err()) {
    case RdKafka::ERR__TIMED_OUT:
      if (options_.to_end && Clock::now() - heard_ > connection_.timeout())
        return base::Unexpected(connection_.Failed("reading", "no answer in time"));
      return nullptr;
    case RdKafka::ERR__PARTITION_EOF:
      heard_ = Clock::now();
      open_.erase({message->topic_name(), message->partition()});
      return nullptr;
    case RdKafka::ERR__MAX_POLL_EXCEEDED:
      return nullptr;  // It slept, or who reads its output did. With this call it joins again.
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

base::Result<> Consumer::BeginCommit() {
  const auto answer = TakeAnswer(std::chrono::milliseconds(0));
  // It goes on reading while others change, and commits again then; or joins again and, having lost
  // its partitions, reads from what is committed.
  if (IsToJoinAgain(answer)) return {};
  HF_RETURN_IF_ERROR(ResultOf(answer));
  return committing_ ? base::Result<>() : SendCommit();
}

base::Result<> Consumer::Commit(std::chrono::milliseconds limit) {
  const Clock::time_point end = Clock::now() + limit;
  const auto left = [end] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
        std::max(end - Clock::now(), Clock::duration::zero()));
  };
  // What was sent before may not have all, and its answer may be that of a member that was.
  const auto before = TakeAnswer(left());
  if (!IsToJoinAgain(before)) HF_RETURN_IF_ERROR(ResultOf(before));
  if (!committing_) {
    HF_RETURN_IF_ERROR(SendCommit());
    HF_RETURN_IF_ERROR(ResultOf(TakeAnswer(left())));
  }
  if (!committing_) return {};
  return base::Unexpected(connection_.Failed("committing offsets", "no answer in time"));
}

base::Result<> Consumer::SendCommit() {
  if (next_.empty() || !options_.processed()) return {};
  const std::unique_ptr<rd_kafka_topic_partition_list_t,
                        decltype(&rd_kafka_topic_partition_list_destroy)>
      offsets(rd_kafka_topic_partition_list_new(static_cast<int>(next_.size())),
              &rd_kafka_topic_partition_list_destroy);
  for (const auto& [partition, offset] : next_)
    rd_kafka_topic_partition_list_add(offsets.get(), partition.first.c_str(), partition.second)
        ->offset = offset;
  // Not by commitSync, which waits for ever if the tier does.
  HF_RETURN_IF_ERROR(ResultOf(static_cast<RdKafka::ErrorCode>(
      rd_kafka_commit_queue(consumer_->c_ptr(), offsets.get(), answers_.get(), nullptr, nullptr))));
  committing_ = true;
  committed_to_ = std::exchange(next_, {});
  return {};
}

RdKafka::ErrorCode Consumer::TakeAnswer(std::chrono::milliseconds wait) {
  if (!committing_) return RdKafka::ERR_NO_ERROR;
  const std::unique_ptr<rd_kafka_event_t, decltype(&rd_kafka_event_destroy)> answer(
      rd_kafka_queue_poll(answers_.get(), static_cast<int>(wait.count())), &rd_kafka_event_destroy);
  if (!answer) return RdKafka::ERR_NO_ERROR;
  committing_ = false;
  const auto code = static_cast<RdKafka::ErrorCode>(rd_kafka_event_error(answer.get()));
  if (code != RdKafka::ERR_NO_ERROR) next_.merge(committed_to_);  // Where it did not go on since.
  return code;
}

base::Result<> Consumer::ResultOf(RdKafka::ErrorCode committed) const {
  if (committed == RdKafka::ERR_NO_ERROR) return {};
  return base::Unexpected(connection_.Failed("committing offsets", RdKafka::err2str(committed)));
}

void Consumer::Forget(const Partition& partition) {
  open_.erase(partition);
  next_.erase(partition);
  committed_to_.erase(partition);
}

}  // namespace holdfast::client
