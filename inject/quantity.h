// Quantities as Kubernetes writes them: "2Gi", "500M", "250m", "1.5", "1e3".
//
// Threads: any.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace holdfast::inject {

// None: it is not a quantity.
std::optional<double> ParseQuantity(std::string_view text);
// "2112Mi" and "1050m": rounded up.
std::string PrintMebibytes(double bytes);
std::string PrintMilli(double number);

}  // namespace holdfast::inject
