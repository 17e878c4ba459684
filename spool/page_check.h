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
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::spool {

// Returns one more than the last frame's key, or 0; kCorrupt says what is wrong and where.
// `observed` is the id of a reading transaction of ours while somebody else writes: what that sees
// is checked, and nothing about the newest.
base::Result<uint64_t> CheckPages(std::string_view file, std::optional<uint64_t> observed = {});

// Where frames begin in a file, by their keys; 0 of those that were lost and left an empty value.
using FramePlaces = std::map<uint64_t, uint64_t>;

// Of a file whose newest commit is not whole, or does not count: the frames of the commit before,
// if a power cut that tore the newest one, or a flush of it that failed, explains it. Then that
// before is whole, and the newest one added a frame, since all others reach the disk in order
// (spool/lmdb.h). Damage to pages that only the newest commit uses looks the same.
std::optional<FramePlaces> FramesBeforeNewestCommit(std::string_view file);

// Of a file that CheckPages accepts, or of the transaction that it was asked about: the frames in
// the pages that this commit wrote, see below: its own, and others in a page of the tree that it
// copied. None if the commit before cannot be read: then somebody writes after it.
FramePlaces FramesWrittenByCommit(std::string_view file, uint64_t transaction);

// Of a file that CheckPages accepts: the pages that the newest commit wrote, in rising order,
// without the meta page: those that it uses and the one before does not. All that it uses, if that
// one cannot be read.
std::vector<uint64_t> PagesOfNewestCommit(std::string_view file);

}  // namespace holdfast::spool
