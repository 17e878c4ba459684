// A disk that fails and forgets, put between LMDB (and the spool) and the kernel by the linker:
// -Wl,--wrap for each call below. It keeps what each file would hold after a power cut: bytes get
// there only by a flush that succeeded, and what a failed flush dropped never does, as on Linux.
//
//   FaultyDisk disk;                          // One at a time; before it and after it all is as
//   usual. disk.OnCall([&](Call call, int n) {       // Before the n-th call, counting from 0.
//     return n == 17 ? EIO : 0;               // An errno makes it fail.
//   });
//   disk.PowerCut(from, to, random);          // `to` gets `from` as a power cut now would leave
//   it.
//
// Limits: one thread. Names of files are durable at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/random.h"

namespace holdfast::spool {

class FaultyDisk {
 public:
  enum class Call : uint8_t { kWrite, kSync, kAllocate };
  using Hook = std::function<int(Call call, int n)>;

  FaultyDisk();
  ~FaultyDisk();
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;

  // While the hook runs, and in PowerCut, nothing is counted or kept.
  void OnCall(Hook hook) { hook_ = std::move(hook); }
  [[nodiscard]] int calls() const { return calls_; }
  [[nodiscard]] int syncs() const { return syncs_; }

  // Of the writes that are not flushed, each sector of 512 bytes may have reached the disk or not,
  // in any combination that `random` likes.
  enum class Unflushed : uint8_t { kLost, kKept, kRandom };
  void PowerCut(const std::string& from, const std::string& to, Unflushed unflushed,
                base::Random& random);

  // For the wrappers. Nothing while no disk is there or it is not to notice.
  static FaultyDisk* Current();
  int Before(Call call);
  void Wrote(int fd, std::string_view bytes, uint64_t offset);
  void Synced(int fd, bool succeeded);

 private:
  struct File {
    std::string durable;
    std::vector<std::pair<uint64_t, std::string>> unflushed;
  };

  Hook hook_;
  int calls_ = 0;
  int syncs_ = 0;
  bool blind_ = false;
  std::map<uint64_t, File> files_;  // By inode.
};

}  // namespace holdfast::spool
