// Every request and response that the Java client's own classes wrote (tools/golden), in every
// version: what is decoded encodes to the same bytes, and no part of it passes for the whole.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "base/endian.h"
#include "tests/golden/golden.h"
#include "tests/support/kafka_apis.h"

namespace holdfast::kafka {
namespace {

template <class Request>
base::Result<base::Buffer> RecodeRequest(std::string_view frame, int16_t version) {
  HF_ASSIGN_OR_RETURN(const RequestHeader header, ReadRequestHeader(frame));
  EXPECT_EQ(header.api_key, Request::kApi.key);
  EXPECT_EQ(header.api_version, version);
  EXPECT_EQ(header.correlation_id, kGoldenCorrelationId);
  EXPECT_EQ(header.client_id, kGoldenClientId);
  HF_ASSIGN_OR_RETURN(const Request request, DecodeRequest<Request>(frame, header));
  return EncodeRequest(request, version, header.correlation_id, header.client_id);
}

template <class Response>
base::Result<base::Buffer> RecodeResponse(std::string_view frame, int16_t version) {
  HF_ASSIGN_OR_RETURN(const int32_t correlation_id, ReadCorrelationId(frame));
  EXPECT_EQ(correlation_id, kGoldenCorrelationId);
  HF_ASSIGN_OR_RETURN(const Response response, DecodeResponse<Response>(frame, version));
  return EncodeResponse(response, version, correlation_id);
}

struct Message {
  Api api;
  const char* kind;
  base::Result<base::Buffer> (*recode)(std::string_view frame, int16_t version);

  [[nodiscard]] std::string name() const { return std::string(api.name) + kind; }
};
void PrintTo(const Message& message, std::ostream* out) { *out << message.name(); }

template <class... Requests>
std::vector<Message> MessagesOf(Apis<Requests...> /*apis*/) {
  std::vector<Message> messages;
  (messages.insert(messages.end(), {Message{Requests::kApi, "Request", &RecodeRequest<Requests>},
                                    Message{Requests::kApi, "Response",
                                            &RecodeResponse<typename Requests::Response>}}),
   ...);
  return messages;
}

class KafkaFramesTest : public testing::TestWithParam<Message> {};

TEST_P(KafkaFramesTest, EveryVersionEncodesToTheBytesItWasDecodedFrom) {
  std::set<std::pair<int16_t, std::string>> seen;
  for (const GoldenFrame& frame : ReadGolden(GetParam().name())) {
    SCOPED_TRACE("version " + std::to_string(frame.version) + ", " + frame.variant);
    seen.emplace(frame.version, frame.variant);
    const base::Result<base::Buffer> again = GetParam().recode(frame.bytes, frame.version);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(base::LoadBig<uint32_t>(again->data()), frame.bytes.size());
    EXPECT_EQ(again->view().substr(kLengthPrefixBytes), frame.bytes);
  }
  for (int16_t version = GetParam().api.oldest; version <= GetParam().api.newest; ++version) {
    for (const char* variant : {"full", "nulls", "empty"}) {
      EXPECT_TRUE(seen.contains({version, variant})) << "version " << version << ", " << variant;
    }
  }
}

TEST_P(KafkaFramesTest, NoBeginningOfAFramePassesForTheWhole) {
  for (const GoldenFrame& frame : ReadGolden(GetParam().name())) {
    for (size_t size = 0; size < frame.bytes.size(); ++size) {
      // A copy, so that a sanitizer sees any read past the end.
      const std::vector<char> part(frame.bytes.begin(),
                                   frame.bytes.begin() + static_cast<ptrdiff_t>(size));
      EXPECT_FALSE(GetParam().recode({part.data(), part.size()}, frame.version))
          << "version " << frame.version << ", " << frame.variant << ", first " << size << " of "
          << frame.bytes.size();
    }
  }
}

// Kafka ignores them in requests, and librdkafka 2.15 has sent some.
TEST_P(KafkaFramesTest, BytesBehindTheLastFieldAreIgnoredInRequestsAndRefusedInResponses) {
  const bool request = std::string_view(GetParam().kind) == "Request";
  for (const GoldenFrame& frame : ReadGolden(GetParam().name())) {
    SCOPED_TRACE("version " + std::to_string(frame.version) + ", " + frame.variant);
    const auto again = GetParam().recode(frame.bytes + '\0', frame.version);
    ASSERT_EQ(again.has_value(), request);
    if (!request) continue;
    EXPECT_EQ(again->view().substr(kLengthPrefixBytes), frame.bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(All, KafkaFramesTest, testing::ValuesIn(MessagesOf(AllApis())),
                         [](const auto& param) { return param.param.name(); });

}  // namespace
}  // namespace holdfast::kafka
