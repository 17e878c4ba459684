#include "broker/topic_changes.h"

#include "broker/config_values.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;

std::string StreamName(const TopicPartition& partition) {
  return partition.topic.ToString() + "/" + std::to_string(partition.partition);
}

// Opens the streams of partitions [from, to) and adds them to the record.
void OpenStreams(spool::Transaction& transaction, int32_t from, int32_t to, TopicRecord* record) {
  for (int32_t index = from; index < to; ++index) {
    const spool::StreamId stream = transaction.OpenStream(StreamName({record->id, index}));
    record->partitions.push_back({.stream = stream.value(), .leader_epoch = 0, .unknown_tags = {}});
  }
}

class Creation final : public AdminChange {
 public:
  Creation(Log& log, std::vector<NewTopic> topics, TopicsDone done)
      : AdminChange(log, topics.size(), kafka::ToPartitionError, std::move(done)),
        topics_(std::move(topics)) {}

  void Apply(spool::Transaction& transaction) override {
    made_.clear();
    for (size_t i = 0; i < topics_.size(); ++i) {
      const std::string name_key = TopicNameKey(topics_[i].name);
      if (transaction.Get(name_key)) {
        outcomes_[i] = {ErrorCode::kTopicAlreadyExists,
                        "Topic '" + topics_[i].name + "' already exists."};
        continue;
      }
      outcomes_[i] = {};
      transaction.Put(name_key, {reinterpret_cast<const char*>(topics_[i].id.bytes.data()),
                                 topics_[i].id.bytes.size()});
      ApplyOne(transaction, topics_[i]);
    }
  }

  void Publish() override {
    const auto defaults = log_.broker_config().Get()->topic_defaults();
    auto topics = std::make_shared<Topics>(*log_.catalog().Get());
    for (Made& made : made_) {
      made.topic->config = made.topic->config.Over(defaults);
      for (size_t i = 0; i < made.streams.size(); ++i) {
        made.topic->partitions.push_back(log_.AddPartition(
            {made.topic->id, static_cast<int32_t>(i)}, made.streams[i], /*leader_epoch=*/0));
      }
      topics->Put(std::move(made.topic));
    }
    log_.catalog().Publish(std::move(topics));
  }

 private:
  struct Made {
    std::shared_ptr<Topic> topic;
    std::vector<spool::StreamId> streams;
  };

  void ApplyOne(spool::Transaction& transaction, const NewTopic& wanted) {
    TopicRecord record{
        .id = wanted.id, .name = wanted.name, .partitions = {}, .configs = {}, .unknown_tags = {}};
    OpenStreams(transaction, 0, wanted.partitions, &record);
    record.configs = StoredConfigs(wanted.config.overrides());
    transaction.Put(TopicKey(wanted.id), Encode(record));

    Made& made = made_.emplace_back();
    made.topic = std::make_shared<Topic>();
    made.topic->name = wanted.name;
    made.topic->id = wanted.id;
    made.topic->config = wanted.config;
    for (const auto& partition : record.partitions) {
      made.streams.emplace_back(partition.stream);
    }
  }

  std::vector<NewTopic> topics_;
  std::vector<Made> made_;
};

class Deletion final : public AdminChange {
 public:
  Deletion(Log& log, std::vector<kafka::Uuid> topics, TopicsDone done)
      : AdminChange(log, topics.size(), kafka::ToPartitionError, std::move(done)),
        topics_(std::move(topics)) {}

  void Apply(spool::Transaction& transaction) override {
    const auto catalog = log_.catalog().Get();
    for (size_t i = 0; i < topics_.size(); ++i) {
      const Topic* topic = catalog->Find(topics_[i]);
      const std::string key = TopicKey(topics_[i]);
      if (topic == nullptr || !transaction.Get(key)) {
        outcomes_[i] = {ErrorCode::kUnknownTopicOrPartition,
                        "This server does not host this topic-partition."};
        continue;
      }
      outcomes_[i] = {};
      transaction.Erase(key);
      transaction.Erase(TopicNameKey(topic->name));
      for (Partition* partition : topic->partitions) {
        transaction.Erase(ProducersKey(partition->id));
        transaction.Erase(AbortedKey(partition->id));
        transaction.Erase(CleanedKey(partition->id));
        transaction.Trim(partition->stream, transaction.EndOffset(partition->stream));
        log_.ForgetPartition(*partition);
      }
    }
  }

  void Publish() override {
    const auto before = log_.catalog().Get();
    auto topics = std::make_shared<Topics>(*before);
    for (const kafka::Uuid& id : topics_) topics->Erase(id);
    log_.catalog().Publish(std::move(topics));
    for (size_t i = 0; i < topics_.size(); ++i) {
      if (outcomes_[i].error == ErrorCode::kNone) log_.AnnounceDeleted(*before->Find(topics_[i]));
    }
  }

 private:
  std::vector<kafka::Uuid> topics_;
};

class Growing final : public AdminChange {
 public:
  Growing(Log& log, std::vector<Growth> growths, TopicsDone done)
      : AdminChange(log, growths.size(), kafka::ToPartitionError, std::move(done)),
        growths_(std::move(growths)) {}

  void Apply(spool::Transaction& transaction) override {
    grown_.clear();
    for (size_t i = 0; i < growths_.size(); ++i) {
      outcomes_[i] = ApplyOne(transaction, growths_[i]);
    }
  }

  void Publish() override {
    auto topics = std::make_shared<Topics>(*log_.catalog().Get());
    for (const Grown& grown : grown_) {
      const Topic* before = topics->Find(grown.topic);
      if (before == nullptr) continue;  // Deleted by an operation of the same commit.
      auto topic = std::make_shared<Topic>(*before);
      for (const spool::StreamId stream : grown.streams) {
        const auto index = static_cast<int32_t>(topic->partitions.size());
        topic->partitions.push_back(
            log_.AddPartition({topic->id, index}, stream, /*leader_epoch=*/0));
      }
      topics->Put(std::move(topic));
    }
    log_.catalog().Publish(std::move(topics));
  }

 private:
  struct Grown {
    kafka::Uuid topic;
    std::vector<spool::StreamId> streams;
  };

  TopicOutcome ApplyOne(spool::Transaction& transaction, const Growth& growth) {
    const std::string key = TopicKey(growth.topic);
    const auto stored = transaction.Get(key);
    if (!stored) {
      return {ErrorCode::kUnknownTopicOrPartition,
              "This server does not host this topic-partition."};
    }
    const std::string bytes(*stored);  // The view ends with the next change of state.
    auto record = ParseTopic(bytes);
    if (!record) return {ErrorCode::kUnknownServerError, record.error().message};
    const auto count = static_cast<int32_t>(record->partitions.size());
    if (growth.partitions <= count) {
      return {ErrorCode::kInvalidPartitions,
              "The topic " + std::string(record->name) + " currently has " + std::to_string(count) +
                  " partition(s); " + std::to_string(growth.partitions) +
                  " would not be an increase."};
    }
    OpenStreams(transaction, count, growth.partitions, &*record);
    transaction.Put(key, Encode(*record));

    Grown& grown = grown_.emplace_back();
    grown.topic = growth.topic;
    for (auto i = static_cast<size_t>(count); i < record->partitions.size(); ++i) {
      grown.streams.emplace_back(record->partitions[i].stream);
    }
    return {};
  }

  std::vector<Growth> growths_;
  std::vector<Grown> grown_;
};

class Altering final : public AdminChange {
 public:
  Altering(Log& log, std::vector<Alteration> alterations, TopicsDone done)
      : AdminChange(log, alterations.size(), kafka::ToPartitionError, std::move(done)),
        alterations_(std::move(alterations)) {}

  void Apply(spool::Transaction& transaction) override {
    altered_.clear();
    for (size_t i = 0; i < alterations_.size(); ++i) {
      outcomes_[i] = ApplyOne(transaction, alterations_[i]);
    }
  }

  void Publish() override {
    const auto defaults = log_.broker_config().Get()->topic_defaults();
    auto topics = std::make_shared<Topics>(*log_.catalog().Get());
    for (const auto& [id, config] : altered_) {
      const Topic* before = topics->Find(id);
      if (before == nullptr) continue;  // Deleted by an operation of the same commit.
      auto topic = std::make_shared<Topic>(*before);
      // They may have changed since, by an operation of the same commit.
      topic->config = config.Over(defaults);
      topics->Put(std::move(topic));
    }
    log_.catalog().Publish(std::move(topics));
  }

 private:
  // From what is stored, not from the catalog: an alteration before this one may not show there.
  TopicOutcome ApplyOne(spool::Transaction& transaction, const Alteration& alteration) {
    const std::string key = TopicKey(alteration.topic);
    const auto stored = transaction.Get(key);
    if (!stored) {
      return {ErrorCode::kUnknownTopicOrPartition,
              "This server does not host this topic-partition."};
    }
    const std::string bytes(*stored);  // The view ends with the next change of state.
    auto record = ParseTopic(bytes);
    if (!record) return {ErrorCode::kUnknownServerError, record.error().message};
    const auto defaults = log_.broker_config().Get()->topic_defaults();
    auto config = Altered(ReadConfig(*record).Over(defaults), alteration);
    if (!config) return {ErrorCode::kInvalidConfig, std::move(config).error().message};
    record->configs = StoredConfigs(config->overrides());
    transaction.Put(key, Encode(*record));
    altered_.emplace_back(alteration.topic, *std::move(config));
    return {};
  }

  std::vector<Alteration> alterations_;
  std::vector<std::pair<kafka::Uuid, TopicConfig>> altered_;
};

}  // namespace

base::Result<TopicConfig> Altered(const TopicConfig& config, const Alteration& alteration) {
  return (alteration.replaces ? config.Cleared() : config).Altered(alteration.changes);
}

std::unique_ptr<spool::Operation> CreateTopics(Log& log, std::vector<NewTopic> topics,
                                               TopicsDone done) {
  return std::make_unique<Creation>(log, std::move(topics), std::move(done));
}

std::unique_ptr<spool::Operation> DeleteTopics(Log& log, std::vector<kafka::Uuid> topics,
                                               TopicsDone done) {
  return std::make_unique<Deletion>(log, std::move(topics), std::move(done));
}

std::unique_ptr<spool::Operation> GrowTopics(Log& log, std::vector<Growth> growths,
                                             TopicsDone done) {
  return std::make_unique<Growing>(log, std::move(growths), std::move(done));
}

std::unique_ptr<spool::Operation> AlterTopics(Log& log, std::vector<Alteration> alterations,
                                              TopicsDone done) {
  return std::make_unique<Altering>(log, std::move(alterations), std::move(done));
}

}  // namespace holdfast::broker
