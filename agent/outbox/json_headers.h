// Headers that a row keeps as one JSON object (TableMapping::json_headers).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/outbox/row.h"
#include "base/result.h"

namespace holdfast::outbox {

// Each entry of the object becomes a header of `row`, behind those that it has, in the object's
// order: text as it is, numbers, `true` and `false` as they are written, and null as a header
// without value. The entry named `key_name` is the row's key, too; without one the key is null.
// kInvalid, and `row` unchanged: it is not an object of such values.
base::Result<void> TakeJsonHeaders(std::string_view json,
                                   const std::optional<std::string>& key_name, Row* row);

}  // namespace holdfast::outbox
