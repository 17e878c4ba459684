// Whether the tier has transactions, and which protocol for them, by what its brokers said last.
//
// Threads: any; pure.
#pragma once

#include <cstdint>

#include "proxy/metadata_cache.h"

namespace holdfast::agent {

enum class TierTransactions : uint8_t {
  kUnknown,  // The tier was never seen.
  kNone,
  kFirst,   // Partitions and groups are added to a transaction before they are written to.
  kSecond,  // KIP-890: they are added by writing, and the epoch rises with each transaction.
};

TierTransactions TransactionsOf(const proxy::Cluster& cluster);

}  // namespace holdfast::agent
