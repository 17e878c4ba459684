#include "kafka/dispatch.h"

#include <cstdint>

namespace holdfast::kafka {
namespace {

bool IsAlphanumeric(char c) {
  return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9');
}

// Kafka's rule for the names and versions that clients give of themselves.
bool IsSoftwareName(std::string_view text) {
  return !text.empty() && IsAlphanumeric(text.front()) && IsAlphanumeric(text.back()) &&
         std::ranges::all_of(text,
                             [](char c) { return IsAlphanumeric(c) || c == '-' || c == '.'; });
}

std::string Range(int16_t oldest, int16_t newest) {
  return std::to_string(oldest) + (oldest == newest ? "" : "-" + std::to_string(newest));
}

}  // namespace

Exchange::Exchange(base::Buffer frame, const RequestHeader& header,
                   std::shared_ptr<const Peer> peer, Reply reply)
    : frame_(std::move(frame)), header_(header), reply_(std::move(reply)) {
  HF_CHECK(peer != nullptr && reply_);
  caller_ = {std::move(peer), header.client_id.value_or(std::string_view()), header.api_version};
}

Exchange& Exchange::operator=(Exchange&& other) noexcept {
  if (this == &other) return *this;
  Abandon();
  frame_ = std::move(other.frame_);
  header_ = other.header_;
  caller_ = std::move(other.caller_);
  reply_ = std::move(other.reply_);
  throttle_ = other.throttle_;
  toll_ = std::move(other.toll_);
  return *this;
}

void Exchange::Send(base::Buffer response) {
  Finish({.kind = Answer::Kind::kFrame, .frame = std::move(response)});
}

void Exchange::Send(base::Buffer response, std::span<const Gap> gaps,
                    std::vector<std::vector<base::Buffer>> contents) {
  HF_CHECK(gaps.size() == contents.size());
  if (gaps.empty()) return Send(std::move(response));
  const std::string_view all = response.view();
  std::vector<base::Buffer> pieces;
  for (size_t i = 0; i < gaps.size(); ++i) {
    const size_t to = i + 1 < gaps.size() ? gaps[i + 1].at : all.size();
    size_t bytes = 0;
    for (base::Buffer& piece : contents[i]) {
      bytes += piece.size();
      pieces.push_back(std::move(piece));
    }
    HF_CHECK(bytes == gaps[i].bytes);
    if (to > gaps[i].at)
      pieces.push_back(base::Buffer::Copy(all.substr(gaps[i].at, to - gaps[i].at)));
  }
  response.Truncate(gaps.front().at);
  Finish({.kind = Answer::Kind::kFrame, .frame = std::move(response), .rest = std::move(pieces)});
}

void Exchange::SendNothing() { Finish({}); }

void Exchange::Close(std::string reason) {
  Finish({.kind = Answer::Kind::kClose, .reason = std::move(reason)});
}

base::Duration Exchange::Settle() {
  const base::Duration toll = toll_ ? std::exchange(toll_, {})() : base::Duration::zero();
  Throttle(toll);
  return toll;
}

void Exchange::Finish(Answer answer) {
  HF_CHECK(reply_);  // Answered before.
  answer.throttle = throttle_;
  std::exchange(reply_, Reply())(std::move(answer));
}

void Exchange::Abandon() {
  if (reply_) Close("a request was given up unanswered");
}

const Served* FindServed(std::span<const Served> table, int16_t api_key) {
  const auto key = [](const Served& served) { return served.api.key; };
  const auto found = std::ranges::lower_bound(table, api_key, {}, key);
  return found != table.end() && found->api.key == api_key ? &*found : nullptr;
}

ApiVersionsResponse PrintApiVersions(std::span<const Served> table) {
  ApiVersionsResponse response;
  response.api_keys.reserve(table.size());
  for (const Served& served : table) {
    response.api_keys.push_back({.api_key = served.api.key,
                                 .min_version = served.advertised_oldest,
                                 .max_version = served.newest});
  }
  return response;
}

base::Error CannotServe(const RequestHeader& header, const Served* served, const Peer& peer) {
  std::string message = "a client at " + peer.address;
  if (header.client_id) message += " (" + std::string(*header.client_id) + ")";
  message += " sent ";
  if (served == nullptr) {
    message += "a request of API " + std::to_string(header.api_key) + ", which is not served here";
  } else {
    message += std::string(served->api.name) + " version " + std::to_string(header.api_version) +
               ", served are " + Range(served->oldest, served->newest);
  }
  return {base::Code::kInvalid, std::move(message)};
}

base::Result<bool> ReadApiVersions(Exchange& exchange, std::shared_ptr<const Peer>& peer) {
  const Api& api = ApiVersionsRequest::kApi;
  const RequestHeader& header = exchange.header();
  if (header.api_version > api.newest) {
    // The client knows more than we do. The one answer that it can read is a version 0, from which
    // it takes the version to ask again with.
    ApiVersionsResponse response{.error_code = ErrorCode::kUnsupportedVersion};
    response.api_keys.push_back(
        {.api_key = api.key, .min_version = api.oldest, .max_version = api.newest});
    exchange.Send(EncodeResponse(response, 0, header.correlation_id));
    return false;
  }
  if (header.api_version < api.oldest) {
    exchange.Disown();
    return base::Unexpected(base::Code::kInvalid, "a client at " + peer->address +
                                                      " sent ApiVersions version " +
                                                      std::to_string(header.api_version));
  }
  const auto request = DecodeRequest<ApiVersionsRequest>(exchange.frame(), header);
  if (!request) {
    exchange.Disown();
    return base::Unexpected(request.error());
  }
  if (!api.Flexible(header.api_version)) return true;  // The client's software has no name yet.
  if (!IsSoftwareName(request->client_software_name) ||
      !IsSoftwareName(request->client_software_version)) {
    const ApiVersionsResponse response{.error_code = ErrorCode::kInvalidRequest};
    exchange.Send(EncodeResponse(response, header.api_version, header.correlation_id));
    return false;
  }
  Peer known = *peer;
  known.software_name = request->client_software_name;
  known.software_version = request->client_software_version;
  peer = std::make_shared<const Peer>(std::move(known));
  return true;
}

void SendApiVersions(Exchange& exchange, ApiVersionsResponse response) {
  const RequestHeader& header = exchange.header();
  if (header.api_version < 4) {
    // Java clients that speak these versions fail on a feature whose oldest version is 0
    // (KAFKA-17011).
    std::erase_if(response.supported_features, [](const auto& f) { return f.min_version == 0; });
  }
  exchange.Send(EncodeResponse(response, header.api_version, header.correlation_id));
}

std::string RenderApiTable(std::span<const Served> table) {
  std::string text =
      "| key | API | versions served | advertised | flexible from |\n"
      "| ---: | --- | --- | --- | --- |\n";
  for (const Served& served : table) {
    const Api& api = served.api;
    text += "| " + std::to_string(api.key) + " | " + std::string(api.name) + " | " +
            Range(served.oldest, served.newest) + " | " +
            Range(served.advertised_oldest, served.newest) + " | " +
            (api.flexible == kNever ? "never" : std::to_string(api.flexible)) + " |\n";
  }
  return text;
}

}  // namespace holdfast::kafka
