#include "net/pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/check.h"

namespace holdfast::net {
namespace {

IoOutcome Splice(int from, int to, size_t bytes, unsigned flags) {
  ssize_t moved;
  do {
    moved = splice(from, nullptr, to, nullptr, bytes, flags | SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
  } while (moved < 0 && errno == EINTR);
  if (moved > 0) return {IoOutcome::Kind::kDone, static_cast<size_t>(moved)};
  if (moved == 0) return {IoOutcome::Kind::kEnd};
  if (errno == EAGAIN) return {IoOutcome::Kind::kBlocked};
  return {IoOutcome::Kind::kFailed, 0, errno};
}

}  // namespace

std::unique_ptr<Pipe> Pipe::Make() {
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC) != 0) return nullptr;
  std::unique_ptr<Pipe> pipe(new Pipe(ends[1], ends[0]));
  if (fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(kBytes)) < static_cast<int>(kBytes))
    return nullptr;
  return pipe;
}

Pipe::~Pipe() {
  close(in_);
  close(out_);
}

IoOutcome Pipe::Fill(int socket, size_t bytes) {
  const IoOutcome outcome = Splice(socket, in_, std::min(bytes, room()), 0);
  bytes_ += outcome.bytes;
  return outcome;
}

IoOutcome Pipe::Drain(int socket, size_t bytes, bool more_follow) {
  HF_CHECK(bytes > 0 && bytes <= bytes_);
  const IoOutcome outcome = Splice(out_, socket, bytes, more_follow ? SPLICE_F_MORE : 0);
  bytes_ -= outcome.bytes;
  return outcome;
}

std::shared_ptr<Pipe> PipePool::Take() {
  std::unique_ptr<Pipe> pipe;
  if (!idle_.empty()) {
    pipe = std::move(idle_.back());
    idle_.pop_back();
  } else if (in_use_ < kOpenMax) {
    pipe = Pipe::Make();
  }
  if (pipe == nullptr) return nullptr;
  ++in_use_;
  return {pipe.release(), [this](Pipe* back) { Return(std::unique_ptr<Pipe>(back)); }};
}

void PipePool::Return(std::unique_ptr<Pipe> pipe) {
  --in_use_;
  if (pipe->bytes() == 0) idle_.push_back(std::move(pipe));
}

}  // namespace holdfast::net
