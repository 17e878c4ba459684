// A batch without some of its records, as compaction leaves it behind.
//
// What is kept keeps its offset, time, key, value and headers; the batch keeps its base offset,
// last offset delta, producer, epoch, sequence and codec, so that it stands for the same offsets
// and sequences. Count and largest time are those of what is kept.
//
// Threads: any. No I/O, no clock.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "kafka/record_batch.h"
#include "kafka/record_reader.h"

namespace holdfast::kafka {

// `uncompressed` are the batch's records. `delete_horizon`, if any: the time from which compaction
// may drop the tombstones that are kept (or the marker that the batch is); it stands where the base
// timestamp does. Empty if `keep` refuses all records. kCorrupt: they are not what the header says.
base::Result<std::string> FilterRecords(const RecordBatchView& batch, std::string_view uncompressed,
                                        const std::function<bool(const Record&)>& keep,
                                        std::optional<int64_t> delete_horizon = std::nullopt);

}  // namespace holdfast::kafka
