// Produce: the one way of record batches into partitions.
//
// On the worker's loop each batch is checked (everything that its header and CRC tell; where the
// topic's settings ask for it, each record) and compressed anew if the topic has another
// compression.type; then the request goes to the spool as one operation, or a few if it is large.
// On the writer each batch is held against its partition's producers, gets its offset, written into
// the request's own buffer (or that of the new compression), and is appended from there. The answer
// leaves when all of it is durable, for every acks but 0.
//
// A duplicate is answered when its operation is done, too, and so after the original's commit.
//
// Who produces more than his quota allows is told, and made, to wait after his answer.
//
// Ownership: context, catalog reader, submitter and quotas outlive it. It must live until the spool
//   has completed all operations.
// Threads: the worker's loop; Apply and Done of its operations run on the writer.
#pragma once

#include <memory>

#include "broker/catalog.h"
#include "broker/context.h"
#include "broker/submitter.h"
#include "kafka/api/produce.h"
#include "kafka/dispatch.h"
#include "kafka/record_batch.h"

namespace holdfast::broker {

class ProduceHandler {
 public:
  ProduceHandler(Context& context, const CatalogReader& catalog, Submitter& submitter,
                 ClientQuotas& quotas, base::Executor& loop)
      : context_(context), catalog_(catalog), submitter_(submitter), quotas_(quotas), loop_(loop) {}

  void Handle(kafka::Call<kafka::ProduceRequest> call);

 private:
  struct Batch;
  struct Production;
  class Append;

  void CheckAll(Production& production);
  void CheckOne(const kafka::ProduceRequest::PartitionProduceData& request, const Topic* topic,
                Production& production, Batch& batch);
  static kafka::BatchVerdict CheckContents(const TopicConfig& config, size_t max_batch_bytes,
                                           const kafka::RecordRules& rules,
                                           const kafka::RecordBatchView& batch,
                                           std::string* recompressed);
  void SubmitAll(const std::shared_ptr<Production>& production);
  void Finish(Production& production);
  // True if any batch was refused.
  bool CountOutcomes(const Production& production);

  Context& context_;
  const CatalogReader& catalog_;
  Submitter& submitter_;
  ClientQuotas& quotas_;
  base::Executor& loop_;
};

}  // namespace holdfast::broker
