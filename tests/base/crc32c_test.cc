#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string>

#include "base/random.h"

namespace holdfast::base {
namespace {

std::string RandomBytes(Random& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// RFC 3720 appendix B.4.
TEST(Crc32cTest, GivesThePublishedValues) {
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  EXPECT_EQ(Crc32c(rising), 0x46dd794eu);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
}

TEST(Crc32cTest, EveryPathGivesTheSameValueAtEveryLength) {
  Random random(1);
  for (size_t size : {0, 1, 7, 8, 9, 63, 4096, 12287, 12288, 12289, 50000}) {
    const std::string bytes = RandomBytes(random, size);
    for (const Crc32cPath& path : Crc32cPaths())
      EXPECT_EQ(~path.sum(bytes.data(), bytes.size(), ~0u), Crc32c(bytes)) << size;
  }
}

TEST(Crc32cTest, ContinuesAndCombines) {
  Random random(2);
  const std::string a = RandomBytes(random, 1000);
  const std::string b = RandomBytes(random, 777);
  EXPECT_EQ(Crc32c(b, Crc32c(a)), Crc32c(a + b));
  EXPECT_EQ(Crc32cCombine(Crc32c(a), Crc32c(b), b.size()), Crc32c(a + b));
}

TEST(Crc32cTest, EveryPathCombinesTheSameAtEveryLength) {
  Random random(4);
  const std::string a = RandomBytes(random, 100);
  for (size_t size : {0, 1, 2, 3, 7, 8, 21, 4095, 4096, 16405, 70000}) {
    const std::string b = RandomBytes(random, size);
    EXPECT_EQ(Crc32cCombine(Crc32c(a), Crc32c(b), size), Crc32c(a + b)) << size;
    for (const Crc32cPath& path : Crc32cPaths())
      EXPECT_EQ(path.append_zeros(Crc32c(a), size) ^ Crc32c(b), Crc32c(a + b)) << size;
  }
  const Crc32cPath portable = Crc32cPaths().back();
  for (size_t bit = 0; bit < 64; ++bit) {
    const size_t size = size_t{1} << bit;
    EXPECT_EQ(Crc32cCombine(0x12345678, 0, size), portable.append_zeros(0x12345678, size)) << bit;
  }
}

TEST(Crc32cTest, PatchEqualsASecondLookAtTheWholeMessage) {
  Random random(3);
  for (int round = 0; round < 100; ++round) {
    const std::string head = RandomBytes(random, random.Below(50));
    const std::string before = RandomBytes(random, 1 + random.Below(20));
    const std::string after = RandomBytes(random, before.size());
    const std::string tail = RandomBytes(random, random.Below(5000));
    EXPECT_EQ(Crc32cPatch(Crc32c(head + before + tail), before, after, tail.size()),
              Crc32c(head + after + tail));
  }
}

}  // namespace
}  // namespace holdfast::base
