#include "client/topic_move.h"

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "client/topic_reader.h"

namespace holdfast::client {
namespace {

using Messages = std::span<const std::unique_ptr<RdKafka::Message>>;

constexpr size_t kRecordsMax = 1000;  // Of one transaction.
constexpr size_t kBytesMax = size_t{8} << 20;
constexpr int kAttempts = 5;
constexpr int kPauseMs = 100;  // After the first attempt; then twice as long.

// Kafka's code if the tier, or librdkafka in its name, will never take the record there.
std::optional<int16_t> RefusedForGood(RdKafka::ErrorCode error) {
  switch (error) {
    case RdKafka::ERR__UNKNOWN_TOPIC:
    case RdKafka::ERR__UNKNOWN_PARTITION:
      return RdKafka::ERR_UNKNOWN_TOPIC_OR_PART;
    case RdKafka::ERR_MSG_SIZE_TOO_LARGE:
    case RdKafka::ERR_RECORD_LIST_TOO_LARGE:
    case RdKafka::ERR_INVALID_RECORD:
    case RdKafka::ERR_INVALID_MSG:
    case RdKafka::ERR_INVALID_TIMESTAMP:
    case RdKafka::ERR_INVALID_MSG_SIZE:
    case RdKafka::ERR_TOPIC_EXCEPTION:
    case RdKafka::ERR_TOPIC_AUTHORIZATION_FAILED:
    case RdKafka::ERR_POLICY_VIOLATION:
    case RdKafka::ERR_UNSUPPORTED_COMPRESSION_TYPE:
    case RdKafka::ERR_UNKNOWN_TOPIC_OR_PART:
      return static_cast<int16_t>(error);
    default:
      return std::nullopt;
  }
}

// The first refusal of the transaction that is going on.
class Deliveries final : public RdKafka::DeliveryReportCb {
 public:
  void dr_cb(RdKafka::Message& message) override {
    if (!refused_) refused_ = RefusedForGood(message.err());
  }
  void Set(std::optional<int16_t> refused) { refused_ = refused; }
  [[nodiscard]] std::optional<int16_t> refused() const { return refused_; }

 private:
  std::optional<int16_t> refused_;
};

class Move {
 public:
  Move(const Connection& connection, const MoveOptions& options, Router& router)
      : connection_(connection), options_(options), router_(router) {}

  base::Result<> Run() {
    HF_RETURN_IF_ERROR(Start());
    HF_ASSIGN_OR_RETURN(reader_, TopicReader::Open(connection_, options_.topic, options_.group));
    for (bool more = true; more;) {
      std::vector<std::unique_ptr<RdKafka::Message>> messages;
      size_t bytes = 0;
      while (messages.size() < kRecordsMax && bytes < kBytesMax) {
        HF_ASSIGN_OR_RETURN(auto message, reader_->Next());
        if (!message) {
          more = false;
          break;
        }
        bytes += message->len() + message->key_len();
        messages.push_back(std::move(message));
      }
      if (!messages.empty()) HF_RETURN_IF_ERROR(Deliver(messages));
    }
    return {};
  }

 private:
  struct Outcome {
    std::optional<int16_t> refused;  // Why nothing was moved. None: all was.
  };

  // Ends what another run left open, before anybody asks how far it came.
  base::Result<> Start() {
    // The tier decides what is too large.
    HF_ASSIGN_OR_RETURN(producer_, connection_.MakeProducer({{"transactional.id", options_.group},
                                                             {"message.max.bytes", "1000000000"},
                                                             {"linger.ms", "5"}},
                                                            &deliveries_));
    return Check("beginning to write",
                 [this] { return producer_->init_transactions(connection_.timeout_ms()); });
  }

  // What is refused is looked for by halves.
  base::Result<> Deliver(Messages messages) {
    HF_ASSIGN_OR_RETURN(Outcome outcome, TryAgain(messages, {}));
    if (!outcome.refused) return {};
    if (messages.size() > 1) {
      HF_RETURN_IF_ERROR(Deliver(messages.first(messages.size() / 2)));
      return Deliver(messages.subspan(messages.size() / 2));
    }
    const int16_t refused = *outcome.refused;
    HF_ASSIGN_OR_RETURN(outcome, TryAgain(messages, refused));
    if (!outcome.refused) return {};
    const auto text = [](int16_t error) {
      return RdKafka::err2str(static_cast<RdKafka::ErrorCode>(error));
    };
    return base::Unexpected(base::Code::kInvalid,
                            "the tier refuses a record wherever it is sent: " + text(refused) +
                                ", then " + text(*outcome.refused));
  }

  base::Result<Outcome> TryAgain(Messages messages, std::optional<int16_t> refused) {
    for (int attempt = 1;; ++attempt) {
      base::Result<Outcome> outcome = Transact(messages, refused);
      if (outcome || outcome.error().code != base::Code::kUnavailable || attempt == kAttempts)
        return outcome;
      PauseAfter(attempt);
    }
  }

  // kUnavailable: nothing was moved, and it may go better another time.
  base::Result<Outcome> Transact(Messages messages, std::optional<int16_t> refused) {
    deliveries_.Set({});
    HF_RETURN_IF_ERROR(
        Check("beginning a transaction", [this] { return producer_->begin_transaction(); }));
    base::Result<> done = Produce(messages, refused);
    if (done && !deliveries_.refused()) done = CommitOffsets(messages);
    if (done && !deliveries_.refused()) {
      done = Check("committing a transaction",
                   [this] { return producer_->commit_transaction(connection_.timeout_ms()); });
      if (done) {
        for (const auto& message : messages) router_.Moved(View(*message), refused);
        return Outcome{};
      }
    }
    // Committed or fenced: there is nothing to abort any more.
    if (!done && done.error().code != base::Code::kUnavailable)
      return base::Unexpected(std::move(done).error());
    HF_RETURN_IF_ERROR(Check("aborting a transaction", [this] {
      return producer_->abort_transaction(connection_.timeout_ms());
    }));
    if (deliveries_.refused()) return Outcome{.refused = deliveries_.refused()};
    return base::Unexpected(std::move(done).error());
  }

  base::Result<> Produce(Messages messages, std::optional<int16_t> refused) {
    for (const auto& message : messages) {
      const Message view = View(*message);
      const Destination to = router_.Route(view, refused);
      std::unique_ptr<RdKafka::Headers> headers = MakeHeaders(to.headers);
      RdKafka::ErrorCode error = RdKafka::ERR_NO_ERROR;
      do {
        producer_->poll(error == RdKafka::ERR_NO_ERROR ? 0 : 100);
        if (deliveries_.refused()) return {};
        error = producer_->produce(to.topic, to.partition, RdKafka::Producer::RK_MSG_COPY,
                                   message->payload(), message->len(), message->key_pointer(),
                                   message->key_len(), view.timestamp_ms, headers.get(), nullptr);
      } while (error == RdKafka::ERR__QUEUE_FULL);
      if (error == RdKafka::ERR_NO_ERROR) {
        [[maybe_unused]] const auto* taken = headers.release();
      } else if (const auto for_good = RefusedForGood(error)) {
        deliveries_.Set(for_good);
        return {};
      } else {
        return base::Unexpected(
            connection_.Failed("writing to " + to.topic, RdKafka::err2str(error)));
      }
    }
    return {};
  }

  base::Result<> CommitOffsets(Messages messages) {
    std::map<int32_t, int64_t> next;
    for (const auto& message : messages) next[message->partition()] = message->offset() + 1;
    std::vector<RdKafka::TopicPartition*> offsets;
    for (const auto& [partition, offset] : next)
      offsets.push_back(RdKafka::TopicPartition::create(options_.topic, partition, offset));
    const auto group = reader_->group();
    auto sent = Check("committing how far " + options_.topic + " was read", [&] {
      return producer_->send_offsets_to_transaction(offsets, group.get(), connection_.timeout_ms());
    });
    RdKafka::TopicPartition::destroy(offsets);
    return sent;
  }

  // Takes in what has happened to what was sent; ends early if something has.
  void PauseAfter(int attempt) { producer_->poll(kPauseMs << (attempt - 1)); }

  // kClosed: this producer is no use any more.
  template <class Call>
  base::Result<> Check(const std::string& what, Call call) {
    for (int attempt = 1;; ++attempt) {
      const std::unique_ptr<RdKafka::Error> error(call());
      if (!error) return {};
      if (error->is_retriable() && attempt < kAttempts) {
        PauseAfter(attempt);
        continue;
      }
      base::Error failed = connection_.Failed(what, error->str());
      if (error->is_fatal()) {
        failed.code = base::Code::kClosed;
        if (error->code() == RdKafka::ERR__FENCED)
          failed.message = "another process moves the records of " + options_.topic + " now";
      }
      return base::Unexpected(std::move(failed));
    }
  }

  const Connection& connection_;
  const MoveOptions& options_;
  Router& router_;
  Deliveries deliveries_;
  std::unique_ptr<TopicReader> reader_;
  std::unique_ptr<RdKafka::Producer> producer_;
};

}  // namespace

base::Result<> MoveTopic(const Connection& connection, const MoveOptions& options, Router& router) {
  return Move(connection, options, router).Run();
}

}  // namespace holdfast::client
