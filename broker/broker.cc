#include "broker/broker.h"

#include "base/event.h"
#include "base/log.h"
#include "broker/cleaner.h"
#include "broker/context.h"
#include "broker/coordinator.h"
#include "broker/overview.h"
#include "broker/producer_ids.h"
#include "broker/retention.h"
#include "broker/run_and_wait.h"
#include "broker/scram_credentials.h"
#include "broker/sorter.h"
#include "broker/status.h"
#include "broker/topic_changes.h"
#include "broker/transaction_coordinator.h"
#include "broker/worker.h"
#include "kafka/record_batch.h"

namespace holdfast::broker {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

constexpr size_t kWorkersMax = 64;

Result<> CheckOptions(const Options& options, const Executors& executors) {
  if (executors.workers.empty() || executors.workers.size() > kWorkersMax) {
    return Unexpected(Code::kInvalid, "the broker needs 1 to 64 worker loops");
  }
  if (options.num_partitions < 1 || options.num_partitions > TopicAdmin::kPartitionsMax) {
    return Unexpected(Code::kInvalid, "num_partitions must be from 1 to " +
                                          std::to_string(TopicAdmin::kPartitionsMax));
  }
  if (options.groups.session_timeout_min > options.groups.session_timeout_max) {
    return Unexpected(Code::kInvalid, "the smallest session timeout exceeds the largest");
  }
  return {};
}

}  // namespace

struct Broker::Parts {
  Parts(Options options, metrics::Registry& metrics_registry, Executors broker_executors)
      : registry(metrics_registry),
        executors(std::move(broker_executors)),
        context(std::move(options), metrics_registry) {}

  std::unique_ptr<metrics::Registry> own_registry;
  metrics::Registry& registry;
  const Executors executors;
  Context context;
  Central central;
  std::vector<std::unique_ptr<Worker>> workers;
  std::unique_ptr<Coordinator> coordinator;
  std::unique_ptr<TransactionCoordinator> transactions;
  std::unique_ptr<ProducerIds> producer_ids;
  std::unique_ptr<Retention> retention;
  std::unique_ptr<Overview> overview;
  std::unique_ptr<Cleaner> cleaner;
  std::unique_ptr<Sorter> sorter;
  std::shared_ptr<const net::SaslUsers> users;
  bool stopped = false;

  Log::Callbacks MakeCallbacks() {
    return {
        .wake =
            [this](size_t index, std::vector<spool::StreamId> streams) {
              Worker& worker = *workers[index];
              worker.loop().Post([&worker, streams = std::move(streams)] { worker.Wake(streams); });
            },
        .topic_deleted =
            [this](const kafka::Uuid& topic) {
              central.loop->Post([this, topic] { coordinator->OnTopicDeleted(topic); });
            }};
  }
  // A new directory gets its name and the key of salts with the first commit, before anything else
  // is durable; one without a key, or with what is none, a key.
  void NameCluster(std::string found, std::string salt_key) {
    context.cluster_id = std::move(found);
    const bool keeps_key = salt_key.size() == net::SaslUsers::kSaltKeyBytes;
    if (!context.cluster_id.empty() && keeps_key) return SetUsers(std::move(salt_key));
    if (context.cluster_id.empty()) context.cluster_id = MakeUuid().ToString();
    if (!keeps_key) {
      salt_key = net::SaslUsers::NewSaltKey();
      base::Log(base::LogLevel::kInfo, "broker", "made a new key for the salts of SCRAM");
    }
    SetUsers(salt_key);
    workers.front()->submitter().Submit(std::make_unique<StateChange>(
        [this, salt_key](spool::Transaction& transaction) {
          transaction.Put(kClusterIdKey, context.cluster_id);
          transaction.Put(kSaltKeyKey, salt_key);
        },
        [](const auto& result) {
          if (result) return;
          base::Log(base::Event::kClusterNameNotRecorded, "broker",
                    "cannot record the cluster's name and the key of salts: {}",
                    result.error().message);
        }));
  }
  void SetUsers(std::string salt_key) {
    users = std::make_shared<LoginUsers>(context.options.users, std::move(salt_key), context.scram);
  }
};

Broker::Broker(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Result<std::unique_ptr<Broker>> Broker::Start(Options options, Executors executors) {
  HF_RETURN_IF_ERROR(CheckOptions(options, executors));
  std::unique_ptr<metrics::Registry> own_registry;
  if (options.metrics == nullptr) own_registry = std::make_unique<metrics::Registry>();
  metrics::Registry& registry = own_registry ? *own_registry : *options.metrics;
  options.spool.metrics = &registry;
  if (!options.spool.check_entry) options.spool.check_entry = kafka::CheckStored;

  auto parts = std::make_unique<Parts>(std::move(options), registry, std::move(executors));
  parts->own_registry = std::move(own_registry);
  Context& context = parts->context;
  base::Executor& loop = *parts->executors.workers.front();
  parts->central.loop = &loop;
  HF_ASSIGN_OR_RETURN(context.log, Log::Open(context.options.spool,
                                             {context.catalog, context.acls, context.group_configs,
                                              context.broker_config, context.scram, context.quotas},
                                             parts->executors.writer, parts->executors.background,
                                             parts->MakeCallbacks()));
  for (size_t i = 0; i < parts->executors.workers.size(); ++i) {
    parts->workers.push_back(
        std::make_unique<Worker>(context, parts->central, *parts->executors.workers[i], i));
  }
  Submitter& submitter = parts->workers.front()->submitter();
  parts->coordinator = std::make_unique<Coordinator>(context, submitter, loop);
  parts->transactions =
      std::make_unique<TransactionCoordinator>(context, *parts->coordinator, submitter, loop);
  parts->producer_ids = std::make_unique<ProducerIds>(submitter, loop);
  parts->retention = std::make_unique<Retention>(context, submitter, loop);
  parts->central.coordinator = parts->coordinator.get();
  parts->central.transactions = parts->transactions.get();
  parts->central.producer_ids = parts->producer_ids.get();

  RunAndWait(loop, [&] {
    Log::Recovered recovered = context.log->TakeRecovered();
    parts->NameCluster(std::move(recovered.cluster_id), std::move(recovered.salt_key));
    parts->coordinator->Recover(std::move(recovered));
    parts->transactions->Start();
    parts->retention->Start();
    parts->overview =
        std::make_unique<Overview>(context, *parts->coordinator, loop, parts->executors.writer);
  });
  if (base::Executor* const executor = parts->executors.cleaner) {
    parts->cleaner = std::make_unique<Cleaner>(context, *executor);
    parts->sorter = std::make_unique<Sorter>(context, *executor);
    RunAndWait(*executor, [&] {
      parts->cleaner->Start();
      parts->sorter->Start();
    });
  }
  const auto topics = context.catalog.Get();
  base::Log(base::LogLevel::kInfo, "broker", "cluster {}, node {}: {} topics, {} partitions",
            context.cluster_id, context.options.node_id, topics->size(), topics->partitions());
  return std::unique_ptr<Broker>(new Broker(std::move(parts)));
}

Broker::~Broker() { Stop(); }

void Broker::Stop() {
  if (std::exchange(parts_->stopped, true)) return;
  if (parts_->cleaner) {
    parts_->cleaner->Interrupt();
    parts_->sorter->Interrupt();
    RunAndWait(*parts_->executors.cleaner, [this] {
      parts_->cleaner->Stop();
      parts_->sorter->Stop();
    });
  }
  // In this order, since workers hand requests to the coordinator, and both submit operations.
  for (auto& worker : parts_->workers) {
    RunAndWait(worker->loop(), [&worker] { worker->StopServing(); });
  }
  RunAndWait(*parts_->central.loop, [this] {
    parts_->overview.reset();
    parts_->retention->Stop();
    parts_->transactions->Stop();
    parts_->coordinator->Close();
  });
  for (auto& worker : parts_->workers) {
    RunAndWait(worker->loop(), [&worker] { worker->submitter().Close(); });
  }
  parts_->context.log->spool().Close();
  // What the last commits have posted runs before this does.
  for (auto& worker : parts_->workers) RunAndWait(worker->loop(), [] {});
  // One that had to come again was refused meanwhile; the answer runs before this does.
  RunAndWait(*parts_->central.loop, [] {});
}

Worker& Broker::worker(size_t index) { return *parts_->workers.at(index); }

const std::string& Broker::cluster_id() const { return parts_->context.cluster_id; }

std::shared_ptr<const net::SaslUsers> Broker::users() const { return parts_->users; }

void Broker::CountFailedLogin() { parts_->context.metrics.login_failures.Add(); }

std::vector<net::AdminRoute> Broker::AdminRoutes() {
  return StatusRoutes(parts_->context, *parts_->coordinator, *parts_->central.loop,
                      *parts_->overview, parts_->registry);
}

}  // namespace holdfast::broker
