#include "kafka/fetch_rows.h"

#include <algorithm>
#include <limits>

#include "kafka/wire.h"

namespace holdfast::kafka {
namespace {

constexpr int16_t kSessionsSince = 7;

}  // namespace

FetchRows::FetchRows(std::span<const FetchResponse::FetchableTopicResponse> topics, int16_t version)
    : version_(version), count_(static_cast<uint32_t>(topics.size())) {
  Writer writer(version, FetchResponse::kApi.Flexible(version));
  for (const auto& topic : topics) writer.Struct(topic);
  rows_ = writer.written();
}

base::Result<base::Buffer> FetchRows::PutInto(std::string_view opening) const {
  const bool flexible = FetchResponse::kApi.Flexible(version_);
  Reader reader(opening, version_, flexible);
  const auto length = reader.Int<int32_t>();
  reader.Take(4);  // The correlation id.
  UnknownTags tags;
  reader.Tags(tags);
  reader.Take(4);                                      // Throttle time.
  if (version_ >= kSessionsSince) reader.Take(2 + 4);  // Error, session.
  const size_t at = reader.position();
  const uint32_t own = flexible
                           ? std::max<uint32_t>(reader.UnsignedVarint(), 1) - 1
                           : static_cast<uint32_t>(std::max<int32_t>(reader.Int<int32_t>(), 0));
  if (!reader.ok()) {
    return base::Unexpected(base::Code::kInvalid,
                            "the beginning of an answer to Fetch cannot be read");
  }
  Writer writer(version_, flexible);
  writer.Raw(opening.substr(0, at));
  if (flexible) {
    writer.UnsignedVarint(own + count_ + 1);
  } else {
    writer.Int(static_cast<int32_t>(own + count_));
  }
  writer.Raw(rows_);
  writer.Raw(opening.substr(reader.position()));
  const int64_t changed = int64_t{length} + static_cast<int64_t>(writer.size() - opening.size());
  if (changed > std::numeric_limits<int32_t>::max())
    return base::Unexpected(base::Code::kInvalid, "an answer to Fetch has no room for more topics");
  writer.PatchInt32(0, static_cast<int32_t>(changed));
  return std::move(writer).Finish();
}

}  // namespace holdfast::kafka
