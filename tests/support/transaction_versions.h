// What a scripted tier says of itself where transactions are concerned.
#pragma once

#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/end_txn.h"

namespace holdfast::test {

// `second`: it has the second form of the protocol (KIP-890).
inline kafka::ApiVersionsResponse TransactionVersions(bool second) {
  kafka::ApiVersionsResponse response;
  const auto add = [&](const kafka::Api& api) {
    response.api_keys.push_back(
        {.api_key = api.key, .min_version = api.oldest, .max_version = api.newest});
  };
  add(kafka::AddPartitionsToTxnRequest::kApi);
  add(kafka::EndTxnRequest::kApi);
  response.finalized_features.push_back(
      {.name = "transaction.version", .max_version_level = int16_t(second ? 2 : 1)});
  return response;
}

}  // namespace holdfast::test
