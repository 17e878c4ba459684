// CreateAcls, DescribeAcls and DeleteAcls. A rule holds from when its answer leaves, on every
// connection.
//
// Ownership: context and submitter outlive it, and it lives until the spool has completed all
//   operations.
// Threads: the worker's loop.
// Limits: those of broker/acls.h; a DeleteAcls takes kDeletedMax rules away at most.
#pragma once

#include "broker/context.h"
#include "broker/submitter.h"
#include "kafka/api/create_acls.h"
#include "kafka/api/delete_acls.h"
#include "kafka/api/describe_acls.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class AclAdmin {
 public:
  static constexpr size_t kDeletedMax = 10000;

  AclAdmin(Context& context, Submitter& submitter, base::Executor& loop)
      : context_(context), submitter_(submitter), loop_(loop) {}

  void Handle(kafka::Call<kafka::DescribeAclsRequest> call);
  void Handle(kafka::Call<kafka::CreateAclsRequest> call);
  void Handle(kafka::Call<kafka::DeleteAclsRequest> call);

 private:
  [[nodiscard]] bool enabled() const { return context_.options.authorizer.enabled; }

  Context& context_;
  Submitter& submitter_;
  base::Executor& loop_;
};

}  // namespace holdfast::broker
