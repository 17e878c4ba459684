#include "kafka/codec.h"

#include <algorithm>
#include <limits>
#include <string>

#include "kafka/api/api_versions.h"
#include "kafka/codec_templates.h"

namespace holdfast::kafka {
namespace {

constexpr int16_t kApiVersionsKey = ApiVersionsRequest::kApi.key;

// Header fields that nobody has defined yet.
void SkipTags(Reader& reader) {
  UnknownTags unknown;
  reader.Tags(unknown);
}

// An ApiVersions response must be readable before anything is known about its sender.
bool FlexibleResponseHeader(const Api& api, int16_t version) {
  return api.Flexible(version) && api.key != kApiVersionsKey;
}

}  // namespace

base::Result<RequestHeader> ReadRequestHeader(std::string_view frame) {
  Reader reader(frame);
  RequestHeader header;
  header.api_key = reader.Int<int16_t>();
  header.api_version = reader.Int<int16_t>();
  header.correlation_id = reader.Int<int32_t>();
  reader(header.client_id);
  if (!reader.ok()) {
    return base::Unexpected(base::Code::kInvalid,
                            std::string("a request's header is not readable: ") + reader.error());
  }
  header.size = reader.position();
  return header;
}

base::Result<int32_t> ReadCorrelationId(std::string_view frame) {
  if (frame.size() < sizeof(int32_t)) {
    return base::Unexpected(base::Code::kInvalid, "a response ends within its header");
  }
  return base::LoadBig<int32_t>(frame.data());
}

std::optional<int16_t> PickVersion(const Api& api, const ApiVersionsResponse& server, int16_t cap) {
  const auto offered =
      std::ranges::find(server.api_keys, api.key, &ApiVersionsResponse::ApiVersion::api_key);
  if (offered == server.api_keys.end()) return std::nullopt;
  const int16_t version = std::min({api.newest, offered->max_version, cap});
  if (version < api.oldest || version < offered->min_version) return std::nullopt;
  return version;
}

Reader StartReadingRequest(std::string_view frame, const RequestHeader& header, const Api& api) {
  HF_CHECK(api.key == header.api_key && api.Knows(header.api_version));
  Reader reader(frame, header.api_version, api.Flexible(header.api_version));
  reader.Take(header.size);
  SkipTags(reader);
  return reader;
}

Reader StartReadingResponse(std::string_view frame, const Api& api, int16_t& version) {
  HF_CHECK(api.Knows(version));
  if (api.key == kApiVersionsKey && frame.size() >= 6 &&
      base::LoadBig<int16_t>(frame.data() + 4) ==
          static_cast<int16_t>(ErrorCode::kUnsupportedVersion)) {
    version = 0;
  }
  Reader reader(frame, version, api.Flexible(version));
  // Metadata of all topics of a large cluster has millions, mostly the brokers of replicas. Of a
  // server, unlike of a client, they are taken.
  reader.AllowElements(std::max(kMaxElements, frame.size() / sizeof(int32_t)));
  reader.Int<int32_t>();
  if (FlexibleResponseHeader(api, version)) SkipTags(reader);
  return reader;
}

base::Error CannotCarry(const Api& api, int16_t version) {
  return {base::Code::kInvalid, std::string(api.name) + " version " + std::to_string(version) +
                                    " cannot carry all that the request asks for"};
}

base::Error CannotDecode(const char* what, const Api& api, int16_t version, const Reader& reader) {
  std::string message = std::string(api.name) + " " + what + " of version " +
                        std::to_string(version) + " cannot be decoded: ";
  message += reader.ok() ? "bytes are left over" : reader.error();
  message += ", at byte " + std::to_string(reader.position());
  return {base::Code::kInvalid, std::move(message)};
}

Writer StartRequest(const Api& api, int16_t version, int32_t correlation_id,
                    std::optional<std::string_view> client_id) {
  HF_CHECK(api.Knows(version));
  Writer writer(version, api.Flexible(version));
  writer.Int<int32_t>(0);
  writer.Int(api.key);
  writer.Int(version);
  writer.Int(correlation_id);
  writer.OldString(client_id);
  writer.Tags({});
  return writer;
}

Writer StartResponse(const Api& api, int16_t version, int32_t correlation_id) {
  HF_CHECK(api.Knows(version));
  Writer writer(version, api.Flexible(version));
  writer.Int<int32_t>(0);
  writer.Int(correlation_id);
  if (FlexibleResponseHeader(api, version)) writer.Tags({});
  return writer;
}

base::Buffer FinishFrame(Writer writer) {
  const size_t length = writer.size() + writer.gap_bytes() - kLengthPrefixBytes;
  HF_CHECK(length <= static_cast<size_t>(std::numeric_limits<int32_t>::max()));
  writer.PatchInt32(0, static_cast<int32_t>(length));
  return std::move(writer).Finish();
}

}  // namespace holdfast::kafka
