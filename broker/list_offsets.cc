#include "broker/list_offsets.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "broker/isolation_level.h"
#include "kafka/error_map.h"
#include "kafka/record_reader.h"

namespace holdfast::broker {
namespace {

using base::Result;
using kafka::ErrorCode;
using PartitionResponse = kafka::ListOffsetsResponse::ListOffsetsPartitionResponse;

constexpr int16_t kLeaderEpochSince = 4;
constexpr int64_t kLatest = -1;
constexpr int64_t kEarliest = -2;
constexpr int64_t kMaxTimestamp = -3;
constexpr int64_t kEarliestLocal = -4;
constexpr int64_t kLatestTiered = -5;
constexpr int64_t kEarliestPendingUpload = -6;
// So many entries are read in vain for one answer. Clients write the headers, and a worker must not
// take a whole partition apart since none of its records is as new as those say.
constexpr int kReadInVainMax = 16;

struct Found {
  int64_t offset = -1;
  int64_t timestamp = -1;
};

bool KnowsSpecial(int64_t timestamp, int16_t version) {
  switch (timestamp) {
    case kMaxTimestamp:
      return version >= 7;
    case kEarliestLocal:
      return version >= 8;
    case kLatestTiered:
      return version >= 9;
    case kEarliestPendingUpload:
      return version >= 11;
    default:
      return timestamp >= kEarliest;
  }
}

// Calls visit(const Found&) for the records of the entry from `start` on, until it says false. With
// LogAppendTime they have one time, and the first stands for all.
template <class Visit>
Result<> ForEachRecord(spool::Spool& spool, const spool::EntryInfo& entry, int64_t start,
                       Visit visit) {
  HF_ASSIGN_OR_RETURN(const spool::Lease lease,
                      spool.Read(entry.stream, std::max(entry.base_offset, start), 1));
  if (lease.empty()) return {};
  HF_ASSIGN_OR_RETURN(const kafka::RecordBatchView batch,
                      kafka::RecordBatchView::Front(lease.entries().front().bytes));
  const kafka::BatchHeader header = batch.header();
  if (header.log_append_time()) {
    (void)visit(Found{std::max(header.base_offset, start), header.max_timestamp});
    return {};
  }
  HF_ASSIGN_OR_RETURN(const auto records, kafka::UncompressedRecords::Of(batch));
  kafka::RecordReader reader(header, records.bytes());
  kafka::Record record;
  while (reader.Next(&record)) {
    if (record.offset >= start && !visit(Found{record.offset, record.timestamp})) return {};
  }
  return reader.status();
}

// What the header promises: nearly right is better for a consumer than nothing.
Found Promised(const spool::EntryInfo& entry) {
  return {entry.base_offset, entry.max_timestamp_ms};
}

Result<Found> FindByTime(spool::Spool& spool, const Partition& partition, int64_t start,
                         int64_t end, int64_t timestamp) {
  Found found;
  int in_vain = 0;
  for (int64_t from = start; found.offset < 0;) {
    HF_ASSIGN_OR_RETURN(const auto entry, spool.FindByTime(partition.stream, timestamp, from));
    if (!entry || entry->base_offset >= end) break;
    if (in_vain == kReadInVainMax) return Promised(*entry);
    // What the first one speaks of may lie before the start.
    if (entry->base_offset >= start) ++in_vain;
    HF_RETURN_IF_ERROR(ForEachRecord(spool, *entry, start, [&](const Found& record) {
      if (record.timestamp < timestamp) return true;
      found = record;
      return false;
    }));
    from = entry->end_offset();
  }
  return found;
}

// The spool finds the first entry at or after a time; the largest time for which there is one is
// found by halving.
Result<std::optional<spool::EntryInfo>> FindLatestEntry(spool::Spool& spool, spool::StreamId stream,
                                                        int64_t from) {
  HF_ASSIGN_OR_RETURN(auto best, spool.FindByTime(stream, 0, from));
  if (!best) return best;
  int64_t low = best->max_timestamp_ms;
  int64_t high = std::numeric_limits<int64_t>::max();  // Never found.
  while (low + 1 < high) {
    const int64_t middle = low + (high - low) / 2;
    HF_ASSIGN_OR_RETURN(auto entry, spool.FindByTime(stream, middle, from));
    if (entry) {
      low = entry->max_timestamp_ms;
      best = entry;
    } else {
      high = middle;
    }
  }
  return best;
}

Result<Found> FindMaxTimestamp(spool::Spool& spool, const Partition& partition, int64_t start,
                               int64_t end) {
  Found found;
  int in_vain = 0;
  for (int64_t from = start;;) {
    HF_ASSIGN_OR_RETURN(const auto entry, FindLatestEntry(spool, partition.stream, from));
    if (!entry || entry->base_offset >= end || entry->max_timestamp_ms <= found.timestamp) break;
    if (in_vain == kReadInVainMax) return Promised(*entry);
    HF_RETURN_IF_ERROR(ForEachRecord(spool, *entry, start, [&](const Found& record) {
      if (record.timestamp > found.timestamp) found = record;
      return true;
    }));
    // If not, what it speaks of may lie before the start.
    if (entry->base_offset >= start) {
      if (found.offset >= 0) break;
      ++in_vain;
    }
    from = entry->end_offset();
  }
  return found;
}

Result<Found> FindFrom(spool::Spool& spool, const Partition& partition, int64_t start,
                       bool committed_only, int64_t timestamp) {
  const int64_t end =
      committed_only ? std::max(partition.last_stable_offset.load(), partition.log_start.load())
                     : partition.high_watermark.load();
  switch (timestamp) {
    case kLatest:
      return Found{end, -1};
    case kEarliest:
    case kEarliestLocal:
      return Found{partition.log_start.load(), -1};
    case kMaxTimestamp:
      return FindMaxTimestamp(spool, partition, start, end);
    case kLatestTiered:
    case kEarliestPendingUpload:
      return Found{};  // Nothing is kept elsewhere.
    default:
      return FindByTime(spool, partition, start, end, timestamp);
  }
}

Result<Found> Find(spool::Spool& spool, const Partition& partition, bool committed_only,
                   int64_t timestamp) {
  for (;;) {
    const int64_t start = spool.Range(partition.stream).start;
    auto found = FindFrom(spool, partition, start, committed_only, timestamp);
    const bool trimmed = !found && found.error().code == base::Code::kNotFound &&
                         spool.Range(partition.stream).start > start;
    if (!trimmed) return found;
  }
}

ErrorCode CheckEpoch(int32_t asked, int32_t own) {
  if (asked == -1 || asked == own) return ErrorCode::kNone;
  return asked < own ? ErrorCode::kFencedLeaderEpoch : ErrorCode::kUnknownLeaderEpoch;
}

}  // namespace

kafka::ListOffsetsResponse ListOffsets(spool::Spool& spool, const Topics& topics, int16_t version,
                                       const kafka::ListOffsetsRequest& request) {
  kafka::ListOffsetsResponse response;
  std::map<std::pair<std::string_view, int32_t>, size_t> named;
  for (const auto& topic : request.topics) {
    for (const auto& asked : topic.partitions) ++named[{topic.name, asked.partition_index}];
  }
  for (const auto& topic_request : request.topics) {
    auto& topic_out = response.topics.emplace_back();
    topic_out.name = topic_request.name;
    const Topic* topic = topics.Find(topic_request.name);
    for (const auto& asked : topic_request.partitions) {
      const size_t times = std::exchange(named[{topic_request.name, asked.partition_index}], 0);
      if (times == 0) continue;  // The first of several was answered.
      PartitionResponse& out = topic_out.partitions.emplace_back();
      out.partition_index = asked.partition_index;
      const Partition* partition = topic == nullptr ? nullptr : topic->Find(asked.partition_index);
      if (times > 1) {
        out.error_code = ErrorCode::kInvalidRequest;
      } else if (!KnowsSpecial(asked.timestamp, version)) {
        out.error_code = ErrorCode::kUnsupportedVersion;
      } else if (partition == nullptr) {
        out.error_code = ErrorCode::kUnknownTopicOrPartition;
      } else {
        out.error_code = CheckEpoch(asked.current_leader_epoch, partition->leader_epoch);
      }
      if (out.error_code != ErrorCode::kNone) continue;
      const Result<Found> found =
          Find(spool, *partition, request.isolation_level == kReadCommitted, asked.timestamp);
      if (!found) {
        out.error_code = kafka::ToPartitionError(found.error().code);
        continue;
      }
      out.offset = found->offset;
      out.timestamp = found->timestamp;
      if (found->offset >= 0 && version >= kLeaderEpochSince) {
        out.leader_epoch = partition->leader_epoch;
      }
    }
    if (topic_out.partitions.empty()) response.topics.pop_back();
  }
  return response;
}

// A partition has had one epoch only, so every question about an older or newer one has no answer.
kafka::OffsetForLeaderEpochResponse OffsetForLeaderEpoch(
    const Topics& topics, const kafka::OffsetForLeaderEpochRequest& request) {
  kafka::OffsetForLeaderEpochResponse response;
  for (const auto& topic_request : request.topics) {
    auto& topic_out = response.topics.emplace_back();
    topic_out.topic = topic_request.topic;
    const Topic* topic = topics.Find(topic_request.topic);
    for (const auto& asked : topic_request.partitions) {
      auto& out = topic_out.partitions.emplace_back();
      out.partition = asked.partition;
      const Partition* partition = topic == nullptr ? nullptr : topic->Find(asked.partition);
      if (partition == nullptr) {
        out.error_code = ErrorCode::kUnknownTopicOrPartition;
        continue;
      }
      out.error_code = CheckEpoch(asked.current_leader_epoch, partition->leader_epoch);
      if (out.error_code == ErrorCode::kNone && asked.leader_epoch == partition->leader_epoch) {
        out.leader_epoch = partition->leader_epoch;
        out.end_offset = partition->high_watermark.load();
      }
    }
  }
  return response;
}

}  // namespace holdfast::broker
