// What services leave for the agent. The first byte says what the rest is: even an event in LMDB,
// whose checksum is put right, odd the JSON of a column of headers.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/outbox/json_headers.h"
#include "agent/outbox/lmdb_event.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "include/holdfast/outbox.h"

namespace {

using namespace holdfast;

// Either an event with all that was there, or nothing of it.
void CheckEvent(std::string value) {
  if (value.size() >= HOLDFAST_OUTBOX_FIXED_BYTES) {
    holdfast_outbox_store(reinterpret_cast<unsigned char*>(value.data()),
                          base::Crc32c(std::string_view(value).substr(4)), 4);
  }
  const outbox::Row row = outbox::DecodeLmdbEvent(7, value);
  HF_CHECK(row.position == 7);
  if (!row.problem.empty()) {
    HF_CHECK(row.id.empty() && !row.payload && row.headers.empty());
    return;
  }
  size_t bytes = HOLDFAST_OUTBOX_FIXED_BYTES + row.id.size() + row.route.size();
  for (const auto& [name, header] : row.headers) {
    bytes += 8 + name.size() + (header ? header->size() : 0);
  }
  if (row.key) bytes += row.key->size();
  if (row.payload) bytes += row.payload->size();
  // A key or payload of which the flags say that there is none may have bytes.
  HF_CHECK(bytes <= value.size());
}

void CheckHeaders(std::string_view json) {
  outbox::Row row;
  row.key = "before";
  if (!outbox::TakeJsonHeaders(json, "key", &row)) {
    HF_CHECK(row.headers.empty() && row.key == "before");
    return;
  }
  // The key is that header's value.
  std::optional<std::string> key;
  for (const auto& [name, value] : row.headers) {
    if (name == "key") key = value;
  }
  HF_CHECK(row.key == key);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    CheckEvent(std::string(rest));
  } else {
    CheckHeaders(rest);
  }
  return 0;
}
