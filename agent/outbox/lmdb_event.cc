#include "agent/outbox/lmdb_event.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/crc32c.h"
#include "include/holdfast/outbox.h"

namespace holdfast::outbox {
namespace {

// Takes bytes from the front, and remembers if there were too few.
class Bytes {
 public:
  explicit Bytes(std::string_view left) : left_(left) {}

  uint64_t Integer(int bytes) {
    const std::string_view taken = Take(static_cast<size_t>(bytes));
    return taken.empty() ? 0 : holdfast_outbox_load(taken.data(), bytes);
  }
  std::string_view Take(size_t size) {
    if (size > left_.size()) {
      short_ = true;
      left_ = {};
      return {};
    }
    const std::string_view taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }
  // All was there, and nothing is left.
  [[nodiscard]] bool whole() const { return !short_ && left_.empty(); }
  [[nodiscard]] bool is_short() const { return short_; }

 private:
  std::string_view left_;
  bool short_ = false;
};

Row Damaged(int64_t position, std::string problem) {
  return {.position = position, .problem = std::move(problem)};
}

}  // namespace

Row DecodeLmdbEvent(int64_t position, std::string_view value, std::string_view topic) {
  Bytes bytes(value);
  const uint64_t crc = bytes.Integer(4);
  if (value.size() < HOLDFAST_OUTBOX_FIXED_BYTES || crc != base::Crc32c(value.substr(4))) {
    return Damaged(position, "the stored event is damaged: its checksum is wrong");
  }
  const uint64_t version = bytes.Integer(1);
  if (version != HOLDFAST_OUTBOX_VERSION) {
    return Damaged(position, fmt::format("the stored event has version {}, and this agent knows {}",
                                         version, HOLDFAST_OUTBOX_VERSION));
  }
  const uint64_t flags = bytes.Integer(1);
  const uint64_t headers = bytes.Integer(2);
  Row row{.position = position, .timestamp_ms = static_cast<int64_t>(bytes.Integer(8))};
  const uint64_t id_size = bytes.Integer(4);
  const uint64_t route_size = bytes.Integer(4);
  const uint64_t key_size = bytes.Integer(4);
  const uint64_t payload_size = bytes.Integer(4);
  row.id = bytes.Take(id_size);
  row.route = bytes.Take(route_size);
  const std::string_view key = bytes.Take(key_size);
  const std::string_view payload = bytes.Take(payload_size);
  if ((flags & HOLDFAST_OUTBOX_HAS_KEY) != 0) row.key = key;
  if ((flags & HOLDFAST_OUTBOX_HAS_PAYLOAD) != 0) row.payload = payload;
  const auto add_field = [&](std::string_view name, const std::string& field) {
    if (NamesField(topic, name)) row.fields.emplace_back(name, field);
  };
  add_field("id", row.id);
  if (row.key) add_field("key", *row.key);
  for (uint64_t i = 0; i < headers && !bytes.is_short(); ++i) {
    const uint64_t name_size = bytes.Integer(4);
    const uint64_t header_size = bytes.Integer(4);
    std::string name(bytes.Take(name_size));
    std::optional<std::string> header;
    if (header_size != HOLDFAST_OUTBOX_NO_VALUE) {
      header = bytes.Take(header_size);
      add_field(name, *header);
    }
    row.headers.emplace_back(std::move(name), std::move(header));
  }
  if (!bytes.whole()) return Damaged(position, "the stored event is damaged: its sizes are wrong");
  return row;
}

std::string EncodeQuarantined(std::string_view reason, std::string_view value) {
  std::string bytes(sizeof(uint32_t), '\0');
  holdfast_outbox_store(reinterpret_cast<unsigned char*>(bytes.data()), reason.size(),
                        sizeof(uint32_t));
  return bytes.append(reason).append(value);
}

}  // namespace holdfast::outbox
