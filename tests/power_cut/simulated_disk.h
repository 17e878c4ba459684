// A disk under the real LMDB and the real spool. The linker puts it between them and the kernel
// (-Wl,--wrap, see wrapped_calls.cc); it lets their calls through, remembers what a power cut could
// undo, makes calls fail, and cuts the power.
//
// The files are what the process sees, as the kernel's page cache would show them. Flushing costs
// nothing when they lie on tmpfs. In memory stands what each unflushed sector, size and name was
// before (FileHistory, NameHistory). At a cut the files are changed into what the disk would hold,
// and the process ends.
//
// Promises of a real disk that this one keeps, and no more: a sector of 512 bytes is written whole
// or not at all; what a flush that succeeded covers is there; a write on a descriptor with O_DSYNC
// is there when it returns; a rename happens whole or not at all. Of everything else any part may
// be there, in any combination. Files that calls made which the linker cannot see (those within
// libstdc++) count as not flushed, content and name.
//
// Ownership: lies in a SharedArena, so what one process did not flush is known to the next.
// Threads: one.
// Limits: no writes through a map (msync aborts, which is how a change to MDB_WRITEMAP would be
//   noticed), but for LMDB's lock files, whose content a torn power cut may turn into zeros.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory_resource>
#include <string>
#include <unordered_map>

#include "tests/power_cut/file_history.h"
#include "tests/power_cut/name_history.h"
#include "tests/power_cut/plan.h"
#include "tests/power_cut/shared_arena.h"

namespace holdfast::power_cut {

// A disk that lies, to see that the tests notice.
enum class Lie : uint8_t { kNone, kFlushesDoNothing, kDirectoryFlushesDoNothing };

class SimulatedDisk {
 public:
  // Everything in the directory `root` is on the disk. Files without a name are kept in `limbo`,
  // which is on the same file system. One disk at a time; it gets the calls from here on.
  SimulatedDisk(SharedArena& arena, const std::string& root, const std::string& limbo, Lie lie);

  // In the process that lives now. Calls are counted from 1 again.
  void BeginLife(const Life& life);
  void Repair() { fault_ = {}; }
  // The cut that has not come yet comes now. Unless there is none, the process ends here.
  void EndLife();
  // The power is cut and comes back; the process goes on, with all files closed.
  void CutPower(Pattern pattern, uint64_t seed);

  [[nodiscard]] uint32_t calls() const { return calls_; }
  [[nodiscard]] uint32_t failed_calls() const { return failed_calls_; }  // Of all lives.

  // What the wrapped calls ask. Nothing if the file is not on this disk.
  static SimulatedDisk* Of(int fd);
  static SimulatedDisk* Of(const char* path);
  ssize_t Write(int fd, const iovec* parts, int count, off_t offset);
  int Flush(int fd);
  int Truncate(int fd, off_t size);
  int Allocate(int fd, int mode, off_t offset, off_t size);
  int Open(const char* path, int flags, mode_t mode);
  int Rename(const char* from, const char* to);
  int Unlink(const char* path);

 private:
  enum class Kind : uint8_t { kWrite, kFlush, kFlushNames, kResize, kOpen, kRename, kUnlink };
  struct Verdict {
    int error = 0;  // An errno.
    bool half = false;
    bool happens = true;
  };

  // A call is about to happen: counts it, cuts before it, or says how it goes.
  Verdict Before(Kind kind);
  [[nodiscard]] bool Applies(Kind kind) const;
  int FlushFile(int fd, const Verdict& verdict, FileHistory& file);
  [[nodiscard]] Dice MakeDice(Pattern pattern, uint64_t seed) const;

  struct Place {
    NameHistory* directory;
    std::string name;
  };
  Place Find(const std::string& path);
  void PowerUp();
  void Scan(const std::string& directory);
  void NoticeUnseen(const std::string& directory);
  void NoticeUnseen();
  void CutFiles(const Dice& dice);
  void CutNames(const Dice& dice);
  void EmptyLimbo();

  std::pmr::memory_resource* const memory_;
  const std::pmr::string root_;
  const std::pmr::string limbo_;
  const Lie lie_;
  dev_t device_ = 0;
  uint64_t next_change_ = 1;
  uint32_t calls_ = 0;
  uint32_t failed_calls_ = 0;
  Fault fault_;
  Cut cut_;
  std::pmr::unordered_map<ino_t, FileHistory> files_;
  // By path. Directories are made, but never renamed or removed.
  std::pmr::map<std::pmr::string, NameHistory> directories_;
};

}  // namespace holdfast::power_cut
