// Tables of the documents that are printed from the code, so that they say what it does.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/support/source_path.h"

namespace holdfast::test {

// Expects `table` to stand in `document` between the marks of what is printed from `source`. With
// HOLDFAST_PRINT it is written there, for the next run. All are paths from the project's root.
inline void ExpectPrinted(const std::string& document, const std::string& source,
                          const std::string& table) {
  const std::string file = SourcePath(document);
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  const std::string checked_in = text.str();
  const std::string begin_mark = "<!-- printed from " + source + ": begin -->\n";
  const size_t begin = checked_in.find(begin_mark);
  const size_t end = checked_in.find("<!-- printed from " + source + ": end -->\n");
  ASSERT_NE(begin, std::string::npos) << file << " has no mark for the table of " << source;
  ASSERT_NE(end, std::string::npos) << file << " has no mark for the end of that of " << source;

  const std::string printed =
      checked_in.substr(0, begin) + begin_mark + table + checked_in.substr(end);
  if (std::getenv("HOLDFAST_PRINT") != nullptr) std::ofstream(file) << printed;
  EXPECT_EQ(checked_in, printed) << "run this test with HOLDFAST_PRINT=1 to print it anew";
}

}  // namespace holdfast::test
