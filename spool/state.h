// The state of the log as of the commit that is being made: all streams, and the keys that the
// owner put. Kept in memory whole; on disk it is the newest segment's checkpoint plus the changes
// in that segment's frames.
//
// Threads: one, the writer's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "spool/change.h"
#include "spool/frame.h"
#include "spool/spool.h"

namespace holdfast::spool {

struct StreamState {
  std::string name;
  int64_t start = 0;  // Trimmed below.
  int64_t end = 0;
  int64_t max_timestamp_ms = -1;  // Of all entries ever.
  // Only one frame of the open segment has the name so far: should that be damaged, it is lost.
  bool named_once = false;
};

class State final : public StateView {
 public:
  [[nodiscard]] std::optional<std::string_view> Get(std::string_view key) const override;
  void ForEach(std::string_view prefix, const Visitor& visit) const override;

  void Put(std::string_view key, std::string_view value);
  // Says whether it was there.
  bool Erase(std::string_view key);

  [[nodiscard]] std::optional<StreamId> FindStream(std::string_view name) const;
  // A new one, which the commit that is being made names.
  StreamId OpenStream(std::string_view name);
  // Streams are numbered from zero without gaps.
  [[nodiscard]] const std::vector<StreamState>& streams() const { return streams_; }
  // Those of them that have entries and have lost their names.
  [[nodiscard]] std::vector<StreamId> Nameless() const;
  [[nodiscard]] StreamState& stream(StreamId id);
  [[nodiscard]] const StreamState& stream(StreamId id) const;

  // What was read from a checkpoint or a frame. kCorrupt if it makes no sense.
  base::Result<void> Apply(const Change& change);
  base::Result<void> Apply(const FrameView& frame, std::string_view changes);

  // Everything as changes, in pieces of about `piece_bytes`.
  [[nodiscard]] std::vector<std::string> Checkpoint(size_t piece_bytes) const;
  // About how large that is.
  [[nodiscard]] uint64_t CheckpointBytes() const;
  // A checkpoint of all is on the disk.
  void OnCheckpoint();

 private:
  base::Result<void> Apply(const EntryInfo& entry);
  base::Result<void> ApplyStream(const Change& change);
  StreamId AddStream(std::string_view name);
  // Streams whose names were lost with a damaged frame still have entries, and their numbers stay.
  void AddLostStreams(uint32_t end);

  std::map<std::string, std::string, std::less<>> keys_;
  std::vector<StreamState> streams_;
  std::unordered_map<std::string, StreamId> by_name_;
  uint64_t key_bytes_ = 0;
  uint64_t name_bytes_ = 0;
};

}  // namespace holdfast::spool
