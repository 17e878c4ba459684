// DescribeClientQuotas and AlterClientQuotas.
//
// producer_byte_rate and consumer_byte_rate are enforced; request_percentage,
// controller_mutation_rate and connection_creation_rate are kept and shown.
//
// Ownership: context and submitter outlive it, and it lives until the spool has completed all
//   operations.
// Threads: the worker's loop.
#pragma once

#include "broker/context.h"
#include "broker/submitter.h"
#include "kafka/api/alter_client_quotas.h"
#include "kafka/api/describe_client_quotas.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class QuotaAdmin {
 public:
  QuotaAdmin(Context& context, Submitter& submitter, base::Executor& loop)
      : context_(context), submitter_(submitter), loop_(loop) {}

  kafka::DescribeClientQuotasResponse Answer(
      const kafka::DescribeClientQuotasRequest& request) const;
  void Handle(kafka::Call<kafka::AlterClientQuotasRequest> call);

 private:
  Context& context_;
  Submitter& submitter_;
  base::Executor& loop_;
};

}  // namespace holdfast::broker
