// Offsets by time and by epoch: ListOffsets and OffsetForLeaderEpoch.
//
// A time is found in the spool's index first, by batch, and then in that batch, which is
// uncompressed for it. If none of its records has that time, the next one is asked; after 16 such
// the answer is what the next one's header says.
//
// Threads: the loop that owns the catalog reader.
#pragma once

#include "broker/catalog.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/offset_for_leader_epoch.h"
#include "kafka/dispatch.h"
#include "spool/spool.h"

namespace holdfast::broker {

// A partition that is named twice is refused, once.
kafka::ListOffsetsResponse ListOffsets(spool::Spool& spool, const Topics& topics, int16_t version,
                                       const kafka::ListOffsetsRequest& request);

kafka::OffsetForLeaderEpochResponse OffsetForLeaderEpoch(
    const Topics& topics, const kafka::OffsetForLeaderEpochRequest& request);

}  // namespace holdfast::broker
