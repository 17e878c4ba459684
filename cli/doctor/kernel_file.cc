#include "cli/doctor/kernel_file.h"

#include <fstream>

namespace holdfast::cli::doctor {

std::string ReadLine(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

}  // namespace holdfast::cli::doctor
