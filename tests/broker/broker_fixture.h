// A whole broker on the test's own thread and on virtual time, over a real directory. Requests go
// in and answers come out as Kafka frames, without a socket between.
//
//   BrokerFixture broker;
//   auto response = broker.Ask(request, /*version=*/7).Get();             // Runs what is to run.
//   Pending<FetchRequest> fetch = broker.Send(request, 12);               // May wait.
//   broker.clock().Advance(std::chrono::milliseconds(500));
//   EXPECT_TRUE(fetch.answered());
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "broker/worker.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/fetch.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/codec.h"
#include "kafka/record_batch_builder.h"
#include "kafka/record_reader.h"
#include "tests/spool/spool_fixture.h"
#include "tests/support/manual_executor.h"

namespace holdfast::broker {

// A request that was sent, and what became of it.
template <class Request>
class Pending {
 public:
  using Response = typename Request::Response;

  explicit Pending(int16_t version)
      : version_(version), answer_(std::make_shared<std::optional<kafka::Answer>>()) {}

  [[nodiscard]] std::shared_ptr<void> answer() const { return answer_; }
  [[nodiscard]] kafka::Reply MakeReply() const {
    return [answer = answer_](kafka::Answer given) {
      for (const base::Buffer& piece : std::exchange(given.rest, {})) {
        base::Buffer longer(given.frame.size() + piece.size());
        std::memcpy(longer.data(), given.frame.view().data(), given.frame.size());
        std::memcpy(longer.data() + given.frame.size(), piece.view().data(), piece.size());
        given.frame = std::move(longer);
      }
      *answer = std::move(given);
    };
  }
  [[nodiscard]] bool answered() const { return answer_->has_value(); }
  [[nodiscard]] kafka::Answer::Kind kind() const {
    HF_CHECK(answered());
    return (*answer_)->kind;
  }
  [[nodiscard]] base::Duration throttle() const { return (*answer_)->throttle; }
  // Borrows from the answer, which the fixture keeps.
  [[nodiscard]] Response Get() const {
    HF_CHECK(answered() && kind() == kafka::Answer::Kind::kFrame);
    auto response = kafka::DecodeResponse<Response>(
        (*answer_)->frame.view().substr(kafka::kLengthPrefixBytes), version_);
    HF_CHECK(response.has_value());
    return *std::move(response);
  }

 private:
  int16_t version_;
  std::shared_ptr<std::optional<kafka::Answer>> answer_;
};

class BrokerFixture {
 public:
  explicit BrokerFixture(Options options = {}, size_t workers = 1, bool compacts = false)
      : options_(std::move(options)), compacts_(compacts) {
    options_.spool.segment_bytes = uint64_t{4} << 20;
    options_.spool.free_bytes_min = 0;
    for (size_t i = 0; i < workers; ++i) {
      loops_.push_back(std::make_unique<test::ManualExecutor>(clock_));
    }
    directory_ = std::make_unique<spool::TemporaryDirectory>();
    Start();
  }
  ~BrokerFixture() { broker_.reset(); }

  test::ManualClock& clock() { return clock_; }
  // Whose requests come from now on.
  void ActAs(std::string_view principal) {
    kafka::Peer peer = *peer_;
    peer.principal = principal;
    peer_ = std::make_shared<const kafka::Peer>(std::move(peer));
  }
  Broker& broker() { return *broker_; }

  // As kill -9 does it: what was durable is there, and nothing of what the process knew.
  void CrashAndRestart() {
    auto image = std::make_unique<spool::TemporaryDirectory>();
    std::filesystem::copy(directory_->path(), image->path(),
                          std::filesystem::copy_options::recursive);
    broker_.reset();
    writer_.Forget();
    background_.Forget();
    cleaner_.Forget();
    for (const auto& loop : loops_) loop->Forget();
    directory_ = std::move(image);
    Start();
  }
  void Restart() {
    broker_.reset();
    Start();
  }

  // At most so many of the tasks that are to run now.
  void RunTasks(uint64_t tasks) {
    clock_.RunUntil([&] { return tasks-- == 0; }, base::Duration::zero());
  }
  // Whether compaction or the sorter is at work, and all this happens from inside it.
  [[nodiscard]] bool cleaning() const { return cleaner_.running(); }

  // Changes the byte before `text` wherever that is stored, while the broker is away.
  void Damage(std::string_view text) {
    broker_.reset();
    int damaged = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_->path() + "/data")) {
      if (entry.path().extension() != ".segment") continue;
      std::string bytes(entry.file_size(), '\0');
      std::ifstream(entry.path(), std::ios::binary).read(bytes.data(), std::ssize(bytes));
      for (size_t at = bytes.find(text); at != std::string::npos; at = bytes.find(text, at + 1)) {
        bytes[at - 1] ^= 1;
        ++damaged;
      }
      std::ofstream(entry.path(), std::ios::binary).write(bytes.data(), std::ssize(bytes));
    }
    HF_CHECK(damaged != 0);
    Start();
  }
  // The same within each batch of at least 20 KB that came alone. Returns how many there were.
  int DamageLargeBatches() {
    broker_.reset();
    const int damaged = spool::DamageLargeEntries(directory_->path() + "/data");
    Start();
    return damaged;
  }
  // Changes what is stored, while the broker is away.
  void Amend(const std::function<void(spool::Transaction&)>& change) {
    broker_.reset();
    {
      spool::TestSpool stored(directory_->path() + "/data");
      stored.options.segment_bytes = options_.spool.segment_bytes;
      HF_CHECK(stored.Open().has_value());
      HF_CHECK(stored.Submit(0, change));
      stored.clock.RunUntilIdle();
    }
    Start();
  }

  template <class Request>
  Pending<Request> Send(const Request& request, int16_t version, size_t worker = 0) {
    const auto frame = kafka::EncodeRequest(request, version, /*correlation_id=*/7, "test");
    HF_CHECK(frame.has_value());
    Pending<Request> pending(version);
    answers_.push_back(pending.answer());
    auto served = broker_->worker(worker).Serve(
        peer_, base::Buffer::Copy(frame->view().substr(kafka::kLengthPrefixBytes)),
        pending.MakeReply());
    HF_CHECK(served.has_value());
    return pending;
  }
  // Sends, and lets everything run that is to run now.
  template <class Request>
  Pending<Request> Ask(const Request& request, int16_t version, size_t worker = 0) {
    Pending<Request> pending = Send(request, version, worker);
    clock_.RunUntilIdle();
    return pending;
  }

  // From inside a task of the writer, the cleaner ...: what a client does while that is at work.
  void Meanwhile(base::Task task) {
    loops_.front()->Post(std::move(task));
    clock_.RunUntilIdle();
  }

  void CreateTopic(std::string_view name, int32_t partitions,
                   std::vector<kafka::CreateTopicsRequest::CreatableTopicConfig> configs = {}) {
    kafka::CreateTopicsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = name;
    topic.num_partitions = partitions;
    topic.replication_factor = -1;
    topic.configs = std::move(configs);
    const auto pending = Ask(request, 7);
    HF_CHECK(pending.Get().topics.at(0).error_code == kafka::ErrorCode::kNone);
  }

  kafka::Uuid TopicId(std::string_view name) {
    kafka::MetadataRequest request;
    request.topics.emplace().emplace_back().name = name;
    return Ask(request, 12).Get().topics.at(0).topic_id;
  }

  using PartitionResponse = kafka::ProduceResponse::PartitionProduceResponse;
  static kafka::ProduceRequest MakeProduce(std::string_view topic, int32_t partition,
                                           std::string_view batch, int16_t acks = -1) {
    kafka::ProduceRequest request;
    request.acks = acks;
    request.timeout_ms = 1000;
    auto& data = request.topic_data.emplace_back();
    data.name = topic;
    data.partition_data.push_back({partition, batch, {}});
    return request;
  }
  // Without the strings of the response.
  PartitionResponse Produce(std::string_view topic, int32_t partition, std::string_view batch) {
    const auto pending = Ask(MakeProduce(topic, partition, batch), 9);
    PartitionResponse response = pending.Get().responses.at(0).partition_responses.at(0);
    response.error_message.reset();
    response.record_errors.clear();
    return response;
  }

  static kafka::FetchRequest MakeFetch(std::string_view topic, int32_t partition, int64_t offset) {
    kafka::FetchRequest request;
    request.max_wait_ms = 500;
    request.min_bytes = 1;
    auto& fetch_topic = request.topics.emplace_back();
    fetch_topic.topic = topic;
    auto& fetch = fetch_topic.partitions.emplace_back();
    fetch.partition = partition;
    fetch.fetch_offset = offset;
    fetch.partition_max_bytes = 1 << 20;
    return request;
  }
  // The values of all records that a fetch from `offset` gives.
  std::vector<std::string> Values(std::string_view topic, int32_t partition, int64_t offset) {
    kafka::FetchRequest request = MakeFetch(topic, partition, offset);
    request.max_wait_ms = 0;
    const auto pending = Ask(request, 12);
    return ReadValues(pending.Get().responses.at(0).partitions.at(0));
  }
  static std::vector<std::string> ReadValues(const kafka::FetchResponse::PartitionData& data) {
    std::vector<std::string> values;
    kafka::BatchIterator batches(data.records.value_or(""));
    while (const auto batch = batches.Next()) {
      HF_CHECK(batch->CrcMatches());
      const auto records = kafka::UncompressedRecords::Of(*batch);
      kafka::RecordReader reader(batch->header(), records->bytes());
      kafka::Record record;
      while (reader.Next(&record)) values.emplace_back(record.value.value_or("(null)"));
    }
    return values;
  }

  // A batch with these values, stamped with the virtual time.
  std::string Batch(const std::vector<std::string>& values, const kafka::Producer& producer = {},
                    kafka::Codec codec = kafka::Codec::kNone) {
    kafka::RecordBatchBuilder builder({.codec = codec, .producer = producer});
    for (const std::string& value : values) {
      builder.Add({.timestamp = clock_.wall_clock_ms(), .key = "k", .value = value});
    }
    return std::move(builder).Build();
  }

 private:
  void Start() {
    Options options = options_;
    options.spool.directory = directory_->path() + "/data";
    std::vector<base::Executor*> workers;
    for (const auto& loop : loops_) workers.push_back(loop.get());
    auto started = Broker::Start(std::move(options),
                                 {writer_, background_, workers, compacts_ ? &cleaner_ : nullptr});
    HF_CHECK(started.has_value());
    broker_ = *std::move(started);
    clock_.RunUntilIdle();
  }

  Options options_;
  bool compacts_;
  test::ManualClock clock_;
  test::ManualExecutor writer_{clock_};
  test::ManualExecutor background_{clock_};
  test::ManualExecutor cleaner_{clock_};
  std::vector<std::unique_ptr<test::ManualExecutor>> loops_;
  std::unique_ptr<spool::TemporaryDirectory> directory_;
  std::shared_ptr<const kafka::Peer> peer_ =
      std::make_shared<const kafka::Peer>(kafka::Peer{.address = "10.1.2.3",
                                                      .listener = "10.0.0.1:9092",
                                                      .software_name = {},
                                                      .software_version = {}});
  std::vector<std::shared_ptr<void>> answers_;
  std::unique_ptr<Broker> broker_;
};

}  // namespace holdfast::broker
