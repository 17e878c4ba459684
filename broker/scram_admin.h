// DescribeUserScramCredentials and AlterUserScramCredentials.
//
// Ownership: context and submitter outlive it, and it lives until the spool has completed all
//   operations.
// Threads: the worker's loop.
// Limits: names of at most ScramKey::kNameBytesMax bytes; 4096 to 16384 iterations, as in Kafka.
#pragma once

#include "broker/context.h"
#include "broker/submitter.h"
#include "kafka/api/alter_user_scram_credentials.h"
#include "kafka/api/describe_user_scram_credentials.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class ScramAdmin {
 public:
  ScramAdmin(Context& context, Submitter& submitter, base::Executor& loop)
      : context_(context), submitter_(submitter), loop_(loop) {}

  kafka::DescribeUserScramCredentialsResponse Answer(
      const kafka::DescribeUserScramCredentialsRequest& request) const;
  void Handle(kafka::Call<kafka::AlterUserScramCredentialsRequest> call);

 private:
  Context& context_;
  Submitter& submitter_;
  base::Executor& loop_;
};

}  // namespace holdfast::broker
