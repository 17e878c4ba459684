#include "net/output_queue.h"

#include <algorithm>

#include "base/check.h"
#include "base/endian.h"

namespace holdfast::net {

void OutputQueue::Push(base::Buffer bytes) {
  if (bytes.empty()) return;
  bytes_ += bytes.size();
  borrows_ |= bytes.borrowed();
  pieces_.push_back({.bytes = std::move(bytes), .header = {}});
}

void OutputQueue::Push(Piped piped) {
  bytes_ += piped.bytes;
  pieces_.push_back({.piped = std::move(piped), .header = {}});
}

void OutputQueue::PushBody(base::Buffer body) {
  Piece& piece = pieces_.emplace_back();
  piece.has_header = true;
  borrows_ |= body.borrowed();
  base::StoreBig(piece.header, static_cast<int32_t>(body.size()));
  piece.bytes = std::move(body);
  bytes_ += piece.size();
}

Piped OutputQueue::PeekPiped() const {
  if (first_ == pieces_.size() || pieces_[first_].piped.pipe == nullptr) return {};
  const Piped& piped = pieces_[first_].piped;
  return {.pipe = piped.pipe, .bytes = piped.bytes - first_sent_};
}

size_t OutputQueue::Peek(std::span<iovec> into) {
  size_t used = 0;
  size_t skip = first_sent_;
  const auto add = [&](const char* data, size_t size) {
    const size_t skipped = std::min(skip, size);
    skip -= skipped;
    if (size == skipped) return;
    // It is only read from there.
    into[used++] = {.iov_base = const_cast<char*>(data) + skipped, .iov_len = size - skipped};
  };
  // A piece takes two elements at most.
  for (size_t i = first_; i < pieces_.size() && used + 2 <= into.size(); ++i) {
    const Piece& piece = pieces_[i];
    if (piece.piped.pipe != nullptr) break;
    if (piece.has_header) add(piece.header, kFrameHeaderBytes);
    add(piece.bytes.data(), piece.bytes.size());
  }
  return used;
}

void OutputQueue::Pop(size_t bytes) {
  HF_CHECK(bytes <= bytes_);
  bytes_ -= bytes;
  first_sent_ += bytes;
  while (first_ < pieces_.size() && first_sent_ >= pieces_[first_].size()) {
    first_sent_ -= pieces_[first_].size();
    pieces_[first_].bytes = base::Buffer();
    pieces_[first_].piped.pipe.reset();
    ++first_;
  }
  if (first_ == pieces_.size()) {
    pieces_.clear();
    first_ = 0;
  } else if (first_ >= 64 && first_ * 2 >= pieces_.size()) {
    pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<ptrdiff_t>(first_));
    first_ = 0;
  }
}

void OutputQueue::Clear() {
  pieces_.clear();
  first_ = first_sent_ = bytes_ = 0;
  borrows_ = false;
}

void OutputQueue::Own() {
  if (!std::exchange(borrows_, false)) return;
  for (size_t i = first_; i < pieces_.size(); ++i) pieces_[i].bytes.Own();
}

}  // namespace holdfast::net
