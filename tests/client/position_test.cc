#include "client/position.h"

#include <gtest/gtest.h>

#include <limits>

namespace holdfast::client {
namespace {

using Kind = Position::Kind;

constexpr int64_t kNowMs = 1'767'225'600'000;  // 2026-01-01

Position Parsed(std::string_view text) {
  const auto position = ParsePosition(text, kNowMs);
  EXPECT_TRUE(position) << text;
  return position ? *position : Position{};
}

TEST(Position, IsAnEndAnOffsetOrAShift) {
  EXPECT_EQ(Parsed("start"), (Position{Kind::kStart, 0}));
  EXPECT_EQ(Parsed("beginning"), (Position{Kind::kStart, 0}));
  EXPECT_EQ(Parsed("end"), (Position{Kind::kEnd, 0}));
  EXPECT_EQ(Parsed("0"), (Position{Kind::kOffset, 0}));
  EXPECT_EQ(Parsed("9223372036854775807"), (Position{Kind::kOffset, 9223372036854775807}));
  EXPECT_EQ(Parsed("+10"), (Position{Kind::kShift, 10}));
  EXPECT_EQ(Parsed("-10"), (Position{Kind::kShift, -10}));
}

TEST(Position, IsATime) {
  EXPECT_EQ(Parsed("@1767225600000"), (Position{Kind::kTime, kNowMs}));
  EXPECT_EQ(Parsed("@1767225600"), (Position{Kind::kTime, kNowMs}));
  EXPECT_EQ(Parsed("@2026-01-01"), (Position{Kind::kTime, kNowMs}));
  EXPECT_EQ(Parsed("@2026-01-01T00:00:00Z"), (Position{Kind::kTime, kNowMs}));
  EXPECT_EQ(Parsed("@2024-02-29T23:59:59Z"), (Position{Kind::kTime, 1'709'251'199'000}));
  EXPECT_EQ(Parsed("@-90m"), (Position{Kind::kTime, kNowMs - 90 * 60'000}));
  EXPECT_EQ(Parsed("@-1d"), (Position{Kind::kTime, kNowMs - 86'400'000}));
}

TEST(Position, AShiftStaysWithinWhatIsThere) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  EXPECT_EQ(Shifted(5, 2, 3, 10), 7);
  EXPECT_EQ(Shifted(5, -1, 3, 10), 4);
  EXPECT_EQ(Shifted(5, 6, 3, 10), 10);
  EXPECT_EQ(Shifted(5, -6, 3, 10), 3);
  EXPECT_EQ(Shifted(5, kMax, 3, 10), 10);
  EXPECT_EQ(Shifted(5, kMin, 3, 10), 3);
  EXPECT_EQ(Shifted(-1, kMin, 3, 10), 3);
  EXPECT_EQ(Shifted(5, 1, 3, 2), 3);  // It was trimmed meanwhile.
}

TEST(Position, RefusesWhatIsNone) {
  for (const char* text :
       {"", "@", "latest", "-", "+", "1x", "--1", "+-1", "9223372036854775808", "@yesterday",
        "@2026-13-01", "@2026-02-29", "@2026-01-01T24:00:00Z", "@2026-01-01T12:00", "@-5", "@-m",
        "@-99999999999d", "@2026-01-01 ", "@2026-1-01"}) {
    const auto position = ParsePosition(text, kNowMs);
    ASSERT_FALSE(position) << text;
    EXPECT_EQ(position.error().code, base::Code::kInvalid);
    EXPECT_NE(position.error().message.find("write start, end"), std::string::npos);
  }
}

}  // namespace
}  // namespace holdfast::client
