// A group commit, from the first operation taken to the last one answered.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "spool/catalog.h"
#include "spool/frame.h"
#include "spool/spool.h"

namespace holdfast::spool {

// An operation on its way from Submit to Done.
struct Taken {
  std::unique_ptr<Operation> operation;
  size_t bytes = 0;
  std::optional<base::Error> refused;  // Was not applied, and why.
};

struct Commit {
  CommitNumber number;
  int64_t time_ms = 0;
  std::chrono::steady_clock::time_point begun;
  std::vector<Taken> operations;
  std::vector<DraftEntry> entries;
  uint64_t entry_bytes = 0;
  uint64_t record_count = 0;
  std::string changes;
  CommitNews news;

  // Nothing to write: all operations were refused, or found nothing to do.
  [[nodiscard]] bool empty() const { return entries.empty() && changes.empty(); }
  // Of its frame, sealed or not.
  [[nodiscard]] uint64_t FrameBytesMax() const {
    return FrameBytes(entries.size(), entry_bytes, changes.size(), true);
  }
};

}  // namespace holdfast::spool
