// Whole frames from messages and back. A frame as it is read comes without its 4-byte length; a
// frame as it is made begins with it, ready for the socket.
//
//   Result<base::Buffer> frame = EncodeRequest(request, version, correlation_id, "holdfast");
//   Result<ProduceResponse> response = DecodeResponse<ProduceResponse>(answer.view(), version);
//
// Ownership: decoded messages borrow from the frame. Threads: any; nothing here has state.
// Limits: see kafka/wire.h. A version outside the message's Api is a broken invariant.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/result.h"
#include "kafka/message.h"

namespace holdfast::kafka {

inline constexpr size_t kLengthPrefixBytes = 4;

// What stands in front of every request, in every version of every API.
struct RequestHeader {
  int16_t api_key = 0;
  int16_t api_version = 0;
  int32_t correlation_id = 0;
  std::optional<std::string_view> client_id;
  size_t size = 0;  // Bytes read. The header's tagged fields, if the version is flexible, follow.
};

base::Result<RequestHeader> ReadRequestHeader(std::string_view frame);

// Of a response frame, whose other parts can be read only by who knows what was asked.
base::Result<int32_t> ReadCorrelationId(std::string_view frame);

// Requests and responses of kafka/api/ only. The request's version is the header's.
template <class Request>
base::Result<Request> DecodeRequest(std::string_view frame, const RequestHeader& header);
// kInvalid if the request sets a field that the version cannot carry, and leaving it out would
// change what is asked for.
template <class Request>
base::Result<base::Buffer> EncodeRequest(const Request& request, int16_t version,
                                         int32_t correlation_id,
                                         std::optional<std::string_view> client_id);

// A server that does not know the version of an ApiVersions request answers in version 0, with
// kUnsupportedVersion; that is decoded, too.
template <class Response>
base::Result<Response> DecodeResponse(std::string_view frame, int16_t version);
template <class Response>
base::Buffer EncodeResponse(const Response& response, int16_t version, int32_t correlation_id);
// The same without the contents of its fields of bytes, which whoever sends it has elsewhere: only
// their sizes are looked at. `gaps` says where they belong, in their order. For Fetch.
template <class Response>
base::Buffer EncodeResponseAround(const Response& response, int16_t version, int32_t correlation_id,
                                  std::vector<Gap>* gaps);

struct ApiVersionsResponse;

// The newest version of an API that both this codec and a server speak, not above `cap`.
std::optional<int16_t> PickVersion(const Api& api, const ApiVersionsResponse& server,
                                   int16_t cap = kNever);

}  // namespace holdfast::kafka
