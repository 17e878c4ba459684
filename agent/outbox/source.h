// Where events come from: a table or an environment that services write to in transactions of their
// own. What a database can do stands behind this interface; the order of steps that makes delivery
// exactly once is the same for all, and stands in agent/outbox/drain.h.
//
// A source is read as a queue: rows that are visible and this agent's, lowest position first; what
// is in the spool is removed. It may be asked for anything in any order after Open, and after an
// error it is opened anew.
//
// Errors: kUnavailable, kTimeout, kIo: not now, or the connection is lost; whether the last change
//   took effect is unknown. kInvalid: the schema, the rights or the settings are wrong, and the
//   message says what to do about it.
// Threads: one at a time, which may block for as long as the source's own timeouts say (10 s at
//   most each).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/outbox/row.h"
#include "base/result.h"

namespace holdfast::outbox {

class Source {
 public:
  virtual ~Source() = default;

  // Connects, checks what is there, and says what is wrong with it.
  virtual base::Result<void> Open() = 0;

  // Rows at positions above `after` that this agent may take now, lowest first, at most `limit`.
  // Empty if there are none (or another agent owns them).
  virtual base::Result<std::vector<Row>> Read(int64_t after, size_t limit) = 0;

  // Changes whenever rows below the positions read so far may have become this agent's, so that
  // reading has to begin from the lowest position: it owns more, or was opened anew.
  [[nodiscard]] virtual uint64_t Generation() const = 0;

  // Whether something may have been committed since the last Read. A source that cannot tell
  // cheaply says true.
  virtual base::Result<bool> MayHaveMore() { return true; }

  // Those of `positions` that are still there.
  virtual base::Result<std::vector<RowRef>> Find(std::span<const int64_t> positions) = 0;

  struct Poison {
    int64_t position = 0;
    std::string reason;
  };
  // In one transaction: `spooled` are gone, `poison` stand in the quarantine with their reasons.
  // What is not there any more is passed over.
  virtual base::Result<void> Remove(std::span<const int64_t> spooled,
                                    std::span<const Poison> poison) = 0;

  struct Lag {
    // Each part of the table that has an owner of its own; one if it is not divided.
    struct Part {
      int32_t partition = 0;
      bool owned = false;
      uint64_t rows = 0;                      // Counted up to kCountMost in all.
      std::optional<int64_t> oldest_ms = {};  // The oldest row's timestamp.
    };
    static constexpr uint64_t kCountMost = 100'000;
    std::vector<Part> parts;
    uint64_t quarantined = 0;
  };
  // For metrics; asked every few seconds.
  virtual base::Result<Lag> Measure() = 0;

  // Gives up what it owns. `clean`: all that it took is at the tier, so another agent may go on at
  // once; else it waits for this one to come back, or for its patience to end.
  virtual void Close(bool clean) = 0;
};

}  // namespace holdfast::outbox
