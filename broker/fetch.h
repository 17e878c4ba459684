// Fetch: reads, and waits for what is not there yet.
//
// A fetch that finds less than it asked for is parked: it costs memory only, no thread and no read
// transaction, until new entries of one of its partitions are durable or its time is up. With
// isolation level read_committed it ends before the first record that is not decided, and names the
// aborted transactions among what it gives; clients leave those out. Requests of a fetch session
// (broker/fetch_session.h) look at the partitions that may have news, and answer with those that
// do. Who fetches more than his quota allows gets an answer without anything in it, which says how
// long to wait; his session is as if he had not asked.
//
// Ownership: context, catalog reader, authorizer and quotas outlive it.
// Threads: the worker's loop; OnEvicted from any.
// Shutdown: Close answers what is parked.
// Limits: an answer holds at most fetch_bytes_max of records, or one batch if that is larger. Where
//   the answers of all loops that have not left take fetched_waiting_bytes_max (and up to
//   fetch_bytes_max more for each loop, since they do not wait for each other), one holds at most a
//   MiB, or one batch. Records of sealed segments are sent from the disk and do not count. Of
//   one connection there is never more than one fetch here: a further one is taken when the
//   requests before it are answered, and their answers have left but for a MiB (broker/server.cc).
//   A fetch waits no longer than five minutes, whatever it asks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "broker/authorizer.h"
#include "broker/catalog.h"
#include "broker/context.h"
#include "broker/fetch_session.h"
#include "broker/quotas.h"
#include "kafka/api/fetch.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class FetchHandler {
 public:
  FetchHandler(Context& context, CatalogReader& catalog, Authorizer& authorizer,
               ClientQuotas& quotas, base::Executor& loop, size_t worker);
  ~FetchHandler();

  void Handle(kafka::Call<kafka::FetchRequest> call);
  // These streams have new durable entries or begin later, or their topics are gone.
  void Wake(std::span<const spool::StreamId> streams);
  // This session of the handler is not in the cache any more.
  void OnEvicted(int32_t session);
  void Close();

  [[nodiscard]] size_t parked() const { return parked_.size(); }

 private:
  using Call = kafka::Call<kafka::FetchRequest>;
  struct Answer;
  struct Parked;

  [[nodiscard]] size_t BytesAllowed(const Call& call) const;
  [[nodiscard]] size_t BytesWanted(const Call& call) const;
  [[nodiscard]] const Topic* FindTopic(bool by_id, std::string_view name,
                                       const kafka::Uuid& id) const;
  Answer NewAnswer(const Call& call) const;
  // All that the request names.
  void Evaluate(const Call& call, Answer* answer);
  // Of the session's partitions, in turn, those that have something to tell.
  void Evaluate(const Call& call, FetchSession& session, Answer* answer);
  // False if there is nothing to tell of the partition; otherwise it is in the answer, unless that
  // has no room for its records.
  bool EvaluateOne(const Call& call, FetchSession& session, SessionPartition& partition,
                   Answer* answer);
  // What the client asked for as `name` is there, or may not be known to it.
  bool MayRead(const Call& call, const Topic* topic, std::string_view name);
  // `topic` is null if there is none.
  void ReadPartition(const kafka::FetchRequest::FetchPartition& request, const Topic* topic,
                     bool allowed, bool by_id, Answer* answer,
                     kafka::FetchResponse::PartitionData* out);
  void ReadEntries(const Partition& partition, const kafka::FetchRequest::FetchPartition& request,
                   int64_t end, Answer* answer, kafka::FetchResponse::PartitionData* out);
  base::Result<spool::Lease> ReadFrom(const Partition& partition, int64_t offset, size_t bytes_max);
  // How long the client has to wait for this answer, which is to be empty then; zero if not.
  base::Duration Charge(Call& call, const Answer& answer);
  // `session` is that of the request, if it named one.
  void Respond(Call& call, Answer& answer, base::TimePoint started, FetchSession* session);

  void HandleWhole(Call call);
  void HandleIncremental(Call call);
  // Null, and the call is answered, if the session cannot take it.
  FetchSession* Enter(Call& call);
  // What the client was told, and whose turn is next.
  static void NoteTold(FetchSession& session, const Answer& answer);
  int32_t BeginSession(const Call& call, const Answer& answer);
  void EndSession(int32_t id);

  // Looks at topics and access rules as they are now.
  void Refresh();
  Parked& Park(Call call, const Answer& answer, base::TimePoint started);
  void WatchAll(uint64_t id, Parked& parked, const Answer& answer);
  // Counts what is there by now. Whether the fetch has to wait no longer.
  bool Enough(Parked& parked, Watch& watch);
  void Finish(uint64_t id);

  Context& context_;
  CatalogReader& catalog_;
  Authorizer& authorizer_;
  ClientQuotas& quotas_;
  base::Executor& loop_;
  Watches watches_;
  uint64_t next_id_ = 1;
  bool closed_ = false;
  std::unordered_map<uint64_t, std::unique_ptr<Parked>> parked_;
  std::unordered_map<int32_t, std::unique_ptr<FetchSession>> sessions_;
};

}  // namespace holdfast::broker
