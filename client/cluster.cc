#include "client/cluster.h"

#include <fmt/format.h>

#include <future>

#include "kafka/api/find_coordinator.h"

namespace holdfast::client {
namespace {

using base::Code;

constexpr base::Duration kPauseForCoordinator = std::chrono::milliseconds(100);
// Topics are named in these versions; above them some answers know only ids.
constexpr int16_t kMetadataCap = 12;

}  // namespace

// One connection. Everything on the loop, but Ready.
class Cluster::Peer {
 public:
  Peer(const proxy::Link::Context& context, const proxy::Link::Options& options,
       const net::HostPort& address)
      : link_(context, options, address,
              {.on_ready = [this] { Settle(true); }, .on_lost = [this] { Settle(false); }}) {}

  // From the caller's thread: waits for the first attempt's end.
  bool Ready() { return settled_.get_future().get(); }
  proxy::Link& link() { return link_; }

 private:
  void Settle(bool ready) {
    if (!std::exchange(done_, true)) settled_.set_value(ready);
  }

  bool done_ = false;
  std::promise<bool> settled_;
  proxy::Link link_;
};

Cluster::Cluster(Options options, std::unique_ptr<net::LoopThread> thread)
    : options_(std::move(options)),
      net_metrics_(registry_),
      link_metrics_(registry_),
      security_(options_.identity),
      random_(base::Random::FromSystem()),
      thread_(std::move(thread)),
      resolver_(std::make_unique<net::Resolver>()) {}

Cluster::~Cluster() {
  thread_->loop().RunAndWait([this] {
    pause_.Cancel();
    peers_.clear();
  });
}

base::Result<std::unique_ptr<Cluster>> Cluster::Connect(Options options) {
  HF_ASSIGN_OR_RETURN(auto thread, net::LoopThread::Start({.name = "cluster"}));
  std::unique_ptr<Cluster> cluster(new Cluster(std::move(options), std::move(thread)));
  HF_RETURN_IF_ERROR(cluster->Bootstrap());
  return cluster;
}

base::Result<> Cluster::Bootstrap() {
  base::Error last{Code::kInvalid, "no address to connect to"};
  std::string troubles;
  for (const net::HostPort& address : options_.bootstrap) {
    if (auto peer = Dial(proxy::kAnyNode, address); !peer) {
      last = std::move(peer).error();
      troubles += (troubles.empty() ? "" : "; ") + last.message;
      continue;
    }
    HF_ASSIGN_OR_RETURN(const auto metadata, AskMetadata(std::vector<std::string>{}));
    for (const auto& broker : metadata->brokers) {
      brokers_.push_back({.id = broker.node_id,
                          .address = {.host = std::string(broker.host),
                                      .port = static_cast<uint16_t>(broker.port)}});
    }
    controller_ = metadata->controller_id;
    if (brokers_.empty())
      return base::Unexpected(Code::kUnavailable, address.ToString() + " knows of no brokers");
    return {};
  }
  last.message = troubles.empty() ? last.message : troubles;
  return base::Unexpected(std::move(last));
}

int32_t Cluster::timeout_ms() const {
  return static_cast<int32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(options_.timeout).count());
}

base::Result<Cluster::Peer*> Cluster::Dial(int32_t broker, const net::HostPort& address) {
  Peer* peer = nullptr;
  thread_->loop().RunAndWait([&] {
    auto& slot = peers_[broker];
    slot = std::make_unique<Peer>(
        proxy::Link::Context{.loop = thread_->loop(),
                             .resolver = *resolver_,
                             .net_metrics = net_metrics_,
                             .metrics = link_metrics_,
                             .random = random_,
                             .security = &security_},
        proxy::Link::Options{
            .connect_timeout = std::min<base::Duration>(options_.timeout, std::chrono::seconds(10)),
            .request_timeout = options_.timeout},
        address);
    peer = slot.get();
  });
  if (peer->Ready()) return peer;
  std::string trouble;
  thread_->loop().RunAndWait([&] {
    trouble = peer->link().trouble();
    peers_.erase(broker);
  });
  return base::Unexpected(Code::kUnavailable, std::move(trouble));
}

base::Result<Cluster::Peer*> Cluster::PeerOf(int32_t broker) {
  if (const auto found = peers_.find(broker); found != peers_.end()) return found->second.get();
  for (const Broker& known : brokers_) {
    if (known.id == broker) return Dial(broker, known.address);
  }
  return base::Unexpected(Code::kNotFound, fmt::format("the tier has no broker {}", broker));
}

base::Result<int16_t> Cluster::Version(int32_t broker, const kafka::Api& api, int16_t cap) {
  HF_ASSIGN_OR_RETURN(Peer* const peer, PeerOf(broker));
  std::optional<int16_t> version;
  std::string why;
  thread_->loop().RunAndWait([&] {
    const proxy::Link& link = peer->link();
    if (link.ready()) version = kafka::PickVersion(api, link.versions(), cap);
    why = link.ready() ? fmt::format("{} does not serve {} in a version that is known here",
                                     link.peer().ToString(), api.name)
                       : link.trouble();
  });
  if (version) return *version;
  return base::Unexpected(Code::kUnavailable, std::move(why));
}

base::Result<base::Buffer> Cluster::Exchange(int32_t broker, base::Buffer frame) {
  HF_ASSIGN_OR_RETURN(Peer* const peer, PeerOf(broker));
  auto promise = std::make_shared<std::promise<base::Result<base::Buffer>>>();
  auto answered = promise->get_future();
  thread_->loop().Post([peer, promise, frame = std::move(frame)]() mutable {
    if (!peer->link().ready()) {
      return promise->set_value(base::Unexpected(Code::kUnavailable, peer->link().trouble()));
    }
    peer->link().Send(std::move(frame), [promise](base::Result<std::string_view> answer) {
      if (!answer) return promise->set_value(base::Unexpected(std::move(answer).error()));
      promise->set_value(base::Buffer::Copy(*answer));
    });
  });
  return answered.get();
}

base::Result<Answer<kafka::MetadataResponse>> Cluster::AskMetadata(
    const std::optional<std::vector<std::string>>& topics) {
  kafka::MetadataRequest request;
  request.allow_auto_topic_creation = false;
  if (topics) {
    request.topics.emplace();
    for (const std::string& topic : *topics) request.topics->emplace_back().name = topic;
  }
  return Ask(proxy::kAnyNode, request, kMetadataCap);
}

base::Result<int32_t> Cluster::FindCoordinator(const std::string& group) {
  const auto deadline = std::chrono::steady_clock::now() + options_.timeout;
  while (true) {
    const kafka::FindCoordinatorRequest request{.key = group};
    // Of the versions for one key.
    HF_ASSIGN_OR_RETURN(const auto answer, Ask(proxy::kAnyNode, request, 3));
    if (answer->error_code == kafka::ErrorCode::kNone) return answer->node_id;
    if (!kafka::Retriable(answer->error_code) || std::chrono::steady_clock::now() > deadline) {
      return base::Unexpected(
          Code::kNotFound,
          fmt::format("no coordinator of group {}: {}", group,
                      answer->error_message.value_or(kafka::ErrorName(answer->error_code))));
    }
    Pause(kPauseForCoordinator);
  }
}

void Cluster::Pause(base::Duration duration) {
  const auto over = std::make_shared<std::promise<void>>();
  thread_->loop().RunAndWait(
      [&] { pause_ = thread_->loop().After(duration, [over] { over->set_value(); }); });
  over->get_future().wait();
}

}  // namespace holdfast::client
