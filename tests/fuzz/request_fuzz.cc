// Any bytes as a request frame, and as a response frame with the API's key and the version before
// it. What is decoded must encode, and from then on stay the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/endian.h"
#include "kafka/dispatch.h"
#include "kafka/endpoint_tail.h"
#include "tests/support/kafka_apis.h"

namespace {

using namespace holdfast;
using namespace holdfast::kafka;

template <class Request>
bool AsRequest(std::string_view frame, const RequestHeader& header) {
  if (header.api_key != Request::kApi.key || !Request::kApi.Knows(header.api_version)) return false;
  const base::Result<Request> request = DecodeRequest<Request>(frame, header);
  if (!request) return true;
  const auto encoded =
      EncodeRequest(*request, header.api_version, header.correlation_id, header.client_id);
  HF_CHECK(encoded);  // It came in this version, so it holds nothing that the version cannot carry.
  const std::string_view bytes = encoded->view().substr(kLengthPrefixBytes);
  const base::Result<RequestHeader> header_again = ReadRequestHeader(bytes);
  HF_CHECK(header_again);
  const base::Result<Request> again = DecodeRequest<Request>(bytes, *header_again);
  HF_CHECK(again);
  const auto encoded_again =
      EncodeRequest(*again, header.api_version, header.correlation_id, header.client_id);
  HF_CHECK(encoded_again && encoded_again->view() == encoded->view());
  return true;
}

template <class Response>
bool AsResponse(std::string_view frame, int16_t api_key, int16_t version) {
  if (api_key != Response::kApi.key || !Response::kApi.Knows(version)) return false;
  const base::Result<Response> response = DecodeResponse<Response>(frame, version);
  if (!response) return true;
  if constexpr (std::is_same_v<Response, ApiVersionsResponse>) {
    if (response->error_code == ErrorCode::kUnsupportedVersion) version = 0;
  }
  const base::Buffer encoded = EncodeResponse(*response, version, 1);
  const auto again = DecodeResponse<Response>(encoded.view().substr(kLengthPrefixBytes), version);
  HF_CHECK(again);
  HF_CHECK(EncodeResponse(*again, version, 1).view() == encoded.view());
  return true;
}

// What stands before the tail stays, and the tail made anew is found at the same place.
void AsAnswerWithTail(std::string_view frame, int16_t api_key, int16_t version) {
  if (!HasEndpointTail(api_key, version)) return;
  const base::Result<EndpointTail> tail = FindEndpointTail(api_key, version, frame);
  if (!tail) return;
  const std::string again =
      std::string(frame.substr(0, tail->begin)).append(EncodeEndpointTail(*tail).view());
  const base::Result<EndpointTail> tail_again = FindEndpointTail(api_key, version, again);
  HF_CHECK(tail_again && tail_again->begin == tail->begin &&
           tail_again->node_endpoints.size() == tail->node_endpoints.size());
}

template <class... Requests>
void AsAny(std::string_view bytes, Apis<Requests...> /*apis*/) {
  const base::Result<RequestHeader> header = ReadRequestHeader(bytes);
  if (header) (void)(AsRequest<Requests>(bytes, *header) || ...);
  if (bytes.size() < 4) return;
  const auto api_key = base::LoadBig<int16_t>(bytes.data());
  const auto version = base::LoadBig<int16_t>(bytes.data() + 2);
  (void)(AsResponse<typename Requests::Response>(bytes.substr(4), api_key, version) || ...);
  AsAnswerWithTail(bytes.substr(4), api_key, version);
}

struct Service {
  HeartbeatResponse Handle(const Caller& /*caller*/, const HeartbeatRequest& /*request*/) {
    return {};
  }
  void Handle(Call<ProduceRequest> call) { call.NoResponse(); }
};
constexpr RouteTable kRoutes(std::array{Bind<Service, HeartbeatRequest>(),
                                        Bind<Service, ProduceRequest>()});

// Whatever comes is either answered once or refused, never both.
void AsDispatched(std::string_view bytes) {
  Service service;
  auto peer = std::make_shared<const Peer>();
  int answers = 0;
  const base::Result<> served = kRoutes.Dispatch(service, peer, base::Buffer::Copy(bytes),
                                                 [&](const Answer& /*answer*/) { ++answers; });
  HF_CHECK(answers == (served ? 1 : 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  AsAny(bytes, AllApis());
  AsDispatched(bytes);
  return 0;
}
