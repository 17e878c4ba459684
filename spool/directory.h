// The directory of a spool: who owns it, what it is, and the names of the files in it.
//
//   HOLDFAST                       what this is: format version and the spool's id, as text
//   LOCK                           locked (F_OFD_SETLK) by the process that owns the spool: its pid
//                                  one that yields has locked its first byte only: who wants to
//                                  open the spool locks the rest, and waits for that byte
//   EXPORTED                       there if the spool was handed over to another host: to where;
//                                  or it says that the spool is being removed
//   REMOVING                       the same beside an empty EXPORTED: the disk was full
//   00000000000000000007.segment   one LMDB environment each, with its lock file while it is open
//   *.new                          not finished, or a spare: nobody needs it after a crash
//   *.damaged                      a segment of which nothing can be read; only people need it
//
// A directory that holds something else is left alone, as is one written by a newer format, and one
// that was handed over: whoever took the export delivers it.
//
// Threads: any; constant after Open.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "spool/origin.h"

namespace holdfast::spool {

// The newest that there is. A spool has the lowest one in which what it holds can be written, so
// that the program before this can still read it: 2 from the first segment on that is ordered by
// stream, 1 before.
inline constexpr uint32_t kFormatVersion = 2;
inline constexpr uint32_t kFormatVersionMin = 1;

std::string ToText(const SpoolId& id);  // 32 hexadecimal digits.

// What can be seen of a spool without owning it.
struct DirectoryView {
  uint32_t format = 0;
  SpoolId id{};
  bool live = false;                    // A process owns it.
  std::string owner;                    // The pid of that process, or of the last one.
  std::optional<std::string> exported;  // To where and when, for a person.
  bool being_removed = false;           // A call of RemoveAll was cut off.
};

class Directory {
 public:
  enum class Tenure : uint8_t {
    kOwner,   // Until it is destroyed.
    kYields,  // The same, but it is asked with Wanted() to go soon.
  };
  // For so long Open waits for one that yields.
  static constexpr std::chrono::milliseconds kYieldsWithin = std::chrono::seconds(10);

  // Makes the directory if there is none, and finishes a call of RemoveAll that was cut off.
  // kUnavailable if another process owns it, kInvalid if it is not a spool, too new, or handed
  // over; one whose EXPORTED says nothing, or cannot be read, stays as it is, too.
  static base::Result<Directory> Open(const std::string& path);
  // Only what is there, but also a spool that was handed over, or is being removed. kNotFound if
  // there is no spool.
  static base::Result<Directory> OpenExisting(const std::string& path,
                                              Tenure tenure = Tenure::kOwner);
  // Owns an empty directory (or one where an import was cut off, whose leavings it removes) that
  // becomes a spool with Establish.
  static base::Result<Directory> OpenEmpty(const std::string& path);
  Directory(Directory&& other) noexcept;
  Directory& operator=(Directory&&) = delete;
  ~Directory();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const SpoolId& id() const { return id_; }
  [[nodiscard]] std::string SegmentPath(uint64_t number) const {
    return SegmentPath(path_, number);
  }

  // What Open would say of what is there, but for a process that owns it; there may be nothing.
  // Nothing is changed.
  static base::Result<void> Check(const std::string& path);
  // From outside; nothing is changed, not even access to it.
  static base::Result<DirectoryView> Look(const std::string& path);
  static std::string SegmentPath(const std::string& path, uint64_t number);
  struct File {
    uint64_t number;
    uint64_t bytes;
  };
  // Segments in order of their numbers.
  static base::Result<std::vector<File>> ListSegments(const std::string& path);

  // From here on the directory is a spool, also after a crash.
  base::Result<void> Establish(const SpoolId& id);
  // From here on programs that know lower formats only leave the directory alone.
  base::Result<void> RaiseFormat() const;
  // kInvalid, with what to do, if the spool was handed over, or is being removed.
  [[nodiscard]] base::Result<void> CheckExported() const;
  // Whether and to where the spool was handed over; for good when it returns.
  [[nodiscard]] base::Result<std::optional<std::string>> exported() const;
  base::Result<void> MarkExported(const std::string& to);
  base::Result<void> ClearExported();
  // Everything that is the spool's, also damaged segments that were kept, but for the directory and
  // the lock on it. A full disk is no hindrance. Cut off, it leaves what Open removes; it can also
  // be called again.
  base::Result<void> RemoveAll();
  // Whether a call of it was cut off.
  [[nodiscard]] bool being_removed() const;
  // After RemoveAll: the directory itself, if nothing foreign is in it.
  base::Result<void> RemoveDirectory();
  // Whether another process waits for one that yields.
  [[nodiscard]] bool Wanted() const;

  // Segments in order of their numbers. Removes what was left unfinished, and the lock files of
  // segments that are gone.
  base::Result<std::vector<File>> Segments() const;
  // The segment and its lock file. They are gone for good when it returns.
  base::Result<void> RemoveSegment(uint64_t number) const;
  // Takes the segment out of the log, for good, but keeps its file for AdoptSegment. Returns its
  // path; on opening it counts as unfinished.
  base::Result<std::string> SetSegmentAside(uint64_t number) const;
  // Where to make a file for AdoptSegment; on opening it counts as unfinished.
  [[nodiscard]] std::string SparePath() const;
  // A segment of which nothing can be read leaves the log, but its file stays for experts. Returns
  // its new path.
  base::Result<std::string> KeepDamaged(uint64_t number) const;
  // `from` takes the name of segment `number`, for good. A lock file there goes: who still reads
  // the old file keeps it in use, and LMDB would take that one's newest commit for this one's.
  base::Result<void> AdoptSegment(const std::string& from, uint64_t number) const;
  // What the file system would still give us.
  [[nodiscard]] base::Result<uint64_t> FreeBytes() const;

 private:
  explicit Directory(std::string path) : path_(std::move(path)) {}
  base::Result<bool> ReadMarker();
  base::Result<void> CheckOwner() const;
  base::Result<void> CheckEmpty() const;
  base::Result<void> Lock(Tenure tenure);
  [[nodiscard]] base::Result<bool> TryLock(Tenure tenure);
  [[nodiscard]] bool AwaitYielding();
  base::Result<void> MarkBeingRemoved();
  base::Result<void> WriteMarker(uint32_t format, const SpoolId& id) const;
  base::Result<void> WriteText(std::string_view name, const std::string& text) const;
  base::Result<void> RemoveFiles(const std::function<bool(std::string_view name)>& which) const;
  base::Result<void> Sync() const;

  std::string path_;
  SpoolId id_{};
  int lock_ = -1;
};

}  // namespace holdfast::spool
