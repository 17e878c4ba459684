#include "net/reply.h"

#include "base/check.h"

namespace holdfast::net {

Reply& Reply::operator=(Reply&& other) noexcept {
  if (this != &other) {
    if (sink_ != nullptr) Complete({.kind = Answer::Kind::kLost});
    sink_ = std::exchange(other.sink_, nullptr);
    connection_ = other.connection_;
    request_ = other.request_;
    memory_ = std::move(other.memory_);
  }
  return *this;
}

Reply::~Reply() {
  if (sink_ != nullptr) Complete({.kind = Answer::Kind::kLost});
}

void Reply::Send(base::Buffer frame) {
  Complete({.kind = Answer::Kind::kSend, .first = std::move(frame)});
}

void Reply::Send(std::vector<base::Buffer> pieces) {
  Complete({.kind = Answer::Kind::kSend, .rest = std::move(pieces)});
}

void Reply::Send(base::Buffer first, std::vector<base::Buffer> rest) {
  Complete({.kind = Answer::Kind::kSend, .first = std::move(first), .rest = std::move(rest)});
}

void Reply::SendBody(base::Buffer body) {
  Complete({.kind = Answer::Kind::kBody, .first = std::move(body)});
}

void Reply::SendPart(std::vector<base::Buffer> pieces, Piped piped) {
  HF_CHECK(sink_ != nullptr);
  memory_.Release();
  sink_->Complete(
      connection_, request_,
      {.kind = Answer::Kind::kPart, .rest = std::move(pieces), .piped = std::move(piped)});
}

void Reply::SendNothing() { Complete({.kind = Answer::Kind::kNothing}); }

void Reply::SendLast(base::Buffer frame) {
  Complete({.kind = Answer::Kind::kLast, .first = std::move(frame)});
}

void Reply::Close(std::string reason) {
  Complete({.kind = Answer::Kind::kClose, .reason = std::move(reason)});
}

void Reply::Complete(Answer answer) {
  HF_CHECK(sink_ != nullptr);
  memory_.Release();
  std::exchange(sink_, nullptr)->Complete(connection_, request_, std::move(answer));
}

}  // namespace holdfast::net
