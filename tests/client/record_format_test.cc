#include "client/record_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace holdfast::client {
namespace {

using std::string_literals::operator""s;
using testing::HasSubstr;
using Use = RecordFormat::Use;

// Gives so many bytes at a time.
RecordInput InputOf(std::string text, size_t step = 3) {
  return RecordInput([text = std::move(text), at = size_t{0},
                      step](std::span<char> out) mutable -> base::Result<size_t> {
    const size_t size = std::min({step, out.size(), text.size() - at});
    std::memcpy(out.data(), text.data() + at, size);
    at += size;
    return size;
  });
}

// A person who has typed this, and thinks: nothing more comes.
RecordInput TypedSoFar(std::string text) {
  return RecordInput([text = std::move(text)](std::span<char> out) mutable -> base::Result<size_t> {
    if (text.empty()) return base::Unexpected(base::Code::kUnavailable, "it waits for more");
    std::memcpy(out.data(), text.data(), text.size());
    return std::exchange(text, "").size();
  });
}

std::vector<Record> ReadAll(const std::string& format, const std::string& text) {
  std::vector<Record> records;
  const auto parsed = RecordFormat::Parse(format, Use::kRead);
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message);
  if (!parsed) return records;
  RecordInput input = InputOf(text);
  while (true) {
    auto record = parsed->Read(input);
    EXPECT_TRUE(record) << (record ? "" : record.error().message);
    if (!record || !*record) return records;
    records.push_back(**record);
  }
}

std::string Refused(const std::string& format, const std::string& text) {
  const auto parsed = RecordFormat::Parse(format, Use::kRead);
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message);
  RecordInput input = InputOf(text);
  while (true) {
    auto record = parsed->Read(input);
    if (!record) return record.error().message;
    if (!*record) return "nothing was refused";
  }
}

std::string Printed(const std::string& format, const Message& message) {
  const auto parsed = RecordFormat::Parse(format, Use::kPrint);
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message);
  std::string out;
  if (parsed) parsed->Print(message, out);
  return out;
}

TEST(RecordFormat, ALineIsReadWhenItIsTyped) {
  for (const std::string line : {"text\n", "\n"}) {
    RecordInput input = TypedSoFar(line);
    const auto record = RecordFormat::Parse("%v\\n", Use::kRead)->Read(input);
    ASSERT_TRUE(record) << record.error().message;
    EXPECT_EQ((*record)->value, line.substr(0, line.size() - 1));
  }
}

TEST(RecordFormat, TakesANumberAsSoonAsItsEndWasTyped) {
  RecordInput input = TypedSoFar("12 a\n-1 b\n");
  const auto format = RecordFormat::Parse("%p %v\n", Use::kRead);
  for (const auto& [partition, value] : {std::pair(12, "a"), std::pair(-1, "b")}) {
    const auto record = format->Read(input);
    ASSERT_TRUE(record) << record.error().message;
    EXPECT_EQ((*record)->partition, partition);
    EXPECT_EQ((*record)->value, value);
  }
}

const Message kMessage{.topic = "orders",
                       .partition = 3,
                       .offset = 258,
                       .timestamp_ms = 1767225600000,
                       .key = "k\xff",
                       .value = "value",
                       .headers = {{"a", "1"}, {"b", std::nullopt}}};

TEST(RecordFormat, PrintsFields) {
  EXPECT_EQ(Printed("%t/%p@%o %d %v\\n", kMessage), "orders/3@258 1767225600000 value\n");
  EXPECT_EQ(Printed("%K %V %T %H", kMessage), "2 5 6 2");
  EXPECT_EQ(Printed("%h{%k=%v(%V) }|", kMessage), "a=1(1) b=(0) |");
  EXPECT_EQ(Printed("%k{hex} %k{base64} %v{hex}", kMessage), "6bff a/8= 76616c7565");
  EXPECT_EQ(Printed("%o{big16}%o{little32}%o{hex16}%p{big8}", kMessage),
            "\x01\x02\x02\x01\0\0"
            "0102\x03"s);
  EXPECT_EQ(Printed("100%% \\x41\\t\\\\%{%}", kMessage), "100% A\t\\{}");
  EXPECT_EQ(Printed("[%k][%v]", Message{}), "[][]");
}

TEST(RecordFormat, ReadsLines) {
  const auto records = ReadAll("%v\\n", "one\n\ntwo");
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[0].value, "one");
  EXPECT_EQ(records[1].value, "");
  EXPECT_EQ(records[2].value, "two");
  EXPECT_EQ(records[0].key, std::nullopt);
  EXPECT_TRUE(ReadAll("%v\\n", "").empty());
  EXPECT_EQ(ReadAll("%v", "all\nof it\n").front().value, "all\nof it\n");
}

TEST(RecordFormat, ReadsKeysHeadersAndTheRest) {
  const auto records =
      ReadAll("%t %p %d %H %h{%k=%v,}%k\\t%v\\n", "t 2 99 2 a=1,b=2,key\tvalue\nu 0 -1 0 \t\n");
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].topic, "t");
  EXPECT_EQ(records[0].partition, 2);
  EXPECT_EQ(records[0].timestamp_ms, 99);
  EXPECT_EQ(records[0].key, "key");
  EXPECT_EQ(records[0].value, "value");
  ASSERT_EQ(records[0].headers.size(), 2U);
  EXPECT_EQ(records[0].headers[1].key, "b");
  EXPECT_EQ(records[0].headers[1].value, "2");
  EXPECT_TRUE(records[1].headers.empty());
  EXPECT_EQ(records[1].key, "");
}

TEST(RecordFormat, ReadsBytesBySize) {
  const std::string value = "\0\n%\xff"s;
  const auto records =
      ReadAll("%K{big32}%k%V{little16}%v", "\0\0\0\2ab\4\0"s + value + "\0\0\0\0\0\0"s);
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].key, "ab");
  EXPECT_EQ(records[0].value, value);
  EXPECT_EQ(records[1].value, "");
  EXPECT_EQ(ReadAll("%V:%v", "3:a:b2:cd")[1].value, "cd");
  EXPECT_EQ(ReadAll("%v{hex}\\n", "00fF\n").front().value, "\0\xff"s);
  EXPECT_EQ(ReadAll("%v{base64}\\n", "a/8=\n").front().value, "k\xff");
  EXPECT_EQ(ReadAll("%p{hex16}%v\\n", "000fx\n").front().partition, 15);
}

TEST(RecordFormat, ReadsWhatItPrinted) {
  const std::string format =
      "%t %K{big64}%k%V{big64}%v%H{little32}%h{%K{big8}%k%V{big8}%v}%d{big64}";
  std::string printed;
  for (int i = 0; i < 1000; ++i) printed += Printed(format, kMessage);
  const auto records = ReadAll(format, printed);
  ASSERT_EQ(records.size(), 1000U);
  EXPECT_EQ(records.back().key, kMessage.key);
  EXPECT_EQ(records.back().value, kMessage.value);
  EXPECT_EQ(records.back().timestamp_ms, kMessage.timestamp_ms);
  EXPECT_EQ(records.back().headers.size(), 2U);
}

TEST(RecordFormat, FindsALongDelimiterAcrossReads) {
  const auto records = ReadAll("%v<--->", "a<---<--->b<-->c<--->");
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].value, "a<---");
  EXPECT_EQ(records[1].value, "b<-->c");
}

TEST(RecordFormat, SaysWhatDoesNotFitAndWhere) {
  EXPECT_THAT(Refused("%k\\t%v\\n", "a\tb\nc\n"), HasSubstr("the input ends before \"\\x09\""));
  EXPECT_THAT(Refused("%p %v\\n", "1 a\nx b\n"), HasSubstr("there is no number (at byte 4)"));
  EXPECT_THAT(Refused("%p %v\\n", "4294967297 x\n"), HasSubstr("4294967297 is no partition"));
  EXPECT_THAT(Refused("%p %v\\n", "-2 x\n"), HasSubstr("-2 is no partition"));
  EXPECT_THAT(Refused("%p{big32}%v\\n", "\x80\xff\xff\xffx\n"), HasSubstr("is no partition"));
  EXPECT_THAT(Refused("%V %v", "5 ab"), HasSubstr("the input ends within it"));
  EXPECT_THAT(Refused("%V %v", "-5 ab"), HasSubstr("-5 is no size"));
  EXPECT_THAT(Refused("%V{big64}%v", "\x7f\xff\xff\xff\xff\xff\xff\xff"), HasSubstr("is no size"));
  EXPECT_THAT(Refused("%V %v;", "1 ab"), HasSubstr("\";\" is not there"));
  EXPECT_THAT(Refused("%v{hex}\\n", "abc\n"), HasSubstr("\"abc\" is not hex"));
  EXPECT_THAT(Refused("%v{base64}\\n", "a b\n"), HasSubstr("is not base64"));
}

TEST(RecordFormat, SaysWhatIsWrongWithAFormat) {
  const auto wrong = [](std::string_view text, Use use = Use::kRead) {
    const auto parsed = RecordFormat::Parse(text, use);
    EXPECT_FALSE(parsed) << text;
    return parsed ? "" : parsed.error().message;
  };
  EXPECT_THAT(wrong(""), HasSubstr("is empty"));
  EXPECT_THAT(wrong("%"), HasSubstr("single %"));
  EXPECT_THAT(wrong("%q"), HasSubstr("%q, which is none of"));
  EXPECT_THAT(wrong("\\q"), HasSubstr("\\q, which is none of"));
  EXPECT_THAT(wrong("\\x4"), HasSubstr("two digits"));
  EXPECT_THAT(wrong("%v{"), HasSubstr("a { without a }"));
  EXPECT_THAT(wrong("%v{big32}"), HasSubstr("takes hex or base64"));
  EXPECT_THAT(wrong("%p{big24}"), HasSubstr("8, 16, 32 or 64"));
  EXPECT_THAT(wrong("%h%v\\n"), HasSubstr("%h without {...}"));
  EXPECT_THAT(wrong("%h{%k"), HasSubstr("inside %h{...}"));
  EXPECT_THAT(wrong("%h{%h{%k}}"), HasSubstr("headers inside headers"));
  EXPECT_THAT(wrong("%k%v\\n"), HasSubstr("where a key, value or topic ends"));
  EXPECT_THAT(wrong("%h{%k}%v\\n"), HasSubstr("where a key, value or topic ends"));
  EXPECT_THAT(wrong("%o %v\\n"), HasSubstr("has %o"));
  EXPECT_THAT(wrong("%K%k{hex}"), HasSubstr("a size for what is hex"));
  EXPECT_TRUE(RecordFormat::Parse("%k%v%o", Use::kPrint));
}

}  // namespace
}  // namespace holdfast::client
