// Which partition a key belongs to, as clients choose it: whoever reads a topic may rely on it.
// Source: org.apache.kafka.clients.producer.internals.BuiltInPartitioner (Java), and `partitioner`
// in librdkafka's CONFIGURATION.md.
//
// Threads: any; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace holdfast::kafka {

enum class Partitioner : uint8_t {
  kMurmur2,           // Java's default.
  kConsistentRandom,  // librdkafka's default: CRC-32; an empty key counts as none.
  kMurmur2Random,     // librdkafka's with the hash of Java.
};

// Austin Appleby's MurmurHash2 with the seed of Java's client.
uint32_t Murmur2(std::string_view bytes);

// None: any will do, the producer chooses. `partitions` > 0.
std::optional<int32_t> PartitionOf(Partitioner partitioner, std::optional<std::string_view> key,
                                   int32_t partitions);

}  // namespace holdfast::kafka
