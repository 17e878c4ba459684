// The front half of the agent's work on the spool: what local producers send is appended to one
// stream per partition, each request in one operation, and a producer's retry is recognised.
//
// The memory of the last batches of each local producer is not written down: it follows from the
// entries' tags (producer id, epoch, sequence), and only a segment's beginning has a copy. So a
// retry is recognised after a crash as it is before, and answered with the offset of the original.
//
//   RecordLog log(metrics, [&](auto streams) { forwarder.NoteDurable(streams); });
//   auto spool = spool::Spool::Open(options, log, writer, background);
//   log.Bind(**spool);
//
// Ownership: outlives the spool, for which it is the owner; the spool outlives all calls of Append
//   and NewProducerId.
// Threads: Append and NewProducerId from any thread; the Owner's calls on the spool's writer.
// Shutdown: once the spool is closed, requests are refused.
// Limits: those of the spool. A request that it does not take is refused with NOT_ENOUGH_REPLICAS,
//   the code on which Java's client and librdkafka both wait and send again without asking first.
//   Producers that were silent for kProducerExpiry are forgotten when a segment begins.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/forward_state.h"
#include "base/mutex.h"
#include "kafka/producer_state.h"
#include "metrics/catalogue.h"
#include "proxy/record_sink.h"
#include "spool/spool.h"

namespace holdfast::agent {

// What a run finds in the spool when it starts.
struct KeptState {
  std::string cluster;  // MetadataCache::Serialize, or empty.
  std::string ports;
  UpstreamProducer upstream;
  std::unordered_map<uint32_t, ForwardRecord> forward;  // By stream id.
};

// Who wrote an entry, so that replay need not look into it.
spool::Tag TagOf(const kafka::Producer& producer);

class RecordLog final : public spool::Owner, public proxy::RecordSink {
 public:
  static constexpr int64_t kProducerExpiryMs = 24 * 3600 * 1000;
  static constexpr int64_t kIdsPerBlock = 1000;
  using DurableObserver = std::function<void(std::span<const spool::StreamId>)>;

  RecordLog(metrics::AgentMetrics& metrics, DurableObserver on_durable);
  ~RecordLog() override;

  void Bind(spool::Spool& spool) { spool_ = &spool; }
  // As of the spool's opening.
  [[nodiscard]] const KeptState& kept() const { return kept_; }

  void Append(std::unique_ptr<proxy::SinkRequest> request) override;
  void NewProducerId(ProducerIdDone done) override;

  base::Result<> Load(const spool::StateView& state) override;
  void Replay(const spool::EntryInfo& entry) override;
  void Checkpoint(spool::Transaction& transaction) override;
  void OnDurable(std::span<const spool::StreamId> streams) override;

 private:
  class AppendOperation;
  class ReserveOperation;

  base::Result<> LoadKept(const spool::StateView& state);
  void ApplyEntry(spool::Transaction& transaction, proxy::SinkEntry& entry);
  void Reserve();
  void Reserved(base::Result<int64_t> first);

  metrics::AgentMetrics& metrics_;
  const DurableObserver on_durable_;
  spool::Spool* spool_ = nullptr;
  KeptState kept_;
  bool opened_ = false;

  // Of the writer.
  std::unordered_map<uint32_t, kafka::ProducerTable> producers_;  // By stream id.

  base::Mutex mutex_;
  int64_t next_id_ HF_GUARDED_BY(mutex_) = 0;
  int64_t ids_left_ HF_GUARDED_BY(mutex_) = 0;
  bool reserving_ HF_GUARDED_BY(mutex_) = false;
  std::vector<ProducerIdDone> waiting_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::agent
