#include "agent/outbox/row.h"

#include <fmt/format.h>

#include "base/endian.h"

namespace holdfast::outbox {
namespace {

constexpr char kFormat = 1;
constexpr size_t kRowBytes = sizeof(int64_t) + sizeof(uint64_t);

}  // namespace

size_t MemoryOf(const Row& row) {
  size_t bytes = sizeof(Row) + row.id.size() + row.route.size() + (row.key ? row.key->size() : 0) +
                 (row.payload ? row.payload->size() : 0);
  for (const auto& [name, value] : row.headers) {
    bytes += sizeof(row.headers[0]) + name.size() + (value ? value->size() : 0);
  }
  for (const auto& [name, value] : row.fields) {
    bytes += sizeof(row.fields[0]) + name.size() + value.size();
  }
  return bytes;
}

bool NamesField(std::string_view topic, std::string_view field) {
  return topic.find(fmt::format("${{{}}}", field)) != std::string_view::npos;
}

std::vector<std::string> FieldsIn(std::string_view topic) {
  constexpr std::string_view kBegin = "${";
  std::vector<std::string> fields;
  for (size_t at = topic.find(kBegin); at != std::string_view::npos; at = topic.find(kBegin)) {
    topic.remove_prefix(at + kBegin.size());
    const size_t end = topic.find('}');
    if (end != std::string_view::npos) fields.emplace_back(topic.substr(0, end));
  }
  return fields;
}

uint64_t DigestOf(std::string_view id) {
  uint64_t digest = 14695981039346656037U;
  for (const char byte : id) {
    digest ^= static_cast<uint8_t>(byte);
    digest *= 1099511628211U;
  }
  return digest;
}

RowRef RefOf(const RowId& row) { return {row.position, DigestOf(row.id)}; }

std::vector<RowRef> RefsOf(std::span<const RowId> rows) {
  std::vector<RowRef> refs;
  refs.reserve(rows.size());
  for (const RowId& row : rows) refs.push_back(RefOf(row));
  return refs;
}

std::string EncodeNote(std::span<const RowRef> rows) {
  std::string note(1 + rows.size() * kRowBytes, kFormat);
  char* out = note.data() + 1;
  for (const RowRef& row : rows) {
    base::StoreLittle(out, row.position);
    base::StoreLittle(out + sizeof(int64_t), row.id_digest);
    out += kRowBytes;
  }
  return note;
}

base::Result<std::vector<RowRef>> ParseNote(std::string_view bytes) {
  if (bytes.empty() || bytes[0] != kFormat || (bytes.size() - 1) % kRowBytes != 0) {
    return base::Unexpected(base::Code::kCorrupt, "not a list of outbox rows");
  }
  std::vector<RowRef> rows;
  for (bytes.remove_prefix(1); !bytes.empty(); bytes.remove_prefix(kRowBytes)) {
    rows.push_back({.position = base::LoadLittle<int64_t>(bytes.data()),
                    .id_digest = base::LoadLittle<uint64_t>(bytes.data() + sizeof(int64_t))});
  }
  return rows;
}

}  // namespace holdfast::outbox
