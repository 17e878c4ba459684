// A disk under the real LMDB and the real spool. The linker puts it between them and the kernel
// (-Wl,--wrap, see wrapped_calls.cc); it lets their calls through, remembers what a power cut could
// undo, makes calls fail, and cuts the power.
//
// The files are what the process sees, as the kernel's page cache would show them. Flushing costs
// nothing when they lie on tmpfs. In memory stands what each unflushed sector, size and name was
// before (FileHistory, NameHistory). At a cut the files are changed into what the disk would hold,
// and the process ends.
//
// Or a copy is made of what the disk would hold, and the process goes on: so one life can be cut at
// each of its calls (Witness).
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

#include <array>
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
enum class Lie : uint8_t {
  kNone,
  kFlushesDoNothing,
  kDirectoryFlushesDoNothing,
  kFlushesOfSparesDoNothing,  // Of segment files that are used again, until they get their place.
};

// Sees each call of a life before it happens.
class Witness {
 public:
  virtual void BeforeCall(uint32_t call) = 0;  // And once after the last one, with the next number.

 protected:
  ~Witness() = default;
};

class SimulatedDisk {
 public:
  // Everything in the directory `root` is on the disk. Files without a name are kept in `limbo`,
  // which is on the same file system. One disk at a time; it gets the calls from here on.
  SimulatedDisk(SharedArena& arena, const std::string& root, const std::string& limbo, Lie lie);

  // In the process that lives now. Calls are counted from 1 again.
  void BeginLife(const Life& life, Witness* witness = nullptr);
  void Repair() { fault_ = {}; }
  // The cut that has not come yet comes now. Unless there is none, the process ends here.
  void EndLife();
  // What the cut would leave, copied into the empty directory `to`, on the same file system, for
  // another disk: files that the cut does not change are the same ones there until they are opened
  // for writing.
  void CopyAfterCut(const Cut& cut, const std::string& to) const;
  // Of that, a number that is as good as unique to it. Files that only the living care about (LOCK,
  // *-lock) count by name alone.
  [[nodiscard]] uint64_t FingerprintAfterCut(const Cut& cut);
  // The power is cut and comes back; the process goes on, with all files closed.
  void CutPower(Pattern pattern, uint64_t seed);

  [[nodiscard]] uint32_t calls() const { return calls_; }
  // Of all lives, by FaultKind; and those of them that wrote a meta page.
  using FailedCalls = std::array<uint64_t, kFaultKinds>;
  [[nodiscard]] const FailedCalls& failed_calls() const { return failed_calls_; }
  [[nodiscard]] uint64_t failed_meta_writes() const { return failed_meta_writes_; }

  // What the wrapped calls ask. Nothing if the file is not on this disk.
  static SimulatedDisk* Of(int fd);
  static SimulatedDisk* Of(const char* path);
  ssize_t Write(int fd, const iovec* parts, int count, off_t offset);
  int Flush(int fd);
  int Truncate(int fd, off_t size);
  int Allocate(int fd, int mode, off_t offset, off_t size);
  int Open(const char* path, int flags, mode_t mode);
  int Rename(const char* from, const char* to);
  // `from` is gone then: who gives a draft its name so removes the draft's next.
  int Link(const char* from, const char* to);
  int Unlink(const char* path);
  int Close(int fd);

 private:
  enum class Kind : uint8_t { kWrite, kFlush, kFlushNames, kResize, kOpen, kRename, kUnlink };
  struct Verdict {
    int error = 0;  // An errno.
    bool half = false;
    bool happens = true;
  };

  // A call is about to happen: counts it, cuts before it, or says how it goes.
  Verdict Before(Kind kind, const char* path = nullptr);
  [[nodiscard]] bool Applies(Kind kind) const;
  int FlushFile(int fd, const Verdict& verdict, FileHistory& file);
  FileHistory& HistoryOf(int fd);
  [[nodiscard]] Dice MakeDice(Pattern pattern, uint64_t seed) const;

  struct Place {
    NameHistory* directory;
    std::string name;
  };
  Place Find(const std::string& path);
  void PowerUp();
  void Scan(const std::string& directory);
  // Files are made by calls that do not come here, too. It is looked for them before a call that
  // names one, so that they are always found at the same time.
  void NoticeUnseen(const std::string& directory);
  [[nodiscard]] bool IsUnseen(const std::string& path) const;
  FileHistory& AddFile(ino_t inode);
  void Measure();
  void CopyShared(const std::string& path);
  // By inode.
  [[nodiscard]] std::unordered_map<ino_t, std::string> Paths() const;
  [[nodiscard]] std::string InLimbo(ino_t inode) const;
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
  FailedCalls failed_calls_{};
  uint64_t failed_meta_writes_ = 0;
  bool measured_ = false;
  Witness* witness_ = nullptr;
  Fault fault_;
  Cut cut_;
  std::pmr::unordered_map<ino_t, FileHistory> files_;
  // By path. Directories are made, but never renamed or removed.
  std::pmr::map<std::pmr::string, NameHistory> directories_;
};

}  // namespace holdfast::power_cut
