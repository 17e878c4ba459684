#include "client/record_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include "base/base64.h"
#include "base/hex.h"

namespace holdfast::client {
namespace {

using Field = RecordFormat::Field;
using Encoding = RecordFormat::Encoding;
using Item = RecordFormat::Item;
using Use = RecordFormat::Use;

constexpr size_t kReadBytes = size_t{64} << 10;

base::Error Wrong(std::string message) { return {base::Code::kInvalid, std::move(message)}; }

bool IsText(Field field) {
  return field == Field::kKey || field == Field::kValue || field == Field::kTopic;
}

// From the text of a format to its items.
class Parser {
 public:
  Parser(std::string_view text, Use use) : text_(text), use_(use) {}

  base::Result<std::vector<Item>> Run() {
    HF_ASSIGN_OR_RETURN(auto items, List(/*in_headers=*/false));
    if (items.empty()) return base::Unexpected(Failed("is empty"));
    if (use_ == Use::kRead) HF_RETURN_IF_ERROR(CheckReadable(items, /*in_headers=*/false));
    return items;
  }

 private:
  base::Result<std::vector<Item>> List(bool in_headers) {
    std::vector<Item> items;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '}' && in_headers) return items;
      if (c == '%') {
        HF_RETURN_IF_ERROR(Verb(in_headers, items));
      } else if (c == '\\') {
        HF_ASSIGN_OR_RETURN(const char escaped, Escape());
        AddLiteral(escaped, items);
      } else {
        AddLiteral(c, items);
      }
    }
    if (in_headers) return base::Unexpected(Failed("ends inside %h{...}"));
    return items;
  }

  base::Result<> Verb(bool in_headers, std::vector<Item>& items) {
    if (at_ == text_.size()) return base::Unexpected(Failed("ends with a single %: write %%"));
    const char verb = text_[at_++];
    if (verb == '%' || verb == '{' || verb == '}') {
      AddLiteral(verb, items);
      return {};
    }
    static constexpr std::array<std::pair<char, Field>, 11> kVerbs{{{'k', Field::kKey},
                                                                    {'v', Field::kValue},
                                                                    {'t', Field::kTopic},
                                                                    {'K', Field::kKeySize},
                                                                    {'V', Field::kValueSize},
                                                                    {'T', Field::kTopicSize},
                                                                    {'p', Field::kPartition},
                                                                    {'o', Field::kOffset},
                                                                    {'d', Field::kTimestamp},
                                                                    {'h', Field::kHeaders},
                                                                    {'H', Field::kHeaderCount}}};
    const auto* const found = std::ranges::find(kVerbs, verb, &std::pair<char, Field>::first);
    if (found == kVerbs.end())
      return base::Unexpected(Failed(
          fmt::format("has %{}, which is none of %k %v %t %p %o %d %h{{}} %K %V %T %H %%", verb)));
    Item item{.field = found->second};
    if (in_headers && (item.field == Field::kHeaders || item.field == Field::kHeaderCount))
      return base::Unexpected(Failed("has headers inside headers"));
    const bool braces = at_ < text_.size() && text_[at_] == '{';
    if (item.field == Field::kHeaders) {
      if (!braces) return base::Unexpected(Failed("has %h without {...}: write %h{%k=%v }"));
      ++at_;
      HF_ASSIGN_OR_RETURN(item.each, List(/*in_headers=*/true));
    } else if (braces) {
      ++at_;
      HF_RETURN_IF_ERROR(Modify(item));
    }
    items.push_back(std::move(item));
    return {};
  }

  base::Result<> Modify(Item& item) {
    const size_t end = text_.find('}', at_);
    if (end == std::string_view::npos) return base::Unexpected(Failed("has a { without a }"));
    std::string_view name = text_.substr(at_, end - at_);
    at_ = end + 1;
    const auto unknown = [&, name] {
      return Failed(fmt::format(
          "has {{{}}}, and {} takes {}", name,
          IsText(item.field) ? "a key, value or topic" : "a number",
          IsText(item.field) ? "hex or base64" : "big, little or hex with 8, 16, 32 or 64"));
    };
    if (IsText(item.field)) {
      if (name != "hex" && name != "base64") return base::Unexpected(unknown());
      item.encoding = name == "hex" ? Encoding::kHex : Encoding::kBase64;
      return {};
    }
    if (name == "ascii") return {};
    for (const auto& [prefix, encoding] :
         {std::pair("big", Encoding::kBig), std::pair("little", Encoding::kLittle),
          std::pair("hex", Encoding::kHex)}) {
      if (!name.starts_with(prefix)) continue;
      item.encoding = encoding;
      name.remove_prefix(std::string_view(prefix).size());
    }
    if (name == "8") item.bytes = 1;
    if (name == "16") item.bytes = 2;
    if (name == "32") item.bytes = 4;
    if (name == "64") item.bytes = 8;
    if (item.bytes == 0 || item.encoding == Encoding::kPlain) return base::Unexpected(unknown());
    return {};
  }

  base::Result<char> Escape() {
    if (at_ == text_.size()) return base::Unexpected(Failed("ends with a single \\: write \\\\"));
    switch (const char c = text_[at_++]; c) {
      case 'n':
        return '\n';
      case 't':
        return '\t';
      case 'r':
        return '\r';
      case '0':
        return '\0';
      case '\\':
        return '\\';
      case 'x': {
        const auto byte = base::FromHex(text_.substr(at_, std::min<size_t>(2, text_.size() - at_)));
        if (!byte || byte->empty())
          return base::Unexpected(Failed("has \\x without two digits after it"));
        at_ += 2;
        return byte->front();
      }
      default:
        return base::Unexpected(
            Failed(fmt::format("has \\{}, which is none of \\n \\t \\r \\0 \\\\ \\xNN", c)));
    }
  }

  static void AddLiteral(char c, std::vector<Item>& items) {
    if (items.empty() || items.back().field != Field::kLiteral) items.emplace_back();
    items.back().literal += c;
  }

  // Whether the end of everything can be seen in an input.
  base::Result<> CheckReadable(const std::vector<Item>& items, bool in_headers) {
    std::array<bool, 3> sized{};
    for (size_t i = 0; i < items.size(); ++i) {
      const Item& item = items[i];
      const bool last = i + 1 == items.size();
      switch (item.field) {
        case Field::kOffset:
          return base::Unexpected(Failed("has %o: the broker gives a record its offset"));
        case Field::kKeySize:
        case Field::kValueSize:
        case Field::kTopicSize:
          sized[static_cast<size_t>(item.field) - static_cast<size_t>(Field::kKeySize)] = true;
          break;
        case Field::kKey:
        case Field::kValue:
        case Field::kTopic: {
          const bool counted =
              sized[static_cast<size_t>(item.field) - static_cast<size_t>(Field::kKey)];
          if (counted && item.encoding != Encoding::kPlain)
            return base::Unexpected(Failed("has a size for what is hex or base64"));
          const bool ends = last ? !in_headers : items[i + 1].field == Field::kLiteral;
          if (!counted && !ends)
            return base::Unexpected(
                Failed("does not show where a key, value or topic ends: put text behind it, or its "
                       "size in front"));
          break;
        }
        case Field::kHeaders:
          HF_RETURN_IF_ERROR(CheckReadable(item.each, /*in_headers=*/true));
          break;
        default:
          break;
      }
    }
    return {};
  }

  [[nodiscard]] base::Error Failed(std::string_view what) const {
    return Wrong(fmt::format("the format \"{}\" {} (at character {})", text_, what, at_));
  }

  const std::string_view text_;
  const Use use_;
  size_t at_ = 0;
};

void PutText(const Item& item, const Bytes& bytes, std::string& out) {
  if (!bytes) return;
  if (item.encoding == Encoding::kHex) {
    out += base::ToHex(*bytes);
  } else if (item.encoding == Encoding::kBase64) {
    out += base::ToBase64(*bytes);
  } else {
    out += *bytes;
  }
}

void PutNumber(const Item& item, int64_t number, std::string& out) {
  if (item.encoding == Encoding::kPlain) {
    out += std::to_string(number);
    return;
  }
  std::string bytes;
  for (size_t i = 0; i < item.bytes; ++i)
    bytes += static_cast<char>(static_cast<uint64_t>(number) >> (8 * i));
  if (item.encoding != Encoding::kLittle) std::ranges::reverse(bytes);
  out += item.encoding == Encoding::kHex ? base::ToHex(bytes) : bytes;
}

int64_t SizeOf(const Bytes& bytes) { return static_cast<int64_t>(bytes.value_or("").size()); }

// Key and value are the record's or one header's.
void Put(const std::vector<Item>& items, const Message& message, const Bytes& key,
         const Bytes& value, std::string& out) {
  for (const Item& item : items) {
    switch (item.field) {
      case Field::kLiteral:
        out += item.literal;
        break;
      case Field::kKey:
        PutText(item, key, out);
        break;
      case Field::kValue:
        PutText(item, value, out);
        break;
      case Field::kTopic:
        PutText(item, message.topic, out);
        break;
      case Field::kKeySize:
        PutNumber(item, SizeOf(key), out);
        break;
      case Field::kValueSize:
        PutNumber(item, SizeOf(value), out);
        break;
      case Field::kTopicSize:
        PutNumber(item, SizeOf(message.topic), out);
        break;
      case Field::kPartition:
        PutNumber(item, message.partition, out);
        break;
      case Field::kOffset:
        PutNumber(item, message.offset, out);
        break;
      case Field::kTimestamp:
        PutNumber(item, message.timestamp_ms, out);
        break;
      case Field::kHeaderCount:
        PutNumber(item, static_cast<int64_t>(message.headers.size()), out);
        break;
      case Field::kHeaders:
        for (const Header& header : message.headers)
          Put(item.each, message, header.key, header.value ? Bytes(*header.value) : std::nullopt,
              out);
        break;
    }
  }
}

// One record of an input.
class Reading {
 public:
  explicit Reading(RecordInput& input) : input_(input) {}

  base::Result<> Run(const std::vector<Item>& items, Record& record) {
    Sizes sizes;
    for (size_t i = 0; i < items.size(); ++i) {
      const Item& item = items[i];
      const Item* const next = i + 1 < items.size() ? &items[i + 1] : nullptr;
      const bool at_end = i + 2 >= items.size();  // A last text may be missing.
      switch (item.field) {
        case Field::kLiteral:
          HF_RETURN_IF_ERROR(Literal(item.literal, next == nullptr));
          break;
        case Field::kKey: {
          HF_ASSIGN_OR_RETURN(record.key, Text(item, sizes.key, next, at_end));
          break;
        }
        case Field::kValue: {
          HF_ASSIGN_OR_RETURN(record.value, Text(item, sizes.value, next, at_end));
          break;
        }
        case Field::kTopic: {
          HF_ASSIGN_OR_RETURN(record.topic, Text(item, sizes.topic, next, at_end));
          break;
        }
        case Field::kPartition: {
          HF_ASSIGN_OR_RETURN(record.partition, PartitionOf(item));
          break;
        }
        case Field::kTimestamp: {
          HF_ASSIGN_OR_RETURN(record.timestamp_ms, Number(item));
          break;
        }
        case Field::kKeySize: {
          HF_ASSIGN_OR_RETURN(sizes.key, Size(item));
          break;
        }
        case Field::kValueSize: {
          HF_ASSIGN_OR_RETURN(sizes.value, Size(item));
          break;
        }
        case Field::kTopicSize: {
          HF_ASSIGN_OR_RETURN(sizes.topic, Size(item));
          break;
        }
        case Field::kHeaderCount: {
          HF_ASSIGN_OR_RETURN(sizes.headers, Size(item));
          break;
        }
        case Field::kHeaders:
          for (size_t left = sizes.headers.value_or(1); left > 0; --left) {
            Record header;
            HF_RETURN_IF_ERROR(Run(item.each, header));
            record.headers.push_back({header.key.value_or(""), std::move(header.value)});
          }
          break;
        case Field::kOffset:
          break;  // Parse does not let it through.
      }
    }
    return {};
  }

 private:
  struct Sizes {
    std::optional<size_t> key, value, topic, headers;
  };

  base::Result<> Literal(const std::string& literal, bool last) {
    HF_ASSIGN_OR_RETURN(const std::string_view there, Peek(literal.size()));
    if (last && there.empty()) return {};
    if (!there.starts_with(literal))
      return base::Unexpected(Failed(fmt::format("\"{}\" is not there", Shown(literal))));
    Take(literal.size());
    return {};
  }

  base::Result<std::string> Text(const Item& item, std::optional<size_t> size, const Item* next,
                                 bool last) {
    std::string text;
    if (size) {
      HF_ASSIGN_OR_RETURN(const std::string_view there, Peek(*size));
      if (there.size() < *size) return base::Unexpected(Failed("the input ends within it"));
      text = there.substr(0, *size);
      Take(*size);
    } else {
      HF_ASSIGN_OR_RETURN(text, Until(next == nullptr ? "" : next->literal, last));
    }
    if (item.encoding == Encoding::kPlain) return text;
    auto decoded = item.encoding == Encoding::kHex ? base::FromHex(text) : base::FromBase64(text);
    if (!decoded)
      return base::Unexpected(Failed(fmt::format(
          "\"{}\" is not {}", Shown(text), item.encoding == Encoding::kHex ? "hex" : "base64")));
    return *std::move(decoded);
  }

  // Takes what is before `end`, or everything if that is empty, or `last` and not there.
  base::Result<std::string> Until(std::string_view end, bool last) {
    size_t seen = 0;
    // No more than it needs: a person types a line, and waits for what becomes of it.
    size_t wanted = std::max<size_t>(end.size(), 1);
    while (true) {
      HF_ASSIGN_OR_RETURN(const std::string_view there, Peek(wanted));
      const size_t found = end.empty() ? std::string_view::npos : there.find(end, seen);
      if (found != std::string_view::npos || there.size() < wanted) {
        if (found == std::string_view::npos && !last && !end.empty())
          return base::Unexpected(Failed(fmt::format("the input ends before \"{}\"", Shown(end))));
        std::string text(there.substr(0, found));
        Take(text.size());
        return text;
      }
      seen = there.size() + 1 > end.size() ? there.size() + 1 - end.size() : 0;
      wanted = there.size() + 1;
    }
  }

  // As far as it takes to see where a decimal number ends, for a person may be typing.
  base::Result<std::string_view> PeekNumber() {
    constexpr size_t kDigitsMax = 20;  // Or a sign and one less.
    for (size_t wanted = 1;; ++wanted) {
      HF_ASSIGN_OR_RETURN(const std::string_view there, Peek(wanted));
      const size_t end = there.find_first_not_of("0123456789", there.starts_with('-') ? 1 : 0);
      if (end != std::string_view::npos || there.size() < wanted || wanted == kDigitsMax)
        return there;
    }
  }

  base::Result<int64_t> Number(const Item& item) {
    if (item.encoding == Encoding::kPlain) {
      HF_ASSIGN_OR_RETURN(const std::string_view there, PeekNumber());
      int64_t number = 0;
      const auto [rest, error] = std::from_chars(there.data(), there.data() + there.size(), number);
      if (error != std::errc()) return base::Unexpected(Failed("there is no number"));
      Take(static_cast<size_t>(rest - there.data()));
      return number;
    }
    const size_t size = item.encoding == Encoding::kHex ? item.bytes * 2 : item.bytes;
    HF_ASSIGN_OR_RETURN(const std::string_view there, Peek(size));
    std::optional<std::string> bytes(there.substr(0, size));
    if (item.encoding == Encoding::kHex) bytes = base::FromHex(*bytes);
    if (!bytes || bytes->size() != item.bytes)
      return base::Unexpected(Failed("there is no number"));
    if (item.encoding == Encoding::kLittle) std::ranges::reverse(*bytes);
    uint64_t number = 0;
    for (const char byte : *bytes) number = number << 8 | static_cast<unsigned char>(byte);
    Take(size);
    return static_cast<int64_t>(number);
  }

  // -1: any.
  base::Result<int32_t> PartitionOf(const Item& item) {
    HF_ASSIGN_OR_RETURN(int64_t number, Number(item));
    if (item.encoding != Encoding::kPlain && item.bytes == sizeof(int32_t))
      number = static_cast<int32_t>(number);
    if (number < -1 || number > std::numeric_limits<int32_t>::max())
      return base::Unexpected(Failed(fmt::format("{} is no partition", number)));
    return static_cast<int32_t>(number);
  }

  base::Result<size_t> Size(const Item& item) {
    HF_ASSIGN_OR_RETURN(const int64_t size, Number(item));
    if (size < 0 || static_cast<uint64_t>(size) > RecordFormat::kRecordBytesMax)
      return base::Unexpected(Failed(fmt::format("{} is no size", size)));
    return static_cast<size_t>(size);
  }

  base::Result<std::string_view> Peek(size_t bytes) {
    if (taken_ + bytes > RecordFormat::kRecordBytesMax)
      return base::Unexpected(
          Failed(fmt::format("it has more than {} bytes: does the format show "
                             "where a record ends?",
                             RecordFormat::kRecordBytesMax)));
    return input_.Peek(bytes);
  }
  void Take(size_t bytes) {
    taken_ += bytes;
    input_.Take(bytes);
  }

  static std::string Shown(std::string_view bytes) {
    std::string shown;
    for (const char c : bytes.substr(0, 40)) {
      if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) {
        shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      } else {
        shown += c;
      }
    }
    return shown;
  }

  [[nodiscard]] base::Error Failed(std::string_view what) const {
    return Wrong(
        fmt::format("the input is not as the format says: {} (at byte {})", what, input_.taken()));
  }

  RecordInput& input_;
  size_t taken_ = 0;
};

}  // namespace

base::Result<std::string_view> RecordInput::Peek(size_t bytes) {
  while (buffer_.size() - at_ < bytes && !ended_) {
    buffer_.erase(0, at_);
    at_ = 0;
    const size_t had = buffer_.size();
    buffer_.resize(had + kReadBytes);
    auto got = source_(std::span(buffer_).subspan(had));
    buffer_.resize(had + got.value_or(0));
    if (!got) return base::Unexpected(std::move(got).error());
    ended_ = *got == 0;
  }
  return std::string_view(buffer_).substr(at_);
}

void RecordInput::Take(size_t bytes) {
  at_ += bytes;
  taken_ += bytes;
}

base::Result<RecordFormat> RecordFormat::Parse(std::string_view text, Use use) {
  HF_ASSIGN_OR_RETURN(auto items, Parser(text, use).Run());
  return RecordFormat(std::move(items));
}

bool RecordFormat::Has(Field field) const {
  return std::ranges::find(items_, field, &Item::field) != items_.end();
}

void RecordFormat::Print(const Message& message, std::string& out) const {
  Put(items_, message, message.key, message.value, out);
}

base::Result<std::optional<Record>> RecordFormat::Read(RecordInput& input) const {
  HF_ASSIGN_OR_RETURN(const std::string_view there, input.Peek(1));
  if (there.empty()) return std::nullopt;
  Record record;
  HF_RETURN_IF_ERROR(Reading(input).Run(items_, record));
  return record;
}

}  // namespace holdfast::client
