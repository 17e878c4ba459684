// Reads what services write with include/holdfast/outbox.h, where its form is described.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/outbox/row.h"

namespace holdfast::outbox {

// Whatever the bytes are: if they are no event, Row::problem says why, and nothing else of the row
// is set but its position. `topic`: a template that names what of it becomes Row::fields.
Row DecodeLmdbEvent(int64_t position, std::string_view value, std::string_view topic = {});

// As it stands in the quarantine.
std::string EncodeQuarantined(std::string_view reason, std::string_view value);

}  // namespace holdfast::outbox
