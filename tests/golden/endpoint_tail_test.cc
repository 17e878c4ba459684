// The addresses at the end of answers full of records, found in frames that Java's classes wrote.
#include "kafka/endpoint_tail.h"

#include <gtest/gtest.h>

#include "kafka/codec.h"
#include "tests/golden/golden.h"

namespace holdfast::kafka {
namespace {

constexpr int16_t kFetchKey = FetchRequest::kApi.key;

void ForEachFrame(auto visit) {
  const std::vector<std::pair<std::string_view, int16_t>> messages{
      {"FetchResponse", kFetchKey},
      {"ShareFetchResponse", kShareFetchKey},
      {"ShareAcknowledgeResponse", kShareAcknowledgeKey}};
  for (const auto& [message, api_key] : messages) {
    int frames = 0;
    for (const GoldenFrame& frame : ReadGolden(message)) {
      if (!HasEndpointTail(api_key, frame.version)) continue;
      SCOPED_TRACE(testing::Message() << message << " v" << frame.version << " " << frame.variant);
      ++frames;
      visit(api_key, frame);
    }
    EXPECT_GE(frames, 6) << message;
  }
}

TEST(EndpointTailTest, EndsEachFrameAndEncodesToTheSameBytes) {
  ForEachFrame([](int16_t api_key, const GoldenFrame& frame) {
    const auto tail = FindEndpointTail(api_key, frame.version, frame.bytes);
    ASSERT_TRUE(tail) << tail.error().message;
    EXPECT_EQ(EncodeEndpointTail(*tail).view(), frame.bytes.substr(tail->begin));
    // Fetch has them in a tagged field, which only these variants set.
    const bool filled = frame.variant == "full" || frame.variant == "unknown_tags";
    if (filled || api_key == kFetchKey) {
      EXPECT_EQ(!tail->node_endpoints.empty(), filled);
    }
    for (const auto& endpoint : tail->node_endpoints) EXPECT_FALSE(endpoint.host.empty());
    if (api_key != kFetchKey) return;
    const auto whole = DecodeResponse<FetchResponse>(frame.bytes, frame.version);
    ASSERT_TRUE(whole);
    ASSERT_EQ(whole->node_endpoints.size(), tail->node_endpoints.size());
    for (size_t i = 0; i < tail->node_endpoints.size(); ++i) {
      EXPECT_EQ(whole->node_endpoints[i].host, tail->node_endpoints[i].host);
    }
  });
}

TEST(EndpointTailTest, NoPartOfAFramePassesForTheWhole) {
  ForEachFrame([](int16_t api_key, const GoldenFrame& frame) {
    for (size_t size = 0; size < frame.bytes.size(); ++size) {
      // A copy, so that a sanitizer sees any read past the end.
      const std::vector<char> part(frame.bytes.begin(),
                                   frame.bytes.begin() + static_cast<ptrdiff_t>(size));
      EXPECT_FALSE(FindEndpointTail(api_key, frame.version, {part.data(), part.size()})) << size;
    }
    EXPECT_FALSE(FindEndpointTail(api_key, frame.version, frame.bytes + "x"));
  });
}

TEST(EndpointTailTest, OlderFetchAnswersHaveNone) {
  EXPECT_FALSE(HasEndpointTail(kFetchKey, 15));
  EXPECT_TRUE(HasEndpointTail(kFetchKey, 16));
  EXPECT_FALSE(HasEndpointTail(/*ListOffsets*/ 2, 11));
}

}  // namespace
}  // namespace holdfast::kafka
