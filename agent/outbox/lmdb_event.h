// Reads what services write with include/holdfast/outbox.h, where its form is described.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/outbox/row.h"

namespace holdfast::outbox {

// Whatever the bytes are: if they are no event, Row::problem says why, and nothing else of the row
// is set but its position.
Row DecodeLmdbEvent(int64_t position, std::string_view value);

// As it stands in the quarantine.
std::string EncodeQuarantined(std::string_view reason, std::string_view value);

}  // namespace holdfast::outbox
