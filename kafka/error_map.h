// What a failure of our own is called towards a Kafka client. Where nothing was stored and trying
// again may help, the code is one that the Java client and librdkafka both retry by themselves.
#pragma once

#include "base/result.h"
#include "kafka/error_code.h"

namespace holdfast::kafka {

// For what a partition was asked to do: Produce, Fetch, ListOffsets.
ErrorCode ToPartitionError(base::Code code);
// For what a coordinator was asked to do: groups, offsets, producer ids, transactions.
ErrorCode ToCoordinatorError(base::Code code);

}  // namespace holdfast::kafka
