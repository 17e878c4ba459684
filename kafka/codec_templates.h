// The definitions of kafka/codec.h's templates. Only kafka/api/*.cc include it: each message is
// turned into code once, there.
#pragma once

#include "kafka/codec.h"
#include "kafka/wire.h"

namespace holdfast::kafka {

// Past the header's tagged fields, at the body.
Reader StartReadingRequest(std::string_view frame, const RequestHeader& header, const Api& api);
// `version` becomes 0 for an ApiVersions response of a server that knows no better.
Reader StartReadingResponse(std::string_view frame, const Api& api, int16_t& version);
base::Error CannotCarry(const Api& api, int16_t version);
base::Error CannotDecode(const char* what, const Api& api, int16_t version, const Reader& reader);

Writer StartRequest(const Api& api, int16_t version, int32_t correlation_id,
                    std::optional<std::string_view> client_id);
Writer StartResponse(const Api& api, int16_t version, int32_t correlation_id);
base::Buffer FinishFrame(Writer writer);

template <class Request>
base::Result<Request> DecodeRequest(std::string_view frame, const RequestHeader& header) {
  Request request;
  Reader reader = StartReadingRequest(frame, header, Request::kApi);
  reader.Struct(request);
  // What follows is ignored, as by Kafka: librdkafka 2.15 leaves three bytes behind a Metadata
  // request for all topics.
  if (!reader.ok()) {
    return base::Unexpected(CannotDecode("request", Request::kApi, header.api_version, reader));
  }
  return request;
}

template <class Request>
base::Result<base::Buffer> EncodeRequest(const Request& request, int16_t version,
                                         int32_t correlation_id,
                                         std::optional<std::string_view> client_id) {
  Writer writer = StartRequest(Request::kApi, version, correlation_id, client_id);
  writer.Struct(request);
  if (writer.lost()) return base::Unexpected(CannotCarry(Request::kApi, version));
  return FinishFrame(std::move(writer));
}

template <class Response>
base::Result<Response> DecodeResponse(std::string_view frame, int16_t version) {
  Response response;
  Reader reader = StartReadingResponse(frame, Response::kApi, version);
  reader.Struct(response);
  if (!reader.AtEnd()) {
    return base::Unexpected(CannotDecode("response", Response::kApi, version, reader));
  }
  return response;
}

template <class Response>
base::Buffer EncodeResponse(const Response& response, int16_t version, int32_t correlation_id) {
  Writer writer = StartResponse(Response::kApi, version, correlation_id);
  writer.Struct(response);
  return FinishFrame(std::move(writer));
}

template <class Response>
base::Buffer EncodeResponseAround(const Response& response, int16_t version, int32_t correlation_id,
                                  std::vector<Gap>* gaps) {
  Writer writer = StartResponse(Response::kApi, version, correlation_id);
  writer.LeaveGaps(gaps);
  writer.Struct(response);
  return FinishFrame(std::move(writer));
}

}  // namespace holdfast::kafka

#define HF_KAFKA_API(Name)                                                                         \
  template base::Result<Name##Request> DecodeRequest<Name##Request>(std::string_view,              \
                                                                    const RequestHeader&);         \
  template base::Result<base::Buffer> EncodeRequest<Name##Request>(                                \
      const Name##Request&, int16_t, int32_t, std::optional<std::string_view>);                    \
  template base::Result<Name##Response> DecodeResponse<Name##Response>(std::string_view, int16_t); \
  template base::Buffer EncodeResponse<Name##Response>(const Name##Response&, int16_t, int32_t)
