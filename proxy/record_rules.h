// What a broker of the tier would refuse, refused before the acknowledgement: one batch against the
// rules of all batches and the settings of its topic.
//
// Every batch's header, size and CRC are checked. Its records are looked at, and decompressed for
// it, only where the topic's settings speak of single records: compacted topics (every record needs
// a key) and those with message.timestamp.before.max.ms; and to name the guilty ones if the
// header's greatest timestamp is too late.
//
// Threads: any; pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "kafka/record_batch.h"
#include "proxy/topic_settings.h"

namespace holdfast::proxy {

// `settings` as of Topic::settings, or with the agent's own limits in place of what the tier does
// not tell. A topic whose compression.type is `uncompressed` is held to the size that the broker
// will store; with another codec of its own the size after the broker's compression is not known,
// and taken for granted. `budget` is that of the request, if the batch is from one.
kafka::BatchVerdict CheckForTopic(std::string_view records, const TopicSettings& settings,
                                  int64_t now_ms, bool zstd_allowed,
                                  kafka::DecompressionBudget* budget = nullptr);

}  // namespace holdfast::proxy
