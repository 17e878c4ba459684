#include "agent/agent.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "agent/admin_routes.h"
#include "agent/forwarder.h"
#include "agent/listener.h"
#include "agent/overview.h"
#include "agent/record_log.h"
#include "agent/waiting_acks.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/record_batch.h"
#include "metrics/catalogue.h"
#include "net/url_fetch.h"
#include "proxy/front_door.h"
#include "proxy/upstream.h"
#include "spool/directory.h"

namespace holdfast::agent {
namespace {

using base::Result;
using std::chrono::milliseconds;

constexpr base::Duration kKeepClusterEvery = std::chrono::seconds(1);
// A tier that is back is seen within this time, however long it was away.
constexpr milliseconds kReconnectMost = std::chrono::seconds(2);
// What a service says of a half message is a word.
constexpr size_t kAnswerBytesMax = 1024;
// Nor does stopping take longer for the sake of another agent.
constexpr milliseconds kHandOverWithin = std::chrono::seconds(1);
// For outboxes' databases, where nothing is drained before.
constexpr milliseconds kCloseWithin = std::chrono::seconds(10);
constexpr base::Duration kWatchOutboxesEvery = std::chrono::seconds(1);
// So often a drain says what is left: whoever is killed in the middle of it has said so lately.
constexpr milliseconds kTellOfDrainEvery = std::chrono::seconds(3);
// Certificates and keys that were exchanged on disk are used after this time at the latest.
constexpr base::Duration kRefreshTlsEvery = std::chrono::seconds(10);

Result<std::vector<net::HostPort>> ParseAll(const std::vector<std::string>& texts,
                                            std::string_view what) {
  std::vector<net::HostPort> parsed;
  for (const std::string& text : texts) {
    auto address = net::HostPort::Parse(text);
    if (!address) return base::Unexpected(std::move(address.error()).Within(what));
    parsed.push_back(*std::move(address));
  }
  if (parsed.empty()) {
    return base::Unexpected(base::Code::kInvalid, fmt::format("{}: no address is given", what));
  }
  return parsed;
}

std::map<std::string, int32_t, std::less<>> Declared(
    const std::vector<Agent::DeclaredTopic>& topics) {
  std::map<std::string, int32_t, std::less<>> declared;
  for (const auto& topic : topics) declared[topic.name] = topic.partitions;
  return declared;
}

proxy::FrontDoorOptions FrontOptions(const Agent::Options& options,
                                     std::vector<net::HostPort> upstream, proxy::Acks acks,
                                     const proxy::TierSecurity& security,
                                     const proxy::LocalPolicies& policies) {
  return {.bootstrap = std::move(upstream),
          .advertised_host = options.advertised_host,
          .acks = acks,
          .batch_bytes_max = options.batch_bytes_max,
          .timestamp_ahead_max = options.timestamp_ahead_max,
          .answer_within = 2 * options.upstream_timeout,
          .tier_security = &security,
          .local_policies = &policies};
}

Forwarder::Options ForwardOptions(const Agent::Options& options,
                                  std::optional<uint32_t> cluster_tag, std::string withheld) {
  return {
      .request_bytes_max = options.forward_request_bytes_max,
      .requests_in_flight_max = options.forward_requests_in_flight,
      // The tier gives up waiting for replicas before we give up waiting for the tier.
      .produce_timeout = options.upstream_timeout / 2,
      .backoff_min = options.backoff_min,
      .backoff_max = options.backoff_max,
      .dead_letters = options.dead_letters,
      .dead_letter_topic = options.dead_letter_topic,
      .cluster_tag = cluster_tag,
      .withheld = std::move(withheld),
      .bytes_per_second_max = options.forward_bytes_per_second_max,
      .schedule = options.forward_schedule,
      .high_priority_always = options.high_priority_always,
      // A segment begins with all of it, twice.
      .journal_bytes_max = std::min<size_t>(size_t{256} << 10, options.spool.segment_bytes / 256)};
}

TransactionLane::Options LaneOptions(const Agent::Options& options) {
  return {.mode = options.delivery,
          .backoff_min = options.backoff_min,
          .backoff_max = options.backoff_max,
          // Several requests one after the other, each of which may take as long.
          .upstream = {.transaction_timeout = std::max<milliseconds>(std::chrono::seconds(60),
                                                                     2 * options.upstream_timeout),
                       .job_timeout = options.upstream_timeout + options.upstream_timeout / 4,
                       .produce_timeout = options.upstream_timeout / 2,
                       .request_bytes_max = options.forward_request_bytes_max}};
}

class RunningAgent final : public Agent {
 public:
  RunningAgent(Options options, Loops loops, metrics::Registry& registry,
               std::vector<net::HostPort> upstream, std::vector<net::HostPort> listen)
      : options_(std::move(options)),
        loops_(std::move(loops)),
        registry_(registry),
        upstream_addresses_(std::move(upstream)),
        net_metrics_(*loops_.metrics),
        metrics_(registry),
        memory_(options_.memory_in_flight_max, net_metrics_),
        waiting_bytes_(options_.waiting_bytes_max),
        tier_security_(options_.security.tier),
        passing_security_(options_.security.passing),
        local_policies_(options_.security.local),
        cache_(Declared(options_.topics)),
        log_(metrics_,
             [this](std::span<const spool::StreamId> streams) {
               if (forwarder_) forwarder_->NoteDurable(streams);
             }),
        random_(base::Random::FromSystem()) {
    if (!listen.empty()) AddListener("", std::move(listen), proxy::Acks::kLocal);
  }

  ~RunningAgent() override {
    Stop();
    // A source that has come back only now may have asked for a topic.
    outboxes_.reset();
    loops_.upstream->RunAndWait([] {});
  }

  void AddListener(std::string name, std::vector<net::HostPort> addresses, proxy::Acks acks) {
    Listener::Context context{
        .upstream = *loops_.upstream,
        .workers = loops_.workers,
        .memory = memory_,
        .resolver = resolver_,
        .cache = cache_,
        .sink = log_,
        .refresh_topic = [this](std::string topic) { upstream_->RequestRefresh(std::move(topic)); },
        .want_settings =
            [this](std::string topic) { upstream_->RequestSettings(std::move(topic)); },
        .net_metrics = net_metrics_,
        .metrics = metrics_,
        .keep = [this](std::string key,
                       std::string ports) { forwarder_->Keep(std::move(key), std::move(ports)); }};
    Listener::Options options{.name = std::move(name), .addresses = std::move(addresses)};
    options.server.frame_bytes_max = options_.request_bytes_max;
    options.server.connections_max = options_.connections_max;
    options.server.idle_timeout = options_.idle_timeout;
    options.server.tls = options_.security.listener;
    options.front =
        FrontOptions(options_, upstream_addresses_, acks, passing_security_, local_policies_);
    listeners_.push_back(std::make_unique<Listener>(std::move(context), std::move(options)));
  }

  Result<> Open() {
    spool::Options spool = options_.spool;
    spool.metrics = &registry_;
    spool.check_entry = kafka::CheckStored;
    HF_ASSIGN_OR_RETURN(spool_, spool::Spool::Open(std::move(spool), log_, *loops_.spool_writer,
                                                   *loops_.spool_background));
    acks_ = std::make_unique<WaitingAcks>(*loops_.upstream, metrics_, waiting_bytes_);
    log_.Bind(
        *spool_, *loops_.spool_writer, waiting_bytes_,
        {.wait_for_tier = [this](std::unique_ptr<AppendJob> job) { acks_->Take(std::move(job)); },
         .drop_oldest =
             [this](std::string topic, uint64_t bytes) {
               if (forwarder_) forwarder_->DropOldest(std::move(topic), bytes);
             }});
    log_.SetPolicies(options_.policies);
    noted_ = log_.kept().destination;
    NoteDestination(OwnDestination());
    if (const std::string& kept = log_.kept().cluster; !kept.empty()) {
      // What was learned can be learned again; the records are what counts.
      if (const Result<> loaded = cache_.Load(kept); !loaded) {
        base::Log(base::Event::kKeptTierDamaged, "agent", "{}", loaded.error().message);
      }
    }
    loops_.upstream->RunAndWait([this] { BeginForwarding(); });
    for (const auto& listener : listeners_) HF_RETURN_IF_ERROR(listener->Open(log_.kept().ports));
    for (const auto& listener : listeners_) listener->Accept();
    loops_.upstream->RunAndWait([this] { KeepCluster(); });
    HF_RETURN_IF_ERROR(OpenOutboxes());
    if (options_.orphans) {
      orphans_ = std::make_unique<Orphans>(*loops_.orphans, registry_, *options_.orphans,
                                           [this] { return cache_.tier_away(); });
    }
    return {};
  }

  [[nodiscard]] std::vector<std::string> ListenAddresses() const override {
    std::vector<std::string> addresses;
    for (const auto& listener : listeners_) {
      for (std::string& address : listener->Addresses()) addresses.push_back(std::move(address));
    }
    return addresses;
  }

  [[nodiscard]] std::vector<net::AdminRoute> AdminRoutes() override {
    std::vector<net::AdminRoute> routes = MakeAdminRoutes({.registry = registry_,
                                                           .spool = *spool_,
                                                           .records = log_,
                                                           .upstream = *loops_.upstream,
                                                           .forwarder = *forwarder_,
                                                           .overview = *overview_,
                                                           .cache = cache_,
                                                           .ports = listeners_.front()->ports(),
                                                           .orphans = orphans_.get(),
                                                           .draining = draining_});
    if (outboxes_) std::ranges::move(outboxes_->Routes(), std::back_inserter(routes));
    if (half_messages_) std::ranges::move(half_messages_->Routes(), std::back_inserter(routes));
    return routes;
  }

  [[nodiscard]] std::string Summary() const override {
    const double waiting = metrics_.backlog_records.Value();
    return fmt::format("agent: {} records wait for the tier, which {}{}", waiting,
                       cache_.tier_away() ? "is away" : "answers",
                       metrics_.forward_paused.Value() > 0 ? ", and for their schedule" : "");
  }

  void Reload(const Options& options) override {
    log_.SetPolicies(options.policies);
    forwarder_->SetPolicies(options.policies);
    forwarder_->SetRate(options.forward_bytes_per_second_max);
    forwarder_->SetSchedule(options.forward_schedule, options.high_priority_always);
    // From the next connection on; the rules of clients from their next request on.
    tier_security_.Replace(options.security.tier);
    passing_security_.Replace(options.security.passing);
    local_policies_.Replace(options.security.local);
    if (options_.security.listener && options.security.listener)
      options_.security.listener->Replace(*options.security.listener);
    loops_.upstream->Post([this] {
      NoteDestination(OwnDestination());
      RefreshTls();
    });
  }

  void Drain(milliseconds deadline, milliseconds backlog) override {
    if (stopped_) return;
    draining_ = true;
    metrics_.draining.Set(1);
    if (orphans_) orphans_->Pause();
    const auto end = std::chrono::steady_clock::now() + deadline;
    TellWhatIsLeft(fmt::format("draining; the tier gets {} to take what waits",
                               backlog == milliseconds::zero() ? "no time" : Seconds(backlog)));
    std::vector<std::future<void>> drained;
    // What waits for room, or for a tier that is away, would hold the rest up.
    loops_.upstream->RunAndWait([this] { ledger_topic_.reset(); });
    if (outboxes_) outboxes_->Pause(drained);
    log_.Close();
    if (cache_.tier_away()) loops_.upstream->Post([this] { acks_->Close(); });
    for (const auto& listener : listeners_) listener->Drain(deadline, drained);
    for (auto& done : drained) done.wait_until(end);
    // Another agent can go on at once with what this one owns if nothing of it is left here.
    const bool hands_over = outboxes_ && !cache_.tier_away();
    if (backlog > milliseconds::zero()) {
      WaitForTier(hands_over ? std::max(backlog, kHandOverWithin) : backlog);
    } else if (hands_over) {
      outboxes_->AwaitDelivery(std::chrono::steady_clock::now() + kHandOverWithin);
    }
    if (outboxes_) {
      outboxes_->Close(/*handed_over=*/true,
                       std::max(end, std::chrono::steady_clock::now() + kHandOverWithin));
    }
    const auto flushed_by = std::chrono::steady_clock::now() + deadline;
    EndRound(deadline / 4);
    auto flushed = std::make_shared<std::promise<void>>();
    auto waiting = flushed->get_future();
    loops_.upstream->Post([this, flushed] {
      KeepCluster();
      forwarder_->CloseJournal();
      forwarder_->Flush([flushed] { flushed->set_value(); });
    });
    if (waiting.wait_until(flushed_by) != std::future_status::ready) {
      base::Log(base::Event::kDrainOverdue, "agent", "draining took longer than {} ms",
                deadline.count());
    }
    const Left left = WhatIsLeft();
    if (left.empty()) {
      base::Log(base::LogLevel::kInfo, "agent", "drained: nothing is left to deliver");
    } else {
      base::Log(base::Event::kRecordsLeft, "agent", "drained; left in {}{}: {}",
                options_.spool.directory, left.none() ? "" : " until the next start", left.Text());
    }
  }

  Left WhatIsLeft() override {
    Left left;
    loops_.upstream->RunAndWait([&] {
      if (forwarder_) left = forwarder_->WhatIsLeft();
    });
    // A little late, as cursors are; so nothing is told of records that are gone.
    if (!left.empty()) left.bytes = log_.HeldBytes();
    if (!left.none() && left.trouble.empty() && cache_.tier_away())
      left.trouble = "no broker of the tier answers";
    return left;
  }

  [[nodiscard]] Settled WhatIsSettled() override {
    const auto sum = [](metrics::Family<metrics::Counter>& family) {
      uint64_t all = 0;
      for (const auto& [cause, counter] : family.All()) all += counter->Value();
      return static_cast<int64_t>(all);
    };
    return {.delivered = static_cast<int64_t>(metrics_.forwarded_records.Value()),
            .dead_letters = sum(metrics_.dead_letter_records),
            .dropped = sum(metrics_.dropped_records)};
  }

  [[nodiscard]] bool Wanted() const override { return spool_->Wanted(); }

  [[nodiscard]] bool Blocked() const override { return outboxes_ && outboxes_->Blocked(); }

  void Stop() override {
    if (std::exchange(stopped_, true)) return;
    draining_ = true;
    if (orphans_) orphans_->Stop();
    if (outboxes_) {
      outboxes_->Close(/*handed_over=*/false, std::chrono::steady_clock::now() + kCloseWithin);
    }
    for (const auto& listener : listeners_) listener->Close();
    if (spool_) log_.Close();
    loops_.upstream->RunAndWait([this] {
      ledger_topic_.reset();
      half_messages_.reset();
      overview_.reset();
      if (acks_) acks_->Close();
      keep_timer_.Cancel();
      watch_outboxes_timer_.Cancel();
      refresh_tls_timer_.Cancel();
      if (forwarder_) forwarder_->Stop();
      if (lane_) lane_->Stop();
      upstream_.reset();
    });
    if (spool_) spool_->Close();
    loops_.upstream->RunAndWait([this] {
      transactions_.reset();
      lane_.reset();
      forwarder_.reset();
      acks_.reset();
    });
  }

 private:
  Result<> OpenOutboxes() {
    if (options_.outbox.empty()) return {};
    std::vector<StreamEnd> waiting;
    loops_.upstream->RunAndWait([&] { waiting = forwarder_->Waiting(); });
    HF_ASSIGN_OR_RETURN(
        outboxes_, outbox::Outboxes::Make(
                       {.cache = cache_,
                        .append = Appender(),
                        .want_topic = TopicWisher(),
                        .want_settings =
                            [this](std::string topic) {
                              loops_.upstream->Post([this, topic = std::move(topic)]() mutable {
                                if (upstream_) upstream_->RequestSettings(std::move(topic));
                              });
                            },
                        .spool = spool::ToText(spool_->GetStatus().id),
                        .undelivered =
                            [this](std::vector<StreamEnd> ends) {
                              loops_.upstream->RunAndWait([&] {
                                if (forwarder_) ends = forwarder_->Undelivered(std::move(ends));
                              });
                              return ends;
                            },
                        .waiting = std::move(waiting)},
                       options_.outbox, loops_.outbox, registry_, log_.kept().outbox));
    outboxes_->Start();
    loops_.upstream->Post([this] { WatchOutboxes(); });
    return {};
  }

  // On the upstream loop.
  void WatchOutboxes() {
    outboxes_->TellIfBusy();
    watch_outboxes_timer_ =
        loops_.upstream->After(kWatchOutboxesEvery, [this] { WatchOutboxes(); });
  }

  [[nodiscard]] std::function<void(NotedAppend, RecordLog::NotedDone)> Appender() {
    return [this](NotedAppend append, RecordLog::NotedDone done) {
      log_.AppendNoted(std::move(append), std::move(done));
    };
  }

  [[nodiscard]] std::function<void(std::string)> TopicWisher() {
    return [this](std::string topic) {
      loops_.upstream->Post([this, topic = std::move(topic)] {
        if (upstream_) upstream_->RefreshMetadata(topic);
      });
    };
  }

  // On the upstream loop.
  void OpenHalfMessages() {
    if (!options_.half_messages) return;
    half_metrics_ = std::make_unique<metrics::HalfMessageMetrics>(registry_);
    half_messages_ = std::make_unique<outbox::HalfMessages>(
        outbox::HalfMessages::Context{
            .loop = *loops_.upstream,
            .asking = *loops_.asking,
            .cache = cache_,
            .metrics = *half_metrics_,
            .append = Appender(),
            .want_topic = TopicWisher(),
            .ask =
                [this](const std::string& url) {
                  return net::FetchUrl(url, {.timeout = options_.half_messages->check_timeout,
                                             .bytes_max = kAnswerBytesMax,
                                             .redirections_max = 0,
                                             .give_up = &draining_});
                }},
        options_.half_messages->options, log_.kept().half);
  }

  // Until nothing is left that may go now, or the time is over.
  void WaitForTier(milliseconds most) {
    const auto end = std::chrono::steady_clock::now() + most;
    auto sent = std::make_shared<std::promise<void>>();
    auto waiting = sent->get_future();
    loops_.upstream->Post([this, sent] { forwarder_->WhenSent([sent] { sent->set_value(); }); });
    while (true) {
      const auto now = std::chrono::steady_clock::now();
      if (now >= end) break;
      const auto turn = std::min<std::chrono::steady_clock::duration>(end - now, kTellOfDrainEvery);
      if (waiting.wait_for(turn) == std::future_status::ready) break;
      const auto rest =
          std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
      if (rest > milliseconds::zero())
        TellWhatIsLeft(fmt::format("draining, {} to go", Seconds(rest)));
    }
    int64_t held = 0;
    loops_.upstream->RunAndWait([&] { held = forwarder_->HeldBacklog(); });
    if (held == 0) return;
    base::Log(base::LogLevel::kInfo, "agent",
              "agent.upstream.schedule says not now: {} records stay in the spool", held);
  }

  // Otherwise the tier would have its transaction open for as long as it allows, and nobody who
  // reads committed records come past it.
  void EndRound(milliseconds patience) {
    auto rested = std::make_shared<std::promise<void>>();
    auto waiting = rested->get_future();
    loops_.upstream->Post([this, rested] { lane_->Rest([rested] { rested->set_value(); }); });
    if (cache_.tier_away()) return;
    if (waiting.wait_for(patience) == std::future_status::ready) return;
    loops_.upstream->Post([this] { lane_->Abort(); });
    waiting.wait_for(patience);
  }

  void TellWhatIsLeft(const std::string& what) {
    const Left left = WhatIsLeft();
    if (left.empty()) {
      base::Log(base::LogLevel::kInfo, "agent", "{}; nothing waits", what);
    } else {
      base::Log(base::LogLevel::kInfo, "agent", "{}; in {}: {}", what, options_.spool.directory,
                left.Text());
    }
  }

  static std::string Seconds(milliseconds time) {
    return fmt::format("{:.1f} s", std::chrono::duration<double>(time).count());
  }

  // To which the tier has to belong. Nothing is delivered before a producer id is written down, and
  // with it the tier that gave it.
  [[nodiscard]] std::optional<uint32_t> ItsCluster() const {
    if (!options_.only_its_cluster) return std::nullopt;
    const UpstreamProducer& producer = log_.kept().upstream;
    if (producer.id != kafka::kNoProducerId) return producer.cluster_tag;
    const std::string seen = cache_.cluster()->id;
    return seen.empty() ? std::nullopt : std::optional(ClusterTag(seen));
  }

  [[nodiscard]] Destination OwnDestination() const {
    return {.bootstrap = options_.upstream,
            .principal = proxy::PrincipalOf(*tier_security_.identity())};
  }

  // In Open, then on the upstream loop.
  void NoteDestination(Destination own) {
    if (options_.only_its_cluster || noted_ == own) return;
    log_.NoteDestination(own);
    noted_ = std::move(own);
  }

  // Why what waits here is not this process's to deliver. Empty: it is.
  [[nodiscard]] std::string WhyWithheld() const {
    const std::optional<Destination>& its = log_.kept().destination;
    if (!options_.only_its_cluster || !its) return {};
    const Destination own = OwnDestination();
    if (!ItsCluster() && !its->SharesAddress(own)) {
      return fmt::format(
          "what waits here is for the tier at {}, which its agent never saw, and this is the one "
          "at {}; give the settings of the agent that this spool belongs to",
          fmt::join(its->bootstrap, ", "), fmt::join(own.bootstrap, ", "));
    }
    if (options_.lends_rights || its->IsSamePrincipal(own)) return {};
    const auto named = [](const Destination& one) {
      return one.principal.empty() ? "somebody whom its token or certificate does not name"
                                   : one.principal;
    };
    return fmt::format(
        "the agent of what waits here is to the tier {}, and this is {}, whose rights are not lent "
        "to it; drain it with the settings of the agent that this spool belongs to, or by hand "
        "with --lend-rights",
        named(*its), named(own));
  }

  // On the upstream loop.
  void BeginForwarding() {
    const proxy::Link::Context context{.loop = *loops_.upstream,
                                       .resolver = resolver_,
                                       .net_metrics = net_metrics_,
                                       .metrics = metrics_,
                                       .random = random_,
                                       .security = &tier_security_};
    upstream_ = std::make_unique<proxy::Upstream>(
        context,
        proxy::Upstream::Options{
            .bootstrap = upstream_addresses_,
            .link = {.request_timeout = options_.upstream_timeout,
                     .backoff_min = options_.backoff_min,
                     .backoff_max = std::min(options_.backoff_max, kReconnectMost)},
            .metadata_refresh = options_.metadata_refresh},
        cache_);
    KeptTransactions kept = log_.TakeTransactions();
    const std::map<std::string, LocalProducerRecord> producers = std::exchange(kept.producers, {});
    lane_ = std::make_unique<TransactionLane>(TransactionLane::Context{.loop = *loops_.upstream,
                                                                       .spool = *spool_,
                                                                       .tier = *upstream_,
                                                                       .cache = cache_,
                                                                       .metrics = metrics_},
                                              LaneOptions(options_), std::move(kept), random_());
    forwarder_ = std::make_unique<Forwarder>(Forwarder::Context{.loop = *loops_.upstream,
                                                                .spool = *spool_,
                                                                .tier = *upstream_,
                                                                .cache = cache_,
                                                                .metrics = metrics_,
                                                                .records = &log_,
                                                                .acks = acks_.get(),
                                                                .lane = lane_.get()},
                                             ForwardOptions(options_, ItsCluster(), WhyWithheld()),
                                             log_.kept(), random_());
    acks_->SetWhenRecorded([this](base::Task done) { forwarder_->Flush(std::move(done)); });
    forwarder_->SetPolicies(options_.policies);
    transactions_ =
        std::make_unique<LocalTransactions>(LocalTransactions::Context{.loop = *loops_.upstream,
                                                                       .spool = *spool_,
                                                                       .cache = cache_,
                                                                       .records = log_,
                                                                       .lane = *lane_,
                                                                       .host = *forwarder_,
                                                                       .metrics = metrics_},
                                            options_.transactions, producers);
    if (!options_.transactions.rules.empty()) {
      for (const auto& listener : listeners_) listener->SetTransactions(transactions_.get());
    }
    upstream_->SetObserver(forwarder_.get());
    forwarder_->Start();
    if (options_.ledger_topic) {
      ledger_topic_ = std::make_unique<LedgerTopic>(*loops_.upstream, log_, *forwarder_,
                                                    *options_.ledger_topic);
    }
    overview_ = std::make_unique<Overview>(
        Overview::Context{.loop = *loops_.upstream,
                          .spool = *spool_,
                          .spool_directory = options_.spool.directory,
                          .free_bytes_min = options_.spool.free_bytes_min,
                          .segment_bytes = options_.spool.segment_bytes,
                          .forwarder = *forwarder_,
                          .upstream = *upstream_,
                          .cache = cache_,
                          .metrics = metrics_,
                          .orphans = orphans_,
                          .outboxes = outboxes_,
                          .draining = draining_});
    OpenHalfMessages();
    kept_version_ = cache_.version();
    RefreshTls();
  }

  // Connections that stand keep what they have shown and seen.
  void RefreshTls() {
    for (const auto& security : {&tier_security_, &passing_security_}) {
      const auto identity = security->identity();
      if (identity->tls) RefreshTls(*identity->tls);
    }
    if (options_.security.listener) RefreshTls(*options_.security.listener);
    ShowExpiry("listener", options_.security.listener.get());
    ShowExpiry("upstream", tier_security_.identity()->tls.get());
    // The token may have come only now, or name somebody else, as a certificate may. One that is
    // away, or cannot be read, changes nothing.
    if (Destination own = OwnDestination(); !own.principal.empty()) NoteDestination(std::move(own));
    refresh_tls_timer_ = loops_.upstream->After(kRefreshTlsEvery, [this] { RefreshTls(); });
  }

  static void RefreshTls(net::TlsCredentials& credentials) {
    const Result<bool> refreshed = credentials.Refresh();
    if (!refreshed) {
      base::Log(base::Event::kTlsFilesNotTaken, "agent",
                "changed TLS files are not used, those read before are: {}",
                refreshed.error().message);
    } else if (*refreshed) {
      base::Log(base::LogLevel::kInfo, "agent", "read changed TLS files");
    }
  }

  // A series that was shown once stays: +Inf, once no certificate is.
  void ShowExpiry(const std::string& side, const net::TlsCredentials* credentials) {
    const double expiry = credentials == nullptr ? std::numeric_limits<double>::infinity()
                                                 : credentials->context()->expires_at();
    if (std::isinf(expiry) && !shows_expiry_.contains(side)) return;
    shows_expiry_.insert(side);
    metrics_.certificate_expiry_timestamp_seconds.With(side).Set(expiry);
  }

  void KeepCluster() {
    const uint64_t version = cache_.version();
    if (version != kept_version_ && forwarder_->KnowsTier()) {
      kept_version_ = version;
      forwarder_->Keep(std::string(kClusterKey), cache_.Serialize());
      // Each broker has its port before the first client asks, and before the tier is away.
      std::vector<int32_t> nodes;
      for (const auto& [node, broker] : cache_.cluster()->brokers) nodes.push_back(node);
      for (const auto& listener : listeners_) listener->ports().Request(nodes, [] {});
    }
    keep_timer_ = loops_.upstream->After(kKeepClusterEvery, [this] { KeepCluster(); });
  }

  const Options options_;
  const Loops loops_;
  metrics::Registry& registry_;
  const std::vector<net::HostPort> upstream_addresses_;
  metrics::NetMetrics& net_metrics_;
  metrics::AgentMetrics metrics_;
  net::MemoryBudget memory_;
  WaitingBytes waiting_bytes_;
  proxy::TierSecurity tier_security_;
  proxy::TierSecurity passing_security_;
  proxy::LocalPolicies local_policies_;
  net::Resolver resolver_;
  proxy::MetadataCache cache_;
  RecordLog log_;
  std::unique_ptr<spool::Spool> spool_;
  std::atomic<bool> draining_{false};
  bool stopped_ = false;

  // Of the upstream loop.
  base::Random random_;
  std::unique_ptr<proxy::Upstream> upstream_;
  std::unique_ptr<WaitingAcks> acks_;
  std::unique_ptr<TransactionLane> lane_;
  std::unique_ptr<Forwarder> forwarder_;
  std::unique_ptr<LocalTransactions> transactions_;
  std::unique_ptr<Overview> overview_;
  std::unique_ptr<LedgerTopic> ledger_topic_;
  std::unique_ptr<metrics::HalfMessageMetrics> half_metrics_;
  std::unique_ptr<outbox::HalfMessages> half_messages_;
  uint64_t kept_version_ = 0;
  std::optional<Destination> noted_;  // Of the spool's own agent; see NoteDestination.
  base::Timer keep_timer_;
  base::Timer watch_outboxes_timer_;
  base::Timer refresh_tls_timer_;
  std::set<std::string> shows_expiry_;  // Sides.

  std::unique_ptr<Orphans> orphans_;                  // Null if they are not looked for.
  std::unique_ptr<outbox::Outboxes> outboxes_;        // Null if there are none.
  std::vector<std::unique_ptr<Listener>> listeners_;  // The one without a name first.
};

}  // namespace

base::Result<std::unique_ptr<Agent>> Agent::Start(Options options, Loops loops,
                                                  metrics::Registry& registry) {
  HF_CHECK(!loops.workers.empty() && loops.upstream != nullptr && loops.metrics != nullptr);
  HF_ASSIGN_OR_RETURN(auto upstream, ParseAll(options.upstream, "upstream address"));
  std::vector<net::HostPort> listen;
  if (!options.listen.empty()) {
    HF_ASSIGN_OR_RETURN(listen, ParseAll(options.listen, "listen address"));
  }
  const auto named = options.listeners;
  auto agent = std::make_unique<RunningAgent>(std::move(options), std::move(loops), registry,
                                              std::move(upstream), std::move(listen));
  for (const auto& [name, address, acks] : named) {
    HF_ASSIGN_OR_RETURN(auto parsed, ParseAll({address}, "listener " + name));
    agent->AddListener(name, std::move(parsed), acks);
  }
  HF_RETURN_IF_ERROR(agent->Open());
  return std::unique_ptr<Agent>(std::move(agent));
}

}  // namespace holdfast::agent
