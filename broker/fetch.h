// Fetch: reads, and waits for what is not there yet.
//
// A fetch that finds less than it asked for is parked: it costs memory only, no thread and no read
// transaction, until new entries of one of its partitions are durable or its time is up. With
// isolation level read_committed it ends before the first record that is not decided, and names the
// aborted transactions among what it gives; clients leave those out. Sessions
// are not kept: the answer always says session 0, and clients then send whole requests.
//
// Ownership: context, catalog reader and authorizer outlive it.
// Threads: the worker's loop.
// Shutdown: Close answers what is parked.
// Limits: an answer holds at most fetch_bytes_max of records, or one batch if that is larger. A
//   fetch waits no longer than five minutes, whatever it asks.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "broker/authorizer.h"
#include "broker/catalog.h"
#include "broker/context.h"
#include "kafka/api/fetch.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class FetchHandler {
 public:
  FetchHandler(Context& context, CatalogReader& catalog, Authorizer& authorizer,
               base::Executor& loop, size_t worker);
  ~FetchHandler();

  void Handle(kafka::Call<kafka::FetchRequest> call);
  // These streams have new durable entries, or their topics are gone.
  void Wake(std::span<const spool::StreamId> streams);
  void Close();

  [[nodiscard]] size_t parked() const { return parked_.size(); }

 private:
  using Call = kafka::Call<kafka::FetchRequest>;
  struct Answer;
  struct Parked;

  [[nodiscard]] size_t BytesAllowed(const kafka::FetchRequest& request) const;
  [[nodiscard]] size_t BytesWanted(const kafka::FetchRequest& request) const;
  void Evaluate(const Call& call, Answer* answer);
  void ReadPartition(const kafka::FetchRequest::FetchPartition& request, const Topic* topic,
                     bool by_id, Answer* answer, kafka::FetchResponse::PartitionData* out);
  void ReadEntries(const Partition& partition, const kafka::FetchRequest::FetchPartition& request,
                   int64_t end, Answer* answer, kafka::FetchResponse::PartitionData* out);
  base::Result<spool::Lease> ReadFrom(const Partition& partition, int64_t offset, size_t bytes_max);
  void Respond(Call& call, const Answer& answer, base::TimePoint started);

  void Park(Call call, const Answer& answer, base::TimePoint started);
  // Whether the fetch has now what it waits for.
  bool Enough(Parked& parked);
  void Finish(uint64_t id);
  void StopWaiting(uint64_t id, const Parked& parked);

  Context& context_;
  CatalogReader& catalog_;
  Authorizer& authorizer_;
  base::Executor& loop_;
  const uint64_t worker_bit_;
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, Parked> parked_;
  std::unordered_map<spool::StreamId, std::unordered_set<uint64_t>> waiting_;
};

}  // namespace holdfast::broker
