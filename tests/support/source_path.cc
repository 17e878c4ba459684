#include "tests/support/source_path.h"

namespace holdfast::test {

std::string SourcePath(std::string_view name) { return std::string(SOURCE_DIR "/").append(name); }

}  // namespace holdfast::test
