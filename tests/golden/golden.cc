#include "tests/golden/golden.h"

#include <fstream>
#include <sstream>

#include "tests/support/source_path.h"

namespace holdfast::kafka {
namespace {

std::string FromHex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

}  // namespace

std::vector<GoldenFrame> ReadGolden(std::string_view message) {
  const std::string path = test::SourcePath("tests/golden/kafka/" + std::string(message) + ".hex");
  std::ifstream file(path);
  std::vector<GoldenFrame> frames;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string version;
    std::string hex;
    GoldenFrame& frame = frames.emplace_back();
    words >> version >> frame.variant >> hex;
    frame.version = static_cast<int16_t>(std::stoi(version.substr(1)));
    frame.bytes = FromHex(hex);
  }
  EXPECT_FALSE(frames.empty()) << path;
  return frames;
}

GoldenFrame FindGolden(std::string_view message, int16_t version, std::string_view variant) {
  for (GoldenFrame& frame : ReadGolden(message)) {
    if (frame.version == version && frame.variant == variant) return std::move(frame);
  }
  ADD_FAILURE() << "no golden " << message << " of version " << version << ", " << variant;
  return {};
}

}  // namespace holdfast::kafka
