// Topics put into the answer to a Fetch that is on its way, in front of its own: of an answer that
// is passed on while it still comes only the first bytes are needed.
//
// Threads: any; plain values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/buffer.h"
#include "base/result.h"
#include "kafka/api/fetch.h"

namespace holdfast::kafka {

class FetchRows {
 public:
  // Of an answer, with its length: those in front of its topics, and their number.
  static constexpr size_t kOpeningBytes = 4 + 4 + 1 + 4 + 2 + 4 + 5;

  FetchRows(std::span<const FetchResponse::FetchableTopicResponse> topics, int16_t version);

  // `opening`: an answer's first bytes, kOpeningBytes at least or all of it. What takes their
  // place. kInvalid if they are not what the version says.
  [[nodiscard]] base::Result<base::Buffer> PutInto(std::string_view opening) const;

 private:
  int16_t version_;
  uint32_t count_;
  std::string rows_;
};

}  // namespace holdfast::kafka
