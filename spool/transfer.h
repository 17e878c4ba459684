// Handing a spool over: everything that is not trimmed, and all state, as one stream of bytes that
// makes the same spool elsewhere. An agent that is started on it goes on exactly where the one on
// the old directory stopped. docs/spool-format.md has the grammar.
//
//   Export(directory, {.hand_over_to = "host b"}, write);
//   Import(directory, {}, read);
//
// Who hands a spool over marks it (Directory::MarkExported) before the last bytes are written, and
// without those bytes Import makes no spool: so at no moment there are two that deliver.
//
// The bytes do not depend on this machine's page size, nor on its byte order. What was encrypted
// stays encrypted, under a new data key.
//
// Ownership: each owns its directory while it works.
// Threads: any; both block.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "spool/cipher.h"
#include "spool/verify.h"

namespace holdfast::spool {

struct TransferReport {
  uint64_t segments = 0;
  uint64_t commits = 0;
  uint64_t entries = 0;
  uint64_t entry_bytes = 0;
  uint64_t bytes = 0;  // Of the stream.
};

// Takes all of the bytes, or says why not.
using WriteBytes = std::function<base::Result<void>(std::string_view bytes)>;
// Fills what it can, and says how much that is; 0 at the end.
using ReadBytes = std::function<base::Result<size_t>(std::span<char> out)>;

struct ExportOptions {
  // Marks the spool with this text, for a person. Nothing: it stays as it is.
  std::optional<std::string> hand_over;
  KeyRing keys;  // Of the spool, if it is encrypted.
  int64_t time_ms = 0;
  ProgressCallback progress;
  EntryCheck check_entry;
};

// kInvalid: it was handed over already. kCorrupt: something in it is damaged; Repair comes first.
base::Result<TransferReport> Export(const std::string& directory, const ExportOptions& options,
                                    const WriteBytes& write);

struct ImportOptions {
  KeyRing keys;  // Open what was encrypted, and encrypt what is written if there are any.
  ProgressCallback progress;  // The total is not known: 0.
  EntryCheck check_entry;
};

// Into a new or empty directory. kCorrupt: the bytes are damaged or not all there; then there is no
// spool in the directory, and it can be tried again.
base::Result<TransferReport> Import(const std::string& directory, const ImportOptions& options,
                                    const ReadBytes& read);

}  // namespace holdfast::spool
