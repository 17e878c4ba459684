// What a partition may show its readers, by what its clients were told: for tests that do whatever
// comes, in any order, and look at the log now and then.
//
//   LogModel log({.compacted = true});
//   const uint64_t id = log.NextId();               // Travels with the record, as a header.
//   log.Sent({.id = id, .key = "k", .value = "v", .timestamp = now});
//   log.Acknowledged(id, offset);
//   log.Check(now, everything, committed);          // Of two whole readings.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"

namespace holdfast::broker {

enum class Fate : uint8_t {
  kOpen,
  kMaybeAborted,  // Open for longer than its timeout.
  kCommitted,
  kAborted,
};

struct SentRecord {
  uint64_t id = 0;
  std::string key;
  std::optional<std::string> value;
  int64_t timestamp = 0;
  std::shared_ptr<const Fate> fate;    // Of its transaction; null: it is in none.
  std::optional<int64_t> offset = {};  // Known since it was acknowledged or seen.

  [[nodiscard]] Fate GetFate() const { return fate == nullptr ? Fate::kCommitted : *fate; }
};

struct SeenRecord {
  int64_t offset = 0;
  uint64_t id = 0;
  std::string key;
  std::optional<std::string> value;
  int64_t timestamp = 0;

  bool operator==(const SeenRecord&) const = default;
};

// From a partition's beginning to its end.
struct Reading {
  std::vector<SeenRecord> records;
  int64_t start = 0;
  int64_t high_watermark = 0;
  int64_t last_stable_offset = 0;
};

class LogModel {
 public:
  void Sent(SentRecord record) { records_.emplace(record.id, std::move(record)); }
  void Acknowledged(uint64_t id, int64_t offset) {
    SentRecord& record = records_.at(id);
    if (record.offset) {
      EXPECT_EQ(*record.offset, offset) << "record " << id << " was stored twice";
    }
    record.offset = offset;
    end_ = std::max(end_, offset + 1);
  }
  // By DeleteRecords.
  void Deleted(int64_t to) { deleted_ = std::max(deleted_, to); }
  [[nodiscard]] int64_t end() const { return end_; }

  // Settings that were in force at any time since.
  bool compacted = false;
  std::optional<int64_t> retention_ms;

  void Check(int64_t now_ms, const Reading& all, const Reading& committed) {
    CheckBounds(now_ms, all, committed);
    CheckAll(all);
    CheckCommitted(all, committed);
    if (compacted) CheckNewest(all, committed);
  }

 private:
  void CheckBounds(int64_t now_ms, const Reading& all, const Reading& committed) {
    EXPECT_GE(all.high_watermark, end_) << "what was acknowledged is not there";
    EXPECT_GE(all.start, deleted_) << "what was deleted came back";
    EXPECT_GE(all.start, start_) << "what was let go came back";
    end_ = all.high_watermark;
    start_ = all.start;
    int64_t stable_max = all.high_watermark;
    for (const auto& [id, record] : records_) {
      if (!record.offset || *record.offset < all.start) continue;
      if (record.GetFate() == Fate::kOpen) stable_max = std::min(stable_max, *record.offset);
    }
    EXPECT_LE(committed.last_stable_offset, stable_max);
    if (std::ranges::none_of(records_, [&](const auto& entry) {
          return entry.second.GetFate() == Fate::kOpen ||
                 entry.second.GetFate() == Fate::kMaybeAborted;
        })) {
      EXPECT_EQ(committed.last_stable_offset, all.high_watermark) << "nothing is open";
    }
    for (const auto& [id, record] : records_) {
      if (!record.offset || *record.offset >= all.start || *record.offset < deleted_) continue;
      if (compacted && IsObsolete(record)) continue;
      EXPECT_TRUE(retention_ms && record.timestamp < now_ms - *retention_ms)
          << "record " << id << " at " << *record.offset << " was let go too early";
    }
  }

  // Compaction may leave nothing of it.
  [[nodiscard]] bool IsObsolete(const SentRecord& record) const {
    if (!record.value || record.GetFate() != Fate::kCommitted) return true;
    return std::ranges::any_of(records_,
                               [&](const auto& entry) {
                                 const SentRecord& other = entry.second;
                                 return other.key == record.key && other.offset &&
                                        *other.offset > *record.offset &&
                                        other.GetFate() == Fate::kCommitted;
                               }) ||
           MaybeDeleted(record);
  }
  // By a batch that nobody was told of, nor has seen.
  [[nodiscard]] bool MaybeDeleted(const SentRecord& record) const {
    return std::ranges::any_of(records_, [&](const auto& entry) {
      const SentRecord& other = entry.second;
      return other.key == record.key && !other.offset && other.id > record.id &&
             other.GetFate() == Fate::kCommitted;
    });
  }

  // Each is what somebody sent, in its place, and once.
  void CheckAll(const Reading& all) {
    int64_t previous = -1;
    std::map<uint64_t, int64_t> places;
    for (const SeenRecord& seen : all.records) {
      EXPECT_GT(seen.offset, previous);
      previous = seen.offset;
      EXPECT_TRUE(places.emplace(seen.id, seen.offset).second)
          << "record " << seen.id << " is there twice, at " << places[seen.id] << " and "
          << seen.offset;
      const auto found = records_.find(seen.id);
      ASSERT_NE(found, records_.end()) << "record " << seen.id << " was never sent";
      SentRecord& sent = found->second;
      EXPECT_EQ(seen, (SeenRecord{sent.offset.value_or(seen.offset), sent.id, sent.key, sent.value,
                                  sent.timestamp}));
      sent.offset = seen.offset;
    }
    if (compacted) return;
    for (const auto& [id, record] : records_) {
      if (!record.offset || *record.offset < all.start) continue;
      EXPECT_TRUE(places.contains(id)) << "record " << id << " at " << *record.offset << " is lost";
    }
  }

  // It is all of it up to the last stable offset, but for what was aborted.
  void CheckCommitted(const Reading& all, const Reading& committed) const {
    std::vector<SeenRecord> expected;
    for (const SeenRecord& seen : all.records) {
      if (seen.offset >= committed.last_stable_offset) break;
      const Fate fate = records_.at(seen.id).GetFate();
      EXPECT_NE(fate, Fate::kOpen) << "record " << seen.id;
      if (fate == Fate::kCommitted) expected.push_back(seen);
    }
    EXPECT_TRUE(expected == committed.records)
        << expected.size() << " committed, " << committed.records.size() << " seen";
  }

  // Of each key the newest is there, or it was deleted.
  void CheckNewest(const Reading& all, const Reading& committed) const {
    std::map<std::string, const SentRecord*> newest;
    for (const auto& [id, record] : records_) {
      if (!record.offset || *record.offset < all.start ||
          *record.offset >= committed.last_stable_offset || record.GetFate() != Fate::kCommitted)
        continue;
      const SentRecord*& known = newest[record.key];
      if (known == nullptr || *known->offset < *record.offset) known = &record;
    }
    std::map<std::string, uint64_t> seen;
    for (const SeenRecord& record : committed.records) seen[record.key] = record.id;
    for (const auto& [key, record] : newest) {
      const auto found = seen.find(key);
      if (found == seen.end()) {
        EXPECT_TRUE(!record->value || MaybeDeleted(*record))
            << key << " at " << *record->offset << " is lost";
      } else {
        EXPECT_EQ(found->second, record->id) << key << " has an older value";
      }
    }
  }

  std::map<uint64_t, SentRecord> records_;
  int64_t deleted_ = 0;
  int64_t start_ = 0;
  int64_t end_ = 0;
};

}  // namespace holdfast::broker
