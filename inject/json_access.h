// Reading JSON of which nothing is known: what is missing, null or of another type is not there.
//
// Threads: any. Limits: ParseJson takes what is nested at most kDepthMax deep, so that nothing that
// recurses over it runs out of stack.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace holdfast::inject {

inline constexpr int kDepthMax = 100;

// None: it is not JSON, or nested deeper.
std::optional<nlohmann::json> ParseJson(std::string_view text);

// Null: `json` is no object, or has no such member, or that is null.
const nlohmann::json* Find(const nlohmann::json& json, std::string_view name);
// The same down a path of names.
const nlohmann::json* Find(const nlohmann::json& json,
                           std::initializer_list<std::string_view> path);
// The text of a member; empty if there is none.
std::string_view TextOf(const nlohmann::json& json, std::string_view name);
std::optional<int64_t> NumberOf(const nlohmann::json& json, std::string_view name);
// A list, empty if there is none.
const nlohmann::json& ListOf(const nlohmann::json& json, std::string_view name);

}  // namespace holdfast::inject
