// LMDB behind a small RAII surface: an environment, its transactions, named databases, cursors.
// Only spool/ includes this, and only lmdb.cc includes <lmdb.h>.
//
// What LMDB asks of its users (the caveats of its own header), and where we obey:
// - One environment per file and process while it uses a lock file: closing a second one would drop
//   the first one's locks. A segment that is written to has exactly one; read-only ones open
//   without a lock file (MDB_NOLOCK), which is right because nobody writes to those any more.
// - No long read transactions: they keep pages from being reused. A Lease is short by contract, and
//   frames are never deleted, so a forgotten one costs space but no damage. SegmentFile holds one
//   on purpose, to have that effect (docs/adr/0004-large-commits-are-written-in-one-piece.md).
// - Reader slots belong to transactions, not threads (MDB_NOTLS), so that a lease may be let go on
//   another thread than it was taken on.
// - LMDB writes its lock file through a mapping, and makes one that has no blocks: on a full disk
//   that ends the process (SIGBUS). So we make it first, with its blocks.
// - Never use an environment across fork. Nothing here forks.
// - The map's size is fixed when the environment is opened; we never change it.
// - A value's bytes are valid until its transaction ends; in a write transaction until the next
//   write.
// - A cursor of a write transaction dies with it; our cursors belong to read transactions only.
// - MDB_NOSYNC: a commit flushes nothing; it survives a power cut once Sync has returned. If that
//   comes first, the disk may have any part of it, the meta page included. LMDB uses no page again
//   that the commit before needs, so with at most one commit between two Syncs that one is whole.
//   Telling which of the two there is, is for the caller (spool/segment_file.h). CommitOrdered is
//   for commits that must not tear.
// - After a failed write of a meta page every call answers MDB_PANIC until the environment is
//   opened anew; after a failed flush the kernel may have dropped what it could not write and
//   forget about it. We never write to an environment again after either (see spool/writer.h).
// - LMDB does not sum its pages. They are checked before it sees them (spool/page_check.h), and
//   values have a CRC of their own.
//
// Threads: an Environment may be used from any thread; one write transaction at a time, on one
//   thread. A read transaction and its cursors are used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

struct MDB_env;
struct MDB_txn;
struct MDB_cursor;

namespace holdfast::spool::lmdb {

struct Database {
  unsigned handle = 0;
};

enum class Access : uint8_t {
  kCreate,  // Makes the file; without a lock file, since nobody else knows it yet.
  kWrite,   // With a lock file beside it, see AllocateLock. Flushes nothing before Sync, but for
            // CommitOrdered.
  kRead,    // Without; nobody may be writing.
  // Reads what another process may be writing: with its lock file, which has to be there.
  kObserve,
  kBuild,  // As kWrite without a lock file, for one that nobody knows yet.
};

class Environment {
 public:
  // The lock file of the environment at `path` has all of its blocks when it returns, so that it
  // needs none later. Before anybody writes there kWrite sees to that; kFull: there is no space.
  // One that was used before, with holes, stays so on a full disk, and so does any that is there
  // where the file system cannot allocate: others may use it. A new one gets its name when whole.
  static base::Result<void> AllocateLock(const std::string& path);
  // `map_bytes` 0: as large as the file says.
  static base::Result<std::unique_ptr<Environment>> Open(std::string path, Access access,
                                                         uint64_t map_bytes);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  // Flushes file and meta page. A failure means that nothing since the last success may be trusted.
  base::Result<void> Sync();
  // As Sync, for what another process has left. If a flush failed there, the kernel takes pages for
  // written that are not, and flushes no more of them. So those in doubt are written again: the
  // meta pages, and `pages`, in rising order.
  base::Result<void> SyncInherited(std::span<const uint64_t> pages);
  [[nodiscard]] uint64_t page_bytes() const { return page_bytes_; }
  [[nodiscard]] uint64_t map_pages() const { return map_pages_; }
  // Pages that the newest commit uses or has used: the file's high-water mark.
  [[nodiscard]] uint64_t used_pages() const;
  [[nodiscard]] int file_descriptor() const;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] MDB_env* get() const { return env_; }

 private:
  Environment(MDB_env* env, std::string path) : env_(env), path_(std::move(path)) {}
  base::Result<void> WriteAgain(uint64_t first_page, size_t count);

  MDB_env* env_;
  std::string path_;
  uint64_t page_bytes_ = 0;
  uint64_t map_pages_ = 0;
};

class Transaction {
 public:
  Transaction(Transaction&& other) noexcept
      : environment_(other.environment_), txn_(std::exchange(other.txn_, nullptr)) {}
  Transaction& operator=(Transaction&& other) noexcept;
  ~Transaction();

  // Nothing if the key is not there.
  base::Result<std::optional<std::string_view>> Get(Database database, std::string_view key) const;
  [[nodiscard]] MDB_txn* get() const { return txn_; }
  [[nodiscard]] uint64_t id() const;
  [[nodiscard]] base::Error ErrorOf(std::string_view what, int code) const;

 protected:
  Transaction(const Environment* environment, MDB_txn* txn)
      : environment_(environment), txn_(txn) {}

  const Environment* environment_;
  MDB_txn* txn_;
};

class ReadTransaction : public Transaction {
 public:
  // Of no environment; there is nothing to Get.
  static ReadTransaction OfNothing() { return ReadTransaction(); }
  static base::Result<ReadTransaction> Begin(const Environment& environment);
  // kNotFound if there is no such database. The handle outlives the transaction after KeepHandles.
  base::Result<Database> Open(const char* name);
  base::Result<void> KeepHandles();

 private:
  ReadTransaction() : Transaction(nullptr, nullptr) {}
  ReadTransaction(const Environment& environment, MDB_txn* txn) : Transaction(&environment, txn) {}
};

// Gone without Commit, it leaves no trace.
class WriteTransaction : public Transaction {
 public:
  enum class Keys : uint8_t { kBytes, kIntegers };  // Integers are uint64_t in native order.

  static base::Result<WriteTransaction> Begin(const Environment& environment);
  base::Result<Database> Create(const char* name, Keys keys);
  base::Result<void> Put(Database database, std::string_view key, std::string_view value);
  // The key must be greater than all that are there. The bytes are for the caller to fill at once.
  base::Result<std::span<char>> Append(Database database, std::string_view key, size_t size);
  base::Result<void> Commit();
  // The meta page is written when all else is on the disk, so that a power cut leaves all of it or
  // nothing. Durable, as ever, after Sync.
  base::Result<void> CommitOrdered();

 private:
  WriteTransaction(const Environment& environment, MDB_txn* txn) : Transaction(&environment, txn) {}
};

class Cursor {
 public:
  static base::Result<Cursor> Open(const ReadTransaction& transaction, Database database);
  Cursor(Cursor&& other) noexcept
      : transaction_(other.transaction_),
        cursor_(std::exchange(other.cursor_, nullptr)),
        key_(other.key_),
        value_(other.value_) {}
  Cursor& operator=(Cursor&&) = delete;
  ~Cursor();

  // Each says whether there is such an entry; key() and value() are then its.
  base::Result<bool> First();
  base::Result<bool> Last();
  base::Result<bool> Next();
  base::Result<bool> Previous();
  base::Result<bool> SeekAtOrAfter(std::string_view key);

  [[nodiscard]] std::string_view key() const { return key_; }
  [[nodiscard]] std::string_view value() const { return value_; }

 private:
  Cursor(const ReadTransaction& transaction, MDB_cursor* cursor)
      : transaction_(&transaction), cursor_(cursor) {}
  base::Result<bool> Move(std::string_view key, int operation);

  const ReadTransaction* transaction_;
  MDB_cursor* cursor_;
  std::string_view key_;
  std::string_view value_;
};

// The bytes of an integer key.
class IntegerKey {
 public:
  explicit IntegerKey(uint64_t value) : value_(value) {}
  [[nodiscard]] std::string_view view() const {
    return {reinterpret_cast<const char*>(&value_), sizeof value_};
  }

 private:
  uint64_t value_;
};

}  // namespace holdfast::spool::lmdb
