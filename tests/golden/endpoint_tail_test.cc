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

// An answer without topics, up to its tail.
std::string HeadOf(int16_t api_key) {
  // The correlation id, no tags, throttle time, error; a session id, or no message and a lock's
  // duration; no topics.
  const size_t zeros = 4 + 1 + 4 + 2 + (api_key == kFetchKey ? 4 : 1 + 4);
  return std::string(zeros, '\0') + '\x01';
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

TEST(EndpointTailTest, IsFoundInAnAnswerThatComesInPieces) {
  ForEachFrame([](int16_t api_key, const GoldenFrame& frame) {
    const auto whole = FindEndpointTail(api_key, frame.version, frame.bytes);
    ASSERT_TRUE(whole);
    for (size_t piece = 1; piece < frame.bytes.size(); piece += 1 + piece / 3) {
      EndpointTailFinder finder(api_key, frame.version);
      std::string tail;
      for (size_t at = 0; at < frame.bytes.size(); at += piece) {
        // A copy, so that a sanitizer sees any look at a piece that has gone.
        const std::string bytes = frame.bytes.substr(at, piece);
        const auto before = finder.Pass(bytes);
        ASSERT_TRUE(before) << before.error().message;
        tail += bytes.substr(*before);
      }
      const auto found = finder.Decode(tail);
      ASSERT_TRUE(found) << "pieces of " << piece << ": " << found.error().message;
      EXPECT_EQ(found->begin, whole->begin);
      EXPECT_EQ(tail, frame.bytes.substr(whole->begin));
      ASSERT_EQ(found->node_endpoints.size(), whole->node_endpoints.size());
    }
  });
}

TEST(EndpointTailTest, APieceThatIsNoAnswerIsRefused) {
  const std::string noise(200, '\xff');
  EXPECT_FALSE(EndpointTailFinder(kFetchKey, 17).Pass(noise));
  EndpointTailFinder short_of_the_end(kFetchKey, 17);
  ASSERT_TRUE(short_of_the_end.Pass(std::string(4, '\0')));
  EXPECT_FALSE(short_of_the_end.Decode(""));
}

TEST(EndpointTailTest, KeepsItsLengthWhateverTheAddresses) {
  for (const int16_t api_key : {kFetchKey, kShareFetchKey}) {
    for (const size_t endpoints : {1U, 3U}) {
      EndpointTail tail{.api_key = api_key};
      tail.unknown_tags.push_back({5, "five"});
      const std::string host(200, 'h');
      for (size_t i = 0; i < endpoints; ++i)
        tail.node_endpoints.push_back({.node_id = static_cast<int32_t>(i), .host = host});
      const size_t bytes = EncodeEndpointTail(tail).size();
      for (size_t shorter = 0; shorter <= host.size(); ++shorter) {
        EndpointTail changed = tail;
        changed.node_endpoints[0].host = std::string_view(host).substr(shorter);
        const auto end = EncodeEndpointTail(changed, bytes);
        ASSERT_TRUE(end) << shorter << ": " << end.error().message;
        ASSERT_EQ(end->size(), bytes) << shorter;
        const std::string frame = HeadOf(api_key) + std::string(end->view());
        const auto back = FindEndpointTail(api_key, 17, frame);
        ASSERT_TRUE(back) << shorter << ": " << back.error().message;
        // One byte is too little for a tagged field.
        EXPECT_EQ(back->node_endpoints.size(), shorter == 1 ? 0 : endpoints) << shorter;
        EXPECT_EQ(back->unknown_tags.at(0).bytes, "five");
      }
      EndpointTail longer = tail;
      longer.node_endpoints[0].rack = "a rack that there was no room for";
      EXPECT_EQ(EncodeEndpointTail(longer, bytes)->size(), bytes);
    }
  }
}

// A number of no tags that takes two bytes can be read, and a tail without any takes one or three.
TEST(EndpointTailTest, TellsOfALengthThatItCannotHave) {
  const std::string frame = HeadOf(kFetchKey) + std::string("\x80\0", 2);
  const auto tail = FindEndpointTail(kFetchKey, 17, frame);
  ASSERT_TRUE(tail) << tail.error().message;
  EXPECT_FALSE(EncodeEndpointTail(*tail, 2));
}

TEST(EndpointTailTest, OlderFetchAnswersHaveNone) {
  EXPECT_FALSE(HasEndpointTail(kFetchKey, 15));
  EXPECT_TRUE(HasEndpointTail(kFetchKey, 16));
  EXPECT_FALSE(HasEndpointTail(/*ListOffsets*/ 2, 11));
}

}  // namespace
}  // namespace holdfast::kafka
