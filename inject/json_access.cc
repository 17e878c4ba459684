#include "inject/json_access.h"

#include <limits>

namespace holdfast::inject {
namespace {

using nlohmann::json;

bool IsDeeperThan(std::string_view text, int limit) {
  int depth = 0;
  bool in_text = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_text) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_text = false;
      }
    } else if (c == '"') {
      in_text = true;
    } else if (c == '[' || c == '{') {
      if (++depth > limit) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

std::optional<json> ParseJson(std::string_view text) {
  if (IsDeeperThan(text, kDepthMax)) return std::nullopt;
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return std::nullopt;
  return parsed;
}

const json* Find(const json& json, std::string_view name) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(name);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

const json* Find(const json& json, std::initializer_list<std::string_view> path) {
  const nlohmann::json* at = &json;
  for (const std::string_view name : path) {
    at = Find(*at, name);
    if (at == nullptr) return nullptr;
  }
  return at;
}

std::string_view TextOf(const json& json, std::string_view name) {
  const nlohmann::json* const found = Find(json, name);
  const auto* const text = found ? found->get_ptr<const std::string*>() : nullptr;
  return text ? std::string_view(*text) : std::string_view();
}

std::optional<int64_t> NumberOf(const json& json, std::string_view name) {
  const nlohmann::json* const found = Find(json, name);
  if (found == nullptr || !found->is_number_integer()) return std::nullopt;
  if (found->is_number_unsigned() &&
      found->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()})
    return std::nullopt;
  return found->get<int64_t>();
}

const json& ListOf(const json& json, std::string_view name) {
  static const nlohmann::json empty = nlohmann::json::array();
  const nlohmann::json* const found = Find(json, name);
  return found != nullptr && found->is_array() ? *found : empty;
}

}  // namespace holdfast::inject
