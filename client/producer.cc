#include "client/producer.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace holdfast::client {
namespace {

constexpr int kPollMs = 100;
constexpr size_t kQueueBytesMax = size_t{128} << 20;
static_assert(kQueueBytesMax > RecordFormat::kRecordBytesMax);
constexpr const char* kTransactionTimeoutMs = "60000";

}  // namespace

class Producer::Reports final : public RdKafka::DeliveryReportCb {
 public:
  explicit Reports(const std::function<void(const Delivery&)>& delivered) : delivered_(delivered) {}

  void dr_cb(RdKafka::Message& message) override {
    Delivery delivery{.number = reinterpret_cast<uintptr_t>(message.msg_opaque()),
                      .topic = message.topic_name(),
                      .partition = message.partition(),
                      .offset = message.offset()};
    if (message.err() != RdKafka::ERR_NO_ERROR) {
      delivery.error = RdKafka::err2str(message.err());
      delivery.code = static_cast<int16_t>(std::max<int>(message.err(), 0));
      delivery.timed_out = message.err() == RdKafka::ERR__MSG_TIMED_OUT;
      ++failed;
    }
    delivered_(delivery);
  }

  uint64_t failed = 0;

 private:
  const std::function<void(const Delivery&)>& delivered_;
};

Producer::Producer(const Connection& connection, Options options)
    : connection_(connection),
      options_(std::move(options)),
      reports_(std::make_unique<Reports>(options_.delivered)) {}

Producer::~Producer() {
  if (!producer_) return;
  producer_->purge(RdKafka::Producer::PURGE_QUEUE | RdKafka::Producer::PURGE_INFLIGHT);
}

base::Result<std::unique_ptr<Producer>> Producer::Open(const Connection& connection,
                                                       Options options) {
  std::unique_ptr<Producer> producer(new Producer(connection, std::move(options)));
  HF_RETURN_IF_ERROR(producer->Begin());
  return producer;
}

base::Result<> Producer::Begin() {
  Connection::Properties properties = options_.properties;
  // The tier decides what is too large.
  properties.emplace("message.max.bytes", "1000000000");
  properties.emplace("queue.buffering.max.kbytes", std::to_string(kQueueBytesMax / 1024));
  int timeout_ms = connection_.timeout_ms();
  if (!options_.transactional_id.empty()) {
    properties.emplace("transactional.id", options_.transactional_id);
    // No record may have more, and the transaction gets none more: if it hangs, readers wait.
    const std::string& whole =
        properties.emplace("transaction.timeout.ms", kTransactionTimeoutMs).first->second;
    int whole_ms = timeout_ms;
    std::from_chars(whole.data(), whole.data() + whole.size(), whole_ms);
    timeout_ms = std::min(timeout_ms, whole_ms);
  }
  properties.emplace("message.timeout.ms", std::to_string(timeout_ms));
  properties.emplace("partitioner", "murmur2_random");
  const auto acks = properties.find("acks");
  const bool all = acks == properties.end() || acks->second == "all" || acks->second == "-1";
  properties.emplace("enable.idempotence", all ? "true" : "false");
  HF_ASSIGN_OR_RETURN(producer_, connection_.MakeProducer(properties, reports_.get()));
  if (options_.transactional_id.empty()) return {};
  const auto check = [this](RdKafka::Error* failed) -> base::Result<> {
    const std::unique_ptr<RdKafka::Error> error(failed);
    if (!error) return {};
    return base::Unexpected(connection_.Failed("beginning a transaction", error->str()));
  };
  HF_RETURN_IF_ERROR(check(producer_->init_transactions(connection_.timeout_ms())));
  HF_RETURN_IF_ERROR(check(producer_->begin_transaction()));
  open_transaction_ = true;
  return {};
}

bool Producer::Send(const std::string& topic, int32_t partition, const Record& record) {
  std::unique_ptr<RdKafka::Headers> headers;
  if (!record.headers.empty()) headers = MakeHeaders(record.headers);
  const auto data = [](const std::optional<std::string>& bytes) {
    // librdkafka takes a null pointer for null; what is empty has an address.
    return bytes ? const_cast<char*>(bytes->data()) : nullptr;
  };
  const auto size = [](const std::optional<std::string>& bytes) {
    return bytes ? bytes->size() : size_t{0};
  };
  producer_->poll(0);
  const RdKafka::ErrorCode error = producer_->produce(
      topic, partition, RdKafka::Producer::RK_MSG_COPY, data(record.value), size(record.value),
      data(record.key), size(record.key), record.timestamp_ms.value_or(0), headers.get(),
      reinterpret_cast<void*>(static_cast<uintptr_t>(sent_ + 1)));
  // What does not fit where nothing waits never will.
  const bool too_large = error == RdKafka::ERR__QUEUE_FULL && producer_->outq_len() == 0;
  if (error == RdKafka::ERR__QUEUE_FULL && !too_large) {
    producer_->poll(kPollMs);
    return false;
  }
  ++sent_;
  if (error == RdKafka::ERR_NO_ERROR) {
    [[maybe_unused]] const auto* taken = headers.release();
    return true;
  }
  ++reports_->failed;
  options_.delivered({.number = sent_,
                      .topic = topic,
                      .partition = partition,
                      .error = too_large ? "it is larger than queue.buffering.max.kbytes"
                                         : RdKafka::err2str(error),
                      .code = static_cast<int16_t>(std::max<int>(error, 0))});
  return true;
}

void Producer::Poll(std::chrono::milliseconds wait) {
  producer_->poll(static_cast<int>(wait.count()));
}

bool Producer::Flush(std::chrono::milliseconds wait) {
  producer_->flush(static_cast<int>(wait.count()));
  return producer_->outq_len() == 0;
}

base::Result<> Producer::End(bool complete) {
  while (!Flush(std::chrono::milliseconds(kPollMs))) {
  }
  if (!std::exchange(open_transaction_, false)) return {};
  const bool commit = complete && failed() == 0;
  const std::unique_ptr<RdKafka::Error> error(
      commit ? producer_->commit_transaction(connection_.timeout_ms())
             : producer_->abort_transaction(connection_.timeout_ms()));
  if (!error) return {};
  return base::Unexpected(connection_.Failed(
      commit ? "committing the transaction" : "aborting the transaction", error->str()));
}

uint64_t Producer::failed() const { return reports_->failed; }

}  // namespace holdfast::client
