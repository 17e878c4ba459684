#include "agent/outbox/json_headers.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

namespace holdfast::outbox {

base::Result<void> TakeJsonHeaders(std::string_view json,
                                   const std::optional<std::string>& key_name, Row* row) {
  const auto object = nlohmann::ordered_json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return base::Unexpected(base::Code::kInvalid, object.is_discarded()
                                                      ? "the headers are not JSON in UTF-8"
                                                      : "the headers are JSON, but not an object");
  }
  decltype(row->headers) headers;
  std::optional<std::string> key;
  for (const auto& [name, value] : object.items()) {
    std::optional<std::string> text;
    if (value.is_string()) {
      text = value.get<std::string>();
    } else if (value.is_structured()) {
      return base::Unexpected(
          base::Code::kInvalid,
          fmt::format("the header `{}` is an {}, and not text", name, value.type_name()));
    } else if (!value.is_null()) {
      text = value.dump();
    }
    if (key_name && name == *key_name) key = text;
    headers.emplace_back(name, std::move(text));
  }
  if (key_name) row->key = std::move(key);
  row->headers.insert(row->headers.end(), std::make_move_iterator(headers.begin()),
                      std::make_move_iterator(headers.end()));
  return {};
}

}  // namespace holdfast::outbox
