#include "client/connection.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <list>
#include <utility>

#include "base/event.h"
#include "base/mutex.h"

namespace holdfast::client {
namespace {

// How soon librdkafka asks for the token again: whoever writes the file may have put a newer one
// there.
constexpr std::chrono::minutes kTokenReadAgain{5};

// 2.6.1. Before, the nonce in SCRAM's last message was wrong, which Kafka 4 does not pass over.
constexpr int kScramMended = 0x020601ff;

}  // namespace

// Keeps what librdkafka would print.
class Connection::Events final : public RdKafka::EventCb {
 public:
  void event_cb(RdKafka::Event& event) override {
    if (event.type() != RdKafka::Event::EVENT_ERROR) return;
    const base::MutexLock lock(mutex_);
    if (event.err() == RdKafka::ERR__ALL_BROKERS_DOWN)
      outage_ = event.str() + (trouble_.empty() ? "" : ": " + trouble_);
    trouble_ = event.str();
  }
  [[nodiscard]] std::string trouble() const {
    const base::MutexLock lock(mutex_);
    return trouble_;
  }
  std::string TakeOutage() {
    const base::MutexLock lock(mutex_);
    return std::exchange(outage_, {});
  }

 private:
  mutable base::Mutex mutex_;
  std::string trouble_ HF_GUARDED_BY(mutex_);
  std::string outage_ HF_GUARDED_BY(mutex_);
};

class Connection::Token final : public RdKafka::OAuthBearerTokenRefreshCb {
 public:
  Token(std::string file, const std::map<std::string, std::string>& extensions)
      : file_(std::move(file)) {
    for (const auto& [name, value] : extensions) {
      extensions_.push_back(name);
      extensions_.push_back(value);
    }
  }

  void oauthbearer_token_refresh_cb(RdKafka::Handle* handle, const std::string&) override {
    std::ifstream in(file_);
    std::string token{std::istreambuf_iterator<char>(in), {}};
    while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
    std::string error;
    if (!in || token.empty()) {
      error = "no token in " + file_;
    } else {
      const auto now = std::chrono::floor<std::chrono::milliseconds>(
          std::chrono::file_clock::to_sys(std::chrono::file_clock::now()));
      const auto until = now.time_since_epoch() + kTokenReadAgain;
      if (handle->oauthbearer_set_token(token, std::chrono::milliseconds(until).count(), "holdfast",
                                        extensions_, error) == RdKafka::ERR_NO_ERROR)
        return;
    }
    handle->oauthbearer_set_token_failure(error);
  }

 private:
  const std::string file_;
  std::list<std::string> extensions_;  // Name, value, name, ...
};

Connection::Connection(Options options)
    : options_(std::move(options)),
      events_(std::make_unique<Events>()),
      token_(options_.token_file.empty()
                 ? nullptr
                 : std::make_unique<Token>(options_.token_file, options_.token_extensions)) {}
Connection::~Connection() = default;

base::Result<std::unique_ptr<RdKafka::Conf>> Connection::Configure(const Properties& more) const {
  std::unique_ptr<RdKafka::Conf> conf(RdKafka::Conf::create(RdKafka::Conf::CONF_GLOBAL));
  Properties all = more;
  all.insert(options_.properties.begin(), options_.properties.end());
  std::string error;
  bool taken = conf->set("event_cb", events_.get(), error) == RdKafka::Conf::CONF_OK;
  for (const auto& [name, value] : all)
    taken = taken && conf->set(name, value, error) == RdKafka::Conf::CONF_OK;
  if (taken && token_) {
    taken =
        conf->set("oauthbearer_token_refresh_cb", token_.get(), error) == RdKafka::Conf::CONF_OK &&
        conf->enable_sasl_queue(true, error) == RdKafka::Conf::CONF_OK;
  }
  if (!taken) return base::Unexpected(base::Code::kInvalid, error);
  return conf;
}

// On a thread of librdkafka's: whoever waits inside a call does not poll.
base::Result<> Connection::ServeToken(RdKafka::Handle& client) const {
  if (!token_) return {};
  const std::unique_ptr<RdKafka::Error> error(client.sasl_background_callbacks_enable());
  if (error) return base::Unexpected(base::Code::kInvalid, error->str());
  return {};
}

base::Result<std::unique_ptr<RdKafka::KafkaConsumer>> Connection::MakeConsumer(
    const Properties& more, RdKafka::RebalanceCb* rebalances) const {
  HF_ASSIGN_OR_RETURN(const auto conf, Configure(more));
  std::string error;
  if (rebalances != nullptr &&
      conf->set("rebalance_cb", rebalances, error) != RdKafka::Conf::CONF_OK)
    return base::Unexpected(base::Code::kInvalid, error);
  std::unique_ptr<RdKafka::KafkaConsumer> consumer(
      RdKafka::KafkaConsumer::create(conf.get(), error));
  if (!consumer) return base::Unexpected(base::Code::kInvalid, error);
  HF_RETURN_IF_ERROR(ServeToken(*consumer));
  return consumer;
}

base::Result<std::unique_ptr<RdKafka::Producer>> Connection::MakeProducer(
    const Properties& more, RdKafka::DeliveryReportCb* deliveries) const {
  HF_ASSIGN_OR_RETURN(const auto conf, Configure(more));
  std::string error;
  if (conf->set("dr_cb", deliveries, error) != RdKafka::Conf::CONF_OK)
    return base::Unexpected(base::Code::kInvalid, error);
  std::unique_ptr<RdKafka::Producer> producer(RdKafka::Producer::create(conf.get(), error));
  if (!producer) return base::Unexpected(base::Code::kInvalid, error);
  HF_RETURN_IF_ERROR(ServeToken(*producer));
  return producer;
}

std::string Connection::TakeOutage() const { return events_->TakeOutage(); }

base::Error Connection::Failed(std::string_view what, std::string_view how) const {
  std::string message = std::string(what) + ": " + std::string(how);
  if (const std::string trouble = events_->trouble(); !trouble.empty())
    message += " (" + trouble + ")";
  const auto mechanism = options_.properties.find("sasl.mechanisms");
  if (mechanism != options_.properties.end() && mechanism->second.starts_with("SCRAM") &&
      RdKafka::version() < kScramMended)
    message += "; librdkafka " + RdKafka::version_str() +
               " cannot log in to Kafka 4 by SCRAM, 2.6.1 can: use another mechanism for this "
               "command";
  return {base::Code::kUnavailable, std::move(message), base::Event::kTierUnreachable};
}

}  // namespace holdfast::client
