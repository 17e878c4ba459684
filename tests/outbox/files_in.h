// What is in a directory, for tests that nothing there changes.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>
#include <string>

namespace holdfast::test {

// Names, with owners, modes and sizes.
inline std::map<std::string, std::string> FilesIn(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    struct stat status {};
    EXPECT_EQ(stat(entry.path().c_str(), &status), 0);
    files[entry.path().filename()] = std::to_string(status.st_uid) + " " +
                                     std::to_string(status.st_mode) + " " +
                                     std::to_string(status.st_size);
  }
  return files;
}

}  // namespace holdfast::test
