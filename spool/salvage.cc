#include "spool/salvage.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "base/endian.h"
#include "spool/frame.h"

namespace holdfast::spool {
namespace {

// Every page size is a multiple. A value in pages of its own begins behind the first one's header.
constexpr size_t kBlockBytes = 4096;
constexpr size_t kPageHeaderBytes = 16;

constexpr std::array<char, 4> kMagicBytes = {'H', 'F', 'F', '1'};
static_assert(kFrameMagic == 0x31464648);

// A frame with the right checksum for its origin, whatever its number.
std::optional<FrameView> IntactFrame(uint32_t seed, std::string_view bytes) {
  const base::Result<FrameView> frame = FrameView::Parse(bytes);
  if (!frame || !frame->Verify(seed, frame->commit())) return std::nullopt;
  return *frame;
}

}  // namespace

struct Salvage::Candidates {
  std::map<CommitNumber, std::vector<FrameView>> frames;

  void Add(const FrameView& frame) {
    std::vector<FrameView>& twins = frames[frame.commit()];
    // LMDB leaves copies of small values behind.
    const bool known = std::any_of(twins.begin(), twins.end(), [&](const FrameView& twin) {
      return twin.bytes() == frame.bytes();
    });
    if (!known) twins.push_back(frame);
  }
  // Whether a frame of the next number names it as the one before.
  [[nodiscard]] bool Named(const FrameView& frame) const {
    const auto next = frames.find(frame.commit().next());
    return next != frames.end() &&
           std::any_of(next->second.begin(), next->second.end(), [&](const FrameView& child) {
             return child.previous() == frame.checksum();
           });
  }
};

base::Result<std::unique_ptr<Salvage>> Salvage::Scan(const std::string& path, const Origin& origin,
                                                     const std::optional<FramePlaces>& known,
                                                     bool whole) {
  HF_ASSIGN_OR_RETURN(MappedFile map, MappedFile::Open(path));
  std::unique_ptr<Salvage> salvage(new Salvage(std::move(map)));
  salvage->header_ = {.origin = origin, .state_pieces = 1};
  const std::string_view file = salvage->map_.bytes();
  const uint32_t seed = origin.Seed();
  Candidates candidates;
  size_t known_end = 0;  // Of the last frame or run.
  for (size_t block = 0; block + kPageHeaderBytes < file.size(); block += kBlockBytes) {
    const std::string_view value = file.substr(block + kPageHeaderBytes);
    if (const auto frame = IntactFrame(seed, value)) {
      candidates.Add(*frame);
      known_end = std::max(known_end, block + kPageHeaderBytes + frame->bytes().size());
    } else if (const auto run = DecodeRun(seed, value)) {
      salvage->runs_.emplace(run->position, *run);
      known_end =
          std::max(known_end, block + kPageHeaderBytes + kRunHeaderBytes + run->bytes.size());
    } else if (const auto piece = DecodePiece(origin, value)) {
      salvage->header_ = piece->header;
      salvage->pieces_.emplace(piece->index, piece->changes);
    } else if (block >= known_end) {
      // Small ones lie among others in a page of the tree.
      const std::string_view page = file.substr(block, kBlockBytes);
      const std::string_view magic(kMagicBytes.data(), kMagicBytes.size());
      for (size_t at = page.find(magic); at != std::string_view::npos;
           at = page.find(magic, at + 1))
        if (const auto small = IntactFrame(seed, file.substr(block + at))) candidates.Add(*small);
    }
  }
  if (salvage->pieces_.empty() && candidates.frames.empty())
    return base::Unexpected(base::Code::kCorrupt, path + ": nothing of the segment is left in it");
  if (salvage->pieces_.empty()) salvage->header_.first_commit = candidates.frames.begin()->first;
  for (const auto& [commit, offset] : known.value_or(FramePlaces())) {
    if (offset == 0) {
      salvage->lost_.emplace(commit);
      continue;
    }
    const auto frame = IntactFrame(seed, file.substr(offset));
    if (frame && frame->commit().value() == commit)
      salvage->frames_.emplace(frame->commit(), frame->bytes());
  }
  salvage->Choose(candidates, known && whole);
  if (!salvage->frames_.empty()) salvage->last_ = salvage->frames_.rbegin()->first;
  if (known && !known->empty())
    salvage->last_ =
        std::max(salvage->last_.value_or(CommitNumber()), CommitNumber(known->rbegin()->first));
  return salvage;
}

// `whole`: entries and all. Where the tree is known that concerns but the frames that it did not
// lead to.
void Salvage::Choose(const Candidates& candidates, bool whole) {
  for (const auto& [commit, twins] : candidates.frames) {
    if (commit < header_.first_commit || frames_.contains(commit) || LostBefore(commit)) continue;
    const auto before = frames_.find(CommitNumber(commit.value() - 1));
    const base::Result<FrameView> parent =
        FrameView::Parse(before == frames_.end() ? std::string_view() : before->second);
    const FrameView* chosen = nullptr;
    const auto rank = [&](const FrameView& frame) {
      return std::pair(candidates.Named(frame), frame.commit_time_ms());
    };
    for (const FrameView& frame : twins) {
      if (parent && frame.previous() != 0 && frame.previous() != parent->checksum()) continue;
      if (whole && !frame.VerifyEntries()) continue;
      // Twins of one parent: the crash came between them.
      if (chosen == nullptr || rank(frame) > rank(*chosen)) chosen = &frame;
    }
    if (chosen != nullptr) frames_.emplace(commit, chosen->bytes());
  }
}

}  // namespace holdfast::spool
