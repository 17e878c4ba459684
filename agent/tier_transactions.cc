#include "agent/tier_transactions.h"

#include <algorithm>

#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/end_txn.h"
#include "kafka/codec.h"

namespace holdfast::agent {
namespace {

using kafka::ApiVersionsResponse;

constexpr std::string_view kFeature = "transaction.version";
constexpr int16_t kSecondLevel = 2;

}  // namespace

TierTransactions TransactionsOf(const proxy::Cluster& cluster) {
  if (cluster.api_versions.empty()) return TierTransactions::kUnknown;
  const auto tier = kafka::DecodeResponse<ApiVersionsResponse>(cluster.api_versions,
                                                               proxy::Cluster::kKeptApiVersions);
  if (!tier) return TierTransactions::kUnknown;
  const auto serves = [&](const kafka::Api& api) { return kafka::PickVersion(api, *tier); };
  if (!serves(kafka::AddPartitionsToTxnRequest::kApi) || !serves(kafka::EndTxnRequest::kApi)) {
    return TierTransactions::kNone;
  }
  const auto feature = std::ranges::find(tier->finalized_features, kFeature,
                                         &ApiVersionsResponse::FinalizedFeatureKey::name);
  const bool second =
      feature != tier->finalized_features.end() && feature->max_version_level >= kSecondLevel;
  return second ? TierTransactions::kSecond : TierTransactions::kFirst;
}

}  // namespace holdfast::agent
