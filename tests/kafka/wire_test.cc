// The codec's own rules, on a message made for the purpose. That they are Kafka's is shown by
// tests/golden, from bytes that others wrote.
#include "kafka/wire.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast::kafka {
namespace {

using std::string_literals::operator""s;

struct Sample {
  struct Part {
    int32_t id = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.id);
      wire.Tags(m.unknown_tags);
    }
    bool operator==(const Part&) const = default;
  };

  std::string_view name;
  std::optional<std::string_view> note;
  std::vector<Part> parts;
  std::optional<std::vector<int32_t>> numbers;
  std::optional<std::string_view> blob;
  bool late = false;
  int32_t harmless = 7;
  Part tagged;
  int64_t mark = -1;
  UnknownTags unknown_tags;

  // Version 2 is the first flexible one.
  static void Fields(auto& wire, auto& m) {
    wire(m.name, {.last = 2});
    wire(m.note, {.nullable_since = 1});
    wire(m.parts);
    wire(m.numbers, {.nullable_since = 1});
    wire.Bytes(m.blob, {.nullable_since = 1});
    wire(m.late, {.since = 1});
    wire(m.harmless, {.since = 1, .ignorable = true});
    wire.Tags(m.unknown_tags, Tag(3, m.tagged), Tag(5, m.mark, {.since = 3}));
  }
};

bool Flexible(int16_t version) { return version >= 2; }

std::string Encode(const Sample& sample, int16_t version) {
  Writer writer(version, Flexible(version));
  writer.Struct(sample);
  return std::string(writer.written());
}

// What Decode found; views borrow from `bytes`.
struct Decoded {
  Sample sample;
  bool complete = false;
  const char* error = nullptr;
};
Decoded Decode(std::string_view bytes, int16_t version) {
  Decoded decoded;
  Reader reader(bytes, version, Flexible(version));
  reader.Struct(decoded.sample);
  decoded.complete = reader.AtEnd();
  decoded.error = reader.error();
  return decoded;
}

bool Loses(const Sample& sample, int16_t version) {
  Writer writer(version, Flexible(version));
  writer.Struct(sample);
  return writer.lost();
}

// name, note, parts, numbers and blob, all empty, as flexible versions have them.
const std::string kEmptyFlexible = "\1\1\1\1\1"s;
const std::string kLateAndHarmless = "\0\0\0\0\7"s;

TEST(WireTest, OldVersionsHaveWideLengthsAndNoTags) {
  Sample sample{.name = "ab", .note = "c", .parts = {{.id = 258}}, .numbers = {{1}}, .blob = "de"};
  EXPECT_EQ(Encode(sample, 0),
            "\0\2ab"
            "\0\1c"
            "\0\0\0\1\0\0\1\2"
            "\0\0\0\1\0\0\0\1"
            "\0\0\0\2de"s);
  sample.note.reset();
  sample.numbers.reset();
  sample.blob.reset();
  EXPECT_EQ(Encode(sample, 1),
            "\0\2ab"
            "\xff\xff"
            "\0\0\0\1\0\0\1\2"
            "\xff\xff\xff\xff"
            "\xff\xff\xff\xff"
            "\0"
            "\0\0\0\7"s);
}

TEST(WireTest, FlexibleVersionsHaveCompactLengthsAndTagsBehindEveryStruct) {
  const Sample sample{.name = "ab", .parts = {{.id = 258}}, .late = true};
  EXPECT_EQ(Encode(sample, 2), "\3ab\0\2\0\0\1\2\0\0\0\1\0\0\0\7\0"s);
}

TEST(WireTest, LengthsOf128AndMoreTakeTwoBytes) {
  const std::string name(127, 'x');
  const std::string bytes = Encode({.name = name}, 2);
  EXPECT_EQ(bytes.substr(0, 3), "\x80\1x");
  EXPECT_EQ(Decode(bytes, 2).sample.name, name);
}

TEST(WireTest, TaggedFieldsWithTheirDefaultAreLeftOut) {
  EXPECT_EQ(Encode({.note = "", .numbers = {{}}, .blob = ""}, 2),
            kEmptyFlexible + kLateAndHarmless + "\0"s);
  EXPECT_EQ(Encode({.note = "", .numbers = {{}}, .blob = "", .tagged = {.id = 1}}, 2),
            kEmptyFlexible + kLateAndHarmless + "\1\3\5\0\0\0\1\0"s);
}

TEST(WireTest, UnknownTagsKeepTheirPlaceAmongKnownOnes) {
  const std::string bytes = kEmptyFlexible + kLateAndHarmless +
                            "\4"
                            "\0\1a"           // 0, unknown
                            "\3\5\0\0\0\1\0"  // 3, known
                            "\4\0"            // 4, unknown and empty
                            "\x80\1\1b"s;     // 128, unknown
  const Decoded decoded = Decode(bytes, 2);
  ASSERT_TRUE(decoded.complete) << decoded.error;
  EXPECT_EQ(decoded.sample.unknown_tags, (UnknownTags{{0, "a"}, {4, ""}, {128, "b"}}));
  EXPECT_EQ(decoded.sample.tagged.id, 1);
  EXPECT_EQ(Encode(decoded.sample, 2), bytes);
}

TEST(WireTest, ATagFromALaterVersionIsKeptAsUnknown) {
  const std::string bytes = kEmptyFlexible + kLateAndHarmless + "\1\5\x8\0\0\0\0\0\0\0\x9"s;
  const Decoded decoded = Decode(bytes, 2);
  ASSERT_TRUE(decoded.complete) << decoded.error;
  EXPECT_EQ(decoded.sample.mark, -1);
  EXPECT_EQ(decoded.sample.unknown_tags.size(), 1);
  EXPECT_EQ(Encode(decoded.sample, 2), bytes);
}

TEST(WireTest, TagSectionsThatMakeNoSenseAreRefused) {
  const std::string before = kEmptyFlexible + kLateAndHarmless;
  const struct {
    const char* what;
    std::string tags;
  } rows[] = {
      {"the same tag twice", "\2\1\0\1\0"s},
      {"tags that go down", "\2\2\0\1\0"s},
      {"more tags than bytes", "\xff\xff\xff\xff\xf"s},
      {"a tag longer than the message", "\1\7\x7f"s},
      {"a known tag that is too short", "\1\3\4\0\0\0\1"s},
      {"a known tag that is too long", "\1\3\6\0\0\0\1\0\0"s},
  };
  for (const auto& row : rows) EXPECT_FALSE(Decode(before + row.tags, 2).complete) << row.what;
}

TEST(WireTest, LengthsThatMakeNoSenseAreRefused) {
  const std::string never_null = "a field that is never null is null";
  const struct {
    const char* what;
    int16_t version;
    std::string bytes;
    std::string error;
  } rows[] = {
      {"a string of -2 bytes", 1, "\xff\xfe"s, "a string has a negative length"},
      {"a null name", 1, "\xff\xff"s, never_null},
      {"a null name, compact", 2, "\0"s, never_null},
      {"a null note before it may be null", 0, "\0\0\xff\xff"s, never_null},
      {"a string of more than 32767 bytes", 2, "\x81\x80\2"s + std::string(32768, 'x'),
       "a string is longer than 32767 bytes"},
      {"an array of 2147483647", 1, "\0\0\0\0\x7f\xff\xff\xff"s + std::string(100, '\0'),
       "an array is longer than the message"},
      {"an array of 4294967294, compact", 2, "\1\1\xff\xff\xff\xff\xf"s,
       "an array is longer than the message"},
      {"an array of -2", 1, "\0\0\0\0\xff\xff\xff\xfe"s,
       "an array or a byte field has a negative length"},
      {"a null array that is never null", 1, "\0\0\0\0\xff\xff\xff\xff"s,
       "an array that is never null is null"},
      {"a null array before it may be null", 0, "\0\0\0\0\0\0\0\0\xff\xff\xff\xff"s,
       "an array that is never null in this version is null"},
      {"null bytes before they may be null", 0, "\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff"s,
       never_null},
      {"a length of more than 32 bits", 2, "\xff\xff\xff\xff\x1f"s,
       "a variable-length integer has more than 32 bits"},
      {"a length that never ends", 2, "\x80\x80\x80\x80\x80\x80\x80"s,
       "a variable-length integer has more than 32 bits"},
  };
  for (const auto& row : rows) {
    const Decoded decoded = Decode(row.bytes, row.version);
    EXPECT_FALSE(decoded.complete) << row.what;
    EXPECT_EQ(decoded.error != nullptr ? decoded.error : "none", row.error) << row.what;
  }
}

TEST(WireTest, AMessageHasABoundedNumberOfArrayElements) {
  // 5 bytes each, so an array of numbers with as many bytes could announce five times as many
  // elements.
  std::string bytes = "\1\1"s;
  const size_t count = kMaxElements + 1;
  for (size_t rest = count + 1; rest > 0; rest >>= 7) {
    bytes.push_back(static_cast<char>((rest & 0x7f) | (rest >= 0x80 ? 0x80 : 0)));
  }
  bytes += std::string(5 * count, '\0');
  const Decoded decoded = Decode(bytes, 2);
  EXPECT_FALSE(decoded.complete);
  EXPECT_STREQ(decoded.error, "it has too many array elements");
}

TEST(WireTest, AfterAShortReadEverythingIsZeroAndTheFirstErrorStays) {
  const std::string bytes = "\0\0\1"s;
  Reader reader(bytes);
  EXPECT_EQ(reader.Int<int32_t>(), 0);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.position(), 0);
  EXPECT_EQ(reader.Int<int8_t>(), 0);
  EXPECT_EQ(reader.Take(1), "");
  EXPECT_EQ(reader.UnsignedVarint(), 0);
  EXPECT_FALSE(reader.AtEnd());
  EXPECT_STREQ(reader.error(), "it ends too early");
}

TEST(WireTest, TheErrorTellsHowFarReadingHadCome) {
  const std::string bytes = "\0\1a\xff\xfe"s;
  Reader reader(bytes);
  std::string_view text;
  reader(text);
  reader(text);
  EXPECT_EQ(reader.position(), 5);
  EXPECT_STREQ(reader.error(), "a string has a negative length");
}

TEST(WireTest, UnsignedVarintsAreReadUpTo32Bits) {
  const std::string bytes = "\0\x7f\x80\1\xff\xff\xff\xff\xf"s;
  Reader reader(bytes);
  EXPECT_EQ(reader.UnsignedVarint(), 0u);
  EXPECT_EQ(reader.UnsignedVarint(), 127u);
  EXPECT_EQ(reader.UnsignedVarint(), 128u);
  EXPECT_EQ(reader.UnsignedVarint(), 0xffffffffu);
  EXPECT_TRUE(reader.AtEnd());
}

TEST(WireTest, WhatAVersionCannotCarryIsLostUnlessHarmlessOrDefault) {
  const Sample plain{.note = "", .numbers = {{}}, .blob = ""};
  EXPECT_FALSE(Loses(plain, 0));

  Sample sample = plain;
  sample.late = true;
  EXPECT_TRUE(Loses(sample, 0));
  EXPECT_FALSE(Loses(sample, 1));

  sample = plain;
  sample.harmless = 8;
  EXPECT_FALSE(Loses(sample, 0));

  sample = plain;
  sample.name = "removed in version 3";
  EXPECT_FALSE(Loses(sample, 2));
  EXPECT_TRUE(Loses(sample, 3));

  sample = plain;
  sample.tagged.id = 1;
  EXPECT_TRUE(Loses(sample, 1));
  EXPECT_FALSE(Loses(sample, 2));

  sample = plain;
  sample.mark = 1;
  EXPECT_TRUE(Loses(sample, 2));
  EXPECT_FALSE(Loses(sample, 3));
}

TEST(WireTest, NullBecomesEmptyWhereTheVersionHasNoNull) {
  EXPECT_TRUE(Loses({}, 0));
  const std::string bytes = Encode({}, 0);
  const Decoded decoded = Decode(bytes, 0);
  ASSERT_TRUE(decoded.complete) << decoded.error;
  EXPECT_EQ(decoded.sample.note, "");
  EXPECT_EQ(decoded.sample.blob, "");
  ASSERT_TRUE(decoded.sample.numbers);
  EXPECT_TRUE(decoded.sample.numbers->empty());
}

TEST(WireTest, AStringIsCutWhereKafkaWouldNotReadOn) {
  const std::string text(40000, 'x');
  EXPECT_TRUE(Loses({.name = text}, 2));
  const std::string bytes = Encode({.name = text}, 2);
  const Decoded decoded = Decode(bytes, 2);
  ASSERT_TRUE(decoded.complete) << decoded.error;
  EXPECT_EQ(decoded.sample.name.size(), kMaxStringBytes);
}

TEST(WireTest, WhatIsFinishedHoldsTheBytesWrittenAndNoMore) {
  Writer writer;
  writer.Int<int32_t>(0);
  const std::string text(1000, 'x');
  writer.Raw(text);
  writer.PatchInt32(0, 1000);
  const base::Buffer buffer = std::move(writer).Finish();
  EXPECT_EQ(buffer.view(), "\0\0\x3\xe8"s + text);
}

TEST(MessageTest, KeptStringsStayInPlaceWhenTheMessageMoves) {
  struct Holder {
    std::string_view view;
    Strings strings;
  };
  Holder holder;
  holder.view = holder.strings.Keep("short");
  const char* const place = holder.view.data();
  for (int i = 0; i < 100; ++i) holder.strings.Keep("another");
  const Holder moved = std::move(holder);
  EXPECT_EQ(moved.view.data(), place);
  EXPECT_EQ(moved.view, "short");
}

TEST(MessageTest, UuidsAreShownAsKafkaShowsThem) {
  Uuid id;
  EXPECT_TRUE(id.IsZero());
  EXPECT_EQ(id.ToString(), "AAAAAAAAAAAAAAAAAAAAAA");
  id.bytes[15] = 1;
  EXPECT_FALSE(id.IsZero());
  EXPECT_EQ(id.ToString(), "AAAAAAAAAAAAAAAAAAAAAQ");
  id.bytes.fill(0xff);
  EXPECT_EQ(id.ToString(), "_____________________w");
}

TEST(ErrorCodeTest, NamesAndRetriesAreKafkas) {
  EXPECT_EQ(ErrorName(ErrorCode::kUnknownServerError), "UNKNOWN_SERVER_ERROR");
  EXPECT_EQ(ErrorName(ErrorCode::kNone), "NONE");
  EXPECT_EQ(ErrorName(ErrorCode::kNotLeaderOrFollower), "NOT_LEADER_OR_FOLLOWER");
  EXPECT_EQ(ErrorName(static_cast<ErrorCode>(133)), "SHARE_SESSION_LIMIT_REACHED");
  EXPECT_EQ(ErrorName(static_cast<ErrorCode>(134)), "UNKNOWN_ERROR_CODE");
  EXPECT_EQ(ErrorName(static_cast<ErrorCode>(-2)), "UNKNOWN_ERROR_CODE");
  EXPECT_TRUE(Retriable(ErrorCode::kNotEnoughReplicas));
  EXPECT_FALSE(NeedsMetadataRefresh(ErrorCode::kNotEnoughReplicas));
  EXPECT_TRUE(NeedsMetadataRefresh(ErrorCode::kNotLeaderOrFollower));
  EXPECT_FALSE(Retriable(ErrorCode::kMessageTooLarge));
}

}  // namespace
}  // namespace holdfast::kafka
