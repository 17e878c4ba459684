#include "proxy/intercepted.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "kafka/codec.h"

namespace holdfast::proxy {

void Intercepted::Complete(uint64_t /*connection*/, uint64_t /*request*/, net::Answer answer) {
  if (!answer.first.empty()) pieces_.push_back(std::move(answer.first));
  std::move(answer.rest.begin(), answer.rest.end(), std::back_inserter(pieces_));
  if (answer.kind == net::Answer::Kind::kPart) return;
  const std::unique_ptr<Intercepted> self(this);
  switch (answer.kind) {
    case net::Answer::Kind::kSend:
    case net::Answer::Kind::kLast:  // Not of what passes through.
      return Send(look_(Body()));
    case net::Answer::Kind::kBody:
      return Send(look_(std::move(pieces_.front())));
    case net::Answer::Kind::kPart:
    case net::Answer::Kind::kNothing:
      if (reply_) reply_.SendNothing();
      return;
    case net::Answer::Kind::kClose:
      look_({});
      if (reply_) reply_.Close(std::move(answer.reason));
      return;
    case net::Answer::Kind::kLost:
      look_({});
      if (reply_) reply_.Close("a request was given up");
      return;
  }
}

base::Buffer Intercepted::Body() const {
  std::string whole;
  for (const base::Buffer& piece : pieces_) whole += piece.view();
  return base::Buffer::Copy(std::string_view(whole).substr(kafka::kLengthPrefixBytes));
}

void Intercepted::Send(base::Buffer body) {
  if (!reply_) return;
  if (body.empty()) return reply_.Close("an answer of the tier that cannot be read");
  reply_.SendBody(std::move(body));
}

base::Buffer WithoutLength(const base::Buffer& frame) {
  return base::Buffer::Copy(frame.view().substr(kafka::kLengthPrefixBytes));
}

}  // namespace holdfast::proxy
