#include "kafka/record_reader.h"

#include "kafka/varint.h"

namespace holdfast::kafka {
namespace {

// The body of one record. After the first read past the end every read yields zero.
class Body {
 public:
  explicit Body(std::string_view bytes) : rest_(bytes) {}

  int64_t Number() {
    const std::optional<int64_t> value = TakeVarint(&rest_);
    if (!value) Break();
    return value.value_or(0);
  }
  std::string_view Bytes(int64_t length) {
    if (length < 0 || static_cast<uint64_t>(length) > rest_.size()) {
      Break();
      return {};
    }
    const std::string_view bytes = rest_.substr(0, static_cast<size_t>(length));
    rest_.remove_prefix(bytes.size());
    return bytes;
  }
  // -1 stands for null.
  std::optional<std::string_view> NullableBytes() {
    const int64_t length = Number();
    if (length == -1) return std::nullopt;
    return Bytes(length);
  }
  [[nodiscard]] size_t left() const { return rest_.size(); }
  void Break() {
    ok_ = false;
    rest_ = {};
  }
  [[nodiscard]] bool AtEnd() const { return ok_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

void ReadHeaders(Body* body, std::vector<RecordHeader>* headers) {
  headers->clear();
  const int64_t count = body->Number();
  // Each takes two bytes at least.
  if (count < 0 || static_cast<uint64_t>(count) > body->left() / 2) {
    body->Break();
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t key_length = body->Number();
    const std::string_view key = body->Bytes(key_length);
    headers->push_back({key, body->NullableBytes()});
  }
}

}  // namespace

base::Result<UncompressedRecords> UncompressedRecords::Of(const RecordBatchView& batch,
                                                          size_t limit,
                                                          DecompressionBudget* budget) {
  UncompressedRecords records;
  const Codec codec = batch.header().codec();
  if (codec == Codec::kNone) {
    records.borrowed_ = batch.payload();
  } else if (budget != nullptr) {
    HF_ASSIGN_OR_RETURN(records.owned_, budget->Decompress(codec, batch.payload(), limit));
  } else {
    HF_ASSIGN_OR_RETURN(records.owned_, Decompress(codec, batch.payload(), limit));
  }
  return records;
}

bool RecordReader::Fail(std::string_view what) {
  damage_ = "record " + std::to_string(count_) + " of " + std::to_string(header_.record_count) +
            ": " + std::string(what);
  return false;
}

bool RecordReader::Next(Record* record) {
  if (!damage_.empty()) return false;
  if (count_ >= header_.record_count) {
    return rest_.empty() ? false : Fail("bytes are left behind the last one");
  }
  const std::optional<int64_t> length = TakeVarint(&rest_);
  if (!length || *length < 0 || static_cast<uint64_t>(*length) > rest_.size()) {
    return Fail("is cut off");
  }
  Body body(rest_.substr(0, static_cast<size_t>(*length)));
  body.Bytes(1);  // Attributes: no bit has a meaning yet.
  const int64_t timestamp_delta = body.Number();
  record->timestamp = header_.log_append_time()
                          ? header_.max_timestamp
                          : WrappingAdd(header_.base_timestamp, timestamp_delta);
  record->offset = WrappingAdd(header_.base_offset, body.Number());
  record->key = body.NullableBytes();
  record->value = body.NullableBytes();
  ReadHeaders(&body, &record->headers);
  if (!body.AtEnd()) return Fail("its fields do not fill its length");
  rest_.remove_prefix(static_cast<size_t>(*length));
  ++count_;
  return true;
}

base::Result<> RecordReader::status() const {
  if (damage_.empty()) return {};
  return base::Unexpected(base::Code::kCorrupt, damage_);
}

}  // namespace holdfast::kafka
