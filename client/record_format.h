// How records are written to a stream and read from one, in a small language that people know from
// rpk and kcat:
//
//   %k %v       key and value; {hex} or {base64} behind them for bytes that are no text
//   %t          topic
//   %p %o %d    partition, offset, timestamp in milliseconds
//   %h{...}     for each header; in the braces, %k and %v are the header's own
//   %K %V %T %H the sizes of key, value and topic in bytes, and the number of headers
//   %%          a percent sign; %} a brace inside %h{...}
//   \n \t \r \0 \\ \xNN
//
// A number is decimal, or as {big8} {big16} {big32} {big64} {little8} ... {little64} says in bytes,
// or as {hex8} ... {hex64} in digits.
//
//   HF_ASSIGN_OR_RETURN(const auto format, RecordFormat::Parse("%k\t%v\n", Use::kRead));
//   HF_ASSIGN_OR_RETURN(auto record, format.Read(input));   // None: that was all.
//
// When it reads, what has a size in front (%K{big32}%k) takes as many bytes; without one it ends
// where the text that follows it in the format begins. Headers are as many as %H says in front, or
// one. Null and empty are the same: what the format does not have is null, the rest is not.
//
// Threads: any; a format is a value, an input belongs to one thread.
// Limits: kRecordBytesMax for one record.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "client/message.h"

namespace holdfast::client {

// As it is to be produced.
struct Record {
  std::optional<std::string> topic = {};
  std::optional<int32_t> partition = {};
  std::optional<int64_t> timestamp_ms = {};
  std::optional<std::string> key = {};
  std::optional<std::string> value = {};
  std::vector<Header> headers = {};
};

// Bytes that are read as they are asked for.
class RecordInput {
 public:
  // Fills some of it, and says how much; 0 is the end.
  using Source = std::function<base::Result<size_t>(std::span<char>)>;

  explicit RecordInput(Source source) : source_(std::move(source)) {}

  // What was read and not taken, at least `bytes` unless the input ends before.
  base::Result<std::string_view> Peek(size_t bytes);
  // Of what was peeked at.
  void Take(size_t bytes);
  [[nodiscard]] uint64_t taken() const { return taken_; }

 private:
  Source source_;
  std::string buffer_;
  size_t at_ = 0;
  uint64_t taken_ = 0;
  bool ended_ = false;
};

class RecordFormat {
 public:
  static constexpr size_t kRecordBytesMax = 104857600;

  enum class Use : uint8_t { kPrint, kRead };
  // kInvalid: what is wrong, and where. Reading takes less: its end must be seen, and the offset is
  // not for a producer to say.
  static base::Result<RecordFormat> Parse(std::string_view text, Use use);

  void Print(const Message& message, std::string& out) const;
  // None at the end. kInvalid: the input does not look as the format says.
  base::Result<std::optional<Record>> Read(RecordInput& input) const;

  enum class Field : uint8_t {
    kLiteral,
    kKey,
    kValue,
    kTopic,
    kKeySize,
    kValueSize,
    kTopicSize,
    kPartition,
    kOffset,
    kTimestamp,
    kHeaders,
    kHeaderCount,
  };
  // Besides headers' own keys and values.
  [[nodiscard]] bool Has(Field field) const;

  enum class Encoding : uint8_t { kPlain, kHex, kBase64, kBig, kLittle };
  struct Item {
    Field field = Field::kLiteral;
    Encoding encoding = Encoding::kPlain;
    size_t bytes = 0;        // Of a number that is not decimal.
    std::string literal;     // kLiteral.
    std::vector<Item> each;  // kHeaders.
  };

 private:
  explicit RecordFormat(std::vector<Item> items) : items_(std::move(items)) {}

  std::vector<Item> items_;
};

}  // namespace holdfast::client
