#include "spool/change.h"

#include "base/check.h"
#include "base/endian.h"

namespace holdfast::spool {
namespace {

template <std::integral T>
void AppendInteger(T value, std::string* out) {
  char bytes[sizeof(T)];
  base::StoreLittle(bytes, value);
  out->append(bytes, sizeof bytes);
}

void AppendKind(ChangeKind kind, std::string* out) {
  AppendInteger(static_cast<uint8_t>(kind), out);
}

void AppendShort(std::string_view text, std::string* out) {
  HF_CHECK(text.size() <= UINT16_MAX);
  AppendInteger(static_cast<uint16_t>(text.size()), out);
  out->append(text);
}

// After the first short read everything is zero and ok() false.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : rest_(bytes) {}
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::string_view rest() const { return rest_; }

  std::string_view Bytes(size_t size) {
    ok_ = ok_ && size <= rest_.size();
    if (!ok_) return {};
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  template <std::integral T>
  T Integer() {
    const std::string_view bytes = Bytes(sizeof(T));
    return ok_ ? base::LoadLittle<T>(bytes.data()) : T{};
  }
  std::string_view Short() { return Bytes(Integer<uint16_t>()); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace

void AppendPut(std::string_view key, std::string_view value, std::string* out) {
  HF_CHECK(value.size() <= UINT32_MAX);
  AppendKind(ChangeKind::kPut, out);
  AppendShort(key, out);
  AppendInteger(static_cast<uint32_t>(value.size()), out);
  out->append(value);
}

void AppendErase(std::string_view key, std::string* out) {
  AppendKind(ChangeKind::kErase, out);
  AppendShort(key, out);
}

void AppendOpenStream(StreamId stream, std::string_view name, std::string* out) {
  AppendKind(ChangeKind::kOpenStream, out);
  AppendInteger(stream.value(), out);
  AppendShort(name, out);
}

void AppendTrim(StreamId stream, int64_t start, std::string* out) {
  AppendKind(ChangeKind::kTrim, out);
  AppendInteger(stream.value(), out);
  AppendInteger(start, out);
}

void AppendStream(const Change& change, std::string* out) {
  AppendKind(ChangeKind::kStream, out);
  AppendInteger(change.stream.value(), out);
  AppendInteger(change.start, out);
  AppendInteger(change.end, out);
  AppendInteger(change.max_timestamp_ms, out);
  AppendShort(change.key, out);
}

void AppendSegment(const Change& change, std::string* out) {
  AppendKind(ChangeKind::kSegment, out);
  AppendInteger(change.segment, out);
  AppendInteger(change.first_commit.value(), out);
  AppendInteger(change.end_commit.value(), out);
  AppendInteger(change.entry_bytes, out);
}

bool ChangeReader::Next(Change* change) {
  if (rest_.empty()) return false;
  Fields fields(rest_);
  *change = Change{};
  change->kind = static_cast<ChangeKind>(fields.Integer<uint8_t>());
  switch (change->kind) {
    case ChangeKind::kPut:
      change->key = fields.Short();
      change->value = fields.Bytes(fields.Integer<uint32_t>());
      break;
    case ChangeKind::kErase:
      change->key = fields.Short();
      break;
    case ChangeKind::kOpenStream:
      change->stream = StreamId(fields.Integer<uint32_t>());
      change->key = fields.Short();
      break;
    case ChangeKind::kTrim:
      change->stream = StreamId(fields.Integer<uint32_t>());
      change->start = fields.Integer<int64_t>();
      break;
    case ChangeKind::kStream:
      change->stream = StreamId(fields.Integer<uint32_t>());
      change->start = fields.Integer<int64_t>();
      change->end = fields.Integer<int64_t>();
      change->max_timestamp_ms = fields.Integer<int64_t>();
      change->key = fields.Short();
      break;
    case ChangeKind::kSegment:
      change->segment = fields.Integer<uint64_t>();
      change->first_commit = CommitNumber(fields.Integer<uint64_t>());
      change->end_commit = CommitNumber(fields.Integer<uint64_t>());
      change->entry_bytes = fields.Integer<uint64_t>();
      break;
    default:
      return false;
  }
  if (!fields.ok()) return false;
  rest_ = fields.rest();
  return true;
}

}  // namespace holdfast::spool
