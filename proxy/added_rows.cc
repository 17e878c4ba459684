#include "proxy/added_rows.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/endian.h"
#include "kafka/codec.h"

namespace holdfast::proxy {
namespace {

using Kind = net::Answer::Kind;

// Lives until the answer's last part.
class AddedRows final : public net::ReplySink {
 public:
  AddedRows(net::Reply reply, kafka::FetchRows rows)
      : reply_(std::move(reply)), rows_(std::move(rows)) {}

  void Complete(uint64_t /*connection*/, uint64_t /*request*/, net::Answer answer) override {
    const std::unique_ptr<AddedRows> self(answer.kind == Kind::kPart ? nullptr : this);
    // It could not be read, or is of a client that has gone.
    if (!reply_) return;
    switch (answer.kind) {
      case Kind::kNothing:
        return reply_.SendNothing();
      case Kind::kClose:
        return reply_.Close(std::move(answer.reason));
      case Kind::kLost:
        return reply_.Close("a request was given up");
      case Kind::kSend:
      case Kind::kBody:
      case Kind::kPart:
      case Kind::kLast:
        break;
    }
    if (rows_ && !Add(answer)) return;
    if (answer.kind == Kind::kPart)
      return reply_.SendPart(std::move(answer.rest), std::move(answer.piped));
    reply_.Send(std::move(answer.rest));
  }

 private:
  // False: there is nothing to be sent yet, or any more.
  bool Add(net::Answer& answer) {
    if (answer.kind == Kind::kBody) {
      base::Buffer length(kafka::kLengthPrefixBytes);
      base::StoreBig(length.data(), static_cast<int32_t>(answer.first.size()));
      opening_ += length.view();
    }
    opening_ += answer.first.view();
    for (const base::Buffer& piece : answer.rest) opening_ += piece.view();
    const bool more_comes = answer.kind == Kind::kPart && answer.piped.bytes == 0;
    if (more_comes && opening_.size() < kafka::FetchRows::kOpeningBytes) return false;
    auto added = std::exchange(rows_, std::nullopt)->PutInto(opening_);
    opening_ = {};
    if (!added) {
      reply_.Close(added.error().message);
      return false;
    }
    answer.rest.clear();
    answer.rest.push_back(*std::move(added));
    return true;
  }

  net::Reply reply_;
  std::optional<kafka::FetchRows> rows_;  // Until they are added.
  std::string opening_;
};

}  // namespace

net::Reply WithRows(net::Reply reply, kafka::FetchRows rows) {
  return {new AddedRows(std::move(reply), std::move(rows)), 0, 0};
}

}  // namespace holdfast::proxy
