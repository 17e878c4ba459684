// A service's LMDB environment as a source: the service puts events with include/holdfast/outbox.h
// in write transactions of its own, and the agent, another process on the same host, takes them
// out. LMDB has one writer at a time, so the order of positions is that of commits.
//
// The environment is the service's: the agent never makes one, never enlarges its map, and touches
// no databases but the outbox's own. What the service has enlarged it takes over. It opens the
// environment with its lock file, so service and agent need an LMDB with the same one, and both
// need to be able to write to both files.
//
// What a service's writer waits for: events are removed kChunkRows at a time, or fewer if that
// takes longer than kChunkTime. Such a transaction flushes its pages as it commits, for LMDB would
// not survive a power cut else: the writer may wait as long as for a commit of its own, and a few
// large transactions cost it less than many small ones. The meta page is flushed when the writer
// may go on (MDB_NOMETASYNC). So when Remove has returned, a power cut does not bring events back.
//
// What the agent waits for: LMDB's lock has no time limit, so a write transaction that the service
// leaves open holds up Remove, and with it the agent's end, until it ends or its process does.
// Nothing is lost if the agent is killed then.
//
// LMDB has no checksums for its pages, and does not survive damage to them: an environment whose
// pages are damaged may end the agent, as it would end the service. What services put has a
// checksum, and any bytes there are survived.
//
// One agent at a time has an environment as a source: see source_lock.h; the lock's file is the
// data file's name with `-holdfast` behind it. An agent with another spool, if it takes the place
// of one that was killed, may send again what that one had noted and not yet removed.
//
// Look opens the environment read-only. Where it has no lock file nobody has it open, and it is
// read without one, which a service that comes meanwhile does not mind.
//
// Threads: one. Shutdown: Close, or the destructor.
// Limits: kReadBytes at a time.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/outbox/source.h"
#include "agent/outbox/source_lock.h"

struct MDB_env;
struct MDB_txn;

namespace holdfast::outbox {

class LmdbSource final : public Source {
 public:
  static constexpr size_t kChunkRows = 2000;
  static constexpr std::chrono::milliseconds kChunkTime{2};
  // A read ends with the event that reaches it.
  static constexpr size_t kReadBytes = size_t{16} << 20;

  struct Options {
    std::string environment;  // Its directory, or its file if it was made with MDB_NOSUBDIR.
    std::string topic;        // The template of topics, see Row::fields.
  };

  explicit LmdbSource(Options options) : options_(std::move(options)) {}

  base::Result<void> Open() override;
  base::Result<std::vector<Row>> Read(size_t limit, std::span<const std::string> held,
                                      std::span<const RowId> stuck) override;
  base::Result<bool> MayHaveMore() override;
  base::Result<std::vector<RowId>> Find(std::span<const int64_t> positions) override;
  base::Result<Refusal> Remove(std::span<const RowId> spooled,
                               std::span<const Poison> poison) override;
  base::Result<Lag> Measure() override;
  base::Result<Sight> Look() override;
  void Close(bool clean) override;

 private:
  struct CloseEnvironment {
    void operator()(MDB_env* environment) const;
  };
  struct Abort {
    void operator()(MDB_txn* txn) const;
  };
  using Transaction = std::unique_ptr<MDB_txn, Abort>;

  base::Result<void> FindEnvironment();
  [[nodiscard]] std::string LockPath() const { return data_file_ + "-holdfast"; }
  // LMDB's own.
  [[nodiscard]] std::string LockFile() const;
  base::Result<void> OpenEnvironment();
  base::Result<void> MapEnvironment(unsigned flags, unsigned readers_max, mode_t mode);
  base::Result<void> OpenDatabases();
  base::Result<void> CheckInPlace() const;
  base::Result<Transaction> Begin(unsigned flags);
  base::Result<std::vector<Row>> RowsOf(const Transaction& txn, size_t limit,
                                        std::span<const std::string> held,
                                        std::span<const RowId> stuck);
  base::Result<Lag> Count();
  // The row's event as it is stored.
  base::Result<std::optional<std::string_view>> ValueOf(const Transaction& txn, const RowId& row);
  // At most `rows` from the fronts of both. kFull: the map is.
  base::Result<void> RemoveSome(size_t rows, std::span<const RowId>* spooled,
                                std::span<const Poison>* poison);
  [[nodiscard]] base::Error ErrorOf(std::string_view what, int code) const;

  const Options options_;
  std::string data_file_;  // Without symbolic links, so that all agents agree on it.
  bool in_directory_ = false;
  SourceLock lock_;
  std::unique_ptr<MDB_env, CloseEnvironment> environment_;
  unsigned events_ = 0;
  unsigned quarantine_ = 0;
  uint64_t seen_txn_ = 0;  // All that was committed up to it is ours or was there at the last read.
};

}  // namespace holdfast::outbox
