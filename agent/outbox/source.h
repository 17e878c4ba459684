// Where events come from: a table or an environment that services write to in transactions of their
// own. What a database can do stands behind this interface; the order of steps that makes delivery
// exactly once is the same for all, and stands in agent/outbox/drain.h.
//
// A source is read as a queue: what is in the spool is removed, and then the next rows are read. It
// may be asked for anything in any order after Open, and after an error it is opened anew.
//
// Errors: kUnavailable, kTimeout, kIo: not now, or the connection is lost; whether the last change
//   took effect is unknown. kInvalid: the schema, the rights or the settings are wrong, and the
//   message says what to do about it.
// Threads: one at a time, which may block: as a rule for as long as the source's own timeouts say,
//   but LMDB waits for a service's write transaction however long that is open. GiveUp from any.
#pragma once

#include <cstdint>
#include <functional>
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
  // Who takes the events.
  struct Taker {
    std::string spool;                // The id of the spool that they go to.
    std::function<bool()> delivered;  // Whether all that was taken is at the tier. Blocks.
  };

  virtual ~Source() = default;

  // Connects, checks what is there, and says what is wrong with it.
  virtual base::Result<void> Open() = 0;

  // What this agent may take now, lowest position first, at most `limit` rows, as of one moment at
  // which all that is committed is seen: a row is only given if every row of the same key that was
  // committed before it is given before it, or was removed. So a read begins at the lowest
  // position, and not behind the last one: transactions may commit in another order than they got
  // their positions. (A source may begin higher if it knows that no transaction is left that could
  // still commit a row below. PostgreSQL: one that inserts holds a row-exclusive lock on the table
  // from before it gets the position until its end, so once those that pg_locks shows after a read
  // have ended, nothing new comes below the highest position of that read; unless the sequence has
  // a cache.)
  // Rows whose Row::route is one of `held` are passed over, and so are those that are `stuck`.
  virtual base::Result<std::vector<Row>> Read(size_t limit, std::span<const std::string> held,
                                              std::span<const RowId> stuck) = 0;

  // Whether something may have been committed since the last Read. A source that cannot tell
  // cheaply says true.
  virtual base::Result<bool> MayHaveMore() { return true; }

  // Those of `positions` that are still there. As Remove, it fails if what was opened is not in its
  // place any more: what has taken that place may have the rows still.
  virtual base::Result<std::vector<RowId>> Find(std::span<const int64_t> positions) = 0;

  struct Poison {
    RowId row;
    std::string reason;
  };
  // Why, in the database's words, and what to do about it. Empty: it was not refused.
  using Refusal = std::string;
  // In one transaction: `spooled` are gone, `poison` stand in the quarantine with their reasons.
  // What is not there any more is passed over, and so is a row of another id that was inserted at
  // its position since. kUnavailable, too, if what was opened has lost its place by the end.
  // If the quarantine does not take one of `poison` as it is defined, or that is not this agent's
  // any more, nothing is done, or only some of it, and the source stays open.
  virtual base::Result<Refusal> Remove(std::span<const RowId> spooled,
                                       std::span<const Poison> poison) = 0;

  struct Lag {
    // Each part of the table that has an owner of its own; one if it is not divided.
    struct Part {
      int32_t partition = 0;
      bool owned = false;
      uint64_t rows = 0;                      // Counted up to kCountMost in all.
      std::optional<int64_t> oldest_ms = {};  // The oldest row's timestamp, if rows have any.
      std::optional<int64_t> lowest = {};     // Its position.
    };
    static constexpr uint64_t kCountMost = 100'000;
    std::vector<Part> parts;
    uint64_t quarantined = 0;
    // Rows that can be neither read nor removed, as their position is no integer; counted likewise.
    uint64_t without_position = 0;
  };
  // For metrics; asked every few seconds.
  virtual base::Result<Lag> Measure() = 0;

  struct Sight {
    // None if nobody has the database open, and a file would have to be made to read it.
    std::optional<Lag> lag;
    // An agent takes events out of it, and no other can. Not known where parts have owners.
    bool taken = false;
    // Why events of a key may not come in the order in which they were committed, and what to do
    // about it; empty if nothing is known.
    std::string doubt = {};
  };
  // On a source that is not open, and is not afterwards: what Open would say is wrong, and how far
  // behind it is. Nothing is owned, changed or made, also no files, so an agent that has the source
  // is not disturbed, nor one that comes later.
  virtual base::Result<Sight> Look() = 0;

  // Gives up what it owns. `clean`: all that it took is at the tier, so another agent may go on at
  // once; else it waits for this one to come back, or for its patience to end. Of a file, which has
  // no such patience, an agent that is there stays the one: it holds the file's lock until it is
  // closed clean, or this is destroyed.
  virtual void Close(bool clean) = 0;

  // For good: nothing but Close is asked for any more, and what waits now, or in Close, fails soon,
  // as if the connection was lost. A source that cannot do so goes on waiting.
  virtual void GiveUp() {}
};

}  // namespace holdfast::outbox
