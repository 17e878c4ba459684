// Whether a segment file's pages are as LMDB left them, found out before LMDB believes them: it
// sums no page, and follows a damaged pointer into a crash or into losing half a tree.
//
// Checked are both meta pages, all branch and leaf pages that the newest one leads to, the list of
// free pages, and that every page has exactly one use. Values in pages of their own are not
// touched: what is in those has a checksum of its own. So the cost follows the number of values,
// not their bytes.
//
// A damaged transaction id could make an older meta page look like the newest. So each transaction
// of a segment adds exactly one entry to `meta` or `frames` (but the first, which makes the
// databases), and the id must be 1 + the number of these entries.
//
// The keys of `frames` have no gaps.
//
// Pure: `file` is a map of the file, or a copy. LMDB 0.9's format, see the layout in the .cc.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace holdfast::spool {

// kCorrupt says what is wrong and where. `observed` is the id of a reading transaction of ours
// while somebody else writes: what that sees is checked, and nothing about the newest.
base::Result<void> CheckPages(std::string_view file, std::optional<uint64_t> observed = {});

}  // namespace holdfast::spool
