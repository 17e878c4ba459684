// Files in which the kernel tells about itself: /proc and /sys.
//
// Threads: any.
#pragma once

#include <filesystem>
#include <string>

namespace holdfast::cli::doctor {

// The first line; empty if it cannot be read.
std::string ReadLine(const std::filesystem::path& file);

}  // namespace holdfast::cli::doctor
